/* feedback.h, function by function. */
#include "compressors/feedback.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Every binary16 and bfloat16 value reads as the float that it stands for. */
START_TEST(reads_16_bit_gradients)
{
    enum { ALL = 65536 };
    taut_feedback *f;
    uint16_t      *h = malloc(ALL * sizeof *h);
    ck_assert_int_eq(taut__feedback_create(ALL, 0, &f), TAUT_OK);
    for (size_t i = 0; i < ALL; i++) h[i] = (uint16_t)i;
    taut__feedback_input(f, 0, ALL, TAUT_F16, h, true);
    size_t wrong = 0; /* one assert in all: each writes to Check's pipe */
    for (size_t i = 0; i < ALL; i++) {
        int    exponent = (int)(i >> 10 & 31), fraction = (int)(i & 1023);
        double want = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                     : ldexp(fraction, -24);
        if (i >> 15) want = -want;
        wrong += isnan(want) ? !isnan(f->r[i]) : (double)f->r[i] != want;
    }
    ck_assert_uint_eq(wrong, 0);
    taut__feedback_input(f, 0, ALL, TAUT_BF16, h, true);
    for (size_t i = 0; i < ALL; i++) {
        uint32_t bits;
        memcpy(&bits, &f->r[i], sizeof bits);
        wrong += bits != i << 16 && !isnan(f->r[i]);
    }
    ck_assert_uint_eq(wrong, 0);
    taut__feedback_destroy(f);
    free(h);
}
END_TEST

START_TEST(adds_to_the_residual_or_overwrites)
{
    taut_feedback *f;
    float          g[6] = {1, 2, 3, 4, 5, 6};
    uint16_t       one[2] = {0x3c00, 0x3c00}, one_b[2] = {0x3f80, 0x3f80};
    ck_assert_int_eq(taut__feedback_create(6, 0, &f), TAUT_OK);
    taut__feedback_input(f, 0, 6, TAUT_F32, g, false);
    taut__feedback_input(f, 2, 3, TAUT_F32, g, false); /* a slice */
    ck_assert(f->r[1] == 2 && f->r[2] == 4 && f->r[4] == 8 && f->r[5] == 6);
    taut__feedback_input(f, 0, 2, TAUT_F16, one, false);
    taut__feedback_input(f, 0, 2, TAUT_BF16, one_b, false);
    ck_assert(f->r[0] == 3 && f->r[1] == 4);
    taut__feedback_input(f, 4, 2, TAUT_F32, g, true);
    ck_assert(f->r[4] == 1 && f->r[5] == 2);
    taut__feedback_output(f, 0, 6); /* no momentum: nothing to do */
    taut__feedback_clear(f, 1, 5);
    ck_assert(f->r[0] == 3 && f->r[1] == 0 && f->r[5] == 0);
    f->r[2] = NAN, f->r[3] = -INFINITY;
    ck_assert_uint_eq(taut__feedback_scrub(f, 0, 6), 2);
    ck_assert(f->r[0] == 3 && f->r[2] == 0 && f->r[3] == 0);
    taut__feedback_destroy(f);
    taut__feedback_destroy(NULL);
}
END_TEST

START_TEST(norms_in_every_metric)
{
    enum { ROWS = 7, COLS = 13, N = ROWS * COLS };
    float *e = new_floats(N), *s = new_floats(N);
    fill_normal(e, N, 1, 1);
    for (size_t i = 0; i < N; i++) s[i] = 0.5f + (float)(i % 5);
    static const size_t scales[] = {0, 1, ROWS, N};
    for (size_t m = 0; m < 4; m++)
        for (size_t first = 0; first < N; first += 17)
            for (size_t n = 0; first + n <= N; n += 19) {
                taut_tensor t = {
                    .elems = N, .rows = ROWS, .cols = COLS, .scale = scales[m] ? s : NULL, .scale_n = scales[m]};
                taut_norm2 got = taut__norm2(&t, e + first, first, n);
                double     plain = 0, weighted = 0;
                for (size_t i = first; i < first + n; i++) {
                    double w = scales[m] == 0 ? 1 : s[scales[m] == 1 ? 0 : scales[m] == N ? i : i / COLS];
                    plain += (double)e[i] * e[i], weighted += (double)e[i] * e[i] / (w * w);
                }
                ck_assert_double_eq_tol(got.plain, plain, 1e-12 * N);
                ck_assert_double_eq_tol(got.weighted, weighted, 1e-6 * weighted + 1e-12); /* quotients are floats */
            }
    e[3] = NAN, e[4] = INFINITY;
    taut_tensor t = {.elems = N, .rows = ROWS, .cols = COLS};
    ck_assert(isfinite(taut__norm2(&t, e, 0, N).plain));
    free(e), free(s);
}
END_TEST

START_TEST(states_add_up)
{
    taut_feedback *a, *b;
    float          g[3] = {1, 2, 3};
    uint8_t        blob[24];
    size_t         len;
    ck_assert_int_eq(taut__feedback_create(3, 0.9f, &a), TAUT_OK);
    ck_assert_int_eq(taut__feedback_create(3, 0.9f, &b), TAUT_OK);
    taut__feedback_input(a, 0, 3, TAUT_F32, g, false);
    taut__feedback_input(b, 0, 3, TAUT_F32, g, false);
    ck_assert_int_eq(taut__feedback_save(a, NULL, 0, &len), TAUT_OK);
    ck_assert_uint_eq(len, sizeof blob);
    ck_assert_int_eq(taut__feedback_save(a, blob, len - 1, &len), TAUT_E_CAPACITY);
    ck_assert_int_eq(taut__feedback_save(a, blob, sizeof blob, &len), TAUT_OK);
    ck_assert_int_eq(taut__feedback_load(b, blob, len), TAUT_OK);
    ck_assert(b->r[0] == 2 && b->r[2] == 6 && b->u[1] == 4);
    ck_assert_int_eq(taut__feedback_load(b, blob, len - 4), TAUT_E_MISMATCH);
    memset(blob, 0xff, 4); /* NaN */
    ck_assert_int_eq(taut__feedback_load(b, blob, len), TAUT_OK);
    ck_assert(b->r[0] == 2 && b->r[1] == 6);
    taut__feedback_destroy(a), taut__feedback_destroy(b);
}
END_TEST

START_TEST(refuses_bad_momentum_and_survives_no_memory)
{
    taut_feedback *f;
    size_t         held = taut__alloc_bytes();
    ck_assert_int_eq(taut__feedback_create(3, 1, &f), TAUT_E_RANGE);
    ck_assert_int_eq(taut__feedback_create(3, NAN, &f), TAUT_E_RANGE);
    for (int64_t nth = 0; nth < 3; nth++) {
        taut__alloc_fail_after(nth);
        ck_assert_int_eq(taut__feedback_create(3, 0.9f, &f), TAUT_E_NOMEM);
        ck_assert_ptr_null(f);
    }
    taut__alloc_fail_after(-1);
    ck_assert_uint_eq(taut__alloc_bytes(), held);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("feedback");
    TCase *t = suite_case(s, "unit", 0);
    tcase_add_test(t, reads_16_bit_gradients);
    tcase_add_test(t, adds_to_the_residual_or_overwrites);
    tcase_add_test(t, norms_in_every_metric);
    tcase_add_test(t, states_add_up);
    tcase_add_test(t, refuses_bad_momentum_and_survives_no_memory);
    return suite_run(s);
}
