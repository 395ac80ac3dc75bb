/* shim_models.h : small models of the shim, optimizers, and the batches that they are fed with in tests. */
#ifndef TAUT_TEST_SHIM_MODELS_H
#define TAUT_TEST_SHIM_MODELS_H

#include "../../shim/torch.h"
#include <check.h>
#include <math.h>

enum { BATCH = 3, LEN = 7, VOCAB = 11, INPUTS = 6, CLASSES = 4, MAX_PARAMS = 64 };

static int64_t tokens[BATCH * LEN], targets[BATCH * LEN], labels[BATCH];
static float   values[BATCH * INPUTS];

static inline void fill_inputs(void)
{
    for (int i = 0; i < BATCH * LEN; i++) tokens[i] = (i * 5) % VOCAB, targets[i] = (i * 7 + 3) % VOCAB;
    for (int i = 0; i < BATCH * INPUTS; i++) values[i] = (float)((i * 37) % 101) / 50 - 1;
    for (int i = 0; i < BATCH; i++) labels[i] = (i * 3) % CLASSES;
}

static inline taut_torch_batch text_batch(void)
{
    taut_torch_batch b = TAUT_TORCH_BATCH_INIT;
    b.tokens = tokens, b.targets = targets, b.n_targets = BATCH * LEN;
    b.ndim = 2, b.shape[0] = BATCH, b.shape[1] = LEN;
    return b;
}

static inline taut_torch_batch value_batch(void)
{
    taut_torch_batch b = TAUT_TORCH_BATCH_INIT;
    b.values = values, b.targets = labels, b.n_targets = BATCH;
    b.ndim = 2, b.shape[0] = BATCH, b.shape[1] = INPUTS;
    return b;
}

static inline taut_torch_model *make(const char *kind, uint64_t seed)
{
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    taut_torch_model       *m;
    c.kind = kind, c.seed = seed, c.vocab = VOCAB, c.ctx = 8, c.dim = 12, c.blocks = 2, c.heads = 3;
    c.inputs = INPUTS, c.classes = CLASSES;
    ck_assert_int_eq(taut_torch_threads(1), TAUT_OK);
    ck_assert_msg(taut_torch_model_create(&c, &m) == TAUT_OK, "%s", taut_torch_last_error());
    fill_inputs();
    return m;
}

static inline taut_torch_param param(const taut_torch_model *m, size_t i)
{
    taut_torch_param p = {.size = sizeof p};
    ck_assert_int_eq(taut_torch_model_param(m, i, &p), TAUT_OK);
    return p;
}

static inline double loss_of(taut_torch_model *m, const taut_torch_batch *b)
{
    double loss;
    ck_assert_msg(taut_torch_forward(m, b, &loss) == TAUT_OK, "%s", taut_torch_last_error());
    return loss;
}

static inline taut_torch_optim *optimizer(taut_torch_model *m, const char *kind, double lr)
{
    taut_torch_optim_config c = TAUT_TORCH_OPTIM_CONFIG_INIT;
    taut_torch_optim       *o;
    c.kind = kind, c.lr = lr, c.momentum = 0.9, c.weight_decay = 0.01;
    ck_assert_msg(taut_torch_optim_create(m, &c, &o) == TAUT_OK, "%s", taut_torch_last_error());
    return o;
}

static inline void train_step(taut_torch_model *m, taut_torch_optim *o, const taut_torch_batch *b)
{
    loss_of(m, b);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_OK);
    ck_assert_int_eq(taut_torch_optim_step(o), TAUT_OK);
}

static inline double grad_norm(const taut_torch_model *m, size_t i)
{
    taut_torch_param p = param(m, i);
    double           s = 0;
    for (size_t k = 0; k < p.elements; k++) s += (double)p.grad[k] * p.grad[k];
    return sqrt(s);
}

#endif
