/* sample.h : what is measured on the aggregated result: in every step, sums of a few blocks of every layer that loses something.
 *
 * Which blocks is computed from (layer's seed, step), so all ranks take the same: one block of 8 elements in each of n strata of
 * equal size. As x = gradient + residual is encoded, its elements there are kept, and so is what the encoders lost there; when the
 * result is in the buffer, so are its elements. At the end of the step the x of all ranks are added in the step's one exchange, in as few
 * bits as the error is large enough for that this rounding is lost in it: 6 or 8 bits in units of the block's largest, bf16, else float32. Result minus sum is the aggregate's error there, the
 * same on every rank, and scheduler/estimate.h makes of it the layer's squared error and squared norm:
 *   error : the control is what the encoders of all ranks measured of their own errors, over all elements
 *   norm  : |sum|^2 = |result|^2 - 2 <result, error> + |error|^2; the first term is known, the last is the error's estimate, and
 *           |result|^2 is the control of the first two together. Where the error is as large as the sum, that is a difference
 *           of large numbers: then |sum|^2 itself, whose control is the sum over ranks of |x|^2. What lies between the two, nearer to the
 *           more precise one. |<result, error>| is at most |result| |error| (Cauchy and Schwarz): where the error is small that leaves
 *           little room, whatever a few blocks say
 *
 * How many: as many as the measurement needs, within bounds that are shares of the bytes that 2 bits per element would take: of models of 4 Mi elements and
 * more 0.8% to 1.2%, of smaller ones up to 3%, all as bf16, or 4 to 28 blocks where that is more and all that a step tells stays below
 * 6%, 8 of them in any case. Whatever the number of ranks; twice as much in float32. For a plan, the x of every rank travels by itself in one step (`apart`), and layers without loss are sampled too.
 *
 * Where a reduce-scatter leaves the result in parts (`scattered`) each rank adds what it has of it in those blocks, of which there are half as many then. */
#ifndef TAUT_SAMPLE_H
#define TAUT_SAMPLE_H

#include "../../scheduler/estimate.h"
#include "../engine/job.h"

enum { TAUT_SAMPLE_BLOCK = 8 }; /* elements: more blocks tell more where rows differ */

/* Each one is for errors that are larger than what the one before it is for. */
typedef enum taut__sample_form {
    TAUT_SAMPLES_F32,
    TAUT_SAMPLES_BF16,
    TAUT_SAMPLES_8BIT,
    TAUT_SAMPLES_6BIT
} taut__sample_form;

typedef struct taut__sample { /* of one layer */
    size_t  room, blocks;     /* blocks that fit; of this step */
    size_t *at;               /* first element of each, ascending */
    float  *x, *lost;         /* room blocks: x; its encoding's error, in units of the sum; 0: encodes nothing */
    float  *result;           /* likewise; in units of the buffer */
    struct taut__sample_there *there;  /* sample_device.c: the same on a device, where the layer lies on one */
    double                     factor; /* result = factor * sum */
    bool                       taken;  /* this rank has been through a collective in this step */
    size_t                     wide_blocks, wide_elems, wide_room; /* of this rank alone: for a budget's reference */
    size_t                    *wide_at;
    float                     *wide; /* their x */
    double counts[2];                /* squared error and norm of the last step that it was in, in the metric; agreed */
    double density;                  /* blocks per block, over those of the model; agreed */
    int    form;                     /* taut__sample_form: how samples of the coming step travel; agreed */
    bool   scattered;                /* it has had sharded collectives before this step; agreed */
    float *sums; /* after the exchange: x of all ranks, added; apart: of each encoder, one after the other */
    const float         *
        control; /* after the exchange, per block: squared errors of all encodings, squares of all x; then both in units of a scale */
    taut__ratio error[2], norm[2], near[2]; /* plain; in units of the scale */
} taut__sample;

typedef struct taut__sampling {                       /* of a communicator */
    bool    apart;                                    /* in the step under way; agreed */
    size_t  layers;                                   /* so many layers, of all ranks, share */
    double  rate;                                     /* blocks per block of theirs */
    double  more;                                     /* as many as at least, times this; 0: unknown yet; agreed */
    double *error, *lost, *rest, *result, *sum, *own; /* per block of one layer: targets and controls */
    size_t  room;                                     /* blocks that fit */
} taut__sampling;

/* What a step's measurement says of a layer; in units of the sum over ranks. */
typedef struct taut__layer_measured {
    taut__measured_sum error[2], norm[2];
} taut__layer_measured;

#endif
