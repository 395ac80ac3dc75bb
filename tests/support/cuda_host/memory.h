/* memory.h : what the execution model gives out as memory of the device and of the host, and what becomes of it: poison, guard pages, canaries. Under
 * stream.cpp's lock. */
#ifndef CUDA_HOST_MEMORY_H
#define CUDA_HOST_MEMORY_H

#include "stream.h"
#include <cstddef>
#include <cstdint>

struct CUmemPoolHandle_st {
    uint64_t threshold = 0;
    size_t   unused = 0; /* taken from the system */
};

namespace cuda_host
{

struct region {
    size_t              bytes, mapped;
    char               *map;
    bool                device, high; /* high: ends at the guard page */
    CUmemPoolHandle_st *pool;
    int                 number; /* of the device */
};

/* bytes > 0; pool: NULL, or where they count. nullptr: there is no more. */
void *take(size_t bytes, bool device, CUmemPoolHandle_st *pool);
bool  is_taken(const void *p); /* is it the first byte of what take() gave? */
void  bury(char *at);          /* such a one: checked, poisoned, not given out again for a while */
/* The region that holds p, or nullptr. */
const region *region_of(const void *p, uintptr_t *base);
/* Of the device? inside: ... and all of its bytes; true for memory of others. */
bool is_device(const void *p, size_t bytes, bool *inside);

CUmemPoolHandle_st *pool_of_driver();
CUmemPoolHandle_st *make_pool();
void                give_memory_back(); /* somebody waits for the device */
size_t              memory_limit();     /* 0: none */

} // namespace cuda_host

#endif
