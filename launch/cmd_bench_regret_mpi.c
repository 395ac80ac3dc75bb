/* cmd_bench_regret_mpi.c : `taut bench allreduce --regret`: what codec=auto costs against the setting that, in hindsight, would have
 * been the best one.
 *
 * Of each size: one communicator for every fixed setting and one for auto, all on the same buffers; MPI_Allreduce is a setting
 * too. Auto first takes WARM_STEPS, in which it finds its plan (fewer where they take long, more where they are short). Then rounds, in each of which every setting
 * has one turn, in an order that is drawn, so that all see the same network and neighbours, and none always comes after the same
 * other one. Times are those of the slowest rank. Settings that make a larger error than auto's budget are out of competition:
 * compressing with less care than auto may is no achievement.
 *
 * Regret is the median over rounds of auto's time over the best setting's time in the same round: what slows a round down cancels.
 * The least of ten noisy medians is less than any setting's true one; so the best setting is chosen in one half of the rounds and
 * auto compared with it in the other half, both ways round, and the geometric mean taken. */
#include "bench_allreduce.h"
#include "cmd.h"
#include "floats.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SETTINGS = 12,
    WARM_STEPS = 60,
    WARM_MOST = 300,
    WARM_LEAST = 30,
    WARM_PLAN = 4, /* its first plan is in force */
    WARM_FIXED = 3,
    ROUNDS_MIN = 5,
    ROUNDS_SLOW = 3,
    ROUNDS_CRAWL = 1,
    NAME = 64,
    SIZES = 64
};
static const double QUICK_S = 2; /* where WARM_STEPS take less, auto goes on for so long, or WARM_MOST steps */
static const double WARM_S =
    20; /* beyond, WARM_LEAST steps of auto, one of a fixed setting, and ROUNDS_SLOW rounds must do */
static const double CRAWL_S =
    120; /* beyond, what auto had, WARM_PLAN steps at least, and ROUNDS_CRAWL rounds; the heading says so */
static const double LITTLE_OVER = 1.02; /* errors of single steps scatter */

typedef struct setting {
    char        codec[NAME], in_force[96];
    taut_comm  *comm; /* NULL: MPI_Allreduce */
    taut_layer *layer;
    double     *ms, *step_ms; /* per round */
    double      median_ms, median_step_ms, rel_err2;
    bool        within; /* the budget */
} setting;

enum { MS, STEP_MS, TIMES }; /* of the collective; with the step's end */

typedef struct table { /* one size */
    size_t  bytes, n;
    setting setting[SETTINGS]; /* the first is auto, the second MPI_Allreduce */
    double  budget;
    size_t  rounds, rounds_max;
    int     warm; /* steps of auto before them */
    double  regret[TIMES];
    size_t  best; /* of the fixed settings, all rounds */
} table;

static int once(bench_job *j, table *t, setting *s, double *ms, double *step_ms)
{
    if (s->comm) return bench_taut_once(j, s->comm, s->layer, t->bytes / 4, ms, step_ms);
    bench_native_once(j, t->bytes / 4, ms);
    *step_ms = *ms;
    return CLI_OK;
}

/* Does auto, after k steps that took so many seconds, need more of them? */
static bool warms(int k, double took)
{
    int least = took < CRAWL_S ? WARM_LEAST : WARM_PLAN;
    return k < least || (k < WARM_STEPS && took < WARM_S) || (k < WARM_MOST && took < QUICK_S);
}

static int add(bench_job *j, table *t, const char *codec, bool native)
{
    setting *s = &t->setting[t->n++];
    double   ms[2];
    bool     automatic = t->n == 1;
    int      rc = CLI_OK, go = 1;
    double   begin = cli_now();
    snprintf(s->codec, sizeof s->codec, "%s", codec);
    s->ms = calloc(t->rounds_max, sizeof *s->ms);
    s->step_ms = calloc(t->rounds_max, sizeof *s->step_ms);
    if (!s->ms || !s->step_ms) return cli_fail("out of memory");
    if (!native) rc = bench_open(j, codec, t->bytes, &s->comm, &s->layer);
    for (int k = 1; go && rc == CLI_OK; k++) {
        rc = once(j, t, s, &ms[0], &ms[1]);
        double took = cli_now() - begin;
        go = automatic ? warms(k, took) : k < WARM_FIXED && took < WARM_S / 20;
        if (automatic) t->warm = k;
        MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    return rc;
}

/* What auto may lose, as it says itself; where it has no plan yet, what its reference makes alone. */
static int find_budget(bench_job *j, table *t)
{
    taut_comm_stats stats = {.size = sizeof stats};
    taut_status     s = taut_comm_get_stats(t->setting[0].comm, &stats);
    t->budget = stats.budget;
    return bench_agree(j, s, "statistics");
}

static int open_all(bench_job *j, table *t)
{
    static const char *const fixed[] = {"none", "fp16", "quant:bits=8", "quant:bits=6", "quant:bits=5", "quant:bits=4"};
    char                     grid[NAME];
    int                      rc = add(j, t, "auto", false);
    if (rc == CLI_OK) rc = find_budget(j, t);
    if (rc == CLI_OK) rc = add(j, t, "MPI_Allreduce", true);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed && rc == CLI_OK; i++) rc = add(j, t, fixed[i], false);
    for (int rans = 0; rans < 2 && rc == CLI_OK && t->budget > 0 && t->budget < 0.9; rans++) {
        snprintf(grid, sizeof grid, "grid:rel=%.3g%s",
                 floor(t->budget * 1e4) > 0 ? floor(t->budget * 1e4) / 1e4 : t->budget, rans ? ",code=rans" : "");
        rc = add(j, t, grid, false);
    }
    for (size_t i = 0; i < j->codecs.n && rc == CLI_OK && t->n < SETTINGS; i++)
        rc = add(j, t, j->codecs.item[i], false);
    return rc;
}

/* The same on all ranks. */
static void draw_order(uint64_t round, size_t n, size_t *order)
{
    uint64_t x = 0x9e3779b97f4a7c15u * (round + 1);
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* Marsaglia, Xorshift RNGs, 2003 */
        size_t at = (size_t)(x >> 32) % (i + 1);
        if (at != i) order[i] = order[at];
        order[at] = i;
    }
}

static int run_rounds(bench_job *j, table *t)
{
    double begin = cli_now();
    int    go = 1, rc = CLI_OK;
    while (go && rc == CLI_OK) {
        size_t order[SETTINGS];
        draw_order(t->rounds, t->n, order);
        for (size_t i = 0; i < t->n && rc == CLI_OK; i++) {
            setting *s = &t->setting[order[i]];
            rc = once(j, t, s, &s->ms[t->rounds], &s->step_ms[t->rounds]);
        }
        t->rounds++;
        double took = cli_now() - begin;
        size_t least = took < WARM_S ? ROUNDS_MIN : took < CRAWL_S ? ROUNDS_SLOW : ROUNDS_CRAWL;
        go = t->rounds < t->rounds_max && (t->rounds < least || took < j->seconds);
        MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    return rc;
}

static const double *times(const setting *s, int kind) { return kind == MS ? s->ms : s->step_ms; }

/* Median of auto's time over setting i's, in rounds from, from + every, ... */
static double against(const table *t, size_t i, int kind, size_t from, size_t every, double *scratch)
{
    size_t n = 0;
    for (size_t r = from; r < t->rounds; r += every)
        scratch[n++] = times(&t->setting[0], kind)[r] / times(&t->setting[i], kind)[r];
    return median(scratch, n);
}

/* MPI_Allreduce keeps every budget: there is a best one. */
static size_t best_fixed(const table *t, int kind, size_t from, size_t every, double *scratch)
{
    size_t best = 0;
    double most = 0;
    for (size_t i = 1; i < t->n; i++) {
        double ratio = t->setting[i].within ? against(t, i, kind, from, every, scratch) : 0;
        if (ratio <= most) continue;
        most = ratio;
        best = i;
    }
    return best;
}

static double median_of(const double *ms, size_t n, double *scratch)
{
    memcpy(scratch, ms, n * sizeof *ms);
    return median(scratch, n);
}

static int judge(bench_job *j, table *t, double *scratch)
{
    for (size_t i = 0; i < t->n; i++) {
        setting         *s = &t->setting[i];
        taut_layer_stats stats = {.size = sizeof stats};
        double           ms[2];
        int              rc = once(j, t, s, &ms[0], &ms[1]);
        if (rc != CLI_OK) return rc;
        s->rel_err2 = bench_error_of_sum(j, t->bytes / 4);
        s->within = s->rel_err2 <= LITTLE_OVER * t->budget || s->rel_err2 < 1e-9;
        s->median_ms = median_of(s->ms, t->rounds, scratch);
        s->median_step_ms = median_of(s->step_ms, t->rounds, scratch);
        if (s->layer && taut_layer_get_stats(s->layer, &stats) == TAUT_OK)
            snprintf(s->in_force, sizeof s->in_force, "%s", stats.codec);
    }
    return CLI_OK;
}

static int compare(table *t)
{
    double *scratch = calloc(t->rounds, sizeof *scratch);
    if (!scratch) return cli_fail("out of memory");
    t->best = best_fixed(t, MS, 0, 1, scratch);
    for (int kind = 0; kind < TIMES; kind++) {
        if (t->rounds < 2 * ROUNDS_MIN) { /* slow ones, in which noise is small */
            t->regret[kind] = against(t, best_fixed(t, kind, 0, 1, scratch), kind, 0, 1, scratch);
            continue;
        }
        double half[2];
        for (size_t h = 0; h < 2; h++)
            half[h] = against(t, best_fixed(t, kind, h, 2, scratch), kind, 1 - h, 2, scratch);
        t->regret[kind] = sqrt(half[0] * half[1]);
    }
    free(scratch);
    return CLI_OK;
}

/* ---- report, on rank 0 ---- */

static void print_size(bench_job *j, const table *t)
{
    const setting *a = &t->setting[0], *best = &t->setting[t->best];
    printf("\n%zu bytes, %d ranks, %zu rounds after %d steps of auto%s, budget %.3e; ms: median of the slowest rank\n",
           t->bytes, j->ranks, t->rounds, t->warm,
           (t->rounds < ROUNDS_SLOW && t->rounds < t->rounds_max) || t->warm < WARM_LEAST
               ? " (no more, since they take long)"
               : "",
           t->budget);
    for (size_t i = 0; i < t->n; i++) {
        const setting *s = &t->setting[i];
        printf("  %-34s %10.3f %10.3f with step end  rel_err2 %9.3e %s\n", s->codec, s->median_ms, s->median_step_ms,
               s->rel_err2,
               s == best   ? "the best"
               : s->within ? ""
                           : "over the budget");
    }
    printf("regret %zu bytes %d ranks: auto %.3f ms (%s), best %.3f ms (%s): %.3f, with step end %.3f\n", t->bytes,
           j->ranks, a->median_ms, a->in_force, best->median_ms, best->codec, t->regret[MS], t->regret[STEP_MS]);
    fflush(stdout);
}

static void add_json(bench_job *j, const table *t, json_t *regrets)
{
    const setting *a = &t->setting[0], *best = &t->setting[t->best];
    json_t        *o = json_object();
    for (size_t i = 0; i < t->n; i++) {
        const setting *s = &t->setting[i];
        json_t        *row = json_object();
        jsn_text(row, "codec", s->codec);
        jsn_int(row, "ranks", (uint64_t)j->ranks);
        jsn_int(row, "bytes", t->bytes);
        jsn_real(row, "median_ms", s->median_ms);
        jsn_real(row, "step_ms", s->median_step_ms);
        jsn_real(row, "rel_err2", s->rel_err2);
        jsn_bool(row, "within_budget", s->within);
        jsn_text(row, "codec_in_force", s->in_force);
        jsn_int(row, "repeats", t->rounds);
        json_array_append_new(j->results, row);
    }
    jsn_int(o, "bytes", t->bytes);
    jsn_int(o, "ranks", (uint64_t)j->ranks);
    jsn_real(o, "budget", t->budget);
    jsn_real(o, "auto_ms", a->median_ms);
    jsn_real(o, "auto_step_ms", a->median_step_ms);
    jsn_text(o, "auto_codec", a->in_force);
    jsn_text(o, "best", best->codec);
    jsn_real(o, "best_ms", best->median_ms);
    jsn_real(o, "regret", t->regret[MS]);
    jsn_real(o, "regret_step", t->regret[STEP_MS]);
    json_array_append_new(regrets, o);
}

static int one_size(bench_job *j, size_t bytes, json_t *regrets, double *regret)
{
    table t = {.bytes = bytes, .rounds_max = (size_t)j->repeat};
    int   rc = open_all(j, &t);
    if (rc == CLI_OK) rc = run_rounds(j, &t);
    if (rc == CLI_OK) rc = judge(j, &t, j->ms[0]);
    if (rc == CLI_OK && j->rank == 0) rc = compare(&t);
    if (rc == CLI_OK && j->rank == 0) {
        *regret = t.regret[MS];
        print_size(j, &t);
        if (j->json) add_json(j, &t, regrets);
    }
    for (size_t i = 0; i < SETTINGS; i++) { /* those that were not used hold nothing */
        taut_comm_destroy(t.setting[i].comm);
        free(t.setting[i].ms);
        free(t.setting[i].step_ms);
    }
    return rc;
}

int bench_regret(bench_job *j)
{
    json_t *regrets = json_array();
    double  regret[SIZES], worst = 0;
    size_t  n = 0;
    int     rc = CLI_OK;
    for (uint64_t bytes = j->sizes.from; bytes <= j->sizes.to && rc == CLI_OK && n < SIZES; bytes *= j->sizes.factor)
        rc = one_size(j, (size_t)bytes & ~(size_t)3, regrets, &regret[n++]);
    if (rc == CLI_OK && j->rank == 0) {
        for (size_t i = 0; i < n; i++) worst = fmax(worst, regret[i]);
        printf("\nregret of %zu sizes: median %.3f, worst %.3f\n", n, median(regret, n), worst);
        json_t *o = json_object();
        json_object_set(o, "results", j->results);
        json_object_set(o, "regret", regrets);
        jsn_real(o, "regret_median", median(regret, n));
        jsn_real(o, "regret_worst", worst);
        if (j->json) jsn_print(o);
        else json_decref(o);
    }
    json_decref(regrets);
    return rc;
}
