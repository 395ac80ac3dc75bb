/* Every level of the grid kernels writes the same bytes, codes, floats and sums as the portable one. */
#include "compressors/dispatch.h"
#include "compressors/grid/grid_chunk.h"
#include "compressors/grid/grid_rans.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>

enum { N_MAX = 5000 };
static const size_t sizes[] = {1, 2, 63, 64, 65, 127, 128, 129, 1000, 4096, N_MAX};

typedef struct world {
    grid_unit u;
    float     x[N_MAX], scale[N_MAX];
    int       kind;
} world;

/* Kinds: 0 small codes, 1 sparse, 2 mixed rates, 3 large codes, 4 values without a code, 5 all zero, 6 exact
 * multiples, 7 mostly twos, 8 few but large ones among small. */
enum { KINDS = 9 };
static void fill(world *w, int kind, size_t stride)
{
    memset(w, 0, sizeof *w);
    fill_normal(w->x, N_MAX, 1, (uint64_t)kind);
    for (size_t i = 0; i < N_MAX; i++) {
        static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e-42f, -0.0f, -1e-45f, 3e9f};
        if (kind == 1 && i % 37) w->x[i] *= 0.01f;
        if (kind == 2) w->x[i] *= exp2f((float)(int)(i / 64 % 23) - 8);
        if (kind == 3) w->x[i] *= i % 3 ? 1e6f : 1e8f;
        if (kind == 4 && i % 61 == 7) w->x[i] = odd[i / 61 % 8];
        if (kind == 5) w->x[i] = i % 2 ? 0.0f : -0.0f;
        if (kind == 6) w->x[i] = (float)((int)(i * 7919 % 41) - 20);
        if (kind == 7) w->x[i] = i % 10 < 7 ? 2.0f : (float)(i % 2);
        if (kind == 8)
            w->x[i] = i % 90 == 5 ? (float[]){7, 8, 9, 200, 254, 255, 256, 40000}[i / 90 % 8] : (float)(i % 64 == 7);
        if (kind > 6 && i % 3) w->x[i] = -w->x[i];
        w->scale[i] = 0.5f + (float)(i % 17) / 8;
    }
    w->u =
        (grid_unit){.step = 0.75f, .inv = 1.0f / 0.75f, .bias = 0.35f, .scale = w->scale, .stride = stride, .first = 0};
    if (kind > 5) w->u.step = w->u.inv = 1;
}

typedef struct result {
    uint8_t packed[N_MAX * 6 + 4096], rans[N_MAX * 6 + 4096], codes_packed[N_MAX * 6 + 4096],
        codes_rans[N_MAX * 6 + 4096];
    size_t packed_len, rans_len, codes_packed_len, codes_rans_len;
    float  err[N_MAX], err_rans[N_MAX], back[N_MAX], back_rans[N_MAX], sum[N_MAX], value[N_MAX], err_codes[N_MAX], mean;
    int32_t codes[N_MAX], unpacked[N_MAX], unpacked_rans[N_MAX];
    struct { /* in one pass */
        uint8_t packed[N_MAX * 6 + 4096];
        size_t  packed_len;
        int32_t codes[N_MAX], sum[N_MAX];
        float   err[N_MAX], value[N_MAX];
    } fused;
    double   errors[GRID_STEPS], norms[GRID_SUMS];
    uint32_t bins[256];
    bool     quantized;
} result;

static bool rans_decode(const struct taut__grid_kernels *k, const grid_unit *u, const uint8_t *src, size_t len,
                        size_t n, int sink, void *dst)
{
    grid_rans_chunk c = {.src = src, .len = len, .n = n, .dst = dst};
    if (u) c.u = *u;
    return taut__grid_rans_decode(k, &c, 1, sink);
}

static void run(const struct taut__grid_kernels *k, const world *w, size_t n, result *r)
{
    const grid_binning binning = {(127 - 36) * 4, 199};
    memset(r, 0, sizeof *r);
    r->packed_len = k->encode(&w->u, w->x, n, r->err, r->packed);
    r->rans_len = taut__grid_rans_encode(k, &w->u, w->x, n, r->err_rans, r->rans);
    if (r->packed_len) ck_assert(k->decode(&w->u, r->packed, r->packed_len, n, r->back, false));
    if (r->packed_len) ck_assert(k->decode(&w->u, r->packed, r->packed_len, n, r->sum, true));
    if (r->packed_len) ck_assert(k->decode(&w->u, r->packed, r->packed_len, n, r->sum, true));
    if (r->rans_len) ck_assert(rans_decode(k, &w->u, r->rans, r->rans_len, n, GRID_STORE, r->back_rans));
    r->quantized = k->quantize(&w->u, w->x, n, r->codes, r->err_codes, INT32_MAX);
    if (r->quantized) {
        r->codes_packed_len = k->pack(r->codes, n, r->codes_packed);
        r->codes_rans_len = taut__grid_rans_pack(k, r->codes, n, r->codes_rans);
        if (r->codes_packed_len) ck_assert(k->unpack_add(r->codes_packed, r->codes_packed_len, n, r->unpacked));
        if (r->codes_rans_len)
            ck_assert(rans_decode(k, NULL, r->codes_rans, r->codes_rans_len, n, GRID_CODES, r->unpacked_rans));
        k->dequantize(&w->u, r->codes, n, r->value);
        r->fused.packed_len =
            k->quantize_pack(&w->u, w->x, n, r->fused.codes, r->fused.err, INT32_MAX, r->fused.packed);
        memcpy(r->fused.sum, r->codes, n * 4);
        if (r->codes_packed_len)
            ck_assert(k->unpack_values(&w->u, r->codes_packed, r->codes_packed_len, n, r->fused.sum, r->fused.value));
    } else {
        ck_assert_uint_eq(k->quantize_pack(&w->u, w->x, n, r->codes, r->err_codes, INT32_MAX, r->fused.packed),
                          GRID_NO_CODES);
        memset(r->fused.packed, 0, sizeof r->fused.packed);
        memset(r->codes, 0, sizeof r->codes), memset(r->err_codes, 0, sizeof r->err_codes); /* nothing is promised */
    }
    if (w->kind == 4) return; /* sums are of finite values */
    grid_unit u[GRID_STEPS] = {w->u, w->u, w->u, w->u};
    for (int s = 0; s < GRID_STEPS; s++) u[s].step *= (float)(s + 1), u[s].inv = 1 / u[s].step;
    k->errors(u, w->x, n, r->errors);
    u[0].step = u[0].inv = 1;
    k->norms(u, w->x, n, r->norms);
    r->mean = k->count(u, w->x, 0, n < 64 ? n : 64, &binning, r->bins);
}

/* The portable results are right, so the others are when they are the same. */
static void check(const world *w, size_t n, const result *r)
{
    if (w->kind == 4) return;
    ck_assert(r->quantized);
    ck_assert_uint_eq(r->packed_len, r->codes_packed_len);
    ck_assert_uint_eq(r->rans_len, r->codes_rans_len);
    ck_assert_mem_eq(r->packed, r->codes_packed, r->packed_len);
    ck_assert_mem_eq(r->rans, r->codes_rans, r->rans_len);
    ck_assert_mem_eq(r->codes, r->unpacked, n * 4);
    ck_assert_mem_eq(r->codes, r->unpacked_rans, n * 4);
    ck_assert_mem_eq(r->err, r->err_rans, n * 4);
    ck_assert_mem_eq(r->err, r->err_codes, n * 4);
    ck_assert_uint_eq(r->packed_len, r->fused.packed_len);
    ck_assert_mem_eq(r->packed, r->fused.packed, r->packed_len);
    ck_assert_mem_eq(r->codes, r->fused.codes, n * 4);
    ck_assert_mem_eq(r->err, r->fused.err, n * 4);
    if (r->packed_len == 0) return;
    for (size_t i = 0; i < n; i++) {
        ck_assert(r->back[i] == r->value[i] && r->back_rans[i] == r->value[i] && r->sum[i] == 2 * r->value[i]);
        int64_t twice = 2 * (int64_t)r->codes[i]; /* of the largest codes no sum is defined */
        if (twice == r->fused.sum[i] && llabs(twice) < 1 << 24) ck_assert(r->fused.value[i] == 2 * r->value[i]);
        ck_assert(twice == r->fused.sum[i] || llabs(twice) > INT32_MAX);
        ck_assert(r->err[i] == w->x[i] - r->value[i]);
    }
}

START_TEST(every_level_equals_portable)
{
    static const size_t strides[] = {0, 1, 70};
    const taut__simd   *level;
    world              *w = malloc(sizeof *w);
    result             *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    for (size_t s = 0; s < sizeof strides / sizeof *strides; s++) {
        fill(w, _i, strides[s]);
        w->kind = _i;
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            run(&taut__grid_portable, w, sizes[k], a);
            check(w, sizes[k], a);
            for (size_t l = 1; (level = taut__simd_at(l)) != NULL; l++) {
                run(level->grid, w, sizes[k], b);
                /* rans chunks keep scratch bytes behind their length */
                memset(a->rans + a->rans_len, 0, sizeof a->rans - a->rans_len);
                memset(b->rans + b->rans_len, 0, sizeof b->rans - b->rans_len);
                memset(a->packed + a->packed_len, 0, sizeof a->packed - a->packed_len);
                memset(b->packed + b->packed_len, 0, sizeof b->packed - b->packed_len);
                memset(a->codes_packed, 0, sizeof a->codes_packed), memset(b->codes_packed, 0, sizeof b->codes_packed);
                memset(a->codes_rans, 0, sizeof a->codes_rans), memset(b->codes_rans, 0, sizeof b->codes_rans);
                ck_assert_msg(memcmp(a, b, sizeof *a) == 0, "%s: n %zu stride %zu kind %d", level->name, sizes[k],
                              strides[s], _i);
            }
        }
    }
    free(w), free(a), free(b);
}
END_TEST

/* In place: err may be x. */
START_TEST(residual_in_place)
{
    const taut__simd *level;
    world            *w = malloc(sizeof *w), *v = malloc(sizeof *v);
    result           *a = malloc(sizeof *a);
    for (size_t l = 0; (level = taut__simd_at(l)) != NULL; l++) {
        fill(w, _i, 1), fill(v, _i, 1);
        run(level->grid, w, N_MAX, a);
        size_t len = taut__grid_rans_encode(level->grid, &v->u, v->x, N_MAX, v->x, a->codes_rans);
        ck_assert_uint_eq(len, a->rans_len);
        ck_assert_mem_eq(v->x, a->err_rans, sizeof v->x);
        fill(v, _i, 1);
        len = level->grid->encode(&v->u, v->x, N_MAX, v->x, a->codes_packed);
        ck_assert_uint_eq(len, a->packed_len);
        ck_assert_mem_eq(v->x, a->err, sizeof v->x);
    }
    free(w), free(v), free(a);
}
END_TEST

/* Two chunks in turns, of any two kinds and of other lengths, are what each is alone. */
START_TEST(pairs_decode_like_single_chunks)
{
    static const size_t lengths[][2] = {{N_MAX, N_MAX}, {N_MAX, 65}, {63, 1000}};
    const taut__simd   *level;
    world              *w = malloc(sizeof *w), *v = malloc(sizeof *v);
    uint8_t            *bytes = calloc(2, N_MAX * 6 + 4096);
    float              *alone = new_floats(2 * N_MAX), *both = new_floats(2 * N_MAX);
    for (int other = 0; other < KINDS; other++) {
        fill(w, _i, 0), fill(v, other, 70);
        for (size_t l = 0; (level = taut__simd_at(l)) != NULL; l++)
            for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
                grid_rans_chunk c[2] = {
                    {.u = w->u, .src = bytes, .n = lengths[k][0], .dst = both},
                    {.u = v->u, .src = bytes + N_MAX * 6 + 4096, .n = lengths[k][1], .dst = both + N_MAX}};
                c[0].len = taut__grid_rans_encode(level->grid, &w->u, w->x, c[0].n, NULL, bytes);
                c[1].len = taut__grid_rans_encode(level->grid, &v->u, v->x, c[1].n, NULL, bytes + N_MAX * 6 + 4096);
                if (c[0].len == 0 || c[1].len == 0) continue;
                for (int sink = GRID_STORE; sink <= GRID_ADD; sink++) {
                    for (int i = 0; i < 2; i++)
                        ck_assert(
                            rans_decode(level->grid, &c[i].u, c[i].src, c[i].len, c[i].n, sink, alone + i * N_MAX));
                    ck_assert(taut__grid_rans_decode(level->grid, c, 2, sink));
                    ck_assert_mem_eq(alone, both, 2 * N_MAX * sizeof *alone);
                }
                c[1].len -= 1; /* malformed next to sound */
                ck_assert(!taut__grid_rans_decode(level->grid, c, 2, GRID_STORE) ||
                          c[1].src[c[1].len - 1] == GRID_RANS_PACKED);
                memset(alone, 0, 2 * N_MAX * sizeof *alone), memset(both, 0, 2 * N_MAX * sizeof *both);
            }
    }
    free(w), free(v), free(bytes), free(alone), free(both);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grid_kernels");
    TCase *t = suite_case(s, "twin", 120);
    tcase_add_loop_test(t, every_level_equals_portable, 0, KINDS);
    tcase_add_loop_test(t, residual_in_place, 0, KINDS);
    tcase_add_loop_test(t, pairs_decode_like_single_chunks, 0, KINDS);
    return suite_run(s);
}
