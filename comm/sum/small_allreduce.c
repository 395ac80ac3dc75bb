/* small_allreduce.c : see small_allreduce.h. */
#include "small_allreduce.h"
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "../base/partition.h"
#include <math.h>
#include <string.h>

/* FOLD: give to, or take from, the partner beyond the power of two. DOUBLE: one round per bit. RESULT: the way back. */
enum { FOLD, DOUBLE, RESULT, FINISHED };

static taut_status post(taut__small_allreduce *x, int to, int from)
{
    if (from >= 0) TAUT_TRY(taut__irecv(x->g, &x->recv, from, x->tag, x->in, taut__max(x->bytes, x->room)));
    if (to < 0) return TAUT_OK;
    x->sent += x->bytes;
    return taut__isend(x->g, &x->send, to, x->tag, x->data, x->bytes);
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
    case RESULT: return rank >= w ? post(x, -1, rank - w) : rank < rest ? post(x, rank + w, -1) : TAUT_OK;
    default: return TAUT_OK;
    }
}

static bool alike(const taut__small_allreduce *x) { return x->recv.got == x->bytes; }

static taut_status received(taut__small_allreduce *x)
{
    const uint64_t differs[TAUT_SUMS_WORDS] = {0, UINT64_MAX};
    if (!alike(x) && x->room > 0) memcpy(x->data, differs, sizeof differs);
    if (alike(x) || x->room > 0) return TAUT_OK;
    return taut__fail(TAUT_E_MISMATCH, "exchange: rank %d sent %zu bytes, %zu were expected", x->recv.peer, x->recv.got,
                      x->bytes);
}

static taut_status combine(taut__small_allreduce *x, int from)
{
    TAUT_TRY(received(x));
    if (alike(x)) x->combine(x->data, x->in, x->bytes, from < x->g->rank, x->ctx);
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
            if (rank >= w) {
                TAUT_TRY(received(x));
                if (alike(x)) memcpy(x->data, x->in, x->bytes);
            }
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

uint32_t taut__short_of(double x)
{
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    if (isnan(x)) return (uint32_t)(b >> 32) | 0x80000; /* quiet, and never rounded to Inf */
    return (uint32_t)((b + 0x7fffffff + (b >> 32 & 1)) >> 32);
}

double taut__of_short(uint32_t s)
{
    uint64_t b = (uint64_t)s << 32;
    double   x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static void add_shorts(uint32_t *a, const uint32_t *b, size_t n, bool in_first)
{
    for (size_t i = 0; i < n; i++) {
        double x = taut__of_short(a[i]), y = taut__of_short(b[i]);
        a[i] = taut__short_of(in_first ? y + x : x + y);
    }
}

static void add_halves(uint16_t *a, const uint16_t *b, size_t n, bool in_first)
{
    enum { AT_ONCE = 256 };
    const struct taut__vec_kernels *vec = taut__simd_get()->vec;
    float                           block[AT_ONCE];
    for (size_t i = 0; i < n; i += AT_ONCE) {
        size_t m = taut__min(AT_ONCE, n - i);
        vec->from_bf16(block, (in_first ? b : a) + i, m);
        vec->add_bf16(block, (in_first ? a : b) + i, m);
        vec->to_bf16(a + i, block, m);
    }
}

size_t taut__sums_bytes(const taut__sums *n)
{
    return (TAUT_SUMS_WORDS + n->doubles) * sizeof(double) + (n->shorts + n->least) * sizeof(uint32_t) +
           n->floats * sizeof(float) + n->halves * sizeof(uint16_t);
}

void taut__combine_sums(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    const taut__sums *n = ctx;
    const taut__mixed words = {0, 1};
    uint64_t         *w = acc;
    const uint64_t   *v = in;
    taut__combine_mixed(w, v, TAUT_SUMS_WORDS * sizeof *w, in_first, &words);
    w += TAUT_SUMS_WORDS, v += TAUT_SUMS_WORDS;
    taut__combine_mixed(w, v, n->doubles * sizeof(double), in_first, NULL);
    uint32_t       *a = (uint32_t *)(w + n->doubles);
    const uint32_t *b = (const uint32_t *)(v + n->doubles);
    add_shorts(a, b, n->shorts, in_first);
    a += n->shorts, b += n->shorts;
    for (size_t i = 0; i < n->least; i++) a[i] = taut__of_short(b[i]) < taut__of_short(a[i]) ? b[i] : a[i];
    a += n->least, b += n->least;
    taut__combine_f32(a, b, n->floats * sizeof(float), in_first, NULL);
    add_halves((uint16_t *)(void *)(a + n->floats), (const uint16_t *)(const void *)(b + n->floats), n->halves,
               in_first);
    (void)bytes;
}

/* Unsigned: a peer may send anything, and sums of what honest ranks send do not overflow. */
void taut__combine_i32(void *acc, const void *in, size_t bytes, bool in_first, const void *ctx)
{
    (void)in_first, (void)ctx;
    uint32_t       *a = acc;
    const uint32_t *b = in;
    for (size_t i = 0; i < bytes / sizeof *a; i++) a[i] += b[i];
}
