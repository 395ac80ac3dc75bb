/* select_entropy.c : a diverse set by joint compression (Yin et al.: Entropy Law, 2024, algorithm ZIP): of all sets of so many samples one
 * whose bytes together compress least,
 *      R(S) = bytes of S / C(S),     the lower the more information.
 *
 * by=prefix (the default), greedy: the sample with the largest C(x|S)/|x| next, S being what was chosen so far, up to `window` MiB of it.
 * What a sample adds only shrinks as S grows, so an old value is an upper bound, and only the samples with the largest are looked at again (lazy
 * greedy, Minoux 1978). Taken in batches: after each, S is indexed anew; inside a batch a sample that shrinks given the others of the batch
 * waits.
 *
 * by=published: the three levels of the paper: the K1 = 10000 samples of lowest ratio alone; of these the K2 = 200 with the lowest joint
 * ratio given S; of these K3 = 100, one after another. What S is to a compressor with a window of 32 KiB is its last 32 KiB. */
#include "entropy.h"
#include "../sampler/permute.h"
#include "../shard/bytes.h"
#include "select.h"
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

enum { BY, WINDOW };
enum {
    CHOSEN_MIN = 32,
    BATCHES = 24,
    ASKED = 4,
    K1 = 10000,
    K2 = 200,
    K3 = 100,
    ZLIB_WINDOW = 32768,
    AGAIN = 8 /* picks until the batch is indexed anew */
};

typedef struct entropy {
    taut__select *s;
    taut__sizer   alone, given, batch;
    double       *density; /* C(x|S)/|x|: an upper bound; below 0: chosen */
    uint64_t     *order;   /* places, those with the largest first */
    taut_bytes    chosen, now;
    uint64_t      left;
} entropy;

static taut_status density_alone(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    entropy *e = ctx;
    size_t   size;
    (void)place;
    TAUT_TRY(taut__sizer_size(&e->alone, data, bytes, &size));
    *out = bytes ? (double)size / (double)bytes : 0;
    return TAUT_OK;
}

typedef struct ranked {
    double   density;
    uint64_t place;
} ranked;

static int falling(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->density != y->density) return x->density > y->density ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* The samples that are left, the densest first. */
static taut_status sort_left(entropy *e, ranked *r)
{
    e->left = 0;
    for (uint64_t i = 0; i < e->s->pool->n; i++)
        if (e->density[i] >= 0) r[e->left++] = (ranked){e->density[i], i};
    if (e->left) qsort(r, (size_t)e->left, sizeof *r, falling);
    return TAUT_OK;
}

/* fresh[k] = density of r[k] given S: each rank a run of them. */
static taut_status ask(entropy *e, const ranked *r, uint64_t n, taut__sizer *z, double *fresh)
{
    uint32_t    ranks = taut__select_ranks(e->s), rank = taut__select_rank(e->s);
    size_t     *bytes = taut__alloc(ranks, sizeof *bytes);
    double     *mine = taut__alloc((size_t)n + 1, sizeof *mine);
    taut_status status = bytes && mine ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "entropy: out of memory");
    for (uint32_t k = 0; status == TAUT_OK && k < ranks; k++)
        bytes[k] = (size_t)(n * (k + 1) / ranks - n * k / ranks) * sizeof *mine;
    for (uint64_t k = n * rank / ranks, to = 0; status == TAUT_OK && k < n * (rank + 1) / ranks; k++, to++) {
        const uint8_t *data;
        size_t         length, size = 0;
        status = taut__pool_get(e->s->pool, r[k].place, &data, &length);
        if (status == TAUT_OK) status = taut__sizer_size(z, data, length, &size);
        mine[to] = length ? (double)size / (double)length : 0;
    }
    status = taut__select_gather(e->s, status, mine, fresh, bytes);
    taut__free(bytes);
    taut__free(mine);
    return status;
}

static taut_status choose(entropy *e, uint64_t place, const uint8_t *data, size_t bytes)
{
    e->s->list[e->s->listed++] = place;
    e->density[place] = -1;
    return taut__bytes_add(&e->now, data, bytes);
}

/* The batch becomes part of S; S keeps its last `window`. */
static taut_status index_chosen(entropy *e, size_t window)
{
    TAUT_TRY(taut__bytes_add(&e->chosen, e->now.p, e->now.n));
    e->now.n = 0;
    if (e->chosen.n > window) {
        memmove(e->chosen.p, e->chosen.p + e->chosen.n - window, window);
        e->chosen.n = window;
    }
    return taut__sizer_given(&e->given, e->chosen.p, e->chosen.n);
}

/* ---- by=prefix ---- */

/* Goes through the asked ones, the densest first, until somebody who was not asked might be denser. The same on every rank. */
static taut_status take_batch(entropy *e, const ranked *r, uint64_t n, double bound, uint64_t most)
{
    uint64_t since = 0, taken = 0;
    for (uint64_t k = 0; k < n && taken < most && e->s->listed < e->s->keep; k++) {
        const uint8_t *data;
        size_t         bytes, size;
        double         together;
        if (r[k].density < bound) break;
        TAUT_TRY(taut__pool_get(e->s->pool, r[k].place, &data, &bytes));
        if (taken == 1 || since >= AGAIN) {
            TAUT_TRY(taut__sizer_given(&e->batch, e->now.p, e->now.n));
            since = 0;
        }
        if (taken) {
            TAUT_TRY(taut__sizer_size(&e->batch, data, bytes, &size));
            together = bytes ? (double)size / (double)bytes : 0;
            if (together < 0.97 * r[k].density) { /* the batch knows it already: with the next one */
                e->density[r[k].place] = together;
                continue;
            }
        }
        TAUT_TRY(choose(e, r[k].place, data, bytes));
        taken++, since++;
    }
    return TAUT_OK;
}

static taut_status round_of(entropy *e, ranked *r, double *fresh)
{
    taut__select *s = e->s;
    uint64_t      most = s->keep / BATCHES > CHOSEN_MIN ? s->keep / BATCHES : CHOSEN_MIN, n;
    double        bound;
    taut_status   status;
    TAUT_TRY(sort_left(e, r));
    n = ASKED * most < e->left ? ASKED * most : e->left;
    bound = n < e->left ? r[n].density : -1;
    TAUT_TRY(ask(e, r, n, &e->given, fresh));
    for (uint64_t k = 0; k < n; k++) {
        if (fresh[k] < r[k].density) r[k].density = fresh[k]; /* never up: it is a bound */
        e->density[r[k].place] = r[k].density;
    }
    qsort(r, (size_t)n, sizeof *r, falling);
    status = taut__select_agree(s, take_batch(e, r, n, bound, most));
    if (status == TAUT_OK)
        status = taut__select_agree(s, e->now.n ? index_chosen(e, (size_t)s->value[WINDOW] << 20) : TAUT_OK);
    if (status == TAUT_OK) status = taut__select_agree(s, taut__select_progress(s, "choosing", s->listed, s->keep));
    return status;
}

/* ---- by=published ---- */

static taut_status published_round(entropy *e, ranked *r, double *fresh)
{
    taut__select *s = e->s;
    uint64_t      n, k2;
    taut_status   status = TAUT_OK;
    TAUT_TRY(sort_left(e, r));
    n = e->left < K1 ? e->left : K1;
    TAUT_TRY(ask(e, r, n, &e->given, fresh));
    for (uint64_t k = 0; k < n; k++) r[k].density = fresh[k], e->density[r[k].place] = fresh[k];
    qsort(r, (size_t)n, sizeof *r, falling);
    k2 = n < K2 ? n : K2;
    for (uint64_t taken = 0; status == TAUT_OK && taken < K3 && taken < k2 && s->listed < s->keep; taken++) {
        uint64_t       best = 0;
        const uint8_t *data;
        size_t         bytes, tail = e->now.n < ZLIB_WINDOW ? e->now.n : ZLIB_WINDOW;
        if (tail) {
            status = taut__sizer_given(&e->batch, e->now.p + e->now.n - tail, tail);
            if (status == TAUT_OK) status = ask(e, r, k2, &e->batch, fresh);
        } else
            for (uint64_t k = 0; k < k2; k++) fresh[k] = r[k].density;
        for (uint64_t k = 0; k < k2; k++)
            if (e->density[r[k].place] >= 0 && (e->density[r[best].place] < 0 || fresh[k] > fresh[best])) best = k;
        if (status == TAUT_OK) status = taut__pool_get(s->pool, r[best].place, &data, &bytes);
        if (status == TAUT_OK) status = choose(e, r[best].place, data, bytes);
    }
    status = taut__select_agree(s, status);
    return status == TAUT_OK ? taut__select_agree(s, index_chosen(e, ZLIB_WINDOW)) : status;
}

/* ---- both ---- */

/* R of these places: bytes over compressed bytes in one stream with a window over all of it. */
static taut_status joint_ratio(taut__select *s, const uint64_t *place, uint64_t n, double *ratio)
{
    taut_bytes  all = {0};
    size_t      size = 0;
    ZSTD_CCtx  *c = ZSTD_createCCtx();
    uint8_t    *out = NULL;
    taut_status status = c ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "entropy: out of memory");
    for (uint64_t i = 0; status == TAUT_OK && i < n; i++) {
        const uint8_t *data;
        size_t         bytes;
        status = taut__pool_get(s->pool, place[i], &data, &bytes);
        if (status == TAUT_OK) status = taut__bytes_add(&all, data, bytes);
    }
    if (status == TAUT_OK && !(out = taut__alloc(ZSTD_compressBound(all.n), 1)))
        status = taut__fail(TAUT_E_NOMEM, "entropy: out of memory");
    if (status == TAUT_OK) {
        ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 6);
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27);
        ZSTD_CCtx_setParameter(c, ZSTD_c_enableLongDistanceMatching, 1);
        size = ZSTD_compress2(c, out, ZSTD_compressBound(all.n), all.p, all.n);
        *ratio = ZSTD_isError(size) || !size ? 0 : (double)all.n / (double)size;
    }
    ZSTD_freeCCtx(c);
    taut__free(out);
    taut__bytes_free(&all);
    return status;
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Of the chosen ones and of as many at random; rank 0 tells it. */
static taut_status compare(taut__select *s)
{
    taut__order_key   key = {.seed = s->seed, .stream = 0xe27u, .index = (uint32_t)s->stage};
    taut__permutation p = {0};
    uint64_t         *other = taut__alloc((size_t)s->listed, sizeof *other);
    taut_status       status =
        other ? taut__permutation_set(&p, s->pool->n, key) : taut__fail(TAUT_E_NOMEM, "entropy: out of memory");
    for (uint64_t i = 0; status == TAUT_OK && i < s->listed; i++) other[i] = taut__permute(&p, i);
    taut__permutation_free(&p);
    if (status == TAUT_OK) qsort(other, (size_t)s->listed, sizeof *other, by_place);
    s->criterion = "joint compression ratio (lower: more information)";
    if (status == TAUT_OK) status = joint_ratio(s, s->list, s->listed, &s->chosen);
    if (status == TAUT_OK) status = joint_ratio(s, other, s->listed, &s->random);
    taut__free(other);
    return status;
}

static taut_status start(entropy *e)
{
    taut__select *s = e->s;
    TAUT_TRY(taut__sizer_init(&e->alone));
    TAUT_TRY(taut__sizer_init(&e->given));
    TAUT_TRY(taut__sizer_init(&e->batch));
    s->list = taut__alloc((size_t)s->keep, sizeof *s->list);
    return s->list ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "entropy: out of memory for %llu samples", (ull)s->keep);
}

static taut_status run(taut__select *s)
{
    entropy     e = {.s = s};
    ranked     *r = taut__alloc((size_t)s->pool->n, sizeof *r);
    double     *fresh = taut__alloc((size_t)s->pool->n, sizeof *fresh);
    taut_status status = start(&e);
    if (status == TAUT_OK && (!r || !fresh))
        status = taut__fail(TAUT_E_NOMEM, "entropy: out of memory for %llu samples", (ull)s->pool->n);
    status = taut__select_agree(s, status);
    if (status == TAUT_OK) status = taut__select_measure(s, "compressing", 1, density_alone, &e, &e.density);
    while (status == TAUT_OK && s->listed < s->keep)
        status = s->value[BY] == 1 ? published_round(&e, r, fresh) : round_of(&e, r, fresh);
    if (status == TAUT_OK) {
        qsort(s->list, (size_t)s->listed, sizeof *s->list, by_place);
        status = taut__select_agree(s, taut__select_rank(s) == 0 && s->o->stage ? compare(s) : TAUT_OK);
    }
    taut__sizer_fini(&e.alone);
    taut__sizer_fini(&e.given);
    taut__sizer_fini(&e.batch);
    taut__bytes_free(&e.chosen);
    taut__bytes_free(&e.now);
    taut__free(e.density);
    taut__free(r);
    taut__free(fresh);
    return status;
}

const taut__method taut__method_entropy = {
    .name = "entropy",
    .help = "a diverse set: the samples that compress least given those chosen before",
    .needs = TAUT__NEEDS_BYTES,
    .budget = TAUT__BUDGET_MUST,
    .key = {{"by", "prefix|published", 0, 0, 0, false}, {"window", NULL, 64, 1, 64, true}},
    .run = run,
};
