/* place.h : where memory lies, and in which order work on it runs. Given to every call that touches a tensor, a payload or a message;
 * what it says holds for all pointers of the call. */
#ifndef TAUT_PLACE_H
#define TAUT_PLACE_H

#include "base.h"

/* A further space that tests may give operations to (compressors/ops.h, compressors/space.h). Never in a product. */
#define TAUT_SPACE_TEST ((taut_space)2)
enum { TAUT_SPACES = 3 };

/* A zeroed one is the host. */
typedef struct taut_place {
    taut_space space;
    int        device; /* its number; host: 0 */
    /* work is enqueued here and runs in this order; host: NULL, and work is done when a call returns */
    struct CUstream_st *stream;
} taut_place;

TAUT_INLINE bool taut__on_host(taut_place p) { return p.space == TAUT_HOST; }

static inline const char *taut__space_name(taut_space s)
{
    return s == TAUT_HOST ? "host" : s == TAUT_CUDA ? "CUDA" : s == TAUT_SPACE_TEST ? "test" : "unknown";
}

#endif
