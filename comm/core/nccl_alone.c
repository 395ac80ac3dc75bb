/* nccl_alone.c : taut_comm_create_nccl(): a communicator from NCCL's and nothing else. What ranks say to each other goes by TCP; where they can be
 * reached they tell each other once, by NCCL. */
#include "../taut_tcp.h"
#include "../transport/nccl_minder.h"
#include "nccl.h"
#include <time.h>

typedef struct meeting {
    const taut__nccl  *n;
    taut__nccl_comm    comm;
    taut_place         place;
    const taut__space *space;
    int                ranks;
    int32_t            timeout_ms; /* < 0: none */
    taut__nccl_minder  minder;
    taut_status        status;
    taut__kept         why;
} meeting;

/* Until what is on the stream has been done, NCCL has failed, or the time is over. What NCCL has not taken yet is not on the stream. */
static taut_status pass(const meeting *m, taut__event *e)
{
    double begin = taut__now();
    bool   ready = false, taken = false, passed = false;
    for (;;) {
        TAUT_TRY(taut__nccl_poll(m->n, m->comm, &ready));
        if (ready && !taken) TAUT_TRY(m->space->event_record(e, m->place));
        taken |= ready;
        if (taken) TAUT_TRY(m->space->event_test(e, &passed));
        if (passed) return TAUT_OK;
        if (m->timeout_ms >= 0 && taut__now() - begin > m->timeout_ms * 1e-3)
            return taut__fail(
                TAUT_E_TIMEOUT,
                "taut_comm_create_nccl: not all %d ranks of NCCL's communicator have called it within %d ms", m->ranks,
                (int)m->timeout_ms);
        nanosleep(&(struct timespec){0, 100000}, NULL);
    }
}

static taut_status wait_for_nccl(const meeting *m)
{
    taut__event *e;
    TAUT_TRY(m->space->event_create(m->place, &e));
    taut_status s = pass(m, e);
    m->space->event_destroy(e);
    return s;
}

static taut_status all_gather(meeting *m, const char *own, char *theirs, size_t bytes)
{
    static const char call[] = "taut_comm_create_nccl: ncclAllGather";
    taut__nccl_enter(&m->minder, call);
    int  r = m->n->all_gather(own, theirs, bytes, TAUT__NCCL_I8, m->comm, m->place.stream);
    bool good = r == TAUT__NCCL_OK || r == TAUT__NCCL_IN_PROGRESS || atomic_load(&m->minder.aborted);
    return taut__nccl_leave(&m->minder, call, good ? TAUT_OK : taut__nccl_failed(m->n, m->comm, r, "ncclAllGather"));
}

/* An allgather of a few bytes, in memory of the device: own ones, then those of all. In the order of the stream, so that memory which NCCL may
 * still write into, after a timeout, is not anybody else's before that. */
static taut_status gather(meeting *m, const void *mine, size_t bytes, void *all)
{
    void *there = NULL;
    TAUT_TRY(m->space->alloc_in(m->place, bytes * (size_t)(m->ranks + 1), &there));
    char       *own = there, *theirs = own + bytes;
    taut_status s = m->space->put(m->place, own, mine, bytes);
    if (s == TAUT_OK) s = all_gather(m, own, theirs, bytes);
    if (s == TAUT_OK) s = wait_for_nccl(m);
    if (s == TAUT_OK) s = m->space->copy(m->place, all, theirs, bytes * (size_t)m->ranks);
    if (s == TAUT_OK) s = m->space->wait(m->place);
    m->space->release_in(m->place, there);
    return s;
}

static int meet(void *ctx, int round, const void *mine, size_t bytes, void *all)
{
    meeting *m = ctx;
    (void)round;
    m->status = gather(m, mine, bytes, all);
    m->why = taut__keep_error();
    return m->status != TAUT_OK;
}

static taut_status ask(meeting *m, int *rank)
{
    TAUT_TRY(taut__nccl_found(&m->n));
    int r = m->n->count(m->comm, &m->ranks);
    if (r == TAUT__NCCL_OK) r = m->n->rank(m->comm, rank);
    if (r == TAUT__NCCL_OK) r = m->n->device(m->comm, &m->place.device);
    if (r != TAUT__NCCL_OK) return taut__nccl_failed(m->n, NULL, r, "taut_comm_create_nccl");
    m->space = taut__memory_of(m->place.space);
    return m->space ? taut__space_use(m->space, m->place) : TAUT_E_UNSUPPORTED;
}

static taut_status create(struct ncclComm *nccl, taut_place place, const taut_config *cfg, taut_comm **comm)
{
    meeting  m = {.comm = nccl, .place = place};
    taut_tcp where = TAUT_TCP_INIT;
    int      rank = 0;
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_comm_create_nccl: comm is NULL");
    *comm = NULL;
    if (!nccl) return taut__fail(TAUT_E_INVALID, "taut_comm_create_nccl: nccl is NULL");
    taut__settings set;
    TAUT_TRY(taut__settings_load(cfg, &set));
    m.timeout_ms = set.c.timeout_ms;
    TAUT_TRY(ask(&m, &rank));
    where.rank = rank, where.ranks = m.ranks;
    if (m.ranks > 1) where.exchange = meet, where.ctx = &m;
    taut__nccl_minder_init(&m.minder, m.n, nccl);
    taut_status s = taut__nccl_mind(&m.minder, m.timeout_ms);
    if (s == TAUT_OK) s = taut_comm_create_tcp(&where, cfg, comm);
    taut__nccl_minder_destroy(&m.minder);
    if (s != TAUT_OK) return m.status == TAUT_OK ? s : taut__fail(m.status, "%s", m.why.text);
    s = taut__comm_use_nccl(*comm, nccl, place.space);
    if (s == TAUT_OK) return TAUT_OK;
    taut__comm_discard(*comm);
    *comm = NULL;
    return s;
}

taut_status taut__comm_create_nccl(struct ncclComm *nccl, taut_place place, const taut_config *cfg, taut_comm **comm)
{
    TAUT_KEEP_DEVICE_IN(place.space, create(nccl, place, cfg, comm));
}

taut_status taut_comm_create_nccl(struct ncclComm *nccl, struct CUstream_st *stream, const taut_config *cfg,
                                  taut_comm **comm)
{
    return taut__comm_create_nccl(nccl, (taut_place){.space = TAUT_CUDA, .stream = stream}, cfg, comm);
}
