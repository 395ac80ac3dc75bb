/* cycle_mpi.c : sites, what speaks against them, and the layers of a cycle that all ranks see. */
#include "channel.h"
#include "../taut_mpi.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sites; the channel's lock is held ---- */

static taut__site *find_site(const taut__channel *c, uint64_t key, uint32_t ordinal)
{
    for (size_t i = 0; i < c->sites; i++)
        if (c->site_key[i] == key && c->site[i]->ordinal == ordinal) return c->site[i];
    return NULL;
}

static bool waited_for(taut__call_kind kind) { return kind == TAUT_KIND_IALLREDUCE || kind == TAUT_KIND_PERSISTENT; }

static bool room_for_site(taut__channel *c)
{
    size_t       room = c->sites + 1;
    taut__site **site = c->sites < TAUT_SITES ? realloc(c->site, room * sizeof *site) : NULL;
    if (site) c->site = site;
    uint64_t *keys = site ? realloc(c->site_key, room * sizeof *keys) : NULL;
    if (keys) c->site_key = keys;
    return keys != NULL;
}

/* A copy of `like`, with a number of its own. NULL: there are too many, or out of memory. */
static taut__site *add_site(taut__channel *c, const taut__site *like)
{
    const taut__preload_options *o = &taut__preload.option;
    taut__site                  *s = room_for_site(c) ? taut__alloc(1, sizeof *s) : NULL;
    if (!s) return NULL;
    *s = *like;
    s->ranks = c->size;
    s->doubt = TAUT_DOUBT_UNSEEN;
    if (waited_for(s->kind)) s->waits = &c->waits;
    pthread_mutex_lock(&taut__preload.lock);
    taut__site **all = realloc(taut__preload.site, (taut__preload.sites + 1) * sizeof *all);
    if (all) taut__preload.site = all, all[taut__preload.sites++] = s;
    s->number = taut__preload.sites;
    pthread_mutex_unlock(&taut__preload.lock);
    s->excluded = taut__preload_picked(o->exclude, o->excludes, s->number, taut__site_bytes(s)) ||
                  (o->includes && !taut__preload_picked(o->include, o->includes, s->number, taut__site_bytes(s)));
    c->site_key[c->sites] = s->key;
    return c->site[c->sites++] = s;
}

/* Before a cycle is known all calls of one size are one site. */
static taut__site *site_for(taut__channel *c, const taut__entry *e)
{
    taut__site *s = find_site(c, e->key, 0);
    return s ? s
             : add_site(c, &(taut__site){.kind = e->kind,
                                         .key = e->key,
                                         .count = e->elements,
                                         .elem_bytes = e->dtype == TAUT_F32 ? 4 : 2});
}

static size_t position_of(const taut__channel *c, uint64_t event) /* also of events before the first cycle */
{
    return event >= c->start ? (event - c->start) % c->period : (c->period - 1 - (c->start - 1 - event) % c->period);
}

taut__site *taut__site_of(taut__channel *c, const taut__entry *e)
{
    taut__site *s = NULL;
    if (!taut__key_eligible(e->key)) return NULL;
    pthread_mutex_lock(&c->lock);
    if (c->active && c->position) {
        taut__position *p = &c->position[position_of(c, e->event)];
        if (p->key == e->key) s = p->site;
    }
    if (!s) s = site_for(c, e);
    pthread_mutex_unlock(&c->lock);
    return s;
}

/* The site of position i: the first call of its size in the cycle is that of calls seen so far, others begin as copies of it. */
static taut__site *site_at(taut__channel *c, size_t i)
{
    uint64_t key = c->position[i].key;
    uint32_t ordinal = 0;
    for (size_t k = 0; k < i; k++) ordinal += c->position[k].key == key;
    taut__site *s = find_site(c, key, ordinal), *first = find_site(c, key, 0);
    if (s || !first) return s;
    taut__site like = {.kind = first->kind,
                       .key = key,
                       .ordinal = ordinal,
                       .count = first->count,
                       .elem_bytes = first->elem_bytes,
                       .like = first->like,
                       .plain_s = first->plain_s,
                       .plain_timed = first->plain_timed};
    return add_site(c, &like);
}

static bool lay_out_cycle(taut__channel *c, uint64_t last, size_t period) /* which ends at event `last` */
{
    c->position = calloc(period, sizeof *c->position);
    c->period = c->position ? period : 0;
    c->start = last + 1;
    for (size_t i = 0; i < c->period; i++) c->position[i].key = taut__sequence_key(&c->sequence, last + 1 - period + i);
    for (size_t i = 0; i < c->period; i++)
        if (taut__key_eligible(c->position[i].key)) c->position[i].site = site_at(c, i);
    return c->period > 0;
}

/* ---- doubts ---- */

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
        for (uint64_t n = 1; n <= 2; n++)
            scalars += key == taut__call_key(TAUT_KIND_ALLREDUCE, n, TAUT_TYPE_DOUBLE, TAUT_OP_SUM, false);
    }
    return large > 0 && scalars >= 2 * large;
}

/* The sums of position i in the latest cycles, one after the other. Before cycles were known, calls of one size were one site. Sums of
 * long ago tell nothing: gradients shrink fast in the first steps. */
static void remember_norms(const taut__channel *c, size_t i)
{
    taut__site *own = c->position[i].site, *from[2] = {own, find_site(c, own->key, 0)};
    uint64_t    event[TAUT_LOOKS] = {0};
    double      norm[TAUT_LOOKS] = {0};
    for (int f = 0; f < 2 && from[f]; f++)
        for (size_t k = 0; k < taut__min(from[f]->seens, TAUT_SEEN) && (f == 0 || from[1] != own); k++) {
            uint64_t at = from[f]->seen[k].event;
            int      place = 0;
            if (position_of(c, at) != i || c->sequence.events - at > (TAUT_LOOKS + 1) * c->period) continue;
            while (place < TAUT_LOOKS && norm[place] > 0 && event[place] > at) place++;
            if (place == TAUT_LOOKS) continue;
            memmove(event + place + 1, event + place, (size_t)(TAUT_LOOKS - 1 - place) * sizeof *event);
            memmove(norm + place + 1, norm + place, (size_t)(TAUT_LOOKS - 1 - place) * sizeof *norm);
            event[place] = at, norm[place] = from[f]->seen[k].norm;
        }
    for (int k = 0; k < TAUT_LOOKS; k++)
        own->like.norm[k] = k == 0 || event[k - 1] - event[k] == c->period ? norm[k] : 0;
}

enum { BLOCKED = 128 }; /* beside a doubt: this rank cannot, or is not to, compress the site */

static unsigned char say_of(const taut__site *s, bool solver)
{
    taut__doubt d = included(s) ? TAUT_DOUBT_NONE
                    : solver    ? TAUT_DOUBT_SOLVER
                                : taut__likeness_judge(&s->like, s->calls);
    return (unsigned char)(d | (s->excluded || s->misfit || s->unaligned || taut__preload.option.off ? BLOCKED : 0));
}

static void choose(taut__channel *c, size_t i, unsigned char said)
{
    taut__position *p = &c->position[i];
    if (!p->site) return;
    p->site->doubt = (taut__doubt)(said & ~BLOCKED);
    p->coded = said == 0;
    if (p->coded) c->last_coded = i;
}

/* Every rank's doubts count. Returns how many positions are to be coded; *unsure: doubts that more calls may settle. */
static size_t weigh_doubts(taut__channel *c, bool *unsure)
{
    bool           solver = like_a_solver(c);
    unsigned char *doubt = calloc(c->period, 1);
    size_t         coded = 0;
    *unsure = false;
    for (size_t i = 0; doubt && i < c->period; i++) {
        const taut__site *s = c->position[i].site;
        if (!s && taut__key_eligible(c->position[i].key)) doubt[i] = BLOCKED; /* too many sites, or out of memory */
        if (!s) continue;
        remember_norms(c, i);
        doubt[i] = say_of(s, solver);
    }
    if (!doubt || taut__real_mpi.Allreduce(MPI_IN_PLACE, doubt, (int)c->period, MPI_UNSIGNED_CHAR, MPI_MAX,
                                           c->control) != MPI_SUCCESS) {
        free(doubt);
        return 0;
    }
    pthread_mutex_lock(&c->lock);
    c->waits.per_cycle = 0;
    for (size_t i = 0; i < c->period; i++) {
        choose(c, i, doubt[i]);
        *unsure |= doubt[i] == TAUT_DOUBT_UNSEEN;
        coded += c->position[i].coded;
        c->waits.per_cycle += c->position[i].coded && waited_for(c->position[i].site->kind);
    }
    pthread_mutex_unlock(&c->lock);
    free(doubt);
    return coded;
}

/* ---- layers ---- */

static taut_status open_course(taut__channel *c, const char *budget)
{
    taut_config cfg = TAUT_CONFIG_INIT;
    cfg.timeout_ms = -1; /* as long as MPI itself would wait */
    cfg.budget = budget;
    taut_status s = taut_comm_create_mpi(c->control, &cfg, &c->course[c->courses]);
    if (s == TAUT_OK) c->courses++;
    return s;
}

static const char *name_of(taut__call_kind k)
{
    return k == TAUT_KIND_REDUCE_SCATTER ? "reduce_scatter" : k == TAUT_KIND_ALLGATHER ? "allgather" : "allreduce";
}

/* Two extents, so that it is not taken for a bias; blocks of 512 divide rows where they can. */
static taut_status register_site(taut__channel *c, taut__position *p, int course)
{
    char   name[64];
    size_t n = p->site->count, cols = 1;
    while (cols < 1024 && n % (cols * 2) == 0) cols *= 2;
    snprintf(name, sizeof name, "%s.%llu.%u", name_of(p->site->kind), (unsigned long long)n, p->site->ordinal);
    for (size_t i = 0; i < taut_comm_layers(c->course[course]); i++) {
        taut_layer_stats t = {.size = sizeof t};
        p->layer[course] = taut_comm_layer(c->course[course], i);
        if (taut_layer_get_stats(p->layer[course], &t) == TAUT_OK && strcmp(t.name, name) == 0) return TAUT_OK;
    }
    return taut_layer_register(c->course[course], name, p->site->elem_bytes == 4 ? TAUT_F32 : TAUT_F16, 2,
                               (size_t[]){n / cols, cols}, &p->layer[course]);
}

bool taut__parts_fit(const taut__channel *c, const taut__position *p, const taut__entry *e)
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
    int         wanted = taut__preload.option.dry_run ? taut__dry_courses() : 1;
    const char *budget[TAUT_COURSES] = {NULL, NULL, NULL};
    if (wanted > 1) taut__dry_budgets(budget);
    while (c->courses < wanted) TAUT_TRY(open_course(c, budget[c->courses]));
    for (size_t i = 0; i < c->period; i++)
        for (int b = 0; b < c->courses && c->position[i].coded; b++) TAUT_TRY(register_site(c, &c->position[i], b));
    return TAUT_OK;
}

/* For a copy of the largest site that needs one, and, in dry runs, for what non-blocking calls put in. */
static bool room_for_copies(taut__channel *c)
{
    size_t most = 0, kept = 0;
    bool   dry = taut__preload.option.dry_run;
    for (size_t i = 0; i < c->period; i++) {
        taut__position *p = &c->position[i];
        if (!p->coded) continue;
        bool parts = p->site->kind == TAUT_KIND_REDUCE_SCATTER || p->site->kind == TAUT_KIND_ALLGATHER;
        if (dry && p->site->kind == TAUT_KIND_IALLREDUCE) p->kept = kept, kept += p->site->count;
        else if (dry || parts) most = taut__max(most, p->site->count);
    }
    return taut__room(&c->copy, &c->copy_n, most, sizeof *c->copy) &&
           taut__room(&c->kept, &c->kept_n, kept, sizeof *c->kept);
}

/* ---- cycles ---- */

void taut__end_cycles(taut__channel *c)
{
    pthread_mutex_lock(&c->lock);
    c->active = c->strayed = false;
    free(c->position);
    c->position = NULL;
    c->period = 0;
    pthread_mutex_unlock(&c->lock);
}

static uint64_t hash_of_cycle(const taut__channel *c, uint64_t last, size_t period)
{
    uint64_t h = taut__seed(period, taut__preload.option.threshold);
    for (size_t i = 0; i < period; i++) h = taut__seed(h, taut__sequence_key(&c->sequence, last - i));
    return h | 1;
}

static void begin_cycles(taut__channel *c)
{
    taut_status s = open_courses(c);
    if (s != TAUT_OK) { /* the same on all ranks */
        fprintf(stderr, "taut: rank %d: %s; calls pass through\n", c->rank, taut_last_error());
        c->failed = true;
        taut__end_cycles(c);
        return;
    }
    pthread_mutex_lock(&c->lock);
    c->active = true;
    c->cycles = 0;
    c->doubted = 0;
    pthread_mutex_unlock(&c->lock);
}

void taut__vote_on_cycle(taut__channel *c, uint64_t last)
{
    static _Thread_local uint32_t scratch[TAUT_HISTORY];
    pthread_mutex_lock(&c->lock);
    size_t   period = c->failed ? 0 : taut__sequence_period(&c->sequence, last, scratch);
    uint64_t word = period ? hash_of_cycle(c, last, period) : 0;
    bool     room = period && lay_out_cycle(c, last, period), unsure;
    pthread_mutex_unlock(&c->lock);
    if (!taut__all_say(c, room, word)) {
        taut__end_cycles(c);
        return;
    }
    size_t coded = weigh_doubts(c, &unsure);
    if (coded == 0 && !unsure) c->vote_after = last + period * taut__doubt_pause(c->doubted++);
    if (coded == 0 || !taut__all_say(c, room_for_copies(c), 1)) {
        taut__end_cycles(c);
        return;
    }
    begin_cycles(c);
}

/* Values that did not look like gradients at first may do so later, and others no more; asked more and more rarely. */
void taut__reconsider(taut__channel *c)
{
    bool unsure;
    if (!taut__reconsidered_at(c->cycles)) return;
    size_t      coded = weigh_doubts(c, &unsure);
    taut_status s = coded && taut__all_say(c, room_for_copies(c), 1) ? open_courses(c) : TAUT_OK;
    if (coded == 0 || s != TAUT_OK) taut__end_cycles(c);
}
