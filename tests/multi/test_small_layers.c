/* test_small_layers.c : small and one-dimensional layers under codec=auto: their bucket is planned for as one layer, with 8 bits and more; which rounds
 * go that way; what programs see of it. */
#include "../support/truth.h"
#include "../support/suite.h"
#include "tests/support/ranks.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- plans ---- */

enum { STEPS = 16, MATRICES = 2, LAYERS = 14 };
static const truth_shape shapes[LAYERS] = {
    {"a", 128, 96}, {"n1", 1, 128}, {"n2", 1, 512}, {"n3", 1, 96},  {"b", 96, 64},   {"n4", 1, 64},   {"n5", 1, 127},
    {"n6", 1, 130}, {"n7", 1, 384}, {"n8", 1, 200}, {"n9", 1, 128}, {"n10", 1, 256}, {"n11", 1, 128}, {"n12", 1, 60},
};

static double gaussian(uint64_t seed, uint64_t i)
{
    double u = ((double)(taut__seed(seed, 2 * i) >> 11) + 0.5) * 0x1p-53,
           v = (double)(taut__seed(seed, 2 * i + 1) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Layers differ by up to a million times in size. */
static void fill(truth *t, int rank, int step, int layer, float *g)
{
    double size = pow(10, layer % 7 - 3);
    for (size_t i = 0; i < t->shape[layer].rows * t->shape[layer].cols; i++)
        g[i] = (float)(size * gaussian((uint64_t)(1000 * step + 20 * layer + rank), i));
}

static bool is_small(int layer) { return shapes[layer].rows == 1; }

START_TEST(are_planned_for)
{
    static const struct {
        const char *budget, *objective, *link;
        int         ranks;
        bool        compresses;
    } of[] = {{"rel=0.05", "bytes", "measure", 2, true},   {"like:quant:bits=4", "bytes", "measure", 3, true},
              {"rel=0.05", "bytes", "measure", 4, true},   {"rel=0.3", "time", "1mbit", 2, true},
              {"rel=1e-13", "bytes", "measure", 2, false}, {"rel=0.05", "time", "400gbit", 2, false}};
    static truth_step step[STEPS];
    taut_config       cfg = TAUT_CONFIG_INIT;
    cfg.budget = of[_i].budget, cfg.objective = of[_i].objective, cfg.link = of[_i].link;
    cfg.metric = "plain", cfg.timeout_ms = 30000, cfg.replan_steps = 6;
    truth t = {.ranks = of[_i].ranks,
               .layers = LAYERS,
               .steps = STEPS,
               .shape = shapes,
               .cfg = cfg,
               .gradient = fill,
               .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    ck_assert(t.same_bits);
    const truth_step *last = &step[STEPS - 1];
    for (int l = 0; l < LAYERS; l++) {
        double lost = last->layer_error[l] / last->layer_norm[l];
        printf("  %s %s %d ranks: %s %s %.2e\n", of[_i].budget, of[_i].objective, t.ranks, shapes[l].name, t.spec[l],
               lost);
        if (!is_small(l)) continue;
        ck_assert(of[_i].compresses != (strcmp(t.spec[l], "none") == 0));
        ck_assert_double_le(lost, 2e-4); /* 8 bits in buckets of its own, twice, whatever its neighbours are */
    }
    for (int s = 0; s < STEPS; s++)
        ck_assert(step[s].counted || !step[s].planned || step[s].rel <= 1.1 * step[s].stats.budget + 1e-13);
}
END_TEST

/* Few elements are planned for, too, as long as a bundle's statistics are far less than what it saves: as the biases of a multilayer perceptron of 128 are. */
START_TEST(few_are_planned_for_from_512_elements_on)
{
    static const truth_shape shape[2][4] = {{{"w", 128, 128}, {"b1", 1, 256}, {"b2", 1, 256}, {"b3", 1, 10}},
                                            {{"w", 128, 128}, {"b1", 1, 128}, {"b2", 1, 256}, {"b3", 1, 10}}};
    static truth_step        step[STEPS];
    taut_config              cfg = TAUT_CONFIG_INIT;
    cfg.budget = "rel=0.1", cfg.objective = "bytes", cfg.metric = "plain", cfg.timeout_ms = 30000, cfg.replan_steps = 6;
    truth t = {.ranks = 2, .layers = 4, .steps = STEPS, .shape = shape[_i], .cfg = cfg, .gradient = fill, .step = step};
    truth_run(&t);
    ck_assert_msg(t.status == TAUT_OK, "%s", t.why);
    ck_assert(t.same_bits);
    for (int l = 1; l < 4; l++) {
        ck_assert_msg((strcmp(t.spec[l], "none") != 0) == (_i == 0), "%s: %s", shape[_i][l].name, t.spec[l]);
        ck_assert_double_le(step[STEPS - 1].layer_error[l] / step[STEPS - 1].layer_norm[l], 2e-4);
    }
}
END_TEST

/* ---- what programs see ---- */

enum { N = 700, SMALL = 3 };
static const char *const name[SMALL] = {"s0", "s1", "s2"};

static taut_status three(taut_comm *comm, taut_layer **l)
{
    size_t n = N;
    for (int i = 0; i < SMALL; i++) TAUT_TRY(taut_layer_register(comm, name[i], TAUT_F32, 1, &n, &l[i]));
    return TAUT_OK;
}

static void values(const ranks_ctx *c, float x[][N], int n, int step)
{
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < N; k++) x[i][k] = ranks_value(c->rank, k + (size_t)(N * i), step);
}

static double worst(const ranks_ctx *c, const float *x, int i, int step)
{
    double most = 0;
    for (size_t k = 0; k < N; k++)
        most = fmax(most, fabs((double)x[k] - ranks_sum(c->size, k + (size_t)(N * i), step)));
    return most;
}

/* All started: coded, once there is a plan. One by one, or without one of them: exact sums. */
static taut_status rounds(ranks_ctx *c)
{
    taut_layer      *l[SMALL];
    float            x[SMALL][N];
    taut_layer_stats s = {.size = sizeof s};
    TAUT_TRY(three(c->comm, l));
    for (int step = 0; step < 12; step++) {
        int how = step < 6 ? 0 : step % 3; /* 0: together; 1: one by one; 2: the last one is missing */
        values(c, x, SMALL, step);
        for (int i = 0; i < SMALL - (how == 2); i++)
            TAUT_TRY(how == 1 ? taut_allreduce(l[i], x[i], TAUT_SUM) : taut_allreduce_start(l[i], x[i], TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < SMALL - (how == 2); i++) {
            TAUT_TRY(taut_layer_get_stats(l[i], &s));
            bool coded = strcmp(s.codec, "none") != 0;
            NEED(strcmp(s.algorithm, "fused") == 0 && strcmp(s.name, name[i]) == 0);
            NEED(!coded || how == 0);
            NEED(coded || how > 0 || step < 5); /* by then there is a plan */
            NEED(worst(c, x[i], i, step) < (coded ? 0.5 : 1e-5));
            TAUT_TRY(ranks_same(c->comm, x[i], sizeof x[i]));
        }
    }
    NEED(taut_comm_layers(c->comm) == SMALL && !taut_comm_layer(c->comm, SMALL));
    return TAUT_OK;
}

static taut_config cheap(void)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.budget = "rel=0.01", cfg.objective = "bytes", cfg.timeout_ms = 20000;
    return cfg;
}

START_TEST(go_by_rounds)
{
    taut_config cfg = cheap();
    cfg.progress = _i % 2 ? 2 : 0;
    ranks_ok(2 + _i, &cfg, rounds, NULL);
}
END_TEST

/* Layers that come late have a bucket, and a bundle, of their own; the program's numbers are in order of registration. */
static taut_status late(ranks_ctx *c)
{
    taut_layer *l[SMALL], *more[SMALL], *bad;
    float       x[2 * SMALL][N];
    size_t      n = N;
    char        text[8];
    TAUT_TRY(three(c->comm, l));
    NEED(taut_layer_register(c->comm, "taut: mine", TAUT_F32, 1, &n, &bad) == TAUT_E_INVALID);
    for (int step = 0; step < 20; step++) {
        int all = step < 6 ? SMALL : 2 * SMALL;
        for (int i = 0; step == 6 && i < SMALL; i++) {
            snprintf(text, sizeof text, "t%d", i);
            TAUT_TRY(taut_layer_register(c->comm, text, TAUT_F32, 1, &n, &more[i]));
        }
        values(c, x, all, step);
        for (int i = 0; i < all; i++)
            TAUT_TRY(taut_allreduce_start(i < SMALL ? l[i] : more[i - SMALL], x[i], TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < all; i++) NEED(worst(c, x[i], i, step) < 0.5);
    }
    NEED(taut_comm_layers(c->comm) == 2 * SMALL);
    for (int i = 0; i < 2 * SMALL; i++) {
        taut_layer_stats s = {.size = sizeof s};
        TAUT_TRY(taut_layer_get_stats(taut_comm_layer(c->comm, (size_t)i), &s));
        snprintf(text, sizeof text, "%c%d", i < SMALL ? 's' : 't', i % SMALL);
        NEED(strcmp(s.name, text) == 0 && strcmp(s.codec, "none") != 0);
        NEED(s.bytes_dense > 2 * s.bytes_sent && s.bytes_sent > 0);
    }
    return TAUT_OK;
}

START_TEST(may_come_late)
{
    taut_config cfg = cheap();
    ranks_ok(2, &cfg, late, NULL);
}
END_TEST

/* All members with a scale: errors count in its unit, and a single step suits them. Without one member's it does not count. */
static taut_status scaled(ranks_ctx *c)
{
    taut_layer      *l[SMALL];
    float            x[SMALL][N], scale[N];
    taut_layer_stats s = {.size = sizeof s};
    TAUT_TRY(three(c->comm, l));
    for (int step = 0; step < 24; step++) {
        for (int i = 0; i < SMALL; i++) {
            for (size_t k = 0; k < N; k++) scale[k] = (float)pow(100, i - 1) * (k % 2 ? 1 : 3);
            if (step < 12 || i != 1) TAUT_TRY(taut_layer_scale(l[i], scale, N));
            else TAUT_TRY(taut_layer_scale(l[i], NULL, 0));
            for (size_t k = 0; k < N; k++) x[i][k] = scale[k] * ranks_value(c->rank, k + (size_t)(N * i), step);
            TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < SMALL; i++) {
            double error = 0, norm = 0; /* in its unit, as long as all have one */
            for (size_t k = 0; k < N; k++) {
                double in_unit = pow(100, i - 1) * (k % 2 ? 1 : 3), sum = ranks_sum(c->size, k + (size_t)(N * i), step);
                double weight = step < 12 ? 1 : in_unit * in_unit, d = (double)x[i][k] / in_unit - sum;
                error += weight * d * d, norm += weight * sum * sum;
            }
            NEED(error < 4e-4 * norm); /* whatever its size */
            TAUT_TRY(ranks_same(c->comm, x[i], sizeof x[i]));
        }
        TAUT_TRY(taut_layer_get_stats(l[0], &s));
        if (step == 11) NEED(strncmp(s.codec, "grid:", 5) == 0);
        if (step == 23) NEED(strncmp(s.codec, "grid:", 5) != 0 && strcmp(s.codec, "none") != 0);
    }
    return TAUT_OK;
}

START_TEST(have_their_scales)
{
    taut_config cfg = cheap();
    cfg.metric = "optimizer", cfg.replan_steps = 6,
    cfg.budget = "rel=3e-4"; /* too little for buckets, whose values have several units */
    ranks_ok(2 + _i, &cfg, scaled, NULL);
}
END_TEST

/* However much of the budget is left, and however often plans are made: what is careful stays so. */
static taut_status left_over(ranks_ctx *c)
{
    enum { SIDE = 64 };
    taut_layer      *l[SMALL], *w;
    float            x[SMALL][N], y[SIDE * SIDE], one = 1;
    taut_layer_stats s = {.size = sizeof s};
    bool             coded = false;
    TAUT_TRY(three(c->comm, l));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){SIDE, SIDE}, &w));
    for (int step = 0; step < 64; step++) {
        values(c, x, SMALL, step);
        for (size_t i = 0; i < SIDE * SIDE; i++) /* dense, and then sparse: each wants a plan of its own */
            y[i] = i % (step / 8 % 2 ? 31 : 1) ? 0 : ranks_value(c->rank, i, step);
        TAUT_TRY(taut_layer_scale(w, &one, 1));
        TAUT_TRY(taut_allreduce_start(w, y, TAUT_SUM));
        for (int i = 0; i < SMALL; i++) {
            TAUT_TRY(taut_layer_scale(l[i], &one, 1));
            TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
        TAUT_TRY(taut_layer_get_stats(l[0], &s));
        if (strncmp(s.codec, "grid:rel=", 9) != 0) continue;
        coded = true;
        NEED(strtod(s.codec + 9, NULL) < 1.51e-4);
    }
    NEED(coded);
    return TAUT_OK;
}

START_TEST(stay_careful)
{
    taut_config cfg = cheap();
    cfg.metric = "optimizer", cfg.replan_steps = 4, cfg.budget = "rel=0.3";
    ranks_ok(2, &cfg, left_over, NULL);
}
END_TEST

/* Scales in place, written between steps: each step has its own; ranks whose scales differ are told. */
static taut_status in_place(ranks_ctx *c)
{
    bool         differs = *(const bool *)c->arg;
    taut_layer  *l[SMALL];
    static float lent[2][SMALL][N]; /* of either rank */
    float        x[SMALL][N];
    taut_status  s = TAUT_OK;
    TAUT_TRY(three(c->comm, l));
    for (int step = 0; step < 14 && s == TAUT_OK; step++) {
        bool odd = differs && step == 10 && c->rank == 1;
        for (int i = 0; i < SMALL; i++) {
            for (size_t k = 0; k < N; k++)
                lent[c->rank][i][k] = (float)(pow(100, i - 1) * (step % 3 + 1) * (odd && i == 1 && k == 7 ? 2 : 1));
            TAUT_TRY(taut_layer_scale_in_place(l[i], lent[c->rank][i], TAUT_HOST, 0));
            for (size_t k = 0; k < N; k++)
                x[i][k] = (float)(pow(100, i - 1) * (step % 3 + 1)) * ranks_value(c->rank, k + (size_t)(N * i), step);
            TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
        }
        s = taut_step_end(c->comm);
        if (differs && step == 10) {
            NEED(s == TAUT_E_MISMATCH && strstr(taut_last_error(), "small layers"));
            return TAUT_OK;
        }
        for (int i = 0; i < SMALL && s == TAUT_OK; i++) {
            for (size_t k = 0; k < N; k++) x[i][k] /= (float)(pow(100, i - 1) * (step % 3 + 1));
            NEED(worst(c, x[i], i, step) <
                 0.1); /* in the unit of the step: 0.65 of grid's step at most for each rank */
        }
    }
    return s;
}

START_TEST(have_scales_in_place)
{
    taut_config cfg = cheap();
    bool        differs = _i;
    cfg.metric = "optimizer", cfg.replan_steps = 6, cfg.budget = "rel=3e-4";
    ranks_ok(2, &cfg, in_place, &differs);
}
END_TEST

/* NaN on one rank reaches all, in that layer; what follows is as if nothing had been. */
static taut_status spoilt(ranks_ctx *c)
{
    taut_layer *l[SMALL];
    float       x[SMALL][N];
    TAUT_TRY(three(c->comm, l));
    for (int step = 0; step < 10; step++) {
        values(c, x, SMALL, step);
        if (step == 7 && c->rank == 1) x[1][5] = NAN;
        for (int i = 0; i < SMALL; i++) TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        NEED(isnan(x[1][5]) == (step == 7));
        for (int i = 0; i < SMALL; i += 2) NEED(worst(c, x[i], i, step) < 0.5);
    }
    return TAUT_OK;
}

START_TEST(carry_nan)
{
    taut_config cfg = cheap();
    ranks_ok(2 + _i, &cfg, spoilt, NULL);
}
END_TEST

/* A plan with a bundle, loaded where nothing is planned. */
static taut_status elsewhere(ranks_ctx *c)
{
    taut_layer *l[SMALL];
    float       x[SMALL][N];
    uint8_t   **blob = c->arg;
    size_t      len;
    bool        saves = !blob[c->rank];
    TAUT_TRY(three(c->comm, l));
    if (!saves) TAUT_TRY(taut_state_load(c->comm, blob[c->rank] + 8, *(size_t *)(void *)blob[c->rank]));
    for (int step = 0; step < 8; step++) {
        values(c, x, SMALL, step);
        for (int i = 0; i < SMALL; i++) TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < SMALL && !saves; i++) NEED(worst(c, x[i], i, step) < 1e-5);
    }
    if (!saves) return TAUT_OK;
    TAUT_TRY(taut_state_save(c->comm, NULL, 0, &len));
    blob[c->rank] = malloc(len + 8);
    memcpy(blob[c->rank], &len, sizeof len);
    return taut_state_save(c->comm, blob[c->rank] + 8, len, &len);
}

START_TEST(load_where_nothing_is_planned)
{
    taut_config cfg = cheap();
    uint8_t    *blob[2] = {0};
    ranks_ok(2, &cfg, elsewhere, blob);
    cfg.codec = "quant:bits=4";
    ranks_ok(2, &cfg, elsewhere, blob);
    free(blob[0]), free(blob[1]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("small_layers");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, are_planned_for, 0, 6);
    tcase_add_loop_test(t, few_are_planned_for_from_512_elements_on, 0, 2);
    tcase_add_loop_test(t, go_by_rounds, 0, 3);
    tcase_add_test(t, may_come_late);
    tcase_add_loop_test(t, have_their_scales, 0, 2);
    tcase_add_loop_test(t, have_scales_in_place, 0, 2);
    tcase_add_test(t, stay_careful);
    tcase_add_loop_test(t, carry_nan, 0, 2);
    tcase_add_test(t, load_where_nothing_is_planned);
    return suite_run(s);
}
