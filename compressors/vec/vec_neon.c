/* vec_neon.c : 4 floats at a time. AArch64 Advanced SIMD, which includes the half conversions. */
#include "vec.h"
#include "vec_portable.h"
#include <arm_neon.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { W = 4 };

static inline uint16x4_t load16(const void *p, size_t i)
{
    return vreinterpret_u16_u8(vld1_u8((const uint8_t *)p + 2 * i));
}
static inline void store16(void *p, size_t i, uint16x4_t x) { vst1_u8((uint8_t *)p + 2 * i, vreinterpret_u8_u16(x)); }

static inline uint16x4_t  f16_of(float32x4_t x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }
static inline float32x4_t of_f16(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
static inline float32x4_t of_bf16(uint16x4_t h) { return vreinterpretq_f32_u32(vshll_n_u16(h, 16)); }

static inline uint16x4_t bf16_of(float32x4_t x)
{
    uint32x4_t b = vreinterpretq_u32_f32(x), high = vshrq_n_u32(b, 16);
    uint32x4_t r = vaddq_u32(vaddq_u32(b, vdupq_n_u32(0x7fff)), vandq_u32(high, vdupq_n_u32(1)));
    uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    return vmovn_u32(vbslq_u32(vceqq_f32(x, x), vshrq_n_u32(r, 16), quiet));
}

static void to_f16(void *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) store16(dst, i, f16_of(vld1q_f32(src + i)));
    for (; i < n; i++) taut__store_u16(dst, i, taut__to_f16(src[i]));
}

static void to_bf16(void *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) store16(dst, i, bf16_of(vld1q_f32(src + i)));
    for (; i < n; i++) taut__store_u16(dst, i, taut__to_bf16(src[i]));
}

static void from_f16(float *dst, const void *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) vst1q_f32(dst + i, of_f16(load16(src, i)));
    for (; i < n; i++) dst[i] = taut__from_f16(taut__load_u16(src, i));
}

static void from_bf16(float *dst, const void *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) vst1q_f32(dst + i, of_bf16(load16(src, i)));
    for (; i < n; i++) dst[i] = taut__from_bf16(taut__load_u16(src, i));
}

static void add(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        float32x4_t y = vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)x + 4 * i));
        vst1q_f32(acc + i, vaddq_f32(vld1q_f32(acc + i), y));
    }
    for (; i < n; i++) acc[i] += taut__load_f32(x, i);
}

static void add_f16(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) vst1q_f32(acc + i, vaddq_f32(vld1q_f32(acc + i), of_f16(load16(x, i))));
    for (; i < n; i++) acc[i] += taut__from_f16(taut__load_u16(x, i));
}

static void add_bf16(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) vst1q_f32(acc + i, vaddq_f32(vld1q_f32(acc + i), of_bf16(load16(x, i))));
    for (; i < n; i++) acc[i] += taut__from_bf16(taut__load_u16(x, i));
}

static void scale(float *x, float factor, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) vst1q_f32(x + i, vmulq_n_f32(vld1q_f32(x + i), factor));
    for (; i < n; i++) x[i] *= factor;
}

static inline float32x4_t finite_or_zero(float32x4_t x)
{
    uint32x4_t keep = vcleq_f32(vabsq_f32(x), vdupq_n_f32(__FLT_MAX__));
    return vreinterpretq_f32_u32(vandq_u32(keep, vreinterpretq_u32_f32(x)));
}

static void residual(float *err, const float *x, const float *y, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) vst1q_f32(err + i, finite_or_zero(vsubq_f32(vld1q_f32(x + i), vld1q_f32(y + i))));
    for (; i < n; i++) err[i] = taut__residual(x[i], y[i]);
}

static inline void add_squares(float64x2_t s[2], float32x4_t x)
{
    x = finite_or_zero(x);
    float64x2_t a = vcvt_f64_f32(vget_low_f32(x)), b = vcvt_high_f64_f32(x);
    s[0] = vaddq_f64(s[0], vmulq_f64(a, a));
    s[1] = vaddq_f64(s[1], vmulq_f64(b, b));
}

static double sum2(const float *x, size_t n)
{
    float64x2_t v[16];
    double      s[TAUT_SUM_LANES];
    size_t      i = 0;
    for (int k = 0; k < 16; k++) v[k] = vdupq_n_f64(0);
    for (; i + TAUT_SUM_LANES <= n; i += TAUT_SUM_LANES)
        for (int k = 0; k < 8; k++) add_squares(v + 2 * k, vld1q_f32(x + i + W * k));
    for (int k = 0; k < 16; k++) vst1q_f64(s + 2 * k, v[k]);
    for (; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i]);
    return taut__fold(s);
}

static double sum2_over(const float *x, const float *w, size_t n)
{
    float64x2_t v[16];
    double      s[TAUT_SUM_LANES];
    size_t      i = 0;
    for (int k = 0; k < 16; k++) v[k] = vdupq_n_f64(0);
    for (; i + TAUT_SUM_LANES <= n; i += TAUT_SUM_LANES)
        for (int k = 0; k < 8; k++)
            add_squares(v + 2 * k, vdivq_f32(vld1q_f32(x + i + W * k), vld1q_f32(w + i + W * k)));
    for (int k = 0; k < 16; k++) vst1q_f64(s + 2 * k, v[k]);
    for (; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i] / w[i]);
    return taut__fold(s);
}

static float max_abs(const float *x, size_t n)
{
    uint32x4_t m = vdupq_n_u32(0), magnitude = vdupq_n_u32(0x7fffffff);
    size_t     i = 0;
    for (; i + W <= n; i += W) m = vmaxq_u32(m, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), magnitude));
    uint32_t most = vmaxvq_u32(m);
    for (; i < n; i++) most = (taut__bits(x[i]) & 0x7fffffff) > most ? taut__bits(x[i]) & 0x7fffffff : most;
    return most > 0x7f800000 ? __builtin_nanf("") : taut__float(most);
}

static uint64_t hash(const void *p, size_t bytes) { return XXH3_64bits(p, bytes); }

const taut__vec_kernels taut__vec_neon = {
    .to_f16 = to_f16,
    .to_bf16 = to_bf16,
    .from_f16 = from_f16,
    .from_bf16 = from_bf16,
    .add = add,
    .add_f16 = add_f16,
    .add_bf16 = add_bf16,
    .scale = scale,
    .residual = residual,
    .sum2 = sum2,
    .sum2_over = sum2_over,
    .max_abs = max_abs,
    .hash = hash,
};
