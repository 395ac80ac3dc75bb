/* thread.h : the library's threads, each started here, so that tests can make one of them fail; and how long one was kept waiting. */
#ifndef TAUT_THREAD_H
#define TAUT_THREAD_H

#include "base.h"
#include <pthread.h>

/* It takes no signals of the process. what: in the message, as in "a communication thread". TAUT_E_NOMEM where the system has no more threads; *thread is then nothing. */
taut_status taut__thread_start(pthread_t *thread, void *(*body)(void *), void *arg, const char *what);
void        taut__cond_init(pthread_cond_t *c); /* whose waits end by CLOCK_MONOTONIC: the other one may jump */
/* Tells it, by what it looks at under the lock, and waits for its end where it is running. */
void taut__thread_stop(pthread_t thread, bool running, pthread_mutex_t *lock, pthread_cond_t *wake, bool *quit);
/* With the lock, which is given up meanwhile; wake: of taut__cond_init(). False: nobody has signalled for so long. */
bool taut__wait_ns(pthread_cond_t *wake, pthread_mutex_t *lock, int64_t ns);
void taut__thread_fail_after(int n); /* tests: the n-th start from now fails, once, counted from 0; -1 = never */
/* How long this thread was ready to run and did not, because others had the processor: seconds since it began (Linux,
 * /proc/thread-self/schedstat, a few microseconds); 0 where nobody counts them. */
double taut__run_delay_s(void);

#endif
