/* test_permutation_data.c : Philox gives its authors' numbers; permutations are permutations, uniform ones, and independent of each other. */
#include "compressors/dataset/sampler/philox.h"
#include "compressors/dataset/sampler/sampler.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static taut__order_key key_of(uint64_t seed) { return (taut__order_key){.seed = seed, .round = seed % 7, .stream = 3}; }

/* Critical value of chi-squared at p = 0.001 (Wilson & Hilferty 1931). */
static double chi2_limit(double df)
{
    double a = 2 / (9 * df), t = 1 - a + 3.0902 * sqrt(a);
    return df * t * t * t;
}

/* ---- Philox: the known answers of its authors (Random123, kat_vectors) ---- */
START_TEST(philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < COUNT(kat); i++) {
        taut__philox_block c, out;
        memcpy(c.word, kat[i].counter, sizeof c.word);
        out = taut__philox(c, kat[i].key[0] | (uint64_t)kat[i].key[1] << 32);
        ck_assert_mem_eq(out.word, kat[i].out, sizeof out.word);
    }
}
END_TEST

/* ---- permutations ---- */

/* Every assertion of Check costs a system call, so the loops count, and assert once. */
static void check_bijective(const taut__permutation *p, uint8_t *seen)
{
    uint64_t bad = 0;
    memset(seen, 0, p->n);
    for (uint64_t i = 0; i < p->n; i++) {
        uint64_t x = taut__permute(p, i);
        bad += x >= p->n || seen[x];
        if (x < p->n) seen[x] = 1;
    }
    ck_assert_msg(bad == 0, "n %llu: %llu places wrong", (unsigned long long)p->n, (unsigned long long)bad);
}

/* The table and the network, every n up to 4096. */
START_TEST(bijective_small)
{
    taut__permutation p = {0}, q = {0};
    uint8_t          *seen = malloc(4096);
    for (uint64_t n = 1; n <= 4096; n++) {
        ck_assert_int_eq(taut__permutation_set(&p, n, key_of(n)), TAUT_OK);
        check_bijective(&p, seen);
        taut__permutation_set_network(&q, n, key_of(n));
        ck_assert_ptr_null(q.table);
        check_bijective(&q, seen);
    }
    taut__permutation_free(&p);
    taut__permutation_free(&q);
    free(seen);
}
END_TEST

START_TEST(bijective_large)
{
    static const uint64_t n[] = {65535, 65536, 65537, 131072, 131073, 1000003, 1 << 20};
    uint8_t              *seen = malloc(1 << 20);
    taut__permutation     p = {0};
    for (size_t k = 0; k < COUNT(n); k++) {
        ck_assert_int_eq(taut__permutation_set(&p, n[k], key_of(k)), TAUT_OK);
        ck_assert_int_eq(p.table != NULL, n[k] <= TAUT__TABLE_MAX);
        check_bijective(&p, seen);
    }
    taut__permutation_free(&p);
    free(seen);
}
END_TEST

/* The network is a bijection of its whole domain, also where that is too large to go through: invert it step by step. */
static uint64_t unfeistel(const taut__permutation *p, uint64_t x)
{
    uint32_t lm = (uint32_t)((UINT64_C(1) << p->left) - 1), rm = (uint32_t)((UINT64_C(1) << p->right) - 1), inverse = 1;
    uint32_t l = (uint32_t)(x >> p->right) & lm, r = (uint32_t)x & rm, extra = p->right - p->left;
    for (int i = 0; i < 6; i++) inverse *= 2 - 0xD256D193u * inverse; /* Newton, of the multiplier modulo 2^32 */
    for (int i = TAUT__FEISTEL_ROUNDS - 1; i >= 0; i--) {
        uint32_t before = ((uint32_t)((uint64_t)r >> extra) * inverse) & lm;
        uint32_t high = (uint32_t)(((uint64_t)0xD256D193u * before) >> 32);
        uint32_t low = (l ^ p->round_key[i] ^ high) & lm;
        r = ((uint32_t)((uint64_t)(r & ((1u << extra) - 1)) << p->left) | low) & rm;
        l = before;
    }
    return (uint64_t)l << p->right | r;
}

START_TEST(network_inverts)
{
    taut__permutation p = {0};
    unsigned          bad = 0;
    for (unsigned bits = 2; bits <= 62; bits++) {
        taut__permutation_set_network(&p, UINT64_C(1) << bits, key_of(bits));
        ck_assert_uint_eq(p.left + p.right, bits);
        for (uint64_t k = 0; k < 2000; k++) {
            uint64_t x = taut__mix64(k) & ((UINT64_C(1) << bits) - 1), y = taut__feistel(&p, x);
            bad += y >> bits != 0 || unfeistel(&p, y) != x;
        }
        ck_assert_uint_eq(bad, 0);
    }
}
END_TEST

/* All 120 permutations of five, over 10^5 seeds. */
START_TEST(uniform_five)
{
    enum { SEEDS = 100000 };
    taut__permutation p = {0};
    unsigned          count[120] = {0};
    double            chi2 = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        unsigned rank = 0; /* Lehmer code */
        if (taut__permutation_set(&p, 5, key_of(seed)) != TAUT_OK) ck_abort();
        for (uint64_t i = 0; i < 5; i++) {
            unsigned less = 0;
            for (uint64_t j = i + 1; j < 5; j++) less += taut__permute(&p, j) < taut__permute(&p, i);
            rank = rank * (unsigned)(5 - i) + less;
        }
        count[rank]++;
    }
    for (int k = 0; k < 120; k++) chi2 += pow(count[k] - SEEDS / 120.0, 2) / (SEEDS / 120.0);
    taut__permutation_free(&p);
    ck_assert_msg(chi2 < chi2_limit(119), "chi-squared %.1f", chi2);
}
END_TEST

/* Where the network puts two given places of n: each uniform, and independent of the other. */
START_TEST(uniform_large)
{
    enum { SEEDS = 40000, BINS = 16 };
    static const uint64_t size[] = {65537, 1000000, 1 << 20, UINT64_C(1000000007)};
    taut__permutation     p = {0};
    for (size_t k = 0; k < 4 * COUNT(size); k++) {
        uint64_t n = size[k / 4], pair[][2] = {{0, 1}, {0, n - 1}, {n / 8, n / 2 + 17}, {32767, 32768}},
                 *at = pair[k % 4];
        unsigned count[BINS * BINS] = {0};
        double   chi2 = 0, expected = SEEDS / (double)(BINS * BINS);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            taut__permutation_set_network(&p, n, key_of(seed));
            count[taut__permute(&p, at[0]) * BINS / n * BINS + taut__permute(&p, at[1]) * BINS / n]++;
        }
        for (int b = 0; b < BINS * BINS; b++) chi2 += pow(count[b] - expected, 2) / expected;
        ck_assert_msg(chi2 < chi2_limit(BINS * BINS - 1), "%llu places, %llu and %llu: chi-squared %.1f",
                      (unsigned long long)n, (unsigned long long)at[0], (unsigned long long)at[1], chi2);
    }
}
END_TEST

/* Keys that differ in any part give permutations that have nothing to do with each other: about one fixed point. */
START_TEST(keys_differ)
{
    static const taut__order_key key[] = {{1, 0, 0, 0},
                                          {2, 0, 0, 0},
                                          {1, 1, 0, 0},
                                          {1, UINT64_C(1) << 32, 0, 0},
                                          {1, 0, 1, 0},
                                          {1, 0, 0, 1},
                                          {UINT64_C(1) << 63, 0, 0, 0},
                                          {0, 1, 0, 0},
                                          {0, 0, 1, 0},
                                          {0, 0, 0, 1}};
    static const uint64_t        size[] = {50000, 200000};
    for (size_t n = 0; n < COUNT(size); n++)
        for (size_t a = 0; a < COUNT(key); a++)
            for (size_t b = 0; b < a; b++) {
                taut__permutation p = {0}, q = {0};
                unsigned          same = 0;
                ck_assert_int_eq(taut__permutation_set(&p, size[n], key[a]), TAUT_OK);
                ck_assert_int_eq(taut__permutation_set(&q, size[n], key[b]), TAUT_OK);
                for (uint64_t i = 0; i < 20000; i++) same += taut__permute(&p, i) == taut__permute(&q, i);
                ck_assert_uint_le(same, 12);
                taut__permutation_free(&p);
                taut__permutation_free(&q);
            }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("permutation");
    TCase *tc = suite_case(suite, "permutation", 120);
    tcase_add_test(tc, philox_known_answers);
    tcase_add_test(tc, bijective_small);
    tcase_add_test(tc, bijective_large);
    tcase_add_test(tc, network_inverts);
    tcase_add_test(tc, uniform_five);
    tcase_add_test(tc, uniform_large);
    tcase_add_test(tc, keys_differ);
    return suite_run(suite);
}
