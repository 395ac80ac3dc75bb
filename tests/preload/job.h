/* job.h : what the halves of job.c share: one mode's buffers and counts. */
#ifndef JOB_H
#define JOB_H
#include <math.h>
#include <mpi.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LARGE: the same calls with counts of MPI_Count, where the MPI has them */
#if defined LARGE && MPI_VERSION >= 4
#define MPI_Allreduce            MPI_Allreduce_c
#define MPI_Iallreduce           MPI_Iallreduce_c
#define MPI_Allreduce_init       MPI_Allreduce_init_c
#define MPI_Reduce_scatter       MPI_Reduce_scatter_c
#define MPI_Reduce_scatter_block MPI_Reduce_scatter_block_c
#define MPI_Allgather            MPI_Allgather_c
#define MPI_Bcast                MPI_Bcast_c
typedef MPI_Count count_of;
#else
typedef int count_of;
#endif

enum { MOST = 16 };
typedef struct job {
    const char *name;
    int         steps, layers;
    size_t      n; /* elements of each of the layers' buffers */
    float      *g[MOST], *out[MOST], *extra[MOST];
    MPI_Comm    comm;
    double      worst;
    uint64_t    hash;
    long        calls, small;
} job;

extern int rank, ranks, bad;
float      noise(uint32_t i, uint32_t seed);
/* Is x, elements first..first+count of layer l, the exact sum? Into j->worst. */
void check(job *j, const float *x, int step, int l, size_t first, size_t count);
void same_everywhere(job *j, const float *x, size_t count);
void all_right(job *j, float *const *x, int step);

/* job_requests.c */
void step_nonblocking(job *j, int step);
void step_overlap(job *j, int step);
void step_token(job *j, int step);
void step_ahead(job *j, int step);
void step_pending(job *j, int step);
void step_cancel(job *j, int step);
void step_persistent(job *j, int step);
void step_rounds(job *j, int step);
#endif
