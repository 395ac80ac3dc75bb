/* guard.h : does the error budget hold, step by step; which layers must go to a safer codec when it does not; and how far
 * the error that grid is asked for may follow what was measured.
 *
 * Everything is relative: squared errors, in the metric, of the step's aggregate, divided by the squared norm of the
 * aggregate of all layers. A plan is made for `budget`, and every layer gets an allowance: its planned share, scaled
 * up so that all allowances add up to the budget. Each step yields an upper estimate per layer, from the errors that
 * encoding measured; audits say how far the estimate is off (`trust`), and later estimates are multiplied by it. */
#ifndef TAUT_GUARD_H
#define TAUT_GUARD_H

#include "../comm/base/base.h"

typedef struct taut__guard {
    double   budget;
    double   trust;      /* >= 1: measured / estimated of the last audits */
    uint64_t violations; /* steps over the budget */
    double   error;      /* of the last step: the upper estimate, all layers */
    double   error_scale;       /* what the errors asked of tunable codecs are multiplied by; 1 = as planned */
    double   target;     /* share of the budget to aim at */
    double   spread2;    /* variance, from step to step, of log(error / budget) */
    double   last;       /* log(error / budget) of the last step, as it would be with the error_scale of now; 0: none yet */
} taut__guard;

typedef struct taut__watch { /* one layer */
    double   allowed;  /* relative squared error */
    double   observed; /* of the last step */
    bool     safer;    /* out: must go to a safer codec now */
} taut__watch;

void taut__guard_init(taut__guard *g);

/* planned: squared errors of the plan, any unit. Allowances add up to the budget. */
void taut__guard_allow(const taut__guard *g, const double *planned, size_t layers, taut__watch *w);

/* One step. error: squared errors of the aggregate per layer; norm2: of the aggregate, all layers. True if the budget
 * was exceeded. A layer's share is its allowance and what the others leave unspent; layers over their share, which
 * there are when the budget is exceeded, are marked `safer` at once. So is a layer that makes more than double its
 * allowance where that is a twentieth of the budget: the plan was wrong about it. */
bool taut__guard_step(taut__guard *g, const double *error, double norm2, size_t layers, taut__watch *w);

/* After a step that made an error: steers `error_scale` so that the error stays at `target` of the budget, which lies 3.5
 * standard deviations of the steps' own noise below it. Down at once, up slowly. */
void taut__guard_steer(taut__guard *g);

/* measured, estimated: squared errors of the audited layers. */
void taut__guard_audit(taut__guard *g, double measured, double estimated);

/* Accordion's signal (Agarwal et al., MLSys 2021, section 4): has the gradient's norm changed by more than eta since
 * the plan was made? | |g_then| - |g_now| | >= eta |g_then|. Also true when one of them is 0 and the other is not. */
bool taut__norm_changed(double norm2_then, double norm2_now, double eta);

#endif
