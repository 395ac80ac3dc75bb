/* exchange.h : combine a small vector over all ranks in O(log p) messages, with the same bits everywhere.
 * Recursive doubling; ranks beyond a power of two fold into their partner first and get the result last. At every
 * node the lower rank's operand comes first, so all ranks compute the same tree of the same operations. */
#ifndef TAUT_EXCHANGE_H
#define TAUT_EXCHANGE_H

#include "../transport/transport.h"

/* acc = acc (+) in, or in (+) acc where in_first; `ctx` as given to begin. */
typedef void (*taut_combine)(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);

typedef struct taut_exchange {
    const taut_group *g;
    int               tag, state, mask;
    void             *data, *in;
    size_t            bytes;
    uint64_t          sent; /* by this rank, in all its rounds */
    taut_combine      combine;
    const void       *ctx;
    taut_request      send, recv;
} taut_exchange;

/* data: bytes, in place; in: scratch of as many bytes; both stay untouched until done. */
void        taut__exchange_begin(taut_exchange *x, const taut_group *g, int tag, void *data, void *in, size_t bytes,
                                 taut_combine combine, const void *ctx);
taut_status taut__exchange_advance(taut_exchange *x, bool *done);
void        taut__exchange_cancel(taut_exchange *x);
/* A number of the group whose message is missing, or who does not take ours; -1 if none; for messages. */
static inline int taut__exchange_waiting_for(const taut_exchange *x)
{
    return !taut__done(&x->recv) ? x->recv.peer : !taut__done(&x->send) ? x->send.peer : -1;
}

/* ctx: taut_mixed, or NULL for doubles only: first `sums` doubles are added, then `masks` uint64 are ANDed, and the rest
 * ORed. Words with equal AND and OR are equal on all ranks. masks beyond the end: all that follow. */
typedef struct taut_mixed {
    size_t sums, masks;
} taut_mixed;
void taut__combine_mixed(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);
void taut__combine_f32(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);
void taut__combine_i32(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx);

#endif
