/* place.c : where a layer's buffers lie. Its first collective says so, for good; a residual and a codec's state that a checkpoint brought
 * before move there. */
#include "communicator.h"
#include <sched.h>

taut_status taut__place_known(const taut_layer *l, const char *what, taut_place p)
{
    if ((int)p.space >= 0 && (int)p.space < TAUT_SPACES) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "layer '%s': %sspace=%d: must be %d (host) or %d (CUDA)", l->name, what,
                      (int)p.space, TAUT_HOST, TAUT_CUDA);
}

taut_status taut__place_same(const taut_layer *l, const char *what, taut_place p, taut_place as, const char *why)
{
    if (p.space == as.space && p.device == as.device) return TAUT_OK;
    return taut__fail(TAUT_E_STATE, "layer '%s': %s in space %s, device %d: must be in space %s, device %d, %s",
                      l->name, what, taut__space_name(p.space), p.device, taut__space_name(as.space), as.device, why);
}

taut_status taut__place_usable(const taut_layer *l, const void *buf, taut_place caller)
{
    const taut__scale_lent *scale = &l->scale_lent;
    TAUT_TRY(taut__place_known(l, "", caller));
    if (l->placed) TAUT_TRY(taut__place_same(l, "buf", caller, taut__layer_place(l), "as in its first collective"));
    if (scale->at) TAUT_TRY(taut__place_same(l, "buf", caller, scale->place, "where its scale is read in place"));
    if (taut__on_host(caller)) return taut__host_check(buf, "buf");
    TAUT_TRY(taut__context_one_device(&l->comm->ctx, caller));
    const taut__space *space = taut__memory_of(caller.space);
    if (!space || !taut__vectors_of(caller.space)) return TAUT_E_UNSUPPORTED;
    if (!l->bucket) TAUT_TRY(taut__layer_runs(l, &l->operand.wire, caller.space));
    bool captured = false;
    if (space->capturing) TAUT_TRY(space->capturing(caller, &captured));
    if (captured)
        return taut__fail(
            TAUT_E_STATE,
            "layer '%s': its stream is being captured into a graph: start it outside, or prepare it for graphs "
            "(taut_graph_prepare)",
            l->name);
    return space->check(caller, buf, "buf");
}

/* ---- moving ---- */

static taut_status move_feedback(taut_layer *l, const taut__lane *lane)
{
    taut_feedback *from = l->operand.feedback, *to = NULL;
    if (!from) return TAUT_OK;
    TAUT_TRY(taut__feedback_create_in(lane->place, from->n, from->momentum, &to));
    taut_status s = taut__lane_copy(lane, to->r, from->r, from->n * sizeof *from->r);
    if (s == TAUT_OK && from->u) s = taut__lane_copy(lane, to->u, from->u, from->n * sizeof *from->u);
    l->operand.feedback = s == TAUT_OK ? to : from;
    taut__feedback_destroy(s == TAUT_OK ? from : to);
    return s;
}

static taut_status carry_state(const taut_layer *l, taut_codec_state *to, taut_place place)
{
    const taut_codec *codec = taut__spec_codec(&l->operand.wire);
    size_t            bytes = 0;
    TAUT_TRY(taut__op_state_save(codec, taut__layer_place(l), l->operand.state, NULL, 0, &bytes));
    uint8_t *saved = taut__alloc(taut__max(bytes, 1), 1);
    if (!saved)
        return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory for its codec's state of %zu bytes", l->name, bytes);
    taut_status s = taut__op_state_save(codec, taut__layer_place(l), l->operand.state, saved, bytes, &bytes);
    if (s == TAUT_OK) s = taut__op_state_load(codec, place, to, saved, bytes);
    taut__free(saved);
    return s;
}

static taut_status move_state(taut_layer *l, const taut__lane *lane)
{
    const taut_codec *codec = taut__spec_codec(&l->operand.wire);
    taut_codec_state *to = NULL, *from = l->operand.state;
    if (!from) return TAUT_OK;
    TAUT_TRY(
        taut__op_state_create(codec, &l->operand.wire.stage[0], &l->operand.tensor, l->operand.seed, lane->place, &to));
    taut_status s = carry_state(l, to, lane->place);
    l->operand.state = s == TAUT_OK ? to : from;
    taut__op_state_destroy(codec, s == TAUT_OK ? taut__layer_place(l) : lane->place, s == TAUT_OK ? from : to);
    return s;
}

/* With the engine held. */
static taut_status move(taut_layer *l, taut_place caller)
{
    taut__lane *lane;
    TAUT_TRY(taut__context_lane(&l->comm->ctx, caller, &lane));
    TAUT_TRY(move_feedback(l, lane));
    TAUT_TRY(move_state(l, lane));
    taut__place_leave(l);
    l->reduction.lane = lane;
    TAUT_TRY(lane->space->event_create(lane->place, &l->reduction.ordered));
    l->scale_due = true;
    return TAUT_OK;
}

static void release_scale(taut_layer *l)
{
    const taut__lane *lane = taut__layer_lane(l);
    if (l->scale_brought) lane->space->release(lane->place, (void *)(uintptr_t)l->operand.there.scale);
    l->operand.there.scale = NULL;
    l->scale_brought = false;
}

static void lend_scale(taut_layer *l)
{
    const taut_tensor *t = &l->operand.tensor;
    release_scale(l);
    l->operand.there = *t;
    l->operand.there.scale = t->scale_n ? l->scale_lent.at : NULL;
    l->scale_due = false;
}

/* The scale may change at any step. */
static taut_status bring_scale(taut_layer *l)
{
    const taut__lane  *lane = taut__layer_lane(l);
    const taut_tensor *t = &l->operand.tensor;
    void              *scale = NULL;
    if (!l->scale_due) return TAUT_OK;
    if (taut__scale_there(l)) return lend_scale(l), TAUT_OK;
    if (t->scale_n) TAUT_TRY(lane->space->alloc(lane->place, t->scale_n * sizeof *t->scale, &scale));
    taut_status s = scale ? taut__lane_copy(lane, scale, t->scale, t->scale_n * sizeof *t->scale) : TAUT_OK;
    if (s != TAUT_OK) lane->space->release(lane->place, scale);
    if (s != TAUT_OK) return s;
    release_scale(l);
    l->operand.there = *t;
    l->operand.there.scale = scale;
    l->scale_brought = scale != NULL;
    l->scale_due = false;
    return TAUT_OK;
}

static taut_status hold_and_move(taut_layer *l, taut_place caller)
{
    taut__layer_unprepare(l);
    taut__engine_hold(&l->comm->ctx.engine);
    taut_status s = move(l, caller);
    taut__engine_release(&l->comm->ctx.engine);
    return s == TAUT_OK ? bring_scale(l) : s;
}

/* Statistics of earlier calls, which a checkpoint has brought, are in the reduction's memory: it is made again, and gets them. */
static taut_status move_all(taut_layer *l, taut_place caller)
{
    taut__writer w = {0};
    if (l->reduction.agree) taut__agree_save(&l->reduction, &w);
    if (w.len == 0) return hold_and_move(l, caller);
    size_t   n = w.len;
    uint8_t *kept = taut__alloc(n, 1);
    if (!kept) return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
    w = (taut__writer){kept, n, 0};
    taut__agree_save(&l->reduction, &w);
    taut_status s = hold_and_move(l, caller);
    if (s == TAUT_OK) s = taut__layer_prepare(l);
    if (s == TAUT_OK) taut__agree_load(&l->reduction, kept, n);
    taut__free(kept);
    return s;
}

taut_status taut__place_take(taut_layer *l, taut_place caller)
{
    if (!l->placed && !taut__on_host(caller)) TAUT_TRY(move_all(l, caller));
    l->placed = true;
    if (taut__on_host(caller)) return TAUT_OK;
    TAUT_TRY(taut__space_use(taut__layer_lane(l)->space, caller));
    TAUT_TRY(bring_scale(l));
    return taut__layer_lane(l)->space->event_record(l->reduction.ordered, caller);
}

/* The program's stream may still hold a copy into its bucket. */
static void end_order(taut_layer *l, const taut__lane *lane)
{
    bool passed = taut__space_use(lane->space, lane->place) != TAUT_OK;
    while (!passed && lane->space->event_test(l->reduction.ordered, &passed) == TAUT_OK) sched_yield();
    lane->space->event_destroy(l->reduction.ordered);
    l->reduction.ordered = NULL;
}

void taut__place_leave(taut_layer *l)
{
    const taut__lane *lane = taut__layer_lane(l);
    if (l->reduction.ordered) end_order(l, lane);
    lane->space->release(lane->place, l->before);
    lane->space->release(lane->place, l->operand.spread);
    release_scale(l);
    l->before = l->operand.spread = NULL;
}
