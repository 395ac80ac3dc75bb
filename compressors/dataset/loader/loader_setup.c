/* loader_setup.c : from plan and shards to geometry, fields, memory and schedule. */
#include "loader.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

/* ---- fields ---- */

static bool same_field(const taut_field *a, const taut_field *b)
{
    bool same = a->kind == b->kind && a->type == b->type && a->ndim == b->ndim && a->variable == b->variable;
    for (uint32_t i = 0; same && i < a->ndim; i++) same = a->shape[i] == b->shape[i];
    return same;
}

/* Field f of the batches is called `name`: its number in every shard. */
static taut_status find_field(taut_loader *l, size_t f, const char *name)
{
    size_t            shards = l->data.plan.shards;
    const taut_field *first = NULL;
    for (size_t s = 0; s < shards; s++) {
        const taut_shard *shard = l->data.shard[s];
        int               n = taut_shard_find(shard, name);
        if (n < 0) return taut__shard_no_field(shard, name);
        if (!first) first = taut__shard_field(shard, (uint32_t)n);
        if (!same_field(first, taut__shard_field(shard, (uint32_t)n)))
            return taut__fail(TAUT_E_MISMATCH, "%s: field '%s' has another type or shape than in %s",
                              taut_shard_path(shard), name, taut_shard_path(l->data.shard[0]));
        l->field[f * shards + s] = (uint32_t)n;
    }
    return TAUT_OK;
}

static taut_status find_fields(taut_loader *l)
{
    const taut_loader_config *c = &l->config;
    const taut_shard         *first = l->data.shard[0];
    size_t                    shards = l->data.plan.shards;
    l->fields = c->nfields ? c->nfields : taut__shard_fields(first);
    l->field = taut__alloc(l->fields * shards, sizeof *l->field);
    l->image_at = taut__alloc(l->fields + 1, sizeof *l->image_at);
    if (!l->field || !l->image_at) return taut__fail(TAUT_E_NOMEM, "loader: out of memory for %zu fields", l->fields);
    for (size_t f = 0; f < l->fields; f++) {
        size_t most = 0, room;
        TAUT_TRY(find_field(l, f, c->nfields ? c->fields[f] : taut__shard_field(first, (uint32_t)f)->name));
        for (size_t s = 0; s < shards; s++)
            most = taut__max(most, taut__image_bytes_max(l->data.shard[s], l->field[f * shards + s]));
        room = most > SIZE_MAX - TAUT__NODE_ALIGN ? most : taut__ceil_div(most, TAUT__NODE_ALIGN) * TAUT__NODE_ALIGN;
        if (!taut__add_ok(l->image_at[f], room, &l->image_at[f + 1]))
            return taut__fail(TAUT_E_RANGE, "%s: blocks of %zu bytes: more than this machine can address",
                              taut_shard_path(first), most);
    }
    l->slot_bytes = l->image_at[l->fields];
    return TAUT_OK;
}

/* ---- geometry ---- */

static taut_status find_geometry(taut_loader *l)
{
    size_t n = l->data.plan.shards;
    l->first_sample = taut__alloc(n + 1, sizeof *l->first_sample);
    l->first_block = taut__alloc(n + 1, sizeof *l->first_block);
    l->per_block = taut__alloc(n, sizeof *l->per_block);
    if (!l->first_sample || !l->first_block || !l->per_block)
        return taut__fail(TAUT_E_NOMEM, "loader: out of memory for %zu shards", n);
    for (size_t s = 0; s < n; s++) {
        l->first_sample[s + 1] = l->first_sample[s] + taut__shard_samples(l->data.shard[s]);
        l->first_block[s + 1] = l->first_block[s] + taut__shard_blocks(l->data.shard[s]);
        l->per_block[s] = taut__shard_per_block(l->data.shard[s]);
    }
    return TAUT_OK;
}

static taut_status check_batch(const taut_loader *l)
{
    uint64_t samples = taut__plan_samples(&l->data.plan), all;
    if (l->batch < l->ranks || l->batch > samples)
        return taut__fail(
            TAUT_E_RANGE,
            samples < l->ranks
                ? "loader: batch=%llu of %u ranks: a round has only %llu samples, fewer than ranks"
                : "loader: batch=%llu: must be at least 1 sample for each of %u ranks, and at most the %llu of a round",
            (ull)l->batch, l->ranks, (ull)samples);
    if (l->rounds == 0 || __builtin_mul_overflow(l->rounds, samples, &all) || all > UINT64_C(1) << 62)
        return taut__fail(TAUT_E_RANGE, "loader: %llu rounds of %llu samples: must be 1 or more, 2^62 samples at most",
                          (ull)l->rounds, (ull)samples);
    return TAUT_OK;
}

static taut_status take_state(taut_loader *l)
{
    const taut__plan   *p = &l->data.plan;
    taut__sampler_state st;
    uint64_t            samples = taut__plan_samples(p), place;
    if (!l->config.state) return TAUT_OK;
    TAUT_TRY(taut__sampler_state_load(&st, l->config.state, l->config.state_bytes));
    if (st.plan_hash != p->hash || st.seed != p->seed)
        return taut__fail(TAUT_E_MISMATCH,
                          "data state: of a plan with hash %016llx; this plan has %016llx: go on with the plan that "
                          "the state was saved with",
                          (ull)st.plan_hash, (ull)p->hash);
    if (st.batch != l->batch)
        return taut__fail(
            TAUT_E_MISMATCH,
            "data state: saved with %llu samples in a step, now %llu: the global batch must stay what it was",
            (ull)st.batch, (ull)l->batch);
    place = st.round * samples + st.position;
    if (st.round > l->rounds || st.position >= samples || place > l->rounds * samples ||
        (place % l->batch && place != l->rounds * samples))
        return taut__fail(
            TAUT_E_MISMATCH,
            "data state: round %llu, sample %llu: not a place of this plan with %llu rounds of %llu samples",
            (ull)st.round, (ull)st.position, (ull)l->rounds, (ull)samples);
    l->step = taut__ceil_div(place, l->batch);
    return TAUT_OK;
}

static taut_status take_first_step(taut_loader *l)
{
    uint64_t all = l->rounds * taut__plan_samples(&l->data.plan), steps = taut__ceil_div(all, l->batch);
    if (!l->config.first_step) return TAUT_OK;
    if (l->config.first_step > steps)
        return taut__fail(TAUT_E_RANGE, "loader: first_step=%llu: the plan has %llu steps", (ull)l->config.first_step,
                          (ull)steps);
    l->step = l->config.first_step;
    return TAUT_OK;
}

static taut_status make_arrays(taut_loader *l)
{
    size_t most = (size_t)(l->batch / l->ranks + 1);
    l->id = taut__alloc(most, sizeof *l->id);
    l->weight = taut__alloc(most, sizeof *l->weight);
    l->pointer = taut__alloc(l->fields * most, sizeof *l->pointer);
    l->length = taut__alloc(l->fields * most, sizeof *l->length);
    l->data_rows = taut__alloc(l->fields, sizeof *l->data_rows);
    l->length_rows = taut__alloc(l->fields, sizeof *l->length_rows);
    if (!l->id || !l->weight || !l->pointer || !l->length || !l->data_rows || !l->length_rows)
        return taut__fail(TAUT_E_NOMEM, "loader: out of memory for a batch of %llu samples", (ull)l->batch);
    for (size_t f = 0; f < l->fields; f++) {
        l->data_rows[f] = l->pointer + f * most;
        l->length_rows[f] = l->length + f * most;
    }
    return TAUT_OK;
}

taut_status taut__loader_setup(taut_loader *l)
{
    if (l->config.rounds == 0) l->rounds = l->data.plan.rounds;
    TAUT_TRY(check_batch(l));
    TAUT_TRY(take_state(l));
    TAUT_TRY(take_first_step(l));
    TAUT_TRY(find_geometry(l));
    TAUT_TRY(find_fields(l));
    TAUT_TRY(make_arrays(l));
    return taut__sampler_create(&l->data.plan, l->per_block[0], l->data.label, &l->sampler);
}

/* ---- memory ---- */

static uint64_t half_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGE_SIZE);
    return pages > 0 && bytes > 0 ? (uint64_t)pages * (uint64_t)bytes / 2 : UINT64_MAX;
}

/* Given: what fits. Else 256 MiB, and more where two steps at their worst need it, but not half of the machine. Never more
 * than there are blocks. */
taut_status taut__loader_memory(taut_loader *l, uint64_t *slots)
{
    enum { USUAL = 256 << 20 };
    uint64_t blocks = l->first_block[l->data.plan.shards],
             step = taut__node_batch(l->batch, l->ranks, l->node_list, l->node_ranks);
    uint64_t allowed = l->config.cache_bytes ? l->config.cache_bytes : half_of_memory(),
             each = l->slot_bytes ? l->slot_bytes : TAUT__NODE_ALIGN;
    uint64_t want = l->config.cache_bytes ? allowed / each : USUAL / each;
    if (each > allowed)
        return taut__fail(TAUT_E_RANGE, "%s: a block takes %zu bytes; %s %llu: make shards with smaller blocks%s",
                          taut_shard_path(l->data.shard[0]), l->slot_bytes,
                          l->config.cache_bytes ? "the cache has" : "half of this machine's memory is", (ull)allowed,
                          l->config.cache_bytes ? ", or give a larger cache" : "");
    if (!l->config.cache_bytes && want < 2 * step) want = 2 * step < allowed / each ? 2 * step : allowed / each;
    if (want > blocks) want = blocks;
    if (want > UINT32_MAX - 1) want = UINT32_MAX - 1;
    *slots = want ? want : 1;
    return TAUT_OK;
}

taut_status taut__loader_schedule(taut_loader *l, uint64_t slots)
{
    taut__schedule_config c = {.sampler = l->sampler,
                               .plan = &l->data.plan,
                               .geometry = {l->data.plan.shards, l->first_sample, l->first_block, l->per_block},
                               .rounds = l->rounds,
                               .batch = l->batch,
                               .start = l->step,
                               .rank = l->rank,
                               .ranks = l->ranks,
                               .node_ranks = l->node_ranks,
                               .node = l->node_list,
                               .slots = slots,
                               .ahead = (uint32_t)l->config.ahead};
    taut__schedule_destroy(l->schedule);
    l->schedule = NULL;
    return taut__schedule_create(&c, &l->schedule);
}
