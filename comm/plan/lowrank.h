/* lowrank.h : how much of a matrix its best low-rank approximations hold, from one subspace iteration per look, started
 * from the last look's basis, as PowerSGD itself does. */
#ifndef TAUT_LOWRANK_H
#define TAUT_LOWRANK_H

#include "../base/base.h"

typedef struct taut__basis {
    size_t rows, cols, rank;
    float *qt, *p; /* rank x cols, kept between looks; rows x rank */
} taut__basis;

/* A random start where rows, cols or rank changed. rank <= min(rows, cols). */
taut_status taut__basis_prepare(taut__basis *b, size_t rows, size_t cols, size_t rank);
void        taut__basis_fini(taut__basis *b);

/* x: rows x cols. energy[0..rank): estimates of the squared singular values, largest first; what rank r leaves out is
 * |x|^2 minus the first r. False, and a fresh start next time, if x is not finite. */
bool taut__basis_energies(taut__basis *b, const float *x, double *energy);

#endif
