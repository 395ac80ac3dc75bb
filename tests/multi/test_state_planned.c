/* test_state_planned.c : checkpoints under a plan that no clock has a part in: the run goes on as if it had not been interrupted. Ranks are threads. */
#include "comm/core/state.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <stdlib.h>
#include <xxhash.h>

enum { ROWS = 64, COLS = 100, N = ROWS * COLS, SMALL = 1100 }; /* the last is planned for as a bundle */
enum { LONG_RUN = 44, SAVES = 7, P = 3 };

typedef struct scene {
    const char *budget, *objective, *feedback, *hosts;
    int         ranks;
    bool        scaled;
    bool        measured;        /* the link: then only as long as the plan stands */
    uint64_t    plans[LONG_RUN]; /* after each step of the whole run, rank 0's */
    bool        apart
        [LONG_RUN]; /* the next step gathers samples for a plan: where the link is measured, the clock may ask for one */
    uint8_t *blob[SAVES][P];
    size_t   len[SAVES][P];
    int      from;           /* which save the run goes on from; -1: it is the whole one */
    uint64_t seen[LONG_RUN]; /* results and statistics of each step, rank 0's */
} scene;
static const int saves[SAVES] = {1, 2, 3, 6, 12, 21, 37}; /* steps before */

static taut_status planned_layers(ranks_ctx *c, taut_layer **l)
{
    TAUT_TRY(taut_layer_register(c->comm, "a", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[0]));
    TAUT_TRY(taut_layer_register(c->comm, "b", TAUT_F32, 2, (size_t[]){ROWS / 2, COLS}, &l[1]));
    TAUT_TRY(taut_layer_register(c->comm, "h", TAUT_F16, 2, (size_t[]){32, 64}, &l[2]));
    TAUT_TRY(taut_layer_register(c->comm, "bias", TAUT_F32, 1, (size_t[]){SMALL}, &l[3]));
    TAUT_TRY(taut_layer_register(c->comm, "pinned", TAUT_F32, 2, (size_t[]){20, COLS}, &l[4]));
    return taut_layer_codec(l[4], "topk:density=0.1");
}

/* Norms that fall, and jump once; a row that is nearly nothing; a scale that goes with them. */
static float planned_value(int rank, size_t i, int number)
{
    float size = number > 30 ? 40 : number > 8 ? 0.5f : 1;
    return size * ranks_value(rank, i, number) * (i / COLS % 7 == 2 ? 1e-3f : 1);
}

static taut_status planned_step(ranks_ctx *c, taut_layer **l, int number, uint64_t *seen, uint64_t *plans)
{
    const scene        *s = c->arg;
    static const size_t elems[] = {N, N / 2, 32 * 64, SMALL, 20 * COLS};
    float               x[5][N], scale[ROWS];
    taut_comm_stats     stats = {.size = sizeof stats};
    uint64_t            h = 0;
    for (int i = 0; i < ROWS; i++) scale[i] = (i % 7 == 2 ? 1e-3f : 1) / (1 + (float)number);
    if (s->scaled && number > 0) TAUT_TRY(taut_layer_scale(l[0], scale, ROWS));
    for (int k = 0; k < 5; k++)
        for (size_t i = 0; i < elems[k]; i++) x[k][i] = planned_value(c->rank, i + (size_t)(1000 * k), number);
    for (size_t i = 0; i < elems[2]; i++)
        ((uint16_t *)(void *)x[2])[i] = (uint16_t)(0x3000 + 16 * ((c->rank + number + (int)i) % 97));
    for (int k = 0; k < 5; k++) TAUT_TRY(taut_allreduce_start(l[k], x[k], TAUT_MEAN));
    TAUT_TRY(taut_step_end(c->comm));
    for (int k = 0; k < 5; k++) h = taut__seed(h, XXH3_64bits(x[k], elems[k] * (k == 2 ? 2 : 4)));
    TAUT_TRY(taut_comm_get_stats(c->comm, &stats));
    double told[] = {stats.rel_err2,      stats.rel_err2_metric,  stats.budget, (double)stats.budget_violations,
                     (double)stats.plans, (double)stats.plan_hash};
    *seen = taut__seed(h, XXH3_64bits(told, sizeof told));
    *plans = stats.plans;
    return TAUT_OK;
}

static taut_status planned_save(ranks_ctx *c, scene *s, int k)
{
    size_t got;
    TAUT_TRY(taut_state_save(c->comm, NULL, 0, &s->len[k][c->rank]));
    s->blob[k][c->rank] = malloc(s->len[k][c->rank]);
    return taut_state_save(c->comm, s->blob[k][c->rank], s->len[k][c->rank], &got);
}

static taut_status planned_run(ranks_ctx *c)
{
    scene      *s = c->arg;
    taut_layer *l[5];
    int         first = 0;
    uint64_t    seen, plans;
    TAUT_TRY(planned_layers(c, l));
    for (int turn = 0; turn < (s->from < 0 ? 1 : 2); turn++) { /* once more: back from where it has come to */
        if (s->from >= 0) {
            TAUT_TRY(taut_state_load(c->comm, s->blob[s->from][c->rank], s->len[s->from][c->rank]));
            first = saves[s->from];
        }
        for (int number = first, break_at = LONG_RUN; number < LONG_RUN; number++) {
            for (int k = 0; k < SAVES && s->from < 0; k++)
                if (saves[k] == number) TAUT_TRY(planned_save(c, s, k));
            TAUT_TRY(planned_step(c, l, number, &seen, &plans));
            if (c->rank != 0) continue;
            bool apart = c->comm->sampling.apart;
            if (s->from < 0) s->seen[number] = seen, s->plans[number] = plans, s->apart[number] = apart;
            else if (s->measured && (plans != s->plans[first - 1] || s->plans[number] != plans)) break_at = number;
            else if (s->measured && break_at < number) continue;
            else if (s->seen[number] != seen)
                return taut__fail(TAUT_E_INVALID, "budget %s, turn %d: saved before step %d, step %d differs",
                                  s->budget, turn, first, number);
            if (s->measured && s->from >= 0 && apart != s->apart[number] && break_at == LONG_RUN) break_at = number;
        }
    }
    return TAUT_OK;
}

START_TEST(plans_go_on)
{
    static const scene scenes[] = {
        {.budget = "like:quant:bits=4", .objective = "bytes", .feedback = "auto", .hosts = "0", .ranks = 2},
        {.budget = "rel=0.05", .objective = "time", .feedback = "auto", .hosts = "0", .ranks = 3, .scaled = true},
        {.budget = "rel=0.6", .objective = "bytes", .feedback = "on", .hosts = "0", .ranks = 2},
        {.budget = "like:powersgd:rank=4", .objective = "bytes", .feedback = "auto", .hosts = "0", .ranks = 3},
        {.budget = "like:topk:density=0.1", .objective = "time", .feedback = "auto", .hosts = "2", .ranks = 3},
        {.budget = "like:quant:bits=4",
         .objective = "time",
         .feedback = "momentum",
         .hosts = "0",
         .ranks = 2,
         .scaled = true},
        {.budget = "rel=0.05", .objective = "bytes", .feedback = "auto", .hosts = "0", .ranks = 2, .measured = true},
    };
    scene       s = scenes[_i];
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = 20000;
    cfg.budget = s.budget, cfg.objective = s.objective, cfg.feedback = s.feedback;
    cfg.link = s.measured ? "measure" : "20mbit";
    cfg.replan_steps = 11;
    setenv("TAUT_FAKE_HOSTS", s.hosts, 1);
    s.from = -1;
    ranks_ok(s.ranks, &cfg, planned_run, &s);
    for (s.from = 0; s.from < SAVES; s.from++) ranks_ok(s.ranks, &cfg, planned_run, &s);
    for (int k = 0; k < SAVES; k++)
        for (int r = 0; r < s.ranks; r++) free(s.blob[k][r]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state_planned");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, plans_go_on, 0, 7);
    return suite_run(s);
}
