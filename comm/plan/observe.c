/* observe.c : samples of what goes through, and per-layer sums of what candidates would make of them. */
#include "observed.h"
#include "../../compressors/grid/grid_stats.h"
#include "../../compressors/candidates.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- layers ---- */

taut_status taut__observer_create(const taut__settings *set, const taut_spec *reference, const taut_spec *starter,
                                  int ranks, taut__observer **out)
{
    taut__observer *o = taut__alloc(1, sizeof *o);
    *out = NULL;
    if (!o) return taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    o->set = set;
    o->ranks = ranks;
    o->like = reference != NULL;
    if (reference) o->reference = *reference;
    o->own_lowrank = reference && reference->stages == 1 && strcmp(taut__spec_codec(reference)->name, "powersgd") == 0;
    o->starter = *starter;
    o->slow = 1;
    o->matrix_layer = o->sketch_layer = SIZE_MAX;
    *out = o;
    TAUT_TRY(taut__spec_parse("grid:rel=0.03,code=packed", &o->grid[GRID_PACKED]));
    return taut__spec_parse("grid:rel=0.03,code=rans", &o->grid[GRID_RANS]);
}

void taut__observer_forget(taut__observer *o, size_t layers)
{
    while (o->layers > layers) {
        taut__observed *l = &o->layer[--o->layers];
        o->values = l->at;
        taut__free(l->spec);
        taut__free(l->x);
        taut__free(l->tile);
        taut__basis_fini(&l->basis);
        taut__sketch_fini(&l->sketch);
        taut__shared_fini(&l->shared);
    }
}

void taut__observer_destroy(taut__observer *o)
{
    if (!o) return;
    taut__observer_forget(o, 0);
    taut__free(o->layer);
    taut__free(o->vector);
    taut__free(o->scale);
    taut__free(o->matrix);
    taut__free(o->sketch);
    taut__free(o->speed);
    taut__free(o->seconds);
    taut__free(o->offers.o.layer);
    taut__free(o->offers.o.option);
    taut__free(o->offers.current);
    taut__free(o->offers.own);
    taut__free(o->offers.budget);
    taut__free(o->stats);
    taut__free(o->weight);
    taut__bench_fini(&o->bench);
    taut__free(o);
}

/* Candidates whose error is measured by encoding, then the reference. Low rank and top-k have their own estimates. */
static taut_status prepare(const taut__observer *o, taut__observed *l)
{
    size_t blocks = taut__ceil_div(l->tensor->elems, BLOCK);
    l->stride = taut__max(blocks / (ABOUT / BLOCK), 1);
    l->spec = taut__alloc(SPECS, sizeof *l->spec);
    l->x = taut__alloc(taut__ceil_div(blocks, l->stride) * BLOCK, sizeof *l->x);
    if (!l->spec || !l->x) return taut__fail(TAUT_E_NOMEM, "auto: out of memory for layer %s", l->name);
    l->specs = l->careful
                   ? taut__careful_candidates(l->tensor, l->spec, SPECS - 1)
                   : taut__candidates(l->tensor, TAUT_FAMILY_HALF | TAUT_FAMILY_QUANT, false, l->spec, SPECS - 1);
    l->referenced = o->like && !l->careful && taut__spec_suits(&o->reference, l->tensor) == TAUT_OK;
    if (l->referenced) l->spec[l->specs++] = o->reference;
    l->row_stride = taut__ceil_div(l->tensor->elems, LOWRANK_ELEMS);
    l->rows = l->tensor->rows / l->row_stride;
    return TAUT_OK;
}

taut_status taut__observer_add(taut__observer *o, const char *name, const taut_tensor *tensor,
                               struct taut_axes *const *axes, bool careful)
{
    if (o->layers == o->room) {
        size_t room = 2 * o->room + 64;
        if (!taut__grow(&o->layer, o->layers, room, sizeof *o->layer))
            return taut__fail(TAUT_E_NOMEM, "auto: out of memory for %zu layers", room);
        o->room = room;
    }
    taut__observed *l = &o->layer[o->layers];
    *l = (taut__observed){.tensor = tensor, .at = o->values, .axes = axes, .careful = careful};
    o->layers++; /* taut__observer_forget() releases it from here on */
    snprintf(l->name, sizeof l->name, "%s", name);
    TAUT_TRY(prepare(o, l));
    if (!taut__grow(&o->vector, o->values, o->values + v_size(l->specs), sizeof *o->vector))
        return taut__fail(TAUT_E_NOMEM, "auto: out of memory for layer %s", name);
    o->values += v_size(l->specs);
    return TAUT_OK;
}

/* ---- looking ---- */

taut_status taut__observer_arm_lowrank(taut__observer *o, size_t index)
{
    taut__observed *l = &o->layer[index];
    size_t          elems = l->rows * l->tensor->cols;
    if (taut__min(l->rows, l->tensor->cols) < 2) return TAUT_OK;
    if (o->own_lowrank)
        TAUT_TRY(taut__basis_prepare(&l->basis, l->rows, l->tensor->cols,
                                     taut__min(RANKS, taut__min(l->rows, l->tensor->cols))));
    TAUT_TRY(taut__sketch_prepare(&l->sketch, l->rows, l->tensor->cols));
    if (!taut__room(&o->sketch, &o->sketch_room, taut__sketch_floats(&l->sketch), sizeof *o->sketch) ||
        !taut__room(&o->matrix, &o->matrix_elems, elems, sizeof *o->matrix))
        return taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    o->matrix_layer = o->sketch_layer = index;
    o->sketched = false;
    return TAUT_OK;
}

taut_status taut__observer_arm(taut__observer *o, size_t index, uint64_t turn, bool lowrank)
{
    taut__observed *l = &o->layer[index];
    size_t          blocks = taut__ceil_div(l->tensor->elems, BLOCK);
    l->armed = true;
    l->fed = 0;
    l->start = taut__mix64(turn) % l->stride;
    l->blocks = taut__ceil_div(blocks - l->start, l->stride);
    TAUT_TRY(taut__basis_arm(l, turn));
    return lowrank && o->sketch_layer == SIZE_MAX ? taut__observer_arm_lowrank(o, index) : TAUT_OK;
}

bool taut__observer_armed(const taut__observer *o, size_t index) { return o->layer[index].armed; }

void taut__observer_disarm(taut__observer *o, size_t index)
{
    o->layer[index].armed = false;
    if (o->matrix_layer == index) o->matrix_layer = SIZE_MAX;
}

/* The part of [at, at+n) that lies in x, which holds elements first.. of the tensor, goes to dst. */
static void copy_part(const float *x, size_t first, size_t have, size_t at, size_t n, float *dst)
{
    size_t from = taut__max(first, at), to = taut__min(first + have, at + n);
    if (from < to) memcpy(dst + (from - at), x + (from - first), (to - from) * sizeof *x);
}

void taut__observer_feed(taut__observer *o, size_t index, const float *x, const float *gradient, size_t first, size_t n)
{
    taut__observed *l = &o->layer[index];
    if (!l->armed || n == 0) return;
    if (gradient) taut__basis_feed(l, gradient, first, n);
    if (!x || l->fed + n > l->tensor->elems) return;
    l->fed += n;
    size_t b = first / BLOCK;
    size_t k = b <= l->start ? 0 : taut__ceil_div(b - l->start, l->stride);
    for (; k < l->blocks && (l->start + k * l->stride) * BLOCK < first + n; k++) {
        size_t at = (l->start + k * l->stride) * BLOCK;
        copy_part(x, first, n, at, taut__min(BLOCK, l->tensor->elems - at), l->x + k * BLOCK);
    }
    if (o->matrix_layer != index) return;
    size_t cols = l->tensor->cols;
    for (size_t r = first / (cols * l->row_stride); r < l->rows && r * l->row_stride * cols < first + n; r++)
        copy_part(x, first, n, r * l->row_stride * cols, cols, o->matrix + r * cols);
}

/* What old looks count beside one of these norms, as squared errors: by steps, and where norms have fallen by steps too, since a look
 * from before the fall would outweigh all that came after it. */
static double old_looks(const double *v, taut_norm2 own)
{
    double looks = v[V_LOOKS], keep = 1;
    if (own.plain > 0 && v[V_PLAIN] > 0) keep = fmin(keep, own.plain * looks / v[V_PLAIN]);
    if (own.weighted > 0 && v[V_WEIGHTED] > 0) keep = fmin(keep, own.weighted * looks / v[V_WEIGHTED]);
    return FADE * keep;
}

/* The tensor that the sample is; its scale, if not one value, is one per element. */
static taut_status sample_tensor(taut__observer *o, const taut__observed *l, taut_tensor *s)
{
    const taut_tensor *t = l->tensor;
    size_t             last = (l->start + (l->blocks - 1) * l->stride) * BLOCK, n;
    n = (l->blocks - 1) * BLOCK + taut__min(BLOCK, t->elems - last);
    *s = *t;
    s->rows = 1;
    s->elems = s->cols = n;
    if (t->scale_n <= 1) return TAUT_OK;
    if (!o->scale) o->scale = taut__alloc(2 * ABOUT + 2 * BLOCK, sizeof *o->scale);
    if (!o->scale) return taut__fail(TAUT_E_NOMEM, "auto: out of memory");
    for (size_t i = 0; i < n; i++)
        o->scale[i] = taut__unit_at(t, (l->start + i / BLOCK * l->stride) * BLOCK + i % BLOCK);
    s->scale = o->scale;
    s->scale_n = n;
    return TAUT_OK;
}

static void look_lowrank(taut__observer *o, taut__observed *l, double *v)
{
    taut_tensor whole = {.elems = l->rows * l->tensor->cols, .rows = l->rows, .cols = l->tensor->cols};
    double      energy[RANKS] = {0}, norm2 = taut__norm2(&whole, o->matrix, 0, whole.elems).plain;
    if (!(norm2 > 0) || !taut__basis_energies(&l->basis, o->matrix, energy)) return;
    for (size_t i = V_LOWRANK_LOOKS; i < V_SPEC; i++) v[i] *= FADE;
    v[V_LOWRANK_LOOKS] += 1;
    for (size_t i = 0; i < RANKS; i++) v[V_LOWRANK + i] += energy[i] / norm2;
}

static taut_status look_specs(taut__observer *o, const taut__observed *l, const taut_tensor *t, double factor,
                              double *v)
{
    for (size_t i = 0; i < l->specs; i++) {
        taut__measured m;
        if (taut__spec_suits(&l->spec[i], t) != TAUT_OK) continue; /* a reference that needs a matrix: see offers */
        TAUT_TRY(taut__measure(&o->bench, &l->spec[i], t, l->x, factor, l->start, false, &m));
        v[V_SPEC + 3 * i] += m.plain;
        v[V_SPEC + 3 * i + 1] += m.weighted;
        v[V_SPEC + 3 * i + 2] += m.bytes;
    }
    return TAUT_OK;
}

taut_status taut__observer_measure(taut__observer *o, size_t index)
{
    taut__observed *l = &o->layer[index];
    double         *v = o->vector + l->at, factor, stats[GRID_STATS] = {0};
    taut_tensor     t;
    taut_norm2      own;
    taut_call       call = {.spec = &o->grid[GRID_PACKED], .tensor = &t};
    if (!l->armed || l->fed < l->tensor->elems) return TAUT_OK;
    l->armed = false;
    TAUT_TRY(sample_tensor(o, l, &t));
    factor = (double)l->tensor->elems / (double)t.elems;
    call.n = t.elems;
    TAUT_TRY(taut__op_collect_stats(taut__spec_codec(call.spec), &call, l->x, stats));
    if (stats[GRID_STAT_BAD] == 0) { /* NaN and Inf say nothing about later steps */
        own = taut__norm2(&t, l->x, 0, t.elems);
        own = (taut_norm2){own.plain * factor, own.weighted * factor};
        double old = old_looks(v, own);
        for (size_t i = 0; i < v_size(l->specs); i++)
            if (i < V_LOWRANK_LOOKS || i >= V_SPEC) v[i] *= old;
        v[V_LOOKS] += 1;
        v[V_PLAIN] += own.plain;
        v[V_WEIGHTED] += own.weighted;
        int lowest = taut__grid_lowest(
            own.weighted > 0 ? stats : v + v_grid(l->specs)); /* this look's window, unless all is zero */
        taut__grid_set_window(v + v_grid(l->specs), lowest);
        taut__grid_set_window(stats, lowest);
        for (size_t i = 0; i < GRID_STATS; i++) v[v_grid(l->specs) + i] += stats[i] * factor;
        TAUT_TRY(look_specs(o, l, &t, factor, v));
        TAUT_TRY(taut__basis_measure(l, v));
        if (o->matrix_layer == index && o->own_lowrank) look_lowrank(o, l, v);
        if (o->matrix_layer == index) taut__sketch_project(&l->sketch, o->matrix, o->sketch);
        o->sketched |= o->matrix_layer == index;
    }
    if (o->matrix_layer == index) o->matrix_layer = SIZE_MAX;
    return TAUT_OK;
}

void taut__observer_align(taut__observer *o, size_t index, double norm2, double *values)
{
    taut__observed *l = &o->layer[index];
    double         *stats = values + l->at + v_grid(l->specs);
    l->window = grid_window_of(norm2 > 0 ? norm2 : 1);
    taut__grid_set_window(stats, l->window);
    stats[GRID_STAT_LOWEST] = 0;
}

void taut__observer_aligned(const taut__observer *o, size_t index, double *sums)
{
    const taut__observed *l = &o->layer[index];
    double               *stats = sums + l->at + v_grid(l->specs);
    stats[GRID_STAT_LOWEST] = l->window * stats[GRID_STAT_N];
}

const double *taut__observer_vector(const taut__observer *o, size_t *n)
{
    *n = o->values;
    return o->vector;
}

taut_status taut__observer_shared(taut__observer *o, size_t l, const taut__apart *apart)
{
    return taut__shared_keep(&o->layer[l].shared, apart);
}

/* ---- low rank of the sum ---- */

size_t taut__observer_sketch_size(const taut__observer *o, size_t l)
{
    const taut__observed *x = &o->layer[l];
    return taut__min(x->rows, x->tensor->cols) < 2
               ? 0
               : (TAUT_SKETCH_RANK + TAUT_SKETCH_TAIL) * taut__max(x->rows, x->tensor->cols);
}

size_t taut__observer_sketch(const taut__observer *o, double *v)
{
    if (o->sketch_layer == SIZE_MAX) return 0;
    size_t n = taut__sketch_floats(&o->layer[o->sketch_layer].sketch);
    for (size_t i = 0; v && i < n; i++) v[i] = o->sketched ? o->sketch[i] : 0;
    return n;
}

void taut__observer_sketch_take(taut__observer *o, const double *v)
{
    if (o->sketch_layer == SIZE_MAX) return;
    taut__sketch *s = &o->layer[o->sketch_layer].sketch;
    for (size_t i = 0; i < taut__sketch_floats(s); i++) o->sketch[i] = (float)v[i];
    taut__sketch_take(s, o->sketch);
    o->sketch_layer = SIZE_MAX;
}

/* ---- room for what offers.c makes ---- */

static taut_status layer_room(taut__observer *o)
{
    taut__offers *offers = &o->offers;
    size_t        n = o->layers;
    if (offers->o.layers == n) return TAUT_OK;
    offers->o.layers = 0; /* nothing of what is there is wanted */
    if (!taut__grow(&offers->o.layer, 0, n, sizeof *offers->o.layer) ||
        !taut__grow(&offers->current, 0, n, sizeof *offers->current) ||
        !taut__grow(&offers->own, 0, n, sizeof *offers->own) ||
        !taut__grow(&offers->budget, 0, n, sizeof *offers->budget) ||
        !taut__grow(&o->stats, 0, n * GRID_STATS, sizeof *o->stats) || !taut__grow(&o->weight, 0, n, sizeof *o->weight))
        return taut__fail(TAUT_E_NOMEM, "auto: out of memory for %zu layers", n);
    offers->o.layers = n;
    return TAUT_OK;
}

static bool option_room(taut__observer *o, size_t options)
{
    taut__observations *all = &o->offers.o;
    size_t              room = 2 * options + 256;
    if (options <= o->option_room) return true;
    if (!taut__grow(&all->option, all->options, room, sizeof *all->option)) return false;
    o->option_room = room;
    return true;
}

taut_status taut__offers_room(taut__observer *o, size_t options)
{
    TAUT_TRY(layer_room(o));
    return option_room(o, options) ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "auto: out of memory for %zu options", options);
}
