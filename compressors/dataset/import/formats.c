/* formats.c : the formats, what they share, and the way from files to an index. */
#include "formats.h"
#include "../shard/layout.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

/* tar, arrow, tfrecord are known by their bytes, too; the order decides where several fit */
static const taut__format *const formats[] = {&taut__format_npy,   &taut__format_mds, &taut__format_megatron,
                                              &taut__format_arrow, &taut__format_tar, &taut__format_tfrecord,
                                              &taut__format_idx};
enum { FORMATS = sizeof formats / sizeof *formats };

const char *taut_index_format_name(size_t i) { return i < FORMATS ? formats[i]->name : NULL; }
const char *taut_index_format_help(size_t i) { return i < FORMATS ? formats[i]->help : NULL; }

const char *taut__import_format_of(const char *path, const uint8_t *head, size_t n)
{
    for (size_t i = 0; i < FORMATS; i++)
        if (formats[i]->knows(path, head, n)) return formats[i]->name;
    return NULL;
}

void taut__import_free(taut__import *im)
{
    for (size_t i = 0; i < im->fields; i++) {
        taut__places_free(&im->field[i].places);
        taut__free(im->field[i].decoded);
    }
    taut__foreign_free(&im->foreign);
    taut__bytes_free(&im->labels);
    memset(im, 0, sizeof *im);
}

/* ---- for formats ---- */

bool taut__import_ends(const char *path, const char *tail)
{
    size_t n = strlen(path), t = strlen(tail);
    return n >= t && strcasecmp(path + n - t, tail) == 0;
}

void taut__import_stem(const char *path, char *dst, size_t cap)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    snprintf(dst, cap, "%.*s", (int)strcspn(base, "."), base);
}

bool taut__import_wanted(const taut__import *im, const char *name)
{
    const taut_index_options *o = im->options;
    for (size_t i = 0; i < o->nselect; i++)
        if (strcmp(o->select[i], name) == 0) return true;
    return o->nselect == 0;
}

taut_status taut__import_selected(const taut__import *im, const char *file, size_t n, const char *const *names)
{
    char   list[400] = "";
    size_t at = 0;
    for (size_t k = 0; k < n && at < sizeof list; k++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", k ? ", " : "", names[k]);
    for (size_t i = 0; i < im->options->nselect; i++) {
        size_t k = 0;
        while (k < n && strcmp(im->options->select[i], names[k]) != 0) k++;
        if (k == n)
            return taut__fail(TAUT_E_INVALID, "%s: select=%s: no such field; fields are %s", file,
                              im->options->select[i], list);
    }
    return TAUT_OK;
}

bool taut__import_is_label(const taut__import *im, const char *name)
{
    static const char *const usual[] = {"label", "labels", "class", "cls", "target", "y"};
    if (im->options->label) return strcmp(name, im->options->label) == 0;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (strcasecmp(name, usual[i]) == 0) return true;
    return false;
}

bool taut__import_has_label(const taut__import *im)
{
    for (size_t i = 0; i < im->fields; i++)
        if (im->field[i].field.kind == TAUT_KIND_LABEL) return true;
    return false;
}

taut_status taut__import_array(const taut__import *im, const char *name, taut_type type, const uint64_t *shape,
                               size_t ndim, taut_field *field)
{
    bool whole = type < TAUT_FLOAT32;
    if (ndim > TAUT_FIELD_DIMS)
        return taut__fail(TAUT_E_UNSUPPORTED, "samples of %zu dimensions: at most %d", ndim, TAUT_FIELD_DIMS);
    *field = (taut_field)TAUT_FIELD_INIT;
    field->type = type;
    field->ndim = (uint32_t)ndim;
    for (size_t d = 0; d < ndim; d++) {
        if (shape[d] == 0) return taut__fail(TAUT_E_UNSUPPORTED, "dimension %zu of its samples is 0", d + 1);
        field->shape[d] = shape[d];
    }
    field->kind = whole ? TAUT_KIND_INT : TAUT_KIND_FLOAT;
    if (type == TAUT_U8 && (ndim == 2 || (ndim == 3 && shape[2] <= 4))) field->kind = TAUT_KIND_IMAGE;
    if (whole && ndim == 0 && !taut__import_has_label(im) && (!name || taut__import_is_label(im, name)))
        field->kind = TAUT_KIND_LABEL;
    return TAUT_OK;
}

static void make_name(const taut__import *im, const char *given, char *dst)
{
    char   name[TAUT_FIELD_NAME - 8];
    size_t n = 0;
    for (; n < sizeof name - 1 && given[n]; n++)
        name[n] = isalnum((unsigned char)given[n]) || strchr("-_.", given[n]) ? given[n] : '_';
    name[n] = 0;
    snprintf(dst, TAUT_FIELD_NAME, "%s", n ? name : "value");
    for (size_t k = 0, again = 2; k < im->fields; k++)
        if (strcmp(im->field[k].field.name, dst) == 0) {
            snprintf(dst, TAUT_FIELD_NAME, "%.39s%zu", n ? name : "value", again++);
            k = (size_t)-1;
        }
}

taut_status taut__import_field_add(taut__import *im, const char *name, const taut_field *like, taut__as as,
                                   size_t *number)
{
    static const char *const how[] = {"plain", "swap", "ascii", "int64list", "floatlist"};
    taut__import_field      *f = &im->field[im->fields];
    taut_field_spec          spec;
    if (im->fields == sizeof im->field / sizeof *im->field)
        return taut__fail(TAUT_E_UNSUPPORTED, "more than %zu fields: choose some",
                          sizeof im->field / sizeof *im->field);
    memset(f, 0, sizeof *f);
    f->field = *like;
    if (taut_type_bytes(like->type) == 1 && as == TAUT__AS_SWAP) as = TAUT__AS_PLAIN;
    f->as = as;
    make_name(im, name, f->field.name);
    snprintf(f->field.codec, sizeof f->field.codec, as ? "extern:as=%s" : "extern", how[as]);
    TAUT_TRY(taut__field_shape(&f->field));
    TAUT_TRY(taut__field_spec_parse(&f->field, &spec));
    if (!f->field.variable && taut__as_same_length(as)) f->places.fixed = (uint32_t)f->field.sample_bytes;
    *number = im->fields++;
    return TAUT_OK;
}

static bool is_tokens(const taut__import *im, const char *name)
{
    static const char *const usual[] = {"tokens", "token_ids", "input_ids", "ids"};
    if (im->options->tokens) return strcmp(name, im->options->tokens) == 0;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (strcasecmp(name, usual[i]) == 0) return true;
    return false;
}

taut_status taut__import_tokens_add(taut__import *im, const char *name, const taut_field *like, taut__as as,
                                    size_t *number)
{
    taut_field f = *like;
    bool       line = (f.variable || f.ndim == 1) && f.kind == TAUT_KIND_INT && f.type <= TAUT_I32 &&
                taut__as_same_length(as) && is_tokens(im, name);
    bool nonnegative = line && f.type & 1;
    if (line) f.kind = TAUT_KIND_TOKENS, f.type = (taut_type)(f.type & ~1u);
    TAUT_TRY(taut__import_field_add(im, name, &f, as, number));
    im->field[*number].nonnegative = nonnegative;
    return TAUT_OK;
}

static taut_status place(taut__import_field *f, uint32_t buffer, uint64_t at, uint64_t bytes, uint64_t decoded)
{
    size_t n = (size_t)f->places.samples;
    if (f->field.variable && !taut__as_same_length(f->as)) {
        if (n == f->decoded_room) {
            size_t    more = n ? n + n / 2 : 64;
            uint32_t *p = taut__alloc(more, sizeof *p);
            if (!p) return taut__fail(TAUT_E_NOMEM, "no memory for %zu lengths", more);
            if (n) memcpy(p, f->decoded, n * sizeof *p);
            taut__free(f->decoded);
            f->decoded = p;
            f->decoded_room = more;
        }
        if (decoded >= UINT32_MAX)
            return taut__fail(TAUT_E_RANGE, "%llu bytes: must be below 4 GiB", (unsigned long long)decoded);
        f->decoded[n] = (uint32_t)decoded;
    } else if (f->field.variable && bytes % taut_type_bytes(f->field.type)) {
        return taut__fail(TAUT_E_CORRUPT, "%llu bytes are no whole number of %s", (unsigned long long)bytes,
                          taut_type_name(f->field.type));
    }
    return taut__places_add(&f->places, buffer, at, bytes);
}

taut_status taut__import_place(taut__import *im, size_t field, uint32_t buffer, uint64_t at, uint64_t bytes,
                               uint64_t decoded, const char *what)
{
    taut_status rc = place(&im->field[field], buffer, at, bytes, decoded);
    char        why[256];
    if (rc == TAUT_OK) return rc;
    snprintf(why, sizeof why, "%s", taut_last_error());
    return taut__fail(rc, "%s: %s: field %s: %s", im->foreign.file[0].source.name, what, im->field[field].field.name,
                      why);
}

/* ---- scanning ---- */

taut_status taut__import_scan(taut__import *im, const taut__format *format)
{
    const char *file = im->foreign.file[0].source.name;
    TAUT_TRY(format->scan(im));
    if (im->samples == 0) return taut__fail(TAUT_E_CORRUPT, "%s: no samples in it", file);
    if (im->fields == 0) return taut__fail(TAUT_E_CORRUPT, "%s: no fields in it", file);
    for (size_t i = 0; i < im->fields; i++)
        if (im->field[i].places.samples != im->samples)
            return taut__fail(TAUT_E_CORRUPT, "%s: field %s has %llu samples, and there are %llu", file,
                              im->field[i].field.name, (unsigned long long)im->field[i].places.samples,
                              (unsigned long long)im->samples);
    if (im->options->label && !taut__import_has_label(im))
        return taut__fail(TAUT_E_INVALID, "%s: label=%s: no integer field of that name with one value per sample", file,
                          im->options->label);
    return TAUT_OK;
}

/* ---- files ---- */

static taut_status choose(const char *file, taut__source *s, const char *name, const taut__format **format)
{
    char           names[160] = "";
    const uint8_t *head;
    size_t         n = (size_t)taut__min(s->bytes, 512);
    *format = NULL;
    TAUT_TRY(taut__source_view(s, 0, n, "its beginning", &head));
    for (size_t i = 0; i < FORMATS && !*format; i++) {
        size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", formats[i]->name);
        if (name ? strcmp(name, formats[i]->name) == 0 : formats[i]->knows(file, head, n)) *format = formats[i];
    }
    if (*format) return TAUT_OK;
    if (name) return taut__fail(TAUT_E_INVALID, "format=%s: must be one of %s", name, names);
    if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "%s: compressed by gzip, so samples cannot be reached without the ones before: gunzip it, or "
                          "`taut data pack` it",
                          file);
    if (n >= 4 && taut__get32(head) == 0xfd2fb528u)
        return taut__fail(
            TAUT_E_UNSUPPORTED,
            "%s: compressed by zstd, so samples cannot be reached without the ones before: zstd -d it first", file);
    return taut__fail(TAUT_E_UNSUPPORTED, "%s: of no format that can be indexed (%s); say which one with format", file,
                      names);
}

/* The file's name as the index at `index` is to have it: its last part where both lie in one folder, else absolute. */
static taut_status name_for_index(taut__foreign_file *file, const char *index)
{
    const char *path = file->source.name, *other = strrchr(index, '/');
    char       *folder = NULL, *theirs = realpath(path, NULL), *mine, *end;
    size_t      n = other ? (size_t)(other - index) + 1 : 1;
    folder = taut__alloc(n + 1, 1);
    if (folder) memcpy(folder, other ? index : ".", n);
    mine = folder ? realpath(folder, NULL) : NULL;
    taut__free(folder);
    end = theirs ? strrchr(theirs, '/') : NULL;
    if (mine && end && strlen(mine) == (size_t)(end - theirs) && strncmp(mine, theirs, (size_t)(end - theirs)) == 0)
        memmove(theirs, end + 1, strlen(end));
    file->path = theirs ? taut__alloc(strlen(theirs) + 1, 1) : NULL;
    if (file->path) strcpy(file->path, theirs);
    free(mine);
    free(theirs);
    return file->path ? TAUT_OK : taut__fail(TAUT_E_IO, "%s: its path cannot be found out", path);
}

/* An index in the place of what it indexes would be the end of both. */
static taut_status check_apart(const taut__import *im, const char *path)
{
    struct stat out, in;
    if (stat(path, &out) != 0) return TAUT_OK;
    for (size_t i = 0; i < im->foreign.files; i++) {
        const char *name = im->foreign.file[i].source.name;
        if (stat(name, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return taut__fail(TAUT_E_INVALID, "%s: is %s, which it would index: name another", path, name);
    }
    return TAUT_OK;
}

static taut_status create(taut__import *im, const char *path, size_t n, const char *const *files)
{
    const taut__format *format = NULL;
    for (size_t i = 0; i < n; i++) {
        taut__source s = {0};
        TAUT_TRY(taut__source_open(&s, files[i]));
        TAUT_TRY(taut__foreign_add_file(&im->foreign, &s, false));
        if (i == 0) TAUT_TRY(choose(files[0], &im->foreign.file[0].source, im->options->format, &format));
    }
    if (!format) return taut__fail(TAUT_E_INVALID, "%s: no files to index", path);
    if (n > 1 && !format->several)
        return taut__fail(TAUT_E_INVALID, "%zu files of format %s: each has an index of its own", n, format->name);
    TAUT_TRY(taut__import_scan(im, format));
    TAUT_TRY(check_apart(im, path));
    for (size_t i = 0; i < im->foreign.files; i++) TAUT_TRY(name_for_index(&im->foreign.file[i], path));
    return taut__index_write(im, format, path);
}

taut_status taut_index_create(const char *path, size_t n, const char *const *files, const taut_index_options *given)
{
    taut_index_options o = TAUT_INDEX_INIT;
    taut__import      *im;
    taut_status        rc;
    if (given) memcpy(&o, given, taut__min(given->size, sizeof o));
    if (!path || !*path || path[strlen(path) - 1] == '/')
        return taut__fail(TAUT_E_INVALID, "'%s' cannot be the name of an index", path ? path : "");
    if (n < 1 || n > TAUT__FILES_MAX || !files)
        return taut__fail(TAUT_E_RANGE, "%zu files: an index has 1..%d", n, TAUT__FILES_MAX);
    if (o.block_bytes && (o.block_bytes < 256 || o.block_bytes > TAUT_BLOCK_MAX))
        return taut__fail(TAUT_E_RANGE, "block_bytes=%llu: must be 256..%llu", (unsigned long long)o.block_bytes,
                          (unsigned long long)TAUT_BLOCK_MAX);
    if (o.samples_per_block > TAUT_PER_BLOCK_MAX)
        return taut__fail(TAUT_E_RANGE, "samples_per_block=%llu: must be at most %llu",
                          (unsigned long long)o.samples_per_block, (unsigned long long)TAUT_PER_BLOCK_MAX);
    if (!(im = taut__alloc(1, sizeof *im))) return taut__fail(TAUT_E_NOMEM, "no memory for an index");
    im->options = &o;
    rc = create(im, path, n, files);
    taut__import_free(im);
    taut__free(im);
    return rc;
}
