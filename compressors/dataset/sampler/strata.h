/* strata.h : a share of every class of a fixed set of samples, round after round. */
#ifndef TAUT_STRATA_H
#define TAUT_STRATA_H

#include "permute.h"

typedef struct taut__strata { /* zero-initialise; taut__strata_free() */
    uint64_t          n, samples;
    size_t            classes;
    uint32_t         *member;       /* places 0..n-1 of the set, class after class */
    uint64_t         *first;        /* classes + 1: where a class begins in member */
    uint64_t         *first_share;  /* classes + 1: where its share begins in a round of `samples` */
    taut__permutation mix, *inside; /* of a round; of each class */
    bool              replace;
} taut__strata;

/* taut__strata_init() : label[0..n-1] of the set, n below 2^32; `samples` of them a round, 1..n. Class c gets samples*n_c/n,
 *  rounded by largest remainders (ties: the smaller label), so that the shares add up to `samples`. replace: every round
 *  draws anew from the whole class; else a class is used up before it is shuffled again, and what is less than a
 *  share at its end is left out of that pass. */
taut_status taut__strata_init(taut__strata *s, const int64_t *label, uint64_t n, uint64_t samples, bool replace);
void        taut__strata_free(taut__strata *s);

/* Place i (below samples) of a round. key.index is ours; key.round is the round (for a set that never changes: 0). */
taut_status taut__strata_at(taut__strata *s, taut__order_key key, uint64_t i, uint64_t *place);

#endif
