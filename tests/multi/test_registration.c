/* test_registration.c : layers whose registration fails for want of memory, at every place, on one rank alone, and that are registered again: everything
 * is as if it had not failed. A layer that leaves the planner and comes back is planned for. */
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
    cfg.timeout_ms = 20000;
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

typedef struct seat {
    taut_comm      *comm;
    taut_layer     *l[LAYERS];
    float           last[ROWS * COLS]; /* the sum of layer 0 in the last step */
    taut_comm_stats stats;
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

/* nth: the allocation of rank 1 that fails while it registers layer `which`; -1: none. Returns whether it came to that. */
static bool train(const settings *set, int which, int nth, seat *s)
{
    taut_config cfg = config(set);
    taut_comm  *comms[SIZE];
    pthread_t   thread[SIZE];
    bool        failed = false;
    ck_assert_int_eq(taut_comm_create_threads(SIZE, &cfg, comms), TAUT_OK);
    for (int r = 0; r < SIZE; r++) {
        s[r].comm = comms[r];
        for (int i = 0; i < LAYERS; i++) {
            if (r == 1 && i == which) taut__alloc_fail_after(nth);
            taut_status status = register_one(comms[r], i, &s[r].l[i]);
            if (r == 1 && i == which) taut__alloc_fail_after(-1);
            if (status != TAUT_OK) {
                failed = true;
                ck_assert_msg(status == TAUT_E_NOMEM && r == 1 && i == which && !s[r].l[i], "%s", taut_last_error());
                ck_assert_msg(register_one(comms[r], i, &s[r].l[i]) == TAUT_OK, "%s", taut_last_error());
            }
        }
    }
    for (int r = 0; r < SIZE; r++) ck_assert_int_eq(pthread_create(&thread[r], NULL, run, &s[r]), 0);
    for (int r = 0; r < SIZE; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < SIZE; r++) taut_comm_destroy(comms[r]);
    for (int r = 0; r < SIZE; r++) ck_assert_msg(s[r].status == TAUT_OK, "rank %d: %s", r, s[r].error);
    return failed;
}

START_TEST(again)
{
    const settings *set = &all[_i];
    seat           *whole = calloc(SIZE, sizeof *whole), *s = calloc(SIZE, sizeof *s);
    int             failures = 0;
    size_t          before = taut__alloc_bytes();
    train(set, -1, -1, whole);
    for (int which = 0; which < LAYERS; which++)
        for (int nth = 0; train(set, which, nth, s); nth++) {
            failures++;
            for (int r = 0; r < SIZE; r++) {
                ck_assert_msg(memcmp(s[r].last, whole[r].last, sizeof s[r].last) == 0,
                              "layer %d, allocation %d: another sum", which, nth);
                ck_assert_uint_eq(s[r].stats.plan_hash, whole[r].stats.plan_hash);
                ck_assert_uint_eq(s[r].stats.plans, whole[r].stats.plans);
            }
            ck_assert_uint_eq(taut__alloc_bytes(), before);
        }
    ck_assert_int_ge(failures, LAYERS);
    if (set->budget) ck_assert_uint_gt(whole[0].stats.plans, 0);
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
