/* test_nccl.c : layers that travel by NCCL, device to device: against NCCL's double on the mock device. The same bytes as by messages, for all
 * codecs, algorithms and numbers of ranks; late and lazy NCCL; slots that were too short. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "comm/reduce/exchange.h"
#include "compressors/vectors.h"
#include "../support/suite.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const specs[] = {
    "fp16",
    "bf16",
    "quant:bits=4",
    "quant:bits=3,bucket=64,norm=l2",
    "grid",
    "grid:rel=0.1,code=rans",
    "topk",
    "topk:density=0.3",
    "none",
    "stack:topk:density=0.05+quant:bits=2",
    "stack:quant:bits=2+fp16",
    "randk:density=0.1",
    "powersgd:rank=2",
    "auto",
    "grid:rel=0.2,basis=8",
    "grid:rel=0.4,code=rans,basis=70",
};
enum { SPECS = sizeof specs / sizeof *specs };
static const char *const algorithms[] = {"auto", "native", "sra", "ring", "gather"};
static const int         sizes[] = {2, 3, 4, 7};

static void setup_double(void) { mock_open(), nccl_double_open(); }
static void teardown_double(void)
{
    ck_assert_int_eq(nccl_double_left(), 0);
    nccl_double_close();
    mock_close();
}

/* NCCL adds floats in an order of its own: such sums are compared where they are exact, or two ranks', else within rounding. */
static bool sums_floats(const char *spec)
{
    return strncmp(spec, "randk", 5) == 0 || strncmp(spec, "powersgd", 8) == 0;
}

static double value(const setup *s, const outcome *o, size_t i)
{
    float x;
    if (s->dtype == TAUT_F32) memcpy(&x, o->values + 4 * i, 4);
    else taut__vectors_host.convert((taut_place){0}, &x, TAUT_F32, o->values + 2 * i, s->dtype, 1);
    return (double)x;
}

static void nearly_same(const trial *a, const trial *b)
{
    for (int r = 0; r < a->set.ranks; r++) {
        double error = 0, norm = 0;
        ck_assert_uint_eq(b->of[r].result[STEPS - 1], b->of[0].result[STEPS - 1]);
        for (size_t i = 0; i < N; i++) {
            double x = value(&a->set, &a->of[r], i), y = value(&a->set, &b->of[r], i);
            error += (x - y) * (x - y), norm += x * x;
        }
        ck_assert_msg(error <= (a->set.dtype == TAUT_F32 ? 1e-10 : 1e-5) * norm, "%s algorithm=%s ranks=%d: %g of %g",
                      a->set.spec, a->set.algorithm, a->set.ranks, error, norm);
    }
}

/* Returns whether the setup is one that works. */
static bool same_by_nccl(setup s)
{
    s.nccl = true;
    trial *host = trial_run(s, HOST), *device = NULL;
    bool   works = host->of[0].status == TAUT_OK, exact = !sums_floats(s.spec) || s.ranks == 2;
    if (works) device = trial_run(s, DEVICE);
    if (works && exact) trial_compare(host, device);
    if (works && !exact) nearly_same(host, device);
    if (works) ck_assert_int_gt(nccl_double_operations(), 0);
    if (device) trial_free(device);
    trial_free(host);
    device_left_empty();
    return works;
}

static setup varied(int spec, int algorithm, int size)
{
    static const char *const feedbacks[] = {"auto", "off", "on", "momentum"};
    int                      i = spec * 29 + algorithm * 7 + size * 3;
    setup                    s = setup_of(specs[spec], sizes[size]);
    s.algorithm = algorithms[algorithm];
    s.dtype = (taut_dtype)(i % 3);
    s.scale = (i / 3 + size) % 4;
    s.feedback = feedbacks[(i / 2 + algorithm) % 4];
    s.threads = 1 + i % 2;
    s.poison = i % 5 == 0 ? 1 : -1;
    if (strstr(s.spec, "basis")) s.dtype = TAUT_F32; /* others have none */
    s.whole = strcmp(s.spec, "none") == 0 || strcmp(s.spec, "auto") == 0;
    return s;
}

START_TEST(same_bytes)
{
    int worked = 0;
    for (size_t a = 0; a < sizeof algorithms / sizeof *algorithms; a++)
        for (size_t p = 0; p < sizeof sizes / sizeof *sizes; p++) {
            setup_double();
            worked += same_by_nccl(varied(_i, (int)a, (int)p));
            teardown_double();
        }
    ck_assert_int_ge(worked, 4);
}
END_TEST

/* ---- NCCL that is late, takes calls later, or is older ---- */

START_TEST(late_and_lazy)
{
    static const char *const of[] = {"quant:bits=4",    "grid", "topk", "grid:rel=0.05,code=rans",
                                     "powersgd:rank=1", "fp16"};
    setup                    s = setup_of(of[_i % 6], 2 + _i % 3);
    setup_double();
    nccl_double_delay(_i % 2 ? 1500 : 0);
    nccl_double_lazy(_i % 3 ? 5 : 0);
    nccl_double_version(_i % 4 ? 22809 : 22703);
    s.algorithm = _i < 6 ? "auto" : strstr(s.spec, "powersgd") ? "native" : "ring";
    ck_assert(same_by_nccl(s));
    teardown_double();
}
END_TEST

enum { LAYERS = 5 };

/* Layers in another order on each rank, each with a stream of its own; some are waited for before others are started. */
static taut_status orders_body(ranks_ctx *c)
{
    static const char *const of[LAYERS] = {"quant:bits=4", "grid", "topk", "none", "quant:bits=8"};
    taut_layer              *l[LAYERS];
    buffer                   b[LAYERS];
    taut_place               place[LAYERS];
    setup                    s = setup_of("quant:bits=8", c->size);
    uint64_t                *seen = c->arg;
    bool                     there = seen[0] != 0;
    s.whole = true;
    for (int i = 0; i < LAYERS; i++) {
        char name[8];
        snprintf(name, sizeof name, "w%d", i);
        place[i] = there ? mock_stream() : (taut_place){0};
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[i]));
        TAUT_TRY(taut_layer_codec(l[i], of[i]));
        buffer_make(&b[i], there, place[i], N * sizeof(float));
    }
    if (there) TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    for (int step = 0; step < 3; step++) {
        for (int k = 0; k < LAYERS; k++) {
            int i = (k + c->rank) % LAYERS;
            buffer_fill(&s, c->rank, step + 9 * i, N, b[i].here);
            TAUT_TRY(buffer_start(l[i], &b[i]));
        }
        for (int k = 0; k < LAYERS; k++) TAUT_TRY(taut_wait(l[(k * 3 + c->rank) % LAYERS]));
        for (int i = 0; i < LAYERS && c->rank == 0; i++) seen[1] = seen[1] * 31 + buffer_result(&b[i]);
        TAUT_TRY(taut_step_end(c->comm));
    }
    for (int i = 0; i < LAYERS; i++) {
        buffer_drop(&b[i]);
        if (there) mock_stream_end(place[i]);
    }
    return TAUT_OK;
}
START_TEST(any_order)
{
    setup       s = setup_of("none", 4);
    taut_config cfg = setup_config(&s);
    uint64_t    host[2] = {0}, device[2] = {1};
    cfg.progress = _i ? 2 : 0;
    setup_double();
    mock_delay(_i ? 0 : 100);
    nccl_double_delay(_i ? 800 : 0);
    nccl_double_lazy(_i);
    ranks_ok(4, &cfg, orders_body, host);
    ranks_ok(4, &cfg, orders_body, device);
    ck_assert_uint_eq(host[1], device[1]);
    device_left_empty();
    teardown_double();
}
END_TEST

/* ---- what waits for the device ---- */

static taut_status all_here(ranks_ctx *c) { return taut__context_sum(&c->comm->ctx, (double[]){1}, 1); }

/* Codecs that need no agreement: from the start of a layer to its result nobody waits for the device, whatever is sampled. */
static taut_status waits_body(ranks_ctx *c)
{
    taut_layer *w;
    buffer      x;
    setup       s = setup_of(c->arg, c->size);
    taut_place  place = mock_stream();
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, s.spec));
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    for (int step = 0; step < 4; step++) {
        buffer_fill(&s, c->rank, step, N, x.here);
        TAUT_TRY(all_here(c));
        uint64_t before = taut__lane_waits();
        TAUT_TRY(all_here(c));
        TAUT_TRY(buffer_start(w, &x));
        TAUT_TRY(taut_wait(w));
        TAUT_TRY(all_here(c));
        if (step > 0)
            NEED((taut__lane_waits() == before) ==
                 (c->comm->ctx.set.feedback !=
                  TAUT_FEEDBACK_MOMENTUM)); /* which is agreed on by the host: so there is a difference */
        TAUT_TRY(taut_step_end(c->comm));
    }
    taut__memory_of(place.space)->wait(place);
    mock_stream_end(place);
    buffer_drop(&x);
    return TAUT_OK;
}
START_TEST(nobody_waits)
{
    static const char *const of[] = {"quant:bits=4",
                                     "fp16",
                                     "stack:quant:bits=2+fp16",
                                     "randk:density=0.1",
                                     "powersgd:rank=2",
                                     "grid",
                                     "topk",
                                     "grid:rel=0.1,code=rans",
                                     "grid"};
    setup                    s = setup_of("none", 3);
    taut_config              cfg = setup_config(&s);
    cfg.feedback = _i == 8 ? "momentum" : _i % 2 ? "off" : "on";
    setup_double();
    mock_delay(200);
    ranks_ok(3, &cfg, waits_body, (char *)(uintptr_t)of[_i]);
    teardown_double();
}
END_TEST

/* ---- a communicator from NCCL's alone ---- */

typedef struct alone {
    int           rank, size;
    taut__nccl_id id;
    taut_status   status;
    char          why[300];
    double        seconds;
} alone;

static taut_status alone_steps(alone *a, taut_comm *comm, taut_place place)
{
    ranks_ctx   c = {.comm = comm, .rank = a->rank, .size = a->size};
    setup       s = setup_of("quant:bits=8", a->size);
    taut_layer *w, *b;
    outcome     o = {0};
    buffer      x, y;
    NEED(taut_comm_rank(comm) == a->rank && taut_comm_size(comm) == a->size);
    buffer_make(&x, true, place, N * sizeof(float)), buffer_make(&y, true, place, SMALL * sizeof(float));
    taut_status status = rank_enroll(&c, &s, &w, &b);
    if (status == TAUT_OK) status = rank_steps(&c, &s, &o, w, b, &x, &y, 0, STEPS);
    if (status == TAUT_OK) status = ranks_same(comm, &o.result[STEPS - 1], sizeof o.result[0]);
    taut__memory_of(place.space)->wait(place);
    buffer_drop(&x), buffer_drop(&y);
    return status;
}

/* The program's own, which it has waited for. */
static taut_status begin_own(const alone *a, taut__nccl_comm *nccl)
{
    bool ready = false;
    TAUT_TRY(taut__nccl_begin(nccl_double_table(), a->size, a->id, a->rank, nccl));
    while (!ready) TAUT_TRY(taut__nccl_poll(nccl_double_table(), *nccl, &ready));
    return TAUT_OK;
}

static taut_status alone_body(alone *a)
{
    taut_config     cfg = TAUT_CONFIG_INIT;
    taut_place      place = mock_stream();
    taut__nccl_comm nccl;
    taut_comm      *comm = NULL;
    cfg.timeout_ms = 20000;
    TAUT_TRY(begin_own(a, &nccl));
    taut_status s = taut__comm_create_nccl(nccl, place, &cfg, &comm);
    if (s == TAUT_OK) s = alone_steps(a, comm, place);
    taut_comm_destroy(comm);
    nccl_double_table()->destroy(nccl);
    mock_stream_end(place);
    return s;
}

static void *alone_main(void *arg)
{
    alone *a = arg;
    a->status = alone_body(a);
    snprintf(a->why, sizeof a->why, "%s", taut_last_error());
    return NULL;
}

/* One rank never calls. */
static void *absent_main(void *arg)
{
    alone          *a = arg;
    taut_config     cfg = TAUT_CONFIG_INIT;
    taut_place      place = mock_stream();
    taut__nccl_comm nccl;
    taut_comm      *comm = NULL;
    double          begin;
    cfg.timeout_ms = 500;
    a->status = begin_own(a, &nccl);
    begin = taut__now();
    if (a->status == TAUT_OK && a->rank + 1 < a->size) a->status = taut__comm_create_nccl(nccl, place, &cfg, &comm);
    a->seconds = taut__now() - begin;
    snprintf(a->why, sizeof a->why, "%s", taut_last_error());
    if (comm) a->status = TAUT_E_STATE;
    nccl_double_table()->abort(nccl);
    taut__memory_of(place.space)->wait(place);
    mock_stream_end(place);
    return NULL;
}

static void run_alone(void *(*rank)(void *), alone *a, int size)
{
    pthread_t thread[MOST];
    nccl_double_table()->unique_id(&a[0].id);
    for (int r = 0; r < size; r++) {
        a[r] = (alone){.rank = r, .size = size, .id = a[0].id};
        pthread_create(&thread[r], NULL, rank, &a[r]);
    }
    for (int r = 0; r < size; r++) pthread_join(thread[r], NULL);
}

START_TEST(one_never_calls)
{
    alone a[MOST];
    int   size = 2 + _i;
    setup_double();
    nccl_double_lazy(_i == 1 ? 3 : 0);
    nccl_double_blocking(_i == 2); /* then the communicator has been aborted */
    run_alone(absent_main, a, size);
    for (int r = 0; r + 1 < size; r++) {
        ck_assert_msg(a[r].status == TAUT_E_TIMEOUT && strstr(a[r].why, "taut_comm_create_nccl"), "rank %d: %d %s", r,
                      a[r].status, a[r].why);
        ck_assert_msg(a[r].seconds < 3, "rank %d: %.1f s", r, a[r].seconds);
    }
    device_left_empty();
    teardown_double();
}
END_TEST

START_TEST(nccl_alone)
{
    alone a[MOST];
    int   size = 1 + _i;
    setup_double();
    nccl_double_lazy(_i == 2 ? 3 : 0);
    run_alone(alone_main, a, size);
    for (int r = 0; r < size; r++) ck_assert_msg(a[r].status == TAUT_OK, "rank %d of %d: %s", r, size, a[r].why);
    ck_assert(taut_comm_create_nccl(NULL, NULL, NULL, &(taut_comm *){0}) == TAUT_E_INVALID);
    device_left_empty();
    teardown_double();
}
END_TEST

/* ---- a program that uses another device when it calls ---- */

/* Threads are of that device which they last named, at first of device 0: what we do for ours we do there, in all threads, and the program's stays of its own. */
typedef struct elsewhere {
    const char *spec;
    bool        nccl;
} elsewhere;
#define THERE(call)                                                                                                    \
    do {                                                                                                               \
        mock_use(0);                                                                                                   \
        TAUT_TRY(call);                                                                                                \
        NEED(mock_used() == 0);                                                                                        \
        mock_use(mock_device());                                                                                       \
    } while (0)
static taut_status elsewhere_body(ranks_ctx *c)
{
    const elsewhere *e = c->arg;
    setup            s = setup_of(e->spec, c->size);
    taut_place       place = mock_stream();
    taut_layer      *w, *b;
    buffer           x, y;
    outcome          o = {0};
    taut_comm       *smaller;
    buffer_make(&x, true, place, N * sizeof(float)), buffer_make(&y, true, place, SMALL * sizeof(float));
    TAUT_TRY(rank_enroll(c, &s, &w, &b));
    if (e->nccl) THERE(taut__comm_open_nccl(c->comm, (taut_place){.space = TAUT_SPACE_TEST, .device = mock_device()}));
    for (int step = 0; step < STEPS; step++) {
        buffer_fill(&s, c->rank, step, N, x.here), buffer_fill(&s, c->rank, step, SMALL, y.here);
        mock_write(x.at, x.here, x.bytes), mock_write(y.at, y.here, y.bytes);
        THERE(taut_allreduce_start_on(w, x.at, TAUT_MEAN, place.space, place.device, place.stream));
        THERE(taut_allreduce_start_on(b, y.at, TAUT_MEAN, place.space, place.device, place.stream));
        if (step % 2) THERE(taut_wait(w));
        THERE(taut_step_end(c->comm));
    }
    THERE(rank_save(c, &o));
    free(o.state);
    taut__memory_of(place.space)->wait(place);
    (void)taut__context_sum(&c->comm->ctx, (double[]){1}, 1); /* the first to have it may have failed meanwhile */
    (void)taut__engine_fail(&c->comm->ctx.engine, TAUT_E_TRANSPORT, "all go on without it");
    THERE(taut_comm_shrink(c->comm, &smaller, NULL));
    mock_use(0);
    taut_comm_destroy(smaller);
    taut_comm_destroy(c->comm);
    NEED(mock_used() == 0);
    c->comm = NULL;
    mock_stream_end(place);
    buffer_drop(&x), buffer_drop(&y);
    return TAUT_OK;
}
START_TEST(another_device)
{
    static const char *const of[] = {"quant:bits=4", "grid", "topk", "powersgd:rank=2", "stack:topk+fp16", "none"};
    for (int by = 0; by < 2; by++) {
        elsewhere   e = {of[_i], by == 1};
        setup       s = setup_of(e.spec, 2);
        taut_config cfg = setup_config(&s);
        setup_double(), mock_strict();
        ranks_ok(2 + by, &cfg, elsewhere_body, &e);
        device_left_empty();
        teardown_double();
    }
}
END_TEST

/* ---- slots that were too short, fields that were too narrow ---- */

/* Gradients grow from step to step, so payloads do: more than is agreed, and the tails travel. */
START_TEST(tails)
{
    static const struct {
        const char *spec, *algorithm;
        float       growth;
    } of[] = {{"grid:step=0.05", "sra", 6},
              {"grid:step=0.05,code=rans", "sra", 8},
              {"grid:step=0.05", "gather", 6},
              {"grid:step=0.05,code=rans", "gather", 20},
              {"grid:step=0.002", "sra", 0.2f},
              {"topk:density=0.05", "sra", 3},
              {"topk", "gather", 3},
              {"grid:step=0.05", "native", 6},
              {"grid:step=0.0001", "native", 20},
              {"grid:step=0.05,code=rans", "native", 0.2f}};
    for (size_t p = 0; p < 4; p++) {
        setup s = setup_of(of[_i].spec, sizes[p]);
        s.algorithm = of[_i].algorithm, s.growth = of[_i].growth, s.amplitude = 0.1f;
        s.dtype = strcmp(s.algorithm, "native") ? (taut_dtype)(p % 3) : TAUT_F32, s.feedback = p % 2 ? "on" : "auto";
        setup_double();
        uint64_t before = taut__exchange_redone();
        ck_assert(same_by_nccl(s));
        bool grows = s.growth > 1 && strncmp(s.spec, "grid", 4) == 0;
        if (grows)
            ck_assert_msg(taut__exchange_redone() > before, "%s %s, %d ranks: no slot was too short", s.spec,
                          s.algorithm, s.ranks);
        teardown_double();
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nccl");
    TCase *t = suite_case(s, "bytes", 120);
    tcase_add_loop_test(t, same_bytes, 0, SPECS);
    tcase_add_loop_test(t, late_and_lazy, 0, 12);
    tcase_add_loop_test(t, any_order, 0, 2);
    tcase_add_loop_test(t, nobody_waits, 0, 9);
    tcase_add_loop_test(t, tails, 0, 10);
    t = suite_case(s, "alone", 120);
    tcase_add_loop_test(t, nccl_alone, 0, 3);
    tcase_add_loop_test(t, one_never_calls, 0, 3);
    t = suite_case(s, "devices", 60);
    tcase_add_loop_test(t, another_device, 0, 6);
    return suite_run(s);
}
