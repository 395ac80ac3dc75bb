/* contexts.c : what other contexts than a block's class would save in code `rans`, with an ideal coder. `build/release/tests/bench/contexts TRACE.json FILE ...`
 *
 * Codes of every matrix of the trace's files, at one relative error for all, are counted under contexts; bits are what a coder takes whose tables are those
 * very counts, the same tables for all layers and files. So every column is a bound from below on what tables that are fixed beforehand take. What travels
 * beside is priced by its own entropy: a block's classes as they are coded now, energies of rows and columns in half octaves, per layer.
 *   block      the class of 64 elements, the sum of their magnitudes in half octaves: what code `rans` does
 *   +columns   and the column's energy over that of the block's columns together, in half octaves; energies are the tensor's own, and sent
 *   rows x columns   the product of row's and column's energy instead of the block's class
 *   +above     block, and what has been decoded already: magnitudes in the same column of the eight rows before, nothing sent */
#include "compressors/grid/grid.h"
#include "compressors/grid/grid_rans.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RELS = 4, KINDS = 4, CLASSES = 33, MOST = 40, SIDES = 25, ALPHABET = 33 };
static const double      rels[RELS] = {0.05, 0.1, 0.2, 0.4};
static const char *const kind_name[KINDS] = {"block", "+columns", "rows x columns", "+above"};

typedef struct counts {
    double n[CLASSES * SIDES + MOST][ALPHABET];
} counts;
static counts seen[RELS][KINDS];
static double beside[RELS][KINDS], all;

static double entropy(const double *n, size_t k)
{
    double sum = 0, bits = 0;
    for (size_t i = 0; i < k; i++) sum += n[i];
    for (size_t i = 0; i < k; i++)
        if (n[i] > 0) bits -= n[i] * log2(n[i] / sum);
    return bits;
}

static int half_octaves(double ratio)
{
    double h = ratio > 0 ? round(2 * log2(ratio)) : -SIDES / 2;
    return (int)fmin(fmax(h, -(SIDES / 2)), SIDES / 2) + SIDES / 2;
}

static unsigned symbol(int32_t q)
{
    unsigned m = (unsigned)abs(q);
    if (m > 15) m = 16; /* escapes, whose rest is the same for all */
    return q == 0 ? 0 : q > 0 ? 2 * m - 1 : 2 * m;
}

/* Mean magnitudes of lines, as half octaves from the mean of all, and what sending them takes: entropy of the layer's own. */
static double lines(const double *sum, size_t n, double mean, double *level)
{
    double histogram[SIDES] = {0};
    for (size_t i = 0; i < n; i++) {
        int h = half_octaves(sum[i] / mean);
        histogram[h]++;
        level[i] = exp2((h - SIDES / 2) / 2.0);
    }
    return entropy(histogram, SIDES);
}

static void count(int rel, const int32_t *q, size_t rows, size_t cols)
{
    size_t  n = rows * cols;
    double *row = calloc(rows, sizeof *row), *col = calloc(cols, sizeof *col), *before = calloc(cols, sizeof *before),
           mean = 0, classes[CLASSES] = {0};
    for (size_t i = 0; i < n; i++)
        row[i / cols] += abs(q[i]) / (double)cols, col[i % cols] += abs(q[i]) / (double)rows,
            mean += abs(q[i]) / (double)n;
    double row_bits = lines(row, rows, mean, row), col_bits = lines(col, cols, mean, col);
    for (size_t at = 0; at < n; at += 64) {
        size_t   end = at + 64 < n ? at + 64 : n;
        uint64_t sum = 0;
        double   level = 0, above = 0;
        for (size_t i = at; i < end; i++) sum += (uint64_t)abs(q[i]), level += col[i % cols], above += before[i % cols];
        unsigned cls = grid_class_of_sum(sum);
        level /= (double)(end - at), above /= (double)(end - at);
        classes[cls]++;
        for (size_t i = at; i < end; i++) {
            unsigned s = symbol(q[i]);
            double   product = mean * row[i / cols] * col[i % cols];
            int      both = (int)fmin(fmax(2 * log2(product + 1e-9) + MOST / 2, 0), MOST - 1);
            if (cls > 0) { /* else there is nothing to code */
                seen[rel][0].n[cls][s]++;
                seen[rel][1].n[cls * SIDES + (unsigned)half_octaves(col[i % cols] / level)][s]++;
                seen[rel][3].n[cls * SIDES + (unsigned)half_octaves((before[i % cols] + 0.1) / (above + 0.1))][s]++;
            }
            seen[rel][2].n[CLASSES * SIDES + both][s]++;
        }
        for (size_t i = at; i < end; i++) before[i % cols] += (abs(q[i]) - before[i % cols]) / 8;
    }
    double class_bits = entropy(classes, CLASSES);
    beside[rel][0] += class_bits, beside[rel][1] += class_bits + col_bits, beside[rel][2] += row_bits + col_bits,
        beside[rel][3] += class_bits;
    free(row), free(col), free(before);
}

static void add_layer(FILE *f, size_t rows, size_t cols, size_t offset)
{
    const double dead = 0.65;
    size_t       n = rows * cols;
    taut_tensor  t = {.elems = n, .rows = rows, .cols = cols};
    taut_spec    spec;
    taut_call    c = {.spec = &spec, .tensor = &t, .n = n};
    double       stats[GRID_STATS] = {0};
    float       *x = malloc(n * sizeof *x);
    int32_t     *q = malloc(n * sizeof *q);
    if (!x || !q || fseek(f, (long)(offset * sizeof *x), SEEK_SET) != 0 || fread(x, sizeof *x, n, f) != n ||
        taut__spec_parse("grid", &spec) != TAUT_OK ||
        taut__op_collect_stats(taut__spec_codec(&spec), &c, x, stats) != TAUT_OK)
        exit(1);
    for (int r = 0; r < RELS; r++) {
        double step = (double)taut__grid_estimate_step(stats, rels[r] * stats[GRID_STAT_NORM2], dead);
        for (size_t i = 0; i < n; i++)
            q[i] = (int32_t)copysign(floor(fabs((double)x[i]) / step + 1 - dead), (double)x[i]);
        count(r, q, rows, cols);
    }
    all += (double)n;
    free(x), free(q);
}

int main(int argc, char **argv)
{
    json_t *root = argc > 2 ? json_load_file(argv[1], 0, NULL) : NULL, *layer;
    size_t  i;
    if (!root) {
        fprintf(stderr, "usage: contexts TRACE.json FILE.f32 ...\n");
        return 2;
    }
    for (int k = 2; k < argc; k++) {
        FILE *f = fopen(argv[k], "rb");
        json_array_foreach(json_object_get(root, "layers"), i, layer)
        {
            json_t *shape = json_object_get(layer, "shape");
            size_t  rows = (size_t)json_integer_value(json_array_get(shape, 0)), cols = 1;
            for (size_t d = 1; d < json_array_size(shape); d++)
                cols *= (size_t)json_integer_value(json_array_get(shape, d));
            if (f && json_array_size(shape) >= 2)
                add_layer(f, rows, cols, (size_t)json_integer_value(json_object_get(layer, "offset")));
        }
        if (f) fclose(f);
    }
    json_decref(root);
    printf("bits per element, ideal coder (of them beside the values), and less than `block`, at relative errors of");
    for (int r = 0; r < RELS; r++) printf(" %g", rels[r]);
    double base[RELS];
    for (int k = 0; k < KINDS; k++) {
        printf("\n%-15s", kind_name[k]);
        for (int r = 0; r < RELS; r++) {
            double bits = beside[r][k];
            for (size_t c = 0; c < sizeof seen[r][k].n / sizeof *seen[r][k].n; c++)
                bits += entropy(seen[r][k].n[c], ALPHABET);
            if (k == 0) base[r] = bits;
            printf("  %.4f (%.4f) %5.1f%%", bits / all, beside[r][k] / all, 100 * (1 - bits / base[r]));
        }
    }
    printf("\n");
    return 0;
}
