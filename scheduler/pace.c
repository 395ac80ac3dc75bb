/* pace.c : see pace.h. */
#include "pace.h"
#include <math.h>
#include <string.h>

enum { ENOUGH = 3 };                                       /* steps of each kind */
static const double FADE = 0.95;                           /* of distrust, per plan: a lost plan is tried again some thousand steps later */
static const double LEAST = 1.1, MOST = 10, LIMIT = 1000;  /* growth of worth at once; worth */

void taut__pace_init(taut__pace *p) { *p = (taut__pace){.worth = 1}; }

void taut__pace_note(taut__pace_way *w, double seconds) { w->seconds[w->n++ % TAUT_PACE_STEPS] = seconds; }

void taut__pace_plan(taut__pace *p)
{
    p->coded.n = 0;
    p->worth = 1 + (p->worth - 1) * FADE;
}

static double median(const taut__pace_way *w)
{
    double   v[TAUT_PACE_STEPS];
    uint32_t n = w->n < TAUT_PACE_STEPS ? w->n : TAUT_PACE_STEPS;
    memcpy(v, w->seconds, sizeof v);
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0 && v[k] < v[k - 1]; k--) {
            double t = v[k];
            v[k] = v[k - 1];
            v[k - 1] = t;
        }
    return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

bool taut__pace_lost(taut__pace *p, double predicted, double predicted_dense)
{
    double coded, dense, off;
    if (p->coded.n < ENOUGH || p->dense.n < ENOUGH) return false;
    coded = median(&p->coded);
    dense = median(&p->dense);
    if (coded <= dense) return false;
    off = predicted > 0 && dense > 0 ? coded / predicted * predicted_dense / dense : LEAST;
    p->worth = fmin(p->worth * fmin(fmax(off, LEAST), MOST), LIMIT);
    return true;
}
