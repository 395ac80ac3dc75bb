/* guard.c : allowances, violations, steering, and the change that calls for an early plan. */
#include "guard.h"
#include <math.h>

/* An excess over double the allowance that counts while the budget as a whole holds: layers of small shares are noisy,
 * and do not matter. */
static const double LARGE = 0.05;
/* Of log(error / budget) per step: down is nearly all of the way, since a violation is what must not be repeated. */
static const double DOWN = 0.8, UP = 0.15;
static const double SIGMAS = 3.5, FORGET = 0.9;
static const double TARGET_MIN = 0.70, TARGET_MAX = 0.95, TRIM_MIN = 0.25, TRIM_MAX = 2;

void taut__guard_init(taut__guard *g) { *g = (taut__guard){.trust = 1, .error_scale = 1, .target = 0.85, .spread2 = 3e-3}; }

void taut__guard_allow(const taut__guard *g, const double *planned, size_t layers, taut__watch *w)
{
    double sum = 0;
    for (size_t l = 0; l < layers; l++) sum += planned[l];
    for (size_t l = 0; l < layers; l++) w[l] = (taut__watch){.allowed = sum > 0 ? g->budget * planned[l] / sum : 0};
}

bool taut__guard_step(taut__guard *g, const double *error, double norm2, size_t layers, taut__watch *w)
{
    double sum = 0;
    bool   violated;
    for (size_t l = 0; l < layers; l++) {
        w[l].observed = norm2 > 0 ? g->trust * error[l] / norm2 : 0;
        sum += w[l].observed;
    }
    g->error = sum;
    violated = sum > g->budget;
    g->violations += violated;
    for (size_t l = 0; l < layers; l++) {
        double excess = w[l].observed - w[l].allowed;
        w[l].safer = excess > 0 && (violated || (w[l].observed > 2 * w[l].allowed && excess > LARGE * g->budget));
    }
    return violated;
}

void taut__guard_steer(taut__guard *g)
{
    double now, jump, over, scale = g->error_scale;
    if (!(g->error > 0) || !(g->budget > 0)) return;
    now = log(g->error / g->budget);
    jump = g->last != 0 ? now - g->last : 0;
    g->spread2 = FORGET * g->spread2 + (1 - FORGET) * jump * jump / 2; /* the difference of two steps has twice the variance */
    g->target = fmin(fmax(exp(-SIGMAS * sqrt(g->spread2)), TARGET_MIN), TARGET_MAX);
    over = now - log(g->target);
    g->error_scale = fmin(fmax(scale * exp(-(over > 0 ? DOWN : UP) * over), TRIM_MIN), TRIM_MAX);
    g->last = now + log(g->error_scale / scale); /* what the next step would make if its gradients were like this one's */
}

void taut__guard_audit(taut__guard *g, double measured, double estimated)
{
    double ratio = estimated > 0 ? measured / estimated : 1;
    g->trust = fmax(1, fmax(ratio, (g->trust + ratio) / 2)); /* up at once, down slowly */
}

bool taut__norm_changed(double norm2_then, double norm2_now, double eta)
{
    double then = sqrt(norm2_then), now = sqrt(norm2_now);
    return then > 0 ? fabs(then - now) >= eta * then : now > 0;
}
