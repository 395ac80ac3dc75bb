/* data_lines.c : see nccl.h. Two sizes of an allgather and of a sum, each timed from the call to its end, best of a few; a line through both, in
 * the time model's hops and bytes. */
#include "nccl.h"
#include <math.h>
#include <sched.h>
#include <string.h>
#include <time.h>

enum { BUSY = 1000 }; /* looks before the core is given away for longer: what is short is timed by those */
enum { TRIES = 3, SMALL = 1 << 12, LARGE = 1 << 22, ALL = 1 << 26 }; /* bytes: of one rank, of all together at most */

typedef struct probe {
    taut_comm         *comm;
    const taut__group *g;
    taut__data        *d;
    const taut__space *space;
    taut_place         place;
    taut__event       *over;
    char              *memory; /* `large` bytes for each rank */
    size_t             large;
} probe;

static taut_status parse(const char *text, taut__data_lines *lines)
{
    double      v[4];
    const char *at = text;
    char       *end = NULL;
    bool        good = true;
    for (int i = 0; i < 4 && good; i++, at = end + 1) {
        v[i] = taut__strtod(at, &end);
        good = end > at && *end == (i < 3 ? ',' : 0) && isfinite(v[i]) && v[i] <= 1e9 && (i % 2 ? v[i] > 0 : v[i] >= 0);
    }
    if (!good)
        return taut__fail(TAUT_E_INVALID,
                          "TAUT_DATA_LINK=%s: must be measure, off, or four numbers: microseconds (0 or more) and GB/s "
                          "(above 0) of moves, and of sums, as in 20,40,30,120",
                          text);
    *lines = (taut__data_lines){{v[0] * 1e-6, 1e-9 / v[1]}, {v[2] * 1e-6, 1e-9 / v[3]}};
    return TAUT_OK;
}

/* ---- one operation ---- */

/* Until NCCL has taken it, and it is done; no longer than the timeout, since another rank may not come. */
static taut_status finish(probe *p, double since)
{
    int32_t limit = p->comm->ctx.set.c.timeout_ms;
    bool    taken = false, passed = false;
    for (int looks = 0; !passed; looks++) {
        bool ready = false;
        TAUT_TRY(p->d->ops->ready(p->d, &ready));
        if (ready && !taken) TAUT_TRY(p->space->event_record(p->over, p->place));
        taken |= ready;
        if (taken) TAUT_TRY(p->space->event_test(p->over, &passed));
        if (limit >= 0 && taut__now() - since > limit * 1e-3)
            return taut__fail(TAUT_E_TIMEOUT, "measuring %s: not done within %d ms", p->d->ops->name, (int)limit);
        if (looks < BUSY) sched_yield();
        else nanosleep(&(struct timespec){0, 20000}, NULL);
    }
    return p->space->failed ? p->space->failed(p->place) : TAUT_OK;
}

static taut_status once(probe *p, bool sum, size_t bytes, double *seconds)
{
    double since = taut__now();
    TAUT_TRY(sum ? p->d->ops->sum(p->d, p->memory, bytes / 4, TAUT_NUMBER_I32, p->place)
                 : p->d->ops->gather(p->d, p->memory + (size_t)p->d->rank * bytes, p->memory, bytes, p->place));
    TAUT_TRY(finish(p, since));
    *seconds = fmin(*seconds, taut__now() - since);
    return TAUT_OK;
}

/* The first one makes connections. */
static taut_status timed(probe *p, bool sum, size_t bytes, double *seconds)
{
    double first = INFINITY;
    *seconds = INFINITY;
    TAUT_TRY(once(p, sum, bytes, &first));
    for (int i = 0; i < TRIES; i++) TAUT_TRY(once(p, sum, bytes, seconds));
    return TAUT_OK;
}

/* ---- a line ---- */

static taut_status line_of(probe *p, bool sum, taut__line *line)
{
    taut__algorithm_id via = sum ? TAUT_VIA_NATIVE : TAUT_VIA_GATHER;
    taut__work         a = {.bytes = SMALL, .rounds = 1}, b = {.bytes = (double)p->large, .rounds = 1};
    int                ranks = p->g->size;
    double few, many, hops = taut__algorithm_hops(via, ranks, &a), more = taut__algorithm_hops(via, ranks, &b),
                      few_bytes = taut__algorithm_bytes(via, ranks, &a),
                      all_bytes = taut__algorithm_bytes(via, ranks, &b);
    TAUT_TRY(timed(p, sum, SMALL, &few));
    TAUT_TRY(timed(p, sum, p->large, &many));
    /* few = hops alpha + few_bytes beta, many = more alpha + all_bytes beta */
    double beta = (many * hops - few * more) / (all_bytes * hops - few_bytes * more);
    line->beta = beta > 0 ? beta : many / all_bytes; /* the larger took no longer: noise */
    line->alpha = fmax(few - line->beta * few_bytes, 0) / hops;
    return TAUT_OK;
}

static taut_status measure_with(probe *p, taut__data_lines *lines)
{
    void *memory = NULL;
    TAUT_TRY(p->space->event_create(p->place, &p->over));
    TAUT_TRY(p->space->alloc(p->place, p->large * (size_t)p->g->size, &memory));
    p->memory = memory;
    TAUT_TRY(line_of(p, false, &lines->move));
    return line_of(p, true, &lines->sum);
}

static taut_status measure(taut_comm *comm, const taut__group *g, taut_place place, taut__data_lines *lines)
{
    probe p = {.comm = comm, .g = g, .d = g->data, .space = taut__memory_of(place.space), .place = place};
    p.large = taut__min((size_t)LARGE, ALL / (size_t)g->size / 64 * 64);
    if (!p.space) return TAUT_E_UNSUPPORTED;
    TAUT_TRY(taut__space_use(p.space, place));
    TAUT_TRY(p.space->stream_create(&p.place));
    taut_status s = measure_with(&p, lines);
    taut__kept  why = taut__keep_error();
    if (s != TAUT_OK) taut__data_abort(comm->ctx.data); /* else what is enqueued may never end */
    p.space->wait(p.place);
    p.space->release(p.place, p.memory);
    p.space->event_destroy(p.over);
    p.space->stream_destroy(p.place);
    return s == TAUT_OK ? TAUT_OK : taut__fail(s, "%s", why.text);
}

/* The mean of those who have lines. */
static taut_status agree(taut_comm *comm, taut_status mine, taut__data_lines *lines)
{
    bool   has = mine == TAUT_OK && lines->sum.beta > 0;
    double v[5] = {has};
    TAUT_TRY(taut__comm_agree(comm, mine));
    if (has) v[1] = lines->move.alpha, v[2] = lines->move.beta, v[3] = lines->sum.alpha, v[4] = lines->sum.beta;
    TAUT_TRY(taut__context_sum(&comm->ctx, v, 5));
    if (v[0] > 0) *lines = (taut__data_lines){{v[1] / v[0], v[2] / v[0]}, {v[3] / v[0], v[4] / v[0]}};
    return TAUT_OK;
}

taut_status taut__data_lines_find(taut_comm *comm, taut_place place)
{
    taut__context     *ctx = &comm->ctx;
    const char        *text = ctx->set.data_link;
    const taut__group *g = ctx->hierarchical ? &ctx->leaders : &ctx->all;
    taut__data_lines   lines = {{0, 0}, {0, 0}};
    bool               asked = strcmp(text, "measure") == 0;
    bool               can = g->data && g->size > 1 && g->data->ops->sum && g->data->ops->gather;
    taut_status        s = TAUT_OK;
    if (!asked && strcmp(text, "off") != 0) s = parse(text, &lines);
    if (asked && can) s = measure(comm, g, place, &lines);
    TAUT_TRY(agree(comm, s, &lines));
    ctx->lines = lines;
    if (lines.sum.beta > 0)
        taut__log(TAUT_LOG_INFO, "sched", "data half: moves %.1f us per hop, %.2f GB/s; sums %.1f us, %.2f GB/s",
                  1e6 * lines.move.alpha, 1e-9 / lines.move.beta, 1e6 * lines.sum.alpha, 1e-9 / lines.sum.beta);
    return TAUT_OK;
}
