/* topk_neon.c : NEON has no compress; it skips 16 elements at a time that hold nothing, which most do, and takes the
 * others element by element. */
#include "topk_kernels.h"
#include <arm_neon.h>
#include <string.h>

static inline size_t keep(const float *src, size_t i, uint32_t mask, uint32_t least, uint32_t base, uint32_t *pos,
                          float *val, size_t found)
{
    uint32_t bits;
    memcpy(&bits, &src[i], sizeof bits);
    pos[found] = base + (uint32_t)i;
    val[found] = src[i];
    return found + ((bits & mask) >= least);
}

static size_t collect(const float *restrict src, size_t n, uint32_t mask, uint32_t least, uint32_t base,
                      uint32_t *restrict pos, float *restrict val)
{
    const uint32x4_t m = vdupq_n_u32(mask), bound = vdupq_n_u32(least);
    size_t           found = 0, i = 0;
    for (; i + 16 <= n; i += 16) {
        uint32x4_t any = vdupq_n_u32(0);
        for (size_t j = 0; j < 16; j += 4) {
            uint32x4_t x = vreinterpretq_u32_f32(vld1q_f32(src + i + j));
            any = vorrq_u32(any, vcgeq_u32(vandq_u32(x, m), bound));
        }
        if (vmaxvq_u32(any) == 0) continue;
        for (size_t j = 0; j < 16; j++) found = keep(src, i + j, mask, least, base, pos, val, found);
    }
    for (; i < n; i++) found = keep(src, i, mask, least, base, pos, val, found);
    return found;
}

const taut__topk_kernels taut__topk_neon = {.collect = collect};
