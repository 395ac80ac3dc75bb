/* chart.c : lines of all runs in one chart: loss, step time, bytes. */
#include "report.h"
#include "../cli.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- figures ---- */

void figure_begin(FILE *f, const char *id, const char *title, const char *run)
{
    fprintf(f, "<figure id='%s'><figcaption><h3>%s", id, title);
    if (run) {
        fputs(" <small>", f);
        html_text(f, run);
        fputs("</small>", f);
    }
    fputs("</h3></figcaption>", f);
}

void figure_note(FILE *f, const char *fmt, ...)
{
    char    text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fputs("<p class='note'>", f);
    html_text(f, text);
    fputs("</p>", f);
}

void legend(FILE *f, const report *p)
{
    fputs("<p class='legend'>", f);
    for (size_t i = 0; i < p->runs; i++) {
        fprintf(f, "<span><i class='key s%zu'></i>", i);
        html_text(f, p->run[i].name);
        fputs("</span> ", f);
    }
    fputs("</p>", f);
}

void decimation_note(FILE *f, const run_log *const *run, size_t runs)
{
    for (size_t i = 0; i < runs; i++) {
        size_t each = run[i] ? (run[i]->steps + REPORT_BINS - 1) / REPORT_BINS : 0;
        char   a[NUMBER_TEXT], b[NUMBER_TEXT];
        if (each <= 1) continue;
        figure_note(f,
                    "%s: %s steps are drawn as bins of %s: the line is their mean, the shade reaches from the least to "
                    "the largest.",
                    run[i]->name, text_count((double)run[i]->steps, a), text_count((double)each, b));
    }
}

void chart_data_begin(FILE *f, chart_axis x, chart_axis y)
{
    fprintf(
        f,
        "<script type='application/json'>{\"x\":{\"lo\":%.9g,\"hi\":%.9g,\"log\":%d,\"name\":\"%s\",\"unit\":\"%s\"},"
        "\"y\":{\"name\":\"%s\",\"unit\":\"%s\"},\"s\":[",
        x.a->lo, x.a->hi, x.a->log, x.name, x.unit, y.name, y.unit);
}

void chart_data_series(FILE *f, const char *name, const char *class, const bins *b)
{
    fputs("{\"name\":", f);
    html_script(f, name);
    fprintf(f, ",\"class\":\"%s\",\"each\":%zu,", class, b->each);
    json_numbers(f, "x", b->x, b->n);
    json_numbers(f, "from", b->from, b->n);
    json_numbers(f, "y", b->mean, b->n);
    json_numbers(f, "lo", b->low, b->n);
    json_numbers(f, "hi", b->high, b->n);
    fputs("\"n\":0},", f);
}

void chart_data_end(FILE *f) { fputs("null]}</script>", f); }

/* ---- lines ---- */

typedef struct line_chart {
    const char *id, *title, *x_name, *x_unit, *y_name, *y_unit;
    run_column  x, y;
    text_of    *x_text, *y_text;
    bool        y_log, evals;
    const char *note;
} line_chart;

/* Where an evaluation lies on the x axis: after the step of its number. */
static double eval_x(const run_log *r, run_column x, double step)
{
    size_t lo = 0, hi = r->steps;
    while (lo < hi) { /* first step beyond */
        size_t mid = (lo + hi) / 2;
        if (r->column[RUN_STEP][mid] <= step) lo = mid + 1;
        else hi = mid;
    }
    return lo ? r->column[x][lo - 1] : NAN;
}

/* All that is drawn has its place. */
static void grow_y(axis *a, const bins *b, const run_log *r, const line_chart *c)
{
    for (size_t k = 0; k < b->n; k++) axis_grow(a, b->low[k]), axis_grow(a, b->high[k]);
    for (size_t i = 0; c->evals && i < r->evals; i++) axis_grow(a, r->eval[i].loss);
}

static void draw_run(FILE *f, const line_chart *c, const run_log *r, const bins *b, size_t colour, const axis *x,
                     const axis *y)
{
    double *at = calloc(4 * b->n + 1, sizeof *at);
    char class[24], title[160], text[NUMBER_TEXT];
    if (!at) return;
    snprintf(class, sizeof class, "s%zu", colour);
    for (size_t k = 0; k < b->n; k++) {
        at[k] = axis_at(x, b->x[k]);
        at[b->n + k] = axis_at(y, b->mean[k]);
        at[2 * b->n + k] = axis_at(y, b->low[k]);
        at[3 * b->n + k] = axis_at(y, b->high[k]);
    }
    if (b->each > 1) plot_band(f, class, at, at + 2 * b->n, at + 3 * b->n, b->n);
    plot_line(f, class, at, at + b->n, b->n);
    for (size_t i = 0; c->evals && i < r->evals; i++) {
        snprintf(title, sizeof title, "validation loss %s after step %.0f", text_real(r->eval[i].loss, text),
                 r->eval[i].step);
        plot_dot(f, class, axis_at(x, eval_x(r, c->x, r->eval[i].step)), axis_at(y, r->eval[i].loss), title);
    }
    free(at);
}

static int draw(FILE *f, const report *p, const line_chart *c)
{
    bins b[REPORT_RUNS];
    axis x = {.lo = NAN, .hi = NAN, .seconds = c->x == RUN_TIME_S}, y = {.lo = NAN, .hi = NAN, .log = c->y_log};
    const run_log *all[REPORT_RUNS] = {NULL};
    char class[24], label[300];
    int rc = CLI_OK;
    memset(b, 0, sizeof b);
    for (size_t i = 0; i < p->runs && rc == CLI_OK; i++) {
        const run_log *r = all[i] = &p->run[i];
        if ((rc = bins_make(r, c->x, c->y, &b[i])) != CLI_OK) break;
        if (b[i].n) axis_grow(&x, r->column[c->x][0]), axis_grow(&x, r->column[c->x][r->steps - 1]);
        grow_y(&y, &b[i], r, c);
    }
    if (rc == CLI_OK) {
        axis_round(&y);
        if (c->x != RUN_STEP) axis_grow(&x, 0);
        if (!(x.hi > x.lo)) axis_round(&x);
        snprintf(label, sizeof label, "%s of %zu run%s", c->title, p->runs, p->runs == 1 ? "" : "s");
        figure_begin(f, c->id, c->title, NULL);
        legend(f, p);
        plot_begin(f, label, 260, &x, c->x_text, &y, c->y_text, 6);
        for (size_t i = 0; i < p->runs; i++) draw_run(f, c, &p->run[i], &b[i], i, &x, &y);
        plot_end(f);
        fprintf(f, "<p class='axis'>%s</p>", c->x_name);
        if (c->note) figure_note(f, "%s", c->note);
        decimation_note(f, all, p->runs);
        chart_data_begin(f, (chart_axis){&x, c->x_name, c->x_unit}, (chart_axis){&y, c->y_name, c->y_unit});
        for (size_t i = 0; i < p->runs; i++) {
            snprintf(class, sizeof class, "s%zu", i);
            chart_data_series(f, p->run[i].name, class, &b[i]);
        }
        chart_data_end(f);
        fputs("</figure>", f);
    }
    for (size_t i = 0; i < p->runs; i++) bins_free(&b[i]);
    return rc;
}

int report_lines(FILE *f, const report *p)
{
    static const line_chart charts[] = {
        {"loss-steps", "Loss against steps", "step", "", "loss", "", RUN_STEP, RUN_LOSS, text_count, text_real, false,
         true, "Dots are the validation loss."},
        {"loss-time", "Loss against time", "time in steps", "s", "loss", "", RUN_TIME_S, RUN_LOSS, text_seconds,
         text_real, false, true, "The sum of the steps' times: evaluations and checkpoints between them do not count."},
        {"loss-bytes", "Loss against bytes sent", "bytes sent by rank 0", "bytes", "loss", "", RUN_SENT, RUN_LOSS,
         text_bytes, text_real, false, true,
         "Everything that rank 0 sent for gradients: headers, statistics and the measuring of the link among it."},
        {"step-ms", "Time of a step", "step", "", "milliseconds", "ms", RUN_STEP, RUN_STEP_MS, text_count, text_ms,
         true, false, NULL},
        {"step-bytes", "Bytes of a step", "step", "", "bytes sent by rank 0", "bytes", RUN_STEP, RUN_STEP_SENT,
         text_count, text_bytes, true, false, NULL},
    };
    int rc = CLI_OK;
    for (size_t i = 0; i < sizeof charts / sizeof *charts && rc == CLI_OK; i++) rc = draw(f, p, &charts[i]);
    return rc;
}
