/* select_zipfit.c : alignment by compression (Obbad et al.: ZIP-FIT, 2024), with zstd.
 *
 * by=ncd, as published: the score of x is 1 - mean over the target's samples t of the normalised compression distance
 *      NCD(x,t) = (C(xt) - min(C(x), C(t))) / max(C(x), C(t))                    (Cilibrasi & Vitanyi 2005, equation 6)
 * which takes samples x targets compressions; `most` bounds the targets, evenly chosen.
 *
 * by=dictionary (the default): a preset dictionary T of the target's samples and one P of the pool's, and
 *      score(x) = 1 - C(x|T) / C(x|P)
 * the share of its bytes that knowing the target saves against knowing the pool: two compressions a sample, whatever the target's size. Without P,
 * 1 - C(x|T)/C(x) (against=nothing), what is common to all text counts as likeness. A dictionary is at most `size` KiB of evenly chosen
 * samples, with entropy tables, so that the letters' frequencies count, too. A sample that is in P is measured with another one
 * that it is not in. */
#include "../shard/bytes.h"
#include "select.h"
#define ZDICT_STATIC_LINKING_ONLY
#include <stdlib.h>
#include <string.h>
#include <zdict.h>
#include <zstd.h>

enum { BY, LEVEL, SIZE, MOST, AGAINST };

/* Samples one behind the other. */
typedef struct excerpt {
    uint8_t  *text;
    size_t   *at, n, longest; /* n + 1 places in text */
    uint64_t *place;          /* of each, in its pool; ascending */
} excerpt;

typedef struct zipfit {
    taut__select *s;
    ZSTD_CCtx    *plain, *aided, *other[2]; /* nothing; T; two of P */
    ZSTD_CDict   *dictionary[3];
    uint8_t      *out, *joined;
    size_t        room, joined_room;
    excerpt       target, pool; /* pool: every sample of the first P */
    size_t       *alone;        /* by=ncd: C(t) */
} zipfit;

static taut_status reserve(uint8_t **p, size_t *room, size_t want)
{
    if (want <= *room) return TAUT_OK;
    taut__free(*p);
    *room = 0;
    if (!(*p = taut__alloc(want + want / 2, 1)))
        return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for a sample of %zu bytes", want);
    *room = want + want / 2;
    return TAUT_OK;
}

static taut_status size_of(zipfit *z, ZSTD_CCtx *c, const uint8_t *data, size_t bytes, size_t *size)
{
    TAUT_TRY(reserve(&z->out, &z->room, ZSTD_compressBound(bytes)));
    *size = ZSTD_compress2(c, z->out, z->room, data, bytes);
    return ZSTD_isError(*size) ? taut__fail(TAUT_E_INVALID, "zipfit: zstd: %s", ZSTD_getErrorName(*size)) : TAUT_OK;
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static taut_status score_dictionary(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    zipfit    *z = ctx;
    size_t     with, without;
    ZSTD_CCtx *c = z->plain;
    *out = 0;
    if (bytes == 0) return TAUT_OK;
    if (z->pool.n) c = z->other[bsearch(&place, z->pool.place, z->pool.n, sizeof place, by_place) ? 1 : 0];
    TAUT_TRY(size_of(z, c, data, bytes, &without));
    TAUT_TRY(size_of(z, z->aided, data, bytes, &with));
    *out = 1 - (double)with / (double)without;
    return TAUT_OK;
}

static taut_status score_ncd(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    zipfit        *z = ctx;
    const excerpt *t = &z->target;
    size_t         alone, both;
    double         sum = 0;
    (void)place;
    TAUT_TRY(size_of(z, z->plain, data, bytes, &alone));
    TAUT_TRY(reserve(&z->joined, &z->joined_room, bytes + t->longest));
    if (bytes) memcpy(z->joined, data, bytes);
    for (size_t k = 0; k < t->n; k++) {
        size_t n = t->at[k + 1] - t->at[k];
        memcpy(z->joined + bytes, t->text + t->at[k], n);
        TAUT_TRY(size_of(z, z->plain, z->joined, bytes + n, &both));
        sum += ((double)both - (double)taut__min(alone, z->alone[k])) / (double)taut__max(alone, z->alone[k]);
    }
    *out = 1 - sum / (double)t->n;
    return TAUT_OK;
}

/* ---- excerpts and dictionaries ---- */

static void excerpt_free(excerpt *e)
{
    taut__free(e->text);
    taut__free(e->at);
    taut__free(e->place);
}

/* Evenly chosen samples of a pool, `most` of them and `limit` bytes at most; offset 0..1 shifts which. */
static taut_status excerpt_read(excerpt *e, taut__pool *p, uint64_t most, size_t limit, double offset)
{
    taut_bytes     all = {0};
    uint64_t       looked = p->n < 1000 ? p->n : 1000, take = p->n < most ? p->n : most, total = 0;
    size_t         bytes;
    const uint8_t *data;
    taut_status    status = TAUT_OK;
    for (uint64_t i = 0; i < looked; i++) { /* how long they are, about */
        TAUT_TRY(taut__pool_get(p, (uint64_t)((double)i * (double)p->n / (double)looked), &data, &bytes));
        total += bytes;
    }
    if (total == 0)
        return taut__fail(TAUT_E_INVALID, "zipfit: the %s samples are empty", p->text ? "target's" : "first thousand");
    if ((double)total / (double)looked * (double)take > (double)limit)
        take = taut__max(1, (size_t)((double)limit * (double)looked / (double)total));
    e->at = taut__alloc((size_t)take + 1, sizeof *e->at);
    e->place = taut__alloc((size_t)take + 1, sizeof *e->place);
    if (!e->at || !e->place)
        return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for %llu samples", (unsigned long long)take);
    for (uint64_t k = 0; status == TAUT_OK && k < take; k++) {
        uint64_t place = (uint64_t)(((double)k + offset) * (double)p->n / (double)take);
        status = taut__pool_get(p, place, &data, &bytes);
        if (status != TAUT_OK || bytes == 0) continue;
        bytes = taut__min(bytes, limit);
        status = taut__bytes_add(&all, data, bytes);
        e->place[e->n++] = place;
        e->at[e->n] = all.n;
        e->longest = taut__max(e->longest, bytes);
    }
    e->text = all.p;
    if (status == TAUT_OK && e->n == 0)
        status = taut__fail(TAUT_E_INVALID, "zipfit: the samples that were looked at are all empty");
    return status;
}

/* With entropy tables where there are samples enough to make them, else the bare bytes. */
static taut_status make_dictionary(const excerpt *e, int level, ZSTD_CCtx *c, ZSTD_CDict **dictionary)
{
    size_t         bytes = e->at[e->n], room = bytes + (64 << 10), made = 0;
    uint8_t       *d = taut__alloc(room, 1);
    size_t        *sizes = taut__alloc(e->n, sizeof *sizes);
    ZDICT_params_t p = {.compressionLevel = level};
    if (d && sizes) {
        for (size_t k = 0; k < e->n; k++) sizes[k] = e->at[k + 1] - e->at[k];
        made = ZDICT_finalizeDictionary(d, room, e->text, bytes, e->text, sizes, (unsigned)e->n, p);
        *dictionary = ZDICT_isError(made) ? ZSTD_createCDict(e->text, bytes, level) : ZSTD_createCDict(d, made, level);
    }
    taut__free(d);
    taut__free(sizes);
    if (!*dictionary || ZSTD_isError(ZSTD_CCtx_refCDict(c, *dictionary)))
        return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for a dictionary of %zu bytes", bytes);
    return TAUT_OK;
}

static taut_status prepare_dictionaries(zipfit *z, int level)
{
    size_t      limit = (size_t)z->s->value[SIZE] << 10;
    excerpt     second = {0};
    taut_status status;
    TAUT_TRY(excerpt_read(&z->target, z->s->target, UINT64_MAX, limit, 0));
    TAUT_TRY(make_dictionary(&z->target, level, z->aided, &z->dictionary[0]));
    if (z->s->value[AGAINST] == 1 || z->s->pool->n < 4) return TAUT_OK;
    /* as much of the pool as of the target, and half of it at most: two without a sample in common */
    limit = taut__min(limit, z->target.at[z->target.n]);
    TAUT_TRY(excerpt_read(&z->pool, z->s->pool, z->s->pool->n / 2, limit, 0.25));
    TAUT_TRY(make_dictionary(&z->pool, level, z->other[0], &z->dictionary[1]));
    status = excerpt_read(&second, z->s->pool, z->s->pool->n / 2, limit, 0.75);
    if (status == TAUT_OK) status = make_dictionary(&second, level, z->other[1], &z->dictionary[2]);
    excerpt_free(&second);
    return status;
}

static taut_status prepare_ncd(zipfit *z)
{
    const excerpt *t = &z->target;
    TAUT_TRY(excerpt_read(&z->target, z->s->target, (uint64_t)z->s->value[MOST], SIZE_MAX / 4, 0));
    if (!(z->alone = taut__alloc(t->n, sizeof *z->alone))) return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory");
    for (size_t k = 0; k < t->n; k++)
        TAUT_TRY(size_of(z, z->plain, t->text + t->at[k], t->at[k + 1] - t->at[k], &z->alone[k]));
    return TAUT_OK;
}

static bool set(ZSTD_CCtx *c, int level)
{
    return c && !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 0)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_dictIDFlag, 0));
}

static void fini(zipfit *z)
{
    ZSTD_freeCCtx(z->plain);
    ZSTD_freeCCtx(z->aided);
    for (int k = 0; k < 2; k++) ZSTD_freeCCtx(z->other[k]);
    for (int k = 0; k < 3; k++) ZSTD_freeCDict(z->dictionary[k]);
    excerpt_free(&z->target);
    excerpt_free(&z->pool);
    taut__free(z->alone);
    taut__free(z->out);
    taut__free(z->joined);
}

static taut_status run(taut__select *s)
{
    zipfit z = {.s = s,
                .plain = ZSTD_createCCtx(),
                .aided = ZSTD_createCCtx(),
                .other = {ZSTD_createCCtx(), ZSTD_createCCtx()}};
    int    level = (int)s->value[LEVEL];
    bool   ncd = s->value[BY] == 1,
         made = set(z.plain, level) && set(z.aided, level) && set(z.other[0], level) && set(z.other[1], level);
    double     *score = NULL;
    taut_status status = made ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for zstd");
    if (status == TAUT_OK) status = ncd ? prepare_ncd(&z) : prepare_dictionaries(&z, level);
    status = taut__select_agree(s, status);
    if (status == TAUT_OK)
        status = taut__select_measure(s, "compressing", 1, ncd ? score_ncd : score_dictionary, &z, &score);
    if (status == TAUT_OK) status = taut__select_extreme(s, score, true);
    if (status == TAUT_OK)
        status = taut__select_compare(s, ncd ? "1 - mean NCD" : "share of bytes that the target saves", score);
    taut__free(score);
    fini(&z);
    return status;
}

const taut__method taut__method_zipfit = {
    .name = "zipfit",
    .help = "the samples that compress best with what the target shows (needs --target)",
    .needs = TAUT__NEEDS_TEXT | TAUT__NEEDS_TARGET,
    .budget = TAUT__BUDGET_MUST,
    .key = {{"by", "dictionary|ncd", 0, 0, 0, false},
            {"level", NULL, 1, 1, 19, true},
            {"size", NULL, 512, 1, 1 << 20, true},
            {"most", NULL, 256, 1, 1e9, true},
            {"against", "pool|nothing", 0, 0, 0, false}},
    .run = run,
};
