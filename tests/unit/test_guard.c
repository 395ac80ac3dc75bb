/* test_guard.c : allowances, violations, who goes to a safer codec and when. */
#include "scheduler/guard.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

enum { N = 3 };
static const double planned[N] = {1, 2, 5};
static taut__guard  g;
static taut__watch  w[N];

static void setup(void)
{
    taut__guard_init(&g);
    g.budget = 0.16;
    taut__guard_allow(planned, N, w);
}

START_TEST(allowances_add_up_to_the_budget)
{
    ck_assert_double_eq_tol(w[0].allowed, 0.02, 1e-12);
    ck_assert_double_eq_tol(w[0].allowed + w[1].allowed + w[2].allowed, 0.16, 1e-12);
    taut__guard_allow(&g, (double[]){0, 0, 0}, N, w);
    ck_assert_double_eq(w[1].allowed, 0);
    ck_assert(!taut__guard_step(&g, (double[]){0, 0, 0}, 100, N, w)); /* nothing compressed: nothing to guard */
    ck_assert(!w[0].safer && !w[1].safer);
}
END_TEST

START_TEST(quiet_within_the_budget)
{
    for (int i = 0; i < 10; i++) ck_assert(!taut__guard_step(&g, (double[]){1.9, 3.9, 9.9}, 100, N, w));
    ck_assert_uint_eq(g.violations, 0);
    ck_assert_double_eq_tol(g.error, 0.157, 1e-12);
    for (int l = 0; l < N; l++) ck_assert(!w[l].safer);
}
END_TEST

START_TEST(violation_is_counted_and_acted_upon_at_once)
{
    ck_assert(taut__guard_step(&g, (double[]){1.0, 7.9, 9.9}, 100, N, w));
    ck_assert_uint_eq(g.violations, 1);
    ck_assert(!w[0].safer && w[1].safer && !w[2].safer);
}
END_TEST

/* What others leave unspent is lent: within the budget nobody is over its share. */
START_TEST(small_excess_is_lent_what_others_leave)
{
    for (int i = 0; i < 10; i++) ck_assert(!taut__guard_step(&g, (double[]){2.5, 1, 1}, 100, N, w));
    for (int l = 0; l < N; l++) ck_assert(!w[l].safer);
    ck_assert(taut__guard_step(&g, (double[]){2.5, 4.1, 9.9}, 100, N, w)); /* nothing left to lend */
    ck_assert(w[0].safer && w[1].safer && !w[2].safer);
}
END_TEST

/* Steps whose error is trim * plan * noise: it settles below the budget, near the target, and never far over it. */
static void steered(double planned_share, double noise, double *mean, int *over)
{
    taut__rng rng = taut__rng_of(7, 0);
    enum { STEPS = 2000, SETTLED = 50 };
    *mean = 0;
    *over = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
        double u = (double)taut__random32(rng, i) / 4294967296.0 - 0.5;
        double e = g.error_scale * planned_share * g.budget * exp(noise * u * sqrt(12)) * 100; /* uniform, deviation `noise` */
        taut__guard_step(&g, (double[]){e, 0, 0}, 100, N, w);
        taut__guard_steer(&g);
        if (i < SETTLED) continue;
        *over += g.error > g.budget;
        *mean += g.error / g.budget / (STEPS - SETTLED);
    }
}

START_TEST(steering_uses_the_budget_and_keeps_it)
{
    static const struct { double share, noise, least; } cases[] = {{0.9, 0.01, 0.9}, {1.3, 0.05, 0.75}, {0.5, 0.05, 0.75}, {0.9, 0.1, 0.6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double mean;
        int    over;
        setup();
        steered(cases[i].share, cases[i].noise, &mean, &over);
        ck_assert_msg(mean > cases[i].least && mean < 0.97, "case %zu: mean %g of the budget", i, mean);
        ck_assert_msg(over == 0, "case %zu: %d steps over the budget", i, over);
    }
}
END_TEST

START_TEST(steering_comes_down_at_once)
{
    taut__guard_step(&g, (double[]){20, 0, 0}, 100, N, w); /* 1.25 times the budget */
    taut__guard_steer(&g);
    ck_assert_double_lt(g.error_scale * 1.25, 1);
    setup();
    taut__guard_step(&g, (double[]){0, 0, 0}, 100, N, w); /* nothing compressed: nothing learnt */
    taut__guard_steer(&g);
    ck_assert_double_eq(g.error_scale, 1);
}
END_TEST

START_TEST(double_the_share_is_acted_upon_at_once)
{
    ck_assert(!taut__guard_step(&g, (double[]){4.5, 1, 1}, 100, N, w));
    ck_assert(w[0].safer && !w[1].safer);
}
END_TEST

START_TEST(audits_raise_later_estimates)
{
    taut__guard_audit(&g, 3, 2);
    ck_assert_double_eq(g.trust, 1.5);
    ck_assert(taut__guard_step(&g, (double[]){2, 4, 6}, 100, N, w)); /* 0.12 * 1.5 */
    taut__guard_audit(&g, 1, 1);
    ck_assert_double_eq(g.trust, 1.25);
    taut__guard_audit(&g, 1, 100);
    taut__guard_audit(&g, 0, 0);
    ck_assert_double_eq(g.trust, 1); /* an upper estimate is no reason to relax */
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
    TCase *t = tcase_create("guard");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, allowances_add_up_to_the_budget);
    tcase_add_test(t, quiet_within_the_budget);
    tcase_add_test(t, violation_is_counted_and_acted_upon_at_once);
    tcase_add_test(t, small_excess_is_lent_what_others_leave);
    tcase_add_test(t, steering_uses_the_budget_and_keeps_it);
    tcase_add_test(t, steering_comes_down_at_once);
    tcase_add_test(t, double_the_share_is_acted_upon_at_once);
    tcase_add_test(t, audits_raise_later_estimates);
    tcase_add_test(t, norm_change);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
