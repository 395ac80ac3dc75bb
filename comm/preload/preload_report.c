/* preload_report.c : what the interposers tell at the end. */
#include "site.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *kind_name(taut__call_kind k)
{
    static const char *const name[] = {"allreduce", "iallreduce", "reduce_scatter", "other"};
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

/* Seconds that its coded calls would have taken longer as they were. How long a program waits for non-blocking calls, which
 * overlap with what it does meanwhile, is not known: they are left out. */
static double saved_s(const taut__site *s)
{
    return s->coded_calls && s->plain_timed && s->kind != TAUT_CALL_IALLREDUCE ? (plain_mean(s) - coded_mean(s)) * (double)s->coded_calls : 0;
}

static const char *fate(const taut__site *s)
{
    if (s->coded_calls) return s->codec;
    if (s->excluded) return "excluded";
    if (s->misfit) return "exact: its parts do not end at codec blocks";
    if (s->trials[0]) return "would be compressed";
    return s->doubt ? taut__doubt_text(s->doubt) : "exact: no cycle of calls was seen";
}

static double trial_mean(const taut__site *s, int b) { return s->trials[b] ? s->trial_s[b] / (double)s->trials[b] : 0; }

static double dry_saving(const taut__job_report *r, int b)
{
    double sum = 0;
    for (size_t i = 0; i < r->sites; i++)
        if (r->site[i]->trials[b]) sum += (plain_mean(r->site[i]) - trial_mean(r->site[i], b)) * (double)r->site[i]->calls;
    return sum;
}

static double dry_error(const taut__job_report *r, int b)
{
    double most = 0;
    for (size_t i = 0; i < r->sites; i++) most = r->site[i]->trial_error[b] > most ? r->site[i]->trial_error[b] : most;
    return most;
}

static void print_site(const taut__site *s)
{
    char size[32], error[32] = "-", time[48], sent[32] = "100%";
    size_text(taut__site_bytes(s), size, sizeof size);
    if (s->norm2 > 0) taut__snprintf(error, sizeof error, "%.2g", s->error2 / s->norm2);
    if (s->bytes_dense) taut__snprintf(sent, sizeof sent, "%.1f%%", 100.0 * (double)s->bytes_sent / (double)s->bytes_dense);
    taut__snprintf(time, sizeof time, s->coded_calls ? "%.3g / %.3g" : "%.3g / -", plain_mean(s) * 1e3, coded_mean(s) * 1e3);
    fprintf(stderr, "taut: %4zu  %-14s %9s %7" PRIu64 " %7" PRIu64 "  %9s  %-8s  %-16s  %s\n", s->number, kind_name(s->kind), size, s->calls,
            s->coded_calls, sent, error, time, fate(s));
}

static void print_sites(const taut__job_report *r)
{
    fprintf(stderr, "taut: site  call                size   calls   coded  bytes sent error^2   ms plain/coded    codec\n");
    for (size_t i = 0; i < r->sites; i++) print_site(r->site[i]);
}

void taut__report_print(const taut__job_report *r)
{
    double saved = 0;
    for (size_t i = 0; i < r->sites; i++) saved += saved_s(r->site[i]);
    fprintf(stderr, "taut: %s over %d ranks of %s, %.1f s%s\n", r->budget[0] ? "dry run" : r->config, r->ranks, r->mpi, r->wall_s,
            r->aborted ? ", aborted" : "");
    if (r->sites) print_sites(r);
    if (r->small_calls) fprintf(stderr, "taut: %" PRIu64 " reductions too small, or of other types, passed through exactly\n", r->small_calls);
    bool overlapped = false;
    for (size_t i = 0; i < r->sites; i++) overlapped |= r->site[i]->kind == TAUT_CALL_IALLREDUCE && r->site[i]->coded_calls;
    if (overlapped) fprintf(stderr, "taut: times of iallreduce are from call to completion; what overlapped with your computing is not counted as saved\n");
    double share = r->wall_s > 0 ? 100 * r->in_calls_s / r->wall_s : 0;
    if (!r->budget[0]) {
        fprintf(stderr, "taut: your job spent %.1f%% of its time in allreduce; Taut saved %.3g s\n", share, saved);
        return;
    }
    fprintf(stderr, "taut: your job spent %.1f%% of its time in allreduce; nothing was compressed. It would save:\n", share);
    for (int b = 0; b < TAUT_COURSES && r->budget[b]; b++)
        fprintf(stderr, "taut:   TAUT_BUDGET=%-20s %.3g s of %.3g s (largest squared error of a site seen: %.2g)\n", r->budget[b], dry_saving(r, b),
                r->wall_s, dry_error(r, b));
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

static void put_site(FILE *f, const taut__site *s, const taut__job_report *r)
{
    fprintf(f, "\n  {\"site\": %zu, ", s->number);
    put_text(f, "call", kind_name(s->kind));
    fprintf(f, ", \"elements\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"calls\": %" PRIu64 ", \"coded_calls\": %" PRIu64 ", ", s->count,
            taut__site_bytes(s), s->calls, s->coded_calls);
    put_text(f, "codec", s->coded_calls ? s->codec : "none");
    fprintf(f, ", ");
    put_text(f, "why", fate(s));
    fprintf(f, ", \"bytes_dense\": %" PRIu64 ", \"bytes_sent\": %" PRIu64, s->bytes_dense, s->bytes_sent);
    put_number(f, "rel_err2", s->norm2 > 0 ? s->error2 / s->norm2 : 0);
    put_number(f, "plain_ms", plain_mean(s) * 1e3);
    put_number(f, "coded_ms", coded_mean(s) * 1e3);
    put_number(f, "saved_s", saved_s(s));
    fprintf(f, ", \"trials\": [");
    for (int b = 0; b < TAUT_COURSES && r->budget[b]; b++) {
        fprintf(f, "%s{", b ? ", " : "");
        put_text(f, "budget", r->budget[b]);
        put_number(f, "ms", trial_mean(s, b) * 1e3);
        put_number(f, "rel_err2", s->trial_error[b]);
        fputc('}', f);
    }
    fprintf(f, "]}");
}

static void put_dry_run(FILE *f, const taut__job_report *r)
{
    fprintf(f, ", \"dry_run\": [");
    for (int b = 0; b < TAUT_COURSES && r->budget[b]; b++) {
        fprintf(f, "%s{", b ? ", " : "");
        put_text(f, "budget", r->budget[b]);
        put_number(f, "saved_s", dry_saving(r, b));
        fputc('}', f);
    }
    fputc(']', f);
}

taut_status taut__report_write(const taut__job_report *r, const char *path)
{
    double saved = 0;
    for (size_t i = 0; i < r->sites; i++) saved += saved_s(r->site[i]);
    FILE *f = fopen(path, "w");
    if (!f) return taut__fail(TAUT_E_IO, "TAUT_REPORT=%s: %s", path, strerror(errno));
    fprintf(f, "{");
    put_text(f, "mpi", r->mpi);
    fprintf(f, ", ");
    put_text(f, "config", r->config);
    fprintf(f, ", \"ranks\": %d, \"aborted\": %s, \"passed_through\": %" PRIu64, r->ranks, r->aborted ? "true" : "false", r->small_calls);
    put_number(f, "wall_s", r->wall_s);
    put_number(f, "allreduce_s", r->in_calls_s);
    put_number(f, "saved_s", saved);
    put_dry_run(f, r);
    fprintf(f, ", \"sites\": [");
    for (size_t i = 0; i < r->sites; i++) {
        if (i) fputc(',', f);
        put_site(f, r->site[i], r);
    }
    fprintf(f, "\n]}\n");
    bool bad = ferror(f) != 0;
    bad |= fclose(f) != 0;
    return bad ? taut__fail(TAUT_E_IO, "TAUT_REPORT=%s: %s", path, strerror(errno)) : TAUT_OK;
}
