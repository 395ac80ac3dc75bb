/* field_raw.c : `raw`: a zstd frame whose blocks are all stored, so that every zstd reads it and samples lie in it as they
 * are. Layout (RFC 8878, 3.1.1): magic, descriptor (4-byte content size, window descriptor present), window of 128 KiB,
 * content size; then blocks of at most 128 KiB, each behind a 3-byte header. */
#include "field_raw.h"

static taut_status encode(void *state, const taut_part *in, taut_bytes *out)
{
    size_t   blocks = taut__raw_blocks(in->bytes), left = in->bytes;
    uint8_t *p;
    (void)state;
    TAUT_TRY(taut__bytes_reserve(out, taut__raw_frame_bytes(in->bytes)));
    p = out->p + out->n;
    taut__put32(p, 0xfd2fb528u);
    p[4] = 0x80; /* Frame_Content_Size_flag 2: four bytes; no checksum, no dictionary */
    p[5] = (17 - 10) << 3;
    taut__put32(p + 6, (uint32_t)in->bytes);
    p += TAUT_RAW_HEADER;
    for (size_t b = 0; b < blocks; b++) {
        size_t   n = taut__min(left, TAUT_RAW_BLOCK);
        uint32_t head = (uint32_t)(b + 1 == blocks) | (uint32_t)n << 3; /* Last_Block, Block_Type 0 = raw, size */
        p[0] = (uint8_t)head, p[1] = (uint8_t)(head >> 8), p[2] = (uint8_t)(head >> 16);
        if (n) memcpy(p + 3, in->data + b * TAUT_RAW_BLOCK, n);
        p += 3 + n;
        left -= n;
    }
    out->n += taut__raw_frame_bytes(in->bytes);
    return TAUT_OK;
}

taut_status taut__raw_check(const uint8_t *head, size_t frame_bytes, size_t bytes)
{
    if (frame_bytes != taut__raw_frame_bytes(bytes) || taut__get32(head) != 0xfd2fb528u || head[4] != 0x80 ||
        taut__get32(head + 6) != bytes)
        return taut__fail(TAUT_E_CORRUPT, "not a stored frame of %zu bytes", bytes);
    return TAUT_OK;
}

static taut_status decode(void *state, const uint8_t *src, size_t len, const taut_part *g, uint8_t *dst)
{
    (void)state;
    if (len < TAUT_RAW_HEADER) return taut__fail(TAUT_E_CORRUPT, "a stored frame of %zu bytes", len);
    TAUT_TRY(taut__raw_check(src, len, g->bytes));
    for (size_t at = 0; at < g->bytes; at += TAUT_RAW_BLOCK)
        memcpy(dst + at, src + taut__raw_at(at), taut__min(TAUT_RAW_BLOCK, g->bytes - at));
    return TAUT_OK;
}

const taut_field_codec taut__field_raw = {
    .id = 1,
    .version = 1,
    .name = "raw",
    .help = "stored as it is; a sample is read without its block",
    .caps = TAUT_FIELD_PLAIN | TAUT_FIELD_RAW,
    .encode = encode,
    .decode = decode,
};
