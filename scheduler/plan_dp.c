/* plan_dp.c : L-GreCo's dynamic programme over discretised error (Alimohammadi et al., "L-GreCo: Layerwise-Adaptive
 * Gradient Compression", 2022, algorithm 1), on fewer candidates and finer bins.
 *
 *   value_k[b] = min over candidates c of layer k:  value_{k-1}[b - shift(c)] + cost(c)
 *
 * where shift(c) is c's error in bins, rounded up, so that a plan within the bins is within the budget. Two differences:
 *
 *  - Reduced costs (Dembo & Hammer 1980). hull's plan costs U and its bound is L. A candidate whose Lagrangian cost
 *    exceeds its layer's least by more than U - L is in no plan cheaper than U, so it is dropped; a layer left with one
 *    candidate adds its exact error and no rounding. If nothing cheaper remains, hull's plan stands.
 *  - The errors that remain are counted from each layer's most exact survivor, and bins are made finer until the
 *    rounding of all layers together stays under one bin of the caller's, as far as STEPS allows (never coarser than
 *    the caller's).
 */
#include "frontier.h"
#include <math.h>
#include <string.h>

enum { STEPS = 1 << 24 }; /* survivors x bins: about 10 ms */

typedef struct dp_layer {
    uint32_t layer;    /* in the frontier */
    size_t   first, n; /* survivors in dp.point */
} dp_layer;

typedef struct dp {
    dp_layer *layer; /* those with two survivors or more */
    size_t    layers, bins;
    size_t    survivors; /* of those layers together */
    uint32_t *point;     /* positions of the survivors, most exact first */
    double    unit;      /* error of one bin */
    double    base;      /* cost of the fixed layers and of every other layer's cheapest survivor */
    int    exponent; /* values are costs over 2^exponent: the largest that a layer adds is about 1, whatever the unit */
    float *value;    /* (layers+1) rows of bins+1 */
} dp;

/* 4 floats at any address; both compilers turn this into the CPU's vectors */
typedef float   v4f __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

/* to[b] = min(to[b], from[b] + c) for b < n */
static void relax(float *restrict to, const float *restrict from, float c, size_t n)
{
    const v4f add = {c, c, c, c};
    size_t    b = 0;
    for (; b + 4 <= n; b += 4) {
        v4f v, t;
        v4i less;
        memcpy(&v, from + b, sizeof v);
        memcpy(&t, to + b, sizeof t);
        v += add;
        less = (v4i)(v < t);
        t = (v4f)(((v4i)v & less) | ((v4i)t & ~less));
        memcpy(to + b, &t, sizeof t);
    }
    for (; b < n; b++) {
        float v = from[b] + c;
        if (v < to[b]) to[b] = v;
    }
}

/* Error of a layer's survivor i in bins, above its most exact one; more than d->bins: never fits. */
static size_t shift(const taut__frontier *f, const dp *d, const dp_layer *k, size_t i, bool up)
{
    const taut__point *p = taut__point_at(f, k->layer, 0);
    double             x = (p[d->point[k->first + i]].error - p[d->point[k->first]].error) / d->unit;
    x = up ? ceil(x) : floor(x);
    return x > (double)d->bins ? d->bins + 1 : (size_t)x;
}

/* Cost above the layer's cheapest survivor: small numbers, for the sake of float. */
static float extra(const taut__frontier *f, const dp *d, const dp_layer *k, size_t i)
{
    const taut__point *p = taut__point_at(f, k->layer, 0);
    return (float)ldexp(p[d->point[k->first + i]].cost - p[d->point[k->first + k->n - 1]].cost, -d->exponent);
}

static void fill_row(const taut__frontier *f, const dp *d, const dp_layer *k, bool up, const float *from, float *to)
{
    for (size_t b = 0; b <= d->bins; b++) to[b] = INFINITY;
    for (size_t i = 0; i < k->n; i++) {
        size_t s = shift(f, d, k, i, up);
        if (s <= d->bins) relax(to + s, from, extra(f, d, k, i), d->bins + 1 - s);
    }
}

static void backtrack(const taut__frontier *f, const dp *d, uint32_t *at)
{
    size_t b = d->bins, width = d->bins + 1;
    for (size_t k = d->layers; k-- > 0;) {
        const dp_layer *layer = &d->layer[k];
        const float    *from = d->value + k * width;
        float           here = d->value[(k + 1) * width + b];
        for (size_t i = 0; i < layer->n; i++) {
            size_t s = shift(f, d, layer, i, true);
            if (s > b || from[b - s] + extra(f, d, layer, i) != here) continue;
            at[layer->layer] = d->point[layer->first + i];
            b -= s;
            break;
        }
    }
}

/* Survivors, given hull's plan `at` of cost `upper`. at becomes the most exact survivor of every layer. */
static void prune(const taut__frontier *f, double multiplier, double upper, double bound, uint32_t *at, dp *d)
{
    double gap = (upper - bound) * (1 + 1e-9) + 1e-12 * fabs(upper);
    double most = 0; /* that a layer adds to its cheapest survivor */
    size_t n = 0;
    for (size_t l = 0; l < f->layers; l++) {
        const taut__point *p = taut__point_at(f, l, 0);
        double             least = INFINITY;
        size_t             first = n;
        for (size_t i = 0; i < taut__points(f, l); i++) least = fmin(least, p[i].cost + multiplier * p[i].error);
        for (uint32_t i = 0; i < taut__points(f, l); i++)
            if (p[i].cost + multiplier * p[i].error - least <= gap) d->point[n++] = i;
        d->base += p[d->point[n - 1]].cost;
        at[l] = d->point[first];
        if (n - first == 1) continue;
        d->layer[d->layers++] = (dp_layer){(uint32_t)l, first, n - first};
        d->survivors += n - first;
        most = fmax(most, p[d->point[first]].cost - p[d->point[n - 1]].cost);
    }
    d->exponent = most > 0 ? ilogb(most) : 0;
}

/* The programme itself. at: most exact survivors, in; best plan within the bins, out. */
static taut_status run(const taut__frontier *f, uint32_t bins, dp *d, uint32_t *at, double *bound)
{
    double error, cost, left, wanted;
    size_t width;
    taut__frontier_sum(f, at, &error, &cost);
    left = f->budget - error;
    if (d->layers == 0 || left <= 0) return TAUT_OK;
    wanted = ceil(bins * (double)d->layers * left / f->budget);
    d->bins = taut__max((size_t)fmin(wanted, (double)STEPS / (double)d->survivors),
                        taut__min(bins, (size_t)(bins * left / f->budget) + 1));
    d->unit = left / (double)d->bins;
    if (!(d->unit > 0)) return TAUT_OK; /* too little for any bin */
    width = d->bins + 1;
    d->value = taut__alloc((d->layers + 1) * width, sizeof *d->value);
    if (!d->value) return taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu bins of %zu layers", d->bins, d->layers);
    /* rounded down: nothing within the budget is cheaper than this, which is the bound; rows 0 and 1 alternate */
    for (size_t k = 0; k < d->layers; k++)
        fill_row(f, d, &d->layer[k], false, d->value + (k & 1) * width, d->value + (~k & 1) * width);
    double least = ldexp((double)d->value[(d->layers & 1) * width + d->bins], d->exponent);
    *bound = fmax(*bound, d->base + least * (1 - 1e-6 * (double)d->layers));
    memset(d->value, 0, width * sizeof *d->value);
    for (size_t k = 0; k < d->layers; k++)
        fill_row(f, d, &d->layer[k], true, d->value + k * width, d->value + (k + 1) * width);
    backtrack(f, d, at);
    return TAUT_OK;
}

taut_status taut__solve_dp(const taut__frontier *f, uint32_t bins, uint32_t *at, double *bound)
{
    double      multiplier, error, upper, cost;
    dp          d = {0};
    uint32_t   *mine = taut__alloc(f->layers, sizeof *mine);
    taut_status s;
    d.layer = taut__alloc(f->layers, sizeof *d.layer);
    d.point = taut__alloc(f->first[f->layers], sizeof *d.point);
    s = mine && d.layer && d.point ? taut__solve_hull(f, at, bound, &multiplier)
                                   : taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu layers", f->layers);
    if (s != TAUT_OK) goto out;
    taut__frontier_sum(f, at, &error, &upper);
    if (*bound >= upper || !isfinite(multiplier))
        goto out; /* beyond doubles: nothing tells survivors, hull's plan stands */
    prune(f, multiplier, upper, *bound, mine, &d);
    s = run(f, bins, &d, mine, bound);
    if (s != TAUT_OK) goto out;
    taut__frontier_sum(f, mine, &error, &cost);
    if (error <= f->budget && cost < upper) memcpy(at, mine, f->layers * sizeof *at);
    *bound = fmin(*bound, fmin(cost, upper));
out:
    taut__free(mine);
    taut__free(d.layer);
    taut__free(d.point);
    taut__free(d.value);
    return s;
}
