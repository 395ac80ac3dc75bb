/* joint.c : see joint.h. The last of the threads at work to ask makes the call, without the lock: until it is over its threads count as
 * being at work, so what is asked for meanwhile waits for them, or for the end of their pieces. */
#include "joint.h"

struct taut__joint {
    pthread_mutex_t lock;
    pthread_cond_t  changed;     /* a call is over; or nobody is left who has not asked */
    size_t          working;     /* threads */
    size_t          n;           /* that have asked, and whose call has not begun */
    uint64_t        begun, over; /* calls: the one that is awaited is number `begun` at the time of asking */
    taut__asked   **asked;       /* room for all threads, twice: the second half is the call's */
    size_t          workers;
};

static _Atomic uint64_t calls, pieces;
taut__joint_counts taut__joint_counted(void) { return (taut__joint_counts){atomic_load(&calls), atomic_load(&pieces)}; }

taut_status taut__joint_create(size_t workers, taut__joint **out)
{
    taut__joint *j = *out = taut__alloc(1, sizeof *j);
    if (!j) return taut__fail(TAUT_E_NOMEM, "out of memory");
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->changed, NULL);
    j->workers = workers;
    j->asked = taut__alloc(2 * workers, sizeof *j->asked);
    return j->asked ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "out of memory");
}

void taut__joint_destroy(taut__joint *j)
{
    if (!j) return;
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->changed);
    taut__free(j->asked);
    taut__free(j);
}

/* With the lock held. */
static bool all_asked(const taut__joint *j) { return j->n > 0 && j->n == j->working; }

void taut__joint_enter(const taut__lane *lane)
{
    taut__joint *j = lane->joint;
    if (!j) return;
    pthread_mutex_lock(&j->lock);
    j->working++;
    pthread_mutex_unlock(&j->lock);
}

void taut__joint_leave(const taut__lane *lane)
{
    taut__joint *j = lane->joint;
    if (!j) return;
    pthread_mutex_lock(&j->lock);
    j->working--;
    if (all_asked(j)) pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

/* Called and returns with the lock held. All threads at work are in it, so nobody else makes a call meanwhile. */
static void call(taut__joint *j, taut_place place)
{
    taut__asked **mine = j->asked + j->workers;
    size_t        n = j->n;
    for (size_t i = 0; i < n; i++) mine[i] = j->asked[i];
    j->n = 0;
    j->begun++;
    pthread_mutex_unlock(&j->lock);
    atomic_fetch_add(&calls, taut__ask_all(mine, n, place));
    atomic_fetch_add(&pieces, n);
    pthread_mutex_lock(&j->lock);
    j->over++;
    pthread_cond_broadcast(&j->changed);
}

taut_status taut__joint_ask(const taut__lane *lane, taut__op op, const taut_codec *codec, const taut_piece *p,
                            size_t *len)
{
    taut__joint *j = lane->joint;
    taut__asked  a = {.op = op, .codec = codec, .piece = *p, .bytes = len ? *len : 0};
    pthread_mutex_lock(&j->lock);
    uint64_t number = j->begun;
    j->asked[j->n++] = &a;
    while (j->over <= number) {
        if (all_asked(j)) call(j, lane->place);
        else pthread_cond_wait(&j->changed, &j->lock);
    }
    pthread_mutex_unlock(&j->lock);
    if (len) *len = a.bytes;
    return a.status == TAUT_OK ? TAUT_OK : taut__fail(a.status, "%s", a.why);
}
