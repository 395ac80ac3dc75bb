/* lowrank.c : P = orth(X Q), Q = X^T P; the eigenvalues of Q^T Q are the squared singular values of P^T X (Rayleigh-Ritz). */
#include "lowrank.h"
#include "../../compressors/powersgd/powersgd_math.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RANK_MAX = 32, SWEEPS = 12 };

void taut__basis_fini(taut__basis *b)
{
    taut__free(b->qt);
    taut__free(b->p);
    *b = (taut__basis){0};
}

static void start(taut__basis *b) { taut__lowrank_random(1, 0, b->qt, b->rank * b->cols, 1); }

taut_status taut__basis_prepare(taut__basis *b, size_t rows, size_t cols, size_t rank)
{
    if (b->rows == rows && b->cols == cols && b->rank == rank) return TAUT_OK;
    taut__basis_fini(b);
    b->qt = taut__alloc(rank * cols, sizeof *b->qt);
    b->p = taut__alloc(rows * rank, sizeof *b->p);
    if (!b->qt || !b->p || rank > RANK_MAX) {
        taut__basis_fini(b);
        return taut__fail(TAUT_E_NOMEM, "auto: no memory for a basis of rank %zu", rank);
    }
    b->rows = rows;
    b->cols = cols;
    b->rank = rank;
    start(b);
    return TAUT_OK;
}

/* Jacobi rotations on a symmetric n x n matrix; leaves the eigenvalues on the diagonal. */
static void rotate(double *a, size_t n, size_t i, size_t j)
{
    double theta, t, c, s;
    if (fabs(a[i * n + j]) <= 1e-15 * sqrt(fabs(a[i * n + i] * a[j * n + j]))) return;
    theta = (a[j * n + j] - a[i * n + i]) / (2 * a[i * n + j]);
    t = copysign(1, theta) / (fabs(theta) + sqrt(theta * theta + 1));
    c = 1 / sqrt(t * t + 1);
    s = t * c;
    for (size_t k = 0; k < n; k++) {
        double x = a[k * n + i], y = a[k * n + j];
        a[k * n + i] = c * x - s * y;
        a[k * n + j] = s * x + c * y;
    }
    for (size_t k = 0; k < n; k++) {
        double x = a[i * n + k], y = a[j * n + k];
        a[i * n + k] = c * x - s * y;
        a[j * n + k] = s * x + c * y;
    }
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void eigenvalues(double *a, size_t n, double *value)
{
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++) rotate(a, n, i, j);
    for (size_t i = 0; i < n; i++) value[i] = fmax(a[i * n + i], 0);
    qsort(value, n, sizeof *value, descending);
}

bool taut__basis_energies(taut__basis *b, const float *x, double *energy)
{
    taut__lowrank d = {b->rows, b->cols, b->rank};
    double        gram[RANK_MAX * RANK_MAX];
    taut__lowrank_normalise_rows(d, b->qt);
    taut__lowrank_p(d, x, b->qt, b->p);
    if (taut__all_finite(b->p, d.rows * d.rank)) {
        taut__lowrank_orthonormalise(d, b->p, 1);
        taut__lowrank_qt(d, x, b->p, b->qt);
    }
    if (!taut__all_finite(b->p, d.rows * d.rank) || !taut__all_finite(b->qt, d.rank * d.cols)) {
        start(b);
        return false;
    }
    for (size_t i = 0; i < d.rank; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = 0;
            for (size_t k = 0; k < d.cols; k++) sum += (double)b->qt[i * d.cols + k] * b->qt[j * d.cols + k];
            gram[i * d.rank + j] = gram[j * d.rank + i] = sum;
        }
    eigenvalues(gram, d.rank, energy);
    return true;
}
