/* execute_mpi.c : what happens at an event: votes, coded calls, steps. One thread at a time per channel. */
#include "channel.h"
#include "../taut_mpi.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- votes ---- */

bool taut__votes_at(const taut__channel *c, uint64_t event)
{
    return event >= c->vote_after && event >= c->base && taut__sequence_votes_at(event - c->base);
}

/* Has any rank made a call that could be compressed? Then votes begin, with a copy of the communicator. */
static bool watches(taut__channel *c, const taut__entry *e)
{
    if (c->failed || c->watching || !e->asks) return c->watching && !c->failed;
    pthread_mutex_lock(&c->lock);
    bool mine = c->seen_eligible;
    pthread_mutex_unlock(&c->lock);
    if (!taut__any_says(c, mine)) return false;
    if (!c->has_control && !taut__all_say(c, taut__preload.copies < TAUT_COPIES, 1)) return false;
    bool there = c->has_control || taut__comm_like(c->user, &c->control);
    pthread_mutex_lock(&c->lock);
    if (there && !c->has_control) taut__preload.copies++;
    c->watching = c->has_control = there;
    pthread_mutex_unlock(&c->lock);
    return there;
}

/* ---- the plain way ---- */

const void *taut__input_of(const taut__entry *e) { return e->in == MPI_IN_PLACE ? e->out : e->in; }

static int persistent_call(const taut__entry *e)
{
    MPI_Request r = e->plain; /* stays the same: it is persistent */
    int         rc = taut__real_mpi.Start(&r);
    return rc == MPI_SUCCESS ? taut__real_mpi.Wait(&r, MPI_STATUS_IGNORE) : rc;
}

/* Others may have made another call instead of a queued one, on the program's communicator: as plain MPI, they meet there. */
MPI_Comm taut__plain_comm(const taut__channel *c, const taut__entry *e)
{
    return e->queued && !c->differs && !c->strays.found ? c->control : c->user;
}

int taut__plain_call(taut__channel *c, const taut__entry *e)
{
    MPI_Comm comm = taut__plain_comm(c, e);
    switch (e->kind) {
    case TAUT_KIND_REDUCE_SCATTER:
        return e->counts ? taut__real_mpi.Reduce_scatter(e->in, e->out, e->counts, e->type, e->op, comm)
                         : taut__real_mpi.Reduce_scatter_block(e->in, e->out, e->count, e->type, e->op, comm);
    case TAUT_KIND_ALLGATHER:
        return taut__real_mpi.Allgather(e->in, e->send_count, e->send_type, e->out, e->count, e->type, comm);
    case TAUT_KIND_PERSISTENT: return persistent_call(e);
    default: return taut__real_mpi.Allreduce(e->in, e->out, e->count, e->type, e->op, comm);
    }
}

int taut__timed_plain(taut__channel *c, const taut__entry *e, taut__site *s, double *took)
{
    bool   buffers = e->in && e->out; /* without, the MPI says what is wrong */
    float *own = buffers ? taut__own_sample(c, e, s) : NULL;
    double begin = taut__now();
    int    rc = taut__plain_call(c, e);
    *took = taut__now() - begin;
    taut__look_at(c, e, buffers && rc == MPI_SUCCESS ? s : NULL, own, *took);
    return rc;
}

/* ---- the coded way ---- */

int taut__fail_as_mpi(taut__channel *c, const taut__site *s, taut_status status)
{
    if (status == TAUT_OK) return MPI_SUCCESS;
    fprintf(stderr, "taut: rank %d, site %zu: %s\n", c->rank, s ? s->number : 0, taut_last_error());
    c->failed = true;
    PMPI_Comm_call_errhandler(c->user, MPI_ERR_OTHER);
    return MPI_ERR_OTHER;
}

void taut__note_coded(taut__channel *c, const taut__entry *e, taut__site *s, const taut_layer *layer, uint64_t sent,
                      uint64_t dense, double took)
{
    taut_layer_stats t = {.size = sizeof t};
    s->coded_s += took, s->calls++, s->coded_calls++;
    if (taut__soon_reconsidered(c->cycles)) taut__note_norm(c, e, s);
    if (taut_layer_get_stats(layer, &t) != TAUT_OK) return;
    snprintf(s->codec, sizeof s->codec, "%s", t.codec);
    s->bytes_sent += t.bytes_sent - sent;
    s->bytes_dense += t.bytes_dense - dense;
}

static taut_status gather_into(taut__channel *c, const taut__entry *e, taut_layer *layer, void *to)
{
    size_t part = (size_t)e->count, first = part * (size_t)c->rank;
    memcpy(c->copy + first, e->in == MPI_IN_PLACE ? (float *)e->out + first : e->in, part * 4);
    TAUT_TRY(taut_allgather(layer, c->copy));
    if (to == e->out) memcpy(to, c->copy, e->elements * 4);
    return TAUT_OK;
}

/* to: the call's output, or c->copy, whose contents then do not matter. */
taut_status taut__reduce_into(taut__channel *c, const taut__entry *e, taut_layer *layer, void *to)
{
    size_t bytes = e->elements * (e->dtype == TAUT_F32 ? 4 : 2), first, n;
    if (e->kind == TAUT_KIND_ALLGATHER) return gather_into(c, e, layer, to);
    if (e->kind != TAUT_KIND_REDUCE_SCATTER) {
        if (taut__input_of(e) != to) memcpy(to, taut__input_of(e), bytes);
        return taut_allreduce(layer, to, TAUT_SUM);
    }
    memcpy(c->copy, taut__input_of(e), bytes);
    TAUT_TRY(taut_reduce_scatter(layer, c->copy, TAUT_SUM));
    TAUT_TRY(taut_layer_part(layer, c->rank, &first, &n));
    if (to == e->out) memcpy(to, c->copy + first, n * 4);
    return TAUT_OK;
}

/* What the last step lost, site by site. */
static void note_errors(taut__channel *c, int course)
{
    double error = 0;
    for (size_t i = 0; i < c->period; i++) {
        taut__position  *p = &c->position[i];
        taut_layer_stats t = {.size = sizeof t};
        if (!p->coded || taut_layer_get_stats(p->layer[course], &t) != TAUT_OK) continue;
        if (taut__preload.option.dry_run)
            p->site->trials.error[course] = fmax(p->site->trials.error[course], t.rel_err2);
        else p->site->error2 += t.rel_err2, p->site->norm2 += 1;
        error = fmax(error, t.rel_err2);
    }
    if (taut__preload.option.dry_run) c->waits.trials.error[course] = fmax(c->waits.trials.error[course], error);
}

taut_status taut__end_step(taut__channel *c, int course)
{
    taut__flights_wait(c);
    taut_status s = taut_step_end(c->course[course]);
    if (s == TAUT_OK) note_errors(c, course);
    return s;
}

/* begin: before the vote, so that the time contains what it takes and the wait for late ranks, as that of a plain call does. */
static int coded_call(taut__channel *c, taut__entry *e, taut__position *p, bool last, double begin)
{
    taut__site      *s = p->site;
    taut_layer_stats t = {.size = sizeof t};
    taut_layer_get_stats(p->layer[0], &t);
    taut_status status = taut__reduce_into(c, e, p->layer[0], e->out);
    if (status == TAUT_OK && last) status = taut__end_step(c, 0);
    taut__note_coded(c, e, s, p->layer[0], t.bytes_sent, t.bytes_dense, taut__now() - begin);
    taut__note_output(c, e, s);
    return taut__fail_as_mpi(c, s, status);
}

static int queued_code(taut__channel *c, taut__entry *e, taut__position *p, bool last)
{
    taut__flight_code(c, e, p);
    return last ? taut__fail_as_mpi(c, p->site, taut__end_step(c, 0)) : MPI_SUCCESS;
}

/* ---- events ---- */

static bool as_expected(taut__channel *c, uint64_t event) /* all events up to this one */
{
    bool same = true;
    pthread_mutex_lock(&c->lock);
    for (uint64_t e = taut__max(c->checked, c->start); e <= event && same; e++)
        same = taut__sequence_knows(&c->sequence, e) &&
               taut__sequence_key(&c->sequence, e) == c->position[(e - c->start) % c->period].key;
    pthread_mutex_unlock(&c->lock);
    return same;
}

static bool fits(taut__channel *c, const taut__entry *e, taut__position *p)
{
    if (!e->fit) {
        p->site->unaligned = true;
        return false;
    }
    if (e->kind != TAUT_KIND_REDUCE_SCATTER && e->kind != TAUT_KIND_ALLGATHER) return true;
    if (!taut__parts_fit(c, p, e)) {
        p->site->misfit = true;
        return false;
    }
    if (e->kind == TAUT_KIND_ALLGATHER && !taut__gathers_scattered(c, e)) {
        p->site->like.foreign = 1;
        return false;
    }
    return true;
}

/* A dry run's cycle without a trial. Nobody votes in it: calls that begin with a vote meet at the same moment, and take half as long as some do
 * that do not. Who has left the cycle says so in the next vote. */
static bool untried(const taut__channel *c)
{
    return taut__preload.option.dry_run && taut__course_of(c, c->cycles) < 0;
}

static int in_cycle(taut__channel *c, taut__entry *e, double begin, bool *made)
{
    size_t          at = (e->event - c->start) % c->period;
    taut__position *p = &c->position[at];
    if (!p->coded) return MPI_SUCCESS;
    bool last = at == c->last_coded, mine = as_expected(c, e->event) && e->data && e->key == p->key && fits(c, e, p);
    int  rc = MPI_SUCCESS;
    c->strayed |= !mine;
    if (!untried(c) && !taut__all_say(c, !c->strayed, p->key)) {
        taut__flights_wait(c);
        c->breaks++;
        c->base = e->event;
        taut__end_cycles(c);
        return MPI_SUCCESS;
    }
    *made = !c->strayed;
    if (*made && taut__preload.option.dry_run) rc = taut__shadow_call(c, e, p, last);
    else if (*made) rc = e->queued ? queued_code(c, e, p, last) : coded_call(c, e, p, last, begin);
    if (last) c->cycles++;
    if (last && rc == MPI_SUCCESS) taut__reconsider(c);
    return rc;
}

int taut__execute(taut__channel *c, taut__entry *e)
{
    double   begin = taut__now(), took;
    bool     made = false, queued = e->queued; /* e may be gone when its call is over */
    int      rc = MPI_SUCCESS;
    uint64_t event = e->event;
    c->said = e->digest;
    taut__call_kind kind = e->kind;
    if (watches(c, e)) {
        if (c->active) rc = in_cycle(c, e, begin, &made);
        else if (taut__votes_at(c, event)) taut__vote_on_cycle(c, event);
    }
    if (!made && e->data && rc == MPI_SUCCESS) {
        taut__site *s = taut__site_of(c, e);
        if (queued) taut__flight_plain(c, e, s); /* its request will say what the MPI does */
        else rc = taut__timed_plain(c, e, s, &took);
    }
    c->checked = event + 1;
    if (queued || kind == TAUT_KIND_PERSISTENT) return rc; /* the program's waits count */
    pthread_mutex_lock(&c->lock);
    c->in_calls_s += taut__now() - begin;
    pthread_mutex_unlock(&c->lock);
    return rc;
}
