/* suite.h : what every Check program's main() does: suite_create(), suite_case() and tests for each case, suite_run(). */
#ifndef TAUT_TEST_SUITE_H
#define TAUT_TEST_SUITE_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Check writes a message for every assertion that holds, by a system call, so that it can tell where a crash was: half of the time of a test that
 * compares element by element. Here a line is told of when another has come between, and no more than a thousand times. */
static inline void suite_mark(const char *file, int line)
{
    static _Thread_local int            last;
    static _Thread_local unsigned short told[1024];
    if (line == last || told[line % 1024] >= 1000) return;
    last = line;
    told[line % 1024]++;
    _mark_point(file, line);
}
#define _mark_point(file, line) suite_mark(file, line)

/* LONG=1: what takes longer, too. tests/run.sh sets it to 0 where nobody asks. */
static inline bool suite_long(void)
{
    const char *set = getenv("LONG");
    return set && *set && strcmp(set, "0") != 0;
}

/* A case of s, whose tests may take so many seconds each; 0: a minute. Check's own 4 seconds are too few on a busy machine. */
static inline TCase *suite_case(Suite *s, const char *name, double seconds)
{
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, seconds > 0 ? seconds : 60);
    suite_add_tcase(s, t);
    return t;
}

/* How many times as long things take: a sanitizer's or a coverage build's. */
static inline uint32_t suite_patience(uint32_t ms)
{
    const char *times = getenv("CK_TIMEOUT_MULTIPLIER");
    double      more = times ? strtod(times, NULL) : 1;
    return more > 1 ? (uint32_t)(ms * more) : ms;
}

/* How a forked process ends: without what its parent wanted at exit. What it has executed is counted all the same, in a coverage build. */
#ifdef TAUT_COVERAGE
void __gcov_dump(void);
#endif
static inline _Noreturn void suite_leave(int code)
{
#ifdef TAUT_COVERAGE
    __gcov_dump();
#endif
    _exit(code);
}

/* Runs it; for main() to return. */
static inline int suite_run(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

#endif
