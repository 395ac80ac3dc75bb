/* grid_avx2.c : the grid kernels on 256-bit vectors (AVX2, BMI2). Same bytes, codes and floats as
 * grid_portable.c. */
#include "grid_rans.h"
#include <immintrin.h>

typedef struct vec64 {
    __m256i a, b;
} vec64;

static inline uint64_t mask64(__m256i a, __m256i b) /* top bits of 64 bytes */
{
    return (uint32_t)_mm256_movemask_epi8(a) | (uint64_t)(uint32_t)_mm256_movemask_epi8(b) << 32;
}
static inline __m256i spread32(uint32_t mask) /* byte i = 255 where bit i is set */
{
    const __m256i which = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                           3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i       v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)mask), which);
    return _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit);
}
static inline vec64 vec64_zero(void) { return (vec64){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static inline vec64 vec64_min(vec64 v, uint8_t x)
{
    __m256i m = _mm256_set1_epi8((char)x);
    return (vec64){_mm256_min_epu8(v.a, m), _mm256_min_epu8(v.b, m)};
}
static inline uint64_t vec64_sum(vec64 v)
{
    __m256i z = _mm256_setzero_si256(), s = _mm256_add_epi64(_mm256_sad_epu8(v.a, z), _mm256_sad_epu8(v.b, z));
    __m128i t = _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    return (uint64_t)_mm_cvtsi128_si64(t) + (uint64_t)_mm_extract_epi64(t, 1);
}
static inline void vec64_store(uint8_t *p, vec64 v)
{
    _mm256_storeu_si256((__m256i *)p, v.a);
    _mm256_storeu_si256((__m256i *)(p + 32), v.b);
}
static inline vec64 vec64_load_bytes(const uint8_t *p)
{
    return (vec64){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32))};
}
static inline vec64 vec64_add_at(vec64 v, uint64_t mask, uint8_t x)
{
    __m256i m = _mm256_set1_epi8((char)x);
    return (vec64){_mm256_add_epi8(v.a, _mm256_and_si256(spread32((uint32_t)mask), m)),
                   _mm256_add_epi8(v.b, _mm256_and_si256(spread32((uint32_t)(mask >> 32)), m))};
}
static inline uint64_t vec64_at_least(vec64 v, uint8_t x)
{
    __m256i m = _mm256_set1_epi8((char)x);
    return mask64(_mm256_cmpeq_epi8(_mm256_max_epu8(v.a, m), v.a), _mm256_cmpeq_epi8(_mm256_max_epu8(v.b, m), v.b));
}
static inline uint64_t vec64_bit(vec64 v, unsigned bit)
{
    __m128i n = _mm_cvtsi32_si128((int)(7 - bit)); /* moves the bit to the top of its byte */
    return mask64(_mm256_sll_epi16(v.a, n), _mm256_sll_epi16(v.b, n));
}
static inline vec64 vec64_shift(vec64 v, unsigned r)
{
    __m128i n = _mm_cvtsi32_si128((int)r);
    __m256i m = _mm256_set1_epi8((char)(255u >> r));
    return (vec64){_mm256_and_si256(_mm256_srl_epi16(v.a, n), m), _mm256_and_si256(_mm256_srl_epi16(v.b, n), m)};
}
static inline vec64 vec64_symbols(vec64 v, uint64_t plus)
{
    v = (vec64){_mm256_add_epi8(v.a, v.a), _mm256_add_epi8(v.b, v.b)};
    return vec64_add_at(v, plus, 255);
}
static inline __m256i halves(__m256i s, __m128i r)
{
    __m256i h = _mm256_srli_epi16(_mm256_add_epi8(s, _mm256_set1_epi8(1)), 1);
    return _mm256_sll_epi16(_mm256_and_si256(h, _mm256_set1_epi8(127)), r);
}
static inline vec64 vec64_halves(vec64 s, unsigned r) /* s <= 30, r <= 4 */
{
    __m128i n = _mm_cvtsi32_si128((int)r);
    return (vec64){halves(s.a, n), halves(s.b, n)};
}

/* Four vectors of 8 numbers below 256 -> 32 bytes in order. */
static inline __m256i narrow(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i v = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
    return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static inline bool vec64_quantize(const grid_unit *u, const float *x, const float *d, float *err, vec64 *v,
                                  uint64_t *sign)
{
    const __m256 bias = _mm256_set1_ps(u->bias), inv = _mm256_set1_ps(u->inv), step = _mm256_set1_ps(u->step);
    const __m256 limit = _mm256_set1_ps(256), minus = _mm256_set1_ps(-0.0f);
    __m256       bad = _mm256_setzero_ps();
    __m256i      q[8];
    uint64_t     s = 0;
    GRID_UNROLL
    for (int k = 0; k < 8; k++) {
        __m256 in = _mm256_loadu_ps(x + 8 * k), a = _mm256_andnot_ps(minus, in);
        __m256 t = _mm256_add_ps(d ? _mm256_div_ps(a, _mm256_loadu_ps(d + 8 * k)) : _mm256_mul_ps(a, inv), bias);
        bad = _mm256_or_ps(bad, _mm256_cmp_ps(t, limit, _CMP_NLT_UQ));
        q[k] = _mm256_cvttps_epi32(t);
        s |= (uint64_t)(uint32_t)_mm256_movemask_ps(in) << (8 * k);
    }
    if (_mm256_movemask_ps(bad)) return false;
    if (err) {
        GRID_UNROLL
        for (int k = 0; k < 8; k++) {
            __m256  in = _mm256_loadu_ps(x + 8 * k);
            __m256i negative = _mm256_srai_epi32(_mm256_castps_si256(in), 31);
            __m256i code = _mm256_sub_epi32(_mm256_xor_si256(q[k], negative), negative);
            __m256  value = _mm256_mul_ps(_mm256_cvtepi32_ps(code), d ? _mm256_loadu_ps(d + 8 * k) : step);
            _mm256_storeu_ps(err + 8 * k, _mm256_sub_ps(in, value));
        }
    }
    *v = (vec64){narrow(q[0], q[1], q[2], q[3]), narrow(q[4], q[5], q[6], q[7])};
    *sign = s;
    return true;
}

static inline bool vec64_load(const int32_t *q, vec64 *v, uint64_t *sign)
{
    __m256i  a[8], all = _mm256_setzero_si256();
    uint64_t s = 0;
    GRID_UNROLL
    for (int k = 0; k < 8; k++) {
        __m256i c = _mm256_loadu_si256((const __m256i *)(q + 8 * k));
        a[k] = _mm256_abs_epi32(c);
        all = _mm256_or_si256(all, a[k]);
        s |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(c)) << (8 * k);
    }
    if (!_mm256_testz_si256(all, _mm256_set1_epi32(~255))) return false;
    *v = (vec64){narrow(a[0], a[1], a[2], a[3]), narrow(a[4], a[5], a[6], a[7])};
    *sign = s;
    return true;
}

static inline void vec64_give(vec64 v, uint64_t sign, float step, const float *d, grid_sink sink, void *out)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    uint8_t       mag[GRID_BLOCK];
    vec64_store(mag, v);
    GRID_UNROLL
    for (int k = 0; k < 8; k++) {
        int32_t *codes = (int32_t *)out + 8 * k;
        float   *floats = (float *)out + 8 * k;
        __m256i  negative =
            _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)(sign >> (8 * k) & 255)), bit), bit);
        __m256i q = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(mag + 8 * k)));
        q = _mm256_sub_epi32(_mm256_xor_si256(q, negative), negative);
        if (sink == GRID_CODES) {
            q = _mm256_add_epi32(q, _mm256_loadu_si256((const __m256i *)codes));
            _mm256_storeu_si256((__m256i *)codes, q);
        } else if (sink == GRID_SET_CODES) {
            _mm256_storeu_si256((__m256i *)codes, q);
        } else {
            __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(q), d ? _mm256_loadu_ps(d + 8 * k) : _mm256_set1_ps(step));
            if (sink == GRID_ADD) x = _mm256_add_ps(_mm256_loadu_ps(floats), x);
            _mm256_storeu_ps(floats, x);
        }
    }
}

static inline void vec64_dequantize(const int32_t *q, float step, const float *d, float *dst)
{
    for (size_t k = 0; k < GRID_BLOCK; k += 8) {
        __m256 x = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(q + k)));
        _mm256_storeu_ps(dst + k, _mm256_mul_ps(x, d ? _mm256_loadu_ps(d + k) : _mm256_set1_ps(step)));
    }
}

/* ---- rans: two vectors hold the 16 lanes ---- */

typedef struct lanes {
    __m256i x[2];
} lanes;

static inline lanes lanes_load(const uint32_t *p)
{
    return (lanes){{_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))}};
}
static inline void lanes_store(uint32_t *p, lanes s)
{
    _mm256_storeu_si256((__m256i *)p, s.x[0]);
    _mm256_storeu_si256((__m256i *)(p + 8), s.x[1]);
}
/* Lane numbers, one byte each: those of the mask, in order, ending in the last byte (below: anything). */
static inline __m256i gather_order(unsigned mask, unsigned count)
{
    uint64_t bytes = _pdep_u64(mask, UINT64_C(0x0101010101010101)) * 255;
    uint64_t order = _pext_u64(UINT64_C(0x0706050403020100), bytes) << 4 * (8 - count) << 4 * (8 - count);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)order));
}
/* The inverse with the words in front: lane i of the mask takes the word of its rank. */
static inline __m256i scatter_order(unsigned mask)
{
    uint64_t bytes = _pdep_u64(mask, UINT64_C(0x0101010101010101)) * 255;
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)_pdep_u64(UINT64_C(0x0706050403020100), bytes)));
}
static inline __m256i at(const uint32_t *table, __m256i i) { return _mm256_i32gather_epi32((const int *)table, i, 4); }

static inline __m256i range_start(__m256i g) { return _mm256_and_si256(g, _mm256_set1_epi32(GRID_PROBS - 1)); }
static inline __m256i range_f(__m256i g)
{
    return _mm256_and_si256(_mm256_srli_epi32(g, GRID_RANGE_F), _mm256_set1_epi32(2 * GRID_PROBS - 1));
}

/* Eight symbols into eight lanes; their words end at `end`. */
static inline __m256i lanes_put_half(__m256i x, const grid_model *m, const uint8_t *symbol, uint8_t **end)
{
    __m256i i = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)symbol));
    __m256i g = at(m->range, i), r = at(m->rcp, i);
    __m256i h = _mm256_add_epi32(_mm256_srli_epi32(g, GRID_RANGE_SHIFT), _mm256_set1_epi32(31));
    __m256i f = range_f(g), start = range_start(g);
    __m256i below =
        _mm256_cmpgt_epi32(_mm256_slli_epi32(f, 31 - GRID_PROB_BITS), x); /* states are below 2^31: signed will do */
    unsigned full = ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(below)) & 255;
    /* low halves of the full lanes, in order, at the top of 16 bytes that end at `end`; what lies below is
     * written later */
    unsigned words = (unsigned)_mm_popcnt_u32(full);
    __m256i  c = _mm256_permutevar8x32_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)), gather_order(full, words));
    _mm_storeu_si128((__m128i *)(*end - 16),
                     _mm_packus_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1)));
    *end -= 2 * words;
    x = _mm256_blendv_epi8(_mm256_srli_epi32(x, 16), x, below);
    __m256i even = _mm256_srlv_epi64(_mm256_mul_epu32(x, r), _mm256_and_si256(h, _mm256_set1_epi64x(63)));
    __m256i odd = _mm256_srlv_epi64(_mm256_mul_epu32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(r, 32)),
                                    _mm256_srli_epi64(h, 32));
    __m256i q = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    return _mm256_add_epi32(_mm256_add_epi32(x, start),
                            _mm256_mullo_epi32(q, _mm256_sub_epi32(_mm256_set1_epi32(GRID_PROBS), f)));
}

static inline uint8_t *lanes_put_block(lanes *s, const grid_model *m, const uint8_t *symbol, uint8_t *end)
{
    GRID_UNROLL
    for (int k = 3; k >= 0; k--) GRID_UNROLL
    for (int h = 1; h >= 0; h--) s->x[h] = lanes_put_half(s->x[h], m, symbol + 16 * k + 8 * h, &end);
    return end;
}

/* Eight symbols from eight lanes. */
static inline __m256i lanes_get_half(__m256i *state, const grid_model *m, const uint8_t **words)
{
    __m256i x = *state, slot = _mm256_and_si256(x, _mm256_set1_epi32(GRID_PROBS - 1));
    __m256i i = _mm256_and_si256(_mm256_i32gather_epi32((const int *)m->symbol, slot, 1), _mm256_set1_epi32(255));
    __m256i g = at(m->range, i), f = range_f(g), start = range_start(g);
    x = _mm256_add_epi32(_mm256_mullo_epi32(f, _mm256_srli_epi32(x, GRID_PROB_BITS)), _mm256_sub_epi32(slot, start));
    __m256i  low = _mm256_cmpgt_epi32(_mm256_set1_epi32(GRID_STATE_LOW), x); /* malformed states read words, no more */
    unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    __m256i  in = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)*words));
    in = _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_permutevar8x32_epi32(in, scatter_order(mask)));
    *words += 2 * _mm_popcnt_u32(mask);
    *state = _mm256_blendv_epi8(x, in, low);
    return i;
}

static inline bool lanes_get_block(lanes *s, const grid_model *m, const uint8_t **words, const uint8_t *end,
                                   vec64 *symbols)
{
    __m256i i[8];
    GRID_UNROLL
    for (int k = 0; k < 8; k++) {
        if (*words > end) return false;
        i[k] = lanes_get_half(&s->x[k % 2], m, words);
    }
    *symbols = (vec64){narrow(i[0], i[1], i[2], i[3]), narrow(i[4], i[5], i[6], i[7])};
    return *words <= end;
}
/* One after the other: the processor overlaps them as far as its window reaches. */
static inline bool lanes_get_pair(lanes *s, lanes *t, const grid_model *m, const grid_model *n, grid_back *a,
                                  grid_back *b, vec64 *p, vec64 *q)
{
    return lanes_get_block(s, m, &a->words, a->words_end, p) && lanes_get_block(t, n, &b->words, b->words_end, q);
}

static inline uint64_t bits_extract(uint64_t v, uint64_t mask) { return _pext_u64(v, mask); }
static inline uint64_t bits_deposit(uint64_t v, uint64_t mask) { return _pdep_u64(v, mask); }
static inline uint64_t bits_low(uint64_t v, unsigned n) { return _bzhi_u64(v, n); }

#include "grid_simd.h"

/* Upper half onto lower half, three times: the order of grid_count_plain. */
static inline float grid_sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

static inline __m256d low_half(__m256 v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
static inline __m256d high_half(__m256 v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }

static void errors(const grid_unit u[GRID_STEPS], const float *x, size_t n, double sum[GRID_STEPS])
{
    size_t  whole = n / GRID_BLOCK * GRID_BLOCK;
    __m256d acc[GRID_STEPS][2];
    for (int s = 0; s < GRID_STEPS; s++) acc[s][0] = acc[s][1] = _mm256_setzero_pd();
    for (size_t i = 0; i < whole; i += GRID_BLOCK) {
        grid_prefetch(x + i);
        for (int s = 0; s < GRID_STEPS; s++) {
            float        tmp[GRID_BLOCK];
            const float *d = grid_unit_block(&u[s], i, GRID_BLOCK, tmp);
            const __m256 inv = _mm256_set1_ps(u[s].inv), bias = _mm256_set1_ps(u[s].bias),
                         minus = _mm256_set1_ps(-0.0f);
            __m256 e[8];
            GRID_UNROLL
            for (size_t k = 0; k < 8; k++) {
                __m256 a = _mm256_andnot_ps(minus, _mm256_loadu_ps(x + i + 8 * k));
                __m256 t = d ? _mm256_div_ps(a, _mm256_loadu_ps(d + 8 * k)) : _mm256_mul_ps(a, inv);
                e[k] =
                    _mm256_sub_ps(t, _mm256_round_ps(_mm256_add_ps(t, bias), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC));
                e[k] = _mm256_mul_ps(e[k], e[k]);
            }
            GRID_UNROLL
            for (size_t k = 0; k < 2; k++) { /* elements 0..7 of each sixteen, then 8..15 */
                __m256 sum16 = _mm256_add_ps(_mm256_add_ps(e[k], e[k + 2]), _mm256_add_ps(e[k + 4], e[k + 6]));
                acc[s][0] = _mm256_add_pd(acc[s][0], low_half(sum16));
                acc[s][1] = _mm256_add_pd(acc[s][1], high_half(sum16));
            }
        }
    }
    for (int s = 0; s < GRID_STEPS; s++) {
        double lane[GRID_SUM_LANES];
        _mm256_storeu_pd(lane, acc[s][0]);
        _mm256_storeu_pd(lane + 4, acc[s][1]);
        grid_errors_plain(&u[s], x, whole, n, lane);
        sum[s] += grid_lanes_sum(lane);
    }
}

static void norms(const grid_unit *u, const float *x, size_t n, double sum[GRID_SUMS])
{
    const __m256d sign = _mm256_set1_pd(-0.0);
    size_t        whole = n / GRID_BLOCK * GRID_BLOCK;
    __m256d       acc[GRID_SUMS][2];
    double        lane[GRID_SUMS][GRID_SUM_LANES];
    for (int s = 0; s < GRID_SUMS; s++) acc[s][0] = acc[s][1] = _mm256_setzero_pd();
    for (size_t i = 0; i < whole; i += GRID_BLOCK) {
        grid_prefetch(x + i);
        float        tmp[GRID_BLOCK];
        const float *d = grid_unit_block(u, i, GRID_BLOCK, tmp);
        for (size_t k = 0; k < GRID_BLOCK; k += 8) {
            __m256 v = _mm256_loadu_ps(x + i + k);
            __m256 t = d ? _mm256_div_ps(v, _mm256_loadu_ps(d + k)) : _mm256_mul_ps(v, _mm256_set1_ps(u->inv));
            acc[0][0] = _mm256_add_pd(acc[0][0], _mm256_mul_pd(low_half(t), low_half(t)));
            acc[0][1] = _mm256_add_pd(acc[0][1], _mm256_mul_pd(high_half(t), high_half(t)));
            acc[2][0] = _mm256_add_pd(acc[2][0], _mm256_andnot_pd(sign, low_half(t)));
            acc[2][1] = _mm256_add_pd(acc[2][1], _mm256_andnot_pd(sign, high_half(t)));
            acc[1][0] = _mm256_add_pd(acc[1][0], _mm256_mul_pd(low_half(v), low_half(v)));
            acc[1][1] = _mm256_add_pd(acc[1][1], _mm256_mul_pd(high_half(v), high_half(v)));
        }
    }
    for (int s = 0; s < GRID_SUMS; s++) {
        _mm256_storeu_pd(lane[s], acc[s][0]);
        _mm256_storeu_pd(lane[s] + 4, acc[s][1]);
    }
    grid_norms_plain(u, x, whole, n, lane);
    for (int s = 0; s < GRID_SUMS; s++) sum[s] += grid_lanes_sum(lane[s]);
}

static float count(const grid_unit *u, const float *x, size_t i, size_t m, const grid_binning *b, uint32_t *bins)
{
    if (m < GRID_BLOCK) return grid_count_plain(u, x, i, m, b, bins);
    float        tmp[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    uint32_t     bin[GRID_BLOCK];
    __m256       t[8];
    GRID_UNROLL
    for (int k = 0; k < 8; k++) {
        __m256 v = _mm256_loadu_ps(x + 8 * k);
        v = d ? _mm256_div_ps(v, _mm256_loadu_ps(d + 8 * k)) : _mm256_mul_ps(v, _mm256_set1_ps(u->inv));
        t[k] = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
        __m256i n = _mm256_sub_epi32(_mm256_srli_epi32(_mm256_castps_si256(t[k]), 21), _mm256_set1_epi32(b->lowest));
        n = _mm256_min_epi32(_mm256_max_epi32(n, _mm256_setzero_si256()), _mm256_set1_epi32(b->last));
        _mm256_storeu_si256((__m256i *)(bin + 8 * k), n);
    }
    for (int k = 0; k < GRID_BLOCK; k++) bins[bin[k]]++;
    for (int width = 4; width > 0; width /= 2)
        for (int k = 0; k < width; k++) t[k] = _mm256_add_ps(t[k], t[k + width]);
    return grid_sum8(t[0]) / GRID_BLOCK;
}

const struct taut__grid_kernels taut__grid_avx2 = {
    .encode = simd_encode,
    .quantize = simd_quantize,
    .pack = simd_pack,
    .decode = simd_decode,
    .unpack_add = simd_unpack_add,
    .dequantize = simd_dequantize,
    .quantize_pack = simd_quantize_pack,
    .unpack_values = simd_unpack_values,
    .front_encode = simd_front_encode,
    .front_pack = simd_front_pack,
    .lanes_put = simd_lanes_put,
    .lanes_get = simd_lanes_get,
    .errors = errors,
    .norms = norms,
    .count = count,
};
