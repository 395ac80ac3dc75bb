/* select_dedup.c : one of each: exact copies by their bytes, near ones by MinHash, banding and a verified Jaccard index (../minhash.h).
 *
 * A sample stays unless it is a copy of an earlier one, or near to an earlier one that stays: so all that goes has something in
 * the set that it is near to. `bands` bands of `rows` rows find a pair with probability 1 - (1 - J^rows)^bands; at the threshold
 * of 0.8 the usual 14 x 8 miss 7.6% of the pairs, so there are two `sets` of bands with functions of their own, which miss 0.6%.
 *
 * Ranks sketch a part each and verify a part of the candidates each; the decision over all of them is the same everywhere. */
#include "select.h"
#include "../minhash.h"
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MODE, JACCARD, BANDS, ROWS, NGRAM, SETS };
enum {
    CACHED = 1024,
    PAIRS_FIRST = 4
}; /* sets kept; members of a bucket that all others of it are compared with beforehand */

typedef unsigned long long ull;

typedef struct pair {
    uint32_t i, j;
} pair; /* i < j */

typedef struct dedup {
    taut__select   *s;
    taut__minhash  *sketch;            /* sets of them */
    uint32_t        sets, bands, keys; /* keys: sets * bands */
    taut__shingles  shingles;
    uint64_t       *key;   /* n * keys */
    taut__shingles *cache; /* of place cached[k]-1, at place % CACHED */
    uint64_t       *cached;
    pair           *yes; /* verified pairs that are near, ascending; all pairs of `known` were looked at */
    size_t          n_yes;
    pair           *known;
    size_t          n_known;
} dedup;

/* ---- exact ---- */

/* 128 bits of hash, carried as they are in two numbers. */
static taut_status hash_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    (void)ctx, (void)place;
    memcpy(out, &h, sizeof h);
    return TAUT_OK;
}

typedef struct hashed {
    uint64_t hash[2], place;
} hashed;

static int by_hash(const void *a, const void *b)
{
    const hashed *x = a, *y = b;
    if (x->hash[0] != y->hash[0]) return x->hash[0] < y->hash[0] ? -1 : 1;
    if (x->hash[1] != y->hash[1]) return x->hash[1] < y->hash[1] ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* keep[place] = it is the first of its copies. */
static taut_status find_exact(dedup *d, uint8_t *keep)
{
    uint64_t    n = d->s->pool->n;
    double     *bits = NULL;
    hashed     *h = taut__alloc((size_t)n, sizeof *h);
    taut_status status = taut__select_agree(
        d->s, h ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "dedup: out of memory for %llu samples", (ull)n));
    if (status == TAUT_OK) status = taut__select_measure(d->s, "hashing", 2, hash_one, d, &bits);
    if (status == TAUT_OK) {
        for (uint64_t i = 0; i < n; i++) {
            memcpy(h[i].hash, bits + 2 * i, sizeof h[i].hash);
            h[i].place = i;
        }
        qsort(h, (size_t)n, sizeof *h, by_hash);
        for (uint64_t i = 0; i < n; i++)
            keep[h[i].place] = i == 0 || memcmp(h[i].hash, h[i - 1].hash, sizeof h[i].hash) != 0;
    }
    taut__free(bits);
    taut__free(h);
    return status;
}

/* ---- sketches ---- */

static taut_status shingle(dedup *d, const uint8_t *data, size_t bytes, taut__shingles *to)
{
    unsigned ngram = (unsigned)d->s->value[NGRAM];
    if (d->s->pool->kind == TAUT_KIND_TOKENS)
        return taut__shingles_tokens(to, data, bytes, taut_type_bytes(d->s->pool->type), ngram);
    return taut__shingles_text(to, data, bytes, ngram);
}

static taut_status sketch_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    dedup   *d = ctx;
    uint64_t key[TAUT__MINHASH_MAX];
    (void)place;
    TAUT_TRY(shingle(d, data, bytes, &d->shingles));
    for (uint32_t k = 0; k < d->sets; k++) taut__minhash_keys(&d->sketch[k], &d->shingles, key + k * d->bands);
    memcpy(out, key, d->keys * sizeof *key);
    return TAUT_OK;
}

static taut_status sketch(dedup *d, const uint8_t *keep)
{
    double     *bits = NULL;
    taut_status status = TAUT_OK;
    d->sets = (uint32_t)d->s->value[SETS];
    d->bands = (uint32_t)d->s->value[BANDS];
    d->keys = d->sets * d->bands;
    if (d->keys > TAUT__MINHASH_MAX)
        return taut__fail(TAUT_E_RANGE, "dedup: %u sets of %u bands: must be %d together", d->sets, d->bands,
                          TAUT__MINHASH_MAX);
    if (!(d->sketch = taut__alloc(d->sets, sizeof *d->sketch))) return taut__fail(TAUT_E_NOMEM, "dedup: out of memory");
    for (uint32_t k = 0; k < d->sets; k++)
        TAUT_TRY(taut__minhash_init(&d->sketch[k], d->bands, (uint32_t)d->s->value[ROWS], taut__seed(d->s->seed, k)));
    TAUT_TRY(taut__select_measure(d->s, "sketching", d->keys, sketch_one, d, &bits));
    d->key = (uint64_t *)(void *)bits; /* hashes were carried in them */
    for (uint64_t i = 0; i < d->s->pool->n; i++)
        for (uint32_t k = 0; k < d->keys && !keep[i]; k++) d->key[i * d->keys + k] = TAUT__NO_KEY;
    return status;
}

/* ---- verifying ---- */

static taut_status shingles_of(dedup *d, uint64_t place, taut__shingles **of)
{
    size_t         k = (size_t)(place % CACHED);
    const uint8_t *data;
    size_t         bytes;
    *of = &d->cache[k];
    if (d->cached[k] == place + 1) return TAUT_OK;
    d->cached[k] = 0;
    TAUT_TRY(taut__pool_get(d->s->pool, place, &data, &bytes));
    TAUT_TRY(shingle(d, data, bytes, &d->cache[k]));
    d->cached[k] = place + 1;
    return TAUT_OK;
}

static taut_status verify(dedup *d, uint64_t i, uint64_t j, bool *yes)
{
    taut__shingles *a, *b, copy = {0};
    taut_status     status;
    TAUT_TRY(shingles_of(d, i, &a));
    if (i % CACHED == j % CACHED) { /* the two would be in each other's place */
        copy = *a;
        memset(a, 0, sizeof *a);
        d->cached[i % CACHED] = 0;
        a = &copy;
    }
    status = shingles_of(d, j, &b);
    *yes = status == TAUT_OK && taut__jaccard(a, b) >= d->s->value[JACCARD];
    taut__shingles_free(&copy);
    return status;
}

static int by_pair(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->i != y->i) return x->i < y->i ? -1 : 1;
    return (x->j > y->j) - (x->j < y->j);
}

typedef struct keyed {
    uint64_t key;
    uint32_t doc;
} keyed;

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->doc > y->doc) - (x->doc < y->doc);
}

static taut_status add_pair(dedup *d, size_t *room, pair p)
{
    if (d->n_known == *room) {
        size_t more = *room ? 2 * *room : 4096;
        pair  *to = taut__alloc(more, sizeof *to);
        if (!to) return taut__fail(TAUT_E_NOMEM, "dedup: out of memory for %zu candidates", more);
        if (d->n_known) memcpy(to, d->known, d->n_known * sizeof *to);
        taut__free(d->known);
        d->known = to, *room = more;
    }
    d->known[d->n_known++] = p;
    return TAUT_OK;
}

/* The candidates that will be asked for first: the members of a bucket with its first ones. Each once, ascending. */
static taut_status list_candidates(dedup *d)
{
    uint64_t    n = d->s->pool->n;
    keyed      *k = taut__alloc((size_t)n, sizeof *k);
    size_t      room = 0, kept = 0;
    taut_status status = k ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "dedup: out of memory for %llu samples", (ull)n);
    for (uint32_t b = 0; status == TAUT_OK && b < d->keys; b++) {
        size_t m = 0;
        for (uint64_t i = 0; i < n; i++)
            if (d->key[i * d->keys + b] != TAUT__NO_KEY) k[m++] = (keyed){d->key[i * d->keys + b], (uint32_t)i};
        if (m) qsort(k, m, sizeof *k, by_key);
        for (size_t first = 0, end; status == TAUT_OK && first < m; first = end) {
            for (end = first + 1; end < m && k[end].key == k[first].key; end++) {}
            for (size_t x = first; x < end && x < first + PAIRS_FIRST; x++)
                for (size_t y = x + 1; status == TAUT_OK && y < end; y++)
                    status = add_pair(d, &room, (pair){k[x].doc, k[y].doc});
        }
    }
    taut__free(k);
    if (d->n_known) qsort(d->known, d->n_known, sizeof *d->known, by_pair);
    for (size_t x = 0; x < d->n_known; x++)
        if (kept == 0 || by_pair(&d->known[kept - 1], &d->known[x]) != 0) d->known[kept++] = d->known[x];
    d->n_known = kept;
    return status;
}

/* This rank's run of them; then those that are near, of all ranks. */
static taut_status verify_candidates(dedup *d)
{
    uint32_t    ranks = taut__select_ranks(d->s), rank = taut__select_rank(d->s);
    size_t      begin = d->n_known * rank / ranks, end = d->n_known * (rank + 1) / ranks, near = 0, bytes = 0;
    pair       *mine = taut__alloc(end - begin + 1, sizeof *mine);
    taut_status status = mine ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "dedup: out of memory");
    for (size_t x = begin; status == TAUT_OK && x < end; x++) {
        bool yes;
        status = verify(d, d->known[x].i, d->known[x].j, &yes);
        if (status == TAUT_OK && yes) mine[near++] = d->known[x];
        if (status == TAUT_OK && x % 256 == 0)
            status = taut__select_progress(d->s, "comparing", x - begin, end - begin);
    }
    status = taut__select_collect(d->s, status, mine, near * sizeof *mine, (void **)&d->yes, &bytes);
    d->n_yes = bytes / sizeof *d->yes;
    taut__free(mine);
    return status;
}

static taut_status near(void *ctx, uint64_t i, uint64_t j, bool *yes)
{
    dedup *d = ctx;
    pair   p = {(uint32_t)i, (uint32_t)j};
    if (d->n_known && bsearch(&p, d->known, d->n_known, sizeof p, by_pair)) {
        *yes = d->n_yes && bsearch(&p, d->yes, d->n_yes, sizeof p, by_pair) != NULL;
        return TAUT_OK;
    }
    return verify(d, i, j, yes);
}

static taut_status find_near(dedup *d, uint8_t *keep)
{
    uint64_t    n = d->s->pool->n, *first = taut__alloc((size_t)n, sizeof *first);
    taut__near  question = {d, near};
    taut_status status;
    d->cache = taut__alloc(CACHED, sizeof *d->cache);
    d->cached = taut__alloc(CACHED, sizeof *d->cached);
    status = first && d->cache && d->cached ? TAUT_OK
                                            : taut__fail(TAUT_E_NOMEM, "dedup: out of memory for %llu samples", (ull)n);
    if (status == TAUT_OK && n >= UINT32_MAX - 1)
        status = taut__fail(TAUT_E_UNSUPPORTED, "dedup: %llu samples: must be fewer than 2^32 - 1", (ull)n);
    status = taut__select_agree(d->s, status);
    if (status == TAUT_OK) status = sketch(d, keep);
    if (status == TAUT_OK) status = list_candidates(d);
    status = taut__select_agree(d->s, status);
    if (status == TAUT_OK) status = verify_candidates(d);
    if (status == TAUT_OK) status = taut__near_duplicates(n, d->keys, d->key, &question, first);
    status = taut__select_agree(d->s, status);
    for (uint64_t i = 0; status == TAUT_OK && i < n; i++) keep[i] = keep[i] && first[i] == i;
    taut__free(first);
    return status;
}

static taut_status run(taut__select *s)
{
    dedup    d = {.s = s};
    uint8_t *keep = taut__alloc((size_t)s->pool->n, 1);
    bool     words =
        s->pool->kind == TAUT_KIND_TEXT || s->pool->kind == TAUT_KIND_TOKENS || s->pool->kind == TAUT_KIND_BYTES;
    taut_status status = keep ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "dedup: out of memory");
    if (s->value[MODE] == 0 && !words)
        status =
            taut__fail(TAUT_E_UNSUPPORTED,
                       "dedup: field '%s' is %s: near duplicates are of text, bytes and tokens: must be mode=exact",
                       s->pool->name, taut_kind_name(s->pool->kind));
    status = taut__select_agree(s, status);
    if (status == TAUT_OK) status = find_exact(&d, keep);
    if (status == TAUT_OK && s->value[MODE] == 0) status = find_near(&d, keep);
    if (status == TAUT_OK) status = taut__select_marked(s, keep);
    if (status == TAUT_OK) {
        s->criterion = "share of the samples that stays";
        s->chosen = (double)s->listed / (double)s->pool->n, s->random = 1;
    }
    for (size_t k = 0; d.cache && k < CACHED; k++) taut__shingles_free(&d.cache[k]);
    taut__shingles_free(&d.shingles);
    taut__free(d.cache);
    taut__free(d.cached);
    taut__free(d.sketch);
    taut__free(d.key);
    taut__free(d.known);
    taut__free(d.yes);
    taut__free(keep);
    return status;
}

const taut__method taut__method_dedup = {
    .name = "dedup",
    .help = "one of each group of equal or nearly equal samples",
    .needs = TAUT__NEEDS_BYTES,
    .budget = TAUT__BUDGET_NONE,
    .key = {{"mode", "near|exact", 0, 0, 0, false},
            {"jaccard", NULL, TAUT__NEAR_JACCARD, 0.1, 1, false},
            {"bands", NULL, TAUT__MINHASH_BANDS, 1, 256, true},
            {"rows", NULL, TAUT__MINHASH_ROWS, 1, 64, true},
            {"ngram", NULL, TAUT__MINHASH_NGRAM, 1, 32, true},
            {"sets", NULL, 2, 1, 16, true}},
    .run = run,
};
