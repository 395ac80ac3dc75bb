/* floats.h : files of float32 (little-endian, as the host) and of frames, and what the subcommands ask about floats.
 * Every function that can fail has printed a message (cli.h) and returns an exit code; CLI_OK is success. */
#ifndef TAUT_FLOATS_H
#define TAUT_FLOATS_H

#include <stddef.h>
#include <stdint.h>

/* Whole files; "-" is stdin or stdout. Memory is released with free().
 * Writing goes to a temporary file beside `path`, which replaces it when complete: no half-written file remains. */
int bytes_read(const char *path, uint8_t **data, size_t *bytes);
int bytes_write(const char *path, const void *data, size_t bytes);
int floats_read(const char *path, float **x, size_t *n); /* at least one; a size that is no multiple of 4 is refused */

/* n floats, 64-byte aligned, zeroed and touched; NULL when out of memory. free() */
float *floats_alloc(size_t n);

/* "1024x784" -> 2, {1024, 784}. The product must be n, unless n is 0. */
enum { SHAPE_MAX = 8 };
int shape_parse(const char *text, size_t n, int *ndim, size_t *shape);
/* The divisor of n nearest below its root and its cofactor: a matrix for a flat buffer. */
void shape_square(size_t n, size_t shape[2]);

/* |y-x|^2 / |x|^2 in float64; 0 where both are equal, infinite where x is all zeros and y is not. NaN and Inf of x count
 * as exact where y is not finite either, and make the result infinite where they were lost or invented. */
double rel_err2(const float *x, const float *y, size_t n);

/* Gradient-like: Laplacian values whose scale differs between rows of 1024 elements (log-normal, a factor of about
 * 3 per standard deviation), as between the rows of a real layer. Scales depend on (seed, row), values on (seed, rank,
 * element): ranks see different samples of one model. */
void floats_synthetic(float *x, size_t n, uint64_t seed, int rank);
/* x[i] = part[i mod m]: an input stretched to the size wanted. x may begin with part itself. */
void floats_tile(float *x, size_t n, const float *part, size_t m);

/* OpenBLAS, where it is the BLAS in use, takes every core unless told; a bench of one thread must tell it. */
void blas_threads(int threads);

double median(double *v, size_t n); /* sorts v; n at least 1 */

#endif
