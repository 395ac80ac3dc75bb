/* test_engine_slept.c : time in which a process was stopped is no time in which it waited. The engine is compiled in, under names of its own beside the
 * library's. */
#define taut__engine_busy_s   own_engine_busy_s
#define taut__engine_check    own_engine_check
#define taut__engine_create   own_engine_create
#define taut__engine_describe own_engine_describe
#define taut__engine_destroy  own_engine_destroy
#define taut__engine_exchange own_engine_exchange
#define taut__engine_fail     own_engine_fail
#define taut__engine_hold     own_engine_hold
#define taut__engine_release  own_engine_release
#define taut__engine_start    own_engine_start
#define taut__engine_test     own_engine_test
#define taut__engine_thread   own_engine_thread
#define taut__engine_wait     own_engine_wait
#include "comm/engine/engine.c"
#include "../support/suite.h"

/* What it waits since moves by the time that it was stopped for, but not beyond now: it may have moved, or begun, since it went on, and would then
 * wait for its timeout and an hour. */
START_TEST(no_more_than_that)
{
    taut__engine e = {.timeout_ms = 1000};
    double       now = taut__now();
    waiting      w = {.looked = now - 3600, .since = now - 0.1};
    e.moved_at = now - 0.2;
    leave_out_what_was_slept(&e, &w);
    ck_assert_msg(w.since >= now && w.since <= taut__now(), "%g s from now", w.since - taut__now());
    ck_assert_msg(e.moved_at >= now && e.moved_at <= taut__now(), "%g s from now", e.moved_at - taut__now());
    ck_assert(w.looked >= now && w.looked <= taut__now());
}
END_TEST

START_TEST(as_long_as_it_was)
{
    taut__engine e = {.timeout_ms = 1000};
    double       now = taut__now();
    waiting      w = {.looked = now - 10, .since = now - 50};
    e.moved_at = now - 70;
    leave_out_what_was_slept(&e, &w);
    double since = w.since, moved = e.moved_at;
    ck_assert_double_eq_tol(since, now - 40, 1);
    ck_assert_double_eq_tol(moved, now - 60, 1);
    leave_out_what_was_slept(&e, &w); /* a turn as they are */
    ck_assert(w.since == since && e.moved_at == moved);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_slept");
    TCase *t = suite_case(s, "slept", 0);
    tcase_add_test(t, no_more_than_that);
    tcase_add_test(t, as_long_as_it_was);
    return suite_run(s);
}
