/* scene.c : see scene.h. TRUTH_STEPS=1 in the environment prints every step. */
#include "scene.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void count(const truth_step *s, bool refers, int step, scene_result *r)
{
    const taut_comm_stats *q = &s->stats;
    double                 budget = refers ? s->reference : q->budget, used = s->rel_metric / budget;
    if (getenv("TRUTH_STEPS"))
        printf("    %d true %.3e of %.3e; reported %.3e (%.3e..%.3e) of %.3e%s\n", step, s->rel_metric, budget,
               q->rel_err2_metric, q->rel_err2_metric_low, q->rel_err2_metric_high, q->budget,
               s->counted ? " counted" : "");
    if (r->planned++ == 0) r->first = used;
    r->used += used;
    r->worst = fmax(r->worst, used);
    r->below += s->rel_metric < q->rel_err2_metric_low * 0.999;
    r->above += s->rel_metric > q->rel_err2_metric_high * 1.001;
    r->inside = r->planned - r->below - r->above;
    if (used <= 1) return;
    r->over++;
    r->unseen += !s->counted && s->rel_metric > q->rel_err2_metric_high * budget / fmin(budget, q->budget);
}

scene_result scene_judge(const truth *t, const char *what)
{
    const taut_comm_stats *last = &t->step[t->steps - 1].stats;
    static double          ratio[SCENE_STEPS];
    scene_result           r = {0};
    double                 two_bits = t->ranks == 2 ? 1 : 2.0 * (t->ranks - 1) / t->ranks;
    int                    n = 0;
    for (int i = 0; i < t->steps; i++) {
        const truth_step *s = &t->step[i];
        if (!s->planned || s->rel_metric < 1e-12)
            continue; /* the latter: all of it uncompressed, as between a new scale and the next plan */
        if (s->rel_metric > 0) ratio[n++] = s->stats.rel_err2_metric / s->rel_metric;
        r.control += (double)s->bytes_control / (s->elements / 4 * two_bits);
        count(s, t->reference != NULL, i, &r);
    }
    r.bits = 32.0 * (double)(last->bytes_sent - last->bytes_probes) / (double)last->bytes_dense;
    r.plans = (int)last->plans;
    r.control /= r.planned;
    r.ratio = n ? truth_median(ratio, n) : 1;
    printf("  %s: %d planned steps use %.2f of the budget, first %.2f, worst %.2f; %d over, %d unseen; reported/true "
           "%.3f, inside %.1f%%; %.1f bits, %d plans, "
           "control %.1f%% of 2 bits\n",
           what, r.planned, r.used / r.planned, r.first, r.worst, r.over, r.unseen, r.ratio,
           100.0 * r.inside / r.planned, r.bits, r.plans, 100 * r.control);
    return r;
}

scene_result scene_run(const scene *c, char *why)
{
    static truth_step step[SCENE_STEPS];
    taut_config       cfg = TAUT_CONFIG_INIT;
    scene_result      r = {0};
    model            *m = model_create(&c->model);
    char              what[200];
    cfg.budget = c->budget, cfg.metric = c->metric, cfg.feedback = c->feedback;
    cfg.objective = "bytes";
    truth t = {.ranks = c->model.ranks,
               .layers = model_layers(m),
               .steps = c->steps,
               .shape = model_shapes(m),
               .cfg = cfg,
               .gradient = model_gradient,
               .scale = model_scale,
               .step_done = model_step,
               .reference = c->reference,
               .model = m,
               .step = step};
    truth_run(&t);
    snprintf(why, 512, "%s", t.status != TAUT_OK ? t.why : t.same_bits ? "" : "ranks hold different bits");
    snprintf(what, sizeof what, "%s %s batch %d, %d ranks, %s %s feedback %s, seed %d: loss %.3f", c->model.kind,
             c->model.adam ? "adam" : "sgd", c->model.batch, c->model.ranks, c->budget, c->metric, c->feedback,
             (int)c->model.seed, model_loss(m));
    if (!*why) r = scene_judge(&t, what);
    model_destroy(m);
    return r;
}
