/* ahead.h : asks for memory before it is needed. While a kernel works in the L1 cache the memory bus is idle, and the
 * prefetchers of the hardware stop at the end of a page. */
#ifndef TAUT_AHEAD_H
#define TAUT_AHEAD_H

#include <stdint.h>

/* The cache line a page after p, which a kernel is about to read or write. Beyond the buffer it does nothing. */
static inline void taut__ahead(const void *p) { __builtin_prefetch((const void *)((uintptr_t)p + 4096)); }

#endif
