/* powersgd_math.h : the dense algebra of PowerSGD on X (rows x cols, row-major).
 * P: rows x rank, row-major. Qt: rank x cols, row-major, the transpose of the paper's Q, so that every loop over a row of
 * X runs over contiguous memory of both. */
#ifndef TAUT_POWERSGD_MATH_H
#define TAUT_POWERSGD_MATH_H

#include "../../comm/base/base.h"

typedef struct taut__lowrank {
    size_t rows, cols, rank;
} taut__lowrank;

/* P = X * Qt^T and Qt = P^T * X. Through BLAS where built with it: fast, but the last bits depend on the machine, which is
 * harmless before an average and an orthogonalisation that all ranks share. */
void taut__lowrank_p(taut__lowrank d, const float *x, const float *qt, float *p);
void taut__lowrank_qt(taut__lowrank d, const float *x, const float *p, float *qt);

/* Make the columns of P orthonormal. Same bits on every machine. Columns that depend on earlier ones (or are zero) are
 * replaced by random ones, so that the next iteration can find what is not spanned yet. P finite. */
void taut__lowrank_orthonormalise(taut__lowrank d, float *p, uint64_t seed);
void taut__lowrank_orthonormalise_rows(taut__lowrank d, float *qt, uint64_t seed); /* the same of Qt */

/* out[0..n) = factor * p * Qt, columns from .. from+n, of the row of P at p. p, qt: floats at any alignment, as in a
 * payload. Same bits on every machine. */
void taut__lowrank_row(taut__lowrank d, const void *p, const void *qt, float factor, size_t from, size_t n, float *out);

/* Rows of Qt to unit length, so that products stay far from overflow whatever the gradient's magnitude. */
void taut__lowrank_normalise_rows(taut__lowrank d, float *qt);

/* x[i] uniform in [-1, 1), from (seed, stream, i). */
void taut__lowrank_random(uint64_t seed, uint64_t stream, float *x, size_t n, size_t stride);

bool taut__all_finite(const float *x, size_t n);

#endif
