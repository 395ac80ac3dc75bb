/* nccl_data.c : the data half over NCCL.
 *
 * Everything is enqueued on the place's stream, and finished there in its order, so a group is ready as soon as NCCL has taken it. With a
 * communicator that does not block it may take it later: calls answer "in progress", and until ncclCommGetAsyncError says that they are
 * done nothing may be enqueued behind them, so ready() says not yet. The same call tells what has gone wrong since, here or, where NCCL
 * notices, elsewhere. What NCCL does not notice is a rank that is alive and does nothing: the engine's timeout does, and aborts. */
#include "nccl_data.h"
#include "nccl_minder.h"

typedef struct nccl_data {
    taut__data        base;
    taut__data_ops    ops; /* what this NCCL does not have is not offered */
    const taut__nccl *n;
    taut__nccl_comm   comm;
    bool              owns, used;    /* used: operations have been given to it */
    bool              open, pending; /* in a group; NCCL has not taken all of it yet */
    int               device;
    taut_place        place;
    taut__nccl_minder minder;
} nccl_data;

static nccl_data *of(taut__data *d) { return (nccl_data *)(void *)d; }

int taut__data_nccl_device(const taut__data *d) { return ((const nccl_data *)(const void *)d)->device; }

taut_status taut__data_nccl_mind(taut__data *d, int32_t timeout_ms)
{
    return taut__nccl_mind(&of(d)->minder, timeout_ms);
}

static taut_status gone(void) { return taut__fail(TAUT_E_TRANSPORT, "NCCL: the communicator has been aborted"); }

static taut_status result(nccl_data *d, int r, const char *call)
{
    if (r == TAUT__NCCL_IN_PROGRESS) d->pending = true;
    if (r == TAUT__NCCL_OK || r == TAUT__NCCL_IN_PROGRESS) return TAUT_OK;
    return atomic_load(&d->minder.aborted) ? gone() : taut__nccl_failed(d->n, d->comm, r, call);
}

/* Of calls that may wait for other ranks. */
#define MINDED(d, what, call)                                                                                          \
    do {                                                                                                               \
        taut__nccl_enter(&(d)->minder, what);                                                                          \
        int r_ = (call);                                                                                               \
        return taut__nccl_leave(&(d)->minder, what, result(d, r_, what));                                              \
    } while (0)

static taut_status usable(nccl_data *d, taut_place place)
{
    if (atomic_load(&d->minder.aborted)) return gone();
    if (place.space == TAUT_HOST)
        return taut__fail(TAUT_E_INVALID, "NCCL: a buffer on the host: must be on device %d", d->device);
    if (place.device != d->device)
        return taut__fail(TAUT_E_INVALID, "NCCL: a buffer on device %d: must be on device %d, as the communicator",
                          place.device, d->device);
    if (d->pending) return taut__fail(TAUT_E_STATE, "NCCL: a group is begun before the last one was taken");
    d->used = true;
    return TAUT_OK;
}

static taut_status group_begin(taut__data *data, taut_place place)
{
    nccl_data *d = of(data);
    TAUT_TRY(usable(d, place));
    d->place = place;
    d->open = true;
    return result(d, d->n->group_start(), "ncclGroupStart");
}

static taut_status nccl_send(taut__data *data, int peer, const void *buf, size_t bytes)
{
    nccl_data *d = of(data);
    data->sent += bytes;
    return result(d, d->n->send(buf, bytes, TAUT__NCCL_I8, peer, d->comm, d->place.stream), "ncclSend");
}

static taut_status nccl_recv(taut__data *data, int peer, void *buf, size_t bytes)
{
    nccl_data *d = of(data);
    return result(d, d->n->recv(buf, bytes, TAUT__NCCL_I8, peer, d->comm, d->place.stream), "ncclRecv");
}

static taut_status group_end(taut__data *data)
{
    nccl_data *d = of(data);
    d->open = false;
    MINDED(d, "ncclGroupEnd", d->n->group_end());
}

static taut_status sum(taut__data *data, void *x, size_t n, taut__number kind, taut_place place)
{
    nccl_data *d = of(data);
    const int  type = kind == TAUT_NUMBER_F32 ? TAUT__NCCL_F32 : TAUT__NCCL_I32;
    TAUT_TRY(usable(d, place));
    data->sent += 8 * n * (uint64_t)(data->size - 1) / (uint64_t)data->size;
    MINDED(d, "ncclAllReduce", d->n->all_reduce(x, x, n, type, TAUT__NCCL_SUM, d->comm, place.stream));
}

static taut_status gather(taut__data *data, const void *own, void *all, size_t bytes, taut_place place)
{
    nccl_data *d = of(data);
    TAUT_TRY(usable(d, place));
    data->sent += bytes * (uint64_t)(data->size - 1);
    MINDED(d, "ncclAllGather", d->n->all_gather(own, all, bytes, TAUT__NCCL_I8, d->comm, place.stream));
}

static taut_status exchange(taut__data *data, const void *out, void *in, size_t bytes, taut_place place)
{
    nccl_data *d = of(data);
    TAUT_TRY(usable(d, place));
    data->sent += bytes * (uint64_t)(data->size - 1);
    MINDED(d, "ncclAlltoAll", d->n->all_to_all(out, in, bytes, TAUT__NCCL_I8, d->comm, place.stream));
}

/* With the lock, so that the communicator is not aborted, and gone, in the middle. */
static taut_status look(nccl_data *d, bool *is_ready)
{
    int r = TAUT__NCCL_OK;
    if (atomic_load(&d->minder.aborted)) return gone();
    int asked = d->n->async_error(d->comm, &r);
    if (asked != TAUT__NCCL_OK) return taut__nccl_failed(d->n, d->comm, asked, "ncclCommGetAsyncError");
    if (r != TAUT__NCCL_OK && r != TAUT__NCCL_IN_PROGRESS)
        return taut__nccl_failed(d->n, d->comm, r, "NCCL, asynchronously");
    d->pending = r == TAUT__NCCL_IN_PROGRESS; /* of calls of the program's own, too */
    *is_ready = !d->pending && !d->open;
    return TAUT_OK;
}

static taut_status ready(taut__data *data, bool *is_ready)
{
    nccl_data *d = of(data);
    *is_ready = false;
    pthread_mutex_lock(&d->minder.lock);
    taut_status s = look(d, is_ready);
    pthread_mutex_unlock(&d->minder.lock);
    return s;
}

static int waiting_for(const taut__data *data) { return (void)data, -1; }

/* The program's own, of which nothing has been asked, waits for nobody on our account, and stays as it is. */
static void abort_all(taut__data *data)
{
    nccl_data *d = of(data);
    if (d->owns || d->used) taut__nccl_minder_abort(&d->minder);
    else taut__nccl_minder_gone(&d->minder);
}

void taut__data_nccl_gone(taut__data *d) { taut__nccl_minder_gone(&of(d)->minder); }

static void destroy(taut__data *data)
{
    if (!data) return;
    nccl_data *d = of(data);
    if (d->owns && !atomic_load(&d->minder.aborted)) taut__nccl_end(d->comm, d->n->destroy);
    taut__nccl_minder_destroy(&d->minder);
    taut__free(d);
}

static const taut__data_ops ops = {
    .name = "nccl",
    .group_begin = group_begin,
    .send = nccl_send,
    .recv = nccl_recv,
    .group_end = group_end,
    .sum = sum,
    .gather = gather,
    .exchange = exchange,
    .ready = ready,
    .waiting_for = waiting_for,
    .abort = abort_all,
    .destroy = destroy,
};

taut_status taut__data_nccl(const taut__nccl *n, taut__nccl_comm comm, bool owns, taut__data **out)
{
    nccl_data *d = taut__alloc(1, sizeof *d);
    *out = NULL;
    if (!d) return taut__fail(TAUT_E_NOMEM, "NCCL: out of memory");
    *d = (nccl_data){.base.ops = &d->ops, .ops = ops, .n = n, .comm = comm, .owns = owns};
    if (!n->all_to_all) d->ops.exchange = NULL;
    int r = n->count(comm, &d->base.size);
    if (r == TAUT__NCCL_OK) r = n->rank(comm, &d->base.rank);
    if (r == TAUT__NCCL_OK) r = n->device(comm, &d->device);
    if (r != TAUT__NCCL_OK) {
        taut__free(d);
        return taut__nccl_failed(n, NULL, r, "NCCL: asking the communicator for its ranks");
    }
    taut__nccl_minder_init(&d->minder, n, comm);
    *out = &d->base;
    return TAUT_OK;
}

/* ---- communicators of our own ---- */

taut_status taut__nccl_begin(const taut__nccl *n, int ranks, taut__nccl_id id, int rank, taut__nccl_comm *comm)
{
    taut__nccl_config config = {
        .size = sizeof config, .magic = (unsigned)TAUT__NCCL_CONFIG_MAGIC, .version = TAUT__NCCL_CONFIG_VERSION};
    *comm = NULL;
    int r = n->init(comm, ranks, id, rank, &config);
    return r == TAUT__NCCL_OK || r == TAUT__NCCL_IN_PROGRESS ? TAUT_OK
                                                             : taut__nccl_failed(n, NULL, r, "ncclCommInitRankConfig");
}

taut_status taut__nccl_poll(const taut__nccl *n, taut__nccl_comm comm, bool *is_ready)
{
    int state = TAUT__NCCL_OK, r = n->async_error(comm, &state);
    *is_ready = r == TAUT__NCCL_OK && state == TAUT__NCCL_OK;
    if (r == TAUT__NCCL_OK && (state == TAUT__NCCL_OK || state == TAUT__NCCL_IN_PROGRESS)) return TAUT_OK;
    return taut__nccl_failed(n, comm, r == TAUT__NCCL_OK ? state : r, "ncclCommInitRankConfig");
}
