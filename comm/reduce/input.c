/* input.c : from a layer's buffer to what codecs see, and back.
 *
 * With feedback x = g + r is formed in the residual's memory, slice by slice, and encoding leaves the new residual there.
 * 16-bit layers form x in the same memory even without feedback. Else codecs read buf itself. Pieces of different
 * slices may run in several threads: what they measure goes to a taut__piece_done, and is added to the record later, in
 * a fixed order. All of it lies in the reduction's place, so nothing here looks at it but through placed.h. */
#include "../../compressors/dispatch.h"
#include "../../compressors/half/half.h"
#include "../../compressors/vec/vec.h"
#include "input.h"
#include "agreement.h"
#include "placed.h"
#include <float.h>
#include <math.h>

static size_t elem_bytes(const taut__operand *o) { return o->dtype == TAUT_F32 ? 4 : 2; }

static void *buf_at(const taut__reduction *red, size_t first)
{
    return (char *)red->buf + first * elem_bytes(red->operand);
}

bool taut__in_place(const taut__reduction *red) { return !red->operand->feedback; }

const float *taut__form(taut__reduction *red, size_t first, size_t n)
{
    taut__operand *o = red->operand;
    if (!red->formed) red->watcher->form(red, first, n);
    if (taut__in_place(red)) return buf_at(red, first);
    if (!red->formed)
        taut__lane_note(red->lane,
                        taut__feedback_input(o->feedback, first, n, o->dtype, buf_at(red, first), !o->residual));
    return o->feedback->r + first;
}

taut_call taut__slice_call(const taut__reduction *red, size_t first, size_t n)
{
    taut_call c = red->call;
    c.first = first;
    c.n = n;
    return c;
}

static taut_norm2 norms_here(const taut_tensor *t, const float *x, size_t first, size_t n)
{
    if (t->scale_n > 1) return taut__norm2(t, x, first, n);
    double plain = taut__simd_get()->vec->sum2(x, n);
    return (taut_norm2){plain, t->scale_n ? plain / ((double)t->scale[0] * (double)t->scale[0]) : plain};
}

taut_norm2 taut__norms_of(const taut__reduction *red, const float *x, taut__range r)
{
    if (taut__at_home(red)) return norms_here(red->call.tensor, x, r.first, r.n);
    return taut__placed_norms(red, x, r.first, r.n, NULL);
}

static bool bad_matters(const taut__reduction *red)
{
    return atomic_load_explicit(&red->ctx->feeding, memory_order_relaxed);
}

static bool bad_here(const taut__reduction *red, const float *x, size_t n)
{
    return bad_matters(red) && !(taut__simd_get()->vec->max_abs(x, n) <= FLT_MAX);
}

taut_norm2 taut__sum_bad(const taut__reduction *red, const float *x, taut__range r)
{
    bool found = taut__at_home(red) && bad_here(red, x, r.n);
    if (!taut__at_home(red) && bad_matters(red)) taut__placed_norms(red, x, 0, r.n, &found);
    return (taut_norm2){found ? NAN : 0, 0};
}

/* Norms count what is finite. Where residuals are at stake (drop.c) a sum that holds anything else has a norm of NaN, which the
 * step's exchange takes out again. */
static taut_norm2 sum_here(const taut__reduction *red, const taut_tensor *t, const float *x, size_t first, size_t n)
{
    taut_norm2 sum = norms_here(t, x, first, n);
    if (bad_here(red, x, n)) sum.plain = NAN;
    return sum;
}

taut_norm2 taut__sum_norms(const taut__reduction *red, const float *x, taut__range r)
{
    if (taut__at_home(red)) return sum_here(red, red->call.tensor, x, r.first, r.n);
    bool       found = false;
    taut_norm2 sum = taut__placed_norms(red, x, r.first, r.n, &found);
    if (bad_matters(red) && found) sum.plain = NAN;
    return sum;
}

taut_norm2 taut__sum_norms_here(const taut__reduction *red, const float *x, taut__range r)
{
    return sum_here(red, &red->operand->tensor, x, r.first, r.n);
}

static const float *look(taut__reduction *red, taut__range r, taut__piece_done *out)
{
    const float *x = taut__form(red, r.first, r.n);
    if (!taut__agree_knows_norms(red)) out->own = taut__norms_of(red, x, r);
    if (red->watched & TAUT_WATCH_INPUT && !red->formed) red->watcher->input(red, r, x);
    taut__tell_sample(red, r, x);
    return x;
}

/* What the codec left in err: the new residual, or only a measurement. */
static void left_over(taut__reduction *red, taut__range r, const float *err, taut__piece_done *out)
{
    if (red->call.spec->stages == 1 && taut__spec_caps(red->call.spec) & TAUT_CAP_LOSSLESS) return;
    out->error = taut__norms_of(red, err, r);
    taut__tell_lost(red, r, err, 1);
    if (red->operand->feedback_on)
        taut__lane_note(red->lane, taut__feedback_output(red->operand->feedback, r.first, r.n));
}

/* What becomes of x of r: a frame in dst, or where that is NULL codes only. What encoding loses is left in scratch, or is the residual. */
static void work_on_x(taut__reduction *red, taut__op op, taut__range r, int32_t *q, int32_t limit, uint8_t *dst,
                      size_t cap, float *scratch, taut__piece_done *out)
{
    double     begin = taut__now();
    taut_piece p = {.src = look(red, r, out),
                    .err = taut__in_place(red) ? scratch : red->operand->feedback->r + r.first,
                    .call = taut__slice_call(red, r.first, r.n),
                    .codes = q,
                    .limit = limit};
    out->status =
        dst ? taut__placed_make(red, op, &p, dst, cap, &out->bytes, scratch) : taut__placed_do(red, op, &p, NULL);
    if (out->status == TAUT_OK) left_over(red, r, p.err, out);
    out->seconds += taut__now() - begin;
}

void taut__encode_x(taut__reduction *red, taut__range r, uint8_t *dst, size_t cap, float *scratch,
                    taut__piece_done *out)
{
    work_on_x(red, TAUT_OP_ENCODE, r, NULL, 0, dst, cap, scratch, out);
}

void taut__quantize_x(taut__reduction *red, taut__range r, int32_t *q, int32_t limit, float *scratch,
                      taut__piece_done *out)
{
    work_on_x(red, TAUT_OP_QUANTIZE, r, q, limit, NULL, 0, scratch, out);
}

void taut__quantize_pack_x(taut__reduction *red, taut__range r, int32_t *q, int32_t limit, uint8_t *dst, size_t cap,
                           float *scratch, taut__piece_done *out)
{
    work_on_x(red, TAUT_OP_QUANTIZE_PACK, r, q, limit, dst, cap, scratch, out);
}

static void clear(taut__reduction *red, taut__range r)
{
    taut__lane_note(red->lane, taut__feedback_clear(red->operand->feedback, r.first, r.n));
}

void taut__own_x(taut__reduction *red, taut__range r, float *dst, taut__piece_done *out)
{
    if (red->halves == TAUT_GATHER) { /* a value to spread, not a gradient: no residual belongs to it */
        taut__result_load(red, r.first, r.n, dst);
        return;
    }
    const float *x = look(red, r, out);
    if (dst != x) taut__placed_copy(red, dst, x, r.n * sizeof *dst);
    if (red->operand->feedback) clear(red, r);
}

float *taut__result_at(taut__reduction *red, size_t first, float *scratch)
{
    return red->operand->dtype == TAUT_F32 ? buf_at(red, first) : scratch;
}

void taut__result_load(taut__reduction *red, size_t first, size_t n, float *to)
{
    taut__placed_convert(red, to, TAUT_F32, buf_at(red, first), red->operand->dtype, n);
}

void taut__result_fetch(taut__reduction *red, size_t first, size_t n, float *to)
{
    const taut_dtype dtype = red->operand->dtype;
    const bool       wide = dtype == TAUT_F32;
    uint16_t         half[256];
    if (taut__at_home(red)) {
        taut__result_load(red, first, n, to);
        return;
    }
    for (size_t i = 0, m; i < n; i += m) {
        m = wide ? n : taut__min(n - i, sizeof half / sizeof *half);
        taut__lane_note(red->lane, taut__lane_copy(red->lane, wide ? (void *)to : half, buf_at(red, first + i),
                                                   m * elem_bytes(red->operand)));
        if (!wide) taut__vectors_host.convert((taut_place){0}, to + i, TAUT_F32, half, dtype, m);
    }
}

/* residual[i] = (add ? residual[i] : 0) + what a clamped result lacks, in units of the sum. half: the results; from may be the residual. On
 * the host. */
static void keep_rest(const taut__reduction *red, const void *half, const float *from, float *residual, size_t n,
                      bool add)
{
    const taut_dtype dtype = red->operand->dtype;
    const float      most = dtype == TAUT_F16 ? 65504.0f : 0x1.fep127f;
    float            back[64];
    for (size_t i = 0; i < n; i += 64) {
        size_t m = taut__min(64, n - i);
        taut__vectors_host.convert((taut_place){0}, back, TAUT_F32, (const uint16_t *)half + i, dtype, m);
        for (size_t k = 0; k < m; k++) {
            bool  clamped = fabsf(back[k]) == most && isfinite(from[i + k]);
            float rest = clamped ? (from[i + k] - back[k]) / red->factor : 0, sum = add ? residual[i + k] + rest : rest;
            residual[i + k] = isfinite(sum) ? sum : 0;
        }
    }
}

static size_t clamp(const taut__reduction *red, void *half, const float *from, size_t n)
{
    return taut__half_clamp(half, from, n, red->operand->dtype == TAUT_F16 ? TAUT_F16_INFINITY : TAUT_BF16_INFINITY);
}

/* What happens once in a while, to a few numbers, is done on the host, piece by piece, when half and from lie elsewhere. */
enum { CHUNK = 1024 };

/* residual NULL: clamps half, and counts in *clamped. Else keeps there what clamped ones lack. */
static taut_status by_chunks(const taut__reduction *red, uint16_t *half, const float *from, float *residual, size_t n,
                             bool add, size_t *clamped)
{
    uint16_t h[CHUNK];
    float    f[CHUNK], r[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t m = taut__min(CHUNK, n - i);
        TAUT_TRY(taut__lane_copy(red->lane, h, half + i, m * sizeof *h));
        TAUT_TRY(taut__lane_copy(red->lane, f, from + i, m * sizeof *f));
        if (residual) TAUT_TRY(taut__lane_copy(red->lane, r, residual + i, m * sizeof *r));
        if (clamped) *clamped += clamp(red, h, f, m);
        else keep_rest(red, h, f, r, m, add);
        TAUT_TRY(residual ? taut__lane_copy(red->lane, residual + i, r, m * sizeof *r)
                          : taut__lane_copy(red->lane, half + i, h, m * sizeof *h));
    }
    return TAUT_OK;
}

static taut_status overflow_elsewhere(const taut__reduction *red, uint16_t *half, const float *from, float *rest,
                                      size_t n)
{
    size_t clamped = 0;
    if (!taut__placed_overflowed(red, half, red->operand->dtype, n)) return TAUT_OK;
    TAUT_TRY(by_chunks(red, half, from, NULL, n, false, &clamped));
    return clamped && rest ? by_chunks(red, half, from, rest, n, true, NULL) : TAUT_OK;
}

static float *rest_at(const taut__reduction *red, size_t first, bool keeps)
{
    const taut__operand *o = red->operand;
    return keeps && o->feedback_on && red->halves != TAUT_GATHER ? o->feedback->r + first : NULL;
}

taut_status taut__result_overflow(taut__reduction *red, size_t first, size_t n, const float *from, bool keeps)
{
    return overflow_elsewhere(red, buf_at(red, first), from, rest_at(red, first, keeps), n);
}

static void store_half(taut__reduction *red, size_t first, size_t n, const float *from, bool keeps)
{
    taut__operand *o = red->operand;
    void          *to = buf_at(red, first);
    float         *rest = rest_at(red, first, keeps);
    taut__placed_convert(red, to, o->dtype, from, TAUT_F32, n);
    if (!o->lossy) return;
    if (!taut__at_home(red)) taut__lane_note(red->lane, overflow_elsewhere(red, to, from, rest, n));
    else if (clamp(red, to, from, n) && rest) keep_rest(red, to, from, rest, n, true);
}

void taut__result_store_last(taut__reduction *red, bool keeps)
{
    taut__operand *o = red->operand;
    size_t         n = red->call.n;
    float         *r = o->feedback->r;
    taut__result_store(red, 0, n, r, false);
    if (!keeps || !o->feedback_on || red->halves != TAUT_BOTH) clear(red, (taut__range){0, n});
    else if (taut__at_home(red)) keep_rest(red, red->buf, r, r, n, false);
    else taut__lane_note(red->lane, by_chunks(red, red->buf, r, r, n, false, NULL));
}

void taut__result_store(taut__reduction *red, size_t first, size_t n, const float *from, bool keeps)
{
    void *to = buf_at(red, first);
    if (red->operand->dtype != TAUT_F32) store_half(red, first, n, from, keeps);
    else if (to != (const void *)from) taut__placed_copy(red, to, from, n * sizeof *from);
    red->watcher->stored(red, first, n);
}

void taut__store_scaled(taut__reduction *red, taut__range r, float *x, taut_norm2 *sum)
{
    if (red->factor != 1.0f) taut__placed_scale(red, x, red->factor, r.n);
    if (sum) *sum = taut__sum_norms(red, x, r);
    taut__result_store(red, r.first, r.n, x, sum != NULL);
}

taut_status taut__store_codes(taut__reduction *red, taut__range r, const int32_t *q, float *scratch, taut_norm2 *sum)
{
    float     *to = taut__result_at(red, r.first, scratch);
    taut_piece p = {
        .call = taut__slice_call(red, r.first, r.n), .codes = (int32_t *)(uintptr_t)q, .scale_by = 1, .dst = to};
    TAUT_TRY(taut__placed_do(red, TAUT_OP_DEQUANTIZE, &p, NULL));
    taut__store_scaled(red, r, to, sum);
    return TAUT_OK;
}

taut_status taut__store_sums(taut__reduction *red, taut__range r, const uint8_t *frame, size_t len, int32_t *q,
                             float *scratch, taut_norm2 *sum)
{
    float     *to = taut__result_at(red, r.first, scratch);
    taut_piece p = {.call = taut__slice_call(red, r.first, r.n), .codes = q, .dst = to};
    TAUT_TRY(taut__placed_take(red, TAUT_OP_UNPACK_VALUES, &p, frame, len, scratch));
    taut__store_scaled(red, r, to, sum);
    return TAUT_OK;
}

void taut__keep_requantization_error(taut__reduction *red, taut__range r, float *err, float factor)
{
    taut__tell_lost(red, r, err, factor);
    if (red->operand->feedback_on) taut__placed_add_scaled(red, red->operand->feedback->r + r.first, err, factor, r.n);
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
