/* enqueued.c : see enqueued.h. */
#include "enqueued.h"

static const taut__lane *lane_of(const taut__reduction *red) { return red->lane; }
static taut_place        place_of(const taut__reduction *red) { return red->lane->place; }

uint8_t *taut__slot_of(const taut__reduction *red, uint8_t *slots, int half, int q)
{
    return slots + (size_t)q * taut__exchange_of(red)->stride[half];
}

/* ---- norms: into the ledger ---- */

static taut_status norm(const taut__reduction *red, const float *x, taut__range r, taut_norm2 *out, uint32_t *flags)
{
    return r.n ? lane_of(red)->vectors->norm2(place_of(red), red->call.tensor, x, r.first, r.n, out, flags) : TAUT_OK;
}

/* ---- x ---- */

taut_status taut__enqueue_x(taut__reduction *red, const float **x, float **err)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__range     all = taut__whole(red);
    *x = taut__form(red, 0, red->call.n);
    *err = taut__err_of(red);
    red->formed = true;
    if (!taut__agree_knows_norms(red)) TAUT_TRY(norm(red, *x, all, &e->ledger->own, &e->ledger->own_flags));
    taut__tell_sample(red, all, *x);
    return TAUT_OK;
}

/* ---- cells ---- */

taut__range taut__cell_of(const taut__reduction *red, taut__range r, size_t k)
{
    if (taut__exchange_of(red)->cells == 1) return r;
    size_t at = taut__min(k * red->part.sub, r.n);
    return (taut__range){r.first + at, taut__min(red->part.sub, r.n - at)};
}

taut_piece taut__piece_encode(const taut__reduction *red, taut__range r, size_t k, const float *x, float *err,
                              uint8_t *slot, int half)
{
    const size_t bytes = taut__exchange_of(red)->cell[half];
    taut__range  cell = taut__cell_of(red, r, k);
    uint8_t     *at = slot + k * bytes;
    return (taut_piece){.call = taut__slice_call(red, cell.first, cell.n),
                        .src = x ? x + cell.first : NULL,
                        .err = err ? err + cell.first : NULL,
                        .payload = taut__slot_payload(at),
                        .cap = bytes - TAUT_SLOT_HEADER,
                        .outcome = taut__slot_outcome(at)};
}

/* Work on all cells of a slot, in batches; make: the piece of cell k. */
typedef struct cells {
    const taut__reduction *red;
    taut__range            r;
    const float           *x;
    float                 *err, *dst;
    uint8_t               *slot;
    int                    half;
    taut__admitted        *seen;
} cells;

static taut_piece encode_cell(const cells *c, size_t k)
{
    return taut__piece_encode(c->red, c->r, k, c->x, c->err, c->slot, c->half);
}

static taut_piece decode_cell(const cells *c, size_t k)
{
    taut__range r = taut__cell_of(c->red, c->r, k);
    return (taut_piece){.call = taut__slice_call(c->red, r.first, r.n),
                        .outcome = &c->seen[k].seen,
                        .dst = c->dst + (r.first - c->r.first),
                        .payload = taut__slot_payload(c->slot + k * taut__exchange_of(c->red)->cell[c->half])};
}

enum { BATCH = 64 };
typedef struct batch {
    const taut__reduction *red;
    taut__op               op;
    size_t                 n;
    taut_piece             piece[BATCH];
} batch;

static taut_status flush(batch *b)
{
    size_t n = b->n;
    b->n = 0;
    return taut__enqueue_pieces(b->red, b->op, b->piece, n);
}

static taut_status add_cells(batch *b, const cells *c, taut_piece (*make)(const cells *c, size_t k))
{
    size_t all = taut__exchange_of(c->red)->cells;
    for (size_t k = 0; k < all && taut__cell_of(c->red, c->r, k).n > 0; k++) {
        b->piece[b->n++] = make(c, k);
        if (b->n == BATCH) TAUT_TRY(flush(b));
    }
    return TAUT_OK;
}

static taut_status all_cells(const cells *c, taut__op op, taut_piece (*make)(const cells *c, size_t k))
{
    batch b;
    b.red = c->red, b.op = op, b.n = 0;
    TAUT_TRY(add_cells(&b, c, make));
    return flush(&b);
}

taut_status taut__enqueue_encode(const taut__reduction *red, taut__range r, const float *x, float *err, uint8_t *slot,
                                 int half)
{
    return all_cells(&(cells){.red = red, .r = r, .x = x, .err = err, .slot = slot, .half = half}, TAUT_OP_ENCODE,
                     encode_cell);
}

taut_status taut__enqueue_encode_others(const taut__reduction *red, const float *x, float *err, uint8_t *slots,
                                        int half)
{
    batch b;
    b.red = red, b.op = TAUT_OP_ENCODE, b.n = 0;
    for (int q = 0; q < red->g->size; q++) {
        cells c = {.red = red, .x = x, .err = err, .half = half};
        c.r = taut__part(&red->part, q), c.slot = taut__slot_of(red, slots, half, q);
        if (q != red->g->rank) TAUT_TRY(add_cells(&b, &c, encode_cell));
    }
    return flush(&b);
}

/* All ranks' parts from their slots to dst, which is where the first one goes. In as few launches as one. */
static taut_status decode_all(const taut__reduction *red, uint8_t *slots, int half, float *dst)
{
    batch b;
    b.red = red, b.op = TAUT_OP_DECODE, b.n = 0;
    for (int q = 0; q < red->g->size; q++) {
        cells c = {.red = red, .half = half, .seen = taut__seen_of(red, half, q)};
        c.r = taut__part(&red->part, q), c.slot = taut__slot_of(red, slots, half, q), c.dst = dst + c.r.first;
        TAUT_TRY(add_cells(&b, &c, decode_cell));
    }
    return flush(&b);
}

taut_status taut__enqueue_pieces(const taut__reduction *red, taut__op op, const taut_piece *pieces, size_t n)
{
    return n ? taut__enqueue(op, taut__codec_of(red), pieces, n, place_of(red)) : TAUT_OK;
}

static taut_status clear(taut__reduction *red, taut__range r)
{
    return red->operand->feedback && r.n ? taut__feedback_clear(red->operand->feedback, r.first, r.n) : TAUT_OK;
}

static taut_status own_codes(taut__reduction *red, taut__range r, const float *x, float *err, int32_t *codes)
{
    taut_piece p = {.call = taut__slice_call(red, r.first, r.n),
                    .src = x + r.first,
                    .err = err + r.first,
                    .codes = codes,
                    .limit = INT32_MAX / red->g->size,
                    .outcome = &taut__exchange_of(red)->ledger->codes};
    return taut__enqueue_pieces(red, TAUT_OP_QUANTIZE, &p, 1);
}

taut_status taut__enqueue_own(taut__reduction *red, taut__range r, const float *x, float *err, uint8_t *slot, void *acc)
{
    if (r.n == 0) return TAUT_OK;
    if (taut__adds_codes(red)) return own_codes(red, r, x, err, acc);
    if (taut__sums_exact(red)) {
        taut_piece p = taut__piece_encode(red, r, 0, x, err, slot, TAUT_HALF_SUMS);
        TAUT_TRY(taut__enqueue_pieces(red, TAUT_OP_ENCODE, &p, 1));
        p.dst = acc;
        return taut__enqueue_pieces(red, TAUT_OP_DECODE, &p, 1);
    }
    TAUT_TRY(lane_of(red)->space->copy(place_of(red), acc, x + r.first, r.n * sizeof *x));
    return clear(red, r);
}

taut_status taut__enqueue_left(taut__reduction *red, taut__range r, const float *err, taut_norm2 *norms)
{
    if (r.n == 0 || (red->call.spec->stages == 1 && taut__spec_caps(red->call.spec) & TAUT_CAP_LOSSLESS))
        return TAUT_OK;
    TAUT_TRY(norm(red, err + r.first, r, norms, NULL));
    taut__tell_lost(red, r, err + r.first, 1);
    return red->operand->feedback_on ? taut__feedback_output(red->operand->feedback, r.first, r.n) : TAUT_OK;
}

/* ---- sums ---- */

/* Codes are as wide as floats. */
static taut_piece add_cell(const cells *c, size_t k)
{
    taut_piece p = decode_cell(c, k);
    p.codes = (int32_t *)(void *)p.dst;
    p.dst = NULL;
    return p;
}

taut_status taut__enqueue_add(taut__reduction *red, taut__range r, uint8_t *slot, int half, taut__admitted *seen,
                              void *acc, bool first)
{
    cells c = {.red = red, .r = r, .slot = slot, .half = half, .seen = seen, .dst = acc};
    if (r.n == 0) return TAUT_OK;
    if (taut__adds_codes(red)) return all_cells(&c, TAUT_OP_UNPACK_ADD, add_cell);
    return all_cells(&c, first ? TAUT_OP_DECODE : TAUT_OP_DECODE_ADD, decode_cell);
}

taut_status taut__enqueue_anew(taut__reduction *red, uint8_t *slot)
{
    taut__ledger *l = taut__exchange_of(red)->ledger;
    TAUT_TRY(lane_of(red)->space->fill(place_of(red), &l->sum_flags, 0, sizeof l->sum_flags));
    TAUT_TRY(lane_of(red)->space->fill(place_of(red), &l->half_flags, 0, sizeof l->half_flags));
    return slot ? lane_of(red)->space->fill(place_of(red), slot, 0, TAUT_SLOT_HEADER) : TAUT_OK;
}

taut_status taut__enqueue_bad(taut__reduction *red, const float *sum, taut__range r)
{
    taut__ledger *l = taut__exchange_of(red)->ledger;
    if (!atomic_load_explicit(&red->ctx->feeding, memory_order_relaxed)) return TAUT_OK;
    return norm(red, sum, r, &l->sum, &l->sum_flags);
}

/* residual += factor * lost, 0 where that is not finite; lost is spoilt. */
static taut_status keep(taut__reduction *red, taut__range r, float *lost, float factor)
{
    const taut__vectors *v = lane_of(red)->vectors;
    float               *residual = red->operand->feedback->r + r.first;
    TAUT_TRY(v->scale(place_of(red), lost, factor, r.n));
    TAUT_TRY(v->add(place_of(red), residual, TAUT_F32, lost, r.n));
    return v->scrub(place_of(red), residual, r.n, taut__exchange_of(red)->found);
}

/* A cell of a sum, which lies in acc from r.first on. */
static taut_piece sum_cell(const cells *c, size_t k)
{
    bool       lossless = !c->err;
    taut_piece p = taut__piece_encode(c->red, c->r, k, NULL, NULL, c->slot, TAUT_HALF_SUMS);
    size_t     at = p.call.first - c->r.first;
    p.src = c->x + at;
    p.err = lossless ? NULL : c->err + at;
    if (c->red->halves == TAUT_GATHER) p.call.calibration = NULL;
    p.call.seed = taut__seed(p.call.seed, (uint64_t)c->half); /* of the sum's round */
    return p;
}

taut_status taut__enqueue_sum(taut__reduction *red, taut__range r, void *acc, uint64_t round, float scale,
                              uint8_t *slot, taut_norm2 *lost)
{
    bool  exact = taut__sums_exact(red), lossless = exact || taut__spec_caps(red->call.spec) & TAUT_CAP_LOSSLESS;
    cells c = {.red = red, .r = r, .x = acc, .err = lossless ? NULL : acc, .slot = slot, .half = (int)round};
    if (r.n == 0) return TAUT_OK;
    if (taut__adds_codes(red)) {
        taut_piece p = taut__piece_encode(red, r, 0, NULL, NULL, slot, TAUT_HALF_SUMS);
        p.codes = acc, p.src = NULL;
        return taut__enqueue_pieces(red, TAUT_OP_PACK, &p, 1);
    }
    TAUT_TRY(all_cells(&c, exact ? TAUT_OP_ENCODE_EXACT : TAUT_OP_ENCODE, sum_cell));
    if (lossless || red->halves == TAUT_GATHER) return TAUT_OK;
    TAUT_TRY(norm(red, acc, r, lost, NULL));
    taut__tell_lost(red, r, acc, 1 / scale);
    return red->operand->feedback_on ? keep(red, r, acc, 1 / scale) : TAUT_OK;
}

/* ---- results ---- */

float *taut__enqueued_result(const taut__reduction *red)
{
    return red->operand->dtype == TAUT_F32 ? red->buf : taut__exchange_of(red)->val;
}

/* Whether a 16-bit result overflowed is looked for in floats again, where acc lay. */
static taut_status store_half(taut__reduction *red, const float *from, taut__range r)
{
    const taut__lane *lane = lane_of(red);
    taut__exchange   *e = taut__exchange_of(red);
    taut_dtype        dtype = red->operand->dtype;
    size_t            n = r.n;
    void             *wide = NULL, *to = (uint16_t *)red->buf + r.first;
    if (n == 0) return TAUT_OK;
    TAUT_TRY(lane->vectors->convert(lane->place, to, dtype, from + r.first, TAUT_F32, n));
    if (!red->operand->lossy) return TAUT_OK;
    TAUT_TRY(lane->space->alloc_in(lane->place, n * sizeof(float) + sizeof(taut_norm2), &wide));
    taut_tensor flat = {.elems = n, .rows = n, .cols = 1};
    float      *x = (float *)(void *)((char *)wide + sizeof(taut_norm2));
    taut_status s = lane->vectors->convert(lane->place, x, TAUT_F32, to, dtype, n);
    if (s == TAUT_OK) s = lane->vectors->norm2(lane->place, &flat, x, 0, n, wide, &e->ledger->half_flags);
    lane->space->release_in(lane->place, wide);
    return s;
}

taut_status taut__enqueue_results(taut__reduction *red, float factor, taut__range all, taut__range mine)
{
    taut__ledger *l = taut__exchange_of(red)->ledger;
    float        *x = taut__enqueued_result(red);
    if (factor != 1.0f && all.n) TAUT_TRY(lane_of(red)->vectors->scale(place_of(red), x + all.first, factor, all.n));
    TAUT_TRY(norm(red, x + mine.first, mine, &l->sum, &l->sum_flags));
    return red->operand->dtype == TAUT_F32 ? TAUT_OK : store_half(red, x, all);
}

taut_status taut__enqueue_sums(taut__reduction *red, taut__range mine)
{
    taut__exchange *e = taut__exchange_of(red);
    const int       sums = TAUT_HALF_SUMS;
    TAUT_TRY(taut__enqueue_admit(red, e->sums, sums, e->admitted[sums], NULL));
    TAUT_TRY(decode_all(red, e->sums, sums, taut__enqueued_result(red)));
    return taut__enqueue_results(red, taut__adds_codes(red) ? red->factor : 1, taut__whole(red), mine);
}

/* ---- slots ---- */

taut_status taut__enqueue_clear(const taut__reduction *red, uint8_t *slots, int half)
{
    const taut__exchange *e = taut__exchange_of(red);
    return taut__space_fill_rows(lane_of(red)->space, place_of(red), slots, e->cell[half], 0, TAUT_SLOT_HEADER,
                                 (size_t)red->g->size * e->cells);
}

taut_status taut__enqueue_admit(taut__reduction *red, uint8_t *slots, int half, taut__admitted *out, taut_outcome *sum)
{
    const taut__exchange *e = taut__exchange_of(red);
    size_t room = taut__min(e->to[half], e->cell[half]) - TAUT_SLOT_HEADER; /* several cells travel as they are */
    return lane_of(red)->vectors->admit(place_of(red), slots, e->cell[half], (size_t)red->g->size * e->cells, room, out,
                                        sum);
}

/* ---- groups ---- */

static taut__data *data_of(const taut__reduction *red) { return red->g->data; }

/* A group that was begun is ended, whatever happens in it: NCCL counts them by thread. */
static taut_status end_group(taut__data *d, taut_status s)
{
    taut_status ended = d->ops->group_end(d);
    return s == TAUT_OK ? ended : s;
}

static taut_status to_and_fro(taut__reduction *red, uint8_t *out, uint8_t *in, int half, bool all)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__data     *d = data_of(red);
    size_t          from = e->from[half], n = e->to[half] - from;
    taut_status     s = TAUT_OK;
    for (int i = 1; i < red->g->size && s == TAUT_OK; i++) {
        int q = (red->g->rank + i) % red->g->size, r = taut__mod(red->g->rank - i, red->g->size);
        s = d->ops->send(d, q, taut__slot_of(red, out, half, all ? red->g->rank : q) + from, n);
        if (s == TAUT_OK) s = d->ops->recv(d, r, taut__slot_of(red, in, half, r) + from, n);
    }
    return s;
}

static bool all_of_it(const taut__exchange *e, int half)
{
    return e->from[half] == 0 && e->to[half] == e->stride[half];
}

taut_status taut__group_exchange(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__data     *d = data_of(red);
    if (e->from[TAUT_HALF_PARTS] == e->to[TAUT_HALF_PARTS]) return TAUT_OK;
    if (d->ops->exchange && all_of_it(e, TAUT_HALF_PARTS))
        return d->ops->exchange(d, e->out, e->in, e->stride[TAUT_HALF_PARTS], place_of(red));
    TAUT_TRY(d->ops->group_begin(d, place_of(red)));
    return end_group(d, to_and_fro(red, e->out, e->in, TAUT_HALF_PARTS, false));
}

taut_status taut__group_gather(taut__reduction *red)
{
    taut__exchange *e = taut__exchange_of(red);
    taut__data     *d = data_of(red);
    if (e->from[TAUT_HALF_SUMS] == e->to[TAUT_HALF_SUMS]) return TAUT_OK;
    if (d->ops->gather && all_of_it(e, TAUT_HALF_SUMS))
        return d->ops->gather(d, taut__slot_of(red, e->sums, TAUT_HALF_SUMS, red->g->rank), e->sums,
                              e->stride[TAUT_HALF_SUMS], place_of(red));
    TAUT_TRY(d->ops->group_begin(d, place_of(red)));
    return end_group(d, to_and_fro(red, e->sums, e->sums, TAUT_HALF_SUMS, true));
}

taut_status taut__group_pass(taut__reduction *red, int to, const uint8_t *out, int from, uint8_t *in, size_t bytes)
{
    taut__data *d = data_of(red);
    TAUT_TRY(d->ops->group_begin(d, place_of(red)));
    taut_status s = d->ops->send(d, to, out, bytes);
    if (s == TAUT_OK) s = d->ops->recv(d, from, in, bytes);
    return end_group(d, s);
}
