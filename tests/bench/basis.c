/* basis.c : what a basis saves, and what it costs. `build/release/tests/bench/basis TRACE.json STEP`, as in `basis ../shared/traces/gpt.json step400`
 *
 * Bits: the gradients of rank 0 of the trace, all matrices, in bases of R directions that were made from those of rank 1 (what a result, or
 * a momentum, of the same time would tell), by grid with its entropy coder, at equal relative errors; estimated from statistics. Equal error is not equal
 * loss: with error feedback, which a basis needs, what is left out comes back (docs/results.md has both).
 * Low rank on the grid: the same in bases of this very step's sum, as good as subspace iteration makes them, beside what sending the directions would take: they
 * are one factor (its columns as integers, 5% of squared error), the leading coordinates are the other one, and the rest is coded with the same step.
 * Time: a change of basis, learning and renewal, then all of encoding and decoding with it, grid's entropy coder included; one thread, seconds of the processor, the least of some. */
#include "compressors/basis/basis.h"
#include "compressors/grid/grid.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RELS = 4, KINDS = 5, ITERATIONS = 8 };
static const double rels[RELS] = {0.05, 0.2, 0.4, 0.7};
static const double GAUSSIAN_BITS = 2.4; /* of an element at a relative error of 0.05, by grid with its entropy coder */
static const size_t directions[KINDS] = {0, 16, 32, 64, 128};

static double processor_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void learn(taut_axes *a, const taut_tensor *t, const float *x, double keep)
{
    taut__axes_learn_begin(a, keep);
    for (size_t i = 0; i < taut__axes_tiles(a); i++) taut__axes_learn(a, t, i, x);
    taut__axes_renew(a);
}

static void turn(taut_axes *a, const taut_tensor *t, float *x)
{
    for (size_t i = 0; i < taut__axes_tiles(a); i++) taut__axes_turn(a, t, i, x);
}

/* ---- bits ---- */

static float *part(const char *path, size_t first, size_t n)
{
    FILE  *f = fopen(path, "rb");
    float *x = malloc(n * sizeof *x);
    if (!f || !x || fseek(f, (long)(first * sizeof *x), SEEK_SET) != 0 || fread(x, sizeof *x, n, f) != n) {
        fprintf(stderr, "%s: cannot read %zu floats at %zu\n", path, n, first);
        exit(1);
    }
    fclose(f);
    return x;
}

static void add_bits(const float *x, size_t n, double *bits)
{
    taut_tensor t = {.elems = n, .rows = 1, .cols = n};
    taut_spec   spec;
    taut_call   c = {.spec = &spec, .tensor = &t, .n = n};
    double      stats[GRID_STATS] = {0};
    if (taut__spec_parse("grid", &spec) != TAUT_OK ||
        taut__op_collect_stats(taut__spec_codec(&spec), &c, x, stats) != TAUT_OK)
        exit(1);
    for (int i = 0; i < RELS; i++) {
        double step = (double)taut__grid_estimate_step(stats, rels[i] * stats[GRID_STAT_NORM2], 0.65);
        bits[i] += (double)n * taut__grid_estimate_bits(stats, step, 0.65, GRID_RANS);
    }
}

/* x in a basis of k's directions made from `of`; NULL: no directions. */
static taut_axes *rewrite(const taut_tensor *t, int k, const float *of, const float *x, float *y)
{
    taut_axes *a = NULL;
    memcpy(y, x, t->elems * sizeof *y);
    if (directions[k] > 0 && taut__axes_create(t, directions[k], 7, &a) != TAUT_OK) exit(1);
    for (int i = 0; a && i < ITERATIONS; i++) learn(a, t, of, 0);
    if (a) turn(a, t, y);
    return a;
}

/* bits[0]: by k directions of the other rank; [1]: of the sum; sent[k]: of the latter's directions */
typedef struct bases {
    double bits[2][KINDS][RELS], sent[KINDS];
} bases;

static void add_layer(const char *folder, const char *step, size_t rows, size_t cols, size_t offset, bases *b)
{
    taut_tensor t = {.elems = rows * cols, .rows = rows, .cols = cols};
    char        path[2][512];
    for (int r = 0; r < 2; r++) snprintf(path[r], sizeof path[r], "%s-%s-rank%d.f32", folder, step, r);
    float *own = part(path[0], offset, t.elems), *other = part(path[1], offset, t.elems),
          *y = malloc(t.elems * sizeof *y), *sum = malloc(t.elems * sizeof *sum);
    for (size_t i = 0; i < t.elems; i++) sum[i] = own[i] + other[i];
    for (int k = 0; k < KINDS; k++)
        for (int fresh = 0; fresh < 2; fresh++) {
            taut_axes *a = rewrite(&t, k, fresh ? sum : other, own, y);
            add_bits(y, t.elems, b->bits[fresh][k]);
            if (a && fresh) b->sent[k] += GAUSSIAN_BITS * (double)(taut__axes_most(a) * (rows < cols ? rows : cols));
            taut__axes_destroy(a);
        }
    free(sum);
    free(own), free(other), free(y);
}

static void show_bits(const char *json, const char *step)
{
    json_error_t why;
    json_t      *root = json_load_file(json, 0, &why), *layer;
    char         folder[400];
    double       all = 0;
    bases        b = {0};
    size_t       i;
    if (!root) {
        fprintf(stderr, "%s: %s\n", json, why.text);
        exit(1);
    }
    snprintf(folder, sizeof folder, "%.*s", (int)(strlen(json) - strlen(".json")), json);
    json_array_foreach(json_object_get(root, "layers"), i, layer)
    {
        json_t *shape = json_object_get(layer, "shape");
        size_t  rows = (size_t)json_integer_value(json_array_get(shape, 0)), cols = 1;
        for (size_t d = 1; d < json_array_size(shape); d++)
            cols *= (size_t)json_integer_value(json_array_get(shape, d));
        if (json_array_size(shape) < 2) continue;
        add_layer(folder, step, rows, cols, (size_t)json_integer_value(json_object_get(layer, "offset")), &b);
        all += (double)(rows * cols);
    }
    json_decref(root);
    printf("bits per element at relative errors of 0.05, 0.2, 0.4 and 0.7\n");
    for (int fresh = 0; fresh < 2; fresh++)
        for (int k = 0; k < KINDS; k++) {
            printf("R=%-4zu", directions[k]);
            for (int r = 0; r < RELS; r++) printf(" %.3f", b.bits[fresh][k][r] / all);
            if (fresh && k) printf(" in directions of this step's sum, and %.3f for these", b.sent[k] / all);
            printf("\n");
        }
}

/* ---- time ---- */

enum { TRIES = 7 };

static void back(taut_axes *a, const taut_tensor *t, float *x)
{
    for (size_t i = 0; i < taut__axes_tiles(a); i++) taut__axes_back(a, t, i, x);
}

/* Encoding and decoding a matrix with a few leading directions, at a relative error of about 0.4. a: NULL: without a basis. y: room */
static void show_codec(const taut_tensor *t, taut_axes *a, const float *x, float *y)
{
    size_t   shape[2] = {t->rows, t->cols}, cap, len = 0;
    uint8_t *payload;
    double   best[2] = {INFINITY, INFINITY};
    char     spec[64];
    double   norm2 = 0;
    for (size_t i = 0; i < t->elems; i++) norm2 += (double)x[i] * (double)x[i];
    /* a step of three standard deviations leaves some 0.4 */
    snprintf(spec, sizeof spec, "grid:step=%.6g,code=rans", 3 * sqrt(norm2 / (double)t->elems));
    if (taut_encode_bound(spec, 2, shape, &cap) != TAUT_OK || !(payload = malloc(cap))) exit(1);
    for (int i = 0; i < TRIES; i++) {
        memcpy(y, x, t->elems * sizeof *y);
        double begin = processor_s();
        if (a) turn(a, t, y);
        if (taut_encode(spec, 2, shape, y, 1, payload, cap, &len) != TAUT_OK) exit(1);
        double middle = processor_s();
        if (taut_decode(payload, len, y, t->elems) != TAUT_OK) exit(1);
        if (a) back(a, t, y);
        best[0] = fmin(best[0], middle - begin), best[1] = fmin(best[1], processor_s() - middle);
    }
    printf("encode %.2f GB/s, decode %.2f GB/s, %.2f bits\n", 4e-9 * (double)t->elems / best[0],
           4e-9 * (double)t->elems / best[1], 8 * (double)len / (double)t->elems);
    free(payload);
}

static void show_time(size_t rows, size_t cols)
{
    taut_tensor t = {.elems = rows * cols, .rows = rows, .cols = cols};
    float      *x = malloc(t.elems * sizeof *x);
    float      *y = malloc(t.elems * sizeof *y);
    /* rows of different sizes along a few directions, and noise */
    for (size_t i = 0; i < t.elems; i++) {
        uint32_t h = (uint32_t)(i * 2654435761u) ^ (uint32_t)(i >> 7) * 40503u;
        x[i] = ((float)(h % 1000003) / 1000003 - 0.5f) * (1 + (float)((i / cols) % 5)) +
               (float)((i / cols) % 7) * (float)(i % cols % 11) * 0.05f;
    }
    printf("%zu x %zu, R=0: ", rows, cols);
    show_codec(&t, NULL, x, y);
    for (int k = 1; k < KINDS; k++) {
        double     best[2] = {INFINITY, INFINITY};
        taut_axes *a;
        if (taut__axes_create(&t, directions[k], 7, &a) != TAUT_OK) exit(1);
        for (int i = 0; i < TRIES; i++) {
            memcpy(y, x, t.elems * sizeof *y);
            double begin = processor_s();
            learn(a, &t, x, 0.9);
            double middle = processor_s();
            turn(a, &t, y);
            best[0] = fmin(best[0], middle - begin), best[1] = fmin(best[1], processor_s() - middle);
        }
        printf("%zu x %zu, R=%zu: change of basis %.2f GB/s, learning %.2f GB/s, ", rows, cols, directions[k],
               4e-9 * (double)t.elems / best[1], 4e-9 * (double)t.elems / best[0]);
        show_codec(&t, a, x, y);
        taut__axes_destroy(a);
    }
    free(x), free(y);
}

int main(int argc, char **argv)
{
    if (argc != 3 || strlen(argv[1]) < 6) {
        fprintf(stderr, "usage: basis TRACE.json STEP\n");
        return 2;
    }
    show_bits(argv[1], argv[2]);
    show_time(512, 128);
    show_time(2048, 512);
    return 0;
}
