/* scores.h : numbers about every sample that a training run found (`taut train --score`), as a text:
 *
 *      taut-scores 1
 *      shard 0f1e2d3c4b5a6978 60000 mnist-train.taut      hash, samples, name: as in a plan
 *      columns loss el2n forgetting
 *      0.0131 0.0172 0                                    a line for each sample of the shards, in their order
 *      end 89abcdef01234567                               XXH64 of every byte before this line
 */
#ifndef TAUT_SCORES_H
#define TAUT_SCORES_H

#include "../../../comm/base/base.h"
#include "../../../comm/taut_data.h"

enum { TAUT__SCORES_COLUMNS = 16, TAUT__SCORES_NAME = 32 };

typedef struct taut__scores { /* zero-initialise; taut__scores_free() */
    uint64_t samples;
    uint32_t columns;
    char     name[TAUT__SCORES_COLUMNS][TAUT__SCORES_NAME];
    double  *value; /* samples * columns, finite */
    uint64_t hash;  /* of the file */
} taut__scores;

/* taut__scores_load() : for these shards, in their order; the file may have them in another one, but has to have each of them, with as
 *  many samples. An error names the file and the line. */
taut_status taut__scores_load(taut__scores *s, const char *path, size_t shards, const taut_shard *const *shard);
void        taut__scores_free(taut__scores *s);
int         taut__scores_column(const taut__scores *s, const char *name); /* -1: it has none */
taut_status taut__scores_no_column(const taut__scores *s, const char *who,
                                   const char *name); /* TAUT_E_INVALID, with those it has */

#endif
