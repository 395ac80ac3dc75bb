/* test_nccl_hosts.c : hierarchy=on over NCCL, by its double: sums within hosts by communicators of theirs, compressed exchanges among leaders. The same bytes
 * as by messages, where sums of floats are exact; lost ranks, and refusals when communicators are made, are told to all. It mostly waits. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "../support/suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const specs[] = {"quant:bits=4",     "grid", "grid:rel=0.1,code=rans",
                                    "topk:density=0.3", "fp16", "none",
                                    "powersgd:rank=2",  "auto", "stack:topk+fp16"};
enum { SPECS = sizeof specs / sizeof *specs };
static const struct {
    int ranks, host;
} shapes[] = {{4, 2}, {7, 3}, {6, 3}, {3, 3}, {5, 4}};
enum { SHAPES = sizeof shapes / sizeof *shapes, TIMEOUT_MS = 1500 };

static void setup_double(int host)
{
    char text[16];
    snprintf(text, sizeof text, "%d", host);
    setenv("TAUT_FAKE_HOSTS", text, 1), setenv("TAUT_HIERARCHY", "on", 1);
    mock_open(), nccl_double_open();
}
static void teardown_double(void)
{
    ck_assert_int_eq(nccl_double_left(), 0);
    nccl_double_close();
    mock_close();
}

/* Gradients are small whole numbers, so the host's sum is the same in whatever order; those of factors only of two leaders. */
static bool same_by_nccl(setup s)
{
    int leaders = (s.ranks + atoi(getenv("TAUT_FAKE_HOSTS")) - 1) / atoi(getenv("TAUT_FAKE_HOSTS"));
    s.nccl = s.whole = true;
    trial *host = trial_run(s, HOST), *device = NULL;
    bool   works = host->of[0].status == TAUT_OK;
    if (works) device = trial_run(s, DEVICE);
    if (works && (strncmp(s.spec, "powersgd", 8) != 0 || leaders <= 2)) trial_compare(host, device);
    if (works) ck_assert(nccl_double_operations() > 0 || s.dtype != TAUT_F32);
    if (device) trial_free(device);
    trial_free(host);
    device_left_empty();
    return works;
}

START_TEST(same_bytes)
{
    for (int shape = 0; shape < SHAPES; shape++) {
        static const char *const algorithms[] = {"auto", "sra", "native", "ring", "gather"};
        setup                    s = setup_of(specs[_i], shapes[shape].ranks);
        s.algorithm = algorithms[(_i + shape) % 5];
        s.dtype = shape == 1 && _i % 3 == 0 ? TAUT_BF16 : TAUT_F32; /* which does not use the hierarchy */
        s.poison = shape == 2 ? 1 : -1;
        s.scale = (_i + shape) % 4;
        setup_double(shapes[shape].host);
        if (!same_by_nccl(s)) {
            s.algorithm = "auto";
            ck_assert_msg(same_by_nccl(s), "%s", specs[_i]);
        }
        teardown_double();
    }
}
END_TEST

START_TEST(late_and_lazy)
{
    setup s = setup_of(specs[_i], 6);
    setup_double(2 + _i % 2);
    nccl_double_delay(_i % 2 ? 1500 : 0);
    nccl_double_lazy(_i % 3 ? 5 : 0);
    nccl_double_version(_i % 4 ? 22809 : 22703);
    ck_assert(same_by_nccl(s));
    teardown_double();
}
END_TEST

/* ---- layers in another order on each rank ---- */

enum { LAYERS = 6 };

static taut_status orders_body(ranks_ctx *c)
{
    static const char *const of[LAYERS] = {"quant:bits=4", "grid", "topk", "none", "quant:bits=8", "fp16"};
    taut_layer              *l[LAYERS];
    buffer                   b[LAYERS];
    taut_place               place[LAYERS];
    setup                    s = setup_of("none", c->size);
    char                     name[32];
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    for (int i = 0; i < LAYERS; i++) {
        snprintf(name, sizeof name, "layer%d", i);
        place[i] = mock_stream();
        buffer_make(&b[i], true, place[i], N * sizeof(float));
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[i]));
        TAUT_TRY(taut_layer_codec(l[i], of[i]));
    }
    for (int step = 0; step < 4; step++) {
        for (int k = 0; k < LAYERS; k++) {
            int i = (k * 5 + c->rank * (step + 1)) % LAYERS;
            buffer_fill(&s, c->rank, step, N, b[i].here);
            TAUT_TRY(buffer_start(l[i], &b[i]));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < LAYERS; i++) {
            mock_read(b[i].here, b[i].at, b[i].bytes);
            TAUT_TRY(ranks_same(c->comm, b[i].here, b[i].bytes));
        }
    }
    for (int i = 0; i < LAYERS; i++) {
        taut__memory_of(place[i].space)->wait(place[i]);
        mock_stream_end(place[i]);
        buffer_drop(&b[i]);
    }
    return TAUT_OK;
}
START_TEST(orders)
{
    setup       s = setup_of("none", 6);
    taut_config cfg = setup_config(&s);
    cfg.algorithm = "auto";
    setup_double(2 + _i);
    nccl_double_delay(300);
    ranks_ok(6, &cfg, orders_body, NULL);
    device_left_empty();
    teardown_double();
}
END_TEST

/* ---- faults ---- */

typedef struct job {
    nccl_fault  what;
    int         rank, nth;
    taut_status status[MOST];
    char        error[MOST][400];
} job;

static taut_status fault_body(ranks_ctx *c)
{
    job        *j = c->arg;
    taut_layer *w;
    buffer      x;
    taut_place  place = mock_stream();
    setup       s = setup_of("none", c->size);
    taut_status status = TAUT_OK;
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "fc1.weight", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, "quant:bits=4"));
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    if (c->rank == 0) nccl_double_fault(j->what, j->rank, j->nth);
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    for (int step = 0; step < 3 && status == TAUT_OK; step++) {
        buffer_fill(&s, c->rank, step, N, x.here);
        status = buffer_start(w, &x);
        if (status == TAUT_OK) status = taut_wait(w);
        if (status == TAUT_OK) status = taut_step_end(c->comm);
    }
    j->status[c->rank] = status;
    snprintf(j->error[c->rank], sizeof j->error[c->rank], "%s", taut_last_error());
    buffer_end(c, &x, place);
    return TAUT_OK;
}
/* Rank numbers are those within a communicator: 0 is each leader. */
START_TEST(faults)
{
    static const nccl_fault what[] = {NCCL_REFUSES, NCCL_ASYNC, NCCL_LOST};
    setup                   s = setup_of("none", 4);
    taut_config             cfg = setup_config(&s);
    job                     j = {.what = what[_i % 3], .rank = _i / 3 % 2, .nth = 1 + _i / 3};
    cfg.algorithm = "auto";
    cfg.timeout_ms = TIMEOUT_MS;
    setup_double(2);
    ranks_ok(4, &cfg, fault_body, &j);
    for (int r = 0; r < 4; r++)
        ck_assert_msg(j.status[r] != TAUT_OK && strstr(j.error[r], "fc1.weight"), "rank %d: %d %s", r, j.status[r],
                      j.error[r]);
    device_left_empty();
    teardown_double();
}
END_TEST

/* A rank that cannot: no rank has any communicator, and it can be done again. */
static taut_status one_cannot_body(ranks_ctx *c)
{
    taut_place  place = c->rank == 3 ? (taut_place){.space = TAUT_CUDA} : mock_place();
    taut_status s = taut__comm_open_nccl(c->comm, place);
    NEED(s == TAUT_E_UNSUPPORTED);
    NEED(!c->comm->ctx.local.data && !c->comm->ctx.leaders.data && c->comm->ctx.hierarchical);
    return taut__comm_open_nccl(c->comm, mock_place());
}
START_TEST(one_cannot)
{
    setup       s = setup_of("none", 4);
    taut_config cfg = setup_config(&s);
    setup_double(2);
    ranks_ok(4, &cfg, one_cannot_body, NULL);
    teardown_double();
}
END_TEST

/* An id that cannot be had: of rank 0 for all, then of leaders. Who had wanted it says what failed, the others who that was. */
static taut_status no_id_body(ranks_ctx *c)
{
    int *failed = c->arg;
    NEED(taut__comm_open_nccl(c->comm, mock_place()) == TAUT_E_TRANSPORT);
    NEED(strstr(taut_last_error(), "ncclGetUniqueId"));
    failed[c->rank] = strncmp(taut_last_error(), "rank ", 5) == 0 ? atoi(taut_last_error() + 5) : c->rank;
    return taut__comm_open_nccl(c->comm, mock_place());
}
START_TEST(no_id)
{
    setup       s = setup_of("none", 4);
    taut_config cfg = setup_config(&s);
    int         failed[4];
    setup_double(2);
    nccl_double_fault(NCCL_NO_ID, 0, 1 + _i);
    ranks_ok(4, &cfg, no_id_body, failed);
    for (int r = 0; r < 4; r++) ck_assert_int_eq(failed[r], failed[0]);
    ck_assert_int_eq(failed[0] % 2, 0); /* a leader */
    teardown_double();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nccl hosts");
    TCase *t = suite_case(s, "hosts", 60);
    tcase_add_loop_test(t, same_bytes, 0, SPECS);
    tcase_add_loop_test(t, late_and_lazy, 0, SPECS);
    tcase_add_loop_test(t, orders, 0, 2);
    tcase_add_loop_test(t, faults, 0, 12);
    tcase_add_test(t, one_cannot);
    tcase_add_loop_test(t, no_id, 0, 4);
    return suite_run(s);
}
