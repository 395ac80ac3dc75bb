/* grid_block.h : the code `packed` of one block of 64 integers, in plain C: the specification.
 *
 * A block is its magnitudes and signs. Everything is a bit plane, one bit per element, and a plane that
 * concerns only some elements is compacted to those (pext/pdep; prefix popcounts on a GPU). So 64 elements
 * cost a few word operations per plane on any machine with 64-bit masks.
 *
 *   class      a nibble: zero; P1..P4 (1..4 non-zeros, 6-bit positions); H4 (16-bit map of groups of 4, then
 * 4 bits per group in use); R0..R7 (r low planes, then a 64-bit map); wide (5 bits of r, then as R; r = 31:
 * the 64 floats as they are); run (a second nibble c: c + 3 zero blocks) body       r low planes; first map:
 * h >= 1 with h = |q| >> r; then nested maps, among those of the map before, of h >= 2, h >= 3, ... until a
 * map is empty or GRID_LEVELS maps were written; those left by then give h - GRID_LEVELS + 1 in Elias gamma
 * code (5 bits of length); last one sign bit per non-zero, 1 = negative
 *
 * This is Golomb-Rice coding with parameter r (Golomb 1966, Rice 1979) turned by 90 degrees. r is the bit
 * length of (sum of magnitudes) / 128, within 0.4% of the best r per block on the shipped traces and at finer
 * steps. With sum < 2^(r+7) the unary maps take at most 64 + 128 bits, so the size is bounded without looking
 * at data.
 */
#ifndef TAUT_GRID_BLOCK_H
#define TAUT_GRID_BLOCK_H

#include "grid_bits.h"
#include "grid_kernels.h"

enum {
    GRID_ZERO = 0,
    GRID_P1 = 1, /* ..P4 = 4 */
    GRID_H4 = 5,
    GRID_R0 = 6, /* ..R7 = 13 */
    GRID_WIDE = 14,
    GRID_RUN = 15,
    GRID_RUN_MIN = 3,
    GRID_RUN_MAX = 18,
    GRID_H4_GROUPS = 12, /* with fewer groups in use H4 is shorter than a 64-bit map */
    GRID_LEVELS = 8,
    GRID_RAW = 31, /* value of r */
};

#define GRID_GROUPS UINT64_C(0x1111111111111111) /* first element of each group of 4 */

typedef struct grid_block {
    uint64_t sign; /* bit i: element i is negative */
    uint32_t mag[GRID_BLOCK];
} grid_block;

TAUT_INLINE uint64_t grid_pext(uint64_t v, uint64_t mask)
{
    uint64_t out = 0;
    for (unsigned k = 0; mask; mask &= mask - 1, k++) out |= (v >> grid_low_bit(mask) & 1) << k;
    return out;
}
TAUT_INLINE uint64_t grid_pdep(uint64_t v, uint64_t mask)
{
    uint64_t out = 0;
    for (; mask; mask &= mask - 1, v >>= 1)
        if (v & 1) out |= mask & -mask;
    return out;
}
/* Map of groups of 4 that hold a set bit: bit 4g of the result. */
TAUT_INLINE uint64_t grid_groups(uint64_t nz)
{
    nz |= nz >> 1;
    nz |= nz >> 2;
    return nz & GRID_GROUPS;
}
TAUT_INLINE unsigned grid_rice(uint64_t sum) { return grid_bitlen(sum >> 7); }

TAUT_INLINE uint64_t grid_plane(const grid_block *b, unsigned bit)
{
    uint64_t m = 0;
    for (unsigned i = 0; i < GRID_BLOCK; i++) m |= (uint64_t)(b->mag[i] >> bit & 1) << i;
    return m;
}
TAUT_INLINE uint64_t grid_at_least(const grid_block *b, unsigned r, uint32_t h)
{
    uint64_t m = 0;
    for (unsigned i = 0; i < GRID_BLOCK; i++) m |= (uint64_t)((b->mag[i] >> r) >= h) << i;
    return m;
}

/* Shared by all levels: rare, or short. */
TAUT_INLINE unsigned grid_class_of(uint64_t nz, uint64_t sum, unsigned *r)
{
    unsigned k = grid_count_bits(nz);
    *r = grid_rice(sum);
    if (k == 0) return GRID_ZERO;
    if (*r > 7) return GRID_WIDE;
    if (*r > 0) return GRID_R0 + *r;
    if (k <= 4) return GRID_P1 + k - 1;
    return grid_count_bits(grid_groups(nz)) < GRID_H4_GROUPS ? GRID_H4 : GRID_R0;
}
TAUT_INLINE void grid_put_positions(grid_writer *w, uint64_t nz)
{
    uint64_t v = 0;
    unsigned k = 0;
    for (; nz; nz &= nz - 1, k += 6) v |= (uint64_t)grid_low_bit(nz) << k;
    grid_put(w, v, k);
}
TAUT_INLINE uint64_t grid_get_positions(grid_reader *r, unsigned k) /* 0: not k distinct ones */
{
    uint64_t v = grid_get(r, 6 * k), nz = 0;
    for (unsigned i = 0; i < k; i++) nz |= UINT64_C(1) << (v >> (6 * i) & 63);
    return grid_count_bits(nz) == k ? nz : 0;
}
TAUT_INLINE void grid_put_escape(grid_writer *w, uint32_t h)
{
    uint32_t v = h - GRID_LEVELS + 1;
    unsigned b = grid_bitlen(v) - 1;
    grid_put(w, b | (uint64_t)(v & ~(UINT32_C(1) << b)) << 5, 5 + b);
}
TAUT_INLINE uint64_t grid_get_escape(grid_reader *r) /* h */
{
    unsigned b = (unsigned)grid_get(r, 5);
    return (UINT64_C(1) << b | (b ? grid_get(r, b) : 0)) + GRID_LEVELS - 1;
}

/* Writes the body, returns the class. */
TAUT_INLINE unsigned grid_block_put(grid_writer *w, const grid_block *b)
{
    uint64_t sum = 0, nz = 0;
    unsigned r;
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        sum += b->mag[i];
        nz |= (uint64_t)(b->mag[i] != 0) << i;
    }
    unsigned cls = grid_class_of(nz, sum, &r);
    if (cls == GRID_ZERO) return cls;
    if (cls == GRID_WIDE) grid_put(w, r, 5);
    for (unsigned p = 0; p < r; p++) grid_put(w, grid_plane(b, p), 64);

    uint64_t map = r ? grid_at_least(b, r, 1) : nz;
    if (cls < GRID_H4) {
        grid_put_positions(w, nz);
    } else if (cls == GRID_H4) {
        uint64_t g = grid_groups(nz);
        grid_put(w, grid_pext(g, GRID_GROUPS), 16);
        grid_put(w, grid_pext(nz, g * 15), 4 * grid_count_bits(g));
    } else {
        grid_put(w, map, 64);
    }
    for (unsigned h = 2; h <= GRID_LEVELS && map; h++) {
        uint64_t next = grid_at_least(b, r, h);
        grid_put(w, grid_pext(next, map), grid_count_bits(map));
        map = next;
    }
    for (; map; map &= map - 1) grid_put_escape(w, b->mag[grid_low_bit(map)] >> r);
    grid_put(w, grid_pext(b->sign, nz), grid_count_bits(nz));
    return cls;
}

/* First map of a block whose low planes are behind the reader; classes below WIDE only. 0 is malformed unless
 * r > 0. */
TAUT_INLINE uint64_t grid_get_groups(grid_reader *r, uint64_t *spread)
{
    uint64_t g = grid_pdep(grid_get(r, 16), GRID_GROUPS);
    *spread = g * 15;
    return *spread ? grid_get(r, grid_count_bits(*spread)) : 0;
}

/* Reads a body; cls is not ZERO, RUN, and not raw. r comes from the class (or from the 5 bits of WIDE). */
TAUT_INLINE bool grid_block_get(grid_reader *rd, unsigned cls, unsigned r, grid_block *b)
{
    uint64_t map, spread, nz;
    memset(b->mag, 0, sizeof b->mag);
    for (unsigned p = 0; p < r; p++) {
        uint64_t plane = grid_get(rd, 64);
        for (unsigned i = 0; i < GRID_BLOCK; i++) b->mag[i] |= (uint32_t)(plane >> i & 1) << p;
    }
    if (cls < GRID_H4) {
        map = grid_get_positions(rd, cls - GRID_P1 + 1);
    } else if (cls == GRID_H4) {
        map = grid_get_groups(rd, &spread);
        map = grid_pdep(map, spread);
    } else {
        map = grid_get(rd, 64);
    }
    if (r == 0 && map == 0) return false;
    for (unsigned i = 0; i < GRID_BLOCK; i++) b->mag[i] += (uint32_t)(map >> i & 1) << r;
    for (unsigned h = 2; h <= GRID_LEVELS && map; h++) {
        map = grid_pdep(grid_get(rd, grid_count_bits(map)), map);
        for (unsigned i = 0; i < GRID_BLOCK; i++) b->mag[i] += (uint32_t)(map >> i & 1) << r;
    }
    for (; map; map &= map - 1) {
        unsigned i = grid_low_bit(map);
        uint64_t m = grid_get_escape(rd) << r | (b->mag[i] & ((UINT32_C(1) << r) - 1));
        if (m > INT32_MAX) return false;
        b->mag[i] = (uint32_t)m;
    }
    nz = 0;
    for (unsigned i = 0; i < GRID_BLOCK; i++) {
        if (b->mag[i] > INT32_MAX) return false;
        nz |= (uint64_t)(b->mag[i] != 0) << i;
    }
    if (nz == 0) return false;
    b->sign = grid_pdep(grid_get(rd, grid_count_bits(nz)), nz);
    return true;
}

/* ---- classes of a chunk: nibbles, stored backwards from the chunk's last byte, low nibble first ---- */

typedef struct grid_classes {
    unsigned n;
    uint8_t  nibble[GRID_CHUNK_BLOCKS];
} grid_classes;

TAUT_INLINE void grid_classes_run(grid_classes *c, unsigned zeros) /* a run writes no more nibbles than it has blocks */
{
    while (zeros >= GRID_RUN_MIN) {
        unsigned take = zeros < GRID_RUN_MAX ? zeros : (unsigned)GRID_RUN_MAX;
        c->nibble[c->n++] = GRID_RUN;
        c->nibble[c->n++] = (uint8_t)(take - GRID_RUN_MIN);
        zeros -= take;
    }
    while (zeros-- > 0) c->nibble[c->n++] = GRID_ZERO;
}
TAUT_INLINE size_t grid_classes_put(const grid_classes *c, uint8_t *dst) /* returns bytes */
{
    size_t bytes = (c->n + 1) / 2;
    memset(dst, 0, bytes);
    for (unsigned i = 0; i < c->n; i++) dst[bytes - 1 - i / 2] |= (uint8_t)(c->nibble[i] << (i % 2 ? 4 : 0));
    return bytes;
}

/* A chunk's classes as its blocks are written. */
typedef struct grid_class_list {
    grid_classes c;
    unsigned     zeros; /* blocks not yet written as a run */
    bool         any;
} grid_class_list;

TAUT_INLINE void grid_list_init(grid_class_list *l) { l->c.n = 0, l->zeros = 0, l->any = false; }
TAUT_INLINE void grid_list_add(grid_class_list *l, unsigned cls)
{
    if (cls == GRID_ZERO) {
        l->zeros++;
        return;
    }
    if (l->zeros) grid_classes_run(&l->c, l->zeros);
    l->zeros = 0;
    l->any = true;
    l->c.nibble[l->c.n++] = (uint8_t)cls;
}
/* Ends a chunk of code packed; returns its bytes, 0 if all is zero. */
TAUT_INLINE size_t grid_list_close(grid_class_list *l, grid_writer *w, uint8_t *dst)
{
    if (!l->any) return 0;
    uint8_t *end = grid_flush(w);
    grid_classes_run(&l->c, l->zeros);
    return (size_t)(end - dst) + grid_classes_put(&l->c, end);
}

/* cls[0..blocks) from the tail of src[0..len); false if they do not fit. *body = bytes before the classes. */
TAUT_INLINE bool grid_classes_get(const uint8_t *src, size_t len, unsigned blocks, uint8_t *cls, size_t *body)
{
    unsigned run = 0;
    size_t   i = 0;
    bool     counted = true; /* false: the nibble before was RUN */
    for (unsigned k = 0; k < blocks;) {
        if (i / 2 >= len) return false;
        unsigned v = src[len - 1 - i / 2] >> (i % 2 ? 4 : 0) & 15;
        i++;
        if (!counted) {
            run = v + GRID_RUN_MIN;
            if (run > blocks - k) return false;
            memset(cls + k, GRID_ZERO, run);
            k += run;
            counted = true;
        } else if (v == GRID_RUN) {
            counted = false;
        } else {
            cls[k++] = (uint8_t)v;
        }
    }
    *body = len - (i + 1) / 2;
    return true;
}

#endif
