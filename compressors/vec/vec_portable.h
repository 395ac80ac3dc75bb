/* vec_portable.h : one element of each kernel. What vec_portable.c loops over, the SIMD files' tails, and the CUDA kernels. */
#ifndef TAUT_VEC_PORTABLE_H
#define TAUT_VEC_PORTABLE_H

#include "../../comm/base/base.h"
#include "../ahead.h"
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "payloads are little-endian and copied as they are"
#endif

/* From this many floats on a decoder's stores bypass the caches: the result does not fit in L2 anyway, and memory need
 * not be read before it is overwritten. Slices of an allreduce are smaller and stay cached for the next step. */
enum { TAUT_STREAM = 2 << 20 };

TAUT_INLINE uint32_t taut__bits(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

TAUT_INLINE float taut__float(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

TAUT_INLINE float taut__load_f32(const void *p, size_t i)
{
    float x;
    memcpy(&x, (const char *)p + i * sizeof x, sizeof x);
    return x;
}

TAUT_INLINE uint16_t taut__load_u16(const void *p, size_t i)
{
    uint16_t x;
    memcpy(&x, (const char *)p + i * sizeof x, sizeof x);
    return x;
}

TAUT_INLINE void taut__store_u16(void *p, size_t i, uint16_t x) { memcpy((char *)p + i * sizeof x, &x, sizeof x); }

TAUT_INLINE uint16_t taut__to_bf16(float x)
{
    uint32_t b = taut__bits(x);
    if ((b & 0x7fffffff) > 0x7f800000) return (uint16_t)(b >> 16 | 0x40); /* quiet, and never rounded to Inf */
    return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

TAUT_INLINE float taut__from_bf16(uint16_t h) { return taut__float((uint32_t)h << 16); }

TAUT_INLINE uint16_t taut__to_f16(float x)
{
    uint32_t b = taut__bits(x), sign = b >> 16 & 0x8000, a = b & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff)); /* NaN: quiet, upper bits kept */
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);                    /* 65520 and above round to Inf */
    if (a < 0x38800000) { /* below 2^-14: subnormal; adding 0.5 leaves multiples of 2^-24 in the low bits, rounded */
        uint32_t r = taut__bits(taut__float(a) + 0.5f) - 0x3f000000;
        return (uint16_t)(sign | r);
    }
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

TAUT_INLINE float taut__from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, a = h & 0x7fff;
    if (a >= 0x7c00) return taut__float(sign | 0x7f800000 | (a & 0x3ff) << 13 | (a > 0x7c00 ? 0x400000 : 0));
    if (a < 0x400) return taut__float(sign | taut__bits((float)a * 0x1p-24f));
    return taut__float(sign | ((a << 13) + 0x38000000));
}

TAUT_INLINE float taut__residual(float x, float y)
{
    float r = x - y;
    return (taut__bits(r) & 0x7fffffff) < 0x7f800000 ? r : 0;
}

TAUT_INLINE double taut__square(float x) /* 0 where x is not finite */
{
    return (taut__bits(x) & 0x7fffffff) < 0x7f800000 ? (double)x * (double)x : 0;
}

enum { TAUT_SUM_LANES = 32 };

TAUT_INLINE double taut__fold(double s[TAUT_SUM_LANES])
{
    for (int half = TAUT_SUM_LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) s[k] += s[k + half];
    return s[0];
}

#endif
