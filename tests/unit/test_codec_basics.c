/* test_codec_basics.c : what holds for every registered codec: specs and their messages, lengths, frames, slices. */
#include "compressors/frame.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* At least one spec of every codec, and one for every branch of its payload. */
static const char *const specs[] = {
    "none",
    "fp16",
    "bf16",
    "quant",
    "quant:bits=1",
    "quant:bits=3,bucket=64",
    "quant:bits=8,norm=linf,round=nearest",
    "quant:bits=5,norm=l2,bucket=128",
    "grid",
    "grid:step=0.1",
    "grid:rel=0.1,code=rans",
    "topk",
    "topk:density=0.3",
    "randk",
    "randk:density=0.25,scale=1",
    "powersgd",
    "powersgd:rank=1",
    "stack:topk:density=0.05+quant:bits=2",
    "stack:powersgd:rank=1+quant:bits=4",
};
enum { SPECS = sizeof specs / sizeof *specs };

static const size_t lengths[] = {1, 7, 8, 63, 64, 65, 511, 512, 513, 70000};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

START_TEST(every_codec_has_a_spec_here)
{
    const taut_codec *c;
    for (size_t i = 0; (c = taut__codec_at(i)) != NULL; i++) {
        bool listed = false;
        for (size_t k = 0; k < SPECS; k++) listed |= strncmp(specs[k], c->name, strlen(c->name)) == 0;
        ck_assert_msg(listed, "%s", c->name);
        ck_assert_ptr_eq(taut__codec_by_id(c->id), c);
        ck_assert_ptr_eq(taut__codec_by_name(c->name, strlen(c->name)), c);
        ck_assert_str_eq(taut_codec_name(i), c->name);
        ck_assert_ptr_nonnull(strstr(taut_codec_help(i), c->help));
    }
    ck_assert_ptr_null(taut__codec_by_name("quan", 4));
    ck_assert_ptr_null(taut__codec_by_id(0));
    ck_assert_ptr_null(taut_codec_help(1000));
}
END_TEST

/* ---- specs ---- */

START_TEST(bad_specs_name_the_value_and_the_range)
{
    static const struct {
        const char *spec, *message;
        taut_status status;
    } bad[] = {
        {"", "empty codec spec", TAUT_E_INVALID},
        {"zip", "unknown codec 'zip': codecs are none, fp16, bf16, quant", TAUT_E_INVALID},
        {"Quant", "unknown codec 'Quant'", TAUT_E_INVALID},
        {"quant ", "unknown codec 'quant '", TAUT_E_INVALID},
        {"quant:", "unknown key ''", TAUT_E_INVALID},
        {"quant:bit=4", "unknown key 'bit': keys are bits, bucket, norm, round", TAUT_E_INVALID},
        {"none:bits=4", "unknown key 'bits': keys are none", TAUT_E_INVALID},
        {"quant:bits", "key 'bits' has no value: write bits=VALUE", TAUT_E_INVALID},
        {"quant:bits=", "bits needs a value", TAUT_E_INVALID},
        {"quant:bits=4,bits=4", "key 'bits' is given twice", TAUT_E_INVALID},
        {"quant:bits=4,", "unknown key ''", TAUT_E_INVALID},
        {"quant:bits=0", "bits=0: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=9", "bits=9: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=-1", "bits=-1: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=2.5", "bits=2.5: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=four", "bits=four: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=4x", "bits=4x: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=0x4", "bits=0x4: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=nan", "bits=nan: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bits=inf", "bits=inf: must be an integer 1..8", TAUT_E_RANGE},
        {"quant:bucket=63", "bucket=63: must be an integer 64..8192", TAUT_E_RANGE},
        {"quant:bucket=16384", "bucket=16384: must be an integer 64..8192", TAUT_E_RANGE},
        {"quant:bucket=100", "bucket=100: must be an integer 64..8192, a multiple of 64", TAUT_E_RANGE},
        {"quant:norm=l1", "norm=l1: must be maxmin|linf|l2", TAUT_E_INVALID},
        {"quant:round=up", "round=up: must be stochastic|nearest", TAUT_E_INVALID},
        {"topk:density=0", "density=0: must be a number above 0 and at most 1", TAUT_E_RANGE},
        {"topk:density=1.5", "density=1.5: must be a number above 0 and at most 1", TAUT_E_RANGE},
        {"topk:density=-0.1", "density=-0.1: must be a number above 0 and at most 1", TAUT_E_RANGE},
        {"randk:density=0", "density=0: must be a number above 0 and at most 1", TAUT_E_RANGE},
        {"powersgd:rank=0", "rank=0: must be an integer 1..", TAUT_E_RANGE},
        {"grid:rel=0", "rel=0: must be a number above 0", TAUT_E_RANGE},
        {"grid:step=0", "step=0: must be a number above 0", TAUT_E_RANGE},
        {"grid:code=zip", "code=zip: must be packed|rans", TAUT_E_INVALID},
        {"auto:bits=4", "auto has no keys", TAUT_E_INVALID},
        {"stack", "empty stage", TAUT_E_INVALID},
        {"stack:topk", "at least two stages", TAUT_E_INVALID},
        {"stack:topk+", "empty stage", TAUT_E_INVALID},
        {"stack:topk+stack", "cannot be a stack", TAUT_E_INVALID},
        {"stack:topk+topk+topk+topk+topk", "more than 4 stages", TAUT_E_RANGE},
        {"stack:topk+quant:bits=9", "bits=9: must be an integer 1..8", TAUT_E_RANGE},
    };
    size_t shape[] = {8, 512};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(taut_spec_check(bad[i].spec, 2, shape), bad[i].status);
        ck_assert_msg(strstr(taut_last_error(), bad[i].message) != NULL, "'%s': %s", bad[i].spec, taut_last_error());
    }
    char long_spec[600];
    memset(long_spec, 'a', sizeof long_spec - 1);
    long_spec[sizeof long_spec - 1] = 0;
    ck_assert_int_eq(taut_spec_check(long_spec, 0, NULL), TAUT_E_INVALID);
    ck_assert_int_eq(taut_spec_check(NULL, 0, NULL), TAUT_E_INVALID);
}
END_TEST

START_TEST(specs_print_canonically_and_parse_back)
{
    static const struct {
        const char *text, *canonical;
    } pairs[] = {
        {"auto", "auto"},
        {"none", "none"},
        {"quant:bits=4", "quant"},
        {"quant:bits=4,bucket=512,norm=maxmin,round=stochastic", "quant"},
        {"quant:round=nearest,bits=2", "quant:bits=2,round=nearest"},
        {"quant:norm=l2", "quant:norm=l2"},
        {"topk:density=0.0625", "topk:density=0.0625"},
        {"topk:density=1e-3", "topk:density=0.001"},
        {"topk:density=0.01", "topk"},
        {"grid:step=1e10", "grid:step=1e10"},
        {"stack:topk:density=0.05+quant:bits=2", "stack:topk:density=0.05+quant:bits=2"},
    };
    char text[256];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        taut_spec a;
        ck_assert_msg(taut__spec_parse(pairs[i].text, &a) == TAUT_OK, "%s", taut_last_error());
        taut__spec_print(&a, text, sizeof text);
        ck_assert_str_eq(text, pairs[i].canonical);
    }
    for (size_t i = 0; i < SPECS; i++) {
        taut_spec a, b;
        ck_assert_int_eq(taut__spec_parse(specs[i], &a), TAUT_OK);
        taut__spec_print(&a, text, sizeof text);
        ck_assert_int_eq(taut__spec_parse(text, &b), TAUT_OK);
        ck_assert_uint_eq(a.stages, b.stages);
        for (uint32_t s = 0; s < a.stages; s++) {
            ck_assert_ptr_eq(a.stage[s].codec, b.stage[s].codec);
            for (uint32_t k = 0; k < a.stage[s].codec->n_keys; k++)
                ck_assert(a.stage[s].value[k] == b.stage[s].value[k]);
        }
        for (size_t cap = 0; cap < 12; cap++) { /* short buffers are cut, never overrun */
            char *small = malloc(cap ? cap : 1);
            taut__spec_print(&a, small, cap);
            if (cap) ck_assert_uint_lt(strlen(small), cap);
            free(small);
        }
    }
}
END_TEST

/* ---- lengths ---- */

static bool suits(const char *text, size_t rows, size_t cols)
{
    taut_spec   spec;
    taut_tensor t = {.elems = rows * cols, .rows = rows, .cols = cols};
    ck_assert_msg(taut__spec_parse(text, &spec) == TAUT_OK, "%s", taut_last_error());
    return taut__spec_suits(&spec, &t) == TAUT_OK;
}

/* encode, decode, decode_add, err and a too small buffer, at every length */
static void check_length(const char *spec, size_t n)
{
    codec_case k;
    float     *x = new_floats(n), *back = new_floats(n), *sum = new_floats(n), *err = new_floats(n);
    case_open(&k, spec, 1, n);
    fill_normal(x, n, 0.01f, n);
    case_round_trip(&k, x, err, back);
    memcpy(sum, x, n * sizeof *x);
    ck_assert_int_eq(taut__op_decode_add(k.codec, &k.call, k.payload, k.len, sum), TAUT_OK);
    for (size_t i = 0; i < n; i++) {
        float e = x[i] - back[i], rounded = k.spec.stages > 1 ? 1e-8f : 0; /* a stack rounds between its stages */
        ck_assert_msg(fabsf(sum[i] - (x[i] + back[i])) <= rounded, "%s n=%zu i=%zu", spec, n, i);
        ck_assert_msg(fabsf(err[i] - e) <= rounded, "%s n=%zu i=%zu: %g instead of %g", spec, n, i, err[i], e);
    }
    if (k.len > 0) {
        size_t   len = k.len;
        uint8_t *tight = malloc(len); /* a sanitizer sees a byte beyond it */
        if (taut__op_encode(k.codec, &k.call, x, tight, len, &len, NULL) == TAUT_OK) {
            ck_assert_uint_eq(len, k.len);
            ck_assert_mem_eq(tight, k.payload, len);
        }
        ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, tight, k.len - 1, &len, NULL), TAUT_E_CAPACITY);
        free(tight);
    }
    case_close(&k);
    free(x), free(back), free(sum), free(err);
}

static void every_codec_at_every_length(const char *spec)
{
    for (size_t l = 0; l < LENGTHS; l++)
        if (suits(spec, 1, lengths[l])) check_length(spec, lengths[l]);
}

/* err may be src */
static void error_in_place(const char *spec)
{
    enum { N = 1500 };
    codec_case k;
    float     *x = new_floats(N), *back = new_floats(N), *err = new_floats(N);
    case_open(&k, spec, 30, N / 30);
    fill_normal(x, N, 1, 3);
    case_round_trip(&k, x, err, back);
    case_close(&k);
    case_open(&k, spec, 30, N / 30);
    case_round_trip(&k, x, x, back);
    case_close(&k);
    ck_assert_mem_eq(x, err, N * sizeof *x);
    free(x), free(back), free(err);
}

/* Slices of the whole, an empty one included, encode to what decodes to the same floats. */
static void slices_decode_to_the_whole(const char *spec)
{
    enum { N = 5000 };
    if (!suits(spec, 1, N)) return;
    codec_case k;
    float     *x = new_floats(N), *whole = new_floats(N), *part = new_floats(N);
    case_open(&k, spec, 1, N);
    fill_normal(x, N, 1, 5);
    taut_calibration calibration = {0};
    double           stats[TAUT_STATS_MAX] = {0};
    if (k.codec->caps & TAUT_CAP_SLICEABLE) {
        if (k.codec->n_stats) {
            ck_assert_int_eq(taut__op_collect_stats(k.codec, &k.call, x, stats), TAUT_OK);
            ck_assert_int_eq(taut__op_calibrate(k.codec, &k.call, stats, 1, x, &calibration), TAUT_OK);
            k.call.calibration = &calibration;
        }
        case_round_trip(&k, x, NULL, whole);
        size_t align = taut__spec_align(&k.spec), step = (700 + align - 1) / align * align;
        for (size_t i = 0; i < N + step; i += step) {
            taut_call c = k.call;
            c.first = taut__min(i, N / align * align), c.n = i < N ? taut__min(step, N - i) : 0;
            ck_assert_uint_le(taut__spec_capacity(&k.spec, &k.tensor, c.n), k.cap);
            ck_assert_int_eq(taut__op_encode(k.codec, &c, x + c.first, k.payload, k.cap, &k.len, NULL), TAUT_OK);
            ck_assert_int_eq(taut__op_decode(k.codec, &c, k.payload, k.len, part + c.first), TAUT_OK);
        }
        ck_assert_mem_eq(part, whole, N * sizeof *whole);
        k.call.calibration = NULL, k.call.n = 0; /* nothing, by itself */
        ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, k.payload, k.cap, &k.len, NULL), TAUT_OK);
        ck_assert_int_eq(taut__op_decode(k.codec, &k.call, k.payload, k.len, part), TAUT_OK);
    }
    case_close(&k);
    free(x), free(whole), free(part);
}

/* ---- frames ---- */

static size_t frame_of(const char *spec, int ndim, const size_t *shape, const float *x, uint8_t **frame)
{
    size_t cap, len;
    ck_assert_msg(taut_encode_bound(spec, ndim, shape, &cap) == TAUT_OK, "%s", taut_last_error());
    *frame = malloc(cap);
    ck_assert_int_eq(taut_encode(spec, ndim, shape, x, 42, *frame, cap, &len), TAUT_OK);
    ck_assert_uint_le(len, cap);
    return len;
}

static void frames_tell_what_they_are(const char *spec)
{
    size_t   shape[] = {20, 30}, elems, flen;
    float   *x = new_floats(600), *back = new_floats(600);
    uint8_t *frame;
    char     text[256];
    fill_normal(x, 600, 1, 1);
    size_t len = frame_of(spec, 2, shape, x, &frame);
    ck_assert_int_eq(taut_frame_info(frame, len, &elems, &flen, text, sizeof text), TAUT_OK);
    ck_assert_uint_eq(elems, 600);
    ck_assert_uint_eq(flen, len);
    ck_assert_msg(strncmp(text, spec, strcspn(spec, ":")) == 0, "%s", text);
    ck_assert_int_eq(taut_spec_check(text, 2, shape), TAUT_OK);
    ck_assert_int_eq(taut_decode(frame, len, back, 600), TAUT_OK);
    ck_assert_int_eq(taut_decode(frame, len, back, 599), TAUT_E_INVALID);
    free(frame), free(x), free(back);
}

/* Every byte of the frame is covered by a check: any flip, cut or extension is an error. */
static void damaged_frames_are_refused(const char *spec)
{
    size_t   shape[] = {10, 13};
    float   *x = new_floats(130), *back = new_floats(130);
    uint8_t *frame;
    fill_normal(x, 130, 1, 1);
    size_t   len = frame_of(spec, 2, shape, x, &frame);
    uint8_t *copy = malloc(len + 1);
    memcpy(copy, frame, len), copy[len] = 0;
    ck_assert_int_eq(taut_decode(copy, len + 1, back, 130), TAUT_E_CORRUPT);
    for (size_t i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit++) {
            copy[i] ^= (uint8_t)(1 << bit);
            ck_assert_msg(taut_decode(copy, len, back, 130) < 0, "%s byte %zu bit %d", spec, i, bit);
            copy[i] = frame[i];
        }
    free(copy);
    for (size_t cut = 0; cut < len; cut++) {
        copy = malloc(cut ? cut : 1);
        memcpy(copy, frame, cut);
        ck_assert_int_eq(taut_decode(copy, cut, back, 130), TAUT_E_CORRUPT);
        free(copy);
    }
    free(frame), free(x), free(back);
}

/* The same damage behind a valid checksum: the codec itself must answer. */
static void damaged_payloads_are_survived(const char *spec)
{
    codec_case k;
    float     *x = new_floats(130), *back = new_floats(130);
    case_open(&k, spec, 10, 13);
    fill_normal(x, 130, 1, 1);
    case_round_trip(&k, x, NULL, back);
    case_fuzz_payload(&k);
    case_close(&k);
    free(x), free(back);
}

/* A frame that claims more elements than its payload holds must not be believed. */
static void element_counts_are_checked(const char *spec)
{
    codec_case k;
    uint8_t    frame[4096];
    size_t     len;
    float     *x = new_floats(65), *back = new_floats(4096);
    case_open(&k, spec, 5, 13);
    fill_normal(x, 65, 1, 1);
    ck_assert_int_eq(taut__frame_encode(&k.call, x, frame, sizeof frame, &len, NULL, false), TAUT_OK);
    ck_assert_int_eq(taut__frame_seal(k.codec, &(taut_call){.n = 4096}, frame, len - TAUT_FRAME_HEADER, &len), TAUT_OK);
    (void)taut_decode(frame, len, back, 4096); /* an answer, whatever it is, and no access outside: ASan */
    ck_assert_int_eq(taut__frame_seal(k.codec, &(taut_call){.n = 0}, frame, len - TAUT_FRAME_HEADER, &len), TAUT_OK);
    (void)taut_decode(frame, len, back, 0);
    ck_assert_int_eq(taut__frame_seal(k.codec, &(taut_call){.n = SIZE_MAX}, frame, len - TAUT_FRAME_HEADER, &len),
                     TAUT_OK);
    ck_assert_int_lt(taut_decode(frame, len, back, SIZE_MAX), 0);
    case_close(&k);
    free(x), free(back);
}

/* One test for all specs: a process for each would spend its time in the sanitizer's farewell. */
/* Where finite values are so large that arithmetic on them is not: codecs stop at the largest float. The sum of a stack's stages may go
 * beyond, to Inf of the value's sign, as what randk scales up, and powersgd's products, whose whole tensor is NaN then. Residuals stay finite. */
static void largest_floats_have_an_answer(const char *spec)
{
    enum { ROWS = 40, COLS = 50, N = ROWS * COLS };
    static float x[N], err[N], back[N];
    codec_case   k;
    size_t       bad = 0;
    bool         low_rank = strstr(spec, "powersgd"), beyond = !strncmp(spec, "stack", 5) || strstr(spec, "scale=1");
    case_open(&k, spec, ROWS, COLS);
    for (uint32_t i = 0; i < N; i++)
        x[i] = 1.58e29f * (float)(int32_t)taut__random32(taut__rng_of(5, 0), i); /* up to 3.4e38 */
    case_round_trip(&k, x, err, back);
    for (size_t i = 0; i < N; i++) {
        ck_assert_msg(isfinite(err[i]), "%s: %zu: %g, error %g", spec, i, (double)x[i], (double)err[i]);
        bad += !isfinite(back[i]);
        if (low_rank || isfinite(back[i])) continue;
        ck_assert_msg(beyond && isinf(back[i]) && signbit(back[i]) == signbit(x[i]), "%s: %zu: %g of %g", spec, i,
                      (double)back[i], (double)x[i]);
    }
    ck_assert(!low_rank || bad == 0 || bad == N);
    case_close(&k);
}

static const struct {
    const char *name;
    void (*check)(const char *spec);
} promises[] = {
    {"every length", every_codec_at_every_length},  {"error in place", error_in_place},
    {"slices", slices_decode_to_the_whole},         {"frames tell", frames_tell_what_they_are},
    {"damaged frames", damaged_frames_are_refused}, {"damaged payloads", damaged_payloads_are_survived},
    {"element counts", element_counts_are_checked}, {"largest floats", largest_floats_have_an_answer},
};
enum { PROMISES = sizeof promises / sizeof *promises };

START_TEST(every_codec_keeps_its_promises)
{
    for (size_t i = 0; i < SPECS; i++) {
        fprintf(stderr, "%s: %s\n", promises[_i].name, specs[i]); /* a failure's last line says where */
        promises[_i].check(specs[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec_basics");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_test(t, every_codec_has_a_spec_here);
    tcase_add_test(t, bad_specs_name_the_value_and_the_range);
    tcase_add_test(t, specs_print_canonically_and_parse_back);
    tcase_add_loop_test(t, every_codec_keeps_its_promises, 0, PROMISES);
    return suite_run(s);
}
