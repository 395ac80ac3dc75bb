/* nccl_minder.c : see nccl_minder.h. */
#include "nccl_minder.h"

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

/* NCCL's own abort frees the communicator: nothing of it is touched afterwards. */
void taut__nccl_minder_abort(taut__nccl_minder *m)
{
    pthread_mutex_lock(&m->lock);
    if (!atomic_exchange(&m->aborted, true)) m->n->abort(m->comm);
    pthread_mutex_unlock(&m->lock);
}

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
