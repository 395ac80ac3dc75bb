/* auto_state.c : plan and guard in a checkpoint, little-endian (bytes.h):
 *   u32 version, u32 layers, u64 plans, u64 violations, f64 budget, error_scale,
 *   per layer: text name, f64 share (of the budget), planned, made, reference's shares (plain, in units of the scale), own (plain), ratio
 *   of norms (plain, in units of the scale)
 * The codecs of the plan are with the layers (core/state.h). */
#include "../base/bytes.h"
#include "auto_inside.h"
#include <math.h>

enum { VERSION = 4 };

typedef struct head {
    uint32_t version, layers;
    uint64_t plans, violations;
    double   budget, error_scale;
} head;

typedef struct row {
    char   name[TAUT_LAYER_NAME];
    double share, planned, made, reference, reference_scaled, own, ratio, ratio_scaled;
} row;

static void write_plan(const taut__auto *a, taut__writer *w)
{
    taut__write32(w, VERSION);
    taut__write32(w, (uint32_t)a->layers);
    taut__write64(w, a->plans);
    taut__write64(w, a->guard.violations);
    taut__write_f64(w, a->guard.budget);
    taut__write_f64(w, a->guard.error_scale);
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_plan *t = &a->layer_plans[l];
        taut__write_text(w, t->layer->name);
        taut__write_f64(w, a->watch[l].share);
        taut__write_f64(w, t->planned);
        taut__write_f64(w, t->made);
        taut__write_f64(w, t->reference.share.plain);
        taut__write_f64(w, t->reference.share.weighted);
        taut__write_f64(w, t->own.plain);
        taut__write_f64(w, t->ratio.plain);
        taut__write_f64(w, t->ratio.weighted);
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
    h.error_scale = taut__read_f64(r);
    return h;
}

static row read_row(taut__reader *r)
{
    row w;
    taut__read_text(r, w.name, sizeof w.name);
    w.share = taut__read_f64(r);
    w.planned = taut__read_f64(r);
    w.made = taut__read_f64(r);
    w.reference = taut__read_f64(r);
    w.reference_scaled = taut__read_f64(r);
    w.own = taut__read_f64(r);
    w.ratio = taut__read_f64(r);
    w.ratio_scaled = taut__read_f64(r);
    return w;
}

taut_status taut__auto_check(const taut__auto *a, const void *src, size_t len)
{
    taut__reader r = {src, len, false};
    head         h = read_head(&r);
    (void)a;
    if (!r.bad && h.version != VERSION)
        return taut__fail(TAUT_E_VERSION, "auto: saved plan of version %u: must be %d", h.version, VERSION);
    bool good = sane(h.budget) && h.error_scale > 0 && isfinite(h.error_scale);
    for (uint32_t i = 0; good && i < h.layers && !r.bad; i++) {
        row w = read_row(&r);
        good = w.name[0] && sane(w.share) && sane(w.planned) && sane(w.reference) && sane(w.reference_scaled) && isfinite(w.made) &&
               isfinite(w.own) && isfinite(w.ratio) && isfinite(w.ratio_scaled);
    }
    return good && !r.bad && r.left == 0 ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "auto: saved plan of %zu bytes is malformed", len);
}

static void put_row(taut__auto *a, const row *w)
{
    size_t l = 0;
    while (l < a->layers && strcmp(a->layer_plans[l].layer->name, w->name) != 0) l++;
    if (l == a->layers || a->layer_plans[l].out) return; /* now fused, pinned or gone */
    a->watch[l] = (taut__watch){.share = w->share};
    a->layer_plans[l].planned = w->planned;
    a->layer_plans[l].made = w->made;
    a->layer_plans[l].reference.share = (taut_norm2){w->reference, w->reference_scaled};
    a->layer_plans[l].own.plain = w->own;
    a->layer_plans[l].ratio = (taut_norm2){w->ratio, w->ratio_scaled};
}

/* What a run has learnt that the saved one did not know: none of it is true of the saved one. */
static void forget(taut__auto *a)
{
    taut__guard_init(&a->guard);
    a->plans = a->hash = 0;
    a->norm2 = a->norm2_then = 0;
    a->all_norms = -1;
    a->offers = NULL;
    a->check_hash = false;
    a->planned_at = a->step;
    for (size_t l = 0; l < a->layers; l++) {
        taut__layer_plan *t = &a->layer_plans[l];
        t->own = t->ratio = (taut_norm2){-1, -1};
        t->weight = t->planned = 0;
        t->made = -1;
        t->reference.share = (taut_norm2){0, 0};
        a->watch[l] = (taut__watch){0};
    }
}

void taut__auto_load(taut__auto *a, const void *src, size_t len)
{
    taut__reader r = {src, len, false};
    head         h = read_head(&r);
    bool         ran = a->step > 0;
    if (ran) forget(a);
    if (ran) taut__arms_reset(a);
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
    a->guard.error_scale = h.error_scale;
    a->guard.violations = h.violations;
    taut__auto_error_scales(a);
    a->planned_at = a->step;
    taut__arms_reset(a);
    a->arms.now = -1; /* a plan from elsewhere */
    if (a->plans > 0) { /* the plan stands; what it rests on is measured anew */
        a->plan_at = a->step + a->replan_steps / 2;
        taut__auto_rehash(a);
    } else if (ran) {
        a->plan_at = a->step + 1;
    }
}
