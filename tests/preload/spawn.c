/* spawn.c : spawns a job of one rank as it is, and one that lacks what is preloaded; with each, large sums over all ranks that repeat. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>

enum { N = 1 << 15, STEPS = 8 };
static float x[N], y[N];

static int sum_over(MPI_Comm all)
{
    int rank, size, right = 1;
    MPI_Comm_rank(all, &rank), MPI_Comm_size(all, &size);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < N; i++) x[i] = sinf((float)(i * (rank + 2) + step)) + 2;
        MPI_Allreduce(x, y, N, MPI_FLOAT, MPI_SUM, all);
        for (int i = 0; i < N; i++) {
            float sum = 0;
            for (int r = 0; r < size; r++) sum += sinf((float)(i * (r + 2) + step)) + 2;
            right &= fabsf(y[i] - sum) < 1e-4f;
        }
    }
    return right;
}

int main(int argc, char **argv)
{
    MPI_Comm parent, inter, all;
    char    *bare[] = {"-u", "LD_PRELOAD", argv[0], NULL};
    int      rank, right = 1;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_get_parent(&parent);
    for (int job = 0; job < (parent == MPI_COMM_NULL ? 2 : 1); job++) {
        inter = parent;
        if (parent == MPI_COMM_NULL)
            MPI_Comm_spawn(job ? "env" : argv[0], job ? bare : MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_WORLD,
                           &inter, MPI_ERRCODES_IGNORE);
        MPI_Intercomm_merge(inter, parent != MPI_COMM_NULL, &all);
        right &= sum_over(all);
        MPI_Comm_free(&all);
        MPI_Comm_disconnect(&inter);
    }
    if (rank == 0 && parent == MPI_COMM_NULL) printf("spawned sums %s\n", right ? "right" : "wrong");
    MPI_Finalize();
    return 0;
}
