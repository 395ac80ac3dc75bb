/* test_races.c : what one thread or rank may see of another in the middle of something: failures, registration, statistics,
 * blocking calls beside started ones. Ranks are threads. Most of it is for MODE=tsan too, which sees races that did not happen.
 * It mostly waits. */
#include "comm/core/bucket.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void nap(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

/* ---- a job is DONE only after the communicator has failed: who looks without the lock must not take it for a result ---- */

static taut_status wait_for_ever(taut__job *job, bool *moved, bool *done)
{
    (void)job, (void)moved, (void)done;
    return TAUT_OK;
}
static taut_status break_down(taut__job *job, bool *moved, bool *done)
{
    (void)job, (void)moved, (void)done;
    return taut__fail(TAUT_E_CORRUPT, "broken on purpose");
}
static void stop_at_once(taut__job *job) { (void)job; }
static void stop_slowly(taut__job *job)
{
    (void)job;
    nap(100);
}

typedef struct onlooker {
    taut__engine *engine;
    taut__job    *job;
    bool          tests; /* else it waits */
    taut_status   status;
} onlooker;

static void *look(void *arg)
{
    onlooker *o = arg;
    bool      done;
    while (atomic_load_explicit(&o->job->state, memory_order_acquire) != TAUT_JOB_DONE) nap(1);
    o->status = o->tests ? taut__engine_test(o->engine, o->job, &done) : taut__engine_wait(o->engine, o->job);
    return NULL;
}

START_TEST(failure_comes_before_done)
{
    taut__transport *t;
    taut__engine     e;
    pthread_t        thread;
    taut__job        waits = {.name = "waits", .step = wait_for_ever, .stop = stop_at_once, .priority = 0};
    taut__job        fails = {.name = "fails", .step = break_down, .stop = stop_slowly, .priority = 1};
    ck_assert_int_eq(taut__threads_create(1, 0, &t), TAUT_OK);
    taut__engine_create(&e, t, 1000);
    taut__engine_start(&e, &waits, true);
    onlooker o = {&e, &waits, _i, TAUT_OK};
    ck_assert_int_eq(pthread_create(&thread, NULL, look, &o), 0);
    taut__engine_start(&e, &fails, false); /* drives, and fails */
    pthread_join(thread, NULL);
    ck_assert_int_eq(o.status, TAUT_E_CORRUPT);
    taut__engine_destroy(&e);
    t->ops->destroy(t);
}
END_TEST

/* ---- small layers: blocking on some ranks, started and waited for on others ---- */

enum { SMALL = 5, SMALL_N = 37 };

static taut_status mixed_rank(ranks_ctx *c)
{
    int         way = *(const int *)c->arg;
    taut_layer *l[SMALL];
    float       x[SMALL][SMALL_N];
    for (int i = 0; i < SMALL; i++) {
        char name[16];
        snprintf(name, sizeof name, "b%d", i);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 1, (size_t[]){SMALL_N}, &l[i]));
    }
    for (int step = 0; step < 4; step++) {
        bool blocks = way == 0 ? c->rank == 0 : way == 1 ? c->rank != 0 : (c->rank + step) % 2;
        for (int i = 0; i < SMALL; i++) {
            for (size_t k = 0; k < SMALL_N; k++) x[i][k] = ranks_value(c->rank, k + (size_t)(100 * i), step);
            TAUT_TRY(blocks ? taut_allreduce(l[i], x[i], TAUT_SUM) : taut_allreduce_start(l[i], x[i], TAUT_SUM));
        }
        for (int i = SMALL - 1; i >= 0 && !blocks && step % 2; i--) TAUT_TRY(taut_wait(l[i]));
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < SMALL; i++)
            for (size_t k = 0; k < SMALL_N; k++)
                NEED(fabs((double)x[i][k] - ranks_sum(c->size, k + (size_t)(100 * i), step)) < 1e-4);
    }
    return TAUT_OK;
}
START_TEST(blocking_meets_started)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    int         way = _i / 2;
    cfg.timeout_ms = 5000;
    cfg.progress = 1 + _i % 2;
    cfg.link = "100mbit"; /* no speeds to be measured */
    for (int size = 1; size <= 4; size++) ranks_ok(size, &cfg, mixed_rank, &way);
}
END_TEST

/* ---- registering while layers are under way ---- */

static taut_status growing_rank(ranks_ctx *c)
{
    enum { ROWS = 512, COLS = 128, MORE = 150 };
    taut_layer *first, *l;
    float      *x = calloc(ROWS * COLS, sizeof *x);
    TAUT_TRY(taut_layer_register(c->comm, "first", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &first));
    for (int step = 0; step < 3; step++) {
        for (size_t i = 0; i < ROWS * COLS; i++) x[i] = ranks_value(c->rank, i, step);
        TAUT_TRY(taut_allreduce_start(first, x, TAUT_SUM));
        for (int i = 0; i < MORE; i++) {
            char name[32];
            snprintf(name, sizeof name, "more%d.%d", step, i);
            TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){32, 32}, &l));
            if (i % 10 == 3) TAUT_TRY(taut_layer_codec(l, i % 20 == 3 ? "quant:bits=8" : "none"));
        }
        TAUT_TRY(taut_wait(first));
        TAUT_TRY(taut_step_end(c->comm));
    }
    free(x);
    return TAUT_OK;
}
START_TEST(registers_beside_running_layers)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = "auto";
    cfg.slice_kib = 64;
    cfg.progress = 1;
    cfg.start_step = 4; /* all steps are looked at */
    ranks_ok(2, &cfg, growing_rank, NULL);
}
END_TEST

/* ---- statistics are those of whole collectives, whenever they are asked for ---- */

static taut_status curious_rank(ranks_ctx *c)
{
    enum { ROWS = 64, COLS = 64, N = ROWS * COLS, STEPS = 200 };
    bool        small = *(const bool *)c->arg;
    taut_layer *l;
    float      *x = calloc(N, sizeof *x);
    uint64_t    each = 0;
    TAUT_TRY(
        taut_layer_register(c->comm, "w", TAUT_F32, small ? 1 : 2, small ? (size_t[]){N} : (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < STEPS; step++) {
        for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, step);
        TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
        for (int done = 0; !done;) {
            taut_layer_stats s = {.size = sizeof s};
            taut_comm_stats  all = {.size = sizeof all};
            TAUT_TRY(taut_layer_get_stats(l, &s));
            TAUT_TRY(taut_comm_get_stats(c->comm, &all));
            NEED(s.calls == (uint64_t)step || s.calls == (uint64_t)step + 1);
            NEED(s.bytes_sent == s.calls * each || each == 0);
            NEED(s.bytes_dense >= s.bytes_sent);
            NEED(step == 0 || s.bits_per_element > 7); /* not of a record that has just begun */
            TAUT_TRY(taut_test(l, &done));
        }
        TAUT_TRY(taut_wait(l));
        taut_layer_stats s = {.size = sizeof s};
        TAUT_TRY(taut_layer_get_stats(l, &s));
        if (step == 0) each = s.bytes_sent;
        TAUT_TRY(taut_step_end(c->comm));
    }
    free(x);
    return TAUT_OK;
}
START_TEST(statistics_of_whole_collectives)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    bool        small = _i;
    cfg.codec = "quant:bits=8";
    cfg.progress = 1;
    cfg.timeout_ms = 5000;
    ranks_ok(3, &cfg, curious_rank, &small);
}
END_TEST

/* ---- a layer that is reduced twice in a step: its errors and norms count twice, and so the guard sees both ---- */

static taut_status twice_rank(ranks_ctx *c)
{
    enum { ROWS = 64, COLS = 64, N = ROWS * COLS };
    bool        first = *(const bool *)c->arg; /* the one that loses: the first or the second */
    taut_layer *l;
    float      *x = calloc(N, sizeof *x);
    double      err = 0, norm = 0;
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (int call = 0; call < 2; call++) {
        for (size_t i = 0; i < N; i++) x[i] = (call == 0) == first ? ranks_value(c->rank, i, 0) : 0.125f;
        TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        for (size_t i = 0; i < N; i++) {
            double sum = (call == 0) == first ? ranks_sum(c->size, i, 0) : 0.125 * c->size, d = (double)x[i] - sum;
            err += d * d, norm += sum * sum;
        }
    }
    TAUT_TRY(taut_step_end(c->comm));
    taut_layer_stats s = {.size = sizeof s};
    taut_comm_stats  all = {.size = sizeof all};
    TAUT_TRY(taut_layer_get_stats(l, &s));
    TAUT_TRY(taut_comm_get_stats(c->comm, &all));
    NEED(err > 1e-4 * norm);
    if (!(s.rel_err2 > 0.7 * err / norm && s.rel_err2 < 1.4 * err / norm))
        return taut__fail(TAUT_E_INVALID, "rel_err2 %g said, %g true", s.rel_err2, err / norm);
    NEED(all.rel_err2 > 0.7 * err / norm && all.rel_err2 < 1.4 * err / norm);
    free(x);
    return TAUT_OK;
}
START_TEST(two_calls_in_a_step)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    bool        first = _i % 2;
    cfg.codec = (const char *[]){"quant:bits=6", "grid:rel=0.05", "topk:density=0.3"}[_i / 2];
    cfg.feedback = "off";
    ranks_ok(3, &cfg, twice_rank, &first);
}
END_TEST

/* ---- what went wrong in a thread of the pool is said, not what this thread said last ---- */

static taut__transport_ops        broken_ops;
static const taut__transport_ops *whole_ops;

/* Every coded message of rank 0 is changed on its way. Copies are: a frame may go to several ranks, and is read by their threads. */
enum { COPIES = 4096 };
static void *changed[COPIES];
static int   copies; /* rank 0's engine has its lock */

static taut_status isend_changed(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    if (bytes <= 4096 || copies == COPIES) return whole_ops->isend(t, r, peer, tag, buf, bytes);
    uint8_t *copy = changed[copies++] = malloc(bytes);
    memcpy(copy, buf, bytes);
    copy[bytes / 2] ^= 0x5a;
    return whole_ops->isend(t, r, peer, tag, copy, bytes);
}
static taut_status changed_rank(ranks_ctx *c)
{
    enum { ROWS = 1024, COLS = 512 };
    taut_layer *l;
    float      *x = calloc(ROWS * COLS, sizeof *x);
    for (size_t i = 0; i < ROWS * COLS; i++) x[i] = ranks_value(c->rank, i, 0);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut__handshake_begin(c->comm));
    TAUT_TRY(taut__handshake_wait(c->comm));
    if (c->rank == 0) taut__engine_hold(&c->comm->ctx.engine);
    if (c->rank == 0) {
        whole_ops = c->comm->ctx.t->ops;
        broken_ops = *whole_ops;
        broken_ops.isend = isend_changed;
        c->comm->ctx.t->ops = &broken_ops;
        taut__engine_release(&c->comm->ctx.engine);
    }
    taut__fail(TAUT_E_INVALID, "something from before");
    taut_status s = taut_allreduce(l, x, TAUT_SUM);
    if (c->rank == 0 && s == TAUT_OK)
        s = taut_step_end(c->comm); /* under gather rank 0 may have had all that it needs */
    free(x);
    return s;
}
START_TEST(says_what_a_worker_saw)
{
    static const char *const algorithm[] = {"sra", "ring", "gather"};
    taut_config              cfg = TAUT_CONFIG_INIT;
    ranks_ctx                ctx[3];
    cfg.codec = "quant:bits=4";
    cfg.algorithm = algorithm[_i];
    cfg.threads = 4;
    cfg.slice_kib = 128;
    cfg.progress = 2;
    cfg.timeout_ms = 5000;
    copies = 0;
    ranks_run(3, &cfg, changed_rank, NULL, ctx);
    while (copies > 0) free(changed[--copies]);
    for (int r = 0; r < 3; r++) {
        ck_assert_msg(ctx[r].status == TAUT_E_CORRUPT || ctx[r].status == TAUT_E_PEER, "rank %d: %s: %s", r,
                      taut_status_name(ctx[r].status), ctx[r].error);
        ck_assert_msg(strstr(ctx[r].error, "checksum") != NULL, "rank %d: %s", r, ctx[r].error);
    }
}
END_TEST

/* ---- what a peer sends is never trusted: sums of codes that no honest rank has wrap, as unsigned numbers do ---- */

static taut_status isend_huge(taut__transport *t, taut__request *r, int peer, int tag, const void *buf, size_t bytes)
{
    if (bytes <= 4096 || copies == COPIES) return whole_ops->isend(t, r, peer, tag, buf, bytes);
    int32_t *copy = changed[copies++] = malloc(bytes);
    for (size_t i = 0; i < bytes / 4; i++) copy[i] = i % 2 ? INT32_MAX : INT32_MIN;
    return whole_ops->isend(t, r, peer, tag, copy, bytes);
}
static taut_status huge_rank(ranks_ctx *c)
{
    enum { ROWS = 256, COLS = 128, N = ROWS * COLS };
    taut_layer *l;
    float      *x = calloc(N, sizeof *x);
    for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, 0);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut__handshake_begin(c->comm));
    TAUT_TRY(taut__handshake_wait(c->comm));
    if (c->rank == 0) {
        whole_ops = c->comm->ctx.t->ops;
        broken_ops = *whole_ops;
        broken_ops.isend = isend_huge;
        c->comm->ctx.t->ops = &broken_ops;
    }
    taut_status s = taut_allreduce(l, x, TAUT_SUM);
    free(x);
    return s;
}
START_TEST(huge_codes_of_a_peer)
{
    int32_t       a[] = {INT32_MAX, INT32_MIN, 5, -1}, b[] = {1, -1, INT32_MAX, INT32_MIN};
    const int32_t sums[] = {INT32_MIN, INT32_MAX, INT32_MIN + 4, INT32_MAX};
    taut_config   cfg = TAUT_CONFIG_INIT;
    taut__combine_i32(a, b, sizeof a, false, NULL);
    ck_assert_mem_eq(a, sums, sizeof sums);
    cfg.codec = "grid:rel=0.01";
    cfg.algorithm = "native"; /* sums of codes as they are */
    cfg.progress = 2;
    copies = 0;
    ranks_run(2 + _i, &cfg, huge_rank, NULL, NULL); /* whatever comes of it */
    ck_assert_int_gt(copies, 0);
    while (copies > 0) free(changed[--copies]);
}
END_TEST

/* ---- who is late: all ranks name the one that stopped, also those that hear from it through others only ---- */

typedef struct stop {
    const char *codec;
    int         rank;
    atomic_int  told; /* ranks that have heard of it */
} stop;

static taut_status late_rank(ranks_ctx *c)
{
    enum { ROWS = 256, COLS = 64, N = ROWS * COLS };
    stop       *stops = c->arg;
    taut_layer *l;
    float      *x = calloc(N, sizeof *x);
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    taut_status s = TAUT_OK;
    for (int step = 0; step < 2 && s == TAUT_OK; step++) {
        for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, step);
        for (int t = 0; t < 6000 && step == 1 && c->rank == stops->rank && atomic_load(&stops->told) < c->size - 1; t++)
            nap(10); /* not for a fixed time: on a loaded machine the others may be as late */
        s = taut_allreduce(l, x, TAUT_SUM);
        if (s == TAUT_OK) s = taut_step_end(c->comm);
    }
    atomic_fetch_add(&stops->told, 1);
    free(x);
    return s;
}
START_TEST(names_who_is_late)
{
    static const struct {
        const char *codec, *algorithm, *hierarchy, *hosts;
        int         ranks;
    } row[] = {{"quant:bits=8", "sra", "on", "2", 6},
               {"none", "auto", "on", "3", 6},
               {"powersgd:rank=2", "auto", "on", "2", 6},
               {"grid", "sra", "off", "1", 5},
               {"quant:bits=8", "ring", "off", "1", 5}, /* more with LONG=1 */
               {"grid", "auto", "on", "2", 4},
               {"quant:bits=8", "gather", "on", "1", 3},
               {"none", "auto", "off", "1", 7},
               {"quant:bits=8", "ring", "on", "2", 6}};
    for (int who = 0; who < row[_i].ranks; who += row[_i].ranks - 1) {
        taut_config cfg = TAUT_CONFIG_INIT;
        ranks_ctx   ctx[8];
        stop        s = {.codec = row[_i].codec, .rank = who};
        char        named[32];
        setenv("TAUT_FAKE_HOSTS", row[_i].hosts, 1);
        cfg.codec = row[_i].codec;
        cfg.algorithm = row[_i].algorithm;
        cfg.hierarchy = row[_i].hierarchy;
        cfg.timeout_ms = 2000; /* a loaded machine keeps a thread waiting for some of that */
        ranks_run(row[_i].ranks, &cfg, late_rank, &s, ctx);
        snprintf(named, sizeof named, "nothing from rank %d", who);
        for (int r = 0; r < row[_i].ranks; r++)
            ck_assert_msg(r == who || strstr(ctx[r].error, named), "rank %d of %d, stopped %d: %s", r, row[_i].ranks,
                          who, ctx[r].error);
    }
}
END_TEST

/* ---- a round of small layers that ends between the look whether it is still wanted and its beginning: no other one follows it ---- */

static taut_status late_look(ranks_ctx *c)
{
    taut_layer *l;
    size_t      n = 64;
    float       x[64] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "small", TAUT_F32, 1, &n, &l));
    for (int step = 0; step < 4; step++) {
        x[0] = 1;
        TAUT_TRY(taut_allreduce_start(l, x, TAUT_SUM));
        TAUT_TRY(taut_wait(l));
        if (c->rank == step % c->size) { /* as taut_wait() of one that has looked before the round was over */
            taut__fuse_round(l, true);
            TAUT_TRY(taut__engine_wait(&c->comm->ctx.engine, &l->bucket->job));
        }
        TAUT_TRY(taut_step_end(c->comm));
        if (x[0] != (float)c->size) return taut__fail(TAUT_E_INVALID, "step %d: %g", step, (double)x[0]);
    }
    return TAUT_OK;
}
START_TEST(no_round_for_nobody)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = _i / 2 ? "auto" : "none";
    cfg.progress = 1 + _i % 2;
    cfg.timeout_ms = suite_patience(5000);
    ranks_ok(3, &cfg, late_look, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("races");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, failure_comes_before_done, 0, 2);
    tcase_add_loop_test(t, blocking_meets_started, 0, 6);
    tcase_add_test(t, registers_beside_running_layers);
    tcase_add_loop_test(t, statistics_of_whole_collectives, 0, 2);
    tcase_add_loop_test(t, two_calls_in_a_step, 0, 6);
    tcase_add_loop_test(t, says_what_a_worker_saw, 0, 3);
    tcase_add_loop_test(t, huge_codes_of_a_peer, 0, 2);
    tcase_add_loop_test(t, no_round_for_nobody, 0, 4);
    tcase_add_loop_test(t, names_who_is_late, 0, suite_long() ? 9 : 4); /* 4 s each */
    return suite_run(s);
}
