/* sample_device.c : see sample_device.h. */
#include "sample_device.h"
#include <string.h>

enum { BLOCK = TAUT_SAMPLE_BLOCK };

/* Floats of x, lost, result and wide blocks, one behind the other, on the device and on the host. */
struct taut__sample_there {
    uint64_t *at; /* on the device: first elements of blocks, then of wide ones */
    float    *values, *here;
    size_t    room, wide_floats, wide_room;
    bool      fetched;
};

static const taut__lane *lane_of(const taut_layer *l) { return l->reduction.lane; }
static size_t            floats_of(const struct taut__sample_there *t) { return 3 * t->room * BLOCK + t->wide_floats; }

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
    if (t && t->room == s->room && t->wide_room == s->wide_room) return TAUT_OK;
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

static taut_status fetch(taut_layer *l)
{
    const taut__sample        *s = &l->sample;
    struct taut__sample_there *t = s->there;
    const taut__lane          *lane = lane_of(l);
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

void taut__there_result(taut_layer *l)
{
    taut__sample              *s = &l->sample;
    struct taut__sample_there *t = s->there;
    if (!t || s->blocks + s->wide_blocks == 0) return;
    if (!t->fetched || !l->reduction.settled) {
        taut__there_fetch(l);
        taut__lane_note(l->reduction.lane, taut__lane_wait(l->reduction.lane));
    }
    memcpy(s->x, t->here, s->blocks * BLOCK * sizeof *s->x);
    memcpy(s->lost, t->here + t->room * BLOCK, s->blocks * BLOCK * sizeof *s->lost);
    memcpy(s->result, t->here + 2 * t->room * BLOCK, s->blocks * BLOCK * sizeof *s->result);
    if (s->wide_blocks)
        memcpy(s->wide, t->here + 3 * t->room * BLOCK, s->wide_blocks * s->wide_elems * sizeof *s->wide);
}
