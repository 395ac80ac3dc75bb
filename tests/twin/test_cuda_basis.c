/* test_cuda_basis.c : changes of basis and learning on a CUDA device (the execution model, or with TEST_GPU=1 a GPU) are those of the host, bit
 * for bit: tall and wide matrices, a side of two, tiles that are not full, more directions than the side has, scales of every kind, NaN. */
#include "compressors/basis/basis.h"
#include "compressors/frame.h"
#include "../support/suite.h"
#include "tests/support/cuda_twin.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    size_t rows, cols, most;
} shape;
static const shape shapes[] = {
    {2, 2, 8},    {2, 130, 4},   {1000, 3, 8}, {80, 48, 8},   {36, 100, 20}, {64, 64, 64},
    {129, 65, 3}, {33, 257, 33}, {192, 31, 9}, {150, 48, 17}, {300, 40, 1},  {272, 300, 256},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, ROUNDS = 3 };

typedef struct pair {
    taut_tensor here, there; /* there: its scale is on the device */
    taut_axes  *host, *device;
    float      *x, *far, *back; /* far: on the device */
} pair;

static float number(uint64_t seed, size_t i)
{
    return (float)((int32_t)taut__random32(taut__rng_of(seed, 5), (uint32_t)i) >> 8) * 0x1p-23f;
}

/* scale: 0: none, 1: one, 2: one per row, 3: one per element */
static void pair_open(pair *p, const shape *s, int scale)
{
    size_t n = s->rows * s->cols, scales = scale == 0 ? 0 : scale == 1 ? 1 : scale == 2 ? s->rows : n;
    float *made = new_floats(scales ? scales : 1);
    *p = (pair){.here = {.elems = n, .rows = s->rows, .cols = s->cols, .scale_n = scales, .scale = made}};
    for (size_t i = 0; i < scales; i++) made[i] = 0.5f + (float)(i * 7 % 90) * 0.013f;
    p->there = p->here;
    p->there.scale = scales ? cuda_put(made, 4 * scales, 0) : NULL;
    p->x = new_floats(n), p->back = new_floats(n), p->far = cuda_new(4 * n, 0);
    ck_assert_int_eq(taut__axes_create(&p->here, s->most, 7, &p->host), TAUT_OK);
    ck_assert_int_eq(taut__axes_create(&p->here, s->most, 7, &p->device), TAUT_OK);
    cuda_must(taut__axes_place(p->device, twin_place), "place");
}
static void pair_close(pair *p)
{
    taut__axes_destroy(p->host), taut__axes_destroy(p->device);
    free((void *)(uintptr_t)p->here.scale), free(p->x), free(p->back);
}

static const taut__space *space(void) { return taut__memory_of(TAUT_CUDA); }

static void fill(pair *p, uint64_t seed)
{
    for (size_t i = 0; i < p->here.elems; i++) p->x[i] = number(seed, i) * (1 + number(9, i % p->here.cols));
    cuda_must(space()->copy(twin_place, p->far, p->x, 4 * p->here.elems), "copy");
    cuda_must(space()->wait(twin_place), "wait");
}

static void same(pair *p, const char *what)
{
    cuda_get(p->back, p->far, 4 * p->here.elems);
    for (size_t i = 0; i < p->here.elems; i++)
        ck_assert_msg(memcmp(&p->x[i], &p->back[i], 4) == 0 || (isnan(p->x[i]) && isnan(p->back[i])),
                      "%s: %zu x %zu, %zu directions, scale of %zu: element %zu is %a, on the host %a", what,
                      p->here.rows, p->here.cols, taut__axes_most(p->host), p->here.scale_n, i, (double)p->back[i],
                      (double)p->x[i]);
}

static bool learn(pair *p, double keep)
{
    taut__axes_learn_begin(p->host, keep);
    for (size_t i = 0; i < taut__axes_tiles(p->host); i++) taut__axes_learn(p->host, &p->here, i, p->x);
    cuda_must(taut__axes_learn_all(p->device, &p->there, p->far, keep), "learn");
    cuda_must(space()->wait(twin_place), "wait");
    bool learnt = taut__axes_renew(p->host);
    ck_assert_int_eq(taut__axes_renew(p->device), learnt);
    ck_assert_msg(taut__axes_digest(p->host) == taut__axes_digest(p->device), "%zu x %zu: another basis", p->here.rows,
                  p->here.cols);
    return learnt;
}

static void turn(pair *p, bool back)
{
    for (size_t i = 0; i < taut__axes_tiles(p->host); i++)
        (back ? taut__axes_back : taut__axes_turn)(p->host, &p->here, i, p->x);
    cuda_must(taut__axes_change(p->device, &p->there, p->far, back), "change");
    cuda_must(space()->wait(twin_place), "wait");
    same(p, back ? "back" : "turn");
}

START_TEST(the_same_bits)
{
    pair p;
    twin_begin((uint64_t)_i);
    if (!suite_long() && _i % SHAPES % 2 != _i / SHAPES % 2)
        return; /* two kinds of scale for each shape; LONG=1: all */
    pair_open(&p, &shapes[_i % SHAPES], _i / SHAPES);
    for (int round = 0; round < ROUNDS; round++) {
        fill(&p, (uint64_t)(10 + round));
        ck_assert(learn(&p, round ? 0.9 : 0));
        turn(&p, false);
        turn(&p, true);
    }
    pair_close(&p);
    twin_end();
}
END_TEST

/* NaN and Inf spread as on the host, and teach nothing; the basis stays. */
START_TEST(what_is_not_finite)
{
    pair p;
    twin_begin(3);
    pair_open(&p, &shapes[3 + _i % 2], _i / 2);
    fill(&p, 1);
    ck_assert(learn(&p, 0));
    uint64_t before = taut__axes_digest(p.device);
    fill(&p, 2);
    p.x[p.here.elems / 2] = _i % 2 ? NAN : INFINITY;
    cuda_must(space()->copy(twin_place, p.far, p.x, 4 * p.here.elems), "copy");
    ck_assert(!learn(&p, 0.9));
    ck_assert(taut__axes_digest(p.device) == before);
    turn(&p, false);
    fill(&p, 4);
    turn(&p, false);
    pair_close(&p);
    twin_end();
}
END_TEST

/* What was saved here goes on there. */
START_TEST(saved_and_loaded)
{
    pair    p;
    size_t  n;
    uint8_t saved[1 << 14];
    twin_begin(5);
    pair_open(&p, &shapes[3], 3);
    fill(&p, 1);
    ck_assert(learn(&p, 0));
    ck_assert_int_eq(taut__axes_save(p.host, saved, sizeof saved, &n), TAUT_OK);
    fill(&p, 2);
    ck_assert(learn(&p, 0.9));
    turn(&p, false);
    ck_assert_int_eq(taut__axes_load(p.host, saved, n), TAUT_OK);
    ck_assert_int_eq(taut__axes_load(p.device, saved, n), TAUT_OK);
    fill(&p, 3);
    turn(&p, false);
    ck_assert(learn(&p, 0.9));
    pair_close(&p);
    twin_end();
}
END_TEST

/* What grid writes of coordinates says so, in frames too; and one that knows of no basis does not take it. */
START_TEST(payloads_say_so)
{
    static const char *const of[] = {"grid:step=0.001", "grid:step=0.001,code=rans", "grid:step=100", "grid:rel=0.1"};
    twin                     t;
    twin_begin((uint64_t)_i);
    twin_open(&t, of[_i], 90, 70, _i == 3 ? 3 : 0); /* rel: with a NaN it goes raw */
    t.k.call.turned = t.piece.call.turned = true;
    if (_i == 3) twin_calibrate(&t, 1, 1);
    codec_case *k = &t.k;
    twin_enqueue(TAUT_OP_ENCODE, &t, 1);
    ck_assert_int_eq(taut__op_encode(k->codec, &k->call, t.x, k->payload, k->cap, &k->len, t.err), TAUT_OK);
    twin_same_payload(&t, of[_i]);
    ck_assert_int_eq(k->payload[0] & 0x40, 0x40);
    ck_assert_int_eq(taut__op_decode(k->codec, &k->call, k->payload, k->len, t.back), TAUT_OK);
    twin_enqueue(TAUT_OP_DECODE, &t, 1);
    twin_same_floats(&t, t.back, t.piece.dst, "values");
    ck_assert_uint_eq(twin_outcome(&t).flags & TAUT_FLAG_CORRUPT, 0);
    t.piece.call.turned = false;
    twin_enqueue(TAUT_OP_DECODE, &t, 1);
    ck_assert_uint_ne(twin_outcome(&t).flags & TAUT_FLAG_CORRUPT, 0);
    twin_close(&t);
    twin_end();
}
END_TEST

START_TEST(headers_say_so)
{
    uint8_t bytes[TAUT_FRAME_HEADER], want[TAUT_FRAME_HEADER];
    for (int rans = 0; rans < 2; rans++) {
        twin t;
        twin_begin(2);
        twin_open(&t, rans ? "grid:step=0.001,code=rans" : "grid:step=0.001", 90, 70, 0);
        t.k.call.turned = t.piece.call.turned = t.k.call.no_checksum = true;
        t.piece.payload = (uint8_t *)cuda_new(TAUT_FRAME_HEADER + t.k.cap, 0) + TAUT_FRAME_HEADER;
        codec_case *k = &t.k;
        uint8_t    *frame = malloc(TAUT_FRAME_HEADER + k->cap);
        size_t      len, whole;
        twin_enqueue(TAUT_OP_ENCODE, &t, 1);
        cuda_must(taut__vectors_of(TAUT_CUDA)->seal(k->codec, &t.piece, 1, twin_place), "seal");
        cuda_get(bytes, t.piece.payload - TAUT_FRAME_HEADER, sizeof bytes);
        ck_assert_int_eq(taut__op_encode(k->codec, &k->call, t.x, frame + TAUT_FRAME_HEADER, k->cap, &len, t.err),
                         TAUT_OK);
        ck_assert_int_eq(taut__frame_seal(k->codec, &k->call, frame, len, &whole), TAUT_OK);
        memcpy(want, frame, sizeof want);
        ck_assert_mem_eq(bytes, want, sizeof want);
        free(frame);
        twin_close(&t);
        twin_end();
    }
}
END_TEST

START_TEST(what_is_refused)
{
    twin_begin(1);
    const taut__cuda_basis *b = cuda_tables()->basis;
    taut__axes_there        m = {.n = 8, .vectors = 100, .r = 16};
    taut__cuda_unit         u = {0};
    float                  *x = cuda_new(4 * 8 * 128, 0);
    ck_assert_int_eq(b->change(&m, &u, x, x, 1, 2, false, NULL), TAUT_E_RANGE); /* there are two tiles */
    ck_assert_int_eq(b->learn(&m, &u, x, x, 0, 0, NULL), TAUT_E_RANGE);
    ck_assert_int_eq(b->change(&m, &u, (float *)(void *)((char *)x + 2), x, 0, 2, false, NULL), TAUT_E_INVALID);
    m.r = 24;
    ck_assert_int_eq(b->change(&m, &u, x, x, 0, 2, false, NULL), TAUT_E_INVALID);
    m.r = 272;
    ck_assert_int_eq(b->learn(&m, &u, x, x, 0, 2, NULL), TAUT_E_INVALID);
    twin_end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bases on a CUDA device");
    TCase *t = suite_case(s, "all", 120);
    tcase_add_loop_test(t, the_same_bits, 0, 4 * SHAPES);
    tcase_add_loop_test(t, what_is_not_finite, 0, 8);
    tcase_add_test(t, saved_and_loaded);
    tcase_add_loop_test(t, payloads_say_so, 0, 4);
    tcase_add_test(t, headers_say_so);
    tcase_add_test(t, what_is_refused);
    return suite_run(s);
}
