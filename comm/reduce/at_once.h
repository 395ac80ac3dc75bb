/* at_once.h : one compressed sum of a buffer on a device, enqueued at once on the caller's stream, for callers whose calls come in the same order on
 * all ranks: those of NCCL do. No control half, no layer: codecs need no agreement between ranks (no statistics), payloads have a known length, and
 * there is no feedback. After creation nothing is allocated and nothing waits. */
#ifndef TAUT_AT_ONCE_H
#define TAUT_AT_ONCE_H

#include "../../compressors/codec.h"
#include "../transport/data.h"

typedef struct taut__at_once taut__at_once;

typedef struct taut__at_once_kind {
    taut_place place; /* the stream is given with each call */
    taut_dtype dtype;
    size_t     n;       /* elements of the whole tensor */
    bool       scatter; /* a reduce-scatter, in parts of n / ranks */
    taut_spec  spec;
    uint64_t   seed; /* the same on all ranks */
} taut__at_once_kind;

typedef struct taut__at_once_cost { /* of the calls that are known to be over */
    uint64_t calls, sent, dense;
    double   error2, norm2; /* squared error of this rank's encodings, squared norm of its part of the sums */
} taut__at_once_cost;

/* NULL: it can be done; else why not. */
const char *taut__at_once_cannot(const taut__at_once_kind *k, int ranks);
taut_status taut__at_once_create(const taut__at_once_kind *k, taut__data *d, taut__at_once **out);
/* Until the last call is over, well or not; TAUT_E_TIMEOUT. */
taut_status taut__at_once_wait(taut__at_once *a, double seconds);
void        taut__at_once_destroy(taut__at_once *a); /* nothing of it is under way; NULL is fine */
/* buf: n elements, becomes their sum (op TAUT_SUM) or mean over ranks; of a reduce-scatter it is only read, and part gets this rank's part. */
taut_status taut__at_once_enqueue(taut__at_once *a, struct CUstream_st *stream, taut_op op, void *buf, void *part);
/* Never waits. Fails where a call that is over has: malformed bytes. */
taut_status taut__at_once_look(taut__at_once *a, taut__at_once_cost *cost);

#endif
