/* vec.h : the plain loops over floats that everything else needs, one table per instruction set (dispatch.h).
 *
 * vec_portable.c is the specification; every level gives the same bits. Buffers need the alignment of their type only,
 * and those that may lie anywhere in a payload (const void *, void *) need none. Buffers do not overlap unless said.
 */
#ifndef TAUT_VEC_H
#define TAUT_VEC_H

#include <stddef.h>
#include <stdint.h>

typedef struct taut__vec_kernels {
    /* Casts, round half to even; beyond the range becomes Inf, NaN stays NaN (quiet, upper mantissa bits kept).
     * The 16-bit side is little-endian. */
    void (*to_f16)(void *dst, const float *src, size_t n);
    void (*to_bf16)(void *dst, const float *src, size_t n);
    void (*from_f16)(float *dst, const void *src, size_t n);
    void (*from_bf16)(float *dst, const void *src, size_t n);

    /* acc[i] += x[i], x being float32, f16 or bf16 */
    void (*add)(float *acc, const void *x, size_t n);
    void (*add_f16)(float *acc, const void *x, size_t n);
    void (*add_bf16)(float *acc, const void *x, size_t n);

    void (*scale)(float *x, float factor, size_t n); /* x[i] *= factor */
    /* err[i] = x[i] - y[i], or 0 where that is not finite; err may be x or y */
    void (*residual)(float *err, const float *x, const float *y, size_t n);

    /* Sums of squares in 32 double accumulators, element i into i modulo 32, which are then folded in halves (lane k
     * += lane k + 16, then + 8, 4, 2, 1): the same bits at every level. What is not finite is left out. _over: of
     * x[i] / s[i], divided as floats. */
    double (*sum2)(const float *x, size_t n);
    double (*sum2_over)(const float *x, const float *s, size_t n);

    float (*max_abs)(const float *x, size_t n); /* largest magnitude, 0 for n = 0; NaN if there is one */

    uint64_t (*hash)(const void *p, size_t bytes); /* XXH3, 64 bits, seed 0 */
} taut__vec_kernels;

extern const taut__vec_kernels taut__vec_portable, taut__vec_avx2, taut__vec_avx512, taut__vec_neon;

#endif
