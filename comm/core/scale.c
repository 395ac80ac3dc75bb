/* scale.c : the unit in which a layer's errors count: a copy of the program's numbers, or the numbers themselves, where they lie.
 *
 * On the host a scale in place is read by codecs and measurements like a copy. On a device codecs read it there; of what the host needs of it, which is a
 * few elements per step, the copies come with the samples (sample_device.c). Ranks compare what these saw, so a scale in place is compared everywhere in the
 * course of steps, not in each. */
#include "../../scheduler/budget.h"
#include "communicator.h"
#include <string.h>
#include <xxhash.h>

/* Under codec=auto everything is in one unit, that of the metric: a scale counts where the metric is the optimizer's. */
taut_status taut__scale_use(taut_layer *l)
{
    bool counts = !l->automatic || l->comm->ctx.set.metric == TAUT_METRIC_OPTIMIZER,
         had = l->operand.tensor.scale_n > 0;
    l->operand.tensor.scale_n = counts ? l->scale_n : 0;
    l->operand.tensor.scale = counts ? l->scale : NULL;
    l->scale_due = true;
    l->scale_moved = l->bucket != NULL;
    return l->automatic && had != (l->operand.tensor.scale_n > 0) ? taut__planned_rescaled(l) : TAUT_OK;
}

static bool owned(const taut_layer *l) { return !l->scale_lent.at || taut__scale_there(l); }

void taut__scale_drop(taut_layer *l)
{
    if (owned(l)) taut__free(l->scale);
    l->scale = NULL;
    l->scale_n = 0;
    l->scale_hash = 0;
    l->scale_lent = (taut__scale_lent){0};
}

static taut_status unusable(const taut_layer *l, size_t i, float s)
{
    return taut__fail(TAUT_E_RANGE, "layer '%s': scale[%zu]=%g: must be positive and finite", l->name, i, (double)s);
}

static taut_status may_change(const taut_layer *l, const char *call)
{
    if (l->started) return taut__fail(TAUT_E_STATE, "layer '%s': %s between start and wait", l->name, call);
    if (l->graph) return taut__fail(TAUT_E_STATE, "layer '%s': %s: it is part of a graph", l->name, call);
    return TAUT_OK;
}

static taut_status check_all(const taut_layer *l, const float *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!taut__scale_usable(s[i])) return unusable(l, i, s[i]);
    return TAUT_OK;
}

/* Room for n numbers of the layer's own. */
static taut_status own(taut_layer *l, size_t n)
{
    if (owned(l) && n == l->scale_n && l->scale) return TAUT_OK;
    float *copy = n ? taut__alloc(n, sizeof *copy) : NULL;
    if (n && !copy) return taut__fail(TAUT_E_NOMEM, "layer '%s': out of memory", l->name);
    taut__scale_drop(l);
    l->scale = copy;
    l->scale_n = n;
    return TAUT_OK;
}

taut_status taut_layer_scale(taut_layer *l, const float *s, size_t n)
{
    if (!l || (n > 0 && !s)) return taut__fail(TAUT_E_INVALID, "taut_layer_scale: layer or s is NULL");
    TAUT_TRY(may_change(l, "taut_layer_scale"));
    if (n > 1 && n != l->operand.tensor.rows && n != l->operand.tensor.elems)
        return taut__fail(TAUT_E_RANGE, "layer '%s': scale of %zu values: must be 0, 1, %zu (rows) or %zu (elements)",
                          l->name, n, l->operand.tensor.rows, l->operand.tensor.elems);
    TAUT_TRY(check_all(l, s, n));
    TAUT_TRY(own(l, n));
    l->scale_lent = (taut__scale_lent){0};
    if (n) memcpy(l->scale, s, n * sizeof *s);
    l->scale_hash = n ? XXH3_64bits(s, n * sizeof *s) : 0;
    return taut__scale_use(l);
}

/* ---- in place ---- */

static taut_status check_place(const taut_layer *l, const float *s, taut_place p)
{
    TAUT_TRY(taut__place_known(l, "scale in ", p));
    if (l->placed) TAUT_TRY(taut__place_same(l, "scale", p, taut__layer_place(l), "where its buffers lie"));
    if (taut__on_host(p)) return check_all(l, s, l->operand.tensor.elems);
    const taut__space *space = taut__memory_of(p.space);
    return space ? space->check(p, s, "scale") : TAUT_E_UNSUPPORTED;
}

/* What samples saw since the last call. */
static taut_status check_seen(taut_layer *l)
{
    size_t i = l->scale_lent.where;
    if (!l->scale_lent.spoilt) return TAUT_OK;
    l->scale_lent.spoilt = false;
    return unusable(l, i, l->scale[i]);
}

taut_status taut_layer_scale_in_place(taut_layer *l, const float *s, taut_space space, int device)
{
    taut_place p = {.space = space, .device = device};
    if (!l) return taut__fail(TAUT_E_INVALID, "taut_layer_scale_in_place: layer is NULL");
    if (!s) return taut_layer_scale(l, NULL, 0);
    TAUT_TRY(may_change(l, "taut_layer_scale_in_place"));
    TAUT_TRY(check_place(l, s, p));
    TAUT_TRY(check_seen(l));
    if (l->scale_lent.at == s && !l->scale_due && !taut__on_host(p)) return TAUT_OK; /* on the host: bundles copy */
    bool known = taut__scale_there(l) && l->scale_lent.known && l->scale_lent.at == s;
    if (taut__on_host(p)) taut__scale_drop(l), l->scale = (float *)(uintptr_t)s, l->scale_n = l->operand.tensor.elems;
    else TAUT_TRY(own(l, l->operand.tensor.elems));
    l->scale_lent = (taut__scale_lent){.at = s, .place = p, .known = known};
    l->scale_hash = 0;
    return taut__scale_use(l);
}

taut_status taut__scale_same(const taut_layer *from, taut_layer *to)
{
    const taut__scale_lent *lent = &from->scale_lent;
    if (lent->at) return taut_layer_scale_in_place(to, lent->at, lent->place.space, lent->place.device);
    return from->scale_n ? taut_layer_scale(to, from->scale, from->scale_n) : TAUT_OK;
}
