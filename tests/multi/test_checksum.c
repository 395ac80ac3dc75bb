/* test_checksum.c : checksum=off sends frames without one and changes nothing else: the same results, the same bytes counted. */
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <stdlib.h>
#include <string.h>

enum { RANKS = 3, ROWS = 40, COLS = 300, N = ROWS * COLS };

static const char *const specs[] = {"fp16",
                                    "quant:bits=4",
                                    "grid:rel=0.03",
                                    "grid:rel=0.1,code=rans",
                                    "topk:density=0.05",
                                    "stack:topk:density=0.01+quant:bits=4"};
static const char *const algorithms[] = {"sra", "ring", "gather"};

typedef struct sums {
    const char *spec;
    float       result[RANKS][N];
    uint64_t    bytes[RANKS];
} sums;

static taut_status reduce(ranks_ctx *c)
{
    sums           *s = c->arg;
    taut_layer     *l;
    float          *buf = s->result[c->rank];
    size_t          shape[2] = {ROWS, COLS};
    taut_comm_stats stats = {.size = sizeof stats};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, shape, &l));
    TAUT_TRY(taut_layer_codec(l, s->spec));
    for (int step = 0; step < 2; step++) {
        for (size_t i = 0; i < N; i++) buf[i] = ranks_value(c->rank, i, step);
        TAUT_TRY(taut_allreduce(l, buf, TAUT_MEAN));
        TAUT_TRY(taut_step_end(c->comm));
    }
    TAUT_TRY(taut_comm_get_stats(c->comm, &stats));
    s->bytes[c->rank] = stats.bytes_sent;
    return TAUT_OK;
}

START_TEST(off_changes_nothing_else)
{
    sums       *with = calloc(1, sizeof *with), *without = calloc(1, sizeof *without);
    taut_config on = TAUT_CONFIG_INIT, off = TAUT_CONFIG_INIT;
    on.algorithm = off.algorithm = algorithms[_i % 3];
    on.checksum = "on", off.checksum = "off";
    on.link = off.link = "10gbit"; /* how often a network is probed is a matter of time */
    with->spec = without->spec = specs[_i / 3];
    ranks_ok(RANKS, &on, reduce, with);
    ranks_ok(RANKS, &off, reduce, without);
    ck_assert_mem_eq(with->result, without->result, sizeof with->result);
    ck_assert_mem_eq(with->bytes, without->bytes, sizeof with->bytes);
    free(with), free(without);
}
END_TEST

START_TEST(other_words_are_refused)
{
    taut_comm  *comm[1];
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.checksum = "maybe";
    ck_assert_int_eq(taut_comm_create_threads(1, &cfg, comm), TAUT_E_INVALID);
    ck_assert_msg(strstr(taut_last_error(), "TAUT_CHECKSUM=maybe: must be one of on|off") != NULL, "%s",
                  taut_last_error());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checksum");
    TCase *t = suite_case(s, "ranks", 0);
    tcase_add_loop_test(t, off_changes_nothing_else, 0, 3 * (int)(sizeof specs / sizeof *specs));
    tcase_add_test(t, other_words_are_refused);
    return suite_run(s);
}
