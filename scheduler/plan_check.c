/* plan_check.c : see plan_check.h. */
#include "plan_check.h"
#include <math.h>
#include <string.h>

enum { ENOUGH = 3 };                                      /* steps of each kind */
static const double FADE = 0.95;                          /* of distrust, per plan: a lost plan is tried again some thousand steps later */
static const double LEAST = 1.25, MOST = 10, LIMIT = 1000; /* growth of cost_margin at once; cost_margin */
static const double NOISE = 1.03;                         /* of whole steps, which do other things too */

static const double SEEN = 2, UNSEEN = 4;                 /* times faster that leave no doubt: than measured, than predicted */

void taut__plan_check_init(taut__plan_check *p) { *p = (taut__plan_check){.cost_margin = 1}; }

void taut__plan_check_note(taut__plan_check_way *w, double comm_s, double step_s)
{
    w->comm[w->n % TAUT_PACE_STEPS] = comm_s;
    w->step[w->n % TAUT_PACE_STEPS] = step_s;
    w->n++;
}

void taut__plan_check_plan(taut__plan_check *p)
{
    p->coded.n = 0;
    p->cost_margin = 1 + (p->cost_margin - 1) * FADE;
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

bool taut__plan_check_lost(taut__plan_check *p, double predicted, double predicted_dense)
{
    const taut__plan_check_way *c = &p->coded, *d = &p->dense;
    double                coded, dense, off;
    if (c->n < ENOUGH || d->n < ENOUGH) return false;
    coded = median(c->comm, c->n);
    dense = median(d->comm, d->n);
    if (coded <= dense && median(c->step, c->n) <= NOISE * median(d->step, d->n)) return false;
    off = predicted > 0 && dense > 0 ? coded / predicted * predicted_dense / dense : LEAST;
    p->cost_margin = fmin(p->cost_margin * fmin(fmax(off, LEAST), MOST), LIMIT);
    return true;
}

bool taut__plan_check_clear(const taut__plan_check *p, double predicted_dense)
{
    if (p->coded.n < ENOUGH) return false;
    double coded = median(p->coded.comm, p->coded.n);
    return p->dense.n >= ENOUGH ? median(p->dense.comm, p->dense.n) > SEEN * coded : predicted_dense > UNSEEN * coded;
}
