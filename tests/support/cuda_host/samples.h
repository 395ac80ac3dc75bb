/* samples.h : small kernels that show what the execution model does; most are wrong on purpose. */
#ifndef CUDA_HOST_SAMPLES_H
#define CUDA_HOST_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs one; 0: its result is right. Ends the process (SIGABRT, SIGILL, SIGSEGV) where the model sees a misuse. */
int sample_run(const char *name, uint64_t seed);
/* Names of those that are right, and of those that are wrong, in order; NULL past the end. */
const char *sample_right(size_t i);
const char *sample_wrong(size_t i);
/* Launches and threads that ran a kernel. */
void sample_tally(const char *kernel, uint64_t *launches, uint64_t *threads);

#ifdef __cplusplus
}
#endif

#endif
