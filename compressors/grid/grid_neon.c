/* grid_neon.c : the grid kernels on NEON (aarch64). Same bytes, codes and floats as grid_portable.c. There is
 * no pext and no gather: planes are compacted bit by bit, and the rans lanes run one after the other. */
#include "grid_rans.h"
#include <arm_neon.h>

typedef struct vec64 {
    uint8x16_t part[4];
} vec64;

#define EACH_PART for (int k_ = 0; k_ < 4; k_++)

static inline uint64_t   bits_extract(uint64_t v, uint64_t mask) { return grid_pext(v, mask); }
static inline uint64_t   bits_deposit(uint64_t v, uint64_t mask) { return grid_pdep(v, mask); }
static inline uint64_t   bits_low(uint64_t v, unsigned n) { return n < 64 ? v & ((UINT64_C(1) << n) - 1) : v; }
static inline uint8x16_t weights(void) { return vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201))); }

static inline uint64_t mask_of(vec64 v) /* bytes of 0 or 255 -> bits */
{
    EACH_PART  v.part[k_] = vandq_u8(v.part[k_], weights());
    uint8x16_t s = vpaddq_u8(vpaddq_u8(v.part[0], v.part[1]), vpaddq_u8(v.part[2], v.part[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(s, s)), 0);
}
static inline vec64 spread(uint64_t mask) /* bits -> bytes of 0 or 255 */
{
    vec64 v;
    EACH_PART
    {
        uint8x8_t low = vdup_n_u8((uint8_t)(mask >> (16 * k_))), high = vdup_n_u8((uint8_t)(mask >> (16 * k_ + 8)));
        v.part[k_] = vtstq_u8(vcombine_u8(low, high), weights());
    }
    return v;
}

static inline vec64 vec64_zero(void)
{
    vec64     v;
    EACH_PART v.part[k_] = vdupq_n_u8(0);
    return v;
}
static inline vec64 vec64_min(vec64 v, uint8_t x)
{
    EACH_PART v.part[k_] = vminq_u8(v.part[k_], vdupq_n_u8(x));
    return v;
}
static inline uint64_t vec64_sum(vec64 v)
{
    uint64_t  sum = 0;
    EACH_PART sum += vaddlvq_u8(v.part[k_]);
    return sum;
}
static inline void  vec64_store(uint8_t *p, vec64 v) { EACH_PART vst1q_u8(p + 16 * k_, v.part[k_]); }
static inline vec64 vec64_load_bytes(const uint8_t *p)
{
    vec64     v;
    EACH_PART v.part[k_] = vld1q_u8(p + 16 * k_);
    return v;
}
static inline vec64 vec64_add_at(vec64 v, uint64_t mask, uint8_t x)
{
    vec64     m = spread(mask);
    EACH_PART v.part[k_] = vaddq_u8(v.part[k_], vandq_u8(m.part[k_], vdupq_n_u8(x)));
    return v;
}
static inline uint64_t vec64_at_least(vec64 v, uint8_t x)
{
    EACH_PART v.part[k_] = vcgeq_u8(v.part[k_], vdupq_n_u8(x));
    return mask_of(v);
}
static inline uint64_t vec64_bit(vec64 v, unsigned bit)
{
    EACH_PART v.part[k_] = vtstq_u8(v.part[k_], vdupq_n_u8((uint8_t)(1u << bit)));
    return mask_of(v);
}
static inline vec64 vec64_shift(vec64 v, unsigned r)
{
    EACH_PART v.part[k_] = vshlq_u8(v.part[k_], vdupq_n_s8((int8_t) - (int)r));
    return v;
}
static inline vec64 vec64_symbols(vec64 v, uint64_t plus)
{
    EACH_PART v.part[k_] = vaddq_u8(v.part[k_], v.part[k_]);
    return vec64_add_at(v, plus, 255);
}
static inline vec64 vec64_halves(vec64 s, unsigned r)
{
    EACH_PART s.part[k_] = vshlq_u8(vrshrq_n_u8(s.part[k_], 1), vdupq_n_s8((int8_t)r));
    return s;
}

/* Sixteen numbers below 256. */
static inline uint8x16_t narrow(const uint32x4_t q[4])
{
    uint16x8_t low = vcombine_u16(vmovn_u32(q[0]), vmovn_u32(q[1])),
               high = vcombine_u16(vmovn_u32(q[2]), vmovn_u32(q[3]));
    return vcombine_u8(vmovn_u16(low), vmovn_u16(high));
}

static inline bool vec64_quantize(const grid_unit *u, const float *x, const float *d, float *err, vec64 *v,
                                  uint64_t *sign)
{
    uint32x4_t fits = vdupq_n_u32(UINT32_MAX);
    vec64      s;
    EACH_PART
    {
        uint32x4_t q[4], negative[4];
        for (int j = 0; j < 4; j++) {
            size_t      i = (size_t)(16 * k_ + 4 * j);
            float32x4_t in = vld1q_f32(x + i), a = vabsq_f32(in);
            float32x4_t t = d ? vdivq_f32(a, vld1q_f32(d + i)) : vmulq_f32(a, vdupq_n_f32(u->inv));
            t = vaddq_f32(t, vdupq_n_f32(u->bias));
            fits = vandq_u32(fits, vcltq_f32(t, vdupq_n_f32(256)));
            q[j] = vcvtq_u32_f32(t);
            negative[j] = vshrq_n_u32(vreinterpretq_u32_f32(in), 31);
        }
        v->part[k_] = narrow(q);
        s.part[k_] = narrow(negative);
    }
    if (vminvq_u32(fits) == 0) return false;
    *sign = vec64_at_least(s, 1);
    if (!err) return true;
    uint8_t mag[GRID_BLOCK];
    vec64_store(mag, *v);
    for (size_t i = 0; i < GRID_BLOCK; i++) {
        int32_t q = *sign >> i & 1 ? -(int32_t)mag[i] : mag[i];
        err[i] = x[i] - grid_value(q, d ? d[i] : u->step);
    }
    return true;
}

static inline bool vec64_load(const int32_t *q, vec64 *v, uint64_t *sign)
{
    uint32x4_t all = vdupq_n_u32(0);
    vec64      s;
    EACH_PART
    {
        uint32x4_t a[4], negative[4];
        for (int j = 0; j < 4; j++) {
            int32x4_t c = vld1q_s32(q + 16 * k_ + 4 * j);
            a[j] = vreinterpretq_u32_s32(vabsq_s32(c));
            all = vorrq_u32(all, a[j]);
            negative[j] = vshrq_n_u32(vreinterpretq_u32_s32(c), 31);
        }
        v->part[k_] = narrow(a);
        s.part[k_] = narrow(negative);
    }
    *sign = vec64_at_least(s, 1);
    return vmaxvq_u32(all) < 256;
}

static inline void vec64_give(vec64 v, uint64_t sign, float step, const float *d, grid_sink sink, void *out)
{
    vec64   m = spread(sign);
    uint8_t mag[GRID_BLOCK], minus[GRID_BLOCK];
    vec64_store(mag, v);
    vec64_store(minus, m);
    for (int k = 0; k < GRID_BLOCK; k += 8) {
        int16x8_t negative = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(minus + k)));
        int16x8_t w = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(mag + k)));
        negative = vshrq_n_s16(vshlq_n_s16(negative, 8), 8); /* 0 or -1 */
        w = vsubq_s16(veorq_s16(w, negative), negative);
        for (int j = 0; j < 2; j++) {
            int32x4_t q = vmovl_s16(j ? vget_high_s16(w) : vget_low_s16(w));
            int32_t  *codes = (int32_t *)out + k + 4 * j;
            float    *floats = (float *)out + k + 4 * j;
            if (sink == GRID_CODES) {
                vst1q_s32(codes, vaddq_s32(vld1q_s32(codes), q));
            } else if (sink == GRID_SET_CODES) {
                vst1q_s32(codes, q);
            } else {
                float32x4_t x = vmulq_f32(vcvtq_f32_s32(q), d ? vld1q_f32(d + k + 4 * j) : vdupq_n_f32(step));
                if (sink == GRID_ADD) x = vaddq_f32(vld1q_f32(floats), x);
                vst1q_f32(floats, x);
            }
        }
    }
}

static inline void vec64_dequantize(const int32_t *q, float step, const float *d, float *dst)
{
    for (int k = 0; k < GRID_BLOCK; k += 4) {
        float32x4_t x = vcvtq_f32_s32(vld1q_s32(q + k));
        vst1q_f32(dst + k, vmulq_f32(x, d ? vld1q_f32(d + k) : vdupq_n_f32(step)));
    }
}

/* ---- rans ---- */

typedef struct lanes {
    uint32_t x[GRID_LANES];
} lanes;

static inline lanes lanes_load(const uint32_t *p)
{
    lanes s;
    memcpy(s.x, p, sizeof s.x);
    return s;
}
static inline void lanes_store(uint32_t *p, lanes s) { memcpy(p, s.x, sizeof s.x); }

static inline uint8_t *lanes_put_block(lanes *s, const grid_model *m, const uint8_t *symbol, uint8_t *end)
{
    for (unsigned i = GRID_BLOCK; i-- > 0;)
        s->x[i % GRID_LANES] = grid_lane_put(s->x[i % GRID_LANES], m, symbol[i], &end);
    return end;
}

static inline bool lanes_get_block(lanes *s, const grid_model *m, const uint8_t **words, const uint8_t *end,
                                   vec64 *symbols)
{
    uint8_t symbol[GRID_BLOCK];
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        uint32_t x = grid_lane_get(s->x[i % GRID_LANES], m, symbol + i);
        if (x < GRID_STATE_LOW) {
            if (*words == end) return false;
            x = x << 16 | (*words)[0] | (uint32_t)(*words)[1] << 8;
            *words += 2;
        }
        s->x[i % GRID_LANES] = x;
    }
    EACH_PART symbols->part[k_] = vld1q_u8(symbol + 16 * k_);
    return true;
}
/* One after the other: the processor overlaps them as far as its window reaches. */
static inline bool lanes_get_pair(lanes *s, lanes *t, const grid_model *m, const grid_model *n, grid_back *a,
                                  grid_back *b, vec64 *p, vec64 *q)
{
    return lanes_get_block(s, m, &a->words, a->words_end, p) && lanes_get_block(t, n, &b->words, b->words_end, q);
}

#include "grid_simd.h"

const struct taut__grid_kernels taut__grid_neon = {
    .encode = simd_encode,
    .quantize = simd_quantize,
    .pack = simd_pack,
    .decode = simd_decode,
    .unpack_add = simd_unpack_add,
    .dequantize = simd_dequantize,
    .quantize_pack = simd_quantize_pack,
    .unpack_values = simd_unpack_values,
    .front_encode = simd_front_encode,
    .front_pack = simd_front_pack,
    .lanes_put = simd_lanes_put,
    .lanes_get = simd_lanes_get,
    .errors = grid_errors_all,
    .norms = grid_norms_all,
    .count = grid_count_plain,
};
