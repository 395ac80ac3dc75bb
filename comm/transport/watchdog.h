/* watchdog.h : notices a call of the transport that does not come back, which nothing else can. A thread looks now and then.
 *
 *  - A blocking one: MPI_Allreduce waits for ranks that are stopped or gone for ever. Entering and leaving costs two atomic stores. What is
 *    found ends the job, because nobody's call can be made to return. Time in which this process was stopped does not count.
 *  - One that should come back at once (taut__transport.calls): Open MPI's queue in shared memory is swapped in one instruction and linked in a
 *    later one, and who reads it spins in between; a rank that is killed there leaves the reader in MPI_Testsome for ever. It ends this
 *    process, which is as lost as the other one; the remaining ranks find that out by their timeouts. */
#ifndef TAUT_WATCHDOG_H
#define TAUT_WATCHDOG_H

#include "../base/thread.h"
#include "transport.h"

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
    uint64_t            seen;  /* of the transport's calls, at the last look */
    int                 looks; /* that found the same call under way */
    double              ran_s; /* of its thread's time on a processor, when it was first seen */
    /* (optional) who was waited for, and for what; from the watchdog's thread, while another one is inside that call */
    void (*describe)(const void *ctx, char *dst, size_t cap);
    const void *ctx;
    /* (optional) what is done about a blocking call that does not come back, once; NULL: the job ends */
    void (*stuck)(void *ctx, const char *text);
    void *stuck_ctx;
    bool  there; /* initialised */
} taut__watchdog;

/* timeout_ms < 0: never. t: NULL where `stuck` is given, and no calls are watched. */
void taut__watchdog_init(taut__watchdog *w, taut__transport *t, int32_t timeout_ms);
void taut__watchdog_destroy(taut__watchdog *w);
/* The clock of the calling thread's time on a processor, for taut__transport.calls[1]. */
uint64_t taut__watchdog_clock(void);
/* From now on also calls that should come back at once; nothing where the transport does not count them. A call is stuck
 * only if its thread has also spent a good deal of time on a processor in it: one that is stopped, or that others keep from running, is not. */
taut_status taut__watchdog_watch(taut__watchdog *w, void (*describe)(const void *ctx, char *dst, size_t cap),
                                 const void     *ctx);
/* what: in the message; stays valid until leave. bytes: that the call moves; the timeout grows by a microsecond for each, since
 * nobody sees its progress. Fails only if the first call of the two cannot start the thread. */
taut_status taut__watchdog_enter(taut__watchdog *w, const char *what, size_t bytes);
void        taut__watchdog_leave(taut__watchdog *w);

#endif
