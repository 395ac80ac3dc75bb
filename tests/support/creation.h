/* creation.h : a communicator whose creation fails on one rank alone: every rank fails, soon, with the name of that one, nothing is left behind, and the
 * next attempt succeeds. For whatever creates one. */
#ifndef TAUT_TEST_CREATION_H
#define TAUT_TEST_CREATION_H

#include "ranks.h"

typedef struct creation {
    int rank, size;
    taut_status (*create)(struct creation *c, const taut_config *cfg, taut_comm **comm); /* collective */
    int (*least)(struct creation *c, int mine); /* of all ranks; none goes on before all have come */
    void *ctx;
    int   every; /* failing allocations: each (1), or every so many */
} creation;

/* Both are called by all ranks. Memory: the n-th allocation, for every n that there is. */
taut_status creation_without_memory(creation *c);
/* Threads that do not start, settings that are wrong, files that cannot be written, nowhere to put the communicator. */
taut_status creation_otherwise(creation *c);

#endif
