/* linear.c : codecs whose factors add (PowerSGD, randk). In each round every rank projects its x to a small factor,
 * factors are averaged uncompressed, and absorbed; then all ranks reconstruct the same mean. What one rank keeps as
 * residual is its x less that mean, so that residuals add up to what the sum lacks. Whole tensors. */
#include "input.h"
#include "placed.h"

typedef struct linear {
    float          *factor; /* of the largest round */
    float          *mean;   /* elems floats, for 16-bit results; else NULL: reconstructed in buf */
    taut__plain_sum plain;
    int             round;
    bool            summing;
    double          sent_s; /* since when */
} linear;

static linear *linear_of(const taut__reduction *red) { return red->work; }
static int     rounds(const taut__reduction *red) { return taut__codec_of(red)->linear->rounds; }

static void linear_release(taut__reduction *red)
{
    if (!red->work) return;
    taut__placed_release(red, linear_of(red)->factor);
    taut__placed_release(red, linear_of(red)->mean);
    taut__plain_sum_release(&linear_of(red)->plain);
    taut__free(red->work);
    red->work = NULL;
}

static taut_status linear_prepare(taut__reduction *red)
{
    size_t  most = 0, n = red->call.tensor->elems;
    linear *a = red->work = taut__alloc(1, sizeof *a);
    for (int k = 0; k < rounds(red); k++) most = taut__max(most, taut__factor_elems(red, k));
    if (!a) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    TAUT_TRY(taut__placed_alloc(red, most * sizeof *a->factor, "factors", &a->factor));
    if (red->operand->dtype != TAUT_F32) TAUT_TRY(taut__placed_alloc(red, n * sizeof *a->mean, "a mean", &a->mean));
    return taut__plain_sum_prepare(&a->plain, red->g, red->job.tag, most, 64, red->ctx->set.c.slice_kib * (size_t)256,
                                   &red->slots, red->call.place);
}

static taut_status linear_begin(taut__reduction *red)
{
    linear_of(red)->round = 0;
    linear_of(red)->summing = false;
    return TAUT_OK;
}

static taut_status project(taut__reduction *red)
{
    linear      *a = linear_of(red);
    double       begin = taut__now();
    const float *x = taut__form(red, 0, red->call.n);
    if (a->round == 0) {
        taut__piece_done done = {.own = taut__norms_of(red, x, (taut__range){0, red->call.n})};
        taut__account(red, &done);
        taut__tell_sample(red, (taut__range){0, red->call.n}, x);
    }
    taut_piece p = {.call = red->call, .round = a->round, .src = x, .factor = a->factor};
    TAUT_TRY(taut__placed_do(red, TAUT_OP_PROJECT, &p, NULL));
    red->formed = true; /* x stays in the residual's memory until the last round */
    double end = taut__now();
    red->record.encode_s += end - begin;
    taut__trace_span(red->ctx->trace, &red->job, "encode", begin, end, 4 * taut__factor_elems(red, a->round));
    taut__plain_sum_begin(&linear_of(red)->plain, TAUT_NUMBER_F32, a->factor, taut__factor_elems(red, a->round),
                          TAUT_BOTH, 1.0f / (float)red->g->size);
    a->summing = true;
    a->sent_s = end;
    return TAUT_OK;
}

static taut_status absorb(taut__reduction *red)
{
    linear *a = linear_of(red);
    double  begin = taut__now();
    taut__trace_span(red->ctx->trace, &red->job, "wire", a->sent_s, begin, a->plain.sent);
    red->record.payload_bytes += 4 * taut__factor_elems(red, a->round);
    red->record.bytes_sent += a->plain.sent;
    red->record.encoded = red->call.n;
    if (a->round == 0)
        red->record.bytes_dense += 8 * (uint64_t)red->call.n * (uint64_t)(red->g->size - 1) / (uint64_t)red->g->size;
    taut_piece p = {.call = red->call, .round = a->round, .factor = a->factor};
    TAUT_TRY(taut__placed_do(red, TAUT_OP_ABSORB, &p, NULL));
    taut__trace_span(red->ctx->trace, &red->job, "reduce", begin, taut__now(), 0);
    a->summing = false;
    a->round++;
    return TAUT_OK;
}

/* mean -> residual = x - mean, result = factor * ranks * mean */
static taut_status reconstruct(taut__reduction *red)
{
    linear_of(red)->round++;
    taut__operand   *o = red->operand;
    size_t           n = red->call.n;
    float           *mean = linear_of(red)->mean ? linear_of(red)->mean : red->buf;
    taut__range      all = {0, n};
    taut__piece_done done = {0};
    double           begin = taut__now();
    taut_piece       p = {.call = red->call, .scale_by = 1, .dst = mean};
    TAUT_TRY(taut__placed_do(red, TAUT_OP_RECONSTRUCT, &p, NULL));
    taut__placed_residual(red, o->feedback->r, o->feedback->r, mean, n);
    if (o->feedback_on) TAUT_TRY(taut__feedback_output(o->feedback, 0, n));
    done.error = taut__norms_of(red, o->feedback->r, all);
    taut__tell_lost(red, all, o->feedback->r, 1);
    taut__placed_scale(red, mean, red->factor * (float)red->g->size, n);
    if (red->g->rank == 0) done.sum = taut__sum_norms(red, mean, all); /* all ranks have it: count it once */
    taut__result_store(red, 0, n, mean, red->g->rank == 0);
    done.decode_s = taut__now() - begin;
    taut__account(red, &done);
    taut__trace_span(red->ctx->trace, &red->job, "decode", begin, taut__now(), 0);
    return TAUT_OK;
}

static taut_status linear_advance(taut__reduction *red, bool *moved, bool *done)
{
    linear *a = linear_of(red);
    bool    summed = false;
    if (a->round == rounds(red)) TAUT_TRY(taut__aside_begin(red, reconstruct));
    if (taut__aside_busy(red)) return TAUT_OK;
    if (a->round > rounds(red)) {
        *moved = *done = true;
        return TAUT_OK;
    }
    if (!a->summing) {
        *moved = true;
        return taut__aside_begin(red, project);
    }
    TAUT_TRY(taut__plain_sum_advance(&linear_of(red)->plain, moved, &summed));
    if (!summed) return TAUT_OK;
    *moved = true;
    return taut__aside_begin(red, absorb);
}

static int linear_waiting_for(const taut__reduction *red, int *hops)
{
    return taut__plain_sum_waiting_for(&linear_of(red)->plain, hops);
}

static void linear_cancel(taut__reduction *red)
{
    if (red->work) taut__plain_sum_cancel(&linear_of(red)->plain);
}

static const char *linear_cannot(const taut_spec *spec)
{
    return taut__spec_codec(spec)->linear ? NULL : "its codes cannot be added";
}

const taut__algorithm taut__linear = {
    .name = "linear",
    .help = "sums of the small factors of powersgd and randk, uncompressed",
    .cannot = linear_cannot,
    .prepare = linear_prepare,
    .begin = linear_begin,
    .advance = linear_advance,
    .waiting_for = linear_waiting_for,
    .cancel = linear_cancel,
    .release = linear_release,
};
