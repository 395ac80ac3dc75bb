/* cuda_twin.h : one tensor on the host and on a CUDA device (the execution model, or with TEST_GPU=1 a GPU), for tests of codecs'
 * tables for that space. Everything that should work and does not fails the test. */
#ifndef TAUT_TEST_CUDA_TWIN_H
#define TAUT_TEST_CUDA_TWIN_H

#include "codec_case.h"
#include "compressors/vectors.h"
#include "cuda_case.h"

extern taut_place twin_place;                /* the stream of the test */
void              twin_begin(uint64_t seed); /* TAUT_CUDA is there, with another schedule */
void              twin_end(void);

/* A spec of every codec, and of every branch of its payload. */
enum { TWIN_SPECS = 18 };
extern const char *const twin_specs[TWIN_SPECS];

typedef struct twin {
    codec_case        k;
    float            *x, *err, *back;
    taut_calibration *calibration; /* on the device; NULL: none */
    taut_calibration  here;
    taut_piece        piece; /* its pointers lead to the device */
    taut_outcome      out;
} twin;

void twin_open(twin *t, const char *spec, size_t rows, size_t cols, int kind); /* kind: as cuda_fill() */
void twin_close(twin *t);
/* Statistics and calibration of n tensors on the device, and on the host: the same bits. Later operations use them. */
void         twin_calibrate(twin *t, size_t n, int ranks);
void         twin_enqueue(taut__op op, twin *t, size_t n);
taut_outcome twin_outcome(const twin *t);
void         twin_same_floats(const twin *t, const float *want, const float *device, const char *what);
void         twin_same_payload(const twin *t, const char *spec); /* as long as, and the bytes of, k.payload */

#endif
