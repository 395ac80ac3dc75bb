/* reduction.h : one collective of one operand under way, and the table that every algorithm fills in.
 *
 * A reduction belongs to its layer and is used again every step. It goes through phases (phases.c), each of which advances
 * without waiting; the algorithm is one of them. Whoever holds the engine's lock advances it. */
#ifndef TAUT_REDUCTION_H
#define TAUT_REDUCTION_H

#include "../../compressors/frame.h"
#include "../context/context.h"
#include "../sum/plain_sum.h"
#include "operand.h"

/* taut__record : what one collective cost and lost, on this rank. Squared errors are in units of the sum over ranks; own
 * errors are those of this rank's encodings, second errors those of encoding sums again. */
typedef struct taut__record {
    uint64_t   bytes_sent, bytes_dense;     /* dense: the same messages, uncompressed */
    uint64_t   payload_bytes, encoded;      /* this rank's encodings of its own x: bytes, and elements that they hold */
    uint64_t   sum_bytes;                   /* of the encodings of sums that this rank made */
    taut_norm2 own;                         /* ||x||^2 of this rank */
    taut_norm2 error, requantization_error; /* see above */
    taut_norm2 sum; /* ||sum||^2 of the part that this rank owns (all of it where owned by all: on rank 0) */
    struct {
        taut_norm2 own, error, requantization_error, sum;
    } low; /* what these sums lack of the exact ones: pieces come in any order, and all orders give the same bits */
    double encode_s, decode_s; /* seconds of codec work, all threads */
    double begin_s, end_s;     /* taut__now() at start and completion */
} taut__record;

typedef struct taut__reduction taut__reduction;

typedef struct taut__algorithm {
    const char *name;
    const char *help; /* one line: steps and bytes */
    /* (optional) why it cannot carry this spec; NULL if it can */
    const char *(*cannot)(const taut_spec *spec);
    taut_status (*prepare)(taut__reduction *red); /* memory, and what it needs of red->slots; once per layer and spec */
    taut_status (*begin)(taut__reduction *red);
    taut_status (*advance)(taut__reduction *red, bool *moved, bool *done); /* one piece of work at most, never waits */
    int (*waiting_for)(const taut__reduction *red, int *hops);             /* as taut__job.waiting_for */
    void (*cancel)(taut__reduction *red);
    void (*release)(taut__reduction *red);
} taut__algorithm;
extern const taut__algorithm taut__sra, taut__ring, taut__gather, taut__native, taut__linear;

/* taut__watcher : what core wants to hear of a reduction. Slices that do not overlap may be told from several threads, except input. */
enum { TAUT_WATCH_INPUT = 1, TAUT_WATCH_SAMPLE = 2 };
typedef struct taut__watcher {
    unsigned (*begin)(taut__reduction *red); /* bits of TAUT_WATCH_*: what else is to be called this time */
    void (*form)(taut__reduction *red, size_t first, size_t n);         /* buf is about to be read for the first time */
    void (*input)(taut__reduction *red, taut__range r, const float *x); /* INPUT: x as encoded; engine thread */
    void (*sample)(taut__reduction *red, taut__range r, const float *x); /* the same, anywhere */
    void (*lost)(taut__reduction *red, taut__range r, const float *lost,
                 float factor);                                   /* factor * lost, in units of the sum, is not in it */
    void (*stored)(taut__reduction *red, size_t first, size_t n); /* results have been written */
    void (*enqueued)(
        taut__reduction *red); /* (optional) an exchange is, its result last; an event follows on the stream */
    void (*complete)(taut__reduction *red); /* record and result are */
} taut__watcher;

typedef enum taut__phase {
    TAUT_PHASE_ORDER,      /* outside the host: what the program has enqueued before is being done */
    TAUT_PHASE_LOCAL_SUM,  /* hierarchy: the host's ranks into its leader */
    TAUT_PHASE_ROTATE,     /* form x, write it in the coordinates of a basis */
    TAUT_PHASE_STATS,      /* form x, look at it */
    TAUT_PHASE_AGREE,      /* GLOBAL_STATS codecs: add the statistics over ranks */
    TAUT_PHASE_REDUCE,     /* the algorithm */
    TAUT_PHASE_BACK,       /* result and residual in their own coordinates again */
    TAUT_PHASE_UNTURN,     /* x in its own, before: */
    TAUT_PHASE_RAW,        /* this time uncompressed */
    TAUT_PHASE_LOCAL_COPY, /* hierarchy: the leader's result to its host */
    TAUT_PHASE_LEARN,      /* the basis is shown the result */
    TAUT_PHASE_DONE
} taut__phase;

/* taut__aside : what a reduction does outside the engine's thread, where that would wait for a device. */
typedef struct taut__aside {
    taut_status (*work)(taut__reduction *red); /* NULL: nothing is under way */
    float      *scratch;                       /* of the worker who does it */
    taut__batch batch;
    taut_status status;
    const char *why; /* of the thread that did it */
} taut__aside;

/* taut__rotation : of a collective that is coded in a basis (rotate.c). */
typedef struct taut__rotation {
    taut_tensor plain;   /* the operand's, without a scale that y has been divided by */
    taut_norm2  own;     /* of x */
    size_t      tile;    /* the next */
    unsigned    watched; /* the run's, while it is turned */
    bool        will;    /* this collective is */
    bool        bad;     /* x is not finite: it stays as it is */
} taut__rotation;

struct taut__reduction {
    taut__job      job; /* first */
    taut__context *ctx;
    taut__lane    *lane;    /* of the place where buf, and what belongs to it, lies */
    taut__event   *ordered; /* passes when the work has that was in the program's stream before; NULL on the host */
    taut__operand *operand;
    const taut__watcher *watcher;

    /* what was asked for */
    void      *buf;
    int        kind; /* TAUT_SUM, TAUT_MEAN */
    taut__half halves;
    bool       blocking; /* all ranks may be waiting for this one: a native collective may do */

    /* the current run */
    const taut__group     *g; /* who reduces: all ranks, or the leaders of hosts */
    const taut__algorithm *via;
    taut__phase            phase;
    double                 phase_s; /* when it, or its wait for others, began */
    unsigned               watched; /* bits of TAUT_WATCH_* */
    taut_call              call;    /* template: spec, tensor, seeds, calibration, state */
    taut_calibration       calibration;
    taut__partition        part;
    float                  factor; /* 1, or 1/ranks */
    bool                   formed; /* x has been formed for the whole tensor */
    bool settled; /* an event has said that its work on the device is done: nothing of the stream need be waited for */
    bool calibrated, again;         /* the statistics was all that the codec needs; a second look is wanted */
    size_t                  at;     /* elements that the phase has dealt with */
    bool                    looked; /* STATS: at the slice from `at` on */
    taut__aside             aside;
    taut__rotation          rotation;
    struct taut__agree     *agree; /* agreement.c; of codecs with statistics */
    taut__small_allreduce   exchange;
    taut__plain_sum         plain;
    void                   *work;   /* the algorithm's */
    taut__slots             slots;  /* memory for slices, of whatever phase it is */
    struct taut__hierarchy *hier;   /* hierarchy.c */
    struct taut__within    *within; /* within.c */
    taut__record            record;
};

static inline taut__reduction *taut__reduction_of(taut__job *job) { return (taut__reduction *)(void *)job; }

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

static inline bool taut__at_home(const taut__reduction *red) { return taut__on_host(red->call.place); }

/* A worker's second half of scratch, beside the one that it was given: where a piece of work adds. */
static inline void *taut__acc(const taut__reduction *red, float *scratch) { return scratch + red->lane->scratch_n; }

static inline const taut_codec *taut__codec_of(const taut__reduction *red) { return taut__spec_codec(red->call.spec); }
/* Codes are added; what allgather spreads is no sum of codes. */
static inline bool taut__adds_codes(const taut__reduction *red)
{
    return taut__codec_of(red)->caps & TAUT_CAP_INTEGER && red->halves != TAUT_GATHER;
}
/* Sums of decoded tensors are encoded without loss. */
static inline bool taut__sums_exact(const taut__reduction *red)
{
    return taut__codec_of(red)->caps & TAUT_CAP_SPARSE && red->halves != TAUT_GATHER;
}
/* Floats of a linear codec's factor in a round. */
static inline size_t taut__factor_elems(const taut__reduction *red, int round)
{
    return taut__codec_of(red)->linear->factor_elems(&red->call.spec->stage[0], red->call.tensor, round);
}

/* ---- algorithms.c ---- */
const taut__algorithm *taut__algorithm_by_name(const char *name);
const taut__group     *taut__group_of(const taut__context *ctx, const taut__operand *o); /* who reduces it */
taut_status            taut__algorithm_for(const taut__context *ctx, const taut__operand *o, const taut_spec *spec,
                                           const taut__algorithm **via);
bool taut__algorithm_carries(const taut__settings *set, const taut_spec *spec); /* which it may force */

/* ---- phases.c ---- */
/* red's ctx, operand, watcher and job.name, layer, priority, needs are set. */
taut_status taut__reduction_init(taut__reduction *red);
taut_status taut__reduction_prepare(taut__reduction *red);
void        taut__reduction_release(taut__reduction *red);
taut_status taut__reduction_begin(taut__reduction *red, void *buf, int kind, taut__half halves, bool blocking);
/* The first of that: of one that no engine steps, or nobody watches, all of it. */
void taut__reduction_anew(taut__reduction *red, void *buf, int kind, taut__half halves);

#endif
