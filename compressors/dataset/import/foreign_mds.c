/* foreign_mds.c : a shard of Mosaic Data Shard, version 2 (mosaicml-streaming 0.13, streaming/base/format/mds): samples u32, offsets u32
 * of each and of the end, a JSON with the columns' names, encodings and sizes, then the samples: sizes u32 of the columns that have no
 * fixed one, then the columns' bytes. Encodings: encodings.py there. Where index.json lies beside it, both must agree. */
#include "foreign_column.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <strings.h>

typedef struct encoding { /* of an ndarray: what the encoding says itself */
    bool      has_type, has_shape;
    taut_type type;
    uint64_t  shape[TAUT_FIELD_DIMS];
    size_t    ndim;
} encoding;

typedef struct mds {
    taut__import *im;
    taut__source *s;
    uint32_t      samples;
    size_t        columns, varying;
    taut__column  column[64];
    encoding      encoding[64];
    bool          wanted[64];
    uint32_t      size[64]; /* 0: each sample says */
    uint32_t      now[64];  /* of the sample under way */
    uint8_t      *offsets;  /* samples + 1, u32 */
} mds;

static taut_status bad(const mds *m, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: %s", m->s->name, what);
}

/* ---- values with headers ---- */

static const struct {
    const char *name;
    uint8_t     number;
    taut_type   type;
} types[] = {{"uint8", 8, TAUT_U8},         {"int8", 9, TAUT_I8},     {"uint16", 16, TAUT_U16},
             {"int16", 17, TAUT_I16},       {"uint32", 32, TAUT_U32}, {"int32", 33, TAUT_I32},
             {"float32", 34, TAUT_FLOAT32}, {"uint64", 64, TAUT_U64}, {"int64", 65, TAUT_I64},
             {"float64", 66, TAUT_FLOAT64}};
enum { TYPES = sizeof types / sizeof *types };

/* [type u8] [ndim << 2 | width of extents] [extents] values; what the encoding says is left out */
static taut_status nd_head(const void *ctx, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a)
{
    const encoding *e = ctx;
    const uint8_t  *p;
    size_t          n = (size_t)taut__min(bytes, 2 + 8 * 64), i = 0, width;
    TAUT_TRY(taut__source_view(s, at, n, "an ndarray", &p));
    a->type = e->type;
    a->ndim = e->ndim;
    memcpy(a->shape, e->shape, sizeof e->shape);
    if (!e->has_type) {
        size_t k = 0;
        while (k < TYPES && n > 0 && types[k].number != p[0]) k++;
        if (n < 1 || k == TYPES)
            return taut__fail(TAUT_E_UNSUPPORTED, "an ndarray with elements of type number %u", n ? p[0] : 0);
        a->type = types[k].type;
        i = 1;
    }
    if (!e->has_shape) {
        if (i >= n) return taut__fail(TAUT_E_CORRUPT, "an ndarray of %zu bytes, without its shape", n);
        width = (size_t)1 << (p[i] & 3);
        a->ndim = p[i++] >> 2;
        if (a->ndim < 1 || a->ndim > TAUT_FIELD_DIMS)
            return taut__fail(TAUT_E_UNSUPPORTED, "an ndarray of %zu dimensions: must be 1..%d", a->ndim,
                              TAUT_FIELD_DIMS);
        if (width * a->ndim > n - i)
            return taut__fail(TAUT_E_CORRUPT, "an ndarray of %zu bytes: too few for its shape of %zu dimensions", n,
                              a->ndim);
        for (size_t d = 0; d < a->ndim; d++, i += width) a->shape[d] = taut__get_uint(p + i, width);
    }
    a->at = at + i;
    return TAUT_OK;
}

/* width u32, height u32, bytes of mode u32, mode, pixels */
static taut_status pil_head(const void *ctx, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a)
{
    const uint8_t *p;
    uint32_t       mode;
    (void)ctx;
    if (bytes < 16) return taut__fail(TAUT_E_CORRUPT, "an image of %" PRIu64 " bytes", bytes);
    TAUT_TRY(taut__source_view(s, at, 16, "an image", &p));
    mode = taut__get32(p + 8);
    *a = (taut__array){.type = TAUT_U8, .ndim = 2, .shape = {taut__get32(p + 4), taut__get32(p)}};
    if (mode == 1 && p[12] == 'L') a->at = at + 13;
    else if (mode == 3 && memcmp(p + 12, "RGB", 3) == 0) a->at = at + 15, a->ndim = 3, a->shape[2] = 3;
    else if (mode == 4 && memcmp(p + 12, "RGBA", 4) == 0) a->at = at + 16, a->ndim = 3, a->shape[2] = 4;
    else
        return taut__fail(TAUT_E_UNSUPPORTED, "an image of mode '%.*s': must be L, RGB or RGBA",
                          (int)taut__min(mode, 4), (const char *)p + 12);
    return TAUT_OK;
}

/* ---- columns ---- */

static taut_status take_type(mds *m, const char *name, size_t n, taut_type *type)
{
    for (size_t k = 0; k < TYPES; k++)
        if (strlen(types[k].name) == n && memcmp(types[k].name, name, n) == 0) {
            *type = types[k].type;
            return TAUT_OK;
        }
    return taut__fail(TAUT_E_UNSUPPORTED, "%s: elements of type %.*s: choose other columns with select", m->s->name,
                      (int)taut__min(n, 40), name);
}

/* "ndarray[:TYPE[:EXTENT,...]]" */
static taut_status take_ndarray(mds *m, size_t k, const char *text)
{
    encoding   *e = &m->encoding[k];
    const char *shape;
    m->column[k].kind = TAUT__COLUMN_ARRAY;
    m->column[k].head = nd_head;
    m->column[k].ctx = e;
    if (*text != ':') return TAUT_OK;
    shape = strchr(text + 1, ':');
    TAUT_TRY(take_type(m, text + 1, shape ? (size_t)(shape - text - 1) : strlen(text + 1), &e->type));
    e->has_type = true;
    for (const char *p = shape; p; p = strchr(p + 1, ',')) {
        char              *end;
        unsigned long long v = strtoull(p + 1, &end, 10);
        if (end == p + 1 || p[1] == '-' || (*end && *end != ',') || v == 0 || e->ndim == TAUT_FIELD_DIMS)
            return bad(m, "the shape of an ndarray is malformed");
        e->shape[e->ndim++] = v;
        e->has_shape = true;
    }
    return TAUT_OK;
}

static taut_status take_encoding(mds *m, size_t k, const char *text)
{
    taut__column *c = &m->column[k];
    static const struct {
        const char       *name;
        taut__column_kind kind;
    } known[] = {{"bytes", TAUT__COLUMN_BYTES},    {"str", TAUT__COLUMN_TEXT},        {"json", TAUT__COLUMN_TEXT},
                 {"str_int", TAUT__COLUMN_ASCII},  {"jpeg", TAUT__COLUMN_FILE},       {"png", TAUT__COLUMN_FILE},
                 {"str_float", TAUT__COLUMN_TEXT}, {"str_decimal", TAUT__COLUMN_TEXT}};
    if (strncmp(text, "ndarray", 7) == 0 && (text[7] == 0 || text[7] == ':')) return take_ndarray(m, k, text + 7);
    c->kind = TAUT__COLUMN_FILE; /* lists, pickles: as they are */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(text, known[i].name) == 0) c->kind = known[i].kind;
    if (strcmp(text, "pil") == 0) c->kind = TAUT__COLUMN_ARRAY, c->head = pil_head;
    if (strcmp(text, "int") == 0) text = "int64";
    if (strncmp(text, "int", 3) == 0 || strncmp(text, "uint", 4) == 0 || strncmp(text, "float", 5) == 0) {
        c->kind = TAUT__COLUMN_FIXED;
        TAUT_TRY(take_type(m, text, strlen(text), &c->first.type));
    }
    return TAUT_OK;
}

static taut_status take_column(mds *m, size_t k, json_t *name, json_t *how, json_t *size)
{
    taut__column *c = &m->column[k];
    uint64_t      fixed;
    if (!json_is_string(name) || !json_is_string(how) || !(json_is_null(size) || json_is_integer(size)))
        return bad(m, "its columns are malformed");
    snprintf(c->name, sizeof c->name, "%s", json_string_value(name));
    m->wanted[k] = taut__import_wanted(m->im, c->name);
    fixed = json_is_integer(size) ? (uint64_t)json_integer_value(size) : 0;
    if (fixed > INT32_MAX || (json_is_integer(size) && fixed == 0)) return bad(m, "the size of a column is malformed");
    m->size[k] = (uint32_t)fixed;
    m->varying += fixed == 0;
    if (!m->wanted[k]) return TAUT_OK;
    TAUT_TRY(take_encoding(m, k, json_string_value(how)));
    if (c->kind == TAUT__COLUMN_FIXED && fixed != taut_type_bytes(c->first.type))
        return bad(m, "the size of a column is not that of its encoding");
    return TAUT_OK;
}

static taut_status take_columns(mds *m, json_t *o)
{
    json_t *names = json_object_get(o, "column_names"), *how = json_object_get(o, "column_encodings"),
           *sizes = json_object_get(o, "column_sizes");
    json_t     *format = json_object_get(o, "format"), *version = json_object_get(o, "version");
    const char *list[64];
    if (!json_is_string(format) || strcmp(json_string_value(format), "mds") != 0)
        return bad(m, "its header is not of format mds");
    if (json_integer_value(version) != 2)
        return taut__fail(TAUT_E_VERSION, "%s: MDS of version %lld: must be 2", m->s->name,
                          (long long)json_integer_value(version));
    m->columns = json_array_size(names);
    if (m->columns == 0 || json_array_size(how) != m->columns || json_array_size(sizes) != m->columns)
        return bad(m, "its columns are malformed");
    if (m->columns > 64) return taut__fail(TAUT_E_UNSUPPORTED, "%s: %zu columns: at most 64", m->s->name, m->columns);
    for (size_t k = 0; k < m->columns; k++) {
        TAUT_TRY(take_column(m, k, json_array_get(names, k), json_array_get(how, k), json_array_get(sizes, k)));
        list[k] = m->column[k].name;
    }
    return taut__import_selected(m->im, m->s->name, m->columns, list);
}

static taut_status read_head(mds *m)
{
    const uint8_t *p;
    uint64_t       begin, first;
    json_t        *o;
    json_error_t   why;
    taut_status    rc;
    TAUT_TRY(taut__source_view(m->s, 0, 8, "its header", &p));
    m->samples = taut__get32(p);
    first = taut__get32(p + 4);
    begin = 4 + 4 * ((uint64_t)m->samples + 1);
    if (m->samples == 0) return bad(m, "no samples in it");
    if (begin > m->s->bytes || first < begin + 2 || first > m->s->bytes || first - begin > 1 << 24)
        return bad(m, "its header does not lie inside the file: truncated, or not MDS");
    if (!(m->offsets = taut__alloc((size_t)m->samples + 1, 4)))
        return taut__fail(TAUT_E_NOMEM, "%s: no memory for %u offsets", m->s->name, m->samples);
    TAUT_TRY(taut__source_read(m->s, m->offsets, 4 * ((size_t)m->samples + 1), 4, "offsets of samples"));
    TAUT_TRY(taut__source_view(m->s, begin, (size_t)(first - begin), "its header", &p));
    o = json_loadb((const char *)p, (size_t)(first - begin), JSON_REJECT_DUPLICATES, &why);
    if (!o) return taut__fail(TAUT_E_CORRUPT, "%s: its header is no JSON: %s", m->s->name, why.text);
    rc = take_columns(m, o);
    json_decref(o);
    return rc;
}

/* ---- samples ---- */

/* Where the columns of sample i begin, and their sizes in m->now. */
static taut_status read_sample(mds *m, uint64_t i, uint64_t *at)
{
    const uint8_t *p;
    uint64_t       begin, end, sum;
    size_t         k = 0, v = 0;
    char           what[48];
    snprintf(what, sizeof what, "sample %" PRIu64, i);
    begin = taut__get32(m->offsets + 4 * i), end = taut__get32(m->offsets + 4 * i + 4);
    sum = 4 * m->varying;
    if (begin > end || end > m->s->bytes || end - begin < sum)
        return taut__fail(TAUT_E_CORRUPT,
                          "%s: %s: bytes %" PRIu64 "..%" PRIu64 " of a file of %" PRIu64
                          ": its offsets are damaged, or it is truncated",
                          m->s->name, what, begin, end, m->s->bytes);
    TAUT_TRY(taut__source_view(m->s, begin, 4 * m->varying, what, &p));
    for (; k < m->columns; k++) {
        m->now[k] = m->size[k] ? m->size[k] : taut__get32(p + 4 * v++);
        sum += m->now[k];
    }
    if (sum != end - begin)
        return taut__fail(TAUT_E_CORRUPT, "%s: %s: its columns take %" PRIu64 " bytes, but it has %" PRIu64, m->s->name,
                          what, sum, end - begin);
    *at = begin + 4 * m->varying;
    return TAUT_OK;
}

static taut_status look(mds *m, uint64_t i, size_t k, uint64_t at)
{
    taut_status rc = taut__column_look(&m->column[k], m->s, at, m->now[k]);
    char        why[256];
    if (rc == TAUT_OK) return rc;
    snprintf(why, sizeof why, "%s", taut_last_error());
    return taut__fail(rc, "%s: sample %" PRIu64 ": column %s: %s", m->s->name, i, m->column[k].name, why);
}

static taut_status each_sample(mds *m, bool place, uint32_t buffer)
{
    for (uint64_t i = 0; i < m->samples; i++) {
        uint64_t at = 0;
        char     what[48];
        TAUT_TRY(read_sample(m, i, &at));
        snprintf(what, sizeof what, "sample %" PRIu64, i);
        for (size_t k = 0; k < m->columns; at += m->now[k++]) {
            if (!m->wanted[k]) continue;
            TAUT_TRY(place ? taut__column_place(m->im, &m->column[k], m->s, buffer, at, m->now[k], what)
                           : look(m, i, k, at));
        }
    }
    return TAUT_OK;
}

/* ---- index.json ---- */

/* What it says of this file: bytes and samples; a shard that it does not name is nobody's. */
static taut_status check_entry(const mds *m, json_t *entry, const char *base)
{
    json_t   *raw = json_object_get(entry, "raw_data"), *name = json_object_get(raw, "basename");
    long long bytes = json_integer_value(json_object_get(raw, "bytes")),
              samples = json_integer_value(json_object_get(entry, "samples"));
    if (!json_is_string(name) || strcmp(json_string_value(name), base) != 0) return TAUT_OK;
    if ((uint64_t)bytes == m->s->bytes && samples == m->samples) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT,
                      "%s: has %" PRIu64 " bytes and %u samples; the index.json beside it says %lld and %lld",
                      m->s->name, m->s->bytes, m->samples, bytes, samples);
}

static taut_status check_neighbour(const mds *m)
{
    const char  *slash = strrchr(m->s->name, '/');
    char         path[4200];
    json_t      *o, *entry;
    size_t       i;
    taut_status  rc = TAUT_OK;
    json_error_t why;
    if (m->s->memory) return TAUT_OK;
    snprintf(path, sizeof path, "%.*sindex.json", slash ? (int)taut__min((size_t)(slash - m->s->name) + 1, 4096) : 0,
             m->s->name);
    if (!(o = json_load_file(path, 0, &why))) return TAUT_OK; /* none there, or of something else */
    json_array_foreach(json_object_get(o, "shards"), i, entry) if (rc == TAUT_OK) rc =
        check_entry(m, entry, slash ? slash + 1 : m->s->name);
    json_decref(o);
    return rc;
}

/* ---- all of it ---- */

static taut_status scan_with(mds *m)
{
    uint32_t buffer, end;
    TAUT_TRY(read_head(m));
    TAUT_TRY(check_neighbour(m));
    end = taut__get32(m->offsets + 4 * (size_t)m->samples);
    if (end != m->s->bytes)
        return taut__fail(TAUT_E_CORRUPT, "%s: its samples end at byte %u of a file of %" PRIu64 ": %s", m->s->name,
                          end, m->s->bytes, end > m->s->bytes ? "truncated" : "something was appended");
    TAUT_TRY(each_sample(m, false, 0));
    TAUT_TRY(taut__foreign_add_buffer(&m->im->foreign, (taut__foreign_buffer){0, false, 0, m->s->bytes, m->s->bytes},
                                      &buffer));
    for (size_t k = 0; k < m->columns; k++)
        if (m->wanted[k]) TAUT_TRY(taut__column_field(m->im, &m->column[k]));
    m->im->samples = m->samples;
    return each_sample(m, true, buffer);
}

static taut_status scan(taut__import *im)
{
    mds        *m = taut__alloc(1, sizeof *m);
    taut_status rc;
    if (!m) return taut__fail(TAUT_E_NOMEM, "%s: no memory", im->foreign.file[0].source.name);
    m->im = im;
    m->s = &im->foreign.file[0].source;
    rc = scan_with(m);
    taut__free(m->offsets);
    taut__free(m);
    return rc;
}

static bool knows(const char *path, const uint8_t *p, size_t n)
{
    return (void)p, (void)n, taut__import_ends(path, ".mds");
}

const taut__format taut__format_mds = {"mds", "a shard of Mosaic Streaming, NAME.mds", knows, false, scan};
