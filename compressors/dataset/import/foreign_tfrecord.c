/* foreign_tfrecord.c : TFRecord (tensorflow/core/lib/io/record_writer.h): length u64, masked CRC-32C of the length, data, masked CRC-32C
 * of the data; mask(c) = (c >> 15 | c << 17) + 0xa282ead8. Data is a tf.train.Example (feature.proto): Example.features = 1,
 * Features.feature = 1 (a map: key = 1, value = 2), Feature: bytes_list = 1, float_list = 2, int64_list = 3. Each feature is a field. */
#include "../../crc/crc.h"
#include "../utf8.h"
#include "formats.h"
#include <inttypes.h>
#include <stdio.h>

enum { HEAD = 12, TAIL = 4, FEATURES_MAX = 64 };

typedef struct feature {
    char           name[128];
    unsigned       kind;                                      /* 1 bytes, 2 floats, 3 integers */
    uint64_t       records;                                   /* that have it */
    uint64_t       count, bytes;                              /* elements, bytes (of kind 1), of the first record */
    bool           counts_differ, bytes_differ, file, binary; /* binary: not UTF-8; file: begins like an image */
    bool           wanted;
    size_t         field;
    const uint8_t *list; /* of the record under way: the list's message, or the value of kind 1 */
    size_t         n;
    uint64_t       now; /* record + 1 in which it was seen last */
} feature;

typedef struct tfrecord {
    taut__import *im;
    taut__source *s;
    feature       feature[FEATURES_MAX];
    size_t        features;
    uint64_t      records;
} tfrecord;

static taut_status bad(const tfrecord *t, uint64_t record, uint64_t at, const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "%s: record %" PRIu64 " (byte %" PRIu64 "): %s", t->s->name, record, at, what);
}

/* ---- records ---- */

static uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }

/* The record at *at: its data, viewed; *at moves behind it. */
static taut_status next_record(const tfrecord *t, uint64_t record, uint64_t *at, const uint8_t **data, uint64_t *begin,
                               size_t *n)
{
    const uint8_t *p;
    uint64_t       left = t->s->bytes - *at, len;
    if (left < HEAD) return bad(t, record, *at, "ends inside its header: truncated");
    TAUT_TRY(taut__source_view(t->s, *at, HEAD, "a record", &p));
    len = taut__get64(p);
    if (masked(taut__crc32c(p, 8)) != taut__get32(p + 8))
        return bad(t, record, *at, "the CRC of its length does not match");
    if (len > left - HEAD || left - HEAD - len < TAIL)
        return bad(t, record, *at, "reaches beyond the end of the file: truncated");
    TAUT_TRY(taut__source_view(t->s, *at + HEAD, (size_t)len + TAIL, "a record", &p));
    if (masked(taut__crc32c(p, (size_t)len)) != taut__get32(p + len))
        return bad(t, record, *at, "the CRC of its data does not match");
    *data = p;
    *n = (size_t)len;
    *begin = *at + HEAD;
    *at += HEAD + len + TAIL;
    return TAUT_OK;
}

/* ---- an Example ---- */

static feature *find(tfrecord *t, const uint8_t *name, size_t n)
{
    for (size_t i = 0; i < t->features; i++)
        if (strlen(t->feature[i].name) == n && memcmp(t->feature[i].name, name, n) == 0) return &t->feature[i];
    return NULL;
}

static taut_status new_feature(tfrecord *t, const uint8_t *name, size_t n, feature **out)
{
    feature *f = &t->feature[t->features];
    if (t->features == FEATURES_MAX) return taut__fail(TAUT_E_UNSUPPORTED, "more than %d features", FEATURES_MAX);
    if (n == 0 || n >= sizeof f->name || memchr(name, 0, n))
        return taut__fail(TAUT_E_UNSUPPORTED, "a feature whose name has %zu bytes: must be 1..127", n);
    memset(f, 0, sizeof *f);
    memcpy(f->name, name, n);
    f->wanted = taut__import_wanted(t->im, f->name);
    t->features++;
    *out = f;
    return TAUT_OK;
}

static taut_status malformed(void)
{
    return taut__fail(TAUT_E_CORRUPT, "not a tf.train.Example; option raw takes records as they are");
}

/* The one value of a BytesList. */
static taut_status one_value(const feature *f, const uint8_t *p, size_t n, const uint8_t **value, size_t *bytes)
{
    size_t at = 0, values = 0;
    while (at < n) {
        taut__pb_item item;
        if (!taut__pb_next(p, n, &at, &item) || item.field != 1 || item.wire != 2) return malformed();
        *value = item.p, *bytes = item.n;
        values++;
    }
    if (values == 1) return TAUT_OK;
    return taut__fail(TAUT_E_UNSUPPORTED,
                      "feature %s has %zu values of bytes: must be one; choose other features with select", f->name,
                      values);
}

/* The value of one entry of the map. */
static taut_status read_value(feature *f, const uint8_t *p, size_t n)
{
    size_t   at = 0;
    unsigned kind = 0;
    while (at < n) {
        taut__pb_item item;
        if (!taut__pb_next(p, n, &at, &item) || item.field > 3 || item.wire != 2 || kind) return malformed();
        kind = item.field;
        f->list = item.p, f->n = item.n;
    }
    if (kind == 0) return f->wanted ? taut__fail(TAUT_E_UNSUPPORTED, "feature %s has no value", f->name) : TAUT_OK;
    if (!f->wanted) return TAUT_OK;
    if (f->kind && f->kind != kind)
        return taut__fail(TAUT_E_CORRUPT, "feature %s is of another kind than in the records before", f->name);
    f->kind = kind;
    if (kind == 1) return one_value(f, f->list, f->n, &f->list, &f->n);
    return TAUT_OK;
}

static taut_status read_entry(tfrecord *t, uint64_t record, const uint8_t *p, size_t n)
{
    const uint8_t *key = (const uint8_t *)"", *value = NULL;
    size_t         at = 0, key_bytes = 0, value_bytes = 0;
    feature       *f;
    while (at < n) {
        taut__pb_item item;
        if (!taut__pb_next(p, n, &at, &item) || item.wire != 2 || item.field > 2) return malformed();
        if (item.field == 1) key = item.p, key_bytes = item.n;
        else value = item.p, value_bytes = item.n;
    }
    if (!(f = find(t, key, key_bytes))) {
        if (record)
            return t->im->options->nselect
                       ? TAUT_OK
                       : taut__fail(TAUT_E_CORRUPT, "feature %.*s, which the first record has not: choose with select",
                                    (int)taut__min(key_bytes, 100), (const char *)key);
        TAUT_TRY(new_feature(t, key, key_bytes, &f));
    }
    if (f->now == record + 1) return taut__fail(TAUT_E_CORRUPT, "feature %s is there twice", f->name);
    f->now = record + 1;
    return read_value(f, value ? value : (const uint8_t *)"", value_bytes);
}

/* All features of a record, in t->feature[].list. */
static taut_status read_example(tfrecord *t, uint64_t record, const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (at < n) {
        taut__pb_item item;
        size_t        inner = 0;
        if (!taut__pb_next(p, n, &at, &item) || item.field != 1 || item.wire != 2) return malformed();
        while (inner < item.n) {
            taut__pb_item entry;
            if (!taut__pb_next(item.p, item.n, &inner, &entry) || entry.field != 1 || entry.wire != 2)
                return malformed();
            TAUT_TRY(read_entry(t, record, entry.p, entry.n));
        }
    }
    for (size_t i = 0; i < t->features; i++)
        if (t->feature[i].wanted && t->feature[i].now != record + 1)
            return taut__fail(TAUT_E_CORRUPT, "no feature %s, which the first record has: choose with select",
                              t->feature[i].name);
    return TAUT_OK;
}

/* ---- what a feature becomes ---- */

static bool like_a_file(const uint8_t *p, size_t n)
{
    return (n > 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff) || (n > 8 && memcmp(p, "\x89PNG", 4) == 0);
}

static taut_status look(feature *f)
{
    int64_t count = 1;
    size_t  tail;
    if (f->kind != 1) count = taut__list_count(f->kind == 2 ? TAUT__AS_FLOATLIST : TAUT__AS_INT64LIST, f->list, f->n);
    if (count < 0) return taut__fail(TAUT_E_CORRUPT, "the values of feature %s are malformed", f->name);
    if (f->records == 0)
        f->count = (uint64_t)count, f->bytes = f->n, f->file = f->kind == 1 && like_a_file(f->list, f->n);
    f->counts_differ |= f->count != (uint64_t)count;
    f->bytes_differ |= f->bytes != f->n;
    if (f->kind == 1 && !f->file && !f->binary)
        f->binary = taut__utf8_bad((const char *)f->list, f->n, false, &tail) < f->n;
    f->records++;
    return TAUT_OK;
}

static taut_status make_field(taut__import *im, feature *f)
{
    taut_field d = TAUT_FIELD_INIT;
    uint64_t   shape[1] = {f->count};
    if (f->kind == 1) {
        d.kind = f->file ? TAUT_KIND_FILE : f->binary || im->options->bytes ? TAUT_KIND_BYTES : TAUT_KIND_TEXT;
        d.variable = d.kind != TAUT_KIND_BYTES || f->bytes_differ || f->bytes == 0;
        if (!d.variable) d.ndim = 1, d.shape[0] = f->bytes;
        return taut__import_field_add(im, f->name, &d, TAUT__AS_PLAIN, &f->field);
    }
    d.type = f->kind == 2 ? TAUT_FLOAT32 : TAUT_I64;
    if (!f->counts_differ && f->count) TAUT_TRY(taut__import_array(im, f->name, d.type, shape, f->count > 1, &d));
    else d.kind = f->kind == 2 ? TAUT_KIND_FLOAT : TAUT_KIND_INT, d.variable = 1;
    return taut__import_field_add(im, f->name, &d, f->kind == 2 ? TAUT__AS_FLOATLIST : TAUT__AS_INT64LIST, &f->field);
}

static taut_status place(tfrecord *t, feature *f, uint32_t buffer, const uint8_t *data, uint64_t begin,
                         const char *what)
{
    int64_t count =
        f->kind == 1 ? 0 : taut__list_count(f->kind == 2 ? TAUT__AS_FLOATLIST : TAUT__AS_INT64LIST, f->list, f->n);
    uint64_t size = f->kind == 2 ? 4 : 8, at = f->n ? begin + (uint64_t)(f->list - data) : begin;
    if (count < 0)
        return taut__fail(TAUT_E_CORRUPT, "%s: %s: the values of feature %s are malformed", t->s->name, what, f->name);
    return taut__import_place(t->im, f->field, buffer, at, f->n, (uint64_t)count * size, what);
}

/* ---- passes ---- */

static taut_status each_record(tfrecord *t, bool placing, uint32_t buffer)
{
    uint64_t at = 0, begin, record = 0;
    for (; at < t->s->bytes; record++) {
        const uint8_t *data;
        size_t         n;
        uint64_t       start = at;
        char           why[300];
        taut_status    rc;
        TAUT_TRY(next_record(t, record, &at, &data, &begin, &n));
        rc = read_example(t, placing ? record + t->records : record, data, n);
        for (size_t i = 0; i < t->features && rc == TAUT_OK; i++) {
            feature *f = &t->feature[i];
            snprintf(why, sizeof why, "record %" PRIu64, record);
            if (f->wanted) rc = placing ? place(t, f, buffer, data, begin, why) : look(f);
        }
        if (rc != TAUT_OK) {
            snprintf(why, sizeof why, "%s", taut_last_error());
            return placing ? rc
                           : taut__fail(rc, "%s: record %" PRIu64 " (byte %" PRIu64 "): %s", t->s->name, record, start,
                                        why);
        }
    }
    t->records = record;
    return TAUT_OK;
}

static taut_status scan_raw(tfrecord *t, uint32_t buffer)
{
    taut_field f = TAUT_FIELD_INIT;
    size_t     field;
    uint64_t   at = 0;
    f.variable = 1;
    TAUT_TRY(taut__import_field_add(t->im, "record", &f, TAUT__AS_PLAIN, &field));
    for (; at < t->s->bytes; t->im->samples++) {
        const uint8_t *data;
        uint64_t       begin;
        size_t         n;
        char           what[48];
        snprintf(what, sizeof what, "record %" PRIu64, t->im->samples);
        TAUT_TRY(next_record(t, t->im->samples, &at, &data, &begin, &n));
        TAUT_TRY(taut__import_place(t->im, field, buffer, begin, n, 0, what));
    }
    return TAUT_OK;
}

static taut_status scan_examples(tfrecord *t, uint32_t buffer)
{
    const char *names[FEATURES_MAX];
    TAUT_TRY(each_record(t, false, buffer));
    for (size_t i = 0; i < t->features; i++) names[i] = t->feature[i].name;
    TAUT_TRY(taut__import_selected(t->im, t->s->name, t->features, names));
    for (size_t i = 0; i < t->features; i++)
        if (t->feature[i].wanted) TAUT_TRY(make_field(t->im, &t->feature[i]));
    t->im->samples = t->records;
    return each_record(t, true, buffer);
}

static taut_status scan(taut__import *im)
{
    tfrecord   *t = taut__alloc(1, sizeof *t);
    taut_status rc;
    uint32_t    buffer = 0;
    if (!t) return taut__fail(TAUT_E_NOMEM, "%s: no memory", im->foreign.file[0].source.name);
    t->im = im;
    t->s = &im->foreign.file[0].source;
    rc = taut__foreign_add_buffer(&im->foreign, (taut__foreign_buffer){0, false, 0, t->s->bytes, t->s->bytes}, &buffer);
    if (rc == TAUT_OK) rc = im->options->raw ? scan_raw(t, buffer) : scan_examples(t, buffer);
    taut__free(t);
    return rc;
}

static bool knows(const char *path, const uint8_t *p, size_t n)
{
    return (n >= HEAD && masked(taut__crc32c(p, 8)) == taut__get32(p + 8)) || taut__import_ends(path, ".tfrecord") ||
           taut__import_ends(path, ".tfrecords");
}

const taut__format taut__format_tfrecord = {"tfrecord", "TFRecord, of tf.train.Example or of anything (raw)", knows,
                                            false, scan};
