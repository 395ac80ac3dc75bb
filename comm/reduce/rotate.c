/* rotate.c : see phases.h. On the host each advance does one slice, or tiles of some elements; elsewhere a thread of the lane has the whole tensor done,
 * and the next advance goes on. */
#include "phases.h"
#include "../../compressors/basis/basis.h"
#include "../../compressors/dispatch.h"
#include "../../compressors/vec/vec.h"
#include "input.h"
#include "placed.h"
#include <float.h>

/* What earlier results count beside one that is learnt now. */
static const double KEEP = 0.9;

enum { AT_ONCE = 1 << 16 }; /* elements of the tiles that one advance does */

static taut_axes         *axes_of(const taut__reduction *red) { return red->operand->axes; }
static const taut_tensor *tensor_of(const taut__reduction *red)
{
    return taut__at_home(red) ? &red->operand->tensor : &red->operand->there;
}

/* Is this collective coded in a basis? */
static bool rotates(const taut__reduction *red)
{
    return red->operand->turns && red->halves == TAUT_BOTH && red->g->size > 1 && red->g->rank >= 0 &&
           taut__axes_ready(axes_of(red));
}

bool taut__rotated(const taut__reduction *red) { return red->call.turned; }

bool taut__learns(const taut__reduction *red)
{
    uint64_t calls = red->operand->calls;
    return red->operand->learns && red->halves == TAUT_BOTH && red->ctx->all.size > 1 &&
           (calls < TAUT_LEARN_FIRST || calls % TAUT_LEARN_EVERY == 0);
}

/* From the beginning, so that what ranks agree on is asked for in the unit in which it will be used. */
void taut__rotate_begin(taut__reduction *red)
{
    const taut_tensor *own = tensor_of(red);
    red->rotation = (taut__rotation){.plain = *own, .will = rotates(red)};
    if (red->rotation.plain.scale_n > 1) red->rotation.plain.scale_n = 0, red->rotation.plain.scale = NULL;
    red->call.turned = false;
    red->call.tensor = red->rotation.will ? &red->rotation.plain : own;
}

static taut__range slice_at(const taut__reduction *red, size_t at)
{
    return (taut__range){at, taut__min(red->part.sub, red->call.n - at)};
}

/* The next tiles of axes; false: that were all. */
static bool next_tiles(taut__reduction *red, size_t *from, size_t *to)
{
    size_t tiles = taut__axes_tiles(axes_of(red)), each = taut__ceil_div(red->call.n, tiles);
    *from = red->rotation.tile;
    *to = taut__min(tiles, *from + taut__ceil_div(AT_ONCE, each));
    red->rotation.tile = *to;
    return *to < tiles;
}

static taut_norm2 norms(const taut__reduction *red, const float *x, taut__range r)
{
    return taut__norm2(tensor_of(red), x + r.first, r.first, r.n);
}

/* ---- elsewhere ---- what a thread of the lane does */

static taut_status form_all(taut__reduction *red)
{
    double       begin = taut__now();
    const float *x = taut__form(red, 0, red->call.n);
    red->rotation.own = taut__placed_norms_of(red, tensor_of(red), x, 0, red->call.n, &red->rotation.bad);
    red->record.encode_s += taut__now() - begin;
    return TAUT_OK;
}

static taut_status change_all(taut__reduction *red, float *x, bool back)
{
    TAUT_TRY(taut__axes_place(axes_of(red), red->lane->place));
    return taut__axes_change(axes_of(red), tensor_of(red), x, back);
}

static taut_status turn_all(taut__reduction *red)
{
    double      begin = taut__now();
    taut_status s = change_all(red, red->operand->feedback->r, false);
    red->record.encode_s += taut__now() - begin;
    return s;
}

static taut_status unturn_all(taut__reduction *red) { return change_all(red, red->operand->feedback->r, true); }

static taut_status back_all(taut__reduction *red)
{
    TAUT_TRY(change_all(red, red->buf, true));
    return change_all(red, red->operand->feedback->r, true);
}

static taut_status learn_all(taut__reduction *red)
{
    double begin = taut__now();
    TAUT_TRY(taut__axes_place(axes_of(red), red->lane->place));
    TAUT_TRY(taut__axes_learn_all(axes_of(red), tensor_of(red), red->buf, KEEP));
    TAUT_TRY(taut__lane_wait(red->lane));
    taut__axes_renew(axes_of(red)); /* unless the result is not finite: then the basis stays, on all ranks */
    red->record.decode_s += taut__now() - begin;
    return TAUT_OK;
}

/* ---- there ---- */

static void form_slice(taut__reduction *red)
{
    taut__range  r = slice_at(red, red->at);
    const float *x = taut__form(red, r.first, r.n);
    if (red->watched & TAUT_WATCH_INPUT) red->watcher->input(red, r, x);
    taut__tell_sample(red, r, x);
    taut__add_norm(&red->rotation.own, taut__norm2(tensor_of(red), x, r.first, r.n), 1);
    red->rotation.bad |= !(taut__simd_get()->vec->max_abs(x, r.n) <= FLT_MAX);
    red->at += r.n;
}

/* Not finite: x stays. */
static void end_rotate(taut__reduction *red)
{
    red->formed = true;
    red->call.turned = !red->rotation.bad;
    if (red->rotation.bad) red->call.tensor = tensor_of(red);
    else red->rotation.watched = red->watched, red->watched = 0;
    red->rotation.tile = 0;
}

static taut_status rotate_elsewhere(taut__reduction *red, bool *done)
{
    taut__range  all = {0, red->call.n};
    const float *x = red->operand->feedback->r;
    if (red->at == 0) {
        red->at = red->call.n;
        return taut__aside_begin(red, form_all);
    }
    if (red->rotation.tile == 0) { /* formed */
        if (red->watched & TAUT_WATCH_INPUT) red->watcher->input(red, all, x);
        taut__tell_sample(red, all, x);
        red->rotation.tile = 1;
        if (!red->rotation.bad) return taut__aside_begin(red, turn_all);
    }
    *done = true;
    end_rotate(red);
    return TAUT_OK;
}

taut_status taut__rotate_advance(taut__reduction *red, bool *moved, bool *done)
{
    double begin = taut__now();
    float *x = red->operand->feedback->r;
    size_t from, to;
    *moved = true;
    if (!taut__at_home(red)) return rotate_elsewhere(red, done);
    if (red->at < red->call.n) {
        form_slice(red);
    } else if (red->rotation.bad) {
        *done = true;
    } else {
        *done = !next_tiles(red, &from, &to);
        for (; from < to; from++) taut__axes_turn(axes_of(red), tensor_of(red), from, x);
    }
    if (*done) end_rotate(red);
    red->record.encode_s += taut__now() - begin;
    return TAUT_OK;
}

/* In its own coordinates from here on. */
static void end_turn(taut__reduction *red)
{
    red->call.turned = false;
    red->call.tensor = tensor_of(red);
    red->rotation.tile = 0;
    red->watched = red->rotation.watched;
    red->record.own = red->rotation.own;
    red->record.low.own = (taut_norm2){0, 0};
}

static taut_status unturn_elsewhere(taut__reduction *red, bool *done)
{
    if (red->rotation.tile == 0) {
        red->rotation.tile = 1;
        return taut__aside_begin(red, unturn_all);
    }
    *done = true;
    end_turn(red);
    return TAUT_OK;
}

taut_status taut__unturn_advance(taut__reduction *red, bool *moved, bool *done)
{
    size_t from, to;
    *moved = true;
    if (!taut__at_home(red)) return unturn_elsewhere(red, done);
    *done = !next_tiles(red, &from, &to);
    for (; from < to; from++) taut__axes_back(axes_of(red), tensor_of(red), from, red->operand->feedback->r);
    if (*done) end_turn(red);
    return TAUT_OK;
}

/* ---- and back ---- */

/* Of the result every rank counts its part, as in every algorithm all ranks' records together count all of it. */
static void account_slice(taut__reduction *red)
{
    taut__range  r = slice_at(red, red->at), mine = taut__part(&red->part, red->g->rank);
    size_t       first = taut__max(r.first, mine.first), end = taut__min(r.first + r.n, mine.first + mine.n);
    const float *err = red->operand->feedback->r, *sum = red->buf;
    double       mean = (double)red->factor * (double)red->factor;
    taut__add_norm(&red->record.error, norms(red, err, r), 1);
    taut__tell_lost(red, r, err + r.first, 1);
    if (first < end)
        taut__add_norm(&red->record.sum, taut__sum_norms(red, sum + first, (taut__range){first, end - first}),
                       1 / mean);
    red->watcher->stored(red, r.first, r.n);
    red->at += r.n;
}

static void end_back(taut__reduction *red)
{
    taut__record *r = &red->record;
    end_turn(red);
    r->error = r->sum = r->requantization_error = r->low.error = r->low.sum = r->low.requantization_error =
        (taut_norm2){0, 0};
}

static void turn_back(taut__reduction *red)
{
    size_t from, to;
    bool   last = !next_tiles(red, &from, &to);
    for (; from < to; from++) {
        taut__axes_back(axes_of(red), tensor_of(red), from, red->buf);
        taut__axes_back(axes_of(red), tensor_of(red), from, red->operand->feedback->r);
    }
    if (last) end_back(red);
}

static taut_status account_all(taut__reduction *red)
{
    const float *err = red->operand->feedback->r, *sum = red->buf;
    taut__range  mine = taut__part(&red->part, red->g->rank);
    double       begin = taut__now(), mean = (double)red->factor * (double)red->factor;
    taut__add_norm(&red->record.error, taut__norms_of(red, err, (taut__range){0, red->call.n}), 1);
    if (mine.n) taut__add_norm(&red->record.sum, taut__sum_norms(red, sum + mine.first, mine), 1 / mean);
    red->record.decode_s += taut__now() - begin;
    return TAUT_OK;
}

static taut_status back_elsewhere(taut__reduction *red, bool *done)
{
    taut__range all = {0, red->call.n};
    if (taut__rotated(red) && red->rotation.tile == 0) {
        red->rotation.tile = 1;
        return taut__aside_begin(red, back_all);
    }
    if (taut__rotated(red)) {
        end_back(red);
        return taut__aside_begin(red, account_all);
    }
    taut__tell_lost(red, all, red->operand->feedback->r, 1);
    red->watcher->stored(red, 0, all.n);
    red->at = all.n;
    *done = true;
    return TAUT_OK;
}

taut_status taut__back_advance(taut__reduction *red, bool *moved, bool *done)
{
    double begin = taut__now();
    *moved = true;
    if (!taut__at_home(red)) return back_elsewhere(red, done);
    if (taut__rotated(red)) turn_back(red);
    else account_slice(red);
    *done = red->at == red->call.n;
    red->record.decode_s += taut__now() - begin;
    return TAUT_OK;
}

/* ---- learning ---- */

taut_status taut__learn_advance(taut__reduction *red, bool *moved, bool *done)
{
    double begin = taut__now();
    size_t from, to;
    *moved = true;
    if (!taut__at_home(red)) {
        *done = red->at > 0;
        red->at = 1;
        return *done ? TAUT_OK : taut__aside_begin(red, learn_all);
    }
    if (red->at == 0) {
        red->rotation.tile = 0;
        taut__axes_learn_begin(axes_of(red), KEEP);
        red->at = 1;
    }
    *done = !next_tiles(red, &from, &to);
    for (; from < to; from++) taut__axes_learn(axes_of(red), tensor_of(red), from, red->buf);
    if (*done) taut__axes_renew(axes_of(red)); /* unless the result is not finite: then the basis stays, on all ranks */
    red->record.decode_s += taut__now() - begin;
    return TAUT_OK;
}
