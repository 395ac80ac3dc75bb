/* frame.c : see frame.h for the layout. */
#include "frame.h"
#include "dispatch.h"
#include "../comm/base/bytes.h"
#include "vec/vec.h"
#include <xxhash.h>

static const uint8_t magic[4] = {'T', 'A', 'U', 'T'};

static uint64_t checksum(const uint8_t *frame, size_t payload)
{
    uint64_t seed = taut__simd_get()->vec->hash(frame + TAUT_FRAME_HEADER, payload);
    return XXH3_64bits_withSeed(frame, 24, seed);
}

size_t taut__frame_capacity(const taut_spec *spec, const taut_tensor *t, size_t n)
{
    return TAUT_FRAME_HEADER + taut__spec_capacity(spec, t, n);
}

taut_status taut__frame_seal(const taut_codec *codec, const taut_call *c, uint8_t *dst, size_t bytes, size_t *len)
{
    if ((uint64_t)bytes >> 48)
        return taut__fail(TAUT_E_RANGE, "frame: payload of %zu bytes: must be below 2^48", bytes);
    for (int i = 0; i < 4; i++) dst[i] = magic[i];
    dst[4] = TAUT_WIRE_VERSION;
    dst[5] = c->no_checksum ? TAUT_FRAME_UNCHECKED : 0;
    taut__put16(dst + 6, codec->id);
    taut__put64(dst + 8, c->n);
    taut__put64(dst + 16, bytes | (uint64_t)taut__payload_version(codec, dst + TAUT_FRAME_HEADER)
                                      << 48); /* six bytes and two */
    taut__put64(dst + 24, c->no_checksum ? 0 : checksum(dst, bytes));
    *len = TAUT_FRAME_HEADER + bytes;
    return TAUT_OK;
}

taut_status taut__frame_encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err,
                               bool exact)
{
    const taut_codec *codec = taut__spec_codec(c->spec);
    size_t            bytes = 0;
    *len = 0;
    if (cap < TAUT_FRAME_HEADER)
        return taut__fail(TAUT_E_CAPACITY, "frame: %zu bytes of room: a header alone takes %d", cap, TAUT_FRAME_HEADER);
    if (exact && codec->caps & TAUT_CAP_SPARSE)
        TAUT_TRY(taut__op_encode_exact(codec, c, src, dst + TAUT_FRAME_HEADER, cap - TAUT_FRAME_HEADER, &bytes));
    else TAUT_TRY(taut__op_encode(codec, c, src, dst + TAUT_FRAME_HEADER, cap - TAUT_FRAME_HEADER, &bytes, err));
    return taut__frame_seal(codec, c, dst, bytes, len);
}

static taut_status open_header(const taut_codec *codec, const uint8_t *src, const taut_codec **found)
{
    uint16_t id = taut__get16(src + 6), version = taut__get16(src + 22);
    for (int i = 0; i < 4; i++)
        if (src[i] != magic[i])
            return taut__fail(TAUT_E_CORRUPT, "frame: begins with %02x %02x %02x %02x, not with TAUT: not a frame",
                              src[0], src[1], src[2], src[3]);
    if (src[4] != TAUT_WIRE_VERSION)
        return taut__fail(TAUT_E_VERSION, "frame: wire version %d: this library reads %d", src[4], TAUT_WIRE_VERSION);
    if (src[5] & ~TAUT_FRAME_UNCHECKED) return taut__fail(TAUT_E_CORRUPT, "frame: unknown flags 0x%02x", src[5]);
    *found = taut__codec_by_id(id);
    if (!*found) return taut__fail(TAUT_E_CORRUPT, "frame: unknown codec id %u", id);
    if (codec && *found != codec)
        return taut__fail(TAUT_E_CORRUPT, "frame: codec %s where %s was expected", (*found)->name, codec->name);
    if (!taut__reads_version(*found, version))
        return taut__fail(TAUT_E_VERSION, "frame: %s payload version %u: this library reads %u", (*found)->name,
                          version, (*found)->version);
    return TAUT_OK;
}

taut_status taut__frame_open(const taut_codec *codec, size_t n, const uint8_t *src, size_t len, const uint8_t **payload,
                             size_t *bytes, const taut_codec **found, size_t *elems, size_t *more)
{
    const taut_codec *is = NULL;
    if (len < TAUT_FRAME_HEADER)
        return taut__fail(TAUT_E_CORRUPT, "frame: %zu bytes: shorter than a header (%d)", len, TAUT_FRAME_HEADER);
    TAUT_TRY(open_header(codec, src, &is));
    uint64_t count = taut__get64(src + 8), body = taut__get64(src + 16) & (((uint64_t)1 << 48) - 1);
    size_t   room = len - TAUT_FRAME_HEADER;
    if (body > room || (body < room && !more))
        return taut__fail(TAUT_E_CORRUPT, "frame: payload of %llu bytes in %zu: truncated or trailing bytes",
                          (unsigned long long)body, room);
    if (count > SIZE_MAX / sizeof(float) || (codec && count != n))
        return taut__fail(TAUT_E_CORRUPT, "frame: %llu elements where %zu were expected", (unsigned long long)count, n);
    uint64_t sum = src[5] & TAUT_FRAME_UNCHECKED ? 0 : checksum(src, (size_t)body);
    if (taut__get64(src + 24) != sum)
        return taut__fail(TAUT_E_CORRUPT, "frame: its checksum is %016llx, its bytes have %016llx: damaged",
                          (unsigned long long)taut__get64(src + 24), (unsigned long long)sum);
    *payload = src + TAUT_FRAME_HEADER;
    *bytes = (size_t)body;
    if (found) *found = is;
    if (elems) *elems = (size_t)count;
    if (more) *more = room - (size_t)body;
    return TAUT_OK;
}

taut_status taut__frame_decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    const taut_codec *codec = taut__spec_codec(c->spec);
    const uint8_t    *payload;
    size_t            bytes;
    TAUT_TRY(taut__frame_open(codec, c->n, src, len, &payload, &bytes, NULL, NULL, NULL));
    return taut__op_decode(codec, c, payload, bytes, dst);
}

taut_status taut__frame_decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    const taut_codec *codec = taut__spec_codec(c->spec);
    const uint8_t    *payload;
    size_t            bytes;
    TAUT_TRY(taut__frame_open(codec, c->n, src, len, &payload, &bytes, NULL, NULL, NULL));
    return taut__op_decode_add(codec, c, payload, bytes, acc);
}
