/* grid_unit.h : codes of floats, in plain C: the specification of rounding.
 *
 *   q = sign(x) * trunc(|x| / d + 1 - dead)        value(q) = q * d
 *
 * Uniform reconstruction with a dead zone: thresholds lie at (k - 1 + dead) * d, so with dead >= 1/2 every
 * value is off by at most dead * d, and small ones, whose bits cost more than their error, become 0 (Sullivan
 * 1996; the offset is the same for all k because it is what an exponential density asks for). Every operation
 * is one IEEE operation, so that all instruction sets agree.
 */
#ifndef TAUT_GRID_UNIT_H
#define TAUT_GRID_UNIT_H

#include "../ahead.h"
#include "grid_block.h"
#include <math.h>

/* In front of short loops over vectors, which -O2 would leave as loops over memory. */
#if defined(__CUDA_ARCH__)
#define GRID_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__) /* the host's half of a .cu has no such loops, and EDG does not know the pragma */
#define GRID_UNROLL
#elif defined(__clang__)
#define GRID_UNROLL _Pragma("clang loop unroll(full)")
#else
#define GRID_UNROLL _Pragma("GCC unroll 8")
#endif

static inline void grid_prefetch(const void *block)
{
    GRID_UNROLL
    for (int line = 0; line < 4; line++) taut__ahead((const char *)block + 64 * line);
}

#define GRID_CODE_LIMIT 2147483520.0f /* largest float below 2^31 */

/* d of elements i..i+m of the chunk in tmp (padded with the step up to 64), or NULL when all are u->step. */
TAUT_INLINE const float *grid_unit_block(const grid_unit *u, size_t i, size_t m, float tmp[GRID_BLOCK])
{
    if (u->stride == 0) return NULL;
    size_t at = u->first + i;
    if (u->stride == 1) {
        for (size_t k = 0; k < m; k++) tmp[k] = u->step * u->scale[at + k];
    } else {
        size_t row = at / u->stride, left = u->stride - at % u->stride;
        for (size_t k = 0; k < m; row++, left = u->stride) {
            float  d = u->step * u->scale[row];
            size_t end = k + taut__min(left, m - k);
            for (; k < end; k++) tmp[k] = d;
        }
    }
    for (size_t k = m; k < GRID_BLOCK; k++) tmp[k] = u->step;
    return tmp;
}

/* Codes of one element; false if it has none. */
TAUT_INLINE bool grid_code(const grid_unit *u, float x, float d, float *level)
{
    float t = (u->stride ? fabsf(x) / d : fabsf(x) * u->inv) + u->bias;
    *level = t;
    return t <= GRID_CODE_LIMIT; /* false for NaN too */
}

/* m <= 64 elements -> block (zeros behind m). false: some element has no code; b is then undefined. */
TAUT_INLINE bool grid_block_quantize(const grid_unit *u, const float *x, const float *d, size_t m, grid_block *b)
{
    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < m; i++) {
        float t;
        if (!grid_code(u, x[i], d ? d[i] : u->step, &t)) return false;
        b->mag[i] = (uint32_t)t;
        b->sign |= (uint64_t)(b->mag[i] != 0 && x[i] < 0) << i;
    }
    return true;
}
TAUT_INLINE int32_t grid_block_code(const grid_block *b, size_t i)
{
    int32_t q = (int32_t)b->mag[i];
    return b->sign >> i & 1 ? -q : q;
}
TAUT_INLINE float grid_value(int32_t q, float d) { return (float)q * d; }

/* Whole block of codes -> block. Codes are > INT32_MIN. */
TAUT_INLINE void grid_block_load(const int32_t *q, size_t m, grid_block *b)
{
    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < m; i++) {
        b->mag[i] = q[i] < 0 ? 0u - (uint32_t)q[i] : (uint32_t)q[i];
        b->sign |= (uint64_t)(q[i] < 0) << i;
    }
}

/* ---- raw blocks: class WIDE, r = RAW, 32 bits per float ---- */
TAUT_INLINE unsigned grid_raw_put(grid_writer *w, const float *x, size_t m)
{
    grid_put(w, GRID_RAW, 5);
    for (size_t i = 0; i < GRID_BLOCK; i++) {
        uint32_t v = 0;
        if (i < m) memcpy(&v, x + i, 4);
        grid_put(w, v, 32);
    }
    return GRID_WIDE;
}
TAUT_INLINE void grid_raw_get(grid_reader *r, float x[GRID_BLOCK])
{
    for (size_t i = 0; i < GRID_BLOCK; i++) {
        uint32_t v = (uint32_t)grid_get(r, 32);
        memcpy(x + i, &v, 4);
    }
}

/* ---- one block between floats and bits; every level falls back on these for short, wide and raw blocks ----
 */

/* Returns the class. err: NULL or m floats. */
TAUT_INLINE unsigned grid_block_encode(const grid_unit *u, const float *x, size_t i, size_t m, float *err,
                                       grid_writer *w)
{
    float        tmp[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    grid_block   b;
    if (!grid_block_quantize(u, x, d, m, &b)) {
        grid_raw_put(w, x, m);
        if (err) memset(err, 0, m * sizeof *err);
        return GRID_WIDE;
    }
    for (size_t k = 0; err && k < m; k++) err[k] = x[k] - grid_value(grid_block_code(&b, k), d ? d[k] : u->step);
    return grid_block_put(w, &b);
}

TAUT_INLINE bool grid_quantize_plain(const grid_unit *u, const float *x, size_t i, size_t m, int32_t *q, float *err,
                                     int32_t limit)
{
    float        tmp[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    grid_block   b;
    if (!grid_block_quantize(u, x, d, m, &b)) return false;
    for (size_t k = 0; k < m; k++)
        if (b.mag[k] > (uint32_t)limit) return false;
    for (size_t k = 0; k < m; k++) {
        q[k] = grid_block_code(&b, k);
        if (err) err[k] = x[k] - grid_value(q[k], d ? d[k] : u->step);
    }
    return true;
}

TAUT_INLINE void grid_dequantize_plain(const grid_unit *u, const int32_t *q, size_t i, size_t m, float *dst)
{
    float        tmp[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    for (size_t k = 0; k < m; k++) dst[k] = grid_value(q[k], d ? d[k] : u->step);
}

/* ---- sums: in eight lanes of doubles, element i in lane i mod 8, so that all levels add in one order ----
 */

enum { GRID_SUM_LANES = 8 };

TAUT_INLINE double grid_lanes_sum(const double s[GRID_SUM_LANES])
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}
/* Squares of a block are first added in sixteen floats, then those in the doubles. */
TAUT_INLINE void grid_errors_plain(const grid_unit *u, const float *x, size_t from, size_t n,
                                   double lane[GRID_SUM_LANES])
{
    for (size_t i = from; i < n; i += GRID_BLOCK) {
        size_t       m = taut__min(GRID_BLOCK, n - i);
        float        tmp[GRID_BLOCK], e[GRID_BLOCK] = {0};
        const float *d = grid_unit_block(u, i, m, tmp);
        for (size_t k = 0; k < m; k++) {
            float t = d ? fabsf(x[i + k]) / d[k] : fabsf(x[i + k]) * u->inv;
            e[k] = t - truncf(t + u->bias);
            e[k] *= e[k];
        }
        for (size_t k = 0; k < 16; k++)
            lane[k % GRID_SUM_LANES] += (double)((e[k] + e[k + 16]) + (e[k + 32] + e[k + 48]));
    }
}
TAUT_INLINE void grid_norms_plain(const grid_unit *u, const float *x, size_t from, size_t n,
                                  double lane[GRID_SUMS][GRID_SUM_LANES])
{
    for (size_t i = from; i < n; i += GRID_BLOCK) {
        size_t       m = taut__min(GRID_BLOCK, n - i);
        float        tmp[GRID_BLOCK];
        const float *d = grid_unit_block(u, i, m, tmp);
        for (size_t k = 0; k < m; k++) {
            float  scaled = d ? x[i + k] / d[k] : x[i + k] * u->inv;
            double t = scaled, v = x[i + k];
            lane[0][k % GRID_SUM_LANES] += t * t;
            lane[1][k % GRID_SUM_LANES] += v * v;
            lane[2][k % GRID_SUM_LANES] += fabs(t);
        }
    }
}

TAUT_INLINE void grid_errors_all(const grid_unit u[GRID_STEPS], const float *x, size_t n, double sum[GRID_STEPS])
{
    for (int s = 0; s < GRID_STEPS; s++) {
        double lane[GRID_SUM_LANES] = {0};
        grid_errors_plain(&u[s], x, 0, n, lane);
        sum[s] += grid_lanes_sum(lane);
    }
}
TAUT_INLINE void grid_norms_all(const grid_unit *u, const float *x, size_t n, double sum[GRID_SUMS])
{
    double lane[GRID_SUMS][GRID_SUM_LANES] = {{0}, {0}, {0}};
    grid_norms_plain(u, x, 0, n, lane);
    for (int q = 0; q < GRID_SUMS; q++) sum[q] += grid_lanes_sum(lane[q]);
}
TAUT_INLINE void grid_dequantize_all(const grid_unit *u, const int32_t *q, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += GRID_BLOCK)
        grid_dequantize_plain(u, q + i, i, taut__min(GRID_BLOCK, n - i), dst + i);
}

/* Loops of fixed length over arrays, which compilers turn into vectors; the order of additions is spelled
 * out. */
TAUT_INLINE float grid_count_plain(const grid_unit *u, const float *x, size_t i, size_t m, const grid_binning *b,
                                   uint32_t *bins)
{
    float        tmp[GRID_BLOCK], t[GRID_BLOCK];
    int32_t      bin[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    memset(t, 0, sizeof t);
    memcpy(t, x, m * sizeof *t);
    for (int k = 0; k < GRID_BLOCK; k++) t[k] = fabsf(d ? t[k] / d[k] : t[k] * u->inv);
    for (int k = 0; k < GRID_BLOCK; k++) {
        memcpy(&bin[k], &t[k], 4);
        bin[k] = (bin[k] >> 21) - b->lowest;
        bin[k] = bin[k] < 0 ? 0 : bin[k];
        bin[k] = bin[k] > b->last ? b->last : bin[k];
    }
    for (int width = GRID_BLOCK / 2; width > 0; width /= 2)
        for (int k = 0; k < width; k++) t[k] += t[k + width];
    for (size_t k = 0; k < m; k++) bins[bin[k]]++;
    return t[0] / (float)m;
}

typedef enum grid_sink { GRID_STORE, GRID_ADD, GRID_CODES, GRID_SET_CODES } grid_sink; /* CODES adds int32 */

/* Reads a block of any class but ZERO and RUN and gives it to dst (floats) or acc (codes); false: malformed.
 */
TAUT_INLINE bool grid_block_decode(const grid_unit *u, grid_reader *r, unsigned cls, size_t i, size_t m, grid_sink sink,
                                   void *out)
{
    float      v[GRID_BLOCK], tmp[GRID_BLOCK];
    grid_block b;
    unsigned   rice = cls >= GRID_R0 ? cls - GRID_R0 : 0;
    if (cls == GRID_WIDE) {
        rice = (unsigned)grid_get(r, 5);
        if (rice < 8) return false;
    }
    if (cls == GRID_WIDE && rice == GRID_RAW) {
        if (sink == GRID_CODES) return false;
        grid_raw_get(r, v);
    } else {
        if (!grid_block_get(r, cls, rice, &b)) return false;
        if (sink != GRID_CODES) {
            const float *d = grid_unit_block(u, i, m, tmp);
            for (size_t k = 0; k < m; k++) v[k] = grid_value(grid_block_code(&b, k), d ? d[k] : u->step);
        }
    }
    if (!grid_reader_ok(r)) return false;
    if (sink == GRID_CODES) {
        int32_t *acc = (int32_t *)out;
        for (size_t k = 0; k < m; k++) acc[k] = (int32_t)((uint32_t)acc[k] + (uint32_t)grid_block_code(&b, k));
    } else if (sink == GRID_ADD) {
        float *acc = (float *)out;
        for (size_t k = 0; k < m; k++) acc[k] += v[k];
    } else {
        memcpy(out, v, m * sizeof *v);
    }
    return true;
}

#endif
