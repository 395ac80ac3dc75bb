/* vec_half.h : one float to 16 bits and back, by integer arithmetic; as IEEE 754 and as the hardware casts do. */
#ifndef TAUT_VEC_HALF_H
#define TAUT_VEC_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t vec_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
static inline float vec_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* binary16, round half to even; overflow to Inf; NaN stays NaN, quiet, with its high payload bits (as F16C does) */
static inline uint16_t vec_f16_from(float x)
{
    uint32_t u = vec_bits(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);             /* 65520 and above round to Inf */
    if (a < 0x38800000u) {                                               /* below 2^-14: subnormal or zero */
        /* adding 0.5 leaves the value's multiples of 2^-24 in the low mantissa bits, rounded half to even */
        return (uint16_t)(sign | (vec_bits(vec_float(a) + 0.5f) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13));
}

static inline float vec_f16_to(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31, m = h & 0x3ffu;
    if (e == 31) return vec_float(sign | 0x7f800000u | (m << 13) | (m ? 0x400000u : 0));
    if (e == 0) { /* m * 2^-24, exact */
        float v = (float)m * 0x1p-24f;
        return vec_float(vec_bits(v) | sign);
    }
    return vec_float(sign | ((e + 112) << 23) | (m << 13));
}

/* bfloat16: the high half of a float32, round half to even; NaN stays NaN */
static inline uint16_t vec_bf16_from(float x)
{
    uint32_t u = vec_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
static inline float vec_bf16_to(uint16_t h) { return vec_float((uint32_t)h << 16); }

#endif
