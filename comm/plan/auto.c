/* auto.c : codec=auto: hooks of the communicator. Everything that decides comes from agreed values.
 *
 * Each step: some layers' samples are looked at as they go through (on_input, contribute); the step's measured errors are held against its
 * budget, and layers over their share move to safer codecs at once (auto_guard.c). Every replan_steps, or early when norms changed or the
 * guard acted, all ranks' looks are added up and every rank makes the same plan from the sums. */
#include "auto_inside.h"
#include <math.h>
#include <string.h>

enum {
    LOOKS = 2,       /* per layer between plans */
    SCALE_STEPS = 4, /* before them an optimizer has no scale, or one from a single gradient, which is mostly noise */
    LOOK_STEPS = 2,  /* before the first plan: what inputs have in common */
    DENSE_STEPS = 2, /* before a plan that is to save time, after the one that connects: what steps take without it */
    V_HASH = 8,      /* four pieces of the hash and their squares */
    V_LINK = 3,      /* alpha, beta, how much slower codecs are among each other */
};
static const double CAREFUL =
    0.01;                          /* rel: below, start uncompressed; 8 bits make 0.00015 to 0.00017 on the GPT trace */
static const double COARSE = 0.15; /* from there on 4 bits, which make 0.04, and less than half of it at first */
static const double SKETCHES = 0.01; /* of bytes at 2 bits per element: looks at low rank, a layer at a time */
static const double SHARE = 0.003; /* of the run's time that measuring and planning may take before they become rare */

/* ---- creation ---- */

static taut_status read_settings(taut__auto *a, const taut__settings *set)
{
    TAUT_TRY(taut__budget_parse(set->c.budget, &a->budget));
    a->metric = (taut__metric)set->metric;
    a->objective = (taut__objective)set->objective;
    TAUT_TRY(taut__spec_parse("none", &a->none));
    TAUT_TRY(taut__link_parse(set->c.link, &a->assumed));
    a->solver = set->c.solver;
    a->replan_steps = set->c.replan_steps;
    a->start_step = set->c.start_step;
    a->slice_bytes = (size_t)set->c.slice_kib * 1024 / TAUT_CODED_SLICE_DIV;
    if (!a->budget.like)
        return taut__spec_parse(a->budget.rel < CAREFUL  ? "none"
                                : a->budget.rel < COARSE ? "quant:bits=8"
                                                         : "quant:bits=4",
                                &a->starter);
    TAUT_TRY(taut__spec_parse(a->budget.reference, &a->reference));
    a->starter = a->reference;
    if (a->reference.automatic || (taut__spec_codec(&a->reference)->caps & TAUT_CAP_LOSSLESS))
        return taut__fail(TAUT_E_INVALID, "budget '%s': the reference must be a codec that makes an error",
                          set->c.budget);
    return TAUT_OK;
}

static void destroy(taut__auto *a)
{
    if (!a) return;
    taut__observer_destroy(a->observer);
    taut__bench_fini(&a->bench);
    for (size_t l = 0; l < a->layers; l++) taut__reference_fini(&a->layer_plans[l].reference);
    taut__free(a->layer_plans);
    taut__free(a->watch);
    taut__free(a->scratch);
    taut__free(a->aggregate);
    taut__free(a->span);
    taut__arms_free(a);
    taut__free(a);
}

static taut_status create(taut__planning *planning, const taut__settings *set, taut__auto **self)
{
    taut__auto *a;
    taut_status s;
    *self = NULL;
    if (!set->spec.automatic || planning->ctx->all.size < 2) return TAUT_OK; /* alone there is nothing to send */
    a = taut__alloc(1, sizeof *a);
    if (!a) return taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    a->planning = planning;
    a->set = set;
    a->ranks = planning->ctx->all.size;
    a->members = planning->members;
    taut__guard_init(&a->guard);
    taut__arms_reset(a);
    a->all_norms = -1;
    a->crowd = 1;
    a->created_s = taut__now();
    s = read_settings(a, set);
    a->plan_at = a->start_step > 0 ? a->start_step - 1 : 0;
    if (a->objective == TAUT_OBJECTIVE_TIME) a->plan_at += DENSE_STEPS;
    else a->plan_at += LOOK_STEPS;
    if (s == TAUT_OK)
        s = taut__observer_create(set, a->budget.like ? &a->reference : NULL, &a->starter, a->members, &a->observer);
    if (s != TAUT_OK) {
        destroy(a);
        return s;
    }
    *self = a;
    return TAUT_OK;
}

/* ---- layers ---- */

static taut_status make_room(taut__auto *a)
{
    size_t room = 2 * a->room + 64, n = a->layers;
    if (n < a->room) return TAUT_OK;
    if (!taut__grow(&a->layer_plans, n, room, sizeof *a->layer_plans) ||
        !taut__grow(&a->watch, n, room, sizeof *a->watch) || !taut__grow(&a->scratch, n, room, sizeof *a->scratch) ||
        !taut__grow(&a->aggregate, n, room, sizeof *a->aggregate) || !taut__grow(&a->span, n, room, sizeof *a->span))
        return taut__fail(TAUT_E_NOMEM, "auto: out of memory for %zu layers", room);
    TAUT_TRY(taut__arms_room(a, n, room));
    a->room = room;
    return TAUT_OK;
}

static taut_status add(taut__auto *a, taut__planned *layer)
{
    TAUT_TRY(make_room(a));
    TAUT_TRY(taut__observer_add(a->observer, layer->name, layer->tensor, layer->axes, layer->careful));
    a->layer_plans[a->layers] = (taut__layer_plan){
        .layer = layer, .made = -1, .ratio = {-1, -1}, .own = {-1, -1}, .error_scale = 1, .began = 1};
    if (a->budget.like && !layer->careful)
        TAUT_TRY(taut__reference_watch(&a->layer_plans[a->layers].reference, &a->reference, layer));
    a->watch[a->layers] = (taut__watch){0};
    a->layers++;
    a->offers = NULL; /* they are of fewer layers, and so is what stood on them */
    a->arms.there = false;
    if (a->plans > 0) a->plan_at = a->step + 1; /* a newcomer: measured in the coming step */
    taut__auto_begin(a, a->layers - 1);
    return taut__observer_arm(a->observer, a->layers - 1, 0, false);
}

/* The layers from `n` on, which were registered last: what they point at is about to go. */
static void forget(taut__auto *a, size_t n)
{
    while (a->layers > n) taut__reference_fini(&a->layer_plans[--a->layers].reference);
    taut__observer_forget(a->observer, n);
}

static taut_status on_register(taut__auto *a, taut__planned *layer)
{
    size_t      n = a->layers;
    taut_status s = add(a, layer);
    if (s != TAUT_OK) forget(a, n);
    return s;
}

static bool plans_for(const taut__auto *a, size_t l, const taut__planned *layer)
{
    return a->layer_plans[l].layer == layer && !a->layer_plans[l].out;
}

static size_t find(const taut__auto *a, const taut__planned *layer)
{
    size_t hint = layer->index, n = a->layers;
    if (hint < n && plans_for(a, hint, layer)) return hint; /* where no layer is fused or pinned */
    for (size_t l = n; l-- > 0;) /* registration order, with others in between; a layer that came back is a newcomer */
        if (plans_for(a, l, layer)) return l;
    return SIZE_MAX;
}

static void on_exclude(taut__auto *a, taut__planned *layer)
{
    size_t l = find(a, layer);
    if (l == SIZE_MAX) return;
    a->layer_plans[l].out = true;
    taut__observer_disarm(a->observer, l);
}

static void on_forget(taut__auto *a, taut__planned *layer)
{
    size_t l = find(a, layer);
    if (l != SIZE_MAX && l + 1 == a->layers) forget(a, l);
}

/* What was planned in another unit would make an error that nobody planned: uncompressed, until a plan is made in this one, which is soon. A plan
 * from a checkpoint waits for the scale that it was made with. */
static void on_rescale(taut__auto *a, taut__planned *layer)
{
    if (a->plans == 0 || a->loaded || a->planned_at >= a->step || find(a, layer) == SIZE_MAX) return;
    taut__planned_adopt(layer, &a->none);
    a->arms.there = false;
}

static bool wants(const taut__auto *a, const taut__planned *layer)
{
    size_t l = find(a, layer);
    return l != SIZE_MAX && taut__observer_armed(a->observer, l);
}

static void on_input(taut__auto *a, taut__planned *layer, const float *x, const float *gradient, size_t first, size_t n)
{
    size_t l = find(a, layer);
    double start = taut__now();
    if (l != SIZE_MAX) taut__observer_feed(a->observer, l, x, gradient, first, n);
    a->busy_s += taut__now() - start;
}

/* ---- the step's exchange ---- */

static void measure(taut__auto *a)
{
    double start = taut__now();
    for (size_t l = 0; l < a->layers; l++)
        if (taut__observer_measure(a->observer, l) != TAUT_OK)
            taut__log(TAUT_LOG_WARN, "sched", "%s: not measured: %s", a->layer_plans[l].layer->name, taut_last_error());
    a->busy_s += taut__now() - start;
}

/* Equal numbers, and only those, have p * sum of squares = square of the sum; pieces of 16 bits keep that exact. */
static void put_hash(const taut__auto *a, double *v)
{
    for (int i = 0; i < V_HASH / 2; i++) {
        double piece = (double)(a->hash >> (16 * i) & 0xffff);
        v[2 * i] = piece;
        v[2 * i + 1] = piece * piece;
    }
}

static bool hashes_agree(const taut__auto *a, const double *v)
{
    for (int i = 0; i < V_HASH / 2; i++)
        if (v[2 * i] * v[2 * i] != v[2 * i + 1] * a->ranks) return false;
    return true;
}

/* To plan with: the link, and what was seen. */
static size_t put_seen(taut__auto *a, double *v)
{
    size_t        values;
    const double *seen = taut__observer_vector(a->observer, &values);
    if (!v) return V_LINK + values;
    if (!taut__auto_clockless(a)) taut__refine_take(&a->link);
    v[0] = a->link.line.alpha;
    v[1] = a->link.line.beta;
    v[2] = a->crowd;
    if (values > 0) memcpy(v + V_LINK, seen, values * sizeof *seen); /* no planned layer: nothing */
    for (size_t l = 0; l < a->layers; l++) /* histograms are added: in windows on which all ranks agree */
        taut__observer_align(a->observer, l, a->layer_plans[l].own.weighted, v + V_LINK);
    return V_LINK + values;
}

/* In this order: the hash, after a plan; seconds by which measuring is over its share, low rank, if it is due; seconds of communication in the step
 * before, the reference of a like: budget, and what a plan is made of, if one is. */
static void contribute(taut__auto *a, double *v, taut__contribution *n)
{
    bool   plan = a->step >= a->plan_at;
    double own = v && !taut__auto_clockless(a) ? a->busy_s - SHARE * (taut__now() - a->created_s) : -1;
    if (!v) measure(a);
    if (!v && plan && !taut__auto_clockless(a)) taut__probe_again(a);
    *n = (taut__contribution){.exact = a->check_hash ? V_HASH : 0};
    if (v && a->check_hash) put_hash(a, v);
    if (v) v += n->exact, *v++ = own;
    n->shorts = taut__observer_sketch(a->observer, v);
    if (v) v += n->shorts, *v++ = a->arms.seconds;
    n->codes = 1 + taut__auto_reference_put(a, v);
    n->usual = sizeof(uint32_t) + sizeof(uint16_t) * n->codes;
    n->rare = n->exact > 0 || n->shorts > 0 || plan;
    n->shorts++;
    if (plan) n->codes += put_seen(a, v ? v + n->codes - 1 : NULL);
}

/* ---- end of a step ---- */

/* For the link: what each collective took. */
static void note_spans(taut__auto *a)
{
    size_t spans = 0;
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_sums *s = &a->layer_plans[l].layer->step;
        const taut__record     *r = a->layer_plans[l].layer->record;
        bool                    called = a->layer_plans[l].layer->called;
        if (called && !a->layer_plans[l].out && s->seconds > 0 &&
            s->seconds <= r->end_s) /* without waiting for the last rank to begin */
            a->span[spans++] =
                (taut__span){r->end_s - s->seconds, r->end_s, (double)r->bytes_sent, r->encode_s + r->decode_s};
    }
    taut__refine_step(&a->link, a->span, spans);
}

/* Did a layer gain or lose its scale in this step? Then its errors are in another unit, and so is grid's `rel`. */
static bool rescaled(const taut__auto *a)
{
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_plan *t = &a->layer_plans[l];
        bool                    now = a->metric == TAUT_METRIC_OPTIMIZER && t->layer->tensor->scale_n > 0;
        if (!t->out && now != t->scaled) return true;
    }
    return false;
}

/* An optimizer's first scales come from too few gradients: the first plan waits for better ones. */
static bool scale_is_young(const taut__auto *a)
{
    uint64_t first = a->start_step > 0 ? a->start_step - 1 : 0;
    if (a->plans > 0 || a->metric != TAUT_METRIC_OPTIMIZER || a->step >= first + SCALE_STEPS) return false;
    for (size_t l = 0; l < a->layers; l++)
        if (!a->layer_plans[l].out && a->layer_plans[l].layer->tensor->scale_n > 0) return true;
    return false;
}

/* One layer at a time, in turn, as bytes allow; in the uncompressed first steps, which send sixteen times as many, more often. */
static size_t lowrank_turn(taut__auto *a)
{
    double bytes = 0;
    size_t l = a->sketch_turn % a->layers;
    double cost = 8.0 * (double)taut__observer_sketch_size(a->observer, l) *
                  ceil(log2(a->ranks)); /* in every round of the exchange */
    for (size_t i = 0; i < a->layers; i++)
        bytes += (double)a->layer_plans[i].layer->tensor->elems / 4 * (a->arms.now != TAUT_ARM_DENSE ? 1 : 16);
    a->sketch_bytes += SKETCHES * bytes;
    if (!a->can || a->layer_plans[l].out || a->sketch_bytes < cost) {
        a->sketch_turn += a->layer_plans[l].out;
        return SIZE_MAX;
    }
    a->sketch_bytes -= cost;
    a->sketch_turn++;
    return l;
}

/* Bases are made where bytes are what counts, since a change of basis takes more time than its bits save on any link but the slowest, and where the
 * program gives a momentum: from results, plans with them trained worse (docs/results.md). A matrix whose shorter side is hardly longer than the
 * directions has nothing left over. */
static void want_bases(taut__auto *a)
{
    enum { DIRECTIONS = 32, LEAST_SIDE = 48 };
    bool wanted = a->objective == TAUT_OBJECTIVE_BYTES;
    for (size_t l = 0; l < a->layers; l++) {
        taut__planned *p = a->layer_plans[l].layer;
        size_t         side = taut__min(p->tensor->rows, p->tensor->cols);
        if (a->layer_plans[l].out || p->directions > 0) continue;
        p->directions = wanted && p->basis_given && side >= LEAST_SIDE ? DIRECTIONS : 0;
    }
}

/* Which layers to measure in the coming step. */
static taut_status arm_looks(taut__auto *a)
{
    uint64_t next = a->step + 1, every = taut__max(a->replan_steps / LOOKS, 1);
    bool     late = a->plan_at <= next + 1; /* every plan rests on two fresh looks */
    size_t   lowrank = lowrank_turn(a);
    a->planning->apart = late;
    for (size_t l = 0; l < a->layers; l++) {
        bool due = (next + l) % every == 0;
        if (a->layer_plans[l].out || !(late || l == lowrank || (due && a->can))) continue;
        TAUT_TRY(taut__observer_arm(a->observer, l, next, l == lowrank));
    }
    return TAUT_OK;
}

/* A plan that cannot be made, on any rank, since all make it of the same numbers, leaves the last one, or none, in force. */
static taut_status plan(taut__auto *a, double *v)
{
    taut_status s;
    for (size_t l = 0; l < a->layers; l++) taut__observer_aligned(a->observer, l, v + V_LINK);
    a->link.line = (taut__line){v[0] / a->ranks, v[1] / a->ranks};
    a->crowd = v[2] / a->ranks;
    taut__observer_slow_down(a->observer, a->crowd);
    s = scale_is_young(a) ? TAUT_OK : taut__auto_plan(a, v + V_LINK);
    if (s == TAUT_E_NOMEM) return s; /* of this rank alone */
    if (s != TAUT_OK) {
        a->arms.there = false;
        taut__log(TAUT_LOG_WARN, "sched", "step %llu: no plan could be made, %s stays in force: %s",
                  (unsigned long long)a->step, a->plans > 0 ? "the last one" : "none", taut_last_error());
    }
    a->planned_at = a->step;
    a->stale = false;
    a->plan_at = a->step + (a->plans > 0 ? a->replan_steps : 1);
    if (scale_is_young(a)) a->plan_at = a->step + 1;
    return TAUT_OK;
}

static taut_status end_step(taut__auto *a, double *v)
{
    bool check = a->check_hash, due = a->step >= a->plan_at;
    a->check_hash = false;
    if (check && !hashes_agree(a, v))
        return taut__fail(TAUT_E_MISMATCH, "auto: ranks have different plans (hash %016llx here)",
                          (unsigned long long)a->hash);
    v += check ? V_HASH : 0;
    a->can = *v++ < 0;
    const double *sketch = v;
    v += taut__observer_sketch(a->observer, NULL);
    int arm = taut__auto_clockless(a) ? a->arms.now : taut__arms_step(a, *v / a->ranks, a->step > 0);
    v++;
    if (!taut__auto_clockless(a)) note_spans(a);
    bool changed = a->plans > 0 && rescaled(a);
    taut__auto_note(a, v);
    v += taut__auto_reference_put(a, NULL);
    taut__observer_sketch_take(a->observer, sketch);
    if (changed) taut__auto_plan_early(a, "a layer's scale came or went");
    TAUT_TRY(taut__auto_guard(a));
    if (taut__auto_norms_changed(a)) taut__auto_changed(a, "gradient norms changed");
    if (taut__auto_starts(a)) TAUT_TRY(taut__auto_start(a));
    if (due) TAUT_TRY(plan(a, v));
    else TAUT_TRY(taut__arms_switch(a, arm));
    want_bases(a);
    return arm_looks(a);
}

static taut_status on_step_end(taut__auto *a, uint64_t step, double *sums, size_t n)
{
    double      start = taut__now();
    taut_status s;
    (void)n, (void)step; /* a checkpoint may have set the communicator's count forward since contribute() */
    s = a->layers > 0 ? end_step(a, sums) : TAUT_OK;
    a->step++;
    a->loaded = false;
    a->busy_s += taut__now() - start;
    return s;
}

static void stats(const taut__auto *a, taut_comm_stats *s)
{
    s->budget = a->plans > 0 ? a->guard.budget : 0;
    s->budget_violations = a->guard.violations;
    s->plans = a->plans;
    s->plan_hash = a->hash;
    s->plan_s = a->busy_s + a->probe_s;
}

static const taut__plan_hooks hooks = {
    .create = create,
    .meet = taut__probe,
    .destroy = destroy,
    .on_register = on_register,
    .on_exclude = on_exclude,
    .on_forget = on_forget,
    .on_rescale = on_rescale,
    .wants = wants,
    .on_input = on_input,
    .contribute = contribute,
    .on_step_end = on_step_end,
    .stats = stats,
    .save = taut__auto_save,
    .check = taut__auto_check,
    .load = taut__auto_load,
};

const taut__plan_hooks *taut__auto_hooks(void) { return &hooks; }
