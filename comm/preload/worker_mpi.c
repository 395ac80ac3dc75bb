/* worker_mpi.c : the thread that executes a channel's queue, and the calls that it has begun. */
#include "channel.h"
#include "../base/thread.h"
#include <sched.h>
#include <stdlib.h>
#include <time.h>

/* ---- generalized requests: the program's MPI completes its calls through them ---- */

static int query(void *outcome, MPI_Status *status)
{
    PMPI_Status_set_elements(status, MPI_BYTE, 0);
    PMPI_Status_set_cancelled(status, 0);
    status->MPI_SOURCE = MPI_UNDEFINED;
    status->MPI_TAG = MPI_UNDEFINED;
    return *(int *)outcome;
}
static int release(void *outcome)
{
    free(outcome);
    return MPI_SUCCESS;
}
static int cancel(void *state, int complete) /* collectives cannot be cancelled */
{
    (void)state, (void)complete;
    return MPI_SUCCESS;
}

int taut__channel_queue(taut__channel *c, const taut__entry *e, MPI_Request *request)
{
    taut__entry *copy = malloc(sizeof *copy);
    if (!copy) return MPI_ERR_NO_MEM;
    *copy = *e;
    copy->queued = true;
    copy->next = NULL;
    copy->begin_s = taut__now();
    if (e->data) {
        copy->outcome = calloc(1, sizeof *copy->outcome); /* MPI_SUCCESS */
        int rc =
            copy->outcome ? PMPI_Grequest_start(query, release, cancel, copy->outcome, &copy->request) : MPI_ERR_NO_MEM;
        if (rc != MPI_SUCCESS) {
            free(copy->outcome), free(copy);
            return rc;
        }
        *request = copy->request;
        taut__waits_expect(c, copy->event, copy->request);
    }
    pthread_mutex_lock(&c->lock);
    int rc = c->threaded ? MPI_SUCCESS : MPI_ERR_OTHER;
    *c->tail = copy;
    c->tail = &copy->next;
    c->queued++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

static void count_queued(taut__channel *c, int by)
{
    pthread_mutex_lock(&c->lock);
    c->queued += by;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void retire(taut__channel *c, taut__entry *e)
{
    if (e->data) {
        taut__waits_arrived(c, e->event, e->request);
        PMPI_Grequest_complete(e->request);
    }
    free(e);
    count_queued(c, -1);
}

/* ---- calls under way, oldest first ---- */

static taut__flight *take_off(taut__channel *c, taut__entry *e, taut__site *s)
{
    taut__flight *f = calloc(1, sizeof *f), **at = &c->flights;
    if (!f) return NULL;
    f->e = e, f->site = s, f->plain = f->again = MPI_REQUEST_NULL;
    f->begun_s = taut__now();
    while (*at) at = &(*at)->next;
    return *at = f;
}

static void land(taut__channel *c, taut__flight *f, taut_status status)
{
    double took = taut__now() - f->e->begin_s;
    if (f->layer) {
        taut__note_coded(c, f->e, f->site, f->layer, f->sent, f->dense, took);
        taut__fail_as_mpi(c, f->site, status);
    } else {
        taut__look_at(c, f->e, status == TAUT_OK ? f->site : NULL, f->own, took);
    }
    c->flights = f->next;
    retire(c, f->e);
    free(f);
}

/* The oldest one, if it is over. wait: it is a coded one, which all ranks have agreed on, and will be. */
static bool land_oldest(taut__channel *c, bool wait)
{
    taut__flight *f = c->flights;
    int           done = 0, rc = f->refused;
    taut_status   s = TAUT_OK;
    if (f->layer && !wait) s = taut_test(f->layer, &done);
    if (f->layer && s == TAUT_OK && (wait || done)) s = taut_wait(f->layer), done = 1;
    if (!f->layer && rc == MPI_SUCCESS) rc = PMPI_Test(&f->plain, &done, MPI_STATUS_IGNORE);
    if (rc != MPI_SUCCESS && f->apart && c->user != MPI_COMM_NULL) PMPI_Comm_call_errhandler(c->user, rc);
    if (!done && rc == MPI_SUCCESS && f->moved) rc = PMPI_Test(&f->again, &done, MPI_STATUS_IGNORE);
    if (rc != MPI_SUCCESS) s = TAUT_E_TRANSPORT; /* over, too; the program's error handler has been told */
    if (!done && s == TAUT_OK) return false;
    *f->e->outcome = rc;
    land(c, f, s);
    return true;
}

void taut__worker_turn(taut__channel *c, unsigned *turns)
{
    enum { AT_ONCE = 64 }; /* then with naps: the program needs the processor */
    const struct timespec nap = {0, 20000};
    while (c->flights && land_oldest(c, false)) *turns = 0;
    taut__strays_look(c);
    if ((*turns)++ < AT_ONCE) sched_yield();
    else nanosleep(&nap, NULL);
}

void taut__flights_wait(taut__channel *c)
{
    unsigned turns = 0;
    while (c->flights)
        if (c->flights->layer) land_oldest(c, true);
        else taut__worker_turn(c, &turns);
}

void taut__flight_code(taut__channel *c, taut__entry *e, taut__position *p)
{
    taut_layer_stats t = {.size = sizeof t};
    taut__flight    *f = take_off(c, e, p->site);
    if (!f) abort(); /* a hundred bytes: nothing that follows could work */
    f->layer = p->layer[0];
    taut_layer_get_stats(f->layer, &t);
    f->sent = t.bytes_sent, f->dense = t.bytes_dense;
    size_t bytes = e->elements * (e->dtype == TAUT_F32 ? 4 : 2);
    if (taut__input_of(e) != e->out) __builtin_memcpy(e->out, taut__input_of(e), bytes);
    taut_status s = taut_allreduce_start(f->layer, e->out, TAUT_SUM);
    if (s != TAUT_OK) land(c, f, s);
}

void taut__flight_plain(taut__channel *c, taut__entry *e, taut__site *s)
{
    taut__flight *f = take_off(c, e, s);
    if (!f) abort();
    f->own = taut__own_sample(c, e, s);
    f->apart = taut__plain_comm(c, e) == c->control;
    f->refused = taut__real_mpi.Iallreduce(e->in, e->out, e->count, e->type, e->op, taut__plain_comm(c, e), &f->plain);
    if (f->refused != MPI_SUCCESS) f->plain = MPI_REQUEST_NULL;
}

/* ---- the thread ---- */

static void wait_for_entry(taut__channel *c) /* or until it is time to look for others' questions; under the lock */
{
    enum { LOOK_NS = 100000000 };
    if (taut__wait_ns(&c->changed, &c->lock, LOOK_NS)) return;
    pthread_mutex_unlock(&c->lock);
    taut__strays_look(c);
    pthread_mutex_lock(&c->lock);
}

static taut__entry *next_entry(taut__channel *c) /* waits only while nothing is under way */
{
    pthread_mutex_lock(&c->lock);
    while (!c->head && !c->flights && !c->stop) wait_for_entry(c);
    taut__entry *e = c->head;
    if (e) c->head = e->next;
    if (e && !c->head) c->tail = &c->head;
    pthread_mutex_unlock(&c->lock);
    return e;
}

/* The last call of a cycle is over, and the program told so, before ranks have voted on what comes next; until then a call of the
 * program's own thread must not find the queue empty: it would see what this cycle is, or what the next one will be, as chance has it. */
static void execute(taut__channel *c, taut__entry *e)
{
    bool data = e->data; /* e is gone when its call is over */
    count_queued(c, 1);
    c->on_worker = true;
    taut__execute(c, e);
    c->on_worker = false;
    if (!data) retire(c, e);
    count_queued(c, -1);
}

static void *work(void *arg)
{
    taut__channel *c = arg;
    unsigned       turns = 0;
    for (;;) {
        taut__entry *e = next_entry(c);
        if (e) execute(c, e), turns = 0;
        else if (c->flights) taut__worker_turn(c, &turns);
        else return NULL; /* stopped */
    }
}

int taut__worker_start(taut__channel *c)
{
    if (!c->strays.posted) c->strays.posted = calloc(TAUT_POSTED, sizeof *c->strays.posted);
    c->threaded = taut__thread_start(&c->worker, work, c, "a thread of non-blocking calls") == TAUT_OK;
    return c->threaded ? MPI_SUCCESS : MPI_ERR_OTHER;
}

void taut__worker_stop(taut__channel *c)
{
    if (!c->threaded) return;
    taut__thread_stop(c->worker, true, &c->lock, &c->changed, &c->stop);
    c->threaded = false;
}
