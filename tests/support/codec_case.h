/* codec_case.h : one spec on one tensor, for tests of codecs: everything that a taut_call points to, in one place. */
#ifndef TAUT_TEST_CODEC_CASE_H
#define TAUT_TEST_CODEC_CASE_H

#include "compressors/ops.h"

typedef struct codec_case {
    taut_spec         spec;
    taut_tensor       tensor;
    taut_call         call; /* of the whole tensor; its pointers lead into this struct */
    const taut_codec *codec;
    uint8_t          *payload; /* cap bytes, exactly capacity(): ASan sees a byte too many */
    size_t            cap, len;
} codec_case;

/* Aborts the test if the spec is malformed or does not suit. */
void case_open(codec_case *k, const char *spec, size_t rows, size_t cols);
void case_close(codec_case *k);

/* encode into k->payload, decode into back; err as in encode */
void case_round_trip(codec_case *k, const float *src, float *err, float *back);

/* Decode payloads with every byte changed in several ways and cut at every length: any answer is fine, as long as it is
 * one. The bytes lie in memory of exactly their length, so that a sanitizer sees every read beyond. Returns how many of
 * the changed payloads were refused. */
size_t case_fuzz_payload(codec_case *k);

/* x[i]: roughly normal times `sigma`, from (seed, i). */
void   fill_normal(float *x, size_t n, float sigma, uint64_t seed);
float *new_floats(size_t n); /* aborts when out of memory; free() */
double norm2(const float *x, size_t n);
double distance2(const float *x, const float *y, size_t n);

/* A gradient: the floats of the trace that TAUT_TRACE_F32 names, of the one shipped beside the tree, or, where that is not,
 * noise with a gradient's unevenness. */
float *trace_floats(size_t *n);
/* One of the shipped ones, "gpt-step20-rank0" and so on, for figures that only a recording can give. NULL, and a test counted as
 * skipped with the reason, where there is none. */
float *trace_shipped(const char *name, size_t *n);

#endif
