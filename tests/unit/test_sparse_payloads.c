/* Payloads of topk, randk, powersgd and stack with every byte changed and every length cut; capacity and description. */
#include "tests/support/codec_case.h"
#include "compressors/stack/stack.h"
#include "../support/suite.h"
#include <stdlib.h>
#include <string.h>

static const char *const specs[] = {
    "topk:density=0.05",
    "topk:density=0.7",
    "topk:density=1",
    "randk:density=0.05",
    "randk:density=0.5,scale=1",
    "powersgd:rank=3",
    "stack:topk:density=0.05+randk:density=0.1",
    "stack:powersgd:rank=2+topk",
};

START_TEST(changed_bytes_do_no_harm)
{
    enum { ROWS = 24, COLS = 40 };
    float *x = new_floats(ROWS * COLS), *y = new_floats(ROWS * COLS);
    fill_normal(x, ROWS * COLS, 1, 5);
    codec_case k;
    case_open(&k, specs[_i], ROWS, COLS);
    case_round_trip(&k, x, NULL, y);
    ck_assert_uint_ge(case_fuzz_payload(&k), k.len); /* at least every truncation is refused */
    case_close(&k);
    free(x), free(y);
}
END_TEST

/* A payload read against another tensor size. */
START_TEST(wrong_element_count)
{
    enum { ROWS = 24, COLS = 40 };
    float *x = new_floats(2 * ROWS * COLS), *y = new_floats(2 * ROWS * COLS);
    fill_normal(x, ROWS * COLS, 1, 5);
    codec_case k;
    case_open(&k, specs[_i], ROWS, COLS);
    case_round_trip(&k, x, NULL, y);
    static const size_t counts[] = {0, 1, 5, ROWS * COLS / 2};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        float *small = new_floats(counts[i]);
        k.call.n = counts[i];
        if (taut__op_decode(k.codec, &k.call, k.payload, k.len, small) == TAUT_OK) ck_assert_uint_ne(counts[i], 0);
        free(small);
    }
    case_close(&k);
    free(x), free(y);
}
END_TEST

START_TEST(sizes_from_one)
{
    for (size_t n = 1; n <= 70; n++) {
        if (strstr(specs[_i], "powersgd") && n < 3) continue;
        size_t     rows = strstr(specs[_i], "powersgd") ? n : 1, cols = rows > 1 ? 5 : n;
        codec_case k;
        case_open(&k, specs[_i], rows, cols);
        float *x = new_floats(rows * cols), *y = new_floats(rows * cols), *err = new_floats(rows * cols);
        fill_normal(x, rows * cols, 1, n);
        case_round_trip(&k, x, err, y);
        ck_assert_double_le(distance2(x, y, rows * cols),
                            norm2(x, rows * cols) * (strstr(specs[_i], "scale") ? 4.0 : 1.0001));
        for (size_t i = 0; i < rows * cols; i++) y[i] += err[i];
        ck_assert_double_le(distance2(x, y, rows * cols), 1e-10 * norm2(x, rows * cols));
        free(x), free(y), free(err);
        case_close(&k);
    }
}
END_TEST

/* The bytes do not depend on where they are written, nor on what is there. */
START_TEST(any_address_same_bytes)
{
    enum { ROWS = 30, COLS = 50 };
    float *x = new_floats(ROWS * COLS), *y = new_floats(ROWS * COLS), *z = new_floats(ROWS * COLS);
    fill_normal(x, ROWS * COLS, 1, 9);
    codec_case k;
    case_open(&k, specs[_i], ROWS, COLS);
    case_round_trip(&k, x, NULL, y);
    for (size_t shift = 1; shift < 4; shift++) {
        uint8_t *other = malloc(k.cap + shift);
        size_t   len;
        memset(other, 0xa5, k.cap + shift);
        ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, other + shift, k.cap, &len, NULL), TAUT_OK);
        ck_assert_uint_eq(len, k.len);
        ck_assert(memcmp(other + shift, k.payload, len) == 0);
        ck_assert_int_eq(taut__op_decode(k.codec, &k.call, other + shift, len, z), TAUT_OK);
        ck_assert(memcmp(y, z, sizeof *y * ROWS * COLS) == 0);
        free(other);
    }
    free(x), free(y), free(z);
    case_close(&k);
}
END_TEST

START_TEST(payloads_describe_themselves)
{
    enum { ROWS = 30, COLS = 50 };
    float *x = new_floats(ROWS * COLS), *y = new_floats(ROWS * COLS);
    fill_normal(x, ROWS * COLS, 1, 9);
    codec_case k;
    case_open(&k, specs[_i], ROWS, COLS);
    case_round_trip(&k, x, NULL, y);
    taut_spec found = k.spec;
    if (k.spec.stages > 1) ck_assert_int_eq(taut__stack_describe(k.payload, k.len, &found), TAUT_OK);
    else {
        memset(found.stage[0].value, 0, sizeof found.stage[0].value);
        ck_assert_int_eq(k.codec->describe(k.payload, k.len, &found.stage[0]), TAUT_OK);
    }
    char want[128], got[128];
    taut__spec_print(&k.spec, want, sizeof want);
    taut__spec_print(&found, got, sizeof got);
    ck_assert_str_eq(got, want);
    free(x), free(y);
    case_close(&k);
}
END_TEST

/* With and without a residual buffer, and with state. */
START_TEST(a_step_allocates_nothing)
{
    enum { ROWS = 256, COLS = 300 };
    float     *x = new_floats(ROWS * COLS), *y = new_floats(ROWS * COLS);
    codec_case k;
    case_open(&k, specs[_i], ROWS, COLS);
    fill_normal(x, ROWS * COLS, 1, 9);
    if (k.codec->caps & TAUT_CAP_STATEFUL)
        ck_assert_int_eq(taut__op_state_create(k.codec, &k.spec.stage[0], &k.tensor, 1, (taut_place){0}, &k.call.state),
                         TAUT_OK);
    size_t before = taut__alloc_count();
    case_round_trip(&k, x, NULL, y);
    case_round_trip(&k, x, x, y);
    ck_assert_uint_eq(taut__alloc_count(), before);
    free(x), free(y);
    case_close(&k);
}
END_TEST

START_TEST(states_survive_a_lack_of_memory)
{
    static const char *const stateful[] = {"powersgd:rank=2", "randk"};
    for (size_t i = 0; i < 2; i++) {
        codec_case  k;
        size_t      held = taut__alloc_bytes();
        taut_status s = TAUT_E_NOMEM;
        case_open(&k, stateful[i], 20, 30);
        for (int64_t nth = 0; s != TAUT_OK; nth++) {
            taut__alloc_fail_after(nth);
            s = taut__op_state_create(k.codec, &k.spec.stage[0], &k.tensor, 1, (taut_place){0}, &k.call.state);
            ck_assert(s == TAUT_OK || (s == TAUT_E_NOMEM && taut__alloc_bytes() == held));
        }
        taut__alloc_fail_after(-1);
        case_close(&k);
        ck_assert_uint_eq(taut__alloc_bytes(), held);
    }
}
END_TEST

int main(void)
{
    enum { SPECS = sizeof specs / sizeof *specs };
    Suite *s = suite_create("sparse_payloads");
    TCase *t = suite_case(s, "unit", 60);
    tcase_add_loop_test(t, changed_bytes_do_no_harm, 0, SPECS);
    tcase_add_loop_test(t, wrong_element_count, 0, SPECS);
    tcase_add_loop_test(t, sizes_from_one, 0, SPECS);
    tcase_add_loop_test(t, any_address_same_bytes, 0, SPECS);
    tcase_add_loop_test(t, payloads_describe_themselves, 0, SPECS);
    tcase_add_loop_test(t, a_step_allocates_nothing, 0, SPECS);
    tcase_add_test(t, states_survive_a_lack_of_memory);
    return suite_run(s);
}
