/* communicator.c : create and destroy. */
#include "communicator.h"
#include "../transport/wrapped.h"

/* 0: a communication thread where the transport allows one, except for a single rank, which has nobody to talk to. */
static bool wants_thread(const taut_comm *comm)
{
    if (comm->ctx.set.c.progress == 2 || comm->ctx.t->size == 1) return false;
    return comm->ctx.t->threads;
}

static taut_status open_comm(taut_comm *comm, taut__transport *t)
{
    TAUT_TRY(taut__context_open(&comm->ctx, t));
    comm->ctx.engine.ctx = comm;
    comm->ctx.engine.steps = &comm->steps;
    comm->ctx.engine.ask = taut__absence_ask;
    comm->ctx.engine.hear = taut__absence_hear;
    comm->hooks = taut__auto_hooks();
    comm->planning = (taut__planning){.ctx = &comm->ctx,
                                      .members = comm->ctx.hierarchical ? comm->ctx.leaders.size : comm->ctx.all.size};
    if (comm->hooks) TAUT_TRY(comm->hooks->create(&comm->planning, &comm->ctx.set, &comm->autom));
    TAUT_TRY(taut__metrics_open(comm));
    return wants_thread(comm) ? taut__engine_thread(&comm->ctx.engine) : TAUT_OK;
}

/* Damage lies below what repairs it. */
static taut_status wrap(const taut__settings *set, taut__transport **t)
{
    int32_t      ms = set->c.timeout_ms;
    taut__faults f;
    TAUT_TRY(taut__faults_parse(set->faults, &f));
    if (taut__faults_any(&f)) TAUT_TRY(taut__faulty_create(&f, t));
    if (set->delivery != TAUT_DELIVERY_ASSURED) return TAUT_OK;
    return taut__assured_create(ms < 0 ? ms : ms / 4, t); /* long before anybody gives up */
}

taut_status taut__comm_create(taut__transport *t, const taut_config *cfg, taut_comm **out)
{
    *out = NULL;
    taut_comm *comm = taut__alloc(1, sizeof *comm);
    if (!comm) {
        t->ops->destroy(t);
        return taut__fail(TAUT_E_NOMEM, "out of memory");
    }
    comm->forks = taut__forks();
    comm->ctx.t = t;
    comm->gone.rank = -1;
    taut_status s = taut__settings_load(cfg, &comm->ctx.set);
    if (s == TAUT_OK) s = wrap(&comm->ctx.set, &comm->ctx.t);
    if (s == TAUT_OK) s = open_comm(comm, comm->ctx.t);
    if (s == TAUT_OK) *out = comm;
    else taut__comm_discard(comm);
    return s;
}

void taut_comm_destroy(taut_comm *comm)
{
    if (!comm || taut__comm_forked(comm)) return; /* in a child there is nothing that could be given back */
    taut__kept_device was = taut__keep_device();
    taut__metrics_close(comm);
    taut__absence_leave(comm);
    taut__comm_discard(comm);
    taut__restore_device(was);
}

void taut__comm_discard(taut_comm *comm)
{
    taut__metrics_close(comm);
    if (comm->ctx.data && atomic_load(&comm->ctx.engine.failed)) taut__data_abort(comm->ctx.data);
    taut__engine_destroy(&comm->ctx.engine);
    taut__watchdog_destroy(&comm->ctx.watchdog);
    if (comm->autom) comm->hooks->destroy(comm->autom);
    taut__trace_close(comm->ctx.trace);
    bool keep = comm->ctx.t->dirty; /* MPI may still read frames that a lost peer did not take, or write late ones */
    for (size_t i = 0; i < comm->layers && !keep; i++) taut__layer_destroy(comm->layer[i]);
    for (size_t i = 0; i < comm->buckets && !keep; i++) taut__fuse_destroy(comm->bucket[i]);
    taut__context_close(&comm->ctx, keep);
    taut__data_destroy(comm->ctx.data);
    taut__free(comm->layer), taut__free(comm->bucket), taut__free(comm->sampling.error);
    taut__free(comm->lent), taut__free(comm->loads.rank);
    comm->ctx.t->ops->destroy(comm->ctx.t);
    if (keep) return; /* exchanges at a step's end and of the handshake */
    taut__free(comm->control), taut__free(comm->run);
    taut__free(comm);
}

taut_status taut_comm_create_threads(int ranks, const taut_config *cfg, taut_comm **comms)
{
    taut__settings   set;
    taut__transport *t[1024];
    if (!comms) return taut__fail(TAUT_E_INVALID, "taut_comm_create_threads: comms is NULL");
    if (ranks < 1 || ranks > 1024)
        return taut__fail(TAUT_E_RANGE, "taut_comm_create_threads: ranks=%d: must be 1..1024", ranks);
    for (int r = 0; r < ranks; r++) comms[r] = NULL;
    TAUT_TRY(taut__settings_load(cfg, &set));
    TAUT_TRY(taut__threads_create(ranks, set.fake_hosts, t));
    taut_status s = TAUT_OK;
    int         who = -1; /* the first that fails */
    for (int r = 0; r < ranks; r++) {
        if (s == TAUT_OK) s = taut__comm_create(t[r], cfg, &comms[r]);
        else t[r]->ops->destroy(t[r]);
        if (s != TAUT_OK && who < 0) who = r;
    }
    for (int r = 0; r < ranks && s != TAUT_OK; r++) {
        if (comms[r]) taut__comm_discard(comms[r]);
        comms[r] = NULL;
    }
    return s == TAUT_OK ? s : taut__fail(s, "rank %d: %s", who, taut_last_error());
}

int         taut_comm_rank(const taut_comm *comm) { return comm ? comm->ctx.all.rank : -1; }
int         taut_comm_size(const taut_comm *comm) { return comm ? comm->ctx.all.size : 0; }
size_t      taut_comm_layers(const taut_comm *comm) { return comm ? comm->layers - comm->own_layers : 0; }
taut_layer *taut_comm_layer(const taut_comm *comm, size_t i)
{
    if (!comm || i >= comm->layers - comm->own_layers) return NULL;
    size_t at = i; /* as many further as there are bundles before it */
    while (comm->layer[at]->bundle || comm->layer[at]->number != i) at++;
    return comm->layer[at];
}
