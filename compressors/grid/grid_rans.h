/* grid_rans.h : code `rans` of one block, and of a chunk's classes, in plain C: the specification.
 * grid_rans.c puts a chunk together; the hot loops are kernels (grid_kernels.h).
 *
 *   class 0         64 zeros: nothing else
 *   class 1..31     h = |q| >> r with r = 0 up to class 15, else (class - 14) / 2. 64 symbols of h and sign
 * go to the rANS lanes, model class - 2r. Side bits: r low planes; escapes: h - top + 1 in Elias gamma code,
 * in order; signs of elements with h = 0 but q != 0 class 32        S >= 2^16 or raw: side bits hold a nibble
 * class and the body of code `packed`
 *
 * Range variant of asymmetric numeral systems: Duda 2013 (arXiv 1311.2540, section 3.3); interleaved lanes:
 * Giesen 2014 (arXiv 1402.3392). The encoder runs backwards, so that the decoder runs forwards.
 */
#ifndef TAUT_GRID_RANS_H
#define TAUT_GRID_RANS_H

#include "grid_model.h"
#include "grid_unit.h"

enum { /* of a chunk */
       GRID_RANS_HEAD = 8,
       GRID_RANS_STATES = 4 * GRID_LANES,
       GRID_RANS_SHORT = 1 << 13,      /* elements up to which both codes are tried */
       GRID_RANS_PACKED = GRID_SHAPES, /* instead of a shape: code packed follows */
       GRID_RANS_SPARSE,               /* instead of a shape: no lanes */
       GRID_RANS_SPARSE_HEAD = 3,
       GRID_RANS_SPARSE_BLOCKS =
           128, /* blocks with codes up to which that is tried: more than win back the states of the lanes */
};
enum { GRID_CLASS_OTHER = 32, GRID_CLASS_SHIFTED = GRID_MODELS + 1, GRID_ESCAPES_FROM = 4 };

/* What the first pass over a chunk leaves for the second. 67 KB, on the stack. */
struct grid_front {
    unsigned    blocks;
    uint32_t    count[GRID_MODELS + 1][3];
    uint8_t     cls[GRID_CHUNK_BLOCKS];
    uint8_t     symbol[GRID_CHUNK]; /* 64 per block of class 1..31, one block after the other; none for the others */
    size_t      symbols;
    grid_writer side;
};

TAUT_INLINE unsigned grid_class_of_sum(uint64_t sum)
{
    if (sum < 2) return (unsigned)sum;
    unsigned e = grid_bitlen(sum) - 1;
    return e > 15 ? (unsigned)GRID_CLASS_OTHER : 2 * e + (unsigned)(sum >> (e - 1) & 1);
}
TAUT_INLINE unsigned grid_class_shift(unsigned cls) { return cls < GRID_CLASS_SHIFTED ? 0 : (cls - 14) / 2; }
TAUT_INLINE unsigned grid_class_model(unsigned cls) { return cls - 2 * grid_class_shift(cls); }

TAUT_INLINE void grid_put_gamma(grid_writer *w, uint32_t v) /* v >= 1; 4 bits of length: v < 2^16 */
{
    unsigned b = grid_bitlen(v) - 1;
    grid_put(w, b | (uint64_t)(v - (UINT32_C(1) << b)) << 4, 4 + b);
}
TAUT_INLINE uint32_t grid_get_gamma(grid_reader *r)
{
    unsigned b = (unsigned)grid_get(r, 4);
    return (UINT32_C(1) << b) + (b ? (uint32_t)grid_get(r, b) : 0);
}

/* Block of codes -> symbols, side bits, class. */
TAUT_INLINE void grid_front_block(struct grid_front *f, const grid_block *b)
{
    uint64_t sum = 0, nz = 0, big = 0, lost = 0;
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        sum += b->mag[i];
        nz |= (uint64_t)(b->mag[i] != 0) << i;
    }
    unsigned cls = grid_class_of_sum(sum);
    f->cls[f->blocks++] = (uint8_t)cls;
    if (cls == 0) return;
    if (cls == GRID_CLASS_OTHER) {
        unsigned rice;
        grid_put(&f->side, grid_class_of(nz, sum, &rice), 4);
        grid_block_put(&f->side, b);
        return;
    }
    unsigned r = grid_class_shift(cls), model = grid_class_model(cls), top = grid_top[model];
    uint8_t *symbol = f->symbol + f->symbols;
    f->symbols += GRID_BLOCK;
    for (unsigned p = 0; p < r; p++) grid_put(&f->side, grid_plane(b, p), 64);
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        uint32_t h = b->mag[i] >> r, v = h < top ? h : top;
        symbol[i] = (uint8_t)(v ? 2 * v - !(b->sign >> i & 1) : 0);
        f->count[model][v < 2 ? v : 2]++;
        if (h >= top && cls >= GRID_ESCAPES_FROM) grid_put_gamma(&f->side, h - top + 1);
        big |= (uint64_t)(h != 0) << i;
    }
    lost = nz & ~big;
    if (lost) grid_put(&f->side, grid_pext(b->sign, lost), grid_count_bits(lost));
}
TAUT_INLINE void grid_front_raw(struct grid_front *f, const float *x, size_t m)
{
    f->cls[f->blocks++] = GRID_CLASS_OTHER;
    grid_put(&f->side, GRID_WIDE, 4);
    grid_raw_put(&f->side, x, m);
}
TAUT_INLINE void grid_front_encode(struct grid_front *f, const grid_unit *u, const float *x, size_t i, size_t m,
                                   float *err)
{
    float        tmp[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    grid_block   b;
    if (!grid_block_quantize(u, x, d, m, &b)) {
        grid_front_raw(f, x, m);
        if (err) memset(err, 0, m * sizeof *err);
        return;
    }
    for (size_t k = 0; err && k < m; k++) err[k] = x[k] - grid_value(grid_block_code(&b, k), d ? d[k] : u->step);
    grid_front_block(f, &b);
}

/* Symbols of a block, its class and its side bits -> codes. false: a code does not fit. */
TAUT_INLINE bool grid_back_block(const uint8_t *symbol, unsigned cls, grid_reader *side, grid_block *b)
{
    unsigned r = grid_class_shift(cls), top = grid_top[grid_class_model(cls)];
    uint64_t lost = 0;
    memset(b, 0, sizeof *b);
    for (unsigned p = 0; p < r; p++) {
        uint64_t plane = grid_get(side, 64);
        for (unsigned i = 0; i < GRID_BLOCK; i++) b->mag[i] |= (uint32_t)(plane >> i & 1) << p;
    }
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        uint32_t h = (symbol[i] + 1u) >> 1;
        b->sign |= (uint64_t)(h != 0 && !(symbol[i] & 1)) << i;
        if (h == top && cls >= GRID_ESCAPES_FROM) h += grid_get_gamma(side) - 1;
        lost |= (uint64_t)(h == 0 && b->mag[i] != 0) << i;
        b->mag[i] |= h << r; /* h < 2^17, r <= 8 */
    }
    if (lost) b->sign |= grid_pdep(grid_get(side, grid_count_bits(lost)), lost);
    return grid_reader_ok(side);
}

/* Block of codes -> dst, as sink says. */
TAUT_INLINE void grid_back_store(const grid_unit *u, const grid_block *b, size_t i, size_t m, grid_sink sink, void *out)
{
    float        tmp[GRID_BLOCK], *dst = (float *)out;
    int32_t     *acc = (int32_t *)out;
    const float *d = sink == GRID_CODES ? NULL : grid_unit_block(u, i, m, tmp);
    for (size_t k = 0; k < m; k++) {
        int32_t q = grid_block_code(b, k);
        if (sink == GRID_CODES) acc[k] = (int32_t)((uint32_t)acc[k] + (uint32_t)q);
        else if (sink == GRID_ADD) dst[k] += grid_value(q, d ? d[k] : u->step);
        else dst[k] = grid_value(q, d ? d[k] : u->step);
    }
}

/* A block of class OTHER: nibble class and body. */
TAUT_INLINE bool grid_back_other(const grid_unit *u, grid_reader *side, size_t i, size_t m, grid_sink sink, void *out)
{
    unsigned nibble = (unsigned)grid_get(side, 4);
    if (nibble == GRID_ZERO || nibble == GRID_RUN) return false;
    return grid_block_decode(u, side, nibble, i, m, sink, out);
}

/* ---- lanes ---- */

/* One symbol into a state; words go downwards from *end. Exact: see grid_model. */
TAUT_INLINE uint32_t grid_lane_put(uint32_t x, const grid_model *m, unsigned symbol, uint8_t **end)
{
    uint32_t range = m->range[symbol], start = range & (GRID_PROBS - 1),
             f = range >> GRID_RANGE_F & (2 * GRID_PROBS - 1);
    if (x >= f << (31 - GRID_PROB_BITS)) {
        *end -= 2;
        (*end)[0] = (uint8_t)x;
        (*end)[1] = (uint8_t)(x >> 8);
        x >>= 16;
    }
    uint32_t q = (uint32_t)((uint64_t)x * m->rcp[symbol] >> (31 + (range >> GRID_RANGE_SHIFT)));
    return (q << GRID_PROB_BITS) + (x - q * f) + start;
}
TAUT_INLINE uint32_t grid_lane_get(uint32_t x, const grid_model *m, uint8_t *symbol)
{
    uint32_t slot = x & (GRID_PROBS - 1);
    *symbol = m->symbol[slot];
    uint32_t range = m->range[*symbol];
    return (range >> GRID_RANGE_F & (2 * GRID_PROBS - 1)) * (x >> GRID_PROB_BITS) + slot - (range & (GRID_PROBS - 1));
}

/* What the second pass of a decoder needs. */
typedef struct grid_back {
    const grid_unit  *u;   /* unused where codes are asked for */
    void             *dst; /* n floats or codes */
    const grid_model *models;
    const uint8_t    *cls;
    unsigned          blocks;
    size_t            n; /* elements */
    uint32_t          state[GRID_LANES];
    const uint8_t    *words, *words_end; /* at least 64 readable bytes follow words_end */
    grid_reader       side;
} grid_back;

#endif
