/* powersgd: exact on matrices of its rank, near the best possible on recorded gradients, the same on all ranks, and well
 * again after NaN. randk: the same elements on all ranks, unbiased when scaled. stack: never worse than its first stage. */
#include "compressors/powersgd/powersgd_math.h"
#include "compressors/randk/randk_pick.h"
#include "tests/support/codec_case.h"
#include "../support/suite.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* x = sum over r of sigma_r a_r b_r^T with sigma falling by 3 */
static void low_rank(float *x, size_t rows, size_t cols, size_t rank, float magnitude)
{
    float *a = new_floats(rows), *b = new_floats(cols);
    for (size_t r = 0; r < rank; r++) {
        fill_normal(a, rows, magnitude / powf(3, (float)r), 2 * r + 100);
        fill_normal(b, cols, 1, 2 * r + 101);
        for (size_t i = 0; i < rows * cols; i++) x[i] += a[i / cols] * b[i % cols];
    }
    free(a), free(b);
}

/* One linear step of `ranks` ranks with inputs x[r]; the mean's approximation in out. */
static void linear_step(codec_case *k, taut_codec_state **st, float *const *x, size_t ranks, float *out)
{
    const taut_linear_ops *l = k->codec->ops[TAUT_HOST]->linear;
    for (int round = 0; round < k->codec->linear->rounds; round++) {
        size_t n = k->codec->linear->factor_elems(&k->spec.stage[0], &k->tensor, round);
        float *mean = new_floats(n), *part = new_floats(n), *copy = new_floats(n);
        for (size_t r = 0; r < ranks; r++) {
            k->call.state = st[r];
            ck_assert_int_eq(l->project(&k->call, round, x[r], part), TAUT_OK);
            for (size_t i = 0; i < n; i++) mean[i] += part[i] / (float)ranks;
        }
        for (size_t r = 0; r < ranks; r++) {
            k->call.state = st[r];
            memcpy(copy, mean, n * sizeof *copy);
            ck_assert_int_eq(l->absorb(&k->call, round, copy), TAUT_OK);
        }
        free(mean), free(part), free(copy);
    }
    float *other = new_floats(k->tensor.elems);
    for (size_t r = 0; r < ranks; r++) {
        k->call.state = st[r];
        ck_assert_int_eq(l->reconstruct(&k->call, 1, r ? other : out), TAUT_OK);
        ck_assert(r == 0 || memcmp(other, out, k->tensor.elems * sizeof *out) == 0);
    }
    k->call.state = NULL;
    free(other);
}

static size_t count_nan(const float *x, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += isnan(x[i]) != 0;
    return count;
}

static void create_states(codec_case *k, taut_codec_state **st, size_t ranks)
{
    for (size_t r = 0; r < ranks; r++)
        ck_assert_int_eq(taut__op_state_create(k->codec, &k->spec.stage[0], &k->tensor, 99, (taut_place){0}, &st[r]),
                         TAUT_OK);
}

START_TEST(powersgd_exact_on_its_rank)
{
    static const struct {
        const char *spec;
        size_t      rows, cols, rank;
    } at[] = {{"powersgd:rank=1", 20, 30, 1}, {"powersgd:rank=4", 64, 100, 4}, {"powersgd:rank=4", 100, 64, 2},
              {"powersgd:rank=8", 8, 50, 8},  {"powersgd:rank=4", 33, 17, 0},  {"powersgd:rank=2", 2, 3, 2}};
    static const float magnitudes[] = {1, 1e-6f, 1e-30f, 1e15f};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        for (size_t m = 0; m < sizeof magnitudes / sizeof *magnitudes; m++) {
            codec_case        k;
            taut_codec_state *st[1];
            size_t            n = at[i].rows * at[i].cols;
            float            *x = new_floats(n), *y = new_floats(n), *err = new_floats(n);
            low_rank(x, at[i].rows, at[i].cols, at[i].rank, magnitudes[m]);
            case_open(&k, at[i].spec, at[i].rows, at[i].cols);
            case_round_trip(&k, x, err, y);
            ck_assert_double_le(distance2(x, y, n), 1e-11 * norm2(x, n));
            ck_assert_double_le(norm2(err, n), 1e-11 * norm2(x, n));
            create_states(&k, st, 1);
            for (int step = 0; step < 3; step++) linear_step(&k, st, (float *[]){x}, 1, y);
            ck_assert_double_le(distance2(x, y, n), 1e-11 * norm2(x, n));
            k.call.state = st[0];
            free(x), free(y), free(err);
            case_close(&k);
        }
}
END_TEST

/* Squared error of the best rank-r approximation: eigenvalues of X X^T or X^T X by Jacobi rotations, in double. */
static double best_error(const float *x, size_t rows, size_t cols, size_t rank)
{
    size_t  m = rows < cols ? rows : cols, o = rows < cols ? cols : rows;
    double *a = calloc(m * m, sizeof *a), total = 0, found = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < m; j++)
            for (size_t l = 0; l < o; l++)
                a[i * m + j] +=
                    rows < cols ? (double)x[i * cols + l] * x[j * cols + l] : (double)x[l * cols + i] * x[l * cols + j];
    for (size_t i = 0; i < m; i++) total += a[i * m + i];
    for (int sweep = 0; sweep < 12; sweep++)
        for (size_t p = 0; p < m; p++)
            for (size_t q = p + 1; q < m; q++) {
                if (fabs(a[p * m + q]) < 1e-14 * total) continue;
                double theta = (a[q * m + q] - a[p * m + p]) / (2 * a[p * m + q]);
                double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1),
                       s = t * c;
                for (size_t i = 0; i < m; i++) {
                    double u = a[i * m + p], v = a[i * m + q];
                    a[i * m + p] = c * u - s * v, a[i * m + q] = s * u + c * v;
                }
                for (size_t i = 0; i < m; i++) {
                    double u = a[p * m + i], v = a[q * m + i];
                    a[p * m + i] = c * u - s * v, a[q * m + i] = s * u + c * v;
                }
            }
    for (size_t r = 0; r < rank; r++) { /* the largest that are left */
        size_t best = 0;
        for (size_t i = 1; i < m; i++)
            if (a[i * m + i] > a[best * m + best]) best = i;
        found += a[best * m + best];
        a[best * m + best] = 0;
    }
    free(a);
    return total - found;
}

/* Layer b.0.proj of the GPT trace (128 x 128 at float 66560). Stateless with iterations, and with a warm start over steps,
 * the error is within a few percent of the singular value decomposition's, and never below it. */
START_TEST(powersgd_near_the_best)
{
    enum { ROWS = 128, COLS = 128, AT = 66560, N = ROWS * COLS };
    size_t floats;
    float *trace = trace_floats(&floats);
    if (!trace) return;
    ck_assert_uint_ge(floats, AT + N);
    const float      *x = trace + AT;
    float            *y = new_floats(N);
    codec_case        k;
    taut_codec_state *st[1];
    double            best = best_error(x, ROWS, COLS, 4);
    case_open(&k, "powersgd:rank=4", ROWS, COLS);
    case_round_trip(&k, x, NULL, y);
    ck_assert_double_ge(distance2(x, y, N), best * 0.9999);
    ck_assert_double_le(distance2(x, y, N), best * 1.25);
    create_states(&k, st, 1);
    for (int step = 0; step < 10; step++) {
        k.call.state = st[0];
        case_round_trip(&k, x, NULL, y);
    }
    ck_assert_double_ge(distance2(x, y, N), best * 0.9999);
    ck_assert_double_le(distance2(x, y, N), best * 1.02);
    free(trace), free(y);
    case_close(&k);
}
END_TEST

START_TEST(powersgd_of_several_ranks)
{
    enum { RANKS = 3, ROWS = 40, COLS = 56, N = ROWS * COLS };
    codec_case        k;
    taut_codec_state *st[RANKS];
    float            *x[RANKS], *mean = new_floats(N), *y = new_floats(N);
    case_open(&k, "powersgd:rank=6", ROWS, COLS);
    create_states(&k, st, RANKS);
    for (size_t r = 0; r < RANKS; r++) { /* each of rank 2: the mean has rank 6 */
        x[r] = new_floats(N);
        low_rank(x[r], ROWS, COLS, 2, 1 + (float)r);
        for (size_t i = 0; i < N; i++) x[r][i] *= r == 1 ? (float)(i % COLS % 5) : r == 2 ? (float)(i / COLS % 3) : 1;
        for (size_t i = 0; i < N; i++) mean[i] += x[r][i] / RANKS;
    }
    linear_step(&k, st, x, RANKS, y);
    linear_step(&k, st, x, RANKS, y);
    ck_assert_double_le(distance2(mean, y, N), 1e-10 * norm2(mean, N));

    x[1][77] = NAN; /* everything is NaN for this step, and only for this step */
    linear_step(&k, st, x, RANKS, y);
    ck_assert_uint_eq(count_nan(y, N), N);
    x[1][77] = 0;
    for (size_t i = 0; i < N; i++) mean[i] = (x[0][i] + x[1][i] + x[2][i]) / RANKS;
    linear_step(&k, st, x, RANKS, y);
    linear_step(&k, st, x, RANKS, y);
    ck_assert_double_le(distance2(mean, y, N), 1e-3 * norm2(mean, N)); /* one zeroed element may add a rank */
    for (size_t r = 0; r < RANKS; r++) free(x[r]), taut__op_state_destroy(k.codec, (taut_place){0}, st[r]);
    free(mean), free(y);
    case_close(&k);
}
END_TEST

/* Floats on the wire: the shorter factor twice, the longer once, whichever way the matrix lies. */
START_TEST(powersgd_sends_the_longer_factor_once)
{
    static const size_t sides[][2] = {{128, 512}, {512, 128}, {64, 64}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        codec_case k;
        size_t     rows = sides[i][0], cols = sides[i][1], shorter = rows < cols ? rows : cols, sent = 0;
        case_open(&k, "powersgd:rank=4", rows, cols);
        for (int round = 0; round < k.codec->linear->rounds; round++)
            sent += k.codec->linear->factor_elems(&k.spec.stage[0], &k.tensor, round);
        ck_assert_uint_eq(sent, 4 * (rows + cols + shorter));
        case_close(&k);
    }
}
END_TEST

START_TEST(powersgd_payload_with_nan)
{
    enum { ROWS = 16, COLS = 16, N = ROWS * COLS };
    codec_case k;
    float     *x = new_floats(N), *y = new_floats(N), *err = new_floats(N);
    case_open(&k, "powersgd:rank=2", ROWS, COLS);
    ck_assert_int_eq(taut__op_state_create(k.codec, &k.spec.stage[0], &k.tensor, 99, (taut_place){0}, &k.call.state),
                     TAUT_OK);
    low_rank(x, ROWS, COLS, 2, 1);
    x[3] = INFINITY;
    case_round_trip(&k, x, err, y);
    ck_assert_uint_eq(count_nan(y, N), N);
    ck_assert(norm2(err, N) == 0);
    x[3] = 0;
    for (int step = 0; step < 3; step++) case_round_trip(&k, x, err, y);
    ck_assert_double_le(distance2(x, y, N), 0.2 * norm2(x, N));
    free(x), free(y), free(err);
    case_close(&k);
}
END_TEST

START_TEST(powersgd_state_survives)
{
    enum { ROWS = 32, COLS = 24, N = ROWS * COLS };
    codec_case        k;
    taut_codec_state *st[2];
    float            *x = new_floats(N), *y = new_floats(N), *z = new_floats(N);
    case_open(&k, "powersgd:rank=3", ROWS, COLS);
    create_states(&k, st, 2);
    fill_normal(x, N, 1, 3);
    for (int step = 0; step < 4; step++) linear_step(&k, &st[0], (float *[]){x}, 1, y);
    size_t len, got;
    ck_assert_int_eq(taut__op_state_save(k.codec, (taut_place){0}, st[0], NULL, 0, &len), TAUT_OK);
    uint8_t *blob = malloc(len);
    ck_assert_int_eq(taut__op_state_save(k.codec, (taut_place){0}, st[0], blob, len - 1, &got), TAUT_E_CAPACITY);
    ck_assert_int_eq(taut__op_state_save(k.codec, (taut_place){0}, st[0], blob, len, &got), TAUT_OK);
    ck_assert_int_eq(taut__op_state_load(k.codec, (taut_place){0}, st[1], blob, len), TAUT_OK);
    linear_step(&k, &st[0], (float *[]){x}, 1, y);
    linear_step(&k, &st[1], (float *[]){x}, 1, z);
    ck_assert(memcmp(y, z, N * sizeof *y) == 0);
    ck_assert_int_eq(taut__op_state_load(k.codec, (taut_place){0}, st[1], blob, len - 4), TAUT_E_CORRUPT);
    blob[0] ^= 2;
    ck_assert_int_eq(taut__op_state_load(k.codec, (taut_place){0}, st[1], blob, len), TAUT_E_VERSION);
    blob[0] ^= 2, blob[8] ^= 1;
    ck_assert_int_eq(taut__op_state_load(k.codec, (taut_place){0}, st[1], blob, len), TAUT_E_MISMATCH);
    for (int r = 0; r < 2; r++) taut__op_state_destroy(k.codec, (taut_place){0}, st[r]);
    free(blob), free(x), free(y), free(z);
    case_close(&k);
}
END_TEST

START_TEST(powersgd_refuses_what_does_not_fit)
{
    taut_spec   spec;
    taut_tensor t = {.elems = 60, .rows = 6, .cols = 10};
    ck_assert_int_eq(taut__spec_parse("powersgd:rank=7", &spec), TAUT_OK);
    ck_assert_int_eq(taut__spec_suits(&spec, &t), TAUT_E_RANGE);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "rank=7: must be 1..6"));
    t = (taut_tensor){.elems = 60, .rows = 60, .cols = 1};
    ck_assert_int_eq(taut__spec_suits(&spec, &t), TAUT_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(taut_last_error(), "60 x 1"));
}
END_TEST

START_TEST(orthonormal_whatever_comes)
{
    taut__lowrank d = {50, 1, 8}, turned = {1, 50, 8};
    float        *p = new_floats(d.rows * d.rank), *qt = new_floats(d.rows * d.rank);
    for (int kind = 0; kind < 4; kind++) {
        fill_normal(p, d.rows * d.rank, kind == 3 ? 1e-35f : 1, 3);
        for (size_t i = 0; i < d.rows; i++)
            for (size_t c = 0; c < d.rank; c++)
                if (kind == 0 || (kind == 1 && c % 2)) p[i * d.rank + c] = kind ? p[i * d.rank] * 3 : 0;
                else if (kind == 2 && c) p[i * d.rank + c] = p[i * d.rank] + 1e-4f * p[i * d.rank + c];
        for (size_t i = 0; i < d.rows * d.rank; i++) qt[i % d.rank * d.rows + i / d.rank] = p[i];
        taut__lowrank_orthonormalise(d, p, 1);
        taut__lowrank_orthonormalise_rows(turned, qt, 1);
        for (size_t i = 0; i < d.rows * d.rank; i++) ck_assert(qt[i % d.rank * d.rows + i / d.rank] == p[i]);
        for (size_t a = 0; a < d.rank; a++)
            for (size_t b = 0; b <= a; b++) {
                double dot = 0;
                for (size_t i = 0; i < d.rows; i++) dot += (double)p[i * d.rank + a] * p[i * d.rank + b];
                ck_assert_double_eq_tol(dot, a == b, 1e-6);
            }
    }
    free(p), free(qt);
}
END_TEST

/* ---- randk ---- */

START_TEST(randk_one_per_block)
{
    static const uint64_t n[] = {1, 10, 97, 1000, 12345, ((uint64_t)1 << 34) + 7};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++)
        for (uint64_t k = 1; k <= n[i] && k < 2000; k = k * 2 + 1) {
            taut__pick p = taut__pick_init(5, n[i], k);
            ck_assert_uint_eq(taut__pick_start(&p, k), n[i]);
            size_t wrong = 0; /* one assert in all: each writes to Check's pipe */
            for (uint64_t j = 0; j < k; j++) {
                uint64_t at = taut__pick_elem(&p, j), start = taut__pick_start(&p, j);
                wrong += at < start || at >= taut__pick_start(&p, j + 1);
                wrong += taut__pick_block(&p, at) != j || taut__pick_block(&p, start) != j;
            }
            ck_assert_uint_eq(wrong, 0);
        }
}
END_TEST

/* The seed of the rank does not matter, the shared one does. Slices pick what the whole picks. */
START_TEST(randk_same_on_all_ranks)
{
    enum { N = 5003 };
    codec_case k;
    float     *x = new_floats(N), *y = new_floats(N), *z = new_floats(N);
    fill_normal(x, N, 1, 1);
    case_open(&k, "randk:density=0.03", 1, N);
    case_round_trip(&k, x, NULL, y);
    size_t kept = 0;
    for (size_t i = 0; i < N; i++) kept += y[i] != 0;
    ck_assert_uint_eq(kept, 150);
    k.call.seed++;
    case_round_trip(&k, x, NULL, z);
    ck_assert(memcmp(y, z, N * sizeof *y) == 0);
    for (size_t at = 0; at < N; at += 777) {
        k.call.first = at;
        k.call.n = N - at < 777 ? N - at : 777;
        case_round_trip(&k, x + at, NULL, z + at);
    }
    ck_assert(memcmp(y, z, N * sizeof *y) == 0);
    k.call.first = 0, k.call.n = N, k.call.shared_seed++;
    case_round_trip(&k, x, NULL, z);
    ck_assert(memcmp(y, z, N * sizeof *y) != 0);
    free(x), free(y), free(z);
    case_close(&k);
}
END_TEST

/* Mean over seeds within 4 standard errors, element by element (3 would fail once in 370 elements). */
START_TEST(randk_unbiased_when_scaled)
{
    enum { N = 300, SEEDS = 4000 };
    codec_case k;
    float     *x = new_floats(N), *y = new_floats(N);
    double    *sum = calloc(N, sizeof *sum);
    fill_normal(x, N, 1, 1);
    case_open(&k, "randk:density=0.22,scale=1", 1, N);
    for (k.call.shared_seed = 0; k.call.shared_seed < SEEDS; k.call.shared_seed++) {
        case_round_trip(&k, x, NULL, y);
        for (size_t i = 0; i < N; i++) sum[i] += y[i];
    }
    for (size_t i = 0; i < N; i++) { /* blocks of 4 or 5: variance x^2 (size - 1) */
        double error = fabs(sum[i] / SEEDS - x[i]), standard = fabs(x[i]) * sqrt(4.0 / SEEDS);
        ck_assert_double_le(error, 4 * standard + 1e-6);
    }
    free(x), free(y), free(sum);
    case_close(&k);
}
END_TEST

START_TEST(randk_linear_and_exact)
{
    enum { RANKS = 3, N = 4001 };
    codec_case        k;
    taut_codec_state *st[RANKS];
    float            *x[RANKS], *want = new_floats(N), *got = new_floats(N);
    case_open(&k, "randk:density=0.1,scale=1", 1, N);
    create_states(&k, st, RANKS);
    for (size_t r = 0; r < RANKS; r++) {
        x[r] = new_floats(N);
        fill_normal(x[r], N, 1, r);
        case_round_trip(&k, x[r], NULL, got);
        for (size_t i = 0; i < N; i++) want[i] += got[i];
    }
    ck_assert_int_eq(taut__op_encode_exact(k.codec, &k.call, want, k.payload, k.cap, &k.len), TAUT_OK);
    ck_assert_int_eq(taut__op_decode(k.codec, &k.call, k.payload, k.len, got), TAUT_OK);
    ck_assert(memcmp(want, got, N * sizeof *got) == 0);
    linear_step(&k, st, x, RANKS, got);
    for (size_t i = 0; i < N; i++) ck_assert_float_eq_tol(got[i], want[i] / RANKS, 1e-4f);
    for (size_t r = 0; r < RANKS; r++) free(x[r]), taut__op_state_destroy(k.codec, (taut_place){0}, st[r]);
    free(want), free(got);
    case_close(&k);
}
END_TEST

/* Wherever NaN or Inf stands, it arrives at least there. */
START_TEST(randk_not_finite)
{
    enum { N = 3000 };
    codec_case k;
    float     *x = new_floats(N), *y = new_floats(N), *err = new_floats(N);
    case_open(&k, "randk:density=0.01", 1, N);
    for (size_t at = 0; at < N; at += 61) {
        fill_normal(x, N, 1, at);
        x[at] = at % 2 ? NAN : -INFINITY;
        case_round_trip(&k, x, err, y);
        ck_assert(!isfinite(y[at]));
        size_t wrong = 0; /* blocks are of 100 */
        for (size_t i = 0; i < N; i++) wrong += !isfinite(err[i]) || (i / 100 != at / 100 && !isfinite(y[i]));
        ck_assert_uint_eq(wrong, 0);
    }
    free(x), free(y), free(err);
    case_close(&k);
}
END_TEST

/* ---- stack ---- */

START_TEST(stack_no_worse_than_its_first_stage)
{
    static const char *const pairs[][2] = {{"topk", "stack:topk+quant:bits=4"},
                                           {"powersgd:rank=2", "stack:powersgd:rank=2+topk"},
                                           {"quant:bits=2", "stack:quant:bits=2+topk+topk"},
                                           {"topk", "stack:topk+randk"}};
    enum { ROWS = 64, COLS = 96, N = ROWS * COLS };
    float *x = new_floats(N), *y = new_floats(N), *err = new_floats(N);
    low_rank(x, ROWS, COLS, 3, 1);
    fill_normal(y, N, 0.3f, 8);
    for (size_t i = 0; i < N; i++) x[i] += y[i];
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
        codec_case first, all;
        case_open(&first, pairs[p][0], ROWS, COLS);
        case_open(&all, pairs[p][1], ROWS, COLS);
        case_round_trip(&first, x, NULL, y);
        double before = distance2(x, y, N);
        case_round_trip(&all, x, err, y);
        ck_assert_double_lt(distance2(x, y, N), before);
        ck_assert_double_eq_tol(norm2(err, N), distance2(x, y, N), 1e-5 * before);
        case_close(&first), case_close(&all);
    }
    free(x), free(y), free(err);
}
END_TEST

START_TEST(stack_caps_are_what_all_stages_allow)
{
    taut_spec spec;
    ck_assert_int_eq(taut__spec_parse("stack:topk+randk", &spec), TAUT_OK);
    ck_assert(taut__spec_caps(&spec) & TAUT_CAP_SLICEABLE);
    ck_assert(!(taut__spec_caps(&spec) & (TAUT_CAP_LINEAR | TAUT_CAP_STATEFUL | TAUT_CAP_SPARSE)));
    ck_assert_int_eq(taut__spec_parse("stack:topk+powersgd", &spec), TAUT_OK);
    ck_assert(!(taut__spec_caps(&spec) & TAUT_CAP_SLICEABLE));
    ck_assert_int_eq(taut__spec_parse("topk", &spec), TAUT_OK);
    ck_assert_uint_eq(taut__spec_caps(&spec), spec.stage[0].codec->caps);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lowrank_randk_stack");
    TCase *t = suite_case(s, "property", 60);
    tcase_add_test(t, powersgd_exact_on_its_rank);
    tcase_add_test(t, powersgd_near_the_best);
    tcase_add_test(t, powersgd_of_several_ranks);
    tcase_add_test(t, powersgd_sends_the_longer_factor_once);
    tcase_add_test(t, powersgd_payload_with_nan);
    tcase_add_test(t, powersgd_state_survives);
    tcase_add_test(t, powersgd_refuses_what_does_not_fit);
    tcase_add_test(t, orthonormal_whatever_comes);
    tcase_add_test(t, randk_one_per_block);
    tcase_add_test(t, randk_same_on_all_ranks);
    tcase_add_test(t, randk_unbiased_when_scaled);
    tcase_add_test(t, randk_linear_and_exact);
    tcase_add_test(t, randk_not_finite);
    tcase_add_test(t, stack_no_worse_than_its_first_stage);
    tcase_add_test(t, stack_caps_are_what_all_stages_allow);
    return suite_run(s);
}
