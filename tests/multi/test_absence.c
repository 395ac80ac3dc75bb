/* test_absence.c : ranks that do not do what the others wait for, in every way that a program can get that wrong: nobody waits for the
 * timeout, and the error names the rank and the layer. Ranks that differ in what must be alike. Ranks are threads. It mostly waits. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <pthread.h>
#include <time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 48, COLS = 60, N = ROWS * COLS, MOST = 7, TIMEOUT_MS = 20000 };
static const double AT_ONCE_S = 6; /* far below the timeout, far above what a loaded machine takes */

typedef taut_status (*body)(taut_comm **comm, int rank, int size);

typedef struct seat {
    taut_comm  *comm;
    int         rank, size;
    body        run;
    taut_status status;
    char        error[1024];
    double      seconds;
} seat;

static void *seat_main(void *arg)
{
    seat  *s = arg;
    double begin = taut__now();
    s->status = s->run(&s->comm, s->rank, s->size);
    s->seconds = taut__now() - begin;
    snprintf(s->error, sizeof s->error, "%s", s->status == TAUT_OK ? "" : taut_last_error());
    taut_comm_destroy(s->comm);
    return NULL;
}

/* Unlike ranks_run(), a rank destroys its communicator when it is done. cfg: one for all, or, where each, one per rank. */
static void run_with(int size, const taut_config *cfg, bool each, body run, seat *seats)
{
    taut__transport *t[MOST];
    pthread_t        thread[MOST];
    ck_assert_int_eq(taut__threads_create(size, 0, t), TAUT_OK);
    for (int r = 0; r < size; r++) {
        seats[r] = (seat){.rank = r, .size = size, .run = run};
        ck_assert_int_eq(taut__comm_create(t[r], &cfg[each ? r : 0], &seats[r].comm), TAUT_OK);
    }
    for (int r = 0; r < size; r++) ck_assert_int_eq(pthread_create(&thread[r], NULL, seat_main, &seats[r]), 0);
    for (int r = 0; r < size; r++) pthread_join(thread[r], NULL);
}

static void run(int size, const taut_config *cfg, body what, seat *seats) { run_with(size, cfg, false, what, seats); }

static taut_config config(int progress)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = TIMEOUT_MS;
    cfg.codec = "quant:bits=4";
    cfg.progress = progress;
    return cfg;
}

static const int sizes[] = {2, 3, 4, 7};
enum { SIZES = 4 };

/* All ranks fail with one of the two, in time, and say all words. */
static void all_fail(const seat *s, int size, taut_status one, taut_status other, const char *word, const char *word2)
{
    for (int r = 0; r < size; r++) {
        ck_assert_msg(s[r].status == one || s[r].status == other, "rank %d of %d: %s: %s", r, size,
                      taut_status_name(s[r].status), s[r].error);
        ck_assert_msg(strstr(s[r].error, word) && strstr(s[r].error, word2), "rank %d of %d: %s", r, size, s[r].error);
        ck_assert_msg(s[r].seconds < AT_ONCE_S, "rank %d of %d took %.1f s", r, size, s[r].seconds);
    }
}

static taut_status two_layers(taut_comm *comm, taut_layer **a, taut_layer **b, size_t columns)
{
    TAUT_TRY(taut_layer_register(comm, "a", TAUT_F32, 2, (size_t[]){ROWS, COLS}, a));
    return taut_layer_register(comm, "b", TAUT_F32, columns ? 2 : 1,
                               columns ? (size_t[]){ROWS, columns} : (size_t[]){ROWS}, b);
}

static taut_status first_step(taut_comm *comm, taut_layer *a, taut_layer *b)
{
    static _Thread_local float x[N], y[N];
    TAUT_TRY(taut_allreduce(a, x, TAUT_SUM));
    TAUT_TRY(taut_allreduce(b, y, TAUT_SUM));
    return taut_step_end(comm);
}

/* ---- a layer that one rank alone registers, and starts or does not ---- */

static bool        start_it;
static taut_status late_layer(taut_comm **comm, int rank, int size)
{
    static _Thread_local float x[N];
    taut_layer                *a, *b, *only;
    (void)size;
    TAUT_TRY(two_layers(*comm, &a, &b, COLS));
    TAUT_TRY(first_step(*comm, a, b));
    if (rank == 0) TAUT_TRY(taut_layer_register(*comm, "only.on.rank0", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &only));
    if (rank == 0 && start_it) TAUT_TRY(taut_allreduce_start(only, x, TAUT_SUM));
    return taut_step_end(*comm);
}
START_TEST(late)
{
    seat        s[MOST];
    taut_config cfg = config(_i % 2 ? 2 : 0);
    start_it = _i / 2;
    for (int k = 0; k < SIZES; k++) {
        run(sizes[k], &cfg, late_layer, s);
        all_fail(s, sizes[k], TAUT_E_MISMATCH, TAUT_E_MISMATCH, "'only.on.rank0'", "rank 0");
    }
}
END_TEST

/* ---- a layer that one rank does not start: of its own, or one of a bucket; others wait in step_end, in wait, or in a blocking call ---- */

static int         how, absent;
static bool        fused;
static taut_status skips_one(taut_comm **comm, int rank, int size)
{
    static _Thread_local float x[N], y[N];
    taut_layer                *a, *b;
    (void)size;
    TAUT_TRY(two_layers(*comm, &a, &b, fused ? 0 : COLS));
    TAUT_TRY(first_step(*comm, a, b));
    TAUT_TRY(taut_allreduce_start(a, x, TAUT_SUM));
    if (rank != absent)
        TAUT_TRY(how == 2 && !fused ? taut_allreduce(b, y, TAUT_SUM) : taut_allreduce_start(b, y, TAUT_SUM));
    if (rank != absent && how == 1) TAUT_TRY(taut_wait(b));
    return taut_step_end(*comm);
}
START_TEST(skipped)
{
    seat        s[MOST];
    char        who[24];
    taut_config cfg = config(_i & 1 ? 2 : 0);
    fused = _i & 2;
    how = _i / 4;
    for (int k = 0; k < SIZES; k++) {
        absent = how ? sizes[k] - 1 : 0;
        snprintf(who, sizeof who, "rank %d", absent);
        run(sizes[k], &cfg, skips_one, s);
        all_fail(s, sizes[k], TAUT_E_MISMATCH, TAUT_E_MISMATCH, "'b'", who);
    }
}
END_TEST

/* Late is not absent: others wait for a second and a half, and all is well. */
static taut_status comes_late(taut_comm **comm, int rank, int size)
{
    static _Thread_local float x[N], y[N];
    taut_layer                *a, *b;
    (void)size;
    TAUT_TRY(two_layers(*comm, &a, &b, fused ? 0 : COLS));
    for (int step = 0; step < 2; step++) {
        TAUT_TRY(taut_allreduce_start(a, x, TAUT_SUM));
        if (rank == 0) nanosleep(&(struct timespec){1, 500000000}, NULL);
        TAUT_TRY(taut_allreduce_start(b, y, TAUT_SUM));
        if (rank == 0) nanosleep(&(struct timespec){0, 300000000}, NULL);
        TAUT_TRY(taut_step_end(*comm));
    }
    return TAUT_OK;
}
START_TEST(late_but_there)
{
    seat        s[MOST];
    taut_config cfg = config(_i & 1 ? 2 : 0);
    fused = _i & 2;
    run(3, &cfg, comes_late, s);
    for (int r = 0; r < 3; r++) ck_assert_msg(s[r].status == TAUT_OK, "%s", s[r].error);
}
END_TEST

/* ---- a rank that has gone: after the same steps it is missed by nobody; else at once ---- */

static taut_status leaves(taut_comm **comm, int rank, int size)
{
    static _Thread_local float x[N];
    taut_layer                *a, *b;
    TAUT_TRY(two_layers(*comm, &a, &b, fused ? 0 : COLS));
    TAUT_TRY(first_step(*comm, a, b));
    if (rank == size - 1) {
        if (how == 2) TAUT_TRY(taut_allreduce_start(a, x, TAUT_SUM)); /* and leaves in the middle */
        taut_comm_destroy(*comm);
        *comm = NULL;
        return TAUT_E_PEER;
    }
    nanosleep(&(struct timespec){0, (how == 2 ? 300000000 : 0) + rank * 30000000},
              NULL); /* it has gone for some before they start, for others after */
    if (how != 1) TAUT_TRY(taut_allreduce(a, x, TAUT_SUM));
    return taut_step_end(*comm);
}
START_TEST(gone)
{
    seat        s[MOST];
    char        who[24];
    taut_config cfg = config(_i & 1 ? 2 : 0);
    how = _i / 2;
    fused = false;
    for (int k = 0; k < SIZES; k++) {
        snprintf(who, sizeof who, "rank %d", sizes[k] - 1);
        run(sizes[k], &cfg, leaves, s);
        snprintf(s[sizes[k] - 1].error, sizeof s->error, "%s 'a' taut_step_end", who); /* it returned before */
        all_fail(s, sizes[k], TAUT_E_PEER, TAUT_E_PEER, who, how == 1 ? "taut_step_end" : "'a'");
    }
}
END_TEST

static taut_status leaves_in_order(taut_comm **comm, int rank, int size)
{
    taut_layer *a, *b;
    TAUT_TRY(two_layers(*comm, &a, &b, COLS));
    for (int step = 0; step < 20; step++) TAUT_TRY(first_step(*comm, a, b));
    if (rank == size - 1) {
        taut_comm_destroy(*comm);
        *comm = NULL;
    } else {
        nanosleep(&(struct timespec){0, 200000000}, NULL);
    }
    return TAUT_OK;
}
START_TEST(in_order)
{
    seat        s[MOST];
    taut_config cfg = config(_i ? 2 : 0);
    run(4, &cfg, leaves_in_order, s);
    for (int r = 0; r < 4; r++) ck_assert_msg(s[r].status == TAUT_OK, "%s", s[r].error);
}
END_TEST

/* ---- what must be alike: settings, operations, scales, drops ---- */

static taut_status one_step(taut_comm **comm, int rank, int size)
{
    taut_layer *a, *b;
    (void)rank, (void)size;
    TAUT_TRY(two_layers(*comm, &a, &b, COLS));
    return first_step(*comm, a, b);
}

static void set(taut_config *c, int i)
{
    switch (i) {
    case 0: c->codec = "grid:rel=0.03"; break;
    case 1: c->budget = "rel=0.1"; break;
    case 2: c->objective = "bytes"; break;
    case 3: c->metric = "plain"; break;
    case 4: c->feedback = "on"; break;
    case 5: c->algorithm = "sra"; break;
    case 6: c->hierarchy = "off"; break;
    case 7: c->solver = "dp"; break;
    case 8: c->seed = 7; break;
    case 9: c->slice_kib = 512; break;
    case 10: c->bucket_kib = 128; break;
    case 11: c->small_elems = 10; break;
    case 12: c->replan_steps = 3; break;
    case 13: c->audit_steps = 5; break;
    case 14: c->start_step = 9; break;
    case 15: c->momentum = 0.5f; break;
    case 16: c->dropped = "restore"; break;
    default: c->link = "1gbit";
    }
}
static const char *const difference[][3] = {{"TAUT_CODEC", "quant:bits=4", "grid:rel=0.03"},
                                            {"TAUT_BUDGET", "like:quant:bits=4", "rel=0.1"},
                                            {"TAUT_OBJECTIVE", "time", "bytes"},
                                            {"TAUT_METRIC", "optimizer", "plain"},
                                            {"TAUT_FEEDBACK", "auto", "on"},
                                            {"TAUT_ALGORITHM", "auto", "sra"},
                                            {"TAUT_HIERARCHY", "auto", "off"},
                                            {"TAUT_SOLVER", "hull", "dp"},
                                            {"TAUT_SEED", "1", "7"},
                                            {"TAUT_SLICE_KIB", "1024", "512"},
                                            {"TAUT_BUCKET_KIB", "4096", "128"},
                                            {"TAUT_SMALL_ELEMS", "1024", "10"},
                                            {"TAUT_REPLAN_STEPS", "50", "3"},
                                            {"TAUT_AUDIT_STEPS", "50", "5"},
                                            {"TAUT_START_STEP", "0", "9"},
                                            {"TAUT_MOMENTUM", "0.9", "0.5"},
                                            {"TAUT_DROPPED", "clear", "restore"},
                                            {"TAUT_LINK", "measure", "1gbit"}};
enum { DIFFERENCES = sizeof difference / sizeof *difference };

START_TEST(settings)
{
    seat        s[MOST];
    taut_config cfg[MOST];
    char        here[64], there[64];
    int         size = 2 + _i % 3, other = size - 1;
    for (int r = 0; r < size; r++) cfg[r] = config(0);
    set(&cfg[other], _i);
    run_with(size, cfg, true, one_step, s);
    snprintf(here, sizeof here, "rank 0 has %s=%s,", difference[_i][0], difference[_i][1]);
    snprintf(there, sizeof there, "rank %d has %s=%s", other, difference[_i][0], difference[_i][2]);
    all_fail(s, size, TAUT_E_MISMATCH, TAUT_E_MISMATCH, here, there);
}
END_TEST

/* Settings that concern a rank alone may differ. */
START_TEST(own_settings)
{
    seat        s[MOST];
    taut_config cfg[3];
    for (int r = 0; r < 3; r++) {
        cfg[r] = config(r % 3);
        cfg[r].threads = 1 + r;
        cfg[r].timeout_ms += r;
    }
    run_with(3, cfg, true, one_step, s);
    for (int r = 0; r < 3; r++) ck_assert_msg(s[r].status == TAUT_OK, "%s", s[r].error);
}
END_TEST

enum { OTHER_OP, OTHER_SCALE, NO_SCALE, OTHER_DROP, OTHER_OP_SMALL, EARLIER_OP, WAYS };
static taut_status differs(taut_comm **comm, int rank, int size)
{
    static _Thread_local float x[N], y[N];
    float                      scale[ROWS];
    taut_layer                *a, *b;
    bool                       odd = rank == size - 1;
    TAUT_TRY(two_layers(*comm, &a, &b, how == OTHER_OP_SMALL ? 0 : COLS));
    TAUT_TRY(first_step(*comm, a, b));
    for (int i = 0; i < ROWS; i++) scale[i] = 1 + (float)i + (float)(odd && how == OTHER_SCALE && i == 9);
    if (how == OTHER_SCALE || (how == NO_SCALE && !odd)) TAUT_TRY(taut_layer_scale(b, scale, ROWS));
    if (how == OTHER_DROP && odd) TAUT_TRY(taut_step_drop(*comm));
    if (how == EARLIER_OP) TAUT_TRY(taut_allreduce(b, y, odd ? TAUT_MEAN : TAUT_SUM)); /* and then like all */
    TAUT_TRY(taut_allreduce_start(a, x, TAUT_MEAN));
    TAUT_TRY(taut_allreduce_start(b, y, odd && (how == OTHER_OP || how == OTHER_OP_SMALL) ? TAUT_MEAN : TAUT_SUM));
    return taut_step_end(*comm);
}
START_TEST(calls)
{
    static const char *const words[WAYS][2] = {{"op=sum", "op=mean"},       {"'b'", "scale of 48"},
                                               {"no scale", "scale of 48"}, {"dropped 0", "dropped 1"},
                                               {"op=sum", "op=mean"},       {"op=sum,sum", "op=mean,sum"}};
    seat                     s[MOST];
    taut_config              cfg = config(_i % 2 ? 2 : 0);
    how = _i / 2;
    for (int k = 0; k < SIZES; k++) {
        char who[24];
        snprintf(who, sizeof who, "rank %d has", sizes[k] - 1);
        run(sizes[k], &cfg, differs, s);
        all_fail(s, sizes[k], TAUT_E_MISMATCH, TAUT_E_MISMATCH, words[how][0], words[how][1]);
        all_fail(s, sizes[k], TAUT_E_MISMATCH, TAUT_E_MISMATCH, how == OTHER_DROP ? "steps" : "'b'", who);
    }
}
END_TEST

/* Specs whose texts begin with the same hundred characters. */
static taut_status long_spec(taut_comm **comm, int rank, int size)
{
#define LONG_START                                                                                                     \
    "stack:topk:density=0.011+quant:bits=3,bucket=128,norm=linf,round=nearest+quant:bits=3,bucket=64,norm=linf"
    static _Thread_local float x[N];
    const char                *spec = rank == size - 1 ? LONG_START ",round=nearest" : LONG_START;
    taut_layer                *l;
    TAUT_TRY(taut_layer_register(*comm, "a", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    TAUT_TRY(taut_layer_codec(l, spec));
    TAUT_TRY(taut_allreduce_start(l, x, TAUT_MEAN));
    return taut_step_end(*comm);
}
START_TEST(long_specs)
{
    seat        s[MOST];
    taut_config cfg = config(_i ? 2 : 0);
    run(3, &cfg, long_spec, s);
    all_fail(s, 3, TAUT_E_MISMATCH, TAUT_E_MISMATCH, "rank 2 has 'a'", "[48,60] stack:"); /* before it is used */
    for (int r = 0; r < 3; r++) {
        const char *there = strstr(s[r].error, "rank 2 has");
        ck_assert_msg(strstr(there, LONG_START ",round=nearest"), "rank %d: %s", r, s[r].error);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("absence");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, late, 0, 4);
    tcase_add_loop_test(t, skipped, 0, 12);
    tcase_add_loop_test(t, late_but_there, 0, 4);
    tcase_add_loop_test(t, gone, 0, 6);
    tcase_add_loop_test(t, in_order, 0, 2);
    tcase_add_loop_test(t, settings, 0, DIFFERENCES);
    tcase_add_test(t, own_settings);
    tcase_add_loop_test(t, calls, 0, 2 * WAYS);
    tcase_add_loop_test(t, long_specs, 0, 2);
    return suite_run(s);
}
