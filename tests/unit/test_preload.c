/* test_preload.c : the parts of the preload library that need no MPI: cycles of calls, doubts about values, lists of sites. */
#include "comm/preload/imports.h"
#include "comm/preload/likeness.h"
#include "comm/preload/preload_options.h"
#include "comm/preload/sequence.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t scratch[TAUT_HISTORY];

/* ---- cycles, against brute force ---- */

static size_t slow_period(const taut__sequence *s, uint64_t last)
{
    uint64_t first = s->events > TAUT_HISTORY ? s->events - TAUT_HISTORY : 0;
    for (uint64_t p = 1; TAUT_CYCLES * p <= last - first + 1; p++) {
        bool same = true, eligible = false;
        for (uint64_t i = 0; i < TAUT_CYCLES * p && same; i++) {
            uint64_t key = taut__sequence_key(s, last - i);
            eligible |= taut__key_eligible(key);
            if (i >= p) same = key == taut__sequence_key(s, last - i + p);
        }
        if (same && eligible) return (size_t)p;
    }
    return 0;
}

START_TEST(periods_are_the_shortest_that_have_run_three_times)
{
    taut__sequence *s = calloc(1, sizeof *s);
    uint64_t        x = 88172645463325252u + (uint64_t)_i;
    int             found = 0;
    for (int e = 0; e < 400; e++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        size_t   cycle = 1 + (size_t)_i % 9;
        uint64_t in_cycle =
            taut__call_key(TAUT_KIND_ALLREDUCE, 100 * (1 + s->events % cycle), 1, 1, s->events % cycle == 0);
        uint64_t key = x % 40 == 0 ? taut__call_key(TAUT_KIND_OTHER, x % 3, 1, 1, false) : in_cycle;
        uint64_t last = taut__sequence_add(s, key);
        size_t   p = taut__sequence_period(s, last, scratch);
        ck_assert_uint_eq(p, slow_period(s, last));
        found += p > 0;
    }
    ck_assert_int_gt(found, 20);
    free(s);
}
END_TEST

START_TEST(a_cycle_of_small_calls_only_is_none)
{
    taut__sequence *s = calloc(1, sizeof *s);
    for (int e = 0; e < 50; e++)
        taut__sequence_add(s, taut__call_key(TAUT_KIND_ALLREDUCE, 1, TAUT_TYPE_DOUBLE, 1, false));
    ck_assert_uint_eq(taut__sequence_period(s, 49, scratch), 0);
    free(s);
}
END_TEST

START_TEST(long_runs_keep_the_history_that_fits)
{
    taut__sequence *s = calloc(1, sizeof *s);
    for (uint64_t e = 0; e < 3 * TAUT_HISTORY; e++)
        taut__sequence_add(s, taut__call_key(TAUT_KIND_ALLREDUCE, e % 100, 1, 1, e % 100 == 50));
    ck_assert_uint_eq(taut__sequence_period(s, s->events - 1, scratch), 100);
    ck_assert(!taut__sequence_knows(s, s->events - 1 - TAUT_HISTORY));
    ck_assert_uint_eq(taut__sequence_period(s, 5, scratch), 0); /* long forgotten */
    free(s);
}
END_TEST

START_TEST(keys_differ_by_all_that_ranks_must_share)
{
    uint64_t k = taut__call_key(TAUT_KIND_ALLREDUCE, 1000, 1, 1, true);
    ck_assert(taut__key_eligible(k));
    ck_assert(k != taut__call_key(TAUT_KIND_IALLREDUCE, 1000, 1, 1, true));
    ck_assert(k != taut__call_key(TAUT_KIND_ALLREDUCE, 1001, 1, 1, true));
    ck_assert(k != taut__call_key(TAUT_KIND_ALLREDUCE, 1000, 2, 1, true));
    ck_assert(k != taut__call_key(TAUT_KIND_ALLREDUCE, 1000, 1, 2, true));
    ck_assert(!taut__key_eligible(taut__call_key(TAUT_KIND_ALLREDUCE, 1000, 1, 1, false)));
}
END_TEST

START_TEST(votes_are_many_at_first_and_never_end)
{
    uint64_t votes = 0, gap = 0, most = 0;
    for (uint64_t e = 0; e < 1000000; e++) {
        gap++;
        if (!taut__sequence_votes_at(e)) continue;
        votes++, most = gap > most ? gap : most, gap = 0;
        if (e <= 16) ck_assert_uint_eq(votes, e + 2 - TAUT_CYCLES); /* no call more is plain than must be */
        if (e == 32) ck_assert_uint_ge(votes, 10);
    }
    ck_assert_uint_le(votes, 2500);
    ck_assert_uint_le(most, 512);
}
END_TEST

START_TEST(ranks_ask_seldom_but_never_stop)
{
    uint64_t next = 0, asked = 0, last = 0, most = 0;
    for (uint64_t e = 0; e < 100000; e++) {
        if (!taut__asks_at(e, e % 5 != 0, &next)) continue; /* every fifth event may not wait */
        ck_assert_uint_ne(e % 5, 0);
        most = e - last > most ? e - last : most;
        last = e, asked++;
        if (asked == 1) ck_assert_uint_eq(e, TAUT_FIRST_ASK);
    }
    ck_assert_uint_le(asked, 210);
    ck_assert_uint_le(most, 513);
}
END_TEST

START_TEST(pauses_grow_and_end)
{
    ck_assert_uint_eq(taut__doubt_pause(0), 16);
    for (uint32_t n = 0; n < 4; n++) ck_assert_uint_eq(taut__doubt_pause(n + 1), 4 * taut__doubt_pause(n));
    ck_assert_uint_eq(taut__doubt_pause(1000), 4096);
}
END_TEST

/* ---- values ---- */

static float noise(unsigned i, unsigned seed)
{
    double a = 0;
    for (unsigned k = 0; k < 6; k++) a += (double)taut__random32(taut__rng_of(seed, 0), i * 6 + k) / 4294967296.0 - 0.5;
    return (float)a;
}

enum { N = 1000 };
static float own[N], sum[N];

/* what: values of rank r at element i in step t */
static taut__doubt judge(float (*what)(int r, unsigned i, int t), int ranks)
{
    taut__likeness k = {0};
    taut__doubt    d = TAUT_DOUBT_NONE;
    for (int r = 0; r < ranks; r++) { /* one rank's doubt is everybody's */
        k = (taut__likeness){0};
        for (int t = 0; t < TAUT_LOOKS; t++) {
            for (unsigned i = 0; i < N; i++) {
                own[i] = what(r, i, t), sum[i] = 0;
                for (int q = 0; q < ranks; q++) sum[i] += what(q, i, t);
            }
            taut__likeness_look(&k, own, sum, N, ranks);
        }
        taut__doubt mine = taut__likeness_judge(&k, TAUT_LOOKS);
        d = mine > d ? mine : d;
    }
    return d;
}

static float gradient(int r, unsigned i, int t)
{
    return noise(i, 77 + (unsigned)t) + 0.7f * noise(i, 1000 + (unsigned)(100 * t + r));
}
static float large_batch(int r, unsigned i, int t)
{
    return noise(i, 77 + (unsigned)t) + 0.05f * noise(i, 1000 + (unsigned)(100 * t + r));
}
static float sparse(int r, unsigned i, int t)
{
    return taut__random32(taut__rng_of((uint64_t)(r * 31 + t), 0), i / 10) % 4 ? 0 : gradient(r, i, t);
}
static float first_zero(int r, unsigned i, int t) { return t ? gradient(r, i, t) : 0; }
static float ones(int r, unsigned i, int t) { return (void)r, (void)i, (void)t, 1; }
static float rank_number(int r, unsigned i, int t) { return (void)i, (void)t, (float)r + 1; }
static float zeros(int r, unsigned i, int t) { return (void)r, (void)i, (void)t, 0; }
static float iota(int r, unsigned i, int t) { return (void)r, (void)t, (float)i; }
static float parameters(int r, unsigned i, int t)
{
    return noise(i, 5) + 1e-4f * noise(i, 1000 + (unsigned)(100 * t + r));
}
static float stripes(int r, unsigned i, int t) { return i / 100 % 3 == (unsigned)r ? noise(i, (unsigned)t) : 0; }
static float overlapping(int r, unsigned i, int t)
{
    return (int)i / 300 == r || (int)(i + 5) / 300 == r ? noise(i, (unsigned)t) : 0;
}
static float shrinking(int r, unsigned i, int t) { return gradient(r, i, t) * powf(0.2f, (float)t); }
static float growing(int r, unsigned i, int t) { return gradient(r, i, t) * powf(5, (float)t); }
static float settling(int r, unsigned i, int t) { return gradient(r, i, t) * powf(0.8f, (float)t); }
static float not_finite(int r, unsigned i, int t) { return r == 0 && i == 7 ? INFINITY : gradient(r, i, t); }

START_TEST(values_are_told_apart)
{
    for (int p = 2; p <= 8; p += 2) {
        ck_assert_int_eq(judge(gradient, p), TAUT_DOUBT_NONE);
        ck_assert_int_eq(judge(large_batch, p), TAUT_DOUBT_NONE);
        ck_assert_int_eq(judge(sparse, p), TAUT_DOUBT_NONE);
        ck_assert_int_eq(judge(first_zero, p), TAUT_DOUBT_NONE);
        ck_assert_int_eq(judge(settling, p), TAUT_DOUBT_NONE);
        ck_assert_int_eq(judge(ones, p), TAUT_DOUBT_CONSTANT);
        ck_assert_int_eq(judge(rank_number, p), TAUT_DOUBT_CONSTANT);
        ck_assert_int_eq(judge(zeros, p), TAUT_DOUBT_CONSTANT);
        ck_assert_int_eq(judge(iota, p), TAUT_DOUBT_SAME);
        ck_assert_int_eq(judge(parameters, p), TAUT_DOUBT_SAME);
        ck_assert_int_eq(judge(shrinking, p), TAUT_DOUBT_TREND);
        ck_assert_int_eq(judge(growing, p), TAUT_DOUBT_TREND);
        ck_assert_int_eq(judge(not_finite, p), TAUT_DOUBT_UNSEEN);
    }
    ck_assert_int_eq(judge(stripes, 3), TAUT_DOUBT_DISJOINT);
    ck_assert_int_eq(judge(overlapping, 3), TAUT_DOUBT_DISJOINT);
}
END_TEST

START_TEST(results_that_are_broadcast_are_parameters)
{
    taut__likeness k = {0};
    for (int t = 0; t < TAUT_LOOKS; t++) {
        for (unsigned i = 0; i < N; i++) own[i] = gradient(0, i, t), sum[i] = own[i] + gradient(1, i, t);
        taut__likeness_look(&k, own, sum, N, 2);
    }
    ck_assert_int_eq(taut__likeness_judge(&k, 12), TAUT_DOUBT_NONE);
    k.broadcasts = 2;
    ck_assert_int_eq(taut__likeness_judge(&k, 13), TAUT_DOUBT_NONE); /* now and then: a checkpoint */
    k.broadcasts = 3;
    ck_assert_int_eq(taut__likeness_judge(&k, 12), TAUT_DOUBT_BROADCAST);
}
END_TEST

START_TEST(what_is_gathered_is_what_was_scattered)
{
    taut__likeness k = {0};
    for (unsigned i = 0; i < N; i++) sum[i] = gradient(0, i, 3), own[i] = sum[i] / 7;
    ck_assert(taut__is_multiple(own, sum, N));
    for (int t = 0; t < TAUT_LOOKS; t++) taut__likeness_gathered(&k, own, sum, N);
    ck_assert_int_eq(taut__likeness_judge(&k, 3), TAUT_DOUBT_NONE);
    own[N / 2] *= 1.01f; /* one of a thousand */
    ck_assert(!taut__is_multiple(own, sum, N));
    for (unsigned i = 0; i < N; i++) own[i] = noise(i, 5) - 1e-3f * sum[i]; /* weights after a step */
    ck_assert(!taut__is_multiple(own, sum, N));
    taut__likeness_gathered(&k, own, sum, N);
    ck_assert_int_eq(taut__likeness_judge(&k, 4), TAUT_DOUBT_FOREIGN);
    for (unsigned i = 0; i < N; i++) own[i] = 0;
    ck_assert(taut__is_multiple(own, sum, N));
    for (unsigned i = 0; i < N; i++) own[i] = 1, sum[i] = 0;
    ck_assert(!taut__is_multiple(own, sum, N));
}
END_TEST

START_TEST(halves_are_read_right)
{
    for (uint32_t h = 0; h < 65536; h++) {
        double want = (h >> 10 & 31) ? ldexp(1024 + (h & 1023), (int)(h >> 10 & 31) - 25) : ldexp(h & 1023, -24);
        float  got = taut__from_half((uint16_t)h);
        if ((h >> 10 & 31) == 31) ck_assert(h & 1023 ? isnan(got) : isinf(got));
        else ck_assert(got == (float)(h & 0x8000 ? -want : want));
    }
    ck_assert(taut__from_half(0x3c00) == 1 && taut__from_half(0xc000) == -2 && taut__from_half(0x7bff) == 65504 &&
              taut__from_half(1) == 0x1p-24f);
}
END_TEST

START_TEST(samples_lie_inside_and_apart)
{
    for (size_t n = 1; n < 5000; n += 37) {
        size_t m = taut__min(n, TAUT_SAMPLE), last = 0;
        for (size_t i = 0; i < m; i++) {
            size_t at = taut__sample_at(n, m, i);
            ck_assert_uint_lt(at, n);
            if (i) ck_assert_uint_gt(at, last);
            last = at;
        }
    }
}
END_TEST

/* ---- lists of sites ---- */

START_TEST(picks_are_numbers_and_ranges_of_bytes)
{
    taut__pick p[TAUT_PICKS];
    size_t     n;
    ck_assert_int_eq(taut__preload_picks("X", "3,1M..4M,64K..,..100,1.5K..2K", p, &n), TAUT_OK);
    ck_assert_uint_eq(n, 5);
    ck_assert(taut__preload_picked(p, 1, 3, 0) && !taut__preload_picked(p, 1, 4, 3));
    ck_assert(taut__preload_picked(p + 1, 1, 9, 1 << 20) && taut__preload_picked(p + 1, 1, 9, 4 << 20) &&
              !taut__preload_picked(p + 1, 1, 9, (4 << 20) + 1));
    ck_assert(taut__preload_picked(p + 2, 1, 9, SIZE_MAX) && !taut__preload_picked(p + 2, 1, 9, 65535));
    ck_assert(taut__preload_picked(p + 3, 1, 9, 100) && !taut__preload_picked(p + 3, 1, 9, 101));
    ck_assert(taut__preload_picked(p + 4, 1, 9, 1536));
    ck_assert_int_eq(taut__preload_picks("X", "", p, &n), TAUT_OK);
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(bad_picks_are_named)
{
    static const char *const bad[] = {"x", "1,", "1M", "4M..1M", "1..2..3", "-3", "3;4", "1e400..", ",1"};
    taut__pick               p[TAUT_PICKS];
    size_t                   n;
    ck_assert_int_ne(taut__preload_picks("TAUT_INCLUDE", bad[_i], p, &n), TAUT_OK);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "TAUT_INCLUDE="));
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "expected"));
}
END_TEST

static bool wants_check(const char *name)
{
    return strcmp(name, "tcase_create") == 0 || strcmp(name, "strtod") == 0 || strcmp(name, "printf") == 0;
}
static bool wants_nothing_there_is(const char *name) { return strcmp(name, "MPI_Iallreduce_of_nobody") == 0; }

START_TEST(settings_that_are_empty_or_say_no_are_not_there)
{
    static const char *const no[] = {"", "0", "off", "No", "FALSE"};
    taut__preload_options    o;
    setenv("TAUT_THRESHOLD", "", 1), setenv("TAUT_BUDGET", "", 1), setenv("TAUT_CODEC", "", 1);
    setenv("TAUT_DRYRUN", no[_i], 1);
    taut__preload_options_load(&o);
    ck_assert(!o.dry_run && !o.codec_given && o.threshold == 1 << 16);
    setenv("TAUT_DRYRUN", "1", 1), setenv("TAUT_BUDGET", "rel=0.1", 1);
    taut__preload_options_load(&o);
    ck_assert(o.dry_run && o.codec_given);
    unsetenv("TAUT_THRESHOLD"), unsetenv("TAUT_BUDGET"), unsetenv("TAUT_CODEC"), unsetenv("TAUT_DRYRUN");
}
END_TEST

/* launch/tautrun takes and refuses the same: test_tautrun in test_preload.sh. */
START_TEST(a_threshold_is_a_number_of_bytes)
{
    static const struct {
        const char *text;
        size_t      bytes; /* the default where it is refused */
    } list[] = {{"1e6", 1000000}, {"1.5M", 3 << 19},  {"7.K", 7168},        {"1e18", 1000000000000000000},
                {".5M", 1 << 16}, {"1.2.3", 1 << 16}, {"0x20000", 1 << 16}, {"1e10G", 1 << 16}};
    taut__preload_options o;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        setenv("TAUT_THRESHOLD", list[i].text, 1);
        taut__preload_options_load(&o);
        ck_assert_msg(o.threshold == list[i].bytes, "%s: %zu", list[i].text, o.threshold);
    }
    unsetenv("TAUT_THRESHOLD");
}
END_TEST

START_TEST(imports_are_seen)
{
    static const char *const yes[] = {"MPI_Iallreduce",       "PMPI_Iallreduce",
                                      "mpi_iallreduce_",      "MPI_IALLREDUCE",
                                      "mpi_iallreduce__",     "mpi_iallreduce_f08_",
                                      "MPI_Allreduce_init",   "MPIX_Allreduce_init",
                                      "pmpi_allreduce_init_", "__mpi_f08_MOD_mpi_iallreduce_f08ts"};
    static const char *const no[] = {"MPI_Allreduce",  "mpi_allreduce_", "MPI_Init", "MPI_Ireduce",
                                     "MPI_Iallgather", "iallreduce",     "init",     ""};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        ck_assert_msg(taut__reduces_behind_a_request(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        ck_assert_msg(!taut__reduces_behind_a_request(no[i]), "%s", no[i]);
    ck_assert(taut__program_imports(wants_check));
    ck_assert(!taut__program_imports(wants_nothing_there_is));
    ck_assert(!taut__program_imports(taut__reduces_behind_a_request));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("preload");
    TCase *t = suite_case(s, "preload", 0);
    tcase_add_loop_test(t, periods_are_the_shortest_that_have_run_three_times, 0, 30);
    tcase_add_test(t, a_cycle_of_small_calls_only_is_none);
    tcase_add_test(t, long_runs_keep_the_history_that_fits);
    tcase_add_test(t, keys_differ_by_all_that_ranks_must_share);
    tcase_add_test(t, votes_are_many_at_first_and_never_end);
    tcase_add_test(t, ranks_ask_seldom_but_never_stop);
    tcase_add_test(t, pauses_grow_and_end);
    tcase_add_test(t, values_are_told_apart);
    tcase_add_test(t, results_that_are_broadcast_are_parameters);
    tcase_add_test(t, what_is_gathered_is_what_was_scattered);
    tcase_add_test(t, halves_are_read_right);
    tcase_add_test(t, samples_lie_inside_and_apart);
    tcase_add_test(t, picks_are_numbers_and_ranges_of_bytes);
    tcase_add_test(t, a_threshold_is_a_number_of_bytes);
    tcase_add_test(t, imports_are_seen);
    tcase_add_loop_test(t, settings_that_are_empty_or_say_no_are_not_there, 0, 5);
    tcase_add_loop_test(t, bad_picks_are_named, 0, 9);
    return suite_run(s);
}
