/* The CUDA kernels of powersgd: what is decoded from given factors is the CPU's bit for bit; factors of an encoder agree with the
 * CPU's within rounding, which is bounded here; the linear rounds give the CPU's tensor within the same bound. */
#include "compressors/codec.h"
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

/* X of low rank plus noise, so that the subspace is well defined */
static void fill_matrix(float *x, size_t rows, size_t cols, int kind)
{
    fill_normal(x, rows * cols, 1e-3f, 5);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            x[i * cols + j] +=
                sinf((float)i * 0.7f) * cosf((float)j * 0.3f) + 0.5f * cosf((float)i) * sinf(0.9f * (float)j);
    if (kind == 1) x[rows * cols / 2] = NAN;
}

static void one_matrix(size_t rows, size_t cols, size_t rank, int kind, uint64_t seed)
{
    char              spec[64];
    codec_case        c;
    taut__cuda_matrix m = {rows, cols, rank, 2};
    size_t            n = rows * cols;
    float            *x = new_floats(n), *err = new_floats(n), *back = new_floats(n), *got = new_floats(n);
    uint32_t          flags;
    uint64_t          len;
    snprintf(spec, sizeof spec, "powersgd:rank=%zu", rank);
    case_open(&c, spec, rows, cols);
    fill_matrix(x, rows, cols, kind);
    case_round_trip(&c, x, err, back);
    taut__cuda_stream s = cuda_begin(seed);
    taut__cuda_job    j = {.n = n,
                           .seed = c.call.shared_seed,
                           .src = cuda_put(x, 4 * n, 0),
                           .err = cuda_new(4 * n, 0),
                           .dst = cuda_new(4 * n, 0),
                           .payload = cuda_new(c.cap, 0),
                           .len = cuda_new(8, 0),
                           .flags = cuda_put(&zero_flags, 4, 0)};
    taut__cuda_batch  b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    b.work_bytes = k->powersgd->work(&m);
    b.work = cuda_new(b.work_bytes, 0);
    cuda_must(k->powersgd->encode(&b, &m, 2, NULL, s), "encode");
    cuda_must(k->powersgd->decode(&b, &m, false, s), "decode");
    cuda_get(&len, j.len, 8);
    cuda_get(&flags, j.flags, 4);
    ck_assert(len == c.len && flags == (kind == 1 ? TAUT__CUDA_NOT_FINITE : 0u));
    cuda_get(got, j.dst, 4 * n);
    if (kind == 1) {
        for (size_t i = 0; i < n; i++) ck_assert(isnan(got[i]));
    } else { /* the GPU's approximation is as good, and the same within rounding */
        double d = distance2(got, back, n), e = distance2(got, x, n), cpu = distance2(back, x, n);
        ck_assert_msg(d <= 1e-9 * norm2(x, n) && e <= cpu * 1.0001 + 1e-9 * norm2(x, n),
                      "%zux%zu rank %zu: apart %g, error %g, CPU %g", rows, cols, rank, d, e, cpu);
        float *left = new_floats(n);
        cuda_get(left, j.err, 4 * n);
        for (size_t i = 0; i < n; i++) ck_assert(left[i] == x[i] - got[i]);
        free(left);
    }
    /* its payload, decoded by both: the same bits */
    cuda_get(c.payload, j.payload, len);
    ck_assert(taut__op_decode(c.codec, &c.call, c.payload, len, back) == TAUT_OK);
    ck_assert(cuda_same(got, back, n));
    cuda_must(k->powersgd->decode(&b, &m, true, s), "decode add");
    ck_assert(taut__op_decode_add(c.codec, &c.call, c.payload, len, back) == TAUT_OK);
    cuda_get(got, j.dst, 4 * n);
    ck_assert(cuda_same(got, back, n));
    cuda_end();
    case_close(&c);
    free(x), free(err), free(back), free(got);
}

START_TEST(matrices)
{
    one_matrix(2, 3, 1, 0, 1);
    one_matrix(40, 300, 4, 0, 2);
    one_matrix(300, 40, 4, 0, 3);
    one_matrix(129, 65, 2, 0, 4);
    one_matrix(70, 513, 2, 1, 5);
    one_matrix(64, 64, 9, 0, 6);
}
END_TEST

/* One rank's linear rounds on both sides. */
START_TEST(linear_rounds)
{
    enum { ROWS = 60, COLS = 200, RANK = 3, N = ROWS * COLS };
    codec_case        c;
    taut__cuda_matrix m = {ROWS, COLS, RANK, 2};
    float *x = new_floats(N), *back = new_floats(N), *got = new_floats(N), factor[RANK * COLS], start[RANK * COLS];
    case_open(&c, "powersgd:rank=3", ROWS, COLS);
    const taut_linear_ops *l = c.codec->ops[TAUT_HOST]->linear;
    fill_matrix(x, ROWS, COLS, 0);
    ck_assert(taut__op_state_create(c.codec, &c.spec.stage[0], &c.tensor, 7, (taut_place){0}, &c.call.state) ==
              TAUT_OK);
    uint8_t saved[40 + sizeof start];
    size_t  len;
    ck_assert(taut__op_state_save(c.codec, (taut_place){0}, c.call.state, saved, sizeof saved, &len) == TAUT_OK &&
              len == sizeof saved);
    memcpy(start, saved + 40, sizeof start);
    for (int round = 0; round < c.codec->linear->rounds; round++)
        ck_assert(l->project(&c.call, round, x, factor) == TAUT_OK && l->absorb(&c.call, round, factor) == TAUT_OK);
    ck_assert(l->reconstruct(&c.call, 0.5f, back) == TAUT_OK);
    taut__cuda_stream s = cuda_begin(8);
    float    *dx = cuda_put(x, 4 * N, 0), *p = cuda_new(4 * ROWS * RANK, 0), *qt = cuda_put(start, sizeof start, 0);
    uint32_t *poisoned = cuda_put(&zero_flags, 4, 0);
    size_t    bytes = k->powersgd->work(&m);
    void     *work = cuda_new(bytes, 0);
    for (int round = 0; round < c.codec->linear->rounds; round++) {
        float *f = round == 1 ? qt : p; /* wide: P, Q, P */
        cuda_must(k->powersgd->project(&m, round, dx, p, qt, f, work, bytes, s), "project");
        cuda_must(k->powersgd->absorb(&m, round, f, c.call.shared_seed, poisoned, s), "absorb");
    }
    taut__cuda_job   j = {.n = N, .dst = cuda_new(4 * N, 0)};
    taut__cuda_batch b = taut__cuda_single(&j, TAUT__CUDA_TILE);
    b.factor = 0.5f;
    cuda_must(k->powersgd->reconstruct(&b, &m, p, qt, poisoned, s), "reconstruct");
    cuda_get(got, j.dst, 4 * N);
    ck_assert(distance2(got, back, N) <= 1e-9 * norm2(back, N));
    m.rank = 61;
    ck_assert(k->powersgd->project(&m, 0, dx, p, qt, p, work, bytes, s) == TAUT_E_RANGE);
    cuda_end();
    case_close(&c);
    free(x), free(back), free(got);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_powersgd");
    TCase *t = suite_case(s, "twin", 120);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, matrices);
    tcase_add_test(t, linear_rounds);
    return suite_run(s);
}
