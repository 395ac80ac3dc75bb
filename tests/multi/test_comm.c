/* test_comm.c : the communicator's rules: any order of starts, fused small layers, wrong calls, ranks that disagree, failures,
 * NaN, memory. Ranks are threads. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

static taut_config quick(void)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 20000;
    cfg.codec = "quant:bits=8";
    return cfg;
}

/* ---- many layers, every rank in its own order ---- */

enum { LAYERS = 13 };

static size_t layer_rows(int i) { return i % 3 == 0 ? 1 : (size_t)(20 + 37 * i); }

static taut_status register_many(ranks_ctx *c, taut_layer **l, float **buf)
{
    for (int i = 0; i < LAYERS; i++) {
        char   name[32];
        size_t shape[2] = {layer_rows(i), 50};
        snprintf(name, sizeof name, "layer%d", i);
        TAUT_TRY(
            taut_layer_register(c->comm, name, TAUT_F32, i % 4 == 3 ? 1 : 2, i % 4 == 3 ? &shape[1] : shape, &l[i]));
        buf[i] = malloc(shape[0] * shape[1] * sizeof **buf);
    }
    return TAUT_OK;
}

static size_t layer_elems(const taut_layer *l) { return l->operand.tensor.elems; }

static taut_status check_many(ranks_ctx *c, taut_layer **l, float **buf, int step)
{
    for (int i = 0; i < LAYERS; i++) {
        double err = 0, norm = 0;
        for (size_t k = 0; k < layer_elems(l[i]); k++) {
            double x = ranks_sum(c->size, k + (size_t)i * 1000, step), d = (double)buf[i][k] - x;
            err += d * d, norm += x * x;
        }
        NEED(err <= (l[i]->bucket ? 1e-10 : 0.01) * norm);
        TAUT_TRY(ranks_same(c->comm, buf[i], layer_elems(l[i]) * sizeof(float)));
    }
    return TAUT_OK;
}

static taut_status any_order(ranks_ctx *c)
{
    taut_layer *l[LAYERS];
    float      *buf[LAYERS];
    TAUT_TRY(register_many(c, l, buf));
    for (int step = 0; step < 6; step++) {
        for (int j = 0; j < LAYERS; j++) {
            int i = (j * (step % 2 ? 5 : 1) + 3 * c->rank) % LAYERS; /* another permutation on every rank */
            for (size_t k = 0; k < layer_elems(l[i]); k++) buf[i][k] = ranks_value(c->rank, k + (size_t)i * 1000, step);
            TAUT_TRY(taut_allreduce_start(l[i], buf[i], TAUT_SUM));
            int done;
            if (step == 2 && j % 3 == c->rank % 3) TAUT_TRY(taut_test(l[i], &done));
        }
        for (int j = 0; j < LAYERS && step % 3 == 1; j++) TAUT_TRY(taut_wait(l[(j * 4 + c->rank) % LAYERS]));
        if (step % 3 != 1) TAUT_TRY(taut_step_end(c->comm));
        TAUT_TRY(check_many(c, l, buf, step));
        if (step % 3 == 1) TAUT_TRY(taut_step_end(c->comm));
    }
    for (int i = 0; i < LAYERS; i++) free(buf[i]);
    return TAUT_OK;
}

START_TEST(orders)
{
    taut_config cfg = quick();
    cfg.progress = _i % 2 ? 2 : 0;
    cfg.threads = _i / 2 ? 3 : 1;
    for (int p = 1; p <= 4; p++) ranks_ok(p, &cfg, any_order, NULL);
}
END_TEST

/* One rank waits for a small layer while others start all of them: rounds of the bucket must agree. */
static taut_status small_waits(ranks_ctx *c)
{
    taut_layer *l[3];
    float       x[3][40];
    size_t      n = 40;
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 1, &n, &l[i]));
    }
    for (int step = 0; step < 3; step++) {
        for (int i = 0; i < 3; i++)
            for (size_t k = 0; k < n; k++) x[i][k] = ranks_value(c->rank, k, step + i);
        if (c->rank == 0) {
            TAUT_TRY(taut_allreduce_start(l[1], x[1], TAUT_SUM));
            TAUT_TRY(taut_wait(l[1]));
            TAUT_TRY(taut_allreduce_start(l[0], x[0], TAUT_SUM));
            TAUT_TRY(taut_allreduce_start(l[2], x[2], TAUT_MEAN));
            TAUT_TRY(taut_wait(l[2]));
        } else {
            for (int i = 2; i >= 0; i--) TAUT_TRY(taut_allreduce_start(l[i], x[i], i == 2 ? TAUT_MEAN : TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
        TAUT_TRY(taut_allreduce(l[0], x[0], TAUT_SUM)); /* alone */
        for (size_t k = 0; k < n; k++) {
            NEED(fabs((double)x[0][k] - c->size * ranks_sum(c->size, k, step)) < 1e-4);
            NEED(fabs((double)x[1][k] - ranks_sum(c->size, k, step + 1)) < 1e-5);
            NEED(fabs((double)x[2][k] - ranks_sum(c->size, k, step + 2) / c->size) < 1e-5);
        }
    }
    return TAUT_OK;
}
START_TEST(small)
{
    taut_config cfg = quick();
    for (int p = 1; p <= 4; p++) ranks_ok(p, &cfg, small_waits, NULL);
}
END_TEST

/* ---- wrong calls ---- */

static taut_status wrong_calls(ranks_ctx *c)
{
    taut_layer *l, *other;
    float       x[2000] = {0};
    size_t      shape[2] = {40, 50}, first, n;
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, shape, &l));
    NEED(taut_layer_register(c->comm, "w", TAUT_F32, 2, shape, &other) == TAUT_E_INVALID);
    NEED(taut_layer_register(c->comm, "", TAUT_F32, 2, shape, &other) == TAUT_E_INVALID);
    NEED(taut_layer_register(c->comm, "z", TAUT_F32, 9, shape, &other) == TAUT_E_RANGE);
    NEED(taut_layer_codec(l, "nonsense") == TAUT_E_INVALID);
    NEED(taut_layer_codec(l, "quant:bits=9") == TAUT_E_RANGE);
    NEED(strstr(taut_last_error(), "1..8") != NULL);
    NEED(taut_wait(l) == TAUT_E_STATE);
    NEED(strstr(taut_last_error(), "'w'") != NULL);
    TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
    NEED(taut_allreduce_start(l, x, TAUT_SUM) == TAUT_E_STATE);
    NEED(taut_layer_codec(l, "none") == TAUT_E_STATE);
    NEED(taut_layer_scale(l, x, 1) == TAUT_E_STATE);
    TAUT_TRY(taut_wait(l));
    NEED(taut_wait(l) == TAUT_E_STATE);
    NEED(taut_layer_scale(l, x, 1) == TAUT_E_RANGE); /* zero */
    NEED(taut_layer_scale(l, x, 3) == TAUT_E_RANGE);
    NEED(taut_layer_part(l, c->size, &first, &n) == TAUT_E_RANGE);
    return taut_step_end(c->comm);
}
START_TEST(calls)
{
    taut_config cfg = quick();
    ranks_ok(2, &cfg, wrong_calls, NULL);
}
END_TEST

/* ---- ranks that disagree, fail, or stop ---- */

static taut_status other_shape(ranks_ctx *c)
{
    taut_layer *l;
    size_t      shape[2] = {40, 50 + (size_t)(c->rank == 2)};
    float       x[40 * 51] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "same", TAUT_F32, 2, (size_t[]){30, 30}, &l));
    TAUT_TRY(taut_layer_register(c->comm, "odd", TAUT_F32, 2, shape, &l));
    return taut_allreduce(l, x, TAUT_SUM);
}
START_TEST(mismatch)
{
    taut_config cfg = quick();
    ranks_ctx   ctx[4];
    ranks_run(4, &cfg, other_shape, NULL, ctx);
    for (int r = 0; r < 4; r++) {
        ck_assert_int_eq(ctx[r].status, TAUT_E_MISMATCH);
        ck_assert_msg(strstr(ctx[r].error, "'odd'") && strstr(ctx[r].error, "[40,50]") &&
                          strstr(ctx[r].error, "[40,51]"),
                      "%s", ctx[r].error);
    }
}
END_TEST

static taut_status silent_rank(ranks_ctx *c)
{
    taut_layer *l;
    float       x[2000] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){40, 50}, &l));
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    if (c->rank == 1) return TAUT_OK;
    TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
    return taut_wait(l);
}
START_TEST(timeout)
{
    taut_config cfg = quick();
    ranks_ctx   ctx[3];
    cfg.timeout_ms = 300;
    double begin = taut__now();
    ranks_run(3, &cfg, silent_rank, NULL, ctx);
    ck_assert(taut__now() - begin < 10);
    ck_assert_int_eq(ctx[1].status, TAUT_OK);
    for (int r = 0; r < 3; r += 2) ck_assert_msg(ctx[r].status == TAUT_E_TIMEOUT, "%s", ctx[r].error);
}
END_TEST

/* One rank gives up in the middle: all learn of it long before the timeout. */
static taut_status failing_rank(ranks_ctx *c)
{
    taut_layer *l;
    float       x[2000] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){40, 50}, &l));
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    if (c->rank == 1) return taut__engine_fail(&c->comm->ctx.engine, TAUT_E_CORRUPT, "out of toner");
    taut_status s = taut_allreduce(l, x, TAUT_SUM);
    NEED(taut_allreduce(l, x, TAUT_SUM) == s); /* it stays dead */
    return s;
}
START_TEST(failure)
{
    taut_config cfg = quick();
    ranks_ctx   ctx[4];
    double      begin = taut__now();
    ranks_run(4, &cfg, failing_rank, NULL, ctx);
    ck_assert(taut__now() - begin < 5);
    for (int r = 0; r < 4; r++) {
        ck_assert_int_eq(ctx[r].status, r == 1 ? TAUT_E_CORRUPT : TAUT_E_PEER);
        ck_assert_msg(strstr(ctx[r].error, "toner") != NULL, "%s", ctx[r].error);
    }
}
END_TEST

/* ---- NaN and Inf ---- */

static const char *const nan_codecs[] = {"none",
                                         "fp16",
                                         "bf16",
                                         "quant:bits=4",
                                         "quant:rotate=1",
                                         "grid:rel=0.03",
                                         "topk:density=0.1",
                                         "randk:density=0.1",
                                         "powersgd:rank=2"};
static taut_status       with_nan(ranks_ctx *c)
{
    taut_layer *l;
    float       x[64 * 100];
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){64, 100}, &l));
    TAUT_TRY(taut_layer_codec(l, c->arg));
    for (int step = 0; step < 3; step++) {
        for (size_t i = 0; i < 6400; i++) x[i] = ranks_value(c->rank, i, step);
        if (step == 1 && c->rank == c->size - 1) x[3000] = NAN;
        if (step == 1 && c->rank == 0) x[5] = INFINITY;
        TAUT_TRY(taut_allreduce(l, x, TAUT_MEAN));
        TAUT_TRY(ranks_same(c->comm, x, sizeof x));
        size_t bad = 0;
        for (size_t i = 0; i < 6400; i++) bad += !isfinite(x[i]);
        NEED(step == 1 ? !isfinite(x[3000]) && !isfinite(x[5]) : bad == 0);
        for (size_t i = 0; l->operand.feedback && i < 6400; i++) NEED(isfinite(l->operand.feedback->r[i]));
        TAUT_TRY(taut_step_end(c->comm));
    }
    return TAUT_OK;
}
START_TEST(not_finite)
{
    taut_config cfg = quick();
    cfg.feedback = "on";
    for (int p = 2; p <= 3; p++) ranks_ok(p, &cfg, with_nan, (void *)(uintptr_t)nan_codecs[_i]);
}
END_TEST

/* ---- memory ---- */

static _Atomic int lined_up;
static void        line_up(int size) /* all ranks between two collectives */
{
    int mine = atomic_fetch_add(&lined_up, 1), until = (mine / size + 1) * size;
    while (atomic_load(&lined_up) < until) sched_yield();
}
static taut_status no_allocation(ranks_ctx *c)
{
    taut_layer *l[LAYERS], *big;
    float      *buf[LAYERS], *x = malloc(500 * 300 * sizeof *x);
    TAUT_TRY(register_many(c, l, buf));
    TAUT_TRY(taut_layer_register(c->comm, "big", TAUT_F32, 2, (size_t[]){500, 300}, &big));
    TAUT_TRY(taut_layer_codec(big, c->arg));
    size_t before = 0;
    for (int step = 0; step < 5; step++) {
        line_up(c->size);
        if (step == 1) before = taut__alloc_count();
        line_up(c->size);
        for (size_t i = 0; i < 150000; i++) x[i] = ranks_value(c->rank, i, step);
        TAUT_TRY(taut_allreduce_start(big, x, TAUT_SUM));
        for (int i = LAYERS - 1; i >= 0; i--) {
            for (size_t k = 0; k < layer_elems(l[i]); k++) buf[i][k] = ranks_value(c->rank, k, step);
            TAUT_TRY(taut_allreduce_start(l[i], buf[i], TAUT_MEAN));
        }
        TAUT_TRY(taut_step_end(c->comm));
    }
    line_up(c->size);
    size_t after = taut__alloc_count();
    line_up(c->size);
    free(x);
    for (int i = 0; i < LAYERS; i++) free(buf[i]);
    if (after != before)
        return taut__fail(TAUT_E_NOMEM, "%s: %zu allocations after the first step", (char *)c->arg, after - before);
    return TAUT_OK;
}
START_TEST(allocations)
{
    taut_config cfg = quick();
    lined_up = 0;
    ranks_ok(3, &cfg, no_allocation, (void *)(uintptr_t)nan_codecs[_i]);
}
END_TEST

/* Out of memory on one rank in the first step is an error on all, not a hang. */
static taut_status first_step(ranks_ctx *c)
{
    taut_layer *l;
    float       x[6400] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){64, 100}, &l));
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    return taut_step_end(c->comm);
}
START_TEST(out_of_memory)
{
    taut_config cfg = quick();
    int         failed = 0;
    cfg.codec = "topk";
    cfg.timeout_ms = 1000;
    for (int nth = 20; nth < 90; nth += 3) {
        ranks_ctx  ctx[2];
        taut_comm *comms[2];
        taut__alloc_fail_after(nth);
        taut_status s = taut_comm_create_threads(2, &cfg, comms); /* may be what fails */
        taut__alloc_fail_after(-1);
        if (s != TAUT_OK) {
            ck_assert_int_eq(s, TAUT_E_NOMEM);
            continue;
        }
        for (int r = 0; r < 2; r++) taut_comm_destroy(comms[r]);
        taut__alloc_fail_after(nth);
        ranks_run(2, &cfg, first_step, NULL, ctx);
        taut__alloc_fail_after(-1);
        failed += ctx[0].status != TAUT_OK || ctx[1].status != TAUT_OK;
        for (int r = 0; r < 2; r++)
            ck_assert_msg(ctx[r].status == TAUT_OK || ctx[r].status == TAUT_E_NOMEM || ctx[r].status == TAUT_E_PEER ||
                              ctx[r].status == TAUT_E_TIMEOUT,
                          "%s", ctx[r].error);
    }
    ck_assert_int_gt(failed, 0);
}
END_TEST

/* ---- lent buffers: debug builds only ---- */
#ifdef TAUT_DEBUG
static taut_status spoil(ranks_ctx *c)
{
    enum { N = 2000 * 300 };
    taut_layer *l;
    float      *x = calloc(N, sizeof *x);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){2000, 300}, &l));
    if (c->rank > 0) pthread_barrier_wait(c->arg);
    TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
    if (c->rank == 0) x[N - 1] = 1; /* in the last slice: what was sent before waits for the other rank */
    if (c->rank == 0) pthread_barrier_wait(c->arg);
    taut_status s = taut_wait(l);
    free(x);
    return s;
}
START_TEST(lent_buffers)
{
    taut_config       cfg = quick();
    ranks_ctx         ctx[2];
    pthread_barrier_t written;
    pthread_barrier_init(&written, NULL, 2);
    cfg.progress = 2;
    cfg.slice_kib = 64;
    ranks_run(2, &cfg, spoil, &written, ctx);
    pthread_barrier_destroy(&written);
    ck_assert_int_eq(ctx[0].status, TAUT_E_INVALID);
    ck_assert_msg(strstr(ctx[0].error, "'w'") != NULL, "%s", ctx[0].error);
    ck_assert_int_eq(ctx[1].status, TAUT_OK);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("comm");
    TCase *t = suite_case(s, "all", 120);
    int    codecs = (int)(sizeof nan_codecs / sizeof *nan_codecs);
    tcase_add_loop_test(t, orders, 0, 4);
    tcase_add_test(t, small);
    tcase_add_test(t, calls);
    tcase_add_test(t, mismatch);
    tcase_add_test(t, timeout);
    tcase_add_test(t, failure);
    tcase_add_loop_test(t, not_finite, 0, codecs);
    tcase_add_loop_test(t, allocations, 0, codecs);
    tcase_add_test(t, out_of_memory);
#ifdef TAUT_DEBUG
    tcase_add_test(t, lent_buffers);
#endif
    return suite_run(s);
}
