/* grid_cuda_sums.h : sums of doubles in the order of grid_unit.h, where one addition waits for the other: what can be done beforehand is. For
 * grid_stats_cuda.cu. */
#ifndef TAUT_GRID_CUDA_SUMS_H
#define TAUT_GRID_CUDA_SUMS_H

#include "grid_cuda.h"
#include "grid.h"

enum { WARPS = 8, THREADS = WARPS * TAUT_WARP, AHEAD = 8 /* numbers that are loaded before the first is added */ };

/* sum + every eighth of n numbers from x on, squared or their magnitudes, in order: what a lane of grid_unit.h adds. One addition waits for
 * the other; loads and products do not. */
static __device__ __forceinline__ double add_lane(double sum, const float *x, uint32_t n, bool magnitudes)
{
    uint32_t i = 0;
    for (; i + AHEAD <= n; i += AHEAD) {
        double v[AHEAD];
        TAUT_UNROLL
        for (uint32_t k = 0; k < AHEAD; k++) v[k] = x[GRID_SUM_LANES * (i + k)];
        TAUT_UNROLL
        for (uint32_t k = 0; k < AHEAD; k++) v[k] = magnitudes ? fabs(v[k]) : v[k] * v[k];
        TAUT_UNROLL
        for (uint32_t k = 0; k < AHEAD; k++) sum += v[k];
    }
    for (; i < n; i++) {
        double v = x[GRID_SUM_LANES * i];
        sum += magnitudes ? fabs(v) : v * v;
    }
    return sum;
}

/* sum + those of a job's chunks, one after the other: `width` numbers a chunk, each by a thread, from rows that all threads bring. */
static __device__ double add_chunks(double sum, const double *sums, uint64_t chunks, uint32_t width, double *row)
{
    for (uint64_t k = 0; k < chunks; k += THREADS) {
        uint32_t here = (uint32_t)taut__min(THREADS, chunks - k);
        for (uint32_t i = threadIdx.x; i < here * width; i += THREADS) row[i] = sums[k * width + i];
        __syncthreads();
        if (threadIdx.x < width)
            for (uint32_t i = 0; i < here; i++) sum += row[i * width + threadIdx.x];
        __syncthreads();
    }
    return sum;
}

/* Bin b of a window that begins `by` bins later: what becomes of `from`. The first and the last take what leaves the window, in order. */
static __device__ double moved_bin(const double *from, int bins, int by, int b)
{
    int    lo = b == 0 ? 0 : b + by, hi = b == bins - 1 ? bins - 1 : b + by;
    double sum = 0;
    for (int i = lo < 0 ? 0 : lo; i <= hi && i < bins; i++) sum += from[i];
    return sum;
}

#endif
