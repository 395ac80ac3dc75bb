/* test_shim_torch.c : the shim, from C: gradients against finite differences, callbacks, save and load, exceptions. */
#include "../support/shim_models.h"
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Moves each parameter along its own gradient g by +-h*g/|g|: the loss must change by 2*h*|g|. float32 losses of
 * about 2 are good to 2e-7, so with h = 1e-2 the slope is good to about 2e-5 absolute; curvature cancels to h^2. */
static void check_gradients(taut_torch_model *m, const taut_torch_batch *b)
{
    const double h = 1e-2;
    loss_of(m, b);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_OK);
    for (size_t i = 0; i < taut_torch_model_params(m); i++) {
        taut_torch_param p = param(m, i);
        float           *keep = malloc(p.elements * sizeof *keep);
        double           norm = 0, up, down;
        memcpy(keep, p.data, p.elements * sizeof *keep);
        for (size_t k = 0; k < p.elements; k++) norm += (double)p.grad[k] * p.grad[k];
        norm = sqrt(norm);
        ck_assert_msg(norm > 0, "%s has no gradient", p.name);
        for (size_t k = 0; k < p.elements; k++) p.data[k] = keep[k] + (float)(h * p.grad[k] / norm);
        up = loss_of(m, b);
        for (size_t k = 0; k < p.elements; k++) p.data[k] = keep[k] - (float)(h * p.grad[k] / norm);
        down = loss_of(m, b);
        memcpy(p.data, keep, p.elements * sizeof *keep);
        free(keep);
        ck_assert_msg(fabs((up - down) / (2 * h) - norm) < 5e-5 + 0.01 * norm, "%s: slope %g, gradient %g", p.name,
                      (up - down) / (2 * h), norm);
    }
}

START_TEST(gradients_are_slopes)
{
    taut_torch_model *g = make("gpt", 3), *m = make("mlp", 3);
    taut_torch_batch  tb = text_batch(), vb = value_batch();
    check_gradients(g, &tb);
    check_gradients(m, &vb);
    taut_torch_model_destroy(g);
    taut_torch_model_destroy(m);
}
END_TEST

/* The names and shapes of the GPT whose gradients other tools record and read. */
START_TEST(gpt_layout)
{
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    taut_torch_model       *m;
    taut_torch_param        p;
    size_t                  total = 0;
    const char *head[] = {"te.weight",     "pe.weight",      "b.0.l1.weight",  "b.0.l1.bias",     "b.0.l2.weight",
                          "b.0.l2.bias",   "b.0.qkv.weight", "b.0.qkv.bias",   "b.0.proj.weight", "b.0.proj.bias",
                          "b.0.fc.weight", "b.0.fc.bias",    "b.0.out.weight", "b.0.out.bias",    "b.1.l1.weight"};
    c.kind = "gpt", c.vocab = 65;
    ck_assert_int_eq(taut_torch_model_create(&c, &m), TAUT_OK);
    ck_assert_uint_eq(taut_torch_model_params(m), 2 + 4 * 12 + 3);
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) ck_assert_str_eq(param(m, i).name, head[i]);
    for (size_t i = 0; i < taut_torch_model_params(m); i++) total += param(m, i).elements;
    ck_assert_uint_eq(total, 818176);
    p = param(m, 12); /* b.0.out.weight */
    ck_assert(p.ndim == 2 && p.shape[0] == 128 && p.shape[1] == 512);
    p = param(m, 52);
    ck_assert_str_eq(p.name, "head.weight");
    ck_assert(p.shape[0] == 65 && p.shape[1] == 128);
    taut_torch_model_destroy(m);
}
END_TEST

/* A causal model: what comes later must not reach an earlier loss. Targets of -100 do not count (libtorch's default
 * of an ignored class), so the loss here is that of position 2 alone. */
START_TEST(gpt_looks_back_only)
{
    taut_torch_model *m = make("gpt", 5);
    taut_torch_batch  b = text_batch();
    double            before;
    b.shape[0] = 1, b.n_targets = LEN;
    for (int i = 0; i < LEN; i++)
        if (i != 2) targets[i] = -100;
    before = loss_of(m, &b);
    for (int i = 3; i < LEN; i++) tokens[i] = (tokens[i] + 1) % VOCAB;
    ck_assert(loss_of(m, &b) == before);
    tokens[1] = (tokens[1] + 1) % VOCAB;
    ck_assert(loss_of(m, &b) != before);
    taut_torch_model_destroy(m);
}
END_TEST

typedef struct seen {
    size_t            order[MAX_PARAMS], n;
    taut_torch_model *model;
    double            norm[MAX_PARAMS]; /* of the gradient at the time of the call */
    taut_status       answer;
} seen;

static taut_status note(void *user, size_t i)
{
    seen *s = user;
    ck_assert_uint_lt(s->n, MAX_PARAMS);
    s->norm[i] = grad_norm(s->model, i);
    s->order[s->n++] = i;
    return s->answer;
}

START_TEST(every_gradient_is_announced_once_and_final)
{
    taut_torch_model *m = make("gpt", 1);
    taut_torch_batch  b = text_batch();
    seen              s = {.model = m};
    size_t            params = taut_torch_model_params(m);
    bool              hit[MAX_PARAMS] = {false};
    ck_assert_int_eq(taut_torch_model_on_grad(m, note, &s), TAUT_OK);
    for (int round = 0; round < 2; round++) {
        s.n = 0;
        memset(hit, 0, sizeof hit);
        loss_of(m, &b);
        ck_assert_int_eq(taut_torch_backward(m), TAUT_OK);
        ck_assert_uint_eq(s.n, params);
        for (size_t i = 0; i < params; i++) {
            ck_assert(!hit[s.order[i]]);
            hit[s.order[i]] = true;
            ck_assert(s.norm[i] > 0 && s.norm[i] == grad_norm(m, i)); /* nothing was added afterwards */
        }
        /* backward order: the head first, both embeddings last */
        ck_assert_uint_eq(s.order[0], params - 1);
        ck_assert(s.order[params - 1] < 2 && s.order[params - 2] < 2);
    }
    ck_assert_int_eq(taut_torch_model_on_grad(m, NULL, NULL), TAUT_OK);
    s.n = 0;
    loss_of(m, &b);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_OK);
    ck_assert_uint_eq(s.n, 0);
    taut_torch_model_destroy(m);
}
END_TEST

START_TEST(a_failing_callback_is_returned)
{
    taut_torch_model *m = make("mlp", 1);
    taut_torch_batch  b = value_batch();
    seen              s = {.model = m, .answer = TAUT_E_PEER};
    taut_torch_model_on_grad(m, note, &s);
    loss_of(m, &b);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_E_PEER);
    ck_assert_uint_eq(s.n, 1); /* none after the failure */
    s.answer = TAUT_OK;
    loss_of(m, &b);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_OK); /* and the model works on */
    taut_torch_model_destroy(m);
}
END_TEST

START_TEST(addresses_stay)
{
    taut_torch_model *m = make("gpt", 2);
    taut_torch_optim *o = optimizer(m, "adam", 1e-3);
    taut_torch_batch  b = text_batch();
    float            *data[MAX_PARAMS], *grad[MAX_PARAMS], *v[MAX_PARAMS], *now;
    size_t            params = taut_torch_model_params(m);
    double            norm;
    for (size_t i = 0; i < params; i++) {
        data[i] = param(m, i).data, grad[i] = param(m, i).grad;
        ck_assert_int_eq(taut_torch_optim_state(o, i, "v", &v[i]), TAUT_OK);
    }
    for (int step = 0; step < 4; step++) {
        train_step(m, o, &b);
        loss_of(m, &b);
        ck_assert_int_eq(taut_torch_accumulate(m), TAUT_OK);
        ck_assert_int_eq(taut_torch_clip(m, 0.5, &norm), TAUT_OK);
    }
    for (size_t i = 0; i < params; i++) {
        ck_assert_ptr_eq(param(m, i).data, data[i]);
        ck_assert_ptr_eq(param(m, i).grad, grad[i]);
        taut_torch_optim_state(o, i, "v", &now);
        ck_assert_ptr_eq(now, v[i]);
    }
    taut_torch_optim_destroy(o);
    taut_torch_model_destroy(m);
}
END_TEST

START_TEST(accumulate_adds_and_backward_replaces)
{
    taut_torch_model *m = make("mlp", 2);
    taut_torch_batch  b = value_batch();
    float             once;
    loss_of(m, &b);
    taut_torch_backward(m);
    once = param(m, 0).grad[3];
    ck_assert(once != 0);
    loss_of(m, &b);
    taut_torch_accumulate(m);
    ck_assert(param(m, 0).grad[3] == 2 * once);
    loss_of(m, &b);
    taut_torch_backward(m);
    ck_assert(param(m, 0).grad[3] == once);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_E_STATE);
    taut_torch_model_destroy(m);
}
END_TEST

START_TEST(same_seed_same_bits)
{
    taut_torch_batch b = text_batch();
    double           loss[3];
    for (int k = 0; k < 3; k++) {
        taut_torch_model *m = make("gpt", k == 2 ? 8 : 7);
        taut_torch_optim *o = optimizer(m, "adamw", 1e-2);
        for (int t = 0; t < 5; t++) train_step(m, o, &b);
        loss[k] = loss_of(m, &b);
        taut_torch_optim_destroy(o);
        taut_torch_model_destroy(m);
    }
    ck_assert(loss[0] == loss[1]);
    ck_assert(loss[0] != loss[2]);
}
END_TEST

START_TEST(training_and_evaluation)
{
    taut_torch_model *m = make("mlp", 9);
    taut_torch_optim *o = optimizer(m, "adam", 1e-2);
    taut_torch_batch  b = value_batch();
    double            first, last;
    int64_t           hits;
    ck_assert_int_eq(taut_torch_evaluate(m, &b, &first, &hits), TAUT_OK);
    ck_assert(fabs(first - loss_of(m, &b)) < 1e-6);
    for (int t = 0; t < 60; t++) train_step(m, o, &b);
    ck_assert_int_eq(taut_torch_evaluate(m, &b, &last, &hits), TAUT_OK);
    ck_assert(last < 0.5 * first);
    ck_assert_int_eq(hits, BATCH);
    ck_assert_int_eq(taut_torch_optim_set_lr(o, -1), TAUT_E_RANGE);
    ck_assert_int_eq(taut_torch_optim_set_lr(o, 1e-4), TAUT_OK);
    taut_torch_optim_destroy(o);
    taut_torch_model_destroy(m);
}
END_TEST

static void flip(const char *path, long bit)
{
    FILE *f = fopen(path, "r+b");
    int   c;
    ck_assert_ptr_nonnull(f);
    fseek(f, bit / 8, SEEK_SET);
    c = fgetc(f) ^ 1 << bit % 8;
    fseek(f, bit / 8, SEEK_SET);
    fputc(c, f);
    fclose(f);
}

/* Any bit, at every place that a zip file has: headers, tensors, directory, comment. */
START_TEST(no_flipped_bit_is_loaded)
{
    enum { FLIPS = 200 };
    char              path[] = "/tmp/taut-shim-XXXXXX";
    taut_torch_batch  b = text_batch();
    taut_torch_model *m = make("gpt", 1);
    taut_torch_optim *o = optimizer(m, "adam", 1e-2);
    struct stat       s;
    uint64_t          x = 88172645463325252u;
    double            loss;
    close(mkstemp(path));
    ck_assert_int_eq(taut_torch_save(m, o, "note", path), TAUT_OK);
    loss = loss_of(m, &b);
    ck_assert_int_eq(stat(path, &s), 0);
    for (int i = 0; i < FLIPS; i++) {
        long bit = i < 64 ? 8 * (s.st_size - 1 - i)
                          : (long)((x ^= x << 13, x ^= x >> 7, x ^= x << 17) % (8 * (uint64_t)s.st_size));
        flip(path, bit);
        ck_assert_msg(taut_torch_load(m, o, path, NULL) == TAUT_E_CORRUPT, "bit %ld: %s", bit, taut_torch_last_error());
        ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), path));
        flip(path, bit);
    }
    ck_assert_int_eq(taut_torch_load(m, o, path, NULL), TAUT_OK);
    ck_assert(loss == loss_of(m, &b));
    unlink(path);
    taut_torch_optim_destroy(o);
    taut_torch_model_destroy(m);
}
END_TEST

START_TEST(save_and_load_continue_bit_for_bit)
{
    char              path[] = "/tmp/taut-shim-XXXXXX", *text;
    taut_torch_batch  b = text_batch();
    taut_torch_model *m = make("gpt", 1), *n = make("gpt", 2), *other = make("mlp", 1);
    taut_torch_optim *o = optimizer(m, "adam", 1e-2), *q = optimizer(n, "adam", 1e-2), *sgd = optimizer(n, "sgd", 1e-2);
    double            loss;
    close(mkstemp(path));
    for (int t = 0; t < 3; t++) train_step(m, o, &b);
    ck_assert_msg(taut_torch_save(m, o, "{\"step\": 3}", path) == TAUT_OK, "%s", taut_torch_last_error());
    for (int t = 0; t < 3; t++) train_step(m, o, &b);
    ck_assert_msg(taut_torch_load(n, q, path, &text) == TAUT_OK, "%s", taut_torch_last_error());
    ck_assert_str_eq(text, "{\"step\": 3}");
    taut_torch_note_free(text);
    ck_assert_uint_eq(taut_torch_optim_steps(q), 3);
    for (int t = 0; t < 3; t++) train_step(n, q, &b);
    ck_assert(loss_of(m, &b) == loss_of(n, &b));

    loss = loss_of(n, &b);
    ck_assert_int_eq(taut_torch_load(n, sgd, path, NULL), TAUT_E_MISMATCH);
    ck_assert_int_eq(taut_torch_load(other, NULL, path, NULL), TAUT_E_MISMATCH);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "fc1"));
    ck_assert_int_eq(truncate(path, 1000), 0);
    ck_assert_int_eq(taut_torch_load(n, q, path, NULL), TAUT_E_CORRUPT);
    unlink(path);
    ck_assert_int_eq(taut_torch_load(n, q, path, NULL), TAUT_E_IO);
    ck_assert_int_eq(taut_torch_save(n, q, NULL, "/nowhere/at/all"), TAUT_E_IO);
    ck_assert(loss == loss_of(n, &b)); /* no failure changed the model */
    taut_torch_optim_destroy(o);
    taut_torch_optim_destroy(q);
    taut_torch_optim_destroy(sgd);
    taut_torch_model_destroy(m);
    taut_torch_model_destroy(n);
    taut_torch_model_destroy(other);
}
END_TEST

START_TEST(exceptions_become_statuses)
{
    taut_torch_model       *m = make("gpt", 1), *none;
    taut_torch_batch        b = text_batch();
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    double                  loss;
    tokens[2] = VOCAB; /* outside the embedding */
    ck_assert_int_eq(taut_torch_forward(m, &b, &loss), TAUT_E_TORCH);
    ck_assert_str_ne(taut_torch_last_error(), "");
    ck_assert_ptr_null(strchr(taut_torch_last_error(), '\n'));
    fill_inputs();
    targets[1] = -1;
    ck_assert_int_eq(taut_torch_forward(m, &b, &loss), TAUT_E_TORCH);
    fill_inputs();
    b.shape[1] = 9; /* longer than ctx */
    ck_assert_int_eq(taut_torch_forward(m, &b, &loss), TAUT_E_TORCH);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "length <= 8"));
    b = text_batch();
    b.n_targets--;
    ck_assert_int_eq(taut_torch_forward(m, &b, &loss), TAUT_E_TORCH);
    b = text_batch();
    b.values = values;
    ck_assert_int_eq(taut_torch_forward(m, &b, &loss), TAUT_E_INVALID);
    b = text_batch();
    loss_of(m, &b);

    c.kind = "cnn";
    ck_assert_int_eq(taut_torch_model_create(&c, &none), TAUT_E_INVALID);
    ck_assert_ptr_null(none);
    c.kind = "gpt", c.vocab = 65, c.heads = 3;
    ck_assert_int_eq(taut_torch_model_create(&c, &none), TAUT_E_RANGE);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "heads=3"));
    c.kind = "script", c.script = "/nowhere/model.pt";
    ck_assert_int_eq(taut_torch_model_create(&c, &none), TAUT_E_TORCH);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "/nowhere/model.pt"));
    taut_torch_model_destroy(m);
}
END_TEST

/* tests/unit/data/perceptron.pt is a module with a hidden layer of 5, `forward(x)` on [n,6], 4 classes, written with
 * torch.jit.save; its parameters are hidden.weight, hidden.bias, top.weight, top.bias. */
/* ---- devices ---- */

static taut_status make_on(const char *device, taut_torch_model **m)
{
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    c.kind = "gpt", c.seed = 5, c.vocab = VOCAB, c.ctx = 8, c.dim = 12, c.blocks = 2, c.heads = 3, c.device = device;
    ck_assert_int_eq(taut_torch_threads(1), TAUT_OK);
    fill_inputs();
    return taut_torch_model_create(&c, m);
}

START_TEST(devices_that_are_none)
{
    static const char *const of[] = {"tpu", "cuda:", "cuda:-1", "cuda:x", "cuda:0x", "", "meta", "cpu:0"};
    taut_torch_model        *m;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        ck_assert_msg(make_on(of[i], &m) == TAUT_E_INVALID && !m, "%s", of[i]);
        ck_assert_msg(strstr(taut_torch_last_error(), "cpu, cuda or cuda:N"), "%s", taut_torch_last_error());
    }
    ck_assert_msg(make_on("cuda:1000", &m) == TAUT_E_UNSUPPORTED && !m, "%s", taut_torch_last_error());
}
END_TEST

/* On a GPU, where this libtorch sees one, the same steps as on the host, within rounding; else a status that says so. */
START_TEST(devices)
{
    taut_torch_model *m, *host = make("gpt", 5);
    taut_torch_batch  b = text_batch();
    taut_torch_optim *o = optimizer(host, "adam", 0.01), *p;
    taut_status       s = make_on(_i ? "cuda" : "cpu", &m);
    if (_i && s == TAUT_E_UNSUPPORTED) {
        ck_assert(!m && strstr(taut_torch_last_error(), "no CUDA device"));
    } else {
        ck_assert_msg(s == TAUT_OK, "%s", taut_torch_last_error());
        ck_assert_int_eq(param(m, 0).device, _i ? 0 : -1);
        p = optimizer(m, "adam", 0.01);
        for (int step = 0; step < 3; step++) train_step(host, o, &b), train_step(m, p, &b);
        double x = loss_of(host, &b), y = loss_of(m, &b);
        ck_assert_msg(_i ? fabs(x - y) < 1e-3 : x == y, "%.9g %.9g", x, y);
        taut_torch_optim_destroy(p), taut_torch_model_destroy(m);
    }
    taut_torch_optim_destroy(o), taut_torch_model_destroy(host);
}
END_TEST

START_TEST(a_torchscript_module_trains)
{
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    taut_torch_model       *m;
    taut_torch_optim       *o;
    taut_torch_batch        b = value_batch();
    double                  first;
    seen                    s = {0};
    c.kind = "script", c.script = "tests/unit/data/perceptron.pt";
    ck_assert_msg(taut_torch_model_create(&c, &m) == TAUT_OK, "%s", taut_torch_last_error());
    fill_inputs();
    ck_assert_uint_eq(taut_torch_model_params(m), 4);
    check_gradients(m, &b);
    o = optimizer(m, "adam", 0.05);
    first = loss_of(m, &b);
    s.model = m;
    taut_torch_model_on_grad(m, note, &s);
    train_step(m, o, &b);
    ck_assert_uint_eq(s.n, 4);
    taut_torch_model_on_grad(m, NULL, NULL);
    for (int t = 0; t < 30; t++) train_step(m, o, &b);
    ck_assert(loss_of(m, &b) < 0.5 * first);
    taut_torch_optim_destroy(o);
    taut_torch_model_destroy(m);
}
END_TEST

/* two.weight is one.weight, and one.bias wants no gradient: four parameters of their own, each stepped once. */
START_TEST(tied_and_frozen_parameters_of_a_module)
{
    taut_torch_model_config c = TAUT_TORCH_MODEL_CONFIG_INIT;
    taut_torch_model       *m;
    taut_torch_optim       *o;
    taut_torch_batch        b = value_batch();
    seen                    s = {0};
    c.kind = "script", c.script = "tests/unit/data/tied.pt";
    ck_assert_msg(taut_torch_model_create(&c, &m) == TAUT_OK, "%s", taut_torch_last_error());
    fill_inputs();
    ck_assert_uint_eq(taut_torch_model_params(m), 4);
    check_gradients(m, &b);
    o = optimizer(m, "adam", 0.05);
    s.model = m;
    taut_torch_model_on_grad(m, note, &s);
    float before = param(m, 0).data[0];
    train_step(m, o, &b);
    ck_assert_uint_eq(s.n, 4);
    ck_assert_double_le(fabs((double)param(m, 0).data[0] - (double)before), 0.051); /* the first step of Adam is lr */
    taut_torch_optim_destroy(o);
    taut_torch_model_destroy(m);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("shim");
    TCase   *t = tcase_create("torch");
    SRunner *r = srunner_create(s);
    int      failed;
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    tcase_add_test(t, gradients_are_slopes);
    tcase_add_test(t, gpt_layout);
    tcase_add_test(t, gpt_looks_back_only);
    tcase_add_test(t, every_gradient_is_announced_once_and_final);
    tcase_add_test(t, a_failing_callback_is_returned);
    tcase_add_test(t, addresses_stay);
    tcase_add_test(t, accumulate_adds_and_backward_replaces);
    tcase_add_test(t, same_seed_same_bits);
    tcase_add_test(t, training_and_evaluation);
    tcase_add_test(t, save_and_load_continue_bit_for_bit);
    tcase_add_test(t, no_flipped_bit_is_loaded);
    tcase_add_test(t, exceptions_become_statuses);
    tcase_add_test(t, devices_that_are_none);
    tcase_add_loop_test(t, devices, 0, 2);
    tcase_add_test(t, a_torchscript_module_trains);
    tcase_add_test(t, tied_and_frozen_parameters_of_a_module);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
