/* grid_stats.c : from one pass over the data to a step.
 *
 * The statistics keep a histogram of t = |x / scale|, four bins to the octave. The squared error of any step
 * follows from it without encoding: below the dead zone an element costs t^2, far above it costs the mean
 * square of a uniform error, and in between a bin is integrated as if its elements were evenly spread. Where
 * many of them are equal they are not, and the error is that with a margin (grid_alike). Bits
 * follow from a second histogram, of block means. Large tensors are sampled by blocks of 64, one of every
 * `stride` neighbours, at a place that a hash chooses, because a fixed stride would see the same columns of a
 * matrix again and again.
 */
#include "grid.h"
#include "../dispatch.h"
#include "grid_steps.h"
#include "grid_unit.h"
#include <float.h>
#include <math.h>

enum {
    PASSES_MAX = 64, /* of the exact search; two are usual */
    FEW = 4096,      /* elements up to which it looks for larger steps */
};
static const double margin = 1e-5; /* of the exact search */
/* Of an element, at most, between its measured error and that of what is decoded: 1 / step, and two products. */
static const double rounding = 3 * 0x1p-24;

/* ---- the window of octaves ---- */

int taut__grid_lowest(const double *stats) { return grid_lowest(stats); }

void taut__grid_set_window(double *stats, int lowest) { grid_set_window(stats, lowest); }

taut_status taut__grid_rebase(const taut_call *c, const double *agreed, double *stats)
{
    (void)c;
    taut__grid_set_window(stats, grid_window_of(agreed[GRID_STAT_NORM2]));
    return TAUT_OK;
}

/* ---- statistics ---- */

typedef struct sampling {
    size_t   stride, group;      /* the next group */
    double   sampled, equal;     /* elements, pairs */
    int      lowest;             /* the window's */
    uint32_t bins[GRID_BINS];    /* counted since the window last moved */
    double   counts[GRID_STATS]; /* until then; and blocks: sections BIN and BLOCK */
} sampling;

static void flush(sampling *s)
{
    for (int k = 0; k < GRID_BINS; k++) s->counts[GRID_STAT_BIN + k] += s->bins[k];
    memset(s->bins, 0, sizeof s->bins);
}

/* The window only rises while a tensor is looked at: its norm does. */
static void raise_window(sampling *s, double norm2)
{
    int lowest = grid_window_of(norm2);
    if (lowest <= s->lowest) return;
    flush(s);
    grid_shift_octaves(s->counts, lowest - s->lowest);
    s->lowest = lowest;
}

/* Octave, from the window's first, of a mean that was multiplied by 2^up. */
static int octave_of(float t, int up, int lowest)
{
    int e = t > 0 ? ilogbf(t) - up - lowest : 0; /* of infinity: INT_MAX and less */
    return e < 0 ? 0 : e >= GRID_OCTAVES ? GRID_OCTAVES - 1 : e;
}

/* Pairs of elements, half a block apart, that are equal but for the sign, as are their units, and not 0. */
static unsigned equal_pairs(const grid_unit *u, const float *x, size_t i, size_t m)
{
    enum { HALF = GRID_BLOCK / 2 };
    float        tmp[GRID_BLOCK];
    const float *d = grid_unit_block(u, i, m, tmp);
    uint32_t     bits[GRID_BLOCK] = {0};
    unsigned     equal = 0;
    memcpy(bits, x, m * sizeof *x);
    for (size_t k = 0; k < GRID_BLOCK; k++) bits[k] &= 0x7fffffff;
    for (size_t k = 0; k < HALF; k++) equal += bits[k] != 0 && bits[k] == bits[k + HALF] && (!d || d[k] == d[k + HALF]);
    return equal;
}

/* Counts the sampled blocks of src[at..at+n), which the caller has just read. Denormals are multiplied by 2^up first, since bins
 * are exponents. */
static void count_blocks(const taut_call *c, const float *src, size_t at, size_t n, sampling *s)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    const int                        up = s->lowest < FLT_MIN_EXP ? FLT_MIN_EXP - s->lowest : 0;
    const grid_binning               binning = {(127 + s->lowest + up) * GRID_BINS_PER_OCTAVE, GRID_BINS - 1};
    const grid_unit u = taut__grid_unit(c, 0, ldexpf(1, -up), 1, 0.5), one = taut__grid_unit(c, 0, 1, 1, 0.5);
    size_t first = c->first / GRID_BLOCK, from = first + at / GRID_BLOCK, to = from + taut__ceil_div(n, GRID_BLOCK);
    for (; s->group * s->stride < to; s->group++) { /* one block of each group */
        size_t block = grid_sampled_block(s->group, s->stride);
        if (block < from) continue;
        if (block >= to) break;
        size_t i = (block - first) * GRID_BLOCK, m = taut__min(GRID_BLOCK, c->n - i);
        float  mean = kernels->count(&u, src + i, i, m, &binning, s->bins);
        s->counts[GRID_STAT_BLOCK + octave_of(mean, up, s->lowest)] += 1;
        s->equal += equal_pairs(&one, src + i, i, m);
        s->sampled += (double)m;
    }
}

static void add_counts(double *stats, sampling *s, double elems)
{
    int lowest = grid_window_of(stats[GRID_STAT_NORM2]);
    flush(s);
    grid_shift_octaves(s->counts, lowest - s->lowest);
    grid_shift_octaves(stats, lowest - taut__grid_lowest(stats));
    for (int k = GRID_STAT_BIN; k < GRID_STAT_LOWEST; k++) stats[k] += s->counts[k];
    stats[GRID_STAT_SAMPLED] += s->sampled;
    stats[GRID_STAT_EQUAL] += s->equal;
    stats[GRID_STAT_N] += elems;
    stats[GRID_STAT_LOWEST] = lowest * stats[GRID_STAT_N];
}

taut_status taut__grid_collect_stats(const taut_call *c, const float *src, double *stats)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    size_t                           n = c->n, elems = c->tensor ? c->tensor->elems : n;
    double                           sum[GRID_SUMS] = {0, 0, 0};
    sampling                         s = {.stride = grid_sample_stride(elems), .lowest = grid_window_of(0)};
    s.group = c->first / GRID_BLOCK / s.stride;
    raise_window(&s, stats[GRID_STAT_NORM2]);
    for (size_t at = 0; at < n; at += GRID_CHUNK) {
        size_t    m = taut__min(GRID_CHUNK, n - at);
        grid_unit u = taut__grid_unit(c, at, 1, 1, 0.5);
        kernels->norms(&u, src + at, m, sum);
        if (c->brief || !isfinite(sum[0])) continue;
        raise_window(&s, stats[GRID_STAT_NORM2] + sum[0]);
        count_blocks(c, src, at, m, &s);
    }
    if (!isfinite(sum[0]) || !isfinite(sum[1])) {
        stats[GRID_STAT_BAD] += 1;
        s = (sampling){.lowest = grid_window_of(0)};
    } else {
        stats[GRID_STAT_NORM2] += sum[0];
        stats[GRID_STAT_PLAIN2] += sum[1];
        stats[GRID_STAT_ABS] += sum[2];
    }
    add_counts(stats, &s, (double)n);
    return TAUT_OK;
}

/* ---- estimates ---- */

/* What the few values of a tensor may err beside the mean of what values in their bins would; in steps, squared. */
static double few_margin(const double *stats, double alike, double octave, double dead)
{
    double spread = 0, worst = 0;
    for (int b = 0; b < GRID_BINS; b++) {
        int    part = b % GRID_BINS_PER_OCTAVE;
        double width = octave / GRID_BINS_PER_OCTAVE, from = octave + width * part, to = octave + width * (part + 1);
        double count = stats[GRID_STAT_BIN + b], mean = grid_mean_within(from, to, width, dead);
        worst += count * (grid_worst_within(from, to, dead) - mean);
        if (count > 0) spread = fmax(spread, grid_spread_within(from, to, width, mean, dead));
        if (part == GRID_BINS_PER_OCTAVE - 1) octave *= 2;
    }
    return grid_few_margin(stats, alike, spread, worst);
}

double taut__grid_estimate_error(const double *stats, double step, double dead)
{
    if (!(stats[GRID_STAT_SAMPLED] > 0) || stats[GRID_STAT_BAD] > 0) return 0;
    double first = ldexp(1.0, taut__grid_lowest(stats)) / step, octave = first, sum = 0, alike = grid_alike(stats);
    double before = grid_error_integral(octave, dead);
    for (int b = 0; b < GRID_BINS; b++) {
        double width = octave / GRID_BINS_PER_OCTAVE, to = octave + width * (b % GRID_BINS_PER_OCTAVE + 1);
        double after = grid_error_integral(to, dead);
        sum += stats[GRID_STAT_BIN + b] * (after - before) / width;
        before = after;
        if (b % GRID_BINS_PER_OCTAVE == GRID_BINS_PER_OCTAVE - 1) octave *= 2;
    }
    if (alike > 0) sum += few_margin(stats, alike, first, dead);
    return sum * step * step * stats[GRID_STAT_N] / stats[GRID_STAT_SAMPLED];
}

/* Bits per element of Gaussian noise whose mean magnitude is 2^(k/2) steps, k = -7..8, dead zone 0.65:
 * measured on 2^21 elements. A block is such noise with its own mean, so a tensor's bits are the average over
 * its blocks' means. */
enum { NOISE_FIRST = -7, NOISE_LAST = 8 };
static const float noise_bits[2][NOISE_LAST - NOISE_FIRST + 1] = {
    [GRID_PACKED] = {0, 0.0071f, 0.0584f, 0.3718f, 1.0534f, 1.6339f, 2.0549f, 2.4978f, 3.0277f, 3.6419f, 4.0136f,
                     4.5845f, 5.0121f, 5.5700f, 6.0134f, 6.5666f},
    [GRID_RANS] = {0, 0.0009f, 0.0383f, 0.2850f, 0.7625f, 1.2560f, 1.7650f, 2.2853f, 2.7988f, 3.3356f, 3.8411f, 4.3990f,
                   4.8883f, 5.4528f, 5.9325f, 6.4635f},
};

static double bits_of_noise(double half_octaves, int code)
{
    double at = half_octaves - NOISE_FIRST, last = NOISE_LAST - NOISE_FIRST;
    if (at <= 0) return 0;
    if (at >= last) return (double)noise_bits[code][NOISE_LAST - NOISE_FIRST] + (at - last) / 2; /* a bit per octave */
    int    k = (int)at;
    double part = at - k;
    return (double)noise_bits[code][k] * (1 - part) + (double)noise_bits[code][k + 1] * part;
}

double taut__grid_estimate_bits(const double *stats, double step, double dead, int code)
{
    double blocks = 0, bits = 0, from = 2 * (taut__grid_lowest(stats) - log2(step * dead / 0.65));
    for (int b = 0; b < GRID_OCTAVES; b++, from += 2) {
        double count = stats[GRID_STAT_BLOCK + b];
        if (count == 0) continue;
        blocks += count;
        for (int part = 0; part < 4; part++) bits += count / 4 * bits_of_noise(from + 0.25 + 0.5 * part, code);
    }
    if (blocks == 0) return 0;
    bits /= blocks;
    return code == GRID_RANS ? bits + 0.015 * fmin(bits, 2) : bits; /* classes of unlike neighbours cost more */
}

/* ---- steps ---- */

float taut__grid_estimate_step(const double *stats, double error2, double dead)
{
    if (!grid_searchable(stats)) return 0;
    int64_t lo = grid_lowest_index(stats, 1), hi = grid_highest_index(stats);
    if (taut__grid_estimate_error(stats, (double)grid_step_at(lo), dead) > error2) return 0;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (taut__grid_estimate_error(stats, (double)grid_step_at(mid), dead) <= error2) lo = mid;
        else hi = mid;
    }
    double step = (double)grid_step_at(lo);
    return grid_inside(stats, step) ? (float)step : 0;
}

/* Exact squared errors of four numbered steps, one pass. */
static void exact_errors(const taut_call *c, const float *src, const int64_t index[GRID_STEPS],
                         double error2[GRID_STEPS])
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    memset(error2, 0, GRID_STEPS * sizeof *error2);
    for (size_t at = 0; at < c->n; at += GRID_CHUNK) {
        grid_unit u[GRID_STEPS];
        for (int k = 0; k < GRID_STEPS; k++)
            u[k] = taut__grid_unit(c, at, grid_step_at(index[k]), 1, grid_dead(taut__stage(c)));
        kernels->errors(u, src + at, taut__min(GRID_CHUNK, c->n - at), error2);
    }
    for (int k = 0; k < GRID_STEPS; k++) error2[k] *= (double)grid_step_at(index[k]) * (double)grid_step_at(index[k]);
}

/* Four numbers strictly between lo (passes) and hi (fails), in order: neighbours of `guess`, or, when that
 * missed twice, spread over the whole interval. */
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

/* Number of the step that the statistics suggest when their error is off by a factor. */
static int64_t suggest(const double *stats, double error2, double factor, double dead, int64_t fallback)
{
    float step = taut__grid_estimate_step(stats, error2 / factor, dead);
    return step > 0 ? grid_step_index((double)step) : fallback;
}

/* No larger step can pass: elements below its dead zone become 0, and already the lower ends of their bins make too much error. All
 * elements are in the bins. */
static int64_t passing_most(const double *stats, double error2, double dead)
{
    double least = 0, octave = ldexp(1, taut__grid_lowest(stats)), width = 1.0 / GRID_BINS_PER_OCTAVE;
    for (int b = 0; b < GRID_BINS; b++) {
        double from = ldexp(octave, b / GRID_BINS_PER_OCTAVE), at = from * (1 + width * (b % GRID_BINS_PER_OCTAVE));
        if (b > 0) least += stats[GRID_STAT_BIN + b] * at * at;
        if (least > error2) return grid_step_index((at + from * width) / dead);
    }
    return grid_highest_index(stats);
}

/* Of few elements the error is no smooth function of the step: several passes and failures alternate. The largest that passes, not
 * below `passes`; from above. */
static int64_t largest_passing(const taut_call *c, const double *stats, const float *src, double error2, int64_t passes)
{
    int64_t most = passing_most(stats, error2, grid_dead(taut__stage(c))), highest = grid_highest_index(stats);
    for (int64_t top = most < highest ? most : highest; top > passes; top -= GRID_STEPS) {
        int64_t index[GRID_STEPS];
        double  e[GRID_STEPS];
        for (int k = 0; k < GRID_STEPS; k++) index[k] = top - k;
        exact_errors(c, src, index, e);
        for (int k = 0; k < GRID_STEPS; k++)
            if (e[k] <= error2) return index[k];
    }
    return passes;
}

/* Largest numbered step whose exact error stays within error2: starts at the estimate, and goes on with what the
 * estimate says once it is corrected by the errors seen, until a step passes and its successor fails; of few elements, goes on
 * to larger ones. 0: even the lowest step fails. */
static float exact_step(const taut_call *c, const double *stats, const float *src, double error2)
{
    double  dead = grid_dead(taut__stage(c));
    int64_t lowest = grid_lowest_index(stats, 1), lo = lowest - 1, hi = grid_highest_index(stats) + 1;
    int64_t guess = suggest(stats, error2, 1, dead, lowest);
    for (int pass = 0; pass < PASSES_MAX && hi - lo > 1; pass++) {
        int64_t index[GRID_STEPS];
        double  e[GRID_STEPS];
        probe(lo, hi, guess, pass >= 3 && pass % 2, index);
        exact_errors(c, src, index, e);
        int k = 0;
        while (k < GRID_STEPS && e[k] <= error2) lo = index[k++];
        if (k < GRID_STEPS) hi = index[k];
        int    near = k < GRID_STEPS ? k : GRID_STEPS - 1;
        double estimate = taut__grid_estimate_error(stats, (double)grid_step_at(index[near]), dead);
        guess = suggest(stats, error2, estimate > 0 && e[near] > 0 ? e[near] / estimate : 1, dead, lo + (hi - lo) / 2);
    }
    if (lo >= lowest && c->n <= FEW) lo = largest_passing(c, stats, src, error2, lo);
    return lo < lowest ? 0 : grid_step_at(lo);
}

/* The squared error that leaves room for what rounding adds to it; counts where errors are next to float32's own. */
static double within_rounding(double error2, double norm2)
{
    double error = sqrt(error2) - rounding * sqrt(norm2);
    return error > 0 ? error * error : 0;
}

taut_status taut__grid_calibrate(const taut_call *c, const double *stats, int ranks, const float *src,
                                 taut_calibration *calibration)
{
    const taut_stage *s = taut__stage(c);
    float             step = 0;
    memset(calibration, 0, sizeof *calibration);
    bool ok = grid_all_finite(stats);
    if (ok && s->given >> GRID_KEY_STEP & 1) {
        step = (float)s->value[GRID_KEY_STEP];
        ok = grid_fits(stats, (double)step, ranks);
    } else if (ok && !(stats[GRID_STAT_NORM2] > 0)) {
        step = 1; /* all zero: any step will do */
    } else if (ok) {
        double error2 = s->value[GRID_KEY_REL] * stats[GRID_STAT_NORM2];
        bool   alone = src && ranks == 1 && c->tensor && c->n == c->tensor->elems && stats[GRID_STAT_N] == (double)c->n;
        if (alone) step = exact_step(c, stats, src, within_rounding(error2, stats[GRID_STAT_NORM2]) * (1 - margin));
        else step = taut__grid_estimate_step(stats, error2 / GRID_CAUTION, grid_dead(s));
        ok = grid_fits(stats, (double)step, ranks);
    }
    calibration->raw = !ok;
    calibration->f[GRID_CALIBRATED_STEP] = ok ? step : 0;
    return TAUT_OK;
}

bool taut__grid_reshaped(const taut_stage *s, const double *earlier, const double *now)
{
    return grid_reshaped(s->given >> GRID_KEY_STEP & 1, earlier, now);
}

grid_aim taut__grid_aim(const taut_stage *s)
{
    return (grid_aim){.given = s->given >> GRID_KEY_STEP & 1,
                      .step = (float)s->value[GRID_KEY_STEP],
                      .rel = s->value[GRID_KEY_REL],
                      .dead = s->value[GRID_KEY_DEAD]};
}

taut_status taut__grid_adapt(const taut_call *c, const double *earlier, const double *now, int ranks,
                             taut_calibration *calibration)
{
    grid_aim aim = taut__grid_aim(taut__stage(c));
    calibration->raw =
        !grid_adapt_step(&aim, calibration->raw, earlier, now, ranks, &calibration->f[GRID_CALIBRATED_STEP]);
    return TAUT_OK;
}
