/* graph.c : layers whose collectives are part of a graph (taut_nccl.h). */
#include "../reduce/exchange.h"
#include "../taut_nccl.h"
#include "communicator.h"

static taut_status usable(const taut_layer *l, const char *call)
{
    if (!l) return taut__fail(TAUT_E_INVALID, "%s: layer is NULL", call);
    TAUT_TRY(taut__comm_check(l->comm, call));
    return l->started ? taut__fail(TAUT_E_STATE, "%s: layer '%s' is under way", call, l->name) : TAUT_OK;
}

static taut_status create(taut_layer *l, size_t size[2])
{
    const char *why = l->automatic ? "codec=auto chooses anew: name a codec"
                      : l->bucket  ? "it is small, and travels with others through host memory"
                      : l->comm->ctx.set.dropped != TAUT_DROPPED_CLEAR
                          ? "dropped=restore keeps what was before each step: use dropped=clear"
                          : taut__captured_cannot(&l->reduction);
    if (why) return taut__fail(TAUT_E_UNSUPPORTED, "layer '%s' cannot be captured: %s", l->name, why);
    if (l->graph) return taut__fail(TAUT_E_STATE, "layer '%s' is prepared for graphs already", l->name);
    taut__engine_hold(&l->comm->ctx.engine);
    taut_status s = taut__captured_create(&l->reduction, &l->graph, size);
    taut__engine_release(&l->comm->ctx.engine);
    return s;
}

/* The largest of any rank. each: two numbers per rank, zeros. */
static taut_status largest(taut_comm *comm, size_t size[2], double *each)
{
    int ranks = comm->ctx.t->size, rank = comm->ctx.t->rank;
    for (int i = 0; i < 2; i++) each[2 * rank + i] = (double)size[i];
    TAUT_TRY(taut__context_sum(&comm->ctx, each, 2 * (size_t)ranks));
    for (int q = 0; q < ranks; q++)
        for (int i = 0; i < 2; i++) size[i] = taut__max(size[i], (size_t)each[2 * q + i]);
    return TAUT_OK;
}

static taut_status prepare(taut_layer *l)
{
    size_t size[2] = {0, 0};
    TAUT_TRY(usable(l, "taut_graph_prepare"));
    taut_comm  *comm = l->comm;
    bool        had = l->graph;
    double     *each = taut__alloc(2 * (size_t)comm->ctx.t->size, sizeof *each);
    taut_status s = each ? create(l, size) : taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
    s = taut__comm_agree(comm, s);
    if (each && s == TAUT_OK) s = largest(comm, size, each);
    taut__free(each);
    if (s == TAUT_OK) taut__captured_agree(l->graph, size);
    else if (!had) taut__graph_leave(l);
    return s;
}
taut_status taut_graph_prepare(taut_layer *l) { TAUT_KEEP_DEVICE(prepare(l)); }

void taut__graph_leave(taut_layer *l)
{
    taut__captured_destroy(&l->reduction, l->graph);
    l->graph = NULL;
}

taut_status taut__graph_capturing(taut_place caller, bool *is)
{
    const taut__space *space = taut__on_host(caller) ? NULL : taut__memory_of(caller.space);
    *is = false;
    return space && space->capturing ? space->capturing(caller, is) : TAUT_OK;
}

taut_status taut__graph_capture(taut_layer *l, void *buf, int kind, taut_place caller)
{
    taut_place now = taut__layer_place(l);
    if (caller.space != now.space || caller.device != now.device)
        return taut__fail(TAUT_E_STATE, "layer '%s': captured on device %d: must be on device %d, as before", l->name,
                          caller.device, now.device);
    for (size_t i = 0; i < l->comm->layers; i++)
        if (l->comm->layer[i]->started)
            return taut__fail(TAUT_E_STATE, "layer '%s' is captured while layer '%s' is under way: wait for it before",
                              l->name, l->comm->layer[i]->name);
    taut__engine_hold(&l->comm->ctx.engine);
    taut_status s = taut__captured_enqueue(&l->reduction, l->graph, caller.stream, buf, kind);
    taut__engine_release(&l->comm->ctx.engine);
    return s;
}

/* Outside of graphs each layer waits for its turn, in which ranks make the same operations in the same order; a graph's are made when it is launched. So
 * what was started before is enqueued before it on one rank and after it on another. Small layers do not go by the data half. */
static taut_status alone(const taut_comm *comm)
{
    for (size_t i = 0; i < comm->layers; i++) {
        const taut_layer *l = comm->layer[i];
        if (!l->started || l->tested || l->bucket || l->replayed) continue;
        return taut__fail(
            TAUT_E_STATE,
            "taut_graph_launched: layer '%s' is under way outside of graphs: wait for it before the launch", l->name);
    }
    return TAUT_OK;
}

static taut_status launched(taut_layer *l, struct CUstream_st *stream)
{
    int kind = 0;
    TAUT_TRY(usable(l, "taut_graph_launched"));
    TAUT_TRY(alone(l->comm));
    void *buf = l->graph ? taut__captured_buf(l->graph, &kind) : NULL;
    if (!buf)
        return taut__fail(TAUT_E_STATE, "taut_graph_launched: layer '%s' has not been captured into a graph", l->name);
    taut_comm *comm = l->comm;
    l->started = l->tested = false;
    TAUT_TRY(taut__lent_take(l, buf));
    comm->stepped = comm->loads.open = false;
    l->last_op = kind;
    l->replayed = true;
    l->sample.blocks = l->sample.wide_blocks = 0; /* nothing of a replay is sampled */
    l->sample.taken = false;
    taut__engine_hold(&comm->ctx.engine);
    taut_status s = taut__captured_launched(&l->reduction, l->graph, stream);
    taut__engine_release(&comm->ctx.engine);
    TAUT_TRY(taut__engine_tell(&comm->ctx.engine, s));
    taut__layer_starts(l);
    taut__engine_start(&comm->ctx.engine, &l->reduction.job, false);
    return TAUT_OK;
}
taut_status taut_graph_launched(taut_layer *l, struct CUstream_st *stream) { TAUT_KEEP_DEVICE(launched(l, stream)); }
