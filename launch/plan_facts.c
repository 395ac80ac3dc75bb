/* plan_facts.c : measures a trace: every candidate of every layer, encoded for real on every file.
 * Errors are summed over ranks and steps; the norm they are relative to is that of each step's sum over ranks. */
#include "plan.h"
#include "../compressors/candidates.h"
#include "../compressors/feedback.h"
#include "../scheduler/budget.h"
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SPECS_MAX = 128, SMALL_ELEMS = 1024 }; /* small: taut_config.small_elems' default */

typedef struct job {
    const trace        *t;
    const plan_request *r;
    plan_facts         *f;
    taut__budget        budget;
    taut_spec           reference, fp16;
    uint32_t            families;
    taut__metric        metric;
    taut__bench         bench;
    double             *weight, *stats; /* per layer; GRID_STATS per layer */
    double             *sum2;           /* plain squared norm of the sums */
    size_t              room;           /* options allocated */
    cli_progress        progress;
} job;

static taut_tensor tensor_of(const trace_layer *l)
{
    size_t rows = l->ndim ? l->shape[0] : 1;
    return (taut_tensor){.elems = l->elems, .rows = rows, .cols = l->elems / rows};
}

static bool compressible(const trace_layer *l) { return l->ndim > 1 && l->elems >= SMALL_ELEMS; }

static int failed(const trace_layer *l, taut_status s) { return cli_status(s, "layer %s", l->name); }

/* ---- norms, weights, statistics ---- */

static void layer_norms(job *j, size_t l)
{
    const trace *t = j->t;
    taut_tensor  tensor = tensor_of(&t->layer[l]);
    double       own = 0;
    for (size_t s = 0; s < t->steps; s++) {
        memset(t->sum, 0, tensor.elems * sizeof *t->sum);
        for (size_t i = 0; i < t->files; i++)
            for (size_t k = 0; t->step[i] == s && k < tensor.elems; k++)
                t->sum[k] += t->file[i][t->layer[l].offset + k];
        j->sum2[l] += taut__norm2(&tensor, t->sum, 0, tensor.elems).plain;
    }
    for (size_t i = 0; i < t->files; i++)
        own += taut__norm2(&tensor, t->file[i] + t->layer[l].offset, 0, tensor.elems).plain;
    j->weight[l] = j->metric == TAUT_METRIC_PLAIN ? 1 : taut__layer_weight(tensor.elems, j->sum2[l], own);
}

static int collect_stats(job *j, size_t l)
{
    taut_spec         spec;
    const taut_codec *grid = taut__codec_by_name("grid", 4);
    taut_tensor       tensor = tensor_of(&j->t->layer[l]);
    taut_call         call = {.spec = &spec, .tensor = &tensor, .n = tensor.elems};
    taut_status       s = taut__spec_parse("grid", &spec);
    for (size_t i = 0; i < j->t->files && s == TAUT_OK; i++)
        s = taut__op_collect_stats(grid, &call, j->t->file[i] + j->t->layer[l].offset, j->stats + l * GRID_STATS);
    return s == TAUT_OK ? CLI_OK : failed(&j->t->layer[l], s);
}

/* ---- options ---- */

/* One spec on one layer: sums of error and seconds, mean of bytes, over the files. */
static int measure(job *j, size_t l, const taut_spec *spec, taut__measured *sum)
{
    taut_tensor tensor = tensor_of(&j->t->layer[l]);
    double      files = (double)j->t->files;
    *sum = (taut__measured){0};
    for (size_t i = 0; i < j->t->files; i++) {
        taut__measured m;
        taut_status    s =
            taut__measure(&j->bench, spec, &tensor, j->t->file[i] + j->t->layer[l].offset, 1, j->r->seed + i, true, &m);
        if (s != TAUT_OK) return failed(&j->t->layer[l], s);
        sum->plain += m.plain;
        sum->weighted += m.weighted;
        sum->bytes += m.bytes / files;
        sum->encode_s += m.encode_s / files;
        sum->decode_s += m.decode_s / files;
    }
    if (!isfinite(sum->plain)) return cli_fail("layer %s: holds NaN or Inf", j->t->layer[l].name);
    return CLI_OK;
}

static taut__option *add_option(job *j, size_t l)
{
    plan_facts *f = j->f;
    if (f->o.options == j->room) {
        size_t        room = 2 * j->room + 1024;
        taut__option *more = taut__alloc(room, sizeof *more);
        if (!more) return NULL;
        if (f->o.options) memcpy(more, f->o.option, f->o.options * sizeof *more);
        taut__free(f->o.option);
        f->o.option = more;
        j->room = room;
    }
    f->o.layer[l].n++;
    return &f->o.option[f->o.options++];
}

static int offer(job *j, size_t l, const taut_spec *spec)
{
    taut_tensor    tensor = tensor_of(&j->t->layer[l]);
    taut__measured m;
    taut__option  *o;
    int            rc = measure(j, l, spec, &m);
    if (rc != CLI_OK) return rc;
    if (!(o = add_option(j, l))) return cli_fail("out of memory");
    taut__spec_print(spec, o->spec, sizeof o->spec);
    o->error = j->weight[l] * m.plain;
    o->work = taut__work_of(spec, &tensor, j->r->ranks, &m);
    cli_progress_show(&j->progress, "measuring layer %zu of %zu: %s", l + 1, j->t->layers, o->spec);
    return CLI_OK;
}

/* A candidate of the reference's codec has the reference's other keys: like:powersgd:rank=4,iterations=8 compares ranks. */
static void follow_reference(const job *j, taut_spec *spec)
{
    const taut_stage *r = &j->reference.stage[0];
    taut_stage       *s = &spec->stage[0];
    if (!j->budget.like || j->reference.stages != 1 || spec->stages != 1 || r->codec != s->codec) return;
    for (uint32_t k = 0; k < s->codec->n_keys; k++) {
        if (!(r->given >> k & 1) || (s->given >> k & 1)) continue;
        s->value[k] = r->value[k];
        s->given |= 1u << k;
    }
}

static int offer_dense(job *j, size_t l)
{
    taut_tensor   tensor = tensor_of(&j->t->layer[l]);
    taut__option *o = add_option(j, l);
    if (!o) return cli_fail("out of memory");
    *o = (taut__option){.spec = "none", .dense = true, .work = taut__work_dense(&tensor)};
    return CLI_OK;
}

static int offer_grid(job *j, size_t l, double centre)
{
    taut__rung rung[TAUT_LADDER];
    size_t     n = taut__grid_ladder(j->stats + l * GRID_STATS, j->weight[l], centre, 4, 0.999, TAUT_LADDER, rung);
    int        rc = CLI_OK;
    for (size_t i = 0; i < 2 * n && rc == CLI_OK; i++) {
        char      text[64];
        taut_spec spec;
        snprintf(text, sizeof text, "grid:rel=%.4g,code=%s", rung[i / 2].rel, i % 2 ? "rans" : "packed");
        rc = taut__spec_parse(text, &spec) == TAUT_OK ? offer(j, l, &spec) : CLI_OK;
    }
    return rc;
}

static int offer_layer(job *j, size_t l, double centre)
{
    taut_spec   spec[SPECS_MAX];
    taut_tensor tensor = tensor_of(&j->t->layer[l]);
    size_t      n = taut__candidates(&tensor, j->families, true, spec, SPECS_MAX);
    int         rc = offer_dense(j, l);
    if (!compressible(&j->t->layer[l])) return rc;
    for (size_t i = 0; i < n && rc == CLI_OK; i++) {
        follow_reference(j, &spec[i]);
        if (taut__spec_suits(&spec[i], &tensor) == TAUT_OK) rc = offer(j, l, &spec[i]); /* not bits=1 with zero=1 */
    }
    if (rc == CLI_OK && (j->families & TAUT_FAMILY_GRID)) rc = offer_grid(j, l, centre);
    return rc;
}

/* ---- the budget ---- */

static int reference_layer(job *j, size_t l)
{
    plan_facts    *f = j->f;
    taut_tensor    tensor = tensor_of(&j->t->layer[l]);
    taut__measured m = {0};
    double         dense = 4.0 * (double)tensor.elems;
    bool           on = compressible(&j->t->layer[l]);
    int            rc = on ? measure(j, l, &j->fp16, &m) : CLI_OK;
    f->fp16_error += j->weight[l] * m.plain;
    if (rc != CLI_OK) return rc;
    if (!j->budget.like) {
        f->budget2 += j->budget.rel * j->weight[l] * j->sum2[l];
        f->budget_l2 += sqrt(j->budget.rel * j->weight[l] * j->sum2[l]);
        return CLI_OK;
    }
    on = on && taut__spec_suits(&j->reference, &tensor) == TAUT_OK; /* else the reference too sends it uncompressed */
    m = (taut__measured){0};
    rc = on ? measure(j, l, &j->reference, &m) : CLI_OK;
    f->budget2 += j->weight[l] * m.plain;
    f->budget_l2 += sqrt(j->weight[l] * m.plain);
    if (compressible(&j->t->layer[l]))
        f->reference_bytes += on ? taut__work_of(&j->reference, &tensor, 1, &m).bytes : dense;
    return rc;
}

static int settings(job *j)
{
    taut_status s;
    if (taut__budget_parse(j->r->budget, &j->budget) != TAUT_OK) return cli_usage("%s", taut_last_error());
    if (taut__metric_parse(j->r->metric, &j->metric) != TAUT_OK) return cli_usage("%s", taut_last_error());
    if (taut__families_parse(j->r->families, &j->families) != TAUT_OK) return cli_usage("%s", taut_last_error());
    if ((s = taut__spec_parse("fp16", &j->fp16)) != TAUT_OK) return cli_status(s, "fp16");
    if (j->metric == TAUT_METRIC_OPTIMIZER) j->metric = TAUT_METRIC_LAYER; /* a trace has no optimizer's scale */
    if (!j->budget.like) return CLI_OK;
    if (taut__spec_parse(j->budget.reference, &j->reference) != TAUT_OK)
        return cli_usage("budget '%s': %s", j->r->budget, taut_last_error());
    if (j->reference.automatic || (taut__spec_codec(&j->reference)->caps & TAUT_CAP_LOSSLESS))
        return cli_usage("budget '%s': the reference must be a codec that makes an error", j->r->budget);
    return CLI_OK;
}

static int allocate(job *j)
{
    size_t n = j->t->layers;
    j->weight = taut__alloc(n, sizeof *j->weight);
    j->sum2 = taut__alloc(n, sizeof *j->sum2);
    j->stats = taut__alloc(n * GRID_STATS, sizeof *j->stats);
    j->f->o.layer = taut__alloc(n, sizeof *j->f->o.layer);
    j->f->o.layers = n;
    return j->weight && j->sum2 && j->stats && j->f->o.layer ? CLI_OK : cli_fail("out of memory");
}

static int run(job *j)
{
    plan_facts *f = j->f;
    double      centre;
    int         rc = allocate(j);
    for (size_t l = 0; l < j->t->layers && rc == CLI_OK; l++) {
        layer_norms(j, l);
        f->norm2 += j->weight[l] * j->sum2[l];
        if (compressible(&j->t->layer[l])) rc = collect_stats(j, l);
        if (rc == CLI_OK) rc = reference_layer(j, l);
    }
    if (rc != CLI_OK) return rc;
    centre = taut__grid_centre(j->stats, j->weight, j->t->layers, f->budget2);
    for (size_t l = 0; l < j->t->layers && rc == CLI_OK; l++) {
        taut__offer *o = &f->o.layer[l];
        snprintf(o->name, sizeof o->name, "%s", j->t->layer[l].name);
        o->elems = j->t->layer[l].elems;
        o->norm2 = j->weight[l] * j->sum2[l];
        o->first = f->o.options;
        rc = offer_layer(j, l, centre);
    }
    cli_progress_end(&j->progress);
    return rc;
}

int facts_measure(const trace *t, const plan_request *r, plan_facts *f)
{
    job j = {.t = t, .r = r, .f = f};
    int rc;
    *f = (plan_facts){.ranks = (int)t->ranks};
    rc = settings(&j);
    snprintf(f->budget, sizeof f->budget, "%s", r->budget);
    snprintf(f->families, sizeof f->families, "%s", r->families);
    snprintf(f->metric, sizeof f->metric, "%s", taut__metric_name(j.metric));
    if (rc == CLI_OK) rc = run(&j);
    taut__bench_fini(&j.bench);
    taut__free(j.weight);
    taut__free(j.sum2);
    taut__free(j.stats);
    return rc;
}

void facts_free(plan_facts *f)
{
    taut__free(f->o.layer);
    taut__free(f->o.option);
    f->o = (taut__observations){0};
}
