/* frontier.h : a plan problem, tidied: what the solvers work on.
 *
 * Of each layer only the Pareto set stays: candidates in order of rising error and strictly falling cost. Of equals the
 * lowest candidate number stays, so that all ranks choose alike. Solvers choose positions in these sets, one per layer
 * (`at`), and taut_plan_solve() turns positions into candidate numbers. */
#ifndef TAUT_FRONTIER_H
#define TAUT_FRONTIER_H

#include "../comm/base/base.h"

typedef struct taut__point {
    double   error, cost; /* error: squared, or its root for unsquared problems */
    uint32_t candidate;   /* counted from the layer's first */
} taut__point;

typedef struct taut__frontier {
    size_t       layers;
    size_t      *first; /* layers+1: layer l has points first[l] .. first[l+1]-1 */
    taut__point *point;
    double       budget;
} taut__frontier;

taut_status taut__frontier_init(taut__frontier *f, const taut_plan_problem *p);
void        taut__frontier_fini(taut__frontier *f);

static inline size_t taut__points(const taut__frontier *f, size_t layer)
{
    return f->first[layer + 1] - f->first[layer];
}
static inline const taut__point *taut__point_at(const taut__frontier *f, size_t layer, uint32_t at)
{
    return &f->point[f->first[layer] + at];
}

/* Sums in layer order, in double: the one definition of a plan's error and cost. */
void taut__frontier_sum(const taut__frontier *f, const uint32_t *at, double *error, double *cost);

/* ---- the solvers. at: layers entries, out. All expect that the most exact points (all zeros) meet the budget, and
 * leave a plan that meets it. *bound: no plan within the budget costs less. ---- */
taut_status taut__solve_hull(const taut__frontier *f, uint32_t *at, double *bound, double *multiplier);
taut_status taut__solve_dp(const taut__frontier *f, uint32_t bins, uint32_t *at, double *bound);
taut_status taut__solve_exhaustive(const taut__frontier *f, uint32_t *at, double *bound);

#endif
