/* plan_hull.c : Lagrangian relaxation over each layer's lower convex hull, then a greedy repair.
 *
 * min sum cost + lambda * sum error splits into layers (Everett, Operations Research 11(3), 1963, theorem 1). Its
 * solutions for all lambda are the vertices of the layers' lower convex hulls, and walking lambda downwards means
 * taking hull steps in order of cost saved per error (Sinha & Zoltners' greedy for the multiple-choice knapsack, 1979).
 * The first step that no longer fits gives lambda and, taken in part, the relaxed optimum: the bound.
 * The whole steps before it are a plan within the budget. What it leaves of the budget is then spent greedily, once
 * without that step and once with it and cheaper ones undone; the better plan stays.
 *
 * Example, as (error, cost): layer A has (0,10) (2,5) (3,1), layer B (0,10) (1,8) (4,3); the budget is 6. A's hull skips (2,5), which
 * lies above the line from (0,10) to (3,1). Steps by cost saved per error: A to (3,1), 3; B to (1,8), 2; B to (4,3), 5/3. The first two
 * fit: error 4, cost 9, and 2 are left; the third needs 3. Bound: 9 - 2 * 5/3 = 5.67. Repair without the third step: nothing cheaper
 * fits into 2. With it, 1 is missing, so A's step is undone, which leaves 2: A goes to (2,5) and the plan costs 8. It stays, and is the
 * optimum. */
#include "frontier.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct hull_step {
    double   slope;           /* cost saved per error */
    double   error, saved;    /* added error, saved cost */
    uint32_t layer, from, to; /* positions in the layer's Pareto set */
} hull_step;

static int by_slope(const void *a, const void *b)
{
    const hull_step *x = a, *y = b;
    if (x->slope != y->slope) return x->slope > y->slope ? -1 : 1;
    if (x->layer != y->layer) return x->layer < y->layer ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

static hull_step step_between(const taut__point *p, uint32_t layer, uint32_t from, uint32_t to)
{
    hull_step s = {0, p[to].error - p[from].error, p[from].cost - p[to].cost, layer, from, to};
    s.slope = s.saved / s.error;
    return s;
}

/* Appends the hull steps of one layer to s; the Pareto set is in order, so this is Andrew's monotone chain. */
static size_t layer_steps(const taut__frontier *f, size_t layer, hull_step *s)
{
    const taut__point *p = taut__point_at(f, layer, 0);
    size_t             n = 0;
    for (uint32_t i = 1; i < taut__points(f, layer); i++) {
        hull_step next = step_between(p, (uint32_t)layer, n ? s[n - 1].to : 0, i);
        while (n > 0 && next.slope >= s[n - 1].slope) {
            n--;
            next = step_between(p, (uint32_t)layer, s[n].from, i);
        }
        s[n++] = next;
    }
    return n;
}

/* Spend what the budget leaves on any Pareto point that fits: passes over the layers, largest possible saving first. */
typedef struct saving {
    double   saved;
    uint32_t layer;
} saving;

static int by_saving(const void *a, const void *b)
{
    const saving *x = a, *y = b;
    if (x->saved != y->saved) return x->saved > y->saved ? -1 : 1;
    return x->layer < y->layer ? -1 : x->layer > y->layer;
}

static uint32_t cheapest_within(const taut__frontier *f, size_t layer, uint32_t from, double left)
{
    const taut__point *p = taut__point_at(f, layer, 0);
    uint32_t           i = from;
    while (i + 1 < taut__points(f, layer) && p[i + 1].error - p[from].error <= left) i++;
    return i;
}

static double slack(const taut__frontier *f, const uint32_t *at)
{
    double error, cost;
    taut__frontier_sum(f, at, &error, &cost);
    return f->budget - error;
}

static void refill(const taut__frontier *f, uint32_t *at, saving *order)
{
    enum { PASSES = 16 };
    for (int pass = 0; pass < PASSES; pass++) {
        double left = slack(f, at);
        size_t n = 0;
        for (size_t l = 0; l < f->layers; l++) {
            uint32_t to = cheapest_within(f, l, at[l], left);
            if (to > at[l])
                order[n++] = (saving){taut__point_at(f, l, at[l])->cost - taut__point_at(f, l, to)->cost, (uint32_t)l};
        }
        if (n == 0) return;
        qsort(order, n, sizeof *order, by_saving);
        for (size_t i = 0; i < n; i++) {
            uint32_t l = order[i].layer, to = cheapest_within(f, l, at[l], left);
            left -= taut__point_at(f, l, to)->error - taut__point_at(f, l, at[l])->error;
            at[l] = to;
        }
    }
}

/* Steps s[0..split) are taken in `at`. Take s[split] too and undo the least efficient of the others until it fits.
 * False if it cannot fit. */
static bool swap_in(const taut__frontier *f, const hull_step *s, size_t split, uint32_t *at)
{
    double left = slack(f, at) - s[split].error;
    for (size_t i = split; left < 0 && i-- > 0;) {
        if (s[i].layer == s[split].layer) continue;
        left += s[i].error;
        at[s[i].layer] = s[i].from;
    }
    at[s[split].layer] = s[split].to;
    return left >= 0;
}

/* Differences of sums may round the other way than the sum itself: give back until the sum fits. */
static void enforce(const taut__frontier *f, uint32_t *at)
{
    for (size_t l = 0; l < f->layers && slack(f, at) < 0; l++) at[l] = 0;
}

static double cost_of(const taut__frontier *f, const uint32_t *at)
{
    double error, cost;
    taut__frontier_sum(f, at, &error, &cost);
    return cost;
}

static void repair(const taut__frontier *f, const hull_step *s, size_t n, size_t split, uint32_t *at, uint32_t *other,
                   saving *order)
{
    double left = slack(f, at);
    bool   swapped;
    memcpy(other, at, f->layers * sizeof *at);
    swapped = swap_in(f, s, split, other);
    for (size_t i = split + 1; i < n; i++)
        if (at[s[i].layer] == s[i].from && s[i].error <= left) {
            at[s[i].layer] = s[i].to;
            left -= s[i].error;
        }
    refill(f, at, order);
    enforce(f, at);
    if (!swapped) return;
    refill(f, other, order);
    enforce(f, other);
    if (cost_of(f, other) < cost_of(f, at)) memcpy(at, other, f->layers * sizeof *at);
}

/* *multiplier: lambda, cost per error; 0 when the budget does not bind. */
taut_status taut__solve_hull(const taut__frontier *f, uint32_t *at, double *bound, double *multiplier)
{
    size_t      n = 0, i = 0;
    hull_step  *s = taut__alloc(f->first[f->layers], sizeof *s);
    uint32_t   *other = taut__alloc(f->layers, sizeof *other);
    saving     *order = taut__alloc(f->layers, sizeof *order);
    double      left, cost;
    taut_status status = TAUT_OK;
    if (!s || !other || !order) {
        status = taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu layers", f->layers);
        goto out;
    }
    for (size_t l = 0; l < f->layers; l++) n += layer_steps(f, l, s + n);
    qsort(s, n, sizeof *s, by_slope);
    memset(at, 0, f->layers * sizeof *at);
    cost = cost_of(f, at);
    left = slack(f, at);
    for (; i < n && s[i].error <= left; i++) {
        at[s[i].layer] = s[i].to;
        left -= s[i].error;
        cost -= s[i].saved;
    }
    enforce(f, at);
    *multiplier = i < n ? s[i].slope : 0;
    *bound = i < n ? cost - left / s[i].error * s[i].saved : cost; /* a slope may be infinite, such a part is not */
    if (i < n) repair(f, s, n, i, at, other, order);
    *bound = fmin(*bound, cost_of(f, at));
out:
    taut__free(s);
    taut__free(other);
    taut__free(order);
    return status;
}
