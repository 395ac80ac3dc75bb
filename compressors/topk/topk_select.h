/* topk_select.h : the exact threshold of "the k largest magnitudes", without sorting and without memory. */
#ifndef TAUT_TOPK_SELECT_H
#define TAUT_TOPK_SELECT_H

#include "../../comm/base/base.h"
#include "topk_kernels.h"

#define TAUT_TOPK_MAGNITUDE 0x7fffffffu /* bits of |x|: as integers NaN > Inf > finite, and a total order */
#define TAUT_TOPK_INFINITE  0x7f800000u /* from here on not finite */

/* x[i] is among the k largest if its magnitude is above threshold, or equal and i <= last_tie. threshold >= 1: zeros are
 * never among them, so where fewer than k elements are not zero, those are all. */
typedef struct taut__topk_choice {
    uint32_t threshold;
    uint64_t last_tie;
} taut__topk_choice;

static inline uint32_t taut__topk_magnitude(float x)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits & TAUT_TOPK_MAGNITUDE;
}

/* k: 1..n. Ties go to the lowest index. Two reading passes for typical data, a few more for heavy ties. */
taut__topk_choice taut__topk_select(const taut__topk_kernels *t, const float *src, size_t n, size_t k);

/* A range of magnitudes [*least, *above) that holds the k-th largest with high probability, from a sample; everything
 * where n is small. 1 <= *least < *above. */
void taut__topk_estimate(const taut__topk_kernels *t, const float *src, size_t n, size_t k, uint32_t *least,
                         uint32_t *above);

#endif
