/* test_delivery.c : messages that are dropped, delayed, doubled, overtaken, flipped and cut by seed (comm/transport/faulty.c). With
 * delivery=assured the results are those of a run without damage, bit for bit, or a damage that came twice is an error; without it
 * a damaged frame and a lost message are errors. Never a wrong sum, never a hang. Ranks are threads. LONG=1: more seeds. It mostly waits. */
#include "comm/transport/wrapped.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { LAYERS = 4, STEPS = 4, MOST = 300 * 160 };
static const size_t shape[LAYERS][2] = {{60, 50}, {300, 160}, {1, 70}, {64, 64}};

static taut_config config(const char *codec, const char *delivery)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = codec;
    cfg.delivery = delivery;
    cfg.timeout_ms = 8000;
    return cfg;
}

static void faults(const char *text) { ck_assert_int_eq(setenv("TAUT_FAULTS", text, 1), 0); }

/* Every result of every step, hashed; arg: one hash per rank. */
static taut_status train(ranks_ctx *c)
{
    uint64_t   *hash = (uint64_t *)c->arg + c->rank;
    taut_layer *l[LAYERS];
    float      *x[LAYERS];
    taut_status s = TAUT_OK;
    *hash = 0;
    for (int i = 0; i < LAYERS; i++) {
        char name[2] = {(char)('a' + i), 0};
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, shape[i][0] == 1 ? 1 : 2, shape[i] + (shape[i][0] == 1),
                                     &l[i]));
        x[i] = calloc(MOST, sizeof **x);
    }
    for (int step = 0; step < STEPS && s == TAUT_OK; step++) {
        for (int i = 0; i < LAYERS && s == TAUT_OK; i++) {
            for (size_t k = 0; k < shape[i][0] * shape[i][1]; k++) x[i][k] = ranks_value(c->rank, k + (size_t)i, step);
            s = taut_allreduce_start(l[i], x[i], TAUT_SUM);
        }
        if (s == TAUT_OK) s = taut_step_end(c->comm);
        for (int i = 0; i < LAYERS && s == TAUT_OK; i++)
            *hash = XXH3_64bits_withSeed(x[i], shape[i][0] * shape[i][1] * sizeof **x, *hash);
    }
    for (int i = 0; i < LAYERS; i++) free(x[i]);
    return s;
}

static const char *const codec[] = {"none",
                                    "fp16",
                                    "quant:bits=4",
                                    "grid:rel=0.05",
                                    "topk:density=0.1",
                                    "randk:density=0.2",
                                    "powersgd:rank=2",
                                    "stack:topk:density=0.1+quant:bits=4"};
enum { CODECS = sizeof codec / sizeof *codec };
static const char *const kind[] = {"drop=0.01",
                                   "delay=0.2,delay_us=3000",
                                   "twice=0.2",
                                   "reorder=0.2",
                                   "flip=0.01",
                                   "cut=0.01",
                                   "drop=0.005,delay=0.05,twice=0.05,reorder=0.05,flip=0.005,cut=0.005"};
enum { KINDS = sizeof kind / sizeof *kind };

/* A damage that met a piece twice is no fault of this file's: TAUT_E_CORRUPT, or the timeout of who waits. */
static int judge(const ranks_ctx *ctx, int p, const uint64_t *hash, uint64_t right, const char *what)
{
    int ended = 0;
    for (int r = 0; r < p; r++) {
        bool told = ctx[r].status == TAUT_E_CORRUPT || ctx[r].status == TAUT_E_TIMEOUT || ctx[r].status == TAUT_E_PEER;
        ck_assert_msg(ctx[r].status == TAUT_OK ? hash[r] == right : told, "%s, rank %d of %d: %s: %s", what, r, p,
                      taut_status_name(ctx[r].status), ctx[r].error);
        ended += ctx[r].status == TAUT_OK;
        if (ctx[r].status != TAUT_OK && getenv("TAUT_LOG"))
            fprintf(stderr, "%s, rank %d of %d: %s\n", what, r, p, ctx[r].error);
    }
    return ended == p;
}

static bool enough(int ended, int all) { return ended * 10 >= all * 7; }

START_TEST(assured_is_as_undamaged)
{
    int seeds = suite_long() ? 20 : 1, all = 0, ended = 0;
    int few = suite_long() ? 0 : 2 + _i % 3;
    for (int p = few ? few : 2; p <= (few ? few : 4); p++) {
        uint64_t    hash[4];
        ranks_ctx   ctx[4];
        taut_config plain = config(codec[_i], "plain"), assured = config(codec[_i], "assured");
        faults("");
        plain.algorithm = assured.algorithm = p == 3 ? "ring" : "auto";
        if (_i == 6 || _i == 5) plain.algorithm = assured.algorithm = "auto"; /* linear */
        ranks_run(p, &plain, train, hash, ctx);
        ck_assert_msg(ctx[0].status == TAUT_OK, "%s", ctx[0].error);
        uint64_t right = hash[0];
        /* a few runs say little of a share: where they say that it is too small, more are asked */
        for (int seed = 1; seed <= seeds || (seed <= 4 && !enough(ended, all)); seed++)
            for (int k = -1; k < KINDS; k++) {
                char text[128];
                snprintf(text, sizeof text, "%s,seed=%d", k < 0 ? "least=1" : kind[k], seed + 10 * _i);
                faults(text);
                ranks_run(p, &assured, train, hash, ctx);
                ended += judge(ctx, p, hash, right, text);
                all++;
                ck_assert_msg(k >= 0 || ctx[0].status == TAUT_OK, "without damage: %s", ctx[0].error);
            }
    }
    ck_assert_msg(enough(ended, all), "only %d of %d runs ended well", ended, all); /* else nothing was shown */
}
END_TEST

/* Everything that a rank sends is damaged, the second time too. */
START_TEST(damaged_twice)
{
    uint64_t    hash[3];
    ranks_ctx   ctx[3];
    taut_config cfg = config("quant:bits=4", "assured");
    faults(_i ? "cut=1,rank=1,least=41" : "flip=1,rank=1,least=41");
    ranks_run(3, &cfg, train, hash, ctx);
    int corrupt = 0;
    for (int r = 0; r < 3; r++) {
        ck_assert_msg(ctx[r].status == TAUT_E_CORRUPT || ctx[r].status == TAUT_E_PEER ||
                          ctx[r].status == TAUT_E_TIMEOUT,
                      "rank %d: %s", r, ctx[r].error);
        corrupt += strstr(ctx[r].error, "was damaged twice on its way") != NULL;
        if (corrupt && _i == 0)
            ck_assert_msg(strstr(ctx[r].error, "from rank 1") != NULL, "rank %d: %s", r, ctx[r].error);
    }
    ck_assert_msg(corrupt == 3 || _i == 1, "%d of 3 ranks say that a message was damaged twice: %s", corrupt,
                  ctx[0].error);
}
END_TEST

/* ---- without it ---- */

static taut_status once(ranks_ctx *c)
{
    uint64_t   *hash = (uint64_t *)c->arg + c->rank;
    taut_layer *l;
    float      *x = calloc(MOST, sizeof *x);
    taut_status s = taut_layer_register(c->comm, "w", TAUT_F32, 2, shape[1], &l);
    for (size_t k = 0; k < MOST; k++) x[k] = ranks_value(c->rank, k, 0);
    if (s == TAUT_OK) s = taut_allreduce(l, x, TAUT_SUM);
    *hash = XXH3_64bits(x, MOST * sizeof *x);
    free(x);
    return s;
}

/* One frame is damaged, or lost. A rank may have all that it needs, and be done; every other one says so. */
START_TEST(plain_frames)
{
    static const char *const damage[] = {"flip=1", "cut=1", "drop=1"};
    for (int p = 2; p <= 4; p++) {
        uint64_t    hash[4], right;
        ranks_ctx   ctx[4];
        taut_config cfg = config(codec[_i], "plain");
        cfg.timeout_ms = 700;
        faults("");
        ranks_run(p, &cfg, once, hash, ctx);
        right = hash[0];
        for (int k = 0; k < 3; k++) {
            char text[64];
            snprintf(text, sizeof text, "%s,least=4000,times=1,rank=0", damage[k]);
            faults(text);
            double begin = taut__now();
            ranks_run(p, &cfg, once, hash, ctx);
            ck_assert_double_lt(taut__now() - begin, 0.7 + 2);
            int named = 0;
            for (int r = 0; r < p; r++) {
                ck_assert_msg(ctx[r].status != TAUT_OK || hash[r] == right, "%s, %s, rank %d of %d: a wrong sum",
                              codec[_i], text, r, p);
                named += ctx[r].status == TAUT_E_CORRUPT || (k == 2 && ctx[r].status == TAUT_E_TIMEOUT);
            }
            ck_assert_msg(named > 0, "%s, %s, %d ranks: nobody says so: %s", codec[_i], text, p, ctx[p - 1].error);
        }
    }
}
END_TEST

START_TEST(texts)
{
    static const char *const wrong[] = {"flop=1",           "flip",   "flip=", "flip=2", "flip=-1", "flip=0.1;cut=1",
                                        "flip=0.6,cut=0.6", "seed=x", "=1"};
    taut__faults             f;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        taut_status s = taut__faults_parse(wrong[i], &f);
        ck_assert_msg((s == TAUT_E_INVALID || s == TAUT_E_RANGE) && strstr(taut_last_error(), "must be"), "'%s': %s",
                      wrong[i], taut_last_error());
    }
    ck_assert_int_eq(taut__faults_parse("", &f), TAUT_OK);
    ck_assert(!taut__faults_any(&f));
    ck_assert_int_eq(taut__faults_parse("drop=0.25,seed=9,delay_us=5,least=1,most=2,after=3,times=4,rank=0", &f),
                     TAUT_OK);
    ck_assert(taut__faults_any(&f) && f.share[TAUT_FAULT_DROP] == 0.25 && f.seed == 9 && f.delay_us == 5 &&
              f.least == 1 && f.most == 2 && f.after == 3 && f.times == 4 && f.rank == 0);
    taut_comm  *comm[2];
    taut_config cfg = config("none", "maybe");
    ck_assert_int_eq(taut_comm_create_threads(2, &cfg, comm), TAUT_E_INVALID);
    faults("flop=1");
    cfg = config("none", "plain");
    ck_assert_int_eq(taut_comm_create_threads(2, &cfg, comm), TAUT_E_INVALID);
}
END_TEST

/* ---- on its own: messages of all lengths and tags, in both directions, and what is left under way at the end ---- */

enum { MESSAGES = 60 };
static size_t length_of(int i) { return (size_t)(i * 37 % 11 == 0 ? 0 : i % 7 == 0 ? 200000 + i : i * 131 % 3000); }

START_TEST(messages)
{
    taut__transport *t[2];
    taut__faults     f;
    char            *out[MESSAGES], *in[2][MESSAGES];
    taut__request    send[2][MESSAGES], recv[2][MESSAGES];
    ck_assert_int_eq(taut__threads_create(2, 0, t), TAUT_OK);
    ck_assert_int_eq(taut__faults_parse("twice=0.1,reorder=0.1,flip=0.05,cut=0.02,drop=0.02", &f), TAUT_OK);
    f.seed = (uint64_t)_i + 1;
    for (int r = 0; r < 2; r++) {
        ck_assert_int_eq(taut__faulty_create(&f, &t[r]), TAUT_OK);
        ck_assert_int_eq(taut__assured_create(100, &t[r]), TAUT_OK);
        taut__requests_init(send[r], MESSAGES), taut__requests_init(recv[r], MESSAGES);
    }
    for (int i = 0; i < MESSAGES; i++) {
        out[i] = malloc(length_of(i) + 1);
        for (size_t k = 0; k < length_of(i); k++) out[i][k] = (char)(i + 3 * (int)k);
    }
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < MESSAGES; i++) { /* half of the receives come late */
            in[r][i] = calloc(length_of(i) + 1, 1);
            if (i % 2)
                ck_assert_int_eq(t[r]->ops->irecv(t[r], &recv[r][i], 1 - r, 8 + i % 5, in[r][i], length_of(i)),
                                 TAUT_OK);
            ck_assert_int_eq(t[r]->ops->isend(t[r], &send[r][i], 1 - r, 8 + i % 5, out[i], length_of(i)), TAUT_OK);
            if (i % 2 == 0)
                ck_assert_int_eq(t[r]->ops->irecv(t[r], &recv[r][i], 1 - r, 8 + i % 5, in[r][i], length_of(i)),
                                 TAUT_OK);
        }
    double begin = taut__now();
    bool   all = false, failed = false;
    while (!all && !failed && taut__now() - begin < 5) {
        for (int r = 0; r < 2; r++) failed |= t[r]->ops->poll(t[r]) != TAUT_OK;
        all = taut__all_done(recv[0], MESSAGES) && taut__all_done(recv[1], MESSAGES);
    }
    ck_assert_msg(all || failed || taut__now() - begin >= 5, "neither done nor failed");
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < MESSAGES; i++) {
            bool done = taut__done(&recv[r][i]);
            if (done) ck_assert_uint_eq(recv[r][i].got, length_of(i));
            if (done)
                ck_assert_msg(memcmp(in[r][i], out[i], length_of(i)) == 0, "message %d of rank %d is wrong", i, 1 - r);
            t[r]->ops->cancel(t[r], &recv[r][i]);
        }
    for (int r = 0; r < 2; r++) t[r]->ops->destroy(t[r]);
    for (int i = 0; i < MESSAGES; i++) free(out[i]), free(in[0][i]), free(in[1][i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("delivery");
    TCase *t = suite_case(s, "all", suite_long() ? 1200 : 120);
    tcase_add_loop_test(t, assured_is_as_undamaged, 0, CODECS);
    tcase_add_loop_test(t, damaged_twice, 0, 2);
    tcase_add_loop_test(t, plain_frames, 1, 5); /* those that send frames */
    tcase_add_test(t, texts);
    tcase_add_loop_test(t, messages, 0, 10);
    return suite_run(s);
}
