/* arena.h : memory for slices under way. A job owns one slot, with which alone it can finish, slice by slice; further slots,
 * which make it fast, are borrowed from an arena that all jobs of a communicator share, when a slice is opened, and given back
 * when it is finished. Nobody waits for a slot: take() answers NULL, and the job goes on with what it has.
 *
 * The arena is one piece of memory, bounded by a constant or by what the largest job can use, not by the number of jobs.
 * Lent blocks lie in it one after the other (first fit). All calls are made with the engine's lock held. */
#ifndef TAUT_SLOTS_H
#define TAUT_SLOTS_H

#include "space.h"

enum {
    TAUT_ARENA_BYTES = 16 << 20,   /* unless one job can use more: a dozen layers of a million elements under way */
    TAUT_ARENA_REQUESTS = 1 << 12, /* likewise: requests that borrowed slots may have under way */
    TAUT_LINE = 64                 /* bytes; blocks begin at multiples, and have one before them */
};

typedef struct taut__arena {
    char               *memory;
    taut__staging       staging, made;       /* of what is allocated from now on; of memory */
    size_t              bytes, requests;     /* what may be lent */
    size_t              requests_lent, lent; /* blocks */
    struct taut__slots *users;
    _Atomic bool        due; /* users have changed: fit() */
} taut__arena;

typedef struct taut__slots {
    taut__arena        *arena;
    char               *own;
    size_t              bytes, requests;           /* of the own slot: enough for any use of it */
    size_t              more_bytes, more_requests; /* borrowed at most */
    size_t              reserved;                  /* requests that the transport has room for; outlives release() */
    bool                own_lent, allocated;
    taut__staging       made; /* of own, where it was allocated */
    struct taut__slots *next;
} taut__slots;

/* One use of the slots: up to `count` of so many bytes and requests at a time. Uses follow each other, they share memory. */
void taut__slots_need(taut__slots *s, size_t bytes, size_t requests, size_t count);
/* The own slot. memory: NULL, or s->bytes that belong to somebody else; such a user does not make the arena larger. */
taut_status taut__slots_open(taut__slots *s, taut__arena *arena, void *memory);
void        taut__slots_release(taut__slots *s);
void *taut__slots_take(taut__slots *s, size_t bytes, size_t requests); /* the own one if free; NULL: none is left */
void  taut__slots_give(taut__slots *s, void *slot);

/* Slots that are opened from now on, and what is lent once nothing is, are of such memory. */
void taut__arena_stage(taut__arena *a, const taut__space *space, taut_place place);
/* Memory for what the users need now, if nothing is lent; else it stays due. */
taut_status taut__arena_fit(taut__arena *a);
void        taut__arena_fini(taut__arena *a);

/* Cuts a slot into pieces of whole cache lines; with memory = NULL it only counts. */
typedef struct taut__carver {
    char  *memory;
    size_t bytes;
} taut__carver;
static inline void *taut__carve(taut__carver *c, size_t count, size_t size)
{
    void *piece = c->memory ? c->memory + c->bytes : NULL;
    c->bytes += taut__ceil_div(count * size, TAUT_LINE) * TAUT_LINE;
    return piece;
}

/* What a block of so many bytes takes of an arena. */
static inline size_t taut__arena_block(size_t bytes) { return (taut__ceil_div(bytes, TAUT_LINE) + 1) * TAUT_LINE; }

/* The bound: of bytes, or of requests. all: what all users would borrow together; largest: one of them. */
static inline size_t taut__arena_bound(size_t all, size_t largest, size_t constant)
{
    return taut__min(all, taut__max(constant, largest));
}

#endif
