/* vectors.c : see vectors.h. The host's table, and which table a space has. */
#include "vectors.h"
#include "basis/basis.h"
#include "digest.h"
#include "tree_sum.h"
#include "cuda/cuda.h"
#include "dispatch.h"
#include "frame.h"
#include "vec/vec.h"
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

static const taut__vec_kernels *kernels(void) { return taut__simd_get()->vec; }

static taut_status host_input(taut_place p, float *r, float *u, float momentum, taut_dtype dtype, const void *g,
                              size_t n, bool fresh)
{
    taut_feedback f = {.n = n, .momentum = momentum, .r = r, .u = u};
    (void)p;
    return taut__feedback_input(&f, 0, n, dtype, g, fresh);
}
static taut_status host_output(taut_place p, const float *r, float *u, size_t n)
{
    taut_feedback f = {.n = n, .r = (float *)(uintptr_t)r, .u = u};
    (void)p;
    return taut__feedback_output(&f, 0, n);
}
static taut_status host_scrub(taut_place p, float *x, size_t n, uint64_t *found)
{
    taut_feedback f = {.n = n, .r = x};
    (void)p;
    *found += taut__feedback_scrub(&f, 0, n);
    return TAUT_OK;
}
static taut_status host_norm2(taut_place p, const taut_tensor *t, const float *e, size_t first, size_t n,
                              taut_norm2 *out, uint32_t *flags)
{
    (void)p;
    *out = taut__norm2(t, e, first, n);
    if (flags && !(kernels()->max_abs(e, n) <= FLT_MAX)) *flags |= TAUT_FLAG_NOT_FINITE;
    return TAUT_OK;
}
static taut_status host_add(taut_place p, float *acc, taut_dtype dtype, const void *x, size_t n)
{
    (void)p;
    if (dtype == TAUT_F16) kernels()->add_f16(acc, x, n);
    else if (dtype == TAUT_BF16) kernels()->add_bf16(acc, x, n);
    else kernels()->add(acc, x, n);
    return TAUT_OK;
}
static taut_status host_scale(taut_place p, float *x, float factor, size_t n)
{
    (void)p;
    kernels()->scale(x, factor, n);
    return TAUT_OK;
}
static taut_status host_convert(taut_place p, void *dst, taut_dtype to, const void *src, taut_dtype from, size_t n)
{
    (void)p;
    if (to == from) {
        if (n) memcpy(dst, src, n * (to == TAUT_F32 ? 4 : 2));
    } else if (to == TAUT_F32) {
        (from == TAUT_F16 ? kernels()->from_f16 : kernels()->from_bf16)(dst, src, n);
    } else if (from == TAUT_F32) {
        (to == TAUT_F16 ? kernels()->to_f16 : kernels()->to_bf16)(dst, src, n);
    } else {
        return taut__fail(TAUT_E_UNSUPPORTED, "convert: from dtype %d to %d: one of them must be f32", (int)from,
                          (int)to);
    }
    return TAUT_OK;
}
static taut_status host_residual(taut_place p, float *err, const float *x, const float *y, size_t n)
{
    (void)p;
    kernels()->residual(err, x, y, n);
    return TAUT_OK;
}

static taut_status host_seal(const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place p)
{
    (void)p;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        TAUT_TRY(taut__frame_seal(codec, &pieces[i].call, pieces[i].payload - TAUT_FRAME_HEADER,
                                  (size_t)pieces[i].outcome->bytes, &len));
    }
    return TAUT_OK;
}
static taut_status host_open(const taut_codec *codec, const taut_piece *pieces, size_t n, taut_place p)
{
    taut_status first = TAUT_OK;
    (void)p;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *payload;
        size_t         bytes;
        taut_status    s =
            taut__frame_open(codec, pieces[i].call.n, pieces[i].payload - TAUT_FRAME_HEADER,
                             TAUT_FRAME_HEADER + (size_t)pieces[i].outcome->bytes, &payload, &bytes, NULL, NULL, NULL);
        pieces[i].outcome->flags |= taut__flags_of(s);
        if (first == TAUT_OK) first = s;
    }
    return first;
}

static taut_status host_admit(taut_place p, const uint8_t *slots, size_t stride, size_t n, size_t room,
                              taut__admitted *out, taut_outcome *sum)
{
    uint64_t largest = 0;
    (void)p;
    for (size_t i = 0; i < n; i++) {
        taut_outcome said;
        memcpy(&said, slots + i * stride, sizeof said);
        out[i] = (taut__admitted){.seen = said, .said = said.bytes, .largest = (uint64_t)said.reserved * 16};
        if (said.bytes > room) out[i].seen.bytes = 0;
        if (said.bytes > largest) largest = said.bytes;
    }
    if (sum) sum->reserved = (uint32_t)((largest + 15) / 16);
    return TAUT_OK;
}

static taut_status host_pick(taut_place p, float *dst, taut_dtype dtype, const void *src, const uint64_t *at,
                             size_t blocks, size_t elems, size_t first, size_t n, float factor)
{
    for (size_t k = 0; k < blocks; k++) {
        size_t from = at[k] > first ? (size_t)at[k] : first,
               end = (size_t)at[k] + elems < first + n ? (size_t)at[k] + elems : first + n;
        if (from >= end) continue;
        float *to = dst + k * elems + (from - (size_t)at[k]);
        TAUT_TRY(host_convert(p, to, TAUT_F32, (const char *)src + (from - first) * (dtype == TAUT_F32 ? 4 : 2), dtype,
                              end - from));
        for (size_t i = 0; i < end - from; i++) to[i] *= factor;
    }
    return TAUT_OK;
}

static taut_status host_join(taut_place p, uint32_t *words, const int32_t *codes, size_t n, uint32_t per, uint32_t bias)
{
    const uint32_t bits = 32 / per;
    (void)p;
    for (size_t i = 0; i < n; i += per) {
        uint32_t word = 0;
        for (uint32_t k = 0; k < per && i + k < n; k++) word |= ((uint32_t)codes[i + k] + bias) << (k * bits);
        words[i / per] = word;
    }
    return TAUT_OK;
}

static taut_status host_split(taut_place p, int32_t *codes, const uint32_t *words, size_t n, uint32_t per,
                              uint32_t bias)
{
    const uint32_t bits = 32 / per, mask = per == 1 ? UINT32_MAX : (1u << bits) - 1;
    (void)p;
    for (size_t i = 0; i < n; i++) codes[i] = (int32_t)((words[i / per] >> (i % per * bits) & mask) - bias);
    return TAUT_OK;
}

static taut_status host_combine(taut_place p, double *out, const double *from, size_t stride, size_t n, uint32_t ranks,
                                uint32_t *any)
{
    (void)p;
    for (size_t i = 0; i < n; i++) out[i] = taut__tree_sum(from + i, stride, ranks);
    if (any && n > 0 && !(out[0] == 0)) *any = 1;
    return TAUT_OK;
}

static taut_status host_copy_if(taut_place p, const uint8_t *when, void *dst, const void *src, size_t bytes)
{
    (void)p;
    if (*when) memcpy(dst, src, bytes);
    return TAUT_OK;
}

static uint64_t digest_of(const char *row, uint64_t number, size_t n)
{
    uint64_t sum = 0, word;
    for (size_t i = 0; i < n; i++) {
        memcpy(&word, row + i * sizeof word, sizeof word);
        sum += taut__digest_word(word, number, i);
    }
    return sum;
}
static taut_status host_digest(taut_place p, void *rows, size_t stride, size_t n, uint32_t first, uint32_t count,
                               uint32_t *differs)
{
    (void)p;
    for (uint32_t q = first; q < first + count; q++) {
        char    *row = (char *)rows + (q - first) * stride * sizeof(uint64_t), *end = row + n * sizeof(uint64_t);
        uint64_t sum = digest_of(row, q, n);
        if (!differs) memcpy(end, &sum, sizeof sum);
        else if (memcmp(end, &sum, sizeof sum) != 0) *differs = q + 1;
    }
    return TAUT_OK;
}

static taut_status host_change(taut_place p, const taut__axes_there *m, const taut_tensor *t, float *x, bool back)
{
    return (void)p, taut__axes_change_here(m, t, x, back);
}
static taut_status host_learn(taut_place p, const taut__axes_there *m, const taut_tensor *t, const float *x)
{
    return (void)p, taut__axes_learn_here(m, t, x);
}

const taut__vectors taut__vectors_host = {
    .input = host_input,
    .output = host_output,
    .scrub = host_scrub,
    .norm2 = host_norm2,
    .add = host_add,
    .scale = host_scale,
    .convert = host_convert,
    .residual = host_residual,
    .seal = host_seal,
    .open = host_open,
    .admit = host_admit,
    .pick = host_pick,
    .field_join = host_join,
    .field_split = host_split,
    .combine = host_combine,
    .copy_if = host_copy_if,
    .digest = host_digest,
    .change = host_change,
    .learn = host_learn,
};

/* ---- which table ---- */

static _Atomic(const taut__vectors *) further[TAUT_SPACES];

void taut__vectors_register(taut_space s, const taut__vectors *table)
{
    if ((int)s > 0 && (int)s < TAUT_SPACES) atomic_store(&further[s], table);
}

static const void *unusable(taut_space s)
{
    const char *why = "it has no table";
    if (s == TAUT_CUDA) taut__cuda_get(&why);
    taut__fail(TAUT_E_UNSUPPORTED, "space %s cannot be used: %s", taut__space_name(s), why);
    return NULL;
}

const taut__vectors *taut__vectors_of(taut_space s)
{
    if (s == TAUT_HOST) return &taut__vectors_host;
    if (s == TAUT_CUDA) taut__cuda_get(NULL); /* which registers a device's tables, if there is one */
    const taut__vectors *t = (int)s > 0 && (int)s < TAUT_SPACES ? atomic_load(&further[s]) : NULL;
    return t ? t : unusable(s);
}

const taut__space *taut__memory_of(taut_space s)
{
    if (s == TAUT_CUDA) taut__cuda_get(NULL);
    const taut__space *t = taut__space_of(s);
    return t ? t : unusable(s);
}

taut_status taut__place_check(taut_place p, const void *memory, const char *what)
{
    const taut__space *space = taut__memory_of(p.space);
    if (!space) return TAUT_E_UNSUPPORTED;
    TAUT_TRY(space->check(p, memory, what));
    return taut__on_host(p) ? taut__host_check(memory, what) : TAUT_OK;
}

taut_status taut__host_check(const void *memory, const char *what)
{
    const taut__cuda *cuda = taut__cuda_if_used();
    return cuda ? cuda->device->check(memory, false, what) : TAUT_OK;
}
