/* test_time_model.c : hops, bytes and codec work per algorithm; choice; refinement from observations. */
#include "scheduler/time_model.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>

static taut__work dense(double bytes) { return (taut__work){bytes, bytes, bytes, 0, 0, 1, 1u << TAUT_VIA_NATIVE, 0}; }
static taut__work coded(double bytes, double ratio, double gb_per_s)
{
    double s = bytes / (1e9 * gb_per_s);
    return (taut__work){
        bytes, bytes / ratio, bytes / ratio, s, s, 1, 1u << TAUT_VIA_SRA | 1u << TAUT_VIA_RING | 1u << TAUT_VIA_GATHER,
        0};
}

START_TEST(two_nodes_at_one_gigabit)
{
    /* 16 MiB: the wire floor is 134 ms, and Open MPI was measured at 144 */
    taut__link link = taut__link_simple(2, 1e9, 30e-6);
    taut__work w = dense(1 << 24);
    double     native, seconds;
    ck_assert_int_eq(taut__algorithm_best(&link, &w, &native), TAUT_VIA_NATIVE);
    ck_assert_double_eq_tol(native, 0.134, 0.001);
    w = coded(1 << 24, 8, 4);
    taut__algorithm_best(&link, &w, &seconds);
    ck_assert(native / seconds > 6 && native / seconds < 8.1);
    link.ranks = 4;
    ck_assert_double_eq_tol(
        taut__algorithm_seconds(&link, TAUT_VIA_NATIVE, &(taut__work){1 << 24, 1 << 24, 1 << 24, 0, 0, 1, 1, 0}), 0.201,
        0.001);
}
END_TEST

START_TEST(slow_codec_loses_on_a_fast_link)
{
    taut__link link = taut__link_simple(2, 400e9, 1e-6);
    taut__work d = dense(1 << 24), c = coded(1 << 24, 8, 4);
    double     native, seconds;
    taut__algorithm_best(&link, &d, &native);
    taut__algorithm_best(&link, &c, &seconds);
    ck_assert(seconds > native);
}
END_TEST

START_TEST(one_rank_costs_nothing)
{
    taut__link link = taut__link_simple(1, 1e9, 1e-3);
    taut__work c = coded(1 << 20, 8, 1);
    for (int v = 0; v < TAUT_VIAS; v++)
        ck_assert_double_eq(taut__algorithm_seconds(&link, (taut__algorithm_id)v, &c), 0);
}
END_TEST

START_TEST(small_messages_take_the_fewest_hops)
{
    taut__link link = taut__link_simple(4, 1e9, 1e-3);
    taut__work c = coded(4096, 8, 4);
    double     seconds;
    ck_assert_int_eq(taut__algorithm_best(&link, &c, &seconds), TAUT_VIA_GATHER);
    c = coded(1 << 26, 8, 4);
    ck_assert_int_eq(taut__algorithm_best(&link, &c, &seconds), TAUT_VIA_SRA);
}
END_TEST

START_TEST(agreeing_costs_hops)
{
    taut__link link = taut__link_simple(4, 1e9, 1e-3);
    taut__work c = coded(1 << 20, 8, 4);
    double     alone = taut__algorithm_seconds(&link, TAUT_VIA_SRA, &c);
    c.agree = 1;
    ck_assert_double_eq_tol(taut__algorithm_seconds(&link, TAUT_VIA_SRA, &c) - alone, 2e-3, 1e-4); /* log2(4) hops */
    link.ranks = 16;
    ck_assert_double_gt(taut__algorithm_hops(TAUT_VIA_SRA, 16, &c),
                        taut__algorithm_hops(TAUT_VIA_SRA, 4, &c)); /* 15 peers, not 3 */
}
END_TEST

START_TEST(two_ranks_exchange_everything)
{
    taut__link link = taut__link_simple(2, 1e9, 1e-4);
    taut__work c = coded(1 << 24, 8, 4);
    double     seconds;
    c.vias = 1u << TAUT_VIA_SRA; /* what more ranks would do */
    ck_assert_int_eq(taut__algorithm_best(&link, &c, &seconds), TAUT_VIA_GATHER);
    link.ranks = 3;
    ck_assert_int_eq(taut__algorithm_best(&link, &c, &seconds), TAUT_VIA_SRA);
}
END_TEST

/* Native sums of codes in fields of a word: only where a link says how fast they are; then by what the two lines make of the size. */
START_TEST(fields_where_sums_are_fast)
{
    taut__link link = taut__link_simple(8, 200e9, 20e-6);
    taut__work small = {.dense_bytes = 1 << 18, .bytes = 1 << 14, .sum_bytes = 1 << 14, .rounds = 1};
    double     seconds, slow;
    small.vias = 1u << TAUT_VIA_SRA | 1u << TAUT_VIA_FIELDS;
    taut__work large = small;
    large.dense_bytes *= 4096, large.bytes *= 4096, large.sum_bytes *= 4096;
    ck_assert_int_eq(taut__vias(&link, &small), 1u << TAUT_VIA_SRA);
    ck_assert_int_eq(taut__algorithm_best(&link, &small, &seconds), TAUT_VIA_SRA);
    /* a sum that costs as much per byte moves 4 times the bytes, and half the latency pays for small layers only */
    link.line[TAUT_VIA_FIELDS] = (taut__line){2e-6, link.line[TAUT_VIA_SRA].beta};
    ck_assert_int_eq(taut__algorithm_best(&link, &small, &seconds), TAUT_VIA_FIELDS);
    ck_assert_int_eq(taut__algorithm_best(&link, &large, &slow), TAUT_VIA_SRA);
    /* a switch that adds as it passes on */
    link.line[TAUT_VIA_FIELDS].beta /= 8;
    ck_assert_int_eq(taut__algorithm_best(&link, &large, &seconds), TAUT_VIA_FIELDS);
    ck_assert(seconds < slow);
    double bytes = taut__algorithm_bytes(TAUT_VIA_FIELDS, 8, &large);
    ck_assert(fabs(bytes - 2 * 7.0 / 8 * large.dense_bytes / 4) < 1e-6 * bytes);
    ck_assert(taut__algorithm_bytes(TAUT_VIA_FIELDS, 64, &large) > 1.9 * bytes); /* fields of 16 bits */
}
END_TEST

/* Seven values at least, and the sum of all ranks' fits. */
START_TEST(fields_have_guard_bits)
{
    for (int p = 2; p <= 1 << 14; p++) {
        uint32_t bits = taut__field_bits(p);
        uint64_t top = bits == 32 ? INT32_MAX : (1u << bits) - 1, limit = top / (2 * (uint64_t)p);
        ck_assert_msg((bits == 8 || bits == 16 || bits == 32) && limit >= 3 && (uint64_t)p * 2 * limit <= top, "%d", p);
        if (bits > 8) ck_assert_msg(((1u << bits / 2) - 1) / (2 * (uint32_t)p) < 3, "%d: fewer bits would do", p);
    }
}
END_TEST

START_TEST(pipelining_hides_the_cheaper_part)
{
    taut__link link = taut__link_simple(2, 1e9, 0);
    taut__work c = coded(1 << 26, 8, 2);
    double     codec = taut__algorithm_codec_s(TAUT_VIA_SRA, 2, &c);
    double     wire = taut__algorithm_bytes(TAUT_VIA_SRA, 2, &c) * link.line[TAUT_VIA_SRA].beta;
    double     t = taut__algorithm_seconds(&link, TAUT_VIA_SRA, &c);
    ck_assert(t > fmax(codec, wire) && t < fmax(codec, wire) * 1.07);
    c.dense_bytes = 1000; /* one slice: nothing to overlap */
    ck_assert_double_eq_tol(taut__algorithm_seconds(&link, TAUT_VIA_SRA, &c),
                            codec + wire + taut__algorithm_load(&link, TAUT_VIA_SRA, &c).copy, 1e-9);
}
END_TEST

START_TEST(fit_finds_alpha_and_beta)
{
    taut__fit  fit = {0};
    taut__line prior = {1e-3, 1e-9}, line = taut__fit_line(&fit, prior);
    ck_assert_double_eq(line.alpha, prior.alpha);
    ck_assert_double_eq(line.beta, prior.beta);
    for (int i = 1; i <= 20; i++) taut__fit_add(&fit, 2, 1e5 * i, 2 * 5e-5 + 1e5 * i * 8e-9, 0.95);
    line = taut__fit_line(&fit, prior);
    ck_assert_double_eq_tol(line.alpha, 5e-5, 1e-9);
    ck_assert_double_eq_tol(line.beta, 8e-9, 1e-14);
    /* the link becomes ten times slower: old observations fade */
    for (int i = 1; i <= 200; i++)
        taut__fit_add(&fit, 2, 1e5 * (i % 20 + 1), 2 * 5e-5 + 1e5 * (i % 20 + 1) * 8e-8, 0.95);
    line = taut__fit_line(&fit, prior);
    ck_assert_double_eq_tol(line.beta, 8e-8, 1e-9);
}
END_TEST

START_TEST(fit_of_one_shape_keeps_the_latency)
{
    taut__fit  fit = {0};
    taut__line prior = {1e-3, 1e-9}, line;
    for (int i = 0; i < 10; i++) taut__fit_add(&fit, 2, 1e6, 2e-3 + 1e6 * 4e-9, 0.9);
    line = taut__fit_line(&fit, prior);
    ck_assert_double_eq(line.alpha, 1e-3);
    ck_assert_double_eq_tol(line.beta, 4e-9, 1e-12);
}
END_TEST

START_TEST(fit_is_never_negative)
{
    taut__fit  fit = {0};
    taut__line line;
    taut__fit_add(&fit, 2, 1e3, 1e-2, 1); /* noise: the small one took longer */
    taut__fit_add(&fit, 2, 1e6, 1e-3, 1);
    line = taut__fit_line(&fit, (taut__line){1e-5, 1e-9});
    ck_assert(line.alpha >= 0 && line.beta > 0);
    fit = (taut__fit){0};
    taut__fit_add(&fit, 2, 1e3, 1e-9, 1);
    taut__fit_add(&fit, 2, 1e6, 1e-2, 1);
    line = taut__fit_line(&fit, (taut__line){1e-5, 1e-9});
    ck_assert(line.alpha >= 0 && line.beta > 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("time_model");
    TCase *t = suite_case(s, "time_model", 0);
    tcase_add_test(t, two_nodes_at_one_gigabit);
    tcase_add_test(t, slow_codec_loses_on_a_fast_link);
    tcase_add_test(t, one_rank_costs_nothing);
    tcase_add_test(t, small_messages_take_the_fewest_hops);
    tcase_add_test(t, agreeing_costs_hops);
    tcase_add_test(t, two_ranks_exchange_everything);
    tcase_add_test(t, fields_where_sums_are_fast);
    tcase_add_test(t, fields_have_guard_bits);
    tcase_add_test(t, pipelining_hides_the_cheaper_part);
    tcase_add_test(t, fit_finds_alpha_and_beta);
    tcase_add_test(t, fit_of_one_shape_keeps_the_latency);
    tcase_add_test(t, fit_is_never_negative);
    return suite_run(s);
}
