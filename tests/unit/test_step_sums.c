/* test_step_sums.c : what a step's exchange adds, kind by kind, and that all ranks hold the same bits. */
#include "compressors/sums/step_sums.h"
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

START_TEST(codes_are_near)
{
    const double exact[] = {0,      1,         1.5,       3,        511,     1024,    0x1p-56,
                            0x1p40, 0x1.fp-57, 0x1.ffp39, 0x1p-500, 0x1p500, INFINITY};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        ck_assert(taut__of_code(taut__code_of(exact[i])) == exact[i]);
    ck_assert(isnan(taut__of_code(taut__code_of(NAN))) && taut__code_of(-1) == 0);
    ck_assert(taut__of_code(taut__code_of(1e300)) > 1e150 && isfinite(taut__of_code(taut__code_of(1e300))));
    ck_assert(taut__of_code(taut__code_of(1e-300)) > 0);
    for (uint16_t c = 0; c < 64001; c++) {
        ck_assert(taut__code_of(taut__of_code(c)) == c);
        ck_assert(c == 0 || taut__of_code(c) > taut__of_code((uint16_t)(c - 1)));
    }
    for (uint64_t i = 0; i < 200000; i++) {
        double x = fabs(random_double(i));
        if (i % 2) x = frexp(x, &(int){0}) * ldexp(1, (int)(i % 97) - 56);
        double y = taut__of_code(taut__code_of(x));
        bool   fine = x >= 0x1p-56 && x < 0x1p40;
        if (x < 0x1p-500 || x > 0x1p500) continue;
        ck_assert_msg(fabs(y - x) <= (fine ? 0x1p-10 : 0x1p-5) * x, "%g: %g", x, y);
        ck_assert(taut__code_of(y) == taut__code_of(x));
    }
}
END_TEST

START_TEST(levels_are_right_in_the_mean)
{
    ck_assert(taut__of_level(taut__level_of(0, 0)) == 0 && taut__of_level(taut__level_of(1, 0)) == 1);
    ck_assert(taut__of_level(taut__level_of(0x1p-60, 0.5)) == 0);
    ck_assert(isnan(taut__of_level(taut__level_of(0x1p41, 0.5))) && isnan(taut__of_level(taut__level_of(NAN, 0.5))));
    for (double x = 0x1.01p-44; x < 0x1.f8p39; x *= 1.0137) {
        double mean = 0;
        for (int i = 0; i < 1000; i++) {
            double y = taut__of_level(taut__level_of(x, (i + 0.5) / 1000));
            ck_assert_msg(y / x < 1.26 && x / y < 1.26, "%g: %g", x, y);
            mean += y / 1000;
        }
        ck_assert_double_eq_tol(mean / x, 1, 1e-3);
    }
}
END_TEST

/* ---- vectors ---- */

enum { RUNS = 10, MOST = 100 };
static const taut__run runs[RUNS] = {
    {TAUT_AS_CODE, 31},  {TAUT_AS_DOUBLE, 5},  {TAUT_AS_SHORT, 33}, {TAUT_AS_LEAST, 7},   {TAUT_AS_ALL, 11},
    {TAUT_AS_FLOAT, 35}, {TAUT_AS_GROUP8, 24}, {TAUT_AS_LEVEL, 9},  {TAUT_AS_GROUP6, 16}, {TAUT_AS_HALF, 31}};

typedef struct vector {
    double          values[MOST];
    float           floats[2 * MOST];
    uint8_t         flat[1024], wire[2048];
    taut__step_sums sums;
} vector;

/* sparse: most of it is zero. */
static void draw(vector *v, uint64_t seed, bool sparse)
{
    double *x = v->values;
    float  *f = v->floats;
    memset(v, 0, sizeof *v);
    for (int r = 0; r < RUNS; r++)
        for (size_t i = 0; i < runs[r].n; i++) {
            uint64_t s = taut__mix64(1000 * seed + 100 * (uint64_t)r + i);
            double   value = 3 * sin((double)(s % 100000));
            bool     zero = sparse && s % 5;
            switch (runs[r].as) {
            case TAUT_AS_CODE:
            case TAUT_AS_LEAST: *x++ = zero ? 0 : fabs(value); break;
            case TAUT_AS_ALL: *x++ = i != seed; break;
            case TAUT_AS_DOUBLE:
            case TAUT_AS_SHORT: *x++ = zero ? 0 : value; break;
            case TAUT_AS_LEVEL: *f++ = zero ? 0 : (float)fabs(value); break;
            default: *f++ = zero ? 0 : (float)value;
            }
        }
    v->sums = (taut__step_sums){{6, 9}, runs, RUNS, v->values, v->floats, sparse, 0, v->flat};
}

static double most_off(taut__as as, const float *group, size_t i, double x)
{
    double most = 0;
    switch (as) {
    case TAUT_AS_SHORT: return 0x1p-21 * fabs(x);
    case TAUT_AS_CODE:
    case TAUT_AS_LEAST: return 0x1p-10 * fabs(x);
    case TAUT_AS_HALF: return 0x1p-8 * fabs(x);
    case TAUT_AS_LEVEL: return 0.26 * fabs(x);
    case TAUT_AS_GROUP8:
    case TAUT_AS_GROUP6:
        for (int k = 0; k < TAUT_STEP_GROUP; k++) most = fmax(most, fabs((double)group[i / 8 * 8 + (size_t)k]));
        return 0.5001 * (double)taut__step_grain(as, (float)most);
    default: return 0;
    }
}

START_TEST(sums_of_all_kinds_and_the_same_bits_either_way)
{
    static vector a, b, exact_a, exact_b;
    bool          sparse = _i;
    draw(&a, 1, sparse), draw(&b, 2, sparse);
    exact_a = a, exact_b = b;
    b.sums.word[0] = 4;
    size_t na = taut__step_pack(&a.sums, 7, a.wire), nb = taut__step_pack(&b.sums, 8, b.wire),
           plain = taut__step_bytes(runs, RUNS);
    ck_assert(sparse ? na < plain / 2 : na == plain && nb == plain);
    ck_assert(na <= taut__step_room(plain) && plain <= sizeof a.flat);
    taut__step_add(&a.sums, 8, b.wire, nb, false);
    taut__step_add(&b.sums, 7, a.wire, na, true);
    ck_assert_int_eq(memcmp(a.values, b.values, sizeof a.values), 0);
    ck_assert_int_eq(memcmp(a.floats, b.floats, sizeof a.floats), 0);
    ck_assert(a.sums.word[0] == 4 && a.sums.word[1] == 9 && b.sums.word[0] == 4 && b.sums.word[1] == 9);
    double *va = exact_a.values, *vb = exact_b.values, *got = a.values;
    float  *fa = exact_a.floats, *fb = exact_b.floats, *gf = a.floats;
    for (int r = 0; r < RUNS; r++) {
        taut__as as = runs[r].as;
        bool     floats = as >= TAUT_AS_FLOAT;
        for (size_t i = 0; i < runs[r].n; i++) {
            double x = floats ? (double)fa[i] : va[i], y = floats ? (double)fb[i] : vb[i],
                   s = floats ? (double)gf[i] : got[i];
            double want = as == TAUT_AS_LEAST ? fmin(x, y) : as == TAUT_AS_ALL ? (double)(i != 1 && i != 2) : x + y;
            double off = as == TAUT_AS_ALL ? 0 : most_off(as, fa, i, x) + most_off(as, fb, i, y);
            ck_assert_msg(fabs(s - want) <= off + 1e-6 * fabs(want) * floats, "kind %d, %zu: %g for %g + %g", (int)as,
                          i, s, x, y);
        }
        if (floats) fa += runs[r].n, fb += runs[r].n, gf += runs[r].n;
        else va += runs[r].n, vb += runs[r].n, got += runs[r].n;
    }
}
END_TEST

/* What is added again and again in few bits, as halves of the ranks are, is right in the mean. */
START_TEST(sums_of_many_are_right)
{
    enum { RANKS = 16, TIMES = 400 };
    static vector v[RANKS];
    double        want[RUNS] = {0}, got[RUNS] = {0};
    for (int k = 0; k < TIMES; k++) {
        for (int r = 0; r < RANKS; r++) {
            draw(&v[r], (uint64_t)(1000 + RANKS * k + r), false);
            double *x = v[r].values;
            float  *f = v[r].floats;
            for (int i = 0; i < RUNS; i++)
                for (size_t j = 0; j < runs[i].n; j++) {
                    if (runs[i].as >= TAUT_AS_FLOAT) *f = fabsf(*f), want[i] += (double)*f++;
                    else *x = fabs(*x), want[i] += *x++;
                }
        }
        for (int mask = 1; mask < RANKS; mask *= 2)
            for (int r = 0; r < RANKS; r += 2 * mask) {
                uint64_t seed = taut__seed((uint64_t)k, (uint64_t)(r + mask));
                size_t   n = taut__step_pack(&v[r + mask].sums, seed, v[r + mask].wire);
                taut__step_pack(&v[r].sums, seed + 1, v[r].wire);
                taut__step_add(&v[r].sums, seed, v[r + mask].wire, n, false);
            }
        double *x = v[0].values;
        float  *f = v[0].floats;
        for (int i = 0; i < RUNS; i++)
            for (size_t j = 0; j < runs[i].n; j++) got[i] += runs[i].as >= TAUT_AS_FLOAT ? (double)*f++ : *x++;
    }
    for (int i = 0; i < RUNS; i++)
        if (runs[i].as != TAUT_AS_LEAST && runs[i].as != TAUT_AS_ALL)
            ck_assert_msg(fabs(got[i] / want[i] - 1) < 0.003, "kind %d: %g", (int)runs[i].as, got[i] / want[i]);
}
END_TEST

/* Who gets a result as it travels has the bits of those that sent it. */
START_TEST(a_result_is_taken_as_it_was_sent)
{
    static vector a, b;
    bool          sparse = _i;
    draw(&a, 1, sparse), draw(&b, 2, sparse);
    for (size_t i = 0; i < sizeof a.values / sizeof *a.values; i++) a.values[i] *= 1.5; /* of bits, too */
    taut__step_take(&b.sums, 7, a.wire, taut__step_pack(&a.sums, 7, a.wire));
    ck_assert_int_eq(memcmp(a.values, b.values, sizeof a.values), 0);
    ck_assert_int_eq(memcmp(a.floats, b.floats, sizeof a.floats), 0);
}
END_TEST

START_TEST(what_is_not_a_number_stays_none)
{
    static vector a, b;
    draw(&a, 1, false), draw(&b, 2, false);
    size_t group = 35 + 3; /* in the first one of eight bits */
    a.values[0] = NAN, b.values[1] = INFINITY, a.floats[group] = NAN, b.floats[35 + 9] = 1e30f;
    size_t n = taut__step_pack(&a.sums, 7, a.wire);
    taut__step_pack(&b.sums, 8, b.wire);
    taut__step_add(&b.sums, 7, a.wire, n, true);
    ck_assert(isnan(b.values[0]) && isinf(b.values[1]) && !isnan(b.values[2]));
    for (int i = 0; i < 8; i++)
        ck_assert(isnan(b.floats[35 + i]) && isnan(b.floats[35 + 8 + i]) && isfinite(b.floats[35 + 16 + i]));
}
END_TEST

/* Bytes of another vector, or damaged ones: words that differ, nothing read or written beyond. */
START_TEST(other_sizes_differ)
{
    static vector a, b;
    bool          sparse = _i;
    draw(&a, 1, sparse), draw(&b, 2, sparse);
    size_t n = taut__step_pack(&a.sums, 7, a.wire);
    for (size_t len = 0; len <= n + 9; len++) {
        if (len == n) continue;
        uint8_t *exact = malloc(len + 1);
        memset(exact, 0xff, len + 1);
        memcpy(exact, a.wire, len < n ? len : n);
        b.sums.word[0] = b.sums.word[1] = 5;
        taut__step_add(&b.sums, 7, exact, len, false);
        ck_assert(b.sums.word[0] != b.sums.word[1]);
        free(exact);
    }
}
END_TEST

/* A few bytes more or less within the last eight may be all zero on one side only, which then finds nothing wrong with the other's length. */
START_TEST(other_runs_differ_on_both_sides)
{
    static const taut__run run[2] = {{TAUT_AS_LEVEL, 4}, {TAUT_AS_LEVEL, 1}}; /* behind eight bytes of words */
    uint8_t                wire[2][32];
    size_t                 n[2];
    for (uint64_t digest = 0; digest < 1000; digest++) {
        float           x[2][4] = {{1, 1, 1, 1}, {1}};
        uint8_t         flat[2][12];
        taut__step_sums s[2];
        for (int i = 0; i < 2; i++) {
            s[i] = (taut__step_sums){{0}, &run[i], 1, NULL, x[i], true, 0, flat[i]};
            taut__step_words(&s[i], digest);
            ck_assert(s[i].word[0] == s[i].word[1]);
            n[i] = taut__step_pack(&s[i], 7, wire[i]);
        }
        for (int i = 0; i < 2; i++) {
            taut__step_add(&s[i], 7, wire[1 - i], n[1 - i], i > 0);
            ck_assert(s[i].word[0] != s[i].word[1]);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("step sums");
    TCase *t = suite_case(s, "step sums", 0);
    tcase_add_test(t, shorts_are_rounded_doubles);
    tcase_add_test(t, codes_are_near);
    tcase_add_test(t, levels_are_right_in_the_mean);
    tcase_add_loop_test(t, sums_of_all_kinds_and_the_same_bits_either_way, 0, 2);
    tcase_add_test(t, sums_of_many_are_right);
    tcase_add_loop_test(t, a_result_is_taken_as_it_was_sent, 0, 2);
    tcase_add_test(t, what_is_not_a_number_stays_none);
    tcase_add_loop_test(t, other_sizes_differ, 0, 2);
    tcase_add_test(t, other_runs_differ_on_both_sides);
    return suite_run(s);
}
