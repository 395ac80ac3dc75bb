/* mock_space.c : see mock_space.h. */
#include "mock_work.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { DEVICE = 5, MOST_BLOCKS = 1 << 14 };
static const size_t BYTES = (size_t)256 << 20;

void mock_ensure(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "mock_space: %s\n", what);
    abort();
}

/* ---- memory ---- */

typedef struct block {
    size_t at, bytes;
} block;

static char           *outside, *inside;    /* what is handed out; what the device sees */
static block           blocks[MOST_BLOCKS]; /* by address */
static size_t          n_blocks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic size_t  streams, events, strays, done;
static _Atomic int     delay_us, fail_call, fail_nth, has_failed;

static bool  reaches(const void *p) { return (const char *)p >= outside && (const char *)p < outside + BYTES; }
static void *seen(const void *p) { return p ? inside + ((const char *)p - outside) : NULL; }

/* The address for the device; one that it cannot reach is counted, and *bad set. */
void *mock_reach(const void *p, bool *bad)
{
    if (!p || reaches(p)) return seen(p);
    atomic_fetch_add(&strays, 1);
    *bad = true;
    return NULL;
}

bool mock_fails(mock_call call)
{
    if (atomic_load(&fail_call) != (int)call || atomic_fetch_sub(&fail_nth, 1) != 1) return false;
    atomic_store(&has_failed, 1);
    return true;
}

static taut_status mock_alloc(taut_place p, size_t bytes, void **out)
{
    size_t at = 0, i = 0;
    mock_use(p.device);
    *out = NULL;
    MOCK_FAIL_IF(MOCK_ALLOC, TAUT_E_NOMEM, "alloc");
    bytes = (taut__max(bytes, 1) + 63) / 64 * 64;
    pthread_mutex_lock(&lock);
    for (; i < n_blocks && blocks[i].at < at + bytes; i++) at = blocks[i].at + blocks[i].bytes + 64; /* with a gap */
    mock_ensure(n_blocks < MOST_BLOCKS, "too many blocks");
    bool fits = at + bytes <= BYTES;
    if (fits) memmove(&blocks[i + 1], &blocks[i], (n_blocks++ - i) * sizeof *blocks);
    if (fits) blocks[i] = (block){at, bytes};
    pthread_mutex_unlock(&lock);
    if (!fits) return taut__fail(TAUT_E_NOMEM, "mock device: out of memory for %zu bytes", bytes);
    memset(inside + at, 0, bytes);
    *out = outside + at;
    return TAUT_OK;
}

static void give_back(void *memory)
{
    mock_ensure(reaches(memory), "release of memory that is not the device's");
    size_t at = (size_t)((char *)memory - outside), i = 0;
    pthread_mutex_lock(&lock);
    while (i < n_blocks && blocks[i].at != at) i++;
    mock_ensure(i < n_blocks, "release of memory that was not allocated, or twice");
    memset(inside + at, 0xee, blocks[i].bytes);
    memmove(&blocks[i], &blocks[i + 1], (--n_blocks - i) * sizeof *blocks);
    pthread_mutex_unlock(&lock);
}

static taut_status mock_check(taut_place p, const void *memory, const char *what)
{
    (void)p;
    return reaches(memory) ? TAUT_OK
                           : taut__fail(TAUT_E_INVALID, "%s at %p: not memory of the test device", what, memory);
}

/* ---- streams: a thread each, and what it has to do ---- */

struct mock_graph {
    mock_work *first, **last;
    void      *held[256]; /* memory in stream order */
    size_t     n_held;
};

typedef struct stream {
    struct stream  *next; /* of all there are, under the lock of blocks */
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  wake, idle;
    mock_work      *first, **last;
    bool            busy, quit;
    mock_graph     *recorded; /* work goes there */
    taut_status     failed;
    char            why[200];
} stream;

static stream     *whole; /* the default stream */
static stream     *all_streams;
static taut_status run_record(mock_work *w), run_hold(mock_work *w), run_release(mock_work *w);
static void        enqueue_any(taut_place p, mock_work w);

static void *stream_main(void *arg)
{
    stream *s = arg;
    pthread_mutex_lock(&s->lock);
    while (s->first || !s->quit) {
        mock_work *w = s->first;
        if (!w) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        s->first = w->next;
        if (!s->first) s->last = &s->first;
        s->busy = true;
        pthread_mutex_unlock(&s->lock);
        int us = atomic_load(&delay_us);
        if (us > 0) nanosleep(&(struct timespec){0, us * 1000L}, NULL);
        bool marks =
            w->run == run_record || w->run == run_hold || w->run == run_release; /* of the queue, not of the device */
        taut_status result =
            !marks && mock_fails(MOCK_RUN) ? taut__fail(TAUT_E_DEVICE, "mock device: work fails on demand") : w->run(w);
        atomic_fetch_add(&done, 1);
        free(w->data);
        free(w);
        pthread_mutex_lock(&s->lock);
        if (result != TAUT_OK && s->failed == TAUT_OK) {
            s->failed = result;
            snprintf(s->why, sizeof s->why, "%s", taut_last_error());
        }
        s->busy = false;
        if (!s->first) pthread_cond_broadcast(&s->idle);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- threads' devices ---- */

static _Thread_local int used;
static _Atomic bool      strict;
int                      mock_device(void) { return DEVICE; }
void                     mock_strict(void) { atomic_store(&strict, true); }
void                     mock_use(int device) { used = device; }
int                      mock_used(void) { return used; }
static taut_status       mock_use_place(taut_place p) { return used = p.device, TAUT_OK; }
static void              must_be_here(const char *what) { mock_ensure(!atomic_load(&strict) || used == DEVICE, what); }

static stream *stream_of(taut_place p) { return p.stream ? (stream *)(void *)p.stream : whole; }

void mock_enqueue_work(taut_place p, mock_work w)
{
    must_be_here("work is enqueued by a thread that uses another device");
    enqueue_any(p, w);
}

static void enqueue_any(taut_place p, mock_work w)
{
    stream    *s = stream_of(p);
    mock_work *kept = malloc(sizeof *kept);
    mock_ensure(kept != NULL, "out of memory");
    *kept = w;
    kept->next = NULL;
    if (s->recorded) {
        *s->recorded->last = kept;
        s->recorded->last = &kept->next;
        return;
    }
    pthread_mutex_lock(&s->lock);
    *s->last = kept;
    s->last = &kept->next;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

static stream *stream_new(void)
{
    stream *s = calloc(1, sizeof *s);
    mock_ensure(s != NULL, "out of memory");
    pthread_mutex_init(&s->lock, NULL), pthread_cond_init(&s->wake, NULL), pthread_cond_init(&s->idle, NULL);
    s->last = &s->first;
    mock_ensure(pthread_create(&s->thread, NULL, stream_main, s) == 0, "no thread");
    pthread_mutex_lock(&lock);
    s->next = all_streams, all_streams = s;
    pthread_mutex_unlock(&lock);
    return s;
}

static void stream_end(stream *s)
{
    pthread_mutex_lock(&lock);
    stream **at = &all_streams;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    pthread_mutex_unlock(&lock);
    pthread_mutex_lock(&s->lock);
    s->quit = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock), pthread_cond_destroy(&s->wake), pthread_cond_destroy(&s->idle);
    free(s);
}

static taut_status mock_stream_create(taut_place *p)
{
    mock_use_place(*p);
    p->stream = (struct CUstream_st *)(void *)stream_new();
    atomic_fetch_add(&streams, 1);
    return TAUT_OK;
}
static void mock_stream_destroy(taut_place p)
{
    stream_end(stream_of(p));
    atomic_fetch_sub(&streams, 1);
}

static void drain(stream *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->first || s->busy) pthread_cond_wait(&s->idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

/* As cudaFree: after what the stream has to do, if there is such a stream still. */
static void mock_release(taut_place p, void *memory)
{
    if (!memory) return;
    pthread_mutex_lock(&lock);
    stream *s = all_streams;
    while (s && s != stream_of(p)) s = s->next;
    pthread_mutex_unlock(&lock);
    if (s) drain(s);
    give_back(memory);
}

static taut_status mock_wait(taut_place p)
{
    stream *s = stream_of(p);
    must_be_here("a thread that uses another device waits");
    mock_ensure(!s->recorded, "a stream that is being captured is waited for");
    pthread_mutex_lock(&s->lock);
    while (s->first || s->busy) pthread_cond_wait(&s->idle, &s->lock);
    taut_status result = s->failed;
    if (result != TAUT_OK) taut__fail(result, "%s", s->why);
    pthread_mutex_unlock(&s->lock);
    return result;
}

/* In stream order, and without waiting: what was given back before is not reused until the stream is done with it. */
static taut_status run_release(mock_work *w)
{
    give_back(w->a);
    return TAUT_OK;
}
static void mock_release_in(taut_place p, void *memory)
{
    mock_graph *g = stream_of(p)->recorded;
    if (memory && g) {
        mock_ensure(g->n_held < sizeof g->held / sizeof *g->held, "too much memory in a graph");
        g->held[g->n_held++] = memory;
        return;
    }
    if (memory) mock_enqueue_work(p, (mock_work){.run = run_release, .a = memory});
}
static taut_status mock_alloc_in(taut_place p, size_t bytes, void **out)
{
    mock_use_place(p);
    TAUT_TRY(mock_alloc(p, bytes, out));
    memset(seen(*out), 0xdd, bytes);
    return TAUT_OK;
}

/* ---- copies ---- */

static taut_status run_copy(mock_work *w)
{
    void       *dst = reaches(w->a) ? seen(w->a) : w->a;
    const void *src = reaches(w->b) ? seen(w->b) : w->b;
    if (w->n) memcpy(dst, w->data ? w->data : src, w->n);
    return TAUT_OK;
}
static taut_status mock_copy(taut_place p, void *dst, const void *src, size_t bytes)
{
    MOCK_FAIL_IF(MOCK_COPY, TAUT_E_DEVICE, "copy");
    if (!reaches(dst) || !reaches(src)) mock_note_copy(reaches(dst) ? src : dst, bytes);
    mock_enqueue_work(p, (mock_work){.run = run_copy, .a = dst, .b = src, .n = bytes});
    return TAUT_OK;
}
static taut_status mock_put(taut_place p, void *dst, const void *src, size_t bytes)
{
    MOCK_FAIL_IF(MOCK_COPY, TAUT_E_DEVICE, "put");
    mock_ensure(bytes <= TAUT__PUT_MAX && reaches(dst), "put: too much, or not to the device");
    void *kept = malloc(bytes ? bytes : 1);
    mock_ensure(kept != NULL, "out of memory");
    memcpy(kept, src, bytes);
    mock_enqueue_work(p, (mock_work){.run = run_copy, .a = dst, .n = bytes, .data = kept, .data_bytes = bytes});
    return TAUT_OK;
}
static taut_status run_fill(mock_work *w)
{
    bool  bad = false;
    void *dst = mock_reach(w->a, &bad);
    if (bad) return taut__fail(TAUT_E_DEVICE, "mock device: fill: an address that is not its own");
    memset(dst, w->byte, w->n);
    return TAUT_OK;
}
static taut_status mock_fill(taut_place p, void *dst, int byte, size_t bytes)
{
    MOCK_FAIL_IF(MOCK_COPY, TAUT_E_DEVICE, "fill");
    mock_enqueue_work(p, (mock_work){.run = run_fill, .a = dst, .byte = byte, .n = bytes});
    return TAUT_OK;
}

/* ---- events ---- */

struct taut__event {
    pthread_mutex_t lock;
    pthread_cond_t  passes;
    uint64_t        recorded, passed;
    _Atomic int users; /* its owner, and work that a stream still has: it may be destroyed before that, as with CUDA */
};

static void leave_event(taut__event *e)
{
    if (atomic_fetch_sub(&e->users, 1) > 1) return;
    pthread_mutex_destroy(&e->lock), pthread_cond_destroy(&e->passes);
    free(e);
}

static taut_status mock_event_create(taut_place p, taut__event **e)
{
    mock_use_place(p);
    *e = NULL;
    MOCK_FAIL_IF(MOCK_EVENT, TAUT_E_DEVICE, "event_create");
    *e = calloc(1, sizeof **e);
    mock_ensure(*e != NULL, "out of memory");
    pthread_mutex_init(&(*e)->lock, NULL), pthread_cond_init(&(*e)->passes, NULL);
    atomic_init(&(*e)->users, 1);
    atomic_fetch_add(&events, 1);
    return TAUT_OK;
}
static void mock_event_destroy(taut__event *e)
{
    if (!e) return;
    leave_event(e);
    atomic_fetch_sub(&events, 1);
}
static taut_status run_record(mock_work *w)
{
    pthread_mutex_lock(&w->event->lock);
    w->event->passed = w->count;
    pthread_cond_broadcast(&w->event->passes);
    pthread_mutex_unlock(&w->event->lock);
    leave_event(w->event);
    return TAUT_OK;
}
static taut_status mock_event_record(taut__event *e, taut_place p)
{
    MOCK_FAIL_IF(MOCK_EVENT, TAUT_E_DEVICE, "event_record");
    pthread_mutex_lock(&e->lock);
    uint64_t count = ++e->recorded;
    pthread_mutex_unlock(&e->lock);
    atomic_fetch_add(&e->users, 1);
    mock_enqueue_work(p, (mock_work){.run = run_record, .event = e, .count = count});
    return TAUT_OK;
}
static taut_status mock_event_test(taut__event *e, bool *passed)
{
    MOCK_FAIL_IF(MOCK_EVENT, TAUT_E_DEVICE, "event_test");
    must_be_here("a thread that uses another device asks for an event");
    pthread_mutex_lock(&e->lock);
    *passed = e->passed == e->recorded;
    pthread_mutex_unlock(&e->lock);
    return TAUT_OK;
}
static taut_status run_hold(mock_work *w)
{
    pthread_mutex_lock(&w->event->lock);
    while (w->event->passed < w->count) pthread_cond_wait(&w->event->passes, &w->event->lock);
    pthread_mutex_unlock(&w->event->lock);
    leave_event(w->event);
    return TAUT_OK;
}
static taut_status mock_event_hold(taut__event *e, taut_place p)
{
    pthread_mutex_lock(&e->lock);
    uint64_t count = e->recorded;
    pthread_mutex_unlock(&e->lock);
    atomic_fetch_add(&e->users, 1);
    mock_enqueue_work(p, (mock_work){.run = run_hold, .event = e, .count = count});
    return TAUT_OK;
}

static taut_status mock_stream_failed(taut_place p)
{
    stream *s = stream_of(p);
    pthread_mutex_lock(&s->lock);
    taut_status result = s->failed;
    if (result != TAUT_OK) taut__fail(result, "%s", s->why);
    pthread_mutex_unlock(&s->lock);
    return result;
}

static _Atomic(struct CUstream_st *) captured;
static _Atomic bool                  all_captured;
static taut_status                   mock_is_capturing(taut_place p, bool *is)
{
    *is = p.stream && (p.stream == atomic_load(&captured) || atomic_load(&all_captured) || stream_of(p)->recorded);
    return TAUT_OK;
}
void mock_capture(taut_place p) { atomic_store(&captured, p.stream); }
void mock_capture_all(bool on) { atomic_store(&all_captured, on); }

static taut_status run_call(mock_work *w)
{
    mock_task task;
    memcpy(&task, w->data, sizeof task);
    return task(w->a);
}
void mock_enqueue_task(taut_place p, mock_task task, void *arg)
{
    void *kept = malloc(sizeof task);
    mock_ensure(kept != NULL, "out of memory");
    memcpy(kept, &task, sizeof task);
    enqueue_any(p, (mock_work){.run = run_call, .a = arg, .data = kept, .data_bytes = sizeof task});
}

/* ---- graphs ---- */

/* What is recorded is never run itself: it is the pattern of every launch, and keeps arg until the graph goes. */
bool mock_enqueue_task_again(taut_place p, mock_task task, void *arg, void *(*again)(void *arg),
                             void (*drop)(void *arg))
{
    if (!stream_of(p)->recorded) {
        mock_enqueue_task(p, task, arg);
        return false;
    }
    mock_enqueue_task(p, task, arg);
    mock_work *w = stream_of(p)->recorded->first;
    while (w->next) w = w->next;
    w->again = again;
    w->drop = drop;
    return true;
}

void mock_graph_begin(taut_place p)
{
    mock_graph *g = calloc(1, sizeof *g);
    mock_ensure(g && p.stream && !stream_of(p)->recorded, "capture");
    g->last = &g->first;
    stream_of(p)->recorded = g;
}
mock_graph *mock_graph_end(taut_place p)
{
    mock_graph *g = stream_of(p)->recorded;
    stream_of(p)->recorded = NULL;
    return g;
}
void mock_graph_launch(mock_graph *g, taut_place p)
{
    for (const mock_work *w = g->first; w; w = w->next) {
        mock_work one = *w;
        if (w->again) one.a = w->again(w->a);
        if (w->data) {
            mock_ensure(w->data_bytes > 0 && (one.data = malloc(w->data_bytes)) != NULL, "data of unknown length");
            memcpy(one.data, w->data, w->data_bytes);
        }
        mock_ensure(w->run != run_record && w->run != run_hold, "events in a graph");
        mock_enqueue_work(p, one);
    }
}
void mock_graph_drop(mock_graph *g)
{
    for (mock_work *w = g->first, *next; w; w = next) {
        next = w->next;
        if (w->drop) w->drop(w->a);
        free(w->data);
        free(w);
    }
    for (size_t i = 0; i < g->n_held; i++) mock_release(mock_place(), g->held[i]);
    free(g);
}
void *mock_inside(const void *there) { return reaches(there) ? seen(there) : NULL; }

static const taut__space space = {
    .name = "mock",
    .alloc = mock_alloc,
    .release = mock_release,
    .alloc_in = mock_alloc_in,
    .release_in = mock_release_in,
    .copy = mock_copy,
    .put = mock_put,
    .fill = mock_fill,
    .check = mock_check,
    .stream_create = mock_stream_create,
    .stream_destroy = mock_stream_destroy,
    .wait = mock_wait,
    .event_create = mock_event_create,
    .event_destroy = mock_event_destroy,
    .event_record = mock_event_record,
    .event_test = mock_event_test,
    .event_hold = mock_event_hold,
    .use = mock_use_place,
    .now = mock_used,
    .failed = mock_stream_failed,
    .host_alloc = mock_host_alloc,
    .host_release = mock_host_release,
    .capturing = mock_is_capturing,
};

/* ---- for tests ---- */

void mock_open(void)
{
    int fd = memfd_create("mock device", MFD_CLOEXEC);
    mock_ensure(fd >= 0 && ftruncate(fd, (off_t)BYTES) == 0, "no memory file");
    outside = mmap(NULL, BYTES, PROT_NONE, MAP_SHARED, fd, 0);
    inside = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    mock_ensure(outside != MAP_FAILED && inside != MAP_FAILED, "cannot map it twice");
    close(fd);
    whole = stream_new();
    n_blocks = 0;
    strays = 0;
    strict = false;
    taut__space_register(TAUT_SPACE_TEST, &space);
    taut__vectors_register(TAUT_SPACE_TEST, &mock_vectors);
    mock_ops_register(true);
}

void mock_close(void)
{
    mock_ops_register(false);
    taut__vectors_register(TAUT_SPACE_TEST, NULL);
    taut__space_register(TAUT_SPACE_TEST, NULL);
    stream_end(whole);
    munmap(outside, BYTES), munmap(inside, BYTES);
}

void mock_delay(int us) { atomic_store(&delay_us, us); }
void mock_fail(mock_call call, int nth)
{
    atomic_store(&fail_call, MOCK_NONE);
    atomic_store(&has_failed, 0);
    atomic_store(&fail_nth, nth);
    atomic_store(&fail_call, (int)call);
}
bool mock_failed(void) { return atomic_load(&has_failed); }

taut_place mock_place(void)
{
    mock_use(DEVICE);
    return (taut_place){.space = TAUT_SPACE_TEST, .device = DEVICE};
}
taut_place mock_stream(void)
{
    taut_place p = mock_place();
    mock_stream_create(&p);
    return p;
}
void mock_stream_end(taut_place p) { mock_stream_destroy(p); }

void mock_write(void *there, const void *here, size_t bytes) { memcpy(seen(there), here, bytes); }
void mock_read(void *here, const void *there, size_t bytes) { memcpy(here, seen(there), bytes); }

mock_counts mock_left(void)
{
    pthread_mutex_lock(&lock);
    size_t memory = n_blocks;
    pthread_mutex_unlock(&lock);
    return (mock_counts){memory,
                         atomic_load(&streams),
                         atomic_load(&events),
                         atomic_load(&strays),
                         atomic_load(&done),
                         mock_pinned_pieces(),
                         mock_pageable_bytes(),
                         mock_calls(),
                         mock_calls_joined()};
}
