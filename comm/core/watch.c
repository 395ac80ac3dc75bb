/* watch.c : what core hears of a layer's reduction: samples of what is encoded, lost and stored, copies for steps that are dropped, the
 * planner's look at x, and the record of what it cost. */
#include "sample_blocks.h"

static unsigned begin(taut__reduction *red)
{
    taut_layer *l = red->job.layer;
    taut__drop_look(l);
    bool planned = l->automatic && l->comm->autom && l->comm->hooks->wants(l->comm->autom, &l->planned);
    return (planned ? TAUT_WATCH_INPUT : 0) | (taut__sample_begin(l) ? TAUT_WATCH_SAMPLE : 0);
}

static void form(taut__reduction *red, size_t first, size_t n)
{
    taut_layer *l = red->job.layer;
    if (red->g == &red->ctx->all && taut__layer_at_home(l)) taut__debug_read(l, first, n); /* else: sums of the host */
    taut__drop_keep(l, first, n);
}

static void input(taut__reduction *red, taut__range r, const float *x)
{
    taut_layer  *l = red->job.layer;
    const float *here = x, *gradient = NULL;
    if (taut__layer_at_home(l) && l->operand.dtype == TAUT_F32) gradient = (const float *)red->buf + r.first;
    if (!taut__layer_at_home(l)) {
        here = red->lane->fetched; /* slices are no longer than that */
        taut_status s = taut__lane_copy(red->lane, red->lane->fetched, x, r.n * sizeof *x);
        taut__lane_note(red->lane, s);
        if (s != TAUT_OK) return;
    }
    l->comm->hooks->on_input(l->comm->autom, &l->planned, here, gradient ? gradient : here, r.first, r.n);
}

static void stored(taut__reduction *red, size_t first, size_t n)
{
    if (taut__layer_at_home(red->job.layer)) taut__debug_wrote(red->job.layer, first, n);
}

static void enqueued(taut__reduction *red)
{
    if (red->watched & TAUT_WATCH_SAMPLE) taut__there_fetch(red->job.layer);
}

static void complete(taut__reduction *red)
{
    taut_layer *l = red->job.layer;
    taut__sample_result(l);
    taut__layer_count(l);
    l->gathers += red->halves == TAUT_GATHER;
}

const taut__watcher taut__layer_watcher = {
    .begin = begin,
    .form = form,
    .input = input,
    .sample = taut__sample_x,
    .lost = taut__sample_lost,
    .stored = stored,
    .enqueued = enqueued,
    .complete = complete,
};
