/* job.h : a collective under way, as the engine sees it. Reductions (reduce/reduction.h), buckets of small layers and the
 * handshake embed one as their first member. */
#ifndef TAUT_JOB_H
#define TAUT_JOB_H

#include "../base/base.h"
#include <stdatomic.h>

typedef struct taut__job taut__job;

enum { TAUT_JOB_IDLE, TAUT_JOB_RUNNING, TAUT_JOB_DONE };

/* Tags of a job, counted from job->tag; ranges of different jobs do not overlap. */
enum { TAUT_TAG_FIRST, TAUT_TAG_SECOND, TAUT_TAG_CONTROL, TAUT_TAG_UP, TAUT_TAG_DOWN, TAUT_TAG_RING };
enum { TAUT_RING_TAGS = 16, TAUT_TAGS = TAUT_TAG_RING + TAUT_RING_TAGS };

struct taut__job {
    const char *name;  /* in messages */
    taut_layer *layer; /* whose own it is; NULL: nobody's, or that of several */
    int         tag;
    uint32_t    priority; /* lower first */
    _Atomic int state;
    size_t      needs;  /* layers that must have been compared before it may run */
    bool        urgent; /* others may have to be asked before they do their part: soon */
    taut__job  *next;   /* engine's list */
    /* One piece of work at most, never waits. */
    taut_status (*step)(taut__job *job, bool *moved, bool *done);
    void (*stop)(taut__job *job); /* cancel what is under way */
    /* (optional) The rank of the transport whose message is missing, -1: nobody's. Adds to *hops how many ranks, one after the other,
     * that one may be waiting for itself. */
    int (*waiting_for)(const taut__job *job, int *hops);
    bool traced; /* its row of the trace has a name */
};

#endif
