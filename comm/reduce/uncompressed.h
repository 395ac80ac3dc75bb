/* uncompressed.h : the phase in which an operand travels as it is: nobody to reduce with, a NaN somewhere, or parts that cannot be
 * coded alone. */
#ifndef TAUT_UNCOMPRESSED_H
#define TAUT_UNCOMPRESSED_H

#include "reduction.h"

/* Parts cannot be coded alone by a codec that codes whole tensors, nor by sums of factors of them, which would add what lies
 * outside a rank's part: allgather then spreads parts as they are. */
bool        taut__spreads_raw(const taut__reduction *red);
taut_status taut__raw_prepare(taut__reduction *red, size_t slice);
taut_status taut__raw_advance(taut__reduction *red, bool *moved, bool *done);

#endif
