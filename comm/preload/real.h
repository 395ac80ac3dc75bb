/* real.h : the MPI's own functions under their usual names, for code that is linked into a back end: its calls must not come
 * back to the preloaded ones. Included before everything else (-include). */
#ifndef TAUT_PRELOAD_REAL_H
#define TAUT_PRELOAD_REAL_H

#include "preload.h"
#include <mpi.h>
#ifdef OPEN_MPI
#include <mpi-ext.h> /* half types, where this Open MPI was built with them */
#endif

typedef struct taut__real { /* in the order of TAUT_INTERCEPTED */
#define TAUT_ITEM(name, args) __typeof__(&MPI_##name) name;
    TAUT_INTERCEPTED_OLD(TAUT_ITEM)
#undef TAUT_ITEM
    int (*Allreduce_init)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm, MPI_Info, MPI_Request *);
    int (*Allreduce_c)(const void *, void *, MPI_Count, MPI_Datatype, MPI_Op, MPI_Comm);
    int (*Iallreduce_c)(const void *, void *, MPI_Count, MPI_Datatype, MPI_Op, MPI_Comm, MPI_Request *);
    int (*Reduce_scatter_c)(const void *, void *, const MPI_Count *, MPI_Datatype, MPI_Op, MPI_Comm);
    int (*Reduce_scatter_block_c)(const void *, void *, MPI_Count, MPI_Datatype, MPI_Op, MPI_Comm);
    int (*Allgather_c)(const void *, MPI_Count, MPI_Datatype, void *, MPI_Count, MPI_Datatype, MPI_Comm);
    int (*Bcast_c)(void *, MPI_Count, MPI_Datatype, int, MPI_Comm);
    int (*Allreduce_init_c)(const void *, void *, MPI_Count, MPI_Datatype, MPI_Op, MPI_Comm, MPI_Info, MPI_Request *);
} taut__real;
extern taut__real taut__real_mpi;

#define MPI_Init                 taut__real_mpi.Init
#define MPI_Init_thread          taut__real_mpi.Init_thread
#define MPI_Finalize             taut__real_mpi.Finalize
#define MPI_Abort                taut__real_mpi.Abort
#define MPI_Allreduce            taut__real_mpi.Allreduce
#define MPI_Iallreduce           taut__real_mpi.Iallreduce
#define MPI_Reduce_scatter       taut__real_mpi.Reduce_scatter
#define MPI_Reduce_scatter_block taut__real_mpi.Reduce_scatter_block
#define MPI_Allgather            taut__real_mpi.Allgather
#define MPI_Bcast                taut__real_mpi.Bcast
#define MPI_Wait                 taut__real_mpi.Wait
#define MPI_Waitall              taut__real_mpi.Waitall
#define MPI_Waitany              taut__real_mpi.Waitany
#define MPI_Waitsome             taut__real_mpi.Waitsome
#define MPI_Start                taut__real_mpi.Start
#define MPI_Startall             taut__real_mpi.Startall
#define MPI_Request_free         taut__real_mpi.Request_free

#endif
