/* grid_ladder.h : the steps at which grid is worth a look. */
#ifndef TAUT_GRID_LADDER_H
#define TAUT_GRID_LADDER_H

#include "grid.h"

/* taut__grid_ladder() : a layer's grid candidates: relative squared errors (key `rel`) and the steps that make them. One
 * step for all layers, in the metric, is where the optimum lies (docs/planning.md), so the ladder is centred there.
 *   stats  : of a layer's statistics, GRID_STATS doubles, summed over ranks and steps; x in units of its scale
 *   weight : of its squared errors
 *   budget : squared error allowed, all layers, in the metric
 * taut__grid_centre() finds the step, in units of the metric; 0 when nothing is to be coded. */
enum { TAUT_LADDER = 13 };
typedef struct taut__rung {
    double rel, step;
} taut__rung; /* step in units of the scale */
double taut__grid_centre(const double *stats, const double *weight, size_t layers, double budget);
/* Fills rung[0..n), n odd, the middle one at the centre, per_octave of them per factor 2, none coarser than rel=coarsest.
 * Returns how many make sense. */
size_t taut__grid_ladder(const double *stats, double weight, double centre, double per_octave, double coarsest,
                         size_t n, taut__rung *rung);

#endif
