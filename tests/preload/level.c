/* level.c : which thread level a program of blocking sums gets (WAY 0), one of non-blocking sums (1), one that looks those up by name (2), and one
 * that does so with the sum whose count is an MPI_Count, as mpi4py 4 refers to it, and takes it if it is there (3). Prints "level=N" on rank 0; the sums of ways 1 and 2 repeat and are large. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <mpi.h>
#include <stdio.h>

enum { N = 1 << 16 };
static float in[N], out[N];

int main(int argc, char **argv)
{
    int         level, rank;
    MPI_Request r;
    MPI_Init(&argc, &argv);
    MPI_Query_thread(&level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int step = 0; step < 20; step++) {
        for (int i = 0; i < N; i++) in[i] = (float)((i * 7919 + step * 31 + rank * 17) % 1009) - 504;
#if WAY == 0
        MPI_Allreduce(in, out, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        (void)r;
#elif WAY == 3
        int (*large)(const void *, void *, MPI_Count, MPI_Datatype, MPI_Op, MPI_Comm) =
            (int (*)(const void *, void *, MPI_Count, MPI_Datatype, MPI_Op, MPI_Comm))dlsym(RTLD_DEFAULT,
                                                                                            "MPI_Allreduce_c");
        if (large) large(in, out, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        (void)r;
#elif WAY == 1
        MPI_Iallreduce(in, out, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &r);
        MPI_Wait(&r, MPI_STATUS_IGNORE);
#else
        int (*sum)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm, MPI_Request *) =
            (int (*)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm, MPI_Request *))dlsym(RTLD_DEFAULT,
                                                                                                     "MPI_Iallreduce");
        sum(in, out, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &r);
        MPI_Wait(&r, MPI_STATUS_IGNORE);
#endif
    }
    if (rank == 0) printf("level=%d single=%d multiple=%d\n", level, MPI_THREAD_SINGLE, MPI_THREAD_MULTIPLE);
    MPI_Finalize();
    return 0;
}
