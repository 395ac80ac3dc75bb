/* nccl.c : a communicator gets a data half, over NCCL: taut_nccl.h. */
#include "nccl.h"
#include <time.h>

/* ---- all ranks have it, or none ---- */

static taut_status suits(const taut_comm *comm, const taut__data *d)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): asked where making d succeeded */
    if (d->size == comm->ctx.t->size && d->rank == comm->ctx.t->rank) return TAUT_OK;
    return taut__fail(TAUT_E_MISMATCH, "%s: rank %d of %d: must be rank %d of %d, as in the communicator", d->ops->name,
                      d->rank, d->size, comm->ctx.t->rank, comm->ctx.t->size);
}

/* What is prepared from now on goes by it. The engine's thread may be looking at jobs: there are none under way. With a hierarchy (nccl_hosts.c) layers
 * that do not use it go by messages: turns of all ranks and turns of leaders know no common order. */
static void adopt(taut_comm *comm, taut__data *d)
{
    taut__context *ctx = &comm->ctx;
    bool           hosts = ctx->local.data || ctx->leaders.data;
    for (size_t i = 0; i < comm->layers; i++) taut__layer_unprepare(comm->layer[i]);
    taut__engine_hold(&ctx->engine);
    ctx->data = d;
    ctx->all.data = hosts ? NULL : d;
    ctx->hierarchical = hosts;
    comm->planning.members = hosts ? ctx->leaders.size : ctx->all.size;
    for (int s = 0; s < TAUT_SPACES; s++)
        if (s != TAUT_HOST) ctx->lane[s].data = ctx->lane[s].space ? d : NULL;
    taut__engine_release(&ctx->engine);
}

taut_status taut__comm_take_data(taut_comm *comm, taut__data *d, taut_status s)
{
    if (s == TAUT_OK) s = suits(comm, d);
    s = taut__comm_agree(comm, s);
    if (s == TAUT_OK) {
        adopt(comm, d);
        return TAUT_OK;
    }
    taut__kept mine = taut__keep_error();
    taut__data_abort(d), taut__data_destroy(d);
    comm->ctx.local.data = comm->ctx.leaders.data = NULL;
    return taut__fail(s, "%s", mine.text);
}

/* Where it cannot be measured it cannot be used either: the communicator is as it was. */
static taut_status take_and_measure(taut_comm *comm, taut__data *d, taut_place place, taut_status s)
{
    bool hierarchical = comm->ctx.hierarchical;
    TAUT_TRY(taut__comm_take_data(comm, d, s));
    s = taut__data_lines_find(comm, place);
    if (s == TAUT_OK) return TAUT_OK;
    taut__kept mine = taut__keep_error();
    comm->ctx.local.data = comm->ctx.leaders.data = NULL;
    adopt(comm, NULL);
    comm->ctx.hierarchical = hierarchical;
    comm->planning.members = hierarchical ? comm->ctx.leaders.size : comm->ctx.all.size;
    taut__data_abort(d), taut__data_destroy(d);
    return taut__fail(s, "%s", mine.text);
}

static taut_status usable(taut_comm *comm, const char *call)
{
    if (!comm) return taut__fail(TAUT_E_INVALID, "%s: comm is NULL", call);
    TAUT_TRY(taut__comm_check(comm, call));
    if (comm->ctx.data)
        return taut__fail(TAUT_E_STATE, "%s: the communicator has %s already", call, comm->ctx.data->ops->name);
    for (size_t i = 0; i < comm->layers; i++)
        if (comm->layer[i]->started)
            return taut__fail(TAUT_E_STATE, "%s: layer '%s' is under way", call, comm->layer[i]->name);
    return TAUT_OK;
}

taut_status taut__nccl_found(const taut__nccl **n)
{
    const char *text = NULL;
    *n = taut__nccl_get(&text);
    return *n ? TAUT_OK : taut__fail(TAUT_E_UNSUPPORTED, "NCCL cannot be used: %s", text);
}

taut_status taut__comm_open_messages(taut_comm *comm, bool direct)
{
    taut__data *d;
    TAUT_TRY(usable(comm, "a data half"));
    taut_status s = taut__data_messages(comm->ctx.t, TAUT_TAG_DATA, 2 * (size_t)comm->ctx.t->size, direct, &d);
    return taut__comm_take_data(comm, d, s);
}

/* ---- the program's own ---- */

static taut_status wrap(struct ncclComm *nccl, taut__data **d)
{
    const taut__nccl *n;
    *d = NULL;
    TAUT_TRY(taut__nccl_found(&n));
    if (!nccl) return taut__fail(TAUT_E_INVALID, "taut_comm_use_nccl: nccl is NULL");
    return taut__data_nccl(n, nccl, false, d);
}

static taut_status use_device(taut_place place);

static taut_status use_hosts(taut_comm *comm, taut__data *d, taut_space space, taut_status s)
{
    const taut__nccl *n = NULL;
    if (s == TAUT_OK) s = taut__nccl_found(&n);
    if (s == TAUT_OK) s = use_device((taut_place){.space = space, .device = taut__data_nccl_device(d)});
    return taut__nccl_open_hosts(comm, n, d, s);
}

static taut_status use_nccl(taut_comm *comm, struct ncclComm *nccl, taut_space space)
{
    taut__data *d;
    TAUT_TRY(usable(comm, "taut_comm_use_nccl"));
    taut_status s = wrap(nccl, &d);
    if (s == TAUT_OK) s = taut__data_nccl_mind(d, comm->ctx.set.c.timeout_ms);
    if (s == TAUT_OK) s = suits(comm, d);
    /* a communicator that does not fit is left alone, not aborted */
    if (s != TAUT_OK && d) {
        taut__kept mine = taut__keep_error();
        d->ops->destroy(d), d = NULL;
        taut__fail(s, "%s", mine.text);
    }
    if (taut__nccl_wants_hosts(comm)) s = use_hosts(comm, d, space, s);
    return take_and_measure(comm, d, (taut_place){.space = space, .device = d ? taut__data_nccl_device(d) : 0}, s);
}

taut_status taut__comm_use_nccl(taut_comm *comm, struct ncclComm *nccl, taut_space space)
{
    TAUT_KEEP_DEVICE_IN(space, use_nccl(comm, nccl, space));
}

taut_status taut_comm_use_nccl(taut_comm *comm, struct ncclComm *nccl)
{
    return taut__comm_use_nccl(comm, nccl, TAUT_CUDA);
}

/* ---- one of our own ---- */

/* Rank 0's, once all ranks can use it. */
static taut_status share_id(taut_comm *comm, taut_status mine, const taut__nccl *n, taut__nccl_id *id)
{
    bool first = comm->ctx.t->rank == 0;
    if (mine == TAUT_OK && first) {
        int r = n->unique_id(id);
        if (r != TAUT__NCCL_OK) mine = taut__nccl_failed(n, NULL, r, "ncclGetUniqueId");
    }
    TAUT_TRY(taut__comm_agree(comm, mine));
    return taut__comm_share(comm, first, id->bytes, sizeof id->bytes);
}

static taut_status wait_until_ready(const taut_comm *comm, const taut__nccl *n, taut__nccl_comm nccl)
{
    double begin = taut__now();
    bool   ready = false;
    for (;;) {
        TAUT_TRY(taut__nccl_poll(n, nccl, &ready));
        if (ready) return TAUT_OK;
        if (comm->ctx.set.c.timeout_ms >= 0 && taut__now() - begin > comm->ctx.set.c.timeout_ms * 1e-3)
            return taut__fail(TAUT_E_TIMEOUT, "ncclCommInitRankConfig: not done within %d ms",
                              (int)comm->ctx.set.c.timeout_ms);
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
}

taut_status taut__nccl_join(const taut_comm *comm, const taut__nccl *n, taut__nccl_id id, const taut__group *g,
                            taut__data **d)
{
    taut__nccl_comm nccl;
    TAUT_TRY(taut__nccl_begin(n, g->size, id, g->rank, &nccl));
    taut_status s = wait_until_ready(comm, n, nccl);
    if (s == TAUT_OK) s = taut__data_nccl(n, nccl, true, d);
    if (s == TAUT_OK) return TAUT_OK;
    taut__kept mine = taut__keep_error();
    n->abort(nccl);
    return taut__fail(s, "%s", mine.text);
}

/* NCCL takes the calling thread's device. */
static taut_status use_device(taut_place place)
{
    const taut__space *space = taut__memory_of(place.space);
    return space ? taut__space_use(space, place) : TAUT_E_UNSUPPORTED;
}

static taut_status open_nccl(taut_comm *comm, taut_place place)
{
    const taut__nccl *n = NULL;
    taut__nccl_id     id = {{0}};
    taut__data       *d = NULL;
    TAUT_TRY(usable(comm, "taut_comm_open_nccl"));
    taut_status s = taut__nccl_found(&n);
    if (s == TAUT_OK) s = use_device(place);
    TAUT_TRY(share_id(comm, s, n, &id));
    s = taut__nccl_join(comm, n, id, &comm->ctx.all, &d);
    if (taut__nccl_wants_hosts(comm)) s = taut__nccl_open_hosts(comm, n, d, s);
    return take_and_measure(comm, d, place, s);
}

taut_status taut__comm_open_nccl(taut_comm *comm, taut_place place)
{
    TAUT_KEEP_DEVICE_IN(place.space, open_nccl(comm, place));
}

taut_status taut_comm_open_nccl(taut_comm *comm, int device)
{
    if (device < 0) return taut__fail(TAUT_E_RANGE, "taut_comm_open_nccl: device=%d: must be 0 or more", device);
    return taut__comm_open_nccl(comm, (taut_place){.space = TAUT_CUDA, .device = device});
}

int taut_nccl_version(void)
{
    const taut__nccl *n;
    return taut__nccl_found(&n) == TAUT_OK ? taut__nccl_version() : 0;
}
