/* test_plan_changes.c : gradients that become others in one step, for good or now and then. Every step over its budget, which is what the
 * reference makes of this very step, is counted; the plan follows within a few steps; and one odd step costs nothing but itself. */
#include "../support/truth.h"
#include "comm/base/base.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 60, CHANGE = 25, EVERY = 10 };

static const truth_shape shapes[] = {{"a", 192, 160}, {"bias", 1, 192}, {"b", 160, 64}};

typedef enum kind { NOISE, ONES, LEVELS, HEAVY, SPARSE, SMALL, KINDS, LOW = KINDS } kind; /* LOW: nearly of rank two */

static const char *const kind_name[] = {"noise",  "ones",        "two levels", "heavy tails",
                                        "sparse", "small noise", "low rank"};

typedef struct change {
    kind from, to;
    bool odd; /* only every tenth step is `to` */
} change;

static double of_side(int step, int side, size_t i)
{
    return (double)(taut__seed(taut__seed((uint64_t)step, (uint64_t)(1000 + side)), i) >> 11) * 0x1p-52 - 1;
}

static float value(kind k, int rank, int step, size_t i, size_t cols)
{
    size_t   row = i / cols, col = i % cols;
    uint64_t h = taut__seed(taut__seed((uint64_t)step, (uint64_t)rank), i);
    double   u = (double)(h >> 11) * 0x1p-52 - 1;
    switch (k) {
    case ONES: return 1;
    case LEVELS: return taut__mix64(i) & 1 ? 0.6f : -0.6f;
    case HEAVY: return (float)(u * u * u * u * u);
    case SPARSE: return h % 32 ? 0 : (float)u;
    case LOW:
        return (float)(of_side(step, 0, row) * of_side(step, 1, col) + of_side(step, 2, row) * of_side(step, 3, col) +
                       0.01 * u);
    case SMALL: return (float)(1e-3 * u);
    default: return (float)u;
    }
}

static bool changed(const change *c, int step) { return c->odd ? step % EVERY == EVERY - 1 : step >= CHANGE; }

static void fill(truth *t, int rank, int step, int layer, float *g)
{
    const change *c = t->model;
    kind          k = changed(c, step) ? c->to : c->from;
    size_t        cols = t->shape[layer].cols;
    for (size_t i = 0; i < t->shape[layer].rows * cols; i++) g[i] = value(k, rank, step, i, cols);
}

typedef struct seen {
    int planned, over, uncounted, late; /* late: over after the plan has had six steps to follow */
    int compressed;                     /* planned steps with less than half of the bytes */
} seen;

static seen look(const truth *t, const change *c)
{
    seen   r = {0};
    double dense = 0;
    for (int l = 0; l < t->layers; l++) dense += 4.0 * (double)(t->shape[l].rows * t->shape[l].cols);
    for (int s = 0; s < t->steps; s++) {
        const truth_step *x = &t->step[s];
        double            budget = t->reference ? x->reference : x->stats.budget;
        if (!x->planned) continue;
        bool over = x->rel_metric > 1.15 * budget + 1e-9;
        if (over && !c->odd)
            printf("    step %d: %.4g of %.4g, %s\n", s, x->rel_metric, budget, x->counted ? "counted" : "not counted");
        r.planned++;
        r.over += over;
        r.uncounted += over && !x->counted;
        r.late += over && !c->odd && (s < CHANGE || s > CHANGE + 6);
        r.compressed += (double)x->bytes_sent < dense / 2;
    }
    return r;
}

static seen run(change c, const char *budget, const char *objective, int ranks)
{
    static truth_step step[STEPS];
    taut_config       cfg = TAUT_CONFIG_INIT;
    cfg.budget = budget;
    cfg.objective = objective;
    if (strcmp(objective, "bytes") == 0) cfg.link = "100mbit"; /* it asks no clock: no speeds to be measured */
    cfg.timeout_ms = 30000;
    if (strncmp(budget, "like:", 5) == 0) cfg.feedback = "off"; /* the reference is tried on gradients (truth.h) */
    truth t = {.ranks = ranks,
               .layers = 3,
               .steps = STEPS,
               .shape = shapes,
               .cfg = cfg,
               .gradient = fill,
               .reference = strncmp(budget, "like:", 5) == 0 ? budget + 5 : NULL,
               .model = &c,
               .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    ck_assert(t.same_bits);
    seen r = look(&t, &c);
    printf("  %s, %s, %d ranks, %s -> %s%s: %d of %d planned steps over, %d of them unseen, %d late, %d compressed\n",
           budget, objective, ranks, kind_name[c.from], kind_name[c.to], c.odd ? " every tenth" : "", r.over, r.planned,
           r.uncounted, r.late, r.compressed);
    return r;
}

static const char *const budgets[] = {"like:quant:bits=4", "like:quant:bits=2", "rel=0.03"};

START_TEST(plans_follow_changes)
{
    for (kind from = NOISE; from < KINDS; from++)
        for (kind to = NOISE; to < KINDS; to++) {
            if (from == to || (!suite_long() && ((int)from + (int)to + _i) % 6)) continue; /* each change once */
            seen r =
                run((change){from, to, false}, budgets[_i % 3], _i % 2 ? "time" : "bytes", 2 + (int)(from + to) % 3);
            ck_assert_int_eq(r.uncounted, 0);
            ck_assert_int_le(r.over, 7);
            ck_assert_int_le(r.late, 1);
        }
}
END_TEST

/* What a reference that looks at whole tensors makes is measured in every step, too; plans use what it allows. */
START_TEST(references_of_whole_tensors)
{
    static const char *const reference[] = {"like:topk:density=0.05", "like:powersgd:rank=4", "like:grid:step=0.0005"};
    static const kind        from[] = {NOISE, NOISE, SMALL}, to[] = {SPARSE, LOW, NOISE};
    for (int k = 0; k < 3; k++) {
        seen r = run((change){from[k], to[k], false}, reference[k], "bytes", 3);
        ck_assert_int_eq(r.uncounted, 0);
        ck_assert_int_le(r.over, 7);
        ck_assert_int_le(r.late, 1);
        ck_assert_int_ge(r.compressed, CHANGE - 5);
    }
}
END_TEST

/* ---- steps that do not all sum the same layers ---- */

static const truth_shape turn_shapes[] = {{"a", 160, 192}, {"b", 160, 128}, {"c", 96, 128}, {"d", 128, 96}};

typedef struct turns {
    const char *budget, *metric, *reference;
    int         every; /* layers b and d: in one step of so many; the others: 2: in the other one; else always */
} turns;

static bool takes_turn(const truth *t, int step, int layer)
{
    int every = ((const turns *)t->model)->every;
    return layer % 2 ? step % every == 1 : every > 2 || step % every == 0;
}

/* b and d: heavy tails, a hundredth of the others' squares. */
static void fill_turns(truth *t, int rank, int step, int layer, float *g)
{
    for (size_t i = 0; i < t->shape[layer].rows * t->shape[layer].cols; i++) {
        double x = value(NOISE, rank, step, i, 1) + 0.5 * value(NOISE, 99, step, i, 1);
        g[i] = (float)(layer % 2 ? 0.1 * x * x * x : x);
    }
}

START_TEST(layers_that_take_turns)
{
    static truth_step  step[120];
    static const turns all[] = {{"rel=0.1", "plain", NULL, 2},
                                {"like:quant:bits=4", "layer", "quant:bits=4", 2},
                                {"rel=0.1", "layer", NULL, 4}};
    for (int k = 0; k < 3; k++) {
        turns  c = all[k];
        int    over = 0, uncounted = 0, planned = 0;
        double used = 0;
        truth  t = {.ranks = 2 + k % 2,
                    .layers = 4,
                    .steps = 120,
                    .shape = turn_shapes,
                    .cfg = {.size = sizeof t.cfg,
                            .budget = c.budget,
                            .metric = c.metric,
                            .objective = "bytes",
                            .link = "100mbit"},
                    .reference = c.reference,
                    .gradient = fill_turns,
                    .summed = takes_turn,
                    .model = &c,
                    .step = step};
        t.cfg.feedback = "off";
        truth_run(&t);
        ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
        for (int s = 0; s < t.steps; s++) {
            double budget = c.reference ? step[s].reference : step[s].stats.budget;
            if (!step[s].planned) continue;
            planned++, over += step[s].rel_metric > budget, used += step[s].rel_metric / budget;
            uncounted += step[s].rel_metric > 1.15 * budget && !step[s].counted;
        }
        printf("  %s, %s, in turns of %d: %d of %d planned steps over, %d of them unseen; %.2f of the budget used\n",
               c.budget, c.metric, c.every, over, planned, uncounted, used / planned);
        ck_assert_int_le(over, 1);
        ck_assert_int_eq(uncounted, 0);
        ck_assert_double_ge(used / planned, 0.65);
    }
}
END_TEST

START_TEST(an_odd_step_costs_itself)
{
    for (kind from = NOISE; from < KINDS; from++)
        for (kind to = NOISE; to < KINDS; to++) {
            if (from == to || from == ONES || from == LEVELS || (!suite_long() && ((int)from + (int)to + _i) % 6))
                continue;
            seen r = run((change){from, to, true}, budgets[_i % 3], "bytes", 2 + (int)(from + to) % 3);
            ck_assert_int_eq(r.uncounted, 0);
            ck_assert_int_le(r.over, STEPS / EVERY + 1);
            ck_assert_int_ge(r.compressed, r.planned * 9 / 10);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan changes");
    TCase *t = suite_case(s, "plan changes", 180);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_add_loop_test(t, plans_follow_changes, 0, 6);
    tcase_add_test(t, references_of_whole_tensors);
    tcase_add_test(t, layers_that_take_turns);
    tcase_add_loop_test(t, an_odd_step_costs_itself, 0, 3);
    return suite_run(s);
}
