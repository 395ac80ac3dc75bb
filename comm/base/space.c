/* space.c : the host as a memory space, and the list of spaces. */
#include "space.h"
#include <stdatomic.h>
#include <string.h>

static taut_status host_alloc(taut_place p, size_t bytes, void **out)
{
    (void)p;
    *out = taut__alloc(taut__max(bytes, 1), 1);
    return *out ? TAUT_OK : taut__fail(TAUT_E_NOMEM, "out of memory for %zu bytes", bytes);
}
static void host_release(taut_place p, void *memory)
{
    (void)p;
    taut__free(memory);
}
static taut_status host_copy(taut_place p, void *dst, const void *src, size_t bytes)
{
    (void)p;
    if (bytes) memcpy(dst, src, bytes);
    return TAUT_OK;
}
static taut_status host_fill(taut_place p, void *dst, int byte, size_t bytes)
{
    (void)p;
    if (bytes) memset(dst, byte, bytes);
    return TAUT_OK;
}
static taut_status host_check(taut_place p, const void *memory, const char *what)
{
    (void)p;
    return memory ? TAUT_OK : taut__fail(TAUT_E_INVALID, "%s is NULL", what);
}

static taut_status host_stream_create(taut_place *p)
{
    p->stream = NULL;
    return TAUT_OK;
}
static void        host_stream_destroy(taut_place p) { (void)p; }
static taut_status host_wait(taut_place p) { return (void)p, TAUT_OK; }

static taut_status host_event_create(taut_place p, taut__event **e)
{
    (void)p;
    *e = NULL; /* nothing is ever under way */
    return TAUT_OK;
}
static void        host_event_destroy(taut__event *e) { (void)e; }
static taut_status host_event_record(taut__event *e, taut_place p) { return (void)e, (void)p, TAUT_OK; }
static taut_status host_event_test(taut__event *e, bool *passed)
{
    (void)e;
    *passed = true;
    return TAUT_OK;
}
static taut_status host_event_hold(taut__event *e, taut_place p) { return (void)e, (void)p, TAUT_OK; }

const taut__space taut__space_host = {
    .name = "host",
    .alloc = host_alloc,
    .release = host_release,
    .alloc_in = host_alloc,
    .release_in = host_release,
    .copy = host_copy,
    .put = host_copy,
    .fill = host_fill,
    .check = host_check,
    .stream_create = host_stream_create,
    .stream_destroy = host_stream_destroy,
    .wait = host_wait,
    .event_create = host_event_create,
    .event_destroy = host_event_destroy,
    .event_record = host_event_record,
    .event_test = host_event_test,
    .event_hold = host_event_hold,
};

static _Atomic(const taut__space *) further[TAUT_SPACES];

const taut__space *taut__space_of(taut_space s)
{
    if (s == TAUT_HOST) return &taut__space_host;
    return (int)s > 0 && (int)s < TAUT_SPACES ? atomic_load(&further[s]) : NULL;
}

void taut__space_register(taut_space s, const taut__space *table)
{
    if ((int)s > 0 && (int)s < TAUT_SPACES) atomic_store(&further[s], table);
}

/* ---- the program's device ---- */

taut__kept_device taut__keep_device(void)
{
    for (int s = 1; s < TAUT_SPACES; s++) {
        const taut__space *space = atomic_load(&further[s]);
        int                device = space && space->now ? space->now() : -1;
        if (device >= 0) return (taut__kept_device){(taut_space)s, device};
    }
    return (taut__kept_device){TAUT_HOST, 0};
}

void taut__restore_device(taut__kept_device k)
{
    const taut__space *space = k.space == TAUT_HOST ? NULL : taut__space_of(k.space);
    if (!space || !space->now || space->now() == k.device) return;
    (void)space->use((taut_place){.space = k.space, .device = k.device});
}

/* ---- what a space may lack ---- */

taut_status taut__space_fill_rows(const taut__space *space, taut_place p, void *dst, size_t apart, int byte,
                                  size_t bytes, size_t rows)
{
    if (space->fill_rows) return rows ? space->fill_rows(p, dst, apart, byte, bytes, rows) : TAUT_OK;
    for (size_t i = 0; i < rows; i++) TAUT_TRY(space->fill(p, (char *)dst + i * apart, byte, bytes));
    return TAUT_OK;
}

void *taut__space_host_alloc(const taut__space *space, taut_place p, size_t bytes)
{
    return space->host_alloc ? space->host_alloc(p, bytes) : taut__alloc(bytes, 1);
}

void taut__space_host_release(const taut__space *space, taut_place p, void *memory)
{
    if (space->host_release && memory) space->host_release(p, memory);
    else taut__free(memory);
}

void *taut__staging_alloc(taut__staging *made, const taut__staging *from, size_t bytes)
{
    bool  pin = from->space && from->space->host_alloc && bytes > 0;
    void *memory = pin ? from->space->host_alloc(from->place, bytes) : NULL;
    *made = memory ? *from : (taut__staging){0};
    if (memory) return memory;
    if (pin)
        taut__log(TAUT_LOG_WARN, "comm", "%zu bytes cannot be pinned for %s: copies take longer", bytes,
                  from->space->name);
    return taut__alloc(bytes, 1);
}

void taut__staging_free(const taut__staging *made, void *memory)
{
    if (made->space) taut__space_host_release(made->space, made->place, memory);
    else taut__free(memory);
}
