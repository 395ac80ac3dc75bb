/* grid.c : the codec table: payload header, chunk table, and the walk over chunks. See README.md,
 * docs/wire-format.md. */
#include "../../comm/base/bytes.h"
#include "grid.h"
#include "../dispatch.h"
#include "grid_chunk.h"
#include "grid_unit.h"
#include <float.h>
#include <math.h>

enum {
    KIND_RAW = 0,
    KIND_ZERO = 1,
    KIND_PACKED = 2,
    KIND_RANS = 3,
    KIND_SPARSE = 4, /* rans, some of whose chunks are sparse; since version 2 */
    KIND_SCALED = 0x80,
    HEADER = 8,
    ENTRY = 4
};

#define DEAD_UNITS 10000.0 /* the dead zone travels in 1/10000 of the step; decoding does not need it */

static const taut_key keys[] = {
    [GRID_KEY_STEP] =
        {.name = "step",
         .kind = TAUT_KEY_REAL,
         .min = 0,
         .max = FLT_MAX,
         .fallback = 0,
         .above_min = true,
         .help = "distance of reconstruction values, in units of the tensor's scale; instead of rel"},
    [GRID_KEY_REL] = {.name = "rel",
                      .kind = TAUT_KEY_REAL,
                      .min = 0,
                      .max = 1,
                      .fallback = 0.03,
                      .above_min = true,
                      .help = "largest step whose rel_err2 on this tensor stays at or under this"},
    [GRID_KEY_CODE] = {.name = "code",
                       .kind = TAUT_KEY_WORD,
                       .min = 0,
                       .max = 1,
                       .fallback = GRID_PACKED,
                       .words = "packed|rans",
                       .help = "packed: fast; rans: fewest bits"},
    [GRID_KEY_DEAD] = {.name = "dead",
                       .kind = TAUT_KEY_REAL,
                       .min = 0.5,
                       .max = 0.95,
                       .fallback = 0.65,
                       .help = "values below dead*step become 0; also the largest error in steps"},
};

static size_t chunks_of(size_t n)
{
    return taut__ceil_div(n, GRID_CHUNK);
}
static size_t chunk_elems(size_t n, size_t chunk)
{
    return taut__min(GRID_CHUNK, n - chunk * GRID_CHUNK);
}

static taut_status check(const taut_stage *s, const taut_tensor *t)
{
    (void)t;
    bool step = s->given >> GRID_KEY_STEP & 1, rel = s->given >> GRID_KEY_REL & 1;
    if (step && rel)
        return taut__fail(TAUT_E_INVALID, "grid: step=%g and rel=%g: give one of them",
                          s->value[GRID_KEY_STEP], s->value[GRID_KEY_REL]);
    if (step && (float)s->value[GRID_KEY_STEP] < FLT_MIN)
        return taut__fail(TAUT_E_RANGE, "grid: step=%g: must be %g..%g", s->value[GRID_KEY_STEP],
                          (double)FLT_MIN, (double)FLT_MAX);
    return TAUT_OK;
}
/* |error| <= |x| for every element, and rel times the energy in all, or dead * step at most. */
static const char *expands(const taut_stage *s)
{
    bool step = s->given >> GRID_KEY_STEP & 1;
    return !step && s->value[GRID_KEY_REL] >= 1 ? "rel=1 sends nothing: use less" : NULL;
}
static size_t align(const taut_stage *s)
{
    (void)s;
    return GRID_BLOCK;
}
static size_t capacity(const taut_stage *s, const taut_tensor *t, size_t n)
{
    (void)s, (void)t;
    return HEADER + chunks_of(n) * (ENTRY + GRID_CHUNK_BYTES) +
           taut__ceil_div(n, GRID_BLOCK) * GRID_BLOCK_BYTES + GRID_SLACK;
}

grid_unit taut__grid_unit(const taut_call *c, size_t at, float step, float factor, double dead)
{
    const taut_tensor *t = c->tensor;
    grid_unit u = {.step = step * factor, .bias = (float)(1.0 - dead), .first = c->first + at};
    if (t && t->scale_n == 1) {
        u.step *= t->scale[0];
    } else if (t && t->scale_n != 0) {
        u.scale = t->scale;
        u.stride = t->scale_n == t->elems ? 1 : t->cols;
    }
    if (u.stride == 0 && u.step < FLT_MIN) { /* its reciprocal may be infinite: divide, as by a scale that all elements share */
        static const float one = 1;
        u.scale = &one;
        u.stride = SIZE_MAX;
    }
    u.inv = 1.0f / u.step;
    return u;
}

/* ---- payload header: u8 kind, u8 log2 of elements per chunk, u16 dead zone, f32 step; then per chunk a u32
 * length ---- */

typedef struct header {
    unsigned kind; /* without the SCALED bit */
    bool scaled;
    float step;
    double dead;
} header;

static void put_header(const taut_call *c, unsigned kind, float step, double dead, uint8_t *dst)
{
    unsigned units = (unsigned)lrint(dead * DEAD_UNITS);
    uint32_t bits;
    memcpy(&bits, &step, 4);
    dst[0] = (uint8_t)(kind | (c->tensor && c->tensor->scale_n ? KIND_SCALED : 0));
    dst[1] = GRID_CHUNK_LOG2;
    dst[2] = (uint8_t)units;
    dst[3] = (uint8_t)(units >> 8);
    taut__put32(dst + 4, bits);
}

static uint16_t version_of(const uint8_t *payload)
{
    return (payload[0] & ~(unsigned)KIND_SCALED) == KIND_SPARSE ? 2 : 1;
}

static taut_status corrupt(const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "grid: malformed payload: %s", what);
}

static taut_status get_header(const uint8_t *src, size_t len, header *h)
{
    if (len < HEADER) return corrupt("shorter than its header");
    uint32_t bits = taut__get32(src + 4);
    h->kind = src[0] & ~(unsigned)KIND_SCALED;
    h->scaled = src[0] & KIND_SCALED;
    h->dead = (src[2] | src[3] << 8) / DEAD_UNITS;
    memcpy(&h->step, &bits, 4);
    if (h->kind > KIND_SPARSE) return corrupt("unknown kind");
    if (src[1] != GRID_CHUNK_LOG2) return corrupt("unknown chunk size");
    if (!(h->dead >= 0.5 && h->dead <= 0.95)) return corrupt("dead zone");
    if (!(h->step >= 0 && h->step <= FLT_MAX)) return corrupt("step");
    return TAUT_OK;
}

/* Checks header, chunk table and lengths, so that the chunks can be walked without looking at them again. */
static taut_status open_payload(const taut_call *c, const uint8_t *src, size_t len, header *h)
{
    TAUT_TRY(get_header(src, len, h));
    size_t bytes = HEADER, chunks = chunks_of(c->n);
    if (h->kind == KIND_RAW) {
        if (len - HEADER != 4 * c->n) return corrupt("raw length");
        return TAUT_OK;
    }
    if (h->kind == KIND_ZERO) return len == HEADER ? TAUT_OK : corrupt("length of zeros");
    if (h->scaled != (c->tensor && c->tensor->scale_n != 0))
        return taut__fail(TAUT_E_MISMATCH, "grid: payload made %s a scale, tensor has %s",
                          h->scaled ? "with" : "without", h->scaled ? "none" : "one");
    if ((len - HEADER) / ENTRY < chunks) return corrupt("chunk table");
    bytes += chunks * ENTRY;
    for (size_t k = 0; k < chunks; k++) {
        size_t l = taut__get32(src + HEADER + k * ENTRY);
        if (l > len - bytes) return corrupt("chunk length");
        bytes += l;
    }
    return bytes == len ? TAUT_OK : corrupt("length");
}

/* ---- encode ---- */

static taut_status encode_raw(const taut_call *c, const float *src, double dead, uint8_t *dst, size_t *len,
                              float *err)
{
    put_header(c, KIND_RAW, 0, dead, dst);
    for (size_t i = 0; i < c->n; i++) {
        uint32_t v;
        memcpy(&v, src + i, 4);
        taut__put32(dst + HEADER + 4 * i, v);
    }
    if (err) memset(err, 0, c->n * sizeof *err);
    *len = HEADER + 4 * c->n;
    return TAUT_OK;
}

static taut_status standalone_calibration(const taut_call *c, const float *src, taut_calibration *calibration)
{
    double stats[GRID_STATS] = {0};
    memset(calibration, 0, sizeof *calibration);
    if (taut__stage(c)->given >> GRID_KEY_STEP &
        1) { /* blocks without codes travel raw, so there is nothing to look at */
        calibration->f[GRID_CALIBRATED_STEP] = (float)taut__stage(c)->value[GRID_KEY_STEP];
        return TAUT_OK;
    }
    TAUT_TRY(taut__grid_collect_stats(c, src, stats));
    return taut__grid_calibrate(c, stats, 1, src, calibration);
}

static bool uses_rans(const taut_call *c)
{
    return taut__stage(c)->value[GRID_KEY_CODE] == GRID_RANS;
}

static taut_status room(const taut_call *c, size_t cap)
{
    size_t need = capacity(taut__stage(c), c->tensor, c->n);
    if (cap < need)
        return taut__fail(TAUT_E_CAPACITY, "grid: %zu bytes for %zu elements: must be at least %zu", cap,
                          c->n, need);
    return TAUT_OK;
}

/* Ends a payload whose chunks lie at dst + HEADER + table, `bytes` of them. */
static size_t close_payload(const taut_call *c, float step, uint8_t *dst, size_t end, bool any)
{
    unsigned kind = !any ? KIND_ZERO : uses_rans(c) ? KIND_RANS : KIND_PACKED;
    const uint8_t *chunk = dst + HEADER + chunks_of(c->n) * ENTRY;
    for (size_t k = 0; kind == KIND_RANS && k < chunks_of(c->n); k++) {
        size_t bytes = taut__get32(dst + HEADER + k * ENTRY);
        if (taut__grid_rans_is_sparse(chunk, bytes)) kind = KIND_SPARSE;
        chunk += bytes;
    }
    put_header(c, kind, step, grid_dead(taut__stage(c)), dst);
    return any ? end : HEADER;
}

/* With steps near the largest float the code above a finite value may stand for an infinite one: it stands for the largest then.
 * Agreed steps only: elsewhere blocks of floats may hold infinities. */
static const float HUGE_STEP = 0x1p90f;
static void stay_finite(const taut_call *c, float step, float *dst)
{
    if (step < HUGE_STEP || !c->calibration || c->calibration->raw) return;
    for (size_t i = 0; i < c->n; i++)
        if (isinf(dst[i])) dst[i] = copysignf(FLT_MAX, dst[i]);
}
static void finite_errors(float step, size_t n, float *err)
{
    for (size_t i = 0; err && step >= HUGE_STEP && i < n; i++)
        if (!isfinite(err[i])) err[i] = 0;
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len,
                          float *err)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    double dead = grid_dead(taut__stage(c));
    taut_calibration own;
    const taut_calibration *calibration = c->calibration;
    TAUT_TRY(room(c, cap));
    if (!calibration) {
        TAUT_TRY(standalone_calibration(c, src, &own));
        calibration = &own;
    }
    if (calibration->raw) return encode_raw(c, src, dead, dst, len, err);

    float step = calibration->f[GRID_CALIBRATED_STEP];
    size_t chunks = chunks_of(c->n), end = HEADER + chunks * ENTRY;
    bool any = false;
    for (size_t k = 0; k < chunks; k++) {
        size_t at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, 1, dead);
        size_t m = chunk_elems(c->n, k), l;
        float *e = err ? err + at : NULL;
        if (uses_rans(c))
            l = taut__grid_rans_encode(kernels, &u, src + at, m, e, dst + end);
        else
            l = kernels->encode(&u, src + at, m, e, dst + end);
        taut__put32(dst + HEADER + k * ENTRY, (uint32_t)l);
        end += l;
        any |= l != 0;
    }
    finite_errors(step, c->n, err);
    *len = close_payload(c, step, dst, end, any);
    return TAUT_OK;
}

/* ---- decode ---- */

static void decode_raw(const uint8_t *src, size_t n, float *dst, bool add)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v = taut__get32(src + 4 * i);
        float f;
        memcpy(&f, &v, 4);
        dst[i] = add ? dst[i] + f : f;
    }
}

static bool decode_packed(const grid_rans_chunk *k, grid_sink sink)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    return sink == GRID_CODES ? kernels->unpack_add(k->src, k->len, k->n, k->dst)
                              : kernels->decode(&k->u, k->src, k->len, k->n, k->dst, sink == GRID_ADD);
}

/* The chunks of an opened payload, of kind PACKED or RANS -> dst, floats or codes. */
static taut_status decode_chunks(const taut_call *c, const header *h, const uint8_t *src, grid_sink sink, void *dst)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    size_t chunks = chunks_of(c->n), from = HEADER + chunks * ENTRY;
    grid_rans_chunk waiting[GRID_TOGETHER];
    unsigned n = 0;
    bool ok = true;
    for (size_t k = 0; ok && k < chunks; k++) {
        size_t at = k * GRID_CHUNK;
        grid_rans_chunk one = {.src = src + from,
                               .len = taut__get32(src + HEADER + k * ENTRY),
                               .n = chunk_elems(c->n, k),
                               .dst = (uint8_t *)dst + 4 * at};
        if (sink != GRID_CODES) one.u = taut__grid_unit(c, at, h->step, 1, h->dead);
        from += one.len;
        if (one.len == 0) {
            if (sink == GRID_STORE) memset(one.dst, 0, 4 * one.n);
        } else if (h->kind == KIND_PACKED) {
            ok = decode_packed(&one, sink);
        } else {
            waiting[n++] = one;
            if (n < GRID_TOGETHER) continue;
            ok = taut__grid_rans_decode(kernels, waiting, n, sink);
            n = 0;
        }
    }
    ok = ok && taut__grid_rans_decode(kernels, waiting, n, sink);
    return ok ? TAUT_OK : corrupt("chunk");
}

static taut_status decode_any(const taut_call *c, const uint8_t *src, size_t len, float *dst, bool add)
{
    header h = {0};
    TAUT_TRY(open_payload(c, src, len, &h));
    if (h.kind == KIND_RAW) {
        decode_raw(src + HEADER, c->n, dst, add);
        return TAUT_OK;
    }
    if (h.kind == KIND_ZERO) {
        if (!add) memset(dst, 0, c->n * sizeof *dst);
        return TAUT_OK;
    }
    TAUT_TRY(decode_chunks(c, &h, src, add ? GRID_ADD : GRID_STORE, dst));
    if (!add) stay_finite(c, h.step, dst);
    return TAUT_OK;
}
static taut_status decode(const taut_call *c, const uint8_t *src, size_t len, float *dst)
{
    return decode_any(c, src, len, dst, false);
}
static taut_status decode_add(const taut_call *c, const uint8_t *src, size_t len, float *acc)
{
    return decode_any(c, src, len, acc, true);
}

static taut_status describe(const uint8_t *src, size_t len, taut_stage *s)
{
    header h = {0};
    TAUT_TRY(get_header(src, len, &h));
    s->codec = &taut__codec_grid;
    for (int k = 0; k < GRID_KEYS; k++) s->value[k] = keys[k].fallback;
    s->given = 0;
    if (h.kind != KIND_RAW && h.kind != KIND_ZERO) {
        s->value[GRID_KEY_STEP] = h.step;
        s->given |= 1u << GRID_KEY_STEP;
    }
    s->value[GRID_KEY_CODE] = h.kind == KIND_RANS || h.kind == KIND_SPARSE ? GRID_RANS : GRID_PACKED;
    s->value[GRID_KEY_DEAD] = h.dead;
    return TAUT_OK;
}

/* ---- codes ---- */

static taut_status call_step(const taut_call *c, float *step)
{
    if (c->calibration && !c->calibration->raw)
        *step = c->calibration->f[GRID_CALIBRATED_STEP];
    else if (!c->calibration && taut__stage(c)->given >> GRID_KEY_STEP & 1)
        *step = (float)taut__stage(c)->value[GRID_KEY_STEP];
    else
        return taut__fail(TAUT_E_INVALID, "grid: codes need an agreed step: collect statistics and calibrate first");
    return TAUT_OK;
}

static taut_status no_codes(float step, int32_t limit)
{
    return taut__fail(TAUT_E_RANGE, "grid: step=%g: a code exceeds %d", (double)step, limit);
}

static taut_status quantize(const taut_call *c, const float *src, int32_t *q, float *err, int32_t limit)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float step = 0;
    TAUT_TRY(call_step(c, &step));
    for (size_t k = 0; k < chunks_of(c->n); k++) {
        size_t at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, 1, grid_dead(taut__stage(c)));
        if (!kernels->quantize(&u, src + at, chunk_elems(c->n, k), q + at, err ? err + at : NULL, limit))
            return no_codes(step, limit);
    }
    finite_errors(step, c->n, err);
    return TAUT_OK;
}

static taut_status pack(const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap, size_t *len)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float step = 0;
    TAUT_TRY(call_step(c, &step));
    TAUT_TRY(room(c, cap));
    size_t chunks = chunks_of(c->n), end = HEADER + chunks * ENTRY;
    bool any = false;
    for (size_t k = 0; k < chunks; k++) {
        const int32_t *codes = q + k * GRID_CHUNK;
        size_t m = chunk_elems(c->n, k), l;
        if (uses_rans(c))
            l = taut__grid_rans_pack(kernels, codes, m, dst + end);
        else
            l = kernels->pack(codes, m, dst + end);
        taut__put32(dst + HEADER + k * ENTRY, (uint32_t)l);
        end += l;
        any |= l != 0;
    }
    *len = close_payload(c, step, dst, end, any);
    return TAUT_OK;
}

static taut_status quantize_pack(const taut_call *c, const float *src, int32_t *q, float *err, int32_t limit,
                                 uint8_t *dst, size_t cap, size_t *len)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float step = 0;
    if (uses_rans(c)) {
        TAUT_TRY(quantize(c, src, q, err, limit));
        return pack(c, q, dst, cap, len);
    }
    TAUT_TRY(call_step(c, &step));
    TAUT_TRY(room(c, cap));
    size_t chunks = chunks_of(c->n), end = HEADER + chunks * ENTRY;
    bool any = false;
    for (size_t k = 0; k < chunks; k++) {
        size_t at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, 1, grid_dead(taut__stage(c)));
        size_t l = kernels->quantize_pack(&u, src + at, chunk_elems(c->n, k), q + at, err ? err + at : NULL,
                                          limit, dst + end);
        if (l == GRID_NO_CODES) return no_codes(step, limit);
        taut__put32(dst + HEADER + k * ENTRY, (uint32_t)l);
        end += l;
        any |= l != 0;
    }
    finite_errors(step, c->n, err);
    *len = close_payload(c, step, dst, end, any);
    return TAUT_OK;
}

/* Opens a payload of codes with the agreed step. */
static taut_status open_codes(const taut_call *c, const uint8_t *src, size_t len, header *h)
{
    float step = 0;
    TAUT_TRY(call_step(c, &step));
    TAUT_TRY(open_payload(c, src, len, h));
    if (h->kind == KIND_RAW) return corrupt("floats where codes are due");
    if (h->kind != KIND_ZERO && h->step != step)
        return taut__fail(TAUT_E_MISMATCH, "grid: payload has step %g, agreed is %g", (double)h->step,
                          (double)step);
    return TAUT_OK;
}

static taut_status unpack_add(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc)
{
    header h = {0};
    TAUT_TRY(open_codes(c, src, len, &h));
    return h.kind == KIND_ZERO ? TAUT_OK : decode_chunks(c, &h, src, GRID_CODES, acc);
}

static taut_status dequantize(const taut_call *c, const int32_t *q, float factor, float *dst)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float step = 0;
    TAUT_TRY(call_step(c, &step));
    for (size_t k = 0; k < chunks_of(c->n); k++) {
        size_t at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, factor, grid_dead(taut__stage(c)));
        kernels->dequantize(&u, q + at, chunk_elems(c->n, k), dst + at);
    }
    stay_finite(c, step, dst);
    return TAUT_OK;
}

static taut_status unpack_values(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc, float *dst)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    header h = {0};
    TAUT_TRY(open_codes(c, src, len, &h));
    if (h.kind != KIND_PACKED) {
        if (h.kind != KIND_ZERO) TAUT_TRY(decode_chunks(c, &h, src, GRID_CODES, acc));
        return dequantize(c, acc, 1, dst);
    }
    size_t chunks = chunks_of(c->n), from = HEADER + chunks * ENTRY;
    for (size_t k = 0; k < chunks; k++) {
        size_t at = k * GRID_CHUNK, l = taut__get32(src + HEADER + k * ENTRY), m = chunk_elems(c->n, k);
        grid_unit u = taut__grid_unit(c, at, h.step, 1, h.dead);
        if (l == 0) kernels->dequantize(&u, acc + at, m, dst + at);
        else if (!kernels->unpack_values(&u, src + from, l, m, acc + at, dst + at)) return corrupt("chunk");
        from += l;
    }
    stay_finite(c, h.step, dst);
    return TAUT_OK;
}

static const taut_integer_ops integer = {
    .quantize = quantize, .pack = pack, .quantize_pack = quantize_pack, .unpack_add = unpack_add,
    .unpack_values = unpack_values, .dequantize = dequantize};

static const taut_codec_ops host = {
    .collect_stats = taut__grid_collect_stats,
    .calibrate = taut__grid_calibrate,
    .adapt = taut__grid_adapt,
    .rebase = taut__grid_rebase,
    .encode = encode,
    .decode = decode,
    .decode_add = decode_add,
    .integer = &integer,
};

const taut_codec taut__codec_grid = {
    .id = 5,
    .version = 2,
    .oldest = 1,
    .version_of = version_of,
    .name = "grid",
    .help = "one step for the whole tensor with a dead zone, exact sums; step= or rel= (default 0.03), "
            "code=packed|rans, dead=0.5..0.95 (0.65)",
    .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_INTEGER | TAUT_CAP_GLOBAL_STATS,
    .keys = keys,
    .n_keys = GRID_KEYS,
    .n_stats = GRID_STATS,
    .error_key = 1 + GRID_KEY_REL,
    .n_brief = GRID_BRIEF,
    .norms = GRID_STAT_NORM2,
    .check = check,
    .expands = expands,
    .align = align,
    .capacity = capacity,
    .describe = describe,
    .ops = {[TAUT_HOST] = &host},
};
