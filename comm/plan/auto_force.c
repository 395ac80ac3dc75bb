/* auto_force.c : what a plan demands, and putting one in force: codecs, error scales, single layers that go to safer codecs. */
#include "auto_inside.h"
#include "../../compressors/candidates.h"
#include <math.h>
#include <string.h>

enum { EARLY_GAP = 5, LATER_GAP = 20 }; /* steps between plans at least, and when planning is over its share of time */

/* A plan that stands and still meets the budget is kept unless a new one is this much cheaper. Where it has room left that steering will use, it is held
 * against the new one at equal error. */
static const double WORTH_CHANGING = 0.97;
static const double ELASTICITY = 0.6; /* of bytes: -d log(bytes) / d log(error) of grid at about a bit per element */

/* A new plan's errors are predictions: what can be tuned begins with this much of them, and steering takes the rest. */
static const double CAUTION = 0.85;

void taut__auto_plan_early(taut__auto *a, const char *why)
{
    uint64_t gap = a->can ? EARLY_GAP : LATER_GAP;
    uint64_t soonest = taut__max(a->step + 2, a->planned_at + gap); /* one step to measure in between */
    if (a->plan_at <= soonest) return;
    taut__log(TAUT_LOG_INFO, "sched", "step %llu: early plan after step %llu: %s", (unsigned long long)a->step,
              (unsigned long long)soonest, why);
    a->plan_at = soonest;
}

void taut__auto_changed(taut__auto *a, const char *how)
{
    if (a->plans == 0) return;
    a->stale = true;
    taut__auto_plan_early(a, how);
}

double taut__auto_own2(const taut__auto *a)
{
    double sum = 0;
    for (size_t l = 0; l < a->layers; l++) sum += fmax(a->layer_plans[l].own.plain, 0);
    return sum;
}

taut__demand taut__auto_demand(const taut__auto *a)
{
    /* below the budget, because the next steps' gradients are not those that were measured */
    double       budget = a->offers ? a->offers->budget2 * a->guard.target : 0;
    taut__demand d = {.budget = budget, .objective = a->objective, .solver = a->solver};
    d.link = (taut__link){.ranks = a->members, .slice_bytes = (double)a->slice_bytes};
    const taut__data_lines *there = &a->planning->ctx->lines; /* layers on a device go by its data half */
    bool                    known = there->sum.beta > 0 && !taut__auto_clockless(a);
    for (int v = 0; v < TAUT_VIAS; v++) d.link.line[v] = known ? there->move : a->link.line;
    d.link.line[TAUT_VIA_FIELDS] = known ? there->sum : (taut__line){0, 0};
    if (known) d.link.line[TAUT_VIA_NATIVE] = there->sum;
    return d;
}

/* Can all that loses something be steered? */
static bool can_be_tuned(const taut__auto *a)
{
    for (size_t l = 0; l < a->layers; l++)
        if (a->offers->o.option[a->offers->current[l]].error > 0 && !a->watch[l].tunable) return false;
    return true;
}

bool taut__auto_keep(const taut__auto *a, const taut__demand *demand, const uint32_t *option)
{
    double error, cost, new_error, new_cost;
    taut__appraise(&a->offers->o, demand, a->offers->current, &error, &cost);
    taut__appraise(&a->offers->o, demand, option, &new_error, &new_cost);
    if (error > demand->budget) return false;
    if (error > 0 && a->objective == TAUT_OBJECTIVE_BYTES && can_be_tuned(a))
        cost *= 1 + ELASTICITY * log(fmax(error / demand->budget, 0.5));
    return new_cost >= WORTH_CHANGING * cost;
}

taut_status taut__auto_adopt(taut__auto *a, size_t l, const char *text)
{
    taut_spec spec;
    char      old[TAUT_SPEC_TEXT];
    taut__spec_print(&a->layer_plans[l].layer->spec, old, sizeof old);
    if (a->layer_plans[l].out || strcmp(old, text) == 0) return TAUT_OK;
    taut__log(TAUT_LOG_INFO, "sched", "step %llu: %s: %s -> %s", (unsigned long long)a->step,
              a->layer_plans[l].layer->name, old, text);
    TAUT_TRY(taut__spec_parse(text, &spec));
    return taut__planned_adopt(a->layer_plans[l].layer, &spec);
}

void taut__auto_rehash(taut__auto *a)
{
    a->hash = 0;
    for (size_t l = 0; l < a->layers; l++) {
        char text[TAUT_SPEC_TEXT];
        taut__spec_print(&a->layer_plans[l].layer->spec, text, sizeof text);
        a->hash = taut__plan_hash(a->hash, a->layer_plans[l].layer->name, text);
    }
    a->check_hash = true;
}

static const taut_codec *codec_of(const taut__auto *a, size_t l)
{
    return taut__spec_codec(&a->layer_plans[l].layer->spec);
}

/* Codecs with a warm start begin without one, and make about twice the error at first: what else can be tuned makes room. */
static double room_for_cold(double planned, double cold)
{
    return planned > 2 * cold ? (planned - 2 * cold) / (planned - cold) : 0.5;
}

taut_status taut__auto_put_in_force(taut__auto *a, const uint32_t *chosen, taut__change change)
{
    const taut__observations *o = &a->offers->o;
    bool                      kept = change == TAUT_PLAN_KEPT;
    double                    planned = 0, cold = 0;
    for (size_t l = 0; l < a->layers; l++) {
        const taut__option *option = &o->option[chosen[l]];
        const taut_codec   *before = codec_of(a, l);
        if (!kept) TAUT_TRY(taut__auto_adopt(a, l, option->spec));
        planned += option->error;
        if (codec_of(a, l) != before && codec_of(a, l)->caps & TAUT_CAP_STATEFUL) cold += option->error;
        if (codec_of(a, l) != before) a->layer_plans[l].made = -1;
        a->layer_plans[l].planned = a->scratch[l] = option->error;
        a->layer_plans[l].expects = option->share;
    }
    if (change != TAUT_PLAN_SWITCHED) a->norm2_then = taut__auto_own2(a);
    if (change == TAUT_PLAN_NEW) a->guard.error_scale = CAUTION;
    if (!kept && cold > 0) a->guard.error_scale *= room_for_cold(planned, cold);
    memset(a->sets.last, 0, sizeof a->sets.last);
    if (!kept) taut__sets_begin(a, a->guard.error_scale);
    taut__auto_error_scales(a);
    for (size_t l = 0; kept && l < a->layers; l++) /* offers are of the codecs in force as they are tuned */
        a->layer_plans[l].expects /= taut__planned_asks(a->layer_plans[l].layer);
    taut__guard_allow(a->scratch, a->layers, a->watch);
    taut__auto_rehash(a);
    return TAUT_OK;
}

void taut__auto_error_scales(taut__auto *a)
{
    for (size_t l = 0; l < a->layers; l++)
        if (!a->layer_plans[l].out) taut__planned_scale_error(a->layer_plans[l].layer, a->layer_plans[l].error_scale);
}

/* The layer's own grid, finer; anything else: the cheapest option that is safe enough. */
static bool tuned(const taut__auto *a, size_t l, double factor, char *text)
{
    const double      finest = 1e-8; /* below, nothing is gained over none */
    const taut_spec  *spec = &a->layer_plans[l].layer->spec;
    const taut_stage *grid = &spec->stage[0];
    if (spec->stages != 1 || grid->codec != &taut__codec_grid || grid->given >> GRID_KEY_STEP & 1) return false;
    if (grid->value[GRID_KEY_REL] * factor < finest) {
        taut__snprintf(text, TAUT_SPEC_TEXT, "none");
        return true;
    }
    taut__grid_text(grid->value[GRID_KEY_REL] * fmin(factor, 1), (int)grid->value[GRID_KEY_CODE],
                    taut__spec_basis(spec), text, TAUT_SPEC_TEXT);
    return true;
}

/* Layer l's cheapest option whose error is `most` at most. */
static size_t safe_option(const taut__auto *a, size_t l, double most)
{
    const taut__observations *o = &a->offers->o;
    const taut__offer        *offer = &o->layer[l];
    taut__demand              demand = taut__auto_demand(a);
    size_t                    best = offer->first; /* uncompressed */
    double                    best_cost = INFINITY;
    for (size_t i = offer->first; i < offer->first + offer->n; i++) {
        double             error, cost;
        uint32_t           one = (uint32_t)i;
        taut__observations alone = {1, o->options, (taut__offer *)(uintptr_t)offer, o->option};
        if (o->option[i].error > most) continue;
        taut__appraise(&alone, &demand, &one, &error, &cost);
        if (cost >= best_cost) continue;
        best_cost = cost;
        best = i;
    }
    return best;
}

/* Offers are of the gradients that the plan was made for. Where these are gone, or lost nothing by any option, they do not tell which is
 * safer: then none of them is taken. */
static size_t safer_option(const taut__auto *a, size_t l, double most)
{
    const taut__layer_plan *t = &a->layer_plans[l];
    char                    now[TAUT_SPEC_TEXT];
    size_t                  uncompressed = a->offers->o.layer[l].first, best = safe_option(a, l, most);
    taut__spec_print(&t->layer->spec, now, sizeof now);
    return a->stale || !(t->planned > 0) || strcmp(a->offers->o.option[best].spec, now) == 0 ? uncompressed : best;
}

taut_status taut__auto_safer(taut__auto *a, size_t l, double factor)
{
    double most = a->layer_plans[l].planned * factor;
    char   finer[TAUT_SPEC_TEXT];
    if (!a->offers || a->offers->o.layers != a->layers) return TAUT_OK;
    size_t best = safer_option(a, l, most);
    taut__arms_learn(a, l, (uint32_t)best);
    if (tuned(a, l, factor, finer)) {
        a->layer_plans[l].planned = most;
        a->layer_plans[l].expects *= fmin(factor, 1);
        return taut__auto_adopt(a, l, finer);
    }
    a->layer_plans[l].planned = a->offers->o.option[best].error;
    a->layer_plans[l].expects = a->offers->o.option[best].share;
    return taut__auto_adopt(a, l, a->offers->o.option[best].spec);
}
