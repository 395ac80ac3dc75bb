/* The CUDA kernels of the casts, of feedback's input and of quant give the CPU's bytes and floats: under several schedules, for
 * every width, norm and rounding, lengths around the tiles, addresses that are not aligned, and values of every kind. */
#include "compressors/codec.h"
#include "compressors/dispatch.h"
#include "compressors/quant/quant_rotate.h"
#include "compressors/vec/vec.h"
#include "tests/support/codec_case.h"
#include "tests/support/cuda_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 3 };

static const taut__cuda *k;
static uint32_t          zero_flags;
static void              setup(void) { k = cuda_tables(); }

/* A job over device copies of x (and r), with room for a payload of cap bytes. */
static taut__cuda_job job_of(const float *x, const float *r, size_t n, size_t cap, size_t offset)
{
    taut__cuda_job j = {.n = n,
                        .seed = 77,
                        .src = cuda_put(x, 4 * n, offset),
                        .err = cuda_new(4 * n, offset),
                        .dst = cuda_new(4 * n, offset),
                        .payload = cuda_new(cap, 0),
                        .len = cuda_new(8, 0),
                        .flags = cuda_put(&zero_flags, 4, 0)};
    if (r) j.residual = cuda_put(r, 4 * n, offset);
    return j;
}

static uint32_t flags_of(const taut__cuda_job *j)
{
    uint32_t f;
    cuda_get(&f, j->flags, 4);
    return f;
}

/* ---- casts and plain passes ---- */

static void casts(size_t n, int kind, size_t offset, taut_dtype to, uint64_t seed)
{
    static const char *const names[] = {"none", "fp16", "bf16"};
    codec_case               c;
    float                   *x = new_floats(n), *err = new_floats(n), *back = new_floats(n), *got = new_floats(n);
    uint8_t                 *bytes = malloc(4 * n + 8);
    uint64_t                 len;
    cuda_fill(x, n, kind);
    char spec[32];
    snprintf(spec, sizeof spec, "%s%s", names[to], to && seed % 2 ? ":overflow=inf" : "");
    case_open(&c, spec, 1, n);
    case_round_trip(&c, x, err, back);
    taut__cuda_stream s = cuda_begin(seed);
    taut__cuda_job    j = job_of(x, NULL, n, c.cap, offset);
    taut__cuda_batch  b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    cuda_must(k->vec->encode(&b, to, seed % 2 == 0, s), "encode");
    cuda_must(k->vec->decode(&b, to, false, s), "decode");
    cuda_get(&len, j.len, 8);
    cuda_get(bytes, j.payload, c.len);
    ck_assert(len == c.len && memcmp(bytes, c.payload, len) == 0);
    cuda_get(got, j.err, 4 * n);
    ck_assert(cuda_same(got, err, n));
    cuda_get(got, j.dst, 4 * n);
    ck_assert(cuda_same(got, back, n));
    cuda_must(k->vec->decode(&b, to, true, s), "decode add"); /* dst = 2 values */
    cuda_get(got, j.dst, 4 * n);
    ck_assert(taut__op_decode_add(c.codec, &c.call, c.payload, c.len, back) == TAUT_OK);
    ck_assert(cuda_same(got, back, n));
    ck_assert(flags_of(&j) == 0);
    cuda_end();
    case_close(&c);
    free(x), free(err), free(back), free(got), free(bytes);
}

START_TEST(casts_are_the_cpus)
{
    static const size_t sizes[] = {1, 3, 4, 5, 1023, 4096, 4099, 9001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < CUDA_KINDS; kind++)
            for (int to = 0; to < 3; to++)
                casts(sizes[i], kind, kind % 2 ? 4 : 0, (taut_dtype)to, (uint64_t)(kind + to) % SEEDS);
}
END_TEST

START_TEST(input_adds_the_residual)
{
    enum { N = 5003 };
    float    *g = new_floats(N), *r = new_floats(N), *want = new_floats(N), *got = new_floats(N), *u = new_floats(N);
    double    stats[2] = {0, 0}, plain;
    uint16_t *half = malloc(2 * N);
    for (int kind = 0; kind < CUDA_KINDS; kind++)
        for (int dtype = 0; dtype < 3; dtype++) {
            const taut__vec_kernels *v = taut__simd_at(0)->vec;
            cuda_fill(g, N, kind);
            cuda_fill(r, N, 0);
            cuda_fill(u, N, 6);
            memcpy(want, r, sizeof *r * N);
            if (dtype == TAUT_F16) v->to_f16(half, g, N), v->add_f16(want, half, N);
            else if (dtype == TAUT_BF16) v->to_bf16(half, g, N), v->add_bf16(want, half, N);
            else v->add(want, g, N);
            taut__cuda_stream s = cuda_begin((uint64_t)kind);
            taut__cuda_job    j = job_of(g, r, N, 16, 0);
            if (dtype) j.src = cuda_put(half, 2 * N, 0);
            j.stats = cuda_put(stats, sizeof stats, 0);
            taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
            b.dtype = (taut_dtype)dtype;
            cuda_must(k->vec->input_norms(&b, s), "norms");
            double sums[2];
            cuda_get(sums, j.stats, sizeof sums);
            cuda_get(got, j.err, 4 * N);
            ck_assert(cuda_same(got, want, N));
            plain = v->sum2(want, N);
            ck_assert(fabs(sums[0] - plain) <= 1e-12 * plain && sums[1] == sums[0]);
            bool bad = false; /* the halves know no huge numbers */
            for (size_t i = 0; i < N; i++) bad |= !isfinite(want[i]);
            ck_assert(flags_of(&j) == (bad ? TAUT__CUDA_NOT_FINITE : 0u) && (bad || (kind != 3 && kind != 4)));
            if (dtype == 0) { /* momentum: u = m u + g; x = r + u */
                j.codes = cuda_put(u, 4 * N, 0);
                b = taut__cuda_single(&j, TAUT__CUDA_TILE);
                cuda_must(k->vec->input(&b, 0.9f, s), "input");
                cuda_get(got, j.err, 4 * N);
                v->scale(u, 0.9f, N);
                v->add(u, g, N);
                v->add(r, u, N);
                ck_assert(cuda_same(got, r, N));
            }
            cuda_end();
        }
    free(g), free(r), free(want), free(got), free(u), free(half);
}
END_TEST

/* dst = factor * (own + peers), in half precision too */
START_TEST(sum_of_floats)
{
    enum { N = 4500, PEERS = 3 };
    float      *x = new_floats(N), *want = new_floats(N), *got = new_floats(N);
    uint16_t   *half = malloc(2 * N), *want_half = malloc(2 * N);
    const void *list[PEERS];
    for (int dtype = 0; dtype < 3; dtype++) {
        const taut__vec_kernels *v = taut__simd_at(0)->vec;
        taut__cuda_stream        s = cuda_begin((uint64_t)dtype);
        float                   *peer[PEERS];
        memset(want, 0, 4 * N);
        for (int p = 0; p < PEERS; p++) {
            peer[p] = new_floats(N);
            cuda_fill(peer[p], N, p ? 6 : 0);
            list[p] = cuda_put(peer[p], 4 * N, 0);
            if (p == 0) memcpy(want, peer[p], 4 * N);
            else v->add(want, peer[p], N);
        }
        v->scale(want, 1 / 3.0f, N);
        taut__cuda_job   j = {.n = N, .dst = cuda_new(4 * N, 0), .peers = cuda_put(list, sizeof list, 0)};
        taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
        b.peer_count = PEERS, b.factor = 1 / 3.0f, b.dtype = (taut_dtype)dtype;
        cuda_must(k->vec->sum(&b, s), "sum");
        if (dtype == 0) {
            cuda_get(got, j.dst, 4 * N);
            ck_assert(cuda_same(got, want, N));
        } else {
            cuda_get(half, j.dst, 2 * N);
            if (dtype == TAUT_F16) v->to_f16(want_half, want, N);
            else v->to_bf16(want_half, want, N);
            ck_assert(memcmp(half, want_half, 2 * N) == 0);
        }
        cuda_end();
        for (int p = 0; p < PEERS; p++) free(peer[p]);
    }
    free(x), free(want), free(got), free(half), free(want_half);
}
END_TEST

/* ---- quant ---- */

typedef struct quant_result {
    size_t   bytes;
    uint8_t *payload;
    float   *err, *back, *sum;
} quant_result;

/* What decoding adds to. */
static float *ramp(size_t n)
{
    float *x = new_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)i * 0.125f - 3;
    return x;
}
static void cpu_decode(const quant_params *p, const uint8_t *payload, size_t n, float *dst, bool add)
{
    const uint8_t *meta = payload + QUANT_HEADER, *codes = payload + quant_codes_at(p, n);
    if (p->norm == QUANT_ROTATED) taut__rotate_decode(taut__simd_at(0), p, meta, codes, n, dst, add);
    else taut__quant_decode(taut__simd_at(0), p, meta, codes, n, dst, add);
}
static quant_result quant_on_cpu(const quant_params *of, uint64_t first, const float *x, size_t n)
{
    quant_params p = *of;
    quant_result r = {quant_payload_bytes(&p, n), calloc(1, quant_payload_bytes(&p, n) + 1), new_floats(n),
                      new_floats(n), ramp(n)};
    uint8_t     *meta = r.payload + QUANT_HEADER, *codes = r.payload + quant_codes_at(&p, n);
    if (p.norm == QUANT_ROTATED) p.rotation = (uint32_t)taut__mix64(77);
    uint64_t word[2] = {quant_header_word(&p), n};
    memcpy(r.payload, word, sizeof word);
    if (p.norm == QUANT_ROTATED) taut__rotate_encode(taut__simd_at(0), &p, x, n, meta, codes, r.err);
    else taut__quant_encode(taut__simd_at(0), &p, 77, first, x, n, meta, codes, r.err);
    cpu_decode(&p, r.payload, n, r.back, false);
    cpu_decode(&p, r.payload, n, r.sum, true);
    return r;
}
static void quant_free(quant_result *r) { free(r->payload), free(r->err), free(r->back), free(r->sum); }

static void quant_both(const quant_params *p, size_t n, int kind, size_t offset, uint64_t seed)
{
    float   *x = new_floats(n), *got = new_floats(n), *base = ramp(n);
    uint64_t len, first = p->bucket * 3;
    cuda_fill(x, n, kind);
    quant_result      want = quant_on_cpu(p, first, x, n);
    uint8_t          *bytes = malloc(want.bytes);
    taut__cuda_stream s = cuda_begin(seed);
    taut__cuda_job    j = job_of(x, NULL, n, want.bytes, offset);
    j.first = first;
    taut__cuda_batch b = taut__cuda_single(&j, p->bucket);
    cuda_must(k->quant->encode(&b, p, s), "encode");
    cuda_must(k->quant->decode(&b, p, false, s), "decode");
    cuda_get(&len, j.len, 8);
    cuda_get(bytes, j.payload, want.bytes);
    ck_assert_msg(len == want.bytes && memcmp(bytes, want.payload, len) == 0,
                  "bits=%u norm=%d stochastic=%d bucket=%zu n=%zu %s", p->bits, p->norm, p->stochastic, p->bucket, n,
                  cuda_kind_name(kind));
    cuda_get(got, j.err, 4 * n);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(cuda_same(got + i, want.err + i, 1),
                      "bits=%u norm=%d stochastic=%d bucket=%zu n=%zu %s: err[%zu] = %a, CPU %a, x = %a", p->bits,
                      p->norm, p->stochastic, p->bucket, n, cuda_kind_name(kind), i, (double)got[i],
                      (double)want.err[i], (double)x[i]);
    cuda_get(got, j.dst, 4 * n);
    ck_assert(cuda_same(got, want.back, n));
    j.dst = cuda_put(base, 4 * n, offset);
    b = taut__cuda_single(&j, p->bucket);
    cuda_must(k->quant->decode(&b, p, true, s), "decode add");
    cuda_get(got, j.dst, 4 * n);
    ck_assert(cuda_same(got, want.sum, n));
    ck_assert(flags_of(&j) == (kind == 3 || kind == 4 ? TAUT__CUDA_NOT_FINITE : 0u));
    cuda_end();
    quant_free(&want);
    free(x), free(got), free(base), free(bytes);
}

START_TEST(quant_is_the_cpus)
{
    static const size_t sizes[] = {1, 5, 63, 64, 65, 127, 128, 129, 500, 512, 513, 1100, 2500};
    uint64_t            seed = 0;
    quant_params        p = {.bits = (uint32_t)_i};
    for (int norm = QUANT_MAXMIN; norm <= QUANT_L2; norm++)
        for (int stochastic = 0; stochastic < 2; stochastic++)
            for (int kind = 0; kind < CUDA_KINDS; kind++) {
                p.norm = (quant_norm)norm, p.stochastic = stochastic, p.zero = _i > 1 && seed % 2;
                p.bucket = seed % 3 == 0 ? 512 : seed % 3 == 1 ? 64 + 64 * (seed % 5) : 2048 - 1024 * (seed % 2);
                quant_both(&p, sizes[seed % (sizeof sizes / sizeof *sizes)], kind, seed % 4 == 1 ? 4 : 0, seed);
                seed++;
            }
}
END_TEST

START_TEST(rotated_is_the_cpus)
{
    static const size_t sizes[] = {1, 2, 5, 31, 33, 63, 64, 65, 100, 129, 500, 512, 513, 1100, 2500, 9000},
                        buckets[] = {512, 64, 128, 1024, 256, 4096, 2048, 8192};
    quant_params p = {.bits = (uint32_t)_i, .norm = QUANT_ROTATED, .stochastic = true};
    for (int kind = 0; kind < CUDA_KINDS; kind++)
        for (size_t round = 0; round < 2; round++) {
            size_t seed = 2 * ((size_t)_i * CUDA_KINDS + (size_t)kind) + round;
            p.bucket = buckets[(size_t)(_i + kind) % 8];
            quant_both(&p, sizes[seed % 16], kind, seed % 4 == 1 ? 4 : 0, seed);
        }
}
END_TEST

/* One of each kind of bucket. */
static const quant_params kinds[] = {{.bits = 4, .norm = QUANT_MAXMIN, .stochastic = true, .bucket = 512},
                                     {.bits = 4, .norm = QUANT_ROTATED, .stochastic = true, .bucket = 512}};

/* Gradient and residual in one pass, the new residual in place of the old one. */
START_TEST(quant_with_feedback)
{
    enum { N = 3000 };
    quant_params p = kinds[_i];
    float       *g = new_floats(N), *r = new_floats(N), *got = new_floats(N);
    cuda_fill(g, N, 0), cuda_fill(r, N, 6);
    taut__cuda_stream s = cuda_begin(5);
    taut__cuda_job    j = job_of(g, r, N, quant_payload_bytes(&p, N), 0);
    j.err = (float *)(uintptr_t)j.residual;
    taut__cuda_batch b = taut__cuda_single(&j, p.bucket);
    cuda_must(k->quant->encode(&b, &p, s), "encode");
    cuda_get(got, j.err, 4 * N);
    taut__simd_at(0)->vec->add(r, g, N);
    quant_result want = quant_on_cpu(&p, 0, r, N);
    uint8_t     *bytes = malloc(want.bytes);
    ck_assert(cuda_same(got, want.err, N));
    cuda_get(bytes, j.payload, want.bytes);
    ck_assert(memcmp(bytes, want.payload, want.bytes) == 0);
    cuda_end();
    quant_free(&want);
    free(bytes), free(g), free(r), free(got);
}
END_TEST

/* decode p payloads, add in order, scale, encode, in one pass; and the last decode with its factor */
START_TEST(quant_sum_encode)
{
    enum { N = 2000, PEERS = 4 };
    for (int round = 0; round < 6; round++) {
        quant_params      p = {.bits = 1 + (uint32_t)round,
                               .norm = (quant_norm)(round % 3),
                               .stochastic = round % 2,
                               .bucket = round < 3 ? 512 : 1088};
        float            *x = new_floats(N), *sum = new_floats(N), *got = new_floats(N);
        const void       *list[PEERS];
        quant_result      part[PEERS];
        taut__cuda_stream s = cuda_begin((uint64_t)round);
        for (int i = 0; i < PEERS; i++) {
            cuda_fill(x, N, round == 5 && i == 2 ? 3 : i % 2 ? 6 : 0);
            part[i] = quant_on_cpu(&p, 0, x, N);
            list[i] = cuda_put(part[i].payload, part[i].bytes, 0);
            taut__quant_decode(taut__simd_at(0), &p, part[i].payload + QUANT_HEADER,
                               part[i].payload + quant_codes_at(&p, N), N, sum, i > 0);
        }
        taut__simd_at(0)->vec->scale(sum, 0.25f, N);
        quant_result   want = quant_on_cpu(&p, 0, sum, N);
        uint8_t       *bytes = malloc(want.bytes);
        taut__cuda_job j = job_of(x, NULL, N, want.bytes, 0);
        j.src = NULL;
        j.peers = cuda_put(list, sizeof list, 0);
        taut__cuda_batch b = taut__cuda_single(&j, p.bucket);
        b.peer_count = PEERS, b.factor = 0.25f;
        cuda_must(k->quant->sum_encode(&b, &p, s), "sum_encode");
        b.factor = 0.5f;
        cuda_must(k->quant->decode(&b, &p, false, s), "decode");
        cuda_get(bytes, j.payload, want.bytes);
        ck_assert(memcmp(bytes, want.payload, want.bytes) == 0);
        cuda_get(got, j.err, 4 * N);
        ck_assert(cuda_same(got, want.err, N));
        cuda_get(got, j.dst, 4 * N);
        taut__simd_at(0)->vec->scale(want.back, 0.5f, N);
        ck_assert(cuda_same(got, want.back, N));
        cuda_end();
        for (int i = 0; i < PEERS; i++) quant_free(&part[i]);
        quant_free(&want);
        free(bytes), free(x), free(sum), free(got);
    }
}
END_TEST

/* Forty layers of all sizes in one launch, the same bytes as one by one; recorded in a graph and played twice. */
START_TEST(quant_batch_in_a_graph)
{
    enum { JOBS = 40 };
    quant_params      p = kinds[_i];
    taut__cuda_job    jobs[JOBS];
    quant_result      want[JOBS];
    float            *x[JOBS];
    void             *graph;
    taut__cuda_stream s = cuda_begin(9);
    for (int i = 0; i < JOBS; i++) {
        size_t n = (size_t)i * 53 + (i == 7 ? 0 : 1);
        x[i] = new_floats(n);
        cuda_fill(x[i], n, i % CUDA_KINDS);
        want[i] = quant_on_cpu(&p, 0, x[i], n);
        taut__cuda_job j = {.n = n,
                            .seed = 77,
                            .src = cuda_put(x[i], 4 * n, 0),
                            .err = cuda_new(4 * n, 0),
                            .payload = cuda_new(want[i].bytes, 0),
                            .len = cuda_new(8, 0)};
        jobs[i] = j;
    }
    taut__cuda_batch b = taut__cuda_single(&jobs[0], p.bucket);
    b.units = taut__cuda_number(jobs, JOBS, p.bucket);
    b.count = JOBS;
    b.jobs = cuda_put(jobs, sizeof jobs, 0);
    cuda_must(k->device->wait(s), "wait");
    cuda_must(k->device->capture_begin(s), "capture");
    cuda_must(k->quant->encode(&b, &p, s), "encode");
    cuda_must(k->device->capture_end(s, &graph), "capture");
    for (int round = 0; round < 2; round++) {
        cuda_must(k->device->graph_launch(graph, s), "launch");
        for (int i = 0; i < JOBS; i++) {
            uint8_t *bytes = malloc(want[i].bytes);
            float   *err = new_floats(jobs[i].n);
            cuda_get(bytes, jobs[i].payload, want[i].bytes);
            cuda_get(err, jobs[i].err, 4 * jobs[i].n);
            ck_assert_msg(memcmp(bytes, want[i].payload, want[i].bytes) == 0, "job %d", i);
            ck_assert(cuda_same(err, want[i].err, jobs[i].n));
            cuda_must(k->device->fill(jobs[i].payload, 0xee, want[i].bytes, s), "fill");
            free(bytes), free(err);
        }
    }
    k->device->graph_destroy(graph);
    cuda_end();
    for (int i = 0; i < JOBS; i++) quant_free(&want[i]), free(x[i]);
}
END_TEST

START_TEST(quant_errors_of_candidates)
{
    enum { N = 5000, C = 4 };
    static const quant_params p[C] = {{4, QUANT_MAXMIN, true, 512, 0, false},
                                      {2, QUANT_MAXMIN, false, 64, 0, true},
                                      {8, QUANT_LINF, true, 1024, 0, false},
                                      {3, QUANT_L2, false, 256, 0, false}};
    float                    *x = new_floats(N);
    double                    stats[C] = {0}, got[C];
    cuda_fill(x, N, 6);
    taut__cuda_stream s = cuda_begin(4);
    taut__cuda_job    j = job_of(x, NULL, N, 16, 0);
    j.stats = cuda_put(stats, sizeof stats, 0);
    taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_SPAN);
    cuda_must(k->quant->errors(&b, p, C, s), "errors");
    cuda_get(got, j.stats, sizeof got);
    for (int c = 0; c < C; c++) {
        quant_result want = quant_on_cpu(&p[c], 0, x, N);
        double e = norm2(want.err, N), tolerance = p[c].norm == QUANT_L2 ? 1e-5 : 1e-12; /* l2: the norm's last bit */
        ck_assert_msg(fabs(got[c] - e) <= tolerance * e, "candidate %d: %g, CPU %g", c, got[c], e);
        quant_free(&want);
    }
    cuda_end();
    free(x);
}
END_TEST

/* The rotation comes with the payload, whatever seed the decoder's job has; what is no header is told. */
START_TEST(rotated_headers)
{
    enum { N = 700 };
    quant_params      p = kinds[1];
    float            *x = new_floats(N), *got = new_floats(N);
    taut__cuda_stream s = cuda_begin(3);
    cuda_fill(x, N, 0);
    quant_result want = quant_on_cpu(&p, 0, x, N);
    for (int round = 0; round < 5; round++) {
        uint64_t len = want.bytes - (round == 4);
        if (round == 1) want.payload[2] = 1; /* rounding, which is not free here */
        if (round == 2) want.payload[2] = 0, want.payload[1] = QUANT_LINF;
        if (round == 3) want.payload[1] = QUANT_ROTATED, want.payload[0] = 5;
        if (round == 4) want.payload[0] = 4;
        taut__cuda_job j = job_of(x, NULL, N, want.bytes, 0);
        j.seed = 1234567, j.payload = cuda_put(want.payload, want.bytes, 0), j.len = cuda_put(&len, 8, 0);
        taut__cuda_batch b = taut__cuda_single(&j, p.bucket);
        cuda_must(k->quant->decode(&b, &p, false, s), "decode");
        cuda_get(got, j.dst, 4 * N);
        ck_assert_int_eq(flags_of(&j), round ? TAUT__CUDA_CORRUPT : 0);
        if (round == 0) ck_assert(cuda_same(got, want.back, N));
    }
    cuda_end();
    quant_free(&want);
    free(x), free(got);
}
END_TEST

START_TEST(quant_refuses)
{
    enum { N = 700 };
    quant_params      p = {.bits = 4, .norm = QUANT_MAXMIN, .stochastic = true, .bucket = 512}, other = p;
    float            *x = new_floats(N);
    taut__cuda_stream s = cuda_begin(2);
    taut__cuda_job    j = job_of(x, NULL, N, quant_payload_bytes(&p, N), 0);
    taut__cuda_batch  b = taut__cuda_single(&j, p.bucket);
    cuda_must(k->quant->encode(&b, &p, s), "encode");
    other.bits = 5;
    cuda_must(k->quant->decode(&b, &other, false, s), "decode");
    ck_assert(flags_of(&j) == TAUT__CUDA_CORRUPT);
    p.bits = 9;
    ck_assert(k->quant->encode(&b, &p, s) == TAUT_E_RANGE);
    p.bits = 4, p.bucket = 100;
    ck_assert(k->quant->encode(&b, &p, s) == TAUT_E_RANGE);
    p.bucket = 512, b.one.first = 64;
    ck_assert(k->quant->encode(&b, &p, s) == TAUT_E_INVALID);
    p.norm = QUANT_ROTATED, b.one.first = 0, b.peer_count = 1;
    ck_assert(k->quant->sum_encode(&b, &p, s) == TAUT_E_UNSUPPORTED);
    ck_assert(k->quant->errors(&b, &p, 1, s) == TAUT_E_UNSUPPORTED);
    p.bucket = 192;
    ck_assert(k->quant->encode(&b, &p, s) == TAUT_E_RANGE);
    p.norm = QUANT_MAXMIN, p.bucket = 512, b.one.payload += 8;
    ck_assert(k->quant->encode(&b, &p, s) == TAUT_E_INVALID);
    b.one.payload -= 8, b.one.src = (const char *)b.one.src + 2;
    ck_assert(k->quant->encode(&b, &p, s) == TAUT_E_INVALID);
    b.one.src = (const char *)b.one.src - 2, b.dtype = (taut_dtype)3;
    ck_assert(k->quant->encode(&b, &p, s) == TAUT_E_INVALID);
    cuda_end();
    free(x);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_vec_quant");
    TCase *t = suite_case(s, "twin", 120);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, casts_are_the_cpus);
    tcase_add_test(t, input_adds_the_residual);
    tcase_add_test(t, sum_of_floats);
    tcase_add_loop_test(t, quant_is_the_cpus, 1, 9);
    tcase_add_loop_test(t, rotated_is_the_cpus, 1, 9);
    tcase_add_test(t, rotated_headers);
    tcase_add_loop_test(t, quant_with_feedback, 0, 2);
    tcase_add_test(t, quant_sum_encode);
    tcase_add_loop_test(t, quant_batch_in_a_graph, 0, 2);
    tcase_add_test(t, quant_errors_of_candidates);
    tcase_add_test(t, quant_refuses);
    return suite_run(s);
}
