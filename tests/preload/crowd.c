/* crowd.c : more of something than a program usually has. crowd WHAT N, prints "WHAT N grown=K right=B": K, KiB of memory for each of the last nine tenths.
 *   comms      communicators, one after the other     many    the same, all at a time; MPICH has 2048 context ids
 *   requests   persistent sums, one after the other   sizes   sums of which no two have the same size */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif
#if MPI_VERSION < 4 && defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
#define MPI_Allreduce_init MPIX_Allreduce_init
#endif

enum { N = 20000, MOST = 20000 };
static float    x[N + MOST], y[N + MOST];
static MPI_Comm comm[MOST];

static long memory(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void one(const char *what, int i)
{
    MPI_Request r;
    int         many = strcmp(what, "many") == 0, small = 1;
    if (strcmp(what, "requests") == 0) {
        MPI_Allreduce_init(x, y, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, MPI_INFO_NULL, &r);
        MPI_Start(&r);
        MPI_Wait(&r, MPI_STATUS_IGNORE);
        MPI_Request_free(&r);
        return;
    }
    if (strcmp(what, "sizes") == 0) {
        MPI_Allreduce(x, y, N + i, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        return;
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &comm[i]);
    for (int k = 0; k < (many ? 6 : 3); k++)
        if (many) MPI_Allreduce(x, y, N, MPI_FLOAT, MPI_SUM, comm[i]);
        else MPI_Allreduce(MPI_IN_PLACE, &small, 1, MPI_INT, MPI_SUM, comm[i]);
    if (!many) MPI_Comm_free(&comm[i]);
}

int main(int argc, char **argv)
{
    const char *what = argv[1];
    int         n = atoi(argv[2]), rank, ranks, right = 1;
    long        before = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int i = 0; i < N + MOST; i++) x[i] = (float)((i * 7919 + rank * 31) % 1009) - 400, y[i] = 0;
    for (int i = 0; i < n; i++) {
        if (i == n / 10) before = memory();
        one(what, i);
    }
    for (int i = 0; i < N && strcmp(what, "comms") != 0; i += 7) {
        float sum = 0;
        for (int r = 0; r < ranks; r++) sum += (float)((i * 7919 + r * 31) % 1009) - 400;
        float off = y[i] - sum;
        right &= off * off < 1e4f * (float)ranks;
    }
    if (rank == 0) printf("%s %d grown=%.2f right=%d\n", what, n, (double)(memory() - before) / (n - n / 10), right);
    for (int i = 0; i < n && strcmp(what, "many") == 0; i++) MPI_Comm_free(&comm[i]);
    MPI_Finalize();
    return !right;
}
