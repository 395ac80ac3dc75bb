/* guard.h : does the error budget hold, step by step; which layers must go to a safer codec when it does not; and how far
 * the error that grid is asked for may follow what was measured.
 *
 * Everything is relative: squared errors, in the metric, of the step's aggregate, as measured, divided by the squared norm of the
 * aggregate of all layers. Every step has a budget: a number, or what the reference would have made. Every layer has a share of it: of
 * what the plan expected. */
#ifndef TAUT_GUARD_H
#define TAUT_GUARD_H

#include "../comm/base/base.h"

typedef struct taut__guard {
    double   budget;      /* of the last step; before one, the plan's */
    uint64_t violations;  /* steps whose measured error was over the budget */
    double   error;       /* of the last step, all layers */
    double   noise;       /* standard deviation of that measurement, and of the budget's, relative */
    double   error_scale; /* what the errors asked of tunable codecs are multiplied by; 1 = as planned */
    double   target;      /* share of the budget to aim at */
    double   spread2;     /* variance, from step to step, of log(error / budget) */
    double   last; /* log(error / budget) of the last step, as it would be with the error_scale of now; 0: none yet */
} taut__guard;

typedef struct taut__watch { /* one layer */
    double share;            /* of the budget */
    bool   tunable;          /* in: follows error_scale */
    bool   absent;           /* in: it was not summed in this step */
    bool   honest;   /* in: it lost no larger a part of what went in than was planned, of which there was more */
    double observed; /* relative squared error of the last step */
    double allowed;  /* out: its share of the budget of what was summed in this step */
    bool   safer;    /* out: must go to a safer codec now */
} taut__watch;

void taut__guard_init(taut__guard *g);

/* planned: squared errors of the plan, any unit. Shares add up to 1. */
void taut__guard_allow(const double *planned, size_t layers, taut__watch *w);

/* One step. error: squared errors of the aggregate per layer; norm2: of the aggregate, all layers; budget: of this step, relative to
 * norm2. True if the budget was exceeded: then layers that are over their share and cannot be tuned are marked `safer`. So is, at any
 * time, a layer that makes more than double its share where that excess is a twentieth of the budget: the plan was wrong about it. Unless it is honest:
 * then only where the budget was exceeded. */
bool taut__guard_step(taut__guard *g, const double *error, double norm2, double budget, size_t layers, taut__watch *w);

/* After a step that made an error: steers `error_scale` so that the error stays at `target` of the budget, which lies 3.2
 * standard deviations of the steps' own noise below it, and 2.5 of the measurement's. noise: the latter, relative. Down at once, up slowly. */
void taut__guard_steer(taut__guard *g, double noise);

/* Has steering come so far from the plan that a new one had better be made? scale: error_scale, over what the plan began with. */
bool taut__guard_strained(double scale);

/* Accordion's signal (Agarwal et al., MLSys 2021, section 4): has the gradient's norm changed by more than eta since
 * the plan was made? | |g_then| - |g_now| | >= eta |g_then|. Also true when one of them is 0 and the other is not. */
bool taut__norm_changed(double norm2_then, double norm2_now, double eta);

#endif
