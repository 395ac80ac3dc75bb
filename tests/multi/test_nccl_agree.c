/* test_nccl_agree.c : what ranks agree on where gradients lie, over many steps, by the double of NCCL: the same bytes, and error feedback, as by
 * messages, while gradients become others, hold a NaN on one rank, overflow their slots, and scales come and go; and a checkpoint of either goes on in
 * the other. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_STEPS = 22, HALF = 11 };

static const struct {
    const char *spec, *algorithm, *feedback;
} kinds[] = {
    {"grid:rel=0.1", "sra", "on"},     {"grid:rel=0.03,code=rans", "gather", "off"}, {"grid:rel=0.05", "native", "on"},
    {"grid:step=0.01", "sra", "auto"}, {"topk:density=0.05", "sra", "auto"},         {"grid:rel=0.2", "ring", "off"},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct run {
    int      kind;
    bool     there, resumes; /* resumes: from `saved` of another run, at step HALF */
    uint64_t result[MOST][LONG_STEPS];
    uint8_t *saved[MOST];
    size_t   bytes[MOST];
} run;

/* Of step 0.. HALF even noise, then such with few large elements, then larger; one NaN. */
static float element(int rank, int step, size_t i)
{
    uint64_t h = taut__mix64((uint64_t)i * 31 + (uint64_t)(step * 7 + rank) * 1000003);
    float    even = (float)((double)(h >> 11) * 0x1p-52 - 1);
    if (step == 14 && rank == 1 && i == 77) return NAN;
    if (step < 6) return even;
    return (i % 97 == (size_t)step % 5 ? 50 : 0.02f) * even * (step < 16 ? 1 : 9);
}

static taut_status step_of(ranks_ctx *c, taut_layer *w, buffer *x, int step, bool resumed)
{
    static float scale[ROWS];
    for (size_t i = 0; i < N; i++) ((float *)(void *)x->here)[i] = element(c->rank, step, i);
    if ((step == 3 || resumed) && c->rank == 0)
        for (int i = 0; i < ROWS; i++) scale[i] = 0.5f + (float)i / ROWS;
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    if (step == 4 || resumed) TAUT_TRY(taut_layer_scale(w, scale, ROWS));
    if (step == 18) TAUT_TRY(taut_layer_scale(w, NULL, 0));
    TAUT_TRY(buffer_start(w, x));
    TAUT_TRY(taut_wait(w));
    return taut_step_end(c->comm);
}

static taut_status save(ranks_ctx *c, run *r)
{
    TAUT_TRY(taut_state_save(c->comm, NULL, 0, &r->bytes[c->rank]));
    r->saved[c->rank] = malloc(r->bytes[c->rank]);
    return taut_state_save(c->comm, r->saved[c->rank], r->bytes[c->rank], &r->bytes[c->rank]);
}

static taut_status body(ranks_ctx *c)
{
    run        *r = c->arg;
    taut_place  place = r->there ? mock_stream() : (taut_place){0};
    taut_layer *w;
    buffer      x;
    taut_status s = TAUT_OK;
    buffer_make(&x, r->there, place, N * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, kinds[r->kind].spec));
    if (r->there) TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    if (r->resumes) TAUT_TRY(taut_state_load(c->comm, r->saved[c->rank], r->bytes[c->rank]));
    for (int step = r->resumes ? HALF : 0; step < LONG_STEPS && s == TAUT_OK; step++) {
        s = step_of(c, w, &x, step, r->resumes && step == HALF);
        r->result[c->rank][step] = buffer_result(&x);
        if (s == TAUT_OK && step + 1 == HALF && !r->resumes) s = save(c, r);
    }
    if (r->there) taut__memory_of(place.space)->wait(place);
    if (r->there) mock_stream_end(place);
    buffer_drop(&x);
    return s;
}

static void run_all(run *r, int ranks)
{
    setup s = setup_of(kinds[r->kind].spec, ranks);
    s.algorithm = kinds[r->kind].algorithm, s.feedback = kinds[r->kind].feedback;
    taut_config cfg = setup_config(&s);
    if (r->there) mock_open(), nccl_double_open();
    ranks_ok(ranks, &cfg, body, r);
    if (r->there) {
        device_left_empty();
        ck_assert_int_eq(nccl_double_left(), 0);
        nccl_double_close(), mock_close();
    }
}

static void same_results(const run *a, const run *b, int ranks, int from)
{
    for (int q = 0; q < ranks; q++)
        for (int k = from; k < LONG_STEPS; k++)
            ck_assert_msg(a->result[q][k] == b->result[q][k], "%s %s: rank %d of %d, step %d", kinds[a->kind].spec,
                          kinds[a->kind].algorithm, q, ranks, k);
}

START_TEST(many_steps)
{
    for (int ranks = 2; ranks <= 3 + 2 * (_i % 2); ranks++) {
        run host = {.kind = _i}, device = {.kind = _i, .there = true};
        run_all(&host, ranks), run_all(&device, ranks);
        same_results(&host, &device, ranks, 0);
        /* what the device has left goes on on the host, and the reverse */
        run back = {.kind = _i, .resumes = true}, forth = {.kind = _i, .resumes = true, .there = true};
        memcpy(back.saved, device.saved, sizeof back.saved), memcpy(back.bytes, device.bytes, sizeof back.bytes);
        memcpy(forth.saved, host.saved, sizeof forth.saved), memcpy(forth.bytes, host.bytes, sizeof forth.bytes);
        run_all(&back, ranks), run_all(&forth, ranks);
        same_results(&host, &back, ranks, HALF), same_results(&host, &forth, ranks, HALF);
        for (int q = 0; q < ranks; q++) free(host.saved[q]), free(device.saved[q]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nccl agreement");
    TCase *t = suite_case(s, "agreement", 120);
    tcase_add_loop_test(t, many_steps, 0, KINDS);
    return suite_run(s);
}
