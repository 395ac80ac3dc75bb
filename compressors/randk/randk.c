/* randk.c : random elements, the same on every rank, so that only values travel and sums of payloads are payloads of
 * sums. See randk_pick.h for the choice. A block that holds NaN or Inf decodes as NaN or Inf in whole, as a bucket of
 * quant does: nothing non-finite is lost with the elements that stay behind. */
#include "../ops.h"
#include "../dispatch.h"
#include "../topk/topk_select.h"
#include "randk_pick.h"
#include <math.h>
#include <string.h>

enum { KEY_DENSITY, KEY_SCALE, KEYS };
enum { HEADER = 48, FLAG_SCALED = 1 }; /* u32 flags, u32 0, u64 seed, elems, blocks, first, f64 density */
enum { CHUNK = 2048 };

static const taut_key keys[KEYS] = {
    [KEY_DENSITY] = {.name = "density",
                     .kind = TAUT_KEY_REAL,
                     .min = 0,
                     .max = 1,
                     .fallback = 0.01,
                     .above_min = true,
                     .help = "fraction of the elements to send"},
    [KEY_SCALE] = {.name = "scale",
                   .kind = TAUT_KEY_INT,
                   .min = 0,
                   .max = 1,
                   .fallback = 0,
                   .help = "1: multiply by the block size, which makes the result unbiased; use without feedback"},
};

struct taut_codec_state { /* of the linear rounds: what absorb leaves for reconstruct */
    size_t n;
    float  mean[];
};

/* A slice of the tensor and the blocks that it touches. */
typedef struct slice {
    taut__pick pick;
    uint64_t   first, n;     /* elements of the tensor */
    uint64_t   block, count; /* first block touched, how many */
    bool       scaled;
} slice;

static size_t kept(const taut_stage *s, size_t n)
{
    return taut__max(1, taut__min(n, (size_t)(s->value[KEY_DENSITY] * (double)n + 0.5)));
}

static void find_blocks(slice *s)
{
    s->block = s->count = 0;
    if (s->n == 0 || s->pick.size == 0) return; /* nothing of it, or of a tensor without elements */
    s->block = taut__pick_block(&s->pick, s->first);
    s->count = taut__pick_block(&s->pick, s->first + s->n - 1) - s->block + 1;
}

static slice call_slice(const taut_call *c)
{
    const taut_stage *st = taut__stage(c);
    size_t            elems = c->tensor->elems;
    slice             s = {.pick = taut__pick_init(c->shared_seed, elems, kept(st, elems)),
                           .first = c->first,
                           .n = c->n,
                           .scaled = st->value[KEY_SCALE] != 0};
    find_blocks(&s);
    return s;
}

/* x and the chosen elements differ by (block - 1) times those: 1 / density - 1 times the energy of x, in the mean. */
static const char *expands(const taut_stage *s)
{
    return s->value[KEY_SCALE] != 0 && s->value[KEY_DENSITY] < 1
               ? "scale=1 multiplies what is sent by the block size: use scale=0"
               : NULL;
}

/* At most every kept element of the tensor, at most one per element of the slice, and two blocks that stick out. */
static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    size_t k = kept(s, t->elems), size = taut__max(1, t->elems / k);
    return HEADER + sizeof(float) * taut__min(taut__min(k, n), n / size + 2);
}

/* Blocks are of the tensor, whatever its values. */
static size_t fixed(const taut_stage *s, const taut_tensor *t, size_t first, size_t n)
{
    slice touched = {.pick = taut__pick_init(0, t->elems, kept(s, t->elems)), .first = first, .n = n};
    find_blocks(&touched);
    return HEADER + (size_t)touched.count * sizeof(float);
}

/* ---- values: one per block; those whose element lies in another slice are 0. At any alignment, as in a payload ---- */

static inline float get(const void *value, uint64_t j)
{
    float v;
    memcpy(&v, (const uint8_t *)value + j * sizeof v, sizeof v);
    return v;
}
static inline void put(void *value, uint64_t j, float v) { memcpy((uint8_t *)value + j * sizeof v, &v, sizeof v); }

static void gather(const slice *s, const float *src, void *value)
{
    for (uint64_t j = 0; j < s->count; j++) {
        uint64_t at = taut__pick_elem(&s->pick, s->block + j) - s->first;
        put(value, j, at < s->n ? src[at] : 0);
    }
}

/* A non-finite element anywhere in a block takes the place of its value. */
static void spread_infinite(const slice *s, const float *src, void *value)
{
    const taut__topk_kernels *t = taut__simd_get()->topk;
    uint32_t                  pos[CHUNK + TAUT_TOPK_SLACK];
    float                     val[CHUNK + TAUT_TOPK_SLACK];
    for (uint64_t at = 0; at < s->n; at += CHUNK) {
        size_t found = t->collect(src + at, (size_t)taut__min(CHUNK, s->n - at), TAUT_TOPK_MAGNITUDE,
                                  TAUT_TOPK_INFINITE, 0, pos, val);
        for (size_t i = 0; i < found; i++) {
            uint64_t j = taut__pick_block(&s->pick, s->first + at + pos[i]) - s->block;
            put(value, j, isfinite(get(value, j)) ? val[i] : get(value, j) + val[i]);
        }
    }
}

/* The part of block j (counted from s->block) inside the slice: *from .. *to, relative to its first element. */
static void block_part(const slice *s, uint64_t j, uint64_t *from, uint64_t *to)
{
    uint64_t start = taut__pick_start(&s->pick, s->block + j), end = start + taut__pick_size(&s->pick, s->block + j);
    *from = start > s->first ? start - s->first : 0;
    *to = end < s->first + s->n ? end - s->first : s->n;
}

enum mode { SET, ADD, LEAVE }; /* dst = decoded, dst += decoded, dst = dst - decoded (0 where that is not finite) */

static void fill(float *dst, uint64_t from, uint64_t to, float v, enum mode mode)
{
    for (uint64_t i = from; i < to; i++) dst[i] = mode == SET ? v : mode == ADD ? dst[i] + v : 0;
}

/* Elements that were not chosen decode as 0, which SET expects in dst. */
static void scatter(const slice *s, const void *value, float factor, float *dst, enum mode mode)
{
    for (uint64_t j = 0; j < s->count; j++) {
        uint64_t at = taut__pick_elem(&s->pick, s->block + j) - s->first;
        float    v = get(value, j);
        if (!isfinite(v)) {
            uint64_t from, to;
            block_part(s, j, &from, &to);
            fill(dst, from, to, v, mode);
        } else if (at < s->n) {
            v *= factor * (s->scaled ? (float)taut__pick_size(&s->pick, s->block + j) : 1);
            float left = dst[at] - v;
            dst[at] = mode == SET ? v : mode == ADD ? dst[at] + v : isfinite(left) ? left : 0;
        }
    }
}

/* ---- payloads ---- */

static void put_header(uint8_t *dst, const slice *s, double density)
{
    uint32_t flags[2] = {s->scaled ? FLAG_SCALED : 0, 0};
    uint64_t word[4] = {s->pick.seed, s->pick.elems, s->pick.blocks, s->first};
    memcpy(dst, flags, sizeof flags);
    memcpy(dst + 8, word, sizeof word);
    memcpy(dst + 40, &density, sizeof density);
}

static taut_status encode_slice(const taut_call *c, const slice *s, const float *src, uint8_t *dst, size_t cap,
                                size_t *len)
{
    size_t need = HEADER + (size_t)s->count * sizeof(float);
    if (cap < need) return taut__fail(TAUT_E_CAPACITY, "randk: %zu bytes given, %zu needed", cap, need);
    put_header(dst, s, taut__stage(c)->value[KEY_DENSITY]);
    gather(s, src, dst + HEADER);
    spread_infinite(s, src, dst + HEADER);
    *len = need;
    return TAUT_OK;
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    slice s = call_slice(c);
    TAUT_TRY(encode_slice(c, &s, src, dst, cap, len));
    if (!err) return TAUT_OK;
    if (err != src) memcpy(err, src, c->n * sizeof *err);
    scatter(&s, dst + HEADER, 1, err, LEAVE);
    return TAUT_OK;
}

/* A sum of tensors that were decoded from this step's choice is zero elsewhere, and already scaled. */
static taut_status encode_exact(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len)
{
    slice s = call_slice(c);
    s.scaled = false;
    return encode_slice(c, &s, src, dst, cap, len);
}

static taut_status corrupt(const char *what) { return taut__fail(TAUT_E_CORRUPT, "randk payload: %s", what); }

static taut_status open_payload(const uint8_t *src, size_t len, size_t n, slice *s)
{
    if (len < HEADER) return corrupt("shorter than its header");
    uint32_t flags[2];
    uint64_t word[4];
    memcpy(flags, src, sizeof flags);
    memcpy(word, src + 8, sizeof word);
    if (flags[0] > FLAG_SCALED || flags[1] != 0) return corrupt("unknown flags");
    if (word[1] > INT64_MAX || word[2] == 0 || word[2] > word[1]) return corrupt("element count out of range");
    if (word[3] > word[1] || n > word[1] - word[3]) return corrupt("slice outside the tensor");
    *s = (slice){
        .pick = taut__pick_init(word[0], word[1], word[2]), .first = word[3], .n = n, .scaled = flags[0] & FLAG_SCALED};
    find_blocks(s);
    return (len - HEADER) % sizeof(float) == 0 && (len - HEADER) / sizeof(float) == s->count
               ? TAUT_OK
               : corrupt("length does not match the number of blocks");
}

static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    slice s;
    TAUT_TRY(open_payload(src, len, c->n, &s));
    memset(dst, 0, c->n * sizeof *dst);
    scatter(&s, src + HEADER, 1, dst, SET);
    return TAUT_OK;
}

static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    slice s;
    TAUT_TRY(open_payload(src, len, c->n, &s));
    scatter(&s, src + HEADER, 1, acc, ADD);
    return TAUT_OK;
}

static taut_status describe(const uint8_t *src, size_t len, taut_stage *st)
{
    if (len < HEADER) return corrupt("shorter than its header");
    memcpy(&st->value[KEY_DENSITY], src + 40, sizeof(double));
    st->value[KEY_SCALE] = src[0];
    return st->value[KEY_DENSITY] > 0 && st->value[KEY_DENSITY] <= 1 && src[0] <= FLAG_SCALED
               ? TAUT_OK
               : corrupt("key out of range");
}

/* ---- linear: the values of all ranks are averaged by a native allreduce ---- */

static size_t factor_elems(const taut_stage *s, const taut_tensor *t, int round)
{
    (void)round;
    return kept(s, t->elems);
}

static taut_status project(const taut_call *c, int round, const float *src, float *factor)
{
    (void)round;
    slice s = call_slice(c);
    gather(&s, src, factor);
    spread_infinite(&s, src, factor);
    return TAUT_OK;
}

static taut_status absorb(const taut_call *c, int round, float *factor)
{
    (void)round;
    if (!c->state || c->state->n != kept(taut__stage(c), c->tensor->elems))
        return taut__fail(TAUT_E_STATE, "randk: no state for the averaged values");
    memcpy(c->state->mean, factor, c->state->n * sizeof *factor);
    return TAUT_OK;
}

static taut_status reconstruct(const taut_call *c, float factor, float *dst)
{
    if (!c->state) return taut__fail(TAUT_E_STATE, "randk: no state for the averaged values");
    slice s = call_slice(c);
    memset(dst, 0, c->n * sizeof *dst);
    scatter(&s, c->state->mean, factor, dst, SET);
    return TAUT_OK;
}

static const taut_codec_linear linear = {.rounds = 1, .factor_elems = factor_elems};
static const taut_linear_ops   linear_host = {.project = project, .absorb = absorb, .reconstruct = reconstruct};

/* ---- state: nothing of it outlives a step, so nothing is saved ---- */

static taut_status state_create(const taut_stage *s, const taut_tensor *t, uint64_t shared_seed, taut_place place,
                                taut_codec_state **st)
{
    (void)shared_seed, (void)place;
    size_t n = kept(s, t->elems);
    *st = taut__alloc(1, sizeof **st + n * sizeof(float));
    if (!*st) return taut__fail(TAUT_E_NOMEM, "randk: out of memory for %zu values", n);
    (*st)->n = n;
    return TAUT_OK;
}

static void state_destroy(taut_codec_state *st) { taut__free(st); }

static taut_status state_save(const taut_codec_state *st, void *dst, size_t cap, size_t *len)
{
    (void)st, (void)dst, (void)cap;
    *len = 0;
    return TAUT_OK;
}

static taut_status state_load(taut_codec_state *st, const void *src, size_t len)
{
    (void)st, (void)src;
    return len == 0 ? TAUT_OK : taut__fail(TAUT_E_CORRUPT, "randk state: %zu bytes, must be 0", len);
}

static const taut_codec_ops host = {
    .encode = encode,
    .encode_exact = encode_exact,
    .decode = decode,
    .decode_add = decode_add,
    .linear = &linear_host,
    .state_create = state_create,
    .state_destroy = state_destroy,
    .state_save = state_save,
    .state_load = state_load,
};

extern const taut_codec_ops taut__randk_device;
const taut_codec            taut__codec_randk = {
               .id = 7,
               .version = 1,
               .name = "randk",
               .help = "random elements, the same on all ranks; density: fraction to send, above 0 to 1, default 0.01; "
                                  "scale: 0 or 1 (unbiased), default 0",
               .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_LINEAR | TAUT_CAP_SPARSE | TAUT_CAP_STATEFUL | TAUT_CAP_FEEDBACK |
                       TAUT_CAP_FIXED_SIZE,
               .keys = keys,
               .n_keys = KEYS,
               .expands = expands,
               .capacity = capacity,
               .fixed = fixed,
               .describe = describe,
               .linear = &linear,
               .ops = {[TAUT_HOST] = &host, [TAUT_CUDA] = &taut__randk_device},
};
