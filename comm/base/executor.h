/* executor.h : a few threads that share independent pieces of work. Which thread takes which piece is left to chance, so
 * pieces must not depend on it: results are the same for any number of threads. */
#ifndef TAUT_POOL_H
#define TAUT_POOL_H

#include "base.h"

typedef struct taut__executor taut__executor;

/* piece i of n; worker 0..threads-1 names scratch that nobody else uses meanwhile */
typedef void (*taut__task)(void *ctx, size_t i, int worker);

taut_status taut__executor_create(int threads, taut__executor **pool); /* 1: no threads are made, the caller does everything */
void        taut__executor_destroy(taut__executor *pool);
int         taut__executor_threads(const taut__executor *pool);
void        taut__executor_run(taut__executor *pool, taut__task piece, void *ctx, size_t n); /* returns when all are done */

#endif
