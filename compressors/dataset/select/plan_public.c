/* plan_public.c : plans of comm/taut_data.h. */
#include "../../../comm/taut_data.h"
#include "../plan/plan.h"
#include "select.h"
#include <stdio.h>
#include <string.h>

struct taut_data_plan {
    taut__plan plan;
};

static taut_status build(taut__plan *p, const char *rule, size_t n, const taut_shard *const *shards,
                         const taut_data_plan_options *o)
{
    taut__select_context c = {n, shards, o};
    taut__plan_defaults  d = {o->budget, o->strata, o->replace != 0, taut__select_stage, &c};
    p->seed = o->seed;
    p->rounds = o->rounds ? o->rounds : 1;
    p->window = o->window;
    for (size_t i = 0; i < n; i++) {
        taut_shard_info info = {.size = sizeof info};
        const char     *path = taut_shard_path(shards[i]), *slash = strrchr(path, '/');
        TAUT_TRY(taut_shard_get_info(shards[i], &info));
        TAUT_TRY(taut__plan_add_shard(p, slash ? slash + 1 : path, info.hash, info.samples));
    }
    TAUT_TRY(taut__plan_add_rule(p, rule, &d));
    return taut__plan_check(p);
}

taut_status taut_data_plan_create(const char *rule, size_t n, const taut_shard *const *shards,
                                  const taut_data_plan_options *options, taut_data_plan **plan)
{
    taut_data_plan_options o = TAUT_DATA_PLAN_INIT;
    taut_data_plan        *p;
    taut_status            s;
    *plan = NULL;
    if (!rule || n == 0 || !shards)
        return taut__fail(TAUT_E_INVALID, "taut_data_plan_create: %s: a rule and at least one shard are needed",
                          !rule    ? "rule is NULL"
                          : n == 0 ? "n=0"
                                   : "shards is NULL");
    if (options) memcpy(&o, options, taut__min(options->size, sizeof o));
    if (!(p = taut__alloc(1, sizeof *p))) return taut__fail(TAUT_E_NOMEM, "plan: out of memory");
    s = build(&p->plan, rule, n, shards, &o);
    if (s == TAUT_OK) *plan = p;
    else taut_data_plan_destroy(p);
    return s;
}

taut_status taut_data_plan_load(const char *path, taut_data_plan **plan)
{
    taut_data_plan *p = taut__alloc(1, sizeof *p);
    taut_status     s;
    *plan = NULL;
    if (!p) return taut__fail(TAUT_E_NOMEM, "plan: out of memory");
    s = taut__plan_load(&p->plan, path);
    if (s == TAUT_OK) *plan = p;
    else taut__free(p);
    return s;
}

taut_status taut_data_plan_save(taut_data_plan *p, const char *path) { return taut__plan_save(&p->plan, path); }

void taut_data_plan_destroy(taut_data_plan *p)
{
    if (!p) return;
    taut__plan_free(&p->plan);
    taut__free(p);
}

taut_status taut_data_plan_get_info(taut_data_plan *p, taut_data_plan_info *info)
{
    taut_data_plan_info i = {.size = info->size,
                             .shards = p->plan.shards,
                             .of = taut__plan_of(&p->plan),
                             .samples = taut__plan_samples(&p->plan),
                             .rounds = p->plan.rounds,
                             .seed = p->plan.seed,
                             .window = p->plan.window};
    const char         *strata = taut__plan_strata(&p->plan);
    char               *text;
    size_t              bytes;
    if (info->size < sizeof(size_t))
        return taut__fail(TAUT_E_INVALID, "taut_data_plan_info.size=%zu: set it to sizeof(taut_data_plan_info)",
                          info->size);
    if (p->plan.hash == 0) {
        TAUT_TRY(taut__plan_print(&p->plan, &text, &bytes));
        taut__free(text);
    }
    i.hash = p->plan.hash;
    taut__plan_rule(&p->plan, i.rule, sizeof i.rule);
    snprintf(i.strata, sizeof i.strata, "%s", strata ? strata : "");
    memcpy(info, &i, taut__min(info->size, sizeof i));
    return TAUT_OK;
}

taut_status taut_data_plan_shard(const taut_data_plan *p, uint64_t i, uint64_t *hash, uint64_t *samples)
{
    *hash = *samples = 0;
    if (i >= p->plan.shards)
        return taut__fail(TAUT_E_RANGE, "plan: shard %llu: must be below %zu", (unsigned long long)i, p->plan.shards);
    *hash = p->plan.shard[i].hash;
    *samples = p->plan.shard[i].samples;
    return TAUT_OK;
}
