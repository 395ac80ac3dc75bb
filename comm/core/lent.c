/* lent.c : the buffers of layers under way, by address. Two layers on the same memory (tied weights, views) would each write its result
 * over the other's, so the second start fails. As no two of those kept here overlap, a new one need only be held against its
 * neighbours. There is room for all layers; used by the program's thread alone. */
#include "communicator.h"

taut_status taut__lent_room(taut_comm *comm, size_t layers)
{
    if (taut__grow(&comm->lent, comm->lents, layers, sizeof *comm->lent)) return TAUT_OK;
    return taut__fail(TAUT_E_NOMEM, "out of memory for %zu layers", layers);
}

/* How many end at or below `at`. */
static size_t below(const taut_comm *comm, uintptr_t at)
{
    size_t lo = 0, hi = comm->lents;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (comm->lent[mid].to <= at) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

taut_status taut__lent_take(taut_layer *l, const void *buf)
{
    taut_comm  *comm = l->comm;
    uintptr_t   from = (uintptr_t)buf, to = from + l->operand.tensor.elems * (l->operand.dtype == TAUT_F32 ? 4 : 2);
    size_t      i = below(comm, from);
    taut__lent *at = &comm->lent[i];
    if (i < comm->lents && at->from < to)
        return taut__fail(
            TAUT_E_INVALID,
            "layer '%s': its buffer overlaps that of layer '%s', which is under way: wait for that one first", l->name,
            at->layer->name);
    memmove(at + 1, at, (comm->lents - i) * sizeof *at);
    *at = (taut__lent){from, to, l};
    comm->lents++;
    return TAUT_OK;
}

void taut__lent_give(const taut_layer *l)
{
    taut_comm *comm = l->comm;
    size_t     i = below(comm, (uintptr_t)l->reduction.buf);
    if (i == comm->lents || comm->lent[i].layer != l) return; /* given already, when taut_test said so */
    comm->lents--;
    memmove(&comm->lent[i], &comm->lent[i + 1], (comm->lents - i) * sizeof *comm->lent);
}
