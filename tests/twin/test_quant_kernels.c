/* Every level of the quant codec writes the portable bytes, errors and floats: all widths, norms, roundings, buckets,
 * lengths around the vector widths, addresses that are not aligned, and buckets of every kind. */
#include "compressors/codec.h"
#include "compressors/dispatch.h"
#include "compressors/quant/quant_bucket.h"
#include "compressors/quant/quant_codes.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 8192 };

typedef struct result {
    uint8_t meta[8], codes[MOST];
    float   err[MOST + 16], back[MOST + 16], sum[MOST + 16];
} result;

static result want, got;

static void bucket_through(const taut__simd *simd, const quant_params *p, const float *x, size_t n, size_t shift,
                           result *r)
{
    memset(r, 0xa5, sizeof *r);
    taut__quant_encode(simd, p, 77, 4096, x, n, r->meta, r->codes, r->err + shift);
    taut__quant_decode(simd, p, r->meta, r->codes, n, r->back + shift, false);
    for (size_t i = 0; i < n; i++) r->sum[shift + i] = (float)i * 0.125f - 3;
    taut__quant_decode(simd, p, r->meta, r->codes, n, r->sum + shift, true);
}

static void same(const taut__simd *simd, const quant_params *p, const float *x, size_t n, size_t shift)
{
    bucket_through(taut__simd_at(0), p, x, n, shift, &want);
    bucket_through(simd, p, x, n, shift, &got);
    ck_assert_msg(memcmp(&want, &got, sizeof want) == 0, "%s: bits=%u norm=%d stochastic=%d n=%zu shift=%zu",
                  simd->name, p->bits, p->norm, p->stochastic, n, shift);
    float *in_place = want.err + shift; /* err may be src */
    memcpy(in_place, x, n * sizeof *x);
    taut__quant_encode(simd, p, 77, 4096, in_place, n, want.meta, want.codes, in_place);
    ck_assert(memcmp(&want, &got, sizeof want) == 0);
}

static void same_everywhere(const float *x, size_t n, size_t shift)
{
    const taut__simd *simd;
    for (size_t l = 1; (simd = taut__simd_at(l)) != NULL; l++)
        for (uint32_t bits = 1; bits <= 8; bits++)
            for (int norm = QUANT_MAXMIN; norm <= QUANT_L2; norm++)
                for (int stochastic = 0; stochastic < 2; stochastic++) {
                    quant_params p = {.bits = bits, .norm = (quant_norm)norm, .stochastic = stochastic, .bucket = MOST};
                    same(simd, &p, x + shift, n, shift);
                }
}

START_TEST(ordinary_buckets)
{
    static const size_t sizes[] = {1,  2,   7,   8,   9,   15,  16,  17,  31,  32,   33,   63,   64,
                                   65, 127, 128, 129, 191, 192, 511, 512, 513, 1000, 4096, 8191, 8192};
    float              *x = new_floats(MOST + 16);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t shift = 0; shift < 2; shift++) {
            fill_normal(x + shift, sizes[s], 1e-3f, s);
            same_everywhere(x, sizes[s], shift);
        }
    free(x);
}
END_TEST

/* One value of `odd` among ordinary ones, at several places. */
static void spiced(const float *odd, size_t count, float sigma)
{
    static const size_t places[] = {0, 5, 63, 64, 100, 129};
    float              *x = new_floats(130);
    for (size_t o = 0; o < count; o++)
        for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
            fill_normal(x, 130, sigma, o);
            x[places[k]] = odd[o];
            same_everywhere(x, 130, 0);
        }
    free(x);
}

START_TEST(odd_buckets)
{
    static const float odd[] = {0.0f, -0.0f, 1e-45f, -1e-42f, INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-30f};
    spiced(odd, sizeof odd / sizeof *odd, 1);
    spiced(odd, sizeof odd / sizeof *odd, 1e-44f);
    spiced(odd, sizeof odd / sizeof *odd, 1e-32f);
    spiced(odd, sizeof odd / sizeof *odd, 1e38f);
}
END_TEST

START_TEST(equal_elements)
{
    static const float values[] = {0.0f, -0.0f, 1.5f, -1.5f, 1e-45f, 3.4e38f};
    float             *x = new_floats(200);
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        for (size_t i = 0; i < 200; i++) x[i] = values[v];
        same_everywhere(x, 200, 0);
        for (size_t i = 0; i < 200; i += 2) x[i] = -x[i]; /* zeros of both signs, or two values */
        same_everywhere(x, 200, 0);
    }
    free(x);
}
END_TEST

/* Metadata and codes as an attacker would write them. */
START_TEST(any_bytes_decode_alike)
{
    const taut__simd *simd;
    uint8_t           meta[8];
    for (uint32_t round = 0; round < 3000; round++) {
        taut__rng g = taut__rng_of(round, 0);
        for (uint32_t i = 0; i < 8; i++) meta[i] = (uint8_t)taut__random32(g, i);
        if (round % 3 == 0) meta[3] = (uint8_t)(meta[3] | 0x7e), meta[7] |= 0x7e; /* huge, Inf, NaN */
        for (uint32_t i = 0; i < 200; i++) want.codes[i] = (uint8_t)taut__random32(g, 8 + i);
        memcpy(got.codes, want.codes, 200);
        quant_params p = {.bits = 1 + round % 8, .norm = (quant_norm)(round / 8 % 3), .bucket = 256};
        for (size_t l = 1; (simd = taut__simd_at(l)) != NULL; l++) {
            memset(want.back, 0, sizeof want.back);
            memset(got.back, 0, sizeof got.back);
            for (int add = 0; add < 2; add++) {
                taut__quant_decode(taut__simd_at(0), &p, meta, want.codes, 190, want.back, add);
                taut__quant_decode(simd, &p, meta, got.codes, 190, got.back, add);
                ck_assert(memcmp(want.back, got.back, sizeof want.back) == 0);
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant_kernels");
    TCase *t = suite_case(s, "twin", 60);
    tcase_add_test(t, ordinary_buckets);
    tcase_add_test(t, odd_buckets);
    tcase_add_test(t, equal_elements);
    tcase_add_test(t, any_bytes_decode_alike);
    return suite_run(s);
}
