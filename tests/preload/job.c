/* job.c : a program that knows nothing of Taut. job MODE STEPS [LAYERS [ELEMENTS]]: sums noise whose exact sum every rank
 * computes itself, in double, since it knows everybody's seed. Prints one line on rank 0:
 *   MODE calls=C small=S worst=E        E: the largest squared relative error of a sum; small sums must be exact
 * Exits with 1 if ranks hold different bytes, a small sum is wrong, or a call fails. */
#include <math.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16 };
static int    rank, ranks, layers = 3, bad;
static size_t n = 65536;
static float *g[MOST], *out[MOST];
static double worst, *exact;
static long   calls, small_calls;

static float noise(uint32_t i, uint32_t seed)
{
    uint64_t x = (uint64_t)seed << 32 | i;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u, x = (x ^ (x >> 27)) * 0x94d049bb133111ebu, x ^= x >> 31;
    return (float)((int64_t)(x & 0xffffffff) - 0x80000000ll) / 2147483648.0f + (float)((int64_t)(x >> 32) - 0x80000000ll) / 2147483648.0f;
}
static uint32_t seed_of(int step, int layer, int r) { return (uint32_t)(step * 1000 + layer * 37 + r + 1); }
static void fill(int step, int l)
{
    for (size_t i = 0; i < n; i++) g[l][i] = noise((uint32_t)i, seed_of(step, l, rank));
}
static void check(const float *x, int step, int l, size_t first, size_t count)
{
    double e = 0, w = 0;
    for (size_t i = 0; i < count; i++) {
        exact[i] = 0;
        for (int r = 0; r < ranks; r++) exact[i] += noise((uint32_t)(first + i), seed_of(step, l, r));
        e += (x[i] - exact[i]) * (x[i] - exact[i]), w += exact[i] * exact[i];
    }
    if (e / w > worst || !(e / w == e / w)) worst = e / w;
}
static void same_everywhere(const float *x, size_t count)
{
    uint64_t h = 1469598103934665603u, all[2];
    for (size_t i = 0; i < count; i++) {
        uint32_t b;
        memcpy(&b, x + i, 4);
        h = (h ^ b) * 1099511628211u;
    }
    all[0] = h, all[1] = ~h;
    MPI_Bcast(all, 2, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    bad |= all[0] != h;
}
static void small_sum(int step)
{
    double d[2] = {step + rank, 1}, want = (double)step * ranks + ranks * (ranks - 1) / 2.0;
    int    i = rank, most;
    bad |= MPI_Allreduce(MPI_IN_PLACE, d, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS || d[0] != want;
    MPI_Allreduce(&i, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    bad |= most != ranks - 1;
    small_calls += 2;
}

/* ---- one step of each mode ---- */

static void step_block(int step, MPI_Comm comm)
{
    for (int l = 0; l < layers; l++) bad |= MPI_Allreduce(MPI_IN_PLACE, g[l], (int)n, MPI_FLOAT, MPI_SUM, comm) != MPI_SUCCESS, calls++;
    for (int l = 0; l < layers; l++) check(g[l], step, l, 0, n), same_everywhere(g[l], n);
}
static void step_out(int step)
{
    for (int l = 0; l < layers; l++) {
        float before = g[l][n / 2];
        bad |= MPI_Allreduce(g[l], out[l], (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS, calls++;
        bad |= g[l][n / 2] != before; /* the input is the program's */
        check(out[l], step, l, 0, n), same_everywhere(out[l], n);
    }
}
static void finish(int how, int count, MPI_Request *q)
{
    int flag = 0, index, done, list[MOST];
    MPI_Status status, all[MOST];
    switch (how % 8) {
    case 0: MPI_Waitall(count, q, all); break;
    case 1: for (int i = count - 1; i >= 0; i--) MPI_Wait(&q[i], &status); break;
    case 2: for (int i = 0; i < count; i++) MPI_Waitany(count, q, &index, MPI_STATUS_IGNORE); break;
    case 3: for (int left = count; left > 0; left -= done) MPI_Waitsome(count, q, &done, list, MPI_STATUSES_IGNORE); break;
    case 4: while (!flag) MPI_Testall(count, q, &flag, MPI_STATUSES_IGNORE); break;
    case 5: for (int i = 0; i < count; i++) for (flag = 0; !flag;) MPI_Test(&q[i], &flag, &status); break;
    case 6: for (int left = count; left > 0; left -= flag && index != MPI_UNDEFINED) MPI_Testany(count, q, &index, &flag, &status); break;
    case 7: for (int left = count; left > 0; left -= done > 0 ? done : 0) MPI_Testsome(count, q, &done, list, MPI_STATUSES_IGNORE); break;
    }
    for (int i = 0; i < count; i++) bad |= q[i] != MPI_REQUEST_NULL;
}
static void step_nonblocking(int step)
{
    MPI_Request q[MOST];
    for (int l = 0; l < layers; l++)
        bad |= MPI_Iallreduce(l % 2 ? g[l] : MPI_IN_PLACE, l % 2 ? out[l] : g[l], (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &q[l]) != MPI_SUCCESS, calls++;
    finish(step, layers, q);
    for (int l = 0; l < layers; l++) check(l % 2 ? out[l] : g[l], step, l, 0, n), same_everywhere(l % 2 ? out[l] : g[l], n);
}
/* One rank waits before it lets another one go on: nobody may wait for peers inside a wait that MPI would have finished. */
static void step_token(int step)
{
    MPI_Request q;
    char        token = 0;
    MPI_Iallreduce(MPI_IN_PLACE, g[0], (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &q), calls++;
    if (rank > 0) MPI_Recv(&token, 1, MPI_CHAR, rank - 1, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Wait(&q, MPI_STATUS_IGNORE);
    if (rank < ranks - 1) MPI_Send(&token, 1, MPI_CHAR, rank + 1, 7, MPI_COMM_WORLD);
    check(g[0], step, 0, 0, n);
}
static void step_scatter(int step, int vector)
{
    int    counts[64], part = (int)(n / (size_t)ranks);
    size_t first = (size_t)part * (size_t)rank;
    for (int r = 0; r < ranks; r++) counts[r] = part;
    for (int l = 0; l < layers; l++) {
        int rc = vector ? MPI_Reduce_scatter(g[l], out[l], counts, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD)
                        : MPI_Reduce_scatter_block(g[l], out[l], part, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        bad |= rc != MPI_SUCCESS, calls++;
        check(out[l], step, l, first, (size_t)part);
    }
}
/* From step 15 on rank 0 has one buffer at an odd address: MPI takes it, Taut does not, and the other ranks cannot know. */
static void step_odd_rank(int step)
{
    static char *odd;
    if (!odd) odd = malloc(4 * n + 1);
    for (int l = 0; l < layers; l++) {
        int   shifted = step >= 15 && step % 3 == 0 && rank == 0 && l == 1;
        void *to = shifted ? odd + 1 : (char *)out[l];
        bad |= MPI_Allreduce(g[l], to, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS, calls++;
        if (shifted) memcpy(out[l], to, 4 * n);
        check(out[l], step, l, 0, n), same_everywhere(out[l], n);
    }
}
/* An error of the program: ranks give other counts. What plain MPI makes of that is its business; nothing may hang. */
static void step_counts(int step)
{
    int odd = step >= 15 && rank == 0;
    MPI_Allreduce(MPI_IN_PLACE, g[0], (int)(odd ? n / 2 : n), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD), calls++;
}
/* The sequence changes for good, on all ranks. */
static void step_changing(int step)
{
    int order[3] = {0, 1, 2};
    if (step >= 20) order[0] = 2, order[2] = 0;
    for (int k = 0; k < layers; k++) {
        int l = layers == 3 ? order[k] : k;
        size_t m = l == 0 ? n / 2 : n;
        bad |= MPI_Allreduce(MPI_IN_PLACE, g[l], (int)m, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS, calls++;
        if (step % 7 == 6 && k == 1) small_sum(step);
        check(g[l], step, l, 0, m);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "block";
    int         steps = argc > 2 ? atoi(argv[2]) : 30, all_bad;
    MPI_Comm    other = MPI_COMM_NULL;
    if (argc > 3) layers = atoi(argv[3]);
    if (argc > 4) n = (size_t)atol(argv[4]);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank), MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    exact = malloc(n * sizeof *exact);
    for (int l = 0; l < layers; l++) g[l] = malloc(n * 4), out[l] = malloc(n * 4);
    for (int step = 0; step < steps; step++) {
        for (int l = 0; l < layers; l++) fill(step, l);
        if (strcmp(mode, "comms") == 0 && step % 10 == 0) {
            if (other != MPI_COMM_NULL) MPI_Comm_free(&other);
            MPI_Comm_dup(MPI_COMM_WORLD, &other);
        }
        if (strcmp(mode, "block") == 0) step_block(step, MPI_COMM_WORLD);
        else if (strcmp(mode, "comms") == 0) step_block(step, other);
        else if (strcmp(mode, "out") == 0) step_out(step);
        else if (strcmp(mode, "nonblocking") == 0) step_nonblocking(step);
        else if (strcmp(mode, "token") == 0) step_token(step);
        else if (strcmp(mode, "scatter") == 0) step_scatter(step, 0);
        else if (strcmp(mode, "scatterv") == 0) step_scatter(step, 1);
        else if (strcmp(mode, "changing") == 0) step_changing(step);
        else if (strcmp(mode, "odd-rank") == 0) step_odd_rank(step);
        else if (strcmp(mode, "counts") == 0) step_counts(step);
        else bad = 1;
        if (strcmp(mode, "changing") != 0) small_sum(step);
    }
    if (other != MPI_COMM_NULL) MPI_Comm_free(&other);
    MPI_Allreduce(&bad, &all_bad, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0) printf("%s calls=%ld small=%ld worst=%.3e%s\n", mode, calls, small_calls, worst, all_bad ? " BAD" : "");
    MPI_Finalize();
    return all_bad;
}
