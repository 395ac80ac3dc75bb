/* topk_select_cuda.h : which elements a GPU keeps.
 *
 * Of a large tensor a sample says between which magnitudes the k-th largest is. One pass gathers in order the candidates, which are all from
 * the lower of them on; those below the upper, which are near, it also lists, and counts in 2048 bins. The k-th largest is the one of a rank
 * known then among the near ones: its bin, and two more passes at most over the list, 11 bits each, name it. Small tensors, and those whose sample
 * misled, as the counts show, have all their elements counted, in three passes of 11, 10 and 10 bits. No launch depends on what another one
 * found: each looks whether it is its turn. */
#ifndef TAUT_TOPK_SELECT_CUDA_H
#define TAUT_TOPK_SELECT_CUDA_H

#include "topk_cuda.h"

/* ---- the threshold ---- */

/* Pass 0, 1, 2: bits 20..30, 10..19, 0..9 */
static __device__ __forceinline__ uint32_t shift_of(int pass) { return pass == 0 ? 20 : pass == 1 ? 10 : 0; }

static __device__ __forceinline__ void clear_bins(choosing *c)
{
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS) c->bin[i] = 0;
}

static __global__ void __launch_bounds__(THREADS)
    topk_count(const __grid_constant__ taut__cuda_batch batch, plan p, int pass)
{
    TAUT_SHARED(uint32_t, bin, BINS);
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    uint32_t              shift = shift_of(pass), found = c->found,
             known = pass == 0 ? 0 : ~((1u << (shift + 10)) - 1) & TAUT_TOPK_MAGNITUDE;
    float4 x[STEPS];
    if (!c->all) return;
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS) bin[i] = 0;
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++)
        x[s] = place(unit, s) < j->n ? x_at(batch, j, c, place(unit, s)) : make_float4(0, 0, 0, 0);
    __syncthreads();
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++) {
        float v[4] = {x[s].x, x[s].y, x[s].z, x[s].w};
        TAUT_UNROLL
        for (int q = 0; q < 4; q++) {
            uint32_t m = taut__topk_magnitude(v[q]);
            if (m && (m & known) == (found & known))
                atomicAdd(&bin[(m >> shift) & (pass == 0 ? BINS - 1 : BINS / 2 - 1)], 1u);
        }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS)
        if (bin[i]) atomicAdd(&c->bin[i], bin[i]);
}

/* What the k-th largest has in these bits. A block per job; of jobs all of whose elements were counted. */
static __global__ void __launch_bounds__(THREADS)
    topk_pick(const __grid_constant__ taut__cuda_batch batch, plan p, int pass)
{
    TAUT_SHARED(unsigned long long, found, 3);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              rank = pass == 0 ? taut__topk_kept(p.density, j->n) : c->rank;
    if (!c->all || rank == ~UINT64_C(0)) return;
    find_bin(c->bin, rank, found);
    clear_bins(c);
    if (threadIdx.x != 0) return;
    if (found[0] == BINS) { /* pass 0 only: fewer than k are not zero, and those are all */
        c->found = 0, c->rank = ~UINT64_C(0);
    } else {
        c->found |= (uint32_t)found[0] << shift_of(pass);
        c->rank = found[1], c->equal = found[2];
    }
}

/* The threshold that the passes found, or the one that was given, as what the collector compares with. A thread per job. */
static __global__ void topk_calibrate(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint32_t k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= batch.count) return;
    const taut__cuda_job *j = batch.jobs ? batch.jobs + k : &batch.one;
    choosing             *c = p.choosing_of + k;
    if (p.exact) {
        c->least = 0, c->rank = 0;
    } else if (j->choice) {
        c->least = j->choice->threshold, c->rank = ~UINT64_C(0); /* ties by position */
        c->raw = c->least >= TAUT_TOPK_INFINITE;
    } else if (c->rank == ~UINT64_C(0)) {
        c->least = 0; /* every element that is not zero */
    } else {
        c->least = c->found;
        c->raw = c->found >= TAUT_TOPK_INFINITE;
    }
    c->chosen = p.exact || j->choice || c->all;
    if (!c->chosen) c->count = taut__min(c->candidates, taut__topk_kept(p.density, j->n));
}

/* ---- candidates: one pass over a large tensor, when a sample has said from which magnitude on ---- */

/* The rank-th largest of magnitudes in shared memory, by their bits as above; 1 where fewer are not zero. All threads. */
static __device__ uint32_t sample_select(const uint32_t *m, uint32_t count, uint64_t rank, uint32_t *bin,
                                         unsigned long long *found)
{
    uint32_t value = 0;
    for (int pass = 0; pass < 3; pass++) {
        uint32_t shift = shift_of(pass), known = pass == 0 ? 0 : ~((1u << (shift + 10)) - 1) & TAUT_TOPK_MAGNITUDE;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < BINS; i += THREADS) bin[i] = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < count; i += THREADS)
            if (m[i] && (m[i] & known) == (value & known))
                atomicAdd(&bin[(m[i] >> shift) & (pass == 0 ? BINS - 1 : BINS / 2 - 1)], 1u);
        __syncthreads();
        find_bin(bin, rank, found);
        if (found[0] == BINS) return 1;
        value |= (uint32_t)found[0] << shift;
        rank = found[1];
    }
    return value ? value : 1;
}

/* Bits of d, 0 of 0. */
static __device__ __forceinline__ uint32_t bits_of(uint32_t d) { return d ? 32 - (uint32_t)__clz((int)d) : 0; }

/* From which magnitude on a job's candidates are, with high probability more than k of them, and from which on fewer than k are. */
static __global__ void __launch_bounds__(THREADS) topk_sample(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(uint32_t, m, SAMPLE);
    TAUT_SHARED(uint32_t, bin, BINS);
    TAUT_SHARED(unsigned long long, found, 3);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              k = taut__topk_kept(p.density, j->n);
    if (j->choice) return;
    if (j->n < OWN_FROM || j->n > 0xffffffffu || k > j->n / OWN_SHARE) {
        if (threadIdx.x == 0) c->all = 1;
        return;
    }
    uint32_t  count = (uint32_t)taut__min(SAMPLE, j->n / OWN_SHARE) / RUN * RUN;
    uint64_t  stride = j->n / (count / RUN);
    taut__rng g = taut__rng_of(count, 0);
    for (uint32_t r = threadIdx.x; r < count / RUN; r += THREADS) {
        uint64_t at = r * stride + taut__random32(g, r) % (stride - RUN + 1);
        float4   x = taut_input4(j, batch.dtype, at);
        m[r * RUN] = taut__topk_magnitude(x.x), m[r * RUN + 1] = taut__topk_magnitude(x.y);
        m[r * RUN + 2] = taut__topk_magnitude(x.z), m[r * RUN + 3] = taut__topk_magnitude(x.w);
    }
    double rank = (double)k * count / (double)j->n,
           spread = 3.5 * sqrt(rank) + 4; /* 3.5 standard deviations, if they are independent */
    uint32_t least = rank + spread < count ? sample_select(m, count, (uint64_t)(rank + spread), bin, found) : 1;
    uint32_t most =
        rank - spread >= 1 ? sample_select(m, count, (uint64_t)(rank - spread), bin, found) : TAUT_TOPK_MAGNITUDE;
    if (threadIdx.x != 0) return;
    uint32_t bits = bits_of(most - least);
    c->floor = least, c->ceiling = most + 1;
    c->shift = bits > BIN_BITS ? bits - BIN_BITS : 0;
}

/* Near candidates of a block: counted in the job's bins, and added to its list. first: the block's first place there. */
static __device__ __forceinline__ void list_near(const plan &p, choosing *c, uint64_t base, uint64_t room,
                                                 const float *v, uint32_t near, uint64_t first)
{
    for (int q = 0; q < 16; q++) {
        if (!(near >> q & 1)) continue;
        uint32_t m = taut__topk_magnitude(v[q]);
        atomicAdd(&c->bin[(m - c->floor) >> c->shift], 1u);
        if (first < room) p.near[base + first] = m;
        first++;
    }
}

/* Candidates in order, unless it is the threshold alone that is wanted; the near ones; and x to err. Tiles by ticket, which look back. */
static __global__ void __launch_bounds__(THREADS) topk_gather(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(unsigned long long, shared, 2);
    uint64_t u = taut_ticket(p.ticket + 1, shared), unit;
    __syncthreads();
    const taut__cuda_job *j = taut_job_of(batch, u, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    if (c->floor == 0) return;
    uint64_t in_order = unit * TAUT__CUDA_TILE + 16 * threadIdx.x, base = candidate_base(p, batch, j),
             k = taut__topk_kept(p.density, j->n), room = 4 * k + SPARE;
    bool     keeps_x = keeps(batch, j);
    float    v[16];
    uint32_t is = 0, near = 0, all;
    TAUT_UNROLL
    for (int s = 0; s < 4; s++) {
        float4 x = make_float4(0, 0, 0, 0);
        if (in_order + 4 * s < j->n) {
            x = taut_input4(j, batch.dtype, in_order + 4 * s);
            if (keeps_x) taut_store4(j->err, in_order + 4 * s, j->n, x);
        }
        v[4 * s] = x.x, v[4 * s + 1] = x.y, v[4 * s + 2] = x.z, v[4 * s + 3] = x.w;
    }
    TAUT_UNROLL
    for (int q = 0; q < 16; q++) {
        uint32_t m = taut__topk_magnitude(v[q]); /* beyond n: 0, and floor >= 1 */
        is |= (uint32_t)(m >= c->floor) << q;
        near |= (uint32_t)(m >= c->floor && m < c->ceiling) << q;
    }
    uint32_t here = block_scan((uint32_t)__popc(is) | (uint32_t)__popc(near) << 16, &all); /* at most 4096 each */
    if (threadIdx.x == 0) shared[1] = all >> 16 ? atomicAdd(&c->near, all >> 16) : 0;
    uint64_t to = chain(p.seen + (u - unit), unit, all & 0xffff, shared);
    if (threadIdx.x == 0 && (unit + 1) * TAUT__CUDA_TILE >= j->n) {
        c->candidates = to + (all & 0xffff);
        c->stored = keeps_x;
        c->all = c->candidates > room || (c->candidates < k && c->floor > 1);
    }
    list_near(p, c, base, room, v, near, shared[1] + (here >> 16));
    if (!p.val) return;
    count_stretches(p, u, is);
    to += here & 0xffff;
    for (int q = 0; q < 16; q++)
        if ((is >> q & 1) && to < room) {
            p.val[base + to] = v[q];
            p.at[base + to++] = (uint8_t)(in_order + (uint64_t)q);
        }
}

/* Bits that a pass over near candidates finds out: those from next_shift(c->shift) to c->shift. */
static __device__ __forceinline__ uint32_t next_shift(uint32_t shift)
{
    return shift > BIN_BITS ? shift - BIN_BITS : 0;
}

/* As topk_count, of near candidates: PARTS blocks per job. */
static __global__ void __launch_bounds__(THREADS)
    topk_count_near(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(uint32_t, bin, BINS);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x / PARTS : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x / PARTS;
    uint32_t              shift = c->shift, next = next_shift(shift), known = (c->found - c->floor) >> shift;
    const uint32_t       *near = p.near + candidate_base(p, batch, j);
    if (c->floor == 0 || c->all || shift == 0) return;
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS) bin[i] = 0;
    __syncthreads();
    for (uint32_t i = (blockIdx.x % PARTS) * THREADS + threadIdx.x; i < c->near; i += PARTS * THREADS) {
        uint32_t d = near[i] - c->floor;
        if (d >> shift == known) atomicAdd(&bin[(d >> next) & ((1u << (shift - next)) - 1)], 1u);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS)
        if (bin[i]) atomicAdd(&c->bin[i], bin[i]);
}

/* As topk_pick, of near candidates; first: of the bins that gathering them filled. There it shows whether the sample misled: where k or more lie
 * beyond the near ones, too. */
static __global__ void __launch_bounds__(THREADS)
    topk_pick_near(const __grid_constant__ taut__cuda_batch batch, plan p, bool first)
{
    TAUT_SHARED(unsigned long long, found, 3);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              k = taut__topk_kept(p.density, j->n), beyond = c->candidates - c->near;
    uint32_t              shift = c->shift, at = first ? shift : next_shift(shift);
    if (c->floor == 0 || c->all || (!first && shift == 0)) return;
    bool few = c->candidates < k, misled = !few && beyond >= k;
    find_bin(c->bin, first ? (few || misled ? ~UINT64_C(0) : k - beyond) : c->rank, found);
    clear_bins(c);
    if (threadIdx.x != 0) return;
    c->all = misled;
    if (misled) return;
    c->shift = few ? 0 : at;
    c->found = few ? 0 : (first ? c->floor : c->found) + ((uint32_t)found[0] << at);
    c->rank = few ? ~UINT64_C(0) : found[1];
    c->equal = few ? 0 : found[2];
}

/* ---- the whole tensor's threshold, for later: calibrate ---- */

/* How many elements of each tile are exactly at the threshold, where some of them stay. */
static __global__ void __launch_bounds__(THREADS) topk_ties(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    uint64_t              unit;
    const taut__cuda_job *j = taut_job_of(batch, blockIdx.x, &unit);
    choosing             *c = p.choosing_of + job_number(batch, j);
    uint32_t              here = 0;
    if (c->rank == ~UINT64_C(0) || c->rank == c->equal) return;
    for (int s = 0; s < STEPS; s++) {
        if (place(unit, s) >= j->n) break;
        float4 x = taut_input4(j, batch.dtype, place(unit, s));
        float  v[4] = {x.x, x.y, x.z, x.w};
        for (int q = 0; q < 4; q++)
            here += place(unit, s) + (uint64_t)q < j->n && taut__topk_magnitude(v[q]) == c->found;
    }
    here = __reduce_add_sync(TAUT_ALL, here);
    if (TAUT_LANE == 0 && here) atomicAdd(p.ties + blockIdx.x, (unsigned long long)here);
}

/* The choice of a job: threshold, and the place of the last tie that goes, which lies in the tile where their count is reached. A
 * block per job. */
static __global__ void __launch_bounds__(THREADS) topk_choice(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(unsigned long long, found, 3); /* tile, ties before it, place */
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              tiles = tiles_of(j), sum = 0, rank = c->rank;
    bool                  few = rank == ~UINT64_C(0);     /* all that is not zero goes */
    bool                  some = !few && rank < c->equal; /* of the ties some stay */
    if (threadIdx.x == 0) found[0] = found[1] = 0, found[2] = ~UINT64_C(0);
    __syncthreads();
    for (uint64_t from = 0; some && from < tiles; from += THREADS) {
        uint64_t t = from + threadIdx.x;
        uint32_t here = t < tiles ? (uint32_t)p.ties[tile_base(batch, j) + t] : 0, all;
        uint64_t before = sum + block_scan(here, &all);
        if (before < rank && rank <= before + here) found[0] = t, found[1] = before;
        sum += all;
    }
    __syncthreads();
    if (some) {
        uint64_t at = found[0] * TAUT__CUDA_TILE + 16 * threadIdx.x, left = rank - found[1];
        uint32_t equal = 0, all;
        for (uint32_t s = 0; s < 4; s++) {
            if (at + 4 * s >= j->n) break;
            float4 x = taut_input4(j, batch.dtype, at + 4 * s);
            float  v[4] = {x.x, x.y, x.z, x.w};
            for (uint32_t q = 0; q < 4; q++)
                equal |= (uint32_t)(at + 4 * s + q < j->n && taut__topk_magnitude(v[q]) == c->found) << (4 * s + q);
        }
        uint64_t before = block_scan((uint32_t)__popc(equal), &all);
        for (uint32_t q = 0; q < 16; q++)
            if ((equal >> q & 1) && ++before == left) found[2] = at + q;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    taut_calibration made;
    memset(&made, 0, sizeof made);
    made.raw = !few && c->found >= TAUT_TOPK_INFINITE;
    made.u[0] = few ? 1 : c->found;
    made.u[1] = found[2];
    *j->calibration = made;
}

static __global__ void __launch_bounds__(THREADS) topk_elements(const __grid_constant__ taut__cuda_batch batch)
{
    uint32_t k = blockIdx.x * THREADS + threadIdx.x;
    if (k >= batch.count) return;
    const taut__cuda_job *j = batch.jobs ? batch.jobs + k : &batch.one;
    *j->stats += (double)j->n;
}

#endif
