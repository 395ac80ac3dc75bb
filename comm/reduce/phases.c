/* phases.c : the life of a reduction, and the phases around its algorithm. */
#include "agreement.h"
#include "exchange.h"
#include "input.h"
#include "placed.h"
#include "phases.h"

/* ---- from phase to phase ----
 *
 * What comes after a phase is the first row of the table that holds. BEGIN, BEGUN, OWN, READY, END and OVER are places between phases. */

enum { BEGIN = TAUT_PHASE_DONE + 1, BEGUN, OWN, READY, END, OVER };

static bool elsewhere(const taut__reduction *red) { return !taut__at_home(red); }
static bool always(const taut__reduction *red) { return (void)red, true; }
static bool in_hosts(const taut__reduction *red) { return red->g != &red->ctx->all; }
static bool follows(const taut__reduction *red) { return red->g->rank < 0; } /* the leader of this host does the rest */
static bool alone_gathers(const taut__reduction *red) { return red->halves == TAUT_GATHER && red->g->size == 1; }
static bool spreads(const taut__reduction *red) { return red->halves == TAUT_GATHER && taut__spreads_raw(red); }
static bool uncalibrated(const taut__reduction *red) { return !red->calibrated; }
static bool looks_again(const taut__reduction *red) { return red->again; }
static bool raw_this_time(const taut__reduction *red) { return red->g->size == 1 || taut__goes_raw(red); }

static bool others_encode(const taut__reduction *red)
{
    return !taut__at_home(red) || taut__executor_threads(red->lane->executor) > 1;
}

/* All of x is formed before any of it is encoded: the codec looks at the whole, or other threads
 * will encode while the plan wants to see slices one after the other. */
static bool forms_first(const taut__reduction *red)
{
    bool watched = red->watched & TAUT_WATCH_INPUT;
    if (red->halves == TAUT_GATHER || red->g->size == 1) return false;
    bool agrees = taut__agree_wanted(red->call.spec) && !taut__agrees_there(red);
    return agrees || (watched && (others_encode(red) || red->via == &taut__linear));
}

static bool rotates(const taut__reduction *red) { return red->rotation.will; }
static bool raw_after_turn(const taut__reduction *red) { return raw_this_time(red) && taut__rotated(red); }

static const struct transition {
    int from;
    bool (*when)(const taut__reduction *red);
    int to;
} transitions[] = {
    {BEGIN, elsewhere, TAUT_PHASE_ORDER},
    {BEGIN, always, BEGUN},
    {TAUT_PHASE_ORDER, always, BEGUN},
    {BEGUN, in_hosts, TAUT_PHASE_LOCAL_SUM},
    {BEGUN, always, OWN},
    {TAUT_PHASE_LOCAL_SUM, follows, TAUT_PHASE_LOCAL_COPY},
    {TAUT_PHASE_LOCAL_SUM, always, OWN},
    {OWN, alone_gathers, TAUT_PHASE_DONE},
    {OWN, spreads, TAUT_PHASE_RAW},
    {OWN, rotates, TAUT_PHASE_ROTATE},
    {OWN, forms_first, TAUT_PHASE_STATS},
    {OWN, always, READY},
    {TAUT_PHASE_ROTATE, always, TAUT_PHASE_STATS},
    {TAUT_PHASE_STATS, uncalibrated, TAUT_PHASE_AGREE},
    {TAUT_PHASE_STATS, always, READY},
    {TAUT_PHASE_AGREE, looks_again, TAUT_PHASE_STATS},
    {TAUT_PHASE_AGREE, always, READY},
    {READY, raw_after_turn, TAUT_PHASE_UNTURN},
    {READY, raw_this_time, TAUT_PHASE_RAW},
    {READY, always, TAUT_PHASE_REDUCE},
    {TAUT_PHASE_REDUCE, raw_this_time, TAUT_PHASE_RAW}, /* as the exchange has found out */
    {TAUT_PHASE_REDUCE, taut__rotated, TAUT_PHASE_BACK},
    {TAUT_PHASE_REDUCE, always, END},
    {TAUT_PHASE_BACK, always, END},
    {TAUT_PHASE_UNTURN, always, TAUT_PHASE_RAW},
    {TAUT_PHASE_RAW, always, END},
    {END, in_hosts, TAUT_PHASE_LOCAL_COPY},
    {END, always, OVER},
    {TAUT_PHASE_LOCAL_COPY, always, OVER},
    {OVER, taut__learns, TAUT_PHASE_LEARN},
    {OVER, always, TAUT_PHASE_DONE},
    {TAUT_PHASE_LEARN, always, TAUT_PHASE_DONE},
};

static taut_status leave(taut__reduction *red, int from)
{
    do {
        const struct transition *t = transitions;
        while (t->from != from || !t->when(red)) t++;
        from = t->to;
    } while (from > TAUT_PHASE_DONE);
    red->phase = (taut__phase)from;
    red->phase_s = taut__now();
    red->at = 0;
    return from == TAUT_PHASE_REDUCE ? red->via->begin(red) : TAUT_OK;
}

/* ---- the phases ---- */

/* Since the phase began, mostly messages. */
static void trace_phase(taut__reduction *red, uint64_t bytes)
{
    taut__trace_span(red->ctx->trace, &red->job, "wire", red->phase_s, taut__now(), bytes);
}

static taut_status order(taut__reduction *red, bool *moved, bool *done)
{
    TAUT_TRY(red->lane->space->event_test(red->ordered, done));
    *moved = *done;
    return TAUT_OK;
}

static taut__range looked_at(const taut__reduction *red)
{
    return (taut__range){red->at, taut__min(red->part.sub, red->call.n - red->at)};
}

/* x of a slice that has been formed. */
static const float *x_of(const taut__reduction *red, taut__range r)
{
    return taut__in_place(red) ? (const float *)red->buf + r.first : red->operand->feedback->r + r.first;
}

static taut_status look_at(taut__reduction *red)
{
    double       begin = taut__now();
    taut__range  r = looked_at(red);
    const float *x = taut__form(red, r.first, r.n);
    if (red->agree && !taut__agrees_there(red)) TAUT_TRY(taut__agree_look(red, r, x));
    double end = taut__now();
    red->record.encode_s += end - begin;
    taut__trace_span(red->ctx->trace, &red->job, "statistics", begin, end, 0);
    return TAUT_OK;
}

static taut_status look(taut__reduction *red, bool *moved, bool *done)
{
    taut__range r = looked_at(red);
    *moved = red->calibrated = true;
    if (!red->looked) {
        red->looked = true;
        TAUT_TRY(taut__aside_begin(red, look_at));
        if (taut__aside_busy(red)) return TAUT_OK;
    }
    red->looked = false;
    if (red->watched & TAUT_WATCH_INPUT && !red->formed) red->watcher->input(red, r, x_of(red, r));
    red->at += r.n;
    *done = red->at == red->call.n;
    if (!*done) return TAUT_OK;
    red->formed = true;
    return red->agree && !taut__agrees_there(red) ? taut__agree_ask(red, &red->calibrated) : TAUT_OK;
}

static taut_status agree(taut__reduction *red, bool *moved, bool *done)
{
    taut__agreed outcome;
    TAUT_TRY(taut__agree_advance(red, moved, &outcome));
    *done = outcome != TAUT_AGREE_WAITING;
    red->again = outcome == TAUT_AGREE_AGAIN;
    if (*done) trace_phase(red, red->exchange.sent);
    return TAUT_OK;
}

/* The host's sum, and the leader's result. */
static taut_status local(taut__reduction *red, bool *moved, bool *done)
{
    bool up = red->phase == TAUT_PHASE_LOCAL_SUM;
    TAUT_TRY((red->within ? taut__within_advance : taut__hier_advance)(red, up, moved, done));
    if (*done) trace_phase(red, up ? red->record.bytes_sent : 0);
    return TAUT_OK;
}

static taut_status reduce(taut__reduction *red, bool *moved, bool *done) { return red->via->advance(red, moved, done); }

static taut_status (*const advance[])(taut__reduction *red, bool *moved, bool *done) = {
    [TAUT_PHASE_ORDER] = order,
    [TAUT_PHASE_LOCAL_SUM] = local,
    [TAUT_PHASE_STATS] = look,
    [TAUT_PHASE_AGREE] = agree,
    [TAUT_PHASE_REDUCE] = reduce,
    [TAUT_PHASE_RAW] = taut__raw_advance,
    [TAUT_PHASE_LOCAL_COPY] = local,
    [TAUT_PHASE_ROTATE] = taut__rotate_advance,
    [TAUT_PHASE_BACK] = taut__back_advance,
    [TAUT_PHASE_UNTURN] = taut__unturn_advance,
    [TAUT_PHASE_LEARN] = taut__learn_advance,
};

static void complete(taut__reduction *red)
{
    red->record.end_s = taut__now();
    if (red->halves != TAUT_GATHER) red->operand->residual = red->operand->feedback_on && red->g->rank >= 0;
    red->watcher->complete(red);
    taut__trace_span(red->ctx->trace, &red->job, "layer", red->record.begin_s, red->record.end_s,
                     red->record.bytes_sent);
}

/* What of it is on the lane's stream is done when work aside is. */
static taut_status settle(taut__reduction *red) { return (void)red, TAUT_OK; }

static taut_status step(taut__job *job, bool *moved, bool *done)
{
    taut__reduction *red = taut__reduction_of(job);
    bool             over = false;
    /* the engine's thread may be any; one that has not named its device wakes up device 0 by its first question */
    TAUT_TRY(taut__space_use(red->lane->space, red->lane->place));
    if (taut__aside_busy(red)) TAUT_TRY(taut__aside_poll(red, moved));
    if (taut__aside_busy(red)) return TAUT_OK;
    if (red->phase != TAUT_PHASE_DONE) TAUT_TRY(advance[red->phase](red, moved, &over));
    if (over) TAUT_TRY(leave(red, red->phase));
    TAUT_TRY(taut__placed_check(red));
    if (red->phase != TAUT_PHASE_DONE || taut__aside_busy(red)) return TAUT_OK;
    if (!red->settled) {
        red->settled = true;
        TAUT_TRY(taut__aside_begin(red, settle));
        if (taut__aside_busy(red)) return TAUT_OK;
    }
    complete(red);
    TAUT_TRY(taut__placed_check(red));
    *done = true;
    return TAUT_OK;
}

static void stop(taut__job *job)
{
    taut__reduction *red = taut__reduction_of(job);
    taut__data_abort(red->ctx->data); /* else what waits for the device may wait for ever */
    taut__aside_cancel(red);
    if (red->via && red->via->cancel) red->via->cancel(red);
    taut__plain_sum_cancel(&red->plain);
    taut__small_allreduce_cancel(&red->exchange);
    taut__hier_cancel(red);
    taut__within_cancel(red);
    taut__placed_wait(red); /* what is enqueued may still read and write what is about to be given back */
}

/* Beside the one of a job with a hierarchy. The leader sees its own ranks. They see the leader only, and once it has their sums, it waits for other
 * leaders, who wait for their ranks. */
static int hops_within(const taut__reduction *red)
{
    bool down = red->phase == TAUT_PHASE_LOCAL_COPY;
    if (red->ctx->local.rank == 0) return -1;
    return down ? 1 + taut__log2(taut__power_below(red->ctx->leaders.size)) : 0; /* rounds of their exchange */
}

/* With a hierarchy leaders wait for other leaders, who may wait for their own hosts. */
static int waiting_for(const taut__job *job, int *hops)
{
    const taut__reduction *red = (const taut__reduction *)(const void *)job;
    *hops += in_hosts(red);
    if (taut__aside_busy(red)) return -1;
    switch (red->phase) {
    case TAUT_PHASE_AGREE: return taut__small_allreduce_waiting_for(&red->exchange, hops);
    case TAUT_PHASE_RAW: return taut__plain_sum_waiting_for(&red->plain, hops);
    case TAUT_PHASE_REDUCE: return red->via->waiting_for ? red->via->waiting_for(red, hops) : -1;
    case TAUT_PHASE_LOCAL_SUM:
    case TAUT_PHASE_LOCAL_COPY:
        *hops += hops_within(red);
        return red->within ? taut__within_waiting_for(red, hops) : taut__hier_waiting_for(red);
    default: return -1;
    }
}

/* ---- life ---- */

taut_status taut__reduction_init(taut__reduction *red)
{
    red->lane = taut__host_lane(red->ctx);
    red->job.step = step;
    red->job.stop = stop;
    red->job.waiting_for = waiting_for;
    atomic_init(&red->job.state, TAUT_JOB_IDLE);
    return taut__context_tags(red->ctx, &red->job.tag);
}

void taut__reduction_release(taut__reduction *red)
{
    if (red->via && red->work) red->via->release(red);
    taut__hier_release(red);
    taut__within_release(red);
    taut__agree_there_release(red);
    taut__agree_release(red);
    taut__slots_release(&red->slots);
    red->work = NULL;
    red->via = NULL;
    taut__plain_sum_release(&red->plain);
    red->plain = (taut__plain_sum){0};
}

static size_t common_block(size_t a, size_t b) { return a % b == 0 ? a : b % a == 0 ? b : a * b; }

static taut_status prepare_own(taut__reduction *red)
{
    const taut__operand *o = red->operand;
    size_t               n = o->tensor.elems, slice = red->ctx->set.c.slice_kib * (size_t)256;
    red->part = taut__partition_of(n, red->g->size, common_block(o->block, taut__spec_align(&o->wire)),
                                   slice / TAUT_CODED_SLICE_DIV);
    TAUT_TRY(taut__agree_prepare(red));
    TAUT_TRY(taut__context_scratch(red->lane, taut__min(n, slice), 0));
    if (red->g->size > 1) TAUT_TRY(taut__agree_there_prepare(red));
    if (red->g->size > 1) TAUT_TRY(red->via->prepare(red));
    return taut__raw_prepare(red, slice);
}

taut_status taut__reduction_prepare(taut__reduction *red)
{
    taut__operand *o = red->operand;
    red->g = taut__group_of(red->ctx, o);
    red->call = (taut_call){.spec = &o->wire,
                            .tensor = taut__lane_on_host(red->lane) ? &o->tensor : &o->there,
                            .place = red->lane->place,
                            .n = o->tensor.elems,
                            .state = o->state,
                            .no_checksum = red->ctx->set.checksum == TAUT_CHECKSUM_OFF};
    TAUT_TRY(taut__algorithm_for(red->ctx, o, &o->wire, &red->via));
    const taut__algorithm *by_data = follows(red) ? NULL : taut__exchange_for(red, red->via);
    if (by_data) red->via = by_data;
    if (!follows(red)) TAUT_TRY(prepare_own(red));
    if (in_hosts(red)) TAUT_TRY(taut__within_for(red) ? taut__within_prepare(red) : taut__hier_prepare(red));
    return taut__context_slots(red->ctx, &red->slots);
}

void taut__reduction_anew(taut__reduction *red, void *buf, int kind, taut__half halves)
{
    const taut__operand *o = red->operand;
    red->buf = buf, red->kind = kind, red->halves = halves, red->blocking = false;
    red->factor = kind == TAUT_MEAN && halves != TAUT_GATHER ? 1.0f / (float)red->ctx->all.size : 1.0f;
    red->formed = red->looked = red->settled = red->calibrated = red->again = red->rotation.will = false;
    red->watched = 0;
    red->record = (taut__record){.begin_s = taut__now()};
    red->calibration = (taut_calibration){0};
    red->call.calibration = NULL;
    red->call.state = o->state;
    red->call.shared_seed = taut__seed(o->seed, o->calls);
    red->call.seed = taut__seed(red->call.shared_seed, (uint64_t)(uint32_t)red->ctx->all.rank + 1);
}

taut_status taut__reduction_begin(taut__reduction *red, void *buf, int kind, taut__half halves, bool blocking)
{
    taut__reduction_anew(red, buf, kind, halves);
    red->blocking = blocking;
    taut__rotate_begin(red);
    taut__agree_begin(red);
    red->watched = red->watcher->begin(red);
    return leave(red, BEGIN);
}
