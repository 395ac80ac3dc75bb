/* channel.h : one communicator of an unmodified program. MPI handles inside: compiled once for each MPI.
 *
 * PROTOCOL
 *  1. Every reducing call on the communicator is an event and enters the channel's sequence, whatever it sums; so is every allgather
 *     once there was a reduce-scatter. MPI has all ranks make these calls in the same order, so the number of an event names the
 *     same call on all ranks.
 *  2. Until some rank has made a call that could be compressed, ranks do nothing but ask for that, at a few events (taut__asks_at).
 *     Then, at some events, the same everywhere (taut__sequence_votes_at), they vote whether they all see the same cycle. If so, the
 *     next event begins a cycle, and its eligible calls are sites, unless one rank doubts that their values are gradients. Where all
 *     are doubted, the next vote comes after ever longer pauses (taut__doubt_pause).
 *  3. In a cycle, a call that a site expects is voted on by all ranks before it is coded: a rank whose call is another one says no,
 *     then all make the plain call, and the cycle is over. So ranks never take different ways. Votes carry a digest of all calls so far:
 *     where ranks have made different ones, which MPI forbids, what follows is as plain MPI has it, without votes, and on the
 *     program's communicator.
 *  4. Blocking calls are executed by the calling thread, if nothing is queued. Non-blocking calls may not wait for peers, so
 *     they are queued: a worker thread of the channel executes them in order, and completes the generalized request that the
 *     program got; its own MPI waits for that as for any other. This needs MPI_THREAD_MULTIPLE, else they stay plain. While the worker
 *     waits for others' votes it goes on completing what has begun: a rank may come to the vote only when that is complete here.
 *  5. Votes, queued plain calls and Taut's messages use a copy of the communicator. That of MPI_COMM_WORLD is made in MPI_Init; of
 *     others at a blocking call that asks (2). (Not by MPI_Comm_idup at a non-blocking one: in Open MPI 4.1 its messages get mixed
 *     up with those of the program's own calls.)
 *     A call that could not be compressed is never queued, since small calls would pay for that. So where ranks give different counts or
 *     types, one's call may wait on the copy and another's on the program's communicator, with no vote between. Such strays are found
 *     by asking, and follow the others (stray_mpi.c).
 *  6. Persistent requests may be started in another order on each rank. So each is a channel of its own, whose events are its
 *     starts, with a copy of the communicator and a thread (persistent_mpi.c). Creating them is a blocking collective in MPI. */
#ifndef TAUT_CHANNEL_H
#define TAUT_CHANNEL_H

#include "real.h"
#include "site.h"
#include <pthread.h>

typedef struct taut__entry { /* one event, with what its plain call needs */
    taut__call_kind kind;
    const void     *in; /* MPI_IN_PLACE where the program said so */
    void           *out;
    int             count;
    const int      *counts; /* reduce_scatter; NULL: all `count` */
    MPI_Datatype    type;
    MPI_Op          op;
    int             send_count; /* allgather, with send_type */
    MPI_Datatype    send_type;
    MPI_Request     plain; /* persistent: the MPI's own request */
    uint64_t        event;
    uint64_t        key;
    uint64_t        elements;     /* that are summed on each rank */
    int             dtype;        /* taut_dtype, or -1 */
    bool            data;         /* else it only takes part in votes; the call itself is made elsewhere */
    bool            apart;        /* non-blocking: it may be made on the channel's communicator */
    bool            queued, asks; /* asks: taut__asks_at */
    bool            fit;    /* this rank's buffers are such as Taut takes; what else decides is the same on all ranks */
    uint64_t        digest; /* of the channel's calls up to this one */
    MPI_Request     request; /* to complete; queued data only, as is */
    int            *outcome; /* what the MPI said of it: the state of that request */
    double          begin_s;
    struct taut__entry *next;
} taut__entry;

typedef struct taut__flight { /* a queued call that has begun */
    taut__entry         *e;
    taut__site          *site;
    taut_layer          *layer;        /* coded; else plain, with */
    MPI_Request          plain, again; /* again: on the program's communicator, where others have made theirs */
    bool                 apart, moved; /* plain is on the channel's communicator; there is `again` */
    int                  refused;      /* what the MPI said when plain began */
    double               begun_s;
    float               *own;
    uint64_t             sent, dense; /* of the layer, before */
    struct taut__flight *next;
} taut__flight;

/* What this rank knows of calls that wait elsewhere: stray_mpi.c. */
enum { TAUT_POSTED = 1024 };
typedef struct taut__strays {
    struct {
        uint64_t event, digest;
    } * posted;                   /* the latest non-blocking calls, by event % TAUT_POSTED; NULL: out of memory */
    bool         found;           /* one of this rank's, or of those that asked it: nothing is queued any more */
    bool         told;            /* to the user */
    double       looked_s;        /* when messages were last looked for */
    uint64_t     about;           /* event of the call that is asked about, from asks_s on, then again after pause_s */
    double       asks_s, pause_s; /* pause_s 0: none yet */
    uint64_t     question[2];     /* event, digest; while it is being sent */
    MPI_Request *asking;          /* one message to each rank; NULL: none so far */
} taut__strays;

/* Sites of a channel: further sizes of a program whose sizes never come again stay plain. Channels at a time with a copy of their communicator, each
 * of which costs some five context ids: MPICH has 2048. */
enum { TAUT_SITES = 1 << 12, TAUT_COPIES = 128 };

typedef struct taut__position { /* of a cycle */
    uint64_t    key;
    taut__site *site; /* NULL: passes through */
    bool        coded;
    size_t      kept; /* dry runs: where the input of a non-blocking call is kept, an index of kept[] */
    taut_layer *layer[TAUT_COURSES];
} taut__position;

typedef struct taut__channel {
    MPI_Comm        user, control;
    bool            has_control, seen_eligible, failed; /* failed: agreed; from here on calls pass through */
    bool            differs;                            /* failed since ranks have made different calls */
    bool            alone;                              /* of one persistent request */
    bool            watching;                           /* agreed: some rank has made a call that could be compressed */
    _Atomic bool    scatters;                           /* there was a reduce-scatter: allgathers are events */
    int             rank, size;
    pthread_mutex_t lock; /* sequence, queue, sites */
    pthread_cond_t  changed;
    taut__sequence  sequence;
    uint64_t        checked; /* events before this one have been dealt with by execute() */
    uint64_t        next_ask;
    uint64_t        digest; /* of all events so far: what MPI wants to be the same on all ranks */
    uint64_t        said;   /* the digest that goes into votes: that of the event being executed */
    uint64_t quiet_until;   /* no event before this one asks or votes, in calls that cannot be coded; 0: not known */
    uint64_t base;          /* votes come often after this event: the first one, or that of the last break */
    uint64_t vote_after;    /* no vote before this event */
    uint32_t doubted;       /* votes that found a cycle, but doubts about all of it */

    taut__entry  *head, **tail; /* queued */
    size_t        queued;       /* those, the one being executed, and calls under way */
    bool          threaded, stop;
    pthread_t     worker;
    bool          on_worker; /* the event being executed was queued */
    taut__flight *flights;   /* of the worker, oldest first */
    taut__strays  strays;

    bool            active;
    bool            strayed;            /* this rank has left the cycle; the others do not know yet */
    uint64_t        start;              /* event at which cycles began */
    size_t          period, last_coded; /* position of the last coded site: a step ends there */
    taut__position *position;
    taut_comm      *course[TAUT_COURSES];
    int             courses;
    float          *copy; /* reduce-scatter, allgather and dry runs: the largest site's elements */
    size_t          copy_n;
    float          *kept; /* dry runs: inputs of a cycle's non-blocking calls */
    size_t          kept_n;
    uint64_t        cycles, breaks;

    taut__site          **site; /* of this channel, at most TAUT_SITES */
    uint64_t             *site_key;
    size_t                sites;
    double                in_calls_s;
    taut__waits           waits;
    double                busy_since; /* of the non-blocking calls under way */
    size_t                under_way;
    bool                  waited_once; /* the first ones warm up */
    struct taut__channel *next;
} taut__channel;

/* channel_mpi.c */
/* A communicator of the same ranks, without attributes: the program's copy functions are not called. Its errors are returned. */
bool taut__comm_like(MPI_Comm comm, MPI_Comm *copy);
/* The channel of a communicator; NULL if it has none: one rank, ranks of another job, an inter-communicator, out of memory. */
taut__channel *taut__channel_of(MPI_Comm comm);
/* One that belongs to no communicator of the program. control: becomes the channel's. NULL: out of memory. */
taut__channel *taut__channel_alone(MPI_Comm control);
/* Nothing of it is under way any more: released, but for what the report says of it. */
void taut__channel_release(taut__channel *c);
/* Is this call one that could be coded? The same on all ranks of a correct program. Fills in dtype, elements, fit. */
bool taut__channel_eligible(const taut__channel *c, taut__entry *e);
/* An event: counts it, and says whether execute() must see it; else the caller makes the plain call. Takes and leaves the lock. */
bool taut__channel_event(taut__channel *c, taut__entry *e);
/* The latest event passed through, and so would this many like it. */
uint64_t taut__channel_quiet(taut__channel *c);
/* n more events like the latest one, which have passed through. */
void taut__channel_repeat(taut__channel *c, uint64_t n);
/* Blocking: executes e, with its plain call where that is due. */
int  taut__channel_execute(taut__channel *c, taut__entry *e);
void taut__channel_open_world(void); /* in MPI_Init: all ranks are there */
void taut__channel_close_all(void);  /* before MPI_Finalize; sites stay for the report */

/* execute_mpi.c : an event with the queue's turn. */
int         taut__execute(taut__channel *c, taut__entry *e);
int         taut__plain_call(taut__channel *c, const taut__entry *e);
MPI_Comm    taut__plain_comm(const taut__channel *c, const taut__entry *e);
int         taut__timed_plain(taut__channel *c, const taut__entry *e, taut__site *s, double *took);
bool        taut__votes_at(const taut__channel *c, uint64_t event);
const void *taut__input_of(const taut__entry *e);
int         taut__fail_as_mpi(taut__channel *c, const taut__site *s, taut_status status);
/* A coded call is over. sent, dense: bytes of the layer before it */
void taut__note_coded(taut__channel *c, const taut__entry *e, taut__site *s, const taut_layer *layer, uint64_t sent,
                      uint64_t dense, double took);
taut_status taut__reduce_into(taut__channel *c, const taut__entry *e, taut_layer *layer, void *to);
taut_status taut__end_step(taut__channel *c, int course);

/* votes_mpi.c */
bool taut__all_say(taut__channel *c, bool yes, uint64_t word); /* every rank yes, with the same word; a no has none */
bool taut__any_says(taut__channel *c, bool yes);               /* needs no control communicator at blocking calls */

/* look_mpi.c : samples of what goes in and comes out */
float *taut__own_sample(const taut__channel *c, const taut__entry *e,
                        const taut__site *s); /* NULL: this call is not looked at; to be freed */
void   taut__look_at(taut__channel *c, const taut__entry *e, taut__site *s, float *own,
                     double took);                                               /* a plain call is over; frees own */
void   taut__note_output(taut__channel *c, const taut__entry *e, taut__site *s); /* a call is over */
bool   taut__gathers_scattered(taut__channel *c, const taut__entry *e); /* a multiple of the latest sum of that size */
void   taut__note_norm(taut__channel *c, const taut__entry *e, taut__site *s);
void   taut__note_broadcast(taut__channel *c, const void *buf, size_t bytes);

/* cycle_mpi.c : sites, doubts, and the layers of a cycle */
taut__site *taut__site_of(taut__channel *c, const taut__entry *e);
void        taut__vote_on_cycle(taut__channel *c, uint64_t last);
void        taut__end_cycles(taut__channel *c);
void        taut__reconsider(taut__channel *c); /* at the end of a cycle: doubts change */
bool        taut__parts_fit(const taut__channel *c, const taut__position *p, const taut__entry *e);

/* trial_mpi.c : dry runs, and what constants would be worth */
void taut__dry_budgets(const char *budget[TAUT_COURSES]); /* those that a dry run tries */
int  taut__dry_courses(void);
int  taut__course_of(const taut__channel *c, uint64_t cycle); /* -1: none is tried in this cycle */
int  taut__shadow_call(taut__channel *c, taut__entry *e, taut__position *p, bool last);
void taut__gauge_constants(void); /* in MPI_Finalize; collective */

/* worker_mpi.c */
int  taut__channel_queue(taut__channel *c, const taut__entry *e, MPI_Request *request); /* copies e; completed later */
int  taut__worker_start(taut__channel *c);
void taut__worker_stop(taut__channel *c);
void taut__flight_code(taut__channel *c, taut__entry *e, taut__position *p); /* a queued coded call begins */
void taut__flight_plain(taut__channel *c, taut__entry *e, taut__site *s);    /* a queued plain call begins */
void taut__flights_wait(taut__channel *c);                                   /* all that have begun are over */
void taut__worker_turn(taut__channel *c, unsigned *turns); /* the worker waits: one look at everything else */

/* stray_mpi.c; on the worker, except for the first */
void taut__strays_post(taut__channel *c, const taut__entry *e); /* a non-blocking call; under the channel's lock */
void taut__strays_look(taut__channel *c);
void taut__strays_close(taut__channel *c);

/* waits_mpi.c : how long the program waits for requests that it got from here */
void taut__waits_expect(taut__channel *c, uint64_t event, MPI_Request request);
void taut__waits_arrived(taut__channel *c, uint64_t event, MPI_Request request);
int  taut__MPI_Wait(MPI_Request *r, MPI_Status *s);
int  taut__MPI_Waitall(int n, MPI_Request *r, MPI_Status *s);
int  taut__MPI_Waitany(int n, MPI_Request *r, int *index, MPI_Status *s);
int  taut__MPI_Waitsome(int n, MPI_Request *r, int *done, int *index, MPI_Status *s);

/* persistent_mpi.c */
int  taut__allreduce_init(taut__channel *c, taut__entry *e, MPI_Comm comm, MPI_Info info, MPI_Request *request);
int  taut__MPI_Start(MPI_Request *r);
int  taut__MPI_Startall(int n, MPI_Request *r);
int  taut__MPI_Request_free(MPI_Request *r);
void taut__persistent_close_all(void);

/* intercept_mpi.c */
void taut__passed_counted(void); /* the calls that passed through uncounted are events now */
typedef struct taut__preload_state {
    taut__preload_options option;
    bool                  ready;               /* between init and finalize */
    bool                  threads, many;       /* MPI_THREAD_MULTIPLE: on all ranks; on this one */
    bool                  spawned;             /* by another job, which has a report of its own */
    double                begun_s, in_calls_s; /* the latter: of channels that were released */
    _Atomic size_t        copies;              /* channels with a copy of their communicator */
    _Atomic uint64_t      small_calls,
        unserved;         /* the latter: for lack of threads, calls that could be compressed, and requests */
    taut__site    **site; /* all, in order of number */
    size_t          sites;
    pthread_mutex_t lock; /* of site, channels */
    taut__channel  *channels;
} taut__preload_state;
extern taut__preload_state taut__preload;

#endif
