/* sequence.h : does a stream of collective calls repeat? Pure: no MPI, no clocks.
 *
 * Every reducing call on a communicator is an event; MPI has all ranks make them in the same order, so that the number of an
 * event means the same call on every rank. An event is known by a key, which says what was called with how much of what. A
 * period is the shortest cycle that the latest events have run through TAUT_CYCLES times. */
#ifndef TAUT_SEQUENCE_H
#define TAUT_SEQUENCE_H

#include "../base/base.h"

enum { TAUT_HISTORY = 1 << 13, TAUT_CYCLES = 3 }; /* events remembered; longest period: TAUT_HISTORY / TAUT_CYCLES */
enum { TAUT_FIRST_ASK = TAUT_CYCLES - 1 };

/* PERSISTENT: a start of a request of MPI_Allreduce_init. */
typedef enum taut__call_kind {
    TAUT_KIND_ALLREDUCE,
    TAUT_KIND_IALLREDUCE,
    TAUT_KIND_REDUCE_SCATTER,
    TAUT_KIND_ALLGATHER,
    TAUT_KIND_PERSISTENT,
    TAUT_KIND_OTHER
} taut__call_kind;

typedef struct taut__sequence {
    uint64_t events;            /* so far */
    uint64_t key[TAUT_HISTORY]; /* of event e: key[e % TAUT_HISTORY] */
} taut__sequence;

/* What is summed how, in keys: types by number, other types by their size + TAUT_TYPE_OTHER. */
enum { TAUT_TYPE_F32 = 1, TAUT_TYPE_F16, TAUT_TYPE_DOUBLE, TAUT_TYPE_OTHER = 1 << 8 };
enum { TAUT_OP_SUM = 1, TAUT_OP_OTHER };

/* A key of a call. eligible: it could be compressed; such keys are odd, all others even. */
uint64_t           taut__call_key(taut__call_kind kind, uint64_t count, uint32_t type, uint32_t op, bool eligible);
static inline bool taut__key_eligible(uint64_t key) { return key & 1; }

static inline uint64_t taut__sequence_add(taut__sequence *s, uint64_t key) /* the number of this event */
{
    s->key[s->events % TAUT_HISTORY] = key;
    return s->events++;
}
static inline uint64_t taut__sequence_key(const taut__sequence *s, uint64_t event)
{
    return s->key[event % TAUT_HISTORY];
}
static inline bool taut__sequence_knows(const taut__sequence *s, uint64_t event)
{
    return event < s->events && s->events - event <= TAUT_HISTORY;
}

/* Events of the shortest cycle that events ..last have run through TAUT_CYCLES times, with an eligible call in it; 0: none.
 * scratch: TAUT_HISTORY numbers. */
size_t taut__sequence_period(const taut__sequence *s, uint64_t last, uint32_t *scratch);

/* May ranks vote at this event whether they all see a cycle? Often at first, ever more rarely, so that a vote costs 0.1 us of
 * each event in the long run. */
bool taut__sequence_votes_at(uint64_t event);
/* Until some rank has made a call that could be compressed there is nothing to vote on. This is asked at the first event from
 * TAUT_FIRST_ASK on at which ranks may wait for each other, then whenever the number has doubled or grown by 512. *next: when; begins as 0. */
static inline bool taut__asks_at(uint64_t event, bool may_wait, uint64_t *next)
{
    if (!may_wait || event < TAUT_FIRST_ASK || event < *next) return false;
    *next = event < 512 ? 2 * event : event + 512;
    return true;
}
/* Doubts are weighed again after 16, 64, 256, ... cycles; and soon will be. */
static inline bool taut__reconsidered_at(uint64_t cycles)
{
    return cycles >= 16 && (cycles & (cycles - 1)) == 0 && (cycles & 0x5555555555555555u);
}
static inline bool taut__soon_reconsidered(uint64_t cycles)
{
    for (uint64_t k = 0; k <= TAUT_CYCLES; k++)
        if (taut__reconsidered_at(cycles + k)) return true;
    return false;
}
/* After the n-th vote that found a cycle, but doubts about all of it: cycles to pass before the next. */
static inline uint64_t taut__doubt_pause(uint32_t n) { return (uint64_t)16 << 2 * (n < 4 ? n : 4); }

#endif
