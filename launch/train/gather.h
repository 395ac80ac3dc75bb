/* gather.h : the numbers of a run, step by step, then summed over ranks. */
#ifndef TRAIN_GATHER_H
#define TRAIN_GATHER_H

#include "run.h"

enum { LOSS_WINDOW = 20, UNTYPICAL_STEPS = 5 }; /* loss_train is a mean of so many; a split leaves out the first ones */

typedef struct gather {
    int64_t   steps, timed, untimed; /* steps of this run; those that count for the split, and do not */
    double   *step_ms;               /* one per step */
    double    loss[LOSS_WINDOW];     /* the last ones, as a ring */
    double    loss_first;
    double    rel_err2, rel_err2_metric; /* sums over steps */
    double    budget, budgeted_err2;     /* sums over the steps that had a budget */
    int64_t   budgeted;                  /* how many those are */
    run_split sum;
    size_t    n_layers;
    double   *bits, *layer_err2; /* sums over steps, per layer */
    double    start;
} gather;

int  gather_create(gather *g, int64_t steps, size_t layers); /* 0, or an exit code after fault() */
void gather_destroy(gather *g);
void gather_step(gather *g, double loss, const run_split *seconds, const taut_comm *comm, const taut_comm_stats *c);
/* Collective. Fills everything of r but what only the run knows: codec, params, first_step, validation, identical. */
int gather_result(const gather *g, const taut_comm *comm, result *r);

#endif
