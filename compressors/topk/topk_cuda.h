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
    SEGMENTS = STEPS * WARPS, /* of a tile: what a warp reads in a step, 128 neighbours */
    BINS = 2048,
    BIN_BITS = 11,
    GROUP = TAUT_SPARSE_GROUP,
    PER_LANE = GROUP / TAUT_WARP,
    SAMPLE = 8192,  /* elements looked at for a first guess, in runs of RUN neighbours */
    SAMPLERS = 512, /* threads that do */
    RUN = 4,
    OWN_FROM = 16384,             /* elements; below, three passes over what is in a cache are as good */
    OWN_SHARE = 8,                /* at most 1/8 kept */
    SPARE = 4096,                 /* candidates of a job: 4 k and these */
    COUNT_BITS = 13,              /* of a tile's number of candidates */
#if defined(TAUT_CUDA_HOST_MODEL) /* so that tests loop, and have positions of both widths */
    MANY = 5,
    WIDE_FROM = 14,
#else
    MANY = 1056,         /* blocks of a kernel that loops over units of work: eight for each processor of a large GPU */
    WIDE_FROM = 1 << 20, /* tiles from which on a position may not fit into 32 bits */
#endif
};

/* choosing : of one job, on the device; cleared first */
struct choosing {
    uint32_t found; /* the k-th largest magnitude, as far as it is known; bits that are not are 0 */
    uint32_t all;   /* the guess misled, or there was none: all elements are looked at */
    uint64_t rank;  /* of the k-th largest among those that share what is known; then: how many ties go */
    uint64_t equal; /* elements of the k-th largest magnitude */
    uint64_t
        last_tie; /* of jobs all of whose elements are looked at, and in calibrate: where the last one is that goes */
    uint64_t           count; /* elements kept, where they were collected at once */
    uint64_t           bytes; /* of the groups */
    unsigned long long candidates;
    unsigned long long done;       /* units of work of a pass that have counted */
    uint32_t           floor;      /* candidates: magnitudes from floor on; 0: none are collected */
    uint32_t           shift;      /* bits of found - floor that are not known yet */
    uint32_t           long_group; /* one whose numbers do not fit into its entry */
    uint32_t           bin[BINS];
};

/* plan : of a launch, by value. A tile's candidates lie together, in order, wherever there was room. */
struct plan {
    double              density;
    uint32_t            exact;                  /* all that is not +0 */
    uint32_t            own;                    /* thresholds of its own: no choices, not exact */
    choosing           *choosing_of;            /* per job */
    unsigned long long *ticket;                 /* three */
    unsigned long long *again;                  /* jobs all of whose elements are looked at */
    unsigned long long *kept;                   /* look-back, per tile, of elements that are collected at once */
    unsigned long long *part_above, *part_ties; /* look-back, per part: WARPS tiles */
    unsigned long long *block_bytes;            /* look-back, per block of WARPS groups */
    unsigned long long *tile;                   /* of a tile's candidates: place in the job's << COUNT_BITS | number */
    uint32_t           *ties;                   /* per tile */
    float              *val;                    /* candidates: value, */
    uint16_t           *at;                     /* place in the tile */
    void               *pos;                    /* kept elements, from j->list on: position, 4 or 8 bytes, */
    float              *kept_val;               /* and value */
    uint64_t           *entry;                  /* per group, from list / 512 + job on */
};

/* limit : what a job keeps: magnitudes (exact: bits) above `least`, and of the ties the first `ties`, or those up to last_tie. */
struct limit {
    uint32_t least;
    uint64_t ties, last_tie;
    bool     raw;
    bool     chosen; /* collected at once, by last_tie; else candidates are sorted out, by `ties` */
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
static __device__ __forceinline__ uint64_t candidate_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return 4 * j->list + (uint64_t)SPARE * job_number(b, j);
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
    return c->floor && keeps(b, j) ? taut_load4(j->err, i, j->n) : taut_input4(j, b.dtype, i);
}
static __device__ __forceinline__ uint64_t place(uint64_t unit, int s)
{
    return unit * TAUT__CUDA_TILE + (uint64_t)s * 4 * THREADS + 4 * threadIdx.x;
}

static __device__ __forceinline__ uint64_t kept_of(const plan &p, const taut__cuda_job *j)
{
    return taut__topk_kept(p.density, j->n);
}
static __device__ __forceinline__ limit limit_of(const plan &p, const taut__cuda_job *j, const choosing *c)
{
    limit l = {0, ~UINT64_C(0), ~UINT64_C(0), false, true};
    if (p.exact) return l;
    if (j->choice) { /* the threshold of a whole tensor: ties by position in it */
        l.least = j->choice->threshold, l.last_tie = j->choice->last_tie;
    } else {
        l.chosen = c->all;
        if (c->rank != ~UINT64_C(0)) l.least = c->found, l.ties = c->rank, l.last_tie = c->last_tie;
    }
    l.raw = l.least >= TAUT_TOPK_INFINITE;
    return l;
}
/* Elements that a job keeps. */
static __device__ __forceinline__ uint64_t count_of(const plan &p, const taut__cuda_job *j, const choosing *c,
                                                    const limit &l)
{
    return l.chosen ? c->count : taut__min((uint64_t)c->candidates, kept_of(p, j));
}

/* ---- over a block ---- */

/* Exclusive sums of v over the block, in order of threads; *total: of all. */
template <typename T> static __device__ T block_scan(T v, T *total)
{
    TAUT_SHARED(T, sums, TAUT_WARP);
    T sum = taut_warp_scan(v), before = 0;
    __syncthreads();
    if (TAUT_LANE == 31) sums[threadIdx.x / TAUT_WARP] = sum;
    __syncthreads();
    *total = 0;
    for (uint32_t w = 0; w < blockDim.x / TAUT_WARP; w++) {
        if (w == threadIdx.x / TAUT_WARP) before = *total;
        *total += sums[w];
    }
    return before + sum - v;
}

/* Which bin holds the rank-th from the top, rank >= 1, or, `below`, the one of rank minus what the bins hold: its number, BINS where there
 * are fewer, BINS + 1 where that is not above 0; the rank within it; how many it holds. By a block, same answer in all threads. found: three
 * words, which the next call changes. */
static __device__ void find_bin(const volatile uint32_t *bin, uint64_t rank, bool below, unsigned long long *found)
{
    uint32_t           each = BINS / blockDim.x, first = threadIdx.x * each;
    unsigned long long mine = 0, all;
    for (uint32_t q = 0; q < each; q++) mine += bin[first + q];
    unsigned long long before = block_scan(mine, &all), above = all - before - mine;
    if (below) rank += all;
    bool none = (int64_t)rank <= 0;
    if (threadIdx.x == 0 && (none || all < rank)) found[0] = none ? BINS + 1 : BINS;
    if (!none && above < rank && rank <= above + mine) {
        uint32_t q = each - 1;
        while (above + bin[first + q] < rank) above += bin[first + q--];
        found[0] = first + q, found[1] = rank - above, found[2] = bin[first + q];
    }
    __syncthreads();
}

/* Counts units of work that are done, `mine` of `all`; true in all threads of the block that was the last, which sees what the others
 * have written. told: one word, which the next call changes. */
static __device__ bool is_last(choosing *c, uint64_t mine, uint64_t all, unsigned long long *told)
{
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        told[0] = atomicAdd(&c->done, (unsigned long long)mine) + mine == all;
        if (told[0]) c->done = 0;
    }
    __syncthreads();
    __threadfence();
    return told[0];
}

/* ---- in order of position ---- */

/* Where a thread's elements go that its bits `is` name, 4 s + q for the q-th of step s: for each step the first one's place, counted from the
 * tile's first. Returns how many the tile has. segments: SEGMENTS words. */
static __device__ __forceinline__ uint32_t places(uint32_t is, uint32_t *to, uint32_t *segments)
{
    uint32_t n = is - (is >> 1 & 0x5555u), warp = threadIdx.x / TAUT_WARP;
    n = (n & 0x3333u) + (n >> 2 & 0x3333u); /* bits in each of four nibbles, then in four bytes */
    n = (n | n << 8) & 0x00ff00ffu, n = (n | n << 4) & 0x0f0f0f0fu;
    uint32_t sum = taut_warp_scan(n), before = sum - n; /* at most 128 a byte */
    if (TAUT_LANE == TAUT_WARP - 1) {
        TAUT_UNROLL
        for (int s = 0; s < STEPS; s++) segments[s * WARPS + warp] = sum >> 8 * s & 0xff;
    }
    __syncthreads();
    uint32_t segment = segments[TAUT_LANE], all = taut_warp_scan(segment);
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++)
        to[s] = __shfl_sync(TAUT_ALL, all - segment, s * WARPS + (int)warp) + (before >> 8 * s & 0xff);
    return __shfl_sync(TAUT_ALL, all, TAUT_WARP - 1);
}
/* The named elements, in order: place in the tile in the upper half, value in the lower. */
static __device__ __forceinline__ void pack(const float4 *x, uint32_t is, const uint32_t *to, unsigned long long *out)
{
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++) {
        float    v[4] = {x[s].x, x[s].y, x[s].z, x[s].w};
        uint32_t at = to[s], e = (uint32_t)place(0, s);
        TAUT_UNROLL
        for (int q = 0; q < 4; q++)
            if (is >> (4 * s + q) & 1) out[at++] = (unsigned long long)(e + (uint32_t)q) << 32 | __float_as_uint(v[q]);
    }
}

#endif
