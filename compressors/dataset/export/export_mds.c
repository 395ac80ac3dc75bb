/* export_mds.c : a data set of Mosaic Streaming: a folder of shards and, written last, index.json. The bytes: import/foreign_mds.c has the
 * description. Encodings: text str, bytes and files bytes (jpeg, png where all files are), scalars by their type, arrays ndarray:TYPE:SHAPE,
 * arrays that differ in length ndarray:TYPE. Each shard has its XXH64 in the index, which Streaming checks if it is told to. */
#include "export.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <xxhash.h>

typedef struct state {
    const taut__export *e;
    size_t              order[64]; /* columns are sorted by name */
    char                encoding[64][120];
    uint32_t            fixed[64]; /* bytes of a value; 0: they differ */
    json_t             *config, *shards;
    char               *text;       /* of the config, in each shard */
    taut_bytes          data, ends; /* samples of the shard under way, and where they end (u32 each) */
    uint64_t            limit, number;
} state;

/* ---- columns ---- */

static void set_encoding(state *s, size_t k)
{
    static const char *const numpy[] = {"uint8", "int8",   "uint16", "int16",   "uint32",
                                        "int32", "uint64", "int64",  "float32", "float64"};
    static const char *const files[] = {"bytes", "jpeg", "png"};
    const taut_field        *f = &s->e->field[k];
    char                    *to = s->encoding[k];
    size_t                   room = sizeof s->encoding[k], n;
    bool                     plain = f->kind == TAUT_KIND_BYTES && f->type == TAUT_U8;
    s->fixed[k] = plain || f->variable ? 0 : (uint32_t)f->sample_bytes;
    if (f->kind == TAUT_KIND_TEXT) snprintf(to, room, "str"), s->fixed[k] = 0;
    else if (f->kind == TAUT_KIND_FILE) snprintf(to, room, "%s", files[s->e->files[k]]), s->fixed[k] = 0;
    else if (plain) snprintf(to, room, "bytes");
    else if (!f->variable && f->ndim == 0) snprintf(to, room, "%s", numpy[f->type]);
    else {
        n = (size_t)snprintf(to, room, "ndarray:%s", numpy[f->type]);
        for (uint32_t d = 0; !f->variable && d < f->ndim && n < room; d++)
            n += (size_t)snprintf(to + n, room - n, "%c%" PRIu64, d ? ',' : ':', f->shape[d]);
    }
}

static void sort_columns(state *s)
{
    for (size_t k = 0; k < s->e->fields; k++) {
        size_t at = k;
        for (; at && strcmp(s->e->field[s->order[at - 1]].name, s->e->field[k].name) > 0; at--)
            s->order[at] = s->order[at - 1];
        s->order[at] = k;
    }
}

static taut_status make_config(state *s)
{
    json_t *names = json_array(), *how = json_array(), *sizes = json_array();
    for (size_t i = 0; i < s->e->fields; i++) {
        size_t k = s->order[i];
        json_array_append_new(names, json_string(s->e->field[k].name));
        json_array_append_new(how, json_string(s->encoding[k]));
        json_array_append_new(sizes, s->fixed[k] ? json_integer(s->fixed[k]) : json_null());
    }
    s->config = json_pack("{s:i, s:s, s:n, s:[s], s:I, s:o, s:o, s:o}", "version", 2, "format", "mds", "compression",
                          "hashes", "xxh64", "size_limit", (json_int_t)s->limit, "column_names", names,
                          "column_encodings", how, "column_sizes", sizes);
    s->shards = json_array();
    s->text = s->config ? json_dumps(s->config, JSON_SORT_KEYS) : NULL;
    return s->text && s->shards ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "%s: no memory", s->e->path);
}

static taut_status open_mds(const taut__export *e, void **out)
{
    state      *s = taut__alloc(1, sizeof *s);
    struct stat st;
    char       *index;
    bool        there;
    if (!s) return taut__fail(TAUT_E_NOMEM, "%s: no memory", e->path);
    s->e = e;
    s->limit = e->options->shard_bytes ? e->options->shard_bytes : 1 << 26;
    *out = s;
    if (s->limit < 4096 || s->limit > (uint64_t)1 << 31)
        return taut__fail(TAUT_E_RANGE, "shard_bytes=%" PRIu64 ": must be 4096..2147483648", s->limit);
    for (size_t k = 0; k < e->fields; k++) set_encoding(s, k);
    sort_columns(s);
    TAUT_TRY(taut__make_folder(e->path));
    if (!(index = taut__path_join(e->path, "index.json"))) return taut__fail(TAUT_E_NOMEM, "%s: no memory", e->path);
    there = stat(index, &st) == 0;
    taut__free(index);
    if (there)
        return taut__fail(TAUT_E_IO, "%s: holds a data set (index.json): remove it, or name another folder", e->path);
    return make_config(s);
}

/* ---- shards ---- */

static taut_status write_shard(state *s, const char *path, uint64_t *bytes, uint64_t *hash)
{
    taut_output    out = {.fd = -1};
    uint32_t       n = (uint32_t)(s->ends.n / 4);
    size_t         text = strlen(s->text), head = 4 + 4 * ((size_t)n + 1);
    uint8_t       *h = taut__alloc(head + text, 1);
    taut_status    rc = h ? taut__output_open(&out, path) : taut__fail(TAUT_E_NOMEM, "%s: no memory", path);
    XXH64_state_t *x = XXH64_createState();
    if (rc == TAUT_OK && x) {
        taut__put32(h, n);
        taut__put32(h + 4, (uint32_t)(head + text));
        for (uint32_t i = 0; i < n; i++)
            taut__put32(h + 8 + 4 * (size_t)i, (uint32_t)(head + text) + taut__get32(s->ends.p + 4 * (size_t)i));
        memcpy(h + head, s->text, text);
        XXH64_reset(x, 0);
        XXH64_update(x, h, head + text);
        XXH64_update(x, s->data.p, s->data.n);
        *hash = XXH64_digest(x);
        *bytes = head + text + s->data.n;
        rc = taut__output_add(&out, h, head + text);
    } else if (rc == TAUT_OK) {
        rc = taut__fail(TAUT_E_NOMEM, "%s: no memory", path);
    }
    if (rc == TAUT_OK && s->data.n) rc = taut__output_add(&out, s->data.p, s->data.n);
    if (rc == TAUT_OK) rc = taut__output_publish(&out);
    taut__output_close(&out);
    XXH64_freeState(x);
    taut__free(h);
    return rc;
}

static taut_status flush(state *s)
{
    char        name[48], digits[24], *path;
    uint64_t    bytes = 0, hash = 0;
    json_t     *entry;
    taut_status rc;
    if (!s->ends.n) return TAUT_OK;
    snprintf(name, sizeof name, "shard.%05" PRIu64 ".mds", s->number++);
    path = taut__path_join(s->e->path, name);
    rc = path ? write_shard(s, path, &bytes, &hash) : taut__fail(TAUT_E_NOMEM, "%s: no memory", s->e->path);
    taut__free(path);
    TAUT_TRY(rc);
    snprintf(digits, sizeof digits, "%016" PRIx64, hash);
    entry = json_deep_copy(s->config);
    json_object_set_new(
        entry, "raw_data",
        json_pack("{s:s, s:I, s:{s:s}}", "basename", name, "bytes", (json_int_t)bytes, "hashes", "xxh64", digits));
    json_object_set_new(entry, "zip_data", json_null());
    json_object_set_new(entry, "samples", json_integer((json_int_t)(s->ends.n / 4)));
    json_array_append_new(s->shards, entry);
    s->data.n = s->ends.n = 0;
    return TAUT_OK;
}

/* ---- samples ---- */

/* What stands before the values of an array of one axis: its extent, as narrow as it can be. */
static size_t line_head(uint64_t n, uint8_t head[9])
{
    unsigned code = n < 256 ? 0 : n < 65536 ? 1 : n <= UINT32_MAX ? 2 : 3;
    head[0] = (uint8_t)(1 << 2 | code);
    taut__put_uint(head + 1, n, (size_t)1 << code);
    return 1 + ((size_t)1 << code);
}

static bool is_line(const state *s, size_t k)
{
    return s->e->field[k].variable && strncmp(s->encoding[k], "ndarray", 7) == 0;
}

static taut_status add_sample(state *s, uint64_t number, const uint8_t *const *data, const size_t *bytes)
{
    uint8_t head[9], word[4];
    for (size_t i = 0; i < s->e->fields; i++) {
        size_t k = s->order[i],
               more = is_line(s, k) ? line_head(bytes[k] / taut_type_bytes(s->e->field[k].type), head) : 0;
        if (is_line(s, k) && bytes[k] == 0)
            return taut__fail(TAUT_E_UNSUPPORTED,
                              "sample %" PRIu64 " of field %s is empty, which MDS cannot hold as an array", number,
                              s->e->field[k].name);
        if (s->fixed[k]) continue;
        taut__put32(word, (uint32_t)(bytes[k] + more));
        TAUT_TRY(taut__bytes_add(&s->data, word, 4));
    }
    for (size_t i = 0; i < s->e->fields; i++) {
        size_t k = s->order[i];
        if (is_line(s, k))
            TAUT_TRY(taut__bytes_add(&s->data, head, line_head(bytes[k] / taut_type_bytes(s->e->field[k].type), head)));
        if (bytes[k]) TAUT_TRY(taut__bytes_add(&s->data, data[k], bytes[k]));
    }
    if (s->data.n > UINT32_MAX / 2)
        return taut__fail(TAUT_E_UNSUPPORTED, "sample %" PRIu64 " takes %zu bytes: a shard of MDS has at most 4 GiB",
                          number, s->data.n);
    taut__put32(word, (uint32_t)s->data.n);
    return taut__bytes_add(&s->ends, word, 4);
}

static taut_status sample(void *p, uint64_t number, const uint8_t *const *data, const size_t *bytes)
{
    state *s = p;
    size_t more = 0;
    for (size_t k = 0; k < s->e->fields; k++) more += bytes[k] + 16;
    if (s->data.n + s->ends.n + strlen(s->text) + more + 8 > s->limit) TAUT_TRY(flush(s));
    return add_sample(s, number, data, bytes);
}

static taut_status finish(void *p)
{
    state      *s = p;
    taut_output out = {.fd = -1};
    json_t     *o;
    char       *text, *path;
    taut_status rc;
    TAUT_TRY(flush(s));
    o = json_pack("{s:i, s:O}", "version", 2, "shards", s->shards);
    text = o ? json_dumps(o, JSON_SORT_KEYS) : NULL;
    path = taut__path_join(s->e->path, "index.json");
    rc = text && path ? taut__output_open(&out, path) : taut__fail(TAUT_E_NOMEM, "%s: no memory", s->e->path);
    if (rc == TAUT_OK) rc = taut__output_add(&out, text, strlen(text));
    if (rc == TAUT_OK) rc = taut__output_publish(&out);
    taut__output_close(&out);
    taut__free(path);
    free(text);
    json_decref(o);
    return rc;
}

static void close_mds(void *p)
{
    state *s = p;
    json_decref(s->config);
    json_decref(s->shards);
    free(s->text);
    taut__bytes_free(&s->data);
    taut__bytes_free(&s->ends);
    taut__free(s);
}

const taut__exporter taut__export_mds = {
    "mds", "Mosaic Streaming: a folder OUT of shards with index.json", open_mds, sample, finish, close_mds};
