/* test_plan.c : the solvers against exhaustive search on thousands of random problems, and their speed. */
#include "comm/base/base.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <string.h>

enum { LAYERS = 1000, CANDIDATES = 32 };

typedef struct problem {
    taut_plan_problem p;
    size_t            first[LAYERS + 1];
    double            error[LAYERS * CANDIDATES], cost[LAYERS * CANDIDATES];
    double            least, most; /* sums of the layers' least and largest errors */
} problem;

static problem  pb;
static uint64_t seed = 20261121;
static uint64_t drawn;

static double uniform(void)
{
    drawn++;
    return taut__random32(taut__rng_of(seed, drawn), (uint32_t)drawn) / 4294967296.0;
}
static size_t below(size_t n) { return (size_t)(uniform() * (double)n); }

/* kinds of candidates: anything goes; rate-distortion curves of layers whose sizes differ by 10^4; few values, so that
 * ties and dominated candidates abound; a layer in four without gradient (all errors 0) */
enum { ANY, CURVES, TIES, SILENT, KINDS };

static void draw_candidate(int kind, double size, size_t i, size_t n, double *error, double *cost)
{
    double bits = 8.0 * (double)(i + 1) / (double)n;
    *error = uniform();
    *cost = uniform();
    if (kind == CURVES) {
        *error = size * exp2(-2 * bits) * (0.8 + 0.4 * *error);
        *cost = size * bits * (0.95 + 0.1 * *cost);
    }
    if (kind == TIES) {
        *error = floor(*error * 4);
        *cost = floor(*cost * 4);
    }
    if (kind == SILENT && size < 10) *error = 0;
}

static void draw(int kind, size_t layers, size_t candidates_max, bool exactly)
{
    size_t n = 0;
    pb.least = pb.most = 0;
    pb.p = (taut_plan_problem){sizeof pb.p, layers, pb.first, pb.error, pb.cost, 0, NULL, 0, 0};
    for (size_t l = 0; l < layers; l++) {
        size_t m = exactly ? candidates_max : 1 + below(candidates_max);
        double size = pow(10, 4 * uniform()), lo = INFINITY, hi = 0;
        for (size_t i = 0; i < m; i++) {
            draw_candidate(kind, size, i, m, &pb.error[n + i], &pb.cost[n + i]);
            lo = fmin(lo, pb.error[n + i]);
            hi = fmax(hi, pb.error[n + i]);
        }
        pb.least += lo;
        pb.most += hi;
        pb.first[l + 1] = n += m;
    }
}

static void sums(const uint32_t *choice, double *error, double *cost)
{
    *error = *cost = 0;
    for (size_t l = 0; l < pb.p.layers; l++) {
        double e = pb.error[pb.first[l] + choice[l]];
        *error += pb.p.unsquared ? sqrt(e) : e;
        *cost += pb.cost[pb.first[l] + choice[l]];
    }
}

static taut_status solve(const char *solver, double budget, uint32_t bins, uint32_t *choice, taut_plan_result *r)
{
    r->size = sizeof *r;
    pb.p.solver = solver;
    pb.p.budget = budget;
    pb.p.bins = bins;
    return taut_plan_solve(&pb.p, choice, r);
}

static void check_result(const uint32_t *choice, const taut_plan_result *r, double budget)
{
    double error, cost;
    sums(choice, &error, &cost);
    ck_assert_double_eq(error, r->error);
    ck_assert_double_eq(cost, r->cost);
    ck_assert(error <= budget);
    ck_assert(r->bound <= r->cost);
}

START_TEST(against_exhaustive)
{
    enum { CASES = 4000, BINS = 2000 };
    uint32_t         choice[6];
    taut_plan_result best, less, dp, hull;
    size_t           optimal_dp = 0, optimal_hull = 0;
    double           gap = 0;
    for (int c = 0; c < CASES; c++) {
        draw(c % KINDS, 1 + below(6), 6, false);
        pb.p.unsquared = c % 7 == 3;
        double root = sqrt((double)pb.p.layers), lo = pb.p.unsquared ? sqrt(pb.least) : pb.least;
        double hi = pb.p.unsquared ? root * sqrt(pb.most) : pb.most, u = uniform();
        double budget = lo + (hi - lo) * u * u * 1.1, fuzz;
        if (solve("exhaustive", budget, 0, choice, &best) == TAUT_E_INFEASIBLE) { /* unsquared: lo is no bound */
            ck_assert_int_eq(solve("hull", budget, 0, choice, &hull), TAUT_E_INFEASIBLE);
            ck_assert_int_eq(solve("dp", budget, BINS, choice, &dp), TAUT_E_INFEASIBLE);
            continue;
        }
        check_result(choice, &best, budget);
        fuzz = 1e-6 * best.cost + 1e-12;
        ck_assert_int_eq(solve("hull", budget, 0, choice, &hull), TAUT_OK);
        check_result(choice, &hull, budget);
        ck_assert(hull.bound <= best.cost + fuzz && hull.cost >= best.cost);
        ck_assert_int_eq(solve("dp", budget, BINS, choice, &dp), TAUT_OK);
        check_result(choice, &dp, budget);
        ck_assert(dp.bound <= best.cost + fuzz && dp.cost >= best.cost);
        if (solve("exhaustive", budget * (1 - 1.0 / BINS), 0, choice, &less) == TAUT_OK)
            ck_assert_msg(dp.cost <= less.cost + fuzz, "case %d: dp %g, optimum with a bin less %g", c, dp.cost,
                          less.cost);
        optimal_dp += dp.cost <= best.cost + fuzz;
        optimal_hull += hull.cost <= best.cost + fuzz;
        gap += hull.cost - best.cost > fuzz ? (hull.cost - best.cost) / best.cost : 0;
    }
    printf("optimal of %d: dp %zu, hull %zu (mean excess %.2f%%)\n", CASES, optimal_dp, optimal_hull,
           100 * gap / CASES);
    ck_assert_uint_gt(optimal_dp, CASES * 9 / 10);
    ck_assert_uint_gt(optimal_hull, CASES * 6 / 10);
}
END_TEST

/* What the solver takes of a core, whoever else uses it. */
static double core_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

START_TEST(large_problems_are_quick)
{
    static uint32_t     choice[LAYERS];
    taut_plan_result    dp, hull;
    static const double shares[] = {0.001, 0.03, 0.3};
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
            double budget, start, hull_s = INFINITY, dp_s = INFINITY;
            draw(kind, LAYERS, CANDIDATES, true);
            budget = pb.least + (pb.most - pb.least) * shares[i];
            for (int rep = 0; rep < 7; rep++) { /* the least of seven: neighbours on the machine */
                start = core_seconds();
                ck_assert_int_eq(solve("hull", budget, 0, choice, &hull), TAUT_OK);
                hull_s = fmin(hull_s, core_seconds() - start);
                check_result(choice, &hull, budget);
                start = core_seconds();
                ck_assert_int_eq(solve("dp", budget, 0, choice, &dp), TAUT_OK);
                dp_s = fmin(dp_s, core_seconds() - start);
                check_result(choice, &dp, budget);
            }
            printf("%d x %d, kind %d, share %g: hull %.1f ms gap %.2e, dp %.1f ms gap %.2e\n", LAYERS, CANDIDATES, kind,
                   shares[i], 1e3 * hull_s, hull.cost / hull.bound - 1, 1e3 * dp_s, dp.cost / dp.bound - 1);
            ck_assert(dp.cost <= hull.cost);
#ifdef NDEBUG
            ck_assert(hull_s < 0.05 && dp_s < 0.05);
#endif
        }
}
END_TEST

START_TEST(budget_met_exactly_or_not_at_all)
{
    uint32_t         choice[2];
    taut_plan_result r;
    draw(ANY, 2, 1, true);
    pb.error[0] = 0.1;
    pb.error[1] = 0.2;
    static const char *const solvers[] = {"hull", "dp", "exhaustive"};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(solve(solvers[i], 0.1 + 0.2, 0, choice, &r), TAUT_OK);
        ck_assert_int_eq(solve(solvers[i], 0.3 - 1e-9, 0, choice, &r), TAUT_E_INFEASIBLE);
        ck_assert_double_eq(r.error, 0.1 + 0.2); /* what the most exact would make */
    }
}
END_TEST

/* Numbers near the ends of what doubles hold: slopes that are infinite, budgets of which no bin is a part, costs beyond float. */
START_TEST(any_scale)
{
    static const double row[][3] = {{1e-320, 1, 1.5e-320}, {1e-300, 1e9, 1.5e-300},   {5e-324, 1, 5e-324},
                                    {1, 1e40, 1.5},        {1e-323, 1e300, 1.5e-323}, {1, 1e-50, 1.5}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        uint32_t         choice[2];
        taut_plan_result r, best;
        draw(ANY, 2, 3, true);
        for (size_t k = 0; k < 6; k++) { /* one layer of two may save */
            pb.error[k] = (double)(k % 3) * row[i][0];
            pb.cost[k] = (double)(2 - k % 3) * row[i][1] * (k < 3 ? 1 : 0.75);
        }
        ck_assert_int_eq(solve("exhaustive", row[i][2], 0, choice, &best), TAUT_OK);
        for (int dp = 0; dp < 2; dp++) {
            ck_assert_int_eq(solve(dp ? "dp" : "hull", row[i][2], 0, choice, &r), TAUT_OK);
            ck_assert_msg(r.bound <= best.cost && best.cost <= r.cost && r.bound >= 0 && r.error <= row[i][2],
                          "row %zu: cost %g, bound %g, optimum %g", i, r.cost, r.bound, best.cost);
        }
    }
}
END_TEST

START_TEST(layers_without_gradient_take_the_cheapest)
{
    uint32_t         choice[3];
    taut_plan_result r;
    draw(ANY, 3, 4, true);
    for (size_t i = 0; i < 12; i++) pb.error[i] = 0;
    ck_assert_int_eq(solve("hull", 0, 0, choice, &r), TAUT_OK);
    for (size_t l = 0; l < 3; l++)
        for (size_t i = 0; i < 4; i++) ck_assert(pb.cost[4 * l + choice[l]] <= pb.cost[4 * l + i]);
    ck_assert_double_eq(r.cost, r.bound);
    ck_assert_int_eq(solve("dp", 0, 0, choice, &r), TAUT_OK);
}
END_TEST

START_TEST(bad_problems_are_refused)
{
    uint32_t         choice[4];
    taut_plan_result r;
    draw(ANY, 4, 3, true);
    for (int feasible = 0; feasible < 2; feasible++) {
        r.cost = 7;
        ck_assert_int_eq(solve("simplex", feasible ? 9 : 0, 0, choice, &r), TAUT_E_INVALID);
        ck_assert_ptr_nonnull(strstr(taut_last_error(), "simplex"));
        ck_assert(r.cost == 0 && r.size == sizeof r); /* nothing of an earlier one */
    }
    ck_assert_int_eq(solve("hull", -1, 0, choice, &r), TAUT_E_RANGE);
    ck_assert_int_eq(solve("hull", NAN, 0, choice, &r), TAUT_E_RANGE);
    ck_assert_int_eq(solve("dp", 1, 2000000, choice, &r), TAUT_E_RANGE);
    pb.error[2] = NAN;
    ck_assert_int_eq(solve("hull", 1, 0, choice, &r), TAUT_E_RANGE);
    pb.error[2] = 0;
    pb.cost[5] = -1;
    ck_assert_int_eq(solve("hull", 1, 0, choice, &r), TAUT_E_RANGE);
    pb.cost[5] = 0;
    pb.first[3] = pb.first[2];
    ck_assert_int_eq(solve("hull", 1, 0, choice, &r), TAUT_E_INVALID);
    draw(ANY, LAYERS, CANDIDATES, true);
    ck_assert_int_eq(taut_plan_solve(NULL, choice, &r), TAUT_E_INVALID);
    pb.p.solver = "exhaustive";
    pb.p.budget = pb.most;
    static uint32_t many[LAYERS];
    ck_assert_int_eq(taut_plan_solve(&pb.p, many, &r), TAUT_E_RANGE);
}
END_TEST

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("plan");
    TCase *t = suite_case(s, "plan", 120);
    tcase_add_test(t, against_exhaustive);
    tcase_add_test(t, large_problems_are_quick);
    tcase_add_test(t, budget_met_exactly_or_not_at_all);
    tcase_add_test(t, any_scale);
    tcase_add_test(t, layers_without_gradient_take_the_cheapest);
    tcase_add_test(t, bad_problems_are_refused);
    return suite_run(s);
}
