/* profiler.c : what a program is linked with that profiles MPI: calls of its own around PMPI's. Says at the end what it saw. */
#include <mpi.h>
#include <stdio.h>

static int inits, sums;

int MPI_Init(int *argc, char ***argv)
{
    inits++;
    return PMPI_Init(argc, argv);
}
int MPI_Allreduce(const void *in, void *out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    sums++;
    return PMPI_Allreduce(in, out, n, type, op, comm);
}
int MPI_Finalize(void)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0) fprintf(stderr, "profiler: inits=%d sums=%d\n", inits, sums);
    return PMPI_Finalize();
}
