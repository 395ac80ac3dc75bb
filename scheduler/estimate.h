/* estimate.h : a sum over all blocks of a tensor, from a few blocks that were measured and a control that is known for all.
 *
 * What is wanted is T = sum of t over all blocks of a layer (squared error of the aggregate, or its squared norm). Known are, of
 * m of M blocks chosen at random, t and a control c (the squared errors that encoders measured themselves, or the decoded sum's
 * norm), and C = sum of c over all blocks. With a factor rho that does not depend on this step's blocks,
 *
 *     T' = rho C + M/m sum over the sample of (t - rho c)
 *
 * is unbiased whatever rho is (the difference estimator; Cochran, Sampling Techniques, 1977, section 7.10), and precise where t
 * goes with c. The factor of earlier steps serves as rho. Where a step brings few blocks it also carries information about this
 * one, since T / C changes slowly: a scalar Kalman filter weighs the two, and without noise gives T'. Its variance is kept with
 * it, so every value has an interval. That rests on surprises that have no memory: where they lean to one side for some steps, the ratio
 * has moved by less than one step shows, and the filter opens (a CUSUM in the form of an exponentially weighted mean; Roberts, Technometrics 1, 1959). A layer without a sampled block in this step is predicted.
 *
 * Pure functions of their arguments: the same bits on all ranks that hold the same numbers. */
#ifndef TAUT_ESTIMATE_H
#define TAUT_ESTIMATE_H

#include "../comm/base/base.h"

typedef struct taut__ratio { /* T / C of one layer under one codec, pooled over steps */
    double mean;             /* expected in the next step */
    double var;              /* of that */
    double most;             /* what it can be at most */
    double block;            /* variance of M (t - rho c) / C over blocks */
    double weight;           /* blocks behind `block`, old ones fading */
    /* squared surprises in units of what was expected, fading mean: 1 where the ratio is as steady as assumed */
    double restless;
    /* surprises in deviations of what was expected, with their signs, fading mean: far from 0, the ratio has moved */
    double   lean;
    uint64_t steps; /* with sampled blocks, since the reset */
} taut__ratio;

/* Nothing is known but a guess, and that it cannot exceed `most`: the first sample decides. */
void taut__ratio_reset(taut__ratio *r, double guess, double most);

/* The ratio lies between these, whatever samples say; without a sample, anywhere there alike. Called before a step and after it. */
void taut__ratio_within(taut__ratio *r, double low, double high);

typedef struct taut__blocks { /* the sample of one step */
    double        all;        /* M */
    size_t        n;          /* m */
    const double *t, *c;      /* of each */
    double        control;    /* C */
} taut__blocks;

typedef struct taut__measured_sum {
    double value, var;
} taut__measured_sum;

/* T, and what was learnt. Blocks that are not finite are left out. Never negative. */
taut__measured_sum taut__ratio_step(taut__ratio *r, const taut__blocks *b);

enum {
    TAUT_SIGMAS = 4
}; /* of an interval: deviations of a few blocks last for some steps, and tails are heavy; docs/planning.md has what it covers */

/* value/var of sums over layers, error and norm -> relative error, and the interval's ends. norm 0: all are 0. */
typedef struct taut__interval {
    double value, low, high;
} taut__interval;
taut__interval taut__relative(taut__measured_sum error, taut__measured_sum norm);

#endif
