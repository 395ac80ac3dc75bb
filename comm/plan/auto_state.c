/* auto_state.c : plan and guard in a checkpoint. Little-endian, as written by the host:
 *   u32 version, u32 layers, u64 plans, u64 violations, f64 budget, error_scale
 *   per layer: name (NUL-terminated, 128 bytes), spec (96 bytes), f64 share (of the budget), planned, made, reference's shares (plain, in
 *   units of the scale), own (plain), ratio of norms (plain, in units of the scale) */
#include "auto_inside.h"
#include <math.h>
#include <string.h>

enum { VERSION = 3 };

typedef struct head {
    uint32_t version, layers;
    uint64_t plans, violations;
    double   budget, error_scale;
} head;

typedef struct row {
    char   name[TAUT_LAYER_NAME], spec[TAUT_SPEC_TEXT];
    double share, planned, made, reference, reference_scaled, own, ratio, ratio_scaled;
} row;
_Static_assert(sizeof(head) == 40 && sizeof(row) == 288, "checkpoint layout");

taut_status taut__auto_save(const taut__auto *a, void *dst, size_t cap, size_t *len)
{
    head   h = {VERSION, (uint32_t)a->layers, a->plans, a->guard.violations, a->guard.budget, a->guard.error_scale};
    size_t bytes = sizeof h + a->layers * sizeof(row);
    char  *at = dst;
    *len = bytes;
    if (!dst) return TAUT_OK;
    if (cap < bytes) return taut__fail(TAUT_E_CAPACITY, "auto: %zu bytes for the plan: must be at least %zu", cap, bytes);
    memcpy(at, &h, sizeof h);
    at += sizeof h;
    for (size_t l = 0; l < a->layers; l++, at += sizeof(row)) {
        const taut__layer_plan *t = &a->layer_plans[l];
        row r = {.share = a->watch[l].share, .planned = t->planned, .made = t->made, .reference = t->reference.share.plain,
                 .reference_scaled = t->reference.share.weighted, .own = t->own.plain, .ratio = t->ratio.plain, .ratio_scaled = t->ratio.weighted};
        strncpy(r.name, taut__layer_name(t->layer), sizeof r.name - 1);
        taut__spec_print(taut__layer_spec(t->layer), r.spec, sizeof r.spec);
        memcpy(at, &r, sizeof r);
    }
    return TAUT_OK;
}

static bool sane(double v) { return isfinite(v) && v >= 0; }

static taut_status load_row(taut__auto *a, const row *r)
{
    taut_spec spec;
    size_t    l = 0;
    if (memchr(r->name, 0, sizeof r->name) == NULL || memchr(r->spec, 0, sizeof r->spec) == NULL || !sane(r->share) ||
        !sane(r->planned) || !sane(r->reference) || !sane(r->reference_scaled) || !isfinite(r->made) || !isfinite(r->own) ||
        !isfinite(r->ratio) || !isfinite(r->ratio_scaled))
        return taut__fail(TAUT_E_CORRUPT, "auto: a layer of the saved plan is malformed");
    while (l < a->layers && strcmp(taut__layer_name(a->layer_plans[l].layer), r->name) != 0) l++;
    if (l == a->layers || a->layer_plans[l].out) return TAUT_OK; /* now fused, pinned or gone */
    TAUT_TRY(taut__spec_parse(r->spec, &spec));
    if (spec.automatic) return taut__fail(TAUT_E_CORRUPT, "auto: layer %s of the saved plan has codec auto", r->name);
    TAUT_TRY(taut__spec_suits(&spec, taut__layer_tensor(a->layer_plans[l].layer)));
    a->watch[l] = (taut__watch){.share = r->share};
    a->layer_plans[l].planned = r->planned;
    a->layer_plans[l].made = r->made;
    a->layer_plans[l].reference.share = (taut_norm2){r->reference, r->reference_scaled};
    a->layer_plans[l].own.plain = r->own;
    a->layer_plans[l].ratio = (taut_norm2){r->ratio, r->ratio_scaled};
    return taut__layer_adopt(a->layer_plans[l].layer, &spec);
}

taut_status taut__auto_load(taut__auto *a, const void *src, size_t len)
{
    head        h;
    const char *at = src;
    if (len < sizeof h) return taut__fail(TAUT_E_CORRUPT, "auto: saved plan of %zu bytes: must be at least %zu", len, sizeof h);
    memcpy(&h, at, sizeof h);
    at += sizeof h;
    if (h.version != VERSION)
        return taut__fail(TAUT_E_VERSION, "auto: saved plan of version %u: must be %d", h.version, VERSION);
    if ((len - sizeof h) / sizeof(row) != h.layers || (len - sizeof h) % sizeof(row) != 0 || !sane(h.budget) ||
        !(h.error_scale > 0) || !isfinite(h.error_scale))
        return taut__fail(TAUT_E_CORRUPT, "auto: saved plan of %zu bytes is malformed", len);
    for (uint32_t i = 0; i < h.layers; i++, at += sizeof(row)) {
        row r;
        memcpy(&r, at, sizeof r);
        TAUT_TRY(load_row(a, &r));
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
    }
    return TAUT_OK;
}
