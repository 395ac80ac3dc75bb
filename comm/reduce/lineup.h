/* lineup.h : the order in which reductions use the data half, which must be the same on all ranks, while a program may start layers in any
 * order. Rank 0 gives turns: it hears from every rank that it has the layer, and when all have it, tells all of them the layer's place in the
 * order; so no rank ever waits for a layer that somebody may start only later. Two messages of the control half, off the path of the data.
 * Slot sizes on which ranks must agree travel along: the largest of any rank is everybody's. */
#ifndef TAUT_LINEUP_H
#define TAUT_LINEUP_H

#include "reduction.h"

enum { TAUT_LINEUP_SIZES = 2 };

typedef struct taut__lineup_word { /* between ranks of one job, as it is */
    uint64_t place, size[TAUT_LINEUP_SIZES];
    uint64_t kind; /* of the collective: 4 (op + 1) + halves */
} taut__lineup_word;

typedef struct taut__lineup {
    taut__lineup_word  mine, said, *in; /* said: what is on its way; in: a rank's, of rank 0; or one */
    taut__request     *out, *back;      /* one per rank; of others one each */
    const taut__group *g;               /* whose data half it is */
    int                tag;             /* of the job's */
    bool               given;           /* mine.place is what rank 0 said */
} taut__lineup;

/* Turns of g's data half, by messages with a tag of the job's. */
taut_status taut__lineup_prepare(taut__reduction *red, taut__lineup *t, const taut__group *g, int tag);
void        taut__lineup_release(taut__lineup *t); /* one that was never prepared is fine */
/* This rank has the layer, and would use slots of these sizes. */
taut_status taut__lineup_ask(taut__reduction *red, taut__lineup *t, const size_t size[TAUT_LINEUP_SIZES]);
/* *here: it is this layer's turn, until taut__lineup_over(); t->mine.size holds what all use. */
taut_status taut__lineup_advance(taut__reduction *red, taut__lineup *t, bool *moved, bool *here);
void        taut__lineup_over(taut__lineup *t); /* all of its groups have been made */
void        taut__lineup_cancel(taut__lineup *t);
int         taut__lineup_waiting_for(const taut__lineup *t, int *hops); /* as taut__job.waiting_for */

#endif
