/* test_arms.c : codec=auto keeps a plan of each kind on offer, whichever it predicts to be the fastest, so that measuring can tell that a prediction
 * was wrong. Ranks are threads; the link is told. */
#include "comm/plan/auto_inside.h"
#include "compressors/grid/grid.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>

enum { ENTROPY = 1, OTHERS = 2, FAST = 3, STEPS = 6, LAYERS = 2, CASES = 6, BIAS = 4096 };

typedef struct row {
    size_t      rows, cols;
    const char *budget, *link;
} row;
static const row table[CASES] = {{128, 128, "rel=0.04", "100mbit"},       {64, 64, "rel=0.04", "10gbit"},
                                 {256, 96, "rel=0.1", "100gbit"},         {128, 128, "like:quant:bits=4", "10gbit"},
                                 {200, 48, "like:quant:bits=4", "1gbit"}, {96, 512, "rel=0.01", "25gbit"}};

/* Of Laplacian noise, as real gradients are. */
static float value(int rank, int step, size_t i)
{
    double u = ((double)(taut__seed(taut__seed((uint64_t)step, (uint64_t)rank), i) >> 11) + 0.5) * 0x1p-53;
    return (float)copysign(log(1 - fabs(2 * u - 1)), u - 0.5);
}

/* In a plan of layers that are no bundle. */
static bool holds(const taut__auto *a, int arm, const char *what)
{
    for (size_t l = 0; l < a->layers; l++)
        if (!a->layer_plans[l].layer->careful && strstr(a->offers->o.option[a->arms.option[arm][l]].spec, what))
            return true;
    return false;
}

static bool slower(const taut__auto *a, int arm)
{
    return holds(a, arm, "grid") || holds(a, arm, "topk") || holds(a, arm, "powersgd");
}

static taut_status offers(ranks_ctx *c)
{
    const row  *r = c->arg;
    size_t      n = r->rows * r->cols;
    taut_layer *layer[LAYERS], *small;
    float       bias[BIAS];
    float      *x = malloc(LAYERS * n * sizeof *x);
    taut_status s = x ? TAUT_OK : TAUT_E_NOMEM;
    for (int l = 0; s == TAUT_OK && l < LAYERS; l++)
        s = taut_layer_register(c->comm, l ? "b" : "a", TAUT_F32, 2, (size_t[]){r->rows, r->cols}, &layer[l]);
    if (s == TAUT_OK) s = taut_layer_register(c->comm, "bias", TAUT_F32, 1, (size_t[]){BIAS}, &small);
    for (int step = 0; s == TAUT_OK && step < STEPS; step++) {
        for (size_t i = 0; i < BIAS; i++) bias[i] = value(c->rank, step + 100, i);
        s = taut_allreduce_start(small, bias, TAUT_MEAN);
        for (size_t i = 0; i < LAYERS * n; i++) x[i] = value(c->rank, step, i);
        for (int l = 0; s == TAUT_OK && l < LAYERS; l++)
            s = taut_allreduce_start(layer[l], x + (size_t)l * n, TAUT_MEAN);
        if (s == TAUT_OK) s = taut_step_end(c->comm);
    }
    free(x);
    TAUT_TRY(s);
    const taut__auto *a = c->comm->autom;
    NEED(a->arms.there);
    const taut__arm_offer *o = a->arms.offer;
    NEED(o[TAUT_ARM_DENSE].offered && o[FAST].offered && (o[OTHERS].offered || o[ENTROPY].offered));
    for (int i = 0; i < TAUT_ARMS; i++) {
        NEED(!o[i].offered || o[i].predicted > 0);
        for (int k = 0; k < i; k++) NEED(!o[i].offered || !o[k].offered || o[i].plan != o[k].plan);
    }
    NEED(!o[ENTROPY].offered || holds(a, ENTROPY, "rans"));
    NEED(!o[OTHERS].offered || (!holds(a, OTHERS, "rans") && slower(a, OTHERS)));
    NEED(!holds(a, FAST, "rans") && !slower(a, FAST));
    return TAUT_OK;
}

START_TEST(every_kind_is_on_offer)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    row         r = table[_i];
    cfg.timeout_ms = 30000;
    cfg.codec = "auto";
    cfg.objective = "time";
    cfg.budget = r.budget;
    for (int told = 0; told < 2; told++)
        for (int ranks = 2; ranks <= 4; ranks++) {
            cfg.link = told ? r.link : NULL; /* else measured: of shared memory */
            ranks_ok(ranks, &cfg, offers, &r);
        }
}
END_TEST

/* What a layer's grid is asked for after a plan that was kept, as it was tuned, is what it is asked for when a trial of another arm is over. */
static taut_status back_again(ranks_ctx *c)
{
    enum { SIDE = 128, LONGEST = 200 };
    static float     x[2][SIDE * SIDE];
    taut_layer      *layer;
    taut__auto      *a = c->comm->autom;
    taut__layer_plan was;
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){SIDE, SIDE}, &layer));
    for (int step = 0; step < LONGEST; step++) {
        for (size_t i = 0; i < SIDE * SIDE; i++) x[c->rank][i] = value(c->rank, step, i);
        TAUT_TRY(taut_allreduce(layer, x[c->rank], TAUT_MEAN));
        TAUT_TRY(taut_step_end(c->comm));
        was = a->layer_plans[0];
        if (a->arms.kept > 0 && a->planned_at + 1 == a->step && fabs(was.error_scale - 1) > 0.03) break;
    }
    int              arm = a->arms.now;
    const taut_spec *spec = &layer->planned.spec;
    double           rel = spec->stage[0].value[GRID_KEY_REL];
    NEED(arm > 0 && arm == a->arms.kept && taut__spec_codec(spec) == &taut__codec_grid);
    for (int again = 0; again < 2; again++) {
        TAUT_TRY(taut__arms_switch(a, TAUT_ARM_DENSE));
        NEED(taut__spec_caps(spec) & TAUT_CAP_LOSSLESS);
        TAUT_TRY(taut__arms_switch(a, arm));
        double now = spec->stage[0].value[GRID_KEY_REL] * a->layer_plans[0].error_scale;
        NEED(fabs(now / (rel * was.error_scale) - 1) < 0.01);
    }
    return TAUT_OK;
}

START_TEST(a_trial_leaves_what_was_tuned)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = "auto", cfg.objective = "time", cfg.budget = "rel=0.1", cfg.link = "100mbit", cfg.metric = "plain";
    cfg.replan_steps = 10;
    ranks_ok(2, &cfg, back_again, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("arms");
    tcase_add_loop_test(suite_case(s, "offers", 0), every_kind_is_on_offer, 0, CASES);
    tcase_add_test(suite_case(s, "tuned", 0), a_trial_leaves_what_was_tuned);
    return suite_run(s);
}
