/* select_pass.c : passes over the samples, each rank its part. */
#include "select.h"

enum { OFTEN = 256 }; /* samples between two looks at the progress */

taut_status taut__select_visit(taut__select *s, taut__pool *pool, const char *what, taut__visit visit, void *ctx)
{
    uint64_t begin, end;
    taut__pool_part(pool, taut__select_rank(s), taut__select_ranks(s), &begin, &end);
    for (uint64_t k = begin; k < end; k++) {
        uint64_t       place = taut__pool_visited(pool, k);
        const uint8_t *data;
        size_t         bytes;
        TAUT_TRY(taut__pool_get(pool, place, &data, &bytes));
        TAUT_TRY(visit(ctx, place, data, bytes));
        if ((k - begin) % OFTEN == 0) TAUT_TRY(taut__select_progress(s, what, k - begin, end - begin));
    }
    return TAUT_OK;
}

typedef struct measuring {
    taut__measure measure;
    void         *ctx;
    double       *out;
    size_t        per;
} measuring;

static taut_status measure_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes)
{
    measuring  *m = ctx;
    taut_status s = m->measure(m->ctx, place, data, bytes, m->out);
    m->out += m->per;
    return s;
}

/* This rank's numbers, in the order of its visits; then everybody's, put where they belong. */
taut_status taut__select_measure(taut__select *s, const char *what, size_t per, taut__measure measure, void *ctx,
                                 double **out)
{
    taut__pool *p = s->pool;
    uint32_t    ranks = taut__select_ranks(s);
    uint64_t    begin, end;
    size_t     *bytes = taut__alloc(ranks, sizeof *bytes);
    double     *part, *all = taut__alloc((size_t)p->n * per, sizeof *all);
    measuring   m = {measure, ctx, NULL, per};
    taut_status status;
    taut__pool_part(p, taut__select_rank(s), ranks, &begin, &end);
    m.out = part = taut__alloc((size_t)(end - begin) * per + 1, sizeof *part);
    *out = taut__alloc((size_t)p->n * per, sizeof **out);
    status = bytes && all && part && *out ? TAUT_OK
                                          : taut__fail(TAUT_E_NOMEM, "%s: out of memory for %llu samples",
                                                       s->method->name, (unsigned long long)p->n);
    for (uint32_t r = 0; status == TAUT_OK && r < ranks; r++) {
        taut__pool_part(p, r, ranks, &begin, &end);
        bytes[r] = (size_t)(end - begin) * per * sizeof *part;
    }
    if (status == TAUT_OK) status = taut__select_visit(s, p, what, measure_one, &m);
    status = taut__select_gather(s, status, part, all, bytes);
    for (uint64_t k = 0; status == TAUT_OK && k < p->n; k++)
        for (size_t i = 0; i < per; i++) (*out)[taut__pool_visited(p, k) * per + i] = all[k * per + i];
    taut__free(bytes);
    taut__free(part);
    taut__free(all);
    if (status != TAUT_OK) {
        taut__free(*out);
        *out = NULL;
    }
    return status;
}
