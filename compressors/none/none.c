/* none.c : float32 as it is. Payload: n floats, little-endian. */
#include "../ops.h"
#include "../dispatch.h"
#include "../vec/vec.h"
#include <string.h>

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)s, (void)t;
    return n * sizeof(float);
}

static size_t fixed(const taut_stage *s, const taut_tensor *t, size_t first, size_t n)
{
    (void)first;
    return capacity(s, t, n);
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    size_t bytes = c->n * sizeof(float);
    *len = 0;
    if (cap < bytes) return taut__fail(TAUT_E_CAPACITY, "none: %zu bytes of room: needs %zu", cap, bytes);
    if (bytes) memcpy(dst, src, bytes);
    if (err && bytes) memset(err, 0, bytes);
    *len = bytes;
    return TAUT_OK;
}

static taut_status check_length(const taut_call *c, size_t len)
{
    if (len == c->n * sizeof(float)) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "none: payload of %zu bytes for %zu elements", len, c->n);
}

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    TAUT_TRY(check_length(c, len));
    if (len) memcpy(dst, src, len);
    return TAUT_OK;
}

static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    TAUT_TRY(check_length(c, len));
    taut__simd_get()->vec->add(acc, src, c->n);
    return TAUT_OK;
}

static const taut_codec_ops host = {.encode = encode, .decode = decode, .decode_add = decode_add};

extern const taut_codec     taut__codec_none;
extern const taut_codec_ops taut__cast_device; /* half_device.c */
const taut_codec            taut__codec_none = {
               .id = 1,
               .version = 1,
               .name = "none",
               .help = "float32 as it is, without loss",
               .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_LOSSLESS | TAUT_CAP_FIXED_SIZE,
               .capacity = capacity,
               .fixed = fixed,
               .ops = {[TAUT_HOST] = &host, [TAUT_CUDA] = &taut__cast_device},
};
