/* exchange_sums.c : sums that the data half makes itself: of floats (`none`), of integer codes, of the factors of linear codecs. In which order
 * it adds floats is its own affair; all ranks get the same. */
#include "enqueued.h"

static taut__range all_of(const taut__reduction *red) { return (taut__range){0, red->call.n}; }
static taut_place  place_of(const taut__reduction *red) { return red->lane->place; }

/* ---- native ---- */

enum { SUM, STORE, STAGES };

static taut_status sum_codes(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    const float    *x;
    float          *err;
    TAUT_TRY(taut__enqueue_x(red, &x, &err));
    TAUT_TRY(taut__enqueue_own(red, all_of(red), x, err, NULL, e->acc));
    TAUT_TRY(taut__enqueue_left(red, all_of(red), err, 0));
    return red->ctx->data->ops->sum(red->ctx->data, e->acc, red->call.n, TAUT_NUMBER_I32, place_of(red));
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
    return red->ctx->data->ops->sum(red->ctx->data, red->buf, red->call.n, TAUT_NUMBER_F32, place_of(red));
}

static taut_status store_codes(taut__reduction *red)
{
    taut_piece p = {.call = red->call, .codes = taut__exchange_of(red)->acc, .scale_by = 1, .dst = taut__enqueued_result(red)};
    TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_DEQUANTIZE, &p, 1));
    return taut__enqueue_results(red, red->factor, taut__part(&red->part, red->g->rank));
}

static taut_status store_floats(taut__reduction *red)
{
    bool        measured = red->ctx->lossy || red->watched & TAUT_WATCH_INPUT;
    taut__range none = {0, 0};
    return taut__enqueue_results(red, red->factor, measured ? taut__part(&red->part, red->g->rank) : none);
}

static taut_status enqueue_native(taut__reduction *red, size_t stage)
{
    bool codes = taut__codes_add(red);
    if (stage == SUM) return codes ? sum_codes(red) : sum_floats(red);
    return codes ? store_codes(red) : store_floats(red);
}

static size_t native_stages(const taut__reduction *red) { return (void)red, STAGES; }
static size_t native_accumulator(const taut__reduction *red) { return taut__codes_add(red) ? red->call.n * sizeof(int32_t) : 0; }

const taut__exchange_way taut__exchange_native = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("native", "the data half's own sum of float32, or of integer codes"), .stages = native_stages,
    .enqueue = enqueue_native, .accumulator = native_accumulator,
};

/* ---- linear ---- */

static const taut_codec_linear *table(const taut__reduction *red) { return taut__wire_codec(red)->linear; }
static size_t factor_elems(const taut__reduction *red, int round) { return table(red)->factor_elems(&red->call.spec->stage[0], red->call.tensor, round); }

static taut_status project(taut__reduction *red, int round)
{
    taut__exchange *e = taut__exchange_of(red);
    const float    *x;
    float          *err;
    if (round == 0) TAUT_TRY(taut__enqueue_x(red, &x, &err));
    else x = taut__form(red, 0, red->call.n);
    taut_piece p = {.call = red->call, .src = x, .round = round, .factor = e->acc};
    TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_PROJECT, &p, 1));
    red->record.payload_bytes += 4 * factor_elems(red, round);
    return red->ctx->data->ops->sum(red->ctx->data, e->acc, factor_elems(red, round), TAUT_NUMBER_F32, place_of(red));
}

static taut_status absorb(taut__reduction *red, int round)
{
    taut__exchange *e = taut__exchange_of(red);
    taut_piece      p = {.call = red->call, .round = round, .factor = e->acc};
    TAUT_TRY(red->lane->vectors->scale(place_of(red), e->acc, 1.0f / (float)red->g->size, factor_elems(red, round)));
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
    taut__tell_lost(red, all_of(red), r, 1);
    return taut__enqueue_results(red, red->factor * (float)red->g->size, red->g->rank == 0 ? all_of(red) : (taut__range){0, 0});
}

static taut_status enqueue_linear(taut__reduction *red, size_t stage)
{
    int round = (int)stage;
    if (round > 0) TAUT_TRY(absorb(red, round - 1));
    return round < table(red)->rounds ? project(red, round) : reconstruct(red);
}

static size_t linear_stages(const taut__reduction *red) { return (size_t)table(red)->rounds + 1; }
static size_t linear_accumulator(const taut__reduction *red)
{
    size_t most = 0;
    for (int k = 0; k < table(red)->rounds; k++) most = taut__max(most, factor_elems(red, k));
    return most * sizeof(float);
}

const taut__exchange_way taut__exchange_linear = {
    .algorithm = TAUT_EXCHANGE_ALGORITHM("linear", "sums of the factors of powersgd and randk, by the data half"), .stages = linear_stages,
    .enqueue = enqueue_linear, .accumulator = linear_accumulator,
};
