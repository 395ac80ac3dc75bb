/* job.h : one collective of one layer under way, and the table that every reduction algorithm fills in.
 *
 * An operation belongs to its layer and is used again every step. It goes through phases (algorithms.c), each of which
 * advances without waiting; the algorithm is one of them. Whoever holds the engine's lock advances it. */
#ifndef TAUT_JOB_H
#define TAUT_JOB_H

#include "../../compressors/feedback.h"
#include "../../compressors/frame.h"
#include "../sum/plain_sum.h"

typedef struct taut__job taut__job;

/* taut__record : what one collective cost and lost, on this rank. Squared errors are in units of the sum over ranks; own
 * errors are those of this rank's encodings, second errors those of encoding sums again. */
typedef struct taut__record {
    uint64_t   bytes_sent, bytes_dense; /* dense: the same messages, uncompressed */
    uint64_t   payload_bytes, encoded;  /* this rank's encodings of its own x: bytes, and elements that they hold */
    uint64_t   sum_bytes;               /* of the encodings of sums that this rank made */
    taut_norm2 own;                     /* ||x||^2 of this rank */
    taut_norm2 error, requantization_error;           /* see above */
    taut_norm2 sum;                     /* ||sum||^2 of the part that this rank owns (all of it where owned by all: on rank 0) */
    struct {
        taut_norm2 own, error, requantization_error, sum;
    } low; /* what these sums lack of the exact ones: pieces come in any order, and all orders give the same bits */
    double     encode_s, decode_s;      /* seconds of codec work, all threads */
    double     begin_s, end_s;          /* taut__now() at start and completion */
} taut__record;

typedef struct taut__algorithm {
    const char *name;
    const char *help; /* one line: steps and bytes */
    /* (optional) why it cannot carry this spec; NULL if it can */
    const char *(*cannot)(const taut_spec *spec);
    taut_status (*prepare)(taut__job *job); /* memory, and what it needs of job->slots; once per layer and spec */
    taut_status (*begin)(taut__job *job);
    taut_status (*advance)(taut__job *job, bool *moved, bool *done); /* one piece of work at most, never waits */
    int (*waiting_for)(const taut__job *job, int *hops); /* as taut__job.waiting_for */
    void (*cancel)(taut__job *job);
    void (*release)(taut__job *job);
} taut__algorithm;
extern const taut__algorithm taut__sra, taut__ring, taut__gather, taut__native, taut__linear;

/* What algorithm=auto takes for an allreduce among so many members of the group that reduces (all ranks, or the leaders of
 * hosts). Of specs that can be sliced: two members gather, because each then sends b bytes in one hop where sra sends (b + s) / 2
 * in two, s >= b being those of an encoded sum, and encodes the sum again. */
const taut__algorithm *taut__automatic(const taut_spec *spec, int members);

typedef enum taut__phase {
    TAUT_PHASE_LOCAL_SUM,  /* hierarchy: the host's ranks into its leader */
    TAUT_PHASE_SURVEY,     /* form x, look at it */
    TAUT_PHASE_AGREE,      /* SHARED codecs: add the statistics over ranks */
    TAUT_PHASE_REDUCE,     /* the algorithm */
    TAUT_PHASE_RAW,        /* this time uncompressed */
    TAUT_PHASE_LOCAL_COPY, /* hierarchy: the leader's result to its host */
    TAUT_PHASE_DONE
} taut__phase;

/* Slices that are coded are this part of slice_kib. They travel 4 to 16 times smaller, and a frame that fits MPI's eager messages
 * (64 KiB over TCP) leaves without a handshake, while this rank is coding the next. As many more are under way. */
enum { TAUT_CODED_SLICE_DIV = 4 };

/* Coded slices that may be under way, if there are slots for them: every second one at least, unless more threads are to be
 * kept busy. */
static inline size_t taut__slots_for(size_t slices, size_t threads)
{
    size_t slots = taut__min(taut__max(slices / 2, TAUT_SLOTS), TAUT_CODED_SLICE_DIV * TAUT_SLOTS);
    return taut__min(slices, taut__max(slots, threads + 1));
}

enum { TAUT_JOB_IDLE, TAUT_JOB_RUNNING, TAUT_JOB_DONE };

/* Tags of an operation, counted from job->tag; ranges of different operations do not overlap. */
enum { TAUT_TAG_FIRST, TAUT_TAG_SECOND, TAUT_TAG_CONTROL, TAUT_TAG_UP, TAUT_TAG_DOWN,
       TAUT_TAG_RING, TAUT_RING_TAGS = 16, TAUT_TAGS = TAUT_TAG_RING + TAUT_RING_TAGS };

struct taut__job {
    struct taut_comm  *comm;
    struct taut_layer *layer; /* NULL: a bucket of small layers */
    const char        *name;  /* in messages */
    int                tag;
    uint32_t           priority; /* lower first */
    _Atomic int        state;
    size_t              needs;    /* layers that must have been compared before it may run */
    taut__job           *next;     /* engine's list */
    taut_status (*step)(taut__job *job, bool *moved, bool *done);
    void (*stop)(taut__job *job);   /* cancel what is under way */
    /* The rank of the transport whose message is missing, -1: nobody's. Adds to *hops how many ranks, one after the other, that
     * one may be waiting for itself. */
    int (*waiting_for)(const taut__job *job, int *hops);

    /* what was asked for */
    void     *buf;
    int       kind;     /* TAUT_SUM, TAUT_MEAN */
    taut__half halves;
    bool      blocking; /* all ranks may be waiting for this one: a native collective may do */

    /* the current run */
    const taut__group     *g;       /* who reduces: all ranks, or the leaders of hosts */
    const taut__algorithm *via;
    taut__phase            phase;
    double                phase_s; /* when it, or its wait for others, began */
    taut_call             call;    /* template: spec, tensor, seeds, prep, state */
    taut_prep             prep;
    taut__partition        part;
    float                 factor;  /* 1, or 1/ranks */
    bool                  formed;  /* x has been formed for the whole tensor */
    size_t                at;      /* elements that the phase has dealt with */
    struct taut__agree    *agree;   /* agreement.c; of codecs with a survey */
    taut__small_allreduce         exchange;
    taut__plain_sum              raw;
    void                 *work;    /* the algorithm's */
    taut__slots            slots;   /* memory for slices, of whatever phase it is */
    struct taut__hierarchy     *hier;    /* hierarchy.c */
    taut__record           record;
    bool                  traced;  /* its row of the trace has a name */
};

#endif
