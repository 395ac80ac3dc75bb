/* import_idx.c : IDX (LeCun's MNIST page: magic 0 0 type ndim, big-endian extents, then big-endian values), plain or gzip.
 * Several inputs are fields of the same samples: images and their labels. */
#include "import.h"
#include "tensors.h"
#include <string.h>

static bool knows(const char *path)
{
    import_stream *s = tensors_peek(path);
    unsigned char  m[4] = {1};
    size_t         n = 0;
    bool yes = s && stream_read(s, m, 4, &n) == CLI_OK && n == 4 && !m[0] && !m[1] && m[2] >= 8 && m[2] <= 14 &&
               m[2] != 10 && m[3] >= 1 && m[3] <= 4;
    tensors_unpeek(s);
    return yes && !import_ends_with(path, ".txt");
}

static int read_head(import_stream *s, tensor *t)
{
    static const taut_type types[] = {TAUT_U8,  TAUT_I8,      TAUT_U8,     TAUT_I16,
                                      TAUT_I32, TAUT_FLOAT32, TAUT_FLOAT64}; /* 8..14 */
    unsigned char          head[4 + 4 * 4];
    size_t                 want = 4;
    int                    rc = tensors_read(s, head, 4, "its IDX header");
    if (rc != CLI_OK) return rc;
    if (head[0] || head[1] || head[2] < 8 || head[2] > 14 || head[2] == 10 || head[3] < 1 || head[3] > 4)
        return cli_fail(
            "%s: magic %02x%02x%02x%02x: not IDX, which begins 0000, a type 08, 09, 0b..0e and 01..04 dimensions",
            s->path, head[0], head[1], head[2], head[3]);
    want = 4u * head[3];
    if ((rc = tensors_read(s, head + 4, want, "its IDX header")) != CLI_OK) return rc;
    t->type = types[head[2] - 8];
    t->ndim = head[3];
    t->swap = taut_type_bytes(t->type) > 1;
    for (int d = 0; d < t->ndim; d++) {
        const unsigned char *b = head + 4 + 4 * d;
        t->shape[d] = (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3];
    }
    return CLI_OK;
}

static int describe(import *im) { return tensors_describe(im, read_head); }

const import_format import_idx = {"idx",        "IDX files (MNIST), each a field", knows, describe, tensors_feed,
                                  tensors_close};
