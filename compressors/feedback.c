/* feedback.c : see feedback.h. */
#include "feedback.h"
#include "dispatch.h"
#include "vectors.h"
#include "vec/vec.h"
#include <math.h>
#include <string.h>

taut_status taut__feedback_create_in(taut_place place, size_t n, float momentum, taut_feedback **out)
{
    const taut__space *space = taut__memory_of(place.space);
    void              *r = NULL, *u = NULL;
    *out = NULL;
    if (!space) return TAUT_E_UNSUPPORTED;
    if (!(momentum >= 0 && momentum < 1))
        return taut__fail(TAUT_E_RANGE, "momentum=%g: must be at least 0 and below 1", (double)momentum);
    taut_feedback *f = n <= SIZE_MAX / sizeof(float) ? taut__alloc(1, sizeof *f) : NULL;
    if (!f) return taut__fail(TAUT_E_NOMEM, "feedback: out of memory for the residual of %zu elements", n);
    *f = (taut_feedback){.place = place, .n = n, .momentum = momentum};
    taut_status s = space->alloc(place, n * sizeof *f->r, &r);
    if (s == TAUT_OK && momentum > 0) s = space->alloc(place, n * sizeof *f->u, &u);
    f->r = r;
    f->u = u;
    if (s != TAUT_OK) {
        taut__feedback_destroy(f);
        return taut__fail(s, "feedback: out of memory for the residual of %zu elements", n);
    }
    *out = f;
    return TAUT_OK;
}

taut_status taut__feedback_create(size_t n, float momentum, taut_feedback **out)
{
    return taut__feedback_create_in((taut_place){0}, n, momentum, out);
}

void taut__feedback_destroy(taut_feedback *f)
{
    if (!f) return;
    const taut__space *space = taut__memory_of(f->place.space);
    if (space) space->release(f->place, f->r);
    if (space) space->release(f->place, f->u);
    taut__free(f);
}

/* What runs where r lies. NULL on the host, whose code this is. */
static const taut__vectors *elsewhere(const taut_feedback *f)
{
    return taut__on_host(f->place) ? NULL : taut__vectors_of(f->place.space);
}

/* ---- x = g + r ---- */

static void add(float *acc, taut_dtype dtype, const void *g, size_t n)
{
    const taut__vec_kernels *v = taut__simd_get()->vec;
    if (dtype == TAUT_F16) v->add_f16(acc, g, n);
    else if (dtype == TAUT_BF16) v->add_bf16(acc, g, n);
    else v->add(acc, g, n);
}

static void overwrite(float *dst, taut_dtype dtype, const void *g, size_t n)
{
    if (dtype == TAUT_F16) taut__simd_get()->vec->from_f16(dst, g, n);
    else if (dtype == TAUT_BF16) taut__simd_get()->vec->from_bf16(dst, g, n);
    else memcpy(dst, g, n * sizeof *dst);
}

/* DGC eq. 4 on one chunk: u = m u + g, v += u. */
static void add_momentum(float *v, float *u, float m, taut_dtype dtype, const void *g, size_t n)
{
    taut__simd_get()->vec->scale(u, m, n);
    add(u, dtype, g, n);
    taut__simd_get()->vec->add(v, u, n);
}

taut_status taut__feedback_input(taut_feedback *f, size_t first, size_t n, taut_dtype dtype, const void *g, bool fresh)
{
    enum { CHUNK = 4096 }; /* both states of a chunk stay in L1 between the loops */
    float               *r = f->r + first;
    const taut__vectors *v = elsewhere(f);
    if (v) return v->input(f->place, r, f->u ? f->u + first : NULL, f->momentum, dtype, g, n, fresh);
    if (fresh) {
        overwrite(r, dtype, g, n);
        if (f->u) memcpy(f->u + first, r, n * sizeof *r); /* u = m 0 + g */
        return TAUT_OK;
    }
    if (!f->u) {
        add(r, dtype, g, n);
        return TAUT_OK;
    }
    size_t bytes = dtype == TAUT_F32 ? sizeof(float) : sizeof(uint16_t);
    for (size_t i = 0; i < n; i += CHUNK)
        add_momentum(r + i, f->u + first + i, f->momentum, dtype, (const uint8_t *)g + i * bytes,
                     taut__min(CHUNK, n - i));
    return TAUT_OK;
}

taut_status taut__feedback_output(taut_feedback *f, size_t first, size_t n)
{
    if (!f->u) return TAUT_OK;
    const float         *r = f->r + first;
    float               *u = f->u + first;
    const taut__vectors *v = elsewhere(f);
    if (v) return v->output(f->place, r, u, n);
    for (size_t i = 0; i < n; i++) u[i] = r[i] != 0 && isfinite(u[i]) ? u[i] : 0;
    return TAUT_OK;
}

taut_status taut__feedback_clear(taut_feedback *f, size_t first, size_t n)
{
    const taut__space *space = taut__memory_of(f->place.space);
    TAUT_TRY(taut__space_use(space, f->place));
    TAUT_TRY(space->fill(f->place, f->r + first, 0, n * sizeof *f->r));
    return f->u ? space->fill(f->place, f->u + first, 0, n * sizeof *f->u) : TAUT_OK;
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

taut_norm2 taut__norm2(const taut_tensor *t, const float *e, size_t first, size_t n)
{
    const taut__vec_kernels *v = taut__simd_get()->vec;
    taut_norm2               sums = {0, 0};
    if (!t->scale || t->scale_n <= 1) {
        sums.plain = v->sum2(e, n);
        sums.weighted = t->scale ? sums.plain / ((double)t->scale[0] * t->scale[0]) : sums.plain;
        return sums;
    }
    if (t->scale_n == t->elems) {
        sums.plain = v->sum2(e, n);
        sums.weighted = v->sum2_over(e, t->scale + first, n);
        return sums;
    }
    for (size_t i = 0, len; i < n; i += len) { /* one scale per row */
        size_t row = (first + i) / t->cols;
        len = taut__min(n - i, (row + 1) * t->cols - (first + i));
        double part = v->sum2(e + i, len);
        sums.plain += part;
        sums.weighted += part / ((double)t->scale[row] * t->scale[row]);
    }
    return sums;
}

/* ---- checkpoints ---- */

static size_t state_bytes(const taut_feedback *f) { return f->n * sizeof *f->r * (f->u ? 2 : 1); }

/* x: r or u, of n floats; between it and host bytes */
static taut_status fetch(const taut_feedback *f, const float *x, void *dst)
{
    const taut__space *space = taut__memory_of(f->place.space);
    TAUT_TRY(taut__space_use(space, f->place)); /* the program's thread may use another device */
    TAUT_TRY(space->copy(f->place, dst, x, f->n * sizeof *x));
    return space->wait(f->place);
}

taut_status taut__feedback_save(const taut_feedback *f, void *dst, size_t cap, size_t *len)
{
    *len = state_bytes(f);
    if (!dst) return TAUT_OK;
    if (cap < *len) return taut__fail(TAUT_E_CAPACITY, "feedback: %zu bytes given, %zu needed", cap, *len);
    TAUT_TRY(fetch(f, f->r, dst));
    return f->u ? fetch(f, f->u, (uint8_t *)dst + f->n * sizeof *f->r) : TAUT_OK;
}

static void merge(float *x, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s;
        memcpy(&s, src + i * sizeof s, sizeof s);
        if (isfinite(x[i] + s)) x[i] += s;
    }
}

static taut_status merge_into(const taut_feedback *f, float *x, const uint8_t *src)
{
    if (taut__on_host(f->place)) {
        merge(x, src, f->n);
        return TAUT_OK;
    }
    float *copy = taut__alloc(f->n, sizeof *copy);
    if (!copy) return taut__fail(TAUT_E_NOMEM, "feedback: out of memory for the residual of %zu elements", f->n);
    const taut__space *space = taut__memory_of(f->place.space);
    taut_status        s = fetch(f, x, copy);
    if (s == TAUT_OK) merge(copy, src, f->n);
    if (s == TAUT_OK) s = space->copy(f->place, x, copy, f->n * sizeof *x);
    if (s == TAUT_OK) s = space->wait(f->place);
    taut__free(copy);
    return s;
}

taut_status taut__feedback_load(taut_feedback *f, const void *src, size_t len)
{
    if (len != state_bytes(f))
        return taut__fail(TAUT_E_MISMATCH, "feedback: saved state has %zu bytes, this layer needs %zu", len,
                          state_bytes(f));
    TAUT_TRY(merge_into(f, f->r, src));
    return f->u ? merge_into(f, f->u, (const uint8_t *)src + f->n * sizeof *f->r) : TAUT_OK;
}
