/* grid.c : the codec table: payload header, chunk table, and the walk over chunks. See README.md,
 * docs/wire-format.md. */
#include "../../comm/base/bytes.h"
#include "../basis/basis.h"
#include "grid.h"
#include "../dispatch.h"
#include "grid_chunk.h"
#include "grid_payload.h"
#include "grid_unit.h"
#include <float.h>
#include <math.h>

#define DEAD_UNITS 10000.0 /* the dead zone travels in 1/10000 of the step; decoding does not need it */

static const taut_key keys[] = {
    [GRID_KEY_STEP] = {.name = "step",
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
    [GRID_KEY_BASIS] = {.name = "basis",
                        .kind = TAUT_KEY_INT,
                        .min = 0,
                        .max = BASIS_MOST,
                        .fallback = 0,
                        .help = "matrices in an allreduce: in a basis with so many leading directions, learnt from "
                                "results; with feedback"},
};

static taut_status check(const taut_stage *s, const taut_tensor *t)
{
    (void)t;
    bool step = s->given >> GRID_KEY_STEP & 1, rel = s->given >> GRID_KEY_REL & 1;
    if (step && rel)
        return taut__fail(TAUT_E_INVALID, "grid: step=%g and rel=%g: give one of them", s->value[GRID_KEY_STEP],
                          s->value[GRID_KEY_REL]);
    if (step && (float)s->value[GRID_KEY_STEP] < FLT_MIN)
        return taut__fail(TAUT_E_RANGE, "grid: step=%g: must be %g..%g", s->value[GRID_KEY_STEP], (double)FLT_MIN,
                          (double)FLT_MAX);
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
    return GRID_HEADER + grid_chunks_of(n) * (GRID_ENTRY + GRID_CHUNK_BYTES) +
           taut__ceil_div(n, GRID_BLOCK) * GRID_BLOCK_BYTES + GRID_SLACK;
}

grid_unit taut__grid_unit(const taut_call *c, size_t at, float step, float factor, double dead)
{
    const taut_tensor *t = c->tensor;
    grid_unit          u = {.step = step * factor, .bias = (float)(1.0 - dead), .first = c->first + at};
    if (t && t->scale_n == 1) {
        u.step *= t->scale[0];
    } else if (t && t->scale_n != 0) {
        u.scale = t->scale;
        u.stride = t->scale_n == t->elems ? 1 : t->cols;
    }
    if (u.stride == 0 &&
        u.step < FLT_MIN) { /* its reciprocal may be infinite: divide, as by a scale that all elements share */
        static const float one = 1;
        u.scale = &one;
        u.stride = SIZE_MAX;
    }
    u.inv = 1.0f / u.step;
    return u;
}

/* ---- payload header: u8 kind, u8 log2 of elements per chunk, u16 dead zone, f32 step; then per chunk a u32
 * length ---- */

void taut__grid_put_header(const taut_call *c, unsigned kind, float step, double dead, uint8_t *dst)
{
    unsigned units = (unsigned)lrint(dead * DEAD_UNITS);
    uint32_t bits;
    memcpy(&bits, &step, 4);
    dst[0] =
        (uint8_t)(kind | (c->tensor && c->tensor->scale_n ? GRID_KIND_SCALED : 0) | (c->turned ? GRID_KIND_TURNED : 0));
    dst[1] = GRID_CHUNK_LOG2;
    dst[2] = (uint8_t)units;
    dst[3] = (uint8_t)(units >> 8);
    taut__put32(dst + 4, bits);
}

static uint16_t version_of(const uint8_t *payload)
{
    if ((payload[0] & ~(unsigned)(GRID_KIND_SCALED | GRID_KIND_TURNED)) == GRID_KIND_RANS) return 4;
    return payload[0] & GRID_KIND_TURNED ? 3 : 1;
}

taut_status taut__grid_corrupt(const char *what)
{
    return taut__fail(TAUT_E_CORRUPT, "grid: malformed payload: %s", what);
}

static taut_status get_header(const uint8_t *src, size_t len, grid_header *h)
{
    if (len < GRID_HEADER) return taut__grid_corrupt("shorter than its header");
    uint32_t bits = taut__get32(src + 4);
    h->kind = src[0] & ~(unsigned)(GRID_KIND_SCALED | GRID_KIND_TURNED);
    h->turned = src[0] & GRID_KIND_TURNED;
    h->scaled = src[0] & GRID_KIND_SCALED;
    h->dead = (src[2] | src[3] << 8) / DEAD_UNITS;
    memcpy(&h->step, &bits, 4);
    if (h->kind == GRID_KIND_RANS1 || h->kind == GRID_KIND_RANS2)
        return taut__fail(TAUT_E_VERSION, "grid: payload of code rans as of version %u: this library reads that of 4",
                          h->kind == GRID_KIND_RANS1 ? 1 : 2);
    if (h->kind > GRID_KIND_PACKED && h->kind != GRID_KIND_RANS) return taut__grid_corrupt("unknown kind");
    if (src[1] != GRID_CHUNK_LOG2) return taut__grid_corrupt("unknown chunk size");
    if (!(h->dead >= 0.5 && h->dead <= 0.95)) return taut__grid_corrupt("dead zone");
    if (!(h->step >= 0 && h->step <= FLT_MAX)) return taut__grid_corrupt("step");
    return TAUT_OK;
}

/* Checks header, chunk table and lengths, so that the chunks can be walked without looking at them again. */
taut_status taut__grid_open(const taut_call *c, const uint8_t *src, size_t len, grid_header *h)
{
    TAUT_TRY(get_header(src, len, h));
    size_t bytes = GRID_HEADER, chunks = grid_chunks_of(c->n);
    if (h->turned != c->turned)
        return taut__fail(TAUT_E_MISMATCH,
                          "grid: payload is %s a basis, which the communicator that made it knows; here %s",
                          h->turned ? "in" : "not in", h->turned ? "there is none" : "one is in use");
    if (h->kind == GRID_KIND_RAW) {
        if (len - GRID_HEADER != 4 * c->n) return taut__grid_corrupt("raw length");
        return TAUT_OK;
    }
    if (h->kind == GRID_KIND_ZERO) return len == GRID_HEADER ? TAUT_OK : taut__grid_corrupt("length of zeros");
    if (h->scaled != (c->tensor && c->tensor->scale_n != 0))
        return taut__fail(TAUT_E_MISMATCH, "grid: payload made %s a scale, tensor has %s",
                          h->scaled ? "with" : "without", h->scaled ? "none" : "one");
    if ((len - GRID_HEADER) / GRID_ENTRY < chunks) return taut__grid_corrupt("chunk table");
    bytes += chunks * GRID_ENTRY;
    for (size_t k = 0; k < chunks; k++) {
        size_t l = taut__get32(src + GRID_HEADER + k * GRID_ENTRY);
        if (l > len - bytes) return taut__grid_corrupt("chunk length");
        bytes += l;
    }
    return bytes == len ? TAUT_OK : taut__grid_corrupt("length");
}

/* ---- encode ---- */

/* The floats as they are, as a payload; err = 0. */
static taut_status encode_raw(const taut_call *c, const float *src, double dead, uint8_t *dst, size_t *len, float *err)
{
    taut__grid_put_header(c, GRID_KIND_RAW, 0, dead, dst);
    for (size_t i = 0; i < c->n; i++) {
        uint32_t v;
        memcpy(&v, src + i, 4);
        taut__put32(dst + GRID_HEADER + 4 * i, v);
    }
    if (err) memset(err, 0, c->n * sizeof *err);
    *len = GRID_HEADER + 4 * c->n;
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

taut_status taut__grid_room(const taut_call *c, size_t cap)
{
    size_t need = capacity(taut__stage(c), c->tensor, c->n);
    if (cap < need)
        return taut__fail(TAUT_E_CAPACITY, "grid: %zu bytes for %zu elements: must be at least %zu", cap, c->n, need);
    return TAUT_OK;
}

/* Ends a payload whose chunks lie at dst + GRID_HEADER + table, `bytes` of them. */
size_t taut__grid_close(const taut_call *c, float step, uint8_t *dst, size_t end, bool any)
{
    unsigned kind = !any ? GRID_KIND_ZERO : grid_uses_rans(c) ? GRID_KIND_RANS : GRID_KIND_PACKED;
    taut__grid_put_header(c, kind, step, grid_dead(taut__stage(c)), dst);
    return any ? end : GRID_HEADER;
}

void taut__grid_stay_finite(const taut_call *c, float step, float *dst)
{
    if (step < GRID_HUGE_STEP || !c->calibration || c->calibration->raw) return;
    for (size_t i = 0; i < c->n; i++)
        if (isinf(dst[i])) dst[i] = copysignf(FLT_MAX, dst[i]);
}
void taut__grid_finite_errors(float step, size_t n, float *err)
{
    for (size_t i = 0; err && step >= GRID_HUGE_STEP && i < n; i++)
        if (!isfinite(err[i])) err[i] = 0;
}

static taut_status encode(const taut_call *c, const float *src, uint8_t *dst, size_t cap, size_t *len, float *err)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    double                           dead = grid_dead(taut__stage(c));
    taut_calibration                 own;
    const taut_calibration          *calibration = c->calibration;
    TAUT_TRY(taut__grid_room(c, cap));
    if (!calibration) {
        TAUT_TRY(standalone_calibration(c, src, &own));
        calibration = &own;
    }
    if (calibration->raw) return encode_raw(c, src, dead, dst, len, err);

    float  step = calibration->f[GRID_CALIBRATED_STEP];
    size_t chunks = grid_chunks_of(c->n), end = GRID_HEADER + chunks * GRID_ENTRY;
    bool   any = false;
    for (size_t k = 0; k < chunks; k++) {
        size_t    at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, 1, dead);
        size_t    m = grid_chunk_elems(c->n, k), l;
        float    *e = err ? err + at : NULL;
        if (grid_uses_rans(c)) l = taut__grid_rans_encode(kernels, &u, src + at, m, e, dst + end);
        else l = kernels->encode(&u, src + at, m, e, dst + end);
        taut__put32(dst + GRID_HEADER + k * GRID_ENTRY, (uint32_t)l);
        end += l;
        any |= l != 0;
    }
    taut__grid_finite_errors(step, c->n, err);
    *len = taut__grid_close(c, step, dst, end, any);
    return TAUT_OK;
}

/* ---- decode ---- */

static void decode_raw(const uint8_t *src, size_t n, float *dst, bool add)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v = taut__get32(src + 4 * i);
        float    f;
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
taut_status taut__grid_decode_chunks(const taut_call *c, const grid_header *h, const uint8_t *src, grid_sink sink,
                                     void *dst)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    size_t                           chunks = grid_chunks_of(c->n), from = GRID_HEADER + chunks * GRID_ENTRY;
    grid_rans_chunk                  waiting[GRID_TOGETHER];
    unsigned                         n = 0;
    bool                             ok = true;
    for (size_t k = 0; ok && k < chunks; k++) {
        size_t          at = k * GRID_CHUNK;
        grid_rans_chunk one = {.src = src + from,
                               .len = taut__get32(src + GRID_HEADER + k * GRID_ENTRY),
                               .n = grid_chunk_elems(c->n, k),
                               .dst = (uint8_t *)dst + 4 * at};
        if (sink != GRID_CODES) one.u = taut__grid_unit(c, at, h->step, 1, h->dead);
        from += one.len;
        if (one.len == 0) {
            if (sink == GRID_STORE) memset(one.dst, 0, 4 * one.n);
        } else if (h->kind == GRID_KIND_PACKED) {
            ok = decode_packed(&one, sink);
        } else {
            waiting[n++] = one;
            if (n < GRID_TOGETHER) continue;
            ok = taut__grid_rans_decode(kernels, waiting, n, sink);
            n = 0;
        }
    }
    ok = ok && taut__grid_rans_decode(kernels, waiting, n, sink);
    return ok ? TAUT_OK : taut__grid_corrupt("chunk");
}

static taut_status decode_any(const taut_call *c, const uint8_t *src, size_t len, float *dst, bool add)
{
    grid_header h = {0};
    TAUT_TRY(taut__grid_open(c, src, len, &h));
    if (h.kind == GRID_KIND_RAW) {
        decode_raw(src + GRID_HEADER, c->n, dst, add);
        return TAUT_OK;
    }
    if (h.kind == GRID_KIND_ZERO) {
        if (!add) memset(dst, 0, c->n * sizeof *dst);
        return TAUT_OK;
    }
    TAUT_TRY(taut__grid_decode_chunks(c, &h, src, add ? GRID_ADD : GRID_STORE, dst));
    if (!add) taut__grid_stay_finite(c, h.step, dst);
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
    grid_header h = {0};
    TAUT_TRY(get_header(src, len, &h));
    s->codec = &taut__codec_grid;
    for (int k = 0; k < GRID_KEYS; k++) s->value[k] = keys[k].fallback;
    s->given = 0;
    if (h.kind != GRID_KIND_RAW && h.kind != GRID_KIND_ZERO) {
        s->value[GRID_KEY_STEP] = h.step;
        s->given |= 1u << GRID_KEY_STEP;
    }
    s->value[GRID_KEY_CODE] = h.kind == GRID_KIND_RANS ? GRID_RANS : GRID_PACKED;
    s->value[GRID_KEY_DEAD] = h.dead;
    return TAUT_OK;
}

_Static_assert((int)GRID_STATS <= (int)TAUT_STATS_MAX, "room for statistics");

static const taut_codec_ops host = {
    .collect_stats = taut__grid_collect_stats,
    .calibrate = taut__grid_calibrate,
    .adapt = taut__grid_adapt,
    .rebase = taut__grid_rebase,
    .encode = encode,
    .decode = decode,
    .decode_add = decode_add,
    .integer = &taut__grid_integer,
};

extern const taut_codec_ops taut__grid_device;
const taut_codec            taut__codec_grid = {
               .id = 5,
               .version = 4,
               .oldest = 1,
               .version_of = version_of,
               .name = "grid",
               .help = "one step for the whole tensor with a dead zone, exact sums; step= or rel= (default 0.03), "
                                  "code=packed|rans, dead=0.5..0.95 (0.65), basis=R",
               .caps = TAUT_CAP_SLICEABLE | TAUT_CAP_INTEGER | TAUT_CAP_GLOBAL_STATS,
               .keys = keys,
               .n_keys = GRID_KEYS,
               .n_stats = GRID_STATS,
               .error_key = 1 + GRID_KEY_REL,
               .coarse = 0.2, /* docs/results.md, "At equal loss": nothing lost there, 1.1 to 1.5 times gained at 0.4 */
               .basis_key = 1 + GRID_KEY_BASIS,
               .n_brief = GRID_BRIEF,
               .reshaped = taut__grid_reshaped,
               .norms = GRID_STAT_NORM2,
               .check = check,
               .expands = expands,
               .align = align,
               .capacity = capacity,
               .describe = describe,
               .ops = {[TAUT_HOST] = &host, [TAUT_CUDA] = &taut__grid_device},
};
