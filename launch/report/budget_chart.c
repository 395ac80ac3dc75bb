/* budget_chart.c : the measured error of every step against what the budget allowed. */
#include "report.h"
#include "../cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 400, NAMED = 12 }; /* violations drawn one by one; named in the text */
enum { SHADE = 4 };               /* times the error: a shade that reaches further, to nearly nothing, say, is cut */

typedef struct error_chart {
    const run_log *r;
    bins           error, budget;
    axis           x, y;
    size_t         over, budgeted; /* steps over; steps with a budget */
} error_chart;

static void axes(error_chart *c)
{
    c->x = (axis)AXIS_EMPTY, c->y = (axis){.lo = NAN, .hi = NAN, .log = true};
    for (size_t k = 0; k < c->error.n; k++) {
        axis_grow(&c->x, c->error.from[k]), axis_grow(&c->x, c->error.to[k]);
        double error = c->error.mean[k], low = c->error.low[k], high = c->error.high[k];
        axis_grow(&c->y, error), axis_grow(&c->y, c->budget.mean[k]);
        if (isfinite(low)) axis_grow(&c->y, fmax(low, error / SHADE));
        if (isfinite(high)) axis_grow(&c->y, fmin(high, error * SHADE));
    }
    for (size_t i = 0; i < c->r->steps; i++) {
        c->budgeted += isfinite(c->r->column[RUN_BUDGET][i]);
        if (!(c->r->column[RUN_VIOLATIONS][i] > 0)) continue;
        c->over++;
        axis_grow(&c->y, c->r->column[RUN_ERROR][i]);
    }
    if (!(c->x.hi > c->x.lo)) axis_round(&c->x);
    axis_round(&c->y);
}

static void draw_series(FILE *f, const error_chart *c, const bins *b, const char *class, bool band)
{
    double *at = calloc(4 * b->n + 1, sizeof *at);
    if (!at) return;
    for (size_t k = 0; k < b->n; k++) { /* what loses nothing has no place on a logarithmic axis */
        at[k] = axis_at(&c->x, b->x[k]);
        at[b->n + k] = b->mean[k] > 0 ? axis_at(&c->y, b->mean[k]) : NAN;
        at[2 * b->n + k] = b->mean[k] > 0 ? axis_at(&c->y, b->low[k]) : NAN;
        at[3 * b->n + k] = axis_at(&c->y, b->high[k]);
    }
    if (band) plot_band(f, class, at, at + 2 * b->n, at + 3 * b->n, b->n);
    plot_line(f, class, at, at + b->n, b->n);
    free(at);
}

static void draw_violations(FILE *f, const error_chart *c)
{
    size_t each = c->over / SHOWN + 1, seen = 0;
    char   title[200], a[NUMBER_TEXT], b[NUMBER_TEXT];
    for (size_t i = 0; i < c->r->steps; i++) {
        double step = c->r->column[RUN_STEP][i], error = c->r->column[RUN_ERROR][i];
        if (!(c->r->column[RUN_VIOLATIONS][i] > 0) || seen++ % each) continue;
        snprintf(title, sizeof title, "step %.0f: %s, allowed %s", step, text_real(error, a),
                 text_real(c->r->column[RUN_BUDGET][i], b));
        plot_dot(f, "over", axis_at(&c->x, step), error > 0 ? axis_at(&c->y, error) : NAN, title);
    }
}

static void tell(FILE *f, const error_chart *c)
{
    char   list[300] = "", over[NUMBER_TEXT], of[NUMBER_TEXT];
    size_t at = 0, named = 0;
    for (size_t i = 0; i < c->r->steps && named < NAMED && at < sizeof list; i++)
        if (c->r->column[RUN_VIOLATIONS][i] > 0) {
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%.0f", named ? ", " : "", c->r->column[RUN_STEP][i]);
            named++;
        }
    if (c->budgeted == 0) {
        figure_note(f, "No budget was in force: the codec of every layer was given.");
        return;
    }
    fputs("<p class='note'>", f);
    fprintf(f,
            "<span class='violations' data-over='%zu' data-of='%zu'>%s of %s step%s with a budget %s over "
            "it</span>%s%s%s%s. ",
            c->over, c->budgeted, text_count((double)c->over, over), text_count((double)c->budgeted, of),
            c->budgeted == 1 ? "" : "s", c->over == 1 ? "was" : "were", c->over ? ": step" : "",
            c->over > 1 ? "s "
            : c->over   ? " "
                        : "",
            list, c->over > NAMED ? " …" : "");
    fputs("The error is that of the summed gradient as every rank received it, measured in every step; its shade is "
          "the interval of the measurement.</p>",
          f);
    if (c->over > SHOWN) figure_note(f, "Of %zu violations every %zu-th is marked.", c->over, c->over / SHOWN + 1);
}

bool report_exact(const run_log *r)
{
    for (size_t i = 0; i < r->steps; i++)
        if (r->column[RUN_ERROR][i] > 0 || isfinite(r->column[RUN_BUDGET][i])) return false;
    return true;
}

int report_error(FILE *f, const run_log *r, size_t colour)
{
    error_chart c = {.r = r};
    char class[24], id[32];
    int rc = bins_make_band(r, RUN_STEP, RUN_ERROR, RUN_ERROR_LOW, RUN_ERROR_HIGH, &c.error);
    if (rc == CLI_OK) rc = bins_make(r, RUN_STEP, RUN_BUDGET, &c.budget);
    if (rc == CLI_OK) axes(&c);
    snprintf(class, sizeof class, "s%zu", colour);
    snprintf(id, sizeof id, "error-%zu", colour);
    if (rc == CLI_OK) {
        figure_begin(f, id, "Error against budget", r->name);
        fprintf(f,
                "<p class='legend'><span><i class='key %s'></i>relative squared error, measured</span> <span><i "
                "class='key allowed'></i>allowed</span> "
                "<span><i class='key over'></i>over the budget</span></p>",
                class);
        plot_begin(f, "relative squared error of every step and what the budget allowed", 230, &c.x, text_count, &c.y,
                   text_real, 5);
        draw_series(f, &c, &c.error, class, true);
        draw_series(f, &c, &c.budget, "allowed", false);
        draw_violations(f, &c);
        plot_end(f);
        fputs("<p class='axis'>step</p>", f);
        tell(f, &c);
        decimation_note(f, &r, 1);
        chart_data_begin(f, (chart_axis){&c.x, "step", ""}, (chart_axis){&c.y, "relative squared error", ""});
        chart_data_series(f, "error", class, &c.error);
        chart_data_series(f, "allowed", "allowed", &c.budget);
        chart_data_end(f);
        fputs("</figure>", f);
    }
    bins_free(&c.error);
    bins_free(&c.budget);
    return rc;
}
