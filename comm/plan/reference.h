/* reference.h : what the reference of a like: budget makes of this step's inputs: the sum over ranks of its squared errors on x.
 *
 * In every step that compresses, each rank encodes some whole blocks of its x with the reference, chosen at random (sample.h), and
 * the share of |x|^2 that this loses, of all ranks together and faded over a few steps, times |x|^2 of the step, which is known, is the
 * budget. Where the shares of one step are far below what they were, as when gradients become values that the reference keeps exactly, they
 * count alone, at once (auto_guard.c). Between a plan's looks and the first step under it the share is that of the looks. topk picks from
 * many small blocks as it would from the whole tensor; of low rank whole rows are taken, of which a rank leaves a little less than of all. Those whose
 * share hardly depends on the gradient (randk, grid:rel) are taken at the plan's. */
#ifndef TAUT_REFERENCE_H
#define TAUT_REFERENCE_H

#include "lowrank.h"
#include "measure.h"
#include "auto.h"

enum { TAUT_REFERENCE_VALUES = 4 }; /* doubles per layer in the exchange */

typedef struct taut__reference { /* of a layer */
    bool suits, sampled, rows;   /* rows: of low rank, whose looks come in turn, so that what was sampled is newer */
    bool fresh;                  /* in this step; agreed */
    taut_norm2  share;           /* of |x|^2: plain; in units of the scale */
    taut__basis basis;           /* of low rank: of the sampled rows */
} taut__reference;

/* The layer will be sampled. */
taut_status taut__reference_watch(taut__reference *r, const taut_spec *spec, taut__planned *layer);

void taut__reference_fini(taut__reference *r);

/* This rank's values; zeros where the layer was not sampled. seed: of stochastic rounding. */
taut_status taut__reference_measure(const taut__reference *r, const taut_spec *spec, const taut__planned *layer,
                                    taut__bench *bench, uint64_t seed, double v[TAUT_REFERENCE_VALUES]);
/* r with a step's values, summed over ranks; alone: as if no step before it counted. */
taut__reference taut__reference_with(const taut__reference *r, const double v[TAUT_REFERENCE_VALUES], bool alone);

/* The budget of a layer with these norms of x, summed over ranks. scaled: errors count in units of the scale. Where the scale is nearly 0
 * the reference, which does not know it, makes errors without bound in that unit, and would allow as much everywhere: so there its
 * error counts as at most 2.5 times its plain relative error (with Adam, 0.1 of the metric cost as little loss as 0.04 plain). */
double taut__reference_error(const taut__reference *r, const taut_norm2 *own, bool scaled);

#endif
