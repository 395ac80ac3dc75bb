/* topk.c : the k elements of largest magnitude, exactly; the rest waits in the residual.
 *
 * A whole tensor on its own takes one pass over memory: whatever may be among the k largest (from a sampled estimate)
 * is collected into the free end of the output buffer, and the exact selection happens there. Slices of a tensor take
 * the threshold from calibrate(), so that all slices together hold the k largest of the tensor. */
#include "../ops.h"
#include "../dispatch.h"
#include "topk_select.h"
#include "topk_sparse.h"
#include <string.h>

enum { KEY_DENSITY, KEYS };
enum { CALIBRATED_THRESHOLD, CALIBRATED_LAST_TIE }; /* words of calibration.u */
enum { CHUNK = 2048 };                              /* elements per kernel call */

static const taut_key keys[KEYS] = {
    [KEY_DENSITY] = {.name = "density",
                     .kind = TAUT_KEY_REAL,
                     .min = 0,
                     .max = 1,
                     .fallback = 0.01,
                     .above_min = true,
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

/* The data is looked at in calibrate; collect_stats only has to exist, for calibrate to be called. */
static taut_status collect_stats(const taut_call *c, const float *src, double *stats)
{
    (void)src;
    stats[0] += (double)c->n;
    return TAUT_OK;
}

static taut_status calibrate(const taut_call *c, const double *stats, int ranks, const float *src,
                             taut_calibration *calibration)
{
    (void)stats, (void)ranks;
    size_t            n = c->tensor->elems;
    taut__topk_choice t = taut__topk_select(taut__simd_get()->topk, src, n, kept(taut__stage(c), n));
    *calibration = (taut_calibration){.raw = t.threshold >= TAUT_TOPK_INFINITE};
    calibration->u[CALIBRATED_THRESHOLD] = t.threshold;
    calibration->u[CALIBRATED_LAST_TIE] = t.last_tie;
    return TAUT_OK;
}

/* ---- encode ---- */

/* Which elements of src[0..n) go out. mask and least as in taut__topk_kernels.collect; of the elements whose magnitude
 * is exactly least, those above position last_tie stay. */
typedef struct filter {
    uint32_t mask, least;
    uint64_t last_tie;
} filter;

/* One pass over the slice, chunk by chunk, so that the copy to err happens in cache. copy: NULL, or n floats.
 * place: NULL, or the position in the tensor of each src[i]. */
static void push_filtered(taut__sparse_writer *w, const filter *f, const float *src, size_t n, const uint32_t *place,
                          float *copy)
{
    const taut__topk_kernels *t = taut__simd_get()->topk;
    uint32_t                  pos[CHUNK + TAUT_TOPK_SLACK];
    float                     val[CHUNK + TAUT_TOPK_SLACK];
    for (size_t at = 0; at < n && (copy || !w->full); at += CHUNK) {
        size_t len = taut__min(CHUNK, n - at), found = t->collect(src + at, len, f->mask, f->least, 0, pos, val);
        if (copy) memcpy(copy + at, src + at, len * sizeof *copy);
        for (size_t i = 0; i < found; i++) {
            uint64_t p = at + pos[i];
            if (p <= f->last_tie || taut__topk_magnitude(val[i]) != f->least)
                taut__sparse_push(w, place ? place[p] : p, val[i]);
        }
    }
}

/* The payload of what the filter passes, or of all n floats where that is shorter. */
static size_t encode_filtered(const filter *f, double density, const float *src, size_t n, uint8_t *dst, float *copy)
{
    taut__sparse_writer w;
    taut__sparse_begin(&w, dst, TAUT_SPARSE_HEADER + n * sizeof *src);
    push_filtered(&w, f, src, n, NULL, copy);
    size_t len = taut__sparse_finish(&w, density);
    return len ? len : taut__sparse_raw(src, n, density, dst);
}

/* Sends everything: some element is not finite and must arrive as such, and the others must not be lost with it. */
static size_t encode_all(double density, const float *src, size_t n, uint8_t *dst, float *err)
{
    size_t len = taut__sparse_raw(src, n, density, dst);
    if (err) memset(err, 0, n * sizeof *err);
    return len;
}

/* ---- a whole tensor in one pass ---- */

enum {
    ONE_PASS_FROM = 16384, /* elements; below, everything is in cache and passes are cheap */
    ONE_PASS_SHARE = 8,    /* at most 1/8 kept, so that payload and candidates fit side by side */
    PAYLOAD_PER_KEPT = 12, /* bytes set aside: 4 of value, and far more than an index needs */
};

typedef struct candidates {
    uint32_t *pos;
    float    *val;
    size_t    n, cap;
} candidates;

/* Candidates live in dst, behind the bytes that the payload of k elements may take. */
static candidates candidate_space(uint8_t *dst, size_t n, size_t k)
{
    uint8_t *from = dst + TAUT_SPARSE_HEADER + PAYLOAD_PER_KEPT * k,
            *end = dst + TAUT_SPARSE_HEADER + n * sizeof(float);
    from += -(uintptr_t)from & (sizeof(uint32_t) - 1);
    size_t cap = (size_t)(end - from) / (sizeof(uint32_t) + sizeof(float));
    return (candidates){(uint32_t *)(void *)from, (float *)(void *)(from + cap * sizeof(uint32_t)), 0, cap};
}

/* False if there are too many to keep. */
static bool find_candidates(candidates *c, uint32_t least, const float *src, size_t n, float *copy)
{
    const taut__topk_kernels *t = taut__simd_get()->topk;
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t len = taut__min(CHUNK, n - at);
        if (c->cap - c->n < len + TAUT_TOPK_SLACK) return false;
        c->n += t->collect(src + at, len, TAUT_TOPK_MAGNITUDE, least, (uint32_t)at, c->pos + c->n, c->val + c->n);
        if (copy) memcpy(copy + at, src + at, len * sizeof *copy);
    }
    return true;
}

/* 0 if the sample misled, or if the tensor is not of a kind for this. */
static size_t encode_one_pass(double density, const float *src, size_t n, size_t k, uint8_t *dst, float *err)
{
    if (n < ONE_PASS_FROM || n > UINT32_MAX || k > n / ONE_PASS_SHARE) return 0;
    const taut__topk_kernels *t = taut__simd_get()->topk;
    candidates                c = candidate_space(dst, n, k);
    uint32_t                  least, above;
    taut__topk_estimate(t, src, n, k, &least, &above);
    if (!find_candidates(&c, least, src, n, err == src ? NULL : err) || (c.n < k && least > 1)) return 0;
    taut__topk_choice choice = {1, UINT64_MAX};
    if (c.n >= k) choice = taut__topk_select(t, c.val, c.n, k);
    if (choice.threshold >= TAUT_TOPK_INFINITE) return encode_all(density, src, n, dst, err);
    filter              f = {TAUT_TOPK_MAGNITUDE, choice.threshold, choice.last_tie};
    taut__sparse_writer w;
    taut__sparse_begin(&w, dst, (size_t)((uint8_t *)c.pos - dst));
    push_filtered(&w, &f, c.val, c.n, c.pos, NULL);
    return taut__sparse_finish(&w, density);
}

/* ---- codec ---- */

/* The filter for the elements first .. of a tensor whose k largest are t. */
static filter slice_filter(taut__topk_choice t, uint64_t first)
{
    if (t.last_tie < first) return (filter){TAUT_TOPK_MAGNITUDE, t.threshold + 1, UINT64_MAX}; /* ties lie before */
    return (filter){TAUT_TOPK_MAGNITUDE, t.threshold, t.last_tie - first};
}

static size_t encode_slice(const taut_call *c, taut__topk_choice t, uint64_t first, const float *src, uint8_t *dst,
                           float *err)
{
    double density = taut__stage(c)->value[KEY_DENSITY];
    if (t.threshold >= TAUT_TOPK_INFINITE) return encode_all(density, src, c->n, dst, err);
    filter f = slice_filter(t, first);
    return encode_filtered(&f, density, src, c->n, dst, err == src ? NULL : err);
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const taut_stage *s = taut__stage(c);
    size_t            n = c->n, k = kept(s, n), need = capacity(s, c->tensor, n);
    if (cap < need) return taut__fail(TAUT_E_CAPACITY, "topk: %zu bytes given, %zu needed", cap, need);
    if (c->calibration) {
        taut__topk_choice t = {(uint32_t)c->calibration->u[CALIBRATED_THRESHOLD],
                               c->calibration->u[CALIBRATED_LAST_TIE]};
        *len = encode_slice(c, t, c->first, src, dst, err);
    } else {
        *len = encode_one_pass(s->value[KEY_DENSITY], src, n, k, dst, err);
        if (*len == 0) *len = encode_slice(c, taut__topk_select(taut__simd_get()->topk, src, n, k), 0, src, dst, err);
    }
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

static const taut_codec_ops host = {
    .collect_stats = collect_stats,
    .calibrate = calibrate,
    .encode = encode,
    .encode_exact = encode_exact,
    .decode = decode,
    .decode_add = decode_add,
};

extern const taut_codec_ops taut__topk_device;
const taut_codec            taut__codec_topk = {
               .id = 6,
               .version = 1,
               .name = "topk",
               .help = "the elements of largest magnitude; density: fraction to send, above 0 to 1, default 0.01",
               .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_SPARSE | TAUT_CAP_FEEDBACK,
               .keys = keys,
               .n_keys = KEYS,
               .n_stats = 1,
               .capacity = capacity,
               .describe = describe,
               .ops = {[TAUT_HOST] = &host, [TAUT_CUDA] = &taut__topk_device},
};
