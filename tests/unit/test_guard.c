/* test_guard.c : allowances, violations, who goes to a safer codec and when. */
#include "scheduler/guard.h"
#include <check.h>
#include <stdlib.h>

enum { N = 3 };
static const double planned[N] = {1, 2, 5};
static taut__guard  g;
static taut__watch  w[N];

static void setup(void)
{
    g = (taut__guard){.budget = 0.16, .trust = 1};
    taut__guard_allow(&g, planned, N, w);
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

START_TEST(small_excess_must_last)
{
    for (int i = 0; i < 2; i++) {
        ck_assert(!taut__guard_step(&g, (double[]){2.5, 1, 1}, 100, N, w));
        ck_assert(!w[0].safer);
    }
    taut__guard_step(&g, (double[]){1, 1, 1}, 100, N, w); /* one step back within: counting starts again */
    for (int i = 0; i < 2; i++) taut__guard_step(&g, (double[]){2.5, 1, 1}, 100, N, w);
    ck_assert(!w[0].safer);
    taut__guard_step(&g, (double[]){2.5, 1, 1}, 100, N, w);
    ck_assert(w[0].safer);
    ck_assert_uint_eq(g.violations, 0);
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
    tcase_add_test(t, small_excess_must_last);
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
