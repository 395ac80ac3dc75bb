/* watch.c : what core hears of a layer's reduction: samples of what is encoded, lost and stored, copies for steps that are dropped, the
 * planner's look at x, and the record of what it cost. */
#include "communicator.h"

static unsigned begin(taut__reduction *red)
{
    taut_layer *l = red->job.layer;
    bool        planned = l->automatic && l->comm->autom && l->comm->hooks->wants(l->comm->autom, &l->planned);
    return (planned ? TAUT_WATCH_INPUT : 0) | (taut__sample_begin(l) ? TAUT_WATCH_SAMPLE : 0);
}

static void form(taut__reduction *red, size_t first, size_t n)
{
    taut_layer *l = red->job.layer;
    if (red->g == &red->ctx->all) taut__debug_read(l, first, n); /* else it holds sums of the host already */
    taut__drop_keep(l, first, n);
}

static void input(taut__reduction *red, taut__range r, const float *x)
{
    taut_layer *l = red->job.layer;
    l->comm->hooks->on_input(l->comm->autom, &l->planned, x, r.first, r.n);
}

static void sample(taut__reduction *red, taut__range r, const float *x) { taut__sample_x(red->job.layer, r, x); }

static void lost(taut__reduction *red, taut__range r, const float *lost, float factor) { taut__sample_lost(red->job.layer, r, lost, factor); }

static void stored(taut__reduction *red, size_t first, size_t n) { taut__debug_wrote(red->job.layer, first, n); }

static void complete(taut__reduction *red)
{
    taut__sample_result(red->job.layer);
    taut__layer_count(red->job.layer);
}

const taut__watcher taut__layer_watcher = {
    .begin = begin, .form = form, .input = input, .sample = sample, .lost = lost, .stored = stored, .complete = complete,
};
