/* graph_mpi.c : a step captured into a CUDA graph, by NCCL itself, on ranks of MPI that share a GPU or have one each: replays with other gradients must bring
 * the sums that the same step brings by messages on the host. For `make check-gpu`; where there is no device it says so and fails. */
#include "../../comm/taut_mpi.h"
#include "../../comm/taut_nccl.h"
#include "../../compressors/cuda/cuda.h"
#include "../../compressors/vectors.h"
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 1 << 18, REPLAYS = 8 };

static int fail(const char *what)
{
    fprintf(stderr, "graph: %s: %s\n", what, taut_last_error());
    MPI_Abort(MPI_COMM_WORLD, 1);
    return 1;
}
#define MUST(expr)                                                                                                     \
    if ((expr) != TAUT_OK) return fail(#expr)

static void fill(float *x, int rank, int step)
{
    for (size_t i = 0; i < N; i++)
        x[i] = (float)((double)(taut__mix64(i * 37 + (uint64_t)(step * 16 + rank) * 1000003) >> 11) * 0x1p-52 - 1);
}

static int step_on_host(taut_comm *comm, taut_layer *l, float *x)
{
    MUST(taut_allreduce(l, x, TAUT_MEAN));
    MUST(taut_step_end(comm));
    return 0;
}

static int run(const char *spec, int rank, double *worst)
{
    static float      here[N], there[N];
    taut_config       cfg = TAUT_CONFIG_INIT;
    taut_comm        *host, *device;
    taut_layer       *a, *b;
    const char       *why = NULL;
    const taut__cuda *c = taut__cuda_get(&why);
    taut_place        place = {.space = TAUT_CUDA};
    void             *x = NULL, *graph = NULL;
    if (!c) return fprintf(stderr, "graph: no CUDA device: %s\n", why), 1;
    const taut__space *space = taut__memory_of(TAUT_CUDA);
    cfg.algorithm = "sra";
    MUST(taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &host));
    MUST(taut_comm_create_mpi(MPI_COMM_WORLD, &cfg, &device));
    MUST(taut_layer_register(host, "w", TAUT_F32, 1, (size_t[]){N}, &a));
    MUST(taut_layer_register(device, "w", TAUT_F32, 1, (size_t[]){N}, &b));
    MUST(taut_layer_codec(a, spec));
    MUST(taut_layer_codec(b, spec));
    MUST(taut_comm_open_nccl(device, 0));
    MUST(space->stream_create(&place));
    MUST(space->alloc(place, sizeof here, &x));
    *worst = 0;
    for (int step = 0; step < REPLAYS; step++) {
        fill(here, rank, step), fill(there, rank, step);
        if (step_on_host(host, a, here)) return 1;
        MUST(space->copy(place, x, there, sizeof there));
        if (step == 1) {
            MUST(taut_graph_prepare(b));
            MUST(c->device->capture_begin(place.stream));
            MUST(taut_allreduce_start_on(b, x, TAUT_MEAN, TAUT_CUDA, 0, place.stream));
            MUST(c->device->capture_end(place.stream, &graph));
        }
        if (step == 0) MUST(taut_allreduce_start_on(b, x, TAUT_MEAN, TAUT_CUDA, 0, place.stream));
        if (step > 0) MUST(c->device->graph_launch(graph, place.stream));
        if (step > 0) MUST(taut_graph_launched(b, place.stream));
        MUST(taut_step_end(device));
        MUST(space->copy(place, there, x, sizeof there));
        MUST(space->wait(place));
        for (size_t i = 0; i < N; i++) {
            double d = (double)here[i] - (double)there[i];
            if (d < 0) d = -d;
            if (d > *worst) *worst = d;
        }
    }
    c->device->graph_destroy(graph);
    space->release(place, x);
    space->stream_destroy(place);
    taut_comm_destroy(device), taut_comm_destroy(host);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const specs[] = {"fp16", "quant:bits=4,round=nearest", "grid:step=0.02", "topk:density=0.01"};
    int                      rank = 0, bad = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (size_t k = 0; k < sizeof specs / sizeof *specs && !bad; k++) {
        double worst = 0;
        bool   failed = run(specs[k], rank, &worst) != 0;
        bad = failed || worst > 0;
        if (rank == 0 && !failed)
            printf("%-28s %d replays, largest difference from the host's sums: %g\n", specs[k], REPLAYS - 1, worst);
    }
    MPI_Finalize();
    return bad;
}
