/* topk_format.h : what the CPU's and the GPU's code of topk share: the order of magnitudes, and the numbers of the sparse
 * payload (topk_sparse.h). */
#ifndef TAUT_TOPK_FORMAT_H
#define TAUT_TOPK_FORMAT_H

#include "../../comm/base/base.h"
#include <string.h>

#define TAUT_TOPK_MAGNITUDE 0x7fffffffu /* bits of |x|: as integers NaN > Inf > finite, and a total order */
#define TAUT_TOPK_INFINITE  0x7f800000u /* from here on not finite */

/* x[i] is among the k largest if its magnitude is above threshold, or equal and i <= last_tie. threshold >= 1: zeros are
 * never among them, so where fewer than k elements are not zero, those are all. */
typedef struct taut__topk_choice {
    uint32_t threshold;
    uint64_t last_tie;
} taut__topk_choice;

TAUT_INLINE uint32_t taut__topk_magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & TAUT_TOPK_MAGNITUDE;
}

/* Elements that a density keeps of n. */
TAUT_INLINE size_t taut__topk_kept(double density, size_t n)
{
    return taut__min(n, taut__max(1, (size_t)(density * (double)n + 0.5)));
}

enum {
    TAUT_SPARSE_HEADER = 24, /* u32 layout, u32 0, f64 density, u64 count */
    TAUT_SPARSE_GROUP = 512,
    TAUT_SPARSE_ENTRY = 8, /* u64: span 40 bits, unary words 18, b 6 */
    TAUT_SPARSE_RAW = 0,
    TAUT_SPARSE_GROUPS = 1,
    TAUT_SPARSE_RICE_MAX = 32,
    TAUT_SPARSE_SPAN_BITS = 40,
    TAUT_SPARSE_WORDS_BITS = 18
};

/* Words of 32 bits that hold `bits` bits. */
TAUT_INLINE uint64_t taut__sparse_words(uint64_t bits) { return (bits + 31) / 32; }

/* The shortest Rice parameter lies next to log2 of the mean gap (Golomb 1966; Rice 1971): this guess or a neighbour. */
TAUT_INLINE unsigned taut__sparse_rice_guess(uint64_t span, uint64_t count)
{
    uint64_t mean = (span - count) / count;
    unsigned guess = 0;
    while (mean >>= 1) guess++;
    return guess;
}

#endif
