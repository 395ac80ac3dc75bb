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

#define NEED(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return taut__fail(TAUT_E_INVALID, "line %d: %s", __LINE__, #cond);                                \
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
} codecs[] = {{"none", 1e-12},
              {"fp16", 1e-6},
              {"quant:bits=8", 0.01},
              {"grid:rel=0.02", 0.022},
              {"topk:density=0.1", 1},
              {"powersgd:rank=4", 1.3},
              {"stack:topk:density=0.01+quant:bits=8", 0.05}};

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
            MPI_Sendrecv(&token, 1, MPI_INT, to, token, &got, 1, MPI_INT, from, token, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE);
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
int         MPI_Allreduce(const void *in, void *out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
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

/* A receive that MPI has matched already is not cancelled. Here none is. */
static bool cancels_nothing;
int         MPI_Cancel(MPI_Request *request) { return cancels_nothing ? MPI_SUCCESS : PMPI_Cancel(request); }
static bool freed_nothing_twice = true;
int         MPI_Request_free(MPI_Request *request)
{
    freed_nothing_twice &= *request != MPI_REQUEST_NULL;
    return PMPI_Request_free(request);
}

/* What MPI may still write into is given up, never freed: the last rank's messages come after the others have gone. */
static taut_status late_messages(taut_config *cfg)
{
    enum { BLOCKS = 200, BYTES = 65536 };
    taut_comm  *comm;
    taut_layer *l;
    uint8_t    *block[BLOCKS];
    taut_config c = *cfg;
    taut_status s;
    size_t      changed = 0;
    if (size == 1) return TAUT_OK;
    c.timeout_ms = 1000; /* to create it, too, on a busy machine */
    c.progress = 2;
    c.slice_kib = 64;
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, &c, &comm));
    TAUT_TRY(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    fill(x, 0);
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    if (rank == size - 1) usleep(3000 * 1000);
    cancels_nothing = true;
    s = taut_allreduce(l, x, TAUT_SUM);
    NEED(s == TAUT_E_TIMEOUT || s == TAUT_E_PEER);
    taut_comm_destroy(comm);
    cancels_nothing = false;
    for (int i = 0; i < BLOCKS; i++) /* what was freed, if anything was, is somebody else's now */
        if ((block[i] = malloc(BYTES))) memset(block[i], 0xa5, BYTES);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0, any; i < 200; i++)
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &any, MPI_STATUS_IGNORE), usleep(500);
    for (int i = 0; i < BLOCKS; i++) {
        for (size_t k = 0; block[i] && k < BYTES; k++) changed += block[i][k] != 0xa5;
        free(block[i]);
    }
    if (changed) return taut__fail(TAUT_E_INVALID, "%zu bytes of freed memory were written to", changed);
    NEED(freed_nothing_twice);
    return TAUT_OK;
}

/* A receive that cannot be cancelled makes the transport dirty; one that can, or has arrived meanwhile, does not. */
static taut_status gives_up_receives(taut_config *cfg)
{
    (void)cfg;
    const MPI_Comm   world = MPI_COMM_WORLD;
    taut__transport *t;
    taut__request    r[2];
    static char      in[2][64];
    if (size == 1) return TAUT_OK;
    TAUT_TRY(taut__mpi_create(&world, 0, &t));
    taut__requests_init(r, 2);
    TAUT_TRY(t->ops->irecv(t, &r[0], (rank + 1) % size, 7, in[0], 64));
    TAUT_TRY(t->ops->irecv(t, &r[1], (rank + 1) % size, 8, in[1], 64));
    t->ops->cancel(t, &r[0]);
    NEED(taut__done(&r[0]) && !t->dirty);
    char  said[512] = "", address[32];
    FILE *log = tmpfile();
    int   err = dup(STDERR_FILENO);
    NEED(log && err >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    cancels_nothing = true;
    t->ops->cancel(t, &r[1]);
    cancels_nothing = false;
    dup2(err, STDERR_FILENO), close(err);
    NEED(taut__done(&r[1]) && t->dirty);
    rewind(log);
    said[fread(said, 1, sizeof said - 1, log)] = 0;
    fclose(log);
    snprintf(address, sizeof address, "%p", (void *)in[1]);
    NEED(strstr(said, address) && strstr(said, "until MPI_Finalize")); /* whose memory it is must know */
    NEED(freed_nothing_twice);
    MPI_Barrier(world);
    t->ops->destroy(t);
    return TAUT_OK;
}

static void run(const char *name, taut_status (*test)(taut_config *), taut_config *cfg)
{
    taut_status s = test(cfg);
    int         mine = s == TAUT_OK, all;
    if (getenv("VERBOSE")) fprintf(stderr, "%.2f %s\n", MPI_Wtime(), name);
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
    run("receives that cannot be cancelled", gives_up_receives, &cfg);
    run("messages after the end", late_messages, &cfg);
    if (rank == 0) printf("%d passed, %d failed\n", passed, failed);
    MPI_Finalize();
    return failed != 0;
}
