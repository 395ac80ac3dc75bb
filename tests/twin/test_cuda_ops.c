/* test_cuda_ops.c : every codec through its table of operations for CUDA, on the execution model (or a GPU), against the host's table:
 * the same payloads, residuals, codes and floats; in batches; statistics, calibrations and states that stay on the device; and input
 * that is wrong. */
#include "compressors/frame.h"
#include "compressors/cuda/pieces.h"
#include "compressors/grid/grid.h"
#include "compressors/vectors.h"
#include "tests/support/codec_case.h"
#include "tests/support/cuda_case.h"
#include "tests/support/cuda_host/control.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void cuda_model_memory(size_t bytes) __attribute__((weak));

static taut_place place; /* the stream of the test */

static void begin(uint64_t seed)
{
    taut__cuda_use(cuda_tables());
    place = (taut_place){.space = TAUT_CUDA, .stream = cuda_begin(seed)};
}
static void end(void)
{
    taut__device_tables_release();
    cuda_end();
    taut__cuda_use(NULL);
}

static const char *const specs[] = {
    "none", "fp16", "bf16:overflow=inf", "quant", "quant:bits=1", "quant:bits=3,bucket=64,norm=l2", "quant:bits=5,bucket=128,zero=1",
    "grid:step=0.1", "grid:rel=0.03", "grid:rel=0.1,code=rans", "topk:density=0.1", "topk", "randk:density=0.1", "randk:density=0.25,scale=1",
    "stack:topk:density=0.05+quant:bits=2", "stack:quant:bits=2,bucket=64+fp16+bf16", "stack:grid:step=0.5+quant:bits=2",
};
enum { SPECS = sizeof specs / sizeof *specs };

/* One tensor here and there. */
typedef struct twin {
    codec_case        k;
    float            *x, *err, *back;
    taut_calibration *calibration; /* on the device; NULL: none */
    taut_calibration  here;
    taut_piece        piece;
    taut_outcome      out;
} twin;

static void open_twin(twin *t, const char *spec, size_t rows, size_t cols, int kind)
{
    size_t n = rows * cols;
    memset(t, 0, sizeof *t);
    case_open(&t->k, spec, rows, cols);
    t->x = new_floats(n), t->err = new_floats(n), t->back = new_floats(n);
    cuda_fill(t->x, n, kind);
    t->piece = (taut_piece){.call = t->k.call, .src = cuda_put(t->x, 4 * n, 0), .err = cuda_new(4 * n, 0), .dst = cuda_new(4 * n, 0),
                            .payload = cuda_new(t->k.cap, 0), .cap = t->k.cap, .outcome = cuda_put(&t->out, sizeof t->out, 0)};
    t->piece.call.place = place;
}
static void close_twin(twin *t)
{
    case_close(&t->k);
    free(t->x), free(t->err), free(t->back);
}

static void enqueue(taut__op op, twin *t, size_t n)
{
    taut_piece *p = calloc(n, sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = t[i].piece;
    taut_status s = taut__enqueue(op, t[0].k.codec, p, n, place);
    ck_assert_msg(s == TAUT_OK, "%s: %s", taut__op_name(op), taut_last_error());
    free(p);
}
static taut_outcome outcome(const twin *t)
{
    taut_outcome o;
    cuda_get(&o, t->piece.outcome, sizeof o);
    return o;
}
static void same_floats(const twin *t, const float *want, const float *device, const char *what)
{
    size_t n = t->k.tensor.elems;
    float *got = new_floats(n);
    cuda_get(got, device, 4 * n);
    ck_assert_msg(cuda_same(got, want, n), "%s differ", what);
    free(got);
}
static void same_payload(const twin *t, const char *spec)
{
    uint8_t     *got = malloc(t->k.cap);
    taut_outcome o = outcome(t);
    ck_assert_msg(o.bytes == t->k.len, "%s: %llu bytes, host %zu", spec, (unsigned long long)o.bytes, t->k.len);
    cuda_get(got, t->piece.payload, t->k.len);
    ck_assert_msg(memcmp(got, t->k.payload, t->k.len) == 0, "%s: payload", spec);
    free(got);
}

/* Statistics and calibration on the device, and on the host: the same bits. */
static void calibrate(twin *t, size_t n, int ranks)
{
    double (*stats)[TAUT_STATS_MAX] = calloc(n, sizeof *stats), got[TAUT_STATS_MAX];
    static const taut_calibration zero;
    static const double none[TAUT_STATS_MAX];
    for (size_t i = 0; i < n; i++) {
        t[i].piece.stats = cuda_put(none, sizeof none, 0);
        t[i].piece.calibration = t[i].calibration = cuda_put(&zero, sizeof zero, 0);
        t[i].piece.ranks = ranks;
    }
    enqueue(TAUT_OP_COLLECT_STATS, t, n);
    if (t[0].k.codec->caps & TAUT_CAP_GLOBAL_STATS)
        for (size_t i = 0; i < n; i++) t[i].piece.src = NULL;
    enqueue(TAUT_OP_CALIBRATE, t, n);
    for (size_t i = 0; i < n; i++) {
        taut_calibration there;
        const bool       global = t[i].k.codec->caps & TAUT_CAP_GLOBAL_STATS;
        ck_assert(taut__op_collect_stats(t[i].k.codec, &t[i].k.call, t[i].x, stats[i]) == TAUT_OK);
        ck_assert(taut__op_calibrate(t[i].k.codec, &t[i].k.call, stats[i], ranks, global ? NULL : t[i].x, &t[i].here) == TAUT_OK);
        cuda_get(&there, t[i].calibration, sizeof there);
        cuda_get(got, t[i].piece.stats, sizeof got);
        for (uint32_t q = 0; q < t[i].k.codec->n_stats; q++) ck_assert_msg(got[q] == stats[i][q] || isnan(got[q]), "%zu elements like %g: statistic %u: %g, host %g", t[i].k.tensor.elems, (double)t[i].x[0], q, got[q], stats[i][q]);
        ck_assert_msg(there.raw == t[i].here.raw && memcmp(there.f, t[i].here.f, sizeof there.f) == 0 && memcmp(there.u, t[i].here.u, sizeof there.u) == 0,
                      "calibration %zu: step %g, host %g; threshold %llx, %llx; tie %lld, %lld", i, (double)there.f[0], (double)t[i].here.f[0],
                      (unsigned long long)there.u[0], (unsigned long long)t[i].here.u[0], (long long)there.u[1], (long long)t[i].here.u[1]);
        t[i].piece.call.calibration = t[i].calibration;
        t[i].k.call.calibration = &t[i].here;
    }
    if (t[0].k.codec->caps & TAUT_CAP_GLOBAL_STATS)
        for (size_t i = 0; i < n; i++) t[i].piece.src = cuda_put(t[i].x, 4 * t[i].k.tensor.elems, 0);
    free(stats);
}

/* ---- floats ---- */

enum { PIECES = 3 };
static const size_t shapes[PIECES][2] = {{1, 1}, {7, 93}, {40, 170}};

START_TEST(every_codec)
{
    twin        t[PIECES];
    const char *spec = specs[_i];
    for (int kind = 0; kind < CUDA_KINDS; kind += 1 + (_i + kind) % 2) {
        size_t chunks = strncmp(spec, "grid", 4) == 0 && kind < 4 ? 10 : 1; /* more than one chunk */
        begin((uint64_t)_i + (uint64_t)kind);
        for (int i = 0; i < PIECES; i++) open_twin(&t[i], spec, shapes[i][0], shapes[i][1] * (i == 2 ? chunks : 1), kind);
        if (strstr(spec, "rel=")) calibrate(t, PIECES, 2);
        enqueue(TAUT_OP_ENCODE, t, PIECES);
        for (int i = 0; i < PIECES; i++) {
            codec_case *k = &t[i].k;
            ck_assert(taut__op_encode(k->codec, &k->call, t[i].x, k->payload, k->cap, &k->len, t[i].err) == TAUT_OK);
            same_payload(&t[i], spec);
            same_floats(&t[i], t[i].err, t[i].piece.err, "residuals");
            ck_assert(taut__op_decode(k->codec, &k->call, k->payload, k->len, t[i].back) == TAUT_OK);
        }
        enqueue(TAUT_OP_DECODE, t, PIECES);
        for (int i = 0; i < PIECES; i++) {
            same_floats(&t[i], t[i].back, t[i].piece.dst, "values");
            ck_assert(taut__op_decode_add(t[i].k.codec, &t[i].k.call, t[i].k.payload, t[i].k.len, t[i].back) == TAUT_OK);
        }
        enqueue(TAUT_OP_DECODE_ADD, t, PIECES);
        for (int i = 0; i < PIECES; i++) {
            same_floats(&t[i], t[i].back, t[i].piece.dst, "sums");
            ck_assert_uint_eq(outcome(&t[i]).flags & ~(uint32_t)TAUT_FLAG_NOT_FINITE, 0);
            close_twin(&t[i]);
        }
        end();
    }
}
END_TEST

/* topk's whole-tensor threshold, with ties, few that are not zero, and none; then slices under it, and sums without loss. */
START_TEST(topk_by_threshold)
{
    for (int kind = 0; kind < CUDA_KINDS; kind++) {
        twin t[2];
        begin((uint64_t)kind);
        open_twin(&t[0], "topk:density=0.1", 60, 200, kind);
        open_twin(&t[1], "topk:density=0.3", 3, 21, kind);
        for (int i = 0; i < 2; i++) {
            calibrate(&t[i], 1, 1);
            enqueue(TAUT_OP_ENCODE, &t[i], 1);
            ck_assert(taut__op_encode(t[i].k.codec, &t[i].k.call, t[i].x, t[i].k.payload, t[i].k.cap, &t[i].k.len, t[i].err) == TAUT_OK);
            same_payload(&t[i], "topk, calibrated");
            same_floats(&t[i], t[i].err, t[i].piece.err, "residuals");
            enqueue(TAUT_OP_ENCODE_EXACT, &t[i], 1);
            ck_assert(taut__op_encode_exact(t[i].k.codec, &t[i].k.call, t[i].x, t[i].k.payload, t[i].k.cap, &t[i].k.len) == TAUT_OK);
            same_payload(&t[i], "topk, exact");
        }
        close_twin(&t[0]), close_twin(&t[1]);
        end();
    }
}
END_TEST

/* Hundreds of small layers: more than one launch takes, of two specs. */
START_TEST(many_small_layers)
{
    enum { LAYERS = 300 };
    twin       *t = calloc(LAYERS, sizeof *t);
    float      *x[LAYERS];
    begin(3);
    uint8_t    *payloads = cuda_new(LAYERS * 4096, 0), *payload = malloc(4096);
    float      *xs = new_floats(LAYERS * 70);
    taut_piece *p = calloc(LAYERS, sizeof *p);
    static taut_outcome zeros[LAYERS], outs[LAYERS];
    cuda_fill(xs, LAYERS * 70, 0);
    const float  *dx = cuda_put(xs, 4 * LAYERS * 70, 0);
    taut_outcome *dout = cuda_put(zeros, sizeof zeros, 0);
    for (size_t i = 0; i < LAYERS; i++) {
        case_open(&t[i].k, i < 100 ? "quant:bits=3,bucket=64" : "quant:bits=4,bucket=64", 1, i % 70 + 1);
        x[i] = xs + 70 * i;
        p[i] = (taut_piece){.call = t[i].k.call, .src = dx + 70 * i, .payload = payloads + 4096 * i, .cap = 4096, .outcome = dout + i};
    }
    ck_assert_msg(taut__enqueue(TAUT_OP_ENCODE, t[0].k.codec, p, LAYERS, place) == TAUT_OK, "%s", taut_last_error());
    cuda_get(outs, dout, sizeof outs);
    for (size_t i = 0; i < LAYERS; i++) {
        codec_case *k = &t[i].k;
        ck_assert(taut__op_encode(k->codec, &k->call, x[i], k->payload, k->cap, &k->len, NULL) == TAUT_OK);
        ck_assert_uint_eq(outs[i].bytes, k->len);
        cuda_get(payload, payloads + 4096 * i, k->len);
        ck_assert_msg(memcmp(payload, k->payload, k->len) == 0, "layer %zu", i);
        case_close(k);
    }
    end();
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
    enqueue(TAUT_OP_QUANTIZE, t, 1);
    ck_assert(in->quantize(&k->call, t->x, q, t->err, INT32_MAX / 4) == TAUT_OK);
    same_floats(t, t->err, t->piece.err, "residuals of codes");
    enqueue(TAUT_OP_PACK, t, 1);
    ck_assert(in->pack(&k->call, q, k->payload, k->cap, &k->len) == TAUT_OK);
    same_payload(t, "packed codes");
    enqueue(TAUT_OP_QUANTIZE_PACK, t, 1);
    same_payload(t, "quantized and packed");
    enqueue(TAUT_OP_UNPACK_ADD, t, 1);
    ck_assert(in->unpack_add(&k->call, k->payload, k->len, q) == TAUT_OK);
    cuda_get(codes, t->piece.codes, 4 * n);
    ck_assert(raw ? cuda_same((float *)codes, (float *)q, n) : memcmp(codes, q, 4 * n) == 0);
    enqueue(TAUT_OP_UNPACK_VALUES, t, 1);
    ck_assert(in->unpack_values(&k->call, k->payload, k->len, q, dst) == TAUT_OK);
    same_floats(t, dst, t->piece.dst, "values of sums");
    enqueue(TAUT_OP_DEQUANTIZE, t, 1);
    ck_assert(in->dequantize(&k->call, q, 0.25f, dst) == TAUT_OK);
    same_floats(t, dst, t->piece.dst, "values of codes");
    ck_assert_uint_eq(outcome(t).flags & ~(uint32_t)TAUT_FLAG_NOT_FINITE, 0);
}

/* Codes with an agreed step; where the input holds NaN or Inf calibration says raw, and the same calls carry the floats. */
START_TEST(integer_codes)
{
    enum { ROWS = 41, COLS = 1657, N = ROWS * COLS };
    int32_t *codes = calloc(N, 4), *q = calloc(N, 4);
    float   *dst = new_floats(N);
    for (int kind = _i; kind < CUDA_KINDS; kind += 2 + (kind == 1)) { /* NaN or Inf in both */
        twin t;
        begin((uint64_t)kind + 20);
        open_twin(&t, _i ? "grid:rel=0.05,code=rans" : "grid:rel=0.02", ROWS, COLS, kind);
        calibrate(&t, 1, 3);
        ck_assert_int_eq(t.here.raw, kind == 3 || kind == 4);
        codes_of(&t, codes, q, dst, t.here.raw);
        if (t.here.raw) ck_assert(isnan(dst[N / 2]) || isinf(dst[N - 1]));
        close_twin(&t);
        end();
    }
    free(codes), free(q), free(dst);
}
END_TEST

/* Calibrations of later calls, and statistics of ranks whose windows differ. */
START_TEST(adapt_and_rebase)
{
    enum { N = 4000 };
    static double now[TAUT_STATS_MAX], then[TAUT_STATS_MAX], moved[TAUT_STATS_MAX], got[TAUT_STATS_MAX];
    for (int e = -60; e <= 60; e += 20) {
        twin t;
        begin(1);
        open_twin(&t, "grid:rel=0.05", 1, N, 6);
        calibrate(&t, 1, 2);
        memset(then, 0, sizeof then), memset(now, 0, sizeof now);
        ck_assert(taut__op_collect_stats(t.k.codec, &t.k.call, t.x, then) == TAUT_OK);
        cuda_get(got, t.piece.stats, sizeof got); /* what the device was given has arrived there */
        for (int i = 0; i < N; i++) t.x[i] = ldexpf(t.x[i], e) * 1.3f;
        t.k.call.calibration = NULL;
        ck_assert(taut__op_collect_stats(t.k.codec, &t.k.call, t.x, now) == TAUT_OK);
        t.piece.call.calibration = NULL;
        t.piece.earlier = cuda_put(then, sizeof then, 0), t.piece.stats = cuda_put(now, sizeof now, 0);
        enqueue(TAUT_OP_ADAPT, &t, 1);
        ck_assert(taut__op_adapt(t.k.codec, &t.k.call, then, now, 2, &t.here) == TAUT_OK);
        taut_calibration there;
        cuda_get(&there, t.calibration, sizeof there);
        ck_assert_msg(there.raw == t.here.raw && memcmp(there.f, t.here.f, sizeof there.f) == 0, "%d: %g, host %g", e, (double)there.f[0], (double)t.here.f[0]);
        enqueue(TAUT_OP_REBASE, &t, 1);
        memcpy(moved, now, sizeof moved);
        ck_assert(taut__op_rebase(t.k.codec, &t.k.call, then, moved) == TAUT_OK);
        cuda_get(got, t.piece.stats, sizeof got);
        ck_assert_msg(memcmp(got, moved, GRID_STATS * sizeof *got) == 0, "rebased by 2^%d", e);
        close_twin(&t);
        end();
    }
}
END_TEST

/* ---- linear ---- */

static void rounds(twin *t, float *got, float *want)
{
    codec_case             *k = &t->k;
    const taut_linear_ops  *host = k->codec->ops[TAUT_HOST]->linear;
    ck_assert(taut__op_state_create(k->codec, &k->spec.stage[0], &k->tensor, 7, (taut_place){0}, &k->call.state) == TAUT_OK);
    ck_assert_msg(taut__op_state_create(k->codec, &k->spec.stage[0], &k->tensor, 7, place, &t->piece.call.state) == TAUT_OK, "%s", taut_last_error());
    for (int step = 0; step < 2; step++) {
        for (int round = 0; round < k->codec->linear->rounds; round++) {
            float *factor = new_floats(k->codec->linear->factor_elems(&k->spec.stage[0], &k->tensor, round));
            t->piece.round = round;
            t->piece.factor = cuda_new(4 * k->codec->linear->factor_elems(&k->spec.stage[0], &k->tensor, round), 0);
            enqueue(TAUT_OP_PROJECT, t, 1);
            ck_assert(host->project(&k->call, round, t->x, factor) == TAUT_OK);
            enqueue(TAUT_OP_ABSORB, t, 1);
            ck_assert(host->absorb(&k->call, round, factor) == TAUT_OK);
            free(factor);
        }
        t->piece.scale_by = 0.5f;
        enqueue(TAUT_OP_RECONSTRUCT, t, 1);
        ck_assert(host->reconstruct(&k->call, 0.5f, want) == TAUT_OK);
    }
    cuda_get(got, t->piece.dst, 4 * k->tensor.elems);
}

START_TEST(linear_rounds)
{
    static const struct { size_t rows, cols; } sides[] = {{30, 80}, {70, 20}};
    for (int i = 0; i < 2; i++) {
        size_t n = sides[i].rows * sides[i].cols;
        float *got = new_floats(n), *want = new_floats(n);
        twin   t;
        begin((uint64_t)i);
        open_twin(&t, _i ? "powersgd:rank=3" : "randk:density=0.2", sides[i].rows, sides[i].cols, 0);
        rounds(&t, got, want);
        ck_assert(_i ? distance2(got, want, n) <= 1e-8 * norm2(want, n) : memcmp(got, want, 4 * n) == 0);
        taut__op_state_destroy(t.k.codec, place, t.piece.call.state);
        close_twin(&t);
        end();
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
    begin(4);
    open_twin(&t, "powersgd:rank=2", ROWS, COLS, 0);
    rounds(&t, got, want);
    ck_assert(taut__op_state_save(t.k.codec, place, t.piece.call.state, saved[0], sizeof saved[0], &len[0]) == TAUT_OK);
    ck_assert(taut__op_state_save(t.k.codec, (taut_place){0}, t.k.call.state, saved[1], sizeof saved[1], &len[1]) == TAUT_OK);
    ck_assert(len[0] == len[1] && memcmp(saved[0], saved[1], 40) == 0);
    ck_assert(taut__op_state_load(t.k.codec, place, t.piece.call.state, saved[1], len[1]) == TAUT_OK);
    ck_assert(taut__op_state_save(t.k.codec, place, t.piece.call.state, saved[0], sizeof saved[0], &len[0]) == TAUT_OK);
    ck_assert(memcmp(saved[0], saved[1], len[0]) == 0);
    saved[1][0] = 9;
    ck_assert(taut__op_state_load(t.k.codec, place, t.piece.call.state, saved[1], len[1]) == TAUT_E_VERSION);
    ck_assert(taut__op_state_load(t.k.codec, place, t.piece.call.state, saved[1], 7) == TAUT_E_CORRUPT);
    /* stateful encoding, then with a NaN, then again */
    for (int step = 0; step < 3; step++) {
        float x[N];
        memcpy(x, t.x, sizeof x);
        if (step == 1) x[77] = NAN;
        t.piece.src = cuda_put(x, sizeof x, 0);
        enqueue(TAUT_OP_ENCODE, &t, 1);
        ck_assert(taut__op_encode(t.k.codec, &t.k.call, x, t.k.payload, t.k.cap, &t.k.len, t.err) == TAUT_OK);
        enqueue(TAUT_OP_DECODE, &t, 1);
        ck_assert(taut__op_decode(t.k.codec, &t.k.call, t.k.payload, t.k.len, want) == TAUT_OK);
        cuda_get(got, t.piece.dst, sizeof got);
        ck_assert(step == 1 ? isnan(got[0]) && isnan(want[0]) : distance2(got, want, N) <= 1e-6 * norm2(want, N));
    }
    taut__op_state_destroy(t.k.codec, place, t.piece.call.state);
    close_twin(&t);
    end();
}
END_TEST

/* ---- vectors, frames, memory ---- */

START_TEST(passes)
{
    enum { N = 9001 };
    float              *x = new_floats(N), *r = new_floats(N), *u = new_floats(N), *got = new_floats(N);
    const taut__vectors *host = &taut__vectors_host;
    for (int kind = 0; kind < CUDA_KINDS; kind++)
        for (int d = 0; d < 3; d++) {
            begin((uint64_t)(kind + d));
            const taut__vectors *v = taut__vectors_of(TAUT_CUDA);
            taut_dtype           dtype = d == 0 ? TAUT_F32 : d == 1 ? TAUT_F16 : TAUT_BF16;
            uint16_t            *h = calloc(N, 2);
            const void          *g = d ? (void *)h : x;
            cuda_fill(x, N, kind), cuda_fill(r, N, 0), cuda_fill(u, N, 1);
            host->convert((taut_place){0}, h, d == 2 ? TAUT_BF16 : TAUT_F16, x, TAUT_F32, N);
            void  *dg = cuda_put(g, N * (d ? 2 : 4), 0), *dh = cuda_new(N * 2, 0);
            float *dr = cuda_put(r, 4 * N, 0), *du = cuda_put(u, 4 * N, 0), *dx = cuda_put(x, 4 * N, 0);
#define BOTH(call_there, call_here, there, here, what)                                                         \
    do {                                                                                                       \
        cuda_must(call_there, what);                                                                           \
        ck_assert(call_here == TAUT_OK);                                                                       \
        cuda_get(got, there, 4 * N);                                                                           \
        ck_assert_msg(cuda_same(got, here, N), "%s, %s, dtype %d", what, cuda_kind_name(kind), d);             \
    } while (0)
            taut_place p = place, here = {0};
            BOTH(v->input(p, dr, NULL, 0, dtype, dg, N, true), host->input(here, r, NULL, 0, dtype, g, N, true), dr, r, "fresh input");
            BOTH(v->input(p, dr, NULL, 0, dtype, dg, N, false), host->input(here, r, NULL, 0, dtype, g, N, false), dr, r, "input");
            BOTH(v->input(p, dr, du, 0.9f, dtype, dg, N, false), host->input(here, r, u, 0.9f, dtype, g, N, false), dr, r, "momentum");
            BOTH(v->output(p, dr, du, N), host->output(here, r, u, N), du, u, "output");
            BOTH(v->add(p, dr, dtype, dg, N), host->add(here, r, dtype, g, N), dr, r, "add");
            BOTH(v->scale(p, dr, 0.7f, N), host->scale(here, r, 0.7f, N), dr, r, "scale");
            BOTH(v->residual(p, dr, dx, dr, N), host->residual(here, r, x, r, N), dr, r, "residual");
            uint64_t found = 0, zero = 0, *dfound = cuda_put(&zero, 8, 0), want = 0;
            BOTH(v->scrub(p, dx, N, dfound), host->scrub(here, x, N, &want), dx, x, "scrub");
            cuda_get(&found, dfound, 8);
            ck_assert_uint_eq(found, want);
            if (d) {
                cuda_must(v->convert(p, dh, dtype, dr, TAUT_F32, N), "to half");
                host->convert(here, h, dtype, r, TAUT_F32, N);
                cuda_get(got, dh, 2 * N);
                ck_assert(memcmp(got, h, 2 * N) == 0 || kind == 3);
                BOTH(v->convert(p, dr, TAUT_F32, dh, dtype, N), host->convert(here, r, TAUT_F32, h, dtype, N), dr, r, "from half");
            }
            ck_assert(v->convert(p, dh, TAUT_F16, dh, TAUT_BF16, N) == TAUT_E_UNSUPPORTED);
            free(h);
            end();
        }
    free(x), free(r), free(u), free(got);
}
END_TEST

START_TEST(norms)
{
    enum { ROWS = 30, COLS = 211, N = ROWS * COLS };
    static const size_t scales[] = {0, 1, ROWS, N};
    float              *x = new_floats(N), *s = new_floats(N);
    cuda_fill(x, N, 6);
    for (int i = 0; i < N; i++) s[i] = 0.5f + (float)(i % 13);
    begin(2);
    const taut__vectors *v = taut__vectors_of(TAUT_CUDA);
    for (int i = 0; i < 4; i++) {
        taut_tensor t = {.elems = N, .rows = ROWS, .cols = COLS, .scale = scales[i] ? cuda_put(s, 4 * N, 0) : NULL, .scale_n = scales[i]};
        taut_tensor here = t;
        taut_norm2  got, *out = cuda_new(sizeof got, 0);
        uint32_t    zero = 0, *flags = cuda_put(&zero, 4, 0);
        here.scale = scales[i] ? s : NULL;
        cuda_must(v->norm2(place, &t, cuda_put(x + 100, 4 * (N - 100), 0), 100, N - 100, out, flags), "norm2");
        cuda_get(&got, out, sizeof got);
        taut_norm2 want = taut__norm2(&here, x + 100, 100, N - 100);
        ck_assert_msg(fabs(got.plain - want.plain) <= 1e-12 * want.plain && fabs(got.weighted - want.weighted) <= 1e-12 * want.weighted,
                      "%g %g, host %g %g", got.plain, got.weighted, want.plain, want.weighted);
        cuda_get(&zero, flags, 4);
        ck_assert_uint_eq(zero, 0);
    }
    x[200] = INFINITY;
    uint32_t   word = 0, *flags = cuda_put(&word, 4, 0);
    taut_norm2 *out = cuda_new(sizeof *out, 0);
    cuda_must(v->norm2(place, &(taut_tensor){.elems = N}, cuda_put(x, 4 * N, 0), 0, N, out, flags), "norm2");
    cuda_get(&word, flags, 4);
    ck_assert_uint_eq(word, TAUT_FLAG_NOT_FINITE);
    end();
    free(x), free(s);
}
END_TEST

/* Frames made on the device are read on the host, and the reverse; damage to a header is flagged. */
START_TEST(frames)
{
    begin((uint64_t)_i);
    twin     t;
    uint8_t *frame = NULL, *bytes;
    open_twin(&t, specs[_i], 12, 90, 0);
    if (strstr(specs[_i], "rel=")) calibrate(&t, 1, 2);
    bytes = malloc(t.k.cap + TAUT_FRAME_HEADER);
    frame = cuda_new(t.k.cap + TAUT_FRAME_HEADER, 0);
    t.piece.payload = frame + TAUT_FRAME_HEADER;
    enqueue(TAUT_OP_ENCODE, &t, 1);
    cuda_must(taut__vectors_of(TAUT_CUDA)->seal(t.k.codec, &t.piece, 1, place), "seal");
    t.k.len = (size_t)outcome(&t).bytes;
    cuda_get(bytes, frame, t.k.len + TAUT_FRAME_HEADER);
    size_t         elems, len;
    const uint8_t *payload;
    ck_assert_msg(taut__frame_open(t.k.codec, 12 * 90, bytes, t.k.len + TAUT_FRAME_HEADER, &payload, &len, NULL, &elems, NULL) == TAUT_OK, "%s", taut_last_error());
    for (int at = 0; at < TAUT_FRAME_HEADER; at++) {
        for (int v = 0; v < 2; v++) {
            uint8_t kept = bytes[at];
            taut_outcome zero = {.bytes = t.k.len};
            if (v) bytes[at] ^= 0x10;
            cuda_must(place.stream ? cuda_tables()->device->put(frame, bytes, TAUT_FRAME_HEADER, place.stream) : TAUT_OK, "put");
            cuda_must(cuda_tables()->device->put(t.piece.outcome, &zero, sizeof zero, place.stream), "put");
            cuda_must(taut__vectors_of(TAUT_CUDA)->open(t.k.codec, &t.piece, 1, place), "open");
            ck_assert_msg(outcome(&t).flags == (v ? TAUT_FLAG_CORRUPT : 0), "byte %d", at);
            bytes[at] = kept;
        }
    }
    free(bytes);
    close_twin(&t);
    end();
}
END_TEST

START_TEST(memory)
{
    begin(9);
    const taut__space *m = taut__memory_of(TAUT_CUDA);
    taut_place         other = place;
    taut__event       *e;
    uint8_t            in[5000], out[5000];
    void              *p, *q;
    bool               passed = false;
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(i * 7);
    cuda_must(m->stream_create(&other), "stream");
    cuda_must(m->event_create(place, &e), "event");
    cuda_must(m->alloc(place, sizeof in, &p), "alloc");
    cuda_must(m->copy(place, out, p, sizeof out), "copy");
    cuda_must(m->wait(place), "wait");
    for (size_t i = 0; i < sizeof out; i++) ck_assert_uint_eq(out[i], 0);
    cuda_must(m->put(place, p, in, sizeof in), "put");
    memset(in, 0, 100); /* put has taken them */
    cuda_must(m->event_record(e, place), "record");
    cuda_must(m->event_hold(e, other), "hold");
    cuda_must(m->alloc_in(other, sizeof in, &q), "alloc in order");
    cuda_must(m->copy(other, q, p, sizeof in), "copy");
    cuda_must(m->copy(other, out, q, sizeof in), "copy back");
    m->release_in(other, q);
    cuda_must(m->wait(other), "wait");
    cuda_must(m->event_test(e, &passed), "test");
    ck_assert(passed);
    for (size_t i = 0; i < sizeof out; i++) ck_assert_uint_eq(out[i], (uint8_t)(i * 7));
    ck_assert_int_eq(m->put(place, p, in, TAUT__PUT_MAX + 1), TAUT_E_RANGE);
    m->event_destroy(e);
    m->release(place, p);
    m->stream_destroy(other);
    end();
}
END_TEST

/* Feedback whose residual lives on the device: a step, a checkpoint, and back. */
START_TEST(feedback_there)
{
    enum { N = 700 };
    float          g[N], state[2 * N], want[2 * N];
    size_t         len, len2;
    taut_feedback *here, *there;
    begin(5);
    fill_normal(g, N, 1, 3);
    float *dg = cuda_put(g, sizeof g, 0);
    ck_assert(taut__feedback_create(N, 0.5f, &here) == TAUT_OK && taut__feedback_create_in(place, N, 0.5f, &there) == TAUT_OK);
    for (int step = 0; step < 2; step++) {
        ck_assert(taut__feedback_input(here, 0, N, TAUT_F32, g, false) == TAUT_OK && taut__feedback_input(there, 0, N, TAUT_F32, dg, false) == TAUT_OK);
        ck_assert(taut__feedback_clear(here, 100, 64) == TAUT_OK && taut__feedback_clear(there, 100, 64) == TAUT_OK);
        ck_assert(taut__feedback_output(here, 0, N) == TAUT_OK && taut__feedback_output(there, 0, N) == TAUT_OK);
    }
    ck_assert(taut__feedback_save(here, want, sizeof want, &len) == TAUT_OK && taut__feedback_save(there, state, sizeof state, &len2) == TAUT_OK);
    ck_assert(len == len2 && memcmp(want, state, len) == 0);
    ck_assert(taut__feedback_load(here, want, len) == TAUT_OK && taut__feedback_load(there, state, len) == TAUT_OK);
    ck_assert(taut__feedback_save(here, want, sizeof want, &len) == TAUT_OK && taut__feedback_save(there, state, sizeof state, &len2) == TAUT_OK);
    ck_assert(memcmp(want, state, len) == 0);
    taut__feedback_destroy(here), taut__feedback_destroy(there);
    end();
}
END_TEST

/* ---- what is wrong is named ---- */

static void refused(taut_status got, taut_status want, const char *text)
{
    ck_assert_msg(got == want && strstr(taut_last_error(), text), "status %d, wanted %d and \"%s\": %s", (int)got, (int)want, text, taut_last_error());
}

START_TEST(bad_input)
{
    begin(7);
    twin       t;
    taut_piece p;
    open_twin(&t, "quant:bucket=64", 2, 320, 0);
    const taut_codec *codec = t.k.codec;
#define WITH(change, status, text)                                                                             \
    do {                                                                                                       \
        p = t.piece;                                                                                           \
        change;                                                                                                \
        refused(taut__enqueue(TAUT_OP_ENCODE, codec, &p, 1, place), status, text);                             \
    } while (0)
    WITH(p.src = t.x, TAUT_E_INVALID, "quant: src");
    WITH(p.payload = t.k.payload, TAUT_E_INVALID, "quant: payload");
    WITH(p.err = t.err, TAUT_E_INVALID, "quant: err");
    WITH(p.outcome = &t.out, TAUT_E_INVALID, "quant: outcome");
    WITH(p.outcome = NULL, TAUT_E_INVALID, "outcome is NULL");
    WITH(p.payload += 4, TAUT_E_INVALID, "must be a multiple of 16");
    WITH(p.src = (const float *)(const void *)((const char *)p.src + 2), TAUT_E_INVALID, "must be multiples of");
    WITH(p.cap = t.k.cap - 1, TAUT_E_CAPACITY, "needed");
    WITH((p.call.first = 32, p.call.n = 64), TAUT_E_INVALID, "must be a multiple of bucket=64");
    WITH(p.call.spec = (const taut_spec[]){{.stages = 0}}, TAUT_E_UNSUPPORTED, "needs the spec");
    /* the reverse: device memory given for the host's, where somebody asks */
    refused(taut__place_check((taut_place){0}, t.piece.src, "gradient"), TAUT_E_INVALID, "gradient");
    ck_assert(taut__place_check((taut_place){0}, t.x, "gradient") == TAUT_OK && taut__place_check(place, t.piece.src, "gradient") == TAUT_OK);
    refused(taut__place_check(place, t.x, "gradient"), TAUT_E_INVALID, "gradient");
    refused(taut__vectors_of(TAUT_CUDA)->add(place, t.piece.dst, (taut_dtype)7, t.piece.src, 64), TAUT_E_INVALID, "kind 7");
    refused(taut__op_project(codec, &t.piece.call, 0, t.piece.src, t.piece.dst), TAUT_E_UNSUPPORTED, "quant: project: not for memory of space CUDA");
    /* nothing of this was enqueued, and nothing lost: the same piece, as it should be */
    enqueue(TAUT_OP_ENCODE, &t, 1);
    ck_assert(taut__op_encode(codec, &t.k.call, t.x, t.k.payload, t.k.cap, &t.k.len, t.err) == TAUT_OK);
    same_payload(&t, "after refusals");
    close_twin(&t);
    open_twin(&t, "grid:rel=0.1", 2, 320, 0);
    refused(taut__enqueue(TAUT_OP_ENCODE, t.k.codec, &t.piece, 1, place), TAUT_E_UNSUPPORTED, "must be agreed");
    close_twin(&t);
    end();
}
END_TEST

/* Malformed payloads: flagged, never an access outside. */
START_TEST(bad_payloads)
{
    begin((uint64_t)_i);
    twin t;
    open_twin(&t, specs[_i], 6, 110, 0);
    if (strstr(specs[_i], "rel=")) calibrate(&t, 1, 2);
    enqueue(TAUT_OP_ENCODE, &t, 1);
    t.k.len = (size_t)outcome(&t).bytes;
    for (size_t cut = 0; cut < t.k.len; cut += 1 + t.k.len / 7) {
        taut_outcome o = {.bytes = cut};
        cuda_must(cuda_tables()->device->put(t.piece.outcome, &o, sizeof o, place.stream), "put");
        enqueue(TAUT_OP_DECODE, &t, 1);
        ck_assert_msg(outcome(&t).flags & TAUT_FLAG_CORRUPT, "%s cut to %zu of %zu", specs[_i], cut, t.k.len);
        size_t len = cut;
        refused(taut__op_decode(t.k.codec, &t.piece.call, t.piece.payload, len, t.piece.dst), TAUT_E_CORRUPT, "malformed payload");
    }
    close_twin(&t);
    end();
}
END_TEST

START_TEST(out_of_memory)
{
    if (!cuda_model_memory || strcmp(cuda_tables()->name, "gpu") == 0) return;
    begin(8);
    twin t;
    open_twin(&t, "topk:density=0.1", 40, 300, 0);
    cuda_model_memory(1);
    refused(taut__enqueue(TAUT_OP_ENCODE, t.k.codec, &t.piece, 1, place), TAUT_E_NOMEM, "out of device memory");
    void          *p;
    taut_feedback *f;
    refused(taut__memory_of(TAUT_CUDA)->alloc(place, 1 << 20, &p), TAUT_E_NOMEM, "1048576");
    ck_assert_ptr_null(p);
    refused(taut__feedback_create_in(place, 1000, 0, &f), TAUT_E_NOMEM, "residual of 1000");
    ck_assert_ptr_null(f);
    cuda_model_memory(0);
    enqueue(TAUT_OP_ENCODE, &t, 1);
    ck_assert(taut__op_encode(t.k.codec, &t.k.call, t.x, t.k.payload, t.k.cap, &t.k.len, t.err) == TAUT_OK);
    same_payload(&t, "after running out of memory");
    close_twin(&t);
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_ops");
    TCase *t = tcase_create("twin");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, every_codec, 0, SPECS);
    tcase_add_test(t, topk_by_threshold);
    tcase_add_test(t, many_small_layers);
    tcase_add_loop_test(t, integer_codes, 0, 2);
    tcase_add_test(t, adapt_and_rebase);
    tcase_add_loop_test(t, linear_rounds, 0, 2);
    tcase_add_test(t, powersgd_states);
    tcase_add_test(t, passes);
    tcase_add_test(t, norms);
    tcase_add_loop_test(t, frames, 0, SPECS);
    tcase_add_test(t, memory);
    tcase_add_test(t, feedback_there);
    tcase_add_test(t, bad_input);
    tcase_add_loop_test(t, bad_payloads, 0, SPECS);
    tcase_add_test(t, out_of_memory);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
