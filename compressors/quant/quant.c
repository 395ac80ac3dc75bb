/* quant.c : uniform quantization in buckets: QSGD (Alistarh et al. 2017, section 3.1) with three norms.
 *
 * A bucket of `bucket` elements is coded as its levels and `bits` bits per element. maxmin spreads 2^bits levels from
 * the smallest to the largest element; linf and l2 spread an odd number symmetrically around zero, from minus to plus
 * the norm, so that zero is a level (bits=1: the two signs). Rounding is stochastic (unbiased) or to nearest.
 *
 * Payload: u8 bits, u8 norm, u8 round, u8 0, u32 bucket; then one record per bucket: float32 min and step (maxmin) or
 * norm (linf, l2), and the codes. A bucket that holds a NaN or an Inf has NaN there and decodes to NaN. */
#include "../codec.h"
#include "../dispatch.h"
#include "quant_kernels.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { BITS, BUCKET, NORM, ROUND, KEYS, HEADER = 8 };

static const taut_key keys[KEYS] = {
    [BITS] = {"bits", TAUT_KEY_INT, 1, 8, 4, false, NULL, "bits per element"},
    [BUCKET] = {"bucket", TAUT_KEY_INT, 64, 8192, 512, false, NULL, "elements that share a range; a multiple of 64"},
    [NORM] = {"norm", TAUT_KEY_WORD, 0, 2, QUANT_MAXMIN, false, "maxmin|linf|l2", "how a bucket's range is taken"},
    [ROUND] = {"round", TAUT_KEY_WORD, 0, 1, 0, false, "stochastic|nearest", "stochastic is unbiased"},
};

typedef struct quant_shape { /* the parameters, from a stage or from a payload */
    int    bits, norm, round;
    size_t bucket;
} quant_shape;

static quant_shape shape_of(const taut_stage *s)
{
    return (quant_shape){(int)s->value[BITS], (int)s->value[NORM], (int)s->value[ROUND], (size_t)s->value[BUCKET]};
}

static size_t meta_bytes(int norm) { return norm == QUANT_MAXMIN ? 2 * sizeof(float) : sizeof(float); }
static size_t record_bytes(const quant_shape *p, size_t n) { return meta_bytes(p->norm) + quant_packed_bytes(n, p->bits); }

/* HEADER, full buckets and a shorter last one */
static size_t payload_bytes(const quant_shape *p, size_t n)
{
    size_t rest = n % p->bucket;
    return HEADER + n / p->bucket * record_bytes(p, p->bucket) + (rest ? record_bytes(p, rest) : 0);
}

static taut_status check(const taut_stage *s, const taut_tensor *t)
{
    (void)t;
    int bucket = (int)s->value[BUCKET];
    if (bucket % 64 == 0) return TAUT_OK;
    return taut__fail(TAUT_E_RANGE, "quant: bucket=%d: must be a multiple of 64, 64..8192", bucket);
}

static size_t align(const taut_stage *s) { return (size_t)s->value[BUCKET]; }

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)t;
    quant_shape p = shape_of(s);
    return payload_bytes(&p, n);
}

/* ---- levels ---- */

/* A step too small to invert gives 0: the range is then below 1e-36 and every element takes the first level. */
static float inverse(float step)
{
    float inv = 1.0f / step;
    return step > 0 && isfinite(inv) ? inv : 0;
}

static quant_levels levels_maxmin(float min, float step, int bits)
{
    return (quant_levels){.base = min, .step = step, .inv = inverse(step), .zero = 0, .top = (1 << bits) - 1};
}

static quant_levels levels_symmetric(float norm, int bits)
{
    int s = (1 << (bits - 1)) - 1;
    if (bits == 1) return levels_maxmin(-norm, 2 * norm, 1);
    float step = norm / (float)s;
    return (quant_levels){.base = 0, .step = step, .inv = inverse(step), .zero = (float)s, .top = 2 * s};
}

/* What travels for a bucket: m[0], and m[1] for maxmin. */
static quant_levels levels_read(const quant_shape *p, const float m[2])
{
    return p->norm == QUANT_MAXMIN ? levels_maxmin(m[0], m[1], p->bits) : levels_symmetric(m[0], p->bits);
}

static float norm_l2(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    double norm = sqrt(sum);
    return norm < FLT_MAX ? (float)norm : FLT_MAX;
}

/* false: not finite. A range beyond FLT_MAX is taken as symmetric halves, so that no difference overflows. */
static bool measure(const struct taut__quant_kernels *k, const quant_shape *p, const float *x, size_t n, float m[2])
{
    float min, max;
    if (!k->range(x, n, &min, &max)) {
        m[0] = m[1] = NAN;
        return false;
    }
    if (p->norm == QUANT_MAXMIN) {
        float top = (float)((1 << p->bits) - 1);
        m[0] = min;
        m[1] = isfinite(max - min) ? (max - min) / top : max / top - min / top;
    } else {
        float linf = -min > max ? -min : max;
        m[0] = p->norm == QUANT_LINF ? linf : norm_l2(x, n);
        if (p->bits == 1 && m[0] > FLT_MAX / 2) m[0] = FLT_MAX / 2; /* the step is twice the norm */
    }
    return true;
}

/* ---- codec ---- */

static void put_header(const quant_shape *p, uint8_t *dst)
{
    uint32_t bucket = (uint32_t)p->bucket;
    dst[0] = (uint8_t)p->bits, dst[1] = (uint8_t)p->norm, dst[2] = (uint8_t)p->round, dst[3] = 0;
    for (int i = 0; i < 4; i++) dst[4 + i] = (uint8_t)(bucket >> (8 * i));
}

static taut_status get_header(const uint8_t *src, size_t len, quant_shape *p)
{
    if (len < HEADER) return taut__fail(TAUT_E_CORRUPT, "quant: payload of %zu bytes: shorter than its header", len);
    p->bits = src[0], p->norm = src[1], p->round = src[2];
    p->bucket = src[4] | (size_t)src[5] << 8 | (size_t)src[6] << 16 | (size_t)src[7] << 24;
    if (p->bits < 1 || p->bits > 8 || p->norm > QUANT_L2 || p->round > 1 || src[3] != 0 || p->bucket < 64 ||
        p->bucket > 8192 || p->bucket % 64 != 0)
        return taut__fail(TAUT_E_CORRUPT, "quant: bits=%d bucket=%zu norm=%d round=%d: not what an encoder writes", p->bits,
                          p->bucket, p->norm, p->round);
    return TAUT_OK;
}

/* Range overflow (difference of two elements above FLT_MAX): the same arithmetic in double, rare enough to be slow. */
static void encode_wide(const float *x, size_t n, int bits, const quant_levels *l, const quant_round *r, uint8_t *dst,
                        float *err)
{
    memset(dst, 0, quant_packed_bytes(n, bits));
    for (size_t i = 0; i < n; i++) {
        uint64_t at = r->first + i;
        double   u = r->stochastic ? quant_uniform(taut__rng(r->seed, at / 2), at) : 0.5;
        double   t = ((double)x[i] - l->base) / l->step + u;
        unsigned q = t >= l->top ? (unsigned)l->top : (unsigned)t;
        size_t   bit = i * (size_t)bits;
        unsigned w = q << (bit % 8);
        dst[bit / 8] |= (uint8_t)w;
        if (w >> 8) dst[bit / 8 + 1] |= (uint8_t)(w >> 8);
        if (err) err[i] = x[i] - quant_value((int)q, l);
    }
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const struct taut__quant_kernels *k = taut__simd_get()->quant;
    quant_shape                       p = shape_of(taut__stage(c));
    size_t                            bytes = payload_bytes(&p, c->n), meta = meta_bytes(p.norm);
    if (cap < bytes) return taut__fail(TAUT_E_CAPACITY, "quant: %zu bytes of room: needs %zu", cap, bytes);
    put_header(&p, dst);
    uint8_t *out = dst + HEADER;
    for (size_t i = 0; i < c->n; i += p.bucket) {
        size_t      n = taut__min(p.bucket, c->n - i), packed = quant_packed_bytes(n, p.bits);
        quant_round r = {p.round == 0, c->seed, c->first + i};
        float       m[2];
        bool        finite = measure(k, &p, src + i, n, m);
        memcpy(out, m, meta);
        quant_levels l = levels_read(&p, m);
        if (!finite) {
            memset(out + meta, 0, packed);
            if (err) memset(err + i, 0, n * sizeof *err);
        } else if (isfinite(l.step * (float)l.top)) {
            k->encode(src + i, n, p.bits, &l, &r, out + meta, err ? err + i : NULL);
        } else {
            encode_wide(src + i, n, p.bits, &l, &r, out + meta, err ? err + i : NULL);
        }
        out += meta + packed;
    }
    *len = bytes;
    return TAUT_OK;
}

static taut_status apply(const taut_call *c, const uint8_t *src, size_t len, float *dst, bool add)
{
    const struct taut__quant_kernels *k = taut__simd_get()->quant;
    quant_shape                       p;
    TAUT_TRY(get_header(src, len, &p));
    if (c->n > SIZE_MAX / 64 || len != payload_bytes(&p, c->n))
        return taut__fail(TAUT_E_CORRUPT, "quant: payload of %zu bytes for %zu elements", len, c->n);
    size_t meta = meta_bytes(p.norm);
    src += HEADER;
    for (size_t i = 0; i < c->n; i += p.bucket) {
        size_t n = taut__min(p.bucket, c->n - i);
        float  m[2] = {0};
        memcpy(m, src, meta);
        quant_levels l = levels_read(&p, m);
        k->decode(src + meta, n, p.bits, &l, dst + i, add);
        src += meta + quant_packed_bytes(n, p.bits);
    }
    return TAUT_OK;
}

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    return apply(c, src, len, dst, false);
}
static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    return apply(c, src, len, acc, true);
}

static taut_status describe(const uint8_t *src, size_t len, taut_stage *s)
{
    quant_shape p;
    TAUT_TRY(get_header(src, len, &p));
    s->value[BITS] = p.bits, s->value[BUCKET] = (double)p.bucket, s->value[NORM] = p.norm, s->value[ROUND] = p.round;
    return TAUT_OK;
}

const taut_codec taut__codec_quant = {
    .id = 4, .version = 1, .name = "quant", .help = "uniform levels in buckets, stochastic or nearest",
    .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_FEEDBACK,
    .keys = keys, .n_keys = KEYS,
    .check = check, .align = align, .capacity = capacity,
    .encode = encode, .decode = decode, .decode_add = decode_add, .describe = describe,
};
