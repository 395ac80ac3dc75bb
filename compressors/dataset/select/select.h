/* select.h : methods that look at samples and say which of them to train on. Each is one `const` table, listed in select_registry.c, and
 * leaves a list (plan/plan.h): places of what comes in, perhaps with weights or an order. docs/data-selection.md has formulas and sources.
 *
 * Ranks. All that reads every sample does so in parts: the places, in the order of their sample numbers, are cut into as many
 * runs as there are ranks (pool.h). What the parts yield is added up as whole numbers or gathered, so that every rank then holds
 * the same tables and scores and decides alike: the plan does not depend on the number of ranks. Nothing here knows MPI: a group
 * of ranks is three callbacks (taut_data_group).
 *
 * Failures. A rank that fails inside its part must not leave the others waiting: each collective here takes the status of what
 * came before it, agrees on it first, and returns the failure on all ranks. */
#ifndef TAUT_SELECT_H
#define TAUT_SELECT_H

#include "../../../comm/taut_data.h"
#include "../plan/plan.h"
#include "pool.h"
#include "scores.h"

enum { TAUT__KEYS_MAX = 8 };

/* A setting of a method, typed name=value. */
typedef struct taut__key {
    const char *name;
    const char *words; /* "top|gumbel": its value is the place of the word; NULL: a number */
    double      preset, min, max;
    bool        whole;
} taut__key;

typedef enum taut__needs {
    TAUT__NEEDS_TEXT = 1,
    TAUT__NEEDS_TARGET = 2,
    TAUT__NEEDS_FLOATS = 4,
    TAUT__NEEDS_SCORES = 8,
    TAUT__NEEDS_BYTES = 16
} taut__needs;
typedef enum taut__budget_use { TAUT__BUDGET_NONE, TAUT__BUDGET_MAY, TAUT__BUDGET_MUST } taut__budget_use;

struct taut__select;
typedef struct taut__method {
    const char      *name, *help; /* help: one line for --help */
    uint32_t         needs;       /* of taut__needs; BYTES: any field will do */
    taut__budget_use budget;
    taut__key        key[TAUT__KEYS_MAX];       /* ends with name NULL, or full */
    taut_status (*run)(struct taut__select *s); /* collective */
} taut__method;

const taut__method *taut__method_at(size_t i); /* NULL past the end */

/* What a method is asked, and its answer. */
typedef struct taut__select {
    const taut__method           *method;
    double                        value[TAUT__KEYS_MAX]; /* of its keys */
    uint64_t                      keep;                  /* samples; 0: no budget was given */
    uint64_t                      seed;
    uint64_t                      stage;         /* which one of the plan; keeps random numbers apart */
    taut__pool                   *pool, *target; /* target, scores: where it needs them */
    taut__scores                 *scores;
    const taut_data_plan_options *o; /* group, callbacks */

    /* the answer; memory of taut__alloc */
    uint64_t        *list;
    float           *weight; /* NULL = all 1 */
    uint64_t         listed;
    taut__stage_kind kind; /* TAUT__STAGE_LIST, or PRUNE with keep set */
    taut__list_order order;
    uint64_t         bucket;
    const char *criterion; /* what it looks at, of the chosen ones and of as many random ones: NULL = nothing to tell */
    double      chosen, random;
    double     *score; /* of each place, for the report: NULL = none */
} taut__select;

/* ---- collectives ---- (select_group.c) None of them succeeds where `mine` is a failure, whatever the caller's group says. */
uint32_t               taut__select_rank(const taut__select *s);
static inline uint32_t taut__select_ranks(const taut__select *s)
{
    return s->o->group && s->o->group->ranks ? s->o->group->ranks : 1;
}
taut_status               taut__select_ask(const taut__select *s, taut_status mine);
static inline taut_status taut__select_agree(const taut__select *s, taut_status mine)
{
    taut_status all = taut__select_ask(s, mine);
    return all == TAUT_OK ? mine : all;
}
/* x[0..n) of all ranks added up, on all ranks. */
taut_status               taut__select_sum_agreed(const taut__select *s, uint64_t *x, size_t n);
static inline taut_status taut__select_sum(const taut__select *s, taut_status mine, uint64_t *x, size_t n)
{
    TAUT_TRY(taut__select_agree(s, mine));
    return taut__select_sum_agreed(s, x, n);
}
/* bytes[r] bytes of rank r, one behind the other in all, on all ranks; bytes is the same everywhere. */
taut_status taut__select_gather_agreed(const taut__select *s, const void *part, void *all, const size_t *bytes);
static inline taut_status taut__select_gather(const taut__select *s, taut_status mine, const void *part, void *all,
                                              const size_t *bytes)
{
    TAUT_TRY(taut__select_agree(s, mine));
    return taut__select_gather_agreed(s, part, all, bytes);
}
/* The same where only its owner knows how many: *all is allocated, *total bytes long. */
taut_status               taut__select_collect_agreed(const taut__select *s, const void *part, size_t bytes, void **all,
                                                      size_t *total);
static inline taut_status taut__select_collect(const taut__select *s, taut_status mine, const void *part, size_t bytes,
                                               void **all, size_t *total)
{
    *all = NULL;
    *total = 0;
    TAUT_TRY(taut__select_agree(s, mine));
    return taut__select_collect_agreed(s, part, bytes, all, total);
}
/* Called now and then in every loop over samples: TAUT_E_STATE when the caller wants to stop. */
taut_status taut__select_progress(const taut__select *s, const char *what, uint64_t done, uint64_t total);
void taut__select_warn(const taut__select *s, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* rank 0 */

/* ---- passes over the samples ---- (select_pass.c) */
/* visit() for each sample of this rank's part of a pool, in the order of sample numbers; data: borrowed for the call. Not collective. */
typedef taut_status (*taut__visit)(void *ctx, uint64_t place, const uint8_t *data, size_t bytes);
taut_status taut__select_visit(taut__select *s, taut__pool *pool, const char *what, taut__visit visit, void *ctx);
/* `per` numbers for each sample, of all ranks, on all ranks: (*out)[place * per + k], allocated. Collective. */
typedef taut_status (*taut__measure)(void *ctx, uint64_t place, const uint8_t *data, size_t bytes, double *out);
taut_status taut__select_measure(taut__select *s, const char *what, size_t per, taut__measure measure, void *ctx,
                                 double **out);

/* ---- deciding ---- (select_pick.c): the same on every rank */
/* The s->keep places with the largest (or smallest) score, ties to the smaller place: s->list, ascending. */
taut_status taut__select_extreme(taut__select *s, const double *score, bool largest);
/* Those with keep[place] != 0, ascending. TAUT_E_INVALID if there are none. */
taut_status taut__select_marked(taut__select *s, const uint8_t *keep);
/* All places in the order of their scores. */
taut_status taut__select_sorted(taut__select *s, const double *score, bool rising);
/* criterion, chosen, random: the mean of a score over the listed places, and over all. Keeps a copy of the scores for the report. */
taut_status taut__select_compare(taut__select *s, const char *criterion, const double *score);
double      taut__select_uniform(const taut__select *s, uint64_t place); /* in (0,1), of seed, stage and place */
double      taut__select_gumbel(const taut__select *s, uint64_t place);  /* standard Gumbel */
/* Sorts x[0..n), n > 0, and returns the value that a share q of them lies below. */
double taut__select_quantile(double *x, uint64_t n, double q);

/* taut__select_stage() : one stage as typed, for taut__plan_defaults.measure; ctx: a taut__select_context. (select.c) */
typedef struct taut__select_context {
    size_t                        shards;
    const taut_shard *const      *shard;
    const taut_data_plan_options *o;
} taut__select_context;
taut_status taut__select_stage(void *ctx, const taut__plan *p, const char *text, size_t n, taut__stage *stage,
                               bool *known);

#endif
