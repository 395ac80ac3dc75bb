/* truth.h : ranks that are threads reduce gradients, and every step's true error is computed beside, in double, from what went in and came
 * out alone: the public interface is all that is used.
 *
 * With error feedback the ranks' residuals enter the sum. Their sum over ranks is known without looking: what was put in so far
 * less what came out. */
#ifndef TAUT_TEST_TRUTH_H
#define TAUT_TEST_TRUTH_H

#include "comm/taut.h"
#include <stdbool.h>

enum { TRUTH_RANKS = 8, TRUTH_LAYERS = 64 };

typedef struct truth_shape {
    const char *name;
    size_t      rows, cols; /* rows 1: one-dimensional */
} truth_shape;

typedef struct truth_step { /* what a step was: the truth, and what rank 0's statistics said */
    double error, norm;     /* squared, plain, all layers */
    double layer_error[TRUTH_LAYERS], layer_norm[TRUTH_LAYERS];
    double rel, rel_metric; /* relative: plain; in cfg's metric */
    /* of the reference, if any: sum over ranks of its squared errors, relative, in cfg's metric; not optimizer */
    double          reference;
    bool            counted, planned; /* budget_violations grew; a plan was in force during the step */
    taut_comm_stats stats;
    uint64_t        bytes_sent, bytes_control; /* in this step, by rank 0; of them, statistics and samples */
    double          elements;                  /* of layers that are not one-dimensional */
} truth_step;

typedef struct truth {
    int                ranks, layers, steps;
    const truth_shape *shape;
    taut_config        cfg;
    const char        *codec; /* of every layer; NULL: cfg's */
    /* rank's gradient of a layer in a step. After step_done of the step before. */
    void (*gradient)(struct truth *t, int rank, int step, int layer, float *g);
    /* (optional) scale of a layer for the coming step, NULL: none; one per element */
    const float *(*scale)(struct truth *t, int step, int layer);
    int sums; /* of the same gradients, of each layer in a step; 0: one */
    /* (optional) is it summed in this step? Without feedback */
    bool (*summed)(const struct truth *t, int step, int layer);
    /* (optional) once per step, between steps: the means over ranks, all layers, for an optimizer */
    void (*step_done)(struct truth *t, int step, float *const *mean);
    const char *reference; /* (optional) spec whose error on the same gradients is computed too; without feedback */
    void       *model;     /* the caller's */
    /* results */
    truth_step *step;                   /* steps of them */
    char        spec[TRUTH_LAYERS][96]; /* at the end */
    taut_status status;
    char        why[512];
    bool        same_bits;
} truth;

/* Runs t->steps; t->step must have room. Results of a run that failed: status and why. */
void truth_run(truth *t);

double truth_median(double *v, int n); /* sorts v */

#endif
