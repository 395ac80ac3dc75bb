/* guard.h : does the error budget hold, step by step, and which layers must go to a safer codec when it does not.
 *
 * Everything is relative: squared errors, in the metric, of the step's aggregate, divided by the squared norm of the
 * aggregate of all layers. A plan is made for `budget`, and every layer gets an allowance: its planned share, scaled
 * up so that all allowances add up to the budget. Each step yields an upper estimate per layer, from the errors that
 * encoding measured; audits say how far the estimate is off (`trust`), and later estimates are multiplied by it. */
#ifndef TAUT_GUARD_H
#define TAUT_GUARD_H

#include "../comm/base.h"

typedef struct taut__guard {
    double   budget;
    double   trust;      /* >= 1: measured / estimated of the last audits */
    uint64_t violations; /* steps over the budget */
    double   error;      /* of the last step: the upper estimate, all layers */
} taut__guard;

typedef struct taut__watch { /* one layer */
    double   allowed;  /* relative squared error */
    double   observed; /* of the last step */
    uint32_t over;     /* consecutive steps over its allowance */
    bool     safer;    /* out: must go to a safer codec now */
} taut__watch;

/* planned: squared errors of the plan, any unit. Allowances add up to the budget. */
void taut__guard_allow(const taut__guard *g, const double *planned, size_t layers, taut__watch *w);

/* One step. error: squared errors of the aggregate per layer; norm2: of the aggregate, all layers. True if the budget
 * was exceeded. Layers over their allowance are marked `safer` at once when the budget is exceeded, or when they make
 * more than double and that is a twentieth of the budget; a smaller excess must last, so that noise does not make codecs
 * flap, and one below a fiftieth of the budget is let pass while the budget holds. */
bool taut__guard_step(taut__guard *g, const double *error, double norm2, size_t layers, taut__watch *w);

/* measured, estimated: squared errors of the audited layers. */
void taut__guard_audit(taut__guard *g, double measured, double estimated);

/* Accordion's signal (Agarwal et al., MLSys 2021, section 4): has the gradient's norm changed by more than eta since
 * the plan was made? | |g_then| - |g_now| | >= eta |g_then|. Also true when one of them is 0 and the other is not. */
bool taut__norm_changed(double norm2_then, double norm2_now, double eta);

#endif
