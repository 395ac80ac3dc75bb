/* report.h : the page of `taut report`: what it is made of, in order. Everything is one HTML text with its style and script inside;
 * charts are drawn here, so that the page shows them without running its script, which adds numbers under the pointer. */
#ifndef TAUT_REPORT_H
#define TAUT_REPORT_H

#include "html.h"

enum { REPORT_RUNS = 8 }; /* colours that can be told apart */

typedef struct report {
    run_log     run[REPORT_RUNS];
    size_t      runs;
    json_t     *plan; /* of `taut plan --break-even --json`; NULL */
    const char *plan_name, *title;
} report;

int report_write(FILE *f, const report *p); /* page.c. Exit code; whether all was written is asked of f */

/* All of these print figures, and return an exit code. */
int report_lines(FILE *f, const report *p); /* chart.c: against steps, time and bytes */
int report_error(FILE *f, const run_log *r,
                 size_t colour); /* budget_chart.c: error and budget, violations; nothing if report_exact() */
int report_heat(FILE *f, const run_log *r, size_t number); /* heat.c: bits per element of layers over time */
int report_phases(FILE *f, const report *p);               /* phases.c: a step as a timeline */
int report_break_even_runs(FILE *f, const report *p);      /* break_even.c: the plan in force over bandwidths */
int report_break_even_plan(FILE *f, const report *p);      /* break_even_table.c */

/* What has no picture, because there is nothing to see: runs that lost nothing. */
bool report_exact(const run_log *r); /* budget_chart.c: no step had a budget or an error */

/* tables.c */
void report_tiles(FILE *f, const report *p); /* what one looks for first */
void report_summary(FILE *f, const report *p);
void report_layers(FILE *f, const run_log *r);

/* assets.c */
void report_style(FILE *f);
void report_script(FILE *f);

/* figure with a heading and a note, open: its content and "</figure>" follow. */
void figure_begin(FILE *f, const char *id, const char *title, const char *run);
void figure_note(FILE *f, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* escaped; a paragraph */
void legend(FILE *f, const report *p);
void decimation_note(FILE *f, const run_log *const *run, size_t runs); /* what a point stands for */

/* What the script needs of a chart, as a <script> of JSON. unit: "", "bytes", "s", "ms", "x". */
typedef struct chart_axis {
    const axis *a;
    const char *name, *unit;
} chart_axis;
void chart_data_begin(FILE *f, chart_axis x, chart_axis y);
void chart_data_series(FILE *f, const char *name, const char *class, const bins *b);
void chart_data_end(FILE *f);

#endif
