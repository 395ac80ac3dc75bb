/* grid_simd.h : the grid kernels on vectors of 64 bytes. An including file defines first, as static inline functions,
 *   bits_extract(v, mask), bits_deposit(v, mask), bits_low(v, n)   pext, pdep, the n <= 64 lowest bits
 *   vec64                                    64 magnitudes of one byte
 *   vec64_zero(), vec64_min(v, x), vec64_shift(v, r), vec64_sum(v), vec64_store(p, v), vec64_load_bytes(p)
 *   vec64_add_at(v, mask, x)                 adds x to the bytes in mask
 *   vec64_at_least(v, x), vec64_bit(v, b)    masks of bytes >= x (x in 1..255), of bytes with bit b
 *   vec64_symbols(v, plus)                   2 * v, less 1 in mask plus
 *   vec64_halves(symbols, r)                 (symbol + 1) / 2 << r
 *   vec64_quantize(u, x, d, err, &v, &sign)  64 floats; false, with nothing written: a magnitude above 255 or no code
 *   vec64_load(q, &v, &sign)                 64 codes; false: a magnitude above 255
 *   vec64_give(v, sign, step, d, sink, out)  to 64 floats or codes
 *   vec64_dequantize(q, step, d, dst)        values of 64 codes
 *   lanes, lanes_load(p), lanes_store(p, s)
 *   lanes_put_block(&s, model, symbol, end), lanes_get_block(&s, model, &words, end, &symbols)
 *   lanes_get_pair(&s, &t, model s, model t, back s, back t, &symbols s, &symbols t)   both at once
 * Short blocks and those with larger codes go through the plain C of grid_unit.h and grid_rans.h. */
#ifndef TAUT_GRID_SIMD_H
#define TAUT_GRID_SIMD_H

#include "grid_rans.h"

enum {
    SIMD_RICE_MAX = 5,  /* packed: without escapes magnitudes are then below GRID_LEVELS << 5 = 256 */
    SIMD_SHIFT_MAX = 4, /* rans: then below 15 << 4 */
};

/* ---- packed ---- */

/* Maps of h.. and above, until one is empty, and escapes. */
static inline void simd_put_levels(grid_writer *w, vec64 v, uint64_t map, unsigned h, unsigned r)
{
    for (; h <= GRID_LEVELS && map; h++) {
        uint64_t next = h << r > 255 ? 0 : vec64_at_least(v, (uint8_t)(h << r));
        grid_put(w, bits_extract(next, map), grid_count_bits(map));
        map = next;
    }
    if (map) {
        uint8_t mag[GRID_BLOCK];
        vec64_store(mag, v);
        for (; map; map &= map - 1) grid_put_escape(w, (uint32_t)mag[__builtin_ctzll(map)] >> r);
    }
}

/* First map. Which of the two last forms a block takes is a coin toss to a branch predictor, so both are computed. */
static inline void simd_put_first(grid_writer *w, unsigned cls, uint64_t map)
{
    if (cls < GRID_H4) {
        grid_put_positions(w, map);
        return;
    }
    uint64_t g = grid_groups(map), groups = bits_extract(g, GRID_GROUPS) | bits_extract(map, g * 15) << 16;
    unsigned two = cls == GRID_H4;
    grid_put(w, grid_choose(two, groups, map), (unsigned)grid_choose(two, 16 + 4 * grid_count_bits(g), 64));
}

static inline unsigned simd_put(grid_writer *out, vec64 v, uint64_t sign)
{
    uint64_t nz = vec64_at_least(v, 1), map;
    unsigned r, cls = grid_class_of(nz, vec64_sum(v), &r);
    if (cls == GRID_ZERO) return cls;
    grid_writer w = *out; /* a copy, so that its members stay in registers */
    for (unsigned p = 0; p < r; p++) grid_put(&w, vec64_bit(v, p), 64);
    map = vec64_at_least(v, (uint8_t)(1u << r));
    simd_put_first(&w, cls, map);
    uint64_t two = r > SIMD_RICE_MAX ? 0 : vec64_at_least(v, (uint8_t)(2u << r));
    unsigned twos = grid_count_bits(two);
    if (r <= SIMD_RICE_MAX && twos <= 32) { /* three levels unasked: empty maps take no bits, wrong guesses take time */
        uint64_t three = vec64_at_least(v, (uint8_t)(3u << r)), four = vec64_at_least(v, (uint8_t)(4u << r));
        grid_put(&w, bits_extract(two, map), grid_count_bits(map));
        grid_put(&w, bits_extract(three, two) | bits_extract(four, three) << twos, twos + grid_count_bits(three));
        if (four) simd_put_levels(&w, v, four, 5, r);
    } else {
        simd_put_levels(&w, v, map, 2, r);
    }
    grid_put(&w, bits_extract(sign, nz), grid_count_bits(nz));
    *out = w;
    return cls;
}

/* Maps h.. of a block, and escapes. false: a magnitude does not fit a byte. */
static inline bool simd_get_levels(grid_reader *rd, vec64 *v, uint64_t map, unsigned h, unsigned r)
{
    for (; h <= GRID_LEVELS && map; h++) {
        map = bits_deposit(grid_get(rd, grid_count_bits(map)), map);
        *v = vec64_add_at(*v, map, (uint8_t)(1u << r));
    }
    if (!map) return true;
    uint8_t mag[GRID_BLOCK];
    vec64_store(mag, *v);
    for (; map; map &= map - 1) {
        uint8_t *m = mag + __builtin_ctzll(map);
        uint64_t h8 = grid_get_escape(rd);
        if (h8 << r > 255) return false;
        *m = (uint8_t)(h8 << r | (*m & ((1u << r) - 1)));
    }
    *v = vec64_load_bytes(mag);
    return true;
}

/* Body of a block whose magnitudes fit bytes. false: they do not, or it is malformed; the caller starts again in
 * plain C. */
static inline bool simd_get(grid_reader *in, unsigned cls, vec64 *out, uint64_t *sign)
{
    grid_reader rd = *in;
    vec64       v = vec64_zero();
    uint64_t    map, nz = 0;
    unsigned    r = 0;
    if (cls < GRID_H4) {
        map = grid_get_positions(&rd, cls - GRID_P1 + 1);
    } else if (cls == GRID_H4) {
        uint64_t spread;
        map = grid_get_groups(&rd, &spread);
        map = bits_deposit(map, spread);
    } else {
        r = cls - GRID_R0;
        for (unsigned p = 0; p < r; p++) {
            uint64_t plane = grid_get(&rd, 64);
            v = vec64_add_at(v, plane, (uint8_t)(1u << p));
            nz |= plane;
        }
        map = grid_get(&rd, 64);
    }
    nz |= map;
    if (!nz) return false;
    v = vec64_add_at(v, map, (uint8_t)(1u << r));
    if (!simd_get_levels(&rd, &v, map, 2, r)) return false;
    *sign = bits_deposit(grid_get(&rd, grid_count_bits(nz)), nz);
    *out = v;
    *in = rd;
    return true;
}

enum { SIMD_AHEAD = 64 }; /* bytes that simd_get_dense may look at */

/* The same for the two common classes, without bounds and nearly without branches: which of them a block is, and how
 * many levels it has, no predictor knows. What decides where the next block begins is kept short: words and
 * counts of bits, but no deposits. */
static inline bool simd_get_dense(grid_reader *in, unsigned cls, vec64 *out, uint64_t *sign)
{
    grid_reader rd = *in;
    unsigned    h4 = cls == GRID_H4;
    uint64_t    map = grid_peek(&rd, 0), groups = bits_deposit(map, GRID_GROUPS) * 15;
    unsigned    used = 4 * grid_count_bits(map & 0xffff);
    uint64_t    inside = bits_low(grid_peek(&rd, 16), used);
    unsigned    ones = grid_count_bits(grid_choose(h4, inside, map));
    rd.pos += grid_choose(h4, 16 + used, 64);
    uint64_t word2 = bits_low(grid_peek(&rd, 0), ones), word3 = grid_peek(&rd, ones);
    unsigned twos = grid_count_bits(word2), threes = grid_count_bits(bits_low(word3, twos));
    if (ones == 0 || twos > 32) return false;
    uint64_t one = grid_choose(h4, bits_deposit(inside, groups), map), two = bits_deposit(word2, one);
    uint64_t three = bits_deposit(word3, two), four = bits_deposit(word3 >> twos, three);
    rd.pos += ones + twos + threes;
    vec64 v = vec64_add_at(vec64_add_at(vec64_zero(), one, 1), two, 1);
    v = vec64_add_at(vec64_add_at(v, three, 1), four, 1);
    if (four && !simd_get_levels(&rd, &v, four, 5, 0)) return false;
    *sign = bits_deposit(grid_get(&rd, ones), one);
    *out = v;
    *in = rd;
    return true;
}

static size_t simd_encode(const grid_unit *u, const float *x, size_t n, float *err, uint8_t *dst)
{
    grid_writer     w = {.p = dst};
    grid_class_list l;
    grid_list_init(&l);
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        float    tmp[GRID_BLOCK];
        vec64    v;
        uint64_t sign;
        float   *e = err ? err + i : NULL;
        bool     fast = n - i >= GRID_BLOCK;
        grid_prefetch(x + i);
        if (err) grid_prefetch(err + i);
        if (fast) fast = vec64_quantize(u, x + i, grid_unit_block(u, i, GRID_BLOCK, tmp), e, &v, &sign);
        grid_list_add(&l, fast ? simd_put(&w, v, sign)
                               : grid_block_encode(u, x + i, i, taut__min(GRID_BLOCK, n - i), e, &w));
    }
    return grid_list_close(&l, &w, dst);
}

static size_t simd_pack(const int32_t *q, size_t n, uint8_t *dst)
{
    grid_writer     w = {.p = dst};
    grid_class_list l;
    grid_list_init(&l);
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        vec64    v;
        uint64_t sign;
        grid_prefetch(q + i);
        if (n - i >= GRID_BLOCK && vec64_load(q + i, &v, &sign)) {
            grid_list_add(&l, simd_put(&w, v, sign));
        } else {
            grid_block b;
            grid_block_load(q + i, taut__min(GRID_BLOCK, n - i), &b);
            grid_list_add(&l, grid_block_put(&w, &b));
        }
    }
    return grid_list_close(&l, &w, dst);
}

/* false: a value has no code, or one beyond limit, which is at least 255. */
static size_t simd_quantize_pack(const grid_unit *u, const float *x, size_t n, int32_t *q, float *err, int32_t limit,
                                 uint8_t *dst)
{
    grid_writer     w = {.p = dst};
    grid_class_list l;
    grid_list_init(&l);
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        size_t   m = taut__min(GRID_BLOCK, n - i);
        float    tmp[GRID_BLOCK], *e = err ? err + i : NULL;
        vec64    v;
        uint64_t sign;
        grid_prefetch(x + i);
        if (err) grid_prefetch(err + i);
        if (m == GRID_BLOCK && vec64_quantize(u, x + i, grid_unit_block(u, i, m, tmp), e, &v, &sign)) {
            vec64_give(v, sign, 0, NULL, GRID_SET_CODES, q + i);
            grid_list_add(&l, simd_put(&w, v, sign));
        } else {
            grid_block b;
            if (!grid_quantize_plain(u, x + i, i, m, q + i, e, limit)) return GRID_NO_CODES;
            grid_block_load(q + i, m, &b);
            grid_list_add(&l, grid_block_put(&w, &b));
        }
    }
    return grid_list_close(&l, &w, dst);
}

static inline void simd_values(const grid_unit *u, const int32_t *q, size_t i, size_t m, float *dst)
{
    float tmp[GRID_BLOCK];
    if (m < GRID_BLOCK) grid_dequantize_plain(u, q, i, m, dst);
    else vec64_dequantize(q, u->step, grid_unit_block(u, i, m, tmp), dst);
}

static void simd_dequantize(const grid_unit *u, const int32_t *q, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        grid_prefetch(q + i);
        grid_prefetch(dst + i);
        simd_values(u, q + i, i, taut__min(GRID_BLOCK, n - i), dst + i);
    }
}

static bool simd_decode_block(const grid_unit *u, grid_reader *r, unsigned cls, size_t i, size_t m, grid_sink sink,
                              void *out)
{
    float    tmp[GRID_BLOCK];
    vec64    v;
    uint64_t sign;
    bool     dense = (cls == GRID_R0 || cls == GRID_H4) && (r->pos >> 3) + SIMD_AHEAD <= r->len;
    if (m == GRID_BLOCK && ((dense && simd_get_dense(r, cls, &v, &sign)) ||
                            (cls <= GRID_R0 + SIMD_RICE_MAX && simd_get(r, cls, &v, &sign)))) {
        bool codes = sink == GRID_CODES;
        vec64_give(v, sign, codes ? 0 : u->step, codes ? NULL : grid_unit_block(u, i, m, tmp), sink, out);
        return grid_reader_ok(r);
    }
    return grid_block_decode(u, r, cls, i, m, sink, out);
}

/* values: NULL, or for GRID_CODES where those of the sums go. */
static inline bool simd_decode_into(const grid_unit *u, const uint8_t *src, size_t len, size_t n, grid_sink sink,
                                    void *dst, float *values)
{
    uint8_t  cls[GRID_CHUNK_BLOCKS];
    unsigned blocks = (unsigned)taut__ceil_div(n, GRID_BLOCK);
    size_t   body;
    if (!grid_classes_get(src, len, blocks, cls, &body)) return false;
    grid_reader r = {src, body, 0};
    for (unsigned k = 0; k < blocks; k++) {
        size_t   i = (size_t)k * GRID_BLOCK, m = taut__min(GRID_BLOCK, n - i);
        uint8_t *out = (uint8_t *)dst + 4 * i;
        grid_prefetch(out);
        if (values) grid_prefetch(values + i);
        if (cls[k] != GRID_ZERO) {
            if (!simd_decode_block(u, &r, cls[k], i, m, sink, out)) return false;
        } else if (sink == GRID_STORE) {
            memset(out, 0, 4 * m);
        }
        if (values) simd_values(u, (const int32_t *)dst + i, i, m, values + i);
    }
    return (r.pos + 7) / 8 == body;
}
static bool simd_decode(const grid_unit *u, const uint8_t *src, size_t len, size_t n, float *dst, bool add)
{
    return add ? simd_decode_into(u, src, len, n, GRID_ADD, dst, NULL)
               : simd_decode_into(u, src, len, n, GRID_STORE, dst, NULL);
}
static bool simd_unpack_add(const uint8_t *src, size_t len, size_t n, int32_t *acc)
{
    return simd_decode_into(NULL, src, len, n, GRID_CODES, acc, NULL);
}
static bool simd_unpack_values(const grid_unit *u, const uint8_t *src, size_t len, size_t n, int32_t *acc, float *dst)
{
    return simd_decode_into(u, src, len, n, GRID_CODES, acc, dst);
}

/* ---- rans: passes over blocks; the lanes are in the including file ---- */

/* Magnitudes of one byte never reach class 32. */
static inline void simd_front(struct grid_front *f, vec64 v, uint64_t sign)
{
    unsigned cls = grid_class_of_sum(vec64_sum(v));
    f->cls[f->blocks++] = (uint8_t)cls;
    if (cls == 0) return;
    if (cls <= GRID_FEW) {
        uint64_t number = grid_few_number(cls, vec64_at_least(v, 1), vec64_at_least(v, 2), sign);
        grid_put(&f->side, number, grid_few_bits(cls));
        return;
    }
    unsigned r = grid_class_shift(cls), model = grid_class_model(cls), top = grid_top[model];
    uint64_t lost = 0;
    if (r) {
        uint64_t nz = vec64_at_least(v, 1);
        for (unsigned p = 0; p < r; p++) grid_put(&f->side, vec64_bit(v, p), 64);
        v = vec64_shift(v, r);
        lost = nz & ~vec64_at_least(v, 1);
    }
    uint64_t big = vec64_at_least(v, 1), beyond = grid_count_bits(vec64_at_least(v, 2));
    uint64_t escaped = vec64_at_least(v, (uint8_t)top);
    vec64_store(f->symbol + f->symbols, vec64_symbols(vec64_min(v, (uint8_t)top), big & ~sign));
    f->symbols += GRID_BLOCK;
    unsigned k = grid_count_bits(big);
    f->count[model][0] += GRID_BLOCK - k;
    f->count[model][1] += k - (unsigned)beyond;
    f->count[model][2] += (unsigned)beyond;
    if (escaped) {
        uint8_t mag[GRID_BLOCK];
        vec64_store(mag, v);
        for (; escaped; escaped &= escaped - 1) grid_put_gamma(&f->side, mag[__builtin_ctzll(escaped)] - top + 1);
    }
    if (lost) grid_put(&f->side, bits_extract(sign, lost), grid_count_bits(lost));
}

static void simd_front_pack(const int32_t *q, size_t n, struct grid_front *f)
{
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        vec64    v;
        uint64_t sign;
        grid_prefetch(q + i);
        if (n - i >= GRID_BLOCK && vec64_load(q + i, &v, &sign)) {
            simd_front(f, v, sign);
        } else {
            grid_block b;
            grid_block_load(q + i, taut__min(GRID_BLOCK, n - i), &b);
            grid_front_block(f, &b);
        }
    }
}

static void simd_front_encode(const grid_unit *u, const float *x, size_t n, float *err, struct grid_front *f)
{
    for (size_t i = 0; i < n; i += GRID_BLOCK) {
        float    tmp[GRID_BLOCK], *e = err ? err + i : NULL;
        vec64    v;
        uint64_t sign;
        grid_prefetch(x + i);
        if (err) grid_prefetch(err + i);
        if (n - i >= GRID_BLOCK && vec64_quantize(u, x + i, grid_unit_block(u, i, GRID_BLOCK, tmp), e, &v, &sign))
            simd_front(f, v, sign);
        else grid_front_encode(f, u, x + i, i, taut__min(GRID_BLOCK, n - i), e);
    }
}

/* Symbols of a block of class 4..31 -> dst. */
static inline bool simd_back(const grid_unit *u, grid_reader *side, vec64 symbols, unsigned cls, size_t i, size_t m,
                             grid_sink sink, void *out)
{
    unsigned r = grid_class_shift(cls), top = grid_top[grid_class_model(cls)];
    bool     codes = sink == GRID_CODES;
    float    tmp[GRID_BLOCK];
    bool     escaped = vec64_at_least(symbols, (uint8_t)(2 * top - 1)) != 0;
    if (m < GRID_BLOCK || escaped || r > SIMD_SHIFT_MAX) {
        uint8_t    symbol[GRID_BLOCK];
        grid_block b;
        vec64_store(symbol, symbols);
        if (!grid_back_block(symbol, cls, side, &b)) return false;
        grid_back_store(u, &b, i, m, sink, out);
        return true;
    }
    uint64_t big = vec64_at_least(symbols, 1), sign = big & ~vec64_bit(symbols, 0), low = 0;
    vec64    v = vec64_halves(symbols, r);
    for (unsigned p = 0; p < r; p++) {
        uint64_t plane = grid_get(side, 64);
        v = vec64_add_at(v, plane, (uint8_t)(1u << p));
        low |= plane;
    }
    low &= ~big;
    if (low) sign |= bits_deposit(grid_get(side, grid_count_bits(low)), low);
    vec64_give(v, sign, codes ? 0 : u->step, codes ? NULL : grid_unit_block(u, i, m, tmp), sink, out);
    return grid_reader_ok(side);
}

/* Passes over the blocks from *k on that have no symbols, and gives them to their sink. */
static inline bool simd_skip(grid_back *b, unsigned *k, grid_sink sink)
{
    for (; *k < b->blocks && !grid_has_symbols(b->cls[*k]); ++*k)
        if (!grid_back_bare(b, *k, sink)) return false;
    return true;
}

static inline const grid_model *simd_model(const grid_back *b, unsigned k)
{
    return b->models + grid_class_model(b->cls[k]);
}

static inline bool simd_give(grid_back *b, unsigned k, vec64 symbols, grid_sink sink)
{
    size_t   i = (size_t)k * GRID_BLOCK;
    uint8_t *out = (uint8_t *)b->dst + 4 * i;
    grid_prefetch(out);
    return simd_back(b->u, &b->side, symbols, b->cls[k], i, taut__min(GRID_BLOCK, b->n - i), sink, out);
}

/* A chunk from block k on */
static inline bool simd_lanes_rest(grid_back *b, lanes s, unsigned k, grid_sink sink)
{
    vec64 symbols;
    for (;; k++) {
        if (!simd_skip(b, &k, sink)) return false;
        if (k == b->blocks) break;
        if (!lanes_get_block(&s, simd_model(b, k), &b->words, b->words_end, &symbols)) return false;
        if (!simd_give(b, k, symbols, sink)) return false;
    }
    lanes_store(b->state, s);
    return true;
}

/* The states of a chunk are one long chain of operations: two chunks are decoded in turns, so that each fills the waits
 * of the other. */
static inline bool simd_lanes_get_into(grid_back *a, grid_back *b, grid_sink sink)
{
    lanes    s = lanes_load(a->state), t = lanes_load(b->state);
    vec64    p, q;
    unsigned i = 0, j = 0;
    for (;; i++, j++) {
        if (!simd_skip(a, &i, sink) || !simd_skip(b, &j, sink)) return false;
        if (i == a->blocks || j == b->blocks) break;
        if (!lanes_get_pair(&s, &t, simd_model(a, i), simd_model(b, j), a, b, &p, &q)) return false;
        if (!simd_give(a, i, p, sink) || !simd_give(b, j, q, sink)) return false;
    }
    return simd_lanes_rest(a, s, i, sink) && simd_lanes_rest(b, t, j, sink);
}
static inline bool simd_lanes_get_some(grid_back *b, unsigned count, grid_sink sink)
{
    return count == 1 ? simd_lanes_rest(b, lanes_load(b->state), 0, sink) : simd_lanes_get_into(b, b + 1, sink);
}
static bool simd_lanes_get(struct grid_back *b, unsigned count, int sink)
{
    if (sink == GRID_STORE) return simd_lanes_get_some(b, count, GRID_STORE);
    return sink == GRID_ADD ? simd_lanes_get_some(b, count, GRID_ADD) : simd_lanes_get_some(b, count, GRID_CODES);
}

static uint8_t *simd_lanes_put(const grid_model *models, const struct grid_front *f, uint32_t *state,
                               uint8_t *words_end)
{
    const uint8_t *symbol = f->symbol + f->symbols;
    lanes          s = lanes_load(state);
    for (unsigned k = f->blocks; k-- > 0;) {
        if (!grid_has_symbols(f->cls[k])) continue;
        symbol -= GRID_BLOCK;
        words_end = lanes_put_block(&s, models + grid_class_model(f->cls[k]), symbol, words_end);
    }
    lanes_store(state, s);
    return words_end;
}

/* ---- codes ---- */

static bool simd_quantize(const grid_unit *u, const float *x, size_t n, int32_t *q, float *err, int32_t limit)
{
    size_t i = 0;
    for (; limit >= 255 && n - i >= GRID_BLOCK; i += GRID_BLOCK) {
        float    tmp[GRID_BLOCK];
        vec64    v;
        uint64_t sign;
        grid_prefetch(x + i);
        if (err) grid_prefetch(err + i);
        if (vec64_quantize(u, x + i, grid_unit_block(u, i, GRID_BLOCK, tmp), err ? err + i : NULL, &v, &sign))
            vec64_give(v, sign, 0, NULL, GRID_SET_CODES, q + i);
        else if (!grid_quantize_plain(u, x + i, i, GRID_BLOCK, q + i, err ? err + i : NULL, limit)) return false;
    }
    for (; i < n; i += GRID_BLOCK)
        if (!grid_quantize_plain(u, x + i, i, taut__min(GRID_BLOCK, n - i), q + i, err ? err + i : NULL, limit))
            return false;
    return true;
}

#endif
