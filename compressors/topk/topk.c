/* topk.c : the k elements of largest magnitude, exactly; the rest waits in the residual.
 *
 * A whole tensor on its own takes one pass over memory: whatever may be among the k largest (from a sampled estimate)
 * is collected into the free end of the output buffer, and the exact selection happens there. Slices of a tensor take
 * the threshold from settle(), so that all slices together hold the k largest of the tensor. */
#include "../codec.h"
#include "../dispatch.h"
#include "topk_select.h"
#include "topk_sparse.h"
#include <string.h>

enum { KEY_DENSITY, KEYS };
enum { PREP_THRESHOLD, PREP_LAST_TIE }; /* words of prep.u */
enum { CHUNK = 2048 };                  /* elements per kernel call */

static const taut_key keys[KEYS] = {
    [KEY_DENSITY] = {.name = "density", .kind = TAUT_KEY_REAL, .min = 0, .max = 1, .fallback = 0.01, .above_min = true,
                     .help = "fraction of the elements to send"},
};

static size_t kept(const taut_stage *s, size_t n)
{
    return taut__min(n, taut__max(1, (size_t)(s->value[KEY_DENSITY] * (double)n + 0.5)));
}

static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)s, (void)t;
    return TAUT_SPARSE_HEADER + n * sizeof(float);
}

/* ---- the whole tensor: threshold ---- */

/* The data is looked at in settle; the survey only has to exist, for settle to be called. */
static taut_status survey(const taut_call *c, const float *src, double *stats)
{
    (void)src;
    stats[0] += (double)c->n;
    return TAUT_OK;
}

static taut_status settle(const taut_call *c, const double *stats, int ranks, const float *src, taut_prep *prep)
{
    (void)stats, (void)ranks;
    size_t            n = c->tensor->elems;
    taut__topk_choice t = taut__topk_select(taut__simd_get()->topk, src, n, kept(taut__stage(c), n));
    *prep = (taut_prep){.raw = t.threshold >= TAUT_TOPK_INFINITE};
    prep->u[PREP_THRESHOLD] = t.threshold;
    prep->u[PREP_LAST_TIE] = t.last_tie;
    return TAUT_OK;
}

/* ---- encode ---- */

/* Which elements of src[0..n) go out. mask and least as in taut__topk_kernels.collect; of the elements whose magnitude
 * is exactly least, those above position last_tie stay. */
typedef struct filter {
    uint32_t mask, least;
    uint64_t last_tie;
} filter;

/* One pass over the slice, chunk by chunk, so that the copy to err happens in cache. copy: NULL, or n floats. */
static void push_slice(taut__sparse_writer *w, const filter *f, const float *src, size_t n, float *copy)
{
    const taut__topk_kernels *t = taut__simd_get()->topk;
    uint32_t pos[CHUNK + TAUT_TOPK_SLACK];
    float    val[CHUNK + TAUT_TOPK_SLACK];
    for (size_t at = 0; at < n && (copy || !w->full); at += CHUNK) {
        size_t len = taut__min(CHUNK, n - at), found = t->collect(src + at, len, f->mask, f->least, 0, pos, val);
        if (copy) memcpy(copy + at, src + at, len * sizeof *copy);
        for (size_t i = 0; i < found; i++)
            if (at + pos[i] <= f->last_tie || taut__topk_magnitude(val[i]) != f->least)
                taut__sparse_push(w, at + pos[i], val[i]);
    }
}

/* The payload of what the filter passes, or of all n floats where that is shorter or asked for. */
static size_t encode_filtered(const filter *f, double density, const float *src, size_t n, uint8_t *dst, float *copy)
{
    taut__sparse_writer w;
    taut__sparse_begin(&w, dst, TAUT_SPARSE_HEADER + n * sizeof *src);
    push_slice(&w, f, src, n, copy);
    size_t len = taut__sparse_finish(&w, density);
    return len ? len : taut__sparse_raw(src, n, density, dst);
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const taut_stage *s = taut__stage(c);
    double            density = s->value[KEY_DENSITY];
    size_t            n = c->n, need = capacity(s, c->tensor, n);
    if (cap < need) return taut__fail(TAUT_E_CAPACITY, "topk: %zu bytes given, %zu needed", cap, need);
    float            *copy = err == src ? NULL : err;
    taut__topk_choice t = c->prep ? (taut__topk_choice){(uint32_t)c->prep->u[PREP_THRESHOLD], c->prep->u[PREP_LAST_TIE]}
                                  : taut__topk_select(taut__simd_get()->topk, src, n, kept(s, n));
    if (t.threshold >= TAUT_TOPK_INFINITE) {
        *len = taut__sparse_raw(src, n, density, dst);
        if (err) memset(err, 0, n * sizeof *err);
        return TAUT_OK;
    }
    uint64_t first = c->prep ? c->first : 0, tie = t.last_tie;
    filter   f = {TAUT_TOPK_MAGNITUDE, t.threshold, tie - first};
    if (tie < first) f.least++, f.last_tie = UINT64_MAX; /* all ties lie in earlier slices */
    *len = encode_filtered(&f, density, src, n, dst, copy);
    return err ? taut__sparse_zero(dst, *len, err, n) : TAUT_OK;
}

/* All that is not +0: the second half of a reduction passes sums on without loss, -0 included. */
static taut_status encode_exact(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len)
{
    const taut_stage *s = taut__stage(c);
    size_t            need = capacity(s, c->tensor, c->n);
    if (cap < need) return taut__fail(TAUT_E_CAPACITY, "topk: %zu bytes given, %zu needed", cap, need);
    filter f = {UINT32_MAX, 1, UINT64_MAX};
    *len = encode_filtered(&f, s->value[KEY_DENSITY], src, c->n, dst, NULL);
    return TAUT_OK;
}

/* ---- decode ---- */

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    return taut__sparse_decode(src, len, dst, c->n);
}

static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    return taut__sparse_decode_add(src, len, acc, c->n);
}

static taut_status describe(const uint8_t *src, size_t len, taut_stage *s)
{
    return taut__sparse_density(src, len, &s->value[KEY_DENSITY]);
}

const taut_codec taut__codec_topk = {
    .id = 6, .version = 1, .name = "topk",
    .help = "the elements of largest magnitude; density: fraction to send, above 0 to 1, default 0.01",
    .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_SPARSE | TAUT_CAP_FEEDBACK,
    .keys = keys, .n_keys = KEYS, .n_stats = 1,
    .capacity = capacity, .survey = survey, .settle = settle,
    .encode = encode, .encode_exact = encode_exact, .decode = decode, .decode_add = decode_add, .describe = describe,
};
