/* test_state.c : checkpoints: what load replaces, what it refuses, and that a refusal changes nothing. Ranks are threads. */
#include "comm/base/bytes.h"
#include "comm/core/state.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum { ROWS = 64, COLS = 100, N = ROWS * COLS, RANKS = 4 };

typedef struct blobs {
    const char     *codec, *feedback;
    uint8_t        *at[RANKS];
    size_t          len[RANKS];
    int             saved;      /* ranks that have */
    float           next[3][N]; /* rank 0's results of the steps after */
    double          residual;   /* of all ranks, weighted by position */
    pthread_mutex_t lock;
} blobs;

static taut_config config(const blobs *b)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 20000;
    cfg.codec = b->codec;
    cfg.feedback = b->feedback;
    cfg.objective = "bytes";
    cfg.link = "100mbit";
    cfg.small_elems = 16;
    return cfg;
}

static taut_status two_layers(ranks_ctx *c, taut_layer **l)
{
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[0]));
    return taut_layer_register(c->comm, "v", TAUT_F32, 2, (size_t[]){ROWS / 2, COLS}, &l[1]);
}

static taut_status step(ranks_ctx *c, taut_layer **l, int number, float *x)
{
    float y[N / 2], scale[ROWS];
    for (int i = 0; i < ROWS; i++) scale[i] = 1 + (float)((number + i) % 5);
    TAUT_TRY(taut_layer_scale(l[0], scale, ROWS));
    for (size_t i = 0; i < N; i++) x[i] = ranks_value(c->rank, i, number);
    for (size_t i = 0; i < N / 2; i++) y[i] = ranks_value(c->rank, i, number + 50);
    TAUT_TRY(taut_allreduce_start(l[0], x, TAUT_SUM));
    TAUT_TRY(taut_allreduce_start(l[1], y, TAUT_SUM));
    return taut_step_end(c->comm);
}

static taut_status keep(ranks_ctx *c, blobs *b)
{
    size_t got;
    TAUT_TRY(taut_state_save(c->comm, NULL, 0, &b->len[c->rank]));
    b->at[c->rank] = malloc(b->len[c->rank]);
    NEED(taut_state_save(c->comm, b->at[c->rank], b->len[c->rank] - 1, &got) == TAUT_E_CAPACITY &&
         got == b->len[c->rank]);
    TAUT_TRY(taut_state_save(c->comm, b->at[c->rank], b->len[c->rank], &got));
    NEED(got == b->len[c->rank]);
    return TAUT_OK;
}

static double weighed(ranks_ctx *c, taut_layer **l)
{
    double s = 0;
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; l[k]->operand.residual && i < l[k]->operand.tensor.elems; i++)
            s += (double)l[k]->operand.feedback->r[i] * (double)(i % 31);
    (void)c;
    return s;
}

static taut_status run_and_save(ranks_ctx *c)
{
    blobs      *b = c->arg;
    taut_layer *l[2];
    float       x[N];
    TAUT_TRY(two_layers(c, l));
    for (int s = 0; s < 13; s++) TAUT_TRY(step(c, l, s, x));
    TAUT_TRY(keep(c, b));
    pthread_mutex_lock(&b->lock);
    b->saved = c->size;
    b->residual += weighed(c, l);
    pthread_mutex_unlock(&b->lock);
    for (int s = 13; s < 16; s++) {
        TAUT_TRY(step(c, l, s, x));
        if (c->rank == 0) memcpy(b->next[s - 13], x, sizeof x);
    }
    return TAUT_OK;
}

static void save_all(blobs *b, int ranks)
{
    taut_config cfg = config(b);
    b->residual = 0;
    pthread_mutex_init(&b->lock, NULL);
    ranks_ok(ranks, &cfg, run_and_save, b);
}

static void release(blobs *b)
{
    for (int r = 0; r < b->saved; r++) free(b->at[r]);
}

/* ---- a load takes the place of what is there ---- */

static taut_status same_blob(ranks_ctx *c, const blobs *b)
{
    size_t   n;
    uint8_t *now = malloc(b->len[c->rank]);
    TAUT_TRY(taut_state_save(c->comm, now, b->len[c->rank], &n));
    bool same = n == b->len[c->rank] && memcmp(now, b->at[c->rank], n) == 0;
    free(now);
    NEED(same);
    return TAUT_OK;
}

/* Fresh, live after other steps, twice: every time the same state, and the steps that follow have the same bits. */
static taut_status load_often(ranks_ctx *c)
{
    const blobs *b = c->arg;
    taut_layer  *l[2];
    float        x[N];
    TAUT_TRY(two_layers(c, l));
    for (int turn = 0; turn < 4; turn++) {
        TAUT_TRY(taut_state_load(c->comm, b->at[c->rank], b->len[c->rank]));
        if (turn == 2) TAUT_TRY(taut_state_load(c->comm, b->at[c->rank], b->len[c->rank]));
        TAUT_TRY(same_blob(c, b));
        for (int s = 13; s < 16; s++) {
            TAUT_TRY(step(c, l, s, x));
            TAUT_TRY(ranks_same(c->comm, x, sizeof x));
            if (c->rank == 0) NEED(memcmp(x, b->next[s - 13], sizeof x) == 0);
        }
        for (int s = 0; s < turn; s++) TAUT_TRY(step(c, l, 100 + s, x));
    }
    return TAUT_OK;
}
static const char *const codec[][2] = {{"topk:density=0.05", "auto"},
                                       {"powersgd:rank=3", "auto"},
                                       {"grid:rel=0.05", "on"},
                                       {"randk:density=0.2", "auto"},
                                       {"quant:bits=4", "momentum"},
                                       {"stack:topk:density=0.01+quant:bits=8", "on"},
                                       {"none", "auto"},
                                       {"auto", "auto"}};
enum { CODECS = sizeof codec / sizeof *codec };
START_TEST(replaces)
{
    static const int ranks[] = {2, 3, 1, 4};
    blobs            b = {.codec = codec[_i][0], .feedback = codec[_i][1]};
    int              p = ranks[_i % 4];
    taut_config      cfg = config(&b);
    save_all(&b, p);
    ranks_ok(p, &cfg, load_often, &b);
    release(&b);
}
END_TEST

/* ---- other numbers of ranks: residuals add up, or join ---- */

static taut_status load_shared_out(ranks_ctx *c)
{
    blobs      *b = c->arg;
    taut_layer *l[2];
    float       x[N];
    TAUT_TRY(two_layers(c, l));
    for (int s = 0; s < 2; s++) TAUT_TRY(step(c, l, s, x));
    for (int k = c->rank; k < b->saved; k += c->size) TAUT_TRY(taut_state_load(c->comm, b->at[k], b->len[k]));
    if (c->rank >= b->saved) TAUT_TRY(taut_state_join(c->comm, b->at[0], b->len[0]));
    pthread_mutex_lock(&b->lock);
    b->residual -= weighed(c, l);
    pthread_mutex_unlock(&b->lock);
    for (int s = 13; s < 16; s++) TAUT_TRY(step(c, l, s, x));
    return ranks_same(c->comm, x, sizeof x);
}
START_TEST(other_ranks)
{
    static const int from[] = {4, 3, 2, 1}, to[] = {1, 2, 4, 3};
    blobs            b = {.codec = codec[_i][0], .feedback = codec[_i][1]};
    taut_config      cfg = config(&b);
    save_all(&b, from[_i % 4]);
    double before = b.residual;
    ranks_ok(to[_i % 4], &cfg, load_shared_out, &b);
    ck_assert_msg(fabs(b.residual) <= 1e-4 * (1 + fabs(before)), "%s: residual %g, %g missing", b.codec, before,
                  b.residual);
    release(&b);
}
END_TEST

/* 2 -> 3 -> 1 ranks, some steps each. What waits is handed on to float precision, element by element: a residual counts whole in a sum, and
 * its share of the ranks in a mean. */
enum { STAGES = 3 };
static const int stage_ranks[STAGES] = {2, 3, 1};
typedef struct chain {
    blobs   b;
    int     stage;
    taut_op op;
    double  saved[N + N / 2], loaded[N + N / 2];
} chain;

static void add_residuals(chain *c, taut_layer **l, int ranks, double *sum)
{
    pthread_mutex_lock(&c->b.lock);
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; l[k]->operand.residual && i < l[k]->operand.tensor.elems; i++)
            sum[(size_t)k * N + i] += (double)l[k]->operand.feedback->r[i] / (c->op == TAUT_MEAN ? ranks : 1);
    pthread_mutex_unlock(&c->b.lock);
}

static taut_status one_stage(ranks_ctx *x)
{
    chain      *c = x->arg;
    taut_layer *l[2];
    float       v[N], w[N / 2];
    void       *at = NULL;
    size_t      n;
    TAUT_TRY(two_layers(x, l));
    if (c->stage > 0) {
        for (int k = x->rank; k < c->b.saved; k += x->size) TAUT_TRY(taut_state_load(x->comm, c->b.at[k], c->b.len[k]));
        if (x->rank >= c->b.saved) TAUT_TRY(taut_state_join(x->comm, c->b.at[0], c->b.len[0]));
        add_residuals(c, l, x->size, c->loaded);
    }
    for (int s = 0; s < 5; s++) {
        for (size_t i = 0; i < N; i++) v[i] = ranks_value(x->rank, i, s + 10 * c->stage);
        for (size_t i = 0; i < N / 2; i++) w[i] = ranks_value(x->rank, i, s + 7);
        TAUT_TRY(taut_allreduce_start(l[0], v, c->op));
        TAUT_TRY(taut_allreduce_start(l[1], w, c->op));
        TAUT_TRY(taut_step_end(x->comm));
        TAUT_TRY(ranks_same(x->comm, v, sizeof v));
    }
    TAUT_TRY(taut_state_save(x->comm, NULL, 0, &n));
    at = malloc(n);
    TAUT_TRY(taut_state_save(x->comm, at, n, &n));
    double zero[1] = {0};
    TAUT_TRY(taut__context_sum(&x->comm->ctx, zero, 1)); /* all have loaded what is replaced now */
    free(c->b.at[x->rank]);
    c->b.at[x->rank] = at, c->b.len[x->rank] = n;
    add_residuals(c, l, x->size, c->saved);
    return TAUT_OK;
}

START_TEST(two_three_one)
{
    chain      *c = calloc(1, sizeof *c);
    taut_config cfg;
    c->b.codec = codec[_i / 2][0], c->b.feedback = codec[_i / 2][1];
    c->op = _i % 2 ? TAUT_MEAN : TAUT_SUM;
    cfg = config(&c->b);
    pthread_mutex_init(&c->b.lock, NULL);
    for (c->stage = 0; c->stage < STAGES; c->stage++) {
        double before[N + N / 2];
        memcpy(before, c->saved, sizeof before);
        memset(c->saved, 0, sizeof c->saved), memset(c->loaded, 0, sizeof c->loaded);
        ranks_ok(stage_ranks[c->stage], &cfg, one_stage, c);
        c->b.saved = stage_ranks[c->stage];
        for (size_t i = 0; c->stage > 0 && i < N + N / 2; i++)
            ck_assert_msg(fabs(c->loaded[i] - before[i]) <= 1e-5 * (1 + fabs(before[i])),
                          "%s, to %d ranks, element %zu: %g waited, now %g", c->b.codec, stage_ranks[c->stage], i,
                          before[i], c->loaded[i]);
    }
    for (int k = 0; k < 3; k++) free(c->b.at[k]);
    free(c);
}
END_TEST

/* Some ranks go back to the checkpoint, others do not: told, with names. */
static taut_status half_back(ranks_ctx *c)
{
    const blobs *b = c->arg;
    taut_layer  *l[2];
    float        x[N];
    TAUT_TRY(two_layers(c, l));
    for (int s = 0; s < 3; s++) TAUT_TRY(step(c, l, s, x));
    if (c->rank == 1) TAUT_TRY(taut_state_load(c->comm, b->at[1], b->len[1]));
    return step(c, l, 13, x);
}
START_TEST(half_of_them)
{
    blobs       b = {.codec = "powersgd:rank=2", .feedback = "auto"};
    taut_config cfg = config(&b);
    ranks_ctx   ctx[2];
    save_all(&b, 2);
    ranks_run(2, &cfg, half_back, &b, ctx);
    for (int r = 0; r < 2; r++)
        ck_assert_msg(ctx[r].status == TAUT_E_MISMATCH && strstr(ctx[r].error, "'w'") && strstr(ctx[r].error, "rank 1"),
                      "%s", ctx[r].error);
    release(&b);
}
END_TEST

/* ---- what is refused ---- */

typedef struct forged {
    const blobs *b;
    uint8_t     *src;
    size_t       len;
    taut_status  want;
} forged;

static taut_status refused(taut_comm *comm, const uint8_t *src, size_t len, const uint8_t *before, size_t n,
                           taut_status *s)
{
    uint8_t *copy = malloc(len ? len : 1),
            *now = malloc(n); /* of exactly this size: the sanitizer sees a byte read too many */
    size_t got;
    if (len) memcpy(copy, src, len);
    *s = taut_state_load(comm, copy, len);
    free(copy);
    TAUT_TRY(taut_state_save(comm, now, n, &got));
    bool same = got == n && memcmp(now, before, n) == 0;
    free(now);
    NEED(*s != TAUT_OK);
    NEED(same); /* nothing changed */
    NEED(strlen(taut_last_error()) > 10);
    return TAUT_OK;
}

/* Bytes flipped anywhere, cut anywhere, bits set anywhere: all refused, with a live communicator as it was. */
static taut_status mutations(ranks_ctx *c)
{
    const blobs *b = c->arg;
    const size_t n = b->len[0];
    uint8_t     *m = malloc(n + 64);
    taut_layer  *l[2];
    float        x[N];
    taut_status  s;
    TAUT_TRY(two_layers(c, l));
    for (int k = 0; k < 13; k++) TAUT_TRY(step(c, l, k, x));
    for (uint32_t i = 0; i < 1000; i++) {
        taut__rng g = taut__rng_of(5, 0);
        size_t    at = i < 200 ? i % n : taut__random32(g, i) % n, len = n;
        memcpy(m, b->at[0], n);
        if (i % 4 == 0) m[at] ^= (uint8_t)(1u << (i / 4 % 8));
        if (i % 4 == 1) m[at] = (uint8_t)(m[at] + 1 + i % 255);
        if (i % 4 == 2) len = at;
        if (i % 4 == 3) memset(m + n, 0, 64), len = n + 1 + i % 64;
        TAUT_TRY(refused(c->comm, m, len, b->at[0], n, &s));
        NEED(s == TAUT_E_CORRUPT || s == TAUT_E_VERSION || s == TAUT_E_MISMATCH);
    }
    free(m);
    return TAUT_OK;
}
START_TEST(damaged)
{
    blobs       b = {.codec = _i ? "auto" : "powersgd:rank=3", .feedback = "auto"};
    taut_config cfg = config(&b);
    cfg.replan_steps = 5;
    save_all(&b, 1);
    ranks_ok(1, &cfg, mutations, &b);
    release(&b);
}
END_TEST

/* A blob with another text for each layer's spec, and a checksum that is right. */
static size_t with_spec(const uint8_t *src, size_t len, const char *spec, uint8_t *dst, size_t cap)
{
    taut__reader r = {src, len, false};
    taut__writer w = {dst, cap, 0};
    char         text[TAUT_LONG_SPEC];
    taut__write(&w, taut__read(&r, TAUT_STATE_HEADER + 24), TAUT_STATE_HEADER + 24);
    uint64_t layers = taut__read64(&r);
    taut__write64(&w, layers);
    for (uint64_t i = 0; i < layers; i++) {
        taut__read_text(&r, text, sizeof text);
        taut__write_text(&w, text);
        taut__write(&w, taut__read(&r, 20), 20);
        taut__read_text(&r, text, sizeof text);
        taut__write_text(&w, spec);
        for (int k = 0; k < 5; k++) { /* sections */
            uint64_t n = taut__read64(&r);
            taut__write64(&w, n);
            taut__write(&w, taut__read(&r, n), n);
        }
    }
    taut__write(&w, r.at, r.left);
    taut__put64(dst + TAUT_STATE_BYTES_AT, w.len);
    taut__put64(dst + TAUT_STATE_SUM_AT, taut__state_checksum(dst, w.len));
    return w.len;
}

/* The section of the plan, which is the last: its length, a version, and the layers. A length alone may stand anywhere, as part of a number. */
static bool plan_begins(const uint8_t *at, size_t left)
{
    uint32_t version = taut__get32(at + 8);
    return taut__get64(at) == left - 8 && version > 0 && version < 64 && taut__get32(at + 12) <= 2;
}

static taut_status forgeries(ranks_ctx *c)
{
    const blobs *b = c->arg;
    const size_t n = b->len[c->rank], cap = n + 4096;
    uint8_t     *m = malloc(cap);
    taut_layer  *l[2];
    float        x[N];
    taut_status  s;
    char         huge[600];
    TAUT_TRY(two_layers(c, l));
    for (int k = 0; k < 13; k++) TAUT_TRY(step(c, l, k, x));
    memset(huge, 'q', sizeof huge - 1), huge[sizeof huge - 1] = 0;
    const char *const specs[] = {"auto",         "",  "quant:bits=9", "nonsense", "powersgd:rank=60", "stack:topk",
                                 "grid:basis=8", huge}; /* the last but one: without the basis */
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        size_t len = with_spec(b->at[c->rank], n, specs[i], m, cap);
        TAUT_TRY(refused(c->comm, m, len, b->at[c->rank], n, &s));
        NEED(s == TAUT_E_CORRUPT);
    }
    /* every byte of the plan, which ends the blob, in turn: no crash, and either refused or not, never half */
    taut__reader r = {b->at[c->rank], n, false};
    size_t       plan = 0;
    while (plan + 16 < n && !plan_begins(b->at[c->rank] + plan, n - plan)) plan++;
    (void)r;
    for (size_t at = plan; at < n;
         at += at < plan + 2000 ? 1 : 1 + taut__random32(taut__rng_of(9, 0), (uint32_t)at) % 97) {
        memcpy(m, b->at[c->rank], n);
        m[at] ^= 0xff;
        taut__put64(m + TAUT_STATE_SUM_AT, taut__state_checksum(m, n));
        s = taut_state_load(c->comm, m, n);
        if (at < plan + 12) NEED(s != TAUT_OK); /* its length, version and number of layers */
        TAUT_TRY(taut_state_load(c->comm, b->at[c->rank], n));
    }
    memcpy(m, b->at[c->rank], n);
    taut__put32(m + 4, 1); /* the version before this one */
    TAUT_TRY(refused(c->comm, m, n, b->at[c->rank], n, &s));
    NEED(s == TAUT_E_VERSION && strstr(taut_last_error(), "version 1"));
    free(m);
    for (int k = 13; k < 15; k++) TAUT_TRY(step(c, l, k, x));
    return TAUT_OK;
}
START_TEST(forged_blobs)
{
    blobs       b = {.codec = "auto", .feedback = "auto"};
    taut_config cfg = config(&b);
    save_all(&b, 2);
    ranks_ok(2, &cfg, forgeries, &b);
    release(&b);
}
END_TEST

/* Specs of more than 95 characters go there and back. */
START_TEST(long_specs)
{
    blobs b = {.codec = "stack:topk:density=0.0123456789+topk:density=0.0234567891+quant:bits=3,bucket=128,norm=linf,"
                        "round=nearest+quant:bits=7",
               .feedback = "on"};
    taut_config cfg = config(&b);
    ck_assert_uint_gt(strlen(b.codec), 95);
    save_all(&b, 2);
    ranks_ok(2, &cfg, load_often, &b);
    release(&b);
}
END_TEST

/* Blobs of other models. */
static taut_status other_model(ranks_ctx *c)
{
    const blobs *b = c->arg;
    taut_layer  *l;
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    NEED(taut_state_load(c->comm, b->at[0], b->len[0]) == TAUT_E_MISMATCH);
    NEED(strstr(taut_last_error(), "'v'"));
    TAUT_TRY(taut_layer_register(c->comm, "v", TAUT_F32, 2, (size_t[]){COLS, COLS}, &l));
    NEED(taut_state_load(c->comm, b->at[0], b->len[0]) == TAUT_E_MISMATCH);
    NEED(strstr(taut_last_error(), "'v'"));
    NEED(!c->comm->layer[0]->operand.residual && c->comm->steps == 0);
    return TAUT_OK;
}
START_TEST(foreign)
{
    blobs       b = {.codec = "topk:density=0.1", .feedback = "auto"};
    taut_config cfg = config(&b);
    save_all(&b, 1);
    ranks_ok(1, &cfg, other_model, &b);
    release(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, replaces, 0, CODECS);
    tcase_add_loop_test(t, other_ranks, 0, CODECS);
    tcase_add_loop_test(t, two_three_one, 0, 2 * CODECS);
    tcase_add_test(t, half_of_them);
    tcase_add_loop_test(t, damaged, 0, 2);
    tcase_add_test(t, forged_blobs);
    tcase_add_test(t, long_specs);
    tcase_add_test(t, foreign);
    return suite_run(s);
}
