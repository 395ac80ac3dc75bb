/* grid_bits.h : little-endian bit strings, written a word at a time and read with bounds. */
#ifndef TAUT_GRID_BITS_H
#define TAUT_GRID_BITS_H

#include "../../comm/base/base.h"
#include <string.h>

TAUT_INLINE uint64_t grid_load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
TAUT_INLINE void grid_store64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

/* Bits set; index of the lowest one, v != 0; bits up to the highest one */
TAUT_INLINE unsigned grid_count_bits(uint64_t v)
{
#if defined(__CUDA_ARCH__)
    return (unsigned)__popcll(v);
#else
    return (unsigned)__builtin_popcountll(v);
#endif
}
TAUT_INLINE unsigned grid_low_bit(uint64_t v)
{
#if defined(__CUDA_ARCH__)
    return (unsigned)__ffsll((long long)v) - 1;
#else
    return (unsigned)__builtin_ctzll(v);
#endif
}
TAUT_INLINE unsigned grid_bitlen(uint64_t v)
{
#if defined(__CUDA_ARCH__)
    return 64 - (unsigned)__clzll((long long)v);
#else
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
#endif
}

/* yes ? a : b, without the branch that compilers make of it and no predictor foretells. yes: 0 or 1 */
TAUT_INLINE uint64_t grid_choose(unsigned yes, uint64_t a, uint64_t b) { return b ^ ((a ^ b) & (0 - (uint64_t)yes)); }

/* Low bits first. Stores 8 bytes at p on every put, so dst needs 8 bytes of slack. */
typedef struct grid_writer {
    uint8_t *p;
    uint64_t acc; /* the n bits not yet behind p */
    unsigned n;   /* 0..63 */
} grid_writer;

TAUT_INLINE void grid_put(grid_writer *w, uint64_t v, unsigned bits) /* bits 0..64, v < 2^bits */
{
    uint64_t lo = w->acc | v << w->n, hi = v >> 1 >> (63 - w->n);
    unsigned total = w->n + bits, full = total >> 6;
    grid_store64(w->p, lo);
    w->p += 8 * full;
    w->acc = grid_choose(full, hi, lo);
    w->n = total & 63;
}
TAUT_INLINE uint8_t *grid_flush(grid_writer *w) /* pads the last byte with zero bits; returns its end */
{
    grid_store64(w->p, w->acc);
    return w->p + (w->n + 7) / 8;
}

/* Bits past the end read as zero; the caller compares pos with 8 * len after each bounded piece of work. */
typedef struct grid_reader {
    const uint8_t *src;
    size_t         len; /* bytes that belong to the string */
    size_t         pos; /* bits consumed */
} grid_reader;

TAUT_INLINE uint64_t grid_load_tail(const grid_reader *r, size_t at)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8 && at + i < r->len; i++) v |= (uint64_t)r->src[at + i] << (8 * i);
    return v;
}
TAUT_INLINE uint64_t grid_get(grid_reader *r, unsigned bits) /* bits 1..64 */
{
    size_t   at = r->pos >> 3;
    unsigned s = r->pos & 7;
    uint64_t v;
#if defined(__CUDA_ARCH__) /* words lie at any byte */
    v = grid_load_tail(r, at) >> s | (at + 8 < r->len ? (uint64_t)r->src[at + 8] << 1 << (63 - s) : 0);
#else
    if (__builtin_expect(at + 9 <= r->len, 1))
        v = grid_load64(r->src + at) >> s | (uint64_t)r->src[at + 8] << 1 << (63 - s);
    else v = grid_load_tail(r, at) >> s | (at + 8 < r->len ? (uint64_t)r->src[at + 8] << 1 << (63 - s) : 0);
#endif
    r->pos += bits;
    return v & (~UINT64_C(0) >> (64 - bits));
}
/* The 64 bits that lie `ahead` bits after the next one, consuming none. The caller knows that they and another 8 are
 * there. */
TAUT_INLINE uint64_t grid_peek(const grid_reader *r, size_t ahead)
{
    const uint8_t *p = r->src + ((r->pos + ahead) >> 3);
    unsigned       s = (r->pos + ahead) & 7;
    return grid_load64(p) >> s | (uint64_t)p[8] << 1 << (63 - s);
}
TAUT_INLINE bool grid_reader_ok(const grid_reader *r) { return r->pos <= 8 * r->len; }

#endif
