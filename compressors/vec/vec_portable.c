/* vec_portable.c : the specification of the kernels in vec.h. */
#include "vec.h"
#include "vec_portable.h"
#include <math.h>
#include <xxhash.h>

static void to_f16(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) taut__store_u16(dst, i, taut__to_f16(src[i]));
}

static void to_bf16(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) taut__store_u16(dst, i, taut__to_bf16(src[i]));
}

static void from_f16(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = taut__from_f16(taut__load_u16(src, i));
}

static void from_bf16(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = taut__from_bf16(taut__load_u16(src, i));
}

static void add(float *acc, const void *x, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += taut__load_f32(x, i);
}

static void add_f16(float *acc, const void *x, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += taut__from_f16(taut__load_u16(x, i));
}

static void add_bf16(float *acc, const void *x, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += taut__from_bf16(taut__load_u16(x, i));
}

static void scale(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] *= factor;
}

static void residual(float *err, const float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) err[i] = taut__residual(x[i], y[i]);
}

static double sum2(const float *x, size_t n)
{
    double s[TAUT_SUM_LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i]);
    return taut__fold(s);
}

static double sum2_over(const float *x, const float *w, size_t n)
{
    double s[TAUT_SUM_LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i] / w[i]);
    return taut__fold(s);
}

static float max_abs(const float *x, size_t n)
{
    uint32_t m = 0; /* magnitudes compare like their bits; NaN above Inf */
    for (size_t i = 0; i < n; i++) {
        uint32_t a = taut__bits(x[i]) & 0x7fffffff;
        m = a > m ? a : m;
    }
    return m > 0x7f800000 ? NAN : taut__float(m);
}

static uint64_t hash(const void *p, size_t bytes) { return XXH3_64bits(p, bytes); }

const taut__vec_kernels taut__vec_portable = {
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
