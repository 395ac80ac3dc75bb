/* repeats.c : see repeats.h. */
#include "repeats.h"
#include "shard/shard.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define KEPT_GRAMS ((size_t)64 << 20) /* n-grams that are kept for verification, all samples together */

typedef struct sample {
    XXH128_hash_t hash;
    uint64_t      number;
    uint32_t      units;
} sample;

typedef struct audit {
    const taut__repeats_config *c;
    taut__repeats              *r;
    const taut_shard *const    *shard;
    size_t                      shards;
    taut_reader               **reader;
    uint32_t                   *field;  /* of each shard */
    uint64_t                   *first;  /* shards + 1: numbers of first samples */
    sample                     *sample; /* by number, then by hash */
    uint64_t                   *root;   /* the sample that this one is a copy of; itself */
    size_t                      width;  /* of a unit, bytes */
    taut_kind                   kind;
    /* near */
    taut__minhash   minhash;
    uint64_t       *unique; /* numbers of samples without exact copies before them */
    uint64_t        uniques;
    uint64_t       *key;
    taut__shingles *set; /* of uniques; empty: not kept */
    taut__shingles  one, two;
    size_t          kept;
    uint8_t        *buffer;
    size_t          cap;
} audit;

double taut__effective(double unique, double repeats)
{
    return unique + unique * TAUT__REPEATS_STAR * (1 - exp(-repeats / TAUT__REPEATS_STAR));
}

static taut_status no_memory(const audit *a)
{
    return taut__fail(TAUT_E_NOMEM, "no memory to compare %" PRIu64 " samples", a->r->samples);
}

/* ---- reading ---- */

static taut_status find_field(audit *a, size_t s)
{
    const taut_shard *shard = a->shard[s];
    const char       *name = a->c->field ? a->c->field : s ? a->r->field : NULL;
    int               f = name ? taut_shard_find(shard, name) : 0;
    const taut_field *d;
    if (!name && taut__shard_label(shard) == 0 && taut__shard_fields(shard) > 1) f = 1;
    if (f < 0) return taut__shard_no_field(shard, name);
    d = taut__shard_field(shard, (uint32_t)f);
    a->field[s] = (uint32_t)f;
    if (s && (d->kind != a->kind || taut_type_bytes(d->type) != a->width) && a->kind == TAUT_KIND_TOKENS)
        return taut__fail(TAUT_E_MISMATCH, "%s: field '%s' is of another type than in the first shard",
                          taut_shard_path(shard), d->name);
    if (s) return TAUT_OK;
    a->kind = d->kind;
    a->width = d->kind == TAUT_KIND_TOKENS ? taut_type_bytes(d->type) : 1;
    taut__snprintf(a->r->field, sizeof a->r->field, "%s", d->name);
    taut__snprintf(a->r->unit, sizeof a->r->unit, "%s", d->kind == TAUT_KIND_TOKENS ? "tokens" : "bytes");
    a->r->near = a->c->near && (d->kind == TAUT_KIND_TEXT || d->kind == TAUT_KIND_TOKENS ||
                                (d->kind == TAUT_KIND_BYTES && d->type == TAUT_U8));
    return TAUT_OK;
}

static taut_status shingles_of(const audit *a, taut__shingles *s, const uint8_t *data, size_t bytes)
{
    return a->kind == TAUT_KIND_TOKENS ? taut__shingles_tokens(s, data, bytes, a->width, a->c->ngram)
                                       : taut__shingles_text(s, data, bytes, a->c->ngram);
}

static taut_status step(const audit *a, uint64_t done, uint64_t total)
{
    return a->c->progress && a->c->progress(a->c->ctx, done, total) != 0 ? taut__fail(TAUT_E_STATE, "stopped")
                                                                         : TAUT_OK;
}

/* One way through all samples. */
static taut_status each_sample(audit *a,
                               taut_status (*take)(audit *a, uint64_t number, const uint8_t *data, size_t bytes))
{
    for (size_t s = 0; s < a->shards; s++)
        for (uint64_t b = 0; b < taut__shard_blocks(a->shard[s]); b++) {
            taut_block_view v = {.size = sizeof v};
            TAUT_TRY(taut_reader_block(a->reader[s], a->field[s], b, &v));
            for (uint64_t i = 0; i < v.n; i++)
                TAUT_TRY(take(a, a->first[s] + v.first + i, v.data + v.offset[i], v.offset[i + 1] - v.offset[i]));
            TAUT_TRY(step(a, a->first[s] + v.first + v.n, a->r->samples));
        }
    return TAUT_OK;
}

/* ---- exact copies ---- */

static taut_status note_hash(audit *a, uint64_t number, const uint8_t *data, size_t bytes)
{
    size_t units = bytes / a->width;
    a->sample[number] = (sample){XXH3_128bits(data, bytes), number, (uint32_t)units};
    a->r->units += (double)units;
    return TAUT_OK;
}

static int by_hash(const void *p, const void *q)
{
    const sample *x = p, *y = q;
    if (x->hash.high64 != y->hash.high64) return x->hash.high64 < y->hash.high64 ? -1 : 1;
    if (x->hash.low64 != y->hash.low64) return x->hash.low64 < y->hash.low64 ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}
static int by_number(const void *p, const void *q)
{
    const sample *x = p, *y = q;
    return x->number < y->number ? -1 : x->number > y->number;
}

static taut_status exact_copies(audit *a)
{
    uint64_t n = a->r->samples;
    TAUT_TRY(each_sample(a, note_hash));
    qsort(a->sample, (size_t)n, sizeof *a->sample, by_hash);
    for (uint64_t i = 0, head = 0; i < n; i++) {
        if (i && (a->sample[i].hash.high64 != a->sample[head].hash.high64 ||
                  a->sample[i].hash.low64 != a->sample[head].hash.low64))
            head = i;
        a->root[a->sample[i].number] = a->sample[head].number;
        a->r->exact += i != head;
        if (i == head) a->r->unique_exact += a->sample[i].units;
    }
    qsort(a->sample, (size_t)n, sizeof *a->sample, by_number);
    return TAUT_OK;
}

/* ---- near copies ---- */

static taut_status note_keys(audit *a, uint64_t number, const uint8_t *data, size_t bytes)
{
    uint64_t u = a->uniques;
    if (a->root[number] != number) return TAUT_OK;
    TAUT_TRY(shingles_of(a, &a->one, data, bytes));
    taut__minhash_keys(&a->minhash, &a->one, a->key + u * a->minhash.bands);
    if (a->kept + a->one.n <= KEPT_GRAMS && a->one.n) {
        a->set[u].p = taut__alloc(a->one.n, sizeof *a->set[u].p);
        if (!a->set[u].p) return no_memory(a);
        memcpy(a->set[u].p, a->one.p, a->one.n * sizeof *a->one.p);
        a->set[u].n = a->set[u].cap = a->one.n;
        a->kept += a->one.n;
    }
    a->unique[a->uniques++] = number;
    return TAUT_OK;
}

/* The n-grams of unique sample u: kept, or read again into *room. */
static taut_status set_of(audit *a, uint64_t u, taut__shingles *room, const taut__shingles **set)
{
    size_t   s = 0, bytes;
    uint64_t number = a->unique[u];
    *set = &a->set[u];
    if (a->set[u].n) return TAUT_OK;
    while (number >= a->first[s + 1]) s++;
    TAUT_TRY(taut_reader_sample(a->reader[s], a->field[s], number - a->first[s], NULL, 0, &bytes));
    if (bytes > a->cap) {
        taut__free(a->buffer);
        a->buffer = taut__alloc(a->cap = bytes, 1);
        if (!a->buffer) return no_memory(a);
    }
    if (bytes) TAUT_TRY(taut_reader_sample(a->reader[s], a->field[s], number - a->first[s], a->buffer, a->cap, &bytes));
    TAUT_TRY(shingles_of(a, room, a->buffer, bytes));
    *set = room;
    return TAUT_OK;
}

static taut_status verify(void *ctx, uint64_t i, uint64_t j, bool *yes)
{
    audit                *a = ctx;
    const taut__shingles *x, *y;
    TAUT_TRY(set_of(a, i, &a->one, &x));
    TAUT_TRY(set_of(a, j, &a->two, &y));
    *yes = taut__jaccard(x, y) >= a->c->jaccard;
    return TAUT_OK;
}

static taut_status near_copies(audit *a)
{
    uint64_t    n = a->r->samples - a->r->exact, *first;
    taut__near  near = {a, verify};
    taut_status rc;
    TAUT_TRY(taut__minhash_init(&a->minhash, a->c->bands, a->c->rows, 1));
    a->unique = taut__alloc((size_t)n, sizeof *a->unique);
    a->key = taut__alloc((size_t)n * a->minhash.bands, sizeof *a->key);
    a->set = taut__alloc((size_t)n, sizeof *a->set);
    first = taut__alloc((size_t)n, sizeof *first);
    rc = a->unique && a->key && a->set && first ? each_sample(a, note_keys) : no_memory(a);
    if (rc == TAUT_OK) rc = taut__near_duplicates(n, a->minhash.bands, a->key, &near, first);
    for (uint64_t u = 0; u < n && rc == TAUT_OK; u++) {
        a->r->near_more += first[u] != u;
        a->root[a->unique[u]] = a->unique[first[u]];
    }
    taut__free(first);
    return rc;
}

/* ---- the sum ---- */

typedef struct group {
    uint64_t copies;
    double   units;
} group;

static taut_status add_up(audit *a)
{
    taut__repeats *r = a->r;
    group         *g = taut__alloc((size_t)r->samples, sizeof *g);
    double         often_units = 0, often_unique = 0;
    if (!g) return no_memory(a);
    for (uint64_t i = 0; i < r->samples; i++) {
        uint64_t root = a->root[a->root[i]]; /* a copy of a sample that is near to another */
        g[root].copies++;
        g[root].units += a->sample[i].units;
    }
    for (uint64_t i = 0; i < r->samples; i++) {
        double units = a->sample[i].units;
        if (!g[i].copies) continue;
        r->unique += units;
        r->groups += g[i].copies > 1;
        if (g[i].copies > r->most) r->most = g[i].copies, r->most_first = i;
        r->effective_groups += units > 0 ? taut__effective(units, a->c->epochs * g[i].units / units - 1) : 0;
        if (g[i].copies < TAUT__REPEATS_OFTEN) continue;
        r->often_groups++;
        often_unique += units;
        often_units += g[i].units;
    }
    taut__free(g);
    if (r->unique > 0) {
        r->repeats = a->c->epochs * r->units / r->unique - 1;
        r->effective = taut__effective(r->unique, r->repeats);
        r->often_unique = often_unique / r->unique;
        r->often_all = often_units / r->units;
    }
    if (often_unique > 0) r->often_copies = often_units / often_unique;
    r->warn = r->often_groups && r->often_unique <= TAUT__REPEATS_SMALL && r->often_all >= TAUT__REPEATS_NOTED;
    return TAUT_OK;
}

/* ---- all of it ---- */

static taut_status prepare(audit *a)
{
    a->reader = taut__alloc(a->shards, sizeof *a->reader);
    a->field = taut__alloc(a->shards, sizeof *a->field);
    a->first = taut__alloc(a->shards + 1, sizeof *a->first);
    if (!a->reader || !a->field || !a->first) return no_memory(a);
    for (size_t s = 0; s < a->shards; s++) {
        TAUT_TRY(find_field(a, s));
        TAUT_TRY(taut_reader_create(a->shard[s], &a->reader[s]));
        a->first[s + 1] = a->first[s] + taut__shard_samples(a->shard[s]);
    }
    a->r->samples = a->first[a->shards];
    a->sample = taut__alloc((size_t)a->r->samples, sizeof *a->sample);
    a->root = taut__alloc((size_t)a->r->samples, sizeof *a->root);
    return a->sample && a->root ? TAUT_OK : no_memory(a);
}

static void release(audit *a)
{
    for (size_t s = 0; a->reader && s < a->shards; s++) taut_reader_destroy(a->reader[s]);
    for (uint64_t u = 0; a->set && u < a->uniques; u++) taut__shingles_free(&a->set[u]);
    taut__shingles_free(&a->one);
    taut__shingles_free(&a->two);
    taut__free(a->reader);
    taut__free(a->field);
    taut__free(a->first);
    taut__free(a->sample);
    taut__free(a->root);
    taut__free(a->unique);
    taut__free(a->key);
    taut__free(a->set);
    taut__free(a->buffer);
}

taut_status taut__repeats_audit(size_t n, const taut_shard *const *shards, const taut__repeats_config *c,
                                taut__repeats *r)
{
    audit       a = {.c = c, .r = r, .shard = shards, .shards = n};
    taut_status rc;
    memset(r, 0, sizeof *r);
    if (!(c->jaccard > 0 && c->jaccard <= 1))
        return taut__fail(TAUT_E_RANGE, "jaccard=%g: must be above 0 and at most 1", c->jaccard);
    if (!(c->epochs >= 1)) return taut__fail(TAUT_E_RANGE, "epochs=%g: must be at least 1", c->epochs);
    rc = prepare(&a);
    if (rc == TAUT_OK) rc = exact_copies(&a);
    r->unique = 0;
    if (rc == TAUT_OK && r->near) rc = near_copies(&a);
    if (rc == TAUT_OK) rc = add_up(&a);
    release(&a);
    return rc;
}
