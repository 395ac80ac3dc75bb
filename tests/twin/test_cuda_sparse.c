/* The CUDA kernels of topk, randk and stack give the CPU's bytes and floats: densities, ties, values of every kind, slices of a tensor,
 * several layers in one launch, exact sums; and refuse what the CPU refuses. */
#include "compressors/codec.h"
#include "compressors/topk/topk_format.h"
#include "tests/support/codec_case.h"
#include "tests/support/cuda_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const taut__cuda *k;
static uint32_t          zero_flags;
static void              setup(void) { k = cuda_tables(); }

typedef struct sparse_case {
    codec_case c;
    float     *x, *err, *back, *got;
    uint8_t   *bytes;
    size_t     n;
    double     density;
} sparse_case;

static void open_case(sparse_case *g, const char *name, double density, size_t n, const char *more)
{
    char spec[96];
    memset(g, 0, sizeof *g);
    snprintf(spec, sizeof spec, "%s:density=%.17g%s", name, density, more);
    case_open(&g->c, spec, 1, n);
    g->n = n;
    g->density = g->c.spec.stage[0].value[0];
    g->x = new_floats(n), g->err = new_floats(n), g->back = new_floats(n), g->got = new_floats(n);
    g->bytes = malloc(g->c.cap);
}
static void close_case(sparse_case *g)
{
    free(g->x), free(g->err), free(g->back), free(g->got), free(g->bytes);
    case_close(&g->c);
}
static taut__cuda_job job_of(sparse_case *g, bool in_place)
{
    taut__cuda_job j = {.n = g->n,
                        .elems = g->n,
                        .seed = g->c.call.shared_seed,
                        .src = cuda_put(g->x, 4 * g->n, 0),
                        .dst = cuda_new(4 * g->n, 0),
                        .payload = cuda_new(g->c.cap, 0),
                        .len = cuda_new(8, 0),
                        .flags = cuda_put(&zero_flags, 4, 0)};
    j.err = in_place ? (float *)(uintptr_t)j.src : cuda_new(4 * g->n, 0);
    return j;
}
static uint32_t flags_of(const taut__cuda_job *j)
{
    uint32_t f;
    cuda_get(&f, j->flags, 4);
    return f;
}
static void same_payload(sparse_case *g, const taut__cuda_job *j, const char *what)
{
    uint64_t len;
    cuda_get(&len, j->len, 8);
    ck_assert_msg(len == g->c.len, "%s: n=%zu density=%g: %zu bytes, CPU %zu", what, g->n, g->density, (size_t)len,
                  g->c.len);
    cuda_get(g->bytes, j->payload, len);
    ck_assert_msg(cuda_same_payload(g->bytes, g->c.payload, len), "%s: n=%zu density=%g: other bytes", what, g->n,
                  g->density);
}
static void same_floats(sparse_case *g, const float *device, const float *want, const char *what)
{
    cuda_get(g->got, device, 4 * g->n);
    ck_assert_msg(cuda_same(g->got, want, g->n), "%s: n=%zu density=%g", what, g->n, g->density);
}

static void topk_encode(taut__cuda_batch *b, double density, bool exact, uint64_t *list, taut__cuda_stream s)
{
    *list = taut__cuda_list(&b->one, 1, density, exact || b->one.choice);
    b->work_bytes = k->topk->encode_work(b->units, *list, 1, !exact && !b->one.choice);
    b->work = cuda_new(b->work_bytes, 0);
    cuda_must(k->topk->encode(b, density, exact, *list, s), "topk encode");
}
static void topk_decode(taut__cuda_batch *b, int what, uint64_t list, taut__cuda_stream s)
{
    b->work_bytes = k->topk->decode_work(list, 1);
    b->work = cuda_new(b->work_bytes, 0);
    cuda_must(k->topk->decode(b, what, list, s), "topk decode");
}

/* What misleads a sample: all that is large in one place (MISLED: none in sight; MORE: more than there is room for); ties. Then what groups
 * that several blocks share meet: all in one part, nothing before the end, both ends, magnitudes of all sizes, ties everywhere. */
enum { MISLED = CUDA_KINDS, MORE, TIES, KINDS, DENSE = KINDS, LATE, ENDS, WIDE, MANY_TIES, ALL_KINDS };
static float spread_out(size_t n, size_t i, int kind)
{
    uint32_t r = taut__random32(taut__rng_of(n, (uint64_t)kind), (uint32_t)i);
    float    sign = r & 1 ? -1 : 1, unit = (float)(r >> 8) * 0x1p-24f;
    switch (kind) {
    case DENSE: return sign * (i >= n / 3 && i < n / 2 ? 1 + unit : 1e-6f * unit);
    case LATE: return i >= n - n / 50 ? sign * (1 + unit) : 0;
    case ENDS: return sign * (i < 700 || i >= n - 700 ? 1 + unit : 1e-9f * unit);
    case WIDE: return sign * ldexpf(1 + unit, (int)(r % 251) - 125);
    default: return sign * (r % 50 == 0 ? 3.0f : r % 10 == 0 ? 2.0f : 1.0f);
    }
}
static const char *fill(float *x, size_t n, int kind, double density)
{
    static const char *const names[] = {"large ones together",     "too many in sight",      "ties",
                                        "all in one part",         "nothing but at the end", "both ends",
                                        "magnitudes of all sizes", "ties everywhere"};
    if (kind < CUDA_KINDS) {
        cuda_fill(x, n, kind);
        return cuda_kind_name(kind);
    }
    fill_normal(x, n, kind == MISLED ? 0 : 1e-3f, n);
    for (size_t i = 0; i < n; i++) {
        if (kind == MISLED && i >= n / 3 && (double)(i - n / 3) < density * (double)n / 2) x[i] = 1 + (float)(i % 100);
        if (kind == MORE) x[i] = (i & 1 ? 1.0f : -1.0f) * (1 + (float)(i % 3) * 0x1p-20f);
        if (kind == TIES) x[i] = (float)((i * 7919) % 11) / 8;
        if (kind >= KINDS) x[i] = spread_out(n, i, kind);
    }
    return names[kind - CUDA_KINDS];
}

static void topk_both(size_t n, double density, int kind, bool in_place, uint64_t seed)
{
    sparse_case g;
    uint64_t    list;
    open_case(&g, "topk", density, n, "");
    const char *name = fill(g.x, n, kind, density);
    case_round_trip(&g.c, g.x, g.err, g.back);
    taut__cuda_stream s = cuda_begin(seed);
    taut__cuda_job    j = job_of(&g, in_place);
    if (!in_place && seed % 2) { /* x is src + residual, and err takes the residual's place: -0 + x, all the same */
        float *zeros = new_floats(n);
        for (size_t i = 0; i < n; i++) zeros[i] = -0.0f;
        j.residual = j.err;
        cuda_must(k->device->copy(j.err, zeros, 4 * n, s), "copy");
        cuda_must(k->device->wait(s), "wait");
        free(zeros);
    }
    taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    topk_encode(&b, g.density, false, &list, s);
    same_payload(&g, &j, name);
    same_floats(&g, j.err, g.err, "err");
    topk_decode(&b, 0, taut__cuda_list(&b.one, 1, 1, true), s);
    same_floats(&g, j.dst, g.back, "decode");
    topk_decode(&b, 1, taut__cuda_list(&b.one, 1, 1, true), s);
    ck_assert(taut__op_decode_add(g.c.codec, &g.c.call, g.c.payload, g.c.len, g.back) == TAUT_OK);
    same_floats(&g, j.dst, g.back, "decode add");
    ck_assert(flags_of(&j) == 0);
    cuda_end();
    close_case(&g);
}

START_TEST(topk_is_the_cpus)
{
    static const size_t sizes[] = {1, 7, 513, 4096, 4097, 20000};
    static const double densities[] = {0.01, 0.1, 0.5, 1};
    uint64_t            seed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < CUDA_KINDS; kind++, seed++)
            topk_both(sizes[i], densities[seed % 4], kind, seed % 3 == 0, seed);
}
END_TEST

/* Large tensors: candidates first, whatever the sample said of them. */
START_TEST(topk_from_candidates)
{
    static const size_t sizes[] = {16384, 40003};
    uint64_t            seed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < KINDS; kind++, seed++)
            topk_both(sizes[i], kind == MORE || seed % 2 ? 0.01 : 0.12, kind, seed % 3 == 0, seed);
}
END_TEST

/* Tensors that take several blocks' parts, with groups that begin in one of them and end in another. */
START_TEST(topk_across_parts)
{
    static const double densities[] = {0.004, 0.02, 0.12};
    uint64_t            seed = 40;
    for (int kind = KINDS; kind < ALL_KINDS; kind++, seed++)
        topk_both(kind == DENSE ? 140003 : 70001, kind == DENSE ? 0.12 : densities[seed % 3], kind, seed % 3 == 0,
                  seed);
    topk_both(100000, 0.001, 0, false, 1);
}
END_TEST

/* A threshold from outside, of the whole tensor, on slices of it; and all that is not +0. */
START_TEST(topk_slices_and_exact_sums)
{
    enum { N = 9000 };
    sparse_case g;
    uint64_t    list;
    open_case(&g, "topk", 0.02, N, "");
    for (int kind = 0; kind < CUDA_KINDS; kind++) {
        cuda_fill(g.x, N, kind);
        taut_calibration calibration;
        double           stats[1] = {N};
        ck_assert(taut__op_calibrate(g.c.codec, &g.c.call, stats, 1, g.x, &calibration) == TAUT_OK);
        taut__topk_choice choice = {(uint32_t)calibration.u[0], calibration.u[1]};
        for (size_t first = 0; first < N; first += 5000) {
            sparse_case part;
            size_t      n = N - first < 5000 ? N - first : 5000;
            open_case(&part, "topk", 0.02, n, "");
            memcpy(part.x, g.x + first, 4 * n);
            part.c.tensor.elems = N;
            part.c.call.calibration = &calibration, part.c.call.first = first, part.c.call.n = n;
            case_round_trip(&part.c, part.x, part.err, part.back);
            taut__cuda_stream s = cuda_begin((uint64_t)kind);
            taut__cuda_job    j = job_of(&part, false);
            j.first = first;
            j.choice = cuda_put(&choice, sizeof choice, 0);
            taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
            topk_encode(&b, part.density, false, &list, s);
            same_payload(&part, &j, "slice");
            same_floats(&part, j.err, part.err, "slice err");
            ck_assert(taut__op_encode_exact(part.c.codec, &part.c.call, part.back, part.c.payload, part.c.cap,
                                            &part.c.len) == TAUT_OK);
            j = job_of(&part, false);
            j.src = cuda_put(part.back, 4 * n, 0), j.err = NULL;
            b = taut__cuda_single(&j, TAUT__CUDA_TILE);
            topk_encode(&b, part.density, true, &list, s);
            same_payload(&part, &j, "exact");
            cuda_end();
            close_case(&part);
        }
    }
    close_case(&g);
}
END_TEST

/* Layers of n[i] elements in one launch, which a graph holds. */
static void topk_batch(const size_t *n, const int *kind, int count, double density, uint64_t seed)
{
    sparse_case       g[16];
    taut__cuda_job    jobs[16];
    void             *graph;
    taut__cuda_stream s = cuda_begin(seed);
    for (int i = 0; i < count; i++) {
        open_case(&g[i], "topk", density, n[i], "");
        fill(g[i].x, n[i], kind[i], density);
        case_round_trip(&g[i].c, g[i].x, g[i].err, g[i].back);
        jobs[i] = job_of(&g[i], i % 2);
    }
    taut__cuda_batch b = taut__cuda_single(&jobs[0], TAUT__CUDA_TILE);
    uint64_t         list = taut__cuda_list(jobs, (size_t)count, density, false);
    b.units = taut__cuda_number(jobs, (size_t)count, TAUT__CUDA_TILE);
    b.count = (uint32_t)count;
    b.jobs = cuda_put(jobs, (size_t)count * sizeof *jobs, 0);
    b.work_bytes = k->topk->encode_work(b.units, list, b.count, true);
    b.work = cuda_new(b.work_bytes, 0);
    cuda_must(k->device->wait(s), "wait");
    cuda_must(k->device->capture_begin(s), "capture");
    cuda_must(k->topk->encode(&b, density, false, list, s), "encode");
    cuda_must(k->device->capture_end(s, &graph), "capture");
    cuda_must(k->device->graph_launch(graph, s), "launch");
    for (int i = 0; i < count; i++) {
        same_payload(&g[i], &jobs[i], "batch");
        same_floats(&g[i], jobs[i].err, g[i].err, "batch err");
    }
    b.work_bytes = k->topk->decode_work(list, b.count);
    b.work = cuda_new(b.work_bytes, 0);
    cuda_must(k->topk->decode(&b, 0, list, s), "decode");
    for (int i = 0; i < count; i++) same_floats(&g[i], jobs[i].dst, g[i].back, "batch decode");
    k->device->graph_destroy(graph);
    cuda_end();
    for (int i = 0; i < count; i++) close_case(&g[i]);
}

START_TEST(topk_batch_in_a_graph)
{
    size_t n[9];
    int    kind[9];
    for (int i = 0; i < 9; i++) n[i] = (size_t)i * 917 + 1, kind[i] = i % CUDA_KINDS;
    topk_batch(n, kind, 9, 0.05, 6);
    /* small ones between large ones whose samples are good, whose samples mislead, and whose ties stay in part */
    static const size_t large[] = {30001, 5, 16384, 20000, 1, 40003, 4096, 50001};
    static const int    kinds[] = {0, 0, MISLED, MANY_TIES, 1, TIES, 2, DENSE};
    topk_batch(large, kinds, 8, 0.02, 7);
    topk_batch(large, kinds, 8, 0.12, 8);
}
END_TEST

START_TEST(topk_malformed)
{
    sparse_case g;
    uint32_t    refused = 0, taken = 0;
    open_case(&g, "topk", 0.3, 2500, "");
    cuda_fill(g.x, g.n, 0);
    case_round_trip(&g.c, g.x, NULL, g.back);
    taut__cuda_stream s = cuda_begin(2);
    taut__cuda_job    j = job_of(&g, false);
    taut__cuda_batch  b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    uint64_t          len = g.c.len, list = taut__cuda_list(&b.one, 1, 1, true);
    b.work_bytes = k->topk->decode_work(list, 1);
    b.work = cuda_new(b.work_bytes, 0);
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t from_end = round % 16, at = round < 24   ? round
                                             : round < 60 ? (uint32_t)len - 1 - from_end
                                                          : taut__random32(taut__rng_of(1, 0), round) % (uint32_t)len;
        memcpy(g.bytes, g.c.payload, len);
        g.bytes[at] ^= (uint8_t)(1u << round % 8);
        bool ok = taut__op_decode(g.c.codec, &g.c.call, g.bytes, len, g.back) == TAUT_OK;
        cuda_must(k->device->copy(j.payload, g.bytes, len, s), "copy");
        cuda_must(k->device->copy(j.len, &len, 8, s), "copy");
        cuda_must(k->device->fill(j.flags, 0, 4, s), "fill");
        cuda_must(k->topk->decode(&b, 0, list, s), "decode");
        ck_assert_msg((flags_of(&j) == 0) == ok, "byte %u, round %u: CPU %s", at, round,
                      ok ? "takes it" : "refuses it");
        refused += !ok, taken += ok;
        if (ok) same_floats(&g, j.dst, g.back, "changed payload");
    }
    ck_assert_msg(refused > 30 && taken > 30, "%u refused, %u taken", refused, taken);
    cuda_end();
    close_case(&g);
}
END_TEST

START_TEST(randk_is_the_cpus)
{
    static const size_t sizes[] = {1, 100, 4096, 5001, 13000};
    static const double densities[] = {0.01, 0.3, 1, 0.0001};
    uint64_t            seed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < CUDA_KINDS; kind++, seed++) {
            bool        scaled = seed % 2;
            sparse_case g;
            open_case(&g, "randk", densities[seed % 4], sizes[i], scaled ? ",scale=1" : "");
            cuda_fill(g.x, g.n, kind);
            case_round_trip(&g.c, g.x, g.err, g.back);
            taut__cuda_stream s = cuda_begin(seed);
            taut__cuda_job    j = job_of(&g, seed % 3 == 0);
            taut__cuda_batch  b = taut__cuda_single(&j, TAUT__CUDA_TILE);
            cuda_must(k->randk->encode(&b, g.density, scaled, false, s), "randk encode");
            same_payload(&g, &j, "randk");
            same_floats(&g, j.err, g.err, "randk err");
            cuda_must(k->randk->decode(&b, g.density, scaled, false, false, s), "randk decode");
            same_floats(&g, j.dst, g.back, "randk decode");
            cuda_must(k->randk->decode(&b, g.density, scaled, false, true, s), "randk decode add");
            ck_assert(taut__op_decode_add(g.c.codec, &g.c.call, g.c.payload, g.c.len, g.back) == TAUT_OK);
            same_floats(&g, j.dst, g.back, "randk decode add");
            cuda_end();
            close_case(&g);
        }
}
END_TEST

/* The linear rounds: values without a header, a mean multiplied by a factor. */
START_TEST(randk_linear)
{
    enum { N = 6000 };
    sparse_case g;
    open_case(&g, "randk", 0.05, N, "");
    cuda_fill(g.x, N, 6);
    const taut_linear_ops *l = g.c.codec->ops[TAUT_HOST]->linear;
    size_t                 m = g.c.codec->linear->factor_elems(&g.c.spec.stage[0], &g.c.tensor, 0);
    float                 *want = new_floats(m), *values = new_floats(m);
    ck_assert(taut__op_state_create(g.c.codec, &g.c.spec.stage[0], &g.c.tensor, 7, (taut_place){0}, &g.c.call.state) ==
              TAUT_OK);
    ck_assert(l->project(&g.c.call, 0, g.x, want) == TAUT_OK && l->absorb(&g.c.call, 0, want) == TAUT_OK);
    ck_assert(l->reconstruct(&g.c.call, 0.5f, g.back) == TAUT_OK);
    taut__cuda_stream s = cuda_begin(1);
    taut__cuda_job    j = job_of(&g, false);
    taut__cuda_batch  b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    cuda_must(k->randk->encode(&b, g.density, false, true, s), "project");
    cuda_get(values, j.payload, 4 * m);
    ck_assert(cuda_same(values, want, m));
    b.factor = 0.5f;
    cuda_must(k->randk->decode(&b, g.density, false, true, false, s), "reconstruct");
    same_floats(&g, j.dst, g.back, "reconstruct");
    cuda_end();
    free(want), free(values);
    close_case(&g);
}
END_TEST

/* stack:topk+quant: the second stage codes what the first left, with its own random numbers; put together and taken apart. */
START_TEST(stack_of_two)
{
    for (int kind = 0; kind < CUDA_KINDS; kind++) {
        enum { N = 3000 };
        codec_case   c;
        float       *x = new_floats(N), *err = new_floats(N), *back = new_floats(N), *got = new_floats(N);
        quant_params p = {.bits = 3, .norm = QUANT_MAXMIN, .stochastic = true, .bucket = 512};
        uint64_t     list, len;
        case_open(&c, "stack:topk:density=0.02+quant:bits=3", 1, N);
        cuda_fill(x, N, kind);
        case_round_trip(&c, x, err, back);
        taut__cuda_stream s = cuda_begin((uint64_t)kind);
        taut__cuda_job    first = {.n = N,
                                   .src = cuda_put(x, 4 * N, 0),
                                   .err = cuda_new(4 * N, 0),
                                   .dst = cuda_new(4 * N, 0),
                                   .payload = cuda_new(24 + 4 * N, 0),
                                   .len = cuda_new(8, 0),
                                   .flags = cuda_put(&zero_flags, 4, 0)};
        taut__cuda_job    second = first;
        second.src = second.err = first.err;
        second.seed = taut__seed(c.call.seed, 1);
        second.payload = cuda_new(quant_payload_bytes(&p, N), 0), second.len = cuda_new(8, 0);
        taut__cuda_batch b = taut__cuda_single(&first, TAUT__CUDA_TILE);
        topk_encode(&b, 0.02, false, &list, s);
        b = taut__cuda_single(&second, p.bucket);
        cuda_must(k->quant->encode(&b, &p, s), "quant");
        taut__cuda_stages st = {.count = 2,
                                .id = {6, 4},
                                .version = {1, 1},
                                .payload = {first.payload, second.payload},
                                .len = {first.len, second.len}};
        uint8_t          *whole = cuda_new(c.cap, 0), *bytes = malloc(c.cap);
        uint64_t         *whole_len = cuda_new(8, 0);
        cuda_must(k->stack->assemble(&st, whole, whole_len, s), "assemble");
        cuda_get(&len, whole_len, 8);
        ck_assert(len == c.len);
        cuda_get(bytes, whole, len);
        ck_assert(memcmp(bytes, c.payload, len) == 0);
        cuda_get(got, second.err, 4 * N);
        ck_assert(cuda_same(got, err, N));
        taut__cuda_job jobs[2] = {first, second}, *on_device;
        uint64_t      *lens = cuda_new(16, 0);
        jobs[0].len = lens, jobs[1].len = lens + 1;
        jobs[0].unit = jobs[1].unit = jobs[0].list = 0;
        on_device = cuda_put(jobs, sizeof jobs, 0);
        cuda_must(k->stack->open(&st, whole, whole_len, on_device, first.flags, s), "open");
        b = taut__cuda_single(&first, TAUT__CUDA_TILE);
        b.jobs = on_device;
        topk_decode(&b, 0, taut__cuda_list(&first, 1, 1, true), s);
        b = taut__cuda_single(&second, p.bucket);
        b.jobs = on_device + 1;
        cuda_must(k->quant->decode(&b, &p, true, s), "quant add");
        cuda_get(got, first.dst, 4 * N);
        ck_assert(cuda_same(got, back, N));
        ck_assert((flags_of(&first) & TAUT__CUDA_CORRUPT) == 0);
        cuda_must(k->device->fill(whole_len, 0, 8, s), "fill");
        cuda_must(k->stack->open(&st, whole, whole_len, on_device, first.flags, s), "open");
        ck_assert(flags_of(&first) & TAUT__CUDA_CORRUPT);
        cuda_end();
        case_close(&c);
        free(x), free(err), free(back), free(got), free(bytes);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_sparse");
    TCase *t = suite_case(s, "twin", 200);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, topk_is_the_cpus);
    tcase_add_test(t, topk_from_candidates);
    tcase_add_test(t, topk_across_parts);
    tcase_add_test(t, topk_slices_and_exact_sums);
    tcase_add_test(t, topk_batch_in_a_graph);
    tcase_add_test(t, topk_malformed);
    tcase_add_test(t, randk_is_the_cpus);
    tcase_add_test(t, randk_linear);
    tcase_add_test(t, stack_of_two);
    return suite_run(s);
}
