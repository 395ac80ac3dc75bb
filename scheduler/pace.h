/* pace.h : does a plan that was made to save time save time? Predictions know the link and the codecs, but not who else uses
 * the processors, nor what a message costs its receiver. So what steps really took is kept, uncompressed and under the plan;
 * a plan that loses is withdrawn, and the next ones must be predicted to win by more. */
#ifndef TAUT_PACE_H
#define TAUT_PACE_H

#include "../comm/base/base.h"

enum { TAUT_PACE_STEPS = 5 }; /* the last ones, of each kind, whose median counts */

typedef struct taut__pace_way {
    double   comm[TAUT_PACE_STEPS], step[TAUT_PACE_STEPS]; /* seconds: of communication, of the whole step */
    uint32_t n;                                            /* noted so far */
} taut__pace_way;

typedef struct taut__pace {
    taut__pace_way dense, coded;
    double         worth; /* >= 1: what times predicted for lossy codecs are multiplied by */
} taut__pace;

void taut__pace_init(taut__pace *p);
void taut__pace_note(taut__pace_way *w, double comm_s, double step_s);

/* A plan comes into force: what was noted under the last one says nothing about it, and distrust fades. */
void taut__pace_plan(taut__pace *p);

/* True if the plan has lost against no compression, both seen often enough to tell: communication took longer, or the step
 * did, whose computing the codecs have slowed down. Then `worth` grows, by what communication took over what was predicted,
 * for the plan and without one. */
bool taut__pace_lost(taut__pace *p, double predicted, double predicted_dense);

/* Does the plan win by so much that no doubt is left: twice and more, or, where no step without it has been seen, four times
 * against what the time model says of one? Models of MPI's own sums are off by less. */
bool taut__pace_clear(const taut__pace *p, double predicted_dense);

#endif
