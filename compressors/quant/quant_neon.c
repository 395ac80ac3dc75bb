/* quant_neon.c : a group of 64 is sixteen vectors of floats and four of codes; weights and pairwise adds make planes. */
#include "quant_codes.h"
#include <arm_neon.h>

static bool range(const float *x, size_t n, float *min, float *max)
{
    size_t      full = n - n % QUANT_GROUP;
    float32x4_t lo[4], hi[4]; /* NaN stays: vminq and vmaxq give NaN where either operand is */
    for (int k = 0; k < 4; k++) lo[k] = hi[k] = vdupq_n_f32(x[0]);
    for (size_t i = 0; i < full; i += 16) {
        QUANT_UNROLL
        for (int k = 0; k < 4; k++) {
            float32x4_t v = vld1q_f32(x + i + 4 * k);
            lo[k] = vminq_f32(v, lo[k]);
            hi[k] = vmaxq_f32(v, hi[k]);
        }
    }
    float least = vminvq_f32(vminq_f32(vminq_f32(lo[0], lo[1]), vminq_f32(lo[2], lo[3])));
    float most = vmaxvq_f32(vmaxq_f32(vmaxq_f32(hi[0], hi[1]), vmaxq_f32(hi[2], hi[3])));
    bool  fine = least == least;
    *min = least, *max = most;
    if (full == n) return fine;
    fine &= taut__quant_portable.range(x + full, n - full, min, max);
    *min = least < *min ? least : *min;
    *max = most > *max ? most : *max;
    return fine;
}

static inline uint32x4_t random4x32(taut__rng g, uint32_t counter) /* taut__random32 in every lane */
{
    static const uint32_t lanes[4] = {0, 1, 2, 3};
    uint32x4_t            x = vaddq_u32(vld1q_u32(lanes), vdupq_n_u32(counter + g.k0));
    x = veorq_u32(x, vshrq_n_u32(x, 16));
    x = vmulq_u32(x, vdupq_n_u32(0x7feb352d));
    x = veorq_u32(veorq_u32(x, vshrq_n_u32(x, 15)), vdupq_n_u32(g.k1));
    x = vmulq_u32(x, vdupq_n_u32(0x846ca68b));
    return veorq_u32(x, vshrq_n_u32(x, 16));
}

/* r of 64 elements */
static inline void randoms(const quant_unit *u, uint32_t counter, uint32x4_t r[16])
{
    for (int k = 0; k < 16; k++) r[k] = vdupq_n_u32(0x8000);
    if (!u->stochastic) return;
    for (uint32_t k = 0; k < 8; k++) {
        uint32x4_t h = random4x32(u->rng, counter + 4 * k);
        r[k] = vandq_u32(h, vdupq_n_u32(0xffff));
        r[k + 8] = vshrq_n_u32(h, 16);
    }
}

/* 4 x 4 numbers, clamped to 0..255 by saturation -> 16 bytes in order */
static inline uint8x16_t narrow(const int32x4_t q[4])
{
    uint16x8_t ab = vcombine_u16(vqmovun_s32(q[0]), vqmovun_s32(q[1]));
    uint16x8_t cd = vcombine_u16(vqmovun_s32(q[2]), vqmovun_s32(q[3]));
    return vcombine_u8(vqmovn_u16(ab), vqmovn_u16(cd));
}

static inline uint8x16_t weights(void) /* bit j % 8 in byte j */
{
    return vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
}

static inline void put_planes(uint32_t bits, const uint8x16_t q[4], uint8_t *codes)
{
    for (uint32_t p = 0; p < bits; p++) {
        const uint8x16_t bit = vdupq_n_u8((uint8_t)(1 << p));
        uint8x16_t       m[4];
        for (int k = 0; k < 4; k++) m[k] = vandq_u8(vtstq_u8(q[k], bit), weights());
        uint8x16_t pairs = vpaddq_u8(vpaddq_u8(m[0], m[1]), vpaddq_u8(m[2], m[3]));
        vst1_u8(codes + 8 * p, vget_low_u8(vpaddq_u8(pairs, pairs)));
    }
}

static inline float32x4_t value_of(const quant_unit *u, float32x4_t q)
{
    return vaddq_f32(vdupq_n_f32(u->base), vmulq_n_f32(q, u->step));
}

static void pack_full(const quant_unit *u, const float *x, size_t n, uint8_t *codes, float *err)
{
    const float32x4_t base = vdupq_n_f32(u->base), inv = vdupq_n_f32(u->inv);
    const int32x4_t   top = vdupq_n_s32((int32_t)u->top);
    for (size_t i = 0; i < n; i += QUANT_GROUP, codes += 8 * u->bits) {
        int32x4_t  q[16];
        uint32x4_t r[16];
        uint8x16_t all[4];
        randoms(u, u->counter + (uint32_t)(i / 2), r);
        for (int k = 0; k < 16; k++) {
            float32x4_t v = vld1q_f32(x + i + 4 * k);
            if (k % 4 == 0) quant_prefetch(x + i + 4 * k, n);
            q[k] = vcvtnq_s32_f32(vmulq_f32(vsubq_f32(v, base), inv));
            q[k] = vshrq_n_s32(vaddq_s32(q[k], vreinterpretq_s32_u32(r[k])), 16);
            q[k] = vminq_s32(vmaxq_s32(q[k], vdupq_n_s32(0)), top);
            if (err) vst1q_f32(err + i + 4 * k, vsubq_f32(v, value_of(u, vcvtq_f32_s32(q[k]))));
        }
        for (int k = 0; k < 4; k++) all[k] = narrow(q + 4 * k);
        put_planes(u->bits, all, codes);
    }
}

static void pack(const quant_unit *u, const float *x, size_t n, uint8_t *codes, float *err)
{
    size_t full = n - n % QUANT_GROUP;
    pack_full(u, x, full, codes, err);
    if (full == n) return;
    quant_unit rest = *u;
    rest.counter += (uint32_t)(full / 2);
    taut__quant_portable.pack(&rest, x + full, n - full, codes + full / 8 * u->bits, err ? err + full : NULL);
}

/* 64 codes as bytes: byte j takes bit j % 8 of the plane's byte j / 8. */
static inline void get_planes(uint32_t bits, const uint8_t *codes, uint8x16_t all[4])
{
    const uint8x16_t spread = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
    for (int k = 0; k < 4; k++) all[k] = vdupq_n_u8(0);
    for (uint32_t p = 0; p < bits; p++) {
        uint8x8_t        half = vld1_u8(codes + 8 * p);
        const uint8x16_t plane = vcombine_u8(half, half), bit = vdupq_n_u8((uint8_t)(1 << p));
        for (uint8_t k = 0; k < 4; k++) {
            uint8x16_t mine = vqtbl1q_u8(plane, vaddq_u8(spread, vdupq_n_u8((uint8_t)(2 * k))));
            all[k] = vorrq_u8(all[k], vandq_u8(vtstq_u8(mine, weights()), bit));
        }
    }
}

static inline void unpack_full(const quant_unit *u, const uint8_t *codes, size_t n, float *dst, bool add)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP, codes += 8 * u->bits) {
        uint8x16_t all[4];
        get_planes(u->bits, codes, all);
        for (int k = 0; k < 16; k += 4) {
            uint16x8_t low = vmovl_u8(vget_low_u8(all[k / 4])), high = vmovl_high_u8(all[k / 4]);
            uint32x4_t q[4] = {vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)),
                               vmovl_high_u16(high)};
            for (int j = 0; j < 4; j++) {
                float      *at = dst + i + 4 * (k + j);
                float32x4_t value = value_of(u, vcvtq_f32_u32(q[j]));
                vst1q_f32(at, add ? vaddq_f32(vld1q_f32(at), value) : value);
            }
        }
    }
}

static void unpack(const quant_unit *u, const uint8_t *codes, size_t n, float *dst)
{
    size_t full = n - n % QUANT_GROUP;
    unpack_full(u, codes, full, dst, false);
    if (full < n) taut__quant_portable.unpack(u, codes + full / 8 * u->bits, n - full, dst + full);
}

static void unpack_add(const quant_unit *u, const uint8_t *codes, size_t n, float *acc)
{
    size_t full = n - n % QUANT_GROUP;
    unpack_full(u, codes, full, acc, true);
    if (full < n) taut__quant_portable.unpack_add(u, codes + full / 8 * u->bits, n - full, acc + full);
}

const taut__quant_kernels taut__quant_neon = {
    .range = range,
    .pack = pack,
    .unpack = unpack,
    .unpack_add = unpack_add,
};
