/* bench_allreduce.h : what the two halves of `taut bench allreduce` share: the job, and one timed collective of all ranks. */
#ifndef TAUT_BENCH_ALLREDUCE_H
#define TAUT_BENCH_ALLREDUCE_H

#include "../comm/taut_mpi.h"
#include "cli.h"
#include "json.h"

enum { BENCH_REPEAT_MAX = 10000, BENCH_CHUNK = 1 << 18 };

typedef struct bench_result {
    const char *codec;
    size_t      bytes;
    double      median_ms, native_ms, step_ms, rel_err2, bits;
    double      mean_us[3]; /* means over the repetitions: over ranks, of the fastest rank, of the slowest */
    uint64_t    wire_bytes;
    bool        identical;
    int         repeats;
    char        algorithm[16], in_force[96];
} bench_result;

typedef struct bench_place bench_place; /* bench_place_mpi.c */

typedef struct bench_job {
    cli_list    codecs, inputs;
    bool        every, json, regret, nccl;
    const char *device; /* "host", "cuda" or "cuda:N" */
    cli_range   sizes;
    const char *algorithm, *hierarchy, *feedback, *budget, *format;
    int64_t     repeat, warmup, threads;
    uint64_t    seed;
    double      seconds;

    int    rank, ranks;
    float *x,
        *buf; /* this rank's input of the largest size; the buffer that is reduced, or what came of it on a device */
    bench_place *at;     /* NULL: the buffer is on the host */
    double      *exact;  /* the sum of all ranks' x, on rank 0 */
    double       own_ms; /* of this rank's last taut_allreduce */
    double      *ms[3];  /* native, allreduce, allreduce and step end; BENCH_REPEAT_MAX each */
    size_t       printed;
    json_t      *results;
} bench_job;

/* Every rank brings its status; all leave with the same one. The lowest failing rank prints. A communicator whose
 * peers are lost cannot agree on anything, so that ends the job. Returns an exit code. */
int bench_agree(bench_job *j, taut_status s, const char *what);

/* ---- bench_place_mpi.c: where the buffer lies. On the host these are plain calls. ---- */
bool        bench_place_device(const char *device,
                               int        *number); /* "cuda", "cuda:N": the number (NULL: only whether it is one) */
int         bench_place_open(bench_job *j);  /* all ranks leave with the same exit code */
void        bench_place_close(bench_job *j);
taut_status bench_place_attach(bench_job *j, taut_comm *comm);
taut_status bench_place_put(bench_job *j, size_t n); /* x, to be reduced */
taut_status bench_place_get(bench_job *j, size_t n); /* the result, in buf */
taut_status bench_place_native(bench_job *j, size_t n);
taut_status bench_place_taut(bench_job *j, taut_layer *layer);

/* One collective of the first n floats of j->x, copied to j->buf before; milliseconds of the slowest rank. */
void bench_native_once(bench_job *j, size_t n, double *ms);
int  bench_taut_once(bench_job *j, taut_comm *comm, taut_layer *layer, size_t n, double *ms, double *step_ms);
bool bench_same_everywhere(const float *buf, size_t n);
/* Squared error of j->buf against the exact sum of j->x over ranks, relative to that sum; on rank 0. */
double bench_error_of_sum(const bench_job *j, size_t n);
/* A communicator with one nearly square layer of so many bytes. All ranks leave with the same exit code. */
int bench_open(bench_job *j, const char *codec, size_t bytes, taut_comm **comm, taut_layer **layer);

/* cmd_bench_regret_mpi.c : --regret, for all sizes. */
int bench_regret(bench_job *j);

#endif
