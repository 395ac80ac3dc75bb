/* plan_check.h : does a plan that was made to save time save time? Predictions know the link and the codecs, but not who else uses
 * the processors, nor what a message costs its receiver. So what steps really took is kept, uncompressed and under the plan;
 * a plan that loses is withdrawn, and the next ones must be predicted to win by more. */
#ifndef TAUT_PACE_H
#define TAUT_PACE_H

#include "../comm/base/base.h"

enum { TAUT_PACE_STEPS = 5 }; /* the last ones, of each kind, whose median counts */

typedef struct taut__plan_check_way {
    double   comm[TAUT_PACE_STEPS], step[TAUT_PACE_STEPS]; /* seconds: of communication, of the whole step */
    uint32_t n;                                            /* noted so far */
} taut__plan_check_way;

typedef struct taut__plan_check {
    taut__plan_check_way dense, coded;
    double         cost_margin; /* >= 1: what times predicted for lossy codecs are multiplied by */
} taut__plan_check;

void taut__plan_check_init(taut__plan_check *p);
void taut__plan_check_note(taut__plan_check_way *w, double comm_s, double step_s);

/* A plan comes into force: what was noted under the last one says nothing about it, and distrust fades. */
void taut__plan_check_plan(taut__plan_check *p);

/* True if the plan has lost against no compression, both seen often enough to tell: communication took longer, or the step
 * did, whose computing the codecs have slowed down. Then `cost_margin` grows, by what communication took over what was predicted,
 * for the plan and without one. */
bool taut__plan_check_lost(taut__plan_check *p, double predicted, double predicted_dense);

/* Does the plan win by so much that no doubt is left: twice and more, or, where no step without it has been seen, four times
 * against what the time model says of one? Models of MPI's own sums are off by less. */
bool taut__plan_check_clear(const taut__plan_check *p, double predicted_dense);

#endif
