/* pipeline.c : see pipeline.h. */
#include "pipeline.h"
#include "placed.h"
#include "../context/joint.h"

/* ---- slots ---- */

static taut__request **requests_of(void *slot)
{
    return slot;
} /* a slot begins with the pointer to them, as its memory does */

taut_status taut__pipeline_prepare(taut__reduction *red, const taut__pipeline_ops *ops, size_t work_bytes,
                                   size_t slices, size_t elems, size_t most)
{
    size_t          threads = (size_t)taut__executor_threads(taut__host_lane(red->ctx)->executor);
    size_t          slots = taut__min(taut__slots_for(slices, threads), most);
    taut__pipeline *p = taut__alloc(1, work_bytes + slots * ops->slot_bytes);
    if (!p) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    red->work = p;
    p->ops = ops;
    p->slots = slots;
    p->slices = slices;
    p->slot = (char *)p + work_bytes;
    p->frame = taut__round_up(taut__frame_capacity(red->call.spec, red->call.tensor, elems), 64);
    taut__slots_need(&red->slots, ops->lay_out(red, p->slot, NULL), ops->requests(red), slots);
    *requests_of(p->slot) = NULL; /* counting is no lease */
    return taut__context_scratch(red->lane, elems, p->frame);
}

void taut__pipeline_release(taut__reduction *red)
{
    taut__free(red->work);
    red->work = NULL;
}

taut_status taut__pipeline_begin(taut__reduction *red)
{
    taut__pipeline_of(red)->encoded = taut__pipeline_of(red)->finished = 0;
    return TAUT_OK;
}

bool taut__pipeline_open(taut__reduction *red, size_t k)
{
    taut__pipeline *p = taut__pipeline_of(red);
    void           *slot = taut__pipeline_slot(red, k);
    size_t          requests = p->ops->requests(red), bytes = p->ops->lay_out(red, slot, NULL);
    void           *memory = taut__slots_take(&red->slots, bytes, requests);
    p->ops->lay_out(red, slot, memory);
    if (!memory) return false;
    taut__requests_init(*requests_of(slot), requests);
    return true;
}

static void close_slot(taut__reduction *red, size_t k)
{
    taut__request **r = requests_of(taut__pipeline_slot(red, k));
    taut__slots_give(&red->slots, *r);
    *r = NULL;
}

void taut__pipeline_cancel(taut__reduction *red)
{
    taut__pipeline *p = taut__pipeline_of(red);
    if (p) taut__executor_settle(red->lane->executor, &p->batch), p->pieces = 0;
    for (size_t i = 0; p && i < p->slots; i++) {
        taut__request *r = *requests_of(taut__pipeline_slot(red, i));
        for (size_t q = 0; r && q < p->ops->requests(red); q++) red->g->t->ops->cancel(red->g->t, &r[q]);
    }
}

int taut__pipeline_waiting(const taut__reduction *red, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        for (size_t k = 0; k < taut__pipeline_of(red)->slots; k++) {
            const taut__request *r = *requests_of(taut__pipeline_slot(red, k));
            if (r && !taut__done(&r[i])) return r[i].peer;
        }
    return -1;
}

const char *taut__pipeline_cannot(const taut_spec *spec)
{
    return taut__spec_caps(spec) & TAUT_CAP_SLICEABLE ? NULL : "codes whole tensors only";
}

/* ---- pieces ---- */

/* On the host each piece has a thread. */
bool taut__pipeline_room(const taut__reduction *red)
{
    size_t most =
        taut__at_home(red) ? taut__min(TAUT_PIECES, (size_t)taut__executor_threads(red->lane->executor)) : TAUT_PIECES;
    return taut__pipeline_of(red)->pieces < most;
}

void taut__pipeline_add(taut__reduction *red, taut__piece p)
{
    taut__pipeline_of(red)->piece[taut__pipeline_of(red)->pieces++] = p;
}

static void work(void *ctx, size_t i, int worker)
{
    taut__reduction  *red = ctx;
    taut__pipeline   *p = taut__pipeline_of(red);
    taut__piece_done *done = &p->piece[i].done;
    done->status = taut__space_use(red->lane->space, red->lane->place);
    taut__joint_enter(red->lane);
    if (done->status == TAUT_OK) p->ops->work(red, &p->piece[i], red->lane->scratch[worker]);
    taut__joint_leave(red->lane);
    if (done->status == TAUT_OK) done->status = taut__placed_wait(red);
    if (done->status == TAUT_OK) done->status = taut__placed_check(red);
    done->why = done->status == TAUT_OK ? NULL : taut_last_error();
}

/* The pieces that have been chosen are done: on the host when this returns; elsewhere other jobs go on until they are. */
static bool done(taut__reduction *red, bool *moved)
{
    taut__pipeline *p = taut__pipeline_of(red);
    taut__executor *e = red->lane->executor;
    if (taut__at_home(red)) {
        taut__executor_run(e, work, red, p->pieces);
        return *moved = true;
    }
    if (!p->batch.under_way) {
        taut__executor_submit(e, &p->batch, work, red, p->pieces);
        *moved = true;
        return false;
    }
    bool over = taut__executor_poll(e, &p->batch);
    *moved |= over;
    return over;
}

static taut_status settle(taut__reduction *red)
{
    taut__pipeline *p = taut__pipeline_of(red);
    taut_status     s = TAUT_OK;
    taut__trace_span(red->ctx->trace, &red->job, p->ops->name[p->piece[0].what], p->begin_s, taut__now(),
                     p->piece[0].done.bytes);
    for (size_t i = 0; i < p->pieces && s == TAUT_OK; i++) {
        const taut__piece_done *d = &p->piece[i].done;
        s = d->status == TAUT_OK ? TAUT_OK : taut__fail(d->status, "%s", d->why);
        if (s == TAUT_OK) taut__account(red, d);
        if (s == TAUT_OK) s = p->ops->settle(red, &p->piece[i]);
    }
    p->pieces = 0;
    return s;
}

taut_status taut__pipeline_advance(taut__reduction *red, bool *moved, bool *over)
{
    taut__pipeline *p = taut__pipeline_of(red);
    if (p->pieces == 0) { /* else they are under way */
        TAUT_TRY(p->ops->choose(red, moved));
        p->begin_s = taut__now();
    }
    if (p->pieces > 0) {
        if (!done(red, moved)) return TAUT_OK;
        TAUT_TRY(settle(red));
    }
    for (; p->finished < p->encoded && p->ops->over(red, p->finished); *moved = true) close_slot(red, p->finished++);
    *over = p->finished == p->slices;
    return TAUT_OK;
}

/* ---- frames ---- */

taut_status taut__frame_send(taut__reduction *red, taut__request *r, int q, int tag, const uint8_t *frame, size_t bytes,
                             size_t n)
{
    red->record.bytes_sent += bytes;
    red->record.bytes_dense += n * (red->operand->dtype == TAUT_F32 ? 4 : 2);
    return taut__isend(red->g, r, q, red->job.tag + tag, frame, bytes);
}

taut_status taut__frame_fits(const taut__reduction *red, const taut__request *r)
{
    if (r->got <= r->bytes) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "%s: rank %d sent %zu bytes where at most %zu were expected", red->job.name,
                      r->peer, r->got, r->bytes);
}

/* ---- what pieces of work are made of ---- */

taut_status taut__own_contribution(taut__reduction *red, taut__range r, uint8_t *frame, float *scratch, void *acc,
                                   taut__piece_done *done)
{
    taut_call c = taut__slice_call(red, r.first, r.n);
    if (taut__adds_codes(red)) {
        taut__quantize_x(red, r, acc, taut__code_limit(red), scratch, done);
        return done->status;
    }
    if (!frame || red->halves == TAUT_GATHER) {
        taut__own_x(red, r, acc, done);
        return TAUT_OK;
    }
    taut__encode_x(red, r, frame, taut__pipeline_of(red)->frame, scratch, done);
    TAUT_TRY(done->status);
    return taut__placed_take(red, TAUT_OP_DECODE, &(taut_piece){.call = c, .dst = acc}, frame, done->bytes, scratch);
}

taut_status taut__add_frame(taut__reduction *red, taut__range r, const taut__request *in, const uint8_t *frame,
                            void *acc, float *scratch)
{
    taut_call c = taut__slice_call(red, r.first, r.n);
    TAUT_TRY(taut__frame_fits(red, in));
    taut_piece p = {.call = c, .dst = acc, .codes = acc};
    return taut__placed_take(red, taut__adds_codes(red) ? TAUT_OP_UNPACK_ADD : TAUT_OP_DECODE_ADD, &p, frame, in->got,
                             scratch);
}

taut_status taut__encode_sum(taut__reduction *red, taut__range r, void *acc, uint64_t round, float scale,
                             uint8_t *frame, size_t *bytes, taut_norm2 *lost, float *scratch)
{
    taut_piece p = {.call = taut__slice_call(red, r.first, r.n), .src = acc, .codes = acc};
    size_t     room = taut__pipeline_of(red)->frame;
    bool       exact = taut__sums_exact(red), lossless = exact || taut__spec_caps(p.call.spec) & TAUT_CAP_LOSSLESS;
    if (taut__adds_codes(red)) return taut__placed_make(red, TAUT_OP_PACK, &p, frame, room, bytes, scratch);
    if (red->halves == TAUT_GATHER) p.call.calibration = NULL;
    p.call.seed = taut__seed(p.call.seed, round);
    p.err = lossless ? NULL : acc;
    TAUT_TRY(taut__placed_make(red, exact ? TAUT_OP_ENCODE_EXACT : TAUT_OP_ENCODE, &p, frame, room, bytes, scratch));
    if (lossless || red->halves == TAUT_GATHER) return TAUT_OK;
    *lost = taut__norms_of(red, acc, r);
    taut__keep_requantization_error(red, r, acc, 1 / scale);
    return TAUT_OK;
}

taut_status taut__store_sum(taut__reduction *red, taut__range r, const uint8_t *frame, size_t bytes, float *scratch,
                            taut_norm2 *sum)
{
    float *to = taut__result_at(red, r.first, scratch);
    TAUT_TRY(taut__placed_take(red, TAUT_OP_DECODE,
                               &(taut_piece){.call = taut__slice_call(red, r.first, r.n), .dst = to}, frame, bytes,
                               scratch));
    if (taut__adds_codes(red)) {
        taut__store_scaled(red, r, to, sum);
        return TAUT_OK;
    }
    if (sum && red->halves & TAUT_REDUCE) taut__add_norm(sum, taut__norms_of(red, to, r), 1);
    taut__result_store(red, r.first, r.n, to, sum != NULL);
    return TAUT_OK;
}

void taut__finish_floats(taut__reduction *red, taut__range r, float *acc, taut__piece_done *done)
{
    bool whole = red->halves & TAUT_GATHER;
    if (red->factor != 1.0f) taut__placed_scale(red, acc, red->factor, r.n);
    done->sum = whole ? taut__sum_bad(red, acc, r) : taut__sum_norms(red, acc, r);
    if (!whole) taut__result_store(red, r.first, r.n, acc, true);
}
