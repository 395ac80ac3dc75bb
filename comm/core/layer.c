/* layer.c : layers: registration, codec, scale, and the collectives on them. */
#include "communicator.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const char *const dtype_name[] = {"f32", "f16", "bf16"};

const char *taut__layer_text(const taut_layer *l, char *dst, size_t cap)
{
    char   spec[96] = "auto";
    size_t at;
    if (!l->automatic) taut__spec_print(&l->spec, spec, sizeof spec);
    at = (size_t)snprintf(dst, cap, "'%s' %s [", l->name, dtype_name[l->dtype]);
    for (int d = 0; d < l->ndim && at < cap; d++)
        at += (size_t)snprintf(dst + at, cap - at, "%s%zu", d ? "," : "", l->shape[d]);
    if (at < cap) snprintf(dst + at, cap - at, "] %s", spec);
    return dst;
}

/* ---- spec and memory ---- */

static taut_status none_spec(taut_spec *spec) { return taut__spec_parse("none", spec); }

/* 16-bit tensors without a codec travel in their own format: a float32 sum at the owner, rounded once. */
static taut_status wire_spec(const taut_layer *l, const taut_spec *spec, taut_spec *wire)
{
    *wire = *spec;
    bool plain = taut__spec_caps(spec) & TAUT_CAP_LOSSLESS;
    if (!plain || l->dtype == TAUT_F32) return TAUT_OK;
    return taut__spec_parse(l->dtype == TAUT_F16 ? "fp16:overflow=inf" : "bf16:overflow=inf", wire);
}

static bool wants_feedback(const taut_layer *l, const taut_spec *spec)
{
    int32_t  mode = l->comm->set.feedback;
    uint32_t caps = taut__spec_caps(spec);
    if (caps & TAUT_CAP_LOSSLESS || mode == TAUT_FEEDBACK_OFF || taut__spec_expands(spec)) return false;
    return mode == TAUT_FEEDBACK_AUTO ? (caps & TAUT_CAP_FEEDBACK) != 0 : true;
}

/* Memory for x: with feedback, and wherever x cannot be read from buf (16 bit) or must outlive encoding (linear). */
float taut__layer_momentum(const taut_layer *l) { return l->comm->set.feedback == TAUT_FEEDBACK_MOMENTUM ? l->comm->set.c.momentum : 0; }

static taut_status need_feedback(taut_layer *l)
{
    const taut__algorithm *via;
    TAUT_TRY(taut__algorithm_for(l, &l->wire, &via));
    l->feedback_on = wants_feedback(l, &l->spec);
    if (l->feedback_on) atomic_store(&l->comm->feeding, true);
    bool needed = l->feedback_on || l->dtype != TAUT_F32 || via == &taut__linear;
    if (!needed || l->feedback) return TAUT_OK;
    return taut__feedback_create(l->tensor.elems, taut__layer_momentum(l), &l->feedback);
}

static taut_status need_state(taut_layer *l)
{
    const taut_codec *codec = taut__spec_codec(&l->wire);
    if (l->wire.stages != 1 || !(codec->caps & TAUT_CAP_STATEFUL) || l->state) return TAUT_OK;
    return codec->state_create(&l->wire.stage[0], &l->tensor, l->seed, &l->state);
}

static void drop_state(taut_layer *l)
{
    if (l->state) taut__spec_codec(&l->wire)->state_destroy(l->state);
    l->state = NULL;
}

static taut_status prepare(taut_layer *l)
{
    TAUT_TRY(need_feedback(l));
    TAUT_TRY(taut__drop_prepare(l));
    TAUT_TRY(need_state(l));
    TAUT_TRY(taut__sample_prepare(l));
    return taut__job_prepare(&l->job);
}

/* Other layers' jobs may be running: scratch and requests are shared with them. */
taut_status taut__layer_prepare(taut_layer *l)
{
    if (l->prepared) return TAUT_OK;
    taut__engine_hold(&l->comm->engine);
    taut_status s = prepare(l);
    taut__engine_release(&l->comm->engine);
    l->prepared = s == TAUT_OK;
    return s;
}

/* Its slots are on the arena's list, which jobs of other layers may be using. */
static void release(taut_layer *l)
{
    taut__engine_hold(&l->comm->engine);
    taut__job_release(&l->job);
    taut__engine_release(&l->comm->engine);
    l->prepared = false;
}

/* Jobs of other layers, which read the count, may be running. */
static void note_loss(taut_layer *l, bool lossy)
{
    atomic_fetch_add(&l->comm->lossy, (size_t)lossy - (size_t)l->lossy);
    l->lossy = lossy;
}

static taut_status use_spec(taut_layer *l, const taut_spec *spec)
{
    const taut__algorithm *via;
    taut_spec             wire;
    TAUT_TRY(wire_spec(l, spec, &wire));
    TAUT_TRY(taut__spec_suits(&wire, &l->tensor));
    TAUT_TRY(taut__algorithm_for(l, &wire, &via));
    release(l);
    drop_state(l);
    l->spec = *spec;
    l->wire = wire;
    taut__sample_reset(l);
    note_loss(l, !(taut__spec_caps(spec) & TAUT_CAP_LOSSLESS));
    return TAUT_OK;
}

/* Another value of a key that changes no memory: the same codec, without state, and the same capacity. */
static bool fits_as_it_is(const taut_layer *l, const taut_spec *spec)
{
    const taut_codec *codec = taut__spec_codec(spec);
    if (!l->prepared || spec->stages != 1 || l->spec.stages != 1 || codec != taut__spec_codec(&l->spec)) return false;
    return !(codec->caps & TAUT_CAP_STATEFUL) && taut__spec_suits(spec, &l->tensor) == TAUT_OK &&
           taut__spec_capacity(spec, &l->tensor, l->tensor.elems) == taut__spec_capacity(&l->wire, &l->tensor, l->tensor.elems);
}

taut_status taut__layer_adopt(taut_layer *l, const taut_spec *spec)
{
    if (fits_as_it_is(l, spec)) {
        l->spec = l->wire = *spec;
        return TAUT_OK;
    }
    TAUT_TRY(use_spec(l, spec));
    return taut__layer_prepare(l);
}

static const double REL_MOST = 0.95; /* beyond, nearly nothing would be sent */

bool taut__layer_set_error_scale(taut_layer *l, double factor)
{
    const taut_stage *stage = &l->spec.stage[0];
    uint32_t          key = l->spec.stages == 1 ? stage->codec->error_key : 0;
    if (key == 0) return false;
    l->wire.stage[0].value[key - 1] = fmin(stage->value[key - 1] * factor, REL_MOST);
    return true;
}

static void add_norms(taut_norm2 *sum, const taut_norm2 *more)
{
    sum->plain += more->plain;
    sum->weighted += more->weighted;
}

void taut__layer_count(taut_layer *l)
{
    const taut__record *r = &l->job.record;
    if (l->calls == l->calls_at_step) l->lost = (taut__step_record){0}; /* the step's first */
    add_norms(&l->lost.own, &r->own), add_norms(&l->lost.sum, &r->sum);
    add_norms(&l->lost.error, &r->error), add_norms(&l->lost.requantization_error, &r->requantization_error);
    l->lost.payload_bytes += r->payload_bytes;
    l->lost.encoded += r->encoded;
    l->calls++;
    l->bytes_sent += r->bytes_sent;
    l->bytes_dense += r->bytes_dense;
}

/* ---- registration ---- */

enum { PART_BLOCK = 64, AUTO_BLOCK = 512 }; /* a cache line of 16-bit values and more; blocks of all automatic candidates */

static taut_status check_shape(const char *name, int ndim, const size_t *shape, size_t *elems)
{
    *elems = 1;
    if (!name || !*name || strlen(name) >= sizeof ((taut_layer *)0)->name)
        return taut__fail(TAUT_E_INVALID, "taut_layer_register: name of %zu characters: must be 1..127", name ? strlen(name) : 0);
    if (ndim < 0 || ndim > 8 || (ndim > 0 && !shape))
        return taut__fail(TAUT_E_RANGE, "layer '%s': ndim=%d: must be 0..8, with a shape", name, ndim);
    for (int d = 0; d < ndim; d++)
        if (shape[d] == 0 || !taut__mul_ok(*elems, shape[d], elems) || *elems > SIZE_MAX / 64)
            return taut__fail(TAUT_E_RANGE, "layer '%s': extent %d is %zu: the product of all must be 1..2^58", name, d, shape[d]);
    return TAUT_OK;
}

static taut_layer *find(const taut_comm *comm, const char *name)
{
    for (size_t i = 0; i < comm->layers; i++)
        if (strcmp(comm->layer[i]->name, name) == 0) return comm->layer[i];
    return NULL;
}

static uint64_t seed_of(const taut_comm *comm, const char *name)
{
    uint64_t h = comm->set.c.seed;
    for (; *name; name++) h = taut__seed(h, (unsigned char)*name);
    return h;
}

static taut_status room_for_layer(taut_comm *comm)
{
    if (comm->layers < comm->room) return TAUT_OK;
    size_t       room = taut__max(64, 2 * comm->room);
    TAUT_TRY(taut__lent_room(comm, room));
    taut_layer **more = taut__alloc(room, sizeof *more);
    if (!more) return taut__fail(TAUT_E_NOMEM, "out of memory for %zu layers", room);
    taut__engine_hold(&comm->engine);
    if (comm->layers) memcpy(more, comm->layer, comm->layers * sizeof *more);
    taut__free(comm->layer);
    comm->layer = more;
    comm->room = room;
    taut__engine_release(&comm->engine);
    return TAUT_OK;
}

static taut_layer *layer_create(taut_comm *comm, const char *name, taut_dtype dtype, int ndim, const size_t *shape, size_t n)
{
    taut_layer *l = taut__alloc(1, sizeof *l);
    if (!l) return NULL;
    l->comm = comm;
    l->index = comm->layers;
    memcpy(l->name, name, strlen(name));
    l->dtype = dtype;
    l->ndim = ndim;
    if (ndim) memcpy(l->shape, shape, (size_t)ndim * sizeof *shape);
    size_t rows = ndim ? shape[0] : 1;
    l->tensor = (taut_tensor){.elems = n, .rows = rows, .cols = n / rows, .space = TAUT_HOST};
    l->seed = seed_of(comm, name);
    l->last_op = -1;
    return l;
}

/* The communicator's spec is meant for all layers, whatever their shapes: one that it does not suit (rank 4 of two rows) goes
 * without. Settings that no layer suits (ring with powersgd) are an error. */
static taut_status suited(const taut_layer *l, taut_spec *spec)
{
    if (taut__spec_suits(spec, &l->tensor) == TAUT_OK) return TAUT_OK;
    bool first = !l->comm->unsuited;
    l->comm->unsuited = true;
    taut__log(first ? TAUT_LOG_WARN : TAUT_LOG_INFO, "comm", "layer '%s' travels uncompressed: %s%s", l->name, taut_last_error(),
              first ? " (TAUT_LOG=info names further ones)" : "");
    return none_spec(spec);
}

/* The plan's arrays, which grow, are read when jobs of other layers form their input. */
static taut_status join_plan(taut_layer *l)
{
    taut_comm *comm = l->comm;
    if (!comm->autom) return TAUT_OK;
    taut__engine_hold(&comm->engine);
    taut_status s = comm->hooks->on_register(comm->autom, l);
    taut__engine_release(&comm->engine);
    return s;
}

static void leave_plan(taut_layer *l)
{
    taut_comm *comm = l->comm;
    if (!comm->autom) return;
    taut__engine_hold(&comm->engine);
    comm->hooks->on_exclude(comm->autom, l);
    taut__engine_release(&comm->engine);
}

static taut_status register_spec(taut_layer *l)
{
    taut_comm *comm = l->comm;
    taut_spec  spec = comm->set.spec;
    bool       small = l->ndim <= 1 || l->tensor.elems < comm->set.c.small_elems;
    l->automatic = !small && spec.automatic;
    if (small || spec.automatic) TAUT_TRY(none_spec(&spec));
    else TAUT_TRY(suited(l, &spec));
    TAUT_TRY(use_spec(l, &spec));
    l->block = l->automatic ? AUTO_BLOCK : taut__round_up(PART_BLOCK, taut__spec_align(&l->wire));
    if (small) TAUT_TRY(taut__fuse_register(l));
    return l->automatic ? join_plan(l) : TAUT_OK;
}

taut_status taut_layer_register(taut_comm *comm, const char *name, taut_dtype dtype, int ndim, const size_t *shape,
                                taut_layer **layer)
{
    size_t n;
    if (layer) *layer = NULL;
    if (!comm || !layer) return taut__fail(TAUT_E_INVALID, "taut_layer_register: comm or layer is NULL");
    TAUT_TRY(taut__comm_check(comm, "taut_layer_register"));
    if ((unsigned)dtype > TAUT_BF16) return taut__fail(TAUT_E_INVALID, "taut_layer_register: dtype=%d: must be 0..2", (int)dtype);
    TAUT_TRY(check_shape(name, ndim, shape, &n));
    if (find(comm, name)) return taut__fail(TAUT_E_INVALID, "layer '%s': registered already", name);
    TAUT_TRY(room_for_layer(comm));
    taut_layer *l = layer_create(comm, name, dtype, ndim, shape, n);
    if (!l) return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", name);
    taut_status s = taut__job_init(&l->job, l);
    if (s == TAUT_OK) s = register_spec(l);
    if (s != TAUT_OK) {
        taut__layer_destroy(l);
        return s;
    }
    comm->layer[comm->layers++] = l;
    *layer = l;
    return TAUT_OK;
}

void taut__layer_destroy(taut_layer *l)
{
    if (!l) return;
    taut__job_release(&l->job);
    drop_state(l);
    note_loss(l, false);
    taut__feedback_destroy(l->feedback);
    taut__free(l->before);
    taut__free(l->spread);
    taut__sample_release(l);
    taut__free(l->scale);
    taut__free(l->lent_checksums);
    taut__free(l);
}

taut_status taut_layer_codec(taut_layer *l, const char *text)
{
    taut_spec spec;
    if (!l || !text) return taut__fail(TAUT_E_INVALID, "taut_layer_codec: layer or spec is NULL");
    if (l->started || l->calls > 0 || l->index < l->comm->handshake.layers) /* while it is started, calls belongs to its job */
        return taut__fail(TAUT_E_STATE, "layer '%s': taut_layer_codec after the layer's first step", l->name);
    TAUT_TRY(taut__spec_parse(text, &spec));
    bool automatic = spec.automatic;
    if (automatic) TAUT_TRY(none_spec(&spec));
    taut_status s = taut__settings_feedback(&l->comm->set, &spec); /* what a plan chooses goes without */
    if (s == TAUT_OK) s = use_spec(l, &spec);
    if (s != TAUT_OK) {
        char why[512];
        snprintf(why, sizeof why, "%s", taut_last_error());
        return taut__fail(s, "layer '%s': %s", l->name, why);
    }
    if (l->bucket) TAUT_TRY(taut__fuse_leave(l));
    if (l->automatic && !automatic) leave_plan(l);
    if (!l->automatic && automatic) TAUT_TRY(join_plan(l));
    l->automatic = automatic;
    l->pinned = !automatic;
    l->block = automatic ? AUTO_BLOCK : taut__round_up(PART_BLOCK, taut__spec_align(&l->wire));
    return TAUT_OK;
}

taut_status taut_layer_scale(taut_layer *l, const float *s, size_t n)
{
    if (!l || (n > 0 && !s)) return taut__fail(TAUT_E_INVALID, "taut_layer_scale: layer or s is NULL");
    if (l->started) return taut__fail(TAUT_E_STATE, "layer '%s': taut_layer_scale between start and wait", l->name);
    if (n > 1 && n != l->tensor.rows && n != l->tensor.elems)
        return taut__fail(TAUT_E_RANGE, "layer '%s': scale of %zu values: must be 0, 1, %zu (rows) or %zu (elements)", l->name, n,
                          l->tensor.rows, l->tensor.elems);
    for (size_t i = 0; i < n; i++)
        if (!(s[i] > 0) || !isfinite(s[i]))
            return taut__fail(TAUT_E_RANGE, "layer '%s': scale[%zu]=%g: must be positive and finite", l->name, i, (double)s[i]);
    if (n != l->tensor.scale_n || !l->scale) {
        float *copy = n ? taut__alloc(n, sizeof *copy) : NULL;
        if (n && !copy) return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
        taut__free(l->scale);
        l->scale = copy;
    }
    if (n) memcpy(l->scale, s, n * sizeof *s);
    l->scale_hash = n ? XXH3_64bits(s, n * sizeof *s) : 0;
    l->tensor.scale = l->scale;
    l->tensor.scale_n = n;
    return TAUT_OK;
}

/* ---- collectives ---- */

static taut_status check_start(taut_layer *l, const void *buf, int kind)
{
    if (!l || !buf) return taut__fail(TAUT_E_INVALID, "collective: layer or buf is NULL");
    if (kind != TAUT_SUM && kind != TAUT_MEAN) return taut__fail(TAUT_E_INVALID, "layer '%s': op=%d: must be 0 or 1", l->name, kind);
    uintptr_t size = l->dtype == TAUT_F32 ? 4 : 2;
    if ((uintptr_t)buf % size)
        return taut__fail(TAUT_E_INVALID, "layer '%s': buf=%p: must be aligned to %d bytes, an element", l->name, buf, (int)size);
    TAUT_TRY(taut__comm_check(l->comm, "collective"));
    if (l->started && !l->tested) return taut__fail(TAUT_E_STATE, "layer '%s': started already", l->name);
    l->started = l->tested = false;
    TAUT_TRY(taut__lent_take(l, buf));
    l->job.buf = (void *)(uintptr_t)buf; /* from here on the buffer is lent, until the layer is finished */
    l->comm->stepped = l->comm->loads.open = false;
    return l->index >= l->comm->handshake.layers ? taut__handshake_begin(l->comm) : TAUT_OK;
}

/* What goes wrong from here on concerns all ranks: they wait for this one. */
static taut_status tell(taut_comm *comm, taut_status s)
{
    return s == TAUT_OK ? s : taut__engine_fail(&comm->engine, s, taut_last_error());
}

static taut_status launch(taut_layer *l, void *buf, int kind, taut__half halves, bool blocking)
{
    taut_comm *comm = l->comm;
    if (halves != TAUT_BOTH && !l->sharded) {
        release(l);
        l->sharded = true;
    }
    TAUT_TRY(taut__layer_prepare(l));
    TAUT_TRY(taut__comm_arena(comm));
    if (halves != TAUT_GATHER) l->last_op = kind;
    TAUT_TRY(taut__job_begin(&l->job, buf, kind, halves, blocking));
    TAUT_TRY(taut__debug_lend(l));
    taut__layer_starts(l);
    taut__engine_start(&comm->engine, &l->job, blocking);
    return TAUT_OK;
}

void taut__layer_starts(taut_layer *l)
{
    l->started = true;
    l->comm->starts++;
    l->ops = l->ops << 2 | (uint64_t)(l->job.kind + 1);
    atomic_fetch_add_explicit(&l->starts, 1, memory_order_relaxed);
}

taut_status taut_allreduce_start(taut_layer *l, void *buf, taut_op op)
{
    TAUT_TRY(check_start(l, buf, op));
    return tell(l->comm, l->bucket ? taut__fuse_start(l, buf, op, false) : launch(l, buf, op, TAUT_BOTH, false));
}

taut_status taut__layer_finish(taut_layer *l, taut_status s)
{
    l->started = l->tested = false;
    taut__lent_give(l);
    if (s != TAUT_OK) return s;
    return taut__debug_return(l);
}

taut_status taut__layer_wait(taut_layer *l)
{
    double      begin = taut__now();
    taut_status s = taut__engine_wait(&l->comm->engine, &l->job);
    l->comm->exposed_s += taut__now() - begin;
    return taut__layer_finish(l, s);
}

static taut_status fused_wait(taut_layer *l)
{
    double      begin = taut__now();
    taut_status s = taut__fuse_wait(l);
    l->comm->exposed_s += taut__now() - begin;
    return taut__layer_finish(l, s);
}

/* A whole allreduce of a small layer goes through its bucket, as when it is started: another rank may have started it. */
static taut_status at_once(taut_layer *l, void *buf, int kind, taut__half halves)
{
    bool fused = l && l->bucket && halves == TAUT_BOTH;
    TAUT_TRY(check_start(l, buf, kind));
    double begin = taut__now();
    TAUT_TRY(tell(l->comm, fused ? taut__fuse_start(l, buf, kind, true) : launch(l, buf, kind, halves, true)));
    l->comm->exposed_s += taut__now() - begin;
    return fused ? fused_wait(l) : taut__layer_wait(l);
}

taut_status taut_allreduce(taut_layer *l, void *buf, taut_op op) { return at_once(l, buf, op, TAUT_BOTH); }
taut_status taut_reduce_scatter(taut_layer *l, void *buf, taut_op op) { return at_once(l, buf, op, TAUT_REDUCE); }
taut_status taut_allgather(taut_layer *l, void *buf) { return at_once(l, buf, TAUT_SUM, TAUT_GATHER); }

static taut_status check_started(const taut_layer *l, const char *call)
{
    if (!l) return taut__fail(TAUT_E_INVALID, "%s: layer is NULL", call);
    TAUT_TRY(taut__comm_check(l->comm, call));
    return l->started ? TAUT_OK : taut__fail(TAUT_E_STATE, "%s: layer '%s' was not started", call, l->name);
}

taut_status taut_wait(taut_layer *l)
{
    TAUT_TRY(check_started(l, "taut_wait"));
    return l->bucket && taut__fuse_holds(l) ? fused_wait(l) : taut__layer_wait(l);
}

taut_status taut_test(taut_layer *l, int *done)
{
    bool over = false;
    if (done) *done = 0;
    if (!done) return taut__fail(TAUT_E_INVALID, "taut_test: done is NULL");
    TAUT_TRY(check_started(l, "taut_test"));
    TAUT_TRY(l->bucket && taut__fuse_holds(l) ? taut__fuse_test(l, &over) : taut__engine_test(&l->comm->engine, &l->job, &over));
    *done = l->tested = over;
    if (over) taut__lent_give(l);
    return TAUT_OK;
}

taut_status taut_layer_part(const taut_layer *l, int rank, size_t *first, size_t *n)
{
    if (!l || !first || !n) return taut__fail(TAUT_E_INVALID, "taut_layer_part: layer, first or n is NULL");
    *first = *n = 0;
    int p = l->comm->all.size;
    if (rank < 0 || rank >= p) return taut__fail(TAUT_E_RANGE, "taut_layer_part: rank=%d: must be 0..%d", rank, p - 1);
    taut__partition part = {.n = l->tensor.elems, .block = l->block, .parts = p};
    taut__range     r = taut__part(&part, rank);
    *first = r.first;
    *n = r.n;
    return TAUT_OK;
}
