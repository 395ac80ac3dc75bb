/* nccl_double.c : see nccl_double.h. */
#include "nccl_double.h"
#include "mock_space.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SYSTEM_ERROR = 2,
    INVALID_ARGUMENT = 4,
    REMOTE_ERROR = 6,
    MOST_RANKS = 16,
    MOST_OPS = 64,
    MOST_HUBS = 64,
    MOST_OPEN = 8,
    PATIENCE_S = 20,
    STOPPED = -1
};

typedef struct message {
    struct message *next;
    uint64_t        seq;
    size_t          bytes;
    char            data[];
} message;

typedef struct hub { /* one per unique id; shared by the ranks */
    char     id[128];
    int      ranks, left;
    uint64_t came[MOST_RANKS];              /* operations of each rank, so far */
    message *queue[MOST_RANKS][MOST_RANKS]; /* from, to */
} hub;

struct ncclComm {
    hub             *hub;
    int              rank, polls;
    uint64_t         seq; /* operations, so far */
    bool             aborted;
    int              graphs; /* operations of it that graphs hold */
    int              error;
    char             why[160];
    struct group    *held, **held_last; /* lazy: not yet given to their streams */
    struct ncclComm *next;
};

typedef enum kind { SEND, RECV, REDUCE, GATHER, ALLTOALL } kind;
typedef struct op {
    kind        kind;
    int         peer, type, combine;
    const void *from;
    void       *to;
    size_t      bytes;
} op;

typedef struct group {
    struct group       *next;
    struct ncclComm    *comm;
    struct CUstream_st *stream;
    uint64_t            seq;
    nccl_fault          fault;
    int                 n;
    op                  ops[MOST_OPS];
} group;

static pthread_mutex_t      lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t       moved = PTHREAD_COND_INITIALIZER;
static hub                 *hubs[MOST_HUBS];
static struct ncclComm     *comms; /* all that were made: a task may look at one that is gone */
static _Atomic int          delay_us, lazy_polls, version_code, left, operations, strays;
static int                  ending; /* threads that end a communicator */
static int                  fault_rank, fault_nth;
static nccl_fault           fault_kind;
static size_t               spoils_at;
static _Atomic int          speed[2][2]; /* of sums, of others: microseconds, and for each KiB */
static _Thread_local int    depth;
static _Atomic bool         blocking, many_devices;
static _Thread_local group *open_group[MOST_OPEN]; /* of one communicator each */
static _Thread_local int    n_open;

/* ---- on the stream's thread ---- */

static const void *reach(const void *p) { return mock_inside(p); }

static void give_error(struct ncclComm *c, int error, const char *text)
{
    if (c->error == 0) c->error = error, snprintf(c->why, sizeof c->why, "%s", text);
}

/* With the lock. */
static void put(struct ncclComm *c, int to, uint64_t seq, const void *data, size_t bytes, bool damaged)
{
    message *m = malloc(sizeof *m + bytes), **at = &c->hub->queue[c->rank][to];
    *m = (message){.seq = seq, .bytes = bytes};
    if (bytes) memcpy(m->data, data, bytes);
    size_t first = bytes < 8 ? 0 : spoils_at < bytes - 8 ? spoils_at : bytes - 8;
    for (size_t i = first; damaged && i < bytes && i < first + 8; i++) m->data[i] ^= (char)0x5a;
    while (*at) at = &(*at)->next;
    *at = m;
    pthread_cond_broadcast(&moved);
}

/* NULL: aborted, or an error. With the lock. */
static message *take(struct ncclComm *c, int from, uint64_t seq, size_t bytes)
{
    message **at = &c->hub->queue[from][c->rank];
    while (!*at && !c->aborted && !c->error) pthread_cond_wait(&moved, &lock);
    if (c->aborted || c->error) return NULL;
    message *m = *at;
    *at = m->next;
    if (m->seq == seq && m->bytes == bytes) return m;
    char text[160];
    snprintf(
        text, sizeof text,
        "rank %d is in its operation %d and expects %d bytes of rank %d, which is in its operation %d and sends %d",
        c->rank, (int)seq, (int)bytes, from, (int)m->seq, (int)m->bytes);
    give_error(c, INVALID_ARGUMENT, text);
    free(m);
    return NULL;
}

static void add(int type, void *acc, const void *x, size_t bytes)
{
    for (size_t i = 0; i < bytes / 4 && type == TAUT__NCCL_F32; i++) ((float *)acc)[i] += ((const float *)x)[i];
    for (size_t i = 0; i < bytes / 4 && (type == TAUT__NCCL_I32 || type == TAUT__NCCL_U32); i++)
        ((uint32_t *)acc)[i] += ((const uint32_t *)x)[i];
    for (size_t i = 0; i < bytes / 8 && type == TAUT__NCCL_F64; i++) ((double *)acc)[i] += ((const double *)x)[i];
}

static bool damaged(const group *g, int to)
{
    const struct ncclComm *c = g->comm;
    return to != c->rank &&
           (g->fault == NCCL_TRUNCATES || (g->fault == NCCL_SPOILS_ONE && to == (c->rank + 1) % c->hub->ranks));
}

static void post(const group *g, const op *o)
{
    struct ncclComm *c = g->comm;
    const char      *from = reach(o->from);
    if (o->kind == SEND) put(c, o->peer, g->seq, from, o->bytes, damaged(g, o->peer));
    for (int q = 0; q < c->hub->ranks && o->kind >= REDUCE; q++)
        put(c, q, g->seq, o->kind == ALLTOALL ? from + (size_t)q * o->bytes : from, o->bytes, damaged(g, q));
}

/* In order of rank, each added to, or put behind, those before. */
static bool collect(const group *g, const op *o, int q)
{
    char    *to = (char *)(uintptr_t)reach(o->to);
    message *m = take(g->comm, q, g->seq, o->bytes);
    if (!m) return false;
    if (o->kind == REDUCE && q > 0) add(o->type, to, m->data, o->bytes);
    else memcpy(to + (o->kind == GATHER || o->kind == ALLTOALL ? (size_t)q * o->bytes : 0), m->data, o->bytes);
    free(m);
    return true;
}

static bool finish(const group *g, const op *o)
{
    bool good = true;
    if (o->kind == RECV) return collect(g, o, o->peer);
    for (int q = 0; q < g->comm->hub->ranks && good && o->kind >= REDUCE; q++) good = collect(g, o, q);
    float *x = o->kind == REDUCE && o->combine == TAUT__NCCL_AVG && good ? (float *)(uintptr_t)reach(o->to) : NULL;
    for (size_t i = 0; x && i < o->bytes / 4; i++) x[i] /= (float)g->comm->hub->ranks;
    return good;
}

static void wait_for_abort(struct ncclComm *c)
{
    while (!c->aborted) pthread_cond_wait(&moved, &lock);
}

static void run_locked(group *g)
{
    struct ncclComm *c = g->comm;
    bool             good = true;
    if (c->aborted) return;
    if (g->fault == NCCL_ASYNC) give_error(c, REMOTE_ERROR, "a fault on demand");
    if (g->fault == NCCL_ASYNC || g->fault == NCCL_LOST) {
        pthread_cond_broadcast(&moved);
        wait_for_abort(c);
        return;
    }
    /* in whatever order; messages between two ranks keep theirs where there is one each, as of sends */
    int first = g->n > 1 && g->ops[0].kind < REDUCE ? rand() % g->n : 0;
    for (int i = 0; i < g->n; i++) post(g, &g->ops[(first + i) % g->n]);
    for (int i = 0; i < g->n && good; i++) good = finish(g, &g->ops[i]);
    if (!good) wait_for_abort(c); /* as a kernel does */
}

static long takes_us(const group *g)
{
    size_t bytes = 0;
    for (int i = 0; i < g->n; i++) bytes += g->ops[i].kind == RECV ? 0 : g->ops[i].bytes;
    _Atomic int *v = speed[g->ops[0].kind != REDUCE];
    return atomic_load(&v[0]) + atomic_load(&v[1]) * (long)(bytes / 1024);
}

static taut_status run(void *arg)
{
    group *g = arg;
    int    us = atomic_load(&delay_us);
    long   takes = takes_us(g) + (us > 0 ? rand() % us : 0);
    if (takes > 0) nanosleep(&(struct timespec){takes / 1000000, takes % 1000000 * 1000L}, NULL);
    pthread_mutex_lock(&lock);
    run_locked(g);
    pthread_mutex_unlock(&lock);
    free(g);
    return TAUT_OK;
}

/* ---- calls ---- */

/* Of a graph: every launch is an operation of its own. */
static void *again(void *arg)
{
    group *g = malloc(sizeof *g);
    *g = *(const group *)arg;
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&operations, 1);
    g->seq = g->comm->seq++;
    pthread_mutex_unlock(&lock);
    return g;
}

static void dropped(void *arg)
{
    group *g = arg;
    pthread_mutex_lock(&lock);
    g->comm->graphs--;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
    free(g);
}

/* With the lock. */
static void give(group *g)
{
    taut_place p = {.space = TAUT_SPACE_TEST, .device = mock_device(), .stream = g->stream};
    g->comm->graphs += mock_enqueue_task_again(p, run, g, again, dropped);
}

/* An operation is complete: on its way to the stream, now or after some polls. With the lock. */
static int submit(group *g)
{
    struct ncclComm *c = g->comm;
    atomic_fetch_add(&operations, 1);
    g->seq = c->seq++;
    if (fault_kind != NCCL_FINE && fault_kind != NCCL_NO_ID && c->rank == fault_rank && --fault_nth == 0)
        g->fault = fault_kind, fault_kind = NCCL_FINE;
    if (g->fault == NCCL_STOPS) {
        free(g);
        return STOPPED;
    }
    if (g->fault == NCCL_REFUSES || c->aborted || c->error) {
        bool refused = g->fault == NCCL_REFUSES;
        free(g);
        return refused ? SYSTEM_ERROR : INVALID_ARGUMENT;
    }
    if (atomic_load(&lazy_polls) == 0) {
        give(g);
        return TAUT__NCCL_OK;
    }
    c->polls = atomic_load(&lazy_polls);
    *c->held_last = g;
    c->held_last = &g->next;
    return TAUT__NCCL_IN_PROGRESS;
}

static bool all_came(const struct ncclComm *c, uint64_t seq)
{
    for (int q = 0; q < c->hub->ranks; q++)
        if (c->hub->came[q] <= seq) return false;
    return true;
}

/* With the lock. */
static int wait_for_all(const struct ncclComm *c, uint64_t seq)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    while (!all_came(c, seq) && !c->aborted && !c->error)
        if (pthread_cond_timedwait(&moved, &lock, &until) != 0) return SYSTEM_ERROR;
    return c->aborted || c->error ? INVALID_ARGUMENT : TAUT__NCCL_OK;
}

/* All groups that are open: taken one by one, then waited for. */
static int close_groups(void)
{
    struct ncclComm *c[MOST_OPEN];
    uint64_t         seq[MOST_OPEN];
    int              r = TAUT__NCCL_OK, n = n_open;
    n_open = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < n; i++) {
        c[i] = open_group[i]->comm, seq[i] = c[i]->seq;
        int  each = submit(open_group[i]);
        bool stopped = each == STOPPED;
        if (r == TAUT__NCCL_OK) r = stopped ? TAUT__NCCL_OK : each;
        if (!stopped) c[i]->hub->came[c[i]->rank] = c[i]->seq;
    }
    pthread_cond_broadcast(&moved);
    for (int i = 0; i < n && r == TAUT__NCCL_OK && atomic_load(&blocking); i++) r = wait_for_all(c[i], seq[i]);
    pthread_mutex_unlock(&lock);
    return r;
}

static group *group_of(struct ncclComm *c, struct CUstream_st *stream)
{
    for (int i = 0; i < n_open; i++)
        if (open_group[i]->comm == c) return open_group[i]->stream == stream ? open_group[i] : NULL;
    if (n_open == MOST_OPEN) return NULL;
    group *g = open_group[n_open++] = calloc(1, sizeof *g);
    g->comm = c, g->stream = stream;
    return g;
}

static int add_op(struct ncclComm *c, struct CUstream_st *stream, op o)
{
    if (!c || (!reach(o.from) && o.kind != RECV) || (!reach(o.to) && o.kind != SEND)) return INVALID_ARGUMENT;
    pthread_mutex_lock(&lock);
    bool busy = c->polls > 0; /* what was asked of it before must have been taken */
    if (c->aborted) strays++;
    pthread_mutex_unlock(&lock);
    if (busy) return INVALID_ARGUMENT;
    group *g = group_of(c, stream);
    if (!g || g->n == MOST_OPS) return INVALID_ARGUMENT; /* enough for ours */
    g->ops[g->n++] = o;
    return depth == 0 ? close_groups() : TAUT__NCCL_OK;
}

static int group_start(void)
{
    depth++;
    return TAUT__NCCL_OK;
}
static int group_end(void)
{
    if (depth == 0) return INVALID_ARGUMENT;
    return --depth > 0 || n_open == 0 ? TAUT__NCCL_OK : close_groups();
}

static size_t width(int type)
{
    return type == TAUT__NCCL_I8                               ? 1
           : type == TAUT__NCCL_F64                            ? 8
           : type == TAUT__NCCL_F16 || type == TAUT__NCCL_BF16 ? 2
                                                               : 4;
}

static int call_send(const void *buf, size_t n, int type, int peer, taut__nccl_comm c, struct CUstream_st *s)
{
    return add_op(c, s, (op){.kind = SEND, .peer = peer, .from = buf, .bytes = n * width(type)});
}
static int call_recv(void *buf, size_t n, int type, int peer, taut__nccl_comm c, struct CUstream_st *s)
{
    return add_op(c, s, (op){.kind = RECV, .peer = peer, .to = buf, .bytes = n * width(type)});
}
static int call_reduce(const void *from, void *to, size_t n, int type, int combine, taut__nccl_comm c,
                       struct CUstream_st *s)
{
    if ((combine != TAUT__NCCL_SUM && (combine != TAUT__NCCL_AVG || type != TAUT__NCCL_F32)) || type == TAUT__NCCL_I8)
        return INVALID_ARGUMENT;
    return add_op(
        c, s, (op){.kind = REDUCE, .type = type, .combine = combine, .from = from, .to = to, .bytes = n * width(type)});
}
static int call_gather(const void *from, void *to, size_t n, int type, taut__nccl_comm c, struct CUstream_st *s)
{
    return add_op(c, s, (op){.kind = GATHER, .from = from, .to = to, .bytes = n * width(type)});
}
static int call_alltoall(const void *from, void *to, size_t n, int type, taut__nccl_comm c, struct CUstream_st *s)
{
    return add_op(c, s, (op){.kind = ALLTOALL, .from = from, .to = to, .bytes = n * width(type)});
}

static int         call_version(int *v) { return *v = atomic_load(&version_code), TAUT__NCCL_OK; }
static const char *call_error_text(int r)
{
    return r == SYSTEM_ERROR       ? "unhandled system error"
           : r == INVALID_ARGUMENT ? "invalid argument"
           : r == REMOTE_ERROR     ? "remote process exited or there was a network error"
                                   : "unknown";
}
static const char *call_last_error(taut__nccl_comm c) { return c ? c->why : ""; }

static int call_unique_id(taut__nccl_id *id)
{
    static _Atomic int made;
    pthread_mutex_lock(&lock);
    bool refused = fault_kind == NCCL_NO_ID && --fault_nth == 0;
    if (refused) fault_kind = NCCL_FINE;
    pthread_mutex_unlock(&lock);
    if (refused) return SYSTEM_ERROR;
    memset(id, 0, sizeof *id);
    snprintf(id->bytes, sizeof id->bytes, "double %d", atomic_fetch_add(&made, 1));
    return TAUT__NCCL_OK;
}

static hub *hub_of(const char *id, int ranks)
{
    size_t i = 0;
    for (; i < MOST_HUBS && hubs[i]; i++)
        if (memcmp(hubs[i]->id, id, sizeof hubs[i]->id) == 0) return hubs[i];
    if (i == MOST_HUBS) return NULL;
    hubs[i] = calloc(1, sizeof *hubs[i]);
    memcpy(hubs[i]->id, id, sizeof hubs[i]->id);
    hubs[i]->ranks = ranks;
    return hubs[i];
}

static int call_init(taut__nccl_comm *out, int ranks, taut__nccl_id id, int rank, taut__nccl_config *config)
{
    if (config->size < sizeof *config || config->version < 21400 || config->blocking != 0 || ranks > MOST_RANKS ||
        rank >= ranks)
        return INVALID_ARGUMENT;
    struct ncclComm *c = calloc(1, sizeof *c);
    pthread_mutex_lock(&lock);
    c->hub = hub_of(id.bytes, ranks);
    c->rank = rank;
    c->held_last = &c->held;
    c->polls = atomic_load(&lazy_polls);
    c->next = comms, comms = c;
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&left, 1);
    *out = c;
    return c->polls ? TAUT__NCCL_IN_PROGRESS : TAUT__NCCL_OK;
}

/* As NCCL's, it comes back once graphs that hold operations of it are gone. */
static int call_abort(taut__nccl_comm c)
{
    pthread_mutex_lock(&lock);
    bool again = c->aborted;
    c->aborted = true;
    ending++;
    atomic_fetch_sub(&left, !again);
    pthread_cond_broadcast(&moved);
    while (c->graphs > 0) pthread_cond_wait(&moved, &lock);
    ending--;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
    return again ? INVALID_ARGUMENT : TAUT__NCCL_OK;
}

static int call_async_error(taut__nccl_comm c, int *r)
{
    pthread_mutex_lock(&lock);
    if (c->aborted) strays++;
    if (c->polls > 0) c->polls--;
    while (c->polls == 0 && c->held) {
        group *g = c->held;
        c->held = g->next;
        give(g);
    }
    if (!c->held) c->held_last = &c->held;
    *r = c->error ? c->error : c->polls > 0 ? TAUT__NCCL_IN_PROGRESS : TAUT__NCCL_OK;
    bool gone = c->aborted;
    pthread_mutex_unlock(&lock);
    return gone ? INVALID_ARGUMENT : TAUT__NCCL_OK;
}
static int call_count(taut__nccl_comm c, int *n) { return *n = c->hub->ranks, TAUT__NCCL_OK; }
static int call_rank(taut__nccl_comm c, int *n) { return *n = c->rank, TAUT__NCCL_OK; }
static int call_device(taut__nccl_comm c, int *n)
{
    return *n = mock_device() + (atomic_load(&many_devices) ? c->rank : 0), TAUT__NCCL_OK;
}

static taut__nccl table = {
    .version = call_version,
    .error_text = call_error_text,
    .last_error = call_last_error,
    .unique_id = call_unique_id,
    .init = call_init,
    .destroy = call_abort,
    .abort = call_abort,
    .async_error = call_async_error,
    .count = call_count,
    .device = call_device,
    .rank = call_rank,
    .group_start = group_start,
    .group_end = group_end,
    .send = call_send,
    .recv = call_recv,
    .all_reduce = call_reduce,
    .all_gather = call_gather,
    .all_to_all = call_alltoall,
};

/* ---- for tests ---- */

void nccl_double_open(void)
{
    setenv("TAUT_DATA_LINK", "off", 0); /* operations are counted: how fast it is would be measured by some */
    delay_us = lazy_polls = operations = left = strays = 0;
    blocking = many_devices = false;
    for (int i = 0; i < 2; i++) nccl_double_speed(i == 0, 0, 0);
    fault_kind = NCCL_FINE, spoils_at = 0;
    nccl_double_version(22809);
    taut__nccl_use(&table);
}

static void drop_hub(hub *h)
{
    for (int i = 0; i < MOST_RANKS * MOST_RANKS; i++)
        for (message *m = h->queue[i / MOST_RANKS][i % MOST_RANKS], *next; m; m = next) {
            next = m->next;
            free(m);
        }
    free(h);
}

void nccl_double_close(void)
{
    taut__nccl_use(NULL);
    pthread_mutex_lock(&lock);
    while (ending > 0) pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < MOST_HUBS && hubs[i]; i++) drop_hub(hubs[i]), hubs[i] = NULL;
    for (struct ncclComm *c = comms, *next; c; c = next) {
        next = c->next;
        for (group *g = c->held, *after; g; g = after) after = g->next, free(g);
        free(c);
    }
    comms = NULL;
}

void nccl_double_fault(nccl_fault what, int rank, int nth)
{
    pthread_mutex_lock(&lock);
    fault_kind = what, fault_rank = rank, fault_nth = nth;
    pthread_mutex_unlock(&lock);
}
void nccl_double_spoils(size_t at) { spoils_at = at; }
void nccl_double_delay(int us) { atomic_store(&delay_us, us); }
void nccl_double_speed(bool sum, int us, int us_per_kib)
{
    atomic_store(&speed[!sum][0], us), atomic_store(&speed[!sum][1], us_per_kib);
}
void nccl_double_blocking(bool on) { atomic_store(&blocking, on); }
void nccl_double_devices(bool many) { atomic_store(&many_devices, many); }
void nccl_double_lazy(int polls) { atomic_store(&lazy_polls, polls); }
void nccl_double_version(int code)
{
    atomic_store(&version_code, code);
    table.all_to_all = code >= 22800 ? call_alltoall : NULL;
}
int               nccl_double_left(void) { return atomic_load(&left); }
int               nccl_double_operations(void) { return atomic_load(&operations); }
int               nccl_double_strays(void) { return atomic_load(&strays); }
const taut__nccl *nccl_double_table(void) { return &table; }
