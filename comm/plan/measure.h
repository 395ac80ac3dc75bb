/* measure.h : what a codec would do to a tensor: squared error, bytes, seconds. By encoding, of the whole tensor or of
 * blocks sampled from it; for grid, of many steps at once, from statistics. Used by codec=auto and `taut plan`. */
#ifndef TAUT_MEASURE_H
#define TAUT_MEASURE_H

#include "../../compressors/grid/grid.h"
#include "../../scheduler/decide.h"
#include "../context/settings.h"

/* taut__bench : memory for measurements; grows to the largest tensor and stays. */
typedef struct taut__bench {
    size_t   errs, elems, bytes; /* capacities */
    float   *err;
    int32_t *codes;
    uint8_t *payload;
} taut__bench;
void taut__bench_fini(taut__bench *b);

/* taut__measured : of the whole layer, one rank. */
typedef struct taut__measured {
    double plain, weighted;    /* squared error; in units of the tensor's scale */
    double bytes;              /* encoded, frame included */
    double encode_s, decode_s; /* of the processor, one thread */
} taut__measured;

/* x: t->elems floats. factor: what one element of x stands for (a sample of 1/16: 16). seed: of stochastic rounding.
 * decode: else decode_s is 0. */
taut_status taut__measure(taut__bench *b, const taut_spec *spec, const taut_tensor *t, const float *x, double factor,
                          uint64_t seed, bool decode, taut__measured *m);

/* Seconds that this thread has had the processor: what runs beside it on a shared machine is not in them. */
double taut__processor_s(void);

/* What a layer with these measurements puts on the wire and on the CPU, for the time model. */
/* Of an algorithm that is set, it takes what that takes; nothing changes under algorithm=auto. spec: of what is sent; NULL: uncompressed. */
void       taut__force(const taut__settings *set, const taut_spec *spec, taut__work *w);
taut__work taut__work_of(const taut_spec *spec, const taut_tensor *t, int ranks, const taut__measured *m);
taut__work taut__work_dense(const taut_tensor *t);

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
