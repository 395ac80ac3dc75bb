/* mix.h : a given share of every round from each source of a fixed set of samples. Sources that are smaller than their share are
 * gone through again and again, larger ones part after part, round after round: source c with n_c samples and m_c places a
 * round has a stream of passes, each a permutation of its own; round r takes places r*m_c .. of it. So two samples of one source never
 * differ by more than one visit, at any time. */
#ifndef TAUT_MIX_H
#define TAUT_MIX_H

#include "permute.h"

enum { TAUT__MIX_PASSES = 4096 }; /* passes of a source that one round may touch: bounds the tables */

typedef struct taut__mix { /* zero-initialise; taut__mix_free() */
    uint64_t           n, samples;
    uint32_t           sources;
    uint32_t          *member;      /* places 0..n-1 of the set, source after source */
    uint64_t          *first;       /* sources + 1: where one begins in member */
    uint64_t          *first_share; /* sources + 1: where its share begins in a round */
    taut__permutation  order;       /* of a round */
    taut__permutation *pass;        /* of the passes that a round touches; source c has pass[first_pass[c] ..] */
    size_t            *first_pass;  /* sources + 1 */
} taut__mix;

/* taut__mix_init() : source[0..n-1]: of each place, below `sources`; n below 2^32. share: relative; the places of a round are
 *  shared out by largest remainders. TAUT_E_INVALID: a source with a share is empty; TAUT_E_RANGE: too many passes. */
taut_status taut__mix_init(taut__mix *m, const uint32_t *source, uint64_t n, const uint64_t *share, uint32_t sources,
                           uint64_t samples);
void        taut__mix_free(taut__mix *m);

/* Place i (below samples) of round key.round. key.index is ours. */
taut_status taut__mix_at(taut__mix *m, taut__order_key key, uint64_t i, uint64_t *place);

#endif
