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
    GROUP = TAUT_SPARSE_GROUP,
    PER_LANE = GROUP / TAUT_WARP,
    SAMPLE = 8192, /* elements looked at for a first guess, in runs of RUN neighbours */
    RUN = 4,
    OWN_FROM = 16384, /* elements; below, three passes over what is in a cache are as good */
    OWN_SHARE = 8,    /* at most 1/8 kept */
    PARTS = 32,       /* blocks that share a job's candidates */
    SPARE = 4096,     /* candidates of a job: 4 k and these */
    UNARY_MAX = 96,   /* words of a group's unary bits: at most 5 * 512 bits, since b is next to the mean's logarithm */
};

/* choosing : of one job, on the device */
struct choosing {
    uint32_t found; /* bits of the k-th largest magnitude that are known, at their places */
    uint32_t least; /* kept: magnitude (or, exact, the bits) above this, or equal and a tie that goes */
    uint64_t rank;  /* of the k-th largest among those that share `found`; then: how many ties go */
    uint64_t equal; /* elements of the k-th largest magnitude */
    uint64_t count; /* elements kept */
    uint64_t groups, bytes;
    uint32_t raw;
    uint32_t floor;      /* candidates: magnitudes from here on; 0: none are collected */
    uint64_t candidates; /* their number */
    uint32_t all;        /* the guess misled, or there was none: all elements are looked at */
    uint32_t stored;     /* x lies in err */
    uint32_t bin[BINS];
};

struct plan { /* of a launch, by value */
    double              density;
    uint32_t            exact;                /* all that is not +0 */
    choosing           *choosing_of;          /* per job */
    unsigned long long *ticket, *kept, *ties; /* look-back, per tile */
    uint64_t           *pos;                  /* lists, from each job's `list` on */
    float              *val;
    uint64_t           *entry, *at; /* per group, from list / 512 + job on */
    unsigned long long *seen, *part_kept, *part_ties,
        *more;          /* look-back: candidates per tile, lists per part; two more tickets */
    uint32_t *cand_pos; /* candidates, from 4 list + SPARE job on */
    float    *cand_val;
};

static __device__ __forceinline__ uint32_t job_number(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return b.jobs ? (uint32_t)(j - b.jobs) : 0;
}
static __device__ __forceinline__ uint64_t group_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return j->list / GROUP + job_number(b, j);
}
/* The last job whose groups begin at or before the launch's group u, NULL if none does; *g: the group's number in it. */
static __device__ __forceinline__ const taut__cuda_job *job_of_group(const taut__cuda_batch &b, uint64_t u, uint64_t *g)
{
    const taut__cuda_job *j = NULL;
    for (uint32_t lo = 0, hi = b.count; lo < hi;) {
        uint32_t              mid = (lo + hi) / 2;
        const taut__cuda_job *m = b.jobs ? b.jobs + mid : &b.one;
        if (group_base(b, m) <= u) j = m, lo = mid + 1;
        else hi = mid;
    }
    if (j) *g = u - group_base(b, j);
    return j;
}
static __device__ __forceinline__ uint64_t candidate_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return 4 * j->list + (uint64_t)SPARE * job_number(b, j);
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
static __device__ uint32_t block_scan(uint32_t v, uint32_t *total)
{
    TAUT_SHARED(uint32_t, sums, WARPS);
    uint32_t sum = taut_warp_scan(v), before = 0;
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

#endif
