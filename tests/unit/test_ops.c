/* test_ops.c : operations by space: batches do what single calls do, with the same bytes; what a space lacks is named; and a space that
 * only takes batches, and only in its own memory, answers single calls. */
#include "compressors/frame.h"
#include "compressors/vectors.h"
#include "compressors/cuda/cuda.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const specs[] = {
    "none",
    "fp16",
    "bf16",
    "quant",
    "quant:bits=1",
    "quant:bits=3,bucket=64,norm=l2",
    "grid",
    "grid:step=0.1",
    "grid:rel=0.1,code=rans",
    "topk",
    "topk:density=0.3",
    "randk:density=0.1",
    "randk:density=0.25,scale=1",
    "powersgd:rank=2",
    "stack:topk:density=0.05+quant:bits=2",
    "stack:quant:bits=2+fp16",
};
enum { SPECS = sizeof specs / sizeof *specs, ROWS = 24, COLS = 96, N = ROWS * COLS, PIECES = 3 };

typedef struct set { /* of PIECES tensors of one spec */
    codec_case       k[PIECES];
    float           *x, *err[PIECES], *back[PIECES];
    taut_outcome     out[PIECES];
    taut_piece       piece[PIECES];
    int32_t         *codes[PIECES];
    taut_calibration calibration[PIECES];
} set;

static void open_set(set *s, const char *spec)
{
    memset(s, 0, sizeof *s);
    s->x = new_floats(PIECES * N);
    fill_normal(s->x, PIECES * N, 1, 5);
    for (int i = 0; i < PIECES; i++) {
        case_open(&s->k[i], spec, ROWS, COLS);
        s->k[i].call.seed += (uint64_t)i;
        s->err[i] = new_floats(N), s->back[i] = new_floats(N);
        s->codes[i] = calloc(N, sizeof *s->codes[i]);
        s->piece[i] = (taut_piece){.call = s->k[i].call,
                                   .src = s->x + i * N,
                                   .dst = s->back[i],
                                   .err = s->err[i],
                                   .payload = s->k[i].payload,
                                   .cap = s->k[i].cap,
                                   .outcome = &s->out[i],
                                   .codes = s->codes[i],
                                   .limit = INT32_MAX / 4,
                                   .scale_by = 0.5f,
                                   .ranks = 2,
                                   .calibration = &s->calibration[i]};
    }
}

static void close_set(set *s)
{
    for (int i = 0; i < PIECES; i++) case_close(&s->k[i]), free(s->err[i]), free(s->back[i]), free(s->codes[i]);
    free(s->x);
}

static void enqueue(set *s, taut__op op)
{
    ck_assert_msg(taut__enqueue(op, s->k[0].codec, s->piece, PIECES, (taut_place){0}) == TAUT_OK, "%s: %s",
                  taut__op_name(op), taut_last_error());
    for (int i = 0; i < PIECES; i++) ck_assert_uint_eq(s->out[i].flags, 0);
}

/* ---- batches on the host ---- */

START_TEST(a_batch_is_as_good_as_single_calls)
{
    set        s;
    codec_case k;
    size_t     len, fixed;
    float     *err = new_floats(N), *back = new_floats(N);
    open_set(&s, specs[_i]);
    enqueue(&s, TAUT_OP_ENCODE);
    for (int i = 0; i < PIECES; i++) {
        case_open(&k, specs[_i], ROWS, COLS);
        k.call.seed += (uint64_t)i;
        ck_assert(taut__op_encode(k.codec, &k.call, s.x + i * N, k.payload, k.cap, &len, err) == TAUT_OK);
        ck_assert_uint_eq(s.out[i].bytes, len);
        ck_assert_mem_eq(s.piece[i].payload, k.payload, len);
        ck_assert_mem_eq(s.err[i], err, N * sizeof *err);
        if (taut__spec_fixed(&k.spec, &k.tensor, 0, N, &fixed)) ck_assert_uint_eq(fixed, len);
        ck_assert(taut__op_decode(k.codec, &k.call, k.payload, len, back) == TAUT_OK);
        memset(s.back[i], 0, N * sizeof *back);
        ck_assert(taut__enqueue(TAUT_OP_DECODE, k.codec, &s.piece[i], 1, (taut_place){0}) == TAUT_OK);
        ck_assert_mem_eq(s.back[i], back, N * sizeof *back);
        ck_assert(taut__op_decode_add(k.codec, &k.call, k.payload, len, back) == TAUT_OK);
        ck_assert(taut__enqueue(TAUT_OP_DECODE_ADD, k.codec, &s.piece[i], 1, (taut_place){0}) == TAUT_OK);
        ck_assert_mem_eq(s.back[i], back, N * sizeof *back);
        case_close(&k);
    }
    close_set(&s);
    free(err), free(back);
}
END_TEST

/* Statistics, calibration, codes: the whole of an integer codec's life, batched. */
START_TEST(codes_in_batches)
{
    set     s;
    double  stats[PIECES][TAUT_STATS_MAX] = {{0}};
    int32_t want[N], sum[N] = {0};
    float   values[N];
    open_set(&s, _i ? "grid:rel=0.02,code=rans" : "grid:rel=0.02");
    for (int i = 0; i < PIECES; i++) s.piece[i].stats = stats[i], s.piece[i].src = s.x;
    enqueue(&s, TAUT_OP_COLLECT_STATS);
    enqueue(&s, TAUT_OP_CALIBRATE);
    for (int i = 0; i < PIECES; i++) {
        ck_assert_mem_eq(stats[i], stats[0], sizeof stats[0]);
        s.piece[i].call.calibration = &s.calibration[i];
    }
    enqueue(&s, TAUT_OP_QUANTIZE_PACK);
    memcpy(want, s.codes[0], sizeof want);
    enqueue(&s, TAUT_OP_QUANTIZE);
    ck_assert_mem_eq(s.codes[1], want, sizeof want);
    enqueue(&s, TAUT_OP_PACK);
    for (int i = 0; i < PIECES; i++) s.piece[i].codes = sum;
    enqueue(&s, TAUT_OP_UNPACK_ADD); /* all into one: on the host one after the other */
    for (int j = 0; j < N; j++) ck_assert_int_eq(sum[j], PIECES * want[j]);
    enqueue(&s, TAUT_OP_DEQUANTIZE);
    s.k[0].call.calibration = &s.calibration[0];
    ck_assert(taut__op_dequantize(s.k[0].codec, &s.k[0].call, sum, 0.5f, values) == TAUT_OK);
    ck_assert_mem_eq(s.back[2], values, sizeof values);
    const uint8_t      *peers[2] = {s.piece[1].payload, s.piece[2].payload};
    const taut_outcome *bytes[2] = {&s.out[1], &s.out[2]};
    int32_t             mine[N];
    memcpy(mine, want, sizeof mine);
    taut_piece added = s.piece[0];
    uint8_t   *payload = malloc(added.cap);
    size_t     len = 0;
    added.codes = mine, added.peers = peers, added.peer_bytes = bytes, added.peer_count = 2;
    taut_outcome out = {0};
    added.outcome = &out, added.payload = payload;
    ck_assert(taut__enqueue(TAUT_OP_SUM_PACK, s.k[0].codec, &added, 1, (taut_place){0}) == TAUT_OK);
    for (int j = 0; j < N; j++) ck_assert_int_eq(mine[j], PIECES * want[j]);
    uint8_t *alone = malloc(added.cap);
    ck_assert(taut__op_pack(s.k[0].codec, &added.call, mine, alone, added.cap, &len) == TAUT_OK && len == out.bytes &&
              memcmp(alone, payload, len) == 0);
    free(payload), free(alone);
    s.piece[0].codes = sum;
    ck_assert(taut__enqueue(TAUT_OP_UNPACK_VALUES, s.k[0].codec, s.piece, 1, (taut_place){0}) == TAUT_OK);
    ck_assert_int_eq(sum[7], (PIECES + 1) * want[7]);
    close_set(&s);
}
END_TEST

/* A bad piece is flagged and named; the others are done all the same. */
START_TEST(one_bad_piece)
{
    set s;
    open_set(&s, "quant");
    enqueue(&s, TAUT_OP_ENCODE);
    s.piece[1].payload[0] = 99;
    ck_assert_int_eq(taut__enqueue(TAUT_OP_DECODE, s.k[0].codec, s.piece, PIECES, (taut_place){0}), TAUT_E_CORRUPT);
    ck_assert_uint_eq(s.out[1].flags, TAUT_FLAG_CORRUPT);
    ck_assert_uint_eq(s.out[0].flags | s.out[2].flags, 0);
    float sum = 0;
    for (int j = 0; j < N; j++) sum += fabsf(s.back[2][j]);
    ck_assert(sum > 0);
    close_set(&s);
}
END_TEST

/* Lengths that are known beforehand: of any slice, and of no other codec. */
START_TEST(fixed_sizes)
{
    codec_case k;
    float     *x = new_floats(N);
    size_t     fixed, len;
    fill_normal(x, N, 1, 2);
    case_open(&k, specs[_i], ROWS, COLS);
    bool known = taut__spec_fixed(&k.spec, &k.tensor, 0, N, &fixed);
    ck_assert_int_eq(known, (taut__spec_caps(&k.spec) & TAUT_CAP_FIXED_SIZE) != 0);
    ck_assert_int_eq(known, strncmp(specs[_i], "grid", 4) != 0 && strstr(specs[_i], "topk") == NULL);
    size_t step = taut__max(taut__spec_align(&k.spec), 64);
    for (size_t at = 0; known && taut__spec_caps(&k.spec) & TAUT_CAP_SLICEABLE && at < N; at += step) {
        k.call.first = at, k.call.n = taut__min(step, N - at);
        ck_assert(taut__op_encode(k.codec, &k.call, x + at, k.payload, k.cap, &len, NULL) == TAUT_OK);
        ck_assert(taut__spec_fixed(&k.spec, &k.tensor, at, k.call.n, &fixed));
        ck_assert_uint_eq(fixed, len);
    }
    case_close(&k);
    free(x);
}
END_TEST

/* ---- what is not there ---- */

START_TEST(missing_operations_are_named)
{
    codec_case k;
    size_t     len;
    float      x[64] = {0};
    int32_t    q[64];
    case_open(&k, "topk", 8, 8);
    ck_assert_int_eq(taut__op_quantize(k.codec, &k.call, x, q, NULL, 100), TAUT_E_UNSUPPORTED);
    ck_assert_msg(strstr(taut_last_error(), "topk: quantize: not for memory of space host"), "%s", taut_last_error());
    k.call.place.space = TAUT_SPACE_TEST;
    ck_assert_int_eq(taut__op_encode(k.codec, &k.call, x, k.payload, k.cap, &len, NULL), TAUT_E_UNSUPPORTED);
    ck_assert_msg(strstr(taut_last_error(), "topk: encode: the codec has no operations for space test"), "%s",
                  taut_last_error());
    ck_assert_ptr_null(taut__ops(k.codec, (taut_space)77));
    ck_assert_int_eq(taut__op_state_create(k.codec, &k.spec.stage[0], &k.tensor, 1, k.call.place, &k.call.state),
                     TAUT_E_UNSUPPORTED);
    ck_assert_ptr_null(taut__vectors_of(TAUT_SPACE_TEST));
    ck_assert_msg(strstr(taut_last_error(), "space test cannot be used"), "%s", taut_last_error());
    case_close(&k);
}
END_TEST

/* No GPU, no kernels, or a driver too old: all codecs say so, with the reason that `taut info` gives. */
START_TEST(without_a_device)
{
    const char *why;
    if (taut__cuda_get(&why)) return;
    const taut_codec *codec;
    for (size_t i = 0; (codec = taut__codec_at(i)) != NULL; i++) {
        taut_call c = {.place = {.space = TAUT_CUDA}};
        float     x = 0;
        uint8_t   bytes[64];
        size_t    len;
        ck_assert_ptr_null(taut__ops(codec, TAUT_CUDA));
        ck_assert_int_eq(taut__op_encode(codec, &c, &x, bytes, sizeof bytes, &len, NULL), TAUT_E_UNSUPPORTED);
        ck_assert_msg(strstr(taut_last_error(), why) && strstr(taut_last_error(), codec->name), "%s",
                      taut_last_error());
    }
    ck_assert_ptr_null(taut__memory_of(TAUT_CUDA));
    ck_assert_msg(strstr(taut_last_error(), why) != NULL, "%s", taut_last_error());
}
END_TEST

/* ---- a space that takes batches only ---- */

static size_t     batches;
static taut_place expected;

static taut_status run_batch(taut__op op, const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place place)
{
    ck_assert(place.space == TAUT_SPACE_TEST && place.stream == expected.stream && place.device == expected.device);
    batches++;
    for (size_t i = 0; i < n; i++) {
        taut_piece p = pieces[i];
        p.call.place = (taut_place){0};
        if (taut__run_piece(op, codec, codec->ops[TAUT_HOST], &p) == TAUT_E_UNSUPPORTED) return TAUT_E_UNSUPPORTED;
    }
    return TAUT_OK; /* what the data told is in the flags */
}

static taut_codec_ops batches_only(void)
{
    taut_codec_ops t = {0};
    for (int op = 0; op < TAUT_OPS; op++) t.enqueue[op] = run_batch;
    return t;
}

START_TEST(single_calls_on_batches)
{
    static taut_codec_ops table;
    taut_place place = {.space = TAUT_SPACE_TEST, .device = 3, .stream = (struct CUstream_st *)(uintptr_t)64};
    codec_case k, there;
    size_t     len;
    float     *x = new_floats(N), *err = new_floats(N), *y = new_floats(N), *err2 = new_floats(N);
    double     stats[2][TAUT_STATS_MAX] = {{0}};
    expected = place;
    table = batches_only();
    taut__ops_register(NULL, TAUT_SPACE_TEST, &table);
    taut__space_register(TAUT_SPACE_TEST, &taut__space_host);
    fill_normal(x, N, 1, 9);
    case_open(&k, specs[_i], ROWS, COLS);
    case_open(&there, specs[_i], ROWS, COLS);
    there.call.place = place;
    batches = 0;
    ck_assert(taut__op_encode(k.codec, &k.call, x, k.payload, k.cap, &k.len, err) == TAUT_OK);
    ck_assert(taut__op_encode(k.codec, &there.call, x, there.payload, there.cap, &there.len, err2) == TAUT_OK);
    ck_assert_uint_eq(there.len, k.len);
    ck_assert_mem_eq(there.payload, k.payload, k.len);
    ck_assert_mem_eq(err2, err, N * sizeof *err);
    ck_assert(taut__op_decode(k.codec, &k.call, k.payload, k.len, err) == TAUT_OK);
    ck_assert(taut__op_decode(k.codec, &there.call, k.payload, k.len, y) == TAUT_OK);
    ck_assert_mem_eq(y, err, N * sizeof *err);
    ck_assert(taut__op_decode_add(k.codec, &k.call, k.payload, k.len, err) == TAUT_OK);
    ck_assert(taut__op_decode_add(k.codec, &there.call, k.payload, k.len, y) == TAUT_OK);
    ck_assert_mem_eq(y, err, N * sizeof *err);
    ck_assert_uint_eq(batches, 3);
    if (k.codec->n_stats) {
        taut_calibration a, b;
        ck_assert(taut__op_collect_stats(k.codec, &k.call, x, stats[0]) == TAUT_OK);
        ck_assert(taut__op_collect_stats(k.codec, &there.call, x, stats[1]) == TAUT_OK);
        ck_assert_mem_eq(stats[0], stats[1], sizeof stats[0]);
        ck_assert(taut__op_calibrate(k.codec, &k.call, stats[0], 1, x, &a) == TAUT_OK);
        ck_assert(taut__op_calibrate(k.codec, &there.call, stats[1], 1, x, &b) == TAUT_OK);
        ck_assert(a.raw == b.raw && memcmp(a.f, b.f, sizeof a.f) == 0 && memcmp(a.u, b.u, sizeof a.u) == 0);
        if (k.codec->n_brief) ck_assert(taut__op_adapt(k.codec, &there.call, stats[0], stats[1], 1, &b) == TAUT_OK);
        if (k.codec->n_brief) ck_assert(taut__op_rebase(k.codec, &there.call, stats[0], stats[1]) == TAUT_OK);
    }
    ck_assert(taut__op_decode(k.codec, &there.call, k.payload, k.len - 1, y) == TAUT_E_CORRUPT);
    ck_assert_msg(strstr(taut_last_error(), "malformed payload") != NULL, "%s", taut_last_error());
    taut__ops_register(NULL, TAUT_SPACE_TEST, NULL);
    taut__space_register(TAUT_SPACE_TEST, NULL);
    ck_assert(taut__op_encode(k.codec, &there.call, x, there.payload, there.cap, &len, NULL) == TAUT_E_UNSUPPORTED);
    case_close(&k), case_close(&there);
    free(x), free(err), free(y), free(err2);
}
END_TEST

/* One codec's own table goes before the one for all. */
START_TEST(a_table_for_one_codec)
{
    static taut_codec_ops all, none;
    const taut_codec     *quant = taut__codec_by_name("quant", 5), *topk = taut__codec_by_name("topk", 4);
    taut__ops_register(NULL, TAUT_SPACE_TEST, &all);
    taut__ops_register(quant, TAUT_SPACE_TEST, &none);
    ck_assert_ptr_eq(taut__ops(quant, TAUT_SPACE_TEST), &none);
    ck_assert_ptr_eq(taut__ops(topk, TAUT_SPACE_TEST), &all);
    taut__ops_register(quant, TAUT_SPACE_TEST, NULL);
    taut__ops_register(NULL, TAUT_SPACE_TEST, NULL);
    ck_assert_ptr_null(taut__ops(quant, TAUT_SPACE_TEST));
    ck_assert_ptr_eq(taut__ops(quant, TAUT_HOST), quant->ops[TAUT_HOST]);
}
END_TEST

/* ---- frames ---- */

/* Without a checksum: flag 1, and 0 where the checksum would be. Both kinds are read; a flag alone, or another flag, is refused. */
START_TEST(frames_without_a_checksum)
{
    codec_case k;
    uint8_t    with[4096], without[4096];
    size_t     len, len2;
    float      x[256], back[256];
    fill_normal(x, 256, 1, 3);
    case_open(&k, specs[_i], 16, 16);
    ck_assert(taut__frame_capacity(&k.spec, &k.tensor, 256) <= sizeof with);
    ck_assert(taut__frame_encode(&k.call, x, with, sizeof with, &len, NULL, false) == TAUT_OK);
    k.call.no_checksum = true;
    ck_assert(taut__frame_encode(&k.call, x, without, sizeof without, &len2, NULL, false) == TAUT_OK);
    ck_assert_uint_eq(len, len2);
    ck_assert_uint_eq(with[5], 0);
    ck_assert_uint_eq(without[5], TAUT_FRAME_UNCHECKED);
    for (int i = 24; i < 32; i++) ck_assert_uint_eq(without[i], 0);
    ck_assert_mem_eq(with + 32, without + 32, len - 32);
    ck_assert(taut_decode(with, len, back, 256) == TAUT_OK && taut_decode(without, len, back, 256) == TAUT_OK);
    with[5] = TAUT_FRAME_UNCHECKED; /* a flipped bit does not switch the check off */
    ck_assert_int_eq(taut_decode(with, len, back, 256), TAUT_E_CORRUPT);
    without[5] = 3;
    ck_assert_int_eq(taut_decode(without, len, back, 256), TAUT_E_CORRUPT);
    ck_assert_msg(strstr(taut_last_error(), "unknown flags 0x03") != NULL, "%s", taut_last_error());
    case_close(&k);
}
END_TEST

/* Headers in batches are those of single frames. */
START_TEST(sealed_in_batches)
{
    set     s;
    uint8_t frame[PIECES][8192], one[8192];
    size_t  len;
    open_set(&s, specs[_i]);
    for (int i = 0; i < PIECES; i++) {
        s.piece[i].payload = frame[i] + TAUT_FRAME_HEADER;
        ck_assert(taut__frame_encode(&s.piece[i].call, s.piece[i].src, one, sizeof one, &len, NULL, false) ==
                  (s.k[i].cap + 32 <= sizeof one ? TAUT_OK : TAUT_E_CAPACITY));
    }
    if (s.k[0].cap + 32 <= sizeof one) {
        enqueue(&s, TAUT_OP_ENCODE);
        ck_assert(taut__vectors_host.seal(s.k[0].codec, s.piece, PIECES, (taut_place){0}) == TAUT_OK);
        ck_assert_mem_eq(frame[2], one, len);
        ck_assert(taut__vectors_host.open(s.k[0].codec, s.piece, PIECES, (taut_place){0}) == TAUT_OK);
        frame[1][9] ^= 1;
        ck_assert(taut__vectors_host.open(s.k[0].codec, s.piece, PIECES, (taut_place){0}) == TAUT_E_CORRUPT);
        ck_assert_uint_eq(s.out[1].flags, TAUT_FLAG_CORRUPT);
        ck_assert_uint_eq(s.out[0].flags | s.out[2].flags, 0);
    }
    close_set(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ops");
    TCase *t = suite_case(s, "spaces", 0);
    tcase_add_loop_test(t, a_batch_is_as_good_as_single_calls, 0, SPECS);
    tcase_add_loop_test(t, codes_in_batches, 0, 2);
    tcase_add_test(t, one_bad_piece);
    tcase_add_loop_test(t, fixed_sizes, 0, SPECS);
    tcase_add_test(t, missing_operations_are_named);
    tcase_add_test(t, without_a_device);
    tcase_add_loop_test(t, single_calls_on_batches, 0, SPECS);
    tcase_add_test(t, a_table_for_one_codec);
    tcase_add_loop_test(t, frames_without_a_checksum, 0, SPECS);
    tcase_add_loop_test(t, sealed_in_batches, 0, SPECS);
    return suite_run(s);
}
