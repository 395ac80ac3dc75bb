/* quant_avx512vbmi2.c : all planes at once. Eight codes of eight bits are a matrix of bits, planes are its transpose, and GFNI's affine
 * map transposes: bit i of affine(x, A) is the parity of x and row 7-i of A, so with x = 1, 2, 4 ... 128 it picks columns. VBMI's
 * permutation of bytes brings the eight matrices of a group together. */
#include "quant_codes.h"
#include <immintrin.h>

/* columns of the eight matrices, whose rows stand in reverse */
static inline __m512i transpose(__m512i rows)
{
    return _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64((long long)0x8040201008040201), rows, 0);
}

static inline __attribute__((always_inline)) void put_planes(uint8_t *codes, __m512i v, uint32_t bits)
{
    const __m512i reverse = _mm512_set4_epi32(0x08090a0b, 0x0c0d0e0f, 0x00010203, 0x04050607);
    const __m512i gather =
        _mm512_set_epi64(0x3f372f271f170f07, 0x3e362e261e160e06, 0x3d352d251d150d05, 0x3c342c241c140c04,
                         0x3b332b231b130b03, 0x3a322a221a120a02, 0x3931292119110901, 0x3830282018100800);
    __m512i planes = _mm512_permutexvar_epi8(gather, transpose(_mm512_shuffle_epi8(v, reverse)));
    _mm512_mask_storeu_epi8(codes, bits < 8 ? (UINT64_C(1) << 8 * bits % 64) - 1 : ~UINT64_C(0), planes);
}

static inline __attribute__((always_inline)) __m512i get_planes(const uint8_t *codes, uint32_t bits)
{
    const __m512i gather =
        _mm512_set_epi64(0x070f171f272f373f, 0x060e161e262e363e, 0x050d151d252d353d, 0x040c141c242c343c,
                         0x030b131b232b333b, 0x020a121a222a323a, 0x0109111921293139, 0x0008101820283038);
    __mmask64 there = bits < 8 ? (UINT64_C(1) << 8 * bits % 64) - 1 : ~UINT64_C(0);
    return transpose(_mm512_permutexvar_epi8(gather, _mm512_maskz_loadu_epi8(there, codes)));
}

#include "quant_avx512.h"

const taut__quant_kernels taut__quant_avx512vbmi2 = {
    .range = range,
    .pack = pack,
    .unpack = unpack,
    .unpack_add = unpack_add,
};
