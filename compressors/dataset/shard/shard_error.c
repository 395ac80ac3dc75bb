/* shard_error.c : see shard_error.h. */
#include "shard_error.h"
#include <math.h>

static double element(taut_type t, const uint8_t *p)
{
    uint64_t u = taut__get_uint(p, taut_type_bytes(t));
    float    f;
    double   d;
    uint32_t low = (uint32_t)u;
    switch (t) {
    case TAUT_I8: return (int8_t)u;
    case TAUT_I16: return (int16_t)u;
    case TAUT_I32: return (int32_t)u;
    case TAUT_I64: return (double)(int64_t)u;
    case TAUT_FLOAT32: memcpy(&f, &low, 4); return f;
    case TAUT_FLOAT64: memcpy(&d, &u, 8); return d;
    default: return (double)u;
    }
}

taut_error taut__error_of(taut_type t, const uint8_t *x, const uint8_t *y, size_t bytes)
{
    taut_error e = {0};
    size_t     size = taut_type_bytes(t);
    e.n = bytes / size;
    if (bytes == 0) return e;
    if (t < TAUT_FLOAT32 && t != TAUT_U8 && memcmp(x, y, bytes) == 0)
        return e; /* integers other than pixels are never lossy */
    for (size_t i = 0; i < bytes; i += size) {
        double a = element(t, x + i), b = element(t, y + i), d = fabs(a - b);
        if (isnan(d)) d = (isnan(a) && isnan(b)) || a == b ? 0 : INFINITY;
        e.error2 += d * d;
        if (isfinite(a)) e.norm2 += a * a;
        if (d > e.max) e.max = d;
    }
    return e;
}

void taut__error_add(taut_error *sum, const taut_error *e)
{
    sum->error2 += e->error2;
    sum->norm2 += e->norm2;
    sum->n += e->n;
    if (e->max > sum->max) sum->max = e->max;
}

void taut__error_report(const taut_error *e, taut_field *f)
{
    f->rel_err2 = e->error2 == 0 ? 0 : e->norm2 > 0 ? e->error2 / e->norm2 : INFINITY;
    f->max_err = e->max;
    f->psnr_db = f->kind == TAUT_KIND_IMAGE && e->error2 > 0 ? 10 * log10(255.0 * 255.0 * (double)e->n / e->error2) : 0;
}
