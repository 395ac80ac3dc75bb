/* grid_model.h : the probabilities of code `rans`.
 *
 * A block's class is its sum of magnitudes S in half octaves: 0; 1; 2e + (bit below the top one) with e =
 * floor(log2 S). Given S, the values of a block are close to independent draws of a generalised Gaussian
 * density exp(-|x/b|^shape), put on the grid with dead zone 0.65, b such that the mean magnitude is the
 * class's: on the shipped traces shape 2 comes within 0.3% of each class's own entropy. So tables cost
 * nothing to send: the class is the table, and a chunk chooses one of four shapes. Classes 1 to 3 need none: S itself is known,
 * so their blocks are numbered (grid_few.h). Symbol of value v: 0, then
 * 2v-1 for v > 0 and -2v for v < 0; the largest magnitude of a class stands for itself and all above
 * (escape), so the symbols of a class are few and none is priced below 1/2048 for nothing.
 */
#ifndef TAUT_GRID_MODEL_H
#define TAUT_GRID_MODEL_H

#include "grid_bits.h"

/* Small tables that both the CPU's and the GPU's code read. */
#if defined(__CUDACC__)
#define GRID_SMALL_TABLE static __device__ const
#pragma nv_diag_suppress 20091 /* the host's copies of functions that kernels call, which nobody runs, would read them */
#else
#define GRID_SMALL_TABLE static const
#endif

enum {
    GRID_PROB_BITS = 11,
    GRID_PROBS = 1 << GRID_PROB_BITS,
    GRID_SHAPES = 4,
    GRID_FEW = 3,        /* classes 1..GRID_FEW have no model */
    GRID_TOP_CLASS = 15, /* S < 256. Classes above code S >> r, with r low planes as they are */
    GRID_MODELS = GRID_TOP_CLASS - GRID_FEW,
    GRID_SYMBOLS = 32,
    GRID_LANES = 16,          /* interleaved states: element i of a block belongs to lane i mod 16 */
    GRID_STATE_LOW = 1 << 15, /* states are 31 bits, renormalised by 16-bit words */
};

/* One table, ready for both directions. With f = frequency: code points start .. start+f-1 are the symbol's;
 * x / f equals x * rcp >> shift for every x < f * 2^20, the states that are encoded (Granlund and Montgomery
 * 1994). */
typedef struct grid_model {
    uint8_t  symbol[GRID_PROBS + 32]; /* of each code point; padding for vector loads */
    uint32_t range[GRID_SYMBOLS];     /* start in bits 0..10, f in bits 11..22, shift - 31 above */
    uint32_t rcp[GRID_SYMBOLS];
    /* For decoders without a gather: symbol of a slot = before[slot / 32] + popcount of the low slot % 32 + 1 bits of
     * starts[slot / 32] */
    uint32_t starts[GRID_PROBS / 32]; /* bit j: a symbol starts at slot 32 k + j; not slot 0 */
    uint8_t  before[GRID_PROBS / 32]; /* symbols that start before slot 32 k, less 1 */
    uint32_t factor[GRID_SYMBOLS];    /* f in the low word, 16 f in the high one */
    uint32_t rest[GRID_SYMBOLS];      /* f * 2^19 - start */
} grid_model;
enum { GRID_RANGE_F = 11, GRID_RANGE_SHIFT = 23 };

/* Largest magnitude that has a symbol of its own or stands for an escape, by class - GRID_FEW - 1. */
GRID_SMALL_TABLE uint8_t grid_top[GRID_MODELS] = {3, 3, 4, 4, 5, 6, 7, 9, 12, 15, 15, 15};
/* Shapes, steepest first: 2 is a Gaussian, 1 a Laplacian. */
static const float grid_shape[GRID_SHAPES] = {2.0f, 1.4f, 1.0f, 0.7f};

#ifdef __cplusplus
extern "C" {
#endif
/* models of a shape: [class - GRID_FEW - 1]. Built once, on first use. */
const grid_model *taut__grid_models(unsigned shape);
/* The shape that codes a chunk in the fewest bits. count[model][0..2]: values 0, +-1 and beyond. */
unsigned taut__grid_choose_shape(uint32_t count[GRID_MODELS][3]);

/* Everything that a GPU needs of this, to be copied there once. */
typedef struct grid_tables {
    grid_model model[GRID_SHAPES][GRID_MODELS];
    uint16_t   price[GRID_SHAPES][GRID_MODELS][3]; /* bits * 256 of 0, of a sign of 1, of anything beyond */
} grid_tables;
const grid_tables *taut__grid_tables(void);
#ifdef __cplusplus
}
#endif

#endif
