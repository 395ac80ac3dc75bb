/* The execution model of CUDA kernels (tests/support/cuda_host): right kernels give their results under every schedule, and
 * each kernel that is wrong on purpose is caught, by a wrong result or by the end of the process. */
#include "tests/support/cuda_host/samples.h"
#include "../support/suite.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS = 8 };

START_TEST(right_kernels)
{
    const char *name = sample_right((size_t)_i);
    uint64_t    launches, threads;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        ck_assert_msg(sample_run(name, seed) == 0, "%s, seed %d", name, (int)seed);
    sample_tally("scan_block", &launches, &threads);
    if (strcmp(name, "scan_block") == 0) ck_assert(launches == SEEDS && threads == SEEDS * 6 * 256);
}
END_TEST

/* How a child that runs the sample ends: 0 with the right result. */
static int fate(const char *name, uint64_t seed)
{
    int   status;
    pid_t child = fork();
    ck_assert(child >= 0);
    if (child == 0) {
        for (int s = 1; s < NSIG; s++) signal(s, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr)) _exit(9);
        _exit(sample_run(name, seed));
    }
    ck_assert(waitpid(child, &status, 0) == child);
    return status;
}

/* What no check can see at every seed (an order that happens to be right, a read from memory that is there) must be seen at
 * most of them. */
START_TEST(wrong_kernels)
{
    const char *name = sample_wrong((size_t)_i);
    int         caught = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) caught += fate(name, seed) != 0;
    ck_assert_msg(caught >= SEEDS - 1, "%s: seen with %d seeds of %d", name, caught, SEEDS);
}
END_TEST

int main(void)
{
    int    rights = 0, wrongs = 0;
    Suite *s = suite_create("cuda_host");
    TCase *t = suite_case(s, "model", 120);
    while (sample_right((size_t)rights)) rights++;
    while (sample_wrong((size_t)wrongs)) wrongs++;
    tcase_add_loop_test(t, right_kernels, 0, rights);
    tcase_add_loop_test(t, wrong_kernels, 0, wrongs);
    return suite_run(s);
}
