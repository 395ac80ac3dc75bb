/* test_texts.c : every error has a text of its own. Whatever public call fails, and for whatever reason, taut_last_error() tells of that
 * failure, not of an earlier one: wrong arguments, memory that is short anywhere, ranks that failed, left, or came late. Ranks are
 * threads. It mostly waits. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STALE "a text of an earlier call"

static char             silent[256]; /* the first call that failed without a text */
static _Atomic int      silents;
static _Atomic unsigned failures;

static taut_status heard(taut_status s, const char *call)
{
    if (s != TAUT_OK) atomic_fetch_add(&failures, 1);
    if (s != TAUT_OK && (strstr(taut_last_error(), STALE) || !*taut_last_error()) && atomic_fetch_add(&silents, 1) == 0)
        snprintf(silent, sizeof silent, "%s from %.200s: \"%s\"", taut_status_name(s), call, taut_last_error());
    return s;
}
#define CALL(x) (taut__fail(TAUT_E_INVALID, STALE), heard((x), #x))

static void none_silent(const char *where)
{
    ck_assert_msg(silents == 0, "%s: %s (%d in all)", where, silent, (int)silents);
}

/* ---- wrong arguments, each call at least once ---- */

static void wrong_shapes(taut_comm *comm)
{
    taut_layer *l;
    CALL(taut_layer_register(comm, "a", TAUT_F32, 1, NULL, &l));
    CALL(taut_layer_register(comm, "", TAUT_F32, 0, NULL, &l));
    CALL(taut_layer_register(comm, "a", (taut_dtype)7, 0, NULL, &l));
    CALL(taut_layer_register(comm, "a", TAUT_F32, 2, (size_t[]){3, 0}, &l));
    CALL(taut_layer_register(NULL, "a", TAUT_F32, 0, NULL, &l));
}

static void wrong_layer(taut_comm *comm)
{
    taut_layer      *l;
    float            x[16] = {0};
    int              done;
    size_t           n;
    taut_layer_stats stats = {.size = 0};
    ck_assert_int_eq(taut_layer_register(comm, "w", TAUT_F32, 2, (size_t[]){4, 4}, &l), TAUT_OK);
    CALL(taut_layer_codec(l, "nonsense")), CALL(taut_layer_codec(l, NULL)),
        CALL(taut_layer_codec(l, "powersgd:rank=100"));
    CALL(taut_layer_scale(l, x, 4)), CALL(taut_layer_scale(l, x, 3)), CALL(taut_layer_scale(NULL, x, 4));
    CALL(taut_layer_scale_in_place(NULL, x, TAUT_HOST, 0)), CALL(taut_layer_scale_in_place(l, x, TAUT_HOST, 0)),
        CALL(taut_layer_scale_in_place(l, x, (taut_space)9, 0)), CALL(taut_layer_scale_in_place(l, x, TAUT_CUDA, 0));
    CALL(taut_layer_basis(NULL, x, 16)), CALL(taut_layer_basis(l, NULL, 16)), CALL(taut_layer_basis(l, x, 15));
    CALL(taut_allreduce(l, NULL, TAUT_SUM)), CALL(taut_allreduce(NULL, x, TAUT_SUM)),
        CALL(taut_allreduce(l, x, (taut_op)9));
    CALL(taut_allreduce_start(l, (char *)x + 1, TAUT_SUM)), CALL(taut_allgather(NULL, x)),
        CALL(taut_reduce_scatter(NULL, x, TAUT_SUM));
    CALL(taut_allreduce_start_on(NULL, x, TAUT_SUM, TAUT_CUDA, 0, NULL)),
        CALL(taut_allreduce_start_on(l, NULL, TAUT_SUM, TAUT_HOST, 0, NULL));
    CALL(taut_allreduce_start_on(l, x, TAUT_SUM, (taut_space)9, 0, NULL)),
        CALL(taut_allreduce_start_on(l, x, TAUT_SUM, TAUT_CUDA, -3, NULL));
    taut_comm     *smaller;
    taut_survivors who = {.size = sizeof who};
    CALL(taut_state_add(NULL, x, 4)), CALL(taut_state_add(comm, NULL, 4)), CALL(taut_state_add(comm, x, 4));
    CALL(taut_comm_shrink(NULL, &smaller, &who)), CALL(taut_comm_shrink(comm, NULL, &who));
    CALL(taut_reduce_scatter_on(NULL, x, TAUT_SUM, TAUT_CUDA, 0, NULL)),
        CALL(taut_reduce_scatter_on(l, x, TAUT_SUM, (taut_space)9, 0, NULL));
    CALL(taut_allgather_on(NULL, x, TAUT_CUDA, 0, NULL)), CALL(taut_allgather_on(l, x, (taut_space)9, 0, NULL));
    CALL(taut_test(l, &done)), CALL(taut_test(l, NULL)), CALL(taut_wait(l)), CALL(taut_wait(NULL));
    CALL(taut_layer_part(l, 5, &n, &n)), CALL(taut_layer_part(NULL, 0, &n, &n));
    CALL(taut_layer_get_stats(l, &stats)), CALL(taut_layer_get_stats(NULL, &stats));
}

static void wrong_standalone(void)
{
    float             x[8] = {0};
    uint8_t           frame[64] = {1};
    char              spec[8];
    size_t            n, m;
    uint32_t          choice[1];
    size_t            first[] = {0, 1};
    double            one[] = {1.0};
    taut_plan_problem p = {.size = sizeof p, .layers = 1, .first = first, .error = one, .cost = one, .budget = 0.5};
    taut_plan_result  r = {.size = sizeof r};
    taut_setting      setting;
    CALL(taut_encode_bound("quant:bits=9", 1, (size_t[]){8}, &n)), CALL(taut_encode_bound(NULL, 0, NULL, &n));
    CALL(taut_encode("none", 1, (size_t[]){8}, x, 0, frame, 4, &n)),
        CALL(taut_encode("auto", 1, (size_t[]){8}, x, 0, frame, 64, &n));
    CALL(taut_frame_info(frame, 64, &n, &m, spec, sizeof spec)),
        CALL(taut_frame_info(frame, 3, &n, &m, spec, sizeof spec));
    CALL(taut_decode(frame, 64, x, 8)), CALL(taut_decode(NULL, 64, x, 8)), CALL(taut_decode(frame, 64, NULL, 8));
    CALL(taut_frame_info(NULL, 3, &n, &m, spec, sizeof spec)), CALL(taut_encode_bound("none", 1, (size_t[]){8}, NULL));
    CALL(taut_encode("none", 1, (size_t[]){8}, NULL, 0, frame, 64, &n)),
        CALL(taut_encode("none", 1, (size_t[]){8}, x, 0, NULL, 64, &n));
    CALL(taut_encode("none", 1, (size_t[]){8}, x, 0, frame, 64, NULL));
    CALL(taut_spec_check("grid:rel=7", 0, NULL)), CALL(taut_spec_check("grid:", 0, NULL)),
        CALL(taut_spec_check(NULL, 0, NULL));
    CALL(taut_plan_solve(&p, choice, &r)), CALL(taut_plan_solve(NULL, choice, &r));
    CALL(taut_setting_get(100000, &setting)), CALL(taut_setting_get(0, NULL));
}

START_TEST(wrong_arguments)
{
    taut_comm      *comm, *none[2];
    taut_config     cfg = TAUT_CONFIG_INIT;
    taut_comm_stats stats = {.size = 0};
    size_t          n;
    CALL(taut_comm_create_threads(0, NULL, none)), CALL(taut_comm_create_threads(1, NULL, NULL));
    cfg.codec = "nonsense";
    CALL(taut_comm_create_threads(1, &cfg, none));
    ck_assert_int_eq(taut_comm_create_threads(1, NULL, &comm), TAUT_OK);
    wrong_shapes(comm);
    wrong_layer(comm);
    wrong_standalone();
    CALL(taut_step_end(NULL)), CALL(taut_step_drop(NULL)), CALL(taut_step_drop(comm)),
        CALL(taut_comm_get_stats(comm, &stats));
    CALL(taut_state_save(comm, &n, 1, &n)), CALL(taut_state_load(comm, &n, sizeof n)),
        CALL(taut_state_join(comm, NULL, 0));
    taut_comm_destroy(comm);
    none_silent("wrong arguments");
    ck_assert_uint_ge(failures, 45); /* nearly all of them are errors */
}
END_TEST

/* ---- a step of everything, as far as it goes: no memory somewhere, a rank that leaves, or fails ---- */

enum { ROWS = 40, COLS = 64, N = ROWS * COLS };

typedef struct scene {
    const char *codec;
    int         nth;    /* the n-th allocation fails; -1: none */
    int         leaves; /* this rank destroys its communicator before the last step, or -1 */
} scene;

#define GO(x)                                                                                                          \
    do {                                                                                                               \
        if (CALL(x) != TAUT_OK) return TAUT_E_INVALID;                                                                 \
    } while (0)

static taut_status all_collectives(ranks_ctx *c, taut_layer **l, float *x, int step)
{
    int done;
    for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, step);
    GO(taut_allreduce_start(l[0], x, TAUT_MEAN));
    GO(taut_allreduce(l[1], x + N, TAUT_SUM));
    GO(taut_test(l[0], &done));
    if (step % 2) GO(taut_wait(l[0]));
    GO(taut_step_end(c->comm));
    if (step == 1) GO(taut_step_drop(c->comm));
    GO(taut_reduce_scatter(l[2], x, TAUT_SUM));
    GO(taut_allgather(l[2], x));
    return CALL(taut_step_end(c->comm));
}

static taut_status keep(ranks_ctx *c, void **blob)
{
    size_t n, got;
    GO(taut_state_save(c->comm, NULL, 0, &n));
    *blob = malloc(n);
    GO(taut_state_save(c->comm, *blob, n, &got));
    GO(taut_state_load(c->comm, *blob, n));
    return CALL(taut_state_join(c->comm, *blob, n));
}

static taut_status go(ranks_ctx *c, float *x, void **blob)
{
    const scene *s = c->arg;
    taut_layer  *l[3];
    float        scale[ROWS];
    for (int i = 0; i < ROWS; i++) scale[i] = 1 + (float)i;
    GO(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[0]));
    GO(taut_layer_register(c->comm, "b", TAUT_F32, 1, (size_t[]){COLS}, &l[1]));
    GO(taut_layer_register(c->comm, "h", TAUT_F16, 2, (size_t[]){ROWS, COLS}, &l[2]));
    GO(taut_layer_codec(l[2], "quant:bits=8"));
    GO(taut_layer_scale(l[0], scale, ROWS));
    for (int step = 0; step < 6; step++) {
        if (step == 5 && s->leaves == c->rank) return TAUT_OK;
        GO(all_collectives(c, l, x, step));
        if (step == 4) GO(keep(c, blob));
    }
    return TAUT_OK;
}

/* After it, when this rank has failed, every call says so too. */
static taut_status again(taut_comm *comm)
{
    float       x[COLS] = {0};
    int         done;
    size_t      n;
    taut_layer *l = taut_comm_layer(comm, 1), *more;
    CALL(taut_step_end(comm)), CALL(taut_step_drop(comm));
    CALL(taut_state_save(comm, NULL, 0, &n));
    CALL(taut_layer_register(comm, "late", TAUT_F32, 0, NULL, &more));
    if (!l) return TAUT_OK;
    CALL(taut_allreduce(l, x, TAUT_SUM)), CALL(taut_allreduce_start(l, x, TAUT_SUM));
    CALL(taut_test(l, &done)), CALL(taut_wait(l)), CALL(taut_allgather(l, x)),
        CALL(taut_reduce_scatter(l, x, TAUT_SUM));
    return TAUT_OK;
}

static taut_status scene_rank(ranks_ctx *c)
{
    const scene *s = c->arg;
    void        *blob = NULL;
    float       *x = calloc(N + COLS, sizeof *x);
    taut_status  status = go(c, x, &blob);
    if (status != TAUT_OK) again(c->comm);
    free(blob);
    if (s->leaves == c->rank) taut_comm_destroy(c->comm), c->comm = NULL;
    free(x);
    return status;
}

static const char *const codec[] = {
    "auto",         "quant:bits=4", "powersgd:rank=2", "topk:density=0.1", "stack:topk:density=0.05+quant:bits=8",
    "grid:rel=0.05"};
enum { CODECS = sizeof codec / sizeof *codec, RANKS = 3 };

static taut_config config(const scene *s)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = s->codec;
    cfg.objective = "bytes";
    cfg.link = "1gbit";
    cfg.timeout_ms = s->nth < 0 ? 20000 : 400; /* a rank that cannot register a layer is waited for */
    cfg.start_step = 1;
    cfg.replan_steps = 2;
    return cfg;
}

/* As ranks_run(), but creating may fail, and a rank may destroy what is its own. */
typedef struct seat {
    ranks_ctx ctx;
} seat;
static void *seat_main(void *arg)
{
    ranks_ctx *c = &((seat *)arg)->ctx;
    c->status = scene_rank(c);
    return NULL;
}
static void play(const scene *s, int ranks)
{
    taut_comm  *comms[RANKS];
    seat        seats[RANKS];
    pthread_t   thread[RANKS];
    taut_config cfg = config(s);
    taut__alloc_fail_after(s->nth);
    taut_status made = CALL(taut_comm_create_threads(ranks, &cfg, comms));
    for (int r = 0; r < ranks && made == TAUT_OK; r++) {
        seats[r] = (seat){{.comm = comms[r], .rank = r, .size = ranks, .arg = (void *)(uintptr_t)s}};
        ck_assert_int_eq(pthread_create(&thread[r], NULL, seat_main, &seats[r]), 0);
    }
    for (int r = 0; r < ranks && made == TAUT_OK; r++) pthread_join(thread[r], NULL);
    taut__alloc_fail_after(-1);
    for (int r = 0; r < ranks && made == TAUT_OK; r++) taut_comm_destroy(seats[r].ctx.comm);
}

static void anew(void) /* where tests do not fork */
{
    silents = 0;
    failures = 0;
}

START_TEST(short_of_memory)
{
    anew();
    scene  s = {codec[_i], -1, -1};
    size_t before = taut__alloc_count();
    play(&s, 2);
    none_silent("nothing fails");
    ck_assert_uint_eq(failures, 0);
    int all = (int)(taut__alloc_count() - before), rounds = suite_long() ? all : 30;
    for (int i = 0; i < rounds; i++) {
        s.nth = (int)((double)all * (i + 0.5) / rounds);
        play(&s, 2);
        ck_assert_msg(silents == 0, "%s, allocation %d of %d: %s", codec[_i], s.nth, all, silent);
    }
    ck_assert_uint_gt(failures, (unsigned)rounds);
}
END_TEST

START_TEST(rank_that_leaves)
{
    anew();
    for (int who = 0; who < RANKS; who++) {
        scene s = {codec[_i], -1, who};
        play(&s, RANKS);
        none_silent(codec[_i]);
    }
    ck_assert_uint_gt(failures, 10);
}
END_TEST

/* ---- a public call that this file does not know ---- */

START_TEST(all_calls_are_here)
{
    char  line[512], *at, own[1 << 15] = "";
    FILE *self = fopen("tests/multi/test_texts.c", "r"), *header = fopen("comm/taut.h", "r");
    ck_assert(self && header);
    own[fread(own, 1, sizeof own - 1, self)] = 0;
    int n = 0;
    while (fgets(line, sizeof line, header)) {
        if (strncmp(line, "TAUT_API taut_status taut_", 26) != 0 || !(at = strchr(line, '('))) continue;
        char call[80];
        snprintf(call, sizeof call, "%.*s(", (int)(at - line - 21), line + 21);
        ck_assert_msg(strstr(own, call) != NULL, "%s is not called here", call);
        n++;
    }
    ck_assert_int_ge(n, 20);
    fclose(self), fclose(header);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("texts");
    TCase *t = suite_case(s, "all", 300);
    tcase_add_test(t, wrong_arguments);
    tcase_add_loop_test(t, short_of_memory, 0, CODECS);
    tcase_add_loop_test(t, rank_that_leaves, 0, CODECS);
    tcase_add_test(t, all_calls_are_here);
    return suite_run(s);
}
