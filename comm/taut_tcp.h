/* taut_tcp.h : communicators over TCP, for programs without MPI. Linux; IPv4 and IPv6.
 *
 *      taut_tcp where = TAUT_TCP_INIT;
 *      where.rank = atoi(getenv("RANK"));              // however the program was started
 *      where.ranks = atoi(getenv("WORLD_SIZE"));
 *      where.root = "10.0.0.1:29400";                  // where rank 0 can be reached; the same text on all ranks
 *      taut_comm_create_tcp(&where, &cfg, &comm);
 *
 *  Every rank has one connection to every other one. A communication thread moves data while the program computes, as over MPI with
 *  MPI_THREAD_MULTIPLE. There is no encryption: for networks that are the job's own. A connection begins with a handshake (version, job, both
 *  ranks), so strangers and other jobs are turned away; headers of messages are checked, frames have their own checksum
 *  (taut_config.checksum), and what is sent uncompressed has that of TCP. */
#ifndef TAUT_TCP_H
#define TAUT_TCP_H

#include "taut.h"

#ifdef __cplusplus
extern "C" {
#endif

/* taut_tcp_exchange : what a program offers that has another way to tell all ranks a few bytes, such as a key-value store: an allgather.
 *  ctx   : taut_tcp.ctx.
 *  round : 0, 1, 2 ...: all ranks call with the same numbers in the same order, a few times, while a communicator is created.
 *  mine  : bytes (at most 1024) of this rank.   all : room for ranks * bytes, to be filled in order of rank.
 *  Returns 0, or anything else for a failure: TAUT_E_TRANSPORT is what taut_comm_create_tcp() then returns. */
typedef int (*taut_tcp_exchange)(void *ctx, int round, const void *mine, size_t bytes, void *all);

/* taut_tcp : this rank, and how ranks find each other: exactly one of root, peers and exchange (none for a single rank). */
typedef struct taut_tcp {
    size_t  size;  /* set by TAUT_TCP_INIT */
    int32_t rank;  /* 0..ranks-1 */
    int32_t ranks; /* 1..1024 */
    /* "HOST:PORT" or "[IPV6]:PORT" on which rank 0 listens while the communicator is created (on all addresses, where its machine
     * takes the name HOST for a loopback address); other ports are the system's choice */
    const char        *root;
    const char *const *peers; /* `ranks` such texts: rank r listens on peers[r], and on no other port */
    taut_tcp_exchange  exchange;
    void              *ctx; /* of exchange */
    const char *bind; /* where other ranks reach this one: an address ("10.0.0.7") or an interface ("eth0"); NULL: all
                                    that are up, tried in turn, those of a common subnet first. Not used with peers */
    int32_t     connect_ms; /* longest time until all ranks are connected; 0: taut_config.timeout_ms; -1: for ever */
} taut_tcp;
#define TAUT_TCP_INIT                                                                                                  \
    {                                                                                                                  \
        sizeof(taut_tcp), 0, 1, 0, 0, 0, 0, 0, 0                                                                       \
    }

/* taut_comm_create_tcp() : collective over where->ranks processes. Settings that ranks must have alike are compared: TAUT_E_MISMATCH
 *  names the setting and two ranks. All ranks that find each other return the same status: TAUT_E_TIMEOUT names those who did not come,
 *  or the addresses at which one could not be reached; what fails on one alone (a setting, memory, a thread, descriptors, a file) is told to the
 *  others, "rank 2: ...". TAUT_E_INVALID or TAUT_E_RANGE of a bad value in `where` is this rank's alone: it does not come.
 *  A process that exits, or is killed, is noticed at once by those who wait for it: TAUT_E_PEER. taut_comm_destroy() waits until what
 *  this rank has sent lies in the receivers' kernels, at most two seconds after nothing moves any more.
 *  Forked children close the connections that they inherit. taut_comm_shrink() connects the survivors of a failure anew, each reached where it
 *  was reached first. Since 0.1. */
TAUT_API taut_status taut_comm_create_tcp(const taut_tcp *where, const taut_config *cfg, taut_comm **comm);

#ifdef __cplusplus
}
#endif
#endif
