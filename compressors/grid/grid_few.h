/* grid_few.h : blocks whose magnitudes add up to 1, 2 or 3, by number, in plain C: the specification.
 *
 * Such a block is S pulses, positions with a sign, of which equal positions have equal signs: 2 * 64, 2 * 64^2 and
 * (4 * 64^3 + 2 * 64) / 3 blocks for S = 1, 2, 3 (Fischer 1986, pyramid vector quantization). They take 6 S + 1 bits: the
 * positions in an order that tells where signs change, and the sign of the first pulse a <= b <= c:
 *
 *   S = 2   signs are alike: a b; else b a           all numbers are used
 *   S = 3   alike: a b c; b and c differ: c a b; a and b: b c a; both: c b a           two thirds are
 */
#ifndef TAUT_GRID_FEW_H
#define TAUT_GRID_FEW_H

#include "grid_unit.h"

typedef struct grid_few {
    unsigned at[3]; /* positions, ascending */
    uint64_t sign;  /* bit of each position that is negative */
} grid_few;

TAUT_INLINE unsigned grid_few_bits(unsigned sum) { return 6 * sum + 1; }

/* nz, two: elements of magnitude 1 and more, 2 and more */
TAUT_INLINE uint64_t grid_few_number(unsigned sum, uint64_t nz, uint64_t two, uint64_t sign)
{
    uint64_t a = grid_low_bit(nz), c = grid_bitlen(nz) - 1, sa = sign >> a & 1, sc = sign >> c & 1;
    if (sum == 1) return a | sa << 6;
    if (sum == 2) return (sa == sc ? a | c << 6 : c | a << 6) | sa << 12;
    uint64_t inner = nz & ~(UINT64_C(1) << a | UINT64_C(1) << c), b = grid_low_bit(inner ? inner : two);
    bool     ab = sa != (sign >> b & 1), bc = sc != (sign >> b & 1);
    uint64_t p = bc ? c : ab ? b : a, q = bc ? (ab ? b : a) : ab ? c : b, r = bc ? (ab ? a : b) : ab ? a : c;
    return p | q << 6 | r << 12 | sa << 18;
}

/* false: no block has this number */
TAUT_INLINE bool grid_few_of(uint64_t number, unsigned sum, grid_few *f)
{
    unsigned p = number & 63, q = number >> 6 & 63, r = number >> 12 & 63, s = (unsigned)(number >> 6 * sum & 1);
    unsigned a = p, b, c, ab = 0, bc = 0;
    if (sum == 1) {
        b = c = a;
    } else if (sum == 2) {
        ab = p > q;
        a = ab ? q : p, b = c = ab ? p : q;
    } else {
        bool down = p > q, later = q > r;
        if (down && !later && r >= p) return false; /* orders that are not used */
        if (!down && later && r >= p) return false;
        bc = down, ab = later;
        a = down ? (later ? r : q) : later ? r : p;
        b = down ? (later ? q : r) : later ? p : q;
        c = down ? p : later ? q : r;
    }
    f->at[0] = a, f->at[1] = b, f->at[2] = c;
    f->sign = (uint64_t)s << a | (uint64_t)(s ^ ab) << b | (uint64_t)(s ^ ab ^ bc) << c;
    return true;
}

/* The block -> dst or acc, elements i..i+m of the chunk. */
TAUT_INLINE void grid_few_give(const grid_unit *u, const grid_few *f, unsigned sum, size_t i, size_t m, grid_sink sink,
                               void *out)
{
    float   *dst = (float *)out, tmp[GRID_BLOCK];
    int32_t *acc = (int32_t *)out;
    if (sink == GRID_STORE) memset(out, 0, m * sizeof *dst);
    const unsigned pulses = sum < 3 ? sum : 3;
    for (unsigned k = 0, same; k < pulses; k += same) {
        unsigned at = f->at[k];
        for (same = 1; k + same < pulses && f->at[k + same] == at;) same++;
        if (at >= m) return; /* of a short block, malformed: others ignore such elements too */
        int32_t q = f->sign >> at & 1 ? -(int32_t)same : (int32_t)same;
        if (sink == GRID_CODES) {
            acc[at] = (int32_t)((uint32_t)acc[at] + (uint32_t)q);
            continue;
        }
        const float *d = grid_unit_block(u, i + at, 1, tmp);
        float        v = grid_value(q, d ? d[0] : u->step);
        dst[at] = sink == GRID_ADD ? dst[at] + v : v;
    }
}

#endif
