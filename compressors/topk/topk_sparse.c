/* topk_sparse.c : see topk_sparse.h. Little-endian hosts only, as all of Taut's wire. */
#include "topk_sparse.h"
#include "../../comm/base/bytes.h"
#include <string.h>

enum {
    LAYOUT_RAW = TAUT_SPARSE_RAW,
    LAYOUT_GROUPS = TAUT_SPARSE_GROUPS,
    RICE_MAX = TAUT_SPARSE_RICE_MAX,
    SPAN_BITS = TAUT_SPARSE_SPAN_BITS,
    WORDS_BITS = TAUT_SPARSE_WORDS_BITS
};

/* Words of 32 bits that hold `bits` bits. */
static size_t words32(uint64_t bits) { return (size_t)taut__sparse_words(bits); }

static void put_header(uint8_t *dst, uint32_t layout, double density, uint64_t count)
{
    taut__put32(dst, layout);
    taut__put32(dst + 4, 0);
    memcpy(dst + 8, &density, sizeof density);
    taut__put64(dst + 16, count);
}

/* ---- writer ---- */

void taut__sparse_begin(taut__sparse_writer *w, uint8_t *dst, size_t cap)
{
    w->dst = dst;
    w->cap = cap;
    w->used = TAUT_SPARSE_HEADER;
    w->groups = w->fill = 0;
    w->count = w->next = 0;
    w->full = cap < TAUT_SPARSE_HEADER;
}

static uint64_t unary_bits(const taut__sparse_writer *w, unsigned b)
{
    uint64_t sum = w->fill;
    for (size_t i = 0; i < w->fill; i++) sum += w->gap[i] >> b;
    return sum;
}

static unsigned best_rice(const taut__sparse_writer *w, uint64_t span, uint64_t *unary)
{
    uint64_t best_cost = UINT64_MAX;
    unsigned guess = taut__sparse_rice_guess(span, w->fill), best = 0;
    for (unsigned b = guess ? guess - 1 : 0; b <= guess + 1 && b <= RICE_MAX; b++) {
        uint64_t u = unary_bits(w, b), cost = u + (uint64_t)b * w->fill;
        if (cost >= best_cost) continue;
        best_cost = cost;
        best = b;
        *unary = u;
    }
    return best;
}

static void put_unary(const taut__sparse_writer *w, unsigned b, uint8_t *dst, size_t words)
{
    memset(dst, 0, words * 4);
    uint64_t at = 0;
    for (size_t i = 0; i < w->fill; i++, at++) {
        at += w->gap[i] >> b;
        dst[at / 8] |= (uint8_t)(1u << (at % 8));
    }
}

static void put_low(const taut__sparse_writer *w, unsigned b, uint8_t *dst)
{
    uint64_t acc = 0, low = ((uint64_t)1 << b) - 1;
    unsigned held = 0;
    for (size_t i = 0; i < w->fill; i++) {
        acc |= (w->gap[i] & low) << held;
        held += b;
        if (held < 32) continue;
        taut__put32(dst, (uint32_t)acc);
        dst += 4, acc >>= 32, held -= 32;
    }
    if (held) taut__put32(dst, (uint32_t)acc);
}

/* Entries grow downwards from the end of dst until finish puts them in order behind the groups. */
void taut__sparse_flush(taut__sparse_writer *w)
{
    if (w->fill == 0) return;
    uint64_t span = w->fill, unary = 0;
    for (size_t i = 0; i < w->fill; i++) span += w->gap[i];
    unsigned b = best_rice(w, span, &unary);
    size_t   u = words32(unary), l = words32((uint64_t)b * w->fill), bytes = 4 * (u + l + w->fill);
    w->groups++;
    if (w->full || w->cap - w->used < bytes + TAUT_SPARSE_ENTRY * w->groups || span >> SPAN_BITS || u >> WORDS_BITS) {
        w->full = true;
        w->fill = 0;
        return;
    }
    uint8_t *p = w->dst + w->used;
    put_unary(w, b, p, u);
    put_low(w, b, p + 4 * u);
    memcpy(p + 4 * (u + l), w->val, 4 * w->fill);
    taut__put64(w->dst + w->cap - TAUT_SPARSE_ENTRY * w->groups,
                ((uint64_t)b << WORDS_BITS | (uint64_t)u) << SPAN_BITS | span);
    w->used += bytes;
    w->count += w->fill;
    w->fill = 0;
}

size_t taut__sparse_finish(taut__sparse_writer *w, double density)
{
    taut__sparse_flush(w);
    if (w->full) return 0;
    put_header(w->dst, LAYOUT_GROUPS, density, w->count);
    uint8_t *table = w->dst + w->used;
    memmove(table, w->dst + w->cap - TAUT_SPARSE_ENTRY * w->groups, TAUT_SPARSE_ENTRY * w->groups);
    for (size_t i = 0, j = w->groups; i + 1 < j; i++) { /* last group first: reverse */
        uint64_t a = taut__get64(table + TAUT_SPARSE_ENTRY * i), b = taut__get64(table + TAUT_SPARSE_ENTRY * --j);
        taut__put64(table + TAUT_SPARSE_ENTRY * i, b);
        taut__put64(table + TAUT_SPARSE_ENTRY * j, a);
    }
    return w->used + TAUT_SPARSE_ENTRY * w->groups;
}

size_t taut__sparse_raw(const float *src, size_t n, double density, uint8_t *dst)
{
    put_header(dst, LAYOUT_RAW, density, n);
    memcpy(dst + TAUT_SPARSE_HEADER, src, n * sizeof *src);
    return TAUT_SPARSE_HEADER + n * sizeof *src;
}

/* ---- reader ---- */

typedef struct group {
    const uint8_t *unary, *low, *val;
    size_t         words, fill; /* of unary; elements */
    unsigned       b;
    uint64_t       span;
} group;

typedef struct reader {
    const uint8_t *at, *groups_end, *table; /* at: the next group; table: its entry */
    uint64_t       left;                    /* elements in groups not read yet */
    bool           raw;
} reader;

static taut_status corrupt(const char *what) { return taut__fail(TAUT_E_CORRUPT, "topk payload: %s", what); }

static taut_status open_payload(reader *r, const uint8_t *src, size_t len, size_t n)
{
    if (len < TAUT_SPARSE_HEADER) return corrupt("shorter than its header");
    uint32_t layout = taut__get32(src);
    size_t   body = len - TAUT_SPARSE_HEADER;
    if (layout > LAYOUT_GROUPS || taut__get32(src + 4) != 0) return corrupt("unknown layout");
    r->raw = layout == LAYOUT_RAW;
    r->left = taut__get64(src + 16);
    r->at = src + TAUT_SPARSE_HEADER;
    if (r->left > n) return corrupt("more elements than the tensor has");
    if (r->raw) return r->left == n && body % 4 == 0 && body / 4 == n ? TAUT_OK : corrupt("length does not match");
    size_t groups = taut__ceil_div((size_t)r->left, TAUT_SPARSE_GROUP);
    if (body / TAUT_SPARSE_ENTRY < groups) return corrupt("shorter than its table");
    r->groups_end = r->table = src + len - TAUT_SPARSE_ENTRY * groups;
    return TAUT_OK;
}

static taut_status next_group(reader *r, group *g)
{
    uint64_t entry = taut__get64(r->table);
    g->fill = (size_t)(r->left < TAUT_SPARSE_GROUP ? r->left : TAUT_SPARSE_GROUP);
    g->span = entry & (((uint64_t)1 << SPAN_BITS) - 1);
    g->words = (size_t)(entry >> SPAN_BITS & ((1u << WORDS_BITS) - 1));
    g->b = (unsigned)(entry >> (SPAN_BITS + WORDS_BITS));
    if (g->b > RICE_MAX) return corrupt("Rice parameter out of range");
    size_t low = words32((uint64_t)g->b * g->fill), bytes = 4 * (g->words + low + g->fill);
    if ((size_t)(r->groups_end - r->at) < bytes) return corrupt("group longer than the payload");
    g->unary = r->at;
    g->low = g->unary + 4 * g->words;
    g->val = g->low + 4 * low;
    r->at += bytes;
    r->table += TAUT_SPARSE_ENTRY;
    r->left -= g->fill;
    return TAUT_OK;
}

static uint64_t low_bits(const group *g, size_t i)
{
    if (g->b == 0) return 0;
    uint64_t at = (uint64_t)i * g->b;
    uint64_t x = taut__get32(g->low + at / 32 * 4) >> at % 32;
    if (at % 32 + g->b > 32) x |= (uint64_t)taut__get32(g->low + (at / 32 + 1) * 4) << (32 - at % 32);
    return x & (((uint64_t)1 << g->b) - 1);
}

/* pos[0..fill): offsets in the group's span. The last kept element ends the span, and every word holds at least the
 * promised number of ones, so that each payload has one spelling only. */
static taut_status positions(const group *g, uint64_t *pos)
{
    uint64_t next = 0, last_one = 0;
    size_t   found = 0;
    for (size_t w = 0; w < g->words; w++) {
        for (uint32_t ones = taut__get32(g->unary + 4 * w); ones; ones &= ones - 1) {
            uint64_t one = 32 * (uint64_t)w + (unsigned)__builtin_ctz(ones);
            if (found == g->fill) return corrupt("more positions than elements");
            uint64_t gap = (one - last_one) << g->b | low_bits(g, found);
            if (next >= g->span || gap >= g->span - next) return corrupt("position outside its group");
            next += gap + 1;
            pos[found++] = next - 1;
            last_one = one + 1;
        }
    }
    if (found != g->fill || next != g->span || g->words != words32(last_one))
        return corrupt("positions do not fill the group");
    return TAUT_OK;
}

enum mode { SET, ADD, ZERO }; /* what decoding does to the elements that were kept */

static inline __attribute__((always_inline)) void apply(enum mode mode, float *dst, const uint8_t *val)
{
    float x;
    memcpy(&x, val, sizeof x);
    *dst = mode == SET ? x : mode == ADD ? *dst + x : 0;
}

static inline __attribute__((always_inline)) taut_status decode_raw(const uint8_t *val, float *dst, size_t n,
                                                                    enum mode mode)
{
    for (size_t i = 0; i < n; i++) apply(mode, dst + i, val + 4 * i);
    return TAUT_OK;
}

static inline __attribute__((always_inline)) taut_status decode_groups(reader *r, float *dst, size_t n, enum mode mode)
{
    uint64_t pos[TAUT_SPARSE_GROUP], first = 0;
    group    g;
    while (r->left > 0) {
        TAUT_TRY(next_group(r, &g));
        if (g.span > n - first) return corrupt("position outside the tensor");
        TAUT_TRY(positions(&g, pos));
        for (size_t i = 0; i < g.fill; i++) apply(mode, dst + first + pos[i], g.val + 4 * i);
        first += g.span;
    }
    return r->at == r->groups_end ? TAUT_OK : corrupt("bytes left over");
}

taut_status taut__sparse_decode(const uint8_t *src, size_t len, float *dst, size_t n)
{
    reader r;
    TAUT_TRY(open_payload(&r, src, len, n));
    if (r.raw) return decode_raw(r.at, dst, n, SET);
    memset(dst, 0, n * sizeof *dst);
    return decode_groups(&r, dst, n, SET);
}

taut_status taut__sparse_decode_add(const uint8_t *src, size_t len, float *acc, size_t n)
{
    reader r;
    TAUT_TRY(open_payload(&r, src, len, n));
    return r.raw ? decode_raw(r.at, acc, n, ADD) : decode_groups(&r, acc, n, ADD);
}

taut_status taut__sparse_zero(const uint8_t *src, size_t len, float *err, size_t n)
{
    reader r;
    TAUT_TRY(open_payload(&r, src, len, n));
    return r.raw ? decode_raw(r.at, err, n, ZERO) : decode_groups(&r, err, n, ZERO);
}

taut_status taut__sparse_density(const uint8_t *src, size_t len, double *density)
{
    if (len < TAUT_SPARSE_HEADER) return corrupt("shorter than its header");
    memcpy(density, src + 8, sizeof *density);
    return *density > 0 && *density <= 1 ? TAUT_OK : corrupt("density out of range");
}
