/* quant_rotate.h : rotated buckets: kernels, one table per instruction set (dispatch.h), and what makes a bucket of them (quant_rotate.c).
 *
 * quant_rotate_portable.c is the specification; every level gives the same bits, since each element goes through the same
 * additions in the same order. */
#ifndef TAUT_QUANT_ROTATE_H
#define TAUT_QUANT_ROTATE_H

#include "quant_bucket.h"
#include "quant_levels.h"

typedef struct taut__rotate_kernels {
    /* x = H x with Sylvester's Hadamard matrix, not normalised: for h = 1, 2, 4, ... n/2 the pairs (a, b) at distance h become
     * (a + b, a - b). n: a power of 2 */
    void (*turn)(float *x, size_t n);
    /* dst[i] = (x[i] * factor) * sign[i]; dst may be x */
    void (*flip)(float *dst, const float *x, const float *sign, float factor, size_t n);
    /* flip, then turn; returns the sum of squares between the two. Sums: of 64 elements, those 8 apart are added as floats, in order; these
     * eight in as many doubles, which are folded in halves */
    double (*flip_turn)(float *dst, const float *x, const float *sign, float factor, size_t n);
    /* y = w[i] * inv -> code[i], as a float, and value[i], its level. Returns the sum of y * level. value may be w */
    double (*level)(const quant_levels *l, const float *w, float inv, size_t n, float *code, float *value);
    void (*value)(const quant_levels *l, const float *code, size_t n, float *value); /* value may be code */
    /* v = (h[i] * sign[i]) * unit within the largest floats; dst[i] = v, or += v */
    void (*give)(float *dst, const float *h, const float *sign, float unit, size_t n, bool add);
} taut__rotate_kernels;

/* The codec's work, as taut__quant_encode() and taut__quant_decode() do it for other buckets; p->norm is QUANT_ROTATED. */
void taut__rotate_encode(const taut__simd *simd, const quant_params *p, const float *x, size_t n, uint8_t *meta,
                         uint8_t *codes, float *err);
void taut__rotate_decode(const taut__simd *simd, const quant_params *p, const uint8_t *meta, const uint8_t *codes,
                         size_t n, float *dst, bool add);

/* ---- sums ---- */

/* product[0..64) -> sum[0..8) */
static inline void rotate_add(double sum[8], const float product[64])
{
    for (size_t j = 0; j < 8; j++) {
        float s = product[j];
        for (size_t k = j + 8; k < 64; k += 8) s += product[k];
        sum[j] += (double)s;
    }
}
static inline double rotate_fold(const double s[8])
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

#endif
