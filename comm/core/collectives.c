/* collectives.c : the program starts, waits for and tests collectives of layers. */
#include "communicator.h"

static taut_status check_op(const taut_layer *l, int op)
{
    if (op == TAUT_SUM || op == TAUT_MEAN) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID, "layer '%s': op=%d: must be TAUT_SUM (%d) or TAUT_MEAN (%d)", l->name, op,
                      TAUT_SUM, TAUT_MEAN);
}

static taut_status check_start(taut_layer *l, const void *buf, int kind, taut_place caller)
{
    if (!l || !buf) return taut__fail(TAUT_E_INVALID, "collective: layer or buf is NULL");
    TAUT_TRY(check_op(l, kind));
    uintptr_t size = l->operand.dtype == TAUT_F32 ? 4 : 2;
    if ((uintptr_t)buf % size)
        return taut__fail(TAUT_E_INVALID, "layer '%s': buf=%p: must be aligned to %d bytes, an element", l->name, buf,
                          (int)size);
    TAUT_TRY(taut__comm_check(l->comm, "collective"));
    if (l->started && !l->tested)
        return taut__fail(TAUT_E_STATE,
                          "layer '%s': started already: wait for it, or call taut_step_end, before the next start",
                          l->name);
    TAUT_TRY(taut__place_usable(l, buf, caller));
    l->started = l->tested = false;
    TAUT_TRY(taut__lent_take(l, buf));
    l->reduction.buf = (void *)(uintptr_t)buf; /* from here on the buffer is lent, until the layer is finished */
    l->comm->stepped = l->comm->loads.open = false;
    return l->index >= l->comm->handshake.layers ? taut__handshake_begin(l->comm) : TAUT_OK;
}

static taut_status suits_data(const taut_layer *l, taut_place caller)
{
    const taut__data *d = l->comm->ctx.data;
    if (!d || !taut__on_host(caller)) return TAUT_OK;
    return taut__fail(TAUT_E_INVALID,
                      "layer '%s': buf on the host: must be on a device, since this communicator's layers go by %s",
                      l->name, d->ops->name);
}

static taut_status launch(taut_layer *l, void *buf, int kind, taut__half halves, taut_place caller, bool blocking)
{
    taut_comm *comm = l->comm;
    TAUT_TRY(suits_data(l, caller));
    l->replayed = false;
    if (halves != TAUT_BOTH && !l->operand.sharded) {
        taut__layer_unprepare(l);
        l->operand.sharded = true;
    }
    TAUT_TRY(taut__place_take(l, caller));
    TAUT_TRY(taut__layer_prepare(l));
    TAUT_TRY(taut__context_arena(&comm->ctx));
    if (halves != TAUT_GATHER) l->last_op = kind;
    TAUT_TRY(taut__reduction_begin(&l->reduction, buf, kind, halves, blocking));
    if (taut__layer_at_home(l)) TAUT_TRY(taut__debug_lend(l));
    taut__layer_starts(l);
    taut__engine_start(&comm->ctx.engine, &l->reduction.job, blocking);
    return TAUT_OK;
}

/* One that is prepared for it becomes part of the graph into which its stream is captured. */
static taut_status in_graph(taut_layer *l, void *buf, taut_op op, taut_place caller, bool *done)
{
    *done = false;
    if (!l || !l->graph || !buf) return TAUT_OK;
    TAUT_TRY(taut__graph_capturing(caller, done));
    if (!*done) return TAUT_OK;
    TAUT_TRY(taut__comm_check(l->comm, "collective"));
    TAUT_TRY(check_op(l, op));
    TAUT_TRY(taut__place_check(caller, buf, "buf"));
    return taut__graph_capture(l, buf, op, caller);
}

/* A whole allreduce of a small layer goes through its bucket, however it is begun: another rank may have begun it otherwise. What goes wrong from here
 * on concerns all ranks: they wait for this one. */
static taut_status begin(taut_layer *l, void *buf, int kind, taut__half halves, taut_place caller, bool waits)
{
    bool fused = l->bucket && halves == TAUT_BOTH;
    return taut__engine_tell(&l->comm->ctx.engine, fused ? taut__fuse_start(l, buf, kind, caller, waits)
                                                         : launch(l, buf, kind, halves, caller, waits));
}

static taut_status start(taut_layer *l, void *buf, taut_op op, taut_place caller)
{
    bool captured;
    TAUT_TRY(in_graph(l, buf, op, caller, &captured));
    if (captured) return TAUT_OK;
    TAUT_TRY(check_start(l, buf, op, caller));
    return begin(l, buf, op, TAUT_BOTH, caller, false);
}

static taut_place place_of(taut_space space, int device, struct CUstream_st *stream)
{
    return space == TAUT_HOST ? (taut_place){0} : (taut_place){space, device, stream};
}

/* The calling thread's device is the program's, and stays what it was: here, and in all calls that may use another one. */
static taut_status start_kept(taut_layer *l, void *buf, taut_op op, taut_place caller)
{
    TAUT_KEEP_DEVICE_IN(caller.space, start(l, buf, op, caller));
}

taut_status taut_allreduce_start(taut_layer *l, void *buf, taut_op op)
{
    return start_kept(l, buf, op, (taut_place){0});
}

taut_status taut_allreduce_start_on(taut_layer *l, void *buf, taut_op op, taut_space space, int device,
                                    struct CUstream_st *stream)
{
    return start_kept(l, buf, op, place_of(space, device, stream));
}

taut_status taut__layer_wait(taut_layer *l)
{
    double since = taut__now();
    taut__fuse_answer(l->comm);
    taut_status s = l->bucket && taut__fuse_holds(l) ? taut__fuse_wait(l)
                                                     : taut__engine_wait(&l->comm->ctx.engine, &l->reduction.job);
    l->comm->exposed_s += taut__now() - since;
    return taut__layer_finish(l, s);
}

static taut_status at_once_here(taut_layer *l, void *buf, int kind, taut__half halves, taut_place caller)
{
    TAUT_TRY(check_start(l, buf, kind, caller));
    double since = taut__now();
    TAUT_TRY(begin(l, buf, kind, halves, caller, true));
    l->comm->exposed_s += taut__now() - since;
    return taut__layer_wait(l);
}
static taut_status at_once(taut_layer *l, void *buf, int kind, taut__half halves, taut_place caller)
{
    TAUT_KEEP_DEVICE_IN(caller.space, at_once_here(l, buf, kind, halves, caller));
}

taut_status taut_allreduce(taut_layer *l, void *buf, taut_op op)
{
    return at_once(l, buf, op, TAUT_BOTH, (taut_place){0});
}
taut_status taut_reduce_scatter(taut_layer *l, void *buf, taut_op op)
{
    return at_once(l, buf, op, TAUT_REDUCE, (taut_place){0});
}
taut_status taut_allgather(taut_layer *l, void *buf) { return at_once(l, buf, TAUT_SUM, TAUT_GATHER, (taut_place){0}); }

taut_status taut_reduce_scatter_on(taut_layer *l, void *buf, taut_op op, taut_space space, int device,
                                   struct CUstream_st *stream)
{
    return at_once(l, buf, op, TAUT_REDUCE, place_of(space, device, stream));
}

taut_status taut_allgather_on(taut_layer *l, void *buf, taut_space space, int device, struct CUstream_st *stream)
{
    return at_once(l, buf, TAUT_SUM, TAUT_GATHER, place_of(space, device, stream));
}

static taut_status check_started(const taut_layer *l, const char *call)
{
    if (!l) return taut__fail(TAUT_E_INVALID, "%s: layer is NULL", call);
    TAUT_TRY(taut__comm_check(l->comm, call));
    return l->started ? TAUT_OK : taut__fail(TAUT_E_STATE, "%s: layer '%s' was not started", call, l->name);
}

taut_status taut_wait(taut_layer *l)
{
    TAUT_TRY(check_started(l, "taut_wait"));
    TAUT_KEEP_DEVICE(taut__layer_wait(l));
}

taut_status taut_test(taut_layer *l, int *done)
{
    bool over = false;
    if (done) *done = 0;
    if (!done) return taut__fail(TAUT_E_INVALID, "taut_test: done is NULL");
    TAUT_TRY(check_started(l, "taut_test"));
    taut__kept_device was = taut__keep_device();
    taut__fuse_answer(l->comm);
    taut_status s = l->bucket && taut__fuse_holds(l)
                        ? taut__fuse_test(l, &over)
                        : taut__engine_test(&l->comm->ctx.engine, &l->reduction.job, &over);
    taut__restore_device(was);
    TAUT_TRY(s);
    *done = l->tested = over;
    if (over) taut__lent_give(l);
    return TAUT_OK;
}
