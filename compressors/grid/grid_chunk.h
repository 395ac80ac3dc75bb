/* grid_chunk.h : chunks of code `rans`, built from the kernels of one level (grid_rans.c). Same contracts as
 * the packed kernels of grid_kernels.h. sink: a grid_sink. */
#ifndef TAUT_GRID_CHUNK_H
#define TAUT_GRID_CHUNK_H

#include "grid_kernels.h"

size_t taut__grid_rans_encode(const struct taut__grid_kernels *kernels, const grid_unit *u, const float *x,
                              size_t n, float *err, uint8_t *dst);
size_t taut__grid_rans_pack(const struct taut__grid_kernels *kernels, const int32_t *q, size_t n,
                            uint8_t *dst);
bool taut__grid_rans_decode(const struct taut__grid_kernels *kernels, const grid_unit *u, const uint8_t *src,
                            size_t len, size_t n, int sink, void *dst);

#endif
