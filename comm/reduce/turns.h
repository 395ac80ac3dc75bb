/* turns.h : the order in which reductions use the data half, which must be the same on all ranks, while a program may start layers in any
 * order. Rank 0 gives turns: it hears from every rank that it has the layer, and when all have it, tells all of them the layer's place in the
 * order; so no rank ever waits for a layer that somebody may start only later. Two messages of the control half, off the path of the data.
 * Slot sizes on which ranks must agree travel along: the largest of any rank is everybody's. */
#ifndef TAUT_TURNS_H
#define TAUT_TURNS_H

#include "reduction.h"

enum { TAUT_TURN_SIZES = 2 };

typedef struct taut__turn_word { /* between ranks of one job, as it is */
    uint64_t place, size[TAUT_TURN_SIZES];
    uint64_t kind; /* op + 1; of all ranks, ORed where they differ */
} taut__turn_word;

typedef struct taut__turn {
    taut__turn_word mine, said, *in; /* said: what is on its way; in: a rank's, of rank 0; or one */
    taut__request  *out, *back; /* one per rank; of others one each */
    bool            given;      /* mine.place is what rank 0 said */
} taut__turn;

taut_status taut__turn_prepare(taut__reduction *red, taut__turn *t);
void        taut__turn_release(taut__turn *t); /* one that was never prepared is fine */
/* This rank has the layer, and would use slots of these sizes. */
taut_status taut__turn_ask(taut__reduction *red, taut__turn *t, const size_t size[TAUT_TURN_SIZES]);
/* *here: it is this layer's turn, until taut__turn_over(); t->mine.size holds what all use. */
taut_status taut__turn_advance(taut__reduction *red, taut__turn *t, bool *moved, bool *here);
void        taut__turn_over(taut__reduction *red); /* all of its groups have been made */
void        taut__turn_cancel(taut__reduction *red, taut__turn *t);
int         taut__turn_waiting_for(const taut__reduction *red, const taut__turn *t, int *hops); /* as taut__job.waiting_for */

#endif
