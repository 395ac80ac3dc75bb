/* test_budget_scenes.c : what test_budget_kept.c shows of ten scenes, of many that nobody chose: models, batches, optimizers, ranks, budgets, metrics
 * and feedback are drawn, and so are parameters and data. SCENES (40) of them from SEED (1). */
#include "../support/scene.h"
#include "comm/base/base.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int pick(uint64_t seed, uint64_t what, int n) { return (int)(taut__seed(seed, what) % (uint64_t)n); }

static scene draw(uint64_t seed)
{
    static const int         batch[] = {8, 16, 32, 64, 128, 256};
    static const char *const rel[] = {"rel=0.03", "rel=0.1", "rel=0.2", "rel=0.3"};
    static const char *const like[] = {"quant:bits=2", "quant:bits=3", "quant:bits=4", "quant:bits=5"};
    static const char *const like_budget[] = {"like:quant:bits=2", "like:quant:bits=3", "like:quant:bits=4",
                                              "like:quant:bits=5"};
    static const char *const metric[] = {"plain", "layer", "optimizer"};
    bool                     lstm = pick(seed, 1, 3) == 0, adam = pick(seed, 2, 2), refers = pick(seed, 3, 3) == 0;
    int                      b = batch[pick(seed, 4, lstm ? 3 : 6)], kind = pick(seed, 5, 4);
    scene c = {.model = {lstm ? "lstm" : "mlp", adam, 0, b, 2 + pick(seed, 6, 7), seed}, .steps = 120};
    c.model.rate = adam ? (lstm ? 0.005 : 0.003) : lstm ? 0.5 : 0.1;
    c.budget = refers ? like_budget[kind] : rel[kind];
    c.reference = refers ? like[kind] : NULL;
    c.metric = metric[refers ? pick(seed, 7, 2) : adam ? 2 * pick(seed, 7, 2) : pick(seed, 7, 2)];
    c.feedback = refers ? "off" : adam ? "auto" : pick(seed, 8, 2) ? "on" : "off";
    return c;
}

START_TEST(keeps_budgets_that_were_drawn)
{
    int scenes = getenv("SCENES") ? atoi(getenv("SCENES")) : 40, seed = getenv("SEED") ? atoi(getenv("SEED")) : 1,
        first_over = 0;
    scene_result all = {0};
    double       control = 0, most = 0;
    for (int i = 0; i < scenes; i++) {
        char         why[512];
        scene        c = draw((uint64_t)(seed + i));
        scene_result r = scene_run(&c, why);
        ck_assert_msg(!*why, "%s", why);
        all.planned += r.planned, all.over += r.over, all.unseen += r.unseen, all.used += r.used;
        all.inside += r.inside, all.below += r.below, all.above += r.above;
        first_over += r.first > 1;
        control += r.control,
            most = fmax(most, r.control * fmin(2 / r.bits, 1)); /* of what is sent, where that is more */
        ck_assert_double_ge(r.ratio, 0.9);
        ck_assert_double_le(r.ratio, 1.1);
    }
    printf("  %d scenes, %d planned steps: %.2f of the budget used; %d over (%.2f%%), of them first ones %d, unseen "
           "%d; true error inside the reported interval in "
           "%.2f%%, below in %.2f%%, above in %.2f%%; control %.1f%% of 2 bits, at most %.1f%%\n",
           scenes, all.planned, all.used / all.planned, all.over, 100.0 * all.over / all.planned, first_over,
           all.unseen, 100.0 * all.inside / all.planned, 100.0 * all.below / all.planned,
           100.0 * all.above / all.planned, 100 * control / scenes, 100 * most);
    ck_assert_double_le(control / scenes, 0.06);
    ck_assert_double_le(most, 0.07); /* with many early plans */
    ck_assert_double_le(all.over, all.planned / 100.0);
    ck_assert_int_eq(all.unseen, 0);
    ck_assert_double_ge(all.used / all.planned, 0.7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("budget scenes");
    TCase *t = suite_case(s, "budget scenes", 3600);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_add_test(t, keeps_budgets_that_were_drawn);
    return suite_run(s);
}
