/* quant.c : uniform quantization in buckets (QSGD's and CGX's), 1 to 8 bits per element.
 *
 * Payload (docs/wire-format.md), with B = ceil(elements / bucket) buckets:
 *   0  u8 bits   1  u8 norm   2  u8 round   3  u8 bucket / 64   4  u32 0, or seed of a rotation   8  u64 elements
 *  16  metadata of B buckets, 8 bytes each (maxmin) or 4 (linf, l2), then zeros up to a multiple of 8
 *      codes of all buckets, back to back: bit planes of groups of 64 (quant_kernels.h)
 */
#include "../ops.h"
#include "quant_bucket.h"
#include "quant_codes.h"
#include "quant_rotate.h"

enum { BITS, BUCKET, NORM, ROUND, ZERO, ROTATE, KEYS };

static const taut_key keys[KEYS] = {
    [BITS] = {.name = "bits", .kind = TAUT_KEY_INT, .min = 1, .max = 8, .fallback = 4, .help = "per element"},
    [BUCKET] = {.name = "bucket",
                .kind = TAUT_KEY_INT,
                .min = 64,
                .max = 8192,
                .fallback = 512,
                .multiple = 64,
                .help = "elements that share a range"},
    [NORM] = {.name = "norm",
              .kind = TAUT_KEY_WORD,
              .words = "maxmin|linf|l2",
              .fallback = QUANT_MAXMIN,
              .help = "what spans the levels of a bucket"},
    [ROUND] = {.name = "round",
               .kind = TAUT_KEY_WORD,
               .words = "stochastic|nearest",
               .fallback = 0,
               .help = "stochastic is unbiased, nearest has half the error"},
    [ZERO] = {.name = "zero",
              .kind = TAUT_KEY_INT,
              .min = 0,
              .max = 1,
              .fallback = 0,
              .help = "1: maxmin puts a level at zero, so that zeros stay zeros; 0: they become noise of up to a step"},
    [ROTATE] = {.name = "rotate",
                .kind = TAUT_KEY_INT,
                .min = 0,
                .max = 1,
                .fallback = 0,
                .help = "1: buckets are rotated at random and take the best levels of normal variables: least error"},
};

quant_params taut__quant_params(const taut_stage *s)
{
    return (quant_params){.bits = (uint32_t)s->value[BITS],
                          .norm = s->value[ROTATE] != 0 ? QUANT_ROTATED : (quant_norm)s->value[NORM],
                          .stochastic = s->value[ROUND] == 0,
                          .bucket = (size_t)s->value[BUCKET],
                          .zero = s->value[ZERO] != 0};
}

static taut_status check_rotated(const taut_stage *s)
{
    size_t bucket = (size_t)s->value[BUCKET];
    for (int k = NORM; k <= ZERO; k++)
        if (s->value[k] != 0)
            return taut__fail(TAUT_E_INVALID,
                              "quant: %s with rotate=1, which has levels and rounding of its own: must be left out",
                              keys[k].name);
    if ((bucket & (bucket - 1)) == 0) return TAUT_OK;
    return taut__fail(TAUT_E_RANGE, "quant: bucket=%zu with rotate=1: must be 64, 128, 256, ... 8192", bucket);
}

static taut_status check(const taut_stage *s, const taut_tensor *t)
{
    (void)t;
    if (s->value[ROTATE] != 0) return check_rotated(s);
    if (s->value[ZERO] == 0 || s->value[BITS] > 1) return TAUT_OK;
    return taut__fail(TAUT_E_RANGE, "quant: zero=1 with bits=1: the two levels are the ends: bits must be 2..8");
}

/* Largest error in a bucket over its largest magnitude, or the range of errors over the range of values (maxmin): with L steps
 * between the ends 2 / L (stochastic; nearest: 1 / L), so one bit repeats what it is given; with a level at zero one step fewer
 * may span the values, which is 2 / 2 with two bits. linf has m = 2^(bits-1) - 1 steps on
 * each side: 1 / m (nearest: 1 / 2m). l2: in squares, at most step^2 / 4 for each of the bucket's elements: bucket / 4m^2. */
static const char *expands(const taut_stage *s)
{
    quant_params p = taut__quant_params(s);
    double       m = (double)((1u << (p.bits - 1)) - 1);
    switch (p.norm) {
    case QUANT_ROTATED: /* 2 bits: at most 0.14 in squares; 1 bit: (1, 1, 0, ...) is turned into zeros and equal values, and x^ - x is as long as x */
        return p.bits < 2 ? "with one bit the error may be as large as the values: use bits=2 or more" : NULL;
    case QUANT_MAXMIN:
        if (p.bits < 2) return "with one bit the error is as large as the values: use bits=2 or more";
        return p.zero && p.bits < 3 && p.stochastic
                   ? "with zero=1 and two bits the error is as large as the values: use "
                     "bits=3 or more, or round=nearest"
                   : NULL;
    case QUANT_LINF:
        if (p.bits >= (p.stochastic ? 3 : 2)) return NULL;
        return p.stochastic ? "with norm=linf the error is as large as the values: use bits=3 or more, or norm=maxmin"
                            : "with norm=linf the error is as large as the values: use bits=2 or more, or norm=maxmin";
    default:
        return (double)p.bucket < 4 * m * m ? NULL
                                            : "with norm=l2 the error is larger than the values: use more bits, a "
                                              "smaller bucket, or norm=maxmin";
    }
}

/* ---- layout ---- */

static size_t align(const taut_stage *s) { return (size_t)s->value[BUCKET]; }

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)t;
    quant_params p = taut__quant_params(s);
    return quant_payload_bytes(&p, n);
}

static size_t fixed(const taut_stage *s, const taut_tensor *t, size_t first, size_t n)
{
    (void)first;
    return capacity(s, t, n);
}

static void put_header(const quant_params *p, size_t n, uint8_t *dst)
{
    uint64_t word[2] = {quant_header_word(p), n};
    memcpy(dst, word, sizeof word);
}

static uint16_t version_of(const uint8_t *payload) { return payload[1] == QUANT_ROTATED ? 2 : 1; }

static taut_status get_header(const uint8_t *src, size_t len, quant_params *p, uint64_t *n)
{
    uint32_t zero;
    bool     rotated = false;
    if (len < QUANT_HEADER)
        return taut__fail(TAUT_E_CORRUPT, "quant: payload of %zu bytes: shorter than its header", len);
    memcpy(&zero, src + 4, sizeof zero);
    memcpy(n, src + 8, sizeof *n);
    rotated = src[1] == QUANT_ROTATED && src[2] == 0 && (src[3] & (src[3] - 1)) == 0;
    if (src[0] < 1 || src[0] > 8 || src[2] > 1 || src[3] < 1 || src[3] > 8192 / 64 ||
        (!rotated && (src[1] > QUANT_L2 || zero != 0)))
        return taut__fail(TAUT_E_CORRUPT, "quant: malformed header: bits=%d norm=%d round=%d bucket=%d", src[0], src[1],
                          src[2], 64 * src[3]);
    *p = (quant_params){.bits = src[0],
                        .norm = (quant_norm)src[1],
                        .stochastic = src[2] == 0,
                        .bucket = 64u * src[3],
                        .rotation = zero};
    return TAUT_OK;
}

static taut_status describe(const uint8_t *src, size_t len, taut_stage *s)
{
    quant_params p;
    uint64_t     n;
    TAUT_TRY(get_header(src, len, &p, &n));
    s->value[BITS] = p.bits;
    s->value[BUCKET] = (double)p.bucket;
    s->value[NORM] = p.norm == QUANT_ROTATED ? QUANT_MAXMIN : p.norm;
    s->value[ROTATE] = p.norm == QUANT_ROTATED;
    s->value[ROUND] = p.stochastic ? 0 : 1;
    return TAUT_OK;
}

/* ---- encode, decode ---- */

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    quant_params p = taut__quant_params(taut__stage(c));
    size_t       bytes = quant_payload_bytes(&p, c->n), at = quant_codes_at(&p, c->n);
    *len = 0;
    if (cap < bytes) return taut__fail(TAUT_E_CAPACITY, "quant: %zu bytes of room: needs %zu", cap, bytes);
    if (c->first % p.bucket)
        return taut__fail(TAUT_E_INVALID, "quant: slice begins at element %zu: must be a multiple of bucket=%zu",
                          c->first, p.bucket);
    if (p.norm == QUANT_ROTATED) p.rotation = (uint32_t)taut__mix64(c->seed);
    put_header(&p, c->n, dst);
    size_t meta = taut__ceil_div(c->n, p.bucket) * quant_meta_bytes(p.norm);
    memset(dst + QUANT_HEADER + meta, 0, at - QUANT_HEADER - meta);
    if (p.norm == QUANT_ROTATED)
        taut__rotate_encode(taut__simd_get(), &p, src, c->n, dst + QUANT_HEADER, dst + at, err);
    else taut__quant_encode(taut__simd_get(), &p, c->seed, c->first, src, c->n, dst + QUANT_HEADER, dst + at, err);
    *len = bytes;
    return TAUT_OK;
}

static taut_status decode_any(const taut_call *c, const uint8_t *src, size_t len, float *dst, bool add)
{
    quant_params p;
    uint64_t     n;
    TAUT_TRY(get_header(src, len, &p, &n));
    if (n != c->n || len != quant_payload_bytes(&p, c->n))
        return taut__fail(TAUT_E_CORRUPT, "quant: payload of %zu bytes for %llu elements where %zu are expected", len,
                          (unsigned long long)n, c->n);
    if (p.norm == QUANT_ROTATED)
        taut__rotate_decode(taut__simd_get(), &p, src + QUANT_HEADER, src + quant_codes_at(&p, c->n), c->n, dst, add);
    else taut__quant_decode(taut__simd_get(), &p, src + QUANT_HEADER, src + quant_codes_at(&p, c->n), c->n, dst, add);
    return TAUT_OK;
}

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    return decode_any(c, src, len, dst, false);
}

static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    return decode_any(c, src, len, acc, true);
}

static const taut_codec_ops host = {.encode = encode, .decode = decode, .decode_add = decode_add};

extern const taut_codec     taut__codec_quant;
extern const taut_codec_ops taut__quant_device;
const taut_codec            taut__codec_quant = {
               .id = 4,
               .version = 2,
               .oldest = 1,
               .version_of = version_of,
               .name = "quant",
               .help = "uniform levels per bucket, the fastest lossy codec",
               .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_FIXED_SIZE,
               .keys = keys,
               .n_keys = KEYS,
               .check = check,
               .expands = expands,
               .align = align,
               .capacity = capacity,
               .fixed = fixed,
               .describe = describe,
               .ops = {[TAUT_HOST] = &host, [TAUT_CUDA] = &taut__quant_device},
};
