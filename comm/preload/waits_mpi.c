/* waits_mpi.c : how long the program waits for requests that it got from here. What a non-blocking call costs it is that, not what
 * passes between call and completion. While no such request is under way a wait costs one look at a counter more. */
#include "channel.h"

typedef struct expected {
    MPI_Request    request;
    taut__channel *channel;
    uint64_t       event;
} expected;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static expected       *list;
static size_t          room;
static _Atomic size_t  count;
enum { LOOKED_AT = 64 }; /* requests of an array that are looked for in the list */

/* Plain or coded? -1: a cycle of a dry run that tries something, whose times tell nothing. */
static int bucket(const taut__channel *c, uint64_t event)
{
    if (!c->active || event < c->start) return TAUT_WAITS_PLAIN;
    if (!c->position[(event - c->start) % c->period].coded) return TAUT_WAITS_PLAIN;
    if (!taut__preload.option.dry_run) return TAUT_WAITS_CODED;
    return taut__course_of(c, (event - c->start) / c->period) < 0 ? TAUT_WAITS_PLAIN : -1;
}

/* The channel's lock is held by neither. */
void taut__waits_expect(taut__channel *c, uint64_t event, MPI_Request request)
{
    pthread_mutex_lock(&c->lock);
    if (c->under_way++ == 0) c->busy_since = taut__now();
    pthread_mutex_unlock(&c->lock);
    pthread_mutex_lock(&lock);
    if (count == room && taut__grow(&list, count, 2 * room + 16, sizeof *list)) room = 2 * room + 16;
    if (count < room) list[count++] = (expected){request, c, event}; /* else its wait is not timed */
    pthread_mutex_unlock(&lock);
}

void taut__waits_arrived(taut__channel *c, uint64_t event, MPI_Request request)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count; i++)
        if (list[i].request == request && list[i].channel == c && list[i].event == event) {
            list[i] = list[count - 1];
            count--;
            break;
        }
    pthread_mutex_unlock(&lock);
    pthread_mutex_lock(&c->lock);
    int    b = bucket(c, event);
    double busy = --c->under_way == 0 ? taut__now() - c->busy_since : 0;
    if (b >= 0 && c->waited_once) c->waits.calls[b]++, c->waits.busy_s[b] += busy;
    pthread_mutex_unlock(&c->lock);
}

static bool find(int n, const MPI_Request *r, expected *found)
{
    bool there = false;
    if (count == 0 || !r) return false;
    pthread_mutex_lock(&lock);
    for (int k = 0; k < n && k < LOOKED_AT && !there; k++)
        for (size_t i = 0; i < count && !there; i++)
            if (list[i].request == r[k]) *found = list[i], there = true;
    pthread_mutex_unlock(&lock);
    return there;
}

static void note(const expected *x, double begin)
{
    taut__channel *c = x->channel;
    double         took = taut__now() - begin;
    pthread_mutex_lock(&c->lock);
    int b = bucket(c, x->event);
    if (b >= 0 && c->waited_once) c->waits.waited_s[b] += took;
    c->waited_once = true;
    c->in_calls_s += took;
    pthread_mutex_unlock(&c->lock);
}

#define TIMED(n, r, call)                                                                                              \
    expected x;                                                                                                        \
    if (!find(n, r, &x)) return call;                                                                                  \
    double begin = taut__now();                                                                                        \
    int    rc = call;                                                                                                  \
    note(&x, begin);                                                                                                   \
    return rc

int taut__MPI_Wait(MPI_Request *r, MPI_Status *s) { TIMED(1, r, taut__real_mpi.Wait(r, s)); }
int taut__MPI_Waitall(int n, MPI_Request *r, MPI_Status *s) { TIMED(n, r, taut__real_mpi.Waitall(n, r, s)); }
int taut__MPI_Waitany(int n, MPI_Request *r, int *index, MPI_Status *s)
{
    TIMED(n, r, taut__real_mpi.Waitany(n, r, index, s));
}
int taut__MPI_Waitsome(int n, MPI_Request *r, int *done, int *index, MPI_Status *s)
{
    TIMED(n, r, taut__real_mpi.Waitsome(n, r, done, index, s));
}
