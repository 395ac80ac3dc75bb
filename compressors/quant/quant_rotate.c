/* quant_rotate.c : rotated buckets (EDEN, Vargaftik et al. 2022; DRIVE, 2021).
 *
 *   y = R x / rms(x)     R = H D / sqrt(n): random signs D, Hadamard's matrix H. Rotated so, elements are nearly normal, whatever they were
 *   q = nearest level    of a standard normal variable (quant_levels.h)
 *   x^ = F R' l(q)       with F = |x|^2 / <R x, l(q)> (EDEN, section 4: unbiased when R is uniformly random): metadata of the bucket
 *
 * so <x^, x> = |x|^2 always. A shorter last bucket, of n elements with 2^k < n, is rotated in two overlapping pieces, the first 2^k
 * elements and then the last 2^k, which takes no padding. The signs are the same for all buckets of a payload, which has their seed. */
#include "quant_rotate.h"
#include "../vec/vec.h"

enum { MOST = 8192, LOWEST = -100, HIGHEST = 120 }; /* exponents, so that powers of 2 are normal floats */

/* A bucket in pieces: what R does to it. */
typedef struct pieces {
    size_t n;
    size_t piece;        /* elements of a piece, the largest power of 2 up to n */
    size_t last;         /* where the second one begins; 0: there is none */
    float  first[MOST];  /* signs over the square root of the piece's elements, */
    float  second[MOST]; /* and those of the second piece; of `last` elements behind the first one: signs alone */
} pieces;

static void cut(const quant_params *p, size_t n, pieces *c)
{
    taut__rng rng = taut__rng_of(p->rotation, 0);
    uint32_t  bits = 0;
    c->n = n;
    for (c->piece = 1; 2 * c->piece <= n;) c->piece *= 2;
    c->last = n - c->piece;
    float unit = (float)(1 / sqrt((double)c->piece));
    for (size_t i = 0; i < (c->last ? 2 : 1) * c->piece; i++, bits >>= 1) {
        if (i % 32 == 0) bits = taut__random32(rng, (uint32_t)(i / 32));
        float v = bits & 1 ? -unit : unit;
        if (i < c->piece) c->first[i] = v;
        else c->second[i - c->piece] = v;
    }
}

/* w = R x * factor; returns the mean square of x * factor */
static double rotate(const taut__simd *simd, const pieces *c, const float *x, float factor, float *w)
{
    const taut__rotate_kernels *k = simd->rotate;
    double                      mean = k->flip_turn(w, x, c->first, factor, c->piece);
    if (c->last == 0) return mean; /* each square has been divided by n already */
    for (size_t i = c->piece; i < c->n; i++) w[i] = x[i] * factor;
    k->flip_turn(w + c->last, w + c->last, c->second, 1, c->piece);
    return simd->vec->sum2(x, c->n) * (double)factor * (double)factor / (double)c->n;
}
/* dst = R' w * unit, or += ; w is lost */
static void rotate_back(const taut__rotate_kernels *k, const pieces *c, float *w, float unit, float *dst, bool add)
{
    if (c->last) {
        k->turn(w + c->last, c->piece);
        k->flip(w + c->last, w + c->last, c->second, 1, c->piece);
        for (size_t i = c->piece; i < c->n; i++) dst[i] = (add ? dst[i] : 0) + rotate_give(w[i], 1, unit);
    }
    k->turn(w, c->piece);
    k->give(dst, w, c->first, unit, c->piece, add);
}

/* Codes as numbers are packed by the kernels of uniform levels. */
static quant_unit plain_unit(const quant_params *p)
{
    return (quant_unit){.base = 0, .step = 1, .inv = 65536, .bits = p->bits, .top = (1u << p->bits) - 1};
}

/* Returns F: 0 for zeros, NaN where something is not finite; the codes are then 0. value: F times its rotation back is x^ */
static float encode_bucket(const taut__simd *simd, const quant_params *p, const pieces *c, const float *x, float *value,
                           uint8_t *codes)
{
    float code[MOST], most = simd->vec->max_abs(x, c->n);
    if (!(most > 0 && quant_is_finite(most))) {
        memset(codes, 0, quant_code_bytes(p->bits, c->n));
        return most == 0 ? 0 : taut__float(QUANT_NAN);
    }
    int                 up = ilogbf(most);
    const quant_levels *levels = taut__quant_levels(p->bits);
    quant_unit          unit = plain_unit(p);
    up = up < LOWEST ? LOWEST : up > HIGHEST ? HIGHEST : up;
    double rms = sqrt(rotate(simd, c, x, ldexpf(1, -up), value));
    double dot = simd->rotate->level(levels, value, (float)(1 / rms), c->n, code, value);
    simd->quant->pack(&unit, code, c->n, codes, NULL);
    return (float)fmin(ldexp(rms * (double)c->n / dot, up), (double)FLT_MAX);
}

/* Of slices' buckets all but the last are full. */
static void cut_next(const quant_params *p, size_t left, pieces *c)
{
    size_t n = taut__min(p->bucket, left);
    if (c->n != n) cut(p, n, c);
}

void taut__rotate_encode(const taut__simd *simd, const quant_params *p, const float *x, size_t n, uint8_t *meta,
                         uint8_t *codes, float *err)
{
    float  value[MOST], back[MOST];
    pieces c;
    c.n = c.piece = c.last = 0;
    for (size_t i = 0; i < n; i += p->bucket, meta += 4) {
        cut_next(p, n - i, &c);
        float unit = encode_bucket(simd, p, &c, x + i, value, codes + i / 8 * p->bits);
        memcpy(meta, &unit, 4);
        if (!err) continue;
        if (unit > 0) {
            rotate_back(simd->rotate, &c, value, unit, back, false);
            simd->vec->residual(err + i, x + i, back, c.n);
        } else if (unit == 0) { /* zeros, or next to it */
            memmove(err + i, x + i, c.n * sizeof *err);
        } else {
            memset(err + i, 0, c.n * sizeof *err);
        }
    }
}

static void decode_bucket(const taut__simd *simd, const quant_params *p, const pieces *c, float unit,
                          const uint8_t *codes, float *dst, bool add)
{
    float      value[MOST];
    quant_unit plain = plain_unit(p);
    if (unit == 0) {
        if (!add) memset(dst, 0, c->n * sizeof *dst);
        return;
    }
    if (!quant_is_finite(unit)) {
        for (size_t i = 0; i < c->n; i++) dst[i] = taut__float(QUANT_NAN);
        return;
    }
    simd->quant->unpack(&plain, codes, c->n, value);
    simd->rotate->value(taut__quant_levels(p->bits), value, c->n, value);
    rotate_back(simd->rotate, c, value, unit, dst, add);
}

void taut__rotate_decode(const taut__simd *simd, const quant_params *p, const uint8_t *meta, const uint8_t *codes,
                         size_t n, float *dst, bool add)
{
    pieces c;
    c.n = c.piece = c.last = 0;
    for (size_t i = 0; i < n; i += p->bucket, meta += 4) {
        float unit;
        memcpy(&unit, meta, 4);
        cut_next(p, n - i, &c);
        decode_bucket(simd, p, &c, unit, codes + i / 8 * p->bits, dst + i, add);
    }
}
