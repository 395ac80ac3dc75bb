/* test_minhash_data.c : n-gram sets and Jaccard against a plain computation; sketches against their probability; the search
 * against all pairs. */
#include "compressors/dataset/minhash.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 11;
static uint32_t dice(uint32_t n) { return (uint32_t)((seed = taut__mix64(seed)) >> 32) % n; }

static void text_of(taut__shingles *s, const char *text, unsigned ngram)
{
    ck_assert_int_eq(taut__shingles_text(s, (const uint8_t *)text, strlen(text), ngram), TAUT_OK);
}

START_TEST(words)
{
    static const struct {
        const char *text;
        unsigned    ngram;
        size_t      n;
    } cases[] = {{"", 5, 0},
                 {" ,.;\n", 5, 0},
                 {"one", 5, 1},
                 {"one two three four", 5, 1},
                 {"one two three four five", 5, 1},
                 {"a b c d e f", 5, 2},
                 {"a a a a a a a", 5, 1},
                 {"a b c", 1, 3},
                 {"x-y/z", 1, 3},
                 {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 1, 3},
                 {"n\xc3\xa9"
                  "e",
                  1, 1},
                 {"\xe6\x97", 1, 1}};
    taut__shingles s = {0}, t = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text_of(&s, cases[i].text, cases[i].ngram);
        ck_assert_msg(s.n == cases[i].n, "case %zu '%s': %zu n-grams, not %zu", i, cases[i].text, s.n, cases[i].n);
    }
    text_of(&s, "The quick, brown FOX jumps over", 5);
    text_of(&t, "the quick brown fox  jumps OVER!", 5);
    ck_assert(taut__jaccard(&s, &t) == 1);
    text_of(&t, "over jumps fox brown quick the", 5); /* order counts */
    ck_assert(taut__jaccard(&s, &t) == 0);
    text_of(&s, "", 5);
    text_of(&t, "", 5);
    ck_assert(taut__jaccard(&s, &t) == 0);
    ck_assert_int_eq(taut__shingles_text(&s, (const uint8_t *)"a", 1, 0), TAUT_E_RANGE);
    ck_assert_int_eq(taut__shingles_text(&s, (const uint8_t *)"a", 1, 33), TAUT_E_RANGE);
    taut__shingles_free(&s);
    taut__shingles_free(&t);
}
END_TEST

START_TEST(tokens)
{
    taut__shingles s = {0}, t = {0};
    uint16_t       a[] = {1, 2, 3, 4, 5, 6, 7}, b[] = {9, 1, 2, 3, 4, 5, 8};
    ck_assert_int_eq(taut__shingles_tokens(&s, (const uint8_t *)a, sizeof a, 2, 5), TAUT_OK);
    ck_assert_int_eq(taut__shingles_tokens(&t, (const uint8_t *)b, sizeof b, 2, 5), TAUT_OK);
    ck_assert_uint_eq(s.n, 3);
    ck_assert(taut__jaccard(&s, &t) == 1 / 5.0); /* 1 2 3 4 5 of five */
    ck_assert_int_eq(taut__shingles_tokens(&s, (const uint8_t *)a, sizeof a, 3, 5), TAUT_E_RANGE);
    taut__shingles_free(&s);
    taut__shingles_free(&t);
}
END_TEST

/* Two sets of `each` numbers with `both` in common. */
static void two_sets(taut__shingles *a, taut__shingles *b, size_t each, size_t both)
{
    uint32_t x[4096], y[4096];
    for (size_t i = 0; i < each; i++) x[i] = dice(1u << 31), y[i] = i < both ? x[i] : 1u << 31 | dice(1u << 31);
    ck_assert_int_eq(taut__shingles_tokens(a, (const uint8_t *)x, 4 * each, 4, 1), TAUT_OK);
    ck_assert_int_eq(taut__shingles_tokens(b, (const uint8_t *)y, 4 * each, 4, 1), TAUT_OK);
}

/* How often a band agrees, against 1 - (1 - J^rows)^bands. */
START_TEST(probability)
{
    static const double at[] = {0.3, 0.5, 0.7, 0.8, 0.9};
    taut__shingles      a = {0}, b = {0};
    for (size_t k = 0; k < sizeof at / sizeof *at; k++) {
        int    hits = 0, trials = 600;
        double sum = 0, p, each = 300;
        for (int t = 0; t < trials; t++) {
            taut__minhash m;
            uint64_t      x[TAUT__MINHASH_BANDS], y[TAUT__MINHASH_BANDS];
            size_t        both = (size_t)lround(2 * at[k] * each / (1 + at[k]));
            bool          hit = false;
            ck_assert_int_eq(taut__minhash_init(&m, TAUT__MINHASH_BANDS, TAUT__MINHASH_ROWS, (uint64_t)t), TAUT_OK);
            two_sets(&a, &b, (size_t)each, both);
            taut__minhash_keys(&m, &a, x);
            taut__minhash_keys(&m, &b, y);
            for (int i = 0; i < TAUT__MINHASH_BANDS; i++) hit |= x[i] == y[i];
            hits += hit;
            sum += 1 - pow(1 - pow(taut__jaccard(&a, &b), TAUT__MINHASH_ROWS), TAUT__MINHASH_BANDS);
        }
        p = sum / trials;
        ck_assert_msg(fabs(hits - sum) <= 4.5 * sqrt(trials * p * (1 - p)) + 1, "J %g: %d of %d, expected %.1f", at[k],
                      hits, trials, sum);
    }
    taut__shingles_free(&a);
    taut__shingles_free(&b);
}
END_TEST

/* ---- search ---- */
enum { DOCS = 400 };
typedef struct pile {
    taut__shingles set[DOCS];
    uint64_t       asked;
} pile;

static taut_status near_in(void *ctx, uint64_t i, uint64_t j, bool *yes)
{
    pile *p = ctx;
    p->asked++;
    ck_assert(i < j);
    *yes = taut__jaccard(&p->set[i], &p->set[j]) >= TAUT__NEAR_JACCARD;
    return TAUT_OK;
}

/* Groups of texts that differ in a few words: against all pairs, whose only difference may be a missed candidate. */
START_TEST(search)
{
    static pile   p;
    taut__minhash m;
    uint64_t      key[DOCS * TAUT__MINHASH_BANDS], first[DOCS], again[DOCS];
    int           wrong = 0, dropped = 0;
    taut__near    near = {&p, near_in};
    ck_assert_int_eq(taut__minhash_init(&m, TAUT__MINHASH_BANDS, TAUT__MINHASH_ROWS, 1), TAUT_OK);
    for (int d = 0; d < DOCS; d++) {
        uint32_t ids[200];
        seed = (uint64_t)(d / 4 * 1000); /* four of a kind */
        for (int i = 0; i < 200; i++) ids[i] = dice(100000);
        seed = (uint64_t)d;
        for (int i = 0; i < d % 4 * 2; i++) ids[dice(200)] = 200000 + (uint32_t)d;
        ck_assert_int_eq(taut__shingles_tokens(&p.set[d], (const uint8_t *)ids, d % 50 == 49 ? 0 : sizeof ids, 4, 5),
                         TAUT_OK);
        taut__minhash_keys(&m, &p.set[d], key + d * TAUT__MINHASH_BANDS);
    }
    ck_assert_int_eq(taut__near_duplicates(DOCS, TAUT__MINHASH_BANDS, key, &near, first), TAUT_OK);
    ck_assert_int_eq(taut__near_duplicates(DOCS, TAUT__MINHASH_BANDS, key, &near, again), TAUT_OK);
    ck_assert(memcmp(first, again, sizeof first) == 0);
    for (uint64_t j = 0; j < DOCS; j++) {
        uint64_t want = j;
        for (uint64_t i = 0; i < j && want == j; i++)
            if (first[i] == i && taut__jaccard(&p.set[i], &p.set[j]) >= TAUT__NEAR_JACCARD) want = i;
        ck_assert(first[j] <= j && first[first[j]] == first[j]);
        ck_assert(first[j] == j || taut__jaccard(&p.set[first[j]], &p.set[j]) >= TAUT__NEAR_JACCARD);
        wrong += want != first[j];
        dropped += first[j] != j;
    }
    ck_assert_msg(dropped > 150 && wrong <= 20, "%d dropped, %d not as all pairs say", dropped, wrong);
    ck_assert_msg(p.asked < 4 * DOCS, "%llu pairs asked", (unsigned long long)p.asked);
    ck_assert_int_eq(taut__minhash_init(&m, 0, 8, 1), TAUT_E_RANGE);
    ck_assert_int_eq(taut__minhash_init(&m, 512, 2, 1), TAUT_E_RANGE);
    for (int d = 0; d < DOCS; d++) taut__shingles_free(&p.set[d]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("minhash");
    TCase *t = suite_case(suite, "minhash", 60);
    tcase_add_test(t, words);
    tcase_add_test(t, tokens);
    tcase_add_test(t, probability);
    tcase_add_test(t, search);
    return suite_run(suite);
}
