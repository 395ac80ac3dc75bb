/* grid_kernels.h : the chunk-level work of the grid codec, one table per instruction set (dispatch.h).
 *
 * grid_portable.c is the specification. Every level writes the same bytes, the same codes and the same
 * floats. A chunk is at most GRID_CHUNK consecutive elements; all buffers of a call belong to one chunk.
 */
#ifndef TAUT_GRID_KERNELS_H
#define TAUT_GRID_KERNELS_H

#include "../../comm/base/base.h"

enum {
    GRID_BLOCK = 64,      /* elements that share a class: one 64-bit mask per bit plane */
    GRID_CHUNK_LOG2 = 16, /* chunks decode alone: random access, threads, one GPU block each */
    GRID_CHUNK = 1 << GRID_CHUNK_LOG2,
    GRID_CHUNK_BLOCKS = GRID_CHUNK / GRID_BLOCK,
    /* Bytes that one block takes at most: 30 low planes, 64 signs, 64 + 128 bits of unary maps and 16 escapes
     * of 12 bits (see grid_block.h), half a byte of class. A raw block takes 2053 bits. */
    GRID_BLOCK_BYTES = 320,
    GRID_WORDS_BYTES = 96,  /* rans words of one block: 64 symbols of at most 11 bits, and rounding */
    GRID_CHUNK_BYTES = 128, /* of a rans chunk besides its blocks */
    GRID_SLACK = 32,        /* writers store whole words and vectors */
    GRID_STEPS = 4,         /* steps whose error one pass measures */
    GRID_SUMS = 3, /* that one pass makes of all elements: of squares, scaled and plain, and of magnitudes, scaled */
};

#define GRID_NO_CODES SIZE_MAX

/* grid_unit : the unit of the codes of one chunk. The value of code q at element i is q * d_i with d_i = step
 * (stride 0), step * scale[i] (stride 1) or step * scale[(first + i) / stride] (one scale per row of `stride`
 * elements). inv = 1 / step, used only with stride 0. bias = 1 - dead: |x| / d + bias is truncated. */
typedef struct grid_unit {
    float        step, inv, bias;
    const float *scale;
    size_t       stride, first;
} grid_unit;

/* Bin of a float: its exponent and two bits of mantissa, less `lowest`, cut to 0..last. */
typedef struct grid_binning {
    int32_t lowest, last;
} grid_binning;

struct grid_front;
struct grid_back;
struct grid_model;

struct taut__grid_kernels {
    /* x[0..n) -> chunk bytes; returns their number, 0 when all codes are zero. err: NULL or n floats, may be
     * x. Blocks that hold a value without a code (not finite, |code| >= 2^31) travel raw. */
    size_t (*encode)(const grid_unit *u, const float *x, size_t n, float *err, uint8_t *dst);
    /* false (nothing promised about q and err): some |code| > limit, or x is not finite */
    bool (*quantize)(const grid_unit *u, const float *x, size_t n, int32_t *q, float *err, int32_t limit);
    size_t (*pack)(const int32_t *q, size_t n, uint8_t *dst); /* same bytes as encode */
    /* quantize and pack in one pass; limit >= 255. GRID_NO_CODES: what quantize calls false */
    size_t (*quantize_pack)(const grid_unit *u, const float *x, size_t n, int32_t *q, float *err, int32_t limit,
                            uint8_t *dst);
    /* false: malformed. add: dst[i] += value instead of dst[i] = value */
    bool (*decode)(const grid_unit *u, const uint8_t *src, size_t len, size_t n, float *dst, bool add);
    bool (*unpack_add)(const uint8_t *src, size_t len, size_t n, int32_t *acc);
    /* unpack_add, then dequantize of the sums, in one pass */
    bool (*unpack_values)(const grid_unit *u, const uint8_t *src, size_t len, size_t n, int32_t *acc, float *dst);
    void (*dequantize)(const grid_unit *u, const int32_t *q, size_t n, float *dst);
    /* code `rans`: first pass, blocks -> symbols, classes and side bits (grid_rans.h) */
    void (*front_encode)(const grid_unit *u, const float *x, size_t n, float *err, struct grid_front *f);
    void (*front_pack)(const int32_t *q, size_t n, struct grid_front *f);
    /* second pass, backwards: f->symbol -> words, which end at words_end; returns their start. state: of 16 lanes, from what
     * they begin with to what they end with */
    uint8_t *(*lanes_put)(const struct grid_model *models, const struct grid_front *f, uint32_t *state,
                          uint8_t *words_end);
    /* one chunk or two, b[0..count); sink: a grid_sink. false: malformed */
    bool (*lanes_get)(struct grid_back *b, unsigned count, int sink);
    /* sum[k] += sum over i of ((x - value) / d)^2 for each of four units, which differ in step only */
    void (*errors)(const grid_unit u[GRID_STEPS], const float *x, size_t n, double sum[GRID_STEPS]);
    /* sum[0] += sum of (x / scale)^2, sum[1] += sum of x^2; u->step is 1 */
    void (*norms)(const grid_unit *u, const float *x, size_t n, double sum[GRID_SUMS]);
    /* x[0..m), m <= 64, at element i of the unit: counts |x / scale| by quarter octave in bins (added), and
     * returns its mean */
    float (*count)(const grid_unit *u, const float *x, size_t i, size_t m, const grid_binning *b, uint32_t *bins);
};

extern const struct taut__grid_kernels taut__grid_portable;
extern const struct taut__grid_kernels taut__grid_avx2;
extern const struct taut__grid_kernels taut__grid_avx512;
extern const struct taut__grid_kernels taut__grid_avx512vbmi2;
extern const struct taut__grid_kernels taut__grid_neon;

#endif
