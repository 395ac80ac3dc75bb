/* frontier.c : from a public plan problem to Pareto sets. */
#include "frontier.h"
#include <math.h>
#include <stdlib.h>

static int by_error(const void *a, const void *b)
{
    const taut__point *x = a, *y = b;
    if (x->error != y->error) return x->error < y->error ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return x->candidate < y->candidate ? -1 : x->candidate > y->candidate;
}

/* p[0..n) -> its Pareto set in p[0..result) */
static size_t keep_pareto(taut__point *p, size_t n)
{
    size_t kept = 0;
    qsort(p, n, sizeof *p, by_error);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || p[i].cost < p[kept - 1].cost) p[kept++] = p[i];
    return kept;
}

taut_status taut__frontier_init(taut__frontier *f, const taut_plan_problem *p)
{
    size_t n = 0, total = p->first[p->layers];
    *f = (taut__frontier){.layers = p->layers, .budget = p->budget};
    f->first = taut__alloc(p->layers + 1, sizeof *f->first);
    f->point = taut__alloc(total, sizeof *f->point);
    if (!f->first || !f->point) {
        taut__frontier_fini(f);
        return taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu candidates", total);
    }
    for (size_t l = 0; l < p->layers; l++) {
        size_t m = p->first[l + 1] - p->first[l];
        for (size_t i = 0; i < m; i++) {
            double e = p->error[p->first[l] + i];
            f->point[n + i] = (taut__point){p->unsquared ? sqrt(e) : e, p->cost[p->first[l] + i], (uint32_t)i};
        }
        n += keep_pareto(f->point + n, m);
        f->first[l + 1] = n;
    }
    return TAUT_OK;
}

void taut__frontier_fini(taut__frontier *f)
{
    taut__free(f->first);
    taut__free(f->point);
    f->first = NULL;
    f->point = NULL;
}

void taut__frontier_sum(const taut__frontier *f, const uint32_t *at, double *error, double *cost)
{
    *error = *cost = 0;
    for (size_t l = 0; l < f->layers; l++) {
        const taut__point *p = taut__point_at(f, l, at[l]);
        *error += p->error;
        *cost += p->cost;
    }
}
