/* test_mock_failures.c : a device beside others and beside the host: streams, progress, what is refused, failures of the device, which are errors on
 * all ranks and leave nothing behind, and memory that the host touches all the same. It mostly waits. */
#include "tests/support/device_case.h"
#include "compressors/vectors.h"
#include "../support/suite.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- streams ---- */

enum { LAYERS = 4 };

/* Each layer with a stream of its own, started in another order on each rank. */
static taut_status streams_body(ranks_ctx *c)
{
    taut_layer *l[LAYERS];
    buffer      b[LAYERS];
    taut_place  place[LAYERS];
    setup       s = setup_of("quant:bits=8", c->size);
    uint64_t   *seen = c->arg;
    bool        there = seen[0] != 0;
    for (int i = 0; i < LAYERS; i++) {
        char name[8];
        snprintf(name, sizeof name, "w%d", i);
        place[i] = there ? mock_stream() : (taut_place){0};
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[i]));
        TAUT_TRY(taut_layer_codec(l[i], i % 2 ? "topk" : "quant:bits=4"));
        buffer_make(&b[i], there, place[i], N * sizeof(float));
    }
    for (int step = 0; step < 2; step++) {
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
START_TEST(many_streams)
{
    setup       s = setup_of("none", 3);
    taut_config cfg = setup_config(&s);
    uint64_t    host[2] = {0}, device[2] = {1};
    cfg.progress = _i ? 2 : 0;
    mock_open();
    mock_delay(_i ? 0 : 200);
    ranks_ok(3, &cfg, streams_body, host);
    ranks_ok(3, &cfg, streams_body, device);
    ck_assert_uint_eq(host[1], device[1]);
    device_left_empty();
    mock_close();
}
END_TEST

/* While the device is busy with a layer, the engine moves others on. */
static taut_status meanwhile_body(ranks_ctx *c)
{
    taut_layer *slow, *quick;
    buffer      b;
    float       x[N];
    setup       s = setup_of("quant:bits=4", c->size);
    taut_place  place = mock_stream();
    int         done = 1;
    TAUT_TRY(taut_layer_register(c->comm, "slow", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &slow));
    TAUT_TRY(taut_layer_register(c->comm, "quick", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &quick));
    TAUT_TRY(taut_layer_codec(slow, "quant:bits=4"));
    TAUT_TRY(taut_layer_codec(quick, "quant:bits=4"));
    buffer_make(&b, true, place, sizeof x);
    buffer_fill(&s, c->rank, 0, N, b.here), buffer_fill(&s, c->rank, 1, N, x);
    TAUT_TRY(buffer_start(slow, &b));
    TAUT_TRY(taut_allreduce_start(quick, x, TAUT_SUM));
    TAUT_TRY(taut_wait(quick));
    TAUT_TRY(taut_test(slow, &done));
    NEED(!done);
    TAUT_TRY(taut_step_end(c->comm));
    buffer_drop(&b);
    mock_stream_end(place);
    return TAUT_OK;
}
START_TEST(meanwhile)
{
    setup       s = setup_of("none", 2);
    taut_config cfg = setup_config(&s);
    cfg.progress = _i ? 2 : 0;
    mock_open();
    mock_delay(50000);
    ranks_ok(2, &cfg, meanwhile_body, NULL);
    device_left_empty();
    mock_close();
}
END_TEST

/* ---- refusals ---- */

static void refused(taut_status s, taut_status want, const char *text)
{
    ck_assert_msg(s == want && strstr(taut_last_error(), text), "%d: %s; not %d: %s", (int)s, taut_last_error(),
                  (int)want, text);
}

START_TEST(refusals)
{
    taut_comm  *comm;
    taut_layer *w, *v, *u;
    taut_config cfg = TAUT_CONFIG_INIT;
    float       x[N] = {0};
    void       *there;
    mock_open();
    taut_place p = mock_place();
    cfg.codec = "quant";
    ck_assert(taut_comm_create_threads(1, &cfg, &comm) == TAUT_OK);
    ck_assert(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w) == TAUT_OK);
    ck_assert(taut_layer_register(comm, "v", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &v) == TAUT_OK);
    ck_assert(taut_layer_register(comm, "u", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &u) == TAUT_OK);
    ck_assert(taut__memory_of(p.space)->alloc(p, sizeof x, &there) == TAUT_OK);
    refused(taut_allreduce_start_on(w, x, TAUT_SUM, (taut_space)9, 0, NULL), TAUT_E_INVALID,
            "space=9: must be 0 (host) or 1 (CUDA)");
    refused(taut_allreduce_start_on(w, x, TAUT_SUM, p.space, p.device, NULL), TAUT_E_INVALID,
            "not memory of the test device");
    if (!taut__memory_of(TAUT_CUDA))
        refused(taut_allreduce_start_on(w, x, TAUT_SUM, TAUT_CUDA, 0, NULL), TAUT_E_UNSUPPORTED,
                "space CUDA cannot be used");
    taut__ops_register(taut__codec_by_name("quant", 5), TAUT_SPACE_TEST, NULL);
    refused(taut_allreduce_start_on(w, there, TAUT_SUM, p.space, p.device, NULL), TAUT_E_UNSUPPORTED,
            "codec quant has no operations in space test");
    mock_close(), mock_open(); /* with all tables */
    ck_assert(taut__memory_of(p.space)->alloc(p, sizeof x, &there) == TAUT_OK);
    ck_assert(taut_allreduce_start_on(w, there, TAUT_SUM, p.space, p.device, NULL) == TAUT_OK &&
              taut_wait(w) == TAUT_OK);
    refused(taut_allreduce(w, x, TAUT_SUM), TAUT_E_STATE, "must be in space test, device 5");
    refused(taut_allreduce_start_on(w, there, TAUT_SUM, p.space, 6, NULL), TAUT_E_STATE,
            "device 6: must be in space test, device 5");
    ck_assert(taut_allreduce(v, x, TAUT_SUM) == TAUT_OK);
    refused(taut_allreduce_start_on(v, there, TAUT_SUM, p.space, p.device, NULL), TAUT_E_STATE,
            "must be in space host");
    refused(taut_allreduce_start_on(u, there, TAUT_SUM, p.space, 6, NULL), TAUT_E_STATE,
            "this communicator's layers lie on device 5");
    ck_assert(taut_allreduce_start_on(u, x, TAUT_SUM, TAUT_HOST, 3, NULL) == TAUT_OK && taut_step_end(comm) == TAUT_OK);
    taut_comm_destroy(comm);
    taut__memory_of(p.space)->release(p, there);
    device_left_empty();
    mock_close();
}
END_TEST

/* ---- failures on demand ---- */

typedef struct failing {
    setup     set;
    mock_call call;
    int       nth;
} failing;

static taut_status failing_body(ranks_ctx *c)
{
    const failing *f = c->arg;
    taut_place     place = mock_stream();
    taut_layer    *w, *b;
    outcome        o = {0};
    buffer         x, y;
    buffer_make(&x, true, place, N * sizeof(float)), buffer_make(&y, true, place, SMALL * sizeof(float));
    taut_status s = rank_enroll(c, &f->set, &w, &b);
    if (s == TAUT_OK && c->rank == 0) mock_fail(f->call, f->nth);
    double begin = taut__now(); /* the timeout is 4 s; a crowded machine takes some more */
    if (s == TAUT_OK) s = rank_steps(c, &f->set, &o, w, b, &x, &y, 0, STEPS);
    if (taut__now() - begin > 20) s = taut__fail(TAUT_E_TIMEOUT, "it took %.1f s", taut__now() - begin);
    char why[512];
    snprintf(why, sizeof why, "%s", taut_last_error());
    taut_comm_destroy(c->comm); /* before the memory goes that it may be using */
    c->comm = NULL;
    mock_stream_end(place);
    buffer_drop(&x), buffer_drop(&y);
    return s == TAUT_OK ? s : taut__fail(s, "%s", why);
}

static void fail_at(setup s, mock_call call, int nth)
{
    taut_config cfg = setup_config(&s);
    ranks_ctx   ctx[MOST];
    size_t      held = taut__alloc_bytes();
    int         failed = 0;
    failing     f = {s, call, nth};
    cfg.timeout_ms = 4000;
    ranks_run(s.ranks, &cfg, failing_body, &f, ctx);
    for (int r = 0; r < s.ranks; r++) {
        failed += ctx[r].status != TAUT_OK;
        ck_assert_msg(ctx[r].status == TAUT_OK || strstr(ctx[r].error, "demand") || ctx[r].status == TAUT_E_PEER ||
                          (call == MOCK_ALLOC && ctx[r].status == TAUT_E_NOMEM),
                      "%s: call %d, %d: rank %d: %s", s.spec, (int)call, nth, r, ctx[r].error);
    }
    bool happened = mock_failed();
    mock_fail(MOCK_NONE, 0);
    ck_assert_msg(!happened || failed == 0 || failed == s.ranks, "%s: call %d, %d: %d of %d ranks failed", s.spec,
                  (int)call, nth, failed, s.ranks);
    ck_assert_msg(happened || failed == 0, "failed without a failure");
    device_left_empty();
    ck_assert_uint_eq(taut__alloc_bytes(), held);
}

START_TEST(failures)
{
    static const char *const of[] = {"quant:bits=4", "grid", "powersgd:rank=2", "none", "topk"};
    static const int         nth[] = {1, 2, 5, 9, 17, 31, 60, 111};
    static const mock_call   calls[] = {MOCK_ALLOC, MOCK_COPY, MOCK_ENQUEUE, MOCK_RUN, MOCK_EVENT};
    setup                    s = setup_of(of[_i], 3);
    mock_open();
    s.feedback = "on";
    s.dtype = TAUT_F32;
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (size_t k = _i % 2; k < sizeof nth / sizeof *nth; k += 2) fail_at(s, calls[c], nth[k]);
    mock_close();
}
END_TEST

/* ---- the host touches what it must not ---- */

enum { CAUGHT = 77 };
static void fault(int signal)
{
    (void)signal;
    _exit(CAUGHT);
}

/* The library is told that the buffer lies on the host, and reads it. */
START_TEST(a_touch_is_caught)
{
    taut_comm  *comm;
    taut_layer *w;
    taut_config cfg = TAUT_CONFIG_INIT;
    void       *there;
    mock_open();
    taut_place p = mock_place();
    signal(SIGSEGV, fault), signal(SIGBUS, fault);
    ck_assert(taut__memory_of(p.space)->alloc(p, N * sizeof(float), &there) == TAUT_OK);
    if (_i == 0) *(volatile float *)there = 1; /* the device is what it claims to be */
    cfg.codec = _i == 1 ? "quant" : "topk";
    ck_assert(taut_comm_create_threads(1, &cfg, &comm) == TAUT_OK);
    ck_assert(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w) == TAUT_OK);
    ck_assert(taut_allreduce(w, there, TAUT_MEAN) == TAUT_OK);
    _exit(0);
}
END_TEST

/* And the device notices an address of the host's. */
START_TEST(a_stray_is_noticed)
{
    float      x[64] = {0};
    void      *there;
    taut_place p;
    mock_open();
    p = mock_place();
    ck_assert(taut__memory_of(p.space)->alloc(p, sizeof x, &there) == TAUT_OK);
    ck_assert(taut__vectors_of(p.space)->add(p, there, TAUT_F32, x, 64) == TAUT_OK);
    ck_assert_int_eq(taut__memory_of(p.space)->wait(p), TAUT_E_DEVICE);
    ck_assert_uint_eq(mock_left().strays, 1);
    mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mock failures");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, many_streams, 0, 2);
    tcase_add_loop_test(t, meanwhile, 0, 2);
    tcase_add_test(t, refusals);
    tcase_add_loop_test(t, failures, 0, 5);
    tcase_add_loop_exit_test(t, a_touch_is_caught, CAUGHT, 0, 3);
    tcase_add_test(t, a_stray_is_noticed);
    return suite_run(s);
}
