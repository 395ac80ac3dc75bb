/* tensors.c : see tensors.h. */
#include "tensors.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct tensors {
    import_stream *stream[IMPORT_FIELDS];
    tensor         tensor[IMPORT_FIELDS];
    uint8_t       *sample[IMPORT_FIELDS];
    size_t         bytes[IMPORT_FIELDS];
} tensors;

import_stream *tensors_peek(const char *path)
{
    struct stat    st;
    import_stream *s;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 4 || !(s = malloc(sizeof *s))) return NULL;
    if (stream_open(s, path) == CLI_OK) return s;
    free(s);
    return NULL;
}

void tensors_unpeek(import_stream *s)
{
    if (s) stream_close(s);
    free(s);
}

int tensors_read(import_stream *s, void *dst, size_t n, const char *what)
{
    for (size_t done = 0, got; done < n; done += got) {
        int rc = stream_read(s, (char *)dst + done, n - done, &got);
        if (rc != CLI_OK) return rc;
        if (got == 0) return cli_fail("%s: ends in the middle of %s: truncated", s->path, what);
    }
    return CLI_OK;
}

/* "dir/x.npy.gz" -> "x"; IDX files have well-known parts */
static void name_of(const char *path, const taut_field *f, const import *im, char *dst)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    char        name[TAUT_FIELD_NAME];
    size_t      n = 0;
    if (f->kind == TAUT_KIND_IMAGE || f->kind == TAUT_KIND_LABEL) {
        snprintf(name, sizeof name, "%s", f->kind == TAUT_KIND_IMAGE ? "image" : "label");
    } else {
        for (; base[n] && base[n] != '.' && n < 40; n++)
            name[n] = isalnum((unsigned char)base[n]) || base[n] == '-' ? base[n] : '_';
        name[n] = 0;
        if (!n) strcpy(name, "value");
    }
    snprintf(dst, TAUT_FIELD_NAME, "%s", name);
    for (size_t k = 0, again = 2; k < im->fields; k++)
        if (strcmp(im->field[k].name, dst) == 0) {
            snprintf(dst, TAUT_FIELD_NAME, "%.40s%zu", name, again++);
            k = (size_t)-1;
        }
}

static bool has_label(const import *im)
{
    for (size_t k = 0; k < im->fields; k++)
        if (im->field[k].kind == TAUT_KIND_LABEL) return true;
    return false;
}

static int field_of(import *im, const char *path, const tensor *t)
{
    taut_field *f = &im->field[im->fields];
    *f = (taut_field)TAUT_FIELD_INIT;
    f->type = t->type;
    f->ndim = (uint32_t)t->ndim - 1;
    for (int d = 1; d < t->ndim; d++) {
        if (t->shape[d] == 0) return cli_fail("%s: dimension %d is 0", path, d + 1);
        f->shape[d - 1] = t->shape[d];
    }
    f->kind = t->type >= TAUT_FLOAT32 ? TAUT_KIND_FLOAT : TAUT_KIND_INT;
    if (t->type == TAUT_U8 && (f->ndim == 2 || (f->ndim == 3 && f->shape[2] <= 4))) f->kind = TAUT_KIND_IMAGE;
    if (t->type < TAUT_FLOAT32 && f->ndim == 0 && !has_label(im)) f->kind = TAUT_KIND_LABEL;
    name_of(path, f, im, f->name);
    im->fields++;
    return CLI_OK;
}

static int open_one(import *im, int i, int (*head)(import_stream *s, tensor *t))
{
    tensors *ts = im->state;
    tensor  *t = &ts->tensor[i];
    size_t   bytes;
    int      rc;
    if (!(ts->stream[i] = malloc(sizeof *ts->stream[i]))) return cli_fail("out of memory");
    if ((rc = stream_open(ts->stream[i], im->input[i])) != CLI_OK) return rc;
    if ((rc = head(ts->stream[i], t)) != CLI_OK) return rc;
    if (t->shape[0] == 0) return cli_fail("%s: no samples in it", im->input[i]);
    if (t->shape[0] != ts->tensor[0].shape[0])
        return cli_fail("%s: %llu samples, but %s has %llu", im->input[i], (unsigned long long)t->shape[0],
                        im->input[0], (unsigned long long)ts->tensor[0].shape[0]);
    bytes = taut_type_bytes(t->type);
    for (int d = 1; d < t->ndim; d++)
        if (__builtin_mul_overflow(bytes, (size_t)t->shape[d], &bytes) || bytes >= UINT32_MAX)
            return cli_fail("%s: a sample of more than 4 GiB", im->input[i]);
    ts->bytes[i] = bytes;
    if ((rc = field_of(im, im->input[i], t)) != CLI_OK) return rc;
    ts->sample[i] = malloc(bytes ? bytes : 1);
    return ts->sample[i] ? CLI_OK : cli_fail("%s: out of memory for a sample of %zu bytes", im->input[i], bytes);
}

int tensors_describe(import *im, int (*head)(import_stream *s, tensor *t))
{
    int rc = CLI_OK;
    if (im->inputs > IMPORT_FIELDS) return cli_fail("%d files, each a field: at most %d", im->inputs, IMPORT_FIELDS);
    if (!(im->state = calloc(1, sizeof(tensors)))) return cli_fail("out of memory");
    for (int i = 0; i < im->inputs && rc == CLI_OK; i++) rc = open_one(im, i, head);
    return rc;
}

static void swap_bytes(uint8_t *p, size_t bytes, size_t size)
{
    for (size_t at = 0; at < bytes; at += size)
        for (size_t k = 0; k < size / 2; k++) {
            uint8_t low = p[at + k];
            p[at + k] = p[at + size - 1 - k];
            p[at + size - 1 - k] = low;
        }
}

int tensors_feed(import *im)
{
    tensors *ts = im->state;
    for (uint64_t n = 0; n < ts->tensor[0].shape[0]; n++) {
        const void *data[IMPORT_FIELDS];
        int         rc;
        for (int i = 0; i < im->inputs; i++) {
            char what[48];
            snprintf(what, sizeof what, "sample %llu", (unsigned long long)n);
            if ((rc = tensors_read(ts->stream[i], ts->sample[i], ts->bytes[i], what)) != CLI_OK) return rc;
            if (ts->tensor[i].swap) swap_bytes(ts->sample[i], ts->bytes[i], taut_type_bytes(ts->tensor[i].type));
            data[i] = ts->sample[i];
        }
        if ((rc = im->sink(im->ctx, data, ts->bytes)) != CLI_OK) return rc;
    }
    for (int i = 0; i < im->inputs; i++) {
        char   more;
        size_t got;
        int    rc = stream_read(ts->stream[i], &more, 1, &got);
        if (rc != CLI_OK) return rc;
        if (got) return cli_fail("%s: longer than its header says", im->input[i]);
    }
    return CLI_OK;
}

void tensors_close(import *im)
{
    tensors *ts = im->state;
    for (int i = 0; ts && i < IMPORT_FIELDS; i++) {
        if (ts->stream[i]) stream_close(ts->stream[i]);
        free(ts->stream[i]);
        free(ts->sample[i]);
    }
    free(ts);
}
