/* The CUDA kernels of grid give the CPU's bytes, codes and floats: all classes of blocks, scales of every kind,
 * several chunks, several layers in one launch; and refuse what the CPU refuses. */
#include "compressors/dispatch.h"
#include "compressors/grid/grid.h"
#include "compressors/grid/grid_model.h"
#include "tests/support/codec_case.h"
#include "tests/support/cuda_case.h"
#include "../support/suite.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOGETHER = 3 };

static const taut__cuda *k;
static uint32_t          zero_flags;
static void              setup(void) { k = cuda_tables(); }

typedef struct scaled {
    const float *scale;
    size_t       n; /* 0, 1, rows or elements */
    size_t       cols;
} scaled;

typedef struct grid_case {
    codec_case       c;
    taut_calibration calibration;
    float           *x, *err, *back, *got;
    uint8_t         *bytes;
    float            step;
    size_t           n;
} grid_case;

static void open_case(grid_case *g, const char *spec, size_t rows, size_t cols, const scaled *s)
{
    memset(g, 0, sizeof *g);
    case_open(&g->c, spec, rows, cols);
    g->n = rows * cols;
    if (s) g->c.tensor.scale = s->scale, g->c.tensor.scale_n = s->n;
    g->x = new_floats(g->n), g->err = new_floats(g->n), g->back = new_floats(g->n), g->got = new_floats(g->n);
    g->bytes = malloc(g->c.cap);
}
static void close_case(grid_case *g)
{
    free(g->x), free(g->err), free(g->back), free(g->got), free(g->bytes);
    case_close(&g->c);
}
static void use_step(grid_case *g, float step)
{
    g->step = step;
    g->calibration = (taut_calibration){0};
    g->calibration.f[GRID_CALIBRATED_STEP] = step;
    g->c.call.calibration = &g->calibration;
}

static taut__cuda_job job_of(grid_case *g, const float *src)
{
    const taut_tensor *t = &g->c.tensor;
    taut__cuda_job     j = {.n = g->n,
                            .src = cuda_put(src, 4 * g->n, 0),
                            .err = cuda_new(4 * g->n, 0),
                            .dst = cuda_new(4 * g->n, 0),
                            .payload = cuda_new(g->c.cap, 0),
                            .len = cuda_new(8, 0),
                            .flags = cuda_put(&zero_flags, 4, 0),
                            .step = cuda_put(&g->step, 4, 0)};
    if (t->scale_n) j.scale = cuda_put(t->scale, 4 * t->scale_n, 0);
    j.stride = t->scale_n <= 1 ? 0 : t->scale_n == t->elems ? 1 : t->cols;
    return j;
}
/* The tables of code rans on the device, where the case is of that code. */
static const void *tables_of(const grid_case *g)
{
    if (g->c.spec.stage[0].value[GRID_KEY_CODE] != GRID_RANS) return NULL;
    ck_assert(k->grid->table_bytes == sizeof *taut__grid_tables());
    return cuda_put(taut__grid_tables(), k->grid->table_bytes, 0);
}
static taut__cuda_batch batch_of(const taut__cuda_job *j)
{
    taut__cuda_batch b = taut__cuda_single(j, TAUT__CUDA_CHUNK);
    b.work_bytes = k->grid->encode_work(b.units, TOGETHER, true);
    b.work = cuda_new(b.work_bytes, 0);
    return b;
}
static uint32_t flags_of(const taut__cuda_job *j)
{
    uint32_t f;
    cuda_get(&f, j->flags, 4);
    return f;
}

static void same_payload(grid_case *g, const taut__cuda_job *j, const char *what)
{
    uint64_t len;
    cuda_get(&len, j->len, 8);
    ck_assert_msg(len == g->c.len, "%s: n=%zu step=%g: %zu bytes, CPU %zu", what, g->n, (double)g->step, (size_t)len,
                  g->c.len);
    cuda_get(g->bytes, j->payload, len);
    ck_assert_msg(cuda_same_payload(g->bytes, g->c.payload, len), "%s: n=%zu step=%g: other bytes", what, g->n,
                  (double)g->step);
}

/* Floats -> payload -> floats, and added. */
static void both_ways(grid_case *g, uint64_t seed)
{
    ck_assert(taut__op_encode(g->c.codec, &g->c.call, g->x, g->c.payload, g->c.cap, &g->c.len, g->err) == TAUT_OK);
    ck_assert(taut__op_decode(g->c.codec, &g->c.call, g->c.payload, g->c.len, g->back) == TAUT_OK);
    taut__cuda_stream s = cuda_begin(seed);
    taut__cuda_job    j = job_of(g, g->x);
    taut__cuda_batch  b = batch_of(&j);
    double            dead = g->c.spec.stage[0].value[GRID_KEY_DEAD];
    const void       *tables = tables_of(g);
    cuda_must(k->grid->encode(&b, dead, 0, tables, s), "encode");
    cuda_must(k->grid->decode(&b, false, tables, s), "decode");
    same_payload(g, &j, "encode");
    cuda_get(g->got, j.err, 4 * g->n);
    ck_assert(cuda_same(g->got, g->err, g->n));
    cuda_get(g->got, j.dst, 4 * g->n);
    ck_assert(cuda_same(g->got, g->back, g->n));
    cuda_must(k->grid->decode(&b, true, tables, s), "decode add");
    cuda_get(g->got, j.dst, 4 * g->n);
    ck_assert(taut__op_decode_add(g->c.codec, &g->c.call, g->c.payload, g->c.len, g->back) == TAUT_OK);
    ck_assert(cuda_same(g->got, g->back, g->n));
    ck_assert(flags_of(&j) == 0);
    cuda_end();
}

/* Codes: quantize + pack in one read and apart, unpacked twice, dequantized. */
static void codes_too(grid_case *g, uint64_t seed)
{
    int32_t                *q = calloc(g->n, sizeof *q), *sum = calloc(g->n, sizeof *sum), *got = malloc(4 * g->n);
    const taut_integer_ops *i = g->c.codec->ops[TAUT_HOST]->integer;
    ck_assert(i->quantize_pack(&g->c.call, g->x, q, g->err, 1 << 20, g->c.payload, g->c.cap, &g->c.len) == TAUT_OK);
    taut__cuda_stream s = cuda_begin(seed);
    taut__cuda_job    j = job_of(g, g->x);
    double            dead = g->c.spec.stage[0].value[GRID_KEY_DEAD];
    const void       *tables = tables_of(g);
    j.codes = cuda_new(4 * g->n, 0);
    taut__cuda_batch b = batch_of(&j);
    cuda_must(k->grid->encode(&b, dead, 1 << 20, tables, s), "quantize_pack");
    cuda_get(got, j.codes, 4 * g->n);
    ck_assert(memcmp(got, q, 4 * g->n) == 0);
    cuda_get(g->got, j.err, 4 * g->n);
    ck_assert(cuda_same(g->got, g->err, g->n));
    same_payload(g, &j, "quantize_pack");
    cuda_must(k->device->fill(j.codes, 0xee, 4 * g->n, s), "fill");
    cuda_must(k->grid->quantize(&b, dead, 1 << 20, s), "quantize");
    cuda_get(got, j.codes, 4 * g->n);
    ck_assert(memcmp(got, q, 4 * g->n) == 0);
    cuda_must(k->device->fill(j.payload, 0xee, g->c.cap, s), "fill");
    cuda_must(k->grid->pack(&b, dead, tables, s), "pack");
    same_payload(g, &j, "pack");
    cuda_must(k->grid->unpack_add(&b, tables, s), "unpack_add");       /* 2 q */
    cuda_must(k->grid->unpack_values(&b, tables, s), "unpack_values"); /* 3 q */
    for (int round = 0; round < 2; round++) ck_assert(i->unpack_add(&g->c.call, g->c.payload, g->c.len, q) == TAUT_OK);
    for (size_t e = 0; e < g->n; e++) sum[e] = q[e];
    cuda_get(got, j.codes, 4 * g->n);
    ck_assert(memcmp(got, sum, 4 * g->n) == 0);
    ck_assert(i->dequantize(&g->c.call, sum, 1, g->back) == TAUT_OK);
    cuda_get(g->got, j.dst, 4 * g->n);
    ck_assert(cuda_same(g->got, g->back, g->n));
    ck_assert(i->dequantize(&g->c.call, sum, 0.25f, g->back) == TAUT_OK);
    b.factor = 0.25f;
    cuda_must(k->grid->dequantize(&b, s), "dequantize");
    cuda_get(g->got, j.dst, 4 * g->n);
    ck_assert(cuda_same(g->got, g->back, g->n));
    ck_assert(flags_of(&j) == 0);
    cuda_end();
    free(q), free(sum), free(got);
}

START_TEST(steps_and_sizes)
{
    static const size_t sizes[] = {1, 63, 64, 65, 1000, 2049, 5000, 9000, 70000};
    static const float  steps[] = {1e-3f, 1e-4f, 3e-6f, 1e-2f, 1e-9f, 2e-3f};
    uint64_t            seed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t e = 0; e < sizeof steps / sizeof *steps; e++) {
            if (sizes[i] > 10000 && e > 1) continue;
            grid_case                g;
            static const char *const specs[] = {"grid", "grid:dead=0.5", "grid:code=rans", "grid:code=rans,dead=0.8"};
            open_case(&g, specs[(e + i) % 2 + 2 * (size_t)_i], 1, sizes[i], NULL);
            cuda_fill(g.x, g.n, e == 1 ? 6 : e == 5 ? 8 : 0);
            use_step(&g, steps[e]);
            both_ways(&g, seed);
            if (e != 4) codes_too(&g, seed + 1);
            close_case(&g);
            seed++;
        }
}
END_TEST

START_TEST(values_of_every_kind)
{
    for (int kind = 0; kind < CUDA_KINDS; kind++) {
        grid_case g;
        open_case(&g, _i ? "grid:code=rans" : "grid", 1, _i == 2 ? 9001 : 3001, NULL);
        cuda_fill(g.x, g.n, kind);
        use_step(&g, kind == 2 ? FLT_MIN : kind == 5 ? 1e36f : 1e-3f);
        both_ways(&g, (uint64_t)kind);
        close_case(&g);
    }
}
END_TEST

START_TEST(scales)
{
    enum { ROWS = 30, COLS = 77, N = ROWS * COLS };
    float *scale = new_floats(N);
    for (size_t i = 0; i < N; i++) scale[i] = 0.25f + (float)(i % 13) * 0.125f;
    size_t counts[] = {1, ROWS, N};
    for (int i = 0; i < 3; i++) {
        scaled    s = {scale, counts[i], COLS};
        grid_case g;
        open_case(&g, _i ? "grid:code=rans" : "grid", ROWS, COLS, &s);
        cuda_fill(g.x, g.n, 6);
        use_step(&g, 5e-4f);
        both_ways(&g, (uint64_t)i);
        codes_too(&g, (uint64_t)i + 7);
        close_case(&g);
    }
    free(scale);
}
END_TEST

/* Layers of all sizes in one launch, gradient and residual added, recorded in a graph. */
START_TEST(batch_with_feedback_in_a_graph)
{
    enum { JOBS = 12 };
    taut__cuda_job    jobs[JOBS];
    grid_case         g[JOBS];
    void             *graph;
    taut__cuda_stream s = cuda_begin(3);
    for (int i = 0; i < JOBS; i++) {
        open_case(&g[i], "grid", 1, (size_t)i * 331 + 1 + (i == 5 ? 66000 : 0), NULL);
        cuda_fill(g[i].x, g[i].n, i % CUDA_KINDS);
        cuda_fill(g[i].back, g[i].n, 0);
        use_step(&g[i], 2e-3f);
        jobs[i] = job_of(&g[i], g[i].x);
        jobs[i].residual = jobs[i].err = cuda_put(g[i].back, 4 * g[i].n, 0);
    }
    taut__cuda_batch b = batch_of(&jobs[0]);
    b.units = taut__cuda_number(jobs, JOBS, TAUT__CUDA_CHUNK);
    b.count = JOBS;
    b.jobs = cuda_put(jobs, sizeof jobs, 0);
    b.work_bytes = k->grid->encode_work(b.units, TOGETHER, true);
    b.work = cuda_new(b.work_bytes, 0);
    cuda_must(k->device->wait(s), "wait");
    cuda_must(k->device->capture_begin(s), "capture");
    cuda_must(k->grid->encode(&b, 0.65, 0, NULL, s), "encode");
    cuda_must(k->device->capture_end(s, &graph), "capture");
    cuda_must(k->device->graph_launch(graph, s), "launch");
    for (int i = 0; i < JOBS; i++) {
        for (size_t e = 0; e < g[i].n; e++) g[i].x[e] = g[i].back[e] + g[i].x[e];
        ck_assert(taut__op_encode(g[i].c.codec, &g[i].c.call, g[i].x, g[i].c.payload, g[i].c.cap, &g[i].c.len,
                                  g[i].err) == TAUT_OK);
        same_payload(&g[i], &jobs[i], "batch");
        cuda_get(g[i].got, jobs[i].err, 4 * g[i].n);
        ck_assert(cuda_same(g[i].got, g[i].err, g[i].n));
    }
    k->device->graph_destroy(graph);
    cuda_end();
    for (int i = 0; i < JOBS; i++) close_case(&g[i]);
}
END_TEST

/* Long chunks of which few blocks hold anything, or only small sums: in code rans without lanes, or with a tail that is long; in code
 * packed with long lists of runs. */
START_TEST(sparse_chunks)
{
    static const struct {
        size_t every, until;
        float  times;
    } row[] = {{4111, 130000, 40}, {700, 140000, 1}, {90, 140000, 3}, {61, 8000, 40}};
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        grid_case g;
        open_case(&g, _i ? "grid:code=rans" : "grid", 1, 140000, NULL);
        cuda_fill(g.x, g.n, 0);
        for (size_t i = 0; i < g.n; i++) g.x[i] = i % row[r].every == 5 && i < row[r].until ? g.x[i] * row[r].times : 0;
        use_step(&g, 1e-3f);
        both_ways(&g, 3);
        codes_too(&g, 4);
        close_case(&g);
    }
}
END_TEST

/* The numbers, over slices and scales and a tensor that is sampled, and the errors of four steps. */
START_TEST(statistics)
{
    enum { COLS = 77 };
    size_t rows[] = {1, 30, 900, 7000}; /* the last: above 2^18 elements */
    for (int i = 0; i < 4; i++)
        for (int kind = i == 3 ? 0 : 2; kind < (i == 3 ? 1 : CUDA_KINDS); kind++) {
            size_t n = rows[i] * COLS;
            float *scale = new_floats(rows[i]);
            for (size_t r = 0; r < rows[i]; r++) scale[r] = 0.25f + (float)(r % 13) * 0.125f;
            scaled    sc = {scale, kind % 3 == 0 ? 0 : kind % 3 == 1 ? 1 : rows[i], COLS};
            grid_case g;
            open_case(&g, "grid", rows[i], COLS, sc.n ? &sc : NULL);
            cuda_fill(g.x, n, kind);
            use_step(&g, 1);
            double want[GRID_STATS] = {0}, got[GRID_STATS], start[GRID_STATS] = {0};
            ck_assert(taut__op_collect_stats(g.c.codec, &g.c.call, g.x, want) == TAUT_OK);
            taut__cuda_stream s = cuda_begin((uint64_t)(i + kind));
            taut__cuda_job    j = job_of(&g, g.x);
            j.elems = n;
            j.stats = cuda_put(start, sizeof start, 0);
            taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_CHUNK);
            b.work_bytes = k->stats->work(b.units, 1);
            b.work = cuda_new(b.work_bytes, 0);
            cuda_must(k->stats->collect(&b, false, s), "statistics");
            cuda_get(got, j.stats, sizeof got);
            for (int q = 0; q < GRID_STATS; q++)
                ck_assert_msg(got[q] == want[q], "n=%zu %s: number %d is %a, CPU %a", n, cuda_kind_name(kind), q,
                              got[q], want[q]);
            ck_assert(flags_of(&j) == (want[GRID_STAT_BAD] > 0 ? TAUT__CUDA_NOT_FINITE : 0u));
            if (want[GRID_STAT_BAD] == 0) {
                static const float steps[GRID_STEPS] = {1e-3f, 1.1e-3f, 4e-4f, 0.5f};
                double             e[GRID_STEPS] = {0};
                for (size_t at = 0; at < n; at += GRID_CHUNK) {
                    grid_unit u[GRID_STEPS];
                    for (int q = 0; q < GRID_STEPS; q++) u[q] = taut__grid_unit(&g.c.call, at, steps[q], 1, 0.65);
                    taut__simd_at(0)->grid->errors(u, g.x + at, n - at < GRID_CHUNK ? n - at : GRID_CHUNK, e);
                }
                cuda_must(k->device->fill(j.stats, 0, sizeof e, s), "fill");
                cuda_must(k->stats->errors(&b, steps, 0.65, s), "errors");
                cuda_get(got, j.stats, sizeof e);
                for (int q = 0; q < GRID_STEPS; q++)
                    ck_assert_msg(got[q] == e[q] || (isnan(got[q]) && isnan(e[q])), "n=%zu %s: step %d: %a, CPU %a", n,
                                  cuda_kind_name(kind), q, got[q], e[q]);
            }
            cuda_end();
            close_case(&g);
            free(scale);
        }
}
END_TEST

START_TEST(raw_and_range)
{
    grid_case g;
    open_case(&g, "grid", 1, 1500, NULL);
    cuda_fill(g.x, g.n, 3);
    use_step(&g, 1e-3f);
    g.calibration.raw = true;
    ck_assert(taut__op_encode(g.c.codec, &g.c.call, g.x, g.c.payload, g.c.cap, &g.c.len, g.err) == TAUT_OK);
    taut__cuda_stream s = cuda_begin(1);
    taut__cuda_job    j = job_of(&g, g.x);
    taut__cuda_batch  b = batch_of(&j);
    cuda_must(k->grid->raw(&b, 0.65, s), "raw");
    same_payload(&g, &j, "raw");
    cuda_must(k->grid->decode(&b, false, NULL, s), "decode");
    cuda_get(g.got, j.dst, 4 * g.n);
    ck_assert(cuda_same(g.got, g.x, g.n) && flags_of(&j) == 0);
    b.one.codes = cuda_new(4 * g.n, 0);
    cuda_must(k->grid->unpack_add(&b, NULL, s), "unpack");
    ck_assert(flags_of(&j) == TAUT__CUDA_CORRUPT);
    b.one.flags = j.flags = cuda_put(&zero_flags, 4, 0);
    cuda_must(k->grid->encode(&b, 0.65, 1 << 20, NULL, s), "NaN has no code");
    ck_assert(flags_of(&j) == TAUT__CUDA_RANGE);
    b.work_bytes = 100;
    ck_assert(k->grid->encode(&b, 0.65, 0, NULL, s) == TAUT_E_CAPACITY);
    cuda_end();
    close_case(&g);
}
END_TEST

/* A payload with bytes changed is refused where the CPU refuses it, and decodes to the same where not. */
START_TEST(malformed_payloads)
{
    grid_case g;
    uint32_t  refused = 0, taken = 0;
    open_case(&g, _i % 3 ? "grid:code=rans" : "grid", 1, _i >= 2 ? 9000 : 700, NULL);
    cuda_fill(g.x, g.n, 6);
    for (size_t e = 0; _i == 3 && e < g.n; e++) /* runs of all lengths in the list of classes */
        if (e / GRID_BLOCK % 31 > 2 || e / GRID_BLOCK % 7 == 2) g.x[e] = 0;
    use_step(&g, 1e-3f);
    ck_assert(taut__op_encode(g.c.codec, &g.c.call, g.x, g.c.payload, g.c.cap, &g.c.len, NULL) == TAUT_OK);
    taut__cuda_stream s = cuda_begin(2);
    taut__cuda_job    j = job_of(&g, g.x);
    uint64_t          len = g.c.len;
    const void       *tables = tables_of(&g);
    for (uint32_t round = 0; round < 400; round++) {
        uint32_t at =
            round < 200 && round < g.c.len ? round : taut__random32(taut__rng_of(1, 0), round) % (uint32_t)g.c.len;
        uint8_t change = (uint8_t)(1u << round % 8 | (round % 5 == 0 ? 0x0f : 0));
        if (at >= 4 && at < 8) continue; /* the step: the CPU takes the payload's, the kernel the job's */
        memcpy(g.bytes, g.c.payload, g.c.len);
        g.bytes[at] ^= change;
        bool ok = taut__op_decode(g.c.codec, &g.c.call, g.bytes, g.c.len, g.back) == TAUT_OK;
        cuda_must(k->device->copy(j.payload, g.bytes, g.c.len, s), "copy");
        cuda_must(k->device->copy(j.len, &len, 8, s), "copy");
        cuda_must(k->device->fill(j.flags, 0, 4, s), "fill");
        taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_CHUNK);
        cuda_must(k->grid->decode(&b, false, tables, s), "decode");
        ck_assert_msg((flags_of(&j) == 0) == ok, "byte %u changed by %02x: CPU %s", at, change,
                      ok ? "takes it" : "refuses it");
        refused += !ok, taken += ok;
        if (!ok) continue;
        cuda_get(g.got, j.dst, 4 * g.n);
        ck_assert(cuda_same(g.got, g.back, g.n));
    }
    ck_assert_msg(refused > 20 && (taken > 20 || _i % 3), "%u refused, %u taken", refused, taken);
    cuda_end();
    close_case(&g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_grid");
    TCase *t = suite_case(s, "twin", 200);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_loop_test(t, steps_and_sizes, 0, 2);
    tcase_add_loop_test(t, values_of_every_kind, 0, 3);
    tcase_add_loop_test(t, scales, 0, 2);
    tcase_add_test(t, batch_with_feedback_in_a_graph);
    tcase_add_test(t, raw_and_range);
    tcase_add_test(t, statistics);
    tcase_add_loop_test(t, sparse_chunks, 0, 2);
    tcase_add_loop_test(t, malformed_payloads, 0, 4);
    return suite_run(s);
}
