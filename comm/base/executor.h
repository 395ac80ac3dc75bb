/* executor.h : a few threads that share independent pieces of work. Which thread takes which piece is left to chance, so
 * pieces must not depend on it: results are the same for any number of threads. */
#ifndef TAUT_POOL_H
#define TAUT_POOL_H

#include "base.h"

typedef struct taut__executor taut__executor;

/* piece i of n; worker 0..threads-1 names scratch that nobody else uses meanwhile */
typedef void (*taut__task)(void *ctx, size_t i, int worker);

taut_status taut__executor_create(int threads, taut__executor **pool); /* 1: no threads, the caller does everything */
void        taut__executor_destroy(taut__executor *pool);
int         taut__executor_threads(const taut__executor *pool);
void taut__executor_run(taut__executor *pool, taut__task piece, void *ctx, size_t n); /* returns when all are done */

/* taut__batch : pieces under way, as a request is for a message: its owner submits, then polls until it is done. A zeroed one is not
 * under way. It stays where it is until poll has said, or settle has waited for, its end. */
typedef struct taut__batch {
    taut__task          piece;
    void               *ctx;
    size_t              next, n, done;
    bool                under_way;
    struct taut__batch *after; /* the executor's list, in order of submission */
} taut__batch;

/* Without waiting: the threads do the pieces, workers 1..threads-1 (with one thread: poll does them, as worker 0). Any number of batches, of
 * different owners, may be under way; those that were submitted first are begun first. */
void taut__executor_submit(taut__executor *pool, taut__batch *b, taut__task piece, void *ctx, size_t n);
bool taut__executor_poll(taut__executor *pool, taut__batch *b);   /* it is done, and no longer under way */
void taut__executor_settle(taut__executor *pool, taut__batch *b); /* waits for it; not under way: at once */
void taut__executor_quiet(taut__executor *pool); /* waits until no piece is being done; batches stay their owners' */

#endif
