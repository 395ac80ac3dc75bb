/* guard.c : shares, violations, steering, and the change that calls for an early plan. */
#include "guard.h"
#include <math.h>

/* An excess over double the share that counts while the budget as a whole holds: layers of small shares are noisy,
 * and do not matter. */
static const double LARGE = 0.05;
/* Of log(error / budget) per step: down is nearly all of the way, since a violation is what must not be repeated. */
static const double DOWN = 0.8, UP = 0.15;
static const double LOPSIDED = 0.3;
static const double SIGMAS = 3.2, NOISES = 2.5, FORGET = 0.9;
static const double TARGET_MIN = 0.7, TARGET_MAX = 0.95, SCALE_MIN = 0.02, SCALE_MAX = 20;
static const double STRAINED = 3; /* times finer or coarser than planned */
static const double JUMP_MOST =
    2; /* of log(error / budget): more than this is no noise, and would pass for it for long */

void taut__guard_init(taut__guard *g) { *g = (taut__guard){.error_scale = 1, .target = 0.82, .spread2 = 3e-3}; }

void taut__guard_allow(const double *planned, size_t layers, taut__watch *w)
{
    double sum = 0;
    for (size_t l = 0; l < layers; l++) sum += planned[l];
    for (size_t l = 0; l < layers; l++)
        w[l] = (taut__watch){.share = sum > 0 ? planned[l] / sum : 0, .tunable = w[l].tunable};
}

bool taut__guard_step(taut__guard *g, const double *error, double norm2, double budget, size_t layers, taut__watch *w)
{
    double sum = 0, present = 0; /* a step's budget is that of the layers that it summed */
    bool   violated;
    for (size_t l = 0; l < layers; l++) {
        w[l].observed = norm2 > 0 ? error[l] / norm2 : 0;
        sum += w[l].observed;
        present += w[l].absent ? 0 : w[l].share;
    }
    g->error = sum;
    g->budget = budget;
    violated = sum > budget;
    g->violations += violated;
    for (size_t l = 0; l < layers; l++) {
        double excess;
        bool   wrong;
        w[l].allowed = present > 0 && !w[l].absent ? w[l].share / present * budget : 0;
        excess = w[l].observed - w[l].allowed;
        wrong = w[l].observed > 2 * w[l].allowed && excess > LARGE * budget && (violated || !w[l].honest);
        w[l].safer = excess > 0 && ((violated && !w[l].tunable) || wrong);
    }
    return violated;
}

void taut__guard_steer(taut__guard *g, double noise)
{
    double now, jump, over, reserve, scale = g->error_scale;
    g->noise = noise;
    if (!(g->error > 0) || !(g->budget > 0)) return;
    now = log(g->error / g->budget);
    jump = g->last != 0 ? fmin(fmax(now - g->last, -JUMP_MOST), JUMP_MOST) : 0;
    g->spread2 =
        FORGET * g->spread2 + (1 - FORGET) * jump * jump / 2; /* the difference of two steps has twice the variance */
    reserve = sqrt(SIGMAS * SIGMAS * g->spread2 + NOISES * NOISES * noise * noise);
    g->target = fmin(fmax(exp(-reserve), TARGET_MIN), TARGET_MAX);
    /* going down faster than up, steps would lie below the target on average, by about this much of their deviation */
    over = now - fmin(log(g->target) + LOPSIDED * sqrt(g->spread2 + noise * noise), log(TARGET_MAX));
    g->error_scale = fmin(fmax(scale * exp(-(over > 0 ? DOWN : UP) * over), SCALE_MIN), SCALE_MAX);
    g->last =
        now + log(g->error_scale / scale); /* what the next step would make if its gradients were like this one's */
}

bool taut__guard_strained(double scale) { return scale > STRAINED || scale < 1 / STRAINED; }

bool taut__norm_changed(double norm2_then, double norm2_now, double eta)
{
    double then = sqrt(norm2_then), now = sqrt(norm2_now);
    return then > 0 ? fabs(then - now) >= eta * then : now > 0;
}
