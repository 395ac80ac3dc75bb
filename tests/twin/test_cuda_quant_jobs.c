/* test_cuda_quant_jobs.c : a launch of quant with so many buckets that a warp takes several: those of the small layers before and behind a large
 * one are the CPU's, where a warp goes from one layer to the next too, for floats and for halves. Of the large one only the ends run in the model. */
#include "compressors/dispatch.h"
#include "compressors/quant/quant_bucket.h"
#include "compressors/vec/vec.h"
#include "tests/support/cuda_case.h"
#include "tests/support/cuda_host/control.h"
#include "../support/suite.h"
#include <stdlib.h>
#include <string.h>

enum { SMALL = 20, JOBS = SMALL + 1, LARGE = SMALL / 2, BUCKET = 64, ENDS = 3 };

static const quant_params p = {.bits = 4, .norm = QUANT_MAXMIN, .stochastic = true, .bucket = BUCKET};

typedef struct layer {
    size_t   n, bytes;
    float   *x, *back;
    uint16_t half[64 * SMALL], back_half[64 * SMALL];
    uint8_t *payload;
} layer;

static void to_half(taut_dtype d, uint16_t *h, const float *x, size_t n)
{
    const taut__vec_kernels *v = taut__simd_at(0)->vec;
    if (d == TAUT_F16) v->to_f16(h, x, n);
    if (d == TAUT_BF16) v->to_bf16(h, x, n);
}
/* Layer i: its elements, as the dtype has them, what the CPU makes of them, and that decoded. */
static void make(layer *l, int i, taut_dtype d)
{
    const taut__vec_kernels *v = taut__simd_at(0)->vec;
    l->n = (size_t)(i % 3 == 0 ? 64 * i : 53 * i + 1);
    l->bytes = quant_payload_bytes(&p, l->n);
    l->x = calloc(l->n + 1, 4), l->back = calloc(l->n + 1, 4), l->payload = calloc(1, l->bytes + 1);
    cuda_fill(l->x, l->n, 0);
    to_half(d, l->half, l->x, l->n);
    if (d == TAUT_F16) v->from_f16(l->x, l->half, l->n);
    if (d == TAUT_BF16) v->from_bf16(l->x, l->half, l->n);
    uint64_t word[2] = {quant_header_word(&p), l->n};
    uint8_t *codes = l->payload + quant_codes_at(&p, l->n), *meta = l->payload + QUANT_HEADER;
    memcpy(l->payload, word, sizeof word);
    taut__quant_encode(taut__simd_at(0), &p, 77 + (uint64_t)i, 0, l->x, l->n, meta, codes, NULL);
    taut__quant_decode(taut__simd_at(0), &p, meta, codes, l->n, l->back, false);
    to_half(d, l->back_half, l->back, l->n);
}

static void check(const layer *l, const taut__cuda_job *j, taut_dtype d, int i)
{
    size_t   elem = d == TAUT_F32 ? 4 : 2;
    uint64_t len;
    uint8_t *bytes = malloc(l->bytes), *back = malloc(elem * l->n + 1);
    cuda_get(&len, j->len, 8);
    cuda_get(bytes, j->payload, l->bytes);
    cuda_get(back, j->dst, elem * l->n);
    ck_assert_msg(len == l->bytes && memcmp(bytes, l->payload, len) == 0, "layer %d of %zu", i, l->n);
    ck_assert_msg(memcmp(back, elem == 4 ? (const void *)l->back : l->back_half, elem * l->n) == 0, "layer %d", i);
    free(bytes), free(back);
}

START_TEST(many_buckets)
{
    taut_dtype        d = (taut_dtype)_i;
    const taut__cuda *k = cuda_tables();
    taut__cuda_stream s = cuda_begin((uint64_t)_i + 1);
    size_t            elem = d == TAUT_F32 ? 4 : 2, large = 32768 * BUCKET;
    layer            *l = calloc(JOBS, sizeof *l);
    taut__cuda_job    jobs[JOBS];
    for (int i = 0; i < JOBS; i++) {
        if (i == LARGE) l[i].n = large, l[i].bytes = quant_payload_bytes(&p, large);
        else make(&l[i], i, d);
        const void *x = d == TAUT_F32 ? (const void *)l[i].x : l[i].half;
        jobs[i] = (taut__cuda_job){.n = l[i].n,
                                   .seed = 77 + (uint64_t)i,
                                   .src = i == LARGE ? cuda_new(elem * large, 0) : cuda_put(x, elem * l[i].n, 0),
                                   .dst = cuda_new(elem * l[i].n, 0),
                                   .payload = cuda_new(l[i].bytes, 0),
                                   .len = cuda_new(8, 0)};
    }
    taut__cuda_batch b = taut__cuda_single(&jobs[0], BUCKET);
    b.units = taut__cuda_number(jobs, JOBS, BUCKET);
    b.count = JOBS, b.dtype = d;
    b.jobs = cuda_put(jobs, sizeof jobs, 0);
    ck_assert_uint_lt(jobs[LARGE].unit, ENDS * 32); /* a block has 8 warps of 4 buckets */
    ck_assert_uint_lt(b.units - jobs[LARGE + 1].unit, (ENDS + 4) * 32);
    cuda_model_ends(ENDS + 4);
    cuda_must(k->quant->encode(&b, &p, s), "encode");
    cuda_must(k->quant->decode(&b, &p, false, s), "decode");
    cuda_must(k->device->wait(s), "wait");
    cuda_model_ends(0);
    for (int i = 0; i < JOBS; i++)
        if (i != LARGE) check(&l[i], &jobs[i], d, i);
    cuda_end();
    for (int i = 0; i < JOBS; i++) free(l[i].x), free(l[i].back), free(l[i].payload);
    free(l);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cuda_quant_jobs");
    TCase *t = suite_case(s, "twin", 120);
    tcase_add_loop_test(t, many_buckets, TAUT_F32, TAUT_BF16 + 1);
    return suite_run(s);
}
