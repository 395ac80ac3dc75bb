/* bundle.c : small layers as one layer of which the plan decides (fusion.c). It belongs to the communicator, not to the program: programs see its
 * members, each with its part of the bytes. */
#include "bucket.h"

const taut_layer *taut__fuse_carrier(const taut_layer *l)
{
    return l->bucket && l->bucket->coded && !l->bucket->voting ? l->bucket->bundle : l;
}

/* Where there are enough members for a plan to gain by, and they are not so small that most of the bundle would be gaps. The planner's lines of
 * a device's data half are not measured for the host, and alone there is no plan. */
static taut_status add_bundle(taut__bucket *b)
{
    enum { LEAST = 512 }; /* one takes 20 bytes of statistics a step and some samples, and saves 3 bytes an element */
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
        TAUT_TRY(taut__engine_tell(&comm->ctx.engine, s));
    }
    return TAUT_OK;
}
