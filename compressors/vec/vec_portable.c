/* vec_portable.c : the specification of vec.h. */
#include "vec.h"
#include "vec_half.h"

static void f16_from(const float *restrict x, uint16_t *restrict h, size_t n)
{
    for (size_t i = 0; i < n; i++) h[i] = vec_f16_from(x[i]);
}
static void f16_to(const uint16_t *restrict h, float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = vec_f16_to(h[i]);
}
static void f16_add(const uint16_t *restrict h, float *restrict acc, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += vec_f16_to(h[i]);
}
static void bf16_from(const float *restrict x, uint16_t *restrict h, size_t n)
{
    for (size_t i = 0; i < n; i++) h[i] = vec_bf16_from(x[i]);
}
static void bf16_to(const uint16_t *restrict h, float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = vec_bf16_to(h[i]);
}
static void bf16_add(const uint16_t *restrict h, float *restrict acc, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += vec_bf16_to(h[i]);
}
static void add(const float *restrict x, float *restrict acc, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += x[i];
}
static void scale(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] *= factor;
}
static double sumsq(const float *x, size_t n)
{
    double lane[TAUT_VEC_LANES] = {0};
    for (size_t i = 0; i < n; i++) lane[i % TAUT_VEC_LANES] += (double)x[i] * x[i];
    return vec_fold(lane);
}

const taut__vec_kernels taut__vec_portable = {
    .f16_from = f16_from, .f16_to = f16_to, .f16_add = f16_add,
    .bf16_from = bf16_from, .bf16_to = bf16_to, .bf16_add = bf16_add,
    .add = add, .scale = scale, .sumsq = sumsq,
};
