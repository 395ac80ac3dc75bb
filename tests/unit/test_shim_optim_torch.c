/* test_shim_optim_torch.c : the shim's optimizers against their formulas, what Adam divides by, clipping. */
#include "../support/shim_models.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Two steps of each optimizer beside the formulas of torch.h, in double precision. */
START_TEST(optimizers_do_what_the_header_says)
{
    const char      *kinds[] = {"sgd", "adam", "adamw"};
    taut_torch_batch b = value_batch();
    const double     lr = 0.01, wd = 0.01;
    for (int k = 0; k < 3; k++) {
        taut_torch_model *model = make("mlp", 4);
        taut_torch_optim *o = optimizer(model, kinds[k], lr);
        taut_torch_param  w = param(model, 0);
        double            p = w.data[5], m = 0, v = 0, g;
        for (int t = 1; t <= 2; t++) {
            train_step(model, o, &b);
            g = w.grad[5];
            if (k == 2) p *= 1 - lr * wd;
            else g += wd * p;
            m = k == 0 ? 0.9 * m + g : 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            if (k == 0) p -= lr * m;
            else p -= lr * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.999, t))) + 1e-8);
            ck_assert_msg(fabs(w.data[5] - p) < 1e-6, "%s step %d: %.9g, expected %.9g", kinds[k], t, w.data[5], p);
        }
        ck_assert_uint_eq(taut_torch_optim_steps(o), 2);
        taut_torch_optim_destroy(o);
        taut_torch_model_destroy(model);
    }
}
END_TEST

START_TEST(scale_is_adams_denominator)
{
    taut_torch_model *model = make("mlp", 4);
    taut_torch_optim *o = optimizer(model, "adam", 1e-3), *sgd = optimizer(model, "sgd", 1e-3);
    taut_torch_batch  b = value_batch();
    taut_torch_param  w = param(model, 0);
    float             s[12 * INPUTS], row[12], one, *v;
    double            sum = 0, fix = 1 - 0.999, rms;
    ck_assert_int_eq(taut_torch_optim_scale(o, 0, 0, s, w.elements), TAUT_E_STATE);
    train_step(model, o, &b);
    ck_assert_int_eq(taut_torch_optim_state(o, 0, "v", &v), TAUT_OK);
    ck_assert_int_eq(taut_torch_optim_scale(o, 0, 0, s, w.elements), TAUT_OK);
    ck_assert_int_eq(taut_torch_optim_scale(o, 0, 0, row, w.shape[0]), TAUT_OK);
    ck_assert_int_eq(taut_torch_optim_scale(o, 0, 0, &one, 1), TAUT_OK);
    for (size_t i = 0; i < w.elements; i++) {
        ck_assert(fabs(s[i] - (sqrt(v[i] / fix) + 1e-8)) < 1e-5 * s[i]);
        sum += v[i];
    }
    rms = sqrt(sum / (double)w.elements / fix);
    ck_assert(fabs(one - rms) < 1e-5 * rms);
    sum = 0;
    for (size_t j = 0; j < INPUTS; j++) sum += v[2 * INPUTS + j];
    ck_assert(fabs(row[2] - (sqrt(sum / INPUTS / fix) + 1e-8)) < 1e-5 * row[2]);
    v[7] = 0; /* an element never seen: the floor holds */
    ck_assert_int_eq(taut_torch_optim_scale(o, 0, 0.5, s, w.elements), TAUT_OK);
    for (size_t i = 0; i < w.elements; i++) ck_assert(s[i] > 0.49 * rms);
    ck_assert_int_eq(taut_torch_optim_scale(o, 0, 0, s, 5), TAUT_E_INVALID);
    ck_assert_int_eq(taut_torch_optim_scale(sgd, 0, 0, s, 1), TAUT_E_UNSUPPORTED);
    taut_torch_optim_destroy(o);
    taut_torch_optim_destroy(sgd);
    taut_torch_model_destroy(model);
}
END_TEST

static void same_bits(const float *a, const float *b, size_t n) { ck_assert(memcmp(a, b, n * sizeof *a) == 0); }

/* The optimizer's own tensor: at one address, after every step what a copy would be, and no other step is made for it. */
START_TEST(denominators_are_the_scales)
{
    const double      floors[] = {0.03, 0.03, 0.03, 0.5, 0, 0};
    taut_torch_model *m = make("gpt", 4), *plain = make("gpt", 4);
    taut_torch_optim *o = optimizer(m, _i ? "adamw" : "adam", 1e-2), *p = optimizer(plain, _i ? "adamw" : "adam", 1e-2);
    taut_torch_batch  b = text_batch();
    size_t            n = taut_torch_model_params(m);
    const float      *first[64] = {0}, *s;
    ck_assert_int_eq(taut_torch_optim_denominator(o, 0, 0, &s), TAUT_E_STATE);
    for (size_t step = 0; step < 6; step++) {
        train_step(m, o, &b), train_step(plain, p, &b);
        for (size_t i = 0; i < n; i++) {
            taut_torch_param w = param(m, i), u = param(plain, i);
            float           *copy = malloc(w.elements * sizeof *copy);
            ck_assert_int_eq(taut_torch_optim_scale(o, i, floors[step], copy, w.elements), TAUT_OK);
            ck_assert_int_eq(taut_torch_optim_denominator(o, i, floors[step], &s), TAUT_OK);
            ck_assert(!first[i] || first[i] == s);
            first[i] = s;
            same_bits(s, copy, w.elements), same_bits(w.data, u.data, w.elements);
            free(copy);
        }
    }
    ck_assert_int_eq(taut_torch_optim_denominator(o, n, 0, &s), TAUT_E_RANGE);
    ck_assert_int_eq(taut_torch_optim_denominator(o, 0, 2, &s), TAUT_E_RANGE);
    ck_assert(s == NULL);
    taut_torch_optim_destroy(o), taut_torch_optim_destroy(p);
    taut_torch_model_destroy(m), taut_torch_model_destroy(plain);
}
END_TEST

START_TEST(clip_scales_to_the_common_norm)
{
    taut_torch_model *m = make("mlp", 6);
    taut_torch_batch  b = value_batch();
    double            norm, sum = 0;
    loss_of(m, &b);
    taut_torch_backward(m);
    for (size_t i = 0; i < taut_torch_model_params(m); i++) sum += pow(grad_norm(m, i), 2);
    ck_assert_int_eq(taut_torch_clip(m, 1e6, &norm), TAUT_OK);
    ck_assert(fabs(norm - sqrt(sum)) < 1e-5 * norm);
    ck_assert_int_eq(taut_torch_clip(m, 0.01, NULL), TAUT_OK);
    ck_assert_int_eq(taut_torch_clip(m, 1, &norm), TAUT_OK);
    ck_assert(fabs(norm - 0.01) < 1e-6);
    ck_assert_int_eq(taut_torch_clip(m, 0, &norm), TAUT_E_RANGE);
    taut_torch_model_destroy(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shim optimizers");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_test(t, optimizers_do_what_the_header_says);
    tcase_add_test(t, scale_is_adams_denominator);
    tcase_add_loop_test(t, denominators_are_the_scales, 0, 2);
    tcase_add_test(t, clip_scales_to_the_common_norm);
    return suite_run(s);
}
