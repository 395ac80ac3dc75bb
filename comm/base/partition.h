/* partition.h : who owns which elements. Index arithmetic only, tested without a network.
 *
 * A tensor of n elements is cut into `parts` contiguous parts in rank order, at multiples of `block` elements, so that
 * parts differ by at most one block (the last block of the tensor may be short, and parts may be empty). Each part is
 * cut into sub-slices of `sub` elements, a multiple of block. Slice k of an operation is sub-slice k of all parts. */
#ifndef TAUT_PARTITION_H
#define TAUT_PARTITION_H

#include "base.h"

typedef struct taut__partition {
    size_t n, block, sub, slices;
    int    parts;
} taut__partition;

typedef struct taut__range {
    size_t first, n;
} taut__range;

enum {
    TAUT_SUB_MIN = 1 << 14, /* elements of a sub-slice: below, messages cost more than they carry */
    TAUT_SUB_PER_PART = 8,  /* sub-slices of a part that is large enough: a pipeline that is 1/8 filling and draining */
    TAUT_SUB_RANKS = 4,     /* more ranks share the slice, so that memory does not grow with them */
};

static inline taut__range taut__part(const taut__partition *p, int part)
{
    size_t blocks = taut__ceil_div(p->n, p->block), each = blocks / (size_t)p->parts, more = blocks % (size_t)p->parts;
    size_t r = (size_t)part, at = r * each + taut__min(r, more), end = at + each + (r < more);
    taut__range range = {taut__min(at * p->block, p->n), 0};
    range.n = taut__min(end * p->block, p->n) - range.first;
    return range;
}

/* Sub-slice k of a part; n = 0 where the part has no such. */
static inline taut__range taut__sub(const taut__partition *p, int part, size_t k)
{
    taut__range r = taut__part(p, part);
    if (k >= p->slices || k * p->sub >= r.n) return (taut__range){r.first + r.n, 0};
    return (taut__range){r.first + k * p->sub, taut__min(p->sub, r.n - k * p->sub)};
}

static inline size_t taut__round_up(size_t x, size_t to) { return taut__ceil_div(x, to) * to; }

/* slice: elements of a sub-slice at most (for few ranks). n >= 1, parts >= 1, block >= 1. */
static inline taut__partition taut__partition_of(size_t n, int parts, size_t block, size_t slice)
{
    taut__partition p = {.n = n, .block = block, .parts = parts};
    size_t          largest = taut__part(&p, 0).n; /* part 0 has the most blocks; the short block is the last part's */
    size_t most = taut__max(TAUT_SUB_MIN, parts <= TAUT_SUB_RANKS ? slice : slice / (size_t)parts * TAUT_SUB_RANKS);
    size_t want = taut__ceil_div(largest, TAUT_SUB_PER_PART);
    want = taut__min(taut__max(want, TAUT_SUB_MIN), most);
    p.sub = taut__max(1, taut__round_up(taut__min(want, largest), block));
    p.slices = taut__ceil_div(largest, p.sub);
    return p;
}

/* ---- recursive doubling with a fold for what exceeds a power of two (Thakur, Rabenseifner, Gropp 2005, section 4.1) ---- */
static inline int taut__power_below(int p) /* largest power of two <= p */
{
    int w = 1;
    while (w <= p / 2) w *= 2;
    return w;
}

/* ---- recursive halving ---- p a power of two */
static inline int taut__log2(int p)
{
    int d = 0;
    while (p >>= 1) d++;
    return d;
}

/* What a rank holds after `times` halvings of n elements: the upper half where its bit, from the highest down, is set. */
static inline taut__range taut__halved(size_t n, int p, int rank, int times)
{
    taut__range r = {0, n};
    for (int mask = p / 2; times > 0; mask /= 2, times--) {
        size_t low = r.n / 2;
        r = rank & mask ? (taut__range){r.first + low, r.n - low} : (taut__range){r.first, low};
    }
    return r;
}

/* ---- ring ---- part that a rank sends / receives in step s of p-1; rank r ends up with part r */
static inline int taut__mod(int a, int p) { return ((a % p) + p) % p; }
static inline int taut__ring_send(int rank, int step, int p) { return taut__mod(rank - 1 - step, p); }
static inline int taut__ring_recv(int rank, int step, int p) { return taut__mod(rank - 2 - step, p); }

#endif
