/* permute.h : keyed permutations of 0..n-1 whose every place is computed in constant time.
 *
 * n <= TAUT__TABLE_MAX : a table, shuffled by Fisher and Yates (Durstenfeld 1964) with unbiased numbers from Philox: every one of
 *   the n! permutations is equally likely, as far as Philox is random.
 * above : a Feistel network over ceil(log2 n) bits, cut into halves that may differ by one bit, 24 rounds, each of them
 *   Philox's multiplication (Mitchell, Stokes, Frank, Holmes: Bandwidth-Optimal Random Shuffling for GPUs, 2021,
 *   section 4); results of n and above go through it again until they are below n (cycle walking, Black & Rogaway 2002):
 *   at most twice on average. The round keys come from Philox. */
#ifndef TAUT_PERMUTE_H
#define TAUT_PERMUTE_H

#include "../../../comm/base/base.h"

__extension__ typedef unsigned __int128 taut__u128; /* for products of 64-bit counts */

enum { TAUT__TABLE_MAX = 65536, TAUT__FEISTEL_ROUNDS = 24 };

/* What a permutation is a function of. Equal keys give equal permutations, on every machine. */
typedef struct taut__order_key {
    uint64_t seed, round;
    uint32_t stream; /* keeps the users of one seed and round apart */
    uint32_t index;  /* of the window or class, below 2^32 - 1 */
} taut__order_key;

typedef struct taut__permutation { /* zero-initialise; taut__permutation_free() */
    uint64_t        n;
    taut__order_key key;
    uint16_t       *table; /* n <= TAUT__TABLE_MAX */
    size_t          capacity;
    unsigned        left, right; /* bits of the halves; right = left or left+1 */
    uint32_t        round_key[TAUT__FEISTEL_ROUNDS];
} taut__permutation;

/* taut__permutation_set() : make *p the permutation of 0..n-1 of this key, n in 1..2^62. Does nothing if it is already.
 *  Allocates only when the table has to grow; TAUT_E_NOMEM leaves *p unset (n = 0). Not thread-safe. */
taut_status taut__permutation_set(taut__permutation *p, uint64_t n, taut__order_key key);
void        taut__permutation_free(taut__permutation *p);

/* The same through the network, whatever n (at least 1): for tests. */
void taut__permutation_set_network(taut__permutation *p, uint64_t n, taut__order_key key);

/* One pass of the network over left+right bits: a bijection of them. */
static inline uint64_t taut__feistel(const taut__permutation *p, uint64_t x)
{
    uint32_t left_mask = (uint32_t)((UINT64_C(1) << p->left) - 1),
             right_mask = (uint32_t)((UINT64_C(1) << p->right) - 1);
    uint32_t l = (uint32_t)(x >> p->right) & left_mask, r = (uint32_t)x & right_mask;
    for (int i = 0; i < TAUT__FEISTEL_ROUNDS; i++) {
        /* the odd multiplier makes the low `left` bits of the product a bijection of l; they go into the new r, beside
         * the bits of r that l does not take over */
        uint64_t product = (uint64_t)0xD256D193u * l;
        l = ((uint32_t)(product >> 32) ^ p->round_key[i] ^ r) & left_mask;
        r = (((uint32_t)product << (p->right - p->left)) | (uint32_t)((uint64_t)r >> p->left)) & right_mask;
    }
    return (uint64_t)l << p->right | r;
}

/* taut__permute() : where place i (below n) of the permutation leads. */
static inline uint64_t taut__permute(const taut__permutation *p, uint64_t i)
{
    if (p->table) return p->table[i];
    do i = taut__feistel(p, i);
    while (i >= p->n);
    return i;
}

#endif
