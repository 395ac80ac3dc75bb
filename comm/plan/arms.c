/* arms.c : plans of several kinds on offer at a time, and which of them carries the next step.
 *
 * The time model tells a plan that pays from one that does not, and which codecs may be the fastest; but codecs that differ
 * by less than it errs, and whether compressing pays at all where that is close, only measuring can tell. So one plan of each kind
 * is kept: the best of all; the best without an entropy coder, whose bits cost most cycles; the best of the codecs that cost
 * least; and where that is the best of all, as on a link that was taken for faster than it is, the best of those that send less for more
 * cycles. Those, and no compression, are the arms of scheduler/verdict.h. Whatever decides is agreed: seconds are means over
 * ranks, and come one exchange after the step that they are about. */
#include "../base/thread.h"
#include "auto_inside.h"
#include <math.h>
#include <string.h>

enum { ENTROPY = 1, OTHERS = 2, FAST = 3 }; /* arms; 0 is uncompressed */

void taut__arms_reset(taut__auto *a)
{
    taut__arms *m = &a->arms;
    taut__verdict_init(&m->verdict);
    memset(m->offer, 0, sizeof m->offer);
    m->there = false;
    m->now = 0;
    m->before = -1;
    m->seconds = 0;
}

taut_status taut__arms_room(taut__auto *a, size_t used, size_t room)
{
    taut__arms *m = &a->arms;
    bool        grown = taut__grow(&m->collective, 0, room, sizeof *m->collective);
    for (int i = 0; grown && i < TAUT_ARMS; i++) grown = taut__grow(&m->option[i], used, room, sizeof *m->option[i]);
    return grown ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "auto: out of memory for %zu layers", room);
}

void taut__arms_free(taut__auto *a)
{
    for (int i = 0; i < TAUT_ARMS; i++) taut__free(a->arms.option[i]);
    taut__free(a->arms.collective);
}

/* ---- plans ---- */

/* The arm that these options belong to. */
static int kind_of(const taut__auto *a, const uint32_t *option)
{
    uint32_t kinds = 0;
    bool     dense = true;
    for (size_t l = 0; l < a->layers; l++) {
        const taut__option *o = &a->offers->o.option[option[l]];
        if (a->layer_plans[l].out || o->dense) continue;
        dense = false;
        kinds |= o->kind;
    }
    return dense ? TAUT_ARM_DENSE : kinds & TAUT_KIND_ENTROPY ? ENTROPY : kinds & TAUT_KIND_OTHERS ? OTHERS : FAST;
}

static uint64_t hash_of(const taut__auto *a, const uint32_t *option)
{
    uint64_t hash = 0;
    for (size_t l = 0; l < a->layers; l++)
        hash = taut__plan_hash(hash, a->layer_plans[l].layer->name, a->offers->o.option[option[l]].spec);
    return hash;
}

/* options: of a plan that takes so long; it becomes that of its arm, if there is none yet. */
static void offer(taut__auto *a, const taut__demand *demand, const uint32_t *option, double seconds)
{
    taut__arms *m = &a->arms;
    int         arm = kind_of(a, option);
    if (m->offer[arm].offered) return;
    bool stands = m->there && arm == m->now && arm != TAUT_ARM_DENSE && kind_of(a, a->offers->current) == arm;
    if (stands && taut__auto_keep(a, demand, option)) {
        option = a->offers->current;
        taut__demand timed = *demand; /* seconds, whatever plans are chosen by */
        double       error;
        timed.objective = TAUT_OBJECTIVE_TIME;
        m->kept = arm;
        taut__appraise(&a->offers->o, &timed, option, &error, &seconds);
    }
    memcpy(m->option[arm], option, a->layers * sizeof *option);
    m->offer[arm] = (taut__arm_offer){true, seconds, hash_of(a, option)};
}

static taut_status offer_all(taut__auto *a)
{
    enum { TRIES = 4 };
    static const uint32_t leave_out[TRIES] = {0, TAUT_KIND_ENTROPY, TAUT_KIND_ENTROPY | TAUT_KIND_OTHERS,
                                              TAUT_KIND_FAST};
    taut__demand          demand = taut__auto_demand(a);
    bool                  time = a->objective == TAUT_OBJECTIVE_TIME;
    uint32_t             *option = taut__alloc(a->layers, sizeof *option);
    taut_status s = option ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "auto: out of memory for %zu layers", a->layers);
    memset(a->arms.offer, 0, sizeof a->arms.offer);
    demand.compressing = time;
    for (int i = 0; s == TAUT_OK && i < (time ? TRIES : 1); i++) {
        taut__decision d = {.option = option};
        if (i == TRIES - 1 && (a->arms.offer[ENTROPY].offered || a->arms.offer[OTHERS].offered)) break;
        demand.leave_out = leave_out[i];
        s = taut__decide(&a->offers->o, &demand, &d);
        if (s == TAUT_OK) offer(a, &demand, option, d.seconds);
        if (i > 0 || s != TAUT_OK || !time) continue;
        for (size_t l = 0; l < a->layers; l++) option[l] = (uint32_t)a->offers->o.layer[l].first; /* uncompressed */
        offer(a, &demand, option, d.dense_seconds);
    }
    taut__free(option);
    return s;
}

static double ms(const taut__arm_offer *o) { return o->offered ? 1e3 * o->predicted : 0; }

static void announce(const taut__auto *a)
{
    const taut__arm_offer *o = a->arms.offer;
    taut__log(TAUT_LOG_INFO, "sched",
              "step %llu: plan %llu: arm %d; predicted ms: uncompressed %.3f, with entropy coder %.3f, without %.3f, "
              "fast codecs %.3f (alpha %.1f us, %.2f GB/s)",
              (unsigned long long)a->step, (unsigned long long)a->plans, a->arms.now, ms(&o[0]), ms(&o[ENTROPY]),
              ms(&o[OTHERS]), ms(&o[FAST]), 1e6 * a->link.line.alpha, 1e-9 / a->link.line.beta);
}

taut_status taut__arms_plan(taut__auto *a)
{
    taut__arms *m = &a->arms;
    int         arm = 0;
    bool        there = m->there, kept;
    m->kept = 0;
    TAUT_TRY(offer_all(a));
    m->there = true;
    if (taut__auto_clockless(a)) taut__verdict_init(&m->verdict); /* what was predicted least before does not stand */
    taut__verdict_offer(&m->verdict, m->offer);
    arm = m->verdict.in_force;
    for (int i = 0; a->objective == TAUT_OBJECTIVE_BYTES && i < TAUT_ARMS; i++) arm = m->offer[i].offered ? i : arm;
    kept = there && arm == m->now && arm == m->kept;
    if (!kept) a->plans++;
    m->now = arm;
    memset(m->error_scale, 0, sizeof m->error_scale);
    if (kept)
        m->error_scale[arm] = taut__sets_strain(a); /* codecs stay as they are, tuned by this; so are the options */
    else m->kept = 0;
    m->codec_s = m->priced_s = 0;
    m->codec_steps = 0;
    announce(a);
    return taut__auto_put_in_force(a, m->option[arm], kept ? TAUT_PLAN_KEPT : TAUT_PLAN_NEW);
}

void taut__arms_learn(taut__auto *a, size_t l, uint32_t option)
{
    if (a->arms.there && a->arms.now > TAUT_ARM_DENSE) a->arms.option[a->arms.now][l] = option;
}

taut_status taut__arms_switch(taut__auto *a, int arm)
{
    taut__arms *m = &a->arms;
    if (a->stale && arm > TAUT_ARM_DENSE) return TAUT_OK; /* what it would make of these gradients is not known */
    if (!m->there || arm == m->now || a->objective != TAUT_OBJECTIVE_TIME || a->offers->o.layers != a->layers)
        return TAUT_OK;
    if (m->now >= 0) {
        double tuned = m->kept == m->now ? m->error_scale[m->now] : 0;
        m->error_scale[m->now] = taut__sets_strain(a) / (tuned > 0 ? tuned : 1);
    }
    m->kept = 0; /* from now on codecs are as the options have them */
    m->now = arm;
    bool first = !(m->error_scale[arm] > 0);
    if (!first) a->guard.error_scale = m->error_scale[arm];
    return taut__auto_put_in_force(a, m->option[arm], first ? TAUT_PLAN_NEW : TAUT_PLAN_SWITCHED);
}

/* ---- what communication took ---- */

/* Codec work of a layer under the plan: what it took, and what it was priced at. */
static void note_codec(taut__auto *a, const taut__link *link, size_t l, const taut__record *r)
{
    taut__arms         *m = &a->arms;
    const taut__option *o = &a->offers->o.option[m->option[m->now][l]];
    double              seconds;
    if (o->dense || !(r->encode_s + r->decode_s > 0)) return;
    m->codec_s += r->encode_s + r->decode_s;
    m->priced_s += taut__algorithm_codec_s(taut__algorithm_best(link, &o->work, &seconds), link->ranks, &o->work);
}

double taut__arms_crowd(const taut__auto *a)
{
    enum { ENOUGH = 3 };
    const double      least = 0.5, most = 4; /* other than a price can be wrong, or ranks be in each other's way */
    const taut__arms *m = &a->arms;
    if (m->codec_steps < ENOUGH || !(m->priced_s > 0)) return 0;
    return fmin(fmax(a->crowd * m->codec_s / m->priced_s, least), most);
}

/* Cycles that codecs took from this process's computing: what they worked while the program did not wait, and no more than the time
 * during which its thread was ready to run and did not. codec_s: of this step. */
static double taken_from_computing(taut__auto *a, double codec_s)
{
    taut__arms *m = &a->arms;
    double      exposed = a->planning->exposed_s, beside = codec_s - (exposed - m->exposed_mark), taken = 0, delay = 0;
    m->exposed_mark = exposed;
    if (m->beside || beside > 0) delay = taut__run_delay_s();
    if (m->delay_mark > 0 && beside > 0) taken = fmin(beside, delay - m->delay_mark);
    m->beside = beside > 0;
    m->delay_mark = delay;
    return fmax(taken, 0);
}

/* The layers that were summed, as a number; 0 for none. Their seconds by this rank's clock, and what they took from computing. */
static uint64_t measure(taut__auto *a, double *seconds)
{
    double       codec_s = 0;
    taut__demand demand = taut__auto_demand(a);
    bool         planned = a->arms.there && a->arms.now > TAUT_ARM_DENSE && a->offers->o.layers == a->layers;
    uint64_t     shape = 0;
    size_t       n = 0;
    *seconds = 0;
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_plan *t = &a->layer_plans[l];
        const taut__layer_sums *s = &t->layer->step;
        const taut__record     *r = t->layer->record;
        bool                    called = t->layer->called;
        if (t->out || !s->called) continue;
        shape = taut__mix64(shape ^ t->layer->index) | 1;
        if (called && isfinite(s->seconds)) a->arms.collective[n++] = (taut__collective){r->end_s, s->seconds};
        if (called && planned) note_codec(a, &demand.link, l, r);
        if (called) codec_s += r->encode_s + r->decode_s;
    }
    a->arms.codec_steps += planned;
    *seconds = taut__shared_seconds(a->arms.collective, n) + taken_from_computing(a, codec_s);
    return shape;
}

static void report(const taut__auto *a, int in_force, uint64_t withdrawals)
{
    const taut__verdict *v = &a->arms.verdict;
    if (v->in_force == in_force || !a->arms.there) return;
    taut__log(TAUT_LOG_INFO, "sched",
              "step %llu: communication takes %.2f times as long under arm %d as under arm %d%s",
              (unsigned long long)a->step, 1 / taut__trial_ratio(&v->trial), in_force, v->in_force,
              v->withdrawals > withdrawals ? ": the plan is withdrawn for now" : "");
}

int taut__arms_step(taut__auto *a, double seconds, bool counts)
{
    taut__arms *m = &a->arms;
    int         arm = m->now, in_force = m->verdict.in_force;
    uint64_t    withdrawals = m->verdict.withdrawals;
    if (a->objective == TAUT_OBJECTIVE_TIME && m->before >= 0) {
        taut__log(
            TAUT_LOG_TRACE, "sched",
            "step %llu: arm %d took %.3f ms in the step before (arm %d in force, trial of %d, %u pairs, ratio %.3f)",
            (unsigned long long)a->step, m->before, 1e3 * seconds, m->verdict.in_force, m->verdict.trial.arm,
            (unsigned)m->verdict.trial.pairs, taut__trial_ratio(&m->verdict.trial));
        arm = taut__verdict_step(&m->verdict, m->before, m->shape, seconds);
        report(a, in_force, withdrawals);
    }
    m->shape = measure(a, &m->seconds);
    m->before = counts && m->now >= 0 ? m->now : -1;
    if (m->before < 0) m->seconds = 0;
    return arm;
}
