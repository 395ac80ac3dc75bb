/* drop.c : steps whose results the program does not use, as a loss scaler does when something overflowed. What codecs left of such a
 * step's gradients must not come back with later ones: residuals are emptied, or (dropped=restore) put back to what they were
 * before the step, at the cost of a copy that is taken while x is formed.
 *
 * A step that gave a NaN or Inf is dropped at its end, on all ranks, since all know the same sums. */
#include "communicator.h"
#include <string.h>

/* A NaN that no residual is: nothing was copied here in this step. */
static const uint32_t BLANK = 0x7fc0dead;

static size_t copies(const taut_layer *l) { return l->operand.tensor.elems * (l->operand.feedback->u ? 2 : 1); }

void taut__drop_begin(taut_layer *l)
{
    l->residual_at_step = l->operand.residual;
    if (!l->before || !taut__layer_at_home(l)) return;
    for (size_t i = 0, n = copies(l); i < n; i++) memcpy(&l->before[i], &BLANK, sizeof BLANK);
}

static void copy(const taut_layer *l, float *dst, const float *src, size_t n)
{
    const taut__lane *lane = taut__layer_lane(l);
    taut__lane_note(l->reduction.lane, lane->space->copy(lane->place, dst, src, n * sizeof *dst));
}

/* What was not copied has not been touched. */
static void put_back(const taut_layer *l, float *to, const float *before, size_t n)
{
    if (!taut__layer_at_home(l)) {
        copy(l, to, before, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): bits are meant */
        if (memcmp(&before[i], &BLANK, sizeof BLANK) != 0) to[i] = before[i];
    }
}

void taut__drop_broken(taut_layer *l)
{
    taut_feedback *f = l->operand.feedback;
    size_t         n = l->operand.tensor.elems;
    if (!f || (l->starts_at_step == atomic_load(&l->starts) && l->calls_at_step == l->operand.calls)) return;
    l->operand.residual = l->before && l->residual_at_step && taut__layer_at_home(l);
    if (!l->operand.residual) taut__lane_note(l->reduction.lane, taut__feedback_clear(f, 0, n));
    else put_back(l, f->r, l->before, n);
    if (l->operand.residual && f->u) put_back(l, f->u, l->before + n, n);
}

/* Room for the copy, where there is something to copy. */
taut_status taut__drop_prepare(taut_layer *l)
{
    if (l->comm->ctx.set.dropped != TAUT_DROPPED_RESTORE || !l->operand.feedback || !l->operand.feedback_on ||
        l->before)
        return TAUT_OK;
    size_t n = copies(l);
    TAUT_TRY(taut__placed_alloc(&l->reduction, n * sizeof *l->before, "a copy of its residual", &l->before));
    taut__drop_begin(l);
    return TAUT_OK;
}

static bool keeps(const taut_layer *l) { return l->before && l->operand.calls == l->calls_at_step; }

void taut__drop_look(taut_layer *l)
{
    if (keeps(l)) l->had_residual = l->operand.residual;
}

/* Of the first collective in a step. Several threads at once, of one slice each. */
void taut__drop_keep(taut_layer *l, size_t first, size_t n)
{
    const taut_feedback *f = l->operand.feedback;
    if (!keeps(l) || !l->operand.residual) return;
    copy(l, l->before + first, f->r + first, n);
    if (f->u) copy(l, l->before + l->operand.tensor.elems + first, f->u + first, n);
}

static void drop(taut_layer *l)
{
    taut_feedback *f = l->operand.feedback;
    size_t         n = l->operand.tensor.elems;
    bool           restored = l->before && l->had_residual;
    if (l->dropping) l->residual_all = restored ? -1 : 0;
    if (!l->dropping || !f || (!restored && !l->operand.residual)) return;
    if (restored) put_back(l, f->r, l->before, n);
    if (restored && f->u) put_back(l, f->u, l->before + n, n);
    if (!restored) taut__lane_note(l->reduction.lane, taut__feedback_clear(f, 0, n));
    l->operand.residual = restored;
}

void taut__drop_step(taut_comm *comm)
{
    for (size_t i = 0; i < comm->layers; i++) {
        taut_layer *l = comm->layer[i];
        if (!taut__layer_at_home(l))
            taut__lane_note(l->reduction.lane, taut__space_use(l->reduction.lane->space, l->reduction.lane->place));
        drop(l);
        l->dropping = false;
        if (l->graph) taut__lane_note(l->reduction.lane, taut__lane_wait(l->reduction.lane)); /* replays know no lane */
    }
    comm->drops++;
}

taut_status taut_step_drop(taut_comm *comm)
{
    if (!comm) return taut__fail(TAUT_E_INVALID, "taut_step_drop: comm is NULL");
    TAUT_TRY(taut__comm_check(comm, "taut_step_drop"));
    if (!comm->stepped)
        return taut__fail(TAUT_E_STATE, "taut_step_drop: call it after taut_step_end, before the next start");
    taut__kept_device was = taut__keep_device();
    taut__drop_step(comm);
    taut__restore_device(was);
    return TAUT_OK;
}
