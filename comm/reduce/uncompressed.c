/* uncompressed.c : see phases.h. */
#include "phases.h"
#include "input.h"
#include "placed.h"
#include <math.h>

bool taut__spreads_raw(const taut__reduction *red)
{
    return red->operand->sharded &&
           (red->via == &taut__linear || !(taut__spec_caps(red->call.spec) & TAUT_CAP_SLICEABLE));
}

/* 16-bit numbers are spread as floats, beside the residual, which stays. */
static taut_status room_to_spread(const taut__reduction *red)
{
    taut__operand *o = red->operand;
    if (!taut__spreads_raw(red) || o->dtype == TAUT_F32 || o->spread) return TAUT_OK;
    return taut__placed_alloc(red, o->tensor.elems * sizeof *o->spread, "parts to spread", &o->spread);
}

/* Invariant: whatever phase replaces the algorithm runs in the slots that the algorithm said it needs, one after the other, so this
 * is called after via->prepare, and only where a run can come here. taut__native's own sum is this one. */
taut_status taut__raw_prepare(taut__reduction *red, size_t slice)
{
    bool wanted = red->via == &taut__native || taut__spec_caps(red->call.spec) & TAUT_CAP_GLOBAL_STATS;
    TAUT_TRY(room_to_spread(red));
    if (!wanted && red->g->size > 1 && !taut__spreads_raw(red)) return TAUT_OK;
    return taut__plain_sum_prepare(&red->plain, red->g, red->job.tag, red->call.n, red->part.block, slice, &red->slots,
                                   red->call.place);
}

/* x moves to buf (16-bit layers: stays in the residual's memory) and nothing of it is left behind. */
static taut_status begin_raw(taut__reduction *red)
{
    taut__operand *o = red->operand;
    bool           direct = o->dtype == TAUT_F32;
    size_t         n = red->call.n;
    for (size_t at = 0; at < n && direct; at += red->part.sub) {
        taut__range      r = {at, taut__min(red->part.sub, n - at)};
        taut__piece_done done = {0};
        taut__own_x(red, r, (float *)red->buf + at, &done);
        taut__account(red, &done);
    }
    bool spread = !direct && red->halves == TAUT_GATHER;
    if (spread) taut__result_load(red, 0, n, o->spread);
    else if (!direct) taut__tell_sample(red, (taut__range){0, n}, taut__form(red, 0, n));
    taut__plain_sum_begin(&red->plain, TAUT_NUMBER_F32,
                          direct   ? red->buf
                          : spread ? o->spread
                                   : o->feedback->r,
                          n, red->halves, red->factor);
    red->phase_s = taut__now();
    return TAUT_OK;
}

/* Every rank measures its part of the sum, whole or scattered. Where nothing is lossy nobody has a use for its norm, but a NaN in it counts. */
static void measure_raw(taut__reduction *red, const float *sum)
{
    taut__range      mine = taut__part(&red->part, red->g->rank);
    taut__piece_done done = {0};
    if (mine.n) done.sum = taut__sum_norms(red, sum + mine.first, mine);
    if (red->ctx->lossy && red->halves != TAUT_GATHER) taut__account(red, &done);
    else if (isnan(done.sum.plain)) red->record.sum.plain = done.sum.plain;
}

static taut_status finish_raw(taut__reduction *red)
{
    taut__operand *o = red->operand;
    bool           half = o->dtype != TAUT_F32, spread = red->halves == TAUT_GATHER;
    red->record.bytes_sent += red->plain.sent;
    red->record.bytes_dense += red->plain.sent;
    measure_raw(red, !half ? red->buf : spread ? o->spread : o->feedback->r);
    if (half && spread) taut__result_store(red, 0, red->call.n, o->spread, false);
    else if (half) taut__result_store_last(red, red->g->rank == 0);
    /* all of it has been sent, and its momentum is spent, but of what clamping has left; float32 was emptied as it moved to buf */
    return half && !spread && o->feedback_on ? taut__feedback_output(o->feedback, 0, red->call.n) : TAUT_OK;
}

taut_status taut__raw_advance(taut__reduction *red, bool *moved, bool *done)
{
    enum { BEGUN = 1, SUMMED }; /* red->at */
    bool summed = false;
    if (red->at == 0) {
        red->at = BEGUN;
        TAUT_TRY(taut__aside_begin(red, begin_raw));
    }
    if (taut__aside_busy(red)) return TAUT_OK;
    if (red->at == BEGUN) {
        TAUT_TRY(taut__plain_sum_advance(&red->plain, moved, &summed));
        if (!summed) return TAUT_OK;
        *moved = true;
        taut__trace_span(red->ctx->trace, &red->job, "wire", red->phase_s, taut__now(), red->plain.sent);
        red->at = SUMMED;
        TAUT_TRY(taut__aside_begin(red, finish_raw));
    }
    *done = !taut__aside_busy(red);
    return TAUT_OK;
}
