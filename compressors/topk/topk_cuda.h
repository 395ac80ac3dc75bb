/* topk_cuda.h : what the steps of topk's encoder on a GPU share: the plan of a launch, numbers of a job, sums over a block, and looking
 * back over blocks. */
#ifndef TAUT_TOPK_CUDA_H
#define TAUT_TOPK_CUDA_H

#include "../codec.h"
#include "../cuda/look_back_cuda.h"
#include "topk_format.h"

enum {
    THREADS = 256,
    WARPS = THREADS / TAUT_WARP,
    STEPS = TAUT__CUDA_TILE / (4 * THREADS),
    BINS = 2048,
    BIN_BITS = 11,
    GROUP = TAUT_SPARSE_GROUP,
    PER_LANE = GROUP / TAUT_WARP,
    SAMPLE = 8192, /* elements looked at for a first guess, in runs of RUN neighbours */
    RUN = 4,
    OWN_FROM = 16384, /* elements; below, three passes over what is in a cache are as good */
    OWN_SHARE = 8,    /* at most 1/8 kept */
    PARTS = 32,       /* blocks that share a job's list of near candidates */
    SPARE = 4096,     /* candidates of a job: 4 k and these */
    STRETCH = 256,    /* elements within which a byte says where a candidate is */
    STRETCHES = TAUT__CUDA_TILE / STRETCH,
    AT_ONCE = 4, /* groups that a block writes at a time */
    WINDOW = AT_ONCE * GROUP,
    UNARY_MAX = 96, /* words of a group's unary bits: at most 5 * 512 bits, since b is next to the mean's logarithm */
};

/* choosing : of one job, on the device */
struct choosing {
    uint32_t
        found; /* the k-th largest magnitude, as far as it is known; bits that are not are 0 (of candidates: behind `floor`) */
    uint32_t least; /* kept: magnitude (or, exact, the bits) above this, or equal and a tie that goes */
    uint64_t rank;  /* of the k-th largest among those that share what is known; then: how many ties go */
    uint64_t equal; /* elements of the k-th largest magnitude */
    uint64_t count; /* elements kept */
    uint64_t bytes; /* of the groups */
    uint32_t raw;
    uint32_t long_group; /* one whose numbers do not fit into its entry */
    uint32_t floor,
        ceiling;     /* candidates: magnitudes from floor on; 0: none are collected. Near: those below ceiling */
    uint32_t shift;  /* bits of found - floor that are not known yet */
    uint32_t all;    /* the guess misled, or there was none: all elements are looked at */
    uint32_t chosen; /* candidates are what is kept, nothing else */
    uint32_t stored; /* x lies in err */
    uint64_t candidates;
    uint32_t near; /* their number */
    uint32_t bin[BINS];
};

/* plan : of a launch, by value. A job's candidates are in order: in tile t those from kept[t - 1] to kept[t] (or seen), values in val, places in at,
 * counted from the stretch's beginning; stretch says how many each has. */
struct plan {
    double              density;
    uint32_t            exact;              /* all that is not +0 */
    uint32_t            spread, spare;      /* a job's candidates begin at spread * list + spare * job */
    choosing           *choosing_of;        /* per job */
    unsigned long long *ticket;             /* three */
    unsigned long long *kept, *ties, *seen; /* look-back, per tile */
    unsigned long long *part_kept, *part_ties, *part_bytes; /* look-back, per part: WARPS tiles */
    uint16_t           *stretch;
    float              *val;
    uint8_t            *at;
    uint32_t           *near;  /* magnitudes of near candidates, in no order */
    uint64_t           *entry; /* per group, from list / 512 + job on */
};

static __device__ __forceinline__ uint32_t job_number(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return b.jobs ? (uint32_t)(j - b.jobs) : 0;
}
static __device__ __forceinline__ uint64_t group_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return j->list / GROUP + job_number(b, j);
}
/* The last job whose groups, or whatever BASE numbers over the launch, begin at or before number u, NULL if none do; *rest: the number in the job. */
template <uint64_t (*BASE)(const taut__cuda_batch &, const taut__cuda_job *)>
static __device__ __forceinline__ const taut__cuda_job *job_with(const taut__cuda_batch &b, uint64_t u, uint64_t *rest)
{
    const taut__cuda_job *j = NULL;
    for (uint32_t lo = 0, hi = b.count; lo < hi;) {
        uint32_t              mid = (lo + hi) / 2;
        const taut__cuda_job *m = b.jobs ? b.jobs + mid : &b.one;
        if (BASE(b, m) <= u) j = m, lo = mid + 1;
        else hi = mid;
    }
    if (j) *rest = u - BASE(b, j);
    return j;
}
static __device__ __forceinline__ uint64_t candidate_base(const plan &p, const taut__cuda_batch &b,
                                                          const taut__cuda_job *j)
{
    return p.spread * j->list + (uint64_t)p.spare * job_number(b, j);
}
/* A job's first tile in the launch's numbering. */
static __device__ __forceinline__ uint64_t tile_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return b.jobs ? j->unit : 0;
}
static __device__ __forceinline__ uint64_t tiles_of(const taut__cuda_job *j)
{
    return (j->n + TAUT__CUDA_TILE - 1) / TAUT__CUDA_TILE;
}
static __device__ __forceinline__ bool keeps(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return j->err && (j->residual || (const void *)j->err != j->src || b.dtype != TAUT_F32);
}
/* x: in err, once it lies there, since the residual that it is made of may have lain there before */
static __device__ __forceinline__ float4 x_at(const taut__cuda_batch &b, const taut__cuda_job *j, const choosing *c,
                                              uint64_t i)
{
    return c->stored ? taut_load4(j->err, i, j->n) : taut_input4(j, b.dtype, i);
}
static __device__ __forceinline__ uint64_t place(uint64_t unit, int s)
{
    return unit * TAUT__CUDA_TILE + (uint64_t)s * 4 * THREADS + 4 * threadIdx.x;
}

/* ---- over a block, and over blocks ---- */

/* Exclusive sums of v over the block, in order of threads; *total: of all. */
template <typename T> static __device__ T block_scan(T v, T *total)
{
    TAUT_SHARED(T, sums, WARPS);
    T sum = taut_warp_scan(v), before = 0;
    __syncthreads();
    if (TAUT_LANE == 31) sums[threadIdx.x / TAUT_WARP] = sum;
    __syncthreads();
    *total = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        if (w == threadIdx.x / TAUT_WARP) before = *total;
        *total += sums[w];
    }
    return before + sum - v;
}

/* What lies before this tile, whose own sum is v. */
static __device__ uint64_t chain(unsigned long long *state, uint64_t unit, uint32_t v, unsigned long long *shared)
{
    uint64_t before = taut_chain(state, unit, v, shared);
    __syncthreads();
    return before;
}

/* Which bin holds the rank-th from the top, rank >= 1: its number, BINS where there are fewer; the rank within it; how many it holds. By a
 * block, same answer in all threads. found: three words, which the next call changes. */
static __device__ void find_bin(const uint32_t *bin, uint64_t rank, unsigned long long *found)
{
    enum { EACH = BINS / THREADS };
    unsigned long long mine = 0, all;
    for (uint32_t q = 0; q < EACH; q++) mine += bin[threadIdx.x * EACH + q];
    unsigned long long before = block_scan(mine, &all), above = all - before - mine;
    if (threadIdx.x == 0 && all < rank) found[0] = BINS;
    if (above < rank && rank <= above + mine) {
        int q = EACH - 1;
        while (above + bin[threadIdx.x * EACH + q] < rank) above += bin[threadIdx.x * EACH + q--];
        found[0] = threadIdx.x * EACH + q, found[1] = rank - above, found[2] = bin[threadIdx.x * EACH + q];
    }
    __syncthreads();
}

/* ---- a job's candidates ---- */

struct stretch_of_tile {
    uint64_t from; /* its first candidate, of the job's */
    uint32_t count;
};
static __device__ __forceinline__ stretch_of_tile candidates_in(const plan &p, const choosing *c, uint64_t base,
                                                                uint64_t tiles, uint64_t t)
{
    const unsigned long long *state = (c->chosen ? p.kept : p.seen) + base;
    stretch_of_tile           x = {0, 0};
    if (t >= tiles) return x;
    x.from = t ? state[t - 1] & TAUT_LOOK_VALUE : 0;
    x.count = (uint32_t)((state[t] & TAUT_LOOK_VALUE) - x.from);
    return x;
}
/* How many candidates each stretch of tile u has, from the mask of each thread's sixteen elements. By a block. */
static __device__ __forceinline__ void count_stretches(const plan &p, uint64_t u, uint32_t mask)
{
    uint32_t n = (uint32_t)__popc(mask);
    for (int d = 8; d > 0; d /= 2) n += __shfl_xor_sync(TAUT_ALL, n, d);
    if (threadIdx.x % 16 == 0) p.stretch[u * STRETCHES + threadIdx.x / 16] = (uint16_t)n;
}
/* Element of a tile that its i-th candidate is. */
static __device__ __forceinline__ uint32_t element_of(const uint16_t *stretch, uint32_t i, uint8_t at)
{
    uint32_t s = 0;
    for (uint32_t before = stretch[0]; before <= i; before += stretch[++s]) {}
    return s * STRETCH + at;
}

#endif
