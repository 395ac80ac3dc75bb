/* Code rans of short and of sparse chunks: what they take beside what they tell, and every way of coding them, at its edges. */
#include "compressors/dispatch.h"
#include "compressors/grid/grid.h"
#include "compressors/grid/grid_chunk.h"
#include "compressors/grid/grid_ladder.h"
#include "compressors/grid/grid_rans.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENVELOPE = 8 + 4 }; /* payload header, length of the one chunk */

/* `count` of n elements are +-1, at random; the others 0. */
static void fill_sparse(float *x, size_t n, size_t count, uint64_t seed)
{
    memset(x, 0, n * sizeof *x);
    for (uint64_t k = 0; count > 0; k++) {
        uint64_t h = taut__mix64(taut__mix64(seed) + k);
        if (x[h % n] != 0) continue;
        x[h % n] = h >> 63 ? -1.0f : 1.0f;
        count--;
    }
}
static double log2_choose(double n, double k) { return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2); }

static size_t bytes_of(const float *x, size_t n, const char *spec)
{
    codec_case k;
    float     *y = new_floats(n), *err = new_floats(n);
    case_open(&k, spec, 1, n);
    case_round_trip(&k, x, err, y);
    for (size_t i = 0; i < n; i++) ck_assert(err[i] == x[i] - y[i]);
    size_t len = k.len;
    case_close(&k);
    free(y), free(err);
    return len;
}

/* Densities of top-k: positions and signs tell log2 (n over count) + count bits. */
START_TEST(sparse_chunks_take_what_they_tell)
{
    static const size_t sizes[] = {64, 256, 1024, 4096, 16384, 65536};
    static const size_t one_of[] = {30, 100, 300, 1000, 10000};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t d = 0; d < sizeof one_of / sizeof *one_of; d++) {
            size_t n = sizes[s], count = n / one_of[d];
            if (count == 0) continue;
            float *x = new_floats(n);
            fill_sparse(x, n, count, s * 10 + d);
            double told = (log2_choose((double)n, (double)count) + (double)count) / 8;
            double took = (double)bytes_of(x, n, "grid:step=1,code=rans") - ENVELOPE;
            ck_assert_msg(took <= 1.1 * told + 8, "n=%zu, one of %zu: %g bytes tell %g", n, one_of[d], took, told);
            free(x);
        }
}
END_TEST

START_TEST(short_chunks_take_little_more_than_long_ones)
{
    enum { ALL = 65536 };
    static const float step[] = {0.3f, 1, 3};
    float             *x = new_floats(ALL);
    fill_normal(x, ALL, 1, 9);
    for (int t = 0; t < 3; t++) {
        char spec[60];
        snprintf(spec, sizeof spec, "grid:step=%g,code=rans", (double)step[t]);
        double whole = (double)(bytes_of(x, ALL, spec) - ENVELOPE);
        for (size_t n = 128; n < ALL; n *= 2) {
            double took = 0;
            for (size_t at = 0; at < ALL; at += n) took += (double)bytes_of(x + at, n, spec) - ENVELOPE;
            double over = (took - whole) * (double)n / ALL;
            double most = n <= 1024     ? 8
                          : step[t] < 1 ? 46
                                        : 30; /* one state; sixteen, without and with a tail in them */
            ck_assert_msg(over <= most, "n=%zu, step=%g: %g bytes more than of a long chunk", n, (double)step[t], over);
        }
    }
    free(x);
}
END_TEST

/* What the planner is told of layers of all sizes. */
START_TEST(estimates_hold_for_small_layers)
{
    for (size_t n = 1024; n <= 131072; n *= 2)
        for (int t = 0; t < 4; t++) {
            static const double rels[] = {0.3, 0.1, 0.03, 0.003};
            double              stats[TAUT_STATS_MAX] = {0};
            codec_case          k;
            char                spec[60];
            float              *x = new_floats(n);
            fill_normal(x, n, 0.01f, n);
            for (size_t i = 0; i < n; i++) x[i] *= exp2f((float)(taut__mix64(i / 200) % 9) - 4);
            case_open(&k, "grid:code=rans", 1, n);
            ck_assert_int_eq(taut__op_collect_stats(k.codec, &k.call, x, stats), TAUT_OK);
            case_close(&k);
            float step = taut__grid_estimate_step(stats, rels[t] * stats[GRID_STAT_NORM2], 0.65);
            snprintf(spec, sizeof spec, "grid:step=%.9g,code=rans", (double)step);
            double took = (double)bytes_of(x, n, spec);
            double told =
                taut__grid_estimate_bits(stats, (double)step, 0.65, GRID_RANS) / 8 * (double)n + GRID_FIXED_BYTES;
            ck_assert_msg(fabs(took - told) <= 0.05 * took + 26, "n=%zu rel=%g: %g bytes, %g estimated", n, rels[t],
                          took, told);
            free(x);
        }
}
END_TEST

/* ---- every way of coding a chunk ---- */

/* A block of the kind: nothing; 1, 2 or 3 in all; small codes; larger ones; with low planes; no symbols; no codes. */
static void fill_block(float *x, unsigned kind, uint64_t seed)
{
    static const float sigma[] = {0, 0, 0, 0, 0.4f, 1.5f, 30, 1e6f, 1};
    memset(x, 0, GRID_BLOCK * sizeof *x);
    if (kind >= 1 && kind <= 3)
        for (unsigned i = 0; i < kind; i++) {
            unsigned at = (unsigned)(taut__mix64(seed + i % (1 + seed % 3)) % GRID_BLOCK);
            x[at] = x[at] < 0 || (x[at] == 0 && (seed + at) % 2) ? x[at] - 1 : x[at] + 1;
        }
    else if (kind) fill_normal(x, GRID_BLOCK, sigma[kind], seed);
    if (kind == 8) x[seed % GRID_BLOCK] = NAN;
}
static void decode_all(const struct taut__grid_kernels *k, const grid_unit *u, const uint8_t *src, size_t len, size_t n,
                       float *out)
{
    uint8_t        *own = malloc(len); /* exactly so long: a sanitizer sees what is read beyond */
    grid_rans_chunk c = {.u = *u, .src = memcpy(own, src, len), .len = len, .n = n, .dst = out};
    ck_assert(taut__grid_rans_decode(k, &c, 1, GRID_STORE));
    ck_assert(taut__grid_rans_decode(k, &c, 1, GRID_ADD));
    free(own);
    float *scratch = new_floats(n);
    c.dst = scratch;
    for (c.len = len - 1; c.len + 4 > len && c.len > 0; c.len--) { /* cut short: no harm */
        c.src = own = memcpy(malloc(c.len), src, c.len);
        (void)taut__grid_rans_decode(k, &c, 1, GRID_STORE);
        free(own);
    }
    free(scratch);
}

/* Mixtures of kinds, with numbers of blocks with symbols around that up to which one state does, and any kind at the end. */
START_TEST(levels_agree_on_mixtures)
{
    static const unsigned sizes[] = {1, 15, 16, 17, 40, 127, 128, 200, 600, 1024}; /* blocks */
    const grid_unit       u = {.step = 1, .inv = 1, .bias = 0.35f};
    float                *x = new_floats(GRID_CHUNK), *back = new_floats(GRID_CHUNK), *other = new_floats(GRID_CHUNK);
    uint8_t              *bytes = calloc(2, GRID_CHUNK * 8);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (uint64_t round = 0; round < 8; round++) {
            unsigned blocks = sizes[s], most = grid_serial_most(blocks), coded = 0,
                     want = round < 4   ? most + (unsigned)round - 1
                            : round < 6 ? blocks
                                        : blocks / 3;
            for (unsigned b = 0; b < blocks; b++) {
                uint64_t h = taut__mix64(round * 4096 + s * 1024 + b);
                unsigned last = round % 4 == 3 && b + 4 > blocks ? 6 : 0, kind = last ? last : (unsigned)(h % 9);
                if (kind >= 4 && kind <= 6 && coded++ >= want) kind = (unsigned)(h >> 32) % 4;
                if (kind > 6 && round % 2) kind = 4; /* else few chunks have codes for all */
                fill_block(x + b * GRID_BLOCK, kind, h);
            }
            size_t n = blocks * (size_t)GRID_BLOCK - (round % 3 ? 5 : 0), len = 0;
            for (size_t l = 0; taut__simd_at(l) != NULL; l++) {
                const struct taut__grid_kernels *k = taut__simd_at(l)->grid;
                uint8_t                         *dst = bytes + (l ? GRID_CHUNK * 8 : 0);
                size_t                           got = taut__grid_rans_encode(k, &u, x, n, NULL, dst);
                if (got == 0) break;
                decode_all(k, &u, dst, got, n, l ? other : back);
                if (l == 0) len = got;
                ck_assert_uint_eq(len, got);
                ck_assert_mem_eq(bytes, dst, len);
                ck_assert_mem_eq(back, l ? other : back, n * sizeof *back);
            }
            if (len == 0) continue;
            for (size_t i = 0; i < n; i++)
                if (isfinite(x[i])) ck_assert(fabsf(back[i] - 2 * x[i]) <= 1.3f + 1e-6f * fabsf(x[i]));
        }
    free(x), free(back), free(other), free(bytes);
}
END_TEST

/* Every rung errs by what it says, the last one, which is cut at the coarsest, too: its step is that of this error, not a coarser one. */
START_TEST(rungs_err_by_what_they_say)
{
    enum { N = 60000, RUNGS = 13 };
    const double dead = 0.65, coarsest = 0.7;
    float       *x = new_floats(N);
    for (int tail = 0; tail < 4; tail++) {
        double     stats[GRID_STATS] = {0};
        taut__rung rung[RUNGS];
        codec_case k;
        fill_normal(x, N, 1, 5);
        for (int t = 0; t < tail; t++)
            for (size_t i = 0; i < N; i++) x[i] *= (float)(taut__mix64(i + (size_t)(7 * t)) % 1000) * 1e-3f * x[i];
        case_open(&k, "grid", 1, N);
        ck_assert(taut__op_collect_stats(k.codec, &k.call, x, stats) == TAUT_OK);
        double norm2 = stats[GRID_STAT_NORM2], weight = 1;
        double centre = taut__grid_centre(stats, &weight, 1, 0.3 * norm2);
        size_t n = taut__grid_ladder(stats, weight, centre, 2, coarsest, RUNGS, rung);
        ck_assert_uint_ge(n, 3);
        ck_assert_double_eq_tol(rung[n - 1].rel, coarsest, 1e-12); /* it is there, or nothing is shown */
        for (size_t i = 0; i < n; i++) {
            double rel = taut__grid_estimate_error(stats, rung[i].step, dead) / norm2;
            ck_assert_msg(rel > 0.97 * rung[i].rel && rel < 1.01 * rung[i].rel, "tail %d, rung %zu: %g, says %g", tail,
                          i, rel, rung[i].rel);
        }
        case_close(&k);
    }
    free(x);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grid_small");
    TCase *t = suite_case(s, "property", 60);
    tcase_add_test(t, sparse_chunks_take_what_they_tell);
    tcase_add_test(t, short_chunks_take_little_more_than_long_ones);
    tcase_add_test(t, estimates_hold_for_small_layers);
    tcase_add_test(t, levels_agree_on_mixtures);
    tcase_add_test(t, rungs_err_by_what_they_say);
    return suite_run(s);
}
