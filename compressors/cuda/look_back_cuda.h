/* look_back_cuda.h : how a unit of work learns what all units before it amount to, in one launch (decoupled look-back: Merrill and Garland
 * 2016). A unit publishes its own value in a state word, later its value with all before it; units are taken by ticket, in order, so
 * whoever is waited for runs already. */
#ifndef TAUT_LOOK_BACK_CUDA_H
#define TAUT_LOOK_BACK_CUDA_H

#include "cuda_kernel.h"

/* A state word: 0 until it is known, else one of the first two with a value below 2^62. */
#define TAUT_LOOK_SUM   (UINT64_C(1) << 62) /* the unit's own value */
#define TAUT_LOOK_TOTAL (UINT64_C(2) << 62) /* with all units before it */
#define TAUT_LOOK_VALUE (TAUT_LOOK_SUM - 1)

/* The sum of the values of units 0..k, without k, whose states are state[0..k); waits for them. By one whole warp, same result in all
 * lanes. */
static __device__ inline uint64_t taut_look_back(unsigned long long *state, uint64_t k)
{
    uint64_t before = 0;
    for (int64_t at = (int64_t)k - 1; at >= 0; at -= TAUT_WARP) {
        int64_t            i = at - (int64_t)TAUT_LANE;
        unsigned long long s = i >= 0 ? atomicAdd(state + i, 0ull) : TAUT_LOOK_TOTAL;
        while (__any_sync(TAUT_ALL, s >> 62 == 0)) {
            __nanosleep(40);
            if (s >> 62 == 0) s = atomicAdd(state + i, 0ull);
        }
        uint32_t total = __ballot_sync(TAUT_ALL, s >> 62 == 2),
                 first = total ? (uint32_t)__ffs((int)total) - 1 : TAUT_WARP;
        uint64_t v = TAUT_LANE <= first ? s & TAUT_LOOK_VALUE : 0;
        for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(TAUT_ALL, v, d);
        before += v;
        if (total) break;
    }
    return before;
}

/* Publishes unit k's own value, below 2^62, and returns the sum of those before it. All threads, same result; the first warp looks back.
 * shared: one word, which may be written again after a barrier. */
static __device__ inline uint64_t taut_chain(unsigned long long *state, uint64_t k, uint64_t own,
                                             unsigned long long *shared)
{
    if (threadIdx.x == 0) atomicExch(state + k, (k == 0 ? TAUT_LOOK_TOTAL : TAUT_LOOK_SUM) | own);
    if (threadIdx.x < TAUT_WARP) {
        uint64_t before = taut_look_back(state, k);
        if (threadIdx.x == 0) {
            shared[0] = before;
            if (k) atomicExch(state + k, TAUT_LOOK_TOTAL | (before + own));
        }
    }
    __syncthreads();
    return shared[0];
}

/* The next ticket: 0, 1, 2, ... Same answer for all threads of the block. shared: one word, which the next call changes; so all threads
 * meet a barrier between two calls. */
static __device__ __forceinline__ uint64_t taut_ticket(unsigned long long *ticket, unsigned long long *shared)
{
    if (threadIdx.x == 0) shared[0] = atomicAdd(ticket, 1ull);
    __syncthreads();
    return shared[0];
}

#endif
