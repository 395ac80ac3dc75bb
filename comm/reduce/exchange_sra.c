/* exchange_sra.c : scatter-reduce-allgather by the data half, and the same bytes as sra.c: contributions to owners in one all-to-all; each adds
 * what came in order of rank to its own and encodes the sum; an allgather; everybody decodes. */
#include "enqueued.h"

enum { CONTRIBUTE, REDUCE, DECODE, STAGES };
enum { PARTS = TAUT_HALF_PARTS, SUMS = TAUT_HALF_SUMS, PEERS_AT_ONCE = 8 };

static taut__range part_of(const taut__reduction *red, int q) { return taut__part(&red->part, q); }
static uint8_t    *my_sum(const taut__reduction *red)
{
    return taut__slot_of(red, taut__exchange_of(red)->sums, SUMS, red->g->rank);
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
    TAUT_TRY(taut__enqueue_encode_others(red, x, err, e->out, PARTS));
    TAUT_TRY(taut__enqueue_own(red, mine, x, err, my_sum(red), e->own ? e->own : e->acc));
    if (taut__adds_codes(red) || taut__sums_exact(red))
        return taut__enqueue_left(red, taut__whole(red), err, &e->ledger->error[0]);
    TAUT_TRY(taut__enqueue_left(red, (taut__range){0, mine.first}, err, &e->ledger->error[0]));
    return taut__enqueue_left(red, (taut__range){end, red->call.n - end}, err, &e->ledger->error[1]);
}

/* Codes of all ranks added and packed in one pass, cell by cell; those of more ranks than that takes are added before. */
static taut_status pack_cell(taut__reduction *red, taut__range mine, size_t k, const int *peers, uint32_t n)
{
    taut__exchange     *e = taut__exchange_of(red);
    const uint8_t      *peer[PEERS_AT_ONCE];
    const taut_outcome *seen[PEERS_AT_ONCE];
    taut_piece          p = taut__piece_encode(red, mine, k, NULL, NULL, my_sum(red), SUMS);
    for (uint32_t i = 0; i < n; i++) {
        peer[i] = taut__slot_payload(taut__slot_of(red, e->in, PARTS, peers[i]) + k * e->cell[PARTS]);
        seen[i] = &taut__seen_of(red, PARTS, peers[i])[k].seen;
    }
    p.src = NULL, p.codes = (int32_t *)e->acc + (p.call.first - mine.first), p.peers = peer, p.peer_bytes = seen,
    p.peer_count = n;
    return taut__enqueue_pieces(red, TAUT_OP_SUM_PACK, &p, 1);
}

/* To acc, in order of rank: floats, or codes. Of others, without the first `but`. */
static taut_status sum_others(taut__reduction *red, taut__range mine, uint32_t but)
{
    taut__exchange *e = taut__exchange_of(red);
    uint32_t        n = 0;
    for (int q = 0; q < red->g->size; q++) {
        if (q == red->g->rank || n++ < but) continue;
        TAUT_TRY(taut__enqueue_add(red, mine, taut__slot_of(red, e->in, PARTS, q), PARTS, taut__seen_of(red, PARTS, q),
                                   e->acc, false));
    }
    return TAUT_OK;
}

static taut_status add_codes(taut__reduction *red, taut__range mine)
{
    taut__exchange *e = taut__exchange_of(red);
    int             peers[PEERS_AT_ONCE];
    uint32_t        n = 0;
    for (int q = 0; q < red->g->size && n < PEERS_AT_ONCE; q++)
        if (q != red->g->rank) peers[n++] = q;
    TAUT_TRY(sum_others(red, mine, n));
    for (size_t k = 0; k < e->cells && taut__cell_of(red, mine, k).n > 0; k++)
        TAUT_TRY(pack_cell(red, mine, k, peers, n));
    return TAUT_OK;
}

static taut_status sum_floats(taut__reduction *red, taut__range mine)
{
    taut__exchange *e = taut__exchange_of(red);
    TAUT_TRY(sum_others(red, mine, 0));
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
    return taut__adds_codes(red) ? add_codes(red, mine) : add_floats(red, mine);
}

static taut_status decode(taut__reduction *red)
{
    return taut__enqueue_sums(red, red->halves & TAUT_REDUCE ? part_of(red, red->g->rank) : (taut__range){0, 0});
}

/* ---- a reduce-scatter: the first half, and this rank's part of the sum stays here; an allgather: the second, of parts that are there ---- */

/* Where the caller wants it, who has no use for the rest of the buffer. */
static taut_status give_part(taut__reduction *red, taut__range mine)
{
    taut__exchange *e = taut__exchange_of(red);
    TAUT_TRY(sum_floats(red, mine));
    TAUT_TRY(red->lane->vectors->norm2(red->lane->place, red->call.tensor, e->acc, mine.first, mine.n, &e->ledger->sum,
                                       &e->ledger->sum_flags));
    return red->lane->vectors->convert(red->lane->place, e->part_to, red->operand->dtype, e->acc, TAUT_F32, mine.n);
}

static taut_status keep_part(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     mine = part_of(red, red->g->rank);
    float          *to = taut__enqueued_result(red) + mine.first;
    TAUT_TRY(taut__enqueue_anew(red, NULL));
    TAUT_TRY(taut__enqueue_admit(red, e->in, PARTS, e->admitted[PARTS], NULL));
    TAUT_TRY(taut__enqueue_admit(red, e->out, PARTS, e->admitted[2], NULL));
    if (mine.n == 0) return TAUT_OK;
    if (e->part_to) return give_part(red, mine);
    TAUT_TRY(sum_others(red, mine, 0));
    taut_piece p = {.call = taut__slice_call(red, mine.first, mine.n), .codes = e->acc, .scale_by = 1, .dst = to};
    if (taut__adds_codes(red)) TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_DEQUANTIZE, &p, 1));
    else TAUT_TRY(red->lane->space->copy(red->lane->place, to, e->acc, mine.n * sizeof *to));
    return taut__enqueue_results(red, red->factor, mine, mine);
}

static taut_status spread_part(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     mine = part_of(red, red->g->rank);
    TAUT_TRY(taut__enqueue_clear(red, e->sums, SUMS));
    taut__result_load(red, mine.first, mine.n, e->acc);
    TAUT_TRY(taut__enqueue_sum(red, mine, e->acc, 1, 1, my_sum(red), &e->ledger->requantized));
    return taut__group_gather(red);
}

static taut_status enqueue_half(taut__reduction *red, size_t stage)
{
    if (red->halves == TAUT_GATHER) return stage == 0 ? spread_part(red) : decode(red);
    if (stage > 0) return keep_part(red);
    TAUT_TRY(contribute(red));
    return taut__group_exchange(red);
}

/* Made again, a stage sends what is missing: contributions' tails, or, where only sums were too long, theirs. */
static taut_status enqueue(taut__reduction *red, size_t stage)
{
    taut__exchange *e = taut__exchange_of(red);
    if (red->halves != TAUT_BOTH) return enqueue_half(red, stage);
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

static size_t stages(const taut__reduction *red) { return red->halves == TAUT_BOTH ? STAGES : STAGES - 1; }
static size_t again(bool parts) { return parts ? CONTRIBUTE : REDUCE; }

const taut__exchange_way taut__exchange_sra = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("sra", "all-to-all, sum, allgather"),
    .slots = TAUT_SLOTS_PARTS,
    .contributions = TAUT_EXCHANGE_RANKS,
    .shrinks = true,
    .stages = stages,
    .enqueue = enqueue,
    .again = again,
    .owns = TAUT_OWN_SHRINKS,
};
