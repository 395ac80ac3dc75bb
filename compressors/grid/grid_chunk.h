/* grid_chunk.h : chunks of code `rans`, built from the kernels of one level (grid_rans.c). Same contracts as
 * the packed kernels of grid_kernels.h. */
#ifndef TAUT_GRID_CHUNK_H
#define TAUT_GRID_CHUNK_H

#include "grid_kernels.h"

size_t taut__grid_rans_encode(const struct taut__grid_kernels *kernels, const grid_unit *u, const float *x, size_t n,
                              float *err, uint8_t *dst);
size_t taut__grid_rans_pack(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n, uint8_t *dst);

enum { GRID_TOGETHER = 2 }; /* chunks that are decoded in turns */
typedef struct grid_rans_chunk {
    grid_unit      u; /* unused where codes are asked for */
    const uint8_t *src;
    size_t         len, n;
    void          *dst; /* n floats or codes, no other chunk's */
} grid_rans_chunk;
/* Chunks chunk[0..count), count up to GRID_TOGETHER. sink: a grid_sink. false: one is malformed */
bool taut__grid_rans_decode(const struct taut__grid_kernels *kernels, const grid_rans_chunk *chunk, unsigned count,
                            int sink);

#endif
