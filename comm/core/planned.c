/* planned.c : what the planner is told before its hooks, and what it wanted, done after them (plan/planned.h). */
#include "communicator.h"

static void init(taut_layer *l)
{
    l->planned = (taut__planned){.index = l->index,
                                 .name = l->name,
                                 .tensor = &l->operand.tensor,
                                 .axes = &l->operand.axes,
                                 .record = &l->reduction.record,
                                 .spec = l->spec,
                                 .careful = l->planned.careful};
}

/* What this rank knows. */
void taut__planned_before(taut_comm *comm)
{
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        l->planned.called = l->operand.calls > l->calls_at_step;
        l->planned.wide = taut__sample_wide(l);
        l->planned.spec = l->spec;
    }
}

/* What all ranks know, once the step's exchange is over. */
void taut__planned_after(taut_comm *comm)
{
    comm->planning.exposed_s = comm->exposed_s;
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        l->planned.apart = taut__sample_apart(l);
        l->planned.weight = taut__layer_metric_weight(l);
    }
}

static taut_status want_basis(taut_layer *l, size_t directions)
{
    if (directions == l->directions) return TAUT_OK;
    l->directions = directions;
    return taut__layer_axes(l);
}

static taut_status apply(taut_layer *l)
{
    taut__planned *p = &l->planned;
    if (p->adopts) TAUT_TRY(taut__layer_adopt(l, &p->spec));
    if (p->error_scale > 0) taut__layer_scale_error(l, p->error_scale);
    if (p->wide_blocks > 0) TAUT_TRY(taut__sample_widen(l, p->wide_elems, p->wide_blocks));
    TAUT_TRY(want_basis(l, p->directions));
    p->adopts = false;
    p->error_scale = 0;
    p->wide_blocks = 0;
    return TAUT_OK;
}

taut_status taut__planned_apply(taut_comm *comm)
{
    for (size_t i = 0; i < comm->layers; i++) TAUT_TRY(apply(comm->layer[i]));
    return TAUT_OK;
}

static void forget(taut_layer *l)
{
    taut__engine_hold(&l->comm->ctx.engine);
    l->comm->hooks->on_forget(l->comm->autom, &l->planned);
    taut__engine_release(&l->comm->ctx.engine);
}

static taut_status join(taut_layer *l)
{
    taut_comm *comm = l->comm;
    taut__engine_hold(&comm->ctx.engine); /* its arrays grow; jobs of other layers read them to form their input */
    init(l);
    taut_status s = comm->hooks->on_register(comm->autom, &l->planned);
    bool        adopts = s == TAUT_OK && l->planned.adopts;
    l->planned.adopts = false;
    if (s == TAUT_OK && (s = apply(l)) != TAUT_OK) comm->hooks->on_forget(comm->autom, &l->planned);
    taut__engine_release(&comm->ctx.engine);
    if (s != TAUT_OK || !adopts) return s;
    s = taut__layer_use(l, &l->planned.spec); /* memory: with the first collective, which says where it lies */
    if (s != TAUT_OK) forget(l);
    return s;
}

/* Before the layer is one of the communicator's. */
taut_status taut__planned_join(taut_layer *l) { return l->comm->autom ? join(l) : TAUT_OK; }

void taut__planned_leave(taut_layer *l)
{
    taut_comm *comm = l->comm;
    if (!comm->autom) return;
    taut__engine_hold(&comm->ctx.engine);
    comm->hooks->on_exclude(comm->autom, &l->planned);
    taut__engine_release(&comm->ctx.engine);
}

taut_status taut__planned_rescaled(taut_layer *l)
{
    taut_comm *comm = l->comm;
    if (!comm->autom) return TAUT_OK;
    taut__engine_hold(&comm->ctx.engine);
    comm->hooks->on_rescale(comm->autom, &l->planned);
    taut__engine_release(&comm->ctx.engine);
    return apply(l); /* which takes the lock where it needs it */
}
