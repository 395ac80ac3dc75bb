/* placed.c : see placed.h. */
#include "placed.h"
#include "../context/joint.h"
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include <math.h>
#include <string.h>

static const taut_codec *codec_of(const taut_piece *p) { return taut__spec_codec(p->call.spec); }
static uint8_t          *payload_there(const taut__reduction *red, float *scratch)
{
    return (uint8_t *)(scratch + 2 * red->lane->scratch_n);
}

/* ---- codec operations ---- */

taut_status taut__placed_do(const taut__reduction *red, taut__op op, taut_piece *p, size_t *len)
{
    if (!taut__at_home(red)) return taut__joint_ask(red->lane, op, codec_of(p), p, len);
    taut_outcome out = {.bytes = len ? *len : 0};
    taut_piece   here = *p;
    here.outcome = &out;
    taut_status s = taut__run_piece(op, codec_of(p), taut__ops(codec_of(p), TAUT_HOST), &here);
    if (len) *len = s == TAUT_OK ? (size_t)out.bytes : 0;
    return s;
}

taut_status taut__placed_make(const taut__reduction *red, taut__op op, taut_piece *p, uint8_t *frame, size_t cap,
                              size_t *len, float *scratch)
{
    bool   home = taut__at_home(red);
    size_t bytes = 0;
    *len = 0;
    if (cap < TAUT_FRAME_HEADER) return taut__fail(TAUT_E_CAPACITY, "frame: %zu bytes of room: needs more", cap);
    p->payload = home ? frame + TAUT_FRAME_HEADER : payload_there(red, scratch);
    p->cap = cap - TAUT_FRAME_HEADER;
    if (!home) p->cap = taut__min(red->lane->frame_bytes, p->cap);
    TAUT_TRY(taut__placed_do(red, op, p, &bytes));
    if (!home) TAUT_TRY(taut__lane_copy(red->lane, frame + TAUT_FRAME_HEADER, p->payload, bytes));
    return taut__frame_seal(codec_of(p), &p->call, frame, bytes, len);
}

taut_status taut__placed_take(const taut__reduction *red, taut__op op, taut_piece *p, const uint8_t *frame, size_t len,
                              float *scratch)
{
    const uint8_t *payload;
    size_t         bytes;
    TAUT_TRY(taut__frame_open(codec_of(p), p->call.n, frame, len, &payload, &bytes, NULL, NULL, NULL));
    p->payload = (uint8_t *)(uintptr_t)payload;
    if (!taut__at_home(red)) {
        p->payload = payload_there(red, scratch);
        if (bytes > red->lane->frame_bytes)
            return taut__fail(TAUT_E_CORRUPT, "%s: payload of %zu bytes where at most %zu were expected", red->job.name,
                              bytes, red->lane->frame_bytes);
        TAUT_TRY(red->lane->space->copy(red->lane->place, p->payload, payload, bytes));
    }
    return taut__placed_do(red, op, p, &bytes);
}

/* ---- numbers ---- */

typedef struct looked { /* what a device answers */
    taut_norm2 norms;
    uint32_t   flags;
    uint64_t   found;
} looked;

static taut_status norms_there(const taut__lane *lane, const taut_tensor *t, const float *x, size_t first, size_t n,
                               looked *out)
{
    void *memory = NULL;
    TAUT_TRY(lane->space->alloc_in(lane->place, sizeof *out, &memory));
    looked     *there = memory;
    taut_status s = lane->space->fill(lane->place, there, 0, sizeof *there);
    if (s == TAUT_OK) s = lane->vectors->norm2(lane->place, t, x, first, n, &there->norms, &there->flags);
    if (s == TAUT_OK) s = taut__lane_copy(lane, out, there, sizeof *out);
    lane->space->release_in(lane->place, there);
    return s;
}

taut_norm2 taut__placed_norms_of(const taut__reduction *red, const taut_tensor *t, const float *x, size_t first,
                                 size_t n, bool *bad)
{
    looked      out = {0};
    taut_status s = norms_there(red->lane, t, x, first, n, &out);
    taut__lane_note(red->lane, s);
    if (bad) *bad = s == TAUT_OK && out.flags & TAUT_FLAG_NOT_FINITE;
    return s == TAUT_OK ? out.norms : (taut_norm2){0, 0};
}

taut_norm2 taut__placed_norms(const taut__reduction *red, const float *x, size_t first, size_t n, bool *bad)
{
    return taut__placed_norms_of(red, red->call.tensor, x, first, n, bad);
}

void taut__placed_copy(const taut__reduction *red, void *dst, const void *src, size_t bytes)
{
    if (taut__at_home(red)) memcpy(dst, src, bytes);
    else taut__lane_note(red->lane, red->lane->space->copy(red->lane->place, dst, src, bytes));
}

void taut__placed_scale(const taut__reduction *red, float *x, float factor, size_t n)
{
    if (taut__at_home(red)) taut__simd_get()->vec->scale(x, factor, n);
    else taut__lane_note(red->lane, red->lane->vectors->scale(red->lane->place, x, factor, n));
}

void taut__placed_residual(const taut__reduction *red, float *err, const float *x, const float *y, size_t n)
{
    if (taut__at_home(red)) taut__simd_get()->vec->residual(err, x, y, n);
    else taut__lane_note(red->lane, red->lane->vectors->residual(red->lane->place, err, x, y, n));
}

void taut__placed_convert(const taut__reduction *red, void *dst, taut_dtype to, const void *src, taut_dtype from,
                          size_t n)
{
    taut__lane_note(red->lane, red->lane->vectors->convert(red->call.place, dst, to, src, from, n));
}

static taut_status add_scaled_there(const taut__lane *lane, float *r, float *err, float factor, size_t n)
{
    void *found = NULL;
    TAUT_TRY(lane->vectors->scale(lane->place, err, factor, n));
    TAUT_TRY(lane->vectors->add(lane->place, r, TAUT_F32, err, n));
    TAUT_TRY(lane->space->alloc_in(lane->place, sizeof(uint64_t), &found));
    taut_status s = lane->vectors->scrub(lane->place, r, n, found);
    lane->space->release_in(lane->place, found);
    return s;
}

void taut__placed_add_scaled(const taut__reduction *red, float *r, float *err, float factor, size_t n)
{
    if (!taut__at_home(red)) {
        taut__lane_note(red->lane, add_scaled_there(red->lane, r, err, factor, n));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float sum = r[i] + factor * err[i];
        r[i] = isfinite(sum) ? sum : 0;
    }
}

bool taut__placed_overflowed(const taut__reduction *red, const void *x, taut_dtype dtype, size_t n)
{
    const taut__lane *lane = red->lane;
    void             *wide = NULL;
    looked            out = {0};
    taut_status       s = lane->space->alloc_in(lane->place, n * sizeof(float), &wide);
    if (s == TAUT_OK) s = lane->vectors->convert(lane->place, wide, TAUT_F32, x, dtype, n);
    if (s == TAUT_OK) s = norms_there(lane, &(taut_tensor){.elems = n, .rows = n, .cols = 1}, wide, 0, n, &out);
    if (wide) lane->space->release_in(lane->place, wide);
    taut__lane_note(red->lane, s);
    return s == TAUT_OK && out.flags & TAUT_FLAG_NOT_FINITE;
}

/* ---- memory ---- */

taut_status taut__placed_alloc(const taut__reduction *red, size_t bytes, const char *what, void *out)
{
    void       *memory = NULL;
    taut_status s = red->lane->space->alloc(red->lane->place, bytes, &memory);
    memcpy(out, &memory, sizeof memory);
    return s == TAUT_E_NOMEM ? taut__fail(s, "%s: out of memory for %s of %zu bytes", red->job.name, what, bytes) : s;
}

void taut__placed_release(const taut__reduction *red, void *memory)
{
    if (memory) red->lane->space->release(red->lane->place, memory);
}

/* ---- aside ---- */

static void work_aside(void *ctx, size_t i, int worker)
{
    taut__reduction *red = ctx;
    taut__aside     *a = &red->aside;
    (void)i;
    a->status = taut__space_use(red->lane->space, red->lane->place);
    taut__joint_enter(red->lane);
    a->scratch = red->lane->scratch[worker];
    if (a->status == TAUT_OK) a->status = a->work(red);
    taut__joint_leave(red->lane);
    if (a->status == TAUT_OK) a->status = taut__placed_wait(red);
    a->why = a->status == TAUT_OK ? NULL : taut_last_error();
}

taut_status taut__aside_begin(taut__reduction *red, taut_status (*work)(taut__reduction *red))
{
    red->aside.scratch = red->lane->scratch[0];
    if (taut__at_home(red)) return work(red);
    red->aside = (taut__aside){.work = work};
    taut__executor_submit(red->lane->executor, &red->aside.batch, work_aside, red, 1);
    return TAUT_OK;
}

taut_status taut__aside_poll(taut__reduction *red, bool *moved)
{
    taut__aside *a = &red->aside;
    if (!taut__executor_poll(red->lane->executor, &a->batch)) return TAUT_OK;
    a->work = NULL;
    *moved = true;
    return a->status == TAUT_OK ? TAUT_OK : taut__fail(a->status, "%s", a->why);
}

void taut__aside_cancel(taut__reduction *red)
{
    taut__executor_settle(red->lane->executor, &red->aside.batch);
    red->aside.work = NULL;
}

/* ---- to and from the host, and order ---- */

taut_status taut__lane_copy(const taut__lane *lane, void *dst, const void *src, size_t bytes)
{
    TAUT_TRY(taut__space_use(lane->space, lane->place));
    if (bytes) TAUT_TRY(lane->space->copy(lane->place, dst, src, bytes));
    return taut__lane_wait(lane);
}

taut_status taut__placed_wait(const taut__reduction *red)
{
    return taut__at_home(red) ? TAUT_OK : taut__lane_wait(red->lane);
}
