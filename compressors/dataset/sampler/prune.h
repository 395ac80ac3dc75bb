/* prune.h : all of a set but the listed ones, and of these another random part every round. As with rs2 the parts of a pass
 * have no sample in common: floor(listed/part) rounds, then all of them are shuffled anew. */
#ifndef TAUT_PRUNE_H
#define TAUT_PRUNE_H

#include "permute.h"

typedef struct taut__prune {                /* zero-initialise; taut__prune_free() */
    uint64_t          others, listed, part; /* a round: all `others`, and `part` of the listed */
    uint64_t         *other;                /* the places that are not listed, ascending */
    taut__permutation order, pass;
} taut__prune;

/* taut__prune_init() : list: `listed` places below n, each once; samples: of a round, n-listed < samples <= n. */
taut_status taut__prune_init(taut__prune *p, const uint64_t *list, uint64_t listed, uint64_t n, uint64_t samples);
void        taut__prune_free(taut__prune *p);

/* Place i of round key.round: *index is the place in the list, or UINT64_MAX, and then *place is one of the others. */
taut_status taut__prune_at(taut__prune *p, taut__order_key key, uint64_t i, uint64_t *index, uint64_t *place);

/* Samples of a list in buckets of `bucket` consecutive ones (the last may be shorter): place i of a round. shuffled: the whole
 * buckets are permuted; else they keep their order. Inside, each is permuted. */
typedef struct taut__buckets { /* zero-initialise; taut__buckets_free() */
    uint64_t          n, bucket;
    bool              shuffled;
    taut__permutation order, inside;
} taut__buckets;
taut_status taut__buckets_at(taut__buckets *b, taut__order_key key, uint64_t i, uint64_t *place);
void        taut__buckets_free(taut__buckets *b);

#endif
