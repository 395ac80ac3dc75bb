/* transport.h : how bytes reach another rank. Three implementations: threads of one process, MPI, TCP.
 *
 * Messages are matched by (sender, tag), in the order in which they were sent; a receive names its sender. Requests
 * belong to the caller and live in his memory; their buffers must stay untouched until `done`. All calls on one
 * transport are made by one thread at a time (the engine's lock), though not always the same one if `threads` is set.
 * Nothing blocks except allreduce() and idle(). */
#ifndef TAUT_TRANSPORT_H
#define TAUT_TRANSPORT_H

#include "../base/base.h"
#include <stdatomic.h>

typedef struct taut__transport taut__transport;

typedef struct taut__request {
    _Atomic bool          done; /* initially true: nothing under way */
    bool                  send;
    uint8_t               phase; /* of the transport, as are id and next */
    int                   peer, tag;
    uint32_t              id;
    void                 *buf;
    size_t                bytes; /* to send, or room */
    size_t                got;   /* received: length of the message */
    struct taut__request *next;
} taut__request;

typedef enum taut__number { TAUT_NUMBER_F32, TAUT_NUMBER_I32 } taut__number; /* of 4 bytes */

/* What a rank tells others of its own accord; travels as is between ranks of one job. status: why it gave up, or TAUT_OK: a word, which
 * means what those make of it who send and hear it (core/absence.c). */
typedef struct taut__notice {
    int32_t  status, rank;
    uint64_t job; /* of the transport that sent it: MPI may deliver it to a later communicator */
    int32_t  word, index;
    uint64_t count, steps;
    char     text[472];
} taut__notice;

enum { TAUT_WORD_LEAVES = 1 };

typedef struct taut__transport_ops {
    const char *name;
    taut_status (*isend)(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes);
    taut_status (*irecv)(taut__transport *t, taut__request *r, int peer, int tag, void *buf, size_t room);
    taut_status (*poll)(taut__transport *t);              /* marks what has finished */
    void (*idle)(taut__transport *t, int us);             /* wait for something to happen, at most this long */
    void (*cancel)(taut__transport *t, taut__request *r); /* after a failure: done; its buffer perhaps not: dirty */
    taut_status (*reserve)(taut__transport *t, size_t requests); /* so many more may be under way at once */
    /* (optional) in-place sum over all ranks, blocking, the same bits everywhere. NULL: not offered */
    taut_status (*allreduce)(taut__transport *t, void *buf, size_t n, taut__number kind);
    void (*end_job)(taut__transport *t, const char *why); /* with allreduce: ends all ranks; any thread; no return */
    void (*abort)(taut__transport *t, const taut__notice *why); /* tell all ranks; the first notice wins */
    bool (*aborted)(taut__transport *t, taut__notice *why);     /* has another rank told us? */
    /* A word to one rank, or to all others (peer -1), of whom one may lose it that has many to hear. TAUT_WORD_LEAVES is the last one
     * before destroy(): nothing follows it. */
    void (*tell)(taut__transport *t, int peer, const taut__notice *word);
    bool (*heard)(taut__transport *t, taut__notice *word); /* the next word for this rank */
    /* (optional) after a failure: those who come here within wait_ms after the first one make a transport of their own, in order of rank; old[i]:
     * what rank i of it was in this one, of t->size places. TAUT_E_PEER: they have gone on without this rank. NULL: not offered */
    taut_status (*shrink)(taut__transport *t, int wait_ms, taut__transport **smaller, int *old);
    /* (optional) after shrink(): whether all who made the smaller one live and say so, the same answer on all of them, whatever happens meanwhile;
     * where that cannot be had, what this rank says */
    bool (*all_agree)(taut__transport *t, bool mine);
    /* (optional) somebody may still want something of what was sent, though all its requests are done: to be polled on. NULL: never */
    bool (*pending)(const taut__transport *t);
    void (*destroy)(taut__transport *t);
} taut__transport_ops;

struct taut__transport { /* first member of each implementation's struct */
    const taut__transport_ops *ops;
    int                        rank, size;
    bool                       threads; /* a communication thread may drive it */
    bool dirty; /* messages were given up that may still read, or write, their buffers: leave those alone */
    int  tag_max;
    int *host; /* host[r]: number of the host that rank r lives on, from 0 in order of rank */
    /* (optional) [0] odd: inside a call of the network's library that is to come back at once; [1] the clock of its thread. NULL: they all do */
    const _Atomic uint64_t *calls;
    /* the same on all ranks, and other communicators have another one; 0: nothing of theirs can come here */
    uint64_t job;
};

/* taut__group : some of the ranks, in ascending order; what the algorithms see. */
typedef struct taut__group {
    taut__transport   *t;
    int                rank, size;
    const int         *member; /* size ranks of the transport; NULL = all */
    struct taut__data *data;   /* (optional) data.h: what lies on devices goes by it among them, numbered as here */
} taut__group;

static inline int taut__member(const taut__group *g, int i) { return g->member ? g->member[i] : i; }

static inline taut_status taut__isend(const taut__group *g, taut__request *r, int peer, int tag, const void *buf,
                                      size_t bytes)
{
    return g->t->ops->isend(g->t, r, taut__member(g, peer), tag, buf, bytes);
}
static inline taut_status taut__irecv(const taut__group *g, taut__request *r, int peer, int tag, void *buf, size_t room)
{
    return g->t->ops->irecv(g->t, r, taut__member(g, peer), tag, buf, room);
}
static inline bool taut__done(const taut__request *r) { return atomic_load_explicit(&r->done, memory_order_acquire); }
static inline bool taut__all_done(const taut__request *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!taut__done(&r[i])) return false;
    return true;
}
void taut__requests_init(taut__request *r, size_t n); /* done, nothing under way */

/* For implementations: r is under way from now on. */
static inline void taut__request_begin(taut__request *r, bool send, int peer, int tag, const void *buf, size_t bytes)
{
    atomic_store_explicit(&r->done, false, memory_order_relaxed);
    r->send = send;
    r->peer = peer, r->tag = tag;
    r->buf = (void *)(uintptr_t)buf, r->bytes = bytes;
    r->got = 0;
    r->phase = 0, r->id = 0;
}
static inline void taut__request_end(taut__request *r) { atomic_store_explicit(&r->done, true, memory_order_release); }
/* Where requests are links of lists there is nothing to reserve. */
taut_status taut__reserves_nothing(taut__transport *t, size_t requests);

/* ranks transports that share memory; fake_hosts > 0: pretend that so many consecutive ranks share a host */
taut_status taut__threads_create(int ranks, int fake_hosts, taut__transport **t);
/* fake_hosts as above; mpi points to an MPI_Comm. Collective; all ranks return the same status. */
taut_status taut__mpi_create(const void *mpi, int fake_hosts, taut__transport **t);

#endif
