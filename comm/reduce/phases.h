/* phases.h : what a reduction goes through beside its algorithm (phases.c). */
#ifndef TAUT_PHASES_H
#define TAUT_PHASES_H

#include "reduction.h"

/* ---- hierarchy.c ---- sums within a host, before and after those across the network */
taut_status taut__hier_prepare(taut__reduction *red);
taut_status taut__hier_advance(taut__reduction *red, bool up, bool *moved, bool *done);
int         taut__hier_waiting_for(const taut__reduction *red);
void        taut__hier_cancel(taut__reduction *red);
void        taut__hier_release(taut__reduction *red);

/* ---- within.c ---- the same by a data half of the host's ranks, on a device */
bool        taut__within_for(const taut__reduction *red); /* they go by it */
taut_status taut__within_prepare(taut__reduction *red);
taut_status taut__within_advance(taut__reduction *red, bool up, bool *moved, bool *done);
int         taut__within_waiting_for(const taut__reduction *red, int *hops);
void        taut__within_cancel(taut__reduction *red);
void        taut__within_release(taut__reduction *red);

/* ---- uncompressed.c ---- an operand travels as it is: nobody to reduce with, a NaN somewhere, or parts that cannot be coded alone: by a codec that
 * codes whole tensors, or by sums of factors of them, which would add what lies outside a rank's part; allgather then spreads parts as they are. */
bool        taut__spreads_raw(const taut__reduction *red);
taut_status taut__raw_prepare(taut__reduction *red, size_t slice);
taut_status taut__raw_advance(taut__reduction *red, bool *moved, bool *done);

/* ---- rotate.c ---- an allreduce in the coordinates of a basis (compressors/basis).
 *
 * An operand that has a basis is formed as a whole, in x's memory, and turned there: y = (x / scale) Q. All that follows, statistics,
 * agreement, the algorithm, sees y as it would see x, in units of 1 where the scale had one value per row or element, so codes, sums and
 * results are exact and the same on all ranks as ever. Then the result, and what encoding lost, are turned back. What is told outside, samples,
 * norms, errors, the residual, is in x's own coordinates: red->record is filled in here.
 *
 * All ranks turn or none does: it depends on the operand, which they share, and on what was asked for. A rank whose x is not finite leaves it as
 * it is, and the statistics then send all of them the way of raw sums, before which the others turn back. */
enum {
    TAUT_LEARN_FIRST = 8,
    TAUT_LEARN_EVERY = 8
}; /* collectives: these, and every so manyth, show the basis their result */

bool        taut__rotated(const taut__reduction *red); /* it has been turned, and not yet back */
bool        taut__learns(const taut__reduction *red);  /* its result is to be shown to the basis */
void        taut__rotate_begin(taut__reduction *red);
taut_status taut__rotate_advance(taut__reduction *red, bool *moved, bool *done); /* forms x, and turns it */
taut_status taut__unturn_advance(taut__reduction *red, bool *moved, bool *done); /* x again, before a raw sum */
taut_status taut__back_advance(taut__reduction *red, bool *moved, bool *done);   /* result and residual */
taut_status taut__learn_advance(taut__reduction *red, bool *moved, bool *done);

#endif
