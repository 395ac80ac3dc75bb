/* foreign_column.c : see foreign_column.h. */
#include "foreign_column.h"
#include <inttypes.h>
#include <stdio.h>

/* ---- headers of values ---- */

static taut_status read_head(const taut__column *c, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a)
{
    size_t want;
    memset(a, 0, sizeof *a);
    TAUT_TRY(c->head(c->ctx, s, at, bytes, a));
    want = taut_type_bytes(a->type);
    for (size_t d = 0; d < a->ndim; d++)
        if (!taut__mul_ok(want, (size_t)a->shape[d], &want)) want = SIZE_MAX;
    if (a->at < at || a->at - at > bytes || want != bytes - (a->at - at))
        return taut__fail(TAUT_E_CORRUPT, "%" PRIu64 " bytes behind the header, whose shape takes %zu",
                          bytes - (a->at - at), want);
    return TAUT_OK;
}

static bool same_shape(const taut__array *a, const taut__array *b)
{
    return a->type == b->type && a->swap == b->swap && a->ndim == b->ndim &&
           memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

taut_status taut__npy_value(const void *ctx, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a)
{
    (void)ctx;
    return taut__npy_head(s, at, bytes, a);
}

/* A number of a PNM header behind white space and comments (netpbm.sourceforge.net/doc/pgm.html); -1: none */
static int64_t pnm_number(const uint8_t *p, size_t n, size_t *at)
{
    int64_t v = 0;
    size_t  digits = 0;
    while (*at < n && (p[*at] == ' ' || (p[*at] >= '\t' && p[*at] <= '\r') || p[*at] == '#')) {
        if (p[*at] == '#') {
            while (*at < n && p[*at] != '\n') ++*at;
        } else {
            ++*at;
        }
    }
    for (; *at < n && p[*at] >= '0' && p[*at] <= '9' && digits < 9; ++*at, digits++) v = 10 * v + (p[*at] - '0');
    return digits ? v : -1;
}

taut_status taut__pnm_head(const void *ctx, taut__source *s, uint64_t at, uint64_t bytes, taut__array *a)
{
    const uint8_t *p;
    size_t         n = (size_t)taut__min(bytes, 1024), i = 2;
    int64_t        cols, rows, most;
    (void)ctx;
    TAUT_TRY(taut__source_view(s, at, n, "the header of a PNM", &p));
    if (n < 8 || p[0] != 'P' || (p[1] != '5' && p[1] != '6'))
        return taut__fail(TAUT_E_UNSUPPORTED, "not a PNM of kind P5 or P6: begins with %02x %02x", n > 0 ? p[0] : 0,
                          n > 1 ? p[1] : 0);
    cols = pnm_number(p, n, &i), rows = pnm_number(p, n, &i), most = pnm_number(p, n, &i);
    if (cols < 1 || rows < 1 || most < 1 || i >= n)
        return taut__fail(
            TAUT_E_CORRUPT,
            "the header of a PNM of P%c, %lld x %lld, up to %lld: must be numbers above 0, and pixels behind them",
            p[1], (long long)cols, (long long)rows, (long long)most);
    if (most > 255)
        return taut__fail(TAUT_E_UNSUPPORTED, "a PNM of values up to %lld: must be at most 255, 8 bits",
                          (long long)most);
    *a = (taut__array){.type = TAUT_U8,
                       .ndim = p[1] == '6' ? 3 : 2,
                       .shape = {(uint64_t)rows, (uint64_t)cols, p[1] == '6' ? 3 : 0},
                       .at = at + i + 1};
    return TAUT_OK;
}

/* ---- columns ---- */

taut_status taut__column_look(taut__column *c, taut__source *s, uint64_t at, uint64_t bytes)
{
    taut__array a;
    if (c->values == 0) c->bytes = bytes;
    c->differ |= bytes != c->bytes;
    if (c->kind == TAUT__COLUMN_ARRAY) {
        TAUT_TRY(read_head(c, s, at, bytes, &a));
        if (c->values == 0) c->first = a, c->lines = a.ndim == 1;
        c->shapes_differ |= !same_shape(&a, &c->first);
        c->lines &= a.ndim == 1 && a.type == c->first.type && a.swap == c->first.swap;
    }
    c->values++;
    return TAUT_OK;
}

static taut_status array_field(taut__import *im, const taut__column *c, const taut__array *a, taut_field *f)
{
    bool differ = c->kind == TAUT__COLUMN_ARRAY && c->shapes_differ;
    TAUT_TRY(taut__import_array(im, c->name, a->type, a->shape, differ ? 0 : a->ndim, f));
    if (differ) {
        f->kind = a->type < TAUT_FLOAT32 ? TAUT_KIND_INT : TAUT_KIND_FLOAT;
        f->variable = 1;
    }
    return TAUT_OK;
}

taut_status taut__column_field(taut__import *im, taut__column *c)
{
    taut_field f = TAUT_FIELD_INIT;
    taut__as   as = TAUT__AS_PLAIN;
    bool       whole = c->kind == TAUT__COLUMN_ARRAY && c->shapes_differ && !c->lines; /* as a file */
    switch (whole ? TAUT__COLUMN_FILE : c->kind) {
    case TAUT__COLUMN_TEXT: f.kind = im->options->bytes ? TAUT_KIND_BYTES : TAUT_KIND_TEXT, f.variable = 1; break;
    case TAUT__COLUMN_FILE: f.kind = TAUT_KIND_FILE, f.variable = 1; break;
    case TAUT__COLUMN_BYTES:
        f.kind = TAUT_KIND_BYTES;
        f.variable = c->differ || c->bytes == 0;
        if (!f.variable) f.ndim = 1, f.shape[0] = c->bytes;
        break;
    case TAUT__COLUMN_ASCII:
        f.type = TAUT_I64;
        f.kind = taut__import_is_label(im, c->name) && !taut__import_has_label(im) ? TAUT_KIND_LABEL : TAUT_KIND_INT;
        as = TAUT__AS_ASCII;
        break;
    case TAUT__COLUMN_FIXED:
    case TAUT__COLUMN_ARRAY:
        TAUT_TRY(array_field(im, c, &c->first, &f));
        if (c->first.swap) as = TAUT__AS_SWAP;
        break;
    }
    return taut__import_tokens_add(im, c->name, &f, as, &c->field);
}

taut_status taut__column_place(taut__import *im, const taut__column *c, taut__source *s, uint32_t buffer, uint64_t at,
                               uint64_t bytes, const char *what)
{
    if (c->kind == TAUT__COLUMN_ARRAY && im->field[c->field].field.kind != TAUT_KIND_FILE) {
        taut__array a;
        TAUT_TRY(read_head(c, s, at, bytes, &a));
        bytes -= a.at - at;
        at = a.at;
    }
    return taut__import_place(im, c->field, buffer, at, bytes, 0, what);
}
