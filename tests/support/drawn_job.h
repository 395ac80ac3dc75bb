/* drawn_job.h : jobs that a seed draws: ranks, settings, layers, codecs, gradients of every kind, and what a program does in its steps. Who runs them:
 * test_sequences.c. */
#ifndef TAUT_TEST_DRAWN_JOB_H
#define TAUT_TEST_DRAWN_JOB_H

#include "comm/taut.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAYERS = 7, STEPS = 14, RANKS = 7, VARIANTS = 4, DEVICE = 2, NCCL = 3 };
enum { DROP = 1, MOMENTUM };        /* what happens after a step */
enum { STARTED, AT_ONCE, SHARDED }; /* calls */

typedef struct tensor {
    char       name[16], codec[64]; /* codec: of this layer alone, or "" */
    taut_dtype dtype;
    int        ndim, from; /* from: the step before which it is registered */
    size_t     shape[3], n;
    size_t     scales; /* 0: none */
} tensor;

typedef struct drawn_job {
    uint64_t    seed;
    int         ranks, layers, steps;
    taut_config cfg;
    char        codec[64];
    tensor      layer[LAYERS];
    int         hosts; /* that ranks are said to be on; 0: as it is */
    bool        skipped[STEPS][LAYERS];
    int         call[STEPS][LAYERS];
    taut_op     op[STEPS][LAYERS];
    int         kind[STEPS][LAYERS]; /* of gradients */
    int         event[STEPS];        /* after the step */
    bool
        polled; /* layers are tested before all have been started: which small ones travel together is a matter of time, and so is how their sums are rounded */
} drawn_job;

/* ---- numbers: each call of drawn_below() goes on from *s ---- */
uint64_t drawn_mix(uint64_t x);
size_t   drawn_below(uint64_t *s, size_t n);
double   drawn_unit(uint64_t s); /* 0..1 */

void drawn_job_of(uint64_t seed, drawn_job *j);
/* What does not matter to the results. renewed: the step after which everything is begun anew; -1: never. */
void drawn_variant(const drawn_job *j, int variant, taut_config *cfg, int *renewed);
/* Small layers that come late have a bucket of their own, which a run that registers all at once has not: other plans, and sums rounded in another order. */
bool drawn_late(const drawn_job *j);

/* ---- gradients: of element e of layer i; broken: kinds that have NaN or Inf ---- */
float  drawn_gradient(const drawn_job *j, int step, int i, int rank, size_t e);
bool   drawn_broken(int kind);
void   drawn_put(taut_dtype dtype, void *buf, size_t e, float x);
float  drawn_get(taut_dtype dtype, const void *buf, size_t e);
size_t drawn_width(taut_dtype d);

#endif
