/* select_prior.c : the prior-based filter (PriorFilter, ICLR 2026): no model, only how often tokens occur.
 *
 *      p(t) = tf(t) df(t) / sum,    tf: occurrences of a token in all samples, df: samples that have it
 *      mu(x), sd(x): mean and standard deviation of log p over the tokens of sample x
 * A sample is an outlier as far as mu or sd lies from what is usual:
 *      z = max(|mu - med mu| / spread mu, |sd - med sd| / spread sd),     spread: 1.4826 median |. - med|
 * Junk of rare strings has a low mu, boilerplate and repetition a small sd or a high mu. With a budget the smallest z are kept, else all
 * up to `z`. Where we differ: theirs takes means and the nearest share; medians stand when a third of the pool is junk. And a sample of m
 * tokens has the deviation of m numbers: its distance is shrunk by sqrt(m/(m+shrink)), or short samples would be outliers by chance.
 * Tokens are hashed into `buckets` counts. Samples without a token are dropped where there is no budget. */
#include "select.h"
#include "words.h"
#include <math.h>

enum { Z, BUCKETS, SHRINK };

typedef struct prior {
    taut__select *s;
    uint64_t      buckets;
    uint64_t     *tf, *df;
    uint64_t     *last; /* the last sample, plus 1, that had the bucket */
    double       *log_p;
} prior;

static taut_status count_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes)
{
    prior      *p = ctx;
    taut__words w = taut__words_of(p->s->pool, data, bytes);
    for (uint64_t hash; taut__word_next(&w, &hash);) {
        uint64_t b = hash % p->buckets;
        p->tf[b]++;
        p->df[b] += p->last[b] != place + 1;
        p->last[b] = place + 1;
    }
    return TAUT_OK;
}

enum { MU, SD, TOKENS, NUMBERS };

static taut_status measure_one(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out)
{
    const prior *p = ctx;
    taut__words  w = taut__words_of(p->s->pool, data, bytes);
    double       sum = 0, square = 0, n = 0;
    (void)place;
    for (uint64_t hash; taut__word_next(&w, &hash); n++) {
        double x = p->log_p[hash % p->buckets];
        sum += x, square += x * x;
    }
    out[TOKENS] = n;
    out[MU] = n > 0 ? sum / n : 0;
    out[SD] = n > 0 ? sqrt(fmax(0, square / n - out[MU] * out[MU])) : 0;
    return TAUT_OK;
}

/* z of one criterion into z[], the larger of what is there. */
static taut_status deviations(const prior *p, const double *x, int which, double *z)
{
    uint64_t n = p->s->pool->n, m = 0;
    double  *room = taut__alloc((size_t)n, sizeof *room), shrink = p->s->value[SHRINK], middle, spread;
    if (!room) return taut__fail(TAUT_E_NOMEM, "prior: out of memory");
    for (uint64_t i = 0; i < n; i++)
        if (x[NUMBERS * i + TOKENS] > 0) room[m++] = x[NUMBERS * i + which];
    if (m == 0) {
        taut__free(room);
        return taut__fail(TAUT_E_INVALID, "prior: no sample has a token");
    }
    middle = taut__select_quantile(room, m, 0.5);
    m = 0;
    for (uint64_t i = 0; i < n; i++) {
        double tokens = x[NUMBERS * i + TOKENS];
        if (tokens > 0) room[m++] = fabs(x[NUMBERS * i + which] - middle) * sqrt(tokens / (tokens + shrink));
    }
    spread = 1.4826 * taut__select_quantile(room, m, 0.5);
    if (!(spread > 0)) spread = 1e-9; /* half of the samples are alike: everything else is an outlier */
    for (uint64_t i = 0; i < n; i++) {
        double tokens = x[NUMBERS * i + TOKENS];
        double d =
            tokens > 0 ? fabs(x[NUMBERS * i + which] - middle) * sqrt(tokens / (tokens + shrink)) / spread : 1e300;
        if (d > z[i]) z[i] = d;
    }
    taut__free(room);
    return TAUT_OK;
}

static taut_status decide(prior *p, const double *x)
{
    taut__select *s = p->s;
    uint64_t      n = s->pool->n;
    double       *z = taut__alloc((size_t)n, sizeof *z);
    uint8_t      *keep = taut__alloc((size_t)n, 1);
    taut_status   status = z && keep ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "prior: out of memory");
    if (status == TAUT_OK) status = deviations(p, x, MU, z);
    if (status == TAUT_OK) status = deviations(p, x, SD, z);
    if (status == TAUT_OK && s->keep) status = taut__select_extreme(s, z, false);
    else if (status == TAUT_OK) {
        for (uint64_t i = 0; i < n; i++) keep[i] = z[i] <= s->value[Z];
        status = taut__select_marked(s, keep);
    }
    for (uint64_t i = 0; status == TAUT_OK && i < n; i++)
        z[i] = fmin(z[i], 100); /* a mean over outliers without bounds tells nothing */
    if (status == TAUT_OK) status = taut__select_compare(s, "mean deviation from what is usual", z);
    taut__free(z);
    taut__free(keep);
    return status;
}

static taut_status run(taut__select *s)
{
    prior       p = {.s = s, .buckets = (uint64_t)s->value[BUCKETS]};
    double     *x = NULL, all = 0;
    taut_status status;
    p.tf = taut__alloc(2 * (size_t)p.buckets, sizeof *p.tf);
    p.df = p.tf ? p.tf + p.buckets : NULL;
    p.last = taut__alloc((size_t)p.buckets, sizeof *p.last);
    p.log_p = taut__alloc((size_t)p.buckets, sizeof *p.log_p);
    status = p.tf && p.last && p.log_p
                 ? TAUT_OK
                 : taut__fail(TAUT_E_NOMEM, "prior: out of memory for %llu buckets", (unsigned long long)p.buckets);
    if (status == TAUT_OK) status = taut__select_visit(s, s->pool, "counting", count_one, &p);
    status = taut__select_sum(s, status, p.tf, 2 * (size_t)p.buckets);
    for (uint64_t b = 0; status == TAUT_OK && b < p.buckets; b++) all += (double)p.tf[b] * (double)p.df[b];
    for (uint64_t b = 0; status == TAUT_OK && b < p.buckets; b++)
        p.log_p[b] = p.tf[b] ? log((double)p.tf[b] * (double)p.df[b] / all) : 0;
    if (status == TAUT_OK) status = taut__select_measure(s, "measuring", NUMBERS, measure_one, &p, &x);
    if (status == TAUT_OK) status = decide(&p, x);
    taut__free(p.tf);
    taut__free(p.last);
    taut__free(p.log_p);
    taut__free(x);
    return status;
}

const taut__method taut__method_prior = {
    .name = "prior",
    .help = "drops samples whose tokens are unusually rare, frequent, or alike",
    .needs = TAUT__NEEDS_TEXT,
    .budget = TAUT__BUDGET_MAY,
    .key = {{"z", NULL, 3, 0.1, 1000, false},
            {"buckets", NULL, 1 << 20, 256, 1 << 28, true},
            {"shrink", NULL, 32, 0, 1e6, false}},
    .run = run,
};
