/* halving.h : the sum of a vector over a power of two of ranks, in place, with the same bits everywhere: recursive halving,
 * then recursive doubling (Rabenseifner 2004; Thakur, Rabenseifner, Gropp 2005, section 4.1). 2 log2 p messages carry
 * 2(p-1)/p of the bytes, so it lies between small_allreduce.h, which has half the messages, and scatter-reduce-allgather, whose 2(p-1)
 * messages leave together. For vectors whose halves MPI sends eagerly. */
#ifndef TAUT_HALVING_H
#define TAUT_HALVING_H

#include "small_allreduce.h"
#include "../base/partition.h"

typedef struct taut__halving {
    const taut__group *g;         /* of 2, 4, 8, ... ranks */
    int                tag, turn; /* 0 .. 2 log2 p */
    size_t             n, width;  /* numbers; bytes of one */
    char              *x, *in;
    taut__combine      combine;
    uint64_t           sent; /* bytes */
    taut__request      send, recv;
} taut__halving;

/* x: n numbers of `width` bytes, in place; in: room for (n+1)/2; both stay untouched until done. */
void taut__halving_begin(taut__halving *h, const taut__group *g, int tag, void *x, void *in, size_t n, size_t width,
                         taut__combine combine);
taut_status taut__halving_advance(taut__halving *h, bool *done);
void        taut__halving_cancel(taut__halving *h);
int         taut__halving_waiting_for(const taut__halving *h, int *hops); /* as taut__small_allreduce_waiting_for */

#endif
