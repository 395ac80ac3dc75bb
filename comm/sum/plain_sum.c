/* plain_sum.c : see plain_sum.h.
 *
 * Slice k passes through: started (contributions sent, receives posted), reduced (all arrived and added, sums sent),
 * posted (receives of the sums posted; only after the contributions that they overwrite have left), finished. Each
 * counter moves in order of k, because messages of one sender and tag are matched in the order of sending. A slice has a slot
 * from start to finish; while there is none for the next slice, those under way go on. */
#include "plain_sum.h"
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../../compressors/vectors.h"

static size_t bytes_of(size_t n) { return 4 * n; }
static char  *at(const taut__plain_sum *r, size_t element) { return r->x + bytes_of(element); }

/* In host memory: what rank q owns of slice k. */
static char *part_at(const taut__plain_sum *r, int q, size_t k)
{
    if (!r->space) return at(r, taut__sub(&r->part, q, k).first);
    return r->stage + bytes_of((k % TAUT_SLOTS * (size_t)r->g->size + (size_t)q) * r->part.sub);
}
/* All of a small sum. */
static char *small_at(const taut__plain_sum *r) { return r->space ? r->stage : r->x; }

static taut__partition cut(const taut__plain_sum *r, size_t n)
{
    taut__partition p = taut__partition_of(n, r->g->size, r->block, r->slice);
    if (p.sub > r->most) p.sub = taut__max(1, r->most), p.slices = taut__ceil_div(taut__part(&p, 0).n, p.sub);
    return p;
}

/* memory: of a slot for sub-slices of `sub` numbers; NULL: counts its bytes. */
static size_t lay_out(const taut__plain_sum *r, taut__plain_sum_slot *s, void *memory, size_t sub)
{
    size_t       size = (size_t)r->g->size;
    taut__carver c = {memory, 0};
    s->out1 = taut__carve(&c, 4 * size, sizeof *s->out1);
    s->in = taut__carve(&c, bytes_of((size - 1) * sub), 1);
    return c.bytes;
}

static taut_status prepare_stage(taut__plain_sum *r, taut_place place, size_t slices, size_t small)
{
    if (taut__on_host(place)) return TAUT_OK;
    r->place = place;
    r->space = taut__memory_of(place.space);
    if (!r->space) return TAUT_E_UNSUPPORTED;
    for (int i = 0; i < TAUT_SLOTS; i++) TAUT_TRY(r->space->event_create(place, &r->slot[i].copied));
    size_t bytes = taut__max(slices, small);
    r->stage = taut__staging_alloc(&r->stage_made, &(taut__staging){r->space, r->place}, taut__max(bytes, 1));
    return r->stage ? TAUT_OK
                    : taut__fail(TAUT_E_NOMEM, "out of memory for %zu bytes between device and network", bytes);
}

void taut__plain_sum_release(taut__plain_sum *r)
{
    bool here = r->space && r->stage && taut__space_use(r->space, r->place) == TAUT_OK;
    if (here) r->space->wait(r->place); /* copies may be under way, if the sum was given up */
    for (int i = 0; r->space && i < TAUT_SLOTS; i++) {
        r->space->event_destroy(r->slot[i].copied);
        r->slot[i].copied = NULL;
    }
    taut__staging_free(&r->stage_made, r->stage);
    r->stage = NULL;
    r->space = NULL;
}

taut_status taut__plain_sum_prepare(taut__plain_sum *r, const taut__group *g, int tag, size_t n, size_t block,
                                    size_t slice, taut__slots *slots, taut_place place)
{
    taut__plain_sum_release(r);
    *r = (taut__plain_sum){.g = g, .tag = tag, .slots = slots, .block = block, .slice = slice, .most = SIZE_MAX};
    taut__plain_sum_slot s;
    taut__partition      p = cut(r, n);
    size_t               room = slots->bytes, head = lay_out(r, &s, NULL, 0), each = bytes_of((size_t)g->size - 1);
    if (room > 0 && lay_out(r, &s, NULL, p.sub) > room) {
        r->most = room > head ? (room - head) / each / block * block : 0;
        r->most = taut__max(r->most, block);
        p = cut(r, n);
    }
    r->small_room = taut__min(bytes_of(n), TAUT_RAW_DOUBLING);
    taut__slots_need(slots, r->small_room, 2, 1);
    taut__slots_need(slots, lay_out(r, &s, NULL, p.sub), 4 * (size_t)g->size, taut__min(p.slices, TAUT_SLOTS));
    return prepare_stage(r, place, bytes_of(TAUT_SLOTS * (size_t)g->size * p.sub),
                         taut__min(bytes_of(n), TAUT_RAW_HALVING));
}

static taut__plain_sum_way way_of(const taut__plain_sum *r)
{
    size_t bytes = bytes_of(r->n);
    bool   power = taut__power_below(r->g->size) == r->g->size;
    if (r->halves != TAUT_BOTH) return TAUT_RAW_BY_SLICES;
    if (bytes <= r->small_room) return TAUT_RAW_BY_DOUBLING;
    return power && r->g->size > 1 && bytes <= TAUT_RAW_HALVING ? TAUT_RAW_BY_HALVING : TAUT_RAW_BY_SLICES;
}

static taut__combine combine_of(const taut__plain_sum *r)
{
    return r->kind == TAUT_NUMBER_F32 ? taut__combine_f32 : taut__combine_i32;
}

void taut__plain_sum_begin(taut__plain_sum *r, taut__number kind, void *x, size_t n, taut__half halves, float factor)
{
    r->kind = kind;
    r->x = x;
    r->n = n;
    r->halves = halves;
    r->factor = factor;
    r->part = cut(r, n);
    r->opened = r->started = r->reduced = r->posted = r->finished = 0;
    r->small = TAUT_SMALL_BEGINS;
    r->sent = 0;
    r->scratch = r->slots->own; /* nothing else is under way there */
    r->way = way_of(r);
    if (r->way == TAUT_RAW_BY_DOUBLING)
        taut__small_allreduce_begin(&r->doubling, r->g, r->tag, small_at(r), r->scratch, bytes_of(n), combine_of(r),
                                    NULL);
    if (r->way == TAUT_RAW_BY_HALVING)
        taut__halving_begin(&r->halving, r->g, r->tag, small_at(r), r->scratch, n, 4, combine_of(r));
}

static void multiply(taut__plain_sum *r, char *x, size_t n)
{
    if (r->kind == TAUT_NUMBER_F32 && r->factor != 1.0f) taut__simd_get()->vec->scale((float *)(void *)x, r->factor, n);
}

static void add(taut__plain_sum *r, char *x, const char *in, size_t n)
{
    if (r->kind == TAUT_NUMBER_F32) taut__simd_get()->vec->add((float *)(void *)x, in, n);
    else taut__combine_i32(x, in, bytes_of(n), false, NULL);
}

/* ---- copies between x and the stage ---- */

static taut_status copied(const taut__plain_sum *r, size_t slot, bool *passed)
{
    *passed = true;
    return r->space ? r->space->event_test(r->slot[slot].copied, passed) : TAUT_OK;
}

/* What this rank gives to slice k comes; or what it gets of it leaves. */
static taut_status copy_slice(taut__plain_sum *r, size_t k, bool leaves)
{
    bool all = r->halves & (leaves ? TAUT_GATHER : TAUT_REDUCE);
    for (int q = 0; q < r->g->size && r->space; q++) {
        taut__range part = taut__sub(&r->part, q, k);
        char       *x = at(r, part.first), *staged = part_at(r, q, k);
        if (part.n == 0 || (!all && q != r->g->rank)) continue;
        TAUT_TRY(r->space->copy(r->place, leaves ? x : staged, leaves ? staged : x, bytes_of(part.n)));
    }
    r->slot[k % TAUT_SLOTS].leaving = leaves;
    return r->space ? r->space->event_record(r->slot[k % TAUT_SLOTS].copied, r->place) : TAUT_OK;
}

static taut_status copy_small(taut__plain_sum *r, bool leaves)
{
    TAUT_TRY(r->space->copy(r->place, leaves ? r->x : r->stage, leaves ? r->stage : r->x, bytes_of(r->n)));
    return r->space->event_record(r->slot[0].copied, r->place);
}

static taut_status check(const taut__request *in, size_t n)
{
    if (in->got == bytes_of(n)) return TAUT_OK;
    return taut__fail(TAUT_E_MISMATCH, "rank %d sent %zu bytes where %zu were expected", in->peer, in->got,
                      bytes_of(n));
}

static taut__plain_sum_slot *slot_of(taut__plain_sum *r, size_t k) { return &r->slot[k % TAUT_SLOTS]; }

static char *in_of(const taut__plain_sum *r, const taut__plain_sum_slot *s, int q)
{
    return s->in + bytes_of((size_t)(q - (q > r->g->rank)) * r->part.sub);
}

/* Memory for slice k; false: none is left now. */
static bool open_slot(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    size_t                size = (size_t)r->g->size, bytes = lay_out(r, s, NULL, r->part.sub);
    void                 *memory = taut__slots_take(r->slots, bytes, 4 * size);
    if (!memory) return false;
    lay_out(r, s, memory, r->part.sub);
    taut__requests_init(s->out1, 4 * size);
    s->in1 = s->out1 + size, s->out2 = s->in1 + size, s->in2 = s->out2 + size;
    return true;
}

static void close_slot(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    taut__slots_give(r->slots, s->out1); /* a slot begins with them */
    s->out1 = NULL;
}

static taut_status start(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    int                   me = r->g->rank, p = r->g->size;
    taut__range           mine = taut__sub(&r->part, me, k);
    if (!(r->halves & TAUT_REDUCE)) return TAUT_OK;
    for (int q = 0; q < p && mine.n > 0; q++)
        if (q != me) TAUT_TRY(taut__irecv(r->g, &s->in1[q], q, r->tag, in_of(r, s, q), bytes_of(mine.n)));
    for (int i = 1; i < p; i++) { /* every rank begins with another owner */
        int         q = (me + i) % p;
        taut__range to = taut__sub(&r->part, q, k);
        if (to.n == 0) continue;
        TAUT_TRY(taut__isend(r->g, &s->out1[q], q, r->tag, part_at(r, q, k), bytes_of(to.n)));
        r->sent += bytes_of(to.n);
    }
    return TAUT_OK;
}

static taut_status reduce(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    int                   me = r->g->rank, p = r->g->size;
    taut__range           mine = taut__sub(&r->part, me, k);
    if (mine.n == 0) return TAUT_OK;
    for (int q = 0; q < p && r->halves & TAUT_REDUCE; q++) {
        if (q == me) continue;
        TAUT_TRY(check(&s->in1[q], mine.n));
        add(r, part_at(r, me, k), in_of(r, s, q), mine.n);
    }
    multiply(r, part_at(r, me, k), mine.n);
    if (!(r->halves & TAUT_GATHER)) return TAUT_OK;
    for (int i = 1; i < p; i++) {
        int q = (me + i) % p;
        TAUT_TRY(taut__isend(r->g, &s->out2[q], q, r->tag + 1, part_at(r, me, k), bytes_of(mine.n)));
        r->sent += bytes_of(mine.n);
    }
    return TAUT_OK;
}

static taut_status post(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    for (int q = 0; q < r->g->size && r->halves & TAUT_GATHER; q++) {
        taut__range from = taut__sub(&r->part, q, k);
        if (q != r->g->rank && from.n > 0)
            TAUT_TRY(taut__irecv(r->g, &s->in2[q], q, r->tag + 1, part_at(r, q, k), bytes_of(from.n)));
    }
    return TAUT_OK;
}

static taut_status finish(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    for (int q = 0; q < r->g->size && r->halves & TAUT_GATHER; q++) {
        taut__range from = taut__sub(&r->part, q, k);
        if (q != r->g->rank && from.n > 0) TAUT_TRY(check(&s->in2[q], from.n));
    }
    return TAUT_OK;
}

static taut_status advance_slices(taut__plain_sum *r, bool *moved)
{
    size_t p = (size_t)r->g->size;
    bool   there = false;
    if (r->opened < r->part.slices && r->opened < r->finished + TAUT_SLOTS && open_slot(r, r->opened)) {
        TAUT_TRY(copy_slice(r, r->opened++, false));
        *moved = true;
    }
    if (r->started < r->opened) TAUT_TRY(copied(r, r->started % TAUT_SLOTS, &there));
    if (there) {
        TAUT_TRY(start(r, r->started++));
        *moved = true;
    }
    if (r->reduced < r->started && taut__all_done(slot_of(r, r->reduced)->in1, p)) {
        TAUT_TRY(reduce(r, r->reduced++));
        *moved = true;
    }
    if (r->posted < r->started && taut__all_done(slot_of(r, r->posted)->out1, p)) {
        TAUT_TRY(post(r, r->posted++));
        *moved = true;
    }
    taut__plain_sum_slot *s = slot_of(r, r->finished);
    if (r->finished < r->posted && r->finished < r->reduced && taut__all_done(s->out2, p) &&
        taut__all_done(s->in2, p)) {
        bool back = false;
        if (!s->leaving) {
            TAUT_TRY(finish(r, r->finished));
            TAUT_TRY(copy_slice(r, r->finished, true));
            *moved = true;
        }
        TAUT_TRY(copied(r, r->finished % TAUT_SLOTS, &back));
        if (!back) return TAUT_OK;
        close_slot(r, r->finished++);
        *moved = true;
    }
    return TAUT_OK;
}

static taut_status sum_small(taut__plain_sum *r, bool *moved, bool *done)
{
    bool doubling = r->way == TAUT_RAW_BY_DOUBLING;
    TAUT_TRY(doubling ? taut__small_allreduce_advance(&r->doubling, done) : taut__halving_advance(&r->halving, done));
    if (!*done) return TAUT_OK;
    *moved = true;
    r->sent = doubling ? r->doubling.sent : r->halving.sent;
    multiply(r, small_at(r), r->n);
    return TAUT_OK;
}

static taut_status advance_staged(taut__plain_sum *r, bool *moved, bool *done)
{
    bool passed = false;
    *done = false;
    if (r->small == TAUT_SMALL_BEGINS) {
        *moved = true;
        r->small = TAUT_SMALL_COMES;
        return copy_small(r, false);
    }
    if (r->small == TAUT_SMALL_RUNS) {
        TAUT_TRY(sum_small(r, moved, &passed));
        if (!passed) return TAUT_OK;
        r->small = TAUT_SMALL_LEAVES;
        return copy_small(r, true);
    }
    TAUT_TRY(copied(r, 0, &passed));
    *moved |= passed;
    *done = passed && r->small == TAUT_SMALL_LEAVES;
    if (passed) r->small = TAUT_SMALL_RUNS;
    return TAUT_OK;
}

taut_status taut__plain_sum_advance(taut__plain_sum *r, bool *moved, bool *done)
{
    if (r->way != TAUT_RAW_BY_SLICES) return r->space ? advance_staged(r, moved, done) : sum_small(r, moved, done);
    if (r->finished < r->part.slices) TAUT_TRY(advance_slices(r, moved));
    *done = r->finished == r->part.slices;
    return TAUT_OK;
}

void taut__plain_sum_cancel(taut__plain_sum *r)
{
    if (!r->g) return;
    taut__small_allreduce_cancel(&r->doubling);
    taut__halving_cancel(&r->halving);
    for (int i = 0; i < TAUT_SLOTS; i++)
        for (size_t q = 0; r->slot[i].out1 && q < 4 * (size_t)r->g->size; q++)
            r->g->t->ops->cancel(r->g->t, &r->slot[i].out1[q]);
}

/* Contributions come straight from their ranks; whoever owes a sum may wait for the contribution of another one. */
int taut__plain_sum_waiting_for(const taut__plain_sum *r, int *hops)
{
    if (!r->g) return -1;
    if (r->way == TAUT_RAW_BY_DOUBLING) return taut__small_allreduce_waiting_for(&r->doubling, hops);
    if (r->way == TAUT_RAW_BY_HALVING) return taut__halving_waiting_for(&r->halving, hops);
    size_t p = (size_t)r->g->size;
    for (size_t q = 0; q < 4 * p; q++)
        for (int i = 0; i < TAUT_SLOTS; i++) {
            const taut__plain_sum_slot *s = &r->slot[i];
            if (!s->out1 || taut__done(&s->out1[q])) continue;
            *hops += q >= 3 * p; /* in2 */
            return s->out1[q].peer;
        }
    return -1;
}
