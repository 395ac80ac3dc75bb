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

static void tell(taut_layer *l, taut__range r, const float *x, const float *gradient)
{
    l->comm->hooks->on_input(l->comm->autom, &l->planned, x, gradient, r.first, r.n);
}

/* Of a slice, which is no longer than the lane's memory for it. */
static bool fetch(taut__reduction *red, const float *from, size_t n)
{
    taut_status s = taut__lane_copy(red->lane, red->lane->fetched, from, n * sizeof *from);
    taut__lane_note(red->lane, s);
    return s == TAUT_OK;
}

static void input(taut__reduction *red, taut__range r, const float *x)
{
    taut_layer  *l = red->job.layer;
    const float *gradient = l->operand.dtype == TAUT_F32 ? (const float *)red->buf + r.first : NULL;
    if (taut__layer_at_home(l)) tell(l, r, x, gradient);
    else if (fetch(red, x, r.n)) {
        tell(l, r, red->lane->fetched, NULL);
        if (gradient && l->operand.axes && fetch(red, gradient, r.n)) tell(l, r, NULL, red->lane->fetched);
    }
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
