/* preload_report.c : what the interposers tell at the end. */
#include "site.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *kind_name(taut__call_kind k)
{
    static const char *const name[] = {"allreduce", "iallreduce",     "reduce_scatter",
                                       "allgather", "allreduce_init", "other"};
    return name[k];
}

static const char *size_text(uint64_t bytes, char *dst, size_t cap)
{
    const char *unit = "BKMG";
    double      v = (double)bytes;
    while (v >= 1024 && unit[1]) v /= 1024, unit++;
    taut__snprintf(dst, cap, v < 10 && *unit != 'B' ? "%.1f %ciB" : "%.0f %ciB", v, *unit);
    if (*unit == 'B') taut__snprintf(dst, cap, "%.0f B", v);
    return dst;
}

static double plain_mean(const taut__site *s) { return s->plain_timed ? s->plain_s / (double)s->plain_timed : 0; }
static double coded_mean(const taut__site *s) { return s->coded_calls ? s->coded_s / (double)s->coded_calls : 0; }

/* Seconds that its coded calls would have taken longer as they were; non-blocking ones: waits_saved_s(). */
static double saved_s(const taut__site *s)
{
    return s->coded_calls && s->plain_timed && !s->waits ? (plain_mean(s) - coded_mean(s)) * (double)s->coded_calls : 0;
}

static double per_call(const taut__waits *w, const double s[TAUT_WAITS], int which)
{
    return w->calls[which] ? s[which] / (double)w->calls[which] : 0;
}

/* Seconds that a program would have waited longer for a communicator's non-blocking calls. */
static double waits_saved_s(const taut__waits *w)
{
    if (!w->calls[TAUT_WAITS_PLAIN] || !w->calls[TAUT_WAITS_CODED]) return 0;
    return (per_call(w, w->waited_s, TAUT_WAITS_PLAIN) - per_call(w, w->waited_s, TAUT_WAITS_CODED)) *
           (double)w->calls[TAUT_WAITS_CODED];
}

/* Is this the first site, in order of number, that these waits belong to? */
static bool first_with_waits(const taut__job_report *r, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (r->site[k]->waits == r->site[i]->waits) return false;
    return r->site[i]->waits != NULL;
}

static double all_saved_s(const taut__job_report *r)
{
    double saved = 0;
    for (size_t i = 0; i < r->sites; i++)
        saved += saved_s(r->site[i]) + (first_with_waits(r, i) ? waits_saved_s(r->site[i]->waits) : 0);
    return saved;
}

/* Its codec, or why it has none; of a site that was compressed at first, both. into: room for that. */
static const char *fate(const taut__site *s, char *into, size_t cap)
{
    if (s->coded_calls && !s->doubt) return s->codec;
    if (s->coded_calls)
        return taut__snprintf(into, cap, "%s, then exact: %s", s->codec, taut__doubt_text(s->doubt)), into;
    if (s->excluded) return "excluded";
    if (s->unaligned) return "exact: a buffer is at an odd address";
    if (s->misfit) return "exact: its parts do not end at codec blocks";
    if (s->trials.n[0] || (s->waits && s->waits->trials.n[0])) return "would be compressed";
    return s->doubt ? taut__doubt_text(s->doubt) : "exact: no cycle of calls was seen";
}

/* ---- dry runs ---- */

static double mean(double seconds, uint64_t n) { return n ? seconds / (double)n : 0; }
static double trial_mean(const taut__site *s, int b) /* non-blocking ones: of all of a cycle's together */
{
    const taut__trials *t = s->kind == TAUT_KIND_IALLREDUCE ? &s->waits->trials : &s->trials;
    return mean(t->coded_s[b], t->n[b]);
}

/* A cycle's calls take as long as its trial did; of that, the program computes as long as it did while the plain ones were under
 * way, and waits for the rest. */
static double dry_waits_saving(const taut__job_report *r, const taut__waits *w, int b)
{
    uint64_t cycles = 0;
    for (size_t i = 0; i < r->sites; i++)
        if (r->site[i]->waits == w && r->site[i]->shadowed > cycles) cycles = r->site[i]->shadowed;
    double calls = (double)w->per_cycle, waited = per_call(w, w->waited_s, TAUT_WAITS_PLAIN) * calls;
    double overlap = per_call(w, w->busy_s, TAUT_WAITS_PLAIN) * calls - waited,
           rest = mean(w->trials.coded_s[b], w->trials.n[b]) - (overlap > 0 ? overlap : 0);
    return w->trials.n[b] ? (waited - (rest > 0 ? rest : 0)) * (double)cycles : 0;
}

/* Persistent requests are tried one by one: the program waits shorter for each in that proportion. */
static double dry_persistent_saving(const taut__site *s, int b)
{
    double plain = mean(s->trials.plain_s, s->trials.plain_n);
    return plain > 0 ? per_call(s->waits, s->waits->waited_s, TAUT_WAITS_PLAIN) * (1 - trial_mean(s, b) / plain) *
                           (double)s->shadowed
                     : 0;
}

static double dry_saving(const taut__job_report *r, int b)
{
    double sum = 0;
    for (size_t i = 0; i < r->sites; i++) {
        const taut__site *s = r->site[i];
        if (s->kind == TAUT_KIND_PERSISTENT) sum += dry_persistent_saving(s, b);
        else if (!s->waits)
            sum += s->trials.n[b] && s->trials.plain_n
                       ? (mean(s->trials.plain_s, s->trials.plain_n) - trial_mean(s, b)) * (double)s->shadowed
                       : 0;
        else if (first_with_waits(r, i)) sum += dry_waits_saving(r, s->waits, b);
    }
    return sum;
}

static double dry_error(const taut__job_report *r, int b)
{
    double most = 0;
    for (size_t i = 0; i < r->sites; i++)
        most = r->site[i]->trials.error[b] > most ? r->site[i]->trials.error[b] : most;
    return most;
}

static bool tried(const taut__job_report *r, int b)
{
    for (size_t i = 0; i < r->sites; i++)
        if (r->site[i]->trials.n[b] || (r->site[i]->waits && r->site[i]->waits->trials.n[b])) return true;
    return false;
}

/* ---- constants ---- */

static bool constant(const taut__site *s)
{
    return s->doubt == TAUT_DOUBT_CONSTANT && s->coded_calls == 0 && s->would_ms > 0;
}

/* Seconds that constants took, and that gradients of these sizes would have taken under Taut. */
static bool constants_took(const taut__job_report *r, double *plain, double *would)
{
    *plain = *would = 0;
    for (size_t i = 0; i < r->sites; i++) {
        const taut__site *s = r->site[i];
        if (!constant(s)) continue;
        *plain += plain_mean(s) * (double)s->calls;
        *would += s->would_ms * 1e-3 * (double)s->calls;
    }
    return *plain > 0;
}

static void print_site(const taut__site *s)
{
    char size[32], error[32] = "-", time[48], sent[32] = "100%", text[256];
    size_text(taut__site_bytes(s), size, sizeof size);
    if (s->norm2 > 0) taut__snprintf(error, sizeof error, "%.2g", s->error2 / s->norm2);
    if (s->bytes_dense)
        taut__snprintf(sent, sizeof sent, "%.1f%%", 100.0 * (double)s->bytes_sent / (double)s->bytes_dense);
    taut__snprintf(time, sizeof time, s->coded_calls ? "%.3g / %.3g" : "%.3g / -", plain_mean(s) * 1e3,
                   coded_mean(s) * 1e3);
    fprintf(stderr, "taut: %4zu  %-14s %9s %7" PRIu64 " %7" PRIu64 "  %9s  %-8s  %-16s  %s\n", s->number,
            kind_name(s->kind), size, s->calls, s->coded_calls, sent, error, time, fate(s, text, sizeof text));
    if (constant(s))
        fprintf(stderr, "taut:       a gradient of this size would take %s%.3g ms\n", s->would_guessed ? "about " : "",
                s->would_ms);
}

static void print_sites(const taut__job_report *r)
{
    enum { ROWS = 100 }; /* of sites that were not compressed */
    fprintf(stderr,
            "taut: site  call                size   calls   coded  bytes sent error^2   ms plain/coded    codec\n");
    size_t rows = 0, more = 0;
    for (size_t i = 0; i < r->sites; i++) {
        if (r->site[i]->calls == 0) continue;
        if (rows++ < ROWS || r->site[i]->coded_calls > 0) print_site(r->site[i]);
        else more++;
    }
    if (more)
        fprintf(stderr, "taut: and %zu sites of which nothing was compressed; TAUT_REPORT=FILE has them all\n", more);
}

void taut__report_print(const taut__job_report *r)
{
    double saved = all_saved_s(r), plain, would;
    fprintf(stderr, "taut: %s over %d ranks of %s, %.1f s%s\n", r->budget[0] ? "dry run" : r->config, r->ranks, r->mpi,
            r->wall_s, r->aborted ? ", aborted" : "");
    if (r->sites) print_sites(r);
    if (r->small_calls)
        fprintf(stderr, "taut: %" PRIu64 " reductions too small, or of other types, passed through exactly\n",
                r->small_calls);
    if (r->unserved)
        fprintf(stderr,
                "taut: %" PRIu64 " non-blocking or persistent reductions passed through for lack of "
                "MPI_THREAD_MULTIPLE: TAUT_NONBLOCKING=on asks for it\n",
                r->unserved);
    bool overlapped = false;
    for (size_t i = 0; i < r->sites; i++) overlapped |= r->site[i]->waits && r->site[i]->coded_calls;
    if (overlapped)
        fprintf(
            stderr,
            "taut: times of non-blocking calls are from call to completion; saved is what your program waited less\n");
    if (constants_took(r, &plain, &would))
        fprintf(stderr,
                "taut: sums of constants stayed as they are and took %.3g s; gradients of these sizes would have taken "
                "%.3g s\n",
                plain, would);
    double share = r->wall_s > 0 ? 100 * r->in_calls_s / r->wall_s : 0; /* threads add up */
    if (share > 100) share = 100;
    if (!r->budget[0]) {
        fprintf(stderr, "taut: your job spent %.1f%% of its time in allreduce; Taut saved %.3g s\n", share, saved);
        return;
    }
    fprintf(stderr, "taut: your job spent %.1f%% of its time in allreduce; nothing was compressed. It would save:\n",
            share);
    for (int b = 0; b < TAUT_COURSES && r->budget[b]; b++)
        if (!tried(r, b)) fprintf(stderr, "taut:   TAUT_BUDGET=%-20s not tried: too few steps\n", r->budget[b]);
        else
            fprintf(stderr, "taut:   TAUT_BUDGET=%-20s %.3g s of %.3g s (largest squared error of a site seen: %.2g)\n",
                    r->budget[b], dry_saving(r, b), r->wall_s, dry_error(r, b));
}

/* ---- JSON ---- */

static void put_text(FILE *f, const char *name, const char *text)
{
    fprintf(f, "\"%s\": \"", name);
    for (; *text; text++)
        if (*text == '"' || *text == '\\') fprintf(f, "\\%c", *text);
        else if ((unsigned char)*text >= 0x20) fputc(*text, f);
    fputc('"', f);
}

static void put_number(FILE *f, const char *name, double v)
{
    char text[64];
    taut__snprintf(text, sizeof text, "%.9g", v == v && v - v == 0 ? v : 0);
    fprintf(f, ", \"%s\": %s", name, text);
}

/* Under each budget of a dry run. s: of this site; NULL: of all. */
static void put_trials(FILE *f, const taut__job_report *r, const taut__site *s)
{
    fprintf(f, ", \"%s\": [", s ? "trials" : "dry_run");
    for (int b = 0; b < TAUT_COURSES && r->budget[b]; b++) {
        fprintf(f, "%s{", b ? ", " : "");
        put_text(f, "budget", r->budget[b]);
        put_number(f, s ? "ms" : "saved_s", s ? trial_mean(s, b) * 1e3 : dry_saving(r, b));
        if (s) put_number(f, "rel_err2", s->trials.error[b]);
        fputc('}', f);
    }
    fputc(']', f);
}

static void put_site(FILE *f, const taut__site *s, const taut__job_report *r)
{
    char text[256];
    fprintf(f, "\n  {\"site\": %zu, ", s->number);
    put_text(f, "call", kind_name(s->kind));
    fprintf(f,
            ", \"elements\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"calls\": %" PRIu64 ", \"coded_calls\": %" PRIu64
            ", ",
            s->count, taut__site_bytes(s), s->calls, s->coded_calls);
    put_text(f, "codec", s->coded_calls ? s->codec : "none");
    fprintf(f, ", ");
    put_text(f, "why", fate(s, text, sizeof text));
    fprintf(f, ", \"bytes_dense\": %" PRIu64 ", \"bytes_sent\": %" PRIu64, s->bytes_dense, s->bytes_sent);
    put_number(f, "rel_err2", s->norm2 > 0 ? s->error2 / s->norm2 : 0);
    put_number(f, "plain_ms", plain_mean(s) * 1e3);
    put_number(f, "coded_ms", coded_mean(s) * 1e3);
    put_number(f, "saved_s", saved_s(s));
    if (constant(s)) put_number(f, "would_ms", s->would_ms);
    put_trials(f, r, s);
    fputc('}', f);
}

taut_status taut__report_write(const taut__job_report *r, const char *path)
{
    double saved = all_saved_s(r), plain, would;
    size_t some = 0;
    FILE  *f = fopen(path, "w");
    if (!f) return taut__fail(TAUT_E_IO, "TAUT_REPORT=%s: %s", path, strerror(errno));
    fprintf(f, "{");
    put_text(f, "mpi", r->mpi);
    fprintf(f, ", ");
    put_text(f, "config", r->config);
    fprintf(f, ", \"ranks\": %d, \"aborted\": %s, \"passed_through\": %" PRIu64, r->ranks,
            r->aborted ? "true" : "false", r->small_calls);
    put_number(f, "wall_s", r->wall_s);
    put_number(f, "allreduce_s", r->in_calls_s);
    put_number(f, "saved_s", saved);
    put_trials(f, r, NULL);
    if (constants_took(r, &plain, &would))
        put_number(f, "constants_s", plain), put_number(f, "constants_would_s", would);
    fprintf(f, ", \"sites\": [");
    for (size_t i = 0; i < r->sites; i++) {
        if (r->site[i]->calls == 0) continue; /* of a cycle that broke before it was called */
        if (some++) fputc(',', f);
        put_site(f, r->site[i], r);
    }
    fprintf(f, "\n]}\n");
    bool bad = ferror(f) != 0;
    bad |= fclose(f) != 0;
    return bad ? taut__fail(TAUT_E_IO, "TAUT_REPORT=%s: %s", path, strerror(errno)) : TAUT_OK;
}
