/* imports.h : what a program may call, before it does: the names that it and its libraries leave to others to define. */
#ifndef TAUT_IMPORTS_H
#define TAUT_IMPORTS_H

#include <stdbool.h>

/* Does the program or a library that is loaded now, the MPI's own and Taut's excepted, import a name that `wanted` wants? What it may open
 * or look up later (dlopen, dlsym) is not known. */
bool taut__program_imports(bool (*wanted)(const char *name));

/* Names in C and Fortran of MPI_Iallreduce and MPI_Allreduce_init, MPIX_ and PMPI_ included. */
bool taut__reduces_behind_a_request(const char *name);

#endif
