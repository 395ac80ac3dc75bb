/* plan.c : taut_plan_solve(): checks the problem, picks the solver, reports sums. */
#include "frontier.h"
#include <math.h>
#include <string.h>

enum { BINS_DEFAULT = 10000, BINS_MAX = 1000000 };

static taut_status check_layer(const taut_plan_problem *p, size_t l)
{
    if (p->first[l + 1] <= p->first[l])
        return taut__fail(TAUT_E_INVALID, "plan: layer %zu has no candidates: must have at least one", l);
    for (size_t i = p->first[l]; i < p->first[l + 1]; i++) {
        if (!(p->error[i] >= 0) || !isfinite(p->error[i]))
            return taut__fail(TAUT_E_RANGE, "plan: layer %zu: error %g of candidate %zu: must be finite and at least 0",
                              l, p->error[i], i - p->first[l]);
        if (!(p->cost[i] >= 0) || !isfinite(p->cost[i]))
            return taut__fail(TAUT_E_RANGE, "plan: layer %zu: cost %g of candidate %zu: must be finite and at least 0",
                              l, p->cost[i], i - p->first[l]);
    }
    return TAUT_OK;
}

static const char *solver_of(const taut_plan_problem *p) { return p->solver ? p->solver : "hull"; }

static taut_status check_solver(const char *solver)
{
    if (strcmp(solver, "hull") == 0 || strcmp(solver, "dp") == 0 || strcmp(solver, "exhaustive") == 0) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "solver '%s': must be hull, dp or exhaustive", solver);
}

static taut_status check(const taut_plan_problem *p)
{
    if (p->layers < 1 || !p->first || !p->error || !p->cost)
        return taut__fail(TAUT_E_INVALID, "plan: %zu layers: must be at least 1, with first, error and cost",
                          p->layers);
    if (!(p->budget >= 0) || !isfinite(p->budget))
        return taut__fail(TAUT_E_RANGE, "plan: budget %g: must be finite and at least 0", p->budget);
    if (p->bins > BINS_MAX) return taut__fail(TAUT_E_RANGE, "plan: bins %u: must be 0..%d", p->bins, BINS_MAX);
    if (p->first[0] != 0) return taut__fail(TAUT_E_INVALID, "plan: first[0] is %zu: must be 0", p->first[0]);
    TAUT_TRY(check_solver(solver_of(p)));
    for (size_t l = 0; l < p->layers; l++) TAUT_TRY(check_layer(p, l));
    return TAUT_OK;
}

static taut_status solve(const taut_plan_problem *p, const taut__frontier *f, uint32_t *at, double *bound)
{
    const char *solver = solver_of(p);
    double      multiplier;
    if (strcmp(solver, "hull") == 0) return taut__solve_hull(f, at, bound, &multiplier);
    if (strcmp(solver, "dp") == 0) return taut__solve_dp(f, p->bins ? p->bins : BINS_DEFAULT, at, bound);
    return taut__solve_exhaustive(f, at, bound);
}

static void give(taut_plan_result *result, taut_plan_result r)
{
    if (!result) return;
    r.size = result->size;
    memcpy(result, &r, taut__min(result->size, sizeof r));
}

taut_status taut_plan_solve(const taut_plan_problem *problem, uint32_t *choice, taut_plan_result *result)
{
    taut_plan_problem p = {0};
    taut_plan_result  r = {sizeof r, 0, 0, 0};
    taut__frontier    f;
    taut_status       s;
    give(result, r);
    if (!problem || !choice || problem->size < offsetof(taut_plan_problem, solver))
        return taut__fail(TAUT_E_INVALID, "plan: problem and choice must be given, with problem->size set");
    memcpy(&p, problem, taut__min(problem->size, sizeof p));
    TAUT_TRY(check(&p));
    TAUT_TRY(taut__frontier_init(&f, &p));
    memset(choice, 0, p.layers * sizeof *choice); /* positions first: the most exact points */
    taut__frontier_sum(&f, choice, &r.error, &r.cost);
    r.bound = r.cost;
    if (r.error > p.budget)
        s = taut__fail(TAUT_E_INFEASIBLE, "plan: the most exact candidates have error %g, over the budget %g", r.error,
                       p.budget);
    else s = solve(&p, &f, choice, &r.bound);
    if (s == TAUT_OK || s == TAUT_E_INFEASIBLE) {
        taut__frontier_sum(&f, choice, &r.error, &r.cost);
        for (size_t l = 0; l < p.layers; l++) choice[l] = taut__point_at(&f, l, choice[l])->candidate;
        give(result, r);
    } else {
        memset(choice, 0, p.layers * sizeof *choice);
    }
    taut__frontier_fini(&f);
    return s;
}
