/* basis_simd.h : basis_kernels.h with a vector of sums side by side. Every sum takes the same terms in the same order as in basis_portable.c. */
#include "basis_kernels.h"
#include <string.h>

/* LANES and, on vectors of so many floats, ADD(s, x, v): s += x v, and SUB: s -= x v, both fused, are the level's. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

#define LOAD(v, p)  memcpy(&(v), (p), sizeof(lanes))
#define STORE(p, v) memcpy((p), &(v), sizeof(lanes))

static void project(const float *x, size_t stride, size_t n, const float *v, size_t r, float *c)
{
    for (size_t k = 0; k < r; k += LANES) {
        lanes sum[BASIS_ROWS] = {0}, row;
        for (size_t j = 0; j < n; j++) {
            LOAD(row, v + j * r + k);
#pragma GCC unroll 8
            for (size_t i = 0; i < BASIS_ROWS; i++) ADD(sum[i], x[i * stride + j], row);
        }
#pragma GCC unroll 8
        for (size_t i = 0; i < BASIS_ROWS; i++) STORE(c + i * r + k, sum[i]);
    }
}

static void outer(const float *x, size_t stride, size_t n, const float *c, size_t r, float *a)
{
    for (size_t k = 0; k < r; k += LANES) {
        lanes row[BASIS_ROWS], sum;
#pragma GCC unroll 8
        for (size_t i = 0; i < BASIS_ROWS; i++) LOAD(row[i], c + i * r + k);
        for (size_t j = 0; j < n; j++) {
            LOAD(sum, a + j * r + k);
#pragma GCC unroll 8
            for (size_t i = 0; i < BASIS_ROWS; i++) ADD(sum, x[i * stride + j], row[i]);
            STORE(a + j * r + k, sum);
        }
    }
}

/* x[i][j..j+LANES) -= sum over k of b[i][k] wt[k][j..j+LANES) */
static void subtract(const taut__reflections *q, size_t j, const float *b, float *x, size_t stride)
{
    lanes rest[BASIS_ROWS], row;
#pragma GCC unroll 8
    for (size_t i = 0; i < BASIS_ROWS; i++) LOAD(rest[i], x + i * stride + j);
    for (size_t k = 0; k < q->r; k++) {
        LOAD(row, q->wt + k * q->n + j);
#pragma GCC unroll 8
        for (size_t i = 0; i < BASIS_ROWS; i++) SUB(rest[i], b[i * q->r + k], row);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < BASIS_ROWS; i++) STORE(x + i * stride + j, rest[i]);
}

static void reflect(const taut__reflections *q, float *x, size_t stride, bool back, float *ab)
{
    float *a = ab, *b = ab + BASIS_ROWS * q->r;
    size_t j = 0;
    project(x, stride, q->n, q->w, q->r, a);
    project(a, q->r, q->r, back ? q->tt : q->t, q->r, b);
    for (; j + LANES <= q->n; j += LANES) subtract(q, j, b, x, stride);
    for (; j < q->n; j++)
        for (size_t i = 0; i < BASIS_ROWS; i++)
            for (size_t k = 0; k < q->r; k++)
                x[i * stride + j] = __builtin_fmaf(-b[i * q->r + k], q->wt[k * q->n + j], x[i * stride + j]);
}
