/* test_agree.c : most calls of grid exchange a few numbers instead of all statistics: the error asked for is still met, whatever
 * the gradients do from call to call, and a rank that has forgotten makes all of them exchange everything again. Ranks are
 * threads. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 96, COLS = 100, N = ROWS * COLS, CALLS = 20 };

typedef struct plan {
    const char *spec;
    double      rel;          /* asked for */
    float       size[CALLS];  /* the inputs of call k are this large; NAN: rank 0 has a NaN among them */
    int         shape[CALLS]; /* of this distribution; LEVELS: of whose error nothing is asked */
    int         forgets;      /* before this call rank 1 loses what it knows; 0: never */
    uint64_t    sent[CALLS];  /* out: bytes, rank 0 */
} plan;

enum { EVEN, HEAVY, SPARSE, LEVELS, SHAPES };

static float value(int shape, int rank, size_t i, int k)
{
    float v = ranks_value(rank, i, k);
    switch (shape) {
    case HEAVY: return v * v * v * v * v;
    case SPARSE: return (i * 2654435761u >> 8) % 64 == (size_t)k % 64 ? v : 0;
    case LEVELS: return v < 0 ? -0.5f : 0.5f;
    default: return v;
    }
}

static taut_status one_call(ranks_ctx *c, taut_layer *l, float *x, int k)
{
    plan  *p = c->arg;
    float  size = isnan(p->size[k]) ? 1 : p->size[k];
    double error = 0, own = 0;
    for (size_t i = 0; i < N; i++) x[i] = size * value(p->shape[k], c->rank, i, k);
    if (isnan(p->size[k]) && c->rank == 0) x[77] = NAN;
    if (p->forgets == k && k > 0 && c->rank == 1) {
        taut__agree_release(&l->reduction);
        TAUT_TRY(taut__agree_prepare(&l->reduction));
    }
    TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
    if (isnan(p->size[k])) {
        NEED(isnan(x[77]) && isfinite(x[78]));
        return TAUT_OK;
    }
    for (size_t i = 0; i < N; i++) {
        double sum = 0;
        for (int r = 0; r < c->size; r++) {
            double v = size * value(p->shape[k], r, i, k);
            sum += v, own += v * v;
        }
        error += ((double)x[i] - sum) * ((double)x[i] - sum);
    }
    if (p->shape[k] == LEVELS) return TAUT_OK;
    /* ranks' errors are independent: they add as squares, within a few percent; more where few elements make them */
    NEED(error <= (p->shape[k] == EVEN ? 1.06 : 1.6) * p->rel * own);
    NEED(l->reduction.record.own.plain == 0 || error > 0);
    return TAUT_OK;
}

static taut_status body(ranks_ctx *c)
{
    plan       *p = c->arg;
    taut_layer *l;
    float      *x = malloc(N * sizeof *x);
    uint64_t    before = 0;
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut_layer_codec(l, p->spec));
    for (int k = 0; k < CALLS; k++) {
        TAUT_TRY(one_call(c, l, x, k));
        if (c->rank == 0) p->sent[k] = l->bytes_sent - before;
        before = l->bytes_sent;
    }
    free(x);
    return taut_step_end(c->comm);
}

static void run(plan *p, int ranks)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 20000;
    cfg.codec = "none"; /* layers have their own: no speeds to be measured */
    ranks_ok(ranks, &cfg, body, p);
}

static const int ranks_of[] = {2, 3, 4, 7};

START_TEST(error_is_met_while_sizes_change)
{
    plan p = {.spec = "grid:rel=0.02", .rel = 0.02};
    for (int k = 0; k < CALLS; k++) p.size[k] = ldexpf(1, (k * 5) % 11 - 5);
    run(&p, ranks_of[_i]);
    ck_assert_uint_gt(p.sent[0], p.sent[1] + 1500); /* a histogram */
    ck_assert_uint_gt(p.sent[8], p.sent[9] + 1500); /* every eighth call */
}
END_TEST

/* All statistics are those of another distribution: which the few must notice. */
START_TEST(error_is_met_while_shapes_change)
{
    for (int shape = EVEN; shape < SHAPES; shape++) {
        plan p = {.spec = _i % 2 ? "grid:rel=0.005,code=rans" : "grid:rel=0.02", .rel = _i % 2 ? 0.005 : 0.02};
        for (int k = 0; k < CALLS; k++)
            p.size[k] = 1 + (float)(k % 3), p.shape[k] = k % 8 < 3 ? shape : (shape + k) % SHAPES;
        run(&p, ranks_of[_i]);
    }
}
END_TEST

/* Where they stay, the few suffice: at most every other call where few elements make the norm, since these are never the same. */
START_TEST(shapes_that_stay_are_seldom_exchanged)
{
    for (int shape = EVEN; shape < SHAPES; shape++) {
        plan p = {.spec = "grid:rel=0.02", .rel = 0.02};
        int  full = 0, due = CALLS / 8 + 1;
        for (int k = 0; k < CALLS; k++) p.size[k] = 1 + (float)(k % 3), p.shape[k] = shape;
        run(&p, ranks_of[_i]);
        for (int k = 0; k < CALLS; k++) full += p.sent[k] + 1000 > p.sent[0];
        ck_assert_msg(full <= (shape == EVEN || shape == LEVELS ? due : CALLS / 2), "shape %d: %d of %d calls", shape,
                      full, CALLS);
    }
}
END_TEST

START_TEST(zero_and_nan_between)
{
    plan p = {.spec = "grid:rel=0.05,code=rans", .rel = 0.05};
    for (int k = 0; k < CALLS; k++) p.size[k] = k % 7 == 3 ? 0 : k % 9 == 5 ? NAN : 1 + (float)k;
    run(&p, ranks_of[_i]);
}
END_TEST

START_TEST(zero_at_first)
{
    plan p = {.spec = "grid:rel=0.05", .rel = 0.05};
    for (int k = 2; k < CALLS; k++) p.size[k] = 3;
    run(&p, ranks_of[_i]);
    ck_assert_uint_gt(p.sent[2], p.sent[3] + 1500); /* nothing was known of the distribution: a histogram */
    ck_assert_uint_lt(p.sent[2], 2 * N);
}
END_TEST

START_TEST(one_rank_has_forgotten)
{
    plan p = {.spec = "grid:rel=0.02", .rel = 0.02, .forgets = 4};
    for (int k = 0; k < CALLS; k++) p.size[k] = 1;
    run(&p, ranks_of[_i]);
    ck_assert_uint_gt(p.sent[4], p.sent[3] + 1500);
    ck_assert_uint_lt(p.sent[5] + 1500, p.sent[4]);
}
END_TEST

START_TEST(a_given_step_needs_no_shape)
{
    plan p = {.spec = "grid:step=0.001", .rel = 1e-3};
    for (int k = 0; k < CALLS; k++) p.size[k] = 1 + (float)(k % 3);
    run(&p, ranks_of[_i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agree");
    TCase *t = suite_case(s, "all", 120);
    int    n = (int)(sizeof ranks_of / sizeof *ranks_of);
    tcase_add_loop_test(t, error_is_met_while_sizes_change, 0, n);
    tcase_add_loop_test(t, error_is_met_while_shapes_change, 0, n);
    tcase_add_loop_test(t, shapes_that_stay_are_seldom_exchanged, 0, n);
    tcase_add_loop_test(t, zero_and_nan_between, 0, n);
    tcase_add_loop_test(t, zero_at_first, 0, n);
    tcase_add_loop_test(t, one_rank_has_forgotten, 0, n);
    tcase_add_loop_test(t, a_given_step_needs_no_shape, 0, n);
    return suite_run(s);
}
