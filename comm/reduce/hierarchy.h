/* hierarchy.h : sums within a host, before and after those across the network. */
#ifndef TAUT_HIERARCHY_H
#define TAUT_HIERARCHY_H

#include "reduction.h"

taut_status taut__hier_prepare(taut__reduction *red);
taut_status taut__hier_advance(taut__reduction *red, bool up, bool *moved, bool *done);
int         taut__hier_waiting_for(const taut__reduction *red);
void        taut__hier_cancel(taut__reduction *red);
void        taut__hier_release(taut__reduction *red);

#endif
