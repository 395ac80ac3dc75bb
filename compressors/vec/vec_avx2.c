/* vec_avx2.c : 8 floats at a time. AVX2 and F16C. */
#include "vec.h"
#include "vec_portable.h"
#include <immintrin.h>
#define XXH_INLINE_ALL /* compiled here, for this ISA: the library's own is built for SSE2 */
#include <xxhash.h>

enum { W = 8, NEAREST_EVEN = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

static inline __m128i bf16_of(__m256 x)
{
    __m256i b = _mm256_castps_si256(x), high = _mm256_srli_epi32(b, 16);
    __m256i r = _mm256_add_epi32(b, _mm256_set1_epi32(0x7fff));
    r = _mm256_srli_epi32(_mm256_add_epi32(r, _mm256_and_si256(high, _mm256_set1_epi32(1))), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    r = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08);
    return _mm256_castsi256_si128(r);
}

static inline __m128i load16(const void *p, size_t i)
{
    return _mm_loadu_si128((const __m128i *)(const void *)((const char *)p + 2 * i));
}
static inline void store16(void *p, size_t i, __m128i x)
{
    _mm_storeu_si128((__m128i *)(void *)((char *)p + 2 * i), x);
}
static inline __m256 of_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }

static void to_f16(void *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(src + i);
        taut__ahead((char *)dst + 2 * i);
        store16(dst, i, _mm256_cvtps_ph(_mm256_loadu_ps(src + i), NEAREST_EVEN));
    }
    for (; i < n; i++) taut__store_u16(dst, i, taut__to_f16(src[i]));
}

static void to_bf16(void *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(src + i);
        taut__ahead((char *)dst + 2 * i);
        store16(dst, i, bf16_of(_mm256_loadu_ps(src + i)));
    }
    for (; i < n; i++) taut__store_u16(dst, i, taut__to_bf16(src[i]));
}

static void from_f16(float *dst, const void *src, size_t n)
{
    size_t i = 0;
    if (n >= TAUT_STREAM) {
        for (; (uintptr_t)(dst + i) % 32 != 0; i++) dst[i] = taut__from_f16(taut__load_u16(src, i));
        for (; i + W <= n; i += W) _mm256_stream_ps(dst + i, _mm256_cvtph_ps(load16(src, i)));
        _mm_sfence();
    }
    for (; i + W <= n; i += W) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(load16(src, i)));
    for (; i < n; i++) dst[i] = taut__from_f16(taut__load_u16(src, i));
}

static void from_bf16(float *dst, const void *src, size_t n)
{
    size_t i = 0;
    if (n >= TAUT_STREAM) {
        for (; (uintptr_t)(dst + i) % 32 != 0; i++) dst[i] = taut__from_bf16(taut__load_u16(src, i));
        for (; i + W <= n; i += W) _mm256_stream_ps(dst + i, of_bf16(load16(src, i)));
        _mm_sfence();
    }
    for (; i + W <= n; i += W) _mm256_storeu_ps(dst + i, of_bf16(load16(src, i)));
    for (; i < n; i++) dst[i] = taut__from_bf16(taut__load_u16(src, i));
}

static void add(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        __m256 y = _mm256_castsi256_ps(_mm256_loadu_si256((const __m256i *)(const void *)((const char *)x + 4 * i)));
        _mm256_storeu_ps(acc + i, _mm256_add_ps(_mm256_loadu_ps(acc + i), y));
    }
    for (; i < n; i++) acc[i] += taut__load_f32(x, i);
}

static void add_f16(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(acc + i);
        _mm256_storeu_ps(acc + i, _mm256_add_ps(_mm256_loadu_ps(acc + i), _mm256_cvtph_ps(load16(x, i))));
    }
    for (; i < n; i++) acc[i] += taut__from_f16(taut__load_u16(x, i));
}

static void add_bf16(float *acc, const void *x, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W) {
        taut__ahead(acc + i);
        _mm256_storeu_ps(acc + i, _mm256_add_ps(_mm256_loadu_ps(acc + i), of_bf16(load16(x, i))));
    }
    for (; i < n; i++) acc[i] += taut__from_bf16(taut__load_u16(x, i));
}

static void scale(float *x, float factor, size_t n)
{
    const __m256 f = _mm256_set1_ps(factor);
    size_t       i = 0;
    for (; i + W <= n; i += W) _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), f));
    for (; i < n; i++) x[i] *= factor;
}

static inline __m256 finite_or_zero(__m256 x)
{
    __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    return _mm256_and_ps(_mm256_cmp_ps(magnitude, _mm256_set1_ps(__FLT_MAX__), _CMP_LE_OQ), x);
}

static void residual(float *err, const float *x, const float *y, size_t n)
{
    size_t i = 0;
    for (; i + W <= n; i += W)
        _mm256_storeu_ps(err + i, finite_or_zero(_mm256_sub_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i))));
    for (; i < n; i++) err[i] = taut__residual(x[i], y[i]);
}

static inline void add_squares(__m256d s[2], __m256 x)
{
    x = finite_or_zero(x);
    __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(x)), b = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    s[0] = _mm256_add_pd(s[0], _mm256_mul_pd(a, a));
    s[1] = _mm256_add_pd(s[1], _mm256_mul_pd(b, b));
}

static double sum2(const float *x, size_t n)
{
    __m256d v[8];
    double  s[TAUT_SUM_LANES];
    size_t  i = 0;
    for (int k = 0; k < 8; k++) v[k] = _mm256_setzero_pd();
    for (; i + 4 * W <= n; i += 4 * W)
        for (int k = 0; k < 4; k++) add_squares(v + 2 * k, _mm256_loadu_ps(x + i + W * k));
    for (int k = 0; k < 8; k++) _mm256_storeu_pd(s + 4 * k, v[k]);
    for (; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i]);
    return taut__fold(s);
}

static double sum2_over(const float *x, const float *w, size_t n)
{
    __m256d v[8];
    double  s[TAUT_SUM_LANES];
    size_t  i = 0;
    for (int k = 0; k < 8; k++) v[k] = _mm256_setzero_pd();
    for (; i + 4 * W <= n; i += 4 * W)
        for (int k = 0; k < 4; k++)
            add_squares(v + 2 * k, _mm256_div_ps(_mm256_loadu_ps(x + i + W * k), _mm256_loadu_ps(w + i + W * k)));
    for (int k = 0; k < 8; k++) _mm256_storeu_pd(s + 4 * k, v[k]);
    for (; i < n; i++) s[i % TAUT_SUM_LANES] += taut__square(x[i] / w[i]);
    return taut__fold(s);
}

static float max_abs(const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i       m = _mm256_setzero_si256();
    uint32_t      lane[8], most = 0;
    size_t        i = 0;
    for (; i + W <= n; i += W)
        m = _mm256_max_epi32(m, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
    _mm256_storeu_si256((__m256i *)(void *)lane, m);
    for (int k = 0; k < 8; k++) most = lane[k] > most ? lane[k] : most;
    for (; i < n; i++) most = (taut__bits(x[i]) & 0x7fffffff) > most ? taut__bits(x[i]) & 0x7fffffff : most;
    return most > 0x7f800000 ? __builtin_nanf("") : taut__float(most);
}

static uint64_t hash(const void *p, size_t bytes) { return XXH3_64bits(p, bytes); }

const taut__vec_kernels taut__vec_avx2 = {
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
