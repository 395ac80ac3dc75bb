/* refine.c : see refine.h. */
#include "refine.h"
#include <math.h>
#include <stdlib.h>

static const double FORGET = 0.7, CODEC_SHARE = 0.1;
static const double WIRE_S = 5e-3; /* predicted seconds below which an observation is mostly scheduling noise */
static const double MOST = 2;      /* times the prediction: what one observation may claim */
static const double RANGE = 4;     /* times the probe: what all of them may */

static int by_begin(const void *a, const void *b)
{
    const taut__span *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static void consider(taut__refine *r, const taut__span *s)
{
    double seconds = s->end - s->begin, predicted = r->hops * r->line.alpha + s->bytes * r->line.beta;
    if (predicted < WIRE_S || !(seconds > 0) || s->codec_s > CODEC_SHARE * seconds) return;
    if (seconds / predicted >= r->best) return;
    r->best = seconds / predicted;
    r->bytes = s->bytes;
    r->seconds = fmin(seconds, MOST * predicted);
}

void taut__refine_step(taut__refine *r, taut__span *span, size_t n)
{
    taut__span joined = {0};
    if (n == 0) return;
    qsort(span, n, sizeof *span, by_begin);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && span[i].begin < joined.end) {
            joined.end = fmax(joined.end, span[i].end);
            joined.bytes += span[i].bytes;
            joined.codec_s += span[i].codec_s;
            continue;
        }
        if (i > 0) consider(r, &joined);
        joined = span[i];
    }
    consider(r, &joined);
}

/* Latency stays the probe's: one observation per plan cannot tell it from bandwidth. */
void taut__refine_take(taut__refine *r)
{
    double beta;
    if (!isfinite(r->best)) return;
    if (r->fit.bb == 0) r->probed = r->line.beta;
    taut__fit_add(&r->fit, 0, r->bytes, fmax(r->seconds - r->hops * r->line.alpha, 0), FORGET);
    beta = taut__fit_line(&r->fit, r->line).beta;
    r->line.beta = fmin(fmax(beta, r->probed / RANGE), r->probed * RANGE);
    r->best = INFINITY;
}
