/* topk_kernels.h : the one kernel that touches every element. Same results at every level. */
#ifndef TAUT_TOPK_KERNELS_H
#define TAUT_TOPK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { TAUT_TOPK_SLACK = 16 }; /* entries that collect may write past the ones it returns */

typedef struct taut__topk_kernels {
    /* Positions and values of the src[i] with (bits of src[i] & mask) >= least, in order of i.
     * mask 0x7fffffff compares magnitudes (NaN above Inf above the finite), 0xffffffff finds whatever is not +0.
     * pos[j] = base + i. pos, val: room for n + TAUT_TOPK_SLACK entries. Returns how many. */
    size_t (*collect)(const float *restrict src, size_t n, uint32_t mask, uint32_t least, uint32_t base,
                      uint32_t *restrict pos, float *restrict val);
} taut__topk_kernels;

extern const taut__topk_kernels taut__topk_portable, taut__topk_avx2, taut__topk_avx512, taut__topk_neon;

#endif
