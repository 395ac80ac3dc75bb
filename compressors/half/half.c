/* half.c : the codecs fp16 and bf16: two bytes per element. They differ in the kernels only. */
#include "../codec.h"
#include "../dispatch.h"
#include "../vec/vec.h"
#include <math.h>
#include <string.h>

enum { PIECE = 2048 }; /* elements per pass: stays in the first-level cache between cast and error */

typedef void (*cast_from)(const float *restrict, uint16_t *restrict, size_t);
typedef void (*cast_to)(const uint16_t *restrict, float *restrict, size_t);

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)s, (void)t;
    return n * sizeof(uint16_t);
}

/* err = src - back(h); 0 where that is not finite (NaN, Inf, and what overflowed to Inf) */
static void remainder_of(const float *src, const float *back, float *err, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float e = src[i] - back[i];
        err[i] = isfinite(e) ? e : 0;
    }
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err,
                          cast_from from, cast_to to)
{
    size_t   bytes = c->n * sizeof(uint16_t);
    uint16_t h[PIECE];
    float    back[PIECE];
    if (cap < bytes) return taut__fail(TAUT_E_CAPACITY, "half: %zu bytes of room: needs %zu", cap, bytes);
    if (!err && (uintptr_t)dst % sizeof(uint16_t) == 0) {
        from(src, (uint16_t *)(void *)dst, c->n);
    } else {
        for (size_t i = 0; i < c->n; i += PIECE) {
            size_t m = taut__min(PIECE, c->n - i);
            from(src + i, h, m);
            memcpy(dst + i * sizeof *h, h, m * sizeof *h);
            if (!err) continue;
            to(h, back, m);
            remainder_of(src + i, back, err + i, m);
        }
    }
    *len = bytes;
    return TAUT_OK;
}

static taut_status apply(const taut_call *c, const uint8_t *src, size_t len, float *dst, cast_to to)
{
    uint16_t h[PIECE];
    if (len != c->n * sizeof(uint16_t))
        return taut__fail(TAUT_E_CORRUPT, "half: payload of %zu bytes for %zu elements", len, c->n);
    if ((uintptr_t)src % sizeof *h == 0) {
        to((const uint16_t *)(const void *)src, dst, c->n);
        return TAUT_OK;
    }
    for (size_t i = 0; i < c->n; i += PIECE) {
        size_t m = taut__min(PIECE, c->n - i);
        memcpy(h, src + i * sizeof *h, m * sizeof *h);
        to(h, dst + i, m);
    }
    return TAUT_OK;
}

#define HALF_CODEC(tag)                                                                                       \
    static taut_status tag##_encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap,           \
                                    size_t *len, float *err)                                                  \
    {                                                                                                         \
        const taut__vec_kernels *v = taut__simd_get()->vec;                                                   \
        return encode(c, src, dst, cap, len, err, v->tag##_from, v->tag##_to);                                \
    }                                                                                                         \
    static taut_status tag##_decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)           \
    {                                                                                                         \
        return apply(c, src, len, dst, taut__simd_get()->vec->tag##_to);                                      \
    }                                                                                                         \
    static taut_status tag##_decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)       \
    {                                                                                                         \
        return apply(c, src, len, acc, taut__simd_get()->vec->tag##_add);                                     \
    }

HALF_CODEC(f16)
HALF_CODEC(bf16)

const taut_codec taut__codec_fp16 = {
    .id = 2, .version = 1, .name = "fp16", .help = "IEEE binary16; overflows to Inf beyond 65504",
    .caps = TAUT_CAP_SLICEABLE,
    .capacity = capacity, .encode = f16_encode, .decode = f16_decode, .decode_add = f16_decode_add,
};
const taut_codec taut__codec_bf16 = {
    .id = 3, .version = 1, .name = "bf16", .help = "bfloat16: float32's range, 8 bits of precision",
    .caps = TAUT_CAP_SLICEABLE,
    .capacity = capacity, .encode = bf16_encode, .decode = bf16_decode, .decode_add = bf16_decode_add,
};
