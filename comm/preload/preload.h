/* preload.h : between libtaut-preload-mpi.so, which every program can load, and the back end for the MPI that it uses.
 *
 * The handles of Open MPI are pointers, those of MPICH ints, so code that knows them is compiled once for each. stubs.c exports
 * MPI_X and PMPI_X of every intercepted X, with arguments passed on as they are; at the first call it finds the MPI that the
 * program has loaded, opens the back end beside it and asks for its table. Fortran needs no symbols of its own: the Fortran
 * libraries of Open MPI call PMPI_X and those of MPICH MPI_X, in C, with handles and MPI_IN_PLACE translated.
 *
 * A profiler that the program is linked with, or that is preloaded behind this library, has MPI_X of its own, which call PMPI_X. Then
 * MPI_X here goes to the profiler's, as the program's call would without us, and PMPI_X to the back end. */
#ifndef TAUT_PRELOAD_H
#define TAUT_PRELOAD_H

#include "../taut.h"

/* name, number of arguments. */
/* clang-format off */
#define TAUT_INTERCEPTED(X) TAUT_INTERCEPTED_OLD(X) TAUT_INTERCEPTED_NEW(X) TAUT_INTERCEPTED_LARGE(X)
/* Those that every MPI has. */
#define TAUT_INTERCEPTED_OLD(X)                                                                                                  \
    X(Init, 2) X(Init_thread, 4) X(Finalize, 0) X(Abort, 2) X(Allreduce, 6) X(Iallreduce, 7) X(Reduce_scatter, 6)                 \
    X(Reduce_scatter_block, 6) X(Allgather, 7) X(Bcast, 5) X(Wait, 2) X(Waitall, 3) X(Waitany, 4) X(Waitsome, 5) X(Start, 1)      \
    X(Startall, 2) X(Request_free, 1)
/* Of MPI 4; before it, some have them under MPIX_. NULL in the table where the MPI has neither. */
#define TAUT_INTERCEPTED_NEW(X) X(Allreduce_init, 8)
/* The same calls with counts of MPI_Count, of MPI 4, as mpi4py 4 and mpi_f08 make them; where the MPI has
 * none, they are made with ints. */
#define TAUT_INTERCEPTED_LARGE(X)                                                                                                \
    X(Allreduce_c, 6) X(Iallreduce_c, 7) X(Reduce_scatter_c, 6) X(Reduce_scatter_block_c, 6) X(Allgather_c, 7) X(Bcast_c, 5)      \
    X(Allreduce_init_c, 8)
/* clang-format on */

typedef enum taut__intercepted {
#define TAUT_ITEM(name, args) TAUT_CALL_##name,
    TAUT_INTERCEPTED(TAUT_ITEM)
#undef TAUT_ITEM
        TAUT_CALLS
} taut__intercepted;

typedef void (*taut__function)(void); /* any function; cast before use */

/* What a back end exports: fills wrap[] with its functions, given those of the MPI itself. */
#define TAUT_BACKEND_ENTRY "taut_preload_backend"
typedef int (*taut__backend_entry)(const taut__function real[TAUT_CALLS], taut__function wrap[TAUT_CALLS]);
/* What libtaut-preload-mpi.so exports, by which a back end knows that it was opened and not itself preloaded. */
#define TAUT_STUBS_MARK "taut_preload_stubs"

#endif
