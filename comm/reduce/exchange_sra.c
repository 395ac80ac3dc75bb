/* exchange_sra.c : scatter-reduce-allgather by the data half, and the same bytes as sra.c: contributions to owners in one all-to-all; each adds
 * what came in order of rank to its own and encodes the sum; an allgather; everybody decodes. */
#include "enqueued.h"

enum { CONTRIBUTE, REDUCE, DECODE, STAGES };
enum { PARTS = TAUT_HALF_PARTS, SUMS = TAUT_HALF_SUMS, PEERS_AT_ONCE = 8 };

static taut__range part_of(const taut__reduction *red, int q) { return taut__part(&red->part, q); }
static uint8_t    *my_sum(const taut__reduction *red) { return taut__slot_of(red, taut__exchange_of(red)->sums, SUMS, red->g->rank); }

static taut__admitted *seen_of(const taut__reduction *red, int half, int q)
{
    return taut__exchange_of(red)->admitted[half] + (size_t)q * taut__exchange_of(red)->cells;
}

static taut_status encode_for_others(taut__reduction *red, const float *x, float *err)
{
    taut__exchange *e = taut__exchange_of(red);
    for (int q = 0; q < red->g->size; q++)
        if (q != red->g->rank) TAUT_TRY(taut__enqueue_encode(red, part_of(red, q), x, err, taut__slot_of(red, e->out, PARTS, q), PARTS));
    return TAUT_OK;
}

static taut_status contribute(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     mine = part_of(red, red->g->rank);
    size_t          end = mine.first + mine.n;
    const float    *x;
    float          *err;
    TAUT_TRY(taut__enqueue_clear(red, e->out, PARTS));
    TAUT_TRY(taut__enqueue_clear(red, e->in, PARTS)); /* nothing comes into this rank's own */
    TAUT_TRY(taut__enqueue_clear(red, e->sums, SUMS));
    TAUT_TRY(taut__enqueue_x(red, &x, &err));
    TAUT_TRY(encode_for_others(red, x, err));
    TAUT_TRY(taut__enqueue_own(red, mine, x, err, my_sum(red), e->own ? e->own : e->acc));
    if (taut__codes_add(red) || taut__sparse_sums(red)) return taut__enqueue_left(red, (taut__range){0, red->call.n}, err, 0);
    TAUT_TRY(taut__enqueue_left(red, (taut__range){0, mine.first}, err, 0));
    return taut__enqueue_left(red, (taut__range){end, red->call.n - end}, err, 1);
}

/* Codes of all ranks added and packed in one pass; those of more ranks than that takes are added before. */
static taut_status add_codes(taut__reduction *red, taut__range mine)
{
    taut__exchange     *e = taut__exchange_of(red);
    const uint8_t      *peer[PEERS_AT_ONCE];
    const taut_outcome *seen[PEERS_AT_ONCE];
    taut_piece          p = taut__piece_encode(red, mine, 0, NULL, NULL, my_sum(red), SUMS);
    p.src = NULL;
    p.codes = e->acc, p.peers = peer, p.peer_bytes = seen;
    for (int q = 0; q < red->g->size; q++) {
        uint8_t *slot = taut__slot_of(red, e->in, PARTS, q);
        if (q == red->g->rank) continue;
        if (p.peer_count == PEERS_AT_ONCE) {
            TAUT_TRY(taut__enqueue_add(red, mine, slot, PARTS, seen_of(red, PARTS, q), e->acc, false));
            continue;
        }
        peer[p.peer_count] = taut__slot_payload(slot);
        seen[p.peer_count++] = &seen_of(red, PARTS, q)->seen;
    }
    return taut__enqueue_pieces(red, TAUT_OP_SUM_PACK, &p, 1);
}

static taut_status sum_floats(taut__reduction *red, taut__range mine)
{
    taut__exchange *e = taut__exchange_of(red);
    for (int q = 0; q < red->g->size; q++)
        if (q != red->g->rank)
            TAUT_TRY(taut__enqueue_add(red, mine, taut__slot_of(red, e->in, PARTS, q), PARTS, seen_of(red, PARTS, q), e->acc, false));
    return red->factor != 1.0f ? red->lane->vectors->scale(red->lane->place, e->acc, red->factor, mine.n) : TAUT_OK;
}

static taut_status add_floats(taut__reduction *red, taut__range mine)
{
    taut__exchange *e = taut__exchange_of(red);
    TAUT_TRY(sum_floats(red, mine));
    TAUT_TRY(taut__enqueue_bad(red, e->acc, mine));
    return taut__enqueue_sum(red, mine, e->acc, 1, red->factor, my_sum(red), &e->ledger->requantized);
}

static taut_status reduce(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     mine = part_of(red, red->g->rank);
    TAUT_TRY(taut__enqueue_anew(red, my_sum(red)));
    TAUT_TRY(taut__enqueue_admit(red, e->in, PARTS, e->admitted[PARTS], taut__slot_outcome(my_sum(red))));
    TAUT_TRY(taut__enqueue_admit(red, e->out, PARTS, e->admitted[2], NULL));
    if (mine.n == 0) return TAUT_OK;
    if (e->own) TAUT_TRY(red->lane->space->copy(red->lane->place, e->acc, e->own, mine.n * sizeof(float)));
    return taut__codes_add(red) ? add_codes(red, mine) : add_floats(red, mine);
}

static taut_status decode(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    float          *to = taut__enqueued_result(red);
    TAUT_TRY(taut__enqueue_admit(red, e->sums, SUMS, e->admitted[SUMS], NULL));
    for (int q = 0; q < red->g->size; q++)
        TAUT_TRY(taut__enqueue_decode(red, part_of(red, q), taut__slot_of(red, e->sums, SUMS, q), SUMS, seen_of(red, SUMS, q), to + part_of(red, q).first));
    return taut__enqueue_results(red, taut__codes_add(red) ? red->factor : 1, part_of(red, red->g->rank));
}

/* Made again, a stage sends what is missing: contributions' tails, or, where only sums were too long, theirs. */
static taut_status enqueue(taut__reduction *red, size_t stage)
{
    taut__exchange *e = taut__exchange_of(red);
    switch (stage) {
    case CONTRIBUTE:
        if (!e->redone) TAUT_TRY(contribute(red));
        return taut__group_exchange(red);
    case REDUCE:
        if (e->from[SUMS] == 0) TAUT_TRY(reduce(red));
        return taut__group_gather(red);
    default: return decode(red);
    }
}

static size_t stages(const taut__reduction *red) { return (void)red, STAGES; }
static size_t again(bool parts) { return parts ? CONTRIBUTE : REDUCE; }
static size_t accumulator(const taut__reduction *red) { return taut__exchange_of(red)->part_n * sizeof(float); }

const taut__exchange_way taut__exchange_sra = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("sra", "all-to-all, sum, allgather"), .slots = TAUT_SLOTS_PARTS, .contributions = TAUT_EXCHANGE_RANKS,
    .shrinks = true, .stages = stages, .enqueue = enqueue, .again = again, .accumulator = accumulator, .owns = TAUT_OWN_SHRINKS,
};

/* ---- a reduce-scatter: the first half, and this rank's part of the sum goes where the caller wants it ---- */

enum { SCATTER_STAGES = 2 };

static taut_status enqueue_scatter(taut__reduction *red, size_t stage)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     mine = part_of(red, red->g->rank);
    if (stage == CONTRIBUTE) {
        TAUT_TRY(contribute(red));
        return taut__group_exchange(red);
    }
    TAUT_TRY(taut__enqueue_admit(red, e->in, PARTS, e->admitted[PARTS], NULL));
    TAUT_TRY(taut__enqueue_admit(red, e->out, PARTS, e->admitted[2], NULL));
    TAUT_TRY(sum_floats(red, mine));
    TAUT_TRY(red->lane->vectors->norm2(red->lane->place, red->call.tensor, e->acc, mine.first, mine.n, &e->ledger->sum, &e->ledger->sum_flags));
    return red->lane->vectors->convert(red->lane->place, e->part_to, red->operand->dtype, e->acc, TAUT_F32, mine.n);
}

static size_t scatter_stages(const taut__reduction *red) { return (void)red, SCATTER_STAGES; }

const taut__exchange_way taut__exchange_scatter = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("scatter", "all-to-all, sum"), .slots = TAUT_SLOTS_PARTS, .contributions = TAUT_EXCHANGE_RANKS,
    .stages = scatter_stages, .enqueue = enqueue_scatter, .accumulator = accumulator,
};
