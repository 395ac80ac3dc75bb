/* quant_bucket.c : a bucket's metadata decides its unit (quant_kernels.h), the same way on both sides.
 *
 *   maxmin   two floats: base = the minimum, step = (maximum - minimum) / (2^bits - 1)
 *   linf, l2 one float, the norm s >= every magnitude. Levels are symmetric: with m = 2^(bits-1) - 1 and step = s / m,
 *            code q means (q - m) * step (QSGD, Alistarh et al. 2017, section 3.1); one bit means -s or +s.
 *
 * Three kinds of buckets:
 *   PLAIN  float32 arithmetic in the kernels.
 *   WIDE   max - min, or 2s, comes near the largest float: arithmetic in double, results clamped to the float range.
 *          In maxmin the step may exceed every float; it is stored halved and negated, which marks the bucket.
 *   VOID   the bucket held NaN or Inf: metadata NaN, codes 0, all elements decode to NaN.
 * Steps below TINY are coded in double too (65536 / step would overflow); they decode as PLAIN. */
#include "quant_bucket.h"
#include "../vec/vec.h"
#include "../vec/vec_portable.h"
#include "quant_codes.h"
#include <float.h>
#include <math.h>

static const float WIDE_RANGE = 0x1p126f, TINY = 0x1p-100f;
enum { NAN_BITS = 0x7fc00000 };

typedef enum kind { PLAIN, WIDE, VOID } kind;

/* exact : the unit in double, for the buckets that the kernels do not take */
typedef struct exact {
    double base, step;
    bool   wide;
} exact;

/* range / levels; a subnormal quotient is rounded up, so that all levels together still span the range */
static float step_of(float range, float levels)
{
    float step = range / levels;
    return step < TINY && step * levels < range ? nextafterf(step, INFINITY) : step;
}

static kind maxmin_unit(quant_unit *u, exact *e, float base, float step)
{
    if (!isfinite(base) || !isfinite(step)) return VOID;
    u->base = base;
    u->step = step;
    e->wide = step < 0;
    e->base = (double)base;
    e->step = e->wide ? -2.0 * (double)step : (double)step;
    return e->wide ? WIDE : PLAIN;
}

static kind norm_unit(quant_unit *u, exact *e, float s)
{
    float m = u->bits == 1 ? 0.5f : (float)((1 << (u->bits - 1)) - 1);
    if (!isfinite(s)) return VOID;
    e->wide = fabsf(s) > WIDE_RANGE / 2;
    if (e->wide) {
        e->base = -(double)s;
        e->step = (double)s / (double)m;
        return WIDE;
    }
    u->step = step_of(s, m);
    u->base = -(m * u->step);
    e->base = (double)u->base;
    e->step = (double)u->step;
    return PLAIN;
}

static kind unit_of(const quant_params *p, const float meta[2], quant_unit *u, exact *e)
{
    *u = (quant_unit){.bits = p->bits, .stochastic = p->stochastic};
    u->top = (1u << p->bits) - 1;
    if (p->norm == QUANT_MAXMIN) return maxmin_unit(u, e, meta[0], meta[1]);
    if (p->bits > 1) u->top--; /* 2m: symmetric */
    return norm_unit(u, e, meta[0]);
}

/* Metadata of x[0..n); NaN if some element is not finite. */
static void measure(const taut__simd *simd, const quant_params *p, const float *x, size_t n, float meta[2])
{
    float lo, hi;
    meta[0] = meta[1] = taut__float(NAN_BITS);
    if (!simd->quant->range(x, n, &lo, &hi) || !isfinite(lo) || !isfinite(hi)) return;
    if (p->norm == QUANT_L2) {
        meta[0] = (float)fmin(sqrt(simd->vec->sum2(x, n)), (double)FLT_MAX);
    } else if (p->norm == QUANT_LINF) {
        meta[0] = fmaxf(fabsf(lo), fabsf(hi));
    } else {
        float levels = (float)((1 << p->bits) - 1);
        bool  wide = !(hi - lo <= WIDE_RANGE);
        meta[0] = lo + 0.0f; /* -0 becomes +0: which of the two a minimum finds depends on the order */
        meta[1] = wide ? -(float)(((double)hi - (double)lo) / (2.0 * (double)levels)) : step_of(hi - lo + 0.0f, levels);
    }
}

/* ---- the slow path ---- */

static float exact_value(const quant_unit *u, const exact *e, uint8_t q)
{
    if (!e->wide) return u->base + (float)q * u->step;
    return (float)fmax(fmin(e->base + (double)q * e->step, (double)FLT_MAX), -(double)FLT_MAX);
}

static uint8_t exact_code(const quant_unit *u, const exact *e, float x, uint32_t r)
{
    double v = floor(((double)x - e->base) * (65536.0 / e->step) + 0.5);
    double q = floor((v + (double)r) / 65536.0);
    return (uint8_t)fmax(fmin(q, (double)u->top), 0.0);
}

static void exact_pack(const quant_unit *u, const exact *e, const float *x, size_t n, uint8_t *codes, float *err)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        uint8_t  q[QUANT_GROUP] = {0};
        size_t   g = taut__min(QUANT_GROUP, n - i);
        uint32_t counter = u->counter + (uint32_t)(i / 2);
        for (size_t j = 0; j < g; j++) q[j] = exact_code(u, e, x[i + j], quant_random(u, counter, j));
        quant_put_planes(u->bits, q, g, codes + i / 8 * u->bits);
        for (size_t j = 0; err && j < g; j++) err[i + j] = taut__residual(x[i + j], exact_value(u, e, q[j]));
    }
}

static void exact_unpack(const quant_unit *u, const exact *e, const uint8_t *codes, size_t n, float *dst, bool add)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        uint8_t q[QUANT_GROUP];
        size_t  g = taut__min(QUANT_GROUP, n - i);
        quant_get_planes(u->bits, codes + i / 8 * u->bits, g, q);
        for (size_t j = 0; j < g; j++) dst[i + j] = (add ? dst[i + j] : 0) + exact_value(u, e, q[j]);
    }
}

/* ---- buckets ---- */

void taut__quant_encode_bucket(const taut__simd *simd, const quant_params *p, uint64_t seed, uint64_t first,
                               const float *x, size_t n, uint8_t *meta, uint8_t *codes, float *err)
{
    float      m[2];
    quant_unit u;
    exact      e;
    measure(simd, p, x, n, m);
    memcpy(meta, m, quant_meta_bytes(p->norm));
    kind k = unit_of(p, m, &u, &e);
    if (k == VOID) {
        memset(codes, 0, quant_code_bytes(p->bits, n));
        if (err) memset(err, 0, n * sizeof *err);
        return;
    }
    u.rng = taut__rng(seed, first / 2);
    u.counter = (uint32_t)(first / 2);
    if (k == WIDE || (u.step > 0 && u.step < TINY)) {
        exact_pack(&u, &e, x, n, codes, err);
        return;
    }
    u.inv = u.step > 0 ? 65536.0f / u.step : 0;
    simd->quant->pack(&u, x, n, codes, err);
}

void taut__quant_decode_bucket(const taut__simd *simd, const quant_params *p, const uint8_t *meta, const uint8_t *codes,
                               size_t n, float *dst, bool add)
{
    float      m[2] = {0, 0};
    quant_unit u;
    exact      e;
    memcpy(m, meta, quant_meta_bytes(p->norm));
    switch (unit_of(p, m, &u, &e)) {
    case PLAIN: (add ? simd->quant->unpack_add : simd->quant->unpack)(&u, codes, n, dst); break;
    case WIDE: exact_unpack(&u, &e, codes, n, dst, add); break;
    case VOID:
        for (size_t i = 0; i < n; i++) dst[i] = taut__float(NAN_BITS);
        break;
    }
}
