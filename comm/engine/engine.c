/* engine.c : see engine.h.
 *
 * PROTOCOL
 *
 *  1. A job is a state machine: step(job) does one piece of work (encode a frame, add what has arrived, post what may be
 *     posted) and never waits. Jobs of different layers exchange messages with tags of their own, and no job ever waits for
 *     memory that another one holds: every job owns one slot, with which alone it can finish, one slice after the other;
 *     further slots, which make it fast, it borrows from the communicator's arena when it opens a slice (arena.h), and goes on
 *     without where none is left. So jobs progress independently of each other, and ranks may start layers in any order.
 *     Ranks may hold different numbers of slots for one layer: messages of one sender and tag are matched in the order of
 *     sending, slices are opened in order, and a message may come before its receive is posted. Of all ranks, the one whose
 *     oldest slice is the lowest has memory for it, so have the others, or they have finished it: so it is finished.
 *  2. Whoever holds `lock` is the driver: he polls the transport and steps active jobs, the one he waits for first, then by
 *     priority (order of registration, which is the order in which the next forward pass needs the results), so the more
 *     urgent borrow first. After every piece of work he looks again from the top.
 *  3. Drivers are the communication thread, if there is one, and any thread inside start, test, wait or step_end. A thread
 *     that waits takes over driving (`callers` > 0 makes the communication thread stand back), so that a blocking
 *     collective costs no change of threads. start() only puts the job in the inbox, under its own lock: the caller never
 *     waits for a piece of work. Without a communication thread start() drives as long as something moves.
 *  4. The one thing that blocks is the transport's native sum. All ranks enter it for the same job, having voted
 *     (native.c), each from inside a blocking taut_allreduce. A program can only be inside one such call,
 *     and must make them in the same order on all ranks, so no two ranks can be in different ones.
 *  5. Failure: the first rank to fail tells all others through the transport's notice, which every driver looks for. All
 *     jobs stop, and `failed` ends every later call. A driver who waits and sees nothing move for timeout_ms fails with
 *     TAUT_E_TIMEOUT. While nobody waits, nobody is late: ranks may compute as long as they like.
 *
 *  `failed` is released after `notice` is written, `state` DONE after the result is in buf, or after `failed`; readers acquire.
 *  So whoever finds a job DONE, without the lock, and then `failed` not set, has its result. */
#include "engine.h"
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SPINS = 2000, LOOKS = 8, NAP_US = 50, THREAD_NAP_MAX_US = 200 };
static const double HOP_SHARE = 0.2, HOP_MOST_S = 0.5; /* of the timeout, and at most: how much later a hop is late */

/* ---- failure ---- */

taut_status taut__engine_check(const taut__engine *e)
{
    taut_status s = (taut_status)atomic_load_explicit(&e->failed, memory_order_acquire);
    return s == TAUT_OK ? TAUT_OK : taut__fail(s, "%s", e->notice.text);
}

static void stop_jobs(taut__engine *e)
{
    for (taut__job *j = e->active; j; j = j->next) {
        j->stop(j);
        atomic_store_explicit(&j->state, TAUT_JOB_DONE, memory_order_release);
    }
    e->active = NULL;
}

static void set_failed(taut__engine *e, taut_status s)
{
    atomic_store_explicit(&e->failed, (int)s, memory_order_release); /* first: see the protocol */
    stop_jobs(e);
}

/* With the lock held. */
static taut_status fail(taut__engine *e, taut_status s, const char *text)
{
    if (atomic_load(&e->failed)) return taut__engine_check(e);
    e->notice = (taut__notice){.status = (int32_t)s, .rank = e->t->rank};
    strncpy(e->notice.text, text, sizeof e->notice.text - 1);
    e->t->ops->abort(e->t, &e->notice);
    set_failed(e, s);
    return taut__engine_check(e);
}

taut_status(taut__engine_fail)(taut__engine *e, taut_status s, const char *text)
{
    pthread_mutex_lock(&e->lock);
    s = fail(e, s, text);
    pthread_mutex_unlock(&e->lock);
    return s;
}

/* A question is answered once nothing has come behind it: who asked may have given up since, and all ranks are to fail alike. */
static taut_status answer(taut__engine *e, bool more)
{
    if (more || !e->questioned) return TAUT_OK;
    e->questioned = false;
    taut_status s = e->hear(e->ctx, &e->question, true);
    return s == TAUT_OK ? TAUT_OK : fail(e, s, taut_last_error());
}

static taut_status hear(taut__engine *e)
{
    taut__notice n;
    bool         more = false;
    for (; e->t->ops->heard(e->t, &n); more = true) {
        if (!e->hear) continue;
        e->hear(e->ctx, &n, false);
        if (n.word != TAUT_WORD_LEAVES) e->question = n, e->questioned = true;
    }
    if (!e->t->ops->aborted(e->t, &n) || n.rank == e->t->rank) return answer(e, more);
    taut_status s = (taut_status)n.status, shared = TAUT_E_PEER;
    if (s == TAUT_E_MISMATCH || s == TAUT_E_TIMEOUT) shared = s;
    if (s == TAUT_E_MISMATCH)
        taut__fail(shared, "%.480s", n.text); /* names the ranks: who noticed is no more to blame */
    else taut__fail(shared, "rank %d failed: %.480s", n.rank, n.text);
    strncpy(e->notice.text, taut_last_error(), sizeof e->notice.text - 1);
    set_failed(e, shared);
    return shared;
}

/* ---- driving: with the lock held ---- */

static void activate(taut__engine *e, taut__job *job)
{
    taut__job **at = &e->active;
    if (!e->active) e->busy_since = taut__now();
    while (*at && (*at)->priority <= job->priority) at = &(*at)->next;
    job->next = *at;
    *at = job;
}

static void take_inbox(taut__engine *e)
{
    if (!atomic_load(&e->inbox)) return; /* as nearly always: every poll comes past here */
    pthread_mutex_lock(&e->inbox_lock);
    taut__job *job = e->inbox;
    e->inbox = NULL;
    pthread_mutex_unlock(&e->inbox_lock);
    while (job) {
        taut__job *next = job->next;
        activate(e, job);
        job = next;
    }
}

static void retire(taut__engine *e, taut__job *job)
{
    taut__job **at = &e->active;
    while (*at != job) at = &(*at)->next;
    *at = job->next;
    if (!e->active) e->busy_s += taut__now() - e->busy_since;
    atomic_store_explicit(&job->state, TAUT_JOB_DONE, memory_order_release);
}

/* "step 7, layer 'fc1'", of a job or, where that is NULL, of an exchange; steps count from 0. */
static void place(const taut__engine *e, const taut__job *job, const char *what, char *dst, size_t cap)
{
    int n = e->steps ? snprintf(dst, cap, "step %llu, ", (unsigned long long)*e->steps) : 0;
    if (job) what = job->name;
    snprintf(dst + n, cap - (size_t)n, job && job->layer ? "layer '%.128s'" : "%.128s", what ? what : "");
}

/* What the transport says names a rank at most; what it was doing that for is known here. */
static taut_status transport_failed(taut__engine *e, taut_status s, const taut__job *job)
{
    char        text[460], where[200];
    const char *what = atomic_load(&e->exchanged);
    if (!job && !what) return fail(e, s, taut_last_error());
    place(e, job, what, where, sizeof where);
    snprintf(text, sizeof text, "%s: %.250s", where, taut_last_error());
    return fail(e, s, text);
}

static taut_status step(taut__engine *e, taut__job *job, bool *moved)
{
    bool done = false;
    if (job->needs > atomic_load(&e->compared)) return TAUT_OK;
    taut_status s = job->step(job, moved, &done);
    if (s == TAUT_E_PEER || s == TAUT_E_TRANSPORT) return transport_failed(e, s, job);
    if (s != TAUT_OK) return fail(e, s, taut_last_error());
    if (done) retire(e, job);
    *moved |= done;
    return TAUT_OK;
}

static taut_status poll_failed(taut__engine *e, taut_status s)
{
    const taut__job *job = atomic_load(&e->waited);
    return transport_failed(e, s, job || atomic_load(&e->exchanged) ? job : e->active);
}

/* One piece of work, if there is any. first: NULL, or the job to look at first, even before the transport is polled: a poll
 * that finds nothing may give the core away (Open MPI's does on busy hosts), and what this job has to send would wait for that. */
static taut_status drive(taut__engine *e, taut__job *first, bool *moved)
{
    *moved = false;
    if (atomic_load(&e->failed)) return taut__engine_check(e);
    take_inbox(e);
    if (first && atomic_load(&first->state) == TAUT_JOB_RUNNING) TAUT_TRY(step(e, first, moved));
    if (*moved) e->moved_at = taut__now();
    if (first && atomic_load(&first->state) != TAUT_JOB_RUNNING) return TAUT_OK;
    taut_status s = e->t->ops->poll(e->t);
    if (s != TAUT_OK) return poll_failed(e, s);
    if (hear(e) != TAUT_OK) return taut__engine_check(e);
    for (taut__job *j = e->active; j && !*moved;) {
        taut__job *next = j->next;
        if (j != first) TAUT_TRY(step(e, j, moved));
        if (*moved) e->moved_at = taut__now();
        j = next;
    }
    return TAUT_OK;
}

/* Whether there is something to poll for. With the lock held. */
static bool busy(const taut__engine *e) { return e->active || (e->t->ops->pending && e->t->ops->pending(e->t)); }

/* ---- the communication thread ---- */

static bool nothing_to_do(taut__engine *e) { return !e->quit && !e->inbox && !e->nudged; }

static void *thread_main(void *arg)
{
    taut__engine *e = arg;
    int           nap = 1;
    for (;;) {
        bool moved = false, idle = true;
        pthread_mutex_lock(&e->lock);
        if (atomic_load(&e->callers) == 0 && drive(e, NULL, &moved) == TAUT_OK) idle = !busy(e);
        pthread_mutex_unlock(&e->lock);
        pthread_mutex_lock(&e->inbox_lock);
        while (idle && nothing_to_do(e)) pthread_cond_wait(&e->wake, &e->inbox_lock);
        bool quit = e->quit;
        e->nudged = false;
        pthread_mutex_unlock(&e->inbox_lock);
        if (quit) return NULL;
        nap = moved ? 1 : nap < THREAD_NAP_MAX_US ? 2 * nap : nap;
        struct timespec ts = {0, nap * 1000L};
        if (!moved) nanosleep(&ts, NULL);
    }
}

/* ---- life ---- */

void taut__engine_create(taut__engine *e, taut__transport *t, int32_t timeout_ms)
{
    *e = (taut__engine){.t = t, .timeout_ms = timeout_ms};
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->inbox_lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    e->moved_at = taut__now();
}

taut_status taut__engine_thread(taut__engine *e)
{
    TAUT_TRY(taut__thread_start(&e->thread, thread_main, e, "a communication thread"));
    e->threaded = true;
    return TAUT_OK;
}

void taut__engine_destroy(taut__engine *e)
{
    if (!e->t) return;
    taut__thread_stop(e->thread, e->threaded, &e->inbox_lock, &e->wake, &e->quit);
    take_inbox(e);
    stop_jobs(e);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->inbox_lock);
    pthread_cond_destroy(&e->wake);
}

/* ---- callers ---- */

void taut__engine_hold(taut__engine *e)
{
    atomic_fetch_add(&e->callers, 1);
    pthread_mutex_lock(&e->lock);
}

void taut__engine_release(taut__engine *e)
{
    bool more = busy(e);
    atomic_fetch_sub(&e->callers, 1);
    pthread_mutex_unlock(&e->lock);
    if (!e->threaded || !more) return;
    pthread_mutex_lock(&e->inbox_lock);
    e->nudged = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->inbox_lock);
}

void taut__engine_start(taut__engine *e, taut__job *job, bool quiet)
{
    atomic_store_explicit(&job->state, TAUT_JOB_RUNNING, memory_order_release);
    pthread_mutex_lock(&e->inbox_lock);
    job->next = e->inbox;
    e->inbox = job;
    if (e->threaded && !quiet) pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->inbox_lock);
    if (e->threaded || quiet) return;
    taut__engine_hold(e);
    for (bool moved = true; moved;)
        if (drive(e, NULL, &moved) != TAUT_OK) break;
    taut__engine_release(e);
}

double taut__engine_busy_s(taut__engine *e)
{
    pthread_mutex_lock(&e->lock);
    double s = e->busy_s + (e->active ? taut__now() - e->busy_since : 0);
    pthread_mutex_unlock(&e->lock);
    return s;
}

static taut_status late(taut__engine *e, const taut__job *job, const char *what, int peer)
{
    char text[400], where[200], who[64] = "";
    place(e, job, what, where, sizeof where);
    if (peer >= 0) snprintf(who, sizeof who, ", nothing from rank %d", peer);
    snprintf(text, sizeof text, "%s: no progress for %d ms%s", where, (int)e->timeout_ms, who);
    return fail(e, TAUT_E_TIMEOUT, text);
}

/* Nothing has moved for so many turns, or, where a turn takes long because others have the core, for so long, that sleeping and looking at clocks
 * costs nothing. A few turns are enough for that: MPI itself may give the core away in each. */
static bool quiet(const taut__engine *e, double since, int idle)
{
    const double spin_s = 2e-3;
    double       last = since > e->moved_at ? since : e->moved_at;
    return idle > SPINS || (idle >= LOOKS && taut__now() - last > spin_s);
}

/* Spin a while, for whoever answers at once; then give the core away. */
static void pause_after(taut__engine *e, int idle, bool still)
{
    if (still) e->t->ops->idle(e->t, NAP_US);
    else if (idle >= SPINS / 20) sched_yield();
}

/* hops: whoever waits for a rank that itself waits for others gives that one time to say for whom: the first notice is the one
 * that all ranks hear. */
static bool overdue(const taut__engine *e, double since, int hops)
{
    if (e->timeout_ms < 0) return false;
    double last = since > e->moved_at ? since : e->moved_at, limit = e->timeout_ms * 1e-3;
    double grace = limit * HOP_SHARE < HOP_MOST_S ? limit * HOP_SHARE : HOP_MOST_S;
    return taut__now() - last > limit + hops * grace;
}

enum { SOON = 5, MOST_ASKS = 12 }; /* so many questions of an urgent job come before others would */

/* Nothing has moved for a while: at first after a tenth of a second (5 ms, where it is urgent), then less and less often. */
static bool time_to_ask(taut__engine *e, const taut__job *waited, double since)
{
    const double first = waited && waited->urgent ? 0.005 : 0.1, most = 1;
    double       last = since > e->moved_at ? since : e->moved_at;
    if (e->asked_at < last) e->asks = 0;
    else last = e->asked_at;
    double gap = first * (double)(1 << e->asks);
    return e->ask && taut__now() - last > (gap < most ? gap : most);
}

static taut_status ask(taut__engine *e, const taut__job *waited)
{
    bool soon = waited && waited->urgent && e->asks < SOON;
    e->asked_at = taut__now();
    e->asks += e->asks < MOST_ASKS;
    taut_status s = e->ask(e->ctx, waited, soon);
    return s == TAUT_OK ? TAUT_OK : fail(e, s, taut_last_error());
}

void taut__engine_describe(const void *engine, char *dst, size_t cap)
{
    taut__engine *e = (taut__engine *)(uintptr_t)engine;
    taut__job    *job = atomic_load(&e->waited);
    const char   *what = atomic_load(&e->exchanged);
    int           hops = 0, peer = job && job->waiting_for ? job->waiting_for(job, &hops) : -1;
    char          where[200] = "";
    if (job || what) place(e, job, what, where, sizeof where);
    if (peer >= 0) snprintf(dst, cap, "%s, nothing from rank %d", where, peer);
    else snprintf(dst, cap, "%s", where);
}

/* ---- waiting: with the lock held, until what somebody waits for is done ---- */

typedef struct waiting {
    taut__job                   *job; /* NULL: an exchange */
    const taut__small_allreduce *exchange;
    const char                  *what;
    double                       since, looked; /* looked: at the last turn */
    int                          idle;          /* turns since something moved */
} waiting;

/* Turns follow each other within milliseconds. Time in which this process did not run, since it was stopped (a job that the batch system suspends) or had no
 * processor, is no time in which it waited. */
static void leave_out_what_was_slept(taut__engine *e, waiting *w)
{
    const double away_s = 0.5;
    double       now = taut__now(), away = now - w->looked;
    w->looked = now;
    if (away <= away_s) return;
    w->since = fmin(w->since + away, now); /* not beyond now: it may have moved, or begun, since it went on */
    e->moved_at = fmin(e->moved_at + away, now);
}

static int missing(const waiting *w, int *hops)
{
    if (!w->job) return taut__small_allreduce_waiting_for(w->exchange, hops);
    return w->job->waiting_for ? w->job->waiting_for(w->job, hops) : -1;
}

static taut_status turn(taut__engine *e, waiting *w)
{
    bool moved;
    int  hops = 0;
    TAUT_TRY(drive(e, w->job, &moved));
    w->idle = moved ? 0 : w->idle + 1;
    bool still = quiet(e, w->since, w->idle);
    pause_after(e, w->idle, still);
    leave_out_what_was_slept(e, w);
    if (still && time_to_ask(e, w->job, w->since)) TAUT_TRY(ask(e, w->job));
    if (!still || !overdue(e, w->since, hops)) return TAUT_OK;
    int peer = missing(w, &hops);
    return overdue(e, w->since, hops) ? late(e, w->job, w->what, peer) : TAUT_OK;
}

static taut_status wait_locked(taut__engine *e, taut__job *job)
{
    waiting w = {.job = job, .what = job->name, .since = taut__now()};
    w.looked = w.since;
    while (atomic_load(&job->state) == TAUT_JOB_RUNNING) TAUT_TRY(turn(e, &w));
    return taut__engine_check(e);
}

taut_status taut__engine_wait(taut__engine *e, taut__job *job)
{
    if (atomic_load_explicit(&job->state, memory_order_acquire) != TAUT_JOB_RUNNING) return taut__engine_check(e);
    taut__engine_hold(e);
    atomic_store_explicit(&e->waited, job, memory_order_relaxed);
    taut_status s = wait_locked(e, job);
    atomic_store_explicit(&e->waited, NULL, memory_order_relaxed);
    taut__engine_release(e);
    return s;
}

taut_status taut__engine_test(taut__engine *e, taut__job *job, bool *done)
{
    taut_status s = TAUT_OK;
    if (!e->threaded && atomic_load(&job->state) == TAUT_JOB_RUNNING) {
        taut__engine_hold(e);
        for (bool moved = true; moved && s == TAUT_OK;) s = drive(e, job, &moved);
        taut__engine_release(e);
    }
    *done = atomic_load_explicit(&job->state, memory_order_acquire) != TAUT_JOB_RUNNING;
    return s == TAUT_OK ? taut__engine_check(e) : s;
}

static taut_status exchange_locked(taut__engine *e, taut__small_allreduce *x, const char *what)
{
    waiting w = {.exchange = x, .what = what, .since = taut__now()};
    w.looked = w.since;
    for (bool done = false;;) {
        taut_status s = taut__small_allreduce_advance(x, &done);
        if (s != TAUT_OK) return fail(e, s, taut_last_error());
        if (done) return TAUT_OK;
        TAUT_TRY(turn(e, &w));
    }
}

taut_status taut__engine_exchange(taut__engine *e, taut__small_allreduce *x, const char *what)
{
    TAUT_TRY(taut__engine_check(e));
    taut__engine_hold(e);
    atomic_store_explicit(&e->exchanged, what, memory_order_relaxed);
    taut_status s = exchange_locked(e, x, what);
    atomic_store_explicit(&e->exchanged, NULL, memory_order_relaxed);
    if (s != TAUT_OK) taut__small_allreduce_cancel(x);
    taut__engine_release(e);
    return s;
}
