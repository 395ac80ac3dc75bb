/* ranks.h : the other ranks, as far as a training program needs them beside its gradients: who am I, did anybody
 * fail, sums of a few numbers. With MPI these are collectives on a duplicate of MPI_COMM_WORLD; without it there is
 * one rank. */
#ifndef TRAIN_RANKS_H
#define TRAIN_RANKS_H

#include "../../comm/taut.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void ranks_start(int *argc, char ***argv);
void ranks_end(void);
int  ranks_rank(void);
int  ranks_count(void);
/* "cuda" becomes that of this rank's number on its host, which its starter tells; other names are what they are. Valid until the next call. */
const char *ranks_device(const char *name);

/* A communicator of Taut over these ranks. */
taut_status ranks_comm(const taut_config *cfg, taut_comm **comm);

/* A loader over these ranks (comm/taut_data.h); collective. */
struct taut_loader;
struct taut_loader_config;
taut_status ranks_loader(const struct taut_loader_config *cfg, struct taut_loader **loader);

/* ---- Failures ----
 * A rank that fails says so with fault(), which keeps the sentence and returns the exit code. At the next
 * ranks_agree() every rank learns of it: rank 0 prints the sentence of the lowest rank that failed, and all return
 * that rank's code. 0 = nobody failed. */
int fault(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int fault_status(int code, const char *what, const char *why, taut_status s);
int ranks_agree(int code);
#ifdef __clang_analyzer__ /* which does not see what they return */
#define fault(code, ...)                 ((void)(fault)(code, __VA_ARGS__), (int)(code))
#define fault_status(code, what, why, s) ((void)(fault_status)(code, what, why, s), (int)(code))
static inline int ranks_agreed(int code)
{
    int all = (ranks_agree)(code);
    return code ? code : all;
}
#define ranks_agree(code) ranks_agreed(code)
#endif

/* Where the others cannot be reached by ranks_agree(), since they wait inside a step: prints and ends all ranks. */
_Noreturn void ranks_abort(int code);

/* ---- Small collectives ---- */
bool ranks_same(uint64_t value);                       /* do all ranks hold this value? */
void ranks_sum(double *x, int n);                      /* in place */
void ranks_broadcast(void *p, size_t n);               /* bytes of rank 0 */
void ranks_gather(const void *p, size_t n, void *all); /* n bytes of each rank, in order; all: rank 0's, others' NULL */
void ranks_mean_start(double x, int signal);           /* one at a time; overlaps with what follows */
double ranks_mean_wait(int *signal); /* the mean of x; a signal that some rank named, 0 = none: the same on all */

#endif
