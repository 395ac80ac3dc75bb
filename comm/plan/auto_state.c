/* auto_state.c : plan and guard in a checkpoint, little-endian (bytes.h):
 *   u32 version, u32 layers, u64 plans, u64 violations, f64 budget, trust, own_to_sum, error_scale,
 *   per layer: text name, f64 allowed, planned, weight, own, sum (plain)
 * The codecs of the plan are with the layers (core/state.h). */
#include "../base/bytes.h"
#include "auto_inside.h"
#include <math.h>

enum { VERSION = 3 };

typedef struct head {
    uint32_t version, layers;
    uint64_t plans, violations;
    double   budget, trust, own_to_sum, error_scale;
} head;

typedef struct row {
    char   name[TAUT_LAYER_NAME];
    double allowed, planned, weight, own, sum;
} row;

static void write_plan(const taut__auto *a, taut__writer *w)
{
    taut__write32(w, VERSION);
    taut__write32(w, (uint32_t)a->layers);
    taut__write64(w, a->plans);
    taut__write64(w, a->guard.violations);
    taut__write_f64(w, a->guard.budget);
    taut__write_f64(w, a->guard.trust);
    taut__write_f64(w, a->own_to_sum);
    taut__write_f64(w, a->guard.error_scale);
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_plan *t = &a->layer_plans[l];
        taut__write_text(w, taut__layer_name(t->layer));
        taut__write_f64(w, a->watch[l].allowed);
        taut__write_f64(w, t->planned);
        taut__write_f64(w, t->weight);
        taut__write_f64(w, t->own.plain);
        taut__write_f64(w, t->sum.plain);
    }
}

taut_status taut__auto_save(const taut__auto *a, void *dst, size_t cap, size_t *len)
{
    taut__writer w = {dst, cap, 0};
    write_plan(a, &w);
    *len = w.len;
    if (dst && cap < w.len) return taut__fail(TAUT_E_CAPACITY, "auto: %zu bytes for the plan: must be at least %zu", cap, w.len);
    return TAUT_OK;
}

static bool sane(double v) { return isfinite(v) && v >= 0; }

static head read_head(taut__reader *r)
{
    head h = {.version = taut__read32(r), .layers = taut__read32(r)};
    h.plans = taut__read64(r);
    h.violations = taut__read64(r);
    h.budget = taut__read_f64(r);
    h.trust = taut__read_f64(r);
    h.own_to_sum = taut__read_f64(r);
    h.error_scale = taut__read_f64(r);
    return h;
}

static row read_row(taut__reader *r)
{
    row w;
    taut__read_text(r, w.name, sizeof w.name);
    w.allowed = taut__read_f64(r);
    w.planned = taut__read_f64(r);
    w.weight = taut__read_f64(r);
    w.own = taut__read_f64(r);
    w.sum = taut__read_f64(r);
    return w;
}

taut_status taut__auto_check(const taut__auto *a, const void *src, size_t len)
{
    taut__reader r = {src, len, false};
    head         h = read_head(&r);
    (void)a;
    if (!r.bad && h.version != VERSION)
        return taut__fail(TAUT_E_VERSION, "auto: saved plan of version %u: must be %d", h.version, VERSION);
    bool good = sane(h.budget) && h.trust >= 1 && isfinite(h.trust) && sane(h.own_to_sum) && h.error_scale > 0 && isfinite(h.error_scale);
    for (uint32_t i = 0; good && i < h.layers && !r.bad; i++) {
        row w = read_row(&r);
        good = w.name[0] && sane(w.allowed) && sane(w.planned) && sane(w.weight) && sane(w.own) && sane(w.sum);
    }
    return good && !r.bad && r.left == 0 ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "auto: saved plan of %zu bytes is malformed", len);
}

static void put_row(taut__auto *a, const row *w)
{
    size_t l = 0;
    while (l < a->layers && strcmp(taut__layer_name(a->layer_plans[l].layer), w->name) != 0) l++;
    if (l == a->layers || a->layer_plans[l].out) return; /* now fused, pinned or gone */
    a->watch[l] = (taut__watch){.allowed = w->allowed};
    a->layer_plans[l].planned = w->planned;
    a->layer_plans[l].weight = w->weight;
    a->layer_plans[l].own.plain = w->own;
    a->layer_plans[l].sum.plain = w->sum;
}

/* What a run has learnt that the saved one did not know: none of it is true of the saved one. */
static void forget(taut__auto *a)
{
    taut__guard_init(&a->guard);
    taut__plan_check_init(&a->plan_check);
    a->plans = a->trial = a->tried = a->hash = 0;
    a->budget_now = a->own_to_sum = a->norm2_then = a->predicted = a->predicted_dense = 0;
    a->offers = NULL;
    a->audit = -1;
    a->check_hash = false;
    a->planned_at = a->adopted_at = a->step;
    for (size_t l = 0; l < a->layers; l++) {
        taut__layer_plan *t = &a->layer_plans[l];
        if (t->audited) taut__audit_disarm(t->layer);
        *t = (taut__layer_plan){.layer = t->layer, .out = t->out, .penalty = 1};
        a->watch[l] = (taut__watch){0};
    }
}

void taut__auto_load(taut__auto *a, const void *src, size_t len)
{
    taut__reader r = {src, len, false};
    head         h = read_head(&r);
    bool         ran = a->step > 0;
    if (ran) forget(a);
    if (len == 0) {
        if (ran) a->plan_at = a->step + 1;
        return;
    }
    for (uint32_t i = 0; i < h.layers; i++) {
        row w = read_row(&r);
        put_row(a, &w);
    }
    a->plans = h.plans;
    a->guard.budget = h.budget;
    a->guard.trust = h.trust;
    a->guard.error_scale = h.error_scale;
    a->guard.violations = h.violations;
    taut__auto_error_scales(a);
    a->own_to_sum = h.own_to_sum;
    a->planned_at = a->step;
    if (a->plans > 0) { /* the plan stands; what it rests on is measured anew */
        a->plan_at = a->step + a->replan_steps / 2;
        taut__auto_rehash(a);
    } else if (ran) {
        a->plan_at = a->step + 1;
    }
}
