/* nccl_minder.c : see nccl_minder.h. */
#include "nccl_minder.h"
#include "../base/thread.h"

/* ---- the end of a communicator ---- */

/* How long they are waited for: a process that exits meanwhile would end in the midst of it. */
static const int64_t ABORT_NS = 1000000000, DESTROY_NS = 5000000000;

typedef struct ending { /* whoever leaves last frees it */
    taut__nccl_comm comm;
    int (*call)(taut__nccl_comm comm);
    pthread_mutex_t lock;
    pthread_cond_t  over;
    int             users;
} ending;

static void let_go(ending *e)
{
    int left = --e->users;
    pthread_cond_signal(&e->over);
    pthread_mutex_unlock(&e->lock);
    if (left > 0) return;
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->over);
    taut__free(e);
}

static void *end_main(void *arg)
{
    ending *e = arg;
    e->call(e->comm);
    pthread_mutex_lock(&e->lock);
    let_go(e);
    return NULL;
}

static ending *ending_of(taut__nccl_comm comm, int (*call)(taut__nccl_comm comm))
{
    ending *e = taut__alloc(1, sizeof *e);
    if (!e) return NULL;
    *e = (ending){.comm = comm, .call = call, .users = 2};
    pthread_mutex_init(&e->lock, NULL);
    taut__cond_init(&e->over);
    return e;
}

static void end_within(taut__nccl_comm comm, int (*call)(taut__nccl_comm comm), int64_t ns)
{
    ending   *e = ending_of(comm, call);
    pthread_t thread;
    if (!e) {
        call(comm);
        return;
    }
    if (taut__thread_start(&thread, end_main, e, "a thread that ends NCCL's communicator") == TAUT_OK)
        pthread_detach(thread);
    else end_main(e);
    pthread_mutex_lock(&e->lock);
    while (e->users > 1 && taut__wait_ns(&e->over, &e->lock, ns)) {}
    if (e->users > 1)
        taut__log(TAUT_LOG_WARN, "comm",
                  "NCCL has not ended its communicator yet: it does when no graph holds operations of it any more");
    let_go(e);
}

void taut__nccl_end(taut__nccl_comm comm, int (*destroy)(taut__nccl_comm comm))
{
    end_within(comm, destroy, DESTROY_NS);
}

/* ---- minding ---- */

void taut__nccl_minder_init(taut__nccl_minder *m, const taut__nccl *n, taut__nccl_comm comm)
{
    *m = (taut__nccl_minder){.n = n, .comm = comm};
    pthread_mutex_init(&m->lock, NULL);
}

void taut__nccl_minder_destroy(taut__nccl_minder *m)
{
    if (m->minds) taut__watchdog_destroy(&m->dog);
    pthread_mutex_destroy(&m->lock);
}

/* Who looks at it has the lock; afterwards nobody does. */
static bool marked(taut__nccl_minder *m)
{
    pthread_mutex_lock(&m->lock);
    bool before = atomic_exchange(&m->aborted, true);
    pthread_mutex_unlock(&m->lock);
    return before;
}

/* NCCL's own abort frees the communicator: nothing of it is touched afterwards. */
void taut__nccl_minder_abort(taut__nccl_minder *m)
{
    if (!marked(m)) end_within(m->comm, m->n->abort, ABORT_NS);
}

void taut__nccl_minder_gone(taut__nccl_minder *m) { (void)marked(m); }

static void on_stuck(void *ctx, const char *text)
{
    taut__nccl_minder *m = ctx;
    (void)text;
    atomic_store(&m->stuck, true);
    taut__nccl_minder_abort(m);
}

/* Its thread is started here, so that entering cannot fail: a group that has been begun must be ended. */
taut_status taut__nccl_mind(taut__nccl_minder *m, int32_t timeout_ms)
{
    taut__watchdog_init(&m->dog, NULL, timeout_ms);
    m->dog.stuck = on_stuck, m->dog.stuck_ctx = m;
    m->minds = true;
    taut_status s = taut__watchdog_enter(&m->dog, "NCCL", 0);
    taut__watchdog_leave(&m->dog);
    return s;
}

void taut__nccl_enter(taut__nccl_minder *m, const char *call)
{
    if (m->minds) taut__watchdog_enter(&m->dog, call, 0);
}

taut_status taut__nccl_leave(taut__nccl_minder *m, const char *call, taut_status s)
{
    if (m->minds) taut__watchdog_leave(&m->dog);
    if (!atomic_load(&m->stuck)) return s;
    return taut__fail(TAUT_E_TIMEOUT,
                      "%s: NCCL has not come back for %d ms, a rank is stopped or gone; the communicator has been "
                      "aborted",
                      call, (int)m->dog.timeout_ms);
}
