/* zpack.h : a stream of bytes as a zstd frame behind its two lengths, or as it is where that is not longer:
 *   decoded bytes u32, stored bytes u32 (equal: stored as it is), bytes */
#ifndef TAUT_ZPACK_H
#define TAUT_ZPACK_H

#include "../shard/bytes.h"
#include <zstd.h>

typedef struct taut_zpack { /* state of one thread; both made at the first use */
    ZSTD_CCtx *c;
    ZSTD_DCtx *d;
} taut_zpack;

taut_status taut__zpack(taut_zpack *z, const void *src, size_t n, int level, taut_bytes *out);
/* Decoded bytes of the stream at src are appended to out; *used: what it takes of src. At most `most` of them. */
taut_status taut__zunpack(taut_zpack *z, const uint8_t *src, size_t len, size_t most, taut_bytes *out, size_t *used);
void        taut__zpack_free(taut_zpack *z);

/* ---- LEB128 ---- seven bits per byte, low ones first */
taut_status taut__varint_add(taut_bytes *b, uint64_t v);
bool        taut__varint_get(const uint8_t *p, size_t n, size_t *at, uint64_t *v); /* false: it ends before */
static inline uint64_t taut__zigzag(int64_t v) { return (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0); }
static inline int64_t  taut__unzigzag(uint64_t v) { return (int64_t)(v >> 1 ^ (0 - (v & 1))); }

#endif
