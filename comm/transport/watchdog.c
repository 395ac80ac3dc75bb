/* watchdog.c : see watchdog.h. */
#include "watchdog.h"
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 250, LOOKS_LEAST = 4 };
static const double AWAY_S = 0.5;
static const double SPENT_S = 0.2; /* such a call takes microseconds of it */

static uint64_t now_us(void) { return (uint64_t)(1e6 * taut__now()) + 1; }

uint64_t taut__watchdog_clock(void)
{
    static _Thread_local uint64_t mine;
    clockid_t                     c;
    if (!mine && pthread_getcpuclockid(pthread_self(), &c) == 0) mine = (uint64_t)(uint32_t)c;
    return mine;
}

static double ran_s(const taut__watchdog *w)
{
    struct timespec t;
    clockid_t       c = (clockid_t)(uint32_t)atomic_load_explicit(&w->t->calls[1], memory_order_relaxed);
    return clock_gettime(c, &t) == 0 ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec : 0;
}

/* Looks are counted, not time, and what its thread has spent: who was stopped in the middle of a call, or is kept from the processor by
 * others, is not stuck in it. */
static void look_at_calls(taut__watchdog *w)
{
    char     text[200] = "";
    uint64_t now = w->t && w->t->calls ? atomic_load_explicit(&w->t->calls[0], memory_order_acquire) : 0;
    if (now % 2 == 0 || now != w->seen) w->looks = 0, w->ran_s = now % 2 ? ran_s(w) : 0;
    else w->looks++;
    w->seen = now;
    if (w->looks < LOOKS_LEAST || w->looks < w->timeout_ms / LOOK_MS || ran_s(w) - w->ran_s < SPENT_S) return;
    if (w->describe) w->describe(w->ctx, text, sizeof text);
    fprintf(
        stderr,
        "taut: rank %d: %s%sMPI has not come back for %.1f s from a call that waits for nobody: a rank of this host "
        "was killed while it wrote to MPI's memory; this process ends\n",
        w->t->rank, text, *text ? ": " : "", 1e-3 * w->looks * LOOK_MS);
    _exit(1); /* handlers of exit() may call MPI */
}

static void look(taut__watchdog *w)
{
    uint64_t since = atomic_load_explicit(&w->since, memory_order_acquire);
    char     text[320];
    if (since == 0) return;
    uint64_t limit = atomic_load(&w->limit), now = now_us();
    if (now < since + limit) return;
    const char *what = atomic_load(&w->what);
    if (atomic_load(&w->since) != since) return; /* it came back */
    snprintf(text, sizeof text,
             "%.128s: the sum of all ranks has not come back for %.1f s: a rank is stopped or gone, or "
             "timeout_ms=%d is too short; ending the job",
             what, 1e-6 * (double)(now - since), (int)w->timeout_ms);
    if (w->stuck) atomic_store(&w->since, 0), w->stuck(w->stuck_ctx, text);
    else w->t->ops->end_job(w->t, text);
}

/* The process was stopped between two looks, for so long: nobody waited meanwhile. */
static void leave_out(taut__watchdog *w, double away_s)
{
    uint64_t since = atomic_load_explicit(&w->since, memory_order_acquire), now = now_us(), later;
    if (since == 0 || away_s <= AWAY_S) return;
    later = since + (uint64_t)(1e6 * away_s);
    atomic_compare_exchange_strong(&w->since, &since, later < now ? later : now); /* a call may have begun since */
}

static void *thread_main(void *arg)
{
    taut__watchdog *w = arg;
    double          looked = taut__now(), before;
    pthread_mutex_lock(&w->lock);
    while (!w->quit) {
        if (taut__wait_ns(&w->wake, &w->lock, LOOK_MS * 1000000L)) continue;
        before = looked;
        leave_out(w, (looked = taut__now()) - before - 1e-3 * LOOK_MS);
        look(w);
        if (w->describe) look_at_calls(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void taut__watchdog_init(taut__watchdog *w, taut__transport *t, int32_t timeout_ms)
{
    *w = (taut__watchdog){.t = t, .timeout_ms = timeout_ms, .there = true};
    pthread_mutex_init(&w->lock, NULL);
    taut__cond_init(&w->wake);
}

void taut__watchdog_destroy(taut__watchdog *w)
{
    if (!w->there) return;
    taut__thread_stop(w->thread, w->running, &w->lock, &w->wake, &w->quit);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->wake);
    w->there = false;
}

static taut_status run(taut__watchdog *w)
{
    if (w->running) return TAUT_OK;
    TAUT_TRY(taut__thread_start(&w->thread, thread_main, w, "a watchdog thread (timeout_ms=-1 needs none)"));
    w->running = true;
    return TAUT_OK;
}

taut_status taut__watchdog_watch(taut__watchdog *w, void (*describe)(const void *ctx, char *dst, size_t cap),
                                 const void     *ctx)
{
    if (w->timeout_ms < 0 || !w->t->calls || w->t->size == 1) return TAUT_OK;
    w->describe = describe, w->ctx = ctx;
    return run(w);
}

taut_status taut__watchdog_enter(taut__watchdog *w, const char *what, size_t bytes)
{
    if (w->timeout_ms < 0) return TAUT_OK;
    TAUT_TRY(run(w));
    atomic_store(&w->what, what);
    atomic_store(&w->limit, (uint64_t)w->timeout_ms * 1000 + bytes);
    atomic_store_explicit(&w->since, now_us(), memory_order_release);
    return TAUT_OK;
}

void taut__watchdog_leave(taut__watchdog *w) { atomic_store_explicit(&w->since, 0, memory_order_release); }
