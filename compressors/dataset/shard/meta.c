/* meta.c : the meta frame: counts, fields, texts, index.
 *   0 magic  4 size  8 "TAUTMETA"  16 samples u64  24 samples per block u64  32 blocks u64  40 fields u32
 *  44 bytes of source u32  48 bytes of labels u32  52 zero u32 x 3
 *  then per field (264 bytes): 0 name[48]  48 codec spec[64]  112 kind u8, type u8, variable u8, ndim u8
 *      116 codec id u16, codec version u16  120 shape u64[4]  152 bytes of a sample u64 (0: they differ)
 *      160 decoded bytes u64  168 stored bytes u64  176 rel_err2 f64  184 max_err f64  192 psnr f64
 *      200 shared offset u64  208 shared bytes u64  216 shared CRC32C u32  220 zero u32 x 11
 *  then source, labels (UTF-8, no terminator), then per part (20 bytes): stored u32, decoded u32, CRC32C u32, XXH64 u64
 * Parts lie one behind the other from the end of the front on, so their offsets are sums. */
#include "layout.h"
#include <inttypes.h>
#include <stdio.h>

static const char tag[8] = {'T', 'A', 'U', 'T', 'M', 'E', 'T', 'A'};

static void put_real(uint8_t *p, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    taut__put64(p, bits);
}
static double get_real(const uint8_t *p)
{
    uint64_t bits = taut__get64(p);
    double   v;
    memcpy(&v, &bits, 8);
    return v;
}

static void put_field(uint8_t *p, const taut_field *f, const taut_field_codec *codec, const taut_shared *shared)
{
    memcpy(p, f->name, strlen(f->name));
    memcpy(p + 48, f->codec, strlen(f->codec));
    p[112] = (uint8_t)f->kind, p[113] = (uint8_t)f->type, p[114] = (uint8_t)f->variable, p[115] = (uint8_t)f->ndim;
    taut__put16(p + 116, codec->id);
    taut__put16(p + 118, codec->version);
    for (int d = 0; d < TAUT_FIELD_DIMS; d++) taut__put64(p + 120 + 8 * d, f->shape[d]);
    taut__put64(p + 152, f->sample_bytes);
    taut__put64(p + 160, f->decoded_bytes);
    taut__put64(p + 168, f->stored_bytes);
    put_real(p + 176, f->rel_err2);
    put_real(p + 184, f->max_err);
    put_real(p + 192, f->psnr_db);
    taut__put64(p + 200, shared->offset);
    taut__put64(p + 208, shared->bytes);
    taut__put32(p + 216, shared->crc);
}

taut_status taut__meta_write(const taut_meta *m, taut_bytes *out)
{
    size_t source = strlen(m->source), labels = strlen(m->labels),
           parts = (size_t)(m->blocks * m->fields) * TAUT_META_PART;
    size_t   bytes = TAUT_META_HEAD + m->fields * (size_t)TAUT_META_FIELD + source + labels + parts;
    uint8_t *p;
    if (bytes - TAUT_FRAME_HEAD > UINT32_MAX)
        return taut__fail(TAUT_E_RANGE,
                          "the index of a shard takes %zu bytes, more than 4 GiB: use larger blocks or more shards",
                          bytes);
    TAUT_TRY(taut__bytes_reserve(out, bytes));
    p = out->p + out->n;
    memset(p, 0, bytes);
    taut__frame_head(p, TAUT_MAGIC_META, (uint32_t)(bytes - TAUT_FRAME_HEAD));
    memcpy(p + 8, tag, 8);
    taut__put64(p + 16, m->samples);
    taut__put64(p + 24, m->per_block);
    taut__put64(p + 32, m->blocks);
    taut__put32(p + 40, m->fields);
    taut__put32(p + 44, (uint32_t)source);
    taut__put32(p + 48, (uint32_t)labels);
    p += TAUT_META_HEAD;
    for (uint32_t f = 0; f < m->fields; f++, p += TAUT_META_FIELD)
        put_field(p, &m->field[f], m->spec[f].codec, &m->shared[f]);
    memcpy(p, m->source, source);
    memcpy(p + source, m->labels, labels);
    if (parts) memcpy(p + source + labels, m->parts, parts);
    out->n += bytes;
    return TAUT_OK;
}

/* ---- reading ---- */

static taut_status damaged(const taut_shard *s, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: its meta frame is not what a writer makes: %s", s->path, what);
}

static taut_status get_field(taut_shard *s, uint32_t i, const uint8_t *p)
{
    taut_field *f = &s->field[i];
    uint64_t    sample_bytes = taut__get64(p + 152);
    uint16_t    id = taut__get16(p + 116), version = taut__get16(p + 118);
    f->size = sizeof *f;
    if (!memchr(p, 0, 48) || !memchr(p + 48, 0, 64)) return damaged(s, "a name without an end");
    memcpy(f->name, p, 48);
    memcpy(f->codec, p + 48, 64);
    f->kind = (taut_kind)p[112], f->type = (taut_type)p[113], f->variable = p[114], f->ndim = p[115];
    for (int d = 0; d < TAUT_FIELD_DIMS; d++) f->shape[d] = taut__get64(p + 120 + 8 * d);
    f->decoded_bytes = taut__get64(p + 160);
    f->stored_bytes = taut__get64(p + 168);
    f->rel_err2 = get_real(p + 176);
    f->max_err = get_real(p + 184);
    f->psnr_db = get_real(p + 192);
    s->shared[i] = (taut_shared){taut__get64(p + 200), taut__get64(p + 208), taut__get32(p + 216)};
    if (taut__field_shape(f) != TAUT_OK || f->sample_bytes != sample_bytes)
        return damaged(s, "a field without a sensible shape");
    const taut_field_codec *codec = taut__field_codec_by_id(id);
    if (!codec)
        return taut__fail(TAUT_E_VERSION, "%s: field %s uses codec '%s' (number %u), which this library does not know",
                          s->path, f->name, f->codec, id);
    if (version != codec->version)
        return taut__fail(TAUT_E_VERSION, "%s: field %s: version %u of codec %s; this library reads version %u",
                          s->path, f->name, version, codec->name, codec->version);
    if (taut__field_spec_parse(f, &s->spec[i]) != TAUT_OK || s->spec[i].codec != codec)
        return damaged(s, "a field whose codec does not suit it");
    s->flags[i] = taut__samples_flags(f, codec);
    if (f->kind == TAUT_KIND_LABEL) {
        if (s->label >= 0) return damaged(s, "two fields of labels");
        s->label = (int)i;
    }
    for (uint32_t k = 0; k < i; k++)
        if (strcmp(s->field[k].name, f->name) == 0) return damaged(s, "two fields of one name");
    return TAUT_OK;
}

static taut_status get_counts(taut_shard *s, const uint8_t *p, size_t bytes, size_t *texts)
{
    uint64_t parts;
    if (bytes < TAUT_META_HEAD || taut__get32(p) != TAUT_MAGIC_META || taut__get32(p + 4) != bytes - TAUT_FRAME_HEAD ||
        memcmp(p + 8, tag, 8) != 0)
        return damaged(s, "no head");
    s->samples = taut__get64(p + 16);
    s->per_block = taut__get64(p + 24);
    s->blocks = taut__get64(p + 32);
    s->fields = taut__get32(p + 40);
    *texts = (size_t)taut__get32(p + 44) + taut__get32(p + 48);
    if (s->fields == 0 || s->fields > TAUT_FIELDS_MAX) return damaged(s, "its number of fields");
    if (s->samples == 0 || s->per_block == 0 || s->per_block > TAUT_PER_BLOCK_MAX || s->blocks == 0 ||
        s->blocks > TAUT_PARTS_MAX || s->blocks != (s->samples - 1) / s->per_block + 1)
        return damaged(s, "its counts of samples and blocks");
    parts = s->blocks * s->fields;
    if (parts > TAUT_PARTS_MAX ||
        bytes != TAUT_META_HEAD + s->fields * (size_t)TAUT_META_FIELD + *texts + (size_t)parts * TAUT_META_PART)
        return damaged(s, "its length");
    return TAUT_OK;
}

/* Sums the index up: offsets, the largest images; parts must fill the file up to the shared frames and meta. */
static taut_status get_index(taut_shard *s)
{
    uint64_t at = TAUT_FRONT_BYTES, i = 0;
    for (uint64_t b = 0; b < s->blocks; b++)
        for (uint32_t f = 0; f < s->fields; f++, i++) {
            taut_meta_part m = taut__meta_part(s, f, b);
            uint64_t       n = taut__block_samples(s, b);
            if (m.decoded > TAUT_BLOCK_MAX || (!s->field[f].variable && m.decoded != n * s->field[f].sample_bytes))
                return damaged(s, "the size of a block");
            s->offset[i] = at;
            at += m.stored;
            s->image_max[f] = taut__max(s->image_max[f], taut__image_bytes(s, f, b));
        }
    s->offset[i] = at;
    for (uint32_t f = 0; f < s->fields; f++) {
        if (s->shared[f].bytes == 0) continue;
        if (s->shared[f].offset != at || s->shared[f].bytes < TAUT_FRAME_HEAD || s->shared[f].bytes > UINT32_MAX)
            return damaged(s, "the place of a shared frame");
        at += s->shared[f].bytes;
    }
    return at == s->front.meta_offset ? TAUT_OK : damaged(s, "the sum of its parts");
}

taut_status taut__meta_read(taut_shard *s)
{
    const uint8_t *p = s->index + TAUT_FRONT_BYTES;
    size_t         bytes = s->index_bytes - TAUT_FRONT_BYTES, texts = 0, source;
    TAUT_TRY(get_counts(s, p, bytes, &texts));
    source = taut__get32(p + 44);
    s->label = -1;
    s->field = taut__alloc(s->fields, sizeof *s->field);
    s->spec = taut__alloc(s->fields, sizeof *s->spec);
    s->shared = taut__alloc(s->fields, sizeof *s->shared);
    s->flags = taut__alloc(s->fields, sizeof *s->flags);
    s->image_max = taut__alloc(s->fields, sizeof *s->image_max);
    s->offset = taut__alloc((size_t)(s->blocks * s->fields) + 1, sizeof *s->offset);
    s->source = taut__alloc(source + 1, 1);
    s->labels = taut__alloc(texts - source + 1, 1);
    if (!s->field || !s->spec || !s->shared || !s->flags || !s->image_max || !s->offset || !s->source || !s->labels)
        return taut__fail(TAUT_E_NOMEM, "%s: no memory for its index", s->path);
    p += TAUT_META_HEAD;
    for (uint32_t f = 0; f < s->fields; f++, p += TAUT_META_FIELD) TAUT_TRY(get_field(s, f, p));
    memcpy(s->source, p, source);
    memcpy(s->labels, p + source, texts - source);
    s->parts = p + texts;
    return get_index(s);
}
