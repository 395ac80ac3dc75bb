/* shard_writer.h : a writer from the inside; shard_writer.c collects samples, shard_publish.c encodes and writes. */
#ifndef TAUT_SHARD_WRITER_H
#define TAUT_SHARD_WRITER_H

#include "layout.h"
#include "output.h"
#include "spool.h"

struct taut_writer {
    char            *path;
    taut_output      out;
    uint32_t         fields;
    taut_field      *field;
    taut_field_spec *spec;
    taut_spool      *spool;
    uint64_t         samples, block_bytes, per_block;
    char            *source, *labels;
    int              threads;
    int (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
    bool  failed, finished;
};

/* As many samples as fit block_bytes, by the mean of the largest field; at most all. Needs a sample. */
uint64_t taut__choose_per_block(const taut_writer *w);

/* Encode everything and publish. w->per_block is set, spools are cut; largest[f]: bytes of the largest part. */
taut_status taut__publish(taut_writer *w, const uint64_t *largest);

#endif
