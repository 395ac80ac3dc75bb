/* phases.c : a step as a timeline, one row per run on a common axis: what the program does, and under it when communication is under way. */
#include "report.h"
#include "../cli.h"
#include <math.h>

static const struct {
    run_column  c;
    const char *name, *class;
} phases[] = {{RUN_DATA_MS, "data", "p0"},           {RUN_FORWARD_MS, "forward", "p1"},
              {RUN_BACKWARD_MS, "backward", "p2"},   {RUN_WAIT_MS, "waiting for communication", "p3"},
              {RUN_OPTIMIZER_MS, "optimizer", "p4"}, {RUN_SCALE_MS, "scales", "p5"}};
enum { PHASES = sizeof phases / sizeof *phases };

static void block(FILE *f, const axis *x, double from, double ms, const char *class, const char *name, const char *key)
{
    char text[NUMBER_TEXT];
    if (!(ms > 0)) return;
    double left = 100 * axis_at(x, from), width = 100 * axis_at(x, from + ms) - left;
    fprintf(f,
            "<div class='block %s' style='left:%.3f%%;width:%.3f%%' data-key='%s' data-value='%.9g' title='%s "
            "%s'><span>%s</span></div>",
            class, left, width, key, ms, name, text_seconds(ms / 1e3, text), width > 9 ? name : "");
}

static void row(FILE *f, const run_log *r, const axis *x)
{
    size_t first = run_settled(r);
    double at = 0, comm = run_mean(r, RUN_COMM_MS, first), waited = 0, begin;
    char   text[NUMBER_TEXT];
    fputs("<div class='lane'><p>", f);
    html_text(f, r->name);
    fputs("</p><div class='bar'>", f);
    for (int k = 0; k < PHASES; k++) {
        double ms = run_mean(r, phases[k].c, first);
        block(f, x, at, ms, phases[k].class, phases[k].name, phases[k].name);
        if (isfinite(ms)) at += ms;
        if (phases[k].c == RUN_WAIT_MS) waited = at;
    }
    fputs("</div>", f);
    if (isfinite(comm)) {
        begin = fmax(0, waited - comm);
        fputs("<div class='bar thin'>", f);
        block(f, x, begin, waited - begin, "p6", "communication", "communication");
        fprintf(f, "</div><p class='note'>%s of communication in a step of ", text_seconds(comm / 1e3, text));
        fprintf(f, "%s, ", text_seconds(at / 1e3, text));
        fprintf(f, "%s of it waited for; means of steps %.0f to %.0f</p>",
                text_seconds(run_mean(r, RUN_WAIT_MS, first) / 1e3, text), r->column[RUN_STEP][first],
                r->column[RUN_STEP][r->steps - 1]);
    }
    fputs("</div>", f);
}

static double length_of(const run_log *r)
{
    double sum = 0;
    for (int k = 0; k < PHASES; k++) {
        double ms = run_mean(r, phases[k].c, run_settled(r));
        if (isfinite(ms)) sum += ms;
    }
    return sum;
}

int report_phases(FILE *f, const report *p)
{
    axis   x = AXIS_EMPTY;
    double tick[32];
    size_t ticks, drawn = 0;
    char   text[NUMBER_TEXT];
    figure_begin(f, "phases", "A step as a timeline", NULL);
    axis_grow(&x, 0);
    for (size_t i = 0; i < p->runs; i++)
        if (p->run[i].timed && p->run[i].steps) axis_grow(&x, length_of(&p->run[i]));
    if (!(x.hi > 0)) x.hi = 1;
    fputs("<p class='legend'>", f);
    for (int k = 0; k < PHASES; k++)
        fprintf(f, "<span><i class='key %s'></i>%s</span> ", phases[k].class, phases[k].name);
    fputs("<span><i class='key p6'></i>communication under way</span></p><div class='lanes'>", f);
    for (size_t i = 0; i < p->runs; i++) {
        if (!p->run[i].timed || !p->run[i].steps) continue;
        row(f, &p->run[i], &x);
        drawn++;
    }
    ticks = axis_ticks(&x, 6, tick);
    fputs("<div class='scale'>", f);
    for (size_t i = 0; drawn && i < ticks; i++)
        fprintf(f, "<span class='x%s' style='left:%.2f%%'>%s</span>", i % 2 ? " odd" : "", 100 * axis_at(&x, tick[i]),
                text_seconds(tick[i] / 1e3, text));
    fputs("</div></div>", f);
    if (drawn)
        figure_note(f, "Communication is drawn so that it ends with the wait for it: how long it took is measured, "
                       "when it began is not in the log. A trace (TAUT_TRACE) has every layer.");
    if (drawn < p->runs)
        figure_note(f, "%zu of %zu logs have no phases of steps: earlier versions did not write them.", p->runs - drawn,
                    p->runs);
    fputs("</figure>", f);
    return CLI_OK;
}
