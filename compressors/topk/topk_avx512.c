/* topk_avx512.c : collect by compress in registers, then a full store that the next one overlaps: compress-stores to
 * memory are microcoded on some CPUs. */
#include "../ahead.h"
#include "topk_kernels.h"
#include <immintrin.h>

static size_t collect(const float *restrict src, size_t n, uint32_t mask, uint32_t least, uint32_t base,
                      uint32_t *restrict pos, float *restrict val)
{
    const __m512i m = _mm512_set1_epi32((int)mask), bound = _mm512_set1_epi32((int)least);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t        found = 0;
    for (size_t i = 0; i < n; i += 16) {
        taut__ahead(src + i);
        __mmask16 valid = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512i   x = _mm512_maskz_loadu_epi32(valid, src + i);
        __mmask16 in = _mm512_mask_cmpge_epu32_mask(valid, _mm512_and_si512(x, m), bound);
        if (in == 0) continue; /* at the densities of top-k most vectors are empty, and the branch is foretold */
        __m512i at = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(base + (uint32_t)i)));
        _mm512_storeu_si512(pos + found, _mm512_maskz_compress_epi32(in, at));
        _mm512_storeu_si512(val + found, _mm512_maskz_compress_epi32(in, x));
        found += (size_t)__builtin_popcount(in);
    }
    return found;
}

const taut__topk_kernels taut__topk_avx512 = {.collect = collect};
