/* lowrank.c : P = orth(X Q), Q = X^T P; the eigenvalues of Q^T Q are the squared singular values of P^T X (Rayleigh-Ritz). */
#include "lowrank.h"
#include "powersgd_math.h"
#include <math.h>
#include <stdlib.h>

enum { RANK_MAX = TAUT_BASIS_MOST, SWEEPS = 12 };

void taut__basis_fini(taut__basis *b)
{
    taut__free(b->qt);
    taut__free(b->p);
    *b = (taut__basis){0};
}

void taut__basis_restart(taut__basis *b) { taut__lowrank_random(1, 0, b->qt, b->rank * b->cols, 1); }

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
    taut__basis_restart(b);
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
        taut__basis_restart(b);
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

/* ---- of the sum ---- */

enum { ENOUGH = 4 }; /* looks: from a random start, two whole iterations */

static size_t columns(const taut__sketch *s) { return s->rank + TAUT_SKETCH_TAIL; }
static size_t side(const taut__sketch *s) { return s->left ? s->rows : s->cols; }

/* Direction k, element i: rows of qt lie back to back, columns of p side by side. */
static float *at(const taut__sketch *s, float *basis, size_t k, size_t i)
{
    return s->left ? basis + i * columns(s) + k : basis + k * s->cols + i;
}

/* The random directions, orthogonal to the basis. */
static void draw_tail(taut__sketch *s)
{
    const double unit = 1.7320508075688772; /* of a uniform number in [-1, 1) to variance 1 */
    size_t       n = side(s);
    for (size_t k = s->rank; k < columns(s); k++) {
        float *first = at(s, s->basis, k, 0);
        taut__lowrank_random(7 + s->looks, k, first, n, (size_t)(at(s, s->basis, k, 1) - first));
        for (size_t i = 0; i < n; i++) *at(s, s->basis, k, i) *= (float)unit;
        for (size_t j = 0; j < s->rank; j++) {
            double dot = 0;
            for (size_t i = 0; i < n; i++) dot += (double)*at(s, s->basis, k, i) * (double)*at(s, s->basis, j, i);
            for (size_t i = 0; i < n; i++) *at(s, s->basis, k, i) -= (float)(dot * (double)*at(s, s->basis, j, i));
        }
    }
}

void taut__sketch_fini(taut__sketch *s)
{
    taut__free(s->basis);
    *s = (taut__sketch){0};
}

taut_status taut__sketch_prepare(taut__sketch *s, size_t rows, size_t cols)
{
    if (s->basis) return TAUT_OK;
    *s = (taut__sketch){.rows = rows, .cols = cols, .rank = taut__min(TAUT_SKETCH_RANK, taut__min(rows, cols))};
    s->basis = taut__alloc(columns(s) * taut__max(rows, cols), sizeof *s->basis);
    if (!s->basis) return taut__fail(TAUT_E_NOMEM, "auto: no memory for a basis of %zu x %zu", rows, cols);
    taut__lowrank_random(3, 0, s->basis, s->rank * cols, 1);
    taut__lowrank_orthonormalise_rows((taut__lowrank){rows, cols, s->rank}, s->basis, 1);
    draw_tail(s);
    return TAUT_OK;
}

size_t taut__sketch_floats(const taut__sketch *s) { return columns(s) * (s->left ? s->cols : s->rows); }

void taut__sketch_project(const taut__sketch *s, const float *x, float *product)
{
    taut__lowrank d = {s->rows, s->cols, columns(s)};
    if (s->left) taut__lowrank_qt(d, x, s->basis, product);
    else taut__lowrank_p(d, x, s->basis, product);
}

/* The product seen from the other side: element i of direction k. */
static double seen(const taut__sketch *s, const float *product, size_t k, size_t i)
{
    return s->left ? product[k * s->cols + i] : product[i * columns(s) + k];
}

static void note_shares(taut__sketch *s, const float *product)
{
    double gram[TAUT_SKETCH_RANK * TAUT_SKETCH_RANK], energy[TAUT_SKETCH_RANK], all = 0;
    size_t n = s->left ? s->cols : s->rows;
    for (size_t k = s->rank; k < columns(s); k++)
        for (size_t i = 0; i < n; i++) all += seen(s, product, k, i) * seen(s, product, k, i) / TAUT_SKETCH_TAIL;
    for (size_t j = 0; j < s->rank; j++)
        for (size_t k = 0; k <= j; k++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++) sum += seen(s, product, j, i) * seen(s, product, k, i);
            gram[j * s->rank + k] = gram[k * s->rank + j] = sum;
        }
    eigenvalues(gram, s->rank, energy);
    for (size_t k = 0; k < s->rank; k++) all += energy[k];
    for (size_t k = 0; k < s->rank; k++) s->share[k] += (s->looks < ENOUGH ? 1 : 0.5) * (energy[k] / all - s->share[k]);
}

void taut__sketch_take(taut__sketch *s, float *product)
{
    size_t n = taut__sketch_floats(s);
    double norm2 = 0;
    for (size_t i = 0; i < n; i++) norm2 += (double)product[i] * (double)product[i];
    if (!(norm2 > 0) || !isfinite(norm2)) return;
    note_shares(s, product);
    s->looks++;
    size_t       from = s->left ? s->cols : s->rows, have = columns(s);
    taut__sketch next = *s;
    next.left = !s->left;
    for (size_t k = 0; k < s->rank; k++)
        for (size_t i = 0; i < from; i++) {
            float v = (float)(seen(s, product, k, i) / sqrt(norm2));
            if (next.left) s->basis[i * s->rank + k] = v; /* packed, until it is orthonormal */
            else s->basis[k * s->cols + i] = v;
        }
    s->left = next.left;
    if (!s->left) {
        taut__lowrank_orthonormalise_rows((taut__lowrank){s->rows, s->cols, s->rank}, s->basis, s->looks);
    } else {
        taut__lowrank_orthonormalise((taut__lowrank){s->rows, s->cols, s->rank}, s->basis, s->looks);
        for (size_t i = from; i-- > 0;) /* columns move apart, the last ones first */
            for (size_t k = s->rank; k-- > 0;) s->basis[i * have + k] = s->basis[i * s->rank + k];
    }
    draw_tail(s);
}

double taut__sketch_left(const taut__sketch *s, size_t rank)
{
    double left = 1;
    if (s->looks < ENOUGH) return 1;
    for (size_t k = 0; k < s->rank && k < rank; k++) left -= s->share[k];
    return fmax(left, 0);
}
