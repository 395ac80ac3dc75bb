/* auto_guard.c : one step's measured errors against its budget: what ranks' inputs have in common, the reference of a like: budget, layers
 * that must go to a safer codec, steering. Everything that decides is agreed. */
#include "auto_inside.h"
#include <math.h>
#include <string.h>

static const double FADE = 0.5;          /* of what earlier steps had, per step */
static const double MOST_CARRIED = 0.95; /* what leaves more over is not offered */
static const double CHANGED = 0.5;       /* of norms: early plan (Accordion uses 0.5 too) */

/* ---- the reference ---- */

/* What travels of a layer's: errors and squares, plain; in units of a scale, where that is not the same. */
static size_t reference_values(const taut__layer_plan *t)
{
    if (!t->reference.sampled || t->out) return 0;
    return t->layer->tensor->scale_n > 1 ? TAUT_REFERENCE_VALUES : TAUT_REFERENCE_VALUES / 2;
}

static void put_reference(const taut__layer_plan *t, const double all[TAUT_REFERENCE_VALUES], double *v)
{
    if (reference_values(t) == TAUT_REFERENCE_VALUES) memcpy(v, all, TAUT_REFERENCE_VALUES * sizeof *v);
    else v[0] = all[0], v[1] = all[2];
}

static const double *get_reference(const taut__layer_plan *t, const double *v, double all[TAUT_REFERENCE_VALUES])
{
    size_t n = reference_values(t);
    double s = taut__unit_at(t->layer->tensor, 0), unit = 1 / (s * s);
    memset(all, 0, TAUT_REFERENCE_VALUES * sizeof *all);
    if (n == TAUT_REFERENCE_VALUES) memcpy(all, v, TAUT_REFERENCE_VALUES * sizeof *all);
    else if (n > 0) all[0] = v[0], all[1] = unit * v[0], all[2] = v[1], all[3] = unit * v[1];
    return v + n;
}

size_t taut__auto_reference_put(taut__auto *a, double *v)
{
    size_t n = 0, layers = a->budget.like ? a->layers : 0;
    double start = taut__now();
    for (size_t l = 0; l < layers; n += reference_values(&a->layer_plans[l++])) {
        const taut__layer_plan *t = &a->layer_plans[l];
        uint64_t                seed = taut__seed(a->step, 1000 * l + (uint64_t)(uint32_t)a->planning->ctx->all.rank);
        double                  all[TAUT_REFERENCE_VALUES];
        if (!v || reference_values(t) == 0) continue;
        if (taut__reference_measure(&t->reference, &a->reference, t->layer, &a->bench, seed, all) != TAUT_OK)
            taut__log(TAUT_LOG_WARN, "sched", "%s: the budget's reference was not measured: %s", t->layer->name,
                      taut_last_error());
        put_reference(t, all, v + n);
    }
    if (v) a->busy_s += taut__now() - start;
    return n;
}

static double reference_error(const taut__layer_plan *t, const taut__reference *r)
{
    const taut__layer_sums *s = &t->layer->step;
    return s->called && !t->out ? t->weight * taut__reference_error(r, &s->own, t->scaled) : 0;
}

static double like_budget2(const taut__auto *a)
{
    double sum = 0;
    for (size_t l = 0; l < a->layers; l++) sum += reference_error(&a->layer_plans[l], &a->layer_plans[l].reference);
    return sum;
}

/* Steps count faded, since a sample is noisy. A step whose share is far from theirs had other gradients: its budget is its own. The second
 * such step in a row shows that this is how gradients are now: theirs counts alone, and a new plan is due. One alone, as from an odd batch,
 * changes nothing. Too large a budget would hide errors, one too small only counts more of them: so less shows a fall than a rise. */
static void take_reference(taut__auto *a, const double *v)
{
    const double  fell = 0.25, rose = 16, nothing = 1e-12 * a->norm2;
    double        before = like_budget2(a), now = 0, all[TAUT_REFERENCE_VALUES];
    bool          odd, again = a->odd != TAUT_ODD_NOT;
    const double *at = v;
    for (size_t l = 0; l < a->layers; l++) {
        taut__layer_plan *t = &a->layer_plans[l];
        at = get_reference(t, at, all);
        taut__reference r = taut__reference_with(&t->reference, all, true);
        t->reference.fresh = all[2] > 0;
        now += reference_error(t, &r);
    }
    a->odd = before > nothing && now < fell * before ? TAUT_ODD_FELL
             : now > nothing && now > rose * before  ? TAUT_ODD_ROSE
                                                     : TAUT_ODD_NOT;
    a->odd_budget2 = now;
    odd = a->odd != TAUT_ODD_NOT;
    if (odd && !again) return;
    for (size_t l = 0; l < a->layers; l++) {
        taut__layer_plan *t = &a->layer_plans[l];
        v = get_reference(t, v, all);
        t->reference = taut__reference_with(&t->reference, all, odd);
    }
    a->odd = TAUT_ODD_NOT;
    if (odd) taut__auto_changed(a, "the budget's reference makes other errors");
}

/* ---- what the step was ---- */

static bool compressed(const taut__auto *a, size_t l)
{
    return !(taut__spec_codec(&a->layer_plans[l].layer->spec)->caps & TAUT_CAP_LOSSLESS);
}

static void fade(double *mean, double now) { *mean = *mean >= 0 ? FADE * *mean + (1 - FADE) * now : now; }

static double in_metric(const taut__layer_plan *t, const taut_norm2 *x) { return t->scaled ? x->weighted : x->plain; }

static double error_of(const taut__layer_plan *t, const taut_norm2 *error) { return t->weight * in_metric(t, error); }

/* Ratios of norms, so that steps of any size count alike; 0: not measured in this step. */
static void note_layer(taut__auto *a, size_t l)
{
    taut__layer_plan       *t = &a->layer_plans[l];
    const taut__layer_sums *s = &t->layer->step;
    bool                    scaled = a->metric == TAUT_METRIC_OPTIMIZER && t->layer->tensor->scale_n > 0;
    if (scaled != t->scaled) t->left = 0; /* in another unit */
    t->scaled = scaled;
    t->weight = t->out ? 0 : t->layer->weight;
    if (!s->called || t->out || !(s->own.plain > 0) || !isfinite(s->own.plain) || !isfinite(s->sum.plain)) return;
    fade(&t->ratio.plain, s->sum.plain / s->own.plain);
    if (s->own.weighted > 0 && isfinite(s->sum.weighted)) fade(&t->ratio.weighted, s->sum.weighted / s->own.weighted);
    fade(&t->own.plain, s->own.plain);
    if (isfinite(s->own.weighted)) fade(&t->own.weighted, s->own.weighted);
    if (compressed(a, l) && s->measured && in_metric(t, &s->own) > 0)
        fade(&t->made, in_metric(t, &s->error) / in_metric(t, &s->own));
    if (in_metric(t, &s->own) > 0)
        t->carried = FADE * t->carried + (1 - FADE) * fmin(t->left / in_metric(t, &s->own), MOST_CARRIED);
    t->left = taut__settings_feeds(a->set, &t->layer->spec) ? in_metric(t, &s->own_error) : 0;
    if (t->layer->apart.blocks == 0) return;
    taut__apart apart = t->layer->apart;
    if (taut__observer_shared(a->observer, l, &apart) != TAUT_OK)
        taut__log(TAUT_LOG_WARN, "sched", "%s: %s", t->layer->name, taut_last_error());
}

static double budget2(const taut__auto *a, double norm2)
{
    return !a->budget.like ? a->budget.rel * norm2 : a->odd ? a->odd_budget2 : like_budget2(a);
}

void taut__auto_note(taut__auto *a, const double *reference)
{
    double mine = 0;
    a->norm2 = a->planning->norm2;
    taut__sets_note(a);
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_sums *s;
        note_layer(a, l);
        s = &a->layer_plans[l].layer->step;
        if (!s->called) continue;
        mine += error_of(&a->layer_plans[l], &s->sum);
    }
    if (mine > 0 && isfinite(a->norm2)) fade(&a->all_norms, a->norm2 / mine);
    if (a->budget.like) take_reference(a, reference);
}

/* ---- the guard ---- */

static taut_status make_safer(taut__auto *a)
{
    bool moved = false;
    for (size_t l = 0; l < a->layers; l++) {
        taut__watch *w = &a->watch[l];
        if (!w->safer || a->layer_plans[l].out || !compressed(a, l)) continue;
        TAUT_TRY(taut__auto_safer(a, l, 0.9 * w->allowed / w->observed));
        moved = true;
    }
    if (!moved) return TAUT_OK;
    taut__auto_rehash(a);
    taut__auto_plan_early(a, "a layer was over its share");
    return TAUT_OK;
}

/* Does the layer lose no larger a part of what goes in than its plan says? Where its error is over its share nevertheless, gradients have changed, and
 * a finer codec would be of no use once they change back. */
static bool honest(const taut__layer_plan *t)
{
    const double doubt = 1.5; /* samples are noisy */
    double       own = in_metric(t, &t->layer->step.own);
    return in_metric(t, &t->layer->step.error) <= doubt * t->expects * taut__planned_asks(t->layer) * own;
}

taut_status taut__auto_guard(taut__auto *a)
{
    const double reference_noise = 0.04; /* of a like: budget: its blocks, faded over steps */
    bool         lossy = false, tunable = false;
    double       budget, var = 0;
    if (a->plans == 0 || !(a->norm2 > 0) || !isfinite(a->norm2)) return TAUT_OK; /* or a step of NaN or zeros */
    for (size_t l = 0; l < a->layers; l++) {
        const taut__layer_sums *s = &a->layer_plans[l].layer->step;
        double                  error = s->called ? error_of(&a->layer_plans[l], &s->error) : 0;
        a->scratch[l] = isfinite(error) ? error : 0;
        if (isfinite(error))
            var += a->layer_plans[l].weight * a->layer_plans[l].weight * in_metric(&a->layer_plans[l], &s->error_var);
        lossy |= compressed(a, l);
        a->watch[l].absent = !s->called;
        a->watch[l].tunable = taut__planned_scale_error(a->layer_plans[l].layer, a->layer_plans[l].error_scale);
        a->watch[l].honest = honest(&a->layer_plans[l]);
        tunable |= a->watch[l].tunable;
    }
    budget = budget2(a, a->norm2) / a->norm2;
    if (!lossy) { /* a trial, or a plan of none: within any budget */
        a->guard.budget = budget;
        a->guard.error = 0;
        return TAUT_OK;
    }
    if (taut__guard_step(&a->guard, a->scratch, a->norm2, budget, a->layers, a->watch))
        taut__log(TAUT_LOG_INFO, "sched", "step %llu: rel_err2 %.3e exceeds the budget %.3e",
                  (unsigned long long)a->step, a->guard.error, budget);
    taut__sets_before(a);
    if (a->odd == TAUT_ODD_FELL) return TAUT_OK; /* it is counted, and says nothing about the next */
    var /= a->norm2 * a->norm2;
    if (a->guard.error > 0)
        taut__guard_steer(&a->guard, sqrt(var) / a->guard.error + (a->budget.like ? reference_noise : 0));
    if (!tunable)
        a->guard.error_scale =
            fmin(a->guard.error_scale, 1); /* nothing can become coarser: being finer than planned is no strain */
    taut__sets_after(a);
    taut__auto_error_scales(a);
    if (taut__guard_strained(taut__sets_strain(a))) taut__auto_plan_early(a, "errors are far from what was planned");
    return make_safer(a);
}

bool taut__auto_norms_changed(const taut__auto *a)
{
    return taut__norm_changed(a->norm2_then, taut__auto_own2(a), CHANGED);
}
