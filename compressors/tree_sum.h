/* tree_sum.h : one number of each rank, added in the order in which ranks add statistics that they send each other (comm/sum/small_allreduce.h: ranks
 * beyond a power of two are folded onto the first ones, then pairs, pairs of pairs), so that whoever adds them has the same bits. On the CPU and on a
 * GPU. */
#ifndef TAUT_TREE_SUM_H
#define TAUT_TREE_SUM_H

#include "../comm/base/base.h"

enum { TAUT_TREE_DEPTH = 24 }; /* of up to 2^24 ranks */

/* x[0], x[stride], ...: ranks of them, at least 1. */
TAUT_INLINE double taut__tree_sum(const double *x, size_t stride, uint32_t ranks)
{
    double   part[TAUT_TREE_DEPTH]; /* sums of 2^k ranks, which wait for their other half */
    uint32_t w = 1;
    while (2 * w <= ranks) w *= 2;
    for (uint32_t r = 0; r < w; r++) {
        uint32_t k = 0;
        double   v = x[r * stride];
        if (r + w < ranks) v = v + x[(r + w) * stride];
        /* cppcheck-suppress uninitvar ; bit k of r is set where part[k] waits */
        for (; r >> k & 1; k++) v = part[k] + v;
        part[k] = v;
    }
    uint32_t top = 0;
    while ((w >> top) > 1) top++;
    return part[top];
}

#endif
