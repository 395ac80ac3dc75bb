/* state_load.c : reads checkpoints (state.h). Nothing of a blob is trusted, checksum or not.
 *
 * A load has two halves. read_blob() reads everything, and checks it against the communicator; make_ready() makes what needs memory.
 * Neither changes anything that a program can see. Only then apply() puts it in place of what is there, which cannot fail.
 *
 * Residuals of several ranks add up in one, where there were more of them: loads that follow each other, with no collective in
 * between, of different ranks of one set of blobs. Under TAUT_MEAN a residual counts 1/ranks of itself, so with another number
 * of ranks it is scaled to keep what it stands for. */
#include "state.h"
#include "../../compressors/basis/basis.h"
#include <math.h>

typedef struct saved_layer {
    taut_layer       *layer;
    taut_spec         spec;
    uint64_t          dtype, op, elems, calls;
    const uint8_t    *residual, *state, *agreement, *sample, *basis;
    size_t            residual_n, state_n, agreement_n, sample_n, basis_n;
    taut_feedback    *feedback;   /* made for it; NULL: the layer has one, or needs none */
    taut_codec_state *fresh;      /* that replaces the layer's */
    taut_axes        *axes;       /* likewise */
    size_t            directions; /* of the saved basis; 0: none */
    bool              sharded;
} saved_layer;

typedef struct blob {
    taut_comm     *comm;
    uint64_t       rank, ranks, steps;
    saved_layer   *layer; /* one per layer of the communicator, in its order; .layer NULL: not in the blob */
    const uint8_t *plan, *sampling;
    size_t         plan_n, sampling_n;
    bool           residuals; /* wanted */
    /* only its residuals, which are added: a further blob of the set that the last load began, or as was asked for */
    bool more;
} blob;

/* ---- reading ---- */

static taut_status damaged(const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "taut_state_load: truncated or damaged: %s", what);
}

static const uint8_t *read_section(taut__reader *r, size_t *n)
{
    uint64_t       bytes = taut__read64(r);
    const uint8_t *p = taut__read(r, bytes);
    *n = p ? (size_t)bytes : 0;
    return p;
}

static taut_status check_spec(saved_layer *s, const char *text)
{
    const taut__algorithm *via;
    taut_layer            *l = s->layer;
    taut_status            status = taut__spec_parse(text, &s->spec);
    if (status == TAUT_OK && s->spec.automatic) status = taut__fail(TAUT_E_CORRUPT, "auto is no codec of a layer");
    if (status == TAUT_OK) status = taut__spec_suits(&s->spec, &l->operand.tensor);
    if (status == TAUT_OK && l->automatic) status = taut__algorithm_for(&l->comm->ctx, &l->operand, &s->spec, &via);
    return status == TAUT_OK
               ? TAUT_OK
               : taut__fail(TAUT_E_CORRUPT,
                            "taut_state_load: layer '%s': saved with codec '%.200s', which it cannot have", l->name,
                            text);
}

static taut_status check_sizes(const saved_layer *s)
{
    size_t one = s->layer->operand.tensor.elems * sizeof(float);
    if (s->residual_n != 0 && s->residual_n != one && s->residual_n != 2 * one)
        return damaged("a residual of another size");
    return s->op <= TAUT_MEAN + 1 ? TAUT_OK : damaged("a layer's operation");
}

static taut_status read_layer(blob *b, taut__reader *r)
{
    char        name[sizeof b->comm->layer[0]->name], spec[TAUT_LONG_SPEC];
    saved_layer s = {0};
    taut__read_text(r, name, sizeof name);
    s.dtype = taut__read16(r);
    s.op = taut__read16(r);
    s.sharded = s.op & TAUT_STATE_SHARDED;
    s.op &= ~(uint64_t)TAUT_STATE_SHARDED;
    s.elems = taut__read64(r);
    s.calls = taut__read64(r);
    taut__read_text(r, spec, sizeof spec);
    s.residual = read_section(r, &s.residual_n);
    s.state = read_section(r, &s.state_n);
    s.agreement = read_section(r, &s.agreement_n);
    s.sample = read_section(r, &s.sample_n);
    s.basis = read_section(r, &s.basis_n);
    if (r->bad) return damaged("a layer");
    s.layer = taut__layer_named(b->comm, name);
    bool own = strncmp(name, TAUT_OWN_NAMES, sizeof TAUT_OWN_NAMES - 1) == 0; /* without a plan there are none */
    if (!s.layer && own) return TAUT_OK;
    if (own && s.layer->operand.tensor.elems !=
                   s.elems) { /* a bucket of others: small layers came later in that run, or earlier */
        taut__log(s.residual_n ? TAUT_LOG_WARN : TAUT_LOG_INFO, "comm",
                  "taut_state_load: '%s' holds other layers than it did: its plan%s is left out", name,
                  s.residual_n ? ", and what feedback kept of them," : "");
        return TAUT_OK;
    }
    if (!s.layer) return taut__fail(TAUT_E_MISMATCH, "taut_state_load: layer '%s' is not registered", name);
    if (s.layer->operand.tensor.elems != s.elems || (uint64_t)s.layer->operand.dtype != s.dtype)
        return taut__fail(TAUT_E_MISMATCH,
                          "taut_state_load: layer '%s' has %zu elements, saved were %llu, or another dtype", name,
                          s.layer->operand.tensor.elems, (unsigned long long)s.elems);
    if (b->layer[s.layer->index].layer) return damaged("a layer occurs twice");
    TAUT_TRY(check_sizes(&s));
    TAUT_TRY(check_spec(&s, spec));
    TAUT_TRY(taut__sample_check(s.layer, s.sample, s.sample_n));
    if (!s.basis_n && s.calls > 0 && taut__spec_basis(&s.spec) > 0 && taut__axes_suit(&s.layer->operand.tensor))
        return damaged("a basis is missing");
    if (s.basis_n) TAUT_TRY(taut__axes_check(&s.layer->operand.tensor, s.basis, s.basis_n, &s.directions));
    b->layer[s.layer->index] = s;
    return TAUT_OK;
}

static taut_status read_header(const uint8_t *src, size_t len)
{
    if (len < TAUT_STATE_HEADER)
        return taut__fail(TAUT_E_CORRUPT, "taut_state_load: %zu bytes: not a saved state, which has %d and more", len,
                          TAUT_STATE_HEADER);
    if (taut__get32(src) != TAUT_STATE_MAGIC)
        return taut__fail(TAUT_E_CORRUPT,
                          "taut_state_load: begins with %08x: not a saved state, which begins with %08x",
                          taut__get32(src), TAUT_STATE_MAGIC);
    uint32_t version = taut__get32(src + 4);
    uint64_t bytes = taut__get64(src + TAUT_STATE_BYTES_AT);
    if (version != TAUT_STATE_VERSION) /* a damaged version is as likely as another one */
        return taut__fail(version < 64 ? TAUT_E_VERSION : TAUT_E_CORRUPT,
                          "taut_state_load: saved by version %u of the format: this library reads %d", version,
                          TAUT_STATE_VERSION);
    if (bytes != len)
        return taut__fail(TAUT_E_CORRUPT, "taut_state_load: %zu bytes were given, %llu were saved", len,
                          (unsigned long long)bytes);
    return taut__get64(src + TAUT_STATE_SUM_AT) == taut__state_checksum(src, len) ? TAUT_OK
                                                                                  : damaged("the checksum differs");
}

static taut_status read_blob(blob *b, const uint8_t *src, size_t len)
{
    TAUT_TRY(read_header(src, len));
    taut__reader r = {src + TAUT_STATE_HEADER, len - TAUT_STATE_HEADER, false};
    b->rank = taut__read64(&r);
    b->ranks = taut__read64(&r);
    b->steps = taut__read64(&r);
    uint64_t layers = taut__read64(&r);
    if (r.bad || b->ranks == 0 || b->ranks > INT32_MAX || b->rank >= b->ranks) return damaged("its header");
    for (uint64_t i = 0; i < layers; i++) TAUT_TRY(read_layer(b, &r));
    b->sampling = read_section(&r, &b->sampling_n);
    b->plan = read_section(&r, &b->plan_n);
    if (r.bad || r.left) return damaged("its end");
    TAUT_TRY(taut__sampling_check(b->comm, b->sampling, b->sampling_n));
    return b->plan_n && b->comm->autom ? b->comm->hooks->check(b->comm->autom, b->plan, b->plan_n) : TAUT_OK;
}

/* ---- what needs memory ---- */

static bool same_spec(const taut_layer *l, const taut_spec *spec)
{
    char now[TAUT_LONG_SPEC], then[TAUT_LONG_SPEC];
    taut__spec_print(&l->spec, now, sizeof now);
    taut__spec_print(spec, then, sizeof then);
    return strcmp(now, then) == 0;
}

/* The codec state that the layer will have: the saved one where its codec is the same, else as at the beginning. */
static taut_status make_state(taut_layer *l, saved_layer *s)
{
    const taut_spec  *spec = s->layer && l->automatic ? &s->spec : &l->operand.wire;
    const taut_codec *codec = taut__spec_codec(spec);
    if (spec->stages != 1 || !(codec->caps & TAUT_CAP_STATEFUL)) return TAUT_OK;
    TAUT_TRY(taut__op_state_create(codec, &spec->stage[0], &l->operand.tensor, l->operand.seed, taut__layer_place(l),
                                   &s->fresh));
    bool same = s->layer && (l->automatic || same_spec(l, &s->spec));
    return same && s->state_n ? taut__op_state_load(codec, taut__layer_place(l), s->fresh, s->state, s->state_n)
                              : TAUT_OK;
}

/* The basis that the layer will have: the saved one where as many directions are wanted, else none yet. */
static taut_status make_axes(taut_layer *l, saved_layer *s)
{
    const taut_spec *spec = s->layer && l->automatic ? &s->spec : &l->operand.wire;
    size_t           wanted = taut__spec_basis(spec), most = wanted == 0 && l->automatic ? s->directions : wanted;
    if (most == 0 || !taut__axes_suit(&l->operand.tensor)) return TAUT_OK;
    TAUT_TRY(taut__axes_create(&l->operand.tensor, most, l->operand.seed, &s->axes));
    return s->directions == most ? taut__axes_load(s->axes, s->basis, s->basis_n) : TAUT_OK;
}

static taut_status make_ready(blob *b)
{
    for (size_t i = 0; i < b->comm->layers; i++) {
        saved_layer *s = &b->layer[i];
        taut_layer  *l = b->comm->layer[i];
        bool         residual = s->residual_n && b->residuals;
        if (residual && !l->operand.feedback)
            TAUT_TRY(taut__feedback_create_in(taut__layer_place(l), l->operand.tensor.elems, taut__layer_momentum(l),
                                              &s->feedback));
        if (!b->more) TAUT_TRY(make_state(l, s));
        if (!b->more) TAUT_TRY(make_axes(l, s));
        if (!b->more && s->agreement_n) TAUT_TRY(taut__agree_check(s->agreement, s->agreement_n));
    }
    return TAUT_OK;
}

static void discard(blob *b)
{
    for (size_t i = 0; b->layer && i < b->comm->layers; i++) {
        saved_layer     *s = &b->layer[i];
        const taut_spec *spec = s->layer && b->comm->layer[i]->automatic ? &s->spec : &b->comm->layer[i]->operand.wire;
        taut__feedback_destroy(s->feedback);
        taut__axes_destroy(s->axes);
        if (s->fresh) taut__op_state_destroy(taut__spec_codec(spec), taut__layer_place(b->comm->layer[i]), s->fresh);
    }
    taut__free(b->layer);
}

/* ---- applying ---- */

/* Layers with sharded collectives go by other algorithms, and so to other bytes. */
static void follow_sharded(taut_layer *l, const saved_layer *s)
{
    if (!s->layer) return;
    l->sample.scattered = s->sharded;
    if (l->operand.sharded == s->sharded) return;
    taut__layer_unprepare(l);
    l->operand.sharded = s->sharded;
}

/* Plans give layers their codecs. Out of memory for one of them ends the communicator, as it does in a step. */
static taut_status adopt_specs(blob *b)
{
    for (size_t i = 0; i < b->comm->layers; i++) {
        taut_layer *l = b->comm->layer[i];
        taut_status s = TAUT_OK;
        follow_sharded(l, &b->layer[i]);
        if (b->layer[i].layer && l->automatic) s = taut__layer_adopt(l, &b->layer[i].spec);
        else if (b->layer[i].agreement_n) s = taut__layer_prepare(l);
        TAUT_TRY(taut__engine_tell(&b->comm->ctx.engine, s));
    }
    return TAUT_OK;
}

static bool same_ranks(const blob *b) { return b->ranks == (uint64_t)b->comm->ctx.all.size; }
/* x[i] += scale * saved[i], 0 where that is not finite. x lies in the lane's place, saved anywhere. */
static taut_status add_saved(const taut__lane *lane, float *x, const uint8_t *saved, size_t n, float scale)
{
    bool   home = taut__lane_on_host(lane);
    float *here = home ? x : taut__alloc(n, sizeof *here);
    if (!here) return taut__fail(TAUT_E_NOMEM, "taut_state_load: out of memory for %zu elements", n);
    taut_status s = home ? TAUT_OK : taut__lane_copy(lane, here, x, n * sizeof *x);
    for (size_t i = 0; i < n && s == TAUT_OK; i++) {
        float v;
        memcpy(&v, saved + i * sizeof v, sizeof v);
        here[i] += scale * v;
        if (!isfinite(here[i])) here[i] = 0;
    }
    if (home) return s;
    if (s == TAUT_OK) s = taut__lane_copy(lane, x, here, n * sizeof *x);
    taut__free(here);
    return s;
}

static void put_residual(taut_layer *l, saved_layer *s, const blob *b)
{
    size_t n = l->operand.tensor.elems;
    float  scale = s->op == TAUT_MEAN + 1 ? (float)b->comm->ctx.all.size / (float)b->ranks : 1;
    if (s->feedback && !l->operand.feedback) /* else the codec that the layer has now has brought its own */
        l->operand.feedback = s->feedback, s->feedback = NULL;
    taut_feedback *f = l->operand.feedback;
    if (f && (!b->more || !l->operand.residual)) taut__feedback_clear(f, 0, n);
    if (!b->more) l->operand.residual = false;
    if (!f || !s->residual_n || !b->residuals) return;
    l->residual_all = -1;
    bool both = f->u && s->residual_n > n * sizeof *f->u; /* momentum is kept where both sides have it */
    taut__lane_note(l->reduction.lane, add_saved(taut__layer_lane(l), f->r, s->residual, n, scale));
    if (both)
        taut__lane_note(l->reduction.lane,
                        add_saved(taut__layer_lane(l), f->u, s->residual + n * sizeof *f->u, n, scale));
    l->operand.residual = true;
    atomic_store(&l->comm->ctx.feeding, true);
}

static void put_layer(taut_layer *l, saved_layer *s, const blob *b)
{
    put_residual(l, s, b);
    if (b->more) return;
    if (l->operand.state)
        taut__op_state_destroy(taut__spec_codec(&l->operand.wire), taut__layer_place(l), l->operand.state);
    l->operand.state = s->fresh, s->fresh = NULL;
    taut__axes_destroy(l->operand.axes);
    l->operand.axes = s->axes, s->axes = NULL;
    if (l->automatic) l->directions = l->planned.directions = l->operand.axes ? taut__axes_most(l->operand.axes) : 0;
    l->operand.learns = l->operand.axes && !taut__axes_given(l->operand.axes);
    l->operand.calls = l->calls_at_step = s->calls;
    l->last_op = (int)s->op - 1;
    l->ops = 0;
    l->dropping = false;
    taut__agree_load(&l->reduction, s->agreement, s->agreement_n);
    taut__sample_load(l, s->sample,
                      s->layer && same_ranks(b) && same_spec(l, &s->spec) ? s->sample_n : 0); /* else other errors */
}

static taut_status apply(blob *b)
{
    taut_comm *comm = b->comm;
    if (!b->more) TAUT_TRY(adopt_specs(b));
    taut__engine_hold(&comm->ctx.engine);
    for (size_t i = 0; i < comm->layers; i++) {
        if (!b->layer[i].layer) b->layer[i].op = 0;
        put_layer(comm->layer[i], &b->layer[i], b);
    }
    taut__engine_release(&comm->ctx.engine);
    if (b->more) return TAUT_OK;
    comm->steps = b->steps;
    taut__sampling_load(comm, b->sampling, same_ranks(b) ? b->sampling_n : 0);
    if (!comm->autom) return TAUT_OK;
    taut__planned_before(comm);
    taut_status s = comm->hooks->load(comm->autom, b->plan, b->plan_n);
    if (s == TAUT_OK) s = taut__planned_apply(comm);
    return taut__engine_tell(&comm->ctx.engine, s); /* as above */
}

/* ---- sets of blobs ---- */

static bool loaded(const taut__loads *set, uint64_t rank)
{
    for (size_t i = 0; i < set->n; i++)
        if (set->rank[i] == rank) return true;
    return false;
}

static bool belongs(const taut__loads *set, const blob *b)
{
    return set->open && set->ranks == b->ranks && set->steps == b->steps && !loaded(set, b->rank);
}

static taut_status room_for_rank(taut__loads *set)
{
    if (set->n < set->room) return TAUT_OK;
    size_t room = 2 * set->room + 16;
    if (!taut__grow(&set->rank, set->n, room, sizeof *set->rank))
        return taut__fail(TAUT_E_NOMEM, "taut_state_load: out of memory");
    set->room = room;
    return TAUT_OK;
}

static void note(taut__loads *set, const blob *b)
{
    if (!b->more) set->n = 0;
    set->open = b->residuals;
    set->ranks = b->ranks, set->steps = b->steps;
    set->rank[set->n++] = b->rank;
}

enum { WHOLE, SHARED, RESIDUALS }; /* what of a blob is taken */

static taut_status load(taut_comm *comm, const void *src, size_t len, int what, const char *call)
{
    if (!comm || !src) return taut__fail(TAUT_E_INVALID, "%s: comm or src is NULL", call);
    TAUT_TRY(taut__state_between_steps(comm, call));
    for (size_t i = 0; i < comm->layers; i++)
        if (comm->layer[i]->graph)
            return taut__fail(TAUT_E_STATE, "%s: layer '%s' is part of a graph", call, comm->layer[i]->name);
    TAUT_TRY(taut__fuse_close_all(comm)); /* their plans are in the blob */
    blob b = {
        .comm = comm, .residuals = what != SHARED, .layer = taut__alloc(taut__max(comm->layers, 1), sizeof *b.layer)};
    if (!b.layer) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", call);
    taut_status s = read_blob(&b, src, len);
    b.more = s == TAUT_OK && (what == RESIDUALS || (what == WHOLE && belongs(&comm->loads, &b)));
    if (s == TAUT_OK) s = room_for_rank(&comm->loads);
    if (s == TAUT_OK) s = make_ready(&b);
    if (s == TAUT_OK) s = apply(&b);
    if (s == TAUT_OK && what != RESIDUALS) note(&comm->loads, &b);
    discard(&b);
    return s;
}

taut_status taut_state_load(taut_comm *comm, const void *src, size_t len)
{
    TAUT_KEEP_DEVICE(load(comm, src, len, WHOLE, "taut_state_load"));
}

taut_status taut_state_join(taut_comm *comm, const void *src, size_t len)
{
    TAUT_KEEP_DEVICE(load(comm, src, len, SHARED, "taut_state_join"));
}

taut_status taut_state_add(taut_comm *comm, const void *src, size_t len)
{
    TAUT_KEEP_DEVICE(load(comm, src, len, RESIDUALS, "taut_state_add"));
}
