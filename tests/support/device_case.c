/* device_case.c : see device_case.h. */
#include "device_case.h"
#include "comm/core/nccl.h"
#include "compressors/vectors.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- what a rank sends for its layer, in whatever order ---- */

static struct tap {
    const taut__transport_ops *real;
    taut__transport_ops        ops;
    int                        tag;
    uint64_t                   sum;
} taps[MOST];

static taut_status isend(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    struct tap *tap = &taps[t->rank];
    if (tag >= tap->tag && tag < tap->tag + TAUT_TAGS)
        tap->sum += XXH3_64bits_withSeed(buf, bytes, (uint64_t)(peer * 1000 + tag - tap->tag));
    return tap->real->isend(t, r, peer, tag, buf, bytes);
}

static void listen(ranks_ctx *c, const taut_layer *l)
{
    struct tap *tap = &taps[c->rank];
    *tap = (struct tap){.real = c->comm->ctx.t->ops, .ops = *c->comm->ctx.t->ops, .tag = l->reduction.job.tag};
    tap->ops.isend = isend;
    c->comm->ctx.t->ops = &tap->ops;
}

/* ---- buffers ---- */

size_t dtype_bytes(taut_dtype d) { return d == TAUT_F32 ? 4 : 2; }

void buffer_make(buffer *b, bool there, taut_place place, size_t bytes)
{
    void *at = NULL;
    *b = (buffer){.there = there, .place = place, .bytes = bytes, .here = malloc(bytes)};
    while (there && !at) taut__memory_of(place.space)->alloc(place, bytes, &at); /* which may fail on demand, once */
    b->at = there ? at : b->here;
}
void buffer_drop(buffer *b)
{
    if (b->there) taut__memory_of(b->place.space)->release(b->place, b->at);
    free(b->here);
}

void buffer_end(ranks_ctx *c, buffer *b, taut_place place)
{
    taut_comm_destroy(c->comm);
    c->comm = NULL;
    taut__memory_of(place.space)->wait(place);
    mock_stream_end(place);
    b->place = place;
    buffer_drop(b);
}

/* The gradient is written in the order of the stream, late. */
taut_status buffer_start(taut_layer *l, buffer *b)
{
    if (!b->there) return taut_allreduce_start(l, b->at, TAUT_MEAN);
    TAUT_TRY(taut__memory_of(b->place.space)->copy(b->place, b->at, b->here, b->bytes));
    return taut_allreduce_start_on(l, b->at, TAUT_MEAN, b->place.space, b->place.device, b->place.stream);
}
uint64_t buffer_result(const buffer *b)
{
    char *copy = malloc(b->bytes);
    if (b->there) mock_read(copy, b->at, b->bytes);
    else memcpy(copy, b->at, b->bytes);
    uint64_t h = XXH3_64bits(copy, b->bytes);
    free(copy);
    return h;
}

void buffer_fill(const setup *s, int rank, int step, size_t n, void *to)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = s->amplitude * powf(s->growth, (float)(step % 50)) * ranks_value(rank, i, step);
    for (size_t i = 0; i < n && s->whole; i++) x[i] = roundf(8 * x[i]);
    if (step == s->poison && rank == 0) x[n / 2] = NAN;
    taut__vectors_host.convert((taut_place){0}, to, s->dtype, x, TAUT_F32, n);
    free(x);
}

/* ---- a rank ---- */

static taut_status scale(const setup *s, taut_layer *l, int step)
{
    float  v[N];
    size_t n = s->scale == 0 ? 0 : s->scale == 1 ? 1 : s->scale == 2 ? ROWS : N;
    for (size_t i = 0; i < n; i++) v[i] = 0.5f + (float)((i * 7 + (size_t)step) % 13) / 8;
    return taut_layer_scale(l, v, n);
}

taut_status rank_enroll(ranks_ctx *c, const setup *s, taut_layer **w, taut_layer **b)
{
    TAUT_TRY(taut_layer_register(c->comm, "w", s->dtype, 2, (size_t[]){ROWS, COLS}, w));
    TAUT_TRY(taut_layer_register(c->comm, "b", s->dtype, 1, (size_t[]){SMALL}, b));
    return strcmp(s->spec, "auto") == 0 ? TAUT_OK : taut_layer_codec(*w, s->spec);
}

taut_status rank_save(ranks_ctx *c, outcome *o)
{
    TAUT_TRY(taut_state_save(c->comm, NULL, 0, &o->state_bytes));
    if (c->comm->autom) TAUT_TRY(c->comm->hooks->save(c->comm->autom, NULL, 0, &o->plan_bytes));
    o->state = malloc(o->state_bytes);
    return taut_state_save(c->comm, o->state, o->state_bytes, &o->state_bytes);
}

taut_status rank_steps(ranks_ctx *c, const setup *s, outcome *o, taut_layer *w, taut_layer *b, buffer *x, buffer *y,
                       int from, int to)
{
    for (int step = from; step < to; step++) {
        buffer_fill(s, c->rank, step, N, x->here), buffer_fill(s, c->rank, step + 50, SMALL, y->here);
        if (s->scale) TAUT_TRY(scale(s, w, step / 2));
        TAUT_TRY(buffer_start(w, x));
        TAUT_TRY(buffer_start(b, y));
        TAUT_TRY(taut_step_end(c->comm));
        o->result[step] = buffer_result(x), o->small[step] = buffer_result(y);
        if (step == s->drop) TAUT_TRY(taut_step_drop(c->comm));
    }
    return TAUT_OK;
}

static void keep_residual(outcome *o, const taut_layer *l)
{
    float                r[N];
    const taut_feedback *f = l->operand.feedback;
    if (!f || !l->operand.residual) return;
    if (taut__on_host(f->place)) memcpy(r, f->r, sizeof r);
    else mock_read(r, f->r, sizeof r);
    o->residual = XXH3_64bits(r, sizeof r);
}

static void keep_values(outcome *o, const buffer *b)
{
    o->values = malloc(b->bytes);
    if (b->there) mock_read(o->values, b->at, b->bytes);
    else memcpy(o->values, b->at, b->bytes);
}

static taut_status rank_body(ranks_ctx *c)
{
    trial      *t = c->arg;
    outcome    *o = &t->of[c->rank];
    bool        there = t->set.where == DEVICE || (t->set.where == MIXED && c->rank % 2);
    taut_place  place = there ? mock_stream() : (taut_place){0};
    taut_layer *w, *b;
    buffer      x, y;
    buffer_make(&x, there, place, N * dtype_bytes(t->set.dtype)),
        buffer_make(&y, there, place, SMALL * dtype_bytes(t->set.dtype));
    taut_status s = rank_enroll(c, &t->set, &w, &b);
    if (s == TAUT_OK && there && t->set.nccl)
        s = t->set.staged ? taut__comm_open_messages(c->comm, false) : taut__comm_open_nccl(c->comm, mock_place());
    if (s == TAUT_OK) listen(c, w);
    if (s == TAUT_OK) s = rank_steps(c, &t->set, o, w, b, &x, &y, 0, STEPS);
    if (s == TAUT_OK) s = rank_save(c, o);
    if (s == TAUT_OK) keep_residual(o, w);
    keep_values(o, &x);
    o->status = s;
    o->sent = taps[c->rank].sum;
    if (there) taut__memory_of(place.space)->wait(place);
    if (there) mock_stream_end(place);
    buffer_drop(&x), buffer_drop(&y);
    return s;
}

/* ---- comparing ---- */

taut_config setup_config(const setup *s)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 20000;
    cfg.slice_kib = 64;
    cfg.algorithm = s->algorithm;
    cfg.feedback = s->feedback;
    cfg.dropped = s->dropped;
    cfg.threads = s->threads;
    cfg.link = "100mbit"; /* no clock decides anything */
    cfg.replan_steps = 1;
    return cfg;
}

setup setup_of(const char *spec, int ranks)
{
    return (setup){.spec = spec,
                   .feedback = "auto",
                   .algorithm = "auto",
                   .dropped = "clear",
                   .ranks = ranks,
                   .threads = 1,
                   .drop = -1,
                   .poison = -1,
                   .amplitude = 1,
                   .growth = 1};
}

trial *trial_run(setup set, where at)
{
    trial      *t = calloc(1, sizeof *t);
    taut_config cfg = setup_config(&set);
    ranks_ctx   ctx[MOST];
    memset(taps, 0, sizeof taps);
    t->set = set;
    t->set.where = at;
    ranks_run(set.ranks, &cfg, rank_body, t, ctx);
    for (int r = 0; r < set.ranks; r++)
        ck_assert_msg(
            ctx[r].status == TAUT_OK || ctx[r].status == TAUT_E_UNSUPPORTED || ctx[r].status == TAUT_E_INVALID,
            "%s %s on %s: rank %d: %s", set.spec, set.algorithm, at ? "the device" : "the host", r, ctx[r].error);
    return t;
}
void trial_free(trial *t)
{
    for (int r = 0; r < t->set.ranks; r++) free(t->of[r].state), free(t->of[r].values);
    free(t);
}

void device_left_empty(void)
{
    mock_counts left = mock_left();
    ck_assert_msg(left.memory == 0 && left.streams == 0 && left.events == 0 && left.strays == 0 && left.pinned == 0,
                  "left: %zu blocks, %zu streams, %zu events, %zu pinned; %zu strays", left.memory, left.streams,
                  left.events, left.pinned, left.strays);
}

/* Sums of norms of slices, which a plan keeps, are added as slices come: their last bit is left to chance, on the host too. Of a checkpoint with a
 * plan all else is compared but its checksum. */
static bool same_state(const outcome *x, const outcome *y)
{
    size_t from = x->plan_bytes ? 24 : 0;
    if (x->state_bytes != y->state_bytes || x->plan_bytes != y->plan_bytes) return false;
    return !x->state || memcmp(x->state + from, y->state + from, x->state_bytes - from - x->plan_bytes) == 0;
}

void trial_compare(const trial *a, const trial *b)
{
    char         what[256];
    const setup *s = &a->set;
    snprintf(what, sizeof what, "%s algorithm=%s feedback=%s dtype=%d scale=%d ranks=%d where=%d", s->spec,
             s->algorithm, s->feedback, (int)s->dtype, s->scale, s->ranks, (int)b->set.where);
    for (int r = 0; r < s->ranks; r++) {
        const outcome *x = &a->of[r], *y = &b->of[r];
        ck_assert_msg(x->status == y->status, "%s: rank %d: %d and %d", what, r, (int)x->status, (int)y->status);
        for (int i = 0; i < STEPS; i++)
            ck_assert_msg(x->result[i] == y->result[i], "%s: rank %d, step %d: results differ", what, r, i);
        for (int i = 0; i < STEPS; i++)
            ck_assert_msg(x->small[i] == y->small[i], "%s: rank %d, step %d: a small layer's results differ", what, r,
                          i);
        ck_assert_msg(x->residual == y->residual, "%s: rank %d: residuals differ", what, r);
        if (s->nccl) continue;
        ck_assert_msg(x->sent == y->sent, "%s: rank %d: messages differ", what, r);
        ck_assert_msg(same_state(x, y), "%s: rank %d: checkpoints differ", what, r);
    }
}

/* Returns whether the setup is one that works. */
bool same_on_device(setup s, bool mixed)
{
    trial *host = trial_run(s, HOST), *device = NULL;
    bool   works = host->of[0].status == TAUT_OK;
    for (int at = DEVICE; at <= (mixed ? MIXED : DEVICE) && works; at++) {
        device = trial_run(s, (where)at);
        trial_compare(host, device);
        trial_free(device);
    }
    trial_free(host);
    device_left_empty();
    return works;
}
