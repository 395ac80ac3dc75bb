/* minhash.c : see minhash.h. */
#include "minhash.h"
#include <stdlib.h>
#include <string.h>

enum { NGRAM_MAX = 32 };

/* ---- sets of n-grams ---- */

void taut__shingles_free(taut__shingles *s)
{
    taut__free(s->p);
    *s = (taut__shingles){0};
}

static taut_status add(taut__shingles *s, uint64_t hash)
{
    if (s->n == s->cap) {
        size_t    cap = s->cap ? 2 * s->cap : 256;
        uint64_t *p = taut__alloc(cap, sizeof *p);
        if (!p) return taut__fail(TAUT_E_NOMEM, "no memory for %zu n-grams", cap);
        if (s->n) memcpy(p, s->p, s->n * sizeof *p);
        taut__free(s->p);
        s->p = p;
        s->cap = cap;
    }
    s->p[s->n++] = hash;
    return TAUT_OK;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort_once(taut__shingles *s)
{
    size_t kept = 0;
    if (s->n > 1) qsort(s->p, s->n, sizeof *s->p, by_value);
    for (size_t i = 0; i < s->n; i++)
        if (kept == 0 || s->p[kept - 1] != s->p[i]) s->p[kept++] = s->p[i];
    s->n = kept;
}

/* The last words, as hashes; an n-gram is a hash of `ngram` of them, oldest first. */
typedef struct window {
    uint64_t word[NGRAM_MAX];
    unsigned ngram;
    uint64_t words; /* seen so far */
} window;

static uint64_t gram(const window *w, unsigned n)
{
    uint64_t h = n;
    for (uint64_t k = w->words - n; k < w->words; k++) h = taut__mix64(h ^ w->word[k % w->ngram]);
    return h;
}

static taut_status push(taut__shingles *s, window *w, uint64_t word)
{
    w->word[w->words++ % w->ngram] = word;
    return w->words >= w->ngram ? add(s, gram(w, w->ngram)) : TAUT_OK;
}

/* A text of fewer words than an n-gram has is one. */
static taut_status finish(taut__shingles *s, const window *w)
{
    if (w->words && w->words < w->ngram) TAUT_TRY(add(s, gram(w, (unsigned)w->words)));
    sort_once(s);
    return TAUT_OK;
}

static taut_status begin(taut__shingles *s, window *w, unsigned ngram)
{
    if (ngram < 1 || ngram > NGRAM_MAX) return taut__fail(TAUT_E_RANGE, "ngram=%u: must be 1..%d", ngram, NGRAM_MAX);
    s->n = 0;
    w->ngram = ngram;
    w->words = 0;
    return TAUT_OK;
}

/* Bytes of a character that is a word by itself (U+3000 and up begin with E3..F4); 0 for others. */
static size_t lone(const uint8_t *p, size_t n)
{
    size_t len = p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : p[0] >= 0xe3 && p[0] < 0xf0 ? 3 : 0;
    return len <= n ? len : 0;
}

static uint64_t hash_bytes(const uint8_t *p, size_t n, bool fold)
{
    uint64_t h = 0x9ae16a3b2f90404fu ^ n, word = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = fold && p[i] >= 'A' && p[i] <= 'Z' ? (uint8_t)(p[i] + 32) : p[i];
        word |= (uint64_t)c << (8 * (i % 8));
        if (i % 8 == 7) h = taut__mix64(h ^ word), word = 0;
    }
    return taut__mix64(h ^ word);
}

taut_status taut__shingles_text(taut__shingles *s, const uint8_t *text, size_t bytes, unsigned ngram)
{
    window w;
    TAUT_TRY(begin(s, &w, ngram));
    for (size_t i = 0, len; i < bytes; i += len) {
        len = lone(text + i, bytes - i);
        if (len == 0)
            for (; i + len < bytes; len++) {
                uint8_t c = text[i + len];
                bool    inside = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
                              (c >= 0x80 && !lone(text + i + len, bytes - i - len));
                if (!inside) break;
            }
        if (len == 0) {
            len = 1;
            continue;
        }
        TAUT_TRY(push(s, &w, hash_bytes(text + i, len, true)));
    }
    return finish(s, &w);
}

taut_status taut__shingles_tokens(taut__shingles *s, const uint8_t *ids, size_t bytes, size_t width, unsigned ngram)
{
    window w;
    TAUT_TRY(begin(s, &w, ngram));
    if (width != 1 && width != 2 && width != 4 && width != 8)
        return taut__fail(TAUT_E_RANGE, "ids of %zu bytes: must be 1, 2, 4 or 8", width);
    for (size_t i = 0; i + width <= bytes; i += width) TAUT_TRY(push(s, &w, hash_bytes(ids + i, width, false)));
    return finish(s, &w);
}

double taut__jaccard(const taut__shingles *a, const taut__shingles *b)
{
    size_t i = 0, j = 0, both = 0;
    while (i < a->n && j < b->n) {
        uint64_t x = a->p[i], y = b->p[j];
        both += x == y;
        i += x <= y;
        j += y <= x;
    }
    return a->n + b->n ? (double)both / (double)(a->n + b->n - both) : 0;
}

/* ---- sketches ---- */

taut_status taut__minhash_init(taut__minhash *m, uint32_t bands, uint32_t rows, uint64_t seed)
{
    if (bands < 1 || rows < 1 || bands > TAUT__MINHASH_MAX || rows > TAUT__MINHASH_MAX ||
        bands * rows > TAUT__MINHASH_MAX)
        return taut__fail(TAUT_E_RANGE, "%u bands of %u rows: must be at least 1 each, and %d together", bands, rows,
                          TAUT__MINHASH_MAX);
    m->bands = bands;
    m->rows = rows;
    for (uint32_t i = 0; i < bands * rows; i++) {
        m->a[i] = taut__seed(seed, 2 * (uint64_t)i) | 1;
        m->b[i] = taut__seed(seed, 2 * (uint64_t)i + 1);
    }
    return TAUT_OK;
}

void taut__minhash_keys(const taut__minhash *m, const taut__shingles *s, uint64_t *key)
{
    uint32_t low[TAUT__MINHASH_MAX], k = m->bands * m->rows;
    memset(low, 0xff, sizeof low);
    for (size_t x = 0; x < s->n; x++)
        for (uint32_t i = 0; i < k; i++) {
            uint32_t v = (uint32_t)((m->a[i] * s->p[x] + m->b[i]) >> 32);
            low[i] = v < low[i] ? v : low[i];
        }
    for (uint32_t b = 0; b < m->bands; b++) {
        uint64_t h = b;
        for (uint32_t r = 0; r < m->rows; r++) h = taut__mix64(h ^ low[b * m->rows + r]);
        key[b] = s->n == 0 ? TAUT__NO_KEY : h == TAUT__NO_KEY ? 0 : h;
    }
}

/* ---- duplicates ---- */

/* Staying documents by the key of a band: places of an open hash table, each the head of a chain (document + 1; 0: none). */
typedef struct table {
    uint32_t *head, *next; /* places; n */
} table;

typedef struct search {
    uint64_t        n, mask;
    uint32_t        bands;
    const uint64_t *key;
    table          *table; /* per band */
    uint32_t       *found; /* candidates of the document under way */
    size_t          count, room;
} search;

static void search_free(search *s)
{
    for (uint32_t b = 0; s->table && b < s->bands; b++) {
        taut__free(s->table[b].head);
        taut__free(s->table[b].next);
    }
    taut__free(s->table);
    taut__free(s->found);
}

static taut_status search_init(search *s)
{
    uint64_t places = 2;
    while (places < 2 * s->n) places *= 2;
    s->mask = places - 1;
    s->table = taut__alloc(s->bands, sizeof *s->table);
    for (uint32_t b = 0; s->table && b < s->bands; b++) {
        s->table[b].head = taut__alloc((size_t)places, sizeof *s->table[b].head);
        s->table[b].next = taut__alloc((size_t)s->n, sizeof *s->table[b].next);
        if (!s->table[b].head || !s->table[b].next)
            return taut__fail(TAUT_E_NOMEM, "no memory for the sketches of %llu documents", (unsigned long long)s->n);
    }
    return s->table ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "no memory for %u bands", s->bands);
}

/* The place of this key: its chain, or an empty one. */
static uint32_t *place(const search *s, uint32_t b, uint64_t key)
{
    uint64_t at = key & s->mask;
    while (s->table[b].head[at] && s->key[(uint64_t)(s->table[b].head[at] - 1) * s->bands + b] != key)
        at = (at + 1) & s->mask;
    return &s->table[b].head[at];
}

static taut_status note(search *s, uint32_t doc)
{
    if (s->count == s->room) {
        size_t    room = s->room ? 2 * s->room : 64;
        uint32_t *p = taut__alloc(room, sizeof *p);
        if (!p) return taut__fail(TAUT_E_NOMEM, "no memory for %zu candidates", room);
        if (s->count) memcpy(p, s->found, s->count * sizeof *p);
        taut__free(s->found);
        s->found = p;
        s->room = room;
    }
    s->found[s->count++] = doc;
    return TAUT_OK;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Staying documents that share a band with j, ascending; each may be there several times. */
static taut_status candidates(search *s, uint64_t j)
{
    s->count = 0;
    for (uint32_t b = 0; b < s->bands; b++)
        for (uint32_t d = *place(s, b, s->key[j * s->bands + b]); d; d = s->table[b].next[d - 1])
            TAUT_TRY(note(s, d - 1));
    if (s->count > 1) qsort(s->found, s->count, sizeof *s->found, by_number);
    return TAUT_OK;
}

static void stay(search *s, uint64_t j)
{
    for (uint32_t b = 0; b < s->bands; b++) {
        uint32_t *head = place(s, b, s->key[j * s->bands + b]);
        s->table[b].next[j] = *head;
        *head = (uint32_t)j + 1;
    }
}

static taut_status one(search *s, uint64_t j, const taut__near *near, uint64_t *first)
{
    first[j] = j;
    if (s->key[j * s->bands] == TAUT__NO_KEY) return TAUT_OK;
    TAUT_TRY(candidates(s, j));
    for (size_t c = 0; c < s->count; c++) {
        bool yes = false;
        if (c && s->found[c] == s->found[c - 1]) continue;
        TAUT_TRY(near->near(near->ctx, s->found[c], j, &yes));
        if (!yes) continue;
        first[j] = s->found[c];
        return TAUT_OK;
    }
    stay(s, j);
    return TAUT_OK;
}

taut_status taut__near_duplicates(uint64_t n, uint32_t bands, const uint64_t *key, const taut__near *near,
                                  uint64_t *first)
{
    search      s = {.n = n, .bands = bands, .key = key};
    taut_status rc;
    if (n >= UINT32_MAX)
        return taut__fail(TAUT_E_RANGE, "%llu documents: must be below 2^32 - 1", (unsigned long long)n);
    if (n == 0) return TAUT_OK;
    rc = search_init(&s);
    for (uint64_t j = 0; j < n && rc == TAUT_OK; j++) rc = one(&s, j, near, first);
    search_free(&s);
    return rc;
}
