/* test_shrink.c : survivors of a lost rank go on in a communicator of their own: who they are, what they still have, and what of it is
 * lost. Ranks are threads; a lost one returns without a word. Over MPI: test_ranks_mpi.c. It mostly waits. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAYERS = 4, BEFORE = 5, MOST = 60 * 50 };
static const size_t shape[LAYERS][2] = {{60, 50}, {1, 70}, {64, 40}, {50, 60}};

typedef struct scene {
    const char *codec, *dropped;
    int         lost; /* rank */
    int when; /* the lost one starts so many layers of its last step; -1: it ends that step first, and stays away then */
    bool              adds; /* rank 0 adds what the lost one saved */
    void             *blob; /* of the lost one */
    size_t            blob_n;
    double            lost_norm2, sum[LAYERS][MOST]; /* of residuals when the step failed */
    pthread_barrier_t seen;
} scene;

static void   nap(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }
static size_t elements(int i) { return shape[i][0] * shape[i][1]; }

static taut_status create(taut_comm *comm, taut_layer **l)
{
    for (int i = 0; i < LAYERS; i++) {
        char name[2] = {(char)('a' + i), 0};
        TAUT_TRY(
            taut_layer_register(comm, name, TAUT_F32, shape[i][0] == 1 ? 1 : 2, shape[i] + (shape[i][0] == 1), &l[i]));
    }
    float scale[60];
    for (int k = 0; k < 60; k++) scale[k] = 1.0f + 0.5f * (float)(k % 3);
    TAUT_TRY(taut_layer_scale(l[0], scale, 60));
    return taut_layer_codec(l[3], "quant:bits=8");
}

/* by 0: nothing is put in, so that what comes out was waiting. old[r]: whose data rank r of the communicator has. */
static taut_status one_step(taut_comm *comm, taut_layer **l, int me, int step, float by, float (*x)[MOST])
{
    (void)comm;
    for (int i = 0; i < LAYERS; i++) {
        for (size_t k = 0; k < elements(i); k++) x[i][k] = by * ranks_value(me, k + (size_t)i * 7, step);
        TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
    }
    return taut_step_end(comm);
}

static double norm2_of(taut_layer *const *l)
{
    double all = 0;
    for (int i = 0; i < LAYERS; i++) {
        taut_layer_stats s = {.size = sizeof s};
        if (taut_layer_get_stats(l[i], &s) == TAUT_OK) all += s.residual_norm2;
    }
    return all;
}

static taut_status lost_rank(ranks_ctx *c, scene *s, taut_layer **l, float (*x)[MOST])
{
    size_t n = 0;
    TAUT_TRY(taut_state_save(c->comm, NULL, 0, &n));
    s->blob = malloc(n);
    TAUT_TRY(taut_state_save(c->comm, s->blob, n, &s->blob_n));
    s->lost_norm2 = norm2_of(l);
    for (int i = 0; i < s->when; i++) {
        for (size_t k = 0; k < elements(i); k++) x[i][k] = ranks_value(c->rank, k + (size_t)i * 7, BEFORE);
        TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
    }
    pthread_barrier_wait(
        &s->seen); /* the survivors have failed: its memory is looked at no more, but by its own communication thread */
    taut_comm_destroy(c->comm);
    c->comm = NULL;
    return TAUT_OK;
}

static taut_status check_who(const ranks_ctx *c, const scene *s, const taut_survivors *who)
{
    NEED(who->ranks == c->size - 1 && who->lost == 1 && who->lost_rank[0] == s->lost);
    NEED(who->rank == c->rank - (c->rank > s->lost) && who->source == 0 && !who->behind && who->steps == BEFORE);
    return TAUT_OK;
}

/* Sums of the new communicator, against float64; every survivor has the same bytes. */
static taut_status check_sums(const scene *s, taut_comm *comm, int size, float (*x)[MOST], int step, bool close)
{
    for (int i = 0; i < LAYERS; i++) {
        double err = 0, norm = 0;
        for (size_t k = 0; k < elements(i); k++) {
            double right = 0;
            for (int r = 0; r < size; r++) right += r == s->lost ? 0 : (double)ranks_value(r, k + (size_t)i * 7, step);
            err += ((double)x[i][k] - right) * ((double)x[i][k] - right), norm += right * right;
        }
        if (close && !(err <= 0.15 * norm)) return taut__fail(TAUT_E_INVALID, "layer %d: error %g of %g", i, err, norm);
        TAUT_TRY(ranks_same(comm, x[i], elements(i) * sizeof **x));
    }
    return TAUT_OK;
}

/* With nothing put in, what comes out in many steps is what was waiting: the residuals of the survivors, and of the lost one where they were added. */
static taut_status check_waiting(scene *s, taut_comm *comm, taut_layer **l, float (*x)[MOST])
{
    double(*out)[MOST] = calloc(LAYERS, sizeof *out);
    taut_status status = TAUT_OK;
    for (int step = 0; step < 40 && status == TAUT_OK; step++) {
        status = one_step(comm, l, 0, 0, 0, x);
        for (int i = 0; i < LAYERS; i++)
            for (size_t k = 0; k < elements(i); k++) out[i][k] += (double)x[i][k];
    }
    for (int i = 0; i < LAYERS && status == TAUT_OK; i++) {
        double err = 0, norm = 0;
        for (size_t k = 0; k < elements(i); k++)
            err += (out[i][k] - s->sum[i][k]) * (out[i][k] - s->sum[i][k]), norm += s->sum[i][k] * s->sum[i][k];
        if (!(err <= 1e-8 * norm + 1e-12))
            status = taut__fail(TAUT_E_INVALID, "layer %d: what waited comes out with error %g of %g", i, err, norm);
    }
    free(out);
    return status;
}

static pthread_mutex_t adding = PTHREAD_MUTEX_INITIALIZER;
static void            add_residuals(scene *s, taut_layer *const *l, bool drop)
{
    pthread_mutex_lock(&adding);
    for (int i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < elements(i) && l[i]->operand.residual && !drop; k++)
            s->sum[i][k] += (double)l[i]->operand.feedback->r[k];
    pthread_mutex_unlock(&adding);
}

static taut_status go_on(ranks_ctx *c, scene *s, taut_comm *smaller, float (*x)[MOST])
{
    taut_layer *l[LAYERS];
    bool        feeds = strstr(s->codec, "topk") == s->codec, restores = strcmp(s->dropped, "restore") == 0;
    NEED(taut_comm_layers(smaller) == LAYERS);
    for (int i = 0; i < LAYERS; i++) {
        taut_layer_stats st = {.size = sizeof st};
        l[i] = taut_comm_layer(smaller, (size_t)i);
        TAUT_TRY(taut_layer_get_stats(l[i], &st));
        NEED(st.name[0] == 'a' + i && st.elements == elements(i));
        if (i == 3) NEED(strcmp(st.codec, "quant:bits=8") == 0);
    }
    if (s->adds && c->rank == 0) TAUT_TRY(taut_state_add(smaller, s->blob, s->blob_n));
    if (feeds && (restores || s->adds)) TAUT_TRY(check_waiting(s, smaller, l, x));
    for (int step = 20; step < 23; step++) {
        TAUT_TRY(one_step(smaller, l, c->rank, step, 1, x));
        TAUT_TRY(check_sums(s, smaller, c->size, x, step,
                            !feeds && strstr(s->codec, "powersgd") == NULL && strstr(s->codec, "randk") == NULL));
    }
    return TAUT_OK;
}

static taut_status survive_with(ranks_ctx *c, float (*x)[MOST])
{
    scene         *s = c->arg;
    taut_layer    *l[LAYERS];
    taut_comm     *smaller = NULL;
    taut_survivors who = TAUT_SURVIVORS_INIT;
    NEED(taut_comm_shrink(c->comm, &smaller, NULL) == TAUT_E_STATE);
    TAUT_TRY(create(c->comm, l));
    for (int step = 0; step < BEFORE; step++) TAUT_TRY(one_step(c->comm, l, c->rank, step, 1, x));
    add_residuals(s, l, c->rank == s->lost ? !s->adds : strcmp(s->dropped, "restore") != 0);
    if (c->rank == s->lost) return lost_rank(c, s, l, x);
    taut_status status = one_step(c->comm, l, c->rank, BEFORE, 1, x);
    NEED(status == TAUT_E_TIMEOUT || status == TAUT_E_PEER);
    NEED(taut_comm_shrink(NULL, &smaller, NULL) == TAUT_E_INVALID);
    TAUT_TRY(taut_comm_shrink(c->comm, &smaller, &who));
    pthread_barrier_wait(&s->seen);
    status = check_who(c, s, &who);
    bool feeds = strstr(s->codec, "topk") == s->codec;
    if (status == TAUT_OK && feeds && strcmp(s->dropped, "restore") == 0 &&
        !(fabs(who.lost_norm2 - s->lost_norm2) <= 0.02 * s->lost_norm2))
        status = taut__fail(TAUT_E_INVALID, "said to be lost: %g, lost %g, kept %g", who.lost_norm2, s->lost_norm2,
                            who.residual_norm2);
    if (status == TAUT_OK && feeds) NEED(who.lost_norm2 > 0);
    if (status == TAUT_OK && !feeds && strstr(s->codec, "none")) NEED(who.lost_norm2 == 0 && who.residual_norm2 == 0);
    if (status == TAUT_OK) status = go_on(c, s, smaller, x);
    taut_comm_destroy(smaller);
    return status;
}
static taut_status survive(ranks_ctx *c)
{
    float(*x)[MOST] = calloc(LAYERS, sizeof *x);
    taut_status s = survive_with(c, x);
    free(x);
    return s;
}

static const char *const codec[] = {"none",
                                    "fp16",
                                    "quant:bits=8",
                                    "grid:rel=0.02",
                                    "topk:density=0.1",
                                    "randk:density=0.2",
                                    "powersgd:rank=2",
                                    "stack:quant:bits=4+quant:bits=4",
                                    "auto"};
enum { CODECS = sizeof codec / sizeof *codec, TOPK = 4 };

static void play(int p, scene s)
{
    scene      *live = malloc(sizeof *live);
    taut_config cfg = TAUT_CONFIG_INIT;
    *live = s;
    cfg.codec = s.codec;
    cfg.budget = "rel=0.02";
    cfg.dropped = s.dropped;
    cfg.link = "1gbit";
    cfg.timeout_ms = 400;
    pthread_barrier_init(&live->seen, NULL, (unsigned)p);
    ranks_ok(p, &cfg, survive, live);
    pthread_barrier_destroy(&live->seen);
    free(live->blob);
    free(live);
}

START_TEST(goes_on)
{
    for (int p = 2; p <= 4; p++)
        play(p, (scene){.codec = codec[_i], .dropped = "clear", .lost = p == 3 ? 0 : p - 1, .when = p - 2});
}
END_TEST

START_TEST(residuals)
{
    for (int p = 2; p <= 4; p++)
        for (int when = 0; when <= LAYERS; when += 2)
            play(p, (scene){.codec = codec[TOPK],
                            .dropped = _i / 2 ? "restore" : "clear",
                            .lost = p / 2,
                            .when = when,
                            .adds = _i % 2});
}
END_TEST

/* ---- one that comes too late, and all of them ---- */

static taut_status late(ranks_ctx *c)
{
    taut_layer *l;
    taut_comm  *smaller = NULL;
    float       x[256] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 1, (size_t[]){256}, &l));
    if (c->rank == 1) nap(900);
    taut_status s = taut_allreduce(l, x, TAUT_SUM);
    NEED(s == TAUT_E_TIMEOUT || s == TAUT_E_PEER);
    if (c->rank == 1 && c->arg) nap(1500);
    s = taut_comm_shrink(c->comm, &smaller, NULL);
    if (c->rank == 1 && c->arg) {
        NEED(s == TAUT_E_PEER && strstr(taut_last_error(), "without rank 1") && !smaller);
        return TAUT_OK;
    }
    TAUT_TRY(s);
    NEED(taut_comm_size(smaller) == c->size - (c->arg != NULL));
    TAUT_TRY(taut_allreduce(taut_comm_layer(smaller, 0), x, TAUT_SUM));
    taut_comm_destroy(smaller);
    return TAUT_OK;
}
START_TEST(late_ones)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 500;
    ranks_ok(3, &cfg, late, NULL);
    ranks_ok(3, &cfg, late, &cfg);
}
END_TEST

/* ---- nobody is lost but a message: one rank may have ended a step that the others have not ---- */

static _Atomic int behind;

static taut_status uneven_with(ranks_ctx *c, float (*x)[MOST])
{
    taut_layer    *l[LAYERS];
    taut_comm     *smaller = NULL;
    taut_survivors who = TAUT_SURVIVORS_INIT;
    taut_status    s = TAUT_OK;
    int            done = 0;
    if (c->rank == 0) unsetenv("TAUT_FAULTS"); /* for the first communicator, which is there, and not for the next */
    TAUT_TRY(create(c->comm, l));
    while (done < 3 && s == TAUT_OK)
        if ((s = one_step(c->comm, l, c->rank, done, 1, x)) == TAUT_OK) done++;
    if (s == TAUT_OK) return s; /* no message had this number, or it was not missed */
    TAUT_TRY(taut_comm_shrink(c->comm, &smaller, &who));
    if (who.lost) { /* one that had ended all its steps, and gone */
        taut_comm_destroy(smaller);
        return TAUT_OK;
    }
    NEED(who.ranks == c->size && who.rank == c->rank && who.behind == ((int)who.steps > done) &&
         (int)who.steps - done <= 1);
    behind += who.behind;
    for (int i = 0; i < LAYERS; i++) l[i] = taut_comm_layer(smaller, (size_t)i);
    for (int step = (int)who.steps; step < 4; step++) {
        TAUT_TRY(one_step(smaller, l, c->rank, step, 1, x));
        TAUT_TRY(check_sums(&(scene){.lost = -1}, smaller, c->size, x, step, strstr(c->arg, "grid") != NULL));
    }
    taut_comm_destroy(smaller);
    return TAUT_OK;
}
static taut_status uneven(ranks_ctx *c)
{
    float(*x)[MOST] = calloc(LAYERS, sizeof *x);
    taut_status s = uneven_with(c, x);
    free(x);
    return s;
}
START_TEST(one_is_behind)
{
    static const char *const spec[] = {"grid:rel=0.02", "topk:density=0.1", "auto"};
    taut_config              cfg = TAUT_CONFIG_INIT;
    cfg.codec = spec[_i];
    cfg.timeout_ms = 300;
    cfg.link = "1gbit";
    for (int n = _i; n < 60; n += suite_long() ? 1 : 4) {
        char text[64];
        snprintf(text, sizeof text, "drop=1,rank=%d,after=%d,times=1", n % 3, n);
        setenv("TAUT_FAULTS", text, 1);
        ranks_ok(3, &cfg, uneven, (void *)(uintptr_t)spec[_i]);
    }
    ck_assert_msg(behind > 0 || _i > 0, "no rank was behind in any of them");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shrink");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, goes_on, 0, CODECS);
    tcase_add_loop_test(t, residuals, 0, 4);
    tcase_add_test(t, late_ones);
    tcase_add_loop_test(t, one_is_behind, 0, 3);
    return suite_run(s);
}
