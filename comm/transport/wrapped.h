/* wrapped.h : a transport around another one, and the two that are. What one does not do itself goes to the inner one. */
#ifndef TAUT_WRAPPED_H
#define TAUT_WRAPPED_H

#include "transport.h"

typedef struct taut__wrapped {
    taut__transport     base;
    taut__transport_ops ops; /* of this one: an operation that the inner one does not offer is not offered */
    taut__transport    *inner;
} taut__wrapped;

static inline taut__transport *taut__inner(const taut__transport *t) { return ((const taut__wrapped *)t)->inner; }

/* Fills w, of zeros, with ranks, hosts and forwarding operations; the wrapper then puts its own in their place. The inner transport belongs
 * to the wrapper, whose destroy() ends both. */
void taut__wrap(taut__wrapped *w, taut__transport *inner, const char *name);

/* ---- assured.c ---- a transport whose messages arrive whole, once and in their place, or fail: around one that may lose and damage them. */

/* Takes *t and puts the wrapper there; after a failure *t is as it was. patience_ms: how long a piece may at most go unacknowledged before it is
 * sent once more; below 0: five seconds. All ranks must have it. Offers no native sum. */
taut_status taut__assured_create(int patience_ms, taut__transport **t);

/* ---- faulty.c ---- a transport that loses and damages messages, to test what is above it: a share of what a rank sends, drawn by seed, is
 * dropped, delayed, sent twice, overtaken by the next message to that rank, flipped in one bit, or cut. Around any other transport. */
typedef enum taut__fault {
    TAUT_FAULT_DROP,
    TAUT_FAULT_DELAY,
    TAUT_FAULT_TWICE,
    TAUT_FAULT_REORDER,
    TAUT_FAULT_FLIP,
    TAUT_FAULT_CUT,
    TAUT_FAULTS
} taut__fault;

typedef struct taut__faults {
    uint64_t seed;               /* the same seed, rank and number of a message: the same fault */
    double   share[TAUT_FAULTS]; /* of messages, 0..1; together at most 1 */
    double   delay_us;           /* most; what follows to the same rank waits behind, as on a slow line */
    double   least, most;        /* bytes: shorter and longer messages pass */
    double   after, times;       /* so many messages pass first; so many are damaged at most, then all pass */
    double   rank;               /* only of this sender; -1: of all */
} taut__faults;

/* taut__faults_parse() : "flip=0.01,seed=7": keys drop, delay, twice, reorder, flip, cut (shares), seed, delay_us, least, most, after,
 *  times, rank. "" is no fault. TAUT_E_INVALID or TAUT_E_RANGE, with the key and what it may be. */
taut_status taut__faults_parse(const char *text, taut__faults *f);
bool        taut__faults_any(const taut__faults *f);

/* Takes *t and puts the wrapper there; after a failure *t is as it was. */
taut_status taut__faulty_create(const taut__faults *f, taut__transport **t);

#endif
