/* plain_sum.c : see plain_sum.h.
 *
 * Slice k passes through: started (contributions sent, receives posted), reduced (all arrived and added, sums sent),
 * posted (receives of the sums posted; only after the contributions that they overwrite have left), finished. Each
 * counter moves in order of k, because messages of one sender and tag are matched in the order of sending. A slice has a slot
 * from start to finish; while there is none for the next slice, those under way go on. */
#include "plain_sum.h"
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include <string.h>

static char *at(const taut__plain_sum *r, size_t element) { return r->x + element * taut__number_bytes(r->kind); }
static size_t bytes_of(const taut__plain_sum *r, size_t n) { return n * taut__number_bytes(r->kind); }

static taut__partition cut(const taut__plain_sum *r, size_t n)
{
    taut__partition p = taut__partition_of(n, r->g->size, r->block, r->slice);
    if (p.sub > r->most) p.sub = r->most, p.slices = taut__ceil_div(taut__part(&p, 0).n, p.sub);
    return p;
}

/* memory: of a slot for sub-slices of `sub` numbers; NULL: counts its bytes. */
static size_t lay_out(const taut__plain_sum *r, taut__plain_sum_slot *s, void *memory, size_t sub)
{
    size_t   size = (size_t)r->g->size;
    taut__carver c = {memory, 0};
    s->out1 = taut__carve(&c, 4 * size, sizeof *s->out1);
    s->in = taut__carve(&c, bytes_of(r, (size - 1) * sub), 1);
    return c.bytes;
}

void taut__plain_sum_prepare(taut__plain_sum *r, const taut__group *g, int tag, taut__number kind, size_t n, size_t block, size_t slice, taut__slots *slots)
{
    *r = (taut__plain_sum){.g = g, .tag = tag, .kind = kind, .slots = slots, .block = block, .slice = slice, .most = SIZE_MAX};
    taut__plain_sum_slot s;
    taut__partition p = cut(r, n);
    size_t         room = slots->bytes, head = lay_out(r, &s, NULL, 0), each = bytes_of(r, (size_t)g->size - 1);
    if (room > 0 && lay_out(r, &s, NULL, p.sub) > room) {
        r->most = room > head ? (room - head) / each / block * block : 0;
        r->most = taut__max(r->most, block);
        p = cut(r, n);
    }
    r->small_room = taut__min(bytes_of(r, n), TAUT_RAW_DOUBLING);
    taut__slots_need(slots, r->small_room, 2, 1);
    taut__slots_need(slots, lay_out(r, &s, NULL, p.sub), 4 * (size_t)g->size, taut__min(p.slices, TAUT_SLOTS));
}

static taut__plain_sum_way way_of(const taut__plain_sum *r)
{
    size_t bytes = bytes_of(r, r->n);
    bool   power = taut__power_below(r->g->size) == r->g->size;
    if (r->halves != TAUT_BOTH) return TAUT_RAW_BY_SLICES;
    if (bytes <= r->small_room) return TAUT_RAW_BY_DOUBLING;
    return power && r->g->size > 1 && bytes <= TAUT_RAW_HALVING ? TAUT_RAW_BY_HALVING : TAUT_RAW_BY_SLICES;
}

static taut__combine combine_of(const taut__plain_sum *r)
{
    return r->kind == TAUT_NUMBER_F32 ? taut__combine_f32 : r->kind == TAUT_NUMBER_I32 ? taut__combine_i32 : taut__combine_mixed;
}

void taut__plain_sum_begin(taut__plain_sum *r, void *x, size_t n, taut__half halves, float factor)
{
    r->x = x;
    r->n = n;
    r->halves = halves;
    r->factor = factor;
    r->part = cut(r, n);
    r->started = r->reduced = r->posted = r->finished = 0;
    r->sent = 0;
    r->scratch = r->slots->own; /* nothing else is under way there */
    r->way = way_of(r);
    if (r->way == TAUT_RAW_BY_DOUBLING)
        taut__small_allreduce_begin(&r->doubling, r->g, r->tag, x, r->scratch, bytes_of(r, n), combine_of(r), NULL);
    if (r->way == TAUT_RAW_BY_HALVING)
        taut__halving_begin(&r->halving, r->g, r->tag, x, r->scratch, n, taut__number_bytes(r->kind), combine_of(r));
}

static void multiply(taut__plain_sum *r, size_t first, size_t n)
{
    if (r->kind == TAUT_NUMBER_F32 && r->factor != 1.0f)
        taut__simd_get()->vec->scale((float *)(void *)at(r, first), r->factor, n);
}

static void add(taut__plain_sum *r, size_t first, const char *in, size_t n)
{
    if (r->kind == TAUT_NUMBER_F32) taut__simd_get()->vec->add((float *)(void *)at(r, first), in, n);
    else if (r->kind == TAUT_NUMBER_I32) taut__combine_i32(at(r, first), in, bytes_of(r, n), false, NULL);
    else taut__combine_mixed(at(r, first), in, bytes_of(r, n), false, NULL);
}

static taut_status check(const taut__plain_sum *r, const taut__request *in, size_t n)
{
    if (in->got == bytes_of(r, n)) return TAUT_OK;
    return taut__fail(TAUT_E_MISMATCH, "rank %d sent %zu bytes where %zu were expected", in->peer, in->got, bytes_of(r, n));
}

static taut__plain_sum_slot *slot_of(taut__plain_sum *r, size_t k) { return &r->slot[k % TAUT_SLOTS]; }

static char *in_of(const taut__plain_sum *r, const taut__plain_sum_slot *s, int q)
{
    return s->in + bytes_of(r, (size_t)(q - (q > r->g->rank)) * r->part.sub);
}

/* Memory for slice k; false: none is left now. */
static bool open_slot(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    size_t         size = (size_t)r->g->size, bytes = lay_out(r, s, NULL, r->part.sub);
    void          *memory = taut__slots_take(r->slots, bytes, 4 * size);
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
    int            me = r->g->rank, p = r->g->size;
    taut__range     mine = taut__sub(&r->part, me, k);
    if (!(r->halves & TAUT_REDUCE)) return TAUT_OK;
    for (int q = 0; q < p && mine.n > 0; q++)
        if (q != me) TAUT_TRY(taut__irecv(r->g, &s->in1[q], q, r->tag, in_of(r, s, q), bytes_of(r, mine.n)));
    for (int i = 1; i < p; i++) { /* every rank begins with another owner */
        int        q = (me + i) % p;
        taut__range to = taut__sub(&r->part, q, k);
        if (to.n == 0) continue;
        TAUT_TRY(taut__isend(r->g, &s->out1[q], q, r->tag, at(r, to.first), bytes_of(r, to.n)));
        r->sent += bytes_of(r, to.n);
    }
    return TAUT_OK;
}

static taut_status reduce(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    int            me = r->g->rank, p = r->g->size;
    taut__range     mine = taut__sub(&r->part, me, k);
    if (mine.n == 0) return TAUT_OK;
    for (int q = 0; q < p && r->halves & TAUT_REDUCE; q++) {
        if (q == me) continue;
        TAUT_TRY(check(r, &s->in1[q], mine.n));
        add(r, mine.first, in_of(r, s, q), mine.n);
    }
    multiply(r, mine.first, mine.n);
    if (!(r->halves & TAUT_GATHER)) return TAUT_OK;
    for (int i = 1; i < p; i++) {
        int q = (me + i) % p;
        TAUT_TRY(taut__isend(r->g, &s->out2[q], q, r->tag + 1, at(r, mine.first), bytes_of(r, mine.n)));
        r->sent += bytes_of(r, mine.n);
    }
    return TAUT_OK;
}

static taut_status post(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    for (int q = 0; q < r->g->size && r->halves & TAUT_GATHER; q++) {
        taut__range from = taut__sub(&r->part, q, k);
        if (q != r->g->rank && from.n > 0)
            TAUT_TRY(taut__irecv(r->g, &s->in2[q], q, r->tag + 1, at(r, from.first), bytes_of(r, from.n)));
    }
    return TAUT_OK;
}

static taut_status finish(taut__plain_sum *r, size_t k)
{
    taut__plain_sum_slot *s = slot_of(r, k);
    for (int q = 0; q < r->g->size && r->halves & TAUT_GATHER; q++) {
        taut__range from = taut__sub(&r->part, q, k);
        if (q != r->g->rank && from.n > 0) TAUT_TRY(check(r, &s->in2[q], from.n));
    }
    return TAUT_OK;
}

static taut_status advance_slices(taut__plain_sum *r, bool *moved)
{
    size_t p = (size_t)r->g->size;
    if (r->started < r->part.slices && r->started < r->finished + TAUT_SLOTS && open_slot(r, r->started)) {
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
    if (r->finished < r->posted && r->finished < r->reduced && taut__all_done(s->out2, p) && taut__all_done(s->in2, p)) {
        TAUT_TRY(finish(r, r->finished));
        close_slot(r, r->finished++);
        *moved = true;
    }
    return TAUT_OK;
}

static taut_status advance_small(taut__plain_sum *r, bool *moved, bool *done)
{
    bool doubling = r->way == TAUT_RAW_BY_DOUBLING;
    TAUT_TRY(doubling ? taut__small_allreduce_advance(&r->doubling, done) : taut__halving_advance(&r->halving, done));
    if (!*done) return TAUT_OK;
    *moved = true;
    r->sent = doubling ? r->doubling.sent : r->halving.sent;
    multiply(r, 0, r->n);
    return TAUT_OK;
}

taut_status taut__plain_sum_advance(taut__plain_sum *r, bool *moved, bool *done)
{
    if (r->way != TAUT_RAW_BY_SLICES) return advance_small(r, moved, done);
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
        for (size_t q = 0; r->slot[i].out1 && q < 4 * (size_t)r->g->size; q++) r->g->t->ops->cancel(r->g->t, &r->slot[i].out1[q]);
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
