/* plain_sum.h : the sum of n numbers over a group, in place, uncompressed, resumable. Carries `none`, fused buckets, the factors
 * of linear codecs, and integer codes.
 *
 * Few bytes go by recursive doubling (small_allreduce.h), more by halving and doubling (halving.c), among a power of two of ranks. Others go by
 * scatter-reduce-allgather in slices: every rank sends each
 * part straight from x to its owner, who adds what arrives in order of rank and sends the sum, which every rank
 * receives straight into x: 2(p-1)/p of the bytes per rank, and a slot (arena.h) for each slice under way.
 *
 * Outside the host the numbers of a slice are staged: copied into host memory before it is started, and back when it is finished, while
 * others are under way; so the messages are those of the host, and host memory is bounded by the slices under way. */
#ifndef TAUT_RAW_H
#define TAUT_RAW_H

#include "small_allreduce.h"
#include "../base/arena.h"
#include "../base/partition.h"
#include "../base/space.h"

/* ---- halving.c ---- the sum of a vector over a power of two of ranks, in place, with the same bits everywhere: recursive halving,
 * then recursive doubling (Rabenseifner 2004; Thakur, Rabenseifner, Gropp 2005, section 4.1). 2 log2 p messages carry
 * 2(p-1)/p of the bytes, so it lies between small_allreduce.h, which has half the messages, and scatter-reduce-allgather, whose 2(p-1)
 * messages leave together. For vectors whose halves MPI sends eagerly. */
typedef struct taut__halving {
    const taut__group *g;         /* of 2, 4, 8, ... ranks */
    int                tag, turn; /* 0 .. 2 log2 p */
    size_t             n, width;  /* numbers; bytes of one */
    char              *x, *in;
    taut__combine      combine;
    uint64_t           sent; /* bytes */
    taut__request      send, recv;
} taut__halving;

/* x: n numbers of `width` bytes, in place; in: room for (n+1)/2; both stay untouched until done. */
void taut__halving_begin(taut__halving *h, const taut__group *g, int tag, void *x, void *in, size_t n, size_t width,
                         taut__combine combine);
taut_status taut__halving_advance(taut__halving *h, bool *done);
void        taut__halving_cancel(taut__halving *h);
int         taut__halving_waiting_for(const taut__halving *h, int *hops); /* as taut__small_allreduce_waiting_for */

/* ---- plain_sum.c ---- */

enum { TAUT_SLOTS = 3 }; /* slices under way: one being prepared, one on the wire, one being received */
/* Bytes up to which recursive doubling, and halving, are used. Measured at 10 Gbit/s on 2 and 4 hosts: doubling beats MPI_Allreduce
 * up to 32 KiB; halving is as fast as that at 64 KiB, where its largest message is still eager, and slower at 128 KiB. */
enum { TAUT_RAW_DOUBLING = 1 << 15, TAUT_RAW_HALVING = 1 << 16 };
typedef enum taut__plain_sum_way { TAUT_RAW_BY_SLICES, TAUT_RAW_BY_DOUBLING, TAUT_RAW_BY_HALVING } taut__plain_sum_way;

enum { TAUT_SMALL_BEGINS, TAUT_SMALL_COMES, TAUT_SMALL_RUNS, TAUT_SMALL_LEAVES };

/* Of scatter-reduce-allgather. */
typedef enum taut__half { TAUT_REDUCE = 1, TAUT_GATHER = 2, TAUT_BOTH = 3 } taut__half;

typedef struct taut__plain_sum_slot {
    taut__request *out1, *in1, *out2, *in2; /* one per rank of the group; NULL: no slice has the slot */
    char          *in;                      /* (size-1) * sub numbers: contributions to my part */
    taut__event   *copied;  /* outside the host: passes when the copies have been made that its stage takes part in */
    bool           leaving; /* those are the ones back to x */
} taut__plain_sum_slot;

typedef struct taut__plain_sum {
    const taut__group    *g;
    int                   tag; /* and the next one */
    taut__number          kind;
    taut__slots          *slots;
    size_t                block, slice, most; /* most: numbers of a sub-slice for which the own slot has room */
    size_t                small_room;
    taut__half            halves;
    float                 factor; /* f32: the sum is multiplied by this */
    char                 *x;
    size_t                n;
    taut__partition       part;
    size_t                started, reduced, posted, finished; /* slices */
    taut__plain_sum_slot  slot[TAUT_SLOTS];
    taut__plain_sum_way   way;
    taut__small_allreduce doubling;
    taut__halving         halving;
    void                 *scratch; /* small_room bytes, of both */
    uint64_t              sent;    /* bytes of the current sum */
    taut_place            place;   /* of x */
    const taut__space    *space;   /* NULL on the host: x is not staged */
    taut__staging         stage_made;
    char                 *stage;  /* host memory for TAUT_SLOTS slices of all parts, or for all of a small sum */
    size_t                opened; /* slices whose copies to the stage have been begun */
    int                   small;  /* of a small sum, staged */
} taut__plain_sum;

/* For sums of up to n numbers in parts of multiples of block. Says what it needs of slots, which are opened later and must
 * not serve anything else while a sum is under way; where they serve something already, slices are cut to fit: alike on all ranks, wherever
 * their numbers lie. place: of those, with a stream for copies. A failed one is released too. */
taut_status taut__plain_sum_prepare(taut__plain_sum *r, const taut__group *g, int tag, size_t n, size_t block,
                                    size_t slice, taut__slots *slots, taut_place place);
void        taut__plain_sum_release(taut__plain_sum *r); /* one that was never prepared is fine */
void taut__plain_sum_begin(taut__plain_sum *r, taut__number kind, void *x, size_t n, taut__half halves, float factor);
taut_status taut__plain_sum_advance(taut__plain_sum *r, bool *moved, bool *done);
void        taut__plain_sum_cancel(taut__plain_sum *r);
int         taut__plain_sum_waiting_for(const taut__plain_sum *r, int *hops); /* as taut__small_allreduce_waiting_for */

#endif
