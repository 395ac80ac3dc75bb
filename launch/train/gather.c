/* gather.c : see gather.h. */
#include "gather.h"
#include "ranks.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int gather_create(gather *g, int64_t steps, size_t layers)
{
    memset(g, 0, sizeof *g);
    g->n_layers = layers;
    g->untimed = steps > 2 * UNTYPICAL_STEPS ? UNTYPICAL_STEPS : 0;
    g->step_ms = calloc((size_t)steps, sizeof *g->step_ms);
    g->bits = calloc(layers, sizeof *g->bits);
    g->layer_err2 = calloc(layers, sizeof *g->layer_err2);
    g->start = cli_now();
    return g->step_ms && g->bits && g->layer_err2 ? 0 : fault(CLI_FAILED, "out of memory");
}

void gather_destroy(gather *g)
{
    free(g->step_ms);
    free(g->bits);
    free(g->layer_err2);
    memset(g, 0, sizeof *g);
}

static void add_split(run_split *sum, const run_split *s)
{
    sum->data += s->data;
    sum->forward += s->forward;
    sum->backward += s->backward;
    sum->wait += s->wait;
    sum->optimizer += s->optimizer;
    sum->scale += s->scale;
}

void gather_step(gather *g, double loss, const run_split *s, const taut_comm *comm, const taut_comm_stats *c)
{
    if (g->steps == 0) g->loss_first = loss;
    g->loss[g->steps % LOSS_WINDOW] = loss;
    g->step_ms[g->steps++] = 1e3 * (s->data + s->forward + s->backward + s->wait + s->optimizer + s->scale);
    if (g->steps > g->untimed) {
        add_split(&g->sum, s);
        g->timed++;
    }
    g->rel_err2 += c->rel_err2;
    g->rel_err2_metric += c->rel_err2_metric;
    if (c->budget > 0) {
        g->budget += c->budget;
        g->budgeted_err2 += c->rel_err2_metric;
        g->budgeted++;
    }
    for (size_t i = 0; i < g->n_layers; i++) {
        taut_layer_stats l = {.size = sizeof l};
        if (taut_layer_get_stats(taut_comm_layer(comm, i), &l) != TAUT_OK) continue;
        g->bits[i] += l.bits_per_element;
        g->layer_err2[i] += l.rel_err2;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *x, int64_t n)
{
    double *copy = malloc((size_t)n * sizeof *copy), m;
    if (!copy) return 0;
    memcpy(copy, x, (size_t)n * sizeof *copy);
    qsort(copy, (size_t)n, sizeof *copy, ascending);
    m = copy[n / 2];
    free(copy);
    return m;
}

static void fill_times(const gather *g, result *r)
{
    double per_step = g->timed ? 1e3 / (double)g->timed : 0;
    r->step_ms = median(g->step_ms, g->steps);
    r->split = g->sum;
    r->split.data *= per_step;
    r->split.forward *= per_step;
    r->split.backward *= per_step;
    r->split.wait *= per_step;
    r->split.optimizer *= per_step;
    r->split.scale *= per_step;
    r->seconds = cli_now() - g->start;
}

static void fill_comm(const gather *g, const taut_comm *comm, result *r)
{
    taut_comm_stats c = {.size = sizeof c};
    double          n = (double)g->steps, sums[3];
    taut_comm_get_stats(comm, &c);
    sums[0] = (double)c.bytes_sent;
    sums[1] = (double)c.bytes_dense;
    sums[2] = (double)c.bytes_probes;
    ranks_sum(sums, 3);
    r->bytes_probes = sums[2];
    r->bytes_sent = sums[0];
    r->bytes_dense = sums[1];
    r->comm_ms = 1e3 * c.comm_s / n;
    r->exposed_ms = 1e3 * c.exposed_s / n;
    r->plan_ms = 1e3 * c.plan_s / n;
    r->rel_err2 = g->rel_err2 / n;
    r->rel_err2_metric = g->rel_err2_metric / n;
    r->rel_err2_audit = c.rel_err2_audit;
    r->budget = g->budgeted ? g->budget / (double)g->budgeted : 0;
    r->budgeted_err2 = g->budgeted ? g->budgeted_err2 / (double)g->budgeted : 0;
    r->budgeted = g->budgeted;
    r->budget_violations = c.budget_violations;
    r->plans = c.plans;
    r->plan_hash = c.plan_hash;
}

int gather_result(const gather *g, const taut_comm *comm, result *r)
{
    int64_t kept = g->steps < LOSS_WINDOW ? g->steps : LOSS_WINDOW;
    double  sums[2];
    r->n_layers = g->n_layers;
    r->layers = calloc(g->n_layers, sizeof *r->layers);
    if (!r->layers) return fault(CLI_FAILED, "out of memory");
    r->loss_first = g->loss_first;
    for (int64_t i = 0; i < kept; i++) r->loss_train += g->loss[i] / (double)kept;
    fill_times(g, r);
    fill_comm(g, comm, r);
    for (size_t i = 0; i < g->n_layers; i++) {
        layer_result    *l = &r->layers[i];
        taut_layer_stats s = {.size = sizeof s};
        taut_layer_get_stats(taut_comm_layer(comm, i), &s);
        snprintf(l->name, sizeof l->name, "%s", s.name);
        snprintf(l->codec, sizeof l->codec, "%s", s.codec);
        l->elements = s.elements;
        l->bits = g->bits[i] / (double)g->steps;
        l->rel_err2 = g->layer_err2[i] / (double)g->steps;
        sums[0] = (double)s.bytes_sent;
        sums[1] = (double)s.bytes_dense;
        ranks_sum(sums, 2);
        l->bytes_sent = sums[0];
        l->bytes_dense = sums[1];
    }
    return 0;
}
