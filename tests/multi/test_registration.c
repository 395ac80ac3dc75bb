/* test_registration.c : what a program calls between creation and the first step: registration, codecs, scales, bases, a saved state. Each call fails for want
 * of memory, at every place, on one rank alone, and is made again: everything is as if it had not failed. A layer that leaves the planner and comes
 * back is planned for. */
#include "../support/suite.h"
#include "comm/core/communicator.h"
#include "tests/support/ranks.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 2, LAYERS = 6, ROWS = 48, COLS = 80, SMALL = 9000, STEPS = 14 };

typedef struct settings {
    const char *codec, *budget;
} settings;
static const settings all[] = {{"quant:bits=4", NULL},
                               {"auto", "like:quant:bits=4"},
                               {"auto", "rel=0.1"},
                               {"topk:density=0.1", NULL},
                               {"powersgd:rank=2", NULL}};
enum { ALL = sizeof all / sizeof *all };

static taut_config config(const settings *s)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = s->codec;
    if (s->budget) cfg.budget = s->budget;
    cfg.objective = "bytes";
    cfg.link = "100mbit";
    cfg.replan_steps = 4;
    cfg.timeout_ms = suite_patience(20000);
    cfg.bucket_kib = 64;
    return cfg;
}

/* 0, 3: large; 1, 2: small ones, one for each bucket of 64 KiB; 4: large, of half precision; 5: small. */
static taut_status register_one(taut_comm *comm, int i, taut_layer **l)
{
    static const char *const names[LAYERS] = {"w0", "b1", "b2", "w3", "h4", "b5"};
    size_t                   small[] = {SMALL}, large[] = {ROWS, COLS};
    bool                     is_small = i == 1 || i == 2 || i == 5;
    return taut_layer_register(comm, names[i], i == 4 ? TAUT_F16 : TAUT_F32, is_small ? 1 : 2, is_small ? small : large,
                               l);
}

/* The calls: layers, then the rest. */
enum { PIN = LAYERS, UNFUSE, SCALE, BASIS_OF, BASIS, LOAD, CALLS };

typedef struct seat {
    taut_comm      *comm;
    void           *saved; /* the state at the end of another run, which this one begins with */
    size_t          saved_bytes;
    taut_layer     *l[LAYERS];
    float           last[ROWS * COLS]; /* the sum of layer 0 in the last step */
    taut_comm_stats stats;
    bool            ended; /* of the first: a state could not be loaded, and the communicator is of no use */
    taut_status     status;
    char            error[300];
} seat;

static taut_status steps(seat *s)
{
    float *x = calloc((size_t)LAYERS * SMALL, sizeof *x);
    int    rank = taut_comm_rank(s->comm);
    for (int step = 0; step < STEPS; step++) {
        taut_status r = TAUT_OK;
        for (int i = 0; i < LAYERS && r == TAUT_OK; i++) {
            float *at = x + (size_t)i * SMALL;
            if (i == 4) memset(at, 0, sizeof(uint16_t) * ROWS * COLS);
            else
                for (size_t k = 0; k < SMALL; k++) at[k] = ranks_value(rank, k, step);
            r = taut_allreduce_start(s->l[i], at, TAUT_SUM);
        }
        for (int i = 0; i < LAYERS && r == TAUT_OK; i++) r = taut_wait(s->l[i]);
        if (r == TAUT_OK) r = taut_step_end(s->comm);
        if (r != TAUT_OK) {
            free(x);
            return r;
        }
    }
    memcpy(s->last, x, sizeof s->last);
    free(x);
    s->stats = (taut_comm_stats){.size = sizeof s->stats};
    taut_comm_get_stats(s->comm, &s->stats);
    return TAUT_OK;
}

static void *run(void *arg)
{
    seat *s = arg;
    s->status = steps(s);
    snprintf(s->error, sizeof s->error, "%s", taut_last_error());
    return NULL;
}

static taut_status call(seat *s, int what)
{
    float       scale[ROWS], momentum[ROWS * COLS];
    taut_layer *named;
    taut_status status;
    switch (what) {
    case PIN: return taut_layer_codec(s->l[4], "topk:density=0.05");
    case UNFUSE: return taut_layer_codec(s->l[2], "quant:bits=8");
    case SCALE:
        for (int i = 0; i < ROWS; i++) scale[i] = 1 + (float)i;
        return taut_layer_scale(s->l[0], scale, ROWS);
    case BASIS_OF: return taut_layer_codec(s->l[3], "grid:rel=0.2,basis=4");
    case BASIS:
        for (size_t k = 0; k < ROWS * COLS; k++) momentum[k] = ranks_value(3, k, 1);
        return taut_layer_basis(s->l[3], momentum, ROWS * COLS);
    case LOAD: return s->saved ? taut_state_load(s->comm, s->saved, s->saved_bytes) : TAUT_OK;
    default:
        status = register_one(s->comm, what, &named);
        ck_assert(status == TAUT_OK || !named);
        if (status == TAUT_OK) s->l[what] = named;
        return status;
    }
}

static void keep_state(seat *s)
{
    ck_assert_int_eq(taut_state_save(s->comm, NULL, 0, &s->saved_bytes), TAUT_OK);
    s->saved = malloc(s->saved_bytes);
    ck_assert_int_eq(taut_state_save(s->comm, s->saved, s->saved_bytes, &s->saved_bytes), TAUT_OK);
}

/* nth: the allocation of rank 1 that fails in call `which`; -1: none. keep: the state at the end. Returns whether it came to that. */
static bool train(const settings *set, int which, int nth, seat *s, bool keep)
{
    taut_config cfg = config(set);
    taut_comm  *comms[SIZE];
    pthread_t   thread[SIZE];
    bool        failed = false, ended = false;
    ck_assert_int_eq(taut_comm_create_threads(SIZE, &cfg, comms), TAUT_OK);
    for (int r = 0; r < SIZE; r++) {
        s[r].comm = comms[r];
        for (int i = 0; i < CALLS; i++) {
            bool fails = r == 1 && i == which;
            if (fails) taut__alloc_fail_after(nth);
            taut_status status = call(&s[r], i);
            if (fails) taut__alloc_fail_after(-1);
            if (status == TAUT_OK) continue;
            ck_assert_msg(status == TAUT_E_NOMEM && fails, "rank %d, call %d: %s", r, i, taut_last_error());
            failed = true;
            status = call(&s[r], i);
            ended = i == LOAD && status == TAUT_E_NOMEM; /* as taut.h says */
            ck_assert_msg(status == TAUT_OK || ended, "call %d, again: %s", i, taut_last_error());
        }
    }
    s[0].ended = ended;
    for (int r = 0; r < SIZE && ended; r++) taut_comm_destroy(comms[r]);
    if (ended) return true;
    for (int r = 0; r < SIZE; r++) ck_assert_int_eq(pthread_create(&thread[r], NULL, run, &s[r]), 0);
    for (int r = 0; r < SIZE; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < SIZE; r++)
        ck_assert_msg(s[r].status == TAUT_OK, "call %d, allocation %d: rank %d: %s", which, nth, r, s[r].error);
    for (int r = 0; r < SIZE && keep; r++) keep_state(&s[r]);
    for (int r = 0; r < SIZE; r++) taut_comm_destroy(comms[r]);
    return failed;
}

START_TEST(again)
{
    const settings *set = &all[_i];
    seat           *whole = calloc(SIZE, sizeof *whole), *s = calloc(SIZE, sizeof *s);
    int             failures = 0;
    train(set, -1, -1, whole, true);
    for (int r = 0; r < SIZE; r++) s[r].saved = whole[r].saved, s[r].saved_bytes = whole[r].saved_bytes;
    train(set, -1, -1, whole, false); /* goes on from the state */
    size_t before = taut__alloc_bytes();
    if (set->budget) ck_assert_uint_gt(whole[0].stats.plans, 0);
    for (int which = 0; which < CALLS; which++)
        for (int nth = 0; train(set, which, nth, s, false); nth += which == LOAD && !suite_long() ? 3 : 1) {
            failures++;
            for (int r = 0; r < SIZE && !s[0].ended; r++) {
                ck_assert_msg(memcmp(s[r].last, whole[r].last, sizeof s[r].last) == 0,
                              "call %d, allocation %d: another sum", which, nth);
                ck_assert_uint_eq(s[r].stats.plan_hash, whole[r].stats.plan_hash);
                ck_assert_uint_eq(s[r].stats.plans, whole[r].stats.plans);
            }
            ck_assert_msg(taut__alloc_bytes() == before, "call %d, allocation %d: %zu bytes held, %zu before", which,
                          nth, taut__alloc_bytes(), before);
        }
    ck_assert_int_ge(failures, LAYERS + 4);
    for (int r = 0; r < SIZE; r++) free(whole[r].saved);
    free(whole);
    free(s);
}
END_TEST

/* Given a codec, and back to auto before its first step: planned for like the others. */
static taut_status comes_back(ranks_ctx *c)
{
    seat            *s = calloc(1, sizeof *s);
    taut_layer_stats stats = {.size = sizeof stats};
    s->comm = c->comm;
    for (int i = 0; i < LAYERS; i++) TAUT_TRY(register_one(c->comm, i, &s->l[i]));
    for (int times = 0; times < 2; times++)
        for (int i = 0; i < LAYERS; i += 3) {
            TAUT_TRY(taut_layer_codec(s->l[i], "quant:bits=8"));
            TAUT_TRY(taut_layer_codec(s->l[i], "auto"));
        }
    taut_status status = steps(s);
    for (int i = 0; i < LAYERS && status == TAUT_OK; i += 3) {
        taut_layer_get_stats(s->l[i], &stats);
        NEED(strcmp(stats.codec, "none") != 0 && strcmp(stats.codec, "quant:bits=8") != 0);
    }
    free(s);
    return status;
}
START_TEST(back)
{
    taut_config cfg = config(&all[1 + _i]);
    ranks_ok(SIZE, &cfg, comes_back, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("registration");
    TCase *t = suite_case(suite, "registration", 300);
    setenv("TAUT_LOG", "error", 1);
    tcase_add_loop_test(t, again, 0, ALL);
    tcase_add_loop_test(t, back, 0, 2);
    return suite_run(suite);
}
