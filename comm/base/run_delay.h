/* run_delay.h : how long this thread was ready to run and did not, because others had the processor. */
#ifndef TAUT_RUN_DELAY_H
#define TAUT_RUN_DELAY_H

/* Seconds since the thread began (Linux, /proc/thread-self/schedstat, a few microseconds); 0 where nobody counts them. */
double taut__run_delay_s(void);

#endif
