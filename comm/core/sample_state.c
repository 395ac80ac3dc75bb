/* sample_state.c : what has been learnt of layers' errors, in a checkpoint: with it the steps that follow measure the same numbers as they
 * would have without a break, and codec=auto, which they steer, does the same. Sections of state.h:
 *   of a layer   f64 own, own_error, error, error_var, sum, sum_var (plain, in units of the scale each), seconds, u64 called, measured;
 *                six ratios (error, norm, near: plain, in units of the scale): f64 mean, var, most, block, weight, restless, lean, u64 steps;
 *                f64 counts (error, norm), density, u64 form; f64 the relative error that its codec aims at, 0: none
 *   of all       u64 layers, f64 rate, more, u64 apart */
#include "../base/visit.h"
#include "communicator.h"

static void visit_norm(taut__visit *v, taut_norm2 *x)
{
    taut__visit_f64(v, &x->plain);
    taut__visit_f64(v, &x->weighted);
}

static void visit_sums(taut__visit *v, taut__layer_sums *s)
{
    visit_norm(v, &s->own), visit_norm(v, &s->own_error), visit_norm(v, &s->error), visit_norm(v, &s->error_var);
    visit_norm(v, &s->sum), visit_norm(v, &s->sum_var);
    taut__visit_f64(v, &s->seconds);
    taut__visit_bool(v, &s->called);
    taut__visit_bool(v, &s->measured);
}

static void visit_ratio(taut__visit *v, taut__ratio *r)
{
    taut__visit_f64(v, &r->mean), taut__visit_f64(v, &r->var), taut__visit_f64(v, &r->most);
    taut__visit_f64(v, &r->block), taut__visit_f64(v, &r->weight), taut__visit_f64(v, &r->restless);
    taut__visit_within(v, &r->lean, -100, 100);
    taut__visit64(v, &r->steps, UINT64_MAX);
}

/* Steering moves the error that a codec aims at, which its spec does not tell. */
static void visit_aim(taut__visit *v, taut_layer *l)
{
    uint32_t key = l->spec.stages == 1 && l->operand.wire.stages == 1 ? l->spec.stage[0].codec->error_key : 0;
    double   aim = v->way == TAUT_WRITE && key ? l->operand.wire.stage[0].value[key - 1] : 0;
    taut__visit_within(v, &aim, 0, 1);
    if (taut__reads(v) && key && aim > 0) l->operand.wire.stage[0].value[key - 1] = aim;
}

static void visit(taut__visit *v, taut_layer *l)
{
    taut__sample *s = &l->sample;
    visit_sums(v, &l->shown);
    for (int i = 0; i < 2; i++) visit_ratio(v, &s->error[i]), visit_ratio(v, &s->norm[i]), visit_ratio(v, &s->near[i]);
    taut__visit_f64s(v, s->counts, 2);
    taut__visit_within(v, &s->density, 0, 1e30);
    taut__visit_int(v, &s->form, TAUT_SAMPLES_F32, TAUT_SAMPLES_6BIT);
    visit_aim(v, l);
}

taut_status taut__sample_save(const taut_layer *l, void *dst, size_t cap, size_t *len)
{
    taut__visit v = {.way = TAUT_WRITE, .w = {dst, cap, 0}};
    visit(&v, (taut_layer *)(uintptr_t)l);
    *len = v.w.len;
    return TAUT_OK;
}

taut_status taut__sample_check(const taut_layer *l, const void *src, size_t len)
{
    taut__visit v = {.way = TAUT_CHECK, .r = {src, len, false}};
    visit(&v, (taut_layer *)(uintptr_t)l);
    return !taut__visit_bad(&v) && v.r.left == 0
               ? TAUT_OK
               : taut__fail(TAUT_E_CORRUPT, "layer '%s': %zu saved bytes of what was measured are malformed", l->name,
                            len);
}

void taut__sample_load(taut_layer *l, const void *src, size_t len)
{
    taut__visit v = {.way = TAUT_READ, .r = {src, len, false}};
    if (len > 0) {
        visit(&v, l);
        return;
    }
    l->shown = (taut__layer_sums){0};
    memset(l->sample.counts, 0, sizeof l->sample.counts);
    taut__sample_reset(l);
}

/* ---- all layers ---- */

static void visit_all(taut__visit *v, taut_comm *comm)
{
    taut__sampling *s = &comm->sampling;
    enum { MOST = 1 << 30 };
    taut__visit_size(v, &s->layers, v->way == TAUT_WRITE ? SIZE_MAX : MOST);
    if (taut__reads(v)) s->layers = taut__min(s->layers, comm->layers); /* bundles may have been among them */
    taut__visit_within(v, &s->rate, 0, 1e30);
    taut__visit_within(v, &s->more, 0, 1e30);
    taut__visit_bool(v, &s->apart);
}

taut_status taut__sampling_save(const taut_comm *comm, void *dst, size_t cap, size_t *len)
{
    taut__visit v = {.way = TAUT_WRITE, .w = {dst, cap, 0}};
    visit_all(&v, (taut_comm *)(uintptr_t)comm);
    *len = v.w.len;
    return TAUT_OK;
}

taut_status taut__sampling_check(const taut_comm *comm, const void *src, size_t len)
{
    taut__visit v = {.way = TAUT_CHECK, .r = {src, len, false}};
    visit_all(&v, (taut_comm *)(uintptr_t)comm);
    return !taut__visit_bad(&v) && v.r.left == 0
               ? TAUT_OK
               : taut__fail(TAUT_E_CORRUPT, "taut_state_load: %zu saved bytes of what was measured are malformed", len);
}

/* Of other ranks: every layer counts as a model of its own, until the end of the first step. */
void taut__sampling_load(taut_comm *comm, const void *src, size_t len)
{
    taut__visit v = {.way = TAUT_READ, .r = {src, len, false}};
    if (len > 0) {
        visit_all(&v, comm);
        return;
    }
    comm->sampling.layers = 0;
    comm->sampling.more = 0;
}
