/* test_budget_kept.c : codec=auto keeps its budget, as measured from outside in double, on gradients of models that are really trained;
 * uses most of it; and counts what goes over. */
#include "../support/scene.h"
#include "../support/suite.h"
#include <stdio.h>
#include <stdlib.h>

static const struct {
    scene s;
    bool  quick; /* else with LONG=1 */
} scenes[] = {
    {{{"mlp", false, 0.1, 8, 2, 0}, "rel=0.1", "plain", "off", NULL, 120}, true},
    {{{"mlp", false, 0.1, 256, 8, 0}, "rel=0.1", "plain", "off", NULL, 60}, false},
    {{{"mlp", false, 0.1, 64, 4, 0}, "rel=0.03", "layer", "on", NULL, 120}, true},
    {{{"mlp", true, 0.003, 32, 3, 0}, "rel=0.1", "optimizer", "auto", NULL, 120}, true},
    {{{"mlp", true, 0.003, 256, 4, 0}, "rel=0.3", "optimizer", "auto", NULL, 80}, false},
    {{{"mlp", false, 0.1, 128, 4, 0}, "like:quant:bits=4", "layer", "off", "quant:bits=4", 100}, true},
    {{{"mlp", false, 0.1, 16, 2, 0}, "like:quant:bits=2", "plain", "off", "quant:bits=2", 120}, false},
    {{{"lstm", false, 0.5, 8, 2, 0}, "rel=0.1", "layer", "on", NULL, 80}, true},
    {{{"lstm", true, 0.005, 8, 4, 0}, "rel=0.2", "optimizer", "auto", NULL, 80}, false},
    {{{"lstm", false, 0.5, 16, 4, 0}, "like:quant:bits=4", "layer", "off", "quant:bits=4", 60}, false},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

static void run_scene(const scene *c, scene_result *all)
{
    char         why[512];
    scene_result r = scene_run(c, why);
    ck_assert_msg(!*why, "%s", why);
    ck_assert_int_gt(r.planned, c->steps / 2);
    ck_assert_int_le(r.over, r.planned / 20 + 1); /* of all scenes together: 1 of 100 */
    ck_assert_int_eq(r.unseen, 0);
    ck_assert_double_ge(r.used / r.planned, 0.6);
    ck_assert_double_le(r.control, 0.06);
    ck_assert_double_le(r.first, 1.2); /* a prediction, with its interval; not over it on average, below */
    all->planned += r.planned, all->over += r.over, all->used += r.used, all->inside += r.inside;
}

START_TEST(keeps_the_budget)
{
    scene_result all = {0};
    for (int i = 0; i < SCENES; i++)
        if (getenv("SCENE") ? atoi(getenv("SCENE")) == i : scenes[i].quick || suite_long())
            run_scene(&scenes[i].s, &all);
    printf("  %d of %d planned steps over, %.2f of the budget used, %.1f%% inside the interval\n", all.over,
           all.planned, all.used / all.planned, 100.0 * all.inside / all.planned);
    ck_assert_int_le(all.over, all.planned / 100);
    ck_assert_double_ge(all.used / all.planned, 0.7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("budget kept");
    TCase *t = suite_case(s, "budget kept", 500);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tcase_add_test(t, keeps_the_budget);
    return suite_run(s);
}
