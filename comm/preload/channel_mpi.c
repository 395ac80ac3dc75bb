/* channel_mpi.c : channels of communicators, and the way of an event into them. */
#include "channel.h"
#include <stdlib.h>

static int key = MPI_KEYVAL_INVALID;
static _Thread_local struct { MPI_Comm comm; taut__channel *channel; uint64_t era; } last; /* found by this thread */
static _Atomic uint64_t era = 1; /* grows when a communicator is freed: its handle may come again */

static void close_channel(taut__channel *c)
{
    taut__worker_stop(c);
    for (int b = 0; b < c->courses; b++) taut_comm_destroy(c->course[b]);
    c->courses = 0;
    if (c->has_control) PMPI_Comm_free(&c->control);
    c->has_control = c->active = false;
    free(c->position), free(c->copy);
    c->position = NULL, c->copy = NULL, c->copy_n = 0, c->period = 0;
}

static int forget(MPI_Comm comm, int keyval, void *value, void *extra)
{
    taut__channel *c = value;
    (void)comm, (void)keyval, (void)extra;
    if (!c || !taut__preload.ready) return MPI_SUCCESS;
    close_channel(c);
    c->user = MPI_COMM_NULL;
    era++;
    return MPI_SUCCESS;
}

static taut__channel *create(MPI_Comm comm)
{
    taut__channel *c = calloc(1, sizeof *c);
    int            inter = 1;
    if (!c) return NULL;
    c->user = comm, c->control = MPI_COMM_NULL;
    c->tail = &c->head;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    PMPI_Comm_test_inter(comm, &inter);
    PMPI_Comm_rank(comm, &c->rank);
    PMPI_Comm_size(comm, &c->size);
    if (inter) c->size = 1; /* passes through */
    PMPI_Comm_set_attr(comm, key, c);
    pthread_mutex_lock(&taut__preload.lock);
    c->next = taut__preload.channels;
    taut__preload.channels = c;
    pthread_mutex_unlock(&taut__preload.lock);
    return c;
}

taut__channel *taut__channel_of(MPI_Comm comm)
{
    static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
    uint64_t               now = era;
    void                  *value = NULL;
    int                    there = 0;
    if (comm == MPI_COMM_NULL || comm == MPI_COMM_SELF) return NULL;
    if (last.comm == comm && last.era == now) return last.channel;
    pthread_mutex_lock(&making);
    if (key == MPI_KEYVAL_INVALID) PMPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, forget, &key, NULL);
    if (PMPI_Comm_get_attr(comm, key, &value, &there) != MPI_SUCCESS) there = 1, value = NULL;
    taut__channel *c = there ? value : create(comm);
    pthread_mutex_unlock(&making);
    if (c && c->size < 2) c = NULL;
    last.comm = comm, last.channel = c, last.era = now;
    return c;
}

void taut__channel_open_world(void)
{
    taut__channel *c = taut__channel_of(MPI_COMM_WORLD);
    if (c) c->has_control = PMPI_Comm_dup(c->user, &c->control) == MPI_SUCCESS;
}

void taut__channel_close_all(void)
{
    for (taut__channel *c = taut__preload.channels; c; c = c->next)
        if (c->user != MPI_COMM_NULL) close_channel(c);
}

/* ---- events ---- */

static int dtype_of(MPI_Datatype type)
{
    if (type == MPI_FLOAT || type == MPI_REAL) return TAUT_F32;
#ifdef MPI_REAL4
    if (type == MPI_REAL4) return TAUT_F32;
#endif
#ifdef MPIX_C_FLOAT16
    if (type == MPIX_C_FLOAT16) return TAUT_F16;
#endif
    return -1;
}

static uint32_t type_code(MPI_Datatype type, int dtype)
{
    int size = 0;
    if (dtype >= 0) return dtype == TAUT_F32 ? TAUT_TYPE_F32 : TAUT_TYPE_F16;
    if (type == MPI_DOUBLE || type == MPI_DOUBLE_PRECISION) return TAUT_TYPE_DOUBLE;
    if (PMPI_Type_size(type, &size) != MPI_SUCCESS) size = 0; /* the plain call will say what is wrong */
    return TAUT_TYPE_OTHER + (uint32_t)size;
}

bool taut__channel_eligible(const taut__channel *c, taut__entry *e)
{
    e->dtype = dtype_of(e->type);
    e->elements = (uint64_t)(e->count < 0 ? 0 : e->count);
    if (e->kind == TAUT_CALL_REDUCE_SCATTER) {
        if (!e->counts) e->elements *= (uint64_t)c->size;
        for (int r = 0; e->counts && r < c->size; r++) e->elements = (r ? e->elements : 0) + (uint64_t)(e->counts[r] < 0 ? 0 : e->counts[r]);
        if (e->dtype == TAUT_F16) e->dtype = -1;
    }
    uint64_t bytes = e->elements * (e->dtype == TAUT_F32 ? 4 : 2);
    bool     buffers = e->in && e->out && (uintptr_t)e->out % 4 == 0;
    bool     can_wait = e->kind != TAUT_CALL_IALLREDUCE || taut__preload.threads;
    return e->dtype >= 0 && e->op == MPI_SUM && bytes >= taut__preload.option.threshold && bytes <= (uint64_t)1 << 40 && buffers && can_wait &&
           !(e->kind == TAUT_CALL_REDUCE_SCATTER && e->in == MPI_IN_PLACE);
}

bool taut__channel_event(taut__channel *c, taut__entry *e)
{
    bool eligible = taut__channel_eligible(c, e), wanted;
    e->key = taut__call_key(e->kind, e->elements, type_code(e->type, e->dtype), e->op == MPI_SUM ? TAUT_OP_SUM : TAUT_OP_OTHER, eligible);
    pthread_mutex_lock(&c->lock);
    e->event = taut__sequence_add(&c->sequence, e->key);
    c->seen_eligible |= eligible;
    bool coded_here = c->active && c->position[(e->event - c->start) % c->period].coded;
    wanted = c->queued > 0 || eligible || coded_here || taut__control_at(e->event) || (c->has_control && taut__sequence_votes_at(e->event));
    if (e->kind == TAUT_CALL_IALLREDUCE && !c->has_control) wanted = false;
    pthread_mutex_unlock(&c->lock);
    return wanted;
}

int taut__channel_execute(taut__channel *c, taut__entry *e)
{
    pthread_mutex_lock(&c->lock);
    while (c->queued > 0) pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return taut__execute(c, e);
}
