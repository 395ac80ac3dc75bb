/* select_dsir.c : Data Selection via Importance Resampling (Xie, Santurkar, Ma, Liang, NeurIPS 2023).
 *
 * Words and pairs of words are hashed into `buckets` counts; p is the target's distribution over them, q the pool's (their section
 * 3, "hashed n-gram features"). A sample with n-grams g_1..g_m is weighted by
 *      log w(x) = sum_i log p(g_i)/q(g_i)                          (theirs, norm=sum)
 *      log w(x) = 1/m sum_i log p(g_i)/q(g_i)                      (ours, norm=mean)
 * The sum grows with the length of a sample, so that it ranks lengths first. top takes the largest; gumbel adds `noise` times standard Gumbel
 * numbers, which draws without replacement in proportion to w^(1/noise) (Kool et al. 2019). p is mixed with a share `smooth` of q
 * where they add a constant: a bucket that the target never shows then counts log(smooth), however large the tables. */
#include "select.h"
#include "words.h"
#include <math.h>

enum { N, BUCKETS, NORM, SAMPLE, NOISE, SMOOTH };

typedef struct dsir {
    taut__select *s;
    taut__pool   *pool;
    uint64_t      n, buckets;
    uint64_t     *count;  /* buckets + 1: the last one is their sum */
    double       *weight; /* log p/q of a bucket */
    bool          mean;
} dsir;

/* The buckets of the n-grams that end with the newest of the last words; most recent first. */
static size_t ngrams(const dsir *d, uint64_t recent[4], size_t have, uint64_t bucket[4])
{
    uint64_t h = 0;
    size_t   n = 0;
    for (; n < d->n && n < have; n++) {
        h = taut__mix64(h ^ recent[n]) + n;
        bucket[n] = h % d->buckets;
    }
    return n;
}

static taut_status count_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes)
{
    dsir       *d = ctx;
    taut__words w = taut__words_of(d->pool, data, bytes);
    uint64_t    recent[4] = {0}, bucket[4], hash;
    (void)place;
    for (size_t have = 1; taut__word_next(&w, &hash); have++) {
        recent[3] = recent[2], recent[2] = recent[1], recent[1] = recent[0], recent[0] = hash;
        size_t n = ngrams(d, recent, have, bucket);
        for (size_t i = 0; i < n; i++) d->count[bucket[i]]++;
        d->count[d->buckets] += n;
    }
    return TAUT_OK;
}

static taut_status score_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    const dsir *d = ctx;
    taut__words w = taut__words_of(d->s->pool, data, bytes);
    uint64_t    recent[4] = {0}, bucket[4], hash, all = 0;
    double      sum = 0;
    (void)place;
    for (size_t have = 1; taut__word_next(&w, &hash); have++) {
        recent[3] = recent[2], recent[2] = recent[1], recent[1] = recent[0], recent[0] = hash;
        size_t n = ngrams(d, recent, have, bucket);
        for (size_t i = 0; i < n; i++) sum += d->weight[bucket[i]];
        all += n;
    }
    *out = !all ? log(d->s->value[SMOOTH]) : d->mean ? sum / (double)all : sum;
    return TAUT_OK;
}

/* count: the target's, then the pool's, buckets + 1 each. */
static void weights(dsir *d, const uint64_t *count)
{
    const uint64_t *p = count, *q = count + d->buckets + 1;
    double          smooth = d->s->value[SMOOTH];
    for (uint64_t b = 0; b < d->buckets; b++) {
        double pool = ((double)q[b] + 1) / ((double)q[d->buckets] + (double)d->buckets);
        d->weight[b] = log((1 - smooth) * (double)p[b] / ((double)p[d->buckets] + 1) / pool + smooth);
    }
}

static taut_status decide(taut__select *s, double *score)
{
    double *noisy;
    if (s->value[SAMPLE] == 0) TAUT_TRY(taut__select_extreme(s, score, true));
    else {
        taut_status status;
        if (!(noisy = taut__alloc((size_t)s->pool->n, sizeof *noisy)))
            return taut__fail(TAUT_E_NOMEM, "dsir: out of memory");
        for (uint64_t i = 0; i < s->pool->n; i++) noisy[i] = score[i] + s->value[NOISE] * taut__select_gumbel(s, i);
        status = taut__select_extreme(s, noisy, true);
        taut__free(noisy);
        if (status != TAUT_OK) return status;
    }
    return taut__select_compare(s, s->value[NORM] == 0 ? "mean log p/q per n-gram" : "mean log p/q", score);
}

static taut_status run(taut__select *s)
{
    dsir d = {.s = s, .n = (uint64_t)s->value[N], .buckets = (uint64_t)s->value[BUCKETS], .mean = s->value[NORM] == 0};
    uint64_t   *count = taut__alloc(2 * ((size_t)d.buckets + 1), sizeof *count);
    double     *score = NULL;
    taut_status status;
    d.weight = taut__alloc((size_t)d.buckets, sizeof *d.weight);
    status = count && d.weight
                 ? TAUT_OK
                 : taut__fail(TAUT_E_NOMEM, "dsir: out of memory for %llu buckets", (unsigned long long)d.buckets);
    d.count = count, d.pool = s->target;
    if (status == TAUT_OK) status = taut__select_visit(s, s->target, "counting the target", count_one, &d);
    d.count = count + d.buckets + 1, d.pool = s->pool;
    if (status == TAUT_OK) status = taut__select_visit(s, s->pool, "counting", count_one, &d);
    status = taut__select_sum(s, status, count, 2 * ((size_t)d.buckets + 1));
    if (status == TAUT_OK) {
        weights(&d, count);
        status = taut__select_measure(s, "scoring", 1, score_one, &d, &score);
    }
    if (status == TAUT_OK) status = decide(s, score);
    taut__free(count);
    taut__free(d.weight);
    taut__free(score);
    return status;
}

const taut__method taut__method_dsir = {
    .name = "dsir",
    .help = "the samples whose hashed n-grams are likeliest to be the target's (needs --target)",
    .needs = TAUT__NEEDS_TEXT | TAUT__NEEDS_TARGET,
    .budget = TAUT__BUDGET_MUST,
    .key = {{"n", NULL, 2, 1, 4, true},
            {"buckets", NULL, 10000, 16, 1 << 26, true},
            {"norm", "mean|sum", 0, 0, 0, false},
            {"sample", "top|gumbel", 0, 0, 0, false},
            {"noise", NULL, 0.1, 0, 1e6, false},
            {"smooth", NULL, 0.1, 1e-9, 0.999, false}},
    .run = run,
};
