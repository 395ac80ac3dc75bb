/* decide.c : costs of options, the solver, and the plan's totals. */
#include "decide.h"
#include <string.h>

/* Compressing must be predicted to win by this much, because it also takes memory bandwidth and cycles from what runs
 * beside it, and predictions err: below it a layer stays dense. */
static const double WORTH = 1.10;

static double cost_of(const taut__demand *demand, const taut__option *o)
{
    double seconds;
    if (demand->objective == TAUT_OBJECTIVE_BYTES) return o->work.bytes;
    taut__via_best(&demand->link, &o->work, &seconds);
    return o->dense ? seconds : seconds * WORTH * (demand->worth > 0 ? demand->worth : 1);
}

static void total(const taut__observations *o, const taut__demand *demand, taut__decision *d)
{
    double seconds;
    d->bytes = d->seconds = d->dense_seconds = 0;
    d->hash = 0;
    for (size_t l = 0; l < o->layers; l++) {
        const taut__option *c = &o->option[d->option[l]];
        d->bytes += c->work.bytes;
        taut__via_best(&demand->link, &c->work, &seconds);
        d->seconds += seconds;
        d->hash = taut__plan_hash(d->hash, o->layer[l].name, c->spec);
        for (size_t i = 0; i < o->layer[l].n; i++) {
            c = &o->option[o->layer[l].first + i];
            if (!c->dense) continue;
            taut__via_best(&demand->link, &c->work, &seconds);
            d->dense_seconds += seconds;
            break;
        }
    }
}

taut_status taut__decide(const taut__observations *o, const taut__demand *demand, taut__decision *d)
{
    size_t     *first = taut__alloc(o->layers + 1, sizeof *first);
    double     *error = taut__alloc(o->options, sizeof *error), *cost = taut__alloc(o->options, sizeof *cost);
    taut_status s;
    if (!first || !error || !cost) {
        s = taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu options", o->options);
        goto out;
    }
    for (size_t l = 0; l < o->layers; l++) first[l + 1] = o->layer[l].first + o->layer[l].n;
    for (size_t i = 0; i < o->options; i++) {
        error[i] = o->option[i].error;
        cost[i] = cost_of(demand, &o->option[i]);
    }
    taut_plan_problem p = {sizeof p, o->layers, first, error, cost, demand->budget, demand->solver, demand->bins,
                           demand->unsquared};
    taut_plan_result  r = {sizeof r, 0, 0, 0};
    s = taut_plan_solve(&p, d->option, &r);
    d->feasible = s == TAUT_OK;
    if (s != TAUT_OK && s != TAUT_E_INFEASIBLE) goto out;
    s = TAUT_OK;
    for (size_t l = 0; l < o->layers; l++) d->option[l] += (uint32_t)first[l];
    d->error = r.error;
    d->bound = r.bound;
    total(o, demand, d);
out:
    taut__free(first);
    taut__free(error);
    taut__free(cost);
    return s;
}

void taut__appraise(const taut__observations *o, const taut__demand *demand, const uint32_t *option, double *error,
                    double *cost)
{
    *error = *cost = 0;
    for (size_t l = 0; l < o->layers; l++) {
        *error += o->option[option[l]].error;
        *cost += cost_of(demand, &o->option[option[l]]);
    }
}

uint64_t taut__plan_hash(uint64_t chain, const char *name, const char *spec)
{
    for (const char *c = name; *c; c++) chain = taut__mix64(chain ^ (uint8_t)*c);
    chain = taut__mix64(chain ^ 0x100);
    for (const char *c = spec; *c; c++) chain = taut__mix64(chain ^ (uint8_t)*c);
    return taut__mix64(chain ^ 0x200);
}
