/* lowrank.h : how much of a matrix its best low-rank approximations hold.
 *
 * Of this rank's own matrix, for a reference: one subspace iteration per look, started from the last look's basis, as PowerSGD itself does.
 *
 * Of the sum over ranks, for candidates, whose factors are shared: X Q with a basis Q that all ranks hold is linear in X, so every rank sends
 * its own, and the sums are those of the sum (power iteration in halves: this look's X Q gives the next one's P, and X^T P its Q).
 * A few random directions orthogonal to Q tell what lies outside (E |X w|^2 = |X - X Q Q^T|^2, as in Halko, Martinsson and Tropp 2011,
 * section 4.3). The basis comes from earlier steps, so what does not last from step to step is not counted: an upper estimate. */
#ifndef TAUT_LOWRANK_H
#define TAUT_LOWRANK_H

#include "../../comm/base/base.h"

enum { TAUT_BASIS_MOST = 32 }; /* ranks */

typedef struct taut__basis {
    size_t rows, cols, rank;
    float *qt, *p; /* rank x cols, kept between looks; rows x rank */
} taut__basis;

/* A random start where rows, cols or rank changed. rank <= min(rows, cols). */
taut_status taut__basis_prepare(taut__basis *b, size_t rows, size_t cols, size_t rank);
void        taut__basis_restart(taut__basis *b); /* at random, the same each time */
void        taut__basis_fini(taut__basis *b);

/* x: rows x cols. energy[0..rank): estimates of the squared singular values, largest first; what rank r leaves out is
 * |x|^2 minus the first r. False, and a fresh start next time, if x is not finite. */
bool taut__basis_energies(taut__basis *b, const float *x, double *energy);

enum { TAUT_SKETCH_RANK = 8, TAUT_SKETCH_TAIL = 2 };

typedef struct taut__sketch {
    size_t   rows, cols, rank;
    bool     left; /* the next look multiplies from the left: P^T X */
    unsigned looks;
    /* of the next look: rank rows (of cols) or, left, rank columns (of rows), orthonormal; then the random ones */
    float *basis;
    double share[TAUT_SKETCH_RANK]; /* of |X|^2 along the leading directions, faded over looks */
} taut__sketch;

taut_status taut__sketch_prepare(taut__sketch *s, size_t rows, size_t cols);
void        taut__sketch_fini(taut__sketch *s);
size_t      taut__sketch_floats(const taut__sketch *s);                                  /* of the next look */
void        taut__sketch_project(const taut__sketch *s, const float *x, float *product); /* this rank's */
/* product: summed over ranks; is changed. Nothing is learnt of one that is zero or not finite. */
void taut__sketch_take(taut__sketch *s, float *product);
/* Share of |X|^2 that rank r leaves; 1 before there were enough looks. */
double taut__sketch_left(const taut__sketch *s, size_t rank);

#endif
