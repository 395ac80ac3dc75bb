/* usable.c : whether a communicator can be used. A forked child has the memory of its parent's communicators, but neither their threads nor a place among the ranks. */
#include "communicator.h"

static _Atomic unsigned forks; /* between this process and the first one */
static void             forked(void) { atomic_fetch_add(&forks, 1); }
static void             watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

unsigned taut__forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    return atomic_load(&forks);
}

bool taut__comm_forked(const taut_comm *comm)
{
    return comm->forks != atomic_load_explicit(&forks, memory_order_relaxed);
}

taut_status taut__comm_check(const taut_comm *comm, const char *call)
{
    if (taut__comm_forked(comm))
        return taut__fail(TAUT_E_STATE,
                          "%s: this process was forked from the one that made the communicator, which alone may use it",
                          call);
    return taut__engine_check(&comm->ctx.engine);
}
