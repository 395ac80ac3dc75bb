/* layer_memory.h : what a layer holds on a rank, as a formula: residual, one slot of its own, and the slots that it may borrow
 * from the communicator's arena. The test compares it with the counting allocator, tests/bench/scaling.c prints it for
 * docs/scaling.md. */
#ifndef TAUT_TEST_LAYER_MEMORY_H
#define TAUT_TEST_LAYER_MEMORY_H

#include "comm/core/communicator.h"

typedef struct layer_memory {
    const taut_spec       *wire;
    const taut_tensor     *tensor;
    const taut__algorithm *via;
    int                    ranks;
    size_t                 block; /* of the partition */
    bool                   residual;
} layer_memory;

typedef struct layer_bytes {
    size_t feedback_on; /* residual, factors, codes, statistics */
    size_t own;         /* its own slot */
    size_t borrows;     /* of the arena, at most */
} layer_bytes;

/* Without what does not depend on the layer's size (some KiB). */
layer_bytes layer_memory_bytes(const layer_memory *m);
size_t      layer_memory_samples(const layer_memory *m); /* of them, those of samples */
size_t      layer_memory_factor(const layer_memory *m);  /* floats of a linear codec's largest factor; 0 for others */

#endif
