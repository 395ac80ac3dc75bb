/* look_mpi.c : samples of what a rank puts in and of what comes out, for the doubts of likeness.h. */
#include "channel.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct view {
    const char *own, *sum;
    uint64_t    n;
} view; /* the same n elements of both; own: in what is this rank's part */

static uint64_t first_of_part(const taut__channel *c, const taut__entry *e)
{
    uint64_t first = e->counts ? 0 : (uint64_t)e->count * (uint64_t)c->rank;
    for (int r = 0; e->counts && r < c->rank; r++) first += (uint64_t)e->counts[r];
    return first;
}

static view view_of(const taut__channel *c, const taut__entry *e)
{
    const char *in = taut__input_of(e), *out = e->out;
    uint64_t    bytes = e->dtype == TAUT_F32 ? 4 : 2;
    if (e->kind == TAUT_KIND_REDUCE_SCATTER)
        return (view){in + bytes * first_of_part(c, e), out, (uint64_t)(e->counts ? e->counts[c->rank] : e->count)};
    if (e->kind == TAUT_KIND_ALLGATHER)
        return (view){e->in == MPI_IN_PLACE ? out + bytes * first_of_part(c, e) : e->in, NULL, (uint64_t)e->count};
    return (view){in, out, e->elements};
}

static void sample(const taut__entry *e, const char *from, uint64_t n, float *x, size_t m)
{
    for (size_t i = 0; i < m; i++) {
        size_t   at = taut__sample_at(n, m, i);
        uint16_t half;
        if (e->dtype == TAUT_F32) memcpy(&x[i], from + 4 * at, 4);
        else memcpy(&half, from + 2 * at, 2), x[i] = taut__from_half(half);
    }
}

/* Calls that are looked at, though they are plain: the first ones, then now and then. */
static bool looks_at(const taut__site *s) { return s->calls < 2 * TAUT_LOOKS || s->calls % 64 == 0; }

float *taut__own_sample(const taut__channel *c, const taut__entry *e, const taut__site *s)
{
    if (!s || e->dtype < 0 || !looks_at(s)) return NULL;
    view   v = view_of(c, e);
    size_t m = e->kind == TAUT_KIND_ALLGATHER ? TAUT_SCATTERED : TAUT_SAMPLE;
    if (v.n == 0) return NULL;
    m = taut__min(m, v.n);
    float *x = malloc(m * sizeof *x);
    if (x) sample(e, v.own, v.n, x, m);
    return x;
}

/* Which of several sums of one size an allgather belongs to, nobody says: one that fits will do. */
static const taut__site *origin_of(const taut__channel *c, const taut__entry *e, const float *own, size_t m)
{
    const taut__site *any = NULL;
    for (size_t i = 0; i < c->sites; i++) {
        const taut__site *s = c->site[i];
        if (s->kind != TAUT_KIND_REDUCE_SCATTER || s->count != e->elements || s->scatters == 0) continue;
        if (taut__is_multiple(own, s->scattered, m)) return s;
        if (!any) any = s;
    }
    return any;
}

bool taut__gathers_scattered(taut__channel *c, const taut__entry *e)
{
    float  own[TAUT_SCATTERED];
    view   v = view_of(c, e);
    size_t m = taut__min(TAUT_SCATTERED, v.n);
    sample(e, v.own, v.n, own, m);
    const taut__site *s = origin_of(c, e, own, m);
    return s && taut__is_multiple(own, s->scattered, m);
}

void taut__note_output(taut__channel *c, const taut__entry *e, taut__site *s)
{
    view v = view_of(c, e);
    bool scattered = e->kind == TAUT_KIND_REDUCE_SCATTER;
    s->out = e->out, s->out_bytes = scattered ? 0 : taut__site_bytes(s);
    if (!scattered || e->dtype != TAUT_F32 || v.n == 0) return;
    sample(e, v.sum, v.n, s->scattered, taut__min(TAUT_SCATTERED, v.n));
    s->scatters++;
}

static void compare(taut__channel *c, const taut__entry *e, taut__site *s, const float *own)
{
    view   v = view_of(c, e);
    float *sum;
    if (e->kind == TAUT_KIND_ALLGATHER) {
        size_t            m = taut__min(TAUT_SCATTERED, v.n);
        const taut__site *origin = origin_of(c, e, own, m);
        if (origin) taut__likeness_gathered(&s->like, own, origin->scattered, m);
        return;
    }
    size_t m = taut__min(TAUT_SAMPLE, v.n);
    if (!(sum = malloc(m * sizeof *sum))) return;
    sample(e, v.sum, v.n, sum, m);
    taut__likeness_look(&s->like, own, sum, m, c->size);
    free(sum);
}

/* How large the sum is: of the first calls, of the last ones before doubts are weighed, and where it was found to shrink or grow. */
void taut__note_norm(taut__channel *c, const taut__entry *e, taut__site *s)
{
    float  sum[TAUT_SEEN_SAMPLE];
    double ss = 0;
    view   v = view_of(c, e);
    size_t m = taut__min(TAUT_SEEN_SAMPLE, v.n);
    if (e->kind == TAUT_KIND_ALLGATHER || m == 0 ||
        (s->calls >= TAUT_SEEN && s->doubt != TAUT_DOUBT_TREND && !taut__soon_reconsidered(c->cycles)))
        return;
    sample(e, v.sum, v.n, sum, m);
    for (size_t i = 0; i < m; i++) ss += (double)sum[i] * sum[i];
    s->seen[s->seens % TAUT_SEEN].event = e->event;
    s->seen[s->seens++ % TAUT_SEEN].norm = sqrt(ss / (double)m);
}

void taut__look_at(taut__channel *c, const taut__entry *e, taut__site *s, float *own, double took)
{
    if (!s) {
        taut__preload.small_calls++;
        free(own);
        return;
    }
    if (own) compare(c, e, s, own);
    taut__note_norm(c, e, s);
    free(own);
    taut__note_output(c, e, s);
    s->calls++;
    if (s->calls > 1) s->plain_s += took, s->plain_timed++; /* the first one warms up */
}

void taut__note_broadcast(taut__channel *c, const void *buf, size_t bytes)
{
    const char *low = buf;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->sites; i++) {
        taut__site *s = c->site[i];
        const char *out = s->out;
        if (!out || s->out_bytes == 0 || low >= out + s->out_bytes || out >= low + bytes ||
            s->broadcast_call == s->calls)
            continue;
        s->broadcast_call = s->calls;
        s->like.broadcasts++;
    }
    pthread_mutex_unlock(&c->lock);
}
