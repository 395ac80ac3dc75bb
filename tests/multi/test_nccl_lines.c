/* test_nccl_lines.c : how fast NCCL is, given or measured, by its double: what grid's codes go by, and that it is agreed on. It mostly waits. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "comm/reduce/exchange.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char      *spec;
    bool             hosts;
    taut_status      opened[MOST];
    char             error[MOST][300];
    taut__data_lines lines[MOST];
    char             by[MOST][16];
    uint64_t         result[MOST];
} job;

static void setup_double(const char *link)
{
    mock_open(), nccl_double_open();
    setenv("TAUT_DATA_LINK", link, 1);
}
static void teardown_double(void)
{
    ck_assert_int_eq(nccl_double_left(), 0);
    nccl_double_close();
    mock_close();
}

static taut_status body(ranks_ctx *c)
{
    job        *j = c->arg;
    taut_layer *w;
    buffer      x;
    setup       s = setup_of(j->spec, c->size);
    taut_place  place = mock_stream();
    taut_status status = TAUT_OK;
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, j->spec));
    j->opened[c->rank] = taut__comm_open_nccl(c->comm, mock_place());
    snprintf(j->error[c->rank], sizeof j->error[c->rank], "%s", taut_last_error());
    j->lines[c->rank] = c->comm->ctx.lines;
    for (int step = 0; step < STEPS && status == TAUT_OK; step++) {
        buffer_fill(&s, c->rank, step, N, x.here);
        status = buffer_start(w, &x);
        if (status == TAUT_OK) status = taut_step_end(c->comm);
    }
    if (w->reduction.via) snprintf(j->by[c->rank], sizeof j->by[c->rank], "%s", w->reduction.via->name);
    j->result[c->rank] = buffer_result(&x);
    buffer_end(c, &x, place);
    return status;
}

static void run(job *j, int ranks, const char *link)
{
    setup       s = setup_of("none", ranks);
    taut_config cfg = setup_config(&s);
    cfg.algorithm = "auto";
    cfg.timeout_ms = suite_patience(5000);
    setup_double(link);
    ranks_ok(ranks, &cfg, body, j);
    device_left_empty();
    teardown_double();
}

/* Where a sum is said to be faster it is taken, and brings the same bytes; nothing else changes. */
START_TEST(given)
{
    static const struct {
        const char *spec, *link, *by;
    } of[] = {
        {"grid:rel=0.05", "off", "sra"},           {"grid:rel=0.05", "20,40,2,400", "native"},
        {"grid:rel=0.05", "20,40,2000,40", "sra"}, {"grid:rel=0.05,code=rans", "20,40,2,400", "native"},
        {"grid:step=0.01", "20,40,2,400", "sra"}, /* how long its codes are is not known */
        {"quant:bits=4", "20,40,2,400", "sra"},   /* whose codes cannot be added */
        {"topk", "20,40,2,400", "gather"},
    };
    for (int ranks = 3; ranks <= 4; ranks++) {
        job j = {.spec = of[_i].spec}, plain = {.spec = of[_i].spec};
        run(&j, ranks, of[_i].link), run(&plain, ranks, "off");
        for (int r = 0; r < ranks; r++) {
            ck_assert_msg(j.opened[r] == TAUT_OK, "%s", j.error[r]);
            if (strcmp(of[_i].spec, "topk") != 0)
                ck_assert_msg(strcmp(j.by[r], of[_i].by) == 0, "%s %s: by %s", of[_i].spec, of[_i].link, j.by[r]);
            ck_assert_uint_eq(j.result[r], plain.result[r]);
        }
    }
}
END_TEST

START_TEST(measured)
{
    job j = {.spec = "grid:rel=0.05"};
    run(&j, 2 + _i, "measure");
    for (int r = 0; r < 2 + _i; r++) {
        const taut__data_lines *l = &j.lines[r];
        ck_assert_msg(j.opened[r] == TAUT_OK, "%s", j.error[r]);
        ck_assert(memcmp(l, &j.lines[0], sizeof *l) == 0); /* the same on all ranks */
        ck_assert(l->move.beta > 0 && l->sum.beta > 0 && isfinite(l->move.beta) && isfinite(l->sum.beta));
        ck_assert(l->move.alpha >= 0 && l->sum.alpha >= 0 && l->move.alpha < 1 && l->sum.alpha < 1);
    }
}
END_TEST

/* What is measured decides, on all ranks alike, and layers of either side of the crossover go by what is faster there; with the same results. */
enum { NARROW = 64, WIDE = 1024 };

typedef struct crossing {
    char     by[2][MOST][16]; /* small, large */
    uint64_t result[2][MOST];
} crossing;

static taut_status crossing_body(ranks_ctx *c)
{
    static const size_t sides[] = {NARROW, WIDE};
    crossing           *k = c->arg;
    taut_layer         *w[2];
    setup               s = setup_of("grid:rel=0.05", c->size);
    taut_status         status = TAUT_OK;
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    for (int i = 0; i < 2; i++) {
        TAUT_TRY(
            taut_layer_register(c->comm, i ? "large" : "small", TAUT_F32, 2, (size_t[]){sides[i], sides[i]}, &w[i]));
        TAUT_TRY(taut_layer_codec(w[i], s.spec));
    }
    for (int i = 0; i < 2 && status == TAUT_OK; i++) {
        size_t     n = sides[i] * sides[i];
        taut_place place = mock_stream();
        buffer     x;
        buffer_make(&x, true, place, n * sizeof(float));
        buffer_fill(&s, c->rank, 0, n, x.here);
        status = buffer_start(w[i], &x);
        if (status == TAUT_OK) status = taut_step_end(c->comm);
        snprintf(k->by[i][c->rank], sizeof k->by[i][c->rank], "%s",
                 w[i]->reduction.via ? w[i]->reduction.via->name : "");
        taut__memory_of(place.space)->wait(place);
        k->result[i][c->rank] = buffer_result(&x);
        mock_stream_end(place);
        buffer_drop(&x);
    }
    return status;
}

static void run_crossing(crossing *k, const char *link, const int move[2], const int sum[2])
{
    setup       s = setup_of("none", 3);
    taut_config cfg = setup_config(&s);
    cfg.algorithm = "auto";
    cfg.timeout_ms = suite_patience(30000);
    setup_double(link);
    nccl_double_speed(false, move[0], move[1]), nccl_double_speed(true, sum[0], sum[1]);
    ranks_ok(3, &cfg, crossing_body, k);
    device_left_empty();
    teardown_double();
}

START_TEST(crossover)
{
    /* sums begin soon and are slow: small layers' go by them; the other way round */
    static const int         move[2][2] = {{15000, 0}, {0, 450}}, sum[2][2] = {{0, 160}, {18000, 0}}, none[2] = {0};
    static const char *const by[2][2] = {{"native", "sra"}, {"sra", "native"}};
    crossing                 k = {0}, plain = {0};
    run_crossing(&k, "measure", move[_i], sum[_i]), run_crossing(&plain, "off", none, none);
    bool timed =
        suite_patience(1000) == 1000; /* what a sanitizer's build takes itself is slower than any such network */
    for (int i = 0; i < 2; i++)
        for (int r = 0; r < 3; r++) {
            ck_assert_msg(!timed || strcmp(k.by[i][r], by[_i][i]) == 0, "case %d, %s layer, rank %d: by %s", _i,
                          i ? "large" : "small", r, k.by[i][r]);
            ck_assert_str_eq(plain.by[i][r], "sra");
            ck_assert_uint_eq(k.result[i][r], plain.result[i][r]);
        }
}
END_TEST

/* What is no speed is told, and the communicator is as it was: layers go by messages. */
START_TEST(not_a_speed)
{
    static const char *const of[] = {"fast", "20,40,30", "20,40,30,0", "-1,40,30,120", "20,40,30,120,1", "nan,1,1,1"};
    job                      j = {.spec = "grid:rel=0.05"};
    run(&j, 3, of[_i]);
    for (int r = 0; r < 3; r++)
        ck_assert_msg(j.opened[r] == TAUT_E_INVALID && strstr(j.error[r], of[_i]), "%d %s", j.opened[r], j.error[r]);
}
END_TEST

/* While it is being measured a rank is lost, or NCCL refuses: the same. */
static taut_status fault_body(ranks_ctx *c)
{
    taut_status s = taut__comm_open_nccl(c->comm, mock_place());
    NEED(s != TAUT_OK && !c->comm->ctx.data && c->comm->ctx.lines.sum.beta == 0);
    return taut__comm_open_nccl(c->comm, mock_place()); /* and it can be done again */
}
START_TEST(fault_meanwhile)
{
    static const nccl_fault what[] = {NCCL_LOST, NCCL_ASYNC, NCCL_REFUSES};
    setup                   s = setup_of("none", 3);
    taut_config             cfg = setup_config(&s);
    cfg.timeout_ms = suite_patience(6000); /* measuring takes a crowded machine a second */
    setup_double("measure");
    nccl_double_fault(what[_i], 1, 3);
    ranks_ok(3, &cfg, fault_body, NULL);
    device_left_empty();
    teardown_double();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nccl lines");
    TCase *t = suite_case(s, "lines", 60);
    tcase_add_loop_test(t, given, 0, 7);
    tcase_add_loop_test(t, measured, 0, 3);
    tcase_add_loop_test(t, crossover, 0, 2);
    tcase_add_loop_test(t, not_a_speed, 0, 6);
    tcase_add_loop_test(t, fault_meanwhile, 0, 3);
    return suite_run(s);
}
