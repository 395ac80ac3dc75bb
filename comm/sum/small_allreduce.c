/* small_allreduce.c : see small_allreduce.h. */
#include "small_allreduce.h"
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../base/partition.h"
#include <math.h>
#include <string.h>

/* FOLD: give to, or take from, the partner beyond the power of two. DOUBLE: one round per bit. RESULT: the way back. */
enum { FOLD, DOUBLE, RESULT, FINISHED };

/* Of the dither of what a rank sends: the same for all that hold the same sum. */
static uint64_t seed_of(const taut__small_allreduce *x, int from)
{
    uint64_t group = x->state == FOLD     ? (uint64_t)from
                     : x->state == DOUBLE ? (uint64_t)(from & ~(x->mask - 1)) << 20 | (uint64_t)x->mask << 40
                                          : UINT64_MAX;
    return taut__seed(x->sums->seed, group);
}

static taut_status post(taut__small_allreduce *x, int to, int from)
{
    size_t bytes = x->bytes;
    if (from >= 0) TAUT_TRY(taut__irecv(x->g, &x->recv, from, x->tag, x->in, x->bytes));
    if (to < 0) return TAUT_OK;
    if (x->sums) bytes = taut__step_pack(x->sums, seed_of(x, x->g->rank), x->data);
    x->sent += bytes;
    return taut__isend(x->g, &x->send, to, x->tag, x->data, bytes);
}

void taut__small_allreduce_begin(taut__small_allreduce *x, const taut__group *g, int tag, void *data, void *in,
                                 size_t bytes, taut__combine combine, const void *ctx)
{
    *x = (taut__small_allreduce){
        .g = g, .tag = tag, .state = -1, .data = data, .in = in, .bytes = bytes, .combine = combine, .ctx = ctx};
    taut__requests_init(&x->send, 1);
    taut__requests_init(&x->recv, 1);
}

/* What this rank does in a state: whom it sends to and receives from, -1 = nobody. */
static taut_status enter(taut__small_allreduce *x, int state)
{
    int w = taut__power_below(x->g->size), rest = x->g->size - w, rank = x->g->rank;
    x->state = state;
    switch (state) {
    case FOLD: return rank >= w ? post(x, rank - w, -1) : rank < rest ? post(x, -1, rank + w) : TAUT_OK;
    case DOUBLE: return rank < w && x->mask < w ? post(x, rank ^ x->mask, rank ^ x->mask) : TAUT_OK;
    case RESULT:
        if (rank >= w) return post(x, -1, rank - w);
        if (rank < rest) return post(x, rank + w, -1);
        if (rest > 0 && x->sums) taut__step_pack(x->sums, seed_of(x, rank), x->data); /* all have what those get */
        return TAUT_OK;
    default: return TAUT_OK;
    }
}

static taut_status received(const taut__small_allreduce *x)
{
    if (x->recv.got == x->bytes) return TAUT_OK;
    return taut__fail(TAUT_E_MISMATCH, "exchange: rank %d sent %zu bytes, %zu were expected", x->recv.peer, x->recv.got,
                      x->bytes);
}

static taut_status combine(taut__small_allreduce *x, int from)
{
    bool first = from < x->g->rank;
    if (x->sums) {
        taut__step_add(x->sums, seed_of(x, from), x->in, x->recv.got, first);
        return TAUT_OK;
    }
    TAUT_TRY(received(x));
    x->combine(x->data, x->in, x->bytes, first, x->ctx);
    return TAUT_OK;
}

/* Of ranks beyond the power of two. */
static taut_status result(taut__small_allreduce *x)
{
    if (x->sums) {
        taut__step_take(x->sums, seed_of(x, 0), x->in, x->recv.got);
        return TAUT_OK;
    }
    TAUT_TRY(received(x));
    memcpy(x->data, x->in, x->bytes);
    return TAUT_OK;
}

taut_status taut__small_allreduce_advance(taut__small_allreduce *x, bool *done)
{
    int w = taut__power_below(x->g->size), rest = x->g->size - w, rank = x->g->rank;
    if (x->state < 0) TAUT_TRY(enter(x, FOLD));
    while (x->state != FINISHED && taut__done(&x->send) && taut__done(&x->recv)) {
        switch (x->state) {
        case FOLD:
            if (rank < rest) TAUT_TRY(combine(x, rank + w));
            x->mask = 1;
            TAUT_TRY(enter(x, DOUBLE));
            break;
        case DOUBLE:
            if (rank >= w || x->mask >= w) {
                TAUT_TRY(enter(x, RESULT));
                break;
            }
            TAUT_TRY(combine(x, rank ^ x->mask));
            x->mask *= 2;
            TAUT_TRY(enter(x, DOUBLE));
            break;
        default:
            if (rank >= w) TAUT_TRY(result(x));
            x->state = FINISHED;
        }
    }
    *done = x->state == FINISHED;
    return TAUT_OK;
}

void taut__small_allreduce_cancel(taut__small_allreduce *x)
{
    if (!x->g) return;
    x->g->t->ops->cancel(x->g->t, &x->send);
    x->g->t->ops->cancel(x->g->t, &x->recv);
}

int taut__small_allreduce_waiting_for(const taut__small_allreduce *x, int *hops)
{
    int w = taut__power_below(x->g->size), folded = w < x->g->size;
    if (x->state == DOUBLE) *hops += folded + taut__log2(x->mask);
    if (x->state == RESULT) *hops += folded + taut__log2(w);
    return !taut__done(&x->recv) ? x->recv.peer : !taut__done(&x->send) ? x->send.peer : -1;
}

/* ---- what to combine ---- */

void taut__combine_mixed(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    const taut__mixed *m = ctx;
    size_t             n = bytes / 8, sums = m ? m->sums : n, masks = m ? taut__min(m->masks, n - m->sums) : 0;
    double            *a = acc;
    const double      *b = in;
    for (size_t i = 0; i < sums; i++) a[i] = in_first ? b[i] + a[i] : a[i] + b[i];
    uint64_t       *u = (uint64_t *)acc;
    const uint64_t *v = in;
    for (size_t i = sums; i < sums + masks; i++) u[i] &= v[i];
    for (size_t i = sums + masks; i < n; i++) u[i] |= v[i];
}

/* The order tells whose NaN survives where both are. */
void taut__combine_f32(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    (void)ctx;
    enum { AT_ONCE = 256 };
    const struct taut__vec_kernels *vec = taut__simd_get()->vec;
    float                           block[AT_ONCE], *a = acc;
    const float                    *b = in;
    size_t                          n = bytes / sizeof *a;
    if (!in_first) {
        vec->add(a, b, n);
        return;
    }
    for (size_t i = 0; i < n; i += AT_ONCE) {
        size_t m = taut__min(AT_ONCE, n - i);
        memcpy(block, b + i, m * sizeof *a);
        vec->add(block, a + i, m);
        memcpy(a + i, block, m * sizeof *a);
    }
}

/* Unsigned: a peer may send anything, and sums of what honest ranks send do not overflow. */
void taut__combine_i32(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    (void)in_first, (void)ctx;
    uint32_t       *a = acc;
    const uint32_t *b = in;
    for (size_t i = 0; i < bytes / sizeof *a; i++) a[i] += b[i];
}
