/* loader.c : opening a loader together, batches, state. Waiting is measured here, so this folder reads the clock, which
 * compressors otherwise do not: a stall is what a loader is judged by. */
#include "loader.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

/* ---- the group ---- a failure anywhere is a failure everywhere, with the text of the rank that has it ---- */

static taut_status agree(const taut_loader_group *g, taut_status mine)
{
    char        text[TAUT__NODE_TEXT] = "";
    taut_status all;
    if (!g) return mine;
    if (mine != TAUT_OK) snprintf(text, sizeof text, "%s", taut_last_error());
    all = g->agree(g->ctx, mine, text, sizeof text);
    return all == TAUT_OK ? mine /* whatever the group says: a failure here is none the less one */
                          : taut__fail(all, "%s", *text ? text : "taut_loader_open: the group's agree() failed");
}

/* The group's own functions leave no text. */
static taut_status sent(taut_status s)
{
    return s == TAUT_OK ? s : taut__fail(s, "taut_loader_open: the group's broadcast failed: %s", taut_status_text(s));
}

/* From here on, whoever calls agree() does it on all ranks: each line that may fail on one of them ends in one. */

static taut_status read_and_pack(taut_loader *l, const taut_loader_group *g, uint8_t **bytes, uint64_t *n)
{
    size_t length = 0;
    if (l->rank != 0) return TAUT_OK;
    TAUT_TRY(taut__package_read(&l->data, &l->config));
    if (g) TAUT_TRY(taut__package_pack(&l->data, bytes, &length));
    *n = length;
    return TAUT_OK;
}

static taut_status make_room(const taut_loader *l, uint8_t **bytes, uint64_t n)
{
    if (l->rank == 0 || (*bytes = taut__alloc((size_t)n, 1)) != NULL) return TAUT_OK;
    return taut__fail(TAUT_E_NOMEM, "loader: out of memory for %llu bytes of indexes", (ull)n);
}

/* Rank 0 reads, the others receive. */
static taut_status share_package(taut_loader *l, const taut_loader_group *g)
{
    uint64_t    n = 0;
    uint8_t    *bytes = NULL;
    taut_status s = agree(g, read_and_pack(l, g, &bytes, &n));
    if (!g || s != TAUT_OK) {
        taut__free(bytes);
        return s;
    }
    s = agree(g, sent(g->broadcast(g->ctx, &n, sizeof n)));
    if (s == TAUT_OK) s = agree(g, make_room(l, &bytes, n));
    if (s == TAUT_OK) s = agree(g, sent(g->broadcast(g->ctx, bytes, (size_t)n)));
    if (s == TAUT_OK) s = agree(g, l->rank == 0 ? TAUT_OK : taut__package_unpack(&l->data, bytes, (size_t)n));
    taut__free(bytes);
    return s;
}

/* Ranks with other settings would wait for each other for ever. */
static taut_status same_settings(taut_loader *l, const taut_loader_group *g)
{
    uint64_t    mine[6] = {l->batch, l->rounds, l->step, l->slot_bytes, (uint64_t)l->config.share, 0}, first[6];
    taut_status s;
    if (!g) return TAUT_OK;
    for (size_t i = 0; i < l->fields * l->data.plan.shards; i++) mine[5] = taut__mix64(mine[5] ^ (l->field[i] + i));
    memcpy(first, mine, sizeof first);
    TAUT_TRY(agree(g, sent(g->broadcast(g->ctx, first, sizeof first))));
    if (memcmp(first, mine, 5 * sizeof *first) == 0 && first[5] != mine[5]) /* one would read what the other decodes */
        return agree(
            g, taut__fail(TAUT_E_MISMATCH, "loader: rank %u: other fields, or in another order, than rank 0", l->rank));
    s = memcmp(first, mine, sizeof first) == 0
            ? TAUT_OK
            : taut__fail(TAUT_E_MISMATCH,
                         "loader: rank %u: batch %llu, rounds %llu, first step %llu, %llu bytes per block, share %llu; "
                         "rank 0 has %llu, %llu, %llu, %llu, %llu",
                         l->rank, (ull)mine[0], (ull)mine[1], (ull)mine[2], (ull)mine[3], (ull)mine[4], (ull)first[0],
                         (ull)first[1], (ull)first[2], (ull)first[3], (ull)first[4]);
    return agree(g, s);
}

/* ---- shared memory ---- */

static void stand_alone(taut_loader *l)
{
    l->node_list[0] = l->rank;
    l->node_ranks = 1;
    l->node_index = 0;
}

static taut_status create_node(taut_loader *l, taut__node_ticket *ticket, uint64_t *slots)
{
    TAUT_TRY(taut__loader_memory(l, slots));
    return taut__node_create(&l->node, l->node_ranks, *slots, l->slot_bytes, l->step, ticket);
}

typedef struct invitation {
    taut__node_ticket ticket;
    uint64_t          slots;
} invitation;

/* node[0] makes the memory, the others map it. Where one cannot (another container), every rank of the job is told so and
 * decodes for itself. */
static taut_status share_memory(taut_loader *l, const taut_loader_group *g, uint64_t *slots)
{
    invitation  in = {{0, 0}, 0};
    taut_status s = TAUT_OK;
    if (l->node_index == 0) s = create_node(l, &in.ticket, &in.slots);
    TAUT_TRY(agree(g, s));
    if (!g) {
        *slots = in.slots;
        return TAUT_OK;
    }
    TAUT_TRY(agree(g, sent(g->node_broadcast(g->ctx, &in, sizeof in))));
    if (l->node_index != 0) s = taut__node_open(&l->node, l->node_ranks, in.slots, l->slot_bytes, in.ticket);
    s = agree(g, s);
    *slots = in.slots;
    if (s == TAUT_OK) return TAUT_OK;
    taut__log(TAUT_LOG_WARN, "data", "decoded blocks are not shared, every rank decodes for itself: %s",
              taut_last_error());
    taut__node_unmap(&l->node);
    stand_alone(l);
    return agree(g, create_node(l, &in.ticket, slots));
}

static taut_status open_all(taut_loader *l, const taut_loader_group *g)
{
    uint64_t slots = 0;
    TAUT_TRY(share_package(l, g));
    TAUT_TRY(agree(g, taut__loader_setup(l)));
    TAUT_TRY(same_settings(l, g));
    if (l->config.share) stand_alone(l);
    TAUT_TRY(share_memory(l, g, &slots));
    TAUT_TRY(agree(g, taut__loader_schedule(l, slots)));
    taut__node_seal(&l->node);
    return agree(g, taut__readers_start(l));
}

/* ---- open, close ---- */

static taut_status check_config(taut_loader_config *c, const taut_loader_config *given)
{
    if (given->size < offsetof(taut_loader_config, fields))
        return taut__fail(TAUT_E_INVALID, "taut_loader_config.size=%zu: use TAUT_LOADER_INIT", given->size);
    *c = (taut_loader_config)TAUT_LOADER_INIT;
    memcpy(c, given, taut__min(given->size, sizeof *c));
    if (!c->shards || c->nshards == 0) return taut__fail(TAUT_E_INVALID, "loader: no shards");
    if (c->threads < 0 || c->threads > TAUT__READERS_MAX)
        return taut__fail(TAUT_E_RANGE, "loader: threads=%d: must be 1..%d; 0 = 2", (int)c->threads, TAUT__READERS_MAX);
    if (c->ahead < 0 || c->ahead > 1024)
        return taut__fail(TAUT_E_RANGE, "loader: ahead=%d: must be 1..1024 steps; 0 = 16", (int)c->ahead);
    if (c->read_delay_us < 0 || c->timeout_ms < 0)
        return taut__fail(TAUT_E_RANGE, "loader: read_delay_us=%d, timeout_ms=%d: must not be negative",
                          (int)c->read_delay_us, (int)c->timeout_ms);
    if (!c->threads) c->threads = 2;
    c->ahead = c->ahead ? c->ahead + 1 : 17; /* beside the step in the caller's hands */
    if (!c->timeout_ms) c->timeout_ms = 60000;
    c->share = c->share != 0;
    return TAUT_OK;
}

static taut_status join_group(taut_loader *l, const taut_loader_group *g)
{
    l->ranks = g ? g->ranks : 1;
    l->rank = g ? g->rank : 0;
    l->node_ranks = g ? g->node_ranks : 1;
    if (l->rank >= l->ranks || l->node_ranks == 0 || l->node_ranks > l->ranks)
        return taut__fail(TAUT_E_INVALID, "loader: rank %u of %u, %u on the node: not a group", l->rank, l->ranks,
                          l->node_ranks);
    l->node_list = taut__alloc(l->node_ranks, sizeof *l->node_list);
    if (!l->node_list) return taut__fail(TAUT_E_NOMEM, "loader: out of memory");
    l->node_index = l->node_ranks;
    for (uint32_t i = 0; i < l->node_ranks; i++) {
        l->node_list[i] = g ? g->node[i] : 0;
        if (l->node_list[i] == l->rank) l->node_index = i;
    }
    return l->node_index < l->node_ranks
               ? TAUT_OK
               : taut__fail(TAUT_E_INVALID, "loader: rank %u is not among those of its node", l->rank);
}

taut_status taut_loader_open(const taut_loader_config *config, const taut_loader_group *group, taut_loader **loader)
{
    taut_loader *l = taut__alloc(1, sizeof *l);
    taut_status  s = l ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "loader: out of memory");
    *loader = NULL;
    if (group && group->ranks == 1) group = NULL;
    if (l) {
        l->node.fd = -1;
        l->owner = getpid();
        s = check_config(&l->config, config);
        if (s == TAUT_OK) s = join_group(l, group);
        if (s == TAUT_OK && pthread_mutex_init(&l->lock, NULL) != 0) s = taut__fail(TAUT_E_NOMEM, "loader: no mutex");
        l->lock_made = s == TAUT_OK;
        l->batch = l->config.batch;
        l->rounds = l->config.rounds;
    }
    s = agree(group, s);
    if (s == TAUT_OK) s = open_all(l, group);
    if (s == TAUT_OK) *loader = l;
    else taut_loader_close(l);
    return s;
}

static void free_arrays(taut_loader *l)
{
    taut__free(l->node_list);
    taut__free(l->field);
    taut__free(l->image_at);
    taut__free(l->first_sample);
    taut__free(l->first_block);
    taut__free(l->per_block);
    taut__free(l->id);
    taut__free(l->weight);
    taut__free(l->pointer);
    taut__free(l->length);
    taut__free(l->data_rows);
    taut__free(l->length_rows);
}

void taut_loader_close(taut_loader *l)
{
    char text[TAUT__NODE_TEXT];
    if (!l) return;
    snprintf(text, sizeof text, "%s",
             taut_last_error());      /* kept: close() may follow a failure that is still to be told */
    bool ours = l->owner == getpid(); /* a child has neither the threads nor a place among the ranks */
    if (ours) taut__readers_stop(l);
    if (l->node.words && ours) { /* the others need not wait for us */
        atomic_store_explicit(&l->node.done[l->node_index], UINT64_MAX, memory_order_release);
        taut__node_signal(&l->node);
    }
    taut__schedule_destroy(l->schedule);
    taut__sampler_destroy(l->sampler);
    taut__package_free(&l->data);
    taut__node_unmap(&l->node);
    if (l->lock_made && ours) pthread_mutex_destroy(&l->lock);
    free_arrays(l);
    taut__free(l);
    if (*text) (void)taut__fail(TAUT_E_STATE, "%s", text);
}

/* ---- batches ---- */

static taut_status not_in_time(const taut_loader *l, const taut__use *u)
{
    return taut__fail(TAUT_E_TIMEOUT,
                      "loader: block %llu of %s did not come within %d ms: is a rank of this node gone, or the disk?",
                      (ull)u->block, taut_shard_path(l->data.shard[u->shard]), (int)l->config.timeout_ms);
}

/* Until the blocks of all samples are there. */
static taut_status wait_for(taut_loader *l, const taut__step *t)
{
    double begin = 0;
    for (uint64_t i = 0; i < t->n; i++) {
        const taut__use *u = &t->use[i];
        for (;;) {
            uint32_t event = taut__node_event(&l->node);
            if (atomic_load_explicit(&l->node.ready[u->slot], memory_order_acquire) == u->load + 1) break;
            TAUT_TRY(taut__node_failure(&l->node));
            if (begin == 0) begin = taut__now();
            if (1e3 * (taut__now() - begin) > l->config.timeout_ms) return not_in_time(l, u);
            taut__node_wait(&l->node, event);
        }
    }
    if (begin > 0) {
        double waited = taut__now() - begin;
        l->stall_s += waited;
        if (l->steps_taken == 0) l->first_stall_s = waited;
    }
    return TAUT_OK;
}

static void fill(taut_loader *l, const taut__step *t, taut_batch *b)
{
    size_t shards = l->data.plan.shards;
    for (uint64_t i = 0; i < t->n; i++) {
        const taut__use *u = &t->use[i];
        const uint8_t   *slot = taut__node_slot(&l->node, u->slot);
        l->id[i] = u->id;
        l->weight[i] = u->weight;
        for (size_t f = 0; f < l->fields; f++) {
            size_t at = f * (size_t)(l->batch / l->ranks + 1) + (size_t)i;
            l->pointer[at] = taut__image_sample(l->data.shard[u->shard], l->field[f * shards + u->shard], u->block,
                                                slot + l->image_at[f], u->inside, &l->length[at]);
            l->used_bytes += l->length[at];
        }
    }
    b->n = t->n;
    b->all = t->all;
    b->step = t->number;
    b->round = t->round;
    b->id = l->id;
    b->weight = l->weight;
    b->data = l->data_rows;
    b->bytes = l->length_rows;
}

static void release(taut_loader *l)
{
    if (!l->holding) return;
    l->holding = false;
    atomic_store_explicit(&l->node.done[l->node_index], l->step, memory_order_release);
    taut__node_signal(&l->node);
}

static taut_status next(taut_loader *l, taut_batch *b)
{
    const taut__step *t;
    taut_status       s;
    release(l);
    if (l->step >= taut__schedule_steps(l->schedule)) {
        b->end = 1;
        return TAUT_OK;
    }
    pthread_mutex_lock(&l->lock);
    s = taut__schedule_until(l, l->step);
    pthread_mutex_unlock(&l->lock);
    TAUT_TRY(s);
    t = taut__schedule_step(l->schedule, l->step);
    TAUT_TRY(wait_for(l, t));
    fill(l, t, b);
    l->steps_taken++;
    l->samples_taken += t->n;
    l->node_blocks = t->blocks;
    l->holding = true;
    pthread_mutex_lock(&l->lock);
    l->step++;
    pthread_mutex_unlock(&l->lock);
    taut__node_signal(&l->node); /* our readers may compute one step more */
    return TAUT_OK;
}

taut_status taut_loader_next(taut_loader *l, taut_batch *batch)
{
    taut_batch  b = {.size = batch->size};
    taut_status s;
    if (batch->size < sizeof(size_t))
        return taut__fail(TAUT_E_INVALID, "taut_batch.size=%zu: use TAUT_BATCH_INIT", batch->size);
    s = l->owner == getpid()
            ? next(l, &b)
            : taut__fail(TAUT_E_STATE,
                         "loader: process %ld was forked from %ld, which opened it and has its threads: open one here",
                         (long)getpid(), (long)l->owner);
    memcpy(batch, &b, taut__min(batch->size, sizeof b));
    return s;
}

/* ---- state, facts, counters ---- */

taut_status taut_loader_state(const taut_loader *l, void *state, size_t cap, size_t *bytes)
{
    uint64_t samples = taut__plan_samples(&l->data.plan), all = l->rounds * samples;
    uint64_t place = l->step >= taut__schedule_steps(l->schedule) ? all : l->step * l->batch;
    uint8_t  to[TAUT__SAMPLER_STATE];
    *bytes = 0;
    if (cap < sizeof to)
        return taut__fail(TAUT_E_CAPACITY, "data state: %zu bytes given: must be at least %zu", cap, sizeof to);
    taut__sampler_state_save(
        &(taut__sampler_state){l->data.plan.seed, l->data.plan.hash, place / samples, place % samples, l->batch}, to);
    memcpy(state, to, sizeof to);
    *bytes = sizeof to;
    return TAUT_OK;
}

uint64_t taut_loader_steps(const taut_loader *l) { return taut__schedule_steps(l->schedule); }
uint64_t taut_loader_samples(const taut_loader *l) { return taut__plan_samples(&l->data.plan); }
size_t   taut_loader_fields(const taut_loader *l) { return l->fields; }

taut_status taut_loader_field(const taut_loader *l, size_t f, taut_field *field)
{
    size_t     shards = l->data.plan.shards, size = field->size;
    taut_field sum;
    if (f >= l->fields) return taut__fail(TAUT_E_RANGE, "loader: field %zu: must be below %zu", f, l->fields);
    if (size < sizeof(size_t)) return taut__fail(TAUT_E_INVALID, "taut_field.size=%zu: use TAUT_FIELD_INIT", size);
    sum = *taut__shard_field(l->data.shard[0], l->field[f * shards]);
    for (size_t s = 1; s < shards; s++) {
        const taut_field *x = taut__shard_field(l->data.shard[s], l->field[f * shards + s]);
        sum.decoded_bytes += x->decoded_bytes;
        sum.stored_bytes += x->stored_bytes;
        if (x->rel_err2 > sum.rel_err2) sum.rel_err2 = x->rel_err2;
        if (x->max_err > sum.max_err) sum.max_err = x->max_err;
        if (x->psnr_db > 0 && (sum.psnr_db == 0 || x->psnr_db < sum.psnr_db)) sum.psnr_db = x->psnr_db;
    }
    memcpy(field, &sum, taut__min(size, sizeof sum));
    field->size = size;
    return TAUT_OK;
}

taut_status taut_loader_get_stats(const taut_loader *l, taut_loader_stats *stats)
{
    taut_loader_stats s = {.size = stats->size,
                           .steps = l->steps_taken,
                           .samples = l->samples_taken,
                           .stall_s = l->stall_s,
                           .first_stall_s = l->first_stall_s,
                           .used_bytes = l->used_bytes,
                           .node_blocks = l->node_blocks,
                           .cache_blocks = l->node.slots,
                           .shared = (int32_t)l->node_ranks};
    if (stats->size < sizeof(size_t))
        return taut__fail(TAUT_E_INVALID, "taut_loader_stats.size=%zu: set it to sizeof(taut_loader_stats)",
                          stats->size);
    s.reads = atomic_load(&l->mine.reads);
    s.read_bytes = atomic_load(&l->mine.read_bytes);
    s.decodes = atomic_load(&l->mine.decodes);
    s.decoded_bytes = atomic_load(&l->mine.decoded_bytes);
    s.node_decodes = atomic_load(&l->node.words->decodes);
    s.node_read_bytes = atomic_load(&l->node.words->read_bytes);
    s.node_decoded_bytes = atomic_load(&l->node.words->decoded_bytes);
    memcpy(stats, &s, taut__min(stats->size, sizeof s));
    return TAUT_OK;
}
