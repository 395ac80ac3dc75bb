/* auto_plan.c : making a plan from agreed sums, and what is done before there is one. */
#include "auto_inside.h"
#include "../../compressors/candidates.h"

/* What the offers are made of, and what the reference makes, from the looks. */
static void describe(taut__auto *a, const double *sums)
{
    double p = a->ranks, relative = a->metric == TAUT_METRIC_PLAIN ? 0 : a->metric == TAUT_METRIC_OPTIMIZER ? p * p : 1;
    for (size_t l = 0; l < a->layers; l++) {
        taut__layer_plan *t = &a->layer_plans[l];
        taut_norm2 ratio = {t->ratio.plain < 0 ? 1 : t->ratio.plain, t->ratio.weighted < 0 ? 1 : t->ratio.weighted};
        if (a->budget.like && !(t->reference.rows && t->reference.fresh))
            t->reference.share = taut__observer_reference(a->observer, l, sums);
        a->aggregate[l] = (taut__aggregate){t->out,         ratio,   t->scaled,  relative,          &t->layer->spec,
                                            t->error_scale, t->made, t->carried, t->reference.share};
    }
}

/* A plan that stands as a whole may hold a basis that has gone stale, as measured bits say: that layer goes on without. */
static taut_status drop_stale(taut__auto *a, const double *sums)
{
    const double stale = 0.95; /* bits with it over bits without */
    bool         dropped = false;
    for (size_t l = 0; l < a->layers; l++) {
        const taut_spec *spec = &a->layer_plans[l].layer->spec;
        const double    *value = spec->stage[0].value;
        char             text[TAUT_SPEC_TEXT];
        if (a->layer_plans[l].out || taut__spec_basis(spec) == 0 ||
            taut__observer_basis(a->observer, l, sums, value[GRID_KEY_REL]) <= stale)
            continue;
        taut__grid_text(value[GRID_KEY_REL], (int)value[GRID_KEY_CODE], 0, text, sizeof text);
        TAUT_TRY(taut__auto_adopt(a, l, text));
        dropped = true;
    }
    if (!dropped) return TAUT_OK;
    taut__auto_error_scales(a);
    taut__auto_rehash(a);
    return TAUT_OK;
}

taut_status taut__auto_plan(taut__auto *a, const double *sums)
{
    describe(a, sums);
    TAUT_TRY(taut__observer_offers(a->observer, sums, a->aggregate, a->budget.rel, a->all_norms > 1 ? a->all_norms : 1,
                                   &a->offers));
    for (size_t l = 0; l < a->layers; l++) a->layer_plans[l].few = taut__observer_few_values(a->observer, l);
    if (!(a->offers->own2 > 0)) a->arms.there = false; /* no gradients yet; what stood on the last offers is gone */
    if (!(a->offers->own2 > 0)) return TAUT_OK;
    TAUT_TRY(taut__arms_plan(a));
    return drop_stale(a, sums);
}

void taut__auto_begin(taut__auto *a, size_t l)
{
    bool lossy = !(taut__spec_codec(&a->starter)->caps & TAUT_CAP_LOSSLESS);
    if (a->objective == TAUT_OBJECTIVE_BYTES && a->start_step == 0 && a->plans == 0 && lossy &&
        taut__observer_starter_suits(a->observer, l))
        taut__planned_adopt(a->layer_plans[l].layer, &a->starter);
}

/* Predicted seconds of layer l's collective, uncompressed. */
static double dense_seconds(const taut__auto *a, size_t l, const taut__link *link)
{
    taut__work dense = taut__work_dense(a->layer_plans[l].layer->tensor);
    double     seconds = 0;
    taut__force(a->set, NULL, &dense);
    if (!a->layer_plans[l].out) taut__algorithm_best(link, &dense, &seconds);
    return seconds;
}

/* Does it pay to know right away that a network is slow? Short steps had better tell how fast they are without a codec. */
static bool in_a_hurry(const taut__auto *a, const taut__link *link)
{
    const double long_s = 0.01;
    double       sum = 0;
    for (size_t l = 0; l < a->layers; l++) sum += dense_seconds(a, l, link);
    return a->objective == TAUT_OBJECTIVE_BYTES || sum > long_s;
}

bool taut__auto_starts(const taut__auto *a)
{
    taut__demand demand = taut__auto_demand(a);
    return a->step + 1 == taut__max(a->start_step, 1) && a->plans == 0 &&
           !(taut__spec_codec(&a->starter)->caps & TAUT_CAP_LOSSLESS) && in_a_hurry(a, &demand.link);
}

taut_status taut__auto_start(taut__auto *a)
{
    const double gain = 1.5; /* predicted */
    taut__demand demand = taut__auto_demand(a);
    char         text[TAUT_SPEC_TEXT];
    taut__spec_print(&a->starter, text, sizeof text);
    for (size_t l = 0; l < a->layers; l++) {
        taut__work coded;
        double     seconds;
        if (a->layer_plans[l].out || !taut__observer_starter_work(a->observer, l, &coded)) continue;
        taut__algorithm_best(&demand.link, &coded, &seconds);
        if (a->objective == TAUT_OBJECTIVE_TIME && gain * seconds > dense_seconds(a, l, &demand.link)) continue;
        TAUT_TRY(taut__auto_adopt(a, l, text));
        a->arms.now = -1;
    }
    taut__auto_rehash(a);
    return TAUT_OK;
}
