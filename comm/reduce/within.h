/* within.h : sums within a host by a data half of its ranks: what hierarchy.h has, on a device. */
#ifndef TAUT_WITHIN_H
#define TAUT_WITHIN_H

#include "reduction.h"

bool        taut__within_for(const taut__reduction *red); /* they go by a data half */
taut_status taut__within_prepare(taut__reduction *red);
taut_status taut__within_advance(taut__reduction *red, bool up, bool *moved, bool *done);
int         taut__within_waiting_for(const taut__reduction *red, int *hops);
void        taut__within_cancel(taut__reduction *red);
void        taut__within_release(taut__reduction *red);

#endif
