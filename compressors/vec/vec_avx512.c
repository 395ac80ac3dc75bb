/* vec_avx512.c : 16 floats at a time. AVX-512 F and DQ; bf16 by integer arithmetic, as few CPUs have AVX512-BF16 and its
 * conversion flushes subnormals. */
#include "vec.h"
#include "vec_portable.h"
#include <immintrin.h>
#define XXH_INLINE_ALL /* compiled here, for this ISA: the library's own is built for SSE2 */
#include <xxhash.h>

enum { W = 16, NEAREST_EVEN = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

static inline __m256i bf16_of(__m512 x)
{
    const __m512i one = _mm512_set1_epi32(1);
    __m512i       b = _mm512_castps_si512(x), high = _mm512_srli_epi32(b, 16);
    __m512i       r = _mm512_add_epi32(_mm512_add_epi32(b, _mm512_set1_epi32(0x7fff)), _mm512_and_si512(high, one));
    r = _mm512_srli_epi32(r, 16);
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), high, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(r);
}

static inline __m256i load16(const void *p, size_t i)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)((const char *)p + 2 * i));
}
static inline void store16(void *p, size_t i, __m256i x)
{
    _mm256_storeu_si256((__m256i *)(void *)((char *)p + 2 * i), x);
}
static inline __m512 of_bf16(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }

static void to_f16(void *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(src + i);
        taut__ahead((char *)dst + 2 * i);
        store16(dst, i, _mm512_cvtps_ph(_mm512_loadu_ps(src + i), NEAREST_EVEN));
    }
    for (; i < n; i++) taut__store_u16(dst, i, taut__to_f16(src[i]));
}

static void to_bf16(void *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(src + i);
        taut__ahead((char *)dst + 2 * i);
        store16(dst, i, bf16_of(_mm512_loadu_ps(src + i)));
    }
    for (; i < n; i++) taut__store_u16(dst, i, taut__to_bf16(src[i]));
}

static void from_f16(float *dst, const void *src, size_t n)
{
    size_t i = 0;
    if (n >= TAUT_STREAM) {
        for (; (uintptr_t)(dst + i) % 64 != 0; i++) dst[i] = taut__from_f16(taut__load_u16(src, i));
        for (; i + W <= n; i += W) _mm512_stream_ps(dst + i, _mm512_cvtph_ps(load16(src, i)));
        _mm_sfence();
    }
    for (; i + W <= n; i += W) _mm512_storeu_ps(dst + i, _mm512_cvtph_ps(load16(src, i)));
    for (; i < n; i++) dst[i] = taut__from_f16(taut__load_u16(src, i));
}

static void from_bf16(float *dst, const void *src, size_t n)
{
    size_t i = 0;
    if (n >= TAUT_STREAM) {
        for (; (uintptr_t)(dst + i) % 64 != 0; i++) dst[i] = taut__from_bf16(taut__load_u16(src, i));
        for (; i + W <= n; i += W) _mm512_stream_ps(dst + i, of_bf16(load16(src, i)));
        _mm_sfence();
    }
    for (; i + W <= n; i += W) _mm512_storeu_ps(dst + i, of_bf16(load16(src, i)));
    for (; i < n; i++) dst[i] = taut__from_bf16(taut__load_u16(src, i));
}

static void add(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        __m512 y = _mm512_loadu_ps((const void *)((const char *)x + 4 * i));
        _mm512_storeu_ps(acc + i, _mm512_add_ps(_mm512_loadu_ps(acc + i), y));
    }
    for (; i < n; i++) acc[i] += taut__load_f32(x, i);
}

static void add_f16(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(acc + i);
        _mm512_storeu_ps(acc + i, _mm512_add_ps(_mm512_loadu_ps(acc + i), _mm512_cvtph_ps(load16(x, i))));
    }
    for (; i < n; i++) acc[i] += taut__from_f16(taut__load_u16(x, i));
}

static void add_bf16(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(acc + i);
        _mm512_storeu_ps(acc + i, _mm512_add_ps(_mm512_loadu_ps(acc + i), of_bf16(load16(x, i))));
    }
    for (; i < n; i++) acc[i] += taut__from_bf16(taut__load_u16(x, i));
}

static void scale(float *x, float factor, size_t n)
{
    const __m512 f = _mm512_set1_ps(factor);
    size_t       i = 0;
    for (; i + W <= n; i += W) _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), f));
    for (; i < n; i++) x[i] *= factor;
}

static inline __mmask16 is_finite(__m512 x)
{
    return _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(__FLT_MAX__), _CMP_LE_OQ);
}

static void residual(float *err, const float *x, const float *y, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        __m512 r = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i));
        _mm512_storeu_ps(err + i, _mm512_maskz_mov_ps(is_finite(r), r));
    }
    for (; i < n; i++) err[i] = taut__residual(x[i], y[i]);
}

/* s[0], s[1] += squares of 16 elements */
static inline void add_squares(__m512d s[2], __m512 x)
{
    x = _mm512_maskz_mov_ps(is_finite(x), x);
    __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    s[0] = _mm512_add_pd(s[0], _mm512_mul_pd(a, a));
    s[1] = _mm512_add_pd(s[1], _mm512_mul_pd(b, b));
}

static double sum2(const float *x, size_t n)
{
    __m512d v[4] = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd()};
    double  s[TAUT_SUM_LANES];
    size_t  i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        add_squares(v, _mm512_loadu_ps(x + i));
        add_squares(v + 2, _mm512_loadu_ps(x + i + W));
    }
    for (int k = 0; k < 4; k++) _mm512_storeu_pd(s + 8 * k, v[k]);
    for (; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i]);
    return taut__fold(s);
}

static double sum2_over(const float *x, const float *w, size_t n)
{
    __m512d v[4] = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd()};
    double  s[TAUT_SUM_LANES];
    size_t  i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        add_squares(v, _mm512_div_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(w + i)));
        add_squares(v + 2, _mm512_div_ps(_mm512_loadu_ps(x + i + W), _mm512_loadu_ps(w + i + W)));
    }
    for (int k = 0; k < 4; k++) _mm512_storeu_pd(s + 8 * k, v[k]);
    for (; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i] / w[i]);
    return taut__fold(s);
}

static float max_abs(const float *x, size_t n)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i       m[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t        i = 0;
    for (; i + 2 * W <= n; i += 2 * W)
        for (size_t k = 0; k < 2; k++)
            m[k] = _mm512_max_epi32(m[k], _mm512_and_si512(_mm512_loadu_si512(x + i + k * W), magnitude));
    uint32_t most = (uint32_t)_mm512_reduce_max_epi32(_mm512_max_epi32(m[0], m[1]));
    for (; i < n; i++) most = (taut__bits(x[i]) & 0x7fffffff) > most ? taut__bits(x[i]) & 0x7fffffff : most;
    return most > 0x7f800000 ? __builtin_nanf("") : taut__float(most);
}

static uint64_t hash(const void *p, size_t bytes) { return XXH3_64bits(p, bytes); }

const taut__vec_kernels taut__vec_avx512 = {
    .to_f16 = to_f16,
    .to_bf16 = to_bf16,
    .from_f16 = from_f16,
    .from_bf16 = from_bf16,
    .add = add,
    .add_f16 = add_f16,
    .add_bf16 = add_bf16,
    .scale = scale,
    .residual = residual,
    .sum2 = sum2,
    .sum2_over = sum2_over,
    .max_abs = max_abs,
    .hash = hash,
};
