/* refine.h : the constants of the time model, refined by what the collectives of each step took.
 *
 * A collective can take longer than the link does, because a peer was late, but never less. So of all observations since
 * the last plan only the one that was fastest for its size is taken, only if the codec was not what took the time, and only
 * if it was long enough to say something about a link: shared memory and tiny models keep the probe's constants. */
#ifndef TAUT_REFINE_H
#define TAUT_REFINE_H

#include "time_model.h"

typedef struct taut__refine {
    taut__line line; /* as probed, then as refined on this rank */
    taut__fit  fit;
    double     probed;         /* seconds per byte, as probed */
    double     best;           /* least observed / predicted seconds since the last taut__refine_take() */
    double     bytes, seconds; /* of that observation */
    double     hops;           /* of a collective */
} taut__refine;

/* One step: layers' records; those that overlapped count as one. begin..end of what ran alone on the link. */
typedef struct taut__span {
    double begin, end, bytes, codec_s;
} taut__span;
void taut__refine_step(taut__refine *r, taut__span *span, size_t n);
void taut__refine_take(taut__refine *r); /* the best observation since the last time joins the fit */

#endif
