/* quant_kernels.h : the work of the quant codec on one bucket, one table per instruction set (dispatch.h).
 *
 * quant_portable.c is the specification; every level writes the same bytes and the same floats. quant.c decides what a
 * bucket's unit is and handles the buckets that these kernels do not take (not finite, or outside the safe range).
 *
 * Codes of a group of g <= 64 consecutive elements lie in `bits` planes of g bits each, without gaps: bit i of plane p
 * is bit p of element i's code. A full group is therefore `bits` little-endian 64-bit words, which is what AVX-512's
 * test-into-mask, AVX2's movemask and a GPU's ballot produce; only the last group of a tensor is shorter.
 */
#ifndef TAUT_QUANT_KERNELS_H
#define TAUT_QUANT_KERNELS_H

#include "../../comm/base/base.h"

enum { QUANT_GROUP = 64 };

/* quant_unit : what the codes of one bucket mean, and how they are made.
 *   value(q) = base + (float)q * step,  0 <= q <= top          (float32, rounded after each operation)
 *   v = (x - base) * inv rounded half to even to an integer;    inv = 65536 / step: 16 fractional bits
 *   q = (v + r) >> 16, clamped to 0..top,  r = 32768 (nearest, halves upwards) or 16 random bits (stochastic)
 * r is uniform on 0..65535, so the mean of q is v / 65536 exactly: unbiased up to v's rounding, 2^-17 steps.
 * Element j of a group takes the low (j < 32) or high (j >= 32) half of taut__random32(rng, counter + j % 32), where
 * counter is half the index of the group's first element in the tensor: one hash serves two elements. */
typedef struct quant_unit {
    float     base, step, inv;
    uint32_t  bits, top;
    bool      stochastic;
    taut__rng rng;
    uint32_t  counter; /* of the bucket's first group; each group adds 32 */
} quant_unit;

typedef struct taut__quant_kernels {
    /* Smallest and largest of x[0..n), n >= 1, zeros of either sign; false (nothing promised) where x holds NaN.
     * Inf shows in the result. */
    bool (*range)(const float *x, size_t n, float *min, float *max);
    /* codes[0 .. ceil(n * bits / 8)) from x; err: NULL, or n floats, may be x: err = x - value */
    void (*pack)(const quant_unit *u, const float *x, size_t n, uint8_t *codes, float *err);
    void (*unpack)(const quant_unit *u, const uint8_t *codes, size_t n, float *dst);     /* dst[i]  = value */
    void (*unpack_add)(const quant_unit *u, const uint8_t *codes, size_t n, float *acc); /* acc[i] += value */
} taut__quant_kernels;

extern const taut__quant_kernels taut__quant_portable, taut__quant_avx2, taut__quant_avx512, taut__quant_avx512vbmi2,
    taut__quant_neon;

#endif
