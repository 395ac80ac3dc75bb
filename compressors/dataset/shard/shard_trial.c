/* shard_trial.c : what a codec would make of a field, before it is decided. */
#include "shard_error.h"
#include "shard_writer.h"

#define TRIAL_BYTES (UINT64_C(64) << 20)

typedef struct trial {
    taut_writer    *w;
    taut_field      field;
    taut_field_spec spec;
    taut_spool     *spool;
    void           *state;
    uint8_t        *in, *back;
    uint32_t       *offset;
    taut_bytes      shared, stored;
} trial;

static taut_status part_of(void *ctx, uint64_t block, taut_part *part)
{
    trial *t = ctx;
    return taut__spool_part(t->spool, block, t->in, t->offset, part);
}

static taut_status set_codec(taut_field *f, const char *codec, taut_field_spec *spec)
{
    if (!codec || strlen(codec) >= sizeof f->codec)
        return taut__fail(TAUT_E_INVALID, "field %s: a codec spec %s: must have 0..%zu characters", f->name,
                          codec ? codec : "that is NULL", sizeof f->codec - 1);
    memset(f->codec, 0, sizeof f->codec);
    strcpy(f->codec, codec);
    return taut__field_spec_parse(f, spec);
}

static taut_status measure(trial *t, taut_trial *out)
{
    const taut_field_codec *c = t->spec.codec;
    uint64_t    per_block = taut__choose_per_block(t->w), largest, blocks = (t->w->samples - 1) / per_block + 1;
    uint64_t    every = t->spool->bytes / TRIAL_BYTES + 1, seen = 0, stored = 0;
    taut_error  sum = {0};
    taut_source source = {t, blocks, t->spool->bytes, part_of};
    TAUT_TRY(taut__spool_cut(t->spool, per_block, &largest));
    TAUT_TRY(taut__memory_ok(2 * largest, "a block"));
    t->in = taut__alloc((size_t)largest + 1, 1);
    t->back = taut__alloc((size_t)largest + 1, 1);
    t->offset = taut__alloc((size_t)per_block + 1, sizeof *t->offset);
    if (!t->in || !t->back || !t->offset)
        return taut__fail(TAUT_E_NOMEM, "no memory for blocks of %llu bytes", (unsigned long long)largest);
    if (c->train) TAUT_TRY(c->train(&t->spec, &source, &t->shared));
    if (c->open) TAUT_TRY(c->open(&t->spec, t->shared.p, t->shared.n, true, &t->state));
    for (uint64_t b = 0; b < blocks; b += every) {
        taut_part part, g;
        TAUT_TRY(part_of(t, b, &part));
        t->stored.n = 0;
        TAUT_TRY(c->encode(t->state, &part, &t->stored));
        g = part;
        g.data = NULL;
        TAUT_TRY(c->decode(t->state, t->stored.p, t->stored.n, &g, t->back));
        taut_error e = taut__error_of(t->field.type, part.data, t->back, part.bytes);
        taut__error_add(&sum, &e);
        seen += part.bytes;
        stored += t->stored.n;
    }
    out->error2 = sum.error2;
    out->norm2 = sum.norm2;
    out->bytes = (double)t->shared.n + (seen ? (double)stored * (double)t->spool->bytes / (double)seen : 0);
    return TAUT_OK;
}

static taut_status check(const taut_writer *w, size_t field)
{
    if (w->failed || w->finished) return taut__fail(TAUT_E_STATE, "%s: the writer is finished or has failed", w->path);
    if (field >= w->fields)
        return taut__fail(TAUT_E_RANGE, "field %zu: %s has fields 0..%u", field, w->path, w->fields - 1);
    return TAUT_OK;
}

taut_status taut_writer_measure(taut_writer *w, size_t field, const char *codec, taut_trial *out)
{
    trial       t = {.w = w};
    taut_status rc;
    TAUT_TRY(check(w, field));
    if (out->size < sizeof *out)
        return taut__fail(TAUT_E_INVALID, "taut_trial.size=%zu: set it to sizeof(taut_trial)", out->size);
    if (w->samples == 0) return taut__fail(TAUT_E_STATE, "%s: no samples yet", w->path);
    t.field = w->field[field];
    t.spool = &w->spool[field];
    rc = set_codec(&t.field, codec, &t.spec);
    if (rc == TAUT_OK) rc = measure(&t, out);
    if (t.state && t.spec.codec->close) t.spec.codec->close(t.state);
    taut__free(t.in);
    taut__free(t.back);
    taut__free(t.offset);
    taut__bytes_free(&t.shared);
    taut__bytes_free(&t.stored);
    return rc;
}

taut_status taut_writer_codec(taut_writer *w, size_t field, const char *codec)
{
    taut_field      f;
    taut_field_spec spec;
    TAUT_TRY(check(w, field));
    f = w->field[field];
    TAUT_TRY(set_codec(&f, codec, &spec));
    w->field[field] = f;
    return taut__field_spec_parse(&w->field[field], &w->spec[field]);
}
