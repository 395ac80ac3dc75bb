/* quant_rotate_simd.h : the kernels of rotated buckets on vectors of eight floats, which the compiler maps to what the instruction set has.
 * An including file defines first, as static inline functions,
 *   f8_pick(table, i)     table[i] of eight, each i in 0..7
 *   f8_gather(table, i)   floats at table + i
 *   i8_bytes(table, i)    bytes at table + i, as integers
 *   f8_min(a, b), f8_max(a, b)
 * and gives the name of its table as ROTATE_TABLE. What does not fill vectors goes through the portable kernels. */
#ifndef TAUT_QUANT_ROTATE_SIMD_H
#define TAUT_QUANT_ROTATE_SIMD_H

#include "quant_rotate.h"

extern const taut__rotate_kernels taut__rotate_portable;

static inline f8   f8_load(const float *p) { return *(const f8_loose *)p; }
static inline void f8_store(float *p, f8 v) { *(f8_loose *)p = v; }
static inline f8   f8_all(float x) { return (f8){x, x, x, x, x, x, x, x}; }
static inline f8   f8_or(f8 a, i8 bits) { return (f8)((i8)a | bits); }

/* ---- turn ---- */

/* a +- b in one vector: lanes whose partner lies before them are negated, then partners are added, which is the same subtraction. */
#define ROTATE_INSIDE(v, h, m0, m1, m2, m3, m4, m5, m6, m7)                                                            \
    (__builtin_shufflevector(v, v, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h) +                           \
     (f8)((i8)(v) ^ ((i8){m0, m1, m2, m3, m4, m5, m6, m7} * INT32_MIN)))

static inline f8 turn_inside(f8 v)
{
    v = ROTATE_INSIDE(v, 1, 0, 1, 0, 1, 0, 1, 0, 1);
    v = ROTATE_INSIDE(v, 2, 0, 0, 1, 1, 0, 0, 1, 1);
    return ROTATE_INSIDE(v, 4, 0, 0, 0, 0, 1, 1, 1, 1);
}
static inline void turn_pair(f8 *a, f8 *b)
{
    f8 sum = *a + *b;
    *b = *a - *b;
    *a = sum;
}
/* Three stages over eight vectors. */
static inline void turn_eight(f8 v[8])
{
    QUANT_UNROLL
    for (int k = 0; k < 8; k += 2) turn_pair(&v[k], &v[k + 1]);
    QUANT_UNROLL
    for (int k = 0; k < 4; k++) turn_pair(&v[k + k / 2 * 2], &v[k + k / 2 * 2 + 2]);
    QUANT_UNROLL
    for (int k = 0; k < 4; k++) turn_pair(&v[k], &v[k + 4]);
}

/* Stages h, 2h, 4h, of n floats; h >= 8 */
static void turn_three(float *x, size_t n, size_t h)
{
    for (size_t i = 0; i < n; i += 8 * h)
        for (size_t j = i; j < i + h; j += 8) {
            f8 v[8];
            QUANT_UNROLL
            for (size_t k = 0; k < 8; k++) v[k] = f8_load(x + j + k * h);
            turn_eight(v);
            QUANT_UNROLL
            for (size_t k = 0; k < 8; k++) f8_store(x + j + k * h, v[k]);
        }
}
static void turn_one(float *x, size_t n, size_t h)
{
    for (size_t i = 0; i < n; i += 2 * h)
        for (size_t j = i; j < i + h; j += 8) {
            f8 a = f8_load(x + j), b = f8_load(x + j + h);
            turn_pair(&a, &b);
            f8_store(x + j, a), f8_store(x + j + h, b);
        }
}
static void turn_on(float *x, size_t n) /* from h = 64 on */
{
    size_t h = 64;
    for (; 8 * h <= n; h *= 8) turn_three(x, n, h);
    for (; h < n; h *= 2) turn_one(x, n, h);
}
static void turn(float *x, size_t n)
{
    if (n < 64) {
        taut__rotate_portable.turn(x, n);
        return;
    }
    for (size_t i = 0; i < n; i += 64) {
        f8 v[8];
        QUANT_UNROLL
        for (size_t k = 0; k < 8; k++) v[k] = turn_inside(f8_load(x + i + 8 * k));
        turn_eight(v);
        QUANT_UNROLL
        for (size_t k = 0; k < 8; k++) f8_store(x + i + 8 * k, v[k]);
    }
    turn_on(x, n);
}

/* ---- signs ---- */

static void flip(float *dst, const float *x, const float *sign, float factor, size_t n)
{
    size_t full = n - n % 8;
    for (size_t i = 0; i < full; i += 8) f8_store(dst + i, (f8_load(x + i) * f8_all(factor)) * f8_load(sign + i));
    taut__rotate_portable.flip(dst + full, x + full, sign + full, factor, n - full);
}

static inline void add_sums(d4 sum[2], f8 s)
{
    sum[0] += __builtin_convertvector(__builtin_shufflevector(s, s, 0, 1, 2, 3), d4);
    sum[1] += __builtin_convertvector(__builtin_shufflevector(s, s, 4, 5, 6, 7), d4);
}
static inline double fold(const d4 sum[2])
{
    double s[8];
    memcpy(s, sum, sizeof s);
    return rotate_fold(s);
}

static double flip_turn(float *dst, const float *x, const float *sign, float factor, size_t n)
{
    d4 sum[2] = {{0}, {0}};
    if (n < 64) return taut__rotate_portable.flip_turn(dst, x, sign, factor, n);
    for (size_t i = 0; i < n; i += 64) {
        f8 v[8], s = {0};
        QUANT_UNROLL
        for (size_t k = 0; k < 8; k++) v[k] = (f8_load(x + i + 8 * k) * f8_all(factor)) * f8_load(sign + i + 8 * k);
        QUANT_UNROLL
        for (size_t k = 0; k < 8; k++) s = k ? s + v[k] * v[k] : v[k] * v[k];
        add_sums(sum, s);
        QUANT_UNROLL
        for (size_t k = 0; k < 8; k++) v[k] = turn_inside(v[k]);
        turn_eight(v);
        QUANT_UNROLL
        for (size_t k = 0; k < 8; k++) f8_store(dst + i + 8 * k, v[k]);
    }
    turn_on(dst, n);
    return fold(sum);
}

static inline __attribute__((always_inline)) void give_some(float *dst, const float *h, const float *sign, f8 unit,
                                                            size_t n, bool add)
{
    const f8 most = f8_all(FLT_MAX);
    for (size_t i = 0; i < n; i += 8) {
        f8 v = (f8_load(h + i) * f8_load(sign + i)) * unit;
        v = f8_max(f8_min(v, most), -most);
        f8_store(dst + i, add ? f8_load(dst + i) + v : v);
    }
}
static void give(float *dst, const float *h, const float *sign, float unit, size_t n, bool add)
{
    size_t full = n - n % 8;
    if (add) give_some(dst, h, sign, f8_all(unit), full, true);
    else give_some(dst, h, sign, f8_all(unit), full, false);
    taut__rotate_portable.give(dst + full, h + full, sign + full, unit, n - full, add);
}

/* ---- levels ---- */

/* How many of the limits lie below a: by halves */
static inline __attribute__((always_inline)) i8 count_limits(const quant_levels *l, f8 a, uint32_t bits)
{
    const f8 limits = f8_load(l->limit); /* infinity behind the last one */
    i8       m = {0};
    if (bits >= 4) m = (a > f8_all(l->limit[3])) & 4;
    if (bits >= 3) m += (a > f8_pick(limits, m + 1)) & 2;
    if (bits >= 2) m += (a > f8_pick(limits, m)) & 1;
    return m;
}
static inline i8 cell_of(const quant_levels *l, f8 a)
{
    f8 cell = a * f8_all(QUANT_LEVELS_FINE);
    i8 last = cell >= f8_all(QUANT_LEVELS_CELLS - 1);
    cell = (f8)(((i8)cell & ~last) | ((i8)f8_all(QUANT_LEVELS_CELLS - 1) & last));
    return i8_bytes(l->of_cell, __builtin_convertvector(cell, i8));
}

/* Eight elements: code and value; returns their products. */
static inline __attribute__((always_inline)) f8 level_eight(const quant_levels *l, uint32_t bits, f8 y, float *code,
                                                            float *value)
{
    i8 negative = y < f8_all(0), sign = negative & INT32_MIN;
    f8 a = (f8)((i8)y & INT32_MAX);
    i8 m = bits <= QUANT_LEVELS_COMPARED ? count_limits(l, a, bits) : cell_of(l, a);
    f8 v = f8_or(bits <= QUANT_LEVELS_COMPARED ? f8_pick(f8_load(l->level), m) : f8_gather(l->level, m), sign);
    i8 q = (m ^ negative) + (int32_t)(1u << (bits - 1)); /* ~m is -1 - m */
    f8_store(code, __builtin_convertvector(q, f8));
    f8_store(value, v);
    return y * v;
}
static inline __attribute__((always_inline)) void level_some(const quant_levels *l, uint32_t bits, const float *w,
                                                             f8 inv, size_t n, float *code, float *value, d4 sum[2])
{
    for (size_t i = 0; i < n; i += 64) {
        f8 s = level_eight(l, bits, f8_load(w + i) * inv, code + i, value + i);
        for (size_t k = 8; k < 64; k += 8)
            s += level_eight(l, bits, f8_load(w + i + k) * inv, code + i + k, value + i + k);
        add_sums(sum, s);
    }
}
static double level(const quant_levels *l, const float *w, float inv, size_t n, float *code, float *value)
{
    if (n % 64) return taut__rotate_portable.level(l, w, inv, n, code, value);
    d4 sum[2] = {{0}, {0}};
    f8 all = f8_all(inv);
    switch (l->bits) {
    case 1: level_some(l, 1, w, all, n, code, value, sum); break;
    case 2: level_some(l, 2, w, all, n, code, value, sum); break;
    case 3: level_some(l, 3, w, all, n, code, value, sum); break;
    case 4: level_some(l, 4, w, all, n, code, value, sum); break;
    default: level_some(l, l->bits, w, all, n, code, value, sum);
    }
    return fold(sum);
}

static inline __attribute__((always_inline)) void value_some(const quant_levels *l, bool few, const float *code,
                                                             size_t n, float *dst)
{
    const f8 middle = f8_all((float)l->half - 0.5f), table = f8_load(l->level);
    for (size_t i = 0; i < n; i += 8) {
        f8 t = f8_load(code + i) - middle;
        i8 m = __builtin_convertvector((f8)((i8)t & INT32_MAX) - f8_all(0.5f), i8), sign = (i8)t & INT32_MIN;
        f8_store(dst + i, f8_or(few ? f8_pick(table, m) : f8_gather(l->level, m), sign));
    }
}
static void value(const quant_levels *l, const float *code, size_t n, float *dst)
{
    size_t full = n - n % 8;
    if (l->bits <= QUANT_LEVELS_COMPARED) value_some(l, true, code, full, dst);
    else value_some(l, false, code, full, dst);
    taut__rotate_portable.value(l, code + full, n - full, dst + full);
}

const taut__rotate_kernels ROTATE_TABLE = {
    .turn = turn,
    .flip = flip,
    .flip_turn = flip_turn,
    .level = level,
    .value = value,
    .give = give,
};

#endif
