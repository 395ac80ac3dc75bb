/* quant_bucket.h : the buckets of the quant codec: their metadata, and the choice between the fast kernels and the exact
 * slow path. */
#ifndef TAUT_QUANT_BUCKET_H
#define TAUT_QUANT_BUCKET_H

#include "../dispatch.h"
#include "quant_format.h"

struct taut_stage;
quant_params taut__quant_params(const struct taut_stage *s); /* quant.c: what the keys say */

/* x[0..n), from element `first` (a multiple of the bucket) of the tensor on -> metadata and codes, bucket after bucket;
 * err as in taut_codec.encode */
void taut__quant_encode(const taut__simd *simd, const quant_params *p, uint64_t seed, uint64_t first, const float *x,
                        size_t n, uint8_t *meta, uint8_t *codes, float *err);
/* dst[i] = value, or dst[i] += value. Any metadata and codes are valid. */
void taut__quant_decode(const taut__simd *simd, const quant_params *p, const uint8_t *meta, const uint8_t *codes,
                        size_t n, float *dst, bool add);

#endif
