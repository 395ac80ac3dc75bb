/* test_quant.c : what the quant codec promises about its error, whatever the data: bounded by a step, unbiased, of the
 * size that theory gives; and nothing that is not finite gets lost. */
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3000 };

static const char *const norms[] = {"maxmin", "linf", "l2"};

/* The step of one bucket, from its data as the formulas in compressors/quant/README.md have it. */
static double step_of(const float *x, size_t n, int bits, int norm)
{
    double lo = x[0], hi = x[0], sum = 0;
    for (size_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
        sum += (double)x[i] * x[i];
    }
    if (norm == 0) return (hi - lo) / ((1 << bits) - 1);
    double s = norm == 1 ? fmax(-lo, hi) : sqrt(sum);
    return bits == 1 ? 2 * s : s / ((1 << (bits - 1)) - 1);
}

static void open_quant(codec_case *k, int bits, size_t bucket, int norm, const char *round, size_t n)
{
    char spec[96];
    snprintf(spec, sizeof spec, "quant:bits=%d,bucket=%zu,norm=%s,round=%s", bits, bucket, norms[norm], round);
    case_open(k, spec, 1, n);
}

/* |error| <= step (stochastic), step / 2 (nearest), up to float rounding of values of the bucket's magnitude */
static void check_bound(int bits, size_t bucket, int norm, bool nearest, const float *x, float *back)
{
    codec_case k;
    open_quant(&k, bits, bucket, norm, nearest ? "nearest" : "stochastic", N);
    case_round_trip(&k, x, NULL, back);
    for (size_t b = 0; b < N; b += bucket) {
        size_t n = taut__min(bucket, N - b);
        float  most = 0;
        for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[b + i]));
        double step = step_of(x + b, n, bits, norm), bound = (nearest ? 0.5 : 1) * step * 1.0001 + (double)most * 1e-6;
        for (size_t i = b; i < b + n; i++)
            ck_assert_msg(fabs((double)x[i] - back[i]) <= bound,
                          "bits=%d bucket=%zu norm=%d nearest=%d: %g -> %g, step %g", bits, bucket, norm, nearest, x[i],
                          back[i], step);
    }
    case_close(&k);
}

START_TEST(error_is_at_most_a_step)
{
    float *x = new_floats(N), *back = new_floats(N);
    for (int shape = 0; shape < 4; shape++) {
        fill_normal(x, N, 0.01f, (uint64_t)shape);
        for (size_t i = 0; i < N; i++) {
            if (shape == 1) x[i] = fabsf(x[i]) + 5;           /* far from zero */
            if (shape == 2) x[i] = i % 97 == 3 ? 1000 : x[i]; /* outliers */
            if (shape == 3) x[i] = ldexpf(x[i], (int)(i % 200) - 100);
        }
        for (int bits = 1; bits <= 8; bits++)
            for (int norm = 0; norm < 3; norm++) {
                check_bound(bits, 64, norm, false, x, back);
                check_bound(bits, 512, norm, true, x, back);
                check_bound(bits, 8192, norm, false, x, back);
            }
    }
    free(x), free(back);
}
END_TEST

/* Over seeds, the mean of every element's error is zero within 4.5 standard errors of a rounding between two levels (the
 * largest of 3000 normal numbers is about 3.6), and the mean over all within 3. */
static void check_bias(int bits, int norm)
{
    enum { SEEDS = 400 };
    codec_case k;
    float     *x = new_floats(N), *back = new_floats(N);
    double    *sum = calloc(N, sizeof *sum), total = 0;
    fill_normal(x, N, 1, 77);
    open_quant(&k, bits, 512, norm, "stochastic", N);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        k.call.seed = taut__mix64(seed);
        case_round_trip(&k, x, NULL, back);
        for (size_t i = 0; i < N; i++) sum[i] += (double)back[i] - x[i];
    }
    double variance = 0;
    for (size_t i = 0; i < N; i++) {
        size_t b = i / 512 * 512;
        double step = step_of(x + b, taut__min(512, N - b), bits, norm), most = step * 0.5 / sqrt(SEEDS);
        ck_assert_msg(fabs(sum[i] / SEEDS) <= 4.5 * most + step * 0x1p-16, "element %zu: mean error %g steps", i,
                      sum[i] / SEEDS / step);
        total += sum[i] / SEEDS / step;
        variance += 0.25 / SEEDS;
    }
    ck_assert_msg(fabs(total) <= 3 * sqrt(variance), "bits=%d norm=%s: bias %g steps", bits, norms[norm], total / N);
    case_close(&k);
    free(x), free(back), free(sum);
}

START_TEST(stochastic_rounding_is_unbiased)
{
    for (int bits = 1; bits <= 8; bits *= 2)
        for (int norm = 0; norm < 3; norm++) check_bias(bits, norm);
}
END_TEST

/* Uniform positions between levels: the error of stochastic rounding is step^2/6 on average, of rounding to nearest
 * step^2/12. */
static void check_theory(int bits, bool nearest)
{
    enum { LARGE = 1 << 18 };
    codec_case k;
    float     *x = new_floats(LARGE), *back = new_floats(LARGE);
    double     theory = 0;
    taut__rng  g = taut__rng_of(99, 0);
    for (size_t i = 0; i < LARGE; i++) x[i] = (float)taut__random32(g, (uint32_t)i) * 0x1p-32f - 0.5f;
    open_quant(&k, bits, 1024, 0, nearest ? "nearest" : "stochastic", LARGE);
    case_round_trip(&k, x, NULL, back);
    for (size_t b = 0; b < LARGE; b += 1024) theory += 1024 * pow(step_of(x + b, 1024, bits, 0), 2);
    theory /= nearest ? 12 : 6;
    double ratio = distance2(x, back, LARGE) / theory;
    ck_assert_msg(fabs(ratio - 1) < 0.02, "bits=%d nearest=%d: %g of theory", bits, nearest, ratio);
    case_close(&k);
    free(x), free(back);
}

START_TEST(error_is_what_theory_says)
{
    for (int bits = 4; bits <= 6; bits += 2) {
        check_theory(bits, false);
        check_theory(bits, true);
    }
}
END_TEST

START_TEST(same_seed_same_bytes)
{
    codec_case k;
    float     *x = new_floats(N), *back = new_floats(N);
    size_t     len, differ = 0;
    fill_normal(x, N, 1, 4);
    case_open(&k, "quant", 1, N);
    case_round_trip(&k, x, NULL, back);
    uint8_t *again = malloc(k.cap);
    ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, again, k.cap, &len, NULL), TAUT_OK);
    ck_assert_uint_eq(len, k.len);
    ck_assert_mem_eq(again, k.payload, len);
    k.call.seed++;
    ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, again, k.cap, &len, NULL), TAUT_OK);
    for (size_t i = 0; i < len; i++) differ += again[i] != k.payload[i];
    ck_assert_uint_gt(differ, len / 4); /* another seed rounds otherwise */
    free(again), free(x), free(back);
    case_close(&k);
}
END_TEST

/* Three buckets around element 2^33, from which on random numbers have another key, as one slice and the last one by itself. */
START_TEST(slices_of_huge_tensors)
{
    enum { BUCKET = 192, AT = 2 * BUCKET };
    codec_case k;
    float     *x = new_floats(AT + BUCKET), *whole = new_floats(AT + BUCKET), *last = new_floats(BUCKET);
    fill_normal(x, AT + BUCKET, 1, 4);
    case_open(&k, "quant:bits=2,bucket=192", 1, AT + BUCKET);
    k.call.first = ((size_t)1 << 33) / BUCKET * BUCKET - BUCKET;
    case_round_trip(&k, x, NULL, whole);
    k.call.first += AT, k.call.n = BUCKET;
    case_round_trip(&k, x + AT, NULL, last);
    ck_assert_mem_eq(last, whole + AT, BUCKET * sizeof *last);
    case_close(&k);
    free(x), free(whole), free(last);
}
END_TEST

START_TEST(no_wasted_bytes)
{
    taut_spec   spec;
    taut_tensor t = {.elems = 818176, .rows = 1, .cols = 818176};
    ck_assert_int_eq(taut__spec_parse("quant:bits=4", &spec), TAUT_OK);
    ck_assert_double_le(8.0 * (double)taut__spec_capacity(&spec, &t, t.elems) / (double)t.elems, 4.14);
    ck_assert_int_eq(taut__spec_parse("quant:bits=1,norm=linf,bucket=8192", &spec), TAUT_OK);
    ck_assert_double_le(8.0 * (double)taut__spec_capacity(&spec, &t, t.elems) / (double)t.elems, 1.01);
}
END_TEST

/* A NaN or Inf makes its bucket NaN and no other; the error is 0 there, so that feedback does not keep it. */
START_TEST(not_finite_poisons_its_bucket_only)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int norm = 0; norm < 3; norm++)
        for (size_t j = 0; j < 3; j++) {
            codec_case k;
            float     *x = new_floats(N), *back = new_floats(N), *err = new_floats(N), *clean = new_floats(N);
            fill_normal(x, N, 1, 4);
            open_quant(&k, 4, 512, norm, "stochastic", N);
            case_round_trip(&k, x, NULL, clean);
            x[700] = odd[j];
            case_round_trip(&k, x, err, back);
            for (size_t i = 0; i < N; i++) {
                bool inside = i / 512 == 1;
                ck_assert_msg(inside ? isnan(back[i]) && err[i] == 0 : back[i] == clean[i], "%zu: %g", i, back[i]);
            }
            case_close(&k);
            free(x), free(back), free(err), free(clean);
        }
}
END_TEST

/* Buckets at the ends of the float range: decoded within a step and finite, never Inf or NaN. */
START_TEST(extreme_ranges)
{
    static const float scale[] = {FLT_MAX, FLT_MAX / 4, 0x1p-120f, 0x1p-149f, 0};
    for (int bits = 1; bits <= 8; bits++)
        for (int norm = 0; norm < 3; norm++)
            for (size_t j = 0; j < sizeof scale / sizeof *scale; j++) {
                codec_case k;
                float     *x = new_floats(512), *back = new_floats(512), *err = new_floats(512);
                for (size_t i = 0; i < 512; i++) x[i] = scale[j] * ((float)((i * 37) % 1023) / 511.0f - 1);
                open_quant(&k, bits, 512, norm, "nearest", 512);
                case_round_trip(&k, x, err, back);
                double step = fmin(step_of(x, 512, bits, norm), norm == 2 ? DBL_MAX : 2.0 * FLT_MAX);
                for (size_t i = 0; i < 512; i++) {
                    double bound = 0.51 * step + 0x1p-149 + 1e-6 * (double)scale[j];
                    ck_assert(isfinite(back[i]) && isfinite(err[i]));
                    ck_assert_msg(fabs((double)x[i] - back[i]) <= bound, "bits=%d norm=%d: %g -> %g, step %g", bits,
                                  norm, x[i], back[i], step);
                }
                case_close(&k);
                free(x), free(back), free(err);
            }
}
END_TEST

/* Elements that are levels come back as they were. */
START_TEST(levels_are_exact)
{
    codec_case k;
    float     *x = new_floats(N), *back = new_floats(N);
    for (size_t i = 0; i < N; i++) x[i] = i % 64 == 0 ? -8.0f : i % 64 == 1 ? 7.0f : (float)(i % 16) - 8;
    case_open(&k, "quant:bits=4,bucket=64,round=nearest", 1, N);
    case_round_trip(&k, x, NULL, back);
    for (size_t i = 0; i < N; i++) ck_assert_float_eq(x[i], back[i]);
    case_close(&k);
    for (size_t i = 0; i < N; i++) x[i] = 0.1f; /* one value: step 0 */
    case_open(&k, "quant", 1, N);
    case_round_trip(&k, x, NULL, back);
    for (size_t i = 0; i < N; i++) ck_assert_float_eq(x[i], back[i]);
    case_close(&k);
    free(x), free(back);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_test(t, error_is_at_most_a_step);
    tcase_add_test(t, stochastic_rounding_is_unbiased);
    tcase_add_test(t, error_is_what_theory_says);
    tcase_add_test(t, same_seed_same_bytes);
    tcase_add_test(t, slices_of_huge_tensors);
    tcase_add_test(t, no_wasted_bytes);
    tcase_add_test(t, not_finite_poisons_its_bucket_only);
    tcase_add_test(t, extreme_ranges);
    tcase_add_test(t, levels_are_exact);
    return suite_run(s);
}
