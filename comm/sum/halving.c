/* halving.c : see plain_sum.h. Turn t < d, d = log2 p: halve what this rank still sums; turns d .. 2d-1: the same way back.
 * A rank and its partner differ in bit d-1-t, and combine disjoint halves, so every element has one tree of operations. */
#include "plain_sum.h"

void taut__halving_begin(taut__halving *h, const taut__group *g, int tag, void *x, void *in, size_t n, size_t width,
                         taut__combine combine)
{
    *h = (taut__halving){.g = g, .tag = tag, .turn = -1, .n = n, .width = width, .x = x, .in = in, .combine = combine};
    taut__requests_init(&h->send, 1);
    taut__requests_init(&h->recv, 1);
}

/* Turns of one way; the turn of the way out that this turn mirrors; whom it is taken with. */
static int depth(const taut__halving *h) { return taut__log2(h->g->size); }
static int level(const taut__halving *h) { return h->turn < depth(h) ? h->turn : 2 * depth(h) - 1 - h->turn; }
static int partner(const taut__halving *h) { return h->g->rank ^ h->g->size >> (level(h) + 1); }

/* What `rank` holds after the halving of this turn's level. */
static taut__range half_of(const taut__halving *h, int rank)
{
    return taut__halved(h->n, h->g->size, rank, level(h) + 1);
}
static char *at(const taut__halving *h, taut__range r) { return h->x + r.first * h->width; }

static taut_status post(taut__halving *h)
{
    bool        out = h->turn < depth(h);
    taut__range mine = half_of(h, h->g->rank), theirs = half_of(h, partner(h)), give = out ? theirs : mine;
    char       *to = out ? h->in : at(h, theirs);
    TAUT_TRY(taut__irecv(h->g, &h->recv, partner(h), h->tag, to, (out ? mine : theirs).n * h->width));
    h->sent += give.n * h->width;
    return taut__isend(h->g, &h->send, partner(h), h->tag, at(h, give), give.n * h->width);
}

static taut_status finish(taut__halving *h)
{
    bool        out = h->turn < depth(h);
    taut__range mine = half_of(h, h->g->rank), theirs = half_of(h, partner(h));
    size_t      want = (out ? mine : theirs).n * h->width;
    if (h->recv.got != want)
        return taut__fail(TAUT_E_MISMATCH, "rank %d sent %zu bytes where %zu were expected", h->recv.peer, h->recv.got,
                          want);
    if (out) h->combine(at(h, mine), h->in, want, partner(h) < h->g->rank, NULL);
    return TAUT_OK;
}

taut_status taut__halving_advance(taut__halving *h, bool *done)
{
    int turns = 2 * depth(h);
    while (h->turn < turns && taut__done(&h->send) && taut__done(&h->recv)) {
        if (h->turn >= 0) TAUT_TRY(finish(h));
        if (++h->turn < turns) TAUT_TRY(post(h));
    }
    *done = h->turn == turns;
    return TAUT_OK;
}

void taut__halving_cancel(taut__halving *h)
{
    if (!h->g) return;
    h->g->t->ops->cancel(h->g->t, &h->send);
    h->g->t->ops->cancel(h->g->t, &h->recv);
}

int taut__halving_waiting_for(const taut__halving *h, int *hops)
{
    *hops += h->turn > 0 ? h->turn : 0;
    return !taut__done(&h->recv) ? h->recv.peer : !taut__done(&h->send) ? h->send.peer : -1;
}
