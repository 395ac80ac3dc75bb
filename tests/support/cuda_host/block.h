/* block.h : one block of CUDA threads on one OS thread: a fiber per thread, barriers, warp operations, shared memory.
 *
 * A lane runs until it has to wait; which ready lane runs next is drawn from a seed. So code that counts on an order that
 * no barrier gives it sees another order with another seed, and shared memory that nobody has written holds poison.
 * Everything that CUDA leaves undefined and that can be seen here ends the process with a line on stderr:
 *   cuda_host: KERNEL block (x,y,z) thread (x,y,z): what */
#ifndef CUDA_HOST_BLOCK_H
#define CUDA_HOST_BLOCK_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace cuda_host
{

struct index3 {
    unsigned x, y, z;
};

/* What a running CUDA thread knows of itself; threadIdx and the others are read from here. */
struct lane {
    index3   thread;
    index3   block, block_dim, grid_dim;
    unsigned id; /* in its block */
    unsigned in_warp;
    uint64_t result; /* of the last warp operation */
};
extern thread_local lane *current;
lane *
current_unseen(); /* the same, out of TSan's sight, which takes a thread's variables for the property of its fiber */

enum class warp_op {
    sync,
    shfl,
    shfl_up,
    shfl_down,
    shfl_xor,
    ballot,
    any,
    all,
    match_any,
    add,
    min,
    max,
    bit_or,
    bit_and,
    bit_xor
};

/* A place in a source file, by default that of the call. */
struct site {
    const char *file;
    int         line;
};

void     barrier(site where);
unsigned barrier_count(bool yes, site where); /* threads of the block that said yes */
/* bits: the lane's value; argument: source lane, delta or mask of the shuffles; width: of their segments. kind: which type
 * of value, so that lanes that exchange different types are told. Values are of at most 8 bytes. */
uint64_t warp_meet(unsigned mask, warp_op op, uint64_t bits, int argument, int width, unsigned kind, site where);
void     yield();       /* lets others run; of spin loops: forever is an error */
void     maybe_yield(); /* now and then, by the seed */
void    *shared_static(const void *tag, size_t bytes);
void    *shared_dynamic();
[[noreturn]] void misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct launch {
    const char           *kernel;
    index3                grid, block;
    size_t                shared_bytes; /* dynamic */
    std::function<void()> body;         /* of one CUDA thread */
    uint64_t              seed;
};
/* All blocks, in an order drawn from the seed, over several OS threads; returns when all are done. */
void run(const launch &l);

/* Launches and blocks run so far in this process, by kernel name; for tests. */
struct tally {
    uint64_t launches, blocks, threads;
};
tally  kernel_tally(const char *kernel);
size_t kernels_seen(const char **names, size_t cap);
void   count_launch(const launch &l, size_t blocks); /* by run() */
extern void (*launch_begins)(const char *kernel);    /* told of each, unless it is NULL; for tests */
extern void (*memory_is_set)(void *p, size_t bytes); /* the same of cudaMemsetAsync */

/* Settings, read by the next launch. workers 0: as many as there are CPUs, 4 at most. */
void     set_seed(uint64_t seed);
uint64_t draw(); /* the next number of the host's seeded sequence */
void     set_workers(unsigned workers);
void     set_ends(unsigned blocks); /* of a launch, only so many blocks at either end run; 0: all */

} // namespace cuda_host

#endif
