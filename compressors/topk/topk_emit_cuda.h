/* topk_emit_cuda.h : from a job's threshold to its payload on a GPU.
 *
 * What is kept comes to lie in one list, positions and values in order: from a job's candidates, whose tiles learn by looking back how much was kept
 * before them; or, where the threshold is from outside, or was found among all elements, from the elements themselves. Then a warp takes a group
 * of 512, and its block learns by looking back where its groups begin. What is kept passes through memory twice more than it must, as a
 * candidate and in the list, mostly in the cache, since the threshold is known only when all has been seen. */
#ifndef TAUT_TOPK_EMIT_CUDA_H
#define TAUT_TOPK_EMIT_CUDA_H

#include "topk_cuda.h"

/* ---- kept, at once ---- */

static __device__ __forceinline__ uint32_t kept_bits(float4 x, bool exact, uint32_t least)
{
    float    v[4] = {x.x, x.y, x.z, x.w};
    uint32_t is = 0;
    TAUT_UNROLL
    for (int q = 0; q < 4; q++)
        is |= (uint32_t)((exact ? __float_as_uint(v[q]) : taut__topk_magnitude(v[q])) > least) << q;
    return is;
}
/* Ties that go: those whose place, i for the first of four, is not beyond last_tie. */
static __device__ __forceinline__ uint32_t tie_bits(float4 x, uint64_t i, const limit &l)
{
    float    v[4] = {x.x, x.y, x.z, x.w};
    uint32_t is = 0;
    TAUT_UNROLL
    for (int q = 0; q < 4; q++)
        is |= (uint32_t)(taut__topk_magnitude(v[q]) == l.least && i + (uint64_t)q <= l.last_tie) << q;
    return is;
}

/* What a job keeps, to the list; and x to err, unless it lies there. Tiles by ticket, which look back. */
template <typename POS>
static __global__ void __launch_bounds__(THREADS, 4)
    topk_collect(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(uint32_t, segments, SEGMENTS);
    TAUT_SHARED(unsigned long long, packed, TAUT__CUDA_TILE);
    TAUT_SHARED(unsigned long long, shared, 1);
    if (p.own && *p.again == 0) return;
    for (;;) {
        uint64_t u = taut_ticket(p.ticket, shared), unit;
        __syncthreads();
        if (u >= batch.units) return;
        const taut__cuda_job *j = taut_job_of(batch, u, &unit);
        choosing             *c = p.choosing_of + job_number(batch, j);
        limit                 l = limit_of(p, j, c);
        if (!l.chosen) continue; /* the candidates that are there will do */
        uint64_t first = j->choice && p.exact == 0 ? j->first : 0;
        bool     keeps_x = keeps(batch, j) && c->floor == 0;
        float4   x[STEPS];
        uint32_t is = 0, to[STEPS];
        TAUT_UNROLL
        for (int s = 0; s < STEPS; s++)
            x[s] = place(unit, s) < j->n ? x_at(batch, j, c, place(unit, s)) : make_float4(0, 0, 0, 0);
        TAUT_UNROLL
        for (int s = 0; s < STEPS; s++) {
            if (keeps_x) taut_store4(j->err, place(unit, s), j->n, x[s]);
            is |= kept_bits(x[s], p.exact, l.least) << 4 * s;
            if (l.least) is |= tie_bits(x[s], first + place(unit, s), l) << 4 * s; /* 0 beyond n */
        }
        if (l.raw) continue;
        uint32_t all = places(is, to, segments);
        pack(x, is, to, packed);
        uint64_t before = taut_chain(p.kept + (u - unit), unit, all, shared); /* with a barrier */
        if (threadIdx.x == 0 && (unit + 1) * TAUT__CUDA_TILE >= j->n) c->count = before + all;
        for (uint32_t i = threadIdx.x; i < all; i += THREADS) {
            unsigned long long v = packed[i];
            ((POS *)p.pos)[j->list + before + i] = (POS)(unit * TAUT__CUDA_TILE + (v >> 32));
            p.kept_val[j->list + before + i] = __uint_as_float((uint32_t)v);
        }
        __syncthreads();
    }
}

/* ---- kept, of candidates ---- */

/* A job's first part, and its first block of groups, in the launch's numbering. */
static __device__ __forceinline__ uint64_t part_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return tile_base(b, j) / WARPS + job_number(b, j);
}
static __device__ __forceinline__ uint64_t block_base(const taut__cuda_batch &b, const taut__cuda_job *j)
{
    return j->list / (GROUP * WARPS) + job_number(b, j);
}

struct passed { /* before a tile: candidates above the threshold, and equal to it */
    uint64_t above, ties;
};

/* What lies before the warp's tile, which has `above` and `ties` itself; its part looks back for both at the same time. */
static __device__ passed pass_tiles(const plan &p, uint64_t state, uint64_t part, uint32_t above, uint32_t ties,
                                    unsigned long long *sums)
{
    uint32_t            warp = threadIdx.x / TAUT_WARP;
    unsigned long long *chain = warp ? p.part_ties + state : p.part_above + state, own = 0;
    if (TAUT_LANE == 0) sums[2 + warp] = above, sums[2 + WARPS + warp] = ties;
    __syncthreads();
    if (warp < 2) {
        for (uint32_t v = 0; v < WARPS; v++) own += sums[2 + warp * WARPS + v];
        if (TAUT_LANE == 0) atomicExch(chain + part, (part == 0 ? TAUT_LOOK_TOTAL : TAUT_LOOK_SUM) | own);
        uint64_t before = taut_look_back(chain, part);
        if (TAUT_LANE == 0) {
            sums[warp] = before;
            if (part) atomicExch(chain + part, TAUT_LOOK_TOTAL | (before + own));
        }
    }
    __syncthreads();
    passed mine = {sums[0], sums[1]};
    for (uint32_t v = 0; v < warp; v++) mine.above += sums[2 + v], mine.ties += sums[2 + WARPS + v];
    return mine;
}

/* Parts by ticket, a warp per tile. */
template <typename POS>
static __global__ void __launch_bounds__(THREADS, 6)
    topk_sort_out(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(unsigned long long, shared, 1);
    TAUT_SHARED(unsigned long long, sums, 2 + 2 * WARPS);
    uint64_t u = taut_ticket(p.ticket + 1, shared), part;
    __syncthreads();
    const taut__cuda_job *j = job_with<part_base>(batch, u, &part);
    if (!j) return;
    choosing *c = p.choosing_of + job_number(batch, j);
    limit     l = limit_of(p, j, c);
    uint64_t  t = part * WARPS + threadIdx.x / TAUT_WARP, tiles = tiles_of(j);
    if (l.chosen || l.raw || part * WARPS >= tiles) return;
    unsigned long long place_of = t < tiles ? p.tile[tile_base(batch, j) + t] : 0;
    uint32_t           count = (uint32_t)place_of & ((1u << COUNT_BITS) - 1), above = 0, ties = 0;
    uint64_t           from = candidate_base(batch, j) + (place_of >> COUNT_BITS);
    const float       *val = p.val + from;
    _Pragma("unroll 4") for (uint32_t i = TAUT_LANE; i < count; i += TAUT_WARP)
    {
        uint32_t m = taut__topk_magnitude(val[i]);
        above += m > l.least, ties += m == l.least;
    }
    above = __reduce_add_sync(TAUT_ALL, above), ties = __reduce_add_sync(TAUT_ALL, ties);
    passed   mine = pass_tiles(p, part_base(batch, j), part, above, ties, sums);
    uint64_t to = j->list + mine.above + taut__min(mine.ties, l.ties);
    _Pragma("unroll 4") for (uint32_t i0 = 0; i0 < count; i0 += TAUT_WARP)
    {
        uint32_t i = i0 + TAUT_LANE;
        bool     in = i < count;
        float    v = in ? val[i] : 0;
        uint32_t at = in ? p.at[from + i] : 0, m = taut__topk_magnitude(v);
        bool     tie = in && m == l.least;
        uint32_t all_ties = __ballot_sync(TAUT_ALL, tie);
        bool     goes = in && (m > l.least || (tie && mine.ties + (uint32_t)__popc(all_ties & TAUT_LANES_LT) < l.ties));
        uint32_t go = __ballot_sync(TAUT_ALL, goes), rank = (uint32_t)__popc(go & TAUT_LANES_LT);
        if (goes) ((POS *)p.pos)[to + rank] = (POS)(t * TAUT__CUDA_TILE + at), p.kept_val[to + rank] = v;
        mine.ties += (uint32_t)__popc(all_ties), to += (uint32_t)__popc(go);
    }
}

/* ---- a group: sixteen gaps in each lane ---- */

enum {
    UNARY_MAX = 96, /* words of a group's unary bits: at most 5 * 512 bits, since b is next to the mean's logarithm */
    STAGE = UNARY_MAX + GROUP * TAUT_SPARSE_RICE_MAX / 32, /* and of its low bits */
};
struct group_size {
    uint64_t entry;
    uint32_t bytes, b, words, low_words;
    bool     fits;
};
template <typename POS> struct __align__(16) lane_of { POS of[PER_LANE]; };

/* Gaps before the lane's positions, which are those of the group from 16 lane on; 0 behind the last. Returns the group's span. */
template <typename POS>
static __device__ __forceinline__ uint64_t gaps_of(const POS *pos, bool first, uint32_t fill, lane_of<POS> *gap)
{
    *gap = ((const lane_of<POS> *)pos)[TAUT_LANE];
    POS      before = first ? (POS) ~(POS)0 : pos[-1], last = __shfl_up_sync(TAUT_ALL, gap->of[PER_LANE - 1], 1);
    uint64_t span = (uint64_t)pos[fill - 1] + 1 - (first ? 0 : (uint64_t)before + 1);
    if (TAUT_LANE == 0) last = before;
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        POS here = gap->of[q];
        gap->of[q] = TAUT_LANE * PER_LANE + q < fill ? (POS)(here - last - 1) : (POS)0;
        last = here;
    }
    return span;
}

template <typename POS>
static __device__ __forceinline__ group_size size_group(const lane_of<POS> &gap, uint64_t span, uint32_t fill)
{
    uint64_t   best_cost = ~UINT64_C(0), unary = 0;
    unsigned   guess = taut__sparse_rice_guess(span, fill), best = 0;
    group_size z;
    for (unsigned b = guess ? guess - 1 : 0; b <= guess + 1 && b <= TAUT_SPARSE_RICE_MAX; b++) {
        uint32_t mine = 0; /* all: at most span >> guess - 1, some thousands */
        TAUT_UNROLL
        for (uint32_t q = 0; q < PER_LANE; q++) mine += (uint32_t)((uint64_t)gap.of[q] >> b);
        uint64_t sum = (uint64_t)__reduce_add_sync(TAUT_ALL, mine) + fill, cost = sum + (uint64_t)b * fill;
        if (cost >= best_cost) continue;
        best_cost = cost, best = b, unary = sum;
    }
    uint64_t words = taut__sparse_words(unary);
    z.fits = !(span >> TAUT_SPARSE_SPAN_BITS || words >> TAUT_SPARSE_WORDS_BITS);
    z.entry =
        span | words << TAUT_SPARSE_SPAN_BITS | (uint64_t)best << (TAUT_SPARSE_SPAN_BITS + TAUT_SPARSE_WORDS_BITS);
    z.b = best, z.words = (uint32_t)words, z.low_words = (uint32_t)taut__sparse_words((uint64_t)best * fill);
    z.bytes = 4 * (z.words + z.low_words + fill);
    return z;
}

/* The unary and the low words. stage: STAGE words of shared memory. By a warp. */
template <typename POS>
static __device__ __forceinline__ void stage_group(const lane_of<POS> &gap, const group_size &z, uint32_t fill,
                                                   uint32_t *stage)
{
    uint32_t first = TAUT_LANE * PER_LANE, mine = first < fill ? taut__min(fill - first, (uint32_t)PER_LANE) : 0;
    uint32_t ones = mine; /* unary bits of the lane, then where they begin */
    for (uint32_t i = TAUT_LANE; i < z.words + z.low_words; i += TAUT_WARP) stage[i] = 0;
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) ones += (uint32_t)((uint64_t)gap.of[q] >> z.b);
    uint32_t at = taut_warp_scan(ones) - ones, word = at / 32, bits = 0;
    uint32_t have = first * z.b % 32, low = z.words + first * z.b / 32;
    uint64_t low_bits = 0, mask = (UINT64_C(1) << z.b) - 1;
    __syncwarp();
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        if (q >= mine) continue;
        at += (uint32_t)((uint64_t)gap.of[q] >> z.b);
        if (at / 32 != word) {
            if (bits) atomicOr(&stage[word], bits);
            word = at / 32, bits = 0;
        }
        bits |= 1u << at++ % 32;
        low_bits |= ((uint64_t)gap.of[q] & mask) << have, have += z.b;
        if (have >= 32) {
            atomicOr(&stage[low++], (uint32_t)low_bits); /* two lanes may have bits in a word */
            low_bits >>= 32, have -= 32;
        }
    }
    if (bits) atomicOr(&stage[word], bits);
    if (low_bits) atomicOr(&stage[low], (uint32_t)low_bits);
    __syncwarp();
}

/* ---- the payload ---- */

/* WARPS groups by ticket, a warp each. */
template <typename POS>
static __global__ void __launch_bounds__(THREADS, sizeof(POS) == 4 ? 3 : 2)
    topk_emit(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    TAUT_SHARED(uint32_t, staged, WARPS * STAGE);
    TAUT_SHARED(unsigned long long, shared, 1);
    TAUT_SHARED(uint32_t, bytes, WARPS);
    uint64_t u = taut_ticket(p.ticket + 2, shared), block;
    uint32_t warp = threadIdx.x / TAUT_WARP, *stage = staged + warp * STAGE;
    __syncthreads();
    const taut__cuda_job *j = job_with<block_base>(batch, u, &block);
    if (!j) return;
    choosing *c = p.choosing_of + job_number(batch, j);
    limit     l = limit_of(p, j, c);
    uint64_t  count = count_of(p, j, c, l), groups = (count + GROUP - 1) / GROUP, g = block * WARPS + warp;
    if (l.raw || block * WARPS >= groups) return;
    bool         active = g < groups;
    uint32_t     fill = active ? (uint32_t)taut__min(GROUP, count - g * GROUP) : 0;
    uint64_t     list = j->list + g * GROUP;
    group_size   z = {};
    lane_of<POS> gap;
    if (active) {
        uint64_t span = gaps_of((const POS *)p.pos + list, g == 0, fill, &gap);
        z = size_group(gap, span, fill);
        if (TAUT_LANE == 0 && !z.fits) atomicOr(&c->long_group, 1u);
    }
    if (TAUT_LANE == 0) bytes[warp] = z.bytes;
    __syncthreads();
    uint32_t own = 0, mine = 0;
    for (uint32_t v = 0; v < WARPS; v++) {
        if (v == warp) mine = own;
        own += bytes[v];
    }
    if (active && z.fits) stage_group(gap, z, fill, stage);
    uint64_t before = taut_chain(p.block_bytes + block_base(batch, j), block, own, shared);
    if (threadIdx.x == 0 && (block + 1) * WARPS >= groups) c->bytes = before + own;
    /* where the floats would be shorter, topk_finish will see it, and nothing is written beyond their length */
    if (!active || !z.fits || before + own + TAUT_SPARSE_ENTRY * groups > 4 * j->n) return;
    uint32_t *out = (uint32_t *)(j->payload + TAUT_SPARSE_HEADER + before + mine), words = z.words + z.low_words;
    for (uint32_t i = TAUT_LANE; i < words; i += TAUT_WARP) out[i] = stage[i];
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = q * TAUT_WARP + TAUT_LANE;
        if (i < fill) out[words + i] = __float_as_uint(p.kept_val[list + i]);
    }
    if (TAUT_LANE == 0) p.entry[group_base(batch, j) + g] = z.entry;
}

static __device__ __forceinline__ void write_header(const plan &p, const taut__cuda_job *j, bool raw, uint64_t count,
                                                    uint64_t bytes)
{
    uint64_t *word = (uint64_t *)j->payload;
    word[0] = raw ? TAUT_SPARSE_RAW : TAUT_SPARSE_GROUPS;
    memcpy(word + 1, &p.density, sizeof p.density);
    word[2] = raw ? j->n : count;
    *j->len = TAUT_SPARSE_HEADER + (raw ? 4 * j->n : bytes);
}
/* A tile's floats as they are, and no error. By a block. */
static __device__ void finish_raw(const taut__cuda_batch &batch, const taut__cuda_job *j, uint64_t unit)
{
    float *out = (float *)(j->payload + TAUT_SPARSE_HEADER);
    bool   in_err = keeps(batch, j);
    for (int s = 0; s < STEPS; s++) {
        uint64_t i = place(unit, s);
        if (i >= j->n) break;
        float4 x = in_err ? taut_load4(j->err, i, j->n) : taut_input4(j, batch.dtype, i);
        taut_store4(out, i, j->n, x);
        if (j->err) taut_store4(j->err, i, j->n, make_float4(0, 0, 0, 0));
    }
}
/* A group's entry, and no error where its elements are. By a warp. */
template <typename POS>
static __device__ __forceinline__ void finish_group(const taut__cuda_batch &batch, const plan &p,
                                                    const taut__cuda_job *j, uint64_t g, uint64_t count, uint64_t bytes)
{
    const POS *pos = (const POS *)p.pos + j->list + g * GROUP;
    uint32_t   fill = (uint32_t)taut__min(GROUP, count - g * GROUP);
    if (TAUT_LANE == 0) {
        uint32_t *table = (uint32_t *)(j->payload + TAUT_SPARSE_HEADER + bytes + TAUT_SPARSE_ENTRY * g);
        uint64_t  entry = p.entry[group_base(batch, j) + g];
        table[0] = (uint32_t)entry, table[1] = (uint32_t)(entry >> 32);
    }
    if (!j->err) return;
    TAUT_UNROLL
    for (uint32_t q = 0; q < PER_LANE; q++) {
        uint32_t i = q * TAUT_WARP + TAUT_LANE;
        if (i < fill) j->err[pos[i]] = 0;
    }
}

/* Header and table, and the error: zero for what was sent; or the floats as they are, where they are shorter. There are at most WARPS groups
 * for each tile. */
template <typename POS>
static __global__ void __launch_bounds__(THREADS) topk_finish(const __grid_constant__ taut__cuda_batch batch, plan p)
{
    for (uint64_t u = blockIdx.x, unit; u < batch.units; u += gridDim.x) {
        const taut__cuda_job *j = taut_job_of(batch, u, &unit);
        choosing             *c = p.choosing_of + job_number(batch, j);
        limit                 l = limit_of(p, j, c);
        uint64_t              count = count_of(p, j, c, l), groups = (count + GROUP - 1) / GROUP,
                 g = unit * WARPS + threadIdx.x / TAUT_WARP;
        bool raw = l.raw || c->long_group || c->bytes + TAUT_SPARSE_ENTRY * groups > 4 * j->n;
        if (unit == 0 && threadIdx.x == 0) write_header(p, j, raw, count, c->bytes + TAUT_SPARSE_ENTRY * groups);
        if (raw) finish_raw(batch, j, unit);
        else if (g < groups) finish_group<POS>(batch, p, j, g, count, c->bytes);
    }
}

#endif
