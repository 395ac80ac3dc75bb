/* foreign_gather.c : the samples of a part, read from where its places say. Samples near each other are fetched in one read; what
 * lies between them (headers of a tar, other columns) is read along and left. */
#include "../fields/zpack.h"
#include "../shard/layout.h"
#include "foreign.h"
#include <inttypes.h>

enum {
    NEAR = 4096,
    SPAN = 1 << 20
}; /* gaps that are read along, which costs no more than another read; bytes of a read of several samples */

void taut__gather_free(taut__gather *g)
{
    taut__free(g->span);
    taut__free(g->unpacked);
    taut__free(g->at);
    taut__free(g->length);
    taut__free(g->buffer);
    *g = (taut__gather){0};
}

static taut_status room(uint8_t **p, size_t *cap, size_t want)
{
    uint8_t *q;
    if (want <= *cap) return TAUT_OK;
    TAUT_TRY(taut__memory_ok(want, "samples of another file"));
    if (!(q = taut__alloc(want, 1))) return taut__fail(TAUT_E_NOMEM, "no memory for %zu bytes", want);
    taut__free(*p);
    *p = q;
    *cap = want;
    return TAUT_OK;
}

static taut_status room_for_places(taut__gather *g, size_t n)
{
    if (n <= g->samples_cap) return TAUT_OK;
    taut__free(g->at);
    taut__free(g->length);
    taut__free(g->buffer);
    g->samples_cap = 0;
    g->at = taut__alloc(n, sizeof *g->at);
    g->length = taut__alloc(n, sizeof *g->length);
    g->buffer = taut__alloc(n, sizeof *g->buffer);
    if (!g->at || !g->length || !g->buffer)
        return taut__fail(TAUT_E_NOMEM, "no memory for the places of %zu samples", n);
    g->samples_cap = n;
    return TAUT_OK;
}

/* ---- places ---- */

static taut_status malformed(void) { return taut__fail(TAUT_E_CORRUPT, "its places are malformed"); }

static taut_status read_lengths(taut__gather *g, bool own, const uint8_t *p, size_t len, const taut_part *part,
                                size_t *at)
{
    size_t   bytes;
    unsigned width;
    if (len < 1 || p[0] != (own ? 1 : 0)) return malformed();
    *at = 1;
    for (uint32_t k = 0; k < part->n && !own; k++) g->length[k] = part->offset[k + 1] - part->offset[k];
    if (!own) return TAUT_OK;
    if (len < 6 || p[1] > 32) return malformed();
    width = p[1];
    bytes = taut__packed_bytes(part->n, width);
    if (len - 6 < bytes) return malformed();
    for (uint32_t k = 0; k < part->n; k++) {
        uint64_t v = taut__get32(p + 2) + (width ? taut__unpack(p + 6, k, width) : 0);
        if (v >= UINT32_MAX) return malformed();
        g->length[k] = (uint32_t)v;
    }
    *at = 6 + bytes;
    return TAUT_OK;
}

static taut_status read_places(taut__gather *g, const taut__foreign *f, bool own, const uint8_t *p, size_t len,
                               const taut_part *part)
{
    uint64_t before = 0;
    size_t   at = 0;
    TAUT_TRY(room_for_places(g, taut__max(part->n, 1)));
    TAUT_TRY(read_lengths(g, own, p, len, part, &at));
    for (uint32_t k = 0; k < part->n;) {
        uint64_t n, buffer, move, gap;
        if (!taut__varint_get(p, len, &at, &n) || !taut__varint_get(p, len, &at, &buffer) ||
            !taut__varint_get(p, len, &at, &move) || !taut__varint_get(p, len, &at, &gap) || n == 0 ||
            n > part->n - k || buffer >= f->buffers)
            return malformed();
        before += (uint64_t)taut__unzigzag(move);
        for (; n; n--, k++) {
            g->at[k] = before;
            g->buffer[k] = (uint32_t)buffer;
            if (before > f->buffer[buffer].decoded || g->length[k] > f->buffer[buffer].decoded - before)
                return taut__fail(TAUT_E_CORRUPT, "sample %u of it lies outside its file: bytes from %" PRIu64 " on", k,
                                  before);
            before += g->length[k];
            if (n > 1) before += (uint64_t)taut__unzigzag(gap);
        }
    }
    return at == len ? TAUT_OK : malformed();
}

/* ---- buffers ---- */

static taut_status fetch(taut__gather *g, const taut__source *s, uint8_t *dst, size_t n, uint64_t at)
{
    g->reads++;
    g->read_bytes += n;
    return taut__source_read(s, dst, n, at, "samples");
}

/* A compressed buffer in whole; the last one is kept. A zstd block of 4 bytes gives 128 KiB at most, which bounds what `decoded`
 * may be. */
static taut_status unpack(taut__gather *g, const taut__foreign *f, uint32_t number)
{
    const taut__foreign_buffer *b = &f->buffer[number];
    const taut__source         *s = &f->file[b->file].source;
    size_t                      got;
    if (g->unpacked_buffer == number + 1) return TAUT_OK;
    g->unpacked_buffer = 0;
    if (b->decoded / 32768 > b->stored || b->decoded > SIZE_MAX / 2)
        return taut__fail(TAUT_E_CORRUPT, "%s: a compressed buffer of %" PRIu64 " bytes that claims to hold %" PRIu64,
                          s->name, b->stored, b->decoded);
    TAUT_TRY(room(&g->span, &g->span_cap, (size_t)b->stored));
    TAUT_TRY(room(&g->unpacked, &g->unpacked_cap, (size_t)taut__max(b->decoded, 1)));
    TAUT_TRY(fetch(g, s, g->span, (size_t)b->stored, b->at));
    got = ZSTD_decompress(g->unpacked, (size_t)b->decoded, g->span, (size_t)b->stored);
    if (ZSTD_isError(got) || got != b->decoded)
        return taut__fail(TAUT_E_CORRUPT, "%s: the zstd buffer at byte %" PRIu64 " is damaged: %s", s->name, b->at,
                          ZSTD_isError(got) ? ZSTD_getErrorName(got) : "it holds fewer bytes than it says");
    g->unpacked_buffer = number + 1;
    return TAUT_OK;
}

/* ---- samples ---- */

/* Samples first .. the returned one - 1 are fetched together. */
static uint32_t span_of(const taut__gather *g, uint32_t first, uint32_t n, bool *solid)
{
    uint64_t begin = g->at[first], end = begin + g->length[first];
    uint32_t k = first + 1;
    *solid = true;
    for (; k < n && g->buffer[k] == g->buffer[first] && g->at[k] >= end && g->at[k] - end <= NEAR; k++) {
        bool joined = g->at[k] == end;
        if (!(joined && *solid) && g->at[k] + g->length[k] - begin > SPAN) break;
        *solid &= joined;
        end = g->at[k] + g->length[k];
    }
    return k;
}

static taut_status convert(taut__as as, taut_type type, const taut__gather *g, uint32_t k, const uint8_t *src,
                           const taut_part *part, uint8_t *dst)
{
    taut_status rc = taut__foreign_convert(as, type, src, g->length[k], dst + part->offset[k],
                                           part->offset[k + 1] - part->offset[k]);
    char        why[256];
    if (rc == TAUT_OK) return rc;
    taut__snprintf(why, sizeof why, "%s", taut_last_error());
    return taut__fail(rc, "sample %u of it: %s", k, why);
}

static taut_status take_span(taut__gather *g, const taut__foreign *f, taut__as as, taut_type type, uint32_t first,
                             uint32_t end, bool solid, const taut_part *part, uint8_t *dst)
{
    const taut__foreign_buffer *b = &f->buffer[g->buffer[first]];
    const taut__source         *s = &f->file[b->file].source;
    uint64_t                    begin = g->at[first];
    size_t                      bytes = (size_t)(g->at[end - 1] + g->length[end - 1] - begin);
    const uint8_t              *p;
    if (b->zstd) {
        TAUT_TRY(unpack(g, f, g->buffer[first]));
        p = g->unpacked + begin;
    } else if (solid && as == TAUT__AS_PLAIN) {
        if (bytes != part->offset[end] - part->offset[first]) return malformed();
        return fetch(g, s, dst + part->offset[first], bytes, b->at + begin);
    } else {
        TAUT_TRY(room(&g->span, &g->span_cap, taut__max(bytes, 1)));
        TAUT_TRY(fetch(g, s, g->span, bytes, b->at + begin));
        p = g->span;
    }
    for (uint32_t k = first; k < end; k++) TAUT_TRY(convert(as, type, g, k, p + (g->at[k] - begin), part, dst));
    return TAUT_OK;
}

taut_status taut__gather_part(taut__gather *g, const taut__foreign *f, taut__as as, taut_type type,
                              const uint8_t *places, size_t len, const taut_part *part, uint8_t *dst)
{
    TAUT_TRY(read_places(g, f, !taut__as_same_length(as), places, len, part));
    for (uint32_t k = 0, end; k < part->n; k = end) {
        bool solid;
        end = span_of(g, k, part->n, &solid);
        TAUT_TRY(take_span(g, f, as, type, k, end, solid, part, dst));
    }
    return TAUT_OK;
}
