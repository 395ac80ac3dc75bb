/* grid_codes.c : grid as an integer codec: codes, their payloads, and sums of them.
 *
 * Where calibration says `raw` (some rank holds NaN or Inf, or codes would overflow), the same calls carry the floats themselves: a code
 * is the 32 bits of a float, payloads are of kind RAW, sums are sums of floats. So whoever must not look at the calibration, because it
 * lies on a device, goes the same way whatever it says. */
#include "../../comm/base/bytes.h"
#include "../dispatch.h"
#include "grid_chunk.h"
#include "grid_payload.h"
#include "grid_unit.h"
#include <math.h>
#include <string.h>

/* ---- raw ---- */

static bool  is_raw(const taut_call *c) { return c->calibration && c->calibration->raw; }
static float float_of(int32_t q)
{
    float x;
    memcpy(&x, &q, sizeof x);
    return x;
}
static int32_t bits_of(float x)
{
    int32_t q;
    memcpy(&q, &x, sizeof q);
    return q;
}

static taut_status raw_quantize(const taut_call *c, const float *src, int32_t *q, float *err)
{
    memcpy(q, src, c->n * sizeof *q);
    if (err) memset(err, 0, c->n * sizeof *err);
    return TAUT_OK;
}
static taut_status raw_pack(const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap, size_t *len)
{
    TAUT_TRY(taut__grid_room(c, cap));
    taut__grid_put_header(c, GRID_KIND_RAW, 0, grid_dead(taut__stage(c)), dst);
    for (size_t i = 0; i < c->n; i++) taut__put32(dst + GRID_HEADER + 4 * i, (uint32_t)q[i]);
    *len = GRID_HEADER + 4 * c->n;
    return TAUT_OK;
}
static taut_status raw_unpack(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc)
{
    grid_header h = {0};
    TAUT_TRY(taut__grid_open(c, src, len, &h));
    if (h.kind != GRID_KIND_RAW) return taut__grid_corrupt("codes where floats are due");
    for (size_t i = 0; i < c->n; i++)
        acc[i] = bits_of(float_of(acc[i]) + float_of((int32_t)taut__get32(src + GRID_HEADER + 4 * i)));
    return TAUT_OK;
}
static taut_status raw_values(const taut_call *c, const int32_t *q, float factor, float *dst)
{
    for (size_t i = 0; i < c->n; i++) dst[i] = factor == 1 ? float_of(q[i]) : float_of(q[i]) * factor;
    return TAUT_OK;
}

/* ---- encode ---- */

static taut_status call_step(const taut_call *c, float *step)
{
    if (c->calibration) *step = c->calibration->f[GRID_CALIBRATED_STEP];
    else if (!c->calibration && taut__stage(c)->given >> GRID_KEY_STEP & 1)
        *step = (float)taut__stage(c)->value[GRID_KEY_STEP];
    else return taut__fail(TAUT_E_INVALID, "grid: codes need an agreed step: collect statistics and calibrate first");
    return TAUT_OK;
}

static taut_status no_codes(float step, int32_t limit)
{
    return taut__fail(TAUT_E_RANGE, "grid: step=%g: a code exceeds %d", (double)step, limit);
}

static taut_status quantize(const taut_call *c, const float *src, int32_t *q, float *err, int32_t limit)
{
    if (is_raw(c)) return raw_quantize(c, src, q, err);
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float                            step = 0;
    TAUT_TRY(call_step(c, &step));
    for (size_t k = 0; k < grid_chunks_of(c->n); k++) {
        size_t    at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, 1, grid_dead(taut__stage(c)));
        if (!kernels->quantize(&u, src + at, grid_chunk_elems(c->n, k), q + at, err ? err + at : NULL, limit))
            return no_codes(step, limit);
    }
    taut__grid_finite_errors(step, c->n, err);
    return TAUT_OK;
}

static taut_status pack(const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap, size_t *len)
{
    if (is_raw(c)) return raw_pack(c, q, dst, cap, len);
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float                            step = 0;
    TAUT_TRY(call_step(c, &step));
    TAUT_TRY(taut__grid_room(c, cap));
    size_t chunks = grid_chunks_of(c->n), end = GRID_HEADER + chunks * GRID_ENTRY;
    bool   any = false;
    for (size_t k = 0; k < chunks; k++) {
        const int32_t *codes = q + k * GRID_CHUNK;
        size_t         m = grid_chunk_elems(c->n, k), l;
        if (grid_uses_rans(c)) l = taut__grid_rans_pack(kernels, codes, m, dst + end);
        else l = kernels->pack(codes, m, dst + end);
        taut__put32(dst + GRID_HEADER + k * GRID_ENTRY, (uint32_t)l);
        end += l;
        any |= l != 0;
    }
    *len = taut__grid_close(c, step, dst, end, any);
    return TAUT_OK;
}

static taut_status quantize_pack(const taut_call *c, const float *src, int32_t *q, float *err, int32_t limit,
                                 uint8_t *dst, size_t cap, size_t *len)
{
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float                            step = 0;
    if (grid_uses_rans(c) || is_raw(c)) {
        TAUT_TRY(quantize(c, src, q, err, limit));
        return pack(c, q, dst, cap, len);
    }
    TAUT_TRY(call_step(c, &step));
    TAUT_TRY(taut__grid_room(c, cap));
    size_t chunks = grid_chunks_of(c->n), end = GRID_HEADER + chunks * GRID_ENTRY;
    bool   any = false;
    for (size_t k = 0; k < chunks; k++) {
        size_t    at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, 1, grid_dead(taut__stage(c)));
        size_t l = kernels->quantize_pack(&u, src + at, grid_chunk_elems(c->n, k), q + at, err ? err + at : NULL, limit,
                                          dst + end);
        if (l == GRID_NO_CODES) return no_codes(step, limit);
        taut__put32(dst + GRID_HEADER + k * GRID_ENTRY, (uint32_t)l);
        end += l;
        any |= l != 0;
    }
    taut__grid_finite_errors(step, c->n, err);
    *len = taut__grid_close(c, step, dst, end, any);
    return TAUT_OK;
}

/* ---- decode ---- */

/* Opens a payload of codes with the agreed step. */
static taut_status open_codes(const taut_call *c, const uint8_t *src, size_t len, grid_header *h)
{
    float step = 0;
    TAUT_TRY(call_step(c, &step));
    TAUT_TRY(taut__grid_open(c, src, len, h));
    if (h->kind == GRID_KIND_RAW) return taut__grid_corrupt("floats where codes are due");
    if (h->kind != GRID_KIND_ZERO && h->step != step)
        return taut__fail(TAUT_E_MISMATCH, "grid: payload has step %g, agreed is %g", (double)h->step, (double)step);
    return TAUT_OK;
}

static taut_status unpack_add(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc)
{
    if (is_raw(c)) return raw_unpack(c, src, len, acc);
    grid_header h = {0};
    TAUT_TRY(open_codes(c, src, len, &h));
    return h.kind == GRID_KIND_ZERO ? TAUT_OK : taut__grid_decode_chunks(c, &h, src, GRID_CODES, acc);
}

static taut_status dequantize(const taut_call *c, const int32_t *q, float factor, float *dst)
{
    if (is_raw(c)) return raw_values(c, q, factor, dst);
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    float                            step = 0;
    TAUT_TRY(call_step(c, &step));
    for (size_t k = 0; k < grid_chunks_of(c->n); k++) {
        size_t    at = k * GRID_CHUNK;
        grid_unit u = taut__grid_unit(c, at, step, factor, grid_dead(taut__stage(c)));
        kernels->dequantize(&u, q + at, grid_chunk_elems(c->n, k), dst + at);
    }
    taut__grid_stay_finite(c, step, dst);
    return TAUT_OK;
}

static taut_status unpack_values(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc, float *dst)
{
    if (is_raw(c)) {
        TAUT_TRY(raw_unpack(c, src, len, acc));
        return raw_values(c, acc, 1, dst);
    }
    const struct taut__grid_kernels *kernels = taut__simd_get()->grid;
    grid_header                      h = {0};
    TAUT_TRY(open_codes(c, src, len, &h));
    if (h.kind != GRID_KIND_PACKED) {
        if (h.kind != GRID_KIND_ZERO) TAUT_TRY(taut__grid_decode_chunks(c, &h, src, GRID_CODES, acc));
        return dequantize(c, acc, 1, dst);
    }
    size_t chunks = grid_chunks_of(c->n), from = GRID_HEADER + chunks * GRID_ENTRY;
    for (size_t k = 0; k < chunks; k++) {
        size_t at = k * GRID_CHUNK, l = taut__get32(src + GRID_HEADER + k * GRID_ENTRY), m = grid_chunk_elems(c->n, k);
        grid_unit u = taut__grid_unit(c, at, h.step, 1, h.dead);
        if (l == 0) kernels->dequantize(&u, acc + at, m, dst + at);
        else if (!kernels->unpack_values(&u, src + from, l, m, acc + at, dst + at)) return taut__grid_corrupt("chunk");
        from += l;
    }
    taut__grid_stay_finite(c, h.step, dst);
    return TAUT_OK;
}

const taut_integer_ops taut__grid_integer = {.quantize = quantize,
                                             .pack = pack,
                                             .quantize_pack = quantize_pack,
                                             .unpack_add = unpack_add,
                                             .unpack_values = unpack_values,
                                             .dequantize = dequantize};
