/* test_sharded_plan.c : codec=auto where some layers' gradients are scattered and others are summed for all: what lies on the ranks in parts counts in norms and
 * budgets as the rest does, compressed or not. Errors in double, by what every rank holds. */
#include "../support/suite.h"
#include "tests/support/mock_space.h"
#include "tests/support/ranks.h"
#include "compressors/vectors.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDED, WHOLE, LAYERS, ROWS = 40, COLS = 512, N = ROWS * COLS, STEPS = 16, MOST = 7 };

typedef struct job {
    const char     *metric, *link, *objective;
    bool            unsharded; /* all layers are summed for all */
    bool            gathered;  /* the scattered sum is gathered in the same step */
    int             late;      /* the step before which the whole layer comes */
    float           size[LAYERS];
    double          error[STEPS][LAYERS], norm[STEPS][LAYERS];
    int             coded[LAYERS]; /* steps, on rank 0 */
    pthread_mutex_t lock;
} job;

static float gradient(const job *j, int layer, int rank, size_t i, int step)
{
    return j->size[layer] * (ranks_value(rank, i, 2 * step + layer) + 0.3f * ranks_value(9, i, 2 * step + layer));
}

static void add_up(job *j, int layer, int step, int ranks, const float *x, size_t first, size_t n, double share)
{
    double e = 0, w = 0;
    for (size_t i = first; i < first + n; i++) {
        double sum = 0;
        for (int r = 0; r < ranks; r++) sum += (double)gradient(j, layer, r, i, step);
        e += (x[i] - sum) * (x[i] - sum), w += sum * sum;
    }
    pthread_mutex_lock(&j->lock);
    j->error[step][layer] += share * e, j->norm[step][layer] += share * w;
    pthread_mutex_unlock(&j->lock);
}

static taut_status step_of(ranks_ctx *c, taut_layer *const *l, int step, float (*x)[N])
{
    job   *j = c->arg;
    size_t first, n;
    for (int k = 0; k < LAYERS; k++)
        for (size_t i = 0; i < N; i++) x[k][i] = gradient(j, k, c->rank, i, step);
    if (l[WHOLE]) TAUT_TRY(taut_allreduce_start(l[WHOLE], x[WHOLE], TAUT_SUM));
    if (j->unsharded) TAUT_TRY(taut_allreduce(l[SHARDED], x[SHARDED], TAUT_SUM));
    else TAUT_TRY(taut_reduce_scatter(l[SHARDED], x[SHARDED], TAUT_SUM));
    TAUT_TRY(taut_layer_part(l[SHARDED], c->rank, &first, &n));
    add_up(j, SHARDED, step, c->size, x[SHARDED], first, n, 1);
    if (j->gathered && !j->unsharded) TAUT_TRY(taut_allgather(l[SHARDED], x[SHARDED]));
    if (l[WHOLE]) TAUT_TRY(taut_wait(l[WHOLE]));
    if (l[WHOLE]) add_up(j, WHOLE, step, c->size, x[WHOLE], 0, N, 1.0 / c->size);
    return taut_step_end(c->comm);
}

static taut_status body(ranks_ctx *c)
{
    job                       *j = c->arg;
    taut_layer                *l[LAYERS] = {NULL};
    static _Thread_local float x[LAYERS][N];
    for (int step = 0; step < STEPS; step++) {
        for (int k = 0; k < LAYERS; k++)
            if (step == (k == WHOLE ? j->late : 0))
                TAUT_TRY(taut_layer_register(c->comm, k == WHOLE ? "whole" : "sharded", TAUT_F32, 2,
                                             (size_t[]){ROWS, COLS}, &l[k]));
        for (int k = 0; k < LAYERS && c->rank == 0; k++) {
            taut_layer_stats s = {.size = sizeof s};
            if (l[k]) TAUT_TRY(taut_layer_get_stats(l[k], &s));
            j->coded[k] += l[k] && strcmp(s.codec, "none") != 0;
        }
        TAUT_TRY(step_of(c, l, step, x));
    }
    return TAUT_OK;
}

/* In the metric: layer by layer relative to its own norm, or all together. */
static double over(const job *j, int step)
{
    const double *e = j->error[step], *w = j->norm[step];
    if (w[WHOLE] == 0) return e[SHARDED] / w[SHARDED];
    return strcmp(j->metric, "layer") ? (e[SHARDED] + e[WHOLE]) / (w[SHARDED] + w[WHOLE])
                                      : (e[SHARDED] / w[SHARDED] + e[WHOLE] / w[WHOLE]) / 2;
}

static void run(const char *codec, const char *budget, int k, job *j)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = codec, cfg.budget = budget, cfg.metric = j->metric, cfg.link = j->link, cfg.objective = j->objective;
    cfg.feedback = "off", cfg.replan_steps = 4, cfg.timeout_ms = (int32_t)suite_patience(20000);
    pthread_mutex_init(&j->lock, NULL);
    ranks_ok(2 + k % 3, &cfg, body, j);
    pthread_mutex_destroy(&j->lock);
}

/* reference: NULL, or what the budget is like: errors of all encodings, as two ranks make them that tell each other, and more ranks at least. */
static void keeps(const char *link, const char *budget, const char *reference, int k)
{
    const job of = {.metric = k % 2 ? "plain" : "layer",
                    .link = link,
                    .objective = k & 2 ? "bytes" : "time",
                    .gathered = k & 4,
                    .late = k % 3 == 2 ? 5 : 0,
                    .size = {1, k % 3 ? 1 : 0.125f}};
    job       j = of, like = of;
    like.unsharded = true;
    if (reference) run(reference, NULL, k, &like);
    run("auto", budget, k, &j);
    for (int step = 0; step < STEPS; step++) {
        double limit = 1.2 * (reference ? over(&like, step) : 0.02);
        ck_assert_msg(over(&j, step) <= limit, "%s, %s, %s, %s, job %d, step %d: error %g, at most %g", budget,
                      j.metric, link, j.objective, k, step, over(&j, step), limit);
    }
    for (int l = 0; l < LAYERS && k & 2; l++)
        ck_assert_msg(j.coded[l] > 0, "%s, %s, job %d: layer %d is never compressed", budget, link, k, l);
}

START_TEST(budgets)
{
    static const char *const links[] = {"10gbit", "1gbit", "100mbit"};
    for (int k = suite_long() ? 0 : _i; k < 8; k += suite_long() ? 1 : 3) {
        keeps(links[_i], "rel=0.02", NULL, k);
        keeps(links[_i], "like:quant:bits=4", "quant:bits=4", k);
    }
}
END_TEST

/* What ranks' errors have in common shows in parts as in whole sums: on the host, on a device, gathered again or not. */
typedef struct look {
    const char *codec;
    float       own; /* of gradients, beside what all ranks see */
    bool        there, gathered;
    double      error, said; /* sums over steps from the second on: relative, true and reported */
} look;

enum { LOOKS = 24 };

static float seen(const look *k, int rank, size_t i, int step)
{
    return ranks_value(9, i, step) + k->own * ranks_value(rank, i, step);
}

/* Squares of this rank's part: of the error, of the mean. */
static taut_status part_of(ranks_ctx *c, const taut_layer *l, int step, const float *x, double of[2])
{
    const look *k = c->arg;
    size_t      first, n;
    TAUT_TRY(taut_layer_part(l, c->rank, &first, &n));
    for (size_t i = first; i < first + n; i++) {
        double mean = 0;
        for (int r = 0; r < c->size; r++) mean += (double)seen(k, r, i, step) / c->size;
        of[0] += (x[i] - mean) * (x[i] - mean), of[1] += mean * mean;
    }
    return TAUT_OK;
}

static taut_status look_step(ranks_ctx *c, taut_layer *l, int step, float *x, void *at, taut_place p)
{
    look           *k = c->arg;
    double          of[2] = {0, 0};
    taut_comm_stats s = {.size = sizeof s};
    for (size_t i = 0; i < N; i++) x[i] = seen(k, c->rank, i, step);
    if (k->there) mock_write(at, x, N * sizeof *x);
    TAUT_TRY(k->there ? taut_reduce_scatter_on(l, at, TAUT_MEAN, p.space, p.device, p.stream)
                      : taut_reduce_scatter(l, x, TAUT_MEAN));
    if (k->there) mock_read(x, at, N * sizeof *x);
    TAUT_TRY(part_of(c, l, step, x, of));
    if (k->gathered) TAUT_TRY(k->there ? taut_allgather_on(l, at, p.space, p.device, p.stream) : taut_allgather(l, x));
    TAUT_TRY(taut_step_end(c->comm));
    TAUT_TRY(taut__context_sum(&c->comm->ctx, of, 2));
    TAUT_TRY(taut_comm_get_stats(c->comm, &s));
    if (step > 0 && c->rank == 0) k->error += of[0] / of[1], k->said += s.rel_err2;
    return TAUT_OK;
}

static taut_status look_body(ranks_ctx *c)
{
    const look *k = c->arg;
    taut_place  place = k->there ? mock_stream() : (taut_place){0};
    taut_layer *l;
    void       *at = NULL;
    float      *x = malloc(N * sizeof *x);
    taut_status s = taut_layer_register(c->comm, "l", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l);
    if (s == TAUT_OK && k->there) s = taut__memory_of(place.space)->alloc(place, N * sizeof *x, &at);
    for (int step = 0; step < LOOKS && s == TAUT_OK; step++) s = look_step(c, l, step, x, at, place);
    taut_comm_destroy(c->comm);
    c->comm = NULL;
    if (at) taut__memory_of(place.space)->release(place, at);
    if (k->there) mock_stream_end(place);
    free(x);
    return s;
}

START_TEST(measured)
{
    static const char *const codecs[] = {"grid:rel=0.1", "topk:density=0.1", "quant:bits=3,round=nearest"};
    for (int i = suite_long() ? 0 : _i; i < 8; i += suite_long() ? 1 : 3) {
        look        k = {.codec = codecs[_i], .own = i & 1 ? 1 : 0, .there = i & 2, .gathered = i & 4};
        taut_config cfg = TAUT_CONFIG_INIT;
        cfg.codec = k.codec, cfg.feedback = "off", cfg.timeout_ms = (int32_t)suite_patience(20000);
        if (k.there) mock_open();
        ranks_ok(2 + i % 3, &cfg, look_body, &k);
        if (k.there) mock_close();
        ck_assert_msg(
            k.said > 0.85 * k.error &&
                    k.said<1.15 * k.error, "%s, %d ranks%s%s%s: reported over true: %g", k.codec, 2 + i % 3, k.own> 0
                ? ""
                : ", equal",
            k.there ? ", on a device" : "", k.gathered ? ", gathered" : "", k.said / k.error);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plans of sharded layers");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, budgets, 0, 3);
    tcase_add_loop_test(t, measured, 0, 3);
    return suite_run(s);
}
