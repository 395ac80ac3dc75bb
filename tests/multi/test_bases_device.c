/* test_bases_device.c : allreduces in a basis of layers on a device that the host cannot touch: results, residuals and bases are those of layers on
 * the host, bit for bit: tall, wide, thinner than the basis, a side of two; learnt from results through several renewals, or given; scales of every
 * kind; by messages and by NCCL's double; chosen by a plan; what is refused. */
#include "comm/core/nccl.h"
#include "compressors/basis/basis.h"
#include "tests/support/mock_space.h"
#include "tests/support/nccl_double.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 5, MOST = 4800, STEPS = 11, RANKS = 3 };
static const size_t shapes[LAYERS][2] = {{80, 48}, {36, 100}, {1000, 3}, {2, 700}, {64, 64}};
static size_t       elems(int k) { return shapes[k][0] * shapes[k][1]; }

typedef struct job {
    const char *spec;
    int         scale; /* 0: none, 1: one, 2: per row, 3: per element */
    bool        given, poison;
    int         there; /* ranks whose layers lie on the device: bits */
    bool        nccl;
    int         planned; /* of rank 0's last plan: layers in a basis */
    float       result[RANKS][STEPS][LAYERS][MOST], residual[RANKS][LAYERS][MOST];
    uint64_t    basis[RANKS][LAYERS];
} job;

/* Plans want something to gather: one direction along the shorter side, and little else. */
static float gathered(int rank, int k, int step, size_t i)
{
    bool   across = shapes[k][0] < shapes[k][1];
    size_t row = i / shapes[k][1], col = i % shapes[k][1], along = across ? row : col, v = across ? col : row;
    return ranks_value(8, v, step) * ranks_value(9, along, 0) + 0.02f * ranks_value(rank, i + (size_t)k, step);
}

static float value(const job *j, int rank, int k, int step, size_t i)
{
    if (strcmp(j->spec, "auto") == 0) return gathered(rank, k, step, i);
    if (j->poison && step == 4 && rank == 0 && i == 77) return NAN;
    return (1 + (float)(i % shapes[k][1] % 7)) * ranks_value(rank, i + (size_t)k, step);
}

static taut_status give(const job *j, taut_layer *l, int k, int step)
{
    float  v[MOST];
    size_t n = j->scale == 0 ? 0 : j->scale == 1 ? 1 : j->scale == 2 ? shapes[k][0] : elems(k);
    for (size_t i = 0; i < n; i++) v[i] = 0.5f + 0.01f * (float)((i * 7 + (size_t)step) % 90);
    TAUT_TRY(taut_layer_scale(l, v, n));
    for (size_t i = 0; i < elems(k); i++) v[i] = value(j, 5, k, step, i);
    return j->given && step % 3 == 0 ? taut_layer_basis(l, v, elems(k)) : TAUT_OK;
}

typedef struct seat { /* of one rank */
    taut_layer *l[LAYERS];
    void       *at[LAYERS];
    taut_place  place;
    bool        there;
} seat;

static taut_status start(const job *j, seat *s, int rank, int k, int step, float *x)
{
    for (size_t i = 0; i < elems(k); i++) x[i] = value(j, rank, k, step, i);
    if (!s->there) return taut_allreduce_start(s->l[k], x, TAUT_MEAN);
    mock_write(s->at[k], x, elems(k) * sizeof *x);
    return taut_allreduce_start_on(s->l[k], s->at[k], TAUT_MEAN, s->place.space, s->place.device, s->place.stream);
}

static taut_status steps(ranks_ctx *c, job *j, seat *s)
{
    for (int step = 0; step < STEPS; step++) {
        float(*x)[MOST] = j->result[c->rank][step];
        for (int k = 0; k < LAYERS; k++) TAUT_TRY(give(j, s->l[k], k, step));
        for (int k = 0; k < LAYERS; k++) TAUT_TRY(start(j, s, c->rank, k, step, x[k]));
        TAUT_TRY(taut_step_end(c->comm));
        for (int k = 0; k < LAYERS && s->there; k++) mock_read(x[k], s->at[k], elems(k) * sizeof **x);
    }
    for (int k = 0; k < LAYERS; k++) {
        const taut__operand *o = &s->l[k]->operand;
        j->basis[c->rank][k] = taut__axes_digest(o->axes);
        if (c->rank == 0) j->planned += taut__spec_basis(&o->wire) > 0;
        if (strcmp(j->spec, "auto") == 0) continue;
        NEED(c->size == 1 || (j->basis[c->rank][k] && o->residual));
        if (s->there) mock_read(j->residual[c->rank][k], o->feedback->r, elems(k) * sizeof(float));
        else memcpy(j->residual[c->rank][k], o->feedback->r, elems(k) * sizeof(float));
    }
    return TAUT_OK;
}

static taut_status body(ranks_ctx *c)
{
    job        *j = c->arg;
    seat        s = {.there = j->there >> c->rank & 1};
    char        name[8];
    taut_status status = TAUT_OK;
    if (s.there) s.place = mock_stream();
    for (int k = 0; k < LAYERS; k++) {
        snprintf(name, sizeof name, "w%d", k);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, shapes[k], &s.l[k]));
        if (s.there) TAUT_TRY(taut__memory_of(s.place.space)->alloc(s.place, elems(k) * sizeof(float), &s.at[k]));
    }
    if (j->nccl && s.there) status = taut__comm_open_nccl(c->comm, mock_place());
    if (status == TAUT_OK) status = steps(c, j, &s);
    for (int k = 0; k < LAYERS && s.there; k++) taut__memory_of(s.place.space)->release(s.place, s.at[k]);
    if (s.there) mock_stream_end(s.place);
    return status;
}

static taut_config config(const job *j)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.codec = j->spec;
    cfg.small_elems = 16;
    cfg.timeout_ms = 20000;
    cfg.progress = 2;
    if (strcmp(j->spec, "auto") == 0)
        cfg.objective = "bytes", cfg.replan_steps = 1, cfg.budget = "rel=0.3", cfg.link = "100mbit";
    return cfg;
}

static job *run(job of, int ranks, int there)
{
    job        *j = calloc(1, sizeof *j);
    taut_config cfg = config(&of);
    *j = of;
    j->there = there;
    ranks_ok(ranks, &cfg, body, j);
    return j;
}

static bool same_number(float x, float y) { return memcmp(&x, &y, sizeof x) == 0 || (isnan(x) && isnan(y)); }

static void compare(const job *a, const job *b, int ranks)
{
    for (int r = 0; r < ranks; r++)
        for (int k = 0; k < LAYERS; k++) {
            for (int step = 0; step < STEPS; step++)
                for (size_t i = 0; i < elems(k); i++)
                    ck_assert_msg(
                        same_number(a->result[r][step][k][i], b->result[r][step][k][i]),
                        "%s, scale %d, %d ranks, there %d: rank %d, layer %d, step %d, element %zu: %a and %a", a->spec,
                        a->scale, ranks, b->there, r, k, step, i, (double)a->result[r][step][k][i],
                        (double)b->result[r][step][k][i]);
            ck_assert_msg(memcmp(a->residual[r][k], b->residual[r][k], elems(k) * sizeof(float)) == 0,
                          "rank %d, layer %d: another residual", r, k);
            ck_assert_msg(a->basis[r][k] == b->basis[r][k], "rank %d, layer %d: another basis", r, k);
        }
}

static job *of_turn(int i)
{
    job *j = calloc(1, sizeof *j);
    j->spec = i % 2 ? "grid:rel=0.4,basis=20,code=rans" : "grid:rel=0.2,basis=8";
    j->scale = i % 4, j->given = i / 2 % 2, j->poison = i % 3 == 2;
    return j;
}

static void nothing_left(void)
{
    mock_counts left = mock_left();
    ck_assert_uint_eq(left.memory + left.streams + left.events + left.strays + left.pinned, 0);
}

START_TEST(as_on_the_host)
{
    int  ranks = 1 + _i % 3;
    job *how = of_turn(_i), *host, *device, *mixed;
    mock_open();
    host = run(*how, ranks, 0), device = run(*how, ranks, 7), mixed = run(*how, ranks, 2);
    compare(host, device, ranks);
    compare(host, mixed, ranks);
    nothing_left();
    mock_close();
    free(how), free(host), free(device), free(mixed);
}
END_TEST

START_TEST(by_nccl)
{
    int  ranks = 2 + _i % 2;
    job *how = of_turn(_i), *host, *device;
    mock_open(), nccl_double_open();
    host = run(*how, ranks, 0);
    how->nccl = true;
    device = run(*how, ranks, 7);
    compare(host, device, ranks);
    nothing_left();
    ck_assert_int_eq(nccl_double_left(), 0);
    nccl_double_close(), mock_close();
    free(how), free(host), free(device);
}
END_TEST

/* A plan sees what a basis would save there as here. */
START_TEST(planned)
{
    job *how = of_turn(0), *host, *device, *mixed;
    mock_open();
    how->spec = "auto", how->given = true;
    host = run(*how, 2, 0), device = run(*how, 2, 3);
    mixed = run(*how, 2, 2);
    ck_assert_int_gt(host->planned, 0);
    compare(host, device, 2);
    compare(host, mixed, 2);
    nothing_left();
    mock_close();
    free(how), free(host), free(device), free(mixed);
}
END_TEST

/* Numbers that the host does not have cannot be what a basis on the host is made in units of. */
static taut_status unit_elsewhere(ranks_ctx *c)
{
    static const float m[4800];
    taut_place         p = mock_stream();
    taut_layer        *l;
    void              *scale = NULL;
    TAUT_TRY(taut__memory_of(p.space)->alloc(p, elems(0) * sizeof(float), &scale));
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, shapes[0], &l));
    TAUT_TRY(taut_layer_scale_in_place(l, scale, p.space, p.device));
    NEED(taut_layer_basis(l, m, elems(0)) == TAUT_E_UNSUPPORTED &&
         strstr(taut_last_error(), "read in place on a device"));
    TAUT_TRY(taut_layer_basis(l, NULL, 0));
    TAUT_TRY(taut_layer_scale_in_place(l, NULL, p.space, p.device));
    TAUT_TRY(taut_layer_basis(l, m, elems(0)));
    taut__memory_of(p.space)->release(p, scale);
    mock_stream_end(p);
    return TAUT_OK;
}
START_TEST(what_is_refused)
{
    job        *j = of_turn(0);
    taut_config cfg = config(j);
    mock_open();
    ranks_ok(1, &cfg, unit_elsewhere, NULL);
    nothing_left();
    mock_close();
    free(j);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bases on a device");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, as_on_the_host, 0, 12);
    tcase_add_loop_test(t, by_nccl, 0, 6);
    tcase_add_test(t, planned);
    tcase_add_test(t, what_is_refused);
    return suite_run(s);
}
