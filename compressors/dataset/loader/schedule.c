/* schedule.c : see schedule.h. Slots are in a list by their last use, and in chains by the hash of their block. */
#include "schedule.h"
#include <string.h>

typedef unsigned long long ull;

static const uint32_t NONE = UINT32_MAX;

typedef struct slot {
    uint64_t block, load, last; /* last: step that uses it last, as far as computed */
    uint32_t older, newer, chain;
    bool     used;
} slot;

struct taut__schedule {
    taut__schedule_config c;
    uint64_t              samples, total, steps; /* of a round, of the job */
    uint64_t              next, loads, blocks;
    slot                 *slot;
    uint32_t              oldest, newest, *head, mask;
    uint8_t              *seen; /* a bit per block: needed in seen_round */
    uint64_t              seen_round, all_blocks;
    taut__step           *ring;
    taut__use            *uses;
    uint64_t              most; /* uses per step of the ring */
    taut__load           *load;
    uint64_t              load_ring;
};

uint64_t taut__node_batch(uint64_t batch, uint32_t ranks, const uint32_t *node, uint32_t node_ranks)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < node_ranks; i++) n += taut__slice_of(batch, ranks, node[i]).n;
    return n;
}

/* ---- slots ---- */

static uint32_t *chain_of(taut__schedule *s, uint64_t block) { return &s->head[taut__mix64(block) & s->mask]; }

static uint32_t find_slot(taut__schedule *s, uint64_t block)
{
    uint32_t i = *chain_of(s, block);
    while (i != NONE && s->slot[i].block != block) i = s->slot[i].chain;
    return i;
}

static void unlink_use(taut__schedule *s, uint32_t i)
{
    slot *x = &s->slot[i];
    if (x->older != NONE) s->slot[x->older].newer = x->newer;
    else s->oldest = x->newer;
    if (x->newer != NONE) s->slot[x->newer].older = x->older;
    else s->newest = x->older;
}

static void link_newest(taut__schedule *s, uint32_t i)
{
    s->slot[i].older = s->newest;
    s->slot[i].newer = NONE;
    if (s->newest != NONE) s->slot[s->newest].newer = i;
    else s->oldest = i;
    s->newest = i;
}

static void forget(taut__schedule *s, uint32_t i)
{
    uint32_t *at = chain_of(s, s->slot[i].block);
    while (*at != i) at = &s->slot[*at].chain;
    *at = s->slot[i].chain;
}

/* The slot that holds `block` from this step on; a new load if it is in none. */
static taut_status place_block(taut__schedule *s, uint64_t block, uint32_t *where)
{
    uint32_t    i = find_slot(s, block);
    slot       *x;
    taut__load *l;
    if (i == NONE) {
        i = s->oldest;
        x = &s->slot[i];
        if (x->used && x->last == s->next)
            return taut__fail(
                TAUT_E_RANGE,
                "loader: step %llu needs more blocks than the %llu that fit into the cache: give it more memory, or "
                "make a plan with a window, or shards with smaller blocks",
                (ull)s->next, (ull)s->c.slots);
        l = &s->load[s->loads % s->load_ring];
        *l = (taut__load){s->loads, block, s->next, x->used ? x->last + 1 : 0, i};
        if (x->used) forget(s, i);
        x->used = true;
        x->block = block;
        x->load = s->loads++;
        x->chain = *chain_of(s, block);
        *chain_of(s, block) = i;
    }
    s->slot[i].last = s->next;
    unlink_use(s, i);
    link_newest(s, i);
    *where = i;
    return TAUT_OK;
}

/* ---- steps ---- */

static void count_block(taut__schedule *s, uint64_t round, uint64_t block)
{
    uint8_t bit = (uint8_t)(1u << (block % 8));
    if (round != s->seen_round) {
        memset(s->seen, 0, (size_t)(s->all_blocks / 8 + 1));
        s->seen_round = round;
    }
    if (s->seen[block / 8] & bit) return;
    s->seen[block / 8] |= bit;
    s->blocks++;
}

static taut_status use_place(taut__schedule *s, uint64_t place, taut__use *u)
{
    const taut__geometry *g = &s->c.geometry;
    size_t                k;
    uint64_t              local;
    TAUT_TRY(taut__sampler_at(s->c.sampler, place / s->samples, place % s->samples, &u->id, &u->weight));
    k = taut__run_of(g->first_sample, g->shards, u->id);
    local = u->id - g->first_sample[k];
    u->shard = (uint32_t)k;
    u->block = local / g->per_block[k];
    u->inside = local % g->per_block[k];
    count_block(s, place / s->samples, g->first_block[k] + u->block);
    TAUT_TRY(place_block(s, g->first_block[k] + u->block, &u->slot));
    u->load = s->slot[u->slot].load;
    return TAUT_OK;
}

taut_status taut__schedule_advance(taut__schedule *s)
{
    taut__step *t = &s->ring[s->next % s->c.ahead];
    uint64_t    first = s->next * s->c.batch, all = s->total - first < s->c.batch ? s->total - first : s->c.batch;
    *t = (taut__step){
        .number = s->next, .round = first / s->samples, .all = all, .use = s->uses + s->next % s->c.ahead * s->most};
    for (uint32_t i = 0; i < s->c.node_ranks; i++) {
        taut__slice part = taut__slice_of(all, s->c.ranks, s->c.node[i]);
        bool        mine = s->c.node[i] == s->c.rank;
        taut__use   other;
        for (uint64_t k = 0; k < part.n; k++)
            TAUT_TRY(use_place(s, first + part.first + k, mine ? &t->use[k] : &other));
        if (mine) t->n = part.n;
    }
    t->loads = s->loads;
    t->blocks = s->blocks;
    s->next++;
    return TAUT_OK;
}

uint64_t          taut__schedule_steps(const taut__schedule *s) { return s->steps; }
uint64_t          taut__schedule_next(const taut__schedule *s) { return s->next; }
uint64_t          taut__schedule_loads(const taut__schedule *s) { return s->loads; }
const taut__step *taut__schedule_step(const taut__schedule *s, uint64_t step) { return &s->ring[step % s->c.ahead]; }

const taut__load *taut__schedule_load(const taut__schedule *s, uint64_t load)
{
    const taut__load *l = &s->load[load % s->load_ring];
    return load < s->loads && l->number == load ? l : NULL;
}

/* ---- setting up ---- */

static taut_status allocate(taut__schedule *s)
{
    const taut__schedule_config *c = &s->c;
    uint64_t                     node = taut__node_batch(c->batch, c->ranks, c->node, c->node_ranks);
    size_t                       chains = 16;
    while (chains < 2 * c->slots) chains *= 2;
    s->mask = (uint32_t)(chains - 1);
    s->most = c->batch / c->ranks + 1;
    s->load_ring = c->ahead * (node < s->all_blocks ? node : s->all_blocks) + 1;
    s->slot = taut__alloc((size_t)c->slots, sizeof *s->slot);
    s->head = taut__alloc(chains, sizeof *s->head);
    s->seen = taut__alloc((size_t)(s->all_blocks / 8 + 1), 1);
    s->ring = taut__alloc(c->ahead, sizeof *s->ring);
    s->uses = taut__alloc((size_t)(c->ahead * s->most), sizeof *s->uses);
    s->load = taut__alloc((size_t)s->load_ring, sizeof *s->load);
    if (!s->slot || !s->head || !s->seen || !s->ring || !s->uses || !s->load)
        return taut__fail(TAUT_E_NOMEM, "loader: out of memory for a schedule of %llu blocks and batches of %llu",
                          (ull)c->slots, (ull)c->batch);
    memset(s->head, 0xff, chains * sizeof *s->head);
    s->oldest = s->newest = NONE;
    for (uint32_t i = 0; i < c->slots; i++) link_newest(s, i);
    return TAUT_OK;
}

taut_status taut__schedule_create(const taut__schedule_config *c, taut__schedule **schedule)
{
    taut__schedule *s = taut__alloc(1, sizeof *s);
    taut_status     status;
    *schedule = NULL;
    if (!s) return taut__fail(TAUT_E_NOMEM, "loader: out of memory");
    s->c = *c;
    s->samples = taut__plan_samples(c->plan);
    s->total = c->rounds * s->samples;
    s->steps = s->total / c->batch + (s->total % c->batch != 0);
    s->next = c->start;
    s->all_blocks = c->geometry.first_block[c->geometry.shards];
    s->seen_round = UINT64_MAX;
    status = allocate(s);
    if (status == TAUT_OK) *schedule = s;
    else taut__schedule_destroy(s);
    return status;
}

void taut__schedule_destroy(taut__schedule *s)
{
    if (!s) return;
    taut__free(s->slot);
    taut__free(s->head);
    taut__free(s->seen);
    taut__free(s->ring);
    taut__free(s->uses);
    taut__free(s->load);
    taut__free(s);
}
