/* pool.h : a few threads that share independent pieces of work. Which thread takes which piece is left to chance, so
 * pieces must not depend on it: results are the same for any number of threads. */
#ifndef TAUT_POOL_H
#define TAUT_POOL_H

#include "base.h"

typedef struct taut_pool taut_pool;

/* piece i of n; worker 0..threads-1 names scratch that nobody else uses meanwhile */
typedef void (*taut_piece)(void *ctx, size_t i, int worker);

taut_status taut__pool_create(int threads, taut_pool **pool); /* 1: no threads are made, the caller does everything */
void        taut__pool_destroy(taut_pool *pool);
int         taut__pool_threads(const taut_pool *pool);
void        taut__pool_run(taut_pool *pool, taut_piece piece, void *ctx, size_t n); /* returns when all are done */

#endif
