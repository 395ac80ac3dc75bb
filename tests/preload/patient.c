/* patient.c : MPICH waits by asking its network again and again, which takes the processor from the ranks and tests that it waits for. Before
 * MPICH: a rank that has found nothing for a while sleeps between questions. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <time.h>

unsigned ucp_worker_progress(void *worker)
{
    static unsigned (*real)(void *);
    static __thread unsigned idle;
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "ucp_worker_progress");
    unsigned found = real ? real(worker) : 0;
    if (found) idle = 0;
    else if (++idle > 200) nanosleep(&(struct timespec){0, 50000}, NULL);
    return found;
}
