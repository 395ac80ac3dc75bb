/* auto_probe.c : what the link and the codecs take, measured while all ranks are at the end of a step. */
#include "auto_inside.h"
#include <math.h>
#include <string.h>

static const double CROWD_S = 0.01; /* of codec work, all ranks at the same moment */

/* How much slower codecs are while all ranks are at it: the mean over ranks. */
static taut_status probe_crowd(taut__auto *a)
{
    double together = 0;
    TAUT_TRY(taut__context_sum(a->planning->ctx, &together, 1)); /* all are here */
    TAUT_TRY(taut__observer_crowd(a->observer, CROWD_S, &a->crowd));
    TAUT_TRY(taut__context_sum(a->planning->ctx, &a->crowd, 1));
    a->crowd /= a->ranks;
    taut__observer_slow_down(a->observer, a->crowd);
    return TAUT_OK;
}

void taut__probe_again(taut__auto *a)
{
    if (a->priced_at == a->step) return; /* a moment ago */
    double now = taut__arms_crowd(a), start = taut__now();
    if (now > 0) a->crowd = fmin(a->crowd, now);
    else if (a->can && taut__observer_crowd(a->observer, CROWD_S, &now) == TAUT_OK) a->crowd = (a->crowd + now) / 2;
    a->busy_s += taut__now() - start;
}

/* Of many ranks some speak for all: a thousand that measure at the same time would measure each other. */
static taut_status probe_codecs(taut__auto *a)
{
    enum { MOST = 8 };
    int    every = (a->ranks + MOST - 1) / MOST, measuring = (a->ranks + every - 1) / every;
    bool   mine = a->planning->ctx->all.rank % every == 0;
    size_t n;
    TAUT_TRY(mine ? taut__observer_probe(a->observer) : taut__observer_assume(a->observer));
    double *seconds = taut__observer_speeds(a->observer, &n);
    if (!mine) memset(seconds, 0, n * sizeof *seconds);
    TAUT_TRY(taut__context_sum(a->planning->ctx, seconds, n));
    for (size_t i = 0; i < n; i++) seconds[i] /= measuring;
    return probe_crowd(a);
}

static taut_status probe_link(taut__auto *a)
{
    double start = taut__now();
    a->link = (taut__refine){.line = a->assumed, .best = INFINITY};
    a->linked = true;
    if (taut__auto_clockless(a)) return TAUT_OK;
    TAUT_TRY(taut__link_probe(a->planning, &a->link));
    a->probe_s += taut__now() - start;
    taut__log(TAUT_LOG_INFO, "sched", "probe: %.1f us per hop, %.3f GB/s, %.1f ms", 1e6 * a->link.line.alpha,
              1e-9 / a->link.line.beta, 1e3 * (taut__now() - start));
    return TAUT_OK;
}

/* Codec speeds, averaged over ranks. */
static taut_status price_codecs(taut__auto *a)
{
    double start = taut__now();
    a->priced = true, a->priced_at = a->step;
    a->crowd = 1;
    if (taut__auto_clockless(a)) return taut__observer_assume(a->observer);
    TAUT_TRY(probe_codecs(a));
    a->probe_s += taut__now() - start;
    taut__log(TAUT_LOG_INFO, "sched", "probe: codecs %.2f times slower together than alone, %.1f ms", a->crowd,
              1e3 * (taut__now() - start));
    return TAUT_OK;
}

taut_status taut__probe(taut__auto *a)
{
    if (!a->linked) TAUT_TRY(probe_link(a));
    bool wanted = a->step >= a->plan_at || taut__auto_starts(a);
    return wanted && !a->priced ? price_codecs(a) : TAUT_OK;
}
