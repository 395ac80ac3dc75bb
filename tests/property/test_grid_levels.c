/* A shared step from statistics, where gradients have few values: of single ones the histogram does not tell where in its bin they lie, and
 * all elements of one err alike. The error that was asked for is kept nevertheless; of many values nearly all of it is used. */
#include "compressors/grid/grid.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 6000, RANKS = 2 };
static const double DEAD = 0.65;

static double uniform(uint64_t a, uint64_t b) { return ((double)(taut__seed(a, b) >> 11) + 0.5) * 0x1p-53; }
static double gaussian(uint64_t a, uint64_t b)
{
    return sqrt(-2 * log(uniform(a, 2 * b))) * cos(2 * acos(-1) * uniform(a, 2 * b + 1));
}

typedef enum kind { LEVELS, PLACES, MINIFLOAT, ONE_BIG, KINDS } kind;

/* LEVELS: multiples of one; PLACES: at random; MINIFLOAT: Gaussian, so many to the octave; ONE_BIG: a third are one value, the others small. */
static float value(kind k, uint64_t seed, int levels, uint64_t i)
{
    double size = 0.2 + uniform(seed, 7), u = uniform(seed + 1, i), sign = uniform(seed + 2, i) < 0.5 ? -1 : 1;
    int    which = 1 + (int)(u * levels), e;
    if (k == LEVELS) return (float)(sign * size * which);
    if (k == PLACES) return (float)(sign * size * exp2(3 * uniform(seed + 3, (uint64_t)which)));
    if (k == ONE_BIG) return (float)(u < 1.0 / 3 ? sign * size : 1e-3 * size * gaussian(seed, i));
    double m = frexp(size * gaussian(seed, i), &e);
    return (float)ldexp(rint(m * 2 * levels) / levels / 2, e);
}

/* Error of one shared step over what was asked for. */
static double use(const float *x, double rel)
{
    double     stats[TAUT_STATS_MAX] = {0}, error = 0;
    codec_case k;
    case_open(&k, "grid", 1, N);
    ck_assert_int_eq(taut__op_collect_stats(k.codec, &k.call, x, stats), TAUT_OK);
    case_close(&k);
    double step = (double)taut__grid_estimate_step(stats, rel * stats[GRID_STAT_NORM2] / GRID_CAUTION, DEAD);
    ck_assert_msg(step > 0, "rel %g", rel);
    for (size_t i = 0; i < N; i++) {
        double t = fabs((double)x[i]) / step, e = t - floor(t + 1 - DEAD);
        error += e * e * step * step;
    }
    return error / (rel * stats[GRID_STAT_NORM2]);
}

typedef struct tally {
    int    n, over;
    double sum;
} tally;

static tally many(kind k, int levels, double most)
{
    static const double rels[] = {0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5, 1e-7};
    static float        x[N];
    tally               t = {0};
    for (uint64_t seed = 0; seed < (suite_long() ? 400 : 20); seed++) {
        for (uint64_t i = 0; i < N; i++) x[i] = value(k, 10 * seed, levels, i);
        for (size_t r = 0; r < sizeof rels / sizeof *rels; r++) {
            double u = use(x, rels[r]);
            t.n++, t.over += u > most, t.sum += u;
        }
    }
    return t;
}

START_TEST(few_values)
{
    static const int levels[] = {1, 2, 3, 5, 8, 16, 40, 128, 1024};
    for (int i = 0; i < 9; i++) {
        bool  spread = levels[i] >= 128 && _i != ONE_BIG; /* multiples of one still err by up to 1.18 times the mean */
        tally t = many((kind)_i, levels[i], spread ? 1.2 : 1.02);
        printf("  kind %d, %4d values: %d of %d over, %.2f used\n", _i, levels[i], t.over, t.n, t.sum / t.n);
        ck_assert_msg(t.over <= 0.01 * t.n, "kind %d, %d values: %d of %d over", _i, levels[i], t.over, t.n);
        ck_assert_double_ge(t.sum / t.n, !spread ? 0.2 : levels[i] == 128 ? 0.6 : 0.9);
    }
}
END_TEST

/* Of values that are all different nothing is equal, and the estimate is that of spread ones. */
START_TEST(alike_is_measured)
{
    static float x[N];
    double       want[] = {1, 0.5, 0.125, 0};
    for (int i = 0; i < 4; i++) {
        double     stats[TAUT_STATS_MAX] = {0};
        codec_case k;
        int        levels = want[i] > 0 ? (int)(1 / want[i]) : 0;
        for (uint64_t j = 0; j < N; j++) x[j] = levels ? value(LEVELS, 5, levels, j) : (float)gaussian(5, j);
        case_open(&k, "grid", 1, N);
        ck_assert_int_eq(taut__op_collect_stats(k.codec, &k.call, x, stats), TAUT_OK);
        case_close(&k);
        ck_assert_double_le(fabs(grid_alike(stats) - want[i]), 0.15 * want[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grid levels");
    TCase *t = suite_case(s, "grid levels", 60);
    tcase_add_loop_test(t, few_values, 0, KINDS);
    tcase_add_test(t, alike_is_measured);
    return suite_run(s);
}
