/* plan_exhaustive.c : every combination, depth first; the measure of the other solvers on small problems. */
#include "frontier.h"
#include <math.h>
#include <string.h>

enum { COMBINATIONS_MAX = 20000000 };

taut_status taut__solve_exhaustive(const taut__frontier *f, uint32_t *at, double *bound)
{
    double      combinations = 1, best = INFINITY;
    size_t      n = f->layers, depth = 0;
    double     *error = taut__alloc(2 * (n + 1), sizeof *error), *cost; /* of the first `depth` layers */
    uint32_t   *now = taut__alloc(n + 1, sizeof *now);
    taut_status status = TAUT_OK;
    for (size_t l = 0; l < n; l++) combinations *= (double)taut__points(f, l);
    if (!error || !now) {
        status = taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu layers", n);
        goto out;
    }
    cost = error + n + 1;
    if (combinations > COMBINATIONS_MAX) {
        status = taut__fail(TAUT_E_RANGE, "solver exhaustive: %.3g combinations: must be at most %d", combinations,
                            COMBINATIONS_MAX);
        goto out;
    }
    for (;;) {
        if (depth == n && cost[n] < best) {
            best = cost[n];
            memcpy(at, now, n * sizeof *at);
        }
        if (depth == n || now[depth] == taut__points(f, depth)) { /* back up; the next branch of the layer above */
            if (depth == 0) break;
            now[--depth]++;
            continue;
        }
        const taut__point *p = taut__point_at(f, depth, now[depth]);
        error[depth + 1] = error[depth] + p->error;
        cost[depth + 1] = cost[depth] + p->cost;
        if (error[depth + 1] > f->budget) { /* so are all that follow in this layer */
            now[depth] = (uint32_t)taut__points(f, depth);
            continue;
        }
        now[++depth] = 0;
    }
    *bound = best;
out:
    taut__free(error);
    taut__free(now);
    return status;
}
