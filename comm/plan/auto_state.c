/* auto_state.c : plan and guard in a checkpoint, little-endian (bytes.h):
 *   u32 version, u32 layers, u64 plans, u64 violations, f64 budget, error_scale,
 *   per layer: text name, f64 share (of the budget), planned, made, reference's shares (plain, in units of the scale), own (plain), ratio
 *   of norms (plain, in units of the scale), u64 few values (1) or not;
 *   u64 of the scene: settings, ranks and layers in one number; then everything else that decides (visit_all)
 * In the same scene everything is as it was, so that where no clock decides anything the run goes on, bit for bit, as if it had not been
 * interrupted. In another one, with another number of ranks, say, the plan stands, and what it rests on is measured anew. The codecs of the
 * plan are with the layers (core/state.h). */
#include "auto_inside.h"
#include <float.h>
#include <xxhash.h>

enum { VERSION = 10 };

/* ---- everything ---- */

static uint64_t with_text(uint64_t h, const char *text) { return XXH3_64bits_withSeed(text, strlen(text), h); }

static uint64_t with_layer(uint64_t h, const taut__layer_plan *t)
{
    const taut_tensor *x = t->layer->tensor;
    uint64_t           shape[] = {x->elems, x->rows, x->cols, t->out};
    return XXH3_64bits_withSeed(shape, sizeof shape, with_text(h, t->layer->name));
}

static uint64_t scene(const taut__auto *a)
{
    char     starter[TAUT_SPEC_TEXT];
    uint64_t number[] = {(uint64_t)a->ranks,  (uint64_t)a->members,   a->budget.like,
                         (uint64_t)a->metric, (uint64_t)a->objective, a->replan_steps,
                         a->start_step,       a->slice_bytes,         a->layers};
    double   real[] = {a->budget.rel, a->assumed.alpha, a->assumed.beta};
    uint64_t h = XXH3_64bits_withSeed(real, sizeof real, XXH3_64bits(number, sizeof number));
    taut__spec_print(&a->starter, starter, sizeof starter);
    h = with_text(with_text(h, starter), a->solver);
    if (a->budget.like) h = with_text(h, a->budget.reference);
    for (size_t l = 0; l < a->layers; l++) h = with_layer(h, &a->layer_plans[l]);
    return h;
}

static void visit_guard(taut__visit *v, taut__guard *g)
{
    taut__visit_f64(v, &g->budget), taut__visit_f64(v, &g->error), taut__visit_f64(v, &g->noise);
    taut__visit64(v, &g->violations, UINT64_MAX);
    taut__visit_within(v, &g->error_scale, 1e-6, 1e6);
    taut__visit_within(v, &g->target, 0, 1);
    taut__visit_f64(v, &g->spread2), taut__visit_f64(v, &g->last);
}

static void visit_sets(taut__visit *v, taut__sets *s)
{
    for (int k = 0; k < TAUT_SETS; k++)
        taut__visit64(v, &s->shape[k], UINT64_MAX), taut__visit64(v, &s->at[k], UINT64_MAX);
    taut__visit_f64s(v, s->last, TAUT_SETS);
    taut__visit32(v, &s->now, TAUT_SETS - 1);
}

static void visit_layer(taut__visit *v, taut__layer_plan *t, taut__watch *w)
{
    taut__visit_f64(v, &t->own.plain), taut__visit_f64(v, &t->own.weighted);
    taut__visit_f64(v, &t->ratio.plain), taut__visit_f64(v, &t->ratio.weighted);
    taut__visit_f64(v, &t->weight), taut__visit_f64(v, &t->planned), taut__visit_f64(v, &t->made);
    taut__visit_f64(v, &t->expects), taut__visit_within(v, &t->carried, 0, 1), taut__visit_f64(v, &t->left);
    taut__visit_f64(v, &t->reference.share.plain), taut__visit_f64(v, &t->reference.share.weighted);
    taut__visit_bool(v, &t->scaled);
    taut__visit_f64(v, &w->share), taut__visit_f64(v, &w->observed);
    taut__visit_bool(v, &w->tunable), taut__visit_bool(v, &w->safer);
    taut__visit_within(v, &t->error_scale, 1e-6, 1e6), taut__visit_within(v, &t->began, 1e-6, 1e6);
    taut__visit32(v, &t->sets, (1u << TAUT_SETS) - 1);
}

static taut_status visit_all(taut__visit *v, taut__auto *a)
{
    visit_guard(v, &a->guard);
    visit_sets(v, &a->sets);
    taut__visit_f64(v, &a->norm2), taut__visit_f64(v, &a->all_norms), taut__visit_f64(v, &a->norm2_then);
    taut__visit_within(v, &a->crowd, 0, 1e3);
    taut__visit_f64(v, &a->sketch_bytes);
    taut__visit64(v, &a->step, UINT64_MAX), taut__visit64(v, &a->plan_at, UINT64_MAX),
        taut__visit64(v, &a->planned_at, UINT64_MAX);
    taut__visit64(v, &a->plans, UINT64_MAX), taut__visit64(v, &a->hash, UINT64_MAX);
    taut__visit_size(v, &a->sketch_turn, SIZE_MAX);
    taut__visit_bool(v, &a->can), taut__visit_bool(v, &a->check_hash), taut__visit_bool(v, &a->stale);
    uint64_t odd = a->odd;
    taut__visit64(v, &odd, TAUT_ODD_ROSE);
    if (taut__reads(v)) a->odd = (taut__odd)odd;
    for (size_t l = 0; l < a->layers && !taut__visit_bad(v); l++) visit_layer(v, &a->layer_plans[l], &a->watch[l]);
    if (taut__reads(v)) taut__observer_slow_down(a->observer, a->crowd);
    if (!taut__visit_bad(v)) TAUT_TRY(taut__observer_visit(v, a->observer));
    return taut__visit_bad(v) ? TAUT_OK : taut__arms_visit(v, a);
}

/* ---- the plan alone ---- */

typedef struct head {
    uint32_t version, layers;
    uint64_t plans, violations;
    double   budget, error_scale;
} head;

typedef struct row {
    char       name[TAUT_LAYER_NAME];
    double     share, planned, made, own;
    taut_norm2 reference, ratio;
    bool       few;
} row;

/* u32 version and u32 layers, as one number. */
static void visit_head(taut__visit *v, head *h)
{
    uint64_t both = h->version | (uint64_t)h->layers << 32;
    both = taut__visit64(v, &both, UINT64_MAX);
    h->version = (uint32_t)both, h->layers = (uint32_t)(both >> 32);
    taut__visit64(v, &h->plans, UINT64_MAX), taut__visit64(v, &h->violations, UINT64_MAX);
    taut__visit_within(v, &h->budget, 0, DBL_MAX), taut__visit_within(v, &h->error_scale, DBL_TRUE_MIN, DBL_MAX);
}

static void visit_row(taut__visit *v, row *w)
{
    const double most = DBL_MAX;
    taut__visit_text(v, w->name, sizeof w->name);
    v->bad |= !w->name[0];
    taut__visit_within(v, &w->share, 0, most), taut__visit_within(v, &w->planned, 0, most);
    taut__visit_within(v, &w->made, -most, most);
    taut__visit_within(v, &w->reference.plain, 0, most), taut__visit_within(v, &w->reference.weighted, 0, most);
    taut__visit_within(v, &w->own, -most, most);
    taut__visit_within(v, &w->ratio.plain, -most, most), taut__visit_within(v, &w->ratio.weighted, -most, most);
    taut__visit_bool(v, &w->few);
}

static row row_of(const taut__auto *a, size_t l)
{
    const taut__layer_plan *t = &a->layer_plans[l];
    row w = {.share = a->watch[l].share, .planned = t->planned, .made = t->made, .own = t->own.plain};
    w.reference = t->reference.share, w.ratio = t->ratio, w.few = t->few;
    taut__snprintf(w.name, sizeof w.name, "%s", t->layer->name);
    return w;
}

taut_status taut__auto_save(const taut__auto *a, void *dst, size_t cap, size_t *len)
{
    taut__visit v = {.way = TAUT_WRITE, .w = {dst, cap, 0}};
    uint64_t    here = scene(a);
    visit_head(&v, &(head){VERSION, (uint32_t)a->layers, a->plans, a->guard.violations, a->guard.budget,
                           a->guard.error_scale});
    for (size_t l = 0; l < a->layers; l++) {
        row w = row_of(a, l);
        visit_row(&v, &w);
    }
    taut__visit64(&v, &here, UINT64_MAX);
    TAUT_TRY(visit_all(&v, (taut__auto *)(uintptr_t)a));
    *len = v.w.len;
    if (dst && cap < v.w.len)
        return taut__fail(TAUT_E_CAPACITY, "auto: %zu bytes for the plan: must be at least %zu", cap, v.w.len);
    return TAUT_OK;
}

taut_status taut__auto_check(const taut__auto *a, const void *src, size_t len)
{
    taut__visit v = {.way = TAUT_CHECK, .r = {src, len, false}};
    head        h = {0};
    uint64_t    there = 0;
    visit_head(&v, &h);
    if (!v.r.bad && h.version != VERSION)
        return taut__fail(TAUT_E_VERSION, "auto: saved plan of version %u: must be %d", h.version, VERSION);
    for (uint32_t i = 0; i < h.layers && !taut__visit_bad(&v); i++) {
        row w = {0};
        visit_row(&v, &w);
    }
    bool same = taut__visit64(&v, &there, UINT64_MAX) == scene(a);
    if (same && !taut__visit_bad(&v)) TAUT_TRY(visit_all(&v, (taut__auto *)(uintptr_t)a));
    if (!taut__visit_bad(&v) && (!same || v.r.left == 0)) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "auto: saved plan of %zu bytes is malformed", len);
}

static void put_row(taut__auto *a, const row *w)
{
    size_t l = 0;
    while (l < a->layers && strcmp(a->layer_plans[l].layer->name, w->name) != 0) l++;
    if (l == a->layers || a->layer_plans[l].out) return; /* now fused, pinned or gone */
    a->watch[l] = (taut__watch){.share = w->share};
    a->layer_plans[l].planned = w->planned;
    a->layer_plans[l].made = w->made;
    a->layer_plans[l].reference.share = w->reference;
    a->layer_plans[l].own.plain = w->own;
    a->layer_plans[l].ratio = w->ratio;
    a->layer_plans[l].few = w->few;
}

/* What a run has learnt that the saved one did not know: none of it is true of the saved one. */
static void forget(taut__auto *a)
{
    taut__sets_reset(a);
    taut__guard_init(&a->guard);
    a->plans = a->hash = 0;
    a->norm2 = a->norm2_then = 0;
    a->all_norms = -1;
    a->offers = NULL;
    a->check_hash = false;
    a->odd = TAUT_ODD_NOT;
    a->stale = false;
    a->planned_at = a->step;
    for (size_t l = 0; l < a->layers; l++) {
        taut__layer_plan *t = &a->layer_plans[l];
        t->own = t->ratio = (taut_norm2){-1, -1};
        t->weight = t->planned = t->expects = t->carried = t->left = 0;
        t->made = -1;
        t->few = false;
        t->reference.share = (taut_norm2){0, 0};
        a->watch[l] = (taut__watch){0};
    }
}

/* In another scene. */
static void take_plan(taut__auto *a, const head *h)
{
    a->plans = h->plans;
    a->guard.budget = h->budget;
    a->guard.error_scale = h->error_scale;
    a->guard.violations = h->violations;
    for (size_t l = 0; l < a->layers; l++) a->layer_plans[l].error_scale = h->error_scale;
    taut__auto_error_scales(a);
    a->planned_at = a->step;
    taut__arms_reset(a);
    a->arms.now = -1; /* a plan from elsewhere */
    if (a->plans == 0) return;
    a->plan_at = a->step + a->replan_steps / 2; /* the plan stands; what it rests on is measured anew */
    taut__auto_rehash(a);
}

taut_status taut__auto_load(taut__auto *a, const void *src, size_t len)
{
    taut__visit v = {.way = TAUT_READ, .r = {src, len, false}};
    head        h = {0};
    uint64_t    there = 0;
    a->loaded = true;
    if (a->step > 0) {
        forget(a);
        taut__arms_reset(a);
        a->plan_at = a->step + 1;
    }
    if (len == 0) return TAUT_OK;
    visit_head(&v, &h);
    for (uint32_t i = 0; i < h.layers; i++) {
        row w = {0};
        visit_row(&v, &w);
        put_row(a, &w);
    }
    if (taut__visit64(&v, &there, UINT64_MAX) == scene(a)) return visit_all(&v, a);
    take_plan(a, &h);
    return TAUT_OK;
}
