/* order.h : the order in which a set of samples is visited: uniformly shuffled, or shuffled so that a reader of blocks has
 * to decode each block once.
 *
 * The samples 0..n-1 lie in segments (shards) one after another. `chunk` consecutive samples of a segment belong together
 * (a block); what is left at a segment's end is its tail. With `window` = w > 0:
 *   the F full chunks are permuted, and cut into Q = ceil(F/w) windows of nearly equal size; the T tail samples, turned by a
 *   random angle, are dealt out to the windows evenly; then the samples of each window are permuted.
 * Whoever walks through the order needs the chunks of one or two windows at a time, and place i is computed in O(1) (plus
 * O(log segments)). With window = 0 all n samples are permuted at once.
 * The shuffle within windows is coarser than a uniform one: two samples of one chunk are at most two windows apart. */
#ifndef TAUT_ORDER_H
#define TAUT_ORDER_H

#include "permute.h"

typedef struct taut__order { /* zero-initialise; taut__order_free() */
    uint64_t          n, chunk, window;
    uint64_t          chunks, tails, windows; /* F, T, Q */
    size_t            segments;
    uint64_t         *first, *first_chunk, *first_tail; /* segments + 1 prefix sums each */
    taut__order_key   key;
    uint64_t          turn;        /* angle of the tails */
    taut__permutation all, inside; /* of chunks (window = 0: of samples); of the window asked for last */
    struct taut__window {          /* the window asked for last: its places, what it holds; end = 0: none */
        uint64_t start, end, full, first_chunk, first_tail; /* full: samples of its chunks */
    } at;
} taut__order;

/* taut__order_init() : samples[k] of segment k, their sum in 1..2^62; chunk at least 1. Allocates. */
taut_status taut__order_init(taut__order *o, const uint64_t *samples, size_t segments, uint64_t chunk, uint64_t window);
void        taut__order_free(taut__order *o);

/* taut__order_set() : the shuffle of this key from now on; key.index is ours. O(segments) at most. */
taut_status taut__order_set(taut__order *o, taut__order_key key);

/* taut__order_at() : *sample = the one at place i, below n. Builds the table of i's window if that is not the last one
 *  asked for, so that walking through costs O(1) a place. Not thread-safe. */
taut_status taut__order_at(taut__order *o, uint64_t i, uint64_t *sample);

#endif
