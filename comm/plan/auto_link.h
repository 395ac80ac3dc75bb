/* auto_link.h : the constants of the time model: probed at creation, refined by what the collectives of each step took. */
#ifndef TAUT_AUTO_LINK_H
#define TAUT_AUTO_LINK_H

#include "auto.h"

typedef struct taut__refine {
    taut__line line; /* as probed, then as refined on this rank */
    taut__fit  fit;
    double     probed;         /* seconds per byte, as probed */
    double     best;           /* least observed / predicted seconds since the last taut__refine_take() */
    double     bytes, seconds; /* of that observation */
    double     hops;           /* of a collective */
} taut__refine;

/* Times exchanges of a few bytes and of many over all ranks. Collective; same line on all ranks. */
taut_status taut__link_probe(taut__planning *planning, taut__refine *r);

/* One step: layers' records; those that overlapped count as one. begin..end of what ran alone on the link. */
typedef struct taut__span {
    double begin, end, bytes, codec_s;
} taut__span;
void taut__refine_step(taut__refine *r, taut__span *span, size_t n);
void taut__refine_take(taut__refine *r); /* the best observation since the last time joins the fit */

#endif
