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
    batch           a = {0}, b = {.may = 1};
    ck_assert(taut__executor_create(_i, &e) == TAUT_OK);
    ck_assert(taut__executor_submit(e, piece, &a, PIECES));
    ck_assert(!taut__executor_submit(e, piece, &b, PIECES)); /* one at a time */
    if (_i > 1) ck_assert(!taut__executor_poll(e));
    a.may = 1;
    while (!taut__executor_poll(e)) sched_yield();
    all_once(&a);
    ck_assert_int_eq(a.workers[0], _i == 1 ? PIECES : 0); /* the caller's */
    ck_assert(taut__executor_submit(e, piece, &b, PIECES));
    taut__executor_quiet(e);
    for (int i = 0; i < PIECES; i++) ck_assert_int_eq(b.done[i], _i > 1);
    ck_assert(!taut__executor_submit(e, piece, &b, PIECES)); /* its owner has not asked */
    taut__executor_settle(e);
    ck_assert(taut__executor_submit(e, piece, &(batch){.may = 1}, 0)); /* of nothing */
    ck_assert(taut__executor_poll(e));
    batch c = {.may = 1};
    taut__executor_run(e, piece, &c, PIECES);
    all_once(&c);
    taut__executor_destroy(e);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("executor");
    TCase *t = suite_case(s, "all", 0);
    tcase_add_loop_test(t, submitted_and_polled, 1, 5);
    return suite_run(s);
}
