/* tables.c : the figures of the runs, as the log has them: data-key names the log's field, data-value is its value. */
#include "report.h"
#include <math.h>
#include <string.h>

typedef const char *show(double v, char dst[NUMBER_TEXT]);

static const char *show_percent(double v, char dst[NUMBER_TEXT])
{
    if (isfinite(v)) snprintf(dst, NUMBER_TEXT, "%.2f%%", 100 * v);
    else text_real(v, dst);
    return dst;
}
static const char *show_ms(double v, char dst[NUMBER_TEXT]) { return text_seconds(v / 1e3, dst); }
static const char *show_ratio(double v, char dst[NUMBER_TEXT])
{
    if (isfinite(v)) snprintf(dst, NUMBER_TEXT, "%.2f×", v);
    else text_real(v, dst);
    return dst;
}
static const char *show_s(double v, char dst[NUMBER_TEXT]) { return text_seconds(v, dst); }

static const struct field {
    const char *key, *name;
    show       *text;
} fields[] = {
    {"ranks", "ranks", text_count},
    {"params", "parameters", text_count},
    {"steps", "steps", text_count},
    {"loss_val", "validation loss", text_real},
    {"accuracy_val", "validation accuracy", show_percent},
    {"loss_train", "training loss, mean of the last 20 steps", text_real},
    {"loss_first", "loss of the first step", text_real},
    {"ratio", "fewer bytes than uncompressed", show_ratio},
    {"bytes_sent", "bytes sent, all ranks", text_bytes},
    {"bytes_dense", "bytes uncompressed, all ranks", text_bytes},
    {"bytes_probes", "of those sent, to measure the link", text_bytes},
    {"step_ms", "time of a step, median", show_ms},
    {"comm_ms", "communication under way, per step", show_ms},
    {"exposed_ms", "waited for it, per step", show_ms},
    {"plan_ms", "planning, per step", show_ms},
    {"seconds", "time of the run", show_s},
    {"rel_err2", "relative squared error, mean", text_real},
    {"budget", "budget, mean", text_real},
    {"budgeted_err2", "error held against it, mean", text_real},
    {"budget_violations", "steps over the budget", text_count},
    {"plans", "plans made", text_count},
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* Of the closing record; while a run is under way, what its last lines say. */
static double value_of(const run_log *r, const char *key)
{
    double v = run_number(r->end, key);
    if (r->end) return v;
    if (strcmp(key, "ranks") == 0 || strcmp(key, "params") == 0) return run_number(r->head, key);
    if (strcmp(key, "steps") == 0) return r->steps ? r->column[RUN_STEP][r->steps - 1] : 0;
    if (strcmp(key, "loss_val") == 0) return r->evals ? r->eval[r->evals - 1].loss : NAN;
    if (strcmp(key, "accuracy_val") == 0) return r->evals ? r->eval[r->evals - 1].accuracy : NAN;
    if (strcmp(key, "loss_first") == 0) return r->steps ? r->column[RUN_LOSS][0] : NAN;
    if (strcmp(key, "plans") == 0) return (double)r->plans;
    return NAN;
}

static void cell(FILE *f, const struct field *d, double v)
{
    char text[NUMBER_TEXT];
    fprintf(f, "<td data-key='%s'", d->key);
    if (isfinite(v)) fprintf(f, " data-value='%.9g' title='%.9g'", v, v);
    fprintf(f, ">%s</td>", d->text(v, text));
}

static void heads(FILE *f, const report *p)
{
    static const char *const keys[] = {"model", "data", "codec", "optimizer"};
    fputs("<thead><tr><th></th>", f);
    for (size_t i = 0; i < p->runs; i++) {
        fprintf(f, "<th><i class='key s%zu'></i>", i);
        html_text(f, p->run[i].name);
        fputs("</th>", f);
    }
    fputs("</tr></thead><tbody>", f);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        fprintf(f, "<tr><th>%s</th>", keys[k]);
        for (size_t i = 0; i < p->runs; i++) {
            fprintf(f, "<td data-key='%s'>", keys[k]);
            html_text(f, run_text(p->run[i].head, keys[k]));
            fputs("</td>", f);
        }
        fputs("</tr>", f);
    }
}

static void states(FILE *f, const report *p)
{
    fputs("<tr><th>state</th>", f);
    for (size_t i = 0; i < p->runs; i++) {
        const run_log *r = &p->run[i];
        fprintf(f, "<td>%s%s",
                r->end ? json_is_true(json_object_get(r->end, "diverged")) ? "diverged" : "ended" : "not ended",
                r->end && json_is_false(json_object_get(r->end, "identical")) ? ", ranks differ at the end" : "");
        if (r->resumes) fprintf(f, ", resumed %zu time%s", r->resumes, r->resumes == 1 ? "" : "s");
        if (r->repeated) fprintf(f, ", %zu steps done again", r->repeated);
        if (r->cut) fputs(", the log ends within a line", f);
        fputs("</td>", f);
    }
    fputs("</tr>", f);
}

static bool any(const report *p, const char *key)
{
    for (size_t i = 0; i < p->runs; i++)
        if (isfinite(value_of(&p->run[i], key))) return true;
    return false;
}

static void tile(FILE *f, const char *name, const char *text, const char *more)
{
    fprintf(f, "<div><b>%s</b><span>%s</span><small>", text, name);
    html_text(f, more);
    fputs("</small></div>", f);
}

/* What one looks for first, of the first run; beside it the last one, which is usually what it is compared with. */
void report_tiles(FILE *f, const report *p)
{
    const run_log *r = &p->run[0], *other = p->runs > 1 ? &p->run[p->runs - 1] : NULL;
    char           text[NUMBER_TEXT], more[400], b[NUMBER_TEXT];
    double         sent = r->steps ? r->column[RUN_SENT][r->steps - 1] : NAN,
           dense = r->steps ? r->column[RUN_DENSE][r->steps - 1] : NAN;
    double ratio = isfinite(value_of(r, "ratio")) ? value_of(r, "ratio") : dense / sent, loss = value_of(r, "loss_val"),
           over = 0, budgeted = 0;
    for (size_t i = 0; i < r->steps; i++)
        over += r->column[RUN_VIOLATIONS][i] > 0, budgeted += isfinite(r->column[RUN_BUDGET][i]);
    fputs("<div class='tiles'>", f);
    snprintf(more, sizeof more, "%s", r->name);
    if (other && isfinite(value_of(other, "loss_val"))) {
        double theirs = value_of(other, "loss_val"), steps = value_of(other, "steps");
        if (steps == value_of(r, "steps"))
            snprintf(more, sizeof more, "%+.2f%% against %s", 100 * (loss / theirs - 1), other->name);
        else
            snprintf(more, sizeof more, "%s: %s, after %s steps", other->name, text_real(theirs, text),
                     text_count(steps, b));
    }
    tile(f, "validation loss", text_real(loss, text), more);
    snprintf(more, sizeof more, "%s instead of %s, rank 0", text_bytes(sent, text), text_bytes(dense, b));
    tile(f, "fewer bytes", show_ratio(ratio, text), more);
    snprintf(more, sizeof more, "%s", "median");
    if (other) snprintf(more, sizeof more, "%s in %s", show_ms(value_of(other, "step_ms"), b), other->name);
    tile(f, "a step",
         show_ms(isfinite(value_of(r, "step_ms")) ? value_of(r, "step_ms") : run_mean(r, RUN_STEP_MS, 0), text), more);
    if (budgeted > 0) snprintf(more, sizeof more, "of %s with a budget", text_count(budgeted, b));
    else snprintf(more, sizeof more, "no budget was in force");
    tile(f, over == 1 ? "step over the budget" : "steps over the budget", text_count(over, text), more);
    fputs("</div>", f);
}

void report_summary(FILE *f, const report *p)
{
    fputs("<section id='summary'><h2>Figures</h2><div class='wide'><table>", f);
    heads(f, p);
    states(f, p);
    for (int k = 0; k < FIELDS; k++) {
        if (!any(p, fields[k].key)) continue;
        fprintf(f, "<tr><th>%s</th>", fields[k].name);
        for (size_t i = 0; i < p->runs; i++) cell(f, &fields[k], value_of(&p->run[i], fields[k].key));
        fputs("</tr>", f);
    }
    fputs("</tbody></table></div></section>", f);
}

void report_layers(FILE *f, const run_log *r)
{
    const json_t *all = json_object_get(r->end, "layers");
    char          text[NUMBER_TEXT];
    if (json_array_size(all) == 0) return;
    fputs("<details><summary>Layers of ", f);
    html_text(f, r->name);
    fprintf(
        f,
        " (%zu)</summary><div class='wide'><table class='layers'><thead><tr><th>layer</th><th>elements</th><th>codec "
        "at the end</th><th>bits per element</th>"
        "<th>rel_err2</th><th>bytes, all ranks</th></tr></thead><tbody>",
        json_array_size(all));
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *l = json_array_get(all, i);
        fputs("<tr><th>", f);
        html_text(f, run_text(l, "name"));
        fprintf(f, "</th><td>%s</td><td class='text'>", text_count(run_number(l, "elements"), text));
        html_text(f, run_text(l, "codec"));
        fprintf(f, "</td><td>%s</td>", text_real(run_number(l, "bits_per_element"), text));
        fprintf(f, "<td>%s</td>", text_real(run_number(l, "rel_err2"), text));
        fprintf(f, "<td data-value='%.9g'>%s</td></tr>", run_number(l, "bytes_sent"),
                text_bytes(run_number(l, "bytes_sent"), text));
    }
    fputs("</tbody></table></div></details>", f);
}
