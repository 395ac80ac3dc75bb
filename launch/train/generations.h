/* generations.h : which sets of files a checkpoint's folder holds. For rank 0. */
#ifndef TRAIN_GENERATIONS_H
#define TRAIN_GENERATIONS_H

#include <stdint.h>

typedef struct generations {
    char    *text;    /* of the manifest FILE; NULL where there is none */
    uint64_t current; /* the generation that it names; 0 = none */
    uint64_t next;    /* above every one that has a file in the folder */
} generations;

/* generations_open() : looks at FILE and its folder. Returns 0, or an exit code after fault(): a FILE that is there but is
 *  no manifest is somebody's file, or all that is left of a run, and is not written over. */
int generations_open(generations *g, const char *file);

/* generations_drop() : removes the files FILE.G.model and FILE.G.rankN of all G but `newest` and the one that was current
 *  before it. */
void generations_drop(const generations *g, const char *file, uint64_t newest);
void generations_close(generations *g);

#endif
