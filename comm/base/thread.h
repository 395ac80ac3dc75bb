/* thread.h : the library's threads, each started here, so that tests can make one of them fail. */
#ifndef TAUT_THREAD_H
#define TAUT_THREAD_H

#include "base.h"
#include <pthread.h>

/* It takes no signals of the process. what: in the message, as in "a communication thread". TAUT_E_NOMEM where the system has no more threads; *thread is then nothing. */
taut_status taut__thread_start(pthread_t *thread, void *(*body)(void *), void *arg, const char *what);
void        taut__cond_init(pthread_cond_t *c); /* whose waits end by CLOCK_MONOTONIC: the other one may jump */
void        taut__thread_fail_after(int n); /* tests: the n-th start from now fails, once, counted from 0; -1 = never */

#endif
