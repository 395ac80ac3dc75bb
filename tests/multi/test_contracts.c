/* test_contracts.c : what taut.h promises beside sums: steps that are dropped, parts of sharded layers, buffers that overlap or lie
 * askew, shapes that a codec does not suit, forked children, a thousand ranks. Ranks are threads. */
#include "compressors/dispatch.h"
#include "compressors/vec/vec.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static taut_config config(const char *codec)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 20000;
    cfg.codec = codec;
    return cfg;
}

/* ---- dropped steps ---- */

enum { ROWS = 64, COLS = 50, N = ROWS * COLS };
typedef struct dropping {
    const char *codec;
    int         how; /* 1: the program says so, 2: an Inf does */
    double      rms[8];
} dropping;

static double rms(const float *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * (double)x[i];
    return sqrt(s / (double)n);
}

/* Steps 0 to 5, of which 2 has gradients a thousand times as large, and is dropped; in the last nothing is put in. */
static taut_status drops(ranks_ctx *c)
{
    dropping   *d = c->arg;
    taut_layer *a, *b;
    float       x[N], y[N];
    TAUT_TRY(taut_layer_register(c->comm, "a", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &a));
    TAUT_TRY(taut_layer_register(c->comm, "b", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &b));
    NEED(taut_step_drop(c->comm) == TAUT_E_STATE);
    for (int step = 0; step < 6; step++) {
        float by = step == 2 ? 1000 : step == 5 ? 0 : 1;
        for (size_t i = 0; i < N; i++)
            x[i] = by * ranks_value(c->rank, i, step), y[i] = by * ranks_value(c->rank, i, step + 9);
        if (step == 2 && d->how == 2 && c->rank == c->size - 1) x[5] = INFINITY;
        TAUT_TRY(taut_allreduce_start(a, x, TAUT_MEAN));
        TAUT_TRY(taut_allreduce_start(b, y, TAUT_MEAN));
        TAUT_TRY(taut_step_end(c->comm));
        if (step == 2 && d->how == 1) TAUT_TRY(taut_step_drop(c->comm));
        if (step == 2 && d->how == 1) NEED(taut_step_drop(c->comm) == TAUT_OK); /* once more does no harm */
        if (c->rank == 0) d->rms[step] = rms(y, N);
    }
    return TAUT_OK;
}
static const char *const feeding[] = {"topk:density=0.1", "randk:density=0.1", "powersgd:rank=2",
                                      "grid:rel=0.2",     "quant:bits=3",      "stack:topk:density=0.05+quant:bits=6"};
START_TEST(dropped)
{
    for (int how = 1; how <= 2; how++)
        for (int p = 1; p <= 3; p++) {
            dropping    d = {.codec = feeding[_i], .how = how};
            taut_config cfg = config(d.codec);
            cfg.feedback = "on";
            ranks_ok(p, &cfg, drops, &d);
            ck_assert_msg(isfinite(d.rms[5]) && d.rms[3] < 20 && d.rms[4] < 20 && d.rms[5] < 20,
                          "%s, %d ranks: rms %g %g %g", d.codec, p, d.rms[3], d.rms[4], d.rms[5]);
        }
}
END_TEST

/* dropped=restore: what was waiting before the step comes, all of it, and nothing of the step: what went in and what came out agree. */
typedef struct ledger {
    const char     *codec;
    int             how;
    double          in, out, left;
    pthread_mutex_t lock;
} ledger;

static taut_status accounts(ranks_ctx *c)
{
    ledger     *g = c->arg;
    taut_layer *a;
    float       x[N];
    double      in = 0, out = 0, left = 0;
    TAUT_TRY(taut_layer_register(c->comm, "a", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &a));
    for (int step = 0; step < 8; step++) {
        bool  over = step == 3 || step == 5;
        float by = over ? 1000 : 1;
        for (size_t i = 0; i < N; i++) x[i] = by * ranks_value(c->rank, i, step);
        for (size_t i = 0; i < N && !over; i++) in += (double)x[i] * (double)(i % 31);
        if (over && g->how == 2 && c->rank == 0) x[7] = NAN;
        TAUT_TRY(taut_allreduce(a, x, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        if (over && g->how == 1) TAUT_TRY(taut_step_drop(c->comm));
        for (size_t i = 0; i < N && !over; i++) out += (double)x[i] * (double)(i % 31);
    }
    for (size_t i = 0; a->operand.residual && i < N; i++) left += (double)a->operand.feedback->r[i] * (double)(i % 31);
    pthread_mutex_lock(&g->lock);
    g->in += in, g->left += left;
    if (c->rank == 0) g->out = out;
    pthread_mutex_unlock(&g->lock);
    return TAUT_OK;
}
START_TEST(restored)
{
    for (int how = 1; how <= 2; how++)
        for (int p = 1; p <= 4; p++) {
            ledger      g = {.codec = feeding[_i], .how = how};
            taut_config cfg = config(g.codec);
            cfg.feedback = "on";
            cfg.dropped = "restore";
            pthread_mutex_init(&g.lock, NULL);
            ranks_ok(p, &cfg, accounts, &g);
            double missing = g.in - g.out - g.left;
            ck_assert_msg(fabs(missing) < 0.02 * (fabs(g.in) + 100), "%s, %d ranks: in %g, out %g, left %g: %g missing",
                          g.codec, p, g.in, g.out, g.left, missing);
        }
}
END_TEST

/* ---- parts of sharded layers: what lies outside a rank's part is nobody's ---- */

static const char *const all_codecs[] = {"none",
                                         "fp16",
                                         "bf16",
                                         "quant:bits=4",
                                         "grid:rel=0.03",
                                         "topk:density=0.2",
                                         "randk:density=0.2",
                                         "randk:density=0.1,scale=1",
                                         "powersgd:rank=3",
                                         "stack:topk:density=0.05+quant:bits=8",
                                         "stack:randk:density=0.1+quant:bits=8"};
enum { ALL = sizeof all_codecs / sizeof *all_codecs };

typedef struct parts {
    const char *codec;
    taut_dtype  dtype;
    float       outside;
    uint16_t    result[2][N];
    float       wide[2][N];
    int         turn;
} parts;

static void put(void *buf, taut_dtype dtype, size_t i, float v)
{
    const taut__vec_kernels *vec = taut__simd_get()->vec;
    if (dtype == TAUT_F32) ((float *)buf)[i] = v;
    else (dtype == TAUT_F16 ? vec->to_f16 : vec->to_bf16)((uint16_t *)buf + i, &v, 1);
}

static taut_status shard(ranks_ctx *c)
{
    parts      *p = c->arg;
    taut_layer *l;
    float       buf[N];
    size_t      first, n;
    TAUT_TRY(taut_layer_register(c->comm, "x", p->dtype, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut_layer_part(l, c->rank, &first, &n));
    for (int step = 0; step < 2; step++) {
        for (size_t i = 0; i < N; i++) put(buf, p->dtype, i, ranks_value(c->rank, i, step));
        TAUT_TRY(taut_reduce_scatter(l, buf, TAUT_SUM));
        for (size_t i = 0; i < N; i++)
            if (i < first || i >= first + n) put(buf, p->dtype, i, p->outside);
        TAUT_TRY(taut_allgather(l, buf));
        TAUT_TRY(ranks_same(c->comm, buf, N * (p->dtype == TAUT_F32 ? 4 : 2)));
        TAUT_TRY(taut_step_end(c->comm));
    }
    if (c->rank == 0) memcpy(p->turn ? p->wide[1] : p->wide[0], buf, N * (p->dtype == TAUT_F32 ? 4 : 2));
    return TAUT_OK;
}
START_TEST(foreign_parts)
{
    static const char *const algorithm[] = {"auto", "sra", "ring", "gather", "native"};
    static const int         size[] = {1, 2, 3, 4, 7};
    static parts             p;
    for (int d = TAUT_F32; d <= TAUT_BF16; d++)
        for (int a = 0; a < (d == TAUT_F32 ? 5 : 1); a++)
            for (int k = 0; k < 5; k++) {
                taut_config cfg = config(all_codecs[_i]);
                cfg.algorithm = algorithm[a];
                memset(&p, 0, sizeof p);
                p.dtype = (taut_dtype)d;
                for (p.turn = 0; p.turn < 2; p.turn++) {
                    p.outside = p.turn ? -99 : NAN;
                    ranks_ctx ctx[7];
                    ranks_run(size[k], &cfg, shard, &p, ctx);
                    if (a && ctx[0].status == TAUT_E_UNSUPPORTED)
                        break; /* an algorithm that cannot carry this codec says so */
                    for (int r = 0; r < size[k]; r++)
                        ck_assert_msg(ctx[r].status == TAUT_OK, "%s: %s", all_codecs[_i], ctx[r].error);
                }
                ck_assert_msg(memcmp(p.wide[0], p.wide[1], sizeof p.wide[0]) == 0,
                              "%s, dtype %d, %s, %d ranks: depends on what is outside the parts", all_codecs[_i], d,
                              algorithm[a], size[k]);
            }
}
END_TEST

/* ---- buffers ---- */

static taut_status overlapping(ranks_ctx *c)
{
    taut_layer *l[4];
    float      *x = calloc(4 * N, sizeof *x);
    size_t      small = 40;
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[i]));
    }
    TAUT_TRY(taut_layer_register(c->comm, "small", TAUT_F32, 1, &small, &l[3]));
    for (int step = 0; step < 2; step++) {
        for (size_t i = 0; i < 4 * N; i++) x[i] = (float)(1 + c->rank);
        TAUT_TRY(taut_allreduce_start(l[0], x + N, TAUT_SUM));
        NEED(taut_allreduce_start(l[1], x + N, TAUT_SUM) == TAUT_E_INVALID); /* the same */
        NEED(strstr(taut_last_error(), "'a'") && strstr(taut_last_error(), "'b'"));
        NEED(taut_allreduce_start(l[1], x + 1, TAUT_SUM) == TAUT_E_INVALID);       /* its end */
        NEED(taut_allreduce(l[1], x + 2 * N - 1, TAUT_SUM) == TAUT_E_INVALID);     /* its beginning */
        NEED(taut_allreduce_start(l[3], x + N + 100, TAUT_SUM) == TAUT_E_INVALID); /* a small one inside */
        TAUT_TRY(taut_allreduce_start(l[1], x, TAUT_SUM));                         /* side by side */
        TAUT_TRY(taut_allreduce_start(l[3], x + 3 * N, TAUT_SUM));
        NEED(taut_allreduce_start(l[2], x + 2 * N + 1, TAUT_SUM) == TAUT_E_INVALID); /* over the small one */
        TAUT_TRY(taut_allreduce_start(l[2], x + 2 * N, TAUT_SUM));
        TAUT_TRY(taut_wait(l[3]));
        if (step) TAUT_TRY(taut_wait(l[0]));
        if (step) TAUT_TRY(taut_allreduce(l[0], x + N, TAUT_MEAN)); /* one after the other is fine */
        TAUT_TRY(taut_step_end(c->comm));
        double sum = c->size * (c->size + 1) / 2.0;
        for (size_t i = 0; i < 3 * N + small; i++) NEED(fabs((double)x[i] - sum) < 1e-3 * sum);
        NEED(c->comm->lents == 0);
    }
    free(x);
    return TAUT_OK;
}
START_TEST(buffers_overlap)
{
    taut_config cfg = config("none");
    cfg.progress = _i;
    for (int p = 1; p <= 4; p++) ranks_ok(p, &cfg, overlapping, NULL);
}
END_TEST

static taut_status odd_offsets(ranks_ctx *c)
{
    static _Thread_local _Alignas(64) uint16_t flat[2 * N + 41 + 8];
    const taut__vec_kernels                   *vec = taut__simd_get()->vec;
    taut_layer                                *l[3];
    float                                      f[N];
    size_t                                     at[3] = {1, 1 + N, 1 + 2 * N}, n[3] = {N, N, 41};
    bool                                       half = c->arg != NULL;
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        TAUT_TRY(taut_layer_register(c->comm, name, half ? TAUT_F16 : TAUT_BF16, i < 2 ? 2 : 1,
                                     i < 2 ? (size_t[]){ROWS, COLS} : &n[2], &l[i]));
    }
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < 3; i++) {
            for (size_t k = 0; k < n[i]; k++) f[k] = ranks_value(c->rank, k, step + i);
            (half ? vec->to_f16 : vec->to_bf16)(flat + at[i], f, n[i]);
            NEED((uintptr_t)(flat + at[i]) % 4 == 2 || i == 1);
            TAUT_TRY(taut_allreduce_start(l[i], flat + at[i], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < 3; i++) {
            double err = 0, norm = 0;
            (half ? vec->from_f16 : vec->from_bf16)(f, flat + at[i], n[i]);
            for (size_t k = 0; k < n[i]; k++) {
                double exact = ranks_sum(c->size, k, step + i), d = (double)f[k] - exact;
                err += d * d, norm += exact * exact;
            }
            NEED(err <= 0.05 * norm);
            TAUT_TRY(ranks_same(c->comm, flat + at[i], 2 * n[i]));
        }
    }
    NEED(taut_allreduce(l[0], (char *)flat + 1, TAUT_SUM) == TAUT_E_INVALID); /* half an element */
    return TAUT_OK;
}
START_TEST(odd_buffers)
{
    static const char *const codec[] = {"none", "quant:bits=8", "grid:rel=0.02", "fp16"};
    taut_config              cfg = config(codec[_i]);
    cfg.feedback = "off";
    for (int p = 1; p <= 4; p++) {
        ranks_ok(p, &cfg, odd_offsets, NULL);
        ranks_ok(p, &cfg, odd_offsets, &cfg);
    }
}
END_TEST

/* ---- shapes that the codec of all layers does not suit ---- */

static taut_status shapes(ranks_ctx *c)
{
    static const size_t shape[][4] = {{2, 768}, {1, 197, 768}, {3, 400}, {768, 2}, {40, 60}, {1, 1200, 1, 1}};
    static const int    ndim[] = {2, 3, 2, 2, 2, 4};
    float              *x = calloc(1 * 197 * 768, sizeof *x);
    taut_layer         *l[6], *own[6];
    for (int i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "shape%d", i);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, ndim[i], shape[i], &l[i]));
        snprintf(name, sizeof name, "own%d", i);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, ndim[i], shape[i], &own[i]));
        bool fits = taut_spec_check(c->arg, ndim[i], shape[i]) == TAUT_OK;
        NEED((taut_layer_codec(own[i], c->arg) == TAUT_OK) == fits); /* who asks for it by name is told */
    }
    for (int i = 0; i < 6; i++) {
        taut_layer_stats st = {.size = sizeof st};
        for (size_t k = 0; k < l[i]->operand.tensor.elems; k++) x[k] = (float)c->rank + (float)(k % 3);
        TAUT_TRY(taut_allreduce(l[i], x, TAUT_SUM));
        TAUT_TRY(taut_layer_get_stats(l[i], &st));
        bool suits = taut_spec_check(c->arg, ndim[i], shape[i]) == TAUT_OK;
        NEED((strcmp(st.codec, "none") != 0) == suits);
        double sum = c->size * (c->size - 1) / 2.0;
        for (size_t k = 0; k < l[i]->operand.tensor.elems && !suits; k++)
            NEED(x[k] == (float)(sum + c->size * (double)(k % 3)));
    }
    free(x);
    return TAUT_OK;
}
START_TEST(odd_shapes)
{
    static const char *const codec[] = {"powersgd:rank=4", "powersgd:rank=3", "stack:powersgd:rank=4+quant",
                                        "topk:density=0.01", "quant:bits=4"};
    taut_config              cfg = config(codec[_i]);
    for (int p = 1; p <= 3; p++) ranks_ok(p, &cfg, shapes, (void *)(uintptr_t)codec[_i]);
}
END_TEST

/* ---- a forked child has nothing to do with its parent's communicators ---- */

static taut_status forks(ranks_ctx *c)
{
    taut_layer *l;
    float       x[N] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < 3; step++) {
        TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
        pid_t pid = step == 1 && c->rank == 0 ? fork() : -1;
        if (pid == 0) {
            alarm(20);
            bool told = taut_allreduce(l, x, TAUT_SUM) == TAUT_E_STATE && taut_step_end(c->comm) == TAUT_E_STATE &&
                        strstr(taut_last_error(), "forked");
            taut_comm_destroy(c->comm);
            exit(told ? 7 : 8); /* with the handlers of exit(), which is what hung */
        }
        TAUT_TRY(taut_step_end(c->comm));
        if (pid > 0) {
            int status = 0;
            waitpid(pid, &status, 0);
            NEED(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        }
    }
    return TAUT_OK;
}
START_TEST(forked)
{
    taut_config cfg = config("quant:bits=4");
    cfg.progress = _i % 3;
    cfg.threads = 1 + _i / 3;
    char path[] = "/tmp/taut-forked-XXXXXX";
    int  fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    cfg.trace = path;
    ranks_ok(2, &cfg, forks, NULL);
    json_t *trace = json_load_file(path, 0, NULL); /* into which no child has written */
    unlink(path);
    ck_assert(trace != NULL);
    json_decref(trace);
}
END_TEST

/* ---- as many ranks as the header allows ---- */

static taut_status crowd(ranks_ctx *c)
{
    taut_layer *l, *small;
    float       x[2048], y[8];
    size_t      n = 8;
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){32, 64}, &l));
    TAUT_TRY(taut_layer_register(c->comm, "s", TAUT_F32, 1, &n, &small));
    for (int step = 0; step < 2; step++) {
        for (size_t i = 0; i < 2048; i++) x[i] = (float)(i % 7);
        for (size_t i = 0; i < 8; i++) y[i] = (float)i;
        TAUT_TRY(taut_allreduce_start(l, x, TAUT_MEAN));
        TAUT_TRY(taut_allreduce_start(small, y, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        for (size_t i = 0; i < 2048; i++) NEED(fabsf(x[i] - (float)(i % 7)) < 0.1f);
        for (size_t i = 0; i < 8; i++) NEED(y[i] == (float)(c->size * (int)i));
    }
    return TAUT_OK;
}
START_TEST(many_ranks)
{
    static const struct {
        const char *codec;
        int         ranks;
    } row[] = {
        {"none", 1024}, {"quant:bits=8", 200}, {"auto", 150}, {"auto", 1024}}; /* the last with LONG=1: half a minute */
    taut_config cfg = config(row[_i].codec);
    cfg.timeout_ms = suite_patience(60000);
    ranks_ok(row[_i].ranks, &cfg, crowd, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("contracts");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, dropped, 0, 6);
    tcase_add_loop_test(t, restored, 0, 6);
    tcase_add_loop_test(t, foreign_parts, 0, ALL);
    tcase_add_loop_test(t, buffers_overlap, 0, 3);
    tcase_add_loop_test(t, odd_buffers, 0, 4);
    tcase_add_loop_test(t, odd_shapes, 0, 5);
    tcase_add_loop_test(t, forked, 0, 6);
    tcase_add_loop_test(t, many_ranks, 0, suite_long() ? 4 : 3);
    return suite_run(s);
}
