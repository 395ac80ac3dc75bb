/* half.c : the codecs fp16 and bf16. Payload: n 16-bit floats, little-endian. */
#include "../ops.h"
#include "../dispatch.h"
#include "../vec/vec.h"
#include "half.h"

/* Finite values that round to infinity become the largest number of the format, and what is missing goes to err: infinite gradients
 * say that a loss scale is too large, and nothing else should. overflow=inf keeps them infinite: sums of 16-bit layers without a
 * codec, which are meant to be what the format makes of them. */
enum { KEY_OVERFLOW, KEYS };
static const taut_key keys[KEYS] = {
    [KEY_OVERFLOW] = {.name = "overflow",
                      .kind = TAUT_KEY_WORD,
                      .words = "clamp|inf",
                      .fallback = 0,
                      .help = "what finite values beyond the largest become"},
};

enum { CHUNK = 2048 }; /* elements whose rounding error is computed while they are in the L1 cache */

typedef void to_half(void *dst, const float *src, size_t n);
typedef void from_half(float *dst, const void *src, size_t n);

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)s, (void)t;
    return n * sizeof(uint16_t);
}

static size_t fixed(const taut_stage *s, const taut_tensor *t, size_t first, size_t n)
{
    (void)first;
    return capacity(s, t, n);
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err,
                          const char *name, to_half *to, from_half *from, uint16_t infinity)
{
    float  back[CHUNK];
    size_t bytes = c->n * sizeof(uint16_t);
    bool   clamps = taut__stage(c)->value[KEY_OVERFLOW] == 0;
    *len = 0;
    if (cap < bytes) return taut__fail(TAUT_E_CAPACITY, "%s: %zu bytes of room: needs %zu", name, cap, bytes);
    for (size_t i = 0; i < c->n; i += CHUNK) {
        size_t n = taut__min(CHUNK, c->n - i);
        to(dst + 2 * i, src + i, n);
        if (clamps) taut__half_clamp(dst + 2 * i, src + i, n, infinity);
        if (!err) continue;
        from(back, dst + 2 * i, n);
        taut__simd_get()->vec->residual(err + i, src + i, back, n);
    }
    *len = bytes;
    return TAUT_OK;
}

static taut_status check_length(const taut_call *c, size_t len, const char *name)
{
    if (len == c->n * sizeof(uint16_t)) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "%s: payload of %zu bytes for %zu elements", name, len, c->n);
}

static taut_status encode_f16(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const taut__vec_kernels *k = taut__simd_get()->vec;
    return encode(c, src, dst, cap, len, err, "fp16", k->to_f16, k->from_f16, TAUT_F16_INFINITY);
}

static taut_status encode_bf16(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const taut__vec_kernels *k = taut__simd_get()->vec;
    return encode(c, src, dst, cap, len, err, "bf16", k->to_bf16, k->from_bf16, TAUT_BF16_INFINITY);
}

static taut_status decode_f16(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    TAUT_TRY(check_length(c, len, "fp16"));
    taut__simd_get()->vec->from_f16(dst, src, c->n);
    return TAUT_OK;
}

static taut_status decode_bf16(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    TAUT_TRY(check_length(c, len, "bf16"));
    taut__simd_get()->vec->from_bf16(dst, src, c->n);
    return TAUT_OK;
}

static taut_status decode_add_f16(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    TAUT_TRY(check_length(c, len, "fp16"));
    taut__simd_get()->vec->add_f16(acc, src, c->n);
    return TAUT_OK;
}

static taut_status decode_add_bf16(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    TAUT_TRY(check_length(c, len, "bf16"));
    taut__simd_get()->vec->add_bf16(acc, src, c->n);
    return TAUT_OK;
}

static const taut_codec_ops host_f16 = {.encode = encode_f16, .decode = decode_f16, .decode_add = decode_add_f16};
static const taut_codec_ops host_bf16 = {.encode = encode_bf16, .decode = decode_bf16, .decode_add = decode_add_bf16};

extern const taut_codec     taut__codec_fp16, taut__codec_bf16;
extern const taut_codec_ops taut__cast_device;
const taut_codec            taut__codec_fp16 = {
               .id = 2,
               .version = 1,
               .name = "fp16",
               .help = "IEEE half: 11 significant bits; beyond 65504 clamped, or overflow=inf",
               .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_FIXED_SIZE,
               .keys = keys,
               .n_keys = KEYS,
               .capacity = capacity,
               .fixed = fixed,
               .ops = {[TAUT_HOST] = &host_f16, [TAUT_CUDA] = &taut__cast_device},
};
const taut_codec taut__codec_bf16 = {
    .id = 3,
    .version = 1,
    .name = "bf16",
    .help = "bfloat16: 8 significant bits, the range of float32",
    .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_FIXED_SIZE,
    .keys = keys,
    .n_keys = KEYS,
    .capacity = capacity,
    .fixed = fixed,
    .ops = {[TAUT_HOST] = &host_bf16, [TAUT_CUDA] = &taut__cast_device},
};
