/* test_ranks_mpi.c : the communicator over MPI. test_mpi.sh runs it under mpirun with different rank counts and thread levels; on
 * its own it is the case of one rank.  test_ranks_mpi [funneled|multiple] */
#include "comm/core/communicator.h"
#include "comm/taut_mpi.h"
#include "tests/support/ranks.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static int rank, size, passed, failed;

#define NEED(cond)                                                                                            \
    do {                                                                                                      \
        if (!(cond)) return taut__fail(TAUT_E_INVALID, "line %d: %s", __LINE__, #cond);                       \
    } while (0)

static taut_status same_everywhere(const void *p, size_t bytes)
{
    uint64_t h = XXH3_64bits(p, bytes), ends[2] = {h, ~h}, top[2];
    MPI_Allreduce(ends, top, 2, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
    return top[0] == h && top[1] == ~h ? TAUT_OK : taut__fail(TAUT_E_MISMATCH, "ranks hold different bytes");
}

static double error_of(const float *x, size_t n, int step)
{
    double err = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double exact = ranks_sum(size, i, step), d = (double)x[i] - exact;
        err += d * d, norm += exact * exact;
    }
    return err / norm;
}

enum { ROWS = 900, COLS = 211, N = ROWS * COLS };
static float x[N], y[N];

static void fill(float *dst, int step)
{
    for (size_t i = 0; i < N; i++) dst[i] = ranks_value(rank, i, step);
}

/* ---- cases: every rank returns its status ---- */

static const struct {
    const char *spec;
    double      error;
} codecs[] = {{"none", 1e-12}, {"fp16", 1e-6}, {"quant:bits=8", 0.01}, {"grid:rel=0.02", 0.022}, {"topk:density=0.1", 1},
              {"powersgd:rank=4", 1.3}, {"stack:topk:density=0.01+quant:bits=8", 0.05}};

static taut_status codec_case(taut_comm *comm, int i)
{
    taut_layer *l;
    TAUT_TRY(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut_layer_codec(l, codecs[i].spec));
    for (int step = 0; step < 4; step++) {
        fill(x, step);
        if (step % 2) {
            TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        } else {
            TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
            TAUT_TRY(taut_step_end(comm));
        }
        TAUT_TRY(same_everywhere(x, sizeof x));
        if (step == 0) NEED(size == 1 || error_of(x, N, step) <= codecs[i].error);
    }
    return taut_step_end(comm);
}

static taut_status all_codecs(taut_config *cfg)
{
    for (int i = 0; i < (int)(sizeof codecs / sizeof *codecs); i++) {
        taut_comm *comm;
        TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &comm));
        taut_status s = codec_case(comm, i);
        taut_comm_destroy(comm);
        if (s != TAUT_OK) fprintf(stderr, "%s\n", codecs[i].spec);
        TAUT_TRY(s);
    }
    return TAUT_OK;
}

/* Messages and collectives of the program, and of a second communicator, between start and wait. */
static taut_status foreign(taut_config *cfg)
{
    taut_comm  *a, *b;
    taut_layer *la, *lb;
    int         to = (rank + 1) % size, from = (rank + size - 1) % size, got, token;
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &a));
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &b));
    TAUT_TRY(taut_layer_register(a, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &la));
    TAUT_TRY(taut_layer_register(b, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &lb));
    for (int step = 0; step < 5; step++) {
        fill(x, step), fill(y, step + 1);
        TAUT_TRY(taut_allreduce_start(rank % 2 ? la : lb, rank % 2 ? x : y, TAUT_SUM));
        for (token = 0; token < 20; token++) { /* the same tags as ours, if tags were shared */
            MPI_Sendrecv(&token, 1, MPI_INT, to, token, &got, 1, MPI_INT, from, token, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            NEED(got == token);
        }
        TAUT_TRY(taut_allreduce_start(rank % 2 ? lb : la, rank % 2 ? y : x, TAUT_SUM));
        MPI_Barrier(MPI_COMM_WORLD);
        TAUT_TRY(taut_step_end(a));
        TAUT_TRY(taut_step_end(b));
        TAUT_TRY(same_everywhere(x, sizeof x));
        TAUT_TRY(same_everywhere(y, sizeof y));
        NEED(error_of(x, N, step) < 0.01 && error_of(y, N, step + 1) < 0.01);
    }
    taut_comm_destroy(a);
    taut_comm_destroy(b);
    return TAUT_OK;
}

/* Some ranks wait inside taut_allreduce while others only start: they must find each other. */
static taut_status mixed_calls(taut_config *cfg)
{
    taut_comm  *comm;
    taut_layer *l;
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &comm));
    TAUT_TRY(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut_layer_codec(l, "none"));
    for (int step = 0; step < 4; step++) {
        fill(x, step);
        if ((rank + step) % 2) {
            TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        } else {
            TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
            TAUT_TRY(taut_wait(l));
        }
        TAUT_TRY(same_everywhere(x, sizeof x));
        NEED(error_of(x, N, step) < 1e-12);
    }
    taut_comm_destroy(comm);
    return TAUT_OK;
}

/* Integer codes: whatever carries them, the same bits. */
static taut_status exact_sums(taut_config *cfg)
{
    static const char *const algorithm[] = {"sra", "ring", "gather", "native"};
    uint64_t                 first = 0;
    for (int i = 0; i < 4; i++) {
        taut_comm  *comm;
        taut_layer *l;
        taut_config c = *cfg;
        c.algorithm = algorithm[i];
        c.codec = "none";
        TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, &c, &comm));
        TAUT_TRY(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
        TAUT_TRY(taut_layer_codec(l, "grid:rel=0.03"));
        fill(x, 0);
        TAUT_TRY(taut_allreduce(l, x, TAUT_MEAN));
        TAUT_TRY(same_everywhere(x, sizeof x));
        uint64_t h = XXH3_64bits(x, sizeof x);
        NEED(i == 0 || h == first);
        first = h;
        taut_comm_destroy(comm);
    }
    return TAUT_OK;
}

static taut_status disagree(taut_config *cfg)
{
    taut_comm  *comm;
    taut_layer *l;
    size_t      cols = COLS - (size_t)(rank == size - 1);
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &comm));
    TAUT_TRY(taut_layer_register(comm, "odd", TAUT_F32, 2, (size_t[]){ROWS, cols}, &l));
    taut_status s = taut_allreduce(l, x, TAUT_SUM);
    NEED(size == 1 ? s == TAUT_OK : s == TAUT_E_MISMATCH);
    NEED(size == 1 || strstr(taut_last_error(), "'odd'"));
    taut_comm_destroy(comm);
    return TAUT_OK;
}

/* The last rank goes away for longer than the timeout, in the middle of a step. */
static taut_status stopped(taut_config *cfg)
{
    taut_comm  *comm;
    taut_layer *l;
    taut_config c = *cfg;
    if (size == 1) return TAUT_OK;
    c.timeout_ms = 700;
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, &c, &comm));
    TAUT_TRY(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    if (rank == size - 1) usleep(2500 * 1000);
    double      begin = taut__now();
    taut_status s = taut_allreduce(l, x, TAUT_SUM);
    if (s == TAUT_OK) s = taut_step_end(comm);
    NEED(s == TAUT_E_TIMEOUT || s == TAUT_E_PEER);
    NEED(taut__now() - begin < 10);
    taut_comm_destroy(comm);
    return TAUT_OK;
}

/* Stands before the MPI's, so that a rank can stop inside. */
static bool stop_inside;
int MPI_Allreduce(const void *in, void *out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    if (stop_inside) raise(SIGSTOP);
    return PMPI_Allreduce(in, out, n, type, op, comm);
}

/* The last rank stops inside the MPI's own sum; the others cannot leave theirs. Does not return where the library ends the job. */
static void stuck(taut_config cfg)
{
    enum { HEAVY = 1 << 18 };
    taut_comm  *comm;
    taut_layer *l;
    float      *big = calloc(HEAVY, sizeof *big);
    cfg.timeout_ms = 1000;
    cfg.codec = "none";
    if (taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &comm) != TAUT_OK) return;
    if (taut_layer_register(comm, "heavy", TAUT_F32, 2, (size_t[]){512, 512}, &l) != TAUT_OK) return;
    if (taut_allreduce(l, big, TAUT_SUM) != TAUT_OK) return;
    stop_inside = rank == size - 1;
    taut_allreduce(l, big, TAUT_SUM);
}

static void run(const char *name, taut_status (*test)(taut_config *), taut_config *cfg)
{
    taut_status s = test(cfg);
    int         mine = s == TAUT_OK, all;
    if (!mine) fprintf(stderr, "rank %d of %d: %s: %s\n", rank, size, name, taut_last_error());
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    passed += all;
    failed += !all;
}

int main(int argc, char **argv)
{
    bool        funneled = argc > 1 && strcmp(argv[1], "funneled") == 0;
    int         level;
    taut_config cfg = TAUT_CONFIG_INIT;
    MPI_Init_thread(&argc, &argv, funneled ? MPI_THREAD_FUNNELED : MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    cfg.codec = "quant:bits=8";
    cfg.timeout_ms = 60000;
    if (argc > 2 && strcmp(argv[2], "stuck") == 0) {
        stuck(cfg);
        MPI_Finalize();
        return 0;
    }
    run("all codecs", all_codecs, &cfg);
    run("foreign traffic", foreign, &cfg);
    run("blocking here, started there", mixed_calls, &cfg);
    run("exact sums", exact_sums, &cfg);
    run("different layers", disagree, &cfg);
    run("a stopped rank", stopped, &cfg);
    if (rank == 0) printf("%d passed, %d failed\n", passed, failed);
    MPI_Finalize();
    return failed != 0;
}
