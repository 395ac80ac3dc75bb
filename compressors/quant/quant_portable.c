/* quant_portable.c : the specification of quant_kernels.h. */
#include "quant_kernels.h"
#include <math.h>
#include <string.h>

static bool range(const float *x, size_t n, float *min, float *max)
{
    float lo = x[0], hi = x[0], poison = 0;
    for (size_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
        poison += x[i] * 0.0f; /* NaN as soon as one x is not finite */
    }
    *min = lo + 0.0f; /* -0 and +0 are equal, so which one came first must not show */
    *max = hi + 0.0f;
    return poison == 0;
}

/* Eight codes are `bits` bytes. */
static void put8(const uint8_t q[8], int bits, uint8_t *dst, size_t bytes)
{
    uint64_t w = 0;
    for (int k = 0; k < 8; k++) w |= (uint64_t)q[k] << (k * bits);
    for (size_t b = 0; b < bytes; b++) dst[b] = (uint8_t)(w >> (8 * b));
}

static void encode(const float *x, size_t n, int bits, const quant_levels *l, const quant_round *r, uint8_t *dst,
                   float *err)
{
    for (size_t i = 0; i < n; i += 8) {
        uint8_t q[8] = {0};
        size_t  m = taut__min(8, n - i);
        for (size_t k = 0; k < m; k++) {
            uint64_t at = r->first + i + k;
            float    u = r->stochastic ? quant_uniform(taut__rng(r->seed, at / 2), at) : 0.5f;
            q[k] = (uint8_t)quant_code(x[i + k], l, l->zero + u);
            if (err) err[i + k] = x[i + k] - quant_value(q[k], l);
        }
        put8(q, bits, dst + i / 8 * (size_t)bits, quant_packed_bytes(m, bits));
    }
}

static void decode(const uint8_t *src, size_t n, int bits, const quant_levels *l, float *dst, bool add)
{
    unsigned mask = (1u << bits) - 1;
    for (size_t i = 0; i < n; i += 8) {
        size_t   m = taut__min(8, n - i), bytes = quant_packed_bytes(m, bits);
        uint64_t w = 0;
        for (size_t b = 0; b < bytes; b++) w |= (uint64_t)src[i / 8 * (size_t)bits + b] << (8 * b);
        for (size_t k = 0; k < m; k++) {
            float v = quant_value((int)((w >> (k * (size_t)bits)) & mask), l);
            dst[i + k] = add ? dst[i + k] + v : v;
        }
    }
}

const struct taut__quant_kernels taut__quant_portable = {.range = range, .encode = encode, .decode = decode};
