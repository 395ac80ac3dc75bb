/* shard_publish.c : the second half of a writer. Tables are trained; blocks are encoded by a few threads, some at a time,
 * each decoded again (which measures the error, and proves that it can be read); then everything is written in order, so the
 * bytes do not depend on the threads. */
#include "../../../comm/base/executor.h"
#include "shard_error.h"
#include "shard_writer.h"
#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

typedef struct piece { /* one part on its way */
    taut_bytes     stored;
    taut_meta_part meta;
    size_t         samples_bytes; /* of the samples frame in front */
    taut_error     error;
    taut_status    rc;
    char           why[512];
} piece;

typedef struct worker {
    void    **codec; /* per field */
    uint8_t  *in, *back;
    uint32_t *offset;
} worker;

typedef struct publisher {
    taut_writer *w;
    uint64_t     blocks, first; /* of the batch under way */
    uint32_t     batch;         /* blocks of it */
    piece       *piece;
    worker      *worker;
    taut_bytes   shared[TAUT_FIELDS_MAX], parts, seek;
    taut_shared  place[TAUT_FIELDS_MAX];
    taut_error   error[TAUT_FIELDS_MAX];
    uint64_t     frames;
} publisher;

/* ---- one part ---- */

static taut_status encode_payload(const taut_field_codec *c, void *codec, const taut_part *part, taut_bytes *out)
{
    size_t at = out->n;
    if (c->caps & TAUT_FIELD_PLAIN) return c->encode(codec, part, out);
    TAUT_TRY(taut__bytes_reserve(out, TAUT_FRAME_HEAD));
    out->n += TAUT_FRAME_HEAD;
    TAUT_TRY(c->encode(codec, part, out));
    taut__frame_head(out->p + at, TAUT_MAGIC_PAYLOAD, (uint32_t)(out->n - at - TAUT_FRAME_HEAD));
    return TAUT_OK;
}

static taut_status encode_part(publisher *p, piece *e, uint32_t f, uint64_t b, worker *k)
{
    const taut_field_codec *c = p->w->spec[f].codec;
    size_t                  head;
    taut_part               part, geometry;
    e->stored.n = 0;
    TAUT_TRY(taut__spool_part(&p->w->spool[f], b, k->in, k->offset, &part));
    TAUT_TRY(taut__samples_write(taut__samples_flags(&p->w->field[f], c), &part, &e->stored));
    e->samples_bytes = e->stored.n;
    TAUT_TRY(encode_payload(c, k->codec[f], &part, &e->stored));
    if (e->stored.n > UINT32_MAX) return taut__fail(TAUT_E_RANGE, "%zu stored bytes: must be below 4 GiB", e->stored.n);
    head = e->samples_bytes + (c->caps & TAUT_FIELD_PLAIN ? 0 : TAUT_FRAME_HEAD);
    geometry = part;
    geometry.data = NULL;
    TAUT_TRY(c->decode(k->codec[f], e->stored.p + head, e->stored.n - head, &geometry, k->back));
    e->error = taut__error_of(p->w->field[f].type, part.data, k->back, part.bytes);
    if (!(c->caps & TAUT_FIELD_LOSSY) && part.bytes && memcmp(part.data, k->back, part.bytes) != 0)
        return taut__fail(TAUT_E_STATE, "codec %s did not give back what it was given (a fault of the library)",
                          c->name);
    e->meta = (taut_meta_part){(uint32_t)e->stored.n, (uint32_t)part.bytes, taut__crc32c(e->stored.p, e->stored.n),
                               XXH64(k->back, part.bytes, 0)};
    return TAUT_OK;
}

static void run_piece(void *ctx, size_t i, int who)
{
    publisher *p = ctx;
    piece     *e = &p->piece[i];
    uint32_t   f = (uint32_t)(i % p->w->fields);
    uint64_t   b = p->first + i / p->w->fields;
    e->rc = encode_part(p, e, f, b, &p->worker[who]);
    if (e->rc != TAUT_OK)
        snprintf(e->why, sizeof e->why, "%s: block %" PRIu64 " of field %s: %.300s", p->w->path, b, p->w->field[f].name,
                 taut_last_error());
}

/* ---- training ---- */

typedef struct training {
    const taut_spool *spool;
    uint8_t          *data;
    uint32_t         *offset;
} training;

static taut_status training_part(void *ctx, uint64_t block, taut_part *part)
{
    training *t = ctx;
    return taut__spool_part(t->spool, block, t->data, t->offset, part);
}

static taut_status train(publisher *p)
{
    for (uint32_t f = 0; f < p->w->fields; f++) {
        const taut_field_spec *spec = &p->w->spec[f];
        training               t = {&p->w->spool[f], p->worker[0].in, p->worker[0].offset};
        taut_source            source = {&t, p->blocks, p->w->spool[f].bytes, training_part};
        if (!spec->codec->train) continue;
        TAUT_TRY(taut__bytes_reserve(&p->shared[f], TAUT_FRAME_HEAD));
        p->shared[f].n = TAUT_FRAME_HEAD;
        TAUT_TRY(spec->codec->train(spec, &source, &p->shared[f]));
        if (p->shared[f].n - TAUT_FRAME_HEAD > UINT32_MAX)
            return taut__fail(TAUT_E_RANGE, "field %s: %zu shared bytes: must be below 4 GiB", p->w->field[f].name,
                              p->shared[f].n);
        taut__frame_head(p->shared[f].p, TAUT_MAGIC_SHARED, (uint32_t)(p->shared[f].n - TAUT_FRAME_HEAD));
    }
    return TAUT_OK;
}

static taut_status open_codecs(publisher *p)
{
    for (int k = 0; k < p->w->threads; k++)
        for (uint32_t f = 0; f < p->w->fields; f++) {
            const taut_field_codec *c = p->w->spec[f].codec;
            const taut_bytes       *sh = &p->shared[f];
            if (c->open)
                TAUT_TRY(c->open(&p->w->spec[f], sh->n ? sh->p + TAUT_FRAME_HEAD : NULL,
                                 sh->n ? sh->n - TAUT_FRAME_HEAD : 0, true, &p->worker[k].codec[f]));
        }
    return TAUT_OK;
}

/* ---- writing ---- */

static taut_status add_seek(publisher *p, size_t compressed, size_t decompressed, uint64_t xxh)
{
    uint8_t e[TAUT_SEEK_ENTRY];
    taut__put32(e, (uint32_t)compressed);
    taut__put32(e + 4, (uint32_t)decompressed);
    taut__put32(e + 8, (uint32_t)xxh);
    p->frames++;
    return taut__bytes_add(&p->seek, e, sizeof e);
}
static taut_status add_skippable(publisher *p, size_t bytes) { return add_seek(p, bytes, 0, XXH64(NULL, 0, 0)); }

static taut_status write_piece(publisher *p, piece *e, uint32_t f)
{
    taut_field *field = &p->w->field[f];
    uint8_t     m[TAUT_META_PART];
    if (e->rc != TAUT_OK) return taut__fail(e->rc, "%s", e->why);
    if (e->samples_bytes) TAUT_TRY(add_skippable(p, e->samples_bytes));
    TAUT_TRY(p->w->spec[f].codec->caps & TAUT_FIELD_PLAIN
                 ? add_seek(p, e->stored.n - e->samples_bytes, e->meta.decoded, e->meta.xxh)
                 : add_skippable(p, e->stored.n - e->samples_bytes));
    taut__put32(m, e->meta.stored);
    taut__put32(m + 4, e->meta.decoded);
    taut__put32(m + 8, e->meta.crc);
    taut__put64(m + 12, e->meta.xxh);
    TAUT_TRY(taut__bytes_add(&p->parts, m, sizeof m));
    field->decoded_bytes += e->meta.decoded;
    field->stored_bytes += e->meta.stored;
    taut__error_add(&p->error[f], &e->error);
    return taut__output_add(&p->w->out, e->stored.p, e->stored.n);
}

static taut_status write_blocks(publisher *p)
{
    taut_writer    *w = p->w;
    taut__executor *pool;
    taut_status     rc = TAUT_OK;
    TAUT_TRY(taut__executor_create(w->threads, &pool));
    for (p->first = 0; p->first < p->blocks && rc == TAUT_OK; p->first += p->batch) {
        size_t n = (size_t)(p->blocks - p->first < p->batch ? p->blocks - p->first : p->batch) * w->fields;
        taut__executor_run(pool, run_piece, p, n);
        for (size_t i = 0; i < n && rc == TAUT_OK; i++) rc = write_piece(p, &p->piece[i], (uint32_t)(i % w->fields));
        if (rc == TAUT_OK && w->progress) {
            uint64_t done = (p->first + p->batch) * w->per_block;
            if (w->progress(w->progress_ctx, done < w->samples ? done : w->samples, w->samples))
                rc = taut__fail(TAUT_E_STATE, "%s: stopped by its progress function", w->path);
        }
    }
    taut__executor_destroy(pool);
    return rc;
}

static taut_status write_shared(publisher *p)
{
    for (uint32_t f = 0; f < p->w->fields; f++) {
        taut_bytes *sh = &p->shared[f];
        if (!sh->n) continue;
        p->place[f] = (taut_shared){p->w->out.written, sh->n, taut__crc32c(sh->p, sh->n)};
        p->w->field[f].stored_bytes += sh->n;
        TAUT_TRY(add_skippable(p, sh->n));
        TAUT_TRY(taut__output_add(&p->w->out, sh->p, sh->n));
    }
    return TAUT_OK;
}

static taut_status write_seek(publisher *p)
{
    uint8_t head[TAUT_FRAME_HEAD], foot[9];
    if (p->frames >= UINT64_C(1) << 27)
        return taut__fail(TAUT_E_RANGE, "%s: %" PRIu64 " frames: the seekable format holds 2^27: use larger blocks",
                          p->w->path, p->frames);
    taut__frame_head(head, TAUT_MAGIC_SEEK, (uint32_t)(p->seek.n + sizeof foot));
    taut__put32(foot, (uint32_t)p->frames);
    foot[4] = 0x80; /* entries have checksums */
    taut__put32(foot + 5, TAUT_MAGIC_SEEK_END);
    TAUT_TRY(taut__output_add(&p->w->out, head, sizeof head));
    TAUT_TRY(taut__output_add(&p->w->out, p->seek.p, p->seek.n));
    return taut__output_add(&p->w->out, foot, sizeof foot);
}

static taut_status write_meta(publisher *p)
{
    taut_writer *w = p->w;
    taut_bytes   meta = {0};
    taut_front   front = {.version = TAUT_SHARD_VERSION, .meta_offset = w->out.written};
    taut_meta    m = {.samples = w->samples,
                      .per_block = w->per_block,
                      .blocks = p->blocks,
                      .fields = w->fields,
                      .field = w->field,
                      .spec = w->spec,
                      .shared = p->place,
                      .source = w->source,
                      .labels = w->labels,
                      .parts = p->parts.p};
    taut_status  rc = taut__meta_write(&m, &meta);
    if (rc == TAUT_OK) rc = taut__output_add(&w->out, meta.p, meta.n);
    if (rc == TAUT_OK) rc = add_skippable(p, meta.n);
    if (rc == TAUT_OK) rc = write_seek(p);
    if (rc == TAUT_OK) rc = taut__front_put(&w->out, &front, &meta);
    taut__bytes_free(&meta);
    return rc;
}

/* ---- all of it ---- */

static taut_status prepare(publisher *p, const uint64_t *largest)
{
    taut_writer *w = p->w;
    uint64_t     most = 1;
    for (uint32_t f = 0; f < w->fields; f++) most = largest[f] > most ? largest[f] : most;
    /* small parts are handed out many at a time, so that threads do not wait for each other */
    p->batch = (uint32_t)(w->threads * (most < 1 << 20 ? 8 : 1));
    p->piece = taut__alloc((size_t)p->batch * w->fields, sizeof *p->piece);
    p->worker = taut__alloc((size_t)w->threads, sizeof *p->worker);
    if (!p->piece || !p->worker) return taut__fail(TAUT_E_NOMEM, "%s: no memory for a writer", w->path);
    for (int k = 0; k < w->threads; k++) {
        worker *o = &p->worker[k];
        o->codec = taut__alloc(w->fields, sizeof *o->codec);
        o->in = taut__alloc((size_t)most, 1);
        o->back = taut__alloc((size_t)most, 1);
        o->offset = taut__alloc((size_t)w->per_block + 1, sizeof *o->offset);
        if (!o->codec || !o->in || !o->back || !o->offset)
            return taut__fail(TAUT_E_NOMEM, "%s: no memory for blocks of %" PRIu64 " bytes", w->path, most);
    }
    return TAUT_OK;
}

static void release(publisher *p)
{
    for (int k = 0; p->worker && k < p->w->threads; k++) {
        worker *o = &p->worker[k];
        for (uint32_t f = 0; o->codec && f < p->w->fields; f++)
            if (p->w->spec[f].codec->close) p->w->spec[f].codec->close(o->codec[f]);
        taut__free(o->codec);
        taut__free(o->in);
        taut__free(o->back);
        taut__free(o->offset);
    }
    for (size_t i = 0; p->piece && i < (size_t)p->batch * p->w->fields; i++) taut__bytes_free(&p->piece[i].stored);
    for (uint32_t f = 0; f < p->w->fields; f++) taut__bytes_free(&p->shared[f]);
    taut__bytes_free(&p->parts);
    taut__bytes_free(&p->seek);
    taut__free(p->piece);
    taut__free(p->worker);
}

static taut_status publish(publisher *p, const uint64_t *largest)
{
    taut_writer *w = p->w;
    uint8_t      empty[TAUT_FRONT_BYTES];
    TAUT_TRY(prepare(p, largest));
    TAUT_TRY(train(p));
    TAUT_TRY(open_codecs(p));
    memset(empty, 0, sizeof empty);
    taut__frame_head(empty, TAUT_MAGIC_FRONT, TAUT_FRONT_BYTES - TAUT_FRAME_HEAD);
    TAUT_TRY(taut__output_add(&w->out, empty, sizeof empty));
    TAUT_TRY(add_skippable(p, sizeof empty));
    TAUT_TRY(write_blocks(p));
    TAUT_TRY(write_shared(p));
    for (uint32_t f = 0; f < w->fields; f++) {
        taut_field *field = &w->field[f];
        taut__field_spec_print(&w->spec[f], field->codec, sizeof field->codec);
        taut__error_report(&p->error[f], field);
    }
    TAUT_TRY(write_meta(p));
    return taut__output_publish(&w->out);
}

taut_status taut__publish(taut_writer *w, const uint64_t *largest)
{
    publisher  *p = taut__alloc(1, sizeof *p);
    taut_status rc;
    if (!p) return taut__fail(TAUT_E_NOMEM, "%s: no memory for a writer", w->path);
    p->w = w;
    p->blocks = (w->samples - 1) / w->per_block + 1;
    rc = publish(p, largest);
    release(p);
    taut__free(p);
    return rc;
}
