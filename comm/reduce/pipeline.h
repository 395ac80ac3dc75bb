/* pipeline.h : slices of a reduction under way at once, as sra, ring and gather have them: a slot of memory and requests per slice, pieces
 * of codec work that any thread may do, and frames that are sent and received.
 *
 * An algorithm's work is a struct that begins with a taut__pipeline, its slots are structs that begin with a pointer to their requests.
 * It chooses pieces, threads do them, and settle() then deals with each, in the order in which they were chosen, so that neither what is
 * sent nor what is measured depends on the threads. On the host the engine's thread works too, and has done them when advance() returns;
 * outside the host they are under way like a message is, and the engine goes on with other jobs. */
#ifndef TAUT_PIPELINE_H
#define TAUT_PIPELINE_H

#include "input.h"

enum { TAUT_PIECES = 32 };

typedef struct taut__piece {
    int              what;     /* of the algorithm's pieces */
    size_t           k;        /* slice */
    int              from, to; /* ranks, parts or steps, as the algorithm has it */
    bool             sums;     /* what it encodes is a whole sum */
    taut__piece_done done;
} taut__piece;

typedef struct taut__pipeline_ops {
    size_t             slot_bytes;                  /* of the algorithm's slot struct */
    const char *const *name;                        /* of pieces, for the trace */
    size_t (*requests)(const taut__reduction *red); /* of a slot */
    /* Cuts memory into what slot points to, its requests first; memory NULL: only counts. Returns the bytes. */
    size_t (*lay_out)(const taut__reduction *red, void *slot, void *memory);
    void (*work)(taut__reduction *red, taut__piece *p, float *scratch); /* any thread; pieces are independent */
    taut_status (*choose)(taut__reduction *red, bool *moved); /* pieces to do now, and messages; none is under way */
    taut_status (*settle)(taut__reduction *red, const taut__piece *p); /* done without error, and in the record */
    bool (*over)(const taut__reduction *red, size_t k);                /* the first slice that is not finished is */
} taut__pipeline_ops;

typedef struct taut__pipeline {
    const taut__pipeline_ops *ops;
    size_t                    frame; /* capacity of one, rounded up, so that frames of one array are aligned */
    size_t                    slots, slices;
    size_t                    encoded, finished; /* slices; the algorithm counts those encoded */
    size_t                    pieces;
    taut__batch               batch;   /* outside the host: the pieces, under way */
    double                    begin_s; /* of the pieces */
    taut__piece               piece[TAUT_PIECES];
    char                     *slot;
} taut__pipeline;

static inline taut__pipeline *taut__pipeline_of(const taut__reduction *red) { return red->work; }
static inline void           *taut__pipeline_slot(const taut__reduction *red, size_t k)
{
    taut__pipeline *p = taut__pipeline_of(red);
    return p->slot + k % p->slots * p->ops->slot_bytes;
}

/* work_bytes: of the algorithm's struct; slices of so many elements; most: slots at most. Sets red->work. */
taut_status taut__pipeline_prepare(taut__reduction *red, const taut__pipeline_ops *ops, size_t work_bytes,
                                   size_t slices, size_t elems, size_t most);
void        taut__pipeline_release(taut__reduction *red);
taut_status taut__pipeline_begin(taut__reduction *red);
bool        taut__pipeline_open(taut__reduction *red, size_t k); /* memory for slice k; false: none is left now */
bool        taut__pipeline_room(const taut__reduction *red);     /* for one more piece */
void        taut__pipeline_add(taut__reduction *red, taut__piece p);
taut_status taut__pipeline_advance(taut__reduction *red, bool *moved, bool *over); /* an algorithm's advance */
void        taut__pipeline_cancel(taut__reduction *red);
/* Whose message the first of the requests from..to-1 waits for, of any slot; -1: none. */
int         taut__pipeline_waiting(const taut__reduction *red, size_t from, size_t to);
const char *taut__pipeline_cannot(const taut_spec *spec); /* an algorithm's cannot: it cuts tensors into slices */

/* A frame that holds n elements leaves, and is counted. q: of the group. */
taut_status taut__frame_send(taut__reduction *red, taut__request *r, int q, int tag, const uint8_t *frame, size_t bytes,
                             size_t n);
taut_status taut__frame_fits(const taut__reduction *red, const taut__request *r); /* what came is not too long */

/* ---- what pieces of work are made of ---- */

static inline int32_t taut__code_limit(const taut__reduction *red) { return INT32_MAX / red->g->size; }

/* acc = this rank's x of r as it enters the sum: codes; or x as it is; or, with frame, what its encoding, made there, decodes to. Nothing
 * is gained by coding what does not travel, except for sparse codecs: a dense part would make the sum dense. */
taut_status taut__own_contribution(taut__reduction *red, taut__range r, uint8_t *frame, float *scratch, void *acc,
                                   taut__piece_done *done);
/* acc += what came from another rank. */
taut_status taut__add_frame(taut__reduction *red, taut__range r, const taut__request *in, const uint8_t *frame,
                            void *acc, float *scratch);
/* acc, in units of the sum times scale, as a frame; what that loses goes to the residual, its norms to *lost. round: so that every rounding
 * is independent of the others. */
taut_status taut__encode_sum(taut__reduction *red, taut__range r, void *acc, uint64_t round, float scale,
                             uint8_t *frame, size_t *bytes, taut_norm2 *lost, float *scratch);
/* The sum that a frame holds, stored. sum: where not NULL, of the rank that owns it: its norms. */
taut_status taut__store_sum(taut__reduction *red, taut__range r, const uint8_t *frame, size_t bytes, float *scratch,
                            taut_norm2 *sum);
/* acc is the whole sum of float codecs: scaled, looked at and, for a reduce-scatter, stored. */
void taut__finish_floats(taut__reduction *red, taut__range r, float *acc, taut__piece_done *done);

#endif
