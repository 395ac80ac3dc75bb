/* within.c : see phases.h.
 *
 *     up     one sum in place of the gradients of the host's ranks, by the data half itself (NCCL: its own allreduce, over NVLink where there is one)
 *     down   the leader's result to the others: a part to each, then an allgather of the parts, so that the leader sends it once
 *
 * Both are enqueued on the lane's stream, in a turn that the leader gives, and the host goes on: what follows up is enqueued behind it, and down is over
 * when an event says so. Operations of three data halves share a stream. None waits for ever: two ranks share either a host, whose order
 * its leader gives, or leaders' exchanges, whose order the first leader gives, so the orders of all streams agree. */
#include "phases.h"
#include "lineup.h"
#include "placed.h"

typedef struct taut__within {
    taut__lineup turn[2]; /* down, up */
    taut__event *over;
    bool         asked, enqueued;
    size_t       stage;
} taut__within;

static const taut__group *host_of(const taut__reduction *red) { return &red->ctx->local; }
static bool               alone(const taut__reduction *red) { return host_of(red)->size == 1; }

bool taut__within_for(const taut__reduction *red)
{
    return !taut__at_home(red) && red->ctx->data && (host_of(red)->data || alone(red));
}

taut_status taut__within_prepare(taut__reduction *red)
{
    taut__within *w = red->within = taut__alloc(1, sizeof *w);
    if (!w) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    if (alone(red)) return TAUT_OK;
    TAUT_TRY(taut__lineup_prepare(red, &w->turn[true], host_of(red), TAUT_TAG_UP));
    TAUT_TRY(taut__lineup_prepare(red, &w->turn[false], host_of(red), TAUT_TAG_DOWN));
    return red->lane->space->event_create(red->lane->place, &w->over);
}

void taut__within_release(taut__reduction *red)
{
    taut__within *w = red->within;
    if (!w) return;
    taut__lineup_release(&w->turn[0]), taut__lineup_release(&w->turn[1]);
    if (w->over) red->lane->space->event_destroy(w->over);
    taut__free(w);
    red->within = NULL;
}

void taut__within_cancel(taut__reduction *red)
{
    taut__within *w = red->within;
    for (int i = 0; w && i < 2; i++) taut__lineup_cancel(&w->turn[i]);
}

int taut__within_waiting_for(const taut__reduction *red, int *hops)
{
    const taut__within *w = red->within;
    bool                down = red->phase == TAUT_PHASE_LOCAL_COPY;
    return w && w->asked && !alone(red) ? taut__lineup_waiting_for(&w->turn[!down], hops) : -1;
}

static taut_status parts_to_all(taut__reduction *red, taut__data *d, size_t part, size_t rest)
{
    const taut__group *host = host_of(red);
    float             *x = red->buf;
    taut_status        s = TAUT_OK;
    for (int q = 1; host->rank == 0 && q < host->size && s == TAUT_OK; q++) {
        if (part) s = d->ops->send(d, q, x + (size_t)q * part, part * sizeof *x);
        if (rest && s == TAUT_OK) s = d->ops->send(d, q, x + (size_t)host->size * part, rest * sizeof *x);
    }
    if (host->rank == 0) return s;
    if (part) s = d->ops->recv(d, 0, x + (size_t)host->rank * part, part * sizeof *x);
    if (rest && s == TAUT_OK) s = d->ops->recv(d, 0, x + (size_t)host->size * part, rest * sizeof *x);
    return s;
}

enum { UP_STAGES = 1, DOWN_STAGES = 2 };

static taut_status enqueue_stage(taut__reduction *red, bool up, size_t stage)
{
    const taut__group *host = host_of(red);
    taut__data        *d = host->data;
    taut_place         place = red->lane->place;
    float             *x = red->buf;
    size_t             part = red->call.n / (size_t)host->size, rest = red->call.n % (size_t)host->size;
    if (up) return d->ops->sum(d, x, red->call.n, TAUT_NUMBER_F32, place);
    if (stage > 0) return part ? d->ops->gather(d, x + (size_t)host->rank * part, x, part * sizeof *x, place) : TAUT_OK;
    TAUT_TRY(d->ops->group_begin(d, place));
    taut_status s = parts_to_all(red, d, part, rest), ended = d->ops->group_end(d);
    return s == TAUT_OK ? ended : s;
}

static taut_status enqueue(taut__reduction *red, bool up, bool *moved)
{
    taut__within *w = red->within;
    taut__data   *d = host_of(red)->data;
    bool          ready = false;
    while (w->stage < (up ? UP_STAGES : DOWN_STAGES)) {
        TAUT_TRY(d->ops->ready(d, &ready));
        if (!ready) return TAUT_OK;
        uint64_t before = d->sent;
        TAUT_TRY(enqueue_stage(red, up, w->stage++));
        red->record.bytes_sent += d->sent - before, red->record.bytes_dense += d->sent - before;
        *moved = true;
    }
    TAUT_TRY(d->ops->ready(d, &ready));
    if (!ready) return TAUT_OK;
    if (!up) TAUT_TRY(red->lane->space->event_record(w->over, red->lane->place));
    taut__lineup_over(&w->turn[up]);
    w->enqueued = *moved = true;
    return TAUT_OK;
}

static taut_status look(taut__reduction *red, bool *moved, bool *done)
{
    bool ready;
    TAUT_TRY(host_of(red)->data->ops->ready(host_of(red)->data, &ready));
    TAUT_TRY(taut__lane_passed(red->lane, red->within->over, done));
    if (!*done) return TAUT_OK;
    *moved = red->settled = true;
    return TAUT_OK;
}

static taut_status advance(taut__reduction *red, bool up, bool *moved, bool *done)
{
    static const size_t none[TAUT_LINEUP_SIZES] = {0};
    taut__within       *w = red->within;
    bool                here = false;
    *done = alone(red);
    *moved |= *done;
    if (*done) return TAUT_OK;
    if (red->at == 0) {
        w->asked = w->enqueued = red->settled = false;
        w->stage = 0;
        red->at = 1;
    }
    if (!w->asked) {
        TAUT_TRY(taut__lineup_ask(red, &w->turn[up], none));
        w->asked = *moved = true;
    }
    if (!w->enqueued) {
        TAUT_TRY(taut__lineup_advance(red, &w->turn[up], moved, &here));
        if (here) TAUT_TRY(enqueue(red, up, moved));
    }
    if (up) *done = w->enqueued;
    return !up && w->enqueued ? look(red, moved, done) : TAUT_OK;
}

taut_status taut__within_advance(taut__reduction *red, bool up, bool *moved, bool *done)
{
    taut_status s = advance(red, up, moved, done);
    return s == TAUT_OK ? s : taut__fail(s, "%s: within its host: %s", red->job.name, taut_last_error());
}
