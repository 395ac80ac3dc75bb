/* test_scales.c : gradients of any size, from denormals to the largest floats, loss-scaled ones and such as change their size from
 * one step to the next: `grid` keeps its promise and compresses, plans price it so, and finite 16-bit gradients stay finite. Ranks are
 * threads. */
#include "compressors/dispatch.h"
#include "compressors/vec/vec.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double scales[] = {0x1p-149, 1e-44, 1e-42, 1e-40, 1e-38, 1e-36, 1e-30, 1e-20,
                                1e-12,    1e-6,  1,     65536, 1e8,   1e15,  1e30,  1e37};
enum { SCALES = sizeof scales / sizeof *scales, ROWS = 64, COLS = 96, N = ROWS * COLS };

typedef struct job {
    const char *spec;
    double      scale;
    int         steps;
    double      jump; /* a factor on the scale, from step to step */
} job;

static float value(int rank, size_t i, int step, double scale)
{
    return (float)(0.1 * scale * (double)ranks_value(rank, i, step));
}

static double sum_of(int size, size_t i, int step, double scale)
{
    double s = 0;
    for (int r = 0; r < size; r++) s += (double)value(r, i, step, scale);
    return s;
}

/* rel_err2 of `rel`, exact where numbers are so small that their grid is the floats' own. */
static taut_status grid_rank(ranks_ctx *c)
{
    const job  *j = c->arg;
    taut_layer *l;
    double      scale = j->scale;
    float      *x = calloc(N, sizeof *x);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < j->steps; step++, scale *= j->jump) {
        double err = 0, norm = 0;
        for (size_t i = 0; i < N; i++) x[i] = value(c->rank, i, step, scale);
        TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        for (size_t i = 0; i < N; i++) {
            double s = sum_of(c->size, i, step, scale), d = (double)x[i] - s;
            NEED(isfinite(x[i]));
            err += d * d, norm += s * s;
        }
        taut_layer_stats s = {.size = sizeof s};
        TAUT_TRY(taut_layer_get_stats(l, &s));
        if (!(err <= 0.075 * norm) || !(s.bits_per_element < 8 && (s.bits_per_element > 0.05 || err == 0)) ||
            !(s.rel_err2_low <= 0.08))
            return taut__fail(TAUT_E_INVALID, "step %d: rel_err2 %.3g true, %.3g said, %.3g bits", step, err / norm,
                              s.rel_err2, s.bits_per_element);
        TAUT_TRY(ranks_same(c->comm, x, N * sizeof *x));
    }
    free(x);
    return TAUT_OK;
}

static void run_grid(const job *j, int size, const char *feedback, const char *algorithm)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    ranks_ctx   ctx[4];
    cfg.codec = j->spec;
    cfg.feedback = feedback;
    cfg.algorithm = algorithm;
    cfg.progress = 2;
    ranks_run(size, &cfg, grid_rank, (void *)(uintptr_t)j, ctx);
    for (int r = 0; r < size; r++)
        ck_assert_msg(ctx[r].status == TAUT_OK, "%s at %g times %g, %d ranks: %s", j->spec, j->scale, j->jump, size,
                      ctx[r].error);
}

START_TEST(grid_at_any_scale)
{
    job packed = {"grid:rel=0.05", scales[_i], 3, 1}, rans = {"grid:rel=0.05,code=rans", scales[_i], 2, 1};
    run_grid(&packed, 2, "auto", "auto");
    run_grid(&rans, 3, "auto", "sra");
}
END_TEST

/* Loss scaling doubles and halves; spikes; a run from the smallest to the largest. Nine steps and more: statistics are renewed. */
START_TEST(grid_follows_the_scale)
{
    static const job jobs[] = {{"grid:rel=0.05", 1e-3, 12, 1024},
                               {"grid:rel=0.05", 1e30, 12, 1.0 / 65536},
                               {"grid:rel=0.05", 1, 10, 2},
                               {"grid:rel=0.05", 1e-36, 12, 1e6},
                               {"grid:rel=0.05,code=rans", 1e-40, 10, 1e8}};
    run_grid(&jobs[_i], 2 + _i % 2, "auto", "auto");
}
END_TEST

/* One rank's gradient is far smaller than the others', or nothing. */
static taut_status unequal_rank(ranks_ctx *c)
{
    double      small = *(const double *)c->arg, err = 0, norm = 0;
    taut_layer *l;
    float      *x = calloc(N, sizeof *x);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (size_t i = 0; i < N; i++) x[i] = value(c->rank, i, 0, c->rank ? 1000 : small);
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    for (size_t i = 0; i < N; i++) {
        double s = 0;
        for (int r = 0; r < c->size; r++) s += (double)value(r, i, 0, r ? 1000 : small);
        err += ((double)x[i] - s) * ((double)x[i] - s), norm += s * s;
    }
    NEED(err <= 0.075 * norm && err > 0.03 * norm); /* and no smaller than it need be */
    taut_layer_stats s = {.size = sizeof s};
    TAUT_TRY(taut_layer_get_stats(l, &s));
    NEED(s.bits_per_element < 4 && (s.bits_per_element > 0.5 || c->rank == 0)); /* raw ones do not count as encoded */
    free(x);
    return TAUT_OK;
}
START_TEST(grid_with_unequal_ranks)
{
    static double small[] = {0, 1e-40, 1e-15, 1e-6, 1e3};
    taut_config   cfg = TAUT_CONFIG_INIT;
    cfg.codec = "grid:rel=0.05";
    for (int size = 2; size < 5; size++) ranks_ok(size, &cfg, unequal_rank, &small[_i]);
}
END_TEST

/* codec=auto, by bytes: compresses as it does at scale 1. */
static taut_status auto_rank(ranks_ctx *c)
{
    const job       *j = c->arg;
    taut_layer      *l;
    taut_layer_stats s = {.size = sizeof s};
    float           *x = calloc(N, sizeof *x);
    double           scale = j->scale;
    uint64_t         before[2] = {0, 0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < j->steps; step++, scale *= step == 8 ? j->jump : 1) {
        for (size_t i = 0; i < N; i++) x[i] = value(c->rank, i, step, scale);
        TAUT_TRY(taut_allreduce(l, x, TAUT_MEAN));
        TAUT_TRY(taut_step_end(c->comm));
        TAUT_TRY(taut_layer_get_stats(l, &s));
        if (step == 11) before[0] = s.bytes_sent, before[1] = s.bytes_dense;
    }
    free(x);
    double ratio = (double)(s.bytes_sent - before[0]) / (double)(s.bytes_dense - before[1]);
    if (ratio < 0.2 && s.rel_err2 < 0.2) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "codec %s: sent %.3g of the bytes, rel_err2 %.3g", s.codec, ratio, s.rel_err2);
}
START_TEST(auto_at_any_scale)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    job         j[] = {{"auto", scales[_i], 18, 1}, {"auto", scales[_i], 18, scales[_i] < 1e20 ? 4096 : 1.0 / 4096}};
    cfg.codec = "auto";
    cfg.objective = "bytes";
    cfg.replan_steps = 4;
    for (int k = 0; k < 2; k++) {
        ranks_ctx ctx[2];
        if (scales[_i] < 1e-40) continue; /* of fewer than eight bits, which other codecs take as well */
        ranks_run(2, &cfg, auto_rank, &j[k], ctx);
        for (int r = 0; r < 2; r++)
            ck_assert_msg(ctx[r].status == TAUT_OK, "at %g, then times %g: %s", j[k].scale, j[k].jump, ctx[r].error);
    }
}
END_TEST

/* ---- 16 bits: finite gradients near the largest number stay finite, and what does not fit comes later ---- */

static const char *const narrow[] = {"quant:bits=4",
                                     "quant:bits=3,norm=linf",
                                     "grid:rel=0.3",
                                     "grid:rel=0.2,code=rans",
                                     "topk:density=0.2",
                                     "fp16",
                                     "bf16",
                                     "randk:density=0.3",
                                     "powersgd:rank=2",
                                     "stack:topk:density=0.1+quant:bits=4"};
enum { NARROW = sizeof narrow / sizeof *narrow };

typedef struct half_job {
    taut_dtype dtype;
    taut_op    op;
    double     most; /* of the sum of all ranks, or of each */
    bool       gathers;
} half_job;

static void to_half(const half_job *j, uint16_t *h, const float *x)
{
    const taut__vec_kernels *v = taut__simd_get()->vec;
    if (j->dtype == TAUT_F16) v->to_f16(h, x, N);
    else v->to_bf16(h, x, N);
}
static void from_half(const half_job *j, float *x, const uint16_t *h)
{
    const taut__vec_kernels *v = taut__simd_get()->vec;
    if (j->dtype == TAUT_F16) v->from_f16(x, h, N);
    else v->from_bf16(x, h, N);
}

static taut_status half_rank(ranks_ctx *c)
{
    enum { STEPS = 12 };
    const half_job *j = c->arg;
    taut_layer     *l;
    uint16_t       *h = calloc(N, sizeof *h);
    float          *x = calloc(N, sizeof *x);
    double         *put = calloc(N, sizeof *put), *got = calloc(N, sizeof *got), off = 0, most = j->most;
    TAUT_TRY(taut_layer_register(c->comm, "w", j->dtype, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < STEPS; step++) {
        for (size_t i = 0; i < N; i++) x[i] = (float)(most * (i % 3 ? 1.0 : (i + (size_t)step) % 5 ? 0.9 : -0.3));
        to_half(j, h, x);
        from_half(j, x, h);
        for (size_t i = 0; i < N; i++) put[i] += (double)x[i];
        TAUT_TRY(j->gathers ? taut_allgather(l, h) : taut_allreduce(l, h, j->op));
        TAUT_TRY(taut_step_end(c->comm));
        from_half(j, x, h);
        for (size_t i = 0; i < N; i++) {
            NEED(isfinite(x[i]));
            got[i] += (double)x[i];
        }
    }
    if (!j->gathers && l->operand.feedback_on) { /* what was put in has come out, or is still remembered by some rank */
        double *left = calloc(N, sizeof *left), factor = j->op == TAUT_MEAN ? 1.0 / c->size : 1;
        for (size_t i = 0; i < N; i++) left[i] = (double)l->operand.feedback->r[i] / most;
        TAUT_TRY(taut__context_sum(&c->comm->ctx, left, N));
        for (size_t i = 0; i < N; i++) {
            double in = put[i] * (j->op == TAUT_MEAN ? 1 : c->size), d = (in - got[i]) / most - left[i] * factor;
            off = fmax(off, fabs(d));
        }
        free(left);
        if (!(off < STEPS * (j->dtype == TAUT_F16 ? 0.002 : 0.015)))
            return taut__fail(TAUT_E_INVALID, "%.3g times the largest number is lost", off);
    }
    free(h), free(x), free(put), free(got);
    return TAUT_OK;
}
START_TEST(finite_halves_stay_finite)
{
    static const half_job    jobs[] = {{TAUT_F16, TAUT_MEAN, 65504, false},
                                       {TAUT_F16, TAUT_SUM, 65504 / 3.0, false},
                                       {TAUT_BF16, TAUT_SUM, 0x1.fep127 / 64, false},
                                       {TAUT_F16, TAUT_SUM, 65504, true},
                                       {TAUT_BF16, TAUT_SUM, 0x1.fep127 / 2, true}}; /* float32 itself ends there */
    static const char *const algorithm[] = {"auto", "sra", "ring", "gather", "native"};
    const half_job          *j = &jobs[_i / 5];
    for (int i = 0; i < NARROW; i++)
        for (int feedback = 0; feedback < 2; feedback++) {
            taut_config cfg = TAUT_CONFIG_INIT;
            ranks_ctx   ctx[3];
            taut_spec   spec;
            cfg.codec = narrow[i];
            cfg.algorithm = algorithm[_i % 5];
            cfg.feedback = feedback ? "on" : "off";
            cfg.progress = 2;
            ck_assert_int_eq(taut__spec_parse(narrow[i], &spec), TAUT_OK);
            const taut__algorithm *via = taut__algorithm_by_name(cfg.algorithm);
            bool sliceable = taut__spec_caps(&spec) & TAUT_CAP_SLICEABLE && !taut__spec_codec(&spec)->linear;
            if ((via && via->cannot && via->cannot(&spec)) || (j->gathers && (!sliceable || _i % 5 == 4))) continue;
            if (j->dtype == TAUT_BF16 && strcmp(narrow[i], "fp16") == 0) continue; /* its range is too small */
            ranks_run(3, &cfg, half_rank, (void *)(uintptr_t)j, ctx);
            for (int r = 0; r < 3; r++)
                ck_assert_msg(ctx[r].status == TAUT_OK, "%s, dtype %d, %s%s, %s, feedback=%s: %s", narrow[i],
                              (int)j->dtype, j->op == TAUT_SUM ? "sum" : "mean", j->gathers ? " (allgather)" : "",
                              cfg.algorithm, cfg.feedback, ctx[r].error);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scales");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, grid_at_any_scale, 0, SCALES);
    tcase_add_loop_test(t, grid_follows_the_scale, 0, 5);
    tcase_add_loop_test(t, grid_with_unequal_ranks, 0, 5);
    tcase_add_loop_test(t, auto_at_any_scale, 0, SCALES);
    tcase_add_loop_test(t, finite_halves_stay_finite, 0, 25);
    return suite_run(s);
}
