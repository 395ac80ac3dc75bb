/* select_softdedup.c : weights instead of removal (He et al.: SoftDedup, ACL 2024).
 *
 * The commonness of a sample is the geometric mean of its tokens' probabilities under a 4-gram model of the pool itself,
 *      c(x) = (prod_i p(t_i | t_i-3..t_i-1))^(1/m)
 * and its weight is inverse: samples are cut into `segments` by quantiles of c, and a segment weighs 1 over the geometric mean of its c, at
 * most `ratio` times the least, scaled to mean 1. Theirs is Kneser-Ney smoothed and a sampling probability; ours is hashed counts with
 *      p(t|h) = (n(h t) - 1 + p(t)) / n(h)
 * (minus one: what the sample itself adds, or every text would be half common), and a weight of the loss, which has the same expectation. */
#include "select.h"
#include "words.h"
#include <math.h>

enum { SEGMENTS, RATIO, BUCKETS };

typedef struct soft {
    taut__select *s;
    uint64_t      buckets;
    uint64_t     *unigram, *history, *gram; /* buckets each, then the number of tokens */
} soft;

typedef struct place3 {
    uint64_t unigram, history, gram;
} place3;

/* The next token's three buckets; recent: the three before it. */
static bool next(const soft *c, taut__words *w, uint64_t recent[3], place3 *b)
{
    uint64_t hash, h = 0;
    if (!taut__word_next(w, &hash)) return false;
    for (int i = 0; i < 3; i++) h = taut__mix64(h ^ recent[i]) + 1;
    b->unigram = hash % c->buckets;
    b->history = h % c->buckets;
    b->gram = taut__mix64(h ^ hash) % c->buckets;
    recent[2] = recent[1], recent[1] = recent[0], recent[0] = hash;
    return true;
}

static taut_status count_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes)
{
    soft       *c = ctx;
    taut__words w = taut__words_of(c->s->pool, data, bytes);
    uint64_t    recent[3] = {0};
    (void)place;
    for (place3 b; next(c, &w, recent, &b);) {
        c->unigram[b.unigram]++;
        c->history[b.history]++;
        c->gram[b.gram]++;
        c->unigram[3 * c->buckets]++;
    }
    return TAUT_OK;
}

static taut_status score_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    const soft *c = ctx;
    taut__words w = taut__words_of(c->s->pool, data, bytes);
    uint64_t    recent[3] = {0};
    double      sum = 0, n = 0, all = (double)c->unigram[3 * c->buckets];
    (void)place;
    for (place3 b; next(c, &w, recent, &b); n++)
        sum += log(((double)c->gram[b.gram] - 1 + (double)c->unigram[b.unigram] / all) / (double)c->history[b.history]);
    *out = n > 0 ? sum / n : 0;
    return TAUT_OK;
}

/* Four digits are enough, and keep the plan small. */
static float rounded(double x)
{
    char text[32];
    taut__snprintf(text, sizeof text, "%.4g", x);
    return (float)taut__strtod(text, NULL);
}

/* log c of each sample -> weights of all. */
static taut_status weigh(taut__select *s, const double *score)
{
    uint64_t n = s->pool->n, segments = (uint64_t)s->value[SEGMENTS] < n ? (uint64_t)s->value[SEGMENTS] : n;
    double   mean = 0, *w;
    TAUT_TRY(taut__select_sorted(s, score, false)); /* the most common first */
    s->weight = taut__alloc((size_t)n, sizeof *s->weight);
    w = taut__alloc((size_t)segments, sizeof *w);
    if (!s->weight || !w) {
        taut__free(w);
        return taut__fail(TAUT_E_NOMEM, "softdedup: out of memory");
    }
    for (uint64_t i = 0; i < n; i++) w[i * segments / n] += score[s->list[i]];
    for (uint64_t k = 0; k < segments; k++) {
        uint64_t size = ((k + 1) * n + segments - 1) / segments - (k * n + segments - 1) / segments;
        w[k] = exp(-(w[k] / (double)size)); /* rising with k */
        if (k && w[k] > w[0] * s->value[RATIO]) w[k] = w[0] * s->value[RATIO];
        mean += w[k] * (double)size / (double)n;
    }
    for (uint64_t i = 0; i < n; i++) s->weight[i] = rounded(w[i * segments / n] / mean);
    taut__free(w);
    return TAUT_OK;
}

/* By place: runs of neighbours make a short plan, and reading in order is what the loader likes. */
static taut_status by_place(taut__select *s)
{
    uint64_t n = s->listed;
    float   *w = taut__alloc((size_t)n, sizeof *w);
    if (!w) return taut__fail(TAUT_E_NOMEM, "softdedup: out of memory");
    for (uint64_t i = 0; i < n; i++) w[s->list[i]] = s->weight[i];
    for (uint64_t i = 0; i < n; i++) s->list[i] = i;
    taut__free(s->weight);
    s->weight = w;
    return TAUT_OK;
}

static taut_status compare(taut__select *s, const double *score)
{
    double sum = 0;
    TAUT_TRY(taut__select_compare(s, "mean log commonness, weighted", score));
    for (uint64_t i = 0; i < s->listed; i++) sum += (double)s->weight[i] * score[s->list[i]] / (double)s->listed;
    s->chosen = sum;
    return TAUT_OK;
}

static taut_status run(taut__select *s)
{
    soft        c = {.s = s, .buckets = (uint64_t)s->value[BUCKETS]};
    size_t      counts = 3 * (size_t)c.buckets + 1;
    double     *score = NULL;
    taut_status status;
    c.unigram = taut__alloc(counts, sizeof *c.unigram);
    status = c.unigram
                 ? TAUT_OK
                 : taut__fail(TAUT_E_NOMEM, "softdedup: out of memory for %llu buckets", (unsigned long long)c.buckets);
    c.history = c.unigram ? c.unigram + c.buckets : NULL;
    c.gram = c.unigram ? c.history + c.buckets : NULL;
    if (status == TAUT_OK) status = taut__select_visit(s, s->pool, "counting", count_one, &c);
    status = taut__select_sum(s, status, c.unigram, counts);
    if (status == TAUT_OK) status = taut__select_measure(s, "scoring", 1, score_one, &c, &score);
    if (status == TAUT_OK) status = weigh(s, score);
    if (status == TAUT_OK) status = by_place(s);
    if (status == TAUT_OK) status = compare(s, score);
    taut__free(c.unigram);
    taut__free(score);
    return status;
}

const taut__method taut__method_softdedup = {
    .name = "softdedup",
    .help = "all samples, the common ones with a smaller weight",
    .needs = TAUT__NEEDS_TEXT,
    .budget = TAUT__BUDGET_NONE,
    .key = {{"segments", NULL, 20, 1, 100000, true},
            {"ratio", NULL, 10, 1, 1e6, false},
            {"buckets", NULL, 1 << 20, 256, 1 << 28, true}},
    .run = run,
};
