/* thread.c : see thread.h. */
#include "thread.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int fail_after = -1;

/* Signals of the process are the program's: it may block them in all threads that it knows of and wait for them (sigwait, signalfd), and one
 * that came to a thread of ours would end it then. Those that a thread brings about itself stay. */
static int create_deaf(pthread_t *thread, void *(*body)(void *), void *arg)
{
    sigset_t         deaf, before;
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigfillset(&deaf);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&deaf, own[i]);
    if (pthread_sigmask(SIG_SETMASK, &deaf, &before) != 0) return pthread_create(thread, NULL, body, arg);
    int why = pthread_create(thread, NULL, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return why;
}

taut_status taut__thread_start(pthread_t *thread, void *(*body)(void *), void *arg, const char *what)
{
    bool fails = atomic_load(&fail_after) >= 0 && atomic_fetch_sub(&fail_after, 1) == 0;
    int  why = fails ? EAGAIN : create_deaf(thread, body, arg);
    return why == 0 ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "cannot start %s: %s", what, strerror(why));
}

void taut__cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

void taut__thread_stop(pthread_t thread, bool running, pthread_mutex_t *lock, pthread_cond_t *wake, bool *quit)
{
    pthread_mutex_lock(lock);
    *quit = true;
    pthread_cond_broadcast(wake);
    pthread_mutex_unlock(lock);
    if (running) pthread_join(thread, NULL);
}

bool taut__wait_ns(pthread_cond_t *wake, pthread_mutex_t *lock, int64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    ns += until.tv_nsec;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    return pthread_cond_timedwait(wake, lock, &until) == 0;
}

void taut__thread_fail_after(int n) { atomic_store(&fail_after, n); }

/* The file has three numbers: nanoseconds on the processor, nanoseconds of waiting for it, slices. */
double taut__run_delay_s(void)
{
    char    text[96], *end;
    int     f = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    ssize_t n = f >= 0 ? read(f, text, sizeof text - 1) : 0;
    if (f >= 0) close(f);
    if (n <= 0) return 0;
    text[n] = 0;
    strtoull(text, &end, 10);
    return 1e-9 * (double)strtoull(end, NULL, 10);
}
