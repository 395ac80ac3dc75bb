/* test_allreduce.c : every codec over every algorithm that can carry it, on 1 to 7 ranks: the same bytes everywhere, the error
 * that theory allows, nothing lost to the residuals, the same bits from every algorithm where sums are exact. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct codec_case {
    const char *spec;
    double      error; /* relative squared error of the sum allowed; quantization of the sum again included */
} codec_case;

/* quant: bucket range 20 over 15 levels: step^2/6 each time, against a variance near 1.3 per rank; the sum's range is larger.
 * topk and low rank: what they drop can be nearly all of white noise. */
static const codec_case codecs[] = {
    {"none", 1e-12},          {"fp16", 1e-6},
    {"bf16", 1e-4},           {"quant:bits=4", 0.9},
    {"quant:bits=8", 0.004},  {"quant:bits=4,rotate=1", 0.03}, /* 0.0096 each time, as much for the sum */
    {"grid:rel=0.03", 0.033}, {"grid:rel=0.03,code=rans", 0.033},
    {"topk:density=0.1", 1},  {"randk:density=0.1", 1.3},
    {"powersgd:rank=4", 1.3}, {"stack:topk:density=0.01+quant:bits=8", 0.05},
};
enum { CODECS = sizeof codecs / sizeof *codecs };
static const int         sizes[] = {1, 2, 3, 7};
static const char *const algorithms[] = {"auto", "sra", "ring", "gather", "native"};

typedef struct job_case {
    const char  *spec;
    size_t       rows, cols;
    taut_dtype   dtype;
    taut_op      op;
    int          steps;
    _Atomic bool unsupported;         /* written by all ranks */
    float      **result;              /* of the last step, one per rank */
    double     **applied, **residual; /* conservation: sums over steps; last residual */
} job_case;

static size_t elems(const job_case *c) { return c->rows * c->cols; }

static void keep_residual(const taut_layer *l, double *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = l->operand.residual ? (double)l->operand.feedback->r[i] : 0;
}

static taut_status reduce_steps(ranks_ctx *ctx)
{
    job_case   *c = ctx->arg;
    size_t      n = elems(c), shape[2] = {c->rows, c->cols};
    taut_layer *l;
    float      *buf = c->result[ctx->rank];
    TAUT_TRY(taut_layer_register(ctx->comm, "weights", TAUT_F32, 2, shape, &l));
    taut_status s = taut_layer_codec(l, c->spec);
    if (s == TAUT_E_UNSUPPORTED) c->unsupported = true;
    TAUT_TRY(s);
    for (int step = 0; step < c->steps; step++) {
        ranks_fill(buf, n, ctx->rank, step);
        if (step % 2) {
            TAUT_TRY(taut_allreduce_start(l, buf, c->op));
            TAUT_TRY(taut_wait(l));
        } else {
            TAUT_TRY(taut_allreduce(l, buf, c->op));
        }
        for (size_t i = 0; i < n && c->applied; i++) c->applied[ctx->rank][i] += (double)buf[i];
        TAUT_TRY(taut_step_end(ctx->comm));
    }
    if (c->residual) keep_residual(l, c->residual[ctx->rank], n);
    return TAUT_OK;
}

static float **rows_of_floats(int size, size_t n)
{
    float **rows = calloc((size_t)size, sizeof *rows);
    for (int r = 0; r < size; r++) rows[r] = calloc(n, sizeof **rows);
    return rows;
}
static double **rows_of_doubles(int size, size_t n)
{
    double **rows = calloc((size_t)size, sizeof *rows);
    for (int r = 0; r < size; r++) rows[r] = calloc(n, sizeof **rows);
    return rows;
}
static void free_rows(void *rows, int size)
{
    for (int r = 0; rows && r < size; r++) free(((void **)rows)[r]);
    free(rows);
}

static double error_of(const job_case *c, int size)
{
    double err = 0, norm = 0, factor = c->op == TAUT_MEAN ? 1.0 / size : 1;
    for (size_t i = 0; i < elems(c); i++) {
        double x = ranks_sum(size, i, c->steps - 1) * factor, d = (double)c->result[0][i] - x;
        err += d * d, norm += x * x;
    }
    return err / norm;
}

static bool identical(const job_case *c, int size)
{
    for (int r = 1; r < size; r++)
        if (memcmp(c->result[0], c->result[r], elems(c) * sizeof(float)) != 0) return false;
    return true;
}

/* False if the algorithm cannot carry the codec, on all ranks alike. The layer has its codec: nothing is to be planned, and no speeds to be measured. */
static bool run_case(job_case *c, int size, const taut_config *cfg)
{
    ranks_ctx   ctx[16];
    taut_config unplanned = *cfg;
    unplanned.codec = "none";
    ranks_run(size, &unplanned, reduce_steps, c, ctx);
    for (int r = 0; r < size; r++) {
        if (c->unsupported && ctx[r].status == TAUT_E_UNSUPPORTED) continue;
        ck_assert_msg(ctx[r].status == TAUT_OK, "%s, rank %d of %d: %s", c->spec, r, size, ctx[r].error);
    }
    return !c->unsupported;
}

START_TEST(results)
{
    const codec_case *k = &codecs[_i % CODECS];
    const char       *algorithm = algorithms[_i / CODECS];
    for (size_t p = 0; p < sizeof sizes / sizeof *sizes; p++) {
        int size = sizes[p];
        if (!suite_long() && size == 7 && (_i + _i / (int)CODECS) % 2)
            continue; /* every codec over half of the algorithms */
        taut_config cfg = TAUT_CONFIG_INIT;
        job_case    c = {.spec = k->spec, .rows = 101, .cols = 211, .op = p % 2 ? TAUT_SUM : TAUT_MEAN, .steps = 2};
        cfg.feedback = "off";
        cfg.algorithm = algorithm;
        cfg.slice_kib = 64;
        c.result = rows_of_floats(size, elems(&c));
        if (run_case(&c, size, &cfg)) {
            ck_assert_msg(identical(&c, size), "%s over %s on %d ranks: results differ", k->spec, algorithm, size);
            double e = error_of(&c, size), hops = strcmp(algorithm, "ring") == 0 ? size : 1;
            ck_assert_msg(e <= k->error * hops || size == 1, "%s over %s on %d ranks: error %g", k->spec, algorithm,
                          size, e);
            ck_assert_msg(e < 1e-12 || size > 1, "one rank: error %g", e);
        }
        free_rows(c.result, size);
    }
}
END_TEST

/* Sum over steps of what was applied, plus the residuals of all ranks, is the sum of all gradients. */
START_TEST(conservation)
{
    const codec_case *k = &codecs[_i % CODECS];
    const char       *algorithm = algorithms[_i / CODECS];
    for (int size = 2; size <= 3; size++)
        for (int op = TAUT_SUM; op <= TAUT_MEAN; op++) {
            if (!suite_long() && (size == 2) != (op == TAUT_SUM)) continue; /* sums of two ranks, means of three */
            taut_config cfg = TAUT_CONFIG_INIT;
            job_case    c = {.spec = k->spec, .rows = 130, .cols = 173, .op = (taut_op)op, .steps = 4};
            size_t      n = elems(&c);
            double      worst = 0;
            cfg.feedback = "on";
            cfg.algorithm = algorithm;
            c.result = rows_of_floats(size, n);
            c.applied = rows_of_doubles(size, n), c.residual = rows_of_doubles(size, n);
            bool ran = run_case(&c, size, &cfg);
            for (size_t i = 0; ran && i < n; i++) {
                double truth = 0, have = c.applied[0][i] * (op == TAUT_MEAN ? size : 1);
                for (int step = 0; step < c.steps; step++) truth += ranks_sum(size, i, step);
                for (int r = 0; r < size; r++) have += c.residual[r][i];
                worst = fmax(worst, fabs(have - truth));
            }
            ck_assert_msg(worst < 2e-4, "%s over %s on %d ranks, %s: %g lost", k->spec, algorithm, size,
                          op ? "mean" : "sum", worst);
            free_rows(c.result, size), free_rows(c.applied, size), free_rows(c.residual, size);
        }
}
END_TEST

/* Codec threads change who works, not what comes out; several steps, so that residuals count too. Every codec over half of the
 * algorithms, on two ranks or three; LONG=1: over all, on both. */
START_TEST(any_threads)
{
    const codec_case *k = &codecs[_i % CODECS];
    const char       *algorithm = algorithms[_i / CODECS];
    for (int size = 2; size <= 3; size++) {
        if (!suite_long() && ((_i + _i / (int)CODECS) % 2 || size != 2 + _i / 2 % 2)) continue;
        float **first = NULL;
        for (int threads = 1; threads <= 4; threads += 3) {
            taut_config cfg = TAUT_CONFIG_INIT;
            job_case    c = {.spec = k->spec, .rows = 98, .cols = 511, .op = TAUT_MEAN, .steps = 2};
            cfg.feedback = "on";
            cfg.algorithm = algorithm;
            cfg.slice_kib = 64;
            cfg.threads = threads;
            c.result = rows_of_floats(size, elems(&c));
            if (!run_case(&c, size, &cfg)) {
                free_rows(c.result, size);
                break;
            }
            ck_assert_msg(!first || memcmp(first[0], c.result[0], elems(&c) * sizeof(float)) == 0,
                          "%s over %s on %d ranks: %d threads change the result", k->spec, algorithm, size, threads);
            free_rows(first, size);
            first = c.result;
        }
        free_rows(first, size);
    }
}
END_TEST

/* The trace of rank 0 shows what every algorithm sends: spans called wire, with bytes, and spans of work. */
START_TEST(traces)
{
    static const struct {
        const char *spec, *algorithm, *work;
    } c[] = {{"quant:bits=4", "sra", "reduce"},     {"quant:bits=4", "ring", "reduce"},
             {"quant:bits=4", "gather", "decode"},  {"grid:rel=0.03", "native", "statistics"},
             {"powersgd:rank=4", "auto", "reduce"}, {"none", "auto", "layer"}};
    char        path[] = "/tmp/taut-trace-XXXXXX", line[512], work[32];
    int         file = mkstemp(path), wires = 0, works = 0;
    taut_config cfg = TAUT_CONFIG_INIT;
    job_case    job = {.spec = c[_i].spec, .rows = 300, .cols = 211, .op = TAUT_SUM, .steps = 2};
    cfg.algorithm = c[_i].algorithm;
    cfg.trace = path;
    job.result = rows_of_floats(3, elems(&job));
    ck_assert_int_ge(file, 0);
    ck_assert(run_case(&job, 3, &cfg));
    FILE *f = fopen(path, "r");
    snprintf(work, sizeof work, "\"name\":\"%s\"", c[_i].work);
    while (f && fgets(line, sizeof line, f)) {
        wires += strstr(line, "\"name\":\"wire\"") && !strstr(line, "\"bytes\":0,");
        works += strstr(line, work) != NULL;
        ck_assert_ptr_null(strstr(line, "\"dur\":-"));
    }
    ck_assert_msg(wires >= 2 && works >= 2, "%s over %s: %d spans of wire, %d of %s", c[_i].spec, c[_i].algorithm,
                  wires, works, c[_i].work);
    if (f) fclose(f);
    close(file);
    unlink(path);
    free_rows(job.result, 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("allreduce");
    TCase *t = suite_case(s, "all", 120);
    int    all = CODECS * (int)(sizeof algorithms / sizeof *algorithms);
    tcase_add_loop_test(t, results, 0, all);
    tcase_add_loop_test(t, conservation, 0, all);
    tcase_add_loop_test(t, any_threads, 0, all);
    tcase_add_loop_test(t, traces, 0, 6);
    return suite_run(s);
}
