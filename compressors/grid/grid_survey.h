/* grid_survey.h : what the CPU's and the GPU's survey share: the numbers' places, which blocks are sampled, and bins. */
#ifndef TAUT_GRID_SURVEY_H
#define TAUT_GRID_SURVEY_H

#include "../../comm/base/base.h"
#include <math.h>
#include <string.h>

/* ---- Survey statistics: doubles that add over slices and ranks. t = |x / scale|. ---- */
enum {
    GRID_BINS_PER_OCTAVE = 4,
    GRID_OCTAVES = 50,
    GRID_LOWEST_EXP = -36, /* bin 0 takes everything below 2^-36 too, the last one everything from 2^14 up */
    GRID_BINS = GRID_OCTAVES * GRID_BINS_PER_OCTAVE,

    GRID_STAT_N = 0,       /* elements */
    GRID_STAT_NORM2 = 1,   /* sum of t^2 */
    GRID_STAT_PLAIN2 = 2,  /* sum of x^2 */
    GRID_STAT_BAD = 3,     /* slices (calls) that hold a non-finite value */
    GRID_BRIEF = 4,        /* the first ones tell how large the tensor is; the others, which change slowly, its shape */
    GRID_STAT_SAMPLED = 4, /* elements in the bins: large tensors are sampled by blocks of 64 */
    GRID_STAT_BIN = 5,     /* counts of t, four bins to the octave: exponent and two bits of mantissa */
    GRID_STAT_BLOCK = GRID_STAT_BIN + GRID_BINS, /* counts of sampled blocks by octave of their mean t */
    GRID_STATS = GRID_STAT_BLOCK + GRID_OCTAVES,

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
TAUT_INLINE int32_t grid_lowest_bin(void) { return (127 + GRID_LOWEST_EXP) * GRID_BINS_PER_OCTAVE; }
/* Of t >= 0 (of NaN: the lowest), by its exponent. */
TAUT_INLINE unsigned grid_octave_of(float t)
{
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    int e = t > 0 ? (int)(bits >> 23) - 127 : GRID_LOWEST_EXP;
    if (e >= GRID_LOWEST_EXP + GRID_OCTAVES) return GRID_OCTAVES - 1;
    return (unsigned)(e < GRID_LOWEST_EXP ? 0 : e - GRID_LOWEST_EXP);
}

#endif
