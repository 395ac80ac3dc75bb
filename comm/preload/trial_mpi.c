/* trial_mpi.c : dry runs. Compressed calls beside the plain ones, on copies, under each budget in turn. */
#include "channel.h"
#include <stdlib.h>
#include <string.h>

static const char *const dry_budget[TAUT_COURSES] = {"like:quant:bits=4", "rel=0.03", "rel=0.1"};
enum { TRIALS = 8, WARM = 3 }; /* steps under each budget; the first ones let the planner look and are not timed */

void taut__dry_budgets(const char *budget[TAUT_COURSES])
{
    const char *asked = getenv("TAUT_BUDGET");
    for (int b = 0; b < TAUT_COURSES; b++) budget[b] = taut__preload.option.codec_given ? NULL : dry_budget[b];
    if (taut__preload.option.codec_given) budget[0] = asked && *asked ? asked : dry_budget[0];
}

int taut__dry_courses(void) { return taut__preload.option.codec_given ? 1 : TAUT_COURSES; }

/* Every other cycle, the budgets in turn: what the network does meanwhile is the same for all. The cycles between are as they
 * would be without us, so that the program's waiting for non-blocking calls can be timed. */
static int trial_of(const taut__channel *c, uint64_t cycle)
{
    return cycle % 2 == 0 && c->courses > 0 && cycle / 2 < (uint64_t)TRIALS * (uint64_t)c->courses ? (int)(cycle / 2)
                                                                                                   : -1;
}

int taut__course_of(const taut__channel *c, uint64_t cycle)
{
    int t = trial_of(c, cycle);
    return t < 0 ? -1 : t % c->courses;
}

static bool timed(const taut__channel *c) { return trial_of(c, c->cycles) >= WARM * c->courses; }

/* ---- blocking calls, and persistent ones, which have a thread: the coded one first, then the plain one ---- */

/* A second vote: the first one has waited for the last rank, so this one costs what votes cost. */
static taut_status try_call(taut__channel *c, const taut__entry *e, taut__position *p, int course)
{
    double begin = taut__now();
    if (!taut__all_say(c, true, 1)) return TAUT_E_PEER;
    taut_status s = taut__reduce_into(c, e, p->layer[course], c->copy);
    if (timed(c)) p->site->trials.coded_s[course] += taut__now() - begin;
    return s;
}

/* ---- non-blocking calls: their inputs are kept, and all of a cycle's are tried together when the plain ones are over ---- */

static taut_status try_kept(taut__channel *c, int course)
{
    double begin = taut__now();
    for (size_t i = 0; i < c->period; i++) {
        taut__position *p = &c->position[i];
        if (p->coded && p->site->kind == TAUT_KIND_IALLREDUCE)
            TAUT_TRY(taut_allreduce_start(p->layer[course], c->kept + p->kept, TAUT_SUM));
    }
    for (size_t i = 0; i < c->period; i++)
        if (c->position[i].coded && c->position[i].site->kind == TAUT_KIND_IALLREDUCE)
            TAUT_TRY(taut_wait(c->position[i].layer[course]));
    if (timed(c)) c->waits.trials.coded_s[course] += taut__now() - begin, c->waits.trials.n[course]++;
    return TAUT_OK;
}

static taut_status end_trial(taut__channel *c, taut__position *p, int course)
{
    taut__flights_wait(c);
    bool kept = p->site->kind == TAUT_KIND_IALLREDUCE;
    if (c->kept) TAUT_TRY(try_kept(c, course));
    double begin = taut__now();
    TAUT_TRY(taut__end_step(c, course));
    if (timed(c)) *(kept ? &c->waits.trials.coded_s[course] : &p->site->trials.coded_s[course]) += taut__now() - begin;
    return TAUT_OK;
}

int taut__shadow_call(taut__channel *c, taut__entry *e, taut__position *p, bool last)
{
    int         course = taut__course_of(c, c->cycles), rc = MPI_SUCCESS;
    bool        queued = e->queued;
    double      took = 0;
    taut_status status = TAUT_OK;
    p->site->shadowed++;
    if (course >= 0 && queued)
        memcpy(c->kept + p->kept, taut__input_of(e), e->elements * (e->dtype == TAUT_F32 ? 4 : 2));
    if (course >= 0 && !queued) status = try_call(c, e, p, course);
    if (status != TAUT_OK) return taut__fail_as_mpi(c, p->site, status);
    if (queued) taut__flight_plain(c, e, p->site);
    else rc = taut__timed_plain(c, e, p->site, &took);
    if (course >= 0 && !queued && timed(c)) p->site->trials.n[course]++;
    if (course < 0 && !queued) p->site->trials.plain_s += took, p->site->trials.plain_n++;
    if (course >= 0 && last) status = end_trial(c, p, course);
    return status == TAUT_OK ? rc : taut__fail_as_mpi(c, p->site, status);
}
