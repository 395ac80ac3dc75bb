/* basis_portable.c : the specification of basis_kernels.h. */
#include "basis_kernels.h"
#include <math.h>

static void project(const float *x, size_t stride, size_t n, const float *v, size_t r, float *c)
{
    for (size_t i = 0; i < BASIS_ROWS; i++)
        for (size_t k = 0; k < r; k++) {
            float sum = 0;
            for (size_t j = 0; j < n; j++) sum = fmaf(x[i * stride + j], v[j * r + k], sum);
            c[i * r + k] = sum;
        }
}

static void outer(const float *x, size_t stride, size_t n, const float *c, size_t r, float *a)
{
    for (size_t j = 0; j < n; j++)
        for (size_t k = 0; k < r; k++)
            for (size_t i = 0; i < BASIS_ROWS; i++) a[j * r + k] = fmaf(x[i * stride + j], c[i * r + k], a[j * r + k]);
}

static void reflect(const taut__reflections *q, float *x, size_t stride, bool back, float *ab)
{
    float *a = ab, *b = ab + BASIS_ROWS * q->r;
    project(x, stride, q->n, q->w, q->r, a);
    project(a, q->r, q->r, back ? q->tt : q->t, q->r, b);
    for (size_t i = 0; i < BASIS_ROWS; i++)
        for (size_t j = 0; j < q->n; j++)
            for (size_t k = 0; k < q->r; k++)
                x[i * stride + j] = fmaf(-b[i * q->r + k], q->wt[k * q->n + j], x[i * stride + j]);
}

const struct taut__basis_kernels taut__basis_portable = {.reflect = reflect, .project = project, .outer = outer};
