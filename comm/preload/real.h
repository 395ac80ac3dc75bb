/* real.h : the MPI's own functions under their usual names, for code that is linked into a back end: its calls must not come
 * back to the preloaded ones. Included before everything else (-include). */
#ifndef TAUT_PRELOAD_REAL_H
#define TAUT_PRELOAD_REAL_H

#include <mpi.h>

typedef struct taut__real {
    int (*Init)(int *, char ***);
    int (*Init_thread)(int *, char ***, int, int *);
    int (*Finalize)(void);
    int (*Abort)(MPI_Comm, int);
    int (*Allreduce)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm);
    int (*Iallreduce)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm, MPI_Request *);
    int (*Reduce_scatter)(const void *, void *, const int *, MPI_Datatype, MPI_Op, MPI_Comm);
    int (*Reduce_scatter_block)(const void *, void *, int, MPI_Datatype, MPI_Op, MPI_Comm);
} taut__real;
extern taut__real taut__real_mpi;

#define MPI_Init taut__real_mpi.Init
#define MPI_Init_thread taut__real_mpi.Init_thread
#define MPI_Finalize taut__real_mpi.Finalize
#define MPI_Abort taut__real_mpi.Abort
#define MPI_Allreduce taut__real_mpi.Allreduce
#define MPI_Iallreduce taut__real_mpi.Iallreduce
#define MPI_Reduce_scatter taut__real_mpi.Reduce_scatter
#define MPI_Reduce_scatter_block taut__real_mpi.Reduce_scatter_block

#endif
