/* test_first_planned.c : the first plan keeps its budget, whatever the gradients' values are distributed like, and whatever their sum then is:
 * sums of even values are uneven, and a codec that encodes the sum once more loses a larger part of it. */
#include "../support/truth.h"
#include "comm/base/base.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 12 };
static const double ROUNDING = 1e-13; /* of the exact sums' float32, squared and relative */

static const truth_shape shapes[] = {{"a", 256, 160}, {"bias", 1, 192}, {"b", 160, 64}};

typedef enum kind {
    UNIFORM,
    SINE,
    TWO,
    TWO_NOISY,
    THREE,
    SIXTEEN,
    MINIFLOAT,
    TRIANGLE,
    GAUSSIAN,
    LAPLACE,
    HEAVY,
    SHARED,
    KINDS
} kind;

static const char *const kind_name[] = {"uniform",
                                        "arcsine",
                                        "two levels",
                                        "two noisy levels",
                                        "three levels",
                                        "sixteen levels",
                                        "three bits of mantissa",
                                        "triangle",
                                        "Gaussian",
                                        "Laplace",
                                        "heavy tails",
                                        "half shared"};

static double uniform(uint64_t a, uint64_t b, uint64_t c)
{
    return ((double)(taut__seed(taut__seed(a, b), c) >> 11) + 0.5) * 0x1p-53;
}

static double gaussian(uint64_t a, uint64_t b, uint64_t c)
{
    return sqrt(-2 * log(uniform(a, b, c))) * cos(2 * acos(-1) * uniform(a, b + 1000, c));
}

static double minifloat(double x)
{
    int    e;
    double m = frexp(x, &e);
    return ldexp(rint(16 * m) / 16, e);
}

static double value(kind k, uint64_t rank, uint64_t step, uint64_t i)
{
    double u = 2 * uniform(step, rank, i) - 1;
    switch (k) {
    case SINE: return sin(acos(-1) * u);
    case TWO: return copysign(0.6, u);
    case TWO_NOISY: return copysign(1, u) + 0.1 * gaussian(step, rank, i);
    case THREE: return round(1.5 * u);
    case SIXTEEN: return 0.7 * floor(8 * u) + 0.35;
    case MINIFLOAT: return minifloat(gaussian(step, rank, i));
    case TRIANGLE: return u + 2 * uniform(step, rank + 500, i) - 1;
    case GAUSSIAN: return gaussian(step, rank, i);
    case LAPLACE: return copysign(log(1 - fabs(u)), u);
    case HEAVY: return u * u * u * u * u;
    case SHARED: return u + 2 * uniform(step, 500, i) - 1;
    default: return u;
    }
}

static void fill(truth *t, int rank, int step, int layer, float *g)
{
    kind k = *(const kind *)t->model;
    for (size_t i = 0; i < t->shape[layer].rows * t->shape[layer].cols; i++)
        g[i] = (float)value(k, (uint64_t)rank, (uint64_t)step, i + ((uint64_t)layer << 32));
}

typedef struct seen {
    int    planned, over, uncounted;
    double worst, first; /* error over budget, squared: of any planned step, of the first */
    char   spec[64];
} seen;

static seen run(kind k, const char *budget, const char *objective, int ranks)
{
    static truth_step step[STEPS];
    taut_config       cfg = TAUT_CONFIG_INIT;
    seen              r = {0};
    cfg.budget = budget;
    cfg.objective = objective;
    if (strcmp(objective, "bytes") == 0) cfg.link = "100mbit"; /* it asks no clock: no speeds to be measured */
    if (strncmp(budget, "like:", 5) == 0)
        cfg.feedback = "off"; /* the reference is tried on gradients (truth.h), not on what feedback adds to them */
    cfg.timeout_ms = suite_patience(30000);
    truth t = {.ranks = ranks,
               .layers = 3,
               .steps = STEPS,
               .shape = shapes,
               .cfg = cfg,
               .gradient = fill,
               .reference = strncmp(budget, "like:", 5) == 0 ? budget + 5 : NULL,
               .model = &k,
               .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    ck_assert(t.same_bits);
    for (int s = 0; s < STEPS; s++) {
        const truth_step *x = &step[s];
        double            allowed = t.reference ? x->reference : x->stats.budget;
        if (!x->planned || !(allowed > 0)) continue;
        double q = (x->rel_metric - ROUNDING) / allowed;
        if (r.planned++ == 0) r.first = q;
        r.worst = fmax(r.worst, q);
        r.over += q > 1.1;
        r.uncounted += q > 1.1 && !x->counted;
    }
    printf("  %-22s %-18s %-5s %d ranks: first %.3f worst %.3f, %d of %d over, %d unseen\n", kind_name[k], budget,
           objective, ranks, r.first, r.worst, r.over, r.planned, r.uncounted);
    return r;
}

static const char *const budgets[] = {"rel=1e-12", "rel=1e-7",          "rel=0.3",          "rel=0.1",
                                      "rel=0.01",  "like:quant:bits=4", "like:quant:bits=2"};
enum { BUDGETS = sizeof budgets / sizeof *budgets };

START_TEST(keeps_its_budget)
{
    static const int ranks[] = {2, 3, 4, 7};
    for (int b = 0; b < BUDGETS; b++)
        for (int r = 0; r < 4; r++)
            for (int o = 0; o < 2; o++) {
                bool few = _i >= TWO && _i <= MINIFLOAT && b == 1 && r == 0 && o == 0; /* what overstepped once */
                if (!suite_long() && !few && (3 * b + r + 4 * o + _i) % 16) continue;
                seen s = run((kind)_i, budgets[b], o ? "time" : "bytes", ranks[r]);
                ck_assert_int_eq(s.uncounted, 0);
                ck_assert_int_le(s.over, 1);
                ck_assert_double_le(s.worst, 1.2);
                ck_assert_double_le(s.first, 1.1);
            }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("first planned");
    TCase *t = suite_case(s, "first planned", 120);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_add_loop_test(t, keeps_its_budget, 0, KINDS);
    return suite_run(s);
}
