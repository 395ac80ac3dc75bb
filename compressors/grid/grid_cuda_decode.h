/* grid_cuda_decode.h : a chunk of code packed -> values, by a small block of threads, so that as many chunks as can be are under way.
 *
 * A body begins where the one before ends, so one lane of the first warp walks over the bit string, in a ring of shared memory, and notes
 * where bodies begin. The other warps follow a window behind it, 32 blocks at a time: a lane for each block undoes the nested maps and
 * leaves its magnitudes and signs as bit planes, then all lanes make values of these, an element each. Blocks that are wide or hold escapes
 * are rare and read by a whole warp. */
#ifndef TAUT_GRID_CUDA_DECODE_H
#define TAUT_GRID_CUDA_DECODE_H

#include "grid_cuda_chunk.h"

enum {
    RING = 4096, /* words: four windows, */
    MORE = 4,    /* and the first words once more, behind the last */
    SPAN = RING / 4,
    PLANES = 7,      /* of magnitudes; one of signs behind them */
    BY_WARP = 0x100, /* a block that lanes leave to the warp */
    MALFORMED = 0x200,
    TOGETHER = 4, /* blocks whose memory is read ahead */
};

/* The 64 bits at pos of the ring's string. */
static __device__ __forceinline__ uint64_t ring_bits(const uint32_t *ring, uint32_t pos)
{
    const uint32_t *w = ring + pos / 32 % RING;
    return (uint64_t)__funnelshift_r(w[0], w[1], pos % 32) | (uint64_t)__funnelshift_r(w[1], w[2], pos % 32) << 32;
}
static __device__ __forceinline__ uint64_t ring_take(const uint32_t *ring, uint32_t *pos, uint32_t bits) /* 1..64 */
{
    uint64_t v = grid_low(ring_bits(ring, *pos), bits);
    *pos += bits;
    return v;
}

/* A chunk's bit string: words from an address that is aligned to 16; its bodies are bits from..to. */
struct chunk_bits {
    const uint8_t *base, *end; /* end: of the chunk, classes included */
    uint32_t       from, to;
};

/* The sixteen bytes at p; zero at and after the end. */
static __device__ __forceinline__ uint4 read_until(const uint8_t *p, const uint8_t *end)
{
    if (p >= end) return make_uint4(0, 0, 0, 0);
    if (end - p >= 16) return *(const uint4 *)p;
    const uint32_t *w = (const uint32_t *)p;
    uint32_t        left = (uint32_t)(end - p);
    return make_uint4(w[0], left > 4 ? w[1] : 0, left > 8 ? w[2] : 0, left > 12 ? w[3] : 0);
}
/* Words SPAN * window and up, by threads t, t + of, ... */
static __device__ __forceinline__ void stage_window(const chunk_bits &c, uint32_t window, uint32_t *ring, uint32_t t,
                                                    uint32_t of)
{
    const uint8_t *at = c.base + (uint64_t)window * SPAN * 4;
    uint4         *to = (uint4 *)(ring + window % 4 * SPAN);
    TAUT_ROLLED
    for (uint32_t i = t; i < SPAN / 4; i += of) {
        uint4 v = read_until(at + (size_t)16 * i, c.end);
        to[i] = v;
        if (i == 0 && window % 4 == 0) *(uint4 *)(ring + RING) = v;
    }
}

/* ---- the walk: by one lane ---- */

/* From the second map on: `left` bits of it begin at pos. Where they end. */
static __device__ __forceinline__ uint32_t walk_levels(const uint32_t *ring, uint32_t pos, uint32_t left)
{
    uint64_t v = 0;
    uint32_t here = 0;
    TAUT_ROLLED
    for (uint32_t h = 2; left && h <= GRID_LEVELS; h++) {
        if (left > here) v = ring_bits(ring, pos), here = 64;
        uint32_t n = grid_count_bits(v << (64 - left));
        v >>= left & 63; /* of 64 nothing is left */
        pos += left;
        here -= left;
        left = n;
    }
    TAUT_ROLLED
    for (; left; left--) pos += 5 + ((uint32_t)ring_bits(ring, pos) & 31);
    return pos;
}
/* Bits of the body at `pos`; 0: malformed. As body_bits(); positions that are one and the same are found where they are decoded. */
static __device__ __forceinline__ uint32_t walk_planes(const uint32_t *ring, uint32_t begin, uint32_t pos, uint32_t r)
{
    uint64_t nz = 0;
    TAUT_ROLLED
    for (uint32_t p = 0; p < r; p++) nz |= ring_take(ring, &pos, 64);
    uint64_t map = ring_take(ring, &pos, 64);
    if (r == 0 && map == 0) return 0;
    return walk_levels(ring, pos, grid_count_bits(map)) + grid_count_bits(nz | map) - begin;
}
static __device__ TAUT_NOINLINE uint32_t walk_wide(const uint32_t *ring, uint32_t pos)
{
    uint32_t r = (uint32_t)ring_bits(ring, pos) & 31;
    return r < 8 ? 0 : r == GRID_RAW ? 5 + 64 * 32 : walk_planes(ring, pos, pos + 5, r);
}
static __device__ __forceinline__ uint32_t walk_body(const uint32_t *ring, uint32_t pos, uint32_t cls)
{
    if (cls == GRID_WIDE) return walk_wide(ring, pos);
    if (cls >= GRID_R0) return walk_planes(ring, pos, pos, cls - GRID_R0);
    uint32_t begin = pos, left = cls - GRID_P1 + 1;
    if (cls == GRID_H4) {
        uint32_t bits = 4 * (uint32_t)__popc((uint32_t)ring_bits(ring, pos) & 0xffff);
        pos += 16;
        left = bits ? grid_count_bits(ring_take(ring, &pos, bits)) : 0;
    } else {
        pos += 6 * left;
    }
    return left ? walk_levels(ring, pos, left) + left - begin : 0;
}

/* Where the walk stands; in shared memory, twice: of this window and the one before. */
struct walk_state {
    uint32_t block, pos;
    bool     bad;
};

/* Bodies that begin in a window. start: low 16 bits of where. */
static __device__ inline walk_state walk_window(const chunk_bits &c, const uint32_t *ring, const uint8_t *cls,
                                                uint32_t blocks, uint32_t window, uint16_t *start, walk_state s)
{
    uint32_t limit = (window + 1) * SPAN * 32, next = cls[s.block], block = s.block, pos = s.pos;
    bool     bad = s.bad;
    TAUT_ROLLED
    while (block < blocks && pos < limit) {
        uint32_t now = next;
        next = cls[block + 1]; /* one more than there are */
        start[block++] = (uint16_t)pos;
        if (now == GRID_ZERO) continue;
        uint32_t bits = walk_body(ring, pos, now);
        pos += bits;
        bad |= bits == 0 || pos > c.to;
        if (bad) block = blocks;
    }
    if (block == blocks) bad |= (pos + 7) / 8 != c.to / 8;
    walk_state to = {block, pos, bad};
    return to;
}

/* ---- a lane for a block ---- */

static __device__ __forceinline__ uint64_t lane_pdep(uint64_t v, uint64_t mask)
{
    uint32_t lo = (uint32_t)mask, hi = (uint32_t)(mask >> 32), out_lo = 0, out_hi = 0, n = (uint32_t)__popc(lo),
             v_lo = (uint32_t)v, v_hi = (uint32_t)(v >> n);
    TAUT_ROLLED
    while (lo | hi) {
        uint32_t a = lo & (0u - lo), b = hi & (0u - hi);
        out_lo |= a & (0u - (v_lo & 1));
        out_hi |= b & (0u - (v_hi & 1));
        lo ^= a, hi ^= b;
        v_lo >>= 1, v_hi >>= 1;
    }
    return out_lo | (uint64_t)out_hi << 32;
}

/* The first map; 0 where it cannot be. */
static __device__ __forceinline__ uint64_t lane_map(const uint32_t *ring, uint32_t *pos, uint32_t cls)
{
    if (cls >= GRID_R0) return ring_take(ring, pos, 64);
    uint64_t map = 0;
    if (cls < GRID_H4) {
        uint32_t count = cls - GRID_P1 + 1;
        uint64_t v = ring_take(ring, pos, 6 * count);
        TAUT_ROLLED
        for (uint32_t i = 0; i < count; i++) map |= UINT64_C(1) << (v >> 6 * i & 63);
        return grid_count_bits(map) == count ? map : 0;
    }
    uint32_t groups = (uint32_t)ring_take(ring, pos, 16);
    if (!groups) return 0;
    uint64_t v = ring_take(ring, pos, 4 * (uint32_t)__popc(groups));
    TAUT_ROLLED
    for (; groups; groups &= groups - 1, v >>= 4) map |= (v & 15) << 4 * (__ffs((int)groups) - 1);
    return map;
}

/* The body at pos -> planes plane[32 * p] of magnitudes, two at least, and signs in the one behind PLANES. How many of them; BY_WARP or
 * MALFORMED. */
static __device__ __forceinline__ uint32_t lane_read(const uint32_t *ring, uint32_t pos, uint32_t cls, uint64_t *plane)
{
    uint32_t r = cls >= GRID_R0 ? cls - GRID_R0 : 0;
    uint64_t nz = 0, two = 0, four = 0, eight = 0;
    plane[0] = plane[TAUT_WARP] = plane[TAUT_WARP * PLANES] = 0;
    if (cls == GRID_ZERO) return 0;
    if (cls == GRID_WIDE || r >= PLANES) return BY_WARP;
    TAUT_ROLLED
    for (uint32_t p = 0; p < r; p++) {
        uint64_t v = ring_take(ring, &pos, 64);
        plane[TAUT_WARP * p] = v;
        nz |= v;
    }
    uint64_t map = lane_map(ring, &pos, cls), one = map;
    nz |= map;
    if (nz == 0 || (r == 0 && map == 0)) return MALFORMED;
    TAUT_ROLLED
    for (uint32_t h = 2; h <= GRID_LEVELS && map; h++) { /* counted in planes */
        map = lane_pdep(ring_take(ring, &pos, grid_count_bits(map)), map);
        uint64_t to_two = one & map, to_four = two & to_two;
        one ^= map, two ^= to_two, eight |= four & to_four, four ^= to_four;
    }
    uint32_t more = eight ? 4 : four ? 3 : two ? 2 : 1;
    if (map || r + more > PLANES) return BY_WARP;
    plane[TAUT_WARP * r] = one;
    if (more > 1) plane[TAUT_WARP * (r + 1)] = two;
    if (more > 2) plane[TAUT_WARP * (r + 2)] = four;
    if (more > 3) plane[TAUT_WARP * (r + 3)] = eight;
    plane[TAUT_WARP * PLANES] = lane_pdep(ring_take(ring, &pos, grid_count_bits(nz)), nz);
    return r + more;
}

/* ---- values ---- */

/* decode_task : what all of a block's threads know, in shared memory: registers are few. */
struct decode_task {
    grid_warp_unit u;
    chunk_bits     c;
    uint64_t       first;
    void          *dst; /* of the chunk */
    int32_t       *codes;
    uint32_t       n, blocks;
};
/* And what is at hand. */
struct target {
    float    step;
    bool     plain, huge; /* plain: the step is every element's unit */
    void    *dst;
    int32_t *codes;
    uint32_t n;
};
static __device__ __forceinline__ target target_of(const decode_task &k)
{
    target t = {k.u.step, k.u.stride == 0, k.u.huge, k.dst, k.codes, k.n};
    return t;
}

/* FAST: of floats, whose unit is the step, which is not huge. */
static __device__ __forceinline__ bool is_fast(const taut__cuda_batch &batch, const decode_task &k)
{
    return batch.dtype == TAUT_F32 && k.u.stride == 0 && !k.u.huge;
}
/* What lies where element i of the chunk goes, as far as it is asked for: codes, or the floats that are added to. */
template <sink TO, bool FAST>
static __device__ __forceinline__ uint32_t old_at(const taut__cuda_batch &batch, const target &t, uint32_t i)
{
    if (TO == STORE) return 0;
    if (TO != ADD) return (uint32_t)t.codes[i];
    return FAST || batch.dtype == TAUT_F32 ? ((const uint32_t *)t.dst)[i] : ((const uint16_t *)t.dst)[i];
}
/* word: a code, or, if raw, a float; old: what old_at() said. */
template <sink TO, bool FAST>
static __device__ __forceinline__ void put_value(const taut__cuda_batch &batch, const decode_task &k, const target &t,
                                                 uint32_t i, bool raw, uint32_t word, uint32_t old)
{
    if (TO == CODES || TO == VALUES) {
        word += old;
        t.codes[i] = (int32_t)word;
        if (TO == CODES) return;
    }
    bool  half = !FAST && batch.dtype != TAUT_F32, f16 = half && batch.dtype == TAUT_F16;
    float v = raw ? __uint_as_float(word) : grid_value((int32_t)word, FAST ? t.step : k.u.at(k.first + i));
    if (!FAST && TO != ADD) v = grid_finite(k.u, v);
    if (TO == ADD && !half) v = __uint_as_float(old) + v;
    if (TO == ADD && half) v = (f16 ? taut__from_f16((uint16_t)old) : taut__from_bf16((uint16_t)old)) + v;
    if (batch.factor != 1) v = v * batch.factor;
    if (half) ((uint16_t *)t.dst)[i] = f16 ? taut__to_f16(v) : taut__to_bf16(v);
    else ((float *)t.dst)[i] = v;
}

/* Codes of a block's two elements, out of the warp's planes. */
static __device__ __forceinline__ uint2 plane_codes(const uint64_t *plane, uint32_t planes)
{
    uint64_t m = plane[0], two = plane[TAUT_WARP], sign = plane[TAUT_WARP * PLANES];
    uint32_t a = ((uint32_t)m >> TAUT_LANE & 1) | ((uint32_t)two >> TAUT_LANE & 1) << 1,
             b = ((uint32_t)(m >> 32) >> TAUT_LANE & 1) | ((uint32_t)(two >> 32) >> TAUT_LANE & 1) << 1;
    TAUT_ROLLED
    for (uint32_t p = 2; p < planes; p++) {
        m = plane[TAUT_WARP * p];
        a |= ((uint32_t)m >> TAUT_LANE & 1) << p;
        b |= ((uint32_t)(m >> 32) >> TAUT_LANE & 1) << p;
    }
    if ((uint32_t)sign >> TAUT_LANE & 1) a = 0u - a;
    if ((uint32_t)(sign >> 32) >> TAUT_LANE & 1) b = 0u - b;
    return make_uint2(a, b);
}

/* Block `block`, which a whole warp reads. false, in all lanes: malformed */
template <sink TO>
static __device__ TAUT_NOINLINE bool decode_by_warp(const taut__cuda_batch &batch, const decode_task &k, uint32_t block,
                                                    uint32_t pos, uint32_t cls)
{
    grid_warp_block  blk = {0, 0, 0};
    grid_warp_reader rd = {k.c.base, k.c.end, pos};
    bool             raw = false;
    if (!grid_warp_read(&rd, cls, &blk, &raw) || (raw && (TO == CODES || TO == VALUES))) return false;
    target t = target_of(k);
    TAUT_ROLLED
    for (uint32_t h = 0; h < 2; h++) {
        uint32_t i = block * GRID_BLOCK + 32 * h + TAUT_LANE;
        uint32_t word = h == 0 ? (raw ? blk.a : (uint32_t)grid_code_a(blk)) : raw ? blk.b : (uint32_t)grid_code_b(blk);
        if (i < t.n) put_value<TO, false>(batch, k, t, i, raw, word, old_at<TO, false>(batch, t, i));
    }
    return true;
}

/* Blocks from..to, 32 at most, by a warp, whose planes these are; shape: its lane's block's. */
template <sink TO, bool FAST, int AHEAD>
static __device__ __forceinline__ void blocks_of_planes(const taut__cuda_batch &batch, const decode_task &k,
                                                        uint32_t from, uint32_t to, uint32_t shape,
                                                        const uint64_t *plane)
{
    target   t = target_of(k);
    uint32_t skip = __ballot_sync(TAUT_ALL, shape == BY_WARP || ((TO == ADD || TO == CODES) && shape == 0)),
             more = __ballot_sync(TAUT_ALL, shape > 2);
    TAUT_ROLLED
    for (uint32_t q = 0; from + q < to; q += AHEAD) {
        uint32_t old[2 * AHEAD], i = (from + q) * GRID_BLOCK + TAUT_LANE;
        uint2    w[AHEAD];
        TAUT_UNROLL
        for (uint32_t h = 0; h < 2 * AHEAD; h++)
            old[h] = TO != STORE && i + 32 * h < t.n ? old_at<TO, FAST>(batch, t, i + 32 * h) : 0;
        TAUT_UNROLL
        for (uint32_t h = 0; h < AHEAD; h++) {
            uint32_t planes = 2;
            if (more >> (q + h) & 1) planes = __shfl_sync(TAUT_ALL, shape, (int)(q + h)) & (BY_WARP - 1);
            w[h] = plane_codes(plane + q + h, planes);
        }
        TAUT_UNROLL
        for (uint32_t h = 0; h < AHEAD; h++) {
            uint32_t e = i + GRID_BLOCK * h;
            if (skip >> (q + h) & 1 || from + q + h >= to) continue;
            if (e < t.n) put_value<TO, FAST>(batch, k, t, e, false, w[h].x, old[2 * h]);
            if (e + 32 < t.n) put_value<TO, FAST>(batch, k, t, e + 32, false, w[h].y, old[2 * h + 1]);
        }
    }
}
template <sink TO>
static __device__ TAUT_NOINLINE void blocks_of_any(const taut__cuda_batch &batch, const decode_task &k, uint32_t from,
                                                   uint32_t to, uint32_t shape, const uint64_t *plane)
{
    blocks_of_planes<TO, false, 1>(batch, k, from, to, shape, plane);
}

/* start: low 16 bits of where bodies of `window` begin. plane: the warp's own. false, in all lanes: malformed */
template <sink TO>
static __device__ __forceinline__ bool decode_blocks(const taut__cuda_batch &batch, const decode_task &k,
                                                     const uint32_t *ring, const uint8_t *cls, const uint16_t *start,
                                                     uint32_t window, uint32_t from, uint32_t to, uint64_t *plane)
{
    __syncwarp(); /* the planes before are done with */
    uint32_t mine = from + TAUT_LANE, kind = mine < to ? cls[mine] : (uint32_t)GRID_ZERO, base = window * SPAN * 32,
             pos = mine < to ? base + (uint16_t)(start[mine] - base) : 0,
             shape = lane_read(ring, pos, kind, plane + TAUT_LANE), bad = __ballot_sync(TAUT_ALL, shape == MALFORMED),
             whole = __ballot_sync(TAUT_ALL, shape == BY_WARP);
    bool good = bad == 0;
    if (good && (TO == CODES || is_fast(batch, k)))
        blocks_of_planes<TO, true, TO == ADD ? TOGETHER / 2 : TOGETHER>(batch, k, from, to, shape, plane);
    else if (good) blocks_of_any<TO>(batch, k, from, to, shape, plane);
    for (; whole && good; whole &= whole - 1) {
        int of = __ffs((int)whole) - 1;
        good = decode_by_warp<TO>(batch, k, from + (uint32_t)of, __shfl_sync(TAUT_ALL, pos, of),
                                  __shfl_sync(TAUT_ALL, kind, of));
    }
    return good;
}

/* The chunk of a task whose unit, elements and destination are known: bytes from src. All D_THREADS threads; false in the warps that saw
 * something malformed. */
template <sink TO>
static __device__ inline bool decode_chunk(const taut__cuda_batch &batch, decode_task *k, const uint8_t *src,
                                           uint32_t bytes)
{
    TAUT_SHARED(uint32_t, ring, RING + MORE);
    TAUT_SHARED(uint64_t, planes, (D_WARPS - 1) * TAUT_WARP * (PLANES + 1));
    TAUT_SHARED(uint16_t, start, GRID_CHUNK_BLOCKS);
    TAUT_SHARED(uint8_t, cls, GRID_CHUNK_BLOCKS + 4);
    TAUT_SHARED(walk_state, walked, 2);
    uint32_t skip = (uint32_t)((uintptr_t)src & 15), warp = threadIdx.x / TAUT_WARP, done = 0;
    uint32_t blocks = (k->n + GRID_BLOCK - 1) / GRID_BLOCK;
    int64_t  body = spread_classes(src + bytes, bytes, blocks, cls);
    bool     good = true;
    if (body < 0) return false;
    if (threadIdx.x == 0) {
        chunk_bits c = {src - skip, src + bytes, 8 * skip, 8 * (uint32_t)(skip + body)};
        walk_state s = {0, c.from, false};
        k->c = c, k->blocks = blocks, walked[1] = s;
    }
    __syncthreads();
    stage_window(k->c, 0, ring, threadIdx.x, D_THREADS);
    stage_window(k->c, 1, ring, threadIdx.x, D_THREADS);
    __syncthreads();
    for (uint32_t window = 0; done < k->blocks && !walked[(window + 1) % 2].bad; window++) {
        uint32_t to = walked[(window + 1) % 2].block;
        if (threadIdx.x == 0)
            walked[window % 2] = walk_window(k->c, ring, cls, k->blocks, window, start, walked[(window + 1) % 2]);
        if (warp > 0) {
            TAUT_ROLLED
            for (uint32_t b = done + TAUT_WARP * (warp - 1); good && b < to; b += TAUT_WARP * (D_WARPS - 1))
                good = decode_blocks<TO>(batch, *k, ring, cls, start, window - 1, b, min(b + TAUT_WARP, to),
                                         planes + (warp - 1) * TAUT_WARP * (PLANES + 1));
            stage_window(k->c, window + 2, ring, threadIdx.x - TAUT_WARP, D_THREADS - TAUT_WARP);
        }
        done = to;
        __syncthreads();
    }
    return good && done == k->blocks;
}

#endif
