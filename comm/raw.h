/* raw.h : the sum of n numbers over a group, in place, uncompressed, resumable. Carries `none`, fused buckets, the factors
 * of linear codecs, integer codes and audits.
 *
 * Few bytes go by recursive doubling (exchange.h). More go by scatter-reduce-allgather in slices: every rank sends each
 * part straight from x to its owner, who adds what arrives in order of rank and sends the sum, which every rank
 * receives straight into x: 2(p-1)/p of the bytes per rank, and a slot (slots.h) for each slice under way. */
#ifndef TAUT_RAW_H
#define TAUT_RAW_H

#include "exchange.h"
#include "partition.h"
#include "slots.h"

enum { TAUT_SLOTS = 3 }; /* slices under way: one being prepared, one on the wire, one being received */
enum { TAUT_RAW_SMALL = 1 << 15 }; /* bytes up to which recursive doubling is used: at 10 Gbit/s it beat MPI_Allreduce at 16 KiB, and lost at 64 KiB */

typedef enum taut_half { TAUT_REDUCE = 1, TAUT_GATHER = 2, TAUT_BOTH = 3 } taut_half; /* of scatter-reduce-allgather */

typedef struct taut_raw_slot {
    taut_request *out1, *in1, *out2, *in2; /* one per rank of the group; NULL: no slice has the slot */
    char         *in;                      /* (size-1) * sub numbers: contributions to my part */
} taut_raw_slot;

typedef struct taut_raw {
    const taut_group *g;
    int               tag; /* and the next one */
    taut_number       kind;
    taut_slots       *slots;
    size_t            block, slice, most; /* most: numbers of a sub-slice for which the own slot has room */
    size_t            small_room;
    taut_half         halves;
    float             factor; /* f32: the sum is multiplied by this */
    char             *x;
    size_t            n;
    taut_partition    part;
    size_t            started, reduced, posted, finished; /* slices */
    taut_raw_slot     slot[TAUT_SLOTS];
    taut_exchange     small;
    void             *scratch;
    bool              exchanging;
    uint64_t          sent; /* bytes of the current sum */
} taut_raw;

/* For sums of up to n numbers in parts of multiples of block. Says what it needs of slots, which are opened later and must
 * not serve anything else while a sum is under way; where they serve something already, slices are cut to fit. */
void        taut__raw_prepare(taut_raw *r, const taut_group *g, int tag, taut_number kind, size_t n, size_t block, size_t slice,
                              taut_slots *slots);
void        taut__raw_begin(taut_raw *r, void *x, size_t n, taut_half halves, float factor);
taut_status taut__raw_advance(taut_raw *r, bool *moved, bool *done);
void        taut__raw_cancel(taut_raw *r);
/* A number of the group that r is waiting for, -1 if none; for messages. */
int         taut__raw_waiting_for(const taut_raw *r);

#endif
