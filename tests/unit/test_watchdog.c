/* test_watchdog.c : calls of the network's library that do not come back end the process, with who was waited for; all others do not. A child
 * of the test is the process. It mostly waits. The watchdog is compiled in, under names of its own beside the library's. */
#define taut__watchdog_clock   own_watchdog_clock
#define taut__watchdog_destroy own_watchdog_destroy
#define taut__watchdog_enter   own_watchdog_enter
#define taut__watchdog_init    own_watchdog_init
#define taut__watchdog_leave   own_watchdog_leave
#define taut__watchdog_watch   own_watchdog_watch
#include "comm/transport/watchdog.c"
#include "../support/suite.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_MS = 1000 };
static _Atomic uint64_t calls[2];

static void nap(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }
static void describe(const void *ctx, char *dst, size_t cap) { snprintf(dst, cap, "%s", (const char *)ctx); }

enum { STUCK, KEPT_OUT, COUNTS_ON, OUTSIDE, STOPPED, FOR_EVER, ALONE, CASES };

static void end_job(taut__transport *t, const char *why)
{
    fprintf(stderr, "rank %d: %s\n", t->rank, why);
    _exit(1);
}
static const taut__transport_ops ops = {.name = "none", .end_job = end_job};

/* Long enough for a wrong watchdog to end it, and has had the processor that long, on a busy machine, too. */
static bool enough(int what, double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    if (what == STUCK) return seconds > 40;
    return seconds > 1.75 &&
           (what == KEPT_OUT || what == STOPPED || seconds > 20 || t.tv_sec > 0 || t.tv_nsec > 600000000);
}

static void be(int what)
{
    taut__transport t = {.ops = &ops, .rank = 2, .size = what == ALONE ? 1 : 3, .calls = calls};
    taut__watchdog  w;
    taut__watchdog_init(&w, &t, what == FOR_EVER ? -1 : TIMEOUT_MS);
    taut__watchdog_watch(&w, describe, "layer 'fc1', nothing from rank 1");
    if (what == STOPPED) taut__watchdog_enter(&w, "MPI_Allreduce", 2000000); /* 3 s, which it is stopped for */
    calls[1] = taut__watchdog_clock();
    calls[0] = what == OUTSIDE ? 4 : 3;
    bool spins = what == STUCK || what == STOPPED; /* as MPI does */
    for (double begin = taut__now(); !enough(what, taut__now() - begin);) {
        if (what == KEPT_OUT) nap(100);                           /* as if others had the processor */
        else if (!spins && (int)(100 * taut__now()) % 2) nap(10); /* half of the time is enough to be taken for stuck */
        if (what == COUNTS_ON || what == STOPPED) calls[0] += 2;  /* the next call, and the next */
        if (what == STOPPED) nap(20);
    }
    if (what == STOPPED) nap(400); /* for a look */
    taut__watchdog_destroy(&w);
    _exit(0);
}

START_TEST(ends)
{
    char   text[400] = "";
    int    way[2], status;
    double begin = taut__now();
    ck_assert_int_eq(pipe(way), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(way[1], 2);
        be(_i);
    }
    close(way[1]);
    if (_i == STOPPED) { /* in the middle of a call, for longer than the timeout */
        nap(450);
        kill(pid, SIGSTOP);
        nap(3000);
        kill(pid, SIGCONT);
    }
    ssize_t n = read(way[0], text, sizeof text - 1);
    close(way[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (_i != STUCK) {
        ck_assert_msg(n == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0, "case %d: %x: %s", _i, (unsigned)status,
                      text);
        return;
    }
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%x", (unsigned)status);
    ck_assert_msg(strstr(text, "taut: rank 2: layer 'fc1', nothing from rank 1: MPI has not come back for "), "%s",
                  text);
    ck_assert_msg(taut__now() - begin >= 1e-3 * TIMEOUT_MS, "after %.2f s", taut__now() - begin);
}
END_TEST

/* A call's beginning moves by the time that the process was stopped for, but not beyond now: it may have begun since. */
START_TEST(what_was_slept_is_left_out)
{
    taut__watchdog w = {.timeout_ms = TIMEOUT_MS};
    uint64_t       begin = now_us(), since;
    atomic_store(&w.since, begin);
    leave_out(&w, 3600);
    since = atomic_load(&w.since);
    ck_assert_msg(since >= begin && since <= now_us(), "%.3f s from now", 1e-6 * ((double)since - (double)now_us()));
    atomic_store(&w.since, 1); /* long ago */
    leave_out(&w, 1.5);
    ck_assert_uint_eq(atomic_load(&w.since), 1500001);
    leave_out(&w, AWAY_S);
    ck_assert_uint_eq(atomic_load(&w.since), 1500001);
    atomic_store(&w.since, 0); /* nobody waits */
    leave_out(&w, 3600);
    ck_assert_uint_eq(atomic_load(&w.since), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watchdog");
    TCase *t = suite_case(s, "calls", 60);
    tcase_add_test(t, what_was_slept_is_left_out);
    tcase_add_loop_test(t, ends, 0, CASES);
    return suite_run(s);
}
