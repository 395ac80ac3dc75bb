/* grid_ladder.c : see grid_ladder.h. */
#include "grid_ladder.h"
#include <math.h>

static const double DEAD = 0.65; /* the dead zone of grid's default */

static double error_at(const double *stats, double weight, double step)
{
    return weight > 0 ? weight * taut__grid_estimate_error(stats, step / sqrt(weight), DEAD) : 0;
}

double taut__grid_centre(const double *stats, const double *weight, size_t layers, double budget)
{
    enum { ITERATIONS = 16, OCTAVES = 48 }; /* to a thousandth of an octave */
    double most = 0, elems = 0, lo, hi;     /* log2 of the step; error grows with it */
    for (size_t l = 0; l < layers; l++) {
        most += weight[l] * stats[l * GRID_STATS + GRID_STAT_NORM2];
        elems += stats[l * GRID_STATS + GRID_STAT_N];
    }
    if (!(most > 0) || !(budget > 0)) return 0;
    hi = log2(sqrt(most / elems)) + 0.25 * OCTAVES;
    lo = hi - OCTAVES;
    for (int i = 0; i < ITERATIONS; i++) {
        double mid = (lo + hi) / 2, error = 0;
        for (size_t l = 0; l < layers; l++) error += error_at(stats + l * GRID_STATS, weight[l], exp2(mid));
        if (error <= budget) lo = mid;
        else hi = mid;
    }
    return exp2(lo);
}

/* The rung that errs by rel; its step is not above `most`, which errs by more. */
static taut__rung rung_of(const double *stats, double rel, double most)
{
    double step = (double)taut__grid_estimate_step(stats, rel * stats[GRID_STAT_NORM2], DEAD);
    return (taut__rung){rel, step > 0 ? fmin(step, most) : most};
}

size_t taut__grid_ladder(const double *stats, double weight, double centre, double per_octave, double coarsest,
                         size_t n, taut__rung *rung)
{
    const double finest = 1e-9; /* below, codes are as wide as floats */
    double       norm2 = weight * stats[GRID_STAT_NORM2];
    size_t       made = 0, middle = n / 2;
    for (size_t i = 0; i < n && norm2 > 0; i++) {
        double step = centre * exp2(((double)i - (double)middle) / per_octave),
               rel = error_at(stats, weight, step) / norm2;
        if (rel < finest) continue;
        rung[made++] =
            rel < coarsest ? (taut__rung){rel, step / sqrt(weight)} : rung_of(stats, coarsest, step / sqrt(weight));
        if (rel >= coarsest) break;
    }
    return made;
}
