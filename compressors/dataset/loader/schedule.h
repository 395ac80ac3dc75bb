/* schedule.h : which blocks a node needs, in which order, and where in its memory they go: a pure function of plan, batch,
 * ranks and memory, so that all ranks of a node compute the same without a word between them.
 *
 * The node's memory is `slots` places for a decoded block. The schedule walks through the steps; a block that is not in a slot
 * becomes load number 0, 1, 2 ... into the slot whose block was used longest ago. A load may overwrite its slot as
 * soon as all ranks of the node have finished step release-1, the last one that uses what lay there. */
#ifndef TAUT_LOADER_SCHEDULE_H
#define TAUT_LOADER_SCHEDULE_H

#include "../sampler/sampler.h"

typedef struct taut__geometry { /* of the plan's shards; borrowed */
    size_t          shards;
    const uint64_t *first_sample, *first_block; /* shards + 1 prefix sums */
    const uint64_t *per_block;                  /* samples per block, of each shard */
} taut__geometry;

typedef struct taut__schedule_config {
    taut__sampler    *sampler; /* borrowed */
    const taut__plan *plan;
    taut__geometry    geometry;
    uint64_t          rounds, batch, start; /* start: first step */
    uint32_t          rank, ranks, node_ranks;
    const uint32_t   *node; /* ranks whose slices count; holds rank */
    uint64_t          slots;
    uint32_t          ahead; /* steps and loads are kept for so many steps from the oldest one still in use */
} taut__schedule_config;

typedef struct taut__load {
    uint64_t number;
    uint64_t block;         /* among all shards' */
    uint64_t step, release; /* first step that needs it */
    uint32_t slot;
} taut__load;

typedef struct taut__use { /* one sample of this rank */
    uint64_t id, load;     /* the load that brings its block */
    uint32_t slot, shard;
    uint64_t block, inside; /* of the shard; place in the block */
    float    weight;
} taut__use;

typedef struct taut__step {
    uint64_t   number, round, all; /* all: samples of all ranks */
    uint64_t   n;
    taut__use *use;           /* n of this rank */
    uint64_t   loads, blocks; /* up to and with this step: loads; different blocks per round, of the node */
} taut__step;

typedef struct taut__schedule taut__schedule;

taut_status taut__schedule_create(const taut__schedule_config *c, taut__schedule **schedule);
void        taut__schedule_destroy(taut__schedule *s);

uint64_t taut__schedule_steps(const taut__schedule *s); /* of the job: the first step is c->start, the last this - 1 */
uint64_t taut__schedule_next(const taut__schedule *s);  /* the step that advance() would compute */
uint64_t taut__schedule_loads(const taut__schedule *s); /* computed so far */

/* taut__schedule_advance() : compute the next step. The caller keeps it below (oldest step in use) + ahead. TAUT_E_RANGE: this
 *  step needs more blocks than there are slots. */
taut_status       taut__schedule_advance(taut__schedule *s);
const taut__step *taut__schedule_step(const taut__schedule *s, uint64_t step); /* kept as said above */
/* NULL when the load is not computed yet, or not kept any more: then another rank of the node, whose step needs it, has it. */
const taut__load *taut__schedule_load(const taut__schedule *s, uint64_t load);

/* Which of `n` runs holds x: first[i] <= x < first[i+1], first[0] = 0, x < first[n]. */
static inline size_t taut__run_of(const uint64_t *first, size_t n, uint64_t x)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (first[middle] <= x) low = middle;
        else high = middle;
    }
    return low;
}

/* The most samples, and so blocks, that a step of this node's ranks has. */
uint64_t taut__node_batch(uint64_t batch, uint32_t ranks, const uint32_t *node, uint32_t node_ranks);

#endif
