/* auto_sets.c : jobs whose steps do not all sum the same layers: accumulation, models that take turns, parts that are frozen. A step's budget is that
 * of the layers that it sums, and a plan is made for all layers together; so what is over in one set of layers and under in another has to
 * be put right in each. Steering moves the layers of the step that was measured, and no others; and a new plan begins with what the sets that
 * were seen lately can spend. Where all steps sum the same layers there is one set, and one scale. */
#include "auto_inside.h"
#include <math.h>

static const double SCALE_MIN = 0.02, SCALE_MAX = 20; /* as the guard's */

static bool summed(const taut__layer_plan *t) { return !t->out && t->layer->step.called; }

void taut__sets_reset(taut__auto *a)
{
    a->sets = (taut__sets){0};
    for (size_t l = 0; l < a->layers; l++) {
        a->layer_plans[l].error_scale = a->layer_plans[l].began = 1;
        a->layer_plans[l].sets = 0;
    }
}

/* The one that was not seen for longest makes room. */
static uint32_t find(const taut__sets *s, uint64_t shape)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < TAUT_SETS; i++) {
        if (s->shape[i] == shape) return i;
        if (s->at[i] < s->at[k]) k = i;
    }
    return k;
}

void taut__sets_note(taut__auto *a)
{
    taut__sets *s = &a->sets;
    uint64_t    shape = 0;
    for (size_t l = 0; l < a->layers; l++)
        if (summed(&a->layer_plans[l])) shape = taut__mix64(shape ^ l) | 1;
    if (shape == 0) return;
    s->now = find(s, shape);
    if (s->shape[s->now] != shape) s->last[s->now] = 0;
    s->shape[s->now] = shape;
    s->at[s->now] = a->step + 1;
    for (size_t l = 0; l < a->layers; l++) {
        taut__layer_plan *t = &a->layer_plans[l];
        t->sets = (t->sets & ~(1u << s->now)) | (uint32_t)summed(t) << s->now;
    }
}

/* Of the layers that were summed, the one that may err most stands for all. */
static taut__layer_plan *speaker(const taut__auto *a)
{
    size_t best = SIZE_MAX;
    for (size_t l = 0; l < a->layers; l++)
        if (summed(&a->layer_plans[l]) && (best == SIZE_MAX || a->watch[l].share > a->watch[best].share)) best = l;
    return best == SIZE_MAX ? NULL : &a->layer_plans[best];
}

double taut__sets_strain(const taut__auto *a)
{
    const taut__layer_plan *t = speaker(a);
    return t ? t->error_scale / t->began : a->guard.error_scale;
}

void taut__sets_before(taut__auto *a)
{
    const taut__layer_plan *t = speaker(a);
    if (t) a->guard.error_scale = t->error_scale;
    a->guard.last = a->sets.last[a->sets.now];
}

void taut__sets_after(taut__auto *a)
{
    const taut__layer_plan *t = speaker(a);
    double                  before = t ? t->error_scale : 1, now = a->guard.error_scale;
    a->sets.last[a->sets.now] = a->guard.last;
    for (size_t l = 0; l < a->layers; l++) {
        double *scale = &a->layer_plans[l].error_scale;
        if (!summed(&a->layer_plans[l])) continue;
        *scale = *scale == before ? now : fmin(fmax(*scale * now / before, SCALE_MIN), SCALE_MAX);
        if (a->layer_plans[l].few)
            *scale = fmin(*scale, 1); /* a smaller error is no sign of what a coarser step would make */
    }
}

/* Of what set k may spend, over what the plan expects of it; at most 1. */
static double afford(const taut__auto *a, uint32_t k)
{
    double planned = 0, budget = 0;
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_plan *t = &a->layer_plans[l];
        if (t->out || !(t->sets >> k & 1)) continue;
        planned += t->planned;
        budget += a->offers->budget[l];
    }
    return planned > 0 ? fmin(fmax(budget * a->guard.target / planned, SCALE_MIN), 1) : 1;
}

void taut__sets_begin(taut__auto *a, double scale)
{
    for (size_t l = 0; l < a->layers; l++) a->layer_plans[l].began = 1;
    for (uint32_t k = 0; k < TAUT_SETS; k++) {
        bool   lately = a->sets.shape[k] != 0 && a->step + 1 - a->sets.at[k] <= 2 * (uint64_t)a->replan_steps;
        double share = lately ? afford(a, k) : 1;
        for (size_t l = 0; l < a->layers; l++) {
            taut__layer_plan *t = &a->layer_plans[l];
            if (t->sets >> k & 1) t->began = fmin(t->began, share);
        }
    }
    for (size_t l = 0; l < a->layers; l++) a->layer_plans[l].error_scale = scale * a->layer_plans[l].began;
}
