/* quant_rotate_x86.h : the vectors of quant_rotate_simd.h in registers of 256 bits; which instructions make them is the including file's flags' to say. */
#ifndef TAUT_QUANT_ROTATE_X86_H
#define TAUT_QUANT_ROTATE_X86_H

#include "quant_rotate_vector.h"
#include <immintrin.h>

static inline f8 f8_pick(f8 table, i8 i) { return (f8)_mm256_permutevar8x32_ps((__m256)table, (__m256i)i); }
static inline f8 f8_gather(const float *table, i8 i) { return (f8)_mm256_i32gather_ps(table, (__m256i)i, 4); }
static inline i8 i8_bytes(const uint8_t *table, i8 i)
{
    return (i8)_mm256_and_si256(_mm256_i32gather_epi32((const int *)(const void *)table, (__m256i)i, 1),
                                _mm256_set1_epi32(255));
}
static inline f8 f8_min(f8 a, f8 b) { return (f8)_mm256_min_ps((__m256)a, (__m256)b); }
static inline f8 f8_max(f8 a, f8 b) { return (f8)_mm256_max_ps((__m256)a, (__m256)b); }

#include "quant_rotate_simd.h"

#endif
