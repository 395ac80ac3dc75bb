/* select_kcenter.c : greedy k-center over a float field (Sener & Savarese, ICLR 2018, algorithm 1; Gonzalez 1985): the sample that lies farthest from
 * all chosen ones next, which is within a factor 2 of the smallest radius that so many samples can cover all with. n*k*d operations, shared by the
 * ranks; one exchange a sample. */
#include "../sampler/permute.h"
#include "vectors.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct offer { /* a rank's farthest sample; its vector follows */
    double   distance;
    uint64_t place;
} offer;

typedef struct kcenter {
    taut__select *s;
    taut__vectors x;
    float        *nearest; /* squared distance of each sample of this rank to the chosen ones; -1: chosen */
    char         *all;     /* ranks offers */
    size_t        each;    /* bytes of one */
    size_t       *bytes;
    float        *centre;
} kcenter;

static void offer_farthest(const kcenter *k, char *to)
{
    offer  o = {-2, UINT64_MAX};
    size_t best = 0;
    for (size_t i = 0; i < k->x.n; i++)
        if (k->nearest[i] > o.distance || (k->nearest[i] == o.distance && k->x.place[i] < o.place))
            o = (offer){k->nearest[i], k->x.place[i]}, best = i;
    memcpy(to, &o, sizeof o);
    if (k->x.n) memcpy(to + sizeof o, k->x.v + best * k->x.dim, k->x.dim * sizeof *k->x.v);
}

/* The farthest of all ranks' becomes a centre. */
static void take_farthest(kcenter *k)
{
    offer    best = {-3, UINT64_MAX}, o;
    uint32_t from = 0;
    for (uint32_t r = 0; r < taut__select_ranks(k->s); r++) {
        memcpy(&o, k->all + r * k->each, sizeof o);
        if (o.distance > best.distance || (o.distance == best.distance && o.place < best.place)) best = o, from = r;
    }
    k->s->list[k->s->listed++] = best.place;
    memcpy(k->centre, k->all + from * k->each + sizeof o, k->x.dim * sizeof *k->centre);
    for (size_t i = 0; i < k->x.n; i++) {
        float d = taut__vectors_distance2(k->x.v + i * k->x.dim, k->centre, k->x.dim);
        if (k->x.place[i] == best.place) k->nearest[i] = -1;
        else if (d < k->nearest[i]) k->nearest[i] = d;
    }
}

static taut_status start(kcenter *k)
{
    taut__select *s = k->s;
    uint32_t      ranks = taut__select_ranks(s);
    uint64_t      first = (uint64_t)(taut__select_uniform(s, UINT64_MAX) * (double)s->pool->n);
    TAUT_TRY(taut__vectors_read(&k->x, s, false));
    k->each = sizeof(offer) + k->x.dim * sizeof(float);
    k->nearest = taut__alloc(k->x.n + 1, sizeof *k->nearest);
    k->all = taut__alloc(ranks, k->each);
    k->bytes = taut__alloc(ranks, sizeof *k->bytes);
    k->centre = taut__alloc(k->x.dim + 1, sizeof *k->centre);
    s->list = taut__alloc((size_t)s->keep, sizeof *s->list);
    if (!k->nearest || !k->all || !k->bytes || !k->centre || !s->list)
        return taut__fail(TAUT_E_NOMEM, "kcenter: out of memory");
    for (uint32_t r = 0; r < ranks; r++) k->bytes[r] = k->each;
    /* all are infinitely far; that of the first centre the most */
    for (size_t i = 0; i < k->x.n; i++) k->nearest[i] = k->x.place[i] == first ? INFINITY : 3e38f;
    return TAUT_OK;
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The largest distance of up to 1000 samples of rank 0 to the nearest of these places. */
static taut_status radius(kcenter *k, const uint64_t *place, double *out)
{
    enum { LOOKED_AT = 1000 };
    size_t step = k->x.n / LOOKED_AT + 1, n = taut__ceil_div(k->x.n, step);
    float *near = taut__alloc(n + 1, sizeof *near);
    *out = 0;
    if (!near) return taut__fail(TAUT_E_NOMEM, "kcenter: out of memory");
    for (size_t i = 0; i < n; i++) near[i] = INFINITY;
    for (uint64_t c = 0; c < k->s->listed; c++) {
        taut_status status = taut__vectors_one(&k->x, k->s, place[c], false, k->centre);
        if (status != TAUT_OK) {
            taut__free(near);
            return status;
        }
        for (size_t i = 0; i < n; i++)
            near[i] = fminf(near[i], taut__vectors_distance2(k->x.v + i * step * k->x.dim, k->centre, k->x.dim));
    }
    for (size_t i = 0; i < n; i++) *out = fmax(*out, sqrt((double)near[i]));
    taut__free(near);
    return TAUT_OK;
}

static taut_status compare(kcenter *k)
{
    taut__select     *s = k->s;
    taut__order_key   key = {.seed = s->seed, .stream = 0x6bcu, .index = (uint32_t)s->stage};
    taut__permutation p = {0};
    uint64_t         *other = taut__alloc((size_t)s->listed, sizeof *other);
    taut_status       status =
        other ? taut__permutation_set(&p, s->pool->n, key) : taut__fail(TAUT_E_NOMEM, "kcenter: out of memory");
    for (uint64_t i = 0; status == TAUT_OK && i < s->listed; i++) other[i] = taut__permute(&p, i);
    taut__permutation_free(&p);
    if (status == TAUT_OK) qsort(other, (size_t)s->listed, sizeof *other, by_place);
    s->criterion = "largest distance of 1000 samples to the nearest chosen one";
    if (status == TAUT_OK) status = radius(k, s->list, &s->chosen);
    if (status == TAUT_OK) status = radius(k, other, &s->random);
    taut__free(other);
    return status;
}

static taut_status run(taut__select *s)
{
    kcenter     k = {.s = s};
    char       *mine = NULL;
    taut_status status = start(&k);
    if (status == TAUT_OK && !(mine = taut__alloc(1, k.each)))
        status = taut__fail(TAUT_E_NOMEM, "kcenter: out of memory");
    status = taut__select_agree(s, status);
    while (status == TAUT_OK && s->listed < s->keep) {
        offer_farthest(&k, mine);
        status =
            taut__select_gather(s, s->listed % 64 ? TAUT_OK : taut__select_progress(s, "choosing", s->listed, s->keep),
                                mine, k.all, k.bytes);
        if (status == TAUT_OK) take_farthest(&k);
    }
    if (status == TAUT_OK) {
        qsort(s->list, (size_t)s->listed, sizeof *s->list, by_place);
        status = taut__select_agree(s, taut__select_rank(s) == 0 && s->o->stage ? compare(&k) : TAUT_OK);
    }
    taut__vectors_free(&k.x);
    taut__free(k.nearest);
    taut__free(k.all);
    taut__free(k.bytes);
    taut__free(k.centre);
    taut__free(mine);
    return status;
}

const taut__method taut__method_kcenter = {
    .name = "kcenter",
    .help = "samples of a float field that cover all others as closely as they can",
    .needs = TAUT__NEEDS_FLOATS,
    .budget = TAUT__BUDGET_MUST,
    .run = run,
};
