/* executor.h : a few threads that share independent pieces of work. Which thread takes which piece is left to chance, so
 * pieces must not depend on it: results are the same for any number of threads. */
#ifndef TAUT_POOL_H
#define TAUT_POOL_H

#include "base.h"

typedef struct taut__executor taut__executor;

/* piece i of n; worker 0..threads-1 names scratch that nobody else uses meanwhile */
typedef void (*taut__task)(void *ctx, size_t i, int worker);

taut_status taut__executor_create(int              threads,
                                  taut__executor **pool); /* 1: no threads are made, the caller does everything */
void        taut__executor_destroy(taut__executor *pool);
int         taut__executor_threads(const taut__executor *pool);
void taut__executor_run(taut__executor *pool, taut__task piece, void *ctx, size_t n); /* returns when all are done */

/* The same without waiting: the threads do the pieces, workers 1..threads-1 (with one thread: poll does them, as worker 0). One batch at a
 * time: submit answers false while another is under way, which is until poll has said, or settle has waited for, its end. */
bool taut__executor_submit(taut__executor *pool, taut__task piece, void *ctx, size_t n);
bool taut__executor_poll(taut__executor *pool);   /* the batch is done */
void taut__executor_settle(taut__executor *pool); /* waits for it */
void taut__executor_quiet(taut__executor *pool);  /* waits until no piece is being done; the batch stays its owner's */

#endif
