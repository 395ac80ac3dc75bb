/* input.c : from a layer's buffer to what codecs see, and back.
 *
 * With feedback x = g + r is formed in the residual's memory, slice by slice, and encoding leaves the new residual there.
 * 16-bit layers form x in the same memory even without feedback. Else codecs read buf itself. Pieces of different
 * slices may run in several threads: what they measure goes to a taut__piece_done, and is added to the record later, in
 * a fixed order. */
#include "../../compressors/dispatch.h"
#include "../../compressors/half/half.h"
#include "../../compressors/vec/vec.h"
#include "../core/communicator.h"
#include <float.h>
#include <math.h>
#include <string.h>

static size_t elem_bytes(const taut_layer *l) { return l->dtype == TAUT_F32 ? 4 : 2; }

static void *buf_at(const taut__job *job, size_t first) { return (char *)job->buf + first * elem_bytes(job->layer); }

bool taut__in_place(const taut__job *job) { return !job->layer->feedback; }

const float *taut__form(taut__job *job, size_t first, size_t n)
{
    taut_layer *l = job->layer;
    if (!job->formed && job->g == &l->comm->all) taut__debug_read(l, first, n);
    if (taut__in_place(job)) return buf_at(job, first);
    if (!job->formed) taut__drop_keep(l, first, n);
    if (!job->formed) taut__feedback_input(l->feedback, first, n, l->dtype, buf_at(job, first), !l->residual);
    return l->feedback->r + first;
}

taut_call taut__slice_call(const taut__job *job, size_t first, size_t n)
{
    taut_call c = job->call;
    c.first = first;
    c.n = n;
    return c;
}

static taut_norm2 norms(const taut__job *job, const float *x, size_t first, size_t n)
{
    const taut_tensor *t = job->call.tensor;
    if (t->scale_n > 1) return taut__norm2(t, x, first, n);
    double plain = taut__simd_get()->vec->sum2(x, n);
    return (taut_norm2){plain, t->scale_n ? plain / ((double)t->scale[0] * (double)t->scale[0]) : plain};
}

static bool bad(const taut__job *job, const float *x, size_t n)
{
    return atomic_load_explicit(&job->comm->feeding, memory_order_relaxed) && !(taut__simd_get()->vec->max_abs(x, n) <= FLT_MAX);
}

/* Norms count what is finite. Where residuals are at stake (drop.c) a sum that holds anything else has a norm of NaN, which the
 * step's exchange takes out again. */
static taut_norm2 sum_norms(const taut__job *job, const float *x, size_t first, size_t n)
{
    taut_norm2 sum = norms(job, x, first, n);
    if (bad(job, x, n)) sum.plain = NAN;
    return sum;
}

static const float *look(taut__job *job, taut__range r, taut__piece_done *out)
{
    const float *x = taut__form(job, r.first, r.n);
    taut_layer  *l = job->layer;
    if (!taut__agree_knows_norms(job)) out->own = norms(job, x, r.first, r.n);
    if (taut__watched(l) && !job->formed) l->comm->hooks->on_input(l->comm->autom, l, x, r.first, r.n);
    taut__sample_x(job, r, x);
    return x;
}

/* What the codec left in err: the new residual, or only a measurement. */
static void left_over(taut__job *job, taut__range r, const float *err, taut__piece_done *out)
{
    if (job->call.spec->stages == 1 && taut__spec_caps(job->call.spec) & TAUT_CAP_LOSSLESS) return;
    out->error = norms(job, err, r.first, r.n);
    taut__sample_lost(job, r, err, 1);
    if (job->layer->feedback_on) taut__feedback_output(job->layer->feedback, r.first, r.n);
}

void taut__encode_x(taut__job *job, taut__range r, uint8_t *dst, size_t cap, float *scratch, taut__piece_done *out)
{
    double       begin = taut__now();
    const float *x = look(job, r, out);
    float       *err = taut__in_place(job) ? scratch : job->layer->feedback->r + r.first;
    taut_call    c = taut__slice_call(job, r.first, r.n);
    out->status = taut__frame_encode(&c, x, dst, cap, &out->bytes, err, false);
    if (out->status == TAUT_OK) left_over(job, r, err, out);
    out->seconds += taut__now() - begin;
}

void taut__quantize_x(taut__job *job, taut__range r, int32_t *q, int32_t limit, float *scratch, taut__piece_done *out)
{
    double       begin = taut__now();
    const float *x = look(job, r, out);
    float       *err = taut__in_place(job) ? scratch : job->layer->feedback->r + r.first;
    taut_call    c = taut__slice_call(job, r.first, r.n);
    out->status = taut__spec_codec(c.spec)->integer->quantize(&c, x, q, err, limit);
    if (out->status == TAUT_OK) left_over(job, r, err, out);
    out->seconds += taut__now() - begin;
}

void taut__quantize_pack_x(taut__job *job, taut__range r, int32_t *q, int32_t limit, uint8_t *dst, size_t cap, float *scratch,
                           taut__piece_done *out)
{
    double            begin = taut__now();
    const float      *x = look(job, r, out);
    float            *err = taut__in_place(job) ? scratch : job->layer->feedback->r + r.first;
    taut_call         c = taut__slice_call(job, r.first, r.n);
    const taut_codec *codec = taut__spec_codec(c.spec);
    size_t            bytes;
    out->status = codec->integer->quantize_pack(&c, x, q, err, limit, dst + TAUT_FRAME_HEADER, cap - TAUT_FRAME_HEADER, &bytes);
    if (out->status == TAUT_OK) out->status = taut__frame_seal(codec, r.n, dst, bytes, &out->bytes);
    if (out->status == TAUT_OK) left_over(job, r, err, out);
    out->seconds += taut__now() - begin;
}

void taut__own_x(taut__job *job, taut__range r, float *dst, taut__piece_done *out)
{
    if (job->halves == TAUT_GATHER) { /* a value to spread, not a gradient: no residual belongs to it */
        taut__result_load(job, r.first, r.n, dst);
        return;
    }
    const float *x = look(job, r, out);
    if (dst != x) memcpy(dst, x, r.n * sizeof *dst);
    if (job->layer->feedback) taut__feedback_clear(job->layer->feedback, r.first, r.n);
}

float *taut__result_at(taut__job *job, size_t first, float *scratch)
{
    return job->layer->dtype == TAUT_F32 ? buf_at(job, first) : scratch;
}

void taut__result_load(taut__job *job, size_t first, size_t n, float *to)
{
    const taut__vec_kernels *vec = taut__simd_get()->vec;
    switch (job->layer->dtype) {
    case TAUT_F16: vec->from_f16(to, buf_at(job, first), n); return;
    case TAUT_BF16: vec->from_bf16(to, buf_at(job, first), n); return;
    default: memcpy(to, buf_at(job, first), n * sizeof *to);
    }
}

/* residual[i] = (add ? residual[i] : 0) + what a clamped result lacks, in units of the sum. from may be the residual. */
static void keep_rest(taut__job *job, size_t first, size_t n, const float *from, bool add)
{
    const float most = job->layer->dtype == TAUT_F16 ? 65504.0f : 0x1.fep127f;
    float      *residual = job->layer->feedback->r + first, back[64];
    for (size_t i = 0; i < n; i += 64) {
        size_t m = taut__min(64, n - i);
        taut__result_load(job, first + i, m, back);
        for (size_t k = 0; k < m; k++) {
            bool  clamped = fabsf(back[k]) == most && isfinite(from[i + k]);
            float rest = clamped ? (from[i + k] - back[k]) / job->factor : 0, sum = add ? residual[i + k] + rest : rest;
            residual[i + k] = isfinite(sum) ? sum : 0;
        }
    }
}

static void store_half(taut__job *job, size_t first, size_t n, const float *from, bool keeps)
{
    taut_layer *l = job->layer;
    void       *to = buf_at(job, first);
    bool        f16 = l->dtype == TAUT_F16;
    if (f16) taut__simd_get()->vec->to_f16(to, from, n);
    else taut__simd_get()->vec->to_bf16(to, from, n);
    if (!l->lossy) return;
    size_t clamped = taut__half_clamp(to, from, n, f16 ? TAUT_F16_INFINITY : TAUT_BF16_INFINITY);
    if (clamped && keeps && l->feedback_on && job->halves != TAUT_GATHER) keep_rest(job, first, n, from, true);
}

void taut__result_store_last(taut__job *job, bool keeps)
{
    taut_layer *l = job->layer;
    size_t      n = job->call.n;
    taut__result_store(job, 0, n, l->feedback->r, false);
    if (keeps && l->feedback_on && job->halves == TAUT_BOTH) keep_rest(job, 0, n, l->feedback->r, false);
    else taut__feedback_clear(l->feedback, 0, n);
}

void taut__result_store(taut__job *job, size_t first, size_t n, const float *from, bool keeps)
{
    void *to = buf_at(job, first);
    if (job->layer->dtype != TAUT_F32) store_half(job, first, n, from, keeps);
    else if (to != (const void *)from) memcpy(to, from, n * sizeof *from);
    taut__debug_wrote(job->layer, first, n);
}

static void store_scaled(taut__job *job, taut__range r, float *x, taut_norm2 *sum)
{
    if (job->factor != 1.0f) taut__simd_get()->vec->scale(x, job->factor, r.n);
    if (sum) *sum = sum_norms(job, x, r.first, r.n);
    taut__result_store(job, r.first, r.n, x, sum != NULL);
}

taut_status taut__codes_pack(const taut_call *c, const int32_t *q, uint8_t *dst, size_t cap, size_t *len)
{
    const taut_codec *codec = taut__spec_codec(c->spec);
    size_t            bytes;
    TAUT_TRY(codec->integer->pack(c, q, dst + TAUT_FRAME_HEADER, cap - TAUT_FRAME_HEADER, &bytes));
    return taut__frame_seal(codec, c->n, dst, bytes, len);
}

taut_status taut__codes_unpack_add(const taut_call *c, const uint8_t *src, size_t len, int32_t *acc)
{
    const taut_codec *codec = taut__spec_codec(c->spec);
    const uint8_t    *payload;
    size_t            bytes;
    TAUT_TRY(taut__frame_open(codec, c->n, src, len, &payload, &bytes, NULL, NULL, NULL));
    return codec->integer->unpack_add(c, payload, bytes, acc);
}

taut_status taut__store_codes(taut__job *job, taut__range r, const int32_t *q, float *scratch, taut_norm2 *sum)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    float    *to = taut__result_at(job, r.first, scratch);
    TAUT_TRY(taut__spec_codec(c.spec)->integer->dequantize(&c, q, 1.0f, to));
    store_scaled(job, r, to, sum);
    return TAUT_OK;
}

taut_status taut__store_sums(taut__job *job, taut__range r, const uint8_t *frame, size_t len, int32_t *q, float *scratch, taut_norm2 *sum)
{
    taut_call         c = taut__slice_call(job, r.first, r.n);
    const taut_codec *codec = taut__spec_codec(c.spec);
    float            *to = taut__result_at(job, r.first, scratch);
    const uint8_t    *payload;
    size_t            bytes;
    TAUT_TRY(taut__frame_open(codec, r.n, frame, len, &payload, &bytes, NULL, NULL, NULL));
    TAUT_TRY(codec->integer->unpack_values(&c, payload, bytes, q, to));
    store_scaled(job, r, to, sum);
    return TAUT_OK;
}

taut_status taut__store_frame(taut__job *job, taut__range r, const uint8_t *frame, size_t len, float *scratch, taut_norm2 *sum)
{
    taut_call c = taut__slice_call(job, r.first, r.n);
    float    *to = taut__result_at(job, r.first, scratch);
    TAUT_TRY(taut__frame_decode(&c, frame, len, to));
    store_scaled(job, r, to, sum);
    return TAUT_OK;
}

void taut__keep_requantization_error(taut__job *job, taut__range r, const float *err, float factor)
{
    taut__sample_lost(job, r, err, factor);
    if (!job->layer->feedback_on) return;
    float *residual = job->layer->feedback->r + r.first;
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

taut_norm2 taut__sum_norms(const taut__job *job, const float *x, taut__range r) { return sum_norms(job, x, r.first, r.n); }

taut_norm2 taut__sum_bad(const taut__job *job, const float *x, taut__range r) { return (taut_norm2){bad(job, x, r.n) ? NAN : 0, 0}; }

taut_norm2 taut__job_norms(const taut__job *job, const float *x, taut__range r) { return norms(job, x, r.first, r.n); }

void taut__account(taut__job *job, const taut__piece_done *done)
{
    taut__record *r = &job->record;
    double        mean = (double)job->factor * (double)job->factor;
    collect(&r->own, &r->low.own, done->own, 1);
    collect(&r->error, &r->low.error, done->error, 1);
    collect(&r->sum, &r->low.sum, done->sum, 1 / mean);
    collect(&r->requantization_error, &r->low.requantization_error, done->requantization_error, 1 / mean);
    r->encode_s += done->seconds;
    r->decode_s += done->decode_s;
}
