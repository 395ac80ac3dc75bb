/* uneven_mpi.c : a training job whose steps differ in length, computing emulated: does codec=auto keep compressing?
 *
 *   launch/lab run 2 10gbit -- build/release/tests/bench/uneven_mpi RHYTHM [STEPS [LAYERS [KiB [COMPUTE_MS [CODEC [overlap]]]]]]
 *
 * Each step computes for COMPUTE_MS and what the rhythm adds, asleep as a host is whose accelerator computes, and sums LAYERS
 * layers, after computing or (overlap) while it goes on. After every EVERY steps the same layers are summed once by communicators of
 * fixed settings, FIXED and none, beside the job's count: what compression is worth there and then. Prints one JSON object: of all
 * steps and of the last hundred the share that was compressed (less than three quarters of the bytes of float32 sent), and the
 * median time of a step's communication, from the moment at which the last rank came, under the job's codec and both settings;
 * with overlap, of the whole step. */
#include "comm/taut_mpi.h"
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STEPS_MAX = 100000, LAYERS_MAX = 256, EVERY = 6, JOB = 0, FIXED = 1, NONE = 2, SETTINGS = 3 };
static const char *const rhythms[] = {"even",     "alternate", "jump",   "drift",        "grow",
                                      "evaluate", "straggler", "random", "random-ranks", NULL};

static int    rank, ranks, steps = 300, layers = 16;
static size_t elems = 1 << 18;
static double compute_s = 0.01;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* In [0, 1), of two numbers. */
static double draw(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u + b + 1;
    for (int i = 0; i < 3; i++) x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9u;
    return (double)(x >> 11) * 0x1p-53;
}

/* Seconds beyond compute_s: the figures are those of jobs that lost their plans. */
static double added(const char *rhythm, int step)
{
    if (strcmp(rhythm, "alternate") == 0) return step % 2 ? 0.06 : 0;
    if (strcmp(rhythm, "jump") == 0) return step >= 60 ? 0.04 : 0;
    if (strcmp(rhythm, "drift") == 0) return 0.02 * (1 + sin(step / 20.0));
    if (strcmp(rhythm, "grow") == 0) return 0.06 * step / steps;
    if (strcmp(rhythm, "evaluate") == 0) return step % 10 == 9 ? 0.1 : 0;
    if (strcmp(rhythm, "straggler") == 0) return step % ranks == rank ? 0.03 : 0;
    if (strcmp(rhythm, "random") == 0) return 2 * compute_s * draw(1, (uint64_t)step);
    if (strcmp(rhythm, "random-ranks") == 0) return 2 * compute_s * draw((uint64_t)rank + 2, (uint64_t)step);
    return 0;
}

static void compute(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&t, NULL);
}

static void must(taut_status s, const char *what)
{
    if (s == TAUT_OK) return;
    fprintf(stderr, "uneven: rank %d: %s: %s\n", rank, what, taut_last_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void bytes(const taut_comm *comm, uint64_t *sent, uint64_t *dense)
{
    taut_comm_stats s = {.size = sizeof s};
    must(taut_comm_get_stats(comm, &s), "statistics");
    *sent = s.bytes_sent, *dense = s.bytes_dense;
}

typedef struct setting {
    const char *codec;
    taut_comm  *comm;
    taut_layer *layer[LAYERS_MAX];
    double      ms[STEPS_MAX]; /* of communication */
    int         n;
} setting;

static setting setting_of[SETTINGS] = {[FIXED] = {.codec = "quant:bits=4"}, [NONE] = {.codec = "none"}};
static float  *source, *buf;
static bool    compressed[STEPS_MAX];

static void open_setting(setting *s)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = s->codec;
    must(taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &s->comm), "communicator");
    for (int l = 0; l < layers; l++) {
        char name[32];
        snprintf(name, sizeof name, "layer%d", l);
        must(taut_layer_register(s->comm, name, TAUT_F32, 2, (size_t[]){256, elems / 256}, &s->layer[l]), "layer");
    }
}

/* seconds of computing; what each rank waits for the last one is no communication: the least of all ranks' times. */
static void one_step(setting *s, double seconds, bool overlap)
{
    double begin, took;
    memcpy(buf, source, elems * (size_t)layers * sizeof *buf);
    if (!overlap) compute(seconds);
    begin = now();
    for (int l = 0; l < layers; l++) {
        float *at = buf + elems * (size_t)l;
        if (overlap) compute(seconds / layers);
        must(overlap ? taut_allreduce_start(s->layer[l], at, TAUT_MEAN) : taut_allreduce(s->layer[l], at, TAUT_MEAN),
             "allreduce");
    }
    must(taut_step_end(s->comm), "step end");
    took = now() - begin;
    MPI_Allreduce(MPI_IN_PLACE, &took, 1, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD);
    s->ms[s->n++] = 1e3 * took;
}

static void fixed_settings(bool overlap)
{
    for (int i = FIXED; i < SETTINGS; i++) one_step(&setting_of[i], compute_s, overlap);
}

static double median(setting *s)
{
    qsort(s->ms, (size_t)s->n, sizeof *s->ms, by_value);
    return s->n ? s->ms[s->n / 2] : 0;
}

static void report(const char *rhythm, bool overlap, double seconds)
{
    int              all = 0, last = 0, n = steps < 100 ? steps : 100;
    double           ms[SETTINGS];
    taut_layer_stats at_end = {.size = sizeof at_end};
    for (int i = 0; i < steps; i++) all += compressed[i], last += compressed[i] && i >= steps - n;
    for (int i = 0; i < SETTINGS; i++) ms[i] = median(&setting_of[i]);
    must(taut_layer_get_stats(setting_of[JOB].layer[0], &at_end), "statistics");
    if (rank != 0) return;
    printf("{\"rhythm\": \"%s\", \"codec\": \"%s\", \"at_end\": \"%s\", \"ranks\": %d, \"layers\": %d, \"bytes\": %zu, "
           "\"overlap\": %s, \"steps\": %d, \"compressed\": %.4f, "
           "\"compressed_last_100\": %.4f, \"communication_ms\": %.3f, \"fixed_ms\": %.3f, \"none_ms\": %.3f, "
           "\"seconds\": %.2f}\n",
           rhythm, setting_of[JOB].codec, at_end.codec, ranks, layers, elems * sizeof(float),
           overlap ? "true" : "false", steps, (double)all / steps, (double)last / n, ms[JOB], ms[FIXED], ms[NONE],
           seconds);
}

int main(int argc, char **argv)
{
    const char *rhythm = argc > 1 ? argv[1] : "even";
    bool        overlap = argc > 7 && strcmp(argv[7], "overlap") == 0;
    int         level, known = 0;
    if (argc > 2) steps = atoi(argv[2]);
    if (argc > 3) layers = atoi(argv[3]);
    if (argc > 4) elems = (size_t)atoi(argv[4]) * 256;
    if (argc > 5) compute_s = 1e-3 * atof(argv[5]);
    setting_of[JOB].codec = argc > 6 ? argv[6] : "auto";
    while (rhythms[known] && strcmp(rhythms[known], rhythm) != 0) known++;
    if (!rhythms[known] || steps < 1 || steps > STEPS_MAX || layers < 1 || layers > LAYERS_MAX || elems < 256) {
        fprintf(stderr,
                "uneven: RHYTHM '%s', STEPS %d, LAYERS %d: must be even, alternate, jump, drift, grow, evaluate, "
                "straggler, random or random-ranks; 1..%d; 1..%d\n",
                rhythm, steps, layers, STEPS_MAX, LAYERS_MAX);
        return 2;
    }
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int i = 0; i < SETTINGS; i++) open_setting(&setting_of[i]);
    source = malloc(elems * (size_t)layers * sizeof *source);
    buf = malloc(elems * (size_t)layers * sizeof *buf);
    if (!source || !buf) MPI_Abort(MPI_COMM_WORLD, 1);
    for (size_t i = 0; i < elems * (size_t)layers; i++) { /* Laplacian */
        double u = draw((uint64_t)rank + 1000, i) - 0.5;
        source[i] = (float)(copysign(log(1 - 2 * fabs(u) + 1e-12), u) * 1e-3);
    }
    double begin = now();
    for (int i = 0; i < steps; i++) {
        uint64_t sent[2], dense[2];
        bytes(setting_of[JOB].comm, &sent[0], &dense[0]);
        one_step(&setting_of[JOB], compute_s + added(rhythm, i), overlap);
        bytes(setting_of[JOB].comm, &sent[1], &dense[1]);
        compressed[i] = 4 * (sent[1] - sent[0]) < 3 * (dense[1] - dense[0]);
        if (i % EVERY == EVERY - 1) fixed_settings(overlap);
    }
    report(rhythm, overlap, now() - begin);
    for (int i = 0; i < SETTINGS; i++) taut_comm_destroy(setting_of[i].comm);
    free(source);
    free(buf);
    MPI_Finalize();
    return 0;
}
