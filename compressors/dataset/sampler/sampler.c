/* sampler.c : see sampler.h. A place goes through the stages from the last to the first; the set that never changes at the
 * end of a plan is put into an order of its own in each round, an rs2 stage has one. */
#include "sampler.h"
#include "mix.h"
#include "prune.h"
#include <string.h>
#include <xxhash.h>

typedef unsigned long long ull;

/* A stage at work. */
typedef struct step {
    const taut__stage *stage;
    taut__order        order;  /* static, rs2: of what comes in */
    taut__strata       strata; /* the same, stratified */
    uint64_t           pass;   /* rs2: the one that `order` is set to */
    taut__mix          mix;
    taut__prune        prune;
} step;

struct taut__sampler {
    const taut__plan *plan;
    step              step[TAUT__STAGES_MAX];
    size_t            steps;
    taut__order       last; /* of the final set, where it is the same in every round */
    uint64_t          last_round;
    bool              shuffles; /* `last` is used */
    taut__buckets     buckets;  /* of a last list with an order; n = 0: none */
};

static taut__order_key key_of(const taut__sampler *s, uint64_t round, size_t stage)
{
    return (taut__order_key){.seed = s->plan->seed, .round = round, .stream = (uint32_t)stage};
}

/* ---- stages ---- */

static taut_status rs2_at(taut__sampler *s, size_t k, uint64_t round, uint64_t *place)
{
    step    *t = &s->step[k];
    uint64_t n = t->stage->samples, rounds = t->stage->replace ? 1 : t->stage->of / n, pass = round / rounds;
    if (t->stage->strata[0]) return taut__strata_at(&t->strata, key_of(s, round, k), *place, place);
    if (pass != t->pass) {
        TAUT_TRY(taut__order_set(&t->order, key_of(s, pass, k)));
        t->pass = pass;
    }
    return taut__order_at(&t->order, round % rounds * n + *place, place);
}

static taut_status step_at(taut__sampler *s, size_t k, uint64_t round, uint64_t *place, float *weight)
{
    step    *t = &s->step[k];
    uint64_t listed;
    switch (t->stage->kind) {
    case TAUT__STAGE_FULL: return TAUT_OK;
    case TAUT__STAGE_LIST:
        if (t->stage->weight) *weight *= t->stage->weight[*place];
        *place = t->stage->list[*place];
        return TAUT_OK;
    case TAUT__STAGE_RS2: return rs2_at(s, k, round, place);
    case TAUT__STAGE_MIX: return taut__mix_at(&t->mix, key_of(s, round, k), *place, place);
    case TAUT__STAGE_PRUNE:
        TAUT_TRY(taut__prune_at(&t->prune, key_of(s, round, k), *place, &listed, place));
        if (listed == UINT64_MAX) return TAUT_OK;
        *place = t->stage->list[listed];
        if (t->stage->weight) *weight *= t->stage->weight[listed];
        return TAUT_OK;
    case TAUT__STAGE_STATIC: break;
    }
    if (t->stage->strata[0]) return taut__strata_at(&t->strata, key_of(s, 0, k), *place, place);
    return taut__order_at(&t->order, *place, place);
}

/* Through the stages k-1 .. 0. */
static taut_status steps_at(taut__sampler *s, size_t k, uint64_t round, uint64_t *place, float *weight)
{
    while (k > 0) TAUT_TRY(step_at(s, --k, round, place, weight));
    return TAUT_OK;
}

taut_status taut__sampler_at(taut__sampler *s, uint64_t round, uint64_t i, uint64_t *sample, float *weight)
{
    float w = 1;
    if (i >= taut__plan_samples(s->plan))
        return taut__fail(TAUT_E_RANGE, "sampler: place %llu of a round: must be below %llu", (ull)i,
                          (ull)taut__plan_samples(s->plan));
    *sample = i;
    if (s->buckets.n) TAUT_TRY(taut__buckets_at(&s->buckets, key_of(s, round, s->steps), i, sample));
    else if (s->shuffles) {
        if (round != s->last_round) {
            TAUT_TRY(taut__order_set(&s->last, key_of(s, round, s->steps)));
            s->last_round = round;
        }
        TAUT_TRY(taut__order_at(&s->last, i, sample));
    }
    TAUT_TRY(steps_at(s, s->steps, round, sample, &w));
    if (weight) *weight = w;
    return TAUT_OK;
}

taut_status taut__sampler_set(taut__sampler *s, uint64_t place, uint64_t *sample)
{
    float w = 1;
    *sample = place;
    return steps_at(s, s->steps, 0, sample, &w);
}

/* ---- setting up ---- */

/* Labels of the set that comes into stage k, which is the same in every round. */
static taut_status labels_of(taut__sampler *s, size_t k, const int64_t *labels, int64_t *of)
{
    for (uint64_t i = 0; i < s->step[k].stage->of; i++) {
        uint64_t sample = i;
        float    weight = 1;
        TAUT_TRY(steps_at(s, k, 0, &sample, &weight));
        of[i] = labels[sample];
    }
    return TAUT_OK;
}

static taut_status start_strata(taut__sampler *s, size_t k, const int64_t *labels)
{
    step       *t = &s->step[k];
    int64_t    *of;
    taut_status status;
    if (!labels) return taut__fail(TAUT_E_INVALID, "plan: strata %s: no labels were given", t->stage->strata);
    if (t->stage->of > UINT32_MAX)
        return taut__fail(TAUT_E_UNSUPPORTED, "plan: strata %s of %llu samples: must be fewer than 2^32",
                          t->stage->strata, (ull)t->stage->of);
    of = taut__alloc((size_t)t->stage->of, sizeof *of);
    if (!of) return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %llu labels", (ull)t->stage->of);
    status = labels_of(s, k, labels, of);
    if (status == TAUT_OK)
        status = taut__strata_init(&t->strata, of, t->stage->of, t->stage->samples,
                                   t->stage->replace || t->stage->kind == TAUT__STAGE_STATIC);
    taut__free(of);
    return status;
}

/* The source of every place that comes into a mix: its shard, or its class, numbered by size of the label. */
static taut_status sources_of(taut__sampler *s, size_t k, const int64_t *labels, uint32_t *source)
{
    const taut__plan  *p = s->plan;
    const taut__stage *stage = s->step[k].stage;
    int64_t            known[TAUT__SHARES_MAX];
    uint32_t           n = 0;
    bool               classes = stage->strata[0];
    for (int pass = 0; pass < 2; pass++) { /* find the classes; then number them */
        for (uint64_t i = 0; i < stage->of && (pass || classes); i++) {
            uint64_t sample = i;
            float    weight = 1;
            uint32_t c = 0;
            TAUT_TRY(steps_at(s, k, 0, &sample, &weight));
            if (!classes) {
                for (; sample >= p->shard[c].samples; c++) sample -= p->shard[c].samples;
                source[i] = c;
                continue;
            }
            while (c < n && known[c] < labels[sample]) c++;
            source[i] = c;
            if (pass || (c < n && known[c] == labels[sample])) continue;
            if (n == stage->shares)
                return taut__fail(TAUT_E_INVALID,
                                  "plan: mix: field %s has more classes than the %u shares: must be one share a class",
                                  stage->strata, stage->shares);
            memmove(known + c + 1, known + c, (n++ - c) * sizeof *known);
            known[c] = labels[sample];
        }
    }
    if (classes && n != stage->shares)
        return taut__fail(TAUT_E_INVALID,
                          "plan: mix: field %s has %u classes, but there are %u shares: must be one share a class",
                          stage->strata, n, stage->shares);
    return TAUT_OK;
}

static taut_status start_mix(taut__sampler *s, size_t k, const int64_t *labels)
{
    const taut__stage *stage = s->step[k].stage;
    uint32_t          *source;
    taut_status        status;
    if (stage->strata[0] && !labels)
        return taut__fail(TAUT_E_INVALID, "plan: mix by %s: no labels were given", stage->strata);
    if (stage->of > UINT32_MAX)
        return taut__fail(TAUT_E_UNSUPPORTED, "plan: mix of %llu samples: must be fewer than 2^32", (ull)stage->of);
    if (!(source = taut__alloc((size_t)stage->of, sizeof *source)))
        return taut__fail(TAUT_E_NOMEM, "sampler: out of memory for %llu sources", (ull)stage->of);
    status = sources_of(s, k, labels, source);
    if (status == TAUT_OK)
        status = taut__mix_init(&s->step[k].mix, source, stage->of, stage->share, stage->shares, stage->samples);
    taut__free(source);
    return status;
}

/* The order of what comes into stage k: the shards at first, then one run of places. */
static taut_status start_order(taut__sampler *s, size_t k, uint64_t chunk, uint64_t window, taut__order *o)
{
    const taut__plan *p = s->plan;
    uint64_t          one = k ? p->stage[k - 1].samples : 0, *samples = &one;
    size_t            n = 1;
    taut_status       status;
    bool              base = true; /* do the shards' blocks still lie together? */
    for (size_t i = 0; i < k; i++) base = base && p->stage[i].kind == TAUT__STAGE_FULL;
    if (base) {
        n = p->shards;
        if (!(samples = taut__alloc(n, sizeof *samples))) return taut__fail(TAUT_E_NOMEM, "sampler: out of memory");
        for (size_t i = 0; i < n; i++) samples[i] = p->shard[i].samples;
    }
    status = taut__order_init(o, samples, n, chunk, window);
    if (base) taut__free(samples);
    return status;
}

static taut_status start_step(taut__sampler *s, size_t k, uint64_t chunk, const int64_t *labels)
{
    step    *t = &s->step[k];
    bool     rs2 = t->stage->kind == TAUT__STAGE_RS2;
    uint64_t window = s->plan->window;
    t->pass = UINT64_MAX;
    if (t->stage->kind == TAUT__STAGE_MIX) return start_mix(s, k, labels);
    if (t->stage->kind == TAUT__STAGE_PRUNE)
        return taut__prune_init(&t->prune, t->stage->list, t->stage->listed, t->stage->of, t->stage->samples);
    if (!rs2 && t->stage->kind != TAUT__STAGE_STATIC) return TAUT_OK;
    if (t->stage->strata[0]) return start_strata(s, k, labels);
    if (!rs2 && window) window = 1; /* whole blocks, one behind the other: the shuffle of each round comes on top */
    TAUT_TRY(start_order(s, k, chunk, window, &t->order));
    return rs2 ? TAUT_OK : taut__order_set(&t->order, key_of(s, 0, k));
}

static taut_status start(taut__sampler *s, uint64_t chunk, const int64_t *labels)
{
    TAUT_TRY(taut__plan_check(s->plan));
    for (size_t k = 0; k < s->plan->stages; k++) {
        s->step[k].stage = &s->plan->stage[k];
        s->steps = k + 1;
        TAUT_TRY(start_step(s, k, chunk, labels));
    }
    s->last_round = UINT64_MAX;
    s->shuffles = s->plan->stage[s->steps - 1].kind <= TAUT__STAGE_LIST;
    if (s->plan->stage[s->steps - 1].order) {
        const taut__stage *l = &s->plan->stage[s->steps - 1];
        s->buckets = (taut__buckets){.n = l->samples, .bucket = l->bucket, .shuffled = l->order == TAUT__ORDER_BUCKETS};
        return TAUT_OK;
    }
    return s->shuffles ? start_order(s, s->steps, chunk, s->plan->window, &s->last) : TAUT_OK;
}

taut_status taut__sampler_create(const taut__plan *plan, uint64_t chunk, const int64_t *labels, taut__sampler **sampler)
{
    taut__sampler *s = taut__alloc(1, sizeof *s);
    taut_status    status;
    *sampler = NULL;
    if (!s) return taut__fail(TAUT_E_NOMEM, "sampler: out of memory");
    s->plan = plan;
    status = start(s, chunk, labels);
    if (status == TAUT_OK) *sampler = s;
    else taut__sampler_destroy(s);
    return status;
}

void taut__sampler_destroy(taut__sampler *s)
{
    if (!s) return;
    for (size_t k = 0; k < s->steps; k++) {
        taut__order_free(&s->step[k].order);
        taut__strata_free(&s->step[k].strata);
        taut__mix_free(&s->step[k].mix);
        taut__prune_free(&s->step[k].prune);
    }
    taut__buckets_free(&s->buckets);
    taut__order_free(&s->last);
    taut__free(s);
}

/* ---- state ---- */

static const uint8_t magic[8] = {'T', 'A', 'U', 'T', 'D', 'S', 0, 1};

static void put64(uint8_t *dst, uint64_t v)
{
    for (int i = 0; i < 8; i++) dst[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get64(const uint8_t *src)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)src[i] << (8 * i);
    return v;
}

void taut__sampler_state_save(const taut__sampler_state *s, uint8_t dst[TAUT__SAMPLER_STATE])
{
    memcpy(dst, magic, 8);
    put64(dst + 8, s->seed);
    put64(dst + 16, s->plan_hash);
    put64(dst + 24, s->round);
    put64(dst + 32, s->position);
    put64(dst + 40, s->batch);
    put64(dst + 48, XXH64(dst, 48, 0));
}

taut_status taut__sampler_state_load(taut__sampler_state *s, const uint8_t *src, size_t bytes)
{
    memset(s, 0, sizeof *s);
    if (bytes != TAUT__SAMPLER_STATE || memcmp(src, magic, 8) != 0 || get64(src + 48) != XXH64(src, 48, 0))
        return taut__fail(TAUT_E_CORRUPT,
                          "data state: these %zu bytes are not one, or are damaged: must be %d bytes that "
                          "taut_loader_state() wrote",
                          bytes, TAUT__SAMPLER_STATE);
    s->seed = get64(src + 8);
    s->plan_hash = get64(src + 16);
    s->round = get64(src + 24);
    s->position = get64(src + 32);
    s->batch = get64(src + 40);
    return TAUT_OK;
}
