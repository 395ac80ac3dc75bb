/* communicator.h : the inside of taut_comm and taut_layer, shared by the files of comm/. */
#ifndef TAUT_COMMUNICATOR_H
#define TAUT_COMMUNICATOR_H

#include "../base/bytes.h"
#include "../plan/auto.h"
#include "../context/settings.h"
#include "../engine/engine.h"
#include "../base/executor.h"
#include "../transport/watchdog.h"
#include "sample.h"

typedef struct taut__bucket taut__bucket; /* fusion.c */
typedef struct taut__trace  taut__trace;  /* trace.c */

/* taut__step_record : the part of a taut__record that adds up where a layer is reduced several times in a step. */
typedef struct taut__step_record {
    taut_norm2 own, error, requantization_error, sum;
    uint64_t   payload_bytes, encoded;
} taut__step_record;

struct taut_layer {
    taut_comm  *comm;
    size_t      index;
    char        name[128];
    taut_dtype  dtype;
    int         ndim;
    size_t      shape[8];
    taut_tensor tensor;
    float      *scale;          /* tensor.scale points here */
    taut_spec   spec;           /* in force */
    taut_spec   wire;           /* what is encoded: spec, but fp16 or bf16 for `none` of a 16-bit layer */
    bool        pinned;         /* by taut_layer_codec */
    bool        automatic;      /* the plan decides */
    bool        lossy;          /* spec loses something */
    bool        prepared;       /* job's memory suits spec */
    bool        sharded;           /* has sharded collectives: they use neither the hierarchy nor gather */
    uint64_t    seed;           /* of (run, name) */
    taut_feedback    *feedback; /* NULL: no memory for x; else x is formed there */
    bool              feedback_on;    /* feedback is on */
    bool              residual; /* feedback->r holds a residual, whatever the codec is now */
    int               last_op;  /* TAUT_SUM or TAUT_MEAN of the last collective: a checkpoint needs it; -1 = none */
    taut_codec_state *state;
    taut__job          job;
    bool              started;
    bool              tested;   /* taut_test has said that it is done */
    _Atomic uint64_t  starts;   /* collectives that the program has started */
    uint64_t          ops;      /* of the step's collectives, the last 32: op + 1 in two bits each, the latest lowest */
    uint64_t          scale_hash;  /* of tensor.scale */
    float            *before;   /* dropped=restore: the residual (and momentum) before the step; NULL: not kept */
    bool              had_residual; /* before the step */
    bool              dropping; /* it took part in the step that has just ended: taut_step_drop() concerns it */
    float            *spread;   /* 16-bit layers whose codec codes whole tensors: allgather's copy as floats */
    uint32_t         *lent_checksums; /* debug.c: checksums of the buffer */
    _Atomic bool      spoilt;
    taut__bucket      *bucket;   /* of a small layer */
    size_t            at;       /* its first float there */
    size_t            seat;     /* its bit there */
    size_t            block;    /* parts of taut_layer_part start at multiples */

    /* statistics */
    uint64_t        calls, bytes_sent, bytes_dense;
    uint64_t        calls_at_step; /* calls when the step began */
    taut__step_record lost;        /* of the collectives of the last step that had one, or of the one under way */
    taut__layer_sums step, shown;   /* of the step that ends; of the last one with a call */
    taut__sample     sample;
};

/* Of all that ranks tell each other except frames, which have the wire version: statistics on which codecs agree, what rides in the exchange of
 * a step's end, tags, orders of messages. Raised whenever one of them changes, so that ranks of different builds say so. */
enum { TAUT_EXCHANGE_VERSION = 2 };

enum { TAUT_HANDSHAKE_LINE = 320 };
typedef struct taut__handshake_line {
    uint64_t rank;
    char     text[TAUT_HANDSHAKE_LINE];
} taut__handshake_line;

typedef struct taut__handshake { /* handshake.c */
    taut__job       job;
    size_t         layers; /* compared, or being compared */
    bool           step;   /* what is compared: what layers did in a step, not what was registered */
    int            state;
    size_t         at;     /* line */
    uint64_t       word[2], word_in[2];
    taut__handshake_line zero, other, in;
} taut__handshake;

typedef struct taut__lent { /* lent.c: the buffer of a started layer */
    uintptr_t         from, to;
    const taut_layer *layer;
} taut__lent;

typedef struct taut__gone { /* absence.c: the rank that has left first, by what it had done until then */
    int      rank; /* -1: all are here */
    uint64_t starts, steps;
} taut__gone;

typedef struct taut__loads { /* state_load.c: blobs of one set, loaded one after the other */
    bool      open;
    uint64_t  ranks, steps;
    uint64_t *rank;
    size_t    n, room;
} taut__loads;

struct taut_comm {
    taut__settings   set;
    unsigned        forks;               /* of this process when it was created */
    taut__transport *t;
    taut__group      all, local, leaders; /* local: of this host; leaders: one per host, rank -1 if not one */
    int            *members;             /* of local and leaders */
    bool            hierarchical;
    _Atomic size_t  lossy;               /* layers whose codec, in force, loses something */
    taut__engine     engine;
    taut__watchdog   watchdog;            /* of native sums */
    taut__executor      *pool;
    float         **scratch;             /* per worker of the pool: scratch_n floats, twice */
    size_t          scratch_n;
    taut__arena      arena;               /* slots that jobs borrow */
    size_t          reserved;            /* requests that the transport has room for, of borrowed slots */
    taut_layer    **layer;
    size_t          layers, room;
    taut__lent      *lent;                /* room of them; by address */
    size_t          lents;
    uint64_t        starts, ends;        /* collectives started; step ends entered */
    _Atomic bool    ending;              /* the program is inside taut_step_end(): it starts nothing until all ranks are there */
    taut__gone       gone;                /* with the engine's lock */
    bool            stepped;             /* a step has ended, and nothing was started since */
    uint64_t        drops;               /* steps dropped */
    _Atomic bool    feeding;             /* some layer has feedback: what is not finite is looked for */
    bool            bad;                 /* and was found, in the step that ends */
    bool            unsuited;            /* some layer's shape did not suit the codec of all */
    taut__loads      loads;
    _Atomic size_t  compared;             /* so many are the same on all ranks: their jobs may run */
    taut__handshake handshake;
    bool            opened;              /* codec=auto has probed */
    taut__bucket   **bucket;
    size_t          buckets;
    int             next_tag;
    double         *control;   /* step_end's vector, twice */
    size_t          control_n; /* doubles of one */
    taut__sampling   sampling;
    const taut__plan_hooks *hooks;
    taut__auto      *autom;
    taut__trace     *trace;

    uint64_t steps, control_sent, probe_sent;
    double   exposed_s, created_s;
    taut__interval rel_err2, rel_err2_metric; /* of the last step */
    double   norm2_metric;                    /* of its sums, all layers */
    bool     measured;                        /* they are */
};

/* codec=auto wants to see what this layer sends in this step */
static inline bool taut__watched(const taut_layer *l)
{
    return l->automatic && l->comm->autom && l->comm->hooks->wants(l->comm->autom, l);
}

enum { TAUT_TAG_STEP = 1, TAUT_TAG_HANDSHAKE = 2, TAUT_TAG_SUM = 3, TAUT_TAG_LAYERS = 8 };

/* communicator.c */
taut_status taut__comm_create(taut__transport *t, const taut_config *cfg, taut_comm **comm); /* takes t, also on failure */
void        taut__comm_discard(taut_comm *comm); /* destroy, of one that nobody has used: tells no other rank */
taut_status taut__comm_scratch(taut_comm *comm, size_t floats); /* each worker: two of so many */
taut_status taut__comm_tags(taut_comm *comm, int *tag);          /* TAUT_TAGS in a row */
taut_status taut__comm_reserve(taut_comm *comm, taut__slots *s, size_t requests); /* room in the transport for s's own slot */
taut_status taut__comm_slots(taut_comm *comm, taut__slots *s);    /* opens them, as s needs; two requests more are for control */
taut_status taut__comm_arena(taut_comm *comm);                   /* if layers have changed and nothing is under way: fit it to them */
/* A worker's second half of scratch, beside the one that it was given: where a piece of work adds. */
static inline void *taut__acc(const taut__job *job, float *scratch) { return scratch + job->comm->scratch_n; }

/* What every call begins with: in a forked child, or after a failure, an error. */
taut_status taut__comm_check(const taut_comm *comm, const char *call);
bool        taut__comm_forked(const taut_comm *comm);

/* layer.c */
float       taut__layer_momentum(const taut_layer *layer); /* of its feedback; 0: none */
taut_status taut__layer_prepare(taut_layer *layer); /* memory for its spec; does nothing when there is */
void        taut__layer_destroy(taut_layer *layer);
void        taut__layer_starts(taut_layer *layer); /* counts it */
taut_status taut__layer_wait(taut_layer *layer);
taut_status taut__layer_finish(taut_layer *layer, taut_status s); /* the buffer is the program's again */
void        taut__layer_count(taut_layer *layer); /* job.record is that of a collective which is complete; with the engine's lock */
const char *taut__layer_text(const taut_layer *layer, char *dst, size_t cap); /* name, dtype, shape, spec */

/* handshake.c : the registrations of all ranks are the same */
taut_status taut__handshake_begin(taut_comm *comm);      /* begins to compare those that have not been */
taut_status taut__handshake_wait(taut_comm *comm);
void        taut__handshake_versions(char dst[TAUT_HANDSHAKE_LINE]); /* as text */
/* Ranks did not do the same in the step that ends, as its exchange has told all of them: they find out what. Always fails. */
taut_status taut__handshake_step(taut_comm *comm);
uint64_t    taut__handshake_digest(const taut_comm *comm); /* of what this rank did in the step, for that exchange */

/* absence.c : who waits in vain learns why. See there. */
taut_status taut__absence_ask(void *comm, const taut__job *waited);
taut_status taut__absence_hear(void *comm, const taut__notice *word);
taut_status taut__absence_ask_all(taut_comm *comm, const taut_layer *layer);
void        taut__absence_leave(taut_comm *comm);

/* lent.c : buffers of layers under way may not overlap */
taut_status taut__lent_room(taut_comm *comm, size_t layers);
taut_status taut__lent_take(taut_layer *layer, const void *buf);
void        taut__lent_give(const taut_layer *layer);

/* drop.c : steps whose results the program does not use */
taut_status taut__drop_prepare(taut_layer *layer);
void        taut__drop_keep(taut_layer *layer, size_t first, size_t n); /* before the residual of a slice changes */
void        taut__drop_step(taut_comm *comm);

/* agreement.c : statistics that ranks agree on before a layer is coded. A run: begin, look at all of x, ask, then advance until
 * agreed; AGAIN: look at all of x once more, and ask. */
typedef enum taut__agreed { TAUT_AGREE_WAITING, TAUT_AGREED, TAUT_AGREE_AGAIN } taut__agreed;
bool        taut__agree_wanted(const taut_spec *spec);
taut_status taut__agree_prepare(taut__job *job);
void        taut__agree_release(taut__job *job);
void        taut__agree_begin(taut__job *job);
taut_status taut__agree_look(taut__job *job, taut__range r, const float *x); /* x: of r */
bool        taut__agree_knows_norms(const taut__job *job); /* ... of x, then, and they are in the record after ask */
taut_status taut__agree_ask(taut__job *job, bool *settled);
taut_status taut__agree_advance(taut__job *job, bool *moved, taut__agreed *outcome);
void        taut__agree_save(const taut__job *job, taut__writer *w);
taut_status taut__agree_check(const void *src, size_t len);
void        taut__agree_load(taut__job *job, const void *src, size_t len); /* what check found good; len 0: forget */

/* algorithms.c : table, selection, phases */
const taut__algorithm *taut__algorithm_by_name(const char *name);
const taut__group *taut__group_of(const taut_layer *layer); /* who reduces it */
taut_status taut__algorithm_for(const taut_layer *layer, const taut_spec *spec, const taut__algorithm **via);
size_t      taut__coded_slots(const taut__job *job, size_t slices); /* coded slices that may be under way */
taut_status taut__job_init(taut__job *job, taut_layer *layer);
taut_status taut__job_prepare(taut__job *job);
void        taut__job_release(taut__job *job);
taut_status taut__job_begin(taut__job *job, void *buf, int kind, taut__half halves, bool blocking);
taut_status taut__job_step(taut__job *job, bool *moved, bool *done);

/* input.c : a layer's x, encoded, and its result, stored */
typedef struct taut__piece_done { /* what one piece of codec work measured; added to the record in a fixed order */
    taut_status status;
    const char *why;         /* where status is an error: the text, of the thread that did the work, until its next piece */
    size_t      bytes;
    taut_norm2  own, error;  /* of this rank's x, and of its encoding */
    taut_norm2  sum, requantization_error; /* of a sum, times factor, and of its encoding */
    double      seconds, decode_s;
} taut__piece_done;
bool         taut__in_place(const taut__job *job);                        /* x can be read from buf as it is */
const float *taut__form(taut__job *job, size_t first, size_t n);          /* x of a slice, formed once per run */
taut_call    taut__slice_call(const taut__job *job, size_t first, size_t n);
void taut__encode_x(taut__job *job, taut__range r, uint8_t *dst, size_t cap, float *scratch, taut__piece_done *out);
void taut__quantize_x(taut__job *job, taut__range r, int32_t *q, int32_t limit, float *scratch, taut__piece_done *out);
/* Codes, and their frame, in one pass. */
void taut__quantize_pack_x(taut__job *job, taut__range r, int32_t *q, int32_t limit, uint8_t *dst, size_t cap, float *scratch,
                           taut__piece_done *out);
void taut__own_x(taut__job *job, taut__range r, float *dst, taut__piece_done *out); /* copied, its residual cleared */
float *taut__result_at(taut__job *job, size_t first, float *scratch);     /* where to decode: buf, or scratch */
/* from: the result, which becomes 16 bits wide in layers of that kind. Codecs that lose something, and feedback, may push it beyond
 * the format's largest number: it stays finite, and the rest goes into the residual. keeps: on this rank; of the ranks that store
 * an element one does. */
void   taut__result_store(taut__job *job, size_t first, size_t n, const float *from, bool keeps);
/* The same for a whole result that lies where the residual does: nothing else is left there. */
void   taut__result_store_last(taut__job *job, bool keeps);
void   taut__result_load(taut__job *job, size_t first, size_t n, float *to); /* buf as floats */
/* Results of integer codecs, stored: factor times the value of each code, rounded after the code's own rounding, so that sums of
 * codes and frames of sums give the same bits. sum, where not NULL: the result's norms. */
taut_status taut__store_codes(taut__job *job, taut__range r, const int32_t *q, float *scratch, taut_norm2 *sum);
/* A frame of codes is added to q; their sums are stored, in one pass. */
taut_status taut__store_sums(taut__job *job, taut__range r, const uint8_t *frame, size_t len, int32_t *q, float *scratch, taut_norm2 *sum);
taut_status taut__store_frame(taut__job *job, taut__range r, const uint8_t *frame, size_t len, float *scratch, taut_norm2 *sum);
/* Integer codes as a frame, and added from one. */
taut_status taut__codes_pack(const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap, size_t *len);
taut_status taut__codes_unpack_add(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc);
taut_norm2 taut__sum_norms(const taut__job *job, const float *x, taut__range r); /* of a result; plain is NaN if it holds NaN or Inf, and that matters */
taut_norm2 taut__sum_bad(const taut__job *job, const float *x, taut__range r); /* of a sum that will be encoded: its norm, which that changes, as 0, or NaN */
void       taut__add_norm(taut_norm2 *sum, taut_norm2 x, double factor);
taut_norm2 taut__job_norms(const taut__job *job, const float *x, taut__range r); /* x[0] is element r.first */
void   taut__keep_requantization_error(taut__job *job, taut__range r, const float *err, float factor); /* residual += factor * err */
void   taut__account(taut__job *job, const taut__piece_done *done);
/* A piece of work has been done in this thread; later, where its errors are passed on: as this thread's error. */
static inline void taut__piece_end(taut__piece_done *done) { done->why = done->status == TAUT_OK ? NULL : taut_last_error(); }
static inline taut_status taut__piece_status(const taut__piece_done *done)
{
    return done->status == TAUT_OK ? TAUT_OK : taut__fail(done->status, "%s", done->why);
}

/* hierarchy.c */
taut_status taut__hier_init(taut_comm *comm);
taut_status taut__hier_prepare(taut__job *job);
taut_status taut__hier_up(taut__job *job, bool *moved, bool *done);
taut_status taut__hier_down(taut__job *job, bool *moved, bool *done);
int         taut__hier_waiting_for(const taut__job *job, int *hops);
void        taut__hier_cancel(taut__job *job);
void        taut__hier_release(taut__job *job);

/* fusion.c */
taut_status taut__fuse_register(taut_layer *layer);
taut_status taut__fuse_leave(taut_layer *layer);
taut_status taut__fuse_close(taut__bucket *b); /* members are complete: memory for them */
taut_status taut__fuse_start(taut_layer *layer, void *buf, int kind, bool waits); /* waits: fuse_wait follows at once */
const taut_layer *taut__fuse_wanted(const taut__job *bucket); /* the member that its rank waits for; NULL: none */
bool        taut__fuse_holds(const taut_layer *layer); /* started, and not yet summed */
taut_status taut__fuse_wait(taut_layer *layer);
taut_status taut__fuse_test(taut_layer *layer, bool *done);
taut_status taut__fuse_flush(taut__bucket *b); /* waits for all that were started */
void        taut__fuse_destroy(taut__bucket *b);

/* debug.c : in MODE=debug, catch a program that touches a buffer it has lent, or has freed it */
taut_status taut__debug_lend(taut_layer *layer);
void        taut__debug_read(taut_layer *layer, size_t first, size_t n);  /* the library reads buf */
void        taut__debug_wrote(taut_layer *layer, size_t first, size_t n);
taut_status taut__debug_return(taut_layer *layer);

/* statistics.c */
taut_status taut__step_exchange(taut_comm *comm);

/* sample.c. Of a layer: */
taut_status taut__sample_prepare(taut_layer *layer); /* memory; does nothing when there is, or none is needed */
void        taut__sample_release(taut_layer *layer);
void        taut__sample_reset(taut_layer *layer);   /* another codec: what was learnt of its errors does not hold */
bool        taut__sample_wanted(const taut_layer *layer); /* in the step under way; agreed */
/* Of a collective: choose the blocks; keep what falls on them: x as it is encoded; what encoding lost, times factor in units of the
 * sum; the result. Slices that do not overlap may come from several threads. */
void taut__sample_begin(taut__job *job);
void taut__sample_x(taut__job *job, taut__range r, const float *x);
void taut__sample_lost(taut__job *job, taut__range r, const float *lost, float factor);
void taut__sample_result(taut__job *job);
static inline bool taut__sampled(const taut__job *job) { return job->layer && job->layer->sample.blocks > 0 && job->halves == TAUT_BOTH; }
/* Of a step: how many floats ride in the exchange, filled in, and taken from the sums. */
size_t taut__sample_floats(const taut_comm *comm);
void   taut__sample_put(const taut_comm *comm, float *v);
void   taut__sample_take(taut_comm *comm, const float *v);
taut_status taut__sample_room(taut_comm *comm); /* before measure */
bool   taut__sample_measure(taut_layer *layer, const taut__layer_sums *raw, taut__layer_measured *m); /* false: it loses nothing */
void   taut__sample_agree(taut_comm *comm, size_t layers); /* all ranks know the same layers now, so many */
/* In a checkpoint (sample_state.c): load takes what check has found good; len 0: nothing has been learnt. */
taut_status taut__sample_save(const taut_layer *layer, void *dst, size_t cap, size_t *len);
taut_status taut__sample_check(const taut_layer *layer, const void *src, size_t len);
void        taut__sample_load(taut_layer *layer, const void *src, size_t len);

/* trace.c : NULL trace = off, every call returns at once */
taut_status taut__trace_open(const char *path, int rank, taut__trace **trace);
void        taut__trace_close(taut__trace *trace);
void        taut__trace_span(taut__trace *trace, taut__job *job, const char *phase, double begin, double end, uint64_t bytes);
/* The wire's share: from sending what this rank owed, at sent_s, to the beginning of the piece of work, just done, that
 * needed the bytes received. */
void        taut__trace_wire(taut__job *job, double sent_s, const taut__piece_done *done, uint64_t bytes);

#endif
