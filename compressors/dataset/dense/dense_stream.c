/* dense_stream.c : see dense_stream.h. Every formula here is part of the format: docs/shard-format.md. */
#include "dense_stream.h"
#include "../shard/bytes.h"
#include <string.h>

void taut__dense_stream_init(taut_dense_stream *s, uint32_t rows, uint32_t cols, uint32_t channels)
{
    memset(s, 0, sizeof *s);
    s->rows = rows, s->cols = cols, s->channels = channels;
}

/* ---- text ---- */

static inline void text_hashes(const taut_dense_stream *s, const uint8_t *h, size_t i, taut_dense_byte *c)
{
    uint32_t c4 = s->four, c3 = c4 >> 8, c2 = c4 >> 16, c1 = c4 >> 24;
    c->hash[0] = taut__dense_hash(1, c1);
    c->hash[1] = taut__dense_hash(2, c2);
    c->hash[2] = taut__dense_hash(3, c3);
    c->hash[3] = taut__dense_hash(4, c4);
    c->hash[4] = taut__dense_hash(c4 ^ 5, i > 4 ? h[i - 5] : 0);
    c->hash[5] = taut__dense_hash(s->word ^ 6, s->before);
}

static inline void text_expect(const taut_dense_stream *s, const uint8_t *h, taut_dense_byte *c)
{
    if (s->length) {
        c->expected = h[s->match];
        c->length = s->length < 16 ? s->length * 3 / 4 : s->length < 32 ? 12 + (s->length - 16) / 6 : 15;
        c->set = s->length < 8 ? 1 : s->length < 16 ? 2 : s->length < 24 ? 3 : 4;
    } else {
        c->expected = -1;
        c->length = 0;
        c->set = 0;
    }
}

static inline bool is_letter(uint32_t b) { return (b | 32) - 'a' < 26 || b >= 128 || b == '\''; }

static inline void text_word(taut_dense_stream *s, uint32_t b)
{
    if (is_letter(b)) {
        s->word = (s->word + (b | 32) + 1) * 0x2f0b4c47u;
        return;
    }
    if (s->word) s->before = s->word;
    if (b != ' ') s->before = b;
    s->word = 0;
}

/* How many bytes before a and before b agree, at most 32; a < b. */
static inline uint32_t agreement(const uint8_t *h, size_t a, size_t b)
{
    uint32_t n = 0;
    for (; n < 32 && n + 8 <= a; n += 8) {
        uint64_t x = taut__get64(h + a - n - 8) ^ taut__get64(h + b - n - 8);
        if (x) return n + (uint32_t)__builtin_clzll(x) / 8;
    }
    while (n < 32 && n < a && h[a - 1 - n] == h[b - 1 - n]) n++;
    return n;
}

/* Byte i is known: the match goes on or ends; a new one is looked for where the last five bytes were seen before. */
static inline void text_match(taut_dense_stream *s, const uint8_t *h, size_t i)
{
    uint32_t seen;
    if (s->length && h[s->match] == h[i]) {
        s->length++;
        s->match++;
    } else {
        s->length = 0;
    }
    if (i < 4) return;
    seen = s->last[s->key];
    s->last[s->key] = (uint32_t)i + 1;
    if (s->length || !seen) return;
    s->length = agreement(h, seen, i + 1);
    if (s->length < TAUT_DENSE_MATCH_MIN) s->length = 0;
    s->match = seen;
}

/* ---- images ---- neighbours outside the image are 0 */

static inline uint32_t absolute(int v) { return (uint32_t)(v < 0 ? -v : v); }
static inline uint32_t level(uint32_t v)
{
    return v < 1 ? 0 : v < 6 ? 1 : v < 16 ? 2 : v < 40 ? 3 : v < 80 ? 4 : v < 160 ? 5 : v < 255 ? 6 : 7;
}

static inline void image_contexts(const taut_dense_stream *s, const uint8_t *h, size_t i, taut_dense_byte *c)
{
    uint32_t ch = s->channels, row = s->cols * ch, size = s->rows * row;
    uint32_t at = (uint32_t)(i % size), y = at / row, x = at % row / ch, k = at % ch;
    bool     west = x > 0, north = y > 0, east = x + 1 < s->cols;
    uint32_t w = west ? h[i - ch] : 0, ww = x > 1 ? h[i - 2 * ch] : 0, n = north ? h[i - row] : 0,
             nn = y > 1 ? h[i - 2 * row] : 0;
    uint32_t nw = north && west ? h[i - row - ch] : 0, ne = north && east ? h[i - row + ch] : 0,
             other = k ? h[i - 1] : 0;
    int      plane = (int)w + (int)n - (int)nw, low = (int)(w < n ? w : n), high = (int)(w < n ? n : w);
    uint32_t med = (uint32_t)((int)nw >= high ? low : (int)nw <= low ? high : plane);
    uint32_t rough = absolute((int)w - (int)nw) + absolute((int)n - (int)nw) + absolute((int)n - (int)ne),
             tag = k << 4 | other << 8;
    uint32_t all = level(w) | level(n) << 3 | level(nw) << 6 | level(ne) << 9 | level(ww) << 12 | level(nn) << 15;
    c->hash[0] = taut__dense_hash(tag | 1, w << 8 | n);
    c->hash[1] = taut__dense_hash(tag | 2, (w >> 2) << 16 | (n >> 2) << 8 | ne >> 2);
    c->hash[2] = taut__dense_hash(tag | 3, all);
    c->hash[3] = taut__dense_hash(tag | 4, med << 8 | level(rough > 255 ? 255 : rough));
    c->hash[4] = taut__dense_hash(tag | 5, (y << 12 | x) * 64 + (level(w) << 3 | level(n)));
    c->hash[5] = taut__dense_hash(tag | 6, w << 16 | (nw >> 4) << 12 | (ww >> 3) << 4 | nn >> 5);
    c->expected = -1;
    c->length = 0;
    c->set = level(rough > 255 ? 255 : rough);
}

/* ---- both ---- */

/* What byte i is predicted from. The match is followed while the slots of the hashes are on their way from memory; so byte
 * i-1 enters it only now. */
static inline void contexts(taut_dense_stream *s, const taut_dense_model *m, const uint8_t *h, size_t i,
                            taut_dense_byte *c)
{
    if (s->rows) {
        image_contexts(s, h, i, c);
        taut__dense_prefetch(m, c);
        return;
    }
    if (i) {
        s->four = s->four >> 8 | (uint32_t)h[i - 1] << 24;
        s->key = (s->four * 0x2f0b4c47u + (i > 4 ? h[i - 5] : 0)) * 0x9e3779b1u >> (32 - TAUT_DENSE_MATCH_BITS);
        __builtin_prefetch(&s->last[s->key], 1);
        text_word(s, h[i - 1]);
    }
    text_hashes(s, h, i, c);
    taut__dense_prefetch(m, c);
    if (i) text_match(s, h, i - 1);
    text_expect(s, h, c);
}

void taut__dense_encode_bytes(taut_dense_stream *s, taut_dense_model *m, taut_dense_coder *a, const uint8_t *h,
                              size_t at, size_t n)
{
    taut_dense_byte c;
    for (size_t i = at; i < at + n; i++) {
        contexts(s, m, h, i, &c);
        taut__dense_encode(m, &c, a, h[i]);
    }
}

bool taut__dense_decode_bytes(taut_dense_stream *s, taut_dense_model *m, taut_dense_coder *a, uint8_t *h, size_t at,
                              size_t n)
{
    taut_dense_byte c;
    for (size_t i = at; i < at + n && a->past <= TAUT_DENSE_PAST; i++) {
        contexts(s, m, h, i, &c);
        h[i] = taut__dense_decode(m, &c, a);
    }
    return taut__dense_end_decode(a);
}
