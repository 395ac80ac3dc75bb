/* bad.c : programs with a mistake in them, and ends that come early. bad WHAT: 14 right steps, then from step 14 on
 *   counts     rank 0 sums half as much          types      rank 0 sums floats, the others ints
 *   swap       rank 0 makes a small and a large call in the other order
 *   order      rank 0 takes its buffers in another order, which MPI allows: sums of what was put in
 *   null       all ranks give no buffer, or only the one for what goes in or for what comes out, once: errors, then everything goes on
 *   inull      the same of a non-blocking sum    icounts    as counts, of non-blocking sums
 *   exit, kill the last rank leaves, without MPI_Finalize
 *   abort      rank 0 calls MPI_Abort            finalize   sums are under way in MPI_Finalize
 * Prints "WHAT done worst=E" on rank 0 if it gets to the end. What plain MPI makes of a mistake is its business; nothing may hang that
 * does not hang there. */
#include <math.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 3, STEPS = 24, WRONG = 14, N = 24576 };
static int   rank, ranks;
static float g[LAYERS][N], in[LAYERS][N];

static float value(int r, int l, int step, int i)
{
    return sinf((float)(i % 977) * 1.7f + (float)(r * 31 + l * 7 + step * 3)) +
           0.3f * (float)((i * 7919 + r * 104729) % 1000) / 1000;
}
static int layer_of(const char *what, int r, int k, int step)
{
    return strcmp(what, "order") == 0 && step >= WRONG && r == 0 ? LAYERS - 1 - k : k;
}

static double error_of(const char *what, int k, int step)
{
    double e = 0, w = 0;
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int r = 0; r < ranks; r++) sum += value(r, layer_of(what, r, k, step), step, i);
        double d = g[layer_of(what, rank, k, step)][i] - sum;
        e += d * d, w += sum * sum;
    }
    return e / w;
}

static void leave(const char *what)
{
    if (strcmp(what, "exit") == 0 && rank == ranks - 1) exit(0);
    if (strcmp(what, "kill") == 0 && rank == ranks - 1) raise(SIGKILL);
    if (strcmp(what, "abort") == 0 && rank == 0) MPI_Abort(MPI_COMM_WORLD, 7);
}

static int null_buffers(int behind_request)
{
    MPI_Request q;
    int         bad = 0;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int k = 0; k < 3 && !behind_request; k++)
        bad += MPI_Allreduce(k == 1 ? in[0] : NULL, k == 2 ? g[0] : NULL, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) !=
               MPI_SUCCESS;
    if (behind_request) bad = MPI_Iallreduce(NULL, NULL, N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &q) != MPI_SUCCESS;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    return bad;
}

static void sum(const char *what, float *x, int count, MPI_Datatype type)
{
    MPI_Request q;
    if (what[0] != 'i') MPI_Allreduce(MPI_IN_PLACE, x, count, type, MPI_SUM, MPI_COMM_WORLD);
    else MPI_Iallreduce(MPI_IN_PLACE, x, count, type, MPI_SUM, MPI_COMM_WORLD, &q), MPI_Wait(&q, MPI_STATUS_IGNORE);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "none";
    double      worst = 0, one = 1;
    int         errors = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int step = 0; step < STEPS; step++) {
        int          wrong = step >= WRONG, count = N;
        MPI_Datatype type = MPI_FLOAT;
        if (wrong) leave(what);
        if (step == WRONG && strstr(what, "null")) errors += null_buffers(what[0] == 'i');
        if (wrong && rank == 0 && strstr(what, "counts")) count = N / 2;
        if (wrong && rank == 0 && strcmp(what, "types") == 0) type = MPI_INT;
        for (int k = 0; k < LAYERS; k++) {
            int l = layer_of(what, rank, k, step);
            for (int i = 0; i < N; i++) g[l][i] = value(rank, l, step, i);
            if (wrong && rank == 0 && k == 1 && strcmp(what, "swap") == 0)
                MPI_Allreduce(MPI_IN_PLACE, &one, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            sum(what, g[l], count, type);
            double e = error_of(what, k, step);
            worst = fmax(worst, wrong && strcmp(what, "types") == 0 ? 0 : e);
        }
        if (!(wrong && rank == 0 && strcmp(what, "swap") == 0))
            MPI_Allreduce(MPI_IN_PLACE, &one, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    }
    if (strcmp(what, "finalize") == 0)
        for (int l = 0; l < LAYERS; l++) {
            MPI_Request lost;
            memcpy(in[l], g[l], sizeof in[l]);
            MPI_Iallreduce(in[l], g[l], N, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &lost);
        }
    if (rank == 0) printf("%s done worst=%.3e errors=%d\n", what, worst, errors), fflush(stdout);
    MPI_Finalize();
    return 0;
}
