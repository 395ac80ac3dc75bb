/* test_nccl_faults.c : what goes wrong with NCCL, by its double: errors that it reports, at once or later, a rank that is lost or stops, damaged
 * bytes, and calls that cannot be served. A status on all ranks, within the timeout, with the layer's name; nothing is left behind. It mostly waits. */
#include "tests/support/device_case.h"
#include "tests/support/nccl_double.h"
#include "comm/core/nccl.h"
#include "comm/taut_nccl.h"
#include "../support/suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 700, PATIENT_MS = 10000 };

static void setup_double(void) { mock_open(), nccl_double_open(); }
static void teardown_double(void)
{
    ck_assert_int_eq(nccl_double_left(), 0);
    nccl_double_close();
    mock_close();
}

typedef struct job {
    const char *spec, *algorithm; /* algorithm: NULL: auto */
    int         steps;
    taut_status status[MOST];
    char        error[MOST][512];
    double      seconds[MOST];
} job;

static taut_config config(int timeout_ms)
{
    setup       s = setup_of("none", 2);
    taut_config cfg = setup_config(&s);
    cfg.algorithm = "auto";
    cfg.timeout_ms = timeout_ms;
    return cfg;
}

static taut_status train(ranks_ctx *c, job *j, taut_layer *w, buffer *x)
{
    setup       s = setup_of(j->spec, c->size);
    taut_status status = TAUT_OK;
    for (int step = 0; step < j->steps && status == TAUT_OK; step++) {
        buffer_fill(&s, c->rank, step, N, x->here);
        status = buffer_start(w, x);
        if (status == TAUT_OK) status = taut_wait(w);
        if (status == TAUT_OK) status = taut_step_end(c->comm);
    }
    return status;
}

static taut_status job_body(ranks_ctx *c)
{
    job        *j = c->arg;
    taut_layer *w;
    buffer      x;
    taut_place  place = mock_stream();
    buffer_make(&x, true, place, N * sizeof(float));
    TAUT_TRY(taut_layer_register(c->comm, "fc1.weight", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &w));
    TAUT_TRY(taut_layer_codec(w, j->spec));
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    double begin = taut__now();
    j->status[c->rank] = train(c, j, w, &x);
    j->seconds[c->rank] = taut__now() - begin;
    snprintf(j->error[c->rank], sizeof j->error[c->rank], "%s", taut_last_error());
    buffer_end(c, &x, place);
    return TAUT_OK;
}

/* quick: somebody says what is wrong, so that nobody waits for the timeout. */
static void run_job(job *j, int ranks, bool quick)
{
    taut_config cfg = config(quick ? PATIENT_MS : TIMEOUT_MS);
    if (j->algorithm) cfg.algorithm = j->algorithm;
    ranks_ok(ranks, &cfg, job_body, j);
    device_left_empty();
}

/* The fault of one rank, in its nth operation: every rank fails, in time, and says where. */
static void all_fail(job *j, int ranks, const char *what, bool quick)
{
    int named = 0;
    for (int r = 0; r < ranks; r++) {
        ck_assert_msg(j->status[r] != TAUT_OK, "%s: rank %d of %d has not noticed", what, r, ranks);
        ck_assert_msg(j->seconds[r] < (quick ? 0.9 * PATIENT_MS * 1e-3 : 20), "%s: rank %d: after %g s", what, r,
                      j->seconds[r]);
        named += strstr(j->error[r], "fc1.weight") != NULL;
    }
    ck_assert_msg(named == ranks, "%s: %d of %d name the layer: %s | %s", what, named, ranks, j->error[0], j->error[1]);
}

static const char *const specs[] = {"quant:bits=4", "grid", "none", "powersgd:rank=2"};

START_TEST(faults)
{
    static const struct {
        nccl_fault  what;
        const char *name;
        bool        quick; /* somebody says so */
    } of[] = {{NCCL_REFUSES, "refused", true}, {NCCL_ASYNC, "asynchronous error", true}, {NCCL_LOST, "lost", false}};
    for (int nth = 1; nth <= 3; nth += 2) {
        job j = {.spec = specs[_i % 4], .steps = 4};
        int ranks = 2 + (_i + nth) % 3;
        setup_double();
        nccl_double_lazy(_i % 2 ? 3 : 0);
        nccl_double_fault(of[_i / 4].what, nth % ranks, nth);
        run_job(&j, ranks, of[_i / 4].quick);
        all_fail(&j, ranks, of[_i / 4].name, of[_i / 4].quick);
        teardown_double();
    }
}
END_TEST

/* Damaged headers are no lengths: nothing is read beyond a slot. Where ranks agree on statistics first, those are the first operation. */
START_TEST(damaged)
{
    static const char *const of[] = {"quant:bits=4", "grid", "grid:rel=0.05,code=rans", "topk", "fp16"};
    job                      j = {.spec = of[_i], .steps = 3};
    setup_double();
    nccl_double_fault(NCCL_TRUNCATES, 1, strncmp(j.spec, "grid", 4) == 0 ? 2 : 1);
    run_job(&j, 3, true);
    all_fail(&j, 3, "damaged", true);
    int corrupt = 0;
    for (int r = 0; r < 3; r++) corrupt += j.status[r] == TAUT_E_CORRUPT;
    ck_assert_int_ge(corrupt, 1);
    teardown_double();
}
END_TEST

/* Statistics on which ranks agree, the first operation, arrive damaged at one rank, or at all others, somewhere: who has them would code with another step
 * than the rest, and says so instead. */
START_TEST(statistics_damaged)
{
    static const char *const of[] = {"grid:rel=0.05", "grid", "grid:rel=0.05,code=rans"}, *const by[] = {"sra",
                                                                                                         "native",
                                                                                                         "gather"};
    static const size_t at[] = {0, 8, 1000, SIZE_MAX};
    int                 noticed = 0;
    for (int one = 0; one < 2; one++) {
        int  ranks = 2 + (_i + one) % 3, from = (_i + 1) % ranks, next = (from + 1) % ranks;
        job  j = {.spec = of[_i % 3], .algorithm = by[(_i / 3 + one) % 3], .steps = 3};
        char words[64];
        snprintf(words, sizeof words, "statistics of rank %d", from);
        setup_double();
        nccl_double_spoils(at[_i / 3]);
        nccl_double_fault(one ? NCCL_SPOILS_ONE : NCCL_TRUNCATES, from, 1);
        run_job(&j, ranks, true);
        all_fail(&j, ranks, "damaged statistics", true);
        /* whoever has them says so itself, or hears it; what it has sent by then may be nothing that the others' codecs know, which some say first */
        int corrupt = 0, garbled = 0;
        for (int r = 0; r < ranks; r++) {
            bool itself = j.status[r] == TAUT_E_CORRUPT && strstr(j.error[r], words),
                 may = r != from && (!one || r == next);
            ck_assert_msg(may || !itself, "%s: rank %d of %d: %d %s", words, r, ranks, j.status[r], j.error[r]);
            corrupt += itself, garbled += strstr(j.error[r], words) == NULL;
        }
        ck_assert_msg(corrupt > 0 || garbled == ranks, "%s: nobody of %d has noticed", words, ranks);
        noticed += corrupt > 0;
        teardown_double();
    }
    ck_assert_msg(noticed > 0 || at[_i / 3] == 8, "of damage at %d nobody says what it is", (int)at[_i / 3]);
}
END_TEST

/* ---- calls that cannot be served ---- */

#define MUST_FAIL(call, status, words)                                                                                 \
    do {                                                                                                               \
        taut_status s_ = (call);                                                                                       \
        if (s_ != (status) || !strstr(taut_last_error(), words))                                                       \
            return taut__fail(TAUT_E_INVALID, "line %d: %d: %s", __LINE__, s_, taut_last_error());                     \
    } while (0)

static taut_status register_one(ranks_ctx *c, taut_layer **w)
{
    TAUT_TRY(taut_layer_register(c->comm, "fc1.weight", TAUT_F32, 2, (size_t[]){ROWS, COLS}, w));
    return taut_layer_codec(*w, "quant:bits=4");
}

static taut_status missing_body(ranks_ctx *c)
{
    taut_layer *w;
    const char *words = c->arg;
    TAUT_TRY(register_one(c, &w));
    MUST_FAIL(taut__comm_open_nccl(c->comm, mock_place()), TAUT_E_UNSUPPORTED, words);
    MUST_FAIL(taut_comm_use_nccl(c->comm, NULL), TAUT_E_UNSUPPORTED, words);
    float      *x = calloc(N, sizeof *x); /* and the communicator goes on as it was */
    taut_status s = taut_allreduce(w, x, TAUT_MEAN);
    free(x);
    return s;
}
START_TEST(missing)
{
    taut_config cfg = config(PATIENT_MS);
    ck_assert_int_eq(setenv("TAUT_NCCL_LIBRARY", "/nonexistent/libnccl.so.2", 1), 0);
    mock_open();
    ranks_ok(3, &cfg, missing_body, (char[]){"/nonexistent/libnccl.so.2"});
    ck_assert_int_eq(taut_nccl_version(), 0);
    mock_close();
}
END_TEST

/* Only rank 1 cannot: it has another device. */
static taut_status one_cannot_body(ranks_ctx *c)
{
    taut_place  place = c->rank == 1 ? (taut_place){.space = TAUT_CUDA} : mock_place();
    taut_status s = taut__comm_open_nccl(c->comm, place);
    NEED(s == TAUT_E_UNSUPPORTED);
    NEED(strstr(taut_last_error(), "CUDA"));
    NEED((strncmp(taut_last_error(), "rank 1: ", 8) == 0) == (c->rank != 1));
    return taut__comm_open_nccl(c->comm, mock_place()); /* and it can be done again */
}
START_TEST(one_cannot)
{
    taut_config cfg = config(PATIENT_MS);
    setup_double();
    ranks_ok(3, &cfg, one_cannot_body, NULL);
    teardown_double();
}
END_TEST

static taut_status arguments_body(ranks_ctx *c)
{
    taut_layer *w;
    buffer      x;
    taut_place  place = mock_stream(), other = place;
    TAUT_TRY(register_one(c, &w));
    TAUT_TRY(taut__comm_open_nccl(c->comm, mock_place()));
    MUST_FAIL(taut__comm_open_nccl(c->comm, mock_place()), TAUT_E_STATE, "already");
    MUST_FAIL(taut_comm_use_nccl(NULL, NULL), TAUT_E_INVALID, "NULL");
    MUST_FAIL(taut_comm_open_nccl(c->comm, -1), TAUT_E_RANGE, "-1");
    buffer_make(&x, true, place, N * sizeof(float));
    if (c->rank == 0) mock_capture(place); /* the mock device knows one such stream */
    if (c->rank == 0) MUST_FAIL(buffer_start(w, &x), TAUT_E_STATE, "captured");
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1)); /* rank 0 has seen it */
    mock_capture(mock_place());
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    TAUT_TRY(buffer_start(w, &x));
    TAUT_TRY(taut_wait(w));
    other.device++;
    x.place = other;
    MUST_FAIL(buffer_start(w, &x), TAUT_E_STATE, "device 6");
    x.place = place;
    TAUT_TRY(taut_step_end(c->comm));
    taut__memory_of(place.space)->wait(place);
    mock_stream_end(place);
    buffer_drop(&x);
    return TAUT_OK;
}
START_TEST(arguments)
{
    taut_config cfg = config(PATIENT_MS);
    setup_double();
    ranks_ok(1 + _i, &cfg, arguments_body, NULL);
    device_left_empty();
    teardown_double();
}
END_TEST

/* A buffer on the host, on one rank: the others wait for it, and hear; they may be opening still. */
static taut_status host_body(ranks_ctx *c)
{
    taut_layer *w;
    buffer      x;
    bool        there = c->rank != 1;
    TAUT_TRY(register_one(c, &w));
    buffer_make(&x, there, there ? mock_place() : (taut_place){0}, N * sizeof(float));
    taut_status s = taut__comm_open_nccl(c->comm, mock_place());
    if (s == TAUT_OK) s = buffer_start(w, &x);
    if (s == TAUT_OK) s = taut_wait(w);
    NEED(s == (c->rank == 1 ? TAUT_E_INVALID : TAUT_E_PEER));
    NEED(strstr(taut_last_error(), "fc1.weight") && strstr(taut_last_error(), "on the host"));
    taut_comm_destroy(c->comm);
    c->comm = NULL;
    buffer_drop(&x);
    return TAUT_OK;
}
START_TEST(host_buffer)
{
    taut_config cfg = config(PATIENT_MS);
    setup_double();
    ranks_ok(3, &cfg, host_body, NULL);
    teardown_double();
}
END_TEST

/* The program's own communicator: of other ranks; and one that it aborts while it is used. */
static taut__nccl_id shared_id;
static taut_status   own_body(ranks_ctx *c)
{
    const taut__nccl *n = nccl_double_table();
    taut__nccl_comm   mine;
    taut_layer       *w;
    job               j = {.spec = "quant:bits=4", .steps = 2};
    buffer            x;
    TAUT_TRY(register_one(c, &w));
    bool odd = *(int *)c->arg == 0;
    TAUT_TRY(taut__nccl_begin(n, c->size + odd, shared_id, c->rank, &mine));
    bool none = *(int *)c->arg == 2 && c->rank == 1; /* of one rank it is refused: nothing becomes of the others' */
    taut_status s = taut_comm_use_nccl(c->comm, none ? NULL : mine);
    if (*(int *)c->arg == 2) {
        NEED(s == TAUT_E_INVALID && strstr(taut_last_error(), "nccl is NULL"));
        s = taut_comm_use_nccl(c->comm, mine);
    }
    if (odd) {
        NEED(s == TAUT_E_MISMATCH && strstr(taut_last_error(), "of 4"));
        n->destroy(mine);
        return TAUT_OK;
    }
    TAUT_TRY(s);
    buffer_make(&x, true, mock_place(), N * sizeof(float));
    TAUT_TRY(train(c, &j, w, &x));
    TAUT_TRY(taut__context_sum(&c->comm->ctx, (double[]){1}, 1));
    if (c->rank == 2) n->abort(mine);
    s = train(c, &j, w, &x);
    NEED(s != TAUT_OK && strstr(taut_last_error(), "fc1.weight"));
    taut_comm_destroy(c->comm);
    c->comm = NULL;
    buffer_drop(&x);
    return TAUT_OK;
}
START_TEST(own_communicator)
{
    taut_config cfg = config(PATIENT_MS);
    setup_double();
    nccl_double_table()->unique_id(&shared_id);
    ranks_ok(3, &cfg, own_body, &_i);
    teardown_double();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nccl faults");
    TCase *t = suite_case(s, "faults", 60);
    tcase_add_loop_test(t, faults, 0, 12);
    tcase_add_loop_test(t, damaged, 0, 5);
    tcase_add_loop_test(t, statistics_damaged, 0, 12);
    tcase_add_test(t, missing);
    tcase_add_test(t, one_cannot);
    tcase_add_loop_test(t, arguments, 0, 3);
    tcase_add_test(t, host_buffer);
    tcase_add_loop_test(t, own_communicator, 0, 3);
    return suite_run(s);
}
