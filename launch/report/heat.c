/* heat.c : bits per element of every layer over time. Rows are layers in the order of the model; where there are many, the largest ones. Layers that
 * were never compressed, as biases are, are counted below instead. */
#include "report.h"
#include "../cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 80, COLUMNS_MAX = 240, CLASSES = 9, ROW_PX = 15 };
static const double class_to[CLASSES - 1] = {0.5, 1, 1.5, 2,
                                             3,   4, 8,   16}; /* bits per element: class k is below class_to[k] */

typedef struct heat {
    const run_log *r;
    size_t         rows, columns, each; /* looks of a column */
    size_t         some;                /* layers that were compressed at some look */
    double         plain, elements;     /* elements of the others, and of all */
    size_t        *layer;               /* of each row */
    double        *bits;                /* rows x columns */
    int           *codec;               /* the last one of the column */
    double        *begin;               /* columns + 1: steps */
} heat;

static int class_of(double bits)
{
    int k = 0;
    while (k < CLASSES - 1 && bits >= class_to[k]) k++;
    return k;
}

/* Uncompressed layers in 32 bits: a layer whose codec is none and that encoded nothing in the step that was looked at. */
static double bits_of(const run_log *r, const run_cell *c)
{
    return c->bits == 0 && c->codec >= 0 && strcmp(r->codec[c->codec], "none") == 0 ? 32 : c->bits;
}

static void fill_cell(heat *h, size_t row, size_t column)
{
    double sum = 0;
    size_t n = 0, at = row * h->columns + column;
    h->codec[at] = -1;
    for (size_t i = column * h->each; i < (column + 1) * h->each && i < h->r->looks; i++) {
        const run_look *look = &h->r->look[i];
        if (h->layer[row] >= look->layers) continue;
        const run_cell *c = &look->cell[h->layer[row]];
        if (c->codec >= 0) h->codec[at] = c->codec;
        if (isfinite(bits_of(h->r, c))) sum += bits_of(h->r, c), n++;
    }
    h->bits[at] = n ? sum / (double)n : NAN;
}

typedef struct sized {
    double elements;
    size_t layer;
} sized;

static int larger(const void *a, const void *b)
{
    const sized *x = a, *y = b;
    return (x->elements < y->elements) - (x->elements > y->elements);
}
static int earlier(const void *a, const void *b)
{
    const size_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool ever_compressed(const run_log *r, size_t layer)
{
    enum { UNCOMPRESSED = 32 };
    for (size_t i = 0; i < r->looks; i++)
        if (layer < r->look[i].layers && bits_of(r, &r->look[i].cell[layer]) < UNCOMPRESSED) return true;
    return false;
}

/* rows of h comes down to what there is to show: all layers, where none was compressed. */
static bool choose_rows(heat *h)
{
    sized *all = calloc(h->r->layers + 1, sizeof *all);
    size_t n = 0;
    if (!all) return false;
    for (size_t i = 0; i < h->r->layers; i++) {
        double elements = isfinite(h->r->layer[i].elements) ? h->r->layer[i].elements : 0;
        h->elements += elements;
        if (ever_compressed(h->r, i)) all[n++] = (sized){elements, i};
        else h->plain += elements;
    }
    h->some = n;
    for (size_t i = 0; n == 0 && i < h->r->layers; i++) all[i] = (sized){h->r->layer[i].elements, i};
    if (n == 0) n = h->r->layers;
    if (n > h->rows) qsort(all, n, sizeof *all, larger);
    else h->rows = n;
    for (size_t k = 0; k < h->rows; k++) h->layer[k] = all[k].layer;
    qsort(h->layer, h->rows, sizeof *h->layer, earlier);
    free(all);
    return true;
}

static bool make(heat *h)
{
    const run_log *r = h->r;
    h->rows = r->layers < ROWS_MAX ? r->layers : ROWS_MAX;
    h->each = (r->looks + COLUMNS_MAX - 1) / COLUMNS_MAX;
    h->columns = (r->looks + h->each - 1) / h->each;
    h->layer = calloc(h->rows + 1, sizeof *h->layer);
    h->bits = calloc(h->rows * h->columns + 1, sizeof *h->bits);
    h->codec = calloc(h->rows * h->columns + 1, sizeof *h->codec);
    h->begin = calloc(h->columns + 2, sizeof *h->begin);
    if (!h->layer || !h->bits || !h->codec || !h->begin || !choose_rows(h)) return false;
    for (size_t c = 0; c < h->columns; c++) {
        h->begin[c] = r->look[c * h->each].step;
        for (size_t k = 0; k < h->rows; k++) fill_cell(h, k, c);
    }
    h->begin[h->columns] = fmax(r->look[r->looks - 1].step + 1, r->steps ? r->column[RUN_STEP][r->steps - 1] + 1 : 0);
    return true;
}

static void print_legend(FILE *f)
{
    fputs("<p class='legend heat'>bits per element ", f);
    for (int k = 0; k < CLASSES; k++)
        if (k < CLASSES - 1) fprintf(f, "<span><i class='key h%d'></i>&lt; %g</span> ", k, class_to[k]);
        else fprintf(f, "<span><i class='key h%d'></i>more</span>", k);
    fputs("</p>", f);
}

/* One rectangle for as many columns as have one class. */
static void draw_row(FILE *f, const heat *h, const axis *x, size_t row)
{
    for (size_t c = 0; c < h->columns;) {
        const double *bits = h->bits + row * h->columns;
        size_t        end = c + 1;
        if (isfinite(bits[c])) {
            while (end < h->columns && isfinite(bits[end]) && class_of(bits[end]) == class_of(bits[c])) end++;
            double from = 1000 * axis_at(x, h->begin[c]), to = 1000 * axis_at(x, h->begin[end]);
            fprintf(f, "<path class='h%d' d='M%.1f %zuH%.1fv1H%.1fz'/>", class_of(bits[c]), from, row, to, from);
        }
        c = end;
    }
}

static void print_data(FILE *f, const heat *h)
{
    fputs("<script type='application/json'>{\"heat\":1,\"rows\":[", f);
    for (size_t k = 0; k < h->rows; k++) {
        if (k) fputc(',', f);
        html_script(f, h->r->layer[h->layer[k]].name);
    }
    fputs("],\"codecs\":[", f);
    for (size_t k = 0; k < h->r->codecs; k++) {
        if (k) fputc(',', f);
        html_script(f, h->r->codec[k]);
    }
    fputs("],", f);
    json_numbers(f, "begin", h->begin, h->columns + 1);
    json_numbers(f, "bits", h->bits, h->rows * h->columns);
    fputs("\"codec\":[", f);
    for (size_t k = 0; k < h->rows * h->columns; k++) fprintf(f, k ? ",%d" : "%d", h->codec[k]);
    fputs("]}</script>", f);
}

static void draw(FILE *f, const heat *h)
{
    axis   x = {.lo = h->begin[0], .hi = h->begin[h->columns]};
    double tick[32];
    char   number[NUMBER_TEXT];
    size_t ticks;
    if (!(x.hi > x.lo)) x.hi = x.lo + 1;
    ticks = axis_ticks(&x, 7, tick);
    fputs("<div class='heat-box'><div class='names'>", f);
    for (size_t k = 0; k < h->rows; k++) {
        fputs("<span title=\"", f);
        html_text(f, h->r->layer[h->layer[k]].name);
        fputs("\">", f);
        html_text(f, h->r->layer[h->layer[k]].name);
        fputs("</span>", f);
    }
    fprintf(f, "</div><div class='area' style='height:%zupx'>", h->rows * ROW_PX);
    for (size_t i = 0; i < ticks; i++)
        fprintf(f, "<span class='x%s' style='left:%.2f%%'>%s</span>", i % 2 ? " odd" : "", 100 * axis_at(&x, tick[i]),
                text_count(tick[i], number));
    fprintf(f,
            "<svg viewBox='0 0 1000 %zu' preserveAspectRatio='none' shape-rendering='crispEdges' role='img' "
            "aria-label='bits per element of %zu layers over time'>",
            h->rows, h->rows);
    for (size_t k = 0; k < h->rows; k++) draw_row(f, h, &x, k);
    fputs("</svg></div></div><p class='axis'>step</p>", f);
}

int report_heat(FILE *f, const run_log *r, size_t number)
{
    heat h = {.r = r};
    char id[32];
    int  rc = CLI_OK;
    snprintf(id, sizeof id, "heat-%zu", number);
    figure_begin(f, id, "Bits per element, layer by layer", r->name);
    if (!make(&h)) {
        rc = cli_fail("out of memory");
    } else {
        print_legend(f);
        draw(f, &h);
        figure_note(
            f, "What rank 0 sent of a layer's gradient, in bits per element, at %zu moments; 32 is uncompressed.%s",
            r->looks, h.each > 1 ? " Neighbouring moments are averaged, so that the chart has room for them." : "");
        if (h.some > h.rows)
            figure_note(f, "The %zu largest of %zu layers that were compressed are shown.", h.rows, h.some);
        if (h.some && h.some < r->layers)
            figure_note(f, "%zu more layers, %.2g%% of all elements, travelled uncompressed throughout.",
                        r->layers - h.some, 100 * h.plain / h.elements);
        print_data(f, &h);
    }
    fputs("</figure>", f);
    free(h.layer);
    free(h.bits);
    free(h.codec);
    free(h.begin);
    return rc;
}
