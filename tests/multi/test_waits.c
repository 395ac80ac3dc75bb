/* test_waits.c : ranks that wait in different orders, as programs do that take what is done first: small layers of buckets of which not all members have been
 * started begin their rounds only when somebody asks for them, and who is asked waits, or tests, for something else. */
#include "../support/suite.h"
#include <stdio.h>
#include "tests/support/ranks.h"

enum {
    SMALL = 6,
    N = 5000,
    ROWS = 120,
    COLS = 100,
    STEPS = 3,
    KINDS = 4
}; /* three small layers fill a bucket of 64 KiB */
enum { BY_WAIT, BY_TEST, MIXED };

typedef struct scene {
    int    by, kind;
    double seconds; /* the longest that a rank was at it */
} scene;

static taut_status get(taut_layer *l, int by, int rank)
{
    int done = 0;
    if (by == BY_WAIT || (by == MIXED && rank % 2)) return taut_wait(l);
    while (!done) TAUT_TRY(taut_test(l, &done));
    return TAUT_OK;
}

/* Two buckets, of each the first member only: this rank takes one first, its neighbour the other. */
static taut_status crosswise(const ranks_ctx *c, const scene *s, taut_layer **l, float (*x)[N])
{
    int first = c->rank % 2 ? 3 : 0;
    TAUT_TRY(taut_allreduce_start(l[0], x[0], TAUT_SUM));
    TAUT_TRY(taut_allreduce_start(l[3], x[3], TAUT_SUM));
    TAUT_TRY(get(l[first], s->by, c->rank));
    return get(l[3 - first], s->by, c->rank);
}

/* One goes straight to the end of the step, which takes buckets in their order. */
static taut_status at_the_end(const ranks_ctx *c, const scene *s, taut_layer **l, float (*x)[N])
{
    TAUT_TRY(taut_allreduce_start(l[0], x[0], TAUT_SUM));
    TAUT_TRY(taut_allreduce_start(l[3], x[3], TAUT_SUM));
    return c->rank ? TAUT_OK : get(l[3], s->by, c->rank);
}

/* Rank 0 has all under way and waits for the large one, which the others start once they have the small one. */
static taut_status beside_a_large_one(const ranks_ctx *c, const scene *s, taut_layer **l, float (*x)[N], float *large)
{
    TAUT_TRY(taut_allreduce_start(l[0], x[0], TAUT_SUM));
    if (c->rank) TAUT_TRY(get(l[0], s->by, c->rank));
    TAUT_TRY(taut_allreduce_start(l[SMALL], large, TAUT_SUM));
    TAUT_TRY(get(l[SMALL], s->by, c->rank));
    return c->rank ? TAUT_OK : get(l[0], s->by, c->rank);
}

/* In one bucket: the first round agrees on nothing while rank 0, elsewhere, has begun it with another member. */
static taut_status after_an_empty_round(const ranks_ctx *c, const scene *s, taut_layer **l, float (*x)[N])
{
    int own = c->rank ? 1 : 0;
    TAUT_TRY(taut_allreduce_start(l[3], x[3], TAUT_SUM));
    TAUT_TRY(taut_allreduce_start(l[own], x[own], TAUT_SUM));
    if (c->rank) TAUT_TRY(get(l[3], s->by, c->rank));
    TAUT_TRY(taut_allreduce_start(l[1 - own], x[1 - own], TAUT_SUM));
    TAUT_TRY(get(l[own], s->by, c->rank));
    return c->rank ? TAUT_OK : get(l[3], s->by, c->rank);
}

static taut_status check(const ranks_ctx *c, const float *x, int i, int step)
{
    for (size_t k = 0; k < N; k++) NEED(x[k] - ranks_sum(c->size, k + (size_t)(N * i), step) < 1e-5);
    return TAUT_OK;
}

static taut_status body(ranks_ctx *c)
{
    static _Thread_local float x[SMALL][N], large[ROWS * COLS];
    scene                     *s = c->arg;
    taut_layer                *l[SMALL + 1];
    size_t                     n = N;
    char                       name[] = "s0";
    for (int i = 0; i < SMALL; i++, name[1]++) TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 1, &n, &l[i]));
    TAUT_TRY(taut_layer_register(c->comm, "large", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[SMALL]));
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < SMALL; i++)
            for (size_t k = 0; k < N; k++) x[i][k] = ranks_value(c->rank, k + (size_t)(N * i), step);
        for (size_t k = 0; k < ROWS * COLS; k++) large[k] = ranks_value(c->rank, k, step);
        switch (s->kind) {
        case 0: TAUT_TRY(crosswise(c, s, l, x)); break;
        case 1: TAUT_TRY(at_the_end(c, s, l, x)); break;
        case 2: TAUT_TRY(beside_a_large_one(c, s, l, x, large)); break;
        default: TAUT_TRY(after_an_empty_round(c, s, l, x));
        }
        TAUT_TRY(taut_step_end(c->comm));
        TAUT_TRY(check(c, x[0], 0, step));
        if (s->kind < 2) TAUT_TRY(check(c, x[3], 3, step));
    }
    return TAUT_OK;
}

START_TEST(in_another_order)
{
    static const int ranks[] = {2, 3, 4, 7};
    for (int by = 0; by < 3; by++)
        for (int kind = 0; kind < KINDS; kind++) {
            taut_config cfg = TAUT_CONFIG_INIT;
            scene       s = {by, kind, 0};
            cfg.codec = "quant:bits=8", cfg.bucket_kib = 64, cfg.progress = _i % 3;
            cfg.timeout_ms = (int32_t)suite_patience(5000);
            if (getenv("TELL"))
                fprintf(stderr, "%d ranks, progress %d, by %d, kind %d\n", ranks[_i / 3], cfg.progress, by, kind);
            ranks_ok(ranks[_i / 3], &cfg, body, &s);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("waits");
    TCase *t = suite_case(s, "all", 60);
    tcase_add_loop_test(t, in_another_order, 0, 12);
    return suite_run(s);
}
