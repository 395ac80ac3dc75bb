/* watchdog.h : notices a blocking call of the transport that does not come back, which nothing else can: MPI_Allreduce waits for
 * ranks that are stopped or gone for ever. Entering and leaving costs two atomic stores; a thread, made at the first entry, looks
 * now and then. What it finds ends the job, because the call cannot be made to return. */
#ifndef TAUT_WATCHDOG_H
#define TAUT_WATCHDOG_H

#include "transport.h"
#include <pthread.h>

typedef struct taut__watchdog {
    taut__transport    *t;
    int32_t             timeout_ms;
    bool                running;
    pthread_t           thread;
    pthread_mutex_t     lock;
    pthread_cond_t      wake;
    bool                quit;  /* with the lock */
    _Atomic uint64_t    since; /* microseconds of taut__now(); 0: not inside */
    _Atomic uint64_t    limit; /* microseconds that the call may take */
    const char *_Atomic what;
} taut__watchdog;

/* timeout_ms < 0: never. */
void taut__watchdog_init(taut__watchdog *w, taut__transport *t, int32_t timeout_ms);
void taut__watchdog_destroy(taut__watchdog *w);
/* what: in the message; stays valid until leave. bytes: that the call moves; the timeout grows by a microsecond for each, since
 * nobody sees its progress. */
void taut__watchdog_enter(taut__watchdog *w, const char *what, size_t bytes);
void taut__watchdog_leave(taut__watchdog *w);

#endif
