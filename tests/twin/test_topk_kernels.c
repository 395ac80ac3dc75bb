/* Every level of the top-k kernel returns what the portable one returns. */
#include "compressors/dispatch.h"
#include "compressors/topk/topk_kernels.h"
#include "compressors/topk/topk_select.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void spice(float *x, size_t n)
{
    static const float odd[] = {0.0f, -0.0f, 1e-42f, -1e-42f, INFINITY, -INFINITY, NAN, 3e38f};
    for (size_t i = 3; i < n; i += 13) x[i] = odd[i / 13 % 8];
}

static void same(const taut__topk_kernels *t, const float *x, size_t n, uint32_t mask, uint32_t least)
{
    uint32_t *pos = malloc((n + TAUT_TOPK_SLACK) * 4), *pos_p = malloc((n + TAUT_TOPK_SLACK) * 4);
    float    *val = new_floats(n + TAUT_TOPK_SLACK), *val_p = new_floats(n + TAUT_TOPK_SLACK);
    size_t    found = t->collect(x, n, mask, least, 5, pos, val);
    size_t    found_p = taut__topk_portable.collect(x, n, mask, least, 5, pos_p, val_p);
    ck_assert_uint_eq(found, found_p);
    ck_assert(memcmp(pos, pos_p, found * 4) == 0);
    ck_assert(memcmp(val, val_p, found * 4) == 0);
    free(pos), free(pos_p), free(val), free(val_p);
}

START_TEST(every_level_equals_portable)
{
    static const size_t   sizes[] = {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 255, 1000, 2048, 2049};
    static const uint32_t least[] = {0, 1, 2, 0x00800000, 0x3e000000, 0x3f800000, 0x7f800000, 0x7f800001, 0x80000000};
    const taut__simd     *level;
    for (size_t l = 0; (level = taut__simd_at(l)) != NULL; l++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (size_t shift = 0; shift < 2; shift++) { /* also at addresses that are not aligned to vectors */
                float *x = new_floats(sizes[s] + shift);
                fill_normal(x + shift, sizes[s], 1, s);
                spice(x + shift, sizes[s]);
                for (size_t b = 0; b < sizeof least / sizeof *least; b++) {
                    same(level->topk, x + shift, sizes[s], TAUT_TOPK_MAGNITUDE, least[b]);
                    same(level->topk, x + shift, sizes[s], UINT32_MAX, least[b]);
                }
                free(x);
            }
}
END_TEST

START_TEST(every_level_selects_alike)
{
    size_t            n = 70000;
    float            *x = new_floats(n);
    const taut__simd *level;
    fill_normal(x, n, 1, 1);
    spice(x, n);
    for (size_t l = 0; (level = taut__simd_at(l)) != NULL; l++)
        for (size_t k = 1; k < n; k = k * 3 + 1) {
            taut__topk_choice a = taut__topk_select(level->topk, x, n, k),
                              b = taut__topk_select(&taut__topk_portable, x, n, k);
            ck_assert_uint_eq(a.threshold, b.threshold);
            ck_assert_uint_eq(a.last_tie, b.last_tie);
        }
    free(x);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("topk_kernels");
    TCase *t = suite_case(s, "twin", 0);
    tcase_add_test(t, every_level_equals_portable);
    tcase_add_test(t, every_level_selects_alike);
    return suite_run(s);
}
