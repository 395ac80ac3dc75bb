/* verify.c : every byte of a file against what was written. Parts are read and decoded; front, shared frames, meta and seek
 * table are compared with what the index says they must be. */
#include "../import/extern.h"
#include "layout.h"
#include "seek.h"
#include <inttypes.h>
#include <stdio.h>

typedef struct verifier {
    const taut_shard *s;
    taut_reader      *reader;
    uint8_t          *image;
    void (*bad)(void *ctx, const char *text);
    void              *ctx;
    taut_verify_result result;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
} verifier;

static void report(verifier *v, const char *text, bool block)
{
    if (block) v->result.bad_blocks++;
    else v->result.bad_parts++;
    if (v->bad) v->bad(v->ctx, text);
}

static bool finding(taut_status rc) { return rc == TAUT_E_CORRUPT; }

static taut_status verify_parts(verifier *v)
{
    const taut_shard *s = v->s;
    for (uint64_t b = 0; b < s->blocks; b++) {
        if (v->progress) v->progress(v->progress_ctx, b, s->blocks);
        for (uint32_t f = 0; f < s->fields; f++) {
            taut_status rc = taut__reader_load(v->reader, f, b, v->image, taut__image_bytes(s, f, b));
            v->result.blocks++;
            v->result.bytes += taut__shard_extent(s, f, b).bytes + (s->foreign ? taut__meta_part(s, f, b).decoded : 0);
            if (finding(rc)) report(v, taut_last_error(), true);
            else TAUT_TRY(rc);
        }
    }
    return TAUT_OK;
}

/* A front or meta with one flipped bit was corrected when it was opened, maybe in another process: read it again. */
static taut_status verify_index(verifier *v)
{
    const taut_shard *s = v->s;
    char              text[512];
    uint64_t          at = 0;
    v->result.bytes += s->index_bytes;
    for (size_t done = 0, n; done < s->index_bytes; done += n, at += n) {
        uint8_t copy[4096];
        if (done == TAUT_FRONT_BYTES) at = s->front.meta_offset;
        n = done < TAUT_FRONT_BYTES ? TAUT_FRONT_BYTES : taut__min(sizeof copy, s->index_bytes - done);
        TAUT_TRY(taut__pread(s->fd, s->path, copy, n, at));
        if (memcmp(copy, s->index + done, n) == 0) continue;
        snprintf(text, sizeof text, "%s: its %s is damaged near byte %" PRIu64, s->path,
                 done < TAUT_FRONT_BYTES ? "front" : "meta frame", at);
        report(v, text, false);
        if (done) break;
    }
    return TAUT_OK;
}

static taut_status verify_shared(verifier *v)
{
    const taut_shard *s = v->s;
    for (uint32_t f = 0; f < s->fields; f++) {
        const taut_shared *sh = &s->shared[f];
        uint8_t            copy[4096];
        char               text[512];
        uint32_t           crc = 0;
        for (uint64_t done = 0, n; done < sh->bytes; done += n) {
            n = taut__min(sizeof copy, sh->bytes - done);
            TAUT_TRY(taut__pread(s->fd, s->path, copy, (size_t)n, sh->offset + done));
            crc = taut__crc32c_more(crc, copy, (size_t)n);
        }
        v->result.bytes += sh->bytes;
        if (crc == sh->crc || !sh->bytes) continue;
        snprintf(text, sizeof text, "%s: what the blocks of field %s share (bytes %" PRIu64 "..%" PRIu64 ") is damaged",
                 s->path, s->field[f].name, sh->offset, sh->offset + sh->bytes - 1);
        report(v, text, false);
    }
    return TAUT_OK;
}

static taut_status verify_files(verifier *v)
{
    char        text[512];
    taut_status rc = taut__extern_verify(v->s);
    if (!finding(rc)) return rc;
    snprintf(text, sizeof text, "%s", taut_last_error());
    report(v, text, false);
    return TAUT_OK;
}

static taut_status verify_seek(verifier *v)
{
    char        text[512];
    taut_status rc = taut__seek_check(v->s);
    v->result.bytes += v->s->front.file_bytes - v->s->front.meta_offset - v->s->front.meta_bytes;
    if (!finding(rc)) return rc;
    snprintf(text, sizeof text, "%s", taut_last_error());
    report(v, text, false);
    return TAUT_OK;
}

static taut_status verify(verifier *v)
{
    size_t most = 1;
    for (uint32_t f = 0; f < v->s->fields; f++) most = taut__max(most, v->s->image_max[f]);
    TAUT_TRY(taut__memory_ok(most, v->s->path));
    v->image = taut__alloc(most, 1);
    if (!v->image) return taut__fail(TAUT_E_NOMEM, "%s: no memory for a block of %zu bytes", v->s->path, most);
    TAUT_TRY(taut_reader_create(v->s, &v->reader));
    TAUT_TRY(verify_index(v));
    TAUT_TRY(verify_parts(v));
    TAUT_TRY(verify_shared(v));
    TAUT_TRY(verify_files(v));
    return verify_seek(v);
}

taut_status taut_shard_verify(const taut_shard *s, void (*bad)(void *ctx, const char *text), void *ctx,
                              taut_verify_result *result)
{
    return taut__shard_verify(s, bad, ctx, result, NULL, NULL);
}

taut_status taut__shard_verify(const taut_shard *s, void (*bad)(void *ctx, const char *text), void *ctx,
                               taut_verify_result *result, void (*progress)(void *ctx, uint64_t done, uint64_t total),
                               void               *progress_ctx)
{
    verifier    v = {.s = s, .bad = bad, .ctx = ctx, .progress = progress, .progress_ctx = progress_ctx};
    size_t      size = result->size;
    taut_status rc;
    if (size < sizeof(size_t))
        return taut__fail(TAUT_E_INVALID, "taut_verify_result.size=%zu: set it to sizeof(taut_verify_result)", size);
    rc = verify(&v);
    taut_reader_destroy(v.reader);
    taut__free(v.image);
    v.result.size = size;
    memcpy(result, &v.result, taut__min(size, sizeof v.result));
    if (rc == TAUT_OK && v.result.bad_blocks + v.result.bad_parts)
        rc = taut__fail(TAUT_E_CORRUPT, "%s: %" PRIu64 " of %" PRIu64 " blocks and %" PRIu64 " other parts are damaged",
                        s->path, v.result.bad_blocks, v.result.blocks, v.result.bad_parts);
    return rc;
}
