/* exchange_sums.c : sums that the data half makes itself: of floats (`none`), of integer codes, of the factors of linear codecs. In which order
 * it adds floats is its own affair; all ranks get the same. */
#include "enqueued.h"

static taut_place place_of(const taut__reduction *red) { return red->lane->place; }

/* ---- native ---- */

enum { SUM, STORE, STAGES };

/* Codes travel in fields of 8 or 16 bits of a word, where they fit: each code with a bias, so that none is negative, and as many guard bits as the
 * sum of p of them needs: |code| <= limit, and p (2 limit) < 2^bits (guard bits: ceil(log2 p)). One word more tells whether some rank's did not
 * fit: then all take wider fields and do it again, from x, which is kept for that; and for a while, before they try narrow ones anew. */
enum { WHOLE = 32, CALM = 64 };

static uint32_t bits_of(const taut__reduction *red)
{
    return (uint32_t)taut__exchange_of(red)->turn.mine.size[TAUT_HALF_SUMS];
}
static uint32_t limit_of(const taut__reduction *red)
{
    uint32_t bits = bits_of(red), p = (uint32_t)red->g->size;
    return bits == WHOLE ? INT32_MAX / p : ((1u << bits) - 1) / (2 * p);
}
static uint32_t *words_of(const taut__reduction *red)
{
    return (uint32_t *)taut__exchange_of(red)->acc + taut__round_up(red->call.n, 16);
}
static size_t word_count(const taut__reduction *red) { return taut__ceil_div(red->call.n, WHOLE / bits_of(red)); }

/* What encoding does to momentum cannot be taken back. */
static uint32_t narrowest(const taut__reduction *red)
{
    return red->operand->feedback && red->operand->feedback->u ? WHOLE : taut__field_bits(red->g->size);
}

static taut_status quantize(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    const float    *x;
    float          *err = taut__err_of(red);
    if (!e->redone) {
        TAUT_TRY(taut__enqueue_x(red, &x, &err));
        TAUT_TRY(red->lane->space->copy(place_of(red), e->own, x, red->call.n * sizeof *x));
    }
    TAUT_TRY(red->lane->space->fill(place_of(red), &e->ledger->codes, 0, sizeof e->ledger->codes));
    taut_piece p = {.call = red->call,
                    .src = e->own,
                    .err = err,
                    .codes = e->acc,
                    .limit = (int32_t)limit_of(red),
                    .outcome = &e->ledger->codes};
    TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_QUANTIZE, &p, 1));
    return taut__enqueue_left(red, taut__whole(red), err, &e->ledger->error[0]);
}

static taut_status sum_codes(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__data     *d = red->g->data;
    TAUT_TRY(quantize(red));
    red->record.payload_bytes = 4 * word_count(red);
    if (bits_of(red) == WHOLE) return d->ops->sum(d, e->acc, red->call.n, TAUT_NUMBER_I32, place_of(red));
    uint32_t *words = words_of(red);
    TAUT_TRY(
        red->lane->vectors->field_join(place_of(red), words, e->acc, red->call.n, WHOLE / bits_of(red), limit_of(red)));
    TAUT_TRY(red->lane->space->copy(place_of(red), words + word_count(red), &e->ledger->codes.flags, sizeof *words));
    return d->ops->sum(d, words, word_count(red) + 1, TAUT_NUMBER_I32, place_of(red));
}

static taut_status split_codes(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    uint32_t       *words = words_of(red);
    if (bits_of(red) == WHOLE)
        return red->lane->space->fill(place_of(red), &e->ledger->too_large, 0, sizeof e->ledger->too_large);
    TAUT_TRY(red->lane->space->copy(place_of(red), &e->ledger->too_large, words + word_count(red), sizeof *words));
    return red->lane->vectors->field_split(place_of(red), e->acc, words, red->call.n, WHOLE / bits_of(red),
                                           (uint32_t)red->g->size * limit_of(red));
}

/* The words are the same on all ranks, so all decide alike. */
static bool too_small(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    if (!taut__adds_codes(red)) return false;
    uint32_t bits = bits_of(red);
    bool     wider = bits < WHOLE && e->here_ledger->too_large;
    e->calm = wider ? 0 : e->calm + 1;
    e->bits = wider ? 2 * bits : e->calm >= CALM ? narrowest(red) : bits;
    if (e->bits < bits) e->calm = 0;
    e->wanted[TAUT_HALF_SUMS] = e->bits;
    return wider;
}

/* x moves to buf, and nothing of it stays. Nobody asks for its norm, unless it is watched. */
static taut_status sum_floats(taut__reduction *red)
{
    const float *x;
    float       *err;
    if (red->watched) TAUT_TRY(taut__enqueue_x(red, &x, &err));
    else x = taut__form(red, 0, red->call.n);
    if (x != red->buf) TAUT_TRY(red->lane->space->copy(place_of(red), red->buf, x, red->call.n * sizeof *x));
    if (red->operand->feedback) TAUT_TRY(taut__feedback_clear(red->operand->feedback, 0, red->call.n));
    return red->g->data->ops->sum(red->g->data, red->buf, red->call.n, TAUT_NUMBER_F32, place_of(red));
}

static taut_status store_codes(taut__reduction *red)
{
    taut_piece p = {
        .call = red->call, .codes = taut__exchange_of(red)->acc, .scale_by = 1, .dst = taut__enqueued_result(red)};
    TAUT_TRY(taut__enqueue_anew(red, NULL));
    TAUT_TRY(split_codes(red));
    TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_DEQUANTIZE, &p, 1));
    return taut__enqueue_results(red, red->factor, taut__whole(red), taut__part(&red->part, red->g->rank));
}

static taut_status store_floats(taut__reduction *red)
{
    bool        measured = red->ctx->lossy || red->watched & TAUT_WATCH_INPUT;
    taut__range none = {0, 0};
    return taut__enqueue_results(red, red->factor, taut__whole(red),
                                 measured ? taut__part(&red->part, red->g->rank) : none);
}

static taut_status enqueue_native(taut__reduction *red, size_t stage)
{
    bool codes = taut__adds_codes(red);
    if (codes && bits_of(red) == 0) return taut__fail(TAUT_E_STATE, "no width for codes was agreed");
    if (stage == SUM) return codes ? sum_codes(red) : sum_floats(red);
    return codes ? store_codes(red) : store_floats(red);
}

static size_t native_stages(const taut__reduction *red) { return (void)red, STAGES; }
/* Codes, and behind them words. The first width is proposed here, when the layer is prepared. */
static size_t native_accumulator(const taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    size_t          n = taut__round_up(red->call.n, 16);
    if (!taut__adds_codes(red)) return 0;
    if (!e->bits) e->wanted[TAUT_HALF_SUMS] = e->bits = narrowest(red);
    return (n + n / 2 + 16) * sizeof(int32_t);
}

const taut__exchange_way taut__exchange_native = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("native", "the data half's own sum of float32, or of integer codes"),
    .stages = native_stages,
    .enqueue = enqueue_native,
    .accumulator = native_accumulator,
    .too_small = too_small,
    .owns = TAUT_OWN_CODES,
};

/* ---- linear ---- */

static int rounds(const taut__reduction *red) { return taut__codec_of(red)->linear->rounds; }

static taut_status project(taut__reduction *red, int round)
{
    taut__exchange *e = taut__exchange_of(red);
    const float    *x;
    float          *err;
    if (round == 0) TAUT_TRY(taut__enqueue_x(red, &x, &err));
    else x = taut__form(red, 0, red->call.n);
    taut_piece p = {.call = red->call, .src = x, .round = round, .factor = e->acc};
    TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_PROJECT, &p, 1));
    red->record.payload_bytes += 4 * taut__factor_elems(red, round);
    return red->g->data->ops->sum(red->g->data, e->acc, taut__factor_elems(red, round), TAUT_NUMBER_F32, place_of(red));
}

static taut_status absorb(taut__reduction *red, int round)
{
    taut__exchange *e = taut__exchange_of(red);
    taut_piece      p = {.call = red->call, .round = round, .factor = e->acc};
    TAUT_TRY(
        red->lane->vectors->scale(place_of(red), e->acc, 1.0f / (float)red->g->size, taut__factor_elems(red, round)));
    return taut__enqueue_pieces(red, TAUT_OP_ABSORB, &p, 1);
}

/* residual = x - mean, result = factor * ranks * mean */
static taut_status reconstruct(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    float          *mean = taut__enqueued_result(red), *r = red->operand->feedback->r;
    taut_piece      p = {.call = red->call, .scale_by = 1, .dst = mean};
    TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_RECONSTRUCT, &p, 1));
    TAUT_TRY(red->lane->vectors->residual(place_of(red), r, r, mean, red->call.n));
    if (red->operand->feedback_on) TAUT_TRY(taut__feedback_output(red->operand->feedback, 0, red->call.n));
    TAUT_TRY(red->lane->vectors->norm2(place_of(red), red->call.tensor, r, 0, red->call.n, &e->ledger->error[0], NULL));
    taut__tell_lost(red, taut__whole(red), r, 1);
    return taut__enqueue_results(red, red->factor * (float)red->g->size, taut__whole(red),
                                 red->g->rank == 0 ? taut__whole(red) : (taut__range){0, 0});
}

static taut_status enqueue_linear(taut__reduction *red, size_t stage)
{
    int round = (int)stage;
    if (round > 0) TAUT_TRY(absorb(red, round - 1));
    return round < rounds(red) ? project(red, round) : reconstruct(red);
}

static size_t linear_stages(const taut__reduction *red) { return (size_t)rounds(red) + 1; }
static size_t linear_accumulator(const taut__reduction *red)
{
    size_t most = 0;
    for (int k = 0; k < rounds(red); k++) most = taut__max(most, taut__factor_elems(red, k));
    return most * sizeof(float);
}

const taut__exchange_way taut__exchange_linear = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("linear", "sums of the factors of powersgd and randk, by the data half"),
    .stages = linear_stages,
    .enqueue = enqueue_linear,
    .accumulator = linear_accumulator,
};
