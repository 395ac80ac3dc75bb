/* quant_levels.h : the levels of rotated buckets, in standard deviations. Symmetric: code half + m is level[m], half - 1 - m is -level[m].
 *
 * Up to 4 bits an element takes the nearest level; with more it takes that which is nearest to the middle of its cell, 1/512 wide, which
 * a table tells in one step (the error grows by 1% with 8 bits). */
#ifndef TAUT_QUANT_LEVELS_H
#define TAUT_QUANT_LEVELS_H

#include "../../comm/base/base.h"
#include <float.h>
#include <math.h>

enum {
    QUANT_LEVELS_BITS = 8,
    QUANT_LEVELS_MOST = 128,
    QUANT_LEVELS_FINE = 512,   /* cells per standard deviation */
    QUANT_LEVELS_CELLS = 2304, /* the last one takes all beyond 4.5, where the last level of 8 bits lies */
    QUANT_LEVELS_COMPARED = 4, /* bits up to which levels are compared */
};

typedef struct quant_levels {
    uint32_t bits, half;                      /* half: 2^(bits-1), the positive levels */
    float    level[QUANT_LEVELS_MOST];        /* ascending; behind the last one, it again */
    float    limit[QUANT_LEVELS_MOST];        /* between level k and k + 1; behind the last one, infinity */
    uint8_t  of_cell[QUANT_LEVELS_CELLS + 4]; /* padding for vector loads */
} quant_levels;

#ifdef __cplusplus
extern "C" {
#endif
const quant_levels *taut__quant_levels(uint32_t bits); /* bits 1..8. Built once, on first use */
#ifdef __cplusplus
}
#endif

/* ---- one element ---- */

TAUT_INLINE uint32_t rotate_magnitude(const quant_levels *l, float a) /* a >= 0 -> index of its level */
{
    if (l->bits > QUANT_LEVELS_COMPARED) {
        float cell = a * QUANT_LEVELS_FINE;
        return l->of_cell[cell < QUANT_LEVELS_CELLS - 1 ? (int)cell : QUANT_LEVELS_CELLS - 1];
    }
    uint32_t m = 0;
    for (uint32_t k = 0; k + 1 < l->half; k++) m += a > l->limit[k];
    return m;
}
/* Level of a code, which unpacking has made: an integer below 2^bits */
TAUT_INLINE float rotate_value(const quant_levels *l, float code)
{
    float t = code - ((float)l->half - 0.5f), v = l->level[(int)(fabsf(t) - 0.5f)];
    return t < 0 ? -v : v;
}
TAUT_INLINE float rotate_give(float h, float sign, float unit)
{
    float v = (h * sign) * unit;
    return v > FLT_MAX ? FLT_MAX : v < -FLT_MAX ? -FLT_MAX : v;
}

#endif
