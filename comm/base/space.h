/* space.h : memory of a place, and the order of work in it: one table per memory space. The host's is here; others are registered by
 * those who have them (compressors/cuda, tests).
 *
 * On the host everything is done when a call returns, so streams and events cost nothing. Elsewhere a call enqueues on place.stream and
 * returns; what it reads and writes must stay until an event recorded behind it has passed. */
#ifndef TAUT_SPACE_H
#define TAUT_SPACE_H

#include "place.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct taut__event taut__event; /* a point in the order of a stream; the space knows what it is */

enum { TAUT__PUT_MAX = 1 << 18 };

typedef struct taut__space {
    const char *name;
    /* Memory, zeroed, aligned to 64 bytes; both may wait for the device. TAUT_E_NOMEM names the bytes. release() waits until the
     * place's stream is done with it, as cudaFree does; release(NULL) is fine. */
    taut_status (*alloc)(taut_place p, size_t bytes, void **out);
    void (*release)(taut_place p, void *memory);
    /* The same in the order of the stream, not zeroed: for work enqueued after, and free once work enqueued before is done. */
    taut_status (*alloc_in)(taut_place p, size_t bytes, void **out);
    void (*release_in)(taut_place p, void *memory);
    /* In stream order. dst and src lie in this space or on the host; ranges do not overlap. Host memory belongs to the copy until an
     * event behind it has passed. */
    taut_status (*copy)(taut_place p, void *dst, const void *src, size_t bytes);
    /* Host bytes into this space, in stream order; src may be used again when the call returns. For descriptors and numbers: at
     * most TAUT__PUT_MAX bytes. */
    taut_status (*put)(taut_place p, void *dst, const void *src, size_t bytes);
    taut_status (*fill)(taut_place p, void *dst, int byte, size_t bytes);
    /* (optional; default: fill() for each) the first bytes of rows that lie `apart` bytes from each other */
    taut_status (*fill_rows)(taut_place p, void *dst, size_t apart, int byte, size_t bytes, size_t rows);
    /* TAUT_E_INVALID, with the address, where memory is not this space's. */
    taut_status (*check)(taut_place p, const void *memory, const char *what);

    taut_status (*stream_create)(taut_place *p); /* sets p->stream */
    void (*stream_destroy)(taut_place p);
    taut_status (*wait)(taut_place p); /* until all that was enqueued is done; TAUT_E_DEVICE if some of it failed */

    taut_status (*event_create)(taut_place p, taut__event **e);
    void (*event_destroy)(taut__event *e);                     /* NULL is fine */
    taut_status (*event_record)(taut__event *e, taut_place p); /* passes when all that p.stream holds now is done */
    taut_status (*event_test)(taut__event *e, bool *passed);   /* never waits; an event never recorded has passed */
    taut_status (*event_hold)(taut__event *e, taut_place p); /* what is enqueued on p.stream from now on waits for it */

    /* (optional; default: nothing) what the calling thread enqueues from now on is for this device */
    taut_status (*use)(taut_place p);
    /* (optional; with use) which one that is: a number, or -1 */
    int (*now)(void);
    /* (optional; default: wait() says so) what has failed of the work done so far. Never waits. */
    taut_status (*failed)(taut_place p);
    /* (optional; default: taut__alloc) zeroed host memory that copies reach without the calling thread's help. NULL: there is none */
    void *(*host_alloc)(taut_place p, size_t bytes);
    void (*host_release)(taut_place p, void *memory);
    /* (optional; default: none is) the stream is being captured into a graph: its events never pass */
    taut_status (*capturing)(taut_place p, bool *is);
} taut__space;

extern const taut__space taut__space_host;

static inline taut_status taut__space_use(const taut__space *space, taut_place p)
{
    return space->use ? space->use(p) : TAUT_OK;
}
taut_status taut__space_fill_rows(const taut__space *space, taut_place p, void *dst, size_t apart, int byte,
                                  size_t bytes, size_t rows); /* as fill_rows, or its default */

/* The calling thread's device, which is the program's: kept over calls that use() another one. */
typedef struct taut__kept_device {
    taut_space space; /* TAUT_HOST: there is none */
    int        device;
} taut__kept_device;
taut__kept_device taut__keep_device(void);
void              taut__restore_device(taut__kept_device kept);
/* The body of a function that returns what the call does. */
#define TAUT_KEEP_DEVICE(call)                                                                                         \
    do {                                                                                                               \
        taut__kept_device kept_ = taut__keep_device();                                                                 \
        taut_status       status_ = (call);                                                                            \
        taut__restore_device(kept_);                                                                                   \
        return status_;                                                                                                \
    } while (0)

void *taut__space_host_alloc(const taut__space *space, taut_place p, size_t bytes); /* as host_alloc, or its default */
void  taut__space_host_release(const taut__space *space, taut_place p, void *memory); /* NULL is fine */

/* Host memory that passes bytes from and to a space, zeroed: pinned, where the space has such memory, so that copies run without the processor's help;
 * any memory, and a warning, where it has no more. from->space NULL: any memory. *made: what free() wants. */
typedef struct taut__staging {
    const taut__space *space;
    taut_place         place;
} taut__staging;
void *taut__staging_alloc(taut__staging *made, const taut__staging *from, size_t bytes);
void  taut__staging_free(const taut__staging *made, void *memory); /* NULL is fine */

/* The table of a space; NULL: there is none. Ask for a device's through compressors/vectors.h, which looks for it first. */
const taut__space *taut__space_of(taut_space s);
/* Not the host's. table NULL ends it. Not while the space is used. */
void taut__space_register(taut_space s, const taut__space *table);

#ifdef __cplusplus
}
#endif

#endif
