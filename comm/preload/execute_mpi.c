/* execute_mpi.c : what happens at an event: votes, cycles, coded calls, steps, dry runs. One thread at a time per channel. */
#include "channel.h"
#include "../taut_mpi.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const dry_budget[TAUT_COURSES] = {"like:quant:bits=4", "rel=0.03", "rel=0.1"};
enum { TRIALS = 10, WARM = 5 }; /* cycles of a dry run for each budget; the first ones let the planner look */

void taut__dry_budgets(const char *budget[TAUT_COURSES])
{
    const char *asked = getenv("TAUT_BUDGET");
    for (int b = 0; b < TAUT_COURSES; b++) budget[b] = taut__preload.option.codec_given ? NULL : dry_budget[b];
    if (taut__preload.option.codec_given) budget[0] = asked && *asked ? asked : dry_budget[0];
}

int taut__plain_call(taut__channel *c, const taut__entry *e)
{
    MPI_Comm comm = e->queued ? c->control : c->user;
    switch (e->kind) {
    case TAUT_CALL_REDUCE_SCATTER:
        return e->counts ? taut__real_mpi.Reduce_scatter(e->in, e->out, e->counts, e->type, e->op, comm)
                         : taut__real_mpi.Reduce_scatter_block(e->in, e->out, e->count, e->type, e->op, comm);
    default: return taut__real_mpi.Allreduce(e->in, e->out, e->count, e->type, e->op, comm);
    }
}

/* ---- votes ---- */

/* Does every rank say yes to the same word? A rank that says no gives none. */
static bool all_say(taut__channel *c, bool yes, uint64_t word)
{
    uint64_t v[2] = {yes ? word : 0, yes ? ~word : 0};
    if (taut__real_mpi.Allreduce(MPI_IN_PLACE, v, 2, MPI_UINT64_T, MPI_MIN, c->control) != MPI_SUCCESS) return false;
    return v[0] == ~v[1];
}

/* The copy of the communicator, made at one of a few fixed events by all ranks. */
static bool need_control(taut__channel *c, const taut__entry *e)
{
    int seen = c->seen_eligible, any = 0;
    if (c->has_control || e->kind == TAUT_CALL_IALLREDUCE || !taut__control_at(e->event)) return c->has_control;
    if (taut__real_mpi.Allreduce(&seen, &any, 1, MPI_INT, MPI_MAX, c->user) != MPI_SUCCESS || !any) return false;
    c->has_control = PMPI_Comm_dup(c->user, &c->control) == MPI_SUCCESS;
    return c->has_control;
}

/* ---- sites ---- */

static taut__site *find_site(const taut__channel *c, uint64_t key, uint32_t ordinal)
{
    for (size_t i = 0; i < c->sites; i++)
        if (c->site[i]->key == key && c->site[i]->ordinal == ordinal) return c->site[i];
    return NULL;
}

/* A copy of `like`, with a number of its own. NULL: out of memory. */
static taut__site *add_site(taut__channel *c, const taut__site *like)
{
    const taut__preload_options *o = &taut__preload.option;
    taut__site *s = taut__alloc(1, sizeof *s), **mine = realloc(c->site, (c->sites + 1) * sizeof *mine);
    if (mine) c->site = mine;
    if (!s || !mine) return NULL;
    *s = *like;
    pthread_mutex_lock(&taut__preload.lock);
    taut__site **all = realloc(taut__preload.site, (taut__preload.sites + 1) * sizeof *all);
    if (all) taut__preload.site = all, all[taut__preload.sites++] = s;
    s->number = taut__preload.sites;
    pthread_mutex_unlock(&taut__preload.lock);
    s->excluded = taut__preload_picked(o->exclude, o->excludes, s->number, taut__site_bytes(s)) ||
                  (o->includes && !taut__preload_picked(o->include, o->includes, s->number, taut__site_bytes(s)));
    return c->site[c->sites++] = s;
}

/* Before a cycle is known all calls of one size are one site. */
static taut__site *site_for(taut__channel *c, const taut__entry *e)
{
    taut__site *s = find_site(c, e->key, 0);
    if (s) return s;
    return add_site(c, &(taut__site){.kind = e->kind, .key = e->key, .count = e->elements, .elem_bytes = e->dtype == TAUT_F32 ? 4 : 2,
                                     .ranks = c->size, .doubt = TAUT_DOUBT_UNSEEN});
}

static bool included(const taut__site *s)
{
    const taut__preload_options *o = &taut__preload.option;
    return o->includes && taut__preload_picked(o->include, o->includes, s->number, taut__site_bytes(s));
}

/* Two dot products or more for one large sum. */
static bool like_a_solver(const taut__channel *c)
{
    size_t large = 0, scalars = 0;
    for (size_t i = 0; i < c->period; i++) {
        uint64_t key = c->position[i].key;
        large += taut__key_eligible(key);
        for (uint64_t n = 1; n <= 2; n++) scalars += key == taut__call_key(TAUT_CALL_ALLREDUCE, n, TAUT_TYPE_DOUBLE, TAUT_OP_SUM, false);
    }
    return large > 0 && scalars >= 2 * large;
}

/* ---- the plain way, timed and looked at ---- */

static float *sample(const taut__entry *e, const void *from, size_t m)
{
    float *x = from && e->dtype == TAUT_F32 ? malloc(m * sizeof *x) : NULL;
    for (size_t i = 0; x && i < m; i++) x[i] = ((const float *)from)[taut__sample_at(e->elements, m, i)];
    return x;
}

static const void *input_of(const taut__entry *e) { return e->in == MPI_IN_PLACE ? e->out : e->in; }

float *taut__own_sample(const taut__entry *e, const taut__site *s)
{
    bool look = s && e->kind != TAUT_CALL_REDUCE_SCATTER && (s->calls < 2 * TAUT_LOOKS || s->calls % 64 == 0);
    return look ? sample(e, input_of(e), taut__min(TAUT_SAMPLE, e->elements)) : NULL;
}

/* A plain call is over. own: frees it. */
void taut__look_at(taut__channel *c, const taut__entry *e, taut__site *s, float *own, double took)
{
    size_t m = taut__min(TAUT_SAMPLE, e->elements);
    float *sum = own ? sample(e, e->out, m) : NULL;
    if (own && sum) taut__likeness_look(&s->like, own, sum, m, c->size);
    free(own), free(sum);
    if (!s) {
        taut__preload.small_calls++;
        return;
    }
    s->calls++;
    if (s->calls > 1) s->plain_s += took, s->plain_timed++; /* the first one warms up */
}

static int timed_plain(taut__channel *c, const taut__entry *e, taut__site *s)
{
    float *own = taut__own_sample(e, s);
    double begin = taut__now();
    int    rc = taut__plain_call(c, e);
    taut__look_at(c, e, s, own, taut__now() - begin);
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

void taut__note_codec(taut__site *s, const taut_layer *layer, uint64_t sent, uint64_t dense)
{
    taut_layer_stats t = {.size = sizeof t};
    if (taut_layer_get_stats(layer, &t) != TAUT_OK) return;
    snprintf(s->codec, sizeof s->codec, "%s", t.codec);
    s->bytes_sent += t.bytes_sent - sent;
    s->bytes_dense += t.bytes_dense - dense;
}

static taut_status reduce_into(taut__channel *c, const taut__entry *e, taut_layer *layer, void *to)
{
    size_t bytes = e->elements * (e->dtype == TAUT_F32 ? 4 : 2), first, n;
    if (e->kind != TAUT_CALL_REDUCE_SCATTER) {
        if (input_of(e) != to) memcpy(to, input_of(e), bytes);
        return taut_allreduce(layer, to, TAUT_SUM);
    }
    memcpy(c->copy, input_of(e), bytes);
    TAUT_TRY(taut_reduce_scatter(layer, c->copy, TAUT_SUM));
    TAUT_TRY(taut_layer_part(layer, c->rank, &first, &n));
    if (to == e->out) memcpy(to, c->copy + first, n * 4);
    return TAUT_OK;
}

/* What the last step lost, site by site. */
static void note_errors(taut__channel *c, int course)
{
    for (size_t i = 0; i < c->period; i++) {
        taut__position  *p = &c->position[i];
        taut_layer_stats t = {.size = sizeof t};
        if (!p->coded || taut_layer_get_stats(p->layer[course], &t) != TAUT_OK) continue;
        if (taut__preload.option.dry_run) {
            p->site->trial_error[course] = fmax(p->site->trial_error[course], t.rel_err2);
            continue;
        }
        p->site->error2 += t.rel_err2, p->site->norm2 += 1;
    }
}

static taut_status end_step(taut__channel *c, int course)
{
    taut__flights_wait(c);
    taut_status s = taut_step_end(c->course[course]);
    if (s == TAUT_OK) note_errors(c, course);
    return s;
}

static int coded_call(taut__channel *c, taut__entry *e, taut__position *p, bool last)
{
    taut__site      *s = p->site;
    taut_layer_stats t = {.size = sizeof t};
    double           begin = taut__now();
    taut_layer_get_stats(p->layer[0], &t);
    taut_status status = reduce_into(c, e, p->layer[0], e->out);
    if (status == TAUT_OK && last) status = end_step(c, 0);
    s->coded_s += taut__now() - begin;
    s->calls++, s->coded_calls++;
    taut__note_codec(s, p->layer[0], t.bytes_sent, t.bytes_dense);
    return taut__fail_as_mpi(c, s, status);
}

static int queued_code(taut__channel *c, taut__entry *e, taut__position *p, bool last)
{
    taut__flight_code(c, e, p);
    return last ? taut__fail_as_mpi(c, p->site, end_step(c, 0)) : MPI_SUCCESS;
}

/* Beside the plain call the coded one, on a copy, under each budget in turn. */
static int shadow_call(taut__channel *c, taut__entry *e, taut__position *p, bool last)
{
    int    course = (int)(c->cycles / TRIALS);
    double took = 0, begin = taut__now();
    if (course < c->courses) {
        memcpy(c->copy, input_of(e), e->elements * sizeof *c->copy);
        begin = taut__now();
        taut_status status = taut_allreduce(p->layer[course], c->copy, TAUT_SUM);
        if (status == TAUT_OK && last) status = end_step(c, course);
        took = taut__now() - begin;
        if (status != TAUT_OK) return taut__fail_as_mpi(c, p->site, status);
        if (c->cycles % TRIALS >= WARM) p->site->trial_s[course] += took, p->site->trials[course]++;
    }
    return timed_plain(c, e, p->site);
}

/* ---- cycles ---- */

static taut_status open_course(taut__channel *c, const char *budget)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = -1; /* as long as MPI itself would wait */
    cfg.budget = budget;
    taut_status s = taut_comm_create_mpi(c->control, &cfg, &c->course[c->courses]);
    if (s == TAUT_OK) c->courses++;
    return s;
}

/* Two extents, so that it is not taken for a bias; blocks of 512 divide rows where they can. */
static taut_status register_site(taut__channel *c, taut__position *p, int course)
{
    char   name[64];
    size_t n = p->site->count, cols = 1;
    while (cols < 1024 && n % (cols * 2) == 0) cols *= 2;
    snprintf(name, sizeof name, "%s.%llu.%u", p->site->kind == TAUT_CALL_REDUCE_SCATTER ? "reduce_scatter" : "allreduce",
             (unsigned long long)n, p->site->ordinal);
    for (size_t i = 0; i < taut_comm_layers(c->course[course]); i++) {
        taut_layer_stats t = {.size = sizeof t};
        p->layer[course] = taut_comm_layer(c->course[course], i);
        if (taut_layer_get_stats(p->layer[course], &t) == TAUT_OK && strcmp(t.name, name) == 0) return TAUT_OK;
    }
    return taut_layer_register(c->course[course], name, p->site->elem_bytes == 4 ? TAUT_F32 : TAUT_F16, 2, (size_t[]){n / cols, cols},
                               &p->layer[course]);
}

static bool parts_fit(const taut__channel *c, const taut__position *p, const taut__entry *e)
{
    size_t at = 0, first, n;
    for (int r = 0; r < c->size; r++) {
        size_t want = (size_t)(e->counts ? e->counts[r] : e->count);
        if (taut_layer_part(p->layer[0], r, &first, &n) != TAUT_OK || first != at || n != want) return false;
        at += want;
    }
    return true;
}

static taut_status open_courses(taut__channel *c)
{
    int wanted = taut__preload.option.dry_run && !taut__preload.option.codec_given ? TAUT_COURSES : 1;
    while (c->courses < wanted) TAUT_TRY(open_course(c, wanted > 1 ? dry_budget[c->courses] : NULL));
    for (size_t i = 0; i < c->period; i++)
        for (int b = 0; b < c->courses && c->position[i].coded; b++) TAUT_TRY(register_site(c, &c->position[i], b));
    return TAUT_OK;
}

static bool room_for_copy(taut__channel *c)
{
    size_t most = 0;
    for (size_t i = 0; i < c->period; i++)
        if (c->position[i].coded && (taut__preload.option.dry_run || c->position[i].site->kind == TAUT_CALL_REDUCE_SCATTER))
            most = taut__max(most, c->position[i].site->count);
    if (most <= c->copy_n) return true;
    free(c->copy);
    c->copy = malloc(most * sizeof *c->copy);
    c->copy_n = c->copy ? most : 0;
    return c->copy != NULL;
}

static void end_cycles(taut__channel *c)
{
    c->active = false;
    free(c->position);
    c->position = NULL;
    c->period = 0;
}

/* The site of position i: the first call of its size in the cycle is that of calls seen so far, others begin as copies of it. */
static taut__site *site_at(taut__channel *c, size_t i)
{
    uint64_t key = c->position[i].key;
    uint32_t ordinal = 0;
    for (size_t k = 0; k < i; k++) ordinal += c->position[k].key == key;
    taut__site *s = find_site(c, key, ordinal), *first = find_site(c, key, 0);
    if (s || !first) return s;
    taut__site like = {.kind = first->kind, .key = key, .ordinal = ordinal, .count = first->count, .elem_bytes = first->elem_bytes,
                       .ranks = first->ranks, .like = first->like, .doubt = TAUT_DOUBT_UNSEEN,
                       .plain_s = first->plain_s, .plain_timed = first->plain_timed};
    return add_site(c, &like);
}

static bool lay_out_cycle(taut__channel *c, uint64_t last, size_t period) /* which ends at event `last` */
{
    c->position = calloc(period, sizeof *c->position);
    c->period = c->position ? period : 0;
    for (size_t i = 0; i < c->period; i++) c->position[i].key = taut__sequence_key(&c->sequence, last + 1 - period + i);
    for (size_t i = 0; i < c->period; i++)
        if (taut__key_eligible(c->position[i].key)) c->position[i].site = site_at(c, i);
    return c->period > 0;
}

/* Every rank's doubts count. */
static size_t weigh_doubts(taut__channel *c)
{
    bool           solver = like_a_solver(c);
    unsigned char *doubt = calloc(c->period, 1);
    size_t         coded = 0;
    for (size_t i = 0; doubt && i < c->period; i++) {
        const taut__site *s = c->position[i].site;
        if (!s) continue;
        taut__doubt d = s->kind == TAUT_CALL_REDUCE_SCATTER || s->elem_bytes != 4 ? TAUT_DOUBT_NONE : taut__likeness_judge(&s->like);
        if (solver) d = TAUT_DOUBT_SOLVER;
        doubt[i] = included(s) ? TAUT_DOUBT_NONE : (unsigned char)d;
    }
    if (!doubt || taut__real_mpi.Allreduce(MPI_IN_PLACE, doubt, (int)c->period, MPI_UNSIGNED_CHAR, MPI_MAX, c->control) != MPI_SUCCESS) {
        free(doubt);
        return 0;
    }
    for (size_t i = 0; i < c->period; i++) {
        taut__position *p = &c->position[i];
        if (!p->site) continue;
        p->site->doubt = (taut__doubt)doubt[i];
        p->coded = !doubt[i] && !p->site->excluded && !p->site->misfit && !taut__preload.option.off;
        if (taut__preload.option.dry_run && p->site->kind != TAUT_CALL_ALLREDUCE) p->coded = false;
        coded += p->coded;
        if (p->coded) c->last_coded = i;
    }
    free(doubt);
    return coded;
}

static uint64_t hash_of_cycle(const taut__channel *c, uint64_t last, size_t period)
{
    uint64_t h = taut__seed(period, taut__preload.option.threshold);
    for (size_t i = 0; i < period; i++) h = taut__seed(h, taut__sequence_key(&c->sequence, last - i));
    return h | 1;
}

static int vote_on_cycle(taut__channel *c, uint64_t last)
{
    static _Thread_local uint32_t scratch[TAUT_HISTORY];
    pthread_mutex_lock(&c->lock);
    size_t   period = c->failed ? 0 : taut__sequence_period(&c->sequence, last, scratch);
    uint64_t word = period ? hash_of_cycle(c, last, period) : 0;
    bool     room = period && lay_out_cycle(c, last, period);
    pthread_mutex_unlock(&c->lock);
    if (!all_say(c, room, word) || weigh_doubts(c) == 0 || !all_say(c, room_for_copy(c), 1)) {
        end_cycles(c);
        return MPI_SUCCESS;
    }
    taut_status s = open_courses(c);
    c->active = true;
    c->start = last + 1;
    c->cycles = 0;
    if (s != TAUT_OK) c->failed = true, end_cycles(c); /* the same on all ranks */
    if (s != TAUT_OK) fprintf(stderr, "taut: rank %d: %s; calls pass through\n", c->rank, taut_last_error());
    return MPI_SUCCESS;
}

/* ---- events ---- */

static bool as_expected(taut__channel *c, uint64_t event) /* all events up to this one */
{
    bool same = true;
    pthread_mutex_lock(&c->lock);
    for (uint64_t e = taut__max(c->checked, c->start); e <= event && same; e++)
        same = taut__sequence_knows(&c->sequence, e) && taut__sequence_key(&c->sequence, e) == c->position[(e - c->start) % c->period].key;
    pthread_mutex_unlock(&c->lock);
    return same;
}

/* Values that did not look like gradients at first may do so later; more and more rarely. */
static void reconsider(taut__channel *c)
{
    bool power_of_4 = c->cycles >= 16 && (c->cycles & (c->cycles - 1)) == 0 && (c->cycles & 0x5555555555555555u), doubted = false;
    for (size_t i = 0; i < c->period && power_of_4; i++) doubted |= c->position[i].site && c->position[i].site->doubt != TAUT_DOUBT_NONE;
    if (!doubted) return; /* the same on all ranks: doubts are shared */
    size_t      coded = weigh_doubts(c);
    taut_status s = coded && all_say(c, room_for_copy(c), 1) ? open_courses(c) : TAUT_OK;
    if (coded == 0 || s != TAUT_OK) end_cycles(c);
}

static int in_cycle(taut__channel *c, taut__entry *e, bool *made)
{
    size_t          at = (e->event - c->start) % c->period;
    taut__position *p = &c->position[at];
    if (!p->coded) return MPI_SUCCESS;
    bool mine = as_expected(c, e->event) && e->data && e->key == p->key;
    if (mine && e->kind == TAUT_CALL_REDUCE_SCATTER && !parts_fit(c, p, e)) mine = false, p->site->misfit = true;
    if (!all_say(c, mine, p->key)) {
        taut__flights_wait(c);
        c->breaks++;
        end_cycles(c);
        return MPI_SUCCESS;
    }
    *made = true;
    bool last = at == c->last_coded;
    int  rc;
    if (taut__preload.option.dry_run) rc = shadow_call(c, e, p, last);
    else rc = e->queued ? queued_code(c, e, p, last) : coded_call(c, e, p, last);
    if (last) c->cycles++;
    if (last && rc == MPI_SUCCESS) reconsider(c);
    return rc;
}

static taut__site *site_of(taut__channel *c, const taut__entry *e)
{
    if (!taut__key_eligible(e->key)) return NULL;
    if (c->active && c->position) {
        taut__position *p = &c->position[(e->event - c->start) % c->period];
        if (p->key == e->key && p->site) return p->site;
    }
    return site_for(c, e);
}

int taut__execute(taut__channel *c, taut__entry *e)
{
    double begin = taut__now();
    bool   made = false;
    int    rc = MPI_SUCCESS;
    if (need_control(c, e)) {
        if (c->active) rc = in_cycle(c, e, &made);
        else if (taut__sequence_votes_at(e->event)) rc = vote_on_cycle(c, e->event);
    }
    if (!made && e->data && rc == MPI_SUCCESS) rc = e->queued ? taut__flight_plain(c, e, site_of(c, e)) : timed_plain(c, e, site_of(c, e));
    c->checked = e->event + 1;
    c->in_calls_s += taut__now() - begin;
    return rc;
}
