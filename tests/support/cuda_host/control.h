/* control.h : the execution model's tables and switches, for tests in C. */
#ifndef CUDA_HOST_CONTROL_H
#define CUDA_HOST_CONTROL_H

#include "compressors/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const taut__cuda taut__cuda_model;

void   cuda_model_seed(uint64_t seed);  /* schedule, eager or lazy streams, where buffers end */
void   cuda_model_memory(size_t bytes); /* limit; 0: none */
size_t cuda_model_held(void);
size_t cuda_model_mapped(void); /* how often memory in stream order was taken from the system */
void   cuda_model_elsewhere(
      int device); /* memory that is allocated from now on lies there, as its attributes say; 0: on the device */
/* The program captures the stream, in mode "global", until this ends it: whether the capture is good. */
void cuda_model_capture(taut__cuda_stream s);
bool cuda_model_captured(taut__cuda_stream s);
void cuda_model_driver(int version);     /* as CUDA counts: 13000 is what the runtime needs; less: too old; 0: none */
void cuda_model_capability(int tenfold); /* of the device; 80: 8.0 */
/* Of later launches only so many blocks at either end run, for tensors that are too large to be gone through; 0: all. */
void cuda_model_ends(unsigned blocks);
/* Names of the kernels that have run, and how often. */
size_t   cuda_model_kernels(const char **names, size_t cap);
uint64_t cuda_model_launches(const char *kernel);

#ifdef __cplusplus
}
#endif

#endif
