/* plan.h : which samples of which shards a job trains on, as rules that are small, pinned to the shards by hash, and the same
 * on every machine.
 *
 * A plan is a chain of stages. A stage takes the set of samples that the one before left (the first: all samples of all
 * shards, in the plan's order) and leaves `samples` of them:
 *   full    all
 *   static  a random subset, the same in every round
 *   list    those that are listed, the same in every round, each with a weight
 *   rs2     another random subset in every round (Okanovic et al.: Repeated Random Sampling for Minimizing the
 *           Time-to-Accuracy of Learning, ICLR 2024). Without replacement the rounds of one pass have no sample in common: a pass has
 *           floor(of/samples) rounds, then everything is shuffled anew; what is less than a round at the end of a pass
 *           is left out of that pass. With replacement every round draws from everything.
 *   mix     every round a given share from each source (a shard, or a class of an integer field), sources smaller than their
 *           share again and again, so that samples of one source differ by one visit at most
 *   prune   every round all but the listed samples, and of these another random part, with a weight that makes up for the
 *           others (Qin et al.: InfoBatch, ICLR 2024, equation 4; there the list changes with the loss, here it is fixed)
 * static and rs2 can be stratified: every class of an integer field gets its share (sampler/strata.h).
 * A list says by which method it was found (select/select.h) and may be an order: kept as it is, or in buckets.
 * The sampler computes them (sampler/sampler.h). Text form: docs/data.md. */
#ifndef TAUT_DATASET_PLAN_H
#define TAUT_DATASET_PLAN_H

#include "../../../comm/base/base.h"

enum {
    TAUT__PLAN_VERSION = 2, /* the newest; a plan without mix, prune, by or order is written as version 1 */
    TAUT__STAGES_MAX = 8,
    TAUT__FIELD_NAME_MAX = 64,
    TAUT__BY_MAX = 200,
    TAUT__SHARES_MAX = 64
};

typedef enum taut__stage_kind {
    TAUT__STAGE_FULL,
    TAUT__STAGE_STATIC,
    TAUT__STAGE_LIST,
    TAUT__STAGE_RS2,
    TAUT__STAGE_MIX,
    TAUT__STAGE_PRUNE
} taut__stage_kind;

/* In which order a list is visited. */
typedef enum taut__list_order {
    TAUT__ORDER_SHUFFLED, /* another random order every round */
    TAUT__ORDER_KEPT,     /* bucket after bucket; the samples of each are shuffled */
    TAUT__ORDER_BUCKETS   /* the buckets shuffled, too, but for a shorter last one */
} taut__list_order;

typedef struct taut__stage {
    taut__stage_kind kind;
    uint64_t         of, samples; /* what comes in, what is left (a round) */
    bool             replace;     /* rs2 */
    char             strata
        [TAUT__FIELD_NAME_MAX]; /* static, rs2: the field; "" = not stratified. mix: of its sources; "" = shards */
    uint64_t  listed;           /* list: = samples (0: set by adding it); prune: those that may be left out */
    uint64_t *list;             /* list, prune: `listed` places below `of`, each once */
    float    *weight;           /* of the listed: finite and above 0; NULL = all 1 */
    char      by[TAUT__BY_MAX]; /* list, prune: the method and its settings; no white space; "" = given by hand */
    taut__list_order order;     /* list */
    uint64_t         bucket;    /* list with an order: samples of a bucket, at least 1 */
    uint32_t         shares;    /* mix: how many sources */
    uint64_t share[TAUT__SHARES_MAX]; /* mix: relative, in the order of shards or of class numbers; some may be 0 */
} taut__stage;

typedef struct taut__plan_shard {
    char    *name; /* as people know it; for messages */
    uint64_t hash, samples;
} taut__plan_shard;

typedef struct taut__plan { /* zero-initialise; taut__plan_free() */
    taut__plan_shard *shard;
    size_t            shards;
    uint64_t          seed, rounds;
    uint64_t          window; /* chunks that are shuffled together (sampler/order.h); 0 = all samples at once */
    taut__stage       stage[TAUT__STAGES_MAX];
    size_t            stages;
    uint64_t          hash; /* XXH64 of the text; set by writing and reading */
} taut__plan;

void taut__plan_free(taut__plan *p);

/* ---- building ---- all name what is wrong; *p keeps what it had. */
taut_status taut__plan_add_shard(taut__plan *p, const char *name, uint64_t hash, uint64_t samples);

/* What --budget and the like give to the stages that do not say it themselves. */
typedef struct taut__plan_defaults {
    const char *budget; /* "10%" or a number of samples; NULL = none */
    const char *strata; /* NULL = none */
    bool        replace;
    /* Methods that look at the samples: text is one stage of the rule, n bytes; fills *s, whose `of` is set, as for
     * taut__plan_add_stage(). *known: is there such a method? If not, nothing else was done. NULL: there are none. */
    taut_status (*measure)(void *ctx, const taut__plan *p, const char *text, size_t n, taut__stage *s, bool *known);
    void *measure_ctx;
} taut__plan_defaults;

/* taut__plan_budget() : "10%", "0.5%": of `of`, rounded half up, exactly, at least 1; "600": so many. */
taut_status taut__plan_budget(const char *text, uint64_t of, uint64_t *samples);

/* taut__plan_add_rule() : stages as people type them, after the shards were added:
 *      STAGE|STAGE..., STAGE = full | static[:KEYS] | rs2[:KEYS] | mix:KEYS | list:file=PATH | a method of defaults->measure
 *      KEYS = budget=10%, strata=FIELD, replace=yes|no; of mix: shares=2:1:0.5, field=FIELD, budget
 *  PATH: a text of places or ranges FIRST-LAST, each with an optional =WEIGHT, separated by white space; # ends a line. */
taut_status taut__plan_add_rule(taut__plan *p, const char *rule, const taut__plan_defaults *defaults);

bool taut__plan_newer(const taut__plan *p); /* does its text need version 2? */

/* taut__plan_add_stage() : takes over list and weight of *s (taut__alloc), also when it fails. */
taut_status taut__plan_add_stage(taut__plan *p, taut__stage *s);

/* ---- reading ---- */
taut_status taut__plan_check(const taut__plan *p);   /* complete and consistent? */
uint64_t    taut__plan_of(const taut__plan *p);      /* samples of all shards */
uint64_t    taut__plan_samples(const taut__plan *p); /* of a round; 0 = no stages yet */
bool        taut__plan_repeats(const taut__plan *p,
                               size_t            stages);      /* do the first `stages` leave the same set in every round? */
const char *taut__plan_strata(const taut__plan *p); /* the field that labels come from; NULL = none is needed */
void        taut__plan_rule(const taut__plan *p, char *dst, size_t cap); /* "static 6000 | rs2 600" for people */

/* ---- text ---- (plan_text.c) */
/* taut__plan_print() : *text is allocated, NUL-terminated, *bytes long without that; sets p->hash. */
taut_status taut__plan_print(taut__plan *p, char **text, size_t *bytes);
/* taut__plan_parse() : name stands in messages, with the line. *p is empty after a failure. */
taut_status taut__plan_parse(taut__plan *p, const char *name, const char *text, size_t bytes);
/* (plan_file.c) taut__plan_save() : beside the target, fsynced, renamed. */
taut_status taut__plan_save(taut__plan *p, const char *path);
taut_status taut__plan_load(taut__plan *p, const char *path);

/* ---- lists ---- (plan_list.c) "1 5-9=0.5 12": used by list:file= and by the text form.
 * Appends to *s; `of` bounds the places. where stands in messages. s->listed counts. */
typedef struct taut__plan_list {
    taut__stage *stage;
    size_t       room;
    bool         weighted;
} taut__plan_list;
taut_status taut__plan_list_add(taut__plan_list *l, const char *text, size_t bytes, const char *where);
taut_status taut__plan_list_end(taut__plan_list *l, const char *where); /* every place once? */

/* Text that grows; zero-initialise, taut__free(t->text). */
typedef struct taut__plan_text {
    char  *text;
    size_t bytes, room;
} taut__plan_text;
taut_status taut__plan_put(taut__plan_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
taut_status taut__plan_list_print(const taut__stage *s, taut__plan_text *t); /* "index ..." lines */

#endif
