/* exchange.h : reductions whose bytes go by the data half, from memory of a device to memory of a device: what algorithms are there.
 *
 * An algorithm is a list of stages. A stage enqueues codec work on the lane's stream and one group of the data half behind it, and returns; the
 * next one is enqueued as soon as the data half is ready for it, which with NCCL is at once. Nothing waits for the device: lengths and
 * flags stay there, numbers that the host wants go to a ledger, which is copied behind the last stage, and an event says when all is done.
 *
 * A payload lies in a slot: 16 bytes of taut_outcome, which the encoder writes and the decoder reads where they lie, then the payload. Slots of
 * codecs whose payloads have a known length are as long as that. Others lie as far apart as the longest payload could be, but only as much of them
 * travels as all ranks have agreed: a tenth more than the largest of the last time. A payload that is longer says so; whoever should decode it
 * decodes nothing, and whoever gathers the sums tells everybody the largest of what came to it. So all ranks know, behind the last stage, and make the
 * stages again with what is missing: the tails travel, and then what depends on them. Encoding is never made again, so results are
 * those of slots that were large enough.
 *
 *      rank 0  encode   exchange  [..16 of 20]   reduce   gather  (largest 20)   decode   look: 20 > 16
 *              tails [16..24]   reduce   gather (largest 20)   decode   look: fine; next time 24 */
#ifndef TAUT_EXCHANGE_REDUCE_H
#define TAUT_EXCHANGE_REDUCE_H

#include "lineup.h"

enum { TAUT_SLOT_HEADER = 16, TAUT_EXCHANGE_RANKS = 1024 };
enum { TAUT_HALF_PARTS, TAUT_HALF_SUMS }; /* the two sets of slots: contributions to owners, and what all ranks get */

typedef struct taut__ledger { /* what the device tells; admitted slots follow it */
    taut_norm2   own, error[2], requantized, sum;
    taut_outcome codes; /* of own codes: were they too large? */
    uint32_t     sum_flags, half_flags, own_flags;
    uint32_t     too_large; /* native sums of codes: not 0 if codes of some rank did not fit their fields */
} taut__ledger;

struct taut__exchange_way;
typedef struct taut__exchange {
    struct taut__exchange           *outside; /* of one in a graph, while it is the layer's: the layer's own */
    bool                             in_graph;
    const struct taut__exchange_way *way;
    taut__lineup                     turn;
    size_t                           stage;  /* the next one */
    size_t                           agreed; /* stages of the agreement (agree_there.c) that have been enqueued */
    bool                             asked, looking, redone, finishing;
    size_t                           part_n; /* elements of the largest part; of all, where slots hold whole tensors */
    /* of a slot, each with a payload of part.sub elements; 1 where payloads do not depend on how tensors are cut */
    size_t   cells;
    size_t   cell[2];        /* bytes of one: header and the longest payload */
    size_t   stride[2];      /* bytes from slot to slot: cells */
    bool     shrinks;        /* slots travel no further than agreed */
    uint32_t bits, calm;     /* native sums of codes: of a field, and exchanges since they last were too few */
    size_t   wanted[2];      /* bytes of a slot that would do, so far as is known */
    size_t   from[2], to[2]; /* bytes of each slot that travel this time; from > 0: tails */
    /* of the lane, while it is this layer's turn, until it is done */
    void           *memory, *agreeing;
    uint8_t        *out, *in, *sums; /* a slot per rank */
    taut__ledger   *ledger;
    taut__admitted *admitted[3]; /* of in, sums, out */
    taut_norm2     *lost;        /* of partial sums: one per rank */
    void           *acc, *own;   /* part_n numbers each; own: NULL for codecs whose payloads always fit */
    void           *part_to;     /* reduce-scatter: where this rank's part goes, in the layer's dtype; NULL: into buf */
    float          *err, *val;   /* n floats: where there is no memory for x, and of 16-bit results; else NULL */
    uint64_t       *found;
    /* the ledger, on the host, since prepare */
    taut__ledger *here_ledger;
    size_t        ledger_bytes;
    taut__event  *over;
    double        sent_s;
} taut__exchange;

enum { TAUT_SLOTS_NONE, TAUT_SLOTS_PARTS, TAUT_SLOTS_WHOLE };
enum { TAUT_OWN_NONE, TAUT_OWN_SHRINKS, TAUT_OWN_CODES };
typedef struct taut__exchange_way {
    taut__algorithm algorithm;     /* as the rest sees it; first */
    int             slots;         /* of sums: none, of parts, or of whole tensors */
    int             contributions; /* slots of those, out and in: 0, 1, or TAUT_EXCHANGE_RANKS: one per rank */
    bool            shrinks;       /* it can go on from slots that were too short: again() */
    size_t (*stages)(const taut__reduction *red);
    taut_status (*enqueue)(taut__reduction *red, size_t stage);
    size_t (*again)(bool parts); /* the stage to go on from; parts: contributions were too long, else only sums */
    bool (*too_small)(taut__reduction *red); /* (optional) fields were: all stages again, with what it has changed */
    size_t (*accumulator)(const taut__reduction *red); /* (optional) bytes of acc; else floats of a part */
    int owns; /* TAUT_OWN_: acc's own part is kept where slots shrink; x, where codes add */
} taut__exchange_way;

static inline taut__exchange *taut__exchange_of(const taut__reduction *red) { return red->work; }

/* ---- exchange_table.c ---- How the data half carries what `via` would; NULL: it does not (a place on the host, no data half, no native sum there). */
const taut__algorithm *taut__exchange_for(const taut__reduction *red, const taut__algorithm *via);

/* ---- exchange.c: what all of them share ---- */
uint64_t    taut__exchange_redone(void); /* exchanges of this process whose stages were made again, so far */
taut_status taut__exchange_prepare(taut__reduction *red); /* red->via is the way's algorithm */
void        taut__exchange_release(taut__reduction *red);
taut_status taut__exchange_begin(taut__reduction *red);
taut_status taut__exchange_advance(taut__reduction *red, bool *moved, bool *done);
int         taut__exchange_waiting_for(const taut__reduction *red, int *hops);
void        taut__exchange_cancel(taut__reduction *red);
/* Without turns, for whoever has all ranks' calls in the same order anyway (at_once.h): all stages are enqueued in memory of so many bytes of the place,
 * the ledger's copy and the event behind them; told: once the event has passed, what it cost is in red->record. Slots that shrink are not for this. */
size_t      taut__exchange_bytes(taut__reduction *red);
taut_status taut__exchange_at_once(taut__reduction *red, void *memory);
/* In a graph (captured.c): all stages are enqueued, as for a call whose slots travel as far as turn.mine says, and which agrees on all statistics; and a
 * graph has been launched on place's stream: the exchange is where one is whose last stage has been enqueued there. */
taut_status taut__exchange_capture(taut__reduction *red, void *memory);
taut_status taut__exchange_replayed(taut__reduction *red, void *memory, taut_place place);
taut_status taut__exchange_told(taut__reduction *red, bool *told);
#define TAUT_EXCHANGE_ALGORITHM(its_name, its_help)                                                                    \
    {                                                                                                                  \
        .name = its_name, .help = its_help, .prepare = taut__exchange_prepare, .begin = taut__exchange_begin,          \
        .advance = taut__exchange_advance, .waiting_for = taut__exchange_waiting_for, .cancel = taut__exchange_cancel, \
        .release = taut__exchange_release                                                                              \
    }

extern const taut__exchange_way taut__exchange_sra, taut__exchange_gather, taut__exchange_ring, taut__exchange_native,
    taut__exchange_linear;

/* ---- captured.c ---- an exchange of a layer in a graph: all its stages are enqueued once, on a stream that is being captured, in memory of their own, and what
 * every replay leaves is looked at as after an exchange that was enqueued as ever. So errors are told, residuals and accounts are kept, and slots
 * that turn out too short send their tails in a second round, which is no part of the graph. */
typedef struct taut__captured taut__captured;

/* NULL: it can be captured; else why not, and what to do. Of a layer that has been through a collective. */
const char *taut__captured_cannot(const taut__reduction *red);
/* Memory, and how long slots are to be: sizes are this rank's, and then must become the largest of any rank (a width is one of them). */
taut_status taut__captured_create(taut__reduction *red, taut__captured **c, size_t size[2]);
void        taut__captured_agree(taut__captured *c, const size_t size[2]);
void        taut__captured_destroy(taut__reduction *red, taut__captured *c); /* nothing under way; NULL is fine */
/* With the engine held: everything goes on `stream`. After a failure what the graph holds is of no use. */
taut_status taut__captured_enqueue(taut__reduction *red, taut__captured *c, struct CUstream_st *stream, void *buf,
                                   int kind);
void       *taut__captured_buf(const taut__captured *c, int *kind); /* NULL: it has not been captured */
/* A graph has been launched on `stream`: the reduction is as one whose stages are all enqueued, and may be given to the engine. */
taut_status taut__captured_launched(taut__reduction *red, taut__captured *c, struct CUstream_st *stream);

#endif
