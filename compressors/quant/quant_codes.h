/* quant_codes.h : bit planes of one group, random halves, and one element's code. */
#ifndef TAUT_QUANT_CODES_H
#define TAUT_QUANT_CODES_H

#include "../ahead.h"
#include "quant_kernels.h"
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "planes are copied as they are"
#endif

/* Before loops over the vectors or planes of a group: gcc -O2 leaves them rolled, with their arrays in memory. */
#if defined(__GNUC__) && !defined(__clang__)
#define QUANT_UNROLL _Pragma("GCC unroll 8")
#else
#define QUANT_UNROLL
#endif

/* While bucket b is packed from the L1 cache the memory bus is idle, so pack asks for bucket b + 2, the next to be
 * measured (quant_bucket.c), 2 KiB early. Measured on a Skylake-SP core, 64 MiB, bits=4: 4.7 -> 7.4 GB/s. A prefetch
 * beyond the tensor does nothing. p: at the elements being packed, of a bucket of n. */
static inline void quant_prefetch(const float *p, size_t n)
{
    __builtin_prefetch((const void *)((uintptr_t)p + 2 * n * sizeof *p + 2048));
}

TAUT_INLINE size_t quant_code_bytes(uint32_t bits, size_t n) { return n / 8 * bits + (n % 8 * bits + 7) / 8; }

/* r of element j of the group whose counter is given */
TAUT_INLINE uint32_t quant_random(const quant_unit *u, uint32_t counter, size_t j)
{
    if (!u->stochastic) return 0x8000;
    uint32_t h = taut__random32(u->rng, counter + (uint32_t)(j % 32));
    return j < 32 ? h & 0xffff : h >> 16;
}

/* Round half to even without libm: at 1.5 * 2^52 the last bit of a double counts ones. |t| < 2^31. */
TAUT_INLINE int32_t quant_round(double t)
{
    double   d = t + 0x1.8p52;
    uint64_t b;
    memcpy(&b, &d, sizeof b);
    return (int32_t)(uint32_t)b;
}

TAUT_INLINE uint8_t quant_code(const quant_unit *u, float x, uint32_t r)
{
    float   t = (x - u->base) * u->inv;
    int32_t q = (quant_round((double)t) + (int32_t)r) >> 16;
    return (uint8_t)(q < 0 ? 0 : q > (int32_t)u->top ? (int32_t)u->top : q);
}

/* Bit p of eight codes, as a byte: the multiplication moves bit 8k to bit 56+k and collides nowhere. */
TAUT_INLINE uint8_t quant_gather8(const uint8_t *q, uint32_t p)
{
    uint64_t x;
    memcpy(&x, q, sizeof x);
    return (uint8_t)(((x >> p & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
}

/* The inverse: bit k of m to bit p of byte k. */
TAUT_INLINE uint64_t quant_scatter8(uint8_t m, uint32_t p)
{
    uint64_t x = (uint64_t)m * 0x0101010101010101u & 0x8040201008040201u; /* byte k holds bit k of m at place k */
    x = (x + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;             /* carries stay in their bytes */
    return x << p;
}

/* q[0..64), n of them used (the rest 0) -> quant_code_bytes(bits, n) bytes */
TAUT_INLINE void quant_put_planes(uint32_t bits, const uint8_t q[QUANT_GROUP], size_t n, uint8_t *dst)
{
    if (n < QUANT_GROUP) memset(dst, 0, quant_code_bytes(bits, n));
    for (uint32_t p = 0; p < bits; p++) {
        if (n == QUANT_GROUP) {
            for (size_t k = 0; k < 8; k++) dst[8 * p + k] = quant_gather8(q + 8 * k, p);
            continue;
        }
        for (size_t i = 0, at = p * n; i < n; i++, at++) dst[at / 8] |= (uint8_t)((q[i] >> p & 1) << at % 8);
    }
}

TAUT_INLINE void quant_get_planes(uint32_t bits, const uint8_t *src, size_t n, uint8_t q[QUANT_GROUP])
{
    memset(q, 0, QUANT_GROUP);
    for (uint32_t p = 0; p < bits; p++) {
        if (n < QUANT_GROUP) {
            for (size_t i = 0, at = p * n; i < n; i++, at++) q[i] |= (uint8_t)((src[at / 8] >> at % 8 & 1) << p);
            continue;
        }
        for (size_t k = 0; k < 8; k++) {
            uint64_t x;
            memcpy(&x, q + 8 * k, sizeof x);
            x |= quant_scatter8(src[8 * p + k], p);
            memcpy(q + 8 * k, &x, sizeof x);
        }
    }
}

#endif
