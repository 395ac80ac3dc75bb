/* test_measured.c : what the statistics report as the aggregate's error is the aggregate's error, for every codec, whatever ranks
 * have in common. */
#include "../support/truth.h"
#include "comm/base/base.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 24, FIRST = 2 };

static const truth_shape shapes[] = {{"a", 256, 320}, {"bias", 1, 256}, {"b", 64, 256}};
static const char *const codecs[] = {
    "quant:bits=4",
    "quant:bits=1",
    "quant:bits=2,round=nearest",
    "grid:rel=0.03",
    "grid:rel=0.3,code=rans",
    "topk:density=0.01",
    "topk:density=0.2",
    "randk:density=0.1",
    "powersgd:rank=2",
    "fp16",
    "bf16",
    "stack:topk:density=0.05+quant:bits=4",
};
enum { CODECS = sizeof codecs / sizeof *codecs };
static const double shares[] = {0, 0.5, 1}; /* of the variance, in common */

static double uniform(taut__rng g, uint32_t i) { return (taut__random32(g, i) + 0.5) / 4294967296.0 - 0.5; }

/* Rows of differing size, heavy tails. *model: the share of the variance that all ranks see. */
static void draw(truth *t, int rank, int step, int layer, float *g)
{
    double    share = *(double *)t->model, mine = sqrt(1 - share), common = sqrt(share);
    taut__rng own = taut__rng_of(taut__seed((uint64_t)step, (uint64_t)rank), (uint64_t)layer << 32);
    taut__rng all = taut__rng_of(taut__seed((uint64_t)step, 99), (uint64_t)layer << 32);
    size_t    cols = t->shape[layer].cols, n = t->shape[layer].rows * cols;
    double    row = 0;
    for (size_t i = 0; i < n; i++) {
        double u = uniform(own, (uint32_t)i), v = uniform(all, (uint32_t)i);
        if (i % cols == 0) row = exp(1.2 * sin((double)(i / cols) * 1.3 + layer));
        g[i] = (float)(row * (mine * u * fabs(u) + common * v * fabs(v)) * 8);
    }
}

static void one(const char *codec, int ranks, double share, const char *feedback)
{
    static truth_step step[STEPS];
    taut_config       cfg = TAUT_CONFIG_INIT;
    double            ratio[STEPS];
    int               outside = 0, n = 0;
    cfg.codec = codec;
    cfg.feedback = feedback;
    cfg.metric = "plain";
    truth t = {.ranks = ranks,
               .layers = 3,
               .steps = STEPS,
               .shape = shapes,
               .cfg = cfg,
               .gradient = draw,
               .model = &share,
               .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s: %s", codec, t.why);
    ck_assert(t.same_bits);
    for (int s = FIRST; s < STEPS; s++) {
        const taut_comm_stats *q = &step[s].stats;
        ck_assert_int_eq(q->measured, 1);
        ratio[n++] = q->rel_err2 / step[s].rel;
        outside += step[s].rel < q->rel_err2_low * 0.999 || step[s].rel > q->rel_err2_high * 1.001;
    }
    double least = INFINITY, most = 0, median;
    for (int i = 0; i < n; i++) least = fmin(least, ratio[i]), most = fmax(most, ratio[i]);
    median = truth_median(ratio, n);
    printf("  %-38s %d ranks share %.1f feedback %-3s true %.3e reported/true %.3f (%.3f..%.3f), interval +-%.0f%%, "
           "outside %d of %d\n",
           codec, ranks, share, feedback, step[STEPS - 1].rel, median, least, most,
           50 * (step[STEPS - 1].stats.rel_err2_high - step[STEPS - 1].stats.rel_err2_low) /
               step[STEPS - 1].stats.rel_err2,
           outside, n);
    ck_assert_msg(median > 0.9 && median < 1.1, "%s: reported over true %g", codec, median);
    ck_assert_int_le(outside, 2); /* deviations last for some steps where there are few blocks */
}

START_TEST(reports_the_true_error)
{
    static const int ranks[] = {2, 3, 8, 4};
    bool             one_bit = strcmp(codecs[_i], "quant:bits=1") == 0; /* takes no feedback */
    for (int s = suite_long() ? 0 : _i % 3; s < (suite_long() ? 3 : _i % 3 + 1); s++)
        for (int f = 0; f < 2 - one_bit; f++) one(codecs[_i], ranks[(_i + s + 2 * f) % 4], shares[s], f ? "on" : "off");
}
END_TEST

/* What ranks share shows where a step sums a layer more than once, too. */
START_TEST(of_several_sums)
{
    static truth_step step[STEPS];
    double            ratio[STEPS], share = 1;
    truth             t = {.ranks = 4,
                           .layers = 3,
                           .steps = STEPS,
                           .shape = shapes,
                           .cfg = {.size = sizeof t.cfg, .codec = "grid:rel=0.1", .metric = "plain", .feedback = "off"},
                           .gradient = draw,
                           .sums = 3,
                           .model = &share,
                           .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    for (int s = FIRST; s < STEPS; s++) {
        ck_assert_int_eq(step[s].stats.measured, 1);
        ratio[s - FIRST] = step[s].stats.rel_err2 / step[s].rel;
    }
    double median = truth_median(ratio, STEPS - FIRST);
    ck_assert_msg(median > 0.9 && median < 1.1, "reported over true %g", median);
}
END_TEST

/* Errors in units of a scale are measured whatever the size of gradients and scale: their squares may be beyond what a float holds. */
typedef struct sized {
    double share, size; /* the former as draw() has it */
} sized;

static void draw_sized(truth *t, int rank, int step, int layer, float *g)
{
    double size = ((sized *)t->model)->size;
    draw(t, rank, step, layer, g);
    for (size_t i = 0; i < t->shape[layer].rows * t->shape[layer].cols; i++) g[i] = (float)(g[i] * size);
}

static float units[3][256 * 320];

static const float *scale_sized(truth *t, int step, int layer)
{
    (void)t, (void)step;
    return units[layer];
}

static void fill_units(double size)
{
    for (int l = 0; l < 3; l++)
        for (size_t i = 0, cols = shapes[l].cols; i < shapes[l].rows * cols; i++)
            units[l][i] = (float)(size * (1 + (double)(i / cols % 7) + (double)(i % 3)));
}

START_TEST(in_units_of_any_scale)
{
    static const double sizes[] = {1e-25, 1e30};
    static truth_step   step[STEPS];
    double              ratio[STEPS];
    for (int k = 0; k < 2; k++) {
        sized model = {0.5, sizes[k]};
        fill_units(sizes[k]);
        truth t = {.ranks = 3,
                   .layers = 3,
                   .steps = STEPS,
                   .shape = shapes,
                   .cfg = {.size = sizeof t.cfg, .codec = "grid:rel=0.1", .feedback = "off"},
                   .gradient = draw_sized,
                   .scale = scale_sized,
                   .model = &model,
                   .step = step};
        truth_run(&t);
        ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
        for (int s = FIRST; s < STEPS; s++) ratio[s - FIRST] = step[s].stats.rel_err2_metric / step[s].rel_metric;
        double median = truth_median(ratio, STEPS - FIRST);
        ck_assert_msg(median > 0.9 && median < 1.1, "at %g: reported over true %g", sizes[k], median);
    }
}
END_TEST

/* Bytes of the statistics, samples included, over those of 2 bits per element; in the last step: in the first ones, which know little, more blocks
 * are taken. */
static double cost(int ranks, const truth_shape *shape, int layers, int steps)
{
    truth_step  step[40];
    taut_config cfg = TAUT_CONFIG_INIT;
    double      share = 0, two_bits = ranks == 2 ? 1 : 2.0 * (ranks - 1) / ranks;
    cfg.codec = "quant:bits=2";
    truth t = {.ranks = ranks,
               .layers = layers,
               .steps = steps,
               .shape = shape,
               .cfg = cfg,
               .gradient = draw,
               .model = &share,
               .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    return (double)step[steps - 1].bytes_control / (step[steps - 1].elements / 4 * two_bits);
}

START_TEST(costs_little)
{
    static const truth_shape large[] = {{"a", 2048, 1024}, {"b", 1024, 2048}}, small[] = {{"a", 256, 256}};
    double l2 = cost(2, large, 2, 3), l4 = cost(4, large, 2, 3), s2 = cost(2, small, 1, 40), s8 = cost(8, small, 1, 40);
    printf("  samples take %.2f%% and %.2f%% of 2 bits per element of 4 Mi elements on 2 and 4 ranks; of 64 Ki on 2 "
           "and 8: %.2f%% and %.2f%%\n",
           100 * l2, 100 * l4, 100 * s2, 100 * s8);
    ck_assert(l2 < 0.03 && l4 < 0.03 && s2 < 0.06 && s8 < 0.06);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("measured");
    TCase *t = suite_case(s, "measured", 120);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_add_loop_test(t, reports_the_true_error, 0, CODECS);
    tcase_add_test(t, costs_little);
    tcase_add_test(t, of_several_sums);
    tcase_add_test(t, in_units_of_any_scale);
    return suite_run(s);
}
