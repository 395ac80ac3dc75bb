/* none.c : float32 as it is. The payload is the tensor's bytes, little-endian. */
#include "../codec.h"
#include "../dispatch.h"
#include "../vec/vec.h"
#include <string.h>

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)s, (void)t;
    return n * sizeof(float);
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    size_t bytes = c->n * sizeof(float);
    if (cap < bytes) return taut__fail(TAUT_E_CAPACITY, "none: %zu bytes of room: needs %zu", cap, bytes);
    memcpy(dst, src, bytes); /* before err, which may be src */
    if (err) memset(err, 0, bytes);
    *len = bytes;
    return TAUT_OK;
}

static taut_status expect(const taut_call *c, size_t len)
{
    if (len == c->n * sizeof(float)) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "none: payload of %zu bytes for %zu elements", len, c->n);
}

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    TAUT_TRY(expect(c, len));
    memcpy(dst, src, len);
    return TAUT_OK;
}

/* Payloads may lie at any address, so whole pieces are brought into place first. */
static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    float piece[1024];
    TAUT_TRY(expect(c, len));
    for (size_t i = 0; i < c->n; i += 1024) {
        size_t m = taut__min(1024, c->n - i);
        memcpy(piece, src + i * sizeof(float), m * sizeof(float));
        taut__simd_get()->vec->add(piece, acc + i, m);
    }
    return TAUT_OK;
}

const taut_codec taut__codec_none = {
    .id = 1, .version = 1, .name = "none", .help = "float32, uncompressed",
    .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_LOSSLESS,
    .capacity = capacity, .encode = encode, .decode = decode, .decode_add = decode_add,
};
