/* worker_mpi.c : the thread that executes a channel's queue, and the calls that it has begun. */
#include "channel.h"
#include <stdlib.h>
#include <time.h>

struct taut__flight {
    taut__entry  *e;
    taut__site   *site;
    taut_layer   *layer; /* coded; else plain, with */
    MPI_Request   plain;
    float        *own;
    uint64_t      sent, dense; /* of the layer, before */
    taut__flight *next;
};

/* ---- generalized requests: the program's MPI completes its calls through them ---- */

static int query(void *state, MPI_Status *status)
{
    (void)state;
    PMPI_Status_set_elements(status, MPI_BYTE, 0);
    PMPI_Status_set_cancelled(status, 0);
    status->MPI_SOURCE = MPI_UNDEFINED;
    status->MPI_TAG = MPI_UNDEFINED;
    return MPI_SUCCESS;
}
static int release(void *state)
{
    (void)state;
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
        int rc = PMPI_Grequest_start(query, release, cancel, NULL, &copy->request);
        if (rc != MPI_SUCCESS) {
            free(copy);
            return rc;
        }
        *request = copy->request;
        taut__waits_expect(c, copy->event, copy->request);
    }
    pthread_mutex_lock(&c->lock);
    int rc = c->threaded ? MPI_SUCCESS : taut__worker_start(c);
    *c->tail = copy;
    c->tail = &copy->next;
    c->queued++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

static void retire(taut__channel *c, taut__entry *e)
{
    if (e->data) {
        taut__waits_arrived(c, e->event, e->request);
        PMPI_Grequest_complete(e->request);
    }
    free(e);
    pthread_mutex_lock(&c->lock);
    c->queued--;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* ---- calls under way, oldest first ---- */

static taut__flight *take_off(taut__channel *c, taut__entry *e, taut__site *s)
{
    taut__flight *f = calloc(1, sizeof *f), **at = &c->flights;
    if (!f) return NULL;
    f->e = e, f->site = s, f->plain = MPI_REQUEST_NULL;
    while (*at) at = &(*at)->next;
    return *at = f;
}

static void land(taut__channel *c, taut__flight *f, taut_status status)
{
    double took = taut__now() - f->e->begin_s;
    if (f->layer) {
        f->site->coded_s += took, f->site->calls++, f->site->coded_calls++;
        if (taut__soon_reconsidered(c->cycles)) taut__note_norm(c, f->e, f->site);
        taut__note_codec(f->site, f->layer, f->sent, f->dense);
        taut__fail_as_mpi(c, f->site, status);
    } else {
        taut__look_at(c, f->e, status == TAUT_OK ? f->site : NULL, f->own, took);
    }
    c->flights = f->next;
    retire(c, f->e);
    free(f);
}

/* The oldest one, if it is over. wait: it will be. */
static bool land_oldest(taut__channel *c, bool wait)
{
    taut__flight *f = c->flights;
    int           done = 0, rc = MPI_SUCCESS;
    taut_status   s = TAUT_OK;
    if (f->layer) s = wait ? taut_wait(f->layer) : taut_test(f->layer, &done);
    if (f->layer && !wait && s == TAUT_OK && done) s = taut_wait(f->layer);
    if (!f->layer) rc = wait ? PMPI_Wait(&f->plain, MPI_STATUS_IGNORE) : PMPI_Test(&f->plain, &done, MPI_STATUS_IGNORE);
    if (rc != MPI_SUCCESS) s = TAUT_E_TRANSPORT; /* over, too; the communicator's error handler has been told */
    if (!wait && !done && s == TAUT_OK) return false;
    land(c, f, s);
    return true;
}

void taut__flights_wait(taut__channel *c)
{
    while (c->flights) land_oldest(c, true);
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

int taut__flight_plain(taut__channel *c, taut__entry *e, taut__site *s)
{
    taut__flight *f = take_off(c, e, s);
    if (!f) abort();
    f->own = taut__own_sample(c, e, s);
    return taut__real_mpi.Iallreduce(e->in, e->out, e->count, e->type, e->op, taut__plain_comm(c, e), &f->plain);
}

/* ---- the thread ---- */

static taut__entry *next_entry(taut__channel *c) /* waits only while nothing is under way */
{
    pthread_mutex_lock(&c->lock);
    while (!c->head && !c->flights && !c->stop) pthread_cond_wait(&c->changed, &c->lock);
    taut__entry *e = c->head;
    if (e) c->head = e->next;
    if (e && !c->head) c->tail = &c->head;
    pthread_mutex_unlock(&c->lock);
    return e;
}

static void count_queued(taut__channel *c, int by)
{
    pthread_mutex_lock(&c->lock);
    c->queued += by;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* The last call of a cycle is over, and the program told so, before ranks have voted on what comes next; until then a call of the
 * program's own thread must not find the queue empty: it would see what this cycle is, or what the next one will be, as chance has it. */
static void execute(taut__channel *c, taut__entry *e)
{
    bool data = e->data; /* e is gone when its call is over */
    count_queued(c, 1);
    taut__execute(c, e);
    if (!data) retire(c, e);
    count_queued(c, -1);
}

static void *work(void *arg)
{
    taut__channel        *c = arg;
    const struct timespec nap = {0, 20000};
    for (;;) {
        taut__entry *e = next_entry(c);
        if (e) execute(c, e);
        else if (c->flights) {
            if (!land_oldest(c, false)) nanosleep(&nap, NULL);
        } else return NULL; /* stopped */
    }
}

int taut__worker_start(taut__channel *c)
{
    c->threaded = pthread_create(&c->worker, NULL, work, c) == 0;
    return c->threaded ? MPI_SUCCESS : MPI_ERR_OTHER;
}

void taut__worker_stop(taut__channel *c)
{
    if (!c->threaded) return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->worker, NULL);
    c->threaded = false;
}
