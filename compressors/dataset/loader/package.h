/* package.h : all that a loader needs before the first block: plan, indexes of the shards in the plan's order, labels. Rank 0
 * reads it from the files, the others get its bytes. */
#ifndef TAUT_LOADER_PACKAGE_H
#define TAUT_LOADER_PACKAGE_H

#include "../../../comm/taut_data.h"
#include "../plan/plan.h"

typedef struct taut__package { /* zero-initialise; taut__package_free() */
    taut__plan   plan;
    taut_shard **shard; /* of the plan, in its order */
    int64_t     *label; /* of all samples, where the plan is stratified; else NULL */
} taut__package;

void taut__package_free(taut__package *p);

/* Rank 0: from files. TAUT_E_MISMATCH: a shard of the plan is not among the files; TAUT_E_INVALID: labels are missing. */
taut_status taut__package_read(taut__package *p, const taut_loader_config *c);

/* To bytes (taut__alloc) and back. unpack() opens the shards' files for reading blocks. */
taut_status taut__package_pack(const taut__package *p, uint8_t **bytes, size_t *n);
taut_status taut__package_unpack(taut__package *p, const uint8_t *bytes, size_t n);

/* taut__shard_classes() : the values of an integer field with one element per sample; to[0..samples). */
taut_status taut__shard_classes(const taut_shard *s, const char *field, int64_t *to);

#endif
