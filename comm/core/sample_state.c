/* sample_state.c : what has been learnt of a layer's errors, in a checkpoint: with it the steps that follow measure the same numbers as they
 * would have without a break, and codec=auto, which they steer, does the same. A section of state.h:
 *   f64 own, own_error, error, error_var, sum, sum_var (plain, in units of the scale each), seconds, u64 called, measured;
 *   six ratios (error, norm, near: plain, in units of the scale): f64 mean, var, most, block, weight, restless, u64 steps */
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
    taut__visit64(v, &r->steps, UINT64_MAX);
}

static void visit(taut__visit *v, taut_layer *l)
{
    visit_sums(v, &l->shown);
    for (int i = 0; i < 2; i++) visit_ratio(v, &l->sample.error[i]), visit_ratio(v, &l->sample.norm[i]), visit_ratio(v, &l->sample.near[i]);
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
    return !taut__visit_bad(&v) && v.r.left == 0 ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "layer '%s': %zu saved bytes of what was measured are malformed", l->name, len);
}

void taut__sample_load(taut_layer *l, const void *src, size_t len)
{
    taut__visit v = {.way = TAUT_READ, .r = {src, len, false}};
    if (len > 0) {
        visit(&v, l);
        return;
    }
    l->shown = (taut__layer_sums){0};
    taut__sample_reset(l);
}

/* ---- services of auto.h ---- */

bool taut__sample_is_apart(const taut_comm *comm) { return comm->sampling.apart; }
void taut__sample_apart_at_once(taut_comm *comm, bool apart) { comm->sampling.apart = apart; }

static uint32_t aim_key(const taut_layer *l) { return l->spec.stages == 1 && l->wire.stages == 1 ? l->spec.stage[0].codec->error_key : 0; }

double taut__layer_aim(const taut_layer *l)
{
    uint32_t key = aim_key(l);
    return key ? l->wire.stage[0].value[key - 1] : 0;
}

void taut__layer_aim_at(taut_layer *l, double rel)
{
    uint32_t key = aim_key(l);
    if (key && rel > 0) l->wire.stage[0].value[key - 1] = rel;
}
