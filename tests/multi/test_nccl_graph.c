/* test_nccl_graph.c : collectives captured into a graph, by the double of NCCL on the mock device, whose graphs are recorded lists: replays with new gradients
 * bring the bytes of the same steps made as ever, by messages, residuals included; slots that become too short, and a NaN, are dealt with
 * outside; what cannot be captured is refused, on all ranks. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "comm/reduce/exchange.h"
#include "../support/suite.h"
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REPLAYS = 6, STEPS_ALL = 2 + REPLAYS, LAYERS = 2 };

typedef struct kind {
    const char *spec, *algorithm, *feedback;
    float       growth;
    int         poison; /* the step that holds a NaN; 0: none */
} kind;

static const kind kinds[] = {
    {"fp16", "sra", "on", 1.3f, 0},
    {"bf16", "gather", "off", 1.3f, 0},
    {"quant:bits=4,round=nearest", "sra", "on", 1.5f, 0},
    {"quant:bits=8,round=nearest", "ring", "off", 1.1f, 4},
    {"quant:bits=2,bucket=64,round=nearest", "auto", "on", 1, 0},
    {"stack:quant:bits=2,round=nearest+fp16", "sra", "on", 1.2f, 0},
    {"grid:step=0.02", "native", "on", 1.05f, 0},
    {"grid:step=0.02", "native", "on", 6, 0}, /* fields become too narrow */
    {"grid:step=0.02", "sra", "on", 1.02f, 0},
    {"grid:step=0.05", "sra", "on", 4, 0}, /* payloads outgrow their slots */
    {"grid:step=0.05,code=rans", "gather", "off", 5, 0},
    {"grid:step=0.02", "sra", "on", 1, 5}, /* goes raw once */
    {"topk:density=0.05", "sra", "auto", 1.5f, 0},
    {"none", "native", "auto", 1, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct run {
    const kind *k;
    bool        there;
    uint64_t    result[MOST][STEPS_ALL][LAYERS], sent[MOST];
} run;

static void fill(const kind *k, int rank, int step, int layer, buffer *x)
{
    float *to = (float *)(void *)x->here;
    float  size = powf(k->growth, (float)step);
    for (size_t i = 0; i < N; i++) {
        uint64_t h = taut__mix64((uint64_t)i * 131 + (uint64_t)(step * 11 + rank * 3 + layer) * 1000003);
        to[i] = (strcmp(k->spec, "none") == 0 ? (float)(h % 17) : (float)((double)(h >> 11) * 0x1p-52 - 1)) * size;
    }
    if (k->poison == step && step > 0 && rank == 1 && layer == 0) to[100] = NAN;
}

static taut_status start_or_launch(ranks_ctx *c, taut_layer **w, buffer *x, taut_place place, mock_graph **graph,
                                   int step, const kind *k, bool there)
{
    for (int i = 0; i < LAYERS; i++) fill(k, c->rank, step, i, &x[i]);
    if (there && step == 1)
        for (int i = 0; i < LAYERS; i++) TAUT_TRY(taut_graph_prepare(w[i]));
    if (there && step == 1) { /* captured; what is captured has not run */
        mock_graph_begin(place);
        for (int i = 0; i < LAYERS; i++)
            TAUT_TRY(taut_allreduce_start_on(w[i], x[i].at, TAUT_MEAN, place.space, place.device, place.stream));
        *graph = mock_graph_end(place);
    }
    if (!*graph || step == 4) { /* one step in between as ever */
        for (int i = 0; i < LAYERS; i++) TAUT_TRY(buffer_start(w[i], &x[i]));
        return TAUT_OK;
    }
    for (int i = 0; i < LAYERS; i++) mock_write(x[i].at, x[i].here, x[i].bytes);
    mock_graph_launch(*graph, place);
    for (int i = 0; i < LAYERS; i++) TAUT_TRY(taut_graph_launched(w[(i + c->rank) % LAYERS], place.stream));
    return TAUT_OK;
}

static taut_status steps(ranks_ctx *c, run *r, taut_layer **w, buffer *x, taut_place place, mock_graph **graph)
{
    for (int step = 0; step < STEPS_ALL; step++) {
        TAUT_TRY(start_or_launch(c, w, x, place, graph, step, r->k, r->there));
        if (step % 2)
            for (int i = 0; i < LAYERS; i++) TAUT_TRY(taut_wait(w[i]));
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < LAYERS; i++) r->result[c->rank][step][i] = buffer_result(&x[i]);
    }
    taut_comm_stats stats = {.size = sizeof stats};
    taut_comm_get_stats(c->comm, &stats);
    r->sent[c->rank] = stats.bytes_sent;
    return TAUT_OK;
}

static taut_status body(ranks_ctx *c)
{
    run        *r = c->arg;
    taut_place  place = r->there ? mock_stream() : (taut_place){0};
    taut_layer *w[LAYERS];
    buffer      x[LAYERS];
    mock_graph *graph = NULL;
    for (int i = 0; i < LAYERS; i++) {
        buffer_make(&x[i], r->there, place, N * sizeof(float));
        TAUT_TRY(taut_layer_register(c->comm, i ? "second" : "first", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w[i]));
        TAUT_TRY(taut_layer_codec(w[i], r->k->spec));
    }
    if (r->there) TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    taut_status s = steps(c, r, w, x, place, &graph);
    if (r->there) taut__memory_of(place.space)->wait(place);
    if (graph) mock_graph_drop(graph);
    for (int i = 0; i < LAYERS; i++) buffer_drop(&x[i]);
    if (r->there) mock_stream_end(place);
    return s;
}

static void run_all(run *r, int ranks)
{
    setup s = setup_of(r->k->spec, ranks);
    s.algorithm = r->k->algorithm, s.feedback = r->k->feedback;
    taut_config cfg = setup_config(&s);
    if (r->there) mock_open(), nccl_double_open();
    ranks_ok(ranks, &cfg, body, r);
    if (r->there) {
        device_left_empty();
        ck_assert_int_eq(nccl_double_left(), 0);
        nccl_double_close(), mock_close();
    }
}

START_TEST(replays)
{
    static const int sizes[] = {2, 3, 4};
    for (int k = 0; k < 2; k++) {
        int      ranks = sizes[(_i + k) % 3];
        run      host = {.k = &kinds[_i]}, device = {.k = &kinds[_i], .there = true};
        uint64_t before = taut__exchange_redone();
        run_all(&host, ranks), run_all(&device, ranks);
        for (int q = 0; q < ranks; q++)
            for (int step = 0; step < STEPS_ALL; step++)
                for (int i = 0; i < LAYERS; i++)
                    ck_assert_msg(host.result[q][step][i] == device.result[q][step][i],
                                  "%s %s: rank %d of %d, step %d, layer %d", kinds[_i].spec, kinds[_i].algorithm, q,
                                  ranks, step, i);
        for (int q = 0; q < ranks; q++) ck_assert_uint_gt(device.sent[q], 0);
        if (kinds[_i].growth >= 4) ck_assert_uint_gt(taut__exchange_redone(), before);
    }
}
END_TEST

/* ---- refusals ---- */

#define REFUSED(expr, status, words)                                                                                   \
    do {                                                                                                               \
        taut_status s_ = (expr);                                                                                       \
        if (s_ != (status) || !strstr(taut_last_error(), words))                                                       \
            return taut__fail(TAUT_E_INVALID, "%s: %d: %.200s", #expr, s_, taut_last_error());                         \
    } while (0)

static taut_status one_step(ranks_ctx *c, taut_layer *w, buffer *x)
{
    fill(&kinds[0], c->rank, 1, 0, x);
    TAUT_TRY(buffer_start(w, x));
    TAUT_TRY(taut_wait(w));
    return taut_step_end(c->comm);
}

static taut_status refused_body(ranks_ctx *c)
{
    const char *const *of = c->arg; /* spec, words */
    taut_place         place = mock_stream();
    taut_layer        *w, *small;
    buffer             x;
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, of[0]));
    TAUT_TRY(taut_layer_register(c->comm, "bias", TAUT_F32, 1, (size_t[]){SMALL}, &small));
    REFUSED(taut_graph_prepare(w), TAUT_E_UNSUPPORTED, strcmp(of[0], "auto") ? "NCCL" : of[1]);
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    TAUT_TRY(one_step(c, w, &x));
    REFUSED(taut_graph_prepare(NULL), TAUT_E_INVALID, "NULL");
    REFUSED(taut_graph_prepare(small), TAUT_E_UNSUPPORTED, "small");
    REFUSED(taut_graph_launched(w, place.stream), TAUT_E_STATE, "has not been captured");
    mock_graph_begin(place);
    REFUSED(taut_allreduce_start_on(w, x.at, TAUT_MEAN, place.space, place.device, place.stream), TAUT_E_STATE,
            "taut_graph_prepare");
    mock_graph_drop(mock_graph_end(place));
    if (of[1]) REFUSED(taut_graph_prepare(w), TAUT_E_UNSUPPORTED, of[1]);
    else {
        TAUT_TRY(taut_graph_prepare(w));
        REFUSED(taut_graph_prepare(w), TAUT_E_STATE, "already");
        REFUSED(taut_layer_scale(w, (float[]){2}, 1), TAUT_E_STATE, "graph");
        mock_graph_begin(place);
        REFUSED(taut_allreduce_start_on(w, x.at, (taut_op)7, place.space, place.device, place.stream), TAUT_E_INVALID,
                "op=7");
        REFUSED(taut_allreduce_start_on(w, x.at, TAUT_MEAN, place.space, place.device + 1, place.stream), TAUT_E_STATE,
                "device");
        mock_graph_drop(mock_graph_end(place));
    }
    TAUT_TRY(one_step(c, w, &x)); /* and it goes on */
    buffer_end(c, &x, place);
    return TAUT_OK;
}
START_TEST(refused)
{
    static const char *const of[][2] = {
        {"quant:bits=4", "round=nearest"},
        {"powersgd:rank=2", "draws random numbers"},
        {"randk:density=0.1", "draws random numbers"},
        {"auto", "codec=auto"},
        {"fp16", NULL},
    };
    setup       s = setup_of("none", 3);
    taut_config cfg = setup_config(&s);
    mock_open(), nccl_double_open();
    ranks_ok(3, &cfg, refused_body, (void *)(uintptr_t)of[_i]);
    device_left_empty();
    nccl_double_close(), mock_close();
}
END_TEST

/* A rank that cannot prepare: the others hear which, and why. */
static taut_status one_cannot_body(ranks_ctx *c)
{
    taut_place  place = mock_stream();
    taut_layer *w;
    buffer      x;
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, "fp16"));
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    TAUT_TRY(one_step(c, w, &x));
    if (c->rank == 0) mock_fail(MOCK_ALLOC, 1);
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    taut_status s = taut_graph_prepare(w);
    NEED(s == TAUT_E_NOMEM);
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    TAUT_TRY(taut_graph_prepare(w)); /* and it can be done again */
    buffer_end(c, &x, place);
    return TAUT_OK;
}
START_TEST(one_cannot)
{
    setup       s = setup_of("none", 3);
    taut_config cfg = setup_config(&s);
    mock_open(), nccl_double_open();
    ranks_ok(3, &cfg, one_cannot_body, NULL);
    device_left_empty();
    nccl_double_close(), mock_close();
}
END_TEST

/* ---- what goes wrong while there are graphs ---- */

typedef struct trouble {
    taut_place  place;
    taut_layer *w[LAYERS];
    buffer      x[LAYERS];
    mock_graph *graph;
} trouble;

static taut_status capture(trouble *t)
{
    mock_graph_begin(t->place);
    taut_status s =
        taut_allreduce_start_on(t->w[0], t->x[0].at, TAUT_MEAN, t->place.space, t->place.device, t->place.stream);
    t->graph = mock_graph_end(t->place);
    return s;
}

/* The first layer is in a graph; the second is not. */
static taut_status open_trouble(ranks_ctx *c, trouble *t)
{
    *t = (trouble){.place = mock_stream()};
    for (int i = 0; i < LAYERS; i++) {
        buffer_make(&t->x[i], true, t->place, N * sizeof(float));
        TAUT_TRY(taut_layer_register(c->comm, i ? "second" : "first", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &t->w[i]));
        TAUT_TRY(taut_layer_codec(t->w[i], "fp16"));
    }
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    for (int i = 0; i < LAYERS; i++) TAUT_TRY(buffer_start(t->w[i], &t->x[i]));
    TAUT_TRY(taut_step_end(c->comm));
    taut__memory_of(t->place.space)->wait(t->place);
    return taut_graph_prepare(t->w[0]);
}

static void close_trouble(ranks_ctx *c, trouble *t)
{
    taut__memory_of(t->place.space)->wait(t->place);
    taut_comm_destroy(c->comm);
    c->comm = NULL;
    if (t->graph) mock_graph_drop(t->graph);
    for (int i = 0; i < LAYERS; i++) buffer_drop(&t->x[i]);
    mock_stream_end(t->place);
}

/* A rank's part of a replay never happens. NCCL's abort comes back only when the graph is dropped, which the program does once it has heard. */
static taut_status lost_body(ranks_ctx *c)
{
    trouble t;
    TAUT_TRY(open_trouble(c, &t));
    TAUT_TRY(capture(&t));
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    if (c->rank != 1) mock_graph_launch(t.graph, t.place);
    double      begin = taut__now();
    taut_status s = c->rank == 1 ? TAUT_OK : taut_graph_launched(t.w[0], t.place.stream);
    if (s == TAUT_OK && c->rank != 1) s = taut_wait(t.w[0]);
    else usleep(1000000);
    double seconds = taut__now() - begin;
    NEED(c->rank == 1 || (s == TAUT_E_TIMEOUT && strstr(taut_last_error(), "first")));
    NEED(seconds < 8);
    close_trouble(c, &t);
    return TAUT_OK;
}

/* A layer outside of graphs is under way when one is launched: its operations come before the graph's on one rank and behind them on another. */
static taut_status mixed_body(ranks_ctx *c)
{
    trouble t;
    TAUT_TRY(open_trouble(c, &t));
    TAUT_TRY(capture(&t));
    TAUT_TRY(buffer_start(t.w[1], &t.x[1]));
    while (atomic_load(&t.w[1]->reduction.job.state) == TAUT_JOB_RUNNING)
        sched_yield(); /* so that here nothing comes of it */
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    mock_graph_launch(t.graph, t.place);
    REFUSED(taut_graph_launched(t.w[0], t.place.stream), TAUT_E_STATE, "layer 'second' is under way outside");
    TAUT_TRY(taut_wait(t.w[1]));
    mock_graph_launch(t.graph, t.place);
    TAUT_TRY(taut_graph_launched(t.w[0], t.place.stream));
    TAUT_TRY(taut_step_end(c->comm));
    if (c->rank != 1) mock_graph_drop(t.graph), t.graph = NULL; /* rank 1 forgets it: waited for in vain */
    close_trouble(c, &t);
    return TAUT_OK;
}
/* A kernel cannot be enqueued while it is captured; and NCCL does not take what is captured. */
static taut_status failing_body(ranks_ctx *c)
{
    trouble t;
    TAUT_TRY(open_trouble(c, &t));
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    if (c->rank == 0) mock_fail(MOCK_ENQUEUE, 1);
    if (c->rank == 0) NEED(capture(&t) == TAUT_E_DEVICE);
    if (c->rank == 0) mock_graph_drop(t.graph), mock_fail(MOCK_NONE, 0);
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    nccl_double_lazy(1 << 30);
    taut_status s = capture(&t);
    NEED(s == TAUT_E_TIMEOUT && strstr(taut_last_error(), "first"));
    close_trouble(c, &t);
    return TAUT_OK;
}
START_TEST(troubles)
{
    static taut_status (*const of[])(ranks_ctx *) = {lost_body, mixed_body, failing_body};
    setup s = setup_of("none", 3);
    s.feedback = "on";
    taut_config cfg = setup_config(&s);
    if (_i != 1) cfg.timeout_ms = 700;
    mock_open(), nccl_double_open();
    ranks_ok(3, &cfg, of[_i], NULL);
    device_left_empty();
    ck_assert_int_eq(nccl_double_left(), 0);
    nccl_double_close(), mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nccl graphs");
    TCase *t = suite_case(s, "graphs", 120);
    tcase_add_loop_test(t, replays, 0, KINDS);
    tcase_add_loop_test(t, refused, 0, 5);
    tcase_add_test(t, one_cannot);
    t = suite_case(s, "troubles", 60);
    tcase_add_loop_test(t, troubles, 0, 3);
    return suite_run(s);
}
