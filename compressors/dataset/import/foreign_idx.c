/* foreign_idx.c : IDX (Y. LeCun's MNIST page): 0 0 type ndim, big-endian extents, then big-endian elements. */
#include "foreign_array.h"

static bool magic(const uint8_t *p)
{
    return !p[0] && !p[1] && p[2] >= 8 && p[2] <= 14 && p[2] != 10 && p[3] >= 1 && p[3] <= TAUT__ARRAY_DIMS;
}

static taut_status head(taut__source *s, taut__array *a)
{
    static const taut_type types[] = {TAUT_U8,  TAUT_I8,      TAUT_U8,     TAUT_I16,
                                      TAUT_I32, TAUT_FLOAT32, TAUT_FLOAT64}; /* 8..14 */
    const uint8_t         *p;
    TAUT_TRY(taut__source_view(s, 0, 4, "its IDX header", &p));
    if (!magic(p))
        return taut__fail(
            TAUT_E_CORRUPT,
            "%s: magic %02x%02x%02x%02x: not IDX, which begins 0000, a type 08, 09, 0b..0e and 01..%02x dimensions",
            s->name, p[0], p[1], p[2], p[3], TAUT__ARRAY_DIMS);
    a->type = types[p[2] - 8];
    a->ndim = p[3];
    a->swap = taut_type_bytes(a->type) > 1;
    a->at = 4 + 4 * (uint64_t)a->ndim;
    TAUT_TRY(taut__source_view(s, 4, 4 * a->ndim, "its IDX header", &p));
    for (size_t d = 0; d < a->ndim; d++)
        a->shape[d] =
            (uint64_t)p[4 * d] << 24 | (uint64_t)p[4 * d + 1] << 16 | (uint64_t)p[4 * d + 2] << 8 | p[4 * d + 3];
    return TAUT_OK;
}

static bool        knows(const char *path, const uint8_t *p, size_t n) { return (void)path, n >= 4 && magic(p); }
static taut_status scan(taut__import *im) { return taut__arrays_scan(im, head); }

const taut__format taut__format_idx = {"idx", "IDX files (MNIST); several files are fields of the same samples", knows,
                                       true, scan};
