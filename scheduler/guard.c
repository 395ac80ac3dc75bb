/* guard.c : allowances, violations, and the change that calls for an early plan. */
#include "guard.h"
#include <math.h>

enum { PATIENCE = 3 }; /* steps that a small excess must last */
/* Shares of the budget that an excess must reach while the budget as a whole holds: at once, and after PATIENCE. Layers of
 * small shares are noisy, and do not matter. */
static const double LARGE = 0.05, SMALL = 0.02;

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
        w[l].over = excess > SMALL * g->budget ? w[l].over + 1 : 0;
        w[l].safer = excess > 0 && (violated || w[l].over >= PATIENCE ||
                                    (w[l].observed > 2 * w[l].allowed && excess > LARGE * g->budget));
    }
    return violated;
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
