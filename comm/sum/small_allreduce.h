/* small_allreduce.h : combine a small vector over all ranks in O(log p) messages, with the same bits everywhere.
 * Recursive doubling; ranks beyond a power of two fold into their partner first and get the result last. At every
 * node the lower rank's operand comes first, so all ranks compute the same tree of the same operations.
 *
 * Ranks that send other numbers of bytes differ: an error; or, where `sums` is set after begin, what step_sums.h says: the vector is there then, `data`
 * and `in` are room for what is sent of it, and received.
 */
#ifndef TAUT_EXCHANGE_H
#define TAUT_EXCHANGE_H

#include "../transport/transport.h"
#include "../../compressors/sums/step_sums.h"

/* acc = acc (+) in, or in (+) acc where in_first; `ctx` as given to begin. */
typedef void (*taut__combine)(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);

typedef struct taut__small_allreduce {
    const taut__group *g;
    int                tag, state, mask;
    void              *data, *in;
    size_t             bytes;
    uint64_t           sent; /* by this rank, in all its rounds */
    taut__step_sums   *sums; /* bytes: those for which there is room */
    taut__combine      combine;
    const void        *ctx;
    taut__request      send, recv;
} taut__small_allreduce;

/* data: bytes, in place; in: scratch of as many bytes; both stay untouched until done. */
void        taut__small_allreduce_begin(taut__small_allreduce *x, const taut__group *g, int tag, void *data, void *in,
                                        size_t bytes, taut__combine combine, const void *ctx);
taut_status taut__small_allreduce_advance(taut__small_allreduce *x, bool *done);
void        taut__small_allreduce_cancel(taut__small_allreduce *x);
/* The rank of the transport whose message is missing, or who does not take ours; -1 if none. Adds to *hops how many ranks, one
 * after the other, that one may be waiting for itself: one for each round before. */
int taut__small_allreduce_waiting_for(const taut__small_allreduce *x, int *hops);

/* ctx: taut__mixed, or NULL for doubles only: first `sums` doubles are added, then `masks` uint64 are ANDed, and the rest
 * ORed. Words with equal AND and OR are equal on all ranks. masks beyond the end: all that follow. */
typedef struct taut__mixed {
    size_t sums, masks;
} taut__mixed;
void taut__combine_mixed(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);
void taut__combine_f32(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);
void taut__combine_i32(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);

#endif
