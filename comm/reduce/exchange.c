/* exchange.c : see exchange.h. What all ways share: slots, turns, stages, and the look at what the device tells. */
#include "enqueued.h"
#include <math.h>
#include <sched.h>
#include <stdio.h>

/* ---- slots ---- */

static size_t slot_bytes(size_t payload) { return TAUT_SLOT_HEADER + taut__round_up(payload, 16); }

/* The longest payload of a part, or of the whole; *known: all are as long as they are said to be. An encoder may want more room than it fills. */
static size_t known_bytes(const taut__reduction *red, bool whole, bool *known)
{
    const taut_call *c = &red->call;
    size_t           most = 0, bytes = 0;
    int              parts = whole ? 1 : red->g->size;
    *known = true;
    for (int q = 0; q < parts && *known; q++) {
        taut__range r = whole ? (taut__range){0, c->n} : taut__part(&red->part, q);
        *known = r.n == 0 || taut__spec_fixed(c->spec, c->tensor, r.first, r.n, &bytes);
        most = r.n ? taut__max(most, bytes) : most;
    }
    return *known ? most : 0;
}

/* Sums that are encoded anew and may not be, since what that loses is in the residual already, always have room. */
static void measure_slots(taut__reduction *red)
{
    taut__exchange  *e = taut__exchange_of(red);
    const taut_call *c = &red->call;
    bool             known = true, exact = taut__adds_codes(red) || taut__sums_exact(red),
         whole = e->way->slots == TAUT_SLOTS_WHOLE;
    bool used[2] = {[TAUT_HALF_PARTS] = e->way->contributions > 0, [TAUT_HALF_SUMS] = e->way->slots != TAUT_SLOTS_NONE};
    e->part_n = whole ? c->n : taut__part(&red->part, 0).n;
    size_t travels = used[TAUT_HALF_SUMS] ? known_bytes(red, whole, &known) : 0;
    /* what looks at its own slice alone: stages of stacks; of allgathers, which agree on nothing, every codec with statistics */
    bool looks = (c->spec->stages > 1 && !known) || (red->operand->sharded && taut__codec_of(red)->n_stats > 0);
    bool cut = looks && taut__spec_caps(c->spec) & TAUT_CAP_SLICEABLE;
    e->cells = cut ? taut__ceil_div(e->part_n, red->part.sub) : 1;
    size_t cell =
        slot_bytes(taut__spec_capacity(c->spec, c->tensor, cut ? taut__min(red->part.sub, e->part_n) : e->part_n));
    e->shrinks = e->way->shrinks && exact && !known && !red->operand->sharded;
    for (int i = 0; i < 2; i++) {
        e->cell[i] = used[i] ? cell : 0;
        e->stride[i] = e->cells * e->cell[i];
        e->wanted[i] = used[i] && known ? slot_bytes(travels) : e->stride[i];
    }
}

/* ---- memory: counted with memory NULL ---- */

static size_t lay_out(taut__reduction *red, void *memory)
{
    taut__exchange *e = taut__exchange_of(red);
    size_t          p = (size_t)red->g->size, n = red->call.n, some = taut__min(p, (size_t)e->way->contributions);
    taut__carver    c = {memory, 0};
    e->memory = memory;
    e->ledger = taut__carve(&c, 1, sizeof *e->ledger);
    for (int i = 0; i < 3; i++) e->admitted[i] = taut__carve(&c, p * e->cells, sizeof **e->admitted);
    e->lost = taut__carve(&c, p, sizeof *e->lost);
    e->ledger_bytes = c.bytes;
    e->found = taut__carve(&c, 1, sizeof *e->found);
    e->out = taut__carve(&c, some, e->stride[TAUT_HALF_PARTS]);
    e->in = taut__carve(&c, some, e->stride[TAUT_HALF_PARTS]);
    e->sums = taut__carve(&c, p, e->stride[TAUT_HALF_SUMS]);
    size_t acc = e->way->accumulator ? e->way->accumulator(red) : e->part_n * sizeof(float);
    e->acc = taut__carve(&c, 1, acc);
    bool keeps_x = e->way->owns == TAUT_OWN_CODES && taut__adds_codes(red);
    e->own = keeps_x                                          ? taut__carve(&c, n, sizeof(float))
             : e->shrinks && e->way->owns == TAUT_OWN_SHRINKS ? taut__carve(&c, 1, acc)
                                                              : NULL;
    e->err = taut__in_place(red) ? taut__carve(&c, n, sizeof *e->err) : NULL;
    e->val = red->operand->dtype != TAUT_F32 ? taut__carve(&c, n, sizeof *e->val) : NULL;
    struct taut__agree_there **agree = taut__agree_data(red);
    e->agreeing = agree && *agree ? taut__carve(&c, 1, taut__agree_there_bytes(red)) : NULL;
    return c.bytes;
}

taut_status taut__exchange_prepare(taut__reduction *red)
{
    taut__exchange *e = red->work = taut__alloc(1, sizeof *e);
    if (!e) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    e->way = (const taut__exchange_way *)(const void *)red->via;
    measure_slots(red);
    lay_out(red, NULL);
    TAUT_TRY(taut__lineup_prepare(red, &e->turn, red->g, TAUT_TAG_FIRST));
    TAUT_TRY(red->lane->space->event_create(red->lane->place, &e->over));
    e->here_ledger = taut__space_host_alloc(red->lane->space, red->lane->place, e->ledger_bytes);
    return e->here_ledger
               ? TAUT_OK
               : taut__fail(TAUT_E_NOMEM, "%s: out of host memory for %zu bytes", red->job.name, e->ledger_bytes);
}

void taut__exchange_release(taut__reduction *red)
{
    taut__exchange *e = red->work;
    if (!e) return;
    taut__lineup_release(&e->turn);
    taut__lane_give_back(red->lane, e->memory);
    if (e->over) red->lane->space->event_destroy(e->over);
    taut__space_host_release(red->lane->space, red->lane->place, e->here_ledger);
    taut__free(e);
    red->work = NULL;
}

taut_status taut__exchange_begin(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    e->asked = e->looking = e->redone = e->finishing = false;
    e->stage = e->agreed = 0;
    e->from[0] = e->from[1] = 0;
    return TAUT_OK;
}

/* ---- stages ---- */

/* For slots that travel as far as turn.mine says. */
static void use_memory(taut__reduction *red, void *memory)
{
    taut__exchange *e = taut__exchange_of(red);
    lay_out(red, memory);
    for (int i = 0; i < 2; i++) e->to[i] = taut__min(e->turn.mine.size[i], e->stride[i]);
}

static taut_status take_memory(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    void           *memory = NULL;
    TAUT_TRY(taut__lane_borrow(red->lane, lay_out(red, NULL), &memory));
    if (!memory) return TAUT_OK;
    use_memory(red, memory);
    e->sent_s = taut__now();
    return red->lane->space->fill(red->lane->place, e->ledger, 0, e->ledger_bytes);
}

static taut_status enqueue_end(taut__reduction *red)
{
    taut__exchange    *e = taut__exchange_of(red);
    const taut__space *space = red->lane->space;
    TAUT_TRY(space->copy(red->lane->place, e->here_ledger, e->ledger, e->ledger_bytes));
    if (e->agreed) TAUT_TRY(taut__agree_there_end(red));
    if (red->watcher->enqueued) red->watcher->enqueued(red);
    TAUT_TRY(space->event_record(e->over, red->lane->place));
    e->looking = true;
    taut__lineup_over(&e->turn);
    return TAUT_OK;
}

static taut_status enqueue_next(taut__reduction *red, size_t agreeing)
{
    taut__exchange *e = taut__exchange_of(red);
    uint64_t        before = red->g->data->sent;
    if (e->agreed < agreeing) TAUT_TRY(taut__agree_there_enqueue(red, e->agreed++, e->agreeing));
    else TAUT_TRY(e->way->enqueue(red, e->stage++));
    red->record.bytes_sent += red->g->data->sent - before;
    return TAUT_OK;
}

static taut_status enqueue(taut__reduction *red, bool *moved)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__data     *d = red->g->data;
    bool            ready = false;
    size_t          agreeing = e->agreeing ? taut__agree_there_stages(red) : 0;
    while (e->agreed < agreeing || e->stage < e->way->stages(red)) {
        TAUT_TRY(d->ops->ready(d, &ready));
        if (!ready) return TAUT_OK;
        TAUT_TRY(enqueue_next(red, agreeing));
        *moved = true;
    }
    TAUT_TRY(d->ops->ready(d, &ready));
    return ready ? enqueue_end(red) : TAUT_OK;
}

/* ---- what the device has told ---- */

static uint64_t largest(const taut__admitted *a, int n, bool of_others)
{
    uint64_t most = 0;
    for (int q = 0; q < n; q++) most = taut__max(most, of_others ? a[q].largest : a[q].said);
    return most;
}

static _Atomic uint64_t made_again;
uint64_t                taut__exchange_redone(void) { return atomic_load(&made_again); }

/* The ledger's arrays as they lie on the host. */
static const void *on_host(const taut__exchange *e, const void *there)
{
    return (const char *)(const void *)e->here_ledger + ((const char *)there - (const char *)(const void *)e->ledger);
}
static const taut__admitted *told(const taut__exchange *e, int i) { return on_host(e, e->admitted[i]); }

static void make_again(taut__reduction *red, size_t stage)
{
    taut__exchange *e = taut__exchange_of(red);
    e->stage = stage;
    e->redone = true;
    e->asked = e->looking = false;
    atomic_fetch_add(&made_again, 1);
}

/* All ranks have gathered the same headers, so all decide alike. */
static taut_status decide(taut__reduction *red, bool *again)
{
    taut__exchange *e = taut__exchange_of(red);
    const int       p = red->g->size, parts = TAUT_HALF_PARTS, sums = TAUT_HALF_SUMS;
    *again = e->way->too_small && e->way->too_small(red);
    if (*again) make_again(red, 0);
    if (!e->shrinks) return TAUT_OK;
    size_t said[2] = {[TAUT_HALF_PARTS] = slot_bytes(largest(told(e, TAUT_HALF_SUMS), p, true)),
                      [TAUT_HALF_SUMS] = slot_bytes(largest(told(e, TAUT_HALF_SUMS), p, false))};
    for (int i = 0; i < 2; i++)
        if (said[i] > e->stride[i] && e->stride[i])
            return taut__fail(TAUT_E_CORRUPT, "a payload of %zu bytes: can be %zu at most", said[i], e->stride[i]);
    bool short_parts = e->way->contributions && said[parts] > e->to[parts], short_sums = said[sums] > e->to[sums];
    for (int i = 0; i < 2; i++) e->wanted[i] = taut__min(e->stride[i], taut__round_up(said[i] + said[i] / 10, 16));
    if (!short_parts && !short_sums) return TAUT_OK;
    e->from[parts] = e->to[parts]; /* tails of those that were too short, nothing of the others */
    e->from[sums] = short_parts ? 0 : e->to[sums];
    for (int i = 0; i < 2; i++) e->to[i] = taut__max(e->to[i], e->wanted[i]);
    *again = true;
    make_again(red, e->way->again(short_parts));
    taut__log(TAUT_LOG_DEBUG, "comm", "%s: a payload of %zu bytes was longer than agreed: its tail travels",
              red->job.name, taut__max(said[parts], said[sums]));
    return TAUT_OK;
}

static taut_status check_flags(const taut__reduction *red)
{
    const taut__exchange *e = taut__exchange_of(red);
    uint32_t              all = e->here_ledger->codes.flags;
    for (int i = 0; i < 3; i++)
        for (size_t k = 0; k < (size_t)red->g->size * e->cells; k++) all |= told(e, i)[k].seen.flags;
    if (all & TAUT_FLAG_CORRUPT)
        return taut__fail(TAUT_E_CORRUPT, "a payload that came over %s is malformed", red->g->data->ops->name);
    if (all & TAUT_FLAG_RANGE)
        return taut__fail(TAUT_E_RANGE,
                          "a code exceeds what its integers hold: the agreed step is too small for these values");
    return all & TAUT_FLAG_FAILED ? taut__fail(TAUT_E_DEVICE, "codec work failed on the device") : TAUT_OK;
}

/* Of the slots of so many ranks. */
static uint64_t payload_sum(const taut__reduction *red, int set, int first, int n)
{
    const taut__exchange *e = taut__exchange_of(red);
    uint64_t              bytes = 0;
    for (size_t k = (size_t)first * e->cells; k < (size_t)(first + n) * e->cells; k++) bytes += told(e, set)[k].said;
    return bytes;
}

static void account_bytes(taut__reduction *red)
{
    const taut__exchange *e = taut__exchange_of(red);
    uint64_t              n = red->call.n, p = (uint64_t)red->g->size, mine = taut__part(&red->part, red->g->rank).n;
    uint64_t width = red->operand->dtype == TAUT_F32 ? 4 : 2, sum = payload_sum(red, TAUT_HALF_SUMS, red->g->rank, 1);
    taut__record *r = &red->record;
    if (e->way->slots == TAUT_SLOTS_NONE) {
        r->payload_bytes = r->payload_bytes ? r->payload_bytes : 4 * n;
        r->encoded = n;
        r->bytes_dense += 2 * n * 4 * (p - 1) / p;
    } else if (e->way->slots == TAUT_SLOTS_WHOLE) {
        r->payload_bytes = sum, r->encoded = n;
        r->bytes_dense += n * width * (p - 1);
    } else {
        bool reduces = red->halves & TAUT_REDUCE, gathers = red->halves & TAUT_GATHER;
        r->payload_bytes = payload_sum(red, e->way->contributions == 1 ? TAUT_HALF_PARTS : 2, 0, red->g->size),
        r->encoded = reduces ? n - mine : 0, r->sum_bytes = sum;
        r->bytes_dense += ((reduces ? n - mine : 0) + (gathers ? mine * (p - 1) : 0)) * width;
    }
}

static void account(taut__reduction *red)
{
    const taut__exchange *e = taut__exchange_of(red);
    const taut__ledger   *l = e->here_ledger;
    const taut_norm2     *lost = on_host(e, e->lost);
    taut__piece_done      done = {
             .own = l->own, .error = l->error[0], .requantization_error = l->requantized, .sum = l->sum};
    taut__add_norm(&done.error, l->error[1], 1);
    for (int q = 0; q < red->g->size; q++) taut__add_norm(&done.error, lost[q], 1);
    if (l->sum_flags & TAUT_FLAG_NOT_FINITE && atomic_load_explicit(&red->ctx->feeding, memory_order_relaxed))
        done.sum.plain = NAN;
    taut__account(red, &done);
    account_bytes(red);
    taut__trace_span(red->ctx->trace, &red->job, "wire", e->sent_s, taut__now(), red->record.bytes_sent);
}

/* A 16-bit result that overflowed: in a lane's thread, which waits for the device. */
static taut_status clamp(taut__reduction *red)
{
    taut__range  mine = taut__part(&red->part, red->g->rank);
    size_t       end = mine.first + mine.n;
    const float *from = taut__exchange_of(red)->val;
    bool         whole = red->halves & TAUT_GATHER;
    if (mine.first && whole) TAUT_TRY(taut__result_overflow(red, 0, mine.first, from, false));
    if (mine.n) TAUT_TRY(taut__result_overflow(red, mine.first, mine.n, from + mine.first, true));
    if (end < red->call.n && whole) TAUT_TRY(taut__result_overflow(red, end, red->call.n - end, from + end, false));
    if (red->watcher->enqueued) red->watcher->enqueued(red); /* the result has changed; this thread waits */
    return TAUT_OK;
}

/* It goes raw: x is on its way back. What was sampled of this try does not count. */
static taut_status put_back(taut__reduction *red, bool *done)
{
    red->watched = red->watcher->begin(red) & ~(unsigned)TAUT_WATCH_INPUT;
    *done = true;
    return TAUT_OK;
}

static taut_status look(taut__reduction *red, bool *moved, bool *done)
{
    taut__exchange    *e = taut__exchange_of(red);
    const taut__space *space = red->lane->space;
    bool               passed = false, ready, again;
    TAUT_TRY(red->g->data->ops->ready(red->g->data, &ready));
    TAUT_TRY(space->event_test(e->over, &passed));
    if (!passed) return TAUT_OK;
    *moved = true;
    if (e->agreed && !e->redone) TAUT_TRY(taut__agree_there_intact(red)); /* of which codec work may fail, too */
    if (space->failed) TAUT_TRY(space->failed(red->lane->place));
    if (e->agreed && !e->redone) TAUT_TRY(taut__agree_there_told(red, e->agreeing));
    if (e->agreed && taut__goes_raw(red)) return put_back(red, done);
    TAUT_TRY(decide(red, &again));
    if (again) return TAUT_OK;
    TAUT_TRY(check_flags(red));
    account(red);
    e->finishing = true;
    if (e->val && e->here_ledger->half_flags & TAUT_FLAG_NOT_FINITE) return taut__aside_begin(red, clamp);
    *done = true;
    return TAUT_OK;
}

static taut_status finish(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    red->settled = !taut__goes_raw(red);
    taut__lane_give_back(red->lane, e->memory);
    lay_out(red, NULL);
    if (red->settled) red->watcher->stored(red, 0, red->call.n);
    if (e->outside) red->work = e->outside;
    e->outside = NULL;
    return TAUT_OK;
}

static taut_status go(taut__reduction *red, bool *moved, bool *done)
{
    taut__exchange *e = taut__exchange_of(red);
    bool            here = false;
    if (e->finishing) {
        *moved = *done = true;
        return TAUT_OK;
    }
    if (!e->asked) {
        TAUT_TRY(taut__lineup_ask(red, &e->turn, e->wanted));
        e->asked = *moved = true;
    }
    if (e->looking) return look(red, moved, done);
    TAUT_TRY(taut__lineup_advance(red, &e->turn, moved, &here));
    if (!here) return TAUT_OK;
    if (!e->memory) TAUT_TRY(take_memory(red));
    return e->memory ? enqueue(red, moved) : TAUT_OK;
}

taut_status taut__exchange_advance(taut__reduction *red, bool *moved, bool *done)
{
    taut_status s = go(red, moved, done);
    if (s == TAUT_OK) return *done ? finish(red) : TAUT_OK;
    return taut__fail(s, "%s: %s", red->job.name, taut_last_error());
}

int taut__exchange_waiting_for(const taut__reduction *red, int *hops)
{
    const taut__exchange *e = taut__exchange_of(red);
    if (e->asked && !e->turn.given) return taut__lineup_waiting_for(&e->turn, hops);
    return red->g->data->ops->waiting_for(red->g->data);
}

void taut__exchange_cancel(taut__reduction *red)
{
    if (red->work) taut__lineup_cancel(&taut__exchange_of(red)->turn);
}

/* ---- at once ---- */

size_t taut__exchange_bytes(taut__reduction *red) { return lay_out(red, NULL); }

/* The device is not waited for, only the data half: one that does not block takes a group a little later, and NCCL may connect ranks, one of
 * which is not there. */
static taut_status await_taken(taut__reduction *red)
{
    taut__data *d = red->g->data;
    double      begin = taut__now(), limit = red->ctx->set.c.timeout_ms * 1e-3;
    for (bool ready = false;;) {
        TAUT_TRY(d->ops->ready(d, &ready));
        if (ready) return TAUT_OK;
        if (limit >= 0 && taut__now() - begin > limit)
            return taut__fail(TAUT_E_TIMEOUT, "%s: %s has not taken what was enqueued within %d ms", red->job.name,
                              d->ops->name, (int)red->ctx->set.c.timeout_ms);
        sched_yield();
    }
}

static taut_status enqueue_all(taut__reduction *red)
{
    taut__exchange    *e = taut__exchange_of(red);
    const taut__space *space = red->lane->space;
    size_t             agreeing = e->agreeing ? taut__agree_there_stages(red) : 0;
    TAUT_TRY(space->fill(red->lane->place, e->ledger, 0, e->ledger_bytes));
    for (bool more = true; more;) {
        TAUT_TRY(await_taken(red));
        more = e->agreed < agreeing || e->stage < e->way->stages(red);
        if (more) TAUT_TRY(enqueue_next(red, agreeing));
    }
    return space->copy(red->lane->place, e->here_ledger, e->ledger, e->ledger_bytes);
}

/* ---- in a graph ---- */

taut_status taut__exchange_capture(taut__reduction *red, void *memory)
{
    taut__exchange *e = taut__exchange_of(red);
    TAUT_TRY(taut__space_use(red->lane->space, red->lane->place));
    TAUT_TRY(taut__exchange_begin(red));
    e->in_graph = true;
    use_memory(red, memory);
    TAUT_TRY(enqueue_all(red));
    return e->agreed ? taut__agree_there_end(red) : TAUT_OK;
}

taut_status taut__exchange_replayed(taut__reduction *red, void *memory, taut_place place)
{
    taut__exchange *e = taut__exchange_of(red);
    TAUT_TRY(taut__space_use(red->lane->space, place));
    TAUT_TRY(taut__exchange_begin(red));
    use_memory(red, memory);
    e->agreed = e->agreeing ? taut__agree_there_stages(red) : 0;
    e->stage = e->way->stages(red);
    e->sent_s = taut__now();
    e->asked = e->looking = true;
    TAUT_TRY(red->lane->space->event_record(e->over, place));
    return red->lane->space->event_hold(e->over, red->lane->place); /* a second round comes behind it */
}

/* Where it fails half-way, the event says when what has been enqueued is over. */
taut_status taut__exchange_at_once(taut__reduction *red, void *memory)
{
    taut__exchange    *e = taut__exchange_of(red);
    const taut__space *space = red->lane->space;
    TAUT_TRY(taut__space_use(space, red->lane->place));
    TAUT_TRY(taut__exchange_begin(red));
    lay_out(red, memory);
    for (int i = 0; i < 2; i++) e->to[i] = e->wanted[i];
    taut_status all = enqueue_all(red), over = space->event_record(e->over, red->lane->place);
    return all == TAUT_OK ? over : all;
}

taut_status taut__exchange_told(taut__reduction *red, bool *told_now)
{
    TAUT_TRY(taut__space_use(red->lane->space, red->lane->place));
    TAUT_TRY(red->lane->space->event_test(taut__exchange_of(red)->over, told_now));
    if (!*told_now) return TAUT_OK;
    account(red);
    return check_flags(red);
}
