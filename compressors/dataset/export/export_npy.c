/* export_npy.c : a .npy (version 1.0) per field, with the samples as the first axis: PATH/FIELD.npy, or PATH itself if it ends with .npy and
 * there is one field. */
#include "export.h"
#include <inttypes.h>
#include <stdio.h>

taut_status taut__npy_write_head(const taut_field *f, uint64_t samples, uint64_t n, taut_bytes *out)
{
    static const char *const types[] = {"|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"};
    char                     shape[160] = "", text[320];
    int                      at = 0, axes = 0, len;
    if (samples != UINT64_MAX) at = snprintf(shape, sizeof shape, "%" PRIu64, samples), axes = 1;
    if (f->variable) at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%" PRIu64, axes++ ? ", " : "", n);
    for (uint32_t d = 0; !f->variable && d < f->ndim; d++)
        at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%" PRIu64, axes++ ? ", " : "", f->shape[d]);
    len = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }", types[f->type],
                   shape, axes == 1 ? "," : "");
    size_t  pad = 63 - (10 + (size_t)len) % 64; /* the data begins at a multiple of 64 */
    uint8_t head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    taut__put16(head + 8, (uint16_t)((size_t)len + pad + 1));
    TAUT_TRY(taut__bytes_add(out, head, sizeof head));
    TAUT_TRY(taut__bytes_add(out, text, (size_t)len));
    for (size_t i = 0; i < pad; i++) TAUT_TRY(taut__bytes_add(out, " ", 1));
    return taut__bytes_add(out, "\n", 1);
}

typedef struct state {
    const taut__export *e;
    taut_output         out[64];
} state;

static taut_status open_one(state *s, size_t k, bool alone)
{
    const taut__export *e = s->e;
    char                name[TAUT_FIELD_NAME + 8], *path;
    taut_bytes          head = {0};
    taut_status         rc;
    snprintf(name, sizeof name, "%s.npy", e->field[k].name);
    path = alone ? NULL : taut__path_join(e->path, name);
    if (!alone && !path) return taut__fail(TAUT_E_NOMEM, "%s: no memory", e->path);
    rc = taut__output_open(&s->out[k], alone ? e->path : path);
    taut__free(path);
    if (rc == TAUT_OK) rc = taut__npy_write_head(&e->field[k], e->samples, 0, &head);
    if (rc == TAUT_OK) rc = taut__output_add(&s->out[k], head.p, head.n);
    taut__bytes_free(&head);
    return rc;
}

static taut_status open_npy(const taut__export *e, void **out)
{
    state *s;
    size_t n = strlen(e->path);
    bool   alone = n > 4 && strcmp(e->path + n - 4, ".npy") == 0;
    for (size_t k = 0; k < e->fields; k++)
        if (e->field[k].variable)
            return taut__fail(TAUT_E_UNSUPPORTED,
                              "field %s: its samples differ in length, which a .npy cannot hold: choose others with "
                              "select, or export mds or tar",
                              e->field[k].name);
    if (alone && e->fields != 1)
        return taut__fail(TAUT_E_INVALID, "%s: one file, but %zu fields: name a folder, or choose one with select",
                          e->path, e->fields);
    if (!(s = taut__alloc(1, sizeof *s))) return taut__fail(TAUT_E_NOMEM, "%s: no memory", e->path);
    s->e = e;
    *out = s;
    for (size_t k = 0; k < e->fields; k++) s->out[k].fd = -1;
    if (!alone) TAUT_TRY(taut__make_folder(e->path));
    for (size_t k = 0; k < e->fields; k++) TAUT_TRY(open_one(s, k, alone));
    return TAUT_OK;
}

static taut_status sample(void *p, uint64_t number, const uint8_t *const *data, const size_t *bytes)
{
    state *s = p;
    (void)number;
    for (size_t k = 0; k < s->e->fields; k++) TAUT_TRY(taut__output_add(&s->out[k], data[k], bytes[k]));
    return TAUT_OK;
}

static taut_status finish(void *p)
{
    state *s = p;
    for (size_t k = 0; k < s->e->fields; k++) TAUT_TRY(taut__output_publish(&s->out[k]));
    return TAUT_OK;
}

static void close_npy(void *p)
{
    state *s = p;
    for (size_t k = 0; k < s->e->fields; k++) taut__output_close(&s->out[k]);
    taut__free(s);
}

const taut__exporter taut__export_npy = {
    "npy", "a NumPy array per field: OUT/FIELD.npy, or OUT.npy of one field", open_npy, sample, finish, close_npy};
