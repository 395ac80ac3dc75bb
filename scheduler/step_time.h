/* step_time.h : what communication took in a step, out of the times at which collectives began and ended on each rank.
 *
 * A rank that comes early waits for the last one, which is no communication. All ranks end a collective at about the same time,
 * because each needs what all have sent; so what the rank that began last took, the least of all ranks, is what the
 * collective took, by one clock and without comparing clocks. Several collectives under way share the link and the
 * processor, and what they took together is the time during which at least one was under way: it does not depend on how
 * closely computing let them follow each other. */
#ifndef TAUT_STEP_TIME_H
#define TAUT_STEP_TIME_H

#include "../comm/base/base.h"

typedef struct taut__collective {
    double end;     /* on this rank's clock, in seconds */
    double seconds; /* the least of all ranks', from begin to end */
} taut__collective;

/* Seconds during which at least one was under way: the union of [end - seconds, end]. Sorts c. */
double taut__shared_seconds(taut__collective *c, size_t n);

#endif
