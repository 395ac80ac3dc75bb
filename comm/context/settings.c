/* settings.c : see settings.h. */
#include "settings.h"
#include "../../scheduler/budget.h"
#include "../../scheduler/time_model.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { TEXT, WORD, SPEC, BUDGET, LINK, U64, I32, U32, F32, ELSEWHERE } kind;

typedef struct row {
    const char *name, *fallback, *help;
    kind        kind;
    size_t      at;       /* in taut__settings */
    double      min, max; /* numbers */
    const char *words;    /* WORD: "a|b|c" */
    size_t      index;    /* WORD: where in taut__settings the value's place among them goes, as int32; 0: nowhere */
    unsigned    is;       /* flags */
} row;
enum {
    DEBUG = 1, /* a debugging aid */
    EXTRA = 2, /* has no field in taut_config */
    OWN = 4,   /* ranks may differ in it */
};

#define FIELD(f) offsetof(taut__settings, c) + offsetof(taut_config, f)

#define ENUM(f) offsetof(taut__settings, f)

/* ELSEWHERE: read where it is used, listed for taut info and docs/env.md. */
static const row table[] = {
    {"TAUT_CODEC", "auto", "codec spec of all layers", SPEC, FIELD(codec), 0, 0, NULL, 0, 0},
    {"TAUT_BUDGET", "like:quant:bits=4", "error budget of codec=auto: rel=X or like:SPEC", BUDGET, FIELD(budget), 0, 0,
     NULL, 0, 0},
    {"TAUT_OBJECTIVE", "time", "what the plan minimises: time or bytes", WORD, FIELD(objective), 0, 0, "time|bytes",
     ENUM(objective), 0},
    {"TAUT_METRIC", "optimizer",
     "how errors are weighted: plain, layer or optimizer, which is layer where a layer has no scale", WORD,
     FIELD(metric), 0, 0, "plain|layer|optimizer", ENUM(metric), 0},
    {"TAUT_FEEDBACK", "auto", "error feedback: auto (as the codec wants), on, off or momentum (DGC)", WORD,
     FIELD(feedback), 0, 0, "auto|on|off|momentum", ENUM(feedback), 0},
    {"TAUT_ALGORITHM", "auto", "reduction algorithm: auto, native, sra, ring or gather", WORD, FIELD(algorithm), 0, 0,
     "auto|native|sra|ring|gather", ENUM(algorithm), 0},
    {"TAUT_HIERARCHY", "auto", "reduce inside each host first: auto, on or off", WORD, FIELD(hierarchy), 0, 0,
     "auto|on|off", ENUM(hierarchy), 0},
    {"TAUT_SOLVER", "hull", "solver of plans: hull or dp", WORD, FIELD(solver), 0, 0, "hull|dp", 0, 0},
    {"TAUT_TRACE", "", "write a Chrome/Perfetto trace to this path; %r becomes the rank", TEXT, FIELD(trace), 0, 0,
     NULL, 0, OWN},
    {"TAUT_METRICS", "",
     "write metrics for Prometheus to this path, anew now and then; %r becomes the rank (docs/metrics.md)", TEXT,
     offsetof(taut__settings, metrics), 0, 0, NULL, 0, EXTRA | OWN},
    {"TAUT_METRICS_SECONDS", "10", "least time between two versions of that file, 0..86400; 0 = every step", U32,
     offsetof(taut__settings, metrics_seconds), 0, 86400, NULL, 0, EXTRA | OWN},
    {"TAUT_SEED", "1", "seed of stochastic rounding and random selection; the same on all ranks", U64, FIELD(seed), 0,
     18446744073709551615.0, NULL, 0, 0},
    {"TAUT_TIMEOUT_MS", "60000", "longest wait for a peer, milliseconds; -1 = for ever", I32, FIELD(timeout_ms), -1,
     2147483647, NULL, 0, OWN},
    {"TAUT_THREADS", "1", "codec threads per rank, 1..256", I32, FIELD(threads), 1, 256, NULL, 0, OWN},
    {"TAUT_PROGRESS", "0", "0 = automatic, 1 = communication thread, 2 = driven from start, test and wait", I32,
     FIELD(progress), 0, 2, NULL, 0, OWN},
    {"TAUT_SLICE_KIB", "1024", "pipelining unit, KiB of float32, 64..65536", U32, FIELD(slice_kib), 64, 65536, NULL, 0,
     0},
    {"TAUT_BUCKET_KIB", "4096", "fusion bucket of small layers, KiB, 64..262144", U32, FIELD(bucket_kib), 64, 262144,
     NULL, 0, 0},
    {"TAUT_SMALL_ELEMS", "1024",
     "layers of fewer elements, and one-dimensional ones, travel fused, uncompressed or by a plan in 8 bits and more",
     U32, FIELD(small_elems), 1, 4294967295.0, NULL, 0, 0},
    {"TAUT_REPLAN_STEPS", "50", "steps between plans of codec=auto", U32, FIELD(replan_steps), 1, 4294967295.0, NULL, 0,
     0},
    {"TAUT_AUDIT_STEPS", "50", "ignored: every step is measured", U32, FIELD(audit_steps), 1, 4294967295.0, NULL, 0, 0},
    {"TAUT_START_STEP", "0", "uncompressed steps before codec=auto may compress; 0 = none with objective bytes, else 1",
     U32, FIELD(start_step), 0, 4294967295.0, NULL, 0, 0},
    {"TAUT_MOMENTUM", "0.9", "momentum of feedback=momentum, 0 to below 1", F32, FIELD(momentum), 0, 0.999999, NULL, 0,
     0},
    {"TAUT_DROPPED", "clear",
     "residuals of a step whose results are dropped: clear, or restore what they were before it", WORD, FIELD(dropped),
     0, 0, "clear|restore", ENUM(dropped), 0},
    {"TAUT_LINK", "measure",
     "speed of the network for plans: measure, or assume one, as in 1gbit or 100mbit, and consult no clock", LINK,
     FIELD(link), 0, 0, NULL, 0, 0},
    {"TAUT_DATA_LINK", "measure",
     "speed of NCCL for plans and for sums of grid's codes: measure, off, or four numbers: microseconds and GB/s of "
     "moves, and of sums, as in 20,40,30,120",
     TEXT, offsetof(taut__settings, data_link), 0, 0, NULL, 0, EXTRA | OWN},
    {"TAUT_CHECKSUM", "on", "checksum of what is sent: on, or off for networks that check by themselves", WORD,
     FIELD(checksum), 0, 0, "on|off", ENUM(checksum), OWN},
    {"TAUT_DELIVERY", "plain",
     "plain, or assured: every message is numbered, checked, and asked for again once if it was lost or damaged", WORD,
     FIELD(delivery), 0, 0, "plain|assured", ENUM(delivery), 0},
    {"TAUT_THRESHOLD", "64K", "preload libraries: sums of fewer bytes stay exact", ELSEWHERE, 0, 0, 0, NULL, 0, EXTRA},
    {"TAUT_INCLUDE", "",
     "preload libraries: only these sites: numbers of the report, ranges of bytes, as in 3,1M..4M,64K..", ELSEWHERE, 0,
     0, 0, NULL, 0, EXTRA},
    {"TAUT_EXCLUDE", "", "preload libraries: not these sites", ELSEWHERE, 0, 0, 0, NULL, 0, EXTRA},
    {"TAUT_REPORT", "", "preload libraries: the report as JSON to this path; - for no report at all", ELSEWHERE, 0, 0,
     0, NULL, 0, EXTRA},
    {"TAUT_DRYRUN", "0", "preload libraries: 1 = compress nothing, say what each budget would save", ELSEWHERE, 0, 0, 0,
     NULL, 0, EXTRA},
    {"TAUT_NCCL_LIBRARY", "libnccl.so.2", "the file that is opened as NCCL, when it is first wanted", ELSEWHERE, 0, 0,
     0, NULL, 0, EXTRA},
    {"TAUT_NONBLOCKING", "auto",
     "preload libraries: compress non-blocking and persistent sums, which needs MPI_THREAD_MULTIPLE: on, off, or auto, "
     "which is on for programs that import such calls",
     ELSEWHERE, 0, 0, 0, "auto|on|off", 0, EXTRA},
    {"TAUT_ROOT", "", "Python, taut.init(): HOST:PORT on which rank 0 listens; default MASTER_ADDR at MASTER_PORT + 1",
     ELSEWHERE, 0, 0, 0, NULL, 0, EXTRA},
    {"TAUT_LIBRARY", "", "Python: this libtaut.so instead of the package's", ELSEWHERE, 0, 0, 0, NULL, 0, EXTRA},
    {"TAUT_LOG", "warn", "what is logged on stderr: error, warn, info, debug or trace", ELSEWHERE, 0, 0, 0,
     "error|warn|info|debug|trace", 0, DEBUG | EXTRA},
    {"TAUT_LOG_SUBSYS", "", "log only these parts, as in comm,sched", ELSEWHERE, 0, 0, 0, NULL, 0, DEBUG | EXTRA},
    {"TAUT_CPU", "", "use no kernels above this level: portable, avx2, avx512, avx512vbmi2 or neon", ELSEWHERE, 0, 0, 0,
     NULL, 0, DEBUG | EXTRA},
    {"TAUT_FAKE_HOSTS", "0", "pretend that this many consecutive ranks share a host; 0 = ask the system", I32,
     offsetof(taut__settings, fake_hosts), 0, 1 << 20, NULL, 0, DEBUG | EXTRA},
    {"TAUT_FAULTS", "",
     "lose and damage messages, as in flip=0.01,seed=7: shares of drop, delay, twice, reorder, flip, cut; delay_us, "
     "least, most, after, "
     "times, rank",
     TEXT, offsetof(taut__settings, faults), 0, 0, NULL, 0, DEBUG | EXTRA | OWN},
};
enum { ROWS = sizeof table / sizeof *table };

static bool   is_text(kind k) { return k <= LINK; }
static size_t size_of(kind k) { return is_text(k) ? sizeof(char *) : k == U64 ? 8 : 4; }

/* ---- one value ---- */

/* Its place among the words; -1: it is none of them. */
static int32_t place(const char *words, const char *value)
{
    size_t  n = strlen(value);
    int32_t i = 0;
    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL, i++)
        if (n > 0 && strncmp(w, value, n) == 0 && (w[n] == '|' || w[n] == 0)) return i;
    return -1;
}

static taut_status put_word(const row *r, const char *value, taut__settings *s)
{
    int32_t i = place(r->words, value);
    if (i < 0) return taut__fail(TAUT_E_INVALID, "%s=%s: must be one of %s", r->name, value, r->words);
    if (r->index) memcpy((char *)s + r->index, &i, sizeof i);
    return TAUT_OK;
}

static taut_status check_text(const row *r, const char *value, taut__settings *s)
{
    taut__budget budget;
    taut__line   link;
    if (strlen(value) >= TAUT_TEXT)
        return taut__fail(TAUT_E_RANGE, "%s: %zu characters: must be below %d", r->name, strlen(value), TAUT_TEXT);
    if (r->kind == WORD) return put_word(r, value, s);
    if (r->kind == LINK) return taut__link_parse(value, &link);
    if (r->kind == BUDGET) return taut__budget_parse(value, &budget);
    return r->kind == SPEC ? taut__spec_parse(value, &s->spec) : TAUT_OK;
}

static taut_status out_of_range(const row *r, const char *value)
{
    return taut__fail(TAUT_E_RANGE, "%s=%s: must be %.12g..%.12g", r->name, value, r->min, r->max);
}

static taut_status put_number(const row *r, const char *value, void *field)
{
    char *end = NULL;
    errno = 0;
    if (r->kind == U64) {
        uint64_t v = strtoull(value, &end, 0);
        if (!isdigit((unsigned char)*value) || *end || errno) return out_of_range(r, value);
        memcpy(field, &v, sizeof v);
        return TAUT_OK;
    }
    double v = taut__strtod(value, &end);
    if (end == value || *end || !(v >= r->min && v <= r->max)) return out_of_range(r, value);
    if (r->kind != F32 && v != floor(v))
        return taut__fail(TAUT_E_INVALID, "%s=%s: must be a whole number", r->name, value);
    if (r->kind == I32) *(int32_t *)field = (int32_t)v;
    if (r->kind == U32) *(uint32_t *)field = (uint32_t)v;
    if (r->kind == F32) *(float *)field = (float)v;
    return TAUT_OK;
}

static taut_status put(const row *r, const char *value, taut__settings *s, size_t *texts)
{
    void *field = (char *)s + r->at;
    if (!is_text(r->kind)) return put_number(r, value, field);
    TAUT_TRY(check_text(r, value, s));
    char *copy = s->text[(*texts)++];
    memcpy(copy, value, strlen(value) + 1);
    memcpy(field, &copy, sizeof copy);
    return TAUT_OK;
}

/* A field's value as text, in `text` where it is a number. */
static const char *text_of(const row *r, const void *field, char *text, size_t cap)
{
    char    *own;
    uint64_t u;
    uint32_t w;
    float    f;
    if (is_text(r->kind)) return memcpy(&own, field, sizeof own), own;
    if (r->kind == U64) {
        memcpy(&u, field, sizeof u);
        snprintf(text, cap, "%llu", (unsigned long long)u);
    } else if (r->kind == F32) {
        memcpy(&f, field, sizeof f);
        taut__snprintf(text, cap, "%.6g", (double)f);
        if ((float)taut__strtod(text, NULL) != f) taut__snprintf(text, cap, "%.9g", (double)f);
    } else {
        memcpy(&w, field, sizeof w);
        snprintf(text, cap, r->kind == I32 ? "%d" : "%u", w);
    }
    return text;
}

/* What the program gave, as text, or NULL for zero, which means the default. */
static const char *given(const row *r, const taut_config *cfg, char *text, size_t cap)
{
    size_t at = r->at - offsetof(taut__settings, c);
    if (!cfg || r->is & EXTRA || at + size_of(r->kind) > cfg->size) return NULL;
    const char *value = text_of(r, (const char *)cfg + at, text, cap);
    bool        zero = is_text(r->kind) ? !value || !*value : taut__strtod(value, NULL) == 0;
    return zero ? NULL : value;
}

/* Optimal string alignment: insertions, deletions, changes and swaps of neighbours between a (na long) and b. */
static size_t distance(const char *a, size_t na, const char *b)
{
    enum { MOST = 32 };
    size_t nb = strlen(b), d[3][MOST + 1], *before = d[0], *last = d[1], *now = d[2];
    if (na > MOST || nb > MOST) return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++) last[j] = j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *t = before;
        before = last, last = now, now = t;
    }
    return last[nb];
}

/* The setting that a misspelt name most likely meant; NULL = none is close. */
static const char *nearest(const char *name, size_t n)
{
    enum { CLOSE = 3 };
    const char *best = NULL;
    size_t      least = CLOSE + 1;
    for (size_t i = 0; i < ROWS; i++) {
        size_t d = distance(name, n, table[i].name);
        if (d < least) least = d, best = table[i].name;
    }
    return best;
}

static const char *environment(const row *r)
{
    const char *e = getenv(r->name);
    return e && *e ? e : NULL;
}

taut_status taut__settings_feedback(const taut__settings *s, const taut_spec *spec)
{
    const char *mode = s->c.feedback, *why = spec->automatic ? NULL : taut__spec_expands(spec);
    char        text[96];
    if (taut__spec_basis(spec) > 0 && !spec->automatic && s->feedback == TAUT_FEEDBACK_MOMENTUM)
        return taut__fail(TAUT_E_UNSUPPORTED, "feedback=momentum with basis=%zu: must be auto, on or off",
                          taut__spec_basis(spec));
    if (!why || strcmp(mode, "auto") == 0 || strcmp(mode, "off") == 0) return TAUT_OK;
    taut__spec_print(spec, text, sizeof text);
    return taut__fail(TAUT_E_INVALID,
                      "feedback=%s with codec %s: residuals would grow without bound: %s; or feedback=off", mode, text,
                      why);
}

bool taut__settings_feeds(const taut__settings *s, const taut_spec *spec)
{
    uint32_t caps = taut__spec_caps(spec);
    if (caps & TAUT_CAP_LOSSLESS || s->feedback == TAUT_FEEDBACK_OFF || taut__spec_expands(spec)) return false;
    return s->feedback == TAUT_FEEDBACK_AUTO ? (caps & TAUT_CAP_FEEDBACK) != 0 : true;
}

/* Variables called TAUT_... that nobody reads: said once per process, with the name that was meant. */
static void warn_unknown(void)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    extern char      **environ;
    if (atomic_flag_test_and_set(&said)) return;
    for (char **e = environ; e && *e; e++) {
        size_t n = strcspn(*e, "="), i = 0;
        if (strncmp(*e, "TAUT_", 5) != 0) continue;
        while (i < ROWS && !(strlen(table[i].name) == n && strncmp(table[i].name, *e, n) == 0)) i++;
        if (i < ROWS) continue;
        const char *near = nearest(*e, n);
        taut__log(TAUT_LOG_WARN, "comm", "%.*s is no setting%s%s; `taut info --env` lists them", (int)n, *e,
                  near ? ": did you mean " : "", near ? near : "");
    }
}

/* Settings that are read elsewhere have no status to fail with there. */
static taut_status check_elsewhere(const row *r)
{
    const char *value = environment(r);
    if (!value || !r->words || place(r->words, value) >= 0) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "%s=%s: must be one of %s", r->name, value, r->words);
}

taut_status taut__settings_load(const taut_config *cfg, taut__settings *s)
{
    size_t texts = 0;
    char   text[32];
    memset(s, 0, sizeof *s);
    s->c.size = sizeof s->c;
    if (cfg && cfg->size < sizeof cfg->size)
        return taut__fail(TAUT_E_INVALID, "taut_config: size=%zu: use TAUT_CONFIG_INIT", cfg->size);
    for (size_t i = 0; i < ROWS; i++) {
        const row  *r = &table[i];
        const char *value = environment(r);
        if (r->kind == ELSEWHERE) {
            TAUT_TRY(check_elsewhere(r));
            continue;
        }
        if (!value) value = given(r, cfg, text, sizeof text);
        TAUT_TRY(put(r, value ? value : r->fallback, s, &texts));
    }
    warn_unknown();
    return taut__settings_feedback(s, &s->spec);
}

/* ---- what ranks must have alike ---- */

static bool alike(const row *r) { return r->kind != ELSEWHERE && !(r->is & OWN); }

size_t taut__settings_lines(void)
{
    size_t n = 0;
    for (size_t i = 0; i < ROWS; i++) n += alike(&table[i]);
    return n;
}

const char *taut__settings_line(const taut__settings *s, size_t i, char *dst, size_t cap)
{
    char text[32];
    for (const row *r = table; r < table + ROWS; r++)
        if (alike(r) && i-- == 0)
            snprintf(dst, cap, "%s=%s", r->name, text_of(r, (const char *)s + r->at, text, sizeof text));
    return dst;
}

taut_status taut_setting_get(size_t i, taut_setting *s)
{
    if (!s) return taut__fail(TAUT_E_INVALID, "taut_setting_get: s is NULL");
    *s = (taut_setting){0};
    if (i >= ROWS) return taut__fail(TAUT_E_RANGE, "taut_setting_get: %zu: must be 0..%d", i, ROWS - 1);
    const char *value = environment(&table[i]);
    *s =
        (taut_setting){table[i].name, value ? value : "", table[i].fallback, table[i].help, (table[i].is & DEBUG) != 0};
    return TAUT_OK;
}

const char *taut_features(void)
{
    return "threads tcp"
#ifdef TAUT_HAVE_MPI
           " mpi"
#endif
#ifdef TAUT_HAVE_BLAS
           " blas"
#endif
#ifdef TAUT_HAVE_TORCH
           " torch"
#endif
#ifdef TAUT_HAVE_ZSTD
           " zstd"
#endif
#ifdef TAUT_HAVE_JPEG
           " jpeg"
#endif
#ifdef TAUT_HAVE_CUDA
           " cuda"
#endif
        ;
}
