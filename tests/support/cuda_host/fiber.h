/* fiber.h : stacks that take turns on one OS thread; what a CUDA thread runs on in the execution model.
 * Sanitizers are told of every switch. TSan sees each fiber as a thread of its own, and no switch as synchronisation: only
 * what calls fiber_release and fiber_acquire orders two fibers. */
#ifndef CUDA_HOST_FIBER_H
#define CUDA_HOST_FIBER_H

#include <cstddef>

namespace cuda_host
{

struct fiber {
    void  *sp = nullptr;    /* saved stack pointer while it does not run */
    char  *stack = nullptr; /* nullptr: the OS thread's own stack */
    size_t bytes = 0;
    void (*entry)(void *) = nullptr;
    void       *argument = nullptr;
    void       *fake = nullptr; /* ASan's */
    void       *tsan = nullptr;
    const void *below = nullptr; /* bottom and size of the OS thread's stack, learnt when it is left */
    size_t      below_bytes = 0;
};

/* f becomes a fiber that calls entry(argument), which must never return, when first switched to. */
void fiber_create(fiber *f, void (*entry)(void *), void *argument);
void fiber_destroy(fiber *f);
/* f becomes the OS thread that calls. */
void fiber_adopt(fiber *f);
void fiber_switch(fiber *from, fiber *to);

/* What happened before release(token) happens before what follows acquire(token). No-ops without TSan. */
void fiber_release(void *token);
void fiber_acquire(void *token);
/* TSan takes what malloc and free do until unseen(false) for no access of memory. */
void fiber_unseen(bool yes);

} // namespace cuda_host

#endif
