/* break_even.c : from which bandwidth on the plan in force pays, by what it sends and what encoding and decoding take here.
 *
 * Time of communication per step at bandwidth B: bytes * 8 / B, and with the plan the seconds of codec work of rank 0 besides. Both lines
 * meet at B = 8 (dense - sent) / codec seconds. Nothing is taken to be hidden behind computing, and messages to have no latency. */
#include "report.h"
#include "../cli.h"
#include <math.h>
#include <string.h>

enum { POINTS = 97 };
static const double B_FROM = 1e7, B_TO = 1e12; /* bit/s */

typedef struct cost {
    bool   known, compresses;
    double sent, dense, codec_s, even; /* bytes and seconds per step; bit/s where both take as long */
} cost;

static cost cost_of(const run_log *r)
{
    size_t first = run_settled(r);
    cost   c = {.sent = run_mean(r, RUN_STEP_SENT, first),
                .dense = run_mean(r, RUN_STEP_DENSE, first),
                .codec_s = run_mean(r, RUN_CODEC_MS, first) / 1e3};
    c.known = isfinite(c.codec_s) && c.dense > 0;
    c.compresses = c.known && c.codec_s > 0 && c.sent < 0.98 * c.dense;
    c.even = c.compresses ? 8 * (c.dense - c.sent) / c.codec_s : NAN;
    return c;
}

static double seconds(const cost *c, double b, bool dense)
{
    return dense ? 8 * c->dense / b : 8 * c->sent / b + c->codec_s;
}
static double bandwidth(int k) { return B_FROM * pow(B_TO / B_FROM, (double)k / (POINTS - 1)); }

static void curve(const cost *c, bool dense, bins *b, double *room)
{
    *b = (bins){.n = POINTS, .each = 1, .x = room, .mean = room + POINTS};
    b->low = b->high = b->mean, b->from = b->to = b->x;
    for (int k = 0; k < POINTS; k++) b->x[k] = bandwidth(k), b->mean[k] = seconds(c, b->x[k], dense);
}

static void draw_curve(FILE *f, const bins *b, const axis *x, const axis *y, const char *class)
{
    double at[2][POINTS];
    for (int k = 0; k < POINTS; k++) at[0][k] = axis_at(x, b->x[k]), at[1][k] = axis_at(y, b->mean[k]);
    plot_line(f, class, at[0], at[1], POINTS);
}

static void draw_run(FILE *f, const report *p, size_t i, const cost *c, const axis *x, const axis *y, bool data)
{
    double room[2 * POINTS];
    bins   b;
    char class[32], name[300], title[120], text[NUMBER_TEXT];
    for (int dense = 0; dense < 2; dense++) {
        curve(c, dense, &b, room);
        snprintf(class, sizeof class, dense ? "s%zu dash" : "s%zu", i);
        snprintf(name, sizeof name, "%s, %s", p->run[i].name, dense ? "uncompressed" : "as planned");
        if (data) chart_data_series(f, name, class, &b);
        else draw_curve(f, &b, x, y, class);
    }
    if (data || !isfinite(c->even)) return;
    snprintf(class, sizeof class, "s%zu", i);
    snprintf(title, sizeof title, "both take as long at %s", text_bits(c->even, text));
    plot_dot(f, class, c->even <= B_TO ? axis_at(x, c->even) : NAN, axis_at(y, seconds(c, c->even, true)), title);
}

static void tell(FILE *f, const run_log *r, const cost *c)
{
    char a[NUMBER_TEXT], b[NUMBER_TEXT], d[NUMBER_TEXT], e[NUMBER_TEXT];
    if (!c->known) {
        figure_note(f, "%s: the log has no codec times (\"codec_ms\"): earlier versions did not write them.", r->name);
        return;
    }
    if (!c->compresses) {
        figure_note(f, "%s: next to nothing is compressed, so there is nothing to gain or lose.", r->name);
        return;
    }
    fputs("<p class='note'>", f);
    html_text(f, r->name);
    fprintf(f,
            ": a step sends %s instead of %s, and %s of codec work make that; it pays below <b class='even' "
            "data-value='%.9g'>%s</b>.</p>",
            text_bytes(c->sent, a), text_bytes(c->dense, b), text_seconds(c->codec_s, d), c->even,
            text_bits(c->even, e));
}

int report_break_even_runs(FILE *f, const report *p)
{
    cost   c[REPORT_RUNS];
    axis   x = {.lo = B_FROM, .hi = B_TO, .log = true}, y = {.lo = NAN, .hi = NAN, .log = true};
    size_t drawn = 0;
    for (size_t i = 0; i < p->runs; i++) {
        c[i] = cost_of(&p->run[i]);
        if (!c[i].compresses) continue;
        drawn++;
        axis_grow(&y, seconds(&c[i], B_FROM, true)),
            axis_grow(&y, fmin(seconds(&c[i], B_TO, true), seconds(&c[i], B_TO, false)));
    }
    axis_round(&y);
    figure_begin(f, "break-even", "Where the plan breaks even", NULL);
    if (drawn) {
        legend(f, p);
        plot_begin(f, "seconds of communication per step over bandwidth, as planned and uncompressed", 260, &x,
                   text_bits, &y, text_seconds, 6);
        for (size_t i = 0; i < p->runs; i++)
            if (c[i].compresses) draw_run(f, p, i, &c[i], &x, &y, false);
        plot_end(f);
        fputs("<p class='axis'>bandwidth of a rank; dashed: uncompressed</p>", f);
    }
    for (size_t i = 0; i < p->runs; i++) tell(f, &p->run[i], &c[i]);
    if (drawn) {
        figure_note(f, "Time per step = bytes over bandwidth + codec work, from the steps since the last plan. What "
                       "computing hides, and latency, are not in it.");
        chart_data_begin(f, (chart_axis){&x, "bandwidth", "bit/s"}, (chart_axis){&y, "communication", "s"});
        for (size_t i = 0; i < p->runs; i++)
            if (c[i].compresses) draw_run(f, p, i, &c[i], &x, &y, true);
        chart_data_end(f);
    }
    fputs("</figure>", f);
    return CLI_OK;
}
