/* vec.h : element-wise kernels that several codecs and the algorithms share. Every level gives the same bits: sums of
 * squares add in 16 double lanes (element i to lane i mod 16), which fold in the order of vec_fold(). */
#ifndef TAUT_VEC_H
#define TAUT_VEC_H

#include <stddef.h>
#include <stdint.h>

/* Buffers need no alignment and must not overlap, unless said. 16-bit data are bit patterns, little-endian. */
typedef struct taut__vec_kernels {
    void (*f16_from)(const float *restrict x, uint16_t *restrict h, size_t n); /* round half to even; overflow: Inf */
    void (*f16_to)(const uint16_t *restrict h, float *restrict x, size_t n);
    void (*f16_add)(const uint16_t *restrict h, float *restrict acc, size_t n); /* acc += h */
    void (*bf16_from)(const float *restrict x, uint16_t *restrict h, size_t n);
    void (*bf16_to)(const uint16_t *restrict h, float *restrict x, size_t n);
    void (*bf16_add)(const uint16_t *restrict h, float *restrict acc, size_t n);
    void (*add)(const float *restrict x, float *restrict acc, size_t n); /* acc += x */
    void (*scale)(float *x, float factor, size_t n);                     /* x *= factor */
    double (*sumsq)(const float *x, size_t n);
} taut__vec_kernels;

enum { TAUT_VEC_LANES = 16 };

static inline double vec_fold(const double lane[TAUT_VEC_LANES])
{
    double s[TAUT_VEC_LANES];
    for (int i = 0; i < TAUT_VEC_LANES; i++) s[i] = lane[i];
    for (int w = TAUT_VEC_LANES / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++) s[i] += s[i + w];
    return s[0];
}

extern const taut__vec_kernels taut__vec_portable, taut__vec_avx2, taut__vec_avx512, taut__vec_neon;

#endif
