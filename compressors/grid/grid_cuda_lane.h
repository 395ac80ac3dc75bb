/* grid_cuda_lane.h : blocks of 64 integers on a GPU, a lane for each: the code `packed` of grid_block.h, written from bit planes in shared
 * memory. Used by grid_cuda_encode.h. */
#ifndef TAUT_GRID_CUDA_LANE_H
#define TAUT_GRID_CUDA_LANE_H

#include "grid_cuda_chunk.h"

enum {
    E_PLANES = 7,   /* of magnitudes; signs behind them */
    E_LARGE = 0x80, /* a block that lanes leave to the warp */
};

/* What a lane knows of its block: class, low planes, planes in all or E_LARGE, bits of the body. */
struct lane_shape {
    uint32_t cls, r, planes, bits;
};
/* The parts of h = |q| >> r: its three low planes, and where it is 8 or more. */
struct lane_levels {
    uint64_t                            one, two, four, more;
    __device__ __forceinline__ uint64_t least(uint32_t h) const /* 1..8 */
    {
        uint64_t low = one | two, high = four | more;
        switch (h) {
        case 1: return low | high;
        case 2: return two | high;
        case 3: return (one & two) | high;
        case 4: return high;
        case 5: return (four & low) | more;
        case 6: return (four & two) | more;
        case 7: return (four & two & one) | more;
        default: return more;
        }
    }
};
static __device__ __forceinline__ lane_levels levels_of(const uint64_t *plane, uint32_t planes, uint32_t r)
{
    lane_levels l = {r < planes ? plane[TAUT_WARP * r] : 0, r + 1 < planes ? plane[TAUT_WARP * (r + 1)] : 0,
                     r + 2 < planes ? plane[TAUT_WARP * (r + 2)] : 0, 0};
    TAUT_ROLLED
    for (uint32_t p = r + 3; p < planes; p++) l.more |= plane[TAUT_WARP * p];
    return l;
}
static __device__ __forceinline__ uint32_t level_at(const uint64_t *plane, uint32_t planes, uint32_t r, uint32_t i)
{
    uint32_t h = 0;
    TAUT_ROLLED
    for (uint32_t p = r; p < planes; p++) h |= (uint32_t)(plane[TAUT_WARP * p] >> i & 1) << (p - r);
    return h;
}

static __device__ __forceinline__ lane_shape shape_of(const uint64_t *plane, uint32_t planes)
{
    lane_shape s = {GRID_ZERO, 0, planes, 0};
    uint64_t   nz = 0;
    uint32_t   sum = 0;
    unsigned   r;
    TAUT_ROLLED
    for (uint32_t p = 0; p < planes; p++) {
        nz |= plane[TAUT_WARP * p];
        sum += grid_count_bits(plane[TAUT_WARP * p]) << p;
    }
    s.cls = grid_class_of(nz, sum, &r);
    s.r = r;
    if (s.cls == GRID_ZERO) return s;
    lane_levels l = levels_of(plane, planes, r);
    s.bits = 64 * r + grid_count_bits(nz);
    if (s.cls < GRID_H4) s.bits += 6 * grid_count_bits(nz);
    else if (s.cls == GRID_H4) s.bits += 16 + 4 * grid_count_bits(grid_groups(nz));
    else s.bits += 64;
    TAUT_ROLLED
    for (uint32_t h = 1; h < GRID_LEVELS; h++) {
        uint64_t map = l.least(h);
        if (!map) break;
        s.bits += grid_count_bits(map);
    }
    TAUT_ROLLED
    for (uint64_t map = l.more; map; map &= map - 1)
        s.bits += grid_escape_bits(level_at(plane, planes, r, grid_low_bit(map)));
    return s;
}

/* A lane's bit string: ORed into `words` words, zero before. */
struct lane_writer {
    uint32_t                       *window;
    uint32_t                        words, at, n; /* n: bits of acc */
    uint64_t                        acc;
    __device__ __forceinline__ void put32(uint32_t v, uint32_t bits) /* 0..32 */
    {
        acc |= (uint64_t)v << n;
        n += bits;
        if (n < 32) return;
        if (at < words) atomicOr(&window[at], (uint32_t)acc);
        at = (at + 1) & GRID_WORDS;
        acc >>= 32;
        n -= 32;
    }
    __device__ __forceinline__ void put(uint64_t v, uint32_t bits) /* 0..64 */
    {
        put32((uint32_t)v, min(bits, 32u));
        if (bits > 32) put32((uint32_t)(v >> 32), bits - 32);
    }
    __device__ __forceinline__ void end()
    {
        if (n && at < words) atomicOr(&window[at], (uint32_t)acc);
    }
};

static __device__ __forceinline__ uint64_t lane_pext(uint64_t v, uint64_t mask)
{
    uint32_t lo = (uint32_t)mask, hi = (uint32_t)(mask >> 32), n = (uint32_t)__popc(lo), out_lo = 0, out_hi = 0;
    TAUT_ROLLED
    for (uint32_t bit = 1; lo | hi; bit <<= 1) {
        uint32_t a = lo & (0u - lo), b = hi & (0u - hi);
        if ((uint32_t)v & a) out_lo |= bit;
        if ((uint32_t)(v >> 32) & b) out_hi |= bit;
        lo ^= a, hi ^= b;
    }
    return out_lo | (uint64_t)out_hi << n;
}

static __device__ __forceinline__ void lane_map(lane_writer *w, const lane_shape &s, uint64_t nz, uint64_t map)
{
    uint64_t v = 0;
    uint32_t bits = 0;
    if (s.cls >= GRID_R0) {
        v = map, bits = 64;
    } else if (s.cls < GRID_H4) {
        TAUT_ROLLED
        for (uint64_t m = nz; m; m &= m - 1, bits += 6) v |= (uint64_t)grid_low_bit(m) << bits;
    } else {
        uint64_t groups = grid_groups(nz);
        w->put32((uint32_t)grid_pack_groups(groups), 16);
        TAUT_ROLLED
        for (; groups; groups &= groups - 1, bits += 4) v |= (nz >> grid_low_bit(groups) & 15) << bits;
    }
    w->put(v, bits);
}
/* The body of a block that is not zero, raw or large. */
static __device__ inline void lane_body(lane_writer *w, const lane_shape &s, const uint64_t *plane)
{
    lane_levels l = levels_of(plane, s.planes, s.r);
    uint64_t    map = l.least(1), nz = map;
    TAUT_ROLLED
    for (uint32_t p = 0; p < s.r; p++) {
        uint64_t m = plane[TAUT_WARP * p];
        w->put(m, 64);
        nz |= m;
    }
    lane_map(w, s, nz, map);
    TAUT_ROLLED
    for (uint32_t h = 2; h <= GRID_LEVELS && map; h++) {
        uint64_t next = l.least(h);
        w->put(lane_pext(next, map), grid_count_bits(map));
        map = next;
    }
    TAUT_ROLLED
    for (; map; map &= map - 1) {
        uint32_t v = level_at(plane, s.planes, s.r, grid_low_bit(map)) - GRID_LEVELS + 1;
        uint32_t len = (uint32_t)grid_bitlen(v) - 1;
        w->put32(len | (v & ~(1u << len)) << 5, 5 + len);
    }
    w->put(lane_pext(plane[TAUT_WARP * E_PLANES], nz), grid_count_bits(nz));
}

#endif
