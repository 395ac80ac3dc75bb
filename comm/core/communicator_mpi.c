/* communicator_mpi.c : taut_comm_create_mpi(). Ranks may disagree about success (their environments differ): they agree. */
#include "../taut_mpi.h"
#include "communicator.h"

taut_status taut_comm_create_mpi(MPI_Comm mpi, const taut_config *cfg, taut_comm **comm)
{
    taut__settings   set;
    taut__transport *t = NULL;
    int             up = 0;
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_comm_create_mpi: comm is NULL");
    *comm = NULL;
    MPI_Initialized(&up);
    if (!up) return taut__fail(TAUT_E_STATE, "taut_comm_create_mpi: MPI_Init has not been called");
    taut_status s = taut__settings_load(cfg, &set);
    int mine = s, worst;
    if (MPI_Allreduce(&mine, &worst, 1, MPI_INT, MPI_MIN, mpi) != MPI_SUCCESS)
        return taut__fail(TAUT_E_TRANSPORT, "taut_comm_create_mpi: MPI_Allreduce failed");
    if (s != TAUT_OK) return s;
    if (worst != TAUT_OK) return taut__fail((taut_status)worst, "taut_comm_create_mpi: settings of another rank are wrong");
    TAUT_TRY(taut__mpi_create(&mpi, set.fake_hosts, &t));
    s = taut__comm_create(t, cfg, comm);
    mine = s;
    MPI_Allreduce(&mine, &worst, 1, MPI_INT, MPI_MIN, mpi);
    if (worst == TAUT_OK || s != TAUT_OK) return s;
    taut_comm_destroy(*comm);
    *comm = NULL;
    return taut__fail((taut_status)worst, "taut_comm_create_mpi: failed on another rank");
}
