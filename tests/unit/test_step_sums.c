/* test_step_sums.c : what a step's exchange adds: doubles, their upper halves, the least of those, floats and bf16. */
#include "comm/sum/small_allreduce.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double random_double(uint64_t i)
{
    uint64_t b = taut__mix64(i + 1);
    double   m = 1 + (double)(b >> 12) * 0x1p-52;
    return ldexp(b & 1 ? m : -m, (int)(b >> 1 & 0x3ff) - 512);
}

START_TEST(shorts_are_rounded_doubles)
{
    const double exact[] = {0, 1, -1, 3, 1024, 1048575, 2097151, 0x1p-1022, 0x1p1023, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        ck_assert(taut__of_short(taut__short_of(exact[i])) == exact[i]);
    ck_assert(isnan(taut__of_short(taut__short_of(NAN))));
    ck_assert(isnan(taut__of_short(taut__short_of(-NAN))));
    ck_assert(isinf(taut__of_short(taut__short_of(1.7976931348623157e308)))); /* rounded up, as IEEE does */
    ck_assert(taut__of_short(taut__short_of(1 + 0x1p-21)) == 1);              /* a tie, to even */
    ck_assert(taut__of_short(taut__short_of(1 + 3 * 0x1p-21)) == 1 + 0x1p-19);
    for (uint64_t i = 0; i < 100000; i++) {
        double x = random_double(i), y = taut__of_short(taut__short_of(x));
        ck_assert(fabs(y - x) <= 0x1p-21 * fabs(x));
    }
}
END_TEST

enum { DOUBLES = 5, SHORTS = 300, LEAST = 7, FLOATS = 33, HALVES = 301, WORDS = 2 };

typedef struct vector {
    uint64_t word[WORDS];
    double   doubles[DOUBLES];
    uint32_t shorts[SHORTS], least[LEAST];
    float    floats[FLOATS];
    uint16_t halves[HALVES + 1];
} vector;

static float of_bf16(uint16_t h)
{
    uint32_t b = (uint32_t)h << 16;
    float    x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static vector draw(uint64_t seed)
{
    vector v = {.word = {seed == 1 ? 6 : 6, 9}};
    for (int i = 0; i < DOUBLES; i++) v.doubles[i] = random_double(seed * 1000 + (uint64_t)i) * 1e-100;
    for (int i = 0; i < SHORTS; i++) v.shorts[i] = taut__short_of(random_double(seed * 2000 + (uint64_t)i));
    for (int i = 0; i < LEAST; i++)
        v.least[i] = taut__short_of(i == 3 && seed == 1 ? INFINITY : fabs(random_double(seed * 3000 + (uint64_t)i)));
    for (int i = 0; i < FLOATS; i++) v.floats[i] = (float)sin((double)seed * 7 + i);
    for (int i = 0; i < HALVES; i++) v.halves[i] = (uint16_t)(taut__mix64(seed * 4000 + (uint64_t)i) % 0x4000 + 0x3000);
    return v;
}

START_TEST(sums_of_all_kinds_and_the_same_bits_either_way)
{
    const taut__sums n = {DOUBLES, SHORTS, LEAST, FLOATS, HALVES};
    vector           a = draw(1), b = draw(2), left = a, right = b;
    size_t           bytes = taut__sums_bytes(&n);
    ck_assert_uint_eq(bytes, offsetof(vector, halves) + HALVES * sizeof(uint16_t));
    taut__combine_sums(&left, &b, bytes, false, &n);
    taut__combine_sums(&right, &a, bytes, true, &n);
    ck_assert_int_eq(memcmp(&left, &right, bytes), 0);
    ck_assert_uint_eq(left.word[0], 6 & 6);
    ck_assert_uint_eq(left.word[1], 9 | 9);
    for (int i = 0; i < DOUBLES; i++) ck_assert(left.doubles[i] == a.doubles[i] + b.doubles[i]);
    for (int i = 0; i < SHORTS; i++) {
        double sum = taut__of_short(a.shorts[i]) + taut__of_short(b.shorts[i]);
        ck_assert(fabs(taut__of_short(left.shorts[i]) - sum) <= 0x1p-21 * fabs(sum));
    }
    for (int i = 0; i < LEAST; i++)
        ck_assert(taut__of_short(left.least[i]) == fmin(taut__of_short(a.least[i]), taut__of_short(b.least[i])));
    for (int i = 0; i < FLOATS; i++) ck_assert(left.floats[i] == a.floats[i] + b.floats[i]);
    for (int i = 0; i < HALVES; i++) {
        double sum = (double)of_bf16(a.halves[i]) + (double)of_bf16(b.halves[i]);
        ck_assert(fabs((double)of_bf16(left.halves[i]) - sum) <= 0x1.01p-8 * fabs(sum));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("step sums");
    TCase *t = suite_case(s, "step sums", 0);
    tcase_add_test(t, shorts_are_rounded_doubles);
    tcase_add_test(t, sums_of_all_kinds_and_the_same_bits_either_way);
    return suite_run(s);
}
