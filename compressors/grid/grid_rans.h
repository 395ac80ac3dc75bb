/* grid_rans.h : code `rans` of one block, and of a chunk's classes, in plain C: the specification.
 * grid_rans.c puts a chunk together; the hot loops are kernels (grid_kernels.h).
 *
 *   class 0         64 zeros: nothing else
 *   class 1..3      its number, in side bits (grid_few.h)
 *   class 4..31     h = |q| >> r with r = 0 up to class 15, else (class - 14) / 2. 64 symbols of h and sign
 *                   go to rANS states, model class - 2r. Side bits: r low planes; escapes: h - top + 1 in Elias
 *                   gamma code, in order; signs of elements with h = 0 but q != 0
 *   class 32        S >= 2^16 or raw: side bits hold a nibble class and the body of code `packed`
 *
 * Range variant of asymmetric numeral systems: Duda 2013 (arXiv 1311.2540, section 3.3); interleaved lanes:
 * Giesen 2014 (arXiv 1402.3392). The encoder runs backwards, so that the decoder runs forwards.
 *
 * Sixteen states cost: what each begins with, 15 bits, and what rounds them to whole words. So few blocks go through one state,
 * the *serial* coder; and where there are lanes, the last blocks go through it first, and what it wrote, TAIL_BYTES at
 * most, is what the lanes begin with: the decoder finds it in them when it has decoded the rest.
 */
#ifndef TAUT_GRID_RANS_H
#define TAUT_GRID_RANS_H

#include "grid_few.h"
#include "grid_model.h"

enum {                                     /* of a chunk */
       GRID_RANS_SERIAL = GRID_SHAPES,     /* added to the shape: no lanes */
       GRID_RANS_PACKED = 2 * GRID_SHAPES, /* instead of a shape: the chunk is in code packed */
       GRID_RANS_SHORT = 1 << 10,          /* elements up to which that is tried */
       GRID_SERIAL_STATE = 4,
       GRID_TAIL_BITS = 15, /* of each lane's first state */
       GRID_TAIL_BYTES = GRID_LANES * GRID_TAIL_BITS / 8,
       GRID_LANES_HEAD = 3,             /* blocks of the tail, words */
       GRID_STATES_LEAST = 16 * 19 / 8, /* bytes of the lanes' last states: 4 bits of length, 15 to 30 of state */
       GRID_STATES_MOST = 16 * 34 / 8,
};
enum { GRID_CLASS_OTHER = 32, GRID_CLASS_SHIFTED = GRID_TOP_CLASS + 1 };

/* What the first pass over a chunk leaves for the second. 67 KB, on the stack. */
struct grid_front {
    unsigned    blocks;
    uint32_t    count[GRID_MODELS][3];
    uint8_t     cls[GRID_CHUNK_BLOCKS];
    uint8_t     symbol[GRID_CHUNK]; /* 64 per block of class 4..31, one block after the other; none for the others */
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
/* Of classes 4..31: index into models and grid_top */
TAUT_INLINE unsigned grid_class_model(unsigned cls) { return cls - 2 * grid_class_shift(cls) - GRID_FEW - 1; }
TAUT_INLINE bool     grid_has_symbols(unsigned cls) { return cls > GRID_FEW && cls < GRID_CLASS_OTHER; }
/* Blocks with symbols up to which one state does: it takes 4 to 7 ns a symbol, as long as the rest of a sparse chunk. */
TAUT_INLINE unsigned grid_serial_most(unsigned blocks) { return blocks < 128 ? 16 : blocks < 512 ? blocks / 8 : 64; }

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
    if (cls <= GRID_FEW) {
        grid_put(&f->side, grid_few_number(cls, nz, grid_at_least(b, 0, 2), b->sign), grid_few_bits(cls));
        return;
    }
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
        if (h >= top) grid_put_gamma(&f->side, h - top + 1);
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
        if (h == top) h += grid_get_gamma(side) - 1;
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

/* ---- states ---- */

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

/* One state for all symbols of a block, the last one first; words go upwards, and the state ends them. */
typedef struct grid_serial {
    uint32_t x;
    uint8_t *p;
} grid_serial;
TAUT_INLINE void grid_serial_put(grid_serial *s, const grid_model *m, const uint8_t symbol[GRID_BLOCK])
{
    for (unsigned i = GRID_BLOCK; i-- > 0;) {
        uint8_t word[2], *end = word + 2;
        s->x = grid_lane_put(s->x, m, symbol[i], &end);
        if (end == word) s->p[0] = word[0], s->p[1] = word[1], s->p += 2;
    }
}
TAUT_INLINE uint8_t *grid_serial_end(const grid_serial *s)
{
    for (unsigned i = 0; i < GRID_SERIAL_STATE; i++) s->p[i] = (uint8_t)(s->x >> 8 * i);
    return s->p + GRID_SERIAL_STATE;
}

/* The decoder goes down from the end, to `low` at most. */
typedef struct grid_serial_reader {
    uint32_t       x;
    const uint8_t *low, *p;
} grid_serial_reader;
TAUT_INLINE bool grid_serial_open(grid_serial_reader *s, const uint8_t *low, const uint8_t *end)
{
    s->x = GRID_STATE_LOW, s->low = low, s->p = end;
    if (end - low < GRID_SERIAL_STATE) return false;
    s->p -= GRID_SERIAL_STATE;
    s->x = s->p[0] | (uint32_t)s->p[1] << 8 | (uint32_t)s->p[2] << 16 | (uint32_t)s->p[3] << 24;
    return true;
}
TAUT_INLINE bool grid_serial_get(grid_serial_reader *s, const grid_model *m, uint8_t symbol[GRID_BLOCK])
{
    const uint32_t zero = m->range[0] >> GRID_RANGE_F & (2 * GRID_PROBS - 1);
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        uint32_t slot = s->x & (GRID_PROBS - 1);
        if (slot < zero)
            symbol[i] = 0, s->x = zero * (s->x >> GRID_PROB_BITS) + slot; /* guessed, so that no table is waited for */
        else s->x = grid_lane_get(s->x, m, symbol + i);
        if (s->x >= GRID_STATE_LOW) continue;
        if (s->p - s->low < 2) return false;
        s->p -= 2;
        s->x = s->x << 16 | s->p[0] | (uint32_t)s->p[1] << 8;
    }
    return true;
}

/* Lanes' last states, 2^15 .. 2^31 - 1, backwards from `end`: 4 bits of length, then what is below the top bit. */
TAUT_INLINE unsigned grid_put_states(const uint32_t state[GRID_LANES], uint8_t *dst) /* returns bytes */
{
    uint8_t     bits[GRID_STATES_MOST + 8];
    grid_writer w = {bits, 0, 0};
    for (unsigned i = 0; i < GRID_LANES; i++) {
        unsigned len = (grid_bitlen(state[i]) - GRID_TAIL_BITS - 1) & 15;
        grid_put(&w, len | (uint64_t)(state[i] - (UINT32_C(1) << (len + GRID_TAIL_BITS))) << 4,
                 4 + len + GRID_TAIL_BITS);
    }
    unsigned bytes = (unsigned)(grid_flush(&w) - bits);
    for (unsigned i = 0; i < bytes; i++) dst[i] = bits[bytes - 1 - i];
    return bytes;
}
/* Returns bytes, of `room` before `end`; 0: not so many. */
TAUT_INLINE unsigned grid_get_states(uint32_t state[GRID_LANES], const uint8_t *end, size_t room)
{
    uint8_t     bits[GRID_STATES_MOST];
    unsigned    held = room < GRID_STATES_MOST ? (unsigned)room : (unsigned)GRID_STATES_MOST;
    grid_reader r = {bits, held, 0};
    for (unsigned i = 0; i < held; i++) bits[i] = end[-1 - (int)i];
    for (unsigned i = 0; i < GRID_LANES; i++) {
        unsigned len = (unsigned)grid_get(&r, 4) + GRID_TAIL_BITS;
        state[i] = UINT32_C(1) << len | (uint32_t)grid_get(&r, len);
    }
    return grid_reader_ok(&r) ? (unsigned)((r.pos + 7) / 8) : 0;
}

/* What the lanes begin with: 15 bits each of GRID_TAIL_BYTES; and back. false: a state is none of those */
TAUT_INLINE void grid_tail_to_states(const uint8_t tail[GRID_TAIL_BYTES], uint32_t state[GRID_LANES])
{
    grid_reader r = {tail, GRID_TAIL_BYTES, 0};
    for (unsigned i = 0; i < GRID_LANES; i++) state[i] = GRID_STATE_LOW | (uint32_t)grid_get(&r, GRID_TAIL_BITS);
}
TAUT_INLINE bool grid_tail_of_states(const uint32_t state[GRID_LANES], uint8_t tail[GRID_TAIL_BYTES])
{
    uint8_t     bits[GRID_TAIL_BYTES + 8];
    grid_writer w = {bits, 0, 0};
    bool        ok = true;
    for (unsigned i = 0; i < GRID_LANES; i++) {
        ok &= state[i] >> GRID_TAIL_BITS == 1;
        grid_put(&w, state[i] & (GRID_STATE_LOW - 1), GRID_TAIL_BITS);
    }
    grid_flush(&w);
    memcpy(tail, bits, GRID_TAIL_BYTES);
    return ok;
}

/* As many of the last blocks with symbols as the states have room for. symbol_end: behind the last one's. Returns their number. */
TAUT_INLINE unsigned grid_put_tail(const grid_model *models, const uint8_t *cls, unsigned blocks,
                                   const uint8_t *symbol_end, uint8_t tail[GRID_TAIL_BYTES])
{
    uint8_t     room[GRID_TAIL_BYTES + GRID_WORDS_BYTES + GRID_SERIAL_STATE];
    grid_serial s = {GRID_STATE_LOW, room};
    unsigned    n = 0, bytes = 0;
    memset(tail, 0, GRID_TAIL_BYTES);
    for (unsigned k = blocks; k-- > 0;) {
        if (!grid_has_symbols(cls[k])) continue;
        symbol_end -= GRID_BLOCK;
        grid_serial_put(&s, models + grid_class_model(cls[k]), symbol_end);
        if (s.p + GRID_SERIAL_STATE - room > GRID_TAIL_BYTES) break;
        bytes = (unsigned)(s.p - room);
        memcpy(tail + GRID_TAIL_BYTES - GRID_SERIAL_STATE - bytes, room, bytes);
        grid_serial end = {s.x, tail + GRID_TAIL_BYTES - GRID_SERIAL_STATE};
        grid_serial_end(&end);
        n++;
    }
    return n;
}

/* What the second pass of a decoder needs. */
typedef struct grid_back {
    const grid_unit  *u;   /* unused where codes are asked for */
    void             *dst; /* n floats or codes */
    const grid_model *models;
    const uint8_t    *cls;
    unsigned          blocks; /* that are decoded by lanes */
    size_t            n;      /* elements of the chunk */
    uint32_t          state[GRID_LANES];
    const uint8_t    *words, *words_end; /* at least 32 readable bytes follow words_end */
    grid_reader       side;
} grid_back;

/* Block k, which has no symbols. */
TAUT_INLINE bool grid_back_bare(grid_back *b, unsigned k, grid_sink sink)
{
    size_t   i = (size_t)k * GRID_BLOCK, m = taut__min(GRID_BLOCK, b->n - i);
    uint8_t *out = (uint8_t *)b->dst + 4 * i;
    unsigned cls = b->cls[k];
    grid_few few;
    if (cls == 0) {
        if (sink == GRID_STORE) memset(out, 0, 4 * m);
        return true;
    }
    if (cls == GRID_CLASS_OTHER) return grid_back_other(b->u, &b->side, i, m, sink, out);
    if (!grid_few_of(grid_get(&b->side, grid_few_bits(cls)), cls, &few)) return false;
    grid_few_give(b->u, &few, cls, i, m, sink, out);
    return grid_reader_ok(&b->side);
}
/* Block k, of these symbols. */
TAUT_INLINE bool grid_back_give(grid_back *b, unsigned k, const uint8_t symbol[GRID_BLOCK], grid_sink sink)
{
    size_t     i = (size_t)k * GRID_BLOCK;
    grid_block block;
    if (!grid_back_block(symbol, b->cls[k], &b->side, &block)) return false;
    grid_back_store(b->u, &block, i, taut__min(GRID_BLOCK, b->n - i), sink, (uint8_t *)b->dst + 4 * i);
    return true;
}

#endif
