/* state.c : checkpoints. One blob per rank, little-endian:
 *
 *   u32 magic "TAUS", u32 version, u64 ranks, u64 steps, u64 layers, then per layer
 *     u16 name bytes, name, u8 dtype, u8 last op + 1, u16 0, u64 elements, u64 calls, u16 spec bytes, spec,
 *     u64 residual bytes, residual (feedback.h), u64 codec state bytes, codec state
 *   u64 bytes of codec=auto, those.
 *
 * Residuals add up when several blobs are loaded into one rank. Under TAUT_MEAN a residual counts 1/ranks of itself, so with
 * another number of ranks it is scaled to keep what it stands for. Nothing of a blob is trusted. */
#include "communicator.h"
#include <string.h>

enum { MAGIC = 0x53554154, VERSION = 1, NAME_MAX_ = 127 };

typedef struct writer {
    uint8_t *dst;
    size_t   cap, len; /* counts on when dst is NULL or full */
} writer;

static void put(writer *w, const void *src, size_t n)
{
    if (w->dst && w->len + n <= w->cap) memcpy(w->dst + w->len, src, n);
    w->len += n;
}
static void put_n(writer *w, uint64_t v, size_t bytes)
{
    uint8_t b[8];
    for (size_t i = 0; i < bytes; i++) b[i] = (uint8_t)(v >> (8 * i));
    put(w, b, bytes);
}
static void put_text(writer *w, const char *s)
{
    put_n(w, strlen(s), 2);
    put(w, s, strlen(s));
}

/* A section that somebody else writes: its length, then the bytes, where there is room. */
typedef taut_status (*section)(const void *self, void *dst, size_t cap, size_t *len);

static taut_status put_section(writer *w, section save, const void *self)
{
    size_t n = 0, at = w->len + 8;
    if (self) TAUT_TRY(save(self, NULL, 0, &n));
    put_n(w, n, 8);
    if (n && w->dst && at + n <= w->cap) TAUT_TRY(save(self, w->dst + at, n, &n));
    w->len += n;
    return TAUT_OK;
}

static taut_status save_feedback(const void *self, void *dst, size_t cap, size_t *len)
{
    return taut__feedback_save(self, dst, cap, len);
}
static taut_status save_codec(const void *self, void *dst, size_t cap, size_t *len)
{
    const taut_layer *l = self;
    return taut__spec_codec(&l->wire)->state_save(l->state, dst, cap, len);
}
static taut_status save_auto(const void *self, void *dst, size_t cap, size_t *len)
{
    const taut_comm *comm = self;
    return comm->hooks->save(comm->autom, dst, cap, len);
}

static taut_status save_layer(writer *w, const taut_layer *l)
{
    char spec[96];
    bool state = l->state && taut__spec_codec(&l->wire)->state_save;
    taut__spec_print(&l->spec, spec, sizeof spec);
    put_text(w, l->name);
    put_n(w, (uint64_t)l->dtype, 1);
    put_n(w, (uint64_t)(l->last_op + 1), 1);
    put_n(w, 0, 2);
    put_n(w, l->tensor.elems, 8);
    put_n(w, l->calls, 8);
    put_text(w, spec);
    TAUT_TRY(put_section(w, save_feedback, l->residual ? l->feedback : NULL));
    return put_section(w, save_codec, state ? l : NULL);
}

static taut_status between_steps(const taut_comm *comm, const char *call)
{
    TAUT_TRY(taut__engine_check(&comm->engine));
    for (size_t i = 0; i < comm->layers; i++)
        if (comm->layer[i]->started)
            return taut__fail(TAUT_E_STATE, "%s: layer '%s' is under way: call it between steps", call, comm->layer[i]->name);
    return TAUT_OK;
}

taut_status taut_state_save(const taut_comm *comm, void *dst, size_t cap, size_t *len)
{
    if (!comm || !len) return taut__fail(TAUT_E_INVALID, "taut_state_save: comm or len is NULL");
    *len = 0;
    TAUT_TRY(between_steps(comm, "taut_state_save"));
    writer w = {dst, cap, 0};
    put_n(&w, MAGIC, 4);
    put_n(&w, VERSION, 4);
    put_n(&w, (uint64_t)comm->all.size, 8);
    put_n(&w, comm->steps, 8);
    put_n(&w, comm->layers, 8);
    for (size_t i = 0; i < comm->layers; i++) TAUT_TRY(save_layer(&w, comm->layer[i]));
    TAUT_TRY(put_section(&w, save_auto, comm->autom ? comm : NULL));
    *len = w.len;
    if (dst && cap < w.len)
        return taut__fail(TAUT_E_CAPACITY, "taut_state_save: %zu bytes of room, %zu are needed", cap, w.len);
    return TAUT_OK;
}

/* ---- load ---- */

typedef struct reader {
    const uint8_t *at;
    size_t         left;
    bool           bad; /* asked for more than there was */
} reader;

static const uint8_t *take(reader *r, uint64_t n)
{
    const uint8_t *p = r->at;
    if (n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->at += n;
    r->left -= (size_t)n;
    return p;
}
static uint64_t take_n(reader *r, size_t bytes)
{
    const uint8_t *p = take(r, bytes);
    uint64_t       v = 0;
    for (size_t i = 0; p && i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}
static void take_text(reader *r, char *dst, size_t cap)
{
    uint64_t       n = take_n(r, 2);
    const uint8_t *p = take(r, n);
    r->bad |= n >= cap;
    dst[0] = 0;
    if (r->bad || !p) return;
    memcpy(dst, p, (size_t)n);
    dst[n] = 0;
}
static const uint8_t *take_section(reader *r, size_t *n)
{
    uint64_t bytes = take_n(r, 8);
    *n = (size_t)bytes;
    return take(r, bytes);
}

typedef struct saved_layer {
    char           name[NAME_MAX_ + 1], spec[96];
    uint64_t       dtype, op, elems, calls;
    const uint8_t *residual, *state;
    size_t         residual_n, state_n;
} saved_layer;

static taut_status truncated(void) { return taut__fail(TAUT_E_CORRUPT, "taut_state_load: truncated or damaged"); }

static taut_status read_layer(reader *r, saved_layer *s)
{
    take_text(r, s->name, sizeof s->name);
    s->dtype = take_n(r, 1);
    s->op = take_n(r, 1);
    r->bad |= take_n(r, 2) != 0;
    s->elems = take_n(r, 8);
    s->calls = take_n(r, 8);
    take_text(r, s->spec, sizeof s->spec);
    s->residual = take_section(r, &s->residual_n);
    s->state = take_section(r, &s->state_n);
    return r->bad || s->op > TAUT_MEAN + 1 ? truncated() : TAUT_OK;
}

static taut_layer *match(const taut_comm *comm, const saved_layer *s)
{
    for (size_t i = 0; i < comm->layers; i++)
        if (strcmp(comm->layer[i]->name, s->name) == 0) return comm->layer[i];
    return NULL;
}

static taut_status check_layer(const taut_comm *comm, const saved_layer *s)
{
    const taut_layer *l = match(comm, s);
    taut_spec         spec;
    if (!l) return taut__fail(TAUT_E_MISMATCH, "taut_state_load: layer '%s' is not registered", s->name);
    if (l->tensor.elems != s->elems || (uint64_t)l->dtype != s->dtype)
        return taut__fail(TAUT_E_MISMATCH, "taut_state_load: layer '%s' has %zu elements, saved were %llu", s->name,
                          l->tensor.elems, (unsigned long long)s->elems);
    size_t one = s->elems * sizeof(float);
    if (s->residual_n != 0 && s->residual_n != one && s->residual_n != 2 * one) return truncated();
    return taut__spec_parse(s->spec, &spec);
}

/* Adds a saved residual, in units of this communicator. Momentum is kept where both sides have it. */
static taut_status load_residual(taut_layer *l, const saved_layer *s, uint64_t ranks)
{
    size_t n = l->tensor.elems;
    float  scale = s->op == TAUT_MEAN + 1 ? (float)l->comm->all.size / (float)ranks : 1;
    if (!l->feedback) TAUT_TRY(taut__feedback_create(n, 0, &l->feedback));
    taut_feedback *f = l->feedback;
    if (!l->residual) taut__feedback_clear(f, 0, n);
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, s->residual + i * sizeof v, sizeof v);
        f->r[i] += scale * v;
        if (!f->u || s->residual_n == n * sizeof v) continue;
        memcpy(&v, s->residual + (n + i) * sizeof v, sizeof v);
        f->u[i] += scale * v;
    }
    taut__feedback_scrub(f, 0, n);
    l->residual = true;
    return TAUT_OK;
}

static taut_status load_layer(taut_layer *l, const saved_layer *s, uint64_t ranks)
{
    taut_spec spec;
    TAUT_TRY(taut__spec_parse(s->spec, &spec));
    if (l->automatic) TAUT_TRY(taut__layer_adopt(l, &spec));
    else TAUT_TRY(taut__layer_prepare(l));
    l->calls = l->calls_at_step = taut__max(l->calls, s->calls);
    if (s->op) l->last_op = (int)s->op - 1;
    if (s->residual_n) TAUT_TRY(load_residual(l, s, ranks));
    char now[96];
    taut__spec_print(&l->spec, now, sizeof now);
    bool same = strcmp(now, s->spec) == 0 && l->state;
    return s->state_n && same ? taut__spec_codec(&l->wire)->state_load(l->state, s->state, s->state_n) : TAUT_OK;
}

/* Twice over the blob: first everything is checked, so that a bad one changes nothing. */
static taut_status walk(taut_comm *comm, reader r, bool apply)
{
    uint64_t    magic = take_n(&r, 4), version = take_n(&r, 4), ranks = take_n(&r, 8), steps = take_n(&r, 8), layers = take_n(&r, 8);
    saved_layer s;
    size_t      n;
    if (r.bad || magic != MAGIC) return taut__fail(TAUT_E_CORRUPT, "taut_state_load: not a saved state");
    if (version != VERSION)
        return taut__fail(TAUT_E_VERSION, "taut_state_load: version %llu: this library reads %d", (unsigned long long)version, VERSION);
    if (ranks == 0 || ranks > INT32_MAX) return truncated();
    for (uint64_t i = 0; i < layers; i++) {
        TAUT_TRY(read_layer(&r, &s));
        TAUT_TRY(check_layer(comm, &s));
        if (apply) TAUT_TRY(load_layer(match(comm, &s), &s, ranks));
    }
    const uint8_t *plan = take_section(&r, &n);
    if (r.bad || r.left) return truncated();
    if (!apply) return TAUT_OK;
    comm->steps = steps;
    return n && comm->autom ? comm->hooks->load(comm->autom, plan, n) : TAUT_OK;
}

taut_status taut_state_load(taut_comm *comm, const void *src, size_t len)
{
    if (!comm || !src) return taut__fail(TAUT_E_INVALID, "taut_state_load: comm or src is NULL");
    TAUT_TRY(between_steps(comm, "taut_state_load"));
    reader r = {src, len, false};
    TAUT_TRY(walk(comm, r, false));
    return walk(comm, r, true);
}
