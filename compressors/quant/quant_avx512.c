/* quant_avx512.c : planes by one mask each. */
#include "quant_codes.h"
#include <immintrin.h>

static inline __attribute__((always_inline)) void put_planes(uint8_t *codes, __m512i v, uint32_t bits)
{
    QUANT_UNROLL
    for (uint32_t p = 0; p < bits; p++) {
        uint64_t plane = _mm512_test_epi8_mask(v, _mm512_set1_epi8((char)(1 << p)));
        memcpy(codes + 8 * p, &plane, sizeof plane);
    }
}

static inline __attribute__((always_inline)) __m512i get_planes(const uint8_t *codes, uint32_t bits)
{
    __m512i v = _mm512_setzero_si512();
    QUANT_UNROLL
    for (uint32_t p = 0; p < bits; p++) {
        uint64_t plane;
        memcpy(&plane, codes + 8 * p, sizeof plane);
        v = _mm512_mask_add_epi8(v, plane, v, _mm512_set1_epi8((char)(1 << p)));
    }
    return v;
}

#include "quant_avx512.h"

const taut__quant_kernels taut__quant_avx512 = {
    .range = range,
    .pack = pack,
    .unpack = unpack,
    .unpack_add = unpack_add,
};
