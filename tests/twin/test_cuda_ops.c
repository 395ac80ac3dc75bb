/* test_cuda_ops.c : every codec through its table of operations for CUDA, on the execution model (or a GPU), against the host's table:
 * the same payloads, residuals, codes and floats; in batches; statistics, calibrations and states that stay on the device. */
#include "compressors/frame.h"
#include "compressors/grid/grid.h"
#include "tests/support/cuda_host/control.h"
#include "tests/support/cuda_twin.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- floats ---- */

enum { PIECES = 3 };
static const size_t shapes[PIECES][2] = {{1, 1}, {7, 93}, {40, 170}};

START_TEST(every_codec)
{
    twin        t[PIECES];
    const char *spec = twin_specs[_i];
    for (int pass = 0; pass < 3; pass++) { /* all kinds, over the specs */
        int    kind = (_i + 4 * pass) % CUDA_KINDS;
        size_t chunks = strncmp(spec, "grid", 4) == 0 && pass == 0 ? 10 : 1; /* more than one chunk */
        twin_begin((uint64_t)_i + (uint64_t)kind);
        for (int i = 0; i < PIECES; i++)
            twin_open(&t[i], spec, shapes[i][0], shapes[i][1] * (i == 2 ? chunks : 1), kind);
        if (strstr(spec, "rel=")) twin_calibrate(t, PIECES, 2);
        twin_enqueue(TAUT_OP_ENCODE, t, PIECES);
        for (int i = 0; i < PIECES; i++) {
            codec_case *k = &t[i].k;
            ck_assert(taut__op_encode(k->codec, &k->call, t[i].x, k->payload, k->cap, &k->len, t[i].err) == TAUT_OK);
            twin_same_payload(&t[i], spec);
            twin_same_floats(&t[i], t[i].err, t[i].piece.err, "residuals");
            ck_assert(taut__op_decode(k->codec, &k->call, k->payload, k->len, t[i].back) == TAUT_OK);
        }
        twin_enqueue(TAUT_OP_DECODE, t, PIECES);
        for (int i = 0; i < PIECES; i++) {
            twin_same_floats(&t[i], t[i].back, t[i].piece.dst, "values");
            ck_assert(taut__op_decode_add(t[i].k.codec, &t[i].k.call, t[i].k.payload, t[i].k.len, t[i].back) ==
                      TAUT_OK);
        }
        twin_enqueue(TAUT_OP_DECODE_ADD, t, PIECES);
        for (int i = 0; i < PIECES; i++) {
            twin_same_floats(&t[i], t[i].back, t[i].piece.dst, "sums");
            ck_assert_uint_eq(twin_outcome(&t[i]).flags & ~(uint32_t)TAUT_FLAG_NOT_FINITE, 0);
            twin_close(&t[i]);
        }
        twin_end();
    }
}
END_TEST

/* topk's whole-tensor threshold, with ties, few that are not zero, and none; then slices under it, and sums without loss. */
START_TEST(topk_by_threshold)
{
    for (int kind = 0; kind < CUDA_KINDS; kind++) {
        twin t[3];
        twin_begin((uint64_t)kind);
        twin_open(&t[0], "topk:density=0.1", 60, 400, kind); /* candidates first */
        twin_open(&t[1], "topk:density=0.3", 3, 21, kind);
        twin_open(&t[2], "topk:density=0.02", 50, 400, kind);
        if (kind == 6) { /* ties that stay */
            for (size_t i = 0; i < 20000; i++)
                t[2].x[i] = (float)(i * 7919 % 101 == 0) * 2 + (float)(i * 31 % 7 == 0) * (i % 2 ? 0.5f : -0.5f);
            t[2].piece.src = cuda_put(t[2].x, 80000, 0);
        }
        for (int i = 0; i < 3; i++) {
            twin_calibrate(&t[i], 1, 1);
            twin_enqueue(TAUT_OP_ENCODE, &t[i], 1);
            ck_assert(taut__op_encode(t[i].k.codec, &t[i].k.call, t[i].x, t[i].k.payload, t[i].k.cap, &t[i].k.len,
                                      t[i].err) == TAUT_OK);
            twin_same_payload(&t[i], "topk, calibrated");
            twin_same_floats(&t[i], t[i].err, t[i].piece.err, "residuals");
            twin_enqueue(TAUT_OP_ENCODE_EXACT, &t[i], 1);
            ck_assert(taut__op_encode_exact(t[i].k.codec, &t[i].k.call, t[i].x, t[i].k.payload, t[i].k.cap,
                                            &t[i].k.len) == TAUT_OK);
            twin_same_payload(&t[i], "topk, exact");
        }
        for (int i = 0; i < 3; i++) twin_close(&t[i]);
        twin_end();
    }
}
END_TEST

/* Hundreds of small layers: more than one launch takes, of two twin_specs. */
START_TEST(many_small_layers)
{
    enum { LAYERS = 300 };
    twin  *t = calloc(LAYERS, sizeof *t);
    float *x[LAYERS];
    twin_begin(3);
    uint8_t            *payloads = cuda_new(LAYERS * 4096, 0), *payload = malloc(4096);
    float              *xs = new_floats(LAYERS * 70);
    taut_piece         *p = calloc(LAYERS, sizeof *p);
    static taut_outcome zeros[LAYERS], outs[LAYERS];
    cuda_fill(xs, LAYERS * 70, 0);
    const float  *dx = cuda_put(xs, 4 * LAYERS * 70, 0);
    taut_outcome *dout = cuda_put(zeros, sizeof zeros, 0);
    for (size_t i = 0; i < LAYERS; i++) {
        case_open(&t[i].k, i < 100 ? "quant:bits=3,bucket=64" : "quant:bits=4,bucket=64", 1, i % 70 + 1);
        x[i] = xs + 70 * i;
        p[i] = (taut_piece){
            .call = t[i].k.call, .src = dx + 70 * i, .payload = payloads + 4096 * i, .cap = 4096, .outcome = dout + i};
    }
    ck_assert_msg(taut__enqueue(TAUT_OP_ENCODE, t[0].k.codec, p, LAYERS, twin_place) == TAUT_OK, "%s",
                  taut_last_error());
    cuda_get(outs, dout, sizeof outs);
    for (size_t i = 0; i < LAYERS; i++) {
        codec_case *k = &t[i].k;
        ck_assert(taut__op_encode(k->codec, &k->call, x[i], k->payload, k->cap, &k->len, NULL) == TAUT_OK);
        ck_assert_uint_eq(outs[i].bytes, k->len);
        cuda_get(payload, payloads + 4096 * i, k->len);
        ck_assert_msg(memcmp(payload, k->payload, k->len) == 0, "layer %zu", i);
        case_close(k);
    }
    twin_end();
    free(t), free(xs), free(p), free(payload);
}
END_TEST

/* ---- codes ---- */

static void codes_of(twin *t, int32_t *codes, int32_t *q, float *dst, bool raw)
{
    codec_case             *k = &t->k;
    size_t                  n = k->tensor.elems;
    const taut_integer_ops *in = k->codec->ops[TAUT_HOST]->integer;
    t->piece.codes = cuda_put(codes, 4 * n, 0), t->piece.limit = INT32_MAX / 4, t->piece.scale_by = 0.25f;
    twin_enqueue(TAUT_OP_QUANTIZE, t, 1);
    ck_assert(in->quantize(&k->call, t->x, q, t->err, INT32_MAX / 4) == TAUT_OK);
    twin_same_floats(t, t->err, t->piece.err, "residuals of codes");
    twin_enqueue(TAUT_OP_PACK, t, 1);
    ck_assert(in->pack(&k->call, q, k->payload, k->cap, &k->len) == TAUT_OK);
    twin_same_payload(t, "packed codes");
    twin_enqueue(TAUT_OP_QUANTIZE_PACK, t, 1);
    twin_same_payload(t, "quantized and packed");
    twin_enqueue(TAUT_OP_UNPACK_ADD, t, 1);
    ck_assert(in->unpack_add(&k->call, k->payload, k->len, q) == TAUT_OK);
    cuda_get(codes, t->piece.codes, 4 * n);
    ck_assert(raw ? cuda_same((float *)codes, (float *)q, n) : memcmp(codes, q, 4 * n) == 0);
    twin_enqueue(TAUT_OP_UNPACK_VALUES, t, 1);
    ck_assert(in->unpack_values(&k->call, k->payload, k->len, q, dst) == TAUT_OK);
    twin_same_floats(t, dst, t->piece.dst, "values of sums");
    twin_enqueue(TAUT_OP_DEQUANTIZE, t, 1);
    ck_assert(in->dequantize(&k->call, q, 0.25f, dst) == TAUT_OK);
    twin_same_floats(t, dst, t->piece.dst, "values of codes");
    ck_assert_uint_eq(twin_outcome(t).flags & ~(uint32_t)TAUT_FLAG_NOT_FINITE, 0);
}

/* Codes with an agreed step; where the input holds NaN or Inf calibration says raw, and the same calls carry the floats. */
START_TEST(integer_codes)
{
    enum { ROWS = 41, COLS = 1657, MOST = ROWS * COLS };
    int32_t *codes = calloc(MOST, 4), *q = calloc(MOST, 4);
    float   *dst = new_floats(MOST);
    for (int kind = _i; kind < CUDA_KINDS; kind += 2 + (kind == 1)) { /* NaN or Inf in both */
        twin   t;
        size_t cols = kind == _i ? COLS : 160, n = ROWS * cols; /* two chunks, once */
        memset(codes, 0, 4 * n), memset(q, 0, 4 * n);
        twin_begin((uint64_t)kind + 20);
        twin_open(&t, _i ? "grid:rel=0.05,code=rans" : "grid:rel=0.02", ROWS, cols, kind);
        twin_calibrate(&t, 1, 3);
        ck_assert_int_eq(t.here.raw, kind == 3 || kind == 4);
        codes_of(&t, codes, q, dst, t.here.raw);
        if (t.here.raw) ck_assert(isnan(dst[n / 2]) || isinf(dst[n - 1]));
        twin_close(&t);
        twin_end();
    }
    free(codes), free(q), free(dst);
}
END_TEST

/* Payloads of several peers, and this rank's codes, added and packed again in one pass: the bytes that one after the other gives. More
 * peers than one pass takes, code rans, no codes of one's own, and floats where calibration says raw. */
static void sums_of(const char *spec, size_t cols, int kind, uint32_t count, bool own, size_t spoil)
{
    bool refused = false;
    enum { MOST = 10 };
    twin                t;
    const uint8_t      *lists[MOST];
    const taut_outcome *outcomes[MOST];
    size_t              n = 41 * cols;
    int32_t            *q = calloc(n, 4), *codes = calloc(n, 4);
    float              *x = new_floats(n);
    twin_begin((uint64_t)kind + count);
    twin_open(&t, spec, 41, cols, kind);
    twin_calibrate(&t, 1, MOST + 1);
    const taut_integer_ops *in = t.k.codec->ops[TAUT_HOST]->integer;
    if (own) ck_assert(in->quantize(&t.k.call, t.x, q, NULL, INT32_MAX / 16) == TAUT_OK);
    memcpy(codes, q, 4 * n);
    t.piece.codes = own || count > 8 || strstr(spec, "rans") ? cuda_put(codes, 4 * n, 0) : NULL;
    for (uint32_t p = 0; p < count; p++) {
        int32_t *mine = calloc(n, 4);
        for (size_t i = 0; i < n; i++) x[i] = p == 1 ? 0 : t.x[(i + 64 * p) % n] * (p % 2 ? -1.0f : 1.0f);
        ck_assert(in->quantize(&t.k.call, x, mine, NULL, INT32_MAX / 16) == TAUT_OK &&
                  in->pack(&t.k.call, mine, t.k.payload, t.k.cap, &t.k.len) == TAUT_OK);
        ck_assert(in->unpack_add(&t.k.call, t.k.payload, t.k.len, q) == TAUT_OK);
        taut_outcome o = {.bytes = t.k.len};
        if (spoil && p == 2) { /* another byte; the last but one spoils the length too */
            memset(mine, 0, 4 * n);
            t.k.payload[spoil * 37 % t.k.len] ^= (uint8_t)(1 + spoil);
            if (spoil % 3 == 0) o.bytes--;
            refused = in->unpack_add(&t.k.call, t.k.payload, (size_t)o.bytes, mine) != TAUT_OK;
        }
        lists[p] = cuda_put(t.k.payload, t.k.len, 0), outcomes[p] = cuda_put(&o, sizeof o, 0);
        cuda_get(mine, lists[p], taut__min(t.k.len, 4 * n)); /* it has been copied */
        free(mine);
    }
    t.piece.peers = lists, t.piece.peer_bytes = outcomes, t.piece.peer_count = count;
    twin_enqueue(TAUT_OP_SUM_PACK, &t, 1);
    uint32_t flags = twin_outcome(&t).flags;
    if (spoil) {
        ck_assert_msg(!!(flags & TAUT_FLAG_CORRUPT) == refused, "spoilt at %zu: the host says %d", spoil * 37, refused);
    } else {
        ck_assert_uint_eq(flags & ~(uint32_t)TAUT_FLAG_NOT_FINITE, 0);
        ck_assert(in->pack(&t.k.call, q, t.k.payload, t.k.cap, &t.k.len) == TAUT_OK);
        if (!t.here.raw || kind != 3) twin_same_payload(&t, "sum of peers");
    }
    twin_close(&t);
    twin_end();
    free(q), free(codes), free(x);
}

START_TEST(sums_of_peers)
{
    static const uint32_t counts[] = {1, 2, 3, 8, 9};
    if (_i == 5) {
        for (size_t at = 1; at < 13; at++) sums_of("grid:rel=0.05", 10, 0, 4, true, at);
        sums_of("grid:rel=0.05", 60, 4, 3, true, 0);
        sums_of("grid:rel=0.05", 60, 1, 3, false, 0);
        return;
    }
    sums_of("grid:rel=0.05", _i == 2 ? 1657 : 100, 6, counts[_i], _i % 2, 0);
    sums_of("grid:rel=0.1,code=rans", 100, 0, counts[_i] % 4 + 1, true, 0);
}
END_TEST

/* Calibrations of later calls, and statistics of ranks whose windows differ. */
START_TEST(adapt_and_rebase)
{
    enum { N = 4000 };
    static double now[TAUT_STATS_MAX], then[TAUT_STATS_MAX], moved[TAUT_STATS_MAX], got[TAUT_STATS_MAX];
    twin          two[2]; /* in one call, each for the error that it aims at */
    twin_begin(1);
    for (int i = 0; i < 2; i++) twin_open(&two[i], i ? "grid:rel=0.3" : "grid:rel=0.05", 1, N, 6);
    twin_calibrate(two, 2, 2);
    for (int i = 0; i < 2; i++) twin_close(&two[i]);
    twin_end();
    for (int e = -60; e <= 60; e += 20) {
        twin t;
        twin_begin(1);
        twin_open(&t, "grid:rel=0.05", 1, N, 6);
        twin_calibrate(&t, 1, 2);
        memset(then, 0, sizeof then), memset(now, 0, sizeof now);
        ck_assert(taut__op_collect_stats(t.k.codec, &t.k.call, t.x, then) == TAUT_OK);
        cuda_get(got, t.piece.stats, sizeof got); /* what the device was given has arrived there */
        for (int i = 0; i < N; i++) t.x[i] = ldexpf(t.x[i], e) * 1.3f;
        t.k.call.calibration = NULL;
        ck_assert(taut__op_collect_stats(t.k.codec, &t.k.call, t.x, now) == TAUT_OK);
        t.piece.call.calibration = NULL;
        t.piece.earlier = cuda_put(then, sizeof then, 0), t.piece.stats = cuda_put(now, sizeof now, 0);
        twin_enqueue(TAUT_OP_ADAPT, &t, 1);
        ck_assert(taut__op_adapt(t.k.codec, &t.k.call, then, now, 2, &t.here) == TAUT_OK);
        taut_calibration there;
        cuda_get(&there, t.calibration, sizeof there);
        ck_assert_msg(there.raw == t.here.raw && memcmp(there.f, t.here.f, sizeof there.f) == 0, "%d: %g, host %g", e,
                      (double)there.f[0], (double)t.here.f[0]);
        for (int even = 0; even < 2; even++) { /* what the numbers of the two say of their shapes */
            uint64_t before = 0, differs = 0;
            now[GRID_STAT_ABS] =
                even ? sqrt(now[GRID_STAT_N] * now[GRID_STAT_NORM2]) : then[GRID_STAT_ABS] * ldexp(1.3, e);
            t.piece.stats = cuda_put(now, sizeof now, 0);
            cuda_must(taut__memory_of(TAUT_CUDA)->put(twin_place, t.piece.outcome, &before, sizeof before), "put");
            twin_enqueue(TAUT_OP_RESHAPED, &t, 1);
            cuda_get(&differs, t.piece.outcome, sizeof differs);
            ck_assert_msg(differs == t.k.codec->reshaped(&t.k.spec.stage[0], then, now), "2^%d: shapes differ: %d", e,
                          (int)differs);
            ck_assert_int_eq((int)differs, even);
        }
        twin_enqueue(TAUT_OP_REBASE, &t, 1);
        memcpy(moved, now, sizeof moved);
        ck_assert(taut__op_rebase(t.k.codec, &t.k.call, then, moved) == TAUT_OK);
        cuda_get(got, t.piece.stats, sizeof got);
        ck_assert_msg(memcmp(got, moved, GRID_STATS * sizeof *got) == 0, "rebased by 2^%d", e);
        twin_close(&t);
        twin_end();
    }
}
END_TEST

/* ---- linear ---- */

static void rounds(twin *t, float *got, float *want)
{
    codec_case            *k = &t->k;
    const taut_linear_ops *host = k->codec->ops[TAUT_HOST]->linear;
    ck_assert(taut__op_state_create(k->codec, &k->spec.stage[0], &k->tensor, 7, (taut_place){0}, &k->call.state) ==
              TAUT_OK);
    ck_assert_msg(taut__op_state_create(k->codec, &k->spec.stage[0], &k->tensor, 7, twin_place, &t->piece.call.state) ==
                      TAUT_OK,
                  "%s", taut_last_error());
    for (int step = 0; step < 2; step++) {
        for (int round = 0; round < k->codec->linear->rounds; round++) {
            float *factor = new_floats(k->codec->linear->factor_elems(&k->spec.stage[0], &k->tensor, round));
            t->piece.round = round;
            t->piece.factor = cuda_new(4 * k->codec->linear->factor_elems(&k->spec.stage[0], &k->tensor, round), 0);
            twin_enqueue(TAUT_OP_PROJECT, t, 1);
            ck_assert(host->project(&k->call, round, t->x, factor) == TAUT_OK);
            twin_enqueue(TAUT_OP_ABSORB, t, 1);
            ck_assert(host->absorb(&k->call, round, factor) == TAUT_OK);
            free(factor);
        }
        t->piece.scale_by = 0.5f;
        twin_enqueue(TAUT_OP_RECONSTRUCT, t, 1);
        ck_assert(host->reconstruct(&k->call, 0.5f, want) == TAUT_OK);
    }
    cuda_get(got, t->piece.dst, 4 * k->tensor.elems);
}

START_TEST(linear_rounds)
{
    static const struct {
        size_t rows, cols;
    } sides[] = {{30, 80}, {70, 20}};
    for (int i = 0; i < 2; i++) {
        size_t n = sides[i].rows * sides[i].cols;
        float *got = new_floats(n), *want = new_floats(n);
        twin   t;
        twin_begin((uint64_t)i);
        twin_open(&t, _i ? "powersgd:rank=3" : "randk:density=0.2", sides[i].rows, sides[i].cols, 0);
        rounds(&t, got, want);
        ck_assert(_i ? distance2(got, want, n) <= 1e-8 * norm2(want, n) : memcmp(got, want, 4 * n) == 0);
        taut__op_state_destroy(t.k.codec, twin_place, t.piece.call.state);
        twin_close(&t);
        twin_end();
        free(got), free(want);
    }
}
END_TEST

/* A NaN poisons a step on the device as on the host, and the next one starts afresh; states are saved and loaded across spaces. */
START_TEST(powersgd_states)
{
    enum { ROWS = 20, COLS = 50, N = ROWS * COLS };
    float   got[N], want[N];
    uint8_t saved[2][4096];
    size_t  len[2];
    twin    t;
    twin_begin(4);
    twin_open(&t, "powersgd:rank=2", ROWS, COLS, 0);
    rounds(&t, got, want);
    ck_assert(taut__op_state_save(t.k.codec, twin_place, t.piece.call.state, saved[0], sizeof saved[0], &len[0]) ==
              TAUT_OK);
    ck_assert(taut__op_state_save(t.k.codec, (taut_place){0}, t.k.call.state, saved[1], sizeof saved[1], &len[1]) ==
              TAUT_OK);
    ck_assert(len[0] == len[1] && memcmp(saved[0], saved[1], 40) == 0);
    ck_assert(taut__op_state_load(t.k.codec, twin_place, t.piece.call.state, saved[1], len[1]) == TAUT_OK);
    ck_assert(taut__op_state_save(t.k.codec, twin_place, t.piece.call.state, saved[0], sizeof saved[0], &len[0]) ==
              TAUT_OK);
    ck_assert(memcmp(saved[0], saved[1], len[0]) == 0);
    saved[1][0] = 9;
    ck_assert(taut__op_state_load(t.k.codec, twin_place, t.piece.call.state, saved[1], len[1]) == TAUT_E_VERSION);
    ck_assert(taut__op_state_load(t.k.codec, twin_place, t.piece.call.state, saved[1], 7) == TAUT_E_CORRUPT);
    /* stateful encoding, then with a NaN, then again */
    for (int step = 0; step < 3; step++) {
        float x[N];
        memcpy(x, t.x, sizeof x);
        if (step == 1) x[77] = NAN;
        t.piece.src = cuda_put(x, sizeof x, 0);
        twin_enqueue(TAUT_OP_ENCODE, &t, 1);
        ck_assert(taut__op_encode(t.k.codec, &t.k.call, x, t.k.payload, t.k.cap, &t.k.len, t.err) == TAUT_OK);
        twin_enqueue(TAUT_OP_DECODE, &t, 1);
        ck_assert(taut__op_decode(t.k.codec, &t.k.call, t.k.payload, t.k.len, want) == TAUT_OK);
        cuda_get(got, t.piece.dst, sizeof got);
        ck_assert(step == 1 ? isnan(got[0]) && isnan(want[0]) : distance2(got, want, N) <= 1e-6 * norm2(want, N));
    }
    taut__op_state_destroy(t.k.codec, twin_place, t.piece.call.state);
    twin_close(&t);
    twin_end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_ops");
    TCase *t = suite_case(s, "twin", 120);
    tcase_add_loop_test(t, every_codec, 0, TWIN_SPECS);
    tcase_add_test(t, topk_by_threshold);
    tcase_add_test(t, many_small_layers);
    tcase_add_loop_test(t, integer_codes, 0, 2);
    tcase_add_loop_test(t, sums_of_peers, 0, 6);
    tcase_add_test(t, adapt_and_rebase);
    tcase_add_loop_test(t, linear_rounds, 0, 2);
    tcase_add_test(t, powersgd_states);
    return suite_run(s);
}
