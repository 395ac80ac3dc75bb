/* communicator.c : create, destroy, step end. */
#include "communicator.h"
#include <string.h>

/* ---- shared by all layers ---- */

taut_status taut__comm_scratch(taut_comm *comm, size_t floats)
{
    int threads = taut__executor_threads(comm->pool);
    if (floats <= comm->scratch_n) return TAUT_OK;
    floats = taut__ceil_div(floats, 64) * 64;
    for (int w = 0; w < threads; w++) {
        float *more = taut__alloc(2 * floats, sizeof *more);
        if (!more) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu floats of scratch", 2 * floats);
        taut__free(comm->scratch[w]);
        comm->scratch[w] = more;
    }
    comm->scratch_n = floats;
    return TAUT_OK;
}

taut_status taut__comm_tags(taut_comm *comm, int *tag)
{
    if (comm->next_tag > comm->t->tag_max - TAUT_TAGS)
        return taut__fail(TAUT_E_RANGE, "%d layers: the transport's %d tags allow no more", comm->next_tag / TAUT_TAGS, comm->t->tag_max);
    *tag = comm->next_tag;
    comm->next_tag += TAUT_TAGS;
    return TAUT_OK;
}

taut_status taut__comm_reserve(taut_comm *comm, taut__slots *s, size_t requests)
{
    if (requests <= s->reserved) return TAUT_OK;
    TAUT_TRY(comm->t->ops->reserve(comm->t, requests - s->reserved));
    s->reserved = requests;
    return TAUT_OK;
}

taut_status taut__comm_slots(taut_comm *comm, taut__slots *s)
{
    TAUT_TRY(taut__slots_open(s, &comm->arena, NULL));
    return taut__comm_reserve(comm, s, s->requests + 2);
}

static taut_status fit_arena(taut_comm *comm)
{
    TAUT_TRY(taut__arena_fit(&comm->arena));
    if (comm->arena.requests <= comm->reserved) return TAUT_OK;
    TAUT_TRY(comm->t->ops->reserve(comm->t, comm->arena.requests - comm->reserved));
    comm->reserved = comm->arena.requests;
    return TAUT_OK;
}

taut_status taut__comm_arena(taut_comm *comm)
{
    if (!comm->arena.due) return TAUT_OK;
    taut__engine_hold(&comm->engine);
    taut_status s = fit_arena(comm);
    taut__engine_release(&comm->engine);
    return s;
}

/* ---- forks: a child has the memory of its parent's communicators, but neither their threads nor a place among the ranks ---- */

static _Atomic unsigned forks; /* between this process and the first one */
static void             forked(void) { atomic_fetch_add(&forks, 1); }
static void             watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

bool taut__comm_forked(const taut_comm *comm) { return comm->forks != atomic_load_explicit(&forks, memory_order_relaxed); }

taut_status taut__comm_check(const taut_comm *comm, const char *call)
{
    if (taut__comm_forked(comm))
        return taut__fail(TAUT_E_STATE, "%s: this process was forked from the one that made the communicator, which alone may use it", call);
    return taut__engine_check(&comm->engine);
}

/* ---- life ---- */

/* 0: a communication thread where the transport allows one, except for a single rank, which has nobody to talk to. */
static bool wants_thread(const taut_comm *comm)
{
    if (comm->set.c.progress == 2 || comm->t->size == 1) return false;
    return comm->t->threads;
}

static taut_status open_comm(taut_comm *comm)
{
    comm->all = (taut__group){.t = comm->t, .rank = comm->t->rank, .size = comm->t->size};
    comm->next_tag = TAUT_TAG_LAYERS;
    if (comm->set.c.progress == 1 && !comm->t->threads)
        return taut__fail(TAUT_E_UNSUPPORTED, "progress=1: a communication thread needs MPI_THREAD_MULTIPLE");
    taut__watchdog_init(&comm->watchdog, comm->t, comm->set.c.timeout_ms);
    TAUT_TRY(taut__engine_create(&comm->engine, comm->t, comm->set.c.timeout_ms, wants_thread(comm)));
    comm->engine.ctx = comm;
    comm->engine.ask = taut__absence_ask;
    comm->engine.hear = taut__absence_hear;
    TAUT_TRY(taut__executor_create(comm->set.c.threads, &comm->pool));
    comm->scratch = taut__alloc((size_t)comm->set.c.threads, sizeof *comm->scratch);
    if (!comm->scratch) return taut__fail(TAUT_E_NOMEM, "out of memory");
    TAUT_TRY(comm->t->ops->reserve(comm->t, 8)); /* control exchanges */
    TAUT_TRY(taut__hier_init(comm));
    TAUT_TRY(taut__trace_open(comm->set.c.trace, comm->t->rank, &comm->trace));
    comm->hooks = taut__auto_hooks();
    return comm->hooks ? comm->hooks->create(comm, &comm->set, &comm->autom) : TAUT_OK;
}

taut_status taut__comm_create(taut__transport *t, const taut_config *cfg, taut_comm **out)
{
    *out = NULL;
    taut_comm *comm = taut__alloc(1, sizeof *comm);
    if (!comm) {
        t->ops->destroy(t);
        return taut__fail(TAUT_E_NOMEM, "out of memory");
    }
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    comm->forks = atomic_load(&forks);
    comm->t = t;
    comm->gone.rank = -1;
    taut_status s = taut__settings_load(cfg, &comm->set);
    if (s == TAUT_OK) s = open_comm(comm);
    if (s == TAUT_OK) *out = comm;
    else taut__comm_discard(comm);
    return s;
}

void taut_comm_destroy(taut_comm *comm)
{
    if (!comm || taut__comm_forked(comm)) return; /* in a child there is nothing that could be given back */
    taut__absence_leave(comm);
    taut__comm_discard(comm);
}

void taut__comm_discard(taut_comm *comm)
{
    taut__engine_destroy(&comm->engine);
    taut__watchdog_destroy(&comm->watchdog);
    if (comm->autom) comm->hooks->destroy(comm->autom);
    taut__trace_close(comm->trace);
    bool keep = comm->t->dirty; /* MPI may still read frames that a lost peer has not taken, or write what it sends late */
    for (size_t i = 0; i < comm->layers && !keep; i++) taut__layer_destroy(comm->layer[i]);
    for (size_t i = 0; i < comm->buckets && !keep; i++) taut__fuse_destroy(comm->bucket[i]);
    for (int w = 0; comm->scratch && w < comm->set.c.threads; w++) taut__free(comm->scratch[w]);
    taut__free(comm->scratch);
    if (!keep) taut__arena_fini(&comm->arena);
    taut__executor_destroy(comm->pool);
    taut__free(comm->layer), taut__free(comm->bucket), taut__free(comm->members), taut__free(comm->sampling.error);
    taut__free(comm->lent), taut__free(comm->loads.rank);
    comm->t->ops->destroy(comm->t);
    if (keep) return; /* exchanges at a step's end and of the handshake */
    taut__free(comm->control);
    taut__free(comm);
}

taut_status taut_comm_create_threads(int ranks, const taut_config *cfg, taut_comm **comms)
{
    taut__settings   set;
    taut__transport *t[1024];
    if (!comms) return taut__fail(TAUT_E_INVALID, "taut_comm_create_threads: comms is NULL");
    if (ranks < 1 || ranks > 1024) return taut__fail(TAUT_E_RANGE, "taut_comm_create_threads: ranks=%d: must be 1..1024", ranks);
    for (int r = 0; r < ranks; r++) comms[r] = NULL;
    TAUT_TRY(taut__settings_load(cfg, &set));
    TAUT_TRY(taut__threads_create(ranks, set.fake_hosts, t));
    taut_status s = TAUT_OK;
    for (int r = 0; r < ranks; r++) {
        if (s == TAUT_OK) s = taut__comm_create(t[r], cfg, &comms[r]);
        else t[r]->ops->destroy(t[r]);
    }
    for (int r = 0; r < ranks && s != TAUT_OK; r++) {
        if (comms[r]) taut__comm_discard(comms[r]);
        comms[r] = NULL;
    }
    return s;
}

int taut_comm_rank(const taut_comm *comm) { return comm ? comm->all.rank : -1; }
int taut_comm_size(const taut_comm *comm) { return comm ? comm->all.size : 0; }
size_t taut_comm_layers(const taut_comm *comm) { return comm ? comm->layers : 0; }
taut_layer *taut_comm_layer(const taut_comm *comm, size_t i) { return comm && i < comm->layers ? comm->layer[i] : NULL; }

/* ---- step end ---- */

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

/* What went wrong here concerns all ranks. */
static taut_status told(taut_comm *comm, taut_status s)
{
    return s == TAUT_OK ? s : taut__engine_fail(&comm->engine, s, taut_last_error());
}

/* All ranks are here for the first time: probes may talk to them. */
static taut_status open_auto(taut_comm *comm)
{
    if (comm->opened || !comm->autom) return TAUT_OK;
    comm->opened = true;
    return told(comm, comm->hooks->open(comm->autom));
}

static taut_status end_step(taut_comm *comm)
{
    TAUT_TRY(taut__handshake_begin(comm));
    TAUT_TRY(wait_all(comm));
    TAUT_TRY(taut__handshake_wait(comm));
    TAUT_TRY(open_auto(comm));
    TAUT_TRY(taut__step_exchange(comm));
    return told(comm, taut__comm_arena(comm));
}

taut_status taut_step_end(taut_comm *comm)
{
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_step_end: comm is NULL");
    TAUT_TRY(taut__comm_check(comm, "taut_step_end"));
    comm->ends++;
    comm->loads.open = false;
    atomic_store(&comm->ending, true);
    taut_status s = end_step(comm);
    taut__engine_hold(&comm->engine); /* nobody is looking at layers on the strength of it */
    atomic_store(&comm->ending, false);
    taut__engine_release(&comm->engine);
    return s;
}
