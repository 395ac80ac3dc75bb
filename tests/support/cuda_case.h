/* cuda_case.h : device buffers for tests of CUDA kernels, on a GPU or in the execution model. Everything aborts the test on
 * failure. Which tables: those of the model, or with TEST_GPU=1 those of the GPU. */
#ifndef TAUT_TEST_CUDA_CASE_H
#define TAUT_TEST_CUDA_CASE_H

#include "compressors/cuda/cuda.h"

const taut__cuda *cuda_tables(void);
/* Another schedule, a new stream. The model only; on a GPU a new stream. */
taut__cuda_stream cuda_begin(uint64_t seed);
void              cuda_end(void); /* waits, releases every buffer and the stream */

/* Device memory until cuda_end(), offset bytes behind an aligned address. */
void *cuda_new(size_t bytes, size_t offset);
void *cuda_put(const void *host, size_t bytes, size_t offset);
void  cuda_get(void *host, const void *device, size_t bytes); /* waits */
void  cuda_must(taut_status s, const char *what);

/* x and y are equal in all bits, or, on a GPU, both NaN. */
bool cuda_same(const float *x, const float *y, size_t n);
/* The same of n bytes of payloads, which may hold floats: words at multiples of 4 that are NaN in both are equal there. */
bool cuda_same_payload(const uint8_t *x, const uint8_t *y, size_t n);

/* The inputs of the twin tests, n floats each: kinds 0..CUDA_KINDS-1. */
enum { CUDA_KINDS = 9 };
void        cuda_fill(float *x, size_t n, int kind);
const char *cuda_kind_name(int kind);

#endif
