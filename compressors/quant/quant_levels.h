/* quant_levels.h : the levels of rotated buckets, in standard deviations. Symmetric: code half + m is level[m], half - 1 - m is -level[m].
 *
 * Up to 4 bits an element takes the nearest level; with more it takes that which is nearest to the middle of its cell, 1/512 wide, which
 * a table tells in one step (the error grows by 1% with 8 bits). */
#ifndef TAUT_QUANT_LEVELS_H
#define TAUT_QUANT_LEVELS_H

#include "../../comm/base/base.h"

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

const quant_levels *taut__quant_levels(uint32_t bits); /* bits 1..8. Built once, on first use */

#endif
