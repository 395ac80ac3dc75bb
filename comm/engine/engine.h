/* engine.h : who moves jobs on, and when. The protocol is at the top of engine.c. */
#ifndef TAUT_ENGINE_H
#define TAUT_ENGINE_H

#include "../sum/small_allreduce.h"
#include "../base/thread.h"
#include "job.h"

typedef struct taut__engine {
    taut__transport   *t;
    int32_t            timeout_ms;
    pthread_mutex_t    lock;   /* transport, active jobs and everything that they touch */
    taut__job         *active; /* by priority */
    pthread_mutex_t    inbox_lock;
    pthread_cond_t     wake;     /* of the thread, with inbox_lock */
    _Atomic size_t     compared; /* layers that are known to be the same on all ranks: jobs that need more wait */
    taut__job *_Atomic inbox;    /* started, not yet active; changed with inbox_lock */
    bool               quit;
    bool               nudged; /* a caller has left jobs for the thread */
    bool               threaded;
    pthread_t          thread;
    _Atomic int        callers;            /* threads that want the lock: the communication thread stands back */
    _Atomic int        failed;             /* taut_status */
    taut__notice       notice;             /* written before failed */
    double             busy_since, busy_s; /* time with at least one job under way */
    double             moved_at;
    /* (optional) Who waits while nothing moves asks those that it waits for, now and then. waited: NULL: an exchange. soon: earlier than usual,
     * for the sake of this job alone, which is urgent. */
    taut_status (*ask)(void *ctx, const taut__job *waited, bool soon);
    /* (optional) What has come: as soon as it has, and a question again when it is to be answered. */
    taut_status (*hear)(void *ctx, const taut__notice *word, bool answer);
    void           *ctx;
    const uint64_t *steps;      /* (optional) ended, for messages; changes while no job is under way */
    taut__notice    question;   /* the last one heard */
    bool            questioned; /* and not yet answered */
    double          asked_at;
    int             asks; /* since something moved */
    /* what a caller waits for, for the watchdog; NULL: nothing */
    taut__job *_Atomic  waited;
    const char *_Atomic exchanged;
} taut__engine;

void taut__engine_create(taut__engine *e, taut__transport *t, int32_t timeout_ms);
/* Makes a communication thread, which drives the transport from then on: the last thing when a communicator is created. */
taut_status taut__engine_thread(taut__engine *e);
void        taut__engine_destroy(taut__engine *e);

/* Hand over a job that is ready to run (state IDLE). Returns at once where there is a thread; else does what can be
 * done without waiting. quiet: the caller will wait for it now, so there is nobody to wake. */
void        taut__engine_start(taut__engine *e, taut__job *job, bool quiet);
taut_status taut__engine_test(taut__engine *e, taut__job *job, bool *done);
taut_status taut__engine_wait(taut__engine *e, taut__job *job);
/* Drive everything until an exchange is done; called without the lock. */
taut_status taut__engine_exchange(taut__engine *e, taut__small_allreduce *x, const char *what);

/* While held, no job is stepped: for changes to what jobs share. */
void taut__engine_hold(taut__engine *e);
void taut__engine_release(taut__engine *e);

/* Seconds during which a job was under way, so far. */
double taut__engine_busy_s(taut__engine *e);

/* "step 7, layer 'fc1', nothing from rank 2", of what a caller waits for now; "" if of nothing. From any thread, while the driver is held up. */
void taut__engine_describe(const void *engine, char *dst, size_t cap);

/* The failure that ended this communicator, as a status of the calling thread; TAUT_OK if none. */
taut_status taut__engine_check(const taut__engine *e);
/* This rank fails: tells the others. Returns s. */
taut_status taut__engine_fail(taut__engine *e, taut_status s, const char *text);

#ifdef __clang_analyzer__ /* as in base.h */
#define taut__engine_fail(e, s, text) ((void)(taut__engine_fail)(e, s, text), (s))
#endif

/* Where s is a failure, all ranks are told, with taut_last_error(). Returns s. */
static inline taut_status taut__engine_tell(taut__engine *e, taut_status s)
{
    return s == TAUT_OK ? s : taut__engine_fail(e, s, taut_last_error());
}

#endif
