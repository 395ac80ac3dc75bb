/* grid_avx512.h : the grid kernels on 512-bit vectors. Same bytes, codes and floats as grid_portable.c. Two files compile
 * it, each with the flags of its level: grid_avx512.c (F, BW, DQ, VL, CD) and grid_avx512vbmi2.c (VBMI, VBMI2, IFMA, VNNI
 * and VPOPCNTDQ besides), which defines GRID_TABLE, the name of the level's table, and whose primitives replace
 * those under #ifndef __AVX512VBMI2__. */
#ifndef TAUT_GRID_AVX512_H
#define TAUT_GRID_AVX512_H

#include "grid_rans.h"
#include <immintrin.h>

typedef __m512i vec64;

static inline vec64    vec64_zero(void) { return _mm512_setzero_si512(); }
static inline vec64    vec64_min(vec64 v, uint8_t x) { return _mm512_min_epu8(v, _mm512_set1_epi8((char)x)); }
static inline uint64_t vec64_sum(vec64 v)
{
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_sad_epu8(v, _mm512_setzero_si512()));
}
static inline void  vec64_store(uint8_t *p, vec64 v) { _mm512_storeu_si512(p, v); }
static inline vec64 vec64_load_bytes(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline vec64 vec64_add_at(vec64 v, uint64_t mask, uint8_t x)
{
    return _mm512_mask_add_epi8(v, mask, v, _mm512_set1_epi8((char)x));
}
static inline uint64_t vec64_at_least(vec64 v, uint8_t x)
{
    return _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)x));
}
static inline uint64_t vec64_bit(vec64 v, unsigned bit)
{
    return _mm512_test_epi8_mask(v, _mm512_set1_epi8((char)(1u << bit)));
}
static inline vec64 vec64_shift(vec64 v, unsigned r)
{
    return _mm512_and_si512(_mm512_srl_epi16(v, _mm_cvtsi32_si128((int)r)), _mm512_set1_epi8((char)(255u >> r)));
}
static inline vec64 vec64_symbols(vec64 v, uint64_t plus)
{
    return _mm512_mask_sub_epi8(_mm512_add_epi8(v, v), plus, _mm512_add_epi8(v, v), _mm512_set1_epi8(1));
}
static inline vec64 vec64_halves(vec64 s, unsigned r) /* s <= 30, r <= 4 */
{
    vec64 h = _mm512_and_si512(_mm512_srli_epi16(_mm512_add_epi8(s, _mm512_set1_epi8(1)), 1), _mm512_set1_epi8(127));
    return _mm512_sll_epi16(h, _mm_cvtsi32_si128((int)r));
}

/* Four vectors of 16 numbers below 256 -> 64 bytes in order. */
static inline vec64 narrow(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i v = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}

static inline bool vec64_quantize(const grid_unit *u, const float *x, const float *d, float *err, vec64 *v,
                                  uint64_t *sign)
{
    const __m512 bias = _mm512_set1_ps(u->bias), inv = _mm512_set1_ps(u->inv), step = _mm512_set1_ps(u->step);
    const __m512 limit = _mm512_set1_ps(256);
    __m512       in[4];
    __m512i      q[4];
    __mmask16    bad = 0;
    uint64_t     s = 0;
    GRID_UNROLL
    for (int k = 0; k < 4; k++) {
        in[k] = _mm512_loadu_ps(x + 16 * k);
        __m512 a = _mm512_abs_ps(in[k]);
        __m512 t = _mm512_add_ps(d ? _mm512_div_ps(a, _mm512_loadu_ps(d + 16 * k)) : _mm512_mul_ps(a, inv), bias);
        bad |= _mm512_cmp_ps_mask(t, limit, _CMP_NLT_UQ);
        q[k] = _mm512_cvttps_epi32(t);
        s |= (uint64_t)_mm512_movepi32_mask(_mm512_castps_si512(in[k])) << (16 * k);
    }
    if (bad) return false;
    if (err) {
        GRID_UNROLL
        for (int k = 0; k < 4; k++) {
            __m512i code = _mm512_mask_sub_epi32(q[k], (__mmask16)(s >> (16 * k)), _mm512_setzero_si512(), q[k]);
            __m512  value = _mm512_mul_ps(_mm512_cvtepi32_ps(code), d ? _mm512_loadu_ps(d + 16 * k) : step);
            _mm512_storeu_ps(err + 16 * k, _mm512_sub_ps(in[k], value));
        }
    }
    *v = narrow(q[0], q[1], q[2], q[3]);
    *sign = s;
    return true;
}

static inline bool vec64_load(const int32_t *q, vec64 *v, uint64_t *sign)
{
    __m512i   a[4];
    __mmask16 bad = 0;
    uint64_t  s = 0;
    GRID_UNROLL
    for (int k = 0; k < 4; k++) {
        __m512i c = _mm512_loadu_si512(q + 16 * k);
        a[k] = _mm512_abs_epi32(c);
        bad |= _mm512_cmpgt_epu32_mask(a[k], _mm512_set1_epi32(255));
        s |= (uint64_t)_mm512_movepi32_mask(c) << (16 * k);
    }
    if (bad) return false;
    *v = narrow(a[0], a[1], a[2], a[3]);
    *sign = s;
    return true;
}

static inline void vec64_give(vec64 v, uint64_t sign, float step, const float *d, grid_sink sink, void *out)
{
    const __m128i part[4] = {_mm512_castsi512_si128(v), _mm512_extracti32x4_epi32(v, 1),
                             _mm512_extracti32x4_epi32(v, 2), _mm512_extracti32x4_epi32(v, 3)};
    GRID_UNROLL
    for (int k = 0; k < 4; k++) {
        int32_t *codes = (int32_t *)out + 16 * k;
        float   *floats = (float *)out + 16 * k;
        __m512i  q = _mm512_cvtepu8_epi32(part[k]);
        q = _mm512_mask_sub_epi32(q, (__mmask16)(sign >> (16 * k)), _mm512_setzero_si512(), q);
        if (sink == GRID_CODES) {
            _mm512_storeu_si512(codes, _mm512_add_epi32(_mm512_loadu_si512(codes), q));
        } else if (sink == GRID_SET_CODES) {
            _mm512_storeu_si512(codes, q);
        } else {
            __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(q), d ? _mm512_loadu_ps(d + 16 * k) : _mm512_set1_ps(step));
            if (sink == GRID_ADD) x = _mm512_add_ps(_mm512_loadu_ps(floats), x);
            _mm512_storeu_ps(floats, x);
        }
    }
}

static inline void vec64_dequantize(const int32_t *q, float step, const float *d, float *dst)
{
    GRID_UNROLL
    for (size_t k = 0; k < GRID_BLOCK; k += 16) {
        __m512 x = _mm512_cvtepi32_ps(_mm512_loadu_si512(q + k));
        _mm512_storeu_ps(dst + k, _mm512_mul_ps(x, d ? _mm512_loadu_ps(d + k) : _mm512_set1_ps(step)));
    }
}

/* ---- rans: one vector holds all 16 lanes ---- */

typedef __m512i lanes;

static inline lanes lanes_load(const uint32_t *p) { return _mm512_loadu_si512(p); }
static inline void  lanes_store(uint32_t *p, lanes s) { _mm512_storeu_si512(p, s); }

typedef struct table { /* 32 entries in two registers */
    __m512i low, high;
} table;
static inline table table_load(const uint32_t *p) { return (table){_mm512_loadu_si512(p), _mm512_loadu_si512(p + 16)}; }
static inline __m512i table_at(table t, __m512i i) { return _mm512_permutex2var_epi32(t.low, i, t.high); }

static inline __m512i range_start(__m512i g) { return _mm512_and_si512(g, _mm512_set1_epi32(GRID_PROBS - 1)); }
static inline __m512i range_f(__m512i g)
{
    return _mm512_and_si512(_mm512_srli_epi32(g, GRID_RANGE_F), _mm512_set1_epi32(2 * GRID_PROBS - 1));
}

static inline uint8_t *lanes_put_block(lanes *s, const grid_model *m, const uint8_t *symbol, uint8_t *end)
{
    const table   range = table_load(m->range), rcp = table_load(m->rcp);
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i       x = *s;
    GRID_UNROLL
    for (int k = 3; k >= 0; k--) {
        __m512i   i = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(symbol + 16 * k)));
        __m512i   g = table_at(range, i), f = range_f(g), start = range_start(g);
        __mmask16 full = _mm512_cmpge_epu32_mask(x, _mm512_slli_epi32(f, 31 - GRID_PROB_BITS));
        int       words = __builtin_popcount(full);
        /* the words go to the top of 32 bytes that end at `end`; what lies below is written later */
        __m512i c = _mm512_maskz_compress_epi32(full, x);
        c = _mm512_permutexvar_epi32(_mm512_add_epi32(iota, _mm512_set1_epi32(words)), c);
        _mm256_storeu_si256((__m256i *)(end - 32), _mm512_cvtepi32_epi16(c));
        end -= 2 * words;
        x = _mm512_mask_srli_epi32(x, full, x, 16);
        __m512i r = table_at(rcp, i),
                h = _mm512_add_epi32(_mm512_srli_epi32(g, GRID_RANGE_SHIFT), _mm512_set1_epi32(31));
        __m512i even = _mm512_srlv_epi64(_mm512_mul_epu32(x, r), _mm512_and_si512(h, _mm512_set1_epi64(63)));
        __m512i odd = _mm512_srlv_epi64(_mm512_mul_epu32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(r, 32)),
                                        _mm512_srli_epi64(h, 32));
        __m512i q = _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
        /* q * 2048 + (x - q * f) + start */
        x = _mm512_add_epi32(_mm512_add_epi32(x, start),
                             _mm512_mullo_epi32(q, _mm512_sub_epi32(_mm512_set1_epi32(GRID_PROBS), f)));
    }
    *s = x;
    return end;
}

/* Symbols of the slots of 16 states, and the states without them. */
#ifdef __AVX512VBMI2__
/* No gather: a slot's symbol is the number of symbols that start up to it. Which ones start in its bucket of 32 slots is
 * a mask; how many start before is a byte; both tables lie in registers. The product f * (x >> 11) is one
 * vpdpwssd of words: x >> 11 is split in 4 low bits and 16 high ones, which are made signed by taking 2^15 from them;
 * `rest` gives it back. */
typedef struct decoder {
    __m512i starts[4], before;
    table   factor, rest;
} decoder;
static inline decoder decoder_load(const grid_model *m)
{
    return (decoder){{_mm512_loadu_si512(m->starts), _mm512_loadu_si512(m->starts + 16),
                      _mm512_loadu_si512(m->starts + 32), _mm512_loadu_si512(m->starts + 48)},
                     _mm512_loadu_si512(m->before),
                     table_load(m->factor),
                     table_load(m->rest)};
}
static inline __m512i decoder_step(const decoder *d, __m512i x, __m512i *symbols)
{
    enum { ANDXOR = 0x6a }; /* (a & b) ^ c */
    const __m512i slot = _mm512_and_si512(x, _mm512_set1_epi32(GRID_PROBS - 1)), bucket = _mm512_srli_epi32(x, 5);
    const __m512i low4 = _mm512_ternarylogic_epi32(_mm512_srli_epi32(x, GRID_PROB_BITS), _mm512_set1_epi32(15),
                                                   _mm512_set1_epi32(INT32_MIN), ANDXOR);
    const __m512i parts =
        _mm512_ternarylogic_epi32(_mm512_slli_epi32(x, 1), _mm512_set1_epi32((int)0xffff0000), low4, ANDXOR);
    const __mmask16 upper = _mm512_test_epi32_mask(x, _mm512_set1_epi32(GRID_PROBS / 2));
    __m512i         starts = _mm512_mask_mov_epi32(_mm512_permutex2var_epi32(d->starts[0], bucket, d->starts[1]), upper,
                                                   _mm512_permutex2var_epi32(d->starts[2], bucket, d->starts[3]));
    starts = _mm512_sllv_epi32(starts, _mm512_andnot_si512(x, _mm512_set1_epi32(31)));
    __m512i before = _mm512_maskz_permutexvar_epi8(0x1111111111111111, bucket, d->before);
    __m512i i = _mm512_add_epi32(before, _mm512_popcnt_epi32(starts));
    *symbols = i;
    return _mm512_dpwssd_epi32(_mm512_add_epi32(slot, table_at(d->rest, i)), parts, table_at(d->factor, i));
}
#else
typedef struct decoder {
    table          range;
    const uint8_t *symbol;
} decoder;
static inline decoder decoder_load(const grid_model *m) { return (decoder){table_load(m->range), m->symbol}; }
static inline __m512i decoder_step(const decoder *d, __m512i x, __m512i *symbols)
{
    __m512i slot = _mm512_and_si512(x, _mm512_set1_epi32(GRID_PROBS - 1));
    __m512i i = _mm512_and_si512(_mm512_i32gather_epi32(slot, d->symbol, 1), _mm512_set1_epi32(255));
    __m512i g = table_at(d->range, i);
    *symbols = i;
    return _mm512_add_epi32(_mm512_mullo_epi32(range_f(g), _mm512_srli_epi32(x, GRID_PROB_BITS)),
                            _mm512_sub_epi32(slot, range_start(g)));
}
#endif

/* Refills the states that are low from the words at *w. */
static inline __m512i lanes_refill(__m512i x, const uint8_t **w)
{
    __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(GRID_STATE_LOW));
    __m512i   in = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)*w));
    *w += 2 * __builtin_popcount(low);
    return _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), _mm512_maskz_expand_epi32(low, in));
}

static inline bool lanes_get_block(lanes *s, const grid_model *m, const uint8_t **words, const uint8_t *end,
                                   vec64 *symbols)
{
    const decoder  d = decoder_load(m);
    const uint8_t *w = *words;
    __m512i        x = *s, i[4];
    GRID_UNROLL
    for (int k = 0; k < 4; k++) {
        if (w > end) return false;
        x = lanes_refill(decoder_step(&d, x, &i[k]), &w);
    }
    *s = x;
    *words = w;
    *symbols = narrow(i[0], i[1], i[2], i[3]);
    return w <= end;
}

static inline bool lanes_get_pair(lanes *s, lanes *t, const grid_model *m, const grid_model *n, grid_back *a,
                                  grid_back *b, vec64 *p, vec64 *q)
{
    const decoder  d = decoder_load(m), e = decoder_load(n);
    const uint8_t *w = a->words, *v = b->words;
    __m512i        x = *s, y = *t, i[4], j[4];
    GRID_UNROLL
    for (int k = 0; k < 4; k++) {
        if (w > a->words_end || v > b->words_end) return false;
        x = decoder_step(&d, x, &i[k]);
        y = decoder_step(&e, y, &j[k]);
        x = lanes_refill(x, &w);
        y = lanes_refill(y, &v);
    }
    *s = x, *t = y;
    a->words = w, b->words = v;
    *p = narrow(i[0], i[1], i[2], i[3]);
    *q = narrow(j[0], j[1], j[2], j[3]);
    return w <= a->words_end && v <= b->words_end;
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

static inline __m512d add_halves(__m512d sum, __m512 v)
{
    sum = _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
    return _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
}

static void errors(const grid_unit u[GRID_STEPS], const float *x, size_t n, double sum[GRID_STEPS])
{
    __m512d acc[GRID_STEPS];
    size_t  whole = n / GRID_BLOCK * GRID_BLOCK;
    double  lane[GRID_STEPS][GRID_SUM_LANES];
    for (int s = 0; s < GRID_STEPS; s++) acc[s] = _mm512_setzero_pd();
    for (size_t i = 0; i < whole; i += GRID_BLOCK) {
        grid_prefetch(x + i);
        for (int s = 0; s < GRID_STEPS; s++) {
            float        tmp[GRID_BLOCK];
            const float *d = grid_unit_block(&u[s], i, GRID_BLOCK, tmp);
            const __m512 inv = _mm512_set1_ps(u[s].inv), bias = _mm512_set1_ps(u[s].bias);
            __m512       e[4];
            GRID_UNROLL
            for (size_t k = 0; k < 4; k++) {
                __m512 a = _mm512_abs_ps(_mm512_loadu_ps(x + i + 16 * k));
                __m512 t = d ? _mm512_div_ps(a, _mm512_loadu_ps(d + 16 * k)) : _mm512_mul_ps(a, inv);
                e[k] = _mm512_sub_ps(
                    t, _mm512_roundscale_ps(_mm512_add_ps(t, bias), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC));
                e[k] = _mm512_mul_ps(e[k], e[k]);
            }
            acc[s] = add_halves(acc[s], _mm512_add_ps(_mm512_add_ps(e[0], e[1]), _mm512_add_ps(e[2], e[3])));
        }
    }
    for (int s = 0; s < GRID_STEPS; s++) {
        _mm512_storeu_pd(lane[s], acc[s]);
        grid_errors_plain(&u[s], x, whole, n, lane[s]);
        sum[s] += grid_lanes_sum(lane[s]);
    }
}

static inline __m512d add_squares(__m512d sum, __m512 v)
{
    __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    return _mm512_add_pd(_mm512_add_pd(sum, _mm512_mul_pd(a, a)), _mm512_mul_pd(b, b));
}

static inline __m512d add_magnitudes(__m512d sum, __m512 v)
{
    __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    return _mm512_add_pd(_mm512_add_pd(sum, _mm512_abs_pd(a)), _mm512_abs_pd(b));
}

static void norms(const grid_unit *u, const float *x, size_t n, double sum[GRID_SUMS])
{
    __m512d scaled = _mm512_setzero_pd(), plain = _mm512_setzero_pd(), magnitude = _mm512_setzero_pd();
    size_t  whole = n / GRID_BLOCK * GRID_BLOCK;
    double  lane[GRID_SUMS][GRID_SUM_LANES];
    bool    same = u->stride == 0 && u->inv == 1; /* no scale: one sum is the other */
    for (size_t i = 0; i < whole; i += GRID_BLOCK) {
        float        tmp[GRID_BLOCK];
        const float *d = grid_unit_block(u, i, GRID_BLOCK, tmp);
        grid_prefetch(x + i);
        for (size_t k = 0; k < GRID_BLOCK; k += 16) {
            __m512 v = _mm512_loadu_ps(x + i + k);
            plain = add_squares(plain, v);
            if (same) {
                magnitude = add_magnitudes(magnitude, v);
                continue;
            }
            v = d ? _mm512_div_ps(v, _mm512_loadu_ps(d + k)) : _mm512_mul_ps(v, _mm512_set1_ps(u->inv));
            scaled = add_squares(scaled, v);
            magnitude = add_magnitudes(magnitude, v);
        }
    }
    _mm512_storeu_pd(lane[0], same ? plain : scaled);
    _mm512_storeu_pd(lane[1], plain);
    _mm512_storeu_pd(lane[2], magnitude);
    grid_norms_plain(u, x, whole, n, lane);
    for (int s = 0; s < GRID_SUMS; s++) sum[s] += grid_lanes_sum(lane[s]);
}

static float count(const grid_unit *u, const float *x, size_t i, size_t m, const grid_binning *b, uint32_t *bins)
{
    if (m < GRID_BLOCK) return grid_count_plain(u, x, i, m, b, bins);
    float        tmp[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    uint32_t     bin[GRID_BLOCK];
    __m512       t[4];
    GRID_UNROLL
    for (int k = 0; k < 4; k++) {
        __m512 v = _mm512_loadu_ps(x + 16 * k);
        t[k] =
            _mm512_abs_ps(d ? _mm512_div_ps(v, _mm512_loadu_ps(d + 16 * k)) : _mm512_mul_ps(v, _mm512_set1_ps(u->inv)));
        __m512i n = _mm512_sub_epi32(_mm512_srli_epi32(_mm512_castps_si512(t[k]), 21), _mm512_set1_epi32(b->lowest));
        n = _mm512_min_epi32(_mm512_max_epi32(n, _mm512_setzero_si512()), _mm512_set1_epi32(b->last));
        _mm512_storeu_si512(bin + 16 * k, n);
    }
    for (int k = 0; k < GRID_BLOCK; k++) bins[bin[k]]++;
    __m512 s = _mm512_add_ps(_mm512_add_ps(t[0], t[2]), _mm512_add_ps(t[1], t[3]));
    return grid_sum8(_mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1))) / GRID_BLOCK;
}

const struct taut__grid_kernels GRID_TABLE = {
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

#endif
