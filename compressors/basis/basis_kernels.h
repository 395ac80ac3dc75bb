/* basis_kernels.h : the arithmetic of a change of basis, on blocks of rows, one table per instruction set (dispatch.h).
 *
 * basis_portable.c is the specification. Every level gives the same bits: each number is a sum of products that are added one by one, in the order
 * that the specification says, each by a fused multiply-add (one rounding), which C11 has as fmaf(); levels differ in how many such sums they form at
 * a time. */
#ifndef TAUT_BASIS_KERNELS_H
#define TAUT_BASIS_KERNELS_H

#include "../../comm/base/base.h"

enum {
    BASIS_ROWS = 8,   /* rows of a block; a block with fewer is filled up with zeros */
    BASIS_LANES = 16, /* columns of factors are filled up with zeros to a multiple */
};

/* taut__reflections : Q = I - W T W^T, orthonormal, n x n, a product of `r` reflections (compact WY form: Schreiber and Van Loan 1989,
 * equation 1.4). r is a multiple of BASIS_LANES; reflections beyond those that there are have zeros. */
typedef struct taut__reflections {
    size_t       n, r;
    const float *w;  /* n x r */
    const float *wt; /* r x n: w transposed */
    const float *t;  /* r x r, upper triangle */
    const float *tt; /* r x r: t transposed */
} taut__reflections;

/* x: BASIS_ROWS rows of n floats, `stride` apart. */
struct taut__basis_kernels {
    /* x = x Q, or (back) x Q^T. ab: room for 2 * BASIS_ROWS * r */
    void (*reflect)(const taut__reflections *q, float *x, size_t stride, bool back, float *ab);
    /* c = x V. V: n x r, c: BASIS_ROWS x r */
    void (*project)(const float *x, size_t stride, size_t n, const float *v, size_t r, float *c);
    /* a += x^T c. a: n x r */
    void (*outer)(const float *x, size_t stride, size_t n, const float *c, size_t r, float *a);
};

extern const struct taut__basis_kernels taut__basis_portable;
extern const struct taut__basis_kernels taut__basis_avx2;
extern const struct taut__basis_kernels taut__basis_avx512;

#endif
