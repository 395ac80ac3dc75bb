/* test_distill_torch.c : images by distribution matching and judges, from C. Freed memory is overwritten in some runs (M_PERTURB), which must not show:
 * what autograd keeps for backward is its own. */
#include "../../shim/distill.h"
#include "../support/suite.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, CLASSES = 3, EACH = 20, IMAGES = CLASSES * EACH, MOST = 4 };

static uint8_t pixels[IMAGES * PIXELS];
static int64_t labels[IMAGES];

/* Noise, with a bright bar that lies, stands, or is not there. */
static taut_torch_images images(void)
{
    taut_torch_images t = TAUT_TORCH_IMAGES_INIT;
    unsigned          r = 12345;
    for (int i = 0; i < IMAGES; i++) {
        labels[i] = i % CLASSES;
        for (int k = 0; k < PIXELS; k++) {
            r = r * 1103515245u + 12345u;
            pixels[i * PIXELS + k] =
                (uint8_t)((r >> 16) % 90 + (labels[i] < 2 && (labels[i] ? k % SIDE : k / SIDE) / 2 == 1 ? 160 : 0));
        }
    }
    t.pixels = pixels, t.labels = labels, t.n = IMAGES;
    t.channels = 1, t.height = t.width = SIDE, t.classes = CLASSES;
    return t;
}

/* Freed memory keeps what it held, or is filled with other bytes. */
static void perturb(int byte) { ck_assert_int_eq(mallopt(M_PERTURB, byte), 1); }

typedef struct curve {
    double first, last;
} curve;

static int note(void *ctx, int64_t done, int64_t total, double loss)
{
    curve *c = ctx;
    (void)total;
    if (done == 1) c->first = loss;
    c->last = loss;
    return 0;
}

START_TEST(the_same_images_whatever_freed_memory_holds)
{
    static uint8_t            made[3][CLASSES * MOST * PIXELS];
    taut_torch_images         t = images();
    taut_torch_distill_config c = TAUT_TORCH_DISTILL_INIT;
    int                       byte[] = {0, 0x55, 0xbe};
    c.per_class = (int64_t[]){1, 2, MOST}[_i], c.iterations = 25, c.real = 8, c.filters = 8, c.mirror = _i % 2;
    ck_assert_int_eq(taut_torch_threads(1), TAUT_OK);
    for (int k = 0; k < 3; k++) {
        perturb(byte[k]);
        ck_assert_msg(taut_torch_distill(&c, &t, made[k]) == TAUT_OK, "%s", taut_torch_last_error());
    }
    perturb(0);
    for (int k = 1; k < 3; k++)
        ck_assert_msg(memcmp(made[0], made[k], (size_t)(CLASSES * c.per_class * PIXELS)) == 0,
                      "%d a class: other images where freed memory is filled with 0x%x", (int)c.per_class, byte[k]);
}
END_TEST

/* probability: IMAGES * CLASSES */
static void judge(const taut_torch_images *t, const taut_torch_images *on, curve *loss, float *probability,
                  int64_t *hits)
{
    taut_torch_judge_config c = TAUT_TORCH_JUDGE_INIT;
    taut_torch_judge       *j;
    c.filters = 8, c.steps = 300, c.lr = 0.05, c.batch = 16, c.progress = note, c.ctx = loss;
    ck_assert_msg(taut_torch_judge_train(&c, t, &j) == TAUT_OK, "%s", taut_torch_last_error());
    ck_assert_msg(taut_torch_judge_ask(j, on, 1, probability, hits) == TAUT_OK, "%s", taut_torch_last_error());
    taut_torch_judge_destroy(j);
}

/* Probabilities of 0 and 1 say what labels say. */
START_TEST(soft_labels_teach_what_labels_teach)
{
    static float      soft[IMAGES * CLASSES], hard_p[IMAGES * CLASSES], soft_p[IMAGES * CLASSES];
    taut_torch_images t = images(), s = t;
    int64_t           hard_hits, soft_hits;
    curve             hard_loss, soft_loss;
    for (int i = 0; i < IMAGES; i++) soft[i * CLASSES + labels[i]] = 1;
    s.soft = soft;
    ck_assert_int_eq(taut_torch_threads(1), TAUT_OK);
    perturb(_i ? 0x7f : 0);
    judge(&t, &t, &hard_loss, hard_p, &hard_hits);
    judge(&s, &t, &soft_loss, soft_p, &soft_hits);
    perturb(0);
    ck_assert_int_ge(hard_hits, IMAGES * 8 / 10);
    ck_assert_int_ge(soft_hits, IMAGES * 8 / 10);
    ck_assert_double_lt(soft_loss.last, 0.5 * soft_loss.first);
    ck_assert_double_eq_tol(soft_loss.first, hard_loss.first, 1e-5);
    for (int i = 0; i < IMAGES * CLASSES; i++) ck_assert_double_eq_tol(soft_p[i], hard_p[i], 0.02);
}
END_TEST

/* Four images of 4x4 in the pixels of one of 8x8: networks see them enlarged, and know full images by them. */
START_TEST(parts_of_images_teach)
{
    static uint8_t            small[CLASSES * MOST * PIXELS];
    static int64_t            label[CLASSES * MOST * 4];
    static float              p[CLASSES * 8 * (CLASSES + 1)];
    taut_torch_images         t = images(), s = t;
    taut_torch_distill_config d = TAUT_TORCH_DISTILL_INIT;
    taut_torch_judge_config   c = TAUT_TORCH_JUDGE_INIT;
    taut_torch_judge         *j;
    int64_t                   hits;
    curve                     loss;
    d.per_class = 2, d.parts = 2, d.iterations = 40, d.real = 8, d.filters = 8, d.progress = note, d.ctx = &loss;
    memset(small, 0xee, sizeof small);
    ck_assert_msg(taut_torch_distill(&d, &t, small) == TAUT_OK, "%s", taut_torch_last_error());
    ck_assert_uint_eq(small[CLASSES * 2 * PIXELS], 0xee); /* as many pixels as images of full size have */
    s.pixels = small, s.labels = label, s.n = CLASSES * 8, s.height = s.width = SIDE / 2;
    for (size_t i = 0; i < s.n; i++) label[i] = (int64_t)i / 8;
    c.filters = 8, c.steps = 300, c.lr = 0.05, c.batch = 16, c.height = c.width = SIDE;
    ck_assert_msg(taut_torch_judge_train(&c, &s, &j) == TAUT_OK, "%s", taut_torch_last_error());
    ck_assert_int_eq(taut_torch_judge_ask(j, &t, 1, NULL, &hits), TAUT_OK);
    ck_assert_int_ge(hits, IMAGES * 7 / 10);
    ck_assert_int_eq(taut_torch_judge_ask(j, &s, 1, NULL, &hits), TAUT_OK);
    ck_assert_int_ge(hits, (int64_t)s.n * 8 / 10);
    s.classes++; /* more than it has: probabilities would be read behind its own */
    ck_assert_int_eq(taut_torch_judge_ask(j, &s, 1, p, NULL), TAUT_E_MISMATCH);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "the judge was trained on"));
    taut_torch_judge_destroy(j);
    d.parts = 9;
    ck_assert_int_eq(taut_torch_distill(&d, &t, small), TAUT_E_RANGE);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "parts=9: must be 1..8"));
}
END_TEST

/* Sum of the last hundred losses. */
static int late(void *ctx, int64_t done, int64_t total, double loss)
{
    if (done > total - 100) *(double *)ctx += loss;
    return 0;
}

/* Two classes that are each other's mirror images. Who is shown mirrored ones half of the time can but guess (a loss of ln 2); one in twelve leaves 0.29 to
 * those who know them apart; without transformations there is nothing to doubt, whatever `mirror` says. */
START_TEST(mirrored_as_often_as_the_rule_says)
{
    const struct {
        int32_t augment;
        double  least, most;
    } rule[] = {{TAUT_TORCH_AUGMENT_SEVERAL, 0.55, 1},
                {TAUT_TORCH_AUGMENT_ONE, 0.15, 0.5},
                {TAUT_TORCH_AUGMENT_NONE, 0, 0.05},
                {TAUT_TORCH_AUGMENT_AUTO, 0.15, 0.5}};
    taut_torch_images       t = images();
    taut_torch_judge_config c = TAUT_TORCH_JUDGE_INIT;
    taut_torch_judge       *j;
    int64_t                 hits;
    double                  sum = 0;
    for (int i = 0; i < IMAGES; i++) {
        labels[i] = i % 2;
        for (int k = 0; k < PIXELS; k++)
            pixels[i * PIXELS + k] = (uint8_t)((k % SIDE < SIDE / 2) == i % 2 ? 200 : (i + k) % 90);
    }
    t.classes = 2;
    c.filters = 8, c.steps = 400, c.lr = 0.05, c.batch = 20, c.mirror = 1, c.progress = late, c.ctx = &sum;
    c.augment = rule[_i].augment;
    ck_assert_int_eq(taut_torch_threads(1), TAUT_OK);
    ck_assert_msg(taut_torch_judge_train(&c, &t, &j) == TAUT_OK, "%s", taut_torch_last_error());
    ck_assert_int_eq(taut_torch_judge_ask(j, &t, 1, NULL, &hits), TAUT_OK);
    taut_torch_judge_destroy(j);
    ck_assert_double_ge(sum / 100, rule[_i].least);
    ck_assert_double_le(sum / 100, rule[_i].most);
    if (_i > 0) ck_assert_int_ge(hits, IMAGES * 9 / 10);
}
END_TEST

START_TEST(rules_that_there_are_not)
{
    static uint8_t            made[CLASSES * PIXELS];
    taut_torch_images         t = images();
    taut_torch_distill_config d = TAUT_TORCH_DISTILL_INIT;
    taut_torch_judge_config   c = TAUT_TORCH_JUDGE_INIT;
    taut_torch_judge         *j;
    d.augment = 4, c.augment = -1;
    ck_assert_int_eq(taut_torch_distill(&d, &t, made), TAUT_E_RANGE);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "augment=4: must be"));
    ck_assert_int_eq(taut_torch_judge_train(&c, &t, &j), TAUT_E_RANGE);
    ck_assert_ptr_nonnull(strstr(taut_torch_last_error(), "augment=-1: must be"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("distill");
    TCase *t = suite_case(s, "distill", 120);
    tcase_add_loop_test(t, the_same_images_whatever_freed_memory_holds, 0, 3);
    tcase_add_loop_test(t, soft_labels_teach_what_labels_teach, 0, 2);
    tcase_add_test(t, parts_of_images_teach);
    tcase_add_loop_test(t, mirrored_as_often_as_the_rule_says, 0, 4);
    tcase_add_test(t, rules_that_there_are_not);
    return suite_run(s);
}
