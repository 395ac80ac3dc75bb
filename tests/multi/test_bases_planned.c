/* test_bases_planned.c : codec=auto finds a basis where it pays, and leaves it where it does not, or does no longer. Ranks are threads. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include "comm/plan/auto_inside.h"
#include "compressors/grid/grid.h"
#include <math.h>
#include <stdio.h>

enum { SIDE = 64, LONG = 160, CHANGE = 46, END = 95 };

/* kind 0: few directions; 1: none; 2: the first until step CHANGE, then the second. What is left has tails as gradients have: of values without any
 * a change of basis makes Gaussian ones, which take fewer bits. */
static void draw(int kind, int rank, int step, float *x)
{
    bool few = kind == 0 || (kind == 2 && step < CHANGE);
    for (size_t i = 0; i < SIDE * LONG; i++) {
        size_t row = i / SIDE, col = i % SIDE;
        x[i] = 0.6f * ranks_noise(rank + 20 * kind, i, step) * ranks_noise(rank + 40, i, step) *
               ranks_noise(rank + 60, i, step);
        for (int k = 0; k < 3 && few; k++) x[i] += ranks_noise(k, row, 100 + step) * ranks_noise(k + 3, col, 200);
    }
}

typedef struct found {
    bool   gives;       /* the program makes it from something */
    bool   turns[3][2]; /* before the change; in all steps from then on */
    double budget, violations;
} found;

static taut_status planned_rank(ranks_ctx *c)
{
    static float x[4][3][SIDE * LONG];
    found       *f = c->arg;
    taut_layer  *l[3];
    char         name[4];
    for (int k = 0; k < 3; k++) {
        snprintf(name, sizeof name, "w%d", k);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){LONG, SIDE}, &l[k]));
    }
    for (int step = 0; step < END; step++) {
        for (int k = 0; k < 3; k++) {
            draw(k, c->rank, step, x[c->rank][k]);
            TAUT_TRY(taut_allreduce_start(l[k], x[c->rank][k], TAUT_MEAN));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int k = 0; k < 3; k++) {
            TAUT_TRY(ranks_same(c->comm, x[c->rank][k], sizeof x[0][k]));
            if (f->gives) TAUT_TRY(taut_layer_basis(l[k], x[c->rank][k], SIDE * LONG));
            if (c->rank == 0 && step == CHANGE - 1) f->turns[k][0] = f->turns[k][1] = taut__spec_basis(&l[k]->spec) > 0;
            if (c->rank == 0 && step >= CHANGE) f->turns[k][1] &= taut__spec_basis(&l[k]->spec) > 0;
        }
    }
    taut_comm_stats s = {.size = sizeof s};
    TAUT_TRY(taut_comm_get_stats(c->comm, &s));
    if (c->rank == 0) f->budget = s.rel_err2_metric / s.budget, f->violations = (double)s.budget_violations;
    return TAUT_OK;
}

/* A program that gives its momentum late: by then residuals of a codec without a basis are in what is coded, 0.7 of the gradients' squares, and lie
 * in no few directions. */
static taut_status momentum_late_rank(ranks_ctx *c)
{
    enum { LATE = 30 };
    static float x[2][SIDE * LONG];
    float       *g = x[c->rank];
    taut_layer  *l;
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){LONG, SIDE}, &l));
    for (int step = 0; step < LATE + 30; step++) {
        draw(0, c->rank, step, g);
        for (size_t i = 0; i < SIDE * LONG; i++) g[i] += 0.85f * ranks_noise(c->rank + 90, i, step);
        TAUT_TRY(taut_allreduce(l, g, TAUT_MEAN));
        TAUT_TRY(taut_step_end(c->comm));
        if (step >= LATE) TAUT_TRY(taut_layer_basis(l, g, SIDE * LONG));
    }
    *(size_t *)c->arg = taut__spec_basis(&l->spec);
    return TAUT_OK;
}

/* Gradients whose distribution does not change, in layers of other tails and norms, under feedback: what is coarser now has larger residuals soon, so a
 * plan that looked at errors of today alone would be over in that layer, and move it back, and so on. How often a step of a layer changes by more
 * than a third, once the first plans are made. In the last step no layer makes the error that it is said to be asked for, which is a fifth of that. */
enum { TAILS = 5, STEPS = 120 };

typedef struct steady {
    int changes, honest, honest_then; /* then: in the last step */
} steady;

static taut_status steady_rank(ranks_ctx *c)
{
    static float x[3][SIDE * LONG];
    float       *g = x[c->rank];
    taut_layer  *l[TAILS];
    double       rel[TAILS] = {0};
    char         name[4];
    for (int k = 0; k < TAILS; k++) {
        snprintf(name, sizeof name, "w%d", k);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){LONG, SIDE}, &l[k]));
    }
    steady *got = c->arg;
    for (int step = 0; step < STEPS; step++) {
        taut__auto *a = c->comm->autom;
        for (int k = 0; k < TAILS && step == STEPS - 1; k++) a->layer_plans[k].error_scale *= 0.2;
        for (int k = 0; k < TAILS; k++) {
            for (size_t i = 0; i < SIDE * LONG; i++) {
                g[i] = ranks_noise(c->rank + 20 * k, i, step);
                for (int tail = 0; tail < k; tail++)
                    g[i] *= 2 * ranks_noise(c->rank + 20 * k + 100 * tail + 5, i, step);
            }
            TAUT_TRY(taut_allreduce(l[k], g, TAUT_MEAN));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int k = 0; k < TAILS && c->rank == 0; k++) {
            double now = l[k]->spec.stage[0].codec == &taut__codec_grid ? l[k]->spec.stage[0].value[GRID_KEY_REL] : 0;
            if (step == STEPS - 2) got->honest += a->watch[k].honest;
            if (step == STEPS - 1) got->honest_then += a->watch[k].honest;
            got->changes += step > 40 && fabs(log(now / rel[k])) > log(1.33);
            rel[k] = now;
        }
    }
    return TAUT_OK;
}

START_TEST(plans_stand_under_feedback)
{
    enum { STARTS = 5 };
    int changes = 0;
    for (uint32_t start = 1; start <= STARTS; start++) { /* where the first plan finds the layers is chance */
        taut_config cfg = TAUT_CONFIG_INIT;
        steady      got = {0};
        cfg.codec = "auto", cfg.objective = "bytes", cfg.budget = "rel=0.5", cfg.link = "100mbit", cfg.metric = "plain",
        cfg.replan_steps = 12, cfg.start_step = start;
        ranks_ok(3, &cfg, steady_rank, &got);
        changes += got.changes;
        ck_assert(got.honest == TAILS && got.honest_then == 0);
    }
    ck_assert_int_le(changes, 3 * STARTS);
}
END_TEST

START_TEST(momentum_comes_late)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    size_t      directions = 0;
    cfg.codec = "auto", cfg.objective = "bytes", cfg.budget = "rel=0.4", cfg.link = "100mbit", cfg.metric = "plain",
    cfg.replan_steps = 10;
    ranks_ok(2, &cfg, momentum_late_rank, &directions);
    ck_assert(directions == 32);
}
END_TEST

START_TEST(planned)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    found       f = {.gives = _i != 1};
    cfg.codec = "auto", cfg.objective = "bytes", cfg.budget = "rel=0.2", cfg.link = "100mbit", cfg.metric = "plain",
    cfg.replan_steps = 15;
    ranks_ok(2 + _i / 2, &cfg, planned_rank, &f);
    if (!f.gives) {
        for (int k = 0; k < 3; k++) ck_assert(!f.turns[k][0]);
        return;
    }
    ck_assert_msg(f.turns[0][0] && f.turns[0][1] && !f.turns[1][0] && !f.turns[1][1] && f.turns[2][0] && !f.turns[2][1],
                  "%d%d %d%d %d%d", f.turns[0][0], f.turns[0][1], f.turns[1][0], f.turns[1][1], f.turns[2][0],
                  f.turns[2][1]);
    ck_assert_msg(f.violations < 10, "%g of the budget, %g steps over it", f.budget, f.violations);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bases, planned");
    TCase *t = suite_case(s, "multi", 120);
    tcase_add_loop_test(t, planned, 0, suite_long() ? 3 : 1);
    tcase_add_test(t, momentum_comes_late);
    tcase_add_test(t, plans_stand_under_feedback);
    return suite_run(s);
}
