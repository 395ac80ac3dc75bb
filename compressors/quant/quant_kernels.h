/* quant_kernels.h : the bucket-level work of the quant codec. quant_portable.c is the specification; every level gives
 * the same bytes and the same floats. */
#ifndef TAUT_QUANT_KERNELS_H
#define TAUT_QUANT_KERNELS_H

#include "../../comm/base.h"

enum { QUANT_MAXMIN, QUANT_LINF, QUANT_L2 };

/* A bucket's levels: code q stands for base + (q - zero) * step, q = 0..top. */
typedef struct quant_levels {
    float base, step, inv; /* inv = 1/step, or 0 where step is 0 or too small to invert: every code is then 0 */
    float zero;            /* code of base: 0, or (2^(bits-1) - 1) for the symmetric norms */
    int   top;
} quant_levels;

typedef struct quant_round {
    bool     stochastic;
    uint64_t seed;
    uint64_t first; /* index in the tensor of the bucket's first element; a multiple of 64 */
} quant_round;

struct taut__quant_kernels {
    /* min and max of x[0..n), n >= 1, zeros as +0; false if some x is not finite. */
    bool (*range)(const float *x, size_t n, float *min, float *max);
    /* codes of x[0..n) as a bit string, element i at bits [i*bits, (i+1)*bits), low bits first; the last byte is
     * zero-padded. err: NULL or n floats, may be x: x - value of the code. */
    void (*encode)(const float *x, size_t n, int bits, const quant_levels *l, const quant_round *r, uint8_t *dst,
                   float *err);
    /* dst[i] = value (add: +=) */
    void (*decode)(const uint8_t *src, size_t n, int bits, const quant_levels *l, float *dst, bool add);
};

extern const struct taut__quant_kernels taut__quant_portable;
extern const struct taut__quant_kernels taut__quant_avx2;
extern const struct taut__quant_kernels taut__quant_avx512;
extern const struct taut__quant_kernels taut__quant_neon;

static inline size_t quant_packed_bytes(size_t n, int bits) { return n / 8 * (size_t)bits + (n % 8 * (size_t)bits + 7) / 8; }

/* Where in its 32 elements an element takes its random bits: elements i and i+16 share one 32-bit number, low half and
 * high half. That is 16 lanes' worth of shifts for two vectors of elements. */
static inline float quant_uniform(taut_rng g, uint64_t i) /* of {1,3,5,...}/2^17, mean 1/2 */
{
    uint32_t word = taut__random32(g, (uint32_t)(i / 32 * 16 + i % 16));
    uint32_t half = i & 16 ? word >> 16 : word & 0xffffu;
    return (float)half * 0x1p-16f + 0x1p-17f;
}

/* The rounding of one element, shared by the portable kernel and by the tails of the others. */
static inline int quant_code(float x, const quant_levels *l, float offset) /* offset = zero + uniform (or + 1/2) */
{
    float t = (x - l->base) * l->inv + offset;
    int   q = (int)t; /* t > -1: truncation is floor for what remains after the clamp */
    return q < 0 ? 0 : q > l->top ? l->top : q;
}
static inline float quant_value(int q, const quant_levels *l) { return l->base + ((float)q - l->zero) * l->step; }

#endif
