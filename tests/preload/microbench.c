/* microbench.c : like the microbenchmarks of networks: constant buffers, one size many times with a warm-up, then the next, in
 * place and not, a barrier between. microbench LARGEST_BYTES [ROUNDS]; a line "bytes us" per size on rank 0; 1 if a sum is wrong. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    size_t most = argc > 1 ? (size_t)atol(argv[1]) : 1 << 20;
    int    rank, ranks, bad = 0, most_rounds = argc > 2 ? atoi(argv[2]) : 200;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    float *in = malloc(most), *out = malloc(most);
    for (size_t bytes = 4; bytes <= most; bytes *= 2)
        for (int place = 0; place < 2; place++) {
            int    n = (int)(bytes / 4), rounds = bytes > 1 << 18 && most_rounds > 30 ? 30 : most_rounds, warm = rounds / 10;
            double begin = 0, took, longest;
            for (int k = -warm; k < rounds; k++) {
                for (int i = 0; i < n; i++) in[i] = 1;
                if (k == 0) MPI_Barrier(MPI_COMM_WORLD), begin = MPI_Wtime();
                MPI_Allreduce(place ? MPI_IN_PLACE : in, place ? in : out, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
                for (int i = 0; i < n; i++) bad |= (place ? in : out)[i] != (float)ranks;
            }
            took = (MPI_Wtime() - begin) / rounds * 1e6;
            MPI_Reduce(&took, &longest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
            if (rank == 0) printf("%zu %.1f%s\n", bytes, longest, place ? " in place" : "");
        }
    MPI_Finalize();
    return bad;
}
