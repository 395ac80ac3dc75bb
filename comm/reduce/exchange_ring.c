/* exchange_ring.c : partial sums to the next neighbour by the data half, and the same bytes as ring.c; the encoded sums then travel in one
 * allgather. Slots are always as long as the longest payload: a partial sum whose tail came later would be needed by all that follow. */
#include "enqueued.h"

enum { PARTS = TAUT_HALF_PARTS, SUMS = TAUT_HALF_SUMS };

static size_t stages(const taut__reduction *red) { return (size_t)red->g->size + 1; }

static int next(const taut__reduction *red) { return taut__mod(red->g->rank + 1, red->g->size); }
static int previous(const taut__reduction *red) { return taut__mod(red->g->rank - 1, red->g->size); }

static taut_status pass(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    return taut__group_pass(red, next(red), e->out, previous(red), e->in, e->stride[PARTS]);
}

static taut_status clear_out(taut__reduction *red)
{
    const taut__exchange *e = taut__exchange_of(red);
    return taut__space_fill_rows(red->lane->space, red->lane->place, e->out, e->cell[PARTS], 0, TAUT_SLOT_HEADER,
                                 e->cells);
}

static taut_status open_ring(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     r = taut__part(&red->part, taut__ring_send(red->g->rank, 0, red->g->size));
    const float    *x;
    float          *err;
    TAUT_TRY(clear_out(red));
    TAUT_TRY(taut__enqueue_clear(red, e->sums, SUMS));
    TAUT_TRY(taut__enqueue_x(red, &x, &err));
    TAUT_TRY(taut__enqueue_encode(red, r, x, err, e->out, PARTS));
    TAUT_TRY(taut__enqueue_left(red, r, err, &e->ledger->error[0]));
    return pass(red);
}

/* This rank's x of r, added to what has come. Its codes leave an error, and so do sparse encodings. */
static taut_status add(taut__reduction *red, taut__range r, size_t step)
{
    taut__exchange *e = taut__exchange_of(red);
    const float    *x = taut__form(red, 0, red->call.n);
    float          *err = taut__err_of(red);
    size_t          at = step % (size_t)red->g->size;
    taut__admitted *seen = taut__seen_of(red, PARTS, (int)at);
    TAUT_TRY(taut__enqueue_own(red, r, x, err, e->out, e->acc));
    if (taut__adds_codes(red) || taut__sums_exact(red)) TAUT_TRY(taut__enqueue_left(red, r, err, &e->lost[at]));
    TAUT_TRY(red->lane->vectors->admit(red->lane->place, e->in, e->cell[PARTS], e->cells,
                                       e->cell[PARTS] - TAUT_SLOT_HEADER, seen, NULL));
    return taut__enqueue_add(red, r, e->in, PARTS, seen, e->acc, false);
}

static taut_status partial(taut__reduction *red, size_t step)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     r = taut__part(&red->part, taut__ring_recv(red->g->rank, (int)step - 1, red->g->size));
    taut_norm2     *lost =
        taut__adds_codes(red) || taut__sums_exact(red) ? &e->ledger->error[1] : &e->lost[step % (size_t)red->g->size];
    TAUT_TRY(add(red, r, step));
    TAUT_TRY(clear_out(red));
    TAUT_TRY(taut__enqueue_sum(red, r, e->acc, step + 1, 1, e->out, lost));
    return pass(red);
}

static taut_status whole(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     r = taut__part(&red->part, red->g->rank);
    size_t          step = (size_t)red->g->size - 1;
    TAUT_TRY(add(red, r, step));
    bool codes = taut__adds_codes(red);
    if (!codes && red->factor != 1.0f) TAUT_TRY(red->lane->vectors->scale(red->lane->place, e->acc, red->factor, r.n));
    if (!codes) TAUT_TRY(taut__enqueue_bad(red, e->acc, r));
    TAUT_TRY(taut__enqueue_sum(red, r, e->acc, step + 1, red->factor, taut__slot_of(red, e->sums, SUMS, red->g->rank),
                               &e->ledger->requantized));
    return taut__group_gather(red);
}

static taut_status enqueue(taut__reduction *red, size_t stage)
{
    size_t p = (size_t)red->g->size;
    if (stage == 0) return open_ring(red);
    if (stage < p - 1) return partial(red, stage);
    return stage == p - 1 ? whole(red) : taut__enqueue_sums(red, taut__part(&red->part, red->g->rank));
}

const taut__exchange_way taut__exchange_ring = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("ring", "partial sums to the next neighbour, then an allgather"),
    .slots = TAUT_SLOTS_PARTS,
    .contributions = 1,
    .stages = stages,
    .enqueue = enqueue,
};
