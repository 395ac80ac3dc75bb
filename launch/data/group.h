/* group.h : the ranks of `mpirun taut data ...`: alone where it was not started that way, or without MPI in this build. */
#ifndef TAUT_DATA_GROUP_H
#define TAUT_DATA_GROUP_H

#include "../../comm/taut_data.h"

/* group_start() : NULL = this process is alone; else the group, valid until group_end(). MPI is started only where the environment
 *  says that a launcher runs this process, so that a plain `taut data` needs none. Only rank 0 speaks afterwards (cli_speak). */
#ifdef TAUT_HAVE_MPI
const taut_data_group *group_start(void);
void                   group_end(void);
#else
static inline const taut_data_group *group_start(void) { return NULL; }
static inline void                   group_end(void) {}
#endif

#endif
