/* test_shim_batches_torch.c : a batch is the caller's again when forward is back: what autograd keeps for backward is not in it. */
#include "../support/shim_models.h"
#include "../support/suite.h"

static size_t all_gradients(const taut_torch_model *m, float *to)
{
    size_t n = 0;
    for (size_t i = 0; i < taut_torch_model_params(m); i++) {
        taut_torch_param p = param(m, i);
        memcpy(to + n, p.grad, p.elements * sizeof *to);
        n += p.elements;
    }
    return n;
}

static void *copy_of(const void *from, size_t bytes) { return from ? memcpy(malloc(bytes), from, bytes) : NULL; }

static void spoil(const void *p, size_t bytes)
{
    if (p) memset((void *)p, 0xa5, bytes);
    free((void *)p);
}

/* Gradients with a batch that is overwritten and freed as soon as forward is back: the same. */
static void check_not_kept(const char *kind, taut_torch_batch b)
{
    static float      want[100000], got[100000];
    size_t            in = 1, out = b.n_targets, classes = b.tokens ? VOCAB : CLASSES, n;
    taut_torch_model *m = make(kind, 6);
    for (int d = 0; d < b.ndim; d++) in *= (size_t)b.shape[d];
    loss_of(m, &b);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_OK);
    n = all_gradients(m, want);
    b.tokens = copy_of(b.tokens, in * sizeof *b.tokens), b.values = copy_of(b.values, in * sizeof *b.values);
    b.targets = copy_of(b.targets, out * sizeof *b.targets);
    b.weights = copy_of(b.weights, out * sizeof *b.weights), b.soft = copy_of(b.soft, out * classes * sizeof *b.soft);
    loss_of(m, &b);
    spoil(b.tokens, in * sizeof *b.tokens), spoil(b.values, in * sizeof *b.values);
    spoil(b.targets, out * sizeof *b.targets);
    spoil(b.weights, out * sizeof *b.weights), spoil(b.soft, out * classes * sizeof *b.soft);
    ck_assert_int_eq(taut_torch_backward(m), TAUT_OK);
    ck_assert_uint_eq(all_gradients(m, got), n);
    ck_assert_msg(memcmp(want, got, n * sizeof *want) == 0, "%s%s%s: a batch is read after its call", kind,
                  b.weights ? ", weights" : "", b.soft ? ", soft" : "");
    taut_torch_model_destroy(m);
}

START_TEST(batches_are_not_kept)
{
    static float weights[BATCH * LEN], soft[BATCH * LEN * VOCAB];
    for (int i = 0; i < BATCH * LEN; i++) weights[i] = (float)(1 + i % 3);
    for (int i = 0; i < BATCH * LEN * VOCAB; i++) soft[i] = (float)(1 + i % 5) / 33;
    for (int way = 0; way < 4; way++) {
        taut_torch_batch text = text_batch(), numbers = value_batch();
        text.weights = numbers.weights = way & 1 ? weights : NULL;
        text.soft = numbers.soft = way & 2 ? soft : NULL;
        check_not_kept("gpt", text);
        check_not_kept("mlp", numbers);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shim batches");
    TCase *t = suite_case(s, "torch", 120);
    tcase_add_test(t, batches_are_not_kept);
    return suite_run(s);
}
