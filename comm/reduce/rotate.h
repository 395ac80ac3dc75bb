/* rotate.h : an allreduce in the coordinates of a basis (compressors/basis).
 *
 * An operand that has a basis is formed as a whole, in x's memory, and turned there: y = (x / scale) Q. All that follows, statistics,
 * agreement, the algorithm, sees y as it would see x, in units of 1 where the scale had one value per row or element, so codes, sums and
 * results are exact and the same on all ranks as ever. Then the result, and what encoding lost, are turned back. What is told outside, samples,
 * norms, errors, the residual, is in x's own coordinates: red->record is filled in here.
 *
 * All ranks turn or none does: it depends on the operand, which they share, and on what was asked for. A rank whose x is not finite leaves it as
 * it is, and the statistics then send all of them the way of raw sums, before which the others turn back. */
#ifndef TAUT_ROTATE_H
#define TAUT_ROTATE_H

#include "reduction.h"

enum {
    TAUT_LEARN_FIRST = 8,
    TAUT_LEARN_EVERY = 8
}; /* the first collectives, and every so manyth, show the basis their result */

bool        taut__rotates(const taut__reduction *red); /* this collective is coded in a basis */
bool        taut__rotated(const taut__reduction *red); /* it has been turned, and not yet back */
bool        taut__learns(const taut__reduction *red);  /* its result is to be shown to the basis */
void        taut__rotate_begin(taut__reduction *red);
taut_status taut__rotate_advance(taut__reduction *red, bool *moved, bool *done); /* forms x, and turns it */
taut_status taut__unturn_advance(taut__reduction *red, bool *moved, bool *done); /* x again, before a raw sum */
taut_status taut__back_advance(taut__reduction *red, bool *moved, bool *done);   /* result and residual */
taut_status taut__learn_advance(taut__reduction *red, bool *moved, bool *done);

#endif
