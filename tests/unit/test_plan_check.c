/* test_plan_check.c : which plans are withdrawn, and what later ones must promise. */
#include "scheduler/plan_check.h"
#include <check.h>
#include <stdlib.h>

static taut__plan_check p;

static void setup(void) { taut__plan_check_init(&p); }

static void note(taut__plan_check_way *w, int n, double comm, double step)
{
    for (int i = 0; i < n; i++) taut__plan_check_note(w, comm * (1 + 0.01 * (i % 3)), step * (1 + 0.01 * (i % 3)));
}

START_TEST(too_few_steps_tell_nothing)
{
    note(&p.dense, 9, 1, 5);
    note(&p.coded, 2, 9, 50);
    ck_assert(!taut__plan_check_lost(&p, 1, 2));
    setup();
    note(&p.dense, 2, 1, 5);
    note(&p.coded, 9, 9, 50);
    ck_assert(!taut__plan_check_lost(&p, 1, 2));
    ck_assert_double_eq(p.cost_margin, 1);
}
END_TEST

START_TEST(a_plan_that_wins_stays)
{
    note(&p.dense, 4, 3, 5);
    note(&p.coded, 20, 1, 5.05); /* the step is not faster, as computing hides both */
    ck_assert(!taut__plan_check_lost(&p, 1, 3));
}
END_TEST

START_TEST(slower_communication_loses)
{
    note(&p.dense, 4, 1, 5);
    note(&p.coded, 5, 1.5, 5);
    ck_assert(taut__plan_check_lost(&p, 1, 2)); /* promised half of the time, took 1.5 times: 3 times off */
    ck_assert_double_eq_tol(p.cost_margin, 3, 0.1);
    taut__plan_check_plan(&p);
    ck_assert_double_lt(p.cost_margin, 3);
    ck_assert_double_gt(p.cost_margin, 2.7);
    ck_assert(!taut__plan_check_lost(&p, 1, 2)); /* the next plan is judged by its own steps */
}
END_TEST

START_TEST(slower_steps_lose)
{
    note(&p.dense, 5, 2, 5);
    note(&p.coded, 5, 1, 5.4);
    ck_assert(taut__plan_check_lost(&p, 1, 2));
    ck_assert_double_ge(p.cost_margin, 1.25);
}
END_TEST

START_TEST(twice_leaves_no_doubt)
{
    note(&p.dense, 4, 5, 5);
    ck_assert(!taut__plan_check_clear(&p, 0));
    note(&p.coded, 3, 2, 5);
    ck_assert(taut__plan_check_clear(&p, 0));
    note(&p.coded, 5, 3, 5);
    ck_assert(!taut__plan_check_clear(&p, 0));
}
END_TEST

START_TEST(four_times_a_prediction_leaves_no_doubt)
{
    note(&p.coded, 2, 1, 5);
    ck_assert(!taut__plan_check_clear(&p, 100)); /* too few steps */
    note(&p.coded, 1, 1, 5);
    ck_assert(taut__plan_check_clear(&p, 4.1));
    ck_assert(!taut__plan_check_clear(&p, 3.9));
    note(&p.dense, 3, 1.5, 5); /* what was seen counts more */
    ck_assert(!taut__plan_check_clear(&p, 100));
}
END_TEST

START_TEST(one_late_step_is_no_loss)
{
    note(&p.dense, 5, 2, 5);
    note(&p.coded, 4, 1, 4);
    taut__plan_check_note(&p.coded, 100, 100);
    ck_assert(!taut__plan_check_lost(&p, 1, 2));
}
END_TEST

START_TEST(old_steps_are_forgotten)
{
    note(&p.dense, 50, 9, 9);
    note(&p.dense, 5, 1, 5); /* the network became faster */
    note(&p.coded, 5, 2, 5);
    ck_assert(taut__plan_check_lost(&p, 1, 2));
    for (int i = 0; i < 200; i++) taut__plan_check_plan(&p);
    ck_assert_double_lt(p.cost_margin, 1.001); /* tried again some day */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_check");
    TCase *t = tcase_create("plan_check");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, too_few_steps_tell_nothing);
    tcase_add_test(t, a_plan_that_wins_stays);
    tcase_add_test(t, slower_communication_loses);
    tcase_add_test(t, slower_steps_lose);
    tcase_add_test(t, twice_leaves_no_doubt);
    tcase_add_test(t, four_times_a_prediction_leaves_no_doubt);
    tcase_add_test(t, one_late_step_is_no_loss);
    tcase_add_test(t, old_steps_are_forgotten);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
