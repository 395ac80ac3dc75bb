/* powersgd_math.c : see powersgd_math.h. */
#include "powersgd_math.h"
#include "blas.h"
#include <limits.h>
#include <math.h>
#include <string.h>

/* Four columns, or independent sums, side by side: a vector type of GCC and Clang, for the registers that every x86-64 and
 * aarch64 has. Lanes are independent, so the bits are those of plain loops, which -O2 leaves scalar. */
typedef float quad __attribute__((vector_size(16)));
enum { QUAD = 4, UNROLL = 4, STEP = QUAD * UNROLL };

static inline quad load(const void *p)
{
    quad x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void store(float *p, quad x) { memcpy(p, &x, sizeof x); }

/* ---- products ---- */

static taut__sgemm *blas_for(taut__lowrank d)
{
    return d.rows <= INT_MAX && d.cols <= INT_MAX ? taut__blas_sgemm() : NULL;
}

static float dot(const float *a, const float *b, size_t n)
{
    quad   s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    float  sum = 0;
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        s0 += load(a + i) * load(b + i);
        s1 += load(a + i + QUAD) * load(b + i + QUAD);
        s2 += load(a + i + 2 * QUAD) * load(b + i + 2 * QUAD);
        s3 += load(a + i + 3 * QUAD) * load(b + i + 3 * QUAD);
    }
    for (; i < n; i++) sum += a[i] * b[i];
    s0 = (s0 + s1) + (s2 + s3);
    return sum + ((s0[0] + s0[1]) + (s0[2] + s0[3]));
}

static void add_scaled(float *restrict y, const float *restrict x, float a, size_t n)
{
    size_t i = 0;
    for (; i + QUAD <= n; i += QUAD) store(y + i, load(y + i) + a * load(x + i));
    for (; i < n; i++) y[i] += a * x[i];
}

void taut__lowrank_p(taut__lowrank d, const float *x, const float *qt, float *p)
{
    taut__sgemm *sgemm = blas_for(d);
    if (sgemm) {
        sgemm(TAUT_ROW_MAJOR, TAUT_NO_TRANS, TAUT_TRANS, (int)d.rows, (int)d.rank, (int)d.cols, 1, x, (int)d.cols, qt,
              (int)d.cols, 0, p, (int)d.rank);
        return;
    }
    for (size_t i = 0; i < d.rows; i++)
        for (size_t k = 0; k < d.rank; k++) p[i * d.rank + k] = dot(x + i * d.cols, qt + k * d.cols, d.cols);
}

void taut__lowrank_qt(taut__lowrank d, const float *x, const float *p, float *qt)
{
    taut__sgemm *sgemm = blas_for(d);
    if (sgemm) {
        sgemm(TAUT_ROW_MAJOR, TAUT_TRANS, TAUT_NO_TRANS, (int)d.rank, (int)d.cols, (int)d.rows, 1, p, (int)d.rank, x,
              (int)d.cols, 0, qt, (int)d.cols);
        return;
    }
    memset(qt, 0, d.rank * d.cols * sizeof *qt);
    for (size_t i = 0; i < d.rows; i++)
        for (size_t k = 0; k < d.rank; k++) add_scaled(qt + k * d.cols, x + i * d.cols, p[i * d.rank + k], d.cols);
}

static inline float get(const void *p, size_t i)
{
    float x;
    memcpy(&x, (const uint8_t *)p + i * sizeof x, sizeof x);
    return x;
}

void taut__lowrank_row(taut__lowrank d, const void *p, const void *qt, float factor, size_t from, size_t n, float *out)
{
    const size_t vector = sizeof(quad), stride = d.cols * sizeof(float);
    size_t       j = 0;
    for (; j + STEP <= n; j += STEP) {
        const uint8_t *q = (const uint8_t *)qt + (from + j) * sizeof(float);
        quad           s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        for (size_t k = 0; k < d.rank; k++, q += stride) {
            float a = get(p, k);
            s0 += a * load(q);
            s1 += a * load(q + vector);
            s2 += a * load(q + 2 * vector);
            s3 += a * load(q + 3 * vector);
        }
        store(out + j, factor * s0);
        store(out + j + QUAD, factor * s1);
        store(out + j + 2 * QUAD, factor * s2);
        store(out + j + 3 * QUAD, factor * s3);
    }
    for (; j < n; j++) {
        float sum = 0;
        for (size_t k = 0; k < d.rank; k++) sum += get(p, k) * get(qt, k * d.cols + from + j);
        out[j] = factor * sum;
    }
}

/* ---- orthonormal vectors ---- */

/* Columns of P, or rows of Qt: vector k is x[k * vector + i * element], i < n. */
typedef struct basis {
    float *x;
    size_t n, count, vector, element;
} basis;

static double dot_of(const basis *b, size_t j, size_t k)
{
    const float *x = b->x + j * b->vector, *y = b->x + k * b->vector;
    double       sum = 0;
    for (size_t i = 0; i < b->n; i++) sum += (double)x[i * b->element] * y[i * b->element];
    return sum;
}

static void scale_vector(const basis *b, size_t k, double s)
{
    float *x = b->x + k * b->vector;
    for (size_t i = 0; i < b->n; i++) x[i * b->element] = (float)(x[i * b->element] * s);
}

static void subtract(const basis *b, size_t j, size_t k, double along)
{
    const float *from = b->x + j * b->vector;
    float       *x = b->x + k * b->vector;
    for (size_t i = 0; i < b->n; i++) x[i * b->element] = (float)(x[i * b->element] - along * from[i * b->element]);
}

/* Modified Gram-Schmidt: take the earlier vectors out of vector k, one after the other, and twice, which is enough
 * (Giraud et al. 2005). False if (next to) nothing is left: what remains would be rounding errors. */
static bool orthonormalise_vector(const basis *b, size_t k)
{
    double before = dot_of(b, k, k);
    if (!(before > 0)) return false;
    scale_vector(b, k, 1 / sqrt(before)); /* so that even a denormal vector has all its bits from here on */
    for (int pass = 0; pass < 2; pass++)
        for (size_t j = 0; j < k; j++) subtract(b, j, k, dot_of(b, j, k));
    double after = dot_of(b, k, k);
    if (after < 1e-12) return false; /* 1e-6 of the length: at float's resolution of the products behind it */
    scale_vector(b, k, 1 / sqrt(after));
    return true;
}

static void orthonormalise(const basis *b, uint64_t seed)
{
    enum { ATTEMPTS = 8 }; /* a random vector depends on the others with vanishing probability */
    for (size_t k = 0; k < b->count; k++) {
        bool done = orthonormalise_vector(b, k);
        for (uint64_t attempt = 0; !done && attempt < ATTEMPTS; attempt++) {
            taut__lowrank_random(seed, k * ATTEMPTS + attempt + 1, b->x + k * b->vector, b->n, b->element);
            done = orthonormalise_vector(b, k);
        }
        if (!done) scale_vector(b, k, 0);
    }
}

void taut__lowrank_orthonormalise(taut__lowrank d, float *p, uint64_t seed)
{
    orthonormalise(&(basis){p, d.rows, d.rank, 1, d.rank}, seed);
}

void taut__lowrank_orthonormalise_rows(taut__lowrank d, float *qt, uint64_t seed)
{
    orthonormalise(&(basis){qt, d.cols, d.rank, d.cols, 1}, seed);
}

/* ---- helpers ---- */

void taut__lowrank_normalise_rows(taut__lowrank d, float *qt)
{
    for (size_t k = 0; k < d.rank; k++) {
        float *q = qt + k * d.cols;
        double sum = 0;
        for (size_t j = 0; j < d.cols; j++) sum += (double)q[j] * q[j];
        double s = sum > 0 ? 1 / sqrt(sum) : 0;
        for (size_t j = 0; j < d.cols; j++) q[j] = (float)(q[j] * s);
    }
}

void taut__lowrank_random(uint64_t seed, uint64_t stream, float *x, size_t n, size_t stride)
{
    uint64_t key = taut__seed(seed, stream);
    for (size_t i = 0; i < n; i++) {
        int32_t r = (int32_t)(taut__random32(taut__rng_of(key, i), (uint32_t)i) ^ 0x80000000u);
        x[i * stride] = (float)(r >> 8) * 0x1p-23f; /* 24 bits: exact */
    }
}

bool taut__all_finite(const float *x, size_t n)
{
    float zero = 0; /* 0 * x is 0 or NaN */
    for (size_t i = 0; i < n; i++) zero += 0 * x[i];
    return zero == 0;
}
