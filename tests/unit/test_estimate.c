/* test_estimate.c : sums from samples: unbiased, with honest intervals, quick after a jump. */
#include "scheduler/estimate.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCKS = 4000 };

static double t[BLOCKS], c[BLOCKS], total, control;

static double uniform(uint64_t seed, uint64_t i) { return (double)(taut__seed(seed, i) >> 11) * 0x1p-53; }

/* Blocks of very different size whose targets are `factor` times the control, more or less. */
static void make(uint64_t seed, double factor, double noise)
{
    total = control = 0;
    for (int i = 0; i < BLOCKS; i++) {
        c[i] = pow(uniform(seed, 2 * (uint64_t)i), 4);
        t[i] = c[i] * factor * (1 + noise * (2 * uniform(seed, 2 * (uint64_t)i + 1) - 1));
        total += t[i];
        control += c[i];
    }
}

static taut__measured_sum sample(taut__ratio *r, uint64_t seed, size_t n)
{
    static double ts[BLOCKS], cs[BLOCKS];
    taut__blocks  b = {BLOCKS, n, ts, cs, control};
    for (size_t k = 0; k < n; k++) {
        size_t i = (size_t)(((double)k + uniform(seed, 100000 + k)) * BLOCKS / (double)n);
        ts[k] = t[i], cs[k] = c[i];
    }
    return taut__ratio_step(r, &b);
}

START_TEST(unbiased_and_honest)
{
    static const size_t sizes[] = {5, 20, 100, 400};
    const double        factors[] = {0.5, 1, 3};
    for (int k = 0; k < 4; k++)
        for (int f = 0; f < 3; f++) {
            taut__ratio r;
            double      mean = 0;
            int         outside = 0, steps = 300;
            taut__ratio_reset(&r, 1, 16);
            for (int s = 0; s < steps; s++) {
                make((uint64_t)s, factors[f], 0.9);
                taut__measured_sum m = sample(&r, (uint64_t)s, sizes[k]);
                mean += m.value / total / steps;
                outside += s >= 5 && fabs(m.value - total) > TAUT_SIGMAS * sqrt(m.var);
            }
            ck_assert_msg(fabs(mean - 1) < 0.02 + 0.15 / (double)sizes[k], "%zu blocks, factor %g: mean %g", sizes[k],
                          factors[f], mean);
            ck_assert_msg(outside <= steps / 50, "%zu blocks, factor %g: %d of %d outside", sizes[k], factors[f],
                          outside, steps);
        }
}
END_TEST

START_TEST(follows_a_jump)
{
    taut__ratio r;
    taut__ratio_reset(&r, 1, 16);
    for (int s = 0; s < 50; s++) make((uint64_t)s, 1, 0.5), sample(&r, (uint64_t)s, 50);
    make(77, 6, 0.5);
    ck_assert_double_eq_tol(sample(&r, 77, 50).value / total, 1, 0.3);
    make(78, 0.2, 0.5);
    ck_assert_double_eq_tol(sample(&r, 78, 50).value / total, 1, 0.4);
}
END_TEST

/* By less than a step's noise: within some steps, and then as near as before; not by staying restless. */
START_TEST(follows_a_shift_that_no_step_shows)
{
    static const double shifts[] = {0.75, 0.8, 1.3, 1.5};
    double              late = 0, calm = 0;
    int                 outside = 0, judged = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        taut__ratio r;
        taut__ratio_reset(&r, 1, 16);
        for (uint64_t s = 0; s < 120; s++) {
            make(1000 * seed + s, s < 50 ? 1 : shifts[_i], 0.9);
            taut__measured_sum m = sample(&r, 1000 * seed + s, 25);
            double             off = fabs(m.value / total - 1);
            if (s >= 20 && s < 50) calm += off / 30 / 40;
            if (s >= 60 && s < 70) late += off / 10 / 40;
            judged += s >= 60;
            outside += s >= 60 && fabs(m.value - total) > TAUT_SIGMAS * sqrt(m.var);
        }
    }
    printf("  shift to %g: off by %.3f before it, %.3f 10 to 20 steps after; %d of %d outside\n", shifts[_i], calm,
           late, outside, judged);
    ck_assert_double_lt(late, 2 * calm + 0.015);
    ck_assert_int_le(outside, judged / 50);
}
END_TEST

/* Nearly all of the sum is in few blocks, which a sample seldom has; the others have quite another ratio. What is known of the whole bounds it. */
START_TEST(stays_where_it_must_lie)
{
    const double low = 0.8, high = 1.2;
    int          outside = 0, far_without = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        taut__ratio bounded, free;
        taut__ratio_reset(&bounded, 1, 1e12);
        taut__ratio_reset(&free, 1, 1e12);
        for (uint64_t s = 0; s < 30; s++) {
            total = control = 0;
            for (int i = 0; i < BLOCKS; i++) {
                bool large = i % 80 == 0;
                c[i] = large ? 1 : 1e-4 * uniform(seed, (uint64_t)i);
                t[i] = c[i] * (large ? 0.95 : 20);
                total += t[i], control += c[i];
            }
            taut__ratio_within(&bounded, low, high);
            sample(&bounded, 1000 * seed + s, 6);
            taut__ratio_within(&bounded, low, high);
            ck_assert(bounded.mean >= low && bounded.mean <= high && bounded.var <= (high - low) * (high - low) / 12);
            double value = bounded.mean * control;
            outside += fabs(value - total) > TAUT_SIGMAS * sqrt(bounded.var) * control;
            far_without += fabs(sample(&free, 1000 * seed + s, 6).value / total - 1) > 0.5;
        }
    }
    ck_assert_int_ge(far_without, 40);      /* else this test shows nothing */
    ck_assert_int_le(outside, 40 * 30 / 8); /* most samples have none of the large ones, and do not know it */
}
END_TEST

/* All of it lies in few blocks: samples that miss them agree with every ratio, and make none more certain. One that meets them tells it. */
START_TEST(what_lies_elsewhere_tells_nothing)
{
    taut__ratio r;
    make(1, 1, 0);
    for (int i = 0; i < BLOCKS; i++) t[i] = c[i] = 0;
    c[BLOCKS / 3] = control = 1, t[BLOCKS / 3] = total = 3;
    taut__ratio_reset(&r, 1, 3);
    for (uint64_t step = 0; step < 200; step++) {
        static const double none[20];
        taut__measured_sum  s = taut__ratio_step(&r, &(taut__blocks){BLOCKS, 20, none, none, control});
        ck_assert(s.value + TAUT_SIGMAS * sqrt(s.var) >= total);
    }
    taut__measured_sum s = sample(&r, 7, BLOCKS);
    ck_assert_double_eq_tol(s.value, total, 0.05);
}
END_TEST

START_TEST(odd_samples)
{
    taut__ratio  r;
    double       bad[2] = {NAN, 2}, one[2] = {1, 1}, zero[2] = {0, 0};
    taut__blocks none = {10, 0, bad, one, 5};
    taut__ratio_reset(&r, 1, 4);
    ck_assert_double_eq(taut__ratio_step(&r, &none).value, 5); /* as expected before */
    taut__measured_sum m = taut__ratio_step(&r, &(taut__blocks){10, 2, bad, one, 10});
    ck_assert(isfinite(m.value) && m.value > 0);
    m = taut__ratio_step(&r, &(taut__blocks){10, 2, one, zero, 0}); /* no control: the sample alone */
    ck_assert_double_eq_tol(m.value, 10, 1e-9);
    m = taut__ratio_step(&r, &(taut__blocks){10, 2, zero, zero, 0});
    ck_assert_double_eq(m.value, 0);
    taut__interval i = taut__relative((taut__measured_sum){2, 0.01}, (taut__measured_sum){10, 0});
    ck_assert_double_eq_tol(i.value, 0.2, 1e-12);
    ck_assert_double_eq_tol(i.high - i.low, 2 * TAUT_SIGMAS * 0.01, 1e-9);
    ck_assert_double_eq(taut__relative((taut__measured_sum){2, 1}, (taut__measured_sum){0, 0}).value, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("estimate");
    TCase *tc = suite_case(s, "estimate", 0);
    tcase_add_test(tc, unbiased_and_honest);
    tcase_add_test(tc, follows_a_jump);
    tcase_add_loop_test(tc, follows_a_shift_that_no_step_shows, 0, 4);
    tcase_add_test(tc, stays_where_it_must_lie);
    tcase_add_test(tc, what_lies_elsewhere_tells_nothing);
    tcase_add_test(tc, odd_samples);
    return suite_run(s);
}
