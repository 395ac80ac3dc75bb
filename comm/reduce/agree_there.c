/* agree_there.c : see agreement.h. */
#include "agreement.h"
#include "exchange.h"
#include "input.h"
#include "placed.h"
#include <stddef.h>

enum { COLLECT, DECIDE };
enum { NUMBERS = TAUT_STATS_MAX + 1 };

/* Memory of the place. A rank's numbers: how many ranks want all statistics (of one: 0 or 1), then statistics; what is sent has their digest behind them. */
typedef struct settled {
    double           own[NUMBERS + 1], few[NUMBERS + 1]; /* this rank's; the first ones of all */
    double           all[NUMBERS + 1];                   /* of all ranks */
    taut_outcome     anew;                               /* bytes: 1 where all of them count */
    uint32_t         damaged, padding;                   /* 1 + a rank whose numbers are not those that it sent */
    taut_calibration before, fresh, calibration;         /* of the earlier ones; of all; of this call */
    double           earlier[TAUT_STATS_MAX];            /* not told */
} settled;

typedef struct taut__agree_there {
    settled *there, *here; /* here: on the host, as it was told */
} taut__agree_there;

static bool       shared(const taut__reduction *red) { return taut__codec_of(red)->caps & TAUT_CAP_GLOBAL_STATS; }
static size_t     numbers(const taut__reduction *red) { return taut__codec_of(red)->n_stats + 1; }
static size_t     row(const taut__reduction *red) { return numbers(red) + 1; }
static taut_place place_of(const taut__reduction *red) { return red->lane->place; }

static bool may(const taut__reduction *red)
{
    const taut__operand *o = red->operand;
    return taut__agree_wanted(red->call.spec) && !taut__at_home(red) && red->g->data && !o->sharded &&
           !(o->feedback && o->feedback->u) && red->via && red->via->advance == taut__exchange_advance;
}

bool taut__agrees_there(const taut__reduction *red)
{
    return *taut__agree_data(red) && !red->rotation.will && red->halves == TAUT_BOTH;
}

taut_status taut__agree_there_prepare(taut__reduction *red)
{
    taut__agree_there **a = taut__agree_data(red);
    if (!a || !may(red)) return TAUT_OK;
    *a = taut__alloc(1, sizeof **a);
    if (!*a) return taut__fail(TAUT_E_NOMEM, "%s: out of memory", red->job.name);
    TAUT_TRY(taut__placed_alloc(red, sizeof *(*a)->there, "statistics", &(*a)->there));
    (*a)->here = taut__space_host_alloc(red->lane->space, place_of(red), sizeof *(*a)->here);
    return (*a)->here ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "%s: out of host memory for statistics", red->job.name);
}

void taut__agree_there_release(taut__reduction *red)
{
    taut__agree_there **a = taut__agree_data(red);
    if (!a || !*a) return;
    taut__placed_release(red, (*a)->there);
    taut__space_host_release(red->lane->space, place_of(red), (*a)->here);
    taut__free(*a);
    *a = NULL;
}

/* ---- memory of a call: x, for what goes raw, and the numbers of all ranks ---- */

static size_t kept_bytes(const taut__reduction *red)
{
    return shared(red) ? taut__round_up(red->call.n * sizeof(float), 64) : 0;
}
size_t taut__agree_there_bytes(const taut__reduction *red)
{
    return kept_bytes(red) + (shared(red) ? (size_t)red->g->size * row(red) * sizeof(double) : 0);
}
static double *gathered(const taut__reduction *red, void *memory)
{
    return (double *)(void *)((char *)memory + kept_bytes(red));
}

/* ---- stages ---- */

size_t taut__agree_there_stages(const taut__reduction *red)
{
    return !taut__agrees_there(red) ? 0 : shared(red) ? DECIDE + 1 : COLLECT + 1;
}

static taut_status enqueue(taut__reduction *red, taut__op op, const taut_piece *p, size_t n)
{
    return taut__enqueue(op, taut__codec_of(red), p, n, place_of(red));
}

/* Slice by slice, in the order in which the host adds them. */
static taut_status collect(taut__reduction *red, const float *x)
{
    settled *s = (*taut__agree_data(red))->there;
    for (size_t at = 0; at < red->call.n; at += red->part.sub) {
        taut_piece p = {.call = taut__slice_call(red, at, taut__min(red->part.sub, red->call.n - at)),
                        .src = x + at,
                        .stats = s->own + 1};
        TAUT_TRY(enqueue(red, TAUT_OP_COLLECT_STATS, &p, 1));
    }
    return TAUT_OK;
}

static taut_status calibrate(taut__reduction *red, double *stats, const float *x, taut_calibration *to)
{
    taut_piece p = {.call = red->call, .src = x, .stats = stats, .ranks = red->g->size, .calibration = to};
    return enqueue(red, TAUT_OP_CALIBRATE, &p, 1);
}

/* The whole tensor's, to everybody; data halves that have no such call send it. */
static taut_status spread(taut__reduction *red, double *own, double *all)
{
    taut__data *d = red->g->data;
    size_t      bytes = row(red) * sizeof *own;
    TAUT_TRY(red->lane->vectors->digest(place_of(red), own, row(red), numbers(red), (uint32_t)red->g->rank, 1, NULL));
    if (d->ops->gather) return d->ops->gather(d, own, all, bytes, place_of(red));
    TAUT_TRY(red->lane->space->copy(place_of(red), (char *)all + (size_t)red->g->rank * bytes, own, bytes));
    taut_status s = d->ops->group_begin(d, place_of(red));
    if (s != TAUT_OK) return s;
    for (int i = 1; i < red->g->size && s == TAUT_OK; i++) {
        int to = (red->g->rank + i) % red->g->size, from = taut__mod(red->g->rank - i, red->g->size);
        s = d->ops->send(d, to, own, bytes);
        if (s == TAUT_OK) s = d->ops->recv(d, from, (char *)all + (size_t)from * bytes, bytes);
    }
    taut_status ended = d->ops->group_end(d);
    return s == TAUT_OK ? ended : s;
}

static taut_status begin(taut__reduction *red, void *memory)
{
    taut__agree_there        *a = *taut__agree_data(red);
    settled                  *s = a->there;
    const taut__space        *space = red->lane->space;
    const taut__agreed_before before = taut__agree_before(red);
    const double              wants[2] = {before.wants_all || taut__exchange_of(red)->in_graph};
    const float              *x = taut__form(red, 0, red->call.n);
    red->formed = true;
    TAUT_TRY(space->fill(place_of(red), s, 0, offsetof(settled, before)));
    TAUT_TRY(space->put(place_of(red), s->own, wants, sizeof *wants));
    TAUT_TRY(collect(red, x));
    red->call.calibration = &s->calibration;
    if (!shared(red)) return calibrate(red, s->own + 1, x, &s->calibration);
    if (!before.stands) {
        TAUT_TRY(space->put(place_of(red), s->earlier, before.earlier, TAUT_STATS_MAX * sizeof *before.earlier));
        TAUT_TRY(space->put(place_of(red), &s->before, before.calibrated, sizeof s->before));
    }
    return spread(red, s->own, gathered(red, memory));
}

/* Each rank's are moved to where the sums of all say, by everybody in the same way. */
static taut_status rebase_all(taut__reduction *red, double *from)
{
    enum { BATCH = 64 };
    settled   *s = (*taut__agree_data(red))->there;
    taut_piece p[BATCH];
    size_t     n = 0;
    for (int q = 0; q < red->g->size; q++) {
        p[n++] = (taut_piece){.call = red->call, .earlier = s->few + 1, .stats = from + (size_t)q * row(red) + 1};
        if (n < BATCH && q + 1 < red->g->size) continue;
        TAUT_TRY(enqueue(red, TAUT_OP_REBASE, p, n));
        n = 0;
    }
    return TAUT_OK;
}

static taut_status adapted(taut__reduction *red)
{
    settled   *s = (*taut__agree_data(red))->there;
    taut_piece p = {.call = red->call,
                    .earlier = s->earlier,
                    .stats = s->few + 1,
                    .ranks = red->g->size,
                    .calibration = &s->calibration,
                    .outcome = &s->anew};
    if (!taut__agree_before(red).same_keys) TAUT_TRY(calibrate(red, s->earlier, NULL, &s->before));
    TAUT_TRY(red->lane->space->copy(place_of(red), &s->calibration, &s->before, sizeof s->before));
    TAUT_TRY(enqueue(red, TAUT_OP_RESHAPED, &p, 1));
    return enqueue(red, TAUT_OP_ADAPT, &p, 1);
}

/* What is a bool, or a number's lowest byte, decides. */
static taut_status if_anew(taut__reduction *red, void *to, const void *from, size_t bytes)
{
    const uint8_t *when = (const uint8_t *)&(*taut__agree_data(red))->there->anew.bytes;
    return red->lane->vectors->copy_if(place_of(red), when, to, from, bytes);
}

static taut_status decide(taut__reduction *red, void *memory)
{
    settled             *s = (*taut__agree_data(red))->there;
    const taut__vectors *v = red->lane->vectors;
    double              *from = gathered(red, memory);
    uint32_t             ranks = (uint32_t)red->g->size, brief = taut__codec_of(red)->n_brief;
    TAUT_TRY(v->digest(place_of(red), from, row(red), numbers(red), 0, ranks, &s->damaged));
    TAUT_TRY(v->combine(place_of(red), s->few, from, row(red), brief + 1, ranks, (uint32_t *)(void *)&s->anew.bytes));
    if (brief > 0) TAUT_TRY(adapted(red));
    if (brief > 0) TAUT_TRY(rebase_all(red, from));
    TAUT_TRY(v->combine(place_of(red), s->all, from, row(red), numbers(red), ranks, NULL));
    TAUT_TRY(calibrate(red, s->all + 1, NULL, &s->fresh));
    TAUT_TRY(if_anew(red, &s->calibration, &s->fresh, sizeof s->fresh));
    TAUT_TRY(if_anew(red, &s->before, &s->fresh, sizeof s->fresh));
    TAUT_TRY(if_anew(red, s->earlier, s->all + 1, (numbers(red) - 1) * sizeof *s->all));
    return v->copy_if(place_of(red), (const uint8_t *)&s->calibration.raw, memory, taut__form(red, 0, red->call.n),
                      red->call.n * sizeof(float));
}

taut_status taut__agree_there_enqueue(taut__reduction *red, size_t stage, void *memory)
{
    return stage == COLLECT ? begin(red, memory) : decide(red, memory);
}

taut_status taut__agree_there_end(taut__reduction *red)
{
    taut__agree_there *a = *taut__agree_data(red);
    if (!taut__agrees_there(red)) return TAUT_OK;
    return red->lane->space->copy(place_of(red), a->here, a->there, offsetof(settled, earlier));
}

/* ---- what has become of it ---- */

bool taut__goes_raw(const taut__reduction *red) { return red->calibration.raw && shared(red); }

taut_status taut__agree_there_intact(const taut__reduction *red)
{
    const settled *s = (*taut__agree_data(red))->here;
    if (!taut__agrees_there(red) || !s->damaged) return TAUT_OK;
    return taut__fail(TAUT_E_CORRUPT, "statistics of rank %d came over %s damaged",
                      taut__member(red->g, (int)s->damaged - 1), red->g->data->ops->name);
}

taut_status taut__agree_there_told(taut__reduction *red, void *memory)
{
    const settled *s = (*taut__agree_data(red))->here;
    if (!taut__agrees_there(red)) return TAUT_OK;
    taut__agree_settle(red, &(taut__agreed_now){.own = s->own + 1,
                                                .all = s->anew.bytes ? s->all + 1 : NULL,
                                                .calibrated = &s->before,
                                                .calibration = &s->calibration});
    red->call.calibration = &(*taut__agree_data(red))->there->calibration; /* of a replay, too */
    if (!taut__goes_raw(red)) return TAUT_OK;
    float *x = (float *)(uintptr_t)taut__form(red, 0, red->call.n);
    return red->lane->space->copy(place_of(red), x, memory, red->call.n * sizeof *x);
}
