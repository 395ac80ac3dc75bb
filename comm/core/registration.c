/* registration.c : layers come to a communicator, and get their codec and basis from the program. */
#include "../../compressors/basis/basis.h"
#include "../../compressors/vectors.h"
#include "communicator.h"
#include <math.h>
#include <string.h>

enum { PART_BLOCK = 64, AUTO_BLOCK = 512 }; /* a cache line of 16-bit values; blocks of all automatic candidates */

static taut_status check_shape(const char *name, int ndim, const size_t *shape, size_t *elems)
{
    *elems = 1;
    if (!name || !*name || strlen(name) >= sizeof((taut_layer *)0)->name)
        return taut__fail(TAUT_E_INVALID, "taut_layer_register: name of %zu characters: must be 1..127",
                          name ? strlen(name) : 0);
    if (strncmp(name, TAUT_OWN_NAMES, sizeof TAUT_OWN_NAMES - 1) == 0)
        return taut__fail(TAUT_E_INVALID,
                          "layer '%s': its name must not begin with '%s': such names are the library's own", name,
                          TAUT_OWN_NAMES);
    if (ndim < 0 || ndim > 8 || (ndim > 0 && !shape))
        return taut__fail(TAUT_E_RANGE, "layer '%s': ndim=%d: must be 0..8, with a shape", name, ndim);
    for (int d = 0; d < ndim; d++)
        if (shape[d] == 0 || !taut__mul_ok(*elems, shape[d], elems) || *elems > SIZE_MAX / 64)
            return taut__fail(TAUT_E_RANGE, "layer '%s': extent %d is %zu: the product of all must be 1..2^58", name, d,
                              shape[d]);
    return TAUT_OK;
}

taut_layer *taut__layer_named(const taut_comm *comm, const char *name)
{
    for (size_t i = 0; i < comm->layers; i++)
        if (strcmp(comm->layer[i]->name, name) == 0) return comm->layer[i];
    return NULL;
}

static uint64_t seed_of(const taut_comm *comm, const char *name)
{
    uint64_t h = comm->ctx.set.c.seed;
    for (; *name; name++) h = taut__seed(h, (unsigned char)*name);
    return h;
}

static taut_status room_for_layer(taut_comm *comm)
{
    if (comm->layers < comm->room) return TAUT_OK;
    size_t room = taut__max(64, 2 * comm->room);
    TAUT_TRY(taut__lent_room(comm, room));
    taut__engine_hold(&comm->ctx.engine);
    bool grown = taut__grow(&comm->layer, comm->layers, room, sizeof *comm->layer);
    if (grown) comm->room = room;
    taut__engine_release(&comm->ctx.engine);
    return grown ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "out of memory for %zu layers", room);
}

static taut_layer *layer_create(taut_comm *comm, const char *name, taut_dtype dtype, int ndim, const size_t *shape,
                                size_t n)
{
    taut_layer *l = taut__alloc(1, sizeof *l);
    if (!l) return NULL;
    l->comm = comm;
    l->index = comm->layers;
    memcpy(l->name, name, strlen(name));
    l->operand.dtype = dtype;
    l->ndim = ndim;
    if (ndim) memcpy(l->shape, shape, (size_t)ndim * sizeof *shape);
    size_t rows = ndim ? shape[0] : 1;
    l->operand.tensor = (taut_tensor){.elems = n, .rows = rows, .cols = n / rows};
    l->operand.seed = seed_of(comm, name);
    l->reduction =
        (taut__reduction){.ctx = &comm->ctx,
                          .operand = &l->operand,
                          .watcher = &taut__layer_watcher,
                          .job = {.name = l->name, .layer = l, .priority = (uint32_t)l->index, .needs = l->index + 1}};
    l->last_op = -1;
    return l;
}

static void say_unsuited(const taut_layer *l, const char *how, const char *why)
{
    bool first = !l->comm->unsuited;
    l->comm->unsuited = true;
    taut__log(first ? TAUT_LOG_WARN : TAUT_LOG_INFO, "comm", "layer '%s' travels %s: %s%s", l->name, how, why,
              first ? " (TAUT_LOG=info names further ones)" : "");
}

/* The communicator's spec is meant for all layers, whatever their shapes: one that it does not suit (rank 4 of two rows) goes
 * without, and one of 16 bits without a basis. Settings that no layer suits (ring with powersgd) are an error. */
static taut_status suited(const taut_layer *l, taut_spec *spec)
{
    if (taut__spec_suits(spec, &l->operand.tensor) != TAUT_OK) {
        say_unsuited(l, "uncompressed", taut_last_error());
        return taut__spec_parse("none", spec);
    }
    if (taut__spec_basis(spec) > 0 && l->operand.dtype != TAUT_F32) {
        say_unsuited(l, "without a basis", "16-bit layers have none");
        taut__spec_no_basis(spec);
    }
    return TAUT_OK;
}

/* Small: it goes into a bucket, unless it is larger than one, or is what goes for a whole bucket. */
static taut_status register_spec(taut_layer *l)
{
    taut_comm *comm = l->comm;
    taut_spec  spec = comm->ctx.set.spec;
    bool       small = l->ndim <= 1 || l->operand.tensor.elems < comm->ctx.set.c.small_elems;
    bool       fits = small && !l->bundle && taut__fuse_fits(l);
    l->automatic = !fits && spec.automatic;
    l->planned.careful = small;
    if (small || spec.automatic) TAUT_TRY(taut__spec_parse("none", &spec));
    else TAUT_TRY(suited(l, &spec));
    TAUT_TRY(taut__layer_use(l, &spec));
    l->operand.block = l->automatic ? AUTO_BLOCK : taut__round_up(PART_BLOCK, taut__spec_align(&l->operand.wire));
    if (fits) TAUT_TRY(taut__fuse_register(l));
    return l->automatic ? taut__planned_join(l) : TAUT_OK;
}

/* The layer, new, at the end of the communicator's. All or nothing: a second try is the first one to all other ranks. */
static taut_status add_layer(taut_comm *comm, taut_layer *l)
{
    int tag = comm->ctx.next_tag;
    if (!l) return taut__fail(TAUT_E_NOMEM, "out of memory for a layer");
    taut_status s = taut__reduction_init(&l->reduction);
    if (s == TAUT_OK) s = register_spec(l);
    if (s != TAUT_OK) {
        taut__layer_destroy(l);
        comm->ctx.next_tag = tag;
        return s;
    }
    l->number = comm->layers - comm->own_layers;
    comm->own_layers += l->bundle;
    comm->layer[comm->layers++] = l;
    return TAUT_OK;
}

taut_status taut__layer_bundle(taut_comm *comm, const char *name, size_t n, taut_layer **bundle)
{
    TAUT_TRY(room_for_layer(comm));
    taut_layer *l = layer_create(comm, name, TAUT_F32, 1, &n, n);
    if (l) l->bundle = true;
    TAUT_TRY(add_layer(comm, l));
    *bundle = l;
    return TAUT_OK;
}

taut_status taut_layer_register(taut_comm *comm, const char *name, taut_dtype dtype, int ndim, const size_t *shape,
                                taut_layer **layer)
{
    size_t n;
    if (layer) *layer = NULL;
    if (!comm || !layer) return taut__fail(TAUT_E_INVALID, "taut_layer_register: comm or layer is NULL");
    TAUT_TRY(taut__comm_check(comm, "taut_layer_register"));
    if ((unsigned)dtype > TAUT_BF16)
        return taut__fail(TAUT_E_INVALID,
                          "taut_layer_register: dtype=%d: must be TAUT_F32 (%d), TAUT_F16 (%d) or TAUT_BF16 (%d)",
                          (int)dtype, TAUT_F32, TAUT_F16, TAUT_BF16);
    TAUT_TRY(check_shape(name, ndim, shape, &n));
    if (taut__layer_named(comm, name))
        return taut__fail(TAUT_E_INVALID, "layer '%s': registered already: each name once", name);
    TAUT_TRY(room_for_layer(comm));
    taut_layer *l = layer_create(comm, name, dtype, ndim, shape, n);
    TAUT_TRY(add_layer(comm, l));
    *layer = l;
    return TAUT_OK;
}

void taut__layer_destroy(taut_layer *l)
{
    if (!l) return;
    taut__layer_drop_codec(l);
    taut__place_leave(l);
    taut__sample_release(l);
    taut__scale_drop(l);
    taut__free(l->lent_checksums);
    taut__free(l);
}

taut_status taut_layer_codec(taut_layer *l, const char *text)
{
    taut_spec spec;
    if (!l || !text) return taut__fail(TAUT_E_INVALID, "taut_layer_codec: layer or spec is NULL");
    if (l->started || l->operand.calls > 0 ||
        l->index < l->comm->handshake.layers) /* while it is started, calls belongs to its job */
        return taut__fail(TAUT_E_STATE,
                          "layer '%s': taut_layer_codec after the layer's first step: call it between registration and "
                          "the first start",
                          l->name);
    TAUT_TRY(taut__spec_parse(text, &spec));
    bool automatic = spec.automatic;
    if (automatic) TAUT_TRY(taut__spec_parse("none", &spec));
    taut_status s = taut__settings_feedback(&l->comm->ctx.set, &spec); /* what a plan chooses goes without */
    if (s == TAUT_OK) s = taut__layer_use(l, &spec);
    if (s != TAUT_OK) return taut__fail(s, "layer '%s': %s", l->name, taut_last_error());
    if (l->bucket) TAUT_TRY(taut__fuse_leave(l));
    if (l->automatic && !automatic) taut__planned_leave(l);
    l->planned.careful = false; /* as it was asked for */
    if (!l->automatic && automatic) TAUT_TRY(taut__planned_join(l));
    l->automatic = automatic;
    l->pinned = !automatic;
    l->operand.block = automatic ? AUTO_BLOCK : taut__round_up(PART_BLOCK, taut__spec_align(&l->operand.wire));
    return taut__scale_use(l);
}

static taut_status check_basis(const taut_layer *l, const float *m, size_t n)
{
    const taut_tensor *t = &l->operand.tensor;
    if (l->started) return taut__fail(TAUT_E_STATE, "layer '%s': taut_layer_basis between start and wait", l->name);
    if (n > 0 && n != t->elems)
        return taut__fail(TAUT_E_RANGE, "layer '%s': basis from %zu values: must be 0 or %zu (elements)", l->name, n,
                          t->elems);
    if (n > 0 && t->scale_n > 1 && taut__scale_there(l))
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "layer '%s': basis from values on the host in units of a scale that is read in place on a "
                          "device: set the scale by taut_layer_scale, or let the basis be learnt from results",
                          l->name);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(m[i]))
            return taut__fail(TAUT_E_RANGE, "layer '%s': basis from value %zu, %g: must be finite", l->name, i,
                              (double)m[i]);
    return TAUT_OK;
}

taut_status taut_layer_basis(taut_layer *l, const float *m, size_t n)
{
    if (!l || (n > 0 && !m)) return taut__fail(TAUT_E_INVALID, "taut_layer_basis: layer or m is NULL");
    if (n > 0) TAUT_TRY(taut__host_check(m, "the values of a basis"));
    TAUT_TRY(check_basis(l, m, n));
    l->planned.basis_given = n > 0;
    TAUT_TRY(taut__layer_axes(l));
    taut_axes *a = l->operand.axes;
    if (!a) return TAUT_OK;
    taut__axes_give(a, n > 0);
    l->operand.learns = n == 0;
    if (n == 0) return TAUT_OK;
    taut__axes_learn_begin(a, 0);
    for (size_t i = 0; i < taut__axes_tiles(a); i++) taut__axes_learn(a, &l->operand.tensor, i, m);
    return taut__axes_renew(a)
               ? TAUT_OK
               : taut__fail(TAUT_E_RANGE, "layer '%s': basis from values whose squares overflow", l->name);
}
