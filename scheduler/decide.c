/* decide.c : costs of options, the solver, and the plan's totals. */
#include "decide.h"
#include <math.h>
#include <string.h>
#include <xxhash.h>

/* Compressing must be predicted to win by this much, because it also takes memory bandwidth and cycles from what runs
 * beside it, and predictions err: below it a layer stays dense. */
static const double WORTH = 1.10;

/* And by this much more where the link's time is all the processor's, as in shared memory: nothing overlaps there, and codecs
 * and copies slow each other down: 256 KiB of quant:bits=4 between 3 ranks took 2.0 to 2.2 times as long as native. */
static const double CROWDED = 1.40;

/* And the plan as a whole by this much more. */
static const double WORTH_A_PLAN = 1.05;

/* Prices of a second of the processor where one of processor and link together is 1. */
static const double prices[] = {0.5, 0.02, 0.25, 0.75, 0.98};

typedef struct scratch {
    size_t     *first;
    double     *error, *cost;
    taut__load *load; /* per option, margins included */
    uint32_t   *choice;
} scratch;

static taut__load load_of(const taut__demand *demand, const taut__option *o, bool margin)
{
    double     seconds, cost_margin;
    taut__algorithm_id  via = taut__algorithm_best(&demand->link, &o->work, &seconds);
    taut__load l = taut__algorithm_load(&demand->link, via, &o->work);
    if (!margin || o->dense) return l;
    cost_margin = (WORTH + (l.wire > 0 ? CROWDED * l.copy / l.wire : 0)) * (demand->cost_margin > 0 ? demand->cost_margin : 1);
    l.codec *= cost_margin;
    l.copy *= cost_margin;
    l.wire *= cost_margin;
    l.latency *= cost_margin;
    return l;
}

static void release(scratch *s)
{
    taut__free(s->first);
    taut__free(s->error);
    taut__free(s->cost);
    taut__free(s->load);
    taut__free(s->choice);
}

static taut_status reserve(const taut__observations *o, const taut__demand *demand, scratch *s)
{
    s->first = taut__alloc(o->layers + 1, sizeof *s->first);
    s->error = taut__alloc(o->options, sizeof *s->error);
    s->cost = taut__alloc(o->options, sizeof *s->cost);
    s->load = taut__alloc(o->options, sizeof *s->load);
    s->choice = taut__alloc(o->layers, sizeof *s->choice);
    if (!s->first || !s->error || !s->cost || !s->load || !s->choice)
        return taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu options", o->options);
    for (size_t l = 0; l < o->layers; l++) s->first[l + 1] = o->layer[l].first + o->layer[l].n;
    for (size_t i = 0; i < o->options; i++) {
        s->error[i] = o->option[i].error;
        s->load[i] = load_of(demand, &o->option[i], true);
    }
    return TAUT_OK;
}

static size_t dense_option(const taut__observations *o, size_t l)
{
    for (size_t i = 0; i < o->layer[l].n; i++)
        if (o->option[o->layer[l].first + i].dense) return o->layer[l].first + i;
    return SIZE_MAX;
}

/* Seconds of a step, margins included. option: of each layer, an index into observations.option. */
static double step_seconds(const taut__observations *o, const scratch *s, const uint32_t *option)
{
    taut__load sum = {0};
    for (size_t l = 0; l < o->layers; l++) taut__load_add(&sum, &s->load[option[l]]);
    return taut__load_seconds(&sum);
}

/* One solution of the sum of costs. */
static taut_status solve(const taut__observations *o, const taut__demand *demand, const scratch *s, taut__decision *d)
{
    taut_plan_problem p = {sizeof p, o->layers, s->first, s->error, s->cost, demand->budget, demand->solver, demand->bins,
                           demand->unsquared};
    taut_plan_result  r = {sizeof r, 0, 0, 0};
    taut_status       status = taut_plan_solve(&p, s->choice, &r);
    if (status != TAUT_OK && status != TAUT_E_INFEASIBLE) return status;
    for (size_t l = 0; l < o->layers; l++) s->choice[l] += (uint32_t)s->first[l];
    d->feasible = status == TAUT_OK;
    d->error = r.error;
    d->gap = r.cost > 0 ? 1 - r.bound / r.cost : 0;
    return TAUT_OK;
}

static taut_status least_bytes(const taut__observations *o, const taut__demand *demand, scratch *s, taut__decision *d)
{
    for (size_t i = 0; i < o->options; i++) s->cost[i] = o->option[i].work.bytes;
    TAUT_TRY(solve(o, demand, s, d));
    memcpy(d->option, s->choice, o->layers * sizeof *d->option);
    return TAUT_OK;
}

/* Where every layer may stay dense, that is a plan too, without error. */
static bool all_dense(const taut__observations *o, uint32_t *option)
{
    for (size_t l = 0; l < o->layers; l++) {
        size_t i = dense_option(o, l);
        if (i == SIZE_MAX) return false;
        option[l] = (uint32_t)i;
    }
    return true;
}

static taut_status least_seconds(const taut__observations *o, const taut__demand *demand, scratch *s, taut__decision *d)
{
    taut__decision found = {0};
    double         best = INFINITY;
    if (all_dense(o, d->option)) {
        best = step_seconds(o, s, d->option) / WORTH_A_PLAN;
        d->feasible = true;
        d->error = d->gap = 0;
        for (size_t l = 0; l < o->layers; l++) d->error += o->option[d->option[l]].error;
    }
    for (size_t k = 0; k < sizeof prices / sizeof *prices; k++) {
        for (size_t i = 0; i < o->options; i++)
            s->cost[i] = prices[k] * (s->load[i].codec + s->load[i].copy) + (1 - prices[k]) * s->load[i].wire + s->load[i].latency / (double)o->layers;
        TAUT_TRY(solve(o, demand, s, &found));
        double seconds = step_seconds(o, s, s->choice);
        if (seconds >= best) continue;
        best = seconds;
        d->feasible = found.feasible, d->error = found.error, d->gap = found.gap;
        memcpy(d->option, s->choice, o->layers * sizeof *d->option);
    }
    return TAUT_OK;
}

static void total(const taut__observations *o, const taut__demand *demand, taut__decision *d)
{
    taut__load sum = {0}, dense = {0};
    d->bytes = 0;
    d->hash = 0;
    for (size_t l = 0; l < o->layers; l++) {
        const taut__option *c = &o->option[d->option[l]];
        size_t              i = dense_option(o, l);
        taut__load          load = load_of(demand, c, false);
        d->bytes += c->work.bytes;
        d->hash = taut__plan_hash(d->hash, o->layer[l].name, c->spec);
        taut__load_add(&sum, &load);
        if (i == SIZE_MAX) continue;
        load = load_of(demand, &o->option[i], false);
        taut__load_add(&dense, &load);
    }
    d->seconds = taut__load_seconds(&sum);
    d->dense_seconds = taut__load_seconds(&dense);
}

taut_status taut__decide(const taut__observations *o, const taut__demand *demand, taut__decision *d)
{
    scratch     s = {0};
    taut_status status = reserve(o, demand, &s);
    if (status == TAUT_OK)
        status = demand->objective == TAUT_OBJECTIVE_BYTES ? least_bytes(o, demand, &s, d) : least_seconds(o, demand, &s, d);
    if (status == TAUT_OK) total(o, demand, d);
    release(&s);
    return status;
}

void taut__appraise(const taut__observations *o, const taut__demand *demand, const uint32_t *option, double *error,
                    double *cost)
{
    taut__load sum = {0};
    *error = *cost = 0;
    for (size_t l = 0; l < o->layers; l++) {
        taut__load load = load_of(demand, &o->option[option[l]], true);
        *error += o->option[option[l]].error;
        *cost += o->option[option[l]].work.bytes;
        taut__load_add(&sum, &load);
    }
    if (demand->objective == TAUT_OBJECTIVE_TIME) *cost = taut__load_seconds(&sum);
}

uint64_t taut__plan_hash(uint64_t chain, const char *name, const char *spec)
{
    return XXH3_64bits_withSeed(spec, strlen(spec), XXH3_64bits_withSeed(name, strlen(name), chain));
}
