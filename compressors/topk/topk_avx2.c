/* topk_avx2.c : collect with a table of permutations in place of AVX-512's compress. */
#include "../ahead.h"
#include "topk_kernels.h"
#include <immintrin.h>
#include <string.h>

/* The lanes of an 8-bit mask, in order, to the front. PDEP spreads the mask over bytes and PEXT picks the lane numbers,
 * so that no 8 KiB table competes for L1. */
static inline __m256i front(unsigned in)
{
    uint64_t lanes = _pdep_u64(in, 0x0101010101010101u) * 0xff; /* bit i -> byte i */
    uint64_t order = _pext_u64(0x0706050403020100u, lanes);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)order));
}

static size_t collect(const float *restrict src, size_t n, uint32_t mask, uint32_t least, uint32_t base,
                      uint32_t *restrict pos, float *restrict val)
{
    const __m256i m = _mm256_set1_epi32((int)mask), bound = _mm256_set1_epi32((int)least);
    size_t        found = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        taut__ahead(src + i);
        __m256i  x = _mm256_loadu_si256((const __m256i *)(const void *)(src + i)), y = _mm256_and_si256(x, m);
        __m256i  ge = _mm256_cmpeq_epi32(_mm256_max_epu32(y, bound), y); /* unsigned y >= bound */
        unsigned in = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(ge));
        if (in == 0) continue;
        __m256i order = front(in), at = _mm256_add_epi32(order, _mm256_set1_epi32((int)(base + (uint32_t)i)));
        _mm256_storeu_si256((__m256i *)(void *)(pos + found), at);
        _mm256_storeu_si256((__m256i *)(void *)(val + found), _mm256_permutevar8x32_epi32(x, order));
        found += (size_t)__builtin_popcount(in);
    }
    for (; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &src[i], sizeof bits);
        pos[found] = base + (uint32_t)i;
        val[found] = src[i];
        found += (bits & mask) >= least;
    }
    return found;
}

const taut__topk_kernels taut__topk_avx2 = {.collect = collect};
