/* foreign_npy.c : .npy (NumPy enhancement proposal 1; versions 1.0 to 3.0 of numpy.lib.format), and what arrays of any format
 * share. */
#include "foreign_array.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- arrays ---- */

static taut_status add_array(taut__import *im, size_t i, const taut__array *a)
{
    const taut__source *s = &im->foreign.file[i].source;
    taut_field          field;
    char                stem[TAUT_FIELD_NAME], why[300];
    size_t              number, bytes;
    uint32_t            buffer;
    taut_status rc = taut__import_array(im, im->options->label ? "" : NULL, a->type, a->shape + 1, a->ndim - 1, &field);
    taut__import_stem(s->name, stem, sizeof stem);
    if (rc == TAUT_OK && im->options->label && field.kind == TAUT_KIND_INT && field.ndim == 0 &&
        taut__import_is_label(im, stem) && !taut__import_has_label(im))
        field.kind = TAUT_KIND_LABEL;
    if (field.kind == TAUT_KIND_IMAGE) snprintf(stem, sizeof stem, "image");
    if (field.kind == TAUT_KIND_LABEL && !im->options->label) snprintf(stem, sizeof stem, "label");
    if (rc == TAUT_OK)
        rc = taut__import_tokens_add(im, stem, &field, a->swap ? TAUT__AS_SWAP : TAUT__AS_PLAIN, &number);
    if (rc != TAUT_OK) {
        snprintf(why, sizeof why, "%s", taut_last_error());
        return taut__fail(rc, "%s: %s", s->name, why);
    }
    if (a->shape[0] == 0) return taut__fail(TAUT_E_CORRUPT, "%s: no samples in it", s->name);
    if (im->samples && a->shape[0] != im->samples)
        return taut__fail(TAUT_E_CORRUPT, "%s: %" PRIu64 " samples, but %s has %" PRIu64, s->name, a->shape[0],
                          im->foreign.file[0].source.name, im->samples);
    im->samples = a->shape[0];
    if (!taut__mul_ok((size_t)im->field[number].field.sample_bytes, (size_t)im->samples, &bytes) ||
        bytes != s->bytes - a->at)
        return taut__fail(TAUT_E_CORRUPT,
                          "%s: has %" PRIu64 " bytes behind its header, which says %" PRIu64 " samples of %" PRIu64
                          " bytes",
                          s->name, s->bytes - a->at, im->samples, im->field[number].field.sample_bytes);
    TAUT_TRY(taut__foreign_add_buffer(&im->foreign, (taut__foreign_buffer){(uint32_t)i, false, 0, s->bytes, s->bytes},
                                      &buffer));
    return taut__places_add_array(&im->field[number].places, buffer, a->at, im->samples);
}

taut_status taut__arrays_scan(taut__import *im, taut_status (*head)(taut__source *s, taut__array *a))
{
    for (size_t i = 0; i < im->foreign.files; i++) {
        taut__array a = {0};
        TAUT_TRY(head(&im->foreign.file[i].source, &a));
        TAUT_TRY(add_array(im, i, &a));
    }
    return TAUT_OK;
}

/* ---- .npy ---- */

static const char *entry(const char *head, const char *key)
{
    const char *at = strstr(head, key);
    return at ? at + strlen(key) : NULL;
}

static taut_status read_type(const char *file, const char *descr, taut__array *a)
{
    static const struct {
        const char *name;
        taut_type   type;
    } types[] = {{"u1", TAUT_U8},  {"i1", TAUT_I8},      {"b1", TAUT_U8},     {"u2", TAUT_U16},
                 {"i2", TAUT_I16}, {"u4", TAUT_U32},     {"i4", TAUT_I32},    {"u8", TAUT_U64},
                 {"i8", TAUT_I64}, {"f4", TAUT_FLOAT32}, {"f8", TAUT_FLOAT64}};
    char order = descr ? *descr : 0;
    for (size_t i = 0; order && i < sizeof types / sizeof *types; i++)
        if (strchr("<>|=", order) && strncmp(descr + 1, types[i].name, 2) == 0 && descr[3] == '\'') {
            a->type = types[i].type;
            a->swap = order == '>' && taut_type_bytes(a->type) > 1;
            return TAUT_OK;
        }
    size_t length = descr ? strcspn(descr, "'") : 1;
    return taut__fail(
        TAUT_E_UNSUPPORTED,
        "%s: elements of type '%.*s': must be one of u1 i1 b1 u2 i2 u4 i4 u8 i8 f4 f8; save x.astype(...)", file,
        length < 16 ? (int)length : 16, descr ? descr : "?");
}

static taut_status read_shape(const char *file, const char *at, taut__array *a)
{
    a->ndim = 0;
    for (;;) {
        char              *end;
        unsigned long long v;
        while (*at == ' ' || *at == ',') at++;
        if (*at == ')') return TAUT_OK;
        v = strtoull(at, &end, 10);
        if (end == at || *at == '-' || *at == '+')
            return taut__fail(TAUT_E_CORRUPT, "%s: the shape in its .npy header is no list of numbers", file);
        if (a->ndim == TAUT__ARRAY_DIMS)
            return taut__fail(TAUT_E_UNSUPPORTED, "%s: more than %d dimensions", file, TAUT__ARRAY_DIMS);
        a->shape[a->ndim++] = v;
        at = end;
    }
}

static taut_status read_text(const char *file, const char *head, taut__array *a)
{
    const char *descr = entry(head, "'descr': '"), *shape = entry(head, "'shape': ("),
               *order = entry(head, "'fortran_order': ");
    if (!shape || !order)
        return taut__fail(TAUT_E_CORRUPT, "%s: a .npy header without descr, fortran_order and shape", file);
    TAUT_TRY(read_type(file, descr, a));
    TAUT_TRY(read_shape(file, shape, a));
    if (*order == 'T' && a->ndim > 1)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "%s: stored column by column (fortran_order); save numpy.ascontiguousarray(x)", file);
    return TAUT_OK;
}

taut_status taut__npy_head(taut__source *s, uint64_t at, uint64_t bytes, taut__array *a)
{
    const uint8_t *p;
    size_t         begin = 10, n;
    char          *text;
    taut_status    rc;
    if (bytes < 12) return taut__fail(TAUT_E_CORRUPT, "%s: a .npy of %" PRIu64 " bytes: truncated", s->name, bytes);
    TAUT_TRY(taut__source_view(s, at, 12, "its .npy header", &p));
    if (memcmp(p, "\x93NUMPY", 6) != 0 || p[6] < 1 || p[6] > 3)
        return taut__fail(TAUT_E_CORRUPT, "%s: not a .npy of version 1 to 3", s->name);
    n = taut__get16(p + 8);
    if (p[6] > 1) n = taut__get32(p + 8), begin = 12;
    if (n > 1 << 20 || n > bytes - begin)
        return taut__fail(TAUT_E_CORRUPT, "%s: a .npy header of %zu bytes", s->name, n);
    TAUT_TRY(taut__source_view(s, at + begin, n, "its .npy header", &p));
    if (!(text = taut__alloc(n + 1, 1))) return taut__fail(TAUT_E_NOMEM, "%s: no memory for its header", s->name);
    memcpy(text, p, n);
    rc = read_text(s->name, text, a);
    taut__free(text);
    a->at = at + begin + n;
    return rc;
}

static taut_status head(taut__source *s, taut__array *a)
{
    TAUT_TRY(taut__npy_head(s, 0, s->bytes, a));
    return a->ndim ? TAUT_OK
                   : taut__fail(TAUT_E_UNSUPPORTED, "%s: a single number; the first dimension counts samples", s->name);
}

static bool knows(const char *path, const uint8_t *p, size_t n)
{
    return (void)path, n >= 6 && memcmp(p, "\x93NUMPY", 6) == 0;
}
static taut_status scan(taut__import *im) { return taut__arrays_scan(im, head); }

const taut__format taut__format_npy = {"npy", "NumPy arrays; several files are fields of the same samples", knows, true,
                                       scan};
