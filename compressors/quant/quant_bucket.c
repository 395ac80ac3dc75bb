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

/* bucket : what is known of one before its elements are coded */
typedef struct bucket {
    float      meta[2];
    kind       kind;
    quant_unit unit; /* base, step and inv of PLAIN buckets */
} bucket;

/* exact : a unit in double, for the buckets that the kernels do not take */
typedef struct exact {
    double base, step;
    bool   wide;
} exact;

static inline bool is_finite(float x) { return fabsf(x) <= FLT_MAX; }

/* Half the number of levels between -s and s */
static inline float half_levels(uint32_t bits) { return bits == 1 ? 0.5f : (float)((1 << (bits - 1)) - 1); }

/* range / levels; a subnormal quotient is rounded up, so that all levels together still span the range */
static inline float step_of(float range, float levels)
{
    float step = range / levels;
    return step < TINY && step * levels < range ? nextafterf(step, INFINITY) : step;
}

/* kind, base and step from the metadata: the same in the encoder and in the decoder */
static inline void understand(const quant_params *p, bucket *b)
{
    quant_unit *u = &b->unit;
    b->kind = PLAIN;
    if (p->norm == QUANT_MAXMIN) {
        u->base = b->meta[0];
        u->step = b->meta[1];
        if (!(u->step >= 0 && u->step <= FLT_MAX && is_finite(u->base)))
            b->kind = is_finite(u->step) && is_finite(u->base) ? WIDE : VOID;
        return;
    }
    float s = b->meta[0], m = half_levels(p->bits);
    if (!(fabsf(s) <= WIDE_RANGE / 2)) {
        b->kind = is_finite(s) ? WIDE : VOID;
        return;
    }
    u->step = step_of(s, m);
    u->base = -(m * u->step);
}

static exact exact_unit(const quant_params *p, const bucket *b)
{
    float s = b->meta[0];
    if (b->kind == PLAIN) return (exact){b->unit.base, b->unit.step, false};
    if (p->norm == QUANT_MAXMIN) return (exact){s, -2.0 * (double)b->meta[1], true};
    return (exact){-(double)s, (double)s / (double)half_levels(p->bits), true};
}

/* Metadata of x[0..n); NaN if some element is not finite. */
static inline void measure(const taut__simd *simd, const quant_params *p, const float *x, size_t n, float meta[2])
{
    float lo, hi;
    meta[0] = meta[1] = taut__float(NAN_BITS);
    if (!simd->quant->range(x, n, &lo, &hi) || !is_finite(lo) || !is_finite(hi)) return;
    if (p->norm == QUANT_L2) {
        meta[0] = (float)fmin(sqrt(simd->vec->sum2(x, n)), (double)FLT_MAX);
    } else if (p->norm == QUANT_LINF) {
        meta[0] = fmaxf(fabsf(lo), fabsf(hi));
    } else {
        float levels = (float)((1 << p->bits) - 1), span = hi - lo + 0.0f;
        meta[0] = lo + 0.0f; /* -0 becomes +0: which of the two a minimum finds depends on the order */
        meta[1] = span <= WIDE_RANGE ? step_of(span, levels)
                                     : -(float)(((double)hi - (double)lo) / (2.0 * (double)levels));
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

static quant_unit unit_for(const quant_params *p)
{
    uint32_t top = (1u << p->bits) - 1;
    if (p->norm != QUANT_MAXMIN && p->bits > 1) top--; /* symmetric: an odd number of levels */
    return (quant_unit){.bits = p->bits, .top = top, .stochastic = p->stochastic};
}

static inline void prepare(const taut__simd *simd, const quant_params *p, const float *x, size_t n, bucket *b)
{
    measure(simd, p, x, n, b->meta);
    understand(p, b);
    b->unit.inv = b->kind == PLAIN && b->unit.step >= TINY ? 65536.0f / b->unit.step : 0;
}

static void encode_bucket(const taut__simd *simd, const quant_params *p, const bucket *b, const float *x, size_t n,
                          uint8_t *codes, float *err)
{
    if (b->kind == PLAIN && (b->unit.inv > 0 || b->unit.step == 0)) {
        simd->quant->pack(&b->unit, x, n, codes, err);
    } else if (b->kind != VOID) {
        exact e = exact_unit(p, b);
        exact_pack(&b->unit, &e, x, n, codes, err);
    } else {
        memset(codes, 0, quant_code_bytes(p->bits, n));
        if (err) memset(err, 0, n * sizeof *err);
    }
}

/* The next bucket is measured before this one is packed: the two do not depend on each other, so the processor hides
 * the end of one (reduction, two divisions) behind the other. */
void taut__quant_encode(const taut__simd *simd, const quant_params *p, uint64_t seed, uint64_t first, const float *x,
                        size_t n, uint8_t *meta, uint8_t *codes, float *err)
{
    bucket   b[2] = {{.unit = unit_for(p)}, {.unit = unit_for(p)}};
    taut__rng rng = taut__rng_of(seed, first / 2);
    if (n) prepare(simd, p, x, taut__min(p->bucket, n), &b[0]);
    for (size_t i = 0, k = 0; i < n; k ^= 1) {
        size_t   len = taut__min(p->bucket, n - i), next = i + len;
        uint64_t counter = (first + i) / 2;
        if (next < n) prepare(simd, p, x + next, taut__min(p->bucket, n - next), &b[k ^ 1]);
        if ((uint32_t)counter == 0) rng = taut__rng_of(seed, counter); /* another block of 2^32 */
        b[k].unit.rng = rng;
        b[k].unit.counter = (uint32_t)counter;
        memcpy(meta, b[k].meta, 4);
        if (p->norm == QUANT_MAXMIN) memcpy(meta + 4, &b[k].meta[1], 4);
        encode_bucket(simd, p, &b[k], x + i, len, codes + i / 8 * p->bits, err ? err + i : NULL);
        meta += quant_meta_bytes(p->norm);
        i = next;
    }
}

static void decode_bucket(const taut__simd *simd, const quant_params *p, const bucket *b, const uint8_t *codes, size_t n,
                          float *dst, bool add)
{
    if (b->kind == PLAIN && add) {
        simd->quant->unpack_add(&b->unit, codes, n, dst);
    } else if (b->kind == PLAIN) {
        simd->quant->unpack(&b->unit, codes, n, dst);
    } else if (b->kind == WIDE) {
        exact e = exact_unit(p, b);
        exact_unpack(&b->unit, &e, codes, n, dst, add);
    } else {
        for (size_t i = 0; i < n; i++) dst[i] = taut__float(NAN_BITS);
    }
}

void taut__quant_decode(const taut__simd *simd, const quant_params *p, const uint8_t *meta, const uint8_t *codes, size_t n,
                        float *dst, bool add)
{
    bucket b = {.unit = unit_for(p)};
    for (size_t i = 0; i < n; i += p->bucket) {
        memcpy(&b.meta[0], meta, 4);
        if (p->norm == QUANT_MAXMIN) memcpy(&b.meta[1], meta + 4, 4);
        understand(p, &b);
        decode_bucket(simd, p, &b, codes + i / 8 * p->bits, taut__min(p->bucket, n - i), dst + i, add);
        meta += quant_meta_bytes(p->norm);
    }
}
