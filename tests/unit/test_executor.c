/* test_executor.c : batches of work, waited for or polled, with one thread and with several. */
#include "comm/base/executor.h"
#include "../support/suite.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { PIECES = 50 };

typedef struct batch {
    _Atomic int done[PIECES], workers[8];
    _Atomic int may; /* the pieces wait for it */
} batch;

static void piece(void *ctx, size_t i, int worker)
{
    batch *b = ctx;
    while (!b->may) sched_yield();
    b->done[i]++;
    b->workers[worker]++;
}

static void all_once(const batch *b)
{
    for (int i = 0; i < PIECES; i++) ck_assert_int_eq(b->done[i], 1);
}

START_TEST(submitted_and_polled)
{
    taut__executor *e;
    batch           a = {0}, b = {.may = 1}, c = {.may = 1};
    taut__batch     first = {0}, second = {0}, nothing = {0};
    ck_assert(taut__executor_create(_i, &e) == TAUT_OK);
    taut__executor_submit(e, &first, piece, &a, PIECES);
    if (_i > 1) ck_assert(!taut__executor_poll(e, &first));
    a.may = 1;
    while (!taut__executor_poll(e, &first)) sched_yield();
    ck_assert(!first.under_way);
    all_once(&a);
    ck_assert_int_eq(a.workers[0], _i == 1 ? PIECES : 0); /* the caller's */
    taut__executor_submit(e, &second, piece, &b, PIECES);
    taut__executor_quiet(e);
    for (int i = 0; i < PIECES; i++) ck_assert_int_eq(b.done[i], _i > 1);
    ck_assert(second.under_way); /* its owner has not asked */
    taut__executor_settle(e, &second);
    ck_assert(!second.under_way);
    all_once(&b);
    taut__executor_settle(e, &second); /* again: nothing is under way */
    taut__executor_submit(e, &nothing, piece, &b, 0);
    ck_assert(taut__executor_poll(e, &nothing));
    taut__executor_run(e, piece, &c, PIECES);
    all_once(&c);
    taut__executor_destroy(e);
}
END_TEST

/* Batches of several owners: each ends on its own, in whatever order they are asked for; and a run beside them is not held up by them. */
START_TEST(several_at_once)
{
    enum { OWNERS = 6 };
    taut__executor *e;
    batch          *of = calloc(OWNERS + 1, sizeof *of);
    taut__batch     under[OWNERS] = {{0}};
    ck_assert(taut__executor_create(_i, &e) == TAUT_OK);
    for (int i = 0; i < OWNERS; i++) {
        of[i].may = i != 1;
        taut__executor_submit(e, &under[i], piece, &of[i], i == 1 ? 1 : PIECES);
    }
    of[OWNERS].may = 1;
    taut__executor_run(e, piece, &of[OWNERS], PIECES);
    all_once(&of[OWNERS]);
    if (_i > 2) { /* one thread is held by the second */
        for (int i = OWNERS - 1; i >= 0; i--)
            if (i != 1) taut__executor_settle(e, &under[i]), all_once(&of[i]);
        ck_assert(!taut__executor_poll(e, &under[1]));
    }
    of[1].may = 1;
    for (int i = 0; i < OWNERS; i++) taut__executor_settle(e, &under[i]);
    for (int i = 0; i < OWNERS; i++)
        for (int k = 0; k < PIECES; k++) ck_assert_int_eq(of[i].done[k], i != 1 || k == 0);
    taut__executor_destroy(e);
    free(of);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("executor");
    TCase *t = suite_case(s, "all", 0);
    tcase_add_loop_test(t, submitted_and_polled, 1, 5);
    tcase_add_loop_test(t, several_at_once, 1, 5);
    return suite_run(s);
}
