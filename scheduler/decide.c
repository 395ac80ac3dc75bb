/* decide.c : candidate plans, the best of them, and how far from the best possible it may be. */
#include "decide.h"
#include <math.h>
#include <string.h>
#include <xxhash.h>

/* A lossy codec's load counts this much more, everywhere: in the choice, in what is printed and in what a plan is judged by. It also
 * takes memory bandwidth and cycles from what runs beside it, and predictions err. */
static const double MARGIN = 1.10;

/* Plans are made for so many exchange rates, in seconds of the processor that a byte on the wire is worth: RATE * 10^(i/3), 50 GB/s to
 * 1 MB/s. They do not depend on the link, so neither do the plans that are compared, and since every plan's time falls
 * with the link's, so does that of the best. */
enum { RATES = 15, FEW_LAYERS = 8, MANY_LAYERS = 300, CAPS = 3 };
static const double RATE = 2e-11, RATE_STEP = 2.15443469003188;

/* One way to carry a layer: an option and an algorithm. */
typedef struct way {
    uint32_t   option;
    double     error;
    taut__load load;  /* margin included */
    double     bytes; /* on the wire, margin included */
} way;

typedef struct scratch {
    const taut__observations *o;
    const taut__demand       *demand;
    size_t                   *first, *sub; /* of each layer: its ways; those of them that a solver is given */
    way                      *way;
    size_t                    ways;
    double                   *error, *cost;       /* what a solver is given */
    uint32_t                 *of, *choice, *best; /* the way that it is; solution; the best so far: ways */
    double                    caps[CAPS];         /* latencies, falling, that plans may have at most */
    int                       n_caps;
} scratch;

/* ---- ways ---- */

static double beta(const taut__link *link) { return link->line[TAUT_VIA_NATIVE].beta; }

static way way_of(const taut__demand *demand, const taut__observations *o, uint32_t i, taut__algorithm_id via)
{
    const taut__option *option = &o->option[i];
    way                 w = {i, option->error, taut__algorithm_load(&demand->link, via, &option->work), 0};
    double              margin = option->dense ? 1 : MARGIN;
    w.load.codec *= margin;
    w.load.copy *= margin;
    w.load.wire *= margin;
    w.load.latency *= margin;
    w.bytes = beta(&demand->link) > 0 ? w.load.wire / beta(&demand->link) : 0;
    return w;
}

static void list_ways(scratch *s)
{
    const taut__observations *o = s->o;
    for (size_t l = 0; l < o->layers; l++) {
        s->first[l] = s->ways;
        for (size_t i = o->layer[l].first; i < o->layer[l].first + o->layer[l].n; i++) {
            const taut__option *option = &o->option[i];
            uint32_t            vias = taut__vias(&s->demand->link, &option->work);
            if (!option->dense && option->kind & s->demand->leave_out) continue;
            for (int v = 0; v < TAUT_VIAS; v++)
                if (vias >> v & 1) s->way[s->ways++] = way_of(s->demand, o, (uint32_t)i, (taut__algorithm_id)v);
        }
    }
    s->first[o->layers] = s->ways;
}

static taut_status all_have_ways(const scratch *s)
{
    for (size_t l = 0; l < s->o->layers; l++)
        if (s->first[l] == s->first[l + 1])
            return taut__fail(TAUT_E_INVALID, "plan: layer '%s': no algorithm carries any of its %zu options",
                              s->o->layer[l].name, s->o->layer[l].n);
    return TAUT_OK;
}

static void release(scratch *s)
{
    taut__free(s->first);
    taut__free(s->sub);
    taut__free(s->way);
    taut__free(s->error);
    taut__free(s->cost);
    taut__free(s->of);
    taut__free(s->choice);
    taut__free(s->best);
}

static taut_status reserve(scratch *s)
{
    size_t layers = s->o->layers, ways = s->o->options * TAUT_VIAS;
    s->first = taut__alloc(layers + 1, sizeof *s->first);
    s->sub = taut__alloc(layers + 1, sizeof *s->sub);
    s->way = taut__alloc(ways, sizeof *s->way);
    s->error = taut__alloc(ways, sizeof *s->error);
    s->cost = taut__alloc(ways, sizeof *s->cost);
    s->of = taut__alloc(ways, sizeof *s->of);
    s->choice = taut__alloc(layers, sizeof *s->choice);
    s->best = taut__alloc(layers, sizeof *s->best);
    if (s->first && s->sub && s->way && s->error && s->cost && s->of && s->choice && s->best) return TAUT_OK;
    return taut__fail(TAUT_E_NOMEM, "plan: no memory for %zu options", s->o->options);
}

/* ---- one solution of a sum of costs ---- */

typedef struct solution {
    double error, cost, bound;
    bool   there, feasible;
} solution;

/* cost: of a way, codec + rate * bytes; rate < 0: the bytes of one encoding. Of ways of at most this latency; `there` is false where a
 * layer has none. */
static taut_status solve(scratch *s, double rate, double cap, solution *r)
{
    const taut__demand *demand = s->demand;
    taut_plan_problem   p = {sizeof p,       s->o->layers,   s->sub,       s->error,         s->cost,
                             demand->budget, demand->solver, demand->bins, demand->unsquared};
    taut_plan_result    result = {sizeof result, 0, 0, 0};
    size_t              n = 0;
    *r = (solution){0};
    for (size_t l = 0; l < s->o->layers; l++) {
        s->sub[l] = n;
        for (size_t i = s->first[l]; i < s->first[l + 1]; i++) {
            const way *w = &s->way[i];
            if (w->load.latency > cap) continue;
            s->error[n] = w->error;
            s->cost[n] = rate < 0 ? s->o->option[w->option].work.bytes : w->load.codec + rate * w->bytes;
            s->of[n++] = (uint32_t)i;
        }
        if (n == s->sub[l]) return TAUT_OK;
    }
    s->sub[s->o->layers] = n;
    taut_status status = taut_plan_solve(&p, s->choice, &result);
    if (status != TAUT_OK && status != TAUT_E_INFEASIBLE) return status;
    for (size_t l = 0; l < s->o->layers; l++) s->choice[l] = s->of[s->sub[l] + s->choice[l]];
    *r = (solution){result.error, result.cost, result.bound, true, status == TAUT_OK};
    return TAUT_OK;
}

/* ---- a plan's totals ---- */

static double step_seconds(const scratch *s, const uint32_t *choice)
{
    taut__load sum = {0};
    for (size_t l = 0; l < s->o->layers; l++) taut__load_add(&sum, &s->way[choice[l]].load);
    return taut__load_seconds(&sum);
}

static size_t dense_way(const scratch *s, size_t l)
{
    for (size_t i = s->first[l]; i < s->first[l + 1]; i++)
        if (s->o->option[s->way[i].option].dense) return i;
    return SIZE_MAX;
}

static void total(const scratch *s, taut__decision *d)
{
    const taut__observations *o = s->o;
    taut__load                sum = {0}, dense = {0};
    d->bytes = 0;
    d->hash = 0;
    for (size_t l = 0; l < o->layers; l++) {
        const way *w = &s->way[s->best[l]];
        size_t     i = dense_way(s, l);
        d->option[l] = w->option;
        d->bytes += o->option[w->option].work.bytes;
        d->hash = taut__plan_hash(d->hash, o->layer[l].name, o->option[w->option].spec);
        taut__load_add(&sum, &w->load);
        if (i != SIZE_MAX) taut__load_add(&dense, &s->way[i].load);
    }
    d->seconds = taut__load_seconds(&sum);
    d->dense_seconds = taut__load_seconds(&dense);
}

/* ---- objectives ---- */

static taut_status least_bytes(scratch *s, taut__decision *d)
{
    solution r;
    TAUT_TRY(solve(s, -1, INFINITY, &r));
    memcpy(s->best, s->choice, s->o->layers * sizeof *s->best);
    d->feasible = r.feasible;
    d->error = r.error;
    d->gap = r.cost > 0 ? 1 - r.bound / r.cost : 0;
    return TAUT_OK;
}

static double least_latency(const scratch *s)
{
    double most = 0;
    for (size_t l = 0; l < s->o->layers; l++) {
        double least = INFINITY;
        for (size_t i = s->first[l]; i < s->first[l + 1]; i++) least = fmin(least, s->way[i].load.latency);
        most = fmax(most, least);
    }
    return most;
}

/* The highest latencies of ways, each once, below one another; the lowest that all layers can have is always among them. */
static void list_caps(scratch *s)
{
    double below = INFINITY, lowest = least_latency(s);
    int    most = s->o->layers > MANY_LAYERS ? 1 : CAPS;
    for (s->n_caps = 0; s->n_caps < most;) {
        double next = 0;
        for (size_t i = 0; i < s->ways; i++)
            if (s->way[i].load.latency < below) next = fmax(next, s->way[i].load.latency);
        if (s->n_caps == most - 1 && most > 1) next = fmin(next, lowest);
        if (next < lowest || next >= below) break;
        s->caps[s->n_caps++] = below = next;
    }
}

/* A lower bound of a step's seconds: a step takes at least its latency and any mean of processor and wire, p * (codec + copy) +
 * (1 - p) * wire, which for p = beta / (rate - k + beta), k the copy's seconds per byte, is p * (codec + rate * bytes). */
static double bound_of(const scratch *s, double rate, const solution *r)
{
    double b = beta(&s->demand->link), k = taut__copy_seconds(b);
    return rate >= k ? b / (rate - k + b) * r->bound : 0;
}

/* All layers dense is a plan too, mostly without error, where every layer may be. */
static void begin_dense(scratch *s, taut__decision *d, double *best)
{
    *best = INFINITY;
    d->feasible = false;
    for (size_t l = 0; l < s->o->layers; l++) {
        size_t i = dense_way(s, l);
        if (i == SIZE_MAX) return;
        s->best[l] = (uint32_t)i;
    }
    d->error = 0;
    for (size_t l = 0; l < s->o->layers; l++) {
        double error = s->way[s->best[l]].error;
        d->error += s->demand->unsquared ? sqrt(error) : error;
    }
    d->feasible = d->error <= s->demand->budget;
    if (!d->feasible) return;
    *best = s->demand->compressing ? INFINITY : step_seconds(s, s->best);
}

static bool all_dense(const scratch *s, const uint32_t *choice)
{
    for (size_t l = 0; l < s->o->layers; l++)
        if (!s->o->option[s->way[choice[l]].option].dense) return false;
    return true;
}

static taut_status try_rate(scratch *s, double rate, double cap, taut__decision *d, double *best, double *bound)
{
    solution r;
    TAUT_TRY(solve(s, rate, cap, &r));
    if (!r.there || (!r.feasible && d->feasible)) return TAUT_OK;
    if (s->demand->compressing && all_dense(s, s->choice)) return TAUT_OK;
    if (r.feasible) *bound = fmax(*bound, bound_of(s, rate, &r));
    double seconds = step_seconds(s, s->choice);
    if (seconds >= *best && (d->feasible || !r.feasible)) return TAUT_OK;
    *best = seconds;
    d->feasible = r.feasible, d->error = r.error;
    memcpy(s->best, s->choice, s->o->layers * sizeof *s->best);
    return TAUT_OK;
}

/* On slow links nearly all of a step is wire, and the best bound lies beyond the rates of plans. */
static taut_status look_beyond(scratch *s, double cap, double rate, double *at, double *bound)
{
    const double far = 256 * beta(&s->demand->link);
    while (rate < far) {
        solution r;
        TAUT_TRY(solve(s, rate, cap, &r));
        if (r.there && r.feasible && bound_of(s, rate, &r) > *bound) *bound = bound_of(s, rate, &r), *at = rate;
        rate *= RATE_STEP * RATE_STEP;
    }
    return TAUT_OK;
}

/* The bound is a concave function of the rate's logarithm, nearly: so look between the rates around the best one. */
static taut_status tighten(scratch *s, double cap, double rate, double ratio, double *bound)
{
    enum { HALVINGS = 4 };
    for (int i = 0; i < HALVINGS; i++) {
        ratio = sqrt(ratio);
        double middle = rate;
        for (int side = -1; side <= 1; side += 2) {
            double   at = side < 0 ? middle / ratio : middle * ratio;
            solution r;
            TAUT_TRY(solve(s, at, cap, &r));
            if (!r.there || !r.feasible || bound_of(s, at, &r) <= *bound) continue;
            *bound = bound_of(s, at, &r);
            rate = at;
        }
    }
    return TAUT_OK;
}

/* Of plans whose latency lies above the next lower cap and not above this one, none takes less than this cap's `bound` and the least
 * latency that they can have. */
static taut_status least_seconds(scratch *s, taut__decision *d)
{
    double best, lowest = INFINITY;
    int    step = s->o->layers > FEW_LAYERS ? 2 : 1;
    begin_dense(s, d, &best);
    list_caps(s);
    for (int c = 0; c < s->n_caps; c++) {
        double rate = RATE, bound = -1, at = RATE, latency = c + 1 < s->n_caps ? s->caps[c + 1] : least_latency(s);
        for (int i = 0; i < RATES; i++, rate *= RATE_STEP) {
            double before = bound;
            if (i % step == 0) TAUT_TRY(try_rate(s, rate, s->caps[c], d, &best, &bound));
            if (bound > before) at = rate;
        }
        if (s->demand->tight && bound >= 0) TAUT_TRY(look_beyond(s, s->caps[c], rate, &at, &bound));
        if (s->demand->tight && bound >= 0)
            TAUT_TRY(tighten(s, s->caps[c], at, step == 2 ? RATE_STEP * RATE_STEP : RATE_STEP, &bound));
        if (bound >= 0) lowest = fmin(lowest, latency + bound); /* else there are no such plans */
    }
    d->gap = best > 0 && isfinite(lowest) ? fmax(1 - lowest / best, 0) : 0;
    return TAUT_OK;
}

/* ---- interface ---- */

taut_status taut__decide(const taut__observations *o, const taut__demand *demand, taut__decision *d)
{
    scratch     s = {.o = o, .demand = demand};
    taut_status status = reserve(&s);
    if (status == TAUT_OK) {
        list_ways(&s);
        status = all_have_ways(&s);
    }
    if (status == TAUT_OK)
        status = demand->objective == TAUT_OBJECTIVE_BYTES ? least_bytes(&s, d) : least_seconds(&s, d);
    if (status == TAUT_OK) total(&s, d);
    release(&s);
    return status;
}

void taut__appraise(const taut__observations *o, const taut__demand *demand, const uint32_t *option, double *error,
                    double *cost)
{
    taut__load sum = {0};
    *error = *cost = 0;
    for (size_t l = 0; l < o->layers; l++) {
        double            seconds;
        const taut__work *work = &o->option[option[l]].work;
        way               w = way_of(demand, o, option[l], taut__algorithm_best(&demand->link, work, &seconds));
        *error += w.error;
        *cost += work->bytes;
        taut__load_add(&sum, &w.load);
    }
    if (demand->objective == TAUT_OBJECTIVE_TIME) *cost = taut__load_seconds(&sum);
}

uint64_t taut__plan_hash(uint64_t chain, const char *name, const char *spec)
{
    return XXH3_64bits_withSeed(spec, strlen(spec), XXH3_64bits_withSeed(name, strlen(name), chain));
}
