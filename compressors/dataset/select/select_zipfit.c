/* select_zipfit.c : alignment by compression (Obbad et al.: ZIP-FIT, 2024), with zstd.
 *
 * by=ncd, as published: the score of x is 1 - mean over the target's samples t of the normalised compression distance
 *      NCD(x,t) = (C(xt) - min(C(x), C(t))) / max(C(x), C(t))                    (Cilibrasi & Vitanyi 2005, equation 6)
 * which takes samples x targets compressions; `most` bounds the targets, evenly chosen.
 *
 * by=dictionary (the default): one preset dictionary D of the target's samples, and
 *      score(x) = 1 - C(x|D) / C(x)
 * the share of its bytes that knowing the target saves: two compressions a sample, whatever the target's size. D is at most
 * `size` KiB of evenly chosen samples, with entropy tables of the target, so that also the letters' frequencies count. */
#include "select.h"
#define ZDICT_STATIC_LINKING_ONLY
#include <string.h>
#include <zdict.h>
#include <zstd.h>

enum { BY, LEVEL, SIZE, MOST };

typedef struct zipfit {
    taut__select  *s;
    ZSTD_CCtx     *plain, *aided;
    ZSTD_CDict    *dictionary;
    uint8_t       *out, *joined;
    size_t         room, joined_room;
    /* by=ncd */
    uint8_t       *target; /* the samples, one behind the other */
    size_t        *at, *alone, targets, longest; /* targets + 1 places; C(t) */
} zipfit;

static taut_status reserve(uint8_t **p, size_t *room, size_t want)
{
    if (want <= *room) return TAUT_OK;
    taut__free(*p);
    *room = 0;
    if (!(*p = taut__alloc(want + want / 2, 1))) return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for a sample of %zu bytes", want);
    *room = want + want / 2;
    return TAUT_OK;
}

static taut_status size_of(zipfit *z, const uint8_t *data, size_t bytes, size_t *size)
{
    TAUT_TRY(reserve(&z->out, &z->room, ZSTD_compressBound(bytes)));
    *size = ZSTD_compress2(z->plain, z->out, z->room, data, bytes);
    return ZSTD_isError(*size) ? taut__fail(TAUT_E_INVALID, "zipfit: zstd: %s", ZSTD_getErrorName(*size)) : TAUT_OK;
}

static taut_status score_dictionary(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    zipfit *z = ctx;
    size_t  alone, aided;
    (void)place;
    *out = 0;
    if (bytes == 0) return TAUT_OK;
    TAUT_TRY(size_of(z, data, bytes, &alone));
    aided = ZSTD_compress2(z->aided, z->out, z->room, data, bytes);
    if (ZSTD_isError(aided)) return taut__fail(TAUT_E_INVALID, "zipfit: zstd: %s", ZSTD_getErrorName(aided));
    *out = 1 - (double)aided / (double)alone;
    return TAUT_OK;
}

static taut_status score_ncd(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    zipfit *z = ctx;
    size_t  alone, both;
    double  sum = 0;
    (void)place;
    TAUT_TRY(size_of(z, data, bytes, &alone));
    TAUT_TRY(reserve(&z->joined, &z->joined_room, bytes + z->longest));
    if (bytes) memcpy(z->joined, data, bytes);
    for (size_t t = 0; t < z->targets; t++) {
        size_t n = z->at[t + 1] - z->at[t];
        memcpy(z->joined + bytes, z->target + z->at[t], n);
        TAUT_TRY(size_of(z, z->joined, bytes + n, &both));
        sum += ((double)both - (double)taut__min(alone, z->alone[t])) / (double)taut__max(alone, z->alone[t]);
    }
    *out = 1 - sum / (double)z->targets;
    return TAUT_OK;
}

/* Evenly chosen samples of the target: `most` of them at most, `limit` bytes at most. */
static taut_status read_target(zipfit *z, uint64_t most, size_t limit)
{
    taut__pool *t = z->s->target;
    uint64_t    take = t->n < most ? t->n : most, total = 0;
    size_t      bytes, room = 0;
    const uint8_t *data;
    for (uint64_t i = 0; i < t->n; i++) {
        TAUT_TRY(taut__pool_get(t, i, &data, &bytes));
        total += bytes;
    }
    if (total == 0) return taut__fail(TAUT_E_INVALID, "zipfit: the target's samples are all empty");
    if (total > limit) take = taut__max(1, taut__min((size_t)take, (size_t)((double)limit / ((double)total / (double)t->n))));
    z->at = taut__alloc((size_t)take + 1, sizeof *z->at);
    z->alone = taut__alloc((size_t)take + 1, sizeof *z->alone);
    if (!z->at || !z->alone) return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for %llu target samples", (unsigned long long)take);
    for (uint64_t k = 0; k < take; k++) {
        uint8_t *more;
        TAUT_TRY(taut__pool_get(t, (uint64_t)((double)k * (double)t->n / (double)take), &data, &bytes));
        if (bytes > limit) bytes = limit;
        if (z->at[z->targets] + bytes > room) {
            room = 2 * (z->at[z->targets] + bytes);
            if (!(more = taut__alloc(room, 1))) return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for the target");
            if (z->targets) memcpy(more, z->target, z->at[z->targets]);
            taut__free(z->target);
            z->target = more;
        }
        if (bytes == 0) continue;
        memcpy(z->target + z->at[z->targets], data, bytes);
        z->at[z->targets + 1] = z->at[z->targets] + bytes;
        z->longest = taut__max(z->longest, bytes);
        TAUT_TRY(size_of(z, data, bytes, &z->alone[z->targets++]));
    }
    return z->targets ? TAUT_OK : taut__fail(TAUT_E_INVALID, "zipfit: the target's samples that were looked at are all empty");
}

/* D with entropy tables where there are samples enough to make them, else the bare bytes. */
static taut_status make_dictionary(zipfit *z, int level)
{
    size_t             bytes = z->at[z->targets], room = bytes + (64 << 10), made = 0;
    uint8_t           *d = taut__alloc(room, 1);
    size_t            *sizes = taut__alloc(z->targets, sizeof *sizes);
    ZDICT_params_t     p = {.compressionLevel = level};
    if (d && sizes) {
        for (size_t t = 0; t < z->targets; t++) sizes[t] = z->at[t + 1] - z->at[t];
        made = ZDICT_finalizeDictionary(d, room, z->target, bytes, z->target, sizes, (unsigned)z->targets, p);
        z->dictionary = ZDICT_isError(made) ? ZSTD_createCDict(z->target, bytes, level) : ZSTD_createCDict(d, made, level);
    }
    taut__free(d);
    taut__free(sizes);
    if (!z->dictionary || ZSTD_isError(ZSTD_CCtx_refCDict(z->aided, z->dictionary))) return taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for a dictionary of %zu bytes", bytes);
    return TAUT_OK;
}

static bool set(ZSTD_CCtx *c, int level)
{
    return c && !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) && !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 0)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0)) && !ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_dictIDFlag, 0));
}

static taut_status run(taut__select *s)
{
    zipfit      z = {.s = s, .plain = ZSTD_createCCtx(), .aided = ZSTD_createCCtx()};
    int         level = (int)s->value[LEVEL];
    bool        ncd = s->value[BY] == 1;
    double     *score = NULL;
    taut_status status = set(z.plain, level) && set(z.aided, level) ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "zipfit: out of memory for zstd");
    if (status == TAUT_OK) status = read_target(&z, ncd ? (uint64_t)s->value[MOST] : UINT64_MAX, ncd ? SIZE_MAX / 4 : (size_t)s->value[SIZE] << 10);
    if (status == TAUT_OK && !ncd) status = make_dictionary(&z, level);
    status = taut__select_agree(s, status);
    if (status == TAUT_OK) status = taut__select_measure(s, "compressing", 1, ncd ? score_ncd : score_dictionary, &z, &score);
    if (status == TAUT_OK) status = taut__select_extreme(s, score, true);
    if (status == TAUT_OK) taut__select_compare(s, ncd ? "1 - mean NCD" : "share of bytes that the target saves", score);
    taut__free(score);
    ZSTD_freeCCtx(z.plain);
    ZSTD_freeCCtx(z.aided);
    ZSTD_freeCDict(z.dictionary);
    taut__free(z.out);
    taut__free(z.joined);
    taut__free(z.target);
    taut__free(z.at);
    taut__free(z.alone);
    return status;
}

const taut__method taut__method_zipfit = {
    .name = "zipfit", .help = "the samples that compress best with what the target shows (needs --target)",
    .needs = TAUT__NEEDS_TEXT | TAUT__NEEDS_TARGET, .budget = TAUT__BUDGET_MUST,
    .key = {{"by", "dictionary|ncd", 0, 0, 0, false}, {"level", NULL, 1, 1, 19, true}, {"size", NULL, 512, 1, 1 << 20, true}, {"most", NULL, 256, 1, 1e9, true}},
    .run = run,
};
