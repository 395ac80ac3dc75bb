/* plan_report.c : a plan as a table and as JSON, and the break-even table. */
#include "plan.h"
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static double squared_error(const plan_facts *f, const taut__decision *d)
{
    double sum = 0;
    for (size_t l = 0; l < f->o.layers; l++) sum += f->o.option[d->option[l]].error;
    return sum;
}

static double relative(double error, double norm2) { return norm2 > 0 ? error / norm2 : 0; }

/* Silent layers do not count: any codec is exact on zeros. */
static size_t compressed(const plan_facts *f, const taut__decision *d)
{
    size_t n = 0;
    for (size_t l = 0; l < f->o.layers; l++) n += !f->o.option[d->option[l]].dense && f->o.layer[l].norm2 > 0;
    return n;
}

/* What a trace cannot tell: it has errors of each file, not of the sum that an allreduce would make of them. */
static const char assumption[] =
    "errors of ranks are taken as independent; codec=auto measures what they have in common";

/* Why a layer is as it is, where that is not the solver's trade-off. */
static const char *reason(const taut__offer *l, const taut__option *o)
{
    if (l->n == 1) return "small or one-dimensional";
    if (l->norm2 == 0) return "no gradient";
    return o->dense ? "uncompressed: dearer or over the budget otherwise" : "";
}

static const char *note(const plan_facts *f, const plan_settings *s, const taut__decision *d)
{
    if (!d->feasible) return "no candidates meet the budget: the most exact ones are shown";
    if (compressed(f, d) > 0) return "";
    if (f->fp16_error > f->budget2)
        return "the budget is tighter than fp16 can meet: all layers with a gradient stay uncompressed";
    if (s->demand.objective == TAUT_OBJECTIVE_TIME)
        return "compression does not pay on this link: all layers stay uncompressed";
    return "all layers stay uncompressed";
}

typedef struct totals { /* bytes; layers with a choice, and small ones, which travel uncompressed whatever the plan */
    double dense, small, chosen;
    size_t small_layers;
} totals;

static totals add_up(const plan_facts *f, const taut__decision *d)
{
    totals t = {0};
    for (size_t l = 0; l < f->o.layers; l++) {
        double dense = 4.0 * (double)f->o.layer[l].elems;
        t.dense += dense;
        if (f->o.layer[l].n > 1) {
            t.chosen += f->o.option[d->option[l]].work.bytes;
        } else {
            t.small += dense;
            t.small_layers++;
        }
    }
    return t;
}

/* Why an algorithm was chosen is in the time model; which one, for the table. */
static const char *via(const plan_settings *s, const taut__option *o)
{
    double seconds;
    return taut__algorithm_name(taut__algorithm_best(&s->demand.link, &o->work, &seconds));
}

void report_table(const plan_facts *f, const plan_settings *s, const taut__decision *d)
{
    double error = squared_error(f, d);
    totals t = add_up(f, d);
    printf("%-24s %9s  %-30s %-7s %7s %10s  %s\n", "layer", "elements", "codec", "via", "bits/el", "rel_err2", "");
    for (size_t l = 0; l < f->o.layers; l++) {
        const taut__offer  *layer = &f->o.layer[l];
        const taut__option *o = &f->o.option[d->option[l]];
        if (layer->n == 1) continue;
        printf("%-24s %9zu  %-30s %-7s %7.3f %10.3e  %s\n", layer->name, layer->elems, o->spec, via(s, o),
               8 * o->work.bytes / (double)layer->elems, relative(o->error, layer->norm2), reason(layer, o));
    }
    if (t.small_layers)
        printf("%-24s %9.0f  %-30s %-7s %7.3f %10.3e  small or one-dimensional\n", "(the others)", t.small / 4, "none",
               "native", 32.0, 0.0);
    printf("\nbudget    %s, metric %s: rel_err2 %.4e\n", f->budget, f->metric, relative(f->budget2, f->norm2));
    printf("plan      rel_err2 %.4e (%.1f%% of the budget), %s solver, %.2f%% from its bound\n",
           relative(error, f->norm2), f->budget2 > 0 ? 100 * error / f->budget2 : 0, s->solver, 100 * d->gap);
    printf("bytes     %.0f per rank, %.2f times fewer than uncompressed\n", d->bytes, t.dense / d->bytes);
    if (f->reference_bytes > 0)
        printf("          without the small layers %.0f, %.3f times fewer than %s\n", t.chosen,
               f->reference_bytes / t.chosen, f->budget + 5);
    printf("time      %.2f ms predicted, %.2f ms uncompressed, over %s with %d ranks\n", 1e3 * d->seconds,
           1e3 * d->dense_seconds, s->link, s->demand.link.ranks);
    printf("assumed   %s\n", assumption);
    if (note(f, s, d)[0]) printf("note      %s\n", note(f, s, d));
}

static json_t *layer_json(const plan_facts *f, const plan_settings *s, size_t l, const taut__option *o)
{
    const taut__offer *layer = &f->o.layer[l];
    json_t            *j = json_object();
    jsn_text(j, "name", layer->name);
    jsn_int(j, "elements", layer->elems);
    jsn_text(j, "codec", o->spec);
    jsn_text(j, "algorithm", via(s, o));
    jsn_real(j, "bits_per_element", 8 * o->work.bytes / (double)layer->elems);
    jsn_real(j, "rel_err2", relative(o->error, layer->norm2));
    if (reason(layer, o)[0]) jsn_text(j, "reason", reason(layer, o));
    return j;
}

json_t *report_json(const plan_facts *f, const plan_settings *s, const taut__decision *d)
{
    char    hash[24];
    json_t *o = json_object(), *layers = json_array();
    totals  t = add_up(f, d);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)d->hash);
    jsn_real(o, "budget", relative(f->budget2, f->norm2));
    jsn_real(o, "rel_err2", relative(squared_error(f, d), f->norm2));
    jsn_real(o, "bytes", d->bytes);
    jsn_real(o, "predicted_ms", 1e3 * d->seconds);
    jsn_real(o, "native_ms", 1e3 * d->dense_seconds);
    jsn_text(o, "budget_text", f->budget);
    jsn_text(o, "metric", f->metric);
    jsn_text(o, "objective", s->objective);
    jsn_text(o, "solver", s->solver);
    jsn_text(o, "norm", s->norm);
    jsn_text(o, "link", s->link);
    jsn_int(o, "ranks", (uint64_t)s->demand.link.ranks);
    jsn_real(o, "gap", d->gap);
    jsn_real(o, "bytes_dense", t.dense);
    jsn_real(o, "bytes_small", t.small);
    jsn_real(o, "bytes_reference", f->reference_bytes > 0 ? f->reference_bytes + t.small : 0);
    jsn_bool(o, "feasible", d->feasible);
    jsn_text(o, "plan_hash", hash);
    jsn_text(o, "assumes", assumption);
    jsn_text(o, "note", note(f, s, d));
    for (size_t l = 0; l < f->o.layers; l++)
        json_array_append_new(layers, layer_json(f, s, l, &f->o.option[d->option[l]]));
    json_object_set_new(o, "layers", layers);
    return o;
}
