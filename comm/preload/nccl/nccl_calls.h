/* nccl_calls.h : what becomes of a reducing call of a program that knows nothing of Taut: compressed, or as it is.
 *
 * NCCL has all ranks make their calls in the same order, so all decide alike from what the call says: its kind, size, type, operation, and the
 * settings, which must be the same on all ranks. What one rank alone could know, values, is not asked for. */
#ifndef TAUT_NCCL_CALLS_H
#define TAUT_NCCL_CALLS_H

#include "../../transport/nccl_data.h"

typedef struct taut__nccl_call {
    bool                scatter; /* ncclReduceScatter: count is that of a part */
    const void         *from;
    void               *to;
    size_t              count;
    int                 type, op;
    taut__nccl_comm     comm;
    struct CUstream_st *stream;
} taut__nccl_call;

/* The call, made or compressed; NCCL's result. real: NCCL itself. together: this thread makes calls of several devices in one group, which is open: as it is. */
int taut__nccl_make(const taut__nccl *real,
                    int (*real_scatter)(const void *, void *, size_t, int, int, taut__nccl_comm, struct CUstream_st *),
                    const taut__nccl_call *call, bool together);
/* NCCL's own. */
int taut__nccl_plain(const taut__nccl *real,
                     int (*real_scatter)(const void *, void *, size_t, int, int, taut__nccl_comm, struct CUstream_st *),
                     const taut__nccl_call *call);
/* Whether it stays as it is whatever else its group holds; it is counted then. */
bool taut__nccl_stays(const taut__nccl *real, const taut__nccl_call *call);
/* Until NCCL has taken what was asked of comm: one that does not block takes nothing more before. */
void taut__nccl_settle(const taut__nccl *real, taut__nccl_comm comm);
void taut__nccl_abandon(taut__nccl_comm comm); /* it is about to be aborted: calls of it that are being made end */
void taut__nccl_forget(taut__nccl_comm comm);  /* it is about to be destroyed, or has been aborted */
void taut__nccl_report(void);       /* the program ends: what was saved, on rank 0's stderr, and in TAUT_REPORT */
extern taut_space taut__nccl_space; /* where buffers are looked for; TAUT_CUDA. Tests: another */

#endif
