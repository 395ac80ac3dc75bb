/* select_pick.c : from scores to lists; the same on every rank. */
#include "select.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct scored {
    double   score;
    uint64_t place;
} scored;

static int rising(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* All places, sorted: the sign makes rising of falling, and ties stay with the smaller place. */
static scored *sorted(const taut__select *s, const double *score, double sign)
{
    scored *all = taut__alloc((size_t)s->pool->n, sizeof *all);
    if (!all) return NULL;
    for (uint64_t i = 0; i < s->pool->n; i++) all[i] = (scored){sign * score[i], i};
    qsort(all, (size_t)s->pool->n, sizeof *all, rising);
    return all;
}

static taut_status take(taut__select *s, scored *all, uint64_t n)
{
    s->list = all ? taut__alloc((size_t)n, sizeof *s->list) : NULL;
    s->listed = n;
    for (uint64_t i = 0; s->list && i < n; i++) s->list[i] = all[i].place;
    taut__free(all);
    return s->list ? TAUT_OK
                   : taut__fail(TAUT_E_NOMEM, "%s: out of memory for a list of %llu samples", s->method->name,
                                (unsigned long long)n);
}

taut_status taut__select_extreme(taut__select *s, const double *score, bool largest)
{
    uint64_t n = s->keep ? s->keep : s->pool->n;
    TAUT_TRY(take(s, sorted(s, score, largest ? -1 : 1), n));
    qsort(s->list, (size_t)n, sizeof *s->list, by_place);
    return TAUT_OK;
}

taut_status taut__select_sorted(taut__select *s, const double *score, bool up)
{
    return take(s, sorted(s, score, up ? 1 : -1), s->pool->n);
}

taut_status taut__select_marked(taut__select *s, const uint8_t *keep)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < s->pool->n; i++) n += keep[i] != 0;
    if (n == 0)
        return taut__fail(TAUT_E_INVALID, "%s: nothing is left of %llu samples", s->method->name,
                          (unsigned long long)s->pool->n);
    s->list = taut__alloc((size_t)n, sizeof *s->list);
    if (!s->list)
        return taut__fail(TAUT_E_NOMEM, "%s: out of memory for a list of %llu samples", s->method->name,
                          (unsigned long long)n);
    for (uint64_t i = 0; i < s->pool->n; i++)
        if (keep[i]) s->list[s->listed++] = i;
    return TAUT_OK;
}

taut_status taut__select_compare(taut__select *s, const char *criterion, const double *score)
{
    if (s->o->stage) {
        if (!(s->score = taut__alloc((size_t)s->pool->n, sizeof *s->score)))
            return taut__fail(TAUT_E_NOMEM, "%s: out of memory", s->method->name);
        memcpy(s->score, score, (size_t)s->pool->n * sizeof *score);
    }
    s->criterion = criterion;
    s->chosen = s->random = 0;
    for (uint64_t i = 0; i < s->listed; i++) s->chosen += score[s->list[i]] / (double)s->listed;
    for (uint64_t i = 0; i < s->pool->n; i++) s->random += score[i] / (double)s->pool->n;
    return TAUT_OK;
}

double taut__select_uniform(const taut__select *s, uint64_t place)
{
    taut__rng g = taut__rng_of(taut__seed(s->seed, 0x53454c45 + s->stage), place);
    return ((double)taut__random32(g, (uint32_t)place) + 0.5) / 4294967296.0;
}

double taut__select_gumbel(const taut__select *s, uint64_t place) { return -log(-log(taut__select_uniform(s, place))); }

static int rising_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double taut__select_quantile(double *x, uint64_t n, double q)
{
    qsort(x, (size_t)n, sizeof *x, rising_number);
    return x[(uint64_t)(q * (double)(n - 1) + 0.5)];
}
