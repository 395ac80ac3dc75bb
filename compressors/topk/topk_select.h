/* topk_select.h : the exact threshold of "the k largest magnitudes", without sorting and without memory. */
#ifndef TAUT_TOPK_SELECT_H
#define TAUT_TOPK_SELECT_H

#include "../../comm/base/base.h"
#include "topk_format.h"
#include "topk_kernels.h"

/* k: 1..n, or 0 of none. Ties go to the lowest index. Two reading passes for typical data, a few more for heavy ties. */
taut__topk_choice taut__topk_select(const taut__topk_kernels *t, const float *src, size_t n, size_t k);

/* A range of magnitudes [*least, *above) that holds the k-th largest with high probability, from a sample; everything
 * where n is small. 1 <= *least < *above. */
void taut__topk_estimate(const taut__topk_kernels *t, const float *src, size_t n, size_t k, uint32_t *least,
                         uint32_t *above);

#endif
