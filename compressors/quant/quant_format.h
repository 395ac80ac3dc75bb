/* quant_format.h : a bucket's metadata decides its unit (quant_kernels.h), the same way in the encoder and the decoder, on
 * the CPU and on the GPU.
 *
 *   maxmin   two floats: base = the minimum, step = (maximum - minimum) / (2^bits - 1)
 *            zero=1, where minimum <= 0 <= maximum: base = -k step, so that code k is zero, with the k of the smallest step
 *            whose levels still span the bucket
 *   linf, l2 one float, the norm s >= every magnitude. Levels are symmetric: with m = 2^(bits-1) - 1 and step = s / m,
 *            code q means (q - m) * step (QSGD, Alistarh et al. 2017, section 3.1); one bit means -s or +s.
 *
 * Three kinds of buckets:
 *   PLAIN  float32 arithmetic in the kernels.
 *   WIDE   max - min, or 2s, comes near the largest float: arithmetic in double, results clamped to the float range.
 *          In maxmin the step may exceed every float; it is stored halved and negated, which marks the bucket.
 *   VOID   the bucket held NaN or Inf: metadata NaN, codes 0, all elements decode to NaN.
 * Steps below TINY are coded in double too (65536 / step would overflow); they decode as PLAIN. */
#ifndef TAUT_QUANT_FORMAT_H
#define TAUT_QUANT_FORMAT_H

#include "../vec/vec_portable.h"
#include "quant_codes.h"
#include <float.h>
#include <math.h>

#define QUANT_WIDE_RANGE 0x1p126f
#define QUANT_TINY       0x1p-100f
enum { QUANT_NAN = 0x7fc00000 };

typedef enum quant_norm { QUANT_MAXMIN, QUANT_LINF, QUANT_L2, QUANT_ROTATED } quant_norm; /* the last: quant_rotate.h */

/* quant_params : of a payload */
typedef struct quant_params {
    uint32_t   bits;
    quant_norm norm;
    bool       stochastic;
    size_t     bucket;   /* elements */
    uint32_t   rotation; /* of QUANT_ROTATED: seed of the signs */
    bool zero; /* encoder: maxmin buckets that span zero have a level there; what they mean is in their metadata */
} quant_params;

typedef enum quant_kind { QUANT_PLAIN, QUANT_WIDE, QUANT_VOID } quant_kind;

/* quant_bucket : what is known of one before its elements are coded */
typedef struct quant_bucket {
    float      meta[2];
    quant_kind kind;
    quant_unit unit; /* base, step and inv of PLAIN buckets */
} quant_bucket;

/* quant_exact : a unit in double, for the buckets that the kernels do not take */
typedef struct quant_exact {
    double base, step;
    bool   wide;
} quant_exact;

/* ---- layout of a payload (docs/wire-format.md): header, metadata padded to 8 bytes, codes ---- */

enum { QUANT_HEADER = 16 };

TAUT_INLINE size_t quant_meta_bytes(quant_norm norm) { return norm == QUANT_MAXMIN ? 8 : 4; }
TAUT_INLINE size_t quant_codes_at(const quant_params *p, size_t n)
{
    size_t meta = taut__ceil_div(n, p->bucket) * quant_meta_bytes(p->norm);
    return QUANT_HEADER + taut__ceil_div(meta, 8) * 8;
}
TAUT_INLINE size_t quant_payload_bytes(const quant_params *p, size_t n)
{
    return quant_codes_at(p, n) + quant_code_bytes(p->bits, n);
}
/* The header's first word; the second is the element count. */
TAUT_INLINE uint64_t quant_header_word(const quant_params *p)
{
    return (uint64_t)p->bits | (uint64_t)p->norm << 8 | (uint64_t)!p->stochastic << 16 |
           (uint64_t)(p->bucket / 64) << 24 | (uint64_t)p->rotation << 32;
}

/* ---- metadata ---- */

TAUT_INLINE bool quant_is_finite(float x) { return fabsf(x) <= FLT_MAX; }

/* Half the number of levels between -s and s */
TAUT_INLINE float quant_half_levels(uint32_t bits) { return bits <= 1 ? 0.5f : (float)((1 << (bits - 1)) - 1); }

/* range / levels; a subnormal quotient is rounded up, so that all levels together still span the range */
TAUT_INLINE float quant_step_of(float range, float levels)
{
    float step = range / levels;
    return step < QUANT_TINY && step * levels < range ? taut__float(taut__bits(step) + 1) : step;
}

/* kind, base and step from the metadata: the same in the encoder and in the decoder */
TAUT_INLINE void quant_understand(const quant_params *p, quant_bucket *b)
{
    quant_unit *u = &b->unit;
    b->kind = QUANT_PLAIN;
    if (p->norm == QUANT_MAXMIN) {
        u->base = b->meta[0];
        u->step = b->meta[1];
        if (!(u->step >= 0 && u->step <= FLT_MAX && quant_is_finite(u->base)))
            b->kind = quant_is_finite(u->step) && quant_is_finite(u->base) ? QUANT_WIDE : QUANT_VOID;
        return;
    }
    float s = b->meta[0], m = quant_half_levels(p->bits);
    if (!(fabsf(s) <= QUANT_WIDE_RANGE / 2)) {
        b->kind = quant_is_finite(s) ? QUANT_WIDE : QUANT_VOID;
        return;
    }
    u->step = quant_step_of(s, m);
    u->base = -(m * u->step);
}

/* The step whose levels span the bucket where level k is zero */
TAUT_INLINE float quant_step_with_zero(float lo, float hi, float levels, float k)
{
    return fmaxf(k > 0 ? quant_step_of(-lo, k) : 0, k < levels ? quant_step_of(hi, levels - k) : 0);
}
/* base + (float)k * step is zero without rounding. k is a neighbour of where zero would be, not always the nearest: below the first level and
 * a half the next one has by far the smaller step. It grows by half of itself at most with 2 bits, by 7% with 4. */
TAUT_INLINE void quant_level_at_zero(float lo, float hi, float levels, float meta[2])
{
    float k = floorf(-lo / (hi - lo) * levels), step, next;
    k = lo < 0 ? fmaxf(k, 1) : 0;
    k = hi > 0 ? fminf(k, levels - 1) : levels;
    step = quant_step_with_zero(lo, hi, levels, k);
    if (lo < 0 && k + 1 < levels) {
        next = quant_step_with_zero(lo, hi, levels, k + 1);
        if (next < step) step = next, k = k + 1;
    }
    meta[0] = -(k * step) + 0.0f;
    meta[1] = step;
}

/* Metadata from what was measured: the smallest and the largest element, or, for l2, the sum of squares. NaN unless finite. */
TAUT_INLINE void quant_meta_of(const quant_params *p, bool ordered, float lo, float hi, double sum2, float meta[2])
{
    meta[0] = meta[1] = taut__float(QUANT_NAN);
    if (!ordered || !quant_is_finite(lo) || !quant_is_finite(hi)) return;
    if (p->norm == QUANT_L2) {
        meta[0] = (float)fmin(sqrt(sum2), (double)FLT_MAX);
    } else if (p->norm == QUANT_LINF) {
        meta[0] = fmaxf(fabsf(lo), fabsf(hi));
    } else {
        float levels = (float)((1 << p->bits) - 1), span = hi - lo + 0.0f;
        meta[0] = lo + 0.0f; /* -0 becomes +0: which of the two a minimum finds depends on the order */
        meta[1] = span <= QUANT_WIDE_RANGE ? quant_step_of(span, levels)
                                           : -(float)(((double)hi - (double)lo) / (2.0 * (double)levels));
        if (p->zero && lo <= 0 && hi >= 0 && span > 0 && span <= QUANT_WIDE_RANGE / 4)
            quant_level_at_zero(lo, hi, levels, meta);
    }
}

TAUT_INLINE float quant_inverse(const quant_bucket *b)
{
    return b->kind == QUANT_PLAIN && b->unit.step >= QUANT_TINY ? 65536.0f / b->unit.step : 0;
}
/* A bucket that the kernels take. With a level at zero position * 65536 is off by less than a half up to code 63, so zeros are sure to
 * take their level. */
TAUT_INLINE bool quant_is_fast(const quant_params *p, const quant_bucket *b)
{
    bool fast = b->unit.inv > 0 && !(p->zero && p->bits > 6);
    return b->kind == QUANT_PLAIN && (fast || b->unit.step == 0);
}

TAUT_INLINE quant_unit quant_unit_for(const quant_params *p)
{
    quant_unit u = {0, 0, 0, p->bits, (1u << p->bits) - 1, p->stochastic, {0, 0}, 0};
    if (p->norm != QUANT_MAXMIN && p->bits > 1) u.top--; /* symmetric: an odd number of levels */
    return u;
}

/* ---- the slow path ---- */

TAUT_INLINE quant_exact quant_exact_unit(const quant_params *p, const quant_bucket *b)
{
    float       s = b->meta[0];
    quant_exact e = {b->unit.base, b->unit.step, false};
    if (b->kind == QUANT_PLAIN) return e;
    e.wide = true;
    e.base = p->norm == QUANT_MAXMIN ? (double)s : -(double)s;
    e.step = p->norm == QUANT_MAXMIN ? -2.0 * (double)b->meta[1] : (double)s / (double)quant_half_levels(p->bits);
    return e;
}

TAUT_INLINE float quant_exact_value(const quant_unit *u, const quant_exact *e, uint32_t q)
{
    if (!e->wide) return u->base + (float)q * u->step;
    return (float)fmax(fmin(e->base + (double)q * e->step, (double)FLT_MAX), -(double)FLT_MAX);
}

TAUT_INLINE uint32_t quant_exact_code(const quant_unit *u, const quant_exact *e, float x, uint32_t r)
{
    double v = floor(((double)x - e->base) * (65536.0 / e->step) + 0.5);
    double q = floor((v + (double)r) / 65536.0);
    return (uint32_t)fmax(fmin(q, (double)u->top), 0.0);
}

#endif
