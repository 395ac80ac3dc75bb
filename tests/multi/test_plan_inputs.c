/* test_plan_inputs.c : no gradient, and no reference of a budget, ends training: a plan that cannot be made leaves the last one, or none, in
 * force. And no step leaves its size in the next plan. */
#include "../support/truth.h"
#include "comm/base/base.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 16, LONG_STEPS = 60, SPIKE = 30 };

static const truth_shape shapes[] = {{"a", 64, 64}, {"bias", 1, 64}, {"b", 32, 64}};

typedef enum input {
    ONES,
    PLUS_MINUS,
    LEVELS,
    ONE_HOT,
    ZERO,
    FIRST_ZERO,
    LATE_ZERO,
    LATE_ONES,
    NAN_ONCE,
    RANK,
    COUNT,
    INPUTS
} input;

static double uniform(uint64_t a, uint64_t b, uint64_t i)
{
    return (double)(taut__seed(taut__seed(a, b), i) >> 11) * 0x1p-52 - 1;
}

static float value(input kind, int rank, int step, size_t i)
{
    double noise = uniform((uint64_t)step, (uint64_t)rank, i);
    switch (kind) {
    case ONES: return 1;
    case PLUS_MINUS: return taut__mix64(i) & 1 ? 1 : -1;
    case LEVELS: return (float)(i % 16);
    case ONE_HOT: return i == 777;
    case ZERO: return 0;
    case FIRST_ZERO: return step < 4 ? 0 : (float)noise;
    case LATE_ZERO: return step > 7 ? 0 : (float)noise;
    case LATE_ONES: return step > 7 ? 1 : (float)noise;
    case NAN_ONCE: return step == 1 || step == 9 ? NAN : (float)noise;
    case RANK: return (float)rank;
    default: return (float)i;
    }
}

static void fill(truth *t, int rank, int step, int layer, float *g)
{
    for (size_t i = 0; i < t->shape[layer].rows * t->shape[layer].cols; i++)
        g[i] = value(*(input *)t->model, rank, step, i);
}

static const char *const budgets[] = {"like:quant:bits=4",
                                      "like:powersgd:rank=2",
                                      "like:fp16",
                                      "like:bf16",
                                      "like:topk:density=0.01",
                                      "like:grid:rel=0.1",
                                      "like:randk:density=0.1",
                                      "like:stack:topk:density=0.05+quant:bits=4",
                                      "rel=0.1",
                                      "rel=0.9",
                                      "rel=1e-9"};
enum { BUDGETS = sizeof budgets / sizeof *budgets };

START_TEST(every_input_is_survived)
{
    static truth_step step[STEPS];
    for (input kind = 0; kind < INPUTS; kind++) {
        taut_config cfg = TAUT_CONFIG_INIT;
        cfg.budget = budgets[_i];
        cfg.objective = (_i + (int)kind) % 2 ? "bytes" : "time";
        if ((_i + (int)kind) % 2) cfg.link = "100mbit"; /* it asks no clock: no speeds to be measured */
        cfg.metric = kind % 3 ? "layer" : "plain";
        cfg.replan_steps = 5;
        cfg.timeout_ms = 30000;
        truth t = {.ranks = 2 + (int)kind % 2,
                   .layers = 3,
                   .steps = STEPS,
                   .shape = shapes,
                   .cfg = cfg,
                   .gradient = fill,
                   .model = &kind,
                   .step = step};
        truth_run(&t);
        ck_assert_msg(t.status == TAUT_OK, "%s, input %d: %s", budgets[_i], (int)kind, t.why);
        ck_assert(t.same_bits || kind == NAN_ONCE);
        const taut_comm_stats *q = &step[STEPS - 1].stats;
        ck_assert(isfinite(q->rel_err2) && isfinite(q->budget) && isfinite(q->rel_err2_metric_high));
        bool kept = step[STEPS - 1].rel_metric <= q->budget * 1.1 + 1e-12 ||
                    step[STEPS - 1].counted || /* a step over it is told, or lies inside what is said to be known */
                    step[STEPS - 1].rel_metric <= q->rel_err2_metric_high;
        ck_assert_msg(kind == NAN_ONCE || kept || q->plans == 0, "%s, input %d: %g of %g (reported %g), %s",
                      budgets[_i], (int)kind, step[STEPS - 1].rel_metric, q->budget, q->rel_err2_metric, t.spec[0]);
    }
}
END_TEST

static void draw(truth *t, int rank, int step, int layer, float *g)
{
    double size = step == SPIKE ? *(double *)t->model : 1;
    for (size_t i = 0; i < t->shape[layer].rows * t->shape[layer].cols; i++)
        g[i] = (float)(size *
                       (uniform((uint64_t)step, (uint64_t)rank, i) + uniform((uint64_t)step, 64 + (uint64_t)rank, i)));
}

START_TEST(a_spike_is_not_inherited)
{
    static const truth_shape one[] = {{"w", 256, 256}};
    static const double      sizes[] = {30, 30, 1e-3, 300};
    static truth_step        step[LONG_STEPS];
    double                   size = sizes[_i];
    int                      over = 0, planned = 0;
    taut_config              cfg = TAUT_CONFIG_INIT;
    cfg.objective = "bytes", cfg.link = "100mbit";
    cfg.budget = _i == 1 ? "rel=0.3" : "rel=0.03";
    truth t = {.ranks = 2 + _i % 3,
               .layers = 1,
               .steps = LONG_STEPS,
               .shape = one,
               .cfg = cfg,
               .gradient = draw,
               .model = &size,
               .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    for (int s = 0; s < LONG_STEPS; s++) {
        if (!step[s].planned) continue;
        planned++;
        over += step[s].rel_metric > step[s].stats.budget;
        ck_assert_msg(step[s].rel_metric < 1.15 * step[s].stats.budget, "step %d: %g of %g", s, step[s].rel_metric,
                      step[s].stats.budget);
    }
    printf("  size %g: %d of %d steps over\n", size, over, planned);
    ck_assert_int_le(over, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan inputs");
    TCase *t = suite_case(s, "plan inputs", 180);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_add_loop_test(t, every_input_is_survived, 0, BUDGETS);
    tcase_add_loop_test(t, a_spike_is_not_inherited, 0, 4);
    return suite_run(s);
}
