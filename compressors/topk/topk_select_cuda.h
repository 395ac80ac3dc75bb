/* topk_select_cuda.h : which elements a GPU keeps.
 *
 * Of a large tensor a sample says from which magnitude on the k-th largest is. One pass gathers the candidates, which are all from there on. The
 * k-th largest is the one of a rank known then among those that are near the lower end: three passes at most over the candidates, 11 bits
 * each, name it. Small tensors, and those whose sample misled, as the counts show, have all their elements counted, in three
 * passes of 11, 10 and 10 bits, and then collected. No launch depends on what another one found: each looks whether it is its turn. */
#ifndef TAUT_TOPK_SELECT_CUDA_H
#define TAUT_TOPK_SELECT_CUDA_H

#include "topk_cuda.h"

/* ---- the threshold, of all elements ---- */

/* Pass 0, 1, 2: bits 20..30, 10..19, 0..9 */
static __device__ __forceinline__ uint32_t shift_of(int pass) { return pass == 0 ? 20 : pass == 1 ? 10 : 0; }
static __device__ __forceinline__ uint32_t known_bits(int pass)
{
    return pass == 0 ? 0 : ~((1u << (shift_of(pass) + 10)) - 1) & TAUT_TOPK_MAGNITUDE;
}

static __device__ __forceinline__ void clear_bins(uint32_t *bin)
{
    for (uint32_t i = threadIdx.x; i < BINS; i += blockDim.x) bin[i] = 0;
}
/* What a block has counted, to the job's bins. */
static __device__ __forceinline__ void add_bins(choosing *c, const uint32_t *bin)
{
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BINS; i += THREADS)
        if (bin[i]) atomicAdd(&c->bin[i], bin[i]);
}

/* What the k-th largest has in these bits, of jobs all of whose elements were counted. By a block. */
static __device__ void pick_of_all(const plan &p, const taut__cuda_job *j, choosing *c, int pass,
                                   unsigned long long *found)
{
    uint64_t rank = pass == 0 ? kept_of(p, j) : c->rank;
    bool     few = rank == 0; /* of an empty tensor */
    find_bin(c->bin, rank, false, found);
    clear_bins(c->bin);
    if (threadIdx.x != 0) return;
    if (few || found[0] >= BINS) { /* pass 0 only: fewer than k are not zero, and those are all */
        c->found = 0, c->rank = ~UINT64_C(0);
    } else {
        c->found |= (uint32_t)found[0] << shift_of(pass);
        c->rank = found[1], c->equal = found[2];
    }
    c->last_tie = ~UINT64_C(0);
}

static __device__ __forceinline__ void count_tile(const taut__cuda_batch &batch, const taut__cuda_job *j,
                                                  const choosing *c, uint64_t unit, int pass, uint32_t *bin)
{
    uint32_t shift = shift_of(pass), found = c->found, known = known_bits(pass);
    float4   x[STEPS];
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++)
        x[s] = place(unit, s) < j->n ? x_at(batch, j, c, place(unit, s)) : make_float4(0, 0, 0, 0);
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
}

/* A block counts `each` tiles, that of several jobs one after the other; the last of a job's picks. */
static __global__ void __launch_bounds__(THREADS)
    topk_count(const __grid_constant__ taut__cuda_batch batch, plan p, int pass, uint32_t each)
{
    TAUT_SHARED(uint32_t, bin, BINS);
    TAUT_SHARED(unsigned long long, found, 3);
    uint64_t u = (uint64_t)blockIdx.x * each, end = taut__min(u + each, batch.units), unit;
    if (*p.again == 0) return;
    while (u < end) {
        const taut__cuda_job *j = taut_job_of(batch, u, &unit);
        choosing             *c = p.choosing_of + job_number(batch, j);
        uint64_t              tiles = taut__max(tiles_of(j), (uint64_t)1), mine = taut__min(end - u, tiles - unit);
        u += mine;
        if (!c->all || (pass > 0 && c->rank == ~UINT64_C(0))) continue;
        __syncthreads();
        clear_bins(bin);
        __syncthreads();
        for (uint64_t t = 0; t < mine; t++) count_tile(batch, j, c, unit + t, pass, bin);
        add_bins(c, bin);
        if (is_last(c, mine, tiles, found)) pick_of_all(p, j, c, pass, found);
    }
}

/* ---- the threshold, of candidates: when a sample has said from which magnitude on they are ---- */

/* The rank-th largest of magnitudes in shared memory, by their bits as above; 1 where fewer are not zero. All threads. */
static __device__ uint32_t sample_select(const uint32_t *m, uint32_t count, uint64_t rank, uint32_t *bin,
                                         unsigned long long *found)
{
    uint32_t value = 0;
    for (int pass = 0; pass < 3; pass++) {
        uint32_t shift = shift_of(pass), known = known_bits(pass);
        __syncthreads();
        clear_bins(bin);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < count; i += blockDim.x)
            if (m[i] && (m[i] & known) == (value & known))
                atomicAdd(&bin[(m[i] >> shift) & (pass == 0 ? BINS - 1 : BINS / 2 - 1)], 1u);
        __syncthreads();
        find_bin(bin, rank, false, found);
        if (found[0] >= BINS) return 1;
        value |= (uint32_t)found[0] << shift;
        rank = found[1];
    }
    return value ? value : 1;
}

/* Bits of d, 0 of 0. */
static __device__ __forceinline__ uint32_t bits_of(uint32_t d) { return d ? 32 - (uint32_t)__clz((int)d) : 0; }

/* From which magnitude on a job's candidates are, with high probability more than k of them, and how many bits say how far above it the
 * k-th largest is. A block per job. */
static __global__ void __launch_bounds__(SAMPLERS) topk_sample(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(uint32_t, m, SAMPLE);
    TAUT_SHARED(uint32_t, bin, BINS);
    TAUT_SHARED(unsigned long long, found, 3);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    uint64_t              k = kept_of(p, j);
    if (j->n < OWN_FROM || j->n > 0xffffffffu || k > j->n / OWN_SHARE) {
        if (threadIdx.x == 0) c->all = 1, atomicAdd(p.again, 1ull);
        return;
    }
    uint32_t  count = (uint32_t)taut__min(SAMPLE, j->n / OWN_SHARE) / RUN * RUN;
    uint64_t  stride = j->n / (count / RUN);
    taut__rng g = taut__rng_of(count, 0);
    for (uint32_t r = threadIdx.x; r < count / RUN; r += SAMPLERS) {
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
    if (threadIdx.x == 0) c->floor = least, c->shift = bits_of(most - least);
}

/* Bits that a pass over candidates finds out: those from next_shift(c->shift) to c->shift. */
static __device__ __forceinline__ uint32_t next_shift(uint32_t shift)
{
    return shift > BIN_BITS ? shift - BIN_BITS : 0;
}
static __device__ __forceinline__ uint64_t room_of(const plan &p, const taut__cuda_job *j)
{
    return 4 * kept_of(p, j) + SPARE;
}

/* What the k-th largest has in these bits. In the first pass it shows whether the sample misled: where there are fewer than k candidates or more
 * than fit, or k or more lie beyond the near ones. By a block. */
static __device__ void pick_near(const plan &p, const taut__cuda_job *j, choosing *c, bool first,
                                 unsigned long long *found)
{
    uint64_t k = kept_of(p, j), candidates = c->candidates;
    uint32_t next = next_shift(c->shift);
    bool few = candidates<k, misled = candidates> room_of(p, j) || (few && c->floor > 1);
    find_bin(c->bin, first ? k - candidates : c->rank, first, found);
    clear_bins(c->bin);
    if (threadIdx.x != 0) return;
    if (first && !few && found[0] >= BINS) misled = true;
    if (misled || few) {
        c->found = 0, c->shift = 0, c->rank = ~UINT64_C(0), c->all = misled;
        if (misled) atomicAdd(p.again, 1ull);
        return;
    }
    c->found = (first ? c->floor : c->found) + ((uint32_t)found[0] << next);
    c->rank = found[1], c->equal = found[2];
    c->shift = next;
}

/* As topk_count, of candidates: `parts` blocks per job. Those near are less than 2^shift above the floor. */
static __global__ void __launch_bounds__(THREADS)
    topk_count_near(const __grid_constant__ taut__cuda_batch batch, plan p, bool first, uint32_t parts)
{
    TAUT_SHARED(uint32_t, bin, BINS);
    TAUT_SHARED(unsigned long long, found, 3);
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x / parts : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x / parts;
    uint32_t              floor = c->floor, shift = c->shift, next = next_shift(shift);
    if (floor == 0 || c->all || (!first && shift == 0)) return;
    uint32_t     known = first ? 0 : (c->found - floor) >> shift, mask = (1u << (shift - next)) - 1;
    const float *val = p.val + candidate_base(batch, j);
    uint64_t     end = taut__min((uint64_t)c->candidates, room_of(p, j));
    clear_bins(bin);
    __syncthreads();
    for (uint64_t i = ((uint64_t)blockIdx.x % parts * THREADS + threadIdx.x) * 4; i < end;
         i += 16ull * parts * THREADS) {
        float4 v[4]; /* four loads under way */
        TAUT_UNROLL
        for (int s = 0; s < 4; s++) v[s] = taut_load4(val, i + 4ull * s * parts * THREADS, end);
        TAUT_UNROLL
        for (int s = 0; s < 4; s++) {
            float w[4] = {v[s].x, v[s].y, v[s].z, v[s].w};
            TAUT_UNROLL
            for (int q = 0; q < 4; q++) {
                uint32_t m = taut__topk_magnitude(w[q]), d = m - floor; /* behind the end 0, which is below the floor */
                if (m >= floor && d >> shift == known) atomicAdd(&bin[d >> next & mask], 1u);
            }
        }
    }
    add_bins(c, bin);
    if (is_last(c, 1, parts, found)) pick_near(p, j, c, first, found);
}

/* ---- candidates ---- */

static __device__ __forceinline__ void load_tile(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t unit,
                                                 float4 *x)
{
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++) x[s] = taut_input4(j, batch.dtype, place(unit, s)); /* 0 beyond n */
}

/* A tile's candidates, to wherever there is room in the job's list; and x to err. */
static __device__ __forceinline__ void gather_tile(const taut__cuda_batch &batch, const plan &p,
                                                   const taut__cuda_job *j, choosing *c, uint64_t unit, const float4 *x,
                                                   uint32_t *segments, unsigned long long *packed,
                                                   unsigned long long *shared)
{
    uint32_t floor = c->floor, is = 0, to[STEPS];
    bool     keeps_x = keeps(batch, j);
    TAUT_UNROLL
    for (int s = 0; s < STEPS; s++) {
        if (keeps_x) taut_store4(j->err, place(unit, s), j->n, x[s]);
        is |= (uint32_t)(taut__topk_magnitude(x[s].x) >= floor) << 4 * s; /* floor >= 1 */
        is |= (uint32_t)(taut__topk_magnitude(x[s].y) >= floor) << (4 * s + 1);
        is |= (uint32_t)(taut__topk_magnitude(x[s].z) >= floor) << (4 * s + 2);
        is |= (uint32_t)(taut__topk_magnitude(x[s].w) >= floor) << (4 * s + 3);
    }
    uint32_t all = places(is, to, segments);
    if (threadIdx.x == 0) {
        shared[0] = all ? atomicAdd(&c->candidates, (unsigned long long)all) : 0;
        p.tile[tile_base(batch, j) + unit] = shared[0] << COUNT_BITS | all;
    }
    pack(x, is, to, packed);
    __syncthreads();
    uint64_t from = shared[0], base = candidate_base(batch, j), room = room_of(p, j);
    if (from + all > room) return; /* then all elements are looked at */
    for (uint32_t i = threadIdx.x; i < all; i += THREADS) {
        unsigned long long v = packed[i];
        p.val[base + from + i] = __uint_as_float((uint32_t)v);
        if (p.at) p.at[base + from + i] = (uint16_t)(v >> 32);
    }
}

/* `each` tiles, the next one on its way while one is looked at. */
static __global__ void __launch_bounds__(THREADS, 3)
    topk_gather(const __grid_constant__ taut__cuda_batch batch, plan p, uint32_t each)
{
    TAUT_SHARED(uint32_t, segments, SEGMENTS);
    TAUT_SHARED(unsigned long long, packed, TAUT__CUDA_TILE);
    TAUT_SHARED(unsigned long long, shared, 1);
    static_assert(SEGMENTS == TAUT_WARP, "a lane per segment");
    uint64_t              u = (uint64_t)blockIdx.x * each, end = taut__min(u + each, batch.units), unit, next_unit = 0;
    float4                x[STEPS], next[STEPS];
    const taut__cuda_job *j = taut_job_of(batch, u, &unit), *next_j = NULL;
    if (p.choosing_of[job_number(batch, j)].floor) load_tile(batch, j, unit, x);
    for (; u < end; u++) {
        choosing *c = p.choosing_of + job_number(batch, j);
        bool      ahead = u + 1 < end;
        if (ahead) {
            next_j = taut_job_of(batch, u + 1, &next_unit);
            if (p.choosing_of[job_number(batch, next_j)].floor) load_tile(batch, next_j, next_unit, next);
        }
        if (c->floor) gather_tile(batch, p, j, c, unit, x, segments, packed, shared);
        if (!ahead) break;
        __syncthreads();
        j = next_j, unit = next_unit;
        TAUT_UNROLL
        for (int s = 0; s < STEPS; s++) x[s] = next[s];
    }
}

/* ---- where the last tie is that goes: of jobs all of whose elements are looked at, and of the whole tensor in calibrate ---- */

static __device__ __forceinline__ bool some_ties_stay(const choosing *c)
{
    return c->rank != ~UINT64_C(0) && c->rank < c->equal;
}
/* How many elements of each tile are exactly at the threshold, where some of them stay. A warp per tile. */
static __global__ void __launch_bounds__(THREADS)
    topk_ties(const __grid_constant__ taut__cuda_batch batch, plan p, bool calibrating)
{
    if (!calibrating && *p.again == 0) return;
    for (uint64_t u = (uint64_t)blockIdx.x * WARPS + threadIdx.x / TAUT_WARP, unit; u < batch.units;
         u += (uint64_t)gridDim.x * WARPS) {
        const taut__cuda_job *j = taut_job_of(batch, u, &unit);
        choosing             *c = p.choosing_of + job_number(batch, j);
        uint32_t              here = 0, found = c->found;
        if (!some_ties_stay(c) || !(c->all || calibrating)) continue;
        if (c->all) {
            uint64_t from = unit * TAUT__CUDA_TILE;
            for (uint64_t i = from + 4 * TAUT_LANE; i < from + TAUT__CUDA_TILE && i < j->n; i += 4 * TAUT_WARP) {
                float4 x = x_at(batch, j, c, i); /* 0 beyond n, and found is not */
                here += (taut__topk_magnitude(x.x) == found) + (taut__topk_magnitude(x.y) == found) +
                        (taut__topk_magnitude(x.z) == found) + (taut__topk_magnitude(x.w) == found);
            }
        } else {
            const float *val = p.val + candidate_base(batch, j) + (p.tile[u] >> COUNT_BITS);
            uint32_t     count = (uint32_t)p.tile[u] & ((1u << COUNT_BITS) - 1);
            for (uint32_t i = TAUT_LANE; i < count; i += TAUT_WARP) here += taut__topk_magnitude(val[i]) == found;
        }
        here = __reduce_add_sync(TAUT_ALL, here);
        if (TAUT_LANE == 0) p.ties[u] = here;
    }
}

/* The tile in which the count of ties reaches `rank` to found[0], those before it to found[1]. By a block. */
static __device__ void tile_of_tie(const uint32_t *ties, uint64_t tiles, uint64_t rank, unsigned long long *found)
{
    enum { EACH = 16 };
    uint64_t sum = 0;
    for (uint64_t from = 0; from < tiles && sum < rank; from += EACH * THREADS) {
        uint64_t t = from + EACH * threadIdx.x;
        uint32_t here[EACH], mine = 0, all;
        TAUT_UNROLL
        for (int q = 0; q < EACH; q++) mine += here[q] = t + (uint64_t)q < tiles ? ties[t + (uint64_t)q] : 0;
        uint64_t before = sum + block_scan(mine, &all);
        TAUT_UNROLL
        for (int q = 0; q < EACH; q++) {
            if (before < rank && rank <= before + here[q]) found[0] = t + (uint64_t)q, found[1] = before;
            before += here[q];
        }
        sum += all;
    }
    __syncthreads();
}
/* The place of the left-th tie of a tile to found[2]. By a block. */
static __device__ void place_of_tie(const taut__cuda_batch &batch, const taut__cuda_job *j, const choosing *c,
                                    uint64_t tile, uint64_t left, unsigned long long *found)
{
    uint64_t at = tile * TAUT__CUDA_TILE + 16 * threadIdx.x;
    uint32_t equal = 0, all;
    for (uint32_t s = 0; s < 4; s++) {
        if (at + 4 * s >= j->n) break;
        float4 x = x_at(batch, j, c, at + 4 * s);
        float  v[4] = {x.x, x.y, x.z, x.w};
        for (uint32_t q = 0; q < 4; q++)
            equal |= (uint32_t)(at + 4 * s + q < j->n && taut__topk_magnitude(v[q]) == c->found) << (4 * s + q);
    }
    uint64_t before = block_scan((uint32_t)__popc(equal), &all);
    for (uint32_t q = 0; q < 16; q++)
        if ((equal >> q & 1) && ++before == left) found[2] = at + q;
    __syncthreads();
}

/* The place of the last tie that goes, and in calibrate the choice: threshold and that. A block per job. */
static __global__ void __launch_bounds__(THREADS)
    topk_last_tie(const __grid_constant__ taut__cuda_batch batch, plan p, bool calibrating)
{
    TAUT_SHARED(unsigned long long, found, 3); /* tile, ties before it, place */
    const taut__cuda_job *j = batch.jobs ? batch.jobs + blockIdx.x : &batch.one;
    choosing             *c = p.choosing_of + blockIdx.x;
    bool                  few = c->rank == ~UINT64_C(0); /* all that is not zero goes */
    if (!calibrating && !c->all) return;
    if (threadIdx.x == 0) found[0] = found[1] = 0, found[2] = ~UINT64_C(0);
    __syncthreads();
    if (some_ties_stay(c)) {
        tile_of_tie(p.ties + tile_base(batch, j), tiles_of(j), c->rank, found);
        place_of_tie(batch, j, c, found[0], c->rank - found[1], found);
    }
    if (threadIdx.x != 0) return;
    c->last_tie = found[2];
    if (!calibrating) return;
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
