/* test_memory.c : what a layer holds on a rank, as the formula of docs/scaling.md says; that many layers hold a residual and a
 * slot each and borrow the rest of an arena that does not grow with their number; that they finish without borrowing. Ranks
 * are threads of this process, so that the counting allocator sees all of them. */
#include "tests/support/layer_memory.h"
#include "tests/support/ranks.h"
#include "../support/suite.h"
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const algorithms[] = {"sra", "ring", "gather", "native"};
static const char *const codecs[] = {
    "none", "quant:bits=4", "grid:rel=0.03", "topk:density=0.01", "powersgd:rank=4", "randk:density=0.01"};
enum { ALGORITHMS = sizeof algorithms / sizeof *algorithms, CODECS = sizeof codecs / sizeof *codecs };
enum {
    FIXED = 12288
}; /* of a layer, its job and its codec's state, whatever its size: names, statistics, pieces of work */

static _Atomic int    lined_up;
static _Atomic size_t before, after;
static void           line_up(int size)
{
    int mine = atomic_fetch_add(&lined_up, 1), until = (mine / size + 1) * size;
    while (atomic_load(&lined_up) < until) sched_yield();
}

typedef struct one {
    size_t rows;
    bool   print;
} one;

static taut_status measure(ranks_ctx *c)
{
    const one  *o = c->arg;
    taut_layer *l[2];
    size_t      shape[2] = {o->rows, 256}, n = o->rows * 256;
    float      *x = calloc(n, sizeof *x);
    for (int i = 0; i < 2; i++) { /* the first pays for what all layers share */
        TAUT_TRY(taut_layer_register(c->comm, i ? "b" : "a", TAUT_F32, 2, shape, &l[i]));
        ranks_fill(x, n, c->rank, i);
        TAUT_TRY(taut_allreduce(l[i], x, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        line_up(c->size);
        if (c->rank == 0) *(i ? &after : &before) = taut__alloc_bytes();
        line_up(c->size);
    }
    free(x);
    if (c->rank != 0) return TAUT_OK;
    layer_memory m = {&l[1]->operand.wire,        &l[1]->operand.tensor,         l[1]->reduction.via, c->size,
                      l[1]->reduction.part.block, l[1]->operand.feedback != NULL};
    layer_bytes  b = layer_memory_bytes(&m);
    size_t arena = taut__arena_bound(2 * b.borrows, b.borrows, TAUT_ARENA_BYTES) - b.borrows; /* grew by so much */
    size_t held = (after - before) / (size_t)c->size - arena, want = b.feedback_on + b.own;
    size_t state = l[1]->operand.state ? 2 * layer_memory_factor(&m) * sizeof(float) : 0; /* powersgd keeps factors */
    if (l[1]->lent_checksums) want += taut__ceil_div(n, 64) * sizeof(uint32_t);           /* MODE=debug */
    char text[96];
    taut__spec_print(&l[1]->spec, text, sizeof text);
    if (o->print)
        printf("| %d | %zu | `%s` | `%s` | %.2f | %.2f |\n", c->size, n, text, l[1]->reduction.via->name,
               (double)held / (4.0 * (double)n), (double)b.borrows / (4.0 * (double)n));
    if (held > want + state + FIXED || held + FIXED < want)
        return taut__fail(TAUT_E_RANGE, "%s by %s, %d ranks, %zu elements: %zu bytes, expected %zu", text,
                          l[1]->reduction.via->name, c->size, n, held, want);
    return TAUT_OK;
}

START_TEST(bytes_of_a_layer)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    int         tried = 0;
    for (int a = 0; a < ALGORITHMS; a++)
        for (int k = 0; k < CODECS; k++)
            for (size_t rows = 64; rows <= 4096; rows *= 8) { /* 16K, 128K, 1M elements */
                taut_spec spec;
                if (!suite_long() && rows == 4096 && (a + k) % ALGORITHMS != 0)
                    continue; /* the largest: each codec once */
                one o = {rows, getenv("MEMORY_TABLE") != NULL};
                cfg.algorithm = algorithms[a];
                cfg.codec = codecs[k];
                ck_assert_int_eq(taut__spec_parse(codecs[k], &spec), TAUT_OK);
                const taut__algorithm *via = taut__algorithm_by_name(algorithms[a]);
                bool                   linear = a == 3 && taut__spec_codec(&spec)->linear;
                if (!linear && via->cannot && via->cannot(&spec)) continue;
                ranks_ok(1 << _i, &cfg, measure, &o);
                tried++;
            }
    ck_assert_int_ge(tried, 30);
}
END_TEST

/* ---- many layers ---- */

enum { MANY = 64, MANY_ELEMS = 1 << 18 };
enum {
    WATCHED = 1 << 17
}; /* of a layer under codec=auto: histograms, measurements, samples of every rank, and the options of a plan, whatever its size */

static taut_status many(ranks_ctx *c)
{
    taut_layer *l[MANY];
    size_t      shape[2] = {MANY_ELEMS / 256, 256}, held = 0;
    char        name[16];
    float      *x = calloc((size_t)MANY * MANY_ELEMS, sizeof *x), *all = malloc(MANY_ELEMS * sizeof *all);
    line_up(c->size);
    if (c->rank == 0) before = taut__alloc_bytes();
    line_up(c->size);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "w%d", i);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, shape, &l[i]));
    }
    for (int step = 0; step < 3; step++) {
        for (size_t k = 0; k < MANY_ELEMS; k++) all[k] = (float)((k * 31 + (size_t)(c->rank + step)) % 97) - 40;
        for (int i = MANY - 1; i >= 0; i--) {
            memcpy(x + (size_t)i * MANY_ELEMS, all, MANY_ELEMS * sizeof *all);
            TAUT_TRY(taut_allreduce_start(l[i], x + (size_t)i * MANY_ELEMS, TAUT_MEAN));
        }
        TAUT_TRY(taut_step_end(c->comm));
    }
    line_up(c->size);
    if (c->rank == 0) after = taut__alloc_bytes();
    line_up(c->size);
    free(x), free(all);
    for (int i = 0; i < MANY; i++) {
        NEED(l[i]->reduction.slots.bytes <= 2 * MANY_ELEMS); /* half of the layer */
        held += (l[i]->operand.feedback ? MANY_ELEMS * sizeof(float) : 0) + l[i]->reduction.slots.bytes + FIXED;
        held += l[i]->reduction.agree ? 3 * TAUT_STATS_MAX * sizeof(double) : 0;
        held += l[i]->automatic ? WATCHED : 0;
        held += layer_memory_samples(
            &(layer_memory){.wire = &l[i]->operand.wire, .tensor = &l[i]->operand.tensor, .ranks = c->size});
        if (l[i]->lent_checksums) held += MANY_ELEMS / 64 * sizeof(uint32_t); /* MODE=debug */
    }
    held += 4096 * 40; /* before anything has been measured all samples travel as floats */
    held += TAUT_ARENA_BYTES + 2 * c->comm->ctx.lane[TAUT_HOST].scratch_n * sizeof(float);
    NEED(c->comm->ctx.arena.bytes > 0 && c->comm->ctx.arena.bytes <= TAUT_ARENA_BYTES && c->comm->ctx.arena.lent == 0);
    if (c->rank == 0 && (after - before) / (size_t)c->size > held)
        return taut__fail(TAUT_E_RANGE, "%zu bytes a rank, expected at most %zu", (after - before) / (size_t)c->size,
                          held);
    return TAUT_OK;
}

START_TEST(bytes_of_many_layers)
{
    static const char *const codec[] = {"grid:rel=0.0496", "quant:bits=4", "auto"};
    taut_config              cfg = TAUT_CONFIG_INIT;
    cfg.codec = codec[_i % 3];
    lined_up = 0;
    ranks_ok(_i < 3 ? 2 : 4, &cfg, many, NULL);
}
END_TEST

/* ---- hardly any slots to borrow, and every rank has its own order ---- */

enum { FEW = 10, FEW_ROWS = 700, FEW_ELEMS = FEW_ROWS * 256, STARVED_STEPS = 3 };
typedef struct starved {
    bool  short_of;                   /* ranks may borrow nothing, or little */
    float result[2][FEW * FEW_ELEMS]; /* of rank 0 in the last step, with slots and without */
} starved;

/* Rank r may have this number of borrowed requests under way. */
static void ration(ranks_ctx *c)
{
    taut__engine_hold(&c->comm->ctx.engine);
    c->comm->ctx.arena.requests = (size_t)c->rank * 20;
    taut__engine_release(&c->comm->ctx.engine);
}

static taut_status starve(ranks_ctx *c)
{
    starved    *s = c->arg;
    taut_layer *l[FEW];
    char        name[16];
    float      *x = calloc((size_t)FEW * FEW_ELEMS, sizeof *x);
    for (int i = 0; i < FEW; i++) {
        snprintf(name, sizeof name, "w%d", i);
        TAUT_TRY(taut_layer_register(c->comm, name, TAUT_F32, 2, (size_t[]){FEW_ROWS, 256}, &l[i]));
    }
    for (int step = 0; step < STARVED_STEPS; step++) {
        ranks_fill(x, (size_t)FEW * FEW_ELEMS, c->rank, step);
        if (step == 1) x[3 * FEW_ELEMS + 5] = NAN; /* goes uncompressed */
        for (int i = 0; i < FEW; i++) {
            int k = c->rank % 2 ? FEW - 1 - i : i;
            TAUT_TRY(taut_allreduce_start(l[k], x + (size_t)k * FEW_ELEMS, TAUT_SUM));
        }
        for (int i = 0; i < FEW; i++) TAUT_TRY(taut_wait(l[(i + 3 * c->rank) % FEW]));
        TAUT_TRY(taut_step_end(c->comm));
        if (step == 0 && s->short_of) ration(c);
    }
    NEED(c->comm->ctx.arena.lent == 0);
    TAUT_TRY(ranks_same(c->comm, x, (size_t)FEW * FEW_ELEMS * sizeof *x));
    if (c->rank == 0) memcpy(s->result[s->short_of], x, sizeof s->result[0]);
    free(x);
    return TAUT_OK;
}

START_TEST(without_borrowing)
{
    static const char *const codec[] = {"none", "quant:bits=4", "grid:rel=0.03", "topk:density=0.05",
                                        "powersgd:rank=4"};
    starved                 *s = malloc(sizeof *s);
    taut_config              cfg = TAUT_CONFIG_INIT;
    taut_spec                spec;
    cfg.timeout_ms = 10000;
    cfg.codec = codec[_i % 5];
    cfg.threads = _i % 2 ? 3 : 1;
    ck_assert_int_eq(taut__spec_parse(cfg.codec, &spec), TAUT_OK);
    for (int a = 0; a < ALGORITHMS; a++) {
        const taut__algorithm *via = taut__algorithm_by_name(algorithms[a]);
        if (via->cannot && via->cannot(&spec)) continue;
        cfg.algorithm = algorithms[a];
        for (int k = 0; k < 2; k++) {
            s->short_of = k;
            ranks_ok(_i < 5 ? 2 : 4, &cfg, starve, s);
        }
        ck_assert_msg(memcmp(s->result[0], s->result[1], sizeof s->result[0]) == 0, "%s by %s: other bits", cfg.codec,
                      cfg.algorithm);
    }
    free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, bytes_of_a_layer, 1, 3);
    for (int i = 0; i < 6; i++) /* each codec with one number of ranks; LONG=1: with both */
        if (suite_long() || i == 0 || i == 4 || i == 2) tcase_add_loop_test(t, bytes_of_many_layers, i, i + 1);
    for (int i = 0; i < 10; i++) /* likewise, and both numbers of threads */
        if (suite_long() || i == 0 || i == 6 || i == 7 || i == 3 || i == 9)
            tcase_add_loop_test(t, without_borrowing, i, i + 1);
    return suite_run(s);
}
