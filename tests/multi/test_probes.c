/* test_probes.c : codec=auto measures the link once there is a layer to plan for, and codecs once a plan is due; where neither is, nothing. */
#include "comm/plan/auto_inside.h"
#include "../support/suite.h"
#include "tests/support/ranks.h"
#include <string.h>

enum { ROWS = 64, COLS = 96 };

static taut_config config(void)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.budget = "rel=0.1", cfg.timeout_ms = suite_patience(10000);
    return cfg;
}

static taut_status add(taut_comm *comm, const char *name, taut_layer **l)
{
    return taut_layer_register(comm, name, TAUT_F32, 2, (size_t[]){ROWS, COLS}, l);
}

static taut_status steps(ranks_ctx *c, taut_layer **l, int layers, int n)
{
    static _Thread_local float g[2][ROWS * COLS];
    for (int s = 0; s < n; s++) {
        for (int i = 0; i < layers; i++) {
            ranks_fill(g[i], ROWS * COLS, c->rank, s);
            TAUT_TRY(taut_allreduce_start(l[i], g[i], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
    }
    return TAUT_OK;
}

static taut_status pinned_then_planned(ranks_ctx *c)
{
    taut_layer     *l[2];
    taut_comm_stats s = {.size = sizeof s};
    TAUT_TRY(add(c->comm, "pinned", &l[0]));
    TAUT_TRY(taut_layer_codec(l[0], "quant:bits=4"));
    TAUT_TRY(steps(c, l, 1, 4));
    TAUT_TRY(taut_comm_get_stats(c->comm, &s));
    NEED(s.bytes_probes == 0 && s.plans == 0 && s.plan_s <= 0);
    NEED(!c->comm->autom->linked && !c->comm->autom->priced);
    TAUT_TRY(add(c->comm, "planned", &l[1]));
    TAUT_TRY(steps(c, l, 2, 6));
    TAUT_TRY(taut_comm_get_stats(c->comm, &s));
    NEED(s.bytes_probes > 0 && s.plan_s > 0);
    NEED(c->comm->autom->linked && c->comm->autom->priced);
    return c->comm->ctx.set.objective == TAUT_OBJECTIVE_BYTES && s.plans == 0 ? taut__fail(TAUT_E_STATE, "no plan")
                                                                              : TAUT_OK;
}
START_TEST(where_all_are_pinned_nothing_is_measured)
{
    taut_config cfg = config();
    cfg.objective = _i ? "bytes" : "time";
    ranks_ok(2 + _i, &cfg, pinned_then_planned, NULL);
}
END_TEST

/* Shared memory is too fast for a start before the first plan. */
static taut_status waits_for_the_plan(ranks_ctx *c)
{
    taut_layer *l;
    TAUT_TRY(add(c->comm, "w", &l));
    TAUT_TRY(steps(c, &l, 1, 2));
    NEED(c->comm->autom->linked && !c->comm->autom->priced);
    TAUT_TRY(steps(c, &l, 1, 8));
    NEED(!c->comm->autom->priced);
    TAUT_TRY(steps(c, &l, 1, 4));
    NEED(c->comm->autom->priced);
    return TAUT_OK;
}
START_TEST(codecs_are_measured_for_the_first_plan)
{
    taut_config cfg = config();
    cfg.start_step = 10;
    ranks_ok(3, &cfg, waits_for_the_plan, NULL);
}
END_TEST

static taut_status one_pins(ranks_ctx *c)
{
    taut_layer *l;
    TAUT_TRY(add(c->comm, "w", &l));
    if (c->rank == 1) TAUT_TRY(taut_layer_codec(l, "quant:bits=4"));
    taut_status s = steps(c, &l, 1, 2);
    NEED(s == TAUT_E_MISMATCH && strstr(taut_last_error(), "auto"));
    return TAUT_OK;
}
START_TEST(ranks_that_differ_in_it_say_so)
{
    taut_config cfg = config();
    ranks_ok(2 + _i, &cfg, one_pins, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("probes");
    TCase *t = suite_case(s, "probes", 60);
    tcase_add_loop_test(t, where_all_are_pinned_nothing_is_measured, 0, 2);
    tcase_add_test(t, codecs_are_measured_for_the_first_plan);
    tcase_add_loop_test(t, ranks_that_differ_in_it_say_so, 0, 2);
    return suite_run(s);
}
