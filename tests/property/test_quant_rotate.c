/* Rotated buckets of quant: the levels are Lloyd's and Max's, the rotation is Hadamard's, every instruction set gives the portable bytes, the
 * result is unbiased over seeds and several times nearer than uniform levels, and nothing that is not finite gets lost. */
#include "compressors/dispatch.h"
#include "compressors/quant/quant_rotate.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Squared error of a normal variable over its square, with F's scale: mse / (1 - mse), of 1 to 8 bits (Max 1960). */
static const double normal_error[] = {0.5708, 0.1331, 0.03578, 0.009592, 0.002511, 6.446e-4, 1.635e-4, 4.119e-5};

/* As gradients: heavy tails, and scales that differ from row to row. */
static void fill_heavy(float *x, size_t n, uint64_t seed)
{
    fill_normal(x, n, 0.01f, seed);
    for (size_t i = 0; i < n; i++) {
        double u = (double)(taut__mix64(seed + 3 * i) >> 11) * 0x1p-53;
        x[i] *= (float)(exp2((double)(taut__mix64(seed + i / 200) % 7) - 3) / pow(u + 1e-4, 0.3));
    }
}

static void open_rotated(codec_case *k, int bits, size_t bucket, size_t n, uint64_t seed)
{
    char spec[64];
    snprintf(spec, sizeof spec, "quant:bits=%d,bucket=%zu,rotate=1", bits, bucket);
    case_open(k, spec, 1, n);
    k->call.seed = seed;
}

/* ---- tables, kernels ---- */

static double density(double x) { return exp(-x * x / 2) / sqrt(2 * acos(-1)); }
static double beyond(double x) { return erfc(x / sqrt(2)) / 2; }

/* Each level is the mean of what lies between the middles to its neighbours, and the error is Max's. */
START_TEST(levels_are_the_best)
{
    for (uint32_t bits = 1; bits <= QUANT_LEVELS_BITS; bits++) {
        const quant_levels *l = taut__quant_levels(bits);
        double              square = 0;
        for (uint32_t k = 0; k < l->half; k++) {
            double from = k ? ((double)l->level[k - 1] + (double)l->level[k]) / 2 : 0;
            double to = k + 1 < l->half ? ((double)l->level[k] + (double)l->level[k + 1]) / 2 : 40;
            double mass = beyond(from) - beyond(to);
            ck_assert_double_eq_tol((density(from) - density(to)) / mass, (double)l->level[k], 1e-5);
            square += 2 * mass * (double)l->level[k] * (double)l->level[k];
        }
        ck_assert_double_eq_tol((1 - square) / square, normal_error[bits - 1], 2e-3 * normal_error[bits - 1]);
    }
}
END_TEST

START_TEST(turn_is_hadamard)
{
    const taut__simd *s;
    for (size_t l = 0; (s = taut__simd_at(l)) != NULL; l++)
        for (size_t n = 1; n <= 512; n *= 2) {
            float x[512], y[512];
            fill_normal(x, n, 1, n);
            memcpy(y, x, sizeof y);
            s->rotate->turn(y, n);
            for (size_t i = 0; i < n; i++) {
                double sum = 0;
                for (size_t j = 0; j < n; j++) sum += __builtin_parityll(i & j) ? -(double)x[j] : (double)x[j];
                ck_assert_double_eq_tol((double)y[i], sum, 1e-5 * (double)n);
            }
        }
}
END_TEST

/* Kinds: normal, heavy, few, zeros, all equal, tiny, subnormal, huge, largest, with NaN, with Inf */
enum { KINDS = 11 };
static void fill_kind(float *x, size_t n, int kind)
{
    fill_heavy(x, n, (uint64_t)kind);
    for (size_t i = 0; i < n; i++) {
        if (kind == 0) x[i] = i % 2 ? 0.5f : x[i];
        if (kind == 2 && i % 97) x[i] = 0;
        if (kind == 3) x[i] = i % 2 ? 0.0f : -0.0f;
        if (kind == 4) x[i] = 3.25f;
        if (kind == 5) x[i] *= 1e-30f;
        if (kind == 6) x[i] = (float)(i % 11) * FLT_TRUE_MIN;
        if (kind == 7) x[i] *= 1e36f;
        if (kind == 8) x[i] = i % 3 ? FLT_MAX : -FLT_MAX;
        if (kind == 9 && i == n / 2) x[i] = NAN;
        if (kind == 10 && i == n / 3) x[i] = -INFINITY;
    }
}

START_TEST(levels_of_cpus_agree)
{
    enum { MOST = 9000 };
    static const size_t sizes[] = {1, 2, 3, 5, 17, 63, 64, 65, 127, 300, 511, 512, 513, 1000, 4096, MOST};
    static const size_t buckets[] = {64, 512, 8192};
    const taut__simd   *level;
    float              *x = new_floats(MOST), *out[2][3];
    for (int i = 0; i < 6; i++) out[i / 3][i % 3] = new_floats(MOST);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            size_t     n = sizes[s];
            codec_case a, b;
            fill_kind(x, n, kind);
            for (size_t l = 0; (level = taut__simd_at(l)) != NULL; l++) {
                codec_case *k = l ? &b : &a;
                taut__simd_use(level);
                open_rotated(k, _i, buckets[(s + (size_t)kind) % 3], n, 5);
                float **o = out[l != 0];
                case_round_trip(k, x, o[0], o[1]);
                memcpy(o[2], x, n * sizeof *x);
                ck_assert_int_eq(taut__op_decode_add(k->codec, &k->call, k->payload, k->len, o[2]), TAUT_OK);
                if (l) {
                    ck_assert_uint_eq(a.len, b.len);
                    ck_assert_msg(memcmp(a.payload, b.payload, a.len) == 0, "%s n=%zu kind %d", level->name, n, kind);
                    for (int i = 0; i < 3; i++) ck_assert_mem_eq(out[0][i], o[i], n * sizeof *x);
                    case_close(&b);
                } else {
                    ck_assert_uint_eq(k->len, k->cap);
                }
            }
            taut__simd_use(NULL);
            for (size_t i = 0; i < n; i++) {
                if (kind < 9) ck_assert(isfinite(out[0][1][i]));
                if (kind < 8) ck_assert(out[0][0][i] == x[i] - out[0][1][i]);
                if (kind == 3) ck_assert(out[0][1][i] == 0 && out[0][2][i] == 0);
            }
            if (kind > 8) ck_assert(isnan(out[0][1][kind == 9 ? n / 2 : n / 3]));
            case_close(&a);
        }
    for (int i = 0; i < 6; i++) free(out[i / 3][i % 3]);
    free(x);
}
END_TEST

/* ---- what it promises ---- */

/* The mean over seeds is the tensor, up to what so many seeds leave; and <x^, x> = |x|^2 in every one. */
START_TEST(unbiased_over_seeds)
{
    enum { N = 512 + 300, SEEDS = 3000 };
    static const int bits[] = {1, 2, 4, 8};
    float           *x = new_floats(N), *y = new_floats(N);
    for (size_t b = 0; b < 4; b++) {
        double *mean = calloc(N, sizeof *mean), error = 0, norm = 0, bias = 0;
        if (_i == 0) fill_normal(x, N, 1, 1);
        else fill_heavy(x, N, 7);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            codec_case k;
            open_rotated(&k, bits[b], 512, N, seed);
            case_round_trip(&k, x, NULL, y);
            double dot = 0, square = 0;
            for (size_t i = 0; i < 512; i++) dot += (double)x[i] * (double)y[i], square += (double)x[i] * (double)x[i];
            ck_assert_double_eq_tol(dot, square, 1e-5 * square);
            for (size_t i = 0; i < N; i++) mean[i] += (double)y[i] / SEEDS;
            error += distance2(x, y, N) / SEEDS;
            case_close(&k);
        }
        for (size_t i = 0; i < N; i++) bias += pow(mean[i] - (double)x[i], 2), norm += (double)x[i] * (double)x[i];
        ck_assert_msg(bias <= 1.3 * error / SEEDS + 1e-4 * error, "bits=%d: %g of %g, error %g", bits[b], bias, norm,
                      error);
        free(mean);
    }
    free(x), free(y);
}
END_TEST

/* Whatever the data, the error is that of a normal variable; at 4 bits 2.3 to 5.2 times less than that of uniform levels is asked. */
START_TEST(error_is_that_of_a_normal_variable)
{
    size_t n = 100000;
    float *x = new_floats(n), *y = new_floats(n);
    fill_heavy(x, n, 3);
    if (_i) {
        free(x), free(y);
        x = trace_floats(&n);
        y = new_floats(n);
    }
    for (int bits = 1; bits <= 8; bits++) {
        codec_case k;
        open_rotated(&k, bits, 512, n, 1);
        case_round_trip(&k, x, NULL, y);
        double rel = distance2(x, y, n) / norm2(x, n);
        ck_assert_double_le(rel, 1.05 * normal_error[bits - 1]);
        case_close(&k);
        if (bits != 4) continue;
        case_open(&k, "quant:bits=4", 1, n);
        case_round_trip(&k, x, NULL, y);
        ck_assert_double_ge(distance2(x, y, n) / norm2(x, n), 2.3 * rel);
        case_close(&k);
    }
    free(x), free(y);
}
END_TEST

/* Feedback around it: what is put in comes out, and the residual stays bounded, on what suits a rotation least, too. */
START_TEST(residuals_stay_bounded)
{
    enum { N = 600, STEPS = 300 };
    float *x = new_floats(N), *g = new_floats(N), *y = new_floats(N);
    for (int kind = 0; kind < 4; kind++) {
        double most = 0, g2;
        memset(g, 0, N * sizeof *g);
        memset(x, 0, N * sizeof *x);
        if (kind == 0) fill_heavy(g, N, 2);
        else
            for (int i = 0; i < kind; i++) g[37 * i] = 1;
        g2 = norm2(g, N);
        for (uint64_t step = 0; step < STEPS; step++) { /* x: the residual */
            codec_case k;
            open_rotated(&k, 2, 512, N, step);
            for (size_t i = 0; i < N; i++) x[i] += g[i];
            case_round_trip(&k, x, x, y);
            most = fmax(most, norm2(x, N));
            case_close(&k);
        }
        ck_assert_double_le(most, 2 * g2);
    }
    free(x), free(g), free(y);
}
END_TEST

START_TEST(slices_equal_the_whole)
{
    enum { N = 5000 };
    static const size_t cut[] = {0, 512, 2048, 4608, N};
    float              *x = new_floats(N), *y = new_floats(N), *part = new_floats(N);
    codec_case          k;
    fill_heavy(x, N, 11);
    open_rotated(&k, 3, 512, N, 9);
    case_round_trip(&k, x, NULL, y);
    ck_assert_uint_eq(taut__spec_align(&k.spec), 512);
    for (size_t c = 0; c + 1 < sizeof cut / sizeof *cut; c++) {
        taut_call call = k.call;
        size_t    bytes;
        call.first = cut[c], call.n = cut[c + 1] - cut[c];
        ck_assert_int_eq(taut__op_encode(k.codec, &call, x + cut[c], k.payload, k.cap, &k.len, NULL), TAUT_OK);
        ck_assert(taut__spec_fixed(&k.spec, &k.tensor, call.first, call.n, &bytes) && bytes == k.len);
        ck_assert_int_eq(taut__op_decode(k.codec, &call, k.payload, k.len, part + cut[c]), TAUT_OK);
    }
    ck_assert_mem_eq(part, y, N * sizeof *y);
    case_close(&k);
    free(x), free(y), free(part);
}
END_TEST

START_TEST(payloads_and_specs)
{
    enum { N = 700 };
    static const struct {
        const char *spec, *says;
    } bad[] = {{"quant:rotate=2", "rotate"},
               {"quant:rotate=1,bucket=192", "bucket=192"},
               {"quant:rotate=1,norm=l2", "norm"},
               {"quant:rotate=1,round=nearest", "round"},
               {"quant:rotate=1,zero=1", "zero"}};
    float      *x = new_floats(N), *y = new_floats(N);
    codec_case  k;
    taut_tensor t = {.elems = N, .rows = 1, .cols = N};
    char        text[96];
    taut_spec   spec = {.stages = 1};
    fill_heavy(x, N, 1);
    open_rotated(&k, 4, 512, N, 3);
    case_round_trip(&k, x, NULL, y);
    spec.stage[0].codec = k.codec;
    ck_assert_int_eq(k.codec->describe(k.payload, k.len, &spec.stage[0]), TAUT_OK);
    taut__spec_print(&spec, text, sizeof text);
    ck_assert_str_eq(text, "quant:rotate=1");
    ck_assert_uint_eq(taut__payload_version(k.codec, k.payload), 2);
    ck_assert(taut__spec_expands(&k.spec) == NULL);
    ck_assert_uint_gt(case_fuzz_payload(&k), k.len);
    k.payload[3] = 3; /* buckets of 192 */
    ck_assert_int_eq(taut__op_decode(k.codec, &k.call, k.payload, k.len, y), TAUT_E_CORRUPT);
    case_close(&k);
    open_rotated(&k, 1, 512, N, 3);
    ck_assert(strstr(taut__spec_expands(&k.spec), "bits=2") != NULL);
    case_close(&k);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool parsed = taut__spec_parse(bad[i].spec, &spec) == TAUT_OK;
        ck_assert_msg(!parsed || taut__spec_suits(&spec, &t) != TAUT_OK, "%s", bad[i].spec);
        ck_assert_msg(strstr(taut_last_error(), bad[i].says) != NULL, "%s: %s", bad[i].spec, taut_last_error());
    }
    free(x), free(y);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant_rotate");
    TCase *t = suite_case(s, "quant_rotate", 120);
    tcase_add_test(t, levels_are_the_best);
    tcase_add_test(t, turn_is_hadamard);
    tcase_add_loop_test(t, levels_of_cpus_agree, 1, 9);
    tcase_add_loop_test(t, unbiased_over_seeds, 0, 2);
    tcase_add_loop_test(t, error_is_that_of_a_normal_variable, 0, 2);
    tcase_add_test(t, residuals_stay_bounded);
    tcase_add_test(t, slices_equal_the_whole);
    tcase_add_test(t, payloads_and_specs);
    return suite_run(s);
}
