/* The tables of code rans: whole, exact to invert, and what the density that they are said to come from
 * gives. */
#include "compressors/grid/grid_rans.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>

static unsigned frequency(const grid_model *m, unsigned symbol)
{
    return m->range[symbol] >> GRID_RANGE_F & (2 * GRID_PROBS - 1);
}

START_TEST(code_points_are_covered_once)
{
    for (unsigned s = 0; s < GRID_SHAPES; s++)
        for (unsigned c = 0; c < GRID_MODELS; c++) {
            const grid_model *m = taut__grid_models(s) + c;
            unsigned          total = 0;
            for (unsigned v = 0; v <= 2u * grid_top[c]; v++) {
                unsigned start = m->range[v] & (GRID_PROBS - 1), f = frequency(m, v);
                ck_assert_uint_eq(start, total);
                ck_assert_uint_ge(f, 1);
                for (unsigned i = 0; i < f; i++) ck_assert_uint_eq(m->symbol[start + i], v);
                total += f;
            }
            ck_assert_uint_eq(total, GRID_PROBS);
        }
}
END_TEST

/* What the decoders without a gather know: the symbol of a slot, and f * (x >> 11) + slot - start in halves. */
START_TEST(small_tables_agree)
{
    for (unsigned s = 0; s < GRID_SHAPES; s++)
        for (unsigned c = 0; c < GRID_MODELS; c++) {
            const grid_model *m = taut__grid_models(s) + c;
            for (uint32_t slot = 0; slot < GRID_PROBS; slot++) {
                uint32_t v =
                    m->before[slot / 32] + (uint32_t)__builtin_popcount(m->starts[slot / 32] << (31 - slot % 32));
                ck_assert_uint_eq(v, m->symbol[slot]);
                uint32_t x = taut__mix64(slot) % (UINT32_C(1) << 20) << GRID_PROB_BITS | slot;
                uint32_t start = m->range[v] & (GRID_PROBS - 1), low = x >> 11 & 15, high = x >> 15;
                uint32_t got =
                    low * (m->factor[v] & 0xffff) + (high - 32768) * (m->factor[v] >> 16) + slot + m->rest[v];
                ck_assert_uint_eq(got, frequency(m, v) * (x >> GRID_PROB_BITS) + slot - start);
                ck_assert_uint_lt(m->factor[v] >> 16, 32768);
            }
        }
}
END_TEST

/* x / f by multiplication, at the edges of every quotient: the states that are encoded are below f * 2^20. */
START_TEST(reciprocals_are_exact)
{
    const grid_model *m = taut__grid_models(0);
    for (unsigned c = 0; c < GRID_MODELS; c++)
        for (unsigned v = 0; v <= 2u * grid_top[c]; v++) {
            uint32_t f = frequency(&m[c], v), shift = 31 + (m[c].range[v] >> GRID_RANGE_SHIFT);
            for (uint32_t q = 1; q <= 1 << 20; q += q / 64 + 1)
                for (uint32_t x = q * f - 1; x <= q * f; x++)
                    if (x < f << 20) ck_assert_uint_eq((uint64_t)x * m[c].rcp[v] >> shift, x / f);
        }
}
END_TEST

START_TEST(lanes_round_trip)
{
    uint8_t  words[4096], *end = words + sizeof words, symbols[1024], got;
    uint32_t x = GRID_STATE_LOW;
    for (unsigned i = 0; i < sizeof symbols; i++)
        symbols[i] = (uint8_t)(taut__mix64(i) % (2u * grid_top[i % GRID_MODELS] + 1));
    for (unsigned i = sizeof symbols; i-- > 0;)
        x = grid_lane_put(x, taut__grid_models(i % GRID_SHAPES) + i % GRID_MODELS, symbols[i], &end);
    for (unsigned i = 0; i < sizeof symbols; i++) {
        x = grid_lane_get(x, taut__grid_models(i % GRID_SHAPES) + i % GRID_MODELS, &got);
        ck_assert_uint_eq(got, symbols[i]);
        if (x < GRID_STATE_LOW) x = x << 16 | end[0] | (uint32_t)end[1] << 8, end += 2;
    }
    ck_assert_uint_eq(x, GRID_STATE_LOW);
    ck_assert_ptr_eq(end, words + sizeof words);
}
END_TEST

/* ---- the density exp(-|x|^shape) on the grid with dead zone 0.65 ---- */

enum { FINE = 64, REACH = 4000 }; /* points per unit, units of b */

/* tail[i] = P(|x| >= i / FINE), Simpson's rule from the far end; x in units of b */
static void tails(double shape, double *tail)
{
    tail[REACH * FINE] = 0;
    for (int i = REACH * FINE - 1; i >= 0; i--) {
        double a = (double)i / FINE, h = 1.0 / FINE;
        double f = exp(-pow(a, shape)) + 4 * exp(-pow(a + h / 2, shape)) + exp(-pow(a + h, shape));
        tail[i] = tail[i + 1] + f * h / 6;
    }
    for (int i = REACH * FINE; i >= 0; i--) tail[i] /= tail[0];
}
static double tail_at(const double *tail, double x)
{
    double at = x * FINE;
    if (at >= REACH * FINE) return 0;
    int i = (int)at;
    return tail[i] + (tail[i + 1] - tail[i]) * (at - i);
}
/* Probability of magnitude k, and of all above when k is `last`. */
static double probability(const double *tail, double b, unsigned k, unsigned last)
{
    double from = k == 0 ? 1 : tail_at(tail, (k - 0.35) / b), to = k == last ? 0 : tail_at(tail, (k + 0.65) / b);
    return from - to;
}

START_TEST(tables_come_from_the_density)
{
    static double tail[REACH * FINE + 1];
    tails((double)grid_shape[_i], tail);
    for (unsigned c = GRID_FEW + 1; c <= GRID_TOP_CLASS; c++) {
        const unsigned model = grid_class_model(c), top = grid_top[model];
        unsigned       e = c / 2, low = (1u << e) + ((c & 1) << (e - 1)), high = low + (1u << (e - 1)) - 1;
        unsigned       last = high < 400 ? high : 400;
        double         mean = (low + high) / 128.0, lo = 1e-4, hi = 100;
        for (int k = 0; k < 60; k++) { /* b whose mean magnitude is the class's */
            double b = sqrt(lo * hi), got = 0;
            for (unsigned v = 1; v <= last; v++) got += v * probability(tail, b, v, last);
            if (got < mean) lo = b;
            else hi = b;
        }
        for (unsigned v = 1; v <= top; v++) {
            double want = probability(tail, lo, v, top) / 2 * GRID_PROBS;
            double got = frequency(taut__grid_models((unsigned)_i) + model, 2 * v);
            ck_assert_msg(fabs(got - fmax(want, 1)) <= 1 + 0.02 * want,
                          "shape %d class %u value %u: %g, density says %g", _i, c, v, got, want);
            ck_assert_double_eq(got, frequency(taut__grid_models((unsigned)_i) + model, 2 * v - 1));
        }
    }
}
END_TEST

/* Every block of 1, 2 or 3 pulses has a number of its own that fits; all other numbers are refused. */
START_TEST(few_are_numbered)
{
    static const unsigned blocks[] = {0, 2 * 64, 2 * 64 * 64, (4 * 64 * 64 * 64 + 2 * 64) / 3};
    unsigned              sum = (unsigned)_i + 1, seen = 0, sound = 0;
    uint8_t              *used = calloc(1u << grid_few_bits(sum), 1);
    for (unsigned v = 0; v < 1u << 21; v++) { /* three positions, ascending, and signs */
        unsigned at[3] = {v & 63, v >> 6 & 63, v >> 12 & 63}, negative = v >> 18;
        bool     fits = v >> 6 * sum >> sum == 0;
        for (unsigned k = 1; k < sum; k++)
            fits &= at[k] > at[k - 1] || (at[k] == at[k - 1] && (negative >> k & 1) == (negative >> (k - 1) & 1));
        if (sum < 3) { /* the sign bits lie behind the positions */
            negative = v >> 6 * sum;
            fits = negative < 1u << sum;
            for (unsigned k = 1; k < sum; k++)
                fits &= at[k] > at[k - 1] || (at[k] == at[k - 1] && (negative >> k & 1) == (negative >> (k - 1) & 1));
        }
        if (!fits) continue;
        uint64_t nz = 0, two = 0, sign = 0;
        for (unsigned k = 0; k < sum; k++) {
            two |= nz & UINT64_C(1) << at[k];
            nz |= UINT64_C(1) << at[k];
            sign |= (uint64_t)(negative >> k & 1) << at[k];
        }
        grid_few f;
        uint64_t number = grid_few_number(sum, nz, two, sign);
        ck_assert_uint_lt(number, UINT64_C(1) << grid_few_bits(sum));
        ck_assert_uint_eq(used[number]++, 0);
        ck_assert(grid_few_of(number, sum, &f));
        for (unsigned k = 0; k < sum; k++) ck_assert_uint_eq(f.at[k], at[k]);
        ck_assert_uint_eq(f.sign, sign);
        seen++;
    }
    ck_assert_uint_eq(seen, blocks[sum]);
    for (uint64_t v = 0; v < UINT64_C(1) << grid_few_bits(sum); v++) {
        grid_few f;
        bool     ok = grid_few_of(v, sum, &f);
        ck_assert_int_eq(ok, used[v]);
        sound += ok;
    }
    ck_assert_uint_eq(sound, blocks[sum]);
    free(used);
}
END_TEST

/* Counts that a shape predicts choose that shape. */
START_TEST(shape_is_found)
{
    uint32_t count[GRID_MODELS][3] = {{0}};
    for (unsigned c = 4; c <= 8; c++) {
        const grid_model *m = taut__grid_models((unsigned)_i) + c;
        count[c][0] = 1000 * frequency(m, 0);
        count[c][1] = 2000 * frequency(m, 1);
        count[c][2] = 1000 * GRID_PROBS - count[c][0] - count[c][1];
    }
    ck_assert_uint_eq(taut__grid_choose_shape(count), (unsigned)_i);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grid_model");
    TCase *t = suite_case(s, "grid_model", 60);
    tcase_add_test(t, code_points_are_covered_once);
    tcase_add_test(t, small_tables_agree);
    tcase_add_test(t, reciprocals_are_exact);
    tcase_add_test(t, lanes_round_trip);
    tcase_add_loop_test(t, tables_come_from_the_density, 0, GRID_SHAPES);
    tcase_add_loop_test(t, shape_is_found, 0, GRID_SHAPES);
    tcase_add_loop_test(t, few_are_numbered, 0, 3);
    return suite_run(s);
}
