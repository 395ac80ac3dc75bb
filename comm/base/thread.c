/* thread.c : see thread.h. */
#include "thread.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic int fail_after = -1;

taut_status taut__thread_start(pthread_t *thread, void *(*body)(void *), void *arg, const char *what)
{
    bool fails = atomic_load(&fail_after) >= 0 && atomic_fetch_sub(&fail_after, 1) == 0;
    int  why = fails ? EAGAIN : pthread_create(thread, NULL, body, arg);
    return why == 0 ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "cannot start %s: %s", what, strerror(why));
}

void taut__thread_fail_after(int n) { atomic_store(&fail_after, n); }
