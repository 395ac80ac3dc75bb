/* grid_stats.h : what the CPU's and the GPU's statistics share: the numbers' places, which blocks are sampled, and bins. */
#ifndef TAUT_GRID_STATS_H
#define TAUT_GRID_STATS_H

#include "../../comm/base/base.h"
#include <float.h>
#include <math.h>
#include <string.h>

/* ---- Survey statistics: doubles that add over slices and ranks. t = |x / scale|. ---- */
enum {
    GRID_BINS_PER_OCTAVE = 4,
    GRID_OCTAVES = 50,
    GRID_HEADROOM =
        6, /* octaves above the norm; bin 0 takes everything below the window too, the last one everything above */
    GRID_BINS = GRID_OCTAVES * GRID_BINS_PER_OCTAVE,

    GRID_STAT_N = 0,       /* elements */
    GRID_STAT_NORM2 = 1,   /* sum of t^2 */
    GRID_STAT_PLAIN2 = 2,  /* sum of x^2 */
    GRID_STAT_BAD = 3,     /* slices (calls) that hold a non-finite value */
    GRID_STAT_ABS = 4,     /* sum of |t| */
    GRID_BRIEF = 5,        /* the first ones tell how large the tensor is; the others, which change slowly, its shape */
    GRID_STAT_SAMPLED = 5, /* elements in the bins: large tensors are sampled by blocks of 64 */
    GRID_STAT_EQUAL = 6,   /* pairs of sampled elements, half a block apart, of one magnitude that is not 0 */
    GRID_STAT_BIN = 7,     /* counts of t, four bins to the octave: exponent and two bits of mantissa */
    GRID_STAT_BLOCK = GRID_STAT_BIN + GRID_BINS, /* counts of sampled blocks by octave of their mean t */
    GRID_STAT_LOWEST =
        GRID_STAT_BLOCK + GRID_OCTAVES, /* sum over the elements of the exponent at which bin 0 begins: see grid.h */
    GRID_STATS,

    GRID_SAMPLE_ALL = 1 << 18, /* elements up to which every block is counted */
    GRID_SAMPLE_STRIDE_MAX = 16,
};

/* One block of every so many is sampled. */
TAUT_INLINE size_t grid_sample_stride(size_t elems)
{
    return elems <= GRID_SAMPLE_ALL ? 1 : taut__min(GRID_SAMPLE_STRIDE_MAX, elems / GRID_SAMPLE_ALL);
}
/* Place among the tensor's blocks of the one that is sampled of group `group` of `stride` neighbours. */
TAUT_INLINE size_t grid_sampled_block(size_t group, size_t stride)
{
    return group * stride + (stride > 1 ? taut__mix64(group) % stride : 0);
}
/* Exponent at which the window of a tensor of this squared norm begins. Of zeros: below everything. */
TAUT_INLINE int grid_window_of(double norm2)
{
    return norm2 > 0 && norm2 <= DBL_MAX ? ilogb(sqrt(norm2)) + 1 + GRID_HEADROOM - GRID_OCTAVES : -200;
}

#endif
