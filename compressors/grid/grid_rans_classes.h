/* grid_rans_classes.h : the classes of a chunk of code `rans`, by adaptive binary arithmetic coding.
 * Carry-less coder over an interval [low, high] of 32 bits. A class is coded as a step from the class before:
 * same?, up or down?, then the distance in unary up to GRID_UNARY_MAX, then 6 plain bits of class. Each question
 * keeps its own probability, which moves by 1/(n + 1.6) after its n-th answer, so that it learns fast and
 * ends as an average of about 40. The functions take `decoding` as a constant, so that coder and decoder are
 * one text and the compiler still makes two. */
#ifndef TAUT_GRID_RANS_CLASSES_H
#define TAUT_GRID_RANS_CLASSES_H

#include "grid_rans.h"

enum { GRID_UNARY_MAX = 12, GRID_LIMIT = 40, GRID_QUESTIONS = 256, GRID_P_MIN = 64, GRID_P_MAX = 65536 - GRID_P_MIN };
#if defined(__CUDACC__)
#define GRID_CODER TAUT_INLINE
#else
#define GRID_CODER static inline __attribute__((always_inline))
#endif

typedef struct grid_question {
    uint32_t p; /* probability of 1, of 65536 */
    uint32_t n; /* answers so far, at most GRID_LIMIT */
} grid_question;

/* 32768 / (n + 1.6), rounded */
GRID_SMALL_TABLE uint16_t grid_rate[GRID_LIMIT + 1] = {
    20480, 12603, 9102, 7123, 5851, 4965, 4312, 3810, 3413, 3091, 2825, 2601, 2409, 2244,
    2101,  1974,  1862, 1762, 1672, 1591, 1517, 1450, 1388, 1332, 1280, 1232, 1187, 1146,
    1107,  1071,  1037, 1005, 975,  947,  920,  895,  871,  849,  827,  807,  788};

typedef struct grid_arith {
    uint32_t       low, high, value; /* value: decoder only */
    uint8_t       *dst;              /* encoder */
    const uint8_t *src, *end;        /* decoder, downwards from src; bytes below the end read as zero */
    uint32_t       shifts;           /* decoder: bytes that the encoder wrote so far */
    grid_question  ask[GRID_QUESTIONS];
} grid_arith;

TAUT_INLINE void grid_arith_init(grid_arith *a)
{
    a->low = 0, a->high = UINT32_MAX;
    for (int i = 0; i < GRID_QUESTIONS; i++) a->ask[i].p = 1 << 15, a->ask[i].n = 0;
}
TAUT_INLINE unsigned grid_next_byte(grid_arith *a) { return a->src > a->end ? *--a->src : 0; }

/* Codes one answer with p/65536 for 1: encodes `bit`, or returns what was encoded. */
GRID_CODER unsigned grid_arith_bit(grid_arith *a, uint32_t p, unsigned bit, bool decoding)
{
    uint32_t mid = a->low + (uint32_t)((uint64_t)(a->high - a->low) * p >> 16);
    if (decoding) bit = a->value <= mid;
    if (bit) a->high = mid;
    else a->low = mid + 1;
    while (((a->low ^ a->high) >> 24) == 0) {
        if (decoding) a->value = a->value << 8 | grid_next_byte(a), a->shifts++;
        else *a->dst++ = (uint8_t)(a->high >> 24);
        a->low <<= 8;
        a->high = a->high << 8 | 255;
    }
    return bit;
}

GRID_CODER unsigned grid_ask(grid_arith *a, unsigned which, unsigned bit, bool decoding)
{
    grid_question *q = a->ask + which;
    bit = grid_arith_bit(a, q->p, bit, decoding);
    if (bit) q->p += (GRID_P_MAX - q->p) * grid_rate[q->n] >> 15;
    else q->p -= (q->p - GRID_P_MIN) * grid_rate[q->n] >> 15;
    q->n += q->n < GRID_LIMIT;
    return bit;
}

/* The fewest bytes, the top ones of *v, which whatever follows leaves in the interval; both sides know them. */
TAUT_INLINE unsigned grid_arith_end(const grid_arith *a, uint32_t *v)
{
    for (unsigned bytes = 1;; bytes++) {
        uint64_t rest = (UINT64_C(1) << (32 - 8 * bytes)) - 1, at = (a->low + rest) & ~rest;
        *v = (uint32_t)at;
        if (at + rest <= a->high) return bytes; /* 4 at most: rest is 0 then */
    }
}

/* Encodes cls after the classes prev and before; or decodes and returns it. */
GRID_CODER unsigned grid_code_class(grid_arith *a, unsigned before, unsigned prev, unsigned cls, bool decoding)
{
    enum { SAME = 0, SAME_ZERO = 40, UP = 48, UNARY = 96, UNARY_DOWN = 176 };
    bool     down = cls < prev;
    unsigned distance = down ? prev - cls : cls - prev, k;
    if (grid_ask(a, prev ? SAME + prev : SAME_ZERO + (before != 0), distance == 0, decoding)) return prev;
    if (prev == 0) down = false;
    else if (prev == GRID_CLASS_OTHER) down = true;
    else down = !grid_ask(a, UP + prev, !down, decoding);
    for (k = 1; k < GRID_UNARY_MAX; k++)
        if (!grid_ask(a, (down ? UNARY_DOWN : UNARY) + prev / 4 * 8 + (k < 8 ? k : 8) - 1, k < distance, decoding))
            return down ? prev - (k < prev ? k : prev) : prev + k;
    unsigned far = 0;
    for (unsigned i = 0; i < 6; i++) far |= grid_arith_bit(a, 1 << 15, cls >> i & 1, decoding) << i;
    return far;
}

/* Returns bytes, which travel backwards: the last byte of dst's room is the first one of these. a: scratch */
TAUT_INLINE size_t grid_put_classes(grid_arith *a, const uint8_t *cls, unsigned blocks, uint8_t *dst)
{
    unsigned prev = 0, before = 0;
    uint32_t last;
    grid_arith_init(a);
    a->dst = dst;
    for (unsigned k = 0; k < blocks; k++) {
        grid_code_class(a, before, prev, cls[k], false);
        before = prev;
        prev = cls[k];
    }
    unsigned bytes = grid_arith_end(a, &last);
    for (unsigned i = 0; i < bytes; i++) *a->dst++ = (uint8_t)(last >> (24 - 8 * i));
    return (size_t)(a->dst - dst);
}

/* Classes whose bytes end at src[len), its last byte first; returns how many bytes they take, 0: malformed */
TAUT_INLINE size_t grid_get_classes(grid_arith *a, const uint8_t *src, size_t len, unsigned blocks, uint8_t *cls)
{
    unsigned prev = 0, before = 0;
    grid_arith_init(a);
    a->src = src + len, a->end = src, a->value = 0, a->shifts = 0;
    for (int i = 0; i < 4; i++) a->value = a->value << 8 | grid_next_byte(a);
    for (unsigned k = 0; k < blocks; k++) {
        unsigned c = grid_code_class(a, before, prev, 0, true);
        if (c > GRID_CLASS_OTHER) return 0;
        cls[k] = (uint8_t)c;
        before = prev;
        prev = c;
    }
    uint32_t last;
    size_t   bytes = a->shifts + grid_arith_end(a, &last);
    return bytes <= len ? bytes : 0;
}

#endif
