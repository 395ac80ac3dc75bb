/* mock_work.h : the inside of the mock device (mock_space.h), which its files share: work that a stream does, addresses, failures on demand. */
#ifndef TAUT_TEST_MOCK_WORK_H
#define TAUT_TEST_MOCK_WORK_H

#include "mock_space.h"
#include "compressors/vectors.h"

typedef struct mock_work {
    struct mock_work *next;
    taut_status (*run)(struct mock_work *w); /* on the stream's thread */
    void        *a;
    const void  *b;
    size_t       n;
    int          byte;
    float        number;
    int          kind, kind2;
    uint64_t     count;
    taut__event *event;
    void        *data;       /* freed after */
    size_t       data_bytes; /* of it: copied for every launch of a graph */
    void (*drop)(void *a);   /* NULL, or what ends `a` with a graph */
    void *(*again)(void *a); /* NULL, or what `a` is in another launch */
    void *c, *d;
} mock_work;

void  mock_ensure(bool ok, const char *what); /* or the process ends */
void *mock_reach(const void *p,
                 bool       *bad);      /* the address for the device; one that it cannot reach is counted, and *bad set */
bool  mock_fails(mock_call call); /* now, on demand */
void  mock_enqueue_work(taut_place p, mock_work w); /* a copy of w */
#define MOCK_FAIL_IF(call, status, what)                                                                               \
    if (mock_fails(call)) return taut__fail(status, "mock device: %s fails on demand", what)

/* mock_pinned.c: host memory of the device's own, and how much is copied that is not. */
void  *mock_host_alloc(taut_place p, size_t bytes);
void   mock_host_release(taut_place p, void *memory);
void   mock_note_copy(const void *host, size_t bytes); /* to or from host memory */
size_t mock_pinned_pieces(void), mock_pageable_bytes(void);

/* mock_ops.c: operations of all codecs, there or not; calls of them so far, and those of them with pieces of several tensors. */
void   mock_ops_register(bool on);
size_t mock_calls(void), mock_calls_joined(void);

extern const taut__vectors mock_vectors; /* mock_vectors.c */

#endif
