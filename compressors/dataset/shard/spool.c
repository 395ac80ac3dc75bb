/* spool.c : see spool.h. */
#include "spool.h"
#include "layout.h"
#include "output.h"
#include <inttypes.h>
#include <unistd.h>

enum { BUFFER = 1 << 18 };

taut_status taut__spool_init(taut_spool *s, const char *path, uint64_t sample_bytes)
{
    *s = (taut_spool){.fd = -1, .path = path, .sample_bytes = sample_bytes};
    return taut__spool_open(path, &s->fd);
}

void taut__spool_fini(taut_spool *s)
{
    if (s->fd > 0) close(s->fd);
    taut__bytes_free(&s->buffer);
    taut__bytes_free(&s->lengths);
    taut__free(s->start);
    *s = (taut_spool){.fd = -1};
}

static taut_status flush(taut_spool *s)
{
    TAUT_TRY(taut__write_all(s->fd, s->path, s->buffer.p, s->buffer.n));
    s->buffer.n = 0;
    return TAUT_OK;
}

taut_status taut__spool_add(taut_spool *s, const void *data, size_t bytes)
{
    if (bytes >= UINT32_MAX)
        return taut__fail(TAUT_E_RANGE, "%s: sample %" PRIu64 " has %zu bytes: must be below 4 GiB", s->path,
                          s->samples, bytes);
    if (s->sample_bytes == 0) {
        uint8_t len[4];
        taut__put32(len, (uint32_t)bytes);
        TAUT_TRY(taut__bytes_add(&s->lengths, len, 4));
    }
    if (s->buffer.n + bytes > BUFFER) TAUT_TRY(flush(s));
    TAUT_TRY(bytes > BUFFER ? taut__write_all(s->fd, s->path, data, bytes) : taut__bytes_add(&s->buffer, data, bytes));
    s->bytes += bytes;
    s->samples++;
    return TAUT_OK;
}

static uint32_t length(const taut_spool *s, uint64_t i) { return taut__get32(s->lengths.p + 4 * i); }

taut_status taut__spool_cut(taut_spool *s, uint64_t per_block, uint64_t *largest)
{
    uint64_t blocks = (s->samples - 1) / per_block + 1, at = 0;
    s->per_block = per_block;
    TAUT_TRY(flush(s));
    if (s->sample_bytes) {
        *largest = s->sample_bytes * (per_block < s->samples ? per_block : s->samples);
        return TAUT_OK;
    }
    taut__free(s->start);
    s->start = taut__alloc((size_t)blocks + 1, sizeof *s->start);
    if (!s->start) return taut__fail(TAUT_E_NOMEM, "%s: no memory for %" PRIu64 " blocks", s->path, blocks);
    *largest = 0;
    for (uint64_t i = 0; i < s->samples; i++) {
        if (i % per_block == 0) s->start[i / per_block] = at;
        at += length(s, i);
    }
    s->start[blocks] = at;
    for (uint64_t b = 0; b < blocks; b++)
        if (s->start[b + 1] - s->start[b] > *largest) *largest = s->start[b + 1] - s->start[b];
    return TAUT_OK;
}

taut_status taut__spool_part(const taut_spool *s, uint64_t block, uint8_t *data, uint32_t *offset, taut_part *part)
{
    uint64_t first = block * s->per_block, left = s->samples - first, at;
    uint32_t n = (uint32_t)(left < s->per_block ? left : s->per_block);
    offset[0] = 0;
    for (uint32_t k = 0; k < n; k++)
        offset[k + 1] = offset[k] + (s->sample_bytes ? (uint32_t)s->sample_bytes : length(s, first + k));
    at = s->sample_bytes ? first * s->sample_bytes : s->start[block];
    *part = (taut_part){.block = block, .start = at, .data = data, .bytes = offset[n], .n = n, .offset = offset};
    return taut__pread(s->fd, s->path, data, part->bytes, at);
}
