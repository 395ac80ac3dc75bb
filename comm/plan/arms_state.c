/* arms_state.c : the plans on offer and what is known of their speed, in a checkpoint (visit.h). What a clock said of the step before is left out:
 * it is about another run's step. */
#include "auto_inside.h"

static void visit_offer(taut__visit *v, taut__arm_offer *o)
{
    taut__visit_bool(v, &o->offered);
    taut__visit_f64(v, &o->predicted);
    taut__visit64(v, &o->plan, UINT64_MAX);
}

static void visit_samples(taut__visit *v, taut__samples *s)
{
    taut__visit64(v, &s->shape, UINT64_MAX);
    taut__visit64(v, &s->at, UINT64_MAX);
    taut__visit_f64s(v, s->seconds, TAUT_RECENT);
    taut__visit_f64(v, &s->settled);
    taut__visit32(v, &s->n, UINT32_MAX);
    taut__visit32(v, &s->moved, UINT32_MAX);
}

static void visit_arm(taut__visit *v, taut__arm *a)
{
    visit_offer(v, &a->offer);
    taut__visit_bool(v, &a->fresh);
    taut__visit_bool(v, &a->tried);
    taut__visit64(v, &a->rests_until, UINT64_MAX);
    taut__visit32(v, &a->lost, UINT32_MAX);
    for (int i = 0; i < TAUT_SHAPES; i++) visit_samples(v, &a->samples[i]);
}

static void visit_trial(taut__visit *v, taut__trial *t)
{
    const double most = 1 - 1e-12; /* a ratio of times is finite */
    uint32_t     pairs = taut__visit32(v, &t->pairs, TAUT_PAIRS);
    taut__visit_int(v, &t->arm, -1, pairs < TAUT_PAIRS ? TAUT_ARMS - 1 : -1);
    for (int i = 0; i < TAUT_PAIRS; i++) taut__visit_within(v, &t->x[i], -most, most);
    taut__visit64(v, &t->began, UINT64_MAX);
}

static void visit_verdict(taut__visit *v, taut__verdict *d)
{
    for (int i = 0; i < TAUT_ARMS; i++) visit_arm(v, &d->arm[i]);
    taut__visit_int(v, &d->in_force, 0, TAUT_ARMS - 1);
    visit_trial(v, &d->trial);
    taut__visit64(v, &d->steps, UINT64_MAX);
    taut__visit64(v, &d->shape, UINT64_MAX);
    taut__visit64(v, &d->trials, UINT64_MAX);
    taut__visit64(v, &d->withdrawals, UINT64_MAX);
}

/* Arms that are not offered may hold options of earlier offers. */
static void visit_options(taut__visit *v, taut__auto *a, size_t options)
{
    for (int i = 0; i < TAUT_ARMS; i++)
        for (size_t l = 0; l < a->layers && !taut__visit_bad(v); l++) {
            uint32_t option = a->arms.option[i][l] < options ? a->arms.option[i][l] : 0;
            taut__visit32(v, &option, (uint32_t)(options - 1));
            if (taut__reads(v)) a->arms.option[i][l] = option;
        }
}

taut_status taut__arms_visit(taut__visit *v, taut__auto *a)
{
    taut__arms *m = &a->arms;
    bool        offers = a->offers != NULL && a->offers->o.layers == a->layers && a->offers->o.options > 0;
    size_t      options = 0;
    visit_verdict(v, &m->verdict);
    for (int i = 0; i < TAUT_ARMS; i++) visit_offer(v, &m->offer[i]);
    taut__visit_f64s(v, m->error_scale, TAUT_ARMS);
    taut__visit_int(v, &m->kept, 0, TAUT_ARMS - 1);
    taut__visit_int(v, &m->now, -1, TAUT_ARMS - 1);
    bool there = taut__visit_bool(v, &m->there);
    offers = taut__visit_bool(v, &offers);
    v->bad |= there && !offers;
    if (taut__reads(v)) {
        a->offers = offers ? taut__observer_last(a->observer) : NULL;
        m->before = -1, m->shape = 0, m->seconds = 0;
        m->codec_s = m->priced_s = 0, m->codec_steps = 0;
    }
    if (!offers || taut__visit_bad(v)) return TAUT_OK;
    TAUT_TRY(taut__offers_visit(v, a->observer, &options));
    v->bad |= options == 0;
    if (!taut__visit_bad(v)) visit_options(v, a, options);
    return TAUT_OK;
}
