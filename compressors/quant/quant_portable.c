/* quant_portable.c : the specification of the kernels in quant_kernels.h. Also finishes the SIMD files' last group. */
#include "quant_codes.h"

static bool range(const float *x, size_t n, float *min, float *max)
{
    float lo = x[0], hi = x[0];
    bool  nan = false;
    for (size_t i = 0; i < n; i++) {
        nan |= x[i] != x[i];
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *min = lo;
    *max = hi;
    return !nan;
}

static void pack(const quant_unit *u, const float *x, size_t n, uint8_t *codes, float *err)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        uint8_t  q[QUANT_GROUP] = {0};
        size_t   g = taut__min(QUANT_GROUP, n - i);
        uint32_t counter = u->counter + (uint32_t)(i / 2);
        for (size_t j = 0; j < g; j++) q[j] = quant_code(u, x[i + j], quant_random(u, counter, j));
        quant_put_planes(u->bits, q, g, codes + i / 8 * u->bits);
        if (!err) continue;
        for (size_t j = 0; j < g; j++) err[i + j] = x[i + j] - (u->base + (float)q[j] * u->step);
    }
}

static void unpack(const quant_unit *u, const uint8_t *codes, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        uint8_t q[QUANT_GROUP];
        size_t  g = taut__min(QUANT_GROUP, n - i);
        quant_get_planes(u->bits, codes + i / 8 * u->bits, g, q);
        for (size_t j = 0; j < g; j++) dst[i + j] = u->base + (float)q[j] * u->step;
    }
}

static void unpack_add(const quant_unit *u, const uint8_t *codes, size_t n, float *acc)
{
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        uint8_t q[QUANT_GROUP];
        size_t  g = taut__min(QUANT_GROUP, n - i);
        quant_get_planes(u->bits, codes + i / 8 * u->bits, g, q);
        for (size_t j = 0; j < g; j++) acc[i + j] += u->base + (float)q[j] * u->step;
    }
}

const taut__quant_kernels taut__quant_portable = {
    .range = range,
    .pack = pack,
    .unpack = unpack,
    .unpack_add = unpack_add,
};
