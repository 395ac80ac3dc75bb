/* bundle.c : small layers as one layer of which the plan decides (fusion.c). It belongs to the communicator, not to the program: programs see its
 * members, each with its part of the bytes. */
#include "bucket.h"

static size_t count(const taut__bucket *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->members; i++) n += b->member[i] != NULL;
    return n;
}

const taut_layer *taut__fuse_carrier(const taut_layer *l)
{
    return l->bucket && l->bucket->coded && !l->bucket->voting ? l->bucket->bundle : l;
}

/* Numbers that cannot be units leave what was there. */
static void put_scale(taut_layer *bundle, const taut_layer *l)
{
    size_t n = l->operand.tensor.elems, each = l->scale_n ? n / l->scale_n : 1;
    for (size_t i = 0; l->scale_n && i < n; i++)
        if (taut__scale_usable(l->scale[i / each])) bundle->scale[l->at + i] = l->scale[i / each];
}

/* Units of a member's elements, in the bundle's scale, which counts once all have one, on the host. */
taut_status taut__fuse_rescaled(taut_layer *l)
{
    taut__bucket *b = l->bucket;
    taut_layer   *bundle = b->bundle;
    bool          has = l->scale_n > 0 && !taut__scale_there(l);
    if (!bundle) return TAUT_OK;
    if (has) put_scale(bundle, l);
    b->scaled += (size_t)has - l->scaled_there;
    l->scaled_there = has;
    bundle->scale_n = b->scaled == count(b) ? b->floats : 0;
    return taut__scale_use(bundle);
}

void taut__fuse_look_at_scales(taut__bucket *b)
{
    for (size_t i = 0; i < b->members; i++)
        if (b->member[i] && b->member[i]->scaled_there && b->member[i]->scale_lent.at)
            put_scale(b->bundle, b->member[i]);
}

/* Where there are enough members for a plan to gain by, and they are not so small that most of the bundle would be gaps. The planner's lines of
 * a device's data half are not measured for the host, and alone there is no plan. */
static taut_status add_bundle(taut__bucket *b)
{
    enum { LEAST = 1024 };
    taut_comm *comm = b->comm;
    size_t     elems = 0;
    char       name[sizeof b->label + sizeof TAUT_OWN_NAMES];
    for (size_t i = 0; i < b->members; i++) elems += b->member[i] ? b->member[i]->operand.tensor.elems : 0;
    if (!comm->autom || elems < LEAST || b->floats > elems + elems / 4) return TAUT_OK;
    taut__snprintf(name, sizeof name, "%s%s", TAUT_OWN_NAMES, b->label);
    TAUT_TRY(taut__layer_bundle(comm, name, b->floats, &b->bundle));
    b->bundle->scale = taut__alloc(b->floats, sizeof *b->bundle->scale);
    if (!b->bundle->scale) return taut__fail(TAUT_E_NOMEM, "%s: out of memory for %zu floats", b->label, b->floats);
    for (size_t i = 0; i < b->floats; i++) b->bundle->scale[i] = 1; /* gaps are zeros in any unit */
    for (size_t i = 0; i < b->members; i++)
        if (b->member[i]) TAUT_TRY(taut__fuse_rescaled(b->member[i]));
    return TAUT_OK;
}

taut_status taut__fuse_close_all(taut_comm *comm)
{
    for (size_t b = 0; b < comm->buckets; b++) {
        bool        was = comm->bucket[b]->closed;
        taut_status s = taut__fuse_close(comm->bucket[b]);
        if (s == TAUT_OK && !was && comm->bucket[b]->closed) s = add_bundle(comm->bucket[b]);
        if (!was) comm->bucket[b]->job.needs = comm->layers; /* the bundle is one of them */
        if (s != TAUT_OK) return taut__engine_fail(&comm->ctx.engine, s, taut_last_error());
    }
    return TAUT_OK;
}
