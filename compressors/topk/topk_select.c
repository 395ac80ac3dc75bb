/* topk_select.c : find the k-th largest magnitude by narrowing a range of bit patterns.
 *
 * A sample of the data gives a first range. One pass then counts what lies above the range and keeps what lies inside it,
 * taking the data in scattered order: whenever the buffer is full, what was seen so far is a larger sample, and gives a
 * narrower range. At the end the buffer holds a few thousand elements around the k-th largest, and the counts say which
 * of them it is.
 * Where that misleads, which the counts show, or where ties fill the buffer, passes with a histogram of the range follow:
 * the bin that holds the k-th largest is the next range, until one bit pattern is left.
 * Everything depends on the data alone, so equal input gives equal output at every SIMD level. */
#include "topk_select.h"
#include <math.h>
#include <string.h>

enum {
    CHUNK = 2048, /* elements per kernel call: the result stays in L1 */
    KEEP = 8192,  /* magnitudes kept between passes, 32 KiB of stack */
    BINS = 4096,
    SAMPLE = 8192, /* elements sampled, as RUN neighbours (16 bytes, one cache line) at jittered places */
    RUN = 4,
    SAMPLE_SHARE = 8,   /* never sample more than 1/8 of the data */
    SAMPLE_FROM = 4096, /* below, a full pass is as cheap */
};
static const uint32_t TOP = TAUT_TOPK_MAGNITUDE + 1; /* above every magnitude */

typedef struct range_pass {
    uint32_t least, above; /* the range [least, above) */
    unsigned shift;        /* bin = (magnitude - least) >> shift */
    size_t   higher;       /* elements at or above `above` */
    size_t   inside;       /* elements in the range */
    uint32_t bin[BINS];
    float    keep[KEEP]; /* magnitudes inside, the first KEEP */
} range_pass;

static unsigned bin_shift(uint32_t width)
{
    unsigned shift = 0;
    while ((width - 1) >> shift >= BINS) shift++;
    return shift;
}

/* src may be p->keep: each chunk is read before its survivors are written, which are never more. */
static void run_pass(const taut__topk_kernels *t, range_pass *p, const float *src, size_t n)
{
    uint32_t pos[CHUNK + TAUT_TOPK_SLACK];
    float    val[CHUNK + TAUT_TOPK_SLACK];
    p->shift = bin_shift(p->above - p->least);
    p->higher = p->inside = 0;
    memset(p->bin, 0, sizeof p->bin);
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t found = t->collect(src + i, taut__min(CHUNK, n - i), TAUT_TOPK_MAGNITUDE, p->least, 0, pos, val);
        for (size_t j = 0; j < found; j++) {
            uint32_t m = taut__topk_magnitude(val[j]);
            if (m >= p->above) {
                p->higher++;
                continue;
            }
            p->bin[(m - p->least) >> p->shift]++;
            if (p->inside < KEEP) p->keep[p->inside] = val[j];
            p->inside++;
        }
    }
}

/* Position of the nth (1-based) element of exactly this magnitude. */
static uint64_t find_tie(const taut__topk_kernels *t, const float *src, size_t n, uint32_t magnitude, size_t nth)
{
    uint32_t pos[CHUNK + TAUT_TOPK_SLACK];
    float    val[CHUNK + TAUT_TOPK_SLACK];
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t found = t->collect(src + i, taut__min(CHUNK, n - i), TAUT_TOPK_MAGNITUDE, magnitude, 0, pos, val);
        for (size_t j = 0; j < found; j++)
            if (taut__topk_magnitude(val[j]) == magnitude && --nth == 0) return i + pos[j];
    }
    return UINT64_MAX;
}

/* Narrow p to the one magnitude that is the rank-th largest inside it. Leaves how many of the elements with that
 * magnitude (p->inside) belong to the k in *rank. */
static void narrow(const taut__topk_kernels *t, range_pass *p, const float *src, size_t n, size_t *rank)
{
    while (p->above - p->least > 1) {
        uint32_t b = (p->above - p->least - 1) >> p->shift;
        while (*rank > p->bin[b]) *rank -= p->bin[b--];
        if (p->inside <= KEEP) src = p->keep, n = p->inside;
        uint32_t width = 1u << p->shift, inside = p->bin[b];
        p->least += b * width;
        p->above = p->above - p->least > width ? p->least + width : p->above;
        if (width == 1) p->inside = inside;
        else run_pass(t, p, src, n);
    }
}

static taut__topk_choice select_in(const taut__topk_kernels *t, const float *src, size_t n, size_t k, uint32_t least,
                                   uint32_t above)
{
    range_pass p = {.least = least, .above = above};
    for (;;) {
        run_pass(t, &p, src, n);
        if (p.higher >= k) {
            p.least = p.above;
            p.above = TOP;
        } else if (p.higher + p.inside >= k) {
            break;
        } else if (p.least > 1) {
            p.above = p.least;
            p.least = 1;
        } else {
            return (taut__topk_choice){1, UINT64_MAX};
        }
    }
    size_t rank = k - p.higher;
    narrow(t, &p, src, n, &rank);
    bool all_ties = rank == p.inside;
    return (taut__topk_choice){p.least, all_ties ? UINT64_MAX : find_tie(t, src, n, p.least, rank)};
}

static size_t sample(const float *src, size_t n, float *out)
{
    size_t    runs = taut__min(SAMPLE, n / SAMPLE_SHARE) / RUN, stride = n / runs;
    taut__rng g = taut__rng_of(runs, 0);
    for (size_t j = 0; j < runs; j++) {
        size_t jitter = taut__random32(g, (uint32_t)j) % (stride - RUN + 1);
        memcpy(out + j * RUN, src + j * stride + jitter, RUN * sizeof *out);
    }
    return runs * RUN;
}

/* The rank of the k-th largest in a sample has a standard deviation of sqrt(rank) when elements are independent.
 * Neighbours in gradients are not quite, so 5 of these and a few more elements are allowed for. */
static double rank_margin(double rank) { return 5 * sqrt(rank) + 4; }

void taut__topk_estimate(const taut__topk_kernels *t, const float *src, size_t n, size_t k, uint32_t *least,
                         uint32_t *above)
{
    float x[SAMPLE];
    *least = 1;
    *above = TOP;
    if (n < SAMPLE_FROM) return;
    size_t s = sample(src, n, x);
    double rank = (double)k * (double)s / (double)n, margin = rank_margin(rank);
    if (rank + margin < (double)s) *least = select_in(t, x, s, (size_t)(rank + margin), 1, TOP).threshold;
    if (rank - margin >= 1) *above = select_in(t, x, s, (size_t)(rank - margin), *least, TOP).threshold;
    if (*above <= *least) *above = *least + 1;
}

/* ---- one pass ---- */

typedef struct scan {
    uint32_t least, above; /* the range, narrowed on the way */
    size_t   higher;       /* elements seen at or above `above` */
    size_t   kept;         /* elements seen in the range, all of them in keep */
    float    keep[KEEP];
} scan;

/* After `seen` of n elements. False if the range is still too full to go on. */
static bool narrow_scan(const taut__topk_kernels *t, scan *p, size_t seen, size_t n, size_t k)
{
    double   rank = (double)k * (double)seen / (double)n, margin = rank_margin(rank);
    double   low = rank + margin - (double)p->higher, high = rank - margin - (double)p->higher;
    uint32_t above = p->above;
    if (low >= 1 && low <= (double)p->kept)
        p->least = select_in(t, p->keep, p->kept, (size_t)low, p->least, TOP).threshold;
    if (high >= 1 && high <= (double)p->kept)
        above = select_in(t, p->keep, p->kept, (size_t)high, p->least, TOP).threshold;
    p->above = above > p->least ? above : p->least + 1;
    size_t kept = 0;
    for (size_t i = 0; i < p->kept; i++) {
        uint32_t m = taut__topk_magnitude(p->keep[i]);
        p->higher += m >= p->above;
        p->keep[kept] = p->keep[i];
        kept += m >= p->least && m < p->above;
    }
    p->kept = kept;
    return kept <= KEEP - CHUNK;
}

static size_t gcd(size_t a, size_t b)
{
    while (b != 0) {
        size_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

/* A step that visits all chunks, far apart: coprime to their number, near its golden section. */
static size_t scatter_stride(size_t chunks)
{
    size_t stride = (size_t)((double)chunks * 0.618) | 1;
    while (gcd(stride, chunks) != 1) stride += 2;
    return stride;
}

/* True if the range still holds the k-th largest and keep holds the range. */
static bool run_scan(const taut__topk_kernels *t, scan *p, const float *src, size_t n, size_t k)
{
    uint32_t pos[CHUNK + TAUT_TOPK_SLACK];
    float    val[CHUNK + TAUT_TOPK_SLACK];
    size_t   chunks = taut__ceil_div(n, CHUNK), seen = 0, stride = scatter_stride(chunks);
    for (size_t c = 0, at = 0; c < chunks; c++, at = (at + stride) % chunks) {
        size_t len = taut__min(CHUNK, n - at * CHUNK);
        if (p->kept > KEEP - CHUNK && !narrow_scan(t, p, seen, n, k)) return false;
        size_t found = t->collect(src + at * CHUNK, len, TAUT_TOPK_MAGNITUDE, p->least, 0, pos, val);
        for (size_t i = 0; i < found; i++) {
            bool higher = taut__topk_magnitude(val[i]) >= p->above;
            p->keep[p->kept] = val[i];
            p->higher += higher;
            p->kept += !higher;
        }
        seen += len;
    }
    return p->higher < k && p->higher + p->kept >= k;
}

taut__topk_choice taut__topk_select(const taut__topk_kernels *t, const float *src, size_t n, size_t k)
{
    scan p = {0};
    if (n == 0) return (taut__topk_choice){1, UINT64_MAX};
    taut__topk_estimate(t, src, n, k, &p.least, &p.above);
    if (n < SAMPLE_FROM || !run_scan(t, &p, src, n, k)) return select_in(t, src, n, k, p.least, p.above);
    taut__topk_choice choice = select_in(t, p.keep, p.kept, k - p.higher, p.least, p.above);
    if (choice.last_tie != UINT64_MAX) /* a position in keep: count the ties in the data instead */
        return select_in(t, src, n, k, choice.threshold, choice.threshold + 1);
    return choice;
}
