/* verdict.h : which of a few ways to carry a step's gradients is the fastest: uncompressed, or under one of the plans on offer.
 *
 * The ways are arms. Only what communication took decides (step_time.h says how that is measured, so that neither the length
 * of computing nor a peer that comes late is in it), in steps in which the same layers were summed (their `shape`). One arm is in
 * force. Another one is tried where there is doubt: both then take turns, in pairs of steps whose order is drawn, so that no
 * rhythm of the job can favour one, and a sequential test of the pairs ends as soon as the outcome is clear. What has lost
 * rests, the longer the more often it lost and the more it would cost to look again; after a withdrawal tens of steps at first.
 * Where the gain is beyond doubt nothing is tried.
 *
 *                 whom_to_try() has a doubt                 CLEAR, or TAUT_PAIRS, a median that is not CLOSE, or LONGEST
 *     in force ------------------------------> trial -----------------------------------------------------------.
 *        ^        turn(): of two steps one each, the order is drawn; judge() after each of its steps            |
 *        |                                                                                                      v
 *        |<------ the loser rests: REST steps, doubled each time in a row; long if it is much slower ---- end_trial()
 *        |                                                                     (won: it is in force; by arm 0: a withdrawal)
 *        '------- taut__verdict_offer(): new plans. An arm that is not offered any more leaves, its trial ends; what has another
 *                 prediction is looked at anew
 *
 * A pure function of what it is told, which all ranks are told alike; only +, -, *, / and sqrt, which are the same on every
 * machine. */
#ifndef TAUT_VERDICT_H
#define TAUT_VERDICT_H

#include "../comm/base/base.h"

enum { TAUT_ARM_DENSE = 0, TAUT_ARMS = 4, TAUT_RECENT = 5, TAUT_SHAPES = 4, TAUT_PAIRS = 15 };

typedef struct taut__arm_offer { /* arm 0: uncompressed */
    bool     offered;
    double   predicted; /* seconds of communication of a step in which all layers take part; > 0 */
    uint64_t plan;      /* a number of the plan: another number, another plan */
} taut__arm_offer;

typedef struct taut__samples {              /* of one arm, of steps of one shape */
    uint64_t shape, at;                     /* at: when the last one came, in steps of the verdict */
    double   seconds[TAUT_RECENT], settled; /* the last ones; their median when it was last looked at, or 0 */
    uint32_t n, moved;                      /* noted so far; how often in a row their median was another */
} taut__samples;

typedef struct taut__arm {
    taut__arm_offer offer;
    bool            fresh; /* its next step grows memory, and does not count */
    bool            tried; /* against the arm in force, since there was reason to doubt what is known */
    uint64_t        rests_until;
    uint32_t        lost; /* trials in a row */
    taut__samples   samples[TAUT_SHAPES];
} taut__arm;

typedef struct taut__trial { /* of one arm against the one in force */
    int      arm;            /* -1: none is under way */
    uint32_t pairs;
    double   x[TAUT_PAIRS]; /* (its seconds - the other's) / (its seconds + the other's) */
    uint64_t began;
    double   seconds[2]; /* of all steps of the other's, and of its own, whatever they summed; not in checkpoints */
    uint32_t steps[2];   /* so many */
} taut__trial;

typedef struct taut__verdict {
    taut__arm   arm[TAUT_ARMS];
    int         in_force;
    taut__trial trial;
    uint64_t    steps, shape; /* seen so far; of the last step that counted */
    uint64_t    trials, withdrawals;
} taut__verdict;

void taut__verdict_init(taut__verdict *v);

/* New plans, one for each arm. The arm in force stays, unless there was none but arm 0 so far, or it is not offered any more: then
 * the one with the least predicted seconds is. Samples of an arm whose prediction has changed by a tenth are forgotten. */
void taut__verdict_offer(taut__verdict *v, const taut__arm_offer offer[TAUT_ARMS]);

/* One step, which ran under `arm`. shape: of the set of layers that were summed, 0 for none. seconds of communication; 0: not known, or
 * the step did something besides. Returns the arm of the next step. The caller may tell what a step took after it has begun the
 * next one. */
int taut__verdict_step(taut__verdict *v, int arm, uint64_t shape, double seconds);

/* For logs: how an arm's seconds relate to those of the one in force in the trial under way, or the last one; 1 before. */
double taut__trial_ratio(const taut__trial *t);

#endif
