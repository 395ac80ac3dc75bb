/* test_truth_torch.c : a GPT trained under codec=auto, the true error of every step recomputed in double from what went in and came out.
 * GPT_DIM (128), GPT_BLOCKS (4), GPT_STEPS (100): by default the model of the traces, 818,176 parameters with 65 tokens. */
#include "../support/scene.h"
#include "comm/base/base.h"
#include "shim/torch.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 65, CONTEXT = 64, BATCH_MOST = 16 };

typedef struct gpt {
    taut_torch_model *model;
    taut_torch_optim *optim;
    bool              adam;
    int               batch, layers;
    taut_torch_param  param[TRUTH_LAYERS];
    truth_shape       shape[TRUTH_LAYERS];
    float            *g[TRUTH_RANKS][TRUTH_LAYERS], *scale[TRUTH_LAYERS];
    double            loss;
} gpt;

static int setting(const char *name, int otherwise) { return getenv(name) ? atoi(getenv(name)) : otherwise; }

static double uniform(uint64_t seed, uint64_t i) { return (double)(taut__seed(seed, i) >> 11) * 0x1p-53; }

/* Text as a walk: a few frequent tokens, words that recur. */
static void draw_batch(gpt *m, int rank, int step, int64_t *token, int64_t *target)
{
    for (int b = 0; b < m->batch; b++) {
        uint64_t seed = taut__seed((uint64_t)step, (uint64_t)(rank * 1000 + b) + 7);
        int64_t  now = (int64_t)(VOCAB * pow(uniform(seed, 0), 2));
        for (int t = 0; t < CONTEXT; t++) {
            int64_t next = uniform(seed, 2 * (uint64_t)t + 1) < 0.75
                               ? (now * 7 + 11) % VOCAB
                               : (int64_t)(VOCAB * pow(uniform(seed, 2 * (uint64_t)t + 2), 2));
            token[b * CONTEXT + t] = now;
            target[b * CONTEXT + t] = now = next;
        }
    }
}

/* All ranks' gradients at the present parameters. */
static void gradients(gpt *m, int ranks, int step)
{
    static int64_t token[BATCH_MOST * CONTEXT], target[BATCH_MOST * CONTEXT];
    m->loss = 0;
    for (int r = 0; r < ranks; r++) {
        taut_torch_batch b = TAUT_TORCH_BATCH_INIT;
        double           loss;
        draw_batch(m, r, step, token, target);
        b.tokens = token, b.targets = target;
        b.n_targets = (size_t)(m->batch * CONTEXT);
        b.ndim = 2, b.shape[0] = m->batch, b.shape[1] = CONTEXT;
        if (taut_torch_forward(m->model, &b, &loss) != TAUT_OK || taut_torch_backward(m->model) != TAUT_OK) abort();
        m->loss += loss / ranks;
        for (int l = 0; l < m->layers; l++) memcpy(m->g[r][l], m->param[l].grad, m->param[l].elements * sizeof(float));
    }
}

static void gradient(truth *t, int rank, int step, int layer, float *g)
{
    gpt *m = t->model;
    (void)step;
    memcpy(g, m->g[rank][layer], m->param[layer].elements * sizeof(float));
}

static const float *scale(truth *t, int step, int layer)
{
    gpt *m = t->model;
    return m->adam && step > 0 ? m->scale[layer] : NULL;
}

static void step_done(truth *t, int step, float *const *mean)
{
    gpt *m = t->model;
    for (int l = 0; l < m->layers; l++) memcpy(m->param[l].grad, mean[l], m->param[l].elements * sizeof(float));
    if (taut_torch_optim_step(m->optim) != TAUT_OK) abort();
    for (int l = 0; l < m->layers && m->adam; l++)
        if (taut_torch_optim_scale(m->optim, (size_t)l, 0.01, m->scale[l], m->param[l].elements) != TAUT_OK) abort();
    gradients(m, t->ranks, step + 1);
}

static void create(gpt *m, int ranks)
{
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    taut_torch_optim_config o = TAUT_TORCH_OPTIM_CONFIG_INIT;
    c.kind = "gpt", c.seed = 3, c.vocab = c.classes = VOCAB, c.ctx = CONTEXT, c.heads = 4;
    c.dim = setting("GPT_DIM", 128), c.blocks = setting("GPT_BLOCKS", 4);
    o.kind = m->adam ? "adam" : "sgd", o.lr = m->adam ? 0.002 : 0.1;
    ck_assert_msg(taut_torch_model_create(&c, &m->model) == TAUT_OK, "%s", taut_torch_last_error());
    ck_assert_msg(taut_torch_optim_create(m->model, &o, &m->optim) == TAUT_OK, "%s", taut_torch_last_error());
    m->layers = (int)taut_torch_model_params(m->model);
    ck_assert_int_le(m->layers, TRUTH_LAYERS);
    for (int l = 0; l < m->layers; l++) {
        taut_torch_param *p = &m->param[l];
        p->size = sizeof *p;
        ck_assert_int_eq(taut_torch_model_param(m->model, (size_t)l, p), TAUT_OK);
        m->shape[l] = (truth_shape){p->name, p->ndim > 1 ? p->shape[0] : 1,
                                    p->ndim > 1 ? p->elements / p->shape[0] : p->elements};
        m->scale[l] = calloc(p->elements, sizeof(float));
        for (int r = 0; r < ranks; r++) m->g[r][l] = calloc(p->elements, sizeof(float));
    }
}

static void destroy(gpt *m, int ranks)
{
    taut_torch_optim_destroy(m->optim);
    taut_torch_model_destroy(m->model);
    for (int l = 0; l < m->layers; l++) {
        free(m->scale[l]);
        for (int r = 0; r < ranks; r++) free(m->g[r][l]);
    }
}

static const struct {
    bool        adam;
    int         batch, ranks;
    const char *budget, *metric, *reference;
} scenes[] = {
    {true, 8, 2, "like:quant:bits=4", "optimizer",
     NULL}, /* the reference in units of a scale is not recomputed: against the budget reported */
    {false, 16, 4, "rel=0.1", "plain", NULL},
    {true, 4, 4, "rel=0.1", "optimizer", NULL},
    {false, 8, 2, "like:quant:bits=4", "layer", "quant:bits=4"},
};

START_TEST(gpt_keeps_its_budget)
{
    static truth_step step[SCENE_STEPS];
    gpt               m = {.adam = scenes[_i].adam, .batch = scenes[_i].batch};
    int               ranks = scenes[_i].ranks;
    taut_config       cfg = TAUT_CONFIG_INIT;
    char              what[160];
    cfg.budget = scenes[_i].budget, cfg.metric = scenes[_i].metric, cfg.objective = "bytes", cfg.feedback = "off";
    taut_torch_threads(2);
    create(&m, ranks);
    gradients(&m, ranks, 0);
    truth t = {.ranks = ranks,
               .layers = m.layers,
               .steps = setting("GPT_STEPS", 100),
               .shape = m.shape,
               .cfg = cfg,
               .gradient = gradient,
               .scale = scale,
               .step_done = step_done,
               .reference = scenes[_i].reference,
               .model = &m,
               .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    ck_assert(t.same_bits);
    snprintf(what, sizeof what, "gpt %s batch %d, %d ranks, %s %s: loss %.3f", m.adam ? "adam" : "sgd", m.batch, ranks,
             cfg.budget, cfg.metric, m.loss);
    scene_result r = scene_judge(&t, what);
    destroy(&m, ranks);
    ck_assert_int_gt(r.planned, t.steps / 2);
    ck_assert_int_le(r.over, (r.planned + 99) / 100); /* of a hundred steps, one */
    ck_assert_int_eq(r.unseen, 0);
    ck_assert_double_ge(r.used / r.planned, 0.7);
    ck_assert_double_ge(r.ratio, 0.9);
    ck_assert_double_le(r.ratio, 1.1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("truth of a gpt");
    TCase *t = suite_case(s, "truth of a gpt", 3600);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_add_loop_test(t, gpt_keeps_its_budget, 0, (int)(sizeof scenes / sizeof *scenes));
    return suite_run(s);
}
