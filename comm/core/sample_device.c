/* sample_device.c : see sample_blocks.h. */
#include "sample_blocks.h"
#include <string.h>

/* Floats of x, lost, result and wide blocks, one behind the other, on the device and on the host; then the scale's, where it is read in place, of
 * blocks and of wide ones. */
struct taut__sample_there {
    uint64_t *at; /* on the device: first elements of blocks, then of wide ones */
    float    *values, *here;
    size_t    room, wide_floats, wide_room;
    bool      fetched;
    bool      scaled, whole; /* room for the scale's; all of the scale has been fetched instead */
};

static const taut__lane *lane_of(const taut_layer *l) { return l->reduction.lane; }
static size_t            scale_at(const struct taut__sample_there *t) { return 3 * t->room * BLOCK + t->wide_floats; }
static size_t            floats_of(const struct taut__sample_there *t)
{
    return scale_at(t) + (t->scaled ? t->room * BLOCK + t->wide_floats : 0);
}
static bool scaled(const taut_layer *l) { return taut__scale_there(l) && l->operand.tensor.scale_n > 0; }

void taut__there_release(taut_layer *l)
{
    struct taut__sample_there *t = l->sample.there;
    const taut__lane          *lane = lane_of(l);
    if (!t) return;
    lane->space->release(lane->place, t->at);
    lane->space->release(lane->place, t->values);
    taut__space_host_release(lane->space, lane->place, t->here);
    taut__free(t);
    l->sample.there = NULL;
}

static taut_status make(taut_layer *l, struct taut__sample_there *t)
{
    const taut__lane   *lane = lane_of(l);
    const taut__sample *s = &l->sample;
    void               *at = NULL, *values = NULL;
    t->room = s->room, t->wide_room = s->wide_room, t->wide_floats = s->wide_room * s->wide_elems;
    t->scaled = scaled(l);
    TAUT_TRY(lane->space->alloc(lane->place, taut__max(t->room + t->wide_room, 1) * sizeof *t->at, &at));
    t->at = at;
    TAUT_TRY(lane->space->alloc(lane->place, taut__max(floats_of(t), 1) * sizeof *t->values, &values));
    t->values = values;
    t->here = taut__space_host_alloc(lane->space, lane->place, taut__max(floats_of(t), 1) * sizeof *t->here);
    return t->here
               ? TAUT_OK
               : taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory for %zu sampled numbers", l->name, floats_of(t));
}

static taut_status fit(taut_layer *l)
{
    taut__sample              *s = &l->sample;
    struct taut__sample_there *t = s->there;
    if (t && t->room == s->room && t->wide_room == s->wide_room && t->scaled == scaled(l)) return TAUT_OK;
    taut__there_release(l);
    s->there = taut__alloc(1, sizeof *s->there);
    taut_status made = s->there ? make(l, s->there) : taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
    if (made != TAUT_OK) taut__there_release(l);
    return made;
}

static taut_status bring(const taut_layer *l, const size_t *at, size_t n, uint64_t *to)
{
    enum { SOME = TAUT__PUT_MAX / sizeof(uint64_t) };
    const taut__lane *lane = lane_of(l);
    _Static_assert(sizeof(size_t) == sizeof(uint64_t), "places of blocks travel as they are");
    for (size_t i = 0; i < n; i += SOME)
        TAUT_TRY(lane->space->put(lane->place, to + i, at + i, taut__min(SOME, n - i) * sizeof *to));
    return TAUT_OK;
}

taut_status taut__there_begin(taut_layer *l)
{
    taut__sample     *s = &l->sample;
    const taut__lane *lane = lane_of(l);
    TAUT_TRY(taut__space_use(lane->space, lane->place));
    TAUT_TRY(fit(l));
    s->there->fetched = false; /* what is enqueued from here on is of this collective */
    TAUT_TRY(bring(l, s->at, s->blocks, s->there->at));
    TAUT_TRY(bring(l, s->wide_at, s->wide_blocks, s->there->at + s->there->room));
    return lane->space->fill(lane->place, s->there->values, 0, 2 * s->there->room * BLOCK * sizeof(float));
}

void taut__there_keep(taut_layer *l, taut__sampled what, taut__range r, const float *from, float factor)
{
    const taut__sample        *s = &l->sample;
    struct taut__sample_there *t = s->there;
    taut__lane                *lane = l->reduction.lane;
    bool                       wide = what == TAUT_SAMPLED_WIDE;
    size_t                     blocks = wide ? s->wide_blocks : s->blocks, elems = wide ? s->wide_elems : BLOCK;
    float                     *to = t ? t->values + (wide ? 3 : (size_t)what) * t->room * BLOCK : NULL;
    if (!t || blocks == 0 || r.n == 0) return;
    taut__lane_note(lane, lane->vectors->pick(lane->place, to, TAUT_F32, from, t->at + (wide ? t->room : 0), blocks,
                                              elems, r.first, r.n, factor));
}

/* The planner may look at all of it once the step has ended. */
static bool wants_whole(const taut_layer *l)
{
    return !l->scale_lent.known || l->comm->sampling.apart || (l->reduction.watched & TAUT_WATCH_INPUT);
}

static taut_status fetch_scale(taut_layer *l)
{
    const taut__sample        *s = &l->sample;
    struct taut__sample_there *t = s->there;
    const taut__lane          *lane = lane_of(l);
    const float               *from = l->scale_lent.at;
    size_t                     all = l->operand.tensor.elems;
    float                     *to = t->values + scale_at(t);
    t->whole = wants_whole(l);
    if (t->whole) return lane->space->copy(lane->place, l->scale, from, all * sizeof *from);
    if (s->blocks) TAUT_TRY(lane->vectors->pick(lane->place, to, TAUT_F32, from, t->at, s->blocks, BLOCK, 0, all, 1));
    return s->wide_blocks ? lane->vectors->pick(lane->place, to + t->room * BLOCK, TAUT_F32, from, t->at + t->room,
                                                s->wide_blocks, s->wide_elems, 0, all, 1)
                          : TAUT_OK;
}

static taut_status fetch(taut_layer *l)
{
    const taut__sample        *s = &l->sample;
    struct taut__sample_there *t = s->there;
    const taut__lane          *lane = lane_of(l);
    if (t->scaled) TAUT_TRY(fetch_scale(l));
    if (s->blocks)
        TAUT_TRY(lane->vectors->pick(lane->place, t->values + 2 * t->room * BLOCK, l->operand.dtype, l->reduction.buf,
                                     t->at, s->blocks, BLOCK, 0, l->operand.tensor.elems, 1));
    return lane->space->copy(lane->place, t->here, t->values, floats_of(t) * sizeof *t->here);
}

void taut__there_fetch(taut_layer *l)
{
    struct taut__sample_there *t = l->sample.there;
    if (!t || l->sample.blocks + l->sample.wide_blocks == 0) return;
    taut__lane_note(l->reduction.lane, fetch(l));
    t->fetched = true;
}

/* Into the layer's copy, where those who look at it expect them. */
static void spread_scale(taut_layer *l)
{
    const taut__sample              *s = &l->sample;
    const struct taut__sample_there *t = s->there;
    const float                     *from = t->here + scale_at(t), *wide = from + t->room * BLOCK;
    size_t                           all = l->operand.tensor.elems;
    l->scale_lent.known |= t->whole;
    for (size_t k = 0; k < s->blocks && !t->whole; k++)
        memcpy(l->scale + s->at[k], from + k * BLOCK, taut__min(BLOCK, all - s->at[k]) * sizeof *from);
    for (size_t k = 0; k < s->wide_blocks && !t->whole; k++)
        memcpy(l->scale + s->wide_at[k], wide + k * s->wide_elems, s->wide_elems * sizeof *wide);
}

/* Of a layer that loses nothing the planner looks at the input alone, and waits for that, too. */
static void scale_alone(taut_layer *l)
{
    const taut__lane *lane = lane_of(l);
    if (!scaled(l) || !wants_whole(l)) return;
    taut__lane_note(l->reduction.lane, lane->space->copy(lane->place, l->scale, l->scale_lent.at,
                                                         l->operand.tensor.elems * sizeof *l->scale));
    taut__lane_note(l->reduction.lane, taut__lane_wait(l->reduction.lane));
    l->scale_lent.known = true;
}

void taut__there_result(taut_layer *l)
{
    taut__sample              *s = &l->sample;
    struct taut__sample_there *t = s->there;
    if (!t || s->blocks + s->wide_blocks == 0) {
        scale_alone(l);
        return;
    }
    if (!t->fetched || !l->reduction.settled) {
        taut__there_fetch(l);
        taut__lane_note(l->reduction.lane, taut__lane_wait(l->reduction.lane));
    }
    memcpy(s->x, t->here, s->blocks * BLOCK * sizeof *s->x);
    memcpy(s->lost, t->here + t->room * BLOCK, s->blocks * BLOCK * sizeof *s->lost);
    memcpy(s->result, t->here + 2 * t->room * BLOCK, s->blocks * BLOCK * sizeof *s->result);
    if (s->wide_blocks)
        memcpy(s->wide, t->here + 3 * t->room * BLOCK, s->wide_blocks * s->wide_elems * sizeof *s->wide);
    if (t->scaled) spread_scale(l);
}
