/* field_raw.h : where the bytes of a stored frame lie. Index arithmetic only. */
#ifndef TAUT_FIELD_RAW_H
#define TAUT_FIELD_RAW_H

#include "field.h"

#define TAUT_RAW_BLOCK ((size_t)1 << 17) /* the largest block of zstd */
enum { TAUT_RAW_HEADER = 10 };

static inline size_t taut__raw_blocks(size_t bytes) { return bytes ? taut__ceil_div(bytes, TAUT_RAW_BLOCK) : 1; }
static inline size_t taut__raw_frame_bytes(size_t bytes)
{
    return TAUT_RAW_HEADER + 3 * taut__raw_blocks(bytes) + bytes;
}
/* where decoded byte `at` lies in the frame */
static inline size_t taut__raw_at(size_t at) { return TAUT_RAW_HEADER + 3 * (at / TAUT_RAW_BLOCK + 1) + at; }

/* head: TAUT_RAW_HEADER bytes; frame_bytes: length of the frame; bytes: of the content that it must announce */
taut_status taut__raw_check(const uint8_t *head, size_t frame_bytes, size_t bytes);

#endif
