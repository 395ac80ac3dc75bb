/* import_npy.c : .npy (NumPy enhancement proposal 1, versions 1.0 to 3.0). The first axis counts samples. Several inputs are
 * fields of the same samples, named after their files. */
#include "import.h"
#include "tensors.h"
#include <stdlib.h>
#include <string.h>

static bool knows(const char *path) { return import_ends_with(path, ".npy"); }

/* The text behind 'key': in the header's dictionary; NULL if it is not there. */
static const char *entry(const char *head, const char *key)
{
    const char *at = strstr(head, key);
    return at ? at + strlen(key) : NULL;
}

static int read_type(const char *path, const char *descr, tensor *t)
{
    static const struct {
        const char *name;
        taut_type   type;
    } types[] = {{"u1", TAUT_U8},  {"i1", TAUT_I8},      {"b1", TAUT_U8},     {"u2", TAUT_U16},
                 {"i2", TAUT_I16}, {"u4", TAUT_U32},     {"i4", TAUT_I32},    {"u8", TAUT_U64},
                 {"i8", TAUT_I64}, {"f4", TAUT_FLOAT32}, {"f8", TAUT_FLOAT64}};
    char order = descr ? descr[0] : 0;
    for (size_t i = 0; order && i < sizeof types / sizeof *types; i++)
        if (strchr("<>|=", order) && strncmp(descr + 1, types[i].name, 2) == 0 && descr[3] == '\'') {
            t->type = types[i].type;
            t->swap = order == '>' && taut_type_bytes(t->type) > 1;
            return CLI_OK;
        }
    size_t length = descr ? strcspn(descr, "'") : 1;
    return cli_fail("%s: elements of type '%.*s': must be one of u1 i1 b1 u2 i2 u4 i4 u8 i8 f4 f8; save x.astype(...)",
                    path, length < 16 ? (int)length : 16, descr ? descr : "?");
}

static int read_shape(const char *path, const char *at, tensor *t)
{
    t->ndim = 0;
    while (at && *at && *at != ')') {
        char              *end;
        unsigned long long v = strtoull(at, &end, 10);
        if (end == at) {
            at++;
            continue;
        }
        if (t->ndim == TENSOR_DIMS) return cli_fail("%s: more than %d dimensions", path, TENSOR_DIMS);
        t->shape[t->ndim++] = v;
        at = end;
    }
    return t->ndim ? CLI_OK : cli_fail("%s: a single number; the first dimension counts samples", path);
}

static int read_head(import_stream *s, tensor *t)
{
    unsigned char begin[12];
    char         *head;
    const char   *descr, *shape, *order;
    size_t        n;
    int           rc = tensors_read(s, begin, 10, "its .npy header");
    if (rc != CLI_OK) return rc;
    if (memcmp(begin, "\x93NUMPY", 6) != 0 || begin[6] < 1 || begin[6] > 3)
        return cli_fail("%s: not a .npy file of version 1 to 3", s->path);
    n = begin[8] | (size_t)begin[9] << 8;
    if (begin[6] > 1) {
        if ((rc = tensors_read(s, begin + 10, 2, "its .npy header")) != CLI_OK) return rc;
        n |= (size_t)begin[10] << 16 | (size_t)begin[11] << 24;
    }
    if (n > 1 << 20) return cli_fail("%s: a .npy header of %zu bytes", s->path, n);
    if (!(head = calloc(n + 1, 1))) return cli_fail("out of memory");
    rc = tensors_read(s, head, n, "its .npy header");
    descr = entry(head, "'descr': '");
    shape = entry(head, "'shape': (");
    order = entry(head, "'fortran_order': ");
    if (rc == CLI_OK && (!descr || !shape || !order))
        rc = cli_fail("%s: a .npy header without descr, fortran_order and shape", s->path);
    if (rc == CLI_OK) rc = read_type(s->path, descr, t);
    if (rc == CLI_OK) rc = read_shape(s->path, shape, t);
    if (rc == CLI_OK && *order == 'T' && t->ndim > 1)
        rc = cli_fail("%s: stored column by column (fortran_order); save numpy.ascontiguousarray(x)", s->path);
    free(head);
    return rc;
}

static int describe(import *im) { return tensors_describe(im, read_head); }

const import_format import_npy = {"npy", "NumPy arrays, each a field", knows, describe, tensors_feed, tensors_close};
