/* test_base.c : status names, memory accounting, random numbers, log filter of comm/base. */
#include "comm/base/base.h"
#include "comm/base/thread.h"
#include "compressors/codec.h"
#include "scheduler/budget.h"
#include "../support/suite.h"
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

START_TEST(status_names_and_texts)
{
    ck_assert_str_eq(taut_status_name(TAUT_E_RANGE), "TAUT_E_RANGE");
    ck_assert_str_eq(taut_status_text(TAUT_OK), "success");
    ck_assert_str_eq(taut_status_name((taut_status)-9999), "TAUT_E_?");
    ck_assert_int_eq(taut_version(), TAUT_VERSION);
    ck_assert_int_eq(taut_wire_version(), TAUT_WIRE_VERSION);
}
END_TEST

START_TEST(fail_keeps_the_message)
{
    ck_assert_int_eq(taut__fail(TAUT_E_RANGE, "bits=%d: must be 1..8", 9), TAUT_E_RANGE);
    ck_assert_str_eq(taut_last_error(), "bits=9: must be 1..8");
    /* a message may quote the one before */
    taut__fail(TAUT_E_INVALID, "layer fc1: %s", taut_last_error());
    ck_assert_str_eq(taut_last_error(), "layer fc1: bits=9: must be 1..8");
}
END_TEST

/* A sanitizer sees who goes one byte too far, whatever the size was rounded up to. */
#ifdef __SANITIZE_ADDRESS__
#define EDGES(p, n)                                                                                                    \
    do {                                                                                                               \
        ck_assert_int_ne(__asan_address_is_poisoned((p)-1), 0);                                                        \
        ck_assert_ptr_null(__asan_region_is_poisoned((p), (n)));                                                       \
        ck_assert_int_ne(__asan_address_is_poisoned((p) + (n)), 0);                                                    \
    } while (0)
#else
#define EDGES(p, n) ((void)(p), (void)(n))
#endif

START_TEST(alloc_is_zeroed_aligned_counted)
{
    size_t              count = taut__alloc_count(), bytes = taut__alloc_bytes();
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 100003};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = taut__alloc(sizes[i], 1);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++) ck_assert_uint_eq(p[k], 0);
        ck_assert_uint_eq(taut__alloc_bytes(), bytes + sizes[i]);
        memset(p, 0xff, sizes[i]);
        EDGES(p, sizes[i]);
        taut__free(p);
    }
    ck_assert_uint_eq(taut__alloc_count(), count + sizeof sizes / sizeof *sizes);
    ck_assert_uint_eq(taut__alloc_bytes(), bytes);
    taut__free(NULL);
}
END_TEST

START_TEST(alloc_fails_when_told_or_too_large)
{
    ck_assert_ptr_null(taut__alloc(SIZE_MAX / 2, 3));
    ck_assert_ptr_null(taut__alloc(SIZE_MAX, 1));
    taut__alloc_fail_after(1);
    void *a = taut__alloc(1, 1), *b = taut__alloc(1, 1), *c = taut__alloc(1, 1);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_null(b);
    ck_assert_ptr_nonnull(c);
    taut__free(a);
    taut__free(c);
}
END_TEST

/* Mean, variance and the correlation of neighbours, for seeds and blocks that differ in one bit. 2^18 draws: the
 * standard error of a mean of uniforms is 0.289/512 = 5.6e-4; 5 of them are allowed. */
START_TEST(random_is_uniform_and_uncorrelated)
{
    static const uint64_t seeds[] = {0, 1, 2, 1ull << 63};
    static const uint64_t starts[] = {0, 1ull << 32, (1ull << 32) + (1ull << 31)};
    enum { N = 1 << 18 };
    for (size_t s = 0; s < 4; s++)
        for (size_t b = 0; b < 3; b++) {
            double sum = 0, sq = 0, lag = 0, last = 0, other = 0;
            for (uint32_t i = 0; i < N; i++) {
                uint64_t at = starts[b] + i;
                double   u = taut__random32(taut__rng_of(seeds[s], at), (uint32_t)at) / 4294967296.0 - 0.5;
                double   v = taut__random32(taut__rng_of(seeds[s] + 1, at), (uint32_t)at) / 4294967296.0 - 0.5;
                sum += u, sq += u * u, lag += u * last, other += u * v;
                last = u;
            }
            ck_assert_double_lt(fabs(sum / N), 5 * 5.6e-4);
            ck_assert_double_lt(fabs(sq / N - 1 / 12.0), 5 * 1.5e-4);
            ck_assert_double_lt(fabs(lag / N), 5 * 1.63e-4);
            ck_assert_double_lt(fabs(other / N), 5 * 1.63e-4);
        }
}
END_TEST

/* Every bit of the output is fair given every bit of the counter: no stuck or copied bits. */
START_TEST(random_bits_avalanche)
{
    enum { N = 4096 };
    taut__rng g = taut__rng_of(42, 0);
    for (int in = 0; in < 24; in++) {
        int flips[32] = {0};
        for (uint32_t i = 0; i < N; i++) {
            uint32_t d = taut__random32(g, i) ^ taut__random32(g, i ^ (1u << in));
            for (int out = 0; out < 32; out++) flips[out] += (d >> out) & 1;
        }
        for (int out = 0; out < 32; out++) ck_assert_int_lt(abs(flips[out] - N / 2), 6 * 32);
    }
}
END_TEST

/* Golden: these values are part of the wire format (randk's indices, stochastic rounding). */
START_TEST(random_is_pinned)
{
    taut__rng g = taut__rng_of(7, 5);
    ck_assert_uint_eq(taut__mix64(1), 0x910a2dec89025cc1ull);
    ck_assert_uint_eq(taut__random32(g, 5), 0xbd448103u);
    ck_assert_uint_eq(taut__random32(g, 6), 0xceced64bu);
}
END_TEST

START_TEST(overflow_helpers)
{
    size_t r;
    ck_assert(!taut__mul_ok(SIZE_MAX, 2, &r));
    ck_assert(taut__mul_ok(3, 5, &r) && r == 15);
    ck_assert(!taut__add_ok(SIZE_MAX, 1, &r));
    ck_assert_uint_eq(taut__ceil_div(0, 4), 0);
    ck_assert_uint_eq(taut__ceil_div(9, 4), 3);
    ck_assert_uint_eq(taut__ceil_div(SIZE_MAX, 2), SIZE_MAX / 2 + 1);
}
END_TEST

/* A locale that writes 0,5: one that is installed, or one made here. */
static bool comma_locale(const char *dir)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8",
                                        "fr_FR.utf8",  "nl_NL.utf8", "pt_BR.utf8"};
    char                     command[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_ALL, names[i])) return true;
    snprintf(command, sizeof command, "localedef --no-archive -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/log 2>&1", dir, dir);
    if (system(command) != 0) return false;
    setenv("LOCPATH", dir, 1);
    return setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
}

/* Python, Qt and others set the user's locale in the process that we are loaded into. */
START_TEST(numbers_ignore_the_locale)
{
    char         dir[] = "/tmp/taut-locale-XXXXXX", command[64], text[96], *end;
    taut_spec    spec;
    taut__budget budget;
    taut_comm   *comm;
    taut_config  cfg = TAUT_CONFIG_INIT;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    bool comma = comma_locale(dir);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
    if (!comma) {
        printf("SKIP no locale with a decimal comma, and localedef makes none\n");
        return;
    }
    snprintf(text, sizeof text, "%.1f", 0.5);
    ck_assert_str_eq(text, "0,5");
    ck_assert_double_eq(taut__strtod("0.25x", &end), 0.25);
    ck_assert_str_eq(end, "x");
    ck_assert_int_eq(taut__spec_parse("topk:density=0.025", &spec), TAUT_OK);
    taut__spec_print(&spec, text, sizeof text);
    ck_assert_str_eq(text, "topk:density=0.025");
    ck_assert_int_eq(taut__budget_parse("rel=0.03", &budget), TAUT_OK);
    ck_assert_double_eq(budget.rel, 0.03);
    cfg.codec = "topk:density=0.5";
    cfg.momentum = 0.75f;
    ck_assert_int_eq(taut_comm_create_threads(1, &cfg, &comm), TAUT_OK);
    taut_comm_destroy(comm);
    taut__fail(TAUT_E_RANGE, "%g", 0.5);
    ck_assert_str_eq(taut_last_error(), "0.5");
    snprintf(text, sizeof text, "%.1f", 0.5); /* the program's own numbers are as before */
    ck_assert_str_eq(text, "0,5");
}
END_TEST

static void *mask_of_thread(void *mask) { return pthread_sigmask(SIG_BLOCK, NULL, mask) == 0 ? mask : NULL; }

START_TEST(threads_leave_signals_to_the_program)
{
    sigset_t  theirs, before, after;
    pthread_t thread;
    void     *seen;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    ck_assert_int_eq(taut__thread_start(&thread, mask_of_thread, &theirs, "a thread"), TAUT_OK);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    ck_assert(pthread_join(thread, &seen) == 0 && seen == &theirs);
    ck_assert(sigismember(&theirs, SIGUSR1) && sigismember(&theirs, SIGTERM) && !sigismember(&theirs, SIGSEGV));
    for (int s = 1; s < 32; s++) ck_assert_int_eq(sigismember(&before, s), sigismember(&after, s));
}
END_TEST

START_TEST(a_rename_leaves_links)
{
    static const struct {
        const char *path, *behind; /* NULL: refused */
    } cases[] = {{"file", "file"},          {"new", "new"}, {"link", "file"},    {"sub/chain", "sub/../file"},
                 {"dangling", "sub/new"},   {"loop", NULL}, {"/dev/null", NULL}, {"sub", NULL},
                 {"nowhere/x", "nowhere/x"}};
    char dir[] = "/tmp/test_base_XXXXXX", real[PATH_MAX], name[64];
    int  fd;
    ck_assert(mkdtemp(dir) && chdir(dir) == 0 && mkdir("sub", 0700) == 0 && close(creat("file", 0600)) == 0);
    ck_assert(symlink("file", "link") == 0 && symlink("../link", "sub/chain") == 0 &&
              symlink("sub/new", "dangling") == 0 && symlink("loop", "loop") == 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        taut_status s = taut__behind_links(cases[i].path, real);
        ck_assert_msg(!s == (cases[i].behind != NULL), "%s: %s", cases[i].path, taut_last_error());
        if (!s) ck_assert_str_eq(real, cases[i].behind);
    }
    ck_assert((fd = open("gone", O_CREAT | O_RDWR, 0600)) >= 0 && unlink("gone") == 0); /* as /dev/stdout may be */
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ck_assert_int_eq(taut__behind_links(name, real), TAUT_E_IO);
    char *longer = memset(calloc(PATH_MAX + 1, 1), 'x', PATH_MAX);
    ck_assert_int_eq(taut__behind_links(longer, real), TAUT_E_RANGE);
    free(longer);
    close(fd);
    ck_assert(!unlink("sub/chain") && !unlink("link") && !unlink("dangling") && !unlink("loop") && !unlink("file"));
    ck_assert(!rmdir("sub") && chdir("/") == 0 && !rmdir(dir));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *t = suite_case(s, "base", 60);
    tcase_add_test(t, status_names_and_texts);
    tcase_add_test(t, fail_keeps_the_message);
    tcase_add_test(t, alloc_is_zeroed_aligned_counted);
    tcase_add_test(t, alloc_fails_when_told_or_too_large);
    tcase_add_test(t, random_is_uniform_and_uncorrelated);
    tcase_add_test(t, random_bits_avalanche);
    tcase_add_test(t, random_is_pinned);
    tcase_add_test(t, overflow_helpers);
    tcase_add_test(t, numbers_ignore_the_locale);
    tcase_add_test(t, a_rename_leaves_links);
    tcase_add_test(t, threads_leave_signals_to_the_program);
    return suite_run(s);
}
