/* auto_link.c : see auto_inside.h. */
#include "auto_inside.h"
#include <math.h>

enum { CROWD = 64 };                                   /* ranks */
enum { TRIES = 5, LARGE = 1 << 20, MEDIUM = 1 << 16 }; /* bytes */
static const double SLOW_S = 0.02;                     /* a message that takes this long tells enough */

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
