/* dense_mix.h : the arithmetic of the mixer: eight 16-bit inputs against eight 16-bit weights. The C versions are the
 * specification; SSE2, which every x86-64 has, gives the same bits. */
#ifndef TAUT_DENSE_MIX_H
#define TAUT_DENSE_MIX_H

#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { TAUT_DENSE_INPUTS = 8 };

/* Inputs travel in a register: storing them one by one and loading them at once would stall. |x| < 2048. */
#ifdef __SSE2__
typedef __m128i       taut_dense_inputs;
static inline __m128i taut__dense_inputs(const int x[TAUT_DENSE_INPUTS])
{
    return _mm_set_epi16((short)x[7], (short)x[6], (short)x[5], (short)x[4], (short)x[3], (short)x[2], (short)x[1],
                         (short)x[0]);
}
#else
typedef struct taut_dense_inputs {
    int16_t v[TAUT_DENSE_INPUTS];
} taut_dense_inputs;
static inline taut_dense_inputs taut__dense_inputs(const int x[TAUT_DENSE_INPUTS])
{
    taut_dense_inputs r;
    for (int i = 0; i < TAUT_DENSE_INPUTS; i++) r.v[i] = (int16_t)x[i];
    return r;
}
#endif

/* sum x*w / 2^14, rounded down; |x| < 2048, so 32 bits hold the sum */
static inline int taut__dense_dot(taut_dense_inputs x, const int16_t *w)
{
#ifdef __SSE2__
    __m128i s = _mm_madd_epi16(x, _mm_load_si128((const __m128i *)(const void *)w));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s) >> 14;
#else
    int32_t sum = 0;
    for (int i = 0; i < TAUT_DENSE_INPUTS; i++) sum += (int32_t)x.v[i] * w[i];
    return sum >> 14;
#endif
}

/* w += x*error / 2^13, rounded down, saturated at 16 bits; |error| < 2^15 */
static inline void taut__dense_train(taut_dense_inputs x, int16_t *w, int error)
{
#ifdef __SSE2__
    __m128i  v = _mm_slli_epi16(x, 3);
    __m128i *p = (__m128i *)(void *)w;
    v = _mm_mulhi_epi16(v, _mm_set1_epi16((int16_t)error));
    _mm_store_si128(p, _mm_adds_epi16(_mm_load_si128(p), v));
#else
    for (int i = 0; i < TAUT_DENSE_INPUTS; i++) {
        int32_t v = w[i] + ((x.v[i] * 8 * error) >> 16);
        w[i] = (int16_t)(v > 32767 ? 32767 : v < -32768 ? -32768 : v);
    }
#endif
}

#endif
