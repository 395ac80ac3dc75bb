/* quant_avx512.h : the quant kernels on 512-bit vectors: a group of 64 is four vectors of floats and one of codes. An
 * including file defines first, as static inline functions,
 *   put_planes(codes, v, bits)   64 codes, a byte each, as `bits` planes of 8 bytes
 *   get_planes(codes, bits)      and back
 * and in the end the table. AVX-512 F, BW, DQ. */
#ifndef TAUT_QUANT_AVX512_H
#define TAUT_QUANT_AVX512_H

#include "quant_codes.h"
#include <immintrin.h>

enum { NEAREST_EVEN = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

static bool range(const float *x, size_t n, float *min, float *max)
{
    size_t full = n - n % QUANT_GROUP;
    __m512 lo[4], hi[4];
    QUANT_UNROLL
    for (int k = 0; k < 4; k++) lo[k] = hi[k] = _mm512_set1_ps(x[0]);
    __mmask16 nan = 0;
    for (size_t i = 0; i < full; i += QUANT_GROUP) {
        __m512 v[4];
        QUANT_UNROLL
        for (int k = 0; k < 4; k++) {
            v[k] = _mm512_loadu_ps(x + i + 16 * k);
            lo[k] = _mm512_min_ps(v[k], lo[k]);
            hi[k] = _mm512_max_ps(v[k], hi[k]);
        }
        nan |= _mm512_cmp_ps_mask(v[0], v[1], _CMP_UNORD_Q) | _mm512_cmp_ps_mask(v[2], v[3], _CMP_UNORD_Q);
    }
    *min = _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(lo[0], lo[1]), _mm512_min_ps(lo[2], lo[3])));
    *max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(hi[0], hi[1]), _mm512_max_ps(hi[2], hi[3])));
    if (full == n) return !nan;
    float a, b;
    bool  fine = taut__quant_portable.range(x + full, n - full, &a, &b);
    *min = a < *min ? a : *min;
    *max = b > *max ? b : *max;
    return fine && !nan;
}

static inline __m512i random16x32(taut__rng g, uint32_t counter) /* taut__random32 in every lane */
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i       x = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(counter + g.k0)));
    x = _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32(0x7feb352d));
    x = _mm512_ternarylogic_epi32(x, _mm512_srli_epi32(x, 15), _mm512_set1_epi32((int)g.k1), 0x96); /* xor of three */
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32((int)0x846ca68b));
    return _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
}

/* r of 64 elements */
static inline void randoms(const quant_unit *u, uint32_t counter, __m512i r[4])
{
    QUANT_UNROLL
    for (int k = 0; k < 4; k++) r[k] = _mm512_set1_epi32(0x8000);
    if (!u->stochastic) return;
    QUANT_UNROLL
    for (uint32_t k = 0; k < 2; k++) {
        __m512i h = random16x32(u->rng, counter + 16 * k);
        r[k] = _mm512_and_si512(h, _mm512_set1_epi32(0xffff));
        r[k + 2] = _mm512_srli_epi32(h, 16);
    }
}

/* 4 x 16 numbers, clamped to 0..255 by saturation -> 64 bytes in order */
static inline __m512i narrow(const __m512i q[4])
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i       ab = _mm512_packus_epi32(q[0], q[1]), cd = _mm512_packus_epi32(q[2], q[3]);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(ab, cd));
}

static inline __attribute__((always_inline)) void pack_bits(const quant_unit *u, const float *x, size_t n,
                                                            uint8_t *codes, float *err, uint32_t bits)
{
    const __m512  base = _mm512_set1_ps(u->base), inv = _mm512_set1_ps(u->inv), step = _mm512_set1_ps(u->step);
    const __m512i top = _mm512_set1_epi8((char)u->top), top32 = _mm512_set1_epi32((int)u->top);
    for (size_t i = 0; i < n; i += QUANT_GROUP, codes += 8 * bits) {
        __m512  v[4];
        __m512i q[4], r[4];
        randoms(u, u->counter + (uint32_t)(i / 2), r);
        QUANT_UNROLL
        for (int k = 0; k < 4; k++) {
            quant_prefetch(x + i + 16 * k, n);
            v[k] = _mm512_loadu_ps(x + i + 16 * k);
            q[k] = _mm512_cvt_roundps_epi32(_mm512_mul_ps(_mm512_sub_ps(v[k], base), inv), NEAREST_EVEN);
            q[k] = _mm512_srai_epi32(_mm512_add_epi32(q[k], r[k]), 16);
        }
        __m512i all = _mm512_min_epu8(narrow(q), top);
        put_planes(codes, all, bits);
        if (!err) continue;
        QUANT_UNROLL
        for (int k = 0; k < 4; k++) {
            __m512i c = _mm512_min_epi32(_mm512_max_epi32(q[k], _mm512_setzero_si512()), top32);
            __m512  value = _mm512_add_ps(base, _mm512_mul_ps(_mm512_cvtepi32_ps(c), step));
            _mm512_storeu_ps(err + i + 16 * k, _mm512_sub_ps(v[k], value));
        }
    }
}

static void pack(const quant_unit *u, const float *x, size_t n, uint8_t *codes, float *err)
{
    size_t full = n - n % QUANT_GROUP;
    switch (u->bits) { /* a constant number of planes, so that the loops over them unroll */
    case 1: pack_bits(u, x, full, codes, err, 1); break;
    case 2: pack_bits(u, x, full, codes, err, 2); break;
    case 3: pack_bits(u, x, full, codes, err, 3); break;
    case 4: pack_bits(u, x, full, codes, err, 4); break;
    case 5: pack_bits(u, x, full, codes, err, 5); break;
    case 6: pack_bits(u, x, full, codes, err, 6); break;
    case 7: pack_bits(u, x, full, codes, err, 7); break;
    default: pack_bits(u, x, full, codes, err, 8); break;
    }
    if (full == n) return;
    quant_unit rest = *u;
    rest.counter += (uint32_t)(full / 2);
    taut__quant_portable.pack(&rest, x + full, n - full, codes + full / 8 * u->bits, err ? err + full : NULL);
}

static inline __attribute__((always_inline)) void unpack_bits(const quant_unit *u, const uint8_t *codes, size_t n,
                                                              float *dst, bool add, uint32_t bits)
{
    const __m512 base = _mm512_set1_ps(u->base), step = _mm512_set1_ps(u->step);
    for (size_t i = 0; i < n; i += QUANT_GROUP, codes += 8 * bits) {
        __m512i       all = get_planes(codes, bits);
        const __m128i part[4] = {_mm512_castsi512_si128(all), _mm512_extracti32x4_epi32(all, 1),
                                 _mm512_extracti32x4_epi32(all, 2), _mm512_extracti32x4_epi32(all, 3)};
        QUANT_UNROLL
        for (int k = 0; k < 4; k++) {
            __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(part[k]));
            __m512 value = _mm512_add_ps(base, _mm512_mul_ps(q, step));
            taut__ahead(dst + i + 16 * k);
            if (add) value = _mm512_add_ps(_mm512_loadu_ps(dst + i + 16 * k), value);
            _mm512_storeu_ps(dst + i + 16 * k, value);
        }
    }
}

static inline __attribute__((always_inline)) void unpack_any(const quant_unit *u, const uint8_t *codes, size_t n,
                                                             float *dst, bool add)
{
    switch (u->bits) {
    case 1: unpack_bits(u, codes, n, dst, add, 1); break;
    case 2: unpack_bits(u, codes, n, dst, add, 2); break;
    case 3: unpack_bits(u, codes, n, dst, add, 3); break;
    case 4: unpack_bits(u, codes, n, dst, add, 4); break;
    case 5: unpack_bits(u, codes, n, dst, add, 5); break;
    case 6: unpack_bits(u, codes, n, dst, add, 6); break;
    case 7: unpack_bits(u, codes, n, dst, add, 7); break;
    default: unpack_bits(u, codes, n, dst, add, 8); break;
    }
}

static void unpack(const quant_unit *u, const uint8_t *codes, size_t n, float *dst)
{
    size_t full = n - n % QUANT_GROUP;
    unpack_any(u, codes, full, dst, false);
    if (full < n) taut__quant_portable.unpack(u, codes + full / 8 * u->bits, n - full, dst + full);
}

static void unpack_add(const quant_unit *u, const uint8_t *codes, size_t n, float *acc)
{
    size_t full = n - n % QUANT_GROUP;
    unpack_any(u, codes, full, acc, true);
    if (full < n) taut__quant_portable.unpack_add(u, codes + full / 8 * u->bits, n - full, acc + full);
}

#endif
