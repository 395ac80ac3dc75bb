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
        if (p->stage[i].kind == TAUT__STAGE_RS2 || p->stage[i].kind == TAUT__STAGE_MIX ||
            p->stage[i].kind == TAUT__STAGE_PRUNE)
            return false;
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
    static const char *const name[] = {"full", "static", "list", "rs2", "mix", "prune"};
    size_t                   at = 0;
    if (cap) *dst = 0;
    for (size_t i = 0; i < p->stages && at < cap; i++) {
        const taut__stage *s = &p->stage[i];
        int                words = s->by[0] ? (int)strcspn(s->by, ":") : (int)strlen(name[s->kind]);
        at += (size_t)snprintf(dst + at, cap - at, "%s%.*s", i ? " | " : "", words, s->by[0] ? s->by : name[s->kind]);
        if (s->kind != TAUT__STAGE_FULL && at < cap)
            at += (size_t)snprintf(dst + at, cap - at, " %llu of %llu%s%s%s", (ull)s->samples, (ull)s->of,
                                   s->replace ? " with replacement" : "", s->strata[0] ? " by " : "", s->strata);
    }
}

/* A file may be called anything; its name in the text is the rest of a line, which begins with no blank. */
static void one_line(char *name)
{
    for (char *c = name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    for (char *c = name; *c == ' '; c++) *c = '_';
}

taut_status taut__plan_add_shard(taut__plan *p, const char *name, uint64_t hash, uint64_t samples)
{
    taut__plan_shard *more;
    uint64_t          all = taut__plan_of(p);
    size_t            length = strlen(name);
    if (p->stages)
        return taut__fail(TAUT_E_STATE, "plan: shard %s after %zu stages: shards come before stages", name, p->stages);
    if (samples == 0 || samples > (UINT64_C(1) << 62) - all)
        return taut__fail(TAUT_E_RANGE, "plan: shard %s: %llu samples: must be at least 1, and all shards below 2^62",
                          name, (ull)samples);
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
    one_line(more[p->shards].name);
    more[p->shards].hash = hash;
    more[p->shards].samples = samples;
    taut__free(p->shard);
    p->shard = more;
    p->shards++;
    return TAUT_OK;
}

bool taut__plan_newer(const taut__plan *p)
{
    for (size_t i = 0; i < p->stages; i++)
        if (p->stage[i].kind > TAUT__STAGE_RS2 || p->stage[i].by[0] || p->stage[i].order) return true;
    return false;
}

/* What only lists, prune and mix have. */
static taut_status check_listed(const taut__plan *p, const taut__stage *s)
{
    bool lists = s->kind == TAUT__STAGE_LIST || s->kind == TAUT__STAGE_PRUNE;
    if (lists != (s->list != NULL))
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu: a list is needed for list and prune, and for nothing else",
                          p->stages + 1);
    if (s->by[0] && (!lists || strpbrk(s->by, " \t\r\n")))
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu: by %s: must be one word, of list and prune only",
                          p->stages + 1, s->by);
    if ((s->order || s->bucket) && (s->kind != TAUT__STAGE_LIST || !s->order || s->bucket == 0))
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu: order: of a list, with buckets of 1 sample or more",
                          p->stages + 1);
    if (s->kind == TAUT__STAGE_LIST && s->listed != s->samples)
        return taut__fail(TAUT_E_CORRUPT, "plan: stage %zu: %llu places are listed, not the %llu that it keeps",
                          p->stages + 1, (ull)s->listed, (ull)s->samples);
    if (s->kind == TAUT__STAGE_PRUNE && (s->listed == 0 || s->listed > s->of || s->samples <= s->of - s->listed))
        return taut__fail(
            TAUT_E_RANGE,
            "plan: prune keeps %llu of %llu samples, %llu listed: must keep all others and at least 1 of the listed",
            (ull)s->samples, (ull)s->of, (ull)s->listed);
    return TAUT_OK;
}

static taut_status check_mix(const taut__plan *p, const taut__stage *s)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < s->shares && i < TAUT__SHARES_MAX; i++)
        if (s->share[i] > UINT64_C(1) << 40 || (all += s->share[i]) > UINT64_C(1) << 40) all = UINT64_MAX;
    if ((s->kind == TAUT__STAGE_MIX) != (s->shares > 0) || s->shares > TAUT__SHARES_MAX)
        return taut__fail(TAUT_E_RANGE, "plan: stage %zu: 1..%d shares, of mix only", p->stages + 1, TAUT__SHARES_MAX);
    if (s->shares && (all == 0 || all == UINT64_MAX))
        return taut__fail(TAUT_E_RANGE, "plan: mix: %u shares that add up to %s: must be 1..2^40 together", s->shares,
                          all ? "more than 2^40" : "0");
    if (s->shares && !s->strata[0] && s->shares != p->shards)
        return taut__fail(TAUT_E_INVALID, "plan: mix: %u shares for %zu shards: must be one each", s->shares,
                          p->shards);
    return TAUT_OK;
}

/* Where a stage may stand: whether what comes in is the same in every round. */
static taut_status check_position(const taut__plan *p, const taut__stage *s)
{
    bool fixed = taut__plan_repeats(p, p->stages);
    if (p->stages && p->stage[p->stages - 1].order)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "plan: stage %zu stands behind an order (%s): an order must be the last stage", p->stages + 1,
                          p->stage[p->stages - 1].by);
    if (!fixed && (s->kind == TAUT__STAGE_MIX || s->kind == TAUT__STAGE_PRUNE))
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "plan: stage %zu: mix and prune need a set that is the same in every round: put them before "
                          "rs2, mix and prune",
                          p->stages + 1);
    if (s->strata[0] && !fixed)
        return taut__fail(TAUT_E_UNSUPPORTED,
                          "plan: strata=%s after rs2: shares of a set that changes every round are not defined: put "
                          "strata into the rs2",
                          s->strata);
    return TAUT_OK;
}

static taut_status check_stage(const taut__plan *p, const taut__stage *s)
{
    uint64_t of = p->stages ? taut__plan_samples(p) : taut__plan_of(p);
    if (s->of != of)
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu takes %llu samples, but %llu come in", p->stages + 1,
                          (ull)s->of, (ull)of);
    if (s->samples == 0 || s->samples > of)
        return taut__fail(TAUT_E_RANGE, "plan: stage %zu: %llu samples: must be 1..%llu", p->stages + 1,
                          (ull)s->samples, (ull)of);
    if (s->kind == TAUT__STAGE_FULL && s->samples != of)
        return taut__fail(TAUT_E_RANGE, "plan: full: %llu samples: must be all %llu", (ull)s->samples, (ull)of);
    TAUT_TRY(check_listed(p, s));
    TAUT_TRY(check_mix(p, s));
    if (s->strata[0] && s->kind != TAUT__STAGE_STATIC && s->kind != TAUT__STAGE_RS2 && s->kind != TAUT__STAGE_MIX)
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu: strata=%s: only of static, rs2 and mix", p->stages + 1,
                          s->strata);
    if (s->replace && s->kind != TAUT__STAGE_RS2)
        return taut__fail(TAUT_E_INVALID, "plan: stage %zu: replace: only of rs2", p->stages + 1);
    TAUT_TRY(check_position(p, s));
    if (s->strata[0] && taut__plan_strata(p) && strcmp(taut__plan_strata(p), s->strata) != 0)
        return taut__fail(TAUT_E_UNSUPPORTED, "plan: strata=%s and strata=%s: one field for all stages",
                          taut__plan_strata(p), s->strata);
    return TAUT_OK;
}

taut_status taut__plan_add_stage(taut__plan *p, taut__stage *s)
{
    if (s->kind == TAUT__STAGE_LIST && s->listed == 0) s->listed = s->samples;
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
    if (p->stages == 0) return taut__fail(TAUT_E_INVALID, "plan: no stage: full, static, rs2, list, ...");
    if (p->rounds == 0 || __builtin_mul_overflow(p->rounds, taut__plan_samples(p), &all) || all > UINT64_C(1) << 62)
        return taut__fail(TAUT_E_RANGE,
                          "plan: %llu rounds of %llu samples: must be 1 round or more, 2^62 samples at most",
                          (ull)p->rounds, (ull)taut__plan_samples(p));
    return TAUT_OK;
}
