/* test_feedback_bounds.c : error feedback stays bounded, or is not there. Every spec, algorithm and number of ranks: after many
 * steps results are as large as what was put in. And feedback memory never keeps a NaN or an infinity. Ranks are threads. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* sends: feedback=on is refused where false */
static const struct {
    const char *spec;
    bool        sends;
} specs[] = {
    {"randk:density=0.1", true},
    {"randk:density=0.1,scale=1", false},
    {"randk:density=1,scale=1", true},
    {"topk:density=0.05", true},
    {"quant:bits=1", false},
    {"quant:bits=1,round=nearest", false},
    {"quant:bits=2", true},
    {"quant:bits=2,round=nearest", true},
    {"quant:bits=3,bucket=4096", true},
    {"quant:bits=2,zero=1", false},
    {"quant:bits=2,zero=1,round=nearest", true},
    {"quant:bits=3,zero=1", true},
    {"quant", true},
    {"quant:bits=8", true},
    {"quant:bits=1,norm=linf", false},
    {"quant:bits=2,norm=linf", false},
    {"quant:bits=2,norm=linf,round=nearest", true},
    {"quant:bits=3,norm=linf", true},
    {"quant:norm=linf", true},
    {"quant:bits=1,norm=l2", false},
    {"quant:norm=l2", false},
    {"quant:bits=5,norm=l2", true},
    {"quant:bits=5,norm=l2,bucket=1024", false},
    {"quant:bits=4,norm=l2,bucket=128", true},
    {"quant:bits=4,norm=l2,bucket=256,round=nearest", false},
    {"grid:rel=0.5", true},
    {"grid:rel=0.9", true},
    {"grid:rel=1", false},
    {"grid:step=0.3", true},
    {"grid:rel=0.3,code=rans,dead=0.95", true},
    {"fp16", true},
    {"bf16", true},
    {"powersgd:rank=2", true},
    {"stack:topk:density=0.01+quant:bits=2", true},
    {"stack:topk:density=0.01+quant:bits=1", false},
    {"stack:quant:bits=2+topk:density=0.1", true},
    {"stack:randk:density=0.1,scale=1+quant:bits=4", false},
};
enum { SPECS = sizeof specs / sizeof *specs };

typedef struct course {
    const char *spec;
    int         steps;
    bool        outliers;
} course;

/* Squares of the results of the last third of all steps are about those of the second third. */
static taut_status long_rank(ranks_ctx *c)
{
    enum { ROWS = 32, COLS = 64, N = ROWS * COLS };
    const course *k = c->arg;
    taut_layer   *l;
    float        *x = calloc(N, sizeof *x);
    double        out[3] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < k->steps; step++) {
        for (size_t i = 0; i < N; i++) {
            x[i] = (float)taut__random32(taut__rng_of(5, (uint64_t)(unsigned)c->rank << 32),
                                         (uint32_t)(i + N * (unsigned)step)) /
                       2147483648.0f -
                   1;
            if (k->outliers && i % 61 == 7) x[i] *= 30;
        }
        TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        for (size_t i = 0; i < N; i++) out[3 * step / k->steps] += (double)x[i] * (double)x[i];
        TAUT_TRY(taut_step_end(c->comm));
    }
    free(x);
    if (out[2] < 1.7 * out[1]) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "squares of results by thirds: %.3g, %.3g, %.3g", out[0], out[1], out[2]);
}

static void follow(int i, const char *algorithm, int size, const char *feedback, int kinds)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    ranks_ctx   ctx[4];
    taut_spec   spec;
    cfg.codec = specs[i].spec;
    cfg.feedback = feedback;
    cfg.algorithm = algorithm;
    cfg.progress = 2;
    ck_assert_int_eq(taut__spec_parse(specs[i].spec, &spec), TAUT_OK);
    const taut__algorithm *via = taut__algorithm_by_name(algorithm);
    if (via && via->cannot && via->cannot(&spec)) return;
    for (int outliers = 0; outliers < kinds; outliers++) {
        course k = {specs[i].spec, 60, outliers};
        ranks_run(size, &cfg, long_rank, &k, ctx);
        for (int r = 0; r < size; r++)
            ck_assert_msg(ctx[r].status == TAUT_OK, "%s, feedback=%s, %s, %d ranks%s: %s", specs[i].spec, feedback,
                          algorithm, size, outliers ? ", outliers" : "", ctx[r].error);
    }
}

START_TEST(stays_bounded)
{
    static const struct {
        const char *algorithm;
        int         size;
    } way[] = {{"auto", 2}, {"sra", 4}, {"ring", 4}};
    if (!specs[_i].sends && strcmp(specs[_i].spec, "grid:rel=1") != 0)
        follow(_i, way[0].algorithm, way[0].size, "auto", 2);
    for (int k = 0; k < 3 && specs[_i].sends; k++) follow(_i, way[k].algorithm, way[k].size, "on", 1 + (k == 0));
}
END_TEST

START_TEST(is_refused)
{
    static const char *const mode[] = {"on", "momentum"};
    taut_comm               *comm[2];
    taut_layer              *l;
    for (int i = 0; i < SPECS; i++)
        for (int m = 0; m < 2; m++) {
            taut_config cfg = TAUT_CONFIG_INIT;
            cfg.feedback = mode[m];
            cfg.codec = specs[i].spec;
            taut_status s = taut_comm_create_threads(2, &cfg, comm);
            ck_assert_msg(s == (specs[i].sends ? TAUT_OK : TAUT_E_INVALID), "%s: %s", specs[i].spec, taut_last_error());
            if (s == TAUT_OK) taut_comm_destroy(comm[0]), taut_comm_destroy(comm[1]);
            else
                ck_assert_msg(strstr(taut_last_error(), mode[m]) && strstr(taut_last_error(), "use "), "%s",
                              taut_last_error());
            cfg.codec = i % 2 ? "grid" : "auto"; /* for one layer */
            ck_assert_int_eq(taut_comm_create_threads(1, &cfg, comm), TAUT_OK);
            ck_assert_int_eq(taut_layer_register(comm[0], "w", TAUT_F32, 2, (size_t[]){64, 64}, &l), TAUT_OK);
            s = taut_layer_codec(l, specs[i].spec);
            ck_assert_msg(s == (specs[i].sends ? TAUT_OK : TAUT_E_INVALID), "%s: %s", specs[i].spec, taut_last_error());
            taut_comm_destroy(comm[0]);
        }
}
END_TEST

/* ---- NaN and Inf come and go; results are finite again at once, and so is what is remembered ---- */

static taut_status poisoned_rank(ranks_ctx *c)
{
    enum { ROWS = 32, COLS = 64, N = ROWS * COLS };
    static const float poison[] = {NAN, INFINITY, -INFINITY, 3e38f};
    taut_dtype         dtype = TAUT_F32;
    taut_layer        *l;
    float             *x = calloc(N, sizeof *x);
    TAUT_TRY(taut_layer_register(c->comm, "w", dtype, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < 12; step++) {
        bool bad = step % 4 == 1;
        for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, step);
        if (bad && c->rank == step % c->size) x[17] = x[900 + step] = poison[step / 4 % 4];
        if (step == 10) x[5] = x[1500] = poison[3];
        TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        for (size_t i = 0; l->operand.feedback && i < N; i++) {
            NEED(isfinite(l->operand.feedback->r[i]));
            NEED(!l->operand.feedback->u || isfinite(l->operand.feedback->u[i]));
        }
        NEED(!bad || !isfinite(x[17]));
        if (!bad && step < 10 && (step % 4 != 2 || strcmp(c->arg, "momentum") != 0))
            for (size_t i = 0; i < N; i++) NEED(isfinite(x[i]));
    }
    free(x);
    return TAUT_OK;
}
START_TEST(forgets_what_is_not_finite)
{
    static const char *const mode[] = {"on", "momentum"};
    static const struct {
        const char *algorithm;
        int         size;
    } way[] = {{"auto", 2}, {"sra", 3}, {"ring", 3}};
    for (int i = 0; i < SPECS; i++)
        for (int m = 0; m < 2 && specs[i].sends; m++) {
            taut_config cfg = TAUT_CONFIG_INIT;
            taut_spec   spec;
            ranks_ctx   ctx[3];
            cfg.codec = specs[i].spec;
            cfg.feedback = mode[m];
            cfg.algorithm = way[_i].algorithm;
            cfg.progress = 2;
            ck_assert_int_eq(taut__spec_parse(specs[i].spec, &spec), TAUT_OK);
            const taut__algorithm *via = taut__algorithm_by_name(way[_i].algorithm);
            if (via && via->cannot && via->cannot(&spec)) continue;
            ranks_run(way[_i].size, &cfg, poisoned_rank, (void *)(uintptr_t)mode[m], ctx);
            for (int r = 0; r < way[_i].size; r++)
                ck_assert_msg(ctx[r].status == TAUT_OK, "%s, feedback=%s, %s: %s", specs[i].spec, mode[m],
                              way[_i].algorithm, ctx[r].error);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("feedback_bounds");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, stays_bounded, 0, SPECS);
    tcase_add_test(t, is_refused);
    tcase_add_loop_test(t, forgets_what_is_not_finite, 0, 3);
    return suite_run(s);
}
