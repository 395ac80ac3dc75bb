/* Changes of basis against float64: orthonormal whatever they were made from, undone by their transpose, the leading directions those of the
 * matrix that was shown, the same bits at every level of the CPU, in a file and back; and what is no basis is refused. */
#include "compressors/basis/basis.h"
#include "compressors/basis/basis_kernels.h"
#include "compressors/dispatch.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t shapes[][2] = {{2, 2},   {2, 3},    {9, 2},    {5, 7},    {16, 16},
                                   {17, 15}, {33, 100}, {100, 33}, {64, 130}, {257, 48}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static taut_tensor matrix(size_t rows, size_t cols)
{
    return (taut_tensor){.elems = rows * cols, .rows = rows, .cols = cols};
}

static taut_axes *axes_of(const taut_tensor *t, size_t most)
{
    taut_axes *a;
    ck_assert_int_eq(taut__axes_create(t, most, 7, &a), TAUT_OK);
    return a;
}

static bool show(taut_axes *a, const taut_tensor *t, const float *x, double keep)
{
    taut__axes_learn_begin(a, keep);
    for (size_t i = 0; i < taut__axes_tiles(a); i++) taut__axes_learn(a, t, i, x);
    return taut__axes_renew(a);
}

static void turn(taut_axes *a, const taut_tensor *t, float *x)
{
    for (size_t i = taut__axes_tiles(a); i-- > 0;) taut__axes_turn(a, t, i, x);
}

static void back(taut_axes *a, const taut_tensor *t, float *x)
{
    for (size_t i = 0; i < taut__axes_tiles(a); i++) taut__axes_back(a, t, i, x);
}

/* A matrix whose vectors along the shorter side lie mostly in `rank` directions, of falling energy. */
static void fill_lowrank(float *x, const taut_tensor *t, size_t rank, float rest, uint64_t seed)
{
    size_t n = taut__min(t->rows, t->cols), m = taut__max(t->rows, t->cols);
    float *u = new_floats(m * rank), *v = new_floats(n * rank);
    fill_normal(u, m * rank, 1, seed);
    fill_normal(v, n * rank, 1, 99);
    fill_normal(x, t->elems, rest, seed + 1);
    for (size_t a = 0; a < m; a++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < rank; k++)
                x[t->rows < t->cols ? j * t->cols + a : a * t->cols + j] +=
                    u[a * rank + k] * v[j * rank + k] / (float)(k + 1);
    free(u), free(v);
}

/* Coordinate j of vector a. */
static float at(const taut_tensor *t, const float *x, size_t a, size_t j)
{
    size_t tile = a / 64, m = t->rows - 64 * tile < 64 ? t->rows - 64 * tile : 64;
    return t->rows < t->cols ? x[j * t->cols + a] : x[64 * tile * t->cols + j * m + a % 64];
}

/* ---- orthonormal ---- */

static void check_orthonormal(taut_axes *a, size_t n, const taut_tensor *t)
{
    float *q = new_floats(t->elems), *kept = new_floats(t->elems);
    fill_normal(q, t->elems, 1, 5);
    memcpy(kept, q, t->elems * sizeof *q);
    double before = norm2(q, t->elems);
    turn(a, t, q);
    ck_assert_double_le(fabs(norm2(q, t->elems) - before), 1e-6 * before);
    back(a, t, q);
    ck_assert_double_le(distance2(q, kept, t->elems), 1e-11 * before);
    for (size_t i = 0; i < t->elems; i++) q[i] = 0;
    for (size_t j = 0; j < n; j++) q[t->rows < t->cols ? j * t->cols + j : j * t->cols + j] = 1;
    turn(a, t, q); /* its rows: vector j is row j of Q */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++) sum += (double)at(t, q, i, k) * (double)at(t, q, j, k);
            ck_assert_double_le(fabs(sum - (i == j)), 2e-6);
        }
    free(q), free(kept);
}

START_TEST(orthonormal)
{
    taut_tensor t = matrix(shapes[_i][0], shapes[_i][1]);
    size_t      n = taut__min(t.rows, t.cols), most[] = {1, 3, 16, 20, 256};
    float      *x = new_floats(t.elems);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        taut_axes *a = axes_of(&t, most[i]);
        ck_assert(!taut__axes_ready(a) && taut__axes_digest(a) == 0);
        fill_lowrank(x, &t, 3, 0.1f, 11);
        for (int k = 0; k < 3; k++) ck_assert(show(a, &t, x, 0.9));
        ck_assert(taut__axes_ready(a) && taut__axes_digest(a) != 0);
        check_orthonormal(a, n, &t);
        taut__axes_destroy(a);
    }
    free(x);
}
END_TEST

/* What it was made from may be anything finite: nothing, one direction only, one vector, huge, tiny. */
START_TEST(degenerate)
{
    taut_tensor t = matrix(40, 24);
    float      *x = new_floats(t.elems);
    for (int kind = 0; kind < 5; kind++) {
        taut_axes *a = axes_of(&t, 16);
        memset(x, 0, t.elems * sizeof *x);
        if (kind == 1) fill_lowrank(x, &t, 1, 0, 3);
        if (kind == 2) x[5 * t.cols + 3] = 1;
        if (kind >= 3) fill_lowrank(x, &t, 2, 0.5f, 4);
        for (size_t i = 0; i < t.elems; i++) x[i] *= kind == 3 ? 1e15f : kind == 4 ? 1e-15f : 1;
        ck_assert(show(a, &t, x, 0.9) && show(a, &t, x, 0.9));
        check_orthonormal(a, 24, &t);
        taut__axes_destroy(a);
    }
    free(x);
}
END_TEST

START_TEST(not_finite)
{
    taut_tensor t = matrix(20, 24);
    float      *x = new_floats(t.elems), bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    taut_axes  *a = axes_of(&t, 8);
    fill_lowrank(x, &t, 2, 0.1f, 3);
    ck_assert(show(a, &t, x, 0.9));
    uint64_t digest = taut__axes_digest(a);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float kept = x[77];
        x[77] = bad[i];
        ck_assert(!show(a, &t, x, 0.9));
        x[77] = kept;
        ck_assert_uint_eq(taut__axes_digest(a), digest);
    }
    ck_assert(show(a, &t, x, 0.9));
    ck_assert(taut__axes_digest(a) != digest);
    check_orthonormal(a, 20, &t);
    taut__axes_destroy(a);
    free(x);
}
END_TEST

/* ---- the leading directions ---- */

/* Energies of the leading coordinates, against those of the best subspace: here x has that rank, but for little. */
START_TEST(gathers_energy)
{
    taut_tensor t = matrix(shapes[_i][0], shapes[_i][1]);
    size_t      n = taut__min(t.rows, t.cols), rank = 3;
    float      *x = new_floats(t.elems);
    if (n < 15) rank = 1;
    taut_axes *a = axes_of(&t, rank);
    double     energy[3] = {0}, all, lead = 0;
    for (uint64_t step = 0; step < 6; step++) {
        fill_lowrank(x, &t, rank, 0.01f, 100 + step);
        ck_assert(show(a, &t, x, 0.9));
    }
    fill_lowrank(x, &t, rank, 0.01f, 200); /* one that was not shown */
    all = norm2(x, t.elems);
    turn(a, &t, x);
    for (size_t v = 0; v < taut__max(t.rows, t.cols); v++)
        for (size_t k = 0; k < rank; k++) energy[k] += (double)at(&t, x, v, k) * (double)at(&t, x, v, k);
    for (size_t k = 0; k < rank; k++) lead += energy[k];
    ck_assert_double_ge(lead, (1 - 2e-3) * all);
    if (rank == 3) ck_assert(energy[0] > energy[1] && energy[1] > energy[2]);
    taut__axes_destroy(a);
    free(x);
}
END_TEST

/* keep=0 forgets, and one iteration a step finds what is new. */
START_TEST(follows)
{
    taut_tensor t = matrix(50, 30);
    float      *x = new_floats(t.elems);
    taut_axes  *a = axes_of(&t, 4);
    for (size_t turn_at = 0; turn_at < 2; turn_at++) {
        double lead = 0, all = 0;
        for (int step = 0; step < 4; step++) {
            fill_normal(x, t.elems, 1e-3f, (uint64_t)step);
            for (size_t v = 0; v < 50; v++)
                for (size_t j = 0; j < 3; j++)
                    x[v * 30 + (turn_at ? 20 : 4) + j] = (float)((v * 7 + j * 13 + (size_t)step) % 11) - 5;
            ck_assert(show(a, &t, x, 0));
        }
        turn(a, &t, x);
        for (size_t v = 0; v < 50; v++)
            for (size_t j = 0; j < 30; j++)
                all += at(&t, x, v, j) * at(&t, x, v, j), lead += j < 4 ? at(&t, x, v, j) * at(&t, x, v, j) : 0;
        ck_assert_double_ge(lead, 0.9999 * all);
    }
    taut__axes_destroy(a);
    free(x);
}
END_TEST

/* x / s is what is turned, and s times what comes back. */
START_TEST(scales)
{
    taut_tensor t = matrix(shapes[_i][0], shapes[_i][1]), plain = t;
    float      *x = new_floats(t.elems), *y = new_floats(t.elems), *s = new_floats(t.elems);
    taut_axes  *a = axes_of(&t, 5), *b = axes_of(&t, 5);
    for (int kind = 0; kind < 2; kind++) {
        t.scale = s, t.scale_n = kind ? t.elems : t.rows;
        for (size_t i = 0; i < t.scale_n; i++) s[i] = 0.01f * (float)(1 + i * 7 % 23);
        fill_lowrank(x, &t, 2, 0.3f, 8);
        for (size_t i = 0; i < t.elems; i++) y[i] = x[i] / s[kind ? i : i / t.cols];
        ck_assert(show(a, &t, x, 0.5) && show(b, &plain, y, 0.5));
        ck_assert_uint_eq(taut__axes_digest(a), taut__axes_digest(b));
        double before = norm2(x, t.elems);
        float *kept = new_floats(t.elems);
        memcpy(kept, x, t.elems * sizeof *x);
        turn(a, &t, x), turn(b, &plain, y);
        ck_assert(memcmp(x, y, t.elems * sizeof *x) == 0);
        back(a, &t, x);
        ck_assert_double_le(distance2(x, kept, t.elems), 1e-10 * before);
        free(kept);
    }
    taut__axes_destroy(a), taut__axes_destroy(b);
    free(x), free(y), free(s);
}
END_TEST

/* ---- the same bits ---- */

START_TEST(levels_agree)
{
    enum { MOST_N = 70, MOST_R = 48 };
    float *x = new_floats(BASIS_ROWS * MOST_N), *m = new_floats(4 * MOST_N * MOST_R),
          *want = new_floats(MOST_N * MOST_R), *got = new_floats(MOST_N * MOST_R);
    float                             ab[2 * BASIS_ROWS * MOST_R];
    const struct taut__basis_kernels *p = taut__simd_at(0)->basis, *k;
    fill_normal(m, 4 * MOST_N * MOST_R, 0.3f, 2);
    for (size_t level = 1; taut__simd_at(level); level++) {
        k = taut__simd_at(level)->basis;
        for (size_t n = 2; n <= MOST_N; n += n < 20 ? 1 : 17)
            for (size_t r = BASIS_LANES; r <= MOST_R; r += BASIS_LANES) {
                taut__reflections q = {n, r, m, m + MOST_N * MOST_R, m + 2 * MOST_N * MOST_R, m + 3 * MOST_N * MOST_R};
                for (int backwards = 0; backwards < 2; backwards++) {
                    fill_normal(x, BASIS_ROWS * MOST_N, 1, n);
                    memcpy(want, x, BASIS_ROWS * MOST_N * sizeof *x), memcpy(got, x, BASIS_ROWS * MOST_N * sizeof *x);
                    p->reflect(&q, want, MOST_N, backwards, ab), k->reflect(&q, got, MOST_N, backwards, ab);
                    ck_assert_msg(memcmp(want, got, BASIS_ROWS * MOST_N * sizeof *x) == 0, "%s n=%zu r=%zu",
                                  taut__simd_at(level)->name, n, r);
                }
                p->project(x, MOST_N, n, m, r, want), k->project(x, MOST_N, n, m, r, got);
                ck_assert(memcmp(want, got, BASIS_ROWS * r * sizeof *x) == 0);
                float *c = m + 500;
                fill_normal(want, MOST_N * MOST_R, 1, 3);
                memcpy(got, want, MOST_N * MOST_R * sizeof *got);
                p->outer(x, MOST_N, n, c, r, want), k->outer(x, MOST_N, n, c, r, got);
                ck_assert(memcmp(want, got, MOST_N * MOST_R * sizeof *x) == 0);
            }
    }
    free(x), free(m), free(want), free(got);
}
END_TEST

/* Of a fixed input, made without a function that differs from library to library: the same on any machine, and next year. */
START_TEST(golden)
{
    static const uint64_t want[] = {0x7a703963fcbd8039, 0xbb631f2ca0c456a3, 0xde0c0387868c3825, 0x4ebbded89360faa5};
    static const size_t   shape[][3] = {{40, 24, 8}, {24, 40, 8}, {64, 64, 16}, {30, 100, 40}};
    for (size_t i = 0; i < 4; i++) {
        taut_tensor t = matrix(shape[i][0], shape[i][1]);
        taut_axes  *a = axes_of(&t, shape[i][2]);
        float      *x = new_floats(t.elems);
        taut__rng   rng = taut__rng_of(3, 0);
        for (int step = 0; step < 3; step++) {
            for (size_t k = 0; k < t.elems; k++)
                x[k] = (float)((int32_t)taut__random32(rng, (uint32_t)k) >> 8) * 0x1p-23f * (float)(1 + (k / 5) % 4);
            ck_assert(show(a, &t, x, 0.9));
        }
        ck_assert_msg(taut__axes_digest(a) == want[i] || getenv("TAUT_GOLDEN_PRINT"), "%zu: 0x%016llx", i,
                      (unsigned long long)taut__axes_digest(a));
        if (getenv("TAUT_GOLDEN_PRINT")) printf("0x%016llx, ", (unsigned long long)taut__axes_digest(a));
        taut__axes_destroy(a);
        free(x);
    }
}
END_TEST

/* ---- files ---- */

START_TEST(saved_and_loaded)
{
    taut_tensor t = matrix(shapes[_i][0], shapes[_i][1]);
    float      *x = new_floats(t.elems), *y = new_floats(t.elems);
    taut_axes  *a = axes_of(&t, 6), *b = axes_of(&t, 6);
    for (int shown = 0; shown < 2; shown++) {
        size_t len, again, most;
        fill_lowrank(x, &t, 2, 0.1f, 8);
        if (shown) ck_assert(show(a, &t, x, 0.9));
        ck_assert_int_eq(taut__axes_save(a, NULL, 0, &len), TAUT_OK);
        uint8_t *bytes = malloc(len), *rewritten = malloc(len);
        ck_assert_int_eq(taut__axes_save(a, bytes, len - 1, &again), TAUT_E_CAPACITY);
        ck_assert_int_eq(taut__axes_save(a, bytes, len, &again), TAUT_OK);
        ck_assert_int_eq(taut__axes_check(&t, bytes, len, &most), TAUT_OK);
        ck_assert_uint_eq(most, 6);
        ck_assert_int_eq(taut__axes_load(b, bytes, len), TAUT_OK);
        ck_assert_uint_eq(taut__axes_digest(a), taut__axes_digest(b));
        ck_assert_int_eq(taut__axes_save(b, rewritten, len, &again), TAUT_OK);
        ck_assert(memcmp(bytes, rewritten, len) == 0);
        fill_lowrank(x, &t, 3, 0.1f, 9);
        ck_assert(show(a, &t, x, 0.9) && show(b, &t, x, 0.9)); /* and both go on alike */
        ck_assert_uint_eq(taut__axes_digest(a), taut__axes_digest(b));
        memcpy(y, x, t.elems * sizeof *x);
        turn(a, &t, x), turn(b, &t, y);
        ck_assert(memcmp(x, y, t.elems * sizeof *x) == 0);
        free(bytes), free(rewritten);
    }
    taut__axes_destroy(a), taut__axes_destroy(b);
    free(x), free(y);
}
END_TEST

/* Every truncation and every other shape; every flipped bit is refused, or gives a basis that is orthonormal. */
START_TEST(damaged)
{
    taut_tensor t = matrix(12, 9), others[] = {matrix(12, 8), matrix(13, 9), matrix(9, 9)};
    taut_axes  *a = axes_of(&t, 4), *b = axes_of(&t, 4), *c = axes_of(&t, 5);
    float      *x = new_floats(t.elems);
    size_t      len, most, refused = 0;
    uint8_t     bytes[4096];
    fill_lowrank(x, &t, 2, 0.2f, 8);
    ck_assert(show(a, &t, x, 0.9));
    ck_assert_int_eq(taut__axes_save(a, bytes, sizeof bytes, &len), TAUT_OK);
    uint64_t digest = taut__axes_digest(a);
    for (size_t n = 0; n < len; n++) ck_assert_int_ne(taut__axes_load(a, bytes, n), TAUT_OK);
    for (size_t i = 0; i < 3; i++) ck_assert_int_eq(taut__axes_check(&others[i], bytes, len, &most), TAUT_E_MISMATCH);
    ck_assert_int_eq(taut__axes_load(c, bytes, len), TAUT_E_MISMATCH);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        taut_status s = taut__axes_load(b, bytes, len);
        if (s == TAUT_OK && taut__axes_ready(b)) check_orthonormal(b, 9, &t);
        refused += s != TAUT_OK;
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ck_assert_uint_gt(refused, len);
    ck_assert_uint_eq(taut__axes_digest(a), digest); /* nothing that was refused has changed it */
    taut__axes_destroy(a), taut__axes_destroy(b), taut__axes_destroy(c);
    free(x);
}
END_TEST

START_TEST(no_matrix)
{
    taut_tensor shape[] = {matrix(1, 100), matrix(100, 1), matrix(1, 1)};
    taut_axes  *a;
    for (size_t i = 0; i < 3; i++) {
        ck_assert(!taut__axes_suit(&shape[i]));
        ck_assert_int_eq(taut__axes_create(&shape[i], 4, 1, &a), TAUT_E_UNSUPPORTED);
        ck_assert_ptr_null(a);
        ck_assert(strstr(taut_last_error(), "one-dimensional"));
    }
}
END_TEST

START_TEST(no_memory)
{
    taut_tensor t = matrix(30, 20);
    size_t      held = taut__alloc_bytes();
    for (int64_t i = 0; i < 3; i++) {
        taut_axes *a;
        taut__alloc_fail_after(i);
        ck_assert_int_eq(taut__axes_create(&t, 4, 1, &a), TAUT_E_NOMEM);
        taut__alloc_fail_after(-1);
        ck_assert_ptr_null(a);
        ck_assert_uint_eq(taut__alloc_bytes(), held);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("basis");
    TCase *t = suite_case(s, "basis", 60);
    tcase_add_loop_test(t, orthonormal, 0, SHAPES);
    tcase_add_test(t, degenerate);
    tcase_add_test(t, not_finite);
    tcase_add_loop_test(t, gathers_energy, 0, SHAPES);
    tcase_add_test(t, follows);
    tcase_add_loop_test(t, scales, 0, SHAPES);
    tcase_add_test(t, levels_agree);
    tcase_add_test(t, golden);
    tcase_add_loop_test(t, saved_and_loaded, 0, SHAPES);
    tcase_add_test(t, damaged);
    tcase_add_test(t, no_matrix);
    tcase_add_test(t, no_memory);
    return suite_run(s);
}
