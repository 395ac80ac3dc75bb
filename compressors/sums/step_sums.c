/* step_sums.c : see step_sums.h. Nothing here but arithmetic that IEEE 754 defines, so that all machines make the same bits of the same numbers. */
#include "step_sums.h"
#include "../dispatch.h"
#include "../vec/vec.h"
#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { AT_ONCE = 256, GROUP = TAUT_STEP_GROUP, WORD_BYTES = TAUT_STEP_WORDS * sizeof(uint32_t) };

/* ---- one value ---- */

uint32_t taut__short_of(double x)
{
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    if (isnan(x)) return (uint32_t)(b >> 32) | 0x80000; /* quiet, and never rounded to Inf */
    return (uint32_t)((b + 0x7fffffff + (b >> 32 & 1)) >> 32);
}

double taut__of_short(uint32_t s)
{
    uint64_t b = (uint64_t)s << 32;
    double   x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* Three ranges of exponents, upwards, with so many bits of mantissa each; 0: 0. */
enum { CODE_LEAST = -512, CODE_FINE = -56, CODE_HIGH = 40, CODE_END = 512, COARSE_BITS = 4, FINE_BITS = 9 };
enum {
    FIRST_FINE = 1 + ((CODE_FINE - CODE_LEAST) << COARSE_BITS),
    FIRST_HIGH = FIRST_FINE + ((CODE_HIGH - CODE_FINE) << FINE_BITS),
    CODE_MOST = FIRST_HIGH + ((CODE_END - CODE_HIGH) << COARSE_BITS) - 1,
    CODE_INF = 0xfffe,
    CODE_NAN = 0xffff
};

/* Steps of a mantissa of so many bits from 2^least to x, or to what b is in the middle of; ties to even, as sums of two codes often are. */
static uint64_t steps_to(uint64_t b, int bits, int least)
{
    int shift = 52 - bits;
    b = (b + (1ull << (shift - 1)) - 1 + (b >> shift & 1)) >> shift;
    return b - ((uint64_t)(1023 + least) << bits);
}

static double steps_from(uint64_t steps, int bits, int least)
{
    uint64_t b = (steps + ((uint64_t)(1023 + least) << bits)) << (52 - bits);
    double   x;
    memcpy(&x, &b, sizeof x);
    return x;
}

uint16_t taut__code_of(double x)
{
    uint64_t b;
    if (isnan(x)) return CODE_NAN;
    if (isinf(x)) return CODE_INF;
    if (!(x > 0)) return 0;
    memcpy(&b, &x, sizeof b);
    if (x < ldexp(1, CODE_LEAST)) return 1;
    if (x < ldexp(1, CODE_FINE)) return (uint16_t)(1 + steps_to(b, COARSE_BITS, CODE_LEAST));
    if (x < ldexp(1, CODE_HIGH)) return (uint16_t)(FIRST_FINE + steps_to(b, FINE_BITS, CODE_FINE));
    return (uint16_t)taut__min(FIRST_HIGH + steps_to(b, COARSE_BITS, CODE_HIGH), CODE_MOST);
}

double taut__of_code(uint16_t c)
{
    if (c == 0) return 0;
    if (c > CODE_MOST) return c == CODE_NAN ? (double)NAN : (double)INFINITY;
    if (c < FIRST_FINE) return steps_from(c - 1u, COARSE_BITS, CODE_LEAST);
    if (c < FIRST_HIGH) return steps_from((uint64_t)c - FIRST_FINE, FINE_BITS, CODE_FINE);
    return steps_from((uint64_t)c - FIRST_HIGH, COARSE_BITS, CODE_HIGH);
}

enum { LEVELS = 254, LEVEL_NAN = 255, LEVEL_LOWEST = -44, SIZE_LOWEST = -32 };
static const double third[4] = {1, 1.2599210498948732, 1.5874010519681994, 2};
static const double quarter[4] = {1, 1.189207115002721, 1.4142135623730951, 1.681792830507429};

/* x = m 2^e, 1 <= m < 2 */
static double mantissa(double x, int *e)
{
    double m = 2 * frexp(x, e);
    (*e)--;
    return m;
}

uint8_t taut__level_of(double x, double chance)
{
    int    e, c, j;
    double m;
    if (!(x >= 0 && x <= 0x1p60)) return LEVEL_NAN;
    if (x == 0) return 0;
    m = mantissa(x, &e);
    j = (m >= third[1]) + (m >= third[2]);
    if (m - third[j] > chance * (third[j + 1] - third[j])) j++;
    c = 1 + 3 * (e - LEVEL_LOWEST) + j;
    return c < 1 ? 0 : c > LEVELS ? LEVEL_NAN : (uint8_t)c;
}

double taut__of_level(uint8_t c)
{
    if (c == 0) return 0;
    return c == LEVEL_NAN ? NAN : ldexp(third[(c - 1) % 3], (c - 1) / 3 + LEVEL_LOWEST);
}

/* The size of a group: the least of four to the octave that is not below its largest value. */
static uint8_t size_of(double most)
{
    int    e, c;
    double m;
    if (!(most >= 0 && most <= 0x1p60)) return LEVEL_NAN;
    if (most == 0) return 0;
    m = mantissa(most, &e);
    c = 1 + 4 * (e - SIZE_LOWEST) + (m > quarter[0]) + (m > quarter[1]) + (m > quarter[2]) + (m > quarter[3]);
    return c < 1 ? 1 : c > LEVELS ? LEVEL_NAN : (uint8_t)c;
}

static double of_size(uint8_t c)
{
    if (c == 0) return 0;
    return c == LEVEL_NAN ? NAN : ldexp(quarter[(c - 1) % 4], (c - 1) / 4 + SIZE_LOWEST);
}

/* ---- groups ---- */

static int bits_of(taut__as as) { return as == TAUT_AS_GROUP8 ? 8 : 6; }

static double grain_of(taut__as as, uint8_t size) { return of_size(size) / (as == TAUT_AS_GROUP8 ? 126 : 30); }

float taut__step_grain(taut__as as, float most) { return (float)grain_of(as, size_of((double)most)); }

/* Between -1/2 and 1/2, eight of one number. */
static double dither(uint64_t random, int i) { return ((double)(random >> (8 * i) & 0xff) + 0.5) / 256 - 0.5; }

static void pack_group(taut__as as, uint64_t random, float *x, uint8_t *to)
{
    int      bits = bits_of(as);
    uint64_t all = 0, mask = (1u << bits) - 1;
    double   most = 0, grain;
    for (int i = 0; i < GROUP && !isnan(most); i++)
        if (!(fabs((double)x[i]) <= most)) most = fabs((double)x[i]);
    to[0] = size_of(most);
    grain = grain_of(as, to[0]);
    for (int i = 0; i < GROUP; i++) {
        double u = dither(random, i);
        int    q = grain > 0 ? (int)floor((double)x[i] / grain + u + 0.5) : 0;
        all |= ((uint64_t)(unsigned)q & mask) << (bits * i);
        x[i] = (float)((q - u) * grain); /* all NaN where the grain is */
    }
    for (int i = 0; i < bits; i++) to[1 + i] = (uint8_t)(all >> (8 * i));
}

static void group_of(taut__as as, uint64_t random, const uint8_t *from, float *x)
{
    int      bits = bits_of(as);
    uint64_t all = 0;
    double   grain = grain_of(as, from[0]);
    for (int i = 0; i < bits; i++) all |= (uint64_t)from[1 + i] << (8 * i);
    for (int i = 0; i < GROUP; i++) {
        int q = (int)(all >> (bits * i) & ((1u << bits) - 1));
        if (q >> (bits - 1)) q -= 1 << bits;
        x[i] = (float)((q - dither(random, i)) * grain);
    }
}

/* ---- runs ---- */

static size_t run_bytes(const taut__run *r)
{
    switch ((taut__as)r->as) {
    case TAUT_AS_DOUBLE: return 8 * (size_t)r->n;
    case TAUT_AS_SHORT:
    case TAUT_AS_FLOAT: return 4 * (size_t)r->n;
    case TAUT_AS_CODE:
    case TAUT_AS_LEAST:
    case TAUT_AS_HALF: return 2 * (size_t)r->n;
    case TAUT_AS_ALL: return taut__ceil_div(r->n, 8);
    case TAUT_AS_LEVEL: return r->n;
    default: return r->n / GROUP * (size_t)(1 + bits_of(r->as));
    }
}

static bool in_floats(taut__as as) { return as >= TAUT_AS_FLOAT; }

size_t taut__step_bytes(const taut__run *run, size_t runs)
{
    size_t bytes = WORD_BYTES;
    for (size_t i = 0; i < runs; i++) bytes += run_bytes(&run[i]);
    return bytes;
}

static double chance(uint64_t seed, uint64_t i) { return (double)(taut__seed(seed, i) >> 11) * 0x1p-53; }

/* Packs x, and leaves there what was packed. */
static void pack_values(taut__as as, double *x, size_t n, uint8_t *to)
{
    if (as == TAUT_AS_ALL) memset(to, 0, taut__ceil_div(n, 8));
    for (size_t i = 0; i < n; i++) {
        uint32_t s;
        uint16_t c;
        switch (as) {
        case TAUT_AS_DOUBLE: memcpy(to + 8 * i, &x[i], 8); break;
        case TAUT_AS_SHORT:
            s = taut__short_of(x[i]), x[i] = taut__of_short(s);
            memcpy(to + 4 * i, &s, 4);
            break;
        case TAUT_AS_ALL:
            x[i] = x[i] != 0;
            to[i / 8] = (uint8_t)(to[i / 8] | (x[i] != 0) << (i % 8));
            break;
        default: c = taut__code_of(x[i]), x[i] = taut__of_code(c); memcpy(to + 2 * i, &c, 2);
        }
    }
}

static void values_of(taut__as as, const uint8_t *from, size_t first, size_t n, double *x)
{
    for (size_t k = 0; k < n; k++) {
        size_t   i = first + k;
        uint32_t s;
        uint16_t c;
        switch (as) {
        case TAUT_AS_DOUBLE: memcpy(&x[k], from + 8 * i, 8); break;
        case TAUT_AS_SHORT:
            memcpy(&s, from + 4 * i, 4);
            x[k] = taut__of_short(s);
            break;
        case TAUT_AS_ALL: x[k] = from[i / 8] >> (i % 8) & 1; break;
        default: memcpy(&c, from + 2 * i, 2); x[k] = taut__of_code(c);
        }
    }
}

static void pack_floats(taut__as as, uint64_t seed, float *x, size_t n, uint8_t *to)
{
    const struct taut__vec_kernels *vec = taut__simd_get()->vec;
    if (as == TAUT_AS_FLOAT) memcpy(to, x, n * sizeof *x);
    if (as == TAUT_AS_HALF) vec->to_bf16(to, x, n), vec->from_bf16(x, to, n);
    for (size_t i = 0; as == TAUT_AS_LEVEL && i < n; i++)
        to[i] = taut__level_of((double)x[i], chance(seed, i)), x[i] = (float)taut__of_level(to[i]);
    for (size_t i = 0; (as == TAUT_AS_GROUP8 || as == TAUT_AS_GROUP6) && i < n; i += GROUP)
        pack_group(as, taut__seed(seed, i), x + i, to + i / GROUP * (size_t)(1 + bits_of(as)));
}

/* first, n: of groups, whole ones. */
static void floats_of(taut__as as, uint64_t seed, const uint8_t *from, size_t first, size_t n, float *x)
{
    if (as == TAUT_AS_FLOAT) memcpy(x, from + 4 * first, n * sizeof *x);
    if (as == TAUT_AS_HALF) taut__simd_get()->vec->from_bf16(x, from + 2 * first, n);
    for (size_t i = 0; as == TAUT_AS_LEVEL && i < n; i++) x[i] = (float)taut__of_level(from[first + i]);
    for (size_t i = 0; (as == TAUT_AS_GROUP8 || as == TAUT_AS_GROUP6) && i < n; i += GROUP)
        group_of(as, taut__seed(seed, first + i), from + (first + i) / GROUP * (size_t)(1 + bits_of(as)), x + i);
}

static double joined(taut__as as, double a, double b)
{
    return as == TAUT_AS_LEAST ? (b < a ? b : a) : as == TAUT_AS_ALL ? (double)(a != 0 && b != 0) : a + b;
}

/* What of two NaN stays tells the order, which is that of ranks. */
static void add_values(const taut__run *r, const uint8_t *from, double *x, bool from_first)
{
    double in[AT_ONCE];
    for (size_t i = 0; i < r->n; i += AT_ONCE) {
        size_t m = taut__min(AT_ONCE, r->n - i);
        values_of(r->as, from, i, m, in);
        for (size_t k = 0; k < m; k++)
            x[i + k] = from_first ? joined(r->as, in[k], x[i + k]) : joined(r->as, x[i + k], in[k]);
    }
}

static void add_floats(const taut__run *r, uint64_t seed, const uint8_t *from, float *x, bool from_first)
{
    const struct taut__vec_kernels *vec = taut__simd_get()->vec;
    float                           in[AT_ONCE];
    for (size_t i = 0; i < r->n; i += AT_ONCE) {
        size_t m = taut__min(AT_ONCE, r->n - i);
        floats_of(r->as, seed, from, i, m, in);
        if (from_first) vec->add(in, x + i, m), memcpy(x + i, in, m * sizeof *in);
        else vec->add(x + i, in, m);
    }
}

/* ---- zero bytes ---- */

size_t taut__step_room(size_t bytes) { return bytes + taut__ceil_div(bytes, 8); }

/* Of eight bytes each, a bit for those that are not zero, then these. */
static size_t squeeze(const uint8_t *from, size_t n, uint8_t *to)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i += 8) {
        uint8_t *bits = &to[at++];
        *bits = 0;
        for (size_t k = 0; k < 8 && i + k < n; k++)
            if (from[i + k]) *bits = (uint8_t)(*bits | 1 << k), to[at++] = from[i + k];
    }
    return at;
}

static bool unsqueeze(const uint8_t *from, size_t len, uint8_t *to, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i += 8) {
        if (at == len) return false;
        uint8_t bits = from[at++];
        for (size_t k = 0; k < 8; k++) {
            bool there = bits >> k & 1;
            if (there && (at == len || i + k >= n)) return false;
            if (i + k < n) to[i + k] = there ? from[at++] : 0;
        }
    }
    return at == len;
}

/* ---- vectors ---- */

void taut__step_words(taut__step_sums *s, uint64_t digest)
{
    uint64_t h = XXH3_64bits_withSeed(s->run, s->runs * sizeof *s->run, digest);
    s->word[0] = s->word[1] = (uint32_t)(h ^ h >> 32);
}

size_t taut__step_pack(taut__step_sums *s, uint64_t seed, uint8_t *to)
{
    uint8_t *flat = s->squeezed ? s->flat : to, *at = flat;
    double  *values = s->values;
    float   *floats = s->floats;
    memcpy(at, s->word, WORD_BYTES);
    at += WORD_BYTES;
    for (size_t i = 0; i < s->runs; i++) {
        const taut__run *r = &s->run[i];
        if (in_floats(r->as)) pack_floats(r->as, seed + i, floats, r->n, at), floats += r->n;
        else pack_values(r->as, values, r->n, at), values += r->n;
        at += run_bytes(r);
    }
    return s->squeezed ? squeeze(flat, (size_t)(at - flat), to) : (size_t)(at - flat);
}

/* Where the bytes are those of another vector: NULL, and words that differ. */
static const uint8_t *flattened(taut__step_sums *s, const uint8_t *from, size_t bytes)
{
    size_t want = taut__step_bytes(s->run, s->runs);
    if (s->squeezed ? unsqueeze(from, bytes, s->flat, want) : bytes == want) return s->squeezed ? s->flat : from;
    s->word[0] = 0, s->word[1] = UINT32_MAX;
    return NULL;
}

void taut__step_add(taut__step_sums *s, uint64_t seed, const uint8_t *from, size_t bytes, bool from_first)
{
    double  *values = s->values;
    float   *floats = s->floats;
    uint32_t word[TAUT_STEP_WORDS];
    if (!(from = flattened(s, from, bytes))) return;
    memcpy(word, from, WORD_BYTES);
    from += WORD_BYTES;
    s->word[0] &= word[0], s->word[1] |= word[1];
    for (size_t i = 0; i < s->runs; i++) {
        const taut__run *r = &s->run[i];
        if (in_floats(r->as)) add_floats(r, seed + i, from, floats, from_first), floats += r->n;
        else add_values(r, from, values, from_first), values += r->n;
        from += run_bytes(r);
    }
}

void taut__step_take(taut__step_sums *s, uint64_t seed, const uint8_t *from, size_t bytes)
{
    double *values = s->values;
    float  *floats = s->floats;
    if (!(from = flattened(s, from, bytes))) return;
    memcpy(s->word, from, WORD_BYTES);
    from += WORD_BYTES;
    for (size_t i = 0; i < s->runs; i++) {
        const taut__run *r = &s->run[i];
        for (size_t k = 0; k < r->n; k += AT_ONCE) {
            size_t m = taut__min(AT_ONCE, r->n - k);
            if (in_floats(r->as)) floats_of(r->as, seed + i, from, k, m, floats + k);
            else values_of(r->as, from, k, m, values + k);
        }
        if (in_floats(r->as)) floats += r->n;
        else values += r->n;
        from += run_bytes(r);
    }
}
