/* quant_rotate_portable.c : the specification of the kernels in quant_rotate.h. */
#include "quant_rotate.h"

static void turn(float *x, size_t n)
{
    for (size_t h = 1; h < n; h *= 2)
        for (size_t i = 0; i < n; i += 2 * h)
            for (size_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
}

static void flip(float *dst, const float *x, const float *sign, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = (x[i] * factor) * sign[i];
}

static double flip_turn(float *dst, const float *x, const float *sign, float factor, size_t n)
{
    double sum[8] = {0};
    flip(dst, x, sign, factor, n);
    for (size_t i = 0; i < n; i += 64) {
        float square[64] = {0};
        for (size_t j = 0; j < 64 && i + j < n; j++) square[j] = dst[i + j] * dst[i + j];
        rotate_add(sum, square);
    }
    turn(dst, n);
    return rotate_fold(sum);
}

static double level(const quant_levels *l, const float *w, float inv, size_t n, float *code, float *value)
{
    double sum[8] = {0};
    for (size_t i = 0; i < n; i += 64) {
        float product[64] = {0};
        for (size_t j = 0; j < 64 && i + j < n; j++) {
            float    y = w[i + j] * inv;
            uint32_t m = rotate_magnitude(l, fabsf(y));
            value[i + j] = y < 0 ? -l->level[m] : l->level[m];
            code[i + j] = (float)(y < 0 ? l->half - 1 - m : l->half + m);
            product[j] = y * value[i + j];
        }
        rotate_add(sum, product);
    }
    return rotate_fold(sum);
}

static void value(const quant_levels *l, const float *code, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) dst[i] = rotate_value(l, code[i]);
}

static void give(float *dst, const float *h, const float *sign, float unit, size_t n, bool add)
{
    for (size_t i = 0; i < n; i++) {
        float v = rotate_give(h[i], sign[i], unit);
        dst[i] = add ? dst[i] + v : v;
    }
}

const taut__rotate_kernels taut__rotate_portable = {
    .turn = turn,
    .flip = flip,
    .flip_turn = flip_turn,
    .level = level,
    .value = value,
    .give = give,
};
