/* Payloads of grid with every byte changed and every length cut; what travels raw; sizes that need no data.
 */
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const specs[] = {
    "grid:step=0.5", "grid:step=0.5,code=rans", "grid:step=0.01", "grid:step=0.001,code=rans",
    "grid:step=3",   "grid:step=3,code=rans",   "grid:rel=0.1"};
enum { SPECS = sizeof specs / sizeof *specs };

/* Dense, sparse and zero blocks, an outlier, and a block that holds no numbers. */
static float *mixture(size_t n)
{
    float *x = new_floats(n);
    fill_normal(x, n, 1, 3);
    for (size_t i = 0; i < n; i++) {
        if (i / 64 % 4 == 1) x[i] *= 0.2f;
        if (i / 64 % 4 == 3) x[i] = 0;
    }
    x[n / 2] = 40;
    return x;
}

START_TEST(changed_bytes_do_no_harm)
{
    enum { N = 64 * 13 + 5 };
    float     *x = mixture(N), *y = new_floats(N);
    codec_case k;
    if (_i < 4) x[70] = NAN;
    case_open(&k, specs[_i], 1, N);
    case_round_trip(&k, x, NULL, y);
    ck_assert_uint_ge(case_fuzz_payload(&k), k.len); /* every truncation is refused */
    case_close(&k);
    free(x), free(y);
}
END_TEST

START_TEST(sizes_from_one)
{
    for (size_t n = 1; n <= 200; n++) {
        codec_case k;
        case_open(&k, specs[_i], 1, n);
        float *x = new_floats(n), *y = new_floats(n), *err = new_floats(n);
        fill_normal(x, n, 1, n);
        case_round_trip(&k, x, err, y);
        for (size_t i = 0; i < n; i++) ck_assert(err[i] == x[i] - y[i]);
        ck_assert_uint_eq(k.cap, taut__spec_capacity(&k.spec, &k.tensor, n));
        case_close(&k);
        free(x), free(y), free(err);
    }
}
END_TEST

/* Values without a code arrive as they are, in blocks of their own; the rest of the tensor keeps its codes.
 */
START_TEST(values_without_a_code_travel_raw)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -3e20f};
    enum { N = 1000 };
    float *x = mixture(N), *y = new_floats(N), *err = new_floats(N);
    for (int k = 0; k < 5; k++) x[200 * k + 3] = odd[k];
    codec_case c;
    case_open(&c, specs[_i], 1, N);
    case_round_trip(&c, x, err, y);
    for (int k = 0; k < 5; k++) {
        ck_assert(memcmp(&x[200 * k + 3], &y[200 * k + 3], 4) == 0);
        ck_assert(err[200 * k + 3] == 0);
    }
    for (size_t i = 0; i < N; i++)
        if (isfinite(x[i])) ck_assert(fabsf(err[i]) <= 3.0f);
    case_close(&c);
    free(x), free(y), free(err);
}
END_TEST

START_TEST(zeros_take_a_few_bytes)
{
    enum { N = 300000 };
    static const char *const all[] = {"grid:step=1", "grid:step=1,code=rans", "grid:rel=0.1", "grid:rel=0.1,code=rans"};
    float                   *x = new_floats(N), *y = new_floats(N);
    y[77] = 5;
    codec_case k;
    case_open(&k, all[_i], 1, N);
    case_round_trip(&k, x, NULL, y);
    ck_assert_uint_le(k.len, 8);
    for (size_t i = 0; i < N; i++) ck_assert(y[i] == 0);
    case_close(&k);
    free(x), free(y);
}
END_TEST

/* Steps so small that codes pass 31 bits, and tensors of denormals: raw, never wrapped. */
START_TEST(no_code_ever_wraps)
{
    enum { N = 640 };
    static const char *const tiny[] = {"grid:step=1e-30", "grid:step=1e-30,code=rans", "grid:step=1e-11"};
    float                   *x = new_floats(N), *y = new_floats(N);
    for (int t = 0; t < 3; t++) {
        codec_case k;
        fill_normal(x, N, 1, 1);
        case_open(&k, tiny[t], 1, N);
        case_round_trip(&k, x, NULL, y);
        for (size_t i = 0; i < N; i++) ck_assert_float_eq_tol(x[i], y[i], 1e-11f + 1e-7f * fabsf(x[i]));
        case_close(&k);
        for (size_t i = 0; i < N; i++) x[i] = (float)(i + 1) * FLT_TRUE_MIN;
        case_open(&k, "grid:rel=0.1", 1, N);
        case_round_trip(&k, x, NULL, y);
        ck_assert_double_le(distance2(x, y, N), 0.1 * norm2(x, N));
        case_close(&k);
    }
    free(x), free(y);
}
END_TEST

START_TEST(calibrate_asks_for_raw)
{
    enum { N = 640 };
    static const char *const text[] = {"grid:rel=0.1", "grid:step=0.1"};
    float                   *x = new_floats(N);
    double                   stats[TAUT_STATS_MAX] = {0};
    taut_calibration         calibration;
    codec_case               k;
    fill_normal(x, N, 1, 1);
    x[9] = _i == 0 ? NAN : INFINITY;
    for (int t = 0; t < 2; t++) {
        case_open(&k, text[t], 1, N);
        memset(stats, 0, sizeof stats);
        ck_assert_int_eq(taut__op_collect_stats(k.codec, &k.call, x, stats), TAUT_OK);
        ck_assert_int_eq(taut__op_calibrate(k.codec, &k.call, stats, 4, NULL, &calibration), TAUT_OK);
        ck_assert(calibration.raw);
        k.call.calibration = &calibration;
        ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, k.payload, k.cap, &k.len, NULL), TAUT_OK);
        float *y = new_floats(N);
        ck_assert_int_eq(taut__op_decode(k.codec, &k.call, k.payload, k.len, y), TAUT_OK);
        ck_assert_mem_eq(x, y, N * 4);
        free(y);
        case_close(&k);
    }
    free(x);
}
END_TEST

START_TEST(bad_specs_name_value_and_range)
{
    static const char *const bad[] = {"grid:step=0",   "grid:step=-1",    "grid:step=nan",
                                      "grid:rel=0",    "grid:rel=2",      "grid:dead=0.2",
                                      "grid:code=zip", "grid:step=1e-42", "grid:step=1,rel=0.1"};
    taut_spec                spec;
    taut_tensor              t = {.elems = 100, .rows = 1, .cols = 100};
    bool                     parsed = taut__spec_parse(bad[_i], &spec) == TAUT_OK;
    ck_assert(!parsed || taut__spec_suits(&spec, &t) != TAUT_OK);
    const char *why = taut_last_error();
    ck_assert_msg(strstr(why, "grid") != NULL, "%s", why);
    ck_assert_msg(strstr(why, "must") || strstr(why, "give one"), "%s", why);
}
END_TEST

START_TEST(payload_describes_itself)
{
    enum { N = 500 };
    float     *x = mixture(N), *y = new_floats(N);
    char       text[96];
    codec_case k;
    case_open(&k, "grid:step=0.5,code=rans,dead=0.7", 1, N);
    case_round_trip(&k, x, NULL, y);
    taut_spec spec = {.stages = 1};
    ck_assert_int_eq(k.codec->describe(k.payload, k.len, &spec.stage[0]), TAUT_OK);
    taut__spec_print(&spec, text, sizeof text);
    ck_assert_str_eq(text, "grid:step=0.5,code=rans,dead=0.7");
    case_close(&k);
    free(x), free(y);
}
END_TEST

START_TEST(capacity_is_asked_for)
{
    enum { N = 500 };
    float     *x = mixture(N);
    codec_case k;
    case_open(&k, "grid:step=0.5", 1, N);
    ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, k.payload, k.cap - 1, &k.len, NULL), TAUT_E_CAPACITY);
    case_close(&k);
    free(x);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grid_payloads");
    TCase *t = suite_case(s, "grid_payloads", 300);
    tcase_add_loop_test(t, changed_bytes_do_no_harm, 0, SPECS);
    tcase_add_loop_test(t, sizes_from_one, 0, SPECS);
    tcase_add_loop_test(t, values_without_a_code_travel_raw, 0, 6);
    tcase_add_loop_test(t, zeros_take_a_few_bytes, 0, 4);
    tcase_add_test(t, no_code_ever_wraps);
    tcase_add_loop_test(t, calibrate_asks_for_raw, 0, 2);
    tcase_add_loop_test(t, bad_specs_name_value_and_range, 0, 9);
    tcase_add_test(t, payload_describes_itself);
    tcase_add_test(t, capacity_is_asked_for);
    return suite_run(s);
}
