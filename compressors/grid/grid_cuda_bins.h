/* grid_cuda_bins.h : magnitudes counted by octave, for grid_stats_cuda.cu. */
#ifndef TAUT_GRID_CUDA_BINS_H
#define TAUT_GRID_CUDA_BINS_H

#include "grid_cuda_sums.h"

enum {
    /* Counted by exponent first, of all that floats have, since the window goes with the norm: place 0 is zero, then 2^-150 and up. */
    LOWEST = -151,
    OCTAVES = 128 - LOWEST + 1,
    BINS = OCTAVES * GRID_BINS_PER_OCTAVE,
    COUNTERS = BINS + OCTAVES,
    TINY = 24,             /* octaves by which what is denormal is raised */
    COUNTS = COUNTERS + 2, /* of a job: these, sampled elements, pairs of equal ones */
};

/* Octave of t >= 0 from LOWEST on; raised: t * 2^TINY, for denormals. Two bits of mantissa go to *part. 0: zero, or next to it. */
static __device__ __forceinline__ uint32_t octave_of(float t, float raised, uint32_t *part)
{
    bool     tiny = t < FLT_MIN;
    uint32_t bits = taut__bits(tiny ? raised : t) & 0x7fffffff;
    int32_t  octave = (int32_t)(bits >> 23) - 127 - (tiny ? TINY : 0) - LOWEST;
    *part = bits >> 21 & 3;
    if (bits < 0x00800000 || octave < 1) {
        *part = 0;
        return 0;
    }
    return (uint32_t)min(octave, (int32_t)OCTAVES - 1);
}

/* Into bins[0..COUNTERS) of shared memory: the two magnitudes of each lane, of a block of m elements, and their mean. By a warp. */
static __device__ __forceinline__ void count_block(uint32_t *bins, const float t[2], const float raised[2], uint32_t m)
{
    uint32_t part;
    for (uint32_t h = 0; h < 2; h++) {
        uint32_t octave = octave_of(t[h], raised[h], &part);
        if (TAUT_LANE + 32 * h < m) atomicAdd(&bins[octave * GRID_BINS_PER_OCTAVE + part], 1u);
    }
    float mean = t[0] + t[1], high = raised[0] + raised[1];
    for (uint32_t d = 16; d > 0; d /= 2) {
        mean += __shfl_down_sync(TAUT_ALL, mean, d);
        high += __shfl_down_sync(TAUT_ALL, high, d);
    }
    if (TAUT_LANE == 0) atomicAdd(&bins[BINS + octave_of(mean / (float)m, high / (float)m, &part)], 1u);
}

/* Counts by octave of floats into the bins and the blocks of the window that begins at `lowest`. Whole numbers: in any order. */
static __device__ void count_in_window(const unsigned long long *counts, int lowest, unsigned long long *bin,
                                       unsigned long long *block)
{
    for (int i = (int)threadIdx.x; i < OCTAVES; i += THREADS) {
        int to = i == 0             ? 0
                 : i == OCTAVES - 1 ? GRID_OCTAVES
                                    : i + LOWEST - lowest; /* octave of the window; means beyond all floats: the last */
        for (int q = 0; q < GRID_BINS_PER_OCTAVE; q++) {
            int at = i == 0 || to < 0 ? 0 : to >= GRID_OCTAVES ? GRID_BINS - 1 : to * GRID_BINS_PER_OCTAVE + q;
            if (counts[i * GRID_BINS_PER_OCTAVE + q]) atomicAdd(&bin[at], counts[i * GRID_BINS_PER_OCTAVE + q]);
        }
        if (counts[BINS + i])
            atomicAdd(&block[to < 0 ? 0 : to >= GRID_OCTAVES ? GRID_OCTAVES - 1 : to], counts[BINS + i]);
    }
}

#endif
