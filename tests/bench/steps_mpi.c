/* steps_mpi.c : steps of a job that something happens to. Every rank says how it ended, and when; sums are compared, bit for bit, with those
 * of a run to which nothing happened.
 *
 *   mpirun -n 3 steps_mpi CODEC STEPS write HASHES      rank 0 writes a hash of each step's results
 *   mpirun -n 3 steps_mpi CODEC STEPS check HASHES LOG  rank R appends to LOG.R: "pid P", "step S" now and then, and at the end one of
 *                                                       "ended S", "failed S SECONDS DELAY STATUS TEXT", "wrong S"
 *
 *   mpirun --enable-recovery -n 3 steps_mpi CODEC STEPS lose RANK STEP [RANK2 US]
 *                                                       that rank kills itself within that step; the others shrink the communicator and go on.
 *                                                       RANK2 kills itself US microseconds after it has begun to shrink, or, US -1, is
 *                                                       stopped where RANK dies. Sums
 *                                                       are held against float64, and so is what residuals carry over.
 *                                                       Rank 0 of them prints one JSON object
 *   ... loseblocking RANK STEP                          the same with taut_allreduce() instead of started layers: ranks are inside MPI's own sum
 *
 * SECONDS is the system's time of day, for comparing with that of the event; DELAY how much of the time since its last step the rank was ready
 * to run and had no processor. A rank that has failed ends without MPI_Finalize, as it
 * would wait there for those that are gone. tests/long/test_moments.sh kills, stops and cuts off ranks of it. */
#include "comm/base/thread.h"
#include "comm/core/communicator.h"
#include "comm/taut_mpi.h"
#include <pthread.h>
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

/* The end of a process that may not wait in MPI_Finalize. What it has executed is counted all the same, in a coverage build. */
#ifdef TAUT_COVERAGE
void __gcov_dump(void);
#endif
static _Noreturn void leave(int code)
{
#ifdef TAUT_COVERAGE
    __gcov_dump();
#endif
    _exit(code);
}

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

static taut_status step(taut_comm *comm, taut_layer **layer, bool blocking)
{
    taut_status s = TAUT_OK;
    for (int i = LAYERS - 1; i >= 0 && s == TAUT_OK; i--)
        s = blocking ? taut_allreduce(layer[i], gradient[i], TAUT_MEAN)
                     : taut_allreduce_start(layer[i], gradient[i], TAUT_MEAN);
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
    leave(3);
}

/* ---- a rank that is lost, and those who go on without it ---- */

enum { TRIES = 4, DRAIN = 25 };

typedef struct losing {
    const char *codec;
    long        steps, when;
    int         lost, second, after_us;
    bool        blocking;
    int         rank, ranks;
    int         n, member[64]; /* survivors */
    long        pid[64];
    MPI_Comm    mpi;
    float      *residual[LAYERS];         /* of this rank, at the end of the last step; NULL: none */
    double     *in[LAYERS], *out[LAYERS]; /* all that went in, and came out, since */
} losing;

static bool same_everywhere(MPI_Comm mpi)
{
    uint64_t h = hash(0), both[2] = {h, ~h};
    MPI_Allreduce(MPI_IN_PLACE, both, 2, MPI_UINT64_T, MPI_MAX, mpi);
    return both[0] == ~both[1];
}

static bool close_to(const double *x, const double *right, size_t n, double most)
{
    double err = 0, norm = 0;
    for (size_t k = 0; k < n; k++) err += (x[k] - right[k]) * (x[k] - right[k]), norm += right[k] * right[k];
    return err <= most * norm + 1e-12;
}

/* What one layer's results may be off: codec=auto spends its budget on whatever layers it likes. Of one with feedback there is no bound: see balanced(). */
static double most_off(const losing *s) { return strcmp(s->codec, "auto") == 0 ? 2 : 0.1; }
static bool   owes(taut_layer *l) { return l->operand.feedback_on || l->operand.residual; }

/* The results of a step: the same bytes on all ranks, and, but for layers that owe something, the mean of float64; all layers together as far off as the
 * communicator says. */
static bool right_sums(losing *s, taut_comm *comm, taut_layer **layer, long at)
{
    bool            right = same_everywhere(s->mpi), owed = false;
    double          error = 0, norm = 0;
    taut_comm_stats q = {.size = sizeof q};
    taut_comm_get_stats(comm, &q);
    double *x = malloc(MOST * sizeof *x), *mean = malloc(MOST * sizeof *mean);
    float  *result[LAYERS];
    for (int i = 0; i < LAYERS; i++) {
        result[i] = malloc(elements(i) * sizeof **result);
        memcpy(result[i], gradient[i], elements(i) * sizeof **result);
    }
    for (int i = 0; i < LAYERS; i++) {
        memset(mean, 0, MOST * sizeof *mean);
        for (int r = 0; r < s->n; r++) {
            fill(s->member[r], at);
            for (size_t k = 0; k < elements(i); k++) mean[k] += (double)gradient[i][k] / s->n;
        }
        for (size_t k = 0; k < elements(i); k++) {
            x[k] = (double)result[i][k];
            s->in[i][k] += mean[k], s->out[i][k] += x[k];
            error += (x[k] - mean[k]) * (x[k] - mean[k]), norm += mean[k] * mean[k];
        }
        owed |= owes(layer[i]);
        right &= owes(layer[i]) || close_to(x, mean, elements(i), most_off(s));
        free(result[i]);
    }
    free(x), free(mean);
    bool as_told = owed || error <= (1.2 * q.rel_err2_high + 1e-9) * norm;
    if (!right || !as_told)
        fprintf(stderr, "rank %d, step %ld: |error|^2 %g of the mean's, %g to %g reported\n", s->rank, at, error / norm,
                q.rel_err2_low, q.rel_err2_high);
    return right && as_told;
}

/* With nothing put in, what comes out is what was waiting. */
static taut_status drain(losing *s, taut_comm *comm, taut_layer **layer)
{
    taut_status status = TAUT_OK;
    for (int k = 0; k < DRAIN && status == TAUT_OK; k++) {
        for (int i = 0; i < LAYERS; i++) memset(gradient[i], 0, elements(i) * sizeof **gradient);
        status = step(comm, layer, s->blocking);
        for (int i = 0; i < LAYERS; i++)
            for (size_t e = 0; e < elements(i); e++) s->out[i][e] += (double)gradient[i][e];
    }
    return status;
}

/* What has come out, and what still waits, is what went in: nothing is lost, and nothing comes twice. Layers without feedback err by what their
 * codec loses, which adds up like noise. */
static bool balanced(const losing *s, taut_layer **layer)
{
    bool    even = true;
    double *all = malloc(MOST * sizeof *all);
    for (int i = 0; i < LAYERS; i++) {
        bool waits = layer[i]->operand.residual;
        for (size_t k = 0; k < elements(i); k++) all[k] = waits ? (double)layer[i]->operand.feedback->r[k] / s->n : 0;
        MPI_Allreduce(MPI_IN_PLACE, all, (int)elements(i), MPI_DOUBLE, MPI_SUM, s->mpi);
        for (size_t k = 0; k < elements(i); k++) all[k] += s->out[i][k];
        if (close_to(all, s->in[i], elements(i), owes(layer[i]) ? 1e-8 : most_off(s))) continue;
        fprintf(stderr, "rank %d, layer %d: what came out is not what went in\n", s->rank, i);
        even = false;
    }
    free(all);
    return even;
}

static void keep_residuals(losing *s, taut_layer **layer)
{
    for (int i = 0; i < LAYERS; i++) {
        size_t bytes = elements(i) * sizeof(float);
        if (!layer[i]->operand.residual) continue;
        if (!s->residual[i]) s->residual[i] = malloc(bytes);
        memcpy(s->residual[i], layer[i]->operand.feedback->r, bytes);
    }
}

/* What waits on all survivors goes in; it is to come out: of a mean of all who were there, residuals go on to stand for what they stood for. */
static void expect_residuals(losing *s)
{
    for (int i = 0; i < LAYERS; i++) {
        s->in[i] = calloc(elements(i), sizeof **s->in), s->out[i] = calloc(elements(i), sizeof **s->out);
        for (size_t k = 0; k < elements(i) && s->residual[i]; k++) s->in[i][k] = (double)s->residual[i][k] / s->ranks;
        MPI_Allreduce(MPI_IN_PLACE, s->in[i], (int)elements(i), MPI_DOUBLE, MPI_SUM, s->mpi);
    }
}

static void *end_soon(void *us)
{
    usleep((unsigned)*(int *)us);
    raise(SIGKILL);
    return NULL;
}

static taut_status shrink(losing *s, taut_comm *comm, taut_comm **smaller, taut_survivors *who)
{
    pthread_t   thread;
    taut_status status = TAUT_E_STATE;
    if (s->rank == s->second && s->after_us >= 0) pthread_create(&thread, NULL, end_soon, &s->after_us);
    for (int k = 0; k < TRIES && status != TAUT_OK; k++) {
        status = taut_comm_shrink(comm, smaller, who);
        if (status != TAUT_OK) fprintf(stderr, "rank %d, shrinking: %s\n", s->rank, taut_last_error());
    }
    return status;
}

static int report(losing *s, const taut_survivors *who, taut_status status, int wrong, const char *error)
{
    if (status != TAUT_OK)
        fprintf(stderr, "rank %d, afterwards: %s: %s\n", s->rank, taut_status_name(status), taut_last_error());
    if (who->rank == 0)
        printf("{\"ranks\": %d, \"lost\": %d, \"lost_rank\": %d, \"steps\": %llu, \"wrong\": %d, \"status\": \"%s\", "
               "\"lost_norm2\": %g, \"residual_norm2\": %g, \"error\": \"%s\"}\n",
               who->ranks, who->lost, who->lost_rank[0], (unsigned long long)who->steps, wrong,
               taut_status_name(status), who->lost_norm2, who->residual_norm2, error);
    fflush(stdout);
    return status == TAUT_OK && wrong == 0 ? 0 : 1;
}

static taut_status until_lost(losing *s, taut_comm *comm, taut_layer **layer)
{
    taut_status status = TAUT_OK;
    for (long at = 0; at < s->steps && status == TAUT_OK; at++) {
        fill(s->rank, at);
        if (s->rank == s->lost && at == s->when) {
            if (!s->blocking) (void)taut_allreduce_start(layer[0], gradient[0], TAUT_MEAN);
            raise(SIGKILL);
        }
        if (s->rank == s->second && s->after_us < 0 && at == s->when) raise(SIGSTOP);
        status = step(comm, layer, s->blocking);
        if (status == TAUT_OK) keep_residuals(s, layer);
    }
    return status;
}

static int lose(losing *s)
{
    taut_comm     *comm, *smaller;
    taut_layer    *layer[LAYERS];
    taut_survivors who = TAUT_SURVIVORS_INIT;
    char           error[256] = "";
    int            wrong = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &s->ranks);
    s->pid[s->rank] = (long)getpid();
    MPI_Allgather(MPI_IN_PLACE, 1, MPI_LONG, s->pid, 1, MPI_LONG, MPI_COMM_WORLD);
    taut_status status = create(s->codec, &comm, layer);
    if (status == TAUT_OK) status = until_lost(s, comm, layer);
    snprintf(error, sizeof error, "%s", taut_last_error());
    if (status == TAUT_OK || status == TAUT_E_MISMATCH || (status = shrink(s, comm, &smaller, &who)) != TAUT_OK ||
        (status = taut_comm_mpi(smaller, &s->mpi)) != TAUT_OK) {
        fprintf(stderr, "rank %d: %s: %s\n", s->rank, taut_status_name(status), taut_last_error());
        leave(1);
    }
    for (int r = 0, k = 0; r < s->ranks; r++) {
        if (k < who.lost && who.lost_rank[k] == r) k++;
        else s->member[s->n++] = r;
    }
    for (int i = 0; i < LAYERS; i++) layer[i] = taut_comm_layer(smaller, (size_t)i);
    expect_residuals(s);
    status = drain(s, smaller, layer);
    wrong += !balanced(s, layer);
    for (long at = (long)who.steps; at < s->steps && status == TAUT_OK; at++) {
        fill(s->rank, at);
        status = step(smaller, layer, s->blocking);
        if (status == TAUT_OK) wrong += !right_sums(s, smaller, layer, at);
    }
    if (status == TAUT_OK) status = drain(s, smaller, layer);
    wrong += !balanced(s, layer);
    int code = report(s, &who, status, wrong, error);
    MPI_Barrier(s->mpi);
    taut_comm_destroy(smaller);
    taut_comm_destroy(comm);
    if (who.rank == 0 && s->second >= 0 && s->after_us < 0) kill((pid_t)s->pid[s->second], SIGKILL); /* it is stopped */
    leave(code); /* MPI_Finalize might wait for the one that is gone */
}

int main(int argc, char **argv)
{
    int         provided, rank;
    taut_comm  *comm = NULL;
    taut_layer *layer[LAYERS];
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if ((argc == 6 || argc == 8) && strncmp(argv[3], "lose", 4) == 0) {
        losing s = {.codec = argv[1], .steps = atol(argv[2]), .lost = atoi(argv[4]), .when = atol(argv[5])};
        s.rank = rank, s.blocking = strcmp(argv[3], "loseblocking") == 0;
        s.second = argc == 8 ? atoi(argv[6]) : -1, s.after_us = argc == 8 ? atoi(argv[7]) : -1;
        for (int i = 0; i < LAYERS; i++) gradient[i] = malloc(elements(i) * sizeof **gradient);
        return lose(&s);
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
        if ((s = step(comm, layer, false)) != TAUT_OK) return failed(s, at, comm);
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
