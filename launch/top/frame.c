/* frame.c : see frame.h. */
#include "frame.h"
#include "../report/html.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { RECENT = 20 }; /* steps whose mean is shown */

/* Text that grows, line by line, cut to the width of the screen: escapes take no room, and UTF-8's further bytes neither. */
typedef struct screen {
    const frame_look *look;
    FILE             *f;
    int               column, line;
} screen;

static void put(screen *s, const char *text)
{
    for (; *text && s->line < s->look->height; text++) {
        unsigned char c = (unsigned char)*text, next = (unsigned char)text[1];
        if (c == 0xc2 && next >= 0x80 && next < 0xa0) { /* U+009B begins a command, too */
            text++;
            continue;
        }
        if ((c & 0xc0) == 0x80) { /* goes with the byte before */
            if (s->column <= s->look->width) fputc(c, s->f);
        } else if (c >= 0x20 && c != 0x7f) { /* a log's texts must not move the cursor */
            if (s->column++ < s->look->width) fputc(c, s->f);
            else s->column = s->look->width + 1;
        }
    }
}

static void say(screen *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(screen *s, const char *fmt, ...)
{
    char    text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    put(s, text);
}

static void color(screen *s, const char *code)
{
    if (s->look->color && s->line < s->look->height) fprintf(s->f, "\033[%sm", code);
}

static void end_line(screen *s)
{
    if (s->line++ < s->look->height) fputc('\n', s->f);
    s->column = 0;
}

/* Where so many columns do not fit any more, what follows begins a line of its own, below the figures. */
static void room(screen *s, size_t columns)
{
    if (s->column <= 6 || s->column + (int)columns <= s->look->width) return;
    end_line(s);
    put(s, "      ");
}

/* ---- pictures of characters ---- */

static const char *const bars_utf8[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
static const char *const bars_ascii[] = {" ", ".", ".", ":", "-", "=", "+", "*", "#"};

static void gauge(screen *s, double part, int width)
{
    int full = isfinite(part) ? (int)(fmin(1, fmax(0, part)) * width + 0.5) : 0;
    for (int i = 0; i < width; i++) put(s, i < full ? s->look->blocks ? "█" : "#" : s->look->blocks ? "░" : "-");
}

/* The column over all steps so far, in as many means as there are characters. */
static void spark(screen *s, const run_log *r, run_column c, int width)
{
    double mean[FRAME_WIDTH_MAX], lo = NAN, hi = NAN;
    int    n = r->steps < (size_t)width ? (int)r->steps : width;
    for (int k = 0; k < n; k++) {
        double sum = 0;
        int    used = 0;
        for (size_t i = r->steps * (size_t)k / (size_t)n; i < r->steps * (size_t)(k + 1) / (size_t)n; i++)
            if (isfinite(r->column[c][i])) sum += r->column[c][i], used++;
        mean[k] = used ? sum / used : NAN;
        lo = fmin(lo, mean[k]), hi = fmax(hi, mean[k]);
    }
    for (int k = 0; k < n; k++) {
        int level = !isfinite(mean[k]) ? 0 : hi > lo ? 1 + (int)((mean[k] - lo) / (hi - lo) * 7 + 0.5) : 4;
        put(s, (s->look->blocks ? bars_utf8 : bars_ascii)[level]);
    }
}

/* ---- lines ---- */

static double recent(const run_log *r, run_column c)
{
    return run_mean(r, c, r->steps > RECENT ? r->steps - RECENT : 0);
}
static double last(const run_log *r, run_column c) { return r->steps ? r->column[c][r->steps - 1] : NAN; }

static void head(screen *s, const run_log *r)
{
    char n[NUMBER_TEXT];
    color(s, "1");
    say(s, "taut top  %s", r->name);
    color(s, "0");
    end_line(s);
    say(s, "%s, %s parameters, ", run_text(r->head, "model"), text_count(run_number(r->head, "params"), n));
    say(s, "%s rank%s, codec %s", text_count(run_number(r->head, "ranks"), n),
        run_number(r->head, "ranks") == 1 ? "" : "s", run_text(r->head, "codec"));
    if (*run_text(r->head, "budget")) {
        put(s, ",");
        room(s, strlen(" budget ") + strlen(run_text(r->head, "budget")));
        say(s, " budget %s", run_text(r->head, "budget"));
    }
    end_line(s);
}

static void progress(screen *s, const run_log *r)
{
    double steps = run_number(r->head, "steps"), step = r->steps ? last(r, RUN_STEP) : 0, ms = recent(r, RUN_STEP_MS);
    char   n[NUMBER_TEXT], of[NUMBER_TEXT];
    say(s, "step %s/%s ", text_count(step, n), text_count(steps, of));
    gauge(s, step / steps, s->look->width > 70 ? 30 : 12);
    say(s, " %.0f%%", fmin(100, isfinite(step / steps) ? 100 * step / steps : 0));
    if (ms > 0) say(s, "  %.3g steps/s", 1e3 / ms);
    if (r->end) {
        room(s, strlen("  diverged"));
        color(s, "32");
        put(s, json_is_true(json_object_get(r->end, "diverged")) ? "  diverged" : "  ended");
        color(s, "0");
    } else {
        if (ms > 0 && steps > step) {
            room(s, strlen(text_seconds((steps - step) * ms / 1e3, n)) + strlen("   left"));
            say(s, "  %s left", n);
        }
        if (s->look->quiet_s > fmax(10, 5e-3 * (isfinite(ms) ? ms : 0))) {
            room(s, strlen(text_seconds(floor(s->look->quiet_s), n)) + strlen("  nothing new for "));
            color(s, "33");
            say(s, "  nothing new for %s", text_seconds(floor(s->look->quiet_s), n));
            color(s, "0");
        }
    }
    end_line(s);
}

static int chart_width(const screen *s)
{
    return s->look->width - 24 < 4 ? 4 : s->look->width - 24 < FRAME_WIDTH_MAX ? s->look->width - 24 : FRAME_WIDTH_MAX;
}

static void charts(screen *s, const run_log *r)
{
    double error = recent(r, RUN_ERROR), budget = recent(r, RUN_BUDGET), over = 0, sent = last(r, RUN_SENT),
           dense = last(r, RUN_DENSE);
    size_t budgeted = 0;
    char   n[NUMBER_TEXT], m[NUMBER_TEXT], over_text[80];
    for (size_t i = 0; i < r->steps; i++)
        over += r->column[RUN_VIOLATIONS][i] > 0, budgeted += isfinite(r->column[RUN_BUDGET][i]);
    say(s, "loss   %-16s ", text_real(recent(r, RUN_LOSS), n));
    spark(s, r, RUN_LOSS, chart_width(s));
    end_line(s);
    if (r->evals) {
        say(s, "       %s in validation, after step %s", text_real(r->eval[r->evals - 1].loss, n),
            text_count(r->eval[r->evals - 1].step, m));
        end_line(s);
    }
    say(s, "error  %-16s ", text_real(error, n));
    spark(s, r, RUN_ERROR, chart_width(s));
    end_line(s);
    if (budgeted) {
        say(s, "       %.0f%% of %s allowed;", 100 * error / budget, text_real(budget, n));
        snprintf(over_text, sizeof over_text, " %.0f of %zu steps over the budget", over, budgeted);
        room(s, strlen(over_text));
        color(s, over > 0 ? "31" : "32");
        put(s, over_text);
        color(s, "0");
    } else put(s, "       no budget is in force");
    end_line(s);
    if (!(sent > 0)) { /* a log of another program may have no bytes */
        put(s, "bytes  –");
        end_line(s);
        return;
    }
    say(s, "bytes  %.3gx fewer: %s a step", dense / sent, text_bytes(recent(r, RUN_STEP_SENT), n));
    text_bytes(recent(r, RUN_STEP_DENSE), n), text_bytes(sent, m);
    room(s, strlen(" instead of ,") + strlen(n));
    say(s, " instead of %s,", n);
    room(s, strlen(" so far, rank 0") + strlen(m) + 1);
    say(s, " %s so far, rank 0", m);
    end_line(s);
}

static void phases(screen *s, const run_log *r)
{
    static const struct {
        run_column  c;
        const char *name, *color, *ascii;
    } part[] = {{RUN_DATA_MS, "data", "36", "d"},           {RUN_FORWARD_MS, "forward", "34", "f"},
                {RUN_BACKWARD_MS, "backward", "35", "b"},   {RUN_WAIT_MS, "wait", "31", "w"},
                {RUN_OPTIMIZER_MS, "optimizer", "33", "o"}, {RUN_SCALE_MS, "scales", "32", "s"}};
    double total = 0, ms;
    int    at = 0, width = chart_width(s);
    char   n[NUMBER_TEXT];
    say(s, "step   %-16s ", text_seconds(recent(r, RUN_STEP_MS) / 1e3, n));
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        if ((ms = recent(r, part[k].c)) > 0) total += ms;
    double sum = 0;
    for (size_t k = 0; k < sizeof part / sizeof *part; k++) {
        if (!((ms = recent(r, part[k].c)) > 0)) continue;
        sum += ms;
        color(s, part[k].color);
        for (; at < (int)(sum / total * width + 0.5); at++)
            put(s, s->look->color && s->look->blocks ? "█" : part[k].ascii);
        color(s, "0");
    }
    end_line(s);
    put(s, "      ");
    for (size_t k = 0; k < sizeof part / sizeof *part; k++) {
        if (!((ms = recent(r, part[k].c)) > 0)) continue;
        room(s, strlen(part[k].name) + strlen(text_seconds(ms / 1e3, n)) + 2);
        color(s, part[k].color);
        say(s, " %s", part[k].name);
        color(s, "0");
        say(s, " %s", n);
    }
    end_line(s);
}

typedef struct ranked {
    size_t layer;
    double elements;
} ranked;
static int larger(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->elements != y->elements ? (x->elements < y->elements) - (x->elements > y->elements)
                                      : (x->layer > y->layer) - (x->layer < y->layer);
}

/* The largest layers, as many as there are lines left. */
static void layers(screen *s, const run_log *r)
{
    const run_look *look = r->looks ? &r->look[r->looks - 1] : NULL;
    int             room = s->look->height - s->line - 3, name = s->look->width > 90 ? 32 : 20;
    ranked         *all = look ? calloc(look->layers + 1, sizeof *all) : NULL;
    char            n[NUMBER_TEXT];
    if (!all || room < 1) {
        free(all);
        return;
    }
    for (size_t i = 0; i < look->layers; i++)
        all[i] = (ranked){i, isfinite(r->layer[i].elements) ? r->layer[i].elements : 0};
    qsort(all, look->layers, sizeof *all, larger);
    end_line(s);
    color(s, "1");
    say(s, "%-*s %11s %6s  codec, after step %s", name, "largest layers", "elements", "bits",
        text_count(look->step, n));
    color(s, "0");
    end_line(s);
    for (size_t k = 0; k < look->layers && (int)k < room; k++) {
        const run_cell *c = &look->cell[all[k].layer];
        say(s, "%-*.*s %11s ", name, name, r->layer[all[k].layer].name, text_count(all[k].elements, n));
        if (isfinite(c->bits)) say(s, "%6.3g  ", c->bits);
        else put(s, "     -  ");
        gauge(s, log2(1 + c->bits) / log2(1 + 32.0), 8); /* so that one bit and two differ */
        say(s, " %s", c->codec >= 0 ? r->codec[c->codec] : "");
        end_line(s);
    }
    free(all);
}

char *frame_text(const run_log *r, const frame_look *look)
{
    char  *text = NULL;
    size_t len;
    FILE  *f = open_memstream(&text, &len);
    screen s = {look, f, 0, 0};
    if (!f) return NULL;
    head(&s, r);
    if (r->steps) {
        progress(&s, r);
        end_line(&s);
        charts(&s, r);
        if (r->timed) phases(&s, r);
        layers(&s, r);
    } else {
        put(&s, "no step yet");
        end_line(&s);
    }
    if (fclose(f) == 0) return text;
    free(text);
    return NULL;
}
