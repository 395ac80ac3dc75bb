/* test_budget.c : words of a plan's settings, weights, and decisions on small observations. */
#include "scheduler/decide.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(budgets_parse)
{
    taut__budget b;
    ck_assert_int_eq(taut__budget_parse("rel=0.03", &b), TAUT_OK);
    ck_assert(!b.like);
    ck_assert_double_eq(b.rel, 0.03);
    ck_assert_int_eq(taut__budget_parse("like:quant:bits=4,bucket=512", &b), TAUT_OK);
    ck_assert(b.like);
    ck_assert_str_eq(b.reference, "quant:bits=4,bucket=512");
}
END_TEST

START_TEST(bad_budgets_are_refused)
{
    static const char *const bad[] = {"",        "rel",      "rel=",  "rel=0", "rel=-0.1", "rel=1", "rel=2",  "rel=nan",
                                      "rel=inf", "rel=0.1x", "like:", "like",  "0.03",     "abs=3", "rel= 0x"};
    taut__budget             b;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_lt(taut__budget_parse(bad[i], &b), 0);
        ck_assert_ptr_nonnull(strstr(taut_last_error(), bad[i]));
        ck_assert_ptr_nonnull(strstr(taut_last_error(), "0 < X < 1"));
    }
    ck_assert_int_lt(taut__budget_parse(NULL, &b), 0);
}
END_TEST

START_TEST(words_parse)
{
    taut__metric    m;
    taut__objective o;
    ck_assert_int_eq(taut__metric_parse("layer", &m), TAUT_OK);
    ck_assert_int_eq(m, TAUT_METRIC_LAYER);
    ck_assert_int_eq(taut__metric_parse(NULL, &m), TAUT_OK);
    ck_assert_int_eq(m, TAUT_METRIC_OPTIMIZER);
    ck_assert_int_eq(taut__metric_parse("l2", &m), TAUT_E_INVALID);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "plain, layer or optimizer"));
    ck_assert_int_eq(taut__objective_parse("bytes", &o), TAUT_OK);
    ck_assert_int_eq(o, TAUT_OBJECTIVE_BYTES);
    ck_assert_int_eq(taut__objective_parse("", &o), TAUT_OK);
    ck_assert_int_eq(o, TAUT_OBJECTIVE_TIME);
    ck_assert_int_eq(taut__objective_parse("speed", &o), TAUT_E_INVALID);
}
END_TEST

START_TEST(weights)
{
    ck_assert_double_eq(taut__layer_weight(100, 4, 4), 25); /* mean square 0.04 */
    ck_assert_double_eq(taut__layer_weight(100, 0, 0), 0);
    ck_assert_double_eq(taut__layer_weight(100, 0, 4), 25000); /* cancelled: no division by zero */
}
END_TEST

/* Two layers: small (dense only) and large (dense, fp16-like, coarse). */
static taut__offer  offers[] = {{"bias", 100, 1, 0, 1}, {"weight", 1000000, 100, 1, 3}};
static taut__option options[] = {
    {"none", true, 0, {400, 400, 400, 0, 0, 1, 1, 0}, 0, 0},
    {"none", true, 0, {4e6, 4e6, 4e6, 0, 0, 1, 1, 0}, 0, 0},
    {"fp16", false, 1e-6, {4e6, 2e6, 2e6, 5e-4, 5e-4, 1, 14, 0}, 0, 0},
    {"quant:bits=4", false, 1, {4e6, 5e5, 5e5, 1e-3, 1e-3, 1, 14, 0}, 0, 0},
};
static const taut__observations seen = {2, 4, offers, options};

static taut__decision decide(double budget, taut__objective objective, double gbit)
{
    static uint32_t option[2];
    taut__demand    demand = {budget, objective, "hull", 0, false, 0, taut__link_simple(2, gbit * 1e9, 20e-6),
                              false,  false};
    taut__decision  d = {.option = option};
    ck_assert_int_eq(taut__decide(&seen, &demand, &d), TAUT_OK);
    return d;
}

START_TEST(decisions_follow_budget_and_link)
{
    taut__decision d = decide(2, TAUT_OBJECTIVE_BYTES, 1);
    ck_assert_uint_eq(d.option[0], 0);
    ck_assert_uint_eq(d.option[1], 3);
    ck_assert_double_eq(d.bytes, 400 + 5e5);
    ck_assert(d.seconds < d.dense_seconds / 6);
    d = decide(0.5, TAUT_OBJECTIVE_BYTES, 1);
    ck_assert_uint_eq(d.option[1], 2);
    d = decide(1e-9, TAUT_OBJECTIVE_BYTES, 1); /* tighter than fp16 */
    ck_assert_uint_eq(d.option[1], 1);
    ck_assert(d.feasible);
    d = decide(2, TAUT_OBJECTIVE_TIME, 1);
    ck_assert_uint_eq(d.option[1], 3);
    d = decide(2, TAUT_OBJECTIVE_TIME, 400); /* coding takes longer than the wire */
    ck_assert_uint_eq(d.option[1], 1);
    ck_assert_double_eq(d.seconds, d.dense_seconds);
}
END_TEST

START_TEST(hash_depends_on_names_and_specs)
{
    uint64_t a = decide(2, TAUT_OBJECTIVE_BYTES, 1).hash;
    ck_assert_uint_eq(a, decide(2, TAUT_OBJECTIVE_TIME, 1).hash);
    ck_assert_uint_ne(a, decide(0.5, TAUT_OBJECTIVE_BYTES, 1).hash);
    ck_assert_uint_ne(taut__plan_hash(0, "ab", "c"), taut__plan_hash(0, "a", "bc"));
    ck_assert_uint_ne(taut__plan_hash(0, "a", "b"), taut__plan_hash(1, "a", "b"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("budget");
    TCase *t = suite_case(s, "budget", 0);
    tcase_add_test(t, budgets_parse);
    tcase_add_test(t, bad_budgets_are_refused);
    tcase_add_test(t, words_parse);
    tcase_add_test(t, weights);
    tcase_add_test(t, decisions_follow_budget_and_link);
    tcase_add_test(t, hash_depends_on_names_and_specs);
    return suite_run(s);
}
