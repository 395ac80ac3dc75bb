/* topk keeps exactly the k elements of largest magnitude, the lowest index winning ties, whole or in slices. */
#include "compressors/topk/topk_select.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- brute force ---- */

typedef struct ranked {
    uint32_t magnitude;
    size_t   at;
} ranked;

static int by_rank(const void *pa, const void *pb)
{
    const ranked *a = pa, *b = pb;
    if (a->magnitude != b->magnitude) return a->magnitude < b->magnitude ? 1 : -1;
    return a->at < b->at ? -1 : 1;
}

static ranked *rank_all(const float *x, size_t n)
{
    ranked *r = malloc(n * sizeof *r);
    for (size_t i = 0; i < n; i++) r[i] = (ranked){taut__topk_magnitude(x[i]), i};
    qsort(r, n, sizeof *r, by_rank);
    return r;
}

/* want[i] = x[i] if it is among the k largest, else 0 */
static void brute_force(const ranked *r, const float *x, size_t n, size_t k, float *want)
{
    memset(want, 0, n * sizeof *want);
    for (size_t i = 0; i < k; i++)
        if (r[i].magnitude) want[r[i].at] = x[r[i].at];
}

static void assert_same_bits(const float *a, const float *b, size_t n)
{
    size_t i = 0; /* one assert in all: each writes to Check's pipe */
    while (i < n && memcmp(&a[i], &b[i], sizeof *a) == 0) i++;
    ck_assert_msg(i == n, "element %zu: %g, must be %g", i, (double)a[i % n], (double)b[i % n]);
}

static size_t kept(double density, size_t n)
{
    size_t k = (size_t)(density * (double)n + 0.5);
    return k < 1 ? 1 : k > n ? n : k;
}

/* Whole, in place and not, decode and decode_add; the residual is what stayed behind. */
static void check_whole(const char *spec, const float *want, const float *x, size_t n)
{
    codec_case k;
    case_open(&k, spec, 1, n);
    float *got = new_floats(n), *err = new_floats(n), *in_place = new_floats(n);
    case_round_trip(&k, x, err, got);
    assert_same_bits(got, want, n);
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) wrong += err[i] != (want[i] == 0 ? x[i] : 0);
    ck_assert_uint_eq(wrong, 0);
    memcpy(in_place, x, n * sizeof *x);
    case_round_trip(&k, in_place, in_place, got);
    assert_same_bits(in_place, err, n);
    assert_same_bits(got, want, n);
    ck_assert_int_eq(taut__op_decode_add(k.codec, &k.call, k.payload, k.len, err), TAUT_OK);
    assert_same_bits(err, x, n);
    free(got), free(err), free(in_place);
    case_close(&k);
}

/* Slices that share the calibration of the whole tensor hold together what the whole does. */
static void check_slices(const char *spec, const float *want, const float *x, size_t n, size_t slice)
{
    codec_case       k;
    taut_calibration calibration;
    double           stats[TAUT_STATS_MAX] = {0};
    case_open(&k, spec, 1, n);
    float *got = new_floats(n), *left = new_floats(n);
    memcpy(left, x, n * sizeof *x);
    ck_assert_int_eq(taut__op_collect_stats(k.codec, &k.call, x, stats), TAUT_OK);
    ck_assert_int_eq(taut__op_calibrate(k.codec, &k.call, stats, 1, x, &calibration), TAUT_OK);
    ck_assert(!calibration.raw);
    k.call.calibration = &calibration;
    for (size_t at = 0; at < n; at += slice) {
        k.call.first = at;
        k.call.n = n - at < slice ? n - at : slice;
        case_round_trip(&k, left + at, left + at, got + at);
    }
    /* a slice that is nearly full travels dense, elements below the threshold included: nothing may be missing */
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) wrong += (want[i] != 0 && got[i] != want[i]) || got[i] + left[i] != x[i];
    ck_assert_uint_eq(wrong, 0);
    free(got), free(left);
    case_close(&k);
}

static const struct {
    const char *spec;
    double      density;
} settings[] = {{"topk:density=0.0001", 0.0001},
                {"topk", 0.01},
                {"topk:density=0.1", 0.1},
                {"topk:density=0.5", 0.5},
                {"topk:density=0.9", 0.9}};
static const size_t sizes[] = {64, 65, 511, 512, 1000, 2048, 2049, 4096, 5000, 16384, 20011, 100003};

static void each(void (*make)(float *x, size_t n))
{
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        float *x = new_floats(n), *want = new_floats(n);
        make(x, n);
        ranked *r = rank_all(x, n);
        for (size_t d = 0; d < sizeof settings / sizeof *settings; d++) {
            brute_force(r, x, n, kept(settings[d].density, n), want);
            check_whole(settings[d].spec, want, x, n);
            check_slices(settings[d].spec, want, x, n, n / 3 + 1);
        }
        free(x), free(want), free(r);
    }
}

static void normal(float *x, size_t n) { fill_normal(x, n, 0.01f, n); }
static void ties(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(int)(taut__random32(taut__rng_of(3, i), (uint32_t)i) % 7) - 3;
}
static void mostly_zero(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = i % 911 == 5 ? (float)i : i % 2 ? -0.0f : 0.0f;
}
static void denormal(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(i % 97) * (i % 2 ? -1e-44f : 1e-44f);
}
static void one_hot_place(float *x, size_t n) /* a sample of the tensor misleads about it */
{
    for (size_t i = 0; i < n; i++) x[i] = i < n / 50 ? 100 + (float)(i % 89) : 1e-3f * (float)(i % 101);
}
static void equal(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = -2.5f;
}

START_TEST(exactly_the_largest) { each(normal); }
END_TEST
START_TEST(lowest_index_wins_ties) { each(ties), each(equal); }
END_TEST
START_TEST(zeros_and_denormals) { each(mostly_zero), each(denormal); }
END_TEST
START_TEST(clustered) { each(one_hot_place); }
END_TEST

START_TEST(all_zero_costs_a_header)
{
    codec_case k;
    float     *x = new_floats(100000), *y = new_floats(100000);
    case_open(&k, "topk", 1, 100000);
    case_round_trip(&k, x, x, y);
    ck_assert_uint_le(k.len, 24);
    ck_assert(norm2(y, 100000) == 0);
    free(x), free(y);
    case_close(&k);
}
END_TEST

/* NaN above Inf above the finite. From k of them on, the tensor travels raw, so that none is lost. */
START_TEST(not_finite)
{
    enum { N = 40000 };
    float *x = new_floats(N), *y = new_floats(N), *err = new_floats(N), *want = new_floats(N);
    for (size_t count = 1; count <= 1000; count *= 10) {
        codec_case k;
        case_open(&k, "topk", 1, N); /* k = 400 */
        fill_normal(x, N, 1, count);
        for (size_t i = 0; i < count; i++) x[i * 37 % N] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
        case_round_trip(&k, x, err, y);
        ranked *r = rank_all(x, N);
        brute_force(r, x, N, count < 400 ? 400 : N, want);
        free(r);
        assert_same_bits(y, want, N);
        size_t wrong = 0;
        for (size_t i = 0; i < N; i++) wrong += !isfinite(err[i]) || (!isfinite(x[i]) && memcmp(&x[i], &y[i], 4) != 0);
        ck_assert_uint_eq(wrong, 0);
        double           stats[1] = {0};
        taut_calibration calibration;
        ck_assert_int_eq(taut__op_calibrate(k.codec, &k.call, stats, 1, x, &calibration), TAUT_OK);
        ck_assert_int_eq(calibration.raw, count >= 400);
        case_close(&k);
    }
    free(x), free(y), free(err), free(want);
}
END_TEST

/* Sums of any density pass encode_exact bit for bit. */
START_TEST(exact_sums)
{
    enum { N = 30011 };
    float *x = new_floats(N), *y = new_floats(N);
    for (size_t keep = 1; keep <= 1024; keep *= 2) {
        codec_case k;
        case_open(&k, "topk", 1, N);
        fill_normal(x, N, 1, keep);
        for (size_t i = 0; i < N; i++)
            if (taut__random32(taut__rng_of(1, i), (uint32_t)i) % 1024 >= keep) x[i] = 0;
        x[N / 2] = -0.0f, x[N / 3] = NAN, x[N / 5] = INFINITY, x[N / 7] = 1e-45f;
        ck_assert_int_eq(taut__op_encode_exact(k.codec, &k.call, x, k.payload, k.cap, &k.len), TAUT_OK);
        ck_assert_uint_le(k.len, k.cap);
        ck_assert_int_eq(taut__op_decode(k.codec, &k.call, k.payload, k.len, y), TAUT_OK);
        assert_same_bits(y, x, N);
        case_close(&k);
    }
    free(x), free(y);
}
END_TEST

/* What an index costs: at random positions, which hold log2(1/density) + 1.44 bits, little more than that; and on a recorded gradient, where
 * it is there, the figures of the README, which may not quietly grow. */
static void index_cost(const float *x, size_t n, const char *spec, double density, double most)
{
    codec_case k;
    float     *y = new_floats(n);
    case_open(&k, spec, 1, n);
    case_round_trip(&k, x, NULL, y);
    double bits = (double)k.len * 8 / (double)kept(density, n) - 32;
    ck_assert_msg(bits <= most, "%s: %.2f bits per index", spec, bits);
    case_close(&k);
    free(y);
}
START_TEST(index_bits)
{
    size_t n = 400000;
    float *x = new_floats(n);
    fill_normal(x, n, 1, 3);
    index_cost(x, n, "topk", 0.01, log2(1 / 0.01) + 1.8);
    index_cost(x, n, "topk:density=0.1", 0.1, log2(1 / 0.1) + 1.8);
    free(x);
    if (!(x = trace_shipped("gpt-step400-rank0", &n))) return;
    index_cost(x, n, "topk", 0.01, 6);
    index_cost(x, n, "topk:density=0.1", 0.1, 4.5);
    free(x);
}
END_TEST

START_TEST(too_small_a_buffer)
{
    codec_case k;
    float     *x = new_floats(1000);
    case_open(&k, "topk", 1, 1000);
    ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, k.payload, k.cap - 1, &k.len, NULL), TAUT_E_CAPACITY);
    free(x);
    case_close(&k);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("topk");
    TCase *t = suite_case(s, "property", 60);
    tcase_add_test(t, exactly_the_largest);
    tcase_add_test(t, lowest_index_wins_ties);
    tcase_add_test(t, zeros_and_denormals);
    tcase_add_test(t, clustered);
    tcase_add_test(t, all_zero_costs_a_header);
    tcase_add_test(t, not_finite);
    tcase_add_test(t, exact_sums);
    tcase_add_test(t, index_bits);
    tcase_add_test(t, too_small_a_buffer);
    return suite_run(s);
}
