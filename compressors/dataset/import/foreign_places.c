/* foreign_places.c : where samples lie. Bytes of the places of a part:
 *   flags u8 (1 = lengths), where it has 1: width u8, shortest u32, length - shortest of each sample in `width` bits, packed;
 *   then runs until all samples are there: samples, buffer, zigzag(start - end of the run before; 0 at first), zigzag(gap); all LEB128 */
#include "foreign.h"
#include "../fields/zpack.h"

void taut__places_free(taut__places *p)
{
    taut__free(p->run);
    taut__free(p->length);
    *p = (taut__places){0};
}

static taut_status grow(void **p, size_t n, size_t *room, size_t size)
{
    size_t more = *room ? *room + *room / 2 : 64;
    void  *q;
    if (*p && n < *room) return TAUT_OK;
    q = taut__alloc(more, size);
    if (!q) return taut__fail(TAUT_E_NOMEM, "no memory for the places of %zu samples", more);
    if (*p && n) memcpy(q, *p, n * size);
    taut__free(*p);
    *p = q;
    *room = more;
    return TAUT_OK;
}

static taut_status add_run(taut__places *p, taut__run run)
{
    void *q = p->run;
    TAUT_TRY(grow(&q, p->runs, &p->run_room, sizeof *p->run));
    p->run = q;
    p->run[p->runs++] = run;
    return TAUT_OK;
}

static taut_status add_length(taut__places *p, uint64_t bytes)
{
    size_t n = (size_t)p->samples;
    void  *q = p->length;
    TAUT_TRY(grow(&q, n, &p->length_room, sizeof *p->length));
    p->length = q;
    p->length[n] = (uint32_t)bytes;
    return TAUT_OK;
}

taut_status taut__places_add(taut__places *p, uint32_t buffer, uint64_t at, uint64_t bytes)
{
    taut__run *last = p->runs ? &p->run[p->runs - 1] : NULL;
    int64_t    gap = (int64_t)(at - p->end);
    if (p->fixed ? bytes != p->fixed : bytes >= UINT32_MAX)
        return taut__fail(TAUT_E_RANGE, "%llu bytes: must be %s", (unsigned long long)bytes,
                          p->fixed ? "as many as in the samples before" : "below 4 GiB");
    if (at > INT64_MAX - bytes)
        return taut__fail(TAUT_E_RANGE, "%llu bytes from byte %llu on: must end below 2^63", (unsigned long long)bytes,
                          (unsigned long long)at);
    if (!p->fixed) TAUT_TRY(add_length(p, bytes));
    if (last && last->buffer == buffer && (last->samples == 1 || last->gap == gap)) {
        last->gap = gap;
        last->samples++;
    } else {
        TAUT_TRY(add_run(p, (taut__run){.at = at, .samples = 1, .buffer = buffer}));
    }
    p->samples++;
    p->end = at + bytes;
    return TAUT_OK;
}

taut_status taut__places_add_array(taut__places *p, uint32_t buffer, uint64_t at, uint64_t n)
{
    if (n == 0) return TAUT_OK;
    TAUT_TRY(add_run(p, (taut__run){.at = at, .samples = n, .buffer = buffer}));
    p->samples += n;
    p->end = at + n * p->fixed;
    return TAUT_OK;
}

/* ---- to bytes ---- */

static taut_status put_lengths(const taut__places *p, uint64_t first, uint32_t n, taut_bytes *out)
{
    uint32_t shortest = UINT32_MAX, longest = 0;
    unsigned width;
    size_t   bytes;
    uint8_t  head[5];
    for (uint32_t k = 0; k < n; k++) {
        uint32_t len = taut__places_length(p, first + k);
        shortest = len < shortest ? len : shortest;
        longest = len > longest ? len : longest;
    }
    width = taut__width(longest - shortest);
    bytes = taut__packed_bytes(n, width);
    head[0] = (uint8_t)width;
    taut__put32(head + 1, shortest);
    TAUT_TRY(taut__bytes_add(out, head, sizeof head));
    TAUT_TRY(taut__bytes_reserve(out, bytes));
    memset(out->p + out->n, 0, bytes);
    for (uint32_t k = 0; k < n && width; k++)
        taut__pack(out->p + out->n, k, width, taut__places_length(p, first + k) - shortest);
    out->n += bytes;
    return TAUT_OK;
}

taut_status taut__places_write(const taut__places *p, taut__places_cursor *c, uint32_t n, bool lengths, taut_bytes *out)
{
    uint64_t before = 0;
    uint8_t  flags = lengths;
    TAUT_TRY(taut__bytes_add(out, &flags, 1));
    if (lengths) TAUT_TRY(put_lengths(p, c->sample, n, out));
    while (n) {
        const taut__run *r = &p->run[c->run];
        uint64_t         left = r->samples - c->inside, take = left < n ? left : n;
        if (c->inside == 0) c->at = r->at;
        TAUT_TRY(taut__varint_add(out, take));
        TAUT_TRY(taut__varint_add(out, r->buffer));
        TAUT_TRY(taut__varint_add(out, taut__zigzag((int64_t)(c->at - before))));
        TAUT_TRY(taut__varint_add(out, taut__zigzag(take > 1 ? r->gap : 0)));
        for (uint64_t k = 0; k < take; k++) {
            before = c->at + taut__places_length(p, c->sample++);
            c->at = before + (uint64_t)r->gap;
        }
        c->inside += take;
        if (c->inside == r->samples) c->run++, c->inside = 0;
        n -= (uint32_t)take;
    }
    return TAUT_OK;
}
