/* auto_link.c : see auto_link.h.
 *
 * A collective can take longer than the link does, because a peer was late, but never less. So of all observations since
 * the last plan only the one that was fastest for its size is taken, and only if the codec was not what took the time. */
#include "auto_link.h"
#include <math.h>
#include <stdlib.h>

enum { TRIES = 5, LARGE = 1 << 17, MEDIUM = 1 << 13 }; /* doubles */
static const double SLOW_S = 0.02;     /* a medium sum that takes this long tells enough */
static const double FORGET = 0.7, CODEC_SHARE = 0.3, BYTES_MIN = 32768;

/* Least seconds of a sum of n doubles. */
static taut_status timed(taut_comm *comm, double *v, size_t n, int tries, double *seconds)
{
    *seconds = INFINITY;
    for (int i = 0; i < tries; i++) {
        double start = taut__now();
        TAUT_TRY(taut__comm_sum(comm, v, n));
        *seconds = fmin(*seconds, taut__now() - start);
    }
    return TAUT_OK;
}

static taut_status probe(taut_comm *comm, double *v, taut__line *line)
{
    double      ranks = taut_comm_size(comm), hops = fmax(ceil(log2(ranks)), 1), one, many, slow;
    size_t      n = MEDIUM;
    TAUT_TRY(timed(comm, v, 1, TRIES, &one));
    TAUT_TRY(timed(comm, v, n, 2, &many));
    slow = many;
    TAUT_TRY(taut__comm_sum(comm, &slow, 1)); /* so that all ranks go on alike */
    if (slow < SLOW_S * ranks) {
        n = LARGE;
        TAUT_TRY(timed(comm, v, n, 2, &many));
    }
    double agreed[2] = {one / hops, fmax(many - one, 1e-9) / (hops * 8.0 * (double)n)};
    TAUT_TRY(taut__comm_sum(comm, agreed, 2));
    *line = (taut__line){agreed[0] / ranks, agreed[1] / ranks};
    return TAUT_OK;
}

taut_status taut__link_probe(taut_comm *comm, taut__refine *r)
{
    double     *v = taut__alloc(LARGE, sizeof *v);
    taut_status s = v ? probe(comm, v, &r->line) : taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    taut__free(v);
    r->best = INFINITY;
    return s;
}

static int by_begin(const void *a, const void *b)
{
    const taut__span *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static void consider(taut__refine *r, const taut__span *s)
{
    const double hops = 2;
    double       seconds = s->end - s->begin, predicted = hops * r->line.alpha + s->bytes * r->line.beta;
    if (s->bytes < BYTES_MIN || !(seconds > 0) || s->codec_s > CODEC_SHARE * seconds) return;
    if (seconds / predicted >= r->best) return;
    r->best = seconds / predicted;
    r->hops = hops;
    r->bytes = s->bytes;
    r->seconds = seconds;
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

void taut__refine_take(taut__refine *r)
{
    if (!isfinite(r->best)) return;
    taut__fit_add(&r->fit, r->hops, r->bytes, r->seconds, FORGET);
    r->line = taut__fit_line(&r->fit, r->line);
    r->best = INFINITY;
}
