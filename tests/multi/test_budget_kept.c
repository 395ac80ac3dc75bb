/* test_budget_kept.c : codec=auto keeps its budget, as measured from outside in double, on gradients of models that are really trained;
 * uses most of it; and counts what goes over. */
#include "../support/models.h"
#include "comm/base/base.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 400 };

typedef struct scene {
    model_config model;
    const char  *budget, *metric, *feedback, *reference;
    int          steps;
    bool         quick; /* else with LONG=1 */
} scene;

static const scene scenes[] = {
    {{"mlp", false, 0.1, 8, 2}, "rel=0.1", "plain", "off", NULL, 120, true},
    {{"mlp", false, 0.1, 256, 8}, "rel=0.1", "plain", "off", NULL, 60, false},
    {{"mlp", false, 0.1, 64, 4}, "rel=0.03", "layer", "on", NULL, 120, true},
    {{"mlp", true, 0.003, 32, 3}, "rel=0.1", "optimizer", "auto", NULL, 120, true},
    {{"mlp", true, 0.003, 256, 4}, "rel=0.3", "optimizer", "auto", NULL, 80, false},
    {{"mlp", false, 0.1, 128, 4}, "like:quant:bits=4", "layer", "off", "quant:bits=4", 100, true},
    {{"mlp", false, 0.1, 16, 2}, "like:quant:bits=2", "plain", "off", "quant:bits=2", 120, false},
    {{"lstm", false, 0.5, 8, 2}, "rel=0.1", "layer", "on", NULL, 80, true},
    {{"lstm", true, 0.005, 8, 4}, "rel=0.2", "optimizer", "auto", NULL, 80, false},
    {{"lstm", false, 0.5, 16, 4}, "like:quant:bits=4", "layer", "off", "quant:bits=4", 60, false},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

typedef struct tally {
    int    planned, over;
    double used;
} tally;

static void run_scene(const scene *c, tally *all)
{
    static truth_step step[STEPS_MAX];
    taut_config       cfg = TAUT_CONFIG_INIT;
    int               planned = 0, over = 0, unseen = 0, first = -1;
    double            used = 0, worst = 0, first_use = 0, control = 0, two_bits = c->model.ranks == 2 ? 1 : 2.0 * (c->model.ranks - 1) / c->model.ranks;
    model            *m = model_create(&c->model);
    cfg.budget = c->budget;
    cfg.metric = c->metric;
    cfg.feedback = c->feedback;
    cfg.objective = "bytes";
    truth t = {.ranks = c->model.ranks, .layers = model_layers(m), .steps = c->steps, .shape = model_shapes(m), .cfg = cfg,
               .gradient = model_gradient, .scale = model_scale, .step_done = model_step, .reference = c->reference, .model = m, .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    ck_assert(t.same_bits);
    for (int s = 0; s < c->steps; s++) {
        const taut_comm_stats *q = &step[s].stats;
        double                 budget = c->reference ? step[s].reference : q->budget;
        if (!step[s].planned) continue;
        first = first < 0 ? s : first;
        planned++;
        control += (double)step[s].bytes_control / (step[s].elements / 4 * two_bits);
        used += step[s].rel_metric / budget;
        if (s == first) first_use = step[s].rel_metric / budget;
        worst = fmax(worst, step[s].rel_metric / budget);
        if (getenv("TRUTH_STEPS"))
            printf("    %d true %.3e of %.3e; reported %.3e (%.3e..%.3e) of %.3e%s\n", s, step[s].rel_metric, budget, q->rel_err2_metric,
                   q->rel_err2_metric_low, q->rel_err2_metric_high, q->budget, step[s].counted ? " counted" : "");
        if (step[s].rel_metric <= budget) continue;
        over++;
        unseen += !step[s].counted && step[s].rel_metric > q->rel_err2_metric_high * budget / fmin(budget, q->budget);
    }
    printf("  %s %s batch %d, %d ranks, %s %s feedback %s: loss %.3f, %d planned steps use %.2f of the budget, first %.2f, worst %.2f; "
           "%d over, %d unseen; %.1f bits, %llu plans, control %.1f%% of 2 bits\n",
           c->model.kind, c->model.adam ? "adam" : "sgd", c->model.batch, c->model.ranks, c->budget, c->metric, c->feedback, model_loss(m), planned,
           used / planned, first_use, worst, over, unseen, 32.0 * (double)(step[c->steps - 1].stats.bytes_sent - step[c->steps - 1].stats.bytes_probes) / (double)step[c->steps - 1].stats.bytes_dense,
           (unsigned long long)step[c->steps - 1].stats.plans, 100 * control / planned);
    model_destroy(m);
    ck_assert_int_gt(planned, c->steps / 2);
    ck_assert_int_le(over, planned / 20 + 1); /* of all scenes together: 1 of 100 */
    ck_assert_int_eq(unseen, 0);
    ck_assert_double_ge(used / planned, 0.6);
    ck_assert_double_le(first_use, 1.1);
    all->planned += planned, all->over += over, all->used += used;
}

START_TEST(keeps_the_budget)
{
    tally all = {0};
    for (int i = 0; i < SCENES; i++)
        if (scenes[i].quick || getenv("LONG")) run_scene(&scenes[i], &all);
    printf("  %d of %d planned steps over, %.2f of the budget used\n", all.over, all.planned, all.used / all.planned);
    ck_assert_int_le(all.over, all.planned / 100);
    ck_assert_double_ge(all.used / all.planned, 0.7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("budget kept");
    TCase *t = tcase_create("budget kept");
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_set_timeout(t, 500);
    tcase_add_test(t, keeps_the_budget);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
