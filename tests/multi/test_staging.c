/* test_staging.c : layers on a device without a data half: what passes through host memory is compressed bytes alone, in memory that is pinned for the
 * device, so that copies need no help of the processor's. */
#include "tests/support/device_case.h"
#include "../support/suite.h"
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char *spec, *algorithm;
    size_t      times;          /* the layer, of ROWS x COLS; 0: a small one */
    size_t      pageable[MOST]; /* of all ranks, in the last step */
    uint64_t    result[MOST];
} job;

static taut_status body(ranks_ctx *c)
{
    job        *j = c->arg;
    taut_layer *w;
    buffer      x;
    taut_place  place = mock_stream();
    setup       s = setup_of(j->spec, c->size);
    taut_status status = TAUT_OK;
    bool        small = j->times == 0;
    size_t      shape[] = {small ? SMALL : j->times * ROWS, COLS}, n = small ? SMALL : j->times * N;
    buffer_make(&x, true, place, n * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, small ? 1 : 2, shape, &w));
    if (!small) TAUT_TRY(taut_layer_codec(w, j->spec));
    for (int step = 0; step < STEPS && status == TAUT_OK; step++) {
        buffer_fill(&s, c->rank, step, n, x.here);
        TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
        size_t before = mock_left().pageable;
        TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
        status = buffer_start(w, &x);
        if (status == TAUT_OK) status = taut_step_end(c->comm);
        TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
        j->pageable[c->rank] = mock_left().pageable - before;
    }
    j->result[c->rank] = buffer_result(&x);
    buffer_end(c, &x, place);
    return status;
}

static void run(job *j, int ranks)
{
    setup       s = setup_of(j->spec, ranks);
    taut_config cfg = setup_config(&s);
    cfg.algorithm = j->algorithm;
    ranks_ok(ranks, &cfg, body, j);
    device_left_empty();
}

static const struct {
    const char *spec, *algorithm;
} cases[] = {{"quant:bits=4", "sra"}, {"quant:bits=4", "gather"},          {"quant:bits=4", "ring"}, {"fp16", "auto"},
             {"grid", "sra"},         {"grid:rel=0.05,code=rans", "auto"}, {"topk", "auto"},         {"none", "auto"}};

/* Besides the test's own copies of gradients to the device: norms and statistics, which hardly grow with the layer. The shortest payloads here take
 * 5000 bytes more on each rank for the larger one; statistics are looked at slice by slice, of which it has one more. */
static size_t besides(size_t which, size_t times, int ranks)
{
    job    j = {.spec = cases[which].spec, .algorithm = cases[which].algorithm, .times = times};
    size_t most = 0;
    mock_open();
    run(&j, ranks);
    for (int r = 0; r < ranks; r++) most = taut__max(most, j.pageable[r] - (size_t)ranks * times * N * sizeof(float));
    mock_close();
    return most;
}

START_TEST(pinned)
{
    enum { TIMES = 5, MORE = 2500 };
    for (int ranks = 2; ranks <= 3; ranks++) {
        size_t one = besides((size_t)_i, 1, ranks), all = besides((size_t)_i, TIMES, ranks);
        ck_assert_msg(one < 8192 * (size_t)ranks && all <= one + MORE * (size_t)ranks,
                      "%s %s, %d ranks: %zu and %zu bytes besides", cases[_i].spec, cases[_i].algorithm, ranks, one,
                      all);
    }
}
END_TEST

/* Small layers pass through host memory as they are, in and out, in the order of the program's stream. */
START_TEST(small_layers)
{
    job j = {.spec = "none", .algorithm = "auto"};
    mock_open();
    run(&j, 2);
    for (int r = 0; r < 2; r++) ck_assert_uint_eq(j.pageable[r], 2 * SMALL * sizeof(float)); /* the test's own */
    mock_close();
}
END_TEST

/* Where nothing can be pinned, results are the same. */
START_TEST(cannot_be_pinned)
{
    job a = {.spec = cases[_i].spec, .algorithm = cases[_i].algorithm, .times = 1}, b = a;
    mock_open();
    run(&a, 3);
    mock_fail(MOCK_PIN, 1);
    run(&b, 3);
    ck_assert(mock_failed());
    for (int r = 0; r < 3; r++) ck_assert_uint_eq(a.result[r], b.result[r]);
    mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("staging");
    TCase *t = suite_case(s, "staging", 60);
    tcase_add_loop_test(t, pinned, 0, sizeof cases / sizeof *cases);
    tcase_add_test(t, small_layers);
    tcase_add_loop_test(t, cannot_be_pinned, 0, 3);
    return suite_run(s);
}
