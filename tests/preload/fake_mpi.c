/* fake_mpi.c : an MPI that nobody knows, of one rank, as libmpi.so.99: the preload library must say so and pass calls through. STAND_IN: what serial
 * programs are linked with in place of one, with as many calls as they make. */
#include <string.h>

int calls;
int MPI_Get_library_version(char *text, int *length) { return strcpy(text, "Some Other MPI 1.0"), *length = 18, 0; }
#ifdef STAND_IN
int MPI_Init(void) { return ++calls, 0; }
int MPI_Allreduce(void) { return ++calls, 0; }
int MPI_Finalize(void) { return ++calls, 0; }
#else
#define CALL(name)                                                                                                     \
    int                                             PMPI_##name(void) { return ++calls, 0; }                           \
    __attribute__((weak, alias("PMPI_" #name))) int MPI_##name(void);
/* clang-format off */
CALL(Init) CALL(Init_thread) CALL(Finalize) CALL(Abort) CALL(Allreduce) CALL(Iallreduce) CALL(Reduce_scatter) CALL(Reduce_scatter_block)
CALL(Allgather) CALL(Bcast) CALL(Wait) CALL(Waitall) CALL(Waitany) CALL(Waitsome) CALL(Start) CALL(Startall) CALL(Request_free)
/* clang-format on */
#endif
