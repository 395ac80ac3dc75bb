/* data.h : the data half of transports: bytes in memory of a place, moved in the order of its stream. The control half (transport.h) carries
 * what the host says; a communicator may have both, the same ranks in each. Two implementations: over messages of a control half (threads,
 * MPI), and NCCL.
 *
 * What the data half asks of its users is what NCCL asks: all ranks make the same groups in the same order; within one, what a rank sends
 * to another is received there in the same order, in as many bytes. A group belongs to one place, whose stream it follows: it reads what
 * work enqueued before it wrote. What is enqueued *once ready() has said so* reads what it received; with NCCL that is at once, and the host
 * waits for nothing, with messages it is when they have come. Buffers must stay until then. One thread at a time. */
#ifndef TAUT_DATA_H
#define TAUT_DATA_H

#include "../base/space.h"
#include "transport.h"

typedef struct taut__data taut__data;

typedef struct taut__data_ops {
    const char *name;
    taut_status (*group_begin)(taut__data *d, taut_place place);
    taut_status (*send)(taut__data *d, int peer, const void *buf, size_t bytes); /* to another rank; bytes > 0 */
    taut_status (*recv)(taut__data *d, int peer, void *buf, size_t bytes);
    taut_status (*group_end)(taut__data *d);
    /* (optional) x = its sum over all ranks, in place, in the order of the stream; a group of its own. NULL: not offered */
    taut_status (*sum)(taut__data *d, void *x, size_t n, taut__number kind, taut_place place);
    /* (optional) all ranks' `bytes` at own, one behind the other, at all, where own may be its place; a group of its own */
    taut_status (*gather)(taut__data *d, const void *own, void *all, size_t bytes, taut_place place);
    /* (optional) bytes at out + q * bytes go to rank q, those from it to in + q * bytes, its own included; a group of its own */
    taut_status (*exchange)(taut__data *d, const void *out, void *in, size_t bytes, taut_place place);
    /* Never waits. *ready: see above. Fails where something has gone wrong since, on this rank or, as far as this rank can know, another. */
    taut_status (*ready)(taut__data *d, bool *ready);
    int (*waiting_for)(const taut__data *d); /* whose message is missing; -1: nobody's, or it is not known */
    /* What is under way ends, on the device too, with contents undefined; nothing can be begun any more. Any thread, any number of times. */
    void (*abort)(taut__data *d);
    void (*destroy)(taut__data *d); /* after abort, or when nothing is under way */
} taut__data_ops;

struct taut__data { /* first member of each implementation's struct */
    const taut__data_ops *ops;
    int                   rank, size;
    uint64_t              sent; /* bytes, so far */
    struct {
        uint64_t given, now;
    } turns;            /* of its users (reduce/lineup.h): given by rank 0; whose it is */
    taut__data *beside; /* another one of the same communicator, which ends with it; NULL: none */
};

/* All of a communicator's; NULL is fine. */
static inline void taut__data_abort(taut__data *d)
{
    for (; d; d = d->beside) d->ops->abort(d);
}
static inline void taut__data_destroy(taut__data *d)
{
    for (taut__data *next; d; d = next) {
        next = d->beside;
        d->ops->destroy(d);
    }
}

/* Over messages of t, which stays its owner's, with `tag`, which is the data half's alone. requests: what one group may hold. direct: t reads
 * and writes memory of the place (the host's, or a device's with a CUDA-aware MPI); else it is staged through host memory. */
taut_status taut__data_messages(taut__transport *t, int tag, size_t requests, bool direct, taut__data **d);

#endif
