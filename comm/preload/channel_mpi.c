/* channel_mpi.c : channels of communicators, and the way of an event into them. */
#include "channel.h"
#include "../base/thread.h"
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

static int key = MPI_KEYVAL_INVALID;
static _Thread_local struct {
    MPI_Comm       comm;
    taut__channel *channel;
    uint64_t       era;
} last;                          /* found by this thread */
static _Atomic uint64_t era = 1; /* grows when a communicator is freed: its handle may come again */

bool taut__comm_like(MPI_Comm comm, MPI_Comm *copy)
{
    MPI_Group ranks;
    *copy = MPI_COMM_NULL;
    if (PMPI_Comm_group(comm, &ranks) != MPI_SUCCESS) return false;
    int rc = PMPI_Comm_create(comm, ranks, copy);
    PMPI_Group_free(&ranks);
    if (rc != MPI_SUCCESS) return false;
    PMPI_Comm_set_errhandler(*copy, MPI_ERRORS_RETURN);
    return true;
}

static void close_channel(taut__channel *c)
{
    taut__worker_stop(c);
    taut__strays_close(c);
    for (int b = 0; b < c->courses; b++) taut_comm_destroy(c->course[b]);
    c->courses = 0;
    if (c->has_control) PMPI_Comm_free(&c->control), taut__preload.copies--;
    c->has_control = c->active = c->watching = false;
    free(c->position), taut__free(c->copy), taut__free(c->kept);
    c->position = NULL, c->copy = c->kept = NULL, c->copy_n = c->kept_n = 0, c->period = 0;
}

void taut__channel_release(taut__channel *c)
{
    close_channel(c);
    c->user = MPI_COMM_NULL;
    /* what its sites point to goes on without it; where other threads may still look at it, it stays */
    taut__waits *waits = c->sites > 0 && c->alone ? malloc(sizeof *waits) : NULL;
    if (c->sites > 0 && !waits) return;
    if (waits) *waits = c->waits;
    for (size_t i = 0; i < c->sites; i++) c->site[i]->waits = waits;
    pthread_mutex_lock(&taut__preload.lock);
    taut__channel **at = &taut__preload.channels;
    while (*at && *at != c) at = &(*at)->next;
    if (*at) *at = c->next;
    taut__preload.in_calls_s += c->in_calls_s;
    pthread_mutex_unlock(&taut__preload.lock);
    pthread_mutex_destroy(&c->lock), pthread_cond_destroy(&c->changed);
    free(c->site), free(c->site_key);
    free(c);
}

/* The program frees a communicator. Its calls that are under way go on, as MPI has it, and nobody waits for them here: the worker
 * finishes them, and MPI_Finalize closes the channel. */
static int forget(MPI_Comm comm, int keyval, void *value, void *extra)
{
    taut__channel *c = value;
    (void)comm, (void)keyval, (void)extra;
    if (!c || !taut__preload.ready) return MPI_SUCCESS;
    taut__passed_counted();
    era++;
    pthread_mutex_lock(&c->lock);
    bool busy = c->queued > 0;
    c->user = c->has_control ? c->control : MPI_COMM_NULL; /* errors of what is under way are reported there */
    pthread_mutex_unlock(&c->lock);
    if (!busy) taut__channel_release(c);
    return MPI_SUCCESS;
}

/* Are all its ranks of this MPI_COMM_WORLD? Those of other jobs (spawned, connected) may not have this library, or other settings. */
static bool at_home(MPI_Comm comm, int size)
{
    MPI_Group some = MPI_GROUP_NULL, world = MPI_GROUP_NULL;
    int      *rank = calloc(2 * (size_t)size, sizeof *rank);
    bool      home =
        rank && PMPI_Comm_group(comm, &some) == MPI_SUCCESS && PMPI_Comm_group(MPI_COMM_WORLD, &world) == MPI_SUCCESS;
    for (int r = 0; home && r < size; r++) rank[r] = r;
    home = home && PMPI_Group_translate_ranks(some, size, rank, world, rank + size) == MPI_SUCCESS;
    for (int r = 0; home && r < size; r++) home = rank[size + r] != MPI_UNDEFINED;
    if (some != MPI_GROUP_NULL) PMPI_Group_free(&some);
    if (world != MPI_GROUP_NULL) PMPI_Group_free(&world);
    free(rank);
    return home;
}

static taut__channel *create(MPI_Comm comm)
{
    taut__channel *c = calloc(1, sizeof *c);
    int            inter = 1;
    if (!c) return NULL;
    c->user = comm, c->control = MPI_COMM_NULL;
    c->tail = &c->head;
    pthread_mutex_init(&c->lock, NULL);
    taut__cond_init(&c->changed);
    PMPI_Comm_test_inter(comm, &inter);
    PMPI_Comm_rank(comm, &c->rank);
    PMPI_Comm_size(comm, &c->size);
    if (inter || (c->size > 1 && comm != MPI_COMM_WORLD && !at_home(comm, c->size))) c->size = 1; /* passes through */
    pthread_mutex_lock(&taut__preload.lock);
    c->next = taut__preload.channels;
    taut__preload.channels = c;
    pthread_mutex_unlock(&taut__preload.lock);
    return c;
}

taut__channel *taut__channel_alone(MPI_Comm control)
{
    taut__channel *c = create(control);
    if (c) c->control = control, c->has_control = c->watching = c->alone = true, taut__preload.copies++;
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
    if (c && !there) PMPI_Comm_set_attr(comm, key, c);
    pthread_mutex_unlock(&making);
    if (c && c->size < 2) c = NULL;
    last.comm = comm, last.channel = c, last.era = now;
    return c;
}

void taut__channel_open_world(void)
{
    taut__channel *c = taut__channel_of(MPI_COMM_WORLD);
    if (c && (c->has_control = taut__comm_like(c->user, &c->control))) taut__preload.copies++;
}

void taut__channel_close_all(void)
{
    for (taut__channel *c = taut__preload.channels; c; c = c->next)
        if (c->user != MPI_COMM_NULL) close_channel(c);
}

/* ---- events ---- */

/* MPICH's is a number, known when this is compiled. Open MPI's is a variable of some of its builds, and one that this was not compiled
 * with may have it. */
static bool is_half(MPI_Datatype type)
{
#ifdef OPEN_MPI
    static _Atomic(void *) half;
    static atomic_bool     looked;
    if (!atomic_load_explicit(&looked, memory_order_acquire)) {
        atomic_store(&half, dlsym(RTLD_DEFAULT, "ompi_mpi_short_float"));
        atomic_store_explicit(&looked, true, memory_order_release);
    }
    void *known = atomic_load_explicit(&half, memory_order_relaxed);
    return known && (void *)type == known;
#elif defined(MPIX_C_FLOAT16)
    return type == MPIX_C_FLOAT16;
#else
    (void)type;
    return false;
#endif
}

static int dtype_of(MPI_Datatype type)
{
    int size = 0;
    if (type == MPI_FLOAT) return TAUT_F32;
    if (type == MPI_REAL && type != MPI_DATATYPE_NULL && PMPI_Type_size(type, &size) == MPI_SUCCESS && size == 4)
        return TAUT_F32; /* of 8 bytes, if Fortran was told so */
#ifdef MPI_REAL4
    if (type == MPI_REAL4) return TAUT_F32;
#endif
    return is_half(type) ? TAUT_F16 : -1;
}

static uint32_t type_code(MPI_Datatype type, int dtype)
{
    int size = 0;
    if (dtype >= 0) return dtype == TAUT_F32 ? TAUT_TYPE_F32 : TAUT_TYPE_F16;
    if (type == MPI_DOUBLE || type == MPI_DOUBLE_PRECISION) return TAUT_TYPE_DOUBLE;
    if (type == MPI_DATATYPE_NULL || PMPI_Type_size(type, &size) != MPI_SUCCESS)
        size = 0; /* the plain call will say what is wrong */
    return TAUT_TYPE_OTHER + (uint32_t)size;
}

static uint64_t elements_of(const taut__channel *c, const taut__entry *e)
{
    uint64_t n = (uint64_t)(e->count < 0 ? 0 : e->count);
    if (e->kind == TAUT_KIND_ALLGATHER || (e->kind == TAUT_KIND_REDUCE_SCATTER && !e->counts)) n *= (uint64_t)c->size;
    if (!e->counts) return n;
    n = 0;
    for (int r = 0; r < c->size; r++) n += (uint64_t)(e->counts[r] < 0 ? 0 : e->counts[r]);
    return n;
}

/* Parts of a vector that was scattered before, of one size for all. */
static bool gathers_parts(const taut__channel *c, const taut__entry *e)
{
    for (size_t i = 0; i < c->sites; i++)
        if (c->site[i]->kind == TAUT_KIND_REDUCE_SCATTER && c->site[i]->count == e->elements) return true;
    return false;
}

bool taut__channel_eligible(const taut__channel *c, taut__entry *e)
{
    bool scatter = e->kind == TAUT_KIND_REDUCE_SCATTER, gather = e->kind == TAUT_KIND_ALLGATHER;
    bool waited = e->kind == TAUT_KIND_IALLREDUCE || e->kind == TAUT_KIND_PERSISTENT;
    e->dtype = dtype_of(e->type);
    e->elements = elements_of(c, e);
    if ((scatter || gather) && e->dtype == TAUT_F16) e->dtype = -1;
    uint64_t bytes = e->elements * (e->dtype == TAUT_F32 ? 4 : 2);
    bool sends = !gather || e->in == MPI_IN_PLACE || (e->send_count == e->count && dtype_of(e->send_type) == e->dtype);
    e->fit = e->in && e->out && e->in != e->out && (uintptr_t)e->out % 4 == 0 && sends;
    bool could = e->dtype >= 0 && (gather || e->op == MPI_SUM) && bytes >= taut__preload.option.threshold &&
                 bytes <= (uint64_t)1 << 40 && !(scatter && e->in == MPI_IN_PLACE) && (!gather || gathers_parts(c, e));
    if (could && waited && !taut__preload.threads) taut__preload.unserved++;
    return could && !(waited && !taut__preload.threads);
}

bool taut__channel_event(taut__channel *c, taut__entry *e)
{
    uint32_t op = e->kind == TAUT_KIND_ALLGATHER || e->op == MPI_SUM ? TAUT_OP_SUM : TAUT_OP_OTHER;
    pthread_mutex_lock(&c->lock);
    bool eligible = taut__channel_eligible(c, e), wanted;
    e->key = taut__call_key(e->kind, e->elements, type_code(e->type, e->dtype), op, eligible);
    e->event = taut__sequence_add(&c->sequence, e->key);
    /* an allgather's types may differ between ranks, as long as they describe the same data */
    e->digest = c->digest = taut__seed(c->digest, e->kind == TAUT_KIND_ALLGATHER ? TAUT_KIND_ALLGATHER : e->key);
    c->seen_eligible |= eligible;
    if (e->kind == TAUT_KIND_REDUCE_SCATTER) c->scatters = true;
    bool coded_here = c->active && c->position[(e->event - c->start) % c->period].coded;
    bool may_wait = e->kind != TAUT_KIND_IALLREDUCE || (c->has_control && taut__preload.threads); /* by the worker */
    e->asks = !c->watching && !c->failed && taut__asks_at(e->event, may_wait, &c->next_ask);
    bool votes = e->asks || (c->watching && !c->failed && !c->active && taut__votes_at(c, e->event));
    wanted = c->queued > 0 || ((eligible || coded_here) && !c->differs) || votes;
    if (!may_wait) wanted = false;
    else if (e->kind == TAUT_KIND_IALLREDUCE) {
        if (!c->threaded && !c->stop) taut__worker_start(c); /* it answers others' questions, too */
        taut__strays_post(c, e);
        e->apart = !c->strays.found;
    }
    pthread_mutex_unlock(&c->lock);
    return wanted;
}

/* Where the next question or vote is due is looked for once, and again when something may have changed. */
uint64_t taut__channel_quiet(taut__channel *c)
{
    enum { FAR = 1024 };
    uint64_t next = c->sequence.events, until = next;
    if (c->active || c->queued > 0) return 0;
    if (c->failed) return UINT32_MAX;
    if (c->quiet_until > next) return c->quiet_until - next;
    if (c->watching)
        while (until < next + FAR && !taut__votes_at(c, until)) until++;
    else until = taut__max(next, taut__max(TAUT_FIRST_ASK, c->next_ask));
    c->quiet_until = until;
    return until - next;
}

void taut__channel_repeat(taut__channel *c, uint64_t n)
{
    uint64_t latest = c->sequence.events ? taut__sequence_key(&c->sequence, c->sequence.events - 1) : 0;
    for (uint64_t i = 0; i < n; i++) {
        taut__sequence_add(&c->sequence, latest);
        c->digest = taut__seed(c->digest, latest);
    }
}

int taut__channel_execute(taut__channel *c, taut__entry *e)
{
    pthread_mutex_lock(&c->lock);
    while (c->queued > 0) pthread_cond_wait(&c->changed, &c->lock);
    c->quiet_until = 0;
    pthread_mutex_unlock(&c->lock);
    return taut__execute(c, e);
}
