/* select_order.c : all samples in an order.
 *
 * length     : buckets of samples of like length, whole buckets shuffled, so that a batch needs little padding. The bucket is best a multiple of the
 *              job's batch.
 * curriculum : from easy to hard (Bengio et al., ICML 2009), or the other way: by a column of --scores, by the ratio to which zstd compresses the
 *              sample (more is easier), or by its length; shuffled inside buckets of `bucket` samples. */
#include "select.h"
#include <zstd.h>

typedef struct ratio {
    ZSTD_CCtx *c;
    uint8_t   *out;
    size_t     room;
} ratio;

static taut_status length_of(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    (void)ctx, (void)place, (void)data;
    *out = (double)bytes;
    return TAUT_OK;
}

/* Compressed bytes per byte: rising from easy to hard. */
static taut_status density_of(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    ratio *r = ctx;
    size_t want = ZSTD_compressBound(bytes), n;
    (void)place;
    if (want > r->room) {
        taut__free(r->out);
        r->out = taut__alloc(want, 1), r->room = want;
        if (!r->out) return taut__fail(TAUT_E_NOMEM, "curriculum: out of memory for a sample of %zu bytes", bytes);
    }
    n = ZSTD_compressCCtx(r->c, r->out, r->room, data, bytes, 3);
    if (ZSTD_isError(n)) return taut__fail(TAUT_E_INVALID, "curriculum: zstd: %s", ZSTD_getErrorName(n));
    *out = bytes ? (double)n / (double)bytes : 0;
    return TAUT_OK;
}

static taut_status run_length(taut__select *s)
{
    double     *value = NULL;
    taut_status status = taut__select_measure(s, "measuring", 1, length_of, NULL, &value);
    if (status == TAUT_OK) status = taut__select_sorted(s, value, true);
    s->order = TAUT__ORDER_BUCKETS;
    s->bucket = (uint64_t)s->value[0];
    if (status == TAUT_OK) { /* bytes that padding to the longest of a bucket adds, per byte of the samples */
        double own = 0, padded = 0, longest = 0;
        for (uint64_t i = 0; i < s->pool->n; i++) own += value[i], longest = value[i] > longest ? value[i] : longest;
        for (uint64_t i = 0; i < s->pool->n; i += s->bucket) {
            uint64_t end = i + s->bucket < s->pool->n ? i + s->bucket : s->pool->n;
            padded += value[s->list[end - 1]] * (double)(end - i);
        }
        s->criterion = "bytes with padding per byte (without buckets: to the longest)";
        s->chosen = own > 0 ? padded / own : 1;
        s->random = own > 0 ? longest * (double)s->pool->n / own : 1;
    }
    taut__free(value);
    return status;
}

enum { BY, ORDER, BUCKET };
enum { BY_RATIO, BY_LENGTH, BY_LOSS, BY_EL2N, BY_FORGETTING };

static taut_status scores_of(taut__select *s, double *value)
{
    static const char *const name[] = {"", "", "loss", "el2n", "forgetting"};
    taut__scores             scores = {0};
    taut_status              status;
    int                      c;
    if (!s->o->scores)
        return taut__fail(TAUT_E_INVALID,
                          "curriculum: by=%s: needs scores: --scores FILE, which `taut train --score FILE` writes",
                          name[(int)s->value[BY]]);
    TAUT_TRY(taut__scores_load(&scores, s->o->scores, s->pool->shards, s->pool->shard));
    c = taut__scores_column(&scores, name[(int)s->value[BY]]);
    status = c < 0 ? taut__scores_no_column(&scores, "curriculum", name[(int)s->value[BY]]) : TAUT_OK;
    for (uint64_t i = 0; status == TAUT_OK && i < s->pool->n; i++)
        value[i] = scores.value[(s->pool->id ? s->pool->id[i] : i) * scores.columns + (uint64_t)c];
    taut__scores_free(&scores);
    return status;
}

static taut_status run_curriculum(taut__select *s)
{
    double     *value = NULL;
    ratio       r = {.c = ZSTD_createCCtx()};
    taut_status status = r.c ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "curriculum: out of memory");
    status = taut__select_agree(s, status);
    if (status == TAUT_OK && s->value[BY] >= BY_LOSS) {
        value = taut__alloc((size_t)s->pool->n, sizeof *value);
        status =
            taut__select_agree(s, value ? scores_of(s, value) : taut__fail(TAUT_E_NOMEM, "curriculum: out of memory"));
    } else if (status == TAUT_OK)
        status =
            taut__select_measure(s, "measuring", 1, s->value[BY] == BY_LENGTH ? length_of : density_of, &r, &value);
    if (status == TAUT_OK) status = taut__select_sorted(s, value, s->value[ORDER] == 0);
    s->order = TAUT__ORDER_KEPT;
    s->bucket = (uint64_t)s->value[BUCKET];
    taut__free(value);
    taut__free(r.out);
    ZSTD_freeCCtx(r.c);
    return status;
}

const taut__method taut__method_length = {
    .name = "length",
    .help = "all samples, batches of like length",
    .needs = TAUT__NEEDS_BYTES,
    .budget = TAUT__BUDGET_NONE,
    .key = {{"bucket", NULL, 1024, 1, 1e12, true}},
    .run = run_length,
};
const taut__method taut__method_curriculum = {
    .name = "curriculum",
    .help = "all samples, from easy to hard by ratio, length or a column of --scores",
    .needs = TAUT__NEEDS_BYTES,
    .budget = TAUT__BUDGET_NONE,
    .key = {{"by", "ratio|length|loss|el2n|forgetting", 0, 0, 0, false},
            {"order", "rising|falling", 0, 0, 0, false},
            {"bucket", NULL, 256, 1, 1e12, true}},
    .run = run_curriculum,
};
