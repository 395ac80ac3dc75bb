/* nccl_minder.h : a communicator of NCCL that somebody else's thread may have to abort. Our own ones do not block: calls answer, and the engine's timeout is
 * looked at between them. The program's own may: its calls wait for other ranks when NCCL first connects, and one of a rank that is stopped does not come
 * back. A thread beside it looks, and aborts, so that it does.
 *
 * NCCL ends a communicator, by abort too, only once all graphs that hold operations of it have been dropped, and its call does not come back before; what is
 * on the device ends at once. Who drops them may be waiting for us. So another thread makes that call, and is waited for some seconds at most. */
#ifndef TAUT_NCCL_MINDER_H
#define TAUT_NCCL_MINDER_H

#include "nccl_table.h"
#include "watchdog.h"

typedef struct taut__nccl_minder {
    const taut__nccl *n;
    taut__nccl_comm   comm;
    pthread_mutex_t   lock; /* of aborted, against calls of NCCL that look at comm */
    _Atomic bool      aborted, stuck;
    bool              minds;
    taut__watchdog    dog;
} taut__nccl_minder;

void taut__nccl_minder_init(taut__nccl_minder *m, const taut__nccl *n, taut__nccl_comm comm);
void taut__nccl_minder_destroy(taut__nccl_minder *m);
/* From now on calls between enter and leave take no longer than timeout_ms; < 0: however long. */
taut_status taut__nccl_mind(taut__nccl_minder *m, int32_t timeout_ms);
void        taut__nccl_enter(taut__nccl_minder *m, const char *call);
/* s: what has become of the call. TAUT_E_TIMEOUT: it came back since comm has been aborted, which is gone then. */
taut_status taut__nccl_leave(taut__nccl_minder *m, const char *call, taut_status s);
void        taut__nccl_minder_abort(taut__nccl_minder *m); /* any thread, any number of times */
/* The program is about to abort it: no call is made with it any more. */
void taut__nccl_minder_gone(taut__nccl_minder *m);
void taut__nccl_end(taut__nccl_comm comm, int (*destroy)(taut__nccl_comm comm)); /* of one that nobody has aborted */

#endif
