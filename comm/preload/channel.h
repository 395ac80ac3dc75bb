/* channel.h : one communicator of an unmodified program. MPI handles inside: compiled once for each MPI.
 *
 * PROTOCOL
 *  1. Every reducing call on the communicator is an event and enters the channel's sequence, whatever it sums. MPI has all ranks
 *     make these calls in the same order, so the number of an event names the same call on all ranks.
 *  2. At a few events, the same everywhere (taut__sequence_votes_at), ranks vote whether they all see the same cycle. If so, the
 *     next event begins a cycle, and its eligible calls are sites, unless one rank doubts that their values are gradients.
 *  3. In a cycle, a call that a site expects is voted on by all ranks before it is coded: a rank whose call is another one says no,
 *     then all make the plain call, and the cycle is over. So ranks never take different ways.
 *  4. Blocking calls are executed by the calling thread, if nothing is queued. Non-blocking calls may not wait for peers, so
 *     they are queued: a worker thread of the channel executes them in order, and completes the generalized request that the
 *     program got; its own MPI waits for that as for any other. This needs MPI_THREAD_MULTIPLE, else they stay plain.
 *  5. Votes, queued plain calls and Taut's messages use a copy of the communicator. That of MPI_COMM_WORLD is made in MPI_Init; of
 *     others at a blocking call, a fixed event, once some rank has made a call that could be compressed. (Not by MPI_Comm_idup at a
 *     non-blocking one: in Open MPI 4.1 its messages get mixed up with those of the program's own calls.) */
#ifndef TAUT_CHANNEL_H
#define TAUT_CHANNEL_H

#include "real.h"
#include "site.h"
#include <pthread.h>

typedef struct taut__entry { /* one event, with what its plain call needs */
    taut__call_kind     kind;
    const void         *in;       /* MPI_IN_PLACE where the program said so */
    void               *out;
    int                 count;
    const int          *counts;   /* reduce_scatter; NULL: all `count` */
    MPI_Datatype        type;
    MPI_Op              op;
    uint64_t            event;
    uint64_t            key;
    uint64_t            elements; /* that are summed on each rank */
    int                 dtype;    /* taut_dtype, or -1 */
    bool                data;     /* else it only takes part in votes; the call itself is made elsewhere */
    bool                queued;
    MPI_Request         request;  /* to complete; queued data only */
    double              begin_s;
    struct taut__entry *next;
} taut__entry;

typedef struct taut__flight taut__flight;

typedef struct taut__position { /* of a cycle */
    uint64_t    key;
    taut__site *site; /* NULL: passes through */
    bool        coded;
    taut_layer *layer[TAUT_COURSES];
} taut__position;

typedef struct taut__channel {
    MPI_Comm        user, control;
    bool            has_control, seen_eligible, failed;
    int             rank, size;
    pthread_mutex_t lock;        /* sequence, queue, sites */
    pthread_cond_t  changed;
    taut__sequence  sequence;
    uint64_t        checked;     /* events before this one have been dealt with by execute() */

    taut__entry    *head, **tail; /* queued */
    size_t          queued;       /* those, the one being executed, and calls under way */
    bool            threaded, stop;
    pthread_t       worker;
    taut__flight   *flights;      /* of the worker */

    bool            active;
    uint64_t        start;       /* event at which cycles began */
    size_t          period, last_coded; /* position of the last coded site: a step ends there */
    taut__position *position;
    taut_comm      *course[TAUT_COURSES];
    int             courses;
    float          *copy;        /* reduce-scatter and dry runs: the largest site's elements */
    size_t          copy_n;
    uint64_t        cycles, breaks;

    taut__site    **site;        /* of this channel */
    size_t          sites;
    double          in_calls_s;
    struct taut__channel *next;
} taut__channel;

/* The channel of a communicator; NULL if it has none: one rank, an inter-communicator, out of memory. */
taut__channel *taut__channel_of(MPI_Comm comm);
/* Is this call one that could be coded? Fills in dtype, elements. */
bool taut__channel_eligible(const taut__channel *c, taut__entry *e);
/* An event: counts it, and says whether execute() must see it; else the caller makes the plain call. Takes and leaves the lock. */
bool taut__channel_event(taut__channel *c, taut__entry *e);
/* Blocking: executes e, with its plain call where that is due. */
int  taut__channel_execute(taut__channel *c, taut__entry *e);
/* Non-blocking: copies e into the queue, *request is completed later. */
int  taut__channel_queue(taut__channel *c, const taut__entry *e, MPI_Request *request);
void taut__channel_open_world(void); /* in MPI_Init: all ranks are there */
void taut__channel_close_all(void); /* before MPI_Finalize; sites stay for the report */

/* execute_mpi.c : with the queue's turn. */
int  taut__execute(taut__channel *c, taut__entry *e);
int  taut__plain_call(taut__channel *c, const taut__entry *e);
void taut__dry_budgets(const char *budget[TAUT_COURSES]); /* those that a dry run tries */
/* worker_mpi.c */
int  taut__worker_start(taut__channel *c);
void taut__worker_stop(taut__channel *c);
void taut__flight_code(taut__channel *c, taut__entry *e, taut__position *p); /* a queued coded call begins */
int  taut__flight_plain(taut__channel *c, taut__entry *e, taut__site *s);    /* a queued plain call begins */
void taut__flights_wait(taut__channel *c);                                   /* all that have begun are over */
/* execute_mpi.c: for calls that are over */
int  taut__fail_as_mpi(taut__channel *c, const taut__site *s, taut_status status);
void taut__note_codec(taut__site *s, const taut_layer *layer, uint64_t sent, uint64_t dense);
void taut__look_at(taut__channel *c, const taut__entry *e, taut__site *s, float *own, double took);
float *taut__own_sample(const taut__entry *e, const taut__site *s); /* NULL: this call is not looked at; to be freed */

/* intercept_mpi.c */
typedef struct taut__preload_state {
    taut__preload_options option;
    bool                  ready, threads; /* between init and finalize; MPI_THREAD_MULTIPLE */
    double                begun_s;
    _Atomic uint64_t      small_calls;
    taut__site          **site;   /* all, in order of number */
    size_t                sites;
    pthread_mutex_t       lock;   /* of site, channels */
    taut__channel        *channels;
} taut__preload_state;
extern taut__preload_state taut__preload;

#endif
