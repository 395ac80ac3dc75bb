/* test_sampler_data.c : orders keep blocks together; plans give the sets they
 * promise; streams do not depend on ranks or on being stopped. */
#include "compressors/dataset/sampler/philox.h"
#include "compressors/dataset/sampler/sampler.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static taut__order_key key_of(uint64_t seed) { return (taut__order_key){.seed = seed, .round = seed % 7, .stream = 3}; }

/* ---- orders ---- */

static const struct {
    uint64_t samples[4];
    size_t   segments;
    uint64_t chunk, window;
} shape[] = {
    {{1}, 1, 1, 0},           {{1}, 1, 64, 8},           {{5}, 1, 64, 1},
    {{64}, 1, 64, 4},         {{65}, 1, 64, 4},          {{1000}, 1, 64, 4},
    {{1000}, 1, 64, 0},       {{1000}, 1, 1, 16},        {{12345}, 1, 83, 1},
    {{60000}, 1, 83, 64},     {{100, 7, 300}, 3, 10, 4}, {{3, 2, 1}, 3, 10, 4},
    {{9, 9, 9, 9}, 4, 10, 1}, {{10, 9, 9, 9}, 4, 10, 8}, {{70000, 70000}, 2, 50, 2000},
    {{200003}, 1, 2, 3},      {{4097, 1}, 2, 4096, 2},
};

START_TEST(order_is_a_permutation)
{
    taut__order o;
    uint64_t    n = 0, bad;
    uint8_t    *seen;
    for (size_t k = 0; k < shape[_i].segments; k++) n += shape[_i].samples[k];
    seen = malloc(n);
    ck_assert_int_eq(taut__order_init(&o, shape[_i].samples, shape[_i].segments, shape[_i].chunk, shape[_i].window),
                     TAUT_OK);
    for (uint64_t round = 0; round < 3; round++) {
        uint64_t x, back;
        ck_assert_int_eq(taut__order_set(&o, (taut__order_key){9, round, 0, 0}), TAUT_OK);
        memset(seen, 0, n);
        bad = 0;
        for (uint64_t i = 0; i < n; i++) {
            bad += taut__order_at(&o, i, &x) != TAUT_OK || x >= n || seen[x];
            if (x < n) seen[x] = 1;
        }
        ck_assert_uint_eq(bad, 0);
        for (uint64_t k = 0; k < 200; k++) { /* in any order of asking */
            uint64_t i = taut__mix64(k) % n;
            ck_assert_int_eq(taut__order_at(&o, i, &x), TAUT_OK);
            ck_assert_int_eq(taut__order_at(&o, taut__mix64(k + 999) % n, &back), TAUT_OK);
            ck_assert_int_eq(taut__order_at(&o, i, &back), TAUT_OK);
            ck_assert_uint_eq(x, back);
        }
        ck_assert_int_eq(taut__order_at(&o, n, &x), TAUT_E_RANGE);
    }
    taut__order_free(&o);
    free(seen);
}
END_TEST

/* Every chunk is done with within one window: between its first and its last sample lie no more places than a window has. */
START_TEST(order_keeps_chunks_together)
{
    enum { N = 60000, CHUNK = 83, WINDOW = 16 };
    const uint64_t n = N;
    static int64_t first[N / CHUNK], last[N / CHUNK];
    taut__order    o;
    uint64_t       neighbours = 0, before = 0, x;
    ck_assert_int_eq(taut__order_init(&o, &n, 1, CHUNK, WINDOW), TAUT_OK);
    ck_assert_int_eq(taut__order_set(&o, key_of(1)), TAUT_OK);
    for (size_t c = 0; c < COUNT(first); c++) first[c] = -1;
    for (uint64_t i = 0; i < N; i++) {
        if (taut__order_at(&o, i, &x) != TAUT_OK) ck_abort();
        neighbours += x == before + 1;
        before = x;
        if (x / CHUNK >= COUNT(first)) continue; /* the tail */
        if (first[x / CHUNK] < 0) first[x / CHUNK] = (int64_t)i;
        last[x / CHUNK] = (int64_t)i;
    }
    for (size_t c = 0; c < COUNT(first); c++) ck_assert_int_lt(last[c] - first[c], (WINDOW + 1) * CHUNK);
    ck_assert_uint_lt(neighbours, 100); /* shuffled inside, too: 45 expected by chance */
    taut__order_free(&o);
}
END_TEST

/* ---- plans at work ---- */

static taut__plan plan_of(const char *rule, uint64_t a, uint64_t b, uint64_t window)
{
    taut__plan          p = {.seed = 5, .rounds = 10, .window = window};
    taut__plan_defaults d = {0};
    ck_assert_int_eq(taut__plan_add_shard(&p, "a.taut", 1, a), TAUT_OK);
    if (b) ck_assert_int_eq(taut__plan_add_shard(&p, "b.taut", 2, b), TAUT_OK);
    ck_assert_msg(taut__plan_add_rule(&p, rule, &d) == TAUT_OK, "%s: %s", rule, taut_last_error());
    return p;
}

/* How often each of n samples is in a round; returns the samples of a round. */
static uint64_t tally(taut__sampler *s, const taut__plan *p, uint64_t round, unsigned *count, uint64_t n)
{
    uint64_t m = taut__plan_samples(p), x;
    for (uint64_t i = 0; i < m; i++) {
        if (taut__sampler_at(s, round, i, &x, NULL) != TAUT_OK || x >= n) ck_abort_msg("%s", taut_last_error());
        count[x]++;
    }
    return m;
}

static const struct {
    const char *rule;
    uint64_t    samples; /* of a round, of 1000 */
    unsigned    rounds;  /* of a pass; 0 = a static set */
} rules[] = {
    {"full", 1000, 1},
    {"rs2:budget=10%", 100, 10},
    {"rs2:budget=30%", 300, 3},
    {"rs2:budget=333", 333, 3},
    {"rs2:budget=60%", 600, 1},
    {"rs2:budget=100%", 1000, 1},
    {"rs2:budget=10%,replace=yes", 100, 1},
    {"static:budget=10%", 100, 0},
    {"static:budget=1", 1, 0},
    {"rs2:budget=10%,strata=label", 100, 9}, /* the smallest class of size 99: 10 a round, so 9 rounds, the others 10 */
    {"static:budget=10%,strata=label", 100, 0},
    {"rs2:budget=20%,replace=yes,strata=label", 200, 1},
};

static void fill_labels(int64_t *label, size_t n)
{
    for (size_t i = 0; i < n; i++) label[i] = (int64_t)(i * 7 % 10) - 3;
    label[0] = 6; /* classes of 99, 100 ..., 101 */
}

START_TEST(rounds_are_what_the_rule_says)
{
    taut__plan     p = plan_of(rules[_i].rule, 900, 100, _i % 2 ? 4 : 0);
    taut__sampler *s;
    unsigned       count[1000], first[1000], pass[1000] = {0};
    int64_t        label[1000];
    bool           same = true;
    fill_labels(label, 1000);
    ck_assert_msg(taut__sampler_create(&p, 16, label, &s) == TAUT_OK, "%s", taut_last_error());
    for (uint64_t round = 0; round < 12; round++) {
        memset(count, 0, sizeof count);
        ck_assert_uint_eq(tally(s, &p, round, count, 1000), rules[_i].samples);
        for (int x = 0; x < 1000; x++)
            if (count[x] > 1) ck_abort_msg("sample %d twice in round %d", x, (int)round);
        if (round == 0) memcpy(first, count, sizeof first);
        else if (memcmp(first, count, sizeof first) != 0) same = false;
        for (int x = 0; rules[_i].rounds && x < 1000; x++) { /* so has a pass */
            unsigned rounds = rules[_i].rounds == 9 && label[x] != -3 ? 10 : rules[_i].rounds;
            if (round % rounds == 0) pass[x] = 0;
            pass[x] += count[x];
            if (pass[x] > 1) ck_abort_msg("sample %d twice in a pass", x);
        }
        if (strstr(rules[_i].rule, "strata")) {
            uint64_t share[10] = {0};
            for (int x = 0; x < 1000; x++) share[label[x] + 3] += count[x];
            for (int c = 0; c < 10; c++) ck_assert_uint_eq(share[c], rules[_i].samples / 10);
        }
    }
    ck_assert_int_eq(same, rules[_i].rounds == 0 || rules[_i].samples == 1000);
    taut__sampler_destroy(s);
    taut__plan_free(&p);
}
END_TEST

/* One round after the other, from the last to the first, and at random: the same samples. Two samplers: the same. */
START_TEST(access_is_random)
{
    taut__plan     p = plan_of(rules[_i].rule, 1000, 0, 8);
    taut__sampler *s, *t;
    int64_t        label[1000];
    uint64_t       m = taut__plan_samples(&p), x, y;
    fill_labels(label, 1000);
    ck_assert_int_eq(taut__sampler_create(&p, 16, label, &s), TAUT_OK);
    ck_assert_int_eq(taut__sampler_create(&p, 16, label, &t), TAUT_OK);
    uint64_t *order = malloc(8 * m * sizeof *order);
    for (uint64_t k = 0; k < 8 * m; k++)
        if (taut__sampler_at(s, k / m, k % m, &order[k], NULL) != TAUT_OK) ck_abort();
    for (uint64_t k = 8 * m; k-- > 0;)
        if (taut__sampler_at(s, k / m, k % m, &x, NULL) != TAUT_OK || x != order[k]) ck_abort_msg("place %d", (int)k);
    for (uint64_t k = 0; k < 300; k++) {
        uint64_t at = taut__mix64(k) % (8 * m);
        ck_assert_int_eq(taut__sampler_at(t, at / m, at % m, &y, NULL), TAUT_OK);
        ck_assert_uint_eq(y, order[at]);
    }
    if (m > 1) ck_assert(memcmp(order, order + m, m * sizeof *order) != 0); /* another order in every round */
    ck_assert_int_eq(taut__sampler_at(s, 0, m, &x, NULL), TAUT_E_RANGE);
    free(order);
    taut__sampler_destroy(s);
    taut__sampler_destroy(t);
    taut__plan_free(&p);
}
END_TEST

/* A stage chooses from what the one before left. */
START_TEST(stages_compose)
{
    static const char *const rule[] = {"static:budget=50%|rs2:budget=20%",
                                       "full | static:budget=500 | rs2:budget=100,replace=yes",
                                       "static:budget=50%|static:budget=50%",
                                       "rs2:budget=50%|rs2:budget=20%",
                                       "static:budget=50%,strata=label|rs2:budget=20%,strata=label",
                                       "rs2:budget=50%|full"};
    for (size_t k = 0; k < COUNT(rule); k++) {
        taut__plan     p = plan_of(rule[k], 1000, 0, 4), outer;
        taut__sampler *s, *all;
        unsigned       count[1000] = {0}, inside[1000] = {0};
        int64_t        label[1000];
        fill_labels(label, 1000);
        ck_assert_msg(taut__sampler_create(&p, 16, label, &s) == TAUT_OK, "%s", taut_last_error());
        for (uint64_t round = 0; round < 20; round++) {
            unsigned now[1000] = {0};
            tally(s, &p, round, now, 1000);
            for (int x = 0; x < 1000; x++) {
                if (now[x] > 1) ck_abort_msg("sample %d twice", x);
                count[x] += now[x];
            }
        }
        if (k == 0) { /* the first stage alone: the same set as inside the chain */
            outer = plan_of("static:budget=50%", 1000, 0, 4);
            ck_assert_int_eq(taut__sampler_create(&outer, 16, NULL, &all), TAUT_OK);
            tally(all, &outer, 0, inside, 1000);
            for (int x = 0; x < 1000; x++)
                if ((count[x] > 0) != inside[x]) ck_abort(); /* 20 rounds of 1/5: all of it */
            taut__sampler_destroy(all);
            taut__plan_free(&outer);
        }
        taut__sampler_destroy(s);
        taut__plan_free(&p);
    }
}
END_TEST

START_TEST(lists_and_weights)
{
    taut__plan     p = {.seed = 1, .rounds = 3};
    taut__sampler *s;
    taut__stage    list = {.kind = TAUT__STAGE_LIST, .of = 100, .samples = 4};
    unsigned       seen = 0;
    list.list = taut__alloc(4, sizeof *list.list);
    list.weight = taut__alloc(4, sizeof *list.weight);
    memcpy(list.list, (uint64_t[]){7, 99, 0, 50}, 4 * sizeof *list.list);
    memcpy(list.weight, (float[]){0.5f, 1, 2, 3.25f}, 4 * sizeof *list.weight);
    ck_assert_int_eq(taut__plan_add_shard(&p, "a", 1, 100), TAUT_OK);
    ck_assert_int_eq(taut__plan_add_stage(&p, &list), TAUT_OK);
    ck_assert_int_eq(taut__sampler_create(&p, 10, NULL, &s), TAUT_OK);
    for (uint64_t i = 0; i < 4; i++) {
        uint64_t x;
        float    w;
        ck_assert_int_eq(taut__sampler_at(s, 2, i, &x, &w), TAUT_OK);
        ck_assert_float_eq(w, x == 7 ? 0.5f : x == 99 ? 1 : x == 0 ? 2 : 3.25f);
        seen |= 1u << (x == 7 ? 0 : x == 99 ? 1 : x == 0 ? 2 : x == 50 ? 3 : 4);
    }
    ck_assert_uint_eq(seen, 15);
    taut__sampler_destroy(s);
    taut__plan_free(&p);
}
END_TEST

START_TEST(labels_are_needed)
{
    taut__plan     p = plan_of("rs2:budget=10%,strata=label", 100, 0, 0);
    taut__sampler *s = (taut__sampler *)1;
    ck_assert_int_eq(taut__sampler_create(&p, 16, NULL, &s), TAUT_E_INVALID);
    ck_assert_ptr_null(s);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "label"));
    taut__plan_free(&p);
}
END_TEST

START_TEST(allocation_failures)
{
    taut__plan     p = plan_of("static:budget=50%,strata=label|rs2:budget=20%", 1000, 7, 4);
    taut__sampler *s;
    int64_t        label[1007] = {0};
    uint64_t       x;
    size_t         held = taut__alloc_bytes();
    taut_status    status = TAUT_E_NOMEM;
    for (int n = 1; status != TAUT_OK && n < 100; n++) {
        taut__alloc_fail_after(n);
        status = taut__sampler_create(&p, 16, label, &s);
        for (uint64_t i = 0; status == TAUT_OK && i < 100; i++) status = taut__sampler_at(s, 0, i, &x, NULL);
        taut__alloc_fail_after(-1);
        if (status != TAUT_OK) ck_assert_int_eq(status, TAUT_E_NOMEM);
        taut__sampler_destroy(s);
        ck_assert_uint_eq(taut__alloc_bytes(), held);
    }
    ck_assert_int_eq(status, TAUT_OK);
    taut__plan_free(&p);
}
END_TEST

/* ---- streams ---- */

START_TEST(slices_cover)
{
    for (uint64_t n = 0; n <= 40; n++)
        for (uint32_t ranks = 1; ranks <= 9; ranks++) {
            uint64_t at = 0;
            for (uint32_t r = 0; r < ranks; r++) {
                taut__slice s = taut__slice_of(n, ranks, r);
                ck_assert_uint_eq(s.first, at);
                ck_assert_uint_le(s.n, n / ranks + 1);
                at += s.n;
            }
            ck_assert_uint_eq(at, n);
        }
}
END_TEST

/* A job that is killed a hundred times, goes on from its state every time with another number of ranks (and then loses
 * what it had done since): the ids that its steps saw are those of a job that never stopped. */
START_TEST(killed_and_resumed)
{
    enum { BATCH = 7 };
    taut__plan     p = plan_of("rs2:budget=30%", 900, 123, 2);
    uint64_t       m = taut__plan_samples(&p), all = p.rounds * m, at = 0, x, y;
    taut__sampler *reference, *s;
    uint8_t        saved[TAUT__SAMPLER_STATE];
    int            kills = 0;
    p.hash = 77;
    ck_assert_int_eq(taut__sampler_create(&p, 16, NULL, &reference), TAUT_OK);
    taut__sampler_state_save(&(taut__sampler_state){p.seed, p.hash, 0, 0, BATCH}, saved);
    while (at < all) {
        taut__sampler_state st;
        uint64_t            until = at + taut__mix64((uint64_t)kills) % (all / 60), step, keep;
        uint32_t            ranks = 1 + (uint32_t)(taut__mix64((uint64_t)kills + 5) % 4);
        if (kills > 130) until = all;
        ck_assert_int_eq(taut__sampler_state_load(&st, saved, sizeof saved), TAUT_OK);
        ck_assert_uint_eq(st.round * m + st.position, at);
        ck_assert_int_eq(taut__sampler_create(&p, 16, NULL, &s), TAUT_OK);
        keep = at;
        for (step = at; step < all && step <= until; step += BATCH) {
            uint64_t n = all - step < BATCH ? all - step : BATCH, seen = step;
            for (uint32_t r = 0; r < ranks; r++) {
                taut__slice slice = taut__slice_of(n, ranks, r);
                for (uint64_t k = 0; k < slice.n; k++, seen++) {
                    uint64_t place = step + slice.first + k;
                    if (place != seen || taut__sampler_at(s, place / m, place % m, &x, NULL) != TAUT_OK ||
                        taut__sampler_at(reference, seen / m, seen % m, &y, NULL) != TAUT_OK || x != y)
                        ck_abort_msg("place %llu", (unsigned long long)place);
                }
            }
            keep = step + n;
            if (kills % 3 == 0) break; /* saved here, then some more steps are lost */
        }
        at = keep;
        taut__sampler_state_save(&(taut__sampler_state){p.seed, p.hash, at / m, at % m, BATCH}, saved);
        taut__sampler_destroy(s);
        kills++;
    }
    ck_assert_int_ge(kills, 100);
    taut__sampler_destroy(reference);
    taut__plan_free(&p);
}
END_TEST

START_TEST(state_bytes)
{
    taut__sampler_state a = {1, UINT64_MAX, 3, 1ull << 40, 5}, b;
    uint8_t             bytes[TAUT__SAMPLER_STATE];
    ck_assert_int_le(TAUT__SAMPLER_STATE, 128);
    taut__sampler_state_save(&a, bytes);
    ck_assert_int_eq(taut__sampler_state_load(&b, bytes, sizeof bytes), TAUT_OK);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_int_eq(taut__sampler_state_load(&b, bytes, sizeof bytes - 1), TAUT_E_CORRUPT);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_eq(taut__sampler_state_load(&b, bytes, sizeof bytes), TAUT_E_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}
END_TEST

/* ---- speed ---- */

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* At a thousand million samples, in the middle of the stream. CPU time, the best of ten: a busy machine does not matter
 * much; the figure in docs/results.md is printed by SPEED=1. A sanitizer build is not asked. */
START_TEST(a_billion)
{
    enum { N = 100000 };
    for (int uniform = 0; uniform < 2; uniform++) {
        taut__plan     p = plan_of("full", 1000000000, 0, uniform ? 0 : 64);
        taut__sampler *s;
        double         best = 1;
        uint64_t       x;
        ck_assert_int_eq(taut__sampler_create(&p, 64, NULL, &s), TAUT_OK);
        for (int k = 0; k < 10; k++) {
            double begin = cpu_now();
            for (uint64_t i = 0; i < N; i++)
                if (taut__sampler_at(s, 3, 500000000 + i, &x, NULL) != TAUT_OK) ck_abort();
            if (cpu_now() - begin < best) best = cpu_now() - begin;
        }
        if (getenv("SPEED"))
            printf("%s: %.1f ns per sample\n", uniform ? "all samples at once" : "blocks of 64, windows of 64",
                   1e9 * best / N);
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        ck_assert_msg(best / N < 200e-9, "%.1f ns per sample", 1e9 * best / N);
#endif
        taut__sampler_destroy(s);
        taut__plan_free(&p);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tc = suite_case(suite, "sampler", 120);
    tcase_add_loop_test(tc, order_is_a_permutation, 0, (int)COUNT(shape));
    tcase_add_test(tc, order_keeps_chunks_together);
    tcase_add_loop_test(tc, rounds_are_what_the_rule_says, 0, (int)COUNT(rules));
    tcase_add_loop_test(tc, access_is_random, 0, (int)COUNT(rules));
    tcase_add_test(tc, stages_compose);
    tcase_add_test(tc, lists_and_weights);
    tcase_add_test(tc, labels_are_needed);
    tcase_add_test(tc, allocation_failures);
    tcase_add_test(tc, slices_cover);
    tcase_add_test(tc, killed_and_resumed);
    tcase_add_test(tc, state_bytes);
    tcase_add_test(tc, a_billion);
    return suite_run(suite);
}
