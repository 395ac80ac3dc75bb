/* late.c : preloaded before the library: on ranks of odd number a thread of the library that has completed a non-blocking call goes on only when the
 * program's own thread is at its next blocking sum, and is slow with what it sends next; on those of even number the program is slow. So the program
 * comes to its next call while the library is still busy with the last one on one rank, and long after that on another. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <mpi.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { STEP_MS = 1, MOST_MS = 300, PROGRAM_MS = 5, SEND_MS = 15 };
static atomic_int sums,
    completed; /* blocking sums that the program has come to; the next message is the first since a completion */

static void *next(const char *name, void **known)
{
    if (!*known) *known = dlsym(RTLD_NEXT, name);
    return *known;
}
static void nap(int ms) { nanosleep(&(struct timespec){0, ms * 1000000}, NULL); }
static int  odd(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMI_RANK");
    return rank && atoi(rank) % 2;
}
static int library(void) { return gettid() != getpid(); }

int PMPI_Grequest_complete(MPI_Request r)
{
    static void *known;
    int (*real)(MPI_Request) = (int (*)(MPI_Request))next("PMPI_Grequest_complete", &known);
    int before = sums, rc = real(r);
    for (int ms = 0; odd() && library() && sums == before && ms < MOST_MS; ms += STEP_MS) nap(STEP_MS);
    if (odd() && library()) nap(PROGRAM_MS), completed = 1;
    return rc;
}

int MPI_Isend(const void *buf, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *r)
{
    static void *known;
    int (*real)(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *) =
        (int (*)(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *))next("MPI_Isend", &known);
    if (odd() && library() && atomic_exchange(&completed, 0)) nap(SEND_MS);
    return real(buf, n, type, to, tag, comm, r);
}

int MPI_Allreduce(const void *in, void *out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    static void *known;
    int (*real)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm) =
        (int (*)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm))next("MPI_Allreduce", &known);
    sums++;
    if (!odd()) nap(PROGRAM_MS);
    return real(in, out, n, type, op, comm);
}
