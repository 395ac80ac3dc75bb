/* test_drawn_findings.c : what jobs that a seed draws (test_sequences.c) have found, each by itself. */
#include "../support/suite.h"
#include "tests/support/mock_space.h"
#include "tests/support/ranks.h"
#include "tests/support/specs.h"
#include "compressors/vectors.h"
#include <string.h>
#include <xxhash.h>

enum { ROWS = 40, COLS = 60, ELEMS = ROWS * COLS };

/* A plan offers nothing that the algorithm of the communicator cannot carry: not even the reference of its budget. */
static taut_status planned_rank(ranks_ctx *c)
{
    taut_layer *l[2];
    float       x[2][ELEMS];
    for (int i = 0; i < 2; i++)
        TAUT_TRY(taut_layer_register(c->comm, i ? "b" : "a", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[i]));
    for (int step = 0; step < 12; step++) {
        for (int i = 0; i < 2; i++) {
            for (size_t k = 0; k < ELEMS; k++) x[i][k] = ranks_value(c->rank, k + (size_t)(ELEMS * i), step);
            TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_MEAN));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int i = 0; i < 2; i++) TAUT_TRY(ranks_same(c->comm, x[i], sizeof x[i]));
    }
    return TAUT_OK;
}

START_TEST(plans_keep_to_the_algorithm)
{
    static const char *const algorithms[] = {"native", "sra", "ring", "gather"}, *const budgets[] = {
                                                                                     "rel=0.2", "like:quant:bits=2",
                                                                                     "like:topk:density=0.1",
                                                                                     "like:powersgd:rank=2"};
    for (int i = 0; i < 8; i++) {
        taut_config cfg = TAUT_CONFIG_INIT;
        cfg.algorithm = algorithms[_i], cfg.budget = budgets[i / 2], cfg.objective = i % 2 ? "bytes" : "time";
        cfg.replan_steps = 3, cfg.link = "1mbit", cfg.timeout_ms = (int32_t)suite_patience(20000);
        ranks_ok(2 + i % 3, &cfg, planned_rank, NULL);
    }
}
END_TEST

/* A layer that comes between two plans, and a checkpoint before the next one. */
typedef struct newcomer {
    bool     small, resumed;
    int      saved; /* after this step */
    char    *blob[3];
    size_t   len[3];
    uint64_t seen[12];
} newcomer;

static taut_status newcomer_layer(ranks_ctx *c, bool small, int i, taut_layer **l)
{
    size_t shape[] = {small ? ELEMS : ROWS, COLS};
    return taut_layer_register(c->comm, i ? "late" : "early", TAUT_F32, small ? 1 : 2, shape, l);
}

static taut_status newcomer_rank(ranks_ctx *c)
{
    enum { COMES = 4 };
    newcomer   *s = c->arg;
    taut_layer *l[2];
    float       x[2][ELEMS];
    int         n = 0;
    for (; n < (s->resumed ? 2 : 1); n++) TAUT_TRY(newcomer_layer(c, s->small, n, &l[n]));
    if (s->resumed) TAUT_TRY(taut_state_load(c->comm, s->blob[c->rank], s->len[c->rank]));
    for (int step = s->resumed ? s->saved + 1 : 0; step < 12; step++) {
        if (step == COMES && n == 1) TAUT_TRY(newcomer_layer(c, s->small, n++, &l[1]));
        for (int i = 0; i < n; i++) {
            for (size_t k = 0; k < ELEMS; k++) x[i][k] = ranks_value(c->rank, k + (size_t)(ELEMS * i), step);
            TAUT_TRY(taut_allreduce_start(l[i], x[i], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
        uint64_t h = XXH3_64bits(x, (size_t)n * sizeof x[0]);
        for (int i = 0; i < n; i++) TAUT_TRY(ranks_same(c->comm, x[i], sizeof x[i]));
        if (c->rank == 0 && !s->resumed) s->seen[step] = h;
        if (c->rank == 0 && s->resumed && !s->small) NEED(s->seen[step] == h);
        if (s->resumed || step != s->saved) continue;
        TAUT_TRY(taut_state_save(c->comm, NULL, 0, &s->len[c->rank]));
        s->blob[c->rank] = malloc(s->len[c->rank]);
        TAUT_TRY(taut_state_save(c->comm, s->blob[c->rank], s->len[c->rank], &s->len[c->rank]));
    }
    return TAUT_OK;
}

START_TEST(newcomers_are_saved)
{
    for (int saved = 4; saved < 11; saved++) {
        newcomer    s = {.small = _i, .saved = saved};
        taut_config cfg = TAUT_CONFIG_INIT;
        cfg.budget = "rel=0.1", cfg.objective = "bytes", cfg.link = "1mbit", cfg.replan_steps = 6;
        cfg.timeout_ms = (int32_t)suite_patience(20000);
        ranks_ok(3, &cfg, newcomer_rank, &s);
        s.resumed = true;
        ranks_ok(3, &cfg, newcomer_rank, &s);
        for (int r = 0; r < 3; r++) free(s.blob[r]);
    }
}
END_TEST

/* One rank's sum is what it put in, whatever is set: all of it is sent, and no momentum is left of what has been. */
static taut_status single_rank(ranks_ctx *c)
{
    const taut_dtype dtype = *(taut_dtype *)c->arg;
    taut_layer      *l;
    const size_t     bytes = ELEMS * (dtype == TAUT_F32 ? 4 : 2);
    float            wide[ELEMS], gave[ELEMS], x[ELEMS]; /* the last two: of dtype */
    TAUT_TRY(taut_layer_register(c->comm, "w", dtype, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < 6; step++) {
        for (size_t k = 0; k < ELEMS; k++) wide[k] = ranks_value(0, k, step);
        taut__vectors_host.convert((taut_place){0}, gave, dtype, wide, TAUT_F32, ELEMS);
        memcpy(x, gave, bytes);
        TAUT_TRY(taut_allreduce(l, x, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        NEED(memcmp(x, gave, bytes) == 0);
    }
    return TAUT_OK;
}

START_TEST(one_rank_gets_what_it_gave)
{
    static const char *const modes[] = {"auto", "on", "off", "momentum"};
    taut_dtype               dtype = (taut_dtype)(_i / 4);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        taut_config cfg = TAUT_CONFIG_INIT;
        taut_comm  *comm;
        cfg.codec = specs[i], cfg.feedback = modes[_i % 4];
        if (taut_comm_create_threads(1, &cfg, &comm)) continue; /* feedback around it is refused */
        taut_comm_destroy(comm);
        ranks_ok(1, &cfg, single_rank, &dtype);
    }
}
END_TEST

/* Small layers on a device, which have had a collective of their own before, in a bucket: its sums are made, and looked at, on the host. */
static taut_status small_ones_rank(ranks_ctx *c)
{
    enum { SMALL = 300 };
    taut_place  place = mock_stream();
    taut_layer *l;
    void       *at[2];
    float       x[SMALL];
    for (int i = 0; i < 2; i++) {
        TAUT_TRY(taut_layer_register(c->comm, i ? "b" : "a", TAUT_F32, 1, (size_t[]){SMALL}, &l));
        TAUT_TRY(taut__memory_of(place.space)->alloc(place, sizeof x, &at[i]));
    }
    TAUT_TRY(taut_layer_register(c->comm, "lossy", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < 4; step++) {
        for (size_t i = 0; i < 2; i++) {
            for (size_t e = 0; e < SMALL; e++) x[e] = (float)(e + i) + (float)c->rank;
            mock_write(at[i], x, sizeof x);
            l = taut_comm_layer(c->comm, i);
            if (step == 0) {
                TAUT_TRY(taut_reduce_scatter_on(l, at[i], TAUT_SUM, place.space, place.device, place.stream));
                continue;
            }
            TAUT_TRY(taut_allreduce_start_on(l, at[i], TAUT_SUM, place.space, place.device, place.stream));
            TAUT_TRY(taut_wait(l));
            mock_read(x, at[i], sizeof x);
            for (size_t e = 0; e < SMALL; e++)
                NEED(x[e] == (float)((size_t)c->size * (e + i)) + (float)(c->size * (c->size - 1) / 2));
        }
        TAUT_TRY(taut_step_end(c->comm));
    }
    taut_comm_destroy(c->comm);
    c->comm = NULL;
    for (int i = 0; i < 2; i++) taut__memory_of(place.space)->release(place, at[i]);
    mock_stream_end(place);
    return TAUT_OK;
}

START_TEST(small_ones_on_a_device)
{
    static const char *const codecs[] = {"quant:bits=4", "grid", "topk"};
    mock_open();
    for (int ranks = 2; ranks <= 4; ranks++) {
        taut_config cfg = TAUT_CONFIG_INIT;
        cfg.codec = codecs[_i], cfg.link = "1gbit", cfg.timeout_ms = (int32_t)suite_patience(20000);
        ranks_ok(ranks, &cfg, small_ones_rank, NULL);
    }
    mock_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("what drawn jobs have found");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, plans_keep_to_the_algorithm, 0, 4);
    tcase_add_loop_test(t, small_ones_on_a_device, 0, 3);
    tcase_add_loop_test(t, newcomers_are_saved, 0, 2);
    tcase_add_loop_test(t, one_rank_gets_what_it_gave, 0, 12);
    return suite_run(s);
}
