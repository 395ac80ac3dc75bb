/* grid_steps.h : from statistics to a step, as far as the CPU and the GPU share it: windows of octaves, numbered steps, and what may
 * be asked of them. Doubles, each operation rounded alone, so that both give the same bits. */
#ifndef TAUT_GRID_STEPS_H
#define TAUT_GRID_STEPS_H

#include "grid_stats.h"

enum { GRID_STEP_BITS = 7 }; /* steps are floats with 7 bits of mantissa: 128 per octave, 0.5-0.8% apart */
#define GRID_CAUTION 1.02    /* shared steps: estimates of this many times the truth still keep the promise */
/* Largest number of codes that may be added: p * q_max < 2^31. */
#define GRID_CODES_MAX 2147483520.0
#ifndef FLT_TRUE_MIN /* of C++17's <cfloat>, under its C name */
#define FLT_TRUE_MIN 0x1p-149f
#endif

/* ---- the window of octaves ---- */

/* Exponent at which bin 0 begins. */
TAUT_INLINE int grid_lowest(const double *stats)
{
    const double most = 4096; /* octaves: more than doubles have; statistics come from peers and checkpoints, too */
    return stats[GRID_STAT_N] > 0 ? (int)lrint(fmin(fmax(stats[GRID_STAT_LOWEST] / stats[GRID_STAT_N], -most), most))
                                  : grid_window_of(0);
}

/* Bin b becomes bin b - by; what leaves the window goes to its first or last bin. */
TAUT_INLINE void grid_shift_bins(double *bin, int bins, int by)
{
    double moved[GRID_BINS] = {0};
    if (by == 0) return;
    for (int b = 0; b < bins; b++) {
        int to = b - by;
        moved[to < 0 ? 0 : to >= bins ? bins - 1 : to] += bin[b];
    }
    memcpy(bin, moved, (size_t)bins * sizeof *bin);
}

TAUT_INLINE void grid_shift_octaves(double *stats, int by)
{
    grid_shift_bins(stats + GRID_STAT_BIN, GRID_BINS, by * GRID_BINS_PER_OCTAVE);
    grid_shift_bins(stats + GRID_STAT_BLOCK, GRID_OCTAVES, by);
}

TAUT_INLINE void grid_set_window(double *stats, int lowest)
{
    grid_shift_octaves(stats, lowest - grid_lowest(stats));
    stats[GRID_STAT_LOWEST] = lowest * stats[GRID_STAT_N];
}

/* ---- errors ---- */

/* Integral of the squared error, in steps, over t from 0 to `t`: a cubic in the dead zone, then in every
 * step. */
TAUT_INLINE double grid_error_integral(double t, double dead)
{
    double lower = 1 - dead, k = floor(t + lower), e = t - k;
    if (k < 1) return t * t * t / 3;
    return (dead * dead * dead + (k - 1) * (dead * dead * dead + lower * lower * lower) + e * e * e +
            lower * lower * lower) /
           3;
}

/* Likewise, of its square. */
TAUT_INLINE double grid_square_integral(double t, double dead)
{
    double lower = 1 - dead, k = floor(t + lower), e = t - k;
    double below = lower * lower * lower * lower * lower, above = dead * dead * dead * dead * dead;
    if (k < 1) return t * t * t * t * t / 5;
    return (above + (k - 1) * (above + below) + e * e * e * e * e + below) / 5;
}

/* Of the squared errors, in steps, of values that are evenly spread over from..to: their mean; their variance; the largest. */
TAUT_INLINE double grid_mean_within(double from, double to, double width, double dead)
{
    return (grid_error_integral(to, dead) - grid_error_integral(from, dead)) / width;
}
TAUT_INLINE double grid_spread_within(double from, double to, double width, double mean, double dead)
{
    double square = (grid_square_integral(to, dead) - grid_square_integral(from, dead)) / width;
    return fmax(square - mean * mean, 0.0);
}

TAUT_INLINE double grid_worst_within(double from, double to, double dead)
{
    double lower = 1 - dead, k = floor(from + lower), at = fmax(fabs(from - k), fabs(to - k));
    return floor(to + lower) > k ? dead * dead : at * at;
}

/* Values of which there are few lie anywhere in their bins, and all elements of one value err alike. Of two elements taken at random: how
 * often are they of one value other than 0? 0: hardly ever, since errors of 200 values come to their mean. */
TAUT_INLINE double grid_alike(const double *stats)
{
    double alike = stats[GRID_STAT_SAMPLED] > 0 ? 2 * stats[GRID_STAT_EQUAL] / stats[GRID_STAT_SAMPLED] : 0;
    return alike >= 0.005 ? fmin(alike, 1.0) : 0;
}
/* By how much the sum of squared errors may be above that of spread values. spread: the largest variance within a bin, as if all values had
 * it; worst: what it would be if all erred as much as they can. */
TAUT_INLINE double grid_few_margin(const double *stats, double alike, double spread, double worst)
{
    const double sigmas = 4; /* values that are multiples of one err together */
    return fmin(sigmas * stats[GRID_STAT_SAMPLED] * sqrt(alike * spread), worst);
}

/* ---- steps ---- */

/* Steps are numbered: 128 per octave, in order. */
TAUT_INLINE float grid_step_at(
    int64_t index) /* among denormals the next one below, and then several numbers have one step */
{
    int64_t e = index >> GRID_STEP_BITS;
    double  step = ldexp(1.0 + (double)(index & ((1 << GRID_STEP_BITS) - 1)) / (1 << GRID_STEP_BITS), (int)e);
    float   near = (float)step;
    return (double)near > step ? nextafterf(near, 0) : near;
}
TAUT_INLINE int64_t grid_step_index(double step) /* largest number whose step is <= step */
{
    int    e;
    double m = frexp(step, &e);
    return (int64_t)(e - 1) * (1 << GRID_STEP_BITS) + (int64_t)((m * 2 - 1) * (1 << GRID_STEP_BITS));
}
/* Numbers that the arithmetic can carry: no code of `ranks` summands reaches 2^31. The least float is a step too, exact for all
 * denormals. */
#define GRID_STEP_LEAST ((double)FLT_TRUE_MIN)
#define GRID_STEP_MOST  ((double)FLT_MAX / 4)
TAUT_INLINE int64_t grid_lowest_index(const double *stats, int ranks)
{
    double floor_step = sqrt(stats[GRID_STAT_NORM2]) * ranks / GRID_CODES_MAX;
    return floor_step < GRID_STEP_LEAST ? grid_step_index(GRID_STEP_LEAST) : grid_step_index(floor_step) + 1;
}
TAUT_INLINE int64_t grid_highest_index(const double *stats) /* at this step all is zero */
{
    return grid_step_index(fmin(fmax(2 * sqrt(stats[GRID_STAT_NORM2]) / 0.5, 8 * GRID_STEP_LEAST), GRID_STEP_MOST));
}

/* A step that the search found is used if it lies well inside the window. */
TAUT_INLINE bool grid_inside(const double *stats, double step)
{
    int lowest = grid_lowest(stats);
    return step >= ldexp(1.0, lowest + 2) && step <= ldexp(1.0, lowest + GRID_OCTAVES - 2);
}
TAUT_INLINE bool grid_searchable(const double *stats)
{
    return stats[GRID_STAT_SAMPLED] > 0 && !(stats[GRID_STAT_BAD] > 0) && stats[GRID_STAT_NORM2] > 0;
}

TAUT_INLINE bool grid_all_finite(const double *stats)
{
    return !(stats[GRID_STAT_BAD] > 0) && isfinite(stats[GRID_STAT_NORM2]) && isfinite(stats[GRID_STAT_PLAIN2]);
}
/* No code of the sum reaches 2^31. */
TAUT_INLINE bool grid_fits(const double *stats, double step, int ranks)
{
    return step > 0 && sqrt(stats[GRID_STAT_NORM2]) / step * ranks < GRID_CODES_MAX;
}

/* grid_aim : what a stage's keys say of the step, for kernels */
typedef struct grid_aim {
    bool   given; /* step, rather than rel */
    float  step;
    double rel, dead;
} grid_aim;

/* A tensor that is k times larger has the same relative error at a step k times larger. *step: of the earlier call, then of this one;
 * false: uncompressed this time. */
TAUT_INLINE bool grid_adapt_step(const grid_aim *aim, bool was_raw, const double *earlier, const double *now, int ranks,
                                 float *adapted)
{
    double step = (double)*adapted, then = earlier[GRID_STAT_NORM2], norm2 = now[GRID_STAT_NORM2];
    bool   ok = grid_all_finite(now) && !was_raw;
    if (ok && !(norm2 > 0) && !aim->given) {
        step = 1; /* all zero: any step will do */
    } else if (ok && !aim->given) {
        step = then > 0 ? step * sqrt(norm2 / then) : 0;
        ok = step >= GRID_STEP_LEAST && step < GRID_STEP_MOST;
        if (ok) step = (double)grid_step_at(grid_step_index(step));
    }
    ok = ok && grid_fits(now, step, ranks);
    *adapted = ok ? (float)step : 0;
    return ok;
}

/* ---- another shape ---- */

/* The mean magnitude, squared, over the mean square: 1 where all are of one magnitude, 0.64 of a normal distribution, little where few
 * elements hold the norm. */
TAUT_INLINE double grid_evenness(const double *stats)
{
    double all = stats[GRID_STAT_N] * stats[GRID_STAT_NORM2];
    return all > 0 ? stats[GRID_STAT_ABS] * stats[GRID_STAT_ABS] / all : 0;
}

/* Of the first GRID_BRIEF numbers, of all ranks; given: the step is, so shapes do not matter. */
TAUT_INLINE bool grid_reshaped(bool given, const double *earlier, const double *now)
{
    double before = grid_evenness(earlier), after = grid_evenness(now);
    if (given || !(after > 0) || !grid_all_finite(now)) return false;
    double most =
        1.25 + 4 / sqrt(after * now[GRID_STAT_N]); /* that product is about how many elements make the norm: noise */
    return !(after <= most * before && before <= most * after);
}

#endif
