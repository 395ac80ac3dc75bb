/* test_nccl_bad.c : calls that cannot be served, on one rank, by the double of NCCL: every rank gets a status that says so, within the timeout, and what
 * comes after it is right. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "comm/taut_nccl.h"
#include "../support/suite.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 1500, RANKS = 3, ODD = 1 }; /* the rank that is different */

static const char *const specs[] = {"quant:bits=4", "grid", "fp16", "powersgd:rank=2"};

typedef struct job {
    const char *spec;
    void (*spoil)(ranks_ctx *c, buffer *x, taut_place place); /* of rank ODD, before its first start */
    const char *told, *heard;                                 /* words of rank ODD, and of the others */
    taut_status status;                                       /* of rank ODD */
    double      seconds[RANKS];
} job;

static taut_config config(int timeout_ms)
{
    setup       s = setup_of("none", RANKS);
    taut_config cfg = setup_config(&s);
    cfg.algorithm = "auto";
    cfg.timeout_ms = timeout_ms;
    return cfg;
}

static void setup_double(void) { mock_open(), nccl_double_open(); }
static void teardown_double(void)
{
    ck_assert_int_eq(nccl_double_left(), 0);
    nccl_double_close();
    mock_close();
}

static taut_status wrong(const char *what, taut_status s)
{
    return taut__fail(TAUT_E_INVALID, "%s: %d: %.300s", what, s, taut_last_error());
}

static taut_status enroll(ranks_ctx *c, const char *spec, taut_layer **w)
{
    TAUT_TRY(taut_layer_register(c->comm, "fc1.weight", TAUT_F32, 2, (size_t[]){ROWS, COLS}, w));
    return taut_layer_codec(*w, spec);
}

static taut_status step(ranks_ctx *c, taut_layer *w, buffer *x, int at)
{
    setup s = setup_of("none", c->size);
    buffer_fill(&s, c->rank, at, N, x->here);
    taut_status status = buffer_start(w, x);
    if (status == TAUT_OK) status = taut_wait(w);
    if (status == TAUT_OK) status = taut_step_end(c->comm);
    if (status == TAUT_OK && x->there)
        status = taut__memory_of(x->place.space)->wait(x->place); /* the next gradient takes its place */
    return status;
}

static taut_status open_and_make(ranks_ctx *c, const char *spec, taut_layer **w, buffer *x, taut_place *place)
{
    *place = mock_stream();
    buffer_make(x, true, *place, N * sizeof(float));
    TAUT_TRY(enroll(c, spec, w));
    return taut__comm_open_nccl(c->comm, mock_place());
}

/* ---- a call that one rank may not make: the others wait for that layer, and hear why it does not come ---- */

static void on_capture(ranks_ctx *c, buffer *x, taut_place place) { (void)c, (void)x, mock_capture(place); }
static void elsewhere(ranks_ctx *c, buffer *x, taut_place place) { (void)c, (void)place, x->place.device++; }

static taut_status spoilt_body(ranks_ctx *c)
{
    job        *j = c->arg;
    taut_layer *w;
    buffer      x;
    taut_place  place;
    TAUT_TRY(open_and_make(c, j->spec, &w, &x, &place));
    if (c->rank == ODD) j->spoil(c, &x, place);
    double      begin = taut__now();
    taut_status s = step(c, w, &x, 0);
    j->seconds[c->rank] = taut__now() - begin;
    bool odd = c->rank == ODD, good = odd ? s == j->status : s == TAUT_E_PEER || s == TAUT_E_TIMEOUT;
    if (good) good = strstr(taut_last_error(), odd ? j->told : j->heard) && strstr(taut_last_error(), "fc1.weight");
    taut_status result = good ? TAUT_OK : wrong(odd ? "told" : "heard", s);
    mock_capture(mock_place());
    buffer_end(c, &x, place); /* which tells the others, who wait */
    return result;
}

static void run_spoilt(job j)
{
    taut_config cfg = config(TIMEOUT_MS);
    setup_double();
    ranks_ok(RANKS, &cfg, spoilt_body, &j);
    for (int r = 0; r < RANKS; r++) ck_assert_msg(j.seconds[r] < 20, "rank %d: after %g s", r, j.seconds[r]);
    device_left_empty();
    teardown_double();
}

START_TEST(captured)
{
    run_spoilt((job){.spec = specs[_i],
                     .spoil = on_capture,
                     .status = TAUT_E_STATE,
                     .told = "captured into a graph",
                     .heard = "rank 1"});
}
END_TEST
START_TEST(another_device)
{
    run_spoilt(
        (job){.spec = specs[_i], .spoil = elsewhere, .status = TAUT_E_INVALID, .told = "device 6", .heard = "rank 1"});
}
END_TEST

/* ---- tried again as it should be, nothing is lost: the bytes are those of a program without the mistake ---- */

typedef struct retry {
    const char *spec;
    bool        mistaken;
    uint64_t    result[RANKS];
} retry;

static taut_status again_body(ranks_ctx *c)
{
    taut_layer *w;
    buffer      x;
    taut_place  place;
    retry      *t = c->arg;
    TAUT_TRY(open_and_make(c, t->spec, &w, &x, &place));
    TAUT_TRY(step(c, w, &x, 0));
    if (t->mistaken && c->rank == ODD) {
        mock_capture(place);
        taut_status s = step(c, w, &x, 1);
        mock_capture(mock_place());
        if (s != TAUT_E_STATE) return wrong("captured", s);
        TAUT_TRY(taut__memory_of(place.space)
                     ->wait(place)); /* what was refused had its gradient copied already, here and below */
        x.place.device++;
        s = step(c, w, &x, 1);
        x.place = place;
        if (s != TAUT_E_STATE) return wrong("another device", s);
        TAUT_TRY(taut__memory_of(place.space)->wait(place));
    }
    TAUT_TRY(step(c, w, &x, 1));
    TAUT_TRY(step(c, w, &x, 2));
    t->result[c->rank] = buffer_result(&x);
    buffer_end(c, &x, place);
    return TAUT_OK;
}
START_TEST(mistaken_then_not)
{
    taut_config cfg = config(TIMEOUT_MS);
    retry       t[2] = {{.spec = specs[_i]}, {.spec = specs[_i], .mistaken = true}};
    for (int i = 0; i < 2; i++) {
        setup_double();
        ranks_ok(RANKS, &cfg, again_body, &t[i]);
        device_left_empty();
        teardown_double();
    }
    for (int r = 0; r < RANKS; r++) ck_assert_msg(t[0].result[r] == t[1].result[r], "%s: rank %d", specs[_i], r);
}
END_TEST

/* ---- types ---- */

static taut_status types_body(ranks_ctx *c)
{
    taut_layer *w = NULL, *v;
    buffer      x;
    taut_place  place = mock_stream();
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    taut_status s = taut_layer_register(c->comm, "double", (taut_dtype)7, 1, (size_t[]){N}, &w);
    if (s != TAUT_E_INVALID || w || !strstr(taut_last_error(), "7")) return wrong("dtype 7", s);
    buffer_make(&x, true, place, N * sizeof(float));
    /* one rank's layer is of another type: nobody reduces it */
    TAUT_TRY(taut_layer_register(c->comm, "mixed", c->rank == ODD ? TAUT_BF16 : TAUT_F16, 1, (size_t[]){N}, &v));
    s = taut_allreduce_start_on(v, x.at, TAUT_MEAN, place.space, place.device, place.stream);
    if (s == TAUT_OK) s = taut_wait(v);
    if (s == TAUT_OK) s = taut_step_end(c->comm);
    if (s != TAUT_E_MISMATCH || !strstr(taut_last_error(), "mixed")) return wrong("mixed", s);
    buffer_end(c, &x, place);
    return TAUT_OK;
}
START_TEST(types)
{
    taut_config cfg = config(TIMEOUT_MS);
    setup_double();
    ranks_ok(RANKS, &cfg, types_body, NULL);
    device_left_empty();
    teardown_double();
}
END_TEST

/* ---- ranks that go: one leaves, or its communicator is aborted, while the others' operations wait for it on the device ---- */

static taut__nccl_comm given[RANKS];
static taut__nccl_id   shared_id;

static void *abort_soon(void *comm)
{
    usleep(100000);
    nccl_double_table()->abort(comm);
    return NULL;
}

static taut_status gone_body(ranks_ctx *c)
{
    bool        leaves = *(const int *)c->arg == 1;
    taut_layer *w;
    buffer      x;
    taut_place  place = mock_stream();
    pthread_t   thread;
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(enroll(c, "quant:bits=4", &w));
    TAUT_TRY(taut__nccl_begin(nccl_double_table(), c->size, shared_id, c->rank, &given[c->rank]));
    TAUT_TRY(taut_comm_use_nccl(c->comm, given[c->rank]));
    TAUT_TRY(step(c, w, &x, 0));
    /* what rank 0 enqueues next never happens */
    if (c->rank == 0) nccl_double_fault(NCCL_LOST, 0, 1);
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    bool mine = c->rank == ODD;
    if (mine && !leaves) pthread_create(&thread, NULL, abort_soon, given[ODD]);
    taut_status s = TAUT_OK;
    if (!(mine && leaves)) s = step(c, w, &x, 1);
    if (mine && !leaves) pthread_join(thread, NULL);
    bool        good = (mine && leaves) || (s != TAUT_OK && strstr(taut_last_error(), "fc1.weight"));
    taut_status result = good ? TAUT_OK : wrong("gone", s);
    buffer_end(c, &x, place);
    nccl_double_table()->abort(given[c->rank]);
    return result;
}
START_TEST(gone)
{
    taut_config cfg = config(TIMEOUT_MS);
    setup_double();
    nccl_double_table()->unique_id(&shared_id);
    double begin = taut__now();
    ranks_ok(RANKS, &cfg, gone_body, &_i);
    ck_assert_msg(taut__now() - begin < 20, "after %g s", taut__now() - begin);
    teardown_double();
}
END_TEST

/* The program's own communicator blocks, and one rank's call never comes back, as of a process that has stopped while NCCL connects: nor do the others'. Nobody
 * hangs: the timeout is looked at beside them. */
static taut_status blocked_body(ranks_ctx *c)
{
    taut_layer *w;
    buffer      x;
    taut_place  place = mock_stream();
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(enroll(c, c->arg, &w));
    TAUT_TRY(taut__nccl_begin(nccl_double_table(), c->size, shared_id, c->rank, &given[c->rank]));
    TAUT_TRY(taut_comm_use_nccl(c->comm, given[c->rank]));
    TAUT_TRY(step(c, w, &x, 0));
    if (c->rank == 0) nccl_double_fault(NCCL_STOPS, 0, 1);
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    taut_status s = step(c, w, &x, 1);
    bool        good = s != TAUT_OK && strstr(taut_last_error(), "fc1.weight");
    taut_status result = good ? TAUT_OK : wrong("blocked", s);
    buffer_end(c, &x, place);
    nccl_double_table()->abort(given[c->rank]);
    return result;
}
START_TEST(blocked)
{
    taut_config cfg = config(TIMEOUT_MS);
    setup_double();
    nccl_double_blocking(true);
    nccl_double_table()->unique_id(&shared_id);
    double begin = taut__now();
    ranks_ok(RANKS, &cfg, blocked_body, (char *)(uintptr_t)specs[_i]);
    ck_assert_msg(taut__now() - begin < 15, "after %g s", taut__now() - begin);
    teardown_double();
}
END_TEST

/* ---- NCCL that is there and is none ---- */

static taut_status unusable_body(ranks_ctx *c)
{
    taut_comm       *other = NULL;
    struct ncclComm *never = (struct ncclComm *)(void *)c;
    taut_status      s = taut__comm_open_nccl(c->comm, mock_place());
    if (s != TAUT_E_UNSUPPORTED || !strstr(taut_last_error(), c->arg)) return wrong("open", s);
    s = taut_comm_use_nccl(c->comm, never);
    if (s != TAUT_E_UNSUPPORTED || !strstr(taut_last_error(), c->arg)) return wrong("use", s);
    s = taut_comm_create_nccl(never, NULL, NULL, &other);
    if (s != TAUT_E_UNSUPPORTED || other || !strstr(taut_last_error(), c->arg)) return wrong("create", s);
    return TAUT_OK;
}
START_TEST(unusable)
{
    static const char *const of[][2] = {{"/nonexistent/libnccl.so.2", "/nonexistent"}, {"libm.so.6", "version"}};
    taut_config              cfg = config(TIMEOUT_MS);
    ck_assert_int_eq(setenv("TAUT_NCCL_LIBRARY", of[_i][0], 1), 0);
    mock_open();
    ranks_ok(RANKS, &cfg, unusable_body, (char *)(uintptr_t)of[_i][1]);
    mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nccl bad input");
    TCase *t = suite_case(s, "bad input", 60);
    tcase_add_loop_test(t, captured, 0, 4);
    tcase_add_loop_test(t, another_device, 0, 4);
    tcase_add_loop_test(t, mistaken_then_not, 0, 4);
    tcase_add_test(t, types);
    tcase_add_loop_test(t, gone, 0, 2);
    tcase_add_loop_test(t, blocked, 0, 4);
    tcase_add_loop_test(t, unusable, 0, 2);
    return suite_run(s);
}
