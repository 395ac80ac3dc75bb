/* soak_mpi.c : a long job on few numbers, in which everything changes but the memory that it takes.
 *
 *   mpirun -n 4 soak_mpi STEPS
 *
 * Every step takes part of the layers; every 250 steps the communicator is destroyed and another one made, with another codec or budget,
 * into which the state of the one before is loaded. Every 100 steps sums are compared with float64. Prints one JSON object: the most
 * and the least resident memory (MiB) and descriptors of any rank's from step 500 on (all settings have been there once), and how many sums were
 * wrong. tests/long/test_soak.sh runs it with injected delays. */
#include "comm/taut_mpi.h"
#include <dirent.h>
#include <malloc.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 6, MOST = 96 * 64, PERIOD = 250, CHECK = 100, SETTINGS = 8, WARM = SETTINGS * PERIOD };
static const size_t shape[LAYERS][2] = {{96, 64}, {1, 64}, {64, 64}, {40, 33}, {1, 200}, {96, 20}};
static const struct {
    const char *codec, *budget;
    double      most; /* rel_err2 that a sum may have */
} setting[SETTINGS] = {{"auto", "rel=0.05", 0.3},
                       {"quant:bits=8", NULL, 0.001},
                       {"auto", "like:quant:bits=4", 0.3},
                       {"grid:rel=0.02", NULL, 0.06},
                       {"none", NULL, 1e-10},
                       {"auto", "rel=0.01", 0.1},
                       {"fp16", NULL, 1e-5},
                       {"stack:quant:bits=4+quant:bits=4", NULL, 0.01}};

static int    rank, ranks;
static float *gradient[LAYERS];
static size_t elements(int i) { return shape[i][0] * shape[i][1]; }

static float value(int r, int i, size_t k, long step)
{
    uint32_t h = ((uint32_t)k * 2654435761u ^ (uint32_t)(step * 40503 + r * 977 + i)) * 2246822519u;
    return (float)((double)(h >> 8) / 8388608.0 - 1.0);
}

static bool takes_part(int i, long step) { return (step * 7 + i * 3) % 5 != 0 || step % PERIOD < 2; }

static void must(taut_status s, const char *what, long step)
{
    if (s == TAUT_OK) return;
    fprintf(stderr, "rank %d, step %ld: %s: %s: %s\n", rank, step, what, taut_status_name(s), taut_last_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static double resident_mib(void)
{
    unsigned long all = 0, pages = 0;
    FILE         *f = fopen("/proc/self/statm", "r");
    malloc_trim(0);
    if (!f || fscanf(f, "%lu %lu", &all, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1048576.0;
}

static int descriptors(void)
{
    int  n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static void open_comm(long step, taut_comm **comm, taut_layer **layer)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    long        k = step / PERIOD % SETTINGS;
    cfg.codec = setting[k].codec;
    cfg.budget = setting[k].budget;
    cfg.link = "1gbit";
    cfg.small_elems = 128;
    must(taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, comm), "create", step);
    for (int i = 0; i < LAYERS; i++) {
        char name[2] = {(char)('a' + i), 0};
        must(taut_layer_register(*comm, name, TAUT_F32, shape[i][0] == 1 ? 1 : 2, shape[i] + (shape[i][0] == 1),
                                 &layer[i]),
             "register", step);
    }
}

/* Into a communicator of other settings: what it can use of it. */
static void change(long step, taut_comm **comm, taut_layer **layer)
{
    size_t n = 0;
    void  *blob;
    must(taut_state_save(*comm, NULL, 0, &n), "save", step);
    blob = malloc(n);
    must(taut_state_save(*comm, blob, n, &n), "save", step);
    taut_comm_destroy(*comm);
    open_comm(step, comm, layer);
    must(taut_state_load(*comm, blob, n), "load", step);
    free(blob);
}

static long wrong(long step)
{
    long bad = 0;
    for (int i = 0; i < LAYERS; i++) {
        double err = 0, norm = 0;
        if (!takes_part(i, step)) continue;
        for (size_t k = 0; k < elements(i); k++) {
            double sum = 0;
            for (int r = 0; r < ranks; r++) sum += (double)value(r, i, k, step);
            err += ((double)gradient[i][k] - sum) * ((double)gradient[i][k] - sum), norm += sum * sum;
        }
        if (err <= setting[step / PERIOD % SETTINGS].most * norm) continue;
        fprintf(stderr, "rank %d, step %ld, layer %d: rel_err2 %g\n", rank, step, i, err / norm);
        bad++;
    }
    return bad;
}

static void run_step(long step, taut_comm *comm, taut_layer **layer)
{
    for (int i = 0; i < LAYERS; i++) {
        if (!takes_part(i, step)) continue;
        for (size_t k = 0; k < elements(i); k++) gradient[i][k] = value(rank, i, k, step);
        must(taut_allreduce_start(layer[i], gradient[i], TAUT_SUM), "start", step);
    }
    must(taut_step_end(comm), "step end", step);
}

int main(int argc, char **argv)
{
    int         provided;
    taut_comm  *comm;
    taut_layer *layer[LAYERS];
    double      seen[4] = {-1e9, -1e9, -1e9, -1e9}, all[4], errors = 0,
           sums = 0; /* most and minus least of MiB, of descriptors */
    long steps = argc > 1 ? atol(argv[1]) : 20000;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int i = 0; i < LAYERS; i++) gradient[i] = malloc(MOST * sizeof **gradient);
    open_comm(0, &comm, layer);
    double first = 0, last = 0;
    for (long step = 0; step < steps; step++) {
        if (step > 0 && step % PERIOD == 0) change(step, &comm, layer);
        run_step(step, comm, layer);
        if (step % CHECK == CHECK - 1) errors += (double)wrong(step), sums++;
        if (step < WARM || step % CHECK != CHECK - 1) continue;
        double mib = resident_mib(), fds = descriptors(), x[4] = {mib, -mib, fds, -fds};
        for (int i = 0; i < 4; i++) seen[i] = fmax(seen[i], x[i]);
        if (step < 2 * WARM) first = fmax(first, mib);
        if (step >= steps - WARM) last = fmax(last, mib);
    }
    taut_comm_destroy(comm);
    double grown[2] = {last - first, first - last}, most[2];
    MPI_Reduce(seen, all, 4, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(grown, most, 2, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(rank == 0 ? MPI_IN_PLACE : &errors, &errors, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("{\"ranks\": %d, \"steps\": %ld, \"checked\": %g, \"wrong\": %g, \"mib_most\": %.2f, \"mib_least\": "
               "%.2f, \"mib_grown\": %.2f, \"fds_most\": %g, \"fds_least\": %g}\n",
               ranks, steps, sums, errors, all[0], -all[1], fmax(most[0], most[1]), all[2], -all[3]);
    MPI_Finalize();
    return 0;
}
