/* quant_avx2.c : a group of 64 is eight vectors of floats and two of codes; movemask makes planes. */
#include "quant_codes.h"
#include <immintrin.h>

static bool range(const float *x, size_t n, float *min, float *max)
{
    size_t full = n - n % QUANT_GROUP;
    __m256 lo[4], hi[4], nan = _mm256_setzero_ps();
    QUANT_UNROLL
    for (int k = 0; k < 4; k++) lo[k] = hi[k] = _mm256_set1_ps(x[0]);
    for (size_t i = 0; i < full; i += 32) {
        __m256 v[4];
        QUANT_UNROLL
        for (int k = 0; k < 4; k++) {
            v[k] = _mm256_loadu_ps(x + i + 8 * k);
            lo[k] = _mm256_min_ps(v[k], lo[k]);
            hi[k] = _mm256_max_ps(v[k], hi[k]);
        }
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v[0], v[1], _CMP_UNORD_Q));
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v[2], v[3], _CMP_UNORD_Q));
    }
    float a[8], b[8];
    bool  fine = _mm256_movemask_ps(nan) == 0;
    _mm256_storeu_ps(a, _mm256_min_ps(_mm256_min_ps(lo[0], lo[1]), _mm256_min_ps(lo[2], lo[3])));
    _mm256_storeu_ps(b, _mm256_max_ps(_mm256_max_ps(hi[0], hi[1]), _mm256_max_ps(hi[2], hi[3])));
    *min = a[0], *max = b[0];
    if (full < n) fine &= taut__quant_portable.range(x + full, n - full, min, max);
    QUANT_UNROLL
    for (int k = 0; k < 8; k++) {
        *min = a[k] < *min ? a[k] : *min;
        *max = b[k] > *max ? b[k] : *max;
    }
    return fine;
}

static inline __m256i random8x32(taut__rng g, uint32_t counter) /* taut__random32 in every lane */
{
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i       x = _mm256_add_epi32(lanes, _mm256_set1_epi32((int)(counter + g.k0)));
    x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
    x = _mm256_mullo_epi32(x, _mm256_set1_epi32(0x7feb352d));
    x = _mm256_xor_si256(_mm256_xor_si256(x, _mm256_srli_epi32(x, 15)), _mm256_set1_epi32((int)g.k1));
    x = _mm256_mullo_epi32(x, _mm256_set1_epi32((int)0x846ca68b));
    return _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
}

/* r of 64 elements */
static inline void randoms(const quant_unit *u, uint32_t counter, __m256i r[8])
{
    QUANT_UNROLL
    for (int k = 0; k < 8; k++) r[k] = _mm256_set1_epi32(0x8000);
    if (!u->stochastic) return;
    QUANT_UNROLL
    for (uint32_t k = 0; k < 4; k++) {
        __m256i h = random8x32(u->rng, counter + 8 * k);
        r[k] = _mm256_and_si256(h, _mm256_set1_epi32(0xffff));
        r[k + 4] = _mm256_srli_epi32(h, 16);
    }
}

/* 4 x 8 numbers, clamped to 0..255 by saturation -> 32 bytes in order */
static inline __m256i narrow(const __m256i q[4])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i       ab = _mm256_packs_epi32(q[0], q[1]), cd = _mm256_packs_epi32(q[2], q[3]);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), order);
}

static inline void put_planes(uint32_t bits, __m256i low, __m256i high, uint8_t *codes)
{
    QUANT_UNROLL
    for (uint32_t p = 0; p < bits; p++) { /* bit p of every byte to the byte's top */
        const __m128i up = _mm_cvtsi32_si128(7 - (int)p);
        uint32_t      plane[2] = {(uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(low, up)),
                                  (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(high, up))};
        memcpy(codes + 8 * p, plane, sizeof plane);
    }
}

static void pack_full(const quant_unit *u, const float *x, size_t n, uint8_t *codes, float *err)
{
    const __m256  base = _mm256_set1_ps(u->base), inv = _mm256_set1_ps(u->inv), step = _mm256_set1_ps(u->step);
    const __m256i top = _mm256_set1_epi8((char)u->top), top32 = _mm256_set1_epi32((int)u->top);
    for (size_t i = 0; i < n; i += QUANT_GROUP, codes += 8 * u->bits) {
        __m256i q[8], r[8];
        randoms(u, u->counter + (uint32_t)(i / 2), r);
        QUANT_UNROLL
        for (int k = 0; k < 8; k++) {
            __m256 v = _mm256_loadu_ps(x + i + 8 * k);
            if (k % 2 == 0) quant_prefetch(x + i + 8 * k, n);
            q[k] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(v, base), inv));
            q[k] = _mm256_srai_epi32(_mm256_add_epi32(q[k], r[k]), 16);
            if (!err) continue;
            __m256i c = _mm256_min_epi32(_mm256_max_epi32(q[k], _mm256_setzero_si256()), top32);
            __m256  value = _mm256_add_ps(base, _mm256_mul_ps(_mm256_cvtepi32_ps(c), step));
            _mm256_storeu_ps(err + i + 8 * k, _mm256_sub_ps(v, value));
        }
        put_planes(u->bits, _mm256_min_epu8(narrow(q), top), _mm256_min_epu8(narrow(q + 4), top), codes);
    }
}

static void pack(const quant_unit *u, const float *x, size_t n, uint8_t *codes, float *err)
{
    size_t full = n - n % QUANT_GROUP;
    pack_full(u, x, full, codes, err);
    if (full == n) return;
    quant_unit rest = *u;
    rest.counter += (uint32_t)(full / 2);
    taut__quant_portable.pack(&rest, x + full, n - full, codes + full / 8 * u->bits, err ? err + full : NULL);
}

/* 32 codes as bytes: byte j of a copied plane is the plane's byte j / 8, from which bit j % 8 is taken. */
static inline __m256i get_planes(uint32_t bits, const uint8_t *codes)
{
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i pick = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i       all = _mm256_setzero_si256();
    QUANT_UNROLL
    for (uint32_t p = 0; p < bits; p++) {
        int32_t plane;
        memcpy(&plane, codes + 8 * p, sizeof plane);
        __m256i b = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(plane), spread), pick);
        b = _mm256_and_si256(_mm256_cmpeq_epi8(b, pick), _mm256_set1_epi8((char)(1 << p)));
        all = _mm256_or_si256(all, b);
    }
    return all;
}

static inline __attribute__((always_inline)) void unpack_full(const quant_unit *u, const uint8_t *codes, size_t n,
                                                              float *dst, bool add)
{
    const __m256 base = _mm256_set1_ps(u->base), step = _mm256_set1_ps(u->step);
    for (size_t i = 0; i < n; i += 32) { /* half a group: planes are 8 bytes apart, a half takes 4 of each */
        uint8_t        all[32];
        const uint8_t *half = codes + i / QUANT_GROUP * 8 * u->bits + i % QUANT_GROUP / 8;
        _mm256_storeu_si256((__m256i *)(void *)all, get_planes(u->bits, half));
        QUANT_UNROLL
        for (int k = 0; k < 4; k++) {
            __m128i q8 = _mm_loadl_epi64((const __m128i *)(const void *)(all + 8 * k));
            __m256  q = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(q8));
            __m256  value = _mm256_add_ps(base, _mm256_mul_ps(q, step));
            if (add) value = _mm256_add_ps(_mm256_loadu_ps(dst + i + 8 * k), value);
            _mm256_storeu_ps(dst + i + 8 * k, value);
        }
    }
}

static void unpack(const quant_unit *u, const uint8_t *codes, size_t n, float *dst)
{
    size_t full = n - n % QUANT_GROUP;
    unpack_full(u, codes, full, dst, false);
    if (full < n) taut__quant_portable.unpack(u, codes + full / 8 * u->bits, n - full, dst + full);
}

static void unpack_add(const quant_unit *u, const uint8_t *codes, size_t n, float *acc)
{
    size_t full = n - n % QUANT_GROUP;
    unpack_full(u, codes, full, acc, true);
    if (full < n) taut__quant_portable.unpack_add(u, codes + full / 8 * u->bits, n - full, acc + full);
}

const taut__quant_kernels taut__quant_avx2 = {
    .range = range,
    .pack = pack,
    .unpack = unpack,
    .unpack_add = unpack_add,
};
