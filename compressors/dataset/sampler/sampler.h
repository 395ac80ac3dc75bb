/* sampler.h : sample (round, i) of a plan, computed in O(1) on any rank, never remembered.
 *
 * A round is one visit of the set that the plan's stages leave, in random order: another one in every round. The stream of a
 * job is round 0, then round 1, ...; step t takes places t*batch .. of it, whatever the number of ranks, and the ranks take
 * slices of the batch. So all ranks take equally many steps, no sample is lost or doubled when a job is stopped and goes on with
 * another number of ranks, and the state is a place in the stream. */
#ifndef TAUT_SAMPLER_H
#define TAUT_SAMPLER_H

#include "../plan/plan.h"
#include "order.h"
#include "strata.h"

typedef struct taut__sampler taut__sampler; /* used by one thread at a time */

/* taut__sampler_create() : plan: borrowed while the sampler lives. chunk: samples per block of the shards, for the order
 *  (sampler/order.h). labels: of all samples of all shards, in the plan's order, read during the call only; needed if
 *  taut__plan_strata() names a field, else NULL. */
taut_status taut__sampler_create(const taut__plan *plan, uint64_t chunk, const int64_t *labels,
                                 taut__sampler **sampler);
void        taut__sampler_destroy(taut__sampler *s);

/* taut__sampler_at() : place i (below taut__plan_samples()) of round `round`: the sample's number among all samples of all
 *  shards, and its weight. Rounds may go on beyond the plan's. */
taut_status taut__sampler_at(taut__sampler *s, uint64_t round, uint64_t i, uint64_t *sample, float *weight);

/* taut__sampler_set() : place (below taut__plan_samples()) of the final set in its own order, not shuffled, of a plan whose set is the same in
 *  every round (taut__plan_repeats()). */
taut_status taut__sampler_set(taut__sampler *s, uint64_t place, uint64_t *sample);

/* The part of a batch of n that a rank takes: contiguous, sizes differ by one at most, the first ranks take more. */
typedef struct taut__slice {
    uint64_t first, n;
} taut__slice;
static inline taut__slice taut__slice_of(uint64_t n, uint32_t ranks, uint32_t rank)
{
    uint64_t each = n / ranks, more = n % ranks;
    return (taut__slice){rank * each + (rank < more ? rank : more), each + (rank < more)};
}

/* ---- state ---- what a checkpoint keeps of a stream. Little-endian, with a checksum. */
enum { TAUT__SAMPLER_STATE = 56 };
typedef struct taut__sampler_state {
    uint64_t seed, plan_hash, round, position; /* position: samples of the round that were taken */
    uint64_t batch;                            /* samples of a step, all ranks together */
} taut__sampler_state;
void taut__sampler_state_save(const taut__sampler_state *s, uint8_t dst[TAUT__SAMPLER_STATE]);
/* TAUT_E_CORRUPT: these are not the bytes of a state. Whether it belongs to the plan at hand is the caller's question. */
taut_status taut__sampler_state_load(taut__sampler_state *s, const uint8_t *src, size_t bytes);

#endif
