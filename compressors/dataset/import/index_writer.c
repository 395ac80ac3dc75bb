/* index_writer.c : an index from what a format found: every sample is read once, block by block, in the way in which readers will read
 * it; its hash, and its places, are written as a shard whose fields have codec `extern`. */
#include "../shard/layout.h"
#include "../shard/output.h"
#include "../utf8.h"
#include "formats.h"
#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

typedef struct writer {
    taut__import       *im;
    const char         *path;
    taut_output         out;
    uint64_t            per_block, blocks, frames;
    taut_field          field[64];
    taut_field_spec     spec[64];
    taut__places_cursor cursor[64];
    taut__gather        gather[64];
    taut_shared         shared[64];
    taut_bytes          stored, parts, seek;
    uint32_t           *offset;
    uint8_t            *image;
    size_t              image_cap;
} writer;

/* ---- lengths ---- */

static uint32_t decoded_length(const taut__import_field *f, uint64_t i)
{
    if (!f->field.variable) return (uint32_t)f->field.sample_bytes;
    return f->decoded ? f->decoded[i] : taut__places_length(&f->places, i);
}

static uint64_t decoded_total(const taut__import *im, const taut__import_field *f)
{
    uint64_t sum = 0;
    if (!f->field.variable) return im->samples * f->field.sample_bytes;
    for (uint64_t i = 0; i < im->samples; i++) sum += decoded_length(f, i);
    return sum;
}

static void choose_per_block(writer *w)
{
    const taut_index_options *o = w->im->options;
    uint64_t                  most = 1, block = o->block_bytes ? o->block_bytes : 65536;
    for (size_t f = 0; f < w->im->fields; f++) {
        uint64_t bytes = decoded_total(w->im, &w->im->field[f]);
        most = bytes > most ? bytes : most;
    }
    w->per_block =
        o->samples_per_block ? o->samples_per_block : (uint64_t)((double)block * (double)w->im->samples / (double)most);
    w->per_block = w->per_block < 1 ? 1 : w->per_block > TAUT_PER_BLOCK_MAX ? TAUT_PER_BLOCK_MAX : w->per_block;
    w->per_block = taut__max(1, taut__min(w->per_block, w->im->samples));
    w->blocks = taut__ceil_div(w->im->samples, w->per_block);
}

/* ---- one part ---- */

static taut_status check_text(const writer *w, const taut__import_field *f, const taut_part *part, const uint8_t *data)
{
    if (f->field.kind != TAUT_KIND_TEXT) return TAUT_OK;
    for (uint32_t k = 0; k < part->n; k++) {
        size_t n = part->offset[k + 1] - part->offset[k], tail,
               bad = taut__utf8_bad((const char *)data + part->offset[k], n, false, &tail);
        if (bad < n)
            return taut__fail(TAUT_E_CORRUPT,
                              "sample %" PRIu64 " is not UTF-8 from its byte %zu on; option bytes takes it as it is",
                              part->block * w->per_block + k, bad);
    }
    return TAUT_OK;
}

static taut_status check_sign(const writer *w, const taut__import_field *f, const taut_part *part, const uint8_t *data)
{
    size_t size = taut_type_bytes(f->field.type);
    if (!f->nonnegative) return TAUT_OK;
    for (uint32_t k = 0; k < part->n; k++)
        for (size_t at = part->offset[k]; at < part->offset[k + 1]; at += size)
            if (data[at + size - 1] & 128)
                return taut__fail(TAUT_E_CORRUPT, "sample %" PRIu64 " has a negative id",
                                  part->block * w->per_block + k);
    return TAUT_OK;
}

static taut_status make_part(writer *w, uint32_t f, taut_part *part)
{
    taut__import_field *imf = &w->im->field[f];
    uint64_t            first = part->block * w->per_block, bytes = 0;
    size_t              head, places;
    for (uint32_t k = 0; k < part->n; k++) {
        w->offset[k] = (uint32_t)bytes;
        bytes += decoded_length(imf, first + k);
        if (bytes > TAUT_BLOCK_MAX)
            return taut__fail(TAUT_E_RANGE, "a block of more than %" PRIu64 " bytes: use smaller blocks",
                              TAUT_BLOCK_MAX);
    }
    w->offset[part->n] = (uint32_t)bytes;
    part->bytes = (size_t)bytes;
    part->offset = w->offset;
    if (bytes > w->image_cap || !w->image) {
        taut__free(w->image);
        w->image_cap = (size_t)bytes + (size_t)bytes / 4 + 64;
        if (!(w->image = taut__alloc(w->image_cap, 1)))
            return taut__fail(TAUT_E_NOMEM, "no memory for a block of %" PRIu64 " bytes", bytes);
    }
    w->stored.n = 0;
    TAUT_TRY(taut__samples_write(taut__samples_flags(&w->field[f], w->spec[f].codec), part, &w->stored));
    head = w->stored.n;
    TAUT_TRY(taut__bytes_reserve(&w->stored, TAUT_FRAME_HEAD));
    w->stored.n += TAUT_FRAME_HEAD;
    places = w->stored.n;
    TAUT_TRY(taut__places_write(&imf->places, &w->cursor[f], part->n, !taut__as_same_length(imf->as), &w->stored));
    taut__frame_head(w->stored.p + head, TAUT_MAGIC_PAYLOAD, (uint32_t)(w->stored.n - places));
    TAUT_TRY(taut__gather_part(&w->gather[f], &w->im->foreign, imf->as, imf->field.type, w->stored.p + places,
                               w->stored.n - places, part, w->image));
    TAUT_TRY(check_text(w, imf, part, w->image));
    return check_sign(w, imf, part, w->image);
}

/* ---- writing ---- */

static taut_status add_seek(writer *w, uint64_t bytes)
{
    uint8_t e[TAUT_SEEK_ENTRY];
    taut__put32(e, (uint32_t)bytes);
    taut__put32(e + 4, 0);
    taut__put32(e + 8, (uint32_t)XXH64(NULL, 0, 0));
    w->frames++;
    return taut__bytes_add(&w->seek, e, sizeof e);
}

static taut_status write_part(writer *w, uint32_t f, uint64_t b)
{
    uint64_t    first = b * w->per_block, left = w->im->samples - first;
    taut_part   part = {.block = b, .n = (uint32_t)(left < w->per_block ? left : w->per_block)};
    taut_status rc = make_part(w, f, &part);
    uint8_t     m[TAUT_META_PART];
    size_t      samples;
    char        why[512];
    if (rc != TAUT_OK) {
        snprintf(why, sizeof why, "%s", taut_last_error());
        return taut__fail(rc, "%s: field %s, samples %" PRIu64 "..%" PRIu64 ": %s", w->im->foreign.file[0].source.name,
                          w->field[f].name, first, first + part.n - 1, why);
    }
    samples = w->field[f].variable ? TAUT_FRAME_HEAD + (size_t)taut__get32(w->stored.p + 4) : 0;
    if (samples) TAUT_TRY(add_seek(w, samples));
    TAUT_TRY(add_seek(w, w->stored.n - samples));
    taut__put32(m, (uint32_t)w->stored.n);
    taut__put32(m + 4, (uint32_t)part.bytes);
    taut__put32(m + 8, taut__crc32c(w->stored.p, w->stored.n));
    taut__put64(m + 12, XXH64(w->image, part.bytes, 0));
    TAUT_TRY(taut__bytes_add(&w->parts, m, sizeof m));
    w->field[f].decoded_bytes += part.bytes;
    w->field[f].stored_bytes += w->stored.n;
    return taut__output_add(&w->out, w->stored.p, w->stored.n);
}

static taut_status write_parts(writer *w)
{
    const taut_index_options *o = w->im->options;
    for (uint64_t b = 0; b < w->blocks; b++) {
        for (uint32_t f = 0; f < w->im->fields; f++) TAUT_TRY(write_part(w, f, b));
        if (o->progress &&
            o->progress(o->progress_ctx, taut__min((b + 1) * w->per_block, w->im->samples), w->im->samples) != 0)
            return taut__fail(TAUT_E_STATE, "%s: stopped", w->path);
    }
    return TAUT_OK;
}

static taut_status write_table(writer *w)
{
    taut_bytes  table = {0};
    taut_status rc = taut__bytes_reserve(&table, TAUT_FRAME_HEAD);
    table.n = TAUT_FRAME_HEAD;
    if (rc == TAUT_OK) rc = taut__foreign_write(&w->im->foreign, &table);
    if (rc == TAUT_OK) {
        taut__frame_head(table.p, TAUT_MAGIC_SHARED, (uint32_t)(table.n - TAUT_FRAME_HEAD));
        w->shared[0] = (taut_shared){w->out.written, table.n, taut__crc32c(table.p, table.n)};
        w->field[0].stored_bytes += table.n;
        rc = taut__output_add(&w->out, table.p, table.n);
    }
    if (rc == TAUT_OK) rc = add_seek(w, table.n);
    taut__bytes_free(&table);
    return rc;
}

static taut_status write_seek(writer *w)
{
    uint8_t head[TAUT_FRAME_HEAD], foot[9];
    if (w->frames >= UINT64_C(1) << 27)
        return taut__fail(TAUT_E_RANGE, "%s: %" PRIu64 " frames: the seekable format holds 2^27: use larger blocks",
                          w->path, w->frames);
    taut__frame_head(head, TAUT_MAGIC_SEEK, (uint32_t)(w->seek.n + sizeof foot));
    taut__put32(foot, (uint32_t)w->frames);
    foot[4] = 0x80;
    taut__put32(foot + 5, TAUT_MAGIC_SEEK_END);
    TAUT_TRY(taut__output_add(&w->out, head, sizeof head));
    TAUT_TRY(taut__output_add(&w->out, w->seek.p, w->seek.n));
    return taut__output_add(&w->out, foot, sizeof foot);
}

static taut_status write_end(writer *w, const char *source)
{
    taut_front  front = {.version = TAUT_SHARD_VERSION, .meta_offset = w->out.written};
    taut_meta   m = {.samples = w->im->samples,
                     .per_block = w->per_block,
                     .blocks = w->blocks,
                     .fields = (uint32_t)w->im->fields,
                     .field = w->field,
                     .spec = w->spec,
                     .shared = w->shared,
                     .source = source,
                     .labels = w->im->labels.p ? (const char *)w->im->labels.p : "",
                     .parts = w->parts.p};
    taut_bytes  meta = {0};
    taut_status rc = taut__meta_write(&m, &meta);
    if (rc == TAUT_OK) rc = taut__output_add(&w->out, meta.p, meta.n);
    if (rc == TAUT_OK) rc = add_seek(w, meta.n);
    if (rc == TAUT_OK) rc = write_seek(w);
    if (rc == TAUT_OK) rc = taut__front_put(&w->out, &front, &meta);
    taut__bytes_free(&meta);
    return rc;
}

/* ---- all of it ---- */

static taut_status prepare(writer *w)
{
    choose_per_block(w);
    if (w->blocks > TAUT_PARTS_MAX / w->im->fields)
        return taut__fail(TAUT_E_RANGE,
                          "%s: %" PRIu64 " blocks of %zu fields: an index holds %" PRIu64 " parts: use larger blocks",
                          w->path, w->blocks, w->im->fields, TAUT_PARTS_MAX);
    if (!(w->offset = taut__alloc((size_t)w->per_block + 1, sizeof *w->offset)))
        return taut__fail(TAUT_E_NOMEM, "%s: no memory for a block", w->path);
    for (size_t f = 0; f < w->im->fields; f++) {
        w->field[f] = w->im->field[f].field;
        TAUT_TRY(taut__field_spec_parse(&w->field[f], &w->spec[f]));
    }
    return w->im->labels.n ? taut__bytes_add(&w->im->labels, "", 1) : TAUT_OK;
}

static taut_status write_all(writer *w, const taut__format *format)
{
    uint8_t empty[TAUT_FRONT_BYTES] = {0};
    char    source[300];
    TAUT_TRY(prepare(w));
    TAUT_TRY(taut__output_open(&w->out, w->path));
    taut__frame_head(empty, TAUT_MAGIC_FRONT, TAUT_FRONT_BYTES - TAUT_FRAME_HEAD);
    TAUT_TRY(taut__output_add(&w->out, empty, sizeof empty));
    TAUT_TRY(add_seek(w, sizeof empty));
    TAUT_TRY(write_parts(w));
    TAUT_TRY(write_table(w));
    snprintf(source, sizeof source, "index of %s: %.200s%s", format->name, w->im->foreign.file[0].path,
             w->im->foreign.files > 1 ? ", ..." : "");
    TAUT_TRY(write_end(w, source));
    return taut__output_publish(&w->out);
}

taut_status taut__index_write(taut__import *im, const taut__format *format, const char *path)
{
    writer     *w = taut__alloc(1, sizeof *w);
    taut_status rc;
    if (!w) return taut__fail(TAUT_E_NOMEM, "%s: no memory for an index", path);
    w->im = im;
    w->path = path;
    w->out.fd = -1;
    rc = write_all(w, format);
    taut__output_close(&w->out);
    for (size_t f = 0; f < im->fields; f++) taut__gather_free(&w->gather[f]);
    taut__bytes_free(&w->stored);
    taut__bytes_free(&w->parts);
    taut__bytes_free(&w->seek);
    taut__free(w->offset);
    taut__free(w->image);
    taut__free(w);
    return rc;
}
