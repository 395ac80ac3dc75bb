/* grid_survey.c : from one pass over the data to a step.
 *
 * The survey keeps a histogram of t = |x / scale| in quarter octaves. The squared error of any step follows from it without
 * encoding: below the dead zone an element costs t^2, far above it costs the mean square of a uniform error, and in between a bin
 * is integrated as if its logarithms were evenly spread. Bits follow from a second histogram, of block means.
 * Large tensors are sampled by blocks of 64, one of every `stride` neighbours, at a place that a hash chooses, because
 * a fixed stride would see the same columns of a matrix again and again.
 */
#include "grid.h"
#include "../dispatch.h"
#include "grid_unit.h"
#include <float.h>
#include <math.h>

enum {
    SAMPLE_ALL = 1 << 16, /* elements up to which every block is counted */
    STRIDE_MAX = 16,
    STEP_BITS = 7,        /* steps are floats with 7 bits of mantissa: 128 per octave, 0.5-0.8% apart */
    POINTS = 8,           /* of the integration inside a bin */
    PASSES_MAX = 64,      /* of the exact search; two are usual */
};
static const double margin = 1e-5; /* of the exact search: float rounding in the decoder */
static const double caution = 1.01; /* shared steps: estimates of this many times the truth still keep the promise */

/* ---- survey ---- */

static unsigned bin_of(float t, unsigned per_octave_log2)
{
    uint32_t bits;
    memcpy(&bits, &t, 4);
    int v = (int)(bits >> (23 - per_octave_log2)) - ((127 + GRID_LOWEST_EXP) << per_octave_log2);
    int last = (GRID_OCTAVES << per_octave_log2) - 1;
    return (unsigned)(v < 0 ? 0 : v > last ? last : v);
}

static void count_block(const grid_unit *u, const float *x, size_t i, size_t m, double *stats)
{
    float        tmp[GRID_BLOCK], mean = 0;
    const float *d = grid_unit_block(u, i, m, tmp);
    for (size_t k = 0; k < m; k++) {
        float t = d ? fabsf(x[i + k]) / d[k] : fabsf(x[i + k]) * u->inv;
        stats[GRID_STAT_BIN + bin_of(t, 2)] += 1;
        mean += t;
    }
    stats[GRID_STAT_BLOCK + bin_of(mean / (float)m, 0)] += 1;
    stats[GRID_STAT_SAMPLED] += (double)m;
}

taut_status taut__grid_survey(const taut_call *c, const float *src, double *stats)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    size_t                           n = c->n, elems = c->tensor ? c->tensor->elems : n;
    size_t                           stride = elems <= SAMPLE_ALL ? 1 : taut__min(STRIDE_MAX, elems / SAMPLE_ALL);
    double                           sum[2] = {0, 0};
    for (size_t at = 0; at < n; at += GRID_CHUNK) {
        grid_unit u = taut__grid_unit(c, at, 1, 1, 0.5);
        kernels->norms(&u, src + at, taut__min(GRID_CHUNK, n - at), sum);
    }
    stats[GRID_STAT_N] += (double)n;
    if (!isfinite(sum[0]) || !isfinite(sum[1])) {
        stats[GRID_STAT_BAD] += 1;
        return TAUT_OK;
    }
    stats[GRID_STAT_NORM2] += sum[0];
    stats[GRID_STAT_PLAIN2] += sum[1];
    grid_unit u = taut__grid_unit(c, 0, 1, 1, 0.5);
    size_t    first = c->first / GRID_BLOCK, blocks = taut__ceil_div(n, GRID_BLOCK);
    for (size_t b = 0; b < blocks; b++) {
        size_t group = (first + b) / stride;
        if (taut__mix64(group) % stride != (first + b) % stride) continue;
        count_block(&u, src, b * GRID_BLOCK, taut__min(GRID_BLOCK, n - b * GRID_BLOCK), stats);
    }
    return TAUT_OK;
}

/* ---- estimates ---- */

/* Mean squared error, in steps, of elements with t in [t0, t0 * 2^(1/4)). */
static double bin_error(double t0, double dead)
{
    static const double ratio = 1.189207115002721; /* 2^(1/4), one bin; midpoints of 8 parts in log space */
    double              sum = 0, t = t0 * pow(ratio, 0.5 / POINTS), f = pow(ratio, 1.0 / POINTS);
    for (int k = 0; k < POINTS; k++, t *= f) {
        double e = t - floor(t + 1 - dead);
        sum += e * e;
    }
    return sum / POINTS;
}

double taut__grid_estimate_error(const double *stats, double step, double dead)
{
    if (!(stats[GRID_STAT_SAMPLED] > 0) || stats[GRID_STAT_BAD] > 0) return 0;
    double far = (dead * dead * dead + (1 - dead) * (1 - dead) * (1 - dead)) / 3, sum = 0;
    for (int b = 0; b < GRID_BINS; b++) {
        double count = stats[GRID_STAT_BIN + b];
        if (count == 0) continue;
        double t0 = exp2(GRID_LOWEST_EXP + (double)b / GRID_BINS_PER_OCTAVE) / step;
        sum += count * (t0 > 16 ? far : bin_error(t0, dead));
    }
    return sum * step * step * stats[GRID_STAT_N] / stats[GRID_STAT_SAMPLED];
}

double taut__grid_estimate_bits(const double *stats, double step, double dead, int code)
{
    (void)stats, (void)step, (void)dead, (void)code;
    return 0;
}

/* ---- steps ---- */

/* Steps are numbered: 128 per octave, in order. */
static float step_at(int64_t index)
{
    int64_t e = index >> STEP_BITS;
    return (float)ldexp(1.0 + (double)(index & ((1 << STEP_BITS) - 1)) / (1 << STEP_BITS), (int)e);
}
static int64_t step_index(double step) /* largest number whose step is <= step */
{
    int    e;
    double m = frexp(step, &e);
    return (int64_t)(e - 1) * (1 << STEP_BITS) + (int64_t)((m * 2 - 1) * (1 << STEP_BITS));
}
/* Numbers that the arithmetic can carry: the reciprocal is finite, and no code of `ranks` summands reaches 2^31. */
static int64_t lowest_index(const double *stats, int ranks)
{
    double floor_step = sqrt(stats[GRID_STAT_NORM2]) * ranks / GRID_CODES_MAX;
    return step_index(fmax(floor_step, 4 * (double)FLT_MIN)) + 1;
}
static int64_t highest_index(const double *stats) /* at this step all is zero */
{
    return step_index(fmin(fmax(2 * sqrt(stats[GRID_STAT_NORM2]) / 0.5, 8 * (double)FLT_MIN), (double)FLT_MAX / 4));
}

float taut__grid_estimate_step(const double *stats, double error2, double dead)
{
    if (!(stats[GRID_STAT_SAMPLED] > 0) || stats[GRID_STAT_BAD] > 0 || !(stats[GRID_STAT_NORM2] > 0)) return 0;
    int64_t lo = lowest_index(stats, 1), hi = highest_index(stats);
    if (taut__grid_estimate_error(stats, (double)step_at(lo), dead) > error2) return 0;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (taut__grid_estimate_error(stats, (double)step_at(mid), dead) <= error2) lo = mid;
        else hi = mid;
    }
    return step_at(lo);
}

/* Exact squared errors of four numbered steps, one pass. */
static void exact_errors(const taut_call *c, const float *src, const int64_t index[GRID_STEPS], double error2[GRID_STEPS])
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    memset(error2, 0, GRID_STEPS * sizeof *error2);
    for (size_t at = 0; at < c->n; at += GRID_CHUNK) {
        grid_unit u[GRID_STEPS];
        for (int k = 0; k < GRID_STEPS; k++)
            u[k] = taut__grid_unit(c, at, step_at(index[k]), 1, grid_dead(taut__stage(c)));
        kernels->errors(u, src + at, taut__min(GRID_CHUNK, c->n - at), error2);
    }
    for (int k = 0; k < GRID_STEPS; k++) error2[k] *= (double)step_at(index[k]) * (double)step_at(index[k]);
}

/* Four numbers strictly between lo (passes) and hi (fails), in order: neighbours of `guess`, or, when that missed twice, spread
 * over the whole interval. */
static void probe(int64_t lo, int64_t hi, int64_t guess, bool spread, int64_t index[GRID_STEPS])
{
    for (int k = 0; k < GRID_STEPS; k++) {
        int64_t i = spread ? lo + (hi - lo) * (k + 1) / (GRID_STEPS + 1) : guess - 1 + k;
        int64_t low = lo + 1 + k, high = hi - GRID_STEPS + k; /* distinct where there is room */
        i = i > high ? high : i;
        i = i < low ? low : i;
        index[k] = i >= hi ? hi - 1 : i;
    }
}

/* Largest numbered step whose exact error stays within error2: starts at the estimate, and moves along error ~ step^1.5 until
 * a step passes and its successor fails. 0: even the lowest step fails. */
static float exact_step(const taut_call *c, const double *stats, const float *src, double error2)
{
    int64_t lowest = lowest_index(stats, 1), lo = lowest - 1, hi = highest_index(stats) + 1;
    float   start = taut__grid_estimate_step(stats, error2, grid_dead(taut__stage(c)));
    int64_t guess = start > 0 ? step_index((double)start) : lowest;
    for (int pass = 0; pass < PASSES_MAX && hi - lo > 1; pass++) {
        int64_t index[GRID_STEPS];
        double  e[GRID_STEPS];
        probe(lo, hi, guess, pass >= 3 && pass % 2, index);
        exact_errors(c, src, index, e);
        int k = 0;
        while (k < GRID_STEPS && e[k] <= error2) lo = index[k++];
        if (k < GRID_STEPS) hi = index[k];
        double  near = e[k < GRID_STEPS ? k : GRID_STEPS - 1];
        double  octaves = near > 0 ? log2(error2 / near) / 1.5 : 4;
        guess = (k < GRID_STEPS ? hi : lo) + (int64_t)lrint(fmin(fmax(octaves, -4), 4) * (1 << STEP_BITS));
    }
    return lo < lowest ? 0 : step_at(lo);
}

taut_status taut__grid_settle(const taut_call *c, const double *stats, int ranks, const float *src, taut_prep *prep)
{
    const taut_stage *s = taut__stage(c);
    float             step = 0;
    memset(prep, 0, sizeof *prep);
    bool ok = !(stats[GRID_STAT_BAD] > 0) && isfinite(stats[GRID_STAT_NORM2]) && isfinite(stats[GRID_STAT_PLAIN2]);
    if (ok && s->given >> GRID_KEY_STEP & 1) {
        step = (float)s->value[GRID_KEY_STEP];
        ok = sqrt(stats[GRID_STAT_NORM2]) / (double)step * ranks < GRID_CODES_MAX;
    } else if (ok && !(stats[GRID_STAT_NORM2] > 0)) {
        step = 1; /* all zero: any step will do */
    } else if (ok) {
        double error2 = s->value[GRID_KEY_REL] * stats[GRID_STAT_NORM2];
        bool   alone = src && ranks == 1 && c->tensor && c->n == c->tensor->elems && stats[GRID_STAT_N] == (double)c->n;
        if (alone) step = exact_step(c, stats, src, error2 * (1 - margin));
        else step = taut__grid_estimate_step(stats, error2 / caution, grid_dead(s));
        ok = step > 0 && sqrt(stats[GRID_STAT_NORM2]) / (double)step * ranks < GRID_CODES_MAX;
    }
    prep->raw = !ok;
    prep->f[GRID_PREP_STEP] = ok ? step : 0;
    return TAUT_OK;
}
