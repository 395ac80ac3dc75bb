/* Error feedback loses nothing: over 50 steps, what was decoded plus the last residual is what was put in. */
#include "compressors/feedback.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 48, COLS = 80, N = ROWS * COLS, STEPS = 50 };

static const char *const specs[] = {
    "none",
    "fp16",
    "bf16",
    "quant:bits=1",
    "quant:bits=4",
    "quant:bits=4,norm=l2,round=nearest",
    "topk",
    "topk:density=0.2",
    "randk:density=0.05",
    "powersgd:rank=2",
    "stack:topk+quant:bits=2",
    "stack:powersgd:rank=1+topk",
    "grid:rel=0.1",
};

/* Largest distance of put and got over the elements, relative to what passed through. */
static double worst(const double *put, const double *got, const double *size)
{
    double w = 0;
    for (size_t i = 0; i < N; i++) w = fmax(w, fabs(put[i] - got[i]) / (size[i] + 1e-30));
    return w;
}

START_TEST(nothing_is_lost)
{
    codec_case     k;
    taut_feedback *f;
    float         *g = new_floats(N), *y = new_floats(N);
    double        *put = calloc(N, sizeof *put), *got = calloc(N, sizeof *got), *size = calloc(N, sizeof *size);
    case_open(&k, specs[_i], ROWS, COLS);
    if (k.codec->caps & TAUT_CAP_STATEFUL)
        ck_assert_int_eq(taut__op_state_create(k.codec, &k.spec.stage[0], &k.tensor, 1, (taut_place){0}, &k.call.state),
                         TAUT_OK);
    ck_assert_int_eq(taut__feedback_create(N, 0, &f), TAUT_OK);
    for (uint64_t step = 0; step < STEPS; step++) {
        fill_normal(g, N, 0.01f, step);
        k.call.seed = k.call.shared_seed = step;
        taut__feedback_input(f, 0, N, TAUT_F32, g, false);
        for (size_t i = 0; i < N; i++) put[i] += g[i], size[i] += fabs(g[i]) + fabsf(f->r[i]);
        case_round_trip(&k, f->r, f->r, y);
        for (size_t i = 0; i < N; i++) got[i] += y[i], size[i] += fabs(y[i]);
    }
    for (size_t i = 0; i < N; i++) got[i] += f->r[i];
    ck_assert_double_le(worst(put, got, size), 3e-7);
    taut__feedback_destroy(f);
    free(g), free(y), free(put), free(got), free(size);
    case_close(&k);
}
END_TEST

/* DGC: with every gradient sent in the end, the sum that leaves is the sum of the momenta. */
START_TEST(momentum_is_conserved_where_nothing_is_sent)
{
    taut_feedback *f;
    const float    m = 0.5f;
    float          g[4] = {1, 2, 3, 4}, u[4] = {0}, v[4] = {0};
    ck_assert_int_eq(taut__feedback_create(4, m, &f), TAUT_OK);
    for (int step = 0; step < 3; step++) {
        taut__feedback_input(f, 0, 4, TAUT_F32, g, false);
        for (int i = 0; i < 4; i++) u[i] = m * u[i] + g[i], v[i] += u[i];
        ck_assert(memcmp(f->r, v, sizeof v) == 0 && memcmp(f->u, u, sizeof u) == 0);
    }
    f->r[1] = 0; /* sent */
    taut__feedback_output(f, 0, 4);
    ck_assert(f->u[1] == 0 && f->u[0] == u[0] && f->u[3] == u[3]);
    taut__feedback_destroy(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("conservation");
    TCase *t = suite_case(s, "property", 60);
    tcase_add_loop_test(t, nothing_is_lost, 0, sizeof specs / sizeof *specs);
    tcase_add_test(t, momentum_is_conserved_where_nothing_is_sent);
    return suite_run(s);
}
