/* assured.h : a transport whose messages arrive whole, once and in their place, or fail: around one that may lose and damage them. */
#ifndef TAUT_ASSURED_H
#define TAUT_ASSURED_H

#include "transport.h"

/* Takes *t and puts the wrapper there; after a failure *t is as it was. patience_ms: how long a piece may at most go unacknowledged before it is
 * sent once more; below 0: five seconds. All ranks must have it. Offers no native sum. */
taut_status taut__assured_create(int patience_ms, taut__transport **t);

#endif
