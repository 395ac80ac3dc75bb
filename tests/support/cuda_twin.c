/* cuda_twin.c : see cuda_twin.h. */
#include "cuda_twin.h"
#include "compressors/cuda/pieces.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

taut_place twin_place;

void twin_begin(uint64_t seed)
{
    taut__cuda_use(cuda_tables());
    twin_place = (taut_place){.space = TAUT_CUDA, .stream = cuda_begin(seed)};
}
void twin_end(void)
{
    taut__device_tables_release();
    cuda_end();
    taut__cuda_use(NULL);
}

const char *const twin_specs[TWIN_SPECS] = {
    "none",
    "fp16",
    "bf16:overflow=inf",
    "quant",
    "quant:bits=1",
    "quant:bits=3,bucket=64,norm=l2",
    "quant:bits=5,bucket=128,zero=1",
    "quant:bits=4,bucket=256,rotate=1",
    "grid:step=0.1",
    "grid:rel=0.03",
    "grid:rel=0.1,code=rans",
    "topk:density=0.1",
    "topk",
    "randk:density=0.1",
    "randk:density=0.25,scale=1",
    "stack:topk:density=0.05+quant:bits=2",
    "stack:quant:bits=2,bucket=64+fp16+bf16",
    "stack:grid:step=0.5+quant:bits=2",
};

void twin_open(twin *t, const char *spec, size_t rows, size_t cols, int kind)
{
    size_t n = rows * cols;
    memset(t, 0, sizeof *t);
    case_open(&t->k, spec, rows, cols);
    t->x = new_floats(n), t->err = new_floats(n), t->back = new_floats(n);
    cuda_fill(t->x, n, kind);
    t->piece = (taut_piece){.call = t->k.call,
                            .src = cuda_put(t->x, 4 * n, 0),
                            .err = cuda_new(4 * n, 0),
                            .dst = cuda_new(4 * n, 0),
                            .payload = cuda_new(t->k.cap, 0),
                            .cap = t->k.cap,
                            .outcome = cuda_put(&t->out, sizeof t->out, 0)};
    t->piece.call.place = twin_place;
}
void twin_close(twin *t)
{
    case_close(&t->k);
    free(t->x), free(t->err), free(t->back);
}

void twin_enqueue(taut__op op, twin *t, size_t n)
{
    taut_piece *p = calloc(n, sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = t[i].piece;
    taut_status s = taut__enqueue(op, t[0].k.codec, p, n, twin_place);
    ck_assert_msg(s == TAUT_OK, "%s: %s", taut__op_name(op), taut_last_error());
    free(p);
}
taut_outcome twin_outcome(const twin *t)
{
    taut_outcome o;
    cuda_get(&o, t->piece.outcome, sizeof o);
    return o;
}
void twin_same_floats(const twin *t, const float *want, const float *device, const char *what)
{
    size_t n = t->k.tensor.elems;
    float *got = new_floats(n);
    cuda_get(got, device, 4 * n);
    ck_assert_msg(cuda_same(got, want, n), "%s differ", what);
    free(got);
}
void twin_same_payload(const twin *t, const char *spec)
{
    uint8_t     *got = malloc(t->k.cap);
    taut_outcome o = twin_outcome(t);
    ck_assert_msg(o.bytes == t->k.len, "%s: %llu bytes, host %zu", spec, (unsigned long long)o.bytes, t->k.len);
    cuda_get(got, t->piece.payload, t->k.len);
    ck_assert_msg(cuda_same_payload(got, t->k.payload, t->k.len), "%s: payload", spec);
    free(got);
}

/* Statistics and calibration on the device, and on the host: the same bits. */
void twin_calibrate(twin *t, size_t n, int ranks)
{
    double(*stats)[TAUT_STATS_MAX] = calloc(n, sizeof *stats), got[TAUT_STATS_MAX];
    static const taut_calibration zero;
    static const double           none[TAUT_STATS_MAX];
    for (size_t i = 0; i < n; i++) {
        t[i].piece.stats = cuda_put(none, sizeof none, 0);
        t[i].piece.calibration = t[i].calibration = cuda_put(&zero, sizeof zero, 0);
        t[i].piece.ranks = ranks;
    }
    twin_enqueue(TAUT_OP_COLLECT_STATS, t, n);
    if (t[0].k.codec->caps & TAUT_CAP_GLOBAL_STATS)
        for (size_t i = 0; i < n; i++) t[i].piece.src = NULL;
    twin_enqueue(TAUT_OP_CALIBRATE, t, n);
    for (size_t i = 0; i < n; i++) {
        taut_calibration there;
        const bool       global = t[i].k.codec->caps & TAUT_CAP_GLOBAL_STATS;
        ck_assert(taut__op_collect_stats(t[i].k.codec, &t[i].k.call, t[i].x, stats[i]) == TAUT_OK);
        ck_assert(taut__op_calibrate(t[i].k.codec, &t[i].k.call, stats[i], ranks, global ? NULL : t[i].x, &t[i].here) ==
                  TAUT_OK);
        cuda_get(&there, t[i].calibration, sizeof there);
        cuda_get(got, t[i].piece.stats, sizeof got);
        for (uint32_t q = 0; q < t[i].k.codec->n_stats; q++)
            ck_assert_msg(got[q] == stats[i][q] || isnan(got[q]), "%zu elements like %g: statistic %u: %g, host %g",
                          t[i].k.tensor.elems, (double)t[i].x[0], q, got[q], stats[i][q]);
        ck_assert_msg(there.raw == t[i].here.raw && memcmp(there.f, t[i].here.f, sizeof there.f) == 0 &&
                          memcmp(there.u, t[i].here.u, sizeof there.u) == 0,
                      "calibration %zu: step %g, host %g; threshold %llx, %llx; tie %lld, %lld", i, (double)there.f[0],
                      (double)t[i].here.f[0], (unsigned long long)there.u[0], (unsigned long long)t[i].here.u[0],
                      (long long)there.u[1], (long long)t[i].here.u[1]);
        t[i].piece.call.calibration = t[i].calibration;
        t[i].k.call.calibration = &t[i].here;
    }
    if (t[0].k.codec->caps & TAUT_CAP_GLOBAL_STATS)
        for (size_t i = 0; i < n; i++) t[i].piece.src = cuda_put(t[i].x, 4 * t[i].k.tensor.elems, 0);
    free(stats);
}
