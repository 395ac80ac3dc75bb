/* sample_blocks.h : what sending samples (sample.c) and measuring by them (sample_measure.c) have in common: how a block travels, and in which units. */
#ifndef TAUT_SAMPLE_BLOCKS_H
#define TAUT_SAMPLE_BLOCKS_H

#include "../../scheduler/budget.h"
#include "../../compressors/sums/step_sums.h"
#include "communicator.h"
#include <math.h>

enum { BLOCK = TAUT_SAMPLE_BLOCK, CONTROLS = 2 };

static inline size_t blocks_of(const taut_layer *l) { return taut__ceil_div(l->operand.tensor.elems, BLOCK); }

/* One value: the plain estimate, divided. */
static inline bool has_scale(const taut_layer *l) { return l->operand.tensor.scale_n > 1; }

/* How many sums of x a block has in the exchange. */
static inline size_t encoders(const taut_layer *l)
{
    return l->comm->sampling.apart ? (size_t)taut__group_of(&l->comm->ctx, &l->operand)->size : 1;
}

/* 1 / scale^2 of element i. */
static inline double unit2(const taut_tensor *t, size_t i)
{
    double s = taut__unit_at(t, i);
    return 1 / (s * s);
}

/* Squares may be beyond what a float holds: they travel in units that the last step's norms gave, which all ranks know. */
static inline double control_unit(const taut_layer *l)
{
    double own = l->shown.own.plain / (double)l->operand.tensor.elems;
    int    exponent;
    if (!(own > 0) || !isfinite(own)) return 1;
    frexp(own, &exponent);
    return ldexp(1, -exponent);
}

/* ... and squares in units of a scale may be of any other size: in the square of the block's largest unit, too. */
static inline double weighted_unit(const taut_layer *l, size_t k)
{
    double least = INFINITY;
    for (size_t i = 0; i < BLOCK && l->sample.at[k] + i < l->operand.tensor.elems; i++)
        least = fmin(least, unit2(&l->operand.tensor, l->sample.at[k] + i));
    return control_unit(l) / least;
}

/* In groups (compressors/sums/step_sums.h) each block has a unit of its own, and all are in the layer's. Apart, plans look at single ranks' x, which 8 bits serve. */
static inline taut__sample_form form_of(const taut_layer *l)
{
    int most = l->comm->sampling.apart ? TAUT_SAMPLES_8BIT : TAUT_SAMPLES_6BIT;
    return (taut__sample_form)(l->sample.form < most ? l->sample.form : most);
}

static inline bool in_groups(const taut_layer *l) { return form_of(l) >= TAUT_SAMPLES_8BIT; }

static inline taut__as as_of(const taut_layer *l)
{
    static const taut__as as[] = {TAUT_AS_FLOAT, TAUT_AS_HALF, TAUT_AS_GROUP8, TAUT_AS_GROUP6};
    return as[form_of(l)];
}

/* Where the budget is in units of a scale, which may differ much within a block, so are its elements. */
static inline bool scaled_groups(const taut_layer *l)
{
    return has_scale(l) && l->comm->ctx.set.metric == TAUT_METRIC_OPTIMIZER;
}

/* What an element is multiplied by. */
static inline double group_unit(const taut_layer *l)
{
    const taut_norm2 *own = &l->shown.own;
    double            mean2 = (scaled_groups(l) ? own->weighted : own->plain) / (double)l->operand.tensor.elems;
    int               exponent;
    if (!(mean2 > 0) || !isfinite(mean2)) return 1;
    frexp(mean2, &exponent);
    return ldexp(1, -(exponent / 2));
}

static inline double group_gain(const taut_layer *l, double unit, size_t i)
{
    bool scaled = scaled_groups(l) && i < l->operand.tensor.elems;
    return scaled ? unit / (double)taut__unit_at(&l->operand.tensor, i) : unit;
}

/* ---- sample_device.c ---- samples of a layer whose buffers lie on a device: picked there, block by block, in the order of the stream, and brought to the
 * host together once the layer's work is done, so that taking them waits for nothing. */
typedef enum taut__sampled { TAUT_SAMPLED_X, TAUT_SAMPLED_LOST, TAUT_SAMPLED_WIDE } taut__sampled;

taut_status taut__there_begin(taut_layer *l); /* blocks have been chosen */
void        taut__there_keep(taut_layer *l, taut__sampled what, taut__range r, const float *from, float factor);
void        taut__there_fetch(taut_layer *l); /* enqueues: the result's blocks, and all to the host */
/* They are there; waits, unless the reduction has settled since they were fetched. */
void taut__there_result(taut_layer *l);
void taut__there_release(taut_layer *l);

#endif
