/* test_bases.c : allreduces in a basis. The same bytes on every rank, by every algorithm, in any order of ranks; nothing lost: what came out and
 * what is left is what was put in; errors as they are reported; fewer bits where there is something to gather; checkpoints; NaN; what is
 * refused. Ranks are threads. */
#include "compressors/basis/basis.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 5, MOST = 4800, STEPS = 13 };

typedef struct shape {
    int    ndim;
    size_t extent[4], rows, cols;
} shape;
/* tall, wide, a convolution, thinner than the basis, square */
static const shape shapes[LAYERS] = {{2, {80, 48}, 80, 48},
                                     {2, {36, 100}, 36, 100},
                                     {4, {16, 12, 5, 5}, 16, 300},
                                     {2, {1000, 3}, 1000, 3},
                                     {2, {64, 64}, 64, 64}};
static size_t      elems(int k) { return shapes[k].rows * shapes[k].cols; }

/* Of rank 3 for the most part, in directions along the shorter side that turn slowly, and the rank's own besides. */
static void fill(int rank, int layer, int step, float own, float *x)
{
    const shape *s = &shapes[layer];
    bool         across = s->rows < s->cols;
    size_t       n = across ? s->rows : s->cols, m = across ? s->cols : s->rows;
    float        b[3][300];
    for (size_t j = 0; j < n; j++)
        for (int k = 0; k < 3; k++)
            b[k][j] = ranks_noise(k + 3, j, 200) + 0.02f * (float)step * ranks_noise(k + 6, j, 200);
    for (size_t v = 0; v < m; v++) {
        float a[3] = {ranks_noise(0, v, 100 + step), ranks_noise(1, v, 100 + step) / 2,
                      ranks_noise(2, v, 100 + step) / 3};
        for (size_t j = 0; j < n; j++)
            x[across ? j * m + v : v * n + j] =
                0.01f * (a[0] * b[0][j] + a[1] * b[1][j] + a[2] * b[2][j] + own * ranks_noise(rank, v * n + j, step));
    }
}
static void fill_layer(int rank, int layer, int step, float *x) { fill(rank, layer, step, 0.05f, x); }

typedef struct job {
    const char *spec;
    int         scale; /* 0: none, 1: one, 2: per row, 3: per element */
    int         order; /* rank r takes the part of rank (r + order) % size */
    int         op, steps;
    bool        given;               /* the basis comes from what the program gives */
    float       result[STEPS][MOST]; /* rank 0's of the first layer but one: a wide one */
    double      bits;                /* per element, all matrices, of the last steps */
    int         looked;              /* errors reported */
    double      ratio;               /* sum over them of reported over true */
} job;

static taut_status open_layers(ranks_ctx *c, taut_layer **l)
{
    char name[8];
    for (int k = 0; k < LAYERS; k++) {
        snprintf(name, sizeof name, "w%d", k);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, shapes[k].ndim, shapes[k].extent, &l[k]));
    }
    return TAUT_OK;
}

static size_t scale_n(const job *j, int k)
{
    return j->scale == 0 ? 0 : j->scale == 1 ? 1 : j->scale == 2 ? shapes[k].rows : elems(k);
}

static taut_status give_scale(const job *j, taut_layer *l, int k, int step)
{
    float s[MOST];
    for (size_t i = 0; i < scale_n(j, k); i++) s[i] = 0.5f + 0.01f * (float)((i * 7 + (size_t)step) % 90);
    return taut_layer_scale(l, s, scale_n(j, k));
}

static taut_status give_basis(const job *j, taut_layer *l, int k, int step)
{
    float m[MOST];
    if (!j->given || step % 3) return TAUT_OK;
    fill_layer(0, k, step, m);
    return taut_layer_basis(l, m, elems(k));
}

static taut_status one_step(ranks_ctx *c, const job *j, taut_layer **l, float (*x)[MOST], int step)
{
    for (int k = 0; k < LAYERS; k++) {
        TAUT_TRY(give_scale(j, l[k], k, step));
        TAUT_TRY(give_basis(j, l[k], k, step));
        fill_layer((c->rank + j->order) % c->size, k, step, x[k]);
        TAUT_TRY(taut_allreduce_start(l[k], x[k], (taut_op)j->op));
    }
    return taut_step_end(c->comm);
}

/* ---- the same bytes ---- */

static taut_status same_rank(ranks_ctx *c)
{
    job        *j = c->arg;
    taut_layer *l[LAYERS];
    float       x[LAYERS][MOST];
    TAUT_TRY(open_layers(c, l));
    for (int step = 0; step < j->steps; step++) {
        TAUT_TRY(one_step(c, j, l, x, step));
        for (int k = 0; k < LAYERS; k++) TAUT_TRY(ranks_same(c->comm, x[k], elems(k) * sizeof(float)));
        if (c->rank == 0) memcpy(j->result[step], x[1], elems(1) * sizeof(float));
        for (int k = 0; k < LAYERS; k++) NEED(taut__axes_ready(l[k]->operand.axes) && l[k]->operand.residual);
    }
    return TAUT_OK;
}

static job *run_same(int size, const char *spec, const char *algorithm, int scale, int order, int op, bool given)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    job        *j = calloc(1, sizeof *j);
    *j = (job){.spec = spec, .scale = scale, .order = order, .op = op, .steps = STEPS, .given = given};
    cfg.codec = spec, cfg.algorithm = algorithm;
    cfg.progress = 2;
    cfg.small_elems = 16;
    ranks_ok(size, &cfg, same_rank, j);
    return j;
}

START_TEST(same_bytes_everywhere)
{
    static const char *const        ways[] = {"sra", "ring", "gather", "native", "auto"},
                             *const specs[] = {"grid:rel=0.2,basis=8", "grid:rel=0.4,basis=20,code=rans"};
    static const int                sizes[] = {2, 3, 4, 7};
    int                             size = sizes[_i % 4], scale = _i % 4;
    const char                     *spec = specs[_i / 4 % 2];
    job                            *want = run_same(size, spec, "sra", scale, 0, _i / 4 % 2, _i % 3 == 2);
    for (int w = 1 + _i % 2; w < 5; w += 2) {
        job *got = run_same(size, spec, ways[w], scale, w % size, _i / 4 % 2, _i % 3 == 2);
        for (int step = 0; step < STEPS; step++)
            ck_assert_msg(memcmp(want->result[step], got->result[step], elems(1) * sizeof(float)) == 0,
                          "%s, %s, %d ranks, step %d", spec, ways[w], size, step);
        free(got);
    }
    free(want);
}
END_TEST

/* ---- nothing is lost, errors are what is reported, and there are fewer bits ---- */

static taut_status honest_rank(ranks_ctx *c)
{
    job        *j = c->arg;
    taut_layer *l[LAYERS];
    float       x[LAYERS][MOST];
    double     *put = calloc(LAYERS * MOST, sizeof *put), *got = calloc(LAYERS * MOST, sizeof *got), bytes = 0, all = 0;
    TAUT_TRY(open_layers(c, l));
    for (int step = 0; step < j->steps; step++) {
        double true_error[LAYERS] = {0}, true_norm[LAYERS] = {0};
        for (int k = 0; k < LAYERS; k++)
            for (int r = 0; r < c->size; r++) {
                fill_layer(r, k, step, x[k]);
                for (size_t i = 0; i < elems(k); i++) put[k * MOST + i] += (double)x[k][i];
            }
        TAUT_TRY(one_step(c, j, l, x, step));
        for (int k = 0; k < LAYERS; k++)
            for (size_t i = 0; i < elems(k); i++) {
                double due = put[k * MOST + i] - got[k * MOST + i], d = (double)x[k][i] - due;
                got[k * MOST + i] += (double)x[k][i];
                true_error[k] += d * d, true_norm[k] += due * due;
            }
        for (int k = 0; k < LAYERS && step >= j->steps - 8; k++) {
            taut_layer_stats s = {.size = sizeof s};
            TAUT_TRY(taut_layer_get_stats(l[k], &s));
            bytes += s.bits_per_element * (double)elems(k), all += (double)elems(k);
            if (c->rank > 0) continue;
            j->looked++;
            j->ratio += s.rel_err2 / (true_error[k] / true_norm[k]);
        }
    }
    for (int k = 0; k < LAYERS; k++) {
        double left = 0, size = 0, off = 0;
        for (size_t i = 0; i < elems(k); i++) {
            double r[1] = {(double)l[k]->operand.feedback->r[i]};
            TAUT_TRY(taut__context_sum(&c->comm->ctx, r, 1));
            double d = put[k * MOST + i] - got[k * MOST + i] - r[0];
            off += d * d, left += r[0] * r[0], size += put[k * MOST + i] * put[k * MOST + i];
        }
        NEED(off <= 1e-10 * (size + left));
    }
    if (c->rank == 0) j->bits = bytes / all; /* the same on all */
    free(put), free(got);
    return TAUT_OK;
}

static double honest_bits(int size, const char *spec, int scale)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    job        *j = calloc(1, sizeof *j);
    *j = (job){.spec = spec, .scale = scale, .op = TAUT_SUM, .steps = STEPS};
    cfg.codec = spec, cfg.feedback = "on", cfg.small_elems = 16;
    ranks_ok(size, &cfg, honest_rank, j);
    double bits = j->bits;
    ck_assert_msg(j->ratio > 0.7 * j->looked && j->ratio < 1.4 * j->looked,
                  "%s, %d ranks, scale %d: %.3f bits, reported over true %.3f", spec, size, scale, bits,
                  j->ratio / j->looked);
    free(j);
    return bits;
}

START_TEST(nothing_is_lost)
{
    int    size = 2 + _i % 2;
    double without = honest_bits(size, "grid:rel=0.1,code=rans", 0),
           with = honest_bits(size, "grid:rel=0.1,code=rans,basis=4", 0);
    ck_assert_msg(with < 0.75 * without, "%g and %g bits per element", without, with);
    for (int scale = 1; scale < 4; scale++) honest_bits(size, "grid:rel=0.1,basis=16", scale);
}
END_TEST

/* ---- NaN and Inf arrive, and leave nothing behind ---- */

static taut_status poisoned_rank(ranks_ctx *c)
{
    static const float poison[] = {NAN, INFINITY, -INFINITY};
    job               *j = c->arg;
    taut_layer        *l[LAYERS];
    float              x[LAYERS][MOST];
    TAUT_TRY(open_layers(c, l));
    for (int step = 0; step < 12; step++) {
        bool bad = step % 4 == 2;
        for (int k = 0; k < LAYERS; k++) {
            TAUT_TRY(give_scale(j, l[k], k, step));
            fill_layer(c->rank, k, step, x[k]);
            if (bad && c->rank == step / 4 % c->size) x[k][77] = poison[step / 4];
            TAUT_TRY(taut_allreduce_start(l[k], x[k], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int k = 0; k < LAYERS; k++) {
            TAUT_TRY(ranks_same(c->comm, x[k], elems(k) * sizeof(float)));
            for (size_t i = 0; i < elems(k); i++) NEED(isfinite(x[k][i]) == !(bad && i == 77));
            NEED(!bad || !l[k]->operand.residual);
        }
    }
    return TAUT_OK;
}

START_TEST(poison)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    job         j = {.scale = _i % 4};
    cfg.codec = "grid:rel=0.2,basis=8,code=rans", cfg.algorithm = _i < 2 ? "auto" : "native", cfg.small_elems = 16;
    cfg.feedback = _i % 2 ? "auto" : "on";
    ranks_ok(2 + _i % 2, &cfg, poisoned_rank, &j);
}
END_TEST

/* ---- checkpoints ---- */

typedef struct kept {
    job      job;
    uint8_t *blob[4];
    size_t   len[4];
    float    next[3][LAYERS][MOST];
} kept;

static taut_status saving_rank(ranks_ctx *c)
{
    kept       *b = c->arg;
    taut_layer *l[LAYERS];
    float       x[LAYERS][MOST];
    TAUT_TRY(open_layers(c, l));
    for (int step = 0; step < 12; step++) {
        if (step == 9) {
            size_t n;
            TAUT_TRY(taut_state_save(c->comm, NULL, 0, &n));
            b->blob[c->rank] = malloc(n);
            TAUT_TRY(taut_state_save(c->comm, b->blob[c->rank], n, &b->len[c->rank]));
        }
        TAUT_TRY(one_step(c, &b->job, l, x, step));
        if (step >= 9 && c->rank == 0) memcpy(b->next[step - 9], x, sizeof x);
    }
    return TAUT_OK;
}

static taut_status loading_rank(ranks_ctx *c)
{
    kept       *b = c->arg;
    taut_layer *l[LAYERS];
    float       x[LAYERS][MOST];
    TAUT_TRY(open_layers(c, l));
    for (int turn = 0; turn < 2; turn++) { /* fresh, and after other steps */
        TAUT_TRY(taut_state_load(c->comm, b->blob[c->rank], b->len[c->rank]));
        for (int step = 9; step < 12; step++) {
            TAUT_TRY(one_step(c, &b->job, l, x, step));
            for (int k = 0; k < LAYERS; k++) {
                TAUT_TRY(ranks_same(c->comm, x[k], elems(k) * sizeof(float)));
                if (c->rank == 0) NEED(memcmp(x[k], b->next[step - 9][k], elems(k) * sizeof(float)) == 0);
            }
        }
    }
    return TAUT_OK;
}

static taut_status joining_rank(ranks_ctx *c) /* more ranks than blobs, fewer, and other directions: goes on, alike */
{
    kept       *b = c->arg;
    taut_layer *l[LAYERS];
    float       x[LAYERS][MOST];
    TAUT_TRY(open_layers(c, l));
    if (c->rank < 3) TAUT_TRY(taut_state_load(c->comm, b->blob[c->rank], b->len[c->rank]));
    else TAUT_TRY(taut_state_join(c->comm, b->blob[0], b->len[0]));
    if (c->size == 2 && c->rank == 0) TAUT_TRY(taut_state_load(c->comm, b->blob[2], b->len[2]));
    for (int step = 9; step < 20; step++) {
        TAUT_TRY(one_step(c, &b->job, l, x, step));
        for (int k = 0; k < LAYERS; k++) TAUT_TRY(ranks_same(c->comm, x[k], elems(k) * sizeof(float)));
    }
    return TAUT_OK;
}

START_TEST(checkpoints)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    kept       *b = calloc(1, sizeof *b);
    b->job = (job){.scale = _i % 4, .op = TAUT_MEAN, .given = _i % 2};
    cfg.codec = "grid:rel=0.2,basis=8", cfg.small_elems = 16;
    ranks_ok(3, &cfg, saving_rank, b);
    ranks_ok(3, &cfg, loading_rank, b);
    ranks_ok(2, &cfg, joining_rank, b);
    ranks_ok(4, &cfg, joining_rank, b);
    cfg.codec = "grid:rel=0.2,basis=12";
    ranks_ok(3, &cfg, joining_rank, b);
    for (int r = 0; r < 3; r++) free(b->blob[r]);
    free(b);
}
END_TEST

/* ---- what is refused ---- */

static taut_status differing_rank(ranks_ctx *c)
{
    int         kind = *(const int *)c->arg;
    job         j = {.op = TAUT_SUM};
    taut_layer *l[LAYERS];
    float       x[LAYERS][MOST], m[MOST];
    TAUT_TRY(open_layers(c, l));
    for (int step = 0; step < 3; step++) TAUT_TRY(one_step(c, &j, l, x, step));
    fill_layer(0, 1, 1, m);
    if (kind == 0 && c->rank == 1) m[5] *= 1.5f; /* other momenta */
    if (kind < 2 && !(kind == 1 && c->rank == 1))
        TAUT_TRY(taut_layer_basis(l[1], m, elems(1))); /* 1: given to some ranks only */
    for (int step = 3; step < 5; step++) TAUT_TRY(one_step(c, &j, l, x, step));
    return TAUT_OK;
}

START_TEST(ranks_that_differ)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    ranks_ctx   ctx[3];
    cfg.codec = "grid:rel=0.2,basis=8", cfg.small_elems = 16, cfg.timeout_ms = 20000;
    for (int kind = 0; kind < 2; kind++) {
        ranks_run(3, &cfg, differing_rank, &kind, ctx);
        for (int r = 0; r < 3; r++) {
            ck_assert_msg(ctx[r].status == TAUT_E_MISMATCH, "rank %d: %s", r, ctx[r].error);
            ck_assert_msg(strstr(ctx[r].error, "'w1'") && strstr(ctx[r].error, "basis ") &&
                              strstr(ctx[r].error, "rank 1"),
                          "%s", ctx[r].error);
        }
    }
}
END_TEST

static taut_status refusing_rank(ranks_ctx *c)
{
    taut_layer *w, *v, *h;
    float       m[64 * 32] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "w", TAUT_F32, 2, (size_t[]){64, 32}, &w));
    TAUT_TRY(taut_layer_register(c->comm, "v", TAUT_F32, 1, (size_t[]){2048}, &v));
    TAUT_TRY(taut_layer_register(c->comm, "h", TAUT_F16, 2, (size_t[]){64, 32}, &h)); /* without one */
    NEED(taut__spec_basis(&h->spec) == 0 && strcmp(taut__spec_codec(&h->spec)->name, "grid") == 0);
    NEED(taut_layer_basis(NULL, m, 1) == TAUT_E_INVALID && taut_layer_basis(w, NULL, 2048) == TAUT_E_INVALID);
    NEED(taut_layer_basis(w, m, 64) == TAUT_E_RANGE && strstr(taut_last_error(), "64 values") &&
         strstr(taut_last_error(), "2048"));
    m[7] = NAN;
    NEED(taut_layer_basis(w, m, 2048) == TAUT_E_RANGE && strstr(taut_last_error(), "value 7"));
    m[7] = INFINITY;
    NEED(taut_layer_basis(w, m, 2048) == TAUT_E_RANGE);
    m[7] = 3e38f;
    NEED(taut_layer_basis(w, m, 2048) == TAUT_E_RANGE && strstr(taut_last_error(), "overflow"));
    m[7] = 0;
    TAUT_TRY(taut_layer_basis(w, m, 2048)); /* a momentum of zero, before the first step */
    TAUT_TRY(taut_layer_basis(v, m, 2048)); /* has no basis: ignored */
    TAUT_TRY(taut_layer_codec(v, "grid:rel=0.2,basis=8"));
    for (int step = 0; step < 3; step++) {
        float x[64 * 32], y[2048];
        for (size_t i = 0; i < 2048; i++) x[i] = y[i] = ranks_value(c->rank, i, step);
        TAUT_TRY(taut_allreduce_start(w, x, TAUT_SUM));
        NEED(taut_layer_basis(w, m, 2048) == TAUT_E_STATE);
        TAUT_TRY(taut_allreduce_start(v, y, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        NEED(!v->operand.axes && v->operand.residual);
        for (size_t i = 0; i < 2048; i++) NEED(isfinite(x[i]));
        TAUT_TRY(taut_reduce_scatter(w, x, TAUT_SUM)); /* of a part: in its own coordinates */
        TAUT_TRY(taut_allgather(w, x));
        TAUT_TRY(ranks_same(c->comm, x, sizeof x));
    }
    return TAUT_OK;
}

START_TEST(refuses)
{
    static const struct {
        const char *spec, *word;
        taut_status status;
    } bad[] = {{"grid:basis=257", "256", TAUT_E_RANGE},
               {"grid:basis=-1", "basis=-1", TAUT_E_RANGE},
               {"grid:basis=1.5", "integer", TAUT_E_RANGE},
               {"grid:basis=x", "basis=x", TAUT_E_RANGE},
               {"quant:basis=4", "basis", TAUT_E_INVALID},
               {"stack:topk+grid:basis=4", "stage has no basis", TAUT_E_UNSUPPORTED}};
    size_t      side[] = {64, 32}, bytes;
    taut_config cfg = TAUT_CONFIG_INIT;
    taut_comm  *comm[1];
    taut_layer *l;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(taut_spec_check(bad[i].spec, 2, side) == bad[i].status, "%s: %s", bad[i].spec, taut_last_error());
        ck_assert_msg(strstr(taut_last_error(), bad[i].word), "%s: %s", bad[i].spec, taut_last_error());
    }
    ck_assert_int_eq(taut_encode_bound("grid:basis=4", 2, side, &bytes), TAUT_E_UNSUPPORTED);
    ck_assert(strstr(taut_last_error(), "communicator"));
    cfg.codec = "grid:basis=4", cfg.feedback = "momentum";
    ck_assert_int_eq(taut_comm_create_threads(1, &cfg, comm), TAUT_E_UNSUPPORTED);
    ck_assert(strstr(taut_last_error(), "momentum"));
    cfg.codec = "grid:basis=4",
    cfg.feedback = "auto"; /* a default: layers that it does not suit go without; only their own insists */
    ck_assert_int_eq(taut_comm_create_threads(1, &cfg, comm), TAUT_OK);
    ck_assert_int_eq(taut_layer_register(comm[0], "h", TAUT_BF16, 2, side, &l), TAUT_OK);
    ck_assert_int_eq(taut_layer_codec(l, "grid:basis=4"), TAUT_E_UNSUPPORTED);
    ck_assert(strstr(taut_last_error(), "16-bit"));
    taut_comm_destroy(comm[0]);
    cfg.codec = "grid:rel=0.2,basis=8";
    ranks_ok(2, &cfg, refusing_rank, NULL);
}
END_TEST

/* A layer that comes after some steps has a basis of its own from its first results, or from its momentum, and nothing of it is lost. */
static taut_status late_rank(ranks_ctx *c)
{
    enum { SIDE_A = 64, SIDE_B = 32, ALL = SIDE_A * SIDE_B };
    bool        given = *(const bool *)c->arg;
    taut_layer *l[2];
    float       x[2][ALL], m[ALL];
    double      put[ALL] = {0}, got[ALL] = {0};
    TAUT_TRY(taut_layer_register(c->comm, "early", TAUT_F32, 2, (size_t[]){SIDE_A, SIDE_B}, &l[0]));
    for (int step = 0; step < 12; step++) {
        int n = step < 4 ? 1 : 2;
        if (step == 4) TAUT_TRY(taut_layer_register(c->comm, "late", TAUT_F32, 2, (size_t[]){SIDE_B, SIDE_A}, &l[1]));
        for (size_t i = 0; i < ALL; i++) m[i] = ranks_value(9, i, step);
        if (n == 2 && given && step % 2 == 0) TAUT_TRY(taut_layer_basis(l[1], m, ALL));
        for (int k = 0; k < n; k++) {
            for (size_t i = 0; i < ALL; i++) x[k][i] = ranks_value(c->rank, i, step + 20 * k);
            TAUT_TRY(taut_allreduce_start(l[k], x[k], TAUT_SUM));
        }
        TAUT_TRY(taut_step_end(c->comm));
        for (int k = 0; k < n; k++) TAUT_TRY(ranks_same(c->comm, x[k], sizeof x[k]));
        for (size_t i = 0; n == 2 && i < ALL; i++)
            put[i] += ranks_sum(c->size, i, step + 20), got[i] += (double)x[1][i];
        if (n == 2) NEED(taut__axes_ready(l[1]->operand.axes) && l[1]->operand.residual);
    }
    for (size_t i = 0; i < ALL; i++) {
        double left = (double)l[1]->operand.feedback->r[i];
        TAUT_TRY(taut__context_sum(&c->comm->ctx, &left, 1));
        NEED(fabs(put[i] - got[i] - left) < 1e-4);
    }
    return TAUT_OK;
}

START_TEST(comes_late)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    bool        given = _i % 2;
    cfg.codec = "grid:rel=0.2,basis=8,code=rans", cfg.timeout_ms = 20000;
    ranks_ok(2 + _i, &cfg, late_rank, &given);
}
END_TEST

/* A payload in a basis is no payload elsewhere. */
START_TEST(payload_elsewhere)
{
    taut_spec         spec;
    taut_tensor       t = {.elems = 256, .rows = 16, .cols = 16};
    const taut_codec *codec;
    float             x[256], y[256];
    uint8_t           bytes[4096];
    size_t            len;
    ck_assert_int_eq(taut__spec_parse("grid:rel=0.1", &spec), TAUT_OK);
    codec = taut__spec_codec(&spec);
    for (size_t i = 0; i < 256; i++) x[i] = ranks_value(0, i, 0);
    for (int turned = 0; turned < 2; turned++) {
        taut_call c = {.spec = &spec, .tensor = &t, .n = 256, .turned = turned};
        ck_assert_int_eq(taut__op_encode(codec, &c, x, bytes, sizeof bytes, &len, NULL), TAUT_OK);
        ck_assert_uint_eq(taut__payload_version(codec, bytes), turned ? 3 : 1);
        ck_assert_int_eq(taut__op_decode(codec, &c, bytes, len, y), TAUT_OK);
        c.turned = !turned;
        ck_assert_int_eq(taut__op_decode(codec, &c, bytes, len, y), TAUT_E_MISMATCH);
        ck_assert_msg(strstr(taut_last_error(), "basis"), "%s", taut_last_error());
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bases");
    TCase *t = suite_case(s, "multi", 120);
    tcase_add_loop_test(t, same_bytes_everywhere, 0, 8);
    tcase_add_loop_test(t, nothing_is_lost, 0, 2);
    tcase_add_loop_test(t, poison, 0, 4);
    tcase_add_loop_test(t, checkpoints, 0, 4);
    tcase_add_test(t, ranks_that_differ);
    tcase_add_test(t, refuses);
    tcase_add_test(t, payload_elsewhere);
    t = suite_case(s, "late", 120);
    tcase_add_loop_test(t, comes_late, 0, 2);
    return suite_run(s);
}
