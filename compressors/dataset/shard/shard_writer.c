/* shard_writer.c : collects samples; what becomes of them is in shard_publish.c. */
#include "shard_writer.h"
#include <inttypes.h>
#include <stdio.h>

static char *copy_text(const char *text)
{
    char *p = taut__alloc(strlen(text ? text : "") + 1, 1);
    if (p && text) strcpy(p, text);
    return p;
}

static taut_status take_field(taut_writer *w, uint32_t i, const taut_field *given)
{
    taut_field *f = &w->field[i];
    if (given->size < sizeof(size_t) || given->size > 4096)
        return taut__fail(TAUT_E_INVALID, "field %u: taut_field.size=%zu: begin with TAUT_FIELD_INIT", i, given->size);
    memcpy(f, given, taut__min(given->size, sizeof *f));
    f->size = sizeof *f;
    f->decoded_bytes = f->stored_bytes = 0;
    f->rel_err2 = f->max_err = f->psnr_db = 0;
    TAUT_TRY(taut__field_shape(f));
    TAUT_TRY(taut__field_spec_parse(f, &w->spec[i]));
    if (!w->spec[i].codec->encode)
        return taut__fail(TAUT_E_UNSUPPORTED, "field %s: codec %s: is made by `taut data index` only", f->name,
                          w->spec[i].codec->name);
    for (uint32_t k = 0; k < i; k++) {
        if (strcmp(w->field[k].name, f->name) == 0)
            return taut__fail(TAUT_E_INVALID, "two fields are called '%s'", f->name);
        if (w->field[k].kind == TAUT_KIND_LABEL && f->kind == TAUT_KIND_LABEL)
            return taut__fail(TAUT_E_INVALID, "fields %s and %s are both labels; at most one can be", w->field[k].name,
                              f->name);
    }
    return taut__spool_init(&w->spool[i], w->path, f->sample_bytes);
}

static taut_status take_options(taut_writer *w, const taut_writer_options *given)
{
    taut_writer_options o = TAUT_WRITER_INIT;
    if (given) memcpy(&o, given, taut__min(given->size, sizeof o));
    if (o.block_bytes && (o.block_bytes < 256 || o.block_bytes > TAUT_BLOCK_MAX))
        return taut__fail(TAUT_E_RANGE, "block_bytes=%" PRIu64 ": must be 256..%" PRIu64, o.block_bytes,
                          TAUT_BLOCK_MAX);
    if (o.samples_per_block > TAUT_PER_BLOCK_MAX)
        return taut__fail(TAUT_E_RANGE, "samples_per_block=%" PRIu64 ": must be at most %" PRIu64, o.samples_per_block,
                          TAUT_PER_BLOCK_MAX);
    if (o.threads < 0 || o.threads > 64) return taut__fail(TAUT_E_RANGE, "threads=%d: must be 1..64", o.threads);
    w->block_bytes = o.block_bytes ? o.block_bytes : 65536;
    w->per_block = o.samples_per_block;
    w->threads = o.threads ? o.threads : 1;
    w->progress = o.progress;
    w->progress_ctx = o.progress_ctx;
    w->source = copy_text(o.source);
    w->labels = copy_text(o.labels);
    return w->source && w->labels ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "no memory for a writer");
}

static taut_status create(taut_writer *w, size_t n, const taut_field *fields, const taut_writer_options *options)
{
    w->field = taut__alloc(n, sizeof *w->field);
    w->spec = taut__alloc(n, sizeof *w->spec);
    w->spool = taut__alloc(n, sizeof *w->spool);
    if (!w->field || !w->spec || !w->spool) return taut__fail(TAUT_E_NOMEM, "no memory for a writer");
    for (size_t f = 0; f < n; f++) w->spool[f].fd = -1;
    w->fields = (uint32_t)n;
    TAUT_TRY(take_options(w, options));
    TAUT_TRY(taut__output_open(&w->out, w->path));
    for (uint32_t f = 0; f < w->fields; f++) TAUT_TRY(take_field(w, f, &fields[f]));
    return TAUT_OK;
}

taut_status taut_writer_create(const char *path, size_t n, const taut_field *fields, const taut_writer_options *options,
                               taut_writer **out)
{
    taut_writer *w;
    taut_status  rc;
    *out = NULL;
    if (!path || !*path || path[strlen(path) - 1] == '/')
        return taut__fail(TAUT_E_INVALID, "'%s' cannot be the name of a shard", path ? path : "");
    if (n < 1 || n > TAUT_FIELDS_MAX || !fields)
        return taut__fail(TAUT_E_RANGE, "%zu fields: a shard has 1..%d", n, TAUT_FIELDS_MAX);
    w = taut__alloc(1, sizeof *w);
    if (!w) return taut__fail(TAUT_E_NOMEM, "no memory for a writer");
    w->out.fd = -1;
    w->path = copy_text(path);
    rc = w->path ? create(w, n, fields, options) : taut__fail(TAUT_E_NOMEM, "no memory for a writer");
    if (rc != TAUT_OK) {
        taut_writer_destroy(w);
        return rc;
    }
    *out = w;
    return TAUT_OK;
}

void taut_writer_destroy(taut_writer *w)
{
    if (!w) return;
    for (uint32_t f = 0; f < w->fields; f++) taut__spool_fini(&w->spool[f]);
    taut__output_close(&w->out);
    taut__free(w->field);
    taut__free(w->spec);
    taut__free(w->spool);
    taut__free(w->source);
    taut__free(w->labels);
    taut__free(w->path);
    taut__free(w);
}

taut_status taut_writer_add(taut_writer *w, const void *const *data, const size_t *bytes)
{
    if (w->failed || w->finished) return taut__fail(TAUT_E_STATE, "%s: the writer is finished or has failed", w->path);
    for (uint32_t f = 0; f < w->fields; f++) {
        const taut_field *field = &w->field[f];
        if (!field->variable && bytes[f] != field->sample_bytes)
            return taut__fail(TAUT_E_INVALID,
                              "%s: sample %" PRIu64 ", field %s: %zu bytes where its shape takes %" PRIu64, w->path,
                              w->samples, field->name, bytes[f], field->sample_bytes);
        if (bytes[f] % taut_type_bytes(field->type))
            return taut__fail(TAUT_E_INVALID, "%s: sample %" PRIu64 ", field %s: %zu bytes are no whole number of %s",
                              w->path, w->samples, field->name, bytes[f], taut_type_name(field->type));
    }
    for (uint32_t f = 0; f < w->fields; f++) {
        taut_status rc = taut__spool_add(&w->spool[f], data[f], bytes[f]);
        if (rc != TAUT_OK) {
            w->failed = true;
            return rc;
        }
    }
    w->samples++;
    return TAUT_OK;
}

uint64_t taut__choose_per_block(const taut_writer *w)
{
    uint64_t bytes = 1, n;
    if (w->per_block) return w->per_block < w->samples ? w->per_block : w->samples;
    for (uint32_t f = 0; f < w->fields; f++)
        if (w->spool[f].bytes > bytes) bytes = w->spool[f].bytes;
    n = (uint64_t)((double)w->block_bytes * (double)w->samples / (double)bytes);
    if (n * bytes > w->block_bytes * w->samples && n > 1) n--; /* rounding */
    n = n < 1 ? 1 : n > TAUT_PER_BLOCK_MAX ? TAUT_PER_BLOCK_MAX : n;
    return n < w->samples ? n : w->samples;
}

static taut_status finish(taut_writer *w)
{
    uint64_t largest[TAUT_FIELDS_MAX], blocks;
    if (w->samples == 0) return taut__fail(TAUT_E_INVALID, "%s: no samples; a shard has at least one", w->path);
    w->per_block = taut__choose_per_block(w);
    blocks = (w->samples - 1) / w->per_block + 1;
    if (blocks > TAUT_PARTS_MAX / w->fields)
        return taut__fail(TAUT_E_RANGE,
                          "%s: %" PRIu64 " blocks of %u fields: a shard holds %" PRIu64
                          " parts: use larger blocks or more shards",
                          w->path, blocks, w->fields, TAUT_PARTS_MAX);
    for (uint32_t f = 0; f < w->fields; f++) {
        char what[256];
        TAUT_TRY(taut__spool_cut(&w->spool[f], w->per_block, &largest[f]));
        snprintf(what, sizeof what, "%s: a block of field %s, %" PRIu64 " samples,", w->path, w->field[f].name,
                 w->per_block);
        if (largest[f] > TAUT_BLOCK_MAX)
            return taut__fail(TAUT_E_RANGE, "%s has %" PRIu64 " bytes: at most %" PRIu64 "%s", what, largest[f],
                              TAUT_BLOCK_MAX,
                              w->per_block > 1 ? ": use smaller blocks" : ", and so of a sample: cut it into several");
        TAUT_TRY(taut__memory_ok(3 * largest[f] * (uint64_t)w->threads, what));
    }
    return taut__publish(w, largest);
}

taut_status taut_writer_finish(taut_writer *w)
{
    taut_status rc;
    if (w->failed || w->finished) return taut__fail(TAUT_E_STATE, "%s: the writer is finished or has failed", w->path);
    rc = finish(w);
    w->finished = rc == TAUT_OK;
    w->failed = rc != TAUT_OK;
    return rc;
}
