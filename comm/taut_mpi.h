/* taut_mpi.h : communicators over MPI. Include after or instead of taut.h, in programs that include mpi.h. */
#ifndef TAUT_MPI_H
#define TAUT_MPI_H

#include "taut.h"
#include <mpi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* taut_comm_create_mpi() : collective over `mpi`, which is duplicated, so that foreign traffic does no harm.
 *  mpi : an intracommunicator of which this rank is a member: TAUT_E_INVALID for MPI_COMM_NULL, as MPI_Comm_split gives it to ranks
 *  outside, and for intercommunicators. Settings that ranks must have alike are compared: TAUT_E_MISMATCH.
 *  MPI must be initialised. With MPI_THREAD_MULTIPLE a communication thread moves data while the program
 *  computes; below that, progress is made inside start, test, wait and step_end.
 *  All ranks return the same status: what fails on one alone (a setting, memory, a thread, a file) is told to the others, "rank 2: ...".
 *  It waits timeout_ms for ranks that do not call; after that TAUT_E_TIMEOUT `mpi` cannot be used any more. A rank that is stopped inside
 *  makes the others end the job, as inside MPI_Allreduce. Destroy before MPI_Finalize. */
TAUT_API taut_status taut_comm_create_mpi(MPI_Comm mpi, const taut_config *cfg, taut_comm **comm);

/* taut_comm_open_cuda_mpi() : layers on GPUs travel by MPI, which reads and writes their compressed bytes on the device itself. Without it they
 *  do too, staged through host memory, slice by slice, and ranks may keep a layer in different places; with it, all ranks' buffers of layers that
 *  are not small lie on the device, as with taut_nccl.h. Collective; between steps; once.
 *  TAUT_E_UNSUPPORTED, on all ranks: this MPI does not say that it is CUDA-aware (MPIX_Query_cuda_support). Since 0.1. */
TAUT_API taut_status taut_comm_open_cuda_mpi(taut_comm *comm);

/* taut_comm_mpi() : of a communicator that taut_comm_shrink() has made of one over MPI: MPI's communicator of its ranks, in their order, for what
 *  else the program has to say to them; MPI_ERRORS_RETURN is set. It belongs to `comm`, and goes with it. TAUT_E_INVALID of any other
 *  communicator. */
TAUT_API taut_status taut_comm_mpi(const taut_comm *comm, MPI_Comm *mpi);

#ifdef __cplusplus
}
#endif
#endif
