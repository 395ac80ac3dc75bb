/* steps_mpi.c : steps of a job that something happens to. Every rank says how it ended, and when; sums are compared, bit for bit, with those
 * of a run to which nothing happened.
 *
 *   mpirun -n 3 steps_mpi CODEC STEPS write HASHES      rank 0 writes a hash of each step's results
 *   mpirun -n 3 steps_mpi CODEC STEPS check HASHES LOG  rank R appends to LOG.R: "pid P", "step S" now and then, and at the end one of
 *                                                       "ended S", "failed S SECONDS DELAY STATUS TEXT", "wrong S"
 *
 *   mpirun --enable-recovery -n 3 steps_mpi CODEC STEPS lose RANK STEP
 *                                                       that rank kills itself within that step; the others shrink the communicator and go on.
 *                                                       Rank 0 of them prints one JSON object. Sums are held against float64
 *
 * SECONDS is the system's time of day, for comparing with that of the event; DELAY how much of the time since its last step the rank was ready
 * to run and had no processor. A rank that has failed ends without MPI_Finalize, as it
 * would wait there for those that are gone. tests/long/test_moments.sh kills, stops and cuts off ranks of it. */
#include "comm/base/run_delay.h"
#include "comm/taut_mpi.h"
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum { LAYERS = 5, MOST = 400 * 300 };
static const size_t shape[LAYERS][2] = {{120, 100}, {400, 300}, {1, 90}, {64, 64}, {1, 500}};

static float *gradient[LAYERS];
static FILE  *out;
static double delay; /* until the last step's end */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t elements(int i) { return shape[i][0] * shape[i][1]; }

static void fill(int rank, long step)
{
    for (int i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < elements(i); k++) {
            uint32_t h = ((uint32_t)k * 2654435761u ^ (uint32_t)(step * 40503 + rank * 977 + i)) * 2246822519u;
            gradient[i][k] = (float)((double)(h >> 8) / 8388608.0 - 1.0) * (k % 61 == 0 ? 8.0f : 1.0f);
        }
}

static uint64_t hash(uint64_t h)
{
    for (int i = 0; i < LAYERS; i++) h = XXH3_64bits_withSeed(gradient[i], elements(i) * sizeof **gradient, h);
    return h;
}

static taut_status create(const char *codec, taut_comm **comm, taut_layer **layer)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    taut_status s;
    cfg.codec = codec;
    if ((s = taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, comm)) != TAUT_OK) return s;
    for (int i = 0; i < LAYERS && s == TAUT_OK; i++) {
        char name[2] = {(char)('a' + i), 0};
        s = taut_layer_register(*comm, name, TAUT_F32, shape[i][0] == 1 ? 1 : 2, shape[i] + (shape[i][0] == 1),
                                &layer[i]);
    }
    return s;
}

static taut_status step(taut_comm *comm, taut_layer **layer)
{
    taut_status s = TAUT_OK;
    for (int i = LAYERS - 1; i >= 0 && s == TAUT_OK; i--) s = taut_allreduce_start(layer[i], gradient[i], TAUT_MEAN);
    return s == TAUT_OK ? taut_step_end(comm) : s;
}

static void say(const char *what, long step_)
{
    if (out) fprintf(out, "%s %ld\n", what, step_), fflush(out);
}

static int failed(taut_status s, long at, taut_comm *comm)
{
    if (out)
        fprintf(out, "failed %ld %.3f %.3f %s %s\n", at, now(), taut__run_delay_s() - delay, taut_status_name(s),
                taut_last_error()),
            fflush(out);
    taut_comm_destroy(comm);
    if (out) fclose(out);
    _exit(3);
}

/* ---- a rank that is lost, and those who go on without it ---- */

static bool right_sums(const int *who, int n, long at, MPI_Comm mpi)
{
    int      same = 1;
    double   err = 0, norm = 0;
    float   *x[LAYERS];
    double  *sum[LAYERS];
    uint64_t h = hash(0), both[2] = {h, ~h};
    MPI_Allreduce(MPI_IN_PLACE, both, 2, MPI_UINT64_T, MPI_MAX, mpi);
    same = both[0] == ~both[1];
    for (int i = 0; i < LAYERS; i++) {
        x[i] = malloc(elements(i) * sizeof **x), sum[i] = calloc(elements(i), sizeof **sum);
        memcpy(x[i], gradient[i], elements(i) * sizeof **x);
    }
    for (int r = 0; r < n; r++) {
        fill(who[r], at);
        for (int i = 0; i < LAYERS; i++)
            for (size_t k = 0; k < elements(i); k++) sum[i][k] += (double)gradient[i][k] / n;
    }
    for (int i = 0; i < LAYERS; i++) {
        for (size_t k = 0; k < elements(i); k++)
            err += ((double)x[i][k] - sum[i][k]) * ((double)x[i][k] - sum[i][k]), norm += sum[i][k] * sum[i][k];
        free(x[i]), free(sum[i]);
    }
    return same && err <= 0.1 * norm;
}

static int lose(const char *codec, long steps, int lost, long when, int rank)
{
    taut_comm     *comm, *smaller;
    taut_layer    *layer[LAYERS];
    taut_survivors who = TAUT_SURVIVORS_INIT;
    MPI_Comm       mpi = MPI_COMM_WORLD;
    int            ranks, n = 0, wrong = 0, member[64];
    taut_status    s = create(codec, &comm, layer);
    MPI_Comm_size(mpi, &ranks);
    for (long at = 0; at < steps && s == TAUT_OK; at++) {
        fill(rank, at);
        if (rank == lost && at == when) {
            (void)taut_allreduce_start(layer[0], gradient[0], TAUT_MEAN);
            raise(SIGKILL);
        }
        s = step(comm, layer);
    }
    if (s == TAUT_OK || s == TAUT_E_MISMATCH || (s = taut_comm_shrink(comm, &smaller, &who)) != TAUT_OK ||
        (s = taut_comm_mpi(smaller, &mpi)) != TAUT_OK) {
        fprintf(stderr, "rank %d: %s: %s\n", rank, taut_status_name(s), taut_last_error());
        _exit(1);
    }
    for (int r = 0; r < ranks; r++)
        if (who.lost != 1 || r != who.lost_rank[0]) member[n++] = r;
    for (int i = 0; i < LAYERS; i++) layer[i] = taut_comm_layer(smaller, (size_t)i);
    for (long at = (long)who.steps; at < steps && s == TAUT_OK; at++) {
        fill(rank, at);
        s = step(smaller, layer);
        if (s == TAUT_OK && at % 5 == 0) wrong += !right_sums(member, n, at, mpi);
    }
    if (s != TAUT_OK) fprintf(stderr, "rank %d, afterwards: %s: %s\n", rank, taut_status_name(s), taut_last_error());
    if (who.rank == 0)
        printf("{\"ranks\": %d, \"lost\": %d, \"lost_rank\": %d, \"steps\": %llu, \"wrong\": %d, \"status\": \"%s\", "
               "\"lost_norm2\": %g, \"residual_norm2\": %g}\n",
               who.ranks, who.lost, who.lost_rank[0], (unsigned long long)who.steps, wrong, taut_status_name(s),
               who.lost_norm2, who.residual_norm2);
    fflush(stdout);
    MPI_Barrier(mpi);
    taut_comm_destroy(smaller);
    taut_comm_destroy(comm);
    _exit(s == TAUT_OK && wrong == 0 ? 0 : 1); /* MPI_Finalize might wait for the one that is gone */
}

int main(int argc, char **argv)
{
    int         provided, rank;
    taut_comm  *comm = NULL;
    taut_layer *layer[LAYERS];
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc == 6 && strcmp(argv[3], "lose") == 0) {
        for (int i = 0; i < LAYERS; i++) gradient[i] = malloc(elements(i) * sizeof **gradient);
        return lose(argv[1], atol(argv[2]), atoi(argv[4]), atol(argv[5]), rank);
    }
    bool     checks = argc == 6 && strcmp(argv[3], "check") == 0, writes = argc == 5 && strcmp(argv[3], "write") == 0;
    FILE    *hashes = checks ? fopen(argv[4], "rb") : writes && rank == 0 ? fopen(argv[4], "wb") : NULL;
    uint64_t h = 0, right;
    if ((!checks && !writes) || (checks && !hashes)) {
        fprintf(stderr, "usage: steps_mpi CODEC STEPS write HASHES | steps_mpi CODEC STEPS check HASHES LOG\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    if (checks) {
        char path[4096];
        snprintf(path, sizeof path, "%s.%d", argv[5], rank);
        out = fopen(path, "w");
        say("pid", (long)getpid());
    }
    for (int i = 0; i < LAYERS; i++) gradient[i] = malloc(elements(i) * sizeof **gradient);
    taut_status s = create(argv[1], &comm, layer);
    if (s != TAUT_OK) return failed(s, -1, comm);
    for (long at = 0, steps = atol(argv[2]); at < steps; at++) {
        fill(rank, at);
        if ((s = step(comm, layer)) != TAUT_OK) return failed(s, at, comm);
        if (out) delay = taut__run_delay_s();
        h = hash(h);
        if (writes && hashes) fwrite(&h, sizeof h, 1, hashes);
        if (checks && fread(&right, sizeof right, 1, hashes) == 1 && right != h) say("wrong", at);
        if (at % 20 == 0) say("step", at);
    }
    say("ended", atol(argv[2]));
    if (hashes) fclose(hashes);
    taut_comm_destroy(comm);
    MPI_Finalize();
    return 0;
}
