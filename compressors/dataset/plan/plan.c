/* plan.c : see plan.h. */
#include "plan.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

void taut__plan_free(taut__plan *p)
{
    for (size_t i = 0; i < p->shards; i++) taut__free(p->shard[i].name);
    taut__free(p->shard);
    for (size_t i = 0; i < p->stages; i++) {
        taut__free(p->stage[i].list);
        taut__free(p->stage[i].weight);
    }
    memset(p, 0, sizeof *p);
}

uint64_t taut__plan_of(const taut__plan *p)
{
    uint64_t n = 0;
    for (size_t i = 0; i < p->shards; i++) n += p->shard[i].samples;
    return n;
}

uint64_t taut__plan_samples(const taut__plan *p) { return p->stages ? p->stage[p->stages - 1].samples : 0; }

bool taut__plan_repeats(const taut__plan *p, size_t stages)
{
    for (size_t i = 0; i < stages; i++)
        if (p->stage[i].kind == TAUT__STAGE_RS2) return false;
    return true;
}

const char *taut__plan_strata(const taut__plan *p)
{
    for (size_t i = 0; i < p->stages; i++)
        if (p->stage[i].strata[0]) return p->stage[i].strata;
    return NULL;
}

void taut__plan_rule(const taut__plan *p, char *dst, size_t cap)
{
    static const char *const name[] = {"full", "static", "list", "rs2"};
    size_t                   at = 0;
    if (cap) *dst = 0;
    for (size_t i = 0; i < p->stages && at < cap; i++) {
        const taut__stage *s = &p->stage[i];
        at += (size_t)snprintf(dst + at, cap - at, "%s%s", i ? " | " : "", name[s->kind]);
        if (s->kind != TAUT__STAGE_FULL && at < cap)
            at += (size_t)snprintf(dst + at, cap - at, " %llu of %llu%s%s%s", (ull)s->samples, (ull)s->of,
                                   s->replace ? " with replacement" : "", s->strata[0] ? " by " : "", s->strata);
    }
}

taut_status taut__plan_add_shard(taut__plan *p, const char *name, uint64_t hash, uint64_t samples)
{
    taut__plan_shard *more;
    uint64_t          all = taut__plan_of(p);
    size_t            length = strlen(name);
    if (p->stages) return taut__fail(TAUT_E_STATE, "plan: shards come before stages");
    if (samples == 0 || samples > (UINT64_C(1) << 62) - all)
        return taut__fail(TAUT_E_RANGE, "plan: shard %s: %llu samples: must be at least 1, and all shards below 2^62", name,
                          (ull)samples);
    for (size_t i = 0; i < p->shards; i++)
        if (p->shard[i].hash == hash)
            return taut__fail(TAUT_E_INVALID, "plan: shard %s has the same hash %016llx as %s: each shard once", name,
                              (ull)hash, p->shard[i].name);
    more = taut__alloc(p->shards + 1, sizeof *more);
    if (!more || !(more[p->shards].name = taut__alloc(length + 1, 1))) {
        taut__free(more);
        return taut__fail(TAUT_E_NOMEM, "plan: out of memory for %zu shards", p->shards + 1);
    }
    if (p->shards) memcpy(more, p->shard, p->shards * sizeof *more);
    memcpy(more[p->shards].name, name, length);
    more[p->shards].hash = hash;
    more[p->shards].samples = samples;
    taut__free(p->shard);
    p->shard = more;
    p->shards++;
    return TAUT_OK;
}

static taut_status check_stage(const taut__plan *p, const taut__stage *s)
{
    uint64_t of = p->stages ? taut__plan_samples(p) : taut__plan_of(p);
    if (s->of != of)
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu takes %llu samples, but %llu come in", p->stages + 1, (ull)s->of,
                          (ull)of);
    if (s->samples == 0 || s->samples > of)
        return taut__fail(TAUT_E_RANGE, "plan: stage %zu: %llu samples: must be 1..%llu", p->stages + 1, (ull)s->samples,
                          (ull)of);
    if (s->kind == TAUT__STAGE_FULL && s->samples != of)
        return taut__fail(TAUT_E_RANGE, "plan: full: %llu samples: must be all %llu", (ull)s->samples, (ull)of);
    if ((s->kind == TAUT__STAGE_LIST) != (s->list != NULL))
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu: a list is needed for list and for nothing else", p->stages + 1);
    if (s->strata[0] && s->kind != TAUT__STAGE_STATIC && s->kind != TAUT__STAGE_RS2)
        return taut__fail(TAUT_E_INVALID, "plan: strata: only of static and rs2");
    if (s->replace && s->kind != TAUT__STAGE_RS2) return taut__fail(TAUT_E_INVALID, "plan: replace: only of rs2");
    if (s->strata[0] && !taut__plan_repeats(p, p->stages))
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "plan: strata=%s after rs2: shares of a set that changes every round are not defined: put "
                          "strata into the rs2",
                          s->strata);
    if (s->strata[0] && taut__plan_strata(p) && strcmp(taut__plan_strata(p), s->strata) != 0)
        return taut__fail(TAUT_E_UNSUPPORTED, "plan: strata=%s and strata=%s: one field for all stages", taut__plan_strata(p),
                          s->strata);
    return TAUT_OK;
}

taut_status taut__plan_add_stage(taut__plan *p, taut__stage *s)
{
    taut_status status = p->stages < TAUT__STAGES_MAX
                             ? check_stage(p, s)
                             : taut__fail(TAUT_E_RANGE, "plan: more than %d stages", TAUT__STAGES_MAX);
    if (status != TAUT_OK) {
        taut__free(s->list);
        taut__free(s->weight);
    } else {
        p->stage[p->stages++] = *s;
    }
    s->list = NULL;
    s->weight = NULL;
    return status;
}

taut_status taut__plan_check(const taut__plan *p)
{
    uint64_t all;
    if (p->shards == 0) return taut__fail(TAUT_E_INVALID, "plan: no shard");
    if (p->stages == 0) return taut__fail(TAUT_E_INVALID, "plan: no stage: full, static, rs2 or list");
    if (p->rounds == 0 || __builtin_mul_overflow(p->rounds, taut__plan_samples(p), &all) || all > UINT64_C(1) << 62)
        return taut__fail(TAUT_E_RANGE, "plan: %llu rounds of %llu samples: must be 1 round or more, 2^62 samples at most",
                          (ull)p->rounds, (ull)taut__plan_samples(p));
    return TAUT_OK;
}
