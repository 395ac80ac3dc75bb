/* exchange_gather.c : everybody's whole encoding to everybody, by the data half, and the same bytes as gather.c: one allgather, and everybody adds
 * all payloads in order of rank, its own decoded one included. */
#include "enqueued.h"

enum { SPREAD, ADD, STAGES };
enum { SUMS = TAUT_HALF_SUMS };

static taut_status encode(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     all = taut__whole(red);
    const float    *x;
    float          *err;
    TAUT_TRY(taut__enqueue_clear(red, e->sums, SUMS));
    TAUT_TRY(taut__enqueue_x(red, &x, &err));
    TAUT_TRY(taut__enqueue_encode(red, all, x, err, taut__slot_of(red, e->sums, SUMS, red->g->rank), SUMS));
    return taut__enqueue_left(red, all, err, &e->ledger->error[0]);
}

static taut_status add_floats(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    for (int q = 0; q < red->g->size; q++)
        TAUT_TRY(taut__enqueue_add(red, taut__whole(red), taut__slot_of(red, e->sums, SUMS, q), SUMS,
                                   taut__seen_of(red, SUMS, q), taut__enqueued_result(red), q == 0));
    return TAUT_OK;
}

/* The last payload is added as the sum is stored. */
static taut_status add_codes(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    int             last = red->g->size - 1;
    taut__range     all = taut__whole(red);
    TAUT_TRY(red->lane->space->fill(red->lane->place, e->acc, 0, all.n * sizeof(int32_t)));
    for (int q = 0; q < last; q++)
        TAUT_TRY(taut__enqueue_add(red, all, taut__slot_of(red, e->sums, SUMS, q), SUMS, &e->admitted[SUMS][q], e->acc,
                                   false));
    taut_piece p = {.call = taut__slice_call(red, 0, all.n),
                    .payload = taut__slot_payload(taut__slot_of(red, e->sums, SUMS, last)),
                    .outcome = &e->admitted[SUMS][last].seen,
                    .codes = e->acc,
                    .dst = taut__enqueued_result(red)};
    return taut__enqueue_pieces(red, TAUT_OP_UNPACK_VALUES, &p, 1);
}

static taut_status enqueue(taut__reduction *red, size_t stage)
{
    taut__exchange *e = taut__exchange_of(red);
    if (stage == SPREAD) {
        if (!e->redone) TAUT_TRY(encode(red));
        return taut__group_gather(red);
    }
    TAUT_TRY(taut__enqueue_anew(red, NULL));
    TAUT_TRY(taut__enqueue_admit(red, e->sums, SUMS, e->admitted[SUMS], NULL));
    TAUT_TRY(taut__adds_codes(red) ? add_codes(red) : add_floats(red));
    return taut__enqueue_results(red, red->factor, taut__whole(red), taut__part(&red->part, red->g->rank));
}

static size_t stages(const taut__reduction *red) { return (void)red, STAGES; }
static size_t again(bool parts) { return (void)parts, SPREAD; }
static size_t accumulator(const taut__reduction *red)
{
    return taut__adds_codes(red) ? red->call.n * sizeof(int32_t) : 0;
}

const taut__exchange_way taut__exchange_gather = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("gather", "allgather of everybody's whole encoding"),
    .slots = TAUT_SLOTS_WHOLE,
    .shrinks = true,
    .stages = stages,
    .enqueue = enqueue,
    .again = again,
    .accumulator = accumulator,
};
