/* microbench.c : like the microbenchmarks of networks: constant buffers, one size many times after a warm-up, then the next, in place
 * and not, a barrier between. microbench FROM TO [ROUNDS]: bytes, each size twice the last; fewer rounds for large sizes. A line
 * "bytes mean_us median_us [in place]" per size on rank 0, of the slowest rank; exits with 1 if a sum is wrong. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_ROUNDS = 10000 };
static double took[MOST_ROUNDS], slowest[MOST_ROUNDS];

static int by_value(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static int rounds_of(size_t bytes, int most)
{
    int n = bytes <= 1 << 16 ? most : bytes <= 1 << 22 ? most / 6 : bytes <= 1 << 26 ? most / 20 : most / 60;
    return n < 3 ? 3 : n;
}

int main(int argc, char **argv)
{
    size_t from = argc > 1 ? (size_t)atol(argv[1]) : 4, to = argc > 2 ? (size_t)atol(argv[2]) : 1 << 20;
    int    rank, ranks, bad = 0, most = argc > 3 ? atoi(argv[3]) : 200;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    float *in = malloc(to), *out = malloc(to);
    for (size_t bytes = from; bytes <= to; bytes *= 2)
        for (int place = 0; place < 2; place++) {
            int    n = (int)(bytes / 4), rounds = rounds_of(bytes, most), warm = 1 + rounds / 10;
            double sum = 0;
            for (int i = 0; i < n; i++) in[i] = 1;
            for (int k = -warm; k < rounds; k++) {
                for (int i = 0; place && i < n; i++) in[i] = 1;
                MPI_Barrier(MPI_COMM_WORLD);
                double begin = MPI_Wtime();
                MPI_Allreduce(place ? MPI_IN_PLACE : in, place ? in : out, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
                if (k >= 0) took[k] = MPI_Wtime() - begin;
                if (k == 0 || k == rounds - 1)
                    for (int i = 0; i < n; i++) bad |= (place ? in : out)[i] != (float)ranks;
            }
            MPI_Reduce(took, slowest, rounds, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
            for (int k = 0; k < rounds; k++) sum += slowest[k];
            qsort(slowest, (size_t)rounds, sizeof *slowest, by_value);
            if (rank == 0)
                printf("%zu %.2f %.2f%s\n", bytes, 1e6 * sum / rounds, 1e6 * slowest[rounds / 2],
                       place ? " in place" : ""),
                    fflush(stdout);
        }
    MPI_Finalize();
    return bad;
}
