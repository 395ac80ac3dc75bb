/* seek.c : see seek.h. Format: facebook/zstd contrib/seekable_format, "Zstandard Seekable Format" 0.1.0:
 * head 8, per frame {compressed u32, decompressed u32, low half of XXH64 u32}, frames u32, descriptor u8, magic u32. */
#include "seek.h"
#include <inttypes.h>
#include <xxhash.h>

enum { CHUNK = 512 * TAUT_SEEK_ENTRY };

typedef struct cursor {
    const taut_shard *s;
    uint64_t          at;  /* file offset of the next entry */
    uint64_t          end; /* of the entries */
    uint64_t          count;
    uint8_t           chunk[CHUNK];
    size_t            used, filled;
} cursor;

static taut_status mismatch(const cursor *c, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: its seek table is damaged: %s, entry %" PRIu64, c->s->path, what, c->count);
}

static taut_status next(cursor *c, const uint8_t **entry)
{
    if (c->used == c->filled) {
        c->filled = (size_t)taut__min(CHUNK, c->end - c->at);
        c->used = 0;
        if (c->filled < TAUT_SEEK_ENTRY) return mismatch(c, "too few entries");
        TAUT_TRY(taut__pread(c->s->fd, c->s->path, c->chunk, c->filled, c->at));
        c->at += c->filled;
    }
    *entry = c->chunk + c->used;
    c->used += TAUT_SEEK_ENTRY;
    c->count++;
    return TAUT_OK;
}

static taut_status expect(cursor *c, uint64_t compressed, uint64_t decompressed, uint64_t xxh)
{
    const uint8_t *e = NULL;
    TAUT_TRY(next(c, &e));
    if (taut__get32(e) == compressed && taut__get32(e + 4) == decompressed && taut__get32(e + 8) == (uint32_t)xxh)
        return TAUT_OK;
    return mismatch(c, "a wrong frame");
}

static taut_status expect_skippable(cursor *c, uint64_t bytes) { return expect(c, bytes, 0, XXH64(NULL, 0, 0)); }

/* A samples frame and the payload behind it fill the part together; the payload's entry is then exact. */
static taut_status expect_part(cursor *c, uint32_t f, uint64_t b)
{
    const taut_shard *s = c->s;
    taut_meta_part    m = taut__meta_part(s, f, b);
    uint64_t          left = taut__shard_extent(s, f, b).bytes;
    const uint8_t    *e = NULL;
    if (s->flags[f]) {
        TAUT_TRY(next(c, &e));
        if (taut__get32(e) > left || taut__get32(e + 4) != 0 || taut__get32(e + 8) != (uint32_t)XXH64(NULL, 0, 0))
            return mismatch(c, "a wrong frame");
        left -= taut__get32(e);
    }
    return s->spec[f].codec->caps & TAUT_FIELD_PLAIN ? expect(c, left, m.decoded, m.xxh) : expect_skippable(c, left);
}

static taut_status expect_all(cursor *c)
{
    const taut_shard *s = c->s;
    TAUT_TRY(expect_skippable(c, TAUT_FRONT_BYTES));
    for (uint64_t b = 0; b < s->blocks; b++)
        for (uint32_t f = 0; f < s->fields; f++) TAUT_TRY(expect_part(c, f, b));
    for (uint32_t f = 0; f < s->fields; f++)
        if (s->shared[f].bytes) TAUT_TRY(expect_skippable(c, s->shared[f].bytes));
    return expect_skippable(c, s->front.meta_bytes);
}

taut_status taut__seek_check(const taut_shard *s)
{
    uint64_t begin = s->front.meta_offset + s->front.meta_bytes, bytes = s->front.file_bytes - begin;
    uint8_t  head[TAUT_FRAME_HEAD], foot[9];
    cursor   c = {.s = s, .at = begin + TAUT_FRAME_HEAD, .end = s->front.file_bytes - sizeof foot};
    if (bytes < TAUT_SEEK_FIXED) return mismatch(&c, "it is missing");
    TAUT_TRY(taut__pread(s->fd, s->path, head, sizeof head, begin));
    TAUT_TRY(taut__pread(s->fd, s->path, foot, sizeof foot, c.end));
    if (taut__get32(head) != TAUT_MAGIC_SEEK || taut__get32(head + 4) != bytes - TAUT_FRAME_HEAD)
        return mismatch(&c, "its head");
    TAUT_TRY(expect_all(&c));
    if (c.used != c.filled || c.at != c.end) return mismatch(&c, "too many entries");
    if (taut__get32(foot) != c.count || foot[4] != 0x80 || taut__get32(foot + 5) != TAUT_MAGIC_SEEK_END)
        return mismatch(&c, "its footer");
    return TAUT_OK;
}
