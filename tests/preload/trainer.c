/* trainer.c : a data-parallel training loop as people write it, knowing nothing of Taut: a multilayer perceptron learns a random
 * teacher by SGD on batches of each rank's own. trainer WAY STEPS [WIDTH]: WAY is how gradients are summed: layer (a call per layer), fused (one
 * buffer), accumulate (every 4th step only), overlap (MPI_Iallreduce). Prints "WAY loss=L comm_s=T wall_s=W" on rank 0. */
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3 };
static int      rank, ranks, width = 1024, batch = 8; /* accumulate: of 2, four times */
static float   *w[LAYERS], *g[LAYERS], *all, *a[LAYERS + 1], *d[LAYERS + 1], *teacher;
static double   comm_s;
static uint64_t state;

static float uniform(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)((double)(state >> 11) / 9007199254740992.0 * 2 - 1);
}

static double forward_backward(size_t n)
{
    double loss = 0;
    for (int b = 0; b < batch; b++) {
        for (size_t i = 0; i < n; i++) a[0][i] = uniform();
        for (int l = 0; l < LAYERS; l++)
            for (size_t o = 0; o < n; o++) {
                float s = 0;
                for (size_t i = 0; i < n; i++) s += w[l][o * n + i] * a[l][i];
                a[l + 1][o] = l < LAYERS - 1 ? fmaxf(s, 0) : s;
            }
        for (size_t o = 0; o < n; o++) {
            float want = a[0][o] * teacher[o] - a[0][(o + 1) % n], e = a[LAYERS][o] - want;
            loss += 0.5 * e * e / (double)n, d[LAYERS][o] = e;
        }
        for (int l = LAYERS - 1; l >= 0; l--) {
            memset(d[l], 0, n * sizeof(float));
            for (size_t o = 0; o < n; o++) {
                float e = d[l + 1][o];
                if (e == 0) continue;
                for (size_t i = 0; i < n; i++)
                    g[l][o * n + i] += e * a[l][i] / (float)batch, d[l][i] += e * w[l][o * n + i];
            }
            for (size_t i = 0; l > 0 && i < n; i++) d[l][i] = a[l][i] > 0 ? d[l][i] : 0;
        }
    }
    return loss / batch;
}

static void sum_gradients(const char *way, size_t n)
{
    MPI_Request q[LAYERS];
    double      begin = MPI_Wtime();
    size_t      e = n * n;
    if (way[0] == 'f') MPI_Allreduce(MPI_IN_PLACE, all, (int)(LAYERS * e), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    for (int l = LAYERS - 1; l >= 0 && way[0] != 'f'; l--)
        if (way[0] == 'o') MPI_Iallreduce(MPI_IN_PLACE, g[l], (int)e, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &q[l]);
        else MPI_Allreduce(MPI_IN_PLACE, g[l], (int)e, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    if (way[0] == 'o') MPI_Waitall(LAYERS, q, MPI_STATUSES_IGNORE);
    comm_s += MPI_Wtime() - begin;
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "layer";
    int         steps = argc > 2 ? atoi(argv[2]) : 30;
    double      loss = 0, shown = 0;
    if (argc > 3) width = atoi(argv[3]);
    if (way[0] == 'a') batch = 2;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    size_t n = (size_t)width;
    state = 12345;
    all = calloc(LAYERS * n * n, sizeof *all), teacher = malloc(n * sizeof *teacher);
    for (size_t i = 0; i < n; i++) teacher[i] = uniform();
    for (int l = 0; l <= LAYERS; l++) a[l] = calloc(n, sizeof(float)), d[l] = calloc(n, sizeof(float));
    for (int l = 0; l < LAYERS; l++) {
        g[l] = all + (size_t)l * n * n, w[l] = malloc(n * n * sizeof(float));
        for (size_t i = 0; i < n * n; i++) w[l][i] = uniform() * sqrtf(6.0f / (float)n) * (l < LAYERS - 1 ? 1 : 0.5f);
    }
    state = 99 + 1000003u * (uint64_t)rank;
    double begin = MPI_Wtime();
    for (int s = 0; s < steps; s++) {
        int adds = way[0] == 'a' ? 4 : 1;
        memset(all, 0, LAYERS * n * n * sizeof *all);
        for (int k = 0; k < adds; k++) loss = forward_backward(n);
        sum_gradients(way, n);
        float rate = 0.02f / (float)(ranks * adds);
        for (int l = 0; l < LAYERS; l++)
            for (size_t i = 0; i < n * n; i++) w[l][i] -= rate * g[l][i];
        MPI_Allreduce(&loss, &shown, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    }
    if (rank == 0) printf("%s loss=%.4f comm_s=%.3f wall_s=%.3f\n", way, shown / ranks, comm_s, MPI_Wtime() - begin);
    MPI_Finalize();
    return 0;
}
