/* report.c : see report.h. */
#include "report.h"
#include "../json.h"
#include "ranks.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- progress ---- */

void progress_show(progress *p, const options *o, int64_t step, int64_t first, double loss, const taut_comm_stats *c)
{
    enum { QUIET_S = 10 };
    double now = cli_now(), spent, rate, ratio;
    char   text[160];
    if (p->start == 0) p->start = p->last = now; /* after the first step, which is not typical */
    if (ranks_rank() != 0) return;
    spent = now - p->start;
    if (spent <= 0) return;
    rate = (double)(step - first - 1) / spent;
    ratio = c->bytes_sent ? (double)c->bytes_dense / (double)c->bytes_sent : 1;
    snprintf(text, sizeof text, "step %lld/%lld  loss %.4f  %.1f steps/s  %.1fx fewer bytes  %.0f s left",
             (long long)step, (long long)o->steps, loss, rate, ratio, rate > 0 ? (double)(o->steps - step) / rate : 0);
    if (isatty(STDERR_FILENO)) {
        cli_progress_show(&p->line, "%s", text);
    } else if (now - p->last >= QUIET_S) {
        p->last = now;
        fprintf(stderr, "%s\n", text);
    }
}

void progress_end(progress *p) { cli_progress_end(&p->line); }

/* ---- tables ---- */

static const char *size_text(double bytes, char *dst, size_t cap)
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    int                      k = 0;
    while (bytes >= 1000 && k < 4) bytes /= 1000, k++;
    snprintf(dst, cap, k ? "%.2f %s" : "%.0f %s", bytes, unit[k]);
    return dst;
}

static double sum_sent(const result *r, size_t from, size_t to)
{
    double s = 0;
    for (size_t i = from; i < to; i++) s += r->layers[i].bytes_sent;
    return s;
}

static void print_layers(const result *r)
{
    char sent[32];
    int  width = 5;
    for (size_t i = 0; i < r->n_layers; i++)
        if ((int)strlen(r->layers[i].name) > width) width = (int)strlen(r->layers[i].name);
    printf("\n%-*s %10s  %-26s %12s %10s %10s\n", width, "layer", "elements", "codec", "bits/element", "rel_err2",
           "bytes");
    for (size_t i = 0; i < r->n_layers; i++) {
        const layer_result *l = &r->layers[i];
        printf("%-*s %10zu  %-26s %12.3f %10.2e %10s\n", width, l->name, l->elements, l->codec, l->bits, l->rel_err2,
               size_text(l->bytes_sent, sent, sizeof sent));
    }
    printf("%-*s %10zu  %-26s %12s %10.2e %10s\n\n", width, "all", r->params, r->codec, "", r->rel_err2,
           size_text(sum_sent(r, 0, r->n_layers), sent, sizeof sent));
}

void report_table(const result *r, const options *o, const data *d, bool layers)
{
    char sent[32], dense[32];
    if (layers) print_layers(r);
    else printf("\ncodec %s\n", r->codec);
    printf("%s, %zu parameters, %s; %d rank%s, %lld steps in %.1f s\n", o->model, r->params, d->what, ranks_count(),
           ranks_count() == 1 ? "" : "s", (long long)(r->steps - r->first_step), r->seconds);
    printf("loss       first %.4f, training %.4f, validation %.4f", r->loss_first, r->loss_train, r->loss_val);
    if (!d->text) printf(", accuracy %.2f%%", 100 * r->accuracy_val);
    printf("\nstep       %.1f ms: forward %.1f, backward %.1f, waiting for communication %.1f, optimizer %.1f, scale "
           "%.1f\n",
           r->step_ms, r->split.forward, r->split.backward, r->split.wait, r->split.optimizer, r->split.scale);
    if (r->loader)
        printf("data       %.2f ms waiting, %.2f%% of the step; every block decoded %.2f times a round; %.1f bytes "
               "decoded for one used\n",
               json_real_value(json_object_get(r->loader, "stall_ms")),
               100 * json_real_value(json_object_get(r->loader, "stall_share")),
               json_real_value(json_object_get(r->loader, "decodes_per_block")),
               json_real_value(json_object_get(r->loader, "decoded_per_used")));
    printf("bytes      %s sent instead of %s: %.1fx fewer", size_text(r->bytes_sent, sent, sizeof sent),
           size_text(r->bytes_dense, dense, sizeof dense), run_ratio(r));
    if (r->bytes_probes > 0)
        printf("; %s of them measured the link, once", size_text(r->bytes_probes, sent, sizeof sent));
    printf("\nrel_err2   %.3g", r->rel_err2);
    if (r->budget > 0)
        printf("; in the budget's metric %.3g of %.3g allowed (means of %lld steps), %llu violation%s, %llu plan%s",
               r->budgeted_err2, r->budget, (long long)r->budgeted, (unsigned long long)r->budget_violations,
               r->budget_violations == 1 ? "" : "s", (unsigned long long)r->plans, r->plans == 1 ? "" : "s");
    printf("\n");
    if (!r->identical) printf("WARNING: the ranks ended with different parameters\n");
}

/* Milliseconds that one rank's share of a step takes on a wire of `gbit` Gbit/s. */
static double wire_ms(const result *r, double gbit)
{
    double steps = (double)(r->steps - r->first_step), ranks = ranks_count();
    return steps > 0 ? r->bytes_sent / steps / ranks * 8 / (gbit * 1e9) * 1e3 : 0;
}

void report_compare(const result *a, const result *b)
{
    char x[32], y[32];
    printf("\n%-34s %18s %18s\n", "", a->codec, b->codec);
    printf("%-34s %18.4f %18.4f\n", "validation loss", a->loss_val, b->loss_val);
    printf("%-34s %18.4f %18.4f\n", "training loss", a->loss_train, b->loss_train);
    printf("%-34s %18s %18s\n", "bytes sent", size_text(a->bytes_sent, x, sizeof x),
           size_text(b->bytes_sent, y, sizeof y));
    printf("%-34s %17.1fx %17.1fx\n", "fewer bytes than uncompressed", run_ratio(a), run_ratio(b));
    printf("%-34s %18.3g %18.3g\n", "rel_err2", a->rel_err2, b->rel_err2);
    printf("%-34s %18.1f %18.1f\n", "step here, ms", a->step_ms, b->step_ms);
    printf("%-34s %18.1f %18.1f\n", "bytes of a step at 1 Gbit/s, ms", wire_ms(a, 1), wire_ms(b, 1));
    printf("%-34s %18.1f %18.1f\n", "bytes of a step at 100 Mbit/s, ms", wire_ms(a, 0.1), wire_ms(b, 0.1));
    printf("\nvalidation loss %+.2f%% with %.1fx fewer bytes\n", 100 * (a->loss_val / b->loss_val - 1),
           b->bytes_sent > 0 && a->bytes_sent > 0 ? b->bytes_sent / a->bytes_sent : 1);
}

/* ---- JSON ---- */

static json_t *layer_object(const layer_result *l)
{
    json_t *j = json_object();
    jsn_text(j, "name", l->name);
    jsn_int(j, "elements", l->elements);
    jsn_text(j, "codec", l->codec);
    jsn_real(j, "bits_per_element", l->bits);
    jsn_real(j, "rel_err2", l->rel_err2);
    jsn_int(j, "bytes_sent", (uint64_t)l->bytes_sent);
    jsn_int(j, "bytes_dense", (uint64_t)l->bytes_dense);
    return j;
}

static json_t *split_object(const run_split *s)
{
    json_t *j = json_object();
    jsn_real(j, "data_ms", s->data);
    jsn_real(j, "forward_ms", s->forward);
    jsn_real(j, "backward_ms", s->backward);
    jsn_real(j, "wait_ms", s->wait);
    jsn_real(j, "optimizer_ms", s->optimizer);
    jsn_real(j, "scale_ms", s->scale);
    return j;
}

json_t *report_object(const result *r, const options *o)
{
    json_t *j = json_object(), *layers = json_array();
    char    hex[24];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)r->plan_hash);
    jsn_text(j, "model", o->model);
    jsn_int(j, "params", r->params);
    jsn_int(j, "ranks", (uint64_t)ranks_count());
    jsn_int(j, "steps", (uint64_t)r->steps);
    jsn_text(j, "codec", r->codec);
    jsn_real(j, "loss_first", r->loss_first);
    jsn_real(j, "loss_train", r->loss_train);
    jsn_real(j, "loss_val", r->loss_val);
    jsn_real(j, "accuracy_val", r->accuracy_val);
    jsn_real(j, "step_ms", r->step_ms);
    jsn_real(j, "comm_ms", r->comm_ms);
    jsn_real(j, "exposed_ms", r->exposed_ms);
    jsn_real(j, "plan_ms", r->plan_ms);
    jsn_int(j, "bytes_sent", (uint64_t)r->bytes_sent);
    jsn_int(j, "bytes_dense", (uint64_t)r->bytes_dense);
    jsn_int(j, "bytes_probes", (uint64_t)r->bytes_probes);
    jsn_real(j, "ratio", run_ratio(r));
    jsn_real(j, "rel_err2", r->rel_err2);
    jsn_real(j, "rel_err2_metric", r->rel_err2_metric);
    jsn_real(j, "rel_err2_audit", r->rel_err2_audit);
    jsn_text(j, "budget_spec", o->budget ? o->budget : "like:quant:bits=4");
    jsn_real(j, "budget", r->budget);
    jsn_real(j, "budgeted_err2", r->budgeted_err2);
    jsn_int(j, "budget_violations", r->budget_violations);
    jsn_int(j, "plans", r->plans);
    jsn_text(j, "plan_hash", hex);
    jsn_text(j, "optimizer", o->optimizer);
    jsn_real(j, "lr", o->lr);
    jsn_int(j, "seed", o->seed);
    jsn_int(j, "batch", (uint64_t)o->batch);
    jsn_int(j, "first_step", (uint64_t)r->first_step);
    jsn_real(j, "seconds", r->seconds);
    jsn_bool(j, "diverged", r->diverged);
    jsn_bool(j, "identical", r->identical);
    json_object_set_new(j, "split", split_object(&r->split));
    if (r->loader) json_object_set(j, "data", r->loader);
    for (size_t i = 0; i < r->n_layers; i++) json_array_append_new(layers, layer_object(&r->layers[i]));
    json_object_set_new(j, "layers", layers);
    return j;
}
