/* lineup.c : see lineup.h. */
#include "lineup.h"

static size_t peers(const taut__lineup *t) { return t->g->rank == 0 ? (size_t)t->g->size : 1; }

taut_status taut__lineup_prepare(taut__reduction *red, taut__lineup *t, const taut__group *g, int tag)
{
    t->g = g, t->tag = tag;
    size_t n = peers(t);
    if (!red->ctx->t) return TAUT_OK; /* nobody asks for turns */
    t->in = taut__alloc(n, sizeof *t->in);
    t->out = taut__alloc(n, sizeof *t->out);
    t->back = taut__alloc(n, sizeof *t->back);
    if (!t->in || !t->out || !t->back) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    taut__requests_init(t->out, n), taut__requests_init(t->back, n);
    return red->ctx->t->ops->reserve(red->ctx->t, 2 * n);
}

void taut__lineup_release(taut__lineup *t)
{
    taut__free(t->in), taut__free(t->out), taut__free(t->back);
    *t = (taut__lineup){0};
}

static taut_status hear(taut__reduction *red, taut__lineup *t, int from, size_t i)
{
    return taut__irecv(t->g, &t->back[i], from, red->job.tag + t->tag, &t->in[i], sizeof t->in[i]);
}

static taut_status tell(taut__reduction *red, taut__lineup *t, int to, size_t i)
{
    return taut__isend(t->g, &t->out[i], to, red->job.tag + t->tag, &t->said, sizeof t->said);
}

static uint64_t kind_of(const taut__reduction *red) { return 4 * ((uint64_t)red->kind + 1) + (uint64_t)red->halves; }

taut_status taut__lineup_ask(taut__reduction *red, taut__lineup *t, const size_t size[TAUT_LINEUP_SIZES])
{
    t->mine = (taut__lineup_word){.kind = kind_of(red)};
    t->given = false;
    for (int i = 0; i < TAUT_LINEUP_SIZES; i++) t->mine.size[i] = size[i];
    for (int q = 1; q < t->g->size && t->g->rank == 0; q++) TAUT_TRY(hear(red, t, q, (size_t)q));
    if (t->g->rank == 0) return TAUT_OK;
    t->said = t->mine;
    TAUT_TRY(hear(red, t, 0, 0));
    return tell(red, t, 0, 0);
}

static taut_status give(taut__reduction *red, taut__lineup *t)
{
    for (int q = 1; q < t->g->size; q++) {
        const taut__lineup_word *w = &t->in[q];
        if (t->back[q].got != sizeof *w)
            return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes for its turn", red->job.name,
                              taut__member(t->g, q), t->back[q].got);
        if (w->kind / 4 != kind_of(red) / 4)
            return taut__fail(TAUT_E_MISMATCH, "%s: rank %d asks for the %s, rank %d for the %s", red->job.name,
                              taut__member(t->g, 0), red->kind == TAUT_SUM ? "sum" : "mean", taut__member(t->g, q),
                              red->kind == TAUT_SUM ? "mean" : "sum");
        if (w->kind != kind_of(red))
            return taut__fail(TAUT_E_MISMATCH, "%s: ranks %d and %d are in different collectives", red->job.name,
                              taut__member(t->g, 0), taut__member(t->g, q));
        for (int i = 0; i < TAUT_LINEUP_SIZES; i++)
            t->mine.size[i] = t->mine.size[i] > w->size[i] ? t->mine.size[i] : w->size[i];
    }
    t->mine.place = t->g->data->turns.given++;
    t->said = t->mine; /* the last one has arrived: all have asked since */
    for (int q = 1; q < t->g->size; q++) TAUT_TRY(tell(red, t, q, (size_t)q));
    return TAUT_OK;
}

static taut_status take(taut__reduction *red, taut__lineup *t)
{
    if (t->back[0].got != sizeof t->mine)
        return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes for a turn", red->job.name, taut__member(t->g, 0),
                          t->back[0].got);
    t->mine = t->in[0];
    return TAUT_OK;
}

taut_status taut__lineup_advance(taut__reduction *red, taut__lineup *t, bool *moved, bool *here)
{
    *here = false;
    if (!t->given) {
        if (!taut__all_done(t->back, peers(t)) || (t->g->rank > 0 && !taut__done(&t->out[0]))) return TAUT_OK;
        TAUT_TRY(t->g->rank == 0 ? give(red, t) : take(red, t));
        t->given = *moved = true;
    }
    *here = t->mine.place == t->g->data->turns.now;
    return TAUT_OK;
}

void taut__lineup_over(taut__lineup *t) { t->g->data->turns.now++; }

void taut__lineup_cancel(taut__lineup *t)
{
    for (size_t i = 0; t->out && i < peers(t); i++) {
        t->g->t->ops->cancel(t->g->t, &t->out[i]);
        t->g->t->ops->cancel(t->g->t, &t->back[i]);
    }
}

int taut__lineup_waiting_for(const taut__lineup *t, int *hops)
{
    *hops += t->g->rank > 0; /* rank 0 waits for others */
    for (size_t i = 0; !t->given && i < peers(t); i++)
        if (!taut__done(&t->back[i])) return t->back[i].peer;
    return -1;
}
