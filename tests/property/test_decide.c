/* test_decide.c : plans for time: predictions fall with the link's time for a byte, no plan that was left out is much better, none is
 * better than the reported bound, and what is chosen is what is predicted to be shortest. Random layers and options, shaped
 * like those of real codecs. */
#include "scheduler/decide.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 12, OPTIONS = 9 };

static uint64_t state;
static double   uniform(void) { return (double)(taut__mix64(++state) >> 11) * 0x1p-53; }
static double   between(double a, double b) { return a + (b - a) * uniform(); }
static double   logarithmic(double a, double b) { return a * pow(b / a, uniform()); }

static taut__offer        layer[LAYERS];
static taut__option       option[LAYERS * OPTIONS];
static taut__observations seen = {.layer = layer, .option = option};

static taut__option lossy(double elems, double contention)
{
    double       bits = logarithmic(0.05, 16), speed = logarithmic(3e8, 1e10) / contention;
    taut__option o = {.error = elems * exp2(-2 * bits) * between(0.5, 2), .kind = uniform() < 0.5};
    bool         linear = uniform() < 0.15;
    o.work = (taut__work){4 * elems,
                          bits / 8 * elems + 64,
                          bits / 8 * elems * between(1, 1.6) + 64,
                          4 * elems / speed + 3e-6,
                          4 * elems / speed * between(0.5, 1) + 3e-6,
                          linear ? 2 : 1,
                          1u << (linear            ? TAUT_VIA_NATIVE
                                 : uniform() < 0.7 ? TAUT_VIA_SRA
                                                   : TAUT_VIA_GATHER),
                          uniform() < 0.4};
    return o;
}

static void draw(uint64_t number, size_t layers, size_t options)
{
    state = taut__mix64(number + 77);
    double contention = between(1, 4);
    seen.layers = layers;
    seen.options = 0;
    for (size_t l = 0; l < layers; l++) {
        double elems = floor(logarithmic(1024, 4e6));
        layer[l] = (taut__offer){.elems = (size_t)elems,
                                 .norm2 = elems,
                                 .first = seen.options,
                                 .n = 1 + (size_t)(uniform() * (double)options)};
        snprintf(layer[l].name, sizeof layer[l].name, "layer%zu", l);
        for (size_t i = 0; i < layer[l].n; i++) {
            taut__option *o = &option[seen.options++];
            *o = lossy(elems, contention);
            if (i == 0)
                *o = (taut__option){.dense = true,
                                    .work = {4 * elems, 4 * elems, 4 * elems, 0, 0, 1, 1u << TAUT_VIA_NATIVE, 0}};
            snprintf(o->spec, sizeof o->spec, "codec%zu", i);
        }
    }
}

static double norm2(void)
{
    double sum = 0;
    for (size_t l = 0; l < seen.layers; l++) sum += layer[l].norm2;
    return sum;
}

static taut__decision decide(const taut__demand *demand, uint32_t *chosen)
{
    taut__decision d = {.option = chosen};
    ck_assert_int_eq(taut__decide(&seen, demand, &d), TAUT_OK);
    return d;
}

START_TEST(a_faster_link_is_never_slower)
{
    static const int ranks[] = {2, 3, 4, 8, 16, 64, 256};
    uint32_t         chosen[LAYERS];
    for (uint64_t k = 0; k < 120; k++) {
        draw(k, 1 + k % LAYERS, OPTIONS);
        for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
            taut__demand demand = {.budget = logarithmic(1e-4, 0.6) * norm2(),
                                   .objective = TAUT_OBJECTIVE_TIME,
                                   .solver = k % 20 ? "hull" : "dp",
                                   .bins = 500};
            double       latency = logarithmic(1e-6, 2e-4), before = INFINITY;
            for (double bits = 1e8; bits < 1e12; bits *= 1.7) {
                demand.link = taut__link_simple(ranks[i], bits, latency);
                taut__decision d = decide(&demand, chosen);
                ck_assert_msg(d.seconds <= before * (1 + 1e-12),
                              "problem %d, %d ranks, %.3g bit/s: %.6g ms after %.6g ms", (int)k, ranks[i], bits,
                              1e3 * d.seconds, 1e3 * before);
                ck_assert(d.seconds <= d.dense_seconds && d.gap >= 0 && d.gap < 1 &&
                          d.error <= demand.budget * (1 + 1e-12));
                before = d.seconds;
            }
        }
    }
}
END_TEST

/* The least predicted seconds of all plans within the budget, each appraised as a plan that stands is. */
static double best_of_all(const taut__demand *demand)
{
    uint32_t at[LAYERS] = {0}, choice[LAYERS];
    double   best = INFINITY;
    for (;;) {
        double error, cost;
        size_t l = 0;
        for (size_t i = 0; i < seen.layers; i++) choice[i] = (uint32_t)layer[i].first + at[i];
        taut__appraise(&seen, demand, choice, &error, &cost);
        if (error <= demand->budget && cost < best) best = cost;
        while (l < seen.layers && ++at[l] == layer[l].n) at[l++] = 0;
        if (l == seen.layers) return best;
    }
}

START_TEST(near_the_best_of_all_plans)
{
    uint32_t chosen[LAYERS];
    double   worst = 1, mean = 0;
    int      n = 0;
    for (uint64_t k = 0; k < 1500; k++) {
        draw(k + 5000, 1 + k % 4, 6);
        taut__demand demand = {.budget = logarithmic(1e-4, 0.6) * norm2(),
                               .objective = TAUT_OBJECTIVE_TIME,
                               .solver = "hull",
                               .tight = k % 2};
        demand.link =
            taut__link_simple(2 + (int)(uniform() * 63), logarithmic(k % 3 ? 1e8 : 1e4, 4e11), logarithmic(1e-6, 1e-4));
        taut__decision d = decide(&demand, chosen);
        double         best = best_of_all(&demand);
        ck_assert_msg(best >= (1 - d.gap) * d.seconds * (1 - 1e-9),
                      "problem %d: %.4g ms, gap %.3f, but %.4g ms is possible", (int)k, 1e3 * d.seconds, d.gap,
                      1e3 * best);
        worst = fmax(worst, d.seconds / best);
        mean += d.seconds / best;
        n++;
    }
    printf("  over the best of all plans: mean %.4f, worst %.3f\n", mean / n, worst);
    ck_assert(mean / n < 1.01);
    ck_assert(worst < 1.25); /* a few options: budgets that only one odd combination uses up */
}
END_TEST

START_TEST(left_out_is_not_chosen)
{
    uint32_t chosen[LAYERS];
    for (uint64_t k = 0; k < 100; k++) {
        draw(k + 9000, LAYERS, OPTIONS);
        taut__demand demand = {.budget = 0.5 * norm2(),
                               .objective = k % 2 ? TAUT_OBJECTIVE_TIME : TAUT_OBJECTIVE_BYTES,
                               .solver = "hull",
                               .leave_out = 1};
        demand.link = taut__link_simple(4, 1e9, 1e-5);
        decide(&demand, chosen);
        for (size_t l = 0; l < seen.layers; l++) ck_assert(option[chosen[l]].dense || option[chosen[l]].kind == 0);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("decide");
    TCase *t = suite_case(s, "decide", 120);
    tcase_add_test(t, a_faster_link_is_never_slower);
    tcase_add_test(t, near_the_best_of_all_plans);
    tcase_add_test(t, left_out_is_not_chosen);
    return suite_run(s);
}
