/* manifest.h : what a checkpoint consists of, as a text that people can read. One line each, in this order:
 *
 *   taut-checkpoint 2
 *   generation G          its files are FILE.G.model and FILE.G.rank0 ... FILE.G.rank(N-1)
 *   step S
 *   ranks N
 *   seed X  batch B       of the run, two lines
 *   samples M             of the data, that the steps so far took together: where the next step begins, on any number of ranks
 *   data HEX              of shards: what taut_loader_state() gave, which pins plan and batch; - where the data are no shards
 *   model BYTES SUM       SUM: 32 hexadecimal digits, XXH3 of 128 bits
 *   rank0 BYTES SUM ...   a line per rank
 *   sum S64               XXH3 of 64 bits of all lines above
 *
 * Numbers are decimal without signs or leading zeros, so that one checkpoint has one text. */
#ifndef TRAIN_MANIFEST_H
#define TRAIN_MANIFEST_H

#include "stored.h"

enum { MANIFEST_DATA_MAX = 128 };

typedef struct manifest {
    uint64_t    generation, step, ranks, seed, batch, samples;
    uint8_t     data[MANIFEST_DATA_MAX];
    size_t      data_bytes;
    stored_sum  model;
    stored_sum *rank; /* one per rank, owned */
} manifest;

enum { MANIFEST_BYTES_MAX = 1 << 26 };

/* manifest_print() : the text, freed by the caller; NULL = out of memory. */
char *manifest_print(const manifest *m);

/* manifest_parse() : 0, or an exit code after fault(): what `text` (NUL-terminated, n bytes, from `path`) is not; `what` opens the
 *  sentence. m->rank
 *  is then NULL. manifest_free() is fine on a zeroed or failed one. */
int  manifest_parse(manifest *m, const char *what, const char *path, const char *text, size_t n);
void manifest_free(manifest *m);

#endif
