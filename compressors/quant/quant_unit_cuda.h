/* quant_unit_cuda.h : a bucket's metadata, the codes of a tile, and where its elements come from, on a GPU. Of quant_cuda.cu; uniform levels only. */
#ifndef TAUT_QUANT_UNIT_CUDA_H
#define TAUT_QUANT_UNIT_CUDA_H

#include "quant_cuda.h"

/* ---- floats in memory ---- */

/* EVEN: as bucket_place's, so all eight lie before `end` or none. i is this lane's place(). */
template <bool EVEN>
static __device__ __forceinline__ eight load8(const void *p, taut_dtype d, uint64_t i, uint64_t end)
{
    float4 a = make_float4(0, 0, 0, 0), b = a;
    if (!EVEN) {
        a = taut_load4_as(p, d, i, end);
        b = taut_load4_as(p, d, i + 32, end);
    } else if (i < end && d == TAUT_F32) {
        const float4 *from = (const float4 *)((const float *)p + i);
        a = from[0], b = from[8];
    } else if (i < end) {
        const ushort4 *from = (const ushort4 *)((const uint16_t *)p + i);
        a = taut_from_half(from[0], d), b = taut_from_half(from[8], d);
    }
    eight x = {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
    return x;
}
template <bool EVEN>
static __device__ __forceinline__ void store8(void *p, taut_dtype d, uint64_t i, uint64_t end, const eight &x)
{
    float4 a = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]), b = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
    if (!EVEN) {
        taut_store4_as(p, d, i, end, a);
        taut_store4_as(p, d, i + 32, end, b);
    } else if (i < end && d == TAUT_F32) {
        float4 *to = (float4 *)((float *)p + i);
        to[0] = a, to[8] = b;
    } else if (i < end) {
        ushort4 *to = (ushort4 *)((uint16_t *)p + i);
        to[0] = taut_to_half(a, d), to[8] = taut_to_half(b, d);
    }
}

/* ---- a bucket's metadata ---- */

/* NaN where one of the two is NaN */
static __device__ __forceinline__ float least(float a, float b)
{
#if defined(__CUDA_ARCH__)
    float r;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
#else
    return a != a ? a : b != b ? b : fminf(a, b);
#endif
}

struct seen {      /* by one lane, over the tiles of a bucket */
    float  lo, hi; /* lo: NaN where there was one */
    double sum2;   /* l2 only: element i of the bucket in lane i mod 32 */
};
static __device__ __forceinline__ seen nothing_seen()
{
    seen s = {INFINITY, -INFINITY, 0};
    return s;
}
static __device__ __forceinline__ void see_squares(seen *s, const eight &x, uint32_t tile, uint32_t m)
{
    TAUT_UNROLL
    for (uint32_t part = 0; part < TILE / 32; part++) { /* 32 elements, from the lanes that hold them */
        float mine = 0;
        TAUT_UNROLL
        for (uint32_t k = 0; k < 4; k++) {
            float v = __shfl_sync(TAUT_ALL, x.v[part % 2 * 4 + k], (int)(part / 2 * 8 + TAUT_LANE / 4));
            if (TAUT_LANE % 4 == k) mine = v;
        }
        if (tile * TILE + part * 32 + TAUT_LANE < m) s->sum2 += taut__square(mine);
    }
}
/* m: elements of the bucket */
template <bool EVEN>
static __device__ __forceinline__ void see(seen *s, quant_norm norm, const eight &x, uint32_t tile, uint32_t m)
{
    if (place(tile) < m) {
        TAUT_UNROLL
        for (uint32_t k = 0; k < 8; k++)
            if (EVEN || place_of(tile, k) < m) s->lo = least(s->lo, x.v[k]), s->hi = fmaxf(s->hi, x.v[k]);
    }
    if (norm == QUANT_L2) see_squares(s, x, tile, m);
}
/* The bucket's unit, the same in all lanes. */
static __device__ __forceinline__ void settle(const quant_params &p, const seen &s, quant_bucket *b)
{
    float lo = taut_unordered(__reduce_min_sync(TAUT_ALL, taut_ordered(s.lo))),
          hi = taut_unordered(__reduce_max_sync(TAUT_ALL, taut_ordered(s.hi)));
    bool   ordered = !__any_sync(TAUT_ALL, s.lo != s.lo);
    double sum2 = p.norm == QUANT_L2 ? __shfl_sync(TAUT_ALL, taut_warp_sum(s.sum2), 0) : 0;
    quant_meta_of(&p, ordered, lo, hi, sum2, b->meta);
    quant_understand(&p, b);
    b->unit.inv = quant_inverse(b);
}

static __device__ __forceinline__ void put_meta(const quant_params &p, const quant_bucket &b, const bucket_place &w)
{
    uint32_t *meta = (uint32_t *)(w.j->payload + QUANT_HEADER + w.k * quant_meta_bytes(p.norm));
    if (TAUT_LANE != 0) return;
    meta[0] = __float_as_uint(b.meta[0]);
    if (p.norm == QUANT_MAXMIN) meta[1] = __float_as_uint(b.meta[1]);
    if (b.kind == QUANT_VOID) taut_flag(w.j, TAUT__CUDA_NOT_FINITE);
}
static __device__ __forceinline__ quant_bucket get_meta(const quant_params &p, const uint8_t *payload, uint64_t k)
{
    const uint32_t *meta = (const uint32_t *)(payload + QUANT_HEADER + k * quant_meta_bytes(p.norm));
    quant_bucket    b;
    b.unit = quant_unit_for(&p);
    b.meta[0] = __uint_as_float(meta[0]);
    b.meta[1] = p.norm == QUANT_MAXMIN ? __uint_as_float(meta[1]) : 0;
    quant_understand(&p, &b);
    return b;
}

/* ---- codes of a tile ---- */

/* r of this lane's elements k and k + 4, in the halves of a word */
static __device__ __forceinline__ uint32_t randoms(const quant_unit &u, uint32_t tile, uint32_t k)
{
    if (!u.stochastic) return 0x80008000u;
    return taut__random32(u.rng, u.counter + tile * (TILE / 2) + TAUT_LANE / 8 * 32 + TAUT_LANE % 8 * 4 + k);
}
/* quant_code() times 65536 and more: the code is byte 2. The device's own conversion rounds half to even as well. Lanes beyond a tile's elements
 * hold 0, which may lie far outside of the bucket: the sum wraps there, and nobody takes the code. */
static __device__ __forceinline__ uint32_t code_of(const quant_unit &u, float x, uint32_t r)
{
    return (uint32_t)__viaddmin_s32_relu(__float2int_rn((x - u.base) * u.inv), (int)r, (int)(u.top << 16 | 0xffff));
}
static __device__ __forceinline__ uint32_t pack4(const uint32_t *v)
{
    return __byte_perm(__byte_perm(v[0], v[1], 0x0062), __byte_perm(v[2], v[3], 0x0062), 0x5410);
}
static __device__ __forceinline__ octet codes_for(const quant_unit &u, const eight &x, uint32_t tile)
{
    uint32_t v[8];
    TAUT_UNROLL
    for (uint32_t k = 0; k < 4; k++) {
        uint32_t r = randoms(u, tile, k);
        v[k] = code_of(u, x.v[k], r & 0xffff);
        v[k + 4] = code_of(u, x.v[k + 4], r >> 16);
    }
    octet c = {pack4(v), pack4(v + 4)};
    return c;
}

static __device__ __forceinline__ float value_of(const quant_unit &u, octet c, uint32_t k)
{
    return u.base + code_at(c, k) * u.step;
}
/* acc + value as decode_add makes it, of a bucket of any kind: void ones replace. Or, without `add`, as decode stores it: wide values are
 * 0 + value, which knows no -0. */
static __device__ __forceinline__ void add_values(const quant_params &p, const quant_bucket &b, octet c, bool add,
                                                  eight *acc)
{
    if (b.kind == QUANT_PLAIN) {
        TAUT_UNROLL
        for (uint32_t k = 0; k < 8; k++) acc->v[k] = add ? acc->v[k] + value_of(b.unit, c, k) : value_of(b.unit, c, k);
        return;
    }
    quant_exact e = quant_exact_unit(&p, &b);
    eight       x = *acc;
    TAUT_ROLLED
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t q = (k < 4 ? c.lo : c.hi) >> 8 * (k % 4) & 0xff;
        float    before = add ? x.v[k] : 0;
        x.v[k] = b.kind == QUANT_WIDE ? before + quant_exact_value(&b.unit, &e, q) : taut__float(QUANT_NAN);
    }
    *acc = x;
}

/* ---- where x comes from: N tiles from the t-th on ---- */

struct from_memory {
    taut_dtype dtype;
    template <int N, bool EVEN>
    __device__ __forceinline__ void tiles(const quant_params &, const bucket_place &w, uint32_t t, eight *x) const
    {
        uint64_t end = w.at + w.m;
        eight    r[N];
        TAUT_UNROLL
        for (uint32_t i = 0; i < N; i++) x[i] = load8<EVEN>(w.j->src, dtype, w.at + place(t + i), end);
        if (!w.j->residual) return;
        TAUT_UNROLL
        for (uint32_t i = 0; i < N; i++) r[i] = load8<EVEN>(w.j->residual, TAUT_F32, w.at + place(t + i), end);
        TAUT_UNROLL
        for (uint32_t i = 0; i < N; i++)
            for (uint32_t k = 0; k < 8; k++) x[i].v[k] = r[i].v[k] + x[i].v[k];
    }
};
struct from_peers { /* the sum of payloads, and of src before them */
    taut_dtype dtype;
    uint32_t   peers;
    float      factor;
    template <int N, bool EVEN>
    __device__ __forceinline__ void tiles(const quant_params &p, const bucket_place &w, uint32_t t, eight *x) const
    {
        TAUT_UNROLL
        for (uint32_t i = 0; i < N; i++) {
            for (uint32_t k = 0; k < 8; k++) x[i].v[k] = 0;
            if (w.j->src) x[i] = load8<EVEN>(w.j->src, dtype, w.at + place(t + i), w.at + w.m);
        }
        for (uint32_t peer = 0; peer < peers; peer++) {
            const uint8_t *payload = w.j->peers[peer], *codes = payload + w.codes_at + w.at / 8 * p.bits;
            plane_words    words[N];
            TAUT_UNROLL
            for (uint32_t i = 0; i < N; i++) words[i] = fetch_tile(p.bits, t + i, w.m, codes);
            quant_bucket b = get_meta(p, payload, w.k);
            bool         add = peer > 0 || w.j->src;
            TAUT_UNROLL
            for (uint32_t i = 0; i < N; i++) {
                octet c = codes_of(p.bits, words[i]);
                if (!EVEN && w.m % 64) get_tail(p.bits, t + i, w.m, codes, &c);
                add_values(p, b, c, add, &x[i]);
            }
        }
        if (factor == 1) return;
        TAUT_UNROLL
        for (uint32_t i = 0; i < N; i++)
            for (uint32_t k = 0; k < 8; k++) x[i].v[k] *= factor;
    }
};

#endif
