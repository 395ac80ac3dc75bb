/* group_mpi.c : see group.h. */
#include "../cli.h"
#include "../../comm/taut_data_mpi.h"
#include "group.h"
#include <stdlib.h>

static taut_data_mpi   mpi;
static taut_data_group group;
static bool            started;

/* Open MPI, MPICH and their kin, PMIx launchers (srun). */
static bool launched(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i])) return true;
    return false;
}

const taut_data_group *group_start(void)
{
    if (!launched() || MPI_Init(NULL, NULL) != MPI_SUCCESS) return NULL;
    started = true;
    if (taut_data_group_mpi(MPI_COMM_WORLD, &mpi, &group) != TAUT_OK) MPI_Abort(MPI_COMM_WORLD, CLI_FAILED);
    cli_speak(group.rank == 0);
    return group.ranks > 1 ? &group : NULL;
}

void group_end(void)
{
    if (!started) return;
    taut_data_group_mpi_free(&mpi);
    MPI_Finalize();
}
