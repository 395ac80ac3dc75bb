/* grid_cuda_encode.h : a chunk of values or codes -> code packed, by a block of threads.
 *
 * Rounds of 512 blocks, 32 in each warp. First a lane holds elements: they are quantized and voted into bit planes, a block after the
 * other. Then a lane holds a block: it finds class and bits, and, when a scan has told its place, writes its body as the CPU does, from
 * planes of 64 bits, into a window of shared memory, whose words leave for a slot of scratch. Blocks of large values are rare: a whole
 * warp reads them again when their place is known, and their errors and codes are stored only then. */
#ifndef TAUT_GRID_CUDA_ENCODE_H
#define TAUT_GRID_CUDA_ENCODE_H

#include "grid_cuda_lane.h"

enum {
    E_WARPS = 16,
    E_THREADS = E_WARPS * TAUT_WARP,
    E_ROUND = E_WARPS * TAUT_WARP, /* blocks */
    E_WINDOW = 2048,               /* words; longer rounds take several */
    E_OVER = 0x100,                /* some code is above the limit */
    E_AHEAD = 4,
};
enum origin { OF_FLOATS, OF_CODES };

/* encode_task : what all threads know of a chunk, in shared memory. */
struct encode_task {
    grid_warp_unit        u;
    const taut__cuda_job *j;
    uint64_t              first, unit, number; /* element; unit of the batch, chunk of the job */
    uint32_t              n, blocks, bytes;    /* bytes: of what has become of it */
    taut_dtype            dtype;
    settings              set;
};
/* And what is at hand: registers are few. */
struct encode_source {
    const void  *src; /* this and the others: of the chunk */
    const float *residual;
    float       *err;
    int32_t     *codes;
    float        step, inv, bias;
    uint32_t     n, limit;
};
/* FAST: floats, every element's unit is the step, by whose reciprocal is multiplied, and it is not huge. */
static __device__ __forceinline__ bool is_fast(const encode_task &k)
{
    return k.dtype == TAUT_F32 && !k.u.divide && !k.u.huge;
}
static __device__ __forceinline__ encode_source source_of(const encode_task &k)
{
    const taut__cuda_job *j = k.j;
    encode_source         s = {(const uint8_t *)j->src + k.first * (k.dtype == TAUT_F32 ? 4 : 2),
                       j->residual ? j->residual + k.first : NULL,
                       j->err ? j->err + k.first : NULL,
                       j->codes ? j->codes + k.first : NULL,
                               k.u.step,
                               k.u.inv,
                               k.u.bias,
                               k.n,
                               (uint32_t)k.set.limit};
    return s;
}

/* ---- a lane for an element ---- */

struct two_floats {
    float x[2];
};
template <bool FAST>
static __device__ __forceinline__ two_floats read_floats(const encode_source &s, taut_dtype dtype, uint32_t block)
{
    two_floats v = {{0, 0}};
    TAUT_UNROLL
    for (uint32_t h = 0; h < 2; h++) {
        uint32_t i = block * GRID_BLOCK + 32 * h + TAUT_LANE;
        if (i >= s.n) continue;
        v.x[h] = FAST || dtype == TAUT_F32 ? ((const float *)s.src)[i]
                 : dtype == TAUT_F16       ? taut__from_f16(((const uint16_t *)s.src)[i])
                                           : taut__from_bf16(((const uint16_t *)s.src)[i]);
        if (s.residual) v.x[h] = s.residual[i] + v.x[h];
    }
    return v;
}
/* Magnitudes and signs, as take_floats() finds them, and errors and codes to memory. false, in all lanes: some are large, or have none,
 * and nothing was stored. */
template <bool FAST>
static __device__ __forceinline__ bool quantize_two(const encode_task &k, const encode_source &s, uint32_t block,
                                                    const two_floats &in, grid_warp_block *v, bool *over)
{
    float    t[2], d[2] = {s.step, s.step};
    bool     large = false;
    uint32_t mag[2], i = block * GRID_BLOCK + TAUT_LANE;
    TAUT_UNROLL
    for (uint32_t h = 0; h < 2; h++) {
        float level = fabsf(in.x[h]) * s.inv + s.bias;
        if (!FAST && k.u.divide && i + 32 * h < s.n) {
            d[h] = k.u.at(k.first + i + 32 * h);
            level = fabsf(in.x[h]) / d[h] + s.bias;
        }
        bool here = i + 32 * h < s.n, small = level < (float)(1 << E_PLANES);
        large |= here && !small;
        mag[h] = here && small ? (uint32_t)level : 0;
        t[h] = in.x[h] < 0 ? -(float)mag[h] : (float)mag[h];
    }
    if (__any_sync(TAUT_ALL, large)) return false;
    v->a = mag[0], v->b = mag[1];
    v->sign = grid_vote(t[0] < 0, t[1] < 0);
    TAUT_UNROLL
    for (uint32_t h = 0; h < 2; h++) {
        if (i + 32 * h >= s.n) continue;
        float e = in.x[h] - t[h] * d[h];
        if (!FAST && k.u.huge && (taut__bits(e) & 0x7fffffff) >= 0x7f800000) e = 0;
        if (s.err) s.err[i + 32 * h] = e;
        if (s.codes) s.codes[i + 32 * h] = t[h] < 0 ? -(int32_t)mag[h] : (int32_t)mag[h];
        *over |= mag[h] > s.limit;
    }
    return true;
}

/* Block `block` by a warp: its values, raw or not. store: errors and codes go to memory. */
template <origin OF>
static __device__ __forceinline__ void take_block(const encode_task &k, uint32_t block, bool store, round_block *r)
{
    uint32_t m = min((uint32_t)GRID_BLOCK, k.n - block * GRID_BLOCK);
    uint64_t i = k.first + (uint64_t)block * GRID_BLOCK;
    if (OF == OF_CODES) take_codes(k.j, i, m, r);
    else take_floats(k.j, k.dtype, k.set, k.u, i, m, !store, r);
}

/* The planes of a block to plane[32 * p], signs behind E_PLANES; how many there are. By a warp. */
static __device__ __forceinline__ uint32_t vote_planes(const grid_warp_block &v, uint64_t *plane)
{
    uint64_t p0 = grid_vote(v.a & 1, v.b & 1), p1 = grid_vote(v.a & 2, v.b & 2);
    uint64_t mine = TAUT_LANE == 0 ? p0 : TAUT_LANE == 1 ? p1 : v.sign;
    if (TAUT_LANE < 3) plane[TAUT_WARP * (TAUT_LANE < 2 ? TAUT_LANE : (uint32_t)E_PLANES)] = mine;
    uint32_t planes = 2;
    TAUT_ROLLED
    for (uint32_t rest = (v.a | v.b) >> 2; __any_sync(TAUT_ALL, rest != 0); rest >>= 1, planes++) {
        uint64_t p = grid_vote(v.a >> planes & 1, v.b >> planes & 1);
        if (TAUT_LANE == 0) plane[TAUT_WARP * planes] = p;
    }
    return planes;
}

/* ---- a round ---- */

/* Blocks from..from+32 of a warp into planes; returns how many the lane's block has, and what else is to say. AHEAD: blocks that are read before the first of them
 * is used. */
template <origin OF, bool FAST, int AHEAD>
static __device__ __forceinline__ uint32_t take_round(const encode_task &k, uint32_t from, uint64_t *plane)
{
    encode_source s = source_of(k);
    uint32_t      mine = 0;
    bool          over = false;
    TAUT_ROLLED
    for (uint32_t q = 0; q < TAUT_WARP && from + q < k.blocks; q += AHEAD) {
        two_floats in[AHEAD];
        int32_t    c[AHEAD][2];
        TAUT_UNROLL
        for (uint32_t h = 0; h < AHEAD; h++) {
            uint32_t i = (from + q + h) * GRID_BLOCK + TAUT_LANE;
            if (OF == OF_FLOATS) in[h] = read_floats<FAST>(s, k.dtype, from + q + h);
            else c[h][0] = i < s.n ? s.codes[i] : 0, c[h][1] = i + 32 < s.n ? s.codes[i + 32] : 0;
        }
        TAUT_UNROLL
        for (uint32_t h = 0; h < AHEAD; h++) {
            grid_warp_block v;
            bool            small;
            if (OF == OF_FLOATS) {
                small = quantize_two<FAST>(k, s, from + q + h, in[h], &v, &over);
            } else {
                v.a = c[h][0] < 0 ? 0u - (uint32_t)c[h][0] : (uint32_t)c[h][0];
                v.b = c[h][1] < 0 ? 0u - (uint32_t)c[h][1] : (uint32_t)c[h][1];
                v.sign = grid_vote(c[h][0] < 0, c[h][1] < 0);
                small = !__any_sync(TAUT_ALL, (v.a | v.b) >> E_PLANES);
            }
            uint32_t planes = small ? vote_planes(v, plane + q + h) : (uint32_t)E_LARGE;
            if (TAUT_LANE == q + h && from + q + h < k.blocks) mine = planes;
        }
    }
    __syncwarp();
    return mine | (over ? (uint32_t)E_OVER : 0);
}
template <origin OF>
static __device__ TAUT_NOINLINE uint32_t take_any_round(const encode_task &k, uint32_t from, uint64_t *plane)
{
    return take_round<OF, false, 1>(k, from, plane);
}
/* The shapes of large blocks, which are those of `mask`, into the lanes that hold them. */
template <origin OF>
static __device__ TAUT_NOINLINE lane_shape large_shapes(const encode_task &k, uint32_t from, uint32_t mask)
{
    lane_shape s = {GRID_ZERO, 0, E_LARGE, 0};
    for (; mask; mask &= mask - 1) {
        round_block r;
        uint32_t    q = (uint32_t)__ffs((int)mask) - 1;
        take_block<OF>(k, from + q, false, &r);
        if (r.raw) r.s.cls = GRID_WIDE, r.s.r = GRID_RAW, r.s.bits = 5 + 64 * 32;
        else r.s = grid_warp_shape(r.k);
        if (TAUT_LANE == q) s.cls = r.s.cls, s.r = r.s.r, s.bits = r.s.bits;
    }
    return s;
}
/* Their bodies, into the window that begins with word `lo` of the round. */
template <origin OF>
static __device__ TAUT_NOINLINE void large_bodies(const encode_task &k, uint32_t from, uint32_t mask, lane_shape s,
                                                  uint32_t pos, uint32_t *window, uint32_t lo)
{
    for (; mask; mask &= mask - 1) {
        round_block r;
        int         q = __ffs((int)mask) - 1;
        uint32_t    at = __shfl_sync(TAUT_ALL, pos, q), end = at + __shfl_sync(TAUT_ALL, s.bits, q);
        take_block<OF>(k, from + (uint32_t)q, end <= 32 * (lo + E_WINDOW), &r);
        r.s.cls = __shfl_sync(TAUT_ALL, s.cls, q), r.s.r = __shfl_sync(TAUT_ALL, s.r, q), r.s.bits = 0;
        at -= 32 * lo;
        if (r.raw) grid_warp_raw(__uint_as_float(r.k.a), __uint_as_float(r.k.b), window, &at, E_WINDOW);
        else grid_warp_body(r.k, r.s, window, &at, E_WINDOW);
    }
}
template <origin OF>
static __device__ __forceinline__ void put_round(const encode_task &k, uint32_t from, const lane_shape &s, uint32_t pos,
                                                 const uint64_t *plane, uint32_t *window, uint32_t lo)
{
    bool     here = s.bits && pos + s.bits > 32 * lo && pos < 32 * (lo + E_WINDOW);
    uint32_t large = __ballot_sync(TAUT_ALL, here && s.planes == E_LARGE);
    if (here && s.planes != E_LARGE) {
        lane_writer w = {window, E_WINDOW, (pos / 32 - lo) & GRID_WORDS, pos % 32, 0};
        lane_body(&w, s, plane + TAUT_LANE);
        w.end();
    }
    __syncwarp();
    if (large) large_bodies<OF>(k, from, large, s, pos, window, lo);
}

/* encode_memory : what a chunk is encoded in, in shared memory. */
struct encode_memory {
    uint64_t planes[E_WARPS][TAUT_WARP * (E_PLANES + 1)];
    uint32_t window[E_WINDOW]; /* zero, but for the bits that fill no word so far */
    uint32_t sums[E_WARPS];
    uint32_t bits;  /* of the chunk, before this round */
    uint32_t total; /* and of this round, with those that filled no word before */
    uint8_t  cls[GRID_CHUNK_BLOCKS];
};

/* Takes the warp's blocks of a round; returns the lane's block's shape. */
template <origin OF>
static __device__ __forceinline__ lane_shape shape_round(const encode_task &k, uint32_t from, encode_memory *m)
{
    uint64_t *plane = m->planes[threadIdx.x / TAUT_WARP];
    uint32_t  count = OF == OF_CODES || is_fast(k) ? take_round<OF, true, E_AHEAD>(k, from, plane)
                                                   : take_any_round<OF>(k, from, plane),
             large = __ballot_sync(TAUT_ALL, (count & E_LARGE) != 0);
    lane_shape s = {GRID_ZERO, 0, 0, 0};
    if (count & E_OVER && k.j->codes) taut_flag(k.j, TAUT__CUDA_RANGE);
    if (large) s = large_shapes<OF>(k, from, large);
    if (!(count & E_LARGE)) s = shape_of(plane + TAUT_LANE, count & (E_LARGE - 1));
    if (from + TAUT_LANE < k.blocks) m->cls[from + TAUT_LANE] = (uint8_t)s.cls;
    return s;
}
/* Writes them: a window full of words at a time leaves for the slot. */
template <origin OF>
static __device__ __forceinline__ void write_round(const encode_task &k, uint32_t from, const lane_shape &s,
                                                   encode_memory *m, uint8_t *slot)
{
    uint32_t scan = taut_warp_scan(s.bits), warp = threadIdx.x / TAUT_WARP, pos = scan - s.bits, total = m->bits % 32;
    if (TAUT_LANE == 31) m->sums[warp] = scan;
    __syncthreads();
    TAUT_ROLLED
    for (uint32_t w = 0; w < E_WARPS; w++) {
        if (w == warp) pos += total;
        total += m->sums[w];
    }
    if (threadIdx.x == 0) m->total = total;
    for (uint32_t lo = 0, full = E_WINDOW; full == E_WINDOW; lo += E_WINDOW) {
        put_round<OF>(k, from, s, pos, m->planes[warp], m->window, lo);
        __syncthreads();
        uint32_t *out = (uint32_t *)slot + m->bits / 32 + lo;
        full = min(m->total / 32 - lo, (uint32_t)E_WINDOW);
        uint32_t rest = full < E_WINDOW ? m->window[full] : 0;
        TAUT_ROLLED
        for (uint32_t i = threadIdx.x; i < full; i += E_THREADS) out[i] = m->window[i];
        __syncthreads();
        TAUT_ROLLED
        for (uint32_t i = threadIdx.x; i <= full && i < E_WINDOW; i += E_THREADS) m->window[i] = i == 0 ? rest : 0;
        if (full == E_WINDOW) __syncthreads();
    }
    if (threadIdx.x == 0) m->bits = m->bits / 32 * 32 + m->total;
    __syncthreads();
}

/* The chunk of a task -> slot: bodies, then classes; its bytes into the task, where 0 stands. All E_THREADS threads. */
template <origin OF> static __device__ inline void pack_chunk(encode_task *k, uint8_t *slot)
{
    TAUT_SHARED(encode_memory, memory, 1);
    encode_memory *m = &memory[0];
    for (uint32_t i = threadIdx.x; i < E_WINDOW; i += E_THREADS) m->window[i] = 0;
    if (threadIdx.x == 0) m->bits = 0;
    __syncthreads();
    TAUT_ROLLED
    for (uint32_t base = 0; base < k->blocks; base += E_ROUND) {
        uint32_t   from = base + threadIdx.x / TAUT_WARP * TAUT_WARP;
        lane_shape s = shape_round<OF>(*k, from, m);
        write_round<OF>(*k, from, s, m, slot);
    }
    uint32_t bits = m->bits, body = (bits + 7) / 8;
    if (body == 0) return; /* every block that is not zero has a body */
    if (threadIdx.x == 0 && bits % 32) ((uint32_t *)slot)[bits / 32] = m->window[0];
    uint32_t classes = put_classes(m->cls, k->blocks, (uint8_t *)(m->window + 4), slot + body);
    if (threadIdx.x == 0) k->bytes = body + classes;
    __syncthreads();
}

#endif
