/* Every level of the vec kernels gives the portable bits, and the portable casts agree with the compiler's own. */
#include "compressors/dispatch.h"
#include "compressors/vec/vec.h"
#include "compressors/vec/vec_portable.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 5000, SHIFTS = 3 };

static const float odd[] = {0.0f,           -0.0f,    1e-45f,      -1e-42f,    INFINITY, -INFINITY,
                            65504.0f,       65519.9f, 65520.0f,    -7e4f,      3e38f,    6e-8f,
                            3e-8f,          2.9e-8f,  6.1e-5f,     6.0e-5f,    1.0f,     1.00048828125f,
                            1.00146484375f, 3.4e38f,  0x1.fep127f, 0x1.ffp127f};
static float      *x, *y, *want, *got;
static uint8_t     half_want[2 * MOST + 8], half_got[2 * MOST + 8];

static void set_up(void)
{
    x = new_floats(MOST + 8), y = new_floats(MOST + 8), want = new_floats(MOST + 8), got = new_floats(MOST + 8);
    fill_normal(x, MOST + 8, 1, 1);
    fill_normal(y, MOST + 8, 1e-3f, 2);
    for (size_t i = 0; i < MOST; i += 5) x[i] = odd[i / 5 % (sizeof odd / sizeof *odd)];
    for (size_t i = 3; i < MOST; i += 97) x[i] = taut__float(0x7f800001u + (uint32_t)(i * 2654435761u >> 9)); /* NaNs */
}

static void tear_down(void) { free(x), free(y), free(want), free(got); }

static void casts(const taut__vec_kernels *k, const taut__vec_kernels *p, size_t n, size_t at, size_t shift)
{
    void *h = half_want + shift, *g = half_got + shift;
    p->to_f16(h, x + at, n), k->to_f16(g, x + at, n);
    ck_assert(memcmp(half_want, half_got, sizeof half_got) == 0);
    p->from_f16(want + at, h, n), k->from_f16(got + at, h, n);
    ck_assert(memcmp(want, got, MOST * 4) == 0);
    p->add_f16(want + at, h, n), k->add_f16(got + at, h, n);
    p->to_bf16(h, x + at, n), k->to_bf16(g, x + at, n);
    ck_assert(memcmp(half_want, half_got, sizeof half_got) == 0);
    p->from_bf16(want + at, h, n), k->from_bf16(got + at, h, n);
    p->add_bf16(want + at, h, n), k->add_bf16(got + at, h, n);
    ck_assert(memcmp(want, got, MOST * 4) == 0);
}

static void sums(const taut__vec_kernels *k, const taut__vec_kernels *p, size_t n, size_t at)
{
    double a = p->sum2(x + at, n), b = k->sum2(x + at, n), c = p->sum2_over(x + at, y, n),
           d = k->sum2_over(x + at, y, n);
    ck_assert(memcmp(&a, &b, sizeof a) == 0);
    ck_assert(memcmp(&c, &d, sizeof c) == 0);
    float e = p->max_abs(x + at, n), f = k->max_abs(x + at, n);
    ck_assert(memcmp(&e, &f, sizeof e) == 0);
    ck_assert(p->max_abs(y + at, n) == k->max_abs(y + at, n));
    ck_assert_uint_eq(p->hash(x + at, 4 * n), k->hash(x + at, 4 * n));
}

static void arithmetic(const taut__vec_kernels *k, const taut__vec_kernels *p, size_t n, size_t at, size_t shift)
{
    uint8_t *bytes = (uint8_t *)half_want; /* floats at any address */
    size_t   m = taut__min(n, sizeof half_want / 4 - 2);
    memcpy(bytes + shift, y, m * 4);
    p->add(want + at, bytes + shift, m), k->add(got + at, bytes + shift, m);
    p->scale(want + at, 0.3f, n), k->scale(got + at, 0.3f, n);
    ck_assert(memcmp(want, got, MOST * 4) == 0);
    p->residual(want + at, x + at, y + at, n), k->residual(got + at, x + at, y + at, n);
    ck_assert(memcmp(want, got, MOST * 4) == 0);
    memset(half_want, 0, sizeof half_want);
    memset(half_got, 0, sizeof half_got);
}

START_TEST(every_level_equals_portable)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 1000, 2048, MOST - 8};
    const taut__simd   *l;
    for (size_t i = 1; (l = taut__simd_at(i)) != NULL; i++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (size_t shift = 0; shift < SHIFTS; shift++) {
                casts(l->vec, &taut__vec_portable, sizes[s], shift, shift);
                arithmetic(l->vec, &taut__vec_portable, sizes[s], shift, shift);
                sums(l->vec, &taut__vec_portable, sizes[s], shift);
            }
}
END_TEST

START_TEST(all_halves_survive)
{
    size_t wrong = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        float    f = taut__from_f16((uint16_t)h), b = taut__from_bf16((uint16_t)h);
        uint32_t quiet = isnan(f) ? 0x200 : 0, quiet_b = isnan(b) ? 0x40 : 0;
        wrong += taut__to_f16(f) != (h | quiet) || taut__to_bf16(b) != (h | quiet_b);
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

/* Against the definition, in double: the nearest half, and of two equally near ones the one with an even last bit. */
static bool rounded_well(float f)
{
    uint16_t h = taut__to_f16(f);
    double   below = taut__from_f16((uint16_t)(h ? h - 1 : 0)), at = taut__from_f16(h);
    double   above = h == 0x7bff ? 65536.0 : taut__from_f16((uint16_t)(h + 1)), d = fabs(at - f);
    bool     tie = d == fabs(above - f) || (h && d == fabs(below - f));
    return d <= fabs(below - f) && d <= fabs(above - f) && !(tie && h % 2);
}

START_TEST(f16_rounds_half_to_even)
{
    size_t wrong = 0;
    for (uint32_t i = 0; i < 400000; i++) wrong += !rounded_well(taut__float(0x32000000u + i * 893u)); /* 2^-27 up */
    for (uint32_t h = 0; h < 0x7bff; h++)                                                              /* all ties */
        wrong += !rounded_well((taut__from_f16((uint16_t)h) + taut__from_f16((uint16_t)(h + 1))) / 2);
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(taut__to_f16(65519.996f), 0x7bff);
    ck_assert_uint_eq(taut__to_f16(65520.0f), 0x7c00);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("vec_kernels");
    TCase *t = suite_case(s, "twin", 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, every_level_equals_portable);
    tcase_add_test(t, all_halves_survive);
    tcase_add_test(t, f16_rounds_half_to_even);
    return suite_run(s);
}
