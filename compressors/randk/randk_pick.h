/* randk_pick.h : which elements randk sends. The tensor's n elements are cut into k blocks, the first n % k of them one
 * element longer; one element per block is chosen by a counter-based random number. So exactly k are sent, every
 * element has the chance 1 / (size of its block), neighbours in memory stay neighbours in the payload, and both
 * directions (block -> element, element -> block) are O(1), for any slice and on a GPU. */
#ifndef TAUT_RANDK_PICK_H
#define TAUT_RANDK_PICK_H

#include "../../comm/base/base.h"

typedef struct taut__pick {
    uint64_t seed, elems, blocks; /* 1 <= blocks <= elems */
    uint64_t size, longer;        /* blocks 0..longer-1 have size+1 elements, the others size */
} taut__pick;

TAUT_INLINE taut__pick taut__pick_init(uint64_t seed, uint64_t elems, uint64_t blocks)
{
    taut__pick p = {seed, elems, blocks, elems / blocks, elems % blocks};
    return p;
}

TAUT_INLINE uint64_t taut__pick_size(const taut__pick *p, uint64_t block) { return p->size + (block < p->longer); }

TAUT_INLINE uint64_t taut__pick_start(const taut__pick *p, uint64_t block)
{
    return block * p->size + (block < p->longer ? block : p->longer);
}

TAUT_INLINE uint64_t taut__pick_block(const taut__pick *p, uint64_t elem)
{
    uint64_t in_longer = p->longer * (p->size + 1);
    return elem < in_longer ? elem / (p->size + 1) : p->longer + (elem - in_longer) / p->size;
}

/* Multiply-shift: uniform up to size / 2^32. */
TAUT_INLINE uint64_t taut__pick_elem(const taut__pick *p, uint64_t block)
{
    uint64_t size = taut__pick_size(p, block), r = taut__random32(taut__rng_of(p->seed, block), (uint32_t)block);
    return taut__pick_start(p, block) + (size >> 32) * r + ((size & UINT32_MAX) * r >> 32);
}

#endif
