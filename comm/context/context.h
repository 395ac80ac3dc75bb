/* context.h : what every part of a communicator needs, and nothing more: settings, groups of ranks, tags, memory, threads, the engine.
 * taut_comm holds one; reductions, fusion, the handshake and the planner's probes see it alone. */
#ifndef TAUT_CONTEXT_H
#define TAUT_CONTEXT_H

#include "../base/arena.h"
#include "../base/executor.h"
#include "../engine/engine.h"
#include "../../compressors/vectors.h"
#include "../transport/data.h"
#include "../transport/watchdog.h"
#include "../../scheduler/time_model.h"
#include "settings.h"

/* Tags below TAUT_TAG_LAYERS are those of a communicator's own exchanges; every job has TAUT_TAGS in a row, from its job.tag on. */
enum { TAUT_TAG_STEP = 1, TAUT_TAG_HANDSHAKE = 2, TAUT_TAG_SUM = 3, TAUT_TAG_DATA = 4, TAUT_TAG_LAYERS = 8 };

/* ---- trace.c ---- what happened when, in a file of Chrome's trace events (TAUT_TRACE). NULL trace = off, every call returns at once. */
typedef struct taut__trace taut__trace;

/* path: as in TAUT_TRACE; "" or another rank's file: *trace = NULL, TAUT_OK. */
taut_status taut__trace_open(const char *path, int rank, taut__trace **trace);
void        taut__trace_close(taut__trace *trace);
/* A path of the settings with its first "%r" replaced by the rank. False: it is longer than cap - 1. */
bool taut__rank_path(const char *path, int rank, char *dst, size_t cap);
/* One event in job's row; begin, end: of taut__now(). */
void taut__trace_span(taut__trace *trace, taut__job *job, const char *phase, double begin, double end, uint64_t bytes);

/* taut__lane : what a communicator has in one memory space. The host's is there from the beginning; another one from the first layer on
 * that has its buffers there, with a stream of its own and threads that wait for the device. Workers: the engine's thread (0), and the
 * executor's. */
typedef struct taut__lane {
    taut_place           place;
    const taut__space   *space; /* NULL: not open */
    const taut__vectors *vectors;
    taut__executor      *executor;
    struct taut__joint  *joint; /* NULL on the host: joint.h */
    float       **scratch; /* per worker: scratch_n floats, twice, then (not on the host) frame_bytes for a payload */
    size_t        scratch_n, frame_bytes;
    float        *fetched; /* (not on the host) scratch_n floats in host memory, for whoever holds the engine's lock */
    taut__staging fetched_made;
    struct taut__block *blocks; /* memory of the place that exchanges borrow: taut__lane_borrow */
    taut__data         *data;   /* of the communicator, where it carries what lies here: a wait has an end then */
    int32_t             timeout_ms;
    _Atomic int         noted, failed; /* of the space, where nothing could be returned: the first failure */
    char                why[256];
} taut__lane;

static inline bool taut__lane_on_host(const taut__lane *lane) { return taut__on_host(lane->place); }

/* What a data half takes (time_model.h): moves of slots, and sums of its own. beta 0: not known. The same on all ranks. */
typedef struct taut__data_lines {
    taut__line move, sum;
} taut__data_lines;

typedef struct taut__context {
    taut__settings   set;
    taut__transport *t;
    taut__group      all, local, leaders; /* local: of this host; leaders: one per host, rank -1 if not one */
    int             *members;             /* of local and leaders */
    bool             hierarchical;
    int              next_tag;
    taut__engine     engine;
    taut__watchdog   watchdog; /* of native sums */
    taut__lane       lane[TAUT_SPACES];
    taut__arena      arena;    /* slots that jobs borrow */
    size_t           reserved; /* requests that the transport has room for, of borrowed slots */
    taut__trace     *trace;
    /* NULL: all goes by messages of t. Else what lies on devices goes by this, in turns, and those beside it: all.data, or, with a hierarchy, local.data
     * (where this host has several ranks) and, of leaders, leaders.data. */
    taut__data      *data;
    taut__data_lines lines;   /* of the group that reduces by it */
    _Atomic size_t   lossy;   /* layers whose codec, in force, loses something */
    _Atomic bool     feeding; /* some layer has feedback: what is not finite is looked for */
} taut__context;

/* Takes t, also on failure; set is complete. What it made, close() takes back, also after a failure. ctx is zero before. */
taut_status taut__context_open(taut__context *ctx, taut__transport *t);
/* keep: memory that a lost peer's messages may still be read from or written to is left alone. */
void taut__context_close(taut__context *ctx, bool keep);

static inline taut__lane *taut__host_lane(taut__context *ctx) { return &ctx->lane[TAUT_HOST]; }
/* The lane of caller's space, opened where it is not, with caller's stream left out. TAUT_E_UNSUPPORTED, with the reason, where the space
 * cannot be used; TAUT_E_STATE where the communicator uses another device of it. With the engine held. */
taut_status taut__context_lane(taut__context *ctx, taut_place caller, taut__lane **lane);
void        taut__lane_close(taut__lane *lane); /* its work is done; one that was never opened is fine */
taut_status taut__context_one_device(const taut__context *ctx, taut_place caller); /* TAUT_E_STATE, as above */
void        taut__lane_note(taut__lane *lane, taut_status s); /* s, and taut_last_error(), if it is a failure */
taut_status taut__lane_check(const taut__lane *lane);
/* Until all that the lane's stream holds is done: TAUT_E_DEVICE if some of it failed. With a data half no longer than the timeout, since what
 * another rank does not do may keep the stream busy for ever: TAUT_E_TIMEOUT, and the data half is aborted. */
taut_status taut__lane_wait(const taut__lane *lane);
uint64_t    taut__lane_waits(void); /* of this process, so far */
/* An event recorded on the lane's stream has passed, and nothing failed before. Never waits. */
taut_status taut__lane_passed(const taut__lane *lane, taut__event *e, bool *passed);
/* Memory of the place for one exchange, not zeroed: one of TAUT_BLOCKS, which grow; *out NULL: all are lent. With the engine held. */
enum { TAUT_BLOCKS = 3 };
taut_status taut__lane_borrow(taut__lane *lane, size_t bytes, void **out);
void        taut__lane_give_back(taut__lane *lane, void *memory); /* NULL is fine; no work on it is left */
/* Each worker: two of so many floats, and room for a payload of so many bytes. With the engine held. */
taut_status taut__context_scratch(taut__lane *lane, size_t floats, size_t payload);
taut_status taut__context_tags(taut__context *ctx, int *tag);        /* TAUT_TAGS in a row */
taut_status taut__context_slots(taut__context *ctx, taut__slots *s); /* opens them; two requests more are for control */
taut_status taut__context_arena(taut__context *ctx); /* if layers have changed, and nothing is under way: fits it */
/* Adds a few doubles over all ranks, agreed; blocking, in an order that all ranks share. */
taut_status taut__context_sum(taut__context *ctx, double *v, size_t n);

#endif
