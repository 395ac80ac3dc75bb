/* pace.c : see pace.h. */
#include "pace.h"
#include <math.h>
#include <string.h>

enum { ENOUGH = 3 };                                      /* steps of each kind */
static const double FADE = 0.95;                          /* of distrust, per plan: a lost plan is tried again some thousand steps later */
static const double LEAST = 1.25, MOST = 10, LIMIT = 1000; /* growth of worth at once; worth */
static const double NOISE = 1.03;                         /* of whole steps, which do other things too */

static const double SEEN = 2, UNSEEN = 4;                 /* times faster that leave no doubt: than measured, than predicted */

void taut__pace_init(taut__pace *p) { *p = (taut__pace){.worth = 1}; }

void taut__pace_note(taut__pace_way *w, double comm_s, double step_s)
{
    w->comm[w->n % TAUT_PACE_STEPS] = comm_s;
    w->step[w->n % TAUT_PACE_STEPS] = step_s;
    w->n++;
}

void taut__pace_plan(taut__pace *p)
{
    p->coded.n = 0;
    p->worth = 1 + (p->worth - 1) * FADE;
}

static double median(const double *of, uint32_t n)
{
    double v[TAUT_PACE_STEPS];
    n = n < TAUT_PACE_STEPS ? n : TAUT_PACE_STEPS;
    memcpy(v, of, sizeof v);
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
    const taut__pace_way *c = &p->coded, *d = &p->dense;
    double                coded, dense, off;
    if (c->n < ENOUGH || d->n < ENOUGH) return false;
    coded = median(c->comm, c->n);
    dense = median(d->comm, d->n);
    if (coded <= dense && median(c->step, c->n) <= NOISE * median(d->step, d->n)) return false;
    off = predicted > 0 && dense > 0 ? coded / predicted * predicted_dense / dense : LEAST;
    p->worth = fmin(p->worth * fmin(fmax(off, LEAST), MOST), LIMIT);
    return true;
}

bool taut__pace_clear(const taut__pace *p, double predicted_dense)
{
    if (p->coded.n < ENOUGH) return false;
    double coded = median(p->coded.comm, p->coded.n);
    return p->dense.n >= ENOUGH ? median(p->dense.comm, p->dense.n) > SEEN * coded : predicted_dense > UNSEEN * coded;
}
