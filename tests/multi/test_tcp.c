/* test_tcp.c : the communicator over TCP, ranks being processes: every codec over every algorithm on 1 to 7 ranks with the bytes that ranks as
 * threads get, layers under way at once, large messages, sharded collectives, states. Failures are in test_tcp_faults.c. */
#include "tests/support/processes.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct codec_case {
    const char *spec;
    double      error; /* relative squared error of the sum allowed; see test_allreduce.c */
} codec_case;
static const codec_case codecs[] = {
    {"none", 1e-12},
    {"fp16", 1e-6},
    {"bf16", 1e-4},
    {"quant:bits=4", 0.9},
    {"quant:bits=8", 0.004},
    {"grid:rel=0.03", 0.033},
    {"grid:rel=0.03,code=rans", 0.033},
    {"topk:density=0.1", 1},
    {"randk:density=0.1", 1.3},
    {"powersgd:rank=4", 1.3},
    {"stack:topk:density=0.01+quant:bits=8", 0.05},
};
enum { CODECS = sizeof codecs / sizeof *codecs, ROWS = 97, COLS = 131, N = ROWS * COLS, STEPS = 2 };
static const int         sizes[] = {1, 2, 3, 4, 7};
static const char *const algorithms[] = {"auto", "sra", "ring", "gather", "native"};
enum { SIZES = 5, ALGORITHMS = 5 };

static bool long_tier(void) { return suite_long(); }

static double error_of(const float *x, int size, int step)
{
    double err = 0, norm = 0;
    for (size_t i = 0; i < N; i++) {
        double exact = ranks_sum(size, i, step), d = (double)x[i] - exact;
        err += d * d, norm += exact * exact;
    }
    return err / norm;
}

/* All codecs as layers of one communicator. hash[i]: of codec i's last result; 0: the algorithm cannot carry it. */
static taut_status all_codecs(taut_comm *comm, int rank, int size, const char *algorithm, uint64_t *hash)
{
    static _Thread_local float x[CODECS][N];
    taut_layer                *l[CODECS];
    double                     hops = strcmp(algorithm, "ring") == 0 ? size : 1;
    for (int i = 0; i < CODECS; i++) {
        char name[24];
        snprintf(name, sizeof name, "layer%d", i);
        TAUT_TRY(taut_layer_register(comm, name, TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l[i]));
        taut_status s = taut_layer_codec(l[i], codecs[i].spec);
        if (s == TAUT_E_UNSUPPORTED) l[i] = NULL;
        else TAUT_TRY(s);
        if (!l[i]) TAUT_TRY(taut_layer_codec(taut_comm_layer(comm, (size_t)i), "none"));
    }
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < CODECS; i++) {
            for (size_t k = 0; k < N; k++) x[i][k] = ranks_value(rank, k, step);
            if (l[i])
                TAUT_TRY(step % 2 ? taut_allreduce_start(l[i], x[i], TAUT_SUM) : taut_allreduce(l[i], x[i], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(comm));
        for (int i = 0; i < CODECS; i++) {
            hash[i] = l[i] ? XXH3_64bits(x[i], sizeof x[i]) : 0;
            double e = l[i] ? error_of(x[i], size, step) : 0;
            if (l[i] && size > 1 && e > codecs[i].error * hops)
                return taut__fail(TAUT_E_INVALID, "%s over %s: error %g", codecs[i].spec, algorithm, e);
        }
    }
    return TAUT_OK;
}

static taut_status as_process(process *p, taut_comm **comm)
{
    return all_codecs(*comm, p->rank, p->size, p->arg, p->hash);
}

static uint64_t    thread_hash[16][CODECS];
static taut_status as_thread(ranks_ctx *c)
{
    return all_codecs(c->comm, c->rank, c->size, c->arg, thread_hash[c->rank]);
}

START_TEST(codecs_and_algorithms)
{
    int         size = sizes[_i % SIZES];
    const char *algorithm = algorithms[_i / SIZES];
    taut_config cfg = TAUT_CONFIG_INIT;
    if (!long_tier() && size != 3 && _i / SIZES != 0)
        return; /* every size, and every algorithm; every pair in the long tier */
    cfg.feedback = "off";
    cfg.codec = "none";
    cfg.algorithm = algorithm;
    cfg.slice_kib = 64;
    cfg.timeout_ms = 30000;
    const process *p = processes_run(size, &cfg, as_process, (void *)(uintptr_t)algorithm, false);
    processes_ok(p, size);
    ranks_ok(size, &cfg, as_thread, (void *)(uintptr_t)algorithm);
    int carried = 0;
    for (int i = 0; i < CODECS; i++) {
        carried += p[0].hash[i] != 0;
        for (int r = 0; r < size; r++) {
            ck_assert_msg(p[r].hash[i] == p[0].hash[i], "%s over %s on %d ranks: results differ", codecs[i].spec,
                          algorithm, size);
            ck_assert_msg(p[r].hash[i] == thread_hash[r][i], "%s over %s on %d ranks: not what threads get",
                          codecs[i].spec, algorithm, size);
        }
    }
    ck_assert_int_ge(carried, strcmp(algorithm, "native") ? 7 : 3);
}
END_TEST

/* ---- many layers at once, every rank in its own order; what comes early is kept; one rank is late ---- */

enum { LAYERS = 24 };
static taut_status any_order(process *p, taut_comm **comm)
{
    taut_layer *l[LAYERS];
    float      *buf[LAYERS];
    for (int i = 0; i < LAYERS; i++) {
        char name[24];
        snprintf(name, sizeof name, "layer%d", i);
        TAUT_TRY(taut_layer_register(*comm, name, TAUT_F32, i % 4 == 3 ? 1 : 2,
                                     i % 4 == 3 ? (size_t[]){COLS} : (size_t[]){ROWS, COLS}, &l[i]));
        buf[i] = malloc(N * sizeof(float));
    }
    for (int step = 0; step < 4; step++) {
        for (int j = 0; j < LAYERS; j++) {
            int i = (j * (step % 2 ? 5 : 1) + 3 * p->rank) % LAYERS;
            for (size_t k = 0; k < N; k++) buf[i][k] = ranks_value(p->rank, k + (size_t)i * 1000, step);
            if (j == LAYERS / 2 && p->rank == step % p->size) nanosleep(&(struct timespec){0, 30000000}, NULL);
            TAUT_TRY(taut_allreduce_start(l[i], buf[i], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(*comm));
        for (int i = 0; i < LAYERS; i++) {
            double err = 0, norm = 0;
            size_t n = i % 4 == 3 ? COLS : N;
            for (size_t k = 0; k < n; k++) {
                double x = ranks_sum(p->size, k + (size_t)i * 1000, step), d = (double)buf[i][k] - x;
                err += d * d, norm += x * x;
            }
            NEED(err <= 0.01 * norm);
            TAUT_TRY(ranks_same(*comm, buf[i], n * sizeof(float)));
        }
    }
    for (int i = 0; i < LAYERS; i++) free(buf[i]);
    return TAUT_OK;
}
START_TEST(orders)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    int         size = sizes[1 + _i / 2];
    cfg.codec = "quant:bits=8";
    cfg.progress = _i % 2 ? 2 : 0;
    cfg.timeout_ms = 30000;
    processes_ok(processes_run(size, &cfg, any_order, NULL, false), size);
}
END_TEST

/* ---- messages that ask first, and sharded collectives ---- */

static taut_status large(process *p, taut_comm **comm)
{
    enum { HEAVY = 1500 * 701 };
    taut_layer *l, *other;
    float      *x = malloc(HEAVY * sizeof *x), *y = malloc(HEAVY * sizeof *y);
    size_t      first, n;
    TAUT_TRY(taut_layer_register(*comm, "heavy", TAUT_F32, 2, (size_t[]){1500, 701}, &l));
    TAUT_TRY(taut_layer_register(*comm, "other", TAUT_F32, 2, (size_t[]){1500, 701}, &other));
    TAUT_TRY(taut_layer_codec(other, "fp16"));
    for (int step = 0; step < 2; step++) {
        for (size_t i = 0; i < HEAVY; i++) x[i] = y[i] = ranks_value(p->rank, i, step);
        TAUT_TRY(taut_allreduce_start(p->rank % 2 ? l : other, p->rank % 2 ? x : y, TAUT_SUM));
        TAUT_TRY(taut_allreduce_start(p->rank % 2 ? other : l, p->rank % 2 ? y : x, TAUT_SUM));
        TAUT_TRY(taut_step_end(*comm));
        for (size_t i = 0; i < HEAVY; i += 97)
            NEED(fabs((double)x[i] - ranks_sum(p->size, i, step)) < 1e-4 &&
                 fabs((double)y[i] - ranks_sum(p->size, i, step)) < 0.1);
        TAUT_TRY(ranks_same(*comm, x, HEAVY * sizeof *x));
    }
    for (size_t i = 0; i < HEAVY; i++) x[i] = ranks_value(p->rank, i, 7);
    TAUT_TRY(taut_reduce_scatter(l, x, TAUT_SUM));
    TAUT_TRY(taut_layer_part(l, p->rank, &first, &n));
    for (size_t i = first; i < first + n; i += 89) NEED(fabs((double)x[i] - ranks_sum(p->size, i, 7)) < 1e-4);
    TAUT_TRY(taut_allgather(l, x));
    for (size_t i = 0; i < HEAVY; i += 89) NEED(fabs((double)x[i] - ranks_sum(p->size, i, 7)) < 1e-4);
    TAUT_TRY(taut_step_end(*comm));
    free(x), free(y);
    return TAUT_OK;
}
START_TEST(large_messages)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = "none";
    cfg.slice_kib = _i % 2 ? 4096 : 1024;
    cfg.timeout_ms = 30000;
    cfg.progress = _i / 2 ? 2 : 0;
    for (int size = 2; size <= 3; size++) processes_ok(processes_run(size, &cfg, large, NULL, false), size);
}
END_TEST

/* ---- codec=auto measures this link, plans, keeps its budget; hosts within hosts ---- */

static taut_status automatic(process *p, taut_comm **comm)
{
    taut_layer     *l;
    taut_comm_stats st = {.size = sizeof st};
    static float    x[N];
    TAUT_TRY(taut_layer_register(*comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &l));
    for (int step = 0; step < 12; step++) {
        for (size_t k = 0; k < N; k++) x[k] = ranks_value(p->rank, k, step);
        TAUT_TRY(taut_allreduce(l, x, TAUT_MEAN));
        TAUT_TRY(taut_step_end(*comm));
        TAUT_TRY(ranks_same(*comm, x, sizeof x));
    }
    TAUT_TRY(taut_comm_get_stats(*comm, &st));
    NEED(st.steps == 12 && st.plans >= 1 && st.budget_violations == 0);
    NEED(st.bytes_sent < st.bytes_dense ||
         ((*comm)->ctx.hierarchical && (*comm)->ctx.leaders.rank < 0)); /* within a host nothing is compressed */
    return TAUT_OK;
}
START_TEST(plans)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.link = "10mbit";
    cfg.objective = "bytes";
    cfg.replan_steps = 4;
    cfg.timeout_ms = 30000;
    if (_i) setenv("TAUT_FAKE_HOSTS", "2", 1), cfg.hierarchy = "on";
    processes_ok(processes_run(_i ? 4 : 2, &cfg, automatic, NULL, false), _i ? 4 : 2);
}
END_TEST

/* ---- two communicators of the same processes; come and go ---- */

static taut_status come_and_go(process *p, taut_comm **comm)
{
    static float x[N], y[N];
    taut_layer  *a, *b;
    taut_comm   *second;
    taut_tcp     where = p->where;
    taut_config  cfg = TAUT_CONFIG_INIT;
    char         root[32];
    cfg.codec = "quant:bits=8";
    TAUT_TRY(taut_layer_register(*comm, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &a));
    for (int i = 0; i < 5; i++) {
        snprintf(root, sizeof root, "127.0.0.1:%d", ((int *)p->arg)[i]);
        where.root = root;
        TAUT_TRY(taut_comm_create_tcp(&where, &cfg, &second));
        TAUT_TRY(taut_layer_register(second, "w", TAUT_F32, 2, (size_t[]){ROWS, COLS}, &b));
        for (size_t k = 0; k < N; k++) x[k] = ranks_value(p->rank, k, i), y[k] = ranks_value(p->rank, k, i + 1);
        TAUT_TRY(taut_allreduce_start(p->rank % 2 ? a : b, p->rank % 2 ? x : y, TAUT_SUM));
        TAUT_TRY(taut_allreduce_start(p->rank % 2 ? b : a, p->rank % 2 ? y : x, TAUT_SUM));
        TAUT_TRY(taut_step_end(*comm));
        TAUT_TRY(taut_step_end(second));
        NEED(error_of(x, p->size, i) < 0.01 && error_of(y, p->size, i + 1) < 0.01);
        taut_comm_destroy(second);
    }
    return TAUT_OK;
}
START_TEST(several)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    int         port[5];
    for (int i = 0; i < 5; i++) port[i] = processes_port();
    cfg.codec = "quant:bits=8";
    cfg.timeout_ms = 30000;
    processes_ok(processes_run(3, &cfg, come_and_go, port, false), 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tcp");
    TCase *t = suite_case(s, "ranks", 120);
    tcase_add_loop_test(t, codecs_and_algorithms, 0, SIZES * ALGORITHMS);
    tcase_add_loop_test(t, orders, long_tier() ? 0 : 2, long_tier() ? 6 : 4);
    tcase_add_loop_test(t, large_messages, 0, long_tier() ? 4 : 1);
    tcase_add_loop_test(t, plans, 0, 2);
    tcase_add_test(t, several);
    return suite_run(s);
}
