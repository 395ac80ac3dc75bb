/* input.c : from a layer's buffer to what codecs see, and back.
 *
 * With feedback x = g + r is formed in the residual's memory, slice by slice, and encoding leaves the new residual there.
 * 16-bit layers form x in the same memory even without feedback. Else codecs read buf itself. Pieces of different
 * slices may run in several threads: what they measure goes to a taut__piece_done, and is added to the record later, in
 * a fixed order. */
#include "../../compressors/dispatch.h"
#include "../../compressors/half/half.h"
#include "../../compressors/vec/vec.h"
#include "input.h"
#include "agreement.h"
#include <float.h>
#include <math.h>
#include <string.h>

static size_t elem_bytes(const taut__operand *o) { return o->dtype == TAUT_F32 ? 4 : 2; }

static void *buf_at(const taut__reduction *red, size_t first) { return (char *)red->buf + first * elem_bytes(red->operand); }

bool taut__in_place(const taut__reduction *red) { return !red->operand->feedback; }

const float *taut__form(taut__reduction *red, size_t first, size_t n)
{
    taut__operand *o = red->operand;
    if (!red->formed) red->watcher->form(red, first, n);
    if (taut__in_place(red)) return buf_at(red, first);
    if (!red->formed) taut__feedback_input(o->feedback, first, n, o->dtype, buf_at(red, first), !o->residual);
    return o->feedback->r + first;
}

taut_call taut__slice_call(const taut__reduction *red, size_t first, size_t n)
{
    taut_call c = red->call;
    c.first = first;
    c.n = n;
    return c;
}

static taut_norm2 norms(const taut__reduction *red, const float *x, size_t first, size_t n)
{
    const taut_tensor *t = red->call.tensor;
    if (t->scale_n > 1) return taut__norm2(t, x, first, n);
    double plain = taut__simd_get()->vec->sum2(x, n);
    return (taut_norm2){plain, t->scale_n ? plain / ((double)t->scale[0] * (double)t->scale[0]) : plain};
}

static bool bad(const taut__reduction *red, const float *x, size_t n)
{
    return atomic_load_explicit(&red->ctx->feeding, memory_order_relaxed) && !(taut__simd_get()->vec->max_abs(x, n) <= FLT_MAX);
}

/* Norms count what is finite. Where residuals are at stake (drop.c) a sum that holds anything else has a norm of NaN, which the
 * step's exchange takes out again. */
static taut_norm2 sum_norms(const taut__reduction *red, const float *x, size_t first, size_t n)
{
    taut_norm2 sum = norms(red, x, first, n);
    if (bad(red, x, n)) sum.plain = NAN;
    return sum;
}

static const float *look(taut__reduction *red, taut__range r, taut__piece_done *out)
{
    const float *x = taut__form(red, r.first, r.n);
    if (!taut__agree_knows_norms(red)) out->own = norms(red, x, r.first, r.n);
    if (red->watched & TAUT_WATCH_INPUT && !red->formed) red->watcher->input(red, r, x);
    taut__tell_sample(red, r, x);
    return x;
}

/* What the codec left in err: the new residual, or only a measurement. */
static void left_over(taut__reduction *red, taut__range r, const float *err, taut__piece_done *out)
{
    if (red->call.spec->stages == 1 && taut__spec_caps(red->call.spec) & TAUT_CAP_LOSSLESS) return;
    out->error = norms(red, err, r.first, r.n);
    taut__tell_lost(red, r, err, 1);
    if (red->operand->feedback_on) taut__feedback_output(red->operand->feedback, r.first, r.n);
}

void taut__encode_x(taut__reduction *red, taut__range r, uint8_t *dst, size_t cap, float *scratch, taut__piece_done *out)
{
    double       begin = taut__now();
    const float *x = look(red, r, out);
    float       *err = taut__in_place(red) ? scratch : red->operand->feedback->r + r.first;
    taut_call    c = taut__slice_call(red, r.first, r.n);
    out->status = taut__frame_encode(&c, x, dst, cap, &out->bytes, err, false);
    if (out->status == TAUT_OK) left_over(red, r, err, out);
    out->seconds += taut__now() - begin;
}

void taut__quantize_x(taut__reduction *red, taut__range r, int32_t *q, int32_t limit, float *scratch, taut__piece_done *out)
{
    double       begin = taut__now();
    const float *x = look(red, r, out);
    float       *err = taut__in_place(red) ? scratch : red->operand->feedback->r + r.first;
    taut_call    c = taut__slice_call(red, r.first, r.n);
    out->status = taut__op_quantize(taut__spec_codec(c.spec), &c, x, q, err, limit);
    if (out->status == TAUT_OK) left_over(red, r, err, out);
    out->seconds += taut__now() - begin;
}

void taut__quantize_pack_x(taut__reduction *red, taut__range r, int32_t *q, int32_t limit, uint8_t *dst, size_t cap, float *scratch,
                           taut__piece_done *out)
{
    double            begin = taut__now();
    const float      *x = look(red, r, out);
    float            *err = taut__in_place(red) ? scratch : red->operand->feedback->r + r.first;
    taut_call         c = taut__slice_call(red, r.first, r.n);
    const taut_codec *codec = taut__spec_codec(c.spec);
    size_t            bytes;
    out->status = taut__op_quantize_pack(codec, &c, x, q, err, limit, dst + TAUT_FRAME_HEADER, cap - TAUT_FRAME_HEADER, &bytes);
    if (out->status == TAUT_OK) out->status = taut__frame_seal(codec, &c, dst, bytes, &out->bytes);
    if (out->status == TAUT_OK) left_over(red, r, err, out);
    out->seconds += taut__now() - begin;
}

void taut__own_x(taut__reduction *red, taut__range r, float *dst, taut__piece_done *out)
{
    if (red->halves == TAUT_GATHER) { /* a value to spread, not a gradient: no residual belongs to it */
        taut__result_load(red, r.first, r.n, dst);
        return;
    }
    const float *x = look(red, r, out);
    if (dst != x) memcpy(dst, x, r.n * sizeof *dst);
    if (red->operand->feedback) taut__feedback_clear(red->operand->feedback, r.first, r.n);
}

float *taut__result_at(taut__reduction *red, size_t first, float *scratch)
{
    return red->operand->dtype == TAUT_F32 ? buf_at(red, first) : scratch;
}

void taut__result_load(taut__reduction *red, size_t first, size_t n, float *to)
{
    const taut__vec_kernels *vec = taut__simd_get()->vec;
    switch (red->operand->dtype) {
    case TAUT_F16: vec->from_f16(to, buf_at(red, first), n); return;
    case TAUT_BF16: vec->from_bf16(to, buf_at(red, first), n); return;
    default: memcpy(to, buf_at(red, first), n * sizeof *to);
    }
}

/* residual[i] = (add ? residual[i] : 0) + what a clamped result lacks, in units of the sum. from may be the residual. */
static void keep_rest(taut__reduction *red, size_t first, size_t n, const float *from, bool add)
{
    const float most = red->operand->dtype == TAUT_F16 ? 65504.0f : 0x1.fep127f;
    float      *residual = red->operand->feedback->r + first, back[64];
    for (size_t i = 0; i < n; i += 64) {
        size_t m = taut__min(64, n - i);
        taut__result_load(red, first + i, m, back);
        for (size_t k = 0; k < m; k++) {
            bool  clamped = fabsf(back[k]) == most && isfinite(from[i + k]);
            float rest = clamped ? (from[i + k] - back[k]) / red->factor : 0, sum = add ? residual[i + k] + rest : rest;
            residual[i + k] = isfinite(sum) ? sum : 0;
        }
    }
}

static void store_half(taut__reduction *red, size_t first, size_t n, const float *from, bool keeps)
{
    taut__operand *o = red->operand;
    void       *to = buf_at(red, first);
    bool        f16 = o->dtype == TAUT_F16;
    if (f16) taut__simd_get()->vec->to_f16(to, from, n);
    else taut__simd_get()->vec->to_bf16(to, from, n);
    if (!o->lossy) return;
    size_t clamped = taut__half_clamp(to, from, n, f16 ? TAUT_F16_INFINITY : TAUT_BF16_INFINITY);
    if (clamped && keeps && o->feedback_on && red->halves != TAUT_GATHER) keep_rest(red, first, n, from, true);
}

void taut__result_store_last(taut__reduction *red, bool keeps)
{
    taut__operand *o = red->operand;
    size_t      n = red->call.n;
    taut__result_store(red, 0, n, o->feedback->r, false);
    if (keeps && o->feedback_on && red->halves == TAUT_BOTH) keep_rest(red, 0, n, o->feedback->r, false);
    else taut__feedback_clear(o->feedback, 0, n);
}

void taut__result_store(taut__reduction *red, size_t first, size_t n, const float *from, bool keeps)
{
    void *to = buf_at(red, first);
    if (red->operand->dtype != TAUT_F32) store_half(red, first, n, from, keeps);
    else if (to != (const void *)from) memcpy(to, from, n * sizeof *from);
    red->watcher->stored(red, first, n);
}

static void store_scaled(taut__reduction *red, taut__range r, float *x, taut_norm2 *sum)
{
    if (red->factor != 1.0f) taut__simd_get()->vec->scale(x, red->factor, r.n);
    if (sum) *sum = sum_norms(red, x, r.first, r.n);
    taut__result_store(red, r.first, r.n, x, sum != NULL);
}

taut_status taut__codes_pack(const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap, size_t *len)
{
    const taut_codec *codec = taut__spec_codec(c->spec);
    size_t            bytes;
    TAUT_TRY(taut__op_pack(codec, c, q, dst + TAUT_FRAME_HEADER, cap - TAUT_FRAME_HEADER, &bytes));
    return taut__frame_seal(codec, c, dst, bytes, len);
}

taut_status taut__codes_unpack_add(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc)
{
    const taut_codec *codec = taut__spec_codec(c->spec);
    const uint8_t    *payload;
    size_t            bytes;
    TAUT_TRY(taut__frame_open(codec, c->n, src, len, &payload, &bytes, NULL, NULL, NULL));
    return taut__op_unpack_add(codec, c, payload, bytes, acc);
}

taut_status taut__store_codes(taut__reduction *red, taut__range r, const int32_t *q, float *scratch, taut_norm2 *sum)
{
    taut_call c = taut__slice_call(red, r.first, r.n);
    float    *to = taut__result_at(red, r.first, scratch);
    TAUT_TRY(taut__op_dequantize(taut__spec_codec(c.spec), &c, q, 1.0f, to));
    store_scaled(red, r, to, sum);
    return TAUT_OK;
}

taut_status taut__store_sums(taut__reduction *red, taut__range r, const uint8_t *frame, size_t len, int32_t *q, float *scratch, taut_norm2 *sum)
{
    taut_call         c = taut__slice_call(red, r.first, r.n);
    const taut_codec *codec = taut__spec_codec(c.spec);
    float            *to = taut__result_at(red, r.first, scratch);
    const uint8_t    *payload;
    size_t            bytes;
    TAUT_TRY(taut__frame_open(codec, r.n, frame, len, &payload, &bytes, NULL, NULL, NULL));
    TAUT_TRY(taut__op_unpack_values(codec, &c, payload, bytes, q, to));
    store_scaled(red, r, to, sum);
    return TAUT_OK;
}

taut_status taut__store_frame(taut__reduction *red, taut__range r, const uint8_t *frame, size_t len, float *scratch, taut_norm2 *sum)
{
    taut_call c = taut__slice_call(red, r.first, r.n);
    float    *to = taut__result_at(red, r.first, scratch);
    TAUT_TRY(taut__frame_decode(&c, frame, len, to));
    store_scaled(red, r, to, sum);
    return TAUT_OK;
}

void taut__keep_requantization_error(taut__reduction *red, taut__range r, const float *err, float factor)
{
    taut__tell_lost(red, r, err, factor);
    if (!red->operand->feedback_on) return;
    float *residual = red->operand->feedback->r + r.first;
    for (size_t i = 0; i < r.n; i++) {
        float sum = residual[i] + factor * err[i];
        residual[i] = isfinite(sum) ? sum : 0;
    }
}

void taut__add_norm(taut_norm2 *sum, taut_norm2 x, double factor)
{
    sum->plain += x.plain * factor;
    sum->weighted += x.weighted * factor;
}

/* *high + *low, as exact as twice a double's digits, += x (Dekker, 1971, section 4). */
static void add_exactly(double *high, double *low, double x)
{
    double sum = *high + x, back = sum - *high, lost = (*high - (sum - back)) + (x - back) + *low;
    *high = sum + lost;
    *low = isfinite(*high) ? lost - (*high - sum) : 0;
}

static void collect(taut_norm2 *sum, taut_norm2 *low, taut_norm2 x, double factor)
{
    add_exactly(&sum->plain, &low->plain, x.plain * factor);
    add_exactly(&sum->weighted, &low->weighted, x.weighted * factor);
}

taut_norm2 taut__sum_norms(const taut__reduction *red, const float *x, taut__range r) { return sum_norms(red, x, r.first, r.n); }

taut_norm2 taut__sum_bad(const taut__reduction *red, const float *x, taut__range r) { return (taut_norm2){bad(red, x, r.n) ? NAN : 0, 0}; }

taut_norm2 taut__norms_of(const taut__reduction *red, const float *x, taut__range r) { return norms(red, x, r.first, r.n); }

void taut__account(taut__reduction *red, const taut__piece_done *done)
{
    taut__record *r = &red->record;
    double        mean = (double)red->factor * (double)red->factor;
    collect(&r->own, &r->low.own, done->own, 1);
    collect(&r->error, &r->low.error, done->error, 1);
    collect(&r->sum, &r->low.sum, done->sum, 1 / mean);
    collect(&r->requantization_error, &r->low.requantization_error, done->requantization_error, 1 / mean);
    r->encode_s += done->seconds;
    r->decode_s += done->decode_s;
}

void taut__trace_wire(taut__reduction *red, double sent_s, const taut__piece_done *done, uint64_t bytes)
{
    if (!red->ctx->trace) return;
    double end = taut__now() - done->seconds - done->decode_s;
    if (end >= sent_s) taut__trace_span(red->ctx->trace, &red->job, "wire", sent_s, end, bytes);
}
