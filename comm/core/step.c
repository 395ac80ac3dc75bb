/* step.c : the end of a step. */
#include "communicator.h"

static taut_status wait_all(taut_comm *comm)
{
    double begin = taut__now();
    for (size_t b = 0; b < comm->buckets; b++)
        if (comm->bucket[b]) TAUT_TRY(taut__fuse_flush(comm->bucket[b]));
    for (size_t i = 0; i < comm->layers; i++)
        if (comm->layer[i]->started) TAUT_TRY(taut__layer_wait(comm->layer[i]));
    comm->exposed_s += taut__now() - begin;
    return TAUT_OK;
}

/* All ranks are here: the planner may talk to them. It has nothing to do before there is a layer to plan for. */
static taut_status meet(taut_comm *comm)
{
    for (size_t i = 0; comm->autom && i < comm->layers; i++) comm->plans |= comm->layer[i]->automatic;
    return comm->plans ? taut__engine_tell(&comm->ctx.engine, comm->hooks->meet(comm->autom)) : TAUT_OK;
}

static taut_status end_step(taut_comm *comm)
{
    TAUT_TRY(taut__handshake_begin(comm));
    TAUT_TRY(wait_all(comm));
    TAUT_TRY(taut__handshake_wait(comm));
    TAUT_TRY(meet(comm));
    TAUT_TRY(taut__step_exchange(comm));
    return taut__engine_tell(&comm->ctx.engine, taut__context_arena(&comm->ctx));
}

taut_status taut_step_end(taut_comm *comm)
{
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_step_end: comm is NULL");
    TAUT_TRY(taut__comm_check(comm, "taut_step_end"));
    comm->ends++;
    comm->loads.open = false;
    atomic_store(&comm->ending, true);
    taut__kept_device was = taut__keep_device();
    taut_status       s = end_step(comm);
    taut__engine_hold(&comm->ctx.engine); /* nobody is looking at layers on the strength of it */
    atomic_store(&comm->ending, false);
    taut__engine_release(&comm->ctx.engine);
    if (s == TAUT_OK) taut__metrics_step(comm);
    taut__restore_device(was);
    return s;
}
