/* test_contracts_mpi.c : contracts that need MPI: communicators that are none, settings that differ, ranks that are absent or leave,
 * children, messages that MPI gives up, replicas on a mesh. test_mpi.sh runs it under mpirun with different rank counts and
 * thread levels; on its own it is the case of one rank.  test_contracts_mpi [funneled|multiple] */
#include "comm/core/communicator.h"
#include "comm/transport/data.h"
#include "comm/taut_mpi.h"
#include "tests/support/ranks.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 200, COLS = 150, N = ROWS * COLS, TIMEOUT_MS = 40000 };
static const double AT_ONCE_S = 10; /* far below the timeout, far above what a loaded machine takes */

static int   rank, size, passed, failed;
static float x[N], y[N];

static taut_status two_layers(taut_comm *comm, taut_layer **a, taut_layer **b)
{
    TAUT_TRY(taut_layer_register(comm, "a", TAUT_F32, 2, (size_t[]){ROWS, COLS}, a));
    return taut_layer_register(comm, "b", TAUT_F32, 2, (size_t[]){ROWS, COLS}, b);
}

static taut_status first_step(taut_comm *comm, taut_layer *a, taut_layer *b)
{
    TAUT_TRY(taut_allreduce(a, x, TAUT_SUM));
    TAUT_TRY(taut_allreduce(b, y, TAUT_SUM));
    return taut_step_end(comm);
}

static taut_status works(MPI_Comm mpi, const taut_config *cfg)
{
    taut_comm  *comm;
    taut_layer *a, *b;
    TAUT_TRY(taut_comm_create_mpi(mpi, cfg, &comm));
    taut_status s = two_layers(comm, &a, &b);
    if (s == TAUT_OK) s = first_step(comm, a, b);
    taut_comm_destroy(comm);
    return s;
}

/* ---- communicators that are none ---- */

static taut_status no_member(taut_config *cfg)
{
    MPI_Comm   sub;
    taut_comm *comm = (taut_comm *)(void *)x;
    bool       member = rank == 0;
    MPI_Comm_split(MPI_COMM_WORLD, member ? 0 : MPI_UNDEFINED, 0, &sub);
    if (member) {
        taut_status s = works(sub, cfg);
        MPI_Comm_free(&sub);
        return s;
    }
    NEED(taut_comm_create_mpi(sub, cfg, &comm) == TAUT_E_INVALID && comm == NULL);
    NEED(strstr(taut_last_error(), "MPI_COMM_NULL"));
    return TAUT_OK;
}

static taut_status between_groups(taut_config *cfg)
{
    MPI_Comm   half, inter;
    taut_comm *comm;
    if (size < 2) return TAUT_OK;
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half);
    MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - rank % 2, 5, &inter);
    taut_status s = taut_comm_create_mpi(inter, cfg, &comm);
    bool        told = strstr(taut_last_error(), "intercommunicator") != NULL;
    MPI_Comm_free(&inter);
    MPI_Comm_free(&half);
    NEED(s == TAUT_E_INVALID && told);
    return works(MPI_COMM_WORLD, cfg);
}

/* ---- settings ---- */

static taut_status one_differs(const taut_config *cfg, const char *here, const char *there)
{
    taut_comm  *comm;
    char        who[32];
    taut_status s = taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &comm);
    if (s == TAUT_OK) taut_comm_destroy(comm);
    if (size == 1) return TAUT_OK;
    snprintf(who, sizeof who, "rank %d has %s", size - 1, there);
    NEED(s == TAUT_E_MISMATCH && comm == NULL);
    NEED(strstr(taut_last_error(), here) && strstr(taut_last_error(), who));
    return TAUT_OK;
}

static taut_status settings(taut_config *cfg)
{
    bool odd = rank == size - 1;
    for (int i = 0; i < 5; i++) {
        static const char *const text[][2] = {{"TAUT_METRIC=optimizer", "TAUT_METRIC=plain"},
                                              {"TAUT_REPLAN_STEPS=50", "TAUT_REPLAN_STEPS=2"},
                                              {"TAUT_HIERARCHY=auto", "TAUT_HIERARCHY=off"},
                                              {"TAUT_FAKE_HOSTS=0", "TAUT_FAKE_HOSTS=2"},
                                              {"TAUT_SEED=1", "TAUT_SEED=18446744073709551615"}};
        taut_config              c = *cfg;
        if (odd && i == 0) c.metric = "plain";
        if (odd && i == 1) c.replan_steps = 2;
        if (odd && i == 2) c.hierarchy = "off";
        if (odd && i == 3) setenv("TAUT_FAKE_HOSTS", "2", 1);
        if (odd && i == 4) c.seed = UINT64_MAX;
        taut_status s = one_differs(&c, text[i][0], text[i][1]);
        unsetenv("TAUT_FAKE_HOSTS");
        TAUT_TRY(s);
    }
    taut_config c = *cfg;
    taut_comm  *comm;
    if (odd) c.budget = "rel=7"; /* wrong on one rank: an error on all */
    NEED(taut_comm_create_mpi(MPI_COMM_WORLD, &c, &comm) != TAUT_OK && comm == NULL);
    return works(MPI_COMM_WORLD, cfg);
}

/* ---- absence ---- */

static taut_status absent(taut_config *cfg, int how)
{
    taut_comm  *comm;
    taut_layer *a, *b, *only;
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &comm));
    TAUT_TRY(two_layers(comm, &a, &b));
    TAUT_TRY(first_step(comm, a, b));
    double begin = taut__now();
    if (how == 2 && rank == 0) {
        taut_comm_destroy(comm);
        return TAUT_OK;
    }
    if (how == 0 && rank == 0) TAUT_TRY(taut_layer_register(comm, "only", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &only));
    taut_status s = how == 2 ? taut_allreduce(a, x, TAUT_SUM) : taut_allreduce_start(a, x, TAUT_SUM);
    if (how == 1 && rank != 0) s = taut_allreduce_start(b, y, TAUT_SUM);
    if (s == TAUT_OK) s = taut_step_end(comm);
    double seconds = taut__now() - begin;
    char   text[512];
    snprintf(text, sizeof text, "%s", taut_last_error());
    taut_comm_destroy(comm);
    if (size == 1) return s;
    NEED(seconds < AT_ONCE_S);
    if (s != (how == 2 ? TAUT_E_PEER : TAUT_E_MISMATCH) ||
        !strstr(text, how == 0   ? "'only'"
                      : how == 1 ? "'b'"
                                 : "'a'") ||
        !strstr(text, "rank 0"))
        return taut__fail(TAUT_E_INVALID, "how=%d: %s: %s", how, taut_status_name(s), text);
    return TAUT_OK;
}
static taut_status late_layer(taut_config *cfg) { return absent(cfg, 0); }
static taut_status skipped_layer(taut_config *cfg) { return absent(cfg, 1); }
static taut_status gone_rank(taut_config *cfg) { return absent(cfg, 2); }

/* Communicators come and go, each rank in its own time: what one rank says as it leaves disturbs no later communicator. */
static taut_status come_and_go(taut_config *cfg)
{
    for (int i = 0; i < 40; i++) {
        if (i % size == rank) usleep(3000);
        TAUT_TRY(works(MPI_COMM_WORLD, cfg));
    }
    return TAUT_OK;
}

/* ---- children ---- */

static taut_status children(taut_config *cfg)
{
    taut_comm  *comm;
    taut_layer *a, *b;
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &comm));
    TAUT_TRY(two_layers(comm, &a, &b));
    for (int i = 0; i < 3; i++) {
        TAUT_TRY(taut_allreduce_start(a, x, TAUT_SUM));
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) { /* as a data loader's: it ends without a word to MPI */
            alarm(20);
            bool told = taut_wait(a) == TAUT_E_STATE;
            taut_comm_destroy(comm);
            exit(told ? 0 : 1);
        }
        TAUT_TRY(taut_step_end(comm));
        int status = -1;
        waitpid(pid, &status, 0);
        NEED(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    taut_comm_destroy(comm);
    return TAUT_OK;
}

/* ---- a message that MPI gives up: an error, and the job goes on ---- */

static _Atomic bool break_messages;
int                 MPI_Testsome(int n, MPI_Request r[], int *count, int index[], MPI_Status status[])
{
    int rc = PMPI_Testsome(n, r, count, index, status);
    if (!break_messages || rc != MPI_SUCCESS || *count <= 0)
        return rc; /* what has finished is MPI_REQUEST_NULL by now */
    for (int i = 0; i < *count; i++) status[i].MPI_ERROR = i == *count - 1 ? MPI_ERR_TRUNCATE : MPI_SUCCESS;
    return MPI_ERR_IN_STATUS;
}

static taut_status broken_messages(taut_config *cfg)
{
    taut_comm  *comm;
    taut_layer *a, *b;
    if (size == 1) return TAUT_OK;
    TAUT_TRY(taut_comm_create_mpi(MPI_COMM_WORLD, cfg, &comm));
    TAUT_TRY(two_layers(comm, &a, &b));
    TAUT_TRY(first_step(comm, a, b));
    MPI_Barrier(MPI_COMM_WORLD); /* all are through with it */
    break_messages = rank == 0;
    taut_status s = taut_allreduce(a, x, TAUT_SUM);
    if (s == TAUT_OK) s = taut_step_end(comm);
    break_messages = false;
    taut_comm_destroy(comm);
    NEED(rank == 0 ? s == TAUT_E_TRANSPORT : s == TAUT_E_PEER);
    return TAUT_OK;
}

/* ---- a mesh: two groups of two reduce the same data; their clocks differ, their plans must not ---- */

enum { MESH_LAYERS = 5, MESH_STEPS = 36, MESH_COLS = 128 };

static void mesh_gradient(float *g, int replica, int layer, int step)
{
    float by = (layer % 3 + 1) * (step > 20 ? 3.0f : 1.0f);
    for (size_t i = 0; i < ROWS * MESH_COLS; i++) g[i] = by * ranks_value(replica, i + (size_t)layer * 77, step);
}

static bool same_as_twin(const void *mine, void *theirs, size_t bytes, int twin)
{
    MPI_Sendrecv(mine, (int)bytes, MPI_BYTE, twin, 3, theirs, (int)bytes, MPI_BYTE, twin, 3, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    return memcmp(mine, theirs, bytes) == 0;
}

static taut_status mesh_steps(taut_comm *comm, const char *objective)
{
    static float    g[MESH_LAYERS][ROWS * MESH_COLS], other[ROWS * MESH_COLS];
    taut_layer     *l[MESH_LAYERS];
    taut_comm_stats st = {.size = sizeof st}, theirs;
    int             plans = 0, sums = 0;
    for (int i = 0; i < MESH_LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "m%d", i);
        TAUT_TRY(taut_layer_register(comm, name, TAUT_F32, 2, (size_t[]){ROWS, MESH_COLS}, &l[i]));
    }
    for (int step = 0; step < MESH_STEPS; step++) {
        for (int i = 0; i < MESH_LAYERS; i++) {
            mesh_gradient(g[i], rank / 2, i, step);
            TAUT_TRY(taut_allreduce_start(l[i], g[i], TAUT_MEAN));
            if (rank % 2) usleep(500 * (unsigned)(step % 7)); /* this group's steps take longer */
        }
        TAUT_TRY(taut_step_end(comm));
        TAUT_TRY(taut_comm_get_stats(comm, &st));
        plans += !same_as_twin(&st.plan_hash, &theirs.plan_hash, sizeof st.plan_hash,
                               rank ^ 1); /* no return: the twin waits */
        for (int i = 0; i < MESH_LAYERS; i++) sums += !same_as_twin(g[i], other, sizeof g[i], rank ^ 1);
    }
    if (plans || sums) return taut__fail(TAUT_E_MISMATCH, "%s: %d plans and %d sums differ", objective, plans, sums);
    NEED(st.plans >= 1 && st.plan_hash != 0);
    NEED(strcmp(objective, "bytes") != 0 || st.bytes_sent < st.bytes_dense); /* a plan that does something */
    return TAUT_OK;
}

static taut_status mesh(taut_config *cfg)
{
    if (size != 4) return TAUT_OK;
    MPI_Comm group;
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &group);
    for (int i = 0; i < 3; i++) {
        static const char *const objective[] = {"bytes", "time", "time"}, *const link[] = {"1gbit", "100mbit",
                                                                                           "10gbit"};
        taut_config c = *cfg;
        taut_comm  *comm;
        c.codec = "auto", c.objective = objective[i], c.link = link[i], c.replan_steps = 6, c.audit_steps = 7;
        TAUT_TRY(taut_comm_create_mpi(group, &c, &comm));
        taut_status s = mesh_steps(comm, objective[i]);
        taut_comm_destroy(comm);
        TAUT_TRY(s);
    }
    MPI_Comm_free(&group);
    return TAUT_OK;
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

/* ---- the data half over MPI: groups of messages, and what a CUDA-aware MPI is asked for ---- */

static taut_status data_group(taut__transport *t, taut__data *d, int group)
{
    enum { MOST = 64, BYTES = 3001 };
    static char out[MOST][BYTES], in[MOST][BYTES];
    bool        ready = false;
    double      begin = taut__now();
    for (int q = 0; q < size; q++) memset(out[q], rank * 7 + q + group, BYTES);
    TAUT_TRY(d->ops->group_begin(d, (taut_place){0}));
    for (int i = 1; i < size; i++) {
        int q = (rank + i) % size, n = 1 + (rank * 911 + q * 37 + group) % BYTES,
            from = 1 + (q * 911 + rank * 37 + group) % BYTES;
        TAUT_TRY(d->ops->send(d, q, out[q], (size_t)n));
        TAUT_TRY(d->ops->recv(d, q, in[q], (size_t)from));
    }
    TAUT_TRY(d->ops->group_end(d));
    while (!ready) {
        TAUT_TRY(t->ops->poll(t));
        TAUT_TRY(d->ops->ready(d, &ready));
        if (taut__now() - begin > AT_ONCE_S) return taut__fail(TAUT_E_TIMEOUT, "group %d: never ready", group);
    }
    for (int q = 0; q < size; q++)
        if (q != rank) NEED(in[q][0] == (char)(q * 7 + rank + group));
    return TAUT_OK;
}

static taut_status data_half(taut_config *cfg)
{
    taut__transport *t;
    taut__data      *d;
    taut_comm       *comm;
    MPI_Comm         world = MPI_COMM_WORLD;
    TAUT_TRY(taut__mpi_create(&world, 0, &t));
    TAUT_TRY(taut__data_messages(t, 5, 2 * (size_t)size, true, &d));
    for (int group = 0; group < 10; group++) TAUT_TRY(data_group(t, d, group));
    d->ops->destroy(d);
    t->ops->destroy(t);
    TAUT_TRY(taut_comm_create_mpi(world, cfg, &comm));
    taut_status s = taut_comm_open_cuda_mpi(comm);
    if (s == TAUT_E_UNSUPPORTED && strstr(taut_last_error(), "MPI"))
        s = works(world, cfg); /* as all ranks say, and the communicator goes on */
    taut_comm_destroy(comm);
    return s;
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
    cfg.timeout_ms = TIMEOUT_MS;
    run("MPI_COMM_NULL", no_member, &cfg);
    run("an intercommunicator", between_groups, &cfg);
    run("settings that differ", settings, &cfg);
    run("communicators come and go", come_and_go, &cfg);
    run("children", children, &cfg);
    run("a mesh", mesh, &cfg);
    run("a layer on one rank alone", late_layer, &cfg);
    run("a layer that one rank skips", skipped_layer, &cfg);
    run("a rank that has gone", gone_rank, &cfg);
    run("the data half", data_half, &cfg);
    run("broken messages", broken_messages, &cfg);
    if (rank == 0) printf("%d passed, %d failed\n", passed, failed);
    MPI_Finalize();
    return failed != 0;
}
