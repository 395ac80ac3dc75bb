/* transport_mpi.h : the inside of the MPI transport, shared by transport_mpi.c (messages), words_mpi.c (notices), shrink_mpi.c (survivors),
 * ulfm_mpi.c (what the MPI itself knows of lost ranks), leaving_mpi.c, which says when its communicators of MPI can be freed, and agree_mpi.c, for ranks that create one. */
#ifndef TAUT_TRANSPORT_MPI_H
#define TAUT_TRANSPORT_MPI_H

#include "../taut_mpi.h"
#include "watchdog.h"

enum { TAUT_MPI_TAG_NOTICE = 0 };

typedef struct taut__mpi_pending {
    taut__request *request; /* NULL: the receive of a notice */
    MPI_Datatype   type;    /* of a message beyond WHOLE_MAX, else MPI_BYTE */
} taut__mpi_pending;

typedef struct taut__mpi {
    taut__transport    base;
    MPI_Comm           comm, native; /* messages; native sums, which a notice must not disturb */
    MPI_Comm           given;        /* of survivors, for the program: taut_comm_mpi(); else MPI_COMM_NULL */
    bool               exact;        /* MPI_Allreduce gives the same bits on all ranks */
    _Atomic uint64_t   calls[2];     /* odd: inside a call of MPI that waits for nobody; the watchdog looks at it */
    bool               failed;       /* a notice was sent or received: leave what is taut__mpi_pending to MPI */
    int                broken;       /* MPI_SUCCESS, or what MPI said of a message that will never be done */
    bool              *gone;         /* of size ranks: MPI has said so */
    int                meetings;     /* of survivors, so far */
    bool               excluded;     /* they have gone on without this rank */
    bool               mitigates;    /* those of the last one rely on the MPI itself: taut__mpi_agree_on() */
    size_t             n, room;
    MPI_Request       *request; /* room of each */
    MPI_Status        *status;
    int               *index;
    taut__mpi_pending *owner;
    MPI_Request       *tell;      /* size requests */
    bool               listening; /* request[0] is the receive of a notice */
    bool               news;      /* it has come */
    uint64_t           job;       /* in the notices of this transport */
    taut__notice       heard, told;
    taut__notice       word;    /* the one last told, and how it is getting on */
    MPI_Request       *telling; /* size requests */
    int                left;    /* peers whose last word has been heard */
    bool               leaves;  /* `word` is this rank's last one */
    bool               uneven;  /* somebody left having done less, or more: messages may be on their way for ever */
    uint64_t           count, steps; /* of those who left */
    struct taut__mpi  *next;         /* of those that are buried */
} taut__mpi;

/* Around calls of MPI, by the one thread that drives the transport. */
static inline void taut__mpi_into(taut__mpi *m)
{
    uint64_t n = atomic_load_explicit(&m->calls[0], memory_order_relaxed);
    atomic_store_explicit(&m->calls[1], taut__watchdog_clock(), memory_order_relaxed);
    atomic_store_explicit(&m->calls[0], n + 1, memory_order_release);
}
static inline void taut__mpi_out(taut__mpi *m)
{
    uint64_t n = atomic_load_explicit(&m->calls[0], memory_order_relaxed);
    atomic_store_explicit(&m->calls[0], n + 1, memory_order_release);
}

/* transport_mpi.c */
taut_status taut__mpi_poll(taut__transport *t);
void        taut__mpi_end_job(taut__transport *t, const char *why); /* of t it uses nothing but the rank */
void        taut__mpi_stop_listening(taut__mpi *m);
void        taut__mpi_release(taut__mpi *m);

/* agree_mpi.c: ranks that create something together. Collective over mpi, blocking. */
/* All return TAUT_OK, or all fail: who has failed with its own status and text, the others with those of the lowest rank with the worst
 * status, "rank 2: ...". */
taut_status taut__mpi_agree(MPI_Comm mpi, taut_status mine);
/* Waits until all ranks are there, ms < 0: for ever. After TAUT_E_TIMEOUT, in which nobody knows who is missing, mpi is not to be used for
 * anything collective any more. */
taut_status taut__mpi_gather_ranks(MPI_Comm mpi, int32_t ms, const char *call);

/* words_mpi.c: of taut__transport_ops */
void taut__mpi_abort(taut__transport *t, const taut__notice *why);
void taut__mpi_tell(taut__transport *t, int peer, const taut__notice *word);
bool taut__mpi_heard(taut__transport *t, taut__notice *word);
bool taut__mpi_aborted(taut__transport *t, taut__notice *why);
bool taut__mpi_all_told(taut__mpi *m, int tries); /* words have left; tries are a tenth of a millisecond apart */

/* shrink_mpi.c */
/* The communicator of MPI that those make who come within wait_ms after the first; old[i]: what its rank i is in t. */
taut_status taut__mpi_survivors(taut__transport *t, int wait_ms, MPI_Comm *left, int *old);
/* A transport on it. Where the MPI can, those of whom another one is lost meanwhile go on without that one: left and old change. */
typedef taut_status taut__mpi_maker(const void *mpi, int fake_hosts, taut__transport **t); /* taut__mpi_create */
taut_status taut__mpi_go_on(taut__mpi *m, MPI_Comm *left, int *old, taut__mpi_maker *make, taut__transport **smaller);

/* ulfm_mpi.c */
/* Marks in gone[] (as many as comm has ranks) those of which MPI knows that they have failed. Returns how many: 0 where the MPI cannot tell. */
int taut__mpi_lost(MPI_Comm comm, bool *gone);
/* No call on comm blocks any more, on any rank: those under way fail. Nothing where the MPI cannot. */
void        taut__mpi_revoke(MPI_Comm comm);
taut_status taut__mpi_failed(int rc, const char *what); /* TAUT_E_TRANSPORT, with MPI's words; ulfm_mpi.c */
/* What a failed call means: TAUT_E_PEER where MPI knows of lost ranks, else TAUT_E_TRANSPORT with MPI's words. */
taut_status taut__mpi_call_failed(taut__mpi *m, MPI_Comm comm, int rc, const char *what);
/* Only after taut__mpi_lost() > 0 on some rank, with those who live, whatever happens to comm meanwhile; old[i]: what rank i is in `from`. */
taut_status taut__mpi_ulfm_shrink(MPI_Comm from, MPI_Comm *left, int *old);
/* Of those in the group, all of whom live; MPI_Comm_create_group() fails on a communicator that has lost a rank. */
int  taut__mpi_from_group(MPI_Group group, const char *tag, MPI_Comm *comm);
bool taut__mpi_agree_on(MPI_Comm comm, bool mine); /* that all of comm live and say so; the same everywhere */

/* leaving_mpi.c */
void taut__mpi_bury(taut__mpi *m); /* to be released once nobody will send to it any more */
void taut__mpi_visit_buried(void); /* some may be ready */

#endif
