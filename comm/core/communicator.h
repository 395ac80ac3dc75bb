/* communicator.h : the inside of taut_comm and taut_layer, shared by the files of comm/. */
#ifndef TAUT_COMMUNICATOR_H
#define TAUT_COMMUNICATOR_H

#include "../plan/auto.h"
#include "../reduce/agreement.h"
#include "../reduce/placed.h"
#include "sample.h"
#include <math.h>

typedef struct taut__bucket  taut__bucket;  /* fusion.c */
typedef struct taut__metrics taut__metrics; /* metrics.c */

/* taut__step_record : the part of a taut__record that adds up where a layer is reduced several times in a step. */
typedef struct taut__step_record {
    taut_norm2 own, error, requantization_error, sum;
    uint64_t   payload_bytes, encoded;
} taut__step_record;

/* taut__scale_lent : a layer's scale where the program keeps it, one number per element. In memory of a device, layer->scale is a copy of the layer's,
 * which holds what the host looks at: the elements that the step samples, and all of it in steps after which the planner may look anywhere. */
typedef struct taut__scale_lent {
    const float *at; /* NULL: scale is a copy, and all of it */
    taut_place   place;
    bool         known;  /* the copy has been whole once */
    bool         spoilt; /* there was a number in it that is no scale: */
    size_t       where;
} taut__scale_lent;

struct taut_layer {
    taut_comm       *comm;
    size_t           index;
    char             name[128];
    int              ndim;
    size_t           shape[8];
    float           *scale;         /* operand.tensor.scale points here */
    taut__scale_lent scale_lent;    /* taut_layer_scale_in_place(): what scale is, or stands for */
    taut_spec        spec;          /* in force */
    bool             pinned;        /* by taut_layer_codec */
    bool             automatic;     /* the plan decides */
    bool             bundle;        /* a bucket's small layers in one, which the program has not registered */
    size_t           number;        /* among those that it has */
    bool             prepared;      /* reduction's memory suits spec */
    bool             placed;        /* reduction.lane is that of its buffers, for good */
    bool             scale_due;     /* operand.there has another scale than operand.tensor */
    bool             scale_moved;   /* its bucket's bundle does not have it yet */
    bool             scale_brought; /* operand.there's scale is the layer's own memory */
    taut__operand    operand;
    taut__reduction  reduction;
    int              last_op; /* TAUT_SUM or TAUT_MEAN of the last collective: a checkpoint needs it; -1 = none */
    bool             started;
    bool             tested;         /* taut_test has said that it is done */
    bool             replayed;       /* what was started last is a graph's */
    _Atomic uint64_t starts;         /* collectives that the program has started */
    uint64_t         starts_at_step; /* when the step began */
    bool             residual_at_step;
    double    residual_all; /* squared norm of all ranks' residuals, together, after the last step; -1: not known */
    uint64_t  ops;          /* of the step's collectives, the last 32: op + 1 in two bits each, the latest lowest */
    size_t    scale_n;      /* values of scale; the tensor has them where they count */
    uint64_t  scale_hash;   /* of scale; of one that is read in place, of what the step's samples saw of it */
    size_t    directions;   /* of a basis that the planner wants to know; 0: none */
    float    *before; /* in the place. dropped=restore: the residual (and momentum) before the step; NULL: not kept */
    bool      had_residual;   /* before the step */
    bool      dropping;       /* it took part in the step that has just ended: taut_step_drop() concerns it */
    uint32_t *lent_checksums; /* debug.c: checksums of the buffer */
    _Atomic bool  spoilt;
    taut__bucket *bucket;       /* of a small layer */
    size_t        at;           /* its first float there */
    size_t        seat;         /* its bit there */
    bool          scaled_there; /* its scale is part of the bundle's */

    /* statistics */
    uint64_t               bytes_sent, bytes_dense;
    double                 codec_s;       /* of encoding and decoding */
    uint64_t               calls_at_step; /* operand.calls when the step began */
    uint64_t               gathers;       /* of this step's calls, those that spread what is no gradient */
    taut__step_record      lost;    /* of the collectives of the last step that had one, or of the one under way */
    taut__planned          planned; /* what the planner knows, the sums of the step that ends among it, and wants */
    taut__layer_sums       shown;   /* of the last step with a call */
    taut__sample           sample;
    struct taut__captured *graph; /* graph.c; NULL: it is in none */
};

/* Of all that ranks tell each other except frames, which have the wire version: statistics on which codecs agree, what rides in the exchange of
 * a step's end, tags, orders of messages. Raised whenever one of them changes, so that ranks of different builds say so. */
enum { TAUT_EXCHANGE_VERSION = 10 };

enum { TAUT_HANDSHAKE_LINE = TAUT_SPEC_ROOM + 324 }; /* a spec, and a name or a shape of many digits */
typedef struct taut__handshake_line {
    uint64_t rank;
    char     text[TAUT_HANDSHAKE_LINE];
} taut__handshake_line;

typedef struct taut__handshake { /* handshake.c */
    taut__job             job;   /* first */
    taut_comm            *comm;
    taut__small_allreduce exchange;
    size_t                layers; /* compared, or being compared */
    bool                  step;   /* what is compared: what layers did in a step, not what was registered */
    int                   state;
    size_t                at; /* line */
    uint64_t              word[2], word_in[2];
    taut__handshake_line  zero, other, in;
} taut__handshake;

typedef struct taut__lent { /* lent.c: the buffer of a started layer */
    uintptr_t         from, to;
    const taut_layer *layer;
} taut__lent;

typedef struct taut__gone { /* absence.c: the rank that has left first, by what it had done until then */
    int      rank;          /* -1: all are here */
    uint64_t starts, steps;
} taut__gone;

typedef struct taut__loads { /* state_load.c: blobs of one set, loaded one after the other */
    bool      open;
    uint64_t  ranks, steps;
    uint64_t *rank;
    size_t    n, room;
} taut__loads;

struct taut_comm {
    taut__context   ctx;
    unsigned        forks; /* of this process when it was created */
    taut_layer    **layer;
    size_t          layers, room;
    size_t          own_layers; /* bundles */
    taut__lent     *lent;       /* room of them; by address */
    size_t          lents;
    uint64_t        starts, ends; /* collectives started; step ends entered */
    _Atomic bool    ending;   /* the program is inside taut_step_end(): it starts nothing until all ranks are there */
    taut__gone      gone;     /* with the engine's lock */
    _Atomic int32_t asked;    /* 1 + the small layer that another rank waits for, not looked at since; 0: none */
    bool            stepped;  /* a step has ended, and nothing was started since */
    uint64_t        drops;    /* steps dropped */
    bool            bad;      /* something not finite was found, in the step that ends */
    bool            unsuited; /* some layer's shape did not suit the codec of all */
    taut__loads     loads;
    taut__handshake handshake;
    bool            plans; /* a layer is automatic: the planner is asked at the end of steps */
    taut__bucket  **bucket;
    size_t          buckets;
    double         *control;   /* step_end: its values, and what is sent of them */
    size_t          control_n; /* doubles */
    taut__run      *run;       /* step_end: how they travel; room for run_n */
    size_t          run_n;
    taut__sampling  sampling;
    const taut__plan_hooks *hooks;
    taut__auto             *autom;
    taut__planning          planning;

    taut__metrics *metrics; /* NULL: this rank writes none */

    uint64_t         steps;
    _Atomic uint64_t control_sent; /* by exchanges, which the communication thread ends, too */
    double           exposed_s, created_s;
    taut__interval   rel_err2, rel_err2_metric; /* of the last step */
    bool             measured;                  /* they are */
};

/* communicator.c */
taut_status taut__comm_create(taut__transport *t, const taut_config *cfg, taut_comm **comm); /* takes t in any case */
void        taut__comm_discard(taut_comm *comm); /* destroy, of one that nobody has used: tells no other rank */

/* usable.c. What every call begins with: in a forked child, or after a failure, an error. */
taut_status taut__comm_check(const taut_comm *comm, const char *call);
bool        taut__comm_forked(const taut_comm *comm);
unsigned    taut__forks(void); /* between this process and the first one that asked */

/* layer_codec.c */
taut_status taut__layer_use(taut_layer *layer, const taut_spec *spec); /* from now on; prepared when it is started */
void taut__layer_unprepare(taut_layer *layer);  /* its reduction's memory, which other layers' jobs may be looking at */
void taut__layer_drop_codec(taut_layer *layer); /* and all that it has */
taut_status taut__layer_runs(const taut_layer *layer, const taut_spec *wire,
                             taut_space space);            /* TAUT_E_UNSUPPORTED: its codec does not, there */
float       taut__layer_momentum(const taut_layer *layer); /* of its feedback; 0: none */
taut_status taut__layer_axes(taut_layer *layer);           /* its basis, if its codec is coded in one */
taut_layer *taut__layer_named(const taut_comm *comm, const char *name); /* NULL: there is none */
taut_status taut__layer_prepare(taut_layer *layer); /* memory for its spec; does nothing when there is */
void        taut__layer_destroy(taut_layer *layer);
/* registration.c. Names that begin like this are the library's own. bundle: registers one, of n float32; it is planned for, carefully. */
#define TAUT_OWN_NAMES "taut: "
taut_status taut__layer_bundle(taut_comm *comm, const char *name, size_t n, taut_layer **bundle);
void        taut__layer_starts(taut_layer *layer); /* counts it */
taut_status taut__layer_wait(taut_layer *layer);
taut_status taut__layer_finish(taut_layer *layer, taut_status s); /* the buffer is the program's again */
void        taut__layer_count(taut_layer *layer); /* of a collective that is complete; with the engine's lock */
const char *taut__layer_text(const taut_layer *layer, char *dst, size_t cap); /* name, dtype, shape, spec */

/* place.c : where a layer's buffers lie */
/* TAUT_E_INVALID: not a space, where what, as "scale in ", is in the message. */
taut_status taut__place_known(const taut_layer *layer, const char *what, taut_place p);
/* TAUT_E_STATE: what (a buffer) does not lie where it must; why: in the message. */
taut_status taut__place_same(const taut_layer *layer, const char *what, taut_place p, taut_place as, const char *why);
taut_status taut__place_usable(const taut_layer *layer, const void *buf, taut_place caller); /* may one begin there? */
taut_status taut__place_take(taut_layer *layer, taut_place caller); /* it does: this is the layer's place, for good */
void        taut__place_leave(taut_layer *layer);                   /* gives back what lies there */
static inline const taut__lane *taut__layer_lane(const taut_layer *layer) { return layer->reduction.lane; }
static inline taut_place        taut__layer_place(const taut_layer *layer) { return layer->reduction.lane->place; }
static inline bool taut__layer_at_home(const taut_layer *layer) { return taut__lane_on_host(layer->reduction.lane); }

/* scale.c : the unit of a layer's errors */
taut_status        taut__scale_use(taut_layer *layer); /* its codec or its scale are others: does it count? */
void               taut__scale_drop(taut_layer *layer);
taut_status        taut__scale_same(const taut_layer *from, taut_layer *to); /* of a layer of another communicator */
static inline bool taut__scale_there(const taut_layer *layer)                /* read in memory of a device */
{
    return layer->scale_lent.at && !taut__on_host(layer->scale_lent.place);
}
static inline bool taut__scale_usable(float s) { return s > 0 && isfinite(s); }
void               taut__scale_look(taut_layer *layer); /* after a collective: what its samples saw of one in place */

taut_status taut__layer_adopt(taut_layer *layer, const taut_spec *spec); /* from now on; the residual stays */
void        taut__layer_scale_error(taut_layer *layer,
                                    double factor); /* aims at so many times the error of its spec; until another is adopted */

/* planned.c : the planner's arrays */
taut_status taut__planned_join(taut_layer *layer);
void        taut__planned_leave(taut_layer *layer);
taut_status taut__planned_rescaled(taut_layer *layer); /* between steps: its scale has come or gone */
void        taut__planned_before(taut_comm *comm);     /* the exchange */
void        taut__planned_after(taut_comm *comm);
taut_status taut__planned_apply(taut_comm *comm);

/* agree.c : collective, of a communicator with nothing under way. TAUT_OK on all ranks where `mine` is on all; else who has failed returns that, with
 * the text it had, and the others the failure of the first rank that has, with its rank and its text. */
taut_status taut__comm_agree(taut_comm *comm, taut_status mine);
/* A few bytes of one rank, mine there, to all. */
enum { TAUT_SHARED_MOST = 256 };
taut_status taut__comm_share(taut_comm *comm, bool mine, char *bytes, size_t n);

/* handshake.c : the registrations of all ranks are the same */
taut_status taut__handshake_begin(taut_comm *comm); /* begins to compare those that have not been */
taut_status taut__handshake_wait(taut_comm *comm);
void        taut__handshake_versions(char dst[TAUT_HANDSHAKE_LINE]); /* as text */
/* Ranks did not do the same in the step that ends, as its exchange has told all of them: they find out what. Always fails. */
taut_status taut__handshake_step(taut_comm *comm);
uint64_t    taut__handshake_digest(const taut_comm *comm); /* of what this rank did in the step, for that exchange */

/* absence.c : who waits in vain learns why. See there. */
taut_status taut__absence_ask(void *comm, const taut__job *waited, bool soon);
taut_status taut__absence_hear(void *comm, const taut__notice *word, bool answer);
taut_status taut__absence_ask_all(taut_comm *comm, const taut_layer *layer);
void        taut__absence_leave(taut_comm *comm);

/* lent.c : buffers of layers under way may not overlap */
taut_status taut__lent_room(taut_comm *comm, size_t layers);
taut_status taut__lent_take(taut_layer *layer, const void *buf);
void        taut__lent_give(const taut_layer *layer);

/* drop.c : steps whose results the program does not use */
taut_status taut__drop_prepare(taut_layer *layer);
void        taut__drop_look(taut_layer *layer); /* when a collective begins: whether there is a residual to keep */
void        taut__drop_keep(taut_layer *layer, size_t first, size_t n); /* before the residual of a slice changes */
void        taut__drop_step(taut_comm *comm);
void        taut__drop_begin(taut_layer *layer); /* its first collective of a step, before anything is changed */
void        taut__drop_broken(
           taut_layer        *
        layer); /* the step has broken off: what it left in the residual goes, and with dropped=restore what was there comes back */

/* graph.c : collectives in graphs */
taut_status taut__graph_capturing(taut_place caller, bool *is); /* is caller's stream? */
taut_status taut__graph_capture(taut_layer *layer, void *buf, int kind, taut_place caller);
void        taut__graph_leave(taut_layer *layer);

/* watch.c : what reductions tell of themselves */
extern const taut__watcher taut__layer_watcher;

/* fusion.c */
bool        taut__fuse_fits(const taut_layer *layer); /* into a bucket */
taut_status taut__fuse_register(taut_layer *layer);
taut_status taut__fuse_leave(taut_layer *layer);
taut_status taut__fuse_close(taut__bucket *b); /* members are complete: memory for them */
/* caller: where buf lies, and the stream in which it is written. waits: fuse_wait follows at once */
taut_status       taut__fuse_start(taut_layer *layer, void *buf, int kind, taut_place caller, bool waits);
const taut_layer *taut__fuse_wanted(const taut__job *bucket); /* the member that its rank waits for; NULL: none */
bool              taut__fuse_holds(const taut_layer *layer);  /* started, and not yet summed */
taut_status       taut__fuse_wait(taut_layer *layer);
taut_status       taut__fuse_test(taut_layer *layer, bool *done);
/* Begins a round for the layer, unless one runs or it is held no more. quiet: as in taut__engine_start(). */
void        taut__fuse_round(const taut_layer *layer, bool quiet);
taut_status taut__fuse_flush(taut__bucket *b); /* waits for all that were started */
/* Another rank waits for the layer of this number: a round for it begins, now if this rank waits for something, else when it next does or tests.
 * With the engine's lock held. */
void taut__fuse_asked(taut_comm *comm, int32_t index);
void taut__fuse_answer(taut_comm *comm); /* begins what has been asked for; by the program's thread, without the lock */
taut_status taut__fuse_close_all(taut_comm *comm);
taut_status taut__fuse_rescaled(taut_layer *layer); /* its scale has come, gone or changed: into that of the bundle */
/* The layer whose codec carried it last: its bucket's bundle, or itself. */
const taut_layer *taut__fuse_carrier(const taut_layer *layer);
void              taut__fuse_destroy(taut__bucket *b);

/* debug.c : in MODE=debug, catch a program that touches a buffer it has lent, or has freed it */
taut_status taut__debug_lend(taut_layer *layer);
void        taut__debug_read(taut_layer *layer, size_t first, size_t n); /* the library reads buf */
void        taut__debug_wrote(taut_layer *layer, size_t first, size_t n);
taut_status taut__debug_return(taut_layer *layer);

/* statistics.c */
double      taut__layer_metric_weight(const taut_layer *layer); /* see taut__planned.weight */
taut_status taut__step_exchange(taut_comm *comm);

/* metrics.c : figures for Prometheus. None of it fails a step: what cannot be written is logged, once. */
taut_status taut__metrics_open(taut_comm *comm);  /* writes the file for the first time; TAUT_E_IO if that cannot be */
void        taut__metrics_step(taut_comm *comm);  /* a step has ended: writes it anew when it is time */
void        taut__metrics_close(taut_comm *comm); /* for the last time; the file stays */

/* sample.c. Of a layer: */
taut_status taut__sample_prepare(taut_layer *layer); /* memory; does nothing when there is, or none is needed */
void        taut__sample_release(taut_layer *layer);
void        taut__sample_reset(taut_layer *layer); /* another codec: what was learnt of its errors does not hold */
/* Of a collective: choose the blocks; keep what falls on them: x as it is encoded; what encoding lost, times factor in units of the
 * sum; the result. Slices that do not overlap may come from several threads. */
bool taut__sample_begin(taut_layer *layer);                               /* false: none */
void taut__sample_x(taut__reduction *red, taut__range r, const float *x); /* as a watcher's */
void taut__sample_lost(taut__reduction *red, taut__range r, const float *lost, float factor);
void taut__sample_result(taut_layer *layer);
/* Of a step: how samples travel, so many floats: returns the number of runs; run NULL: only that. Then filled in, and taken from the sums. */
size_t taut__sample_runs(const taut_comm *comm, taut__run *run, size_t *floats);
void   taut__sample_put(const taut_comm *comm, float *v);
void   taut__sample_take(taut_comm *comm, float *v); /* of all ranks, added; stays there until the next step */
/* x of every encoder, after a step that was asked for it; x of this rank in wide blocks, which are taken from now on. */
taut__apart taut__sample_apart(const taut_layer *layer);
taut__wide  taut__sample_wide(const taut_layer *layer);
taut_status taut__sample_widen(taut_layer *layer, size_t elems, size_t blocks);
taut_status taut__sample_room(taut_comm *comm); /* before measure */
/* calls: so many sums were made of it in the step. False: it loses nothing, or the last sum, which the samples are of, is not like the others. */
bool taut__sample_measure(taut_layer *layer, const taut__layer_sums *raw, double calls, taut__layer_measured *m);
/* All ranks know the same layers now. others: bytes of the exchange besides; noise: relative standard deviation of the step's measurement, 0: it
 * was none. */
void taut__sample_agree(taut_comm *comm, double others, double noise);
/* In a checkpoint (sample_state.c): load takes what check has found good; len 0: nothing has been learnt. Of a layer; of all. */
taut_status taut__sample_save(const taut_layer *layer, void *dst, size_t cap, size_t *len);
taut_status taut__sample_check(const taut_layer *layer, const void *src, size_t len);
void        taut__sample_load(taut_layer *layer, const void *src, size_t len);
taut_status taut__sampling_save(const taut_comm *comm, void *dst, size_t cap, size_t *len);
taut_status taut__sampling_check(const taut_comm *comm, const void *src, size_t len);
void        taut__sampling_load(taut_comm *comm, const void *src, size_t len);

#endif
