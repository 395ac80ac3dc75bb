/* layer.c : a layer's name, accounts and parts. */
#include "../reduce/input.h"
#include "communicator.h"
#include "../../scheduler/budget.h"
#include <stdio.h>

static const char *const dtype_name[] = {"f32", "f16", "bf16"};

const char *taut__layer_text(const taut_layer *l, char *dst, size_t cap)
{
    char   spec[TAUT_SPEC_ROOM] = "auto";
    size_t at;
    if (!l->automatic) taut__spec_print(&l->spec, spec, sizeof spec);
    at = (size_t)snprintf(dst, cap, "'%s' %s [", l->name, dtype_name[l->operand.dtype]);
    for (int d = 0; d < l->ndim && at < cap; d++)
        at += (size_t)snprintf(dst + at, cap - at, "%s%zu", d ? "," : "", l->shape[d]);
    if (at < cap) snprintf(dst + at, cap - at, "] %s", spec);
    return dst;
}

/* ---- accounts ---- */

void taut__layer_count(taut_layer *l)
{
    const taut__record *r = &l->reduction.record;
    if (l->operand.calls == l->calls_at_step) l->lost = (taut__step_record){0}; /* the step's first */
    taut__add_norm(&l->lost.own, r->own, 1), taut__add_norm(&l->lost.sum, r->sum, 1);
    taut__add_norm(&l->lost.error, r->error, 1);
    taut__add_norm(&l->lost.requantization_error, r->requantization_error, 1);
    l->lost.payload_bytes += r->payload_bytes;
    l->lost.encoded += r->encoded;
    l->operand.calls++;
    l->bytes_sent += r->bytes_sent;
    l->bytes_dense += r->bytes_dense;
    l->codec_s += r->encode_s + r->decode_s;
}

void taut__layer_starts(taut_layer *l)
{
    l->started = true;
    if (l->starts_at_step == atomic_load_explicit(&l->starts, memory_order_relaxed)) taut__drop_begin(l);
    l->comm->starts++;
    l->ops = l->ops << 2 | (uint64_t)(l->reduction.kind + 1);
    atomic_fetch_add_explicit(&l->starts, 1, memory_order_relaxed);
}

taut_status taut__layer_finish(taut_layer *l, taut_status s)
{
    l->started = l->tested = false;
    taut__lent_give(l);
    if (s != TAUT_OK) return s;
    return taut__layer_at_home(l) ? taut__debug_return(l) : TAUT_OK;
}

/* optimizer: the scale, which is one of means, already divides them; layers without one count as under `layer`, of means. */
double taut__layer_metric_weight(const taut_layer *l)
{
    int32_t m = l->comm->ctx.set.metric;
    double  p = l->comm->ctx.all.size, means = m == TAUT_METRIC_OPTIMIZER ? p * p : 1;
    if (m == TAUT_METRIC_PLAIN) return 1;
    if (m == TAUT_METRIC_OPTIMIZER && l->operand.tensor.scale_n) return 1;
    return means *
           taut__layer_weight(l->operand.tensor.elems, l->planned.step.sum.plain,
                              l->planned.step.own.plain > 0 ? l->planned.step.own.plain : l->planned.step.sum.plain);
}

taut_status taut_layer_part(const taut_layer *l, int rank, size_t *first, size_t *n)
{
    if (!l || !first || !n) return taut__fail(TAUT_E_INVALID, "taut_layer_part: layer, first or n is NULL");
    *first = *n = 0;
    int p = l->comm->ctx.all.size;
    if (rank < 0 || rank >= p) return taut__fail(TAUT_E_RANGE, "taut_layer_part: rank=%d: must be 0..%d", rank, p - 1);
    taut__partition part = {.n = l->operand.tensor.elems, .block = l->operand.block, .parts = p};
    taut__range     r = taut__part(&part, rank);
    *first = r.first;
    *n = r.n;
    return TAUT_OK;
}
