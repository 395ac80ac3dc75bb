/* auto_link.c : see auto_inside.h.
 *
 * A collective can take longer than the link does, because a peer was late, but never less. So of all observations since
 * the last plan only the one that was fastest for its size is taken, only if the codec was not what took the time, and only
 * if it was long enough to say something about a link: shared memory and tiny models keep the probe's constants. */
#include "auto_inside.h"
#include <math.h>
#include <stdlib.h>

enum { CROWD = 64 };                                   /* ranks */
enum { TRIES = 5, LARGE = 1 << 20, MEDIUM = 1 << 16 }; /* bytes */
static const double SLOW_S = 0.02;                     /* a message that takes this long tells enough */
static const double FORGET = 0.7, CODEC_SHARE = 0.1;
static const double WIRE_S = 5e-3; /* predicted seconds below which an observation is mostly scheduling noise */
static const double MOST = 2;      /* times the prediction: what one observation may claim */
static const double RANGE = 4;     /* times the probe: what all of them may */

static void drop(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    (void)acc, (void)in, (void)bytes, (void)in_first, (void)ctx; /* the messages are what is timed */
}

/* Least seconds of an exchange of so many bytes; the second half of buf is scratch. */
static taut_status timed(taut__planning *planning, char *buf, size_t half, size_t bytes, int tries, double *seconds)
{
    *seconds = INFINITY;
    for (int i = 0; i < tries; i++) {
        double                start = taut__now();
        taut__small_allreduce x;
        taut__small_allreduce_begin(&x, &planning->ctx->all, TAUT_TAG_SUM, buf, buf + half, bytes, drop, NULL);
        TAUT_TRY(taut__engine_exchange(&planning->ctx->engine, &x, "probing the link"));
        planning->probe_sent += x.sent;
        *seconds = fmin(*seconds, taut__now() - start);
    }
    return TAUT_OK;
}

/* The same as the mean of all ranks, for what all do alike. */
static taut_status takes_long(taut__planning *planning, double seconds, bool *slow)
{
    TAUT_TRY(taut__context_sum(planning->ctx, &seconds, 1));
    *slow = seconds >= SLOW_S * planning->ctx->all.size;
    return TAUT_OK;
}

static taut_status probe(taut__planning *planning, char *buf, size_t half, taut__line *line)
{
    double ranks = planning->ctx->all.size, hops = fmax(ceil(log2(ranks)), 1), one, many, again = INFINITY;
    size_t bytes = MEDIUM; /* crowds of threads share one memory: larger messages would fill it, and tell no more */
    bool   slow = true;
    TAUT_TRY(timed(planning, buf, half, 8, TRIES, &one));
    TAUT_TRY(timed(planning, buf, half, bytes, TRIES, &many));
    TAUT_TRY(takes_long(planning, many, &slow));
    if (!slow && ranks <= CROWD) { /* once, where that takes long enough to tell */
        bytes = LARGE;
        TAUT_TRY(timed(planning, buf, half, bytes, 1, &many));
        TAUT_TRY(takes_long(planning, many, &slow));
        if (!slow) TAUT_TRY(timed(planning, buf, half, bytes, TRIES - 1, &again));
        many = fmin(many, again);
    }
    double agreed[2] = {one / hops, fmax(many - one, 1e-9) / (hops * (double)bytes)};
    TAUT_TRY(taut__context_sum(planning->ctx, agreed, 2));
    *line = (taut__line){agreed[0] / ranks, agreed[1] / ranks};
    return TAUT_OK;
}

taut_status taut__link_probe(taut__planning *planning, taut__refine *r)
{
    size_t      half = planning->ctx->all.size > CROWD ? MEDIUM : LARGE;
    char       *buf = taut__alloc(2, half);
    taut_status s = buf ? probe(planning, buf, half, &r->line) : taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    if (!planning->ctx->t->dirty) taut__free(buf); /* else a late message may still be written there */
    r->best = INFINITY;
    r->hops = planning->members == 2 ? 1 : 2; /* gather, else there and back */
    return s;
}

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
