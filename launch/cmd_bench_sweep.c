/* cmd_bench_sweep.c : `taut bench codec --sweep`: bits per element against squared error, family by family, beside the
 * Gaussian rate-distortion reference.
 *
 * The reference is reverse water-filling (Cover and Thomas, Elements of Information Theory, 2nd ed., theorem 10.3.3):
 * for independent Gaussians of variances s_b^2 the fewest bits at total distortion D are
 *     R = sum_b max(0, 1/2 log2(s_b^2 / t)),   with the water level t such that sum_b min(t, s_b^2) = D.
 * The variances are the empirical ones of blocks of 64 elements, which a real decoder would have to be told, and
 * gradients are heavier-tailed than Gaussians: so it is a reference line for codecs that work on single elements, not
 * a bound. Low rank, which sees structure between elements, may cross it. */
#include "bench.h"
#include "cli.h"
#include "floats.h"
#include "json.h"
#include "plan.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 16, BLOCK = 64, REFERENCE_POINTS = 40 };

typedef struct family {
    const char *name, *format;      /* format: a spec with one %g */
    double      values[VALUES_MAX]; /* ends with the first 0 */
} family;

static const family families[] = {
    {"quant", "quant:bits=%g", {1, 2, 3, 4, 5, 6, 7, 8}},
    {"quant nearest", "quant:bits=%g,round=nearest", {1, 2, 3, 4, 5, 6, 7, 8}},
    {"grid packed",
     "grid:rel=%g",
     {0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 1e-4, 1e-5}},
    {"grid rans",
     "grid:rel=%g,code=rans",
     {0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 1e-4, 1e-5}},
    {"topk", "topk:density=%g", {0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5}},
    {"randk", "randk:density=%g", {0.01, 0.03, 0.1, 0.2, 0.3, 0.5}},
    {"topk then quant", "stack:topk:density=%g+quant:bits=2", {0.001, 0.003, 0.01, 0.03, 0.1}},
    {"powersgd", "powersgd:rank=%g", {1, 2, 4, 8, 16, 32, 64}},
    {"fp16", "fp16", {1}},
    {"bf16", "bf16", {1}},
};

typedef struct sweep {
    bench_input      *in;
    trace             trace; /* of --layers; layers 0 without */
    enum bench_format format;
    json_t           *results;
} sweep;

/* ---- rows ---- */

static void row(sweep *s, const char *fam, const char *codec, double bits, double error)
{
    if (s->format == BENCH_CSV) {
        printf("%s,\"%s\",%.5f,%.5e\n", fam, codec, bits, error);
    } else if (s->format == BENCH_TABLE) {
        printf("%-18s %-40s %12.5f %12.4e\n", fam, codec, bits, error);
    } else {
        json_t *r = json_object();
        jsn_text(r, "family", fam);
        jsn_text(r, "codec", codec);
        jsn_real(r, "bits_per_element", bits);
        jsn_real(r, "rel_err2", error);
        json_array_append_new(s->results, r);
    }
}

static int measure_flat(sweep *s, const family *f, const char *text)
{
    bench_input *in = s->in;
    bench_codec  c;
    size_t       bytes;
    int          rc = bench_prepare(in, text, in->shape[0], in->shape[1], &c);
    if (rc == CLI_OK) rc = bench_once(in, &c, in->x, in->back, &bytes);
    if (rc == CLI_OK) row(s, f->name, c.name, 8.0 * (double)bytes / (double)in->n, rel_err2(in->x, in->back, in->n));
    return rc;
}

/* Layer by layer with its own matrix; a rank that is too large for a layer becomes the largest that still saves. 1-D
 * layers and small ones stay uncompressed, as in an allreduce (taut_config.small_elems). */
static int measure_layers(sweep *s, const family *f, double value)
{
    bench_input *in = s->in;
    size_t       total = 0;
    char         text[128];
    for (size_t i = 0; i < s->trace.layers; i++) {
        const trace_layer *l = &s->trace.layer[i];
        bool               matrix = l->ndim >= 2 && l->elems >= 1024;
        size_t             rows = matrix ? l->shape[0] : 1, cols = l->elems / rows, bytes;
        bench_codec        c;
        int                rc;
        snprintf(text, sizeof text, f->format, fmax(1, fmin(value, floor(0.5 * (double)taut__min(rows, cols)))));
        rc = bench_prepare(in, matrix ? text : "none", rows, cols, &c);
        if (rc == CLI_OK) rc = bench_once(in, &c, in->x + l->offset, in->back + l->offset, &bytes);
        if (rc != CLI_OK) return rc;
        total += bytes;
    }
    snprintf(text, sizeof text, f->format, value);
    row(s, f->name, text, 8.0 * (double)total / (double)in->n, rel_err2(in->x, in->back, in->n));
    return CLI_OK;
}

static int measure_family(sweep *s, const family *f)
{
    cli_progress progress = {0};
    char         text[128];
    int          rc = CLI_OK;
    for (int i = 0; i < VALUES_MAX && f->values[i] != 0 && rc == CLI_OK; i++) {
        bool low_rank = strcmp(f->name, "powersgd") == 0;
        snprintf(text, sizeof text, f->format, f->values[i]);
        cli_progress_show(&progress, "%s", text);
        if (low_rank && s->trace.layers) rc = measure_layers(s, f, f->values[i]);
        else if (bench_suits(text, s->in->shape[0], s->in->shape[1])) rc = measure_flat(s, f, text);
    }
    cli_progress_end(&progress);
    return rc;
}

/* ---- the reference ---- */

/* Distortion at water level t relative to the total, and bits per element. */
static double water(const double *var, size_t blocks, double t, double *bits)
{
    double left = 0, all = 0, sum = 0;
    for (size_t b = 0; b < blocks; b++) {
        all += var[b];
        left += var[b] < t ? var[b] : t;
        if (var[b] > t) sum += 0.5 * log2(var[b] / t);
    }
    *bits = sum / (double)blocks;
    return all > 0 ? left / all : 0;
}

static int reference(sweep *s)
{
    size_t  blocks = s->in->n / BLOCK; /* an incomplete last block does not count */
    double *var = calloc(blocks + 1, sizeof *var), top = 0;
    if (!var) return cli_fail("out of memory");
    for (size_t b = 0; b < blocks; b++) {
        for (size_t k = 0; k < BLOCK; k++) var[b] += (double)s->in->x[b * BLOCK + k] * (double)s->in->x[b * BLOCK + k];
        var[b] /= BLOCK;
        if (var[b] > top) top = var[b];
    }
    for (int i = 0; i < REFERENCE_POINTS && top > 0; i++) { /* levels from the largest variance down, 2 dB apart */
        double bits, error = water(var, blocks, top * pow(10, -0.2 * i), &bits);
        if (bits > 0 && error > 1e-6) row(s, "gaussian reference", "reverse water-filling", bits, error);
    }
    free(var);
    return CLI_OK;
}

int bench_sweep(bench_input *in, const char *layers, enum bench_format format)
{
    sweep s = {.in = in, .format = format, .results = json_array()};
    int   rc = layers ? trace_load(layers, NULL, &s.trace) : CLI_OK;
    if (rc == CLI_OK && layers && s.trace.floats != in->n)
        rc = cli_fail("%s: describes %zu floats; the input has %zu", layers, s.trace.floats, in->n);
    if (rc == CLI_OK && format == BENCH_CSV) printf("family,codec,bits_per_element,rel_err2\n");
    if (rc == CLI_OK && format == BENCH_TABLE)
        printf("%-18s %-40s %12s %12s\n", "family", "codec", "bits/element", "rel_err2");
    for (size_t i = 0; i < sizeof families / sizeof *families && rc == CLI_OK; i++)
        rc = measure_family(&s, &families[i]);
    if (rc == CLI_OK) rc = reference(&s);
    if (rc == CLI_OK && format == BENCH_JSON) {
        json_t *o = json_object();
        json_object_set(o, "results", s.results);
        jsn_print(o);
    }
    json_decref(s.results);
    trace_free(&s.trace);
    return rc;
}
