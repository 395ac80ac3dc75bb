/* topk_portable.c : the specification of topk_kernels.h. */
#include "topk_kernels.h"
#include <string.h>

static size_t collect(const float *restrict src, size_t n, uint32_t mask, uint32_t least, uint32_t base,
                      uint32_t *restrict pos, float *restrict val)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &src[i], sizeof bits);
        pos[found] = base + (uint32_t)i; /* written always, kept by the count: no branch to mispredict */
        val[found] = src[i];
        found += (bits & mask) >= least;
    }
    return found;
}

const taut__topk_kernels taut__topk_portable = {.collect = collect};
