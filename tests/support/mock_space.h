/* mock_space.h : a "device" on the host, for TAUT_SPACE_TEST: its memory, which the host cannot touch, its streams, and what runs there.
 *
 * Its memory is a memfd that is mapped twice. Addresses that are handed out lie in a mapping that nobody may read or write, so that the
 * host faults where it touches one; the device's threads use the other one. Each stream is a thread that does what was enqueued, late and in
 * order. Operations are the host's codecs on translated addresses, with the same bytes; an address that the device cannot reach is a failure
 * of that operation, and counted. Calls fail on demand. */
#ifndef TAUT_TEST_MOCK_SPACE_H
#define TAUT_TEST_MOCK_SPACE_H

#include "comm/base/space.h"

typedef enum mock_call {
    MOCK_NONE,
    MOCK_ALLOC,
    MOCK_COPY,
    MOCK_ENQUEUE,
    MOCK_RUN,
    MOCK_EVENT,
    MOCK_PIN
} mock_call; /* RUN: while it is being done */

void mock_open(void);  /* registers space, vectors and operations of all codecs; a device of 256 MiB */
void mock_close(void); /* nothing may be left of it: see mock_left */
void mock_delay(
    int us); /* each piece of work waits so long before it begins; 0 at first: it gives the core away once */
void mock_fail(mock_call call, int nth); /* the nth call of that kind from now on fails, once; NONE: none does */
bool mock_failed(void);                  /* it has */

taut_place mock_place(void);  /* the device, with its default stream (NULL); the calling thread's from now on */
taut_place mock_stream(void); /* with a stream of its own */
int        mock_device(void); /* its number */
/* From now on work that is enqueued, and questions, by a thread whose device is another one (0, until it says so) end the process: CUDA would fail, or wake
 * up the other device for it. */
void mock_strict(void);
void mock_use(int device); /* the calling thread's */
int  mock_used(void);
void mock_stream_end(taut_place p);

void mock_capture(taut_place p); /* its stream is being captured from now on; the default stream: none is */
void mock_capture_all(bool on);  /* all streams but the default one */

/* Graphs: from begin to end what is enqueued on the stream is recorded, and done by each launch, in order. Memory in stream order stays until the graph
 * is dropped; waiting for a stream that is recorded ends the process, as it would fail on a device. */
typedef struct mock_graph mock_graph;
void                      mock_graph_begin(taut_place p);
mock_graph               *mock_graph_end(taut_place p);
void                      mock_graph_launch(mock_graph *g, taut_place p);
void                      mock_graph_drop(mock_graph *g);

/* Work of other doubles, on the stream's thread; and an address as that thread sees it, NULL: not the device's. */
typedef taut_status (*mock_task)(void *arg);
void mock_enqueue_task(taut_place p, mock_task task, void *arg);
/* The same of work that frees its argument: in a graph every launch has the one that again() makes of it, in the thread that launches.
 * Whether it is of a graph. */
bool  mock_enqueue_task_again(taut_place p, mock_task task, void *arg, void *(*again)(void *arg),
                              void (*drop)(void *arg));
void *mock_inside(const void *there);

/* Tests: memory of the device from and to the host, at once, past all streams; addresses as they were handed out. */
void mock_write(void *there, const void *here, size_t bytes);
void mock_read(void *here, const void *there, size_t bytes);

typedef struct mock_counts {
    size_t memory, streams, events; /* that somebody holds */
    size_t strays;                  /* addresses that the device could not reach */
    size_t done;                    /* pieces of work */
    size_t pinned;                  /* host memory that somebody holds, pieces */
    size_t pageable;                /* bytes copied from and to host memory that is not pinned */
    size_t calls, joined;           /* of operations, and those of them that were for several tensors */
} mock_counts;
mock_counts mock_left(void);

#endif
