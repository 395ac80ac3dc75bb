/* drop.c : steps whose results the program does not use, as a loss scaler does when something overflowed. What codecs left of such a
 * step's gradients must not come back with later ones: residuals are emptied, or (dropped=restore) put back to what they were
 * before the step, at the cost of a copy that is taken while x is formed.
 *
 * A step that gave a NaN or Inf is dropped at its end, on all ranks, since all know the same sums. */
#include "communicator.h"
#include <math.h>

/* Room for the copy, where there is something to copy. */
taut_status taut__drop_prepare(taut_layer *l)
{
    if (l->comm->ctx.set.dropped != TAUT_DROPPED_RESTORE || !l->operand.feedback || !l->operand.feedback_on || l->before) return TAUT_OK;
    size_t n = l->operand.tensor.elems * (l->operand.feedback->u ? 2 : 1);
    return taut__placed_alloc(&l->reduction, n * sizeof *l->before, "a copy of its residual", &l->before);
}

static void copy(const taut_layer *l, float *dst, const float *src, size_t n)
{
    const taut__lane *lane = taut__layer_lane(l);
    taut__lane_note(l->reduction.lane, lane->space->copy(lane->place, dst, src, n * sizeof *dst));
}

/* Of the first collective in a step. */
void taut__drop_keep(taut_layer *l, size_t first, size_t n)
{
    const taut_feedback *f = l->operand.feedback;
    if (!l->before || l->operand.calls != l->calls_at_step) return;
    l->had_residual = l->operand.residual;
    if (!l->operand.residual) return;
    copy(l, l->before + first, f->r + first, n);
    if (f->u) copy(l, l->before + l->operand.tensor.elems + first, f->u + first, n);
}

static void drop(taut_layer *l)
{
    taut_feedback *f = l->operand.feedback;
    size_t         n = l->operand.tensor.elems;
    bool           restored = l->before && l->had_residual;
    if (!l->dropping || !f || (!restored && !l->operand.residual)) return;
    if (restored) copy(l, f->r, l->before, n);
    if (restored && f->u) copy(l, f->u, l->before + n, n);
    if (!restored) taut__lane_note(l->reduction.lane, taut__feedback_clear(f, 0, n));
    l->operand.residual = restored;
}

void taut__drop_step(taut_comm *comm)
{
    for (size_t i = 0; i < comm->layers; i++) {
        drop(comm->layer[i]);
        comm->layer[i]->dropping = false;
    }
    comm->drops++;
}

taut_status taut_step_drop(taut_comm *comm)
{
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_step_drop: comm is NULL");
    TAUT_TRY(taut__comm_check(comm, "taut_step_drop"));
    if (!comm->stepped) return taut__fail(TAUT_E_STATE, "taut_step_drop: call it after taut_step_end, before the next start");
    taut__drop_step(comm);
    return TAUT_OK;
}
