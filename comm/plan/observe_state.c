/* observe_state.c : what an observer has seen, and the options that the last plan was made of, in a checkpoint (visit.h). Looks are those of
 * this rank, all else is the same on every rank. */
#include "observed.h"

static bool has_sketch(const taut__observed *l) { return taut__min(l->rows, l->tensor->cols) >= 2; }

/* ---- one layer ---- */

static taut_status visit_sketch(taut__visit *v, taut__observed *l)
{
    taut__sketch *s = &l->sketch;
    bool          there = s->basis != NULL;
    size_t        rank = taut__min(TAUT_SKETCH_RANK, taut__min(l->rows, l->tensor->cols)) + TAUT_SKETCH_TAIL;
    there = taut__visit_bool(v, &there);
    v->bad |= there && !has_sketch(l);
    if (taut__reads(v) && !there) taut__sketch_fini(s);
    if (!there || taut__visit_bad(v)) return TAUT_OK;
    if (taut__reads(v)) TAUT_TRY(taut__sketch_prepare(s, l->rows, l->tensor->cols));
    bool left = taut__visit_bool(v, &s->left);
    taut__visit32(v, &s->looks, UINT32_MAX);
    taut__visit_f64s(v, s->share, TAUT_SKETCH_RANK);
    taut__visit_floats(v, s->basis, rank * (left ? l->rows : l->tensor->cols));
    return TAUT_OK;
}

static taut_status visit_basis(taut__visit *v, taut__observed *l)
{
    taut__basis *b = &l->basis;
    bool         there = b->qt != NULL;
    size_t       rank = taut__min(RANKS, taut__min(l->rows, l->tensor->cols));
    there = taut__visit_bool(v, &there);
    v->bad |= there && !has_sketch(l);
    if (taut__reads(v) && !there) taut__basis_fini(b);
    if (!there || taut__visit_bad(v)) return TAUT_OK;
    if (taut__reads(v)) TAUT_TRY(taut__basis_prepare(b, l->rows, l->tensor->cols, rank));
    taut__visit_floats(v, b->qt, rank * l->tensor->cols);
    return TAUT_OK;
}

static taut_status visit_look(taut__visit *v, taut__shared *s, size_t i, size_t elems)
{
    enum { ENCODERS = 1 << 20, BLOCK_MOST = 64 }; /* more than there can be */
    taut__shared_look *look = &s->look[i];
    size_t             blocks, encoders, each, floats;
    blocks = look->blocks, encoders = look->encoders, each = look->elems;
    blocks = taut__visit_size(v, &blocks, v->way == TAUT_WRITE ? SIZE_MAX : v->r.left / 8);
    encoders = taut__visit_size(v, &encoders, ENCODERS);
    each = taut__visit_size(v, &each, BLOCK_MOST);
    v->bad |= !taut__mul_ok(blocks, encoders * each, &floats);
    v->bad |= v->way != TAUT_WRITE && floats > v->r.left / 4;
    if (taut__visit_bad(v)) return TAUT_OK;
    if (taut__reads(v)) TAUT_TRY(taut__shared_room(s, i, blocks, encoders, each));
    for (size_t k = 0; k < blocks; k++) {
        size_t at = v->way == TAUT_WRITE ? look->at[k] : 0;
        at = taut__visit_size(v, &at, elems - 1);
        if (taut__reads(v)) look->at[k] = at;
    }
    taut__visit_floats(v, look->x, floats);
    return TAUT_OK;
}

static taut_status visit_layer(taut__visit *v, taut__observer *o, taut__observed *l)
{
    size_t next = l->shared.next;
    taut__visit_bool(v, &l->armed);
    taut__visit_size(v, &l->start, l->stride - 1);
    taut__visit_bool(v, &l->tiled), taut__visit_size(v, &l->tile_at, SIZE_MAX);
    taut__visit_f64s(v, o->vector + l->at, v_size(l->specs));
    TAUT_TRY(visit_sketch(v, l));
    TAUT_TRY(visit_basis(v, l));
    for (size_t i = 0; i < TAUT_SHARED_LOOKS; i++) TAUT_TRY(visit_look(v, &l->shared, i, l->tensor->elems));
    taut__visit_size(v, &next, TAUT_SHARED_LOOKS - 1);
    if (!taut__reads(v)) return TAUT_OK;
    l->shared.next = next;
    l->fed = 0;
    l->blocks = taut__ceil_div(taut__ceil_div(l->tensor->elems, BLOCK) - l->start, l->stride);
    return TAUT_OK;
}

/* Which layer is looked at for low rank in the coming step; its memory. */
static taut_status visit_lowrank(taut__visit *v, taut__observer *o)
{
    uint64_t layer = o->sketch_layer == SIZE_MAX ? 0 : o->sketch_layer + 1;
    bool     here = o->matrix_layer != SIZE_MAX; /* on this rank */
    layer = taut__visit64(v, &layer, o->layers);
    here = taut__visit_bool(v, &here);
    v->bad |= here && layer == 0;
    v->bad |= layer > 0 && !has_sketch(&o->layer[layer - 1]);
    if (!taut__reads(v)) return TAUT_OK;
    o->matrix_layer = o->sketch_layer = SIZE_MAX;
    o->sketched = false;
    if (layer > 0) TAUT_TRY(taut__observer_arm_lowrank(o, (size_t)layer - 1));
    if (!here) o->matrix_layer = SIZE_MAX;
    return TAUT_OK;
}

taut_status taut__observer_visit(taut__visit *v, taut__observer *o)
{
    for (size_t l = 0; l < o->layers && !taut__visit_bad(v); l++) TAUT_TRY(visit_layer(v, o, &o->layer[l]));
    return taut__visit_bad(v) ? TAUT_OK : visit_lowrank(v, o);
}

/* ---- options ---- */

static void visit_option(taut__visit *v, taut__option *o, const taut_tensor *t)
{
    taut_spec spec;
    double    had[7] = {o->work.dense_bytes, o->work.bytes,  o->work.sum_bytes, o->work.encode_s,
                        o->work.decode_s,    o->work.rounds, o->work.agree};
    taut__visit_text(v, o->spec, sizeof o->spec);
    taut__visit_bool(v, &o->dense);
    taut__visit_f64(v, &o->error), taut__visit_f64(v, &o->share);
    taut__visit32(v, &o->kind, TAUT_KIND_ENTROPY | TAUT_KIND_OTHERS | TAUT_KIND_FAST);
    if (taut__reads(v) && !o->dense && o->kind == 0) o->kind = TAUT_KIND_FAST; /* as it was written once */
    taut__visit_f64s(v, had, 7);
    taut__visit32(v, &o->work.vias, (1u << TAUT_VIAS) - 1);
    if (v->way == TAUT_WRITE || taut__visit_bad(v)) return;
    o->work = (taut__work){had[0], had[1], had[2], had[3], had[4], had[5], o->work.vias, had[6]};
    v->bad |= taut__spec_parse(o->spec, &spec) != TAUT_OK || spec.automatic || taut__spec_suits(&spec, t) != TAUT_OK;
}

/* Of layer l: its options begin where those of the layer before end. */
static void visit_offer(taut__visit *v, taut__observer *o, size_t l, size_t *options)
{
    taut__offers      *f = &o->offers;
    const taut_tensor *t = o->layer[l].tensor;
    bool               there = v->way != TAUT_CHECK; /* else there may be no room */
    taut__offer        offer = there ? f->o.layer[l] : (taut__offer){0};
    double             own = there ? f->own[l] : 0;
    uint32_t           current = v->way == TAUT_WRITE ? f->current[l] - (uint32_t)offer.first : 0;
    size_t             n = taut__visit_size(v, &offer.n, f->o.options - *options);
    taut__visit_f64(v, &offer.norm2);
    taut__visit_f64(v, &own);
    current = taut__visit32(v, &current, n > 0 ? (uint32_t)n - 1 : 0);
    v->bad |= n == 0;
    for (size_t i = 0; i < n && !taut__visit_bad(v); i++) {
        taut__option checked = {0};
        visit_option(v, there ? &f->o.option[*options + i] : &checked, t);
    }
    if (taut__reads(v)) {
        f->o.layer[l] = (taut__offer){.elems = t->elems, .norm2 = offer.norm2, .first = *options, .n = n};
        memcpy(f->o.layer[l].name, o->layer[l].name, sizeof o->layer[l].name);
        f->own[l] = own;
        f->current[l] = (uint32_t)*options + current;
    }
    *options += n;
}

taut_status taut__offers_visit(taut__visit *v, taut__observer *o, size_t *options)
{
    enum { LEAST = 80 }; /* bytes of an option */
    taut__offers *f = &o->offers;
    size_t        n = f->o.options, kept = f->o.options, at = 0;
    double        had[3] = {f->budget2, f->norm2, f->own2};
    n = *options = taut__visit_size(v, &n, v->way == TAUT_WRITE ? SIZE_MAX : v->r.left / LEAST);
    taut__visit_f64s(v, had, 3);
    if (taut__visit_bad(v)) return TAUT_OK;
    if (taut__reads(v)) {
        f->o.options = 0; /* nothing of what is there is wanted */
        TAUT_TRY(taut__offers_room(o, n));
        f->budget2 = had[0], f->norm2 = had[1], f->own2 = had[2];
    }
    f->o.options = n;
    for (size_t l = 0; l < o->layers && !taut__visit_bad(v); l++) visit_offer(v, o, l, &at);
    v->bad |= at != n;
    if (v->way == TAUT_CHECK) f->o.options = kept;
    return TAUT_OK;
}

taut__offers *taut__observer_last(taut__observer *o) { return &o->offers; }
