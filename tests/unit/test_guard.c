/* test_guard.c : shares, violations, who goes to a safer codec and when, steering. */
#include "scheduler/guard.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>

enum { N = 3 };
static const double budget = 0.16, planned[N] = {1, 2, 5};
static taut__guard  g;
static taut__watch  w[N];

static void setup(void)
{
    taut__guard_init(&g);
    for (int l = 0; l < N; l++) w[l] = (taut__watch){0};
    taut__guard_allow(planned, N, w);
}

static bool step(double a, double b, double c) { return taut__guard_step(&g, (double[]){a, b, c}, 100, budget, N, w); }

START_TEST(shares_add_up)
{
    ck_assert_double_eq_tol(w[0].share, 0.125, 1e-12);
    ck_assert_double_eq_tol(w[0].share + w[1].share + w[2].share, 1, 1e-12);
    taut__guard_allow((double[]){0, 0, 0}, N, w);
    ck_assert_double_eq(w[1].share, 0);
    ck_assert(!step(0, 0, 0)); /* nothing compressed: nothing to guard */
    ck_assert(!w[0].safer && !w[1].safer);
}
END_TEST

START_TEST(quiet_within_the_budget)
{
    for (int i = 0; i < 10; i++) ck_assert(!step(1.9, 3.9, 9.9));
    ck_assert_uint_eq(g.violations, 0);
    ck_assert_double_eq_tol(g.error, 0.157, 1e-12);
    for (int l = 0; l < N; l++) ck_assert(!w[l].safer);
}
END_TEST

START_TEST(violation_is_counted_and_acted_upon_at_once)
{
    ck_assert(step(1.0, 7.9, 9.9));
    ck_assert_uint_eq(g.violations, 1);
    ck_assert(!w[0].safer && w[1].safer && !w[2].safer);
}
END_TEST

/* What follows the guard's own scale is left to that, unless the plan was wrong about it. */
START_TEST(tunable_layers_are_steered)
{
    w[1].tunable = true;
    ck_assert(step(1.0, 7.9, 9.9));
    ck_assert(!w[1].safer);
    ck_assert(step(1.0, 12, 9.9));
    ck_assert(w[1].safer);
}
END_TEST

/* What others leave unspent is lent: within the budget nobody is over its share. */
START_TEST(small_excess_is_lent_what_others_leave)
{
    for (int i = 0; i < 10; i++) ck_assert(!step(2.5, 1, 1));
    for (int l = 0; l < N; l++) ck_assert(!w[l].safer);
    ck_assert(step(2.5, 4.1, 9.9)); /* nothing left to lend */
    ck_assert(w[0].safer && w[1].safer && !w[2].safer);
}
END_TEST

/* A budget of its own in every step. */
START_TEST(budgets_may_change)
{
    double error[N] = {1, 2, 5};
    ck_assert(!taut__guard_step(&g, error, 100, 0.081, N, w));
    ck_assert(taut__guard_step(&g, error, 100, 0.079, N, w));
    ck_assert_double_eq(g.budget, 0.079);
}
END_TEST

/* Steps whose error is scale * plan * noise: it settles below the budget, near the target, and never far over it. */
static void steered(double planned_share, double noise, double measured, double *mean, int *over)
{
    taut__rng rng = taut__rng_of(7, 0);
    enum { STEPS = 2000, SETTLED = 50 };
    *mean = 0;
    *over = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
        double u = (double)taut__random32(rng, 2 * i) / 4294967296.0 - 0.5,
               v = (double)taut__random32(rng, 2 * i + 1) / 4294967296.0 - 0.5;
        double e =
            g.error_scale * planned_share * budget * exp(noise * u * sqrt(12)) * 100; /* uniform, deviation `noise` */
        step(e * (1 + measured * v * sqrt(12)), 0, 0);
        taut__guard_steer(&g, measured);
        if (i < SETTLED) continue;
        *over += e / 100 > budget;
        *mean += e / 100 / budget / (STEPS - SETTLED);
    }
}

START_TEST(steering_uses_the_budget_and_keeps_it)
{
    static const struct {
        double share, noise, measured, least;
        int    most;
    } cases[] = {{0.9, 0.01, 0, 0.9, 0},
                 {1.3, 0.05, 0, 0.75, 0},
                 {0.5, 0.05, 0, 0.75, 0},
                 {0.9, 0.1, 0, 0.68, 2},
                 {0.9, 0.02, 0.05, 0.7, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double mean;
        int    over;
        setup();
        steered(cases[i].share, cases[i].noise, cases[i].measured, &mean, &over);
        ck_assert_msg(mean > cases[i].least && mean < 0.97, "case %zu: mean %g of the budget", i, mean);
        ck_assert_msg(over <= cases[i].most, "case %zu: %d steps over the budget", i, over);
    }
}
END_TEST

START_TEST(steering_comes_down_at_once)
{
    step(20, 0, 0); /* 1.25 times the budget */
    taut__guard_steer(&g, 0);
    ck_assert_double_lt(g.error_scale * 1.25, 1);
    setup();
    step(0, 0, 0); /* nothing compressed: nothing learnt */
    taut__guard_steer(&g, 0);
    ck_assert_double_eq(g.error_scale, 1);
}
END_TEST

START_TEST(far_from_the_plan_calls_for_another)
{
    ck_assert(!taut__guard_strained(g.error_scale));
    for (int i = 0; i < 40; i++) {
        step(0.5 * g.error_scale, 0, 0);
        taut__guard_steer(&g, 0);
    }
    ck_assert(taut__guard_strained(g.error_scale));
}
END_TEST

START_TEST(double_the_share_is_acted_upon_at_once)
{
    ck_assert(!step(4.5, 1, 1));
    ck_assert(w[0].safer && !w[1].safer);
}
END_TEST

/* More came in than was planned for, and no larger a part of it was lost: a finer codec is of use only if the budget is exceeded. */
START_TEST(what_has_grown_is_left_alone)
{
    w[0].honest = true;
    ck_assert(!step(4.5, 1, 1));
    ck_assert(!w[0].safer);
    ck_assert(step(15, 1, 1));
    ck_assert(w[0].safer);
}
END_TEST

START_TEST(norm_change)
{
    ck_assert(!taut__norm_changed(1, 1, 0.5));
    ck_assert(!taut__norm_changed(1, 1.9, 0.5)); /* norm times 1.38 */
    ck_assert(taut__norm_changed(1, 2.3, 0.5));  /* norm times 1.52 */
    ck_assert(taut__norm_changed(1, 0.2, 0.5));
    ck_assert(taut__norm_changed(0, 1, 0.5));
    ck_assert(taut__norm_changed(1, 0, 0.5));
    ck_assert(!taut__norm_changed(0, 0, 0.5));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("guard");
    TCase *t = suite_case(s, "guard", 0);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, shares_add_up);
    tcase_add_test(t, quiet_within_the_budget);
    tcase_add_test(t, violation_is_counted_and_acted_upon_at_once);
    tcase_add_test(t, tunable_layers_are_steered);
    tcase_add_test(t, small_excess_is_lent_what_others_leave);
    tcase_add_test(t, budgets_may_change);
    tcase_add_test(t, steering_uses_the_budget_and_keeps_it);
    tcase_add_test(t, steering_comes_down_at_once);
    tcase_add_test(t, far_from_the_plan_calls_for_another);
    tcase_add_test(t, double_the_share_is_acted_upon_at_once);
    tcase_add_test(t, what_has_grown_is_left_alone);
    tcase_add_test(t, norm_change);
    return suite_run(s);
}
