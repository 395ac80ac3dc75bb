/* persistent_mpi.c : requests of MPI_Allreduce_init.
 *
 * What the program gets is a persistent synchronous send to itself: it can be started, waited for and freed like any request. A start
 * starts that send and wakes the request's thread, which makes the call, coded or with the MPI's own persistent request, and then
 * receives the message. (A receive would do as well, but in MPICH 4.0 one from oneself never ends if another thread sends.) Starts come in any order on each rank, so requests have nothing in common: each has its own channel,
 * communicator and layer. Whether there is one is agreed when the request is made, where MPI lets ranks wait for each other. */
#include "channel.h"
#include "../base/thread.h"
#include <stdlib.h>

enum { MOST = 64 }; /* such requests at a time; further ones stay the MPI's own */

typedef struct persistent {
    taut__channel     *channel;
    taut__entry        entry;
    MPI_Request        handle;  /* the program's; null once it has freed it */
    MPI_Request        request; /* the same, by which waits are known */
    int                tag;
    pthread_t          thread;
    pthread_mutex_t    lock;
    pthread_cond_t     changed;
    uint64_t           starts, made; /* the program's, and those that are over */
    bool               stop;
    struct persistent *next;
} persistent;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static persistent     *all;
static _Atomic size_t  count;
static MPI_Comm        self = MPI_COMM_NULL; /* of this rank alone, for those messages */

static void *serve(void *arg)
{
    persistent *p = arg;
    for (;;) {
        pthread_mutex_lock(&p->lock);
        while (p->made == p->starts && !p->stop) pthread_cond_wait(&p->changed, &p->lock);
        bool due = p->made < p->starts;
        pthread_mutex_unlock(&p->lock);
        if (!due) return NULL;
        taut__entry e = p->entry;
        if (taut__channel_event(p->channel, &e)) taut__channel_execute(p->channel, &e);
        else taut__plain_call(p->channel, &e);
        taut__waits_arrived(p->channel, e.event, p->request);
        pthread_mutex_lock(&p->lock);
        p->made++;
        pthread_mutex_unlock(&p->lock);
        PMPI_Recv(NULL, 0, MPI_BYTE, 0, p->tag, self, MPI_STATUS_IGNORE);
    }
}

/* ---- making one ---- */

static persistent *create(taut__channel *c, const taut__entry *e)
{
    static int  tags;
    persistent *p = calloc(1, sizeof *p);
    MPI_Comm    control;
    if (!taut__comm_like(c->user, &control)) return free(p), NULL;
    taut__channel *own = p ? taut__channel_alone(control) : NULL;
    if (!own) {
        PMPI_Comm_free(&control);
        return free(p), NULL;
    }
    p->channel = own;
    p->entry = *e;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    pthread_mutex_lock(&lock);
    if (self == MPI_COMM_NULL) taut__comm_like(MPI_COMM_SELF, &self);
    p->tag = tags++ % 32768; /* every MPI has those; more than that are never there at a time */
    pthread_mutex_unlock(&lock);
    if (PMPI_Ssend_init(NULL, 0, MPI_BYTE, 0, p->tag, self, &p->handle) == MPI_SUCCESS) {
        p->request = p->handle;
        if (taut__thread_start(&p->thread, serve, p, "a thread of a persistent request") == TAUT_OK) return p;
        PMPI_Request_free(&p->handle);
    }
    taut__channel_release(own);
    return free(p), NULL;
}

static bool all_agree(taut__channel *c, bool yes, uint64_t word)
{
    uint64_t v[2] = {yes ? word : 0, yes ? ~word : 0};
    return taut__real_mpi.Allreduce(MPI_IN_PLACE, v, 2, MPI_UINT64_T, MPI_MIN, c->user) == MPI_SUCCESS && v[0] == ~v[1];
}

static void discard(persistent *p);

/* Every rank comes here for every such request, whatever is in it, so that ranks that differ agree on the MPI's own. */
int taut__allreduce_init(taut__channel *c, taut__entry *e, MPI_Comm comm, MPI_Info info, MPI_Request *request)
{
    int      rc = taut__real_mpi.Allreduce_init(e->in, e->out, e->count, e->type, e->op, comm, info, request);
    bool     mine = rc == MPI_SUCCESS && taut__channel_eligible(c, e) && e->fit && count < MOST;
    uint64_t word = taut__call_key(TAUT_KIND_PERSISTENT, e->elements, (uint32_t)e->dtype + 1, TAUT_OP_SUM, true);
    if (!all_agree(c, mine, word)) return rc;
    e->plain = *request;
    persistent *p = create(c, e);
    if (!all_agree(c, p != NULL, 1)) {
        if (p) PMPI_Request_free(&p->handle), p->entry.plain = MPI_REQUEST_NULL, discard(p);
        return MPI_SUCCESS;
    }
    pthread_mutex_lock(&lock);
    p->next = all, all = p;
    count++;
    pthread_mutex_unlock(&lock);
    *request = p->handle;
    return MPI_SUCCESS;
}

/* ---- using it ---- */

static persistent *find(MPI_Request r)
{
    persistent *p = NULL;
    if (count == 0) return NULL;
    pthread_mutex_lock(&lock);
    for (p = r == MPI_REQUEST_NULL ? NULL : all; p && p->handle != r; p = p->next) {}
    pthread_mutex_unlock(&lock);
    return p;
}

int taut__MPI_Start(MPI_Request *r)
{
    persistent *p = r ? find(*r) : NULL;
    int         rc = taut__real_mpi.Start(r);
    if (!p || rc != MPI_SUCCESS) return rc;
    pthread_mutex_lock(&p->lock);
    taut__waits_expect(p->channel, p->starts, p->request); /* its channel has no other events */
    p->starts++;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return MPI_SUCCESS;
}

int taut__MPI_Startall(int n, MPI_Request *r)
{
    int rc = MPI_SUCCESS;
    if (count == 0) return taut__real_mpi.Startall(n, r);
    for (int i = 0; i < n && rc == MPI_SUCCESS; i++) rc = taut__MPI_Start(&r[i]);
    return rc;
}

/* What was started is finished first. */
static void discard(persistent *p)
{
    taut__thread_stop(p->thread, true, &p->lock, &p->changed, &p->stop);
    if (p->entry.plain != MPI_REQUEST_NULL) PMPI_Request_free(&p->entry.plain);
    taut__channel_release(p->channel);
    pthread_mutex_destroy(&p->lock), pthread_cond_destroy(&p->changed);
    free(p);
}

int taut__MPI_Request_free(MPI_Request *r)
{
    persistent *p = r ? find(*r) : NULL;
    if (!p) return taut__real_mpi.Request_free(r);
    pthread_mutex_lock(&p->lock);
    bool busy = p->made < p->starts; /* then nobody waits here: MPI_Finalize comes back to it */
    pthread_mutex_unlock(&p->lock);
    pthread_mutex_lock(&lock);
    p->handle = MPI_REQUEST_NULL;
    for (persistent **at = &all; *at && !busy; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            count--;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (!busy) discard(p);
    return taut__real_mpi.Request_free(r);
}

void taut__persistent_close_all(void)
{
    while (all) {
        persistent *p = all;
        all = p->next;
        count--;
        discard(p);
    }
    if (self != MPI_COMM_NULL) PMPI_Comm_free(&self);
}
