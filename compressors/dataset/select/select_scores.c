/* select_scores.c : methods that use what a training run found about each sample (scores.h).
 *
 * el2n       : E|p(x) - onehot(y)|_2 early in training (Paul, Ganguli, Dziugaite, NeurIPS 2021, section 2): the hardest samples, but for a share
 *              `skip` of the very hardest, which are often wrong labels.
 * forgetting : how often a sample that was classified right became wrong again (Toneva et al., ICLR 2019, definition 1): the most forgotten.
 *              Those never right count as most.
 * infobatch  : samples of a loss below the mean are left out of a round with probability r = `prune`; those that stay weigh 1/(1-r) (Qin et al., ICLR
 *              2024, equations 2 and 4). Here the losses are those of the scores' run, exactly a part r is left out every round, and
 *              there is no phase of full data at the end (put rounds of `full` behind it). */
#include "select.h"
#include <math.h>
#include <stdio.h>

static taut_status column(const taut__select *s, const char *name, int *c)
{
    *c = taut__scores_column(s->scores, name);
    return *c >= 0 ? TAUT_OK : taut__scores_no_column(s->scores, s->method->name, name);
}

/* One number a place. */
static taut_status values(taut__select *s, const char *name, double **value)
{
    int c;
    TAUT_TRY(column(s, name, &c));
    if (!(*value = taut__alloc((size_t)s->pool->n, sizeof **value)))
        return taut__fail(TAUT_E_NOMEM, "%s: out of memory", s->method->name);
    for (uint64_t i = 0; i < s->pool->n; i++) {
        uint64_t id = s->pool->id ? s->pool->id[i] : i;
        (*value)[i] = s->scores->value[id * s->scores->columns + (uint64_t)c];
    }
    return TAUT_OK;
}

/* The largest, without the share `skip` that is larger still. Ties are broken at random: counts have many. */
static taut_status hardest(taut__select *s, const char *name, double skip)
{
    double     *value = NULL, *broken;
    uint64_t    n = s->pool->n, drop = (uint64_t)(skip * (double)n);
    taut_status status = values(s, name, &value);
    if (status != TAUT_OK) return status;
    if (drop + s->keep > n) drop = n - s->keep;
    if (!(broken = taut__alloc((size_t)n, sizeof *broken)))
        status = taut__fail(TAUT_E_NOMEM, "%s: out of memory", s->method->name);
    for (uint64_t i = 0; status == TAUT_OK && i < n; i++)
        broken[i] = value[i] + 1e-9 * fmax(1, fabs(value[i])) * taut__select_uniform(s, i);
    if (status == TAUT_OK && drop) { /* the very hardest go to the end */
        double *room = taut__alloc((size_t)n, sizeof *room), limit;
        if (!room) status = taut__fail(TAUT_E_NOMEM, "%s: out of memory", s->method->name);
        for (uint64_t i = 0; room && i < n; i++) room[i] = broken[i];
        limit = room ? taut__select_quantile(room, n, 1) : 0;
        if (room && drop < n) limit = room[n - drop];
        for (uint64_t i = 0; room && i < n; i++)
            if (broken[i] >= limit) broken[i] = -1e300;
        taut__free(room);
    }
    if (status == TAUT_OK) status = taut__select_extreme(s, broken, true);
    if (status == TAUT_OK) status = taut__select_compare(s, name, value);
    taut__free(value);
    taut__free(broken);
    return status;
}

static taut_status run_el2n(taut__select *s) { return hardest(s, "el2n", s->value[0]); }
static taut_status run_forgetting(taut__select *s) { return hardest(s, "forgetting", 0); }

static taut_status run_infobatch(taut__select *s)
{
    double     *value = NULL, mean = 0, r = s->value[0];
    uint64_t    n = s->pool->n, low = 0, stay;
    uint8_t    *below;
    taut_status status = values(s, "loss", &value);
    if (status != TAUT_OK) return status;
    for (uint64_t i = 0; i < n; i++) mean += value[i] / (double)n;
    if (!(below = taut__alloc((size_t)n, 1))) status = taut__fail(TAUT_E_NOMEM, "infobatch: out of memory");
    for (uint64_t i = 0; status == TAUT_OK && i < n; i++) low += below[i] = value[i] < mean;
    if (status == TAUT_OK && low == 0)
        status = taut__fail(TAUT_E_INVALID,
                            "infobatch: no sample has a loss below the mean of %g: all scores are alike", mean);
    if (status == TAUT_OK) status = taut__select_marked(s, below);
    if (status == TAUT_OK && !(s->weight = taut__alloc((size_t)low, sizeof *s->weight)))
        status = taut__fail(TAUT_E_NOMEM, "infobatch: out of memory");
    if (status == TAUT_OK) {
        stay = (uint64_t)((double)low * (1 - r) +
                          1e-9); /* rounded down: floor(low/stay) rounds then have no sample of these in common */
        if (stay == 0) stay = 1;
        for (uint64_t i = 0; i < low; i++) s->weight[i] = (float)((double)low / (double)stay);
        s->keep = n - low + stay;
        s->kind = TAUT__STAGE_PRUNE;
        s->criterion = "share of the samples that a round takes";
        s->chosen = (double)s->keep / (double)n, s->random = 1;
    }
    taut__free(value);
    taut__free(below);
    return status;
}

const taut__method taut__method_el2n = {
    .name = "el2n",
    .help = "the samples that the model of --scores is most wrong about (needs --scores)",
    .needs = TAUT__NEEDS_SCORES,
    .budget = TAUT__BUDGET_MUST,
    .key = {{"skip", NULL, 0, 0, 0.9, false}},
    .run = run_el2n,
};
const taut__method taut__method_forgetting = {
    .name = "forgetting",
    .help = "the samples that were learned and forgotten most often (needs --scores)",
    .needs = TAUT__NEEDS_SCORES,
    .budget = TAUT__BUDGET_MUST,
    .run = run_forgetting,
};
const taut__method taut__method_infobatch = {
    .name = "infobatch",
    .help = "every round all hard samples and another part of the easy ones, with weights (needs --scores)",
    .needs = TAUT__NEEDS_SCORES,
    .budget = TAUT__BUDGET_NONE,
    .key = {{"prune", NULL, 0.5, 0.001, 0.999, false}},
    .run = run_infobatch,
};
