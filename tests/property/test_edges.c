/* test_edges.c : numbers at the edges of what codecs are made for: buckets with zeros, a handful of values in a large tensor, and tensors
 * of a handful of values. */
#include "compressors/frame.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- quant:zero=1: zeros stay zeros, whatever lies beside them, and the rest is within a step ---- */

static void fill_zeros(float *x, size_t n, int pattern, float scale)
{
    fill_normal(x, n, scale, 3 + (uint64_t)pattern);
    for (size_t i = 0; i < n; i++) {
        if (pattern == 0 && i / 48 % 3 != 0) x[i] = 0;     /* rows of tokens that did not occur */
        if (pattern == 1) x[i] = i % 5 ? 0 : fabsf(x[i]);  /* zero is the minimum */
        if (pattern == 2) x[i] = i % 7 ? 0 : -fabsf(x[i]); /* the maximum */
        if (pattern == 3)
            x[i] = i % 64 == 9 ? -scale : i % 64 == 11 ? 10 * scale : i % 2 ? 0 : x[i] / 100; /* near one end */
        if (pattern == 4 && i % 3 == 0) x[i] = i % 2 ? 0.0f : -0.0f;
    }
}

START_TEST(zeros_stay_zeros)
{
    static const float scale[] = {1, 1e-3f, 1e-30f, 1e-40f, 1e30f};
    enum { N = 4000 };
    float *x = new_floats(N), *err = new_floats(N), *back = new_floats(N);
    for (int bits = 2; bits <= 8; bits++)
        for (int way = 0; way < 4; way++)
            for (int pattern = 0; pattern < 5; pattern++)
                for (size_t s = 0; s < sizeof scale / sizeof *scale; s++) {
                    codec_case k;
                    char       spec[64];
                    size_t     bucket = way % 2 ? 64 : 512, wrong = 0, far = 0, lost = 0;
                    snprintf(spec, sizeof spec, "quant:bits=%d,zero=1,bucket=%zu%s", bits, bucket,
                             way / 2 ? ",round=nearest" : "");
                    case_open(&k, spec, 1, N);
                    fill_zeros(x, N, pattern, scale[s]);
                    case_round_trip(&k, x, err, back);
                    float lo = 0, hi = 0;
                    for (size_t i = 0; i < N; i++) {
                        if (i % bucket == 0) lo = hi = 0;
                        for (size_t j = i; i % bucket == 0 && j < N && j < i + bucket; j++)
                            lo = fminf(lo, x[j]), hi = fmaxf(hi, x[j]);
                        /* of levels - 1 steps between the ends: half more than of all with 2 bits, 7% with 4 */
                        double step = 1.0001 * ((double)hi - (double)lo) / ((1 << bits) - 2) + 2e-45;
                        wrong += x[i] == 0 && (back[i] != 0 || err[i] != 0);
                        far += !(fabs((double)x[i] - (double)back[i]) <= step);
                        lost += fabs((double)x[i] - (double)back[i] - (double)err[i]) >
                                1e-6 * (fabs((double)x[i]) + fabs((double)back[i])) + 1e-44;
                    }
                    ck_assert_msg(wrong == 0 && far == 0 && lost == 0,
                                  "%s, pattern %d at %g: %zu zeros are not, %zu errors too large, %zu lost", spec,
                                  pattern, (double)scale[s], wrong, far, lost);
                    case_close(&k);
                }
    free(x), free(err), free(back);
    ck_assert_int_eq(taut_spec_check("quant:bits=1,zero=1", 2, (size_t[]){8, 64}), TAUT_E_RANGE);
}
END_TEST

/* ---- grid:code=rans: chunks of 65,536 elements of which few are not zero ---- */

static void few_values(float *x, size_t n, size_t every, float large)
{
    memset(x, 0, n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        if (taut__mix64(i) % every == 0) x[i] = (i % 2 ? 1.0f : -1.0f) * (i % 11 == 3 ? large : 1.0f);
}

START_TEST(sparse_chunks_are_short)
{
    static const struct {
        size_t every;
        float  large;
        double bytes; /* per chunk, at most, its entry in the table included */
    } row[] = {{65536, 1, 14}, {10000, 1, 28}, {10000, 300, 100}, {3000, 1, 60},
               {1000, 1, 150}, {100, 5, 1700}, {3, 70000, 1e9}};
    static const size_t size[] = {65536, 4 * 65536 + 9000, 3 * 65536 + 100, 9000};
    for (size_t s = 0; s < 4; s++) {
        size_t     n = size[s], packed;
        float     *x = new_floats(n), *err = new_floats(n), *back = new_floats(n);
        int32_t   *q = calloc(n, sizeof *q), *codes = calloc(n, sizeof *codes);
        codec_case k, p;
        case_open(&k, "grid:step=0.5,code=rans", 1, n);
        case_open(&p, "grid:step=0.5", 1, n);
        few_values(x, n, row[_i].every, row[_i].large);
        case_round_trip(&k, x, err, back);
        size_t len = k.len;
        ck_assert_msg((double)len <= 8 + row[_i].bytes * ceil((double)n / 65536), "1 of %zu, %zu elements: %zu bytes",
                      row[_i].every, n, len);
        ck_assert(distance2(x, back, n) == 0 && norm2(err, n) == 0);
        for (size_t i = 0; i < n; i++) q[i] = (int32_t)lrintf(x[i] / 0.5f);
        uint8_t *bytes = malloc(k.cap);
        ck_assert_int_eq(taut__op_pack(k.codec, &k.call, q, bytes, k.cap, &packed), TAUT_OK);
        ck_assert(packed == len && memcmp(bytes, k.payload, len) == 0);
        ck_assert_int_eq(taut__op_unpack_add(k.codec, &k.call, k.payload, len, codes), TAUT_OK);
        ck_assert_mem_eq(codes, q, n * sizeof *q);
        ck_assert_int_eq(taut__op_decode_add(k.codec, &k.call, k.payload, len, back), TAUT_OK);
        for (size_t i = 0; i < n; i++) ck_assert(back[i] == 2 * x[i]);
        case_round_trip(&p, x, err, back);
        ck_assert_uint_le(len, row[_i].every == 100
                                   ? 2 * p.len
                                   : p.len + p.len / 64 + 16); /* symbols of 1% are dearer than positions */
        if (n == 65536 && len < 200) ck_assert_uint_gt(case_fuzz_payload(&k), 0);
        free(x), free(err), free(back), free(q), free(codes), free(bytes);
        case_close(&k), case_close(&p);
    }
}
END_TEST

/* Payloads that only newer libraries read say so; all others are what they were. Those of code rans before version 4 are named. */
START_TEST(versions_of_payloads)
{
    enum { N = 65536 };
    static const struct {
        const char *spec;
        size_t      every;
        int         version;
    } row[] = {{"grid:step=0.5", 3, 1},
               {"grid:step=0.5,code=rans", 3, 4},
               {"grid:step=0.5,code=rans", 5000, 4},
               {"grid:step=200,code=rans", 3, 1}};
    float *x = new_floats(N), *back = new_floats(N);
    size_t cap, len, shape[] = {1, N};
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        few_values(x, N, row[r].every, 1);
        ck_assert_int_eq(taut_encode_bound(row[r].spec, 2, shape, &cap), TAUT_OK);
        uint8_t *frame = malloc(cap);
        char     text[96];
        ck_assert_int_eq(taut_encode(row[r].spec, 2, shape, x, 1, frame, cap, &len), TAUT_OK);
        ck_assert_int_eq(frame[22] | frame[23] << 8, row[r].version);
        ck_assert_int_eq(taut_frame_info(frame, len, NULL, NULL, text, sizeof text), TAUT_OK);
        if (row[r].every == 3 && r < 2) ck_assert_str_eq(text, row[r].spec);
        free(frame);
    }
    codec_case k;
    case_open(&k, "grid:step=0.5,code=rans", 1, N);
    few_values(x, N, 3, 1);
    case_round_trip(&k, x, NULL, back);
    for (uint8_t kind = 3; kind <= 4; kind++) {
        k.payload[0] = kind;
        ck_assert_int_eq(taut__op_decode(k.codec, &k.call, k.payload, k.len, back), TAUT_E_VERSION);
        ck_assert_msg(strstr(taut_last_error(), "rans") != NULL, "%s", taut_last_error());
    }
    case_close(&k);
    free(x), free(back);
}
END_TEST

/* ---- grid:rel of few elements: the largest step, found by trying all ---- */

static double rel_err2_at(const float *x, size_t n, float step, double dead)
{
    double err = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        float  t = fabsf(x[i]) * (1.0f / step);
        double d = (double)t - (double)(int32_t)(t + (float)(1.0 - dead)); /* below 2^31 */
        err += d * d, norm += (double)x[i] * (double)x[i];
    }
    return err * (double)step * (double)step / norm;
}

/* 128 steps an octave, from above: the first that suits is the largest */
static float largest_step(const float *x, size_t n, double rel)
{
    double norm = sqrt(norm2(x, n));
    for (int e = ilogb(norm) + 2; e >= ilogb(norm) - 16; e--)
        for (int m = 127; m >= 0; m--) {
            float step = (float)ldexp(1 + m / 128.0, e);
            if (rel_err2_at(x, n, step, 0.65) <= rel * (1 - 2e-5)) return step;
        }
    return 0;
}

START_TEST(few_elements_reach_their_step)
{
    static const size_t size[] = {1, 2, 3, 7, 20, 64, 100, 333, 500, 1000, 1023, 1500, 4000};
    static const double rels[] = {0.001, 0.03, 0.1, 0.4};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int r = 0; r < 4; r++)
            for (uint64_t seed = 1; seed < 4; seed++) {
                size_t n = size[s], cap, len, shape[] = {n};
                float *x = new_floats(n), best, got;
                char   spec[64];
                fill_normal(x, n, seed == 2 ? 1e-3f : 1.0f, 100 * seed + n);
                if (seed == 3)
                    for (size_t i = 0; i < n; i++) x[i] = x[i] * x[i] * x[i];
                best = largest_step(x, n, rels[r]);
                taut__snprintf(spec, sizeof spec, "grid:rel=%g", rels[r]);
                ck_assert_int_eq(taut_encode_bound(spec, 1, shape, &cap), TAUT_OK);
                uint8_t *frame = malloc(cap);
                ck_assert_int_eq(taut_encode(spec, 1, shape, x, 1, frame, cap, &len), TAUT_OK);
                memcpy(&got, frame + TAUT_FRAME_HEADER + 4, 4);
                ck_assert_msg(got >= best && rel_err2_at(x, n, got, 0.65) <= rels[r],
                              "%zu elements, rel=%g, seed %d: step %g, best %g", n, rels[r], (int)seed, (double)got,
                              (double)best);
                free(x), free(frame);
            }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("edges");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_test(t, zeros_stay_zeros);
    tcase_add_loop_test(t, sparse_chunks_are_short, 0, 7);
    tcase_add_test(t, versions_of_payloads);
    tcase_add_test(t, few_elements_reach_their_step);
    return suite_run(s);
}
