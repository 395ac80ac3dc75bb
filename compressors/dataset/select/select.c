/* select.c : one stage of a rule, from its text to a list. */
#include "select.h"
#include "../loader/package.h"
#include "../sampler/sampler.h"
#include "overlap.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

/* ---- text ---- */

static taut_status bad_key(const taut__method *m, const char *key, size_t n)
{
    char   keys[400] = "";
    size_t at = 0;
    if (m->budget != TAUT__BUDGET_NONE) at += (size_t)snprintf(keys, sizeof keys, "budget=10%%");
    for (size_t i = 0; i < TAUT__KEYS_MAX && m->key[i].name; i++)
        at += m->key[i].words ? (size_t)snprintf(keys + at, sizeof keys - at, "%s%s=%s", at ? ", " : "", m->key[i].name,
                                                 m->key[i].words)
                              : (size_t)snprintf(keys + at, sizeof keys - at, "%s%s=%g..%g", at ? ", " : "",
                                                 m->key[i].name, m->key[i].min, m->key[i].max);
    return taut__fail(TAUT_E_INVALID, "%s: '%.*s': must be %s", m->name, (int)n, key, *keys ? keys : "without keys");
}

/* Which of "top|gumbel" it is; -1: none. */
static int word_number(const char *words, const char *text, size_t n)
{
    int k = 0;
    for (const char *at = words;; at++, k++) {
        size_t length = strcspn(at, "|");
        if (length == n && memcmp(at, text, n) == 0) return k;
        at += length;
        if (!*at) return -1;
    }
}

static bool read_value(const taut__key *k, const char *text, size_t n, double *value)
{
    char number[64], *end;
    int  word;
    if (k->words) {
        word = word_number(k->words, text, n);
        *value = word;
        return word >= 0;
    }
    if (n == 0 || n >= sizeof number) return false;
    memcpy(number, text, n);
    number[n] = 0;
    *value = taut__strtod(number, &end);
    return !*end && *value >= k->min && *value <= k->max && (!k->whole || *value == floor(*value));
}

static taut_status read_keys(taut__select *s, const char *at, const char *end, char *budget, size_t cap, uint64_t of)
{
    const taut__method *m = s->method;
    for (size_t i = 0; i < TAUT__KEYS_MAX; i++) s->value[i] = m->key[i].preset;
    if (m->budget == TAUT__BUDGET_NONE) *budget = 0;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        size_t      name = equals ? (size_t)(equals - at) : 0, i = 0;
        if (name == 6 && memcmp(at, "budget", 6) == 0 && m->budget != TAUT__BUDGET_NONE &&
            (size_t)(stop - equals) <= cap && stop > equals + 1) {
            snprintf(budget, cap, "%.*s", (int)(stop - equals - 1), equals + 1);
        } else {
            while (i < TAUT__KEYS_MAX && m->key[i].name &&
                   (strlen(m->key[i].name) != name || memcmp(m->key[i].name, at, name) != 0))
                i++;
            if (i == TAUT__KEYS_MAX || !m->key[i].name ||
                !read_value(&m->key[i], equals + 1, (size_t)(stop - equals - 1), &s->value[i]))
                return bad_key(m, at, (size_t)(stop - at));
        }
        at = comma ? comma + 1 : end;
    }
    if (m->budget == TAUT__BUDGET_MUST && !*budget)
        return taut__fail(TAUT_E_INVALID, "%s: needs a budget, as in %s:budget=10%%", m->name, m->name);
    return *budget ? taut__plan_budget(budget, of, &s->keep) : TAUT_OK;
}

/* What stands in the plan: the method, the settings that are not the usual ones, and what it compared with. */
static taut_status write_by(const taut__select *s, char by[TAUT__BY_MAX])
{
    const taut__method *m = s->method;
    int                 at = snprintf(by, TAUT__BY_MAX, "%s", m->name);
    char                sep = ':';
    for (size_t i = 0; i < TAUT__KEYS_MAX && m->key[i].name && at < TAUT__BY_MAX; i++) {
        const char *word = m->key[i].words;
        if (s->value[i] == m->key[i].preset) continue;
        for (int k = 0; word && k < (int)s->value[i]; k++) word += strcspn(word, "|") + 1;
        if (word)
            at += snprintf(by + at, (size_t)(TAUT__BY_MAX - at), "%c%s=%.*s", sep, m->key[i].name,
                           (int)strcspn(word, "|"), word);
        else at += taut__snprintf(by + at, (size_t)(TAUT__BY_MAX - at), "%c%s=%.9g", sep, m->key[i].name, s->value[i]);
        sep = ',';
    }
    if (s->target && at < TAUT__BY_MAX)
        at += snprintf(by + at, (size_t)(TAUT__BY_MAX - at), "%ctarget=%016llx", sep, (ull)s->target->hash), sep = ',';
    if (s->scores && at < TAUT__BY_MAX)
        at += snprintf(by + at, (size_t)(TAUT__BY_MAX - at), "%cscores=%016llx", sep, (ull)s->scores->hash);
    return at < TAUT__BY_MAX
               ? TAUT_OK
               : taut__fail(TAUT_E_RANGE, "%s: more than %d bytes of settings", m->name, TAUT__BY_MAX - 1);
}

/* ---- what it works on ---- */

/* Classes of the field that earlier stages are stratified by. */
static taut_status labels_of(const taut__plan *p, const taut__select_context *c, int64_t **label)
{
    const char *strata = taut__plan_strata(p);
    uint64_t    at = 0;
    *label = NULL;
    if (!strata) return TAUT_OK;
    if (!(*label = taut__alloc((size_t)taut__plan_of(p), sizeof **label)))
        return taut__fail(TAUT_E_NOMEM, "plan: out of memory for %llu labels", (ull)taut__plan_of(p));
    for (size_t i = 0; i < c->shards; at += p->shard[i++].samples)
        TAUT_TRY(taut__shard_classes(c->shard[i], strata, *label + at));
    return TAUT_OK;
}

/* The sample numbers that the earlier stages leave; *id stays NULL where that is all of them. */
static taut_status places_of(const taut__plan *p, const taut__select_context *c, uint64_t **id)
{
    taut__sampler  *sampler = NULL;
    int64_t        *label = NULL;
    taut_shard_info info = {.size = sizeof info};
    taut_status     status;
    uint64_t        n = taut__plan_samples(p);
    *id = NULL;
    if (p->stages == 0) return TAUT_OK;
    status = taut_shard_get_info(c->shard[0], &info);
    if (status == TAUT_OK) status = labels_of(p, c, &label);
    if (status == TAUT_OK) status = taut__sampler_create(p, info.samples_per_block, label, &sampler);
    if (status == TAUT_OK && !(*id = taut__alloc((size_t)n, sizeof **id)))
        status = taut__fail(TAUT_E_NOMEM, "plan: out of memory for %llu samples", (ull)n);
    for (uint64_t i = 0; status == TAUT_OK && i < n; i++) status = taut__sampler_set(sampler, i, &(*id)[i]);
    taut__sampler_destroy(sampler);
    taut__free(label);
    return status;
}

static taut_status open_pool(taut__select *s, const taut__plan *p, const taut__select_context *c, taut__pool *pool)
{
    uint32_t        needs = s->method->needs;
    taut__pool_want want = needs & TAUT__NEEDS_FLOATS  ? TAUT__WANT_FLOATS
                           : needs & TAUT__NEEDS_TEXT  ? TAUT__WANT_TEXT
                           : needs & TAUT__NEEDS_BYTES ? TAUT__WANT_ANY
                                                       : TAUT__WANT_NONE;
    uint64_t       *id;
    taut_status     status = places_of(p, c, &id);
    if (status != TAUT_OK) {
        taut__free(id);
        return status;
    }
    s->pool = pool;
    TAUT_TRY(taut__pool_open(pool, c->shards, c->shard, id, id ? taut__plan_samples(p) : 0, c->o->field, want));
    if (pool->n < taut__select_ranks(s))
        return taut__fail(TAUT_E_RANGE, "%s: %u ranks for %llu samples: at most one rank for each sample",
                          s->method->name, taut__select_ranks(s), (ull)pool->n);
    return TAUT_OK;
}

static taut_status open_others(taut__select *s, const taut__select_context *c, taut__pool *target, taut__scores *scores)
{
    const taut__method *m = s->method;
    if (m->needs & TAUT__NEEDS_TARGET) {
        if (!c->o->target)
            return taut__fail(TAUT_E_INVALID, "%s: needs a target: --target FILE, samples like those that are wanted",
                              m->name);
        TAUT_TRY(taut__pool_open_file(target, c->o->target, c->o->field, TAUT__WANT_TEXT));
        if (target->kind != s->pool->kind && (target->kind == TAUT_KIND_TOKENS || s->pool->kind == TAUT_KIND_TOKENS))
            return taut__fail(TAUT_E_MISMATCH, "%s: the target's field is %s, the pool's %s: they cannot be compared",
                              m->name, taut_kind_name(target->kind), taut_kind_name(s->pool->kind));
        s->target = target;
    }
    if (m->needs & TAUT__NEEDS_SCORES) {
        if (!c->o->scores)
            return taut__fail(TAUT_E_INVALID, "%s: needs scores: --scores FILE, which `taut train --score FILE` writes",
                              m->name);
        TAUT_TRY(taut__scores_load(scores, c->o->scores, c->shards, c->shard));
        s->scores = scores;
    }
    return TAUT_OK;
}

/* ---- the stage ---- */

static taut_status answer(taut__select *s, taut__stage *stage)
{
    TAUT_TRY(write_by(s, stage->by));
    stage->kind = s->kind;
    stage->samples = s->kind == TAUT__STAGE_PRUNE ? s->keep : s->listed;
    stage->listed = s->listed;
    stage->list = s->list;
    stage->weight = s->weight;
    stage->order = s->order;
    stage->bucket = s->bucket;
    s->list = NULL;
    s->weight = NULL;
    return TAUT_OK;
}

static void tell(const taut__select *s, const taut__stage *stage)
{
    taut_data_stage_report r = {.size = sizeof r,
                                .stage = stage->by,
                                .of = stage->of,
                                .keep = stage->samples,
                                .criterion = s->criterion,
                                .chosen = s->chosen,
                                .random = s->random,
                                .score = s->score};
    if (s->o->stage && taut__select_rank(s) == 0) s->o->stage(s->o->stage_ctx, &r);
}

static taut_status run(taut__select *s, const taut__plan *p, const taut__select_context *c, taut__stage *stage)
{
    taut__pool   pool = {0}, target = {0};
    taut__scores scores = {0};
    taut_status  status = open_pool(s, p, c, &pool);
    if (status == TAUT_OK) status = open_others(s, c, &target, &scores);
    status = taut__select_agree(s, status);
    if (status == TAUT_OK && s->target) status = taut__overlap_check(s);
    if (status == TAUT_OK) status = s->method->run(s);
    if (status == TAUT_OK) status = answer(s, stage);
    if (status == TAUT_OK) tell(s, stage);
    taut__free(s->list);
    taut__free(s->weight);
    taut__free(s->score);
    taut__pool_close(&pool);
    taut__pool_close(&target);
    taut__scores_free(&scores);
    return status;
}

taut_status taut__select_stage(void *ctx, const taut__plan *p, const char *text, size_t n, taut__stage *stage,
                               bool *known)
{
    const taut__select_context *c = ctx;
    const char                 *colon = memchr(text, ':', n);
    size_t                      word = colon ? (size_t)(colon - text) : n, i = 0;
    taut__select                s = {.seed = c->o->seed, .stage = p->stages, .o = c->o, .kind = TAUT__STAGE_LIST};
    char                        budget[32] = "";
    while ((s.method = taut__method_at(i)) != NULL &&
           (strlen(s.method->name) != word || memcmp(s.method->name, text, word) != 0))
        i++;
    *known = s.method != NULL;
    if (!s.method) return TAUT_OK;
    if (c->o->budget && s.method->budget != TAUT__BUDGET_NONE) snprintf(budget, sizeof budget, "%.31s", c->o->budget);
    TAUT_TRY(read_keys(&s, colon ? colon + 1 : text + n, text + n, budget, sizeof budget, stage->of));
    return run(&s, p, c, stage);
}
