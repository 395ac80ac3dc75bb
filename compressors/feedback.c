/* feedback.c : see feedback.h. Plain loops: each is one pass at memory speed next to an encode. */
#include "feedback.h"
#include <math.h>
#include <string.h>

taut_status taut__feedback_create(size_t n, float momentum, taut_feedback **out)
{
    *out = NULL;
    if (!(momentum >= 0 && momentum < 1))
        return taut__fail(TAUT_E_RANGE, "momentum=%g: must be at least 0 and below 1", (double)momentum);
    taut_feedback *f = taut__alloc(1, sizeof *f);
    if (!f) return taut__fail(TAUT_E_NOMEM, "feedback: out of memory");
    f->n = n;
    f->momentum = momentum;
    f->r = taut__alloc(n, sizeof *f->r);
    if (momentum > 0) f->u = taut__alloc(n, sizeof *f->u);
    if (!f->r || (momentum > 0 && !f->u)) {
        taut__feedback_destroy(f);
        return taut__fail(TAUT_E_NOMEM, "feedback: out of memory for the residual of %zu elements", n);
    }
    *out = f;
    return TAUT_OK;
}

void taut__feedback_destroy(taut_feedback *f)
{
    if (!f) return;
    taut__free(f->r);
    taut__free(f->u);
    taut__free(f);
}

/* ---- x = g + r ---- */

static inline float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* IEEE binary16 -> float, exact: shift the exponent into place, then let one multiplication renormalise denormals. */
static inline float half_to_float(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    float    x = from_bits(magnitude) * 0x1p112f;
    if (magnitude >= 0x0f800000) x = from_bits(magnitude | 0x7f800000); /* Inf, NaN */
    return h & 0x8000 ? -x : x;
}

static inline float load(taut_dtype dtype, const void *g, size_t i)
{
    switch (dtype) {
    case TAUT_F16: return half_to_float(((const uint16_t *)g)[i]);
    case TAUT_BF16: return from_bits((uint32_t)((const uint16_t *)g)[i] << 16);
    default: return ((const float *)g)[i];
    }
}

/* Always inlined with constant dtype and fresh, so that each case is its own vectorisable loop. */
static inline __attribute__((always_inline)) void add(float *restrict r, const void *restrict g, size_t n,
                                                      taut_dtype dtype, bool fresh)
{
    for (size_t i = 0; i < n; i++) r[i] = fresh ? load(dtype, g, i) : load(dtype, g, i) + r[i];
}

static inline __attribute__((always_inline)) void add_momentum(float *restrict v, float *restrict u, float m,
                                                               const void *restrict g, size_t n, taut_dtype dtype)
{
    for (size_t i = 0; i < n; i++) {
        u[i] = m * u[i] + load(dtype, g, i); /* DGC eq. 4 */
        v[i] += u[i];
    }
}

void taut__feedback_input(taut_feedback *f, size_t first, size_t n, taut_dtype dtype, const void *g, bool fresh)
{
    float *r = f->r + first;
    if (f->u && !fresh) {
        float *u = f->u + first;
        switch (dtype) {
        case TAUT_F16: add_momentum(r, u, f->momentum, g, n, TAUT_F16); return;
        case TAUT_BF16: add_momentum(r, u, f->momentum, g, n, TAUT_BF16); return;
        default: add_momentum(r, u, f->momentum, g, n, TAUT_F32); return;
        }
    }
    switch (dtype) {
    case TAUT_F16: fresh ? add(r, g, n, TAUT_F16, true) : add(r, g, n, TAUT_F16, false); return;
    case TAUT_BF16: fresh ? add(r, g, n, TAUT_BF16, true) : add(r, g, n, TAUT_BF16, false); return;
    default:
        if (fresh) memcpy(r, g, n * sizeof *r);
        else add(r, g, n, TAUT_F32, false);
    }
}

void taut__feedback_output(taut_feedback *f, size_t first, size_t n)
{
    if (!f->u) return;
    const float *r = f->r + first;
    float       *u = f->u + first;
    for (size_t i = 0; i < n; i++) u[i] = r[i] == 0 ? 0 : u[i];
}

void taut__feedback_clear(taut_feedback *f, size_t first, size_t n)
{
    memset(f->r + first, 0, n * sizeof *f->r);
    if (f->u) memset(f->u + first, 0, n * sizeof *f->u);
}

static size_t scrub(float *x, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) x[i] = 0, found++;
    return found;
}

size_t taut__feedback_scrub(taut_feedback *f, size_t first, size_t n)
{
    return scrub(f->r + first, n) + (f->u ? scrub(f->u + first, n) : 0);
}

/* ---- norms ---- */

enum { LANES = 8 }; /* independent partial sums, added in order at the end: vectorisable and always the same bits */

static inline double square(float e)
{
    return isfinite(e) ? (double)e * e : 0;
}

static double sum(const double *lane)
{
    double s = 0;
    for (int j = 0; j < LANES; j++) s += lane[j];
    return s;
}

static double norm2(const float *e, size_t n)
{
    double lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] += square(e[i + (size_t)j]);
    for (int j = 0; i < n; i++, j++) lane[j] += square(e[i]);
    return sum(lane);
}

static double norm2_scaled(const float *e, const float *s, size_t n)
{
    double lane[LANES] = {0};
    for (size_t i = 0; i < n; i++) lane[i % LANES] += square(e[i]) / ((double)s[i] * s[i]);
    return sum(lane);
}

taut_norm2 taut__norm2(const taut_tensor *t, const float *e, size_t first, size_t n)
{
    taut_norm2 sums = {0, 0};
    if (!t->scale || t->scale_n <= 1) {
        sums.plain = norm2(e, n);
        sums.weighted = t->scale ? sums.plain / ((double)t->scale[0] * t->scale[0]) : sums.plain;
        return sums;
    }
    if (t->scale_n == t->elems) {
        sums.plain = norm2(e, n);
        sums.weighted = norm2_scaled(e, t->scale + first, n);
        return sums;
    }
    for (size_t i = 0, len; i < n; i += len) { /* one scale per row */
        size_t row = (first + i) / t->cols;
        len = taut__min(n - i, (row + 1) * t->cols - (first + i));
        double part = norm2(e + i, len);
        sums.plain += part;
        sums.weighted += part / ((double)t->scale[row] * t->scale[row]);
    }
    return sums;
}

/* ---- checkpoints ---- */

static size_t state_bytes(const taut_feedback *f) { return f->n * sizeof *f->r * (f->u ? 2 : 1); }

taut_status taut__feedback_save(const taut_feedback *f, void *dst, size_t cap, size_t *len)
{
    *len = state_bytes(f);
    if (!dst) return TAUT_OK;
    if (cap < *len) return taut__fail(TAUT_E_CAPACITY, "feedback: %zu bytes given, %zu needed", cap, *len);
    memcpy(dst, f->r, f->n * sizeof *f->r);
    if (f->u) memcpy((uint8_t *)dst + f->n * sizeof *f->r, f->u, f->n * sizeof *f->u);
    return TAUT_OK;
}

static void merge(float *x, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s;
        memcpy(&s, src + i * sizeof s, sizeof s);
        x[i] += isfinite(s) ? s : 0;
    }
}

taut_status taut__feedback_load(taut_feedback *f, const void *src, size_t len)
{
    if (len != state_bytes(f))
        return taut__fail(TAUT_E_MISMATCH, "feedback: saved state has %zu bytes, this layer needs %zu", len,
                          state_bytes(f));
    merge(f->r, src, f->n);
    if (f->u) merge(f->u, (const uint8_t *)src + f->n * sizeof *f->r, f->n);
    return TAUT_OK;
}
