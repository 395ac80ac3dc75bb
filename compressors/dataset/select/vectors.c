/* vectors.c : see vectors.h. */
#include "vectors.h"
#include <math.h>
#include <string.h>

enum { LANES = 8 };

float taut__vectors_dot(const float *a, const float *b, size_t n)
{
    float  lane[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) lane[k] += a[i + (size_t)k] * b[i + (size_t)k];
    for (; i < n; i++) sum += a[i] * b[i];
    for (int k = 0; k < LANES; k++) sum += lane[k];
    return sum;
}

float taut__vectors_distance2(const float *a, const float *b, size_t n)
{
    float  lane[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float d = a[i + (size_t)k] - b[i + (size_t)k];
            lane[k] += d * d;
        }
    for (; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    for (int k = 0; k < LANES; k++) sum += lane[k];
    return sum;
}

static taut_status take(const taut__select *s, uint64_t place, const uint8_t *data, size_t dim, bool unit, float *to)
{
    double norm = 0;
    char   where[300];
    memcpy(to, data, dim * sizeof *to);
    for (size_t i = 0; i < dim; i++) {
        if (!isfinite(to[i])) {
            taut__pool_where(s->pool, place, where, sizeof where);
            return taut__fail(TAUT_E_INVALID, "%s: field '%s' of %s: value %zu is %g: must be finite", s->method->name,
                              s->pool->name, where, i, (double)to[i]);
        }
        norm += (double)to[i] * (double)to[i];
    }
    for (size_t i = 0; unit && norm > 0 && i < dim; i++) to[i] = (float)((double)to[i] / sqrt(norm));
    return TAUT_OK;
}

typedef struct reading {
    taut__select  *s;
    taut__vectors *x;
    bool           unit;
} reading;

static taut_status read_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes)
{
    reading       *r = ctx;
    taut__vectors *x = r->x;
    if (bytes != x->dim * sizeof *x->v)
        return taut__fail(TAUT_E_CORRUPT, "%s: %zu bytes in field '%s': must be %zu", r->s->method->name, bytes,
                          r->s->pool->name, x->dim * sizeof *x->v);
    x->place[x->n] = place;
    return take(r->s, place, data, x->dim, r->unit, x->v + x->n++ * x->dim);
}

taut_status taut__vectors_read(taut__vectors *x, taut__select *s, bool unit)
{
    reading        r = {s, x, unit};
    uint64_t       begin, end;
    const uint8_t *data;
    size_t         bytes;
    taut__pool_part(s->pool, taut__select_rank(s), taut__select_ranks(s), &begin, &end);
    TAUT_TRY(taut__pool_get(s->pool, 0, &data, &bytes));
    x->dim = bytes / sizeof *x->v;
    x->v = taut__alloc((size_t)(end - begin) + 1, bytes);
    x->place = taut__alloc((size_t)(end - begin) + 1, sizeof *x->place);
    if (!x->v || !x->place)
        return taut__fail(TAUT_E_NOMEM, "%s: out of memory for %llu vectors of %zu", s->method->name,
                          (unsigned long long)(end - begin), x->dim);
    return taut__select_visit(s, s->pool, "reading", read_one, &r);
}

void taut__vectors_free(taut__vectors *x)
{
    taut__free(x->v);
    taut__free(x->place);
    memset(x, 0, sizeof *x);
}

taut_status taut__vectors_one(const taut__vectors *x, taut__select *s, uint64_t place, bool unit, float *to)
{
    const uint8_t *data;
    size_t         bytes;
    TAUT_TRY(taut__pool_get(s->pool, place, &data, &bytes));
    return take(s, place, data, x->dim, unit, to);
}
