/* spool.h : the samples of one field on their way to blocks: an unnamed temporary file beside the target, and in memory
 * only the lengths of samples that differ in length. Reading is by part, from any number of threads. */
#ifndef TAUT_SPOOL_H
#define TAUT_SPOOL_H

#include "../fields/field.h"

typedef struct taut_spool {
    int         fd;
    const char *path;         /* of the target, for messages; borrowed */
    uint64_t    bytes;        /* of all samples */
    uint64_t    sample_bytes; /* 0: they differ */
    taut_bytes  buffer;
    taut_bytes  lengths; /* u32 per sample where they differ */
    uint64_t   *start;   /* per block, after taut__spool_cut() */
    uint64_t    samples, per_block;
} taut_spool;

taut_status taut__spool_init(taut_spool *s, const char *path, uint64_t sample_bytes);
taut_status taut__spool_add(taut_spool *s, const void *data, size_t bytes);
/* No more samples: they are read in blocks of per_block. largest: bytes of the largest part. */
taut_status taut__spool_cut(taut_spool *s, uint64_t per_block, uint64_t *largest);
/* data: room for the largest part; offset: per_block+1. */
taut_status taut__spool_part(const taut_spool *s, uint64_t block, uint8_t *data, uint32_t *offset, taut_part *part);
void        taut__spool_fini(taut_spool *s);

#endif
