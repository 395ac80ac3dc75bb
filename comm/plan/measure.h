/* measure.h : what a codec would do to a tensor: squared error, bytes, seconds. By encoding, of the whole tensor or of
 * blocks sampled from it. Used by codec=auto and `taut plan`, as is grid_ladder.h, for many steps of grid at once, from statistics. */
#ifndef TAUT_MEASURE_H
#define TAUT_MEASURE_H

#include "../../compressors/grid/grid_ladder.h"
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

#endif
