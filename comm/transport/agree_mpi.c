/* agree_mpi.c : what ranks of an MPI communicator say to each other while there is nothing of ours between them. */
#include "transport_mpi.h"
#include <stdio.h>
#include <time.h>

enum { SAID = 512, NAP_MOST_US = 1000 };

static taut_status failed(const char *what)
{
    return taut__fail(TAUT_E_TRANSPORT, "MPI: %s failed while ranks created a communicator", what);
}

taut_status taut__mpi_agree(MPI_Comm mpi, taut_status mine)
{
    char said[SAID] = "";
    struct { /* MPI_2INT */
        int status, rank;
    } in = {.status = mine}, worst;
    if (MPI_Comm_rank(mpi, &in.rank) != MPI_SUCCESS) return failed("MPI_Comm_rank");
    if (MPI_Allreduce(&in, &worst, 1, MPI_2INT, MPI_MINLOC, mpi) != MPI_SUCCESS) return failed("MPI_Allreduce");
    if (worst.status == TAUT_OK) return TAUT_OK;
    if (in.rank == worst.rank) snprintf(said, sizeof said, "%s", taut_last_error());
    if (MPI_Bcast(said, SAID, MPI_CHAR, worst.rank, mpi) != MPI_SUCCESS) return failed("MPI_Bcast");
    said[SAID - 1] = 0;
    if (mine != TAUT_OK) return mine;
    return taut__fail((taut_status)worst.status, "rank %d: %s", worst.rank, said);
}

/* A barrier that is looked at: MPI has no way to give one up, so one that does not end stays under way. */
taut_status taut__mpi_gather_ranks(MPI_Comm mpi, int32_t ms, const char *call)
{
    MPI_Request all;
    int         there = 0, size = 0;
    double      until = taut__now() + 1e-3 * ms;
    if (MPI_Comm_size(mpi, &size) != MPI_SUCCESS || MPI_Ibarrier(mpi, &all) != MPI_SUCCESS)
        return failed("MPI_Ibarrier");
    for (long us = 1;; us = us < NAP_MOST_US ? 2 * us : us) {
        if (MPI_Test(&all, &there, MPI_STATUS_IGNORE) != MPI_SUCCESS) return failed("MPI_Ibarrier");
        if (there) return TAUT_OK;
        if (ms >= 0 && taut__now() >= until) break;
        nanosleep(&(struct timespec){0, us * 1000}, NULL);
    }
    return taut__fail(TAUT_E_TIMEOUT,
                      "%s: not all %d ranks of the MPI communicator have come within %d ms; it cannot be used any more",
                      call, size, (int)ms);
}
