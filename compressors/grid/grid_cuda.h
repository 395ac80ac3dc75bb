/* grid_cuda.h : blocks of 64 integers on a GPU, a warp for each: the code `packed` of grid_block.h with one bit plane per ballot.
 * Lane l holds the elements l and l + 32. Used by grid_cuda.cu and grid_rans_cuda.cu. */
#ifndef TAUT_GRID_CUDA_H
#define TAUT_GRID_CUDA_H

#include "../cuda/cuda_kernel.h"
#include "grid_rans.h"
#include <float.h>

#define GRID_HUGE_STEP 0x1p90f /* grid_payload.h */

/* A block of codes as a warp holds it. */
struct grid_warp_block {
    uint32_t a, b; /* magnitudes of elements lane and lane + 32 */
    uint64_t sign; /* the same in all lanes, as all masks here */
};

static __device__ __forceinline__ uint64_t grid_vote(bool a, bool b)
{
    uint64_t lo = __ballot_sync(TAUT_ALL, a), hi = __ballot_sync(TAUT_ALL, b);
    return lo | hi << 32;
}
static __device__ __forceinline__ bool grid_bit_a(uint64_t m) { return (uint32_t)m >> TAUT_LANE & 1; }
static __device__ __forceinline__ bool grid_bit_b(uint64_t m) { return (uint32_t)(m >> 32) >> TAUT_LANE & 1; }
/* How many bits of the mask lie before each of the lane's elements. */
static __device__ __forceinline__ uint32_t grid_rank_a(uint64_t m)
{
    return (uint32_t)__popc((uint32_t)m & TAUT_LANES_LT);
}
static __device__ __forceinline__ uint32_t grid_rank_b(uint64_t m)
{
    return (uint32_t)__popc((uint32_t)m) + (uint32_t)__popc((uint32_t)(m >> 32) & TAUT_LANES_LT);
}
static __device__ __forceinline__ uint64_t grid_or(uint64_t v)
{
    uint64_t lo = __reduce_or_sync(TAUT_ALL, (uint32_t)v), hi = __reduce_or_sync(TAUT_ALL, (uint32_t)(v >> 32));
    return lo | hi << 32;
}
static __device__ __forceinline__ uint64_t grid_warp_pext(uint64_t v, uint64_t mask)
{
    uint64_t mine = 0;
    if (grid_bit_a(v & mask)) mine |= UINT64_C(1) << grid_rank_a(mask);
    if (grid_bit_b(v & mask)) mine |= UINT64_C(1) << grid_rank_b(mask);
    return grid_or(mine);
}
static __device__ __forceinline__ uint64_t grid_warp_pdep(uint64_t v, uint64_t mask)
{
    return grid_vote(grid_bit_a(mask) && (v >> (grid_rank_a(mask) & 63) & 1),
                     grid_bit_b(mask) && (v >> (grid_rank_b(mask) & 63) & 1));
}
static __device__ __forceinline__ uint64_t grid_warp_sum(uint32_t a, uint32_t b)
{
    uint64_t lo = __reduce_add_sync(TAUT_ALL, (a & 0xffff) + (b & 0xffff)),
             hi = __reduce_add_sync(TAUT_ALL, (a >> 16) + (b >> 16));
    return lo + (hi << 16);
}

/* ---- bit strings ---- */

/* Sixty-four bits of a string of bytes at any address, from bit `pos` on; what lies at or beyond its end reads as anything.
 * Reads aligned words, none of which begins at or after `end`. */
static __device__ __forceinline__ uint64_t grid_bits_at(const uint8_t *src, const uint8_t *end, uint64_t pos)
{
    const uint8_t  *byte = src + (pos >> 3);
    const uint32_t *w = (const uint32_t *)((uintptr_t)byte & ~(uintptr_t)3);
    uint32_t        shift = (uint32_t)((uintptr_t)byte & 3) * 8 + (uint32_t)(pos & 7);
    uint32_t        w0 = (const uint8_t *)w < end ? w[0] : 0, w1 = (const uint8_t *)(w + 1) < end ? w[1] : 0,
             w2 = shift && (const uint8_t *)(w + 2) < end ? w[2] : 0;
    return (uint64_t)__funnelshift_r(w0, w1, shift) | (uint64_t)__funnelshift_r(w1, w2, shift) << 32;
}
static __device__ __forceinline__ uint64_t grid_low(uint64_t v, uint32_t bits) /* bits 1..64 */
{
    return v & (~UINT64_C(0) >> (64 - bits));
}

/* A string that a block is reading: all lanes hold the same. */
struct grid_warp_reader {
    const uint8_t *src, *end;
    uint64_t       pos;
};
static __device__ __forceinline__ uint64_t grid_take(grid_warp_reader *r, uint32_t bits) /* 1..64 */
{
    uint64_t v = grid_low(grid_bits_at(r->src, r->end, r->pos), bits);
    r->pos += bits;
    return v;
}

/* Numbers of words wrap, so that those before a window are large. */
enum { GRID_WORDS = (1 << 27) - 1 };

/* ORs the `bits` low bits of v into a string in shared memory, which is zero there, as far as it lies in its `words` words. All lanes call;
 * three of them work. */
static __device__ __forceinline__ void grid_warp_put(uint32_t *window, uint32_t *pos, uint64_t v, uint32_t bits,
                                                     uint32_t words = GRID_WORDS)
{
    uint32_t lane = TAUT_LANE, at = (*pos / 32 + lane) & GRID_WORDS, s = *pos % 32;
    uint32_t piece = lane == 0        ? (uint32_t)(v << s)
                     : lane == 1      ? (uint32_t)(v >> (32 - s))
                     : lane == 2 && s ? (uint32_t)(v >> 32 >> (32 - s))
                                      : 0;
    if (lane < 3 && piece && at < words) atomicOr(&window[at], piece);
    *pos += bits;
}

/* ---- encoding ---- */

/* What a block takes: its class and the bits of its body; r: low planes */
struct grid_shape_of {
    uint32_t cls, r, bits;
};

static __device__ __forceinline__ uint32_t grid_escape_bits(uint32_t h)
{
    return h < GRID_LEVELS ? 0 : 4 + (uint32_t)grid_bitlen(h - GRID_LEVELS + 1);
}

static __device__ __forceinline__ grid_shape_of grid_warp_shape(const grid_warp_block &k)
{
    grid_shape_of s;
    uint64_t      nz = grid_vote(k.a != 0, k.b != 0), sum = grid_warp_sum(k.a, k.b);
    unsigned      r;
    s.cls = grid_class_of(nz, sum, &r);
    s.r = r;
    s.bits = 0;
    if (s.cls == GRID_ZERO) return s;
    uint32_t a = k.a >> r, b = k.b >> r;
    uint32_t both =
        __reduce_add_sync(TAUT_ALL, min(a, 7u) + min(b, 7u) + ((grid_escape_bits(a) + grid_escape_bits(b)) << 16));
    s.bits = (s.cls == GRID_WIDE ? 5 : 0) + 64 * r + (both & 0xffff) + (both >> 16) + grid_count_bits(nz);
    if (s.cls < GRID_H4) s.bits += 6 * grid_count_bits(nz);
    else if (s.cls == GRID_H4) s.bits += 16 + 4 * grid_count_bits(grid_groups(nz));
    else s.bits += 64;
    return s;
}

/* Every fourth bit of a map of groups, as 16 bits; and back. */
static __device__ __forceinline__ uint64_t grid_pack_groups(uint64_t g)
{
    g = (g | g >> 3) & 0x0303030303030303u;
    g = (g | g >> 6) & 0x000f000f000f000fu;
    g = (g | g >> 12) & 0x000000ff000000ffu;
    return (g | g >> 24) & 0xffffu;
}
static __device__ __forceinline__ uint64_t grid_unpack_groups(uint64_t g)
{
    g = (g | g << 24) & 0x000000ff000000ffu;
    g = (g | g << 12) & 0x000f000f000f000fu;
    g = (g | g << 6) & 0x0303030303030303u;
    return (g | g << 3) & GRID_GROUPS;
}

/* The body of a block that is neither zero nor raw, into the window from *pos on: grid_block_put() by a warp. */
static __device__ inline void grid_warp_body(const grid_warp_block &k, grid_shape_of s, uint32_t *window, uint32_t *pos,
                                             uint32_t words = GRID_WORDS)
{
    uint64_t nz = grid_vote(k.a != 0, k.b != 0);
    uint32_t a = k.a >> s.r, b = k.b >> s.r;
    if (s.cls == GRID_WIDE) grid_warp_put(window, pos, s.r, 5, words);
    for (uint32_t p = 0; p < s.r; p++) grid_warp_put(window, pos, grid_vote(k.a >> p & 1, k.b >> p & 1), 64, words);
    uint64_t map = s.r ? grid_vote(a != 0, b != 0) : nz;
    if (s.cls < GRID_H4) {
        uint64_t mine = 0;
        if (grid_bit_a(nz)) mine |= (uint64_t)TAUT_LANE << 6 * grid_rank_a(nz);
        if (grid_bit_b(nz)) mine |= (uint64_t)(TAUT_LANE + 32) << 6 * grid_rank_b(nz);
        grid_warp_put(window, pos, grid_or(mine), 6 * grid_count_bits(nz), words);
    } else if (s.cls == GRID_H4) {
        uint64_t g = grid_groups(nz);
        grid_warp_put(window, pos, grid_pack_groups(g), 16, words);
        grid_warp_put(window, pos, grid_warp_pext(nz, g * 15), 4 * grid_count_bits(g), words);
    } else {
        grid_warp_put(window, pos, map, 64, words);
    }
    for (uint32_t h = 2; h <= GRID_LEVELS && map; h++) {
        uint64_t next = grid_vote(a >= h, b >= h);
        grid_warp_put(window, pos, grid_warp_pext(next, map), grid_count_bits(map), words);
        map = next;
    }
    for (; map; map &= map - 1) {
        uint32_t i = grid_low_bit(map), h = __shfl_sync(TAUT_ALL, i < 32 ? a : b, (int)(i % 32)),
                 v = h - GRID_LEVELS + 1;
        uint32_t len = (uint32_t)grid_bitlen(v) - 1;
        grid_warp_put(window, pos, len | (uint64_t)(v & ~(1u << len)) << 5, 5 + len, words);
    }
    grid_warp_put(window, pos, grid_warp_pext(k.sign, nz), grid_count_bits(nz), words);
}

/* The 64 floats of a raw block: 5 bits of r = 31, then the lanes' words. */
static __device__ inline void grid_warp_raw(float a, float b, uint32_t *window, uint32_t *pos,
                                            uint32_t words = GRID_WORDS)
{
    grid_warp_put(window, pos, GRID_RAW, 5, words);
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t bit = *pos + 32 * (TAUT_LANE + 32 * half), v = __float_as_uint(half ? b : a), at = bit / 32,
                 next = (at + 1) & GRID_WORDS;
        if (v << bit % 32 && at < words) atomicOr(&window[at], v << bit % 32);
        if (bit % 32 && v >> (32 - bit % 32) && next < words) atomicOr(&window[next], v >> (32 - bit % 32));
    }
    *pos += 64 * 32;
}

/* ---- decoding ---- */

/* A block of any class but ZERO and RUN. false: malformed, in all lanes. raw: it held floats, in k->a and k->b. */
static __device__ inline bool grid_warp_read(grid_warp_reader *rd, uint32_t cls, grid_warp_block *k, bool *raw)
{
    uint32_t r = cls >= GRID_R0 ? cls - GRID_R0 : 0;
    k->a = k->b = 0;
    k->sign = 0;
    *raw = false;
    if (cls == GRID_WIDE) {
        r = (uint32_t)grid_take(rd, 5);
        if (r < 8) return false;
        if (r == GRID_RAW) {
            *raw = true;
            k->a = (uint32_t)grid_bits_at(rd->src, rd->end, rd->pos + 32 * TAUT_LANE);
            k->b = (uint32_t)grid_bits_at(rd->src, rd->end, rd->pos + 32 * (TAUT_LANE + 32));
            rd->pos += 64 * 32;
            return true;
        }
    }
    for (uint32_t p = 0; p < r; p++) {
        uint64_t plane = grid_take(rd, 64);
        k->a |= (uint32_t)grid_bit_a(plane) << p;
        k->b |= (uint32_t)grid_bit_b(plane) << p;
    }
    uint64_t map;
    if (cls < GRID_H4) {
        uint32_t count = cls - GRID_P1 + 1;
        uint64_t v = grid_take(rd, 6 * count);
        map = 0;
        for (uint32_t i = 0; i < count; i++) map |= UINT64_C(1) << (v >> 6 * i & 63);
        if (grid_count_bits(map) != count) return false;
    } else if (cls == GRID_H4) {
        uint64_t groups = grid_unpack_groups(grid_take(rd, 16)) * 15;
        if (!groups) return false;
        map = grid_warp_pdep(grid_take(rd, grid_count_bits(groups)), groups);
    } else {
        map = grid_take(rd, 64);
    }
    if (r == 0 && map == 0) return false;
    k->a += (uint32_t)grid_bit_a(map) << r;
    k->b += (uint32_t)grid_bit_b(map) << r;
    for (uint32_t h = 2; h <= GRID_LEVELS && map; h++) {
        map = grid_warp_pdep(grid_take(rd, grid_count_bits(map)), map);
        k->a += (uint32_t)grid_bit_a(map) << r;
        k->b += (uint32_t)grid_bit_b(map) << r;
    }
    for (; map; map &= map - 1) {
        uint32_t i = grid_low_bit(map), len = (uint32_t)grid_take(rd, 5), low = (1u << r) - 1;
        uint64_t h = (UINT64_C(1) << len | (len ? grid_take(rd, len) : 0)) + GRID_LEVELS - 1;
        if (h << r > INT32_MAX) return false;
        if (i == TAUT_LANE) k->a = (uint32_t)(h << r) | (k->a & low);
        if (i == TAUT_LANE + 32) k->b = (uint32_t)(h << r) | (k->b & low);
    }
    if (__any_sync(TAUT_ALL, k->a > INT32_MAX || k->b > INT32_MAX)) return false;
    uint64_t nz = grid_vote(k->a != 0, k->b != 0);
    if (nz == 0) return false;
    k->sign = grid_warp_pdep(grid_take(rd, grid_count_bits(nz)), nz);
    return true;
}
static __device__ __forceinline__ int32_t grid_code_a(const grid_warp_block &k)
{
    return grid_bit_a(k.sign) ? -(int32_t)k.a : (int32_t)k.a;
}
static __device__ __forceinline__ int32_t grid_code_b(const grid_warp_block &k)
{
    return grid_bit_b(k.sign) ? -(int32_t)k.b : (int32_t)k.b;
}

/* ---- units: step and scale of an element ---- */

struct grid_warp_unit {
    float        step, inv, bias;
    const float *scale;
    uint64_t     stride, first;
    bool         divide,
        huge; /* divide: by the unit, whose reciprocal may be infinite or differs; huge: values are kept finite */
    __device__ __forceinline__ float at(uint64_t i) const /* i: element of the job */
    {
        if (stride == 0) return step;
        return step * scale[stride == 1 ? first + i : (first + i) / stride];
    }
    /* |x| in units, plus the bias: what is truncated */
    __device__ __forceinline__ float level(float x, float d) const
    {
        return (divide ? fabsf(x) / d : fabsf(x) * inv) + bias;
    }
};
static __device__ __forceinline__ float grid_step_of(const taut__cuda_job *j) { return j->step ? *j->step : j->given; }
static __device__ __forceinline__ bool  grid_is_raw(const taut__cuda_job *j) { return j->raw && *j->raw; }
static __device__ __forceinline__ grid_warp_unit grid_unit_at(const taut__cuda_job *j, float step, bool huge,
                                                              float factor, float bias)
{
    grid_warp_unit u = {
        step * factor, 0, bias, j->scale, j->scale ? j->stride : 0, j->first, false, huge && step >= GRID_HUGE_STEP};
    if (j->scale && j->stride == 0) u.step *= j->scale[0];
    u.divide = u.stride != 0 || u.step < FLT_MIN;
    u.inv = 1.0f / u.step;
    return u;
}
static __device__ __forceinline__ grid_warp_unit grid_unit_of(const taut__cuda_job *j, float factor, float bias)
{
    return grid_unit_at(j, grid_step_of(j), true, factor, bias);
}
/* Of a payload whose header has been looked at: its own step, where none was agreed. */
static __device__ __forceinline__ grid_warp_unit grid_unit_of_payload(const taut__cuda_job *j)
{
    return grid_unit_at(j, j->step ? *j->step : __uint_as_float(((const uint32_t *)j->payload)[1]), j->step != NULL, 1,
                        0);
}
/* With steps near the largest float the code above a finite value may stand for an infinite one: it stands for the largest then. */
static __device__ __forceinline__ float grid_finite(const grid_warp_unit &u, float v)
{
    return u.huge && (taut__bits(v) & 0x7fffffff) == 0x7f800000 ? copysignf(FLT_MAX, v) : v;
}

#endif
