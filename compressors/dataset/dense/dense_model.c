/* dense_model.c : see dense_model.h. The hot loop: one bit after another through the same eight loads; everything else hides behind them. */
#include "dense_model.h"
#include <pthread.h>
#include <string.h>

enum { N = TAUT_DENSE_INPUTS, C = TAUT_DENSE_CONTEXTS, REFINE = 256, STATES = 256 };

struct taut_dense_model {
    uint16_t map[C][STATES];                               /* probability of a 1 behind a bit history, 16 bits */
    uint16_t match[32];                                    /* the same behind (length of the match, expected bit) */
    _Alignas(16) int16_t weight[TAUT_DENSE_SETS * 256][N]; /* 1.0 = 1 << 14 */
    uint16_t order0[256];
    uint16_t unused; /* where a missing match learns */
    uint16_t refine[REFINE][33];
    uint32_t slot_bits;
    _Alignas(64) uint8_t slot[]; /* C tables of 2^slot_bits slots */
};

/* ---- tables, made once from integers ---- */

/* 65536 / (1 + e^-x) at x = -8, -7.875, ... 8 */
static const uint16_t knots[129] = {
    22,    25,    28,    32,    36,    41,    47,    53,    60,    68,    77,    87,    98,    111,   126,
    143,   162,   184,   208,   236,   267,   302,   342,   387,   439,   497,   562,   636,   720,   815,
    922,   1042,  1179,  1333,  1506,  1701,  1921,  2168,  2446,  2758,  3108,  3500,  3938,  4427,  4971,
    5577,  6249,  6992,  7812,  8714,  9702,  10782, 11955, 13226, 14595, 16062, 17625, 19282, 21025, 22849,
    24743, 26695, 28693, 30723, 32768, 34813, 36843, 38841, 40793, 42687, 44511, 46254, 47911, 49474, 50941,
    52310, 53581, 54754, 55834, 56822, 57724, 58544, 59287, 59959, 60565, 61109, 61598, 62036, 62428, 62778,
    63090, 63368, 63615, 63835, 64030, 64203, 64357, 64494, 64614, 64721, 64816, 64900, 64974, 65039, 65097,
    65149, 65194, 65234, 65269, 65300, 65328, 65352, 65374, 65393, 65410, 65425, 65438, 65449, 65459, 65468,
    65476, 65483, 65489, 65495, 65500, 65504, 65508, 65511, 65514};
static uint16_t       squash_table[4096]; /* of (x + 2048), x in units of 1/256 */
static int16_t        stretch_table[4096];
static uint8_t        next_state[STATES][2];
static uint8_t        state_n0[STATES], state_n1[STATES];
static int            states;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Counts that a history can hold: the smaller one bounds the larger. */
static int largest_beside(int smaller)
{
    static const int bound[] = {40, 20, 10, 8, 6, 6, 6};
    return smaller < 7 ? bound[smaller] : 0;
}
static bool holds(int n0, int n1) { return n0 < n1 ? n1 <= largest_beside(n0) : n0 <= largest_beside(n1); }

/* Evidence against what was just seen is old: keep little of it. */
static int discount(int n)
{
    static const uint8_t kept[] = {0, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5};
    return n < 13 ? kept[n] : n < 25 ? 6 : 7;
}

static int find_state(int n0, int n1, int last)
{
    if (n0 == 0 || n1 == 0) last = n1 > 0; /* it can be told from the counts */
    for (int s = 0; s < states; s++)
        if (state_n0[s] == n0 && state_n1[s] == n1 && (next_state[s][0] & 1) == last) return s;
    return -1;
}

/* Histories in order of how much they have seen, so that a smaller number is worth less; then where each bit leads. */
static void make_states(void)
{
    uint8_t last_of[STATES];
    for (int total = 0; total <= 48; total++)
        for (int n0 = total; n0 >= 0; n0--) {
            int n1 = total - n0;
            if (!holds(n0, n1)) continue;
            for (int last = 0; last < 2; last++) {
                if ((n0 == 0 || n1 == 0) && last != (n1 > 0)) continue;
                state_n0[states] = (uint8_t)n0, state_n1[states] = (uint8_t)n1;
                next_state[states][0] = last_of[states] = (uint8_t)last; /* for find_state() until the end */
                states++;
            }
        }
    uint8_t to[STATES][2];
    for (int s = 0; s < states; s++)
        for (int bit = 0; bit < 2; bit++) {
            int n0 = state_n0[s], n1 = state_n1[s];
            if (bit) n1++, n0 = discount(n0);
            else n0++, n1 = discount(n1);
            while (!holds(n0, n1)) {
                if (bit ? n1 > largest_beside(n0) && n1 > 1 && n1 > n0 : n0 > largest_beside(n1) && n0 > 1 && n0 > n1)
                    bit ? n1-- : n0--;
                else bit ? n0-- : n1--;
            }
            to[s][bit] = (uint8_t)find_state(n0, n1, bit);
        }
    memcpy(next_state, to, sizeof to);
}

static void make_tables(void)
{
    for (int i = 0; i < 4096; i++) {
        int k = i / 32, part = i % 32;
        squash_table[i] = (uint16_t)((knots[k] * (32 - part) + knots[k + 1] * part) / 32);
        if (squash_table[i] < 16) squash_table[i] = 16;
        if (squash_table[i] > 65520) squash_table[i] = 65520;
    }
    for (int p = 0, x = 0; p < 4096; p++) { /* the smallest x whose squash is p or more */
        while (x < 4095 && squash_table[x] < p * 16 + 8) x++;
        stretch_table[p] = (int16_t)(x - 2048);
    }
    make_states();
}

size_t taut__dense_bytes(unsigned slot_bits)
{
    return sizeof(taut_dense_model) + ((size_t)C << slot_bits) * TAUT_DENSE_SLOT;
}

void taut__dense_init(taut_dense_model *m, unsigned slot_bits)
{
    pthread_once(&once, make_tables);
    memset(m, 0, taut__dense_bytes(slot_bits));
    m->slot_bits = slot_bits;
    for (int c = 0; c < C; c++)
        for (int s = 0; s < states; s++)
            m->map[c][s] = (uint16_t)((state_n1[s] * 2 + 1) * 65535u / (uint32_t)((state_n0[s] + state_n1[s]) * 2 + 2));
    for (int i = 0; i < 32; i++)
        m->match[i] = i & 1 ? (uint16_t)(49152 + (i >> 1) * 1000) : (uint16_t)(16384 - (i >> 1) * 1000);
    for (int k = 0; k < TAUT_DENSE_SETS * 256; k++)
        for (int i = 0; i < N; i++) m->weight[k][i] = 5000;
    for (int i = 0; i < 256; i++) m->order0[i] = 32768;
    for (int k = 0; k < REFINE; k++)
        for (int i = 0; i < 33; i++) m->refine[k][i] = squash_table[i * 128 < 4096 ? i * 128 : 4095];
}

/* ---- one byte ---- */

/* The slot of a hash: itself, or one of two others in its 64-byte line; else the one worth least is given up. */
static inline uint8_t *find_slot(uint8_t *table, size_t at, uint32_t hash)
{
    uint8_t  check = (uint8_t)(hash & 255);
    uint8_t *a = table + at * TAUT_DENSE_SLOT, *b = table + (at ^ 1) * TAUT_DENSE_SLOT,
            *c = table + (at ^ 2) * TAUT_DENSE_SLOT;
    if (a[0] == check) return a;
    if (b[0] == check) return b;
    if (c[0] == check) return c;
    if (b[1] < a[1]) a = b;
    if (c[1] < a[1]) a = c;
    memset(a, 0, TAUT_DENSE_SLOT);
    a[0] = check;
    return a;
}

/* Hash of a context for its second nibble; `partial` is 16 + the first one. */
static inline uint32_t second(uint32_t hash, uint32_t partial) { return (hash + partial * 0x9e3779b1u) * 0x85ebca6bu; }

static inline __attribute__((always_inline)) void find_slots(taut_dense_model *m, const taut_dense_byte *c,
                                                             uint32_t partial, uint8_t *slot[C])
{
    uint32_t bits = m->slot_bits;
#pragma GCC unroll 8
    for (int i = 0; i < C; i++) {
        uint32_t h = partial == 1 ? c->hash[i] : second(c->hash[i], partial);
        slot[i] = find_slot(m->slot + ((size_t)i << bits) * TAUT_DENSE_SLOT, h >> (32 - bits), h);
    }
}

static inline __attribute__((always_inline)) void prefetch(const taut_dense_model *m, const taut_dense_byte *c,
                                                           uint32_t partial)
{
    uint32_t bits = m->slot_bits;
#pragma GCC unroll 8
    for (int i = 0; i < C; i++) {
        uint32_t h = partial == 1 ? c->hash[i] : second(c->hash[i], partial);
        __builtin_prefetch(m->slot + (((size_t)i << bits) + (h >> (32 - bits))) * TAUT_DENSE_SLOT, 1);
    }
}

void taut__dense_prefetch(const taut_dense_model *m, const taut_dense_byte *c) { prefetch(m, c, 1); }

static inline int  clamp(int x) { return x < -2047 ? -2047 : x > 2047 ? 2047 : x; }
static inline void move(uint16_t *p, uint32_t bit, int rate)
{
    int target = bit ? 65535 : 0;
    *p = (uint16_t)(*p + ((target - *p) >> rate));
}

/* Predicts, codes and learns the eight bits of a byte. code(coder, p, bit) codes one bit; it is inlined. */
typedef uint32_t (*coding)(taut_dense_coder *a, uint32_t p, uint32_t bit);
static inline __attribute__((always_inline)) uint8_t code_byte(taut_dense_model *m, const taut_dense_byte *c,
                                                               taut_dense_coder *a, uint32_t byte, coding code)
{
    uint8_t *slot[C];
    uint32_t partial = 1, node = 1, expected = c->expected < 0 ? 0 : (uint32_t)c->expected | 256;
    find_slots(m, c, 1, slot);
    for (int k = 7; k >= 0; k--) {
        uint16_t         *map[C], *match = &m->unused, *order0 = &m->order0[partial], *refine;
        int16_t          *w = m->weight[c->set << 8 | partial];
        int               value[N], x, p, part;
        uint32_t          final, bit;
        taut_dense_inputs input;
#pragma GCC unroll 8
        for (int i = 0; i < C; i++) {
            map[i] = &m->map[i][slot[i][node]];
            value[i] = stretch_table[*map[i] >> 4];
        }
        if (expected >> (k + 1) == partial) match = &m->match[c->length << 1 | (expected >> k & 1)];
        value[C] = match == &m->unused ? 0 : stretch_table[*match >> 4];
        value[C + 1] = stretch_table[*order0 >> 4];
        input = taut__dense_inputs(value);
        if (k == 4) { /* one bit ahead: the slots of the second nibble, whichever it is */
            prefetch(m, c, partial << 1);
            prefetch(m, c, partial << 1 | 1);
        }
        x = clamp(taut__dense_dot(input, w));
        p = squash_table[x + 2048];
        part = (x + 2048) & 127;
        refine = &m->refine[partial][(x + 2048) >> 7];
        final = ((uint32_t)p + ((refine[0] * (uint32_t)(128 - part) + refine[1] * (uint32_t)part) >> 7)) >> 1;
        bit = code(a, final < 32 ? 32 : final > 65504 ? 65504 : final, byte >> k & 1);
        taut__dense_train(input, w, (int)(bit << 12) - (p >> 4));
#pragma GCC unroll 8
        for (int i = 0; i < C; i++) {
            uint8_t *h = &slot[i][node];
            move(map[i], bit, 6);
            *h = next_state[*h][bit];
        }
        move(match, bit, 6);
        move(order0, bit, 5);
        move(&refine[part > 64], bit, 6);
        partial = partial << 1 | bit;
        node = node << 1 | bit;
        if (k == 4) {
            find_slots(m, c, partial, slot);
            node = 1;
        }
    }
    return (uint8_t)partial;
}

/* ---- coder ---- low..high is what is left of the interval; the lower part is bit 1 */

void taut__dense_begin_encode(taut_dense_coder *a, uint8_t *out, size_t cap)
{
    *a = (taut_dense_coder){.high = UINT32_MAX, .out = out, .limit = out + cap};
}

static inline void put(taut_dense_coder *a, uint32_t byte)
{
    if (a->out < a->limit) *a->out++ = (uint8_t)byte;
    else a->full = true;
}

static inline uint32_t next_byte(taut_dense_coder *a)
{
    if (a->in < a->end) return *a->in++;
    a->past++;
    return 0;
}

void taut__dense_begin_decode(taut_dense_coder *a, const uint8_t *in, size_t bytes)
{
    *a = (taut_dense_coder){.high = UINT32_MAX, .in = in, .end = in + bytes};
    for (int i = 0; i < 4; i++) a->x = a->x << 8 | next_byte(a);
}

/* The end: as few bytes as tell a number inside the interval, zeros following. Returns how many, 1..4. */
static int last_bytes(const taut_dense_coder *a, uint32_t *v)
{
    for (int bytes = 1; bytes < 4; bytes++) {
        uint32_t mask = UINT32_MAX >> 8 * bytes;
        *v = a->low & mask ? (a->low | mask) + 1 : a->low;
        if (*v >= a->low && *v <= a->high && !(a->low & mask && *v == 0)) return bytes;
    }
    *v = a->low;
    return 4;
}

uint8_t *taut__dense_end_encode(taut_dense_coder *a)
{
    uint32_t v;
    int      bytes = last_bytes(a, &v);
    for (int k = 0; k < bytes; k++) put(a, v >> (24 - 8 * k));
    return a->out;
}

bool taut__dense_end_decode(const taut_dense_coder *a)
{
    uint32_t v;
    int      bytes = last_bytes(a, &v);
    return a->in == a->end && a->past == 4 - (uint32_t)bytes && a->x == v;
}

static inline uint32_t split(const taut_dense_coder *a, uint32_t p)
{
    return a->low + (uint32_t)((uint64_t)(a->high - a->low) * p >> 16);
}

static inline uint32_t encode_bit(taut_dense_coder *a, uint32_t p, uint32_t bit)
{
    uint32_t mid = split(a, p);
    if (bit) a->high = mid;
    else a->low = mid + 1;
    while ((a->low ^ a->high) >> 24 == 0) {
        put(a, a->high >> 24);
        a->low <<= 8;
        a->high = a->high << 8 | 255;
    }
    return bit;
}

static inline uint32_t decode_bit(taut_dense_coder *a, uint32_t p, uint32_t unused)
{
    uint32_t mid = split(a, p), bit = a->x <= mid;
    (void)unused;
    a->high = bit ? mid : a->high;
    a->low = bit ? a->low : mid + 1;
    while ((a->low ^ a->high) >> 24 == 0) {
        a->low <<= 8;
        a->high = a->high << 8 | 255;
        a->x = a->x << 8 | next_byte(a);
    }
    return bit;
}

void taut__dense_encode(taut_dense_model *m, const taut_dense_byte *c, taut_dense_coder *a, uint8_t byte)
{
    code_byte(m, c, a, byte, encode_bit);
}
uint8_t taut__dense_decode(taut_dense_model *m, const taut_dense_byte *c, taut_dense_coder *a)
{
    return code_byte(m, c, a, 0, decode_bit);
}
