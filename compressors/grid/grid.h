/* grid.h : what the grid codec's files share, and what the scheduler may ask of it: estimates of squared
 * error and of bits for any step, from statistics, without encoding (grid_stats.c). README.md has the
 * mathematics. */
#ifndef TAUT_GRID_H
#define TAUT_GRID_H

#include "../ops.h"
#include "grid_kernels.h"
#include "grid_steps.h"

extern const taut_codec taut__codec_grid;

enum { GRID_KEY_STEP, GRID_KEY_REL, GRID_KEY_CODE, GRID_KEY_DEAD, GRID_KEY_BASIS, GRID_KEYS };
enum { GRID_PACKED = 0, GRID_RANS = 1 }; /* values of key `code` */

/* taut_calibration of this codec */
enum { GRID_CALIBRATED_STEP = 0 }; /* f[]: the agreed step, in units of the tensor's scale */

/* The bins are a window of octaves of t that goes with the norm, because gradients have any scale. What is added must have the
 * same window: whoever adds statistics of several ranks first moves them to that of a norm on which all agree, as codec.h's
 * `rebase` does. */
taut_status taut__grid_rebase(const taut_call *c, const double *agreed, double *stats);
void        taut__grid_set_window(double *stats, int lowest);
int         taut__grid_lowest(const double *stats); /* exponent at which bin 0 begins */

/* Squared error, in units of the scale, of everything that the stats cover, at this step and dead zone.
 * Within 2% of encoding on the shipped traces. A microsecond or two. */
double taut__grid_estimate_error(const double *stats, double step, double dead);
/* What a payload takes besides: header, length of a chunk, and where its states are rounded up. */
enum { GRID_FIXED_BYTES = 8 + 4 + 20 };
/* Bits per element, without GRID_FIXED_BYTES. code: GRID_PACKED or GRID_RANS. Within about 2% above 0.5 bits, 20% below.
 */
double taut__grid_estimate_bits(const double *stats, double step, double dead, int code);
/* Largest step whose estimated error stays within `error2` (an absolute squared error in units of the scale),
 * rounded down to a float that calibrate would use; 0 if there is none (empty or non-finite statistics, or
 * outside the range above). */
float taut__grid_estimate_step(const double *stats, double error2, double dead);

/* ---- shared by grid.c and grid_stats.c ---- */
static inline double grid_dead(const taut_stage *s) { return s->value[GRID_KEY_DEAD]; }
/* Unit of the elements from c->first + at, for this step times factor. */
grid_unit   taut__grid_unit(const taut_call *c, size_t at, float step, float factor, double dead);
taut_status taut__grid_collect_stats(const taut_call *c, const float *src, double *stats);
taut_status taut__grid_calibrate(const taut_call *c, const double *stats, int ranks, const float *src,
                                 taut_calibration *calibration);
grid_aim    taut__grid_aim(const taut_stage *s);
bool        taut__grid_reshaped(const taut_stage *s, const double *earlier, const double *now);
taut_status taut__grid_adapt(const taut_call *c, const double *earlier, const double *now, int ranks,
                             taut_calibration *calibration);

#endif
