/* test_memory.c : what a layer holds on a rank, as the formula of docs/scaling.md says. Ranks are threads of this process,
 * so that the counting allocator sees all of them. */
#include "tests/support/layer_memory.h"
#include "tests/support/ranks.h"
#include <check.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const algorithms[] = {"sra", "ring", "gather", "native"};
static const char *const codecs[] = {"none", "quant:bits=4", "grid:rel=0.03", "topk:density=0.01", "powersgd:rank=4", "randk:density=0.01"};
enum { ALGORITHMS = sizeof algorithms / sizeof *algorithms, CODECS = sizeof codecs / sizeof *codecs };
enum { FIXED = 12288 }; /* of a layer, its job and its codec's state, whatever its size: names, statistics, pieces of work */

static _Atomic int    lined_up;
static _Atomic size_t before, after;
static void line_up(int size)
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
        for (size_t k = 0; k < n; k++) x[k] = ranks_value(c->rank, k, i);
        TAUT_TRY(taut_allreduce(l[i], x, TAUT_SUM));
        TAUT_TRY(taut_step_end(c->comm));
        line_up(c->size);
        if (c->rank == 0) *(i ? &after : &before) = taut__alloc_bytes();
        line_up(c->size);
    }
    free(x);
    if (c->rank != 0) return TAUT_OK;
    layer_memory m = {&l[1]->wire, &l[1]->tensor, l[1]->job.via, c->size, l[1]->job.part.block, l[1]->feedback != NULL};
    size_t       held = (after - before) / (size_t)c->size, want = layer_memory_bytes(&m);
    size_t       state = l[1]->state ? 2 * layer_memory_factor(&m) * sizeof(float) : 0; /* powersgd keeps factors */
    if (l[1]->lent) want += taut__ceil_div(n, 64) * sizeof(uint32_t); /* MODE=debug */
    char         text[96];
    taut__spec_print(&l[1]->spec, text, sizeof text);
    if (o->print) printf("| %d | %zu | `%s` | `%s` | %.2f |\n", c->size, n, text, l[1]->job.via->name, (double)held / (4.0 * (double)n));
    if (held > want + state + FIXED || held + FIXED < want)
        return taut__fail(TAUT_E_RANGE, "%s by %s, %d ranks, %zu elements: %zu bytes, expected %zu", text, l[1]->job.via->name, c->size,
                          n, held, want);
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
                one       o = {rows, getenv("MEMORY_TABLE") != NULL};
                cfg.algorithm = algorithms[a];
                cfg.codec = codecs[k];
                ck_assert_int_eq(taut__spec_parse(codecs[k], &spec), TAUT_OK);
                const taut_algorithm *via = taut__algorithm_by_name(algorithms[a]);
                bool linear = a == 3 && taut__spec_codec(&spec)->linear;
                if (!linear && via->cannot && via->cannot(&spec)) continue;
                ranks_ok(1 << _i, &cfg, measure, &o);
                tried++;
            }
    ck_assert_int_ge(tried, 30);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, bytes_of_a_layer, 1, 3);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
