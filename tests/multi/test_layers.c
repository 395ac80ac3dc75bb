/* test_layers.c : kinds of layers and collectives: sharded, hierarchical, 16-bit, and what a checkpoint keeps of them. Ranks
 * are threads. */
#include "compressors/dispatch.h"
#include "compressors/vec/vec.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static taut_config quick(void)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 20000;
    cfg.codec = "quant:bits=8";
    return cfg;
}

/* ---- sharded collectives ---- */

static taut_status sharded(ranks_ctx *c)
{
    enum { ROWS = 37, COLS = 91, N = ROWS * COLS };
    taut_layer *l;
    size_t      first, n, sum = 0;
    float       x[N];
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut_layer_codec(l, c->arg));
    for (int r = 0; r < c->size; r++) {
        TAUT_TRY(taut_layer_part(l, r, &first, &n));
        NEED(first == sum);
        sum += n;
    }
    NEED(sum == N);
    TAUT_TRY(taut_layer_part(l, c->rank, &first, &n));
    for (int step = 0; step < 2; step++) {
        double err = 0, norm = 0;
        for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, step);
        TAUT_TRY(taut_reduce_scatter(l, x, TAUT_SUM));
        for (size_t i = first; i < first + n; i++) {
            double exact = ranks_sum(c->size, i, step), d = (double)x[i] - exact;
            err += d * d, norm += exact * exact;
        }
        NEED(err <= 0.05 * norm);
        for (size_t i = 0; i < N; i++) x[i] = i >= first && i < first + n ? ranks_value(9, i, step) : NAN;
        TAUT_TRY(taut_allgather(l, x));
        err = norm = 0;
        for (size_t i = 0; i < N; i++) {
            double exact = (double)ranks_value(9, i, step), d = (double)x[i] - exact;
            err += d * d, norm += exact * exact;
        }
        NEED(err <= 0.05 * norm);
        TAUT_TRY(ranks_same(c->comm, x, sizeof x));
        TAUT_TRY(taut_step_end(c->comm));
    }
    return TAUT_OK;
}
START_TEST(shards)
{
    static const char *const codec[] =
        {"none", "fp16", "quant:bits=8", "grid:rel=0.02", "powersgd:rank=37", "stack:quant:bits=8+quant:bits=4"},
                             *const algorithm[] = {"auto", "ring", "gather"};
    taut_config                     cfg = quick();
    if (_i >= 12) cfg.algorithm = "auto"; /* whole tensors only: no choice */
    else cfg.algorithm = algorithm[_i / 4];
    for (int p = 1; p <= 4; p++) ranks_ok(p, &cfg, sharded, (void *)(uintptr_t)codec[_i < 12 ? _i % 4 : _i - 8]);
}
END_TEST

/* ---- hierarchy ---- */

static taut_status over_hosts(ranks_ctx *c)
{
    enum { N = 300 * 70 };
    taut_layer *l;
    float       x[N];
    NEED(c->comm->ctx.hierarchical);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){300, 70}, &l));
    TAUT_TRY(taut_layer_codec(l, c->arg));
    for (int step = 0; step < 3; step++) {
        double err = 0, norm = 0;
        for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, step);
        TAUT_TRY(taut_allreduce(l, x, TAUT_MEAN));
        for (size_t i = 0; i < N; i++) {
            double exact = ranks_sum(c->size, i, step) / c->size, d = (double)x[i] - exact;
            err += d * d, norm += exact * exact;
        }
        NEED(err <= 0.05 * norm);
        TAUT_TRY(ranks_same(c->comm, x, sizeof x));
        TAUT_TRY(taut_step_end(c->comm));
    }
    return TAUT_OK;
}
START_TEST(hierarchy)
{
    static const char *const codec[] = {"none", "quant:bits=8", "grid:rel=0.02", "fp16"};
    taut_config              cfg = quick();
    setenv("TAUT_FAKE_HOSTS", "2", 1);
    cfg.hierarchy = "on";
    for (int p = 2; p <= 6; p++) ranks_ok(p, &cfg, over_hosts, (void *)(uintptr_t)codec[_i]);
    unsetenv("TAUT_FAKE_HOSTS");
}
END_TEST

/* ---- 16-bit layers ---- */

static taut_status halves(ranks_ctx *c)
{
    enum { N = 64 * 50 };
    const taut__vec_kernels *vec = taut__simd_get()->vec;
    taut_layer              *l[2];
    float                    f[N];
    uint16_t                 x[N];
    for (int d = 0; d < 2; d++) {
        TAUT_TRY(
            taut_layer_register(c->comm, d ? "bf16" : "f16", d ? TAUT_BF16 : TAUT_F16, 2, (size_t[]){64, 50}, &l[d]));
        TAUT_TRY(taut_layer_codec(l[d], c->arg));
        for (int step = 0; step < 2; step++) {
            double err = 0, norm = 0;
            for (size_t i = 0; i < N; i++) f[i] = ranks_value(c->rank, i, step);
            (d ? vec->to_bf16 : vec->to_f16)(x, f, N);
            TAUT_TRY(taut_allreduce(l[d], x, TAUT_SUM));
            TAUT_TRY(ranks_same(c->comm, x, sizeof x));
            (d ? vec->from_bf16 : vec->from_f16)(f, x, N);
            for (size_t i = 0; i < N; i++) {
                double exact = ranks_sum(c->size, i, step), e = (double)f[i] - exact;
                err += e * e, norm += exact * exact;
            }
            NEED(err <= 0.05 * norm);
        }
    }
    return taut_step_end(c->comm);
}
START_TEST(sixteen_bit)
{
    static const char *const codec[] = {"none", "quant:bits=8", "grid:rel=0.02"};
    taut_config              cfg = quick();
    cfg.feedback = "off";
    for (int p = 1; p <= 3; p++) ranks_ok(p, &cfg, halves, (void *)(uintptr_t)codec[_i]);
}
END_TEST

/* ---- checkpoints ---- */

enum { SAVED_RANKS = 3 };
typedef struct saved {
    void           *blob[SAVED_RANKS];
    size_t          len[SAVED_RANKS];
    double          residual[2]; /* sums over ranks of element 0 and of all, before and after */
    float           next[6400];
    pthread_mutex_t lock;
} saved;

static taut_status make_layer(ranks_ctx *c, taut_layer **l)
{
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){64, 100}, l));
    return taut_layer_codec(*l, "topk:density=0.05");
}
static taut_status one_step(ranks_ctx *c, taut_layer *l, float *x, int step)
{
    for (size_t i = 0; i < 6400; i++) x[i] = ranks_value(c->rank, i, step);
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    return taut_step_end(c->comm);
}
static double total(const taut_layer *l)
{
    double s = 0;
    for (size_t i = 0; i < 6400; i++) s += (double)l->operand.feedback->r[i] * (double)(i % 31);
    return s;
}
static taut_status save_rank(ranks_ctx *c)
{
    saved      *s = c->arg;
    taut_layer *l;
    float       x[6400];
    size_t      len;
    TAUT_TRY(make_layer(c, &l));
    for (int step = 0; step < 3; step++) TAUT_TRY(one_step(c, l, x, step));
    TAUT_TRY(taut_state_save(c->comm, NULL, 0, &s->len[c->rank]));
    s->blob[c->rank] = malloc(s->len[c->rank]);
    NEED(taut_state_save(c->comm, s->blob[c->rank], s->len[c->rank] - 1, &len) == TAUT_E_CAPACITY);
    TAUT_TRY(taut_state_save(c->comm, s->blob[c->rank], s->len[c->rank], &len));
    pthread_mutex_lock(&s->lock);
    s->residual[0] += total(l);
    pthread_mutex_unlock(&s->lock);
    TAUT_TRY(one_step(c, l, x, 3));
    if (c->rank == 0) memcpy(s->next, x, sizeof x);
    return TAUT_OK;
}
static taut_status load_rank(ranks_ctx *c)
{
    saved      *s = c->arg;
    taut_layer *l;
    float       x[6400];
    TAUT_TRY(make_layer(c, &l));
    for (int b = c->rank; b < SAVED_RANKS; b += c->size) {
        NEED(taut_state_load(c->comm, s->blob[b], s->len[b] - 3) == TAUT_E_CORRUPT);
        TAUT_TRY(taut_state_load(c->comm, s->blob[b], s->len[b]));
    }
    pthread_mutex_lock(&s->lock);
    s->residual[1] += total(l);
    pthread_mutex_unlock(&s->lock);
    TAUT_TRY(one_step(c, l, x, 3));
    if (c->size == SAVED_RANKS && memcmp(x, s->next, sizeof x) != 0)
        return taut__fail(TAUT_E_CORRUPT, "the next step differs");
    return TAUT_OK;
}
START_TEST(checkpoint)
{
    taut_config cfg = quick();
    saved       s = {.lock = PTHREAD_MUTEX_INITIALIZER};
    ranks_ok(SAVED_RANKS, &cfg, save_rank, &s);
    for (int p = 3; p >= 1; p--) {
        s.residual[1] = 0;
        ranks_ok(p, &cfg, load_rank, &s);
        ck_assert_msg(fabs(s.residual[1] - s.residual[0]) < 1e-3 * (1 + fabs(s.residual[0])), "%g became %g",
                      s.residual[0], s.residual[1]);
    }
    for (int r = 0; r < SAVED_RANKS; r++) free(s.blob[r]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("layers");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, shards, 0, 14);
    tcase_add_loop_test(t, hierarchy, 0, 4);
    tcase_add_loop_test(t, sixteen_bit, 0, 3);
    tcase_add_test(t, checkpoint);
    return suite_run(s);
}
